/* An app of the package `tiny` for GPUs (tests/packaging/cuda_plans.py); its first argument says what it is to do.
 *
 * in.bin has 1000 floats a run, out.bin gets the two outputs of each.  A call that fails is told on standard output,
 * by its status and text. */
#define _GNU_SOURCE
#include <tiny.h>

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 1000, MOST = 16, SIZE = 4 * COUNT };

static float x[MOST][COUNT], y[MOST][COUNT], copy[MOST][COUNT];
static int runs;

static void read_inputs(void) {
    FILE *file = fopen("in.bin", "rb");
    runs = file == NULL ? 0 : (int)(fread(x, SIZE, MOST, file));
    if (file != NULL) {
        fclose(file);
    }
}

static void write_outputs(void) {
    FILE *file = fopen("out.bin", "wb");
    for (int i = 0; i < runs; i++) {
        fwrite(y[i], SIZE, 1, file);
        fwrite(copy[i], SIZE, 1, file);
    }
    fclose(file);
}

static int told(const char *what, tiny_status status, const tiny_handle *handle) {
    if (status != tiny_OK) {
        printf("%s: %d %s: %s\n", what, (int)status, tiny_status_text(status), tiny_last_error(handle));
    }
    return status != tiny_OK;
}

static tiny_handle *made(int device, int graph, int threads) {
    tiny_options options = tiny_OPTIONS_INIT;
    tiny_handle *handle = NULL;
    options.device = device;
    options.graph = graph;
    options.threads = threads;
    if (told("create", tiny_create(&options, &handle), NULL)) {
        exit(3);
    }
    return handle;
}

static tiny_status run_one(tiny_handle *handle, int i) {
    const void *const inputs[] = {x[i]};
    void *const outputs[] = {y[i], copy[i]};
    return tiny_run(handle, inputs, outputs);
}

static int plain_runs(int graph) {
    tiny_handle *handle = made(0, graph, 1);
    for (int i = 0; i < runs; i++) {
        told("run", run_one(handle, i), handle);
    }
    printf("chip %u of %u: %s\n", tiny_chip(handle), tiny_chip_count(), tiny_chip_name(tiny_chip(handle)));
    printf("threads %d\n", (int)tiny_threads(handle));
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

/* ---- the GPU's memory ---- */

typedef struct buffers {
    void *x, *y, *copy;
} buffers;

static int take(tiny_handle *handle, buffers *to) {
    return told("malloc", tiny_device_malloc(handle, SIZE, &to->x), handle)
        || told("malloc", tiny_device_malloc(handle, SIZE, &to->y), handle)
        || told("malloc", tiny_device_malloc(handle, SIZE, &to->copy), handle);
}

static void give(tiny_handle *handle, buffers *from) {
    told("free", tiny_device_free(handle, from->x), handle);
    told("free", tiny_device_free(handle, from->y), handle);
    told("free", tiny_device_free(handle, from->copy), handle);
}

static tiny_status start(tiny_handle *handle, const buffers *of, void *stream) {
    const void *const inputs[] = {of->x};
    void *const outputs[] = {of->y, of->copy};
    return tiny_run_async(handle, inputs, outputs, stream);
}

/* Every run has buffers of its own, changed pointers each time, on one of two streams, and nobody waits between. */
static int async_runs(int graph) {
    tiny_handle *handle = made(0, graph, 1);
    buffers all[MOST] = {{0}};
    void *stream = NULL;
    told("stream", tiny_stream_create(handle, &stream), handle);
    for (int i = 0; i < runs; i++) {
        take(handle, &all[i]);
        told("upload", tiny_copy_to_device(handle, all[i].x, x[i], SIZE), handle);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < runs; i++) {
            told("run_async", start(handle, &all[i], i % 2 ? stream : tiny_stream(handle)), handle);
        }
    }
    told("run_async", start(handle, &all[runs - 1], NULL), handle); /* pointers as before, on the default stream */
    told("synchronize", tiny_synchronize(handle), handle);
    for (int i = 0; i < runs; i++) {
        told("download", tiny_copy_from_device(handle, y[i], all[i].y, SIZE), handle);
        told("download", tiny_copy_from_device(handle, copy[i], all[i].copy, SIZE), handle);
        give(handle, &all[i]);
    }
    told("stream", tiny_stream_synchronize(handle, stream), handle);
    told("stream", tiny_stream_destroy(handle, stream), handle);
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

/* A run in the host's memory behind one that is under way on another stream. */
static int mixed_runs(void) {
    tiny_handle *handle = made(0, 1, 1);
    buffers one;
    void *stream = NULL;
    told("stream", tiny_stream_create(handle, &stream), handle);
    take(handle, &one);
    told("upload", tiny_copy_to_device(handle, one.x, x[0], SIZE), handle);
    told("run_async", start(handle, &one, stream), handle);
    told("run", run_one(handle, 1), handle);
    told("download", tiny_copy_from_device(handle, y[0], one.y, SIZE), handle);
    told("download", tiny_copy_from_device(handle, copy[0], one.copy, SIZE), handle);
    give(handle, &one);
    told("stream", tiny_stream_destroy(handle, stream), handle);
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

/* ---- several at once ---- */

static void *many_runs(void *given) {
    const int number = *(const int *)given;
    tiny_handle *handle = made(number % 2, 1, 2);
    for (int round = 0; round < 10; round++) {
        told("run", run_one(handle, number), handle);
    }
    told("destroy", tiny_destroy(handle), handle);
    return NULL;
}

static int threads(void) {
    pthread_t all[4];
    int numbers[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++) {
        pthread_create(&all[i], NULL, many_runs, &numbers[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(all[i], NULL);
    }
    return 0;
}

static int shared_weights(void) {
    tiny_handle *first = made(0, 1, 1), *second = made(0, 1, 1), *other = made(1, 1, 1);
    told("run", run_one(first, 0), first);
    told("destroy", tiny_destroy(first), first);
    told("run", run_one(second, 1), second);
    told("run", run_one(other, 2), other);
    told("destroy", tiny_destroy(second), second);
    told("destroy", tiny_destroy(other), other);
    return 0;
}

static int forked(void) {
    tiny_handle *handle = made(0, 1, 2);
    told("run", run_one(handle, 0), handle);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        tiny_handle *another = NULL;
        told("run", run_one(handle, 1), handle);
        told("create", tiny_create(NULL, &another), NULL);
        int32_t count = -1;
        told("count", tiny_device_count(&count), NULL);
        told("destroy", tiny_destroy(handle), NULL);
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("child %d\n", status);
    told("run", run_one(handle, 1), handle);
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

/* ---- faults ---- */

/* Runs 0, 1, ...: what the kernels do depends on the first number of the input. */
static int faults(void) {
    tiny_handle *handle = made(0, 1, 1), *another = NULL;
    for (int i = 0; i < runs; i++) {
        printf("run %d\n", i);
        told("run", run_one(handle, i), handle);
    }
    told("create", tiny_create(NULL, &another), NULL);
    told("destroy", tiny_destroy(another), another);
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

/* A host kernel that fails in a run nobody waits for. */
static int async_fault(void) {
    tiny_handle *handle = made(0, 1, 1);
    buffers one;
    take(handle, &one);
    told("upload", tiny_copy_to_device(handle, one.x, x[0], SIZE), handle);
    told("run_async", start(handle, &one, tiny_stream(handle)), handle);
    told("synchronize", tiny_synchronize(handle), handle);
    told("synchronize", tiny_synchronize(handle), handle);
    give(handle, &one);
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

static int destroyed(void) {
    tiny_handle *handle = made(0, 1, 1);
    told("run", run_one(handle, 0), handle);
    told("destroy", tiny_destroy(handle), NULL);
    told("run", run_one(handle, 0), NULL);
    told("destroy", tiny_destroy(handle), NULL);
    return 0;
}

static int arguments(void) {
    tiny_options options = tiny_OPTIONS_INIT;
    tiny_handle *handle = NULL;
    tiny_gpu gpu;
    options.device = 7;
    told("device", tiny_create(&options, &handle), NULL);
    options.device = -1;
    told("device", tiny_create(&options, &handle), NULL);
    options.graph = 3;
    told("graph", tiny_create(&options, &handle), NULL);
    options.struct_size = 48;
    told("size", tiny_create(&options, &handle), NULL);
    told("place", tiny_create(NULL, NULL), NULL);
    told("info", tiny_device_info(3, &gpu), NULL);
    told("info", tiny_device_info(0, NULL), NULL);
    told("count", tiny_device_count(NULL), NULL);
    handle = made(0, 1, 1);
    buffers one, bad;
    take(handle, &one);
    bad = one;
    bad.x = x[0];
    told("host", start(handle, &bad, NULL), handle);
    bad.x = (char *)one.x + 4;
    told("aligned", start(handle, &bad, NULL), handle);
    bad.x = NULL;
    told("null", start(handle, &bad, NULL), handle);
    bad = one;
    bad.y = one.x;
    told("overlap", start(handle, &bad, NULL), handle);
    told("copy", tiny_copy_to_device(handle, NULL, x[0], SIZE), handle);
    told("copy", tiny_copy_to_device(handle, (char *)one.x + 8, x[0], SIZE), handle);
    told("large", tiny_device_malloc(handle, (size_t)1 << 40, &bad.x), handle);
    told("stream", tiny_stream_create(handle, NULL), handle);
    told("empty", tiny_copy_to_device(handle, NULL, NULL, 0), handle);
    told("no handle", tiny_synchronize(NULL), NULL);
    printf("chip %u, stream %d, threads %d, memory %d\n", tiny_chip(NULL), tiny_stream(NULL) == NULL,
           (int)tiny_threads(NULL), tiny_memory_bytes(NULL) > 0);
    give(handle, &one);
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

/* ---- watched and timed ---- */

static FILE *shown;

static void watch(void *context, uint32_t step, const void *arena) {
    tiny_handle *handle = context;
    void *const outputs[] = {y[0], copy[0]};
    const void *const inputs[] = {x[0]};
    if (step == 0) {
        told("inside", tiny_run(handle, inputs, outputs), NULL);
    }
    fwrite(arena, 1, 12288 + 12288, shown); /* the arena, and behind it the host's block */
    fwrite(y[0], SIZE, 1, shown);
}

static int observed(void) {
    tiny_handle *handle = made(0, 1, 1);
    shown = fopen("shown.bin", "wb");
    told("observe", tiny_observe(handle, watch, handle), handle);
    told("run", run_one(handle, 0), handle);
    fclose(shown);
    const buffers none = {x[0], y[0], copy[0]};
    told("run_async", start(handle, &none, NULL), handle);
    told("observe", tiny_observe(handle, NULL, NULL), handle);
    told("run", run_one(handle, 1), handle);
    for (uint32_t i = 0; i < tiny_step_count(); i++) {
        printf("step %s\n", tiny_step_name(i));
    }
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}

#ifdef TIMED
static int timed(int graph) {
    tiny_handle *handle = made(0, graph, 1);
    tiny_step_time times[6];
    for (int round = 0; round < 3; round++) {
        told("reset", tiny_profile_reset(handle), handle);
        for (int i = 0; i < 3; i++) {
            told("run", run_one(handle, i), handle);
        }
        told("profile", tiny_profile(handle, times, 6), handle);
        for (int i = 0; i < 6; i++) {
            printf("step %d runs %d total %d\n", i, (int)times[i].runs, times[i].total_ns > 0);
        }
    }
    told("profile", tiny_profile(handle, times, 5), handle);
    told("destroy", tiny_destroy(handle), handle);
    return 0;
}
#endif

/* All that there is, ended by the first call that fails. */
static int everything(int graph) {
    tiny_handle *handle = NULL;
    tiny_options options = tiny_OPTIONS_INIT;
    buffers one = {NULL, NULL, NULL}, two = {NULL, NULL, NULL};
    void *stream = NULL;
    tiny_gpu gpu;
    int32_t count = 0;
    options.graph = graph;
    options.threads = 1;
    int failed = told("count", tiny_device_count(&count), NULL) || told("info", tiny_device_info(0, &gpu), NULL)
              || told("create", tiny_create(&options, &handle), NULL);
    failed = failed || told("run", run_one(handle, 0), handle) || take(handle, &one) || take(handle, &two)
          || told("stream", tiny_stream_create(handle, &stream), handle)
          || told("upload", tiny_copy_to_device(handle, one.x, x[0], SIZE), handle)
          || told("upload", tiny_copy_to_device(handle, two.x, x[1], SIZE), handle)
          || told("run_async", start(handle, &one, stream), handle)
          || told("run_async", start(handle, &two, tiny_stream(handle)), handle)
          || told("run", run_one(handle, 2), handle)
          || told("run_async", start(handle, &one, stream), handle)
          || told("synchronize", tiny_synchronize(handle), handle)
          || told("download", tiny_copy_from_device(handle, y[0], one.y, SIZE), handle)
          || told("observe", tiny_observe(handle, watch, handle), handle);
    if (!failed) {
        shown = fopen("/dev/null", "wb");
        failed = told("observed", run_one(handle, 1), handle);
        fclose(shown);
    }
    if (handle != NULL) {
        give(handle, &one);
        give(handle, &two);
        told("stream", tiny_stream_destroy(handle, stream), handle);
        told("destroy", tiny_destroy(handle), handle);
    }
    return failed ? 3 : 0;
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    read_inputs();
    int result = 2;
#define DO(name, call)                \
    if (strcmp(what, name) == 0) {    \
        result = call;                \
    }
    DO("runs", plain_runs(1))
    DO("plain", plain_runs(0))
    DO("branches", plain_runs(2))
    DO("branches-async", async_runs(2))
    DO("async", async_runs(1))
    DO("plain-async", async_runs(0))
    DO("mixed", mixed_runs())
    DO("threads", threads())
    DO("shared", shared_weights())
    DO("forked", forked())
    DO("faults", faults())
    DO("async-fault", async_fault())
    DO("arguments", arguments())
    DO("destroyed", destroyed())
    DO("observed", observed())
    DO("everything", everything(1))
    DO("everything-plain", everything(0))
#ifdef TIMED
    DO("timed", timed(1))
    DO("plain-timed", timed(0))
#endif
    write_outputs();
    return result;
}
