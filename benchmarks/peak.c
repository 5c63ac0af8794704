/* What one core can do at best: multiply-adds a second from registers, bytes a second from a buffer.
 *
 * Compiled with -DBYTES=N, the width of a vector, for a processor that has vectors of that width.
 *
 *   peak fma SECONDS      prints GFLOP/s, two operations a multiply-add
 *   peak read KIB SECONDS prints GB/s of reading a buffer of that size again and again
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#define REGISTER "v"
#else
#define REGISTER "w"
#endif

enum { LANES = BYTES / sizeof(float) };
typedef float vector __attribute__((vector_size(BYTES)));

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Twelve chains hide a latency of 4 cycles at 2 (AVX) to 3 multiply-adds a cycle and fit into 16 registers. */
enum { CHAINS = 12, REPEATS = 100000 };

static float multiply_adds(vector a, vector b) {
    vector c0 = b, c1 = b, c2 = b, c3 = b, c4 = b, c5 = b, c6 = b, c7 = b, c8 = b, c9 = b, c10 = b, c11 = b;
    for (int i = 0; i < REPEATS; ++i) {
        c0 = c0 * a + b; c1 = c1 * a + b; c2 = c2 * a + b; c3 = c3 * a + b;
        c4 = c4 * a + b; c5 = c5 * a + b; c6 = c6 * a + b; c7 = c7 * a + b;
        c8 = c8 * a + b; c9 = c9 * a + b; c10 = c10 * a + b; c11 = c11 * a + b;
        /* Keeps each sum in its register and the twelve chains apart. */
        __asm__ volatile("" : "+" REGISTER(c0), "+" REGISTER(c1), "+" REGISTER(c2), "+" REGISTER(c3));
        __asm__ volatile("" : "+" REGISTER(c4), "+" REGISTER(c5), "+" REGISTER(c6), "+" REGISTER(c7));
        __asm__ volatile("" : "+" REGISTER(c8), "+" REGISTER(c9), "+" REGISTER(c10), "+" REGISTER(c11));
    }
    vector sum = c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11;
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += sum[lane];
    return total;
}

static float read_all(const vector *data, size_t count) {
    vector c0 = data[0], c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0, c6 = c0, c7 = c0;
    for (size_t i = 0; i + 8 <= count; i += 8) {
        c0 += data[i]; c1 += data[i + 1]; c2 += data[i + 2]; c3 += data[i + 3];
        c4 += data[i + 4]; c5 += data[i + 5]; c6 += data[i + 6]; c7 += data[i + 7];
    }
    vector sum = c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7;
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += sum[lane];
    return total;
}

/* The best of many short stretches: what is below it is other processes. */
static double best_rate(double work, double seconds, float (*once)(void *), void *argument) {
    volatile float sink = once(argument);
    double best = 0;
    for (const double end = now() + seconds; now() < end;) {
        const double start = now();
        sink = once(argument);
        const double rate = work / (now() - start);
        if (rate > best) best = rate;
    }
    (void)sink;
    return best;
}

static float fma_once(void *argument) {
    const float *values = argument;
    vector a, b;
    for (int lane = 0; lane < LANES; ++lane) { a[lane] = values[0]; b[lane] = values[1]; }
    return multiply_adds(a, b);
}

struct buffer { vector *data; size_t count; int repeats; };

static float read_once(void *argument) {
    const struct buffer *buffer = argument;
    float total = 0;
    for (int i = 0; i < buffer->repeats; ++i) {
        total += read_all(buffer->data, buffer->count);
        __asm__ volatile("" ::: "memory");
    }
    return total;
}

int main(int words, char **word) {
    if (words == 3 && strcmp(word[1], "fma") == 0) {
        float values[2] = {0.5f, 1.0f};
        const double flop = 2.0 * LANES * CHAINS * REPEATS;
        printf("%.2f\n", best_rate(flop, atof(word[2]), fma_once, values) * 1e-9);
        return 0;
    }
    if (words == 4 && strcmp(word[1], "read") == 0) {
        const size_t bytes = (size_t)atol(word[2]) << 10;
        struct buffer buffer = {NULL, bytes / BYTES, (int)((8 << 20) / bytes) + 1};
        void *data = NULL;
        if (bytes == 0 || posix_memalign(&data, 64, bytes) != 0) return 1;
        memset(data, 0, bytes);
        buffer.data = data;
        const double work = (double)bytes * buffer.repeats;
        printf("%.2f\n", best_rate(work, atof(word[3]), read_once, &buffer) * 1e-9);
        free(data);
        return 0;
    }
    fprintf(stderr, "usage: peak fma SECONDS | peak read KIB SECONDS\n");
    return 2;
}
