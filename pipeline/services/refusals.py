"""Windows that an inference worker does not analyse again, since who else tries would fail as well (0077, 0094).

- One on which the analytics failed, by its place in the log.
- Those of a camera whose state the topic does not take: all that come under the same document in the same epoch. A new
  epoch has no tracks and a new document may ask for less, so then it is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core.frame import FrameWindow
from pipeline.errors import RecordTooLarge
from pipeline.services.stages import Refused

Place = tuple[int, int]
"""Partition and offset."""


class Refusals:
    """What a worker remembers of them. Belongs to one thread."""

    def __init__(self) -> None:
        self._failed: dict[Place, str] = {}
        self._too_large: dict[tuple[str, int, int], RecordTooLarge] = {}  # by camera, epoch, revision
        self._analysed: dict[str, tuple[int, int]] = {}  # epoch and revision of each camera's last, not committed yet
        self._unwritten: set[str] = set()

    def check(self, place: Place, window: FrameWindow) -> None:
        """Raises Refused for a window that is one of them."""
        why = self._failed.get(place)
        if why is not None:
            raise Refused(why)
        error = self._too_large.get((window.camera_id, window.epoch, window.revision))
        if error is not None:
            raise Refused(str(error)) from error

    def analysed(self, window: FrameWindow) -> None:
        """A window was analysed; it is not committed yet."""
        self._analysed[window.camera_id] = (window.epoch, window.revision)

    def is_unwritten(self, camera_id: str) -> bool:
        """Whether not even the state that a camera had fits any more: it stays in the log as it is."""
        return camera_id in self._unwritten

    def failed(self, place: Place, why: str) -> None:
        """The analytics failed on this window."""
        self._failed[place] = why

    def too_large(self, error: RecordTooLarge) -> bool:
        """A record of a camera does not fit: its windows are refused when they come again. False when that cannot be
        why: then nothing is left to be tried."""
        epoch_and_revision = self._analysed.get(error.key)
        if epoch_and_revision is not None:
            self._too_large[error.key, *epoch_and_revision] = error
        elif error.key in self._unwritten or not any(camera_id == error.key for camera_id, *_ in self._too_large):
            return False
        else:
            self._unwritten.add(error.key)
        return True

    def dropped(self) -> None:
        """What was not committed comes again."""
        self._analysed.clear()

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Everything before these offsets, by partition, is done."""
        self._analysed.clear()
        self._failed = {at: why for at, why in self._failed.items() if at[1] >= offsets.get(at[0], at[1] + 1)}
        newest: dict[str, int] = {}
        for camera_id, epoch, _ in self._too_large:
            newest[camera_id] = max(epoch, newest.get(camera_id, epoch))
        self._too_large = {key: error for key, error in self._too_large.items() if key[1] == newest[key[0]]}

    def forget(self, camera_id: str) -> None:
        """The camera is another worker's, or no more."""
        self._analysed.pop(camera_id, None)
        self._unwritten.discard(camera_id)
        self._too_large = {key: error for key, error in self._too_large.items() if key[0] != camera_id}
