// One AdamW update of one tensor (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2). What is the same for all
// elements was formed in double precision before. Not here: the norm that `clip` comes from.

// `copy`, which may be null, takes the new weights as products read them.
extern "C" __global__ void adamw(float* weights, activation* copy, const float* gradient, float* first, float* second, u64 len,
                                 float clip, float decay, float keep_first, float take_first, float keep_second,
                                 float take_second, float rate, float unbias_second, float epsilon) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= len) return;
    float g = gradient[i] * clip;
    float m = keep_first * first[i] + take_first * g;
    float v = keep_second * second[i] + take_second * g * g;
    float weight = weights[i] * decay - rate * m / (sqrtf(v * unbias_second) + epsilon);
    weights[i] = weight;
    if (copy) put(copy[i], weight);
    first[i] = m;
    second[i] = v;
}
