"""Evidence: the very frames, with their hashes; what is drawn lies where the event says; what is gone is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.bus.codec import decode_window, frame_pictures
from pipeline.bus.images import decode
from pipeline.core.events import CAMERA_STATUS, COUNT_WINDOW, LINE_CROSSED, ZONE_ENTERED, ZONE_EXITED, Event
from pipeline.errors import OffsetGone, UsageError
from pipeline.outputs.evidence import concerned
from pipeline.services.evidence import Cut, cut, find_event, see_again
from pipeline.services.evidence_files import write_evidence
from pipeline.services.replay import Replay
from tests.services.logged import TOPICS, Logged


def _crossing(street: Logged) -> Event:
    """One in the second epoch, with video on both sides of it."""
    crossings = (event for event in street.of_type(LINE_CROSSED) if event.data["epoch"] == 2)
    return next(event for event in crossings if 20 < event.data["provenance"]["frames"][0] < 120)


def _cut(street: Logged, event: Event, before_s: float = 1.0, after_s: float = 1.0, most_s: float = 60.0) -> Cut:
    found = find_event(street.log, TOPICS, event.id)
    return cut(street.log, TOPICS, found, before_s=before_s, after_s=after_s, most_s=most_s)


@contextmanager
def _deleted(street: Logged, before: int) -> Iterator[None]:
    part = street.log.topics[TOPICS.windows.name][0]
    kept = dict(part.records)
    street.log.delete_before(TOPICS.windows.name, 0, before)
    try:
        yield
    finally:
        part.records, part.beginning = kept, 0


def test_events_are_found_by_id_from_the_newest_on(street: Logged) -> None:
    looked: list[int] = []
    for event in (street.events[0], street.events[-1], street.of_type(COUNT_WINDOW)[1]):
        found = find_event(street.log, TOPICS, event.id, looked=looked.append)
        assert found.event == event
        assert found.origin_offset == event.data["origin"]["offset"]
    assert find_event(street.log, TOPICS, street.events[3].id, camera_id="street").event == street.events[3]


def test_an_event_that_is_not_there_is_told_with_the_reasons_there_are(street: Logged) -> None:
    with pytest.raises(UsageError, match=r"no event 0000.*passerby run.* have no log") as told:
        find_event(street.log, TOPICS, "0" * 32)
    assert f"{len(street.events)} records looked at" in str(told.value)
    with pytest.raises(UsageError, match="no event"):
        find_event(street.log, TOPICS, street.events[0].id, since_ms=2**45)


def test_the_cut_holds_every_named_frame_and_the_seconds_around(street: Logged) -> None:
    event = _crossing(street)
    found = _cut(street, event, before_s=1.0, after_s=0.5)
    named = event.data["provenance"]["frames"]
    assert [each.frame.index for each in found.frames if each.named] == named
    assert found.missing == ()
    times = {each.frame.index: each.frame.captured_at_us for each in found.frames}
    assert times[named[0]] - 1_000_000 <= min(times.values()) < times[named[0]] - 800_000
    assert times[named[-1]] + 300_000 < max(times.values()) <= times[named[-1]] + 500_000
    indices = [each.frame.index for each in found.frames]
    everything = [f.index for w in street.windows[:-2] if w.epoch == 2 for f in w.frames]
    assert indices == [index for index in everything if indices[0] <= index <= indices[-1]], "none is left out"
    assert {each.window.epoch for each in found.windows} == {2}
    assert found.size == (640, 360)


def test_the_frames_are_the_bytes_of_the_log(street: Logged) -> None:
    found = _cut(street, _crossing(street))
    records = street.log.topics[TOPICS.windows.name][0].records
    for each in found.frames:
        value = records[each.place.offset][0].value or b""
        pictures = dict(frame_pictures(value))
        assert each.encoded == pictures[each.frame.index]
        assert each.sha256 == hashlib.sha256(pictures[each.frame.index]).hexdigest()
        height, width = each.frame.picture.shape[:2]
        assert np.array_equal(decode(each.encoded, "jpeg", height, width), each.frame.picture)
    assert all(
        window.sha256 == hashlib.sha256(records[window.place.offset][0].value or b"").hexdigest()
        for window in found.windows
    )


def test_every_kind_of_event_can_be_cut(street: Logged) -> None:
    for type_ in (ZONE_ENTERED, ZONE_EXITED, COUNT_WINDOW, CAMERA_STATUS):
        event = street.of_type(type_)[-1]
        found = _cut(street, event)
        assert found.missing == ()
        assert {each.frame.index for each in found.frames} >= set(event.data.get("provenance", {}).get("frames", []))


def test_no_more_than_asked_for_and_then_the_end_is_kept(street: Logged) -> None:
    event = street.of_type(COUNT_WINDOW)[1]
    found = _cut(street, event, before_s=0, after_s=0, most_s=1.0)
    first, last = found.frames[0].frame, found.frames[-1].frame
    assert last.captured_at_us - first.captured_at_us <= 1_000_000
    assert last.index == event.data["provenance"]["frames"][-1]
    assert found.missing == (event.data["provenance"]["frames"][0],)
    assert "are not in the cut" in found.notes[0]


def test_deleted_pictures_are_told(street: Logged) -> None:
    event = _crossing(street)
    offset = event.data["origin"]["offset"]
    with _deleted(street, offset + 1), pytest.raises(OffsetGone, match=f"begins at {offset + 1} now.*retention"):
        _cut(street, event)
    for event in street.of_type(COUNT_WINDOW):
        offset = event.data["origin"]["offset"]
        there = {frame.index for frame in street.windows[offset].frames}
        gone = tuple(index for index in event.data["provenance"]["frames"] if index not in there)
        with _deleted(street, offset):
            if there:
                found = _cut(street, event)
                assert found.missing == gone != ()
                assert "deleted" in found.notes[0]
            else:  # the status that ended the epoch
                with pytest.raises(OffsetGone, match="no frame around"):
                    _cut(street, event)


@pytest.fixture(scope="module")
def evidence(street: Logged, replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Event, Cut]:
    folder = tmp_path_factory.mktemp("evidence")
    event = _crossing(street)
    found = _cut(street, event)
    seen = see_again(replay, found)
    assert seen is not None
    assert seen.iou > 0.7
    assert seen.notes == []
    write_evidence(folder, found, seen, ("mp4", "png", "frames"))
    return folder, event, found


def test_the_sidecar_names_the_hash_of_everything(evidence: tuple[Path, Event, Cut], street: Logged) -> None:
    folder, event, found = evidence
    told = json.loads((folder / f"street-{event.id}.json").read_text(encoding="utf-8"))
    assert told["event"] == json.loads(json.dumps(event.structured()))
    assert told["record"]["topic"] == TOPICS.events.name
    assert [each["frame"] for each in told["frames"]] == [each.frame.index for each in found.frames]
    assert [each["frame"] for each in told["frames"] if each["named"]] == event.data["provenance"]["frames"]
    assert told["drawn"]["model_sha256"] == event.data["provenance"]["model_sha256"]
    assert told["drawn"]["object"]["overlap_with_published_box"] > 0.7
    assert len(told["files"]) == 2 + len(found.frames)
    for name, facts in told["files"].items():
        data = (folder / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    by_frame = {each["frame"]: each["sha256"] for each in told["frames"]}
    for path in (folder / f"street-{event.id}").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == by_frame[int(path.stem)]
    for each in told["windows"]:
        value = street.log.topics[TOPICS.windows.name][0].records[each["offset"]][0].value or b""
        assert (each["sha256"], each["bytes"]) == (hashlib.sha256(value).hexdigest(), len(value))
        assert decode_window(value).sequence == each["sequence"]


def test_the_video_shows_every_frame_at_its_time(evidence: tuple[Path, Event, Cut]) -> None:
    folder, event, found = evidence
    with av.open(str(folder / f"street-{event.id}.mp4")) as video:
        times = [float(frame.time or 0.0) for frame in video.decode(video=0)]
    captured = [each.frame.captured_at_us for each in found.frames]
    assert times == pytest.approx([(at - captured[0]) / 1e6 for at in captured], abs=1e-3)


def test_the_still_has_the_box_where_the_event_says(evidence: tuple[Path, Event, Cut]) -> None:
    folder, event, found = evidence
    told = json.loads((folder / f"street-{event.id}.json").read_text(encoding="utf-8"))
    index = next(each["frame"] for each in told["frames"] if each["shown_as_still"])
    assert index in event.data["provenance"]["frames"]
    still = np.asarray(Image.open(folder / f"street-{event.id}.png").convert("RGB")).astype(int)
    height, width = still.shape[:2]
    bbox = event.data["bbox"]
    row = round((bbox["y_min"] + bbox["y_max"]) / 2 * height)
    plain = next(each for each in found.frames if each.frame.index == index).frame.picture
    assert width % plain.shape[1] == 0
    for side in ("x_min", "x_max"):
        column = round(bbox[side] * width)
        around = still[row, max(0, column - 14) : column + 14]
        assert (around.min(axis=1) > 235).any(), f"the published box is white at its {side}"


def test_only_the_rule_it_is_about_is_drawn(street: Logged) -> None:
    rules = street.config.cameras["street"].rules()
    assert [line.name for line in concerned(rules, _crossing(street)).lines] == ["kerb"]
    assert concerned(rules, _crossing(street)).zones == ()
    assert [zone.name for zone in concerned(rules, street.of_type(ZONE_EXITED)[0]).zones] == ["plaza"]
    assert concerned(rules, street.of_type(COUNT_WINDOW)[0]) == rules


def test_without_its_model_the_published_box_is_drawn_and_that_is_told(
    street: Logged, replay: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.errors import ModelError

    def gone(*_: object) -> None:
        raise ModelError("there is no model 'gone'")

    event = _crossing(street)
    found = _cut(street, event)
    monkeypatch.setattr(replay._models, "engine", gone)
    replay._plans.clear()
    try:
        assert see_again(replay, found) is None
    finally:
        replay._plans.clear()
    assert "there is no model 'gone'" in found.notes[0]
    written = write_evidence(tmp_path, found, None, ("png",))
    assert [path.suffix for path in written] == [".png", ".json"]
    told = json.loads(written[-1].read_text(encoding="utf-8"))
    assert told["drawn"] == {"published_box": True, "tracks": False}
    assert told["notes"] == found.notes
