/* Kernels with the conventions of TVM's code generator, for the packaging tests. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct { void *sync_handle; int32_t num_task; } group;
typedef int (*task)(int, group *, void *);

__attribute__((weak)) int (*__TVMBackendParallelLaunch)(task, void *, int);
__attribute__((weak)) int (*__TVMBackendParallelBarrier)(int, group *);
__attribute__((weak)) void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
__attribute__((weak)) int (*__TVMBackendFreeWorkspace)(int, int, void *);

#define COUNT 1000

typedef struct { const float *x, *w; float *y; } arguments;

/* y = x * w, by stripes as TVM splits a parallel loop */
static int scale_task(int id, group *env, void *data) {
    const arguments *a = data;
    int chunk = (COUNT + env->num_task - 1) / env->num_task;
    float *space = __TVMBackendAllocWorkspace(1, 0, 4 * COUNT, 2, 32);
    if (space == NULL) return -1;
    for (int i = id * chunk; i < (id + 1) * chunk && i < COUNT; i++) space[i] = a->x[i] * a->w[i];
    for (int i = id * chunk; i < (id + 1) * chunk && i < COUNT; i++) a->y[i] = space[i];
    return __TVMBackendFreeWorkspace(1, 0, space);
}

int32_t fused_scale(void *x, void *w, void *y) {
    arguments a = {x, w, y};
    return __TVMBackendParallelLaunch(scale_task, &a, 0);
}

/* y = tanh(x) + 1, through a workspace on the calling thread; named like a function of libm */
int32_t k_tanh(void *x, void *y) {
    float *space = __TVMBackendAllocWorkspace(1, 0, 4 * COUNT, 2, 32);
    if (space == NULL) return -1;
    for (int i = 0; i < COUNT; i++) space[i] = tanhf(((const float *)x)[i]);
    memcpy(y, space, 4 * COUNT);
    for (int i = 0; i < COUNT; i++) ((float *)y)[i] += 1.0f;
    return __TVMBackendFreeWorkspace(1, 0, space);
}

/* fails when the first element is negative */
int32_t k_check(void *x) {
    return ((const float *)x)[0] < 0.0f ? -7 : 0;
}
