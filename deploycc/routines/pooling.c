/* MaxPool with the places of its maxima, and MaxUnpool, which puts values back at such places.
 *
 * The file includes itself once for each element type; what depends on the type stands below ELEMENT.
 */
#ifndef ELEMENT

#include <stdint.h>
#include <string.h>

#define ELEMENT float
#define IS_NUMBER(value) ((value) == (value))
#define NAMED(name) name##_f32
#include "pooling.c"
#undef ELEMENT
#undef IS_NUMBER
#undef NAMED

#define ELEMENT double
#define IS_NUMBER(value) ((value) == (value))
#define NAMED(name) name##_f64
#include "pooling.c"
#undef ELEMENT
#undef IS_NUMBER
#undef NAMED

#define ELEMENT int8_t
#define IS_NUMBER(value) 1
#define NAMED(name) name##_i8
#include "pooling.c"
#undef ELEMENT
#undef IS_NUMBER
#undef NAMED

#define ELEMENT uint8_t
#define IS_NUMBER(value) 1
#define NAMED(name) name##_u8
#include "pooling.c"

#else

int32_t NAMED(dcc_max_pool)(
    const ELEMENT *image, ELEMENT *out, int64_t *places, int64_t planes, int64_t depth, int64_t height,
    int64_t width, int64_t out_depth, int64_t out_height, int64_t out_width, int64_t kernel_z,
    int64_t kernel_y, int64_t kernel_x, int64_t stride_z, int64_t stride_y, int64_t stride_x,
    int64_t dilation_z, int64_t dilation_y, int64_t dilation_x, int64_t front, int64_t top, int64_t left,
    int64_t step_z, int64_t step_y, int64_t step_x);

/* The maxima of windows and where each lies: its plane's first place plus the steps of its coordinates. */
int32_t NAMED(dcc_max_pool)(
    const ELEMENT *image, ELEMENT *out, int64_t *places, int64_t planes, int64_t depth, int64_t height,
    int64_t width, int64_t out_depth, int64_t out_height, int64_t out_width, int64_t kernel_z,
    int64_t kernel_y, int64_t kernel_x, int64_t stride_z, int64_t stride_y, int64_t stride_x,
    int64_t dilation_z, int64_t dilation_y, int64_t dilation_x, int64_t front, int64_t top, int64_t left,
    int64_t step_z, int64_t step_y, int64_t step_x)
{
    const int64_t plane = depth * height * width;
    int64_t at = 0;
    for (int64_t p = 0; p < planes; ++p) {
        for (int64_t oz = 0; oz < out_depth; ++oz) {
            for (int64_t oy = 0; oy < out_height; ++oy) {
                for (int64_t ox = 0; ox < out_width; ++ox, ++at) {
                    ELEMENT best = 0;
                    int64_t place = -1;
                    for (int64_t kz = 0; kz < kernel_z; ++kz) {
                        const int64_t z = oz * stride_z - front + kz * dilation_z;
                        for (int64_t ky = 0; ky < kernel_y && z >= 0 && z < depth; ++ky) {
                            const int64_t y = oy * stride_y - top + ky * dilation_y;
                            for (int64_t kx = 0; kx < kernel_x && y >= 0 && y < height; ++kx) {
                                const int64_t x = ox * stride_x - left + kx * dilation_x;
                                if (x < 0 || x >= width) {
                                    continue;
                                }
                                const ELEMENT value = image[p * plane + (z * height + y) * width + x];
                                /* A NaN is never the largest, as long as there is anything else. */
                                if (place < 0 || value > best || (IS_NUMBER(value) && !IS_NUMBER(best))) {
                                    best = value;
                                    place = z * step_z + y * step_y + x * step_x;
                                }
                            }
                        }
                    }
                    out[at] = best;
                    places[at] = p * plane + (place < 0 ? 0 : place);
                }
            }
        }
    }
    return 0;
}

int32_t NAMED(dcc_max_unpool)(
    const ELEMENT *values, const int64_t *places, ELEMENT *out, int64_t count, int64_t size);

/* Zeros with `values` at `places`; a place outside the result is left out. */
int32_t NAMED(dcc_max_unpool)(
    const ELEMENT *values, const int64_t *places, ELEMENT *out, int64_t count, int64_t size)
{
    memset(out, 0, (size_t)size * sizeof *out);
    for (int64_t i = 0; i < count; ++i) {
        if (places[i] >= 0 && places[i] < size) {
            out[places[i]] = values[i];
        }
    }
    return 0;
}

#endif
