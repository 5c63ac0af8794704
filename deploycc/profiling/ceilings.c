/* What the processors here can do at most: multiply-adds a second from registers, bytes a second from buffers.
 *
 *   driver FOLDER
 *
 * FOLDER/orders.txt has two numbers: how many threads, and seconds for each measurement.  Standard output gets
 * one JSON object: gflops (two a multiply-add) and, for each size of a buffer, the GB/s of reading it again and
 * again.  All threads work at once, each on its part of the buffer, and the best of many short stretches counts:
 * what is below it is other processes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16 /* without such registers the compiler takes what there is */
#endif

/* Keeps sums in their registers, and chains apart, where it is known what a register of vectors is called. */
#if defined(__SSE2__)
#define KEEP(a) __asm__ volatile("" : "+v"(a))
#elif defined(__aarch64__) || defined(__ARM_NEON)
#define KEEP(a) __asm__ volatile("" : "+w"(a))
#else
#define KEEP(a) (void)0
#endif

enum { LANES = BYTES / sizeof(float), CHAINS = 12, REPEATS = 2000 };
typedef float vector __attribute__((vector_size(BYTES)));

static volatile float factor = 0.5f, sink;
static double seconds;
static int thread_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float sum_of(vector v) {
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) {
        total += v[lane];
    }
    return total;
}

/* Twelve chains hide a latency of 4 cycles at 2 to 3 multiply-adds a cycle, and fit into 16 registers. */
static float multiply_adds(void) {
    const float one = factor;
    vector a, b;
    for (int lane = 0; lane < LANES; ++lane) {
        a[lane] = one;
        b[lane] = one + one;
    }
    vector c0 = b, c1 = b, c2 = b, c3 = b, c4 = b, c5 = b, c6 = b, c7 = b, c8 = b, c9 = b, c10 = b, c11 = b;
    for (int i = 0; i < REPEATS; ++i) {
        c0 = c0 * a + b, c1 = c1 * a + b, c2 = c2 * a + b, c3 = c3 * a + b;
        c4 = c4 * a + b, c5 = c5 * a + b, c6 = c6 * a + b, c7 = c7 * a + b;
        c8 = c8 * a + b, c9 = c9 * a + b, c10 = c10 * a + b, c11 = c11 * a + b;
        KEEP(c0);
        KEEP(c1);
        KEEP(c2);
        KEEP(c3);
        KEEP(c4);
        KEEP(c5);
        KEEP(c6);
        KEEP(c7);
        KEEP(c8);
        KEEP(c9);
        KEEP(c10);
        KEEP(c11);
    }
    return sum_of(c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11);
}

static float read_all(const vector *data, size_t count) {
    vector c0 = data[0], c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0, c6 = c0, c7 = c0;
    for (size_t i = 0; i + 8 <= count; i += 8) {
        c0 += data[i], c1 += data[i + 1], c2 += data[i + 2], c3 += data[i + 3];
        c4 += data[i + 4], c5 += data[i + 5], c6 += data[i + 6], c7 += data[i + 7];
    }
    return sum_of(c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7);
}

typedef struct {
    const vector *data; /* NULL: multiply-adds */
    size_t count;       /* vectors of the buffer */
    int repeats;
    double best;        /* work of a stretch over its time */
} worker;

static pthread_barrier_t together;

static void *work(void *argument) {
    worker *w = argument;
    const double amount =
        w->data == NULL ? 2.0 * LANES * CHAINS * REPEATS : (double)w->count * BYTES * w->repeats;
    pthread_barrier_wait(&together);
    /* The first stretches find pages and caches cold; there is one more than counts even where time is short. */
    for (double end = now() + seconds, start = 0; start < end;) {
        start = now();
        float total = 0;
        for (int i = 0; i < w->repeats; ++i) {
            total += w->data == NULL ? multiply_adds() : read_all(w->data, w->count);
            __asm__ volatile("" ::: "memory");
        }
        sink = total;
        const double rate = amount / (now() - start);
        w->best = rate > w->best ? rate : w->best;
    }
    return NULL;
}

/* The threads' rates together; `bytes` of the buffer that they share out, 0 for multiply-adds. */
static double rate(size_t bytes, vector *buffer) {
    pthread_t running[1024];
    worker workers[1024];
    const size_t each = bytes / BYTES / (size_t)thread_count;
    double total = 0;
    pthread_barrier_init(&together, NULL, (unsigned)thread_count);
    for (int i = 0; i < thread_count; ++i) {
        workers[i] = (worker){NULL, 0, 1, 0};
        if (bytes > 0) {
            workers[i] = (worker){buffer + (size_t)i * each, each, (int)((1 << 18) / (each * BYTES)) + 1, 0};
        }
        if (i > 0 && pthread_create(&running[i], NULL, work, &workers[i]) != 0) {
            fprintf(stderr, "a thread could not be started\n");
            exit(1);
        }
    }
    work(&workers[0]);
    for (int i = 0; i < thread_count; ++i) {
        if (i > 0) {
            pthread_join(running[i], NULL);
        }
        total += workers[i].best;
    }
    pthread_barrier_destroy(&together);
    return total * 1e-9;
}

int main(int words, char **word) {
    const size_t largest = (size_t)64 << 20;
    FILE *orders = words == 2 && chdir(word[1]) == 0 ? fopen("orders.txt", "r") : NULL;
    if (orders == NULL || fscanf(orders, "%d %lf", &thread_count, &seconds) != 2 || thread_count < 1
        || thread_count > 1024) {
        fprintf(stderr, "usage: driver FOLDER, with FOLDER/orders.txt: THREADS SECONDS\n");
        return 1;
    }
    fclose(orders);
    void *data = NULL;
    if (posix_memalign(&data, 64, largest) != 0) {
        fprintf(stderr, "no room for a buffer\n");
        return 1;
    }
    memset(data, 0, largest);
    printf("{\"gflops\": %.3f, \"levels\": [", rate(0, data));
    for (size_t bytes = (size_t)16 << 10; bytes <= largest; bytes *= 4) {
        const size_t all = bytes * (size_t)thread_count > largest ? largest : bytes * (size_t)thread_count;
        printf("%s[%zu, %.3f]", bytes > (size_t)16 << 10 ? ", " : "", bytes, rate(all, data));
    }
    printf("]}\n");
    free(data);
    return 0;
}
