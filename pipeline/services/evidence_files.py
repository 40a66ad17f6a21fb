"""The files of an event's evidence: pictures with what was seen, those of the log as they lie there, the sidecar."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pipeline import __version__
from pipeline.core.events import rfc3339
from pipeline.errors import OutputError
from pipeline.outputs.evidence import (
    EvidencePainter,
    SeenFrame,
    attention_of,
    file_facts,
    write_bytes,
    write_picture,
    write_sidecar,
    write_video,
)
from pipeline.services.evidence import Cut, CutFrame, Seen

Format = Literal["mp4", "png", "frames"]
FORMATS: tuple[Format, ...] = ("mp4", "png", "frames")
_JPEG = b"\xff\xd8"


def write_evidence(folder: Path, found: Cut, seen: Seen | None, formats: Collection[Format]) -> list[Path]:
    """Write the evidence of an event into ``folder``; what was written, the sidecar last. Raises OutputError.

    mp4: all frames, each at its own time. png: the frame that shows it best. frames: each frame's bytes as they lie in
    the log. The sidecar (JSON) says where all of it lies, with the hash of everything.
    """
    event = found.event.event
    name = f"{event.camera_id}-{event.id}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror or error}") from error
    best = _best(found, seen)
    painter = EvidencePainter(
        event, seen.rules if seen else None, found.size, seen.object_id if seen else None, best.frame.index
    )
    drawn = [painter.draw(_shown(each, seen)) for each in found.frames]
    written: list[Path] = []
    shape = drawn[found.frames.index(best)].shape
    alike = [n for n, picture in enumerate(drawn) if picture.shape == shape]
    if len(alike) < len(drawn):
        found.notes.append(f"the video leaves out {len(drawn) - len(alike)} frames, which are of another size")
    if "mp4" in formats:
        written.append(folder / f"{name}.mp4")
        write_video(written[-1], [drawn[n] for n in alike], [found.frames[n].frame.captured_at_us for n in alike])
    if "png" in formats:
        written.append(folder / f"{name}.png")
        write_picture(written[-1], drawn[found.frames.index(best)])
    if "frames" in formats:
        for each in found.frames:
            kind = "jpg" if each.encoded.startswith(_JPEG) else "rgb"
            written.append(folder / name / f"{each.frame.index:08d}.{kind}")
            write_bytes(written[-1], each.encoded)
    sidecar = folder / f"{name}.json"
    write_sidecar(sidecar, told(found, seen, best, {str(path.relative_to(folder)): path for path in written}))
    return [*written, sidecar]


def told(found: Cut, seen: Seen | None, best: CutFrame, files: dict[str, Path]) -> dict[str, Any]:
    """The sidecar: the event as it was published, where everything lies, and the hashes."""
    event = found.event.event
    shown = {each.place.offset for each in found.frames}
    return {
        "event": event.structured(),
        "record": {"topic": found.event.topic, "partition": found.event.partition, "offset": found.event.offset},
        "windows": [
            {
                "topic": found.topic,
                "partition": each.place.partition,
                "offset": each.place.offset,
                "epoch": each.window.epoch,
                "sequence": each.window.sequence,
                "revision": each.window.revision,
                "bytes": each.place.size_bytes,
                "sha256": each.sha256,
            }
            for each in found.windows
            if each.place.offset in shown
        ],
        "frames": [_frame(each, best, attention_of(event).get(each.frame.index)) for each in found.frames],
        "missing_frames": list(found.missing),
        "provenance": event.data.get("provenance"),
        "drawn": _drawn(seen),
        "notes": [*found.notes, *(seen.notes if seen else [])],
        "files": {name: file_facts(path) for name, path in files.items()},
        "made_by": f"passerby {__version__}",
    }


def _frame(each: CutFrame, best: CutFrame, attention: float | None) -> dict[str, Any]:
    height, width = each.frame.picture.shape[:2]
    looked = {} if attention is None else {"attention": attention}
    return {
        "frame": each.frame.index,
        "captured_at": rfc3339(each.frame.captured_at_us),
        "pts_s": each.frame.pts_us / 1e6,
        "offset": each.place.offset,
        "named": each.named,
        **looked,
        "shown_as_still": each is best,
        "width": width,
        "height": height,
        "bytes": len(each.encoded),
        "sha256": each.sha256,
    }


def _drawn(seen: Seen | None) -> dict[str, Any]:
    """What is drawn over the pictures, and where it comes from: they are the evidence, the drawing explains them."""
    if seen is None:
        return {"published_box": True, "tracks": False}
    matched = {"track": seen.object_id, "overlap_with_published_box": round(seen.iou, 4)} if seen.object_id else None
    models = {key: seen.model[key] for key in ("model", "model_version", "model_sha256", "config_sha256")}
    return {"published_box": True, "tracks": "recomputed from these frames", "object": matched, **models}


def _best(found: Cut, seen: Seen | None) -> CutFrame:
    """The frame whose recomputed box fits the published one best, or that a scene model looked at most; else the
    middle of those named, else the last."""
    if seen is not None and seen.box_index is not None:
        return next(each for each in found.frames if each.frame.index == seen.box_index)
    named = [each for each in found.frames if each.named]
    weights = attention_of(found.event.event)
    if weights and named:
        return max(named, key=lambda each: weights.get(each.frame.index, 0.0))
    return named[len(named) // 2] if named else found.frames[-1]


def _shown(each: CutFrame, seen: Seen | None) -> SeenFrame:
    tracks = seen.tracks.get(each.frame.index, ()) if seen is not None else ()
    return SeenFrame(each.frame.index, each.frame.captured_at_us, each.frame.picture, tracks, each.named)
