"""``python -m benchmarks.cluster``: what the log costs, and that it changes nothing.

    equal         five real clips with known truth and 20 scripted scenes: the same counts and events through `passerby
                  run` and through Kafka, with the same encoding of windows; only `origin` (place in the log) differs
    jpeg          what JPEG windows (quality 85) cost: AP50 on labelled pictures, and the counts on the real clips
    cost          frames a second through Kafka (ingest, broker, infer on these cores) over `passerby run`
    transactions  windows a second in transactions over at-least-once, the same windows, in turns
    latency       from the last frame of a window decoded to its event in a read_committed consumer, at half load
    bytes         of the windows topic, a camera and hour

Parts: --only equal,cost ...; without it all. Ratios are of medians over rounds taken in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import cluster_cost
from benchmarks.clips import ROOT, VIDEOS
from benchmarks.local_cluster import PASSERBY, LocalCluster, broker
from benchmarks.straight_pass import published

PARTS = ("equal", "jpeg", "cost", "transactions", "latency", "bytes")
DATA = ROOT.parent / "shared" / "data"
Events = dict[str, list[str]]
"""camera_id -> its counts and events as JSON without ``origin``, in order."""


def truth_cameras(encoding: str) -> dict[str, dict[str, Any]]:
    """The clips of truth/counts.json with their lines."""
    cameras = {}
    for told in json.loads((DATA / "truth" / "counts.json").read_text(encoding="utf-8")):
        if "line_x0y0x1y1" not in told:
            continue
        x0, y0, x1, y1 = told["line_x0y0x1y1"]
        line = {"points": [[x0, y0], [x1, y1]], "classes": [told["classes"]], "anchor": "center"}
        cameras[Path(told["file"]).stem.lower()] = {
            "source": str(DATA / told["file"]), "lines": {"truth": line}, "windows": {"encoding": encoding},
        }  # fmt: skip
    return cameras


def scripted_cameras(count: int, seconds: int) -> dict[str, dict[str, Any]]:
    """Scenes of the scripted street."""
    return {
        f"street-{seed}": {
            "source": f"synthetic://street?seed={seed}&duration={seconds}",
            "lines": {"across": {"points": [[0.0, 0.6], [1.0, 0.6]]}},
            "zones": {"low": {"points": [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]], "dwell_s": 2}},
            "windows": {"encoding": "jpeg"},
        }
        for seed in range(1, count + 1)
    }


def embedded(cameras: dict[str, dict[str, Any]]) -> Events:
    """The counts and events of ``passerby run``."""
    with tempfile.TemporaryDirectory() as told:
        folder = Path(told)
        cluster = LocalCluster("localhost:1", "none", folder, cameras, top={"output": {"report": False}})
        out = folder / "out"
        done = subprocess.run(
            [*PASSERBY, "run", "-c", str(cluster.file), "--out", str(out), "--quiet"], cwd=ROOT, check=False
        )
        if done.returncode:
            sys.exit(f"passerby run ended with {done.returncode}")
        found: Events = {}
        for name in ("counts.jsonl", "events.jsonl"):
            for line in (out / name).read_text(encoding="utf-8").splitlines():
                event = json.loads(line)
                found.setdefault(f"{name} {event['subject']}", []).append(_bare(event))
        return found


def clustered(servers: str, cameras: dict[str, dict[str, Any]]) -> Events:
    """The same through the log."""
    with tempfile.TemporaryDirectory() as told:
        folder = Path(told)
        kafka = {"spool": {"dir": str(folder / "spool")}}
        cluster = LocalCluster(servers, f"equal{os.getpid()}n{len(cameras)}", folder, cameras, kafka)
        with cluster.bus:
            cluster.prepare()
            worker = cluster.infer("infer-1")
            try:
                cluster.passerby("ingest", "-c", str(cluster.file), "--worker-id", "ingest-1", "--once")
                if not cluster.wait_until_done(600):
                    sys.exit("the inference worker did not finish:\n" + (folder / "infer-1.log").read_text()[-2000:])
            finally:
                worker.terminate()
                worker.wait()
            found: Events = {}
            for (topic, camera_id), records in published(cluster.bus, cluster.topics).items():
                name = "counts.jsonl" if topic == cluster.topics.counts.name else "events.jsonl"
                found[f"{name} {camera_id}"] = [_bare(_structured(headers, value)) for headers, value in records]
            return found


def _structured(headers: tuple[tuple[str, bytes], ...], value: bytes | None) -> dict[str, Any]:
    assert value is not None
    event: dict[str, Any] = {
        name.removeprefix("ce_"): told.decode() for name, told in headers if name.startswith("ce_")
    }
    return event | {"data": json.loads(value)}


def _bare(event: dict[str, Any]) -> str:
    """An event as text, to be compared: without its place in the log, its keys in order."""
    data = {key: value for key, value in event["data"].items() if key != "origin"}
    told = {key: event[key] for key in ("specversion", "id", "source", "type", "subject", "time")}
    return json.dumps(told | {"data": data}, sort_keys=True)


def equal(servers: str, scenes: int, seconds: int) -> bool:
    """Whether both ways say the same."""
    print("\n| cameras | counts and events | only in run | only in the cluster | in another order |")
    print("| --- | --- | --- | --- | --- |")
    good = True
    for what, cameras in (
        ("5 real clips", truth_cameras("jpeg")), (f"{scenes} scripted scenes", scripted_cameras(scenes, seconds)),
    ):  # fmt: skip
        alone, together = embedded(cameras), clustered(servers, cameras)
        ours, theirs = Counter(_flat(alone)), Counter(_flat(together))
        order = sum(
            1 for key in alone if sorted(alone[key]) == sorted(together.get(key, [])) and alone[key] != together[key]
        )
        only_run, only_cluster = (ours - theirs).total(), (theirs - ours).total()
        print(f"| {what} | {ours.total()} | {only_run} | {only_cluster} | {order} |", flush=True)
        good &= ours.total() > 0 and not only_run and not only_cluster and not order
    return good


def _flat(events: Events) -> list[str]:
    return [one for camera in events.values() for one in camera]


def jpeg(pictures: int) -> bool:
    """AP50 and counts, raw against JPEG."""
    from benchmarks.jpeg_cost import ap50_table

    ap50_table(DATA / "detection", pictures)
    raw, coded = (embedded(truth_cameras(encoding)) for encoding in ("raw", "jpeg"))
    truth = {
        Path(told["file"]).stem.lower(): told["count_positive"] + told["count_negative"]
        for told in json.loads((DATA / "truth" / "counts.json").read_text(encoding="utf-8")) if "count_positive" in told
    }  # fmt: skip
    print("\n| clip | crossings by eye | raw | JPEG q85 |\n| --- | --- | --- | --- |")
    for camera_id, by_eye in truth.items():
        print(f"| {camera_id} | {by_eye} | {_crossings(raw, camera_id)} | {_crossings(coded, camera_id)} |")
    return True


def _crossings(events: Events, camera_id: str) -> int:
    return sum("io.passerby.line.crossed.v1" in one for one in events.get(f"events.jsonl {camera_id}", []))


def main() -> None:
    """Print the tables; exit 1 where `equal` did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="of cost and transactions (3)")
    parser.add_argument("--scenes", type=int, default=20, help="scripted scenes of equal (20)")
    parser.add_argument("--scene-s", type=int, default=20, help="seconds of a scripted scene (20)")
    parser.add_argument("--pictures", type=int, default=800, help="labelled pictures of jpeg (800)")
    parser.add_argument("--latency-s", type=float, default=60, help="seconds measured by latency (60)")
    parser.add_argument("--servers", help="a broker that runs already; default KAFKA_BOOTSTRAP_SERVERS, or an own one")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    if not VIDEOS.is_dir():
        sys.exit(f"the real clips are not in {VIDEOS}")
    good = True
    with broker(servers=given.servers) as servers:
        for part in chosen:
            print(f"\n## {part}", flush=True)
            match part:
                case "equal":
                    good &= equal(servers, given.scenes, given.scene_s)
                case "jpeg":
                    good &= jpeg(given.pictures)
                case "cost":
                    cluster_cost.cost(servers, given.rounds)
                case "transactions":
                    cluster_cost.transactions(servers, given.rounds)
                case "latency":
                    cluster_cost.latency(servers, given.latency_s)
                case "bytes":
                    cluster_cost.sizes(servers)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
