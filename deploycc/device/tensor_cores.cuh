// Products of matrices on tensor cores: mma.sync with float accumulators, for sm_75 and newer.
//
// A block of threads computes ROWS x COLUMNS of the product.  Both factors go through shared memory in stages
// of CHUNKS pieces of 16 bytes along the sum for each row; a step of the tensor cores takes two pieces.  Row r
// of the left factor is what `Source` says (a pixel's surroundings, for a convolution); row n of the right one
// is column n of the product, its `inner` factors one behind the other, padded with zeros to whole pieces.
// Pieces are stored at an exclusive or of their number and their row's, so that the eight rows that ldmatrix
// reads together lie in different banks.
namespace dcc {

struct tf32 {};  // factors are floats, rounded to 10 bits of mantissa

template <class Product>
struct stored_as {
    using type = Product;
};
template <>
struct stored_as<tf32> {
    using type = float;
};

template <class T>
__device__ __forceinline__ T rounded(float value);
template <>
__device__ __forceinline__ float rounded<float>(float value) {
    return value;
}
template <>
__device__ __forceinline__ __half rounded<__half>(float value) {
    return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 rounded<__nv_bfloat16>(float value) {
    return __float2bfloat16_rn(value);
}
__device__ __forceinline__ float widened(float value) { return value; }
__device__ __forceinline__ float widened(__half value) { return __half2float(value); }
__device__ __forceinline__ float widened(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class To, class From>
__device__ __forceinline__ To converted(From value) {
    if constexpr (sizeof(To) == sizeof(From)) {
        return value;
    } else {
        return rounded<To>(widened(value));
    }
}

// ---- instructions ----

__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void load_fragments_x4(uint32_t address, uint32_t *to) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void load_fragments_x2(uint32_t address, uint32_t *to) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(address)
                 : "memory");
}

// Copies BYTES, or fills with zeros where there is nothing to copy; `from` must be readable memory either way.
template <int BYTES>
__device__ __forceinline__ void copy_async(uint32_t to, const void *from, bool there) {
#if __CUDA_ARCH__ >= 800
    const int size = there ? BYTES : 0;
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(size)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(to), "l"(from), "n"(BYTES),
                     "r"(size)
                     : "memory");
    }
#endif
}

__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory");
#endif
}

// sums (16 x 8) += left (16 rows, 32 bytes along the sum) * right (8 columns, as many)
__device__ __forceinline__ void multiply_add(float *sums, const uint32_t *left, const uint32_t *right, __half) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#else
    for (int half = 0; half < 2; ++half) {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n"
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                     : "r"(left[2 * half]), "r"(left[2 * half + 1]), "r"(right[half]));
    }
#endif
}

__device__ __forceinline__ void multiply_add(float *sums, const uint32_t *left, const uint32_t *right,
                                             __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#endif
}

__device__ __forceinline__ void multiply_add(float *sums, const uint32_t *left, const uint32_t *right, tf32) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#endif
}

__device__ __forceinline__ uint32_t rounded_to_tf32(uint32_t bits) {
#if __CUDA_ARCH__ >= 800
    asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(__uint_as_float(bits)));
#endif
    return bits;
}

// ---- the left factor ----

// Surroundings of the pixels of a convolution's result, of one group: factor (ky, kx, c) of row (n, y, x).
// The image has its channels last, or, PLANAR, first.
template <bool PLANAR, int PIXELS, int HEIGHT, int WIDTH, int CHANNELS, int GROUP_CHANNELS, int KERNEL_Y, int KERNEL_X,
          int STRIDE_Y, int STRIDE_X, int DILATION_Y, int DILATION_X, int TOP, int LEFT, int OUT_HEIGHT,
          int OUT_WIDTH>
struct Surroundings {
    static constexpr int inner = KERNEL_Y * KERNEL_X * GROUP_CHANNELS;
    static constexpr int run = PLANAR ? 1 : GROUP_CHANNELS;  // factors one behind the other in memory
    static constexpr int aligned_to = CHANNELS;
    static constexpr int of_pixel = PLANAR ? 1 : CHANNELS, of_channel = PLANAR ? HEIGHT * WIDTH : 1;
    static constexpr bool padded = TOP > 0 || LEFT > 0 ||
                                   (OUT_HEIGHT - 1) * STRIDE_Y - TOP + (KERNEL_Y - 1) * DILATION_Y >= HEIGHT ||
                                   (OUT_WIDTH - 1) * STRIDE_X - LEFT + (KERNEL_X - 1) * DILATION_X >= WIDTH;

    struct Row {
        int place;  // of the first factor, which may lie outside the image
        int y, x;
    };
    struct Factor {
        int place;
        int y, x;
        bool there;
    };

    static __device__ __forceinline__ Row row(int pixel, int group) {
        const int n = pixel / (OUT_HEIGHT * OUT_WIDTH), rest = pixel % (OUT_HEIGHT * OUT_WIDTH);
        const int y = rest / OUT_WIDTH * STRIDE_Y - TOP, x = rest % OUT_WIDTH * STRIDE_X - LEFT;
        const int place = n * HEIGHT * WIDTH * CHANNELS + (y * WIDTH + x) * of_pixel +
                          group * GROUP_CHANNELS * of_channel;
        if (pixel >= PIXELS) return {0, -(1 << 24), 0};
        return {place, y, x};
    }
    static __device__ __forceinline__ Factor factor(int k) {
        const int tap = k / GROUP_CHANNELS, c = k % GROUP_CHANNELS;
        const int y = tap / KERNEL_X * DILATION_Y, x = tap % KERNEL_X * DILATION_X;
        return {(y * WIDTH + x) * of_pixel + c * of_channel, y, x, k < inner};
    }
    // Whether the factor is one of memory; it is 0 otherwise.
    static __device__ __forceinline__ bool inside(const Row &row, const Factor &factor) {
        if constexpr (!padded) return factor.there && row.y >= 0;
        return factor.there && static_cast<unsigned>(row.y + factor.y) < static_cast<unsigned>(HEIGHT) &&
               static_cast<unsigned>(row.x + factor.x) < static_cast<unsigned>(WIDTH);
    }
};

// Rows of a matrix in memory.
template <int COUNT, int INNER>
struct Rows {
    static constexpr int inner = INNER, run = INNER, aligned_to = INNER;
    struct Row {
        int place;
    };
    struct Factor {
        int place;
        bool there;
    };
    static __device__ __forceinline__ Row row(int number, int) { return {number < COUNT ? number * INNER : -1}; }
    static __device__ __forceinline__ Factor factor(int k) { return {k, k < INNER}; }
    static __device__ __forceinline__ bool inside(const Row &row, const Factor &factor) {
        return factor.there && row.place >= 0;
    }
};

// ---- a block's product ----

__host__ __device__ constexpr int common_power_of_two(int a, int b) {
    int found = 1;
    while (found < 16 && a % (2 * found) == 0 && b % (2 * found) == 0) found *= 2;
    return found;
}

template <int CHUNKS>
__device__ __forceinline__ int swizzled(int row, int chunk) {
    constexpr int rows_of_banks = CHUNKS >= 8 ? 1 : 8 / CHUNKS;
    constexpr int mask = CHUNKS >= 8 ? 7 : CHUNKS - 1;
    return (row * CHUNKS + (chunk ^ (row / rows_of_banks & mask))) * 16;
}

// ROWS x COLUMNS sums of a block of 32 * WARPS_M * WARPS_N * WARPS_K threads.  The warps of one (m, n) share
// the steps of a stage; the sums are those of the first WARPS_M * WARPS_N warps at the end, and of a warp's
// ROWS / WARPS_M x COLUMNS / WARPS_N those of fragment (i, j), 16 x 8, are at 4 * (i * fragments in a row + j).
template <class Product, class Stored, class Source, int OUT, int ROWS, int COLUMNS, int CHUNKS, int WARPS_M,
          int WARPS_N, int WARPS_K, int STAGES>
struct Tile {
    using Element = typename stored_as<Product>::type;
    static constexpr int threads = 32 * WARPS_M * WARPS_N * WARPS_K;
    static constexpr int each = 16 / sizeof(Element);  // factors in a piece
    static constexpr int stage = CHUNKS * each;        // factors in a stage
    static constexpr int pieces = (Source::inner + each - 1) / each;
    static constexpr int stages_in_all = (pieces + CHUNKS - 1) / CHUNKS;
    static constexpr int rows_at_once = threads / CHUNKS;
    static constexpr int left_loads = (ROWS + rows_at_once - 1) / rows_at_once;
    static constexpr int right_loads = (COLUMNS + rows_at_once - 1) / rows_at_once;
    static constexpr int left_bytes = ROWS * CHUNKS * 16, right_bytes = COLUMNS * CHUNKS * 16;
    static constexpr int warp_rows = ROWS / WARPS_M, warp_columns = COLUMNS / WARPS_N;
    static constexpr int tall = warp_rows / 16, wide = warp_columns / 8;
    // Elements that one load takes: all lie in one run, and are aligned.
    static constexpr int most = sizeof(Stored) == sizeof(Element) ? each : 16 / sizeof(Stored);
    static constexpr int found = common_power_of_two(Source::run, Source::aligned_to);
    static constexpr int lanes = found < most ? found : most;
    static constexpr int loads = each / lanes;
#if __CUDA_ARCH__ >= 800
    static constexpr bool right_async = true;
    static constexpr bool left_async =
        sizeof(Stored) == sizeof(Element) && lanes * sizeof(Element) >= 4;
#else
    static constexpr bool right_async = false, left_async = false;
#endif
    static_assert(rows_at_once >= 1 && ROWS % (16 * WARPS_M) == 0 && COLUMNS % (8 * WARPS_N) == 0, "");
    static_assert(CHUNKS / 2 % WARPS_K == 0 && STAGES >= 2, "");

    typename Source::Row rows[left_loads];
    const Stored *left;
    const Element *right;
    char *memory;
    int group, column, chunk, line;
    uint4 left_held[left_async ? 1 : left_loads];
    uint4 right_held[right_async ? 1 : right_loads];

    __device__ __forceinline__ char *left_at(int slot) const { return memory + slot * left_bytes; }
    __device__ __forceinline__ char *right_at(int slot) const {
        return memory + STAGES * left_bytes + slot * right_bytes;
    }

    // Loads of stage `number` begin; what does not go straight to shared memory is in registers.
    __device__ __forceinline__ void fetch(int number, int slot, int last) {
        const bool wanted = number < last;
        const int piece = number * CHUNKS + chunk;
        if constexpr (left_async) {
#pragma unroll
            for (int j = 0; j < loads; ++j) {
                const auto factor = Source::factor(piece * each + j * lanes);
#pragma unroll
                for (int i = 0; i < left_loads; ++i) {
                    const int row = line + i * rows_at_once;
                    const bool there = wanted && Source::inside(rows[i], factor);
                    const Stored *from = left + (there ? rows[i].place + factor.place : 0);
                    if (ROWS % rows_at_once == 0 || row < ROWS)
                        copy_async<lanes * sizeof(Stored)>(
                            shared_address(left_at(slot) + swizzled<CHUNKS>(row, chunk)) + j * lanes * sizeof(Stored),
                            from, there);
                }
            }
        } else {
#pragma unroll
            for (int i = 0; i < left_loads; ++i) {
                alignas(16) Element piece_of[each];
#pragma unroll
                for (int j = 0; j < loads; ++j) {
                    const auto factor = Source::factor(piece * each + j * lanes);
                    struct alignas(lanes * sizeof(Stored)) Several {
                        Stored one[lanes];
                    };
                    Several several;
                    const bool there = wanted && Source::inside(rows[i], factor);
                    if (there)
                        several = *reinterpret_cast<const Several *>(left + rows[i].place + factor.place);
#pragma unroll
                    for (int l = 0; l < lanes; ++l)
                        piece_of[j * lanes + l] = there ? converted<Element>(several.one[l]) : rounded<Element>(0.0f);
                }
                left_held[i] = *reinterpret_cast<const uint4 *>(piece_of);
            }
        }
#pragma unroll
        for (int i = 0; i < right_loads; ++i) {
            const int row = line + i * rows_at_once;
            const bool there = wanted && column + row < OUT && piece < pieces;
            const uint4 *from = reinterpret_cast<const uint4 *>(right) +
                                (there ? (group * OUT + column + row) * pieces + piece : 0);
            if constexpr (right_async) {
                if (COLUMNS % rows_at_once == 0 || row < COLUMNS)
                    copy_async<16>(shared_address(right_at(slot) + swizzled<CHUNKS>(row, chunk)), from, there);
            } else {
                right_held[i] = there ? __ldg(from) : make_uint4(0, 0, 0, 0);
            }
        }
        commit_copies();
    }

    // What `fetch` holds in registers goes to shared memory.
    __device__ __forceinline__ void put(int slot) {
        if constexpr (!left_async) {
#pragma unroll
            for (int i = 0; i < left_loads; ++i) {
                const int row = line + i * rows_at_once;
                if (ROWS % rows_at_once == 0 || row < ROWS)
                    *reinterpret_cast<uint4 *>(left_at(slot) + swizzled<CHUNKS>(row, chunk)) = left_held[i];
            }
        }
        if constexpr (!right_async) {
#pragma unroll
            for (int i = 0; i < right_loads; ++i) {
                const int row = line + i * rows_at_once;
                if (COLUMNS % rows_at_once == 0 || row < COLUMNS)
                    *reinterpret_cast<uint4 *>(right_at(slot) + swizzled<CHUNKS>(row, chunk)) = right_held[i];
            }
        }
    }

    __device__ __forceinline__ void multiply(int slot, float *sums, int m, int n, int k, int lane) {
        const uint32_t left_base = shared_address(left_at(slot)), right_base = shared_address(right_at(slot));
#pragma unroll
        for (int step = 0; step < CHUNKS / 2 / WARPS_K; ++step) {
            const int first = 2 * (step * WARPS_K + k);
            uint32_t a[tall][4], b[wide][2];
#pragma unroll
            for (int i = 0; i < tall; ++i) {
                const int row = m * warp_rows + i * 16 + lane % 16;
                load_fragments_x4(left_base + swizzled<CHUNKS>(row, first + lane / 16), a[i]);
                if constexpr (sizeof(Element) == 4) {
#pragma unroll
                    for (int r = 0; r < 4; ++r) a[i][r] = rounded_to_tf32(a[i][r]);
                }
            }
#pragma unroll
            for (int j = 0; j + 1 < wide; j += 2) {
                const int row = n * warp_columns + j * 8 + lane % 8 + lane / 16 * 8;
                uint32_t four[4];
                load_fragments_x4(right_base + swizzled<CHUNKS>(row, first + lane / 8 % 2), four);
                b[j][0] = four[0], b[j][1] = four[1], b[j + 1][0] = four[2], b[j + 1][1] = four[3];
            }
            if constexpr (wide % 2 == 1) {
                const int row = n * warp_columns + (wide - 1) * 8 + lane % 8;
                load_fragments_x2(right_base + swizzled<CHUNKS>(row, first + lane / 8 % 2), b[wide - 1]);
            }
#pragma unroll
            for (int i = 0; i < tall; ++i)
#pragma unroll
                for (int j = 0; j < wide; ++j) multiply_add(sums + 4 * (i * wide + j), a[i], b[j], Product());
        }
    }

    // The sums over the stages [first, last) of `stages_in_all`.
    __device__ __forceinline__ void run(float *sums, int first_row, int first, int last) {
        const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
        const int m = warp % WARPS_M, n = warp / WARPS_M % WARPS_N, k = warp / (WARPS_M * WARPS_N);
        chunk = thread % CHUNKS, line = thread / CHUNKS;
#pragma unroll
        for (int i = 0; i < left_loads; ++i) rows[i] = Source::row(first_row + line + i * rows_at_once, group);
#pragma unroll
        for (int i = 0; i < 4 * tall * wide; ++i) sums[i] = 0.0f;
#pragma unroll
        for (int s = 0; s < STAGES - 1; ++s) {
            fetch(first + s, s, last);
            put(s);
        }
        int slot = 0, next = STAGES - 1;
        for (int number = first; number < last; ++number) {
            wait_for_copies<STAGES - 2>();
            __syncthreads();
            fetch(number + STAGES - 1, next, last);
            multiply(slot, sums, m, n, k, lane);
            put(next);
            slot = slot + 1 == STAGES ? 0 : slot + 1;
            next = next + 1 == STAGES ? 0 : next + 1;
        }
        if constexpr (WARPS_K > 1) {
            wait_for_copies<0>();
            __syncthreads();
            float *others = reinterpret_cast<float *>(memory);
            constexpr int count = 4 * tall * wide, warps = WARPS_M * WARPS_N;
            if (k > 0) {
#pragma unroll
                for (int i = 0; i < count; ++i)
                    others[((k - 1) * count + i) * warps * 32 + warp % warps * 32 + lane] = sums[i];
            }
            __syncthreads();
            if (k == 0) {
#pragma unroll
                for (int other = 0; other < WARPS_K - 1; ++other)
#pragma unroll
                    for (int i = 0; i < count; ++i)
                        sums[i] += others[(other * count + i) * warps * 32 + warp * 32 + lane];
            }
        }
    }
};

// The sums of the block at (first_row, column) of a group's product, over part `part` of PARTS of the stages.
template <class Product, class Stored, class Source, int OUT, int ROWS, int COLUMNS, int CHUNKS, int WARPS_M,
          int WARPS_N, int WARPS_K, int STAGES, int PARTS>
__device__ __forceinline__ void multiply_block(float *sums, void *memory, const Stored *left,
                                               const typename stored_as<Product>::type *right, int first_row,
                                               int group, int column, int part) {
    Tile<Product, Stored, Source, OUT, ROWS, COLUMNS, CHUNKS, WARPS_M, WARPS_N, WARPS_K, STAGES> tile;
    tile.left = left, tile.right = right, tile.memory = static_cast<char *>(memory);
    tile.group = group, tile.column = column;
    constexpr int all = decltype(tile)::stages_in_all;
    tile.run(sums, first_row, part * all / PARTS, (part + 1) * all / PARTS);
}

}  // namespace dcc
