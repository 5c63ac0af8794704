/* The log, failures that are asked for, and the state of the process. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "emulated.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_NAMES 128

int64_t emulated_live[LIVE_KINDS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *log_file;
static int32_t started_by; /* process id of cuInit's caller; 0 before */
static cu_result broken;
static struct { const char *symbol; uint32_t calls; } counts[MOST_NAMES];

static void put(const char *format, va_list values) {
    if (log_file == NULL) {
        const char *path = getenv("DEPLOYCC_EMULATED_LOG");
        log_file = path == NULL || *path == '\0' ? NULL : fopen(path, "a");
        if (log_file == NULL) {
            return;
        }
    }
    (void)vfprintf(log_file, format, values);
    (void)fflush(log_file);
}

void emulated_log(const char *format, ...) {
    va_list values;
    va_start(values, format);
    put(format, values);
    va_end(values);
}

void emulated_break(cu_result result, const char *format, ...) {
    char text[400];
    va_list values;
    va_start(values, format);
    (void)vsnprintf(text, sizeof text, format, values);
    va_end(values);
    (void)fprintf(stderr, "emulated GPU: %s\n", text);
    emulated_log("broken %d %s\n", (int)result, text);
    broken = broken == CU_OK ? result : broken;
}

cu_result emulated_broken(void) {
    return broken;
}

/* DEPLOYCC_EMULATED_FAIL: cuMemAlloc_v2:2:2,... is the second call's result 2; a * is any call of any function. */
static cu_result asked_for(const char *symbol, uint32_t call) {
    const char *at = getenv("DEPLOYCC_EMULATED_FAIL");
    while (at != NULL && *at != '\0') {
        char name[64];
        unsigned number = 0;
        int result = 0;
        if (sscanf(at, "%63[^:]:%u:%d", name, &number, &result) == 3 && number == call && strcmp(name, symbol) == 0) {
            return result;
        }
        at = strchr(at, ',');
        at = at == NULL ? NULL : at + 1;
    }
    return CU_OK;
}

static uint32_t count_call(const char *symbol) {
    size_t i = 0;
    while (i + 1 < MOST_NAMES && counts[i].symbol != NULL && strcmp(counts[i].symbol, symbol) != 0) {
        i++;
    }
    counts[i].symbol = symbol;
    return ++counts[i].calls;
}

static int begins(const char *symbol, const char *start) {
    return strncmp(symbol, start, strlen(start)) == 0;
}

/* Functions that work without a context, and after an error that costs it. */
static int needs_context(const char *symbol) {
    return !begins(symbol, "cuInit") && !begins(symbol, "cuDriver") && !begins(symbol, "cuGetError")
        && !begins(symbol, "cuDevice") && !begins(symbol, "cuCtx");
}

cu_result emulated_enter(const char *symbol, const char *format, ...) {
    (void)pthread_mutex_lock(&lock);
    const cu_result asked = asked_for(symbol, count_call(symbol));
    emulated_log("%s", symbol);
    va_list values;
    va_start(values, format);
    put(format, values);
    va_end(values);
    cu_result result = asked;
    if (strcmp(symbol, "cuInit") == 0) {
        started_by = asked == CU_OK ? (int32_t)getpid() : started_by;
    } else if (!begins(symbol, "cuGetError") && !begins(symbol, "cuDriver") && started_by != (int32_t)getpid()) {
        result = CU_NOT_INITIALIZED;
    }
    if (result == CU_OK && needs_context(symbol)) {
        result = emulated_current_device() < 0 ? CU_INVALID_CONTEXT : broken;
    }
    if (asked != CU_OK && asked >= CU_ILLEGAL_ADDRESS && asked <= CU_LAUNCH_FAILED && asked != CU_OUT_OF_RESOURCES) {
        broken = asked;
    }
    emulated_log(result == CU_OK ? "\n" : " = %d\n", (int)result);
    if (result != CU_OK) {
        (void)pthread_mutex_unlock(&lock);
    }
    return result;
}

cu_result emulated_leave(cu_result result) {
    if (result != CU_OK) {
        emulated_log("  = %d\n", (int)result);
    }
    (void)pthread_mutex_unlock(&lock);
    return result;
}

__attribute__((destructor)) static void tell_end(void) {
    static const char *const names[LIVE_KINDS] = {"memory", "host", "streams", "events",
                                                  "graphs", "execs", "modules", "contexts"};
    if (started_by != (int32_t)getpid()) {
        return;
    }
    emulated_log("end");
    for (int i = 0; i < LIVE_KINDS; i++) {
        emulated_log(" %s=%lld", names[i], (long long)emulated_live[i]);
    }
    emulated_log("\n");
}
