// What deploycc's GPU kernels call besides CUDA's own functions; it stands before every generated program.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
using uint = unsigned int;
using uchar = unsigned char;
using ushort = unsigned short;

// Of float16 numbers CUDA has these under other names; where one is NaN the second comes out.
__device__ __forceinline__ half max(half a, half b) { return __half2float(a) > __half2float(b) ? a : b; }
__device__ __forceinline__ half min(half a, half b) { return __half2float(a) < __half2float(b) ? a : b; }

