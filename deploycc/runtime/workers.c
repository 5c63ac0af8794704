/* Pools: how their threads are started, stopped, and started anew in a forked child. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "pool.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SPIN_US 100
#define WORKER_STACK_BYTES ((size_t)1 << 20)
#define MOST_TRIES 20000 /* a second */

/* Guards the list of pools.  Not a mutex: in a child forked while another thread has it, that thread is gone and
 * the child takes it over.  What it guards is whole at any moment. */
static _Atomic int32_t list_owner;
static _Atomic(dcc_pool *) pools;

static int try_list(void) {
    const int32_t process = (int32_t)getpid();
    int32_t owner = 0;
    return atomic_compare_exchange_strong(&list_owner, &owner, process)
        || (owner != process && atomic_compare_exchange_strong(&list_owner, &owner, process));
}

static void rest(void) {
    const struct timespec pause = {0, 50000};
    DCC_UNCANCELLED((void)nanosleep(&pause, NULL));
}

static void lock_list(void) {
    while (!try_list()) {
        rest();
    }
}

static void unlock_list(void) {
    atomic_store(&list_owner, 0);
}

static void list(dcc_pool *pool) {
    pool->next = atomic_load(&pools);
    atomic_store(&pools, pool);
}

static void unlist(const dcc_pool *pool) {
    dcc_pool *first = atomic_load(&pools);
    if (first == pool) {
        atomic_store(&pools, pool->next);
        return;
    }
    while (first != NULL && first->next != pool) {
        first = first->next;
    }
    if (first != NULL) {
        first->next = pool->next;
    }
}

/* Workers take no signals of the app: its handlers run on its own threads. */
static int start_worker(dcc_pool *pool, int32_t participant) {
    worker *self = &pool->workers[participant - 1];
    pthread_attr_t attributes;
    sigset_t all, before;
    self->pool = pool;
    self->participant = participant;
    if (pthread_attr_init(&attributes) != 0) {
        return -1;
    }
    pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&self->thread, &attributes, dcc_work, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed == 0 ? 0 : -1;
}

static int start_workers(dcc_pool *pool, int32_t count) {
    while (pool->worker_count < count) {
        if (start_worker(pool, pool->worker_count + 1) != 0) {
            return -1;
        }
        pool->worker_count++;
        if (pool->cpu_count > 0) {
            int32_t cpu = pool->cpus[(size_t)pool->worker_count % pool->cpu_count];
            if (cpu < 0 || cpu >= CPU_SETSIZE || dcc_pin(pool->workers[pool->worker_count - 1].thread, cpu) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

static int init_locks(dcc_pool *pool) {
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        return -1;
    }
    if (pthread_cond_init(&pool->wake, NULL) != 0) {
        pthread_mutex_destroy(&pool->lock);
        return -1;
    }
    if (pthread_cond_init(&pool->done, NULL) != 0) {
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->lock);
        return -1;
    }
    return 0;
}

static void stop_workers(dcc_pool *pool) {
    if (atomic_load(&pool->owner) == (int32_t)getpid()) {
        pthread_mutex_lock(&pool->lock);
        atomic_store(&pool->stop, 1);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (int32_t i = 0; i < pool->worker_count; i++) {
            DCC_UNCANCELLED((void)pthread_join(pool->workers[i].thread, NULL));
        }
        pthread_cond_destroy(&pool->done);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->lock);
    } /* else: a forked child, where neither the threads nor the locks' waiters exist */
    pool->worker_count = 0;
    atomic_store(&pool->stop, 0);
}

static void give_back(dcc_pool *pool) {
    free(pool->workers);
    free(pool->cpus);
    free(pool);
}

static dcc_status create(const dcc_options *options, int32_t threads, dcc_pool **made) {
    dcc_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return DCC_ERROR_MEMORY;
    }
    pool->capacity = threads - 1;
    pool->workers = calloc((size_t)pool->capacity, sizeof *pool->workers);
    /* The workers' numbers, and so their places, end with the threads, however many are named. */
    pool->cpu_count = options->cpu_count < (size_t)threads ? options->cpu_count : (size_t)threads;
    pool->cpus = pool->cpu_count > 0 ? malloc(pool->cpu_count * sizeof *pool->cpus) : NULL;
    if (pool->workers == NULL || (pool->cpu_count > 0 && pool->cpus == NULL) || init_locks(pool) != 0) {
        give_back(pool);
        return DCC_ERROR_MEMORY;
    }
    for (size_t i = 0; i < pool->cpu_count; i++) {
        pool->cpus[i] = options->cpus[i];
    }
    /* Spinning takes the core from the thread that has the work when there are too few. */
    pool->spin_us = threads > dcc_usable_cpus() ? 0 : options->spin_us < 0 ? DEFAULT_SPIN_US : options->spin_us;
    if (sched_getaffinity(0, sizeof pool->allowed, &pool->allowed) != 0) {
        CPU_ZERO(&pool->allowed);
    }
    pool->launcher_cpu = -1;
    atomic_store(&pool->owner, (int32_t)getpid());
    pool->references = 1;
    if (start_workers(pool, pool->capacity) != 0) {
        stop_workers(pool);
        give_back(pool);
        return DCC_ERROR_THREAD;
    }
    *made = pool;
    return DCC_OK;
}

#if defined(DCC_SHARED_POOL)
/* The process's one pool, as large as the largest request when it was first made: a handle that
 * asks for more later gets a larger one once all others are gone, and until then what there is. */
dcc_status dcc_pool_acquire(const dcc_options *options, dcc_pool **pool) {
    lock_list();
    dcc_status status = DCC_OK;
    dcc_pool *shared = atomic_load(&pools);
    if (shared != NULL) {
        shared->references++;
    } else {
        int32_t usable = dcc_usable_cpus();
        int32_t most = usable > 1 ? usable : 2;
        status = create(options, options->threads > most ? options->threads : most, &shared);
        if (status == DCC_OK) {
            list(shared);
        }
    }
    *pool = shared;
    unlock_list();
    return status;
}

void dcc_pool_release(dcc_pool *pool) {
    lock_list();
    if (--pool->references == 0) {
        unlist(pool);
        stop_workers(pool);
        give_back(pool);
    }
    unlock_list();
}
#else
dcc_status dcc_pool_acquire(const dcc_options *options, dcc_pool **pool) {
    dcc_status status = create(options, options->threads, pool);
    if (status == DCC_OK) {
        lock_list();
        list(*pool);
        unlock_list();
    }
    return status;
}

void dcc_pool_release(dcc_pool *pool) {
    lock_list();
    unlist(pool);
    unlock_list();
    stop_workers(pool);
    give_back(pool);
}
#endif

int dcc_pool_enter(dcc_pool *pool) {
    int32_t process = (int32_t)getpid();
    int32_t owner = atomic_load_explicit(&pool->owner, memory_order_acquire);
    if (owner == process) {
        return 0;
    }
    /* A forked child: the workers are not in this process.  One thread starts new ones; others
     * that come meanwhile do without.  So does a worker that fails to start, since the launching
     * thread can do all tasks. */
    int32_t reviver = atomic_load(&pool->reviver);
    if (reviver == process || !atomic_compare_exchange_strong(&pool->reviver, &reviver, process)) {
        return 1;
    }
    pool->worker_count = 0;
    pool->launcher_cpu = -1;
    atomic_store(&pool->ticket, 0);
    atomic_store(&pool->pending, 0);
    atomic_store(&pool->sleepers, 0);
    atomic_store(&pool->caller_waits, 0);
    atomic_store(&pool->launching, 0);
    atomic_store(&pool->stop, 0);
    if (init_locks(pool) != 0) {
        return 1;
    }
    (void)start_workers(pool, pool->capacity);
    atomic_store_explicit(&pool->owner, process, memory_order_release);
    return 0;
}

/* The library is unloaded, or the process ends: no thread may be left in code that goes.  Handles that the app has
 * not destroyed keep their memory, and have one thread from now on; a pool that works at this moment, at the end of
 * the process, is left alone. */
__attribute__((destructor)) static void stop_all(void) {
    const int32_t process = (int32_t)getpid();
    for (int tries = 0; !try_list(); tries++) {
        if (tries == MOST_TRIES) {
            return; /* a signal handler that called exit() may have interrupted who has it */
        }
        rest();
    }
    for (dcc_pool *pool = atomic_load(&pools); pool != NULL; pool = pool->next) {
        if (atomic_load(&pool->owner) == process && atomic_exchange(&pool->launching, 1) == 0) {
            atomic_store(&pool->reviver, process);
            stop_workers(pool);
            atomic_store(&pool->owner, 0);
        }
    }
    unlock_list();
}
