"""A model's manifest: what a file of weights wants to be fed, and what its outputs mean.

``manifest.yaml`` lies beside ``model.onnx``. Unknown keys are errors that name the file, the key and the nearest key.

Families (what the outputs hold, for B pictures):

    passerby      ``boxes`` B x A x 4 float xyxy in input pixels, ``scores`` B x A x C probabilities: decoded in the
                  graph, which takes uint8 NHWC RGB 0..255, letterboxed
    boxes_scores  the same outputs from somebody else's network (``options.box_units`` says pixels or 0..1)
    yolox         ``output`` B x A x (5 + C): cell offsets, log sizes, objectness, classes (Ge et al. 2021, "YOLOX")
    gfl           ``cls`` and ``reg``, one tensor a level: B x A_l x C and B x A_l x 4*bins (Li et al. 2020,
                  "Generalized Focal Loss"; NanoDet, PicoDet)
    ultralytics   ``output`` B x (4 + C) x A: cxcywh in input pixels, class probabilities
    detr          ``logits`` B x Q x C(+1), ``boxes`` B x Q x 4 cxcywh 0..1 (Carion et al. 2020, "DETR")

and, for the task classification,

    classifier    ``probabilities`` B x C, softmax: what the whole picture shows; uint8 NHWC RGB 0..255 in
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ModelError

Family = Literal["passerby", "yolox", "gfl", "boxes_scores", "ultralytics", "detr"]
AnyFamily = Literal["passerby", "yolox", "gfl", "boxes_scores", "ultralytics", "detr", "classifier"]
Task = Literal["detection", "classification"]
Layout = Literal["nhwc", "nchw"]
InputType = Literal["uint8", "float32"]
Color = Literal["rgb", "bgr"]
Scale = Literal["0-255", "0-1", "imagenet"]
Resize = Literal["letterbox", "stretch"]
Nms = Literal["group", "class", "none"]

FAMILIES: tuple[Family, ...] = get_args(Family)
MANIFEST_NAME = "manifest.yaml"
MODEL_NAME = "model.onnx"

ROLES: dict[AnyFamily, tuple[str, ...]] = {
    "passerby": ("boxes", "scores"),
    "boxes_scores": ("boxes", "scores"),
    "yolox": ("output",),
    "gfl": ("cls", "reg"),
    "ultralytics": ("output",),
    "detr": ("logits", "boxes"),
    "classifier": ("probabilities",),
}
"""The roles that the outputs of a family play, in the order a decoder takes them."""

_LISTS = frozenset({"cls", "reg"})  # roles that are a list of tensors, one a level


class Strict(BaseModel):
    """A part of a manifest: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class InputShape(Strict):
    """One shape the network runs at.

    cost_ms: CPU milliseconds a picture with one thread, as measured when the manifest was written.
    aspect: width / height of the pictures it is meant for. Default: its own; for a square 1.25, since a square
    input serves 4:3 and 5:4 pictures too (a 16:9 one wastes 44 % of it).
    """

    width: Annotated[int, Field(ge=32, le=4096)]
    height: Annotated[int, Field(ge=32, le=4096)]
    cost_ms: Annotated[float, Field(gt=0)] | None = None
    aspect: Annotated[float, Field(gt=0.1, lt=10)] | None = None

    @property
    def meant_for(self) -> float:
        """The aspect ratio (width / height) of the pictures this shape is meant for."""
        if self.aspect is not None:
            return self.aspect
        return 1.25 if self.width == self.height else self.width / self.height


class ModelInput(Strict):
    """What the network is fed.

    color: the order of the channels. scale: 0-255 as they are; 0-1 divided by 255; imagenet (x - mean) / std a channel.
    pad: the value, before scaling, of the pixels that a letterbox adds to the right and below.
    shapes: in the order of preference; one set of weights serves all of them.
    """

    name: str
    layout: Layout
    dtype: InputType
    color: Color
    scale: Scale
    resize: Resize
    pad: Annotated[int, Field(ge=0, le=255)] = 114
    shapes: Annotated[list[InputShape], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> ModelInput:
        if self.dtype == "uint8" and self.scale != "0-255":
            raise ValueError("a uint8 input holds 0-255: the graph scales by itself")
        sizes = [(shape.width, shape.height) for shape in self.shapes]
        if len(set(sizes)) != len(sizes):
            raise ValueError("the same shape is listed twice")
        return self


class Thresholds(Strict):
    """score: a detection one can trust (starts a track). low: the weakest that the tracker may still use.

    nms_iou: boxes of one group (or class) that overlap by more than this are one object.
    """

    score: Annotated[float, Field(gt=0, lt=1)] = 0.4
    low: Annotated[float, Field(gt=0, lt=1)] = 0.1
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.6

    @model_validator(mode="after")
    def _ordered(self) -> Thresholds:
        if self.low > self.score:
            raise ValueError(f"low ({self.low}) is above score ({self.score})")
        return self


class Options(Strict):
    """What differs within a family.

    strides: input pixels a cell, one a level (yolox, gfl). bins: of the distribution a side (gfl).
    center: of a cell, cell_half (x + 0.5) * s, pixel_half x * s + 0.5 * (s - 1), corner x * s (gfl).
    activation: what turns scores into probabilities. background: the column of "no object" (detr; -1: the last).
    box_units: pixels of the input, or 0..1 of it (boxes_scores, ultralytics). transposed: B x A x (4 + C)
    (ultralytics). decoded: the boxes are cxcywh in pixels of the input already (yolox).
    """

    strides: list[Annotated[int, Field(ge=1, le=256)]] | None = None
    bins: Annotated[int, Field(ge=2, le=64)] | None = None
    center: Literal["cell_half", "pixel_half", "corner"] | None = None
    activation: Literal["none", "sigmoid", "softmax"] | None = None
    background: int | None = None
    box_units: Literal["pixels", "normalized"] | None = None
    transposed: bool | None = None
    decoded: bool | None = None


def as_text(value: object) -> object:
    """A version as text: ``version: 1`` or ``1.2`` in YAML is a number; nobody means one."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Manifest(Strict):
    """Everything about a model but its weights. ``sha256`` and ``file`` tie it to them.

    lying: whether it was taught people who lie, which falls are told by.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    version: Annotated[str, BeforeValidator(as_text), Field(min_length=1, max_length=64)]
    task: Task = "detection"
    family: AnyFamily
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = MODEL_NAME
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    input: ModelInput
    outputs: dict[str, str | list[str]]
    classes: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    thresholds: Thresholds = Thresholds()
    nms: Nms = "group"
    lying: bool = False
    card: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    options: Options = Options()

    @model_validator(mode="after")
    def _outputs_of_the_family(self) -> Manifest:
        if (self.family == "classifier") != (self.task == "classification"):
            raise ValueError(f"family {self.family} is not for task {self.task}")
        roles = ROLES[self.family]
        if set(self.outputs) != set(roles):
            told = ", ".join(self.outputs) or "none"
            raise ValueError(f"outputs of family {self.family} are {', '.join(roles)}, not {told}")
        for role, names in self.outputs.items():
            if (role in _LISTS) != isinstance(names, list):
                raise ValueError(f"outputs.{role} is {'a list of names' if role in _LISTS else 'one name'}")
        if self.family == "gfl" and len(self.outputs["cls"]) != len(self.outputs["reg"]):
            raise ValueError("outputs.cls and outputs.reg list one tensor a level each: their lengths differ")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is listed twice")
        return self

    def output_names(self) -> list[str]:
        """The tensors to ask for, in the order of the family's roles, levels after each other."""
        names: list[str] = []
        for role in ROLES[self.family]:
            told = self.outputs[role]
            names += told if isinstance(told, list) else [told]
        return names


def read_manifest(path: Path) -> Manifest:
    """The manifest at ``path``. Raises ModelError naming the file, the key and the mend."""
    told = read_mapping(path)
    if told.get("task") == "scene":
        raise ModelError(f"{path}: is a scene model, which looks at clips", mend="it belongs under scene: as model")
    return checked(path, told, Manifest)


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of the manifest at ``path``, of whatever task, as they stand there. Raises ModelError."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no manifest", mend="make one with `passerby models add`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise ModelError(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(told, dict):
        raise ModelError(f"{path}: a manifest is a mapping of keys, this is {type(told).__name__}")
    if told.get("schema", 1) != 1:
        raise ModelError(f"{path}: schema: {told['schema']!r} is not known", mend="this version reads schema 1")
    return told


AnyManifest = TypeVar("AnyManifest", bound=BaseModel)


def checked(path: Path, told: Mapping[str, Any], kind: type[AnyManifest]) -> AnyManifest:
    """What ``read_mapping`` gave, as a manifest of this kind. Raises ModelError naming file, key and mend."""
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        message, mend = _said(path, error, kind)
        raise ModelError(message, mend=mend) from None


def manifest_yaml(manifest: Manifest) -> str:
    """The manifest as YAML text that ``read_manifest`` reads back equal."""
    told: dict[str, Any] = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    for key in ("options", "lying"):
        if not told[key]:
            del told[key]
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _said(path: Path, error: ValidationError, kind: type[BaseModel]) -> tuple[str, str]:
    """One complaint as a line, and its mend. A mistyped key comes first: it is why another one is missing."""
    told = error.errors()
    first = next((one for one in told if one["type"] == "extra_forbidden"), told[0])
    steps = [str(step) for step in first["loc"] if not _is_branch(str(step))]
    key = ".".join(steps)
    also = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    where = f"{path}: {key}" if key else str(path)
    if first["type"] == "extra_forbidden":
        beside = _keys_beside(first["loc"], kind)
        near = difflib.get_close_matches(steps[-1], beside, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]}?" if near else f"known here: {', '.join(beside)}"
        return f"{where}: unknown key{also}", mend
    if first["type"] == "missing":
        return f"{where}: is missing{also}", ""
    message = re.sub(r"^Value error, ", "", first["msg"])
    if first["type"] == "value_error" or isinstance(first["input"], dict | list):
        return f"{where}: {message}{also}", ""
    return f"{where}: {message}, not {first['input']!r}{also}", ""


def _is_branch(step: str) -> bool:
    """Whether pydantic added this step to name a branch of a union."""
    return step in {"str", "list[str]"}


def _keys_beside(loc: tuple[int | str, ...], kind: type[BaseModel]) -> list[str]:
    """The keys that are known where ``loc`` points."""
    model = kind
    for step in loc[:-1]:
        fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        model = _model_in(fields.get(str(step))) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, itself or as what its list or map is of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found is not None), None)
