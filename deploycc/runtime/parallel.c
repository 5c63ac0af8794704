/* What a kernel's parallel loop calls, and the state of the thread it is called on. */
#include "deploycc_rt.h"

static _Thread_local dcc_thread this_thread;

dcc_thread *dcc_this_thread(void) {
    return &this_thread;
}

/* A kernel that leaves the count open gets one task; a fixed count runs in order, which is
 * the same computation as long as the tasks share no barrier (dcc_parallel_barrier refuses). */
static int run_inline(dcc_task task, void *data, int32_t num_task) {
    dcc_group group = {NULL, num_task == 0 ? 1 : num_task};
    for (int32_t id = 0; id < group.num_task; id++) {
        if (task(id, &group, data) != 0) {
            return -1;
        }
    }
    return 0;
}

int dcc_parallel_launch(dcc_task task, void *data, int num_task) {
    dcc_thread *thread = &this_thread;
    if (num_task < 0) {
        return -1;
    }
    if (thread->inside || thread->pool == NULL || thread->threads <= 1 || num_task == 1 || num_task > INT16_MAX) {
        return run_inline(task, data, num_task);
    }
    int done = dcc_pool_launch(thread->pool, thread, task, data, num_task == 0 ? thread->threads : num_task);
    return done <= 0 ? done : run_inline(task, data, num_task);
}
