"""The report of a run: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.events import COUNT_WINDOW, LINE_CROSSED, ZONE_ENTERED, ZONE_EXITED, Event
from pipeline.core.frame import Picture
from pipeline.core.ledger import LedgerLine
from pipeline.core.rules import CameraRules
from pipeline.core.tracks import TrackView
from pipeline.errors import OutputError
from pipeline.outputs import page
from pipeline.outputs.camera_log import CameraLog

# What happens all the time must not push out what somebody has to know about.
_COMMON = frozenset({LINE_CROSSED, ZONE_ENTERED, ZONE_EXITED})


class ReportBuilder:
    """Gathers what the page shows, in memory that does not grow with the length of the run. Not thread-safe."""

    def __init__(self, rules: Sequence[CameraRules] = (), *, bins: int = 240, last_events: int = 200) -> None:
        """rules: cameras in the order of the page; others are added as they appear.

        bins: the most points of a chart over time. last_events: how many of the last crossings and zone events are
        listed, and as many again of the rarer kinds.
        """
        self._bins = bins
        self._cameras = {each.camera_id: CameraLog(each.camera_id, each, bins) for each in rules}
        self._common: deque[Event] = deque(maxlen=last_events)
        self._rare: deque[Event] = deque(maxlen=last_events)

    def _camera(self, camera_id: str) -> CameraLog:
        if camera_id not in self._cameras:
            self._cameras[camera_id] = CameraLog(camera_id, None, self._bins)
        return self._cameras[camera_id]

    def still(self, camera_id: str, picture: Picture) -> None:
        """A picture of the camera to lay the heat map on; the first is kept."""
        self._camera(camera_id).still(picture)

    def tracks(self, camera_id: str, tracks: Sequence[TrackView], width: int, height: int, at_us: int) -> None:
        """The confirmed tracks of one analysed frame; width and height are the space of their boxes."""
        self._camera(camera_id).tracks(tracks, width, height, at_us)

    def event(self, event: Event) -> None:
        """Any event or count window of the run."""
        self._camera(event.camera_id).event(event)
        if event.type in _COMMON:
            self._common.append(event)
        elif event.type != COUNT_WINDOW:
            self._rare.append(event)

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
        """Write the page. failures: camera_id -> why it could not be read to its end. Raises OutputError.

        model_facts, versions: name -> value, as they are to be shown.
        """
        for camera_id in (*ledger, *(failures or {})):
            self._camera(camera_id)
        events = sorted([*self._common, *self._rare], key=lambda event: event.time_us, reverse=True)
        text = page.render(
            page.Facts(
                list(self._cameras.values()),
                events,
                dict(ledger),
                dict(failures or {}),
                model_card_markdown,
                dict(model_facts or {}),
                config_yaml_redacted,
                dict(versions or {}),
            )
        )
        beside = path.with_name(path.name + ".writing")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
