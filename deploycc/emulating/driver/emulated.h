/* A libcuda.so.1 without a GPU: what the files of the emulated driver share.
 * docs/cuda-runtime.md has the variables of the environment that it reads.
 *
 * Memory of the device is memory of the process, with guard zones around each block.  Work in streams is put off until
 * somebody waits for it, so that a wait that is missing is seen.  Kernels are functions that were translated from
 * PTX, found by name; without one a launch is only recorded.  One lock is around everything. */
#ifndef DEPLOYCC_EMULATED_H
#define DEPLOYCC_EMULATED_H

#include "driver.h"
#include "module.h"

#include <stddef.h>
#include <stdint.h>

/* ---- the driver's own ---- */

#define EXPORT __attribute__((visibility("default")))
#define CU_PROTOTYPE(member, symbol, parameters) EXPORT cu_result symbol parameters;
CU_FUNCTIONS(CU_PROTOTYPE)
CU_GRAPH_FUNCTIONS(CU_PROTOTYPE)

enum { CU_NOT_INITIALIZED = 3, CU_INVALID_DEVICE = 101, CU_INVALID_CONTEXT = 201, CU_NOT_READY = 600,
       CU_INVALID_HANDLE = 400, CU_NOT_FOUND = 500, CU_OUT_OF_RESOURCES = 701 };

typedef struct emulated_chip {
    int32_t major, minor, processors;
    uint32_t shared_bytes; /* of a block, at most */
} emulated_chip;

/* Takes the lock and logs the call; not CU_OK (and the lock is free) where it is to fail. */
cu_result emulated_enter(const char *symbol, const char *format, ...) __attribute__((format(printf, 2, 3)));
cu_result emulated_leave(cu_result result);
#define ENTER(...)                                            \
    do {                                                      \
        const cu_result early = emulated_enter(__VA_ARGS__);  \
        if (early != CU_OK) {                                 \
            return early;                                     \
        }                                                     \
    } while (0)
void emulated_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* From now on everything fails with it; the text goes to standard error and the log. */
void emulated_break(cu_result result, const char *format, ...) __attribute__((format(printf, 2, 3)));
cu_result emulated_broken(void);

const emulated_chip *emulated_arch(void);
int32_t emulated_devices(void);
/* Of the calling thread's current context. */
int32_t emulated_current_device(void);

/* What there is of each kind of thing: told when the process ends. */
enum { LIVE_MEMORY, LIVE_HOST_MEMORY, LIVE_STREAMS, LIVE_EVENTS, LIVE_GRAPHS, LIVE_EXECS, LIVE_MODULES, LIVE_CONTEXTS,
       LIVE_KINDS };
extern int64_t emulated_live[LIVE_KINDS];

/* ---- memory.c ---- */

/* 1 if all of it lies in one block of the device's memory. */
int emulated_is_device(cu_address address, size_t bytes);
/* 1 if the address is in a block, or just behind one. */
int emulated_is_known(cu_address address);
/* What translated kernels ask before they touch memory: 1 where all of it is in one block. */
int emulated_may_touch(const void *address, uint64_t bytes);
/* Looks at all guard zones; breaks the context where one was written to. */
void emulated_check_guards(const char *when);

/* ---- modules.c ---- */

struct CUfunc_st {
    struct CUfunc_st *next;
    const dcc_emulated_kernel *kernel; /* NULL: not translated */
    uint32_t dynamic_shared;           /* what it may be launched with */
    char name[];
};

/* ---- work.c: what streams and graphs consist of ---- */

enum { WORK_COPY, WORK_KERNEL, WORK_HOST, WORK_RECORD, WORK_WAIT };

typedef struct work {
    struct work *next;
    int kind;
    /* copy */
    void *destination;
    const void *source;
    size_t bytes;
    /* kernel */
    struct CUfunc_st *function;
    uint32_t grid[3], block[3], shared_bytes;
    unsigned char *parameters;
    /* host function */
    cu_host_function host;
    void *data;
    /* event, and which of its records is waited for */
    cu_event event;
    uint64_t record;
} work;

/* A copy of it with its parameters; NULL without memory. */
work *work_copy(const work *one);
void work_free(work *one);
/* Fills in a kernel's work; a cu_result. */
cu_result work_kernel(work *one, cu_function function, const uint32_t grid[3], const uint32_t block[3],
                      uint32_t shared_bytes, void **parameters);
/* Puts it at the end of a stream's queue, which owns it. */
void work_enqueue(cu_stream stream, work *one);
/* Does all that is queued in all streams. */
void work_drain_all(void);

#endif
