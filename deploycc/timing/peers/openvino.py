"""OpenVINO through its C interface: Python's costs as much as a small convolution."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from deploycc.timing.peers import Array, EngineFailed

_DTYPES = {
    1: np.bool_, 3: np.float16, 4: np.float32, 5: np.float64, 7: np.int8, 8: np.int16, 9: np.int32,
    10: np.int64, 16: np.uint8, 17: np.uint16, 18: np.uint32, 19: np.uint64,
}  # fmt: skip
"""``ov_element_type_e`` of openvino/c/ov_common.h."""


class _Shape(ctypes.Structure):
    _fields_ = (("rank", ctypes.c_int64), ("dims", ctypes.POINTER(ctypes.c_int64)))


class OpenVino:
    """A compiled model and one request, all buffers OpenVINO's own."""

    def __init__(self, model: Path, threads: int) -> None:
        core, compiled = ctypes.c_void_p(), ctypes.c_void_p()
        properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(threads),
        }
        words = [ctypes.c_char_p(word.encode()) for pair in properties.items() for word in pair]
        _call("ov_core_create", ctypes.byref(core))
        _call(
            "ov_core_compile_model_from_file", core, str(model).encode(), b"CPU",
            ctypes.c_size_t(len(words)), ctypes.byref(compiled), *words,
        )  # fmt: skip
        self._request = ctypes.c_void_p()
        _call("ov_compiled_model_create_infer_request", compiled, ctypes.byref(self._request))
        self._infer = _library().ov_infer_request_infer
        self._outputs = ctypes.c_size_t()
        _call("ov_compiled_model_outputs_size", compiled, ctypes.byref(self._outputs))
        self._handles = (core, compiled)

    def bind(self, inputs: Sequence[Array]) -> list[Array]:
        """Fix the inputs for ``run`` and return copies of the outputs they give."""
        for index, given in enumerate(inputs):
            mine = self._tensor("input", index)
            if (mine.shape, mine.dtype) != (given.shape, given.dtype):
                raise EngineFailed(f"takes {mine.dtype}{mine.shape}, not {given.dtype}{given.shape}")
            mine[...] = given
        self.run()
        return [self._tensor("output", index).copy() for index in range(self._outputs.value)]

    def run(self) -> None:
        """One run on the bound inputs."""
        status = self._infer(self._request)
        if status != 0:
            raise EngineFailed(f"ov_infer_request_infer: status {status}")

    def close(self) -> None:
        """Free the request, the model and the core."""
        _library().ov_infer_request_free(self._request)
        core, compiled = self._handles
        _library().ov_compiled_model_free(compiled)
        _library().ov_core_free(core)

    def _tensor(self, role: str, index: int) -> Array:
        tensor, kind, data, shape = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_void_p(), _Shape()
        of = ctypes.c_size_t(index)
        _call(f"ov_infer_request_get_{role}_tensor_by_index", self._request, of, ctypes.byref(tensor))
        _call("ov_tensor_get_element_type", tensor, ctypes.byref(kind))
        _call("ov_tensor_get_shape", tensor, ctypes.byref(shape))
        _call("ov_tensor_data", tensor, ctypes.byref(data))
        extents = tuple(shape.dims[axis] for axis in range(shape.rank))
        dtype = np.dtype(_DTYPES[kind.value])
        count = int(np.prod(extents, dtype=np.int64)) * dtype.itemsize
        _library().ov_shape_free(ctypes.byref(shape))
        _library().ov_tensor_free(tensor)
        raw = (ctypes.c_uint8 * count).from_address(data.value or 0)
        view: Array = np.ctypeslib.as_array(raw).view(dtype).reshape(extents)
        return view


def load(model: Path, threads: int) -> OpenVino:
    """``model`` compiled for this processor.  Raises EngineFailed."""
    return OpenVino(model, threads)


@cache
def _library() -> Any:
    (path,) = (Path(openvino.__file__).parent / "libs").glob("libopenvino_c.so.*")
    library = ctypes.CDLL(str(path))
    library.ov_get_last_err_msg.restype = ctypes.c_char_p
    for name in ("ov_infer_request_infer", "ov_infer_request_free", "ov_compiled_model_free", "ov_core_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    return library


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_library(), name)(*arguments)
    if status != 0:
        said = (_library().ov_get_last_err_msg() or b"").decode(errors="replace").strip()
        raise EngineFailed(f"{name}: status {status}: {said.splitlines()[-1] if said else ''}")
