/* Handles: memory, the error slot, and one run of a model's steps. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "handle.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Texts of the last failed creates, each with the thread it is for: a text in thread-local storage would
 * take of a reserve that all libraries of a process share (parallel.c). */
#define CREATE_ERRORS 32
typedef struct create_failure {
    _Atomic int32_t thread; /* kernel's number of it, 0 for none; these come again later than pthread_t do */
    char text[DCC_ERROR_BYTES];
} create_failure;
static create_failure create_failures[CREATE_ERRORS];
static _Atomic uint32_t places_taken;

static create_failure *find_create_failure(int32_t thread) {
    for (size_t i = 0; i < CREATE_ERRORS; i++) {
        if (atomic_load_explicit(&create_failures[i].thread, memory_order_relaxed) == thread) {
            return &create_failures[i];
        }
    }
    return NULL;
}

static int32_t thread_number(void) {
    return (int32_t)syscall(SYS_gettid);
}

static char *create_error(void) {
    int32_t thread = thread_number();
    create_failure *place = find_create_failure(thread);
    if (place == NULL) {
        place = &create_failures[atomic_fetch_add(&places_taken, 1) % CREATE_ERRORS];
        atomic_store_explicit(&place->thread, thread, memory_order_relaxed);
    }
    return place->text;
}

static const char *last_create_error(void) {
    create_failure *place = find_create_failure(thread_number());
    return place == NULL ? "" : place->text;
}

static void forget_create_error(void) {
    create_failure *place = find_create_failure(thread_number());
    if (place != NULL) {
        place->text[0] = '\0';
    }
}

static dcc_status fail(char *slot, dcc_status status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    (void)vsnprintf(slot, DCC_ERROR_BYTES, format, values);
    va_end(values);
    return status;
}

dcc_status dcc_fail(dcc_handle *handle, dcc_status status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    (void)vsnprintf(handle == NULL ? create_error() : handle->error, DCC_ERROR_BYTES, format, values);
    va_end(values);
    return status;
}

uint32_t dcc_abi(void) {
    return DCC_ABI;
}

const char *dcc_status_text(int32_t status) {
    switch (status) {
    case DCC_OK: return "ok";
    case DCC_ERROR_ARGUMENT: return "bad argument";
    case DCC_ERROR_BUSY: return "the handle is in use by another thread";
    case DCC_ERROR_MEMORY: return "out of memory";
    case DCC_ERROR_THREAD: return "a thread could not be started or pinned";
    case DCC_ERROR_KERNEL: return "a kernel failed";
    case DCC_ERROR_ABI: return "the library and the shared runtime have different ABI versions";
    default: return "unknown status";
    }
}

const char *dcc_last_error(const dcc_handle *handle) {
    return handle == NULL ? last_create_error() : handle->error;
}

int32_t dcc_threads(const dcc_handle *handle) {
    return handle == NULL ? 0 : handle->threads;
}

/* ---- create and destroy ---- */

static dcc_status read_options(const dcc_model *model, const dcc_options *given, dcc_options *options) {
    *options = (dcc_options){sizeof *options, 0, -1, NULL, 0, NULL, 0};
    if (model == NULL || model->abi != DCC_ABI) {
        return fail(create_error(), DCC_ERROR_ABI, "model ABI %u, runtime ABI %u",
                    model == NULL ? 0u : (unsigned)model->abi, DCC_ABI);
    }
    if (given != NULL) {
        if (given->struct_size != sizeof *given) {
            return fail(create_error(), DCC_ERROR_ARGUMENT,
                        "options.struct_size is %zu, not %zu: start from the OPTIONS_INIT macro", given->struct_size,
                        sizeof *given);
        }
        *options = *given;
    }
    if (options->threads < 0 || options->threads > DCC_MAX_THREADS) {
        return fail(create_error(), DCC_ERROR_ARGUMENT, "options.threads is %d, not 0 to %d", (int)options->threads,
                    DCC_MAX_THREADS);
    }
    if ((options->cpus == NULL) != (options->cpu_count == 0)) {
        return fail(create_error(), DCC_ERROR_ARGUMENT, "options.cpus and options.cpu_count contradict each other");
    }
    if (options->threads == 0) {
        int32_t usable = dcc_usable_cpus();
        options->threads = usable < DCC_MAX_THREADS ? usable : DCC_MAX_THREADS;
    }
    return DCC_OK;
}

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
    return too_large ? fail(create_error(), DCC_ERROR_MEMORY, "the model needs more memory than can be addressed")
                     : DCC_OK;
}

size_t dcc_memory_bytes(const dcc_model *model, const dcc_options *given) {
    dcc_options options;
    layout sizes;
    if (read_options(model, given, &options) != DCC_OK || lay_out(model, options.threads, &sizes) != DCC_OK) {
        return 0;
    }
    return sizes.total;
}

dcc_status dcc_create(const dcc_model *model, const dcc_options *given, dcc_handle **handle) {
    dcc_options options;
    layout sizes;
    forget_create_error();
    if (handle == NULL) {
        return fail(create_error(), DCC_ERROR_ARGUMENT, "the place for the new handle is NULL");
    }
    *handle = NULL;
    dcc_status status = read_options(model, given, &options);
    if (status == DCC_OK) {
        status = lay_out(model, options.threads, &sizes);
    }
    if (status != DCC_OK) {
        return status;
    }
    if (options.memory != NULL
        && (options.memory_bytes < sizes.total || (uintptr_t)options.memory % DCC_ALIGNMENT != 0)) {
        return fail(create_error(), DCC_ERROR_ARGUMENT, "options.memory must be %u-byte aligned and hold %zu bytes",
                    DCC_ALIGNMENT, sizes.total);
    }
    dcc_handle *made = calloc(1, sizeof *made + (size_t)options.threads * sizeof made->worker_spaces[0]);
    void *memory = options.memory;
    if (made != NULL && memory == NULL && posix_memalign(&memory, DCC_ALIGNMENT, sizes.total) == 0) {
        made->owned = memory;
    }
    if (made == NULL || memory == NULL) {
        free(made);
        return fail(create_error(), DCC_ERROR_MEMORY, "no memory for %zu bytes of arena and workspace", sizes.total);
    }
    if (model->timed) {
        made->timers = calloc(1, sizeof *made->timers + model->step_count * sizeof made->timers->steps[0]);
        if (made->timers == NULL) {
            free(made->owned);
            free(made);
            return fail(create_error(), DCC_ERROR_MEMORY, "no memory for the times of %u steps",
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
        made->pool = dcc_pool_acquire(options.threads, options.spin_us, options.cpus, options.cpu_count);
        if (made->pool == NULL) {
            free(made->timers);
            free(made->owned);
            free(made);
            return fail(create_error(), DCC_ERROR_THREAD, "%d threads could not be started or pinned",
                        (int)options.threads - 1);
        }
    }
    *handle = made;
    return DCC_OK;
}

/* ---- one user at a time ---- */

static int enter(dcc_handle *handle) {
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

static void leave(dcc_handle *handle) {
    atomic_store_explicit(&handle->user, 0, memory_order_release);
}

int dcc_enter(dcc_handle *handle) {
    return enter(handle);
}

void dcc_leave(dcc_handle *handle) {
    leave(handle);
}

dcc_status dcc_destroy(dcc_handle *handle) {
    if (handle == NULL) {
        return DCC_OK;
    }
    if (!enter(handle)) {
        return DCC_ERROR_BUSY;
    }
    if (handle->pool != NULL) {
        dcc_pool_release(handle->pool);
    }
    if (handle->shared != NULL) {
        dcc_arena_part(handle->shared);
    }
    free(handle->timers);
    free(handle->owned);
    free(handle);
    return DCC_OK;
}

dcc_status dcc_observe(dcc_handle *handle, dcc_observer observer, void *context) {
    if (handle == NULL) {
        return DCC_ERROR_ARGUMENT;
    }
    if (!enter(handle)) {
        return DCC_ERROR_BUSY;
    }
    handle->watch = (dcc_watch){observer, context};
    leave(handle);
    return DCC_OK;
}

dcc_status dcc_profile(dcc_handle *handle, dcc_step_time *times, uint32_t count) {
    if (handle == NULL) {
        return DCC_ERROR_ARGUMENT;
    }
    if (!enter(handle)) {
        return DCC_ERROR_BUSY;
    }
    const uint32_t steps = handle->model->step_count;
    dcc_status status = DCC_OK;
    if (handle->timers == NULL) {
        status = fail(handle->error, DCC_ERROR_ARGUMENT, "the model was built without timers");
    } else if (count != steps || (times == NULL && steps > 0)) {
        status = fail(handle->error, DCC_ERROR_ARGUMENT, "%s for the times of %u steps",
                      times == NULL ? "no room" : "room for another number", (unsigned)steps);
    } else if (steps > 0) {
        memcpy(times, handle->timers->steps, steps * sizeof *times);
    }
    leave(handle);
    return status;
}

dcc_status dcc_profile_reset(dcc_handle *handle) {
    if (handle == NULL) {
        return DCC_ERROR_ARGUMENT;
    }
    if (!enter(handle)) {
        return DCC_ERROR_BUSY;
    }
    if (handle->timers != NULL) {
        dcc_timers_reset(handle->timers, handle->model->step_count);
    }
    leave(handle);
    return DCC_OK;
}

/* ---- run ---- */

static dcc_status check_pointer(dcc_handle *handle, const dcc_tensor *tensor, const char *role, const void *data) {
    if (data == NULL && tensor->bytes > 0) {
        return fail(handle->error, DCC_ERROR_ARGUMENT, "%s '%.100s' is NULL", role, tensor->name);
    }
    if ((uintptr_t)data % tensor->alignment != 0) {
        return fail(handle->error, DCC_ERROR_ARGUMENT, "%s '%.100s' is not aligned to %zu bytes", role, tensor->name,
                    tensor->alignment);
    }
    return DCC_OK;
}

static int overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y ? y - x < a_bytes : x - y < b_bytes;
}

static dcc_status check_buffers(dcc_handle *handle, const void *const *inputs, void *const *outputs) {
    const dcc_model *model = handle->model;
    if ((inputs == NULL && model->input_count > 0) || (outputs == NULL && model->output_count > 0)) {
        return fail(handle->error, DCC_ERROR_ARGUMENT, "the list of %s is NULL",
                    inputs == NULL && model->input_count > 0 ? "inputs" : "outputs");
    }
    for (uint32_t i = 0; i < model->input_count; i++) {
        dcc_status status = check_pointer(handle, &model->inputs[i], "input", inputs[i]);
        if (status != DCC_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        const dcc_tensor *output = &model->outputs[i];
        dcc_status status = check_pointer(handle, output, "output", outputs[i]);
        if (status != DCC_OK) {
            return status;
        }
        for (uint32_t j = 0; j < model->input_count + i; j++) {
            int is_input = j < model->input_count;
            const dcc_tensor *other = is_input ? &model->inputs[j] : &model->outputs[j - model->input_count];
            const void *data = is_input ? inputs[j] : outputs[j - model->input_count];
            if (output->bytes > 0 && other->bytes > 0 && overlap(outputs[i], output->bytes, data, other->bytes)) {
                return fail(handle->error, DCC_ERROR_ARGUMENT, "output '%.90s' overlaps %s '%.90s'", output->name,
                            is_input ? "input" : "output", other->name);
            }
        }
    }
    return DCC_OK;
}

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
    return fail(handle->error, DCC_ERROR_KERNEL, "step %u of %u, %.150s, returned %d", (unsigned)step,
                (unsigned)model->step_count, step < model->step_count ? model->step_names[step] : "?", (int)result);
}

dcc_status dcc_run(dcc_handle *handle, const void *const *inputs, void *const *outputs) {
    if (handle == NULL) {
        return DCC_ERROR_ARGUMENT;
    }
    if (!enter(handle)) {
        return DCC_ERROR_BUSY;
    }
    dcc_status status = check_buffers(handle, inputs, outputs);
    if (status == DCC_OK && handle->shared != NULL && !dcc_arena_enter(handle->shared)) {
        status = fail(handle->error, DCC_ERROR_BUSY, "another handle runs in the same arena");
    } else if (status == DCC_OK) {
        status = run_steps(handle, inputs, outputs);
        if (handle->shared != NULL) {
            dcc_arena_leave(handle->shared);
        }
    }
    leave(handle);
    return status;
}
