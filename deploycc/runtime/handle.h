/* Handles, for the runtime's own files that look inside one. */
#ifndef DEPLOYCC_HANDLE_H
#define DEPLOYCC_HANDLE_H

#include "deploycc_rt.h"

#include <stdatomic.h>

#define DCC_ERROR_BYTES 256

struct dcc_handle {
    const dcc_model *model;
    dcc_pool *pool; /* NULL for one thread */
    void *arena;
    void *owned; /* what destroy frees; NULL for caller-owned memory */
    dcc_arena *shared; /* whose memory it has; NULL for none */
    _Atomic int32_t user; /* process id of the thread inside, 0 for none */
    int32_t threads;
    dcc_watch watch; /* no observer: nobody */
    dcc_timers *timers; /* NULL for a model without */
    char error[DCC_ERROR_BYTES];
    dcc_workspace main_space;
    dcc_workspace worker_spaces[]; /* one for each participant */
};

/* Writes the text of the handle's last error, or with NULL of the calling thread's; gives `status`. */
__attribute__((format(printf, 3, 4))) dcc_status dcc_fail(dcc_handle *handle, dcc_status status, const char *format,
                                                          ...);

/* 1: the handle is the caller's until dcc_leave. */
int dcc_enter(dcc_handle *handle);
void dcc_leave(dcc_handle *handle);

/* One handle less in the arena (arena.c). */
void dcc_arena_part(dcc_arena *arena);
/* 1: it is the caller's until dcc_arena_leave. */
int dcc_arena_enter(dcc_arena *arena);
void dcc_arena_leave(dcc_arena *arena);

#endif
