/* Stacks that take turns: the switch saves what the calling convention says a callee keeps. */
#ifndef DCC_FIBERS_H
#define DCC_FIBERS_H

#include <stddef.h>
#include <stdint.h>

/* Goes on with the stack `to`; the stack left can be gone on with by what is stored in `from`. */
void dcc_switch(void **from, void *to);
/* A stack that ends at `top` and is about to call `run(a, b)`, which must not return. */
void *dcc_fiber(uint8_t *top, void (*run)(void *, void *), void *a, void *b);

#endif
