/* Allocations and threads of the runtime, counted and failing on request: the linker wraps what it calls. */
#ifndef FAULTY_H
#define FAULTY_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Each call counts down; the one that reaches 0 fails, and with `fail_on` so do all after it.  -1: none. */
static _Atomic int fail_in = -1;
static int fail_on;
static _Atomic int calls;       /* that can fail */
static _Atomic int allocations; /* since the start */
static _Atomic int live;        /* blocks */
static void (*before_thread)(void);

static int to_fail(void) {
    calls++;
    if (fail_in > 1) {
        fail_in--;
        return 0;
    }
    if (fail_in == 1 && !fail_on) {
        fail_in = -1;
        return 1;
    }
    return fail_in == 1;
}

#define REAL(type, name, ...)     \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

REAL(void *, malloc, size_t bytes) {
    void *block = to_fail() ? NULL : __real_malloc(bytes);
    allocations++;
    live += block != NULL;
    return block;
}

REAL(void *, calloc, size_t count, size_t bytes) {
    void *block = to_fail() ? NULL : __real_calloc(count, bytes);
    allocations++;
    live += block != NULL;
    return block;
}

REAL(int, posix_memalign, void **place, size_t alignment, size_t bytes) {
    allocations++;
    if (to_fail()) {
        *place = (void *)-1; /* POSIX lets it be anything then */
        return ENOMEM;
    }
    int failed = __real_posix_memalign(place, alignment, bytes);
    live += failed == 0;
    return failed;
}

REAL(void, free, void *block) {
    live -= block != NULL;
    __real_free(block);
}

REAL(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *data) {
    if (before_thread != NULL) {
        before_thread();
    }
    return to_fail() ? EAGAIN : __real_pthread_create(thread, attributes, start, data);
}

REAL(int, pthread_mutex_init, pthread_mutex_t *lock, const pthread_mutexattr_t *attributes) {
    return to_fail() ? ENOMEM : __real_pthread_mutex_init(lock, attributes);
}

REAL(int, pthread_cond_init, pthread_cond_t *cond, const pthread_condattr_t *attributes) {
    return to_fail() ? ENOMEM : __real_pthread_cond_init(cond, attributes);
}

REAL(int, pthread_attr_init, pthread_attr_t *attributes) {
    return to_fail() ? ENOMEM : __real_pthread_attr_init(attributes);
}

#endif
