// Sums over the rows of a matrix, column by column: each block sums a chunk of rows for its columns, then the
// chunks are added in their order. For the gradients of biases, and the second half of the layer norm's.

// Rows of a chunk; the launching side has the same number.
constexpr u32 ROWS_OF_A_CHUNK = 64;

// `sums[chunk, columns]` of `x[rows, columns]`. Blocks: chunks by columns.
template <class T> __device__ void sum_columns(const T* x, float* sums, u64 rows, u32 columns) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    u64 first = (u64)blockIdx.x * ROWS_OF_A_CHUNK;
    u64 end = first + ROWS_OF_A_CHUNK < rows ? first + ROWS_OF_A_CHUNK : rows;
    float sum = 0;
    for (u64 row = first; row < end; row++) sum += value(x[row * columns + column]);
    sums[(u64)blockIdx.x * columns + column] = sum;
}

extern "C" __global__ void columns_of_chunks(const float* x, float* sums, u64 rows, u32 columns) {
    sum_columns(x, sums, rows, columns);
}

extern "C" __global__ void columns_of_chunks_of_activations(const activation* x, float* sums, u64 rows, u32 columns) {
    sum_columns(x, sums, rows, columns);
}

// `out[columns]` takes, or is added, the sum of chunks that lie `stride` numbers apart, from `first` on.
extern "C" __global__ void add_chunks(const float* sums, float* out, u32 chunks, u64 first, u64 stride, u32 columns,
                                      u32 add) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    float sum = add ? out[column] : 0.0f;
    for (u32 chunk = 0; chunk < chunks; chunk++) sum += sums[first + chunk * stride + column];
    out[column] = sum;
}
