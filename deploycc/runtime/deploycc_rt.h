/* deploycc runtime: what a generated model definition needs to run.
 *
 * A package's library is kernels + weights + one generated C file + these sources.  The
 * generated file holds a `dcc_model` and thin functions with the model's own prefix; nothing
 * of this header is visible to an app, except where several networks share the runtime as
 * libdeploycc_rt.so.
 *
 * Threads: a handle may be used by one thread at a time; a second one that enters gets
 * DCC_ERROR_BUSY.  Different handles are independent.  dcc_run allocates nothing.
 *
 * Compiled with DCC_DEBUG it tells calls with handles that were destroyed.
 */
#ifndef DEPLOYCC_RT_H
#define DEPLOYCC_RT_H

#include <stddef.h>
#include <stdint.h>

/* Raised when dcc_model, dcc_options or the meaning of a function changes. */
#define DCC_ABI 2u

/* Every block handed out is aligned to this many bytes (TVM's kernels assume 64). */
#define DCC_ALIGNMENT 64u

/* More than this many threads are never started. */
#define DCC_MAX_THREADS 1024

#if defined(DCC_BUILD_SHARED)
#define DCC_API __attribute__((visibility("default")))
#else
#define DCC_API
#endif

/* With glibc's general model an access calls the dynamic loader by name, which makes it a library the
 * package needs; AArch64's own model (descriptors) does not, and musl has it inside libc. */
#if defined(__GLIBC__) && !defined(__aarch64__)
#define DCC_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define DCC_THREAD_LOCAL _Thread_local
#endif

typedef enum dcc_status {
    DCC_OK = 0,
    DCC_ERROR_ARGUMENT = 1, /* a pointer, size, index or option that cannot be used */
    DCC_ERROR_BUSY = 2,     /* the handle is in use, by another thread or further up in this one */
    DCC_ERROR_MEMORY = 3,   /* out of memory */
    DCC_ERROR_THREAD = 4,   /* a thread could not be started */
    DCC_ERROR_KERNEL = 5,   /* a kernel reported failure */
    DCC_ERROR_ABI = 6       /* the library and the shared runtime do not fit together */
} dcc_status;

typedef struct dcc_tensor {
    const char *name;     /* ONNX name, UTF-8 */
    int32_t dtype;        /* the generated NAME_dtype */
    int32_t rank;
    const int64_t *shape; /* rank entries; NULL for rank 0 */
    size_t elements;
    size_t bytes;
    size_t alignment;     /* bytes a caller's pointer must be aligned to: a power of two */
} dcc_tensor;

typedef struct dcc_options {
    size_t struct_size;   /* sizeof, filled in by the NAME_OPTIONS_INIT macro */
    int32_t threads;      /* 0: as many as the calling thread may run on */
    int32_t spin_us;      /* idle workers spin this long before they sleep; -1: default */
    const int32_t *cpus;  /* worker i is pinned to cpus[i % cpu_count]; NULL: never pinned */
    size_t cpu_count;
    void *memory;         /* caller-owned, 64-byte aligned; NULL: allocated by create */
    size_t memory_bytes;
} dcc_options;

/* Called after each step of a run, on the thread that runs: what the step wrote is there until a later one
 * takes its place.  `arena` is where the offsets of the plan count from. */
typedef void (*dcc_observer)(void *context, uint32_t step, const void *arena);

/* Who watches a run. */
typedef struct dcc_watch {
    dcc_observer observer;
    void *context;
} dcc_watch;

/* What a step took since its handle was made or its times were reset: nanoseconds. */
typedef struct dcc_step_time {
    uint64_t runs; /* that were timed: the first one, and of very short ones not every other */
    uint64_t total_ns;
    uint64_t min_ns; /* 0 as long as runs is */
    uint64_t max_ns;
} dcc_step_time;

typedef int32_t (*dcc_steps)(const void *const *inputs, void *const *outputs, void *arena, uint32_t *step,
                             const dcc_watch *watch);

typedef struct dcc_model {
    uint32_t abi;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t step_count;
    const char *name;
    const dcc_tensor *inputs;
    const dcc_tensor *outputs;
    const char *const *step_names; /* step_count kernel names, for error texts */
    uint64_t arena_bytes;
    uint64_t workspace_bytes;
    uint64_t thread_workspace_bytes;
    dcc_steps steps;
    uint32_t timed; /* not 0: its handles count what each step takes */
} dcc_model;

typedef struct dcc_handle dcc_handle;

DCC_API uint32_t dcc_abi(void);
DCC_API const char *dcc_status_text(int32_t status);
/* Bytes of caller-owned memory that create needs with these options; 0 if they are no good. */
DCC_API size_t dcc_memory_bytes(const dcc_model *model, const dcc_options *options);
DCC_API dcc_status dcc_create(const dcc_model *model, const dcc_options *options, dcc_handle **handle);
DCC_API dcc_status dcc_run(dcc_handle *handle, const void *const *inputs, void *const *outputs);
DCC_API dcc_status dcc_destroy(dcc_handle *handle);
DCC_API int32_t dcc_threads(const dcc_handle *handle);
/* From the next run on; NULL for none. */
DCC_API dcc_status dcc_observe(dcc_handle *handle, dcc_observer observer, void *context);
/* Of a timed model: the times of all steps, `count` of them as it has; and all of them back to 0. */
DCC_API dcc_status dcc_profile(dcc_handle *handle, dcc_step_time *times, uint32_t count);
DCC_API dcc_status dcc_profile_reset(dcc_handle *handle);
/* What the handle runs from the next run on: a model whose handles take as much memory, as the variants of a
 * package do.  NULL is none that fits; `why` is then the error's text. */
DCC_API dcc_status dcc_select(dcc_handle *handle, const dcc_model *model, const char *why);
/* The same by the shapes of all inputs, one list of extents for each; `declared` says which there are. */
DCC_API dcc_status dcc_select_shapes(dcc_handle *handle, const dcc_model *const *models, uint32_t count,
                                     const int64_t *const *shapes, const char *declared);
DCC_API const dcc_model *dcc_selected(const dcc_handle *handle);
/* The index of the model that takes the shapes; count if none does. */
DCC_API uint32_t dcc_find_shapes(const dcc_model *const *models, uint32_t count, const int64_t *const *shapes);

/* Memory that handles of several networks share, each for as long as it runs. */
typedef struct dcc_arena dcc_arena;
DCC_API dcc_status dcc_arena_create(size_t bytes, dcc_arena **arena);
/* DCC_ERROR_BUSY, and nothing is freed, as long as there are handles in it. */
DCC_API dcc_status dcc_arena_destroy(dcc_arena *arena);
/* As dcc_create with the arena for memory; runs get DCC_ERROR_BUSY while another handle in it runs. */
DCC_API dcc_status dcc_create_in(const dcc_model *model, const dcc_options *options, dcc_arena *arena,
                                 dcc_handle **handle);
/* Of the handle; of the calling thread's last failed create where handle is NULL. */
DCC_API const char *dcc_last_error(const dcc_handle *handle);

/* ---- what kernels call (TVM's C backend API, by pointer slots in the generated file) ---- */

typedef struct dcc_group {
    void *sync_handle;
    int32_t num_task;
} dcc_group;

typedef int (*dcc_task)(int task_id, dcc_group *group, void *data);

DCC_API int dcc_parallel_launch(dcc_task task, void *data, int num_task);
DCC_API int dcc_parallel_barrier(int task_id, dcc_group *group);
DCC_API void *dcc_alloc_workspace(int device_type, int device_id, uint64_t bytes, int code, int bits);
DCC_API int dcc_free_workspace(int device_type, int device_id, void *block);

/* ---- between the runtime's own files ---- */

/* A last-in first-out allocator over one region; blocks may be freed in any order.  There may be as many as the
 * region has room for: unrolled kernels have hundreds. */
typedef struct dcc_workspace {
    unsigned char *base;
    size_t size;
    size_t top;
    size_t live;
} dcc_workspace;

/* Room for rounding blocks up to DCC_ALIGNMENT where a model's figure counts their bytes only. */
#define DCC_WORKSPACE_SLACK ((size_t)64 * DCC_ALIGNMENT)

/* Bytes behind a region of `size`, a multiple of DCC_ALIGNMENT, for what is noted of each block. */
#define DCC_WORKSPACE_NOTES(size) \
    (((size) / DCC_ALIGNMENT * sizeof(uint32_t) + DCC_ALIGNMENT - 1) & ~(size_t)(DCC_ALIGNMENT - 1))

/* `size` bytes from `base` on, and DCC_WORKSPACE_NOTES(size) behind them. */
void dcc_workspace_init(dcc_workspace *workspace, void *base, size_t size);
void *dcc_workspace_take(dcc_workspace *workspace, uint64_t bytes);
int dcc_workspace_give(dcc_workspace *workspace, const void *block);

/* The timers of a handle; `watch` is whoever watches the run besides, NULL for nobody. */
typedef struct dcc_timers {
    const dcc_watch *watch;
    uint64_t before;   /* when the step that runs began */
    uint64_t run_ns;   /* what the run's steps took so far */
    uint64_t look_ns;  /* what one look at the clock takes */
    uint32_t left_out; /* so many more runs are not timed */
    dcc_step_time steps[];
} dcc_timers;

/* `timers` is zeroed. */
void dcc_timers_init(dcc_timers *timers);
/* The next run is timed. */
void dcc_timers_reset(dcc_timers *timers, uint32_t step_count);
/* 0 when this run is not timed; else dcc_timers_take is its observer, and dcc_timers_end to be called. */
int dcc_timers_start(dcc_timers *timers, const dcc_watch *watch);
void dcc_timers_take(void *timers, uint32_t step, const void *arena);
void dcc_timers_end(dcc_timers *timers, uint32_t step_count);

typedef struct dcc_pool dcc_pool;

/* What the calling thread is doing; kernels get no context argument. */
typedef struct dcc_thread {
    dcc_workspace *workspace;      /* where dcc_alloc_workspace takes from */
    dcc_workspace *worker_spaces;  /* one per participant, 0 is the launching thread */
    dcc_pool *pool;
    int32_t threads;               /* participants a launch may use */
    int32_t inside;                /* 1 while a parallel task runs on this thread */
} dcc_thread;

/* NULL on a thread that is neither in a run nor a worker. */
dcc_thread *dcc_this_thread(void);
/* Makes thread, which lives as long as its stack frame, what dcc_this_thread gives; returns what it was. */
dcc_thread *dcc_become(dcc_thread *thread);

/* A pool of its own, or with DCC_SHARED_POOL the process's one; DCC_ERROR_MEMORY, DCC_ERROR_THREAD. */
dcc_status dcc_pool_acquire(const dcc_options *options, dcc_pool **pool);
void dcc_pool_release(dcc_pool *pool);
/* To be called before the first launch of a run: starts the workers anew in a forked child.
 * Not 0 when this run has to do without the pool. */
int dcc_pool_enter(dcc_pool *pool);
/* 0 done, -1 a task failed, 1 the pool is busy with another handle's job. */
int dcc_pool_launch(dcc_pool *pool, const dcc_thread *launcher, dcc_task task, void *data, int32_t num_task);
int32_t dcc_usable_cpus(void);

#endif
