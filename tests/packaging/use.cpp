// Uses the package `tiny` from C++17 (and from C++20, where std::span is there).
#include <tiny.hpp>
#include <tiny.hpp>  // twice is fine

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#if __cplusplus >= 202002L
#include <span>
#endif

#define CHECK(condition)                                          \
    do {                                                          \
        if (!(condition)) {                                       \
            std::fprintf(stderr, "%d: %s\n", __LINE__, #condition); \
            std::exit(1);                                         \
        }                                                         \
    } while (0)

static_assert(tiny::input::x::size == 1000 && tiny::input::x::bytes == 4000 && tiny::input::x::index == 0);
static_assert(tiny::output::y::shape[0] == 1 && tiny::output::y::shape[1] == 1000);
static_assert(tiny::output::copy::index == 1);
static_assert(std::is_same_v<tiny::output::y::value_type, float>);
static_assert(!std::is_copy_constructible_v<tiny::Model> && std::is_nothrow_move_constructible_v<tiny::Model>);
// What may not become a span: another element type, a constant where results go, a temporary.
static_assert(!std::is_constructible_v<tiny::Span<float>, std::vector<double> &>);
static_assert(!std::is_constructible_v<tiny::Span<float>, const std::vector<float> &>);
static_assert(!std::is_constructible_v<tiny::Span<float>, std::vector<float> &&>);
static_assert(!std::is_constructible_v<tiny::Span<const float>, std::vector<float>>);
static_assert(!std::is_constructible_v<tiny::Span<const float>, std::array<float, 1000>>);
static_assert(std::is_constructible_v<tiny::Span<const float>, const std::vector<float> &>);
static_assert(std::is_constructible_v<tiny::Span<const float>, tiny::Span<float>>);
static_assert(!std::is_constructible_v<tiny::Span<float>, tiny::Span<const float>>);
#if __cplusplus >= 202002L
static_assert(std::is_constructible_v<tiny::Span<const float>, std::span<float>>);
static_assert(!std::is_constructible_v<tiny::Span<float>, std::span<const float>>);
#endif

static bool right(const float *x, const float *y) {
    for (int i = 0; i < 1000; ++i) {
        if (std::fabs(y[i] - (std::tanh(x[i] * (-0.5 + i / 999.0)) + 1.0)) > 1e-5) {
            return false;
        }
    }
    return true;
}

template <typename Action>
static std::string error_of(Action action, tiny_status status) {
    try {
        action();
    } catch (const tiny::Error &error) {
        CHECK(error.status() == status);
        return error.what();
    }
    return "no error";
}

int main() {
    std::vector<float> x(tiny::input::x::size, 0.25f);
    std::array<float, tiny::output::y::size> y{};
    static float copy[1000];
    tiny::Inputs inputs;
    inputs.x = x;
    tiny::Outputs outputs{y, copy};

    tiny::Options options;
    options.threads = 2;
    tiny::Model first(options);
    CHECK(first.threads() == 2);
    CHECK(tiny::Model({/*threads=*/3}).threads() == 3);  // as the header's own example has it
    first.run(inputs, outputs);
    CHECK(right(x.data(), y.data()) && copy[999] == 0.25f);
    tiny::Model second(std::move(first));
    first = tiny::Model();
    tiny::Model third;
    third = std::move(second);
    third.run({{x.data(), x.size()}}, {{y.data(), y.size()}, {copy, 1000}});
    CHECK(right(x.data(), y.data()));
    first.run(inputs, outputs);
#if __cplusplus >= 202002L
    const std::span<const float> view(x);
    inputs.x = view;
    inputs.x = std::span<const float>(x);
    outputs.y = std::span<float>(y);
    first.run(inputs, outputs);
#endif

    x.resize(10);
    inputs.x = x;
    std::string text = error_of([&] { first.run(inputs, outputs); }, tiny_ERROR_ARGUMENT);
    CHECK(text == "tiny: input 'x' has 10 elements, needs 1000");
    text = error_of([&] { first.run({}, outputs); }, tiny_ERROR_ARGUMENT);
    CHECK(text == "tiny: input 'x' has 0 elements, needs 1000");
    x.assign(1000, -1.0f);
    inputs.x = x;
    text = error_of([&] { first.run(inputs, outputs); }, tiny_ERROR_KERNEL);
    CHECK(text == "tiny: a kernel failed: step 0 of 4, k_check, returned -7");
    inputs.x = y;
    text = error_of([&] { first.run(inputs, outputs); }, tiny_ERROR_ARGUMENT);
    CHECK(text == "tiny: bad argument: output 'y' overlaps input 'x'");
    options.threads = 5000;
    text = error_of([&] { tiny::Model never(options); }, tiny_ERROR_ARGUMENT);
    CHECK(text == "tiny: bad argument: options.threads is 5000, not 0 to 1024");

    options.threads = 1;
    void *memory = std::aligned_alloc(64, tiny::memory_bytes(options));
    options.memory = memory;
    options.memory_bytes = tiny::memory_bytes(options);
    {
        tiny::Model own(options);
        x.assign(1000, 1.0f);
        inputs.x = x;
        own.run(inputs, outputs);
        CHECK(right(x.data(), y.data()));
    }
    std::free(memory);
    tiny::Model moved_from(std::move(first));
    text = error_of([&] { first.run(inputs, outputs); }, tiny_ERROR_ARGUMENT);
    CHECK(text == "tiny: bad argument: the model was moved from");

    // float16: exact both ways over all values, and rounding to nearest even.
    for (unsigned bits = 0; bits < 0x10000u; ++bits) {
        const tiny::Float16 half{static_cast<std::uint16_t>(bits)};
        const float wide = tiny::to_float(half);
        if (!std::isnan(wide)) {
            CHECK(tiny::to_float16(wide).bits == bits);
        } else {
            CHECK(std::isnan(tiny::to_float(tiny::to_float16(wide))));
        }
    }
    CHECK(tiny::to_float(tiny::Float16{0x3555}) == 0x1.554p-2f && tiny::to_float(tiny::Float16{1}) == 0x1p-24f);
    CHECK(tiny::to_float16(0x1.002p0f).bits == 0x3c00 && tiny::to_float16(0x1.006p0f).bits == 0x3c02);
    CHECK(tiny::to_float16(65519.0f).bits == 0x7bff && tiny::to_float16(65520.0f).bits == 0x7c00);
    CHECK(tiny::to_float16(0x1p-25f).bits == 0 && tiny::to_float16(0x1.8p-25f).bits == 1);
    CHECK(tiny::to_float(tiny::BFloat16{0x3fc0}) == 1.5f);
    return 0;
}
