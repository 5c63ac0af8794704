/* Between blocks and their threads. */
#ifndef DCC_THREADS_H
#define DCC_THREADS_H

#include "emulated.h"

/* Runs the threads of `block` on stacks of `stack_bytes` each, until all have returned or one has failed. */
void dcc_run_fibers(dcc_block *block, uint8_t *stacks, size_t stack_bytes);

/* Where in its block a thread is. */
void dcc_thread_position(const dcc_block *block, uint32_t thread, uint32_t at[3]);

/* Ends the launch: what is wrong where `thread` waits. */
_Noreturn DCC_COLD void dcc_fail_thread(dcc_block *block, const dcc_thread *thread, const char *text);

#endif
