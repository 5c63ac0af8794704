"""Pieces of the model in which the fault may show again, with inputs from the package's run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, helper

from deploycc.bisecting.attributing import ELEMENTWISE, MOVING, VIEWS
from deploycc.bisecting.judging import run_plain
from deploycc.bisecting.locating import Located, Search
from deploycc.bisecting.steps import Write
from deploycc.onnx_graph import Array, subgraphs
from deploycc.reference import ReferenceFailed

REACHES = (1, 3, 8)
"""So many steps around the suspect are taken with it, one try after the other."""


@dataclass(frozen=True)
class Candidate:
    """A folder with ``model.onnx``, ``inputs.npz`` and ``expected.npz`` (the reference's outputs).

    ``nodes`` are those of the model in it.  ``role``: ``step`` for all that the suspect computes, ``node``
    for one of its nodes alone, ``prefix`` for those up to one of them, ``grown`` for more.  ``layouts``:
    transposes at its ends give tensors the layout that they have in the package.
    """

    folder: str
    role: str
    nodes: tuple[str, ...]
    layouts: bool = False


@dataclass(frozen=True)
class Gathered:
    """Several candidates side by side in one model, so that one build tries them all.

    ``outputs`` has for each of its outputs the folder of the candidate that it belongs to.
    """

    folder: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class _Written:
    model: ModelProto
    feeds: Mapping[str, Array]
    expected: Mapping[str, Array]


class Writer:
    """Writes candidates into numbered folders, and leaves out those that the reference cannot run."""

    def __init__(self, search: Search, located: Located, folder: Path) -> None:
        self.search, self.graph, self.located, self.folder = search, search.graph, located, folder
        self.made: list[Candidate] = []
        self._seen: set[tuple[tuple[int, ...], bool]] = set()
        self._written: dict[str, _Written] = {}

    def all(self) -> list[Candidate]:
        """Every candidate, in the order in which they are worth a try."""
        found = self.located.judged
        region = list(found.nodes) if self.located.suspect.kind != "overwritten" else []
        if region:
            for layouts in (False, True):
                self.step(region, "step", layouts=layouts)
        for reach in REACHES:
            for layouts in (False, True) if reach == 1 else (False,):
                self.grown(reach, layouts=layouts)
        self.up_to()
        self.whole()
        if region:
            self.parts(region)
        return self.made

    def step(self, region: Sequence[int], role: str, *, layouts: bool) -> None:
        """The suspect's nodes alone."""
        values = self.search.judge.inputs_of(
            self.located.judged.write, self.located.judged.inputs, self.located.values
        )
        self.write(region, values, [self.located.judged.write.tensor], role, layouts=layouts)

    def parts(self, region: Sequence[int]) -> None:
        """The suspect's nodes one by one, and as prefixes."""
        working = [i for i in region if self.graph.nodes[i].op_type not in VIEWS]
        if len(working) < 2:
            return
        found = self.located.judged
        values = self.search.judge.inputs_of(found.write, found.inputs, self.located.values)
        middles = sorted({name for i in region for name in self.graph.reads(i)} - set(values))
        try:
            inner = dict(zip(middles, self.search.judge.computed(region, values, middles), strict=True))
        except ReferenceFailed:
            return
        heavy = [i for i in working if self.graph.nodes[i].op_type not in ELEMENTWISE | MOVING]
        for layouts in (False, True):
            # Behind an operator an elementwise node is compiled into its kernel: alone it would be another.
            for index in heavy or working:
                read = {n: {**values, **inner}[n] for n in sorted(self.graph.reads(index))}
                self.write([index], read, [self.graph.nodes[index].output[0]], "node", layouts=layouts)
            for index in working[:-1]:
                output = self.graph.nodes[index].output[0]
                nodes, read_names = self.graph.between([output], set(values))
                read = {name: values[name] for name in read_names if name in values}
                self.write(nodes, read, [output], "prefix", layouts=layouts)

    def gathered(self) -> Gathered | None:
        """The step's nodes, one by one and as prefixes, in one model; ``None`` for a step of one node.

        In the package's layouts, if it has any other than the model's.
        """
        parts = [one for one in self.made if one.role in ("step", "node", "prefix")]
        layouts = any(one.layouts for one in parts)
        chosen = [one for one in parts if one.role == "step" or one.layouts == layouts or len(one.nodes) == 1]
        inner = any(
            list(subgraphs(node)) for one in chosen for node in self._written[one.folder].model.graph.node
        )
        if len({one.nodes for one in chosen}) < 2 or inner:
            return None
        model = ModelProto()
        feeds: dict[str, Array] = {}
        expected: dict[str, Array] = {}
        outputs: dict[str, str] = {}
        for number, one in enumerate(chosen):
            part = self._written[one.folder]
            names = _append(model, part.model, f"__{number}")
            feeds |= {names[name]: value for name, value in part.feeds.items()}
            expected |= {names[name]: value for name, value in part.expected.items()}
            outputs |= dict.fromkeys((names[name] for name in part.expected), one.folder)
        folder = self.folder / "gathered"
        _save(folder, model, feeds, expected)
        return Gathered(str(folder), outputs)

    def grown(self, reach: int, *, layouts: bool) -> None:
        """The suspect with the steps around it."""
        steps = self.search.watched.steps
        members = {self.located.judged.write.step, max(self.located.suspect.step, 0)}
        ends = set(members)
        for _ in range(reach):
            ends = {write.step for step in ends for write in steps.sources(step).writes} - members
            members |= ends
        last = {self.located.judged.write.step}
        for _ in range(reach):
            reached = {w for step in last for w in steps.writes[step] if w.tensor}
            last = {w.step for w in self.search.writes if reached & set(steps.sources(w.step).writes)}
            members |= last
        writes = [w for step in sorted(members) for w in steps.writes[step] if w.tensor]
        self._around(writes, "grown", layouts=layouts)

    def _around(self, writes: Sequence[Write], role: str, *, layouts: bool) -> None:
        nodes: set[int] = set()
        read: dict[str, Write] = {}
        for write in writes:
            nodes |= set(self.search.judge.region(write)[0])
        made = {name for i in nodes for name in self.graph.nodes[i].output if name}
        needed = sorted({name for i in nodes for name in self.graph.reads(i)} - made)
        for write in writes:
            inner = [name for name in needed if name not in read]
            known = self.search.judge.written_before(write)
            read.update({name: known[name] for name in inner if name in known})
        given = dict(zip(self.search.watched.names, self.search.watched.inputs, strict=True))
        values = {}
        for name in needed:
            if name in read:
                values[name] = self.search.judge.shaped(
                    name, self.search.judge.value_of(read[name], self.located.values)
                )
            elif name in given:
                values[name] = given[name]
            else:
                return
        ends = [w.tensor for w in writes if w.tensor in made]
        outer = [
            name
            for name in dict.fromkeys(ends)
            if name in self.graph.outputs or not set(self.graph.consumers.get(name, ())) & nodes
        ]
        self.write(sorted(nodes), values, outer or ends[-1:], role, layouts=layouts)

    def up_to(self) -> None:
        """The network up to the suspect and the steps that read it."""
        steps = self.search.watched.steps
        own = set(steps.writes[self.located.judged.write.step])
        readers = [w.tensor for w in self.search.writes if own & set(steps.sources(w.step).writes)]
        self._from_inputs(readers[:4] or [self.located.judged.write.tensor])

    def whole(self) -> None:
        """The network."""
        self._from_inputs(self.graph.outputs)

    def _from_inputs(self, outputs: Sequence[str]) -> None:
        given = dict(zip(self.search.watched.names, self.search.watched.inputs, strict=True))
        outputs = [name for name in dict.fromkeys(outputs) if name in self.graph.producer]
        nodes, read = self.graph.between(outputs, ())
        self.write(nodes, {name: given[name] for name in read}, outputs, "grown", layouts=False)

    def write(
        self,
        nodes: Sequence[int],
        values: Mapping[str, Array],
        outputs: Sequence[str],
        role: str,
        *,
        layouts: bool,
    ) -> None:
        """One candidate, unless it is there already."""
        key = (tuple(nodes), layouts)
        if not nodes or not values or key in self._seen:
            return
        self._seen.add(key)
        model = self.graph.piece(nodes, list(values), list(outputs), "reduced")
        feeds = {name: np.ascontiguousarray(value) for name, value in values.items()}
        if layouts:
            images = {w.tensor for w in self.search.writes if w.channels_last}
            if role != "grown" and self.located.judged.write.channels_last:
                # What lies between the step's nodes would have its result's layout.
                images |= {name for i in nodes for name in self.graph.reads(i)} | set(outputs)
                images -= {w.tensor for w in self.search.writes if not w.channels_last}
            feeds = _with_layouts(model, feeds, images)
            if not feeds:
                return
        try:
            expected = run_plain(model, list(feeds.values()))
        except ReferenceFailed:
            return
        results = dict(zip((info.name for info in model.graph.output), expected, strict=True))
        folder = self.folder / f"{len(self.made):02d}"
        _save(folder, model, feeds, results)
        if role in ("step", "node", "prefix"):
            self._written[str(folder)] = _Written(model, feeds, results)
        self.made.append(Candidate(str(folder), role, self.graph.names_of(nodes), layouts))


def _save(folder: Path, model: ModelProto, feeds: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    save_arrays(folder / "inputs.npz", feeds)
    save_arrays(folder / "expected.npz", expected)


def _append(whole: ModelProto, part: ModelProto, ending: str) -> dict[str, str]:
    """Put ``part`` beside what ``whole`` has; the names of its tensors there.  Weights are shared."""
    if not whole.graph.name:
        whole.CopyFrom(part)
        del whole.graph.node[:], whole.graph.input[:], whole.graph.output[:]
        del whole.graph.value_info[:], whole.graph.initializer[:]
    shared = {tensor.name for tensor in part.graph.initializer}
    known = {tensor.name for tensor in whole.graph.initializer}
    whole.graph.initializer.extend(t for t in part.graph.initializer if t.name not in known)
    names = {info.name: info.name + ending for info in part.graph.input if info.name not in shared}
    for node in part.graph.node:
        names |= {name: name + ending for name in node.output if name}
        copied = whole.graph.node.add()
        copied.CopyFrom(node)
        copied.name = node.name + ending
        copied.input[:] = [names.get(name, name) for name in node.input]
        copied.output[:] = [names.get(name, name) for name in node.output]
    for ours, theirs in ((whole.graph.input, part.graph.input), (whole.graph.output, part.graph.output)):
        for info in theirs:
            added = ours.add()
            added.CopyFrom(info)
            added.name = names[info.name]
    return names


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """An ``.npz`` file.  ``numpy.savez`` takes names as keywords, of which some are its own."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _with_layouts(model: ModelProto, feeds: Mapping[str, Array], images: Iterable[str]) -> dict[str, Array]:
    """Hand the model's inputs and outputs among ``images`` over with their channels last, in place.

    The values of its inputs; none if there are no such tensors.
    """
    chosen = set(images)
    values: dict[str, Array] = {}
    before, after = [], []
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for info in (*model.graph.input, *model.graph.output):
        dims = info.type.tensor_type.shape.dim
        extents = [dim.dim_value for dim in dims]
        inner = info.name
        if inner not in chosen or len(extents) != 4:
            if inner in feeds:
                values[inner] = feeds[inner]
            continue
        outer = f"{inner}_channels_last"
        while outer in taken:
            outer += "_"
        for dim, extent in zip(dims, (extents[0], *extents[2:], extents[1]), strict=True):
            dim.dim_value = extent
        info.name = outer
        if inner in feeds:
            before.append(helper.make_node("Transpose", [outer], [inner], name=outer, perm=[0, 3, 1, 2]))
            values[outer] = np.ascontiguousarray(np.moveaxis(feeds[inner], 1, -1))
        else:
            after.append(helper.make_node("Transpose", [inner], [outer], name=outer, perm=[0, 2, 3, 1]))
    if not before and not after:
        return {}
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return values
