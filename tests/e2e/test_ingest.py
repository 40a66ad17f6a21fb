"""Ingest workers over a real broker: the windows of one process, taken over, changed and stopped while they run."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import pytest

from pipeline.bus.base import Message
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import Topics
from pipeline.config import KafkaConfig, load_config
from pipeline.core.frame import FrameWindow
from pipeline.services.ingest import through_encoding
from pipeline.services.log import untouched
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

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
SESSION = ("--session-timeout", "6")
PATIENCE_S = 200.0
"""On a machine that many tests share; a quiet one needs a tenth."""


@contextmanager
def dripping(clips: dict[str, Path], seconds: float, *, first: float | None = None) -> Iterator[dict[str, str]]:
    """Serves each clip over HTTP within ``seconds`` (the first of all readers: ``first``), whatever the machine can:
    names to URLs."""
    waits = chain([seconds if first is None else first], repeat(seconds))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            data = clips[self.path.strip("/").removesuffix(".mkv")].read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "video/x-matroska")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            wait_s = next(waits) / 400
            with suppress(OSError):
                for n in range(0, 400):
                    self.wfile.write(data[n * len(data) // 400 : (n + 1) * len(data) // 400])
                    time.sleep(wait_s)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield {name: f"http://127.0.0.1:{server.server_port}/{name}.mkv" for name in clips}
    server.shutdown()
    server.server_close()
    thread.join()


def undisturbed(config: Path, camera_id: str) -> list[FrameWindow]:
    """The camera's windows as one process makes them, their pictures through the same JPEG."""
    return [through_encoding(window, "jpeg", 85) for window in windows_of(load_config(config), camera_id)]


def read_here(tmp_path: Path, settings: KafkaConfig, clip: Path) -> list[Any]:
    """The frames of a clip, read undisturbed from this machine's disk."""
    config = write_config(tmp_path / "here.yaml", settings, {"one": {"source": str(clip)}})
    return frames_of(undisturbed(config, "one"))


def seen(settings: KafkaConfig, camera_id: str) -> list[Kept]:
    return log_of(settings).get(camera_id, [])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of numbered pictures."""
    return write_clip(tmp_path_factory.mktemp("film") / "film.mkv", frames=500)


def test_a_fleet_is_sent_once_with_the_very_windows_of_one_process(broker: Broker, prefix: str, tmp_path: Path) -> None:
    settings = broker.settings(prefix)
    clip = write_clip(tmp_path / "clip.mp4", frames=90)
    street = "synthetic://street?seed=7&duration=12&width=160&height=160"
    cameras = {"film": {"source": str(clip), "start": "2026-01-01T08:00:00Z"}, "street": {"source": street}}
    config = write_config(tmp_path / "p.yaml", settings, {**cameras, "gone": {"source": str(tmp_path / "gone.mp4")}})
    set_up(config)
    with workers(config, "--once") as start:
        worker = start("a")
        assert worker.wait(PATIENCE_S) == 3
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
        assert start("b").wait(PATIENCE_S) == 3, "what failed is tried again, what is told is not"
    again = log_of(settings)
    assert {camera_id: len(again[camera_id]) for camera_id in cameras} == {
        camera_id: len(log[camera_id]) for camera_id in cameras
    }


def test_a_damaged_document_is_one_dead_letter_however_many_read_it(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    settings, topics = broker.settings(prefix), Topics(prefix)
    clip = write_clip(tmp_path / "clip.mp4", frames=30)
    config = write_config(tmp_path / "p.yaml", settings, {"film": {"source": str(clip)}})
    set_up(config)

    with KafkaBus(settings, client_id="test") as bus, workers(config) as start:
        producer = bus.producer(untouched(topics.cameras))
        producer.send_message(Message("yard", b"{half"))
        producer.flush(30)
        reader = bus.reader(topics.dead_letters)

        def letters() -> list[Any]:
            ends = reader.ends(reader.partitions())
            return [record.value for partition, end in ends.items() for record in reader.read(partition, 0, end)]

        first = start("a")
        until(lambda: bool(letters()), PATIENCE_S, "the dead letter")
        until(lambda: bool(bus.committed(settings.ingest_group_name, topics.cameras.name)), PATIENCE_S, "the offset")
        assert first.stop() == 0
        assert start("b", "--once").wait(PATIENCE_S) == 0
        (letter,) = letters()
    assert (letter.message, letter.topic, letter.by) == (Message("yard", b"{half"), topics.cameras.name, "ingest")
    assert "not JSON" in letter.reason


def test_kill_9_of_a_reader_loses_and_doubles_no_frame(broker: Broker, prefix: str, tmp_path: Path, film: Path) -> None:
    settings = broker.settings(prefix)
    clips = tmp_path / "clips"
    clips.mkdir()
    for n in range(3):
        write_clip(clips / f"{n}.mp4", frames=75, first=n * 100)
    with dripping({"one": film, "two": film}, 15) as urls:
        cameras = {"folder": {"source": str(clips)}, **{name: {"source": url} for name, url in urls.items()}}
        config = write_config(tmp_path / "p.yaml", settings, cameras)
        set_up(config)
        with workers(config, "--once", *SESSION) as start:
            first = start("a")
            until(lambda: all(len(seen(settings, name)) >= 4 for name in urls), PATIENCE_S, "the first windows")
            first.kill()
            second = start("b")
            assert second.wait(PATIENCE_S) == 0
    log = log_of(settings)
    assert frames_of(valid(log["folder"])) == frames_of(undisturbed(config, "folder"))
    whole = read_here(tmp_path, settings, film)
    for name in urls:
        kept = valid(log[name])
        assert frames_of(kept) == whole, name
        assert max(window.epoch for window in kept) == 2
        assert [state for state, _ in statuses_of(kept)] == ["up", "up", "ended"]


def test_a_reader_that_was_stopped_for_too_long_is_void_when_it_comes_back(
    broker: Broker, prefix: str, tmp_path: Path, film: Path
) -> None:
    settings = broker.settings(prefix)
    with dripping({"one": film}, 15, first=40) as urls:  # so slowly that it is never told before it is taken over
        config = write_config(tmp_path / "p.yaml", settings, {"one": {"source": urls["one"]}})
        set_up(config)
        with workers(config, "--once", *SESSION) as start:
            first = start("a")
            until(lambda: len(seen(settings, "one")) >= 4, PATIENCE_S, "the first windows")
            first.signal(signal.SIGSTOP)
            second = start("b")
            until(lambda: any(kept.window.epoch == 2 for kept in seen(settings, "one")), PATIENCE_S, "a takeover")
            first.signal(signal.SIGCONT)
            assert second.wait(PATIENCE_S) == 0
            assert first.wait(PATIENCE_S) == 0
    kept = valid(seen(settings, "one"))
    assert frames_of(kept) == read_here(tmp_path, settings, film)
    epochs = {window.epoch for window in kept}
    assert len(epochs) >= 2  # more where the group moves the camera once more, which it may
    for epoch in epochs:
        sequences = [window.sequence for window in kept if window.epoch == epoch]
        assert sequences == list(range(len(sequences))), "every reader counts its own from 0, none missing"
    assert len({window.writer for window in kept}) >= 2


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def test_apply_while_running_changes_only_what_changed(
    broker: Broker, prefix: str, tmp_path: Path, stack: ExitStack
) -> None:
    settings = broker.settings(prefix)
    line = {"points": [[0.0, 0.5], [1.0, 0.5]]}
    long = write_clip(tmp_path / "long.mkv", frames=6000)
    urls = stack.enter_context(dripping(dict.fromkeys(("ruled", "masked", "left", "removed", "added"), long), 120))
    cameras: dict[str, Any] = {name: {"source": url} for name, url in urls.items() if name != "added"}
    cameras["ruled"]["lines"] = {"l": line}
    config = write_config(tmp_path / "p.yaml", settings, cameras)
    set_up(config)

    def newest(camera_id: str) -> FrameWindow:
        kept = seen(settings, camera_id)
        return kept[-1].window

    with workers(config, *SESSION) as start:
        worker = start("a")
        until(lambda: all(len(seen(settings, c)) >= 2 for c in cameras), PATIENCE_S, "windows of all")
        before = {c: newest(c).revision for c in cameras}
        changed = {c: dict(told) for c, told in cameras.items() if c != "removed"}
        changed["ruled"] = {**changed["ruled"], "lines": {"l": {"points": [[0.0, 0.7], [1.0, 0.7]]}}}
        changed["masked"] = {**changed["masked"], "masks": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}
        changed["added"] = {"source": urls["added"]}
        config.write_text(json.dumps({**json.loads(config.read_text()), "cameras": changed}))
        said = passerby("apply", "-c", str(config), "--dry-run")
        assert "1 new, 2 changed, 1 removed, 1 unchanged" in said
        assert "lines.l.points" in said
        assert "kept: removed" in passerby("apply", "-c", str(config))
        assert "1 removed, 4 unchanged" in passerby("apply", "-c", str(config), "--prune")
        until(lambda: newest("ruled").revision > before["ruled"], PATIENCE_S, "the new line's revision")
        until(lambda: bool(seen(settings, "added")), PATIENCE_S, "the new camera")
        until(
            lambda: newest("masked").revision > before["masked"] and bool(newest("masked").frames),
            PATIENCE_S,
            "a mask",
        )
        until(lambda: newest("removed").status is not None, PATIENCE_S, "the end of the removed camera")
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
    assert statuses_of(log["removed"])[-1] == ("ended", "removed from the configuration")


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
        until(lambda: len(seen(settings, "gate")) >= 3, PATIENCE_S, "windows with a broker")
        assert worker.stop() == 0
        before = seen(settings, "gate")
        broker.kill()
        worker = start("a")
        spool = tmp_path / "spool" / "a"
        until(lambda: sum(p.stat().st_size for p in spool.rglob("*.seg")) > 40_000, PATIENCE_S, "windows in the spool")
        assert worker.says("no broker answers")
        back = threading.Thread(target=broker.start)
        back.start()
        back.join()
        until(lambda: len(valid(seen(settings, "gate"))) >= len(before) + 6, PATIENCE_S, "what was spooled")
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
