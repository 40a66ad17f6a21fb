"""The bare loop: decode, scale the sampled frames, run the network; nothing else.

The least that any pipeline with this model on these files has to do: one thread a file, PyAV with one decoder
thread, one swscale reformatter (AREA) a file, ONNX Runtime with one thread a run.
"""

from __future__ import annotations

import av
import numpy as np
import onnxruntime as ort
from av.video.reformatter import VideoReformatter

from benchmarks.thread_a_file import measure


def _session(model: str, width: int, height: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name, value in (("batch", 1), ("height", height), ("width", width)):
        options.add_free_dimension_override_by_name(name, value)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _one_file(path: str, session: ort.InferenceSession, size: tuple[int, int], fps: float) -> int:
    width, height = size
    wanted = session.get_inputs()[0]
    nhwc = wanted.type == "tensor(uint8)"
    canvas = np.full((1, height, width, 3), 114, np.uint8)
    reformatter = VideoReformatter()
    frames, slot = 0, -1
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            now = int(frame.time * fps + 1e-6)
            if now == slot:
                continue
            slot = now
            scale = min(width / frame.width, height / frame.height)
            w, h = round(frame.width * scale), round(frame.height * scale)
            small = reformatter.reformat(frame, w, h, "yuv420p", interpolation="AREA", threads=1)
            canvas[0, :h, :w] = reformatter.reformat(small, w, h, "rgb24", threads=1).to_ndarray()
            tensor = canvas if nhwc else np.ascontiguousarray(canvas[..., ::-1].transpose(0, 3, 1, 2), np.float32)
            session.run(None, {wanted.name: tensor})
            frames += 1
    return frames


def main() -> None:
    """``python -m benchmarks.bare_loop MODEL WIDTHxHEIGHT FPS FILE...`` prints one JSON object."""
    measure("bare_loop", _session, _one_file)


if __name__ == "__main__":
    main()
