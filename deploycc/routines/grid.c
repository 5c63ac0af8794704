/* GridSample: samples of images and volumes at places that a grid gives.
 *
 * The file includes itself once for each element type; what depends on the type stands below REAL.
 * The grid is data of the caller: whatever it holds, nothing outside the image is read.
 */
#ifndef REAL

#include <math.h>
#include <stdint.h>

enum { PLACES = 16, MOST_TAPS = 64, NEAREST = 0, LINEAR = 1, CUBIC = 2, ZEROS = 0, BORDER = 1 };

/* A place between 0 and extent - 1, or -1 for one that reads zero. */
static int64_t inside(int64_t at, int64_t extent, int64_t padding, int64_t corners)
{
    if (at >= 0 && at < extent) {
        return at;
    }
    if (padding == ZEROS) {
        return -1;
    }
    if (padding == BORDER) {
        return at < 0 ? 0 : extent - 1;
    }
    /* Reflected at the centres of the corner pixels, or half a pixel outside them. */
    const int64_t period = corners ? 2 * (extent - 1) : 2 * extent;
    if (period == 0) {
        return 0;
    }
    const int64_t turned = (at % period + period) % period;
    return turned < extent ? turned : (corners ? period : period - 1) - turned;
}

#define REAL float
#define FLOOR floorf
#define ROUND rintf
#define NAMED(name) name##_f32
#include "grid.c"
#undef REAL
#undef FLOOR
#undef ROUND
#undef NAMED

#define REAL double
#define FLOOR floor
#define ROUND rint
#define NAMED(name) name##_f64
#include "grid.c"

#else

/* The taps along one axis at a place of the grid: how many, where, and their weights. */
static int NAMED(axis_taps)(REAL place, int64_t extent, int64_t mode, int64_t padding, int64_t corners,
                            int64_t *at, REAL *weight)
{
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif
    const REAL size = (REAL)extent;
    REAL x = corners ? (place + 1) / 2 * (size - 1) : ((place + 1) * size - 1) / 2;
    /* Far outside and NaN: as far as it matters, and a whole number. */
    const REAL far = (REAL)(1 << 22);
    x = x > -far ? (x < far ? x : far) : -far;
    if (mode == NEAREST) {
        at[0] = inside((int64_t)ROUND(x), extent, padding, corners);
        weight[0] = 1;
        return 1;
    }
    const REAL low = FLOOR(x), t = x - low;
    const int64_t first = (int64_t)low;
    if (mode == LINEAR) {
        at[0] = inside(first, extent, padding, corners);
        at[1] = inside(first + 1, extent, padding, corners);
        weight[0] = 1 - t;
        weight[1] = t;
        return 2;
    }
    const REAL a = (REAL)-0.75, u = 1 - t, v = 1 + t, w = 2 - t;
    weight[0] = ((a * v - 5 * a) * v + 8 * a) * v - 4 * a;
    weight[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    weight[2] = ((a + 2) * u - (a + 3)) * u * u + 1;
    weight[3] = ((a * w - 5 * a) * w + 8 * a) * w - 4 * a;
    for (int k = 0; k < 4; ++k) {
        at[k] = inside(first + k - 1, extent, padding, corners);
    }
    return 4;
}

int32_t NAMED(dcc_grid_sample)(
    const REAL *image, const REAL *grid, REAL *out, int64_t batch, int64_t channels, int64_t depth,
    int64_t height, int64_t width, int64_t places, int64_t axes, int64_t mode, int64_t padding,
    int64_t corners);

/* out[n, c, place]; `axes` is 2 for images, whose depth is 1, and 3 for volumes. */
int32_t NAMED(dcc_grid_sample)(
    const REAL *image, const REAL *grid, REAL *out, int64_t batch, int64_t channels, int64_t depth,
    int64_t height, int64_t width, int64_t places, int64_t axes, int64_t mode, int64_t padding,
    int64_t corners)
{
    int64_t at[PLACES][MOST_TAPS];
    REAL weight[PLACES][MOST_TAPS];
    const int64_t plane = depth * height * width, blocks = (places + PLACES - 1) / PLACES;
    for (int64_t job = 0; job < batch * blocks; ++job) {
        const int64_t n = job / blocks, first = job % blocks * PLACES;
        const int64_t count = places - first < PLACES ? places - first : PLACES;
        int taps = 0, whole = 1;
        for (int64_t i = 0; i < count; ++i) {
            const REAL *point = grid + (n * places + first + i) * axes;
            int64_t x[4], y[4], z[4] = {0};
            REAL wx[4], wy[4], wz[4] = {1};
            const int nx = NAMED(axis_taps)(point[0], width, mode, padding, corners, x, wx);
            const int ny = NAMED(axis_taps)(point[1], height, mode, padding, corners, y, wy);
            const int nz =
                axes == 3 ? NAMED(axis_taps)(point[2], depth, mode, padding, corners, z, wz) : 1;
            taps = 0;
            for (int c = 0; c < nz; ++c) {
                for (int b = 0; b < ny; ++b) {
                    for (int a = 0; a < nx; ++a, ++taps) {
                        const int outside = x[a] < 0 || y[b] < 0 || z[c] < 0;
                        at[i][taps] = outside ? -1 : (z[c] * height + y[b]) * width + x[a];
                        weight[i][taps] = wx[a] * wy[b] * wz[c];
                        whole &= !outside;
                    }
                }
            }
        }
        for (int64_t c = 0; c < channels; ++c) {
            const REAL *from = image + (n * channels + c) * plane;
            REAL *to = out + (n * channels + c) * places + first;
            for (int64_t i = 0; i < count; ++i) {
                REAL sum = 0;
                if (whole) {
                    for (int t = 0; t < taps; ++t) {
                        sum += weight[i][t] * from[at[i][t]];
                    }
                } else {
                    for (int t = 0; t < taps; ++t) {
                        sum += at[i][t] < 0 ? 0 : weight[i][t] * from[at[i][t]];
                    }
                }
                to[i] = sum;
            }
        }
    }
    return 0;
}

#endif
