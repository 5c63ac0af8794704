/* `load LIBRARY TURNS` loads the package "tiny" and unloads it, so many times; then once with handles that are left.
 * Each time it must be gone, with its threads, and memory must not grow. */
#define _GNU_SOURCE
#include "tiny.h"

#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

#define COUNT 1000

static void *library;
static tiny_status (*create)(const tiny_options *, tiny_handle **);
static tiny_status (*run)(tiny_handle *, const void *const *, void *const *);
static tiny_status (*destroy)(tiny_handle *);

static void load(const char *path) {
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    *(void **)&create = dlsym(library, "tiny_create");
    *(void **)&run = dlsym(library, "tiny_run");
    *(void **)&destroy = dlsym(library, "tiny_destroy");
}

static int is_mapped(void) {
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        found |= strstr(line, "libtiny") != NULL || strstr(line, "libdeploycc_rt") != NULL;
    }
    fclose(maps);
    return found;
}

/* The kernel takes a thread off the list a moment after pthread_join has returned. */
static int is_alone(void) {
    for (int wait_ms = 0; wait_ms < 10000; wait_ms++) {
        int threads = -2;
        struct timespec pause = {0, 1000000};
        DIR *folder = opendir("/proc/self/task");
        CHECK(folder != NULL);
        while (readdir(folder) != NULL) {
            threads++;
        }
        closedir(folder);
        if (threads == 1) {
            return 1;
        }
        nanosleep(&pause, NULL);
    }
    return 0;
}

static tiny_handle *use(int threads) {
    static float x[COUNT], y[COUNT], copy[COUNT];
    const void *inputs[] = {x};
    void *outputs[] = {y, copy};
    tiny_options options = tiny_OPTIONS_INIT;
    tiny_handle *handle = NULL;
    options.threads = threads;
    x[1] = (float)threads;
    CHECK(create(&options, &handle) == tiny_OK && run(handle, inputs, outputs) == tiny_OK);
    CHECK(copy[1] == (float)threads);
    options.threads = -1;
    tiny_handle *none;
    CHECK(create(&options, &none) == tiny_ERROR_ARGUMENT); /* a text of this thread's is noted, and goes */
    return handle;
}

int main(int argc, char **argv) {
    const int turns = argc > 2 ? atoi(argv[2]) : 1;
    size_t settled = 0;
    for (int turn = 0; turn < turns; turn++) {
        load(argv[1]);
        CHECK(destroy(use(1 + turn % 3)) == tiny_OK);
        CHECK(dlclose(library) == 0 && !is_mapped() && is_alone());
        settled = turn == turns / 2 ? mallinfo2().uordblks : settled;
    }
    /* less than a block a turn: what the C library keeps for itself comes and goes */
    CHECK(turns < 100 || mallinfo2().uordblks < settled + 16 * (size_t)(turns / 2));
    /* An app that forgot: threads end with the library, the handles' memory is lost. */
    for (int turn = 0; turn < 3; turn++) {
        load(argv[1]);
        (void)use(1), (void)use(2), (void)use(3);
        CHECK(dlclose(library) == 0 && !is_mapped() && is_alone());
    }
    /* and at the end of the process, here with a worker that spins */
    load(argv[1]);
    (void)use(2);
    return 0;
}
