/* What translated kernels stand on: the exported table, blocks and their threads, and failures.
 *
 * A block's threads run one after another as a plain loop where the kernel has no barriers and nothing that
 * a warp does together; otherwise each is a fiber with a stack of its own that gives way where it must wait.
 */
#ifndef DCC_EMULATED_H
#define DCC_EMULATED_H

#include "module.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DCC_EXPORT __attribute__((visibility("default")))
#define DCC_COLD __attribute__((cold, noinline))
#define DCC_UNLIKELY(x) __builtin_expect(!!(x), 0)

extern const dcc_emulated_module dcc_emulated_module_table;

/* Set by whoever knows the device's memory: not 0 where all `bytes` at `address` belong to it. */
extern int (*dcc_emulated_check)(const void *address, uint64_t bytes);
/* A check for callers without an allocator of their own: `dcc_emulated_ranges` are first byte and end of each piece. */
extern const uint64_t (*dcc_emulated_ranges)[2];
extern uint32_t dcc_emulated_range_count;
int dcc_emulated_in_ranges(const void *address, uint64_t bytes);
/* 0: threads and blocks in order.  Otherwise the seed of the random order in which they run. */
extern uint64_t dcc_emulated_seed;

typedef struct dcc_block dcc_block;
typedef struct dcc_thread dcc_thread;

/* What a warp does together: works on the `in` of its lanes in `mask` and fills their `out`.  0, or not 0 and
 * the text of what is wrong. */
typedef const char *(*dcc_operation)(dcc_block *block, dcc_thread *lanes, uint32_t mask);

typedef struct dcc_copy {
    uint8_t *to;
    const uint8_t *from;
    uint32_t bytes, read, group, line;
} dcc_copy;

enum { DCC_COPIES = 128 };
enum { DCC_READY, DCC_AT_BARRIER, DCC_AT_OPERATION, DCC_DONE };

struct dcc_thread {
    void *stack_pointer;
    uint32_t tid[3];
    uint32_t number, lane;
    uint32_t state, place; /* `place`: line of the PTX where it waits */
    uint32_t barrier;
    bool aligned;
    uint32_t mask;
    dcc_operation operation;
    uint64_t address;
    uint32_t in[16], out[8];
    dcc_copy *copies; /* asynchronous ones that were not waited for, a ring */
    uint32_t first_copy, copy_count, copy_group;
};

typedef struct dcc_warp {
    uint32_t present, waiting; /* lanes that have not returned; lanes at an operation */
    uint32_t epoch;            /* how often lanes waited for each other */
} dcc_warp;

typedef struct dcc_access {
    uint32_t epoch, warp_epoch, line;
    uint16_t thread;
    bool atomic;
} dcc_access;

typedef struct dcc_byte {
    dcc_access write, reads[2];
} dcc_byte;

typedef struct dcc_barrier {
    uint32_t arrived, expected, all, any, count;
    uint32_t out_all, out_any, out_count;
} dcc_barrier;

struct dcc_block {
    uint8_t *shared;
    uint32_t shared_bytes;
    const uint8_t *parameters;
    uint32_t ctaid[3], nctaid[3], ntid[3];
    uint32_t threads, live, dynamic_bytes;
    const uint16_t *order; /* of the threads, in a plain loop; NULL: as they are numbered */
    const char *kernel;
    char *error;
    bool failed;
    void *escape; /* jmp_buf of a plain loop */
    void *main_stack_pointer;
    dcc_thread *all;
    dcc_warp warps[32];
    dcc_barrier barriers[16];
    uint16_t ready[1024];
    uint32_t first_ready, ready_count;
    uint64_t random;
    dcc_byte *bytes; /* of shared memory, where races are looked for */
    uint32_t epoch;  /* barriers of the launch so far, and blocks */
    void (*thread)(dcc_block *block, dcc_thread *thread);
};

typedef struct dcc_launch {
    const dcc_emulated_kernel *kernel;
    void (*loop)(dcc_block *block);                         /* either all threads of a block, */
    void (*thread)(dcc_block *block, dcc_thread *thread);   /* or one, as a fiber */
    uint32_t shared_align, stack_bytes;
    bool copies;
} dcc_launch;

int32_t dcc_run(const dcc_launch *launch, const uint32_t grid[3], const uint32_t block[3],
                uint32_t dynamic_shared_bytes, const void *parameters, char *error);

/* Whether a variable of the module holds these bytes. */
bool dcc_in_module(uintptr_t address, uint64_t bytes);

/* ---- failures ---- */

typedef enum dcc_fault {
    DCC_FAULT_TRAP,
    DCC_FAULT_ASSERT,
    DCC_FAULT_SHARED,
    DCC_FAULT_ALIGNMENT,
    DCC_FAULT_GLOBAL,
    DCC_FAULT_ENDLESS,
} dcc_fault;

/* Ends the launch.  `value` is the address or offset. */
_Noreturn DCC_COLD void dcc_fail(dcc_block *block, uint32_t x, uint32_t y, uint32_t z, uint32_t line,
                                 dcc_fault fault, uint64_t value, uint32_t bytes);

/* ---- waiting ---- */

void dcc_wait_at_barrier(dcc_block *block, dcc_thread *thread, uint32_t barrier, uint32_t count,
                         bool aligned, bool predicate, uint32_t line);
void dcc_arrive_at_barrier(dcc_block *block, dcc_thread *thread, uint32_t barrier, uint32_t count);
void dcc_together(dcc_block *block, dcc_thread *thread, dcc_operation operation, uint32_t mask, bool aligned,
                  uint32_t line);
void dcc_copy_later(dcc_block *block, dcc_thread *thread, uint8_t *to, uint64_t from, uint32_t bytes,
                    uint32_t read, uint32_t line);
void dcc_wait_for_copies(dcc_block *block, dcc_thread *thread, uint32_t groups_left);
uint64_t dcc_random(uint64_t *state);

/* ---- memory ---- */

#define DCC_ALIGNED(address, bytes, line)                                                           \
    do {                                                                                             \
        if (DCC_UNLIKELY((address) & ((bytes) - 1)))                                                 \
            dcc_fail(B, tx, ty, tz, line, DCC_FAULT_ALIGNMENT, (address), bytes);                    \
    } while (0)

/* At each jump backwards: no thread of a real kernel makes that many. */
#define DCC_STEP(line)                                                                               \
    do {                                                                                             \
        if (DCC_UNLIKELY(++steps >> 28)) dcc_fail(B, tx, ty, tz, line, DCC_FAULT_ENDLESS, steps, 0); \
    } while (0)

#if DCC_CHECKS
#define DCC_IN_SHARED(offset, bytes, line)                                                           \
    do {                                                                                             \
        if (DCC_UNLIKELY((uint64_t)(offset) + (bytes) > B->shared_bytes))                            \
            dcc_fail(B, tx, ty, tz, line, DCC_FAULT_SHARED, (offset), bytes);                        \
    } while (0)
#define DCC_IN_GLOBAL(address, bytes, line)                                                          \
    do {                                                                                             \
        if (DCC_UNLIKELY(check != NULL) && !check((const void *)(uintptr_t)(address), bytes)         \
            && !dcc_in_module((uintptr_t)(address), bytes))                                          \
            dcc_fail(B, tx, ty, tz, line, DCC_FAULT_GLOBAL, (address), bytes);                       \
        if (DCC_UNLIKELY((uint64_t)(address) < 65536))                                               \
            dcc_fail(B, tx, ty, tz, line, DCC_FAULT_GLOBAL, (address), bytes);                       \
    } while (0)
#else
#define DCC_IN_SHARED(offset, bytes, line) ((void)0)
#define DCC_IN_GLOBAL(address, bytes, line) ((void)0)
#endif

#define DCC_LOAD(type, pointer) (*(const dcc_##type *)(pointer))
#define DCC_STORE(type, pointer, value) (*(dcc_##type *)(pointer) = (value))
typedef uint8_t dcc_u8;
typedef int8_t dcc_s8;
typedef uint16_t __attribute__((aligned(1))) dcc_u16;
typedef int16_t __attribute__((aligned(1))) dcc_s16;
typedef uint32_t __attribute__((aligned(1))) dcc_u32;
typedef int32_t __attribute__((aligned(1))) dcc_s32;
typedef uint64_t __attribute__((aligned(1))) dcc_u64;
typedef int64_t __attribute__((aligned(1))) dcc_s64;
typedef float __attribute__((aligned(1))) dcc_f32;
typedef double __attribute__((aligned(1))) dcc_f64;

#endif
