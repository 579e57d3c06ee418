// Element by element, and sums over elements in double precision: each block sums one chunk, then one block sums
// what the chunks came to. Nothing here that a model has a name for.

// Elements that one block sums; the launching side has the same number.
constexpr u64 CHUNK = 1 << 14;

extern "C" __global__ void scale(const float* from, activation* to, float factor, u64 len) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < len) put(to[i], factor * from[i]);
}

// As products read it.
extern "C" __global__ void narrow(const float* from, activation* to, u64 len) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < len) put(to[i], from[i]);
}

__device__ inline u64 end_of_chunk(u64 len) {
    u64 end = (blockIdx.x + 1) * CHUNK;
    return end < len ? end : len;
}

extern "C" __global__ void sum_of_chunks(const float* x, double* sums, u64 len) {
    __shared__ double of_warps[THREADS / WARP];
    double sum = 0;
    for (u64 i = blockIdx.x * CHUNK + threadIdx.x; i < end_of_chunk(len); i += THREADS) sum += (double)x[i];
    sum = block_sum(sum, of_warps);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Of many arrays, whose sums stand in a row, from `first` on.
extern "C" __global__ void squares_of_chunks(Many<const float*> arrays, Many<u64> lens, Many<u32> ends, double* sums,
                                             u64 first) {
    __shared__ double of_warps[THREADS / WARP];
    u32 array = tensor_of_block(ends);
    const float* x = arrays.at[array];
    u64 begin = first_of_block(ends, array, CHUNK), len = lens.at[array];
    u64 end = begin + CHUNK < len ? begin + CHUNK : len;
    double sum = 0;
    for (u64 i = begin + threadIdx.x; i < end; i += THREADS) sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum, of_warps);
    if (threadIdx.x == 0) sums[first + blockIdx.x] = sum;
}

// Four sums a chunk: of a a, b b, a b and (a - b)^2.
extern "C" __global__ void compare_chunks(const float* a, const float* b, double* sums, u64 len) {
    __shared__ double of_warps[THREADS / WARP];
    double sum[4] = {0, 0, 0, 0};
    for (u64 i = blockIdx.x * CHUNK + threadIdx.x; i < end_of_chunk(len); i += THREADS) {
        double x = a[i], y = b[i];
        sum[0] += x * x;
        sum[1] += y * y;
        sum[2] += x * y;
        sum[3] += (x - y) * (x - y);
    }
    for (u32 kind = 0; kind < 4; kind++) {
        double total = block_sum(sum[kind], of_warps);
        if (threadIdx.x == 0) sums[4 * (u64)blockIdx.x + kind] = total;
    }
}

// Sums of `chunks` rows of `kinds` numbers, column by column, into `out` from `first` on, or added there. One block.
extern "C" __global__ void total(const double* sums, double* out, u64 chunks, u32 kinds, u32 first, u32 add) {
    __shared__ double of_warps[THREADS / WARP];
    for (u32 kind = 0; kind < kinds; kind++) {
        double sum = 0;
        for (u64 chunk = threadIdx.x; chunk < chunks; chunk += THREADS) sum += sums[chunk * kinds + kind];
        sum = block_sum(sum, of_warps);
        if (threadIdx.x == 0) out[first + kind] = add ? out[first + kind] + sum : sum;
    }
}
