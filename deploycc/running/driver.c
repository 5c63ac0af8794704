/* The small program that loads one package's library where it is to run, and does there what it is told.
 *
 *   driver FOLDER
 *
 * FOLDER/orders.txt has a word and its values a line (deploycc/running/orders.py writes it):
 *
 *   library PATH          the shared library; relative paths from FOLDER; left out where it is linked in
 *   threads N             of the handle, the calling thread included
 *   cpus C...             processors: the first for the calling thread, then for the workers
 *   warmup N, runs N      runs without and with their times told
 *   dump STEP KIND INDEX OFFSET BYTES
 *                         copy what step STEP of the first run wrote: KIND is arena or output
 *   steps                 also time each step: after every timed run another one, by an observer; with TIMED by
 *                         the library's own timers, which time the first run after they are set to 0
 *   seconds S             fewer runs with their steps, but five, once they took so long together
 *   variant N             of a package for several shapes (VARIANTS); the first unless told
 *   device                of a package for GPUs (GPUS): runs on the GPU's memory, in a stream of their own
 *   plain                 of the same: steps launched one by one, not as a graph
 *   probe                 of the same: only tell which GPU it runs on, with no inputs
 *   serve                 then read numbers from standard input, a line each: so many runs, their times told
 *
 * FOLDER/input_I.bin are the inputs, raw.  Written are FOLDER/output_I.bin (the last run's), dump.bin (the
 * copies, one after another, in the order of the steps) and steps.bin (run after run a uint64 a step: nanoseconds).
 * Standard output gets one JSON object a line.  Errors go to standard error with exit status 1.
 *
 * NAME is the package's; with LINKED its functions are linked in.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifndef LINKED
#include <dlfcn.h>
#endif
#include HEADER

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define TEXT2(a) #a
#define TEXT(a) TEXT2(a)
#define MODEL(function) JOIN(NAME, function)

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why == NULL ? "unknown error" : why);
    exit(1);
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The kernel's own high-water mark: getrusage's starts from the process that was there before exec. */
static long peak_kib(void) {
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) {
            break;
        }
    }
    if (status != NULL) {
        fclose(status);
    }
    return kib;
}

static void *room(size_t bytes) {
    void *block = NULL;
    if (posix_memalign(&block, 64, bytes ? bytes : 64) != 0) {
        fail("memory", "no room for a tensor");
    }
    memset(block, 0xAB, bytes ? bytes : 64);
    return block;
}

static void whole_file(const char *path, void *data, size_t bytes, int writing) {
    FILE *file = fopen(path, writing ? "wb" : "rb");
    if (file == NULL) {
        fail(path, writing ? "cannot be written" : "cannot be opened");
    }
    size_t done = writing ? fwrite(data, 1, bytes, file) : fread(data, 1, bytes, file);
    if (done != bytes || fclose(file) != 0) {
        fail(path, writing ? "cannot be written" : "cut off");
    }
}

#include "driver_orders.h"

/* ---- what watches the runs ---- */

static void *outputs[256];
static FILE *dump_file;
static uint64_t *step_ns;
static uint64_t step_start;

static void copy_out(void *context, uint32_t step, const void *arena) {
    (void)context;
    for (size_t i = 0; i < orders.dump_count; i++) {
        const dump *one = &orders.dumps[i];
        if (one->step != step) {
            continue;
        }
        const void *base = one->kind[0] == 'a' ? arena : outputs[one->index];
        if (fwrite((const char *)base + one->offset, 1, (size_t)one->bytes, dump_file) != one->bytes) {
            fail("dump.bin", "cannot be written");
        }
    }
}

static void take_time(void *context, uint32_t step, const void *arena) {
    (void)context, (void)arena;
    uint64_t now = now_ns();
    step_ns[step] = now - step_start;
    step_start = now;
}

/* What one look at the clock costs: it is part of every step that is timed. */
static double timer_ns(void) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 50; i++) {
        const uint64_t start = now_ns();
        uint64_t end = start;
        for (int k = 0; k < 20; k++) {
            end = now_ns();
        }
        least = end - start < least ? end - start : least;
    }
    return (double)least / 20;
}

/* ---- the library ---- */

#ifdef LINKED
#define BIND(function) static __typeof__(&MODEL(function)) const call_##function = &MODEL(function)
#define FIND(function) (void)0
#else
#define BIND(function) static __typeof__(&MODEL(function)) call_##function
#define FIND(function) *(void **)&call_##function = find(library, TEXT(NAME) "_" #function)
static void *find(void *library, const char *symbol) {
    void *address = dlsym(library, symbol);
    if (address == NULL) {
        fail(symbol, dlerror());
    }
    return address;
}
#endif
#ifdef TIMED
#define TIMER_FUNCTIONS(DO) DO(profile); DO(profile_reset);
#else
#define TIMER_FUNCTIONS(DO)
#endif
#ifdef VARIANTS
#define VARIANT_FUNCTIONS(DO) DO(select); DO(variant_step_count); DO(variant_input_info); DO(variant_output_info);
#else
#define VARIANT_FUNCTIONS(DO) DO(step_count); DO(input_info); DO(output_info);
#endif
#ifdef GPUS
#define GPU_FUNCTIONS(DO) \
    DO(chip); DO(chip_step_count); DO(device_info); DO(device_malloc); DO(device_free); DO(copy_to_device); \
    DO(copy_from_device); DO(run_async); DO(stream_create); DO(stream_destroy); DO(stream_synchronize); \
    DO(synchronize);
#else
#define GPU_FUNCTIONS(DO)
#endif
#define FUNCTIONS(DO) \
    DO(create); DO(destroy); DO(run); DO(observe); DO(threads); DO(input_count); DO(output_count); DO(last_error); \
    TIMER_FUNCTIONS(DO) VARIANT_FUNCTIONS(DO) GPU_FUNCTIONS(DO)
FUNCTIONS(BIND)
#ifdef VARIANTS
#define STEP_COUNT() call_variant_step_count(orders.variant)
#define INPUT_INFO(index) call_variant_input_info(orders.variant, index)
#define OUTPUT_INFO(index) call_variant_output_info(orders.variant, index)
#else
#ifdef GPUS
#define STEP_COUNT() call_chip_step_count(call_chip(handle))
#else
#define STEP_COUNT() call_step_count()
#endif
#define INPUT_INFO(index) call_input_info(index)
#define OUTPUT_INFO(index) call_output_info(index)
#endif

static MODEL(handle) *handle;
static const void *inputs[256];

#ifdef GPUS
#include "driver_gpu.h"
#endif

static double run_once(void) {
    const double before = now_us();
    step_start = now_ns();
#ifdef GPUS
    if (orders.device) {
        run_on_device();
        return now_us() - before;
    }
#endif
    if (call_run(handle, inputs, outputs) != 0) {
        fail("run", call_last_error(handle));
    }
    return now_us() - before;
}

static void tell_runs(int count) {
    printf("{\"run_us\": [");
    for (int i = 0; i < count; i++) {
        printf("%s%.3f", i ? ", " : "", run_once());
    }
    printf("]}\n");
    fflush(stdout);
}

#ifdef TIMED
static MODEL(step_time) *step_times;
static double run_timed(size_t steps) {
    if (call_profile_reset(handle) != 0) {
        fail("profile_reset", call_last_error(handle));
    }
    const double taken = run_once();
    if (call_profile(handle, step_times, (uint32_t)steps) != 0) {
        fail("profile", call_last_error(handle));
    }
    for (size_t i = 0; i < steps; i++) {
        step_ns[i] = step_times[i].total_ns;
    }
    return taken;
}
#else
static double run_timed(size_t steps) {
    (void)steps;
    if (call_observe(handle, take_time, NULL) != 0) {
        fail("observe", call_last_error(handle));
    }
    const double taken = run_once();
    if (call_observe(handle, NULL, NULL) != 0) {
        fail("observe", call_last_error(handle));
    }
    return taken;
}
#endif

static void tell_times(const char *name, const double *times, int count) {
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++) {
        printf("%s%.3f", i ? ", " : "", times[i]);
    }
    printf("]");
}

/* Runs with and without an observer take turns, so that what disturbs the machine disturbs both. */
static void timed_steps(int most) {
    const size_t steps = STEP_COUNT();
    FILE *file = fopen("steps.bin", "wb");
    double *plain = calloc((size_t)most + 1, sizeof *plain), *timed = calloc((size_t)most + 1, sizeof *timed);
    step_ns = calloc(steps + 1, sizeof *step_ns);
    if (file == NULL || step_ns == NULL || plain == NULL || timed == NULL) {
        fail("steps.bin", "cannot be written");
    }
#ifdef TIMED
    step_times = calloc(steps + 1, sizeof *step_times);
    if (step_times == NULL) {
        fail("memory", "no room for the times");
    }
#endif
    const double end = now_us() + orders.seconds * 1e6;
    int count = 0;
    while (count < most && (orders.seconds <= 0 || count < 5 || now_us() < end)) {
        plain[count] = run_once();
        timed[count] = run_timed(steps);
        if (fwrite(step_ns, sizeof *step_ns, steps, file) != steps) {
            fail("steps.bin", "cannot be written");
        }
        count++;
    }
    printf("{\"timer_ns\": %.3f, ", timer_ns());
    tell_times("run_us", plain, count);
    printf(", ");
    tell_times("observed_us", timed, count);
    printf("}\n");
    fflush(stdout);
    if (fclose(file) != 0) {
        fail("steps.bin", "cannot be written");
    }
}

static void load(void) {
    const long idle = peak_kib();
    const double start = now_us();
#ifndef LINKED
    void *library = dlopen(orders.library, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fail(orders.library, dlerror());
    }
    FUNCTIONS(FIND)
#endif
    const double loaded = now_us();
    MODEL(options) options = MODEL(OPTIONS_INIT);
    options.threads = orders.threads;
    if (orders.cpu_count > 0) {
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET((size_t)orders.cpus[0], &own);
        if (sched_setaffinity(0, sizeof own, &own) != 0) {
            fail("cpus", "the calling thread cannot be pinned there");
        }
        options.cpus = orders.cpus + (orders.cpu_count > 1);
        options.cpu_count = orders.cpu_count > 1 ? orders.cpu_count - 1 : 1;
    }
#ifdef GPUS
    options.graph = !orders.plain;
#endif
    if (call_create(&options, &handle) != 0) {
        fail("create", call_last_error(NULL));
    }
#ifdef VARIANTS
    if (call_select(handle, orders.variant) != 0) {
        fail("select", call_last_error(handle));
    }
#endif
    const double created = now_us();
    printf("{\"load_us\": %.3f, \"create_us\": %.3f, \"idle_kib\": %ld, \"threads\": %d}\n", loaded - start,
           created - loaded, idle, (int)call_threads(handle));
#ifdef GPUS
    tell_gpu(options.device);
#endif
}

int main(int count, char **words) {
    char path[64], line[64];
    if (count != 2 || chdir(words[1]) != 0) {
        fail("usage", "driver FOLDER");
    }
    read_orders();
    load();
    if (orders.probe) {
        call_destroy(handle);
        return 0;
    }
    if (call_input_count() > 256 || call_output_count() > 256) {
        fail("tensors", "more than 256");
    }
    for (uint32_t i = 0; i < call_input_count(); i++) {
        void *block = room(INPUT_INFO(i)->bytes);
        snprintf(path, sizeof path, "input_%u.bin", (unsigned)i);
        whole_file(path, block, INPUT_INFO(i)->bytes, 0);
        inputs[i] = block;
    }
    for (uint32_t i = 0; i < call_output_count(); i++) {
        outputs[i] = room(OUTPUT_INFO(i)->bytes);
    }
#ifdef GPUS
    if (orders.device) {
        to_device();
    }
#endif
    if (orders.dump_count > 0) {
        dump_file = fopen("dump.bin", "wb");
        if (dump_file == NULL || call_observe(handle, copy_out, NULL) != 0) {
            fail("dump.bin", "cannot be written");
        }
    }
    printf("{\"first_us\": %.3f}\n", run_once());
    if (dump_file != NULL && (fclose(dump_file) != 0 || call_observe(handle, NULL, NULL) != 0)) {
        fail("dump.bin", "cannot be written");
    }
    for (int i = 1; i < orders.warmup; i++) {
        run_once();
    }
    if (orders.steps) {
        timed_steps(orders.runs);
    } else {
        tell_runs(orders.runs);
    }
    while (orders.serve && fgets(line, sizeof line, stdin) != NULL) {
        tell_runs(atoi(line));
    }
    printf("{\"peak_kib\": %ld}\n", peak_kib());
#ifdef GPUS
    if (orders.device) {
        from_device();
    }
#endif
    for (uint32_t i = 0; i < call_output_count(); i++) {
        snprintf(path, sizeof path, "output_%u.bin", (unsigned)i);
        whole_file(path, outputs[i], OUTPUT_INFO(i)->bytes, 1);
    }
    call_destroy(handle);
    return 0;
}
