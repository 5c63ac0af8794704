"""CUDA C to PTX by NVRTC, and kernels run from it."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

import numpy as np

from deploycc.emulating import EmulatedModule, build_module


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} comes with the dev extra"
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    return ctypes.CDLL(str(_folder("nvidia.cuda_nvrtc") / "lib" / "libnvrtc.so.12"))


@functools.cache
def _c_library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.uselocale.restype = ctypes.c_void_p
    library.uselocale.argtypes = [ctypes.c_void_p]
    return library


@functools.cache
def ptx_of(source: str, arch: str = "compute_80") -> str:
    library, program = _nvrtc(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture={arch}", f"-I{_folder('nvidia.cuda_runtime') / 'include'}"]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    before = _c_library().uselocale(None)
    status = library.nvrtcCompileProgram(program, len(options), array)
    _c_library().uselocale(ctypes.c_void_p(before))  # which NVRTC changes
    kind = "PTX" if status == 0 else "ProgramLog"
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{kind}")(program, text)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    assert status == 0, text.value.decode()
    return text.value.decode()


def module_of(source: str, arch: str = "compute_80", *, checks: bool = True) -> EmulatedModule:
    return EmulatedModule(build_module(ptx_of(source, arch), checks=checks))


def scalar(value: int) -> np.int32:
    return np.int32(value)
