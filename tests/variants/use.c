/* All of the C interface of a package for several shapes. */
#include "several.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s; %s\n", __LINE__, #condition, several_last_error(handle)); \
            exit(1); \
        } \
    } while (0)

static several_handle *handle;
static float x[21], offset[3] = {1, 2, 3}, y[22];

static void run(uint32_t variant, int64_t rows) {
    static const float w[3] = {0.5f, -2.0f, 3.25f};
    const void *inputs[] = {x, offset};
    void *outputs[] = {y};
    for (int i = 0; i < 21; i++) {
        x[i] = (float)(i * 7 % 11) - 3;
    }
    memset(y, 0x55, sizeof y);
    CHECK(several_selected(handle) == variant);
    CHECK(several_run(handle, inputs, outputs) == several_OK);
    for (int i = 0; i < 3 * rows; i++) {
        CHECK(y[i] == x[i] * w[i % 3] + offset[i % 3]);
    }
    unsigned char untouched[4] = {0x55, 0x55, 0x55, 0x55};
    CHECK(memcmp(&y[3 * rows], untouched, 4) == 0);
}

static int lists(const char *text) {
    return strstr(several_last_error(handle), text) != NULL;
}

int main(void) {
    static const int64_t rows[] = {1, 2, 7};
    int64_t x_shape[2] = {0, 3}, other_shape[2] = {5, 3};
    const int64_t offset_shape[1] = {3};
    const int64_t *shapes[] = {x_shape, offset_shape}, *others[] = {other_shape, offset_shape};

    CHECK(several_VARIANT_COUNT == 3 && several_variant_count() == 3);
    for (uint32_t v = 0; v < 3; v++) {
        const several_tensor_info *in = several_variant_input_info(v, 0), *out = several_variant_output_info(v, 0);
        CHECK(in->shape[0] == rows[v] && in->elements == (size_t)(3 * rows[v]) && strcmp(in->name, "x") == 0);
        CHECK(out->shape[0] == rows[v] && out->bytes == (size_t)(12 * rows[v]));
        CHECK(several_variant_input_info(v, 1)->elements == 3);
        CHECK(several_variant_input_info(v, 2) == NULL && several_variant_output_info(v, 1) == NULL);
        CHECK(several_variant_step_count(v) == 2);
        x_shape[0] = rows[v];
        CHECK(several_find_variant(shapes) == v);
    }
    CHECK(several_variant_input_info(3, 0) == NULL && several_variant_output_info(3, 0) == NULL);
    CHECK(several_variant_step_count(3) == 0);
    CHECK(several_find_variant(others) == several_VARIANT_COUNT && several_find_variant(NULL) == 3);
    CHECK(several_input_info(0) == several_variant_input_info(0, 0));

    /* No handle, no select. */
    CHECK(several_select(NULL, 0) == several_ERROR_ARGUMENT);
    CHECK(several_set_shapes(NULL, shapes) == several_ERROR_ARGUMENT);
    CHECK(several_selected(NULL) == several_VARIANT_COUNT);

    several_options options = several_OPTIONS_INIT;
    options.threads = 2;
    CHECK(several_create(&options, &handle) == several_OK);
    run(0, 1);
    for (uint32_t turn = 0; turn < 12; turn++) {
        const uint32_t v = turn * 5 % 3;
        if (turn % 2) {
            CHECK(several_select(handle, v) == several_OK);
        } else {
            x_shape[0] = rows[v];
            CHECK(several_set_shapes(handle, shapes) == several_OK);
        }
        run(v, rows[v]);
    }
    CHECK(several_select(handle, 1) == several_OK);
    CHECK(several_select(handle, 3) == several_ERROR_ARGUMENT && lists("declared: x=1,2,7x3"));
    CHECK(several_set_shapes(handle, others) == several_ERROR_ARGUMENT);
    CHECK(lists("x=5x3, offset=3") && lists("declared: x=1,2,7x3, offset=3"));
    CHECK(several_set_shapes(handle, NULL) == several_ERROR_ARGUMENT && lists("declared: x=1,2,7x3"));
    shapes[1] = NULL;
    CHECK(several_set_shapes(handle, shapes) == several_ERROR_ARGUMENT);
    run(1, 2); /* a refused choice leaves it as it was */

    /* Handles are independent, and caller-owned memory fits every variant. */
    several_handle *first = handle, *second = NULL;
    options.threads = 1;
    void *memory = NULL;
    options.memory_bytes = several_memory_bytes(&options);
    CHECK(options.memory_bytes >= 128 && posix_memalign(&memory, 64, options.memory_bytes) == 0);
    options.memory = memory;
    CHECK(several_create(&options, &second) == several_OK);
    handle = second;
    CHECK(several_select(handle, 2) == several_OK);
    run(2, 7);
    handle = first;
    run(1, 2);
    CHECK(several_destroy(first) == several_OK && several_destroy(second) == several_OK);
    free(memory);
    return 0;
}
