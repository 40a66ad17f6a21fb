"""What is wrong with a configuration: where, what, and the mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config.secrets import redact
from pipeline.errors import ConfigError

Severity = Literal["error", "warning"]


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


class ConfigProblems(ConfigError):
    """Everything that is wrong with a configuration, sorted by its place; ``str`` is one line a problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column, p.key, p.message)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
