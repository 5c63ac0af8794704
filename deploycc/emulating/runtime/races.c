#include "races.h"

#if DCC_RACES
#include <stdio.h>

#include "threads.h"

static bool races(const dcc_block *block, const dcc_access *before, uint32_t thread)
{
    if (before->epoch != block->epoch || before->thread == thread) return false;
    uint32_t warp = thread / 32;
    return before->thread / 32 != warp || before->warp_epoch == block->warps[warp].epoch;
}

static _Noreturn void fail(dcc_block *block, uint32_t thread, uint32_t line, const dcc_access *before,
                           uint64_t offset, const char *what)
{
    dcc_thread here = {.place = line, .number = thread};
    dcc_thread_position(block, thread, here.tid);
    uint32_t there[3];
    dcc_thread_position(block, before->thread, there);
    char text[160];
    snprintf(text, sizeof text, "race: %s byte %llu of shared memory, thread (%u,%u,%u) at line %u, no barrier between",
             what, (unsigned long long)offset, there[0], there[1], there[2], before->line);
    dcc_fail_thread(block, &here, text);
}

static dcc_access now(const dcc_block *block, uint32_t thread, uint32_t line, bool atomic)
{
    return (dcc_access){block->epoch, block->warps[thread / 32].epoch, line, (uint16_t)thread, atomic};
}

void dcc_note_read(dcc_block *block, uint32_t thread, uint64_t offset, uint32_t bytes, uint32_t line)
{
    if (offset >= block->shared_bytes) return; /* a generic address that is elsewhere */
    for (uint64_t at = offset; at < offset + bytes; at++) {
        dcc_byte *byte = &block->bytes[at];
        if (races(block, &byte->write, thread)) fail(block, thread, line, &byte->write, at, "reads what wrote");
        dcc_access *reader = &byte->reads[0];
        if (reader->epoch == block->epoch && reader->thread != thread && races(block, reader, thread)) reader++;
        *reader = now(block, thread, line, false);
    }
}

void dcc_note_write(dcc_block *block, uint32_t thread, uint64_t offset, const void *value, uint32_t bytes,
                    bool atomic, uint32_t line)
{
    if (offset >= block->shared_bytes) return;
    for (uint32_t i = 0; i < bytes; i++) {
        dcc_byte *byte = &block->bytes[offset + i];
        if (!atomic && block->shared[offset + i] == ((const uint8_t *)value)[i]) continue;
        if (races(block, &byte->write, thread) && !(atomic && byte->write.atomic))
            fail(block, thread, line, &byte->write, offset + i, "writes over");
        for (int r = 0; r < 2; r++)
            if (races(block, &byte->reads[r], thread))
                fail(block, thread, line, &byte->reads[r], offset + i, "writes what reads");
        byte->write = now(block, thread, line, atomic);
    }
}
#endif
