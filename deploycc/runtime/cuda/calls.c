/* The steps of a run, one at a time, into a stream or a graph. */
#include "cuda.h"

#include <string.h>

cu_address dcc_place_on_device(const dcc_cuda_handle *handle, const dcc_place *place, dcc_addresses io) {
    switch (place->kind) {
    case DCC_PLACE_INPUT: return io[place->index] + place->offset;
    case DCC_PLACE_OUTPUT: return io[handle->chip->host->input_count + place->index] + place->offset;
    case DCC_PLACE_CONSTANT: return handle->device->weights + place->offset;
    default: return handle->memory + place->offset;
    }
}

unsigned char *dcc_place_on_host(const dcc_cuda_handle *handle, const dcc_place *place) {
    return place->kind == DCC_PLACE_CONSTANT ? (unsigned char *)(uintptr_t)(handle->weights + place->offset)
                                             : handle->pinned + place->offset;
}

static int moves_with_callers(const dcc_device_step *step) {
    int moves = 0;
    for (uint32_t i = 0; i < step->place_count; i++) {
        moves |= step->places[i].kind == DCC_PLACE_INPUT || step->places[i].kind == DCC_PLACE_OUTPUT;
    }
    return moves;
}

/* What a node comes after: what the taker has for the next one, else the one before it. */
static const cu_node *before(dcc_taker *taker, size_t *count) {
    const cu_node *after = taker->after;
    if (after != NULL) {
        taker->after = NULL;
        *count = taker->after_count;
        return after;
    }
    *count = taker->node == 0 ? 0 : 1;
    return taker->node == 0 ? NULL : &taker->building->nodes[taker->node - 1];
}

static cu_result take_launch(dcc_cuda_handle *handle, const dcc_device_step *step, const dcc_launch *launch,
                             dcc_addresses io, dcc_taker *taker, const char **symbol) {
    const dcc_driver *driver = handle->device->driver;
    cu_function function = handle->device->functions[launch->function];
    for (uint32_t i = 0; i < launch->argument_count; i++) {
        handle->values[i] = dcc_place_on_device(handle, &step->places[launch->arguments[i]], io);
    }
    if (taker->building == NULL && taker->updating == NULL) {
        *symbol = "cuLaunchKernel";
        return driver->launch(function, launch->grid[0], launch->grid[1], launch->grid[2], launch->block[0],
                              launch->block[1], launch->block[2], launch->shared_bytes, taker->stream,
                              handle->parameters, NULL);
    }
    const cu_kernel_node node = {function,
                                 {launch->grid[0], launch->grid[1], launch->grid[2]},
                                 {launch->block[0], launch->block[1], launch->block[2]},
                                 launch->shared_bytes,
                                 handle->parameters,
                                 NULL};
    if (taker->updating != NULL) {
        *symbol = "cuGraphExecKernelNodeSetParams";
        return driver->graph_set_kernel(taker->updating->exec, taker->updating->nodes[taker->node++], &node);
    }
    size_t count;
    const cu_node *after = before(taker, &count);
    *symbol = "cuGraphAddKernelNode";
    return driver->graph_add_kernel(&taker->building->nodes[taker->node++], taker->building->graph, after, count, &node);
}

static cu_copy_end end_of(const void *host, cu_address device, uint64_t bytes) {
    cu_copy_end end;
    memset(&end, 0, sizeof end);
    end.memory = host == NULL ? CU_MEMORY_DEVICE : CU_MEMORY_HOST;
    end.host = host;
    end.device = device;
    end.pitch = (size_t)bytes;
    end.height = 1;
    return end;
}

/* The end with host == NULL is on the device. */
static cu_result take_copy(dcc_cuda_handle *handle, void *to_host, cu_address to, const void *from_host,
                           cu_address from, uint64_t bytes, dcc_taker *taker, const char **symbol) {
    const dcc_driver *driver = handle->device->driver;
    if (taker->building == NULL && taker->updating == NULL) {
        if (from_host != NULL) {
            *symbol = "cuMemcpyHtoDAsync_v2";
            return driver->copy_to_device_async(to, from_host, (size_t)bytes, taker->stream);
        }
        if (to_host != NULL) {
            *symbol = "cuMemcpyDtoHAsync_v2";
            return driver->copy_to_host_async(to_host, from, (size_t)bytes, taker->stream);
        }
        *symbol = "cuMemcpyDtoDAsync_v2";
        return driver->copy_on_device_async(to, from, (size_t)bytes, taker->stream);
    }
    const cu_copy_node node = {end_of(from_host, from, bytes), end_of(to_host, to, bytes), (size_t)bytes, 1, 1};
    if (taker->updating != NULL) {
        *symbol = "cuGraphExecMemcpyNodeSetParams";
        return driver->graph_set_copy(taker->updating->exec, taker->updating->nodes[taker->node++], &node,
                                      handle->device->context);
    }
    size_t count;
    const cu_node *after = before(taker, &count);
    *symbol = "cuGraphAddMemcpyNode";
    return driver->graph_add_copy(&taker->building->nodes[taker->node++], taker->building->graph, after, count, &node,
                                  handle->device->context);
}

/* Called by the driver, on a thread of its own. */
static void host_kernel(void *data) {
    const dcc_host_call *call = data;
    dcc_cuda_handle *handle = call->handle;
    dcc_handle *host = handle->host;
    if (atomic_load(&handle->failed_step) != 0) {
        return;
    }
    const int parallel = host->pool != NULL && dcc_pool_enter(host->pool) == 0;
    dcc_thread thread = {&host->main_space, host->worker_spaces, parallel ? host->pool : NULL, host->threads, 0};
    dcc_thread *was = dcc_become(&thread);
    const int32_t result = handle->chip->steps[call->step].host(call->arguments);
    (void)dcc_become(was);
    if (result != 0) {
        host->main_space.top = 0, host->main_space.live = 0;
        for (int32_t i = 0; i < host->threads; i++) {
            host->worker_spaces[i].top = 0, host->worker_spaces[i].live = 0;
        }
        handle->failed_result = result;
        atomic_store(&handle->failed_step, (int32_t)call->step + 1);
    }
}

static cu_result take_host(dcc_cuda_handle *handle, uint32_t step, dcc_taker *taker, const char **symbol) {
    const dcc_driver *driver = handle->device->driver;
    dcc_host_call *call = &handle->calls[step];
    if (taker->building == NULL) {
        *symbol = "cuLaunchHostFunc";
        return driver->launch_host(taker->stream, host_kernel, call);
    }
    const cu_host_node node = {host_kernel, call};
    size_t count;
    const cu_node *after = before(taker, &count);
    *symbol = "cuGraphAddHostNode";
    return driver->graph_add_host(&taker->building->nodes[taker->node++], taker->building->graph, after, count, &node);
}

cu_result dcc_take_step(dcc_cuda_handle *handle, uint32_t number, dcc_addresses io, dcc_taker *taker,
                        const char **symbol) {
    const dcc_device_step *step = &handle->chip->steps[number];
    if (taker->updating != NULL && (step->kind == DCC_STEP_HOST || !moves_with_callers(step))) {
        taker->node += step->kind == DCC_STEP_LAUNCHES ? step->launch_count : 1;
        return CU_OK;
    }
    cu_result result = CU_OK;
    const dcc_place *to = &step->places[0], *from = &step->places[1];
    switch (step->kind) {
    case DCC_STEP_LAUNCHES:
        for (uint32_t i = 0; i < step->launch_count && result == CU_OK; i++) {
            result = take_launch(handle, step, &step->launches[i], io, taker, symbol);
        }
        return result;
    case DCC_STEP_COPY:
        return take_copy(handle, NULL, dcc_place_on_device(handle, to, io), NULL,
                         dcc_place_on_device(handle, from, io), to->bytes, taker, symbol);
    case DCC_STEP_TO_DEVICE:
        return take_copy(handle, NULL, dcc_place_on_device(handle, to, io), dcc_place_on_host(handle, from), 0,
                         to->bytes, taker, symbol);
    case DCC_STEP_TO_HOST:
        return take_copy(handle, dcc_place_on_host(handle, to), 0, NULL, dcc_place_on_device(handle, from, io),
                         to->bytes, taker, symbol);
    default: return take_host(handle, number, taker, symbol);
    }
}

cu_result dcc_take_inputs(dcc_cuda_handle *handle, dcc_taker *taker, const char **symbol) {
    return handle->inputs_bytes == 0 ? CU_OK
                                     : take_copy(handle, NULL, handle->memory + handle->device_inputs,
                                                 handle->pinned + handle->host_inputs, 0, handle->inputs_bytes, taker,
                                                 symbol);
}

cu_result dcc_take_outputs(dcc_cuda_handle *handle, dcc_taker *taker, const char **symbol) {
    const uint64_t behind = handle->inputs_bytes;
    return handle->outputs_bytes == 0
             ? CU_OK
             : take_copy(handle, handle->pinned + handle->host_inputs + behind, 0, NULL,
                         handle->memory + handle->device_inputs + behind, handle->outputs_bytes, taker, symbol);
}

cu_result dcc_take_record(dcc_cuda_handle *handle, cu_event event, dcc_taker *taker, const char **symbol) {
    const dcc_driver *driver = handle->device->driver;
    if (taker->building == NULL) {
        *symbol = "cuEventRecord";
        return driver->event_record(event, taker->stream);
    }
    size_t count;
    const cu_node *after = before(taker, &count);
    *symbol = "cuGraphAddEventRecordNode";
    return driver->graph_add_record(&taker->building->nodes[taker->node++], taker->building->graph, after, count, event);
}
