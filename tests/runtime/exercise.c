/* Exercises of the C runtime; `exercise NAME` runs one and exits 0 when all of it held. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, context); \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

static _Thread_local const char *context = "";

#include "exercise_workspace.h"

/* ---- allocations of the runtime, counted (the linker wraps them) ---- */

static _Atomic int allocations;
void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
int __real_posix_memalign(void **, size_t, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
int __wrap_posix_memalign(void **, size_t, size_t);
void *__wrap_malloc(size_t n) {
    allocations++;
    return __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t m) {
    allocations++;
    return __real_calloc(n, m);
}
int __wrap_posix_memalign(void **p, size_t a, size_t n) {
    allocations++;
    return __real_posix_memalign(p, a, n);
}

/* ---- a model: out = 3 * in by stripes, with scratch memory ---- */

#define COUNT 5003 /* a prime: no stripe is like another */

typedef struct {
    const float *in;
    float *out;
} scale_args;

static int scale_task(int id, dcc_group *group, void *data) {
    const scale_args *a = data;
    int chunk = (COUNT + group->num_task - 1) / group->num_task;
    float *space = dcc_alloc_workspace(1, 0, sizeof(float) * COUNT, 2, 32);
    if (space == NULL || (uintptr_t)space % DCC_ALIGNMENT != 0) {
        return -1;
    }
    for (int i = id * chunk; i < (id + 1) * chunk && i < COUNT; i++) {
        space[i] = 2.0f * a->in[i];
    }
    for (int i = id * chunk; i < (id + 1) * chunk && i < COUNT; i++) {
        a->out[i] = space[i] + a->in[i];
    }
    return dcc_free_workspace(1, 0, space);
}

static int32_t scale_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    scale_args first = {in[0], arena};
    *step = 0;
    if (dcc_parallel_launch(scale_task, &first, 0) != 0) {
        return -1;
    }
    if (watch != NULL) {
        watch->observer(watch->context, 0, arena);
    }
    *step = 1;
    memcpy(out[0], arena, sizeof(float) * COUNT);
    if (watch != NULL) {
        watch->observer(watch->context, 1, arena);
    }
    return 0;
}

static const int64_t shape[] = {COUNT};
static const dcc_tensor input = {"in", 1, 1, shape, COUNT, COUNT * sizeof(float), sizeof(float)};
static const dcc_tensor output = {"out", 1, 1, shape, COUNT, COUNT * sizeof(float), sizeof(float)};
static const char *const names[] = {"first", "second", "third"};

#define MODEL(title, function)                                                                                \
    static const dcc_model title = {DCC_ABI, 1, 1, 3, #title, &input, &output, names, COUNT * sizeof(float), \
                                    COUNT * sizeof(float), COUNT * sizeof(float), function, 0}
MODEL(scale, scale_steps);

static dcc_options threads(int32_t count) {
    return (dcc_options){sizeof(dcc_options), count, -1, NULL, 0, NULL, 0};
}

static dcc_handle *make(const dcc_model *model, int32_t count) {
    dcc_options options = threads(count);
    dcc_handle *handle = NULL;
    dcc_status status = dcc_create(model, &options, &handle);
    context = dcc_last_error(NULL);
    CHECK(status == DCC_OK && handle != NULL);
    return handle;
}

typedef struct {
    float in[COUNT], out[COUNT];
} buffers;

static dcc_status run(dcc_handle *handle, buffers *b) {
    const void *in[] = {b->in};
    void *out[] = {b->out};
    return dcc_run(handle, in, out);
}

static buffers *fill(float seed) {
    buffers *b = malloc(sizeof *b);
    for (int i = 0; i < COUNT; i++) {
        b->in[i] = seed + (float)(i % 97);
        b->out[i] = -1.0f;
    }
    return b;
}

static int tripled(const buffers *b) {
    for (int i = 0; i < COUNT; i++) {
        if (b->out[i] != 3.0f * b->in[i]) {
            return 0;
        }
    }
    return 1;
}

static void run_and_check(dcc_handle *handle, float seed) {
    buffers *b = fill(seed);
    dcc_status status = run(handle, b);
    context = dcc_last_error(handle);
    CHECK(status == DCC_OK);
    CHECK(tripled(b));
    free(b);
}

static int live_threads(void) {
#if defined(__SANITIZE_THREAD__)
    return 1; /* ThreadSanitizer has a thread of its own, which comes and goes */
#endif
    DIR *folder = opendir("/proc/self/task");
    int count = -2;
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

/* pthread_join returns when the thread says so; the kernel takes it off /proc a moment later. */
static int live_threads_become(int wanted) {
    for (int wait_ms = 0; wait_ms < 5000; wait_ms++) {
        if (live_threads() == wanted) {
            return 1;
        }
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* AddressSanitizer's own allocator has no lock around fork: a worker that is just starting may hold
 * it, and the child waits for it for ever.  So under it all threads are asleep before a fork. */
static void settle(void) {
#if defined(__SANITIZE_ADDRESS__)
    for (int quiet = 0; quiet < 5; quiet++) {
        usleep(5000);
        DIR *folder = opendir("/proc/self/task");
        for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
            char path[64], line[512];
            snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", entry->d_name);
            int id = atoi(entry->d_name);
            FILE *file = id == 0 || id == (int)getpid() ? NULL : fopen(path, "r");
            if (file != NULL) {
                const char *state = fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
                quiet = state != NULL && state[2] == 'S' ? quiet : -1;
                fclose(file);
            }
        }
        closedir(folder);
    }
#endif
}

/* ---- the exercises ---- */

static void results(void) {
    for (int32_t count = 1; count <= 9; count++) {
        dcc_handle *handle = make(&scale, count);
        CHECK(dcc_threads(handle) == count);
        for (int i = 0; i < 50; i++) {
            run_and_check(handle, (float)i);
        }
        CHECK(dcc_destroy(handle) == DCC_OK);
    }
    dcc_handle *handle = make(&scale, 0);
    CHECK(dcc_threads(handle) == dcc_usable_cpus());
    run_and_check(handle, 1.0f);
    CHECK(dcc_destroy(handle) == DCC_OK);
    CHECK(dcc_destroy(NULL) == DCC_OK);
}

/* Workers fall asleep between runs, and wake up again. */
static void sleeping(void) {
    for (int32_t spin = -1; spin <= 1; spin++) {
        dcc_options options = threads(3);
        options.spin_us = spin;
        dcc_handle *handle;
        CHECK(dcc_create(&scale, &options, &handle) == DCC_OK);
        for (int i = 0; i < 30; i++) {
            run_and_check(handle, (float)i);
            usleep(i % 3 == 0 ? 2000 : 0);
        }
        CHECK(dcc_destroy(handle) == DCC_OK);
    }
}

static void *many_runs(void *argument) {
    int32_t count = *(int32_t *)argument;
    dcc_handle *handle = make(&scale, count);
    for (int i = 0; i < 200; i++) {
        run_and_check(handle, (float)(i + count));
    }
    CHECK(dcc_destroy(handle) == DCC_OK);
    return NULL;
}

static void two_handles(void) {
    int32_t counts[] = {1, 2, 3};
    pthread_t running[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&running[i], NULL, many_runs, &counts[i]) == 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(running[i], NULL) == 0);
    }
}

/* A run that stays inside until told to go on. */
static _Atomic int inside, may_leave;

static int32_t waiting_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)watch;
    inside = 1;
    while (!may_leave) {
        sched_yield();
    }
    return scale_steps(in, out, arena, step, watch);
}
MODEL(waiting, waiting_steps);

static void *run_waiting(void *handle) {
    run_and_check(handle, 5.0f);
    return NULL;
}

static void misuse(void) {
    for (int32_t count = 1; count <= 3; count++) {
        dcc_handle *handle = make(&waiting, count);
        pthread_t other;
        inside = may_leave = 0;
        CHECK(pthread_create(&other, NULL, run_waiting, handle) == 0);
        while (!inside) {
            sched_yield();
        }
        buffers *b = fill(1.0f);
        for (int i = 0; i < 100; i++) {
            CHECK(run(handle, b) == DCC_ERROR_BUSY);
        }
        CHECK(b->out[0] == -1.0f);
        CHECK(dcc_destroy(handle) == DCC_ERROR_BUSY);
        may_leave = 1;
        CHECK(pthread_join(other, NULL) == 0);
        CHECK(run(handle, b) == DCC_OK && tripled(b));
        CHECK(dcc_destroy(handle) == DCC_OK);
        free(b);
    }
}

static _Atomic int refused;

static void *hammer(void *handle) {
    buffers *b = fill(2.0f);
    for (int i = 0; i < 300; i++) {
        dcc_status status = run(handle, b);
        CHECK(status == DCC_OK || status == DCC_ERROR_BUSY);
        if (status == DCC_OK) {
            CHECK(tripled(b));
        } else {
            refused++;
        }
        memset(b->out, 0, sizeof b->out);
    }
    free(b);
    return NULL;
}

static void contended(void) {
    dcc_handle *handle = make(&scale, 2);
    pthread_t running[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&running[i], NULL, hammer, handle) == 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(running[i], NULL) == 0);
    }
    run_and_check(handle, 3.0f);
    CHECK(dcc_destroy(handle) == DCC_OK);
}

static void cycles(void) {
    int before = live_threads();
    for (int i = 0; i < 1000; i++) {
        dcc_handle *handle = make(&scale, 1 + i % 4);
        if (i % 100 == 0) {
            run_and_check(handle, (float)i);
        }
        CHECK(dcc_destroy(handle) == DCC_OK);
    }
    CHECK(live_threads_become(before));
}

static int child_of(dcc_handle *handle) {
    settle();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 20; i++) {
            run_and_check(handle, (float)i);
        }
        int started = live_threads();
        settle();
        pid_t grandchild = fork();
        if (grandchild == 0) {
            run_and_check(handle, 9.0f);
            CHECK(dcc_destroy(handle) == DCC_OK);
            _exit(0);
        }
        int status = 1;
        waitpid(grandchild, &status, 0);
        CHECK(dcc_destroy(handle) == DCC_OK);
        CHECK(live_threads_become(1));
        _exit(status == 0 ? started : 99);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void forked(void) {
    dcc_handle *single = make(&scale, 1);
    CHECK(child_of(single) == 1);
    CHECK(dcc_destroy(single) == DCC_OK);
    dcc_handle *handle = make(&scale, 3);
    int expected = live_threads(); /* a child starts as many workers as its parent had */
    run_and_check(handle, 1.0f);
    CHECK(child_of(handle) == expected);
    run_and_check(handle, 2.0f);
    CHECK(dcc_destroy(handle) == DCC_OK);
}

/* Forked while another thread is inside a run: that thread does not exist in the child. */
static void forked_inside(void) {
    dcc_handle *handle = make(&waiting, 3);
    pthread_t other;
    settle();
    inside = may_leave = 0;
    CHECK(pthread_create(&other, NULL, run_waiting, handle) == 0);
    while (!inside) {
        sched_yield();
    }
    pid_t child = fork();
    if (child == 0) {
        may_leave = 1;
        run_and_check(handle, 4.0f);
        CHECK(dcc_destroy(handle) == DCC_OK);
        _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
    may_leave = 1;
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(dcc_destroy(handle) == DCC_OK);
}

/* ---- kinds of launches ---- */

#define TASKS 100
static _Atomic int visits[TASKS];

static int inner_task(int id, dcc_group *group, void *data) {
    (void)group;
    visits[*(int *)data]++;
    return id;
}

static int outer_task(int id, dcc_group *group, void *data) {
    (void)data;
    int mine = id;
    return group->num_task == TASKS ? dcc_parallel_launch(inner_task, &mine, 1) : -1;
}

static int32_t launch_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)watch;
    *step = 2;
    memset(visits, 0, sizeof visits);
    if (dcc_parallel_launch(outer_task, NULL, TASKS) != 0) {
        return -1;
    }
    for (int i = 0; i < TASKS; i++) {
        if (visits[i] != 1) {
            return -2;
        }
    }
    return scale_steps(in, out, arena, step, watch);
}
MODEL(launches, launch_steps);

static void nested(void) {
    for (int32_t count = 1; count <= 5; count++) {
        dcc_handle *handle = make(&launches, count);
        for (int i = 0; i < 50; i++) {
            run_and_check(handle, (float)i);
        }
        CHECK(dcc_destroy(handle) == DCC_OK);
    }
}

static _Atomic int before_barrier;

static int barrier_task(int id, dcc_group *group, void *data) {
    (void)data;
    for (int round = 1; round <= 10; round++) {
        before_barrier++;
        if (dcc_parallel_barrier(id, group) != 0 || before_barrier < round * group->num_task) {
            return -1;
        }
        if (dcc_parallel_barrier(id, group) != 0) {
            return -1;
        }
    }
    return 0;
}

static int32_t barrier_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)watch;
    before_barrier = 0;
    if (dcc_parallel_launch(barrier_task, NULL, dcc_this_thread()->threads) != 0) {
        return -1;
    }
    return scale_steps(in, out, arena, step, watch);
}
MODEL(barriers, barrier_steps);

static int32_t crowd_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)watch;
    (void)in, (void)out, (void)arena;
    *step = 2;
    return dcc_parallel_launch(barrier_task, NULL, 7);
}
MODEL(crowd, crowd_steps);

static void barrier(void) {
    for (int32_t count = 1; count <= 4; count++) {
        dcc_handle *handle = make(&barriers, count);
        for (int i = 0; i < 20; i++) {
            run_and_check(handle, (float)i);
        }
        CHECK(dcc_destroy(handle) == DCC_OK);
    }
    /* More tasks than threads can never meet: refused, not a deadlock. */
    dcc_handle *handle = make(&crowd, 1);
    buffers *b = fill(0.0f);
    CHECK(run(handle, b) == DCC_ERROR_KERNEL);
    CHECK(dcc_destroy(handle) == DCC_OK);
    free(b);
}

/* ---- errors ---- */

static int failing_task(int id, dcc_group *group, void *data) {
    (void)data;
    (void)dcc_alloc_workspace(1, 0, 64, 0, 8); /* and not freed: a kernel that fails may leak */
    return id == group->num_task - 1 ? -1 : 0;
}

static _Atomic int failing;

static int32_t failing_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)watch;
    if (failing) {
        *step = 1;
        (void)dcc_alloc_workspace(1, 0, 64, 0, 8);
        return dcc_parallel_launch(failing_task, NULL, 0) == 0 ? 0 : -42;
    }
    return scale_steps(in, out, arena, step, watch);
}
MODEL(fails, failing_steps);

static void errors(void) {
    buffers *b = fill(1.0f);
    for (int32_t count = 1; count <= 3; count++) {
        dcc_handle *handle = make(&fails, count);
        CHECK(strcmp(dcc_last_error(handle), "") == 0);
        for (int i = 0; i < 100; i++) {
            failing = 1;
            CHECK(run(handle, b) == DCC_ERROR_KERNEL);
            context = dcc_last_error(handle);
            CHECK(strcmp(context, "step 1 of 3, second, returned -42") == 0);
            failing = 0;
            run_and_check(handle, 1.0f);
        }
        CHECK(dcc_destroy(handle) == DCC_OK);
    }
    dcc_handle *handle = make(&scale, 1);
    const void *in[] = {NULL};
    void *out[] = {b->out};
    CHECK(dcc_run(NULL, in, out) == DCC_ERROR_ARGUMENT);
    CHECK(dcc_run(handle, NULL, out) == DCC_ERROR_ARGUMENT);
    CHECK(strcmp(dcc_last_error(handle), "the list of inputs is NULL") == 0);
    CHECK(dcc_run(handle, in, out) == DCC_ERROR_ARGUMENT);
    CHECK(strcmp(dcc_last_error(handle), "input 'in' is NULL") == 0);
    in[0] = (const char *)b->in + 1;
    CHECK(dcc_run(handle, in, out) == DCC_ERROR_ARGUMENT);
    CHECK(strcmp(dcc_last_error(handle), "input 'in' is not aligned to 4 bytes") == 0);
    in[0] = b->in;
    out[0] = b->in + COUNT - 1;
    CHECK(dcc_run(handle, in, out) == DCC_ERROR_ARGUMENT);
    CHECK(strcmp(dcc_last_error(handle), "output 'out' overlaps input 'in'") == 0);
    CHECK(dcc_run(handle, in, NULL) == DCC_ERROR_ARGUMENT);
    CHECK(dcc_destroy(handle) == DCC_OK);
    free(b);
}

static void bad_options(void) {
    dcc_handle *handle = NULL;
    CHECK(dcc_create(&scale, NULL, NULL) == DCC_ERROR_ARGUMENT);
    dcc_options options = threads(-1);
    CHECK(dcc_create(&scale, &options, &handle) == DCC_ERROR_ARGUMENT && handle == NULL);
    CHECK(strcmp(dcc_last_error(NULL), "options.threads is -1, not 0 to 1024") == 0);
    options = threads(1025);
    CHECK(dcc_create(&scale, &options, &handle) == DCC_ERROR_ARGUMENT);
    CHECK(dcc_memory_bytes(&scale, &options) == 0);
    options = threads(1);
    options.struct_size = 3;
    CHECK(dcc_create(&scale, &options, &handle) == DCC_ERROR_ARGUMENT);
    CHECK(strstr(dcc_last_error(NULL), "struct_size is 3") != NULL);
    options = threads(2);
    options.cpu_count = 1;
    CHECK(dcc_create(&scale, &options, &handle) == DCC_ERROR_ARGUMENT);
    dcc_model other = scale;
    other.abi = DCC_ABI + 1;
    CHECK(dcc_create(&other, NULL, &handle) == DCC_ERROR_ABI);
    CHECK(strstr(dcc_last_error(NULL), "model ABI") != NULL);
    other = scale;
    other.arena_bytes = UINT64_MAX - 3;
    CHECK(dcc_create(&other, NULL, &handle) == DCC_ERROR_MEMORY);
    other.arena_bytes = (uint64_t)SIZE_MAX / 4; /* can be named, cannot be had */
    CHECK(dcc_create(&other, NULL, &handle) == DCC_ERROR_MEMORY && handle == NULL);
    CHECK(strstr(dcc_last_error(NULL), "no memory for") != NULL);
    for (int32_t status = -1; status <= 8; status++) {
        CHECK(dcc_status_text(status)[0] != '\0');
    }
}

/* ---- memory ---- */

static void own_memory(void) {
    dcc_options options = threads(2);
    size_t bytes = dcc_memory_bytes(&scale, &options);
    CHECK(bytes >= 4 * COUNT * sizeof(float) && bytes % DCC_ALIGNMENT == 0);
    unsigned char *memory = NULL;
    CHECK(posix_memalign((void **)&memory, DCC_ALIGNMENT, bytes + 64) == 0);
    memset(memory + bytes, 0x5a, 64);
    dcc_handle *handle = NULL;
    options.memory = memory;
    options.memory_bytes = bytes - 1;
    CHECK(dcc_create(&scale, &options, &handle) == DCC_ERROR_ARGUMENT);
    CHECK(strstr(dcc_last_error(NULL), "options.memory") != NULL);
    options.memory_bytes = bytes;
    options.memory = memory + 4;
    CHECK(dcc_create(&scale, &options, &handle) == DCC_ERROR_ARGUMENT);
    options.memory = memory;
    CHECK(dcc_create(&scale, &options, &handle) == DCC_OK);
    run_and_check(handle, 1.0f);
    CHECK(dcc_destroy(handle) == DCC_OK);
    for (int i = 0; i < 64; i++) {
        CHECK(memory[bytes + (size_t)i] == 0x5a);
    }
    free(memory);
}

static void no_allocation(void) {
    buffers *b = fill(1.0f);
    for (int32_t count = 1; count <= 3; count++) {
        dcc_handle *handle = make(&scale, count);
        int before = allocations;
        CHECK(before > 0);
        for (int i = 0; i < 100; i++) {
            CHECK(run(handle, b) == DCC_OK);
        }
        CHECK(allocations == before);
        CHECK(dcc_destroy(handle) == DCC_OK);
    }
    free(b);
}

static _Atomic int wrong_cpu, elsewhere;
static pthread_t caller;
static int32_t pinned_to;
static int kept_off; /* whether other threads must not be there, or there only */

static int where_task(int id, dcc_group *group, void *data) {
    (void)id, (void)group, (void)data;
    if (!pthread_equal(pthread_self(), caller)) {
        cpu_set_t set;
        sched_getaffinity(0, sizeof set, &set);
        elsewhere++;
        wrong_cpu += kept_off ? CPU_ISSET((size_t)pinned_to, &set) != 0
                              : CPU_COUNT(&set) != 1 || !CPU_ISSET((size_t)pinned_to, &set);
    }
    usleep(200);
    return 0;
}

static int32_t where_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    return dcc_parallel_launch(where_task, NULL, 16) != 0 ? -1 : scale_steps(in, out, arena, step, watch);
}
MODEL(where, where_steps);

static void affinity(void) {
    cpu_set_t before, after;
    caller = pthread_self();
    sched_getaffinity(0, sizeof before, &before);
    pinned_to = 0;
    while (!CPU_ISSET((size_t)pinned_to, &before)) {
        pinned_to++;
    }
    int32_t cpus[] = {pinned_to};
    dcc_options options = threads(2);
    options.cpus = cpus;
    options.cpu_count = 1;
    dcc_handle *handle;
    CHECK(dcc_create(&where, &options, &handle) == DCC_OK);
    for (int i = 0; i < 20; i++) {
        run_and_check(handle, 1.0f);
    }
    CHECK(elsewhere > 0 && wrong_cpu == 0);
    sched_getaffinity(0, sizeof after, &after);
    CHECK(CPU_EQUAL(&before, &after));
    CHECK(dcc_destroy(handle) == DCC_OK);
    cpus[0] = CPU_SETSIZE;
    CHECK(dcc_create(&where, &options, &handle) == DCC_ERROR_THREAD && handle == NULL);
    CHECK(strstr(dcc_last_error(NULL), "1 threads could not be started or pinned") != NULL);
}

/* Wherever the launching thread goes, the worker is kept off its processor. */
static void kept_apart(void) {
    cpu_set_t before, here;
    caller = pthread_self();
    sched_getaffinity(0, sizeof before, &before);
    if (CPU_COUNT(&before) < 2) return; /* one processor for both: nothing to keep apart */
    kept_off = 1;
    dcc_handle *handle = make(&where, 2);
    for (pinned_to = 0; pinned_to < CPU_SETSIZE; pinned_to++) {
        CPU_ZERO(&here);
        CPU_SET((size_t)pinned_to, &here);
        if (!CPU_ISSET((size_t)pinned_to, &before)) continue;
        CHECK(sched_setaffinity(0, sizeof here, &here) == 0);
        elsewhere = 0;
        for (int i = 0; i < 20; i++) {
            run_and_check(handle, 1.0f);
        }
        CHECK(elsewhere > 0 && wrong_cpu == 0);
    }
    CHECK(sched_setaffinity(0, sizeof before, &before) == 0);
    CHECK(dcc_destroy(handle) == DCC_OK);
}

#include "exercise_timers.h"

static const struct {
    const char *name;
    void (*function)(void);
} exercises[] = {
    {"results", results},
    {"sleeping", sleeping},
    {"two_handles", two_handles},
    {"misuse", misuse},
    {"contended", contended},
    {"cycles", cycles},
    {"forked", forked},
    {"forked_inside", forked_inside},
    {"nested", nested},
    {"barrier", barrier},
    {"errors", errors},
    {"bad_options", bad_options},
    {"workspace", workspace},
    {"own_memory", own_memory},
    {"no_allocation", no_allocation},
    {"affinity", affinity},
    {"kept_apart", kept_apart},
    {"observed", observed},
    {"timers", timers},
    {"seldom_timed", seldom_timed},
};

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof exercises / sizeof exercises[0]; i++) {
        if (argc == 2 && strcmp(argv[1], exercises[i].name) == 0) {
            exercises[i].function();
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof exercises / sizeof exercises[0]; i++) {
        puts(exercises[i].name);
    }
    return 2;
}
