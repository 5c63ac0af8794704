/* Bilinear samples at run-time coordinates: the columns of DeformConv, and RoiAlign.
 *
 * The file includes itself once for each element type; what depends on the type stands below REAL.
 * Coordinates are data of the caller: whatever they are, nothing outside the image is read.
 */
#ifndef REAL

#include <math.h>
#include <stdint.h>

/* A point's row and column are compared before they become integers, so that NaN and huge ones stay out. */
enum { BLOCK = 32, CHANNELS = 32 };

#define REAL float
#define NAMED(name) name##_f32
#include "sampling.c"
#undef REAL
#undef NAMED

#define REAL double
#define NAMED(name) name##_f64
#include "sampling.c"

#else

/* The four neighbours of each point of a block: offsets into a plane, weights, and whether they are in it. */
typedef struct {
    int32_t at[4][BLOCK];
    REAL weight[4][BLOCK];
    int32_t inside[4][BLOCK];
} NAMED(taps);

/* The neighbours of (row, column) as point i; those outside the image of height x width read its first pixel. */
static void NAMED(neighbours)(NAMED(taps) *taps, int64_t i, REAL row, REAL column, int64_t height,
                              int64_t width, REAL scale)
{
    const int some = row > -1 && row < (REAL)height && column > -1 && column < (REAL)width;
    row = some ? row : 0;
    column = some ? column : 0;
    const int64_t y = (int64_t)row - ((REAL)(int64_t)row > row);
    const int64_t x = (int64_t)column - ((REAL)(int64_t)column > column);
    const REAL down = row - (REAL)y, right = column - (REAL)x;
    const REAL weights[4] = {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right};
    for (int t = 0; t < 4; ++t) {
        const int64_t r = y + t / 2, c = x + t % 2;
        const int inside = some && r >= 0 && r < height && c >= 0 && c < width;
        taps->at[t][i] = (int32_t)(inside ? r * width + c : 0);
        taps->weight[t][i] = weights[t] * scale;
        taps->inside[t][i] = inside;
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
    NAMED(taps) block;

    for (int64_t job = 0; job < batch * groups * kernel; ++job) {
        const int64_t n = job / (groups * kernel), g = job / kernel % groups, k = job % kernel;
        const REAL *shift = offsets + ((n * groups + g) * kernel + k) * 2 * places;
        const REAL *scale = mask + (masked ? ((n * groups + g) * kernel + k) * places : 0);
        const REAL row = (REAL)(k / kernel_width * dilation_y - top);
        const REAL column = (REAL)(k % kernel_width * dilation_x - left);
        for (int64_t first = 0; first < places; first += BLOCK) {
            const int64_t count = places - first < BLOCK ? places - first : BLOCK;
            for (int64_t i = 0; i < count; ++i) {
                const int64_t p = first + i;
                NAMED(neighbours)(&block, i, (REAL)(p / cols * stride_y) + row + shift[p],
                                  (REAL)(p % cols * stride_x) + column + shift[places + p], height, width,
                                  masked ? scale[p] : 1);
            }
            for (int64_t c = g * members; c < (g + 1) * members; ++c) {
                const REAL *from = image + (n * channels + c) * plane;
                REAL *to = columns + ((n * channels + c) * kernel + k) * places + first;
                for (int64_t i = 0; i < count; ++i) {
                    REAL sum = 0;
                    for (int t = 0; t < 4; ++t) {
                        /* Read in any case, which vectorises; infinity times zero would not do. */
                        const REAL value = from[block.at[t][i]];
                        sum += block.inside[t][i] ? block.weight[t][i] * value : 0;
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
    const REAL far = (REAL)1e15;
    *first = 0;
    *last = 0;
    if (!(start > -far && start < far && step > -far && step < far)) {
        return; /* NaN too: none of its samples lies anywhere */
    }
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
    /* Some channels at a time: what they read of a box stays in the cache from bin to bin. */
    const int64_t parts = (channels + CHANNELS - 1) / CHANNELS;
    for (int64_t job = 0; job < count * parts * rows * cols; ++job) {
        const int64_t b = job / (rows * cols) / parts, place = job % (rows * cols);
        const int64_t first_channel = job / (rows * cols) % parts * CHANNELS;
        const int64_t rest = channels - first_channel, members = rest < CHANNELS ? rest : CHANNELS;
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

        REAL *to = out + (b * channels + first_channel) * rows * cols + place;
        for (int64_t c = 0; c < members; ++c) {
            to[c * rows * cols] = maximum ? -(REAL)INFINITY : 0;
        }
        /* A sample that lies outside counts as zero, for the maximum too. */
        int zero = (REAL)(last_y - first_y) * (REAL)(last_x - first_x) < all || all == 0;
        int32_t at[BLOCK * 4];
        REAL weight[BLOCK * 4];
        int used = 0;
        for (int64_t iy = first_y; iy < last_y; ++iy) {
            int64_t y[2] = {0, 0};
            REAL down = 0;
            const REAL row = start_y + ((REAL)iy + (REAL)0.5) * bin_y / (REAL)samples_y;
            const int row_inside = NAMED(edge)(row, height, &y[0], &y[1], &down);
            for (int64_t ix = first_x; ix < last_x; ++ix) {
                int64_t x[2] = {0, 0};
                REAL right = 0;
                const REAL column = start_x + ((REAL)ix + (REAL)0.5) * bin_x / (REAL)samples_x;
                if (row_inside && NAMED(edge)(column, width, &x[0], &x[1], &right)) {
                    for (int k = 0; k < 4; ++k, ++used) {
                        at[used] = (int32_t)(y[k / 2] * width + x[k % 2]);
                        weight[used] = (k / 2 ? down : 1 - down) * (k % 2 ? right : 1 - right);
                    }
                } else {
                    zero = 1;
                }
                const int done = iy == last_y - 1 && ix == last_x - 1;
                if (used < BLOCK * 4 && !done) {
                    continue;
                }
                for (int64_t c = 0; c < members; ++c) {
                    const REAL *from = image + (n * channels + first_channel + c) * height * width;
                    /* Four results: no step need wait for the one before. */
                    REAL part[4] = {to[c * rows * cols], 0, 0, 0};
                    if (maximum) {
                        part[1] = part[2] = part[3] = part[0];
                        for (int i = 0; i < used; i += 4) {
                            for (int k = 0; k < 4; ++k) {
                                const REAL value = weight[i + k] * from[at[i + k]];
                                part[k] = value > part[k] ? value : part[k];
                            }
                        }
                        part[0] = part[1] > part[0] ? part[1] : part[0];
                        part[2] = part[3] > part[2] ? part[3] : part[2];
                        to[c * rows * cols] = part[2] > part[0] ? part[2] : part[0];
                        continue;
                    }
                    for (int i = 0; i < used; i += 4) {
                        for (int k = 0; k < 4; ++k) {
                            part[k] += weight[i + k] * from[at[i + k]];
                        }
                    }
                    to[c * rows * cols] = (part[0] + part[1]) + (part[2] + part[3]);
                }
                used = 0;
            }
        }
        for (int64_t c = 0; c < members && maximum && zero; ++c) {
            to[c * rows * cols] = to[c * rows * cols] > 0 ? to[c * rows * cols] : 0;
        }
        for (int64_t c = 0; c < members && !maximum; ++c) {
            to[c * rows * cols] /= total;
        }
    }
    return 0;
}

int32_t NAMED(dcc_max_roi_pool)(
    const REAL *image, const REAL *boxes, REAL *out, int64_t batch, int64_t channels, int64_t height,
    int64_t width, int64_t count, int64_t rows, int64_t cols, double scale);

/* A coordinate of a box, scaled and rounded away from zero at halves, kept where no sum overflows. */
static int64_t NAMED(corner)(REAL at, double scale)
{
    const REAL scaled = at * (REAL)scale, far = (REAL)(1 << 24);
    return (int64_t)(scaled > -far ? (scaled < far ? round((double)scaled) : far) : -far);
}

/* Where a bin begins or ends along an axis: `from` the box's corner, no further than the image. */
static int64_t NAMED(bin_edge)(int64_t from, REAL share, int64_t extent)
{
    const int64_t at = from + (int64_t)share;
    return at < 0 ? 0 : (at < extent ? at : extent);
}

/* out[b, c, row, col]: the largest pixel in a bin of box b = [image, left, top, right, bottom]; empty: 0. */
int32_t NAMED(dcc_max_roi_pool)(
    const REAL *image, const REAL *boxes, REAL *out, int64_t batch, int64_t channels, int64_t height,
    int64_t width, int64_t count, int64_t rows, int64_t cols, double scale)
{
    for (int64_t b = 0; b < count; ++b) {
        const REAL *box = boxes + b * 5;
        const int64_t n = box[0] > 0 ? (box[0] < (REAL)batch ? (int64_t)box[0] : batch - 1) : 0;
        const int64_t left = NAMED(corner)(box[1], scale), top = NAMED(corner)(box[2], scale);
        const int64_t wide = NAMED(corner)(box[3], scale) - left + 1;
        const int64_t high = NAMED(corner)(box[4], scale) - top + 1;
        const REAL bin_y = (REAL)(high > 1 ? high : 1) / (REAL)rows;
        const REAL bin_x = (REAL)(wide > 1 ? wide : 1) / (REAL)cols;
        for (int64_t job = 0; job < channels * rows * cols; ++job) {
            const int64_t row = job / cols % rows, col = job % cols;
            const REAL *from = image + (n * channels + job / (rows * cols)) * height * width;
            const int64_t y0 = NAMED(bin_edge)(top, (REAL)floor((double)((REAL)row * bin_y)), height);
            const int64_t y1 = NAMED(bin_edge)(top, (REAL)ceil((double)((REAL)(row + 1) * bin_y)), height);
            const int64_t x0 = NAMED(bin_edge)(left, (REAL)floor((double)((REAL)col * bin_x)), width);
            const int64_t x1 = NAMED(bin_edge)(left, (REAL)ceil((double)((REAL)(col + 1) * bin_x)), width);
            REAL best = y0 < y1 && x0 < x1 ? from[y0 * width + x0] : 0;
            for (int64_t y = y0; y < y1; ++y) {
                for (int64_t x = x0; x < x1; ++x) {
                    best = from[y * width + x] > best ? from[y * width + x] : best;
                }
            }
            *out++ = best;
        }
    }
    return 0;
}

#endif
