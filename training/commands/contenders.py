"""Models as the commands name them: NAME, FOLDER, FAMILY:FILE.onnx, each with @WIDTHxHEIGHT behind it or not."""

from __future__ import annotations

from pipeline.errors import UsageError
from training.evaluate import Contender, contender


def contender_of(told: str) -> Contender:
    """A detector at an input shape. Raises UsageError, ModelError."""
    name, _, shape = told.partition("@")
    if not shape:
        return contender(name)
    try:
        width, height = (int(each) for each in shape.split("x"))
    except ValueError:
        raise UsageError(f"{told}: {shape!r} is no shape", mend="write it as NAME@416x256, width first") from None
    return contender(name, (width, height))
