"""Ingest workers over a real broker: the windows of one process, taken over, changed and stopped while they run."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import KafkaConfig, load_config
from pipeline.core.frame import FrameWindow
from pipeline.services.ingest import through_encoding
from tests.broker import Broker, BrokerMaker
from tests.e2e.feeding import windows_of
from tests.e2e.ingesting import (
    Kept,
    frames_of,
    log_of,
    passerby,
    set_up,
    statuses_of,
    told,
    until,
    valid,
    workers,
    write_config,
)  # fmt: skip
from tests.rtsp_server import RtspServer, require_rtsp
from tests.sources.material import write_clip

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
SESSION = ("--session-timeout", "6")


def street(seed: int, duration_s: int) -> dict[str, str]:
    return {"source": f"synthetic://street?seed={seed}&duration={duration_s}&width=320&height=180"}


def undisturbed(config: Path, camera_id: str) -> list[FrameWindow]:
    """The camera's windows as one process makes them, their pictures through the same JPEG."""
    return [through_encoding(window, "jpeg", 85) for window in windows_of(load_config(config), camera_id)]


def seen(settings: KafkaConfig, camera_id: str) -> list[Kept]:
    return log_of(settings).get(camera_id, [])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight clips: as a camera, eight epochs."""
    folder = tmp_path_factory.mktemp("clips")
    for n in range(8):
        write_clip(folder / f"{n}.mp4", frames=150, first=n * 200, size=(640, 384))
    return folder


def test_a_fleet_is_sent_once_with_the_very_windows_of_one_process(broker: Broker, prefix: str, tmp_path: Path) -> None:
    settings = broker.settings(prefix)
    clip = write_clip(tmp_path / "clip.mp4", frames=90)
    cameras = {"film": {"source": str(clip), "start": "2026-01-01T08:00:00Z"}, "street": street(7, 12)}
    config = write_config(tmp_path / "p.yaml", settings, {**cameras, "gone": {"source": str(tmp_path / "gone.mp4")}})
    set_up(config)
    with workers(config, "--once") as start:
        worker = start("a")
        assert worker.wait(120) == 3
        assert worker.says("passerby: gone:")
    log = log_of(settings)
    want = load_config(config)
    for camera_id in cameras:
        whole = [through_encoding(w, "jpeg", 85) for w in windows_of(want, camera_id)]
        kept = valid(log[camera_id])
        assert len(kept) == len(log[camera_id]), "nothing is void"
        assert [(w.epoch, w.sequence, told(w), w.status, w.width, w.time_source) for w in kept] == [
            (w.epoch, w.sequence, told(w), w.status, w.width, w.time_source) for w in whole
        ]
        assert {w.revision for w in kept} != {-1}
    assert [state for state, _ in statuses_of(valid(log["gone"]))] == ["down"]
    with workers(config, "--once") as start:
        assert start("b").wait(120) == 3, "what failed is tried again, what is told is not"
    again = log_of(settings)
    assert {camera_id: len(again[camera_id]) for camera_id in cameras} == {
        camera_id: len(log[camera_id]) for camera_id in cameras
    }


def test_kill_9_of_a_reader_loses_and_doubles_no_frame(
    broker: Broker, prefix: str, tmp_path: Path, clips: Path
) -> None:
    settings = broker.settings(prefix)
    cameras: dict[str, Any] = {"folder": {"source": str(clips)}, "one": street(1, 20), "two": street(2, 20)}
    config = write_config(tmp_path / "p.yaml", settings, cameras)
    set_up(config)
    with workers(config, "--once", *SESSION) as start:
        first = start("a")
        until(lambda: all(len(seen(settings, c)) >= 4 for c in ("one", "two")), 90, "windows of the first worker")
        second = start("b")
        first.kill()
        assert second.wait(200) == 0
    log = log_of(settings)
    for camera_id in cameras:
        kept = valid(log[camera_id])
        assert frames_of(kept) == frames_of(undisturbed(config, camera_id)), camera_id
        assert [state for state, _ in statuses_of(kept)] == ["ended"]
    assert max(w.epoch for w in valid(log["one"])) >= 2


def test_a_reader_that_was_stopped_for_too_long_is_void_when_it_comes_back(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    settings = broker.settings(prefix)
    config = write_config(tmp_path / "p.yaml", settings, {"one": street(3, 40)})
    set_up(config)
    with workers(config, "--once", *SESSION) as start:
        first = start("a")
        until(lambda: len(seen(settings, "one")) >= 3, 90, "windows of the first worker")
        first.signal(signal.SIGSTOP)
        second = start("b")
        until(lambda: any(k.window.epoch == 2 and k.window.frames for k in seen(settings, "one")), 90, "a takeover")
        first.signal(signal.SIGCONT)
        assert second.wait(200) == 0
        assert first.wait(200) == 0
    kept = valid(seen(settings, "one"))
    assert frames_of(kept) == frames_of(undisturbed(config, "one"))
    assert [w.sequence for w in kept if w.epoch == 2][:2] == [0, 1]


def test_apply_while_running_changes_only_what_changed(broker: Broker, prefix: str, tmp_path: Path) -> None:
    settings = broker.settings(prefix)
    line = {"points": [[0.0, 0.5], [1.0, 0.5]]}
    cameras: dict[str, Any] = {c: {**street(n, 400), "lines": {"l": line}} for n, c in enumerate(("ruled", "masked"))}
    cameras |= {"left": street(5, 400), "removed": street(6, 400)}
    config = write_config(tmp_path / "p.yaml", settings, cameras)
    set_up(config)

    def newest(camera_id: str) -> FrameWindow:
        kept = seen(settings, camera_id)
        return kept[-1].window

    with workers(config, *SESSION) as start:
        worker = start("a")
        until(lambda: all(len(seen(settings, c)) >= 2 for c in cameras), 90, "windows of all")
        before = {c: newest(c).revision for c in cameras}
        changed = {c: dict(told) for c, told in cameras.items() if c != "removed"}
        changed["ruled"] = {**changed["ruled"], "lines": {"l": {"points": [[0.0, 0.7], [1.0, 0.7]]}}}
        changed["masked"] = {**changed["masked"], "masks": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}
        changed["added"] = street(9, 400)
        config.write_text(json.dumps({**json.loads(config.read_text()), "cameras": changed}))
        said = passerby("apply", "-c", str(config), "--dry-run")
        assert "1 new, 2 changed, 1 removed, 1 unchanged" in said
        assert "lines.l.points" in said
        assert "kept: removed" in passerby("apply", "-c", str(config))
        assert "1 removed, 4 unchanged" in passerby("apply", "-c", str(config), "--prune")
        until(lambda: newest("ruled").revision > before["ruled"], 60, "the new line's revision")
        until(lambda: bool(seen(settings, "added")), 60, "the new camera")
        until(lambda: newest("masked").revision > before["masked"] and newest("masked").frames, 60, "the new mask")
        until(lambda: newest("removed").status is not None, 60, "the end of the removed camera")
        assert worker.stop() == 0
    log = {c: valid(kept) for c, kept in log_of(settings).items()}
    for camera_id, epochs in (("ruled", {1}), ("left", {1}), ("masked", {1, 2}), ("added", {1}), ("removed", {1})):
        assert {w.epoch for w in log[camera_id]} == epochs, camera_id
    assert all(frame.picture.max() < 16 for w in log["masked"] if w.epoch == 2 for frame in w.frames)
    for camera_id in ("ruled", "masked", "left"):
        indices = [index for index, *_ in frames_of(log[camera_id])]
        assert indices == sorted(set(indices)), "no frame twice"
        pts = [pts_us for _, pts_us, *_ in frames_of(log[camera_id])]
        assert all(0 < b - a <= 160_000 for a, b in pairwise(pts)), "none is missing"
    assert statuses_of(log["removed"]) == [("ended", "removed from the configuration")]


@pytest.fixture
def camera() -> Iterator[str]:
    require_rtsp()
    with RtspServer("--size", "320x192") as server:
        yield server.url()


@pytest.mark.rtsp
def test_a_start_without_a_broker_keeps_what_a_live_camera_shows(
    own_broker: BrokerMaker, prefix: str, tmp_path: Path, camera: str
) -> None:
    broker = own_broker()
    settings = broker.settings(prefix)
    config = write_config(tmp_path / "p.yaml", settings, {"gate": {"source": camera}})
    set_up(config)
    with workers(config, *SESSION) as start:
        worker = start("a")
        until(lambda: len(seen(settings, "gate")) >= 3, 90, "windows with a broker")
        assert worker.stop() == 0
        before = seen(settings, "gate")
        broker.kill()
        worker = start("a")
        spool = tmp_path / "spool" / "a"
        until(lambda: sum(p.stat().st_size for p in spool.rglob("*.seg")) > 40_000, 90, "windows in the spool")
        assert worker.says("no broker answers")
        back = threading.Thread(target=broker.start)
        back.start()
        back.join()
        until(lambda: len(valid(seen(settings, "gate"))) >= len(before) + 6, 120, "what was spooled")
        assert worker.stop() == 0
    kept = valid(seen(settings, "gate"))
    after = [w for w in kept if w.epoch > before[-1].window.epoch]
    assert (after[0].frames, after[0].status) == ((), None), "a marker first"
    assert [w.sequence for w in after if w.epoch == after[0].epoch] == list(
        range(sum(w.epoch == after[0].epoch for w in after))
    )
    assert len({w.writer for w in after}) == 1
    times = [at_us for _, _, at_us, _ in frames_of(kept)]
    assert times == sorted(set(times))
    assert not list(spool.rglob("*.seg")), "the spool is empty"
