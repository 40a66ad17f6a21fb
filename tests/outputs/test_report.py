"""The report: its numbers are the data's, nothing gets in or out, and a long run does not make it grow."""

from __future__ import annotations

import base64
import io
import re
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipeline.core.events import VEHICLE_STOPPED, Event
from pipeline.core.ledger import LedgerLine
from pipeline.core.rules import CameraRules, LineRule, ZoneRule
from pipeline.errors import OutputError
from pipeline.outputs.camera_log import DWELL_EDGES_S
from pipeline.outputs.report import ReportBuilder
from pipeline.outputs.timeline import Timeline
from pipeline.outputs.wording import duration, percent
from tests.outputs.samples import crossing, exit_of, status, track, window

VOID = {"meta", "img", "input", "br", "hr", "link"}
DAY_US = 1_767_254_400_000_000  # 2026-01-01T08:00:00Z
RULES = CameraRules(
    "gate",
    (LineRule("kerb", ((0.0, 0.6), (1.0, 0.6))),),
    (ZoneRule("plaza", ((0.1, 0.1), (0.6, 0.1), (0.6, 0.6)), ("person",)),),
)


class Page(HTMLParser):
    """A page as nested elements; fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.root = ElementTree.Element("root")
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root], f"not closed: {[each.tag for each in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = ElementTree.SubElement(self._open[-1], tag, {name: value or "" for name, value in attrs})
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        ElementTree.SubElement(self._open[-1], tag, {name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        parent = self._open[-1]
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + data
        else:
            parent.text = (parent.text or "") + data

    def all(self, tag: str, css: str | None = None) -> list[ElementTree.Element]:
        found = self.root.iter(tag)
        return [each for each in found if css is None or css in each.get("class", "").split()]

    def charts(self, label: str) -> list[ElementTree.Element]:
        return [each for each in self.all("svg", "chart") if label in each.get("aria-label", "")]


def words(element: ElementTree.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def titles(chart: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in chart.iter("title")]


def written(builder: ReportBuilder, path: Path, **facts: object) -> Page:
    builder.write(path / "report.html", **{"ledger": {}, **facts})  # type: ignore[arg-type]
    return Page((path / "report.html").read_text(encoding="utf-8"))


def watched(base_us: int = DAY_US) -> ReportBuilder:
    """A minute: two people and a car for 20 s, nothing seen for 20 s, nobody there for 20 s."""
    builder = ReportBuilder([RULES])
    builder.still("gate", np.full((360, 640, 3), 90, np.uint8))
    here = [track(1, (100, 100, 140, 200)), track(2, (300, 100, 340, 220)), track(3, (10, 200, 110, 260), "car")]
    for n in range(60 * 8 + 1):
        at_us = base_us + n * 125_000
        if 20 <= n / 8 < 40:
            continue
        builder.tracks("gate", here if n / 8 < 20 else [], 640, 360, at_us)
    for n, (second, direction, class_id) in enumerate(
        [
            (3, "left", "person"),
            (5, "right", "person"),
            (6, "right", "person"),
            (7, "right", "car"),
            (45, "left", "car"),
        ]
    ):
        builder.event(crossing(base_us + second * 1_000_000, direction=direction, class_id=class_id, n=n))
    for n, dwell_s in enumerate((1.0, 2.5, 4.0, 12.0, 4000.0)):
        builder.event(exit_of(base_us + 19_000_000 + n, dwell_s))
    for second, coverage in ((0, 1.0), (10, 1.0), (40, 1.0), (50, 1.0)):
        builder.event(window(base_us + second * 1_000_000, base_us + (second + 10) * 1_000_000, coverage=coverage))
    builder.event(status(base_us + 60_100_000, "ended", reason="read to its end"))
    return builder


def test_crossings_in_table_tiles_and_chart_are_the_events(tmp_path: Path) -> None:
    page = written(watched(), tmp_path)
    (table,) = page.all("table", "crossings")
    assert table.get("data-line") == "kerb"
    counted = {
        (row.get("data-kind"), cell.get("data-side")): int(words(cell))
        for row in table.iter("tr")
        for cell in row.iter("td")
        if cell.get("data-side")
    }
    assert counted == {("person", "left"): 1, ("person", "right"): 2, ("vehicle", "left"): 1, ("vehicle", "right"): 1}
    tiles = [words(tile) for tile in page.all("div", "tile")]
    assert tiles[0].startswith("3 people crossed a line 1 to the left, 2 to the right")
    assert tiles[1].startswith("2 vehicles crossed a line")
    (chart,) = page.charts("Crossings of kerb so far")
    last = titles(chart)[-1]
    assert last.endswith("person 1 left 2 right, vehicle 1 left 1 right")
    at_six = next(title for title in titles(chart) if "08:00:06" in title)
    assert at_six.endswith("person 1 left 1 right, vehicle 0 left 0 right")


def test_blind_time_is_grey_and_nobody_is_a_zero(tmp_path: Path) -> None:
    page = written(watched(), tmp_path)
    (chart,) = page.charts("in the picture of gate over time")
    told = titles(chart)
    assert len(told) == 121  # half seconds
    assert "people 2.00 mean, 2 max, vehicles 1.00 mean, 1 max" in told[10]
    assert told[60].endswith("not observed")
    assert "people 0.00 mean, 0 max, vehicles 0.00 mean, 0 max, observed 100" in told[100]
    gaps = [
        each for each in chart.iter("rect") if each.get("class") == "gap" and "opacity:1.00" in each.get("style", "")
    ]
    assert len(gaps) == 1
    inner = 860 - 40 - 10
    assert float(gaps[0].get("x", "")) == pytest.approx(40 + inner * 40 / 121, abs=1)
    assert float(gaps[0].get("width", "")) == pytest.approx(inner * 40 / 121, abs=inner / 121 + 1)
    # The line is broken over the gap: no point of any line lies in it.
    left, right = float(gaps[0].get("x", "")), float(gaps[0].get("x", "")) + float(gaps[0].get("width", ""))
    lines = list(chart.iter("polyline"))
    assert lines
    for line in lines:
        xs = [float(point.split(",")[0]) for point in line.get("points", "").split()]
        assert all(x <= left + 0.1 or x >= right - 0.1 for x in xs)
        assert max(xs) <= left + 0.1 or min(xs) >= right - 0.1
    assert "observed 66" in words(page.all("summary")[0]) or "observed 67" in words(page.all("summary")[0])


def test_line_heights_are_the_values(tmp_path: Path) -> None:
    page = written(watched(), tmp_path)
    (chart,) = page.charts("in the picture of gate over time")
    people = [each for each in chart.iter("polyline") if each.get("class") == "line person"]
    top, floor = 12.0, 220 - 26.0
    first, second = people
    assert {point.split(",")[1] for point in first.get("points", "").split()} == {f"{top:.2f}"}  # two of two
    assert {point.split(",")[1] for point in second.get("points", "").split()} == {f"{floor:.2f}"}
    vehicles = [each for each in chart.iter("polyline") if each.get("class") == "line vehicle"]
    assert {point.split(",")[1] for point in vehicles[0].get("points", "").split()} == {f"{(top + floor) / 2:.2f}"}


def test_dwell_histogram(tmp_path: Path) -> None:
    page = written(watched(), tmp_path)
    (chart,) = page.charts("Time spent in plaza")
    bars = dict(title.rsplit(": ", 1) for title in titles(chart))
    assert bars["under 2 s"] == "1 stays"
    assert bars["2–5 s"] == "2 stays"
    assert bars["10–20 s"] == "1 stays"
    assert bars["30 s–1 min"] == "0 stays"
    assert bars["over 1 h"] == "1 stays"
    assert len(bars) == len(DWELL_EDGES_S)
    heights = [float(bar.get("height", "")) for bar in chart.iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert "5 stays" in words(page.all("details", "camera")[0])


def test_the_heat_map_is_where_the_feet_were(tmp_path: Path) -> None:
    page = written(watched(), tmp_path)
    heats = {each.get("id", "").rsplit("-", 1)[1]: each for each in page.all("img", "heat")}
    assert set(heats) == {"person", "vehicle"}
    picture = Image.open(io.BytesIO(base64.b64decode(heats["person"].get("src", "").split(",")[1])))
    alpha = np.asarray(picture)[:, :, 3]
    assert picture.mode == "RGBA"
    rows, columns = alpha.shape
    for x, y in ((120, 200), (320, 220)):
        assert alpha[int(y / 360 * rows), int(x / 640 * columns)] > 150
    assert alpha[int(150 / 360 * rows), int(120 / 640 * columns)] == 0  # the head of the first person
    assert alpha[int(260 / 360 * rows), int(60 / 640 * columns)] == 0  # the car is on the other map
    view = page.all("div", "view")[0]
    assert view.get("style") == "aspect-ratio: 640 / 360"


def test_the_ledger_tells_every_frame_and_what_is_not_balanced(tmp_path: Path) -> None:
    ledger = {"gate": LedgerLine(1000, 300, 650, {"stale": 40, "shutdown": 8}, 2), "lost": LedgerLine(10, 3, 3, {}, 0)}
    page = written(watched(), tmp_path, ledger=ledger)
    section = next(each for each in page.all("section") if each.get("id") == "ledger")
    rows = [[words(cell) for cell in row.iter("td")] for row in section.iter("tr")][1:]
    assert rows[0][2:] == ["1\u202f000", "300", "650", "8", "40", "2", "yes"] or rows[0][2:] == [
        "1 000", "300", "650", "8", "40", "2", "yes",
    ]  # fmt: skip
    assert rows[1][-1] == "no"
    assert rows[2][0] == "all cameras"
    assert rows[2][-1] == "no"
    stack = next(each for each in section.iter("div") if each.get("class") == "stack")
    shares = [float(re.sub("[^0-9.]", "", part.get("style", ""))) for part in stack]
    assert shares == pytest.approx([30, 65, 0.8, 4, 0.2])
    assert "ledger not balanced" in words(page.all("div", "tile")[-1])


NASTY = '<script>alert("1")</script>"\'><img src=x onerror=alert(1)>'


def test_everything_from_outside_is_escaped(tmp_path: Path) -> None:
    rules = CameraRules(NASTY, (LineRule(NASTY, ((0, 0), (1, 1))),), (ZoneRule(NASTY, ((0, 0), (1, 0), (1, 1))),))
    builder = ReportBuilder([rules])
    builder.still(NASTY, np.zeros((36, 64, 3), np.uint8))
    builder.tracks(NASTY, [track(1, (1, 1, 9, 9), NASTY)], 64, 36, 1_000_000)
    builder.event(crossing(1_000_000, NASTY, line=NASTY, class_id=NASTY))
    builder.event(exit_of(2_000_000, 3.0, NASTY, zone=NASTY))
    builder.event(status(3_000_000, "down", NASTY, reason=NASTY))
    page = written(
        builder,
        tmp_path,
        ledger={NASTY: LedgerLine(1, 1, 0, {NASTY: 0}, 0)},
        model_card_markdown=f"# {NASTY}\n\n{NASTY} [click](javascript:alert(1)) ![x](http://evil.example/x.png)\n\n```\n{NASTY}\n```",
        model_facts={NASTY: NASTY},
        config_yaml_redacted=NASTY,
        versions={NASTY: NASTY},
        failures={NASTY: NASTY},
    )
    assert len(page.all("script")) == 1
    assert all("onerror" not in each.attrib for each in page.root.iter())
    assert all(each.get("src", "").startswith("data:image/") for each in page.all("img"))
    assert all(each.get("href", "").startswith(("#", "http://")) for each in page.all("a"))
    # NASTY as text, in its cell: what a person sees is what was told.
    assert NASTY in [cell.text for cell in page.all("td")]


def links(page: Page) -> Iterator[str]:
    for element in page.root.iter():
        for name, value in element.attrib.items():
            if name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"}:
                yield value


def test_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    page = written(watched(), tmp_path, model_card_markdown="See [the paper](https://example.org/paper).")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert all(link.startswith(("data:image/", "#", "https://example.org/paper")) for link in links(page))
    assert not page.all("link")
    assert not page.all("iframe")
    styles = "".join(each.text or "" for each in page.all("style"))
    assert "@import" not in styles
    assert "url(" not in styles
    script = page.all("script")[0].text or ""
    assert not re.search(r"fetch|XMLHttpRequest|WebSocket|import\(|https?:", script)
    policy = next(each.get("content", "") for each in page.all("meta") if "Security" in each.get("http-equiv", ""))
    assert policy.startswith("default-src 'none'")


def test_the_script_that_runs_is_the_one_the_policy_allows(tmp_path: Path) -> None:
    import hashlib

    page = written(watched(), tmp_path)
    script = page.all("script")[0].text or ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.text


def test_svgs_are_well_formed(tmp_path: Path) -> None:
    written(watched(), tmp_path)
    found = re.findall(r"<svg class=\"chart\".*?</svg>", (tmp_path / "report.html").read_text(), re.DOTALL)
    assert len(found) == 3
    for svg in found:
        ElementTree.fromstring(svg)  # our own text; XML is stricter than HTML
        assert "nan" not in svg.lower().replace("nance", "")


def test_cameras_that_never_came_and_failures_are_told(tmp_path: Path) -> None:
    builder = watched()
    page = written(
        builder, tmp_path, failures={"yard": "refused the connection"}, ledger={"gate": LedgerLine(1, 1, 0, {}, 0)}
    )
    assert "refused the connection" in words(page.all("section", "failed")[0])
    yard = page.all("details", "camera")[1]
    assert "yard" in words(yard)
    assert "never observed" in words(yard)
    assert not list(yard.iter("img"))


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    page = written(ReportBuilder(), tmp_path)
    assert "nothing was observed" in words(page.root)
    assert "Nothing happened" in words(page.root)


def test_files_count_from_zero_and_cameras_by_the_clock(tmp_path: Path) -> None:
    clip, live = written(watched(0), tmp_path), written(watched(DAY_US), tmp_path)
    assert "1 min 00 s of video" in words(clip.root)
    ticks = [words(each) for each in clip.charts("in the picture")[0].iter("text")]
    assert "0:20" in ticks
    assert "2026-01-01 08:00:00 to 2026-01-01 08:01:00 UTC" in words(live.root)
    assert "08:00:20" in [words(each) for each in live.charts("in the picture")[0].iter("text")]


def test_rare_events_are_not_pushed_out_by_common_ones(tmp_path: Path) -> None:
    builder = ReportBuilder([RULES], last_events=5)
    data = {"camera_id": "gate", "epoch": 1, "zone": "plaza", "class_id": "car", "track_id": "gate/1/9"}
    builder.event(Event("v", VEHICLE_STOPPED, "gate", 1_000_000, data))
    for n in range(50):
        builder.event(crossing(2_000_000 + n, n=n))
    page = written(builder, tmp_path)
    section = next(each for each in page.all("section") if each.get("id") == "events")
    rows = [words(row) for row in section.iter("tr")][1:]
    assert len(rows) == 6
    assert "vehicle.stopped" in rows[-1]
    assert "gate/1/49" in rows[0]


def test_an_outage_at_either_end_is_blind_time(tmp_path: Path) -> None:
    builder = ReportBuilder([RULES])
    builder.event(status(DAY_US, "down", reason="refused"))
    for n in range(81):
        builder.tracks("gate", [], 640, 360, DAY_US + 10_000_000 + n * 125_000)
    builder.event(status(DAY_US + 40_000_000, "ended"))
    page = written(builder, tmp_path)
    assert "observed 25" in words(page.all("summary")[0])


def test_a_file_read_whole_is_observed_whole(tmp_path: Path) -> None:
    builder = ReportBuilder([RULES])
    for n in range(65):
        builder.tracks("gate", [], 640, 360, n * 125_000)
    builder.event(window(0, 10_000_000, coverage=0.8))
    builder.event(status(8_100_000, "ended"))
    page = written(builder, tmp_path)
    assert "observed 100" in words(page.all("summary")[0])
    assert not [each for each in page.charts("in the picture")[0].iter("rect") if each.get("class") == "gap"]


@pytest.mark.slow
def test_a_million_events_and_a_month_of_frames_do_not_grow(tmp_path: Path) -> None:
    builder = ReportBuilder([RULES], bins=60, last_events=20)
    builder.still("gate", np.zeros((90, 160, 3), np.uint8))
    one, here = crossing(DAY_US), [track(1, (10, 10, 20, 40)), track(2, (90, 10, 99, 60), "car")]

    def feed(count: int, from_us: int) -> None:
        for n in range(count):
            at_us = from_us + n * 2_600_000  # a month in a million
            builder.event(Event(one.id, one.type, one.camera_id, at_us, one.data))
            if n % 20 == 0:
                builder.tracks("gate", here, 160, 90, at_us)

    feed(20_000, DAY_US)
    tracemalloc.start()
    feed(20_000, DAY_US + 20_000 * 2_600_000)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    feed(960_000, DAY_US + 40_000 * 2_600_000)
    tracemalloc.start()
    feed(20_000, DAY_US + 1_000_000 * 2_600_000)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert before < 100_000
    assert after < 100_000
    assert peak < 1_000_000
    page = written(builder, tmp_path)
    assert len(page.text) < 400_000
    (chart,) = page.charts("Crossings of kerb so far")
    assert titles(chart)[-1].endswith(f"person {1_020_000} left 0 right, vehicle 0 left 0 right")
    assert len(titles(chart)) <= 60


def test_a_page_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        ReportBuilder().write(tmp_path / "none" / "report.html", ledger={})


class TestTimeline:
    def test_sums_and_maxima_survive_any_number_of_mergers(self) -> None:
        rng = np.random.default_rng(7)
        line = Timeline(bins=16, bin_us=1000)
        times = rng.integers(5_000_000, 9_000_000, 2000)
        for at_us in times.tolist():
            line.add("n", at_us)
            line.raise_to("m", at_us, at_us)
        starts = line.starts_us
        edges = np.append(starts, starts[-1] + line.bin_us)
        assert len(starts) <= 16
        assert line.sums("n").tolist() == np.histogram(times, edges)[0].tolist()
        inside = np.digitize(times, edges) - 1
        assert line.maxima("m").tolist() == [max(times[inside == i], default=0) for i in range(len(starts))]

    def test_earlier_times_may_come_later(self) -> None:
        line = Timeline(bins=4, bin_us=10)
        for at_us in (105, 75, 112, 70):
            line.add("n", at_us)
        assert line.bin_us == 20
        assert line.starts_us.tolist() == [60, 80, 100]
        assert line.sums("n").tolist() == [2, 0, 2]
        assert line.sums("unknown").tolist() == [0, 0, 0]

    def test_spread_keeps_the_amount(self) -> None:
        line = Timeline(bins=8, bin_us=10)
        line.spread("s", 5, 25, 2.0)
        assert line.sums("s").tolist() == [0.5, 1.0, 0.5]
        line.spread("s", 30, 500, 4.7)
        assert line.sums("s").sum() == pytest.approx(6.7)
        line.spread("s", 30, 30, 1.0)
        assert line.sums("s").sum() == pytest.approx(6.7)

    def test_one_bin_is_no_timeline(self) -> None:
        with pytest.raises(ValueError, match="two bins"):
            Timeline(bins=1)


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (None, "–"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.9991, "99.91 %"),
        (0.99999, "> 99.99 %"),
        (0.00001, "< 0.01 %"),
        (0.42, "42 %"),
    ],
)
def test_percent_never_says_all_of_what_is_nearly_all(share: float | None, told: str) -> None:
    assert percent(share).replace("\u202f", " ") == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(8.44, "8.4 s"), (139, "2 min 19 s"), (11_100, "3 h 05 min"), (353_000, "4 d 02 h")]
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told
