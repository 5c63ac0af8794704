/* Times of steps, counted in the handle of a model that was built with timers.
 *
 * A look at the clock costs some 20 ns and as much again for what it holds up.  In a run of a few microseconds
 * that would be seen, so not every run is timed there: so many are left out that timers cost half a percent. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include <string.h>
#include <time.h>

enum { LOOKS = 8, BATCHES = 4, MOST_LEFT_OUT = 200, COSTS_A_RUN = 200 /* at least so many in its time */ };

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void dcc_timers_init(dcc_timers *timers) {
    uint64_t least = UINT64_MAX;
    for (int batch = 0; batch < BATCHES; batch++) {
        const uint64_t start = now_ns();
        uint64_t end = start;
        for (int i = 0; i < LOOKS; i++) {
            end = now_ns();
        }
        least = end - start < least ? end - start : least;
    }
    timers->look_ns = least / LOOKS;
}

void dcc_timers_reset(dcc_timers *timers, uint32_t step_count) {
    timers->left_out = 0;
    memset(timers->steps, 0, step_count * sizeof timers->steps[0]);
}

int dcc_timers_start(dcc_timers *timers, const dcc_watch *watch) {
    if (timers->left_out > 0) {
        timers->left_out--;
        return 0;
    }
    timers->watch = watch;
    timers->run_ns = 0;
    timers->before = now_ns();
    return 1;
}

void dcc_timers_take(void *context, uint32_t step, const void *arena) {
    dcc_timers *timers = context;
    const uint64_t now = now_ns();
    const uint64_t taken = now - timers->before;
    dcc_step_time *time = &timers->steps[step];
    time->min_ns = time->runs == 0 || taken < time->min_ns ? taken : time->min_ns;
    time->max_ns = taken > time->max_ns ? taken : time->max_ns;
    time->total_ns += taken;
    time->runs++;
    timers->run_ns += taken;
    timers->before = now;
    if (timers->watch != NULL) {
        /* What an observer does is no part of the next step. */
        timers->watch->observer(timers->watch->context, step, arena);
        timers->before = now_ns();
    }
}

void dcc_timers_end(dcc_timers *timers, uint32_t step_count) {
    const uint64_t cost = 2 * timers->look_ns * step_count;
    const uint64_t left_out = timers->run_ns == 0 ? MOST_LEFT_OUT : COSTS_A_RUN * cost / timers->run_ns;
    timers->left_out = left_out < MOST_LEFT_OUT ? (uint32_t)left_out : MOST_LEFT_OUT;
}
