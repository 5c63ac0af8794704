/* The buffers of a run, looked at in line: between two runs of a small network these checks are what there is to do. */
#ifndef DEPLOYCC_CHECKS_H
#define DEPLOYCC_CHECKS_H

#include "handle.h"

/* Nothing is mapped below: Linux keeps the first page free. */
#define DCC_LOWEST_ADDRESS ((uintptr_t)4096)

static inline int dcc_overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y ? y - x < a_bytes : x - y < b_bytes;
}

static inline int dcc_in_lent_memory(const dcc_handle *handle, const void *data, size_t bytes) {
    return handle->lent_bytes > 0 && bytes > 0 && dcc_overlap(data, bytes, handle->arena, handle->lent_bytes);
}

static inline int dcc_is_usable(const dcc_handle *handle, const dcc_tensor *tensor, const void *data) {
    /* One comparison for both ends: what lies below the lowest address becomes a large number. */
    const uintptr_t from_lowest = (uintptr_t)data - DCC_LOWEST_ADDRESS;
    return (from_lowest <= UINTPTR_MAX - DCC_LOWEST_ADDRESS - tensor->bytes || tensor->bytes == 0)
        && ((uintptr_t)data & (tensor->alignment - 1)) == 0 && !dcc_in_lent_memory(handle, data, tensor->bytes);
}

static inline int dcc_is_list(const void *list, uint32_t count) {
    return count == 0 || (list != NULL && DCC_IS_ALIGNED(list, void *));
}

/* The texts (checks.c); all give DCC_ERROR_ARGUMENT. */
__attribute__((cold)) dcc_status dcc_tell_list(dcc_handle *handle, const char *role, const void *list);
__attribute__((cold)) dcc_status dcc_tell_pointer(dcc_handle *handle, const dcc_tensor *tensor, const char *role,
                                                  const void *data);
__attribute__((cold)) dcc_status dcc_tell_overlap(dcc_handle *handle, const dcc_tensor *output, const char *role,
                                                  const dcc_tensor *other);

static inline dcc_status dcc_check_buffers(dcc_handle *handle, const void *const *inputs, void *const *outputs) {
    const dcc_tensor *const in = handle->model->inputs, *const out = handle->model->outputs;
    const uint32_t input_count = handle->model->input_count, output_count = handle->model->output_count;
    if (!dcc_is_list(inputs, input_count) || !dcc_is_list(outputs, output_count)) {
        const int good_inputs = dcc_is_list(inputs, input_count);
        return dcc_tell_list(handle, good_inputs ? "outputs" : "inputs",
                             good_inputs ? (const void *)outputs : (const void *)inputs);
    }
    for (uint32_t i = 0; i < input_count; i++) {
        if (!dcc_is_usable(handle, &in[i], inputs[i])) {
            return dcc_tell_pointer(handle, &in[i], "input", inputs[i]);
        }
    }
    for (uint32_t i = 0; i < output_count; i++) {
        const size_t bytes = out[i].bytes;
        if (!dcc_is_usable(handle, &out[i], outputs[i])) {
            return dcc_tell_pointer(handle, &out[i], "output", outputs[i]);
        }
        for (uint32_t j = 0; j < input_count; j++) {
            if (bytes > 0 && in[j].bytes > 0 && dcc_overlap(outputs[i], bytes, inputs[j], in[j].bytes)) {
                return dcc_tell_overlap(handle, &out[i], "input", &in[j]);
            }
        }
        for (uint32_t j = 0; j < i; j++) {
            if (bytes > 0 && out[j].bytes > 0 && dcc_overlap(outputs[i], bytes, outputs[j], out[j].bytes)) {
                return dcc_tell_overlap(handle, &out[i], "output", &out[j]);
            }
        }
    }
    return DCC_OK;
}

#endif
