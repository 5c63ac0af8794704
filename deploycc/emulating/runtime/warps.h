/* What the lanes of a warp do together, as `dcc_operation`s. */
#ifndef DCC_WARPS_H
#define DCC_WARPS_H

#include "emulated.h"

/* in: value, b, c; out: value, whether the source lane was in range. */
const char *dcc_shfl_idx(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_shfl_up(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_shfl_down(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_shfl_bfly(dcc_block *block, dcc_thread *lanes, uint32_t mask);

/* in: predicate; out: ballot, any, all, uni. */
const char *dcc_vote(dcc_block *block, dcc_thread *lanes, uint32_t mask);
/* in: low and high half of the value; out: lanes with the same, whether all have it. */
const char *dcc_match(dcc_block *block, dcc_thread *lanes, uint32_t mask);
/* bar.warp.sync */
const char *dcc_meet(dcc_block *block, dcc_thread *lanes, uint32_t mask);

/* in: value; out: result. */
const char *dcc_redux_add(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_redux_min_s32(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_redux_max_s32(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_redux_min_u32(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_redux_max_u32(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_redux_and(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_redux_or(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_redux_xor(dcc_block *block, dcc_thread *lanes, uint32_t mask);

/* `address`: of a row of 16 bytes, offset in shared memory; out: a word a matrix. */
const char *dcc_ldmatrix_x1(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_ldmatrix_x2(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_ldmatrix_x4(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_ldmatrix_x1_trans(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_ldmatrix_x2_trans(dcc_block *block, dcc_thread *lanes, uint32_t mask);
const char *dcc_ldmatrix_x4_trans(dcc_block *block, dcc_thread *lanes, uint32_t mask);

/* in: words of A, of B, of C; out: words of D.  Named by shape, types of A and B, and type of C and D. */
#define DCC_MMA(name) const char *dcc_mma_##name(dcc_block *block, dcc_thread *lanes, uint32_t mask);
DCC_MMA(m16n8k8_f16_f32)
DCC_MMA(m16n8k8_f16_f16)
DCC_MMA(m16n8k16_f16_f32)
DCC_MMA(m16n8k16_f16_f16)
DCC_MMA(m16n8k8_bf16_f32)
DCC_MMA(m16n8k16_bf16_f32)
DCC_MMA(m16n8k4_tf32_f32)
DCC_MMA(m16n8k8_tf32_f32)
DCC_MMA(m8n8k16_s8_s8)
DCC_MMA(m8n8k16_s8_u8)
DCC_MMA(m8n8k16_u8_s8)
DCC_MMA(m8n8k16_u8_u8)
DCC_MMA(m16n8k16_s8_s8)
DCC_MMA(m16n8k16_s8_u8)
DCC_MMA(m16n8k16_u8_s8)
DCC_MMA(m16n8k16_u8_u8)
DCC_MMA(m16n8k32_s8_s8)
DCC_MMA(m16n8k32_s8_u8)
DCC_MMA(m16n8k32_u8_s8)
DCC_MMA(m16n8k32_u8_u8)
#undef DCC_MMA

#endif
