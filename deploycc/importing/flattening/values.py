"""What a name stands for while a graph is flattened, and how a form is refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import NodeProto

from deploycc.types import DeployccError, Diagnostic


@dataclass(frozen=True)
class Tensors:
    """A sequence whose length is known: the flat graph's names of its tensors.

    ``elem_type`` is the tensors' ``TensorProto.DataType``, 0 where nothing says it.
    """

    items: tuple[str, ...]
    elem_type: int = 0


@dataclass(frozen=True)
class Absent:
    """An optional that is known to hold nothing; one that holds something is that something."""


@dataclass(frozen=True)
class Unknown:
    """The result of a node that was refused: what reads it is left out without a word of its own."""


Value = str | Tensors | Absent | Unknown
"""A tensor is its name in the flat graph; the empty name is an input left out."""


@dataclass
class Scope:
    """The names of one body.  Those of the graphs around it are seen through ``outer``."""

    prefix: str
    names: dict[str, Value] = field(default_factory=dict)
    outer: Scope | None = None

    def look_up(self, name: str) -> Value:
        """What the name stands for here; a name that nothing defines stands for itself."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return name


class Refused(Exception):
    """A node cannot be part of a straight graph; the diagnostic says why."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def at_run_time(node: NodeProto, message: str, got: str, need: str, way_out: str) -> Refused:
    """DC461: how the graph goes on depends on values that only a run has."""
    return Refused(
        Diagnostic(
            "DC461",
            message,
            node=node.name,
            op=node.op_type,
            got=got,
            need=need,
            help=way_out,
            verdict="unsupported",
        )
    )


def not_static(node: NodeProto, message: str, got: str, need: str, way_out: str = "") -> Refused:
    """DC464: a sequence or an optional whose make-up only a run tells."""
    return Refused(
        Diagnostic(
            "DC464",
            message,
            node=node.name,
            op=node.op_type,
            got=got,
            need=need,
            help=way_out
            or "use tensors with one more axis in place of the sequence, or cut the graph before it",
            verdict="unsupported",
        )
    )


def random_by_chance(owner: NodeProto, node: NodeProto) -> Refused:
    """DC461: random numbers in a body that is computed whether it is taken or not."""
    return at_run_time(
        owner,
        f"{owner.op_type} decides at run time whether random numbers are drawn",
        f"{node.op_type} '{node.name}' in its body",
        "bodies that may run without an effect",
        "draw the random numbers before it",
    )


def division_by_chance(owner: NodeProto, node: NodeProto) -> Refused:
    """DC461: a division that ends the program where the divisor is zero, in such a body."""
    return at_run_time(
        owner,
        f"{owner.op_type} decides at run time whether integers are divided",
        f"{node.op_type} '{node.name}' by integers computed at run time, zero perhaps where it would not run",
        "divisors that are constant, or floating-point numbers",
        "divide outside of the branch, by a number that is never zero",
    )


def nested_too_deep(owner: NodeProto, limit: int, bodies: list[str]) -> Refused:
    """DC462: bodies inside bodies, more than any exporter makes."""
    return Refused(
        Diagnostic(
            "DC462",
            "bodies of loops and branches are nested too deep",
            node=owner.name,
            op=owner.op_type,
            got=f"more than {limit} inside one another: {' > '.join(bodies[:4])} > ...",
            need=f"at most {limit}",
            help="no exporter nests like this: the file was made by hand or is damaged",
            verdict="unsupported",
        )
    )


def too_large(most: str, number: int, limit: int, what: str) -> DeployccError:
    """DC462: ``most`` is the outermost node that makes the greatest part, ``Op 'name'``."""
    op, _, name = most.partition(" ")
    return DeployccError(
        Diagnostic(
            "DC462",
            "unrolling the model's loops makes too many nodes",
            node=name.strip("'"),
            op=op,
            got=f"more than {limit} {what}" + (f", {number} of them from {most}" if what == "nodes" else ""),
            need=f"at most {limit} {what}",
            help="make the loop shorter, let the app run it around a network of its body, or write it with "
            "operators over whole tensors (CumSum, Range, a matrix product)",
            verdict="unsupported",
        )
    )


def does_not_fit(node: NodeProto, reason: str) -> Diagnostic:
    """DC206: a node that does not take the shapes it gets."""
    return Diagnostic(
        "DC206",
        "the shapes do not fit through the network",
        node=node.name,
        op=node.op_type,
        got=reason.partition("]")[2].strip()[:400] or reason[:400],
        need="shapes that every operator accepts",
        help="check the --shape given against the size the network was trained for",
    )


def malformed(node: NodeProto, reason: str) -> Refused:
    """DC110: a node whose inputs, outputs, attributes and body do not fit together."""
    return Refused(
        Diagnostic(
            "DC110",
            f"{node.op_type} is not as its definition says",
            node=node.name,
            op=node.op_type,
            got=reason[:300],
            need="inputs, outputs, attributes and bodies that fit together",
            help="export it again with a current exporter, or mend the graph that made it",
        )
    )
