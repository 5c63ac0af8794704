"""``pipeline.h`` and ``pipeline_c.cpp``: a pipeline from C, its other parts as callbacks."""

from __future__ import annotations

import math

from deploycc.element_types import ELEMENT_TYPES
from deploycc.identifiers import comment_text
from deploycc.splitting.generate_header import part_lines, shown
from deploycc.splitting.parts import Part
from deploycc.splitting.pipeline import Pipeline, interface_name
from deploycc.templates import fill

_HEADER = """\
/* @TITLE@
 *
@PARTS@ *
@TENSORS@ *
 * Fill a @N@_parts, make a pipeline of it and run it.  It is C over pipeline.hpp: link the C++ runtime too.
 * One thread at a time may use a pipeline.
 */
#ifndef @N@_PIPELINE_H_INCLUDED
#define @N@_PIPELINE_H_INCLUDED

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A part that the app runs: writes every output in full, and returns 0, or what @N@_pipeline_run is to fail
 * with.  Pointers in the order below, to packed tensors in row-major order. */
typedef int (*@N@_part)(void *context, const void *const *inputs, void *const *outputs);

typedef struct @N@_parts {
@MEMBERS@} @N@_parts;

typedef enum @N@_pipeline_status {
    @N@_PIPELINE_OK = 0,
    @N@_PIPELINE_ERROR_ARGUMENT = 1, /* a pointer that is NULL */
    @N@_PIPELINE_ERROR_PART = 2,     /* a part of the app returned something else than 0 */
    @N@_PIPELINE_ERROR_PACKAGE = 3,  /* a package failed; @N@_pipeline_last_error says how */
    @N@_PIPELINE_ERROR_MEMORY = 4
} @N@_pipeline_status;

typedef struct @N@_pipeline @N@_pipeline;

/* threads: of each part on the CPU; 0: as many as the calling thread may run on.  parts is copied.  On
 * failure *pipeline is NULL, and @N@_pipeline_last_error(NULL) tells why, on this thread. */
@N@_pipeline_status @N@_pipeline_create(const @N@_parts *parts, int32_t threads, @N@_pipeline **pipeline);

@N@_pipeline_status @N@_pipeline_run(@N@_pipeline *pipeline, const void *const *inputs, void *const *outputs);

/* NULL is fine. */
void @N@_pipeline_destroy(@N@_pipeline *pipeline);

/* Text of the last error, "" if there was none; valid until the next call. */
const char *@N@_pipeline_last_error(const @N@_pipeline *pipeline);

#ifdef __cplusplus
}
#endif

#endif
"""

_SOURCE = """\
// The C interface of pipeline.h over the C++ one of pipeline.hpp.  No exception leaves it.
#include "pipeline.h"

#include "pipeline.hpp"

#include <new>
#include <string>

namespace {

// What the app's part returned, on its way out of the pipeline.
class PartFailed : public std::runtime_error {
public:
    PartFailed(int number, int status)
        : std::runtime_error("part " + std::to_string(number) + " returned " + std::to_string(status)) {}
};

[[maybe_unused]] void require(int number, int status) {
    if (status != 0) {
        throw PartFailed(number, status);
    }
}

@ADAPTERS@thread_local std::string create_error;

template <typename Function>
@N@_pipeline_status guarded(std::string &error, Function &&function) noexcept {
    try {
        error.clear();
        function();
        return @N@_PIPELINE_OK;
    } catch (const std::bad_alloc &) {
        return @N@_PIPELINE_ERROR_MEMORY;
    } catch (const PartFailed &failed) {
        error = failed.what();
        return @N@_PIPELINE_ERROR_PART;
    } catch (const std::exception &failed) {
        error = failed.what();
        return @N@_PIPELINE_ERROR_PACKAGE;
    } catch (...) {
        error = "an exception of unknown type";
        return @N@_PIPELINE_ERROR_PART;
    }
}

}  // namespace

struct @N@_pipeline {
    @N@_pipeline(const @N@_parts &parts, const ::@N@::Options &options)
        : given(parts), pipeline(::@N@::Parts{@GIVEN@}, options) {
        (void)given;
    }

    @N@_parts given;
@OBJECTS@    ::@N@::Pipeline pipeline;
    std::string error{};
};

extern "C" @N@_pipeline_status @N@_pipeline_create(const @N@_parts *parts, int32_t threads,
                                                   @N@_pipeline **pipeline) {
    if (pipeline != nullptr) {
        *pipeline = nullptr;
    }
    if (parts == nullptr || pipeline == nullptr@MISSING@) {
        create_error = "parts, a part's function or the place for the pipeline is NULL";
        return @N@_PIPELINE_ERROR_ARGUMENT;
    }
    return guarded(create_error, [&] {
        ::@N@::Options options;
        options.threads = threads;
        *pipeline = new @N@_pipeline(*parts, options);
    });
}

extern "C" @N@_pipeline_status @N@_pipeline_run(@N@_pipeline *pipeline, const void *const *inputs,
                                                void *const *outputs) {
    if (pipeline == nullptr) {
        return @N@_PIPELINE_ERROR_ARGUMENT;
    }
@CHECKS@    return guarded(pipeline->error, [&] {
        ::@N@::Inputs in;
        ::@N@::Outputs out;
@BIND@        pipeline->pipeline.run(in, out);
    });
}

extern "C" void @N@_pipeline_destroy(@N@_pipeline *pipeline) {
    delete pipeline;
}

extern "C" const char *@N@_pipeline_last_error(const @N@_pipeline *pipeline) {
    return pipeline == nullptr ? create_error.c_str() : pipeline->error.c_str();
}
"""

_ADAPTER = """\
class Given@NUMBER@ : public ::@N@::@CLASS@ {
public:
    explicit Given@NUMBER@(const @N@_parts &parts) : parts_(parts) {}
    void run(const Inputs &inputs, const Outputs &outputs) override {
        (void)inputs;
        (void)outputs;
        const void *const in[] = {@IN@};
        void *const out[] = {@OUT@};
        require(@NUMBER@, parts_.part@NUMBER@(parts_.context@NUMBER@, in, out));
    }

private:
    const @N@_parts &parts_;
};

"""


def has_c_front(pipeline: Pipeline) -> bool:
    """Whether C can call it: all tensors that the app sees have shapes that are known before a run."""
    cut = pipeline.cut
    seen = {name for part in pipeline.app_parts() for name in (*part.inputs, *part.outputs)}
    return all(pipeline.tensor(name).kind == "static" for name in {*seen, *cut.inputs, *cut.outputs})


def c_header(pipeline: Pipeline) -> str:
    """``pipeline.h``: C99 and C++."""
    cut = pipeline.cut
    tensors = [
        f" * {role} {index}: {_told(pipeline, name)}\n"
        for role, names in (("input", cut.inputs), ("output", cut.outputs))
        for index, name in enumerate(names)
    ]
    members = [_member(pipeline, part) for part in pipeline.app_parts()] or ["    int none;\n"]
    return fill(
        _HEADER,
        {
            "N": pipeline.name,
            "TITLE": comment_text(f"A network in {len(cut.parts)} parts, cut for {pipeline.target}."),
            "PARTS": "".join(f" *   {line}\n" for line in map(comment_text, part_lines(pipeline))),
            "TENSORS": "".join(tensors),
            "MEMBERS": "".join(members),
        },
    )


def c_source(pipeline: Pipeline) -> str:
    """``pipeline_c.cpp``."""
    cut, parts = pipeline.cut, pipeline.app_parts()
    bind = [
        f"        {variable}.{pipeline.identifiers[name]} = {{static_cast<{const}{pipeline.type(name)} *>"
        f"({given}[{index}]), ::{pipeline.name}::tensor::{pipeline.identifiers[name]}::size}};\n"
        for variable, const, given, names in (
            ("in", "const ", "inputs", cut.inputs),
            ("out", "", "outputs", cut.outputs),
        )
        for index, name in enumerate(names)
    ]
    checks = [
        f"    for (::std::size_t i = 0; i < {len(names)}; ++i) {{\n"
        f"        if ({given} == nullptr || {given}[i] == nullptr) {{\n"
        f'            pipeline->error = "an {role} is NULL";\n'
        f"            return {pipeline.name}_PIPELINE_ERROR_ARGUMENT;\n"
        "        }\n"
        "    }\n"
        for role, given, names in (("input", "inputs", cut.inputs), ("output", "outputs", cut.outputs))
        if names
    ]
    return fill(
        _SOURCE,
        {
            "N": pipeline.name,
            "ADAPTERS": "".join(_adapter(pipeline, part) for part in parts),
            "GIVEN": ", ".join(f"part_{part.number}" for part in parts),
            "OBJECTS": "".join(f"    Given{part.number} part_{part.number}{{given}};\n" for part in parts),
            "MISSING": "".join(f" || parts->part{part.number} == nullptr" for part in parts),
            "CHECKS": "".join(checks),
            "BIND": "".join(bind),
        },
    )


def _told(pipeline: Pipeline, name: str) -> str:
    tensor = pipeline.tensor(name)
    type_ = ELEMENT_TYPES[tensor.dtype]
    count = math.prod(tensor.shape)
    return f"{comment_text(name)}  {tensor.dtype} {shown(tensor)}, {count} elements ({type_.c})"


def _member(pipeline: Pipeline, part: Part) -> str:
    lines = [f"    /* {interface_name(part)}:\n"]
    for role, names in (("input", part.inputs), ("output", part.outputs)):
        lines += [f"     * {role} {index}: {_told(pipeline, name)}\n" for index, name in enumerate(names)]
    lines.append("     */\n")
    lines.append(f"    {pipeline.name}_part part{part.number};\n    void *context{part.number};\n")
    return "".join(lines)


def _adapter(pipeline: Pipeline, part: Part) -> str:
    def pointers(role: str, names: tuple[str, ...]) -> str:
        return ", ".join(f"{role}.{pipeline.identifiers[name]}.data()" for name in names) or "nullptr"

    return fill(
        _ADAPTER,
        {
            "N": pipeline.name,
            "CLASS": interface_name(part),
            "NUMBER": str(part.number),
            "IN": pointers("inputs", part.inputs),
            "OUT": pointers("outputs", part.outputs),
        },
    )
