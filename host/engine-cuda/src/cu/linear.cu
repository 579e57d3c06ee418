// What follows a matrix product, `y[rows, columns]`: bias, GELU, residual stream; and the GELU's way back.
// Blocks: rows by columns, so that no thread divides. Not here: the products.

// GELU by tanh: Hendrycks and Gimpel, arXiv 1606.08415, section 2.
constexpr float GELU_CUBIC = 0.044715f;
constexpr float GELU_FACTOR = 0.7978845608028654f; // sqrt(2 / pi)

__device__ inline float gelu_of(float x) {
    return 0.5f * x * (1.0f + tanhf(GELU_FACTOR * (x + GELU_CUBIC * x * x * x)));
}

__device__ inline float gelu_slope(float x) {
    float t = tanhf(GELU_FACTOR * (x + GELU_CUBIC * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * GELU_FACTOR * (1.0f + 3.0f * GELU_CUBIC * x * x);
}

extern "C" __global__ void add_bias(activation* y, const float* bias, u32 columns) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    u64 i = (u64)blockIdx.x * columns + column;
    if (column < columns) put(y[i], value(y[i]) + bias[column]);
}

// `before`, which may be null, keeps the GELU's input.
extern "C" __global__ void add_bias_gelu(activation* y, const float* bias, activation* before, u32 columns) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    u64 i = (u64)blockIdx.x * columns + column;
    float x = value(y[i]) + bias[column];
    if (before) put(before[i], x);
    put(y[i], gelu_of(x));
}

extern "C" __global__ void add_bias_residual(float* y, const float* bias, const float* stream, float gate,
                                             u32 columns) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    u64 i = (u64)blockIdx.x * columns + column;
    y[i] = gate * (y[i] + bias[column]) + stream[i];
}

extern "C" __global__ void gelu(const activation* before, activation* out, u64 len) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < len) put(out[i], gelu_of(value(before[i])));
}

// `dx *= gelu'(before)`; `activated`, which may be null, takes the GELU's output.
extern "C" __global__ void gelu_backward(activation* dx, const activation* before, activation* activated, u64 len) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= len) return;
    float x = value(before[i]);
    if (activated) put(activated[i], gelu_of(x));
    put(dx[i], value(dx[i]) * gelu_slope(x));
}
