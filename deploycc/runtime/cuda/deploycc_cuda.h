/* What the generated model definition of a package for NVIDIA GPUs needs, besides deploycc_rt.h.
 *
 * The network is a list of steps for each chip that the package has kernels for.  A step is kernel launches, a copy,
 * or a kernel of the processor, on buffers in the device's memory or in a pinned block of the host's.  A handle has
 * the runtime's handle for the processor inside, for its workspaces, threads and error text.
 *
 * libcuda.so.1 is loaded by the first call that needs it.  As for the processor: one thread a handle, and a run
 * allocates nothing.
 */
#ifndef DEPLOYCC_CUDA_H
#define DEPLOYCC_CUDA_H

#include "deploycc_rt.h"

/* These follow dcc_status's. */
typedef enum dcc_cuda_status {
    DCC_ERROR_NO_DRIVER = 7,  /* libcuda.so.1 is missing, too old or does not start */
    DCC_ERROR_NO_DEVICE = 8,  /* no such GPU */
    DCC_ERROR_NO_KERNELS = 9, /* the package has no code for this chip */
    DCC_ERROR_DEVICE = 10     /* a call of the driver failed */
} dcc_cuda_status;

/* Bytes that device addresses of callers must be aligned to: kernels move 16 bytes at a time. */
#define DCC_DEVICE_ALIGNMENT 16u

typedef struct dcc_cuda_options {
    dcc_options host; /* its struct_size is that of all of this */
    int32_t device;   /* number of the GPU, as the driver counts them */
    int32_t graph;    /* 0: a run is launched step by step, not as one graph; 2: with branches in that */
} dcc_cuda_options;

typedef struct dcc_gpu {
    char name[96];
    char kernels[32]; /* "cubin sm_90", "ptx sm_75": what it would run; "" where the package has nothing for it */
    int32_t major, minor; /* compute capability */
    int32_t processors;
    int32_t reserved;
    uint64_t memory_bytes;
} dcc_gpu;

enum { DCC_PLACE_INPUT, DCC_PLACE_OUTPUT, DCC_PLACE_ARENA, DCC_PLACE_CONSTANT, DCC_PLACE_HOST };

/* Where an argument lies. */
typedef struct dcc_place {
    uint32_t kind;
    uint32_t index; /* of an input or output */
    uint64_t offset;
    uint64_t bytes;
} dcc_place;

typedef struct dcc_launch {
    uint32_t function; /* index in the chip's table */
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    uint32_t argument_count;
    const uint32_t *arguments; /* for each parameter the index of the step's place */
} dcc_launch;

typedef int32_t (*dcc_host_kernel)(void *const *arguments);

enum { DCC_STEP_LAUNCHES, DCC_STEP_COPY, DCC_STEP_TO_DEVICE, DCC_STEP_TO_HOST, DCC_STEP_HOST };

typedef struct dcc_device_step {
    uint32_t kind;
    uint32_t place_count; /* copies have two: destination and source */
    uint32_t written;     /* so many of the last places, but of a copy the first */
    uint32_t launch_count;
    const dcc_place *places;
    const dcc_launch *launches;
    dcc_host_kernel host;
} dcc_device_step;

typedef struct dcc_image {
    uint32_t is_cubin; /* else ptx */
    uint32_t is_exact; /* of sm_90a and the like: for that chip alone */
    int32_t major, minor;
    const char *name; /* "cubin sm_90" */
    const void *code;
} dcc_image;

typedef struct dcc_chip {
    const char *name;
    const dcc_model *host; /* without arena and steps */
    const dcc_image *images; /* the best first */
    const char *const *functions;
    const dcc_device_step *steps; /* host->step_count */
    uint32_t image_count;
    uint32_t function_count;
    uint64_t arena_bytes; /* of the device */
    uint64_t host_bytes;  /* of the places of kind host */
    uint64_t weights_start, weights_end; /* of the weights that the device needs */
} dcc_chip;

typedef struct dcc_cuda_model {
    const dcc_chip *chips;
    uint32_t chip_count;
    const unsigned char *weights; /* NULL without any */
} dcc_cuda_model;

typedef struct dcc_cuda_handle dcc_cuda_handle;

const char *dcc_cuda_status_text(int32_t status);
size_t dcc_cuda_memory_bytes(const dcc_cuda_model *model, const dcc_cuda_options *options);
dcc_status dcc_cuda_create(const dcc_cuda_model *model, const dcc_cuda_options *options, dcc_cuda_handle **handle);
dcc_status dcc_cuda_destroy(dcc_cuda_handle *handle);
/* Pointers to the host's memory; returns when all is done. */
dcc_status dcc_cuda_run(dcc_cuda_handle *handle, const void *const *inputs, void *const *outputs);
/* Pointers to the device's memory; returns when all is in `stream`'s queue. */
dcc_status dcc_cuda_run_async(dcc_cuda_handle *handle, const void *const *inputs, void *const *outputs, void *stream);
/* Waits for the last run, and tells what went wrong in those since the last wait. */
dcc_status dcc_cuda_synchronize(dcc_cuda_handle *handle);
dcc_status dcc_cuda_observe(dcc_cuda_handle *handle, dcc_observer observer, void *context);
dcc_status dcc_cuda_profile(dcc_cuda_handle *handle, dcc_step_time *times, uint32_t count);
dcc_status dcc_cuda_profile_reset(dcc_cuda_handle *handle);
int32_t dcc_cuda_threads(const dcc_cuda_handle *handle);
const char *dcc_cuda_last_error(const dcc_cuda_handle *handle);
/* Which of the model's chips it runs; UINT32_MAX without a handle. */
uint32_t dcc_cuda_chip(const dcc_cuda_handle *handle);

dcc_status dcc_cuda_device_count(int32_t *count);
dcc_status dcc_cuda_device_info(const dcc_cuda_model *model, int32_t device, dcc_gpu *gpu);

/* A handle's own stream, and further ones of its device. */
void *dcc_cuda_stream(const dcc_cuda_handle *handle);
dcc_status dcc_cuda_stream_create(dcc_cuda_handle *handle, void **stream);
dcc_status dcc_cuda_stream_destroy(dcc_cuda_handle *handle, void *stream);
dcc_status dcc_cuda_stream_synchronize(dcc_cuda_handle *handle, void *stream);
dcc_status dcc_cuda_malloc(dcc_cuda_handle *handle, size_t bytes, void **memory);
dcc_status dcc_cuda_free(dcc_cuda_handle *handle, void *memory);
/* After the handle's last run; return when the bytes are there. */
dcc_status dcc_cuda_to_device(dcc_cuda_handle *handle, void *destination, const void *source, size_t bytes);
dcc_status dcc_cuda_to_host(dcc_cuda_handle *handle, void *destination, const void *source, size_t bytes);

#endif
