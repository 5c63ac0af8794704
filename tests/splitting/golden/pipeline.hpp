// A network in 3 parts, cut for snpe:htp.
//
//   0  snpe:htp: AcceleratorPart0, 2 nodes, parts/00-accelerator.onnx
//   1  arm64: packages/mixed_part1, 1 node, parts/01-cpu.onnx
//   2  snpe:htp: AcceleratorPart2, 2 nodes, parts/02-accelerator.onnx
//
// Implement the classes below whose run() is pure, hand them to a Pipeline and call its run().
#ifndef mixed_PIPELINE_HPP_INCLUDED
#define mixed_PIPELINE_HPP_INCLUDED

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace mixed {

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

/// image: float32 1x3x8x8
namespace tensor::image {
using value_type = float;
inline constexpr const char *name = "image";
inline constexpr ::std::array<::std::int64_t, 4> shape{{1, 3, 8, 8}};
inline constexpr ::std::size_t size = 192;
}  // namespace tensor::image

/// alive: float32 1x4x8x8
namespace tensor::alive {
using value_type = float;
inline constexpr const char *name = "alive";
inline constexpr ::std::array<::std::int64_t, 4> shape{{1, 4, 8, 8}};
inline constexpr ::std::size_t size = 256;
}  // namespace tensor::alive

/// smooth: float32 1x4x8x8
namespace tensor::smooth {
using value_type = float;
inline constexpr const char *name = "smooth";
inline constexpr ::std::array<::std::int64_t, 4> shape{{1, 4, 8, 8}};
inline constexpr ::std::size_t size = 256;
}  // namespace tensor::smooth

/// result: float32 1x4x8x8
namespace tensor::result {
using value_type = float;
inline constexpr const char *name = "result";
inline constexpr ::std::array<::std::int64_t, 4> shape{{1, 4, 8, 8}};
inline constexpr ::std::size_t size = 256;
}  // namespace tensor::result

/// Part 0, for snpe:htp: Conv, Relu.
///
/// parts/00-accelerator.onnx is the same as ONNX.
class AcceleratorPart0 {
public:
    struct Inputs {
        /// image: float32 1x3x8x8
        ::mixed::Span<const float> image{};
    };
    struct Outputs {
        /// alive: float32 1x4x8x8
        ::mixed::Span<float> alive{};
    };

    AcceleratorPart0() = default;
    AcceleratorPart0(const AcceleratorPart0 &) = default;
    AcceleratorPart0 &operator=(const AcceleratorPart0 &) = default;
    virtual ~AcceleratorPart0() = default;

    /// Writes every output in full.
    virtual void run(const Inputs &inputs, const Outputs &outputs) = 0;
};

/// Part 2, for snpe:htp: Conv, Relu.
///
/// parts/02-accelerator.onnx is the same as ONNX.
class AcceleratorPart2 {
public:
    struct Inputs {
        /// smooth: float32 1x4x8x8
        ::mixed::Span<const float> smooth{};
    };
    struct Outputs {
        /// result: float32 1x4x8x8
        ::mixed::Span<float> result{};
    };

    AcceleratorPart2() = default;
    AcceleratorPart2(const AcceleratorPart2 &) = default;
    AcceleratorPart2 &operator=(const AcceleratorPart2 &) = default;
    virtual ~AcceleratorPart2() = default;

    /// Writes every output in full.
    virtual void run(const Inputs &inputs, const Outputs &outputs) = 0;
};

/// What the pipeline reads.
struct Inputs {
    /// image: float32 1x3x8x8
    ::mixed::Span<const float> image{};
};

/// What the pipeline writes; each span has exactly the size of its tensor.
struct Outputs {
    /// result: float32 1x4x8x8
    ::mixed::Span<float> result{};
};

/// The parts that the app implements.  They must live as long as the pipeline.
struct Parts {
    ::mixed::AcceleratorPart0 &part0;
    ::mixed::AcceleratorPart2 &part2;
};

/// How the parts on the CPU run.
struct Options {
    /// Threads of each of them; 0: as many as the calling thread may run on.
    ::std::int32_t threads = 0;
};

/// The network: calls its parts in order and owns what lies between them.  One thread at a time may use it.
class Pipeline {
public:
    explicit Pipeline(const Parts &parts, const Options &options = Options());
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

}  // namespace mixed

#endif
