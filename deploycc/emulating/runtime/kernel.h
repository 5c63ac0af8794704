/* What surrounds the translated body of a kernel. */
#ifndef DCC_KERNEL_H
#define DCC_KERNEL_H

#include "emulated.h"
#include "races.h"

#if DCC_CHECKS
#define DCC_UNSET(array) memset(array, 0xff, sizeof array)
#define DCC_COPY(to, from, bytes, read, line) dcc_copy_later(B, T, to, from, bytes, read, line)
#else
#define DCC_UNSET(array) ((void)0)
#define DCC_COPY(to, from, bytes, read, line)                                                            \
    do {                                                                                            \
        memcpy(to, (const void *)(uintptr_t)(from), (read) < (bytes) ? (read) : (bytes));           \
        if ((read) < (bytes)) memset(to + (read), 0, (bytes) - (read));                             \
    } while (0)
#endif

#define DCC_BEGIN                                                                                  \
    uint8_t *const S = B->shared;                                                                   \
    const uint8_t *const P = B->parameters;                                                         \
    int (*const check)(const void *, uint64_t) = dcc_emulated_check;                                \
    uint32_t steps = 0;                                                                             \
    (void)steps, (void)S, (void)P, (void)T, (void)tx, (void)ty, (void)tz, (void)check

static inline uint32_t dcc_number(const dcc_block *block, uint32_t x, uint32_t y, uint32_t z)
{
    return x + block->ntid[0] * (y + block->ntid[1] * z);
}

/* A count that grows: what a clock shows means nothing here. */
static inline uint64_t dcc_clock64(void)
{
    static uint64_t count;
    return ++count;
}
static inline uint32_t dcc_clock32(void) { return (uint32_t)dcc_clock64(); }

/* Of the module, in its order. */
extern const dcc_emulated_kernel dcc_kernels[];

#define DCC_DECLARE(name)                                                                            \
    int32_t run_##name(const uint32_t grid[3], const uint32_t block[3], uint32_t dynamic,            \
                       const void *parameters, char *error);

#define DCC_RUN(name, number, loop, thread, align, stack, copies)                                   \
    DCC_DECLARE(name)                                                                                \
    int32_t run_##name(const uint32_t grid[3], const uint32_t block[3], uint32_t dynamic,            \
                       const void *parameters, char *error)                                          \
    {                                                                                                \
        static const dcc_launch launch = {&dcc_kernels[number], loop, thread, align, stack, copies}; \
        return dcc_run(&launch, grid, block, dynamic, parameters, error);                            \
    }

#define DCC_FIBERS(name, number, align, stack, copies)                                                      \
    static void fiber_##name(dcc_block *block, dcc_thread *thread)                                   \
    {                                                                                                \
        thread_##name(block, thread, thread->tid[0], thread->tid[1], thread->tid[2]);                \
    }                                                                                                \
    DCC_RUN(name, number, NULL, fiber_##name, align, stack, copies)

#define DCC_LOOP(name, number, align, stack, copies)                                                        \
    static void loop_##name(dcc_block *block)                                                        \
    {                                                                                                \
        if (block->order) {                                                                          \
            for (uint32_t i = 0; i < block->threads; i++) {                                          \
                uint32_t t = block->order[i], row = t / block->ntid[0];                              \
                thread_##name(block, NULL, t % block->ntid[0], row % block->ntid[1],                 \
                              row / block->ntid[1]);                                                 \
            }                                                                                        \
            return;                                                                                  \
        }                                                                                            \
        for (uint32_t z = 0; z < block->ntid[2]; z++)                                                \
            for (uint32_t y = 0; y < block->ntid[1]; y++)                                            \
                for (uint32_t x = 0; x < block->ntid[0]; x++) thread_##name(block, NULL, x, y, z);   \
    }                                                                                                \
    DCC_RUN(name, number, loop_##name, NULL, align, stack, copies)

#endif
