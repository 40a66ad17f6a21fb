"""The scene model: an encoder looks at each picture of a clip, a head (LSTM with attention) at all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.frame import Picture
from pipeline.errors import ModelError
from pipeline.inference.detector import ModelProvenance
from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.onnx import RunSettings, Session, TensorFacts, as_float32
from pipeline.inference.scene_manifest import SceneManifest, read_scene_manifest
from pipeline.inference.store import find_model, read_network

_CLOSE_TO_ONE = 1e-3
_PROBE_SIDE = 48


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """A checked scene model on disk. sha256: of its manifest, which names that of both networks."""

    manifest: SceneManifest
    folder: Path
    sha256: str

    @property
    def name(self) -> str:
        return self.manifest.name


def load_scene_files(name_or_folder: str | Path, search: Sequence[Path] | None = None) -> SceneFiles:
    """Find a scene model by name or folder and check it: manifest, both files' sha256, that they stand alone.

    Raises ModelError saying what is wrong and, for an unknown name, what there is.
    """
    folder = find_model(name_or_folder, search)
    path = folder / MANIFEST_NAME
    files = SceneFiles(read_scene_manifest(path), folder, hashlib.sha256(path.read_bytes()).hexdigest())
    for part in (files.manifest.encoder, files.manifest.head):
        read_network(folder / part.file, part.sha256)
    return files


class SceneModel:
    """A scene model on one execution provider. Thread-safe: many threads may call it at once.

    The encoder runs over ``batch`` pictures at a time, whoever's they are and however many are asked for (what is
    missing is filled up with black), so that a picture's features cannot depend on its company: 1 on a CPU, where a
    batch is dearer than its pictures, else the clip's stride. Raises ModelError when the networks cannot run, are not
    what the manifest says, or another provider than the asked one would run them.
    """

    def __init__(self, files: SceneFiles, *, provider: str = "cpu", allow_cpu: bool = False) -> None:
        manifest = self.manifest = files.manifest
        self.files = files
        self.kinds = tuple(manifest.kinds)
        self.provenance = ModelProvenance(manifest.name, manifest.version, files.sha256)
        settings = RunSettings(provider, allow_cpu)
        self._encoder = self._session("encoder", manifest.encoder.file, manifest.encoder.sha256, settings)
        self._head = self._session("head", manifest.head.file, manifest.head.sha256, settings)
        self.provider = self._encoder.provider
        self.batch = 1 if self.provider == "cpu" else manifest.clip.stride
        self._check_tensors()
        pictures = [np.full((_PROBE_SIDE, _PROBE_SIDE, 3), 114, np.uint8)] * manifest.clip.frames
        self.score(self.encode(pictures))  # runs once: it is known to work, and warm

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """The features of each picture: N x D. pictures: H x W x 3 uint8 RGB, all of one size, from one clip's crop.

        Raises ModelError when the network fails.
        """
        found = []
        for start in range(0, len(pictures), self.batch):
            part = list(pictures[start : start + self.batch])
            fed = np.zeros((self.batch, *part[0].shape), np.uint8)
            for slot, picture in zip(fed, part, strict=False):
                slot[:] = picture
            (out,) = self._encoder.run({self.manifest.encoder.input.name: fed}, [self.manifest.encoder.output])
            if out.shape != (self.batch, self.manifest.encoder.size):
                raise self._wrong("encoder", out, f"{self.batch}x{self.manifest.encoder.size}")
            found.append(as_float32(out[: len(part)]))
        return np.concatenate(found) if found else np.zeros((0, self.manifest.encoder.size), np.float32)

    def score(self, features: NDArray[np.float32]) -> tuple[dict[str, float], tuple[float, ...]]:
        """The scores (kind -> 0..1) and the attention of each frame (T values, sum 1) of one clip.

        features: T x D, oldest first. Where the head looks at the T - 1 steps between frames, the attention of a step
        is that of its later frame. Raises ModelError when the network fails or gives what cannot be.
        """
        head, frames = self.manifest.head, len(features)
        scores, attention = self._head.run({head.input: features[None]}, [head.scores, head.attention])
        if scores.shape != (1, len(self.kinds)):
            raise self._wrong("head", scores, f"1x{len(self.kinds)}, one score a kind")
        if attention.shape not in ((1, frames), (1, frames - 1)):
            raise self._wrong("head", attention, f"1x{frames} or 1x{frames - 1}, one weight a frame or step")
        values = as_float32(scores[0])
        if not (np.all(values >= 0) and np.all(values <= 1)):
            raise ModelError(f"{self._name}: the head's scores are not 0..1: {values.tolist()}")
        weights = [float(weight) for weight in attention[0]]
        if min(weights) < 0 or not abs(sum(weights) - 1) < _CLOSE_TO_ONE:
            raise ModelError(f"{self._name}: the head's attention sums to {sum(weights):g}, not to 1")
        told = [0.0] * (frames - len(weights)) + weights
        return {kind: float(value) for kind, value in zip(self.kinds, values, strict=True)}, tuple(told)

    @property
    def _name(self) -> str:
        return f"scene model {self.files.name}"

    def _session(self, part: str, file: str, sha256: str, settings: RunSettings) -> Session:
        return Session(read_network(self.files.folder / file, sha256), name=f"{self._name}, {part}", settings=settings)

    def _check_tensors(self) -> None:
        encoder, head = self.manifest.encoder, self.manifest.head
        self._check_input("encoder", self._encoder.inputs, encoder.input.name, "uint8", 4)
        self._check_input("head", self._head.inputs, head.input, "float32", 3)
        self._check_outputs("encoder", self._encoder.outputs, (encoder.output,))
        self._check_outputs("head", self._head.outputs, (head.scores, head.attention))
        if any(isinstance(side, int) for side in self._encoder.inputs[0].shape[1:3]):
            raise ModelError(
                f"{self._name}: the encoder takes {self._encoder.inputs[0]}: its sides are fixed, and crops have any",
                mend="export it with the resizing in the graph",
            )
        told = self._head.inputs[0].shape
        wanted = (1, self.manifest.clip.frames, encoder.size)
        if any(isinstance(has, int) and has != side for has, side in zip(told, wanted, strict=True)):
            shown = "x".join(map(str, wanted))
            raise ModelError(f"{self._name}: the head takes {self._head.inputs[0]}, the manifest's clips are {shown}")

    def _check_input(self, part: str, has: tuple[TensorFacts, ...], name: str, dtype: str, rank: int) -> None:
        facts = has[0] if len(has) == 1 else None
        if facts is None or facts.name != name or facts.dtype != dtype or len(facts.shape) != rank:
            shown = ", ".join(map(str, has))
            raise ModelError(f"{self._name}: the {part}'s input is not {name}, {rank} axes of {dtype}, but {shown}")

    def _check_outputs(self, part: str, has: tuple[TensorFacts, ...], names: Sequence[str]) -> None:
        missing = set(names) - {facts.name for facts in has}
        if missing:
            shown = ", ".join(map(str, has))
            raise ModelError(f"{self._name}: the {part} has no output {', '.join(sorted(missing))}, but {shown}")

    def _wrong(self, part: str, got: NDArray[np.generic], wanted: str) -> ModelError:
        shown = "x".join(str(side) for side in got.shape)
        return ModelError(f"{self._name}: the {part} gives {shown}, not {wanted}")
