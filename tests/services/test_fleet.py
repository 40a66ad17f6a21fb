"""Cameras that come, change and go: what restarts a stream, what does not, and that no camera touches another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.bus.topics import CameraDocument
from pipeline.config import camera_document, load_config
from pipeline.errors import ConfigError
from pipeline.services.documents import Held, compare
from pipeline.services.fleet import Fleet, FleetCamera, Plan, planned, recording_of

ENV = {"GATE_PASSWORD": "s3cret-of-the-gate"}


class FakeSession:
    """A session that only notes what is asked of it."""

    def __init__(self, camera: FleetCamera, plan: Plan, told: list[str]) -> None:
        self.camera, self.plan, self._told = camera, plan, told

    def _tell(self, what: str) -> None:
        self._told.append(f"{what} {self.camera.camera_id}")

    def start(self) -> None:
        self._tell("start")

    def update(self, camera: FleetCamera, plan: Plan) -> None:
        self.camera = camera
        self._tell("update")

    def stop(self) -> None:
        self._tell("stop")

    def join(self, timeout_s: float) -> bool:
        return True

    def removed(self) -> None:
        self._tell("removed")


class Rig:
    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder, self.told = folder, list[str]()
        self.fleet = Fleet(
            lambda camera: planned(camera, ENV if env is None else env, folder),
            lambda camera, plan: FakeSession(camera, plan, self.told),
        )

    def take(self) -> list[str]:
        told, self.told[:] = list(self.told), []
        return told

    def change(self, revision: int, camera_id: str, document: dict[str, Any] | None) -> list[str]:
        self.fleet.change(0, revision, CameraDocument(camera_id, document))
        return self.take()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def document(**more: Any) -> dict[str, Any]:
    return {"source": {"url": "rtsp://user:${GATE_PASSWORD}@gate.example/stream"}, "sample_fps": 8.0, **more}


LINE = {"l": {"points": [[0.0, 0.5], [1.0, 0.5]]}}


@pytest.mark.parametrize(
    "more",
    [
        {"lines": LINE},
        {"zones": {"z": {"points": [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]}}},
        {"counts": {"window_s": 20}},
        {"thresholds": {"score": 0.6}},
        {"tracker": {"max_lost_s": 3.0}},
    ],
)
def test_rules_go_on_with_the_stream(rig: Rig, more: dict[str, Any]) -> None:
    assert rig.change(1, "gate", document()) == ["start gate"]
    assert rig.change(2, "gate", document(**more)) == ["update gate"]
    assert rig.fleet.sessions["gate"].camera.revision == 2


@pytest.mark.parametrize(
    "more",
    [
        {"source": {"url": "rtsp://gate.example/other"}},
        {"source": {"url": "rtsp://user:${GATE_PASSWORD}@gate.example/stream", "transport": "udp"}},
        {"masks": [[[0, 0], [0.2, 0], [0.2, 0.1]]]},
        {"sample_fps": 5.0},
        {"windows": {"quality": 70}},
    ],
)
def test_what_is_read_otherwise_restarts_the_stream(rig: Rig, more: dict[str, Any]) -> None:
    rig.change(1, "gate", document())
    rig.change(1, "yard", document())
    assert rig.change(2, "gate", document(**more)) == ["stop gate", "start gate"]


def test_another_start_is_another_recording(rig: Rig, tmp_path: Path) -> None:
    film = {"source": {"url": str(tmp_path / "a.mp4")}}
    rig.change(1, "film", film)
    assert rig.change(2, "film", {**film, "start": "2026-01-01T08:00:00Z"}) == ["stop film", "start film"]


def test_a_camera_that_is_removed_says_so_and_the_others_go_on(rig: Rig) -> None:
    rig.change(1, "gate", document())
    rig.change(2, "yard", document())
    assert rig.change(3, "gate", None) == ["stop gate", "removed gate"]
    assert rig.change(4, "gate", None) == []
    assert list(rig.fleet.sessions) == ["yard"]


def test_an_older_document_changes_nothing(rig: Rig) -> None:
    rig.change(5, "gate", document())
    assert rig.change(4, "gate", document(sample_fps=2.0)) == []
    assert rig.change(3, "gate", None) == []
    rig.change(5, "gate", document())
    assert "gate" in rig.fleet.sessions


def test_a_partition_comes_with_all_its_cameras_and_goes_with_them(rig: Rig) -> None:
    cameras = [FleetCamera(name, 3, n, document()) for n, name in enumerate(("a", "b"))]
    changes = rig.fleet.load(3, cameras)
    assert changes.started == ["a", "b"]
    rig.fleet.change(4, 9, CameraDocument("c", document()))
    rig.take()
    changes = rig.fleet.load(3, cameras[:1])
    assert (changes.removed, changes.started, changes.restarted) == (["b"], [], [])
    assert rig.fleet.release({3}) == {"a"}
    assert list(rig.fleet.sessions) == ["c"]
    assert "removed a" not in rig.told


def test_a_variable_that_is_not_set_is_that_cameras_trouble_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, env={})
    rig.change(1, "gate", document())
    assert rig.change(2, "yard", {"source": {"url": "rtsp://yard.example/s"}}) == ["start yard"]
    error = rig.fleet.sessions["gate"].plan.error
    assert isinstance(error, ConfigError)
    assert "GATE_PASSWORD" in str(error)
    assert rig.fleet.sessions["yard"].plan.error is None


def test_a_model_that_is_not_there_is_that_cameras_trouble_alone(rig: Rig) -> None:
    rig.change(1, "gate", document(model="no-such-model"))
    assert "no-such-model" in str(rig.fleet.sessions["gate"].plan.error)


def test_secrets_stay_out_of_what_a_camera_is_called(tmp_path: Path) -> None:
    camera = FleetCamera("gate", 0, 1, document())
    plan = planned(camera, ENV, tmp_path)
    assert plan.reading is not None
    assert "s3cret-of-the-gate" in plan.reading.settings.source
    assert "s3cret" not in repr(camera)


def test_recordings_have_a_name_and_cameras_have_none(tmp_path: Path) -> None:
    film = {"source": {"url": "films/a.mp4"}}
    assert recording_of(film) == recording_of({**film, "sample_fps": 3})
    assert recording_of(film) != recording_of({**film, "start": "2026-01-01T08:00:00Z"})
    assert recording_of(film) != recording_of({"source": {"url": "films/b.mp4"}})
    assert recording_of({"source": {"url": "synthetic://street?seed=1"}})
    for live in ("rtsp://gate.example/stream", "/dev/video0", "${GATE_URL}://x"):
        assert recording_of({"source": {"url": live}}) == "", live


def test_documents_are_compared_by_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "sample_fps: 5\ncameras:\n"
        "  gate: {source: 'rtsp://u:${GATE_PASSWORD}@gate.example/s', lines: {l: {points: [[0, 0.5], [1, 0.5]]}}}\n"
        "  yard: {source: yard.mp4}\n"
    )
    config = load_config(path, {}, secrets=False)
    want = {camera_id: camera_document(config, camera_id) for camera_id in config.cameras}
    assert "s3cret" not in str(want)
    moved = {**want["gate"], "lines": {"l": {"points": [[0, 0.7], [1, 0.7]]}}}
    there = {
        "gate": Held("gate", 0, 4, moved),
        "yard": Held("yard", 1, 2, dict(reversed(list(want["yard"].items())))),
        "old": Held("old", 2, 1, want["yard"]),
    }
    changes = {change.camera_id: change for change in compare(want, there)}
    assert {camera_id: change.kind for camera_id, change in changes.items()} == {
        "gate": "changed", "yard": "unchanged", "old": "removed",
    }  # fmt: skip
    assert changes["gate"].lines() == [
        "- lines.l.points: [[0, 0.7], [1, 0.7]]",
        "+ lines.l.points: [[0, 0.5], [1, 0.5]]",
    ]
    assert [change.kind for change in compare(want, {})] == ["new", "new"]
