"""The scene model at work: clips of many cameras, encoded and scored on its own threads.

    1. a window's detections are there: its frames go into the camera's clip, one after the other
    2. a clip is whole: the crop is placed; if the gate of any kind is open, what is not encoded in it yet is encoded,
       and the head gives scores and attention
    3. what was seen goes with the window's detections to the analytics; the clip goes on to the camera's next window

A window's clip depends on the camera's clip before it, so that the windows of one camera form a chain; the chains of
all cameras share the threads. Each step is a function of what came before: whoever does it again gets the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from pipeline.analytics.camera import CLOSING_STATES
from pipeline.analytics.clips import Clip, ClipSeen, gate_is_open
from pipeline.core.clip_crop import cut
from pipeline.core.detections import Detections
from pipeline.core.frame import FrameWindow
from pipeline.core.rules import SceneRules
from pipeline.inference.scene import SceneModel

_NO_CLIP = Clip()

OnClip = Callable[[str, int, float], None]
"""Hears of each clip that a model (its name) looked at: the pictures encoded for it, and the seconds it took."""


class SceneEngine:
    """A scene model in this process, with threads of its own; a context manager that ends them."""

    def __init__(
        self, model: SceneModel, *, threads: int, on_clip: OnClip = lambda _model, _encoded, _seconds: None
    ) -> None:
        self.model = model
        self.on_clip = on_clip
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="scene")

    def submit(self, work: Callable[[], SeenWindow]) -> Future[SeenWindow]:
        """Do it on a thread, in the order of submission."""
        return self._pool.submit(work)

    def close(self) -> None:
        """Drop what was not begun, end the threads. Idempotent."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> SceneEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class SeenWindow:
    """A window with what was found in it. clips: one a frame, None where none was completed. clip: as of its end."""

    found: list[Detections]
    clips: list[ClipSeen | None]
    clip: Clip


class SceneWork(Protocol):
    """The scene model of a camera, as the stages use it."""

    def submit(self, work: Callable[[], SeenWindow]) -> Future[SeenWindow]: ...

    def look(self, window: FrameWindow, offset: int, found: Sequence[Detections], before: Clip) -> SeenWindow: ...


@dataclass(frozen=True, slots=True)
class CameraScenes:
    """A scene model under the rules of one camera. always: also score clips that no kind admits."""

    engine: SceneEngine
    rules: SceneRules
    always: bool = False

    def submit(self, work: Callable[[], SeenWindow]) -> Future[SeenWindow]:
        """See ``SceneEngine.submit``."""
        return self.engine.submit(work)

    def look(self, window: FrameWindow, offset: int, found: Sequence[Detections], before: Clip) -> SeenWindow:
        """Take a window's frames. offset: of the window in the log. before: the camera's clip up to here."""
        rules = self.rules
        clip = before.under(rules)
        clips: list[ClipSeen | None] = []
        for frame, seen in zip(window.frames, found, strict=True):
            clip = clip.take(window, frame, seen, offset, rules)
            told = None
            if clip.is_whole(rules.clip):
                told, clip = self.score(clip)
            clips.append(told)
        if window.status is not None and window.status.state in CLOSING_STATES:
            clip = clip.ended()
        return SeenWindow(list(found), clips, clip)

    def score(self, clip: Clip) -> tuple[ClipSeen, Clip]:
        """What is seen in a whole clip, and what is left of it for the next."""
        rule = self.rules.clip
        admitted = frozenset(kind.kind for kind in self.rules.kinds if gate_is_open(clip, kind))
        clip = clip.placed(rule)
        scores: dict[str, float] = {}
        attention: tuple[float, ...] = ()
        if admitted or self.always:
            began_s = time.perf_counter()
            clip, encoded = self._encoded(clip)
            scores, attention = self.engine.model.score(clip.features())
            self.engine.on_clip(self.engine.model.files.name, encoded, time.perf_counter() - began_s)
        indices = tuple(frame.index for frame in clip.frames)
        times = (clip.frames[0].at_us, clip.frames[-1].at_us)
        seen = ClipSeen(indices, *times, scores, attention, clip.crop, clip.followed, admitted)
        return seen, clip.stridden(rule)

    def _encoded(self, clip: Clip) -> tuple[Clip, int]:
        assert clip.crop is not None
        missing = [i for i, frame in enumerate(clip.frames) if frame.features is None]
        pictures = []
        for i in missing:
            picture = clip.frames[i].picture
            assert picture is not None
            pictures.append(cut(picture, clip.crop))
        features = self.engine.model.encode(pictures)
        return clip.encoded(dict(zip(missing, features, strict=True))), len(missing)


class _Link:
    """One window in its camera's chain. ``before`` becomes a plain clip once it is known: the chain does not grow."""

    def __init__(self, before: Clip | _Link) -> None:
        self.before = before
        self.future: Future[SeenWindow] | None = None

    def clip_before(self) -> Clip:
        if isinstance(self.before, _Link):
            self.before = self.before.clip_after()
        return self.before

    def clip_after(self) -> Clip:
        """The clip behind this window; behind the one before it where this one could not be looked at."""
        assert self.future is not None
        try:
            return self.future.result().clip
        except Exception:  # it is told when the window is finished, and leaves no trace
            return self.clip_before()


class ClipChains:
    """The chains of all cameras: from the last finished window of each to those that are begun. One thread's."""

    def __init__(self) -> None:
        self._last: dict[str, _Link | Clip] = {}

    def begin(
        self,
        window: FrameWindow,
        offset: int,
        scenes: SceneWork,
        found: Callable[[], list[Detections]],
        before: Callable[[], Clip],
    ) -> Future[SeenWindow]:
        """Look at a window once ``found`` (called on a thread of the scene model) gives its detections.

        before: the camera's clip where no window of its is begun.
        """
        last = self._last.get(window.camera_id)
        link = _Link(before() if last is None else last)

        def work() -> SeenWindow:
            seen = scenes.look(window, offset, found(), link.clip_before())
            link.before = seen.clip  # the pictures of the one before go
            return seen

        link.future = scenes.submit(work)
        self._last[window.camera_id] = link
        return link.future

    def leave_out(self, camera_id: str) -> None:
        """A window of the camera goes by without being looked at: what comes later does not follow."""
        self._last[camera_id] = _NO_CLIP

    def forget(self, camera_id: str) -> None:
        """What comes next begins with ``before`` again."""
        self._last.pop(camera_id, None)

    def forget_all(self) -> None:
        self._last.clear()
