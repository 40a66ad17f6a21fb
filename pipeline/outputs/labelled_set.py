"""A set of labelled pictures as training reads it, with where each came from and a page to look at it.

    index.html            the contact sheet
    manifest.csv          a line a picture: camera, time, reason, models that judged and labelled it, what is complete
    classes.txt           what the numbers in the labels mean, one a line from 0
    data.yaml             for `passerby-train --data`
    all/images, labels    pictures whose labels are complete as far as their maker can tell (YOLO text)
    person/, vehicle/, …  pictures of which only that is; none/: nothing is, look through them first

It is written beside its place and put there whole, or not at all; nothing is ever overwritten.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import urllib.parse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from PIL import Image

from pipeline.core.frame import Picture
from pipeline.errors import OutputError, UsageError
from pipeline.outputs.contact_sheet import Shown, render

Boxes = tuple[tuple[str, tuple[float, float, float, float], float | None], ...]
"""(class, xyxy in 0..1 of the picture, score or None) of each."""

COLUMNS = (
    "file", "camera", "time", "epoch", "frame", "reason", "detail", "source",
    "model", "model_version", "model_sha256", "labelled_by", "labelled_by_version", "labelled_by_sha256",
    "labelled_classes", "boxes",
)  # fmt: skip
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPicture:
    """One picture (H x W x 3 uint8 RGB, masks painted) and everything there is to say of it.

    judged_by, labelled_by: name, version and sha256 of a model. classes: what the judge knows. known: kinds whose
    labels are complete, labelled_classes: their classes. doubtful, removed: only shown.
    """

    picture: Picture
    camera_id: str
    time: str
    epoch: int
    frame: int
    reason: str
    detail: str
    source: str
    judged_by: tuple[str, str, str]
    labelled_by: tuple[str, str, str]
    classes: tuple[str, ...]
    known: tuple[str, ...]
    labelled_classes: tuple[str, ...]
    labels: Boxes
    doubtful: Boxes = ()
    removed: Boxes = ()


class LabelledSet:
    """Writes a set; a context manager that leaves nothing behind when it is not finished."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError when ``folder`` holds anything, OutputError when it cannot be written."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: is there already", mend="name a new folder with --out: nothing is overwritten")
        self.folder = folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
        self._classes: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._shown: list[Shown] = []
        self._sets: dict[str, tuple[str, ...]] = {}

    def add(self, picture: LabelledPicture) -> None:
        """Write one picture and its labels. Raises OutputError."""
        for name in (*picture.classes, *(name for name, _, _ in picture.labels)):
            if name not in self._classes:
                self._classes.append(name)
        set_name = self._set_of(picture)
        stamp = picture.time.replace(":", "").replace("-", "").replace(".", "")
        name = f"{urllib.parse.quote(picture.camera_id, safe='')}-{stamp}-{picture.epoch}-{picture.frame}"
        file = f"{set_name}/images/{name}.jpg"
        try:
            for part in ("images", "labels"):
                (self._partial / set_name / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.picture).save(self._partial / file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            lines = "".join(self._line(name, box) for name, box, _ in picture.labels)
            (self._partial / set_name / "labels" / f"{name}.txt").write_text(lines, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}") from error
        told = (file, picture.camera_id, picture.time, picture.epoch, picture.frame, picture.reason, picture.detail,
                picture.source, *picture.judged_by, *picture.labelled_by, " ".join(picture.labelled_classes),
                len(picture.labels))  # fmt: skip
        self._rows.append(dict(zip(COLUMNS, told, strict=True)))
        height, width = picture.picture.shape[:2]
        unknown = tuple(each for each in picture.classes if each not in picture.labelled_classes)
        self._shown.append(
            Shown(
                file,
                width,
                height,
                picture.camera_id,
                picture.time,
                picture.reason,
                picture.detail,
                unknown,
                picture.labels,
                picture.doubtful,
                picture.removed,
            )
        )

    def finish(self, title: str) -> int:
        """Write what stands beside the pictures and put the set into its place; the number of pictures.

        Without any picture nothing is written. Raises OutputError.
        """
        if not self._rows:
            self.discard()
            return 0
        try:
            with (self._partial / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self._rows)
            (self._partial / "classes.txt").write_text("".join(f"{name}\n" for name in self._classes), "utf-8")
            (self._partial / "data.yaml").write_text(self._data(), encoding="utf-8")
            (self._partial / "index.html").write_text(render(title, self._shown), encoding="utf-8")
            self._partial.chmod(0o777 & ~_umask())
            if self.folder.exists():
                self.folder.rmdir()  # empty: looked at before
            self._partial.rename(self.folder)
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}") from error
        return len(self._rows)

    def discard(self) -> None:
        """Give up what was written."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _set_of(self, picture: LabelledPicture) -> str:
        kinds = "-".join(picture.known)
        name = "all" if picture.labelled_classes == picture.classes else kinds or "none"
        # Two models may know different classes of one kind: what is complete in a set is what is in all its pictures.
        before = self._sets.get(name, picture.labelled_classes)
        self._sets[name] = tuple(each for each in before if each in picture.labelled_classes)
        return name

    def _line(self, name: str, box: tuple[float, float, float, float]) -> str:
        x_min, y_min, x_max, y_max = box
        centre = ((x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min)
        return f"{self._classes.index(name)} {' '.join(f'{part:.6f}' for part in centre)}\n"

    def _data(self) -> str:
        counted = Counter(str(row["file"]).partition("/")[0] for row in self._rows)
        sets = {
            f"harvest-{name}": {"folder": name, "labelled": list(labelled)}
            for name, labelled in sorted(self._sets.items())
            if labelled
        }
        told = yaml.safe_dump(
            {"root": ".", "numbering": self._classes, "sets": sets}, sort_keys=False, default_flow_style=None, width=120
        )
        lines = [
            "# For `passerby-train --data`. A set says about which classes its labels are complete; what is not",
            "# labelled counts as unknown, not as background. Once a person has gone through a folder, name them all.",
        ]
        lines += [
            f"# {name} ({counted[name]}): nothing is complete in these pictures yet, go through them first."
            for name, labelled in sorted(self._sets.items())
            if not labelled
        ]
        return "\n".join(lines) + "\n" + told


def _umask() -> int:
    """The process's: there is no way to ask but to set it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
