// Flash attention on tensor cores (Dao, arXiv 2307.08691): causal, forward and backward, for activations in bf16 and
// heads of a multiple of 16 columns, up to 128. Not here: the products themselves (tensor.cuh); other heads and numbers,
// and the products of outputs and gradients that come before a backward pass (attention.cu).
//
// Every warp of a block has 16 rows of its tile, in registers from the first to the last. What they meet comes tile by
// tile through shared memory, where the next one arrives while this one is worked on. Scores never leave registers;
// weights and gradients of scores are rounded to bf16 before they are factors, and nothing else is. The backward pass
// forms scores twice, for queries and for keys, so that every sum has one order.

constexpr float LOG2_E = 1.4426950408889634f;
// Heads whose blocks run at about the same time: enough for every multiprocessor, and few enough that what their blocks
// read one after another stays in the cache: of 64 columns and 1024 rows a head has 256 KiB of keys and values.
constexpr u32 HEADS_AT_ONCE = 32;

constexpr u32 FORWARD_THREADS = 256;
constexpr u32 BACKWARD_THREADS = 128;
__device__ constexpr u32 rows_of_block(u32 threads) { return threads / WARP * STEP; }
// Rows of a tile in shared memory: two of queries or keys and two of values or gradients have to fit into 48 KiB.
__device__ constexpr u32 rows_of_tile(u32 width) { return 4096 / width; }

__device__ inline u32 smaller(u32 a, u32 b) { return a < b ? a : b; }
__device__ inline u32 beyond(u32 end, u32 begin) { return end > begin ? end - begin : 0; }

// Where a block works.
struct Place {
    u32 tile, head;
    u64 row; // the first of the sequence
};

// Heads of all sequences come group by group, and those of a group tile by tile.
__device__ inline Place place(u32 tiles, u32 heads) {
    u32 all = gridDim.x / tiles, before = blockIdx.x / (HEADS_AT_ONCE * tiles) * HEADS_AT_ONCE;
    u32 index = blockIdx.x - before * tiles, at_once = smaller(HEADS_AT_ONCE, all - before);
    u32 head = before + index % at_once;
    return {index / at_once, head % heads, head / heads};
}

// The first of the warp's 16 rows, where the block's begin there.
__device__ inline u32 first_of_warp(u32 first) { return first + threadIdx.x / WARP * STEP; }

// Two rows of a softmax, as far as tiles have come.
template <u32 WIDTH> struct Softmax {
    float most[2] = {LOWEST, LOWEST}; // the largest scores
    float total[2] = {};              // this lane's part of the sums of weights
    float rounded[4] = {};            // sums of weights as factors, of whole rows, in each second: values are divided by them
    float out[WIDTH / 8][4] = {};     // values, weighted
};

// Rows of scores join the softmax of the tiles before them. Leaves their weights in `s`: exponentials, as parts of a power
// of two, `2^ceil(most base)`, so that weights which were rounded before stay what they are when it rises.
template <u32 PIECES, u32 WIDTH> __device__ void join(float (&s)[PIECES][2][4], Softmax<WIDTH>& of, float base) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        float now = of.most[i];
#pragma unroll
        for (u32 j = 0; j < 2 * PIECES; j++)
            now = fmaxf(now, fmaxf(s[j / 2][j % 2][2 * i], s[j / 2][j % 2][2 * i + 1]));
        now = row_max(now);
        float exponent = ceilf(now * base), earlier = power_of_two(ceilf(of.most[i] * base) - exponent), sum = 0;
#pragma unroll
        for (u32 j = 0; j < 4 * PIECES; j++) {
            float& weight = s[j / 4][j / 2 % 2][2 * i + j % 2];
            weight = power_of_two(fmaf(weight, base, -exponent));
            sum += weight;
        }
        of.most[i] = now;
        of.total[i] = of.total[i] * earlier + sum;
        of.rounded[2 * i] *= earlier;
#pragma unroll
        for (u32 n = 0; n < WIDTH / 4; n++) of.out[n / 2][2 * i + n % 2] *= earlier;
    }
}

// `qkv[rows, 3, heads, width]` to `mixed[rows, heads, width]`; `normalizers[rows, heads, 2]` takes the largest score
// and one over the sum of exponentials.
template <u32 WIDTH>
__device__ void attend(const bf16* qkv, bf16* mixed, float* normalizers, u32 length, u32 heads, u32 width, u32 tiles) {
    constexpr u32 ROWS = rows_of_block(FORWARD_THREADS), KEYS = rows_of_tile(WIDTH), PIECES = KEYS / STEP;
    alignas(16) __shared__ Tile<KEYS, WIDTH> k[2], v[2];
    Place at = place(tiles, heads);
    u32 model = heads * width, stride = 3 * model;
    // Later tiles have more keys: they come first, so that all blocks end together.
    u32 first = (tiles - 1 - at.tile) * ROWS, end = smaller(first + ROWS, length), own = first_of_warp(first);
    const bf16* head = qkv + at.row * length * stride + at.head * width;
    auto fetch_keys = [&](u32 key) {
        const bf16* from = head + (u64)key * stride + model;
        fetch<FORWARD_THREADS, KEYS, WIDTH>(k[key / KEYS % 2], from, stride, length - key, width);
        fetch<FORWARD_THREADS, KEYS, WIDTH>(v[key / KEYS % 2], from + model, stride, length - key, width);
    };
    fetch_keys(0);
    u32 q[WIDTH / STEP][4];
    read_rows<WIDTH>(q, head + (u64)own * stride, stride, beyond(length, own), width);
    float scale = 1.0f / sqrtf((float)width), base = scale * LOG2_E;
    Softmax<WIDTH> of;
    for (u32 key = 0; key < end; key += KEYS) {
        await_copies();
        __syncthreads();
        if (key + KEYS < end) fetch_keys(key + KEYS);
        if (key > own + STEP - 1) continue;
        u32 stage = key / KEYS % 2;
        float s[PIECES][2][4] = {};
#pragma unroll
        for (u32 j = 0; j < PIECES; j++) add_product_of_rows<WIDTH>(s[j], q, k[stage] + j * STEP);
        if (key + KEYS - 1 > own) {
#pragma unroll
            for (u32 j = 0; j < PIECES * 8; j++) {
                u32 column = key + j / 4 * 8 + fragment_column() + j % 2, row = own + fragment_row() + j / 2 % 2 * 8;
                if (column > row) s[j / 8][j / 4 % 2][j % 4] = LOWEST;
            }
        }
        join<PIECES, WIDTH>(s, of, base);
#pragma unroll
        for (u32 j = 0; j < PIECES; j++) {
            u32 weights[4];
            round_to_factor(weights, s[j]);
            add_product(of.rounded, weights, TWO_ONES, TWO_ONES);
            add_weighted_rows<WIDTH>(of.out, weights, v[stage] + j * STEP);
        }
    }
    const float factor[2] = {1.0f / of.rounded[0], 1.0f / of.rounded[2]};
    u64 row = at.row * length + own;
    write_rows<WIDTH>(mixed + row * model + at.head * width, model, of.out, factor, beyond(length, own), width);
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 r = fragment_row() + i * 8;
        float total = row_sum(of.total[i]), largest = of.most[i] * base;
        if (fragment_column() != 0 || own + r >= length) continue;
        float* normalizer = normalizers + 2 * ((row + r) * heads + at.head);
        normalizer[0] = of.most[i] * scale;
        normalizer[1] = power_of_two(largest - ceilf(largest)) / total;
    }
}

// From scores and the gradients of their probabilities to probabilities and the gradients of scores, but for the scale.
// Of a row or a column: the largest score in base 2, one over the sum of exponentials, and the product of the output and
// its gradient.
struct Sums {
    float largest, factor, dot;
};

__device__ inline void differentiate(float& score, float& gradient, bool seen, const Sums& sums, float base) {
    float p = seen ? power_of_two(fmaf(score, base, -sums.largest)) * sums.factor : 0.0f;
    score = p;
    gradient = p * (gradient - sums.dot);
}

// The gradient of queries: a tile of them against all keys up to it.
template <u32 WIDTH>
__device__ void query_gradient(const bf16* qkv, const float* normalizers, const float* dots, const bf16* gradient,
                               bf16* out, u32 length, u32 heads, u32 width, u32 tiles) {
    constexpr u32 ROWS = rows_of_block(BACKWARD_THREADS), KEYS = rows_of_tile(WIDTH);
    alignas(16) __shared__ Tile<KEYS, WIDTH> k[2], v[2];
    Place at = place(tiles, heads);
    u32 model = heads * width, stride = 3 * model;
    u32 first = (tiles - 1 - at.tile) * ROWS, end = smaller(first + ROWS, length), own = first_of_warp(first);
    u64 row = at.row * length + own;
    const bf16* head = qkv + at.row * length * stride + at.head * width;
    auto fetch_keys = [&](u32 key) {
        const bf16* from = head + (u64)key * stride + model;
        fetch<BACKWARD_THREADS, KEYS, WIDTH>(k[key / KEYS % 2], from, stride, length - key, width);
        fetch<BACKWARD_THREADS, KEYS, WIDTH>(v[key / KEYS % 2], from + model, stride, length - key, width);
    };
    fetch_keys(0);
    u32 q[WIDTH / STEP][4], dy[WIDTH / STEP][4];
    read_rows<WIDTH>(q, head + (u64)own * stride, stride, beyond(length, own), width);
    read_rows<WIDTH>(dy, gradient + row * model + at.head * width, model, beyond(length, own), width);
    Sums sums[2] = {};
#pragma unroll
    for (u32 i = 0; i < 2; i++) {
        u32 r = fragment_row() + i * 8;
        if (own + r >= length) continue;
        u64 index = (row + r) * heads + at.head;
        sums[i] = {normalizers[2 * index] * LOG2_E, normalizers[2 * index + 1], dots[index]};
    }
    float scale = 1.0f / sqrtf((float)width), base = scale * LOG2_E;
    float dq[WIDTH / 8][4] = {};
    for (u32 key = 0; key < end; key += KEYS) {
        await_copies();
        __syncthreads();
        if (key + KEYS < end) fetch_keys(key + KEYS);
        u32 stage = key / KEYS % 2;
        for (u32 j = 0; j < KEYS && key + j <= own; j += STEP) {
            float s[2][4] = {}, ds[2][4] = {};
            add_product_of_rows<WIDTH>(s, q, k[stage] + j);
            add_product_of_rows<WIDTH>(ds, dy, v[stage] + j);
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                u32 column = key + j + i / 4 * 8 + fragment_column() + i % 2, r = own + fragment_row() + i / 2 % 2 * 8;
                differentiate(s[i / 4][i % 4], ds[i / 4][i % 4], column <= r, sums[i / 2 % 2], base);
            }
            u32 factor[4];
            round_to_factor(factor, ds);
            add_weighted_rows<WIDTH>(dq, factor, k[stage] + j);
        }
    }
    const float scales[2] = {scale, scale};
    write_rows<WIDTH>(out + row * stride + at.head * width, stride, dq, scales, beyond(length, own), width);
}

// The gradients of keys and values: a tile of them against all queries from it on. Rows of scores are keys here.
template <u32 WIDTH>
__device__ void key_gradient(const bf16* qkv, const float* normalizers, const float* dots, const bf16* gradient,
                             bf16* out, u32 length, u32 heads, u32 width, u32 tiles) {
    constexpr u32 ROWS = rows_of_block(BACKWARD_THREADS), QUERIES = rows_of_tile(WIDTH);
    alignas(16) __shared__ Tile<QUERIES, WIDTH> q[2], dy[2];
    alignas(16) __shared__ float normalizer[2][QUERIES][2], dot[2][QUERIES];
    // Earlier tiles have more queries.
    Place at = place(tiles, heads);
    u32 model = heads * width, stride = 3 * model, first = at.tile * ROWS, own = first_of_warp(first);
    const bf16* head = qkv + at.row * length * stride + at.head * width;
    const bf16* dy_head = gradient + at.row * length * model + at.head * width;
    auto fetch_queries = [&](u32 query) {
        u32 stage = query / QUERIES % 2, rows = length - query;
        fetch<BACKWARD_THREADS, QUERIES, WIDTH>(q[stage], head + (u64)query * stride, stride, rows, width);
        fetch<BACKWARD_THREADS, QUERIES, WIDTH>(dy[stage], dy_head + (u64)query * model, model, rows, width);
        u32 r = threadIdx.x;
        if (r >= QUERIES) return;
        u64 index = (at.row * length + query + (r < rows ? r : 0)) * heads + at.head;
        copy_later<8>(normalizer[stage][r], normalizers + 2 * index, r < rows);
        copy_later<4>(&dot[stage][r], dots + index, r < rows);
    };
    fetch_queries(first);
    u32 k[WIDTH / STEP][4], v[WIDTH / STEP][4];
    read_rows<WIDTH>(k, head + (u64)own * stride + model, stride, beyond(length, own), width);
    read_rows<WIDTH>(v, head + (u64)own * stride + 2 * model, stride, beyond(length, own), width);
    float scale = 1.0f / sqrtf((float)width), base = scale * LOG2_E;
    float dk[WIDTH / 8][4] = {}, dv[WIDTH / 8][4] = {};
    for (u32 query = first; query < length; query += QUERIES) {
        await_copies();
        __syncthreads();
        if (query + QUERIES < length) fetch_queries(query + QUERIES);
        u32 stage = query / QUERIES % 2;
        for (u32 j = 0; j < QUERIES && query + j < length; j += STEP) {
            if (query + j < own) continue;
            float p[2][4] = {}, ds[2][4] = {};
            add_product_of_rows<WIDTH>(p, k, q[stage] + j);
            add_product_of_rows<WIDTH>(ds, v, dy[stage] + j);
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                u32 column = j + i / 4 * 8 + fragment_column() + i % 2, r = own + fragment_row() + i / 2 % 2 * 8;
                // A query beyond the end is zeros, its factor too: it adds nothing.
                Sums sums = {normalizer[stage][column][0] * LOG2_E, normalizer[stage][column][1], dot[stage][column]};
                differentiate(p[i / 4][i % 4], ds[i / 4][i % 4], r <= query + column, sums, base);
            }
            u32 factor[4];
            round_to_factor(factor, p);
            add_weighted_rows<WIDTH>(dv, factor, dy[stage] + j);
            round_to_factor(factor, ds);
            add_weighted_rows<WIDTH>(dk, factor, q[stage] + j);
        }
    }
    bf16* to = out + (at.row * length + own) * stride + at.head * width;
    const float scales[2] = {scale, scale}, ones[2] = {1, 1};
    write_rows<WIDTH>(to + model, stride, dk, scales, beyond(length, own), width);
    write_rows<WIDTH>(to + 2 * model, stride, dv, ones, beyond(length, own), width);
}

extern "C" __global__ void __launch_bounds__(FORWARD_THREADS, 2) attention_tensor_64(const bf16* qkv, bf16* mixed,
    float* normalizers, u32 length, u32 heads, u32 width, u32 tiles) {
    attend<64>(qkv, mixed, normalizers, length, heads, width, tiles);
}

extern "C" __global__ void __launch_bounds__(FORWARD_THREADS) attention_tensor_128(const bf16* qkv, bf16* mixed,
    float* normalizers, u32 length, u32 heads, u32 width, u32 tiles) {
    attend<128>(qkv, mixed, normalizers, length, heads, width, tiles);
}

extern "C" __global__ void __launch_bounds__(BACKWARD_THREADS, 3) attention_query_gradient_tensor_64(const bf16* qkv,
    const float* normalizers, const float* dots, const bf16* gradient, bf16* out, u32 length, u32 heads, u32 width, u32 tiles) {
    query_gradient<64>(qkv, normalizers, dots, gradient, out, length, heads, width, tiles);
}

extern "C" __global__ void __launch_bounds__(BACKWARD_THREADS) attention_query_gradient_tensor_128(const bf16* qkv,
    const float* normalizers, const float* dots, const bf16* gradient, bf16* out, u32 length, u32 heads, u32 width, u32 tiles) {
    query_gradient<128>(qkv, normalizers, dots, gradient, out, length, heads, width, tiles);
}

extern "C" __global__ void __launch_bounds__(BACKWARD_THREADS, 3) attention_key_gradient_tensor_64(const bf16* qkv,
    const float* normalizers, const float* dots, const bf16* gradient, bf16* out, u32 length, u32 heads, u32 width, u32 tiles) {
    key_gradient<64>(qkv, normalizers, dots, gradient, out, length, heads, width, tiles);
}

extern "C" __global__ void __launch_bounds__(BACKWARD_THREADS) attention_key_gradient_tensor_128(const bf16* qkv,
    const float* normalizers, const float* dots, const bf16* gradient, bf16* out, u32 length, u32 heads, u32 width, u32 tiles) {
    key_gradient<128>(qkv, normalizers, dots, gradient, out, length, heads, width, tiles);
}
