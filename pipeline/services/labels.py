"""A classifier at work: what it says of a picture, and what that took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pipeline.analytics.labels import Judgement
from pipeline.core.frame import Picture
from pipeline.inference.classifier import Classifier

OnJudged = Callable[[float], None]
"""Hears of each picture that a classifier judged: the seconds it took."""


class LabelWork(Protocol):
    """The classifier of a camera, as the stages use it."""

    def judge(self, picture: Picture) -> Judgement: ...


class Labeller:
    """A classifier in this process, for all cameras that name it.

    It runs on the thread that observes: a millisecond every few seconds is not worth threads whose order must be kept.
    """

    def __init__(self, model: Classifier, on_judged: OnJudged = lambda _seconds: None) -> None:
        self.model = model
        self._on_judged = on_judged

    def judge(self, picture: Picture) -> Judgement:
        """The likeliest class of ``picture`` (H x W x 3 uint8 RGB) and its probability. Raises ModelError."""
        began_s = time.perf_counter()
        probabilities = self.model.classify(picture)
        best = int(probabilities.argmax())
        self._on_judged(time.perf_counter() - began_s)
        return Judgement(self.model.classes[best], min(float(probabilities[best]), 1.0))
