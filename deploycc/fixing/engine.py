"""Applies the rewrites that findings name, round by round, and undoes what this model does not take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from onnx import ModelProto, NodeProto
from onnx.shape_inference import InferenceError

from deploycc.fix_types import AppliedFix, OutputError, RefusedFix
from deploycc.fixing.catalogue import fix_named
from deploycc.fixing.difference import node_line
from deploycc.fixing.record import Fix
from deploycc.fixing.verifying import Mismatch, Verification
from deploycc.graph_rewrites.cleaning import drop_dead_nodes, drop_unused_initializers
from deploycc.onnx_editor import Editor
from deploycc.onnx_graph import GraphView
from deploycc.types import Diagnostic

ROUNDS = 10
"""A rewrite may make way for another one; three rounds are the most seen."""


@dataclass(frozen=True)
class Finding:
    """What lint found for a target, where it names a rewrite."""

    target: str
    diagnostic: Diagnostic


Judge = Callable[[ModelProto], tuple[ModelProto, Sequence[Finding]]]
"""Folds and cleans a model and lints the result, whose nodes the findings name."""


@dataclass(frozen=True)
class Repair:
    """The repaired model and how it came about."""

    model: ModelProto
    applied: tuple[AppliedFix, ...]
    refused: tuple[RefusedFix, ...]
    errors: tuple[OutputError, ...]
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True)
class _Task:
    """A rewrite to be made at a node."""

    fix: Fix
    finding: Finding

    @property
    def key(self) -> tuple[str, str]:
        return self.fix.name, "" if self.fix.graph else self.finding.diagnostic.node


@dataclass
class _State:
    """What has been done so far."""

    check: Verification
    unsafe: bool
    applied: list[AppliedFix] = field(default_factory=list)
    undone: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[Diagnostic] = field(default_factory=list)
    bound: float = 0.0
    errors: tuple[OutputError, ...] = ()


def repair(
    model: ModelProto,
    check: Verification,
    judge: Judge,
    as_read: Sequence[Finding] = (),
    *,
    unsafe: bool = False,
    select: Sequence[str] = (),
) -> Repair:
    """Make every rewrite that a finding names, until nothing is left to do.

    A round applies all of them at once and measures the result against ``check``; where it is wrong, they
    are applied one by one and what breaks the model is undone (DC790).  Unsafe ones need ``unsafe``;
    ``select`` limits the rewrites by name.  ``as_read`` is what was found in the graph before folding and
    cleaning, which repair some of it.  ``Repair.diagnostics`` has DC793 where ``ROUNDS`` do not do.

    The model that is returned is one that ``judge`` made and that holds nothing more to rewrite: a second
    repair finds nothing to do.
    """
    state = _State(check, unsafe)
    current, findings = judge(model)
    check.accept(current)
    state.applied += _cleaned_away(as_read, findings, select)
    verified = current
    for _ in range(ROUNDS):
        changed = _round(state, current, _tasks(state, findings, select))
        if changed is None:
            break
        verified = changed
        current, findings = judge(changed)
    else:
        if list(_tasks(state, findings, select)):
            state.notes.append(
                Diagnostic(
                    "DC793",
                    f"rewrites still find something to do after {ROUNDS} rounds",
                    got=", ".join(sorted({task.fix.name for task in _tasks(state, findings, select)})),
                    need="rewrites of which none brings another one back",
                    help="fix_model(select=...) takes the names of those that are wanted",
                    severity="warning",
                )
            )
    try:
        state.errors = check.check(current, state.bound)
    except Mismatch:  # cleaning again moved it beyond the bound: what was checked last is kept
        current = verified
        state.errors = check.check(current, state.bound)
    return Repair(
        current,
        tuple(state.applied),
        tuple(_refused(state, findings, select)),
        state.errors,
        tuple(state.notes),
    )


def _tasks(state: _State, findings: Sequence[Finding], select: Sequence[str]) -> Iterator[_Task]:
    """Each rewrite at each node once, the exact ones first."""
    seen = set(state.undone)
    named = [(fix_named(finding.diagnostic.fix), finding) for finding in findings]
    for fix, finding in sorted(named, key=lambda pair: pair[0] is not None and pair[0].safety == "unsafe"):
        if (
            fix is None
            or (select and fix.name not in select)
            or (fix.safety == "unsafe" and not state.unsafe)
        ):
            continue
        task = _Task(fix, finding)
        if task.key not in seen:
            seen.add(task.key)
            yield task


def _round(state: _State, model: ModelProto, tasks: Iterator[_Task]) -> ModelProto | None:
    """The model after one round, ``None`` where nothing applied."""
    wanted = list(tasks)
    try:
        return _attempt(state, model, wanted)
    except Mismatch as mismatch:
        if len(wanted) == 1:
            _undo(state, wanted[0], str(mismatch))
            return model
    for task in wanted:
        try:
            model = _attempt(state, model, [task]) or model
        except Mismatch as mismatch:
            _undo(state, task, str(mismatch))
    return model


def _attempt(state: _State, model: ModelProto, tasks: Sequence[_Task]) -> ModelProto | None:
    """The model with the tasks done that are not refused, ``None`` for none of them.

    Raises ``Mismatch``, with the state as it was, where that computes something else.
    """
    try:
        changed, applied = _apply(model, tasks)
    except InferenceError as error:
        raise Mismatch(f"shapes do not fit: {str(error).splitlines()[0]}") from None
    if not applied:
        return None
    fixes = [fix for made in applied if (fix := fix_named(made.fix)) is not None and fix.safety == "unsafe"]
    bound = max([state.bound, *(fix.bound for fix in fixes)])
    state.check.check(changed, bound)
    state.bound = bound
    state.applied += applied
    return changed


def _undo(state: _State, task: _Task, reason: str) -> None:
    state.undone[task.key] = reason
    found = task.finding.diagnostic
    state.notes.append(
        Diagnostic(
            "DC790",
            f"the rewrite {task.fix.name} was undone: the model computed something else with it",
            node=found.node,
            op=found.op,
            got=reason,
            need=f"at most {max(task.fix.bound, state.check.allowed):.3g}",
            help="this is worth a report, with the model if it may be shown",
            severity="warning",
            rule=found.rule,
            fix=task.fix.name,
        )
    )


def _apply(model: ModelProto, tasks: Sequence[_Task]) -> tuple[ModelProto, list[AppliedFix]]:
    """Every task that its rewrite does not refuse, in turn; the model with its shapes, and what was done."""
    editor = Editor(model)
    typed = ModelProto()
    typed.CopyFrom(editor.model)
    made: list[tuple[_Task, list[NodeProto], list[str]]] = []
    for task in tasks:
        node = _node(editor, task)
        if node is None or not task.fix.takes(node):
            continue
        before = {other.name: other.SerializeToString() for other in editor.nodes}
        if not task.fix.apply(editor, node):
            continue
        now = {other.name: other.SerializeToString() for other in editor.nodes}
        gone = []
        for name in (name for name in before if now.get(name) != before[name]):
            old = NodeProto()
            old.ParseFromString(before[name])
            gone.append(old)
        made.append((task, gone, [name for name in now if before.get(name) != now[name]]))
    drop_dead_nodes(editor)
    drop_unused_initializers(editor)
    editor.refresh()
    changed = editor.write_back()
    named = {node.name: node for node in changed.graph.node}
    before_view, after_view = GraphView(typed), GraphView(changed)
    done = []
    for task, gone, new in made:
        found = task.finding.diagnostic
        done.append(
            AppliedFix(
                task.fix.name,
                found.node,
                found.op,
                found.rule,
                task.finding.target,
                tuple(node_line(node, before_view) for node in gone),
                tuple(node_line(named[name], after_view) for name in new if name in named),
            )
        )
    return changed, done


def _node(editor: Editor, task: _Task) -> NodeProto | None:
    """The node that the finding names; any node for a rewrite of the whole graph."""
    if task.fix.graph:
        return editor.nodes[0] if editor.nodes else None
    wanted = task.finding.diagnostic.node
    return next((node for node in editor.nodes if node.name == wanted), None)


def _refused(state: _State, findings: Sequence[Finding], select: Sequence[str]) -> Iterator[RefusedFix]:
    """Why each rewrite that the last findings name was not made."""
    seen: set[tuple[str, str]] = set()
    for finding in findings:
        found = finding.diagnostic
        if not found.fix or (found.fix, found.node) in seen:
            continue
        seen.add((found.fix, found.node))
        fix = fix_named(found.fix)
        if fix is None:
            reason = "there is no rewrite of that name"
        elif select and fix.name not in select:
            reason = "not selected"
        elif (undone := state.undone.get(_Task(fix, finding).key)) is not None:
            reason = f"undone: {undone}"
        elif fix.safety == "unsafe" and not state.unsafe:
            reason = f"unsafe, --fix-unsafe makes it: {fix.effect}"
        else:
            reason = " ".join(fix.refuses.split())
        yield RefusedFix(found.fix, found.node, found.op, found.rule, finding.target, reason)


def _cleaned_away(
    before: Sequence[Finding], after: Sequence[Finding], select: Sequence[str]
) -> tuple[AppliedFix, ...]:
    """What folding and cleaning repaired: findings of the original graph that the cleaned one has not."""
    left = {(f.target, f.diagnostic.rule, f.diagnostic.node) for f in after}
    found: dict[tuple[str, str], AppliedFix] = {}
    for finding in before:
        d = finding.diagnostic
        if not d.fix or fix_named(d.fix) is None or (finding.target, d.rule, d.node) in left:
            continue
        if select and d.fix not in select:
            continue
        made = AppliedFix(d.fix, d.node, d.op, d.rule, finding.target, cleaned=True)
        found.setdefault((d.fix, d.node), made)
    return tuple(found.values())


def with_metadata(model: ModelProto, original: ModelProto) -> ModelProto:
    """The model with what the original's nodes recorded of their origin, found by name or by result.

    Folding drops it; a node that a rewrite made has that of the node it stands in for.
    """
    named = {node.name: node for node in original.graph.node}
    made = {name: node for node in original.graph.node for name in node.output if name}
    for node in model.graph.node:
        if node.metadata_props:
            continue
        source = named.get(node.name) or next((made[name] for name in node.output if name in made), None)
        if source is not None:
            node.metadata_props.extend(source.metadata_props)
    return model
