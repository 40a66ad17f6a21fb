"""The one door to ONNX Runtime: sessions that run on the provider they were asked for, errors translated.

``onnxruntime`` and ``onnxruntime-gpu`` install the same Python package over each other, so exactly one of them may be
installed (docs/decisions/0002-onnxruntime-cpu-or-gpu.md); this is checked before the first session.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError

PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm")
_ERROR, _FATAL = 3, 4  # ONNX Runtime's log levels


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a session runs.

    provider: a key of ``PROVIDERS``. allow_cpu: accept the CPU when that provider does not run.
    threads: of one run, without spinning. device_id, gpu_mem_limit_bytes: CUDA and TensorRT only (None: no limit).
    cache_folder: where TensorRT keeps its engines.
    """

    provider: str = "cpu"
    allow_cpu: bool = False
    threads: int = 1
    device_id: int = 0
    gpu_mem_limit_bytes: int | None = None
    cache_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """An input or output as the network declares it. A dimension is a number, a name (may be free), or None (unnamed).

    dtype: NumPy's name, or ONNX Runtime's where NumPy has none.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {'x'.join('?' if side is None else str(side) for side in self.shape)}"


class Session:
    """A network ready to run, from many threads at once.

    data: the bytes of a checked, self-contained ONNX file. name: what errors call it.
    fixed: sizes of named free dimensions (``{"batch": 1}``): fixing them lets the runtime plan ahead.
    Raises ModelError when the network is refused, or when another provider than the asked one would run it.
    """

    def __init__(
        self, data: bytes, *, name: str, settings: RunSettings, fixed: Mapping[str, int] | None = None
    ) -> None:
        runtime = _runtime()
        self._name = name
        wanted = _provider(runtime, settings)
        options = _session_options(runtime, settings, wanted, fixed or {})
        providers = [(wanted, _provider_options(wanted, settings))]
        if wanted != PROVIDERS["cpu"]:
            providers.append((PROVIDERS["cpu"], {}))  # for the few operators that a provider leaves out
        try:
            self._session = runtime.InferenceSession(data, options, providers=providers)
        except Exception as error:
            raise ModelError(f"{name}: ONNX Runtime refuses the network: {_one_line(error)}") from None
        self._session.disable_fallback()
        ran = self._session.get_providers()[0]
        if ran != wanted and not settings.allow_cpu:
            raise _not_running(settings.provider, f"it fell back to {ran}")
        self.provider = next(key for key, value in PROVIDERS.items() if value == ran)
        self.inputs = tuple(_facts(node) for node in self._session.get_inputs())
        self.outputs = tuple(_facts(node) for node in self._session.get_outputs())
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The outputs named, in that order. Raises ModelError when the run fails."""
        try:
            ran: list[NDArray[Any]] = self._session.run(list(outputs), dict(feeds))
        except Exception as error:
            raise ModelError(f"{self._name}: the network failed: {_one_line(error)}") from None
        return ran


def installed_runtimes() -> list[str]:
    """The distributions of ONNX Runtime that are installed (more than one is an accident)."""
    found = []
    for name in _DISTRIBUTIONS:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


_checked: Any = None
_lock = threading.Lock()


def _runtime() -> Any:
    """The module, imported and checked once."""
    global _checked  # noqa: PLW0603 - one runtime a process
    with _lock:
        if _checked is None:
            _checked = _import_runtime()
        return _checked


def _import_runtime() -> Any:
    found = installed_runtimes()
    if len(found) > 1:
        raise ModelError(
            f"{' and '.join(found)} are both installed and overwrite each other's files",
            mend=f"pip uninstall -y {' '.join(found)}; pip install 'passerby[cpu]' (or 'passerby[gpu]')",
        )
    try:
        import onnxruntime
    except ImportError as error:
        why = "ONNX Runtime is not installed" if not found else f"{found[0]} cannot be imported: {_one_line(error)}"
        raise ModelError(why, mend="pip install 'passerby[cpu]' (or 'passerby[gpu]' for an NVIDIA GPU)") from None
    onnxruntime.set_default_logger_severity(_ERROR)
    return onnxruntime


def _provider(runtime: Any, settings: RunSettings) -> str:
    """ONNX Runtime's name of the provider to ask for. Raises ModelError where it cannot run."""
    if settings.provider not in PROVIDERS:
        raise ModelError(f"provider {settings.provider!r} is not known", mend=f"one of {', '.join(PROVIDERS)}")
    wanted = PROVIDERS[settings.provider]
    if wanted in runtime.get_available_providers():
        return wanted
    if settings.allow_cpu:
        return PROVIDERS["cpu"]
    has = [key for key, value in PROVIDERS.items() if value in runtime.get_available_providers()]
    raise _not_running(settings.provider, f"the installed ONNX Runtime has {', '.join(has)}")


def _not_running(provider: str, why: str) -> ModelError:
    mend = "set allow_cpu: true to accept the CPU"
    if provider in {"cuda", "tensorrt"}:
        mend = f"install 'passerby[gpu]' in place of 'passerby[cpu]' and check the driver, or {mend}"
    return ModelError(f"provider {provider} does not run here: {why}", mend=mend)


def _session_options(runtime: Any, settings: RunSettings, wanted: str, fixed: Mapping[str, int]) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL if wanted == PROVIDERS["cpu"] else _ERROR  # errors come as exceptions too
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting threads that spin take the cores from the decoders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    # The arena keeps the peak of every concurrent run for ever; without it a run is no slower (docs/decisions/0030).
    options.enable_cpu_mem_arena = wanted != PROVIDERS["cpu"]
    for dimension, size in fixed.items():
        options.add_free_dimension_override_by_name(dimension, size)
    return options


def _provider_options(wanted: str, settings: RunSettings) -> dict[str, str]:
    if wanted == PROVIDERS["cuda"]:
        options = {
            "device_id": str(settings.device_id),
            # Doubling (the default) keeps up to twice the memory of the largest batch ever seen.
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",  # exhaustive search times kernels: slow to start, and varies
        }
        if settings.gpu_mem_limit_bytes is not None:
            options["gpu_mem_limit"] = str(settings.gpu_mem_limit_bytes)
        return options
    if wanted == PROVIDERS["tensorrt"]:
        options = {"device_id": str(settings.device_id)}
        if settings.cache_folder is not None:
            options |= {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(settings.cache_folder),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(settings.cache_folder),
            }
        return options
    return {}


def _facts(node: Any) -> TensorFacts:
    kind = str(node.type)
    known = {
        "tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16", "tensor(int64)": "int64",
        "tensor(double)": "float64", "tensor(int32)": "int32",
    }  # fmt: skip
    shape = tuple(side if isinstance(side, int | str) and side != "" else None for side in node.shape)
    return TensorFacts(node.name, shape, known.get(kind, kind))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """The array as float32 (a view when it is already)."""
    return np.asarray(array, dtype=np.float32)
