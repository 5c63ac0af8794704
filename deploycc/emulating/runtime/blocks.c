/* Blocks and their threads: the order in which they run, barriers, and what ends a launch. */
#define _GNU_SOURCE
#include "emulated.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fibers.h"

DCC_EXPORT int (*dcc_emulated_check)(const void *address, uint64_t bytes) = NULL;
DCC_EXPORT uint64_t dcc_emulated_seed = 0;

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
    case DCC_FAULT_GLOBAL:
        snprintf(to, room, "%u bytes at 0x%llx are in no allocation", bytes, (unsigned long long)value);
        break;
    }
    leave(block);
}

static _Noreturn void fail_thread(dcc_block *block, const dcc_thread *t, const char *text)
{
    int n = write_place(block, t->tid[0], t->tid[1], t->tid[2], t->place);
    snprintf(block->error + n, 256 - (size_t)n, "%s", text);
    leave(block);
}

static _Noreturn void fail_stuck(dcc_block *block)
{
    const dcc_thread *first = NULL, *other = NULL;
    uint32_t at_barriers = 0, at_operations = 0;
    for (uint32_t i = 0; i < block->threads; i++) {
        const dcc_thread *t = &block->all[i];
        if (t->state == DCC_DONE) continue;
        if (first == NULL) first = t;
        else if (other == NULL && (t->place != first->place || t->state != first->state)) other = t;
        *(t->state == DCC_AT_BARRIER ? &at_barriers : &at_operations) += 1;
    }
    char text[200];
    int n = snprintf(text, sizeof text,
                     "stuck: %u threads wait at a barrier, %u for other lanes, %u have returned", at_barriers,
                     at_operations, block->threads - block->live);
    if (other)
        snprintf(text + n, sizeof text - (size_t)n, "; thread (%u,%u,%u) waits at line %u", other->tid[0],
                 other->tid[1], other->tid[2], other->place);
    fail_thread(block, first, text);
}

/* ---- which thread runs ---- */

static void make_ready(dcc_block *block, dcc_thread *thread)
{
    thread->state = DCC_READY;
    block->ready[(block->first_ready + block->ready_count++) & 1023] = (uint16_t)thread->number;
}

static dcc_thread *take_ready(dcc_block *block)
{
    if (block->ready_count == 0) return NULL;
    if (block->random) {
        uint32_t at = (block->first_ready + (uint32_t)(dcc_random(&block->random) % block->ready_count)) & 1023;
        uint16_t chosen = block->ready[at];
        block->ready[at] = block->ready[block->first_ready];
        block->ready[block->first_ready] = chosen;
    }
    dcc_thread *next = &block->all[block->ready[block->first_ready]];
    block->first_ready = (block->first_ready + 1) & 1023;
    block->ready_count--;
    return next;
}

/* Runs others until `thread`, which waits, is released and has its turn. */
static void give_way(dcc_block *block, dcc_thread *thread)
{
    dcc_thread *next = take_ready(block);
    if (next == NULL) fail_stuck(block);
    if (next != thread) dcc_switch(&thread->stack_pointer, next->stack_pointer);
}

/* ---- barriers ---- */

static void release_barrier(dcc_block *block, uint32_t number)
{
    dcc_barrier *barrier = &block->barriers[number];
    for (uint32_t w = 0; w * 32 < block->threads; w++) {
        uint32_t present = block->warps[w].present;
        const dcc_thread *first = NULL;
        for (uint32_t i = w * 32; i < block->threads && i < w * 32 + 32; i++) {
            dcc_thread *t = &block->all[i];
            if (t->state != DCC_AT_BARRIER || t->barrier != number) continue;
            if (first == NULL) first = t;
            uint32_t lanes = block->threads - w * 32 < 32 ? (1u << (block->threads - w * 32)) - 1 : UINT32_MAX;
            if (t->aligned && present != lanes)
                fail_thread(block, t, "barrier that lanes of the same warp returned without reaching");
            if (t->aligned && t->place != first->place)
                fail_thread(block, t, "divergent barrier: lanes of one warp wait at different ones");
            make_ready(block, t);
        }
    }
    barrier->out_all = barrier->all;
    barrier->out_any = barrier->any;
    barrier->out_count = barrier->count;
    barrier->arrived = barrier->expected = 0;
}

static void arrive(dcc_block *block, uint32_t number, uint32_t count, bool predicate)
{
    dcc_barrier *barrier = &block->barriers[number];
    if (barrier->arrived == 0) {
        barrier->all = 1;
        barrier->any = barrier->count = 0;
        barrier->expected = count;
    }
    barrier->arrived++;
    barrier->all &= predicate;
    barrier->any |= predicate;
    barrier->count += predicate;
}

static bool is_complete(const dcc_block *block, const dcc_barrier *barrier)
{
    return barrier->arrived != 0 && barrier->arrived >= (barrier->expected ? barrier->expected : block->live);
}

void dcc_wait_at_barrier(dcc_block *block, dcc_thread *thread, uint32_t number, uint32_t count, bool aligned,
                         bool predicate, uint32_t line)
{
    number &= 15;
    thread->state = DCC_AT_BARRIER;
    thread->barrier = number;
    thread->aligned = aligned;
    thread->place = line;
    arrive(block, number, count, predicate);
    if (is_complete(block, &block->barriers[number])) release_barrier(block, number);
    give_way(block, thread);
}

void dcc_arrive_at_barrier(dcc_block *block, dcc_thread *thread, uint32_t number, uint32_t count)
{
    (void)thread;
    arrive(block, number & 15, count, false);
    if (is_complete(block, &block->barriers[number & 15])) release_barrier(block, number & 15);
}

/* ---- what a warp does together ---- */

static bool try_operation(dcc_block *block, dcc_thread *thread)
{
    dcc_warp *warp = &block->warps[thread->number / 32];
    dcc_thread *lanes = &block->all[thread->number / 32 * 32];
    uint32_t mask = thread->mask & warp->present;
    if (mask & ~warp->waiting) return false;
    if (thread->aligned && warp->present != UINT32_MAX)
        fail_thread(block, thread, "needs all 32 lanes of the warp, and some have returned or never were");
    for (uint32_t left = mask; left; left &= left - 1) {
        const dcc_thread *lane = &lanes[__builtin_ctz(left)];
        if (lane->operation != thread->operation || lane->mask != thread->mask)
            fail_thread(block, thread, "lanes of one warp wait at different instructions or with other masks");
    }
    const char *wrong = thread->operation(block, lanes, mask);
    if (wrong) fail_thread(block, thread, wrong);
    warp->waiting &= ~mask;
    return true;
}

void dcc_together(dcc_block *block, dcc_thread *thread, dcc_operation operation, uint32_t mask, bool aligned,
                  uint32_t line)
{
    thread->place = line;
    if (!(mask >> thread->lane & 1)) fail_thread(block, thread, "a lane that its own mask does not hold");
    thread->state = DCC_AT_OPERATION;
    thread->operation = operation;
    thread->mask = mask;
    thread->aligned = aligned;
    block->warps[thread->number / 32].waiting |= 1u << thread->lane;
    if (!try_operation(block, thread)) {
        give_way(block, thread);
        return;
    }
    uint32_t others = mask & block->warps[thread->number / 32].present & ~(1u << thread->lane);
    for (; others; others &= others - 1)
        make_ready(block, &block->all[thread->number / 32 * 32 + (uint32_t)__builtin_ctz(others)]);
    thread->state = DCC_READY;
    if (block->random) { /* else the last lane to come would always run on first */
        make_ready(block, thread);
        give_way(block, thread);
    }
}

/* A thread has returned: others may have waited for nobody else. */
static void release_those_left(dcc_block *block, dcc_thread *thread)
{
    dcc_warp *warp = &block->warps[thread->number / 32];
    dcc_thread *lanes = &block->all[thread->number / 32 * 32];
    for (uint32_t left = warp->waiting; left; left &= left - 1) {
        dcc_thread *lane = &lanes[__builtin_ctz(left)];
        if (!(warp->waiting & (1u << lane->lane)) || !try_operation(block, lane)) continue;
        uint32_t all = lane->mask & warp->present;
        for (; all; all &= all - 1) make_ready(block, &lanes[__builtin_ctz(all)]);
    }
    for (uint32_t i = 0; i < 16; i++)
        if (block->live && is_complete(block, &block->barriers[i])) release_barrier(block, i);
}

/* ---- asynchronous copies: done as late as the kernel allows ---- */

static void copy_first(dcc_thread *thread)
{
    const dcc_copy *copy = &thread->copies[thread->first_copy];
    memcpy(copy->to, copy->from, copy->read);
    memset(copy->to + copy->read, 0, copy->bytes - copy->read);
    thread->first_copy = (thread->first_copy + 1) % DCC_COPIES;
    thread->copy_count--;
}

void dcc_copy_later(dcc_block *block, dcc_thread *thread, uint8_t *to, uint64_t from, uint32_t bytes,
                    uint32_t read)
{
    (void)block;
    if (thread->copy_count == DCC_COPIES) copy_first(thread);
    memset(to, 0xff, bytes);
    thread->copies[(thread->first_copy + thread->copy_count++) % DCC_COPIES] =
        (dcc_copy){to, (const uint8_t *)(uintptr_t)from, bytes, read < bytes ? read : bytes, thread->copy_group};
}

void dcc_wait_for_copies(dcc_thread *thread, uint32_t groups_left)
{
    while (thread->copy_count && thread->copies[thread->first_copy].group + groups_left < thread->copy_group)
        copy_first(thread);
}

/* ---- the grid ---- */

static void thread_main(void *argument, void *argument2)
{
    dcc_block *block = argument;
    dcc_thread *thread = argument2;
    block->thread(block, thread);
    thread->state = DCC_DONE;
    block->live--;
    block->warps[thread->number / 32].present &= ~(1u << thread->lane);
    release_those_left(block, thread);
    dcc_thread *next = take_ready(block);
    if (next == NULL && block->live) {
        fail_stuck(block);
    }
    void *gone;
    dcc_switch(&gone, next ? next->stack_pointer : block->main_stack_pointer);
    __builtin_unreachable();
}

static void run_fibers(dcc_block *block, uint8_t *stacks, size_t stack_bytes)
{
    uint32_t n = block->threads;
    memset(block->barriers, 0, sizeof block->barriers);
    block->first_ready = block->ready_count = 0;
    block->live = n;
    for (uint32_t w = 0; w * 32 < n; w++) {
        uint32_t lanes = n - w * 32;
        block->warps[w] = (dcc_warp){lanes >= 32 ? UINT32_MAX : (1u << lanes) - 1, 0};
    }
    for (uint32_t i = 0; i < n; i++) {
        dcc_thread *t = &block->all[i];
        t->number = i;
        t->lane = i % 32;
        t->tid[0] = i % block->ntid[0];
        t->tid[1] = i / block->ntid[0] % block->ntid[1];
        t->tid[2] = i / block->ntid[0] / block->ntid[1];
        t->first_copy = t->copy_count = t->copy_group = 0;
        t->stack_pointer = dcc_fiber(stacks + (i + 1) * stack_bytes, thread_main, block, t);
        make_ready(block, t);
    }
    dcc_switch(&block->main_stack_pointer, take_ready(block)->stack_pointer);
}

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
#if DCC_CHECKS
    memset(block->shared, 0xff, block->shared_bytes); /* NaN in every type of floats */
#endif
    if (launch->thread) {
        run_fibers(block, memory->stacks, memory->stack_bytes);
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
