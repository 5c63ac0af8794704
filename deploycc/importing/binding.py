"""Makes every graph input static: what the model fixes, what ``--shape`` says, what follows from names."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import ModelProto, NodeProto, TensorShapeProto, ValueInfoProto

from deploycc.onnx_graph import GraphView, dtype_name, infer_shapes, subgraphs
from deploycc.types import DeployccError, Diagnostic

MAX_INPUT_ELEMENTS = 1 << 31
"""Inputs beyond this many elements are a typing error, not a network."""

Dim = int | str | None
"""A fixed extent, the name of a symbolic one, or one that has neither."""


@dataclass
class _Binding:
    inputs: dict[str, list[Dim] | None]
    symbols: dict[str, tuple[int, str]] = field(default_factory=dict)
    faults: list[Diagnostic] = field(default_factory=list)


def bind_shapes(
    proto: ModelProto, shapes: Mapping[str, tuple[int, ...]], *, leave_open: bool = False
) -> list[Diagnostic]:
    """Write static shapes into the graph's inputs, in place, and infer the shapes of the rest.

    A symbolic name bound by one input binds it in all of them.  Extents of 0 and below in the
    file mean unknown, as exporters write them so.  With ``leave_open`` what stays unbound is returned
    (DC200) and the inputs stay as they are.

    Raises ``DeployccError``: DC200 unbound, DC201 no such input, DC202 other rank, DC203 other
    fixed extent, DC204 extent out of range, DC205 one name bound to two extents, DC206 the
    shapes do not fit through the network.
    """
    binding = _Binding({info.name: _dims(info) for info in proto.graph.input})
    for name, shape in shapes.items():
        _bind_one(binding, name, shape)
    if not binding.faults:
        _spread(binding)
    if not binding.faults:
        _refuse_unbound(binding, proto)
        if leave_open and binding.faults:
            return binding.faults
    if binding.faults:
        raise DeployccError(*binding.faults)
    for info in proto.graph.input:
        dims = binding.inputs[info.name]
        assert dims is not None
        info.type.tensor_type.shape.CopyFrom(
            TensorShapeProto(dim=[TensorShapeProto.Dimension(dim_value=int(dim or 0)) for dim in dims])
        )
    _forget_shapes(proto)
    check_through(proto)
    return []


def _dims(info: ValueInfoProto) -> list[Dim] | None:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        if dim.WhichOneof("value") == "dim_value":
            dims.append(dim.dim_value if dim.dim_value > 0 else None)
        else:
            # '?' and blanks are how exporters write an extent that has no name.
            named = dim.dim_param.strip(" ?")
            dims.append(dim.dim_param if named else None)
    return dims


def _bind_one(binding: _Binding, name: str, shape: tuple[int, ...]) -> None:
    if name not in binding.inputs:
        binding.faults.append(_no_such_input(name, list(binding.inputs)))
        return
    if any(extent < 1 for extent in shape) or math.prod(shape) > MAX_INPUT_ELEMENTS:
        binding.faults.append(
            Diagnostic(
                "DC204",
                f"--shape {name}: an extent is out of range",
                got=_text(shape),
                need=f"extents of 1 and more, at most {MAX_INPUT_ELEMENTS} elements together",
            )
        )
        return
    dims = binding.inputs[name]
    if dims is not None and len(dims) != len(shape):
        binding.faults.append(
            Diagnostic(
                "DC202",
                f"--shape {name}: the model's input has {len(dims)} dimensions, not {len(shape)}",
                got=_text(shape),
                need=_text(dims),
                help=f"--shape {name}={_suggestion(dims)}",
            )
        )
        return
    for axis, (dim, extent) in enumerate(zip(dims or [None] * len(shape), shape, strict=True)):
        if isinstance(dim, int) and dim != extent:
            binding.faults.append(
                Diagnostic(
                    "DC203",
                    f"--shape {name}: dimension {axis} is fixed in the model",
                    got=_text(shape),
                    need=_text(dims or []),
                    help=f"give {dim} there, or export the model with that dimension dynamic",
                )
            )
        elif isinstance(dim, str):
            _bind_symbol(binding, dim, extent, f"{name}={_text(shape)}")
    binding.inputs[name] = list(shape)


def _bind_symbol(binding: _Binding, symbol: str, extent: int, where: str) -> None:
    bound = binding.symbols.setdefault(symbol, (extent, where))
    if bound[0] != extent:
        binding.faults.append(
            Diagnostic(
                "DC205",
                f"dimension '{symbol}' is given two extents",
                got=f"{bound[0]} from --shape {bound[1]} and {extent} from --shape {where}",
                need="one extent for one name",
            )
        )


def _spread(binding: _Binding) -> None:
    for dims in binding.inputs.values():
        for axis, dim in enumerate(dims or []):
            if isinstance(dim, str) and dim in binding.symbols:
                assert dims is not None
                dims[axis] = binding.symbols[dim][0]


def _refuse_unbound(binding: _Binding, proto: ModelProto) -> None:
    unbound = {name: dims for name, dims in binding.inputs.items() if dims is None or not _static(dims)}
    if not unbound:
        for name, dims in binding.inputs.items():
            if math.prod(int(dim or 0) for dim in dims or []) > MAX_INPUT_ELEMENTS:
                binding.faults.append(
                    Diagnostic(
                        "DC204",
                        f"input '{name}' is too large",
                        got=_text(dims or []),
                        need=f"at most {MAX_INPUT_ELEMENTS} elements",
                    )
                )
        return
    kinds = {info.name: dtype_name(info.type.tensor_type.elem_type) for info in proto.graph.input}
    flags = " ".join(f"--shape {_quoted(name)}={_suggestion(dims)}" for name, dims in unbound.items())
    for name, dims in unbound.items():
        symbols = [dim for dim in dims or [] if isinstance(dim, str)]
        if dims is None:
            message = f"input '{name}' has no shape at all in the model"
        elif symbols:
            named = ", ".join(f"'{symbol}'" for symbol in dict.fromkeys(symbols))
            message = f"input '{name}' has dynamic dimensions: {named}"
        else:
            message = f"input '{name}' has dynamic dimensions"
        binding.faults.append(
            Diagnostic(
                "DC200",
                message,
                got=f"{kinds[name]} {_text(dims) if dims is not None else 'of unknown rank'}",
                need="a fixed extent for every dimension",
                help=f"pass {flags}" + (" with the ? filled in" if "?" in flags else ""),
            )
        )


def _static(dims: list[Dim]) -> bool:
    return all(isinstance(dim, int) for dim in dims)


def _suggestion(dims: list[Dim] | None) -> str:
    """The value to pass: fixed extents as they are, a dynamic first one as batch 1, the rest ``?``."""
    if dims is None:
        return "?"
    parts = []
    for axis, dim in enumerate(dims):
        if isinstance(dim, int):
            parts.append(str(dim))
        else:
            parts.append("1" if axis == 0 and len(dims) > 1 else "?")
    return "x".join(parts)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.:/-]+", name) else "'" + name.replace("'", "'\\''") + "'"


def _text(dims: list[Dim] | tuple[int, ...]) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in dims) or "scalar"


def _no_such_input(name: str, names: list[str]) -> Diagnostic:
    near = difflib.get_close_matches(name, names, n=1)
    return Diagnostic(
        "DC201",
        f"--shape {name}: the model has no input of that name",
        got=f"'{name}'",
        need=f"one of {', '.join(repr(n) for n in names)}" if names else "the model has no inputs",
        help=f"did you mean '{near[0]}'?" if near else "",
    )


def _forget_shapes(proto: ModelProto) -> None:
    """Drop what the exporter wrote about values inside: it spoke of other, dynamic shapes."""
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        for inner in subgraphs(node):
            del inner.value_info[:]
    for info in proto.graph.output:
        if info.type.WhichOneof("value") == "tensor_type":
            info.type.tensor_type.ClearField("shape")
    # Inference finds the types of what nodes compute; an output may also be an input or a weight as it is.
    types = {info.name: info.type for info in proto.graph.input}
    for tensor in proto.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    for info in proto.graph.output:
        if info.name in types:
            info.type.CopyFrom(types[info.name])


_ONNX_FAULT = re.compile(r"op_type:Constant\): .*One and only one of the attributes 'value'")
"""onnx 1.23.2 itself: strict inference fails on the body of MeanVarianceNormalization."""

_NODE_FAULT = re.compile(
    r"\(op_type:\s*(?P<op>[^,)]*)(?:,\s*node name:\s*(?P<node>[^)]*))?\):?\s*(?P<why>.*)"
)


def check_through(proto: ModelProto) -> None:
    """Infer the shapes of a model with static inputs, in place.

    Raises ``DeployccError`` DC206 where they do not fit through the network.
    """
    try:
        inferred = infer_shapes(proto, strict=True)
    except onnx.shape_inference.InferenceError as error:
        if not _ONNX_FAULT.search(str(error)):
            raise DeployccError(*inference_faults(str(error), proto)) from None
        inferred = infer_shapes(proto)
    proto.CopyFrom(inferred)
    view = GraphView(proto)
    faults = [fault for node in proto.graph.node for fault in _misfits(view, node)]
    if faults:
        raise DeployccError(*faults)


def _misfits(view: GraphView, node: NodeProto) -> Iterator[Diagnostic]:
    """What shape inference lets pass: element counts of ``Reshape``, channels of convolutions."""
    shapes = [_known_shape(view, name) for name in (*node.input[:2], node.output[0])] if node.output else []
    if len(shapes) < 3 or shapes[0] is None:
        return
    if node.op_type == "Reshape" and shapes[2] is not None:
        if math.prod(shapes[0]) != math.prod(shapes[2]):
            yield _misfit(view, node, f"{_text(shapes[0])} cannot become {_text(shapes[2])}")
    elif node.op_type in ("Conv", "ConvTranspose") and shapes[1] is not None:
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        wanted = shapes[1][1] * groups if node.op_type == "Conv" else shapes[1][0]
        if len(shapes[0]) > 1 and shapes[0][1] != wanted:
            yield _misfit(view, node, f"{shapes[0][1]} channels where the weights take {wanted}")


def _known_shape(view: GraphView, name: str) -> tuple[int, ...] | None:
    kind = view.types.get(name)
    if kind is None or kind.shape is None or not kind.static:
        return None
    return tuple(dim for dim in kind.shape if dim is not None)


def _misfit(view: GraphView, node: NodeProto, what: str) -> Diagnostic:
    return Diagnostic(
        "DC206",
        "the shapes do not fit through the network",
        node=node.name,
        op=node.op_type,
        got=f"{what} (inputs {_given(view.model)})",
        need="shapes that every operator accepts",
        help="check the --shape given against the size the network was trained for",
    )


def _given(proto: ModelProto) -> str:
    return ", ".join(
        f"{info.name}={_text([dim.dim_value for dim in info.type.tensor_type.shape.dim])}"
        for info in proto.graph.input
    )


def inference_faults(text: str, proto: ModelProto) -> list[Diagnostic]:
    """DC206 for each node that the inference of shapes complained of."""
    given = _given(proto)
    faults = []
    for line in text.splitlines():
        found = _NODE_FAULT.search(line)
        if found is not None:
            faults.append(
                Diagnostic(
                    "DC206",
                    "the shapes do not fit through the network",
                    node=(found["node"] or "").strip(),
                    op=found["op"].strip(),
                    got=f"{_plain(found['why'])} (inputs {given})",
                    need="shapes that every operator accepts",
                    help="check the --shape given against the size the network was trained for",
                )
            )
    if not faults:
        got = f"{_plain(text)} (inputs {given})"
        faults.append(Diagnostic("DC206", "the shapes do not fit through the network", got=got[:500]))
    return faults


def _plain(text: str) -> str:
    return re.sub(r"\[\w+Error\]\s*", "", text).strip()[:400]
