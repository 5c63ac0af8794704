"""``pipeline.hpp``: the interfaces that the app implements, and the class that calls the parts."""

from __future__ import annotations

from collections.abc import Iterable

from deploycc.element_types import HALF_CPP
from deploycc.identifiers import comment_text, string_literal
from deploycc.splitting.parts import CutTensor, Part
from deploycc.splitting.pipeline import Pipeline, interface_name
from deploycc.templates import fill

_HEADER = """\
// @TITLE@
//
@PARTS@//
// Implement the classes below whose run() is pure, hand them to a Pipeline and call its run().
#ifndef @N@_PIPELINE_HPP_INCLUDED
#define @N@_PIPELINE_HPP_INCLUDED

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace @N@ {

/// A span of the wrong size, or a tensor whose shape is not one that it may have.
class Error : public ::std::runtime_error {
public:
    using ::std::runtime_error::runtime_error;
};

/// A view of elements in row-major order: of a std::vector, std::array, array, or pointer and count.
template <typename T>
class Span {
public:
    constexpr Span() noexcept = default;
    constexpr Span(T *data, ::std::size_t size) noexcept : data_(data), size_(size) {}
    template <::std::size_t Count>
    constexpr Span(T (&array)[Count]) noexcept : data_(array), size_(Count) {}
    template <typename Container, typename = ::std::enable_if_t<::std::is_convertible_v<
                                      decltype(::std::declval<Container &>().data()), T *>>,
              typename = decltype(::std::declval<Container &>().size())>
    constexpr Span(Container &container) noexcept : data_(container.data()), size_(container.size()) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr ::std::size_t size() const noexcept { return size_; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](::std::size_t index) const { return data_[index]; }

private:
    T *data_ = nullptr;
    ::std::size_t size_ = 0;
};

/// A tensor whose extents only a run can tell, in row-major order.
template <typename T>
struct Tensor {
    ::std::vector<T> data{};
    ::std::vector<::std::int64_t> shape{};

    /// Takes a shape and makes room for its elements.
    void resize(const ::std::vector<::std::int64_t> &extents) {
        ::std::size_t count = 1;
        for (const ::std::int64_t extent : extents) {
            count *= static_cast<::std::size_t>(extent);
        }
        data.resize(count);
        shape = extents;
    }
};

@HALF@@CONSTANTS@@INTERFACES@/// What the pipeline reads.
struct Inputs {
@INPUTS@};

/// What the pipeline writes; each span has exactly the size of its tensor.
struct Outputs {
@OUTPUTS@};

/// The parts that the app implements.  They must live as long as the pipeline.
struct Parts {
@MEMBERS@};

/// How the parts on the CPU run.
struct Options {
    /// Threads of each of them; 0: as many as the calling thread may run on.
    ::std::int32_t threads = 0;
};

/// The network: calls its parts in order and owns what lies between them.  One thread at a time may use it.
class Pipeline {
public:
    explicit Pipeline(const Parts &parts@NONE@, const Options &options = Options());
    Pipeline(const Pipeline &) = delete;
    Pipeline &operator=(const Pipeline &) = delete;
    Pipeline(Pipeline &&other) noexcept;
    Pipeline &operator=(Pipeline &&other) noexcept;
    ~Pipeline();

    /// Computes all outputs.  Throws Error, what a package throws, and what the app's parts throw.
    void run(const Inputs &inputs, const Outputs &outputs);

private:
    struct State;
    ::std::unique_ptr<State> state_;
};

}  // namespace @N@

#endif
"""

_INTERFACE = """\
/// @WHERE@
///
/// @FILE@ is the same as ONNX.
class @CLASS@ {
public:
    struct Inputs {
@INPUTS@    };
    struct Outputs {
@OUTPUTS@    };

    @CLASS@() = default;
    @CLASS@(const @CLASS@ &) = default;
    @CLASS@ &operator=(const @CLASS@ &) = default;
    virtual ~@CLASS@() = default;

    /// Writes every output in full.
    virtual void run(const Inputs &inputs, const Outputs &outputs) = 0;
};

"""


def header(pipeline: Pipeline) -> str:
    """The text of ``pipeline.hpp``: C++17, warning-free with -Wall -Wextra -pedantic."""
    cut = pipeline.cut
    half = any(tensor.dtype in ("float16", "bfloat16") for tensor in cut.tensors.values())
    return fill(
        _HEADER,
        {
            "N": pipeline.name,
            "TITLE": comment_text(f"A network in {len(cut.parts)} parts, cut for {pipeline.target}."),
            "PARTS": "".join(f"//   {line}\n" for line in map(comment_text, part_lines(pipeline))),
            "HALF": HALF_CPP if half else "",
            "CONSTANTS": "".join(_constants(pipeline, name) for name in cut.tensors),
            "INTERFACES": "".join(_interface(pipeline, part) for part in pipeline.app_parts()),
            "INPUTS": _members(pipeline, cut.inputs, "    ", const=True, exact=True),
            "OUTPUTS": _members(pipeline, cut.outputs, "    ", const=False, exact=True),
            "MEMBERS": "".join(
                f"    ::{pipeline.name}::{interface_name(part)} &part{part.number};\n"
                for part in pipeline.app_parts()
            ),
            "NONE": "" if pipeline.app_parts() else " = Parts()",
        },
    )


def part_lines(pipeline: Pipeline) -> Iterable[str]:
    """A line for each part: number, where it runs, what it is."""
    for part in pipeline.cut.parts:
        number = len(part.nodes)
        what = f"{number} {'node' if number == 1 else 'nodes'}, parts/{part.stem}.onnx"
        match part.place:
            case "accelerator":
                yield f"{part.number}  {pipeline.target}: {interface_name(part)}, {what}"
            case "cpu":
                package = pipeline.packages[part.number].name
                yield f"{part.number}  {pipeline.cpu_target}: packages/{package}, {what}"
            case "host":
                yield f"{part.number}  the app: {interface_name(part)}, {what}"


def shown(tensor: CutTensor, *, exact: bool = False) -> str:
    """``1x3x?x224``; the extents that only a run can tell as ``?``, or as ``at most 100``."""
    if not tensor.ranked:
        return "of any shape"
    words = []
    for axis, extent in enumerate(tensor.shape):
        if axis in tensor.open_axes and exact:
            words.append("?" if extent < 0 else f"(<={extent})")
        else:
            words.append("?" if extent < 0 else str(extent))
    return "x".join(words) or "scalar"


def _constants(pipeline: Pipeline, name: str) -> str:
    tensor, identifier = pipeline.tensor(name), pipeline.identifiers[name]
    shape = ", ".join(map(str, tensor.shape))
    size = ""
    if tensor.kind != "open":
        count = 1
        for extent in tensor.shape:
            count *= extent
        size = f"inline constexpr ::std::size_t size = {count};\n"
    what = {"static": "", "bounded": ", at most this large", "open": ", -1: known at run time only"}
    return (
        f"/// {comment_text(name)}: {tensor.dtype} {shown(tensor)}{what[tensor.kind]}\n"
        f"namespace tensor::{identifier} {{\n"
        f"using value_type = {pipeline.type(name)};\n"
        f"inline constexpr const char *name = {string_literal(name)};\n"
        f"inline constexpr ::std::array<::std::int64_t, {len(tensor.shape)}> shape{{{{{shape}}}}};\n"
        f"{size}}}  // namespace tensor::{identifier}\n\n"
    )


def _interface(pipeline: Pipeline, part: Part) -> str:
    exact = part.place == "host"
    where = f"Part {part.number}, for {pipeline.target}" if not exact else f"Part {part.number}, for the app"
    operators = sorted({node.op_type for node in part.proto.graph.node})
    return fill(
        _INTERFACE,
        {
            "WHERE": comment_text(f"{where}: {', '.join(operators)}."),
            "FILE": f"parts/{part.stem}.onnx",
            "CLASS": interface_name(part),
            "INPUTS": _members(pipeline, part.inputs, "        ", const=True, exact=exact),
            "OUTPUTS": _members(pipeline, part.outputs, "        ", const=False, exact=exact),
        },
    )


def _members(pipeline: Pipeline, names: Iterable[str], indent: str, *, const: bool, exact: bool) -> str:
    lines = []
    for name in names:
        tensor, identifier = pipeline.tensor(name), pipeline.identifiers[name]
        lines.append(
            f"{indent}/// {comment_text(name)}: {tensor.dtype} {shown(tensor, exact=exact)}\n"
            f"{indent}{member_type(pipeline, name, const=const, exact=exact)}{identifier}"
            f"{'' if as_tensor(tensor, exact) else '{}'};\n"
        )
    return "".join(lines)


def as_tensor(tensor: CutTensor, exact: bool) -> bool:
    """Whether code that knows true extents (``exact``) has it as a ``Tensor``, not as a ``Span``."""
    return tensor.kind == "open" or (exact and tensor.kind == "bounded")


def member_type(pipeline: Pipeline, name: str, *, const: bool, exact: bool) -> str:
    """The type of a member that refers to the tensor, with what separates it from its name."""
    element, before = pipeline.type(name), "const " if const else ""
    if as_tensor(pipeline.tensor(name), exact):
        return f"{before}::{pipeline.name}::Tensor<{element}> &"
    return f"::{pipeline.name}::Span<{before}{element}> "
