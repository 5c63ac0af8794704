"""Two transposes that undo each other.

Data is put into another order and, with nothing but elementwise operators between, back again.  Each is a
pass over memory, on a DSP or NPU often one that leaves the fast layout.  They come from models that were
converted from a channels-last framework, and from `permute` around activations.

Instead: in PyTorch leave out the pair of `permute` calls; in ONNX let the reader of the second `Transpose`
read what the first one read.  Elementwise operators do not care about the order, so results stay the same
bit by bit and the rewrite is safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from deploycc.linting.costs import nbytes
from deploycc.linting.evaluation import NodeFacts
from deploycc.linting.subject import Subject
from deploycc.linting.wording import bytes_text
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

CODE = "DC175"

_UNARY = frozenset(
    "Abs Cast Ceil Celu Clip Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish "
    "Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Swish Tanh".split()
)


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Every pair that is left in the simplified graph; for other compilers also those of the original."""
    left = set()
    for first, second in pairs(subject.view):
        left.add(second.output[0])
        yield _finding(subject.view, first, second, survives=True)
    if subject.compiled or subject.original is subject.view:
        return
    for first, second in pairs(subject.original):
        if second.output[0] not in left:
            yield _finding(subject.original, first, second, survives=False)


def pairs(view: GraphView) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Transposes whose permutations together are none, the later one second."""
    for node in view.model.graph.node:
        if node.op_type != "Transpose" or node.domain:
            continue
        name = node.input[0]
        while (maker := view.producers.get(name)) is not None and not maker.domain:
            alone = len(view.consumers.get(name, ())) == 1 and name not in view.outputs
            if maker.op_type == "Transpose":
                before, after = _order(maker, view), _order(node, view)
                if before and after and [before[axis] for axis in after] == sorted(before):
                    yield maker, node
                break
            if maker.op_type not in _UNARY or not alone:
                break
            name = maker.input[0]


def _order(node: NodeProto, view: GraphView) -> tuple[int, ...]:
    given = NodeFacts(node, view).attr("perm")
    kind = view.types.get(node.input[0])
    if given is not None:
        return tuple(given)
    return tuple(reversed(range(len(kind.shape)))) if kind is not None and kind.shape else ()


def _finding(view: GraphView, first: NodeProto, second: NodeProto, *, survives: bool) -> Diagnostic:
    moved = 2 * nbytes(first.output[0], view) + 2 * nbytes(second.output[0], view)
    return Diagnostic(
        CODE,
        "two transposes undo each other",
        node=second.name,
        op=second.op_type,
        got=f"'{first.name}' and '{second.name}', permutations {list(_order(first, view))} and "
        f"{list(_order(second, view))}, {bytes_text(moved)} moved",
        need="neither",
        help="let the readers of the second read the input of the first"
        + ("" if survives else "; simplifying removes the pair, a direct conversion of this file may not"),
        severity="warning" if survives else "info",
        verdict="slow" if survives else "info",
        source="the graph itself",
        fix="cancel-transposes" if second.input[0] == first.output[0] else "",
    )
