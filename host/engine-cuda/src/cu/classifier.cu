// Cross-entropy of a chunk of rows of logits, which become their own gradient in place: a block for each row.
// Not here: the products that make the logits and use their gradient.

// `losses[first + row]` in nats. With `wants_gradient`, the row becomes the gradient of its loss times `scale`.
extern "C" __global__ void cross_entropy(activation* logits, const u32* targets, float* losses, u64 first, u32 vocabulary,
                                         float scale, u32 wants_gradient) {
    __shared__ float of_warps[THREADS / WARP];
    u64 row = first + blockIdx.x;
    logits += (u64)blockIdx.x * vocabulary;
    float most = LOWEST;
    for (u32 v = threadIdx.x; v < vocabulary; v += THREADS) most = fmaxf(most, value(logits[v]));
    most = block_max(most, of_warps);
    float sum = 0;
    for (u32 v = threadIdx.x; v < vocabulary; v += THREADS) sum += expf(value(logits[v]) - most);
    sum = block_sum(sum, of_warps);
    u32 target = targets[row];
    if (threadIdx.x == 0) losses[row] = logf(sum) + most - value(logits[target]);
    if (!wants_gradient) return;
    // The target's logit has to be read before it becomes a gradient.
    __syncthreads();
    float factor = scale / sum;
    for (u32 v = threadIdx.x; v < vocabulary; v += THREADS)
        put(logits[v], expf(value(logits[v]) - most) * factor - (v == target ? scale : 0.0f));
}
