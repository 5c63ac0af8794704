/* Double precision with the rounding that PTX names, by the processor's own rounding mode. */
#include <fenv.h>

#include "arithmetic.h"

/* What is volatile is not moved over the change of the mode. */
#define IN_MODE(mode, type, expression)          \
    int before = fegetround();                   \
    fesetround(mode);                            \
    volatile type result = expression;           \
    fesetround(before);                          \
    return result;

#define ROUNDED(name, mode)                                                                                  \
    double dcc_add_f64_##name(double x, double y) { volatile double a = x, b = y; IN_MODE(mode, double, a + b) } \
    double dcc_mul_f64_##name(double x, double y) { volatile double a = x, b = y; IN_MODE(mode, double, a * b) } \
    double dcc_div_f64_##name(double x, double y) { volatile double a = x, b = y; IN_MODE(mode, double, a / b) } \
    double dcc_sqrt_f64_##name(double x) { volatile double a = x; IN_MODE(mode, double, sqrt(a)) }           \
    double dcc_fma_f64_##name(double x, double y, double z)                                                  \
    { volatile double a = x, b = y, c = z; IN_MODE(mode, double, fma(a, b, c)) }                             \
    float dcc_div_f32_##name(float x, float y) { volatile float a = x, b = y; IN_MODE(mode, float, a / b) }  \
    float dcc_sqrt_f32_##name(float x) { volatile float a = x; IN_MODE(mode, float, sqrtf(a)) }
ROUNDED(rz, FE_TOWARDZERO)
ROUNDED(rm, FE_DOWNWARD)
ROUNDED(rp, FE_UPWARD)
