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

/* ---- branches ---- */

/* Of each step, and of the copy of the outputs as one more, what it comes after. */
typedef struct branches {
    cu_node *tails;  /* the last node of each step */
    cu_node *after;  /* room for what one step comes after */
    uint64_t *known; /* a row of bits a step: all that it comes after, directly or not */
    size_t words;    /* of a row */
} branches;

static int overlap(const dcc_place *a, const dcc_place *b) {
    return a->kind == b->kind && a->index == b->index && a->offset < b->offset + b->bytes
        && b->offset < a->offset + a->bytes;
}

static int is_written(const dcc_device_step *step, uint32_t place) {
    const int copies = step->kind >= DCC_STEP_COPY && step->kind <= DCC_STEP_TO_HOST;
    return copies ? place == 0 : place >= step->place_count - step->written;
}

/* Whether the order of two steps matters: one writes what the other touches, or both use the handle's workspace. */
static int conflict(const dcc_device_step *a, const dcc_device_step *b) {
    int found = a->kind == DCC_STEP_HOST && b->kind == DCC_STEP_HOST;
    for (uint32_t i = 0; i < a->place_count && !found; i++) {
        for (uint32_t j = 0; j < b->place_count && !found; j++) {
            found = (is_written(a, i) || is_written(b, j)) && overlap(&a->places[i], &b->places[j]);
        }
    }
    return found;
}

static void add_known(branches *all, uint32_t step, uint32_t before) {
    uint64_t *mine = all->known + step * all->words;
    const uint64_t *its = all->known + before * all->words;
    for (size_t i = 0; i < all->words; i++) {
        mine[i] |= its[i];
    }
    mine[before / 64] |= (uint64_t)1 << before % 64;
}

/* The steps that step `number` comes after, the latest first: those that follow from others are left out.  `last` is
 * 1 for the copy of the outputs, which comes after all that wrote any. */
static void find_before(const dcc_cuda_handle *handle, branches *all, uint32_t number, int last, dcc_taker *taker) {
    const dcc_device_step *steps = handle->chip->steps;
    size_t count = 0;
    for (uint32_t p = number; p-- > 0;) {
        if ((all->known[number * all->words + p / 64] >> p % 64 & 1) == 0
            && (last || conflict(&steps[p], &steps[number]))) {
            add_known(all, number, p);
            all->after[count++] = all->tails[p];
        }
    }
    if (count == 0 && all->tails[handle->chip->host->step_count] != NULL) {
        all->after[count++] = all->tails[handle->chip->host->step_count]; /* the copy of the inputs */
    }
    taker->after = all->after;
    taker->after_count = count;
}

static int make_branches(const dcc_cuda_handle *handle, branches *all) {
    const size_t steps = (size_t)handle->chip->host->step_count + 1;
    all->words = (steps + 63) / 64;
    all->tails = calloc(steps + 1, sizeof *all->tails);
    all->after = calloc(steps + 1, sizeof *all->after);
    all->known = calloc(steps * all->words, sizeof *all->known);
    return all->tails != NULL && all->after != NULL && all->known != NULL;
}

static void clear_branches(branches *all) {
    free(all->tails);
    free(all->after);
    free(all->known);
}

/* ---- nodes ---- */

/* With `io` the kernels work on the caller's memory; else the graph also copies from and to the pinned block. */
static cu_result add_nodes(dcc_cuda_handle *handle, dcc_cuda_graph *graph, dcc_addresses io, int timed,
                           branches *all, const char **symbol) {
    dcc_taker taker = {NULL, graph, NULL, 0, NULL, 0};
    const uint32_t steps = handle->chip->host->step_count;
    cu_result result = io == NULL ? dcc_take_inputs(handle, &taker, symbol) : CU_OK;
    if (all != NULL && taker.node > 0) {
        all->tails[steps] = graph->nodes[0];
    }
    if (result == CU_OK && timed) {
        result = dcc_take_record(handle, handle->events[0], &taker, symbol);
    }
    for (uint32_t i = 0; i < steps && result == CU_OK; i++) {
        if (all != NULL) {
            find_before(handle, all, i, 0, &taker);
        }
        result = dcc_take_step(handle, i, io == NULL ? handle->addresses : io, &taker, symbol);
        if (all != NULL && result == CU_OK) {
            all->tails[i] = graph->nodes[taker.node - 1];
        }
        if (result == CU_OK && timed) {
            result = dcc_take_record(handle, handle->events[i + 1], &taker, symbol);
        }
    }
    if (all != NULL) {
        find_before(handle, all, steps, 1, &taker);
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
    branches all = {NULL, NULL, NULL, 0};
    const int branched = handle->graphs == 2 && !timed;
    if (graph->nodes == NULL || (io != NULL && graph->bound == NULL) || (branched && !make_branches(handle, &all))) {
        dcc_graph_clear(handle, graph);
        clear_branches(&all);
        return dcc_fail(told == NULL ? NULL : told->host, DCC_ERROR_MEMORY, "no memory for the graph of a run");
    }
    cu_result result = driver->graph_create(&graph->graph, 0);
    if (result != CU_OK) {
        graph->graph = NULL;
    } else {
        result = add_nodes(handle, graph, io, timed, branched ? &all : NULL, &symbol);
    }
    clear_branches(&all);
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
    dcc_taker taker = {NULL, NULL, graph, 0, NULL, 0};
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
