/* Handles and devices, for the files of the CUDA runtime that look inside. */
#ifndef DEPLOYCC_CUDA_CUDA_H
#define DEPLOYCC_CUDA_CUDA_H

#include "deploycc_cuda.h"

#include "driver.h"
#include "handle.h"

#include <stdatomic.h>

/* A GPU that handles of this library run on: code and weights are there once, however many handles. */
typedef struct dcc_cuda_device {
    struct dcc_cuda_device *next;
    int32_t ordinal;
    int32_t references;
    const dcc_driver *driver;
    const dcc_chip *chip;
    const dcc_image *image;
    cu_device device;
    cu_context context; /* the primary one, which the app's other libraries use as well */
    cu_module module;
    cu_function *functions;
    cu_address weights; /* where offset 0 of the weights would be */
    cu_address weights_memory;
    int32_t pageable; /* 1: kernels may read any memory of the host */
    _Atomic int32_t lost; /* the first error that cost the context; 0 for none */
} dcc_cuda_device;

/* Where the inputs and outputs of a run are, one after the other. */
typedef const cu_address *dcc_addresses;

/* A run as a graph: the nodes that have addresses of inputs or outputs can get others. */
typedef struct dcc_cuda_graph {
    cu_graph graph;
    cu_graph_exec exec;
    cu_node *nodes;
    cu_address *bound; /* its inputs and outputs; NULL where they never change */
} dcc_cuda_graph;

/* What a host node gets. */
typedef struct dcc_host_call {
    dcc_cuda_handle *handle;
    uint32_t step;
    void **arguments;
} dcc_host_call;

struct dcc_cuda_handle {
    dcc_handle *host;
    const dcc_chip *chip;
    dcc_cuda_device *device;
    const unsigned char *weights; /* the host's */
    cu_stream stream;
    cu_event done;         /* behind the last run, where one is under way */
    cu_stream last_stream; /* that it was in, */
    int32_t last_known;    /* if that still is the same stream */
    int32_t pending;       /* a run_async has not been waited for */
    int32_t graphs;   /* 0 without; 2: with branches */
    cu_address memory; /* arena, inputs, outputs */
    unsigned char *pinned; /* memory of host places, inputs, outputs */
    uint64_t host_inputs, device_inputs; /* where they start */
    uint64_t inputs_bytes, outputs_bytes;
    cu_address *addresses; /* of the device's own inputs and outputs */
    cu_address *io;        /* of those of a run on device pointers */
    uint64_t *offsets;     /* of inputs and outputs behind host_inputs and device_inputs */
    dcc_cuda_graph run_graph, async_graph, timed_graph;
    cu_event *events; /* of a timed model: before the first step and behind each */
    void **parameters; /* room for what a launch points to */
    cu_address *values;
    dcc_host_call *calls; /* of the steps of the host, NULL for others: by step */
    const dcc_cuda_model *model;
    unsigned char *mirror; /* an observer's: of the arena and, from DCC_UP of its size on, of the host places */
    _Atomic int32_t failed_step; /* 1 + the step of the host that failed, 0 for none */
    int32_t failed_result;
};

/* Who takes the steps of a run: a stream; a graph that is built; or one whose nodes get other addresses. */
typedef struct dcc_taker {
    cu_stream stream;
    dcc_cuda_graph *building;
    dcc_cuda_graph *updating;
    uint32_t node; /* number of the next one */
    /* What the next node that is built comes after; NULL: the one before it. */
    const cu_node *after;
    size_t after_count;
} dcc_taker;

#define DCC_UP(bytes) (((bytes) + 255u) & ~(uint64_t)255u)

/* ---- device.c ---- */

/* The device with context, code and weights, one reference more; NULL with the calling thread's error text. */
dcc_cuda_device *dcc_device_acquire(const dcc_cuda_model *model, int32_t ordinal, dcc_status *status);
void dcc_device_release(dcc_cuda_device *device);
/* Its context is the calling thread's until dcc_device_leave. */
cu_result dcc_device_enter(const dcc_cuda_device *device);
void dcc_device_leave(const dcc_cuda_device *device);
/* The text of a failed call of the driver: `symbol`, the error's name and meaning, and what it was for.  `handle`
 * may be NULL, `device` too; gives the status. */
dcc_status dcc_device_fail(dcc_cuda_handle *handle, dcc_cuda_device *device, cu_result result, const char *symbol,
                           const char *purpose);
/* The same for a device whose context an earlier error has cost. */
dcc_status dcc_device_lost(dcc_cuda_handle *handle, const dcc_cuda_device *device);
dcc_status dcc_no_memory(dcc_cuda_handle *handle, dcc_cuda_device *device, cu_result result, const char *symbol,
                         const char *purpose, uint64_t bytes);

/* ---- calls.c: the steps ---- */

/* Has the step taken; the result of the first call that failed, with its name in *symbol. */
cu_result dcc_take_step(dcc_cuda_handle *handle, uint32_t step, dcc_addresses io, dcc_taker *taker,
                        const char **symbol);
cu_result dcc_take_record(dcc_cuda_handle *handle, cu_event event, dcc_taker *taker, const char **symbol);
/* Inputs from the pinned block to the device, or outputs back. */
cu_result dcc_take_inputs(dcc_cuda_handle *handle, dcc_taker *taker, const char **symbol);
cu_result dcc_take_outputs(dcc_cuda_handle *handle, dcc_taker *taker, const char **symbol);
cu_address dcc_place_on_device(const dcc_cuda_handle *handle, const dcc_place *place, dcc_addresses io);
unsigned char *dcc_place_on_host(const dcc_cuda_handle *handle, const dcc_place *place);

/* ---- graph.c ---- */

/* Builds it; with `io` its inputs and outputs are those, and can be changed, without they are the pinned ones. */
dcc_status dcc_graph_build(dcc_cuda_handle *handle, dcc_cuda_graph *graph, dcc_addresses io, int timed,
                           dcc_cuda_handle *told);
dcc_status dcc_graph_bind(dcc_cuda_handle *handle, dcc_cuda_graph *graph, dcc_addresses io);
void dcc_graph_clear(const dcc_cuda_handle *handle, dcc_cuda_graph *graph);

/* ---- runs.c ---- */

/* DCC_OK: the handle is the caller's, and the device entered, until dcc_cuda_leave. */
dcc_status dcc_cuda_enter(dcc_cuda_handle *handle, const char *function);
void dcc_cuda_leave(dcc_cuda_handle *handle);
/* What follows in `stream` comes after the handle's last run. */
dcc_status dcc_follow(dcc_cuda_handle *handle, cu_stream stream);
dcc_status dcc_host_failure(dcc_cuda_handle *handle);

#endif
