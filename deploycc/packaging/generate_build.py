"""CMake package, pkg-config file and the example app of a package."""

from __future__ import annotations

from deploycc.packaging.interface import ABI_VERSION, Interface
from deploycc.packaging.toolchain import SHARED_RUNTIME_NAME
from deploycc.templates import fill
from deploycc.tolerances import precision_tolerance

_CONFIG_HEAD = """\
# find_package(@N@ CONFIG) gives the imported target @N@::@N@; works wherever the package lies.
get_filename_component(_@N@_root "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
"""

_CONFIG_SHARED = """\
if(NOT TARGET @N@::@N@)
  add_library(@N@::@N@ SHARED IMPORTED)
  set_target_properties(@N@::@N@ PROPERTIES
    IMPORTED_LOCATION "${_@N@_root}/lib/lib@N@.so"
    IMPORTED_SONAME "lib@N@.so"
    INTERFACE_INCLUDE_DIRECTORIES "${_@N@_root}/include")
@RT@endif()
unset(_@N@_root)
"""

_CONFIG_STATIC = """\
include(CMakeFindDependencyMacro)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_dependency(Threads)
if(NOT TARGET @N@::@N@)
  add_library(@N@::@N@ STATIC IMPORTED)
  set_target_properties(@N@::@N@ PROPERTIES
    IMPORTED_LOCATION "${_@N@_root}/lib/lib@N@.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES "C"
    INTERFACE_INCLUDE_DIRECTORIES "${_@N@_root}/include"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;m@DL@")
@RT@endif()
unset(_@N@_root)
"""

# One runtime for all networks of an app: the first package that is found brings it.
_CONFIG_RUNTIME = """\
  if(NOT TARGET deploycc::rt)
    add_library(deploycc::rt SHARED IMPORTED)
    set_target_properties(deploycc::rt PROPERTIES
      IMPORTED_LOCATION "${_@N@_root}/lib/@SO@"
      IMPORTED_SONAME "@SO@")
  endif()
  set_property(TARGET @N@::@N@ APPEND PROPERTY INTERFACE_LINK_LIBRARIES deploycc::rt)
"""

_CONFIG_SOURCES = """\
# The library is built here, by the app's own toolchain, from object code and C.
if(NOT TARGET @N@::@N@)
  add_subdirectory("${_@N@_root}/src" "${CMAKE_CURRENT_BINARY_DIR}/@N@-library")
endif()
unset(_@N@_root)
"""

_SOURCES_LISTS = """\
# Builds lib@N@ from the compiled kernels, the weights and the C sources beside this file, for
# instance with the Android NDK:
#   cmake -S src -B build -DANDROID_ABI=arm64-v8a \\
#         -DCMAKE_TOOLCHAIN_FILE=$NDK/build/cmake/android.toolchain.cmake
cmake_minimum_required(VERSION 3.16)
project(@N@ LANGUAGES C ASM)

add_library(@N@ @KIND@
  @N@.c
  @N@_weights.S
  @SOURCES@
  "${CMAKE_CURRENT_SOURCE_DIR}/../lib/@N@_kernels.o")
add_library(@N@::@N@ ALIAS @N@)
set_source_files_properties("${CMAKE_CURRENT_SOURCE_DIR}/../lib/@N@_kernels.o" PROPERTIES
  EXTERNAL_OBJECT TRUE)
set_source_files_properties(@N@_weights.S PROPERTIES
  COMPILE_OPTIONS "-I${CMAKE_CURRENT_SOURCE_DIR}"
  OBJECT_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/@N@_weights.bin")
set_target_properties(@N@ PROPERTIES
  C_STANDARD 11
  C_EXTENSIONS OFF
  C_VISIBILITY_PRESET hidden
  POSITION_INDEPENDENT_CODE ON
  LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/@N@.map")
target_compile_options(@N@ PRIVATE $<$<COMPILE_LANGUAGE:C>:-O2 -fno-strict-aliasing>)
target_include_directories(@N@ PUBLIC "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/../include>"
  PRIVATE runtime)
@DEBUG@target_link_options(@N@ PRIVATE
  "-Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/@N@.map"
  -Wl,--gc-sections -Wl,-z,defs -Wl,-z,noexecstack)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
target_link_libraries(@N@ PRIVATE Threads::Threads m)
install(TARGETS @N@ LIBRARY DESTINATION lib ARCHIVE DESTINATION lib)
"""

_CONFIG_VERSION = """\
set(PACKAGE_VERSION "@ABI@.0")
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION STREQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
# Empty where no language is enabled yet.
if(CMAKE_SIZEOF_VOID_P AND NOT CMAKE_SIZEOF_VOID_P EQUAL @POINTER@)
  set(PACKAGE_VERSION "${PACKAGE_VERSION} (@BITS@ bit)")
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
"""

_PKG_CONFIG = """\
prefix=${pcfiledir}/../..
libdir=${prefix}/lib
includedir=${prefix}/include

Name: @N@
Description: Neural network compiled by deploycc
Version: @ABI@.0
Cflags: -I${includedir}
Libs: -L${libdir} -l@N@@EXTRA@
"""

_EXAMPLE_LISTS = """\
# cmake -S example -B build && cmake --build build && build/@N@_example
cmake_minimum_required(VERSION 3.16)
project(@N@_example LANGUAGES @LANGUAGES@)

# The package this example lies in; an app elsewhere sets @N@_DIR or CMAKE_PREFIX_PATH instead.
find_package(@N@ REQUIRED CONFIG
  PATHS "${CMAKE_CURRENT_SOURCE_DIR}/.." NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)

add_executable(@N@_example main.cpp)
target_compile_features(@N@_example PRIVATE cxx_std_17)
target_compile_definitions(@N@_example PRIVATE
  GOLDEN_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}/../share/@N@/golden")
target_link_libraries(@N@_example PRIVATE @N@::@N@)
"""

_EXAMPLE_MAIN = """\
// Runs the network on the package's golden inputs and compares with its golden outputs.
//   @N@_example [golden folder] [threads]
#include <@N@.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace {

template <typename T>
std::vector<T> load(const std::string &path, std::size_t size) {
    std::vector<T> values(size);
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char *>(values.data()), static_cast<std::streamsize>(size * sizeof(T)));
    if (!file || file.peek() != std::ifstream::traits_type::eof()) {
        throw std::runtime_error(path + " is missing or has the wrong size");
    }
    return values;
}

template <typename T>
double number(T value) {
    if constexpr (std::is_arithmetic_v<T>) {
        return static_cast<double>(value);
    } else {
        return static_cast<double>(to_float(value));
    }
}

// Largest difference against `tolerance` times the largest expected magnitude; 0 asks for equality.
template <typename T>
bool close(const char *name, const std::vector<T> &got, const std::vector<T> &expected, double tolerance) {
    double error = 0.0;
    double largest = 0.0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double a = number(got[i]);
        const double b = number(expected[i]);
        if (a == b || (std::isnan(a) && std::isnan(b))) {
            largest = std::isfinite(b) ? std::max(largest, std::fabs(b)) : largest;
            continue;
        }
        const double difference = std::fabs(a - b);
        error = std::isnan(difference) ? INFINITY : std::max(error, difference);
        largest = std::isfinite(b) ? std::max(largest, std::fabs(b)) : largest;
    }
    const bool good = error <= tolerance * largest;
    const char *verdict = good ? "ok" : "MISMATCH";
    std::printf("%s: max error %.3g, largest value %.3g, %s\\n", name, error, largest, verdict);
    return good;
}

}  // namespace

int main(int argc, char **argv) try {
    const std::string golden = argc > 1 ? argv[1] : GOLDEN_FOLDER;
    @N@::Options options;
    options.threads = argc > 2 ? std::atoi(argv[2]) : 1;
    @N@::Model model(options);
@GPU@
@LOAD@
    @N@::Inputs inputs;
@BIND_INPUTS@    @N@::Outputs outputs;
@BIND_OUTPUTS@
    model.run(inputs, outputs);

    bool good = true;
@COMPARE@
    std::vector<double> milliseconds;
    for (int round = 0; round < 20; ++round) {
        const auto start = std::chrono::steady_clock::now();
        model.run(inputs, outputs);
        const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
        milliseconds.push_back(taken.count());
    }
    std::sort(milliseconds.begin(), milliseconds.end());
    std::printf("time: %.3f ms median of %zu, %d thread(s)\\n", milliseconds[milliseconds.size() / 2],
                milliseconds.size(), static_cast<int>(model.threads()));
    return good ? 0 : 1;
@CATCH@} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\\n", error.what());
    return 2;
}
"""

_EXAMPLE_GPU = """\
    @N@_gpu gpu;
    if (@N@_device_info(options.device, &gpu) == @N@_OK) {
        const int processors = static_cast<int>(gpu.processors);
        std::printf("device: %s, %d processors, %s\\n", gpu.name, processors, gpu.kernels);
    }
"""

_EXAMPLE_CATCH = """\
} catch (const @N@::Error &error) {
    std::fprintf(stderr, "%s\\n", error.what());
    const bool no_gpu = error.status() == @N@_ERROR_NO_DRIVER || error.status() == @N@_ERROR_NO_DEVICE
                        || error.status() == @N@_ERROR_NO_KERNELS;
    return no_gpu ? 77 : 2;  // 77: skipped, for test harnesses
"""

TOLERANCES = {"float32": 1e-4, "float64": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference from the golden output, over its largest value; other types must be equal."""


def tolerance_of(dtype: str, precision: str = "fp32", measured: float = 0.0) -> float | None:
    """Of an output that ``precision`` was measured to cost so much; ``None`` where it must be equal."""
    plain = TOLERANCES.get(dtype)
    if plain is None or precision == "fp32":
        return plain
    return float(f"{plain + precision_tolerance(precision, measured):.3g}")


def _runtime_block(interface: Interface) -> str:
    if interface.runtime != "shared":
        return ""
    return fill(_CONFIG_RUNTIME, {"N": interface.name, "SO": SHARED_RUNTIME_NAME})


def cmake_config(interface: Interface) -> str:
    """``NAMEConfig.cmake``, relocatable."""
    values = {
        "N": interface.name,
        "RT": _runtime_block(interface),
        "DL": ";${CMAKE_DL_LIBS}" if interface.gpus else "",
    }
    if not interface.linked:
        return fill(_CONFIG_HEAD + _CONFIG_SOURCES, values)
    return fill(_CONFIG_HEAD + (_CONFIG_STATIC if interface.emit == "static" else _CONFIG_SHARED), values)


def cmake_config_version(interface: Interface, pointer_bytes: int) -> str:
    """``NAMEConfigVersion.cmake``: the version is that of the C interface."""
    return fill(
        _CONFIG_VERSION,
        {
            "N": interface.name,
            "ABI": str(ABI_VERSION),
            "POINTER": str(pointer_bytes),
            "BITS": str(8 * pointer_bytes),
        },
    )


def sources_cmake(interface: Interface, sources: tuple[str, ...]) -> str:
    """``src/CMakeLists.txt`` of a package without a linked library; ``sources`` are paths within ``src``."""
    return fill(
        _SOURCES_LISTS,
        {
            "N": interface.name,
            "KIND": "STATIC" if interface.emit == "static" else "SHARED",
            "SOURCES": "\n  ".join(sources),
            "DEBUG": f"target_compile_definitions({interface.name} PRIVATE DCC_DEBUG)\n"
            if interface.debug_runtime
            else "",
        },
    )


def pkg_config(interface: Interface) -> str:
    """``NAME.pc``, relocatable through ``${pcfiledir}``."""
    extra = " -ldeploycc_rt" if interface.runtime == "shared" else ""
    if interface.emit == "static":
        extra += " -lm -pthread -ldl" if interface.gpus else " -lm -pthread"
    return fill(_PKG_CONFIG, {"N": interface.name, "ABI": str(ABI_VERSION), "EXTRA": extra})


def example_cmake(interface: Interface) -> str:
    """``example/CMakeLists.txt``."""
    languages = "CXX" if interface.linked and interface.emit == "shared" else "C CXX"
    return fill(_EXAMPLE_LISTS, {"N": interface.name, "LANGUAGES": languages})


def example_main(interface: Interface) -> str:
    """``example/main.cpp``: golden inputs in, comparison and time out; exit 0, 1 mismatch, 2 error."""
    name = interface.name
    loads, bind_inputs, bind_outputs, compare = [], [], [], []
    for index, tensor in enumerate(interface.inputs):
        scope = f"{name}::input::{tensor.identifier}"
        loads.append(
            f"    auto input_{index} ="
            f' load<{scope}::value_type>(golden + "/input_{index}.bin", {scope}::size);\n'
        )
        bind_inputs.append(f"    inputs.{tensor.identifier} = input_{index};\n")
    errors = interface.rounding or (0.0,) * len(interface.outputs)
    for index, (tensor, error) in enumerate(zip(interface.outputs, errors, strict=True)):
        scope = f"{name}::output::{tensor.identifier}"
        loads.append(f"    std::vector<{scope}::value_type> output_{index}({scope}::size);\n")
        loads.append(
            f"    const auto expected_{index} ="
            f' load<{scope}::value_type>(golden + "/output_{index}.bin", {scope}::size);\n'
        )
        bind_outputs.append(f"    outputs.{tensor.identifier} = output_{index};\n")
        tolerance = tolerance_of(tensor.info.dtype, interface.precision, error) or 0.0
        compare.append(
            f"    good = close({scope}::name, output_{index}, expected_{index}, {tolerance!r}) && good;\n"
        )
    return fill(
        _EXAMPLE_MAIN,
        {
            "N": name,
            "LOAD": "".join(loads),
            "BIND_INPUTS": "".join(bind_inputs),
            "BIND_OUTPUTS": "".join(bind_outputs),
            "COMPARE": "".join(compare),
            "GPU": fill(_EXAMPLE_GPU, {"N": name}) if interface.gpus else "",
            "CATCH": fill(_EXAMPLE_CATCH, {"N": name}) if interface.gpus else "",
        },
    )
