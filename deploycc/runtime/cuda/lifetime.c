/* Handles on a GPU: made, and given back. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cuda.h"

#include <stdlib.h>
#include <string.h>

/* ---- options ---- */

static int has_host_steps(const dcc_chip *chip) {
    int found = 0;
    for (uint32_t i = 0; i < chip->host->step_count; i++) {
        found |= chip->steps[i].kind == DCC_STEP_HOST;
    }
    return found;
}

static dcc_status read_options(const dcc_cuda_model *model, const dcc_cuda_options *given, dcc_cuda_options *options) {
    *options = (dcc_cuda_options){{sizeof options->host, 0, -1, NULL, 0, NULL, 0}, 0, 1};
    if (given != NULL) {
        if (!DCC_IS_ALIGNED(given, dcc_cuda_options)) {
            return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options is not aligned as its type asks for");
        }
        if (given->host.struct_size != sizeof *given) {
            return dcc_fail(NULL, DCC_ERROR_ARGUMENT,
                            "options.struct_size is %zu, not %zu: start from the OPTIONS_INIT macro",
                            given->host.struct_size, sizeof *given);
        }
        *options = *given;
        options->host.struct_size = sizeof options->host;
    }
    if (options->graph < 0 || options->graph > 2) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options.graph is %d, not 0 to 2", (int)options->graph);
    }
    int any = 0;
    for (uint32_t i = 0; i < model->chip_count; i++) {
        any |= has_host_steps(&model->chips[i]);
    }
    if (!any && options->host.threads == 0) {
        options->host.threads = 1; /* nothing runs on the processor */
    }
    return DCC_OK;
}

size_t dcc_cuda_memory_bytes(const dcc_cuda_model *model, const dcc_cuda_options *given) {
    dcc_cuda_options options;
    size_t most = 0;
    if (read_options(model, given, &options) != DCC_OK) {
        return 0;
    }
    for (uint32_t i = 0; i < model->chip_count; i++) { /* which chip it will be is not known yet */
        const size_t bytes = dcc_memory_bytes(model->chips[i].host, &options.host);
        if (bytes == 0) {
            return 0;
        }
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- create ---- */

static dcc_status no_room(void) {
    return dcc_fail(NULL, DCC_ERROR_MEMORY, "no memory for the tables of a handle");
}

/* Where inputs and outputs lie, one behind the other, on the device and in the pinned block alike. */
static dcc_status lay_out(dcc_cuda_handle *handle) {
    const dcc_model *model = handle->chip->host;
    const size_t count = (size_t)model->input_count + model->output_count;
    handle->offsets = calloc(count + 1, sizeof *handle->offsets);
    handle->addresses = calloc(count + 1, sizeof *handle->addresses);
    handle->io = calloc(count + 1, sizeof *handle->io);
    if (handle->offsets == NULL || handle->addresses == NULL || handle->io == NULL) {
        return no_room();
    }
    uint64_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const dcc_tensor *tensor =
            i < model->input_count ? &model->inputs[i] : &model->outputs[i - model->input_count];
        handle->inputs_bytes = i == model->input_count ? used : handle->inputs_bytes;
        handle->offsets[i] = used;
        used = DCC_UP(used + tensor->bytes);
    }
    handle->inputs_bytes = count == model->input_count ? used : handle->inputs_bytes;
    handle->outputs_bytes = used - handle->inputs_bytes;
    handle->device_inputs = DCC_UP(handle->chip->arena_bytes);
    handle->host_inputs = DCC_UP(handle->chip->host_bytes);
    return DCC_OK;
}

static dcc_status take_memory(dcc_cuda_handle *handle) {
    const dcc_driver *driver = handle->device->driver;
    const dcc_model *model = handle->chip->host;
    const uint64_t moved = handle->inputs_bytes + handle->outputs_bytes;
    const uint64_t on_device = handle->device_inputs + moved, pinned = handle->host_inputs + moved;
    if (on_device > 0) {
        const cu_result result = driver->memory_alloc(&handle->memory, (size_t)on_device);
        if (result != CU_OK) {
            handle->memory = 0;
            return dcc_no_memory(NULL, handle->device, result, "cuMemAlloc_v2", "of a handle", on_device);
        }
    }
    if (pinned > 0) {
        void *memory = NULL;
        const cu_result result = driver->host_alloc(&memory, (size_t)pinned, CU_HOST_PORTABLE);
        if (result != CU_OK) {
            return dcc_no_memory(NULL, handle->device, result, "cuMemHostAlloc", "of pinned memory", pinned);
        }
        handle->pinned = memory;
        memset(memory, 0, (size_t)pinned);
    }
    for (size_t i = 0; i < (size_t)model->input_count + model->output_count; i++) {
        handle->addresses[i] = handle->memory + handle->device_inputs + handle->offsets[i];
    }
    return DCC_OK;
}

/* What steps point to: the values of a launch's parameters, and the arguments of host kernels. */
static dcc_status make_tables(dcc_cuda_handle *handle) {
    uint32_t most = 1;
    for (uint32_t s = 0; s < handle->chip->host->step_count; s++) {
        for (uint32_t i = 0; i < handle->chip->steps[s].launch_count; i++) {
            const uint32_t count = handle->chip->steps[s].launches[i].argument_count;
            most = count > most ? count : most;
        }
    }
    handle->values = calloc(most, sizeof *handle->values);
    handle->parameters = calloc(most, sizeof *handle->parameters);
    handle->calls = calloc((size_t)handle->chip->host->step_count + 1, sizeof *handle->calls);
    if (handle->values == NULL || handle->parameters == NULL || handle->calls == NULL) {
        return no_room();
    }
    for (uint32_t i = 0; i < most; i++) {
        handle->parameters[i] = &handle->values[i];
    }
    for (uint32_t s = 0; s < handle->chip->host->step_count; s++) {
        const dcc_device_step *step = &handle->chip->steps[s];
        dcc_host_call *call = &handle->calls[s];
        if (step->kind != DCC_STEP_HOST) {
            continue;
        }
        call->handle = handle;
        call->step = s;
        call->arguments = calloc((size_t)step->place_count + 1, sizeof *call->arguments);
        if (call->arguments == NULL) {
            return no_room();
        }
        for (uint32_t i = 0; i < step->place_count; i++) {
            call->arguments[i] = dcc_place_on_host(handle, &step->places[i]);
        }
    }
    return DCC_OK;
}

static dcc_status make_events(dcc_cuda_handle *handle) {
    const dcc_driver *driver = handle->device->driver;
    cu_result result = driver->stream_create(&handle->stream, CU_STREAM_APART);
    if (result != CU_OK) {
        handle->stream = NULL;
        return dcc_device_fail(NULL, handle->device, result, "cuStreamCreate", "when a handle was made");
    }
    handle->last_stream = handle->stream;
    handle->last_known = 1;
    result = driver->event_create(&handle->done, CU_EVENT_UNTIMED);
    if (result != CU_OK) {
        handle->done = NULL;
        return dcc_device_fail(NULL, handle->device, result, "cuEventCreate", "when a handle was made");
    }
    if (!handle->chip->host->timed) {
        return DCC_OK;
    }
    handle->events = calloc((size_t)handle->chip->host->step_count + 1, sizeof *handle->events);
    if (handle->events == NULL) {
        return no_room();
    }
    for (uint32_t i = 0; i <= handle->chip->host->step_count; i++) {
        result = driver->event_create(&handle->events[i], 0);
        if (result != CU_OK) {
            handle->events[i] = NULL;
            return dcc_device_fail(NULL, handle->device, result, "cuEventCreate", "for the times of steps");
        }
    }
    return DCC_OK;
}

static dcc_status make_graphs(dcc_cuda_handle *handle) {
    dcc_status status = DCC_OK;
    if (handle->graphs) {
        status = dcc_graph_build(handle, &handle->run_graph, NULL, 0, NULL);
    }
    if (status == DCC_OK && handle->graphs && handle->events != NULL) {
        status = dcc_graph_build(handle, &handle->timed_graph, NULL, 1, NULL);
    }
    return status;
}

/* Gives back all there is of it; errors of the driver are of no use to anybody here. */
static void give_back(dcc_cuda_handle *handle, int in_use) {
    const dcc_driver *driver = handle->device == NULL ? NULL : handle->device->driver;
    const int entered = driver != NULL && in_use && dcc_device_enter(handle->device) == CU_OK;
    if (entered) {
        if (handle->pending) {
            (void)driver->event_synchronize(handle->done);
        }
        if (handle->stream != NULL) {
            (void)driver->stream_synchronize(handle->stream);
        }
        dcc_graph_clear(handle, &handle->run_graph);
        dcc_graph_clear(handle, &handle->async_graph);
        dcc_graph_clear(handle, &handle->timed_graph);
        for (uint32_t i = 0; handle->events != NULL && i <= handle->chip->host->step_count; i++) {
            if (handle->events[i] != NULL) {
                (void)driver->event_destroy(handle->events[i]);
            }
        }
        if (handle->done != NULL) {
            (void)driver->event_destroy(handle->done);
        }
        if (handle->stream != NULL) {
            (void)driver->stream_destroy(handle->stream);
        }
        if (handle->memory != 0) {
            (void)driver->memory_free(handle->memory);
        }
        if (handle->pinned != NULL) {
            (void)driver->host_free(handle->pinned);
        }
        dcc_device_leave(handle->device);
    }
    dcc_cuda_graph *graphs[] = {&handle->run_graph, &handle->async_graph, &handle->timed_graph};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        free(graphs[i]->nodes);
        free(graphs[i]->bound);
    }
    for (uint32_t i = 0; handle->calls != NULL && i < handle->chip->host->step_count; i++) {
        free(handle->calls[i].arguments);
    }
    free(handle->calls);
    free(handle->values);
    free(handle->parameters);
    free(handle->events);
    free(handle->offsets);
    free(handle->addresses);
    free(handle->io);
    free(handle->mirror);
    if (handle->device != NULL && in_use) {
        dcc_device_release(handle->device);
    }
}

static dcc_status fill(const dcc_cuda_model *model, const dcc_cuda_options *options, dcc_cuda_handle *handle) {
    dcc_status status;
    handle->device = dcc_device_acquire(model, options->device, &status);
    if (handle->device == NULL) {
        return status;
    }
    handle->chip = handle->device->chip;
    handle->model = model;
    handle->weights = model->weights;
    handle->graphs = handle->device->driver->graphs ? options->graph : 0;
    status = dcc_create(handle->chip->host, &options->host, &handle->host);
    if (status != DCC_OK) {
        return status;
    }
    const cu_result result = dcc_device_enter(handle->device);
    if (result != CU_OK) {
        return dcc_device_fail(NULL, handle->device, result, "cuCtxPushCurrent_v2", "when a handle was made");
    }
    status = lay_out(handle);
    status = status == DCC_OK ? take_memory(handle) : status;
    status = status == DCC_OK ? make_tables(handle) : status;
    status = status == DCC_OK ? make_events(handle) : status;
    status = status == DCC_OK ? make_graphs(handle) : status;
    dcc_device_leave(handle->device);
    return status;
}

dcc_status dcc_cuda_create(const dcc_cuda_model *model, const dcc_cuda_options *given, dcc_cuda_handle **handle) {
    dcc_cuda_options options;
    dcc_forget_thread_error();
    if (handle == NULL || !DCC_IS_ALIGNED(handle, dcc_cuda_handle *)) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "the place for the new handle is %s",
                        handle == NULL ? "NULL" : "not aligned for a pointer");
    }
    *handle = NULL;
    dcc_status status = read_options(model, given, &options);
    if (status != DCC_OK) {
        return status;
    }
    dcc_cuda_handle *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return no_room();
    }
    status = fill(model, &options, made);
    if (status != DCC_OK) {
        give_back(made, 1);
        (void)dcc_destroy(made->host);
        free(made);
        return status;
    }
#if defined(DCC_DEBUG)
    dcc_note_made((dcc_handle *)(void *)made);
#endif
    *handle = made;
    return DCC_OK;
}

dcc_status dcc_cuda_destroy(dcc_cuda_handle *handle) {
    if (handle == NULL) {
        return DCC_OK;
    }
    if (!DCC_IS_ALIGNED(handle, dcc_cuda_handle) || !dcc_is_handle((dcc_handle *)(void *)handle, __func__)) {
        return DCC_ERROR_ARGUMENT;
    }
    dcc_handle *host = handle->host;
    const dcc_status status = dcc_enter(host, __func__);
    if (status != DCC_OK) {
        return status;
    }
    give_back(handle, !dcc_driver_forked());
    dcc_leave(host);
    (void)dcc_destroy(host);
#if defined(DCC_DEBUG)
    dcc_note_destroyed((dcc_handle *)(void *)handle);
#else
    free(handle);
#endif
    return DCC_OK;
}
