"""A scene model's folder that the pipeline can run: encoder.onnx, head.onnx, manifest.yaml, card.md."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.scene import SceneFiles, load_scene_files
from pipeline.inference.scene_manifest import (
    ClipSpec,
    CropSpec,
    Encoder,
    EncoderInput,
    Head,
    KindSpec,
    SceneManifest,
    scene_manifest_yaml,
)
from pipeline.inference.store import keep_files
from training.scene.evaluate import END_BELOW, Gate
from training.scene.features import ClipPlan
from training.scene.trunk import Trunk

MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SceneRelease:
    """What is shipped beside the weights. kinds: start threshold and gate of each, in the order of the scores."""

    name: str
    version: str
    plan: ClipPlan
    kinds: Mapping[str, tuple[float, Gate]]
    card: str


def scene_manifest(encoder: bytes, head: bytes, trunk: Trunk, release: SceneRelease) -> SceneManifest:
    """The manifest of the two networks."""
    plan = release.plan
    height, width = trunk.size
    kinds = {
        kind: KindSpec(
            start=start,
            end=round(max(0.05, start - END_BELOW), 2),
            persons=gate.persons,
            person_score=plan.person_score,
            persons_share=gate.share,
        )
        for kind, (start, gate) in release.kinds.items()
    }
    return SceneManifest(
        name=release.name,
        version=release.version,
        task="scene",
        encoder=Encoder(
            sha256=hashlib.sha256(encoder).hexdigest(),
            input=EncoderInput(name="pictures", width=width, height=height),
            output="features",
            size=trunk.features,
        ),
        head=Head(sha256=hashlib.sha256(head).hexdigest(), input="features", scores="scores", attention="attention"),
        clip=ClipSpec(frames=plan.frames, stride=plan.stride, interval_s=plan.interval_s, tolerance=plan.tolerance),
        crop=CropSpec(rule=plan.place, width=plan.width, height=plan.height, keep=plan.keep),
        kinds=kinds,
        card="card.md",
    )


def write_scene(encoder: bytes, head: bytes, trunk: Trunk, release: SceneRelease, folder: Path) -> SceneFiles:
    """Write the folder, whole or not at all, and read it back as the pipeline does. One of that name is replaced."""
    if len(encoder) + len(head) > MAX_BYTES:
        raise ModelError(f"{folder}: {len(encoder) + len(head)} bytes, a model that ships has at most {MAX_BYTES}")
    manifest = scene_manifest(encoder, head, trunk, release)
    files = {
        manifest.encoder.file: encoder,
        manifest.head.file: head,
        "card.md": release.card.encode(),
        MANIFEST_NAME: scene_manifest_yaml(manifest).encode(),
    }
    keep_files(files, folder)
    return load_scene_files(folder)
