"""What is wrong with the ``scene`` section of a configuration: models, kinds, and frames too far apart for a clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.config import CameraConfig, Config, Problem
from pipeline.config.problems import did_you_mean
from pipeline.errors import ModelError
from pipeline.inference.scene import load_scene_files
from pipeline.inference.scene_manifest import SceneManifest
from pipeline.services.planning import SourceFacts


def scene_problems(config: Config, facts: Mapping[str, SourceFacts]) -> list[Problem]:
    """All of it. facts: by camera_id, of the sources that were opened."""
    problems: list[Problem] = []
    manifests: dict[str, SceneManifest | None] = {}
    for camera_id, camera in config.cameras.items():
        name = camera.scene.model
        if name is None:
            problems += _without_model(config, camera)
            continue
        if name not in manifests:
            try:
                manifests[name] = load_scene_files(name).manifest
            except ModelError as error:
                manifests[name] = None
                key = ("cameras", camera_id, "scene", "model")
                problems.append(config.problem(key, error.args[0], error.mend, code="scene-model", severity="error"))
        manifest = manifests[name]
        if manifest is not None:
            problems += _kind_problems(config, camera, manifest)
            if camera.scene.is_on:
                problems += _interval_problems(config, camera, manifest, facts.get(camera_id))
    return problems


def _without_model(config: Config, camera: CameraConfig) -> Iterator[Problem]:
    if camera.scene.kinds or camera.scene.thresholds:
        yield config.problem(
            ("cameras", camera.id, "scene"), "scene names no model: nothing is looked for", "add model: passerby-scene",
            code="scene-without-model", at_key=True,
        )  # fmt: skip


def _kind_problems(config: Config, camera: CameraConfig, manifest: SceneManifest) -> Iterator[Problem]:
    keys: list[tuple[tuple[str | int, ...], str]] = [
        *((("kinds", i), kind) for i, kind in enumerate(camera.scene.kinds or ())),
        *((("thresholds", kind), kind) for kind in camera.scene.thresholds),
    ]
    known = list(manifest.kinds)
    for key, kind in keys:
        if kind not in known:
            yield config.problem(
                ("cameras", camera.id, "scene", *key), f"the scene model {manifest.name} knows no kind {kind!r}",
                did_you_mean(kind, known), code="unknown-kind", severity="error",
            )  # fmt: skip


def _interval_problems(
    config: Config, camera: CameraConfig, manifest: SceneManifest, facts: SourceFacts | None
) -> Iterator[Problem]:
    clip = manifest.clip
    most_s = clip.interval_s * (1 + clip.tolerance)
    wanted = f"{manifest.name} was trained on frames {clip.interval_s:g} s apart and takes up to {most_s:g} s"
    if 1 / camera.sample_fps > most_s:
        yield config.problem(
            ("cameras", camera.id, "sample_fps"),
            f"at sample_fps {camera.sample_fps:g} frames are {1 / camera.sample_fps:.3g} s apart, too far for a clip: "
            f"{wanted}", f"write sample_fps: {1 / clip.interval_s:g}", code="scene-sample-fps", severity="error",
        )  # fmt: skip
    elif facts is not None and facts.fps and 1 / facts.fps > most_s:
        yield config.problem(
            ("cameras", camera.id, "scene"),
            f"the source has {facts.fps:.3g} frames a second, too few for a clip: {wanted}",
            "raise the camera's frame rate, or switch it off with scene: {kinds: []}", code="scene-source-fps",
            at_key=True,
        )  # fmt: skip
