"""The only module that imports TVM.

TVM's namespaces move from release to release, so the rest of deploycc takes them from
here: ``relax`` and ``tirx`` (the graph and the tensor level), ``s_tir`` (schedules),
``topi``/``te`` (operator definitions), ``ir``, ``transform`` (pass infrastructure) and the
structural walkers of ``tvm_ffi``.  Everything is typed ``Any``: TVM carries no type stubs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm as _tvm
import tvm_ffi as _tvm_ffi
from tvm import ir as _ir
from tvm import relax as _relax
from tvm import s_tir as _s_tir
from tvm import te as _te
from tvm import tirx as _tirx
from tvm import topi as _topi
from tvm.relax.frontend.onnx import onnx_frontend as _onnx_frontend

from deploycc.types import Target

tvm: Any = _tvm
ir: Any = _ir
relax: Any = _relax
tirx: Any = _tirx
s_tir: Any = _s_tir
te: Any = _te
topi: Any = _topi
transform: Any = _tvm.transform
OnnxOpConverter: Any = _onnx_frontend.OnnxOpConverter
structural_walk: Any = _tvm_ffi.structural_walk
structural_map: Any = _tvm_ffi.structural_map
structural_equal: Any = _tvm_ffi.structural_equal
structural_hash: Any = _tvm_ffi.structural_hash

VERSION: str = _tvm.__version__


def llvm_target(target: Target) -> Any:
    """TVM's LLVM target for ``target``, its own host, at optimisation level 3.

    LLVM prefers 256-bit vectors on several AVX-512 processors (``x86-64-v4`` and Intel's server
    cores carry the tuning flag ``prefer-256-bit``) and then vectorises plain loops for half of
    the registers' width.  A target whose vector unit is 512 bits wide on x86 switches that flag off.
    """
    features = list(target.llvm.features)
    if target.simd.bits >= 512 and target.llvm.triple.startswith("x86_64"):
        features.append("-prefer-256-bit")
    options: dict[str, Any] = {"kind": "llvm", "mtriple": target.llvm.triple, "opt-level": 3}
    if target.llvm.cpu:
        options["mcpu"] = target.llvm.cpu
    if features:
        options["mattr"] = features
    if target.llvm.float_abi:
        options["mfloat-abi"] = target.llvm.float_abi
    plain = tvm.target.Target(options)
    return plain.with_host(plain)


def from_onnx(proto: Any, converters: Mapping[str, type] | None = None) -> Any:
    """TVM's ONNX importer with weights as constants; ``converters`` replace or add to its own by operator.

    The importer looks its table up through a module-level function and takes no other, so that
    function is stood in for while it runs.
    """
    original = _onnx_frontend._get_convert_map
    _onnx_frontend._get_convert_map = lambda: {**original(), **(converters or {})}
    try:
        return _onnx_frontend.from_onnx(proto, keep_params_in_input=False)
    finally:
        _onnx_frontend._get_convert_map = original


def importer_converter(operator: str) -> Any:
    """The importer's own converter class of an ONNX operator."""
    return _onnx_frontend._get_convert_map()[operator]
