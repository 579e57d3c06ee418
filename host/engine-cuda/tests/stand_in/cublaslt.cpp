// A stand-in for cuBLASLt: products of f32 matrices by plain loops, column by column, as its descriptions say. It
// refuses types and attributes of other sizes than NVIDIA documents, and addresses that are less aligned than an
// algorithm was chosen for. Declarations after NVIDIA's documentation of cuBLASLt, version 12.8.
#include <cstdint>
#include <cstring>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { R_32F = 0, COMPUTE_32F = 68 };
enum { DESC_TRANSA = 3, DESC_TRANSB = 4 };
enum { PREF_WORKSPACE_BYTES = 1, PREF_ALIGNMENT_A = 5, PREF_ALIGNMENT_D = 8 };

int handles = 0;

struct Operation { int32_t transposed[2] = {0, 0}; };
struct Layout { uint64_t rows, columns; int64_t leading; };
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

float at(const float* x, const Layout& layout, int32_t transposed, uint64_t row, uint64_t column) {
    return transposed ? x[column + row * layout.leading] : x[row + column * layout.leading];
}

// Rows and columns of a factor as the product sees them.
uint64_t rows(const Layout& layout, int32_t transposed) { return transposed ? layout.columns : layout.rows; }
uint64_t columns(const Layout& layout, int32_t transposed) { return transposed ? layout.rows : layout.columns; }

} // namespace

extern "C" {

size_t cublasLtGetVersion() { return 120803; }
int cublasLtCreate(void** handle) { return make<int>(handle); }
int cublasLtDestroy(void* handle) { return destroy<int>(handle); }

int cublasLtMatmulDescCreate(void** operation, int compute, int scale) {
    return compute == COMPUTE_32F && scale == R_32F ? make<Operation>(operation) : NOT_SUPPORTED;
}
int cublasLtMatmulDescDestroy(void* operation) { return destroy<Operation>(operation); }
int cublasLtMatmulDescSetAttribute(void* operation, int attribute, const void* value, size_t bytes) {
    if ((attribute != DESC_TRANSA && attribute != DESC_TRANSB) || bytes != 4) return INVALID_VALUE;
    std::memcpy(&static_cast<Operation*>(operation)->transposed[attribute - DESC_TRANSA], value, bytes);
    return SUCCESS;
}

int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if (type != R_32F || leading < (int64_t)rows) return INVALID_VALUE;
    return make<Layout>(layout, rows, columns, leading);
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
                columns(la, op.transposed[0]) == rows(lb, op.transposed[1]) && c == d && wanted == 1;
    if (!fits) return INVALID_VALUE;
    uint32_t alignment = 0;
    for (uint32_t least : static_cast<Preference*>(preference)->alignment) alignment |= least;
    auto& first = *static_cast<Result*>(result);
    first = Result{};
    first.algorithm.alignment = alignment;
    *found = 1;
    return SUCCESS;
}

int cublasLtMatmul(void*, void* operation, const float* alpha, const float* a, void* a_layout, const float* b,
                   void* b_layout, const float* beta, const float* c, void* c_layout, float* d, void*,
                   const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
    auto& op = *static_cast<Operation*>(operation);
    auto &la = *static_cast<Layout*>(a_layout), &lb = *static_cast<Layout*>(b_layout);
    auto& lc = *static_cast<Layout*>(c_layout);
    uint64_t addresses = (uint64_t)a | (uint64_t)b | (uint64_t)c | (uint64_t)d;
    bool is_good = addresses % algorithm->alignment == 0 && c == d && workspace && workspace_bytes && stream;
    if (!is_good) return INVALID_VALUE;
    for (uint64_t column = 0; column < lc.columns; column++)
        for (uint64_t row = 0; row < lc.rows; row++) {
            double sum = 0;
            for (uint64_t term = 0; term < columns(la, op.transposed[0]); term++)
                sum += (double)at(a, la, op.transposed[0], row, term) * at(b, lb, op.transposed[1], term, column);
            float& to = d[row + column * lc.leading];
            // With beta 0 what was there is not read: it may be no number.
            to = (float)(*alpha * sum) + (*beta == 0 ? 0.0f : *beta * to);
        }
    return SUCCESS;
}

// What a test asks.
int stand_in_handles() { return handles; }
}
