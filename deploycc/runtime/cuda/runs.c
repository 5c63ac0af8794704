/* Runs: in the host's memory, in the device's, watched and timed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cuda.h"

#include "checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_PER_TIMED 16u /* of a library with timers: what others see of a timed run stays small */

dcc_status dcc_cuda_enter(dcc_cuda_handle *handle, const char *function) {
    if (handle == NULL || !DCC_IS_ALIGNED(handle, dcc_cuda_handle)
        || !dcc_is_handle((const dcc_handle *)(const void *)handle, function)) {
        return DCC_ERROR_ARGUMENT;
    }
    if (dcc_driver_forked()) {
        return dcc_fail(handle->host, (dcc_status)DCC_ERROR_DEVICE,
                        "this process was forked from the one that made the handle: it cannot use the GPU");
    }
    dcc_status status = dcc_enter(handle->host, function);
    if (status != DCC_OK) {
        return status;
    }
    const int lost = atomic_load(&handle->device->lost) != 0;
    const cu_result result = lost ? CU_OK : dcc_device_enter(handle->device);
    if (lost || result != CU_OK) {
        status = lost ? dcc_device_lost(handle, handle->device)
                      : dcc_device_fail(handle, handle->device, result, "cuCtxPushCurrent_v2", "at a call's start");
        dcc_leave(handle->host);
    }
    return status;
}

void dcc_cuda_leave(dcc_cuda_handle *handle) {
    dcc_device_leave(handle->device);
    dcc_leave(handle->host);
}

dcc_status dcc_follow(dcc_cuda_handle *handle, cu_stream stream) {
    if (!handle->pending || (handle->last_known && stream == handle->last_stream)) {
        return DCC_OK;
    }
    const cu_result result = handle->device->driver->stream_wait(stream, handle->done, 0);
    return result == CU_OK ? DCC_OK
                           : dcc_device_fail(handle, handle->device, result, "cuStreamWaitEvent", "behind another run");
}

dcc_status dcc_host_failure(dcc_cuda_handle *handle) {
    const int32_t failed = atomic_exchange(&handle->failed_step, 0);
    if (failed == 0) {
        return DCC_OK;
    }
    const dcc_model *model = handle->chip->host;
    return dcc_fail(handle->host, DCC_ERROR_KERNEL, "step %d of %u, %.150s, returned %d", (int)failed - 1,
                    (unsigned)model->step_count, model->step_names[failed - 1], (int)handle->failed_result);
}

/* ---- pieces of a run in the host's memory ---- */

static void copy_in(dcc_cuda_handle *handle, const void *const *inputs) {
    const dcc_model *model = handle->chip->host;
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (model->inputs[i].bytes > 0) {
            memcpy(handle->pinned + handle->host_inputs + handle->offsets[i], inputs[i], model->inputs[i].bytes);
        }
    }
}

static void copy_out(dcc_cuda_handle *handle, void *const *outputs) {
    const dcc_model *model = handle->chip->host;
    for (uint32_t i = 0; i < model->output_count; i++) {
        if (model->outputs[i].bytes > 0) {
            memcpy(outputs[i], handle->pinned + handle->host_inputs + handle->offsets[model->input_count + i],
                   model->outputs[i].bytes);
        }
    }
}

static dcc_status fail_run(dcc_cuda_handle *handle, cu_result result, const char *symbol) {
    return dcc_device_fail(handle, handle->device, result, symbol, "in a run (of an observed one the step is told)");
}

static dcc_status wait_for(dcc_cuda_handle *handle, cu_stream stream) {
    const cu_result result = handle->device->driver->stream_synchronize(stream);
    return result == CU_OK ? DCC_OK : fail_run(handle, result, "cuStreamSynchronize");
}

static cu_result take_all(dcc_cuda_handle *handle, dcc_addresses io, cu_stream stream, int timed,
                          const char **symbol) {
    dcc_taker taker = {stream, NULL, NULL, 0, NULL, 0};
    cu_result result = timed ? dcc_take_record(handle, handle->events[0], &taker, symbol) : CU_OK;
    for (uint32_t i = 0; i < handle->chip->host->step_count && result == CU_OK; i++) {
        result = dcc_take_step(handle, i, io, &taker, symbol);
        if (result == CU_OK && timed) {
            result = dcc_take_record(handle, handle->events[i + 1], &taker, symbol);
        }
    }
    return result;
}

static dcc_status start(dcc_cuda_handle *handle, int timed) {
    const char *symbol = "cuGraphLaunch";
    cu_result result;
    if (handle->graphs) {
        const dcc_cuda_graph *graph = timed ? &handle->timed_graph : &handle->run_graph;
        result = handle->device->driver->graph_launch(graph->exec, handle->stream);
    } else {
        dcc_taker taker = {handle->stream, NULL, NULL, 0, NULL, 0};
        result = dcc_take_inputs(handle, &taker, &symbol);
        result = result == CU_OK ? take_all(handle, handle->addresses, handle->stream, timed, &symbol) : result;
        result = result == CU_OK ? dcc_take_outputs(handle, &taker, &symbol) : result;
    }
    return result == CU_OK ? DCC_OK : fail_run(handle, result, symbol);
}

/* ---- times of steps ---- */

static int is_timed(dcc_cuda_handle *handle) {
    dcc_timers *timers = handle->host->timers;
    if (timers == NULL) {
        return 0;
    }
    const int now = timers->left_out == 0;
    timers->left_out = now ? RUNS_PER_TIMED - 1 : timers->left_out - 1;
    return now;
}

static dcc_status take_times(dcc_cuda_handle *handle) {
    for (uint32_t i = 0; i < handle->chip->host->step_count; i++) {
        float milliseconds = 0;
        const cu_result result =
            handle->device->driver->event_elapsed(&milliseconds, handle->events[i], handle->events[i + 1]);
        if (result != CU_OK) {
            return fail_run(handle, result, "cuEventElapsedTime");
        }
        const uint64_t taken = milliseconds > 0 ? (uint64_t)((double)milliseconds * 1e6) : 0;
        dcc_step_time *time = &handle->host->timers->steps[i];
        time->min_ns = time->runs == 0 || taken < time->min_ns ? taken : time->min_ns;
        time->max_ns = taken > time->max_ns ? taken : time->max_ns;
        time->total_ns += taken;
        time->runs++;
    }
    return DCC_OK;
}

/* ---- a run that is watched ---- */

/* Of a step that is done: what it wrote goes to the mirror, or to the caller's outputs. */
static cu_result show(dcc_cuda_handle *handle, const dcc_device_step *step, void *const *outputs) {
    const dcc_driver *driver = handle->device->driver;
    const int copies = step->kind >= DCC_STEP_COPY && step->kind <= DCC_STEP_TO_HOST;
    const uint32_t first = copies ? 0 : step->place_count - step->written, end = copies ? 1 : step->place_count;
    cu_result result = CU_OK;
    for (uint32_t i = first; i < end && result == CU_OK; i++) {
        const dcc_place *place = &step->places[i];
        const int here = place->kind == DCC_PLACE_HOST;
        unsigned char *shown = place->kind == DCC_PLACE_OUTPUT ? (unsigned char *)outputs[place->index] + place->offset
                             : handle->mirror + (here ? handle->device_inputs : 0) + place->offset;
        if (here) {
            memcpy(shown, handle->pinned + place->offset, (size_t)place->bytes);
        } else if (place->bytes > 0) {
            result = driver->copy_to_host_async(shown, dcc_place_on_device(handle, place, handle->addresses),
                                                (size_t)place->bytes, handle->stream);
        }
    }
    return result;
}

static dcc_status run_watched(dcc_cuda_handle *handle, void *const *outputs) {
    const dcc_watch watch = handle->host->watch;
    const dcc_model *model = handle->chip->host;
    const char *symbol = "";
    dcc_taker taker = {handle->stream, NULL, NULL, 0, NULL, 0};
    cu_result result = dcc_take_inputs(handle, &taker, &symbol);
    dcc_status status = result == CU_OK ? DCC_OK : fail_run(handle, result, symbol);
    for (uint32_t i = 0; i < model->step_count && status == DCC_OK; i++) {
        result = dcc_take_step(handle, i, handle->addresses, &taker, &symbol);
        if (result == CU_OK) {
            symbol = "cuStreamSynchronize";
            result = handle->device->driver->stream_synchronize(handle->stream);
        }
        status = result == CU_OK ? dcc_host_failure(handle) : DCC_OK;
        if (result == CU_OK && status == DCC_OK) {
            symbol = "cuMemcpyDtoHAsync_v2";
            result = show(handle, &handle->chip->steps[i], outputs);
        }
        if (result == CU_OK && status == DCC_OK) {
            symbol = "cuStreamSynchronize";
            result = handle->device->driver->stream_synchronize(handle->stream);
        }
        if (result != CU_OK) {
            char step[96];
            (void)snprintf(step, sizeof step, "in step %u, %.60s", (unsigned)i, model->step_names[i]);
            status = dcc_device_fail(handle, handle->device, result, symbol, step);
        } else if (status == DCC_OK) {
            watch.observer(watch.context, i, handle->mirror);
        }
    }
    result = status == DCC_OK ? dcc_take_outputs(handle, &taker, &symbol) : CU_OK;
    return result == CU_OK ? status : fail_run(handle, result, symbol);
}

dcc_status dcc_cuda_observe(dcc_cuda_handle *handle, dcc_observer observer, void *context) {
    dcc_status status = dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    if (observer != NULL && handle->mirror == NULL) {
        const size_t bytes = (size_t)(handle->device_inputs + DCC_UP(handle->chip->host_bytes));
        void *mirror = NULL;
        if (posix_memalign(&mirror, DCC_ALIGNMENT, bytes == 0 ? DCC_ALIGNMENT : bytes) != 0) {
            status = dcc_fail(handle->host, DCC_ERROR_MEMORY, "no memory for %zu bytes that an observer sees", bytes);
        } else {
            handle->mirror = memset(mirror, 0, bytes == 0 ? DCC_ALIGNMENT : bytes);
        }
    }
    if (status == DCC_OK) {
        handle->host->watch = (dcc_watch){observer, context};
    }
    dcc_cuda_leave(handle);
    return status;
}

/* ---- runs ---- */

dcc_status dcc_cuda_run(dcc_cuda_handle *handle, const void *const *inputs, void *const *outputs) {
    dcc_status status = dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    status = dcc_check_buffers(handle->host, inputs, outputs);
    status = status == DCC_OK ? dcc_follow(handle, handle->stream) : status;
    if (status != DCC_OK) {
        dcc_cuda_leave(handle);
        return status;
    }
    copy_in(handle, inputs);
    const int watched = handle->host->watch.observer != NULL;
    const int timed = !watched && is_timed(handle);
    status = watched ? run_watched(handle, outputs) : start(handle, timed);
    if (status == DCC_OK) {
        status = wait_for(handle, handle->stream);
        handle->pending = 0;
    } else if (atomic_load(&handle->device->lost) == 0) {
        (void)handle->device->driver->stream_synchronize(handle->stream); /* what was queued before the error */
    }
    status = status == DCC_OK ? dcc_host_failure(handle) : status;
    status = status == DCC_OK && timed ? take_times(handle) : status;
    if (status == DCC_OK) {
        copy_out(handle, outputs);
    }
    handle->last_stream = handle->stream;
    handle->last_known = 1;
    dcc_cuda_leave(handle);
    return status;
}

static dcc_status check_address(dcc_cuda_handle *handle, const dcc_tensor *tensor, const char *role,
                                cu_address address) {
    if (address % DCC_DEVICE_ALIGNMENT != 0) {
        return dcc_fail(handle->host, DCC_ERROR_ARGUMENT, "%s '%.100s' is not aligned to %u bytes", role, tensor->name,
                        DCC_DEVICE_ALIGNMENT);
    }
    uint32_t memory = 0;
    const cu_result result =
        handle->device->driver->pointer_attribute(&memory, CU_POINTER_MEMORY_TYPE, address);
    if (result != CU_OK && result != CU_INVALID_VALUE) {
        return dcc_device_fail(handle, handle->device, result, "cuPointerGetAttribute", "for a run's pointers");
    }
    if (result != CU_OK && !handle->device->pageable) {
        return dcc_fail(handle->host, DCC_ERROR_ARGUMENT, "%s '%.100s' is no memory of a GPU", role, tensor->name);
    }
    return DCC_OK;
}

/* The addresses of a run; those it had in the run before are known to be good. */
static dcc_status read_addresses(dcc_cuda_handle *handle, const void *const *inputs, void *const *outputs,
                                 cu_address *io) {
    const dcc_model *model = handle->chip->host;
    dcc_status status = DCC_OK;
    for (uint32_t i = 0; i < model->input_count + model->output_count && status == DCC_OK; i++) {
        const int is_input = i < model->input_count;
        const dcc_tensor *tensor = is_input ? &model->inputs[i] : &model->outputs[i - model->input_count];
        io[i] = (cu_address)(uintptr_t)(is_input ? inputs[i] : outputs[i - model->input_count]);
        const int known = handle->async_graph.bound != NULL && handle->async_graph.bound[i] == io[i];
        if (tensor->bytes > 0 && !known) {
            status = check_address(handle, tensor, is_input ? "input" : "output", io[i]);
        }
    }
    return status;
}

static dcc_status enqueue(dcc_cuda_handle *handle, dcc_addresses io, cu_stream stream) {
    dcc_status status = DCC_OK;
    if (handle->graphs && handle->async_graph.exec == NULL) {
        status = dcc_graph_build(handle, &handle->async_graph, io, 0, handle);
    } else if (handle->graphs) {
        status = dcc_graph_bind(handle, &handle->async_graph, io);
    }
    status = status == DCC_OK ? dcc_follow(handle, stream) : status;
    if (status != DCC_OK) {
        return status;
    }
    const char *symbol = "cuGraphLaunch";
    cu_result result = handle->graphs ? handle->device->driver->graph_launch(handle->async_graph.exec, stream)
                                      : take_all(handle, io, stream, 0, &symbol);
    if (result == CU_OK) {
        symbol = "cuEventRecord";
        result = handle->device->driver->event_record(handle->done, stream);
    }
    handle->pending = 1;
    handle->last_stream = stream;
    handle->last_known = 1;
    return result == CU_OK ? DCC_OK : fail_run(handle, result, symbol);
}

dcc_status dcc_cuda_run_async(dcc_cuda_handle *handle, const void *const *inputs, void *const *outputs, void *stream) {
    dcc_status status = dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    status = dcc_check_buffers(handle->host, inputs, outputs);
    if (status == DCC_OK && handle->host->watch.observer != NULL) {
        status = dcc_fail(handle->host, DCC_ERROR_ARGUMENT, "a run on device pointers cannot be observed");
    }
    cu_address *io = handle->io;
    status = status == DCC_OK ? read_addresses(handle, inputs, outputs, io) : status;
    status = status == DCC_OK ? enqueue(handle, io, stream) : status;
    dcc_cuda_leave(handle);
    return status;
}

dcc_status dcc_cuda_synchronize(dcc_cuda_handle *handle) {
    dcc_status status = dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    if (handle->pending) {
        const cu_result result = handle->device->driver->event_synchronize(handle->done);
        status = result == CU_OK ? DCC_OK : fail_run(handle, result, "cuEventSynchronize");
        handle->pending = 0;
    }
    status = status == DCC_OK ? dcc_host_failure(handle) : status;
    dcc_cuda_leave(handle);
    return status;
}
