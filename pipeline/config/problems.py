"""What is wrong with a configuration: where, what, and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from pipeline.config.secrets import redact
from pipeline.errors import ConfigError

Severity = Literal["error", "warning"]

_SWAP = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. line and column count from 1; 0 where there is no place in a file (made from a command line).

    code: a stable word for scripts (``unknown-key``, ``line-unreachable``). key: dotted path of the value.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    mend: str = ""
    code: str = "invalid"
    severity: Severity = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: " if self.file else ""
        key = f"{self.key}: " if self.key else ""
        mend = f"; {self.mend}" if self.mend else ""
        return redact(f"{where}{key}{self.message}{mend}")

    def as_json(self) -> dict[str, Any]:
        """For ``passerby check --json``; without secrets."""
        told = {name: getattr(self, name) for name in self.__slots__}
        return {name: redact(value) if isinstance(value, str) else value for name, value in told.items()}


def sorted_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """By their place in the file; what is said twice of one place (a default in every camera) is kept once."""
    kept: dict[tuple[object, ...], Problem] = {}
    for problem in problems:
        kept.setdefault((problem.file, problem.line, problem.column, problem.code, problem.message), problem)
    return tuple(sorted(kept.values(), key=lambda p: (p.file, p.line, p.column, p.key, p.message)))


class ConfigProblems(ConfigError):
    """Everything that is wrong with a configuration, sorted by its place; ``str`` is one line a problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted_problems(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def fault(code: str, message: str, mend: str = "") -> PydanticCustomError:
    """The exception a validator raises; loading gives it its place."""
    return PydanticCustomError(code, message, {"mend": mend})


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` is most likely a slip of, or None.

    Nearest by edits (insert, delete, replace, swap of neighbours), then by difflib's likeness.
    """
    lowered = word.lower().replace("-", "_")
    best: tuple[float, float, str] | None = None
    for candidate in known:
        edits = edit_distance(lowered, candidate.lower().replace("-", "_"))
        likeness = difflib.SequenceMatcher(None, lowered, candidate.lower()).ratio()
        if edits > max(1, len(candidate) // 3) and likeness < 0.75:
            continue
        ranked = (edits, -likeness, candidate)
        best = ranked if best is None else min(best, ranked)
    return best[2] if best else None


def edit_distance(a: str, b: str) -> float:
    """Insertions, deletions, replacements and swaps of neighbours that turn ``a`` into ``b`` (string alignment).

    A swap counts a little less than the others: it is the commonest slip of a hand.
    """
    before: Sequence[float] = ()
    previous: list[float] = [float(j) for j in range(len(b) + 1)]
    for i, left in enumerate(a, 1):
        current = [float(i)]
        for j, right in enumerate(b, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, before[j - 2] + _SWAP)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` or, when nothing is near, the words that are known."""
    names = list(known)
    near = nearest(word, names)
    return f"did you mean {near!r}?" if near else f"known here: {', '.join(names)}"
