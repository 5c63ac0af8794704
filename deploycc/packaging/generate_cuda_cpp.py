"""What the generated C++ of a package for NVIDIA GPUs has besides: device buffers, streams, async runs."""

from __future__ import annotations

from deploycc.packaging.interface import Interface, Tensor
from deploycc.templates import fill

_OPTION = """\
    /// Which GPU, as the driver numbers them.
    ::std::int32_t device = 0;
    /// 1: a run is one launch of a CUDA graph; 2: the same, and steps that do not depend on one another may
    /// run side by side; 0: steps are launched one by one.
    ::std::int32_t graph = 1;
"""

_OPTION_SET = """\
        result.device = device;
        result.graph = graph;
"""

_TYPES = """\
/// A view of elements in the GPU's memory: of a DeviceBuffer, or of a pointer to it that CUDA gave.
template <typename T>
class DeviceSpan {
public:
    constexpr DeviceSpan() noexcept = default;
    constexpr DeviceSpan(T *data, ::std::size_t size) noexcept : data_(data), size_(size) {}
    template <typename U, typename = ::std::enable_if_t<::std::is_convertible_v<U *, T *>>>
    constexpr DeviceSpan(const DeviceSpan<U> &other) noexcept : data_(other.data()), size_(other.size()) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr ::std::size_t size() const noexcept { return size_; }

private:
    T *data_ = nullptr;
    ::std::size_t size_ = 0;
};

/// Inputs in the GPU's memory.
struct DeviceInputs {
@INPUT_MEMBERS@};

/// Outputs in the GPU's memory.
struct DeviceOutputs {
@OUTPUT_MEMBERS@};

/// Throws Error with the handle's text unless all went well.
inline void require(@N@_status status, const @N@_handle *handle) {
    if (status != @N@_OK) {
        const char *const detail = handle == nullptr ? "" : @N@_last_error(handle);
        const char *const between = *detail == '\\0' ? "" : ": ";
        fail(status, ::std::string("@N@: ") + @N@_status_text(status) + between + detail);
    }
}

"""

_METHODS = """\
    /// As run() on the GPU's memory: returns when the run is in the queue of `stream`, a CUstream or
    /// cudaStream_t.
    void run_async(const DeviceInputs &inputs, const DeviceOutputs &outputs, void *stream) {
        (void)inputs;
        (void)outputs;
@CHECKS@        const void *const input_pointers[] = {@INPUT_POINTERS@};
        void *const output_pointers[] = {@OUTPUT_POINTERS@};
        const @N@_status status = @N@_run_async(handle_, input_pointers, output_pointers, stream);
        if (status != @N@_OK) {
            fail(status);
        }
    }

    /// The same in the model's own stream.
    void run_async(const DeviceInputs &inputs, const DeviceOutputs &outputs) {
        run_async(inputs, outputs, stream());
    }

    /// Waits for the last run.  Throws Error: what went wrong in the runs since the last wait.
    void synchronize() {
        const @N@_status status = @N@_synchronize(handle_);
        if (status != @N@_OK) {
            fail(status);
        }
    }

    /// The model's own stream, a CUstream.
    void *stream() const noexcept { return @N@_stream(handle_); }

"""

_CLASSES = """\
/// Elements in the memory of a model's GPU.  The model must live longer.
template <typename T>
class DeviceBuffer {
    static_assert(::std::is_trivially_copyable_v<T>, "the GPU gets the bytes as they are");

public:
    DeviceBuffer(const Model &model, ::std::size_t size) : handle_(model.handle()), size_(size) {
        void *memory = nullptr;
        require(@N@_device_malloc(handle_, size * sizeof(T), &memory), handle_);
        data_ = static_cast<T *>(memory);
    }

    /// With the elements of `from` in it.
    DeviceBuffer(const Model &model, Span<const T> from) : DeviceBuffer(model, from.size()) { upload(from); }

    DeviceBuffer(const DeviceBuffer &) = delete;
    DeviceBuffer &operator=(const DeviceBuffer &) = delete;
    DeviceBuffer(DeviceBuffer &&other) noexcept
        : handle_(other.handle_), data_(::std::exchange(other.data_, nullptr)),
          size_(::std::exchange(other.size_, 0)) {}
    DeviceBuffer &operator=(DeviceBuffer &&other) noexcept {
        ::std::swap(handle_, other.handle_);
        ::std::swap(data_, other.data_);
        ::std::swap(size_, other.size_);
        return *this;
    }
    ~DeviceBuffer() { (void)@N@_device_free(handle_, data_); }

    /// Copies behind the model's last run; return when the elements are there.
    void upload(Span<const T> from) {
        check(from.size());
        require(@N@_copy_to_device(handle_, data_, from.data(), size_ * sizeof(T)), handle_);
    }
    void download(Span<T> to) const {
        check(to.size());
        require(@N@_copy_from_device(handle_, to.data(), data_, size_ * sizeof(T)), handle_);
    }

    T *data() const noexcept { return data_; }
    ::std::size_t size() const noexcept { return size_; }
    operator DeviceSpan<T>() const noexcept { return {data_, size_}; }
    operator DeviceSpan<const T>() const noexcept { return {data_, size_}; }

private:
    void check(::std::size_t size) const {
        if (size != size_) {
            fail(@N@_ERROR_ARGUMENT, "@N@: a copy of " + ::std::to_string(size) + " elements and a buffer of "
                                         + ::std::to_string(size_));
        }
    }

    @N@_handle *handle_;
    T *data_ = nullptr;
    ::std::size_t size_ = 0;
};

/// A stream of a model's GPU.  The model must live longer.
class Stream {
public:
    explicit Stream(const Model &model) : handle_(model.handle()) {
        require(@N@_stream_create(handle_, &stream_), handle_);
    }

    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;
    Stream(Stream &&other) noexcept
        : handle_(other.handle_), stream_(::std::exchange(other.stream_, nullptr)) {}
    Stream &operator=(Stream &&other) noexcept {
        ::std::swap(handle_, other.handle_);
        ::std::swap(stream_, other.stream_);
        return *this;
    }
    ~Stream() { (void)@N@_stream_destroy(handle_, stream_); }

    /// Waits for all that is in its queue.
    void synchronize() { require(@N@_stream_synchronize(handle_, stream_), handle_); }

    /// A CUstream, for Model::run_async and CUDA's own functions.
    void *get() const noexcept { return stream_; }

private:
    @N@_handle *handle_;
    void *stream_ = nullptr;
};

"""

_NAMES = ("OPTION", "OPTION_SET", "TYPES", "METHODS", "DETAILED", "CLASSES")


def parts(interface: Interface) -> dict[str, str]:
    """What stands at the places ``GPU_...`` of ``NAME.hpp``: nothing for a package without GPUs."""
    if not interface.gpus:
        return {f"GPU_{name}": "" for name in _NAMES}
    name = interface.name
    roles = (("input", interface.inputs), ("output", interface.outputs))
    checks = "".join(
        f'        check("{role}", ::{name}::{role}::{t.identifier}::name, {role}s.{t.identifier}.size(), '
        f"::{name}::{role}::{t.identifier}::size);\n"
        for role, tensors in roles
        for t in tensors
    )
    values = {"N": name, "CHECKS": checks}
    for role, tensors in roles:
        values[f"{role.upper()}_MEMBERS"] = "".join(_member(name, role, tensor) for tensor in tensors)
        pointers = ", ".join(f"{role}s.{tensor.identifier}.data()" for tensor in tensors)
        values[f"{role.upper()}_POINTERS"] = pointers or "nullptr"
    return {
        "GPU_OPTION": _OPTION,
        "GPU_OPTION_SET": _OPTION_SET,
        "GPU_TYPES": fill(_TYPES, values),
        "GPU_METHODS": fill(_METHODS, values),
        "GPU_DETAILED": f" || status == {name}_ERROR_MEMORY || status >= {name}_ERROR_NO_DRIVER",
        "GPU_CLASSES": fill(_CLASSES, values),
    }


def _member(name: str, role: str, tensor: Tensor) -> str:
    const = "const " if role == "input" else ""
    value_type = f"::{name}::{role}::{tensor.identifier}::value_type"
    return f"    ::{name}::DeviceSpan<{const}{value_type}> {tensor.identifier}{{}};\n"
