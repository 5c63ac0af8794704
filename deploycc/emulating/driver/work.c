/* Streams: queues of work that is done when somebody waits for it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "emulated.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PLAIN_SHARED 49152u /* what a block may have without being asked for */

struct CUstream_st {
    cu_stream next;
    int32_t number;
    work *first, *last;
};

struct CUevent_st {
    cu_stream stream;   /* whose queue has the last record of it */
    uint64_t records;   /* that were queued */
    uint64_t done;      /* that were reached */
    double milliseconds;
    int is_timed;
};

static struct CUstream_st legacy; /* the stream NULL */
static cu_stream streams;
static int32_t last_number;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- one piece of work ---- */

work *work_copy(const work *one) {
    work *made = malloc(sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    *made = *one;
    made->next = NULL;
    if (one->parameters != NULL) {
        const size_t bytes = one->function->kernel->parameter_bytes;
        made->parameters = malloc(bytes + 1);
        if (made->parameters == NULL) {
            free(made);
            return NULL;
        }
        memcpy(made->parameters, one->parameters, bytes);
    }
    return made;
}

void work_free(work *one) {
    if (one != NULL) {
        free(one->parameters);
        free(one);
    }
}

cu_result work_kernel(work *one, cu_function function, const uint32_t grid[3], const uint32_t block[3],
                      uint32_t shared_bytes, void **parameters) {
    const dcc_emulated_kernel *kernel = function->kernel;
    const uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    const uint32_t fixed = kernel == NULL ? 0 : kernel->static_shared_bytes;
    if (threads == 0 || threads > 1024 || block[2] > 64 || grid[0] == 0 || grid[1] == 0 || grid[2] == 0
        || grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535) {
        return CU_INVALID_VALUE;
    }
    if (kernel != NULL && kernel->max_threads != 0 && threads > kernel->max_threads) {
        return CU_INVALID_VALUE;
    }
    if (shared_bytes > function->dynamic_shared && shared_bytes + fixed > PLAIN_SHARED) {
        return CU_INVALID_VALUE;
    }
    one->kind = WORK_KERNEL;
    one->function = function;
    memcpy(one->grid, grid, sizeof one->grid);
    memcpy(one->block, block, sizeof one->block);
    one->shared_bytes = shared_bytes;
    free(one->parameters);
    one->parameters = NULL;
    if (kernel == NULL) {
        return CU_OK; /* how many parameters it has is not known */
    }
    one->parameters = calloc(1, (size_t)kernel->parameter_bytes + 1);
    if (one->parameters == NULL) {
        return CU_OUT_OF_MEMORY;
    }
    for (uint32_t i = 0; i < kernel->parameter_count; i++) {
        memcpy(one->parameters + kernel->parameter_offsets[i], parameters[i], kernel->parameter_sizes[i]);
    }
    return CU_OK;
}

static void run_kernel(const work *one) {
    const dcc_emulated_kernel *kernel = one->function->kernel;
    emulated_log("run kernel %s grid %u %u %u block %u %u %u shared %u\n", one->function->name, one->grid[0],
                 one->grid[1], one->grid[2], one->block[0], one->block[1], one->block[2], one->shared_bytes);
    if (kernel == NULL) {
        return;
    }
    for (uint32_t i = 0; i < kernel->parameter_count; i++) {
        uint64_t address = 0;
        if (kernel->parameter_sizes[i] != sizeof address) {
            continue;
        }
        memcpy(&address, one->parameters + kernel->parameter_offsets[i], sizeof address);
        if (!emulated_is_known(address)) {
            emulated_break(CU_ILLEGAL_ADDRESS, "parameter %u of %s is no memory of the GPU", (unsigned)i, kernel->name);
            return;
        }
    }
    char error[256] = "";
    if (kernel->run(one->grid, one->block, one->shared_bytes, one->parameters, error) != 0) {
        error[sizeof error - 1] = '\0';
        emulated_break(CU_LAUNCH_FAILED, "%s: %s", kernel->name, error);
    }
}

static void *call_host(void *given) {
    const work *one = given;
    one->host(one->data);
    return NULL;
}

/* On a thread of its own, as the driver does. */
static void run_host(work *one) {
    pthread_t thread;
    emulated_log("run host\n");
    if (pthread_create(&thread, NULL, call_host, one) != 0) {
        emulated_break(CU_LAUNCH_FAILED, "no thread for a host function");
        return;
    }
    (void)pthread_join(thread, NULL);
}

static void drain_until(cu_stream stream, cu_event event, uint64_t record);

static void run_one(work *one) {
    if (emulated_broken() != CU_OK && one->kind != WORK_RECORD) {
        return;
    }
    switch (one->kind) {
    case WORK_COPY:
        emulated_log("run copy %zu\n", one->bytes);
        memcpy(one->destination, one->source, one->bytes);
        break;
    case WORK_KERNEL: run_kernel(one); break;
    case WORK_HOST: run_host(one); break;
    case WORK_RECORD:
        one->event->milliseconds = now_ms();
        one->event->done = one->record > one->event->done ? one->record : one->event->done;
        break;
    default: drain_until(one->event->stream, one->event, one->record); break;
    }
}

/* Without an event all of the queue. */
static void drain_until(cu_stream stream, cu_event event, uint64_t record) {
    while (stream != NULL && stream->first != NULL && (event == NULL || event->done < record)) {
        work *one = stream->first;
        stream->first = one->next;
        stream->last = stream->first == NULL ? NULL : stream->last;
        run_one(one);
        work_free(one);
    }
}

void work_drain_all(void) {
    drain_until(&legacy, NULL, 0);
    for (cu_stream stream = streams; stream != NULL; stream = stream->next) {
        drain_until(stream, NULL, 0);
    }
}

static cu_stream real(cu_stream stream) {
    return stream == NULL ? &legacy : stream;
}

void work_enqueue(cu_stream given, work *one) {
    cu_stream stream = real(given);
    if (one->kind == WORK_RECORD) {
        one->event->stream = stream;
        one->record = ++one->event->records;
    }
    if (stream->last == NULL) {
        stream->first = one;
    } else {
        stream->last->next = one;
    }
    stream->last = one;
}

static cu_result enqueue_copy(cu_stream stream, void *destination, const void *source, size_t bytes) {
    work *one = calloc(1, sizeof *one);
    if (one == NULL) {
        return CU_OUT_OF_MEMORY;
    }
    one->kind = WORK_COPY;
    one->destination = destination;
    one->source = source;
    one->bytes = bytes;
    work_enqueue(stream, one);
    return CU_OK;
}

/* ---- what is exported ---- */

EXPORT cu_result cuStreamCreate(cu_stream *stream, uint32_t flags) {
    ENTER("cuStreamCreate", " %u", (unsigned)flags);
    cu_stream made = calloc(1, sizeof *made);
    if (made == NULL) {
        return emulated_leave(CU_OUT_OF_MEMORY);
    }
    made->number = ++last_number;
    made->next = streams;
    streams = made;
    emulated_live[LIVE_STREAMS]++;
    *stream = made;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuStreamDestroy_v2(cu_stream stream) {
    ENTER("cuStreamDestroy_v2", "%s", "");
    cu_stream *link = &streams;
    while (*link != NULL && *link != stream) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        return emulated_leave(CU_INVALID_HANDLE);
    }
    drain_until(stream, NULL, 0);
    *link = stream->next;
    emulated_live[LIVE_STREAMS]--;
    free(stream);
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuStreamSynchronize(cu_stream stream) {
    ENTER("cuStreamSynchronize", " %d", (int)real(stream)->number);
    drain_until(real(stream), NULL, 0);
    emulated_check_guards("at a synchronization");
    return emulated_leave(emulated_broken());
}

EXPORT cu_result cuStreamWaitEvent(cu_stream stream, cu_event event, uint32_t flags) {
    ENTER("cuStreamWaitEvent", " %d %u", (int)real(stream)->number, (unsigned)flags);
    work *one = event->done < event->records ? calloc(1, sizeof *one) : NULL;
    if (one != NULL) {
        one->kind = WORK_WAIT;
        one->event = event;
        one->record = event->records;
        work_enqueue(stream, one);
    }
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuEventCreate(cu_event *event, uint32_t flags) {
    ENTER("cuEventCreate", " %u", (unsigned)flags);
    cu_event made = calloc(1, sizeof *made);
    if (made == NULL) {
        return emulated_leave(CU_OUT_OF_MEMORY);
    }
    made->is_timed = (flags & CU_EVENT_UNTIMED) == 0;
    emulated_live[LIVE_EVENTS]++;
    *event = made;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuEventDestroy_v2(cu_event event) {
    ENTER("cuEventDestroy_v2", "%s", "");
    work_drain_all(); /* queues may point to it */
    emulated_live[LIVE_EVENTS]--;
    free(event);
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuEventRecord(cu_event event, cu_stream stream) {
    ENTER("cuEventRecord", " %d", (int)real(stream)->number);
    work *one = calloc(1, sizeof *one);
    if (one == NULL) {
        return emulated_leave(CU_OUT_OF_MEMORY);
    }
    one->kind = WORK_RECORD;
    one->event = event;
    work_enqueue(stream, one);
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuEventSynchronize(cu_event event) {
    ENTER("cuEventSynchronize", "%s", "");
    if (event->done < event->records) {
        drain_until(event->stream, event, event->records);
    }
    emulated_check_guards("at a synchronization");
    return emulated_leave(emulated_broken());
}

EXPORT cu_result cuEventElapsedTime(float *milliseconds, cu_event start, cu_event end) {
    ENTER("cuEventElapsedTime", "%s", "");
    if (!start->is_timed || !end->is_timed || start->records == 0 || end->records == 0) {
        return emulated_leave(CU_INVALID_HANDLE);
    }
    if (start->done < start->records || end->done < end->records) {
        return emulated_leave(CU_NOT_READY);
    }
    *milliseconds = (float)(end->milliseconds - start->milliseconds);
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuMemcpyHtoDAsync_v2(cu_address destination, const void *source, size_t bytes, cu_stream stream) {
    ENTER("cuMemcpyHtoDAsync_v2", " %zu %d", bytes, (int)real(stream)->number);
    return emulated_leave(emulated_is_device(destination, bytes)
                              ? enqueue_copy(stream, (void *)(uintptr_t)destination, source, bytes)
                              : CU_INVALID_VALUE);
}

EXPORT cu_result cuMemcpyDtoHAsync_v2(void *destination, cu_address source, size_t bytes, cu_stream stream) {
    ENTER("cuMemcpyDtoHAsync_v2", " %zu %d", bytes, (int)real(stream)->number);
    return emulated_leave(emulated_is_device(source, bytes)
                              ? enqueue_copy(stream, destination, (const void *)(uintptr_t)source, bytes)
                              : CU_INVALID_VALUE);
}

EXPORT cu_result cuMemcpyDtoDAsync_v2(cu_address destination, cu_address source, size_t bytes, cu_stream stream) {
    ENTER("cuMemcpyDtoDAsync_v2", " %zu %d", bytes, (int)real(stream)->number);
    const int good = emulated_is_device(destination, bytes) && emulated_is_device(source, bytes);
    return emulated_leave(good ? enqueue_copy(stream, (void *)(uintptr_t)destination,
                                              (const void *)(uintptr_t)source, bytes)
                               : CU_INVALID_VALUE);
}

EXPORT cu_result cuLaunchKernel(cu_function function, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z,
                                uint32_t block_x, uint32_t block_y, uint32_t block_z, uint32_t shared_bytes,
                                cu_stream stream, void **parameters, void **extra) {
    const uint32_t grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
    (void)extra;
    ENTER("cuLaunchKernel", " %s %d", function->name, (int)real(stream)->number);
    work *one = calloc(1, sizeof *one);
    if (one == NULL) {
        return emulated_leave(CU_OUT_OF_MEMORY);
    }
    const cu_result result = work_kernel(one, function, grid, block, shared_bytes, parameters);
    if (result != CU_OK) {
        work_free(one);
        return emulated_leave(result);
    }
    work_enqueue(stream, one);
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuLaunchHostFunc(cu_stream stream, cu_host_function function, void *data) {
    ENTER("cuLaunchHostFunc", " %d", (int)real(stream)->number);
    work *one = calloc(1, sizeof *one);
    if (one == NULL) {
        return emulated_leave(CU_OUT_OF_MEMORY);
    }
    one->kind = WORK_HOST;
    one->host = function;
    one->data = data;
    work_enqueue(stream, one);
    return emulated_leave(CU_OK);
}
