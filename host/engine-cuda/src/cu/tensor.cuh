// Products of bf16 matrices by the tensor cores of a warp, with sums in f32 (compute capability 8.0 and later): the
// machine's instructions, each behind one function that the shim has for a processor as well; tiles in shared memory;
// and fragments, the parts of a matrix that each lane has in registers. Not here: what is multiplied.
//
// Fragments are those of `mma.m16n8k16`. Lane l has of a 16 x 8 matrix of sums the rows l / 4 and l / 4 + 8, two
// neighbours in each, from column 2 (l % 4) on. A first factor, 16 x 16, lies as two such matrices side by side: sums
// that are rounded are the next product's factor without leaving their lane.

#ifdef __CUDACC__
__device__ inline u32 in_shared(const void* place) { return (u32)__cvta_generic_to_shared(place); }

// `sums[16, 8] += a[16, 16] b[16, 8]`.
__device__ inline void add_product(float (&sums)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four matrices of 8 x 8 from shared memory: lane l names row l % 8 of matrix l / 8 and is given, of each matrix, two
// neighbours of row l / 4 from column 2 (l % 4) on.
__device__ inline void read_matrices(u32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(in_shared(row)) : "memory");
}

// The same of their transposes.
__device__ inline void read_transposed(u32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(in_shared(row)) : "memory");
}

// Begins to copy so many bytes into shared memory, or zeros where they are not `there`: done when awaited.
template <u32 BYTES> __device__ inline void copy_later(void* to, const void* from, bool there) {
    u32 bytes = there ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(in_shared(to)), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(in_shared(to)), "l"(from), "n"(BYTES), "r"(bytes)
                     : "memory");
}

// Waits for all copies that this thread has begun; others see them behind a barrier.
__device__ inline void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// 2^x, but 0 where that is smaller than any normal number.
__device__ inline float power_of_two(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// The nearest of two numbers, the first in the lower half.
__device__ inline u32 two_bf16(float first, float second) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}
#endif

// Columns behind each row of a tile: the same columns of eight rows lie in different banks.
constexpr u32 PAD = 8;
// Rows that a warp has of a matrix of sums, and terms of a product.
constexpr u32 STEP = 16;

// Of a matrix of ones: what is multiplied by it is summed row by row.
constexpr u32 TWO_ONES = 0x3f803f80;

template <u32 ROWS, u32 WIDTH> using Tile = bf16[ROWS][WIDTH + PAD];

// Where the lane's own part of a fragment begins.
__device__ inline u32 fragment_row() { return threadIdx.x % WARP / 4; }
__device__ inline u32 fragment_column() { return threadIdx.x % 4 * 2; }

// Begins to copy `tile[r, c] = from[r * stride + c]`, zeros beyond `rows` and `columns`.
template <u32 THREADS_OF_BLOCK, u32 ROWS, u32 WIDTH>
__device__ void fetch(Tile<ROWS, WIDTH>& tile, const bf16* from, u32 stride, u32 rows, u32 columns) {
    constexpr u32 NUMBERS = 16 / sizeof(bf16), PIECES = WIDTH / NUMBERS;
    static_assert(ROWS * PIECES % THREADS_OF_BLOCK == 0, "each thread copies as many pieces");
#pragma unroll
    for (u32 i = 0; i < ROWS * PIECES; i += THREADS_OF_BLOCK) {
        u32 r = (i + threadIdx.x) / PIECES, c = (i + threadIdx.x) % PIECES * NUMBERS;
        bool there = r < rows && c < columns;
        copy_later<16>(&tile[r][c], there ? from + (u64)r * stride + c : from, there);
    }
}

// A warp's first factor, 16 rows `from[r * stride + c]`, from global memory; zeros beyond `rows` and `columns`.
template <u32 WIDTH>
__device__ void read_rows(u32 (&a)[WIDTH / STEP][4], const bf16* from, u32 stride, u32 rows, u32 columns) {
#pragma unroll
    for (u32 k = 0; k < WIDTH / STEP; k++)
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 r = fragment_row() + i % 2 * 8, c = k * STEP + i / 2 * 8 + fragment_column();
            bool there = r < rows && c < columns;
            a[k][i] = there ? *reinterpret_cast<const u32*>(from + (u64)r * stride + c) : 0;
        }
}

// `sums[16, 16] += a[16, WIDTH] b^T`, where `b` is 16 rows of a tile.
template <u32 WIDTH>
__device__ void add_product_of_rows(float (&sums)[2][4], const u32 (&a)[WIDTH / STEP][4], const bf16 (*b)[WIDTH + PAD]) {
    u32 lane = threadIdx.x % WARP;
    const bf16* row = &b[lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8];
#pragma unroll
    for (u32 k = 0; k < WIDTH / STEP; k++) {
        u32 factor[4];
        read_matrices(factor, row + k * STEP);
        add_product(sums[0], a[k], factor[0], factor[1]);
        add_product(sums[1], a[k], factor[2], factor[3]);
    }
}

// `sums[16, WIDTH] += a[16, 16] b`, where `b` is 16 rows of a tile.
template <u32 WIDTH>
__device__ void add_weighted_rows(float (&sums)[WIDTH / 8][4], const u32 (&a)[4], const bf16 (*b)[WIDTH + PAD]) {
    u32 lane = threadIdx.x % WARP;
    const bf16* row = &b[lane % 16][lane / 16 * 8];
#pragma unroll
    for (u32 n = 0; n < WIDTH / 8; n += 2) {
        u32 factor[4];
        read_transposed(factor, row + n * 8);
        add_product(sums[n], a, factor[0], factor[1]);
        add_product(sums[n + 1], a, factor[2], factor[3]);
    }
}

// 16 x 16 sums as the first factor of the next product.
__device__ inline void round_to_factor(u32 (&a)[4], const float (&sums)[2][4]) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) a[i] = two_bf16(sums[i / 2][i % 2 * 2], sums[i / 2][i % 2 * 2 + 1]);
}

// Writes a warp's `to[r * stride + c] = sums[r, c] factor[r]`; a lane has two rows.
template <u32 WIDTH>
__device__ void write_rows(bf16* to, u32 stride, const float (&sums)[WIDTH / 8][4], const float (&factor)[2], u32 rows,
                           u32 columns) {
#pragma unroll
    for (u32 n = 0; n < WIDTH / 8; n++)
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            u32 r = fragment_row() + i * 8, c = n * 8 + fragment_column();
            u32 both = two_bf16(sums[n][2 * i] * factor[i], sums[n][2 * i + 1] * factor[i]);
            if (r < rows && c < columns) *reinterpret_cast<u32*>(to + (u64)r * stride + c) = both;
        }
}

// Over the four lanes that have parts of a row.
__device__ inline float row_max(float x) {
    for (u32 distance = 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}

__device__ inline float row_sum(float x) {
    for (u32 distance = 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}
