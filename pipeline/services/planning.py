"""What a well-written configuration will do: lines nothing can cross, objects too small to see, too much load.

Pure: configuration, facts about sources and models in, findings out. The figures behind the judgements:

- Lines and areas: pipeline.services.reachability.
- A 1080p H.264 frame costs 5.8 ms of one core to decode, 8.8 with B frames, HEVC 11, in proportion to the pixels;
  scaling a sampled frame 1.5 ms, tracking and counting about 2 ms: orders of magnitude on one machine, good for a
  warning that a machine is far too small, not for buying one.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import CameraConfig, Config, Problem
from pipeline.inference.manifest import Manifest
from pipeline.inference.preprocess import choose_shape, fit
from pipeline.services.reachability import DETECTABLE_PX, View, line_problems, zone_problems

_ASSUMED_SIZE = (1920, 1080)
_ASSUMED_INPUT_WIDTH = 416.0
_ASSUMED_FPS = 25.0
_SMALL_SHARE = 0.06  # of the picture's height: a standing person 20 m from a usual wide-angle camera

_DECODE_MS_PER_MPX = {"h264": 2.8, "hevc": 5.3, "h265": 5.3, "mpeg4": 2.8, "mjpeg": 4.0, "vp9": 4.0, "av1": 6.0}
_DECODE_MS_UNKNOWN = 3.0
_B_FRAMES_FACTOR = 1.5
_SCALE_MS, _ANALYTICS_MS = 1.5, 2.0
_NET_MS_UNKNOWN = 20.0
_FALLS_MODEL = "passerby-falls"
_FALLS_FPS = 8.0  # at 5 fewer are found (docs/benchmarks.md)
_BUSY = 0.8  # of the cores; above it a burst makes live cameras drop


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What opening a source told. Sizes in pixels as displayed; None: not known."""

    width: int
    height: int
    fps: float | None = None
    codec: str | None = None
    b_frames: bool | None = None
    duration_s: float | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """What to expect of one camera.

    input: the network's input, width x height. smallest_person: least height of a person that can be found, as a share
    of the picture's (0..1). cores: expected load, in cores, when it runs at its own speed.
    """

    camera_id: str
    source: str
    size: tuple[int, int] | None
    fps: float | None
    codec: str | None
    input: tuple[int, int] | None
    smallest_person: float | None
    cores: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The cameras, the load of all live ones against the cores there are, and what is wrong or doubtful."""

    cameras: tuple[CameraPlan, ...]
    live_cores: float
    available_cores: int
    problems: tuple[Problem, ...] = ()


def plan(
    config: Config,
    facts: Mapping[str, SourceFacts],
    manifests: Mapping[str, Manifest],
    *,
    cores: int,
    net_ms: Mapping[str, float] | None = None,
) -> Plan:
    """Reason about a configuration.

    facts: by camera_id, for the sources that were opened. manifests: by the model's name in the configuration, for
    those that could be loaded. net_ms: measured cost of one picture by camera_id, instead of the manifest's.
    """
    plans: list[CameraPlan] = []
    problems: list[Problem] = [*_same_sources(config), *plain_secrets(config)]
    live_cores = 0.0
    for camera_id, camera in config.cameras.items():
        known = facts.get(camera_id)
        manifest = manifests.get(camera.model)
        view = _view(known, manifest)
        expected = _camera_plan(camera, known, manifest, view, (net_ms or {}).get(camera_id))
        plans.append(expected)
        problems += line_problems(config, camera, view)
        problems += zone_problems(config, camera, view)
        problems += _source_problems(config, camera, known)
        problems += _falls_problems(config, camera, manifest)
        problems += _small_objects(config, camera, expected)
        if _is_live(camera, known):
            live_cores += expected.cores
    problems += _load(config, live_cores, cores)
    return Plan(tuple(plans), live_cores, cores, tuple(problems))


def _is_live(camera: CameraConfig, facts: SourceFacts | None) -> bool:
    if camera.source.mode != "auto":
        return camera.source.mode == "realtime"
    return facts.live if facts else not camera.source.is_local_file


def _view(facts: SourceFacts | None, manifest: Manifest | None) -> View:
    width, height = (facts.width, facts.height) if facts else _ASSUMED_SIZE
    if manifest is None:
        return View(width, height, _ASSUMED_INPUT_WIDTH, _ASSUMED_INPUT_WIDTH * height / width)
    content = fit(manifest, width, height)
    return View(width, height, content.width, content.height)


def _camera_plan(
    camera: CameraConfig, facts: SourceFacts | None, manifest: Manifest | None, view: View, net_ms: float | None
) -> CameraPlan:
    shape = choose_shape(manifest, view.width, view.height) if manifest else None
    if net_ms is None:
        net_ms = (shape.cost_ms if shape else None) or _NET_MS_UNKNOWN
    fps = (facts.fps if facts else None) or _ASSUMED_FPS
    decode_ms = _decode_ms(facts) * view.width * view.height / 1e6
    sampled = min(camera.sample_fps, fps)
    return CameraPlan(
        camera.id,
        str(camera.source.url),
        (facts.width, facts.height) if facts else None,
        facts.fps if facts else None,
        facts.codec if facts else None,
        (shape.width, shape.height) if shape else None,
        DETECTABLE_PX / view.net_height if facts and manifest else None,
        (fps * decode_ms + sampled * (_SCALE_MS + net_ms + _ANALYTICS_MS)) / 1000,
        tuple(_notes(camera, facts)),
    )


def _decode_ms(facts: SourceFacts | None) -> float:
    """Milliseconds of one core for a megapixel."""
    if facts is None or facts.codec is None:
        return _DECODE_MS_UNKNOWN
    return _DECODE_MS_PER_MPX.get(facts.codec, _DECODE_MS_UNKNOWN) * (_B_FRAMES_FACTOR if facts.b_frames else 1)


def _notes(camera: CameraConfig, facts: SourceFacts | None) -> Iterator[str]:
    """What is worth knowing and no fault."""
    if facts is None:
        return
    if facts.codec in ("hevc", "h265"):
        yield "HEVC costs about twice as much to decode as H.264; if the cores are short, switch the camera to H.264"
    if facts.b_frames and _is_live(camera, facts):
        yield "B frames cost half as much again to decode and delay each picture; switch them off in the camera"


def _falls_keys(camera: CameraConfig) -> Iterator[tuple[str, ...]]:
    """Where falls are asked for."""
    if camera.falls:
        yield ("falls",)
    for name, zone in camera.zones.items():
        if zone.falls:
            yield ("zones", name, "falls")


def _falls_problems(config: Config, camera: CameraConfig, manifest: Manifest | None) -> Iterator[Problem]:
    if manifest is None or manifest.lying:
        return
    for key in _falls_keys(camera):
        yield config.problem(
            ("cameras", camera.id, *key), f"{camera.model} sees few people who lie: many falls are missed",
            f"write model: {_FALLS_MODEL} for this camera", code="falls-model",
        )  # fmt: skip


def _source_problems(config: Config, camera: CameraConfig, facts: SourceFacts | None) -> Iterator[Problem]:
    """Settings that do not fit the source."""

    def told(key: Sequence[str], message: str, mend: str, code: str) -> Problem:
        return config.problem(("cameras", camera.id, *key), message, mend, code=code)

    live = _is_live(camera, facts)
    if camera.start is not None and not camera.source.is_local_file:
        yield told(("start",), "start is for files; a live source has its own time", "remove start", "start-of-live")
    if camera.source.mode == "realtime" and camera.source.is_local_file:
        yield told(
            ("source", "mode"), "a file read in realtime mode drops what the machine cannot follow, and counts change",
            "remove mode", "realtime-file",
        )  # fmt: skip
    fps = min(camera.sample_fps, facts.fps or camera.sample_fps) if facts is not None else camera.sample_fps
    if fps < _FALLS_FPS:
        for key in _falls_keys(camera):
            yield told(
                key, f"at {fps:.3g} frames a second many falls are missed", f"write sample_fps: {_FALLS_FPS:g} or more",
                "falls-sample-fps",
            )  # fmt: skip
    if facts is None:
        return
    if facts.fps and camera.sample_fps > facts.fps * 1.05:
        yield told(
            ("sample_fps",), f"sample_fps {camera.sample_fps:g} is above the source's {facts.fps:.3g} frames a second",
            f"write {facts.fps:.3g} or less; 8 is enough for walking and driving", "sample-fps-high",
        )  # fmt: skip
    if facts.duration_s is None or live:
        return
    for name, zone in camera.zones.items():
        for what, least_s in (("dwell_s", zone.dwell_s), ("stopped_s", zone.stopped_s)):
            if least_s is not None and least_s >= facts.duration_s:
                yield told(
                    ("zones", name, what), f"{least_s:g} s is longer than the whole file ({facts.duration_s:.1f} s)",
                    "make it shorter", "longer-than-file",
                )  # fmt: skip


def _small_objects(config: Config, camera: CameraConfig, expected: CameraPlan) -> Iterator[Problem]:
    share = expected.smallest_person
    if share is None or share <= _SMALL_SHARE or expected.size is None or expected.input is None:
        return
    width, height = expected.size
    yield config.problem(
        ("cameras", camera.id, "source"),
        f"a person must be {share:.1%} of the picture's height ({share * height:.0f} px of {width}x{height}) to be "
        f"found by {camera.model} at {expected.input[0]}x{expected.input[1]}",
        "turn the camera so that people are larger, or use a model with a larger input", code="objects-too-small",
    )  # fmt: skip


def _same_sources(config: Config) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for camera_id, camera in config.cameras.items():
        place = camera.source.location.reveal()
        place = posixpath.normpath(place) if camera.source.is_local_file else place
        if place in seen:
            message = f"the same source as camera {seen[place]}: it is decoded and counted twice"
            mend = "put all lines and zones into one camera"
            yield config.problem(("cameras", camera_id, "source"), message, mend, code="same-source")
        seen.setdefault(place, camera_id)


def _load(config: Config, live_cores: float, cores: int) -> Iterator[Problem]:
    if live_cores <= _BUSY * cores:
        return
    wanted = f"the live cameras need about {live_cores:.1f} cores, this machine has {cores}"
    what = "frames will be dropped" if live_cores > cores else "a burst will drop frames"
    rate = max(1.0, min(camera.sample_fps for camera in config.cameras.values()) * _BUSY * cores / live_cores)
    yield config.problem(
        ("cameras",), f"{wanted}: {what}", f"lower sample_fps (about {rate:.2g}), fewer cameras, or a second stream of "
        "less resolution", code="load", at_key=True,
    )  # fmt: skip


def plain_secrets(config: Config) -> Iterator[Problem]:
    """Passwords that stand in the file itself."""
    for key in config.plain_secrets():
        owner = str(key[1]) if key[0] == "cameras" else str(key[0])
        name = re.sub(r"[^A-Z0-9]+", "_", owner.upper()).strip("_") + "_PASSWORD"
        mend = f"write ${{{name}}} in its place and set that in the environment, or use password_file"
        yield config.problem(key, "a password in plain text", mend, code="plain-secret")
