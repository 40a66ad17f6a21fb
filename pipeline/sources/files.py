"""Recordings on this machine: a file, or a folder of clips. Read whole, in the thread that consumes the stream.

file     EpochStarted, every sampled frame, StatusChanged("ended")
folder   its clips in the order of their names, each an epoch of its own; times go on where the last clip ended
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.frame import Frame
from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceError, SourceUnreadable
from pipeline.sources.address import VIDEO_SUFFIXES, Address, locate
from pipeline.sources.base import (
    EpochStarted,
    PictureSize,
    SampledFrame,
    StreamHealth,
    StreamItem,
    StreamSettings,
)
from pipeline.sources.sampling import Sampler
from pipeline.sources.timeline import Timeline
from pipeline.sources.video import DecodedFrame, Video
from pipeline.sources.video_picture import PictureMaker
from pipeline.sources.whole import WholeStream

_CLIPS_MEASURED = 200


@dataclass(slots=True)
class _Tally:
    """What happened to one clip."""

    frames: int = 0
    corrupt_packets: int = 0
    broke_off_s: float | None = None
    declared_s: float | None = None

    def words(self) -> str:
        """What was lost, or an empty text."""
        told = []
        if self.corrupt_packets:
            plural = "" if self.corrupt_packets == 1 else "s"
            told.append(f"{self.corrupt_packets} corrupt packet{plural} skipped")
        if self.broke_off_s is not None:
            of = f" of {self.declared_s:.1f} s" if self.declared_s else ""
            told.append(f"it breaks off at {self.broke_off_s:.1f} s{of}")
        return ", ".join(told)


class FileStream(WholeStream):
    """The stream of a file or of a folder of clips; see ``pipeline.sources.base.Stream``."""

    def __init__(
        self,
        settings: StreamSettings,
        address: Address,
        picture_size: PictureSize,
        ledger: FrameLedger,
        stop: threading.Event,
    ) -> None:
        super().__init__(settings, picture_size, ledger, stop)
        self._address = address
        self._pictures = PictureMaker(picture_size, settings.masks, settings.preview_width)
        self._elapsed_us = 0  # stream time before the epoch being read
        self._durations_s: dict[Path, float | None] = {}
        self._corrupt_packets = 0
        self._repaired = 0
        self._opened = 0

    @property
    def duration_s(self) -> float | None:
        """Declared seconds of the file, or of all clips; None if one does not say, and before the first read."""
        durations = list(self._durations_s.values())
        known = [d for d in durations if d is not None]
        return sum(known) if durations and len(known) == len(durations) else None

    @property
    def health(self) -> StreamHealth:
        """What was lost or mended."""
        return StreamHealth(self._corrupt_packets, self._repaired, connections=self._opened)

    def _read(self) -> Generator[StreamItem, None, None]:
        self._ledger.open(self._settings.camera_id)
        if self._address.kind == "folder":
            yield from self._read_folder(Path(self._address.target))
        else:
            yield from self._read_file()

    def _read_file(self) -> Iterator[StreamItem]:
        tally = _Tally()
        path = Path(self._address.shown)
        try:
            with Video(self._address, self._settings) as video:
                self._durations_s[path] = video.duration_s
                yield from self._read_video(video, tally)
        except SourceError as error:
            yield self._status("down", str(error))
            raise
        if not self._stop.is_set():
            lost = tally.words()
            yield self._status("ended", f"read to its end, {lost}" if lost else "read to its end")

    def _read_folder(self, folder: Path) -> Iterator[StreamItem]:
        clips = clips_in(folder)
        if not clips:
            failure = SourceUnreadable(f"{folder}: no video clips in this folder")
            yield self._status("down", str(failure))
            raise failure
        failures: list[SourceError] = []
        lost: list[str] = []
        self._durations_s = measured_durations(clips, self._settings)
        for clip in clips:
            if self._stop.is_set():
                return
            tally = _Tally()
            try:
                with Video(locate(str(clip)), self._settings) as video:
                    yield from self._read_video(video, tally)
            except SourceError as error:
                failures.append(error)
                if not self._is_told(self._start_us + self._position_us):
                    yield self._status("down", str(error))
            if tally.words():
                lost.append(f"{clip.name}: {tally.words()}")
        if self._stop.is_set():
            return
        if len(failures) == len(clips):
            raise SourceUnreadable(f"{folder}: none of its {len(clips)} clips can be read; {failures[0]}")
        unread = [f"{len(failures)} of {len(clips)} clips cannot be read"] if failures else []
        yield self._status("ended", "; ".join(["read to its end", *unread, *lost]))
        if failures:
            raise SourceUnreadable(f"{folder}: {unread[0]}; {failures[0]}")

    def _read_video(self, video: Video, tally: _Tally) -> Iterator[StreamItem]:
        """All epochs of one file: one, unless its clock jumps."""
        s = self._settings
        timeline = Timeline(usual_us=round(1e6 / video.declared_fps) if video.declared_fps else 0)
        sampler = Sampler(s.sample_fps)
        index = began_us = 0
        clip_began_us = self._elapsed_us
        self._opened += 1
        begun = False
        for decoded in video.frames(self._picture_size):
            if self._stop.is_set():
                return
            tick = timeline.tick(decoded.raw_us)
            if tally.frames == 0 or tick.jump_us is not None:
                index, began_us, sampler = 0, tick.pts_us, Sampler(s.sample_fps)
                self._elapsed_us, begun = clip_began_us + tick.pts_us, False
            tally.frames += 1
            pts_us = tick.pts_us - began_us
            self._position_us = clip_began_us + tick.pts_us
            taken = sampler.take(pts_us)
            if not self._is_told(self._start_us + self._position_us):
                if not begun:
                    begun = True
                    self._epoch += 1
                    yield EpochStarted(self._epoch, "pts", self._start_us + self._elapsed_us)
                if taken:
                    yield self._frame(decoded, index, pts_us)
                else:
                    self._ledger.captured_and_sampled_out(s.camera_id)
            index += 1
            self._corrupt_packets += video.corrupt_packets - tally.corrupt_packets
            tally.corrupt_packets = video.corrupt_packets
        self._finish(video, timeline, tally, clip_began_us)

    def _finish(self, video: Video, timeline: Timeline, tally: _Tally, clip_began_us: int) -> None:
        self._corrupt_packets += video.corrupt_packets - tally.corrupt_packets
        tally.corrupt_packets = video.corrupt_packets
        if tally.frames == 0:
            damage = " (damaged, or cut off before its first frame)" if tally.corrupt_packets else ""
            raise SourceUnreadable(f"{video.address.shown}: not one frame can be decoded{damage}")
        self._repaired += timeline.repaired
        end_us = timeline.end_us
        tally.declared_s = video.duration_s
        if video.broke_off or video.missing_s > max(1.0, 0.02 * (video.duration_s or 0.0)):
            tally.broke_off_s = end_us / 1e6
        self._elapsed_us = clip_began_us + end_us
        self._position_us = self._elapsed_us

    def _frame(self, decoded: DecodedFrame, index: int, pts_us: int) -> SampledFrame:
        s = self._settings
        self._ledger.captured(s.camera_id)
        try:
            picture = self._pictures.picture(decoded.image)
            preview = self._pictures.preview(decoded.image) if s.wants_preview(index) else None
        except BaseException:
            self._ledger.dropped(s.camera_id, 1, "failed")
            raise
        frame = Frame(index, pts_us, self._start_us + self._elapsed_us + pts_us, picture, preview)
        return SampledFrame(self._epoch, frame, *self._pictures.shown_size(decoded.image))


def clips_in(folder: Path) -> list[Path]:
    """The clips of a folder in the order of their names; hidden files and other kinds of files are passed over."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def measured_durations(clips: list[Path], settings: StreamSettings) -> dict[Path, float | None]:
    """What each clip declares; clips that cannot be opened count as 0 s. Of many clips: nothing, it takes too long."""
    if len(clips) > _CLIPS_MEASURED:
        return dict.fromkeys(clips)
    durations: dict[Path, float | None] = {}
    for clip in clips:
        try:
            with Video(locate(str(clip)), settings) as video:
                durations[clip] = video.duration_s
        except SourceError:
            durations[clip] = 0.0
    return durations
