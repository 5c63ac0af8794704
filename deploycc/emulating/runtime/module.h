/* What a translated module has for whoever launches its kernels: the emulated driver, or Python over ctypes. */
#ifndef DCC_EMULATED_MODULE_H
#define DCC_EMULATED_MODULE_H

#include <stdint.h>

typedef struct dcc_emulated_kernel {
    const char *name;
    uint32_t parameter_count;
    const uint32_t *parameter_offsets; /* in the parameter block, and their sizes */
    const uint32_t *parameter_sizes;
    uint32_t parameter_bytes;
    uint32_t static_shared_bytes;
    uint32_t max_threads; /* .maxntid product, 0 if not told */
    /* Runs the whole grid; 0, or not 0 with a text in `error` (256 bytes). */
    int32_t (*run)(const uint32_t grid[3], const uint32_t block[3], uint32_t dynamic_shared_bytes,
                   const void *parameters, char *error);
} dcc_emulated_kernel;

typedef struct dcc_emulated_module {
    uint32_t abi; /* 1 */
    uint32_t kernel_count;
    const dcc_emulated_kernel *kernels;
} dcc_emulated_module;

#endif
