/* Times of steps, counted in the handle of a model that was built with timers. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include <string.h>
#include <time.h>

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void dcc_timers_reset(dcc_timers *timers, uint32_t step_count) {
    memset(timers->steps, 0, step_count * sizeof timers->steps[0]);
}

void dcc_timers_start(dcc_timers *timers, const dcc_watch *watch) {
    timers->watch = watch;
    timers->before = now_ns();
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
    timers->before = now;
    if (timers->watch != NULL) {
        /* What an observer does is no part of the next step. */
        timers->watch->observer(timers->watch->context, step, arena);
        timers->before = now_ns();
    }
}
