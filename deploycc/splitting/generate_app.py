"""``CMakeLists.txt`` and ``main.cpp``: an app whose own parts play back what was recorded."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.identifiers import comment_text
from deploycc.splitting.generate_header import as_tensor
from deploycc.splitting.parts import Part
from deploycc.splitting.pipeline import GOLDEN, Pipeline, interface_name
from deploycc.templates import fill

_CMAKE = """\
# cmake -S . -B build && cmake --build build && build/@N@_example
cmake_minimum_required(VERSION 3.16)
project(@N@_pipeline LANGUAGES C CXX)

@PACKAGES@add_library(@N@_pipeline STATIC @SOURCES@)
target_compile_features(@N@_pipeline PUBLIC cxx_std_17)
target_include_directories(@N@_pipeline PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}")
@LINK@
add_executable(@N@_example main.cpp)
target_compile_definitions(@N@_example PRIVATE GOLDEN_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}/@GOLDEN@")
target_link_libraries(@N@_example PRIVATE @N@_pipeline)
"""

_PACKAGE = """\
find_package(@P@ REQUIRED CONFIG
  PATHS "${CMAKE_CURRENT_SOURCE_DIR}/packages/@P@" NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
"""

_MAIN = """\
// Runs the pipeline on recorded inputs and compares with recorded outputs.
//   @N@_example [golden folder]
// The parts of the app only play back what ONNX Runtime computed: put your own in their place.
#include "pipeline.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <type_traits>

namespace {

std::string golden = GOLDEN_FOLDER;
bool good = true;

template <typename T>
[[maybe_unused]] void load(const std::string &file, T *values, std::size_t size) {
    const std::string path = golden + "/" + file + ".bin";
    std::ifstream stream(path, std::ios::binary);
    stream.read(reinterpret_cast<char *>(values), static_cast<std::streamsize>(size * sizeof(T)));
    if (!stream || stream.peek() != std::ifstream::traits_type::eof()) {
        throw std::runtime_error(path + " is missing or has the wrong size");
    }
}

template <typename T>
[[maybe_unused]] void load(const std::string &file, @N@::Tensor<T> &tensor) {
    const std::string path = golden + "/" + file + ".shape";
    std::ifstream stream(path);
    std::size_t rank = 0;
    if (!(stream >> rank)) {
        throw std::runtime_error(path + " is missing");
    }
    std::vector<std::int64_t> shape(rank);
    for (std::int64_t &extent : shape) {
        stream >> extent;
    }
    tensor.resize(shape);
    load(file, tensor.data.data(), tensor.data.size());
}

template <typename T>
[[maybe_unused]] double number(T value) {
    if constexpr (std::is_arithmetic_v<T>) {
        return static_cast<double>(value);
    } else {
        return static_cast<double>(to_float(value));
    }
}

// Says how far a tensor is from its record; `tolerance` is over its largest value, 0 asks for the same bytes.
template <typename T>
[[maybe_unused]] void compare(const char *where, const char *name, const T *got, std::size_t size,
                              const std::string &file, double tolerance) {
    std::vector<T> expected(size);
    load(file, expected.data(), size);
    double error = 0.0;
    double largest = 0.0;
    for (std::size_t i = 0; i < size; ++i) {
        const double a = number(got[i]);
        const double b = number(expected[i]);
        largest = std::isfinite(b) ? std::fmax(largest, std::fabs(b)) : largest;
        if (a == b || (std::isnan(a) && std::isnan(b))) {
            continue;
        }
        error = std::isfinite(a - b) ? std::fmax(error, std::fabs(a - b)) : INFINITY;
    }
    const bool close = error <= tolerance * largest;
    good = good && close;
    std::printf("%s %s: %zu elements, max error %.3g, largest value %.3g, %s\\n", where, name, size, error,
                largest, close ? "ok" : "MISMATCH");
}

template <typename T>
[[maybe_unused]] void compare(const char *where, const char *name, const @N@::Tensor<T> &tensor,
                              const std::string &file, double tolerance) {
    @N@::Tensor<T> expected;
    load(file, expected);
    if (expected.shape != tensor.shape) {
        std::printf("%s %s: MISMATCH, another shape\\n", where, name);
        good = false;
        return;
    }
    compare(where, name, tensor.data.data(), tensor.data.size(), file, tolerance);
}

@CLASSES@}  // namespace

int main(int argc, char **argv) try {
    golden = argc > 1 ? argv[1] : golden;
@OBJECTS@    @N@::Pipeline pipeline(@N@::Parts{@GIVEN@});

@LOAD@    @N@::Inputs inputs{@INPUTS@};
    @N@::Outputs outputs{@OUTPUTS@};
    pipeline.run(inputs, outputs);
@COMPARE@    return good ? 0 : 1;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\\n", error.what());
    return 2;
}
"""

_CLASS = """\
// @WHAT@
class Recorded@NUMBER@ : public @N@::@CLASS@ {
public:
    void run(const Inputs &inputs, const Outputs &outputs) override {
        (void)inputs;
        (void)outputs;
@BODY@    }
};

"""

TOLERANCES = {"float32": 1e-4, "float64": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference from a record, over its largest value; other types must be equal.

Those of a package's own example: what a package computed lies behind it.
"""


def cmake(pipeline: Pipeline, sources: Sequence[str] = ("pipeline.cpp",)) -> str:
    """The text of ``CMakeLists.txt``; ``sources`` make the library of the pipeline."""
    names = [package.name for package in pipeline.packages.values()]
    found = "".join(fill(_PACKAGE, {"P": name}) for name in names)
    linked = " ".join(f"{name}::{name}" for name in names)
    return fill(
        _CMAKE,
        {
            "N": pipeline.name,
            "PACKAGES": f"{found}\n" if names else "",
            "LINK": f"target_link_libraries({pipeline.name}_pipeline PRIVATE {linked})\n" if names else "",
            "GOLDEN": GOLDEN,
            "SOURCES": " ".join(sources),
        },
    )


def main(pipeline: Pipeline) -> str:
    """The text of ``main.cpp``: exit 0, 1 where a tensor differs from its record, 2 for errors."""
    cut, parts = pipeline.cut, pipeline.app_parts()
    load, inputs, outputs, compare = [], [], [], []
    for number, name in enumerate(cut.inputs):
        load.append(
            f"    std::vector<{_element(pipeline, name)}> input_{number}({_size(pipeline, name)});\n"
            f'    load("{pipeline.files[name]}", input_{number}.data(), input_{number}.size());\n'
        )
        inputs.append(f"input_{number}")
    for number, name in enumerate(cut.outputs):
        variable = f"output_{number}"
        if as_tensor(pipeline.tensor(name), True):
            load.append(f"    {pipeline.name}::Tensor<{_element(pipeline, name)}> {variable};\n")
        else:
            load.append(f"    std::vector<{_element(pipeline, name)}> {variable}({_size(pipeline, name)});\n")
        outputs.append(variable)
        compare.append(f"    {_compare(pipeline, name, 'output', variable, exact=True)}")
    return fill(
        _MAIN,
        {
            "N": pipeline.name,
            "CLASSES": "".join(_class(pipeline, part) for part in parts),
            "OBJECTS": "".join(f"    Recorded{part.number} part_{part.number};\n" for part in parts),
            "GIVEN": ", ".join(f"part_{part.number}" for part in parts),
            "LOAD": "".join(load),
            "INPUTS": ", ".join(inputs),
            "OUTPUTS": ", ".join(outputs),
            "COMPARE": "".join(compare),
        },
    )


def _class(pipeline: Pipeline, part: Part) -> str:
    host = part.place == "host"
    body = []
    for name in part.inputs:
        place = f"inputs.{pipeline.identifiers[name]}"
        body.append(f"        {_compare(pipeline, name, f'part {part.number} reads', place, exact=host)}")
    for name in part.outputs:
        place, file = f"outputs.{pipeline.identifiers[name]}", recorded_file(pipeline, name, exact=host)
        if as_tensor(pipeline.tensor(name), host):
            body.append(f'        load("{file}", {place});\n')
        else:
            body.append(f'        load("{file}", {place}.data(), {place}.size());\n')
    where = "the app" if host else pipeline.target
    return fill(
        _CLASS,
        {
            "WHAT": comment_text(f"Here runs parts/{part.stem}.onnx, on {where}."),
            "NUMBER": str(part.number),
            "N": pipeline.name,
            "CLASS": interface_name(part),
            "BODY": "".join(body),
        },
    )


def recorded_file(pipeline: Pipeline, name: str, *, exact: bool) -> str:
    """The stem of a tensor's record: that of its true extents, or of those filled up to the most."""
    padded = pipeline.tensor(name).kind == "bounded" and not exact
    return pipeline.files[name] + ("-most" if padded else "")


def _compare(pipeline: Pipeline, name: str, where: str, place: str, *, exact: bool) -> str:
    tensor = pipeline.tensor(name)
    file = recorded_file(pipeline, name, exact=exact)
    constant = f"{pipeline.name}::tensor::{pipeline.identifiers[name]}::name"
    given = place if as_tensor(tensor, exact) else f"{place}.data(), {place}.size()"
    tolerance = TOLERANCES.get(tensor.dtype, 0.0)
    return f'compare("{where}", {constant}, {given}, "{file}", {tolerance!r});\n'


def _element(pipeline: Pipeline, name: str) -> str:
    return f"{pipeline.name}::tensor::{pipeline.identifiers[name]}::value_type"


def _size(pipeline: Pipeline, name: str) -> str:
    return f"{pipeline.name}::tensor::{pipeline.identifiers[name]}::size"
