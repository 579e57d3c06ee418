// Layer norm of rows, forward and backward: a warp for each row. Mean and variance take two passes, so that
// nothing cancels. Not here: the last step of the gradients of gain and shift (columns.cu).

// Rows whose share in those gradients is summed first; the launching side has the same number.
constexpr u32 ROWS_OF_A_PARTIAL = 64;

__device__ inline u64 row_of_warp() {
    return (u64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}

// `moments[rows, 2]` takes mean and reciprocal deviation.
extern "C" __global__ void layer_norm(const float* x, const float* gain, const float* shift, activation* out, float* moments,
                                      u64 rows, u32 width, float epsilon) {
    u64 row = row_of_warp();
    if (row >= rows) return;
    u32 lane = threadIdx.x % WARP;
    x += row * width;
    out += row * width;
    float sum = 0;
    for (u32 c = lane; c < width; c += WARP) sum += x[c];
    float mean = warp_sum(sum) / width;
    float squares = 0;
    for (u32 c = lane; c < width; c += WARP) squares += (x[c] - mean) * (x[c] - mean);
    float scale = 1.0f / sqrtf(warp_sum(squares) / width + epsilon);
    for (u32 c = lane; c < width; c += WARP) put(out[c], (x[c] - mean) * scale * gain[c] + shift[c]);
    if (lane == 0) {
        moments[2 * row] = mean;
        moments[2 * row + 1] = scale;
    }
}

// With `u` the row at unit variance and `g = dy gain`: `dx = scale (g - mean(g) - u mean(g u))`. `dx` takes it, or
// is added it; `copy` takes what `dx` is then as products read it; `normed` the norm's output once more. Any of them may
// be null, but for `dx` where `copy` is not.
extern "C" __global__ void layer_norm_backward(const float* x, const float* moments, const float* gain,
                                               const float* shift, const activation* dy, float* dx, u32 add,
                                               activation* copy,
                                               activation* normed,
                                               u64 rows, u32 width) {
    u64 row = row_of_warp();
    if (row >= rows) return;
    u32 lane = threadIdx.x % WARP;
    x += row * width;
    dy += row * width;
    float mean = moments[2 * row], scale = moments[2 * row + 1];
    float gradient = 0, projection = 0;
    for (u32 c = lane; c < width; c += WARP) {
        float g = value(dy[c]) * gain[c];
        gradient += g;
        projection += g * ((x[c] - mean) * scale);
    }
    gradient = warp_sum(gradient) / width;
    projection = warp_sum(projection) / width;
    for (u32 c = lane; c < width; c += WARP) {
        float unit = (x[c] - mean) * scale;
        if (normed) put(normed[row * width + c], unit * gain[c] + shift[c]);
        if (!dx) continue;
        float own = (value(dy[c]) * gain[c] - gradient - unit * projection) * scale;
        float sum = add ? dx[row * width + c] + own : own;
        dx[row * width + c] = sum;
        if (copy) put(copy[row * width + c], sum);
    }
}

// The share of a chunk of rows in the gradients of gain and shift, `partials[chunk, 2, width]`. Blocks: chunks by
// columns.
extern "C" __global__ void layer_norm_partials(const float* x, const float* moments, const activation* dy, float* partials,
                                               u64 rows, u32 width) {
    u32 c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= width) return;
    u64 first = (u64)blockIdx.x * ROWS_OF_A_PARTIAL;
    u64 end = first + ROWS_OF_A_PARTIAL < rows ? first + ROWS_OF_A_PARTIAL : rows;
    float gain = 0, shift = 0;
    for (u64 row = first; row < end; row++) {
        float gradient = value(dy[row * width + c]);
        gain += (x[row * width + c] - moments[2 * row]) * moments[2 * row + 1] * gradient;
        shift += gradient;
    }
    partials[2 * (u64)blockIdx.x * width + c] = gain;
    partials[(2 * (u64)blockIdx.x + 1) * width + c] = shift;
}
