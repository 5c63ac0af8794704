/* Uses a package from C99; NAME is the package's, given on the command line of the compiler. */
#include HEADER

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define N(x) JOIN(NAME, x)
#define CHECK(condition)                                               \
    do {                                                               \
        if (!(condition)) {                                            \
            fprintf(stderr, "%d: %s\n", __LINE__, #condition);         \
            exit(1);                                                   \
        }                                                              \
    } while (0)

#define COUNT 1000

int main(int argc, char **argv) {
    double scale = argc > 1 ? atof(argv[1]) : 0.5;
    N(_options) options = N(_OPTIONS_INIT);
    N(_handle) *handle = NULL;
    static float x[COUNT], y[COUNT], copy[COUNT];
    const void *inputs[1];
    void *outputs[2];
    const N(_tensor_info) *info;
    int i, threads;

    CHECK(N(_abi_version)() == N(_ABI_VERSION));
    CHECK(N(_input_count)() == 1 && N(_output_count)() == 2);
    CHECK(N(_input_info)(1) == NULL && N(_output_info)(2) == NULL);
    info = N(_output_info)(0);
    CHECK(strcmp(info->name, "y") == 0 && info->rank == 2 && info->shape[0] == 1 && info->shape[1] == COUNT);
    CHECK(info->dtype == N(_FLOAT32) && info->elements == COUNT && info->bytes == sizeof y && info->alignment == 4);
    CHECK(strcmp(N(_input_info)(0)->name, "x") == 0 && strcmp(N(_output_info)(1)->name, "copy") == 0);
    CHECK(N(_INPUT_x_BYTES) == sizeof x && N(_INPUT_x_ELEMENTS) == COUNT && N(_OUTPUT_copy_INDEX) == 1);

    for (threads = 1; threads <= 4; threads++) {
        options.threads = threads;
        CHECK(N(_create)(&options, &handle) == N(_OK) && handle != NULL);
        CHECK(N(_threads)(handle) == threads);
        CHECK(strcmp(N(_last_error)(handle), "") == 0);
        for (i = 0; i < COUNT; i++) {
            x[i] = (float)(i + threads) / 100.0f;
        }
        inputs[0] = x;
        outputs[0] = y;
        outputs[1] = copy;
        CHECK(N(_run)(handle, inputs, outputs) == N(_OK));
        for (i = 0; i < COUNT; i++) {
            double weight = -scale + 2.0 * scale * i / (COUNT - 1);
            CHECK(fabs(y[i] - (tanh((double)x[i] * weight) + 1.0)) < 1e-5);
            CHECK(copy[i] == x[i]);
        }
        x[0] = -1.0f;
        CHECK(N(_run)(handle, inputs, outputs) == N(_ERROR_KERNEL));
        CHECK(strcmp(N(_last_error)(handle), "step 0 of 4, k_check, returned -7") == 0);
        inputs[0] = NULL;
        CHECK(N(_run)(handle, inputs, outputs) == N(_ERROR_ARGUMENT));
        CHECK(strcmp(N(_status_text)(N(_ERROR_KERNEL)), "a kernel failed") == 0);
        CHECK(N(_destroy)(handle) == N(_OK));
    }
    options.threads = -3;
    CHECK(N(_create)(&options, &handle) == N(_ERROR_ARGUMENT) && handle == NULL);
    CHECK(strstr(N(_last_error)(NULL), "threads is -3") != NULL);
    CHECK(N(_memory_bytes)(NULL) > 3 * sizeof y);
    return 0;
}
