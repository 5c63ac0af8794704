/* The threads of a block as fibers: which one runs, barriers, and what the lanes of a warp wait for. */
#include "threads.h"

#include <stdio.h>

#include "fibers.h"
#include "races.h"

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
    dcc_fail_thread(block, first, text);
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
                dcc_fail_thread(block, t, "barrier that lanes of the same warp returned without reaching");
            if (t->aligned && t->place != first->place)
                dcc_fail_thread(block, t, "divergent barrier: lanes of one warp wait at different ones");
            make_ready(block, t);
        }
    }
    barrier->out_all = barrier->all;
    barrier->out_any = barrier->any;
    barrier->out_count = barrier->count;
    barrier->arrived = barrier->expected = 0;
    block->epoch++;
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
        dcc_fail_thread(block, thread, "needs all 32 lanes of the warp, and some have returned or never were");
    for (uint32_t left = mask; left; left &= left - 1) {
        const dcc_thread *lane = &lanes[__builtin_ctz(left)];
        if (lane->operation != thread->operation || lane->mask != thread->mask)
            dcc_fail_thread(block, thread, "lanes of one warp wait at different instructions or with other masks");
    }
    const char *wrong = thread->operation(block, lanes, mask);
    if (wrong) dcc_fail_thread(block, thread, wrong);
    warp->waiting &= ~mask;
    warp->epoch++;
    return true;
}

void dcc_together(dcc_block *block, dcc_thread *thread, dcc_operation operation, uint32_t mask, bool aligned,
                  uint32_t line)
{
    thread->place = line;
    if (!(mask >> thread->lane & 1)) dcc_fail_thread(block, thread, "a lane that its own mask does not hold");
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

static void copy_first(dcc_block *block, dcc_thread *thread)
{
    const dcc_copy *copy = &thread->copies[thread->first_copy];
    (void)block;
#if DCC_RACES
    uint8_t value[16] = {0};
    memcpy(value, copy->from, copy->read);
    dcc_note_write(block, thread->number, (uint64_t)(copy->to - block->shared), value, copy->bytes, false, copy->line);
#endif
    memcpy(copy->to, copy->from, copy->read);
    memset(copy->to + copy->read, 0, copy->bytes - copy->read);
    thread->first_copy = (thread->first_copy + 1) % DCC_COPIES;
    thread->copy_count--;
}

void dcc_copy_later(dcc_block *block, dcc_thread *thread, uint8_t *to, uint64_t from, uint32_t bytes,
                    uint32_t read, uint32_t line)
{
    if (thread->copy_count == DCC_COPIES) copy_first(block, thread);
#if DCC_RACES
    uint8_t value[16];
    memset(value, 0xff, sizeof value);
    dcc_note_write(block, thread->number, (uint64_t)(to - block->shared), value, bytes, false, line);
#endif
    memset(to, 0xff, bytes);
    thread->copies[(thread->first_copy + thread->copy_count++) % DCC_COPIES] =
        (dcc_copy){to, (const uint8_t *)(uintptr_t)from, bytes, read < bytes ? read : bytes, thread->copy_group, line};
}

void dcc_wait_for_copies(dcc_block *block, dcc_thread *thread, uint32_t groups_left)
{
    while (thread->copy_count && thread->copies[thread->first_copy].group + groups_left < thread->copy_group)
        copy_first(block, thread);
}

void dcc_thread_position(const dcc_block *block, uint32_t thread, uint32_t at[3])
{
    at[0] = thread % block->ntid[0];
    at[1] = thread / block->ntid[0] % block->ntid[1];
    at[2] = thread / block->ntid[0] / block->ntid[1];
}

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

void dcc_run_fibers(dcc_block *block, uint8_t *stacks, size_t stack_bytes)
{
    uint32_t n = block->threads;
    memset(block->barriers, 0, sizeof block->barriers);
    block->first_ready = block->ready_count = 0;
    block->live = n;
    for (uint32_t w = 0; w * 32 < n; w++) {
        uint32_t lanes = n - w * 32;
        block->warps[w] = (dcc_warp){lanes >= 32 ? UINT32_MAX : (1u << lanes) - 1, 0, 0};
    }
    for (uint32_t i = 0; i < n; i++) {
        dcc_thread *t = &block->all[i];
        t->number = i;
        t->lane = i % 32;
        dcc_thread_position(block, i, t->tid);
        t->first_copy = t->copy_count = t->copy_group = 0;
        t->stack_pointer = dcc_fiber(stacks + (i + 1) * stack_bytes, thread_main, block, t);
        make_ready(block, t);
    }
    dcc_switch(&block->main_stack_pointer, take_ready(block)->stack_pointer);
}
