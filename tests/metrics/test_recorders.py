"""What recorders tell: once, only what is published, and nothing of cameras that have left."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from pipeline.core.events import COUNT_WINDOW, LINE_CROSSED, SCENE_EVENT, Event
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.core.ledger import FrameLedger
from pipeline.core.rules import CameraRules, LineRule, ZoneRule
from pipeline.metrics import InferMetrics, IngestMetrics, RunMetrics, SpoolState
from pipeline.metrics.catalogue import CATALOGUE

NOW_US = 1_800_000_000_000_000
_SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class Observed:
    events: tuple[Event, ...] = ()
    occupancy: dict[str, int] = field(default_factory=dict)
    zones: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class HealthOfASource:
    corrupt_packets: int = 3
    repaired_timestamps: int = 2
    hung_readers: int = 1
    reconnects: dict[str, int] = field(default_factory=lambda: {"stalled": 4})


def rules(camera_id: str = "gate", lines: int = 1, zones: int = 1) -> CameraRules:
    return CameraRules(
        camera_id,
        tuple(LineRule(f"line{n}", ((0.0, 0.5), (1.0, 0.5))) for n in range(lines)),
        tuple(ZoneRule(f"zone{n}", _SQUARE, ("person", "dog"), dwell_s=5, crowded_at=3) for n in range(zones)),
    )


def window(camera_id: str = "gate", frames: int = 2, age_s: float = 0.4, **more: object) -> FrameWindow:
    last_us = NOW_US - round(age_s * 1e6)
    taken = tuple(
        Frame(n, n * 125_000, last_us - (frames - 1 - n) * 125_000, np.zeros((1, 1, 3), np.uint8))
        for n in range(frames)
    )
    return FrameWindow(camera_id, 1, 0, taken, 64, 36, 8.0, more.pop("time_source", "wall"), **more)  # type: ignore[arg-type]


def crossed(class_id: str = "car", direction: str = "left") -> Event:
    return Event("1", LINE_CROSSED, "gate", 0, {"line": "line0", "direction": direction, "class_id": class_id})


@pytest.fixture
def infer() -> InferMetrics:
    metrics = InferMetrics(utc_us=lambda: NOW_US)
    metrics.camera_came(rules(), partition=5)
    return metrics


def test_results_are_told_when_their_transaction_is_committed(infer: InferMetrics) -> None:
    value = infer.registry.value
    seen = window()
    counted = Event("2", COUNT_WINDOW, "gate", 0, {"coverage": 0.75})
    infer.observed(seen, seen.frames[0], Observed((crossed(), crossed("dog"))))
    infer.observed(seen, seen.frames[1], Observed((counted,), {"person": 4}, {"zone0": {"person": 2, "dog": 1}}))
    infer.analysed(seen, 0.003, timestamp_ms=NOW_US // 1000)
    assert value("passerby_events_total", camera="gate", type="line.crossed") == 0
    assert value("passerby_frames_analysed_total", camera="gate") == 0
    infer.committed(0.012)
    assert value("passerby_events_total", camera="gate", type="line.crossed") == 2
    assert value("passerby_events_total", camera="gate", type="count.window") == 1
    crossings = {"camera": "gate", "line": "line0", "direction": "left"}
    assert value("passerby_objects_crossed_total", group="vehicle", **crossings) == 1
    assert value("passerby_objects_crossed_total", group="other", **crossings) == 1
    assert value("passerby_objects_crossed_total", group="person", **crossings) == 0
    assert value("passerby_frames_analysed_total", camera="gate") == 2
    assert value("passerby_objects_present", camera="gate", group="person") == 4
    assert value("passerby_objects_present", camera="gate", group="vehicle") == 0
    assert value("passerby_zone_occupancy", camera="gate", zone="zone0", group="other") == 1
    assert value("passerby_camera_coverage_ratio", camera="gate") == 0.75
    assert value("passerby_capture_to_event_seconds_count", camera="gate") == 1
    assert value("passerby_capture_to_event_seconds_sum", camera="gate") == pytest.approx(0.4)
    assert value("passerby_transactions_total", outcome="committed") == 1
    assert value("passerby_stage_duration_seconds_sum", stage="commit") == pytest.approx(0.012)
    infer.committed(0.01)
    assert value("passerby_events_total", camera="gate", type="line.crossed") == 2


def test_a_camera_is_tampered_with_until_that_has_ended(infer: InferMetrics) -> None:
    told = []
    for kind, phase in (("covered", "start"), ("covered", "update"), ("covered", "end"), ("fight", "start")):
        seen = window()
        event = Event(phase, SCENE_EVENT, "gate", 0, {"kind": kind, "phase": phase})
        infer.observed(seen, seen.frames[0], Observed((event,)))
        infer.committed(0.01)
        told.append(infer.registry.value("passerby_camera_tampered", camera="gate"))
    assert told == [1, 1, 0, 0]


def test_scene_events_are_open_from_start_to_end_by_kind_and_person(infer: InferMetrics) -> None:
    told = []
    for kind, phase, track in (
        ("fight", "start", None), ("fall", "start", 3), ("fall", "start", 4), ("fall", "update", 3),
        ("fight", "update", None), ("fight", "end", None), ("fall", "end", 3), ("fall", "end", 4),
        ("fight", "start", None),
    ):  # fmt: skip
        data = {"kind": kind, "phase": phase} | ({"track_id": track} if track is not None else {})
        seen = window()
        infer.observed(seen, seen.frames[0], Observed((Event("e", SCENE_EVENT, "gate", 0, data),)))
        infer.committed(0.01)
        value = infer.registry.value
        told.append([value("passerby_scene_open", camera="gate", scene=each) for each in ("fight", "fall")])
    assert told[1:] == [[1, 1], [1, 2], [1, 2], [1, 2], [0, 2], [0, 1], [0, 0], [1, 0]]
    assert value("passerby_scene_started_total", camera="gate", scene="fight") == 2
    assert value("passerby_scene_started_total", camera="gate", scene="fall") == 2
    infer.camera_left("gate")
    infer.camera_came(replace(rules(), condition=("covered",), falls=True), partition=5)
    assert value("passerby_scene_open", camera="gate", scene="fight") is None
    begun = [value("passerby_scene_started_total", camera="gate", scene=each) for each in ("covered", "fall")]
    assert begun == [0, 0]


def test_what_was_aborted_and_came_again_is_counted_once(infer: InferMetrics) -> None:
    value = infer.registry.value
    for end in (lambda: infer.aborted(0.1), infer.fenced, lambda: infer.committed(0.1)):
        seen = window()
        infer.observed(seen, seen.frames[0], Observed((crossed(),)))
        infer.analysed(seen, 0.001, timestamp_ms=1)
        infer.void(window(frames=3))
        end()
    assert value("passerby_events_total", camera="gate", type="line.crossed") == 1
    assert value("passerby_frames_analysed_total", camera="gate") == 2
    assert value("passerby_windows_void_total", camera="gate") == 1
    assert value("passerby_frames_dropped_total", camera="gate", cause="superseded_epoch") == 3
    outcomes = [value("passerby_transactions_total", outcome=each) for each in ("committed", "aborted", "fenced")]
    assert outcomes == [1, 1, 1]


def test_a_recording_has_no_age(infer: InferMetrics) -> None:
    seen = window(time_source="pts")
    infer.observed(seen, seen.frames[1], Observed())
    infer.committed(0.1)
    assert infer.registry.value("passerby_capture_to_event_seconds_count", camera="gate") == 0


def test_of_a_camera_that_left_nothing_stays_and_nothing_comes_back(infer: InferMetrics) -> None:
    infer.camera_came(rules("yard"), partition=2)
    seen = window()
    infer.observed(seen, seen.frames[1], Observed((crossed(),), {"person": 1}))
    infer.camera_left("gate")
    infer.polled("gate", 1)
    infer.observed(seen, seen.frames[1], Observed((crossed(),), {"person": 1}))
    infer.analysed(seen, 0.1, 1)
    infer.void(seen)
    infer.committed(0.1)
    assert {labels["camera"] for _, labels, _ in infer.registry.series() if "camera" in labels} == {"yard"}
    infer.camera_came(rules(), partition=5)
    assert infer.registry.value("passerby_events_total", camera="gate", type="line.crossed") == 0


def test_lines_and_zones_that_are_no_more_leave_no_series(infer: InferMetrics) -> None:
    infer.camera_came(rules(lines=2, zones=2), partition=5)
    seen = window()
    infer.observed(seen, None, Observed((crossed(),)))
    infer.committed(0.1)
    infer.camera_came(rules(lines=1, zones=0), partition=5)
    told = infer.registry.series()
    assert {labels["line"] for _, labels, _ in told if "line" in labels} == {"line0"}
    assert not [labels for _, labels, _ in told if "zone" in labels]
    kept = {"camera": "gate", "line": "line0", "direction": "left", "group": "vehicle"}
    assert infer.registry.value("passerby_objects_crossed_total", **kept) == 1


def test_lag_is_that_of_what_waits() -> None:
    now_us = [NOW_US]
    waiting = {5: 0}
    metrics = InferMetrics(utc_us=lambda: now_us[0])
    metrics.follow_lag(lambda: waiting)
    metrics.camera_came(rules(), partition=5)

    def lag() -> float | None:
        return metrics.registry.value("passerby_lag_seconds", camera="gate")

    sent_ms = NOW_US // 1000
    assert lag() == 0
    metrics.polled("gate", sent_ms - 4000)
    assert lag() == pytest.approx(4, abs=0.01)
    metrics.analysed(window(), 0.01, sent_ms - 4000)
    assert lag() == 0
    waiting[5] = 7
    assert lag() == pytest.approx(4)
    assert metrics.registry.value("passerby_lag_records", partition="5") == 7
    now_us[0] += 2_000_000
    assert lag() == pytest.approx(6)
    gone = StreamStatus("down", "no route", NOW_US)
    metrics.analysed(window(frames=0, status=gone), 0.01, sent_ms)
    assert lag() == 0, "a camera that is down is not late, whatever else its partition holds"


def test_ingest_tells_the_ledger_the_sources_and_the_spool() -> None:
    ledger = FrameLedger()
    metrics = IngestMetrics(ledger, utc_us=lambda: NOW_US)
    metrics.camera_came("gate", HealthOfASource)
    metrics.follow_spool(lambda: SpoolState(1000, 5000, 4, 2.5, 1))
    ledger.captured("gate", 5)
    ledger.captured_and_sampled_out("gate", 7)
    ledger.captured("nobody", 1)
    ledger.analysed("gate", 2)
    ledger.dropped("gate", 1, "stale")
    value = metrics.registry.value
    names = ("captured_total", "sampled_out_total", "sent_total")
    assert [value(f"passerby_frames_{name}", camera="gate") for name in names] == [12, 7, 2]
    assert value("passerby_frames_in_flight", camera="gate") == 2
    assert value("passerby_frames_dropped_total", camera="gate", cause="stale") == 1
    assert value("passerby_frames_dropped_total", camera="gate", cause="spool_full") == 0
    assert value("passerby_frames_captured_total", camera="nobody") is None
    assert value("passerby_camera_reconnects_total", camera="gate", reason="stalled") == 4
    assert value("passerby_camera_hung_readers", camera="gate") == 1
    assert value("passerby_spool_oldest_age_seconds") == 2.5
    assert value("passerby_camera_up", camera="gate") == 0
    metrics.status("gate", StreamStatus("up", "h264", 0))
    assert value("passerby_camera_up", camera="gate") == 1
    metrics.status("gate", StreamStatus("ended", "read to its end", 0))
    assert value("passerby_camera_up", camera="gate") == 0
    assert value("passerby_camera_ended", camera="gate") == 1
    metrics.sent("gate", 2000, 0.01)
    assert value("passerby_windows_sent_bytes_total", camera="gate") == 2000
    metrics.camera_left("gate")
    metrics.status("gate", StreamStatus("down", "late news", 0))
    metrics.sent("gate", 2000, 0.01)
    assert not [labels for _, labels, _ in metrics.registry.series() if "camera" in labels]


def test_the_newest_frame_is_when_the_ledger_last_grew() -> None:
    ledger, now_us = FrameLedger(), [NOW_US]
    metrics = IngestMetrics(ledger, utc_us=lambda: now_us[0])
    metrics.camera_came("gate")

    def newest() -> float | None:
        return metrics.registry.value("passerby_camera_last_frame_timestamp_seconds", camera="gate")

    assert newest() is None
    ledger.captured_and_sampled_out("gate")
    assert newest() == NOW_US / 1e6
    now_us[0] += 5_000_000
    assert newest() == NOW_US / 1e6
    ledger.captured("gate")
    assert newest() == NOW_US / 1e6 + 5
    metrics.camera_left("gate")
    assert newest() is None


def test_a_run_has_both_sides() -> None:
    ledger = FrameLedger()
    metrics = RunMetrics(ledger, utc_us=lambda: NOW_US)
    metrics.camera_came(rules(), HealthOfASource)
    ledger.captured("gate", 3)
    ledger.analysed("gate", 2)
    seen = window()
    metrics.observed(seen, seen.frames[1], Observed((crossed(),), {"vehicle": 1}))
    metrics.analysed(seen, 0.002)
    value = metrics.registry.value
    assert value("passerby_camera_up", camera="gate") == 1
    assert value("passerby_lag_seconds", camera="gate") == pytest.approx(0.4)
    assert value("passerby_frames_analysed_total", camera="gate") == 2
    assert value("passerby_events_total", camera="gate", type="line.crossed") == 1
    down = StreamStatus("down", "no frame for 10 s", NOW_US)
    metrics.observed(window(frames=0, status=down), None, Observed())
    assert value("passerby_camera_up", camera="gate") == 0
    assert value("passerby_objects_present", camera="gate", group="vehicle") == 0


def test_a_reading_that_fails_takes_only_its_own_series_along(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> HealthOfASource:
        raise OSError("no")

    metrics = IngestMetrics(FrameLedger())
    metrics.camera_came("gate", broken)
    assert metrics.registry.value("passerby_frames_captured_total", camera="gate") == 0
    assert "a reading failed" in caplog.text


def test_words_that_nobody_foresaw_make_no_new_series() -> None:
    metrics = InferMetrics()
    before = len(metrics.registry.series())
    metrics.dead_letter("windows", "not a JPEG picture: 0xff 0xd9 at byte 17")
    assert metrics.registry.value("passerby_dead_letters_total", topic="windows", reason="other") == 1
    assert len(metrics.registry.series()) == before


@pytest.mark.parametrize("cameras", [1, 40])
def test_series_are_bounded_by_cameras_lines_and_zones(cameras: int) -> None:
    """Everything that can happen to a camera with 2 lines and 2 zones happens: the series it costs are few."""
    ledger = FrameLedger()
    ingest, infer, run = IngestMetrics(ledger), InferMetrics(), RunMetrics(ledger)
    empty = [len(worker.registry.series()) for worker in (ingest, infer, run)]
    for n in range(cameras):
        camera_id = f"camera{n}"
        ledger.captured(camera_id)
        ingest.camera_came(camera_id, HealthOfASource)
        infer.camera_came(rules(camera_id, 2, 2), partition=0)
        run.camera_came(rules(camera_id, 2, 2), HealthOfASource)
        for _ in range(3):
            seen = window(camera_id)
            for class_id in ("person", "car", "bicycle", "dog"):
                events = (
                    crossed(class_id),
                    crossed(class_id, "right"),
                    Event("", COUNT_WINDOW, "", 0, {"coverage": 1}),
                )
                observed = Observed(events, {"person": 1}, {"zone0": {"person": 1, "dog": 2}})
                infer.observed(seen, seen.frames[-1], observed)
                run.observed(seen, seen.frames[-1], observed)
            infer.analysed(seen, 0.1, 1)
            infer.void(seen)
            infer.committed(0.1)
            ingest.sent(camera_id, 10, 0.1)
    grown = [len(w.registry.series()) - n for w, n in zip((ingest, infer, run), empty, strict=True)]
    assert [each / cameras for each in grown] == [23, 44, 63]


def test_recording_costs_microseconds(infer: InferMetrics) -> None:
    """The bound is loose, for a busy machine; a scrape or a search per frame would be a hundred times over it."""
    seen, observation = window(frames=8), Observed((), {"person": 3})
    began = time.process_time()
    for _ in range(1000):
        for frame in seen.frames:
            infer.observed(seen, frame, observation)
        infer.batch("passerby-nano", 1, 0.001, 0.01)
        infer.polled("gate", 1)
        infer.analysed(seen, 0.01, 1)
    infer.committed(0.01)
    assert (time.process_time() - began) / 8000 < 100e-6


def test_threads_record_while_prometheus_reads_and_cameras_come_and_go() -> None:
    metrics = InferMetrics()
    stop = threading.Event()
    failures: list[BaseException] = []

    def guarded(work: object) -> None:
        try:
            while not stop.is_set():
                work()  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    def come_and_go() -> None:
        metrics.camera_came(rules("gate"), 1)
        seen = window()
        metrics.observed(seen, seen.frames[-1], Observed((crossed(),)))
        metrics.committed(0.1)
        metrics.camera_left("gate")

    works = (
        come_and_go,
        metrics.registry.series,
        lambda: metrics.batch("m", 1, 0.1, 0.1),
        lambda: metrics.polled("gate", 1),
    )
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not [labels for _, labels, _ in metrics.registry.series() if "camera" in labels]


def test_every_metric_of_the_catalogue_is_told_by_some_worker() -> None:
    ledger = FrameLedger()
    ingest, infer, run = IngestMetrics(ledger), InferMetrics(), RunMetrics(ledger)
    ledger.captured("gate")
    ingest.camera_came("gate", HealthOfASource)
    ingest.follow_spool(SpoolState)
    infer.camera_came(rules(), 1)
    infer.follow_lag(lambda: {1: 0})
    infer.model_loaded("passerby-nano", "0.1.0", "ab" * 32, "cpu")
    counted = Event("", COUNT_WINDOW, "", 0, {"coverage": 1})
    seen = Event("", SCENE_EVENT, "", 0, {"kind": "fight", "phase": "start"})
    infer.observed(window(), None, Observed((counted, seen)))
    infer.committed(0.1)
    ingest.sent("gate", 1, 0.1)
    for worker in (ingest, infer):
        worker.broker_reachable(True)
        worker.watch_worker(lambda: True, lambda: 0.0)
    told = {name for w in (ingest, infer, run) for name, _, _ in w.registry.series()}
    silent = {m.name for m in CATALOGUE if m.name not in told and f"{m.name}_count" not in told}
    assert silent == set()
