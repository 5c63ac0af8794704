/* Grids: the blocks in their order, what memory they get, and what ends a launch. */
#define _GNU_SOURCE
#include "emulated.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fibers.h"
#include "threads.h"

DCC_EXPORT int (*dcc_emulated_check)(const void *address, uint64_t bytes) = NULL;
DCC_EXPORT uint64_t dcc_emulated_seed = 0;
DCC_EXPORT const uint64_t (*dcc_emulated_ranges)[2] = NULL;
DCC_EXPORT uint32_t dcc_emulated_range_count = 0;

DCC_EXPORT int dcc_emulated_in_ranges(const void *address, uint64_t bytes)
{
    uint64_t at = (uint64_t)(uintptr_t)address;
    for (uint32_t i = 0; i < dcc_emulated_range_count; i++)
        if (at >= dcc_emulated_ranges[i][0] && at + bytes <= dcc_emulated_ranges[i][1]) return 1;
    return 0;
}

__attribute__((constructor)) static void read_seed(void)
{
    const char *seed = getenv("DEPLOYCC_EMULATED_SEED");
    if (seed) dcc_emulated_seed = strtoull(seed, NULL, 0);
}

/* splitmix64 */
uint64_t dcc_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- failures ---- */

static _Noreturn void leave(dcc_block *block)
{
    block->failed = true;
    if (block->all == NULL) longjmp(*(jmp_buf *)block->escape, 1);
    void *gone;
    dcc_switch(&gone, block->main_stack_pointer);
    __builtin_unreachable();
}

static int write_place(dcc_block *b, uint32_t x, uint32_t y, uint32_t z, uint32_t line)
{
    return snprintf(b->error, 256, "kernel %.80s, block (%u,%u,%u), thread (%u,%u,%u), PTX line %u: ", b->kernel,
                    b->ctaid[0], b->ctaid[1], b->ctaid[2], x, y, z, line);
}

void dcc_fail(dcc_block *block, uint32_t x, uint32_t y, uint32_t z, uint32_t line, dcc_fault fault,
              uint64_t value, uint32_t bytes)
{
    int n = write_place(block, x, y, z, line);
    char *to = block->error + n;
    size_t room = 256 - (size_t)n;
    switch (fault) {
    case DCC_FAULT_TRAP: snprintf(to, room, "trap"); break;
    case DCC_FAULT_ASSERT: snprintf(to, room, "assertion failed"); break;
    case DCC_FAULT_SHARED:
        snprintf(to, room, "%u bytes at %llu of %u bytes of shared memory", bytes, (unsigned long long)value,
                 block->shared_bytes);
        break;
    case DCC_FAULT_ALIGNMENT:
        snprintf(to, room, "misaligned: %u bytes at 0x%llx", bytes, (unsigned long long)value);
        break;
    case DCC_FAULT_ENDLESS:
        snprintf(to, room, "a loop without end: %llu jumps backwards", (unsigned long long)value);
        break;
    case DCC_FAULT_GLOBAL:
        snprintf(to, room, "%u bytes at 0x%llx are in no allocation", bytes, (unsigned long long)value);
        break;
    }
    leave(block);
}

_Noreturn void dcc_fail_thread(dcc_block *block, const dcc_thread *t, const char *text)
{
    int n = write_place(block, t->tid[0], t->tid[1], t->tid[2], t->place);
    snprintf(block->error + n, 256 - (size_t)n, "%s", text);
    leave(block);
}

/* ---- memory of a launch ---- */

static void shuffle(uint16_t *order, uint32_t n, uint64_t *random)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)(dcc_random(random) % i);
        uint16_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}

typedef struct Memory {
    uint8_t *stacks, *shared;
    size_t stack_bytes;
    dcc_thread *threads;
    dcc_copy *copies;
    dcc_byte *bytes;
    dcc_block *block;
    uint16_t *order;
} Memory;

/* Stacks outlive a launch: making a thousand of them takes longer than a small kernel.  Their size stands in a
 * page before them. */
enum { PAGE = 4096 };
static uint8_t *kept_stacks;

static void free_stacks(uint8_t *stacks)
{
    if (stacks) munmap(stacks - PAGE, *(size_t *)(stacks - PAGE));
}

static uint8_t *take_stacks(size_t bytes)
{
    uint8_t *kept = __atomic_exchange_n(&kept_stacks, NULL, __ATOMIC_ACQ_REL);
    bytes += PAGE;
    if (kept && *(size_t *)(kept - PAGE) >= bytes) return kept;
    free_stacks(kept);
    void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) return NULL;
    *(size_t *)made = bytes;
    return (uint8_t *)made + PAGE;
}

static void give_stacks(uint8_t *stacks)
{
    if (stacks) free_stacks(__atomic_exchange_n(&kept_stacks, stacks, __ATOMIC_ACQ_REL));
}

/* The lowest word of each stack: whoever needs more than was thought changes it. */
static const uint64_t CANARY = UINT64_C(0x5ca1ab1e0ddba11);

static void mark_stacks(const Memory *memory, uint64_t threads)
{
    for (uint64_t i = 0; i < threads; i++) memcpy(memory->stacks + i * memory->stack_bytes, &CANARY, 8);
}

static bool stacks_held(const Memory *memory, uint64_t threads)
{
    for (uint64_t i = 0; i < threads; i++)
        if (memcmp(memory->stacks + i * memory->stack_bytes, &CANARY, 8) != 0) return false;
    return true;
}

static void run_block(const dcc_launch *launch, dcc_block *block, Memory *memory)
{
    block->epoch++;
#if DCC_CHECKS
    memset(block->shared, 0xff, block->shared_bytes); /* NaN in every type of floats */
#endif
    if (launch->thread) {
        dcc_run_fibers(block, memory->stacks, memory->stack_bytes);
        return;
    }
    if (block->random) shuffle(memory->order, block->threads, &block->random);
    jmp_buf escape;
    block->escape = &escape;
    if (setjmp(escape) == 0) launch->loop(block);
}

static void free_memory(Memory *m)
{
    free(m->shared);
    free(m->threads);
    free(m->copies);
    free(m->order);
    free(m->bytes);
    free(m->block);
}

int32_t dcc_run(const dcc_launch *launch, const uint32_t grid[3], const uint32_t block[3],
                uint32_t dynamic_shared_bytes, const void *parameters, char *error)
{
    const dcc_emulated_kernel *kernel = launch->kernel;
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    error[0] = 0;
    if (threads == 0 || threads > 1024 || blocks == 0 || (kernel->max_threads && threads > kernel->max_threads)) {
        snprintf(error, 256, "kernel %.80s: %llu blocks of %llu threads, where at most %u threads are taken",
                 kernel->name, (unsigned long long)blocks, (unsigned long long)threads,
                 kernel->max_threads ? kernel->max_threads : 1024);
        return 1;
    }
    /* Dynamic shared memory comes after the static one, aligned as it asks for. */
    uint32_t shared = (kernel->static_shared_bytes + launch->shared_align - 1) & ~(launch->shared_align - 1);
    shared = dynamic_shared_bytes ? shared + dynamic_shared_bytes : kernel->static_shared_bytes;
    Memory m = {0};
    m.stack_bytes = launch->stack_bytes;
    m.block = calloc(1, sizeof *m.block);
    m.shared = aligned_alloc(1024, (shared + 2047) & ~1023u);
    m.order = calloc(threads, sizeof *m.order);
    bool ok = m.block && m.shared && m.order;
#if DCC_RACES
    m.bytes = calloc(shared + 1, sizeof *m.bytes);
    ok = ok && m.bytes;
#endif
    if (launch->thread) {
        m.threads = calloc(threads, sizeof *m.threads);
        if (launch->copies) m.copies = calloc(threads * DCC_COPIES, sizeof *m.copies);
        m.stacks = take_stacks(m.stack_bytes * threads);
        ok = ok && m.threads && m.stacks && (m.copies || !launch->copies);
    }
    if (!ok) {
        give_stacks(m.stacks);
        free_memory(&m);
        snprintf(error, 256, "kernel %.80s: no memory for %llu threads", kernel->name, (unsigned long long)threads);
        return 2;
    }
    if (m.stacks) mark_stacks(&m, threads);
    dcc_block *b = m.block;
    b->shared = m.shared;
    b->shared_bytes = shared;
    b->bytes = m.bytes;
    b->dynamic_bytes = dynamic_shared_bytes;
    b->parameters = parameters;
    memcpy(b->nctaid, grid, sizeof b->nctaid);
    memcpy(b->ntid, block, sizeof b->ntid);
    b->threads = (uint32_t)threads;
    b->kernel = kernel->name;
    b->error = error;
    b->all = m.threads;
    b->thread = launch->thread;
    b->random = dcc_emulated_seed;
    b->order = b->random ? m.order : NULL;
    for (uint32_t i = 0; i < threads; i++) {
        m.order[i] = (uint16_t)i;
        if (m.copies) m.threads[i].copies = m.copies + (size_t)i * DCC_COPIES;
    }
    /* In random order: a walk of the blocks with a step that has no factor in common with their number. */
    uint64_t step = 1, at = 0;
    if (b->random) {
        at = dcc_random(&b->random) % blocks;
        do {
            step = dcc_random(&b->random) % blocks + 1;
            for (uint64_t x = step, y = blocks; y;) {
                uint64_t z = x % y;
                x = y;
                y = z;
                if (y == 0 && x != 1) step = 0;
            }
        } while (step == 0);
    }
    for (uint64_t i = 0; i < blocks && !b->failed; i++) {
        b->ctaid[0] = (uint32_t)(at % grid[0]);
        b->ctaid[1] = (uint32_t)(at / grid[0] % grid[1]);
        b->ctaid[2] = (uint32_t)(at / grid[0] / grid[1]);
        run_block(launch, b, &m);
        at = (at + step) % blocks;
    }
    bool failed = b->failed;
    if (m.stacks && !stacks_held(&m, threads)) {
        snprintf(error, 256, "kernel %.80s: the emulation's own stacks are too small", kernel->name);
        failed = true;
    }
    give_stacks(m.stacks);
    free_memory(&m);
    return failed ? 3 : 0;
}
