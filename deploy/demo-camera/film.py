"""Draws the demo's streets: scripted scenes with nobody real in them, as clips for serve.py to loop.

    film.py --out clips                     all four, each with its truth (who crossed which line, and when) beside it
    film.py --out clips --only street --duration 12
    film.py --print-config                  the passerby.yaml that watches them (deploy/docker/passerby.yaml)

Needs the installed pipeline, and nothing else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pipeline.sources.synthetic import Scene, street, write_video

DURATION_S = 60.0
SCENES = {"street": (11, False), "avenue": (7, False), "square": (3, False), "night": (4, True)}
"""camera_id -> (seed, by night)."""

HEAD = """\
# The demo of docker-compose.yml: four scripted streets, looped by the demo camera as RTSP streams.
# Made by `python deploy/demo-camera/film.py --print-config`; a test compares. For your own cameras write a file like
# this one (`passerby init`, docs/configuration.md) and name it in .env: PASSERBY_CONFIG=./passerby.yaml
kafka:
  bootstrap_servers: "${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}"
  worker_id: "${PASSERBY_WORKER_ID:-passerby}"
inference:
  provider: ${PASSERBY_PROVIDER:-cpu}
counts: {window_s: 10}
cameras:
"""


def scene(name: str, duration_s: float) -> Scene:
    seed, night = SCENES[name]
    return street(seed, duration_s=duration_s, night=night)


def configuration(host: str = "${DEMO_CAMERA:-localhost:8554}", duration_s: float = DURATION_S) -> str:
    """passerby.yaml for the four streets, served by ``host``."""
    told = [HEAD.rstrip("\n")]
    for name in SCENES:
        shown = scene(name, duration_s)
        told += [f"  {name}:", f"    source: rtsp://{host}/{name}", "    lines:"]
        for line in shown.lines:
            rule = {"points": line.points, "classes": line.classes, "anchor": line.anchor}
            told.append(f"      {line.name}: {json.dumps(rule)}")
        told += ["    zones:"] * bool(shown.zones)
        for zone in shown.zones:
            area = {"points": zone.points, "classes": zone.classes, "anchor": zone.anchor, "dwell_s": zone.dwell_s}
            told.append(f"      {zone.name}: {json.dumps(area)}")
    return "\n".join(told) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("clips"))
    parser.add_argument("--duration", type=float, default=DURATION_S, help="seconds of each (12 or more)")
    parser.add_argument("--only", choices=sorted(SCENES), help="one of them")
    parser.add_argument("--print-config", action="store_true")
    args = parser.parse_args()
    if args.print_config:
        print(configuration(duration_s=args.duration), end="")
        return
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [args.only] if args.only else SCENES:
        shown = scene(name, args.duration)
        write_video(shown, args.out / f"{name}.mp4", camera_id=name)
        print(f"{args.out / name}.mp4: {shown.duration_s:.0f} s, {len(shown.crossings())} crossings", flush=True)


if __name__ == "__main__":
    main()
