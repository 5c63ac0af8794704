/* What an app without CUDA's own libraries needs beside runs: memory of the device, copies, streams; and the
 * functions that only pass on to the handle for the processor. */
#include "cuda.h"

void *dcc_cuda_stream(const dcc_cuda_handle *handle) {
    return handle == NULL ? NULL : (void *)handle->stream;
}

static dcc_status told(dcc_cuda_handle *handle, cu_result result, const char *symbol, const char *purpose) {
    const dcc_status status =
        result == CU_OK ? DCC_OK : dcc_device_fail(handle, handle->device, result, symbol, purpose);
    dcc_cuda_leave(handle);
    return status;
}

dcc_status dcc_cuda_stream_create(dcc_cuda_handle *handle, void **stream) {
    dcc_status status = dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    if (stream == NULL) {
        status = dcc_fail(handle->host, DCC_ERROR_ARGUMENT, "the place for the new stream is NULL");
        dcc_cuda_leave(handle);
        return status;
    }
    cu_stream made = NULL;
    const cu_result result = handle->device->driver->stream_create(&made, CU_STREAM_APART);
    *stream = result == CU_OK ? (void *)made : NULL;
    return told(handle, result, "cuStreamCreate", "for a new stream");
}

dcc_status dcc_cuda_stream_destroy(dcc_cuda_handle *handle, void *stream) {
    const dcc_status status = stream == NULL ? DCC_OK : dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK || stream == NULL) {
        return status;
    }
    if (handle->last_stream == stream) {
        handle->last_known = 0; /* another one may get its address */
    }
    return told(handle, handle->device->driver->stream_destroy(stream), "cuStreamDestroy_v2", "of a stream");
}

dcc_status dcc_cuda_stream_synchronize(dcc_cuda_handle *handle, void *stream) {
    dcc_status status = dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    const cu_result result = handle->device->driver->stream_synchronize(stream);
    status = result == CU_OK ? dcc_host_failure(handle)
                             : dcc_device_fail(handle, handle->device, result, "cuStreamSynchronize", "of a stream");
    dcc_cuda_leave(handle);
    return status;
}

dcc_status dcc_cuda_malloc(dcc_cuda_handle *handle, size_t bytes, void **memory) {
    dcc_status status = dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK) {
        return status;
    }
    if (memory == NULL) {
        status = dcc_fail(handle->host, DCC_ERROR_ARGUMENT, "the place for the memory's address is NULL");
    } else {
        cu_address made = 0;
        *memory = NULL;
        const cu_result result = bytes == 0 ? CU_OK : handle->device->driver->memory_alloc(&made, bytes);
        status = result == CU_OK ? DCC_OK
                                 : dcc_no_memory(handle, handle->device, result, "cuMemAlloc_v2", "of a buffer", bytes);
        *memory = result == CU_OK ? (void *)(uintptr_t)made : NULL;
    }
    dcc_cuda_leave(handle);
    return status;
}

dcc_status dcc_cuda_free(dcc_cuda_handle *handle, void *memory) {
    const dcc_status status = memory == NULL ? DCC_OK : dcc_cuda_enter(handle, __func__);
    if (status != DCC_OK || memory == NULL) {
        return status;
    }
    return told(handle, handle->device->driver->memory_free((cu_address)(uintptr_t)memory), "cuMemFree_v2",
                "of a buffer");
}

static dcc_status copy(dcc_cuda_handle *handle, void *destination, const void *source, size_t bytes, int to_device,
                       const char *function) {
    dcc_status status = dcc_cuda_enter(handle, function);
    if (status != DCC_OK) {
        return status;
    }
    const dcc_driver *driver = handle->device->driver;
    if (bytes > 0 && (destination == NULL || source == NULL)) {
        status = dcc_fail(handle->host, DCC_ERROR_ARGUMENT, "the %s of a copy is NULL",
                          destination == NULL ? "destination" : "source");
    }
    status = status == DCC_OK ? dcc_follow(handle, handle->stream) : status;
    if (status != DCC_OK || bytes == 0) {
        dcc_cuda_leave(handle);
        return status;
    }
    const char *symbol = to_device ? "cuMemcpyHtoDAsync_v2" : "cuMemcpyDtoHAsync_v2";
    cu_result result =
        to_device ? driver->copy_to_device_async((cu_address)(uintptr_t)destination, source, bytes, handle->stream)
                  : driver->copy_to_host_async(destination, (cu_address)(uintptr_t)source, bytes, handle->stream);
    if (result == CU_OK) {
        symbol = "cuStreamSynchronize";
        result = driver->stream_synchronize(handle->stream);
    }
    return told(handle, result, symbol, "in a copy");
}

dcc_status dcc_cuda_to_device(dcc_cuda_handle *handle, void *destination, const void *source, size_t bytes) {
    return copy(handle, destination, source, bytes, 1, __func__);
}

dcc_status dcc_cuda_to_host(dcc_cuda_handle *handle, void *destination, const void *source, size_t bytes) {
    return copy(handle, destination, source, bytes, 0, __func__);
}

/* ---- what the handle for the processor does ---- */

static dcc_handle *host_of(const dcc_cuda_handle *handle, const char *function) {
    (void)function;
    return handle != NULL && DCC_IS_ALIGNED(handle, dcc_cuda_handle)
                && dcc_is_handle((const dcc_handle *)(const void *)handle, function)
             ? handle->host
             : NULL;
}

dcc_status dcc_cuda_profile(dcc_cuda_handle *handle, dcc_step_time *times, uint32_t count) {
    return dcc_profile(host_of(handle, __func__), times, count);
}

dcc_status dcc_cuda_profile_reset(dcc_cuda_handle *handle) {
    return dcc_profile_reset(host_of(handle, __func__));
}

int32_t dcc_cuda_threads(const dcc_cuda_handle *handle) {
    return dcc_threads(host_of(handle, __func__));
}

const char *dcc_cuda_last_error(const dcc_cuda_handle *handle) {
    return dcc_last_error(host_of(handle, __func__));
}

uint32_t dcc_cuda_chip(const dcc_cuda_handle *handle) {
    return host_of(handle, __func__) == NULL ? UINT32_MAX : (uint32_t)(handle->chip - handle->model->chips);
}
