"""How long to wait before knocking again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Exponential back-off with full jitter and a cap.

    The n-th wait since the last success is uniform in [0, min(cap_s, first_s * 2**n)]: cameras that failed together
    do not come back together ("full jitter": Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015).
    """

    first_s: float
    cap_s: float
    random: random.Random = field(default_factory=random.Random)
    _failures: int = 0

    def delay_s(self) -> float:
        """Seconds to wait after one more failure; never above ``cap_s``."""
        # Beyond 2**32 the cap has long been reached; the bound keeps the float finite for ever.
        bound_s = min(self.cap_s, self.first_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self.random.uniform(0.0, bound_s)

    def slow_delay_s(self) -> float:
        """Seconds to wait after being denied: in the upper half of the cap, so that no account gets locked."""
        self._failures += 1
        return self.random.uniform(self.cap_s / 2, self.cap_s)

    def succeeded(self) -> None:
        """Frames came: the next failure is a first one."""
        self._failures = 0
