"""One taking of one camera: how its windows are numbered, held back without a claim, and what is noted of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.bus.base import Message
from pipeline.bus.codec import window_facts
from pipeline.bus.documents import encode_state
from pipeline.bus.topics import IngestState
from pipeline.core.frame import StreamStatus
from pipeline.errors import BusUnavailable
from pipeline.services.epochs import Ask, EpochClaims
from pipeline.services.fleet import FleetCamera, planned
from pipeline.services.ingest_notes import Notes
from pipeline.services.ingest_session import CameraSession, SessionParts, Tenure
from pipeline.services.ingest_worker import account, read_cache, write_cache
from pipeline.sources.base import SystemClock
from tests.services.test_fleet_epochs import Log, facts
from tests.services.test_fleet_sending import Rig, window
from tests.sources.material import write_clip


class _Recorder:
    def camera_came(self, camera_id: str, health: object = None) -> None: ...
    def camera_left(self, camera_id: str) -> None: ...
    def status(self, camera_id: str, status: StreamStatus) -> None: ...
    def decoded(self, seconds: float) -> None: ...
    def encoded(self, seconds: float) -> None: ...


class _Place:
    """One worker's parts over the model of the log."""

    def __init__(self, folder: Path) -> None:
        self.rig, self.log = Rig(folder / "spool"), Log()
        self.claims = EpochClaims(self.log)
        self.rig.sender.start(self.rig.broker)
        self.parts = SessionParts(
            self.claims, self.rig.sender, self.rig.ledger, _Recorder(), SystemClock(), grace_s=0.2
        )  # fmt: skip
        self.noted: list[IngestState] = []
        self.notes = Notes(self.rig.sender, self._note)

    def _note(self, partition: int, state: IngestState) -> bool:
        assert encode_state(state).value
        self.noted.append(state)
        return True

    def session(self, camera: FleetCamera, folder: Path, *, assigned: bool = True) -> CameraSession:
        session = CameraSession(camera, planned(camera, {}, folder), self.parts, f"w-{id(camera)}", assigned=assigned)
        self.rig.told.clear()
        self.rig.acknowledged = lambda facts, sent: session.tenure.acknowledged(facts, sent)
        return session

    def finish(self, session: CameraSession) -> None:
        session.start()
        assert session.join(60)
        self.rig.until(lambda: not self.rig.sender.is_sending(session.camera.camera_id))
        self.notes.finished(session)

    def close(self) -> None:
        self.rig.close()


@pytest.fixture
def place(tmp_path: Path) -> _Place:
    return _Place(tmp_path)


def film(tmp_path: Path, url: str | None = None, **more: object) -> FleetCamera:
    path = tmp_path / "clip.mp4"
    if url is None and not path.exists():
        write_clip(path, frames=50)
    return FleetCamera("film", 0, 4, {"source": {"url": url or str(path)}, **more})


def test_a_film_nobody_has_seen_is_epoch_1_from_sequence_0_and_noted_as_ended(place: _Place, tmp_path: Path) -> None:
    session = place.session(film(tmp_path), tmp_path)
    place.finish(session)
    assert place.rig.broker.log == [("film", 1, 0), ("film", 1, 1), ("film", 1, 2)]
    assert [(s.epoch, s.more["outcome"]) for s in place.noted] == [(1, "ended")]
    line = place.rig.ledger.lines()["film"]
    assert (line.captured, line.analysed, line.balanced) == (50, 16, True)
    assert account(line) == "50 frames, 16 sent, 34 sampled out"
    place.close()


def test_a_camera_that_left_the_fleet_leaves_no_account(place: _Place, tmp_path: Path) -> None:
    session = place.session(film(tmp_path), tmp_path)
    place.finish(session)
    assert "film" in place.rig.ledger.lines()
    session.removed()
    place.rig.until(lambda: not place.rig.sender.is_sending("film"))
    assert not place.rig.ledger.lines()
    place.close()


def test_who_takes_over_numbers_behind_its_marker(place: _Place, tmp_path: Path) -> None:
    place.log.send(6, "other", -1)
    place.log.states_.append(IngestState("film", 6, 0, "other"))
    place.finish(place.session(film(tmp_path), tmp_path))
    assert [(w.epoch, w.sequence) for w in place.log.windows_[1:]] == [(7, 0)]
    assert place.rig.broker.log == [("film", 7, 1), ("film", 7, 2), ("film", 7, 3)]
    place.close()


def test_a_film_that_is_not_there_is_down_and_noted_as_failed(place: _Place, tmp_path: Path) -> None:
    session = place.session(film(tmp_path, "gone.mp4"), tmp_path)
    place.finish(session)
    assert place.rig.broker.log == [("film", 1, 0)]
    assert place.noted[-1].more["outcome"] == "failed"
    assert "gone.mp4" in place.noted[-1].more["reason"]
    assert not session.may_try_again
    place.close()


def test_a_camera_that_is_configured_wrong_is_down_with_the_reason(place: _Place, tmp_path: Path) -> None:
    session = place.session(FleetCamera("gate", 0, 1, {"source": {"url": "rtsp://u:${NOT_SET_1}@h/s"}}), tmp_path)
    place.finish(session)
    assert place.rig.broker.log == [("gate", 1, 0)]
    assert "NOT_SET_1" in str(session.failure)
    assert place.noted == []
    place.close()


def test_a_recording_waits_for_its_claim(place: _Place, tmp_path: Path) -> None:
    place.log.away = True
    session = place.session(film(tmp_path), tmp_path)
    session.start()
    assert not session.join(1.0)
    assert place.rig.broker.log == []
    place.log.away = False
    assert session.join(60)
    place.rig.until(lambda: len(place.rig.broker.log) == 3)
    place.close()


def test_a_live_camera_does_not_wait_and_its_windows_are_numbered_when_they_leave(
    place: _Place, tmp_path: Path
) -> None:
    def not_yet(_message: Message) -> Message | None:
        raise BusUnavailable("not claimed")

    place.rig.settled = not_yet
    played = FleetCamera("gate", 0, 4, {"source": {"url": "/dev/video99"}})
    session = place.session(played, tmp_path, assigned=False)
    session.start()
    place.rig.until(lambda: place.rig.spool.waiting("gate") > 0)  # its status: there is no such device
    session.stop()
    assert session.join(30)
    assert place.rig.broker.log == []
    place.log.send(3, "other")
    place.log.states_.append(IngestState("gate", 3, 0, "other"))
    held = place.rig.spool.read("gate")[0].message
    settled = session.tenure.settled(held, session.tenure.take(place.claims))
    told = window_facts(settled.value or b"")
    assert (told.epoch, told.sequence) == (4, 1)
    assert all(name != "held-back" for name, _ in settled.headers)
    assert place.log.windows_[-1].epoch == 4, "the marker"
    place.close()


def test_a_tenure_is_claimed_once_whoever_asks() -> None:
    log = Log()
    claims, tenure = EpochClaims(log), Tenure(Ask("gate", 3, "w", ""))
    asked = [threading.Thread(target=tenure.take, args=(claims,)) for _ in range(8)]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    assert len(log.states_) == 1
    with pytest.raises(BusUnavailable):
        Tenure(Ask("yard", 3, "w", "")).take(EpochClaims(Log(away=True)))


def test_what_the_log_has_is_noted_and_nothing_else(place: _Place) -> None:
    tenure = Tenure(Ask("gate", 3, "w", "film"))
    tenure.take(place.claims)
    place.notes.write([tenure])
    assert place.noted == []

    class _Sent:
        partition, offset = 3, 17

    tenure.acknowledged(facts(1, "w", 500), _Sent())
    place.notes.write([tenure])
    place.notes.write([tenure])
    assert [(s.windows_offset, s.more["last_us"], s.writer) for s in place.noted] == [(18, 500, "w")]
    place.close()


def test_the_cameras_are_kept_for_a_start_without_a_broker(tmp_path: Path) -> None:
    path = tmp_path / "cameras.json"
    assert read_cache(path) is None
    cameras = [FleetCamera("gate", 3, 9, {"source": {"url": "rtsp://u:${GATE_PASSWORD}@h/s"}})]
    write_cache(path, cameras)
    assert read_cache(path) == cameras
    assert "${GATE_PASSWORD}" in path.read_text()
    path.write_text('{"cameras": [{"camera_id"')
    assert read_cache(path) is None
    write_cache(tmp_path / "no" / "such" / "folder.json", cameras)


def test_a_window_of_the_fake_is_what_the_sender_takes() -> None:
    assert window_facts(window("gate", 4).value or b"").sequence == 4
