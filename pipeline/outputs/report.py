"""The report of a run: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.events import Event
from pipeline.core.frame import Picture
from pipeline.core.ledger import LedgerLine
from pipeline.core.rules import CameraRules
from pipeline.core.tracks import TrackView


class ReportBuilder:
    """Gathers what the page shows, in memory that does not grow with the length of the run."""

    def __init__(self, rules: Sequence[CameraRules] = (), *, bins: int = 240, last_events: int = 200) -> None:
        """rules: cameras in the order of the page; others are added as they appear."""

    def still(self, camera_id: str, picture: Picture) -> None:
        """A picture of the camera to lay the heat map on; the first is kept."""

    def tracks(self, camera_id: str, tracks: Sequence[TrackView], width: int, height: int, at_us: int) -> None:
        """The confirmed tracks of one analysed frame; width and height are the space of their boxes."""

    def event(self, event: Event) -> None:
        """Any event or count window of the run."""

    def write(
        self,
        path: Path,
        *,
        ledger: Mapping[str, LedgerLine],
        model_card_markdown: str | None = None,
        model_facts: Mapping[str, Any] | None = None,
        config_yaml_redacted: str | None = None,
        versions: Mapping[str, str] | None = None,
        failures: Mapping[str, str] | None = None,
    ) -> None:
        """Write the page. failures: camera_id -> why it could not be read to its end. Raises OutputError."""
        raise NotImplementedError
