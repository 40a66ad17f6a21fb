"""``passerby run`` on a film of a drawn figure that falls, lies and stands up again, looked at by the shipped model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import load_config
from pipeline.core.events import SCENE_EVENT
from pipeline.encoding import VideoWriter
from pipeline.services.run import RunOptions, run
from pipeline.sources.synthetic.situations import street

CONFIG = """
inference: {{threads: {threads}}}
condition: {{kinds: []}}
cameras:
  hall: {{source: fall.mp4, start: 2026-01-01T08:00:00Z, falls: true}}
  ward:
    source: fall.mp4
    start: 2026-01-01T08:00:00Z
    zones: {{floor: {{points: [[0.3, 0.7], [0.7, 0.7], [0.7, 0.99], [0.3, 0.99]], falls: true}}}}
"""
SEED, AT_S = 5, 14.0  # a street, and a moment at which somebody near can be seen whole
FPS, FOOT = 12.5, (280, 320)
FALLS_S, FALL_LASTS_S, RISES_S, ENDS_S = 2.0, 0.5, 6.0, 8.0


def film(path: Path) -> None:
    """The figure turns about its foot: upright, down within half a second, and up again."""
    scene = street(SEED, width=640, height=360, duration_s=20)
    truth = scene.truth(AT_S)
    heights = np.where((truth.visible > 0.99) & (truth.class_ids == 0), truth.boxes[:, 3] - truth.boxes[:, 1], 0)
    who = int(heights.argmax())
    look = replace(scene.look, noise=0.0, flicker=0.0)
    actors = tuple(actor for actor in scene.actors if actor.track == truth.tracks[who])
    nobody = replace(scene, actors=(), look=look).render(AT_S)
    alone = replace(scene, actors=actors, look=look).render(AT_S)
    mask = np.abs(alone.astype(int) - nobody).sum(axis=2) > 24
    x_min, y_min, x_max, y_max = (round(float(side)) for side in truth.boxes[who])
    figure = np.dstack([alone, mask.astype(np.uint8) * 255])[y_min - 3 : y_max + 3, x_min - 3 : x_max + 3]
    tall, wide = figure.shape[:2]
    turning = Image.new("RGBA", (2 * tall, 2 * tall))  # the foot in its middle
    turning.paste(Image.fromarray(figure), (tall - wide // 2, 0))
    with VideoWriter(path, 640, 360, FPS) as writer:
        for n in range(int(ENDS_S * FPS)):
            t_s = n / FPS
            down = np.clip((t_s - FALLS_S) / FALL_LASTS_S, 0, 1) - np.clip(t_s - RISES_S, 0, 1)
            image = Image.fromarray(nobody).convert("RGBA")
            turned = turning.rotate(-90 * float(down), Image.Resampling.BICUBIC)
            image.alpha_composite(turned, (FOOT[0] - tall, FOOT[1] - tall))
            writer.write(np.asarray(image.convert("RGB")), t_s)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("falls")
    film(folder / "fall.mp4")
    return folder


def _run(folder: Path, out: Path, threads: int) -> tuple[bytes, list[dict[str, Any]]]:
    path = folder / f"passerby-{threads}.yaml"
    path.write_text(CONFIG.format(threads=threads), encoding="utf-8")
    assert run(load_config(path, {}), RunOptions(out, live_view=False)).exit_code == 0
    data = (out / "events.jsonl").read_bytes()
    return data, [event for event in map(json.loads, data.splitlines()) if event["type"] == SCENE_EVENT]


def test_a_fall_in_a_film(folder: Path, tmp_path: Path) -> None:
    first, told = _run(folder, tmp_path / "one", 1)
    by_camera = {name: [e["data"] for e in told if e["subject"] == name] for name in ("hall", "ward")}
    for name, zone in (("hall", None), ("ward", "floor")):
        start, end = by_camera[name]
        assert (start["kind"], start["phase"], end["phase"]) == ("fall", "start", "end")
        assert "2026-01-01T08:00:01.8" <= start["started_at"] <= "2026-01-01T08:00:02.5"
        assert "2026-01-01T08:00:06.5" <= end["ended_at"] <= "2026-01-01T08:00:07.5", "he stands again"
        assert start["zone"] == end["zone"] == zone
        assert start["track_id"] == f"{name}/1/1"
        assert start["provenance"]["model"] == "fall-rule"
        region = start["region"]
        assert 640 * (region["x_max"] - region["x_min"]) > 360 * (region["y_max"] - region["y_min"]), "of who lies"
    report = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "fall: start (score 0." in report
    second, _ = _run(folder, tmp_path / "three", 3)
    assert first == second


@pytest.mark.shared
def test_real_falls_and_a_real_daily_act(shared: Path, tmp_path: Path) -> None:
    clips = shared / "events" / "falls_gmdcsa24"
    path = tmp_path / "passerby.yaml"
    path.write_text(
        "model: passerby-falls\nfalls: true\ncameras:\n"
        f"  falls: {{source: {clips}/fall/s3_20.mp4}}\n"
        f"  picks: {{source: {clips}/adl/s3_19.mp4}}\n"
        f"  bed: {{source: {clips}/fall/s2_14.mp4}}\n"
        f"  plain: {{source: {clips}/fall/s2_14.mp4, model: passerby-nano}}\n"
    )
    assert run(load_config(path, {}), RunOptions(tmp_path / "out", live_view=False)).exit_code == 0
    events = map(json.loads, (tmp_path / "out" / "events.jsonl").read_text().splitlines())
    told = [event for event in events if event["type"] == SCENE_EVENT]
    starts = {e["subject"]: e["data"]["started_at"] for e in told if e["data"]["phase"] == "start"}
    assert {e["data"]["kind"] for e in told} == {"fall"}
    assert starts.keys() == {"falls", "bed"}, "passerby-nano sees nobody on the bed"
    assert "1970-01-01T00:00:02.0" <= starts["falls"] <= "1970-01-01T00:00:02.6"
    assert "1970-01-01T00:00:03.2" <= starts["bed"] <= "1970-01-01T00:00:04.0"
