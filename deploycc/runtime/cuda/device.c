/* GPUs: which there are, what of a package one runs, and what all handles of a library share on it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cuda.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_BYTES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static dcc_cuda_device *devices;

const char *dcc_cuda_status_text(int32_t status) {
    switch (status) {
    case DCC_ERROR_NO_DRIVER: return "no usable NVIDIA driver";
    case DCC_ERROR_NO_DEVICE: return "no such GPU";
    case DCC_ERROR_NO_KERNELS: return "the library has no code for this GPU";
    case DCC_ERROR_DEVICE: return "a call of the GPU's driver failed";
    default: return dcc_status_text(status);
    }
}

/* ---- errors ---- */

static dcc_status tell(dcc_cuda_handle *handle, int32_t status, const char *text) {
    return dcc_fail(handle == NULL ? NULL : handle->host, (dcc_status)status, "%s", text);
}

static void name_error(const dcc_driver *driver, cu_result result, const char **name, const char **meaning) {
    *name = NULL, *meaning = NULL;
    (void)driver->error_name(result, name);
    (void)driver->error_string(result, meaning);
    *name = *name == NULL ? "unknown error" : *name;
    *meaning = *meaning == NULL ? "no text" : *meaning;
}

static dcc_status fail_with(const dcc_driver *driver, dcc_cuda_handle *handle, dcc_cuda_device *device,
                            cu_result result, const char *symbol, const char *purpose) {
    const char *name, *meaning;
    name_error(driver, result, &name, &meaning);
    const int sticky = dcc_is_sticky(result);
    if (device != NULL && sticky) {
        int32_t none = 0;
        (void)atomic_compare_exchange_strong(&device->lost, &none, result);
    }
    char text[DCC_ERROR_BYTES];
    (void)snprintf(text, sizeof text, "%s: %s (%.90s) %s%s", symbol, name, meaning, purpose,
                   sticky ? "; the process cannot use this GPU any longer" : "");
    return tell(handle, DCC_ERROR_DEVICE, text);
}

dcc_status dcc_device_fail(dcc_cuda_handle *handle, dcc_cuda_device *device, cu_result result, const char *symbol,
                           const char *purpose) {
    return fail_with(device->driver, handle, device, result, symbol, purpose);
}

dcc_status dcc_device_lost(dcc_cuda_handle *handle, const dcc_cuda_device *device) {
    const char *name, *meaning;
    name_error(device->driver, atomic_load(&device->lost), &name, &meaning);
    return dcc_fail(handle == NULL ? NULL : handle->host, (dcc_status)DCC_ERROR_DEVICE,
                    "an earlier error cost this process the GPU: %s (%.90s)", name, meaning);
}

dcc_status dcc_no_memory(dcc_cuda_handle *handle, dcc_cuda_device *device, cu_result result, const char *symbol,
                         const char *purpose, uint64_t bytes) {
    if (result != CU_OUT_OF_MEMORY) {
        return dcc_device_fail(handle, device, result, symbol, purpose);
    }
    size_t free_bytes = 0, total_bytes = 0;
    (void)device->driver->memory_info(&free_bytes, &total_bytes);
    char wanted[40] = "";
    if (bytes > 0) {
        (void)snprintf(wanted, sizeof wanted, "for %llu bytes ", (unsigned long long)bytes);
    }
    return dcc_fail(handle == NULL ? NULL : handle->host, DCC_ERROR_MEMORY,
                    "%s: no memory %s%s: GPU %d has %zu of %zu bytes free", symbol, wanted, purpose,
                    (int)device->ordinal, free_bytes, total_bytes);
}

/* ---- what there is ---- */

static const dcc_driver *load(dcc_status *status) {
    char text[DCC_ERROR_BYTES] = "";
    int32_t code = 0;
    const dcc_driver *driver = dcc_driver_load(&code, text, sizeof text);
    *status = driver == NULL ? tell(NULL, code, text) : DCC_OK;
    return driver;
}

dcc_status dcc_cuda_device_count(int32_t *count) {
    dcc_status status;
    dcc_forget_thread_error();
    if (count == NULL) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "the place for the number of GPUs is NULL");
    }
    *count = 0;
    const dcc_driver *driver = load(&status);
    if (driver == NULL) {
        return status == (dcc_status)DCC_ERROR_NO_DEVICE ? DCC_OK : status;
    }
    const cu_result result = driver->device_count(count);
    return result == CU_OK ? DCC_OK : fail_with(driver, NULL, NULL, result, "cuDeviceGetCount", "when counting GPUs");
}

typedef struct facts {
    cu_device device;
    int32_t major, minor, processors, pageable;
} facts;

static dcc_status look_at(const dcc_driver *driver, int32_t ordinal, facts *found) {
    int32_t count = 0;
    cu_result result = driver->device_count(&count);
    if (result != CU_OK) {
        return fail_with(driver, NULL, NULL, result, "cuDeviceGetCount", "when counting GPUs");
    }
    if (ordinal < 0 || ordinal >= count) {
        return dcc_fail(NULL, (dcc_status)DCC_ERROR_NO_DEVICE, "there is no GPU %d: the driver has %d", (int)ordinal,
                        (int)count);
    }
    result = driver->device_get(&found->device, ordinal);
    if (result != CU_OK) {
        return fail_with(driver, NULL, NULL, result, "cuDeviceGet", "when looking at a GPU");
    }
    const struct { int32_t attribute; int32_t *value; } wanted[] = {{CU_DEVICE_MAJOR, &found->major},
                                                                   {CU_DEVICE_MINOR, &found->minor},
                                                                   {CU_DEVICE_PROCESSORS, &found->processors},
                                                                   {CU_DEVICE_PAGEABLE_ACCESS, &found->pageable}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        result = driver->device_attribute(wanted[i].value, wanted[i].attribute, found->device);
        if (result != CU_OK) {
            return fail_with(driver, NULL, NULL, result, "cuDeviceGetAttribute", "when looking at a GPU");
        }
    }
    return DCC_OK;
}

/* How well an image fits, 0 for not at all.  Machine code runs on chips of its major number from its minor one on,
 * text on any later chip, and either on one chip alone where it was made so; machine code is ready. */
static int32_t fitness(const dcc_image *image, const facts *gpu) {
    const int32_t arch = 100 * image->major + image->minor, mine = 100 * gpu->major + gpu->minor;
    if (arch > mine || (image->is_exact && arch != mine) || (image->is_cubin && image->major != gpu->major)) {
        return 0;
    }
    return 1 + arch + (image->is_cubin ? 1000000 : 0);
}

typedef struct candidate {
    const dcc_chip *chip;
    const dcc_image *image;
    int32_t fitness;
} candidate;

/* The best of those that are worse than `above`, or behind it and as good; its fitness is 0 if there is none. */
static candidate next_best(const dcc_cuda_model *model, const facts *gpu, candidate above) {
    candidate best = {NULL, NULL, 0};
    int behind = above.image == NULL;
    for (uint32_t c = 0; c < model->chip_count; c++) {
        for (uint32_t i = 0; i < model->chips[c].image_count; i++) {
            const dcc_image *image = &model->chips[c].images[i];
            const int32_t fits = fitness(image, gpu);
            const int allowed = above.image == NULL || fits < above.fitness || (fits == above.fitness && behind);
            if (allowed && fits > best.fitness) {
                best = (candidate){&model->chips[c], image, fits};
            }
            behind = behind || image == above.image;
        }
    }
    return best;
}

static const candidate NOTHING = {NULL, NULL, 0};

/* The chip of a network that only moves bytes or runs on the processor: any GPU does.  NULL for others. */
static const dcc_chip *chip_without_code(const dcc_cuda_model *model) {
    return model->chip_count > 0 && model->chips[0].function_count == 0 ? &model->chips[0] : NULL;
}

dcc_status dcc_cuda_device_info(const dcc_cuda_model *model, int32_t ordinal, dcc_gpu *gpu) {
    dcc_status status;
    facts found;
    dcc_forget_thread_error();
    if (gpu == NULL) {
        return dcc_fail(NULL, DCC_ERROR_ARGUMENT, "the place for what a GPU is like is NULL");
    }
    memset(gpu, 0, sizeof *gpu);
    const dcc_driver *driver = load(&status);
    if (driver == NULL) {
        return status;
    }
    status = look_at(driver, ordinal, &found);
    if (status != DCC_OK) {
        return status;
    }
    size_t bytes = 0;
    cu_result result = driver->device_name(gpu->name, (int32_t)sizeof gpu->name, found.device);
    if (result != CU_OK) {
        return fail_with(driver, NULL, NULL, result, "cuDeviceGetName", "when looking at a GPU");
    }
    result = driver->device_memory(&bytes, found.device);
    if (result != CU_OK) {
        return fail_with(driver, NULL, NULL, result, "cuDeviceTotalMem_v2", "when looking at a GPU");
    }
    const candidate best = next_best(model, &found, NOTHING);
    if (best.image != NULL || chip_without_code(model) != NULL) {
        (void)snprintf(gpu->kernels, sizeof gpu->kernels, "%s", best.image == NULL ? "none needed" : best.image->name);
    }
    gpu->major = found.major;
    gpu->minor = found.minor;
    gpu->processors = found.processors;
    gpu->memory_bytes = bytes;
    return DCC_OK;
}

/* ---- a device in use ---- */

cu_result dcc_device_enter(const dcc_cuda_device *device) {
    return device->driver->context_push(device->context);
}

void dcc_device_leave(const dcc_cuda_device *device) {
    cu_context mine;
    (void)device->driver->context_pop(&mine);
}

static dcc_status not_covered(const dcc_cuda_model *model, const facts *gpu, int32_t ordinal) {
    char has[120] = "";
    size_t used = 0;
    for (uint32_t c = 0; c < model->chip_count; c++) {
        for (uint32_t i = 0; i < model->chips[c].image_count && used < sizeof has; i++) {
            const int more = snprintf(has + used, sizeof has - used, "%s%s", used == 0 ? "" : ", ",
                                      model->chips[c].images[i].name);
            used += more > 0 ? (size_t)more : 0;
        }
    }
    return dcc_fail(NULL, (dcc_status)DCC_ERROR_NO_KERNELS, "GPU %d is of sm_%d%d, and the library has only %s",
                    (int)ordinal, (int)gpu->major, (int)gpu->minor, has);
}

/* Machine code that the driver does not take after all, or text newer than it knows: another image may do. */
static int may_try_another(cu_result result) {
    return result == CU_NO_BINARY_FOR_GPU || result == CU_INVALID_IMAGE || result == CU_INVALID_PTX
        || result == CU_UNSUPPORTED_PTX_VERSION || result == CU_NOT_SUPPORTED;
}

static dcc_status load_code(const dcc_cuda_model *model, const facts *gpu, dcc_cuda_device *device) {
    const dcc_driver *driver = device->driver;
    device->chip = chip_without_code(model);
    if (device->chip != NULL) {
        return DCC_OK;
    }
    candidate now = next_best(model, gpu, NOTHING);
    if (now.image == NULL) {
        return not_covered(model, gpu, device->ordinal);
    }
    char *log = calloc(1, LOG_BYTES);
    if (log == NULL) {
        return dcc_fail(NULL, DCC_ERROR_MEMORY, "no memory for the driver's messages");
    }
    cu_result result = CU_OK;
    for (candidate tried = now; tried.image != NULL; tried = next_best(model, gpu, tried)) {
        int32_t options[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
        void *values[] = {log, (void *)(uintptr_t)LOG_BYTES};
        now = tried;
        log[0] = '\0';
        result = driver->module_load(&device->module, now.image->code, 2, options, values);
        if (result == CU_OK || !may_try_another(result)) {
            break;
        }
    }
    dcc_status status = DCC_OK;
    if (result != CU_OK) {
        char purpose[100];
        log[strcspn(log, "\n")] = '\0';
        (void)snprintf(purpose, sizeof purpose, "when loading the %s code%s%.50s", now.image->name,
                       log[0] == '\0' ? "" : ": ", log);
        device->module = NULL;
        status = dcc_device_fail(NULL, device, result, "cuModuleLoadDataEx", purpose);
    }
    free(log);
    device->chip = now.chip;
    device->image = now.image;
    return status;
}

static dcc_status find_functions(dcc_cuda_device *device) {
    const dcc_chip *chip = device->chip;
    device->functions = calloc(chip->function_count == 0 ? 1 : chip->function_count, sizeof *device->functions);
    uint32_t *shared = calloc(chip->function_count == 0 ? 1 : chip->function_count, sizeof *shared);
    dcc_status status = DCC_OK;
    if (device->functions == NULL || shared == NULL) {
        status = dcc_fail(NULL, DCC_ERROR_MEMORY, "no memory for a table of %u kernels", (unsigned)chip->function_count);
    }
    for (uint32_t s = 0; status == DCC_OK && s < chip->host->step_count; s++) {
        for (uint32_t i = 0; i < chip->steps[s].launch_count; i++) {
            const dcc_launch *launch = &chip->steps[s].launches[i];
            shared[launch->function] =
                launch->shared_bytes > shared[launch->function] ? launch->shared_bytes : shared[launch->function];
        }
    }
    for (uint32_t i = 0; status == DCC_OK && i < chip->function_count; i++) {
        char purpose[100];
        (void)snprintf(purpose, sizeof purpose, "for the kernel %.80s", chip->functions[i]);
        cu_result result = device->driver->module_function(&device->functions[i], device->module, chip->functions[i]);
        if (result != CU_OK) {
            status = dcc_device_fail(NULL, device, result, "cuModuleGetFunction", purpose);
        } else if (shared[i] > 0) {
            result = device->driver->function_set(device->functions[i], CU_FUNCTION_MAX_DYNAMIC_SHARED,
                                                  (int32_t)shared[i]);
            status = result == CU_OK ? DCC_OK : dcc_device_fail(NULL, device, result, "cuFuncSetAttribute", purpose);
        }
    }
    free(shared);
    return status;
}

static dcc_status upload_weights(const dcc_cuda_model *model, dcc_cuda_device *device) {
    const uint64_t start = device->chip->weights_start, bytes = device->chip->weights_end - start;
    if (bytes == 0) {
        return DCC_OK;
    }
    cu_result result = device->driver->memory_alloc(&device->weights_memory, (size_t)bytes);
    if (result != CU_OK) {
        device->weights_memory = 0;
        return dcc_no_memory(NULL, device, result, "cuMemAlloc_v2", "of weights", bytes);
    }
    device->weights = device->weights_memory - start;
    /* A copy that is called synchronous may return before the last of it is there. */
    const char *symbol = "cuMemcpyHtoDAsync_v2";
    result = device->driver->copy_to_device_async(device->weights_memory, model->weights + start, (size_t)bytes, NULL);
    if (result == CU_OK) {
        symbol = "cuStreamSynchronize";
        result = device->driver->stream_synchronize(NULL);
    }
    return result == CU_OK ? DCC_OK : dcc_device_fail(NULL, device, result, symbol, "when the weights were copied");
}

/* Gives back what there is of it; the context is entered. */
static void empty(dcc_cuda_device *device) {
    if (device->weights_memory != 0) {
        (void)device->driver->memory_free(device->weights_memory);
    }
    if (device->module != NULL) {
        (void)device->driver->module_unload(device->module);
    }
    free(device->functions);
}

static dcc_status fill(const dcc_cuda_model *model, dcc_cuda_device *device) {
    facts gpu;
    dcc_status status = look_at(device->driver, device->ordinal, &gpu);
    if (status != DCC_OK) {
        return status;
    }
    if (next_best(model, &gpu, NOTHING).image == NULL && chip_without_code(model) == NULL) {
        return not_covered(model, &gpu, device->ordinal);
    }
    device->device = gpu.device;
    device->pageable = gpu.pageable;
    cu_result result = device->driver->context_retain(&device->context, gpu.device);
    if (result != CU_OK) {
        return dcc_no_memory(NULL, device, result, "cuDevicePrimaryCtxRetain", "of the GPU's context", 0);
    }
    result = dcc_device_enter(device);
    if (result != CU_OK) {
        status = dcc_device_fail(NULL, device, result, "cuCtxPushCurrent_v2", "when the GPU was to be used");
    } else {
        status = load_code(model, &gpu, device);
        status = status == DCC_OK ? find_functions(device) : status;
        status = status == DCC_OK ? upload_weights(model, device) : status;
        if (status != DCC_OK) {
            empty(device);
        }
        dcc_device_leave(device);
    }
    if (status != DCC_OK) {
        (void)device->driver->context_release(device->device);
    }
    return status;
}

dcc_cuda_device *dcc_device_acquire(const dcc_cuda_model *model, int32_t ordinal, dcc_status *status) {
    const dcc_driver *driver = load(status);
    if (driver == NULL) {
        return NULL;
    }
    (void)pthread_mutex_lock(&lock);
    dcc_cuda_device *device = devices;
    while (device != NULL && device->ordinal != ordinal) {
        device = device->next;
    }
    if (device != NULL && atomic_load(&device->lost) != 0) {
        *status = dcc_device_lost(NULL, device);
        device = NULL;
    } else if (device != NULL) {
        device->references++;
    } else {
        device = calloc(1, sizeof *device);
        if (device == NULL) {
            *status = dcc_fail(NULL, DCC_ERROR_MEMORY, "no memory to note a GPU");
        } else {
            device->driver = driver;
            device->ordinal = ordinal;
            device->references = 1;
            *status = fill(model, device);
            if (*status != DCC_OK) {
                free(device);
                device = NULL;
            } else {
                device->next = devices;
                devices = device;
            }
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return device;
}

void dcc_device_release(dcc_cuda_device *device) {
    (void)pthread_mutex_lock(&lock);
    if (--device->references == 0) {
        dcc_cuda_device **link = &devices;
        while (*link != device) {
            link = &(*link)->next;
        }
        *link = device->next;
        const int entered = dcc_device_enter(device) == CU_OK;
        empty(device);
        if (entered) {
            dcc_device_leave(device);
        }
        (void)device->driver->context_release(device->device);
        free(device);
    }
    (void)pthread_mutex_unlock(&lock);
}
