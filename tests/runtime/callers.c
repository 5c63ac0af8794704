/* A careless caller: `callers NAME` runs one case against the package `tiny` and exits 0 when all of it held. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"
#include "faulty.h"
#include "tiny.h"

#include <math.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, context); \
            _exit(1);                                                                     \
        }                                                                                 \
    } while (0)

static _Thread_local const char *context = "";

#define COUNT 1000

static tiny_options threads(int32_t count) {
    tiny_options options = tiny_OPTIONS_INIT;
    options.threads = count;
    return options;
}

static tiny_handle *make(int32_t count) {
    tiny_options options = threads(count);
    tiny_handle *handle = NULL;
    tiny_status status = tiny_create(&options, &handle);
    context = tiny_last_error(NULL);
    CHECK(status == tiny_OK && handle != NULL);
    return handle;
}

typedef struct {
    float x[COUNT + 1], y[COUNT + 1], copy[COUNT + 1];
} buffers;

static tiny_status run(tiny_handle *handle, buffers *b) {
    const void *in[] = {b->x};
    void *out[] = {b->y, b->copy};
    return tiny_run(handle, in, out);
}

static void fill(buffers *b, float seed) {
    memset(b, 0, sizeof *b);
    for (int i = 0; i < COUNT; i++) {
        b->x[i] = seed + (float)(i % 37) / 16.0f;
    }
}

static int right(const float *x, const float *y, const float *copy) {
    for (int i = 0; i < COUNT; i++) {
        float w = -0.5f + (float)i / (COUNT - 1);
        if (fabsf(y[i] - (tanhf(x[i] * w) + 1.0f)) > 1e-5f || copy[i] != x[i]) {
            return 0;
        }
    }
    return 1;
}

static void run_and_check(tiny_handle *handle, float seed) {
    buffers b;
    fill(&b, seed);
    tiny_status status = run(handle, &b);
    context = tiny_last_error(handle);
    CHECK(status == tiny_OK && right(b.x, b.y, b.copy));
}

#define SAYS(handle, text) (context = tiny_last_error(handle), strstr(context, text) != NULL)

/* ---- pointers ---- */

static void pointers(void) {
    tiny_handle *handle = make(1);
    buffers b;
    fill(&b, 1.0f);
    const void *in[] = {b.x};
    void *out[] = {b.y, b.copy};
    _Alignas(16) char odd[64];
    const void *const *odd_in = (const void *const *)(const void *)(odd + 1);
    void *const *odd_out = (void *const *)(void *)(odd + 1);
    memcpy(odd + 1, in, sizeof in);
    CHECK(tiny_run(handle, odd_in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "the list of inputs is not aligned"));
    memcpy(odd + 1, out, sizeof out);
    CHECK(tiny_run(handle, in, odd_out) == tiny_ERROR_ARGUMENT && SAYS(handle, "the list of outputs is not aligned"));
    CHECK(tiny_run(handle, in, NULL) == tiny_ERROR_ARGUMENT && SAYS(handle, "the list of outputs is NULL"));
    /* a field of a structure at NULL, and buffers that reach past the end of all memory */
    in[0] = (const void *)(uintptr_t)16;
    CHECK(tiny_run(handle, in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "input 'x' cannot be 4000 bytes at 0x10"));
    in[0] = (const void *)~(uintptr_t)3;
    CHECK(tiny_run(handle, in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "input 'x' cannot be 4000 bytes at"));
    in[0] = b.x;
    out[1] = (void *)~(uintptr_t)3;
    CHECK(tiny_run(handle, in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "output 'copy' cannot be"));
    out[1] = NULL;
    CHECK(tiny_run(handle, in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "output 'copy' is NULL"));
    out[1] = b.y + COUNT - 1;
    CHECK(tiny_run(handle, in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "output 'copy' overlaps output 'y'"));
    out[1] = b.copy;
    /* aligned for an element and no more, one byte further not */
    for (int offset = 0; offset < 16; offset++) {
        _Alignas(64) static char places[3][COUNT * 4 + 64];
        memcpy(places[0] + offset, b.x, COUNT * sizeof(float));
        in[0] = places[0] + offset, out[0] = places[1] + offset, out[1] = places[2] + offset;
        tiny_status status = tiny_run(handle, in, out);
        CHECK(status == (offset % 4 == 0 ? tiny_OK : tiny_ERROR_ARGUMENT));
        CHECK(offset % 4 != 0 || right(b.x, out[0], out[1]));
    }
    in[0] = b.x, out[0] = b.y, out[1] = b.copy;
    /* no handle */
    tiny_handle *odd_handle = (tiny_handle *)(void *)(odd + 1);
    tiny_step_time times[4];
    CHECK(tiny_run(NULL, in, out) == tiny_ERROR_ARGUMENT && tiny_run(odd_handle, in, out) == tiny_ERROR_ARGUMENT);
    CHECK(tiny_destroy(NULL) == tiny_OK && tiny_destroy(odd_handle) == tiny_ERROR_ARGUMENT);
    CHECK(tiny_observe(NULL, NULL, NULL) == tiny_ERROR_ARGUMENT && tiny_threads(NULL) == 0);
    CHECK(tiny_profile(NULL, times, 4) == tiny_ERROR_ARGUMENT && tiny_profile_reset(NULL) == tiny_ERROR_ARGUMENT);
    CHECK(tiny_profile(handle, NULL, 4) == tiny_ERROR_ARGUMENT && tiny_profile(handle, times, 3) == tiny_ERROR_ARGUMENT);
    CHECK(tiny_profile(handle, (tiny_step_time *)(void *)(odd + 1), 4) == tiny_ERROR_ARGUMENT);
    CHECK(SAYS(handle, "the room for times is not aligned"));
    CHECK(tiny_create(NULL, NULL) == tiny_ERROR_ARGUMENT && SAYS(NULL, "the place for the new handle is NULL"));
    CHECK(tiny_create(NULL, (tiny_handle **)(void *)(odd + 1)) == tiny_ERROR_ARGUMENT);
    CHECK(SAYS(NULL, "the place for the new handle is not aligned"));
    CHECK(run(handle, &b) == tiny_OK && right(b.x, b.y, b.copy));
    CHECK(tiny_destroy(handle) == tiny_OK);
}

static void sizes(void) {
    tiny_handle *handle = (tiny_handle *)(uintptr_t)64;
    const size_t wrong[] = {0, 1, sizeof(tiny_options) - 1, sizeof(tiny_options) + 8, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        tiny_options options = threads(1);
        options.struct_size = wrong[i];
        CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && handle == NULL);
        CHECK(SAYS(NULL, "options.struct_size is") && tiny_memory_bytes(&options) == 0);
    }
    _Alignas(16) char odd[sizeof(tiny_options) + 16];
    tiny_options options = threads(1);
    memcpy(odd + 1, &options, sizeof options);
    CHECK(tiny_create((const tiny_options *)(const void *)(odd + 1), &handle) == tiny_ERROR_ARGUMENT);
    CHECK(SAYS(NULL, "options is not aligned"));
    const int32_t counts[] = {INT32_MIN, -1, 1025, INT32_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        options = threads(counts[i]);
        CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && SAYS(NULL, "options.threads is"));
    }
    /* memory: too little, odd, more than there can be, and buffers that lie in it */
    options = threads(2);
    size_t bytes = tiny_memory_bytes(&options);
    void *memory;
    CHECK(posix_memalign(&memory, 64, bytes) == 0);
    options.memory = memory, options.memory_bytes = bytes - 1;
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && SAYS(NULL, "options.memory must be"));
    options.memory_bytes = SIZE_MAX;
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && SAYS(NULL, "options.memory_bytes is"));
    options.memory_bytes = bytes, options.memory = (char *)memory + 4;
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT);
    options.memory = memory;
    CHECK(tiny_create(&options, &handle) == tiny_OK);
    run_and_check(handle, 1.0f);
    static buffers b;
    const void *in[] = {(char *)memory + bytes - 4};
    void *out[] = {b.y, b.copy};
    CHECK(tiny_run(handle, in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "input 'x' overlaps options.memory"));
    in[0] = b.x, out[1] = (char *)memory + 64;
    CHECK(tiny_run(handle, in, out) == tiny_ERROR_ARGUMENT && SAYS(handle, "output 'copy' overlaps options.memory"));
    run_and_check(handle, 2.0f);
    CHECK(tiny_destroy(handle) == tiny_OK);
    free(memory);
}

static void processors(void) {
    tiny_handle *handle = NULL;
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    int32_t here = 0;
    while (!CPU_ISSET((size_t)here, &set)) here++;
    int32_t cpus[] = {-1, here, -7, INT32_MIN};
    tiny_options options = threads(2);
    options.cpus = cpus;
    /* counts whose bytes no size_t can hold: only the entries that workers have are read */
    const size_t counts[] = {2, SIZE_MAX / sizeof(int32_t) + 2, SIZE_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        options.cpu_count = counts[i];
        tiny_status status = tiny_create(&options, &handle);
        context = tiny_last_error(NULL);
        CHECK(status == tiny_OK);
        run_and_check(handle, 1.0f);
        CHECK(tiny_destroy(handle) == tiny_OK);
    }
    options.threads = 3, options.cpu_count = 4;
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && SAYS(NULL, "options.cpus[2] is -7"));
    options.cpu_count = 0;
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && SAYS(NULL, "options.cpu_count is 0"));
    options.cpus = NULL, options.cpu_count = 1;
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && SAYS(NULL, "options.cpus is NULL"));
    _Alignas(16) char odd[16] = {0};
    options.cpus = (const int32_t *)(const void *)(odd + 1);
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT && SAYS(NULL, "options.cpus is not aligned"));
    const int32_t spins[] = {INT32_MIN, -2, 0, INT32_MAX};
    for (size_t i = 0; i < sizeof spins / sizeof spins[0]; i++) {
        options = threads(2);
        options.spin_us = spins[i];
        CHECK(tiny_create(&options, &handle) == tiny_OK);
        run_and_check(handle, 1.0f);
        CHECK(tiny_destroy(handle) == tiny_OK); /* a worker that spins for half an hour ends at once */
    }
}

/* ---- what cannot be had ---- */

/* Each allocation, lock and thread fails in turn, alone and with all that follow. */
static void sweep(void) {
    for (int32_t count = 1; count <= 4; count++) {
        for (fail_on = 0; fail_on < 2; fail_on++) {
            tiny_options options = threads(count);
            int32_t zeros[] = {0, 0, 0, 0};
            cpu_set_t set;
            CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
            while (!CPU_ISSET((size_t)zeros[0], &set)) zeros[0]++;
            options.cpus = count % 2 == 0 ? zeros : NULL, options.cpu_count = count % 2 == 0;
            tiny_status status = tiny_ERROR_MEMORY;
            const int before = live;
            int failed = 0;
            for (int nth = 1; status != tiny_OK; nth++) {
                tiny_handle *handle = (tiny_handle *)(uintptr_t)64;
                fail_in = nth;
                status = tiny_create(&options, &handle);
                fail_in = -1;
                context = tiny_last_error(NULL);
                if (status == tiny_OK) {
                    run_and_check(handle, 1.0f);
                    CHECK(tiny_destroy(handle) == tiny_OK);
                } else {
                    CHECK(handle == NULL && (status == tiny_ERROR_MEMORY || (status == tiny_ERROR_THREAD && count > 1)));
                    CHECK(strstr(context, status == tiny_ERROR_MEMORY ? "no memory for" : "could not be started"));
                    (void)before, failed += status == tiny_ERROR_MEMORY;
                    handle = make(count); /* the next one works */
                    run_and_check(handle, 1.0f);
                    CHECK(tiny_destroy(handle) == tiny_OK);
                }
#if !defined(DCC_DEBUG) /* which holds destroyed handles back */
                CHECK(live == before);
#endif
            }
            /* handle, arena and times; then pool, workers, three locks, and with processors a list */
            CHECK(failed == (count == 1 ? 3 : count % 2 == 0 ? 9 : 8));
        }
    }
}

/* As many threads as there may be; and where the system has no room for them, which is told, and passes. */
static void crowds(void) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which need all addresses for themselves */
    tiny_handle *handle = make(1024);
    CHECK(tiny_threads(handle) == 1024);
    run_and_check(handle, 1.0f);
    CHECK(tiny_destroy(handle) == tiny_OK);
    struct rlimit all, little;
    CHECK(getrlimit(RLIMIT_AS, &all) == 0);
    little = all;
    for (rlim_t mib = 16; mib <= 512; mib *= 2) {
        little.rlim_cur = mib << 20;
        tiny_options options = threads(1024);
        handle = NULL;
        CHECK(setrlimit(RLIMIT_AS, &little) == 0);
        tiny_status status = tiny_create(&options, &handle);
        context = tiny_last_error(NULL);
        CHECK(status == tiny_ERROR_THREAD || status == tiny_ERROR_MEMORY);
        CHECK(handle == NULL && strstr(context, status == tiny_ERROR_THREAD ? "1023 threads could not be" : "no memory"));
        CHECK(setrlimit(RLIMIT_AS, &all) == 0);
        handle = make(3);
        run_and_check(handle, 2.0f);
        CHECK(tiny_destroy(handle) == tiny_OK);
    }
#endif
}

/* ---- errors' texts, each with its thread ---- */

#define MANY 48
static pthread_barrier_t all_failed, all_read;

static void *fail_and_read(void *argument) {
    char expected[64];
    tiny_handle *handle;
    tiny_options options = threads(-(int32_t)(intptr_t)argument - 1);
    snprintf(expected, sizeof expected, "options.threads is %d,", (int)options.threads);
    CHECK(tiny_create(&options, &handle) == tiny_ERROR_ARGUMENT);
    pthread_barrier_wait(&all_failed);
    const char *text = tiny_last_error(NULL);
    intptr_t told = strncmp(text, expected, strlen(expected)) == 0;
    context = text;
    CHECK(told || text[0] == '\0');
    pthread_barrier_wait(&all_read);
    return (void *)told;
}

static void texts(void) {
    for (int round = 0; round < 3; round++) {
        pthread_t running[MANY];
        intptr_t told = 0;
        CHECK(pthread_barrier_init(&all_failed, NULL, MANY) == 0 && pthread_barrier_init(&all_read, NULL, MANY) == 0);
        for (intptr_t i = 0; i < MANY; i++) {
            CHECK(pthread_create(&running[i], NULL, fail_and_read, (void *)i) == 0);
        }
        for (int i = 0; i < MANY; i++) {
            void *result;
            CHECK(pthread_join(running[i], &result) == 0);
            told += (intptr_t)result;
        }
        CHECK(told >= 32 && told < MANY); /* as many as there are places for, in each round anew */
        pthread_barrier_destroy(&all_failed), pthread_barrier_destroy(&all_read);
    }
}

/* ---- calls from inside a run ---- */

typedef struct {
    tiny_handle *handle, *other;
    int seen;
} inner;

static void meddle(void *argument, uint32_t step, const void *arena) {
    inner *i = argument;
    buffers b;
    tiny_step_time times[4];
    (void)step, (void)arena;
    fill(&b, 1.0f);
    CHECK(run(i->handle, &b) == tiny_ERROR_BUSY && tiny_destroy(i->handle) == tiny_ERROR_BUSY);
    CHECK(tiny_observe(i->handle, NULL, NULL) == tiny_ERROR_BUSY && tiny_threads(i->handle) >= 1);
    CHECK(tiny_profile(i->handle, times, 4) == tiny_ERROR_BUSY && tiny_profile_reset(i->handle) == tiny_ERROR_BUSY);
    run_and_check(i->other, 3.0f);
    i->seen++;
}

static void reentrant(void) {
    for (int32_t count = 1; count <= 3; count++) {
        inner i = {make(count), make(count), 0};
        CHECK(tiny_observe(i.handle, meddle, &i) == tiny_OK);
        for (int turn = 0; turn < 5; turn++) {
            run_and_check(i.handle, (float)turn);
        }
        CHECK(i.seen == 20);
        CHECK(tiny_destroy(i.handle) == tiny_OK && tiny_destroy(i.other) == tiny_OK);
    }
}

/* ---- signals ---- */

static tiny_handle *interrupted, *spare;
static _Atomic int arrived, answers[8];

static void on_signal(int number) {
    (void)number;
    static buffers b;
    static int filled;
    if (!filled) {
        fill(&b, 1.0f);
        filled = 1;
    }
    tiny_status status = run(interrupted, &b);
    answers[status]++;
    if (run(spare, &b) == tiny_OK) {
        arrived++;
    }
}

static void raise_in_run(void *argument, uint32_t step, const void *arena) {
    (void)argument, (void)step, (void)arena;
    raise(SIGUSR1);
}

static void signals(void) {
    struct sigaction action = {0};
    action.sa_handler = on_signal; /* without SA_RESTART: waits see EINTR */
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    for (int32_t count = 1; count <= 3; count++) {
        interrupted = make(count), spare = make(1);
        memset(answers, 0, sizeof answers);
        CHECK(tiny_observe(interrupted, raise_in_run, NULL) == tiny_OK);
        run_and_check(interrupted, 2.0f);
        CHECK(answers[tiny_ERROR_BUSY] == 4 && answers[tiny_OK] == 0 && arrived > 0);
        CHECK(tiny_observe(interrupted, NULL, NULL) == tiny_OK);
        /* and at any moment, of a handle that waits for its workers, too */
        struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
        arrived = 0;
        CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
        while (arrived < 50) {
            buffers b;
            fill(&b, 3.0f);
            CHECK(run(interrupted, &b) == tiny_OK && right(b.x, b.y, b.copy));
        }
        CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
        CHECK(answers[tiny_OK] + answers[tiny_ERROR_BUSY] >= 50 && answers[tiny_ERROR_ARGUMENT] == 0);
        CHECK(tiny_destroy(interrupted) == tiny_OK && tiny_destroy(spare) == tiny_OK);
    }
}

/* ---- cancelled: a run ends before its thread does ---- */

static pthread_t launcher;
static _Atomic int claimed, ended;

/* The launching thread is done when the worker is not: it waits, where a thread can be cancelled. */
static int slow_task(int id, dcc_group *group, void *data) {
    (void)id, (void)group, (void)data;
    if (!pthread_equal(pthread_self(), launcher)) {
        claimed = 1;
        usleep(2000);
    }
    while (!claimed) {
        sched_yield();
    }
    return 0;
}

static int32_t slow_steps(const void *const *in, void *const *out, void *arena, uint32_t *step, const dcc_watch *watch) {
    (void)in, (void)out, (void)arena, (void)step, (void)watch;
    claimed = 0;
    return dcc_parallel_launch(slow_task, NULL, 2);
}

static void *run_cancelled(void *handle) {
    launcher = pthread_self();
    CHECK(pthread_cancel(launcher) == 0); /* acts in the first call that may wait */
    for (int i = 0; i < 5; i++) {
        CHECK(dcc_run(handle, NULL, NULL) == DCC_OK);
        ended++;
    }
    pthread_testcancel();
    return NULL;
}

static void cancelled(void) {
    static const char *const names[] = {"slow"};
    static const dcc_model slow = {
        .abi = DCC_ABI, .step_count = 1, .name = "slow", .step_names = names, .steps = slow_steps};
    dcc_options options = {.struct_size = sizeof options, .threads = 2};
    dcc_handle *handle;
    pthread_t running;
    void *result;
    CHECK(dcc_create(&slow, &options, &handle) == DCC_OK);
    CHECK(pthread_create(&running, NULL, run_cancelled, handle) == 0);
    CHECK(pthread_join(running, &result) == 0 && result == PTHREAD_CANCELED && ended == 5);
    CHECK(dcc_destroy(handle) == DCC_OK);
}

/* ---- forked while another thread is in create ---- */

static sem_t fork_now, forked_now;

static void pause_for_fork(void) {
    before_thread = NULL;
    sem_post(&fork_now);
    while (sem_wait(&forked_now) != 0) {}
}

static void *create_slowly(void *argument) {
    tiny_handle **handle = argument;
    *handle = make(3);
    return NULL;
}

static void forked_in_create(void) {
    pthread_t creator;
    tiny_handle *handle = NULL;
    CHECK(sem_init(&fork_now, 0, 0) == 0 && sem_init(&forked_now, 0, 0) == 0);
    before_thread = pause_for_fork;
    CHECK(__real_pthread_create(&creator, NULL, create_slowly, &handle) == 0);
    while (sem_wait(&fork_now) != 0) {}
    pid_t child = fork();
    if (child == 0) {
        alarm(60); /* a child that hangs ends */
        tiny_handle *own = make(3);
        run_and_check(own, 1.0f);
        CHECK(tiny_destroy(own) == tiny_OK);
        _exit(0);
    }
    sem_post(&forked_now);
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(pthread_join(creator, NULL) == 0);
    run_and_check(handle, 1.0f);
    CHECK(tiny_destroy(handle) == tiny_OK);
}

/* ---- the end of the process with handles that were left ---- */

static void left(void) {
    for (int i = 0; i < 4; i++) {
        run_and_check(make(1 + i), 1.0f);
    }
    static buffers b;
    fill(&b, 1.0f);
    exit(run(make(2), &b) == tiny_OK ? 0 : 1); /* workers are joined: sanitisers see no thread left */
}

/* ---- debug builds: calls with a handle that was destroyed ---- */

static void destroyed(void) {
    tiny_handle *old[100], *fresh = make(1);
    buffers b;
    tiny_step_time times[4];
    fill(&b, 1.0f);
    for (int i = 0; i < 100; i++) {
        old[i] = make(1 + i % 3);
        CHECK(old[i] != fresh && (i == 0 || old[i] != old[i - 1]));
        CHECK(tiny_destroy(old[i]) == tiny_OK);
        CHECK(tiny_destroy(old[i]) == tiny_ERROR_ARGUMENT);
        CHECK(SAYS(NULL, "dcc_destroy: the handle was destroyed, or never was one"));
        CHECK(run(old[i], &b) == tiny_ERROR_ARGUMENT && SAYS(NULL, "dcc_run: the handle was destroyed"));
        CHECK(tiny_observe(old[i], meddle, NULL) == tiny_ERROR_ARGUMENT && tiny_threads(old[i]) == 0);
        CHECK(tiny_profile(old[i], times, 4) == tiny_ERROR_ARGUMENT);
        CHECK(tiny_profile_reset(old[i]) == tiny_ERROR_ARGUMENT);
        CHECK(strstr(tiny_last_error(old[i]), "the handle was destroyed") != NULL);
    }
    CHECK(run((tiny_handle *)(void *)&b, &b) == tiny_ERROR_ARGUMENT); /* never was one */
    run_and_check(fresh, 1.0f);
    CHECK(tiny_destroy(fresh) == tiny_OK);
}

static const struct {
    const char *name;
    void (*function)(void);
} cases[] = {
    {"pointers", pointers},
    {"sizes", sizes},
    {"processors", processors},
    {"sweep", sweep},
    {"crowds", crowds},
    {"texts", texts},
    {"reentrant", reentrant},
    {"signals", signals},
    {"cancelled", cancelled},
    {"forked_in_create", forked_in_create},
    {"left", left},
    {"destroyed", destroyed},
};

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (argc == 2 && strcmp(argv[1], cases[i].name) == 0) {
            cases[i].function();
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        puts(cases[i].name);
    }
    return 2;
}
