// Cross-entropy of a chunk of rows of logits, which become their own gradient in place: a block for each row, which is read
// from memory once for the loss and once more for the gradient. Not here: the products that make the logits and use their
// gradient.

// Logits that a thread has seen: the largest, and the sum of exponentials as parts of its own.
struct Seen {
    float most = LOWEST, sum = 0;

    template <u32 N> __device__ void add(const Several<activation, N>& logits) {
        float now = most;
        for (u32 i = 0; i < N; i++) now = fmaxf(now, value(logits.at[i]));
        sum *= expf(most - now);
        for (u32 i = 0; i < N; i++) sum += expf(value(logits.at[i]) - now);
        most = now;
    }
};

template <u32 N>
__device__ void cross_entropy_of_row(activation* logits, u32 target, float* loss, u32 vocabulary, float scale,
                                     bool wants_gradient) {
    __shared__ float of_warps[THREADS / WARP];
    Seen seen;
    for (u32 v = N * threadIdx.x; v < vocabulary; v += N * THREADS) seen.add<N>(read<N>(logits + v));
    float most = block_max(seen.most, of_warps);
    float sum = block_sum(seen.sum * expf(seen.most - most), of_warps);
    if (threadIdx.x == 0) *loss = logf(sum) + most - value(logits[target]);
    if (!wants_gradient) return;
    // The target's logit has to be read before it becomes a gradient.
    __syncthreads();
    float factor = scale / sum;
    for (u32 v = N * threadIdx.x; v < vocabulary; v += N * THREADS) {
        Several<activation, N> some = read<N>(logits + v);
        for (u32 i = 0; i < N; i++)
            put(some.at[i], expf(value(some.at[i]) - most) * factor - (v + i == target ? scale : 0.0f));
        write<N>(logits + v, some);
    }
}

// `losses[first + row]` in nats. With `wants_gradient`, the row becomes the gradient of its loss times `scale`.
extern "C" __global__ void cross_entropy(activation* logits, const u32* targets, float* losses, u64 first, u32 vocabulary,
                                         float scale, u32 wants_gradient) {
    constexpr u32 MOST = MOST_BYTES_AT_ONCE / sizeof(activation);
    u64 row = first + blockIdx.x;
    logits += (u64)blockIdx.x * vocabulary;
    // Every row begins where several can be read at once, or not every row does.
    if (vocabulary % MOST == 0)
        cross_entropy_of_row<MOST>(logits, targets[row], losses + row, vocabulary, scale, wants_gradient);
    else
        cross_entropy_of_row<1>(logits, targets[row], losses + row, vocabulary, scale, wants_gradient);
}
