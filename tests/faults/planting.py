"""A compiler with one fault in it: ``faulty`` makes builds of this process use it, and says where it struck.

The stages run in a child process, so the patch travels there: the child enters through ``build_in_child`` of
this module, which plants the fault and then calls the compiler's own.  A fault is a kind and a *place*: the
operator by its numbers, or what a kernel without an operator computes.  The first build draws the place among
those that the network has; every later one has the fault wherever that place turns up, so a reduced model
that still contains it is compiled wrongly too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from deploycc.operators import Conv2d
from deploycc.result_types import from_json
from deploycc.types import DeployccError, Diagnostic

KINDS = (
    *("schedule", "epilogue", "padding", "swapped channels"),
    *("fp16 overflow", "bad constant", "layout transform", "race"),
)


@dataclass(frozen=True)
class Fault:
    """What is wrong in the compiler: drawn by ``seed`` until ``place`` and ``change`` are known."""

    kind: str
    seed: int
    place: str = ""
    change: str = ""


@dataclass(frozen=True)
class Planted:
    """What the compiler told of its fault: where it is and which steps of the package it makes wrong.

    ``nodes`` has the model's nodes of each such step, ``guilty`` those of them that the fault is about:
    the convolution of a kernel that is scheduled wrongly, the rectifier of one that leaves it out.
    """

    place: str
    change: str
    what: str
    steps: tuple[int, ...]
    nodes: tuple[tuple[str, ...], ...]
    guilty: tuple[tuple[str, ...], ...]


@contextlib.contextmanager
def faulty(fault: Fault, record: Path) -> Iterator[None]:
    """Every build inside has ``fault``; each appends what was planted to ``record``, a JSON object a line.

    Processes that these builds start have it too, others have not.  Building raises ``DeployccError`` (DC758
    in the child) where the kind has no place in the network and none was given.
    """
    build = importlib.import_module("deploycc.build")
    supervise = importlib.import_module("deploycc.supervise")
    own = supervise.run_child

    def run_child(entry: str, request: Mapping[str, Any], *others: Any, **named: Any) -> Any:
        if entry == "deploycc.build:build_in_child":
            entry = "tests.faults.planting:build_in_child"
            request = {**request, "fault": asdict(fault), "record": str(record)}
        return own(entry, request, *others, **named)

    build.run_child = run_child  # type: ignore[attr-defined]
    try:
        yield
    finally:
        build.run_child = own  # type: ignore[attr-defined]


def planted_in(record: Path) -> list[Planted]:
    """What ``faulty`` wrote."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return [from_json(Planted, json.loads(line)) for line in lines]


# ---- in the child process ----


def build_in_child(message: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """``deploycc.build.build_in_child`` by a compiler with a fault."""
    from deploycc.build import build_in_child as build

    planter = _Planter(Fault(**message["fault"]))
    planter.plant()
    answer = build(message, emit)
    with open(message["record"], "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(planter.planted())) + "\n")
    return answer


class _Planter:
    """Stands in for functions of the compiler in this process, which builds once and ends."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.place = fault.place
        self.change = fault.change
        self.what = ""
        self.block, self.behind = "", ()
        self.types: dict[str, str] = {}
        self.symbols: dict[str, str] = {}
        self.functions: set[str] = set()
        self.offsets: set[int] = set()
        self.calls: tuple[Any, ...] = ()
        self.packs = fault.kind == "swapped channels" or (
            fault.kind == "bad constant" and fault.seed % 2 == 0
        )
        self.lays_out = fault.kind == "bad constant" and not self.packs

    def plant(self) -> None:
        """Replace what the fault is in."""
        self.around("deploycc.planning.planner", "compile_kernels", self.compile_kernels)
        self.around("deploycc.planning", "plan", self.plan)
        self.around("deploycc.simplifying", "simplify", self.simplify)
        self.around("deploycc.scheduling", "schedule_with", self.schedule_with)
        if self.packs:
            self.around("deploycc.scheduling.legalize", "_emit_algorithm", self.emit_algorithm)
        elif self.lays_out:
            self.around("deploycc.planning.planner", "lay_out", self.lay_out)
        else:
            self.around("deploycc.scheduling", "schedule_kernels", self.schedule_kernels)
            self.around("deploycc.scheduling.apply", "_schedule_kernel", self.schedule_kernel)

    @staticmethod
    def around(module: str, name: str, function: Callable[..., Any]) -> None:
        place = importlib.import_module(module)
        own = getattr(place, name)
        setattr(place, name, lambda *given, **named: function(own, *given, **named))

    def planted(self) -> Planted:
        """Where it struck."""
        wrong = {self.symbols[name] for name in self.functions if name in self.symbols}
        steps = [number for number, call in enumerate(self.calls) if self.is_wrong(call, wrong)]
        nodes = tuple(self.calls[step].origin.nodes for step in steps)
        guilty = tuple(guilty_nodes(self.block, self.behind, one, self.types) for one in nodes)
        return Planted(self.place, self.change, self.what, tuple(steps), nodes, guilty)

    def is_wrong(self, call: Any, symbols: set[str]) -> bool:
        if self.packs:
            return bool(call.operator) and self.what != "" and _numbers(call.operator) == self.place
        if self.lays_out:
            return any(read.kind == "constant" and read.offset in self.offsets for read in call.reads)
        return call.symbol in symbols

    def random(self) -> Random:
        """The same numbers at every strike of one fault."""
        return Random(f"{self.fault.seed} {self.place}")

    # ---- what stands in ----

    def compile_kernels(self, own: Callable[..., Any], *given: Any, **named: Any) -> Any:
        made = own(*given, **named)
        self.symbols = dict(made.symbols)
        return made

    def simplify(self, own: Callable[..., Any], *given: Any, **named: Any) -> Any:
        made = own(*given, **named)
        self.types = {node.name: node.op_type for node in made.proto.graph.node}
        return made

    def plan(self, own: Callable[..., Any], *given: Any, **named: Any) -> Any:
        made = own(*given, **named)
        self.calls = made.calls
        return made

    def schedule_with(self, own: Callable[..., Any], program: Any, target: Any, *others: Any) -> Any:
        if self.packs and not self.place:
            selections = others[1]
            computed = [
                program.tasks[n].func for n, s in selections.items() if s.schedule.compute is not None
            ]
            wide = [
                operator
                for operator in computed
                if (operator.out_channels if isinstance(operator, Conv2d) else operator.columns) > 1
            ]
            self.draw(sorted({_numbers(repr(operator)) for operator in wide}))
        return own(program, target, *others)

    def draw(self, places: list[str]) -> None:
        if not places:
            raise DeployccError(Diagnostic("DC758", f"no place for a fault of kind '{self.fault.kind}'"))
        self.place = Random(self.fault.seed).choice(places)

    def emit_algorithm(
        self, own: Callable[..., Any], builder: Any, call: Any, algorithm: Any, operator: Any
    ) -> Any:
        if _numbers(repr(operator)) == self.place:
            change = _swapped if self.fault.kind == "swapped channels" else _one_weight

            right = algorithm.pack

            def pack(weights: Any) -> Any:
                wrong, self.what = change(np.array(weights), self.random())
                return right(wrong)

            algorithm = replace(algorithm, pack=pack)
        return own(builder, call, algorithm, operator)

    def lay_out(self, own: Callable[..., Any], arrays: Any) -> Any:
        digests = [_digest(array) for array in arrays]
        if not self.place:
            self.draw(sorted({digest for digest in digests if digest}))
        struck = [number for number, digest in enumerate(digests) if digest == self.place]
        changed = list(arrays)
        for number in struck:
            changed[number], self.what = _one_weight(np.array(arrays[number]), self.random())
        made = own(changed)
        self.offsets = {made.offsets[number] for number in struck}
        return made

    def schedule_kernels(
        self,
        own: Callable[..., Any],
        module: Any,
        schedules: Any,
        selections: Any,
        target: Any,
        operators: Any,
    ) -> Any:
        from deploycc.scheduling import apply
        from deploycc.tvm_api import tirx

        self.places = {
            variable.name_hint: self.place_of(function, selections)
            for variable, function in module.functions.items()
            if isinstance(function, tirx.PrimFunc)
        }
        if not self.place:
            order = sorted({place for place in self.places.values() if place})
            Random(self.fault.seed).shuffle(order)
            first = {place: name for name, place in reversed(list(self.places.items()))}
            for place in order:
                self.place = place
                function = module[first[place]]
                apply._schedule_kernel(first[place], function, schedules, selections, target)
                if self.what:
                    break
            else:
                self.draw([])
        made = own(module, schedules, selections, target, operators)
        self.functions = {name for name, place in self.places.items() if place == self.place and self.what}
        return made

    def schedule_kernel(
        self,
        own: Callable[..., Any],
        name: str,
        function: Any,
        schedules: Any,
        selections: Any,
        target: Any,
    ) -> Any:
        from tests.faults.kernels import AFTER, BEFORE

        if self.places[name] != self.place:
            return own(name, function, schedules, selections, target)
        if self.fault.kind in BEFORE:
            change = self.chosen(BEFORE[self.fault.kind](function))
            if change is None:
                return own(name, function, schedules, selections, target)
            scheduled, choice = own(name, change.make(), schedules, selections, target)
        else:
            scheduled, choice = own(name, function, schedules, selections, target)
            change = self.chosen(AFTER[self.fault.kind](scheduled))
            if change is None:
                return scheduled, choice
            scheduled = change.make()
        self.change, self.what = change.name, f"{choice.schedule}: {change.name}"
        self.block, self.behind = change.block, change.behind
        return scheduled, choice

    def chosen(self, changes: list[Any]) -> Any:
        """The change by its name; drawn where there is none yet, or where other loops have other names."""
        named = [change for change in changes if change.name == self.change]
        if named:
            return named[0]
        if not changes or (self.change and self.fault.kind not in ("schedule", "race")):
            return None
        return self.random().choice(changes)

    def place_of(self, function: Any, selections: Any) -> str:
        """What a kernel computes, whatever is fused around it and whatever layouts it has."""
        from deploycc.scheduling.apply import _fresh
        from deploycc.scheduling.kernel import view
        from deploycc.types import JOINED

        if JOINED in (function.attrs or ()):
            return ""
        kernel = view("kernel", _fresh(function))
        if kernel.opaque or not kernel.blocks:
            return ""
        if self.fault.kind == "layout transform":
            blocks = [block for block in kernel.blocks if "transpose" in block.name]
            return _block_place(blocks[0]) if blocks else ""
        if kernel.anchor is not None:
            operator = selections[kernel.anchor].match.operator
            if self.fault.kind == "padding" and not any(getattr(operator, "pads", ())):
                return ""
            return _numbers(repr(operator))
        if self.fault.kind in ("epilogue", "padding"):
            return ""
        blocks = list(kernel.reductions) or list(kernel.blocks)
        return _block_place(blocks[-1])


OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BLOCKS = {
    "add": ("Add", "Sub", "Sum", "BatchNormalization", "HardSwish", "HardSigmoid"),
    "subtract": ("Sub", "Add"),
    "multiply": ("Mul", "HardSwish", "BatchNormalization"),
    "divide": ("Div", "HardSwish", "HardSigmoid"),
    "relu": ("Relu",),
    "maximum": ("Max", "Clip", "HardSigmoid", "HardSwish", "Relu"),
    "minimum": ("Min", "Clip", "HardSigmoid", "HardSwish"),
    "clip": ("Clip", "HardSigmoid", "HardSwish"),
    "compute": ("Relu", "PRelu", "LeakyRelu", "Sigmoid", "Tanh", "Clip"),
    "sigmoid": ("Sigmoid",),
    "transpose": ("Transpose",),
    "exp": ("Exp", "Softmax"),
}
"""Operators of ONNX that the blocks of the fused kernels come from, by a word in the block's name."""


def guilty_nodes(
    block: str, behind: tuple[str, ...], nodes: tuple[str, ...], types: Mapping[str, str]
) -> tuple[str, ...]:
    """Which of a step's ``nodes`` a wrong ``block`` belongs to; without one the operator of the kernel.

    Among several of one type it is the one with as many after it as there are such blocks ``behind``.
    """
    word = _word(block)
    found = [node for node in nodes if types.get(node) in BLOCKS.get(word, ())]
    later = sum(_word(other) == word for other in behind)
    if found:
        return (found[-1 - later],) if later < len(found) else _operator(nodes, types)
    return _operator(nodes, types)


def _operator(nodes: tuple[str, ...], types: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(node for node in nodes if types.get(node) in OPERATORS) or nodes


def _word(block: str) -> str:
    return next((word for word in BLOCKS if word in block.lower()), "")


def _block_place(block: Any) -> str:
    extents = sorted(extent for extent in (*block.spatial, *block.reduction) if extent > 1)
    name = re.sub(r"_(intermediate|alone)\w*|\d+", "", block.name)
    return f"{name} over {'x'.join(map(str, extents))}"


def _digest(array: Any) -> str:
    """What a vector of the model's is known by; empty for weights, which schedules pack, and numbers."""
    vector = array.size == max(array.shape, default=0) and 2 <= array.size <= 4096
    if array.dtype != np.float32 or not vector or not np.any(array):
        return ""
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def _numbers(operator: str) -> str:
    """An operator's numbers without the layouts that it was given."""
    return re.sub(r", (data|out)_layout='\w+'", "", operator)


def _swapped(weights: Any, random: Random) -> tuple[Any, str]:
    """Two neighbouring output channels exchanged; they are the last axis."""
    channel = random.randrange(weights.shape[-1] - 1)
    weights[..., [channel, channel + 1]] = weights[..., [channel + 1, channel]]
    return weights, f"output channels {channel} and {channel + 1} are exchanged"


def _one_weight(weights: Any, random: Random) -> tuple[Any, str]:
    """A large weight with the other sign."""
    flat = weights.reshape(-1)
    largest = np.argsort(np.abs(flat))[-max(1, flat.size // 20) :]
    chosen = int(random.choice(list(largest)))
    flat[chosen] = -flat[chosen]
    return flat.reshape(weights.shape), f"weight {chosen} has the other sign"
