/* Memory that handles of several networks use by turns. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "handle.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct dcc_arena {
    void *memory;
    size_t bytes;
    _Atomic uint32_t handles;
    _Atomic int32_t user; /* process id of the thread that runs in it, 0 for none */
};

dcc_status dcc_arena_create(size_t bytes, dcc_arena **arena) {
    if (arena == NULL) {
        return DCC_ERROR_ARGUMENT;
    }
    *arena = NULL;
    if (bytes == 0 || bytes > SIZE_MAX / 2) {
        return DCC_ERROR_ARGUMENT;
    }
    dcc_arena *made = calloc(1, sizeof *made);
    if (made == NULL || posix_memalign(&made->memory, DCC_ALIGNMENT, bytes) != 0) {
        free(made);
        return DCC_ERROR_MEMORY;
    }
    made->bytes = bytes;
    *arena = made;
    return DCC_OK;
}

dcc_status dcc_arena_destroy(dcc_arena *arena) {
    if (arena == NULL) {
        return DCC_OK;
    }
    if (atomic_load_explicit(&arena->handles, memory_order_acquire) != 0) {
        return DCC_ERROR_BUSY;
    }
    free(arena->memory);
    free(arena);
    return DCC_OK;
}

void dcc_arena_part(dcc_arena *arena) {
    atomic_fetch_sub_explicit(&arena->handles, 1, memory_order_release);
}

int dcc_arena_enter(dcc_arena *arena) {
    int32_t user = 0;
    const int32_t process = (int32_t)getpid();
    if (atomic_compare_exchange_strong_explicit(&arena->user, &user, process, memory_order_acquire,
                                                memory_order_relaxed)) {
        return 1;
    }
    /* Forked while another thread ran in it: that thread is not in this process. */
    return user != process
        && atomic_compare_exchange_strong_explicit(&arena->user, &user, process, memory_order_acquire,
                                                   memory_order_relaxed);
}

void dcc_arena_leave(dcc_arena *arena) {
    atomic_store_explicit(&arena->user, 0, memory_order_release);
}

dcc_status dcc_create_in(const dcc_model *model, const dcc_options *given, dcc_arena *arena, dcc_handle **handle) {
    if (given != NULL && (!DCC_IS_ALIGNED(given, dcc_options) || given->struct_size != sizeof *given)) {
        return dcc_create(model, given, handle); /* which says what is wrong with them */
    }
    if (handle != NULL && !DCC_IS_ALIGNED(handle, dcc_handle *)) {
        return dcc_create(model, given, handle);
    }
    if (arena == NULL || handle == NULL || (given != NULL && given->memory != NULL)) {
        if (handle != NULL) {
            *handle = NULL;
        }
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "%s",
                    handle == NULL  ? "the place for the new handle is NULL"
                    : arena == NULL ? "the arena is NULL"
                                    : "options.memory and an arena: the handle takes one of them");
    }
    dcc_options options = {sizeof options, 0, -1, NULL, 0, NULL, 0};
    if (given != NULL) {
        options = *given;
    }
    options.memory = arena->memory;
    options.memory_bytes = arena->bytes;
    atomic_fetch_add_explicit(&arena->handles, 1, memory_order_relaxed);
    dcc_status status = dcc_create(model, &options, handle);
    if (status != DCC_OK) {
        dcc_arena_part(arena);
        return status;
    }
    (*handle)->shared = arena;
    return DCC_OK;
}
