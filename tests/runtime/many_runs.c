/* `many_runs RUNS THREADS` of the package `tiny`: what memory they take.  Prints a line of figures; exits 1 when a run
 * allocates, when blocks are left, or when memory that is resident has grown since the first hundredth. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "faulty.h"
#include "tiny.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNT 1000
#define STACKS_KB 64 /* pages of workers' stacks that are touched for the first time */

/* Counted page by page: the sums in /proc/self/status are kept for each processor and lag behind. */
static long resident_kb(void) {
    static char text[4096];
    int file = open("/proc/self/smaps_rollup", O_RDONLY);
    ssize_t got = file < 0 ? -1 : read(file, text, sizeof text - 1);
    const char *line = got < 0 ? NULL : strstr(text, "\nRss:");
    (void)close(file);
    return line == NULL ? -1 : strtol(line + 5, NULL, 10);
}

int main(int argc, char **argv) {
    static float x[COUNT], y[COUNT], copy[COUNT];
    const void *in[] = {x};
    void *out[] = {y, copy};
    const long runs = argc > 1 ? atol(argv[1]) : 1000000;
    tiny_options options = tiny_OPTIONS_INIT;
    options.threads = argc > 2 ? atoi(argv[2]) : 1;
    tiny_handle *handle;
    const int blocks = live;
    if (tiny_create(&options, &handle) != tiny_OK) {
        return 2;
    }
    long first_kb = resident_kb(); /* once before, for the pages that it takes itself */
    size_t first_bytes = 0;
    int first_calls = 0;
    for (long i = 0; i < runs; i++) {
        if (i == runs / 100) {
            first_kb = resident_kb();
            first_bytes = mallinfo2().uordblks;
            first_calls = calls;
        }
        x[0] = (float)(i % 1000);
        if (tiny_run(handle, in, out) != tiny_OK || copy[0] != x[0]) {
            return 2;
        }
    }
    const size_t last_bytes = mallinfo2().uordblks;
    const int last_calls = calls;
    const long last_kb = resident_kb();
    if (tiny_destroy(handle) != tiny_OK) {
        return 2;
    }
    printf("%ld runs, %d threads: %d allocations, heap %zu to %zu bytes, resident %ld to %ld KiB, %d blocks left\n",
           runs, (int)options.threads, last_calls - first_calls, first_bytes, last_bytes, first_kb, last_kb,
           live - blocks);
    return last_calls != first_calls || last_bytes != first_bytes || last_kb > first_kb + STACKS_KB || first_kb < 0 || live != blocks;
}
