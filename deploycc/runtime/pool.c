/* The thread pool: one job at a time, tasks claimed from one atomic ticket.
 *
 * The ticket is `generation << 32 | participants << 16 | unclaimed tasks`.  A thread claims
 * task `unclaimed - 1` by a compare-exchange, so one that read an old ticket can never claim a
 * task of a newer job, and the job's fields, written before the ticket, are stable from a claim
 * until that task is counted as done.  The launching thread claims as well: a job finishes
 * even if no worker ever wakes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "placement.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SPIN_US 100
#define WORKER_STACK_BYTES ((size_t)1 << 20)

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
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__arm__) && defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int may_claim(uint64_t ticket, int32_t participant) {
    return (ticket & 0xffff) != 0 && (uint64_t)participant < ((ticket >> 16) & 0xffff);
}

/* The task claimed, or -1 when there is none for this participant. */
static int32_t claim(dcc_pool *pool, int32_t participant) {
    uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    while (may_claim(ticket, participant)) {
        if (atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket - 1, memory_order_acquire,
                                                  memory_order_acquire)) {
            return (int32_t)(ticket & 0xffff) - 1;
        }
    }
    return -1;
}

static void perform(dcc_pool *pool, int32_t participant, int32_t task) {
    dcc_thread *thread = dcc_this_thread();
    dcc_workspace *before = thread->workspace;
    thread->workspace = &pool->spaces[participant];
    thread->inside = 1;
    if (pool->task(task, &pool->group, pool->data) != 0) {
        atomic_store_explicit(&pool->failed, 1, memory_order_relaxed);
    }
    thread->inside = 0;
    thread->workspace = before;
    if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->caller_waits)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* True when the pool has something for this participant, or is to stop. */
static int spin_for_work(dcc_pool *pool, int32_t participant) {
    int64_t until = 0;
    for (uint32_t turn = 0;; turn++) {
        if (may_claim(atomic_load_explicit(&pool->ticket, memory_order_relaxed), participant)
            || atomic_load_explicit(&pool->stop, memory_order_relaxed)) {
            return 1;
        }
        if (turn % 64 == 0) {
            int64_t now = pool->spin_us > 0 ? now_us() : 0;
            if (turn == 0) {
                until = now + pool->spin_us;
            }
            if (pool->spin_us <= 0 || now >= until) {
                return 0;
            }
        }
        relax();
    }
}

static void *work(void *argument) {
    worker *self = argument;
    dcc_pool *pool = self->pool;
    dcc_thread thread = {NULL, NULL, NULL, 0, 0};
    (void)dcc_become(&thread);
    for (;;) {
        int32_t task;
        while ((task = claim(pool, self->participant)) >= 0) {
            perform(pool, self->participant, task);
        }
        if (!spin_for_work(pool, self->participant)) {
            pthread_mutex_lock(&pool->lock);
            atomic_fetch_add(&pool->sleepers, 1);
            /* Whoever announces that it sleeps and then looks for work, and whoever publishes work and
             * then looks for sleepers, must not both miss the other.  Both announce with a read-modify-
             * write: emulators (qemu 7) let an AArch64 load-acquire pass a plain store-release. */
            while (!may_claim(atomic_load(&pool->ticket), self->participant) && !atomic_load(&pool->stop)) {
                pthread_cond_wait(&pool->wake, &pool->lock);
            }
            atomic_fetch_sub(&pool->sleepers, 1);
            pthread_mutex_unlock(&pool->lock);
        }
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
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
    int failed = pthread_create(&self->thread, &attributes, work, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed == 0 ? 0 : -1;
}

/* Keeps the workers off the processor of the launching thread.  A scheduler that wakes both on one takes
 * milliseconds to part them, and until then two threads are slower than one: each spins in the time the
 * other needs.  Processors that the caller named are left as they are. */
static void keep_apart(dcc_pool *pool) {
    if (pool->cpu_count > 0 || CPU_COUNT(&pool->allowed) <= pool->worker_count) {
        return;
    }
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE || cpu == pool->launcher_cpu) {
        return;
    }
    pool->launcher_cpu = cpu;
    cpu_set_t others = pool->allowed;
    CPU_CLR((size_t)cpu, &others);
    for (int32_t i = 0; i < pool->worker_count; i++) {
        (void)dcc_confine(pool->workers[i].thread, &others);
    }
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
            pthread_join(pool->workers[i].thread, NULL);
        }
        pthread_cond_destroy(&pool->done);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->lock);
    } /* else: a forked child, where neither the threads nor the locks' waiters exist */
    pool->worker_count = 0;
    atomic_store(&pool->stop, 0);
}

static void destroy(dcc_pool *pool) {
    stop_workers(pool);
    free(pool->workers);
    free(pool->cpus);
    free(pool);
}

static dcc_pool *create(int32_t threads, int32_t spin_us, const int32_t *cpus, size_t cpu_count) {
    dcc_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return NULL;
    }
    pool->capacity = threads - 1;
    pool->workers = calloc((size_t)pool->capacity, sizeof *pool->workers);
    pool->cpus = cpu_count > 0 ? malloc(cpu_count * sizeof *pool->cpus) : NULL;
    if (pool->workers == NULL || (cpu_count > 0 && pool->cpus == NULL) || init_locks(pool) != 0) {
        free(pool->workers);
        free(pool->cpus);
        free(pool);
        return NULL;
    }
    for (size_t i = 0; i < cpu_count; i++) {
        pool->cpus[i] = cpus[i];
    }
    pool->cpu_count = cpu_count;
    /* Spinning takes the core from the thread that has the work when there are too few. */
    pool->spin_us = threads > dcc_usable_cpus() ? 0 : spin_us < 0 ? DEFAULT_SPIN_US : spin_us;
    if (sched_getaffinity(0, sizeof pool->allowed, &pool->allowed) != 0) {
        CPU_ZERO(&pool->allowed);
    }
    pool->launcher_cpu = -1;
    atomic_store(&pool->owner, (int32_t)getpid());
    pool->references = 1;
    if (start_workers(pool, pool->capacity) != 0) {
        destroy(pool);
        return NULL;
    }
    return pool;
}

#if defined(DCC_SHARED_POOL)
/* The process's one pool, as large as the largest request when it was first made: a handle that
 * asks for more later gets a larger one once all others are gone, and until then what there is. */
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static dcc_pool *shared;

dcc_pool *dcc_pool_acquire(int32_t threads, int32_t spin_us, const int32_t *cpus, size_t cpu_count) {
    pthread_mutex_lock(&shared_lock);
    if (shared != NULL) {
        shared->references++;
    } else {
        int32_t usable = dcc_usable_cpus();
        shared = create(threads > usable ? threads : usable > 1 ? usable : 2, spin_us, cpus, cpu_count);
    }
    dcc_pool *pool = shared;
    pthread_mutex_unlock(&shared_lock);
    return pool;
}

void dcc_pool_release(dcc_pool *pool) {
    pthread_mutex_lock(&shared_lock);
    if (--pool->references == 0) {
        shared = NULL;
        destroy(pool);
    }
    pthread_mutex_unlock(&shared_lock);
}
#else
dcc_pool *dcc_pool_acquire(int32_t threads, int32_t spin_us, const int32_t *cpus, size_t cpu_count) {
    return create(threads, spin_us, cpus, cpu_count);
}

void dcc_pool_release(dcc_pool *pool) {
    destroy(pool);
}
#endif

static void wait_for_tasks(dcc_pool *pool) {
    int64_t until = 0;
    for (uint32_t turn = 0;; turn++) {
        if (atomic_load_explicit(&pool->pending, memory_order_acquire) == 0) {
            return;
        }
        if (turn % 64 == 0) {
            int64_t now = now_us();
            if (turn == 0) {
                until = now + pool->spin_us;
            }
            if (now >= until) {
                break;
            }
        }
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    (void)atomic_exchange(&pool->caller_waits, 1); /* not a store: see work() */
    while (atomic_load(&pool->pending) != 0) {
        pthread_cond_wait(&pool->done, &pool->lock);
    }
    atomic_store(&pool->caller_waits, 0);
    pthread_mutex_unlock(&pool->lock);
}

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

int dcc_pool_launch(dcc_pool *pool, const dcc_thread *launcher, dcc_task task, void *data, int32_t num_task) {
    if (atomic_exchange_explicit(&pool->launching, 1, memory_order_acquire)) {
        return 1;
    }
    keep_apart(pool);
    int32_t participants = launcher->threads;
    int32_t present = pool->worker_count + 1;
    pool->task = task;
    pool->data = data;
    pool->spaces = launcher->worker_spaces;
    pool->group.num_task = num_task;
    pool->group.sync_handle = &pool->sync;
    atomic_store_explicit(&pool->sync.arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->sync.round, 0, memory_order_relaxed);
    pool->sync.usable = num_task <= (participants < present ? participants : present);
    atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->pending, num_task, memory_order_relaxed);
    uint64_t generation = (atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> 32) + 1;
    (void)atomic_exchange(&pool->ticket, generation << 32 | (uint64_t)participants << 16 | (uint64_t)num_task);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
    int32_t claimed;
    while ((claimed = claim(pool, 0)) >= 0) {
        perform(pool, 0, claimed);
    }
    wait_for_tasks(pool);
    int failed = atomic_load_explicit(&pool->failed, memory_order_relaxed);
    atomic_store_explicit(&pool->launching, 0, memory_order_release);
    return failed ? -1 : 0;
}

int dcc_parallel_barrier(int task_id, dcc_group *group) {
    (void)task_id;
    if (group->num_task == 1) {
        return 0;
    }
    barrier *sync = group->sync_handle;
    if (sync == NULL || !sync->usable) {
        return -1; /* tasks that take turns on one thread cannot wait for each other */
    }
    uint32_t round = atomic_load(&sync->round);
    if (atomic_fetch_add(&sync->arrived, 1) + 1 == (uint32_t)group->num_task) {
        atomic_store(&sync->arrived, 0);
        atomic_store(&sync->round, round + 1);
        return 0;
    }
    for (uint32_t turn = 0; atomic_load(&sync->round) == round; turn++) {
        if (turn % 256 == 255) {
            sched_yield();
        }
        relax();
    }
    return 0;
}
