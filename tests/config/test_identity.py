"""The hash: the same for the same meaning, another for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import config_from_videos, config_sha256, read_config

BASE = """\
sample_fps: 8
cameras:
  gate:
    source: clips/gate.mp4
    start: 2026-01-01T08:00:00Z
    lines: {street: {points: [[0.0, 0.62], [1.0, 0.62]], classes: [vehicle]}}
"""


def sha(text: str, folder: str = "/site", camera: str = "gate") -> str:
    return config_sha256(read_config(text, "f", Path(folder), {}).camera(camera))


@pytest.mark.parametrize(
    "same",
    [
        BASE.replace("sample_fps: 8", "sample_fps: 8.0  # a comment"),
        BASE.replace("sample_fps: 8\n", ""),
        BASE.replace("sample_fps: 8\n", "").replace("    start", "    sample_fps: 8\n    start"),
        BASE.replace("08:00:00Z", "10:00:00+02:00"),
        BASE.replace("classes: [vehicle]", "classes: vehicle"),
        BASE + "  other: {source: b.mp4}\n",
        "inference: {threads: 4}\nkafka: {prefix: x}\noutput: {annotate: true}\n" + BASE,
        BASE.replace("clips/gate.mp4", "/elsewhere/gate.mp4"),
        BASE.replace("source: clips/gate.mp4", "source: {url: gate.mp4, stall_timeout_s: 3, transport: udp}"),
    ],
)
def test_the_same_meaning_has_the_same_hash(same: str) -> None:
    assert sha(same, "/another/folder") == sha(BASE)


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("sample_fps: 8", "sample_fps: 7"),
        BASE.replace("0.62]]", "0.63]]"),
        BASE.replace("[vehicle]", "[car]"),
        BASE.replace("08:00", "09:00"),
        BASE.replace("gate.mp4", "yard.mp4"),
        BASE + "    masks: [[[0, 0], [1, 0], [1, 1]]]\n",
        "thresholds: {score: 0.5}\n" + BASE,
        "model: other\n" + BASE,
    ],
)
def test_another_meaning_has_another_hash(other: str) -> None:
    assert sha(other) != sha(BASE)


def test_the_name_of_the_camera_belongs_to_it() -> None:
    assert sha(BASE.replace("gate:", "yard:"), camera="yard") != sha(BASE)


def test_it_is_sha256_over_canonical_json_and_stays_as_it_is() -> None:
    """Pinned: a change here changes the provenance of every event; make it on purpose."""
    config = read_config("cameras: {a: {source: a.mp4}}", "f", Path("/x"), {})
    assert config_sha256(config.camera("a")) == "97421c66742ddca11a257380bc93dc6ca941568d3a87edc6c9064d99f6dd04eb"


def test_the_whole_is_the_hash_of_all_cameras() -> None:
    one = read_config(BASE, "f", Path("/x"), {})
    two = read_config(BASE + "  other: {source: b.mp4}\n", "f", Path("/x"), {})
    assert len({config_sha256(one), config_sha256(two), config_sha256(one.camera("gate"))}) == 3


def test_a_file_and_a_command_line_that_say_the_same() -> None:
    written = read_config(
        "cameras: {a: {source: a.mp4, lines: {line1: {points: [[0, 0.6], [1, 0.6]]}}}}", "f", Path("/x"), {}
    )
    assert config_sha256(config_from_videos(["/y/a.mp4"], ["0,0.6,1,0.6"])) == config_sha256(written)


def test_the_order_of_conditions_does_not_matter() -> None:
    frozen_first = sha("condition: {kinds: [frozen, black, frozen]}\n" + BASE)
    assert frozen_first == sha("condition: {kinds: [black, frozen]}\n" + BASE) != sha(BASE)


def test_falls_that_nobody_asked_for_are_not_in_it() -> None:
    zone = "    zones: {floor: {points: [[0, 0], [1, 0], [1, 1]]}}\n"
    with_zone = BASE + zone
    assert sha("falls: false\n" + BASE) == sha(BASE) != sha("falls: true\n" + BASE)
    assert sha(with_zone.replace("1]]}", "1]], falls: false}")) == sha(with_zone)
    assert sha(with_zone.replace("1]]}", "1]], falls: true}")) != sha(with_zone)
