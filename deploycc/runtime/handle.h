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
    size_t lent_bytes; /* of caller-owned memory from `arena` on; 0 otherwise */
    dcc_arena *shared; /* whose memory it has; NULL for none */
    _Atomic int32_t user; /* process id of the thread inside, 0 for none */
    int32_t threads;
    dcc_watch watch; /* no observer: nobody */
    dcc_timers *timers; /* NULL for a model without */
    char error[DCC_ERROR_BYTES];
    dcc_workspace main_space;
    dcc_workspace worker_spaces[]; /* one for each participant */
};

/* Writes the text of the handle's last error, or with NULL of the calling thread's; gives `status` (failures.c). */
__attribute__((format(printf, 3, 4))) dcc_status dcc_fail(dcc_handle *handle, dcc_status status, const char *format,
                                                          ...);
/* The calling thread's, "" for none. */
const char *dcc_thread_error(void);
void dcc_forget_thread_error(void);

/* The options with what was left open filled in (checks.c). */
dcc_status dcc_read_options(const dcc_model *model, const dcc_options *given, dcc_options *options);

/* Whether an address is a multiple of its type's alignment. */
#define DCC_IS_ALIGNED(pointer, type) ((uintptr_t)(pointer) % _Alignof(type) == 0)

/* With DCC_DEBUG it is known which handles there are (lives.c); otherwise every handle is taken for one. */
#if defined(DCC_DEBUG)
void dcc_note_made(dcc_handle *handle);
/* Takes it off the list and frees it, later. */
void dcc_note_destroyed(dcc_handle *handle);
/* 0, and a line on stderr, for what is no handle any more, or never was one. */
int dcc_is_handle(const dcc_handle *handle, const char *function);
#else
#define dcc_is_handle(handle, function) 1
#endif

/* DCC_OK: the handle is the caller's until dcc_leave; `function` is named by a debug runtime. */
dcc_status dcc_enter(dcc_handle *handle, const char *function);
void dcc_leave(dcc_handle *handle);

/* One handle less in the arena (arena.c). */
void dcc_arena_part(dcc_arena *arena);
/* 1: it is the caller's until dcc_arena_leave. */
int dcc_arena_enter(dcc_arena *arena);
void dcc_arena_leave(dcc_arena *arena);

#endif
