// Sixteen-bit floats as generated code names them: vectors of four, and functions that CUDA's headers lack.
template <typename T>
struct __align__(8) four_halves {
  T x, y, z, w;
};
using half4 = four_halves<__half>;
using nv_bfloat164 = four_halves<__nv_bfloat16>;

inline __device__ half4 make_half4(__half x, __half y, __half z, __half w) { return {x, y, z, w}; }
inline __device__ nv_bfloat164 make_nv_bfloat164(__nv_bfloat16 x, __nv_bfloat16 y, __nv_bfloat16 z,
                                                              __nv_bfloat16 w) {
  return {x, y, z, w};
}

// Through single precision: the results are rounded once.
inline __device__ __half hpow(__half x, __half y) {
  return __float2half_rn(powf(__half2float(x), __half2float(y)));
}
#if __CUDACC_VER_MAJOR__ < 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ < 8)
inline __device__ __half htanh(__half x) { return __float2half_rn(tanhf(__half2float(x))); }
#endif
inline __device__ __half htan(__half x) { return __float2half_rn(tanf(__half2float(x))); }
inline __device__ __half hatan(__half x) { return __float2half_rn(atanf(__half2float(x))); }
inline __device__ __half herf(__half x) { return __float2half_rn(erff(__half2float(x))); }
