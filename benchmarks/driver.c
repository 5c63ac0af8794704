/* Loads one package's library, runs it and says what that took.
 *
 * Compiled for one package: -DNAME=NAME, -DHEADER='"NAME.h"', and for a static package -DLINKED
 * with the archive on the command line (LIBRARY is then ignored).
 *
 *   driver LIBRARY INPUTS OUTPUTS THREADS WARMUP RUNS
 *
 * INPUTS holds all input tensors one after another, raw; OUTPUTS gets all outputs of the last run.
 * With -DMARK=NUMBER an emulator that counts (deploycc/tuning/instructions.c) is told when the first run and
 * the last one are over.  Prints one JSON object: load_us (dlopen and symbols), create_us, run_us (one per run),
 * peak_kib and idle_kib (largest resident set at the end and before the library was loaded).
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#ifndef LINKED
#include <dlfcn.h>
#endif
#ifdef MARK
#include <unistd.h>
#endif
#include HEADER

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define TEXT2(a) #a
#define TEXT(a) TEXT2(a)
#define MODEL(function) JOIN(NAME, function)

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* The kernel's own high-water mark: getrusage's starts from the process that was there before exec. */
static long peak_kib(void) {
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    if (status == NULL) return kib;
    while (fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    }
    fclose(status);
    return kib;
}

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void *room(size_t bytes) {
    void *block = NULL;
    if (posix_memalign(&block, 64, bytes ? bytes : 64) != 0) fail("memory", "no room for a tensor");
    return block;
}

#ifdef LINKED
#define BIND(function) __typeof__(&MODEL(function)) const function = &MODEL(function)
#else
static void *find(void *library, const char *symbol) {
    void *address = dlsym(library, symbol);
    if (address == NULL) fail(symbol, dlerror());
    return address;
}
#define BIND(function) \
    __typeof__(&MODEL(function)) function; \
    *(void **)&function = find(library, TEXT(NAME) "_" #function)
#endif

int main(int count, char **words) {
    if (count != 7) fail("usage", "driver LIBRARY INPUTS OUTPUTS THREADS WARMUP RUNS");
    const long idle = peak_kib();
    const double start = now_us();
#ifndef LINKED
    void *library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fail(words[1], dlerror());
#endif
    BIND(create);
    BIND(destroy);
    BIND(run);
    BIND(input_count);
    BIND(output_count);
    BIND(input_info);
    BIND(output_info);
    BIND(last_error);
    const double loaded = now_us();
    MODEL(options) options = MODEL(OPTIONS_INIT);
    options.threads = atoi(words[4]);
    MODEL(handle) *handle = NULL;
    if (create(&options, &handle) != 0) fail("create", last_error(NULL));
    const double created = now_us();

    FILE *file = fopen(words[2], "rb");
    if (file == NULL) fail(words[2], "cannot be opened");
    const void *inputs[64];
    void *outputs[64];
    if (input_count() > 64 || output_count() > 64) fail("tensors", "more than 64");
    for (uint32_t i = 0; i < input_count(); ++i) {
        const size_t bytes = input_info(i)->bytes;
        void *block = room(bytes);
        if (fread(block, 1, bytes, file) != bytes) fail(words[2], "cut off");
        inputs[i] = block;
    }
    fclose(file);
    for (uint32_t i = 0; i < output_count(); ++i) outputs[i] = room(output_info(i)->bytes);

    const int warmup = atoi(words[5]), runs = atoi(words[6]);
    printf("{\"load_us\": %.3f, \"create_us\": %.3f, \"run_us\": [", loaded - start, created - loaded);
    for (int i = -warmup; i < runs; ++i) {
        const double before = now_us();
        if (run(handle, inputs, outputs) != 0) fail("run", last_error(handle));
        if (i >= 0) printf("%s%.3f", i ? ", " : "", now_us() - before);
#ifdef MARK
        if (i == 0 || i == runs - 1) close(MARK);
#endif
    }
    printf("], \"idle_kib\": %ld, \"peak_kib\": %ld}\n", idle, peak_kib());

    file = fopen(words[3], "wb");
    if (file == NULL) fail(words[3], "cannot be written");
    for (uint32_t i = 0; i < output_count(); ++i) {
        const size_t bytes = output_info(i)->bytes;
        if (fwrite(outputs[i], 1, bytes, file) != bytes) fail(words[3], "cannot be written");
    }
    if (fclose(file) != 0) fail(words[3], "cannot be written");
    destroy(handle);
    return 0;
}
