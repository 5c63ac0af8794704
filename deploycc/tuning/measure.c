/* Runs a call list of compiled kernels and times it; linked with every candidate.
 *
 * The three hooks that kernels call are served here: workspace from one block as a stack, and parallel
 * loops as one task in the calling thread.  Time is the calling thread's own, so that what other processes
 * take of the core does not count.
 */
#define _POSIX_C_SOURCE 200809L
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

struct step {
    void *kernel;      /* NULL: copy bytes from arguments[1] to arguments[0] */
    int64_t count;     /* arguments */
    int64_t first;     /* the first one's place in the list of arguments */
    int64_t nbytes;    /* of a copy */
};

static char *space;
static size_t space_size, space_used;
static int failure;

static void *take(int device, int id, uint64_t size, int code, int bits) {
    (void)device, (void)id, (void)code, (void)bits;
    size_t rounded = (size + 63) / 64 * 64;
    if (space_used + rounded > space_size) {
        failure = -1;
        return NULL;
    }
    space_used += rounded;
    return space + space_used - rounded;
}

static int give(int device, int id, void *block) {
    (void)device, (void)id;
    space_used = (size_t)((char *)block - space);
    return 0;
}

struct group {
    void *sync;
    int32_t tasks;
};

static int launch(int (*body)(int, struct group *, void *), void *data, int tasks) {
    (void)tasks;
    struct group group = {NULL, 1};
    return body(0, &group, data);
}

void *__TVMBackendAllocWorkspace = (void *)take;
void *__TVMBackendFreeWorkspace = (void *)give;
void *__TVMBackendParallelLaunch = (void *)launch;

#define P void *
#define A(n) a[n]
#define A8(n) A(n), A(n + 1), A(n + 2), A(n + 3), A(n + 4), A(n + 5), A(n + 6), A(n + 7)
#define P8 P, P, P, P, P, P, P, P
#define P32 P8, P8, P8, P8
#define A32(n) A8(n), A8(n + 8), A8(n + 16), A8(n + 24)

/* Arguments beyond those a function has are harmless in C's calling conventions: the caller owns their
 * place.  The list of arguments is long enough behind its end to be read so far. */
static int32_t call(void *kernel, int64_t count, void **a) {
    if (count <= 8)
        return ((int32_t (*)(P8))kernel)(A8(0));
    if (count <= 32)
        return ((int32_t (*)(P32))kernel)(A32(0));
    if (count <= 128)
        return ((int32_t (*)(P32, P32, P32, P32))kernel)(A32(0), A32(32), A32(64), A32(96));
    return -3;
}

void measure_workspace(void *block, int64_t size) {
    space = block;
    space_size = (size_t)size;
    space_used = 0;
}

/* One run: 0, or the number of the step that failed counted from 1, or -1 for too little workspace. */
int64_t measure_run(const struct step *steps, int64_t count, void **arguments) {
    failure = 0;
    for (int64_t i = 0; i < count; ++i) {
        void **own = arguments + steps[i].first;
        if (!steps[i].kernel)
            memcpy(own[0], own[1], (size_t)steps[i].nbytes);
        else if (call(steps[i].kernel, steps[i].count, own))
            return failure ? failure : i + 1;
    }
    return failure;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds of one run, from `runs` runs that use the `copies` lists of arguments in turn, from the one
 * numbered `turn` on. */
double measure_seconds(const struct step *steps, int64_t count, void ***lists, int64_t copies, int64_t turn,
                       int64_t runs) {
    double start = now();
    for (int64_t i = 0; i < runs; ++i)
        measure_run(steps, count, lists[(turn + i) % copies]);
    return (now() - start) / (double)runs;
}

/* Multiply-adds with nothing to wait for but each other's units: the peak of one core, in FLOP/s. */
#ifndef VECTOR_BYTES
#define VECTOR_BYTES 16
#endif
typedef float vector __attribute__((vector_size(VECTOR_BYTES)));

double measure_peak(int64_t rounds) {
    vector a[12], x, y;
    for (int i = 0; i < 12; ++i)
        for (size_t j = 0; j < VECTOR_BYTES / sizeof(float); ++j)
            a[i][j] = (float)i;
    for (size_t j = 0; j < VECTOR_BYTES / sizeof(float); ++j)
        x[j] = 0.5f, y[j] = 0.25f;
    __asm__ volatile("" : "+m"(x), "+m"(y));
    double start = now();
    for (int64_t i = 0; i < rounds; ++i) {
        a[0] = a[0] * x + y, a[1] = a[1] * x + y, a[2] = a[2] * x + y, a[3] = a[3] * x + y;
        a[4] = a[4] * x + y, a[5] = a[5] * x + y, a[6] = a[6] * x + y, a[7] = a[7] * x + y;
        a[8] = a[8] * x + y, a[9] = a[9] * x + y, a[10] = a[10] * x + y, a[11] = a[11] * x + y;
    }
    double seconds = now() - start;
    for (int i = 0; i < 12; ++i)
        __asm__ volatile("" : : "m"(a[i]));
    return (double)rounds * 12 * 2 * (VECTOR_BYTES / sizeof(float)) / seconds;
}
