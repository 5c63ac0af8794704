/* Products with a constant matrix whose rows are zero but for a short run: resized axes.
 *
 * The file includes itself once for each element type; what depends on the type stands below REAL.
 */
#ifndef REAL

#include <stdint.h>

#define REAL float
#define NAMED(name) name##_f32
#include "banded.c"
#undef REAL
#undef NAMED

#define REAL double
#define NAMED(name) name##_f64
#include "banded.c"

#else

int32_t NAMED(dcc_banded_product)(
    const REAL *in, const int32_t *starts, const REAL *weights, REAL *out, int64_t outer, int64_t before,
    int64_t inner, int64_t after, int64_t taps);

/* out[o, m, i] = sum over t of weights[m, t] * in[o, starts[m] + t, i]. */
int32_t NAMED(dcc_banded_product)(
    const REAL *in, const int32_t *starts, const REAL *weights, REAL *out, int64_t outer, int64_t before,
    int64_t inner, int64_t after, int64_t taps)
{
    for (int64_t o = 0; o < outer; ++o) {
        for (int64_t m = 0; m < after; ++m) {
            const REAL *from = in + (o * before + starts[m]) * inner, *weight = weights + m * taps;
            REAL *to = out + (o * after + m) * inner;
            if (inner == 1) {
                /* Four sums: each addition need not wait for the one before. */
                REAL sums[4] = {0, 0, 0, 0};
                int64_t t = 0;
                for (; t + 4 <= taps; t += 4) {
                    for (int k = 0; k < 4; ++k) {
                        sums[k] += weight[t + k] * from[t + k];
                    }
                }
                for (; t < taps; ++t) {
                    sums[0] += weight[t] * from[t];
                }
                *to = (sums[0] + sums[1]) + (sums[2] + sums[3]);
                continue;
            }
            for (int64_t i = 0; i < inner; ++i) {
                to[i] = weight[0] * from[i];
            }
            for (int64_t t = 1; t < taps; ++t) {
                const REAL *row = from + t * inner;
                const REAL share = weight[t];
                for (int64_t i = 0; share != 0 && i < inner; ++i) {
                    to[i] += share * row[i];
                }
            }
        }
    }
    return 0;
}

#endif
