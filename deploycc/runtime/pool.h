/* The thread pool, for the two files that look inside: pool.c, which has it work, and workers.c, which makes it. */
#ifndef DEPLOYCC_POOL_H
#define DEPLOYCC_POOL_H

#include "deploycc_rt.h"

#include "placement.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct worker {
    dcc_pool *pool;
    int32_t participant; /* 1 and up; 0 is the launching thread */
    pthread_t thread;
} worker;

typedef struct barrier {
    _Atomic uint32_t arrived;
    _Atomic uint32_t round;
    int32_t usable; /* 1 when every task has a thread of its own */
} barrier;

struct dcc_pool {
    _Atomic uint64_t ticket;
    /* Idle workers read the ticket over and over: what a running job writes lies elsewhere. */
    char line_of_its_own[DCC_ALIGNMENT];
    _Atomic int32_t pending;  /* tasks not yet finished */
    _Atomic int32_t failed;
    _Atomic int32_t sleepers; /* workers in, or about to enter, pthread_cond_wait */
    _Atomic int32_t caller_waits;
    _Atomic int32_t stop;
    _Atomic int32_t launching;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t done;
    /* the job */
    dcc_task task;
    void *data;
    dcc_workspace *spaces;
    dcc_group group;
    barrier sync;
    /* the workers */
    _Atomic int32_t owner;   /* process id of the workers */
    _Atomic int32_t reviver; /* process id of the child that starts them anew */
    int32_t worker_count;
    int32_t spin_us;
    size_t cpu_count;
    int32_t *cpus;
    cpu_set_t allowed;    /* of the thread that made the pool */
    int launcher_cpu;     /* where the launching thread was last seen */
    worker *workers;
    int32_t capacity;
    int32_t references;
    dcc_pool *next; /* in the list of all (workers.c) */
};

/* What a worker does until the pool is to stop; `argument` is its `worker`. */
void *dcc_work(void *argument);

/* Waits that a cancelled thread must not leave: others use what lies on its stack, or it holds a lock. */
#if !defined(__ANDROID__) /* bionic has no cancellation */
#define DCC_UNCANCELLED(statement)                                    \
    do {                                                              \
        int cancel_state = PTHREAD_CANCEL_ENABLE;                     \
        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state); \
        statement;                                                    \
        (void)pthread_setcancelstate(cancel_state, &cancel_state);    \
    } while (0)
#else
#define DCC_UNCANCELLED(statement) statement
#endif

#endif
