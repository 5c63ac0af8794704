#include "fibers.h"

#if defined(__x86_64__)
__asm__(".text\n"
        ".p2align 4\n"
        ".globl dcc_switch\n"
        ".hidden dcc_switch\n"
        ".type dcc_switch, @function\n"
        "dcc_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size dcc_switch, .-dcc_switch\n"
        ".globl dcc_begin\n"
        ".hidden dcc_begin\n"
        ".type dcc_begin, @function\n"
        "dcc_begin:\n"
        "  movq %r13, %rdi\n  movq %r14, %rsi\n  callq *%r12\n  ud2\n"
        ".size dcc_begin, .-dcc_begin\n");
void dcc_begin(void);

void *dcc_fiber(uint8_t *top, void (*run)(void *, void *), void *a, void *b)
{
    uintptr_t *at = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15) - 2;
    *--at = 0;
    *--at = 0; /* aligned to 16 where dcc_begin starts */
    *--at = (uintptr_t)dcc_begin;
    *--at = 0;             /* rbp */
    *--at = 0;             /* rbx */
    *--at = (uintptr_t)run; /* r12 */
    *--at = (uintptr_t)a;   /* r13 */
    *--at = (uintptr_t)b;   /* r14 */
    *--at = 0;             /* r15 */
    return at;
}
#elif defined(__aarch64__)
__asm__(".text\n"
        ".p2align 4\n"
        ".globl dcc_switch\n"
        ".hidden dcc_switch\n"
        ".type dcc_switch, %function\n"
        "dcc_switch:\n"
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
        "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
        "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
        "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n"
        "  ret\n"
        ".size dcc_switch, .-dcc_switch\n"
        ".globl dcc_begin\n"
        ".hidden dcc_begin\n"
        ".type dcc_begin, %function\n"
        "dcc_begin:\n"
        "  mov x0, x20\n  mov x1, x21\n  blr x19\n  brk #1\n"
        ".size dcc_begin, .-dcc_begin\n");
void dcc_begin(void);

void *dcc_fiber(uint8_t *top, void (*run)(void *, void *), void *a, void *b)
{
    uintptr_t *at = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15) - 22;
    for (int i = 0; i < 20; i++) at[i] = 0;
    at[0] = (uintptr_t)run; /* x19 */
    at[1] = (uintptr_t)a;   /* x20 */
    at[2] = (uintptr_t)b;   /* x21 */
    at[11] = (uintptr_t)dcc_begin; /* x30 */
    return at;
}
#else
#error "emulating needs x86-64 or AArch64"
#endif
