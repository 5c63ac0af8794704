/* Loads every library given on the command line into this process, all of them packages of "tiny", and runs
 * each one, on the main thread and on one of its own. */
#include "tiny.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                           \
    do {                                                                           \
        if (!(condition)) {                                                        \
            fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, dlerror());      \
            exit(1);                                                               \
        }                                                                          \
    } while (0)

#define COUNT 1000

static float x[COUNT];

typedef struct network {
    void *library;
    tiny_handle *handle;
} network;

static void *run(void *argument) {
    network *n = argument;
    float y[COUNT], copy[COUNT];
    const void *inputs[] = {x};
    void *outputs[] = {y, copy};
    tiny_status (*run_network)(tiny_handle *, const void *const *, void *const *);
    *(void **)&run_network = dlsym(n->library, "tiny_run");
    CHECK(run_network != NULL);
    CHECK(run_network(n->handle, inputs, outputs) == tiny_OK);
    for (int i = 0; i < COUNT; i++) {
        double weight = -0.5 + 1.0 * i / (COUNT - 1);
        CHECK(fabs(y[i] - (tanh((double)x[i] * weight) + 1.0)) < 1e-5 && copy[i] == x[i]);
    }
    return NULL;
}

int main(int argc, char **argv) {
    network *networks = calloc((size_t)argc, sizeof *networks);
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)i / 100.0f;
    }
    for (int i = 1; i < argc; i++) {
        tiny_options options = tiny_OPTIONS_INIT;
        tiny_status (*create)(const tiny_options *, tiny_handle **);
        options.threads = 2;
        networks[i].library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        CHECK(networks[i].library != NULL);
        *(void **)&create = dlsym(networks[i].library, "tiny_create");
        CHECK(create(&options, &networks[i].handle) == tiny_OK);
    }
    for (int i = 1; i < argc; i++) {
        pthread_t thread;
        run(&networks[i]);
        CHECK(pthread_create(&thread, NULL, run, &networks[i]) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    for (int i = 1; i < argc; i++) {
        tiny_status (*destroy)(tiny_handle *);
        *(void **)&destroy = dlsym(networks[i].library, "tiny_destroy");
        CHECK(destroy(networks[i].handle) == tiny_OK);
    }
    return 0;
}
