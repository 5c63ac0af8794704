"""The only module that imports TVM.

TVM's namespaces move from release to release, so the rest of deploycc takes them from
here: ``relax`` and ``tirx`` (the graph and the tensor level), ``s_tir`` (schedules),
``topi``/``te`` (operator definitions), ``ir``, ``transform`` (pass infrastructure) and the
structural walkers of ``tvm_ffi``.  Everything is typed ``Any``: TVM carries no type stubs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

from deploycc.types import Gpu, Target

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


def cuda_target(gpu: Gpu) -> Any:
    """TVM's CUDA target for ``gpu``; the host in it only stands for whatever launches the kernels."""
    options = {
        "kind": "cuda",
        "arch": gpu.arch,
        "max_threads_per_block": 1024,
        "max_num_threads": 1024,
        "max_shared_memory_per_block": gpu.shared_bytes_per_block,
        "thread_warp_size": 32,
    }
    return tvm.target.Target(options).with_host(tvm.target.Target("llvm"))


def from_onnx(
    proto: Any,
    converters: Mapping[str, type] | None = None,
    name_of: Callable[[int, int], str] = lambda node, output: "",
    names: dict[Any, str] | None = None,
) -> Any:
    """TVM's ONNX importer with weights as constants; ``converters`` replace or add to its own by operator.

    ``name_of`` gives the variable's name for an output of a node, both by number; empty for any.  ``names``
    gets those of variables that the importer makes by itself, under others.

    The importer looks its table up through a module-level function and takes no other, so that
    function is stood in for while it runs, and so is its class, for the names.
    """
    table, importer = _onnx_frontend._get_convert_map, _onnx_frontend.ONNXGraphImporter

    class Naming(importer):  # type: ignore[misc, valid-type]
        def _convert_operator(self, op_name: str, inputs: Any, attr: Any, opset: int) -> Any:
            made = super()._convert_operator(op_name, inputs, attr, opset)
            return self._named(made) if self._in_order(op_name) else made

        def _in_order(self, op_name: str) -> bool:
            """Whether this is the next node of the graph, and not one of a branch of another one."""
            number = getattr(self, "converted", -1) + 1
            self.converted = number
            return number < len(proto.graph.node) and bool(proto.graph.node[number].op_type == op_name)

        def _named(self, made: Any) -> Any:
            if isinstance(made, relax.Tuple):
                return relax.Tuple([self._emitted(made[i], i) for i in range(len(made))])
            if isinstance(made, relax.Expr) and isinstance(made.ty, ir.TupleType):
                count = len(made.ty.fields)
                return relax.Tuple([self._emitted(relax.TupleGetItem(made, i), i) for i in range(count)])
            return self._emitted(made, 0)

        def _emitted(self, made: Any, output: int) -> Any:
            """``made`` as a variable of the output's name, if it is no constant and has no other name."""
            name = name_of(self.converted, output)
            if isinstance(made, relax.TupleGetItem):
                return self.bb.emit(made, name)
            if not name or not isinstance(made, relax.Call | relax.Var):
                return made
            emitted = self.bb.normalize(made)
            if not isinstance(emitted.ty, relax.TensorType) or made in self._inputs.values():
                return made
            if not isinstance(emitted, relax.Var):
                return self.bb.emit(emitted, name)
            if names is not None:
                names.setdefault(emitted, name)
            return emitted

    _onnx_frontend._get_convert_map = lambda: {**table(), **(converters or {})}
    _onnx_frontend.ONNXGraphImporter = Naming
    try:
        return _onnx_frontend.from_onnx(proto, keep_params_in_input=False)
    finally:
        _onnx_frontend._get_convert_map, _onnx_frontend.ONNXGraphImporter = table, importer


def importer_converter(operator: str) -> Any:
    """The importer's own converter class of an ONNX operator."""
    return _onnx_frontend._get_convert_map()[operator]
