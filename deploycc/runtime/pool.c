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

#include "pool.h"

#include <sched.h>
#include <time.h>

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

void *dcc_work(void *argument) {
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
    (void)atomic_exchange(&pool->caller_waits, 1); /* not a store: see dcc_work() */
    while (atomic_load(&pool->pending) != 0) {
        DCC_UNCANCELLED(pthread_cond_wait(&pool->done, &pool->lock));
    }
    atomic_store(&pool->caller_waits, 0);
    pthread_mutex_unlock(&pool->lock);
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
