"""Clips to measure with: 1080p25 H.264 (I and P frames, as most cameras send), made once and kept in out/bench."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VIDEOS = ROOT.parent / "shared" / "data" / "videos"
CACHE = ROOT / "out" / "bench"

REAL = (
    "shop_aisle_hevc_1080p.mp4",
    "suburban_street_cars.mp4",
    "street_corner_overhead.mp4",
    "pedestrians_square.mp4",
)


def hd_clips(count: int = 4, seconds: int = 20) -> list[Path]:
    """``count`` real clips as 1920x1080 at 25 fps, ``seconds`` long (looped where shorter)."""
    return [_make(REAL[n % len(REAL)], 1920, 1080, seconds) for n in range(min(count, len(REAL)))] * (
        -(-count // len(REAL))
    )


def small_clip(seconds: int = 20) -> Path:
    """One real clip as 640x360 at 25 fps."""
    return _make(REAL[1], 640, 360, seconds)


def _make(name: str, width: int, height: int, seconds: int) -> Path:
    made = CACHE / f"{Path(name).stem}-{width}x{height}-{seconds}s.mp4"
    if made.exists():
        return made
    if not (VIDEOS / name).exists():
        sys.exit(f"benchmarks need the real clip {name} in {VIDEOS}")
    CACHE.mkdir(parents=True, exist_ok=True)
    part = made.with_suffix(".part.mp4")
    subprocess.run(
        [
            "ffmpeg", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(VIDEOS / name), "-t", str(seconds),
            "-vf", f"fps=25,scale={width}:{height}:flags=bicubic,format=yuv420p", "-an",
            "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-bf", "0", "-g", "50", str(part),
        ],
        check=True,
    )  # fmt: skip
    part.rename(made)
    return made
