/* Runs a package on device pointers of its own making, in streams of its own making, on each GPU it is told.
 *
 *   streams GOLDEN_FOLDER RUNS DEVICE...
 *
 * NAME is the package's, FLOATS has the digits of its float32 outputs.  All devices have their runs under way at once.  Exit status 0 where every float32
 * output is within 1e-3 of the golden one's largest value and others are equal; 77 where there is no such GPU.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include HEADER

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define MODEL(function) JOIN(NAME, function)
#define MOST 16

typedef struct {
    MODEL(handle) *handle;
    void *context, *stream;
    uint64_t inputs[MOST], outputs[MOST];
} place;

static void *driver;

static void *find(const char *symbol) {
    void *found = dlsym(driver, symbol);
    if (found == NULL) {
        fprintf(stderr, "no %s\n", symbol);
        exit(2);
    }
    return found;
}

#define CU(symbol, parameters, ...)                                        \
    do {                                                                   \
        int32_t (*function) parameters;                                    \
        *(void **)&function = find(#symbol);                               \
        const int32_t result = function(__VA_ARGS__);                      \
        if (result != 0) {                                                 \
            fprintf(stderr, "%s gives %d\n", #symbol, (int)result);        \
            exit(result == 100 || result == 101 ? 77 : 2);                 \
        }                                                                  \
    } while (0)

static void check(int status, const MODEL(handle) *handle, const char *what) {
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", what, MODEL(last_error)(handle));
        exit(2);
    }
}

static void *file(const char *folder, const char *role, unsigned number, size_t bytes) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s_%u.bin", folder, role, number);
    FILE *from = fopen(path, "rb");
    void *data = malloc(bytes + 1);
    if (from == NULL || data == NULL || fread(data, 1, bytes, from) != bytes) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    fclose(from);
    return data;
}

static void open_place(place *at, int32_t number, const char *folder) {
    int32_t device = 0;
    CU(cuDeviceGet, (int32_t *, int32_t), &device, number);
    CU(cuDevicePrimaryCtxRetain, (void **, int32_t), &at->context, device);
    CU(cuCtxPushCurrent_v2, (void *), at->context);
    CU(cuStreamCreate, (void **, uint32_t), &at->stream, 1);
    MODEL(options) options = MODEL(OPTIONS_INIT);
    options.device = number;
    check(MODEL(create)(&options, &at->handle), NULL, "create");
    for (unsigned i = 0; i < MODEL(input_count)(); i++) {
        const size_t bytes = MODEL(input_info)(i)->bytes;
        CU(cuMemAlloc_v2, (uint64_t *, size_t), &at->inputs[i], bytes);
        CU(cuMemcpyHtoDAsync_v2, (uint64_t, const void *, size_t, void *), at->inputs[i],
           file(folder, "input", i, bytes), bytes, at->stream);
    }
    for (unsigned i = 0; i < MODEL(output_count)(); i++) {
        CU(cuMemAlloc_v2, (uint64_t *, size_t), &at->outputs[i], MODEL(output_info)(i)->bytes);
    }
    CU(cuCtxPopCurrent_v2, (void **), &at->context);
}

static void start(place *at) {
    check(MODEL(run_async)(at->handle, (const void *const *)at->inputs, (void *const *)at->outputs, at->stream),
          at->handle, "run_async");
}

static int differs(const char *got, const char *want, size_t bytes, int is_float) {
    if (!is_float) {
        return memcmp(got, want, bytes) != 0;
    }
    float largest = 0, off = 0;
    for (size_t i = 0; i < bytes / 4; i++) {
        float a, b;
        memcpy(&a, got + 4 * i, 4);
        memcpy(&b, want + 4 * i, 4);
        largest = fmaxf(largest, fabsf(b));
        off = isnan(a) ? INFINITY : fmaxf(off, fabsf(a - b));
    }
    return off > 1e-3f * largest;
}

static int close_place(place *at, const char *folder) {
    int wrong = 0;
    CU(cuCtxPushCurrent_v2, (void *), at->context);
    for (unsigned i = 0; i < MODEL(output_count)(); i++) {
        const MODEL(tensor_info) *info = MODEL(output_info)(i);
        char *got = malloc(info->bytes + 1);
        CU(cuMemcpyDtoHAsync_v2, (void *, uint64_t, size_t, void *), got, at->outputs[i], info->bytes, at->stream);
        CU(cuStreamSynchronize, (void *), at->stream);
        const int is_float = strchr(FLOATS, '0' + (int)i) != NULL;
        if (differs(got, file(folder, "output", i, info->bytes), info->bytes, is_float)) {
            fprintf(stderr, "output %u is wrong\n", i);
            wrong = 1;
        }
        CU(cuMemFree_v2, (uint64_t), at->outputs[i]);
        free(got);
    }
    check(MODEL(synchronize)(at->handle), at->handle, "synchronize");
    for (unsigned i = 0; i < MODEL(input_count)(); i++) {
        CU(cuMemFree_v2, (uint64_t), at->inputs[i]);
    }
    check(MODEL(destroy)(at->handle), NULL, "destroy");
    CU(cuStreamDestroy_v2, (void *), at->stream);
    CU(cuCtxPopCurrent_v2, (void **), &at->context);
    return wrong;
}

int main(int count, char **words) {
    place places[MOST] = {0};
    int wrong = 0;
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver == NULL) {
        return 77;
    }
    CU(cuInit, (uint32_t), 0);
    const int devices = count - 3 < MOST ? count - 3 : MOST;
    for (int i = 0; i < devices; i++) {
        open_place(&places[i], atoi(words[3 + i]), words[1]);
    }
    for (int run = 0; run < atoi(words[2]); run++) {
        for (int i = 0; i < devices; i++) {
            start(&places[i]);
        }
    }
    for (int i = 0; i < devices; i++) {
        wrong |= close_place(&places[i], words[1]);
    }
    return wrong;
}
