"""What a graph carries without computing anything."""

from __future__ import annotations

import hashlib

import numpy as np
from onnx import NodeProto, numpy_helper

from deploycc.graph_rewrites.identities import gives_its_input
from deploycc.onnx_editor import Editor, Rewrite
from deploycc.onnx_graph import constant_tensor, used_names


def constants_to_initializers(editor: Editor) -> int:
    """``Constant`` nodes become initializers of the same name.

    Refuses sparse and string ones, and those that are themselves graph outputs.
    """
    moved = []
    for node in editor.nodes:
        value = constant_tensor(node)
        if value is None or node.output[0] in editor.outputs:
            continue
        name = node.output[0]
        editor.initializers[name] = numpy_helper.from_array(value, name)
        moved.append(node)
    editor.remove(moved)
    return len(moved)


def drop_identities(editor: Editor) -> int:
    """``Identity``, inference-time ``Dropout`` and what changes nothing go; their readers read the input.

    Refuses one between a graph input (or a constant, or another graph output) and a graph
    output: the output needs a producer of its own.  Refuses a ``Dropout`` whose mask is read
    or which is in training mode, and values that subgraphs capture.
    """
    dropped = []
    for node in editor.nodes:
        if not gives_its_input(editor, node):
            continue
        source, target = node.input[0], node.output[0]
        if target not in editor.outputs:
            if any(
                target in used_names(reader) - set(reader.input)
                for reader in editor.consumers.get(target, [])
            ):
                continue
            for reader in editor.consumers.get(target, []):
                for i, name in enumerate(reader.input):
                    if name == target:
                        reader.input[i] = source
            editor.consumers.setdefault(source, []).extend(editor.consumers.pop(target, []))
            dropped.append(node)
        elif _rename_producer(editor, source, target, node):
            dropped.append(node)
    editor.remove(dropped)
    return len(dropped)


def _rename_producer(editor: Editor, source: str, target: str, identity: NodeProto) -> bool:
    producer = editor.producers.get(source)
    if producer is None or source in editor.outputs:
        return False
    readers = editor.consumers.get(source, [])
    if any(source in used_names(reader) - set(reader.input) for reader in readers):
        return False
    for i, name in enumerate(producer.output):
        if name == source:
            producer.output[i] = target
    for reader in readers:
        if reader is identity:
            continue
        for i, name in enumerate(reader.input):
            if name == source:
                reader.input[i] = target
    editor.producers[target] = producer
    editor.consumers[target] = [reader for reader in readers if reader is not identity]
    return True


def drop_dead_nodes(editor: Editor) -> int:
    """Nodes none of whose outputs is read go, and with them what only they read."""
    wanted = set(editor.outputs)
    kept = []
    for node in reversed(editor.nodes):
        if any(name in wanted for name in node.output):
            wanted |= used_names(node)
            kept.append(node)
    dropped = len(editor.nodes) - len(kept)
    if dropped:
        alive = {id(node) for node in kept}
        editor.remove([node for node in editor.nodes if id(node) not in alive])
    return dropped


def drop_unused_initializers(editor: Editor) -> int:
    """Initializers nothing reads go."""
    unused = [name for name in editor.initializers if not editor.used(name)]
    for name in unused:
        del editor.initializers[name]
    return len(unused)


def merge_equal_initializers(editor: Editor) -> int:
    """Initializers with the same type and bytes become one.

    Refuses graph outputs and those that subgraphs capture.
    """
    first: dict[tuple[object, ...], str] = {}
    merged = []
    for name, tensor in editor.initializers.items():
        readers = editor.consumers.get(name, [])
        if name in editor.outputs or any(name in used_names(node) - set(node.input) for node in readers):
            continue
        value = editor.constant(name)
        if value is None:
            continue
        key = (
            tensor.data_type,
            tuple(tensor.dims),
            hashlib.sha256(value.tobytes()).digest(),
        )
        if key in first:
            for node in readers:
                for i, used in enumerate(node.input):
                    if used == name:
                        node.input[i] = first[key]
            merged.append(name)
        else:
            first[key] = name
    for name in merged:
        del editor.initializers[name]
    return len(merged)


def drop_unused_outputs(editor: Editor) -> int:
    """Trailing outputs that nothing reads are no longer asked for (``MaxPool``'s indices, old statistics).

    Refuses variadic operators, where the number of outputs means something, and ``TopK``: with one output
    onnx infers no shapes of it.
    """
    changed = 0
    for node in editor.nodes:
        if node.op_type in ("Split", "If", "Loop", "Scan", "SequenceMap", "TopK", "Unique") or node.domain:
            continue
        while len(node.output) > 1 and not editor.used(node.output[-1]):
            del node.output[-1]
            changed += 1
    return changed


def give_outputs_producers(editor: Editor) -> int:
    """A graph output that is itself an initializer gets an ``Identity`` in between.  Refuses nothing."""
    changed = 0
    for name in sorted(editor.outputs):
        if name not in editor.initializers or name in editor.producers:
            continue
        stored = editor.fresh(f"{name}/value")
        tensor = editor.initializers.pop(name)
        tensor.name = stored
        editor.initializers[stored] = tensor
        editor.redirect(name, stored)
        identity = NodeProto(
            op_type="Identity", input=[stored], output=[name], name=editor.fresh(f"{name}/Identity")
        )
        editor.nodes.insert(0, identity)
        changed += 1
    return changed


def drop_empty_parts(editor: Editor) -> int:
    """``Split`` no longer splits off parts of size 0 that are only concatenated again.

    Bodies of ONNX functions do that.  Refuses empty parts that anything but ``Concat`` reads,
    and splits computed at run time.
    """
    changed = 0
    for node in list(editor.nodes):
        if node.op_type != "Split" or node.domain or len(node.input) < 2:
            continue
        sizes = editor.constant(node.input[1])
        if sizes is None or sizes.all() or not sizes.any():
            continue
        parts = [int(size) for size in sizes.reshape(-1).tolist()]
        empty = [name for name, size in zip(node.output, parts, strict=True) if size == 0]
        if any(name in editor.outputs or not _only_concatenated(editor, name) for name in empty):
            continue
        for reader in [reader for name in empty for reader in editor.consumers.get(name, [])]:
            kept = [name for name in reader.input if name not in empty]
            del reader.input[:]
            reader.input.extend(kept)
        full = [name for name in node.output if name not in empty]
        new = Rewrite(editor, node)
        if len(full) == 1:
            new.add("Identity", node.input[0], output=full[0])
        else:
            rest = new.constant(np.array([size for size in parts if size], np.int64))
            new.copy([node.input[0], rest], full)
        new.done()
        changed += 1
    return changed


def _only_concatenated(editor: Editor, name: str) -> bool:
    readers = editor.consumers.get(name, [])
    return all(
        reader.op_type == "Concat" and not reader.domain and any(other != name for other in reader.input)
        for reader in readers
    )
