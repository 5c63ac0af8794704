#include "warps.h"

#include "arithmetic.h"
#include "races.h"

/* ---- shuffles ---- */

/* What a lane gives that does not take part: PTX leaves it open, a NaN makes it seen. */
static const uint32_t NOTHING = 0xfff7fff7;

static void shuffle_from(dcc_thread *lanes, uint32_t mask, uint32_t lane, int from, bool in_range)
{
    int source = in_range ? from : (int)lane;
    lanes[lane].out[0] = mask >> source & 1 ? lanes[source].in[0] : NOTHING;
    lanes[lane].out[1] = in_range;
}

#define SHUFFLE(name, from_lane, condition)                                                                \
    const char *dcc_shfl_##name(dcc_block *block, dcc_thread *lanes, uint32_t mask)                        \
    {                                                                                                       \
        (void)block;                                                                                        \
        for (uint32_t left = mask; left; left &= left - 1) {                                                \
            int lane = __builtin_ctz(left);                                                                 \
            int segment = (int)(lanes[lane].in[2] >> 8 & 31), clamp = (int)(lanes[lane].in[2] & 31);         \
            int b = (int)(lanes[lane].in[1] & 31);                                                          \
            int last = (lane & segment) | (clamp & ~segment), first = lane & segment;                       \
            int from = from_lane;                                                                           \
            (void)first;                                                                                    \
            shuffle_from(lanes, mask, (uint32_t)lane, from, condition);                                     \
        }                                                                                                   \
        return NULL;                                                                                        \
    }
SHUFFLE(up, lane - b, from >= last)
SHUFFLE(down, lane + b, from <= last)
SHUFFLE(bfly, lane ^ b, from <= last)
SHUFFLE(idx, first | (b & ~segment), from <= last)

/* ---- votes and reductions ---- */

const char *dcc_vote(dcc_block *block, dcc_thread *lanes, uint32_t mask)
{
    (void)block;
    uint32_t ballot = 0;
    for (uint32_t left = mask; left; left &= left - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(left);
        ballot |= (lanes[lane].in[0] != 0) << lane;
    }
    for (uint32_t left = mask; left; left &= left - 1) {
        uint32_t *out = lanes[__builtin_ctz(left)].out;
        out[0] = ballot;
        out[1] = ballot != 0;
        out[2] = ballot == mask;
        out[3] = ballot == 0 || ballot == mask;
    }
    return NULL;
}

const char *dcc_match(dcc_block *block, dcc_thread *lanes, uint32_t mask)
{
    (void)block;
    for (uint32_t left = mask; left; left &= left - 1) {
        dcc_thread *lane = &lanes[__builtin_ctz(left)];
        uint32_t same = 0;
        for (uint32_t others = mask; others; others &= others - 1) {
            uint32_t other = (uint32_t)__builtin_ctz(others);
            if (lanes[other].in[0] == lane->in[0] && lanes[other].in[1] == lane->in[1]) same |= 1u << other;
        }
        lane->out[0] = same;
        lane->out[1] = same == mask;
    }
    return NULL;
}

const char *dcc_meet(dcc_block *block, dcc_thread *lanes, uint32_t mask)
{
    (void)block;
    (void)lanes;
    (void)mask;
    return NULL;
}

#define REDUCTION(name, type, expression)                                              \
    const char *dcc_redux_##name(dcc_block *block, dcc_thread *lanes, uint32_t mask)   \
    {                                                                                   \
        (void)block;                                                                    \
        type a = (type)lanes[__builtin_ctz(mask)].in[0];                                \
        for (uint32_t left = mask & (mask - 1); left; left &= left - 1) {               \
            type b = (type)lanes[__builtin_ctz(left)].in[0];                            \
            a = expression;                                                             \
        }                                                                               \
        for (uint32_t left = mask; left; left &= left - 1)                              \
            lanes[__builtin_ctz(left)].out[0] = (uint32_t)a;                            \
        return NULL;                                                                    \
    }
REDUCTION(add, uint32_t, a + b)
REDUCTION(min_s32, int32_t, a < b ? a : b)
REDUCTION(max_s32, int32_t, a > b ? a : b)
REDUCTION(min_u32, uint32_t, a < b ? a : b)
REDUCTION(max_u32, uint32_t, a > b ? a : b)
REDUCTION(and, uint32_t, a & b)
REDUCTION(or, uint32_t, a | b)
REDUCTION(xor, uint32_t, a ^ b)

/* ---- ldmatrix: matrix m has its rows at the addresses of lanes 8m to 8m+7 ---- */

static const char *load_matrices(dcc_block *block, dcc_thread *lanes, uint32_t count, bool transposed)
{
    for (uint32_t matrix = 0; matrix < count; matrix++) {
        uint16_t elements[8][8];
        for (uint32_t row = 0; row < 8; row++) {
            uint64_t offset = lanes[matrix * 8 + row].address;
            if (offset & 15) return "ldmatrix: a row that is not aligned to 16 bytes";
            if (offset + 16 > block->shared_bytes) return "ldmatrix: a row outside shared memory";
#if DCC_RACES
            const dcc_thread *reader = &lanes[matrix * 8 + row];
            dcc_note_read(block, reader->number, offset, 16, reader->place);
#endif
            memcpy(elements[row], block->shared + offset, 16);
        }
        for (uint32_t lane = 0; lane < 32; lane++) {
            uint32_t row = lane / 4, column = lane % 4 * 2;
            lanes[lane].out[matrix] = transposed
                ? dcc_pair(elements[column][row], elements[column + 1][row])
                : dcc_pair(elements[row][column], elements[row][column + 1]);
        }
    }
    return NULL;
}

#define LDMATRIX(name, count, transposed)                                                    \
    const char *dcc_ldmatrix_##name(dcc_block *block, dcc_thread *lanes, uint32_t mask)      \
    {                                                                                         \
        (void)mask;                                                                           \
        return load_matrices(block, lanes, count, transposed);                                \
    }
LDMATRIX(x1, 1, false)
LDMATRIX(x2, 2, false)
LDMATRIX(x4, 4, false)
LDMATRIX(x1_trans, 1, true)
LDMATRIX(x2_trans, 2, true)
LDMATRIX(x4_trans, 4, true)

/* ---- mma ----
 * PTX ISA, "Matrix Fragments for mma": with g = lane / 4, t = lane % 4 and e elements in a word, word r of A
 * holds row g + 8 (r mod 2), columns t e + 4 e (r / 2) on (r for an A of 8 rows), word r of B rows t e + 4 e r on
 * of column g, and accumulator i row g + 8 (i / 2), column 2 t + i mod 2; in float16 two of them share a word.
 */

enum Kind { F16, BF16, TF32, S8, U8 };

static inline __attribute__((always_inline)) float float_element(uint32_t word, enum Kind kind, uint32_t e)
{
    if (kind == F16) return dcc_from_f16((uint16_t)(word >> (16 * e)));
    if (kind == BF16) return dcc_from_bf16((uint16_t)(word >> (16 * e)));
    return dcc_float(word & 0xffffe000); /* the low bits of a tf32 operand are not read */
}

static inline __attribute__((always_inline)) void multiply_floats(dcc_thread *lanes, enum Kind kind,
                                                                  uint32_t k, bool narrow)
{
    const uint32_t e_count = kind == TF32 ? 1 : 2, b_words = k / (4 * e_count), a_words = 2 * b_words;
    float a[16][16], b[16][8], c[16][8];
    for (uint32_t lane = 0; lane < 32; lane++) {
        const uint32_t *in = lanes[lane].in, g = lane / 4, t = lane % 4;
        for (uint32_t r = 0; r < a_words; r++)
            for (uint32_t e = 0; e < e_count; e++)
                a[g + 8 * (r & 1)][(t + 4 * (r / 2)) * e_count + e] = float_element(in[r], kind, e);
        for (uint32_t r = 0; r < b_words; r++)
            for (uint32_t e = 0; e < e_count; e++)
                b[(t + 4 * r) * e_count + e][g] = float_element(in[a_words + r], kind, e);
        const uint32_t *from = in + a_words + b_words;
        for (uint32_t i = 0; i < 4; i++)
            c[g + 8 * (i / 2)][2 * t + (i & 1)] =
                narrow ? dcc_from_f16((uint16_t)(from[i / 2] >> (16 * (i & 1)))) : dcc_float(from[i]);
    }
    for (uint32_t m = 0; m < 16; m++)
        for (uint32_t j = 0; j < k; j++)
            for (uint32_t n = 0; n < 8; n++) c[m][n] = fmaf(a[m][j], b[j][n], c[m][n]);
    for (uint32_t lane = 0; lane < 32; lane++) {
        const uint32_t g = lane / 4, t = lane % 4;
        uint32_t *out = lanes[lane].out;
        for (uint32_t half = 0; half < 2; half++) {
            const float *from = &c[g + 8 * half][2 * t];
            if (narrow) {
                out[half] = dcc_pair(dcc_to_f16(from[0]), dcc_to_f16(from[1]));
            } else {
                out[2 * half] = dcc_bits32(from[0]);
                out[2 * half + 1] = dcc_bits32(from[1]);
            }
        }
    }
}

#define MMA_FLOATS(name, kind, k, narrow)                                            \
    const char *dcc_mma_##name(dcc_block *block, dcc_thread *lanes, uint32_t mask)   \
    {                                                                                 \
        (void)block;                                                                  \
        (void)mask;                                                                   \
        multiply_floats(lanes, kind, k, narrow);                                      \
        return NULL;                                                                  \
    }
MMA_FLOATS(m16n8k8_f16_f32, F16, 8, false)
MMA_FLOATS(m16n8k8_f16_f16, F16, 8, true)
MMA_FLOATS(m16n8k16_f16_f32, F16, 16, false)
MMA_FLOATS(m16n8k16_f16_f16, F16, 16, true)
MMA_FLOATS(m16n8k8_bf16_f32, BF16, 8, false)
MMA_FLOATS(m16n8k16_bf16_f32, BF16, 16, false)
MMA_FLOATS(m16n8k4_tf32_f32, TF32, 4, false)
MMA_FLOATS(m16n8k8_tf32_f32, TF32, 8, false)

static inline int32_t integer_element(uint32_t word, bool is_signed, uint32_t e)
{
    return is_signed ? (int8_t)(word >> (8 * e)) : (uint8_t)(word >> (8 * e));
}

static inline __attribute__((always_inline)) void multiply_integers(dcc_thread *lanes, uint32_t m, uint32_t k,
                                                                    bool a_signed, bool b_signed)
{
    const uint32_t b_words = k / 16, high = m / 8, a_words = high * b_words;
    int32_t a[16][32], b[32][8], c[16][8];
    for (uint32_t lane = 0; lane < 32; lane++) {
        const uint32_t *in = lanes[lane].in, g = lane / 4, t = lane % 4;
        for (uint32_t r = 0; r < a_words; r++)
            for (uint32_t e = 0; e < 4; e++)
                a[g + 8 * (r % high)][(t + 4 * (r / high)) * 4 + e] = integer_element(in[r], a_signed, e);
        for (uint32_t r = 0; r < b_words; r++)
            for (uint32_t e = 0; e < 4; e++)
                b[(t + 4 * r) * 4 + e][g] = integer_element(in[a_words + r], b_signed, e);
        for (uint32_t i = 0; i < 2 * high; i++)
            c[g + 8 * (i / 2)][2 * t + (i & 1)] = (int32_t)in[a_words + b_words + i];
    }
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < k; j++)
            for (uint32_t n = 0; n < 8; n++) c[i][n] += a[i][j] * b[j][n];
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t i = 0; i < 2 * high; i++)
            lanes[lane].out[i] = (uint32_t)c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + (i & 1)];
}

#define MMA_INTEGERS(m, k, a, b, a_signed, b_signed)                                                        \
    const char *dcc_mma_m##m##n8k##k##_##a##_##b(dcc_block *block, dcc_thread *lanes, uint32_t mask)        \
    {                                                                                                        \
        (void)block;                                                                                         \
        (void)mask;                                                                                          \
        multiply_integers(lanes, m, k, a_signed, b_signed);                                                  \
        return NULL;                                                                                         \
    }
#define MMA_SIGNS(m, k)                         \
    MMA_INTEGERS(m, k, s8, s8, true, true)      \
    MMA_INTEGERS(m, k, s8, u8, true, false)     \
    MMA_INTEGERS(m, k, u8, s8, false, true)     \
    MMA_INTEGERS(m, k, u8, u8, false, false)
MMA_SIGNS(8, 16)
MMA_SIGNS(16, 16)
MMA_SIGNS(16, 32)
