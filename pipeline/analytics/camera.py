"""One camera's whole analytics: detections of its frames in, events and tracks out.

Pure and deterministic: no clock, no I/O; the same frames and detections give the same events, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.core.classes import Group
from pipeline.core.detections import Detections
from pipeline.core.events import Crossings, Event, Origin
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules
from pipeline.core.tracks import TrackView


@dataclass(frozen=True, slots=True)
class Observation:
    """What one frame (or a change of status) brought.

    events: in event-time order; never earlier than an event already given for this camera.
    tracks: the confirmed tracks of this frame, in the order of their numbers.
    occupancy: group -> confirmed tracks in the picture now. totals: line -> group or class -> crossings since the
    counters' reset.
    """

    events: tuple[Event, ...] = ()
    tracks: tuple[TrackView, ...] = ()
    occupancy: Mapping[Group, int] = field(default_factory=dict)
    totals: Mapping[str, Mapping[str, Crossings]] = field(default_factory=dict)


class CameraAnalytics:
    """Tracker, lines, zones and count windows of one camera.

    provenance: ``model``, ``model_version``, ``model_sha256``, ``config_sha256``; goes into every event.
    """

    def __init__(self, rules: CameraRules, *, provenance: Mapping[str, str]) -> None:
        self._rules = rules
        self._provenance = dict(provenance)

    def observe(self, window: FrameWindow, frame: Frame, detections: Detections, origin: Origin) -> Observation:
        """Take one frame of ``window``; frames come in order, each once.

        A window of a newer epoch first closes what the older one left open.
        """
        return Observation()

    def status(self, window: FrameWindow, origin: Origin) -> Observation:
        """Take a window that carries a StreamStatus: emits camera.status; "ended" also closes tracks and counts."""
        return Observation()

    def close(self) -> Observation:
        """The stream is finished without having said so: exits of what is inside, the last, partial count window."""
        return Observation()

    def snapshot(self) -> bytes:
        """The whole state; ``restore`` goes on from it with byte-equal events."""
        return b""

    @classmethod
    def restore(cls, rules: CameraRules, provenance: Mapping[str, str], blob: bytes) -> CameraAnalytics:
        """An instance that continues where ``snapshot`` was taken.

        Raises RecordMalformed when ``blob`` is not a snapshot of this version.
        """
        return cls(rules, provenance=provenance)
