/* Which processors threads may run on (placement.c); 0 or an error number. */
#ifndef DEPLOYCC_PLACEMENT_H
#define DEPLOYCC_PLACEMENT_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>

int dcc_confine(pthread_t thread, const cpu_set_t *set);
int dcc_pin(pthread_t thread, int32_t cpu);

#endif
