// A stand-in for cuBLASLt: products of matrices in f32 and bfloat16 by plain loops, column by column, as its descriptions say. It
// refuses types and attributes of other sizes than NVIDIA documents, and addresses that are less aligned than an
// algorithm was chosen for. Declarations after NVIDIA's documentation of cuBLASLt, version 12.8.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <dlfcn.h>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum { DESC_TRANSA = 3, DESC_TRANSB = 4, DESC_EPILOGUE = 7, DESC_BIAS_POINTER = 8, DESC_AUX_POINTER = 11, DESC_AUX_LD = 12,
       DESC_BIAS_TYPE = 26 };
enum { EPILOGUE_DEFAULT = 1, EPILOGUE_BIAS = 4, EPILOGUE_GELU = 32, EPILOGUE_AUX = 128, EPILOGUE_GELU_BIAS = 36,
       EPILOGUE_GELU_AUX_BIAS = 164, EPILOGUE_DGELU = 192 };
enum { PREF_WORKSPACE_BYTES = 1, PREF_ALIGNMENT_A = 5, PREF_ALIGNMENT_D = 8 };

int handles = 0, products_in_tf32 = 0, fused = 0;
bool refuses_epilogues = false;

struct Operation {
    int compute;
    int32_t transposed[2] = {0, 0};
    uint32_t epilogue = EPILOGUE_DEFAULT;
    int32_t bias_type = -1;
    const void* bias = nullptr;
    void* aux = nullptr;
    int64_t aux_leading = 0;

    bool has_bias() const { return epilogue & EPILOGUE_BIAS; }
    bool has_aux() const { return epilogue & EPILOGUE_AUX; }
};
struct Layout { int type; uint64_t rows, columns; int64_t leading; };
struct Preference { uint64_t workspace_bytes = 0; uint32_t alignment[4] = {256, 256, 256, 256}; };
struct Algorithm { uint64_t alignment, words[7]; };
struct Result { Algorithm algorithm; size_t workspace_bytes; int state; float waves; int reserved[4]; };

template <class T, class... A> int make(void** handle, A... values) {
    *handle = new T{values...};
    handles++;
    return SUCCESS;
}

template <class T> int destroy(void* handle) {
    delete static_cast<T*>(handle);
    handles--;
    return SUCCESS;
}

float read(const void* x, int type, uint64_t index) {
    if (type == R_32F) return static_cast<const float*>(x)[index];
    uint32_t bits = static_cast<const uint16_t*>(x)[index] << 16;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

void write(void* x, int type, uint64_t index, float value) {
    if (type == R_32F) {
        static_cast<float*>(x)[index] = value;
        return;
    }
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    static_cast<uint16_t*>(x)[index] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float at(const void* x, const Layout& layout, int32_t transposed, uint64_t row, uint64_t column) {
    return read(x, layout.type, transposed ? column + row * layout.leading : row + column * layout.leading);
}

// Rows and columns of a factor as the product sees them.
uint64_t rows(const Layout& layout, int32_t transposed) { return transposed ? layout.columns : layout.rows; }
uint64_t columns(const Layout& layout, int32_t transposed) { return transposed ? layout.rows : layout.columns; }

// A product that a stream was asked for.
struct Matmul {
    Operation operation;
    Layout la, lb, lc;
    const void *a, *b, *c;
    void* d;
    float alpha, beta;

    // What the epilogue makes of a number.
    float follow(float x, uint64_t row, uint64_t column) {
        uint64_t at_aux = row + column * operation.aux_leading;
        if (operation.has_bias()) x += read(operation.bias, operation.bias_type, row);
        if (operation.epilogue == EPILOGUE_DGELU) {
            float before = read(operation.aux, lc.type, at_aux), t = tanh_of(before);
            float inner = 0.7978845608f * (1 + 3 * 0.044715f * before * before);
            return x * (0.5f * (1 + t) + 0.5f * before * (1 - t * t) * inner);
        }
        if (operation.has_aux()) write(operation.aux, lc.type, at_aux, x);
        return operation.epilogue & EPILOGUE_GELU ? 0.5f * x * (1 + tanh_of(x)) : x;
    }

    static float tanh_of(float x) { return std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)); }

    static void forget(void* self) { delete static_cast<Matmul*>(self); }
    static int run(void* self) { return static_cast<Matmul*>(self)->multiply(); }

    int multiply() {
        for (uint64_t column = 0; column < lc.columns; column++)
            for (uint64_t row = 0; row < lc.rows; row++) {
                double sum = 0;
                for (uint64_t term = 0; term < columns(la, operation.transposed[0]); term++)
                    sum += (double)at(a, la, operation.transposed[0], row, term) *
                           at(b, lb, operation.transposed[1], term, column);
                uint64_t to = row + column * lc.leading;
                // With beta 0 what was there is not read: it may be no number.
                float before = beta == 0 ? 0.0f : beta * read(c, lc.type, to);
                write(d, lc.type, to, follow((float)(alpha * sum) + before, row, column));
            }
        return SUCCESS;
    }
};

} // namespace

extern "C" {

size_t cublasLtGetVersion() { return 120803; }
int cublasLtCreate(void** handle) { return make<int>(handle); }
int cublasLtDestroy(void* handle) { return destroy<int>(handle); }

int cublasLtMatmulDescCreate(void** operation, int compute, int scale) {
    bool is_known = compute == COMPUTE_32F || compute == COMPUTE_32F_FAST_TF32;
    return is_known && scale == R_32F ? make<Operation>(operation, compute) : NOT_SUPPORTED;
}
int cublasLtMatmulDescDestroy(void* operation) { return destroy<Operation>(operation); }
int cublasLtMatmulDescSetAttribute(void* operation, int attribute, const void* value, size_t bytes) {
    auto& op = *static_cast<Operation*>(operation);
    auto set = [&](void* to, size_t wanted) {
        if (bytes == wanted) std::memcpy(to, value, bytes);
        return bytes == wanted ? SUCCESS : INVALID_VALUE;
    };
    switch (attribute) {
        case DESC_TRANSA: return set(&op.transposed[0], 4);
        case DESC_TRANSB: return set(&op.transposed[1], 4);
        case DESC_EPILOGUE: return set(&op.epilogue, 4);
        case DESC_BIAS_POINTER: return set(&op.bias, 8);
        case DESC_BIAS_TYPE: return set(&op.bias_type, 4);
        case DESC_AUX_POINTER: return set(&op.aux, 8);
        case DESC_AUX_LD: return set(&op.aux_leading, 8);
        default: return INVALID_VALUE;
    }
}

int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if ((type != R_32F && type != R_16BF) || leading < (int64_t)rows) return INVALID_VALUE;
    return make<Layout>(layout, type, rows, columns, leading);
}
int cublasLtMatrixLayoutDestroy(void* layout) { return destroy<Layout>(layout); }

int cublasLtMatmulPreferenceCreate(void** preference) { return make<Preference>(preference); }
int cublasLtMatmulPreferenceDestroy(void* preference) { return destroy<Preference>(preference); }
int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
    auto& set = *static_cast<Preference*>(preference);
    if (attribute == PREF_WORKSPACE_BYTES && bytes == 8) std::memcpy(&set.workspace_bytes, value, bytes);
    else if (attribute >= PREF_ALIGNMENT_A && attribute <= PREF_ALIGNMENT_D && bytes == 4)
        std::memcpy(&set.alignment[attribute - PREF_ALIGNMENT_A], value, bytes);
    else return INVALID_VALUE;
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(void*, void* operation, void* a, void* b, void* c, void* d, void* preference,
                                   int wanted, void* result, int* found) {
    auto& op = *static_cast<Operation*>(operation);
    auto &la = *static_cast<Layout*>(a), &lb = *static_cast<Layout*>(b), &lc = *static_cast<Layout*>(c);
    bool fits = rows(la, op.transposed[0]) == lc.rows && columns(lb, op.transposed[1]) == lc.columns &&
                columns(la, op.transposed[0]) == rows(lb, op.transposed[1]) && c == d && wanted == 1 &&
                la.type == lb.type && (lc.type == la.type || lc.type == R_32F);
    if (!fits) return INVALID_VALUE;
    if (op.epilogue != EPILOGUE_DEFAULT) {
        bool is_known = op.epilogue == EPILOGUE_BIAS || op.epilogue == EPILOGUE_GELU_BIAS ||
                        op.epilogue == EPILOGUE_GELU_AUX_BIAS || op.epilogue == EPILOGUE_DGELU;
        bool is_whole = (!op.has_bias() || (op.bias && op.bias_type == lc.type)) &&
                        (!op.has_aux() || (op.aux && op.aux_leading % 8 == 0 && op.aux_leading >= (int64_t)lc.rows));
        if (!is_known || !is_whole) return INVALID_VALUE;
        if (refuses_epilogues) return NOT_SUPPORTED;
    }
    uint32_t alignment = 0;
    for (uint32_t least : static_cast<Preference*>(preference)->alignment) alignment |= least;
    auto& first = *static_cast<Result*>(result);
    first = Result{};
    first.algorithm.alignment = alignment;
    *found = 1;
    return SUCCESS;
}

int cublasLtMatmul(void*, void* operation, const float* alpha, const void* a, void* a_layout, const void* b,
                   void* b_layout, const float* beta, const void* c, void* c_layout, void* d, void*,
                   const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
    uint64_t addresses = (uint64_t)a | (uint64_t)b | (uint64_t)c | (uint64_t)d;
    bool is_good = addresses % algorithm->alignment == 0 && workspace && workspace_bytes && stream;
    if (!is_good) return INVALID_VALUE;
    // Descriptions and factors are read at once, matrices when the stream comes to it.
    auto* product = new Matmul{*static_cast<Operation*>(operation), *static_cast<Layout*>(a_layout),
                               *static_cast<Layout*>(b_layout), *static_cast<Layout*>(c_layout), a, b, c, d, *alpha, *beta};
    fused += product->operation.epilogue != EPILOGUE_DEFAULT;
    products_in_tf32 += product->operation.compute == COMPUTE_32F_FAST_TF32;
    typedef int (*Ask)(void*, int (*)(void*), void (*)(void*), void*);
    static auto ask = reinterpret_cast<Ask>(dlsym(dlopen("libcuda.so", RTLD_NOW | RTLD_NOLOAD), "stand_in_ask"));
    return ask(stream, Matmul::run, Matmul::forget, product) == SUCCESS ? SUCCESS : INVALID_VALUE;
}

// What a test asks.
int stand_in_handles() { return handles; }
int stand_in_fused() { return fused; }
void stand_in_refuse_epilogues(bool refuses) { refuses_epilogues = refuses; }
int stand_in_products_in_tf32() { return products_in_tf32; }
}
