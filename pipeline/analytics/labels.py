"""Judgements of whole pictures become events: so many in a row of one class begin it, as many of another end it.

Pure. A judgement that is not sure enough breaks a row and ends nothing: at dusk, what was surely seen last still holds.
Every start has one end: when another class was voted for, when the stream closes, or when the class is not watched any
more. At most one label is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.core.rules import LabelRules


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a classifier said of one picture. kind: the likeliest class. score: its probability, 0..1."""

    kind: str
    score: float


@dataclass(frozen=True, slots=True)
class LabelFact:
    """A label begins or ends.

    started_us, ended_us: of the first and of the last judgement that gave it; None while it goes on. score: the highest
    so far. judged_by: the provenance of the model that gave the last.
    """

    kind: str
    phase: Literal["start", "end"]
    started_us: int
    ended_us: int | None
    score: float
    judged_by: Mapping[str, str]


@dataclass(slots=True)
class Row:
    """Judgements that gave one class: the row that may begin a label, or all of one that is open."""

    kind: str
    votes: int
    since_us: int
    last_us: int
    score: float
    judged_by: dict[str, str]

    def take(self, at_us: int, score: float, judged_by: Mapping[str, str]) -> None:
        """One more."""
        self.votes, self.last_us = self.votes + 1, at_us
        self.score, self.judged_by = max(self.score, score), dict(judged_by)

    def fact(self, phase: Literal["start", "end"]) -> LabelFact:
        """What is told of it."""
        ended_us = self.last_us if phase == "end" else None
        return LabelFact(self.kind, phase, self.since_us, ended_us, self.score, self.judged_by)


@dataclass(slots=True)
class LabelWatcher:
    """The label of one camera. rules: None where nothing is judged. last_us: of the last judgement in this stream."""

    rules: LabelRules | None
    row: Row | None = None
    open: Row | None = None
    last_us: int | None = None

    def due(self, times_us: Sequence[int], *, follows: bool) -> list[bool]:
        """Which of the next frames are to be judged. follows: they belong to the stream of the last judgement."""
        if self.rules is None:
            return [False] * len(times_us)
        last_us, due = self.last_us if follows else None, []
        for at_us in times_us:
            due.append(last_us is None or at_us - last_us >= self.rules.every_s * 1e6)
            if due[-1]:
                last_us = at_us
        return due

    def observe(self, at_us: int, judged: Judgement | None) -> list[LabelFact]:
        """Take one frame, and what was said of it, if it was judged."""
        rules = self.rules
        if rules is None:
            return self.close()
        told = self._end() if self.open is not None and self.open.kind not in rules.kinds else []
        if judged is not None:
            self.last_us = at_us
            told += self._take(at_us, judged, rules)
        return told

    def close(self) -> list[LabelFact]:
        """The stream ends here: end what is open, and judge the next picture that comes."""
        told = self._end()
        self.row = self.last_us = None
        return told

    def _take(self, at_us: int, judged: Judgement, rules: LabelRules) -> list[LabelFact]:
        if judged.score < rules.score:
            self.row = None
            return []
        if self.open is not None and self.open.kind == judged.kind:
            self.open.take(at_us, judged.score, rules.provenance)
            self.row = None
            return []
        row = self.row
        if row is None or row.kind != judged.kind or row.judged_by != rules.provenance:
            row = self.row = Row(judged.kind, 1, at_us, at_us, judged.score, dict(rules.provenance))
        else:
            row.take(at_us, judged.score, rules.provenance)
        if row.votes < rules.votes:
            return []
        told, self.row = self._end(), None
        if row.kind in rules.kinds:
            self.open = row
            told.append(row.fact("start"))
        return told

    def _end(self) -> list[LabelFact]:
        was, self.open = self.open, None
        return [was.fact("end")] if was is not None else []

    def state(self) -> dict[str, Any] | None:
        """What ``restore`` needs, as JSON can hold it; None while there is nothing to go on from."""
        if self.last_us is None:
            return None
        row, open_ = (asdict(each) if each is not None else None for each in (self.row, self.open))
        return {"last_us": self.last_us, "row": row, "open": open_}

    def restore(self, told: Mapping[str, Any]) -> None:
        """Go on from a ``state``, under whatever rules. Raises TypeError, KeyError for another."""
        self.last_us = told["last_us"]
        self.row = Row(**told["row"]) if told["row"] is not None else None
        self.open = Row(**told["open"]) if told["open"] is not None else None
