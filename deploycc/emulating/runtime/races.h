/* Who last read and wrote each byte of shared memory: two threads at one byte, one of them writing, and no
 * barrier between them (for lanes of one warp: nothing that the warp did together) is a race. */
#ifndef DCC_RACES_H
#define DCC_RACES_H

#include "emulated.h"

#if DCC_RACES
void dcc_note_read(dcc_block *block, uint32_t thread, uint64_t offset, uint32_t bytes, uint32_t line);
/* Before `value` is written.  A write that changes nothing is none; atomic ones do not race with each other. */
void dcc_note_write(dcc_block *block, uint32_t thread, uint64_t offset, const void *value, uint32_t bytes,
                    bool atomic, uint32_t line);
#define DCC_READS(offset, bytes, line) dcc_note_read(B, dcc_number(B, tx, ty, tz), offset, bytes, line)
#define DCC_WRITES(offset, value, bytes, atomic, line)                                                      \
    dcc_note_write(B, dcc_number(B, tx, ty, tz), offset, value, bytes, atomic, line)
#else
#define DCC_READS(offset, bytes, line) ((void)0)
#define DCC_WRITES(offset, value, bytes, atomic, line) ((void)0)
#endif

#endif
