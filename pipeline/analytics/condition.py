"""Is the camera seeing what it should? Black, glare, covered, defocused, moved and frozen pictures, by rule.

Pure. Each picture gets a score per kind from how it differs from the camera's usual view (``view``); a kind whose score
stays at ``START`` or more for its hold time begins an event, one that stays under ``END`` for ``CLEAR_S`` ends it. At
most one event is open: a black picture is not also a moved one. The view is not taught while anything is wrong.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.scenes import RISE, UPDATE_S, SceneFact
from pipeline.analytics.view import PROVEN_LOOKS, READY_FRAMES, Difference, View, is_alike, quantile
from pipeline.core.picture_facts import GRAY_ONE, PictureFacts
from pipeline.core.rules import CONDITION_KINDS

RULES_MADE_IT: Final[Mapping[str, str]] = {
    "model": "camera-condition",
    "model_version": "1",
    "model_sha256": hashlib.sha256(b"camera-condition 1").hexdigest(),
}
"""The provenance of its events: rules, whose version rises when they judge differently."""
REASONS: Final[Mapping[str, str]] = {
    "black": "the picture is black",
    "glare": "a light blinds the camera",
    "covered": "something is in front of the lens",
    "defocused": "the picture is out of focus",
    "moved": "the camera looks elsewhere",
    "frozen": "the picture stands still",
}
LOOK_S = 0.2
"""Pictures closer together are not looked at: four a second tell as much as eight, for half the price."""
START, END = 0.5, 0.4
HOLD_S: Final[Mapping[str, float]] = {
    "black": 1.0, "glare": 1.25, "covered": 1.25, "defocused": 1.25, "moved": 1.5, "frozen": 0.0,
}  # fmt: skip
"""How long a kind must last; ``frozen`` is judged over ``STILL_S`` as it is."""
BLIND_HOLD_S = 5.0
"""How long a camera must be black that was never seen otherwise."""
DARK = 40.0
"""Gray level of the brightest parts under which the view itself is dark: night fell, nobody put the light out."""
CLEAR_S = 1.0
SETTLE_S = 2.0
"""The first pictures of a stream are not judged: decoders and exposures need a moment."""
GAP_S = 0.4
"""A run of scores outlives so much interruption."""
ACCEPT_S = 600.0
"""What was wrong for so long is the camera's view from now on."""
FORGET_S = 600.0
"""After a pause of so long the view is learned anew: the light is another."""
STILL_S, STILL_PAIRS = 2.0, 8
"""Over how long, and how many pictures at least, it is counted how many repeat one of the two before.

A still picture that goes through an encoder comes out of it swinging to and fro by a gray level in some places.
"""
STILL_KNOWN = 8
"""So many older pictures tell of the camera's habit."""
STILL_SHARE, HABIT_WEIGHT = 0.3, 3.0
HABIT_S = 60.0
ALWAYS_STILL_S = 60.0
"""How long a camera whose pictures often repeat has to stand quite still."""

_SAME_MEAN, _SAME_MOST = 1.0, GRAY_ONE // 2  # in 1/256 gray levels: less is the codec's doing


@dataclass(slots=True)
class Run:
    """A kind whose score is high. index: of the first picture."""

    since_us: int
    last_us: int
    index: int
    score: float


@dataclass(slots=True)
class Open:
    """The event that is open. clear_us: since when the score is low. told_us, told_score: as last told."""

    kind: str
    started_us: int
    score: float
    index: int
    told_us: int
    told_score: float
    clear_us: int | None = None


@dataclass(slots=True)
class Stillness:
    """How often a picture is the same as one of the two before.

    recent: (time, same) of the last pictures. habit: the usual share of same ones, of ``known`` older pictures.
    moved_us: when one last differed.
    """

    recent: deque[tuple[int, bool]] = field(default_factory=deque)
    habit: float = 0.0
    known: int = 0
    moved_us: int = 0

    def take(self, at_us: int, same: bool, teach: bool) -> None:
        """Count a picture; what is no longer recent becomes habit, if ``teach``."""
        if not same or not self.recent:
            self.moved_us = at_us
        self.recent.append((at_us, same))
        while len(self.recent) > STILL_PAIRS and at_us - self.recent[0][0] > STILL_S * 1e6:
            gone_us, was_same = self.recent.popleft()
            if teach:
                self.known += 1
                step_s = (self.recent[0][0] - gone_us) / 1e6
                self.habit += (was_same - self.habit) * max(1 / self.known, min(step_s / HABIT_S, 1.0))

    def score(self, at_us: int) -> float:
        """0..1, from ``START`` on as if frozen; 0 while the camera is not known."""
        if self.known < STILL_KNOWN or len(self.recent) < STILL_PAIRS:
            return 0.0
        needed = STILL_SHARE + HABIT_WEIGHT * self.habit
        if needed > 1:
            return min(START * (at_us - self.moved_us) / (ALWAYS_STILL_S * 1e6), 1.0)
        share = sum(same for _, same in self.recent) / len(self.recent)
        return min(START * share / needed, 1.0)

    def onset_us(self) -> int:
        """When the first of the recent pictures came that was the same."""
        return next((at_us for at_us, same in self.recent if same), self.moved_us)


@dataclass(slots=True)
class ConditionWatcher:
    """The condition of one camera. kinds: what is told of."""

    kinds: tuple[str, ...]
    view: View = field(default_factory=View)
    still: Stillness = field(default_factory=Stillness)
    runs: dict[str, Run] = field(default_factory=dict)
    open: Open | None = None
    gray: NDArray[np.uint16] | None = None  # of the last picture
    earlier: NDArray[np.uint16] | None = None  # of the one before
    elsewhere: NDArray[np.uint16] | None = None  # a picture of the view that may be a new one
    began_us: int = 0
    last_us: int | None = None  # of the last picture

    def is_due(self, at_us: int) -> bool:
        """Whether a picture of this time is to be looked at."""
        wanted = bool(self.kinds) or self.open is not None
        return wanted and (self.last_us is None or at_us - self.last_us >= LOOK_S * 1e6)

    def observe(self, at_us: int, index: int, facts: PictureFacts) -> list[SceneFact]:
        """Take one picture, later than the last. index: of its frame."""
        if self.open is not None and self.open.kind not in self.kinds:
            return self.close()
        if not facts.gray.size or not facts.detail.size:
            return []
        told: list[SceneFact] = []
        if not self.view.fits(facts) or (self.last_us is not None and at_us - self.last_us > FORGET_S * 1e6):
            told += self.close()
        if self.last_us is None:
            self.began_us = at_us
        scores, alike = self._scores(at_us, facts)
        ordinary = self.open is None and max(scores.values()) < START
        self._still(at_us, facts, scores, teach=ordinary)
        if scores["moved"] >= START and not self._is_steady(facts):
            scores["moved"] = 0.0
        told += self._judge(at_us, index, scores)
        if self.open is None and ordinary and scores["frozen"] < START:
            self.view.learn(facts, at_us, alike)
        elif self.open is not None and at_us - self.open.started_us > ACCEPT_S * 1e6 and self.open.kind != "frozen":
            told += self._end(at_us, index)
            self.view = View()
        self.gray, self.earlier, self.last_us = facts.gray, self.gray, at_us
        return told

    def close(self) -> list[SceneFact]:
        """The stream ends here: end what is open, and forget the view. What comes next is learned anew."""
        told = [] if self.open is None or self.last_us is None else self._end(self.last_us, self.open.index)
        self.view, self.still = View(), Stillness()
        self.runs.clear()
        self.gray = self.earlier = self.elsewhere = self.last_us = None
        return told

    def _scores(self, at_us: int, facts: PictureFacts) -> tuple[dict[str, float], float | None]:
        """The scores but for ``frozen``, 0..1, ``START`` the bar; and the share of the view that is there, if known."""
        scores: dict[str, float] = dict.fromkeys(CONDITION_KINDS, 0.0)
        scores["black"] = _black(facts.gray)
        known = self.view.ready(at_us)
        if known:
            scores["black"] = min(scores["black"], _bar(_brightest(self.view.gray), DARK, 2 * DARK))
        alike = None
        if known and scores["black"] < START:
            seen = self.view.difference(facts)
            alike = seen.alike
            scores |= _by_view(seen, self.view.alike, _brightest(facts.gray))
            if self.view.proven < PROVEN_LOOKS:
                scores["moved"] = 0.0  # a hand-held camera: it never stood still
        return scores, alike

    def _still(self, at_us: int, facts: PictureFacts, scores: dict[str, float], *, teach: bool) -> None:
        """Count whether this picture repeats one of the two before; the score of ``frozen`` where nothing else is."""
        before = [gray for gray in (self.gray, self.earlier) if gray is not None]
        if before:
            self.still.take(at_us, any(_is_same(facts.gray, gray) for gray in before), teach)
        if max(scores.values()) < START and (self.open is None or self.open.kind == "frozen"):
            scores["frozen"] = self.still.score(at_us)

    def _is_steady(self, facts: PictureFacts) -> bool:
        """Whether the other view stands still since a picture ago or longer: it is no lorry that drives by."""
        if self.elsewhere is not None and is_alike(facts.gray, self.elsewhere):
            return True
        self.elsewhere = facts.gray
        return False

    def _judge(self, at_us: int, index: int, scores: Mapping[str, float]) -> list[SceneFact]:
        due = []
        for kind in CONDITION_KINDS:
            run = self._run(at_us, index, kind, scores[kind])
            if run is not None and kind in self.kinds and self._lasted(at_us, kind, run):
                due.append((kind, run))
        told = self._go_on(at_us, index, scores) if self.open is not None else []
        if due and at_us - self.began_us >= SETTLE_S * 1e6:
            kind, run = due[0]
            if self.open is None:
                told.append(self._start(at_us, index, kind, run))
            elif self.open.kind != kind and scores[self.open.kind] < START:
                told += [*self._end(run.since_us, index), self._start(at_us, index, kind, run)]
        return told

    def _run(self, at_us: int, index: int, kind: str, score: float) -> Run | None:
        """The kind's run, with this picture; None when there is none, or this picture is not of it."""
        run = self.runs.get(kind)
        if score < START:
            if run is not None and at_us - run.last_us > GAP_S * 1e6:
                del self.runs[kind]
            return None
        if run is None:
            since_us = self.still.onset_us() if kind == "frozen" else at_us
            run = self.runs[kind] = Run(since_us, at_us, index, score)
        run.last_us, run.score = at_us, max(run.score, score)
        return run

    def _lasted(self, at_us: int, kind: str, run: Run) -> bool:
        blind = kind == "black" and self.view.frames < READY_FRAMES
        hold_s = BLIND_HOLD_S if blind else HOLD_S[kind]
        return at_us - run.since_us >= hold_s * 1e6

    def _start(self, at_us: int, index: int, kind: str, run: Run) -> SceneFact:
        self.open = Open(kind, run.since_us, run.score, index, at_us, run.score)
        return SceneFact(kind, "start", run.since_us, None, run.score, (index,), ())

    def _go_on(self, at_us: int, index: int, scores: Mapping[str, float]) -> list[SceneFact]:
        """An update or the end of the open event, or neither."""
        now = self.open
        assert now is not None
        score = scores[now.kind]
        if score < END:
            if now.clear_us is None:
                now.clear_us = at_us
            return self._end(now.clear_us, index) if at_us - now.clear_us >= CLEAR_S * 1e6 else []
        now.clear_us = None
        if score > now.score:
            now.score, now.index = score, index
        if now.score - now.told_score < RISE and at_us - now.told_us < UPDATE_S * 1e6:
            return []
        now.told_us, now.told_score = at_us, now.score
        return [SceneFact(now.kind, "update", now.started_us, None, now.score, (now.index,), ())]

    def _end(self, ended_us: int, index: int) -> list[SceneFact]:
        was = self.open
        assert was is not None
        self.open = None
        return [SceneFact(was.kind, "end", was.started_us, max(ended_us, was.started_us), was.score, (index,), ())]


def _by_view(seen: Difference, usually_alike: float, brightest: float) -> dict[str, float]:
    """The scores of what is told by the difference from the view. brightest: of the picture, as ``_brightest``."""
    glare = _bar(seen.dazzled, 0.3, 0.6)
    if glare >= START:
        return {"glare": glare}
    away = _bar(1 - seen.alike / max(usually_alike, 0.2), 0.55, 1.0)
    plain = _falling(seen.detail, 0.4, 0.1)
    in_place = min(_bar(seen.layout, 0.6, 0.95), _bar(seen.contrast, 0.5, 0.8))

    dim = min(max(seen.contrast, 0.5), 1.0) ** 2  # less light takes so much of the detail, too
    blurred = _falling(seen.detail / dim, 0.5, 0.1)
    if seen.held_detail is not None:
        blurred = min(blurred, _falling(seen.held_detail / dim, 0.5, 0.1))
    light = _bar(brightest, DARK, 2 * DARK)  # in the dark all detail is noise
    defocused = min(blurred, in_place, light)

    gone = max(_bar(seen.lost, 0.6, 0.9), min(away, plain))
    hidden = min(gone, _bar(1 - seen.alike, 0.5, 0.8), 1 - in_place)
    haze = _bar(seen.brightness - seen.contrast, 0.3, 0.6)  # what only dims takes as much of both
    covered = max(hidden, min(_falling(seen.contrast, 0.4, 0.1), haze, plain))
    moved = min(away, 1 - covered, 1 - defocused)
    return {"glare": glare, "covered": covered, "defocused": defocused, "moved": moved}


def _is_same(gray: NDArray[np.uint16], before: NDArray[np.uint16]) -> bool:
    """Whether a picture repeats the one before, but for what a codec does to it."""
    change = np.abs(gray.astype(np.int32) - before)
    return bool(change.max() < _SAME_MOST and change.mean() < _SAME_MEAN)


def _black(gray: NDArray[np.uint16]) -> float:
    """Nothing but a caption is brighter than a dark gray, and most of it is next to black."""
    return min(_falling(_brightest(gray), 24.0, 4.0), _falling(quantile(gray, 0.5) / GRAY_ONE, 16.0, 2.0))


def _brightest(gray: NDArray[np.uint16]) -> float:
    """The gray level that a tenth of the cells exceed."""
    return quantile(gray, 0.9) / GRAY_ONE


def _bar(value: float, bar: float, most: float) -> float:
    """0..1, ``START`` where ``value`` is at the bar, 1 at ``most``."""
    slope = (1 - START) / (most - bar)
    return min(max(START + (value - bar) * slope, 0.0), 1.0)


def _falling(value: float, bar: float, least: float) -> float:
    """0..1, ``START`` where ``value`` is at the bar, 1 at ``least`` below it."""
    return _bar(-value, -bar, -least)
