"""Tampering: are covered, defocused, moved, frozen, black and blinded cameras told of, by name and soon, and no others?

Every real clip is decoded by the pipeline at the size and rate it works at; from a known picture on it is changed
(benchmarks.tampered), and shown to the analytics. A kind counts as found if its event is told within 2 s of the onset;
every other event that begins is a false one of its kind. ``--through jpeg`` takes each picture through the JPEG of the
windows on Kafka. Untouched clips are shown whole.

    python -m benchmarks.tampering [--through jpeg] [--pictures DIR]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.clips import VIDEOS
from benchmarks.tampered import ORDINARY, TAMPERED, Change, captioned, tilted, turned
from pipeline.analytics.camera import CameraAnalytics
from pipeline.bus import images
from pipeline.core.detections import Detections
from pipeline.core.events import SCENE_EVENT, Event, Origin, microseconds
from pipeline.core.frame import Frame, FrameWindow, Picture
from pipeline.core.ledger import FrameLedger
from pipeline.core.picture_facts import picture_facts
from pipeline.core.rules import CONDITION_KINDS, CameraRules
from pipeline.encoding import VideoWriter
from pipeline.services.streams import build_stream, model_manifest
from pipeline.sources.base import SampledFrame, StreamSettings, SystemClock

FPS = 8
ONSET, AFTER = 40, 32  # pictures: 5 s as it is, 4 s changed
SOON_S = 2.0
LEAST_S = 5.5  # shorter clips are shown untouched only
_SET_ON = "scenes that the bars were set on"
_SEEN_ONCE = "falls and daily acts: the bars were mended after a first run on them"
_HELD_OUT = "held out: surveillance clips of 2 s, played to and fro"
_GROUPS = (_SET_ON, _SEEN_ONCE, _HELD_OUT)
_CODECS: dict[str, int | None] = {"as it is": None, "H.264, crf 23": 23, "H.264, crf 32": 32}
_COARSE = "H.264, crf 36"
_ORIGIN = Origin(topic="passerby.windows", partition=0, offset=0)


@dataclass(frozen=True)
class Shot:
    """A clip as the pipeline sees it. group: one of ``_GROUPS``."""

    name: str
    pictures: list[Picture]
    group: str
    whole: bool  # every strength of tampering is tried on it; else one of each kind, in turn

    @property
    def seconds(self) -> float:
        return len(self.pictures) / FPS

    @property
    def onset(self) -> int:
        """The picture it is tampered with from; at least half a clip is left before it."""
        return min(ONSET, max(len(self.pictures) - 24, len(self.pictures) // 2))


@dataclass
class Tally:
    """Of one kind. delays_s: from the onset until it was told. starts_s: how far off the told onset is."""

    made: int = 0
    found: int = 0
    late: int = 0
    false: int = 0
    delays_s: list[float] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)

    @property
    def f1(self) -> float:
        missed = self.made - self.found
        return 2 * self.found / max(2 * self.found + missed + self.false, 1)


@dataclass(frozen=True)
class Told:
    """An event that began: its kind, when it was told, and when it says it began (seconds of the clip)."""

    kind: str
    told_s: float
    started_s: float


def shots() -> Iterator[Shot]:
    """Every real clip that is long enough, and every second of the short ones."""
    events = VIDEOS.parent / "events"
    kept = [(path, _SET_ON) for path in sorted([*VIDEOS.rglob("*.mp4"), *VIDEOS.rglob("*.avi")])]
    kept += [(path, _SEEN_ONCE) for path in sorted((events / "falls_gmdcsa24").rglob("*.mp4"))]
    for path, group in kept:
        yield Shot(f"{path.parent.name}/{path.stem}", decoded(path), group, whole="625_" not in path.stem)
    for path in sorted((events / "fight_surv").rglob("*.mp4"))[::2]:
        pictures = decoded(path)
        turns = [*pictures, *pictures[-2:0:-1]] * (ONSET + AFTER)
        yield Shot(f"{path.parent.name}/{path.stem}", turns[: ONSET + AFTER], _HELD_OUT, whole=False)


def decoded(path: Path) -> list[Picture]:
    """Its pictures, as ``passerby run`` decodes, samples and scales them."""
    settings = StreamSettings("clip", str(path), sample_fps=FPS)
    stream = build_stream(
        settings, model_manifest("passerby-nano"), ledger=FrameLedger(), clock=SystemClock(), stop=threading.Event()
    )
    return [item.frame.picture for item in stream if isinstance(item, SampledFrame)]


class Watched:
    """A camera of the pipeline that looks at pictures. through: raw, or the JPEG of the windows on Kafka."""

    def __init__(
        self, through: str, state: bytes | None = None, shown: int = 0, kinds: tuple[str, ...] = CONDITION_KINDS
    ) -> None:
        provenance = {"model": "none", "model_version": "0", "model_sha256": "", "config_sha256": ""}
        rules = CameraRules("clip", condition=kinds)
        made = CameraAnalytics.restore(rules, provenance, state) if state else None
        self._camera = made or CameraAnalytics(rules, provenance=provenance)
        self._through, self._shown = through, shown

    def see(self, pictures: Iterable[Picture]) -> list[Told]:
        """Show it these pictures, the next ones; what it tells of."""
        told = []
        for picture in pictures:
            for event in self._observe(picture):
                if event.type == SCENE_EVENT and event.data["phase"] == "start":
                    began_s = microseconds(event.data["started_at"]) / 1e6
                    told.append(Told(event.data["kind"], event.time_us / 1e6, began_s))
        return told

    def again(self) -> Watched:
        """A second camera that saw the same."""
        return Watched(self._through, self._camera.snapshot(), self._shown)

    def _observe(self, picture: Picture) -> Sequence[Event]:
        if self._through == "jpeg":
            height, width = picture.shape[:2]
            picture = images.decode(images.encode(picture, "jpeg"), "jpeg", height, width)
        at_us = round(self._shown * 1e6 / FPS)
        frame = Frame(self._shown, at_us, at_us, picture)
        window = FrameWindow("clip", 1, 0, (frame,), 1280, 720, FPS, "pts")
        self._shown += 1
        return self._camera.observe(window, frame, Detections.none(("person",)), _ORIGIN).events


def begins_early(change: Change) -> bool:
    """Whether a change does something to the pictures before its onset, too: looks at a part, writes a caption."""
    return isinstance(change, partial) and change.func in (turned, tilted, captioned)


def encoded(pictures: Sequence[Picture], crf: int) -> list[Picture]:
    """Sent through an H.264 encoder, a key frame every two seconds, and decoded again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sent.mp4"
        height, width = pictures[0].shape[:2]
        with VideoWriter(path, width, height, FPS, crf=crf, gop=16) as writer:
            for n, picture in enumerate(pictures):
                writer.write(picture, n / FPS)
        return decoded(path)


def tries(shot: Shot, number: int, through: str, kinds: Sequence[str]) -> Iterator[tuple[str, str, list[Told], int]]:
    """Kind, strength, what was told, and the onset's index.

    number: of the shot, for those that get one strength of each kind. What comes before the onset is looked at once.
    """
    pictures, onset = shot.pictures[: ONSET + AFTER], shot.onset
    before, after = pictures[:onset], pictures[onset:]
    same = Watched(through)
    early = same.see(before)
    for kind in kinds:
        made: list[tuple[str, Change | int | None]] = [*TAMPERED[kind].items()]
        made += [*_CODECS.items()] if kind == "frozen" else []
        for name, change in made if shot.whole else [made[number % len(made)]]:
            if change is None:
                told = early + same.again().see([after[0]] * len(after))
            elif isinstance(change, int):
                told = Watched(through).see(encoded([*before, *[after[0]] * len(after)], change))
            elif begins_early(change):
                told = Watched(through).see([*(change(p, -1) for p in before), *map(change, after, count())])
            else:
                told = early + same.again().see(map(change, after, count()))
            yield kind, name, told, onset


def score(told: Sequence[Told], kind: str, onset: int, tallies: dict[str, Tally]) -> bool:
    """Count what was told of one changed clip; whether it was all right."""
    tally, onset_s = tallies[kind], onset / FPS
    tally.made += 1
    right = [one for one in told if one.kind == kind and one.told_s >= onset_s]
    if right:
        delay_s = right[0].told_s - onset_s
        tally.delays_s.append(delay_s)
        tally.starts_s.append(abs(right[0].started_s - onset_s))
        tally.found += delay_s <= SOON_S
        tally.late += delay_s > SOON_S
    for one in told:
        if not right or one is not right[0]:
            tallies[one.kind].false += 1
    return len(told) == 1 and bool(right) and tally.delays_s[-1] <= SOON_S


def table(title: str, tallies: dict[str, Tally]) -> None:
    print(f"\n{title}\n")
    print("| kind | made | found within 2 s | later | false | F1 | delay s: median, p95 | onset off by s: p95 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind, one in tallies.items():
        delays, starts = one.delays_s or [0.0], one.starts_s or [0.0]
        print(
            f"| {kind} | {one.made} | {one.found} | {one.late} | {one.false} | {one.f1:.3f} | "
            f"{np.median(delays):.2f}, {np.percentile(delays, 95):.2f} | {np.percentile(starts, 95):.2f} |"
        )


def untouched(every: Sequence[Shot], through: str) -> None:
    """What is told of clips as they are."""
    for group in _GROUPS:
        some = [shot for shot in every if shot.group == group]
        told = {shot.name: Watched(through).see(shot.pictures) for shot in some}
        _say_untouched(group, told, sum(shot.seconds for shot in some))


def _say_untouched(title: str, told: Mapping[str, Sequence[Told]], seconds: float) -> None:
    false = {name: [one.kind for one in each] for name, each in told.items() if each}
    print(f"| {title} | {len(told)} | {seconds / 60:.1f} | {sum(map(len, false.values()))} {false or ''} |", flush=True)


def ordinary(every: Sequence[Shot], through: str) -> None:
    """Ordinary changes, on one clip of each scene and the falls."""
    print("\n| ordinary change | clips | false alarms |\n| --- | --- | --- |")
    some = [shot for shot in every if shot.whole and shot.seconds >= LEAST_S]
    wrong: dict[str, Counter[str]] = {name: Counter() for name in [*ORDINARY, _COARSE]}
    for shot in some:
        pictures = shot.pictures[: ONSET + 64]
        same = Watched(through)
        early = same.see(pictures[: shot.onset])
        for name, change in ORDINARY.items():
            told = early + same.again().see(map(change, pictures[shot.onset :], count()))
            wrong[name].update(one.kind for one in told)
        wrong[_COARSE].update(one.kind for one in Watched(through).see(encoded(pictures, 36)))
    for name, kinds in wrong.items():
        print(f"| {name} | {len(some)} | {kinds.total()} {dict(kinds) or ''} |")


def cost(shot: Shot) -> None:
    """Microseconds a picture, on one thread."""
    began_s = time.process_time()
    for picture in shot.pictures:
        picture_facts(picture)
    facts_s, began_s = time.process_time() - began_s, time.process_time()
    Watched("raw").see(shot.pictures)
    many = len(shot.pictures)
    told_s, began_s = time.process_time() - began_s, time.process_time()
    Watched("raw", kinds=()).see(shot.pictures)
    own_us, facts_us = (told_s - time.process_time() + began_s) / many * 1e6, facts_s / many * 1e6
    size = f"{shot.pictures[0].shape[1]}x{shot.pictures[0].shape[0]}"
    print(f"\nCPU a sampled picture of {size} (every second is looked at): {own_us:.0f} us more than without; "
          f"the facts of one that is looked at {facts_us:.0f} us")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=CONDITION_KINDS, default=CONDITION_KINDS)
    parser.add_argument("--through", choices=("raw", "jpeg"), default="raw")
    parser.add_argument(
        "--pictures", type=Path, help="write a contact sheet of each clip's changes here, and do no more"
    )
    options = parser.parse_args()
    every = list(shots())
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for shot in [one for one in every if one.whole]:
            sheet(shot).save(options.pictures / f"{shot.name.replace(chr(47), '-')}.png")
        return
    print("| untouched | clips | minutes | false alarms |\n| --- | --- | --- | --- |")
    untouched(every, options.through)
    cost(every[0])
    tallies = {group: {kind: Tally() for kind in CONDITION_KINDS} for group in _GROUPS}
    for number, shot in enumerate(shot for shot in every if shot.seconds >= LEAST_S):
        for kind, name, told, onset in tries(shot, number, options.through, options.kinds):
            if not score(told, kind, onset, tallies[shot.group]):
                said = ", ".join(f"{one.kind} after {one.told_s - onset / FPS:.1f} s" for one in told) or "nothing"
                print(f"  {shot.name}: {kind}, {name}: {said}", flush=True)
    for group in _GROUPS:
        table(group, tallies[group])
    ordinary(every, options.through)


def sheet(shot: Shot) -> Image.Image:
    """Its last picture under each change, as it is 1.5 s after the onset."""
    shown = [change(shot.pictures[-1], 12) for named in TAMPERED.values() for change in named.values()]
    shown += [change(shot.pictures[-1], 12 if name != "a lorry" else 4) for name, change in ORDINARY.items()]
    width, height = 208, round(208 * shot.pictures[0].shape[0] / shot.pictures[0].shape[1])
    page = Image.new("RGB", (6 * width, -(-len(shown) // 6) * height))
    for n, picture in enumerate(shown):
        page.paste(Image.fromarray(picture).resize((width, height)), (n % 6 * width, n // 6 * height))
    return page


if __name__ == "__main__":
    main()
