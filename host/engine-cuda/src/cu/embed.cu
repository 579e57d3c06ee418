// Embedding of tokens and positions, and the sum of gradients over equal ones: every sum runs in the order of
// the batch, one thread for each column. Blocks: rows (of the batch, or of the table) by columns.

extern "C" __global__ void embed(const u32* tokens, const float* token_table, const float* position_table, float* out,
                                 u32 length, u32 width) {
    u32 c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= width) return;
    u64 row = blockIdx.x;
    out[row * width + c] = token_table[(u64)tokens[row] * width + c] + position_table[(row % length) * width + c];
}

// The batch's rows sorted by token: group `g` of `*groups` is of token `ids[g]` and has `rows[starts[g] .. starts[g + 1]]`.
// Launched for as many groups as there can be, so that every batch of the same measures has the same launch.
extern "C" __global__ void add_to_tokens(const float* gradient, const u32* groups, const u32* ids, const u32* starts,
                                         const u32* rows, float* table, u32 width) {
    u32 c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= width || blockIdx.x >= *groups) return;
    float* to = table + (u64)ids[blockIdx.x] * width + c;
    float sum = *to;
    for (u32 i = starts[blockIdx.x]; i < starts[blockIdx.x + 1]; i++) sum += gradient[(u64)rows[i] * width + c];
    *to = sum;
}

extern "C" __global__ void add_to_positions(const float* gradient, float* table, u32 sequences, u32 length, u32 width) {
    u32 c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= width) return;
    u64 position = blockIdx.x;
    float sum = table[position * width + c];
    for (u64 sequence = 0; sequence < sequences; sequence++)
        sum += gradient[(sequence * length + position) * width + c];
    table[position * width + c] = sum;
}
