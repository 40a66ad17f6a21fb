"""``passerby detect``: a line a picture or frame, the rest kept when one is bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from pipeline.cli import detect
from pipeline.encoding import VideoWriter
from pipeline.errors import ModelError, OutputError, SourceUnreadable, UsageError
from tests.inference.networks import convolving_model, echoing, kept, manifest_for

ORIENTATION = 0x0112


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the model ``echo``: a red picture is a person, a green one a car, a blue one a dog."""
    monkeypatch.chdir(tmp_path)
    data = echoing(("batch", "height", "width", 3), dtype="uint8", layout="nhwc")
    shapes = [{"width": 128, "height": 64}, {"width": 64, "height": 64}]
    spec = {"layout": "nhwc", "dtype": "uint8", "shapes": shapes, "pad": 0}
    outputs = {"boxes": "boxes", "scores": "scores"}
    kept(tmp_path / "echo", data, manifest_for(data, family="passerby", outputs=outputs, input=spec))
    (tmp_path / "pictures").mkdir()
    return tmp_path


def run(*arguments: str, model: str = "echo") -> Result:
    app = typer.Typer()
    detect.register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["detect", *arguments, "--model", model, "--out", "boxes.jsonl"])


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("boxes.jsonl").read_text().splitlines()]


def picture(path: Path, size: tuple[int, int], color: str, **options: Any) -> None:
    Image.new("RGB", size, color).save(path, **options)


def test_each_picture_is_a_line_in_order_at_its_own_shape(home: Path) -> None:
    picture(home / "pictures" / "b.png", (640, 320), "#00ff00")
    picture(home / "pictures" / "a.png", (640, 640), "#ff0000")
    (home / "pictures" / "deep").mkdir()
    picture(home / "pictures" / "deep" / "c.jpg", (32, 32), "#0000ff")
    (home / "pictures" / "labels.txt").write_text("0 0 0 0 0")
    result = run("pictures")
    assert result.exit_code == 0, result.output
    a, b, c = lines()
    assert list(a) == ["path", "frame", "width", "height", "boxes", "scores", "classes"]
    assert (a["path"], a["frame"], a["width"], a["height"]) == ("pictures/a.png", 0, 640, 640)
    assert (a["boxes"], a["scores"], a["classes"]) == ([[80, 80, 240, 400]], [1.0], ["person"])
    assert (b["path"], b["boxes"], b["classes"]) == ("pictures/b.png", [[40, 40, 120, 200]], ["car"])
    assert (c["path"], c["boxes"], c["classes"]) == ("pictures/deep/c.jpg", [[4, 4, 12, 20]], ["dog"])


def test_the_threshold_lets_weak_ones_through(home: Path) -> None:
    picture(home / "weak.png", (64, 64), "#050000")
    assert run("weak.png").exit_code == 0
    assert lines()[0]["scores"] == [round(5 / 255, 6)]
    assert run("weak.png", "--threshold", "0.1").exit_code == 0
    assert lines()[0]["scores"] == []


def test_a_picture_is_seen_the_way_up_its_exif_says(home: Path) -> None:
    image = Image.new("RGB", (200, 100), "#ff0000")
    image.paste("#00ff00", (0, 0, 100, 100))  # green on the left, which is the top once turned
    exif = image.getexif()
    exif[ORIENTATION] = 6
    image.save(home / "turned.jpg", exif=exif, quality=95)
    read = detect.read_picture(home / "turned.jpg")
    assert read.size == (100, 200)
    red, green, _ = read.getpixel((50, 20))  # type: ignore[misc]
    assert green > 200
    assert red < 60
    assert run("turned.jpg").exit_code == 0
    assert (lines()[0]["width"], lines()[0]["height"]) == (100, 200)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_kind_of_picture_is_read(mode: str, home: Path) -> None:
    name = "odd.tif" if mode in {"CMYK", "I;16"} else "odd.png"
    Image.new("L", (80, 40), 255).convert(mode).save(home / name)
    assert run(name).exit_code == 0
    assert (lines()[0]["width"], lines()[0]["height"]) == (80, 40)


def test_sixteen_bits_are_brought_to_eight(home: Path) -> None:
    deep = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    Image.fromarray(deep).save(home / "thermal.png")
    read = np.asarray(detect.read_picture(home / "thermal.png"))
    np.testing.assert_array_equal(read, np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_a_bad_picture_is_named_and_the_rest_is_kept(home: Path) -> None:
    picture(home / "pictures" / "a.png", (64, 64), "#ff0000")
    picture(home / "pictures" / "d.jpg", (640, 640), "#ff0000")
    whole = (home / "pictures" / "d.jpg").read_bytes()
    (home / "pictures" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (home / "pictures" / "c.jpg").write_text("this is text")
    (home / "pictures" / "e.png").touch()
    result = run("pictures")
    assert result.exit_code == 3
    assert [line["path"] for line in lines()] == ["pictures/a.png", "pictures/d.jpg"]
    told = result.stderr.splitlines()
    assert len(told) == 3
    assert told[0].startswith("passerby: pictures/b.jpg: cannot be read: ")
    assert told[1] == "passerby: pictures/c.jpg: is not a picture"
    assert told[2] == "passerby: pictures/e.png: is not a picture"


def test_a_picture_without_an_ending_is_known_by_its_bytes(home: Path) -> None:
    picture(home / "noname", (64, 64), "#ff0000", format="png")
    assert run("noname").exit_code == 0
    assert lines()[0]["classes"] == ["person"]


def test_every_frame_of_a_clip_is_a_line(home: Path) -> None:
    colors = [(230, 20, 20), (20, 230, 20), (20, 20, 230)]
    with VideoWriter(home / "clip.mp4", 128, 64, 25.0) as writer:
        for i in range(30):
            writer.write(np.full((64, 128, 3), colors[i // 10], np.uint8), i / 25)
    picture(home / "z.png", (64, 64), "#ff0000")
    result = run("clip.mp4", "z.png", "--threshold", "0.5")
    assert result.exit_code == 0, result.output
    told = lines()
    assert [line["frame"] for line in told] == [*range(30), 0]
    assert {line["path"] for line in told[:30]} == {"clip.mp4"}
    assert [line["classes"] for line in told] == [["person"]] * 10 + [["car"]] * 10 + [["dog"]] * 10 + [["person"]]
    assert (told[0]["width"], told[0]["height"], told[0]["boxes"]) == (128, 64, [[8, 8, 24, 40]])


def test_a_broken_clip_is_named_and_the_rest_is_kept(home: Path) -> None:
    (home / "bad.mp4").write_bytes(b"\x00" * 5000)
    (home / "notes.bin").write_text("neither picture nor clip")
    picture(home / "z.png", (64, 64), "#ff0000")
    result = run("bad.mp4", "notes.bin", "z.png")
    assert result.exit_code == 3
    assert [line["path"] for line in lines()] == ["z.png"]
    told = result.stderr.splitlines()
    assert len(told) == 2
    assert "bad.mp4" in told[0]
    assert "notes.bin" in told[1]


def test_the_output_does_not_depend_on_the_number_of_threads(home: Path) -> None:
    convolving_model(home / "noise", [(128, 64), (64, 64)])
    rng = np.random.default_rng(8)
    for i in range(20):
        size = (120, 200, 3) if i % 2 else (160, 170, 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(home / "pictures" / f"{i:02}.png")
    written = []
    for threads in ("1", "2", "4"):
        assert run("pictures", "--threads", threads, model="noise").exit_code == 0
        written.append(Path("boxes.jsonl").read_bytes())
    assert sum(len(line["boxes"]) for line in lines()) > 100
    assert written[0] == written[1] == written[2]


def test_wrong_calls_fail_before_anything_is_written(home: Path) -> None:
    result = run("missing.png")
    assert isinstance(result.exception, UsageError)
    assert "missing.png: there is no such file" in str(result.exception)
    assert isinstance(run("pictures").exception, UsageError)
    picture(home / "a.png", (64, 64), "#ff0000")
    assert isinstance(run("a.png", model="nonesuch").exception, ModelError)
    assert not Path("boxes.jsonl").exists()


def test_an_output_that_cannot_be_written_is_said(home: Path) -> None:
    picture(home / "a.png", (64, 64), "#ff0000")
    (home / "boxes.jsonl").mkdir()
    assert isinstance(run("a.png").exception, OutputError)


def test_pictures_shrink_as_frames_do(shared: Path) -> None:
    path = min((shared / "detection" / "coco_six" / "images").iterdir())
    image = detect.read_picture(path)
    small = detect.scaled(image, 208, 140)
    area = cv2.resize(np.asarray(image), (208, 140), interpolation=cv2.INTER_AREA)
    noise = np.mean((small.astype(float) - area) ** 2)
    assert 10 * np.log10(255**2 / noise) > 35
    with pytest.raises(SourceUnreadable):
        detect.read_picture(shared / "README.md")
