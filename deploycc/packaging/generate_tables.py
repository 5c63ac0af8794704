"""The generated C tables that the runtime reads: tensors, and the model of each variant."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.identifiers import string_literal
from deploycc.packaging.interface import Interface, Tensor
from deploycc.templates import fill
from deploycc.types import Plan

SLOT_DEFINITIONS = """\
/* What the kernels call, by name as TVM's code generator has it. */
extern int (*const __TVMBackendParallelLaunch)(dcc_task, void *, int);
extern int (*const __TVMBackendParallelBarrier)(int, dcc_group *);
extern void *(*const __TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*const __TVMBackendFreeWorkspace)(int, int, void *);
int (*const __TVMBackendParallelLaunch)(dcc_task, void *, int) = dcc_parallel_launch;
int (*const __TVMBackendParallelBarrier)(int, dcc_group *) = dcc_parallel_barrier;
void *(*const __TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = dcc_alloc_workspace;
int (*const __TVMBackendFreeWorkspace)(int, int, void *) = dcc_free_workspace;

"""

_MODEL = """\
static const dcc_model @V@model = {
    .abi = DCC_ABI,
    .input_count = @IC@,
    .output_count = @OC@,
    .step_count = @SC@,
    .name = "@N@",
    .inputs = @INPUTS@,
    .outputs = @OUTPUTS@,
    .step_names = @STEP_NAMES@,
    .arena_bytes = @ARENA@u,
    .workspace_bytes = @WORKSPACE@u,
    .thread_workspace_bytes = @THREAD_WORKSPACE@u,
    .steps = @V@steps,
    .timed = @TIMED@,
};

"""


def tensor_table(tensors: Sequence[Tensor], role: str) -> str:
    """The array ``ROLEs`` and the shapes in it."""
    if not tensors:
        return ""
    lines = [
        f"static const int64_t {role}_shape_{index}[] = {{{', '.join(str(d) for d in tensor.info.shape)}}};\n"
        for index, tensor in enumerate(tensors)
        if tensor.info.shape
    ]
    lines.append(f"static const dcc_tensor {role}s[] = {{\n")
    for index, tensor in enumerate(tensors):
        shape = f"{role}_shape_{index}" if tensor.info.shape else "NULL"
        lines.append(
            f"    {{{string_literal(tensor.info.name)}, {tensor.type.value}, {len(tensor.info.shape)}, "
            f"{shape}, {tensor.elements}u, {tensor.bytes}u, sizeof({tensor.type.c})}},\n"
        )
    lines.append("};\n\n")
    return "".join(lines)


def model_table(interface: Interface, variant: str, plan: Plan, plans: Sequence[Plan]) -> str:
    """A ``dcc_model``; all of a package have the sizes of the largest, so that a handle fits each."""
    return fill(
        _MODEL,
        {
            "N": interface.name,
            "V": variant,
            "IC": str(len(interface.inputs)),
            "OC": str(len(interface.outputs)),
            "SC": str(len(plan.calls)),
            "INPUTS": f"{variant}inputs" if interface.inputs else "NULL",
            "OUTPUTS": f"{variant}outputs" if interface.outputs else "NULL",
            "STEP_NAMES": f"{variant}step_names" if plan.calls else "NULL",
            "ARENA": str(max(one.arena_bytes for one in plans)),
            "WORKSPACE": str(max(one.workspace_bytes for one in plans)),
            "THREAD_WORKSPACE": str(max(one.thread_workspace_bytes for one in plans)),
            "TIMED": str(int(interface.profile)),
        },
    )
