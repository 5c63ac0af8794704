/* Arithmetic of PTX where C's own differs: shifts, division, minima, rounding, conversions. */
#ifndef DCC_ARITHMETIC_H
#define DCC_ARITHMETIC_H

#include "emulated.h"

#define DCC_INLINE static inline __attribute__((always_inline, unused))

DCC_INLINE float dcc_float(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
DCC_INLINE uint32_t dcc_bits32(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
DCC_INLINE double dcc_double(uint64_t bits) { double x; memcpy(&x, &bits, 8); return x; }
DCC_INLINE uint64_t dcc_bits64(double x) { uint64_t bits; memcpy(&bits, &x, 8); return bits; }

/* ---- integers ---- */

#define DCC_INTEGERS(bits)                                                                                      \
    DCC_INLINE uint##bits##_t dcc_shl_##bits(uint##bits##_t a, uint32_t n)                                      \
    { return n >= bits ? 0 : (uint##bits##_t)(a << n); }                                                        \
    DCC_INLINE uint##bits##_t dcc_shr_u##bits(uint##bits##_t a, uint32_t n)                                     \
    { return n >= bits ? 0 : (uint##bits##_t)(a >> n); }                                                        \
    DCC_INLINE int##bits##_t dcc_shr_s##bits(int##bits##_t a, uint32_t n)                                       \
    { return (int##bits##_t)(a >> (n >= bits ? bits - 1 : n)); }                                                \
    /* By zero: all ones, as the devices do. */                                                                 \
    DCC_INLINE uint##bits##_t dcc_div_u##bits(uint##bits##_t a, uint##bits##_t b)                               \
    { return b ? (uint##bits##_t)(a / b) : (uint##bits##_t)-1; }                                                \
    DCC_INLINE uint##bits##_t dcc_rem_u##bits(uint##bits##_t a, uint##bits##_t b)                               \
    { return b ? (uint##bits##_t)(a % b) : a; }                                                                 \
    DCC_INLINE int##bits##_t dcc_div_s##bits(int##bits##_t a, int##bits##_t b)                                  \
    { return b == -1 ? (int##bits##_t)(0 - a) : b ? (int##bits##_t)(a / b) : (int##bits##_t)-1; }               \
    DCC_INLINE int##bits##_t dcc_rem_s##bits(int##bits##_t a, int##bits##_t b)                                  \
    { return b == -1 ? (int##bits##_t)0 : b ? (int##bits##_t)(a % b) : a; }
DCC_INTEGERS(16)
DCC_INTEGERS(32)
DCC_INTEGERS(64)

#define DCC_MINIMA(name, type)                                                  \
    DCC_INLINE type dcc_min_##name(type a, type b) { return a < b ? a : b; }    \
    DCC_INLINE type dcc_max_##name(type a, type b) { return a > b ? a : b; }
DCC_MINIMA(u8, uint8_t) DCC_MINIMA(s8, int8_t) DCC_MINIMA(u16, uint16_t) DCC_MINIMA(s16, int16_t)
DCC_MINIMA(u32, uint32_t) DCC_MINIMA(s32, int32_t) DCC_MINIMA(u64, uint64_t) DCC_MINIMA(s64, int64_t)

DCC_INLINE uint32_t dcc_mulhi_u32(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }
DCC_INLINE int32_t dcc_mulhi_s32(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b) >> 32); }
DCC_INLINE uint64_t dcc_mulhi_u64(uint64_t a, uint64_t b)
{ return (uint64_t)(((unsigned __int128)a * b) >> 64); }
DCC_INLINE int64_t dcc_mulhi_s64(int64_t a, int64_t b) { return (int64_t)(((__int128)a * b) >> 64); }
DCC_INLINE uint16_t dcc_mulhi_u16(uint16_t a, uint16_t b) { return (uint16_t)(((uint32_t)a * b) >> 16); }
DCC_INLINE int16_t dcc_mulhi_s16(int16_t a, int16_t b) { return (int16_t)(((int32_t)a * b) >> 16); }

DCC_INLINE int32_t dcc_saturated(int64_t x)
{ return x > INT32_MAX ? INT32_MAX : x < INT32_MIN ? INT32_MIN : (int32_t)x; }

DCC_INLINE uint32_t dcc_clz32(uint32_t a) { return a ? (uint32_t)__builtin_clz(a) : 32; }
DCC_INLINE uint32_t dcc_clz64(uint64_t a) { return a ? (uint32_t)__builtin_clzll(a) : 64; }
DCC_INLINE uint32_t dcc_fls_u32(uint32_t a) { return a ? 31 - (uint32_t)__builtin_clz(a) : UINT32_MAX; }
DCC_INLINE uint32_t dcc_fls_s32(int32_t a) { return dcc_fls_u32((uint32_t)(a < 0 ? ~a : a)); }

DCC_INLINE uint64_t dcc_bfe(uint64_t a, uint32_t from, uint32_t count, uint32_t bits, bool is_signed)
{
    from &= 0xff;
    count &= 0xff;
    uint64_t top = from + count > bits - 1 ? bits - 1 : from + count - 1;
    uint64_t fill = is_signed && count ? (a >> (count == 0 ? 0 : top)) & 1 : 0;
    uint64_t mask = count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1;
    uint64_t taken = from >= bits ? 0 : (a >> from) & mask;
    uint64_t known = from >= bits ? 0 : bits - from;
    if (fill) {
        uint64_t valid = count < known ? count : known;
        taken |= valid >= 64 ? 0 : ~UINT64_C(0) << valid;
    }
    return taken;
}
DCC_INLINE uint64_t dcc_bfi(uint64_t a, uint64_t b, uint32_t to, uint32_t count, uint32_t bits)
{
    to &= 0xff;
    count &= 0xff;
    if (to >= bits) return b;
    uint64_t mask = (count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1) << to;
    return (b & ~mask) | ((a << to) & mask);
}
DCC_INLINE uint32_t dcc_prmt(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t both = ((uint64_t)b << 32) | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t choice = selector >> (4 * i);
        uint32_t byte = (uint32_t)(both >> (8 * (choice & 7))) & 0xff;
        if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= byte << (8 * i);
    }
    return result;
}
DCC_INLINE uint32_t dcc_lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table)
{
    uint32_t r = 0;
    if (table & 1) r |= ~a & ~b & ~c;
    if (table & 2) r |= ~a & ~b & c;
    if (table & 4) r |= ~a & b & ~c;
    if (table & 8) r |= ~a & b & c;
    if (table & 16) r |= a & ~b & ~c;
    if (table & 32) r |= a & ~b & c;
    if (table & 64) r |= a & b & ~c;
    if (table & 128) r |= a & b & c;
    return r;
}
DCC_INLINE uint32_t dcc_shf(uint32_t low, uint32_t high, uint32_t n, bool left, bool clamp)
{
    uint64_t both = ((uint64_t)high << 32) | low;
    n = clamp ? (n > 32 ? 32 : n) : n & 31;
    return left ? (uint32_t)((both << n) >> 32) : (uint32_t)(both >> n);
}
DCC_INLINE int32_t dcc_dot4(uint32_t a, uint32_t b, bool a_signed, bool b_signed, int32_t c)
{
    for (int i = 0; i < 4; i++) {
        int32_t x = a_signed ? (int8_t)(a >> (8 * i)) : (uint8_t)(a >> (8 * i));
        int32_t y = b_signed ? (int8_t)(b >> (8 * i)) : (uint8_t)(b >> (8 * i));
        c += x * y;
    }
    return c;
}

/* ---- floats ---- */

DCC_INLINE float dcc_ftz(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
DCC_INLINE float dcc_sat_f32(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
DCC_INLINE double dcc_sat_f64(double x) { return x > 0.0 ? (x < 1.0 ? x : 1.0) : 0.0; }

DCC_INLINE float dcc_min_f32(float a, float b)
{
    float r = a < b ? a : b;
    if (a == b) r = dcc_float(dcc_bits32(a) | dcc_bits32(b));
    return b != b ? a : r;
}
DCC_INLINE float dcc_max_f32(float a, float b)
{
    float r = a > b ? a : b;
    if (a == b) r = dcc_float(dcc_bits32(a) & dcc_bits32(b));
    return b != b ? a : r;
}
DCC_INLINE double dcc_min_f64(double a, double b)
{
    double r = a < b ? a : b;
    if (a == b) r = dcc_double(dcc_bits64(a) | dcc_bits64(b));
    return b != b ? a : r;
}
DCC_INLINE double dcc_max_f64(double a, double b)
{
    double r = a > b ? a : b;
    if (a == b) r = dcc_double(dcc_bits64(a) & dcc_bits64(b));
    return b != b ? a : r;
}
DCC_INLINE float dcc_nan_f32(float a, float b, float r) { return a != a || b != b ? dcc_float(0x7fffffff) : r; }

/* A sum of two doubles in the direction of the odd neighbour: rounding it once more, to fewer bits, is then
 * the same as rounding the exact sum. */
DCC_INLINE double dcc_odd_sum(double a, double b)
{
    double s = a + b, t = s - a, lost = (a - (s - t)) + (b - t);
    if (lost == lost && lost != 0.0 && isfinite(s)) {
        uint64_t bits = dcc_bits64(s);
        if (!(bits & 1)) bits += (lost > 0.0) == (s > 0.0) ? 1 : (uint64_t)-1;
        s = dcc_double(bits);
    }
    return s;
}
DCC_INLINE float dcc_odd_float(double x)
{
    float r = (float)x;
    if ((double)r != x && x == x) {
        uint32_t bits = dcc_bits32(r);
        if (!(bits & 1)) bits += fabs(x) > fabs((double)r) ? 1 : (uint32_t)-1;
        r = dcc_float(bits);
    }
    return r;
}
/* To float toward zero ('z'), down ('m') or up ('p'). */
DCC_INLINE float dcc_directed(double x, char mode)
{
    float r = (float)x;
    if (x != x || (double)r == x) return r;
    bool above = (double)r > x;
    if (mode == 'z') mode = x > 0.0 ? 'm' : 'p';
    if (mode == 'm' && above) r = nextafterf(r, -INFINITY);
    if (mode == 'p' && !above) r = nextafterf(r, INFINITY);
    return r;
}
#define DCC_DIRECTED(mode, letter)                                                                          \
    DCC_INLINE float dcc_add_f32_##mode(float a, float b)                                                   \
    { return dcc_directed(dcc_odd_sum((double)a, (double)b), letter); }                                     \
    DCC_INLINE float dcc_sub_f32_##mode(float a, float b) { return dcc_add_f32_##mode(a, -b); }             \
    DCC_INLINE float dcc_mul_f32_##mode(float a, float b)                                                   \
    { return dcc_directed((double)a * (double)b, letter); }                                                 \
    DCC_INLINE float dcc_fma_f32_##mode(float a, float b, float c)                                          \
    { return dcc_directed(dcc_odd_sum((double)a * (double)b, (double)c), letter); }                         \
    DCC_INLINE float dcc_f32_##mode(double x) { return dcc_directed(x, letter); }                           \
    double dcc_add_f64_##mode(double a, double b);                                                          \
    double dcc_mul_f64_##mode(double a, double b);                                                          \
    double dcc_div_f64_##mode(double a, double b);                                                          \
    double dcc_sqrt_f64_##mode(double a);                                                                   \
    double dcc_fma_f64_##mode(double a, double b, double c);                                                \
    float dcc_div_f32_##mode(float a, float b);                                                             \
    float dcc_sqrt_f32_##mode(float a);
DCC_DIRECTED(rz, 'z')
DCC_DIRECTED(rm, 'm')
DCC_DIRECTED(rp, 'p')

/* ---- float16, bfloat16, tf32 ---- */

DCC_INLINE float dcc_from_f16(uint16_t bits) { _Float16 x; memcpy(&x, &bits, 2); return (float)x; }
DCC_INLINE uint16_t dcc_to_f16(float x)
{ _Float16 h = (_Float16)x; uint16_t bits; memcpy(&bits, &h, 2); return x != x ? 0x7fff : bits; }
DCC_INLINE uint16_t dcc_f16_from_f64(double x) { return dcc_to_f16(dcc_odd_float(x)); }
DCC_INLINE float dcc_from_bf16(uint16_t bits) { return dcc_float((uint32_t)bits << 16); }
DCC_INLINE uint16_t dcc_to_bf16(float x)
{
    uint32_t bits = dcc_bits32(x);
    if (x != x) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
DCC_INLINE uint16_t dcc_bf16_from_f64(double x) { return dcc_to_bf16(dcc_odd_float(x)); }
DCC_INLINE uint16_t dcc_to_bf16_rz(float x) { return x != x ? 0x7fff : (uint16_t)(dcc_bits32(x) >> 16); }
DCC_INLINE uint16_t dcc_to_f16_rz(float x)
{
    uint16_t bits = dcc_to_f16(x);
    return fabsf(dcc_from_f16(bits)) > fabsf(x) ? (uint16_t)(bits - 1) : bits;
}
DCC_INLINE uint32_t dcc_pair(uint16_t low, uint16_t high) { return ((uint32_t)high << 16) | low; }
DCC_INLINE uint32_t dcc_to_tf32_rna(float x)
{
    uint32_t bits = dcc_bits32(x);
    if (x != x) return 0x7fffffff;
    if ((bits & 0x7f800000) == 0x7f800000) return bits;
    return (bits + 0x1000) & 0xffffe000;
}
DCC_INLINE uint32_t dcc_to_tf32_rn(float x)
{
    uint32_t bits = dcc_bits32(x);
    if (x != x) return 0x7fffffff;
    if ((bits & 0x7f800000) == 0x7f800000) return bits;
    return (bits + 0xfff + ((bits >> 13) & 1)) & 0xffffe000;
}
DCC_INLINE float dcc_relu(float x) { return x != x ? x : x > 0.0f ? x : 0.0f; }

/* Exact product and sum, rounded so that one more rounding to 11 or 8 bits is the only one. */
DCC_INLINE float dcc_fma_narrow(float a, float b, float c)
{ return dcc_odd_float(dcc_odd_sum((double)a * (double)b, (double)c)); }
/* The same for float16 operands, whose products are exact in float. */
DCC_INLINE float dcc_fma_f16(float a, float b, float c)
{
    float p = a * b, s = p + c, t = s - p, lost = (p - (s - t)) + (c - t);
    uint32_t bits = dcc_bits32(s);
    bool adjust = lost == lost && lost != 0.0f && !(bits & 1);
    uint32_t step = (lost > 0.0f) == (s > 0.0f) ? 1u : UINT32_MAX;
    return adjust ? dcc_float(bits + step) : s;
}

/* ---- floats to integers: out of range to the nearest there is, NaN as PTX tells ---- */

#define DCC_TO_INTEGER(name, type, low, high, nan64)                                                        \
    DCC_INLINE type dcc_##name##_from_f32(float x)                                                          \
    { return x != x ? (type)(sizeof(type) == 8 ? nan64 : 0)                                                 \
             : (double)x <= (double)low ? (type)low : (double)x >= (double)high ? (type)high : (type)x; }   \
    DCC_INLINE type dcc_##name##_from_f64(double x)                                                         \
    { return x != x ? (type)(sizeof(type) >= 4 ? nan64 : 0)                                                 \
             : x <= (double)low ? (type)low : x >= (double)high ? (type)high : (type)x; }
DCC_TO_INTEGER(s8, int8_t, INT8_MIN, INT8_MAX, 0)
DCC_TO_INTEGER(u8, uint8_t, 0, UINT8_MAX, 0)
DCC_TO_INTEGER(s16, int16_t, INT16_MIN, INT16_MAX, 0)
DCC_TO_INTEGER(u16, uint16_t, 0, UINT16_MAX, 0)
DCC_TO_INTEGER(s32, int32_t, INT32_MIN, INT32_MAX, INT32_MIN)
DCC_TO_INTEGER(u32, uint32_t, 0, UINT32_MAX, UINT32_C(0x80000000))
DCC_TO_INTEGER(s64, int64_t, INT64_MIN, INT64_MAX, INT64_MIN)
DCC_TO_INTEGER(u64, uint64_t, 0, UINT64_MAX, UINT64_C(0x8000000000000000))

#define DCC_CLAMP(name, type, low, high)                                                                    \
    DCC_INLINE type dcc_clamp_##name##_s(int64_t x)                                                         \
    { return x < (int64_t)(low) ? (type)(low) : (high) <= (uint64_t)INT64_MAX && x > (int64_t)(high)       \
             ? (type)(high) : (type)x; }                                                                    \
    DCC_INLINE type dcc_clamp_##name##_u(uint64_t x) { return x > (uint64_t)(high) ? (type)(high) : (type)x; }
DCC_CLAMP(s8, int8_t, INT8_MIN, UINT64_C(0x7f))
DCC_CLAMP(u8, uint8_t, 0, UINT64_C(0xff))
DCC_CLAMP(s16, int16_t, INT16_MIN, UINT64_C(0x7fff))
DCC_CLAMP(u16, uint16_t, 0, UINT64_C(0xffff))
DCC_CLAMP(s32, int32_t, INT32_MIN, UINT64_C(0x7fffffff))
DCC_CLAMP(u32, uint32_t, 0, UINT64_C(0xffffffff))
DCC_CLAMP(s64, int64_t, INT64_MIN, UINT64_C(0x7fffffffffffffff))
DCC_CLAMP(u64, uint64_t, 0, UINT64_MAX)

#endif
