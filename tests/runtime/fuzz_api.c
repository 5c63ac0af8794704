/* Random calls of the C interface of the package `tiny`, with arguments as no one should give them.
 *
 * A stream of bytes is decoded into calls, and of each it is known what it has to answer: a wrong status, a wrong
 * result, a block that is not given back, or whatever a sanitiser sees, ends the program.  Several threads, each with
 * a stream of its own, share the handles.  With -DFUZZ_COVERAGE (compiled with -fsanitize-coverage=trace-pc) streams
 * that reach new code are kept and changed further; otherwise each is drawn anew.
 *
 *     fuzz_api SEED STREAMS SECONDS [THREADS]     ends after STREAMS streams or SECONDS, whichever is later
 *     fuzz_api - < stream                         one stream, to look at what it does
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "faulty.h"
#include "tiny.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COUNT 1000
#define SLOTS 4
#define MOST_BYTES 512
#define MOST_THREADS 8

/* ---- a stream of bytes ---- */

typedef struct {
    const uint8_t *bytes;
    size_t size, at;
} stream;

static uint32_t number; /* of the stream, for messages */

static uint32_t next(stream *s, uint32_t below) {
    uint32_t byte = s->at < s->size ? s->bytes[s->at++] : 0;
    return below == 0 ? 0 : byte % below;
}

static int rarely(stream *s) {
    return next(s, 8) == 7;
}

#define EXPECT(condition)                                                                              \
    do {                                                                                               \
        if (!(condition)) {                                                                            \
            fprintf(stderr, "%s:%d: stream %u: %s\n", __FILE__, __LINE__, (unsigned)number, #condition); \
            abort();                                                                                   \
        }                                                                                              \
    } while (0)

/* ---- handles that threads share ---- */

typedef struct {
    pthread_rwlock_t lock; /* written: made or destroyed; read: used */
    tiny_handle *handle;
    void *memory; /* the caller's; its bytes */
    size_t memory_bytes;
    int32_t threads;
    _Atomic int observed;
} slot;
static slot slots[SLOTS];
static int single; /* one thread: statuses are known exactly */
static tiny_handle *gone; /* a handle that was destroyed; used with DCC_DEBUG only */

typedef struct {
    tiny_handle *handle;
    uint32_t kind;
} watcher;
static watcher watchers[SLOTS];

typedef struct {
    _Alignas(64) char x[COUNT * 4 + 64], y[COUNT * 4 + 64], copy[COUNT * 4 + 64];
} buffers;

static void fill(float *x, float seed) {
    for (int i = 0; i < COUNT; i++) {
        x[i] = seed + (float)(i % 37) / 16.0f;
    }
}

static void expect_right(const char *x_bytes, const char *y_bytes, const char *copy_bytes) {
    for (int i = 0; i < COUNT; i += 7) {
        float x, y, copy, w = -0.5f + (float)i / (COUNT - 1);
        memcpy(&x, x_bytes + 4 * i, 4), memcpy(&y, y_bytes + 4 * i, 4), memcpy(&copy, copy_bytes + 4 * i, 4);
        EXPECT(fabsf(y - (tanhf(x * w) + 1.0f)) < 1e-5f && copy == x);
    }
}

static void on_signal(int signal_number) {
    (void)signal_number;
}

/* What an observer may try: everything on its own handle is BUSY. */
static void meddle(void *context, uint32_t step, const void *arena) {
    static _Thread_local float x[COUNT], y[COUNT], copy[COUNT];
    const watcher *w = context;
    const void *in[] = {x};
    void *out[] = {y, copy};
    EXPECT(step < tiny_step_count() && arena != NULL);
    switch (w->kind) {
    case 0: EXPECT(tiny_run(w->handle, in, out) == tiny_ERROR_BUSY); break;
    case 1: EXPECT(tiny_destroy(w->handle) == tiny_ERROR_BUSY); break;
    case 2: EXPECT(tiny_observe(w->handle, NULL, NULL) == tiny_ERROR_BUSY); break;
    case 3: EXPECT(tiny_profile_reset(w->handle) == tiny_ERROR_BUSY); break;
    case 4: raise(SIGUSR1); break;
    case 5: sched_yield(); break;
    default: EXPECT(tiny_threads(w->handle) > 0); break;
    }
}

/* ---- calls ---- */

static const int32_t odd_numbers[] = {-1, INT32_MIN, INT32_MAX, 1025, -77};

static tiny_status expect_options(const tiny_options *options) {
    if (options->struct_size != sizeof *options || options->threads < 0 || options->threads > 1024) {
        return tiny_ERROR_ARGUMENT;
    }
    if (options->memory != NULL && options->memory_bytes > UINTPTR_MAX - (uintptr_t)options->memory) {
        return tiny_ERROR_ARGUMENT;
    }
    return (options->cpus == NULL) != (options->cpu_count == 0) ? tiny_ERROR_ARGUMENT : tiny_OK;
}

static void create(stream *s, slot *place) {
    static const size_t sizes[] = {0, 1, sizeof(tiny_options) - 1, sizeof(tiny_options) + 1, SIZE_MAX};
    static const size_t counts[] = {0, 1, 2, SIZE_MAX, SIZE_MAX / 4 + 2};
    tiny_options options = tiny_OPTIONS_INIT;
    int32_t cpus[4] = {-1, -1, -1, -1};
    _Alignas(16) char odd[sizeof options + 16];
    options.threads = rarely(s) ? odd_numbers[next(s, 5)] : (int32_t)next(s, 5);
    options.spin_us = rarely(s) ? odd_numbers[next(s, 5)] : (int32_t)next(s, 3) * 20;
    options.struct_size = rarely(s) ? sizes[next(s, 5)] : sizeof options;
    int nonsense = 0; /* a processor that is none */
    if (rarely(s)) {
        options.cpus = cpus, options.cpu_count = counts[next(s, 5)];
        for (int i = 0; i < 4; i++) {
            cpus[i] = (int32_t)next(s, 6) - 1;
            cpus[i] = cpus[i] == 4 ? 1 << 20 : cpus[i];
        }
        nonsense = 1;
    } else if (rarely(s)) {
        options.cpu_count = counts[1 + next(s, 4)];
    }
    tiny_status expected = expect_options(&options);
    const size_t needed = expected == tiny_OK ? tiny_memory_bytes(&options) : 0;
    void *memory = NULL;
    if (rarely(s) && needed > 0) {
        const uint32_t how = next(s, 4);
        EXPECT(__real_posix_memalign(&memory, 64, needed + 64) == 0);
        options.memory = (char *)memory + (how == 1 ? 4 : 0);
        options.memory_bytes = how == 2 ? needed - 1 : how == 3 ? SIZE_MAX : needed;
        expected = how == 0 ? expected : tiny_ERROR_ARGUMENT;
    }
    const tiny_options *given = &options;
    if (rarely(s)) {
        given = NULL;
        nonsense = 0, expected = tiny_OK;
    } else if (rarely(s)) {
        memcpy(odd + 1, &options, sizeof options);
        given = (const tiny_options *)(const void *)(odd + 1);
        expected = tiny_ERROR_ARGUMENT;
    }
    if (given == &options && !nonsense) {
        EXPECT((tiny_memory_bytes(&options) > 0) == (expect_options(&options) == tiny_OK));
    }
    const int fails = single && rarely(s);
    if (fails) {
        fail_on = (int)next(s, 2);
        fail_in = 1 + (int)next(s, 16);
    }
    tiny_handle *made = (tiny_handle *)(uintptr_t)64;
    tiny_status status = tiny_create(given, &made);
    if (fails) {
        fail_in = -1;
    }
    EXPECT((status == tiny_OK) == (made != NULL));
    EXPECT(status >= tiny_OK && status <= tiny_ERROR_THREAD && status != tiny_ERROR_BUSY);
    if (expected != tiny_OK) {
        EXPECT(status == tiny_ERROR_ARGUMENT || (nonsense && status == tiny_ERROR_ARGUMENT));
    } else if (!fails && !nonsense) {
        EXPECT(status == tiny_OK);
    }
    EXPECT((tiny_last_error(NULL)[0] != '\0') == (status != tiny_OK));
    if (status != tiny_OK) {
        __real_free(memory);
        return;
    }
    EXPECT(tiny_last_error(made)[0] == '\0' && tiny_threads(made) >= 1);
    place->handle = made, place->threads = tiny_threads(made), place->observed = 0;
    if (given == NULL || options.memory == NULL) {
        __real_free(memory);
        memory = NULL;
    }
    place->memory = memory, place->memory_bytes = needed;
}

/* With what a run is called, and what it has to answer. */
static void run(stream *s, slot *place, buffers *b) {
    const uint32_t offset = next(s, 4) * 4 + (rarely(s) ? 1 + next(s, 3) : 0);
    char *x = b->x + offset, *y = b->y + next(s, 5) * 4, *copy = b->copy + next(s, 7) * 4;
    const float first = rarely(s) ? -1.0f : (float)next(s, 10);
    const void *in[2] = {x, NULL};
    void *out[2] = {y, copy};
    const void *const *inputs = in;
    void *const *outputs = out;
    _Alignas(16) char odd[64];
    tiny_status expected = offset % 4 != 0 ? tiny_ERROR_ARGUMENT : first < 0 ? tiny_ERROR_KERNEL : tiny_OK;
    float values[COUNT];
    fill(values, first);
    memcpy(x, values, sizeof values);
    const uint32_t twist = rarely(s) ? 1 + next(s, 15) : 0;
    switch (twist) {
    case 0: break;
    case 1: in[0] = NULL; break;
    case 2: out[0] = NULL; break;
    case 3: out[1] = NULL; break;
    case 4: inputs = NULL; break;
    case 5: outputs = NULL; break;
    case 6: out[0] = x + 4 * next(s, 250); break;
    case 7: out[1] = y + 4 * next(s, 250); break;
    case 8: out[1] = y; break;
    case 9: in[0] = (const void *)(uintptr_t)(4 * next(s, 250)); break;
    case 10: out[1] = (void *)(UINTPTR_MAX - 3 - 4 * next(s, 250)); break;
    case 11:
        memcpy(odd + 1, in, sizeof in);
        inputs = (const void *const *)(const void *)(odd + 1);
        break;
    case 12:
        memcpy(odd + 1, out, sizeof out);
        outputs = (void *const *)(void *)(odd + 1);
        break;
    case 13:
        if (place->memory == NULL) return;
        out[0] = (char *)place->memory + place->memory_bytes - 4;
        break;
    default:
        if (place->memory == NULL) return;
        in[0] = place->memory;
        break;
    }
    expected = twist == 0 ? expected : tiny_ERROR_ARGUMENT;
    const int before = allocations;
    tiny_status status = tiny_run(place->handle, inputs, outputs);
    EXPECT(status == expected || (!single && status == tiny_ERROR_BUSY));
    if (single) {
        EXPECT(allocations == before);
        EXPECT(status == tiny_OK || tiny_last_error(place->handle)[0] != '\0');
    }
    if (status == tiny_OK) {
        expect_right(x, y, copy);
    }
}

static void observe(stream *s, slot *place, size_t index) {
    const uint32_t kind = next(s, 8);
    if (atomic_exchange(&place->observed, 1) && !single) {
        return; /* its watcher may be read this moment */
    }
    watchers[index] = (watcher){place->handle, kind};
    tiny_status status = tiny_observe(place->handle, kind == 7 ? NULL : meddle, &watchers[index]);
    EXPECT(status == tiny_OK || (!single && status == tiny_ERROR_BUSY));
}

static void profile(stream *s, slot *place) {
    tiny_step_time times[8];
    const uint32_t count = rarely(s) ? next(s, 8) : 4, how = rarely(s) ? 1 + next(s, 2) : 0;
    void *room = how == 0 ? (void *)times : how == 1 ? NULL : (char *)times + 1;
    tiny_status status = tiny_profile(place->handle, room, count);
    tiny_status expected = count == 4 && how == 0 ? tiny_OK : tiny_ERROR_ARGUMENT;
    EXPECT(status == expected || (!single && status == tiny_ERROR_BUSY));
    if (rarely(s)) {
        status = tiny_profile_reset(place->handle);
        EXPECT(status == tiny_OK || (!single && status == tiny_ERROR_BUSY));
    }
}

static void ask(stream *s) {
    const uint32_t index = rarely(s) ? UINT32_MAX - next(s, 3) : next(s, 6);
    EXPECT((tiny_input_info(index) != NULL) == (index < tiny_input_count()));
    EXPECT((tiny_output_info(index) != NULL) == (index < tiny_output_count()));
    EXPECT((tiny_step_name(index) != NULL) == (index < tiny_step_count()));
    EXPECT(tiny_status_text((tiny_status)next(s, 8))[0] != '\0' && tiny_abi_version() == tiny_ABI_VERSION);
    EXPECT(tiny_create(NULL, NULL) == tiny_ERROR_ARGUMENT && tiny_last_error(NULL)[0] != '\0');
    EXPECT(tiny_destroy(NULL) == tiny_OK && tiny_run(NULL, NULL, NULL) == tiny_ERROR_ARGUMENT);
    EXPECT(tiny_run((tiny_handle *)(uintptr_t)1, NULL, NULL) == tiny_ERROR_ARGUMENT && tiny_threads(NULL) == 0);
}

static void destroy(slot *place) {
    EXPECT(tiny_destroy(place->handle) == tiny_OK);
    gone = single ? place->handle : NULL;
    __real_free(place->memory);
    place->handle = NULL, place->memory = NULL;
}

static void misuse_gone(stream *s) {
#if defined(DCC_DEBUG)
    float x[COUNT], y[COUNT], copy[COUNT];
    const void *in[] = {x};
    void *out[] = {y, copy};
    if (gone == NULL) {
        return;
    }
    switch (next(s, 5)) {
    case 0: EXPECT(tiny_run(gone, in, out) == tiny_ERROR_ARGUMENT); break;
    case 1: EXPECT(tiny_destroy(gone) == tiny_ERROR_ARGUMENT); break;
    case 2: EXPECT(tiny_observe(gone, meddle, NULL) == tiny_ERROR_ARGUMENT); break;
    case 3: EXPECT(tiny_threads(gone) == 0); break;
    default: EXPECT(tiny_last_error(gone)[0] != '\0'); break;
    }
#else
    (void)s;
#endif
}

static void perform(stream *s) {
    static _Thread_local buffers b;
    while (s->at < s->size) {
        const size_t index = next(s, SLOTS);
        const uint32_t what = next(s, 16);
        slot *place = &slots[index];
        if (what < 2 || what == 15) {
            pthread_rwlock_wrlock(&place->lock);
            if (place->handle == NULL) {
                create(s, place);
            } else if (what != 0) {
                destroy(place);
            }
        } else {
            pthread_rwlock_rdlock(&place->lock);
            if (what == 2) {
                ask(s);
            } else if (what == 3 && single) {
                misuse_gone(s);
            } else if (place->handle != NULL && what == 4) {
                observe(s, place, index);
            } else if (place->handle != NULL && what == 5) {
                profile(s, place);
            } else if (place->handle != NULL) {
                run(s, place, &b);
            }
        }
        pthread_rwlock_unlock(&place->lock);
    }
}

static pthread_barrier_t all_done;

static void *perform_thread(void *argument) {
    perform(argument);
    /* None ends before the others: its error's place would go to another one, whom ThreadSanitizer cannot know to
     * come later, since nobody has joined it yet. */
    pthread_barrier_wait(&all_done);
    return NULL;
}

/* One stream for each thread; all handles are destroyed at its end, and every block given back. */
static void perform_all(stream *streams, int threads) {
    pthread_t running[MOST_THREADS];
    const int before = live;
    single = threads == 1;
    EXPECT(pthread_barrier_init(&all_done, NULL, (unsigned)threads) == 0);
    for (int i = 1; i < threads; i++) {
        EXPECT(__real_pthread_create(&running[i], NULL, perform_thread, &streams[i]) == 0);
    }
    (void)perform_thread(&streams[0]);
    for (int i = 1; i < threads; i++) {
        EXPECT(pthread_join(running[i], NULL) == 0);
    }
    (void)pthread_barrier_destroy(&all_done);
    for (int i = 0; i < SLOTS; i++) {
        if (slots[i].handle != NULL) {
            destroy(&slots[i]);
        }
    }
#if !defined(DCC_DEBUG) /* which holds destroyed handles back */
    EXPECT(live == before);
#else
    EXPECT(live <= before + 64);
#endif
}

/* ---- where streams come from ---- */

static uint64_t state;

static uint32_t draw(uint32_t below) { /* splitmix64, Steele, Lea and Flood 2014 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32) % below;
}

#if defined(FUZZ_COVERAGE)
#define PLACES 65536
static uint8_t reached[PLACES], ever[PLACES];
void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void) {
    const uintptr_t at = (uintptr_t)__builtin_return_address(0);
    reached[(at ^ at >> 16) % PLACES] = 1;
}

static int something_new(void) {
    int fresh = 0;
    for (size_t i = 0; i < PLACES; i++) {
        fresh += reached[i] & !ever[i];
        ever[i] |= reached[i];
    }
    memset(reached, 0, sizeof reached);
    return fresh;
}
#else
static int something_new(void) {
    return 0;
}
#endif

#define MOST_KEPT 4096
static struct {
    uint8_t bytes[MOST_BYTES];
    size_t size;
} kept[MOST_KEPT];
static uint32_t kept_count;

static size_t make_stream(uint8_t *bytes) {
    size_t size = 16 + draw(MOST_BYTES - 16);
    if (kept_count > 0 && draw(4) != 0) {
        const uint32_t which = draw(kept_count);
        size = kept[which].size;
        memcpy(bytes, kept[which].bytes, size);
        for (uint32_t changes = 1 + draw(8); changes > 0; changes--) {
            bytes[draw((uint32_t)size)] = (uint8_t)draw(256);
        }
        if (draw(3) == 0) { /* the rest of another one */
            const uint32_t other = draw(kept_count);
            const size_t from = draw((uint32_t)size), end = kept[other].size;
            for (size_t i = from; i < end; i++) {
                bytes[i] = kept[other].bytes[i];
            }
            size = end > from ? end : size;
        }
        return size;
    }
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)draw(256);
    }
    return size;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    static uint8_t bytes[MOST_THREADS][MOST_BYTES];
    stream streams[MOST_THREADS];
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    (void)sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < SLOTS; i++) {
        (void)pthread_rwlock_init(&slots[i].lock, NULL);
    }
    if (argc == 2) {
        streams[0] = (stream){bytes[0], fread(bytes[0], 1, MOST_BYTES, stdin), 0};
        perform_all(streams, 1);
        return 0;
    }
    if (argc < 4) {
        return 2;
    }
    const uint32_t least = (uint32_t)strtoul(argv[2], NULL, 10);
    const double until = now() + atof(argv[3]);
    const int threads = argc > 4 ? atoi(argv[4]) : 1;
    if (threads < 1 || threads > MOST_THREADS) {
        return 2;
    }
    state = strtoull(argv[1], NULL, 10);
    for (number = 0; number < least || now() < until; number++) {
        for (int i = 0; i < threads; i++) {
            const size_t size = make_stream(bytes[i]);
            streams[i] = (stream){bytes[i], size, 0};
        }
        perform_all(streams, threads);
        if (something_new() > 0 && kept_count < MOST_KEPT) {
            memcpy(kept[kept_count].bytes, bytes[0], streams[0].size);
            kept[kept_count++].size = streams[0].size;
        }
    }
    printf("%u streams, %d threads, %u kept, %d calls that can fail\n", (unsigned)number, threads,
           (unsigned)kept_count, (int)calls);
    return 0;
}
