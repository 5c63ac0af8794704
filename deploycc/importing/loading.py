"""The import stage: one ONNX file in, one checked ``Model`` with static inputs out."""

from __future__ import annotations

from onnx import ModelProto
from onnx.shape_inference import InferenceError

from deploycc.importing import contrib, flattening
from deploycc.importing.binding import bind_shapes, check_through, inference_faults
from deploycc.importing.functions import inline_functions, inline_local_functions
from deploycc.importing.limits import check_size, check_tensors
from deploycc.importing.operators import check_operators, sort_top_k
from deploycc.importing.opsets import normalise_opset
from deploycc.importing.quantised_operators import write_quantised
from deploycc.importing.reading import read_model
from deploycc.importing.seeding import seed_random_nodes
from deploycc.importing.stored import check_stored
from deploycc.importing.structure import check_form, check_structure, keep_used_opsets, name_nodes, tidy
from deploycc.onnx_graph import infer_shapes, opset_of, tensor_info
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Limits, Model


def load(request: BuildRequest, *, compiled: bool = True, leave_open: bool = False) -> Model:
    """Read ``request.model``, bind ``request.shapes`` and return the checked model.

    The result has no weights among its inputs, every graph input static, operators of ONNX Runtime's
    own domain written in standard ones, control flow, sequences and optionals resolved, function operators
    the compiler has no kernel for replaced by their bodies, every node named and the opset
    brought to at least 18.  Intermediate and output extents that only constant folding can
    tell are -1 in ``Model.outputs`` until ``simplify`` has run.

    ``compiled`` is false where another compiler takes the model: opset, control flow and standard operators
    then stay as they are.  With ``leave_open`` dimensions that nothing binds stay open, and
    ``Model.diagnostics`` has DC200 for them.

    Raises ``DeployccError`` with every finding of the first kind of fault met, in this order:
    the file (DC100-DC109), external data (DC120-DC129), size (DC161-DC168), form and element types
    (DC110-DC119, DC130-DC139, DC300-DC349), what is stored (DC164, DC166, DC169), operators (DC140-DC149),
    shapes (DC200-DC249), what cannot be made straight (DC405, DC461-DC464), the size of what is computed
    (DC164).
    """
    proto, sha256 = read_model(request.model)
    check_size(proto, request.limits)
    notes: list[Diagnostic] = []
    notes += tidy(proto)
    check_structure(proto)
    check_stored(proto)
    if write_quantised(proto):
        keep_used_opsets(proto)
    contrib.own_domain(proto)
    check_operators(proto)
    check_form(proto)
    proto = inline_local_functions(proto)
    keep_used_opsets(proto)
    name_nodes(proto.graph)
    open_dimensions = bind_shapes(proto, request.shapes, leave_open=leave_open)
    notes += open_dimensions
    if compiled:
        notes += seed_random_nodes(proto)
    # What is open cannot be run, and is never built: what is made of it is taken on trust.
    run = not open_dimensions
    try:
        as_read = contrib.standard_domain(proto)
        proto = _straight(proto, as_read, notes, compiled=compiled, run=run)
        original = infer_shapes(as_read if compiled else proto)
        if compiled:
            proto = _for_compiling(proto, notes, request.limits, run=run)
        proto = infer_shapes(proto)
    except InferenceError as error:
        raise DeployccError(*inference_faults(str(error), proto)) from None
    check_tensors(proto, request.limits)
    return Model(
        proto=proto,
        inputs=tuple(tensor_info(info) for info in proto.graph.input),
        outputs=tuple(tensor_info(info) for info in proto.graph.output),
        opset=opset_of(proto),
        sha256=sha256,
        diagnostics=tuple(notes),
        original=original,
        max_counts=request.max_counts,
    )


def _straight(
    proto: ModelProto, as_read: ModelProto, notes: list[Diagnostic], *, compiled: bool, run: bool
) -> ModelProto:
    """The model without ONNX Runtime's own operators and, to be compiled, without subgraphs and sequences."""
    handlers = {**contrib.HANDLERS, **(flattening.HANDLERS if compiled else {})}
    # Shape inference ended at these.
    opaque = run and any(node.domain == contrib.DOMAIN for node in proto.graph.node)
    try:
        flat = flattening.straightened(
            proto, handlers, notes, compared=run, judged_by=as_read, checked=check_through if opaque else None
        )
    except DeployccError:
        if run:
            raise
        return proto  # what an open dimension decides, lint tells
    if flat is not proto:
        keep_used_opsets(flat)
        name_nodes(flat.graph)
    return flat


def _for_compiling(proto: ModelProto, notes: list[Diagnostic], limits: Limits, *, run: bool) -> ModelProto:
    """The model at a common opset, with function operators replaced by their bodies."""
    # What is open cannot be run, and is never built: its lift is taken on trust.
    check_tensors(infer_shapes(proto), limits)
    proto = normalise_opset(proto, notes, compared=run)
    proto = inline_functions(proto, limits)
    name_nodes(proto.graph)
    notes += seed_random_nodes(proto)  # those in bodies of functions
    # Bodies of functions branch and loop over shapes.
    if run:
        handlers = {**contrib.HANDLERS, **flattening.HANDLERS}
        proto = flattening.straightened(proto, handlers, notes, compared=run)
    name_nodes(proto.graph)
    sort_top_k(proto)
    return proto
