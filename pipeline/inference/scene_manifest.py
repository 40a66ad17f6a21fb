"""A scene model's manifest: two networks, how clips are made for them, and when their scores are events.

A scene model is a folder with ``manifest.yaml`` (``task: scene``), the encoder and the head:

    encoder   ``pictures`` N x H x W x 3 uint8 RGB (sides free: the graph resizes) -> ``features`` N x D float32
    head      ``features`` 1 x T x D float32 of one clip, oldest first -> ``scores`` 1 x K, 0..1, one a kind,
              and ``attention`` 1 x T, or 1 x (T - 1) where it looks at the steps from frame to frame; sums to 1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from pipeline.core.rules import CropPlace
from pipeline.errors import ModelError
from pipeline.inference.manifest import Strict, as_text, checked, read_mapping

_File = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Share = Annotated[float, Field(gt=0, le=1)]
_Name = Annotated[str, Field(min_length=1)]


class EncoderInput(Strict):
    """What the encoder is fed: pieces of pictures in their own pixels. width, height: what the graph makes of them."""

    name: _Name
    width: Annotated[int, Field(ge=8, le=4096)]
    height: Annotated[int, Field(ge=8, le=4096)]
    color: Literal["rgb"] = "rgb"


class Encoder(Strict):
    """The network that looks at one picture. size: D, the values it gives."""

    file: _File = "encoder.onnx"
    sha256: _Sha256
    input: EncoderInput
    output: _Name
    size: Annotated[int, Field(ge=1, le=1_000_000)]


class Head(Strict):
    """The network that looks at a clip. input, scores, attention: names of its tensors."""

    file: _File = "head.onnx"
    sha256: _Sha256
    input: _Name
    scores: _Name
    attention: _Name


class ClipSpec(Strict):
    """See ``pipeline.core.rules.ClipRule``."""

    frames: Annotated[int, Field(ge=2, le=256)]
    stride: Annotated[int, Field(ge=1)]
    interval_s: Annotated[float, Field(gt=0, le=10)]
    tolerance: Annotated[float, Field(ge=0, le=10)] = 1.0

    @model_validator(mode="after")
    def _strides_within(self) -> ClipSpec:
        if self.stride > self.frames:
            raise ValueError(f"stride ({self.stride}) is above frames ({self.frames}): frames would never be looked at")
        return self


class CropSpec(Strict):
    """See ``pipeline.core.clip_crop``."""

    rule: CropPlace
    width: _Share = 1.0
    height: _Share = 1.0
    keep: Annotated[float, Field(ge=0, le=1)] = 1.0


class KindSpec(Strict):
    """See ``pipeline.core.rules.SceneKind``. end: default as ``start``."""

    start: _Share
    end: _Share | None = None
    clips: Annotated[int, Field(ge=1, le=100)] = 2
    persons: Annotated[int, Field(ge=0, le=100)] = 0
    person_score: Annotated[float, Field(ge=0, le=1)] = 0.35
    persons_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    person_width: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> KindSpec:
        if self.end is not None and self.end > self.start:
            raise ValueError(f"end ({self.end}) is above start ({self.start})")
        return self


class SceneManifest(Strict):
    """Everything about a scene model but its weights. kinds: in the order of the head's scores."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    version: Annotated[str, BeforeValidator(as_text), Field(min_length=1, max_length=64)]
    task: Literal["scene"]
    encoder: Encoder
    head: Head
    clip: ClipSpec
    crop: CropSpec
    kinds: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], KindSpec], Field(min_length=1)]
    card: _File | None = None

    @model_validator(mode="after")
    def _two_files(self) -> SceneManifest:
        if self.encoder.file == self.head.file:
            raise ValueError(f"encoder and head are the same file, {self.head.file}")
        return self


def read_scene_manifest(path: Path) -> SceneManifest:
    """The manifest at ``path``. Raises ModelError naming the file, the key and the mend."""
    told = read_mapping(path)
    if told.get("task", "detection") != "scene":
        task = told.get("task", "detection")
        raise ModelError(f"{path}: its task is {task}: it looks at single pictures", mend="it belongs under model:")
    return checked(path, told, SceneManifest)


def scene_manifest_yaml(manifest: SceneManifest) -> str:
    """The manifest as YAML text that ``read_scene_manifest`` reads back equal."""
    told: dict[str, Any] = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
