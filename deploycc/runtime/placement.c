/* Which processors threads may run on. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "deploycc_rt.h"

#include "placement.h"

#include <unistd.h>

int32_t dcc_usable_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int count = CPU_COUNT(&set);
        if (count > 0) {
            return count;
        }
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online <= DCC_MAX_THREADS ? (int32_t)online : 1;
}

int dcc_confine(pthread_t thread, const cpu_set_t *set) {
#if !defined(__ANDROID__)
    return pthread_setaffinity_np(thread, sizeof *set, set);
#else /* bionic does so by thread id only */
    return sched_setaffinity(pthread_gettid_np(thread), sizeof *set, set);
#endif
}

int dcc_pin(pthread_t thread, int32_t cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return dcc_confine(thread, &set);
}
