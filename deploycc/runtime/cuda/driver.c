/* libcuda.so.1: found when it is first needed, so that a package loads where there is no driver. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_cuda.h"

#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libcuda.so.1"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static dcc_driver driver;
static int loaded; /* all functions are in `driver`, and it is initialised */
/* Process id of whoever first asked the driver for anything; set before the lock is taken, so that a child that
 * was forked meanwhile never waits for it. */
static _Atomic int32_t owner;

int dcc_driver_forked(void) {
    const int32_t first = atomic_load(&owner);
    return first != 0 && first != (int32_t)getpid();
}

int dcc_is_sticky(cu_result result) {
    return result == CU_ILLEGAL_ADDRESS || result == CU_LAUNCH_TIMEOUT || result == CU_ASSERT
        || (result >= CU_HARDWARE_STACK_ERROR && result <= CU_LAUNCH_FAILED);
}

/* The first function that is missing, NULL for none. */
static const char *bind_functions(void *library) {
    const char *missing = NULL;
#define BIND(member, symbol, parameters)                             \
    *(void **)(void *)&driver.member = dlsym(library, #symbol);      \
    missing = missing == NULL && driver.member == NULL ? #symbol : missing;
    CU_GRAPH_FUNCTIONS(BIND)
    driver.graphs = missing == NULL;
    missing = NULL;
    CU_FUNCTIONS(BIND)
    return missing;
}

static int32_t initialise(char *text, size_t bytes) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();
        (void)snprintf(text, bytes, "the NVIDIA driver is not installed here: %.180s", why == NULL ? LIBRARY : why);
        return DCC_ERROR_NO_DRIVER;
    }
    const char *missing = bind_functions(library);
    if (missing != NULL) {
        (void)snprintf(text, bytes, "the NVIDIA driver is too old: its " LIBRARY " has no %s", missing);
        (void)dlclose(library);
        return DCC_ERROR_NO_DRIVER;
    }
    const cu_result result = driver.init(0);
    if (result == CU_OK) {
        return 0;
    }
    const char *name = NULL, *meaning = NULL;
    (void)driver.error_name(result, &name);
    (void)driver.error_string(result, &meaning);
    (void)snprintf(text, bytes, "cuInit: %s (%s)", name == NULL ? "unknown error" : name,
                   meaning == NULL ? "no text" : meaning);
    (void)dlclose(library);
    return result == CU_NO_DEVICE ? DCC_ERROR_NO_DEVICE : DCC_ERROR_NO_DRIVER;
}

const dcc_driver *dcc_driver_load(int32_t *status, char *text, size_t bytes) {
    int32_t nobody = 0;
    (void)atomic_compare_exchange_strong(&owner, &nobody, (int32_t)getpid());
    if (dcc_driver_forked()) {
        (void)snprintf(text, bytes, "this process was forked from one that had used the GPU: a forked child cannot "
                                    "use it, fork before the first create or start a new program");
        *status = DCC_ERROR_DEVICE;
        return NULL;
    }
    (void)pthread_mutex_lock(&lock);
    *status = loaded ? 0 : initialise(text, bytes);
    loaded = *status == 0;
    (void)pthread_mutex_unlock(&lock);
    if (*status == DCC_ERROR_NO_DRIVER) {
        atomic_store(&owner, 0); /* there is nothing that a child could not use */
    }
    return *status == 0 ? &driver : NULL;
}
