// Causal attention of all heads by tiles, forward (Dao et al., arXiv 2205.14135, algorithm 1) and backward (the same,
// appendix B.4): a tile of scores exists in shared memory, never all of them. Plain multiplications in f32; the
// backward pass computes the scores twice instead of adding from several blocks into one place, so that every
// sum has one order.
//
// A block is 16 x 16 threads and takes the tile of one head of one sequence. A head wider than a slice is taken
// slice by slice: every block forms whole scores, but the output columns of its own slice alone.

constexpr u32 SIDE = 16;              // threads along each side of a block
constexpr u32 TILE = 2 * SIDE;        // queries, and keys, of a tile: two for each thread
constexpr u32 SLICE = 4 * SIDE;       // columns of a head in shared memory: four for each thread
constexpr u32 STRIDE = SLICE + 1;     // so that a column of a tile lies in different banks
constexpr u32 SCORES = TILE + 1;      // the same for scores

// Where a block works.
struct Place {
    u32 slice, tile, head;
    u64 row;    // the first of the sequence
    u32 first;  // query or key of the tile, in the sequence
    u32 count;  // of the tile, less where the sequence ends
};

__device__ inline u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

// Blocks of one tile lie together, whatever the head: they have the same work.
__device__ inline Place place(u32 index, u32 tiles, u32 heads, u32 slices, u32 length) {
    Place at;
    at.slice = index % slices;
    index /= slices;
    u32 of_all_sequences = gridDim.x / slices / tiles;
    at.tile = index / of_all_sequences;
    index %= of_all_sequences;
    at.head = index % heads;
    at.row = (u64)(index / heads) * length;
    at.first = at.tile * TILE;
    at.count = smaller(TILE, length - at.first);
    return at;
}

// `tile[r, c] = from[r * stride + c]`, zeros beyond `rows` and `columns`.
__device__ inline void load(float (*tile)[STRIDE], const activation* from, u32 stride, u32 rows, u32 columns) {
    for (u32 i = threadIdx.x; i < TILE * SLICE; i += SIDE * SIDE) {
        u32 r = i / SLICE, c = i % SLICE;
        tile[r][c] = r < rows && c < columns ? value(from[(u64)r * stride + c]) : 0.0f;
    }
}

// `s[i, j] += a[y + 16 i] . b[x + 16 j]`, over columns.
__device__ inline void add_products(float (*s)[2], const float (*a)[STRIDE], const float (*b)[STRIDE], u32 columns) {
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    for (u32 c = 0; c < columns; c++)
        for (u32 i = 0; i < 2; i++)
            for (u32 j = 0; j < 2; j++) s[i][j] += a[y + SIDE * i][c] * b[x + SIDE * j][c];
}

// `out[i, j] += sum over r of p[y + 16 i, r] v[r, x + 16 j]`.
__device__ inline void add_weighted(float (*out)[4], const float (*p)[SCORES], const float (*v)[STRIDE], u32 rows) {
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    for (u32 r = 0; r < rows; r++)
        for (u32 i = 0; i < 2; i++)
            for (u32 j = 0; j < 4; j++) out[i][j] += p[y + SIDE * i][r] * v[r][x + SIDE * j];
}

// Over the 16 threads that share a row of scores.
__device__ inline float row_max(float x) {
    for (u32 distance = SIDE / 2; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, distance));
    return x;
}

__device__ inline float row_sum(float x) {
    for (u32 distance = SIDE / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}

// Writes a thread's part of a tile of results, `to[r * stride + c] = result[r, c] factor[r]`.
__device__ inline void store(activation* to, u32 stride, const float (*result)[4], const float* factor, u32 rows,
                             u32 columns) {
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    for (u32 i = 0; i < 2; i++)
        for (u32 j = 0; j < 4; j++) {
            u32 r = y + SIDE * i, c = x + SIDE * j;
            if (r < rows && c < columns) put(to[(u64)r * stride + c], result[i][j] * factor[i]);
        }
}

// A row of a tile of scores, of which `s` are this thread's two, joins the softmax of the tiles before it: `most`
// and `total` are its running maximum and sum, `out` the sum of values weighted so far. Leaves weights in `s`.
__device__ inline void join(float* s, float& most, float& total, float* out) {
    float now = fmaxf(most, row_max(fmaxf(s[0], s[1])));
    float earlier = expf(most - now);
    for (u32 j = 0; j < 2; j++) s[j] = expf(s[j] - now);
    total = total * earlier + row_sum(s[0] + s[1]);
    for (u32 j = 0; j < 4; j++) out[j] *= earlier;
    most = now;
}

// `qkv[rows, 3, heads, width]` to `mixed[rows, heads, width]`; `normalizers[rows, heads, 2]` takes the largest score
// and one over the sum of exponentials.
extern "C" __global__ void attention(const activation* qkv, activation* mixed, float* normalizers, u32 length, u32 heads,
                                     u32 width, u32 tiles, u32 slices) {
    __shared__ float q[TILE][STRIDE], kv[TILE][STRIDE], p[TILE][SCORES];
    // Later tiles have more keys: they come first, so that all blocks end together.
    Place at = place(gridDim.x - 1 - blockIdx.x, tiles, heads, slices, length);
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    u32 model = heads * width, stride = 3 * model;
    const activation* head = qkv + at.row * stride + at.head * width;
    u32 own = at.slice * SLICE, own_columns = smaller(SLICE, width - own);
    float scale = 1.0f / sqrtf((float)width);
    float out[2][4] = {}, most[2] = {LOWEST, LOWEST}, total[2] = {0, 0};
    for (u32 key = 0; key <= at.first; key += TILE) {
        u32 keys = smaller(TILE, length - key);
        float s[2][2] = {};
        for (u32 c = 0; c < width; c += SLICE) {
            u32 columns = smaller(SLICE, width - c);
            __syncthreads();
            if (slices > 1 || key == 0) load(q, head + (u64)at.first * stride + c, stride, at.count, columns);
            load(kv, head + model + (u64)key * stride + c, stride, keys, columns);
            __syncthreads();
            add_products(s, q, kv, columns);
        }
        for (u32 i = 0; i < 2; i++) {
            for (u32 j = 0; j < 2; j++) {
                bool seen = key + x + SIDE * j <= at.first + y + SIDE * i;
                s[i][j] = seen ? s[i][j] * scale : LOWEST;
            }
            join(s[i], most[i], total[i], out[i]);
            for (u32 j = 0; j < 2; j++) p[y + SIDE * i][x + SIDE * j] = s[i][j];
        }
        __syncthreads();
        load(kv, head + 2 * model + (u64)key * stride + own, stride, keys, own_columns);
        __syncthreads();
        add_weighted(out, p, kv, keys);
    }
    float factor[2] = {1.0f / total[0], 1.0f / total[1]};
    store(mixed + (at.row + at.first) * model + at.head * width + own, model, out, factor, at.count, own_columns);
    for (u32 i = 0; i < 2; i++) {
        u32 r = y + SIDE * i;
        if (at.slice != 0 || x != 0 || r >= at.count) continue;
        float* normalizer = normalizers + 2 * ((at.row + at.first + r) * heads + at.head);
        normalizer[0] = most[i];
        normalizer[1] = factor[i];
    }
}

// `dots[rows, heads]` of the output and its gradient: what every gradient of a score in a row is measured from.
// A warp for each.
extern "C" __global__ void attention_dots(const activation* mixed, const activation* gradient, float* dots, u64 count,
                                          u32 width) {
    u64 index = (u64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (index >= count) return;
    float dot = 0;
    for (u32 c = threadIdx.x % WARP; c < width; c += WARP)
        dot += value(mixed[index * width + c]) * value(gradient[index * width + c]);
    dot = warp_sum(dot);
    if (threadIdx.x % WARP == 0) dots[index] = dot;
}

// From a score and the gradient of its probability to the probability and the gradient of the score before it was
// scaled.
__device__ inline void score_gradient(float& score, float& gradient, bool seen, const float* normalizer, float dot,
                                      float scale) {
    float p = seen ? expf(score * scale - normalizer[0]) * normalizer[1] : 0.0f;
    score = p;
    gradient = p * (gradient - dot) * scale;
}

// The gradient of queries: a tile of them against all keys up to it.
extern "C" __global__ void attention_query_gradient(const activation* qkv, const float* normalizers,
    const float* dots, const activation* gradient, activation* out, u32 length, u32 heads, u32 width, u32 tiles,
    u32 slices) {
    __shared__ float q[TILE][STRIDE], dy[TILE][STRIDE], k[TILE][STRIDE], v[TILE][STRIDE], ds[TILE][SCORES];
    Place at = place(gridDim.x - 1 - blockIdx.x, tiles, heads, slices, length);
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    u32 model = heads * width, stride = 3 * model;
    const activation* head = qkv + at.row * stride + at.head * width;
    const activation* dy_head = gradient + (at.row + at.first) * model + at.head * width;
    u32 own = at.slice * SLICE, own_columns = smaller(SLICE, width - own);
    float scale = 1.0f / sqrtf((float)width);
    float dq[2][4] = {};
    for (u32 key = 0; key <= at.first; key += TILE) {
        u32 keys = smaller(TILE, length - key);
        float s[2][2] = {}, dp[2][2] = {};
        for (u32 c = 0; c < width; c += SLICE) {
            u32 columns = smaller(SLICE, width - c);
            __syncthreads();
            if (slices > 1 || key == 0) {
                load(q, head + (u64)at.first * stride + c, stride, at.count, columns);
                load(dy, dy_head + c, model, at.count, columns);
            }
            load(k, head + model + (u64)key * stride + c, stride, keys, columns);
            load(v, head + 2 * model + (u64)key * stride + c, stride, keys, columns);
            __syncthreads();
            add_products(s, q, k, columns);
            add_products(dp, dy, v, columns);
        }
        for (u32 i = 0; i < 2; i++)
            for (u32 j = 0; j < 2; j++) {
                u32 r = y + SIDE * i;
                bool seen = r < at.count && key + x + SIDE * j <= at.first + r;
                u64 index = (at.row + at.first + (r < at.count ? r : 0)) * heads + at.head;
                score_gradient(s[i][j], dp[i][j], seen, normalizers + 2 * index, dots[index], scale);
                ds[r][x + SIDE * j] = dp[i][j];
            }
        __syncthreads();
        if (slices > 1) {
            load(k, head + model + (u64)key * stride + own, stride, keys, own_columns);
            __syncthreads();
        }
        add_weighted(dq, ds, k, keys);
    }
    float one[2] = {1, 1};
    store(out + (at.row + at.first) * stride + at.head * width + own, stride, dq, one, at.count, own_columns);
}

// The gradients of keys and values: a tile of them against all queries from it on. Rows of scores are keys here.
extern "C" __global__ void attention_key_gradient(const activation* qkv, const float* normalizers,
    const float* dots, const activation* gradient, activation* out, u32 length, u32 heads, u32 width, u32 tiles,
    u32 slices) {
    __shared__ float q[TILE][STRIDE], dy[TILE][STRIDE], k[TILE][STRIDE], v[TILE][STRIDE];
    __shared__ float p[TILE][SCORES], ds[TILE][SCORES];
    Place at = place(blockIdx.x, tiles, heads, slices, length);
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    u32 model = heads * width, stride = 3 * model;
    const activation* head = qkv + at.row * stride + at.head * width;
    const activation* dy_head = gradient + at.row * model + at.head * width;
    u32 own = at.slice * SLICE, own_columns = smaller(SLICE, width - own);
    float scale = 1.0f / sqrtf((float)width);
    float dk[2][4] = {}, dv[2][4] = {};
    for (u32 query = at.first; query < length; query += TILE) {
        u32 queries = smaller(TILE, length - query);
        float s[2][2] = {}, dp[2][2] = {};
        for (u32 c = 0; c < width; c += SLICE) {
            u32 columns = smaller(SLICE, width - c);
            __syncthreads();
            if (slices > 1 || query == at.first) {
                load(k, head + model + (u64)at.first * stride + c, stride, at.count, columns);
                load(v, head + 2 * model + (u64)at.first * stride + c, stride, at.count, columns);
            }
            load(q, head + (u64)query * stride + c, stride, queries, columns);
            load(dy, dy_head + (u64)query * model + c, model, queries, columns);
            __syncthreads();
            add_products(s, k, q, columns);
            add_products(dp, v, dy, columns);
        }
        for (u32 i = 0; i < 2; i++)
            for (u32 j = 0; j < 2; j++) {
                u32 r = x + SIDE * j;
                bool seen = r < queries && at.first + y + SIDE * i <= query + r;
                u64 index = (at.row + query + (r < queries ? r : 0)) * heads + at.head;
                score_gradient(s[i][j], dp[i][j], seen, normalizers + 2 * index, dots[index], scale);
                p[y + SIDE * i][r] = s[i][j];
                ds[y + SIDE * i][r] = dp[i][j];
            }
        __syncthreads();
        if (slices > 1) {
            load(q, head + (u64)query * stride + own, stride, queries, own_columns);
            load(dy, dy_head + (u64)query * model + own, model, queries, own_columns);
            __syncthreads();
        }
        add_weighted(dv, p, dy, queries);
        add_weighted(dk, ds, q, queries);
    }
    float one[2] = {1, 1};
    activation* to = out + (at.row + at.first) * stride + at.head * width + own;
    store(to + model, stride, dk, one, at.count, own_columns);
    store(to + 2 * model, stride, dv, one, at.count, own_columns);
}
