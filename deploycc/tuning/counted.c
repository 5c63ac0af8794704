/* Runs a call list once, between two marks for instructions.c; linked with measure.c, which does the calls,
 * and with a table of one candidate's steps and sizes that emulated.py writes.
 *
 *   counted FOLDER      reads weights and inputs in FOLDER, writes outputs
 *
 * Exit status: 0, 1 for files, 2 for too little workspace, 3 for a step that failed, 4 for a buffer whose
 * end was overwritten.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GUARD 4096
#define MOST_READ_BEHIND 128
enum kind { INPUT, OUTPUT, ARENA, CONSTANT };

struct step { /* as in measure.c */
    void *kernel;
    int64_t count, first, nbytes;
};
struct place {
    int32_t kind, index;
    int64_t offset;
};
extern const struct step steps[];
extern const struct place places[];
extern const int64_t step_count, place_count, input_count, output_count;
extern const int64_t input_bytes[], output_bytes[], arena_bytes, weight_bytes, workspace_bytes;

void measure_workspace(void *block, int64_t size);
int64_t measure_run(const struct step *steps, int64_t count, void **arguments);

/* Poisoned, from a page boundary on, with a guard behind the end. */
static char *block(int64_t bytes) {
    size_t size = ((size_t)bytes + GUARD + 4095) / 4096 * 4096;
    char *start = aligned_alloc(4096, size);
    if (start == NULL) exit(1);
    return memset(start, 0xFF, size);
}

static int broken(const char *start, int64_t bytes) {
    for (int i = 0; i < GUARD; ++i)
        if (start[bytes + i] != (char)0xFF) return 1;
    return 0;
}

static void fill(FILE *file, char *start, int64_t bytes) {
    if (fread(start, 1, (size_t)bytes, file) != (size_t)bytes) exit(1);
}

int main(int count, char **words) {
    if (count != 2 || chdir(words[1]) != 0) return 1;
    char **inputs = malloc((size_t)(input_count + 1) * sizeof *inputs);
    char **outputs = malloc((size_t)(output_count + 1) * sizeof *outputs);
    void **arguments = calloc((size_t)(place_count + MOST_READ_BEHIND), sizeof *arguments);
    FILE *file = fopen("inputs", "rb");
    if (file == NULL || inputs == NULL || outputs == NULL || arguments == NULL) return 1;
    for (int64_t i = 0; i < input_count; ++i) fill(file, inputs[i] = block(input_bytes[i]), input_bytes[i]);
    fclose(file);
    char *weights = block(weight_bytes), *arena = block(arena_bytes);
    file = fopen("weights", "rb");
    if (file == NULL) return 1;
    fill(file, weights, weight_bytes);
    fclose(file);
    for (int64_t i = 0; i < output_count; ++i) outputs[i] = block(output_bytes[i]);
    for (int64_t i = 0; i < place_count; ++i) {
        const struct place *p = &places[i];
        char *base = p->kind == INPUT    ? inputs[p->index]
                     : p->kind == OUTPUT ? outputs[p->index]
                     : p->kind == ARENA  ? arena
                                         : weights;
        arguments[i] = base + p->offset;
    }
    measure_workspace(block(workspace_bytes), workspace_bytes);
    close(MARK);
    int64_t failed = measure_run(steps, step_count, arguments);
    close(MARK);
    if (failed) return failed == -1 ? 2 : 3;
    int overwritten = broken(arena, arena_bytes);
    for (int64_t i = 0; i < output_count; ++i) overwritten |= broken(outputs[i], output_bytes[i]);
    if (overwritten) return 4;
    file = fopen("outputs", "wb");
    if (file == NULL) return 1;
    for (int64_t i = 0; i < output_count; ++i) fwrite(outputs[i], 1, (size_t)output_bytes[i], file);
    return fclose(file) ? 1 : 0;
}
