"""For how long the log was surely quiet: what ``--until-idle`` waits for."""

from __future__ import annotations

GAP_S = 3.0
"""Not heard of for as long, a broker may hold something new: a member hears of one every second at least."""


class QuietTime:
    """Seconds in which a broker was heard of and had nothing for us. All times are monotonic seconds."""

    def __init__(self, since_s: float, *, gap_s: float = GAP_S) -> None:
        self._since_s = self._heard_s = since_s
        self._gap_s = gap_s

    def disturbed(self, at_s: float) -> None:
        """There was something to do."""
        self._since_s = max(self._since_s, at_s)

    def heard(self, at_s: float) -> None:
        """A broker was last heard of then. After a gap the quiet begins anew: an outage is no idleness."""
        if at_s - self._heard_s > self._gap_s:
            self.disturbed(at_s)
        self._heard_s = max(self._heard_s, at_s)

    @property
    def seconds(self) -> float:
        """How long it is quiet, as far as a broker was heard of; below 0 before it began."""
        return self._heard_s - self._since_s
