"""What the generated C and C++ of a package for several shapes have besides."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.identifiers import comment_text, string_literal
from deploycc.packaging.interface import Interface, Tensor
from deploycc.templates import fill

_HEADER = """\
/* This library has the network for several shapes of its inputs, its variants:
 *
@TABLE@ *
 * A new handle runs variant 0, which is also what the constants above and @N@_input_info,
 * @N@_output_info, @N@_step_count and @N@_step_name tell of. */
#define @N@_VARIANT_COUNT @COUNT@
@N@_API uint32_t @N@_variant_count(void);

/* Static data; NULL when variant or index is out of range. */
@N@_API const @N@_tensor_info *@N@_variant_input_info(uint32_t variant, uint32_t index);
@N@_API const @N@_tensor_info *@N@_variant_output_info(uint32_t variant, uint32_t index);
@N@_API uint32_t @N@_variant_step_count(uint32_t variant);

/* The variant for these input shapes, one list of extents for each input in the order above;
 * @N@_VARIANT_COUNT if there is none. */
@N@_API uint32_t @N@_find_variant(const int64_t *const *shapes);

/* What the handle runs from the next run on: by number, or by the shapes of all inputs.  Allocates nothing.
 * @N@_ERROR_ARGUMENT, and the handle stays as it is, for what is not declared: @N@_last_error then lists
 * what is. */
@N@_API @N@_status @N@_select(@N@_handle *handle, uint32_t variant);
@N@_API @N@_status @N@_set_shapes(@N@_handle *handle, const int64_t *const *shapes);

/* The variant that the handle runs. */
@N@_API uint32_t @N@_selected(const @N@_handle *handle);

"""

_SOURCE = """
static const dcc_model *const variants[] = {@MODELS@};

uint32_t @N@_variant_count(void) {
    return @COUNT@;
}

const @N@_tensor_info *@N@_variant_input_info(uint32_t variant, uint32_t index) {
    if (variant >= @COUNT@ || index >= variants[variant]->input_count) {
        return NULL;
    }
    return (const @N@_tensor_info *)(const void *)&variants[variant]->inputs[index];
}

const @N@_tensor_info *@N@_variant_output_info(uint32_t variant, uint32_t index) {
    if (variant >= @COUNT@ || index >= variants[variant]->output_count) {
        return NULL;
    }
    return (const @N@_tensor_info *)(const void *)&variants[variant]->outputs[index];
}

uint32_t @N@_variant_step_count(uint32_t variant) {
    return variant < @COUNT@ ? variants[variant]->step_count : 0;
}

uint32_t @N@_find_variant(const int64_t *const *shapes) {
    return dcc_find_shapes(variants, @COUNT@, shapes);
}

@N@_status @N@_select(@N@_handle *handle, uint32_t variant) {
    return (@N@_status)dcc_select((dcc_handle *)(void *)handle, variant < @COUNT@ ? variants[variant] : NULL,
                                  "no such variant; declared: " @DECLARED@);
}

@N@_status @N@_set_shapes(@N@_handle *handle, const int64_t *const *shapes) {
    return (@N@_status)dcc_select_shapes((dcc_handle *)(void *)handle, variants, @COUNT@, shapes, @DECLARED@);
}

uint32_t @N@_selected(const @N@_handle *handle) {
    const dcc_model *now = dcc_selected((const dcc_handle *)(const void *)handle);
    uint32_t variant = 0;
    while (variant < @COUNT@ && variants[variant] != now) {
        variant++;
    }
    return variant;
}
"""

_SHAPES = """\
/// Extents of every input, to choose a variant by; an input whose shape is the same in all may be left out.
struct Shapes {
@MEMBERS@};

"""

_METHODS = """\
    /// Runs variant `variant` from the next run on.  Throws Error for a number that there is not.
    void select(::std::uint32_t variant) { require(@N@_select(handle_, variant)); }

    /// Runs the variant for these shapes from the next run on.  Throws Error, with what is declared, if there
    /// is none.
    void set_shapes(const Shapes &shapes) {
        const ::std::int64_t *const extents[] = {@EXTENTS@};
@RANKS@        require(@N@_set_shapes(handle_, extents));
    }

    /// The variant that runs.
    ::std::uint32_t variant() const noexcept { return @N@_selected(handle_); }

    /// Of the variant that runs: shape, elements and bytes of an input or output.
    const @N@_tensor_info &input_info(::std::size_t index) const {
        return info(@N@_variant_input_info(variant(), static_cast<::std::uint32_t>(index)));
    }
    const @N@_tensor_info &output_info(::std::size_t index) const {
        return info(@N@_variant_output_info(variant(), static_cast<::std::uint32_t>(index)));
    }

"""

_PRIVATE = """\
    void require(@N@_status status) const {
        if (status != @N@_OK) {
            const bool known = status == @N@_ERROR_ARGUMENT && handle_ != nullptr;
            ::@N@::fail(status, message(status, known ? @N@_last_error(handle_) : ""));
        }
    }

    static const @N@_tensor_info &info(const @N@_tensor_info *found) {
        if (found == nullptr) {
            ::@N@::fail(@N@_ERROR_ARGUMENT, "@N@: no such input or output");
        }
        return *found;
    }

"""


def header(interface: Interface) -> str:
    """For ``NAME.h``; empty for a package of one shape, as the others are."""
    rows = []
    for number, (inputs, outputs) in enumerate(interface.variants):
        tensors = "; ".join(", ".join(_told(tensor) for tensor in role) for role in (inputs, outputs))
        rows.append(f" *   {number}: {tensors}\n")
    return _filled(_HEADER, interface, {"TABLE": "".join(rows)})


def source(interface: Interface) -> str:
    """For the end of the model definition: a table of the models, and the functions that choose."""
    models = ["&model", *(f"&v{number}_model" for number in range(1, len(interface.variants)))]
    declared = string_literal(interface.declared)
    return _filled(_SOURCE, interface, {"MODELS": ", ".join(models), "DECLARED": declared})


def shapes(interface: Interface) -> str:
    """The struct ``Shapes`` of ``NAME.hpp``."""
    members = [
        f"    ::std::vector<::std::int64_t> {tensor.identifier}{_fixed(interface, index)};\n"
        for index, tensor in enumerate(interface.inputs)
    ]
    return _filled(_SHAPES, interface, {"MEMBERS": "".join(members)})


def methods(interface: Interface) -> str:
    """For the public part of the class ``Model``."""
    ranks = [
        f"        if (shapes.{tensor.identifier}.size() != {len(tensor.info.shape)}) {{\n"
        f"            require({interface.name}_set_shapes(handle_, nullptr));\n"
        "        }\n"
        for tensor in interface.inputs
    ]
    extents = [f"shapes.{tensor.identifier}.data()" for tensor in interface.inputs]
    return _filled(
        _METHODS,
        interface,
        {"EXTENTS": ", ".join(extents), "RANKS": "".join(ranks)},
    )


def private_methods(interface: Interface) -> str:
    """For the private part of the class ``Model``."""
    return _filled(_PRIVATE, interface, {})


def _fixed(interface: Interface, index: int) -> str:
    found = {inputs[index].info.shape for inputs, _ in interface.variants}
    return "{" + ", ".join(map(str, *found)) + "}" if len(found) == 1 else "{}"


def _told(tensor: Tensor) -> str:
    return f"{comment_text(tensor.info.name)} {tensor.info.dtype} {tensor.dimensions}"


def _filled(template: str, interface: Interface, values: dict[str, str]) -> str:
    if not interface.variants:
        return ""
    return fill(template, {"N": interface.name, "COUNT": str(len(interface.variants)), **values})


def checks(interface: Interface) -> str:
    """The checks of ``Model::run``: the sizes are those of the variant that runs."""
    return "".join(
        f'        check("{role}", ::{interface.name}::{role}::{tensor.identifier}::name, '
        f"{role}s.{tensor.identifier}.size(), {role}_info({index}).elements);\n"
        for role, tensors in roles(interface)
        for index, tensor in enumerate(tensors)
    )


def roles(interface: Interface) -> Sequence[tuple[str, tuple[Tensor, ...]]]:
    """Inputs and outputs with the word for them."""
    return (("input", interface.inputs), ("output", interface.outputs))
