// Layer norm of rows, forward and backward: a warp for each row. Mean and variance take two passes, so that
// nothing cancels. Not here: the last step of the gradients of gain and shift (columns.cu).

// Rows whose share in those gradients is summed first; the launching side has the same number.
constexpr u32 ROWS_OF_A_PARTIAL = 64;

__device__ inline u64 row_of_warp() {
    return (u64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}

// Columns that a lane has at once, where rows come to whole ones.
constexpr u32 COLUMNS = 4;

template <u32 N>
__device__ void norm_row(const float* x, const float* gain, const float* shift, activation* out, float* moments, u32 width,
                         float epsilon) {
    u32 first = N * (threadIdx.x % WARP);
    float sum = 0;
    for (u32 c = first; c < width; c += N * WARP) {
        auto some = read<N>(x + c);
        for (u32 i = 0; i < N; i++) sum += some.at[i];
    }
    float mean = warp_sum(sum) / width;
    float squares = 0;
    for (u32 c = first; c < width; c += N * WARP) {
        auto some = read<N>(x + c);
        for (u32 i = 0; i < N; i++) squares += (some.at[i] - mean) * (some.at[i] - mean);
    }
    float scale = 1.0f / sqrtf(warp_sum(squares) / width + epsilon);
    for (u32 c = first; c < width; c += N * WARP) {
        auto some = read<N>(x + c), gains = read<N>(gain + c), shifts = read<N>(shift + c);
        Several<activation, N> normed;
        for (u32 i = 0; i < N; i++) put(normed.at[i], (some.at[i] - mean) * scale * gains.at[i] + shifts.at[i]);
        write<N>(out + c, normed);
    }
    if (first == 0) {
        moments[0] = mean;
        moments[1] = scale;
    }
}

// `moments[rows, 2]` takes mean and reciprocal deviation.
extern "C" __global__ void layer_norm(const float* x, const float* gain, const float* shift, activation* out, float* moments,
                                      u64 rows, u32 width, float epsilon) {
    u64 row = row_of_warp();
    if (row >= rows) return;
    x += row * width;
    out += row * width;
    moments += 2 * row;
    if (width % COLUMNS == 0) norm_row<COLUMNS>(x, gain, shift, out, moments, width, epsilon);
    else norm_row<1>(x, gain, shift, out, moments, width, epsilon);
}

// What a row's backward pass writes, each where it is not null.
struct Written {
    float* dx;
    bool adds;
    activation *copy, *normed;
};

template <u32 N>
__device__ void norm_row_backward(const float* x, const float* moments, const float* gain, const float* shift,
                                  const activation* dy, Written to, u32 width) {
    u32 begin = N * (threadIdx.x % WARP);
    float mean = moments[0], scale = moments[1];
    float gradient = 0, projection = 0;
    for (u32 c = begin; c < width; c += N * WARP) {
        auto some = read<N>(x + c), gains = read<N>(gain + c);
        auto dys = read<N>(dy + c);
        for (u32 i = 0; i < N; i++) {
            float g = value(dys.at[i]) * gains.at[i];
            gradient += g;
            projection += g * ((some.at[i] - mean) * scale);
        }
    }
    gradient = warp_sum(gradient) / width;
    projection = warp_sum(projection) / width;
    for (u32 c = begin; c < width; c += N * WARP) {
        auto some = read<N>(x + c), gains = read<N>(gain + c);
        if (to.normed) {
            auto shifts = read<N>(shift + c);
            Several<activation, N> normed;
            for (u32 i = 0; i < N; i++)
                put(normed.at[i], (some.at[i] - mean) * scale * gains.at[i] + shifts.at[i]);
            write<N>(to.normed + c, normed);
        }
        if (!to.dx) continue;
        auto dys = read<N>(dy + c);
        Several<float, N> sums = {};
        if (to.adds) sums = read<N>(to.dx + c);
        Several<activation, N> copy;
        for (u32 i = 0; i < N; i++) {
            float unit = (some.at[i] - mean) * scale;
            float own = (value(dys.at[i]) * gains.at[i] - gradient - unit * projection) * scale;
            sums.at[i] = to.adds ? sums.at[i] + own : own;
            put(copy.at[i], sums.at[i]);
        }
        write<N>(to.dx + c, sums);
        if (to.copy) write<N>(to.copy + c, copy);
    }
}

// With `u` the row at unit variance and `g = dy gain`: `dx = scale (g - mean(g) - u mean(g u))`. `dx` takes it, or
// is added it; `copy` takes what `dx` is then as products read it; `normed` the norm's output once more. Any of them may
// be null, but for `dx` where `copy` is not.
extern "C" __global__ void layer_norm_backward(const float* x, const float* moments, const float* gain,
                                               const float* shift, const activation* dy, float* dx, u32 add,
                                               activation* copy, activation* normed, u64 rows, u32 width) {
    u64 row = row_of_warp();
    if (row >= rows) return;
    u64 begin = row * width;
    Written to = {dx ? dx + begin : dx, add != 0, copy ? copy + begin : copy, normed ? normed + begin : normed};
    x += begin;
    dy += begin;
    moments += 2 * row;
    if (width % COLUMNS == 0) norm_row_backward<COLUMNS>(x, moments, gain, shift, dy, to, width);
    else norm_row_backward<1>(x, moments, gain, shift, dy, to, width);
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
