// One AdamW update of many tensors (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2), clipped by the norm of all
// gradients that the device has formed itself. What is the same for all elements of a tensor was formed in double
// precision before. Not here: the norm.

// Elements that one block updates; the launching side has the same number.
constexpr u64 ELEMENTS_OF_A_BLOCK = 1 << 12;

__device__ inline bool is_finite(double x) { return x - x == 0; }

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
    u64 begin = first_of_block(ends, tensor, ELEMENTS_OF_A_BLOCK), len = lens.at[tensor];
    u64 end = begin + ELEMENTS_OF_A_BLOCK < len ? begin + ELEMENTS_OF_A_BLOCK : len;
    float decay = decays.at[tensor], rate = rates.at[tensor], unbias_second = unbias_seconds.at[tensor];
    float *w = weights.at[tensor], *moment = first.at[tensor], *square = second.at[tensor];
    activation* copy = copies.at[tensor];
    const float* gradient = gradients.at[tensor];
    for (u64 i = begin + threadIdx.x; i < end; i += THREADS) {
        float g = gradient[i] * clip;
        float m = keep_first * moment[i] + take_first * g;
        float v = keep_second * square[i] + take_second * g * g;
        float weight = w[i] * decay - rate * m / (sqrtf(v * unbias_second) + epsilon);
        w[i] = weight;
        if (copy) put(copy[i], weight);
        moment[i] = m;
        square[i] = v;
    }
}
