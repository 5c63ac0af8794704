/* Handles: memory, and one run of a model's steps. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "checks.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint32_t dcc_abi(void) {
    return DCC_ABI;
}

const char *dcc_status_text(int32_t status) {
    switch (status) {
    case DCC_OK: return "ok";
    case DCC_ERROR_ARGUMENT: return "bad argument";
    case DCC_ERROR_BUSY: return "the handle is in use";
    case DCC_ERROR_MEMORY: return "out of memory";
    case DCC_ERROR_THREAD: return "a thread could not be started or pinned";
    case DCC_ERROR_KERNEL: return "a kernel failed";
    case DCC_ERROR_ABI: return "the library and the shared runtime have different ABI versions";
    default: return "unknown status";
    }
}

const char *dcc_last_error(const dcc_handle *handle) {
    return handle == NULL || !dcc_is_handle(handle, __func__) ? dcc_thread_error() : handle->error;
}

int32_t dcc_threads(const dcc_handle *handle) {
    return handle == NULL || !dcc_is_handle(handle, __func__) ? 0 : handle->threads;
}

/* ---- create and destroy ---- */

/* Rounds up and adds; 1 when the sum does not fit a size_t. */
static int add_block(size_t *total, uint64_t bytes, size_t slack) {
    uint64_t limit = SIZE_MAX / 2;
    if (bytes > limit - slack - DCC_ALIGNMENT) {
        return 1;
    }
    size_t rounded = ((size_t)bytes + slack + DCC_ALIGNMENT - 1) & ~(size_t)(DCC_ALIGNMENT - 1);
    if (rounded > limit - *total) {
        return 1;
    }
    *total += rounded;
    return 0;
}

typedef struct layout {
    size_t main_space;
    size_t worker_space;
    size_t total;
} layout;

static size_t slack_for(uint64_t bytes) {
    return bytes == 0 ? 0 : DCC_WORKSPACE_SLACK;
}

static size_t with_notes(size_t space) {
    return space + DCC_WORKSPACE_NOTES(space);
}

static dcc_status lay_out(const dcc_model *model, int32_t threads, layout *sizes) {
    *sizes = (layout){0, 0, 0};
    int too_large = add_block(&sizes->total, model->arena_bytes, 0)
                 || add_block(&sizes->main_space, model->workspace_bytes, slack_for(model->workspace_bytes))
                 || add_block(&sizes->worker_space, model->thread_workspace_bytes,
                              slack_for(model->thread_workspace_bytes))
                 || sizes->worker_space > SIZE_MAX / 4 / DCC_MAX_THREADS
                 || add_block(&sizes->total, (uint64_t)with_notes(sizes->main_space), 0)
                 || add_block(&sizes->total, (uint64_t)with_notes(sizes->worker_space) * (uint64_t)threads, 0);
    if (sizes->total == 0) {
        sizes->total = DCC_ALIGNMENT;
    }
    return too_large ? dcc_fail(NULL, DCC_ERROR_MEMORY, "the model needs more memory than can be addressed")
                     : DCC_OK;
}

size_t dcc_memory_bytes(const dcc_model *model, const dcc_options *given) {
    dcc_options options;
    layout sizes;
    if (dcc_read_options(model, given, &options) != DCC_OK || lay_out(model, options.threads, &sizes) != DCC_OK) {
        return 0;
    }
    return sizes.total;
}

dcc_status dcc_create(const dcc_model *model, const dcc_options *given, dcc_handle **handle) {
    dcc_options options;
    layout sizes;
    dcc_forget_thread_error();
    if (handle == NULL || !DCC_IS_ALIGNED(handle, dcc_handle *)) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "the place for the new handle is %s",
                        handle == NULL ? "NULL" : "not aligned for a pointer");
    }
    *handle = NULL;
    dcc_status status = dcc_read_options(model, given, &options);
    if (status == DCC_OK) {
        status = lay_out(model, options.threads, &sizes);
    }
    if (status != DCC_OK) {
        return status;
    }
    if (options.memory != NULL
        && (options.memory_bytes < sizes.total || (uintptr_t)options.memory % DCC_ALIGNMENT != 0)) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "options.memory must be %u-byte aligned and hold %zu bytes",
                        DCC_ALIGNMENT, sizes.total);
    }
    dcc_handle *made = calloc(1, sizeof *made + (size_t)options.threads * sizeof made->worker_spaces[0]);
    if (made == NULL
        || (options.memory == NULL && posix_memalign(&made->owned, DCC_ALIGNMENT, sizes.total) != 0)) {
        free(made);
        return dcc_fail(NULL, DCC_ERROR_MEMORY, "no memory for %zu bytes of arena and workspace", sizes.total);
    }
    void *memory = made->owned == NULL ? options.memory : made->owned;
    made->lent_bytes = made->owned == NULL ? sizes.total : 0;
    if (model->timed) {
        made->timers = calloc(1, sizeof *made->timers + model->step_count * sizeof made->timers->steps[0]);
        if (made->timers == NULL) {
            free(made->owned);
            free(made);
            return dcc_fail(NULL, DCC_ERROR_MEMORY, "no memory for the times of %u steps",
                        (unsigned)model->step_count);
        }
        dcc_timers_init(made->timers);
    }
    made->model = model;
    made->threads = options.threads;
    made->arena = memory;
    size_t each = with_notes(sizes.worker_space);
    unsigned char *worker_base = (unsigned char *)memory + sizes.total - each * (size_t)options.threads;
    dcc_workspace_init(&made->main_space, worker_base - with_notes(sizes.main_space), sizes.main_space);
    for (int32_t i = 0; i < options.threads; i++) {
        dcc_workspace_init(&made->worker_spaces[i], worker_base + (size_t)i * each, sizes.worker_space);
    }
    if (options.threads > 1) {
        status = dcc_pool_acquire(&options, &made->pool);
        if (status != DCC_OK) {
            free(made->timers);
            free(made->owned);
            free(made);
            return dcc_fail(NULL, status, status == DCC_ERROR_MEMORY ? "no memory for %d threads"
                                                                     : "%d threads could not be started or pinned",
                            (int)options.threads - 1);
        }
    }
#if defined(DCC_DEBUG)
    dcc_note_made(made);
#endif
    *handle = made;
    return DCC_OK;
}

/* ---- one user at a time ---- */

static inline int take(dcc_handle *handle) {
    int32_t user = 0;
    int32_t process = handle->pool == NULL ? 1 : (int32_t)getpid();
    if (atomic_compare_exchange_strong_explicit(&handle->user, &user, process, memory_order_acquire,
                                                memory_order_relaxed)) {
        return 1;
    }
    /* Forked while another thread was inside: that thread is not in this process. */
    return handle->pool != NULL && user != process
        && atomic_compare_exchange_strong_explicit(&handle->user, &user, process, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* DCC_OK: the handle is the caller's until it leaves. */
__attribute__((always_inline)) static inline dcc_status enter(dcc_handle *handle, const char *function) {
    (void)function;
    if (handle == NULL || !DCC_IS_ALIGNED(handle, dcc_handle) || !dcc_is_handle(handle, function)) {
        return DCC_ERROR_ARGUMENT;
    }
    return take(handle) ? DCC_OK : DCC_ERROR_BUSY;
}

static void leave(dcc_handle *handle) {
    atomic_store_explicit(&handle->user, 0, memory_order_release);
}

dcc_status dcc_enter(dcc_handle *handle, const char *function) {
    return enter(handle, function);
}

void dcc_leave(dcc_handle *handle) {
    leave(handle);
}

dcc_status dcc_destroy(dcc_handle *handle) {
    if (handle == NULL) {
        return DCC_OK;
    }
    dcc_status status = enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    if (handle->pool != NULL) {
        dcc_pool_release(handle->pool);
    }
    if (handle->shared != NULL) {
        dcc_arena_part(handle->shared);
    }
    free(handle->timers);
    free(handle->owned);
#if defined(DCC_DEBUG)
    dcc_note_destroyed(handle);
#else
    free(handle);
#endif
    return DCC_OK;
}

dcc_status dcc_observe(dcc_handle *handle, dcc_observer observer, void *context) {
    dcc_status status = enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    handle->watch = (dcc_watch){observer, context};
    leave(handle);
    return status;
}

dcc_status dcc_profile(dcc_handle *handle, dcc_step_time *times, uint32_t count) {
    dcc_status status = enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    const uint32_t steps = handle->model->step_count;
    if (handle->timers == NULL) {
        status = dcc_fail(handle, DCC_ERROR_ARGUMENT, "the model was built without timers");
    } else if (count != steps || (times == NULL && steps > 0)) {
        status = dcc_fail(handle, DCC_ERROR_ARGUMENT, "%s for the times of %u steps",
                          times == NULL ? "no room" : "room for another number", (unsigned)steps);
    } else if (!DCC_IS_ALIGNED(times, dcc_step_time)) {
        status = dcc_fail(handle, DCC_ERROR_ARGUMENT, "the room for times is not aligned as their type asks for");
    } else if (steps > 0) {
        memcpy(times, handle->timers->steps, steps * sizeof *times);
    }
    leave(handle);
    return status;
}

dcc_status dcc_profile_reset(dcc_handle *handle) {
    dcc_status status = enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    if (handle->timers != NULL) {
        dcc_timers_reset(handle->timers, handle->model->step_count);
    }
    leave(handle);
    return status;
}

/* ---- run ---- */

static dcc_status run_steps(dcc_handle *handle, const void *const *inputs, void *const *outputs) {
    const dcc_model *model = handle->model;
    int parallel = handle->pool != NULL && dcc_pool_enter(handle->pool) == 0;
    dcc_thread thread = {&handle->main_space, handle->worker_spaces, parallel ? handle->pool : NULL, handle->threads, 0};
    dcc_thread *before = dcc_become(&thread);
    uint32_t step = 0;
    const dcc_watch *watch = handle->watch.observer == NULL ? NULL : &handle->watch;
    const dcc_watch timing = {dcc_timers_take, handle->timers};
    const int timed = handle->timers != NULL && dcc_timers_start(handle->timers, watch);
    int32_t result = model->steps(inputs, outputs, handle->arena, &step, timed ? &timing : watch);
    if (timed) {
        dcc_timers_end(handle->timers, model->step_count);
    }
    (void)dcc_become(before);
    if (result == 0) {
        return DCC_OK;
    }
    handle->main_space.top = 0, handle->main_space.live = 0;
    for (int32_t i = 0; i < handle->threads; i++) {
        handle->worker_spaces[i].top = 0, handle->worker_spaces[i].live = 0;
    }
    return dcc_fail(handle, DCC_ERROR_KERNEL, "step %u of %u, %.150s, returned %d", (unsigned)step,
                (unsigned)model->step_count, step < model->step_count ? model->step_names[step] : "?", (int)result);
}

dcc_status dcc_run(dcc_handle *handle, const void *const *inputs, void *const *outputs) {
    dcc_status status = enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    status = dcc_check_buffers(handle, inputs, outputs);
    if (status == DCC_OK && handle->shared != NULL && !dcc_arena_enter(handle->shared)) {
        status = dcc_fail(handle, DCC_ERROR_BUSY, "another handle runs in the same arena");
    } else if (status == DCC_OK) {
        status = run_steps(handle, inputs, outputs);
        if (handle->shared != NULL) {
            dcc_arena_leave(handle->shared);
        }
    }
    leave(handle);
    return status;
}
