/* What a kernel's parallel loop calls, and the state of the thread it is called on. */
#include "deploycc_rt.h"

/* A loop that leaves the count open is cut finer than there are threads: one that wakes late or shares its
 * processor with somebody else then holds the others up for a part of its share only. */
#define TASKS_PER_THREAD 4

/* A pointer and no more: thread-local storage of a library that is loaded late comes out of a reserve of
 * the C library's (glibc: about 1.6 KiB), which all libraries of a process share. */
static DCC_THREAD_LOCAL dcc_thread *this_thread;

dcc_thread *dcc_this_thread(void) {
    return this_thread;
}

dcc_thread *dcc_become(dcc_thread *thread) {
    dcc_thread *before = this_thread;
    this_thread = thread;
    return before;
}

/* A kernel that leaves the count open gets one task; a fixed count runs in order, which is
 * the same computation as long as the tasks share no barrier (dcc_parallel_barrier refuses). */
static int run_inline(dcc_thread *thread, dcc_task task, void *data, int32_t num_task) {
    dcc_group group = {NULL, num_task == 0 ? 1 : num_task};
    dcc_workspace *before = thread->workspace;
    int32_t nested = thread->inside;
    /* Tasks take their blocks where they would on the pool: the plan counts the two apart. */
    if (!nested && thread->worker_spaces != NULL) {
        thread->workspace = &thread->worker_spaces[0];
    }
    thread->inside = 1;
    int result = 0;
    for (int32_t id = 0; id < group.num_task && result == 0; id++) {
        result = task(id, &group, data) == 0 ? 0 : -1;
    }
    thread->inside = nested;
    thread->workspace = before;
    return result;
}

int dcc_parallel_launch(dcc_task task, void *data, int num_task) {
    dcc_thread *thread = this_thread;
    if (num_task < 0 || thread == NULL) {
        return -1; /* only a run and its workers have a place to take workspace from */
    }
    if (thread->inside || thread->pool == NULL || thread->threads <= 1 || num_task == 1 || num_task > INT16_MAX) {
        return run_inline(thread, task, data, num_task);
    }
    if (num_task == 0) {
        num_task = thread->threads * TASKS_PER_THREAD;
    }
    int done = dcc_pool_launch(thread->pool, thread, task, data, num_task);
    return done <= 0 ? done : run_inline(thread, task, data, num_task);
}
