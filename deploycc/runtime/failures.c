/* Texts of errors: of a handle's in the handle, of what has none yet in a table.
 *
 * Texts of the last failed creates lie in a table, each with the thread it is for: a text in thread-local storage
 * would take of a reserve that all libraries of a process share (parallel.c).  A place is taken over from a thread
 * that has ended, never from a living one, which may be reading its text.  When all belong to living threads, the
 * next one does without. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "handle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PLACES 32

typedef struct place {
    _Atomic int32_t thread; /* kernel's number of it, 0 for none; these come again later than pthread_t do */
    char text[DCC_ERROR_BYTES];
} place;
static place places[PLACES];

static int32_t thread_number(void) {
    return (int32_t)syscall(SYS_gettid);
}

static int has_ended(int32_t thread) {
    int before = errno;
    int ended = syscall(SYS_tgkill, (int32_t)getpid(), thread, 0) != 0 && errno == ESRCH;
    errno = before;
    return ended;
}

static place *place_of(int32_t thread) {
    for (size_t i = 0; i < PLACES; i++) {
        if (atomic_load_explicit(&places[i].thread, memory_order_relaxed) == thread) {
            return &places[i];
        }
    }
    return NULL;
}

static place *take_place(int32_t thread) {
    place *mine = place_of(thread);
    for (size_t i = 0; mine == NULL && i < PLACES; i++) {
        int32_t owner = atomic_load_explicit(&places[i].thread, memory_order_relaxed);
        if ((owner == 0 || has_ended(owner))
            && atomic_compare_exchange_strong_explicit(&places[i].thread, &owner, thread, memory_order_acquire,
                                                       memory_order_relaxed)) {
            mine = &places[i];
        }
    }
    return mine;
}

dcc_status dcc_fail(dcc_handle *handle, dcc_status status, const char *format, ...) {
    const int32_t thread = handle == NULL ? thread_number() : 0;
    place *taken = handle == NULL ? take_place(thread) : NULL;
    char *text = handle != NULL ? handle->error : taken != NULL ? taken->text : NULL;
    if (text != NULL) {
        va_list values;
        va_start(values, format);
        (void)vsnprintf(text, DCC_ERROR_BYTES, format, values);
        va_end(values);
    }
    if (taken != NULL) {
        atomic_store_explicit(&taken->thread, thread, memory_order_release); /* for whoever takes it over */
    }
    return status;
}

const char *dcc_thread_error(void) {
    const place *mine = place_of(thread_number());
    return mine == NULL ? "" : mine->text;
}

void dcc_forget_thread_error(void) {
    const int32_t thread = thread_number();
    place *mine = place_of(thread);
    if (mine != NULL) {
        mine->text[0] = '\0';
        atomic_store_explicit(&mine->thread, thread, memory_order_release);
    }
}
