"""Rewrites of a graph's form: what computes nothing goes, what is stored twice is stored once."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from deploycc.fixing.record import ROUNDING, Fix
from deploycc.graph_rewrites import cleaning
from deploycc.graph_rewrites.normalising import batch_norm_into_neighbour
from deploycc.onnx_editor import Editor, attribute
from deploycc.onnx_graph import used_names


def fold_batch_norm(editor: Editor, node: NodeProto) -> bool:
    """Refuses where neither the layer before, read by nothing else, nor the one reader behind can take it.

    Also training mode, used statistics, parameters computed at run time; an offset in front of a padded
    convolution, and a bias in front of a transposed one of several groups.
    """
    return batch_norm_into_neighbour(editor, node)


def dead_nodes(editor: Editor, node: NodeProto) -> bool:
    """Refuses nothing."""
    return cleaning.drop_dead_nodes(editor) > 0


def equal_initializers(editor: Editor, node: NodeProto) -> bool:
    """Refuses graph outputs and what subgraphs capture."""
    return cleaning.merge_equal_initializers(editor) > 0


def unused_initializers(editor: Editor, node: NodeProto) -> bool:
    """Refuses nothing."""
    return cleaning.drop_unused_initializers(editor) > 0


def identities(editor: Editor, node: NodeProto) -> bool:
    """Refuses what lies between a graph input and a graph output, and what subgraphs capture."""
    return cleaning.drop_identities(editor) > 0


def constant_nodes(editor: Editor, node: NodeProto) -> bool:
    """Refuses sparse and string constants and graph outputs."""
    return cleaning.constants_to_initializers(editor) > 0


def _past(editor: Editor, node: NodeProto, source: str) -> bool:
    """Readers of the node's output read ``source``; a graph output gets an ``Identity``."""
    target = node.output[0]
    captured = any(target in used_names(r) - set(r.input) for r in editor.consumers.get(target, []))
    if target in editor.outputs or captured:
        editor.replace(node, [editor.node("Identity", [source], [target], like=node)])
    else:
        editor.redirect(target, source)
        editor.remove([node])
    cleaning.drop_dead_nodes(editor)
    return True


def transposes(editor: Editor, node: NodeProto) -> bool:
    """Refuses a transpose that does not directly follow another one; two that do not cancel become one."""
    before = editor.producers.get(node.input[0])
    if before is None or before.op_type != "Transpose" or before.domain:
        readers = [r for r in editor.consumers.get(node.output[0], []) if r.op_type == "Transpose"]
        return any(transposes(editor, reader) for reader in readers)
    kind = editor.types.get(before.input[0])
    if kind is None or kind.shape is None:
        return False
    backwards = list(range(len(kind.shape)))[::-1]
    first, second = attribute(before, "perm", backwards), attribute(node, "perm", backwards)
    joint = [first[axis] for axis in second]
    if joint == sorted(joint):
        return _past(editor, node, before.input[0])
    editor.replace(
        node,
        [editor.node("Transpose", [before.input[0]], list(node.output), like=node, perm=joint)],
    )
    cleaning.drop_dead_nodes(editor)
    return True


def casts(editor: Editor, node: NodeProto) -> bool:
    """Refuses a pair of casts whose inner type does not hold every value of the outer one."""
    before = editor.producers.get(node.input[0])
    if before is None or before.op_type != "Cast" or before.domain:
        readers = [r for r in editor.consumers.get(node.output[0], []) if r.op_type == "Cast"]
        return any(casts(editor, reader) for reader in readers)
    outer, inner = editor.dtype(before.input[0]), editor.dtype(before.output[0])
    after = helper.tensor_dtype_to_np_dtype(attribute(node, "to")).name
    if outer != after or outer not in np.sctypeDict or inner not in np.sctypeDict:
        return False
    if not np.can_cast(np.dtype(outer), np.dtype(inner), "safe"):
        return False
    return _past(editor, node, before.input[0])


FIXES = (
    Fix(
        name="batchnorm-fold",
        headline="BatchNormalization into the convolution or matrix product beside it",
        operators=("BatchNormalization",),
        onnx="Conv, ConvTranspose or Gemm with scaled weights and another bias",
        pytorch="torch.nn.utils.fusion.fuse_conv_bn_eval, or export in eval mode",
        apply=fold_batch_norm,
        effect=ROUNDING,
        bound=5e-6,
    ),
    Fix(
        name="drop-dead-nodes",
        headline="Nodes whose results nobody reads go",
        operators=("*",),
        onnx="the same graph without them",
        pytorch="do not compute what forward does not return",
        apply=dead_nodes,
        graph=True,
    ),
    Fix(
        name="merge-initializers",
        headline="Equal initializers are stored once",
        operators=("*",),
        onnx="one initializer that all of them read",
        pytorch="share the parameter",
        apply=equal_initializers,
        graph=True,
    ),
    Fix(
        name="drop-unused-initializers",
        headline="Initializers that nobody reads go",
        operators=("*",),
        onnx="the same graph without them",
        pytorch="do not register parameters that forward does not read",
        apply=unused_initializers,
        graph=True,
    ),
    Fix(
        name="drop-identities",
        headline="Operators that give their input again go",
        operators=("*",),
        onnx="the same graph without them",
        pytorch="no view to the shape that a tensor has; export in eval mode for Dropout",
        apply=identities,
        graph=True,
    ),
    Fix(
        name="constant-attributes",
        headline="Constant nodes as initializers",
        operators=("*",),
        onnx="initializers, whatever attribute held the value",
        pytorch="register_buffer",
        apply=constant_nodes,
        graph=True,
    ),
    Fix(
        name="cancel-transposes",
        headline="Two transposes in a row as one, or as none",
        operators=("Transpose",),
        onnx="Transpose of the joint permutation, or nothing",
        pytorch="x.permute once",
        apply=transposes,
    ),
    Fix(
        name="drop-cast-pairs",
        headline="A cast to a wider type and back goes",
        operators=("Cast",),
        onnx="nothing",
        pytorch="no .float() before .half() where nothing is computed between",
        apply=casts,
    ),
)
