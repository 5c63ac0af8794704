"""The generated C of a package: public header, model definition, weights."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.element_types import ELEMENT_TYPES
from deploycc.identifiers import comment_text, string_literal
from deploycc.packaging import (
    generate_arena,
    generate_cuda,
    generate_cuda_source,
    generate_timers,
    generate_variants,
)
from deploycc.packaging.generate_tables import SLOT_DEFINITIONS, model_table, tensor_table
from deploycc.packaging.interface import ABI_VERSION, Interface, count_of
from deploycc.templates import fill
from deploycc.types import Buffer, Call, Plan

_HEADER = """\
/* @N@: a neural network compiled by deploycc into a library without further dependencies.
 *
@TENSORS@ *
 * All tensors are packed and row-major (C order): for an image, ONNX's own NCHW unless the
 * network was exported otherwise.  Buffers belong to the caller and need the alignment of their
 * element type only.  Outputs must not overlap inputs, one another or options.memory (@N@_ERROR_ARGUMENT).
 *
 * Usage: @N@_create, then @N@_run as often as wanted (it allocates nothing), then @N@_destroy.
 * One handle serves one thread at a time (a second one gets @N@_ERROR_BUSY); any number of
 * handles may run at once.  Every function returns @N@_OK (0) or what went wrong.
@GPU_NOTE@ */
#ifndef @N@_H_INCLUDED
#define @N@_H_INCLUDED

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define @N@_API __attribute__((visibility("default")))
#else
#define @N@_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define @N@_ABI_VERSION @ABI@

@MACROS@
typedef enum @N@_status {
    @N@_OK = 0,
    @N@_ERROR_ARGUMENT = 1, /* a pointer, size, index or option that cannot be used */
    @N@_ERROR_BUSY = 2,     /* the handle is in use, by another thread or further up in this one */
    @N@_ERROR_MEMORY = 3,   /* out of memory */
    @N@_ERROR_THREAD = 4,   /* a thread could not be started or pinned */
    @N@_ERROR_KERNEL = 5,   /* a kernel failed; @N@_last_error says which */
@LAST_STATUSES@} @N@_status;

typedef enum @N@_dtype {
@DTYPES@
} @N@_dtype;

typedef struct @N@_tensor_info {
    const char *name;     /* ONNX name, UTF-8 */
    int32_t dtype;        /* a @N@_dtype */
    int32_t rank;
    const int64_t *shape; /* rank entries; NULL for rank 0 */
    size_t elements;
    size_t bytes;
    size_t alignment;     /* of the caller's pointer, in bytes */
} @N@_tensor_info;

typedef struct @N@_options {
    size_t struct_size;   /* set by @N@_OPTIONS_INIT */
    int32_t threads;      /* 0: as many as the calling thread may run on */
    int32_t spin_us;      /* idle workers spin this many microseconds before they sleep; -1: default */
    const int32_t *cpus;  /* worker i is pinned to cpus[i % cpu_count]; NULL: nothing is pinned */
    size_t cpu_count;
    void *memory;         /* working memory of the caller, 64-byte aligned; NULL: create allocates it */
    size_t memory_bytes;  /* at least @N@_memory_bytes(options) */
@GPU_OPTIONS@} @N@_options;

#define @N@_OPTIONS_INIT {sizeof(@N@_options), 0, -1, NULL, 0, NULL, 0@GPU_INIT@}

typedef struct @N@_handle @N@_handle;

/* Called after each step of a run, on the thread that runs.  What a step wrote, at the place that
 * share/@N@/manifest.json gives ("calls"), is there until a later step takes its place.  `arena` is where
 * the offsets of buffers of kind "arena" count from. */
typedef void (*@N@_observer)(void *context, uint32_t step, const void *arena);

/* @N@_ABI_VERSION of the library that was loaded. */
@N@_API uint32_t @N@_abi_version(void);

/* Bytes of working memory for a handle with these options (NULL: defaults); 0 if they are no good. */
@N@_API size_t @N@_memory_bytes(const @N@_options *options);

/* Makes a handle and its threads.  options may be NULL.  On failure *handle is NULL and
 * @N@_last_error(NULL) tells why. */
@N@_API @N@_status @N@_create(const @N@_options *options, @N@_handle **handle);

/* inputs: @IC@ pointer(s), outputs: @OC@ pointer(s), in the order above. */
@N@_API @N@_status @N@_run(@N@_handle *handle, const void *const *inputs, void *const *outputs);

/* NULL is fine.  @N@_ERROR_BUSY, and nothing is freed, while the handle is in @N@_run.  The handle must
 * not be used afterwards; a library built with --debug-runtime tells when it is. */
@N@_API @N@_status @N@_destroy(@N@_handle *handle);

/* Threads a run of this handle uses, the caller's own included. */
@N@_API int32_t @N@_threads(const @N@_handle *handle);

/* Has every step of the handle's runs watched from the next one on; NULL for the observer ends that.  For
 * timers and for looking at intermediate tensors; without an observer a run costs nothing more.  It must
 * return (no longjmp, no C++ exception out of it), and gets @N@_ERROR_BUSY where it uses this handle. */
@N@_API @N@_status @N@_observe(@N@_handle *handle, @N@_observer observer, void *context);

@BESIDES@/* Steps of a run, and the name of each one's kernel; NULL when step is out of range. */
@N@_API uint32_t @N@_step_count(void);
@N@_API const char *@N@_step_name(uint32_t step);

@N@_API uint32_t @N@_input_count(void);
@N@_API uint32_t @N@_output_count(void);

/* Static data; NULL when index is out of range. */
@N@_API const @N@_tensor_info *@N@_input_info(uint32_t index);
@N@_API const @N@_tensor_info *@N@_output_info(uint32_t index);

/* Text of the handle's last error, "" if there was none; with NULL that of the calling thread's
 * last failed @N@_create.  Valid until the next call with the same handle. */
@N@_API const char *@N@_last_error(const @N@_handle *handle);

/* What a status means; static text. */
@N@_API const char *@N@_status_text(@N@_status status);

#ifdef __cplusplus
}
#endif

#endif
"""

_SOURCE_HEAD = """\
/* Model definition of @N@, generated by deploycc. */
#include "@N@.h"
#include "deploycc_rt.h"

#include <string.h>

#if DCC_ABI != @ABI@
#error "this file was generated for another version of the deploycc runtime"
#endif

/* The handed-out types are the runtime's under the model's own name. */
_Static_assert(sizeof(@N@_options) == sizeof(dcc_options), "options");
_Static_assert(sizeof(@N@_tensor_info) == sizeof(dcc_tensor), "tensor info");

"""

_SOURCE_TAIL = """\
uint32_t @N@_abi_version(void) {
    return @ABI@;
}

size_t @N@_memory_bytes(const @N@_options *options) {
    return dcc_memory_bytes(&model, (const dcc_options *)(const void *)options);
}

@N@_status @N@_create(const @N@_options *options, @N@_handle **handle) {
    return (@N@_status)dcc_create(&model, (const dcc_options *)(const void *)options,
                                  (dcc_handle **)(void *)handle);
}

@N@_status @N@_run(@N@_handle *handle, const void *const *inputs, void *const *outputs) {
    return (@N@_status)dcc_run((dcc_handle *)(void *)handle, inputs, outputs);
}

@N@_status @N@_destroy(@N@_handle *handle) {
    return (@N@_status)dcc_destroy((dcc_handle *)(void *)handle);
}

int32_t @N@_threads(const @N@_handle *handle) {
    return dcc_threads((const dcc_handle *)(const void *)handle);
}

@N@_status @N@_observe(@N@_handle *handle, @N@_observer observer, void *context) {
    return (@N@_status)dcc_observe((dcc_handle *)(void *)handle, observer, context);
}

uint32_t @N@_step_count(void) {
    return model.step_count;
}

const char *@N@_step_name(uint32_t step) {
    return step < model.step_count ? model.step_names[step] : NULL;
}

uint32_t @N@_input_count(void) {
    return model.input_count;
}

uint32_t @N@_output_count(void) {
    return model.output_count;
}

const @N@_tensor_info *@N@_input_info(uint32_t index) {
    return index < model.input_count ? (const @N@_tensor_info *)(const void *)&model.inputs[index] : NULL;
}

const @N@_tensor_info *@N@_output_info(uint32_t index) {
    return index < model.output_count ? (const @N@_tensor_info *)(const void *)&model.outputs[index] : NULL;
}

const char *@N@_last_error(const @N@_handle *handle) {
    return dcc_last_error((const dcc_handle *)(const void *)handle);
}

const char *@N@_status_text(@N@_status status) {
    return dcc_status_text((int32_t)status);
}
"""


def header(interface: Interface) -> str:
    """``include/NAME.h``: C99 and C++, self-contained."""
    name = interface.name
    lines, macros = [], []
    for role, tensors in (("input", interface.inputs), ("output", interface.outputs)):
        for index, tensor in enumerate(tensors):
            lines.append(
                f" * {role} {index}: {comment_text(tensor.info.name)}  {tensor.info.dtype}"
                f" {tensor.dimensions}, {tensor.bytes} bytes ({tensor.type.c})\n"
            )
            count = count_of(tensor, tensors)
            prefix = f"{name}_{role.upper()}_{tensor.identifier}"
            macros.append(f"#define {prefix}_INDEX {index}\n")
            macros.append(f"#define {prefix}_ELEMENTS {tensor.elements}\n")
            macros.append(f"#define {prefix}_BYTES {tensor.bytes}\n")
            if count is not None:
                axis, number = count
                lines.append(
                    f" *     along axis {axis} (of 0, 1, ...) output {number} tells how many of the"
                    f" {tensor.info.shape[axis]} rows there are; zeros\n"
                    f" *     are behind them, and a larger number says that rows were left out\n"
                )
                macros.append(f"#define {prefix}_COUNTED_AXIS {axis}\n")
                macros.append(f"#define {prefix}_COUNT_INDEX {number}\n")
    dtypes = ",\n".join(f"    {name}_{t.constant} = {t.value}" for t in ELEMENT_TYPES.values())
    return fill(
        _HEADER,
        {
            "N": name,
            "ABI": str(ABI_VERSION),
            "TENSORS": "".join(lines),
            "MACROS": "".join(macros),
            "DTYPES": dtypes,
            "BESIDES": "".join(
                part.header(interface)
                for part in (generate_cuda, generate_timers, generate_variants, generate_arena)
            ),
            "GPU_NOTE": generate_cuda.note(interface),
            "LAST_STATUSES": generate_cuda.last_statuses(interface),
            "GPU_OPTIONS": generate_cuda.option_members(interface),
            "GPU_INIT": generate_cuda.option_values(interface),
            "IC": str(len(interface.inputs)),
            "OC": str(len(interface.outputs)),
        },
    )


def _pointer(buffer: Buffer) -> str:
    if buffer.kind == "input":
        base = f"(void *)(uintptr_t)in[{buffer.index}]"
        return base if buffer.offset == 0 else f"(char *)(uintptr_t)in[{buffer.index}] + {buffer.offset}"
    if buffer.kind == "output":
        base = f"out[{buffer.index}]"
        return base if buffer.offset == 0 else f"(char *){base} + {buffer.offset}"
    return f"{'ARENA' if buffer.kind == 'arena' else 'WEIGHT'}({buffer.offset})"


STEPS_TOGETHER = 32
"""Calls in one C function: compilers take longer than in proportion for functions of many branches."""

_STEP_MACROS = (
    "#define ARENA(offset) ((char *)arena + (offset))\n"
    "#define WATCHED(number)                                     \\\n"
    "    do {                                                    \\\n"
    "        if (watch != NULL) {                                \\\n"
    "            watch->observer(watch->context, number, arena); \\\n"
    "        }                                                   \\\n"
    "    } while (0)\n"
    "#define STEP(number, call)     \\\n"
    "    do {                       \\\n"
    "        int32_t failed = call; \\\n"
    "        if (failed != 0) {     \\\n"
    "            *step = number;    \\\n"
    "            return failed;     \\\n"
    "        }                      \\\n"
    "        WATCHED(number);       \\\n"
    "    } while (0)\n\n"
)

_STEPS = """\
static int32_t {name}(const void *const *in, void *const *out, void *arena, uint32_t *step,
               {indent}const dcc_watch *watch) {{
    (void)in, (void)out, (void)arena, (void)step, (void)watch;
"""


def _step(index: int, call: Call, kernel: dict[str, str]) -> str:
    pointers = [_pointer(argument) for argument in call.arguments]
    if call.symbol == "memcpy":
        destination, source = pointers
        copy = f"memcpy({destination}, {source}, {call.arguments[0].nbytes}u)"
        return f"    {copy};\n    WATCHED({index});\n"
    return f"    STEP({index}, {kernel[call.symbol]}({', '.join(pointers)}));\n"


def _steps(calls: Sequence[Call], kernel: dict[str, str], variant: str = "") -> str:
    """The function that makes all calls, through one for each ``STEPS_TOGETHER`` of them.

    ``variant`` begins the names.
    """
    parts, chunks = [], []
    for start in range(0, len(calls), STEPS_TOGETHER):
        chunks.append(f"{variant}steps_from_{start}")
        parts.append(_STEPS.format(name=chunks[-1], indent=" " * len(chunks[-1])))
        together = calls[start : start + STEPS_TOGETHER]
        parts += [_step(start + place, call, kernel) for place, call in enumerate(together)]
        parts.append("    return 0;\n}\n\n")
    parts.append(_STEPS.format(name=f"{variant}steps", indent=" " * len(f"{variant}steps")))
    parts.append("    int32_t failed = 0;\n" if chunks else "")
    for chunk in chunks:
        parts.append(f"    failed = failed != 0 ? failed : {chunk}(in, out, arena, step, watch);\n")
    parts.append("    return failed;\n}\n\n" if chunks else "    return 0;\n}\n\n")
    return "".join(parts)


def source(interface: Interface, plan: Plan, others: Sequence[Plan] = ()) -> str:
    """The model definition: tensor tables, the straight-line call list, the public functions.

    ``others`` are the plans of the variants but the first, for GPUs those of the chips but the first.
    """
    if interface.gpus:
        return generate_cuda_source.source(interface, (plan, *others))
    name, plans = interface.name, (plan, *others)
    arity: dict[str, int] = {}
    for call in (call for one in plans for call in one.calls):
        if call.symbol == "memcpy":
            if len(call.arguments) != 2:
                raise ValueError("a memcpy step takes a destination and a source")
        elif arity.setdefault(call.symbol, len(call.arguments)) != len(call.arguments):
            raise ValueError(f"kernel {call.symbol} is called with different numbers of arguments")
    kernel = {symbol: f"kernel_{index}" for index, symbol in enumerate(arity)}
    parts = [fill(_SOURCE_HEAD, {"N": name, "ABI": str(ABI_VERSION)}), SLOT_DEFINITIONS]
    # The label keeps kernel names out of C's own name space: one called `exp` is no clash.
    parts += [
        f"extern int32_t {kernel[symbol]}({', '.join(['void *'] * count) or 'void'})"
        f" __asm__({string_literal(symbol)});\n"
        for symbol, count in arity.items()
    ]
    if plan.weights:
        parts.append(f'extern const unsigned char {name}_weights[] __attribute__((visibility("hidden")));\n')
        parts.append(f"#define WEIGHT(offset) ((void *)(uintptr_t)({name}_weights + (offset)))\n")
    parts.append("\n")
    tensors = interface.variants or ((interface.inputs, interface.outputs),)
    prefixes = ["", *(f"v{number}_" for number in range(1, len(plans)))]
    for variant, one, (inputs, outputs) in zip(prefixes, plans, tensors, strict=True):
        parts.append(tensor_table(inputs, f"{variant}input"))
        parts.append(tensor_table(outputs, f"{variant}output"))
        if one.calls:
            rows = "".join(f"    {string_literal(call.symbol)},\n" for call in one.calls)
            parts.append(f"static const char *const {variant}step_names[] = {{\n{rows}}};\n\n")
    parts.append(_STEP_MACROS)
    for variant, one in zip(prefixes, plans, strict=True):
        parts.append(_steps(one.calls, kernel, variant))
    for variant, one in zip(prefixes, plans, strict=True):
        parts.append(model_table(interface, variant, one, plans))
    parts.append(fill(_SOURCE_TAIL, {"N": name, "ABI": str(ABI_VERSION)}))
    parts.append(generate_timers.source(interface))
    parts.append(generate_variants.source(interface))
    parts.append(generate_arena.source(interface))
    return "".join(parts)


def weights_assembly(name: str, file_name: str, sha256: str) -> str:
    """Assembly that puts ``file_name`` into read-only data as it is, 64-byte aligned.

    The hash stands in the text because compilers that cache by the text do not see what
    ``.incbin`` reads.
    """
    symbol = f"{name}_weights"
    return (
        f"/* sha256 {sha256} */\n"
        f'    .section .rodata.{symbol},"a",%progbits\n'
        "    .balign 64\n"
        f"    .globl {symbol}\n"
        f"    .hidden {symbol}\n"
        f"    .type {symbol}, %object\n"
        f"{symbol}:\n"
        f'    .incbin "{file_name}"\n'
        f"    .size {symbol}, . - {symbol}\n"
        '    .section .note.GNU-stack,"",%progbits\n'
    )


def version_script(symbols: Sequence[str]) -> str:
    """A linker version script that exports ``symbols`` and nothing else."""
    return "{\n    global:\n" + "".join(f"        {s};\n" for s in symbols) + "    local:\n        *;\n};\n"
