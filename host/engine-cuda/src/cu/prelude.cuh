// What every kernel may use: sums and maxima over a warp and over a block, in an order that depends on nothing
// but the number of threads. Compiled by NVRTC without any header of CUDA's, and by a C++ compiler against a shim.

typedef unsigned int u32;
typedef unsigned long long u64;

// The first 16 bits of an f32: all of its exponent, 7 bits behind the point (IEEE 754 has no such number).
struct bf16 {
    unsigned short bits;
};

#ifdef __CUDACC__
// The nearest; a machine's own instruction since compute capability 8.0. The shim has the same for a processor.
__device__ inline unsigned short nearest_bf16(float x) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#endif

// What lies between the products of a block is kept in, logits too. Whatever it is, it is read and written by the two
// functions below, and everything between them is in f32.
#ifdef ACTIVATIONS_IN_BF16
typedef bf16 activation;
#else
typedef float activation;
#endif

__device__ inline float value(float x) { return x; }
__device__ inline float value(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ inline void put(float& to, float x) { to = x; }
__device__ inline void put(bf16& to, float x) { to.bits = nearest_bf16(x); }

// Neighbours that a thread reads or writes at once; they begin at a multiple of their own size.
template <class T, u32 N> struct alignas(N * sizeof(T)) Several {
    T at[N];
};

template <u32 N, class T> __device__ Several<T, N> read(const T* from) {
    return *reinterpret_cast<const Several<T, N>*>(from);
}

template <u32 N, class T> __device__ void write(T* to, const Several<T, N>& several) {
    *reinterpret_cast<Several<T, N>*>(to) = several;
}

// Most bytes that a GPU moves for a thread at once.
constexpr u32 MOST_BYTES_AT_ONCE = 16;

// What a launch takes for each of several tensors; the launching side has the same number.
constexpr u32 MANY = 32;
template <class T> struct Many {
    typedef T element;
    T at[MANY];
};

// Which tensor a block works on, where the blocks of each end before those of the next begin.
__device__ inline u32 tensor_of_block(const Many<u32>& ends) {
    u32 tensor = 0;
    while (blockIdx.x >= ends.at[tensor]) tensor++;
    return tensor;
}

// The first element of a block's part of its tensor.
__device__ inline u64 first_of_block(const Many<u32>& ends, u32 tensor, u64 elements_of_a_block) {
    u32 before = tensor == 0 ? 0 : ends.at[tensor - 1];
    return (u64)(blockIdx.x - before) * elements_of_a_block;
}

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;
// Threads of a block that reduces over itself; the launching side has the same number.
constexpr u32 THREADS = 256;
// Stands for minus infinity: no score and no logit is smaller, and its exponential is 0.
constexpr float LOWEST = -3.402823466e+38f;

// Both partners of an exchange add the same two numbers, so that all lanes end with the same bits.
template <class T> __device__ T warp_sum(T x) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}

__device__ inline float warp_max(float x) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}

// The sum over all threads, for each of them. `of_warps` has room for one value of each warp and may be used
// again at once.
template <class T> __device__ T block_sum(T x, T* of_warps) {
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = x;
    __syncthreads();
    T total = 0;
    for (u32 warp = 0; warp < THREADS / WARP; warp++) total += of_warps[warp];
    __syncthreads();
    return total;
}

__device__ inline float block_max(float x, float* of_warps) {
    x = warp_max(x);
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = x;
    __syncthreads();
    float most = of_warps[0];
    for (u32 warp = 1; warp < THREADS / WARP; warp++) most = fmaxf(most, of_warps[warp]);
    __syncthreads();
    return most;
}
