// One AdamW update of many tensors (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2), clipped by the norm of all
// gradients that the device has formed itself. What is the same for all elements of a tensor was formed in double
// precision before. Not here: the norm.

// Elements that one block updates; the launching side has the same number.
constexpr u64 ELEMENTS_OF_A_BLOCK = 1 << 12;

__device__ inline bool is_finite(double x) { return x - x == 0; }

// What is the same for all elements of a tensor.
struct Factors {
    float clip, decay, keep_first, take_first, keep_second, take_second, rate, unbias_second, epsilon;
};

// Where an element of a tensor stands, in each of its arrays.
struct At {
    float *weight, *first, *second;
    const float* gradient;
    activation* copy;

    __device__ At operator+(u64 i) const {
        return {weight + i, first + i, second + i, gradient + i, copy ? copy + i : copy};
    }
};

template <u32 N> __device__ void update(At at, const Factors& with) {
    auto weights = read<N>(at.weight), first = read<N>(at.first), second = read<N>(at.second);
    auto gradients = read<N>(at.gradient);
    Several<activation, N> copies;
    for (u32 i = 0; i < N; i++) {
        float g = gradients.at[i] * with.clip;
        float m = with.keep_first * first.at[i] + with.take_first * g;
        float v = with.keep_second * second.at[i] + with.take_second * g * g;
        float root = sqrtf(v * with.unbias_second) + with.epsilon;
        weights.at[i] = weights.at[i] * with.decay - with.rate * m / root;
        first.at[i] = m;
        second.at[i] = v;
        put(copies.at[i], weights.at[i]);
    }
    write<N>(at.weight, weights);
    write<N>(at.first, first);
    write<N>(at.second, second);
    if (at.copy) write<N>(at.copy, copies);
}

// `tally`: the step's loss, and the square of its norm; where one is not finite, nothing is updated. `clip_norm` is
// negative where nothing is clipped. A copy, which may be null, takes the new weights as products read them.
extern "C" __global__ void adamw(Many<float*> weights, Many<activation*> copies, Many<const float*> gradients,
                                 Many<float*> first, Many<float*> second, Many<u64> lens, Many<u32> ends,
                                 Many<float> decays, Many<float> rates, Many<float> unbias_seconds,
                                 const double* tally, double clip_norm, float keep_first, float take_first,
                                 float keep_second, float take_second, float epsilon) {
    double norm = sqrt(tally[1]);
    if (!is_finite(tally[0]) || !is_finite(norm)) return;
    double ratio = clip_norm / (norm + 1e-6);
    float clip = clip_norm >= 0 && ratio < 1 ? (float)ratio : 1.0f;
    u32 tensor = tensor_of_block(ends);
    u64 begin = first_of_block(ends, tensor, ELEMENTS_OF_A_BLOCK), left = lens.at[tensor] - begin;
    u32 count = left < ELEMENTS_OF_A_BLOCK ? left : ELEMENTS_OF_A_BLOCK;
    Factors with = {clip, decays.at[tensor], keep_first, take_first, keep_second, take_second, rates.at[tensor],
                    unbias_seconds.at[tensor], epsilon};
    At at = At{weights.at[tensor], first.at[tensor], second.at[tensor], gradients.at[tensor], copies.at[tensor]} + begin;
    constexpr u32 AT_ONCE = MOST_BYTES_AT_ONCE / sizeof(float);
    u32 whole = count / AT_ONCE * AT_ONCE;
    for (u32 i = AT_ONCE * threadIdx.x; i < whole; i += AT_ONCE * THREADS) update<AT_ONCE>(at + i, with);
    if (threadIdx.x < count - whole) update<1>(at + whole + threadIdx.x, with);
}
