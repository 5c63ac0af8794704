/* The part of the CUDA driver's interface that the runtime uses, and the library it is in.
 *
 * Own declarations: CUDA's headers are not there where a package is built.  Names and layouts are those of cuda.h
 * (a test compares them); symbols are what libcuda.so.1 exports, which for many functions has a _v2 at its end.
 * Handles are pointers to what only the driver knows.
 */
#ifndef DEPLOYCC_CUDA_DRIVER_H
#define DEPLOYCC_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef int32_t cu_result; /* CUresult */
typedef int32_t cu_device; /* CUdevice */
typedef uint64_t cu_address; /* CUdeviceptr */
typedef struct CUctx_st *cu_context;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;
typedef struct CUgraph_st *cu_graph;
typedef struct CUgraphNode_st *cu_node;
typedef struct CUgraphExec_st *cu_graph_exec;
typedef void (*cu_host_function)(void *data);

enum {
    CU_OK = 0,
    CU_INVALID_VALUE = 1,
    CU_OUT_OF_MEMORY = 2,
    CU_NO_DEVICE = 100,
    CU_INVALID_IMAGE = 200,
    CU_NO_BINARY_FOR_GPU = 209,
    CU_INVALID_PTX = 218,
    CU_UNSUPPORTED_PTX_VERSION = 222,
    CU_ILLEGAL_ADDRESS = 700,
    CU_LAUNCH_TIMEOUT = 702,
    CU_ASSERT = 710,
    CU_HARDWARE_STACK_ERROR = 714,
    CU_LAUNCH_FAILED = 719,
    CU_NOT_SUPPORTED = 801
};

enum { CU_MEMORY_HOST = 1, CU_MEMORY_DEVICE = 2 };                  /* CUmemorytype */
enum { CU_STREAM_APART = 1, CU_EVENT_UNTIMED = 2, CU_HOST_PORTABLE = 1 };
enum { CU_FUNCTION_MAX_DYNAMIC_SHARED = 8 };                        /* CUfunction_attribute */
enum { CU_POINTER_MEMORY_TYPE = 2 };                                /* CUpointer_attribute */
enum { CU_JIT_ERROR_LOG = 5, CU_JIT_ERROR_LOG_BYTES = 6 };          /* CUjit_option */
enum {                                                              /* CUdevice_attribute */
    CU_DEVICE_PROCESSORS = 16,
    CU_DEVICE_MAJOR = 75,
    CU_DEVICE_MINOR = 76,
    CU_DEVICE_PAGEABLE_ACCESS = 88
};

/* CUDA_KERNEL_NODE_PARAMS_v1 */
typedef struct cu_kernel_node {
    cu_function function;
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    void **parameters;
    void **extra;
} cu_kernel_node;

typedef struct cu_copy_end {
    size_t x, y, z, lod;
    uint32_t memory;
    const void *host;
    cu_address device;
    void *array;
    void *reserved;
    size_t pitch, height;
} cu_copy_end;

/* CUDA_MEMCPY3D_v2 */
typedef struct cu_copy_node {
    cu_copy_end source;
    cu_copy_end destination;
    size_t width, height, depth;
} cu_copy_node;

/* CUDA_HOST_NODE_PARAMS_v1 */
typedef struct cu_host_node {
    cu_host_function function;
    void *data;
} cu_host_node;

/* DO(member, symbol, parameters): what every driver has that runs any of our images. */
#define CU_FUNCTIONS(DO)                                                                                           \
    DO(init, cuInit, (uint32_t flags))                                                                             \
    DO(driver_version, cuDriverGetVersion, (int32_t * version))                                                    \
    DO(error_name, cuGetErrorName, (cu_result error, const char **text))                                           \
    DO(error_string, cuGetErrorString, (cu_result error, const char **text))                                       \
    DO(device_count, cuDeviceGetCount, (int32_t * count))                                                          \
    DO(device_get, cuDeviceGet, (cu_device * device, int32_t ordinal))                                             \
    DO(device_name, cuDeviceGetName, (char *name, int32_t bytes, cu_device device))                                \
    DO(device_attribute, cuDeviceGetAttribute, (int32_t * value, int32_t attribute, cu_device device))             \
    DO(device_memory, cuDeviceTotalMem_v2, (size_t * bytes, cu_device device))                                     \
    DO(context_retain, cuDevicePrimaryCtxRetain, (cu_context * context, cu_device device))                         \
    DO(context_release, cuDevicePrimaryCtxRelease_v2, (cu_device device))                                          \
    DO(context_push, cuCtxPushCurrent_v2, (cu_context context))                                                    \
    DO(context_pop, cuCtxPopCurrent_v2, (cu_context * context))                                                    \
    DO(module_load, cuModuleLoadDataEx,                                                                            \
       (cu_module * module, const void *image, uint32_t count, int32_t *options, void **values))                   \
    DO(module_unload, cuModuleUnload, (cu_module module))                                                          \
    DO(module_function, cuModuleGetFunction, (cu_function * function, cu_module module, const char *name))         \
    DO(function_set, cuFuncSetAttribute, (cu_function function, int32_t attribute, int32_t value))                 \
    DO(memory_alloc, cuMemAlloc_v2, (cu_address * address, size_t bytes))                                          \
    DO(memory_free, cuMemFree_v2, (cu_address address))                                                            \
    DO(memory_info, cuMemGetInfo_v2, (size_t * free_bytes, size_t * total_bytes))                                  \
    DO(host_alloc, cuMemHostAlloc, (void **memory, size_t bytes, uint32_t flags))                                  \
    DO(host_free, cuMemFreeHost, (void *memory))                                                                   \
    DO(copy_to_device_async, cuMemcpyHtoDAsync_v2,                                                                 \
       (cu_address destination, const void *source, size_t bytes, cu_stream stream))                               \
    DO(copy_to_host_async, cuMemcpyDtoHAsync_v2,                                                                   \
       (void *destination, cu_address source, size_t bytes, cu_stream stream))                                     \
    DO(copy_on_device_async, cuMemcpyDtoDAsync_v2,                                                                 \
       (cu_address destination, cu_address source, size_t bytes, cu_stream stream))                                \
    DO(pointer_attribute, cuPointerGetAttribute, (void *value, int32_t attribute, cu_address address))             \
    DO(stream_create, cuStreamCreate, (cu_stream * stream, uint32_t flags))                                        \
    DO(stream_destroy, cuStreamDestroy_v2, (cu_stream stream))                                                     \
    DO(stream_synchronize, cuStreamSynchronize, (cu_stream stream))                                                \
    DO(stream_wait, cuStreamWaitEvent, (cu_stream stream, cu_event event, uint32_t flags))                         \
    DO(event_create, cuEventCreate, (cu_event * event, uint32_t flags))                                            \
    DO(event_destroy, cuEventDestroy_v2, (cu_event event))                                                         \
    DO(event_record, cuEventRecord, (cu_event event, cu_stream stream))                                            \
    DO(event_synchronize, cuEventSynchronize, (cu_event event))                                                    \
    DO(event_elapsed, cuEventElapsedTime, (float *milliseconds, cu_event start, cu_event end))                     \
    DO(launch, cuLaunchKernel,                                                                                     \
       (cu_function function, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z, uint32_t block_x,                 \
        uint32_t block_y, uint32_t block_z, uint32_t shared_bytes, cu_stream stream, void **parameters,            \
        void **extra))                                                                                             \
    DO(launch_host, cuLaunchHostFunc, (cu_stream stream, cu_host_function function, void *data))

/* What graphs need besides; without one of these runs are plain launches. */
#define CU_GRAPH_FUNCTIONS(DO)                                                                                     \
    DO(graph_create, cuGraphCreate, (cu_graph * graph, uint32_t flags))                                            \
    DO(graph_destroy, cuGraphDestroy, (cu_graph graph))                                                            \
    DO(graph_add_kernel, cuGraphAddKernelNode,                                                                     \
       (cu_node * node, cu_graph graph, const cu_node *after, size_t count, const cu_kernel_node *kernel))         \
    DO(graph_add_copy, cuGraphAddMemcpyNode,                                                                       \
       (cu_node * node, cu_graph graph, const cu_node *after, size_t count, const cu_copy_node *copy,              \
        cu_context context))                                                                                       \
    DO(graph_add_host, cuGraphAddHostNode,                                                                         \
       (cu_node * node, cu_graph graph, const cu_node *after, size_t count, const cu_host_node *host))             \
    DO(graph_add_record, cuGraphAddEventRecordNode,                                                                \
       (cu_node * node, cu_graph graph, const cu_node *after, size_t count, cu_event event))                       \
    DO(graph_instantiate, cuGraphInstantiateWithFlags,                                                             \
       (cu_graph_exec * exec, cu_graph graph, unsigned long long flags))                                           \
    DO(graph_exec_destroy, cuGraphExecDestroy, (cu_graph_exec exec))                                               \
    DO(graph_set_kernel, cuGraphExecKernelNodeSetParams,                                                           \
       (cu_graph_exec exec, cu_node node, const cu_kernel_node *kernel))                                           \
    DO(graph_set_copy, cuGraphExecMemcpyNodeSetParams,                                                             \
       (cu_graph_exec exec, cu_node node, const cu_copy_node *copy, cu_context context))                           \
    DO(graph_upload, cuGraphUpload, (cu_graph_exec exec, cu_stream stream))                                        \
    DO(graph_launch, cuGraphLaunch, (cu_graph_exec exec, cu_stream stream))

#define CU_MEMBER(member, symbol, parameters) cu_result(*member) parameters;
typedef struct dcc_driver {
    CU_FUNCTIONS(CU_MEMBER)
    CU_GRAPH_FUNCTIONS(CU_MEMBER)
    int32_t graphs; /* 1: all functions for graphs are there */
} dcc_driver;

/* The driver, loaded and initialised once in a process; NULL, with `text` filled, where there is none, its
 * initialisation failed or the process was forked since: *status is then a dcc_cuda_status. */
const dcc_driver *dcc_driver_load(int32_t *status, char *text, size_t text_bytes);
/* 1 in a process that was forked from one which had used the driver: nothing of CUDA works there. */
int dcc_driver_forked(void);
/* Whether a context is lost with such an error: no call in it succeeds any more. */
int dcc_is_sticky(cu_result result);

#endif
