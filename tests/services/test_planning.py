"""What ``check`` reasons: each judgement against a case that has it and one that has not, and against the analytics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.analytics.camera import CameraAnalytics
from pipeline.config import Config, Problem, read_config
from pipeline.core.detections import Detections
from pipeline.core.events import LINE_CROSSED, Event, Origin
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import Anchor, CameraRules, LineRule
from pipeline.inference.manifest import Manifest
from pipeline.services.planning import Plan, SourceFacts, plan
from pipeline.services.reachability import DETECTABLE_PX, room_at
from tests.inference.networks import manifest_for

HD = SourceFacts(1920, 1080, fps=25.0, codec="h264", b_frames=False, duration_s=60.0)


def manifest(width: int = 416, height: int = 256, cost_ms: float | None = 18.0) -> Manifest:
    shape: dict[str, Any] = {"width": width, "height": height} | ({"cost_ms": cost_ms} if cost_ms else {})
    return manifest_for(b"x", input={"shapes": [shape]})


def config(lines: str) -> Config:
    """One camera ``gate``; ``lines`` begin in line 4, indented by four."""
    body = "".join(f"    {line}\n" for line in lines.splitlines())
    return read_config(f"cameras:\n  gate:\n    source: a.mp4\n{body}", "f.yaml", Path("/x"), {})


def planned(told: Config, facts: SourceFacts | None = HD, cores: int = 8, **options: Any) -> Plan:
    known: Mapping[str, SourceFacts] = dict.fromkeys(told.cameras, facts) if facts else {}
    return plan(told, known, {"passerby-nano": manifest()}, cores=cores, **options)


def found(lines: str, facts: SourceFacts | None = HD) -> dict[str, Problem]:
    problems = planned(config(lines), facts).problems
    assert len({problem.code for problem in problems}) == len(problems)
    return {problem.code: problem for problem in problems}


def line(points: str, more: str = "") -> str:
    return f"lines: {{street: {{points: {points}{more}}}}}"


@pytest.mark.parametrize(
    ("points", "more", "code"),
    [
        ("[[0, 0.5], [1, 0.5]]", "", None),
        ("[[0, 0.01], [1, 0.01]]", "", "line-unreachable"),  # feet 10 px below the top: a head would be above it
        ("[[0, 0.01], [1, 0.01]]", ", anchor: top_center", "line-near-edge"),
        ("[[0, 0.06], [1, 0.06]]", "", "line-near-edge"),
        ("[[0, 0.06], [1, 0.06]]", ", anchor: top_center", None),
        ("[[0, 1], [1, 1]]", "", "line-unreachable"),
        ("[[0, 0.99], [1, 0.99]]", "", "line-near-edge"),
        ("[[0, 0.97], [1, 0.97]]", "", None),
        ("[[0, 0.99], [1, 0.99]]", ", anchor: center", "line-unreachable"),
        ("[[0.002, 0.1], [0.002, 0.9]]", "", "line-unreachable"),
        ("[[0.998, 0.1], [0.998, 0.9]]", "", "line-unreachable"),
        ("[[0.05, 0.1], [0.05, 0.9]]", "", None),
        ("[[0.5, 0], [0.5, 1]]", "", None),
        ("[[0.5, 0.5], [0.51, 0.5]]", "", "line-short"),
        ("[[0.5, 0.5], [0.6, 0.5]]", "", None),
        ("[[0.5, 0.5], [0.6, 0.5]]", ", classes: [vehicle]", "line-short"),
    ],
)
def test_lines(points: str, more: str, code: str | None) -> None:
    problems = found(line(points, more))
    assert set(problems) == ({code} if code else set())
    if code:
        told = problems[code]
        assert (told.line, told.column, told.key) == (4, 30, "cameras.gate.lines.street.points")
        assert told.mend
        assert told.severity == ("error" if code == "line-unreachable" else "warning")


@pytest.mark.parametrize("anchor", ["bottom_center", "center", "top_center"])
@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("at", [0.004, 0.02, 0.07, 0.5, 0.97, 1.0])
def test_the_analytics_count_what_check_says_they_can(at: float, upright: bool, anchor: Anchor) -> None:
    """People walk over the line, cut by the edge of the picture, seen only while enough of them shows."""
    points = ((at, 0.3), (at, 0.9)) if upright else ((0.2, at), (0.8, at))
    told = [list(point) for point in points]
    problems = found(line(str(told), f", anchor: {anchor}"))
    counted = {height: _walk_over(points, anchor, height, upright=upright) for height in (0.1, 0.2)}
    if "line-unreachable" in problems:
        assert set(counted.values()) == {0}, counted
    elif "line-near-edge" not in problems:
        assert set(counted.values()) == {1}, counted


def _walk_over(points: tuple[tuple[float, float], ...], anchor: Anchor, height: float, *, upright: bool) -> int:
    """Crossings of one person who walks 70 % of the picture, with the line in the middle of the way, at 8 fps."""
    rules = CameraRules("gate", (LineRule("street", points, ("person",), anchor),))
    names = ("model", "model_version", "model_sha256", "config_sha256")
    analytics = CameraAnalytics(rules, provenance=dict.fromkeys(names, "x"))
    origin = Origin(topic="t", partition=0, offset=0)
    h_px, w_px = height * 1080, height * 1080 * 0.4
    net = 416 / 1920
    events: list[Event] = []
    across = points[0][0 if upright else 1]
    steps = 40
    for i in range(steps):
        along = across - 0.35 + 0.7 * i / steps
        x, y = (along * 1920, 0.6 * 1080) if upright else (960.0, along * 1080)
        box = np.array([[x - w_px / 2, y - h_px / 2, x + w_px / 2, y + h_px / 2]], np.float32)
        box = np.clip(box, 0, [1920, 1080, 1920, 1080]).astype(np.float32)
        seen = (box[0, 3] - box[0, 1]) * net >= DETECTABLE_PX and (box[0, 2] - box[0, 0]) * net >= DETECTABLE_PX * 0.4
        at_us = i * 125_000
        frame = Frame(i, at_us, at_us, np.zeros((2, 2, 3), np.uint8))
        window = FrameWindow("gate", 1, i, (frame,), 1920, 1080, 8.0, "pts")
        detections = Detections(box, np.array([0.9], np.float32), np.array([0]), ("person",))
        observed = analytics.observe(window, frame, detections if seen else Detections.none(("person",)), origin)
        events += observed.events
    events += analytics.close().events
    return sum(event.type == LINE_CROSSED for event in events)


def test_room() -> None:
    assert room_at(0.5, 0.02, "bottom_center") == (1.0, 0.02)
    assert room_at(0.1, 0.9, "center") == pytest.approx((0.2, 0.2))
    assert room_at(0.9, 0.25, "top_center") == pytest.approx((0.2, 0.75))


MASK = "masks: [[[0.6, 0.6], [1, 0.6], [1, 1], [0.6, 1]]]"


def test_what_lies_under_a_mask() -> None:
    under = found(line("[[0.7, 0.8], [0.9, 0.8]]") + f"\n{MASK}")
    assert under["line-masked"].severity == "error"
    half = found(line("[[0.5, 0.8], [0.9, 0.8]]") + f"\n{MASK}")
    assert half["line-masked"].message == "75% of this line lies under a mask"
    assert half["line-masked"].severity == "warning"
    assert not found(line("[[0, 0.8], [1, 0.8]]") + f"\n{MASK}")
    zone = "zones: {plaza: {points: [[0.7, 0.7], [0.9, 0.7], [0.9, 0.9], [0.7, 0.9]]}}"
    assert found(f"{zone}\n{MASK}")["zone-masked"].severity == "error"
    assert not found(zone)


def test_areas_that_cannot_work() -> None:
    top = found("zones: {plaza: {points: [[0, 0], [1, 0], [1, 0.03], [0, 0.03]]}}")
    assert (top["zone-unreachable"].severity, top["zone-unreachable"].line) == ("error", 4)
    assert not found("zones: {plaza: {points: [[0, 0], [1, 0], [1, 0.03], [0, 0.03]], anchor: top_center}}")
    assert "zone-tiny" in found("zones: {plaza: {points: [[0.5, 0.5], [0.501, 0.5], [0.501, 0.51]]}}")
    triangle = "zones: {plaza: {points: [[0.1, 0.1], [0.9, 0.9], [0.1, 0.9]]}}"
    assert not found(triangle)


def test_what_does_not_fit_the_file() -> None:
    problems = found(
        "sample_fps: 30\n"
        "zones: {plaza: {points: [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]], dwell_s: 60}}"
    )  # fmt: skip
    assert str(problems["sample-fps-high"]) == (
        "f.yaml:4:17: cameras.gate.sample_fps: sample_fps 30 is above the source's 25 frames a second; "
        "write 25 or less; 8 is enough for walking and driving"
    )
    assert problems["longer-than-file"].message == "60 s is longer than the whole file (60.0 s)"
    assert not found("sample_fps: 25\nzones: {plaza: {points: [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]], dwell_s: 59}}")


def test_falls_need_frames() -> None:
    floor = "zones: {floor: {points: [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]], falls: true}}"
    assert str(found(f"sample_fps: 5\n{floor}")["falls-sample-fps"]) == (
        "f.yaml:5:74: cameras.gate.zones.floor.falls: at 5 frames a second many falls are missed; "
        "write sample_fps: 8 or more"
    )
    assert "falls-sample-fps" in found("sample_fps: 5\nfalls: true")
    assert "falls-sample-fps" not in found("falls: true")
    assert not found(f"sample_fps: 5\n{floor.replace(', falls: true', '')}")


def test_falls_need_a_model_that_sees_people_who_lie() -> None:
    assert str(found("falls: true")["falls-model"]) == (
        "f.yaml:4:12: cameras.gate.falls: passerby-nano sees few people who lie: many falls are missed; "
        "write model: passerby-falls for this camera"
    )
    told = config("falls: true\nmodel: passerby-falls")
    lying = manifest().model_copy(update={"lying": True})
    assert not plan(told, {"gate": HD}, {"passerby-falls": lying}, cores=8).problems
    assert not plan(told, {"gate": HD}, {}, cores=8).problems, "a model that cannot be loaded has its own error"


def test_start_and_modes_of_the_wrong_source() -> None:
    text = (
        "cameras: {a: {source: 'rtsp://h/x', start: 2026-01-01T00:00:00Z}, b: {source: {url: b.mp4, mode: realtime}}}"
    )
    told = plan(read_config(text, "f", Path("/x"), {}), {}, {}, cores=8)
    assert [problem.code for problem in told.problems] == ["start-of-live", "realtime-file"]


def test_the_same_source_twice() -> None:
    text = "cameras:\n  a: {source: x/../b.mp4}\n  b: {source: b.mp4}\n  c: {source: c.mp4}\n  d: {source: c.mp4}\n"
    told = plan(read_config(text, "f", Path("/x"), {}), {}, {}, cores=8)
    assert [(p.code, p.line, p.key) for p in told.problems] == [
        ("same-source", 3, "cameras.b.source"), ("same-source", 5, "cameras.d.source"),
    ]  # fmt: skip


def test_passwords_in_plain_text() -> None:
    text = (
        "cameras:\n  a: {source: 'rtsp://u:geheim99@h/a'}\n  b: {source: 'rtsp://u:${P}@h/b'}\n"
        "  c: {source: {url: 'rtsp://h/c', username: u, password: geheim98}}\n"
        "  d: {source: {url: 'rtsp://h/d', username: u, password: '${P}'}}\n  e: {source: 'http://h/e?token=geheim97'}\n"
    )
    told = plan(read_config(text, "f", Path("/x"), {"P": "x"}), {}, {}, cores=8)
    assert [(p.code, p.line, p.column) for p in told.problems] == [
        ("plain-secret", 2, 15), ("plain-secret", 4, 58), ("plain-secret", 6, 15),
    ]  # fmt: skip
    assert "${A_PASSWORD}" in told.problems[0].mend
    assert not [p for p in told.problems if "geheim" in str(p)]


def test_the_height_a_person_must_have() -> None:
    """At 416x256 a 16:9 picture is 234 pixels high: 8 of them are 3.4 %."""
    camera = planned(config("")).cameras[0]
    assert camera.input == (416, 256)
    assert camera.smallest_person == pytest.approx(8 / 234)
    upright = SourceFacts(1080, 1920, fps=25.0)  # 256 pixels high in the same input
    assert planned(config(""), upright).cameras[0].smallest_person == pytest.approx(8 / 256)


def test_people_too_small_for_the_model() -> None:
    told = config("")
    small = {"passerby-nano": manifest(160, 96)}
    problems = plan(told, {"gate": HD}, small, cores=8).problems
    assert [(p.code, p.severity) for p in problems] == [("objects-too-small", "warning")]
    assert "8.9% of the picture's height (96 px of 1920x1080)" in problems[0].message
    assert plan(told, {}, small, cores=8).problems == ()  # without having seen the picture nothing is said


LIVE = SourceFacts(1920, 1080, fps=25.0, codec="h264", b_frames=False, live=True)


def fleet(cameras: int) -> Config:
    body = "".join(f"  c{i}: {{source: 'rtsp://h/{i}'}}\n" for i in range(cameras))
    return read_config(f"cameras:\n{body}", "f.yaml", Path("/x"), {})


def test_the_load_of_live_cameras() -> None:
    """25 frames of 2.07 megapixels at 2.8 ms, and 8 of 21.5 ms: 0.32 cores a camera."""
    one = planned(fleet(1), LIVE)
    assert one.live_cores == pytest.approx((25 * 2.8 * 2.0736 + 8 * (1.5 + 18.0 + 2.0)) / 1000, rel=1e-6)
    assert planned(fleet(5), LIVE, cores=2).problems == ()
    busy = planned(fleet(6), LIVE, cores=2).problems
    assert [(p.code, p.severity, p.line) for p in busy] == [("load", "warning", 1)]
    assert "need about 1.9 cores, this machine has 2: a burst will drop frames" in busy[0].message
    assert "frames will be dropped" in planned(fleet(8), LIVE, cores=2).problems[0].message


def test_files_are_no_load_that_can_be_too_much() -> None:
    assert planned(config(""), HD, cores=1).live_cores == 0
    assert planned(config("sample_fps: 25"), HD, cores=1).problems == ()


def test_a_measured_cost_goes_before_the_manifests() -> None:
    slow = planned(fleet(1), LIVE, net_ms={"c0": 500.0}, cores=2)
    assert slow.live_cores > 4
    assert [problem.code for problem in slow.problems] == ["load"]


def test_dear_codecs_are_told() -> None:
    dear = SourceFacts(1920, 1080, fps=25.0, codec="hevc", b_frames=True, live=True)
    told = planned(fleet(1), dear).cameras[0]
    assert len(told.notes) == 2
    assert told.cores > 1.5 * planned(fleet(1), LIVE).cameras[0].cores
    assert planned(fleet(1), LIVE).cameras[0].notes == ()
