"""A scripted street in the place of a camera."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceUnreadable
from pipeline.sources.base import EpochStarted, SampledFrame, StatusChanged, StreamSettings, SystemClock
from pipeline.sources.open import open_stream
from pipeline.sources.synthetic import parse_source
from pipeline.sources.synthetic.source import SyntheticStream

SOURCE = "synthetic://street?seed=3&duration=12&situation=walk&width=320&height=180&fps=10"


def settings(source: str = SOURCE, **more: object) -> StreamSettings:
    return StreamSettings("gate", source, **{"sample_fps": 5.0, **more})  # type: ignore[arg-type]


def opened(told: StreamSettings, ledger: FrameLedger, stop: threading.Event | None = None) -> SyntheticStream:
    stream = open_stream(
        told, lambda w, h: (w // 2, h // 2), ledger=ledger, clock=SystemClock(), stop=stop or threading.Event()
    )
    assert isinstance(stream, SyntheticStream)
    return stream


def test_plays_every_sampled_frame_and_accounts_for_the_rest() -> None:
    ledger = FrameLedger()
    with opened(settings(start_us=1_000_000), ledger) as stream:
        items = list(stream)
        assert stream.is_finite
        assert (stream.duration_s, stream.position_s) == (12.0, 12.0)
    first, *frames, last = items
    assert first == EpochStarted(1, "pts", 1_000_000)
    assert isinstance(last, StatusChanged)
    assert (last.status.state, last.status.at_us) == ("ended", 13_000_000)
    sampled = [item for item in frames if isinstance(item, SampledFrame)]
    assert len(sampled) == len(frames) == 60
    assert [item.frame.pts_us for item in sampled] == [200_000 * k for k in range(60)]
    assert [item.frame.index for item in sampled] == [2 * k for k in range(60)]
    assert {(item.width, item.height) for item in sampled} == {(320, 180)}
    assert sampled[7].frame.captured_at_us == 1_000_000 + sampled[7].frame.pts_us
    assert sampled[7].frame.picture.shape == (90, 160, 3)
    line = ledger.lines()["gate"]
    assert (line.captured, line.sampled_out, line.in_flight) == (120, 60, 60)


def test_shows_the_scene_with_masks_painted() -> None:
    mask = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    with opened(settings(masks=(mask,), preview="first"), FrameLedger()) as stream:
        next(stream)
        item, other = next(stream), next(stream)
    assert isinstance(item, SampledFrame)
    assert isinstance(other, SampledFrame)
    assert item.frame.preview is not None
    assert other.frame.preview is None
    scene, _ = parse_source(SOURCE)
    drawn = scene.render(0.0)
    assert not item.frame.picture[:, :80].any()
    assert not item.frame.preview[:, :160].any()
    means = drawn.reshape(90, 2, 160, 2, 3).mean(axis=(1, 3))
    assert np.abs(item.frame.picture[:, 100:].astype(float) - means[:, 100:]).max() <= 1
    assert (item.frame.preview[:, 200:] == drawn[:, 200:]).all()


def test_stops_when_asked() -> None:
    stop = threading.Event()
    with opened(settings(), FrameLedger(), stop) as stream:
        next(stream)
        next(stream)
        stop.set()
        assert list(stream) == []


def test_a_wrong_address_is_said_and_is_no_use_again() -> None:
    with opened(settings("synthetic://street?sed=3"), FrameLedger()) as stream:
        down = next(stream)
        assert isinstance(down, StatusChanged)
        assert down.status.state == "down"
        assert "sed" in down.status.reason
        with pytest.raises(SourceUnreadable, match="sed"):
            next(stream)
