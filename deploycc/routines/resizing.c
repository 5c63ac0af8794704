/* Bilinear resizing of integers, which are cut to whole numbers afterwards: every rounding counts.
 *
 * The order of the operations is ONNX Runtime's, in single precision and without fused multiplications.
 * The file includes itself once for each element type; what depends on the type stands below ELEMENT.
 */
#ifndef ELEMENT

#include <stdint.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#define ELEMENT int8_t
#define NAMED(name) name##_i8
#include "resizing.c"
#undef ELEMENT
#undef NAMED

#define ELEMENT uint8_t
#define NAMED(name) name##_u8
#include "resizing.c"
#undef ELEMENT
#undef NAMED

#define ELEMENT int32_t
#define NAMED(name) name##_i32
#include "resizing.c"

#else

int32_t NAMED(dcc_resize_bilinear)(
    const ELEMENT *image, const int32_t *neighbours, const float *weights, ELEMENT *out, int64_t planes,
    int64_t height, int64_t width, int64_t rows, int64_t cols);

/* `neighbours` and `weights`: the first and the second one of each row, then those of each column. */
int32_t NAMED(dcc_resize_bilinear)(
    const ELEMENT *image, const int32_t *neighbours, const float *weights, ELEMENT *out, int64_t planes,
    int64_t height, int64_t width, int64_t rows, int64_t cols)
{
    const int32_t *x1 = neighbours + 2 * rows, *x2 = x1 + cols;
    const float *wx1 = weights + 2 * rows, *wx2 = wx1 + cols;
    for (int64_t p = 0; p < planes; ++p) {
        for (int64_t y = 0; y < rows; ++y) {
            const ELEMENT *above = image + (p * height + neighbours[y]) * width;
            const ELEMENT *below = image + (p * height + neighbours[rows + y]) * width;
            const float wy1 = weights[y], wy2 = weights[rows + y];
            for (int64_t x = 0; x < cols; ++x) {
                const float a = wx1[x] * wy1 * (float)above[x1[x]], b = wx2[x] * wy1 * (float)above[x2[x]];
                const float c = wx1[x] * wy2 * (float)below[x1[x]], d = wx2[x] * wy2 * (float)below[x2[x]];
                *out++ = (ELEMENT)(a + b + c + d);
            }
        }
    }
    return 0;
}

#endif
