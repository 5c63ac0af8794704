// The C++ interface of a package for several shapes.
#include <several.hpp>

#include <cstdio>
#include <cstdlib>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            std::exit(1); \
        } \
    } while (0)

namespace {

template <typename Function>
std::string thrown(Function &&function) {
    try {
        function();
    } catch (const several::Error &error) {
        CHECK(error.status() == several_ERROR_ARGUMENT);
        return error.what();
    }
    return "";
}

bool has(const std::string &text, const char *part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

int main() {
    several::Model model;
    const float weights[] = {0.5F, -2.0F, 3.25F};
    const std::vector<float> offset{1, 2, 3};
    std::uint32_t number = 0;
    for (const std::int64_t rows : {1, 2, 7}) {
        several::Shapes shapes;
        shapes.x = {rows, 3};  // the other input has one shape in all
        model.set_shapes(shapes);
        CHECK(model.variant() == number++);
        CHECK(model.input_info(0).elements == static_cast<std::size_t>(3 * rows));
        std::vector<float> x(model.input_info(0).elements, 2.0F), y(model.output_info(0).elements);
        several::Inputs inputs;
        inputs.x = x;
        inputs.offset = offset;
        several::Outputs outputs;
        outputs.y = y;
        model.run(inputs, outputs);
        for (std::size_t i = 0; i < y.size(); ++i) {
            CHECK(y[i] == 2.0F * weights[i % 3] + offset[i % 3]);
        }
        std::vector<float> longer(x.size() + 1);
        inputs.x = longer;
        CHECK(has(thrown([&] { model.run(inputs, outputs); }), "'x' has "));
    }
    several::Shapes other;
    other.x = {3, 3};
    CHECK(has(thrown([&] { model.set_shapes(other); }), "x=3x3, offset=3; declared: x=1,2,7x3"));
    other.x = {3};
    CHECK(has(thrown([&] { model.set_shapes(other); }), "declared: x=1,2,7x3"));
    CHECK(has(thrown([&] { model.select(3); }), "no such variant"));
    CHECK(has(thrown([&] { (void)model.input_info(2); }), "no such input"));
    model.select(0);
    CHECK(model.variant() == 0);
    return 0;
}
