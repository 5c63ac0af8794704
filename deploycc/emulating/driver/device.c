/* Devices, contexts and the names of errors. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "emulated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_DEVICES 8
#define MEMORY_BYTES ((size_t)16 << 30)

struct CUctx_st {
    int32_t device;
    int32_t references;
};
static struct CUctx_st contexts[MOST_DEVICES];
static __thread struct { cu_context stack[16]; int depth; } current;

/* Shared memory of a block: CUDA C Programming Guide, table of technical specifications. */
static const emulated_chip chips[] = {{7, 0, 80, 98304},   {7, 2, 8, 98304},    {7, 5, 40, 65536},
                                      {8, 0, 108, 166912}, {8, 6, 84, 101376},  {8, 7, 16, 166912},
                                      {8, 9, 128, 101376}, {9, 0, 132, 232448}, {10, 0, 148, 232448},
                                      {12, 0, 170, 101376}};

const emulated_chip *emulated_arch(void) {
    const char *named = getenv("DEPLOYCC_EMULATED_ARCH");
    static emulated_chip other;
    const int number = named == NULL ? 90 : atoi(named + strcspn(named, "0123456789"));
    for (size_t i = 0; i < sizeof chips / sizeof chips[0]; i++) {
        if (10 * chips[i].major + chips[i].minor == number) {
            return &chips[i];
        }
    }
    other = (emulated_chip){number / 10, number % 10, 16, 49152};
    return &other;
}

int32_t emulated_devices(void) {
    const char *named = getenv("DEPLOYCC_EMULATED_DEVICES");
    const int count = named == NULL ? 1 : atoi(named);
    return count < 0 ? 0 : count > MOST_DEVICES ? MOST_DEVICES : count;
}

int32_t emulated_current_device(void) {
    return current.depth == 0 ? -1 : current.stack[current.depth - 1]->device;
}

EXPORT cu_result cuInit(uint32_t flags) {
    ENTER("cuInit", " %u", (unsigned)flags);
    return emulated_leave(emulated_devices() == 0 ? CU_NO_DEVICE : CU_OK);
}

EXPORT cu_result cuDriverGetVersion(int32_t *version) {
    ENTER("cuDriverGetVersion", "%s", "");
    *version = 12040;
    return emulated_leave(CU_OK);
}

typedef struct error_text {
    cu_result code;
    const char *name, *meaning;
} error_text;
static const error_text errors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static const error_text *text_of(cu_result error) {
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (errors[i].code == error) {
            return &errors[i];
        }
    }
    return NULL;
}

EXPORT cu_result cuGetErrorName(cu_result error, const char **text) {
    const error_text *found = text_of(error);
    *text = found == NULL ? NULL : found->name;
    return found == NULL ? CU_INVALID_VALUE : CU_OK;
}

EXPORT cu_result cuGetErrorString(cu_result error, const char **text) {
    const error_text *found = text_of(error);
    *text = found == NULL ? NULL : found->meaning;
    return found == NULL ? CU_INVALID_VALUE : CU_OK;
}

EXPORT cu_result cuDeviceGetCount(int32_t *count) {
    ENTER("cuDeviceGetCount", "%s", "");
    *count = emulated_devices();
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuDeviceGet(cu_device *device, int32_t ordinal) {
    ENTER("cuDeviceGet", " %d", (int)ordinal);
    if (ordinal < 0 || ordinal >= emulated_devices()) {
        return emulated_leave(CU_INVALID_DEVICE);
    }
    *device = ordinal;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuDeviceGetName(char *name, int32_t bytes, cu_device device) {
    ENTER("cuDeviceGetName", " %d", (int)device);
    const emulated_chip *chip = emulated_arch();
    (void)snprintf(name, (size_t)bytes, "Emulated GPU %d (sm_%d%d)", (int)device, (int)chip->major, (int)chip->minor);
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuDeviceTotalMem_v2(size_t *bytes, cu_device device) {
    ENTER("cuDeviceTotalMem_v2", " %d", (int)device);
    *bytes = MEMORY_BYTES;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuDeviceGetAttribute(int32_t *value, int32_t attribute, cu_device device) {
    ENTER("cuDeviceGetAttribute", " %d %d", (int)attribute, (int)device);
    const emulated_chip *chip = emulated_arch();
    switch (attribute) {
    case CU_DEVICE_MAJOR: *value = chip->major; break;
    case CU_DEVICE_MINOR: *value = chip->minor; break;
    case CU_DEVICE_PROCESSORS: *value = chip->processors; break;
    case CU_DEVICE_PAGEABLE_ACCESS: *value = 0; break;
    default: return emulated_leave(CU_INVALID_VALUE);
    }
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuDevicePrimaryCtxRetain(cu_context *context, cu_device device) {
    ENTER("cuDevicePrimaryCtxRetain", " %d", (int)device);
    if (device < 0 || device >= emulated_devices()) {
        return emulated_leave(CU_INVALID_DEVICE);
    }
    contexts[device].device = device;
    contexts[device].references++;
    emulated_live[LIVE_CONTEXTS]++;
    *context = &contexts[device];
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuDevicePrimaryCtxRelease_v2(cu_device device) {
    ENTER("cuDevicePrimaryCtxRelease_v2", " %d", (int)device);
    if (device < 0 || device >= MOST_DEVICES || contexts[device].references == 0) {
        return emulated_leave(CU_INVALID_CONTEXT);
    }
    contexts[device].references--;
    emulated_live[LIVE_CONTEXTS]--;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuCtxPushCurrent_v2(cu_context context) {
    ENTER("cuCtxPushCurrent_v2", "%s", "");
    if (context == NULL || context->references == 0 || current.depth == 16) {
        return emulated_leave(CU_INVALID_CONTEXT);
    }
    current.stack[current.depth++] = context;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuCtxPopCurrent_v2(cu_context *context) {
    ENTER("cuCtxPopCurrent_v2", "%s", "");
    if (current.depth == 0) {
        return emulated_leave(CU_INVALID_CONTEXT);
    }
    *context = current.stack[--current.depth];
    return emulated_leave(CU_OK);
}
