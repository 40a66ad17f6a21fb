"""A model takes another's place in running workers: each window is judged once, and says by which model."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import CameraConfig, camera_from_document
from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.core.rules import CameraRules
from pipeline.services.plans import Plans
from tests.chaos.log_model import ModelReader
from tests.chaos.world import CLASSES, PixelEngine, World, document, marker, window

SEES = {"before": "person", "after": "car"}
"""What each model takes the walker for: so it shows which network ran."""
BEFORE = AFTER = 13
"""Windows of four frames; eight are a count window: the swap comes in the middle of one."""


class NamedEngine(PixelEngine):
    """A PixelEngine of a model's name, which sees what that model sees."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self.frames = 0

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        self.frames += 1
        found = super().submit(picture, width, height).result()
        future: Future[Detections] = Future()
        class_ids = np.array([CLASSES.index(SEES[self._model])])
        future.set_result(Detections(found.boxes, found.scores, class_ids, CLASSES))
        return future

    def rules(self, camera: CameraConfig) -> tuple[CameraRules, dict[str, str]]:
        rules, provenance = super().rules(camera)
        return rules, {**provenance, "model": self._model}


def of_model(name: str) -> dict[str, Any]:
    told = document() | {"model": name}
    told["lines"]["middle"]["classes"] = ["person", "vehicle"]
    return told


@pytest.mark.parametrize("new_epoch", [True, False], ids=["the camera is opened anew", "within an epoch"])
def test_windows_before_and_after_a_swap_name_their_model_and_none_is_lost_or_judged_twice(new_epoch: bool) -> None:
    """As ``passerby apply`` does it: another document, and windows that are made under it. A model of another size of
    picture makes ingest open the camera anew; windows of the old one may still be on their way then.
    """
    world = World(partitions=1)
    engines = {name: NamedEngine(name) for name in SEES}
    before = world.apply("a", of_model("before"))
    world.start(0)
    session = world.workers[0].session
    assert session is not None

    def camera_of(camera_id: str, told: Any) -> CameraConfig:
        return camera_from_document(camera_id, told, {}, Path(), secrets=False)

    session._plans = Plans(
        ModelReader(world.log, world.topics.cameras, undecided=False), camera_of, lambda camera: engines[camera.model]
    )
    for n in range(BEFORE):
        world.feed(window("a", n, revision=before))
    for _ in range(5):
        world.turn(0)
    after = world.apply("a", of_model("after"))
    if new_epoch:
        world.feed(marker("a", 2, revision=after))
    for n in range(AFTER):
        fed = (
            window("a", n, epoch=2, revision=after, writer="i2")
            if new_epoch
            else window("a", n + BEFORE, revision=after)
        )
        world.feed(fed)
    for _ in range(60):
        world.turn(0)
    session.finish()

    output = world.output()
    counts = [json.loads(value or b"") for _, value in output["t.counts", "a"]]
    events = [json.loads(value or b"") for _, value in output["t.events", "a"]]
    crossings = [each for each in events if "line" in each]
    assert [each["class_id"] for each in crossings] == ["person", "car"]
    for each in crossings:
        assert each["class_id"] == SEES[each["provenance"]["model"]], "the model that is named saw it"
        assert (each["origin"]["offset"] < BEFORE) == (each["provenance"]["model"] == "before")
    spans: dict[int, list[tuple[int, int]]] = {}
    for each in counts:
        first, last = each["provenance"]["frames"]
        spans.setdefault(each["epoch"], []).append((first, last))
        # Within an epoch the span that was open at the swap was seen by both, and names the later.
        if (each["epoch"], last) <= (1, 4 * BEFORE - 1):
            assert each["provenance"]["model"] == "before"
            assert each["classes"]["car"]["occupancy_max"] == 0
        elif (each["epoch"], first) >= (1, 4 * BEFORE):
            assert each["provenance"]["model"] == "after"
            assert each["classes"]["person"]["occupancy_max"] == 0
    for found in spans.values():
        assert found[0][0] == 0
        assert all(later[0] == earlier[1] + 1 for earlier, later in itertools.pairwise(found)), (
            "a gap, or counted twice"
        )
    assert spans[1][-1][1] >= 4 * BEFORE - 1, "the last window of the old model is counted"
    assert [engine.frames for engine in engines.values()] == [4 * BEFORE, 4 * AFTER], "each window is judged once"
    assert world.log.committed_offsets[0] == BEFORE + AFTER + new_epoch
    assert ("t.dead-letters", "a") not in output
