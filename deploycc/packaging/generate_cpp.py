"""The generated C++17 header: RAII, typed named tensors, spans, exceptions."""

from __future__ import annotations

from deploycc.element_types import HALF_CPP
from deploycc.identifiers import comment_text, string_literal
from deploycc.packaging import generate_arena, generate_cuda_cpp, generate_timers, generate_variants
from deploycc.packaging.interface import Interface, Tensor, count_of
from deploycc.templates import fill

_HEADER = """\
// @N@ for C++17: a thin, header-only layer over @N@.h.
//
//     @N@::Model model;                         // or @N@::Model model({/*threads=*/2});
@USAGE@//     model.run(inputs, outputs);               // throws @N@::Error
#ifndef @N@_HPP_INCLUDED
#define @N@_HPP_INCLUDED

#include "@N@.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace @N@ {

/// What went wrong: the C status and a text that says where.  Compiled without exceptions (-fno-exceptions),
/// what would throw it writes the text to stderr and aborts; the C interface returns statuses.
class Error : public ::std::runtime_error {
public:
    Error(@N@_status status, const ::std::string &text) : ::std::runtime_error(text), status_(status) {}
    @N@_status status() const noexcept { return status_; }

private:
    @N@_status status_;
};

/// Throws Error.
[[noreturn]] inline void fail(@N@_status status, const ::std::string &text) {
#if defined(__cpp_exceptions)
    throw Error(status, text);
#else
    (void)status;
    (void)::std::fprintf(stderr, "%s\\n", text.c_str());
    ::std::abort();
#endif
}

/// A view of caller-owned elements: from std::array, std::vector, std::span, an array, or pointer and count.
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
    /// Of temporaries only views, such as a std::span: what another one owns would be gone too soon.
    template <typename View,
              typename = ::std::enable_if_t<
                  !::std::is_lvalue_reference_v<View> && ::std::is_trivially_copyable_v<View>
                  && sizeof(View) <= 2 * sizeof(void *)
                  && ::std::is_convertible_v<decltype(::std::declval<const View &>().data()), T *>>,
              typename = decltype(::std::declval<const View &>().size())>
    constexpr Span(View &&view) noexcept : data_(view.data()), size_(view.size()) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr ::std::size_t size() const noexcept { return size_; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](::std::size_t index) const { return data_[index]; }

private:
    T *data_ = nullptr;
    ::std::size_t size_ = 0;
};

@HALF@@CONSTANTS@/// One span per graph input, each of exactly the size above.
struct Inputs {
@INPUT_MEMBERS@};

/// One span per graph output, each of exactly the size above.
struct Outputs {
@OUTPUT_MEMBERS@};

@SHAPES@@ARENA@@GPU_TYPES@/// How a model runs; the defaults are those of @N@_OPTIONS_INIT.
struct Options {
    /// 0: as many as the calling thread may run on.
    ::std::int32_t threads = 0;
    /// Idle workers spin this many microseconds before they sleep; -1: default.
    ::std::int32_t spin_us = -1;
    /// Worker i is pinned to cpus[i % size]; empty: no pinning.
    ::std::vector<::std::int32_t> cpus{};
    /// Caller-owned working memory, 64-byte aligned, at least memory_bytes(options) bytes.
    void *memory = nullptr;
    ::std::size_t memory_bytes = 0;
@ARENA_OPTION@@GPU_OPTION@
    /// The same as C options; points into this object.
    @N@_options c_options() const noexcept {
        @N@_options result = @N@_OPTIONS_INIT;
        result.threads = threads;
        result.spin_us = spin_us;
        result.cpus = cpus.empty() ? nullptr : cpus.data();
        result.cpu_count = cpus.size();
        result.memory = memory;
        result.memory_bytes = memory_bytes;
@GPU_OPTION_SET@        return result;
    }
};

/// Bytes of working memory for a model with these options; 0 if they are no good.
inline ::std::size_t memory_bytes(const Options &options) noexcept {
    const @N@_options c_options = options.c_options();
    return @N@_memory_bytes(&c_options);
}

/// The network.  Movable, not copyable; one thread at a time may use one Model.  Of one that was moved from
/// the destructor, assignment, threads() (0) and handle() (nullptr) are of use; the rest throws.
class Model {
public:
    Model() : Model(Options()) {}

    explicit Model(const Options &options) {
        if (@N@_abi_version() != @N@_ABI_VERSION) {
            ::@N@::fail(@N@_ERROR_ABI, "@N@: header and library are of different versions");
        }
        const @N@_options c_options = options.c_options();
        const @N@_status status = @CREATE@;
        if (status != @N@_OK) {
            ::@N@::fail(status, message(status, @N@_last_error(nullptr)));
        }
    }

    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;
    Model(Model &&other) noexcept
        : handle_(::std::exchange(other.handle_, nullptr)), watch_(::std::move(other.watch_)) {}
    Model &operator=(Model &&other) noexcept {
        ::std::swap(handle_, other.handle_);
        ::std::swap(watch_, other.watch_);
        return *this;
    }
    ~Model() { (void)@N@_destroy(handle_); }

    /// Computes all outputs.  Throws Error: a span of the wrong size, or what @N@_run returns; and what the
    /// observer threw.
    void run(const Inputs &inputs, const Outputs &outputs) {
        (void)inputs;
        (void)outputs;
@CHECKS@        const void *const input_pointers[] = {@INPUT_POINTERS@};
        void *const output_pointers[] = {@OUTPUT_POINTERS@};
        const @N@_status status = @N@_run(handle_, input_pointers, output_pointers);
#if defined(__cpp_exceptions)
        if (watch_ && watch_->thrown) {
            ::std::rethrow_exception(::std::exchange(watch_->thrown, nullptr));
        }
#endif
        if (status != @N@_OK) {
            fail(status);
        }
    }

    /// Threads a run uses, the caller's own included.
    ::std::int32_t threads() const noexcept { return @N@_threads(handle_); }

    /// Has each step watched from the next run on (@N@_observe); nullptr ends that.  When it throws, that run
    /// goes on without it to its end, and then throws the same.
    void observe(@N@_observer observer, void *context = nullptr) {
        ::std::unique_ptr<Watch> watch(observer == nullptr ? nullptr : new Watch());
        if (watch) {
            watch->observer = observer;
            watch->context = context;
        }
        const @N@_status status = @N@_observe(handle_, watch ? &Model::watched : nullptr, watch.get());
        if (status != @N@_OK) {
            fail(status);
        }
        watch_ = ::std::move(watch);
    }

@PROFILE@@VARIANTS@@GPU_METHODS@    /// For calls of the C interface; stays owned by this object.
    @N@_handle *handle() const noexcept { return handle_; }

private:
    // The C code between a run and its observer cannot be unwound: what is thrown waits here.
    struct Watch {
        @N@_observer observer = nullptr;
        void *context = nullptr;
        ::std::exception_ptr thrown{};
    };

    static void watched(void *context, ::std::uint32_t step, const void *arena) noexcept {
        Watch *const watch = static_cast<Watch *>(context);
#if defined(__cpp_exceptions)
        if (watch->thrown) {
            return;
        }
        try {
            watch->observer(watch->context, step, arena);
        } catch (...) {
            watch->thrown = ::std::current_exception();
        }
#else
        watch->observer(watch->context, step, arena);
#endif
    }

    [[noreturn]] void fail(@N@_status status) const {
        if (handle_ == nullptr) {
            ::@N@::fail(status, message(status, "the model was moved from"));
        }
        const bool detailed = status == @N@_ERROR_ARGUMENT || status == @N@_ERROR_KERNEL@GPU_DETAILED@;
        ::@N@::fail(status, message(status, detailed ? @N@_last_error(handle_) : ""));
    }

@VARIANTS_PRIVATE@    static ::std::string message(@N@_status status, const char *detail) {
        ::std::string text = ::std::string("@N@: ") + @N@_status_text(status);
        return *detail == '\\0' ? text : text + ": " + detail;
    }

    static void check(const char *role, const char *name, ::std::size_t size, ::std::size_t needed) {
        if (size != needed) {
            ::@N@::fail(@N@_ERROR_ARGUMENT, ::std::string("@N@: ") + role + " '" + name + "' has "
                                                + ::std::to_string(size) + " elements, needs "
                                                + ::std::to_string(needed));
        }
    }

    @N@_handle *handle_ = nullptr;
    ::std::unique_ptr<Watch> watch_{};
};

@GPU_CLASSES@}  // namespace @N@

#endif
"""


def _constants(name: str, tensors: tuple[Tensor, ...], role: str) -> str:
    lines = []
    for index, tensor in enumerate(tensors):
        shape = ", ".join(str(d) for d in tensor.info.shape)
        value_type = f"::{name}::{tensor.type.cpp}" if "Float" in tensor.type.cpp else tensor.type.cpp
        lines.append(
            f"/// {comment_text(tensor.info.name)}: {tensor.info.dtype} {tensor.dimensions}\n"
            f"namespace {role}::{tensor.identifier} {{\n"
            f"using value_type = {value_type};\n"
            f"inline constexpr const char *name = {string_literal(tensor.info.name)};\n"
            f"inline constexpr ::std::size_t index = {index};\n"
            f"inline constexpr ::std::array<::std::int64_t, {len(tensor.info.shape)}> shape{{{{{shape}}}}};\n"
            f"inline constexpr ::std::size_t size = {tensor.elements};\n"
            f"inline constexpr ::std::size_t bytes = {tensor.bytes};\n"
            f"{_count(tensor, tensors)}"
            f"}}  // namespace {role}::{tensor.identifier}\n\n"
        )
    return "".join(lines)


def _count(tensor: Tensor, tensors: tuple[Tensor, ...]) -> str:
    """Where the number of rows is told, if the data says how many there are."""
    count = count_of(tensor, tensors)
    if count is None:
        return ""
    axis, number = count
    return (
        f"/// Rows along this axis are zero from the one on whose number output {number} tells.\n"
        f"inline constexpr ::std::size_t counted_axis = {axis};\n"
        f"inline constexpr ::std::size_t count_index = {number};\n"
    )


def _short(name: str, tensor: Tensor) -> str:
    spelled = tensor.type.cpp.removeprefix("::")
    return f"{name}::{spelled}" if "Float" in spelled else spelled


def header(interface: Interface) -> str:
    """``include/NAME.hpp``: C++17, header only, warning-free with -Wall -Wextra -pedantic."""
    name = interface.name

    def member(role: str, tensor: Tensor) -> str:
        const = "const " if role == "input" else ""
        value_type = f"::{name}::{role}::{tensor.identifier}::value_type"
        return f"    ::{name}::Span<{const}{value_type}> {tensor.identifier}{{}};\n"

    usage = [
        f"//     std::vector<{_short(name, t)}> {t.identifier}({name}::{role}::{t.identifier}::size);\n"
        for role, tensors in (("input", interface.inputs), ("output", interface.outputs))
        for t in tensors[:1]
    ]
    usage.append(f"//     {name}::Inputs inputs;\n")
    usage += [f"//     inputs.{t.identifier} = {t.identifier};\n" for t in interface.inputs[:1]]
    usage.append(f"//     {name}::Outputs outputs;\n")
    usage += [f"//     outputs.{t.identifier} = {t.identifier};\n" for t in interface.outputs[:1]]

    checks = "".join(
        f'        check("{role}", ::{name}::{role}::{t.identifier}::name, {role}s.{t.identifier}.size(), '
        f"::{name}::{role}::{t.identifier}::size);\n"
        for role, tensors in (("input", interface.inputs), ("output", interface.outputs))
        for t in tensors
    )

    def pointers(role: str, tensors: tuple[Tensor, ...]) -> str:
        return ", ".join(f"{role}s.{t.identifier}.data()" for t in tensors) or "nullptr"

    constants = _constants(name, interface.inputs, "input") + _constants(name, interface.outputs, "output")
    return fill(
        _HEADER,
        {
            "N": name,
            "USAGE": "".join(usage),
            "HALF": HALF_CPP,
            "CONSTANTS": constants,
            "INPUT_MEMBERS": "".join(member("input", t) for t in interface.inputs),
            "OUTPUT_MEMBERS": "".join(member("output", t) for t in interface.outputs),
            "CHECKS": generate_variants.checks(interface) if interface.variants else checks,
            "SHAPES": generate_variants.shapes(interface),
            "VARIANTS": generate_variants.methods(interface),
            "VARIANTS_PRIVATE": generate_variants.private_methods(interface),
            "ARENA": generate_arena.arena_class(interface),
            "ARENA_OPTION": generate_arena.option(interface),
            "CREATE": generate_arena.create(interface),
            "INPUT_POINTERS": pointers("input", interface.inputs),
            "OUTPUT_POINTERS": pointers("output", interface.outputs),
            "PROFILE": generate_timers.method(interface),
            **generate_cuda_cpp.parts(interface),
        },
    )
