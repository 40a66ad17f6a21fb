"""All brokers down under load, then back: what is lost, what is out of order, what differs from an undisturbed run.

    python -m benchmarks.outage                               60 s without a broker, files and live cameras
    python -m benchmarks.outage --seconds 10 --files 2 --live 1 --rounds 3 --no-events

A real broker (``--brokers 3``: three) is killed (-9) while two ingest workers read files (folders in which a real clip
lies ``--rounds`` times) and live cameras (RTSP), and starts again on its data. Compared are the windows that count
(decision 0070):

    files   with those of an undisturbed run: every frame, its times, its pixels, the statuses; and, with a real
            inference worker at work all the time, counts and events, byte for byte but for ``origin``
    live    no sequence number is missing or out of order, times rise, and the workers' ledgers hold no dropped frame
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.clips import VIDEOS
from benchmarks.whole_topics import records, without_origin
from pipeline.bus.base import Malformed
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import Topics
from pipeline.config import KafkaConfig
from pipeline.core.frame import FrameWindow
from tests import broker as brokers
from tests.broker import Broker
from tests.e2e.ingesting import (
    PASSERBY,
    Worker,
    frames_of,
    log_of,
    set_up,
    statuses_of,
    until,
    valid,
    workers,
    write_config,
)
from tests.rtsp_server import RtspServer

_CLIPS = ("suburban_street_cars.mp4", "pedestrians_square.mp4", "street_corner_overhead.mp4", "topdown_cars.mp4")
_LINES = {"across": {"points": [[0.0, 0.55], [1.0, 0.55]]}}


@dataclass
class Verdict:
    """What was found; every list of troubles must be empty."""

    frames: int = 0
    windows: int = 0
    live_windows: int = 0
    events: int = 0
    takeovers: int = 0
    spooled_bytes: int = 0
    troubles: list[str] = field(default_factory=list)


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as told, ExitStack() as stack:
        folder = Path(told)
        broker = brokers.start(folder / "kafka", brokers=args.brokers)
        stack.callback(broker.kill)
        urls = [stack.enter_context(RtspServer("--size", "320x192")).url() for _ in range(args.live)]
        files = {
            f"file{n}": {
                "source": str(_film(folder / f"film{n}", _CLIPS[n % len(_CLIPS)], args.rounds)),
                "lines": _LINES,
            }
            for n in range(args.files)
        }
        live = {f"live{n}": {"source": url, "lines": _LINES} for n, url in enumerate(urls)}
        verdict = Verdict()
        calm, rough = broker.settings("calm"), broker.settings("rough")
        print(f"undisturbed: {args.files} files", flush=True)
        _calm(folder, calm, files, args)
        print(f"disturbed: the same and {args.live} live cameras; no broker for {args.seconds:g} s", flush=True)
        _rough(folder, broker, rough, files | live, args, verdict)
        _compare_windows(calm, rough, list(files), list(live), verdict)
        if args.events:
            _compare_events(calm, rough, set(files), verdict)
        print(json.dumps({name: value for name, value in vars(verdict).items() if name != "troubles"}))
        for trouble in verdict.troubles:
            print(f"TROUBLE {trouble}")
        print("0 lost, order kept, nothing differs" if not verdict.troubles else f"{len(verdict.troubles)} troubles")
        sys.exit(bool(verdict.troubles))


def _film(folder: Path, clip: str, rounds: int) -> Path:
    """A folder in which a real clip lies several times."""
    if not (VIDEOS / clip).exists():
        sys.exit(f"this benchmark needs the real clip {clip} in {VIDEOS}")
    folder.mkdir()
    for n in range(rounds):
        (folder / f"{n:03d}.mp4").symlink_to(VIDEOS / clip)
    return folder


def _calm(folder: Path, settings: KafkaConfig, cameras: dict[str, Any], args: argparse.Namespace) -> None:
    (folder / "calm").mkdir()
    config = write_config(folder / "calm" / "p.yaml", settings, cameras)
    set_up(config)
    with workers(config, "--once") as start, _inference(config, args):
        assert start("calm-1").wait(args.patience) == 0


def _rough(
    folder: Path, broker: Broker, settings: KafkaConfig, cameras: dict[str, Any], args: argparse.Namespace,
    verdict: Verdict,
) -> None:  # fmt: skip
    (folder / "rough").mkdir()
    config = write_config(folder / "rough" / "p.yaml", settings, cameras)
    set_up(config)
    with workers(config, "--once") as start, _inference(config, args):
        made = [start("rough-1"), start("rough-2")]
        until(lambda: len(log_of(settings)) == len(cameras), args.patience, "the first windows of all cameras")
        began_s = time.monotonic()
        broker.kill()
        print("  brokers are down", flush=True)
        while time.monotonic() - began_s < args.seconds:
            time.sleep(0.5)
            spooled = sum(path.stat().st_size for path in (folder / "rough" / "spool").rglob("*.seg"))
            verdict.spooled_bytes = max(verdict.spooled_bytes, spooled)
        broker.start()
        print(f"  brokers are back after {time.monotonic() - began_s:.0f} s", flush=True)
        for worker in made:
            assert worker.wait(args.patience) == 0, worker.log.read_text()[-3000:]
    for worker in made:
        verdict.troubles += _ledger_troubles(worker)


def _ledger_troubles(worker: Worker) -> list[str]:
    """What a worker's account says at its end: nothing may be dropped but what it had in hand when it was stopped."""
    told = worker.log.read_text(errors="replace")
    lines = re.findall(r"camera (\S+): (\d+ frames, .*)$", told, re.MULTILINE)
    return [
        f"{worker.log.stem}: {camera}: {said}"
        for camera, said in lines
        if re.search(r"dropped \((?!shutdown)", said) or "on their way" in said
    ]


@contextmanager
def _inference(config: Path, args: argparse.Namespace) -> Iterator[None]:
    """A real inference worker beside, which ends once nothing comes any more."""
    if not args.events:
        yield
        return
    idle_s = str(args.seconds + 30)
    with (config.parent / "infer.log").open("wb") as log:
        process = subprocess.Popen(
            [*PASSERBY, "infer", "-c", str(config), "--worker-id", "infer", "--until-idle", idle_s],
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield
            assert process.wait(args.patience) == 0, (config.parent / "infer.log").read_text()[-3000:]
        finally:
            if process.poll() is None:
                process.kill()


def _compare_windows(
    calm: KafkaConfig, rough: KafkaConfig, files: list[str], live: list[str], verdict: Verdict
) -> None:
    want, got = log_of(calm), log_of(rough)
    for camera in files:
        calm_windows, rough_windows = valid(want.get(camera, [])), valid(got.get(camera, []))
        verdict.windows += len(rough_windows)
        verdict.frames += len(frames_of(rough_windows))
        verdict.takeovers += max((window.epoch for window in rough_windows), default=1) - 1
        if frames_of(calm_windows) != frames_of(rough_windows):
            verdict.troubles.append(f"{camera}: its frames differ")
        if statuses_of(calm_windows) != statuses_of(rough_windows):
            verdict.troubles.append(f"{camera}: its statuses differ")
    for camera in live:
        kept = valid(got.get(camera, []))
        verdict.live_windows += len(kept)
        verdict.troubles += [f"{camera}: {said}" for said in _gaps(kept)]


def _gaps(windows: list[FrameWindow]) -> Iterator[str]:
    """What is missing between the windows of a live camera, or out of order."""
    last_us, numbers = -1, dict[int, int]()
    for window in windows:
        expected = numbers.get(window.epoch, 0)
        if window.sequence != expected:
            yield f"epoch {window.epoch}: window {window.sequence} where {expected} should be"
        numbers[window.epoch] = window.sequence + 1
        for frame in window.frames:
            if frame.captured_at_us <= last_us:
                yield f"epoch {window.epoch}: frame {frame.index} is not later than the one before"
            last_us = frame.captured_at_us


def _compare_events(calm: KafkaConfig, rough: KafkaConfig, cameras: set[str], verdict: Verdict) -> None:
    want, got = _published(calm, cameras), _published(rough, cameras)
    verdict.events = sum(map(len, got.values()))
    for camera in sorted(cameras):
        if want.get(camera) != got.get(camera):
            verdict.troubles.append(
                f"{camera}: {len(got.get(camera, []))} events and counts, undisturbed {len(want.get(camera, []))}, "
                "and they differ"
            )


def _published(settings: KafkaConfig, cameras: set[str]) -> dict[str, list[bytes]]:
    """Counts and events by camera, without where their window lies in the log."""
    found: dict[str, list[bytes]] = {}
    topics = Topics(settings.prefix)
    with KafkaBus(settings, client_id="compare") as bus:
        for topic in (topics.counts, topics.events):
            for record in records(bus, topic):
                event = record.value
                assert not isinstance(event, Malformed), event
                if record.key in cameras:
                    found.setdefault(record.key, []).append(without_origin(event))
    return {camera: sorted(told) for camera, told in found.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="without a broker")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10, help="how often its clip lies in a file's folder")
    parser.add_argument("--live", type=int, default=2)
    parser.add_argument("--brokers", type=int, choices=(1, 2, 3), default=1)
    parser.add_argument("--patience", type=float, default=900, help="seconds that each step may take")
    parser.add_argument("--no-events", dest="events", action="store_false", help="windows only, no inference")
    return parser.parse_args()


if __name__ == "__main__":
    main()
