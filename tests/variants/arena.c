/* Handles of different models in one arena: by turns, and from threads that get in each other's way. */
#include "deploycc_rt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

#define WORDS 4096

/* Fills its part of the arena and adds it up again: somebody else in there shows, to TSan and in the sum. */
static int32_t fill(const void *const *in, void *const *out, void *arena, size_t words) {
    const uint32_t seed = *(const uint32_t *)in[0];
    uint32_t *mine = arena, sum = 0;
    for (size_t i = 0; i < words; i++) {
        mine[i] = seed + (uint32_t)i;
    }
    for (size_t i = 0; i < words; i++) {
        sum += mine[i] - (uint32_t)i;
    }
    *(uint32_t *)out[0] = sum;
    return 0;
}

static int32_t small_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)step, (void)watch;
    return fill(in, out, arena, WORDS / 2);
}

static int32_t large_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)step, (void)watch;
    return fill(in, out, arena, WORDS);
}

static const dcc_tensor number = {"n", 0, 0, NULL, 1, 4, 4};
static const char *const names[] = {"fill"};
static const dcc_model small = {DCC_ABI, 1, 1, 1, "small", &number, &number, names, 2 * WORDS, 0, 0, small_steps, 0};
static const dcc_model large = {DCC_ABI, 1, 1, 1, "large", &number, &number, names, 4 * WORDS, 0, 0, large_steps, 0};

static uint32_t run(dcc_handle *handle, uint32_t seed) {
    uint32_t result = 0;
    const void *in[] = {&seed};
    void *out[] = {&result};
    CHECK(dcc_run(handle, in, out) == DCC_OK);
    return result;
}

static void turns(void) {
    dcc_arena *arena = NULL;
    dcc_handle *a = NULL, *b = NULL, *c = NULL;
    const dcc_options options = {sizeof options, 1, -1, NULL, 0, NULL, 0};
    CHECK(dcc_arena_create(0, &arena) == DCC_ERROR_ARGUMENT && arena == NULL);
    CHECK(dcc_arena_create(64, NULL) == DCC_ERROR_ARGUMENT);
    CHECK(dcc_arena_create(SIZE_MAX, &arena) == DCC_ERROR_ARGUMENT);
    CHECK(dcc_arena_create(dcc_memory_bytes(&small, &options), &arena) == DCC_OK);
    CHECK(dcc_create_in(&large, &options, arena, &a) == DCC_ERROR_ARGUMENT && a == NULL);
    CHECK(strstr(dcc_last_error(NULL), "hold 16384 bytes") != NULL);
    CHECK(dcc_arena_destroy(arena) == DCC_OK); /* the failed handle is not in it */

    CHECK(dcc_arena_create(dcc_memory_bytes(&large, &options), &arena) == DCC_OK);
    CHECK(dcc_create_in(&small, &options, NULL, &a) == DCC_ERROR_ARGUMENT && a == NULL);
    CHECK(dcc_create_in(&small, &options, arena, NULL) == DCC_ERROR_ARGUMENT);
    const dcc_options own = {sizeof own, 1, -1, NULL, 0, arena, 64};
    CHECK(dcc_create_in(&small, &own, arena, &a) == DCC_ERROR_ARGUMENT && a == NULL);
    CHECK(strstr(dcc_last_error(NULL), "takes one of them") != NULL);
    CHECK(dcc_create_in(&small, &options, arena, &a) == DCC_OK);
    CHECK(dcc_create_in(&large, NULL, arena, &b) == DCC_OK || dcc_usable_cpus() > 1);
    if (b == NULL) {
        CHECK(dcc_create_in(&large, &options, arena, &b) == DCC_OK);
    }
    CHECK(dcc_create(&large, &options, &c) == DCC_OK); /* with memory of its own */
    CHECK(dcc_arena_destroy(arena) == DCC_ERROR_BUSY);
    for (uint32_t i = 1; i < 50; i++) {
        CHECK(run(a, i) == i * (WORDS / 2) && run(b, i) == i * WORDS && run(c, i) == i * WORDS);
    }
    CHECK(dcc_destroy(a) == DCC_OK && dcc_arena_destroy(arena) == DCC_ERROR_BUSY);
    CHECK(run(b, 7) == 7 * WORDS);
    CHECK(dcc_destroy(b) == DCC_OK && dcc_arena_destroy(arena) == DCC_OK && dcc_destroy(c) == DCC_OK);
    CHECK(dcc_arena_destroy(NULL) == DCC_OK);
}

/* ---- threads ---- */

typedef struct job {
    dcc_handle *handle;
    uint32_t seed, words;
    int done, busy;
} job;

static void *work(void *given) {
    job *mine = given;
    while (mine->done < 300) {
        uint32_t result = 0;
        const void *in[] = {&mine->seed};
        void *out[] = {&result};
        const dcc_status status = dcc_run(mine->handle, in, out);
        CHECK(status == DCC_OK || status == DCC_ERROR_BUSY);
        CHECK(status == DCC_OK ? result == mine->seed * mine->words : result == 0);
        status == DCC_OK ? mine->done++ : mine->busy++;
    }
    return NULL;
}

static void threads(void) {
    enum { COUNT = 4 };
    pthread_t thread[COUNT];
    job jobs[COUNT];
    dcc_arena *arena = NULL;
    const dcc_options options = {sizeof options, 1, -1, NULL, 0, NULL, 0};
    CHECK(dcc_arena_create(4 * WORDS, &arena) == DCC_OK);
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = (job){NULL, (uint32_t)i + 3, i % 2 ? WORDS : WORDS / 2, 0, 0};
        CHECK(dcc_create_in(i % 2 ? &large : &small, &options, arena, &jobs[i].handle) == DCC_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK(pthread_create(&thread[i], NULL, work, &jobs[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
        CHECK(dcc_destroy(jobs[i].handle) == DCC_OK);
    }
    CHECK(dcc_arena_destroy(arena) == DCC_OK);
}

/* ---- a run that is inside while another one comes ---- */

static dcc_handle *other;
static dcc_status met;

static void meet(void *context, uint32_t step, const void *arena) {
    uint32_t seed = 1, result = 9;
    const void *in[] = {&seed};
    void *out[] = {&result};
    (void)context, (void)step, (void)arena;
    met = dcc_run(other, in, out);
    CHECK(result == 9);
}

static int32_t watched_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                             const dcc_watch *watch) {
    *(uint32_t *)arena = *(const uint32_t *)in[0];
    *step = 0;
    watch->observer(watch->context, 0, arena);
    *(uint32_t *)out[0] = *(uint32_t *)arena;
    return 0;
}

static void contended(void) {
    static const dcc_model watched = {DCC_ABI, 1, 1, 1, "w", &number, &number, names, 64, 0, 0, watched_steps, 0};
    dcc_arena *arena = NULL;
    dcc_handle *handle = NULL;
    const dcc_options options = {sizeof options, 1, -1, NULL, 0, NULL, 0};
    CHECK(dcc_arena_create(4 * WORDS, &arena) == DCC_OK);
    CHECK(dcc_create_in(&watched, &options, arena, &handle) == DCC_OK);
    CHECK(dcc_create_in(&large, &options, arena, &other) == DCC_OK);
    CHECK(dcc_observe(handle, meet, NULL) == DCC_OK);
    CHECK(run(handle, 42) == 42);
    CHECK(met == DCC_ERROR_BUSY && strcmp(dcc_last_error(other), "another handle runs in the same arena") == 0);
    CHECK(run(other, 2) == 2 * WORDS); /* and afterwards it is free */
    CHECK(dcc_destroy(handle) == DCC_OK && dcc_destroy(other) == DCC_OK && dcc_arena_destroy(arena) == DCC_OK);
}

int main(void) {
    turns();
    threads();
    contended();
    return 0;
}
