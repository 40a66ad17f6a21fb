"""The live view: everything a person needs on any terminal, plain lines on a pipe, logs unharmed."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.console import Console

from pipeline.outputs.terminal import CameraView, LiveView, RunView, clock_text, progress_line, render, totals_text

RUN = RunView("passerby-nano", "CPUExecutionProvider", 2, 83.0, 31.25)
TOTALS = {"kerb": {"person": {"left": 3, "right": 1}, "vehicle": {"left": 0, "right": 12}}}


def view(n: int = 0, **more: object) -> CameraView:
    told: dict[str, object] = {
        "camera_id": f"gate-{n}",
        "state": "up",
        "fps": 7.9,
        "people": 2,
        "vehicles": 5,
        "totals": TOTALS,
    }
    return CameraView(**{**told, **more})  # type: ignore[arg-type]


def shown(cameras: list[CameraView], width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), highlight=False)
    console.print(render(cameras, RUN, width, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_file_shows_its_numbers_progress_and_time_left(width: int) -> None:
    header, _, row = shown([view(progress=0.42, eta_s=31)], width, 24)
    assert "passerby-nano" in header
    assert "CPU × 2" in header
    assert "31.2 frames/s" in header
    assert "gate-0" in row
    assert "7.9" in row
    assert "3L 1R" in row
    assert "0L 12R" in row
    assert "0:31" in row
    assert ("42%" in row) == (width < 100)


def test_a_live_camera_shows_lag_and_drops_with_their_cause() -> None:
    _, head, row = shown([view(lag_s=4.25, dropped={"stale": 7, "backpressure": 1})], 120, 24)
    assert "lag" in head
    assert "4.2 s" in row
    assert "1 backpressure, 7 stale" in row
    assert "read" not in head


@pytest.mark.parametrize("height", [10, 24, 60])
def test_fifty_cameras_fit_and_the_rest_is_summed(height: int) -> None:
    cameras = [view(n, state="down" if n == 40 else "up") for n in range(50)]
    lines = shown(cameras, 80, height)
    assert len(lines) <= height
    assert any("gate-40" in line and "down" in line for line in lines)
    listed = sum("gate-" in line for line in lines)
    if listed < 50:
        assert lines[-1].startswith(f"and {50 - listed} more ({50 - listed} up)")
        assert f"{2 * (50 - listed)} people" in lines[-1]
    else:
        assert "more" not in lines[-1]
    assert all(len(line) <= 80 for line in lines)


def test_names_are_text_and_not_markup() -> None:
    lines = shown([view(camera_id="[red]x[/red]", totals={"[bold]": {"person": {"left": 1, "right": 0}}})], 120, 24)
    assert "[red]x[/red]" in lines[2]
    assert "[bold] person 1L 0R" in lines[2]


def test_several_lines_have_a_row_each_when_there_is_room() -> None:
    totals = {"kerb": TOTALS["kerb"], "door": {"person": {"left": 9, "right": 8}}}
    roomy, tight = shown([view(totals=totals)], 100, 24), shown([view(totals=totals)], 100, 7)
    assert len(roomy) == len(tight) + 1
    assert any("door person 9L 8R" in line for line in roomy)


def test_the_plain_line_sums_all_cameras() -> None:
    line = progress_line(
        [
            view(0, progress=0.5, eta_s=10.0, dropped={"stale": 3}),
            view(1, progress=1.0, state="ended", lag_s=0.5, totals={}),
        ],
        RUN,
    )
    assert line == (
        "1:23 | cameras: 1 ended, 1 up | 31.2 frames/s | 4 people, 10 vehicles now | crossed: 3 left, 13 right | "
        "75% read | 0:10 left | lag 0.5 s | 3 frames dropped"
    )
    assert "cameras: none" in progress_line([], RUN)


def test_a_pipe_gets_one_line_every_few_seconds_and_the_last_state() -> None:
    now = 100.0
    out = io.StringIO()
    with LiveView(stream=out, interval_s=5.0, clock=lambda: now) as live:
        for step in range(80):
            now = 100.0 + step / 4
            live.update([view(people=step)], RUN)
    lines = out.getvalue().splitlines()
    assert [line.split(" people")[0].rsplit("| ", 1)[1] for line in lines] == ["0", "20", "40", "60", "79"]
    assert "\x1b" not in out.getvalue()


def test_a_long_plain_line_is_not_broken() -> None:
    out = io.StringIO()
    console = Console(file=out, width=40)
    with LiveView(console=console, clock=lambda: 0.0) as live:
        live.update([view(progress=0.5, eta_s=9, lag_s=1.0)], RUN)
    assert len(out.getvalue().splitlines()) == 1


@pytest.fixture
def terminal() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=100, height=20, _environ={"TERM": "xterm"}), out


def test_on_a_terminal_the_table_renews_itself(terminal: tuple[Console, io.StringIO]) -> None:
    console, out = terminal
    now = 0.0
    with LiveView(console=console, clock=lambda: now) as live:
        live.update([view(people=11)], RUN)
        now = 1.0
        live.update([view(people=22)], RUN)
        now = 1.05
        live.update([view(people=33)], RUN)  # too soon to show, but the last word when it ends
    text = out.getvalue()
    assert "\x1b[" in text
    for people in ("11 people", "22 people", "33 people"):
        assert people in text
    assert "33 people" in text[text.rindex("passerby-nano") :]  # the state it leaves behind


def test_logs_are_led_around_the_table_and_back(
    terminal: tuple[Console, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    console, out = terminal
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    logger = logging.getLogger("tests.terminal")
    handler = logging.StreamHandler(stderr)
    logger.addHandler(handler)
    other = logging.StreamHandler(io.StringIO())
    logger.addHandler(other)
    elsewhere = other.stream
    try:
        with LiveView(console=console) as live:
            live.update([view()], RUN)
            assert handler.stream is not stderr
            assert other.stream is elsewhere
            logger.warning("the camera [gate] went down")
        assert handler.stream is stderr
        logger.warning("after")
    finally:
        logger.removeHandler(handler)
        logger.removeHandler(other)
    assert "the camera [gate] went down" in out.getvalue()
    assert stderr.getvalue() == "after\n"
    assert elsewhere.getvalue() == "the camera [gate] went down\nafter\n"


def test_an_error_inside_still_gives_the_terminal_back(terminal: tuple[Console, io.StringIO]) -> None:
    console, out = terminal
    before = sys.stderr

    def fail() -> None:
        with LiveView(console=console) as live:
            live.update([view()], RUN)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert sys.stderr is before
    assert "\x1b[?25h" in out.getvalue()  # the cursor is shown again


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00"), (7.4, "0:07"), (723, "12:03"), (94_991, "26:23:11"), (-3, "0:00")]
)
def test_clock(seconds: float, told: str) -> None:
    assert clock_text(seconds) == told


def test_totals_of_nothing() -> None:
    assert totals_text({}) == ""
    assert totals_text({"kerb": {}}) == "kerb 0"
