"""Single operators in the form the importer converts right, each rewrite exact."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, TensorProto, helper

from deploycc.onnx_editor import Editor, Rewrite, attribute, drop_attribute, set_attribute


def _standard(editor: Editor, operator: str) -> list[NodeProto]:
    return [node for node in editor.nodes if node.op_type == operator and not node.domain]


def sign_of_infinity(editor: Editor) -> int:
    """``IsInf`` of one sign becomes ``IsInf`` of both and a comparison with 0.

    Refuses the form that detects neither.
    """
    return sum(infinity_by_comparison(editor, node) for node in _standard(editor, "IsInf"))


def infinity_by_comparison(editor: Editor, node: NodeProto) -> bool:
    """One node of ``sign_of_infinity``."""
    positive = attribute(node, "detect_positive", 1)
    if node.op_type != "IsInf" or node.domain or attribute(node, "detect_negative", 1) == positive:
        return False
    new = Rewrite(editor, node)
    either = new.add("IsInf", node.input[0])
    zero = new.constant(np.zeros((), editor.dtype(node.input[0]) or "float32"))
    side = new.add("Greater" if positive else "Less", node.input[0], zero)
    new.add("And", either, side, output=node.output[0])
    new.done()
    return True


def deconvolution_pads(editor: Editor) -> int:
    """``ConvTranspose`` with ``output_shape`` gets the pads and output padding that lead to it.

    By the specification ``total = stride * (in - 1) + output_padding + (k - 1) * dilation + 1
    - out``, split with the larger half in front unless ``auto_pad`` is ``SAME_UPPER``.  Refuses
    unknown shapes and a size no padding leads to.
    """
    return sum(pads_of_output_shape(editor, node) for node in _standard(editor, "ConvTranspose"))


def pads_of_output_shape(editor: Editor, node: NodeProto) -> bool:
    """One node of ``deconvolution_pads``."""
    wanted = attribute(node, "output_shape") if node.op_type == "ConvTranspose" and not node.domain else None
    if wanted is None:
        return False
    data, weights = editor.shape(node.input[0]), editor.shape(node.input[1])
    if data is None or weights is None or len(wanted) != len(data) - 2:
        return False
    rank = len(wanted)
    strides = attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    extra = attribute(node, "output_padding", [0] * rank)
    upper = attribute(node, "auto_pad", "NOTSET") == "SAME_UPPER"
    reach = [(weights[i + 2] - 1) * dilations[i] + 1 for i in range(rank)]
    totals = [strides[i] * (data[i + 2] - 1) + extra[i] + reach[i] - wanted[i] for i in range(rank)]
    # ONNX Runtime reaches one size more than no padding gives by padding the output.
    extra = [given + max(0, -total) for given, total in zip(extra, totals, strict=True)]
    if any(given >= stride for given, stride in zip(extra, strides, strict=True)):
        return False
    totals = [max(0, total) for total in totals]
    small = [total // 2 for total in totals]
    large = [total - total // 2 for total in totals]
    drop_attribute(node, "output_shape")
    drop_attribute(node, "auto_pad")
    set_attribute(node, "pads", [*small, *large] if upper else [*large, *small])
    set_attribute(node, "output_padding", extra)
    return True


def one_hot_by_comparison(editor: Editor) -> int:
    """``OneHot`` becomes ``Where(Equal(indices, 0..depth-1), on, off)`` in the type of its values.

    Negative indices count from the end; indices out of range give ``off`` everywhere.  Refuses
    a depth or values computed at run time, unknown ranks and opsets before 9.
    """
    return sum(hot_where_equal(editor, node) for node in _standard(editor, "OneHot"))


def hot_where_equal(editor: Editor, node: NodeProto) -> bool:
    """One node of ``one_hot_by_comparison``."""
    if node.op_type != "OneHot" or node.domain or editor.opset < 9:
        return False
    depth, values = editor.constant(node.input[1]), editor.constant(node.input[2])
    kind = editor.types.get(node.input[0])
    if depth is None or values is None or kind is None or kind.shape is None:
        return False
    rank, count = len(kind.shape), int(depth.reshape(-1)[0])
    axis = attribute(node, "axis", -1) % (rank + 1)
    new = Rewrite(editor, node)
    floating = kind.dtype.startswith("float")  # a fraction is no index and hits nothing
    given = node.input[0] if floating else new.add("Cast", node.input[0], to=TensorProto.INT64)
    whole = np.dtype(kind.dtype if floating else "int64").type
    wrapped = new.add("Add", given, new.constant(whole(count)))
    negative = new.add("Less", given, new.constant(whole(0)))
    indices = new.add("Where", negative, wrapped, given)
    column = new.unsqueeze(indices, [axis])
    places = np.arange(count, dtype=whole).reshape([count, *[1] * (rank - axis)])
    hit = new.add("Equal", column, new.constant(places))
    off, on = values.reshape(-1)
    new.add("Where", hit, new.constant(on), new.constant(off), output=node.output[0])
    new.done()
    return True


def space_to_depth_by_transpose(editor: Editor) -> int:
    """``SpaceToDepth`` in mode CRD becomes ``Reshape``, ``Transpose``, ``Reshape``.

    Refuses ranks other than 4 and unknown shapes; mode DCR is converted right as it is.
    """
    changed = 0
    for node in _standard(editor, "SpaceToDepth"):
        shape = editor.shape(node.input[0])
        if attribute(node, "mode", "DCR") != "CRD" or shape is None or len(shape) != 4:
            continue
        b = attribute(node, "blocksize")
        n, c, h, w = shape
        new = Rewrite(editor, node)
        split = new.constant(np.array([n, c, h // b, b, w // b, b], np.int64))
        joined = new.constant(np.array([n, c * b * b, h // b, w // b], np.int64))
        turned = new.add("Transpose", new.add("Reshape", node.input[0], split), perm=[0, 1, 3, 5, 2, 4])
        new.add("Reshape", turned, joined, output=node.output[0])
        new.done()
        changed += 1
    return changed


def power_in_one_type(editor: Editor) -> int:
    """``Pow`` gets an exponent of the base's type; integer powers up to 32 bits are computed in float64.

    Every such power that fits its type is exact in float64.  Refuses 64-bit integer bases.
    """
    changed = 0
    for node in _standard(editor, "Pow"):
        base, exponent = editor.dtype(node.input[0]), editor.dtype(node.input[1])
        floating = base.startswith("float")
        if not exponent or (floating and base == exponent):
            continue
        if not floating and base not in ("int8", "int16", "int32", "uint8", "uint16", "uint32"):
            continue
        to = helper.np_dtype_to_tensor_dtype(np.dtype(base))
        new = Rewrite(editor, node)
        if floating:
            new.add("Pow", node.input[0], new.add("Cast", node.input[1], to=to), output=node.output[0])
        else:
            wide = [new.add("Cast", name, to=TensorProto.DOUBLE) for name in node.input]
            new.add("Cast", new.add("Pow", *wide), output=node.output[0], to=to)
        new.done()
        changed += 1
    return changed


def reduce_booleans_as_integers(editor: Editor) -> int:
    """``ReduceMax`` and ``ReduceMin`` of booleans are computed in int32 between casts.  Refuses nothing."""
    changed = 0
    for node in [*_standard(editor, "ReduceMax"), *_standard(editor, "ReduceMin")]:
        if editor.dtype(node.input[0]) != "bool":
            continue
        new = Rewrite(editor, node)
        wide = new.add("Cast", node.input[0], to=TensorProto.INT32)
        reduced = editor.fresh(f"{node.name}/reduced")
        new.copy([wide, *node.input[1:]], [reduced])
        new.add("Cast", reduced, output=node.output[0], to=TensorProto.BOOL)
        new.done()
        changed += 1
    return changed


_NO_REDUCTION = {"ReduceL1": "Abs", "ReduceL2": "Abs", "ReduceLogSum": "Log", "ReduceSumSquare": "Mul"}


def reduce_over_no_axes(editor: Editor) -> int:
    """A reduction over an empty set of axes (``noop_with_empty_axes=1``) keeps only its elementwise part.

    Refuses axes computed at run time.
    """
    changed = 0
    for node in list(editor.nodes):
        if (
            not node.op_type.startswith("Reduce")
            or node.domain
            or not attribute(node, "noop_with_empty_axes", 0)
        ):
            continue
        if len(node.input) > 1 and node.input[1]:
            axes = editor.constant(node.input[1])
            if axes is None or axes.size:
                continue
        operator = _NO_REDUCTION.get(node.op_type, "Identity")
        data = [node.input[0]] * (2 if operator == "Mul" else 1)
        editor.replace(node, [editor.node(operator, data, list(node.output), like=node)])
        changed += 1
    return changed


def identity_matrix(editor: Editor) -> int:
    """``EyeLike`` of a known shape becomes a constant.

    Refuses unknown shapes and matrices of more than a million elements.
    """
    return sum(_constant_eye(editor, node) for node in _standard(editor, "EyeLike"))


def _constant_eye(editor: Editor, node: NodeProto) -> bool:
    shape = editor.shape(node.input[0])
    if shape is None or len(shape) != 2 or math.prod(shape) > 1 << 20:
        return False
    dtype = helper.tensor_dtype_to_np_dtype(
        attribute(node, "dtype") or helper.np_dtype_to_tensor_dtype(np.dtype(editor.dtype(node.input[0])))
    )
    new = Rewrite(editor, node)
    new.add(
        "Identity",
        new.constant(np.eye(*shape, k=attribute(node, "k", 0), dtype=dtype)),
        output=node.output[0],
    )
    new.done()
    return True


def dropout_at_inference(editor: Editor) -> int:
    """``Dropout`` outside training becomes its input, and its mask all true.

    Refuses training by a ratio that is not 0, and a mode or ratio computed at run time.
    """
    return sum(_nothing_dropped(editor, node) for node in _standard(editor, "Dropout"))


def _nothing_dropped(editor: Editor, node: NodeProto) -> bool:
    shape = editor.shape(node.input[0])
    if editor.opset < 12 or shape is None:
        return False
    given = [editor.constant(name) if name else None for name in (*node.input[1:], "", "")[:2]]
    ratio, training = (None if value is None else value.reshape(-1)[0] for value in given)
    trains = len(node.input) > 2 and bool(node.input[2]) and (training is None or bool(training))
    ratio_known = len(node.input) < 2 or not node.input[1] or ratio is not None
    if trains and not (ratio_known and ratio is not None and ratio == 0):
        return False
    new = Rewrite(editor, node)
    new.add("Identity", node.input[0], output=node.output[0])
    if len(node.output) > 1 and editor.used(node.output[1]):
        new.add("Identity", new.constant(np.ones(shape, bool)), output=node.output[1])
    new.done()
    return True
