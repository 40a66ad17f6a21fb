"""Scores of clips become events: so many clips in a row begin one, as many below a lower bar end it.

Pure. Every start has one end: when the scores fall, when the stream closes, when no clip came for ``LAPSE_S`` (a
camera that delivers too few frames), or when the kind is not watched any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.analytics.clips import ClipSeen
from pipeline.core.rules import SceneKind

UPDATE_S = 10.0
"""An event that goes on is told of again after so long."""

RISE = 0.05
"""An event whose score rises by this is told of again at once."""

LAPSE_S = 10.0
"""Without a clip for so long nobody knows whether it goes on: it ends."""

Phase = Literal["start", "update", "end"]


@dataclass(frozen=True, slots=True)
class SceneFact:
    """One phase of an event.

    started_us, ended_us: of the event, as far as known. score: the highest so far; frames (indices), attention (one
    weight a frame, sum 1) and region (0..1 of the picture) are those of the clip that gave it.
    """

    kind: str
    phase: Phase
    started_us: int
    ended_us: int | None
    score: float
    frames: tuple[int, ...]
    attention: tuple[float, ...]
    region: tuple[float, float, float, float] | None = None


@dataclass(slots=True)
class Best:
    """The clip of the highest score in an event, or in the run that may begin one."""

    score: float
    frames: tuple[int, ...]
    attention: tuple[float, ...]
    region: tuple[float, float, float, float] | None


@dataclass(slots=True)
class Watched:
    """What is known of one kind.

    run: clips in a row at or above ``start`` while nothing is open, below ``end`` while an event is. started_us: when
    the event, or the run that may begin one, started. high_us: the end of the last clip that was not below ``end``.
    told_us, told_score: of the last phase that was told.
    """

    open: bool = False
    run: int = 0
    started_us: int = 0
    high_us: int = 0
    told_us: int = 0
    told_score: float = 0.0
    best: Best | None = None


@dataclass(slots=True)
class SceneWatcher:
    """All kinds of one camera. ``states``: by kind; also of kinds that were open and are not watched any more."""

    kinds: Sequence[SceneKind]
    states: dict[str, Watched] = field(default_factory=dict)
    clip_us: int | None = None  # the end of the last clip

    def observe(self, at_us: int, seen: ClipSeen | None) -> list[SceneFact]:
        """Take a frame, and the clip that it completed, if it did."""
        facts: list[SceneFact] = []
        if not self.states and seen is None:
            return facts
        watched = {kind.kind for kind in self.kinds}
        for name in [name for name in self.states if name not in watched]:
            facts += self._end(name)
            del self.states[name]
        if seen is not None:
            self.clip_us = seen.ends_us
            for kind in self.kinds:
                facts += self._take(kind, seen)
        elif self.clip_us is not None and at_us - self.clip_us > LAPSE_S * 1e6:
            facts += self.close()
        return facts

    def close(self) -> list[SceneFact]:
        """Nothing follows: end what is open."""
        facts = [fact for name in list(self.states) for fact in self._end(name)]
        self.states.clear()
        self.clip_us = None
        return facts

    def _take(self, kind: SceneKind, seen: ClipSeen) -> list[SceneFact]:
        score = seen.score_of(kind.kind)
        state = self.states.get(kind.kind)
        if state is None:
            if score < kind.start:
                return []
            state = self.states[kind.kind] = Watched()
        if not seen.follows:
            state.run = 0
        facts = self._while_open(kind, state, score, seen) if state.open else self._before(kind, state, score, seen)
        if not state.open and state.run == 0:
            del self.states[kind.kind]
        return facts

    def _before(self, kind: SceneKind, state: Watched, score: float, seen: ClipSeen) -> list[SceneFact]:
        if score < kind.start:
            state.run, state.best = 0, None
            return []
        if state.run == 0:
            state.started_us, state.best = seen.starts_us, None
        state.run += 1
        state.high_us = seen.ends_us
        _better(state, score, seen)
        if state.run < kind.clips:
            return []
        state.open, state.run = True, 0
        return [_told(kind.kind, "start", state, seen)]

    def _while_open(self, kind: SceneKind, state: Watched, score: float, seen: ClipSeen) -> list[SceneFact]:
        if score < kind.end:
            state.run += 1
            return self._end(kind.kind) if state.run >= kind.clips else []
        state.run, state.high_us = 0, seen.ends_us
        _better(state, score, seen)
        if score - state.told_score >= RISE or seen.ends_us - state.told_us >= UPDATE_S * 1e6:
            return [_told(kind.kind, "update", state, seen)]
        return []

    def _end(self, name: str) -> list[SceneFact]:
        state = self.states[name]
        told = [_fact(name, "end", state)] if state.open else []
        state.open, state.run, state.best = False, 0, None
        return told


def _better(state: Watched, score: float, seen: ClipSeen) -> None:
    if state.best is None or score > state.best.score:
        state.best = Best(score, seen.frames, seen.attention, seen.region)


def _told(kind: str, phase: Phase, state: Watched, seen: ClipSeen) -> SceneFact:
    fact = _fact(kind, phase, state)
    state.told_us, state.told_score = seen.ends_us, fact.score
    return fact


def _fact(kind: str, phase: Phase, state: Watched) -> SceneFact:
    best = state.best
    assert best is not None
    ended_us = state.high_us if phase == "end" else None
    return SceneFact(kind, phase, state.started_us, ended_us, best.score, best.frames, best.attention, best.region)


def restored(told: Mapping[str, Mapping[str, object]]) -> dict[str, Watched]:
    """``states`` out of their plain form (``dataclasses.asdict``, JSON). Raises TypeError, KeyError for another."""
    states = {}
    for name, plain in told.items():
        best = plain["best"]
        values = dict(plain)
        if isinstance(best, Mapping):
            region = best["region"]
            values["best"] = Best(
                best["score"], tuple(best["frames"]), tuple(best["attention"]), tuple(region) if region else None
            )  # fmt: skip
        states[name] = Watched(**values)  # type: ignore[arg-type]
    return states
