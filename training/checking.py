"""What is wrong with a set of labelled pictures: broken labels, twins on both sides of the split; and a look at it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.errors import ConfigError, UsageError
from training.annotations import Finding, Item, Labelled, read_labelled
from training.datasets import labels_of, read_data_spec

TWIN_BITS = 4
"""Pictures whose hashes differ in at most so many of 64 bits are the same picture, scaled or compressed anew."""
TILE = (200, 150)
COLUMNS = 8

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Twins:
    """The same picture on both sides of the split (or in two scenes, which a split may part)."""

    first: Path
    second: Path
    bits: int


@dataclass(frozen=True, slots=True)
class Checked:
    """items: as read. findings: broken labels and pictures. twins: pairs; None where there is no split to look at."""

    items: list[Item]
    findings: list[Finding]
    twins: list[Twins] | None


def perceptual_hash(image: Image) -> int:
    """64 bits: the signs of the low frequencies of a 32 x 32 picture about their median (pHash, Zauner 2010)."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    small = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def read_set(data: Path, root: Path | None) -> Labelled:
    """Everything a data file's sets hold, or one set by itself."""
    if data.suffix.lower() not in {".yaml", ".yml"}:
        return read_labelled(data, root)
    whole = Labelled()
    for each in read_data_spec(data, root).sets:
        one = labels_of(each)
        whole.items += one.items
        whole.findings += one.findings
    return whole


def check_set(data: Path, root: Path | None, train: frozenset[Path] | None, *, show: bool = False) -> Checked:
    """Look at every label and picture. train: paths of the training side, where the set is divided already.

    Where it is not, twins are looked for between named scenes. Raises ConfigError when nothing can be read at all.
    """
    read = read_set(data, root)
    if not read.items:
        raise ConfigError(f"{data}: holds no picture")
    findings, hashes = list(read.findings), {}
    for item in tqdm(read.items, desc="looking", unit="picture", disable=not show, leave=False):
        if item.is_clip:
            continue
        image = cv2.imread(str(item.path), cv2.IMREAD_COLOR)
        if image is None:
            findings.append(Finding("unreadable picture", str(item.path), "is no picture", item.path))
        else:
            hashes[item.path] = perceptual_hash(np.asarray(image, np.uint8))
    if train is not None:
        sides = {path: str(path in train) for path in hashes}
    else:
        sides = {item.path: item.scene for item in read.items if item.scene and item.path in hashes}
    return Checked(read.items, findings, twins(hashes, sides) if sides else None)


def twins(hashes: dict[Path, int], sides: dict[Path, str]) -> list[Twins]:
    """For each picture its nearest of another side, where the two are one picture; the nearest first."""
    paths = sorted(sides)
    values = np.array([hashes[path] for path in paths], np.uint64)
    _, side = np.unique([sides[path] for path in paths], return_inverse=True)
    found = []
    for i, path in enumerate(paths):
        bits = np.where(side[:i] != side[i], np.bitwise_count(values[:i] ^ values[i]), 65)
        if i and bits.min() <= TWIN_BITS:
            found.append(Twins(paths[int(bits.argmin())], path, int(bits.min())))
    return sorted(found, key=lambda each: (each.bits, str(each.second)))


def summary(checked: Checked, most: int = 20) -> str:
    """Markdown: how many of what, and the first findings."""
    labels = Counter(
        f"{box.label} (ignored)" if box.ignored else box.label for item in checked.items for box in item.boxes
    )
    labels.update(item.label for item in checked.items if item.label is not None)
    kinds = Counter(each.kind for each in checked.findings)
    lines = [f"{len(checked.items)} pictures and clips, {sum(labels.values())} labels", "", "| class | labels |"]
    lines += ["| --- | --- |", *(f"| {name} | {count} |" for name, count in labels.most_common())]
    lines += ["", "| finding | times |", "| --- | --- |", *(f"| {kind} | {n} |" for kind, n in kinds.most_common())]
    lines.append(
        f"| twins on both sides of the split | {'no split' if checked.twins is None else len(checked.twins)} |"
    )
    shown = [str(each) for each in checked.findings if each.kind != "no labels"][:most]
    shown += [f"{each.second}: {each.bits} of 64 bits from {each.first}" for each in (checked.twins or [])[:most]]
    return "\n".join([*lines, *(["", *shown] if shown else [])])


def contact_sheet(checked: Checked, count: int, seed: int = 0) -> Image:
    """``count`` pictures with their labels drawn, what is wrong first with a red frame. H x W x 3 uint8 BGR."""
    wrong = {each.path for each in checked.findings if each.path is not None and each.kind != "no labels"}
    random = np.random.default_rng(seed)
    pictures = [each for each in checked.items if not each.is_clip]
    order = random.permutation(len(pictures)).tolist()
    chosen = sorted((pictures[i] for i in order), key=lambda each: each.path not in wrong)[:count]
    tiles = [_tile(each, each.path in wrong) for each in chosen]
    blank = np.full((TILE[1], TILE[0], 3), 40, np.uint8)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    return np.asarray(np.vstack([np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]), np.uint8)


def write_sheet(path: Path, checked: Checked, count: int) -> None:
    """Write ``contact_sheet``. Raises UsageError where that cannot be."""
    if not cv2.imwrite(str(path), contact_sheet(checked, count)):
        raise UsageError(f"{path}: cannot be written", mend="a .png or .jpg in a folder that exists")


def _tile(item: Item, wrong: bool) -> Image:
    image = cv2.imread(str(item.path), cv2.IMREAD_COLOR)
    tile = np.full((TILE[1], TILE[0], 3), 40, np.uint8)
    if image is not None:
        tile = np.asarray(cv2.resize(image, TILE, interpolation=cv2.INTER_AREA), np.uint8)
    for box in item.boxes:
        sides = np.nan_to_num(np.array([box.x_min, box.y_min, box.x_max, box.y_max]), posinf=2, neginf=-1).clip(-1, 2)
        x0, y0, x1, y1 = (sides * np.array([TILE[0], TILE[1]] * 2)).astype(int).tolist()
        cv2.rectangle(tile, (x0, y0), (x1, y1), (150, 150, 150) if box.ignored else (80, 255, 80), 1)
        if not box.ignored:
            _write(tile, box.label, (x0 + 2, max(10, y0 - 2)))
    _write(tile, item.label or "", (4, 12))
    if wrong:
        cv2.rectangle(tile, (0, 0), (TILE[0] - 1, TILE[1] - 1), (0, 0, 255), 4)
    return tile


def _write(tile: Image, text: str, at: tuple[int, int]) -> None:
    cv2.putText(tile, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 255, 255), 1, cv2.LINE_AA)


def training_side(data: Path, root: Path | None) -> frozenset[Path] | None:
    """The paths that training would take, as the trainers divide; None for a set that neither of them divides."""
    if data.suffix.lower() in {".yaml", ".yml"}:
        from training.session import prepare

        return frozenset(each.path for each in prepare(data, root).train)
    return None
