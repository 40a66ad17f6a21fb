"""The classifier: one picture in, the probability of each class out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.frame import Picture
from pipeline.errors import ModelError
from pipeline.inference.detector import ModelProvenance
from pipeline.inference.onnx import RunSettings, Session, as_float32
from pipeline.inference.store import Model


class Classifier:
    """A model of task classification, on the CPU with one thread. Thread-safe.

    score_threshold: from which probability on a class counts as seen (the manifest's ``thresholds.score``).
    Raises ModelError when the model has another task or does not run.
    """

    def __init__(self, model: Model) -> None:
        manifest = model.manifest
        if manifest.task != "classification":
            raise ModelError(
                f"model {model.name}: its task is {manifest.task}: it gives no label for a whole picture",
                mend="name a model of task classification, passerby-daylight for example",
            )
        self.model = model
        self.classes: tuple[str, ...] = tuple(manifest.classes)
        self.provenance = ModelProvenance(manifest.name, manifest.version, manifest.sha256)
        self.score_threshold = manifest.thresholds.score
        shape = manifest.input.shapes[0]
        self._size = (shape.width, shape.height)
        self._input = manifest.input.name
        (self._output,) = manifest.output_names()
        self._session = Session(model.read(), name=f"model {model.name}", settings=RunSettings())
        self.provider = self._session.provider
        wanted = (manifest.input.dtype, manifest.input.layout, manifest.input.color, manifest.input.resize)
        if wanted != ("uint8", "nhwc", "rgb", "stretch"):
            raise ModelError(
                f"model {model.name}: a classifier takes uint8 nhwc rgb, stretched; not {' '.join(wanted)}"
            )
        self.classify(np.zeros((shape.height, shape.width, 3), np.uint8))  # runs once: it is known to work

    def classify(self, picture: Picture) -> NDArray[np.float32]:
        """The probability of each of ``classes``, C float32. picture: H x W x 3 uint8 RGB of any size."""
        fed = stretched(picture, *self._size)[None]
        (out,) = self._session.run({self._input: fed}, [self._output])
        if out.shape != (1, len(self.classes)):
            shown = "x".join(str(side) for side in out.shape)
            raise ModelError(f"model {self.model.name}: gives {shown} for {len(self.classes)} classes")
        return as_float32(out[0])


def stretched(picture: Picture, width: int, height: int) -> NDArray[np.uint8]:
    """The picture at another size and aspect ratio, every pixel the mean of those it covers; training scales so too."""
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    scaled = Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(scaled, np.uint8)
