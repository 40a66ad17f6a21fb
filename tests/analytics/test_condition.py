"""Tampered with streets that were drawn: every kind is told of, soon and by its name, and nothing ordinary is."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.analytics.camera import CameraAnalytics
from pipeline.core.events import CAMERA_STATUS, SCENE_EVENT, Event, microseconds
from pipeline.core.frame import Frame, FrameWindow, Picture
from pipeline.core.picture_facts import GRAY_ONE, picture_facts
from pipeline.core.rules import CONDITION_KINDS, CameraRules
from pipeline.sources.synthetic.scene import Scene
from pipeline.sources.synthetic.situations import street
from tests.analytics.walks import ORIGIN, PROVENANCE, START_US, detections, of_type

RULES = CameraRules("gate", condition=CONDITION_KINDS)
WIDTH, HEIGHT, FPS = 416, 234, 8
BEGINS, ENDS = 40, 72  # frames: 5 s and 9 s
Change = Callable[[Picture, int], Picture]


@functools.cache
def pictures(seed: int = 3, night: bool = False, count: int = 96) -> tuple[Picture, ...]:
    """A street as the pipeline sees it, with the noise of its sensor."""
    scene: Scene = street(seed, width=WIDTH, height=HEIGHT, duration_s=count / FPS, night=night)
    return tuple(scene.render(n / FPS) for n in range(count))


def noisy(level: float, n: int) -> Picture:
    drawn = level + np.random.default_rng(n).normal(0, 1.5, (HEIGHT, WIDTH, 3))
    return np.clip(drawn, 0, 255).astype(np.uint8)


def covered(_: Picture, n: int) -> Picture:
    return noisy(70, n)


def defocused(picture: Picture, _: int) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(4)))


def black(_: Picture, n: int) -> Picture:
    return noisy(1, n)


def glare(picture: Picture, _: int) -> Picture:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    light = 300 * np.exp(-((x - 200) ** 2 + (y - 90) ** 2) / 120**2)
    return np.clip(picture + light[..., None] + 30, 0, 255).astype(np.uint8)


def moved(picture: Picture, _: int) -> Picture:
    """The camera was turned: part of what it saw is left, at another place."""
    away = Image.fromarray(picture).rotate(12, Image.Resampling.BICUBIC, translate=(70, 30))
    other = Image.fromarray(np.ascontiguousarray(pictures(8)[0]))
    return np.asarray(Image.composite(away, other, Image.fromarray(np.asarray(away).max(axis=2) > 0)))


CHANGES: dict[str, Change] = {
    "covered": covered, "defocused": defocused, "black": black, "glare": glare, "moved": moved,
    "frozen": lambda _picture, _n: pictures()[BEGINS],
}  # fmt: skip


class Camera:
    """One camera's pictures, one after the other."""

    def __init__(self, rules: CameraRules = RULES) -> None:
        self.rules = rules
        self.camera = CameraAnalytics(rules, provenance=PROVENANCE)
        self.events: list[Event] = []
        self.n = 0

    def show(self, picture: Picture, *, after_s: float = 1 / FPS, epoch: int = 1) -> list[Event]:
        """Its next picture; what it made of it."""
        at_us = START_US + round(self.n * after_s * 1e6)
        frame = Frame(self.n, at_us - START_US, at_us, picture)
        window = FrameWindow("gate", epoch, 0, (frame,), 1280, 720, FPS, "pts")
        self.n += 1
        found = list(self.camera.observe(window, frame, detections([]), ORIGIN).events)
        self.events += found
        return found

    def restore(self) -> None:
        blob = self.camera.snapshot()
        self.camera = CameraAnalytics.restore(self.rules, PROVENANCE, blob)
        assert self.camera.snapshot() == blob

    def play(self, shown: Sequence[Picture]) -> list[Event]:
        """All of them; the scene events."""
        for picture in shown:
            self.show(picture)
        return of_type(self.events, SCENE_EVENT)


def changed(change: Change, begins: int = BEGINS, ends: int = ENDS) -> list[Picture]:
    return [change(picture, n) if begins <= n < ends else picture for n, picture in enumerate(pictures())]


def phases(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(event.data["kind"], event.data["phase"]) for event in events if event.data["phase"] != "update"]


@pytest.mark.parametrize("kind", CONDITION_KINDS)
def test_each_kind_is_told_of_once_within_two_seconds_and_ends(kind: str) -> None:
    camera = Camera()
    events = camera.play(changed(CHANGES[kind]))
    assert phases(events) == [(kind, "start"), (kind, "end")]
    start, end = events[0], events[-1]
    onset_us, over_us = START_US + BEGINS * 125_000, START_US + ENDS * 125_000
    assert 0 <= start.time_us - onset_us <= 2_000_000
    assert abs(microseconds(start.data["started_at"]) - onset_us) <= 250_000
    assert 0 <= end.time_us - over_us <= 3_000_000
    assert start.data["ended_at"] is None
    assert start.data["attention"] == []
    assert 0.5 <= start.data["score"] <= 1
    assert start.data["provenance"]["model"] == "camera-condition"


@pytest.mark.parametrize("kind", CONDITION_KINDS)
def test_the_camera_is_tampered_with_until_it_is_up_again(kind: str) -> None:
    camera = Camera()
    camera.play(changed(CHANGES[kind]))
    status = of_type(camera.events, CAMERA_STATUS)
    assert [event.data["state"] for event in status] == ["tampered", "up"]
    assert status[0].data["reason"].startswith(f"{kind}: ")
    assert len({event.id for event in camera.events}) == len(camera.events)


@pytest.mark.parametrize(("seed", "night"), [(3, False), (5, True)])
def test_ordinary_streets_are_nothing(seed: int, night: bool) -> None:
    assert Camera().play(pictures(seed, night)) == []


def light_off(picture: Picture, n: int) -> Picture:
    return np.clip(picture * 0.35 + noisy(3, n) - 3.0, 0, 255).astype(np.uint8)


def dusk(picture: Picture, n: int) -> Picture:
    dark = 1 - 0.75 * min(max((n - 30) / 48, 0.0), 1.0)
    return np.clip(picture * dark, 0, 255).astype(np.uint8)


def night(picture: Picture, n: int) -> Picture:
    """No lamp far and wide: at last there is nothing to be seen."""
    return np.clip(picture * max(1 - n / 300, 0.02), 0, 255).astype(np.uint8)


def gray_at_night(picture: Picture, _: int) -> Picture:
    return np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


def somebody_near(picture: Picture, n: int) -> Picture:
    """A dark coat, a third of the picture wide, goes by in three seconds."""
    left = -140 + (n - BEGINS) * (WIDTH + 140) // 24
    drawn = picture.copy()
    drawn[40:, max(left, 0) : max(left + 140, 0)] = 45
    return drawn


def lorry(picture: Picture, n: int) -> Picture:
    """It fills most of the picture for a second."""
    drawn = picture.copy()
    left = WIDTH - (n - BEGINS) * 80
    stripes = (np.arange(WIDTH) // 12 % 2 * 90 + 100).astype(np.uint8)
    wide = drawn[20:, max(left, 0) : max(left + 560, 0)]
    wide[:] = np.roll(stripes, left)[: wide.shape[1], None]
    return drawn


def in_the_wind(picture: Picture, n: int) -> Picture:
    return np.roll(picture, (round(2 * np.sin(n * 2.1)), round(3 * np.sin(n * 1.3))), (0, 1))


@pytest.mark.parametrize("change", [light_off, gray_at_night, somebody_near, lorry])
def test_what_happens_before_a_camera_is_nothing(change: Change) -> None:
    assert Camera().play(changed(change)) == []


@pytest.mark.parametrize("change", [dusk, in_the_wind])
def test_what_goes_on_before_a_camera_is_nothing(change: Change) -> None:
    assert Camera().play(changed(change, 0, 96)) == []


def test_a_night_without_a_lamp_is_not_a_light_put_out() -> None:
    camera = Camera()
    for n in range(330):
        camera.show(night(pictures()[n % 96], n), after_s=1.0)
    assert of_type(camera.events, SCENE_EVENT) == []


def test_a_second_of_it_is_not_enough() -> None:
    for kind in ("covered", "defocused", "moved", "glare"):
        assert Camera().play(changed(CHANGES[kind], BEGINS, BEGINS + 8)) == []


def test_a_stream_that_begins_still_or_dark_is_not_judged_at_once() -> None:
    assert Camera().play([pictures()[0]] * 80) == []
    assert Camera().play([*(black(picture, n) for n, picture in enumerate(pictures()[:24])), *pictures()[24:]]) == []


def test_a_camera_that_is_black_from_the_start_is_told_of() -> None:
    assert phases(Camera().play([black(picture, n) for n, picture in enumerate(pictures())])) == [("black", "start")]


def test_pictures_that_often_repeat_are_not_frozen() -> None:
    """A quiet street through a codec: most pictures repeat the one before."""
    assert Camera().play([pictures()[n // 4 * 4] for n in range(96)]) == []


def swinging(n: int) -> Picture:
    """A still picture as it comes out of an encoder: to and fro by a level here and there, anew with a key frame."""
    drawn = pictures()[BEGINS].astype(np.int16)
    drawn[100:140, 50:120] += n % 2
    return np.clip(drawn + n // 16 % 2, 0, 255).astype(np.uint8)


def test_frozen_through_an_encoder() -> None:
    assert phases(Camera().play([*pictures()[:BEGINS], *map(swinging, range(32))])) == [("frozen", "start")]


def test_what_is_not_asked_for_is_not_told() -> None:
    camera = Camera(CameraRules("gate", condition=("black",)))
    assert camera.play(changed(covered)) == []
    assert phases(Camera(CameraRules("gate", condition=("black",))).play(changed(black)))[0] == ("black", "start")
    assert Camera(CameraRules("gate")).play(changed(black)) == []


def test_a_new_view_is_accepted_after_ten_minutes() -> None:
    camera = Camera()
    for picture in pictures()[:BEGINS]:
        camera.show(picture, after_s=1.0)
    shown = [moved(picture, n) for n, picture in enumerate(pictures()[:BEGINS])]
    for n in range(700):
        camera.show(shown[n % len(shown)], after_s=1.0)
    events = of_type(camera.events, SCENE_EVENT)
    assert phases(events) == [("moved", "start"), ("moved", "end")]
    lasted_us = microseconds(events[-1].data["ended_at"]) - microseconds(events[-1].data["started_at"])
    assert 600e6 < lasted_us < 605e6


def test_another_epoch_ends_it_and_learns_anew() -> None:
    camera = Camera()
    camera.play(changed(moved, ends=96)[: BEGINS + 24])
    assert phases(of_type(camera.events, SCENE_EVENT)) == [("moved", "start")]
    for n in range(40):
        camera.show(moved(pictures()[n], n), epoch=2)
    assert phases(of_type(camera.events, SCENE_EVENT)) == [("moved", "start"), ("moved", "end")]
    assert [event.data["state"] for event in of_type(camera.events, CAMERA_STATUS)] == ["tampered"]


@pytest.mark.parametrize("kind", ["covered", "moved", "frozen"])
def test_restored_after_every_picture_it_goes_on_byte_for_byte(kind: str) -> None:
    straight, restored = Camera(), Camera()
    for picture in changed(CHANGES[kind])[: ENDS + 16]:
        told = [json.dumps(event.structured()) for event in straight.show(picture)]
        assert told == [json.dumps(event.structured()) for event in restored.show(picture)]
        restored.restore()
    assert restored.events


def test_switched_off_meanwhile_it_ends() -> None:
    camera = Camera()
    camera.play(changed(covered, ends=96)[:60])
    blob = camera.camera.snapshot()
    camera.camera = CameraAnalytics.restore(CameraRules("gate"), PROVENANCE, blob)
    camera.show(pictures()[60])
    assert phases(of_type(camera.events, SCENE_EVENT)) == [("covered", "start"), ("covered", "end")]
    assert b"condition" not in camera.camera.snapshot()


def test_facts_of_a_picture() -> None:
    flat = picture_facts(np.full((HEIGHT, WIDTH, 3), 100, np.uint8))
    assert flat.gray.shape == (29, 52)
    assert flat.detail.shape == (14, 25)
    assert set(flat.gray.ravel().tolist()) == {100 * GRAY_ONE}
    assert not flat.detail.any()
    checks = np.indices((HEIGHT, WIDTH)).sum(axis=0)[..., None] // 2 % 2 * np.full(3, 10)
    assert picture_facts(checks.astype(np.uint8)).detail.min() > 0
    for height, width in ((1, 1), (2, 300), (720, 1280), (3, 5)):
        picture_facts(np.zeros((height, width, 3), np.uint8))


def test_milky_tape_covers_though_shades_are_left() -> None:
    def tape(picture: Picture, n: int) -> Picture:
        return np.clip(defocused(picture, n) * 0.15 + 165, 0, 255).astype(np.uint8)

    assert phases(Camera().play(changed(tape))) == [("covered", "start"), ("covered", "end")]
