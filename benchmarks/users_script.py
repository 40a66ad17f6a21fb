"""The script a user would write: OpenCV, ONNX Runtime at its defaults, ByteTrack, a line; a thread a file.

Runs YOLOX-shaped models (1 x N x 85) and Passerby's own (boxes, scores), on every ``EVERY``-th sampled slot.
"""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import onnxruntime as ort
import supervision as sv
from trackers import ByteTrackTracker

from benchmarks.thread_a_file import measure

warnings.filterwarnings("ignore")


def _session(model: str, _width: int, _height: int) -> ort.InferenceSession:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def _decode_yolox(output: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    grids, strides = [], []
    for stride in (8, 16, 32):
        ys, xs = np.meshgrid(np.arange(height // stride), np.arange(width // stride), indexing="ij")
        grids.append(np.stack((xs, ys), 2).reshape(-1, 2))
        strides.append(np.full((grids[-1].shape[0], 1), stride))
    grid, stride_ = np.concatenate(grids), np.concatenate(strides)
    centres, sizes = (output[:, :2] + grid) * stride_, np.exp(output[:, 2:4]) * stride_
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1), output[:, 4:5] * output[:, 5:]


def _detections(session: ort.InferenceSession, picture: np.ndarray, width: int, height: int) -> sv.Detections:
    ratio = min(width / picture.shape[1], height / picture.shape[0])
    resized = cv2.resize(picture, (round(picture.shape[1] * ratio), round(picture.shape[0] * ratio)))
    canvas = np.full((height, width, 3), 114, np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized
    wanted = session.get_inputs()[0]
    if wanted.type == "tensor(uint8)":
        boxes, scores = session.run(None, {wanted.name: cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB)[None]})[:2]
        boxes, scores = boxes[0], scores[0]
    else:
        blob = canvas.transpose(2, 0, 1)[None].astype(np.float32)
        boxes, scores = _decode_yolox(session.run(None, {wanted.name: blob})[0][0], width, height)
    best, classes = scores.max(1), scores.argmax(1)
    keep = best > 0.3
    detections = sv.Detections(
        xyxy=(boxes[keep] / ratio).astype(np.float32), confidence=best[keep], class_id=classes[keep]
    )
    return detections.with_nms(0.5)


def _one_file(path: str, session: ort.InferenceSession, size: tuple[int, int], fps: float) -> int:
    capture = cv2.VideoCapture(path)
    declared = capture.get(cv2.CAP_PROP_FPS)
    tracker, line = ByteTrackTracker(), None
    frames, index, slot = 0, -1, -1
    while True:
        ok, picture = capture.read()
        if not ok:
            break
        index += 1
        if fps > 0:
            now = int(index / declared * fps + 1e-6)
            if now == slot:
                continue
            slot = now
        if line is None:
            y = int(picture.shape[0] * 0.6)
            line = sv.LineZone(sv.Point(0, y), sv.Point(picture.shape[1], y))
        line.trigger(tracker.update(_detections(session, picture, *size)))
        frames += 1
    return frames


def main() -> None:
    """``python -m benchmarks.users_script MODEL WIDTHxHEIGHT FPS FILE...`` (FPS 0: every frame) prints one JSON."""
    measure("users_script", _session, _one_file)


if __name__ == "__main__":
    main()
