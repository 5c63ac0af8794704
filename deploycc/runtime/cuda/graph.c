/* A run as a CUDA graph: one launch for all of its steps. */
#include "cuda.h"

#include <stdlib.h>
#include <string.h>

static uint32_t node_count(const dcc_cuda_handle *handle, int timed) {
    uint32_t count = 2; /* the copies of inputs and outputs */
    for (uint32_t i = 0; i < handle->chip->host->step_count; i++) {
        const dcc_device_step *step = &handle->chip->steps[i];
        count += step->kind == DCC_STEP_LAUNCHES ? step->launch_count : 1;
    }
    return count + (timed ? handle->chip->host->step_count + 1 : 0);
}

/* With `io` the kernels work on the caller's memory; else the graph also copies from and to the pinned block. */
static cu_result add_nodes(dcc_cuda_handle *handle, dcc_cuda_graph *graph, dcc_addresses io, int timed,
                           const char **symbol) {
    dcc_taker taker = {NULL, graph, NULL, 0};
    const uint32_t steps = handle->chip->host->step_count;
    cu_result result = io == NULL ? dcc_take_inputs(handle, &taker, symbol) : CU_OK;
    if (result == CU_OK && timed) {
        result = dcc_take_record(handle, handle->events[0], &taker, symbol);
    }
    for (uint32_t i = 0; i < steps && result == CU_OK; i++) {
        result = dcc_take_step(handle, i, io == NULL ? handle->addresses : io, &taker, symbol);
        if (result == CU_OK && timed) {
            result = dcc_take_record(handle, handle->events[i + 1], &taker, symbol);
        }
    }
    return result == CU_OK && io == NULL ? dcc_take_outputs(handle, &taker, symbol) : result;
}

dcc_status dcc_graph_build(dcc_cuda_handle *handle, dcc_cuda_graph *graph, dcc_addresses io, int timed,
                           dcc_cuda_handle *told) {
    const dcc_driver *driver = handle->device->driver;
    const dcc_model *model = handle->chip->host;
    const size_t tensors = (size_t)model->input_count + model->output_count;
    const char *symbol = "cuGraphCreate";
    graph->nodes = calloc(node_count(handle, timed), sizeof *graph->nodes);
    graph->bound = io == NULL ? NULL : calloc(tensors + 1, sizeof *graph->bound);
    if (graph->nodes == NULL || (io != NULL && graph->bound == NULL)) {
        dcc_graph_clear(handle, graph);
        return dcc_fail(told == NULL ? NULL : told->host, DCC_ERROR_MEMORY, "no memory for the graph of a run");
    }
    cu_result result = driver->graph_create(&graph->graph, 0);
    if (result != CU_OK) {
        graph->graph = NULL;
    } else {
        result = add_nodes(handle, graph, io, timed, &symbol);
    }
    if (result == CU_OK) {
        symbol = "cuGraphInstantiateWithFlags";
        result = driver->graph_instantiate(&graph->exec, graph->graph, 0);
        graph->exec = result == CU_OK ? graph->exec : NULL;
    }
    if (result == CU_OK) {
        symbol = "cuGraphUpload";
        result = driver->graph_upload(graph->exec, handle->stream);
    }
    if (result == CU_OK) {
        if (io != NULL && tensors > 0) {
            memcpy(graph->bound, io, tensors * sizeof *io);
        }
        return DCC_OK;
    }
    dcc_graph_clear(handle, graph);
    if (result == CU_NOT_SUPPORTED) {
        handle->graphs = 0; /* runs are launched step by step */
        return DCC_OK;
    }
    return result == CU_OUT_OF_MEMORY
             ? dcc_no_memory(told, handle->device, result, symbol, "of the graph of a run", 0)
             : dcc_device_fail(told, handle->device, result, symbol, "when the graph of a run was built");
}

dcc_status dcc_graph_bind(dcc_cuda_handle *handle, dcc_cuda_graph *graph, dcc_addresses io) {
    const dcc_model *model = handle->chip->host;
    const size_t bytes = ((size_t)model->input_count + model->output_count) * sizeof *io;
    if (bytes == 0 || memcmp(graph->bound, io, bytes) == 0) {
        return DCC_OK;
    }
    const char *symbol = "";
    dcc_taker taker = {NULL, NULL, graph, 0};
    cu_result result = CU_OK;
    for (uint32_t i = 0; i < model->step_count && result == CU_OK; i++) {
        result = dcc_take_step(handle, i, io, &taker, &symbol);
    }
    if (result != CU_OK) {
        memset(graph->bound, 0, bytes); /* nodes have some of these and some of those */
        return dcc_device_fail(handle, handle->device, result, symbol, "when a run's pointers were changed");
    }
    memcpy(graph->bound, io, bytes);
    return DCC_OK;
}

void dcc_graph_clear(const dcc_cuda_handle *handle, dcc_cuda_graph *graph) {
    if (graph->exec != NULL) {
        (void)handle->device->driver->graph_exec_destroy(graph->exec);
    }
    if (graph->graph != NULL) {
        (void)handle->device->driver->graph_destroy(graph->graph);
    }
    free(graph->nodes);
    free(graph->bound);
    memset(graph, 0, sizeof *graph);
}
