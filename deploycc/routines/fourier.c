/* Fourier transforms of lengths for which a product with a matrix would cost too much.
 *
 * Mixed radix by decimation in time; a length with a large prime factor goes through Bluestein's
 * convolution (L. Bluestein 1970), of a power of two.  Everything inside is double: single precision
 * results are then as good as their type.  The file includes itself once for each element type.
 */
#ifndef REAL

#include <stdint.h>

typedef struct {
    double re, im;
} complex_number;

enum { LARGEST_RADIX = 32 };

static complex_number product(complex_number a, complex_number b)
{
    return (complex_number){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

/* The smallest prime factor, 4 before 2; what is left where none is small. */
static int64_t radix_of(int64_t n)
{
    if (n % 4 == 0) {
        return 4;
    }
    for (int64_t p = 2; p * p <= n; ++p) {
        if (n % p == 0) {
            return p;
        }
    }
    return n;
}

/* out[k], k < n: the transform of in[0], in[stride], ...; `roots` are exp(-2 pi i k / (n * stride)). */
static void transform(complex_number *out, const complex_number *in, int64_t n, int64_t stride,
                      const complex_number *roots)
{
    if (n == 1) {
        out[0] = in[0];
        return;
    }
    const int64_t radix = radix_of(n), m = n / radix, whole = n * stride;
    for (int64_t r = 0; r < radix; ++r) {
        transform(out + r * m, in + r * stride, m, stride * radix, roots);
    }
    for (int64_t k = 0; k < m; ++k) {
        complex_number part[LARGEST_RADIX];
        part[0] = out[k];
        for (int64_t r = 1; r < radix; ++r) {
            part[r] = product(out[k + r * m], roots[r * k * stride]);
        }
        if (radix == 2) {
            out[k] = (complex_number){part[0].re + part[1].re, part[0].im + part[1].im};
            out[k + m] = (complex_number){part[0].re - part[1].re, part[0].im - part[1].im};
            continue;
        }
        if (radix == 4) {
            const complex_number a = {part[0].re + part[2].re, part[0].im + part[2].im};
            const complex_number b = {part[0].re - part[2].re, part[0].im - part[2].im};
            const complex_number c = {part[1].re + part[3].re, part[1].im + part[3].im};
            const complex_number d = {part[1].re - part[3].re, part[1].im - part[3].im};
            out[k] = (complex_number){a.re + c.re, a.im + c.im};
            out[k + m] = (complex_number){b.re + d.im, b.im - d.re};
            out[k + 2 * m] = (complex_number){a.re - c.re, a.im - c.im};
            out[k + 3 * m] = (complex_number){b.re - d.im, b.im + d.re};
            continue;
        }
        for (int64_t q = 0; q < radix; ++q) {
            complex_number sum = part[0];
            for (int64_t r = 1; r < radix; ++r) {
                const complex_number turned = product(part[r], roots[r * q % radix * (whole / radix)]);
                sum.re += turned.re;
                sum.im += turned.im;
            }
            out[k + q * m] = sum;
        }
    }
}

#define REAL float
#define NAMED(name) name##_f32
#include "fourier.c"
#undef REAL
#undef NAMED

#define REAL double
#define NAMED(name) name##_f64
#include "fourier.c"

#else

int32_t NAMED(dcc_fourier)(
    const REAL *signal, const REAL *window, const double *tables, REAL *out, double *scratch, int64_t batch,
    int64_t row, int64_t frames, int64_t step, int64_t samples, int64_t components, int64_t length,
    int64_t bins, int64_t made, int64_t windowed, int64_t inverse, int64_t mirrored, int64_t padded);

/* Transforms of `frames` stretches of each row, `step` apart, of `samples` numbers and zeros to `length`.
 *
 * `components` (1 real, 2 complex) of what is read, `made` of the `bins` that are written.  A `mirrored`
 * signal is one side of a spectrum.  `tables` holds the roots of unity of the length transformed, which is
 * `padded` where that is not 0, and then the chirp and the transform of its conjugate.  `scratch` holds two
 * (three where padded) complex signals of the length transformed.
 */
int32_t NAMED(dcc_fourier)(
    const REAL *signal, const REAL *window, const double *tables, REAL *out, double *scratch, int64_t batch,
    int64_t row, int64_t frames, int64_t step, int64_t samples, int64_t components, int64_t length,
    int64_t bins, int64_t made, int64_t windowed, int64_t inverse, int64_t mirrored, int64_t padded)
{
    const int64_t size = padded ? padded : length;
    const complex_number *roots = (const complex_number *)tables;
    const complex_number *chirp = roots + size, *spectrum = chirp + length;
    complex_number *in = (complex_number *)scratch, *made_of = in + size;
    /* An inverse transform is the conjugate of the transform of the conjugate. */
    const double sign = inverse ? -1 : 1, scale = inverse ? 1.0 / (double)length : 1;

    for (int64_t job = 0; job < batch * frames; ++job) {
        const REAL *from = signal + (job / frames * row + job % frames * step) * components;
        for (int64_t i = 0; i < length; ++i) {
            const int64_t other = mirrored && i >= length - i ? length - i : i;
            const int64_t at = i < samples ? i : (mirrored ? other : samples);
            complex_number value = {0, 0};
            if (at < samples) {
                value.re = from[at * components];
                value.im = components == 2 ? sign * (double)from[at * components + 1] : 0;
                value.im = at == i ? value.im : -value.im;
            }
            if (windowed) {
                value.re *= window[i];
                value.im *= window[i];
            }
            in[i] = padded ? product(value, chirp[i]) : value;
        }
        if (padded) {
            for (int64_t i = length; i < size; ++i) {
                in[i] = (complex_number){0, 0};
            }
            complex_number *turned = made_of + size;
            transform(turned, in, size, 1, roots);
            for (int64_t i = 0; i < size; ++i) {
                const complex_number value = product(turned[i], spectrum[i]);
                in[i] = (complex_number){value.re, -value.im};
            }
            transform(turned, in, size, 1, roots);
            for (int64_t i = 0; i < length; ++i) {
                const complex_number value = {turned[i].re / (double)size, -turned[i].im / (double)size};
                made_of[i] = product(value, chirp[i]);
            }
        } else {
            transform(made_of, in, size, 1, roots);
        }
        REAL *to = out + job * bins * made;
        for (int64_t k = 0; k < bins; ++k) {
            to[k * made] = (REAL)(made_of[k].re * scale);
            if (made == 2) {
                to[k * 2 + 1] = (REAL)(sign * made_of[k].im * scale);
            }
        }
    }
    return 0;
}

#endif
