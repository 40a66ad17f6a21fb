"""AP at IoU 0.5 by group, for our model and for others', on the same pictures through the pipeline's own detector.

Every picture is scored three times: as it is, in a 16:9 view (a centre crop of taller pictures; stretched ones are
stretched back), since cameras are mostly 16:9 and the shape of the input decides what a small network sees, and in that
view darkened, since labelled pictures are mostly taken by day (made, not taken: an indication of what a night costs).
Pictures of people alone are scored a fourth time, on their side: few pictures show people who lie, and falls are told
by whether a detector sees them (made, too: the room lies as well).
Boxes that the crop cuts to less than half are ignored, as are regions that the labels say nothing of. A set is scored
for a group only if it labels the whole group.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from pipeline.core.classes import Group, group_of
from pipeline.core.detections import Detections
from pipeline.core.geometry import box_iou
from pipeline.inference.adding import Wanted, examine
from pipeline.inference.detector import Detector
from pipeline.inference.manifest import Family, InputShape
from pipeline.inference.store import Model, load_model
from training.augment import darkened, on_its_side, shows_people_alone
from training.costs import interleaved_ms
from training.datasets import ANY_VEHICLE, CLASSES, DataSpec, Sample

View = Literal["as it is", "16:9", "16:9, darkened", "on its side"]
VIEWS: tuple[View, ...] = get_args(View)
GROUPS: tuple[Group, ...] = ("person", "vehicle")
WIDE = 16 / 9
DARK = {"gamma": 2.0, "light": 0.45, "noise": 8.0}
"""Of the darkened view: pictures of a mean brightness of 90 to 140 (of 255) become 18 to 47."""
MIN_SCORE = 0.01
MIN_PICTURES = 20
"""A kind of set with fewer pictures is left out of the mean: it is too small to say anything."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A labelled picture in one view. image: H x W x 3 uint8 RGB. boxes: N x 4 xyxy pixels. ignored: bool, N."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    known: NDArray[np.bool_]
    kind: str


@dataclass(frozen=True, slots=True)
class Contender:
    """A model at one input shape (width, height)."""

    name: str
    model: Model
    shape: tuple[int, int]

    def detector(self, min_score: float | None = None) -> Detector:
        """A detector that uses this shape for every picture."""
        told = next(
            (each for each in self.model.manifest.input.shapes if (each.width, each.height) == self.shape),
            InputShape(width=self.shape[0], height=self.shape[1]),
        )
        spec = self.model.manifest.input.model_copy(update={"shapes": [told]})
        manifest = self.model.manifest.model_copy(update={"input": spec})
        return Detector(Model(manifest, self.model.folder, self.model.path), min_score=min_score)


@dataclass(frozen=True, slots=True)
class Score:
    """One model's AP at IoU 0.5 in one view. by_kind: group -> kind -> AP. mean: group -> mean over the kinds.

    named: kind -> share of the vehicles found (at the model's own threshold) that bear the right class; AP by group is
    blind to that, and events carry the class.
    version, sha256: of the very file that was scored, so that ``passerby models promote --gate`` knows whose they are.
    """

    model: str
    shape: tuple[int, int]
    view: View
    mean: dict[str, float]
    by_kind: dict[str, dict[str, float]]
    pictures: dict[str, dict[str, int]]
    cost_ms: float
    version: str = ""
    sha256: str = ""
    named: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def contender(told: str, shape: tuple[int, int] | None = None) -> Contender:
    """A contender from ``FOLDER``, or from ``FAMILY:FILE.onnx`` (somebody else's file with its family's defaults)."""
    if ":" in told:
        family, file = told.split(":", 1)
        path = Path(file)
        found = examine(path, Wanted(_family(family), path.stem[:60]))
        model = found.keep(Path(tempfile.mkdtemp(prefix="passerby-contender-")))
    else:
        model = load_model(told)
    first = model.manifest.input.shapes[0]
    width, height = shape or (first.width, first.height)
    return Contender(f"{model.name} {width}x{height}", model, (width, height))


def _family(told: str) -> Family:
    families: dict[str, Family] = {each: each for each in get_args(Family)}
    if told not in families:
        from pipeline.errors import UsageError

        raise UsageError(f"{told}: is no family of models", mend=f"one of {', '.join(families)}")
    return families[told]


def picture_of(sample: Sample, spec: DataSpec, view: View) -> Picture:
    """The sample as it is evaluated in a view."""
    image = np.asarray(cv2.cvtColor(sample.read(), cv2.COLOR_BGR2RGB), np.uint8)
    told = spec.by_name[sample.dataset]
    if told.aspect is not None and view != "as it is":
        unstretched = (image.shape[1], round(image.shape[1] / told.aspect))
        image = np.asarray(cv2.resize(image, unstretched, interpolation=cv2.INTER_AREA), np.uint8)
    if view == "on its side":
        image, sample = on_its_side(image, sample, left=bool(zlib.crc32(image.tobytes()) & 1))
    height, width = image.shape[:2]
    top, kept = 0, height
    if view in {"16:9", "16:9, darkened"} and told.aspect is None and width / height < WIDE:
        kept = round(width / WIDE)
        top = (height - kept) // 2
    boxes = sample.boxes * np.array([width, height, width, height], np.float32)
    whole = boxes[:, 3] - boxes[:, 1]
    boxes[:, 1::2] = np.clip(boxes[:, 1::2] - top, 0, kept)
    left = boxes[:, 3] - boxes[:, 1]
    seen = left > 1
    shown: NDArray[np.uint8] = np.ascontiguousarray(image[top : top + kept], np.uint8)
    if view == "16:9, darkened":
        shown = darkened(shown, np.random.default_rng(zlib.crc32(shown.tobytes())), **DARK)
    return Picture(
        shown,
        boxes[seen],
        sample.labels[seen],
        (sample.ignored | (left < 0.5 * whole))[seen],
        sample.known,
        told.kind or sample.dataset,
    )


def is_shown(sample: Sample, view: View) -> bool:
    """Whether the sample is scored in this view."""
    return view != "on its side" or shows_people_alone(sample)


def detect_all(detector: Detector, pictures: Sequence[Picture], *, show: str = "") -> list[Detections]:
    """Detections of every picture, in its own pixels."""
    bar = tqdm(pictures, desc=show, unit="picture", leave=False, disable=not show)
    return [detect_in(detector, each.image) for each in bar]


def detect_in(detector: Detector, image: NDArray[np.uint8]) -> Detections:
    """Detections of one picture of any size (H x W x 3 uint8 RGB), in its own pixels."""
    (found,) = detector.detect([fitted(detector, image)], [(image.shape[1], image.shape[0])])
    return found


def fitted(detector: Detector, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture at the size the detector asks for."""
    height, width = image.shape[:2]
    fit = detector.fit(width, height)
    shrinks = fit.width < width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (fit.width, fit.height), interpolation=how), np.uint8)


def ap50(pictures: Sequence[Picture], found: Sequence[Detections], group: Group) -> float:
    """Average precision at IoU 0.5 of a group, its classes as one (COCO, Lin et al. 2014). nan: no truth."""
    images: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for i, (picture, detections) in enumerate(zip(pictures, found, strict=True), 1):
        images.append({"id": i, "width": picture.image.shape[1], "height": picture.image.shape[0]})
        for box, label, ignored in zip(picture.boxes, picture.labels, picture.ignored, strict=True):
            if _group_of_label(int(label)) == group:
                truth.append(_annotation(len(truth) + 1, i, box) | {"iscrowd": int(ignored)})
        groups = [group_of(name) for name in detections.classes]
        for box, score, number in zip(detections.boxes, detections.scores, detections.class_ids, strict=True):
            if groups[int(number)] == group:
                results.append(_annotation(len(results) + 1, i, box) | {"score": float(score)})
    if not any(not each["iscrowd"] for each in truth):
        return float("nan")
    return _coco_ap50(images, truth, results) if results else 0.0


def named_right(pictures: Sequence[Picture], found: Sequence[Detections], threshold: float) -> float | None:
    """Of the vehicles whose class is labelled and that a vehicle's box finds (IoU 0.5, scored ``threshold`` or more),
    the share whose best such box bears the right class; None where there are none."""
    right = there = 0
    for picture, detections in zip(pictures, found, strict=True):
        names = np.array(detections.classes)[detections.class_ids]
        shown = np.array([group_of(name) == "vehicle" for name in names], np.bool_) & (detections.scores >= threshold)
        boxes, scores, names = detections.boxes[shown], detections.scores[shown], names[shown]
        for box, label, ignored in zip(picture.boxes, picture.labels, picture.ignored, strict=True):
            if ignored or label == ANY_VEHICLE or group_of(CLASSES[label]) != "vehicle" or not len(boxes):
                continue
            overlap = box_iou(box[None].astype(np.float64), boxes.astype(np.float64))[0]
            if overlap.max() >= 0.5:
                there += 1
                right += str(names[np.argmax(np.where(overlap >= 0.5, scores, -1.0))]) == CLASSES[label]
    return right / there if there else None


def truth_of(picture: Picture, group: str) -> NDArray[np.float32]:
    """The boxes of a group that are not ignored, N x 4 xyxy."""
    mine = np.array([_group_of_label(int(label)) == group for label in picture.labels], np.bool_)
    return np.asarray(picture.boxes[mine & ~picture.ignored], np.float32)


def _group_of_label(label: int) -> Group | None:
    return "vehicle" if label == ANY_VEHICLE else group_of(CLASSES[label])


def _annotation(number: int, image: int, box: NDArray[np.float32]) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(each) for each in box)
    sides = [x0, y0, x1 - x0, y1 - y0]
    return {"id": number, "image_id": image, "category_id": 1, "bbox": sides, "area": sides[2] * sides[3]}


def _coco_ap50(images: list[dict[str, Any]], truth: list[dict[str, Any]], results: list[dict[str, Any]]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        reference, ours = COCO(), COCO()
        reference.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "it"}]}
        reference.createIndex()
        for each in results:
            each["iscrowd"] = 0
        ours.dataset = {"images": images, "annotations": results, "categories": [{"id": 1, "name": "it"}]}
        ours.createIndex()
        score = COCOeval(reference, ours, "bbox")
        score.params.iouThrs = np.array([0.5])
        score.params.areaRng, score.params.areaRngLbl = [[0, 1e10]], ["all"]
        score.params.maxDets = [300]
        score.evaluate()
        score.accumulate()
    precision = score.eval["precision"]
    return float(precision[precision > -1].mean())


def score_found(
    contender_: Contender, view: View, pictures: Sequence[Picture], found: Sequence[Detections], cost_ms: float
) -> Score:
    """AP by group and kind of set."""
    by_kind: dict[str, dict[str, float]] = {}
    counts: dict[str, dict[str, int]] = {}
    for group in GROUPS:
        by_kind[group], counts[group] = {}, {}
        for kind in sorted({each.kind for each in pictures}):
            mine = [i for i, each in enumerate(pictures) if each.kind == kind and labels_group(each, group)]
            if mine:
                by_kind[group][kind] = ap50([pictures[i] for i in mine], [found[i] for i in mine], group)
                counts[group][kind] = len(mine)
    mean: dict[str, float] = {
        group: statistics.fmean(
            [ap for kind, ap in by_kind[group].items() if counts[group][kind] >= MIN_PICTURES and ap == ap]  # noqa: PLR0124
            or [float("nan")]
        )
        for group in GROUPS
    }
    scored = contender_.model.manifest
    named: dict[str, float] = {}
    for kind in counts["vehicle"]:
        mine = [i for i, each in enumerate(pictures) if each.kind == kind and labels_group(each, "vehicle")]
        share = named_right([pictures[i] for i in mine], [found[i] for i in mine], scored.thresholds.score)
        if share is not None:
            named[kind] = share
    return Score(
        scored.name, contender_.shape, view, mean, by_kind, counts, cost_ms, scored.version, scored.sha256, named
    )  # fmt: skip


def labels_group(picture: Picture, group: str) -> bool:
    """Whether every class of the group is labelled in this picture."""
    return all(known for name, known in zip(CLASSES, picture.known, strict=True) if group_of(name) == group)


def costs_ms(contenders: Sequence[Contender], pictures: Sequence[Picture], rounds: int = 30) -> list[float]:
    """CPU milliseconds a picture, one thread: network, decoding and suppression at the model's own thresholds."""
    runs: dict[str, Callable[[], object]] = {}
    for i, each in enumerate(contenders):
        detector = each.detector()
        picture = pictures[0]
        args = ([fitted(detector, picture.image)], [(picture.image.shape[1], picture.image.shape[0])])
        runs[str(i)] = lambda detector=detector, args=args: detector.detect(*args)  # type: ignore[misc]
    told = interleaved_ms(runs, rounds)
    return [told[str(i)] for i in range(len(contenders))]


def evaluate(
    contenders: Sequence[Contender], samples: Sequence[Sample], spec: DataSpec, *, show: bool = False
) -> list[Score]:
    """Score every contender in every view that shows any of the samples."""
    scores = []
    for view in VIEWS:
        pictures = [picture_of(each, spec, view) for each in samples if is_shown(each, view)]
        if not pictures:
            continue
        costs = costs_ms(contenders, pictures)
        for each, cost in zip(contenders, costs, strict=True):
            found = detect_all(each.detector(MIN_SCORE), pictures, show=f"{each.name} {view}" if show else "")
            scores.append(score_found(each, view, pictures, found, cost))
    return scores


def table(scores: Sequence[Score]) -> str:
    """The scores as Markdown."""
    kinds = {group: sorted({kind for each in scores for kind in each.by_kind[group]}) for group in GROUPS}
    named = sorted({kind for each in scores for kind in each.named})
    heads = [f"{group[0]}: {kind}" for group in GROUPS for kind in kinds[group]]
    heads += [f"class right: {kind}" for kind in named]
    lines = [
        "| pictures | model | input | people | vehicles | CPU ms | " + " | ".join(heads) + " |",
        "| --- | --- | --- | --- | --- | --- | " + " | ".join("---" for _ in heads) + " |",
    ]
    for each in scores:
        cells = [f"{each.by_kind[group].get(kind, float('nan')):.3f}" for group in GROUPS for kind in kinds[group]]
        cells += [f"{each.named.get(kind, float('nan')):.3f}" for kind in named]
        lines.append(
            f"| {each.view} | {each.model} | {each.shape[0]}x{each.shape[1]} | {each.mean['person']:.3f} | "
            f"{each.mean['vehicle']:.3f} | {each.cost_ms:.1f} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)
