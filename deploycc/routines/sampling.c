/* Bilinear samples at run-time coordinates: the columns of DeformConv, and RoiAlign.
 *
 * The file includes itself once for each element type; what depends on the type stands below REAL.
 * Coordinates are data of the caller: whatever they are, nothing outside the image is read.
 */
#ifndef REAL

#include <math.h>
#include <stdint.h>

/* A point's row and column are compared before they become integers, so that NaN and huge ones stay out. */
enum { BLOCK = 32 };

#define REAL float
#define NAMED(name) name##_f32
#include "sampling.c"
#undef REAL
#undef NAMED

#define REAL double
#define NAMED(name) name##_f64
#include "sampling.c"

#else

/* Four neighbours of a point, as offsets into a plane, and their weights. */
typedef struct {
    int64_t at[4];
    REAL weight[4];
    uint8_t inside[4];
} NAMED(taps);

/* The neighbours of (row, column); those outside the image of height x width are marked so. */
static void NAMED(neighbours)(NAMED(taps) *taps, REAL row, REAL column, int64_t height, int64_t width, REAL scale)
{
    for (int i = 0; i < 4; ++i) {
        taps->at[i] = 0;
        taps->weight[i] = 0;
        taps->inside[i] = 0;
    }
    if (!(row > -1 && row < (REAL)height && column > -1 && column < (REAL)width)) {
        return;
    }
    const int64_t y = (int64_t)row - ((REAL)(int64_t)row > row);
    const int64_t x = (int64_t)column - ((REAL)(int64_t)column > column);
    const REAL down = row - (REAL)y, right = column - (REAL)x;
    const REAL weights[4] = {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right};
    for (int i = 0; i < 4; ++i) {
        const int64_t r = y + i / 2, c = x + i % 2;
        if (r >= 0 && r < height && c >= 0 && c < width) {
            taps->at[i] = r * width + c;
            taps->weight[i] = weights[i] * scale;
            taps->inside[i] = 1;
        }
    }
}

int32_t NAMED(dcc_deform_columns)(
    const REAL *image, const REAL *offsets, const REAL *mask, REAL *columns, int64_t masked, int64_t batch,
    int64_t channels, int64_t height, int64_t width, int64_t groups, int64_t kernel_height,
    int64_t kernel_width, int64_t rows, int64_t cols, int64_t stride_y, int64_t stride_x, int64_t dilation_y,
    int64_t dilation_x, int64_t top, int64_t left);

/* columns[n, c, k, p]: what kernel tap k of output place p reads of channel c, times the mask. */
int32_t NAMED(dcc_deform_columns)(
    const REAL *image, const REAL *offsets, const REAL *mask, REAL *columns, int64_t masked, int64_t batch,
    int64_t channels, int64_t height, int64_t width, int64_t groups, int64_t kernel_height,
    int64_t kernel_width, int64_t rows, int64_t cols, int64_t stride_y, int64_t stride_x, int64_t dilation_y,
    int64_t dilation_x, int64_t top, int64_t left)
{
    const int64_t kernel = kernel_height * kernel_width, places = rows * cols, plane = height * width;
    const int64_t members = channels / groups;
    NAMED(taps) block[BLOCK];

    for (int64_t job = 0; job < batch * groups * kernel; ++job) {
        const int64_t n = job / (groups * kernel), g = job / kernel % groups, k = job % kernel;
        const REAL *shift = offsets + ((n * groups + g) * kernel + k) * 2 * places;
        const REAL *scale = mask + (masked ? ((n * groups + g) * kernel + k) * places : 0);
        const REAL row = (REAL)(k / kernel_width * dilation_y - top);
        const REAL column = (REAL)(k % kernel_width * dilation_x - left);
        for (int64_t first = 0; first < places; first += BLOCK) {
            const int64_t count = places - first < BLOCK ? places - first : BLOCK;
            int whole = 1;
            for (int64_t i = 0; i < count; ++i) {
                const int64_t p = first + i;
                NAMED(neighbours)(&block[i], (REAL)(p / cols * stride_y) + row + shift[p],
                                  (REAL)(p % cols * stride_x) + column + shift[places + p], height, width,
                                  masked ? scale[p] : 1);
                for (int t = 0; t < 4; ++t) {
                    whole &= block[i].inside[t];
                }
            }
            for (int64_t c = g * members; c < (g + 1) * members; ++c) {
                const REAL *from = image + (n * channels + c) * plane;
                REAL *to = columns + ((n * channels + c) * kernel + k) * places + first;
                if (whole) {
                    for (int64_t i = 0; i < count; ++i) {
                        const NAMED(taps) *t = &block[i];
                        to[i] = t->weight[0] * from[t->at[0]] + t->weight[1] * from[t->at[1]] +
                                t->weight[2] * from[t->at[2]] + t->weight[3] * from[t->at[3]];
                    }
                    continue;
                }
                for (int64_t i = 0; i < count; ++i) {
                    REAL sum = 0;
                    for (int t = 0; t < 4; ++t) {
                        if (block[i].inside[t]) {
                            sum += block[i].weight[t] * from[block[i].at[t]];
                        }
                    }
                    to[i] = sum;
                }
            }
        }
    }
    return 0;
}

/* A sample of RoiAlign: outside [-1, extent] it is zero, and up to a pixel outside it is the edge's. */
static int NAMED(edge)(REAL at, int64_t extent, int64_t *low, int64_t *high, REAL *share)
{
    if (!(at >= -1 && at <= (REAL)extent)) {
        return 0;
    }
    at = at > 0 ? at : 0;
    *low = (int64_t)at;
    if (*low >= extent - 1) {
        *low = *high = extent - 1;
        *share = 0;
    } else {
        *high = *low + 1;
        *share = at - (REAL)*low;
    }
    return 1;
}

/* The samples first <= i < last of those at start + (i + 0.5) * step that can lie on an extent. */
static void NAMED(reach)(REAL start, REAL step, int64_t extent, int64_t samples, int64_t *first, int64_t *last)
{
    *first = 0;
    *last = samples;
    if (step > 0) {
        const REAL from = (-1 - start) / step - 2, to = ((REAL)extent - start) / step + 2;
        if (from > 0) {
            *first = from < (REAL)samples ? (int64_t)from : samples;
        }
        if (to < (REAL)samples) {
            *last = to > 0 ? (int64_t)to : 0;
        }
    } else if (step == 0 && !(start >= -1 && start <= (REAL)extent)) {
        *last = 0; /* all samples are one point, and it lies outside */
    }
}

/* How many samples a bin has along one axis: as many as it is pixels wide, where the model says nothing. */
static int64_t NAMED(samples)(int64_t ratio, REAL bin)
{
    if (ratio > 0) {
        return ratio;
    }
    const REAL count = (REAL)ceil((double)bin);
    return count >= 0 && count < (REAL)(1 << 30) ? (int64_t)count : (count > 0 ? 1 << 30 : 0);
}

int32_t NAMED(dcc_roi_align)(
    const REAL *image, const REAL *boxes, const int64_t *images, REAL *out, int64_t batch, int64_t channels,
    int64_t height, int64_t width, int64_t count, int64_t rows, int64_t cols, int64_t ratio, int64_t maximum,
    int64_t half_pixel, double scale);

/* out[b, c, row, col]: the mean, or the largest weighted neighbour, of the samples in a bin of box b. */
int32_t NAMED(dcc_roi_align)(
    const REAL *image, const REAL *boxes, const int64_t *images, REAL *out, int64_t batch, int64_t channels,
    int64_t height, int64_t width, int64_t count, int64_t rows, int64_t cols, int64_t ratio, int64_t maximum,
    int64_t half_pixel, double scale)
{
    const REAL shift = half_pixel ? (REAL)0.5 : 0;
    for (int64_t job = 0; job < count * rows * cols; ++job) {
        const int64_t b = job / (rows * cols), place = job % (rows * cols);
        const REAL *box = boxes + b * 4;
        const int64_t n = images[b] < 0 ? 0 : (images[b] < batch ? images[b] : batch - 1);
        const REAL left = box[0] * (REAL)scale - shift, top = box[1] * (REAL)scale - shift;
        REAL wide = box[2] * (REAL)scale - shift - left, high = box[3] * (REAL)scale - shift - top;
        if (!half_pixel) {
            wide = wide > 1 ? wide : 1;
            high = high > 1 ? high : 1;
        }
        const REAL bin_y = high / (REAL)rows, bin_x = wide / (REAL)cols;
        const int64_t samples_y = NAMED(samples)(ratio, bin_y), samples_x = NAMED(samples)(ratio, bin_x);
        const REAL start_y = top + (REAL)(place / cols) * bin_y, start_x = left + (REAL)(place % cols) * bin_x;
        const REAL step_y = bin_y / (REAL)samples_y, step_x = bin_x / (REAL)samples_x;
        const REAL all = (REAL)samples_y * (REAL)samples_x;
        const REAL total = all > 1 ? all : 1;
        int64_t first_y, last_y, first_x, last_x;
        NAMED(reach)(start_y, step_y, height, samples_y, &first_y, &last_y);
        NAMED(reach)(start_x, step_x, width, samples_x, &first_x, &last_x);

        REAL *to = out + b * channels * rows * cols + place;
        /* A sample that lies outside counts as zero, for the maximum too. */
        const int some_outside = (REAL)(last_y - first_y) * (REAL)(last_x - first_x) < all;
        int started = some_outside || all == 0;
        for (int64_t c = 0; c < channels; ++c) {
            to[c * rows * cols] = 0;
        }
        NAMED(taps) block[BLOCK];
        int used = 0;
        for (int64_t iy = first_y; iy < last_y; ++iy) {
            int64_t y0 = 0, y1 = 0;
            REAL down = 0;
            const REAL y = start_y + ((REAL)iy + (REAL)0.5) * bin_y / (REAL)samples_y;
            const int row_inside = NAMED(edge)(y, height, &y0, &y1, &down);
            for (int64_t ix = first_x; ix < last_x; ++ix) {
                int64_t x0 = 0, x1 = 0;
                REAL right = 0;
                const REAL x = start_x + ((REAL)ix + (REAL)0.5) * bin_x / (REAL)samples_x;
                NAMED(taps) *t = &block[used++];
                if (row_inside && NAMED(edge)(x, width, &x0, &x1, &right)) {
                    *t = (NAMED(taps)){
                        {y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1},
                        {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right},
                        {1, 1, 1, 1}};
                } else {
                    *t = (NAMED(taps)){{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}};
                }
                const int done = iy == last_y - 1 && ix == last_x - 1;
                if (used < BLOCK && !done) {
                    continue;
                }
                for (int64_t c = 0; c < channels; ++c) {
                    const REAL *from = image + (n * channels + c) * height * width;
                    REAL value = to[c * rows * cols];
                    for (int i = 0; i < used; ++i) {
                        REAL part[4];
                        for (int k = 0; k < 4; ++k) {
                            part[k] = block[i].inside[k] ? block[i].weight[k] * from[block[i].at[k]] : 0;
                        }
                        if (!maximum) {
                            value += part[0] + part[1] + part[2] + part[3];
                            continue;
                        }
                        for (int k = 0; k < 4; ++k) {
                            value = (!started && i == 0 && k == 0) || part[k] > value ? part[k] : value;
                        }
                    }
                    to[c * rows * cols] = value;
                }
                started = 1;
                used = 0;
            }
        }
        for (int64_t c = 0; c < channels && !maximum; ++c) {
            to[c * rows * cols] /= total;
        }
    }
    return 0;
}

#endif
