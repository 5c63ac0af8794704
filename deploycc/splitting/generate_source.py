"""``pipeline.cpp``: buffers, and the parts called in order."""

from __future__ import annotations

from deploycc.splitting.generate_header import as_tensor
from deploycc.splitting.parts import Part
from deploycc.splitting.pipeline import Pipeline
from deploycc.templates import fill

_SOURCE = """\
#include "pipeline.hpp"

@INCLUDES@#include <algorithm>
#include <string>

namespace @N@ {
namespace {

[[maybe_unused]] void check_size(const char *name, ::std::size_t size, ::std::size_t needed) {
    if (size != needed) {
        throw Error(::std::string("@N@: '") + name + "' has " + ::std::to_string(size) + " elements, needs "
                    + ::std::to_string(needed));
    }
}

// `most` has -1 where any extent will do; on `open` axes the extent may be smaller.
[[maybe_unused]] void check_shape(const char *name, ::std::size_t size,
                                  const ::std::vector<::std::int64_t> &shape, const ::std::int64_t *most,
                                  const bool *open, ::std::size_t rank) {
    ::std::size_t count = 1;
    bool good = shape.size() == rank;
    for (::std::size_t axis = 0; good && axis < rank; ++axis) {
        const ::std::int64_t extent = shape[axis];
        good = extent >= 0 && (most[axis] < 0 || extent == most[axis] || (open[axis] && extent < most[axis]));
        count *= good ? static_cast<::std::size_t>(extent) : 0;
    }
    if (!good || size != count) {
        ::std::string text = ::std::string("@N@: '") + name + "' has shape";
        for (const ::std::int64_t extent : shape) {
            text += " " + ::std::to_string(extent);
        }
        text += " and " + ::std::to_string(size) + " elements, may have";
        for (::std::size_t axis = 0; axis < rank; ++axis) {
            text += most[axis] < 0 ? " any" : (open[axis] ? " <=" : " ") + ::std::to_string(most[axis]);
        }
        throw Error(text);
    }
}

// Copies a box of `extents` from the corner of one row-major tensor to the corner of another.
template <typename T>
[[maybe_unused]] void copy_box(const T *from, const ::std::int64_t *from_shape, T *to,
                               const ::std::int64_t *to_shape, const ::std::int64_t *extents,
                               ::std::size_t rank) {
    if (rank == 0) {
        *to = *from;
        return;
    }
    ::std::int64_t from_stride = 1;
    ::std::int64_t to_stride = 1;
    for (::std::size_t axis = 1; axis < rank; ++axis) {
        from_stride *= from_shape[axis];
        to_stride *= to_shape[axis];
    }
    if (from_stride == to_stride && ::std::equal(extents + 1, extents + rank, from_shape + 1)) {
        ::std::copy_n(from, extents[0] * from_stride, to);
        return;
    }
    for (::std::int64_t index = 0; index < extents[0]; ++index) {
        copy_box(from + index * from_stride, from_shape + 1, to + index * to_stride, to_shape + 1,
                 extents + 1, rank - 1);
    }
}

// Puts a tensor into the corner of zeros.
template <typename T>
[[maybe_unused]] void fill_up(const Tensor<T> &from, ::std::vector<T> &to, const ::std::int64_t *most) {
    ::std::fill(to.begin(), to.end(), T{});
    copy_box(from.data.data(), from.shape.data(), to.data(), most, from.shape.data(), from.shape.size());
}

// Takes the corner of `shape`.
template <typename T>
[[maybe_unused]] void crop(const ::std::vector<T> &from, const ::std::int64_t *most, Tensor<T> &to,
                           const ::std::vector<::std::int64_t> &shape) {
    to.resize(shape);
    copy_box(from.data(), most, to.data.data(), shape.data(), shape.data(), shape.size());
}

// A half is a struct of its own in each namespace, always its 16 bits.
template <typename To, typename From>
[[maybe_unused]] To *as(From *pointer) noexcept {
    return reinterpret_cast<To *>(pointer);
}

}  // namespace

struct Pipeline::State {
    State(const Parts &app_parts, const Options &options) : parts(app_parts)@ARENA@@MODELS@ {
        (void)options;
    }

    Parts parts;
@STATE@};

Pipeline::Pipeline(const Parts &parts, const Options &options)
    : state_(::std::make_unique<State>(parts, options)) {}
Pipeline::Pipeline(Pipeline &&other) noexcept = default;
Pipeline &Pipeline::operator=(Pipeline &&other) noexcept = default;
Pipeline::~Pipeline() = default;

void Pipeline::run(const Inputs &inputs, const Outputs &outputs) {
    State &state = *state_;
    (void)state;
    (void)inputs;
    (void)outputs;
@RUN@}

}  // namespace @N@
"""


def source(pipeline: Pipeline, *, shared: bool = False) -> str:
    """The text of ``pipeline.cpp``.

    With ``shared`` the packages have the shared runtime: they take turns in one arena, the largest one's.
    """
    shared = shared and bool(pipeline.packages)
    includes = [f"#include <{package.name}.hpp>\n" for package in pipeline.packages.values()]
    arena = ", arena.get()" if shared else ""
    models = [f", model_{number}(model_options_{number}(options{arena}))" for number in pipeline.packages]
    return fill(
        _SOURCE,
        {
            "N": pipeline.name,
            "INCLUDES": "".join(includes) + ("\n" if includes else ""),
            "ARENA": ", arena(arena_bytes(options))" if shared else "",
            "MODELS": "".join(models),
            "STATE": (_arena(pipeline) if shared else "") + _state(pipeline, shared),
            "RUN": _run(pipeline),
        },
    )


def _arena(pipeline: Pipeline) -> str:
    """The working memory that all packages use by turns."""
    needed = "".join(
        "        bytes = ::std::max(\n"
        f"            bytes, ::{package.name}::memory_bytes(model_options_{number}(options)));\n"
        for number, package in pipeline.packages.items()
    )
    first = next(iter(pipeline.packages.values()))
    return (
        "    static ::std::size_t arena_bytes(const Options &options) {\n"
        "        ::std::size_t bytes = 64;  // bad options are for the packages to tell\n"
        f"{needed}"
        "        return bytes;\n"
        "    }\n"
        f"    ::{first.name}::Arena arena;\n"
    )


def _state(pipeline: Pipeline, shared: bool) -> str:
    lines = []
    parameter = ", ::dcc_arena *arena = nullptr" if shared else ""
    taken = "        result.arena = arena;\n" if shared else ""
    for number, package in pipeline.packages.items():
        lines.append(
            f"    static ::{package.name}::Options model_options_{number}("
            f"const Options &options{parameter}) {{\n"
            f"        ::{package.name}::Options result;\n"
            "        result.threads = options.threads;\n"
            f"{taken}"
            "        return result;\n"
            "    }\n"
            f"    ::{package.name}::Model model_{number};\n"
        )
    for name in pipeline.cut.tensors:
        identifier, element = pipeline.identifiers[name], pipeline.type(name)
        constants = f"::{pipeline.name}::tensor::{identifier}"
        buffer = f"::std::vector<{element}>"
        if pipeline.tensor(name).kind == "static" and pipeline.intermediate(name):
            lines.append(f"    {buffer} buffer_{identifier} = {buffer}({constants}::size);\n")
        if pipeline.padded(name):
            lines.append(f"    {buffer} most_{identifier} = {buffer}({constants}::size);\n")
        if pipeline.exact(name) and pipeline.intermediate(name):
            lines.append(f"    ::{pipeline.name}::Tensor<{element}> exact_{identifier}{{}};\n")
    return "".join(lines)


def _run(pipeline: Pipeline) -> str:
    cut = pipeline.cut
    lines = [
        f"    check_size({_constants(pipeline, name)}::name, {role}.{pipeline.identifiers[name]}.size(), "
        f"{_constants(pipeline, name)}::size);\n"
        for role, names in (("inputs", cut.inputs), ("outputs", cut.outputs))
        for name in names
        if pipeline.tensor(name).kind == "static"
    ]
    ready: set[tuple[str, bool]] = set()
    """Bounded tensors of which the true (``True``) or the largest form is there."""
    for part in cut.parts:
        host = part.place == "host"
        lines.append(f"\n    // {part.stem}\n")
        for name in part.inputs:
            lines += _converted(pipeline, name, host, ready)
        lines.append(_cpu_call(pipeline, part) if part.place == "cpu" else _app_call(pipeline, part))
        for name in part.outputs:
            if host and pipeline.tensor(name).kind != "static":
                lines.append(_check_shape(pipeline, name))
            ready.add((name, host))
    for name in cut.outputs:
        lines += _converted(pipeline, name, True, ready)
    for name in cut.outputs:
        if name in cut.inputs:
            identifier = pipeline.identifiers[name]
            lines.append(
                f"    ::std::copy(inputs.{identifier}.begin(), inputs.{identifier}.end(), "
                f"outputs.{identifier}.begin());\n"
            )
    return "".join(lines)


def _constants(pipeline: Pipeline, name: str) -> str:
    return f"::{pipeline.name}::tensor::{pipeline.identifiers[name]}"


def _exact(pipeline: Pipeline, name: str) -> str:
    identifier = pipeline.identifiers[name]
    return f"outputs.{identifier}" if name in pipeline.cut.outputs else f"state.exact_{identifier}"


def _static(pipeline: Pipeline, name: str) -> str:
    """What has ``data()`` and ``size()`` of the tensor at its static or largest shape."""
    identifier = pipeline.identifiers[name]
    if pipeline.tensor(name).kind == "bounded":
        return f"state.most_{identifier}"
    if name in pipeline.cut.inputs:
        return f"inputs.{identifier}"
    return f"outputs.{identifier}" if name in pipeline.cut.outputs else f"state.buffer_{identifier}"


def _converted(pipeline: Pipeline, name: str, host: bool, ready: set[tuple[str, bool]]) -> list[str]:
    """Makes the form of a bounded tensor that a reader wants from the other one."""
    tensor = pipeline.tensor(name)
    if tensor.kind != "bounded" or (name, host) in ready:
        return []
    ready.add((name, host))
    exact, most = _exact(pipeline, name), f"state.most_{pipeline.identifiers[name]}"
    shape = f"{_constants(pipeline, name)}::shape"
    if not host:
        return [f"    fill_up({exact}, {most}, {shape}.data());\n"]
    extents = []
    for axis, extent in enumerate(tensor.shape):
        terms = [
            f" - {row.factor} * ({row.most} - {_exact(pipeline, row.tensor)}.shape[{row.axis}])"
            for row in (tensor.rows or {}).get(axis, ())
        ]
        extents.append(f"{extent}{''.join(terms)}")
    return [f"    crop({most}, {shape}.data(), {exact}, {{{', '.join(extents)}}});\n"]


def _check_shape(pipeline: Pipeline, name: str) -> str:
    tensor, exact = pipeline.tensor(name), _exact(pipeline, name)
    if not tensor.ranked:
        return ""
    constants = _constants(pipeline, name)
    flags = ", ".join("true" if axis in tensor.open_axes else "false" for axis in range(len(tensor.shape)))
    return (
        "    {\n"
        f"        const bool open[] = {{{flags}}};\n"
        f"        check_shape({constants}::name, {exact}.data.size(), {exact}.shape, "
        f"{constants}::shape.data(), open, {len(tensor.shape)});\n"
        "    }\n"
    )


def _app_call(pipeline: Pipeline, part: Part) -> str:
    def given(name: str) -> str:
        if as_tensor(pipeline.tensor(name), part.place == "host"):
            return _exact(pipeline, name)
        place = _static(pipeline, name)
        return f"{{{place}.data(), {place}.size()}}"

    inputs = ", ".join(map(given, part.inputs))
    outputs = ", ".join(map(given, part.outputs))
    return f"    state.parts.part{part.number}.run({{{inputs}}}, {{{outputs}}});\n"


def _cpu_call(pipeline: Pipeline, part: Part) -> str:
    package = pipeline.packages[part.number]
    lines = [
        "    {\n",
        f"        ::{package.name}::Inputs given;\n",
        f"        ::{package.name}::Outputs wanted;\n",
    ]
    for variable, role, const, identifiers in (
        ("given", "input", "const ", package.inputs),
        ("wanted", "output", "", package.outputs),
    ):
        for name, identifier in identifiers.items():
            place = _static(pipeline, name)
            element = f"{const}::{package.name}::{role}::{identifier}::value_type"
            lines.append(
                f"        {variable}.{identifier} = {{as<{element}>({place}.data()), {place}.size()}};\n"
            )
    lines.append(f"        state.model_{part.number}.run(given, wanted);\n    }}\n")
    return "".join(lines)
