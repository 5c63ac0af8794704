/* A plugin for QEMU's user-mode emulators that counts the instructions a program executes.
 *
 *   qemu-aarch64 -plugin libinstructions.so,out=FILE PROGRAM ...
 *
 * A system call whose first argument is MARK writes the count so far to FILE as a line (close() does for that:
 * there is no such file descriptor), the program's end the total.
 *
 * No Debian package of QEMU 7.2 has the header qemu-plugin.h, so what is used of the interface (version 1,
 * docs/devel/tcg-plugins.rst of QEMU) is declared here.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#ifndef MARK
#error "MARK: the first argument of a system call that asks for the count"
#endif

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*tb_translated)(qemu_plugin_id_t id, struct qemu_plugin_tb *block);
typedef void (*at_exit)(qemu_plugin_id_t id, void *data);
typedef void (*system_call)(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2,
                            uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_translated callback);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, system_call callback);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, at_exit callback, void *data);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, enum qemu_plugin_op op,
                                                     void *counter, uint64_t addend);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);

EXPORT int qemu_plugin_version = 1;

/* Threads add to it without a lock: exact for programs of one thread, the only ones that are counted. */
static uint64_t instructions;
static FILE *out;

static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &instructions,
                                             qemu_plugin_tb_n_insns(block));
}

static void on_system_call(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2,
                           uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)cpu, (void)number, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (a1 == MARK) fprintf(out, "%" PRIu64 "\n", instructions);
}

static void on_exit(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    fprintf(out, "%" PRIu64 "\n", instructions);
    fclose(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int count, char **words) {
    (void)info;
    for (int i = 0; i < count; ++i)
        if (strncmp(words[i], "out=", 4) == 0) out = fopen(words[i] + 4, "w");
    if (out == NULL) {
        fprintf(stderr, "instructions: no out=FILE given, or it cannot be written\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
