/* What callers hand over: options, and the buffers of a run.
 *
 * A pointer that is nobody's cannot be told from a good one.  What is looked for is what goes wrong in practice:
 * NULL, or a field of a structure at NULL; mmap's MAP_FAILED; alignment; sizes; buffers that lie in each other. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "checks.h"

static int wraps(const void *data, size_t bytes) {
    return bytes > UINTPTR_MAX - (uintptr_t)data;
}

/* The processors that the options name for the workers; the thread that runs is never pinned. */
static dcc_status check_cpus(const dcc_options *options) {
    if ((options->cpus == NULL) != (options->cpu_count == 0)) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options.cpus is %s, options.cpu_count is %zu",
                        options->cpus == NULL ? "NULL" : "given", options->cpu_count);
    }
    if (!DCC_IS_ALIGNED(options->cpus, int32_t)) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options.cpus is not aligned for int32_t");
    }
    for (size_t i = 1; options->cpu_count > 0 && i < (size_t)options->threads; i++) {
        if (options->cpus[i % options->cpu_count] < 0) {
            return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options.cpus[%zu] is %d", i % options->cpu_count,
                            (int)options->cpus[i % options->cpu_count]);
        }
    }
    return DCC_OK;
}

dcc_status dcc_read_options(const dcc_model *model, const dcc_options *given, dcc_options *options) {
    *options = (dcc_options){sizeof *options, 0, -1, NULL, 0, NULL, 0};
    if (model == NULL || model->abi != DCC_ABI) {
        return dcc_fail(NULL, DCC_ERROR_ABI, "model ABI %u, runtime ABI %u", model == NULL ? 0u : (unsigned)model->abi,
                        DCC_ABI);
    }
    if (given != NULL) {
        if (!DCC_IS_ALIGNED(given, dcc_options)) {
            return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options is not aligned as its type asks for");
        }
        if (given->struct_size != sizeof *given) {
            return dcc_fail(NULL, DCC_ERROR_ARGUMENT,
                            "options.struct_size is %zu, not %zu: start from the OPTIONS_INIT macro",
                            given->struct_size, sizeof *given);
        }
        *options = *given;
    }
    if (options->threads < 0 || options->threads > DCC_MAX_THREADS) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options.threads is %d, not 0 to %d", (int)options->threads,
                        DCC_MAX_THREADS);
    }
    if (options->threads == 0) {
        int32_t usable = dcc_usable_cpus();
        options->threads = usable < DCC_MAX_THREADS ? usable : DCC_MAX_THREADS;
    }
    if (options->memory != NULL && wraps(options->memory, options->memory_bytes)) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options.memory_bytes is %zu, more than lie behind options.memory",
                        options->memory_bytes);
    }
    return check_cpus(options);
}

/* ---- the buffers of a run: what is wrong with them (checks.h finds that something is) ---- */

dcc_status dcc_tell_pointer(dcc_handle *handle, const dcc_tensor *tensor, const char *role, const void *data) {
    if (tensor->bytes > 0 && data == NULL) {
        return dcc_fail(handle, DCC_ERROR_ARGUMENT, "%s '%.100s' is NULL", role, tensor->name);
    }
    if (tensor->bytes > 0 && ((uintptr_t)data < DCC_LOWEST_ADDRESS || wraps(data, tensor->bytes))) {
        return dcc_fail(handle, DCC_ERROR_ARGUMENT, "%s '%.100s' cannot be %zu bytes at %p", role, tensor->name,
                        tensor->bytes, data);
    }
    if (dcc_in_lent_memory(handle, data, tensor->bytes)) {
        return dcc_fail(handle, DCC_ERROR_ARGUMENT, "%s '%.100s' overlaps options.memory", role, tensor->name);
    }
    return dcc_fail(handle, DCC_ERROR_ARGUMENT, "%s '%.100s' is not aligned to %zu bytes", role, tensor->name,
                    tensor->alignment);
}

dcc_status dcc_tell_overlap(dcc_handle *handle, const dcc_tensor *output, const char *role, const dcc_tensor *other) {
    return dcc_fail(handle, DCC_ERROR_ARGUMENT, "output '%.90s' overlaps %s '%.90s'", output->name, role, other->name);
}

dcc_status dcc_tell_list(dcc_handle *handle, const char *role, const void *list) {
    return list == NULL ? dcc_fail(handle, DCC_ERROR_ARGUMENT, "the list of %s is NULL", role)
                        : dcc_fail(handle, DCC_ERROR_ARGUMENT, "the list of %s is not aligned for pointers", role);
}
