// CUDA C++ for an ordinary C++ compiler: the threads of a block are fibers that take turns, blocks run one after
// another, and shared memory is static. Enough for this project's kernels: barriers, warp shuffles, products of matrices
// by a warp, copies into shared memory that go on beside other work, one-dimensional blocks. Divergent barriers, shuffles
// and products, which a GPU answers with nonsense, are refused; so are copies that are not aligned.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 { unsigned x = 1, y = 1; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr unsigned MOST_THREADS = 256, WARP_LANES = 32;
constexpr size_t STACK_BYTES = 128 << 10;

// A stack, and where its computation goes on.
struct Fiber {
    std::vector<char> stack;
#if defined(__x86_64__)
    void* top = nullptr;
#else
    ucontext_t context;
#endif
};

#if defined(__x86_64__)
// Saves what a call has to preserve on the present stack, and goes on from another.
extern "C" void emulator_switch(void** from, void* to);
asm(".text\n.globl emulator_switch\n.type emulator_switch, @function\nemulator_switch:\n"
    "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
    "movq %rsp, (%rdi); movq %rsi, %rsp\n"
    "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret\n");

static void change(Fiber& from, Fiber& to) { emulator_switch(&from.top, to.top); }

static void prepare(Fiber& fiber, void (*entry)()) {
    fiber.stack.resize(STACK_BYTES);
    auto end = reinterpret_cast<uintptr_t>(fiber.stack.data() + STACK_BYTES) & ~uintptr_t(15);
    auto top = reinterpret_cast<void**>(end) - 8;
    std::fill(top, top + 8, nullptr);
    top[6] = reinterpret_cast<void*>(entry); // six registers, then where to return to
    fiber.top = top;
}
#else
static void change(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

static void prepare(Fiber& fiber, void (*entry)()) {
    fiber.stack.resize(STACK_BYTES);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.context, entry, 0);
}
#endif

enum State { READY, AT_BARRIER, AT_SHUFFLE, AT_PRODUCT, AT_MATRICES, DONE };

// What a lane shows to the others of its warp.
struct Shown {
    uint32_t words[6];
};

// One that has begun and is carried out when its thread waits for it, no sooner: as late as a GPU may.
struct Copy {
    void* to;
    const void* from;
    size_t bytes; // 0 where zeros are written
    size_t room;
};

static Fiber scheduler, fibers[MOST_THREADS];
static std::vector<unsigned> idle;         // fibers that run no thread
static unsigned made;                      // fibers
static unsigned first_of_warp, started;    // the warp at work, and how many of its threads have begun
static unsigned current, running;          // the thread and the fiber at work
static State states[MOST_THREADS];
static unsigned fiber_of[MOST_THREADS];
static Shown shown[2][MOST_THREADS];
static unsigned exchanges[MOST_THREADS];   // by each thread so far
static std::vector<Copy> copies[MOST_THREADS];
static bool misaligned;                    // whether a copy was
static bool backwards;                     // threads, warps and blocks in the other order
static void (*run_thread)(void*);
static void* arguments;

static unsigned in_order(unsigned i, unsigned count) { return backwards ? count - 1 - i : i; }

// A fiber runs thread after thread of a warp; only one that waits takes the fiber with it.
static void work() {
    for (;;) {
        while (started < WARP_LANES) {
            current = first_of_warp + in_order(started++, WARP_LANES);
            threadIdx.x = current;
            fiber_of[current] = running;
            run_thread(arguments);
            states[current] = DONE;
        }
        unsigned me = running;
        idle.push_back(me);
        change(fibers[me], scheduler);
    }
}

static void wait(State state) {
    unsigned thread = current, fiber = running;
    states[thread] = state;
    change(fibers[fiber], scheduler);
    current = thread;
    threadIdx.x = thread;
}

static void resume(unsigned fiber) {
    running = fiber;
    change(scheduler, fibers[fiber]);
}

static bool all(unsigned first, unsigned count, State state) {
    for (unsigned thread = first; thread < first + count; thread++)
        if (states[thread] != state) return false;
    return true;
}

// Whether the warp's lanes have met, all for the same exchange.
static bool met(unsigned first) {
    State state = states[first];
    bool is_exchange = state == AT_SHUFFLE || state == AT_PRODUCT || state == AT_MATRICES;
    return is_exchange && all(first, WARP_LANES, state);
}

// Shows it to the warp's other lanes, and returns what all of them show. Two sets of places in turn: a lane that is ahead
// by one exchange does not overwrite what others still read.
static const Shown* exchange(const Shown& mine, State state) {
    Shown* places = shown[exchanges[current]++ % 2];
    places[current] = mine;
    wait(state);
    return places + current / WARP_LANES * WARP_LANES;
}

static void start_warp() {
    started = 0;
    while (started < WARP_LANES) {
        if (idle.empty()) {
            prepare(fibers[made], work);
            idle.push_back(made++);
        }
        unsigned fiber = idle.back();
        idle.pop_back();
        resume(fiber);
    }
}

static void resume_warp() {
    for (unsigned i = 0; i < WARP_LANES; i++) {
        unsigned thread = first_of_warp + in_order(i, WARP_LANES);
        states[thread] = READY;
        resume(fiber_of[thread]);
    }
}

// Every warp runs as far ahead of the others as barriers let it: what is read or written without one shows.
// False where threads wait for others that never come.
static bool run_block() {
    unsigned warps = blockDim.x / WARP_LANES;
    std::fill(states, states + blockDim.x, READY);
    std::fill(exchanges, exchanges + blockDim.x, 0);
    for (auto& begun : copies) begun.clear();
    misaligned = false;
    for (bool begun = false; !begun || !all(0, blockDim.x, DONE); begun = true) {
        if (begun && !all(0, blockDim.x, AT_BARRIER)) return false;
        for (unsigned i = 0; i < warps; i++) {
            first_of_warp = in_order(i, warps) * WARP_LANES;
            begun ? resume_warp() : start_warp();
            while (met(first_of_warp)) resume_warp();
            if (!all(first_of_warp, WARP_LANES, AT_BARRIER) && !all(first_of_warp, WARP_LANES, DONE)) return false;
        }
    }
    return true;
}

// The kind of an argument, as the driver names it.
template <class T> constexpr char kind() {
    if constexpr (std::is_pointer_v<T>) return 'p';
    else if constexpr (std::is_same_v<T, unsigned>) return 'u';
    else if constexpr (std::is_same_v<T, unsigned long long>) return 'l';
    else if constexpr (std::is_same_v<T, float>) return 'f';
    else if constexpr (std::is_same_v<T, double>) return 'd';
    else if constexpr (std::is_class_v<T>) return kind<typename T::element>() - 'a' + 'A'; // many of them
    else return '?';
}

template <class... A> struct Call {
    void (*kernel)(A...);
    void** values;
    template <size_t... I> void apply(std::index_sequence<I...>) { kernel(*static_cast<A*>(values[I])...); }
    static void thread(void* self) { static_cast<Call*>(self)->apply(std::index_sequence_for<A...>{}); }
};

// The bytes of each argument, and a zero.
template <class... A> const size_t* sizes(void (*)(A...)) {
    static const size_t all[] = {sizeof(A)..., 0};
    return all;
}

// 0 when it ran; 1 where the arguments are of other kinds than the kernel's (not asked where `kinds` is null), 2 where
// threads wait for ever, 3 where the block has no whole number of warps, 4 where a copy is not aligned.
template <class... A>
int launch(void (*kernel)(A...), const unsigned* grid, const char* kinds, void** values, bool in_reverse) {
    const char expected[] = {kind<A>()..., 0};
    if (kinds && std::strcmp(kinds, expected) != 0) return 1;
    gridDim = {grid[0], grid[1]};
    blockDim = {grid[2], 1};
    if (blockDim.x > MOST_THREADS || blockDim.x % WARP_LANES != 0) return 3;
    Call<A...> call{kernel, values};
    run_thread = Call<A...>::thread;
    arguments = &call;
    backwards = in_reverse;
    for (unsigned y = 0; y < gridDim.y; y++)
        for (unsigned x = 0; x < gridDim.x; x++) {
            blockIdx = {in_order(x, gridDim.x), in_order(y, gridDim.y)};
            if (run_block()) {
                if (misaligned) return 4;
                continue;
            }
            // Threads are left hanging in their fibers, which start anew.
            idle.clear();
            made = 0;
            return 2;
        }
    return 0;
}

} // namespace emulator

static inline void __syncthreads() { emulator::wait(emulator::AT_BARRIER); }

template <class T> static inline T __shfl_xor_sync(unsigned, T value, unsigned distance) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a register or two");
    using namespace emulator;
    Shown mine = {};
    std::memcpy(mine.words, &value, sizeof(T));
    unsigned other = current % WARP_LANES ^ distance;
    std::memcpy(&value, exchange(mine, AT_SHUFFLE)[other].words, sizeof(T));
    return value;
}

static inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return x;
}

// As `cvt.rn.bf16.f32`: to the nearest, of two that are as near to the even one.
static inline unsigned short nearest_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    if (std::isnan(x)) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// As `cvt.rn.bf16x2.f32`.
static inline unsigned two_bf16(float first, float second) {
    return static_cast<unsigned>(nearest_bf16(second)) << 16 | nearest_bf16(first);
}

// As `ex2.approx.ftz.f32`, but exact.
static inline float power_of_two(float x) {
    float power = std::exp2(x);
    return std::fpclassify(power) == FP_SUBNORMAL ? 0.0f : power;
}

// As `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32`, by the layout of fragments in the PTX ISA: lane l has, in
// pairs of neighbours, of `a` rows l / 4 and l / 4 + 8 of columns 2 (l % 4) and 8 more, of `b` rows 2 (l % 4) and 8 more
// of column l / 4, of the sums rows l / 4 and l / 4 + 8 of columns 2 (l % 4).
static inline void add_product(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    using namespace emulator;
    const Shown* of_lanes = exchange({{a[0], a[1], a[2], a[3], b0, b1}}, AT_PRODUCT);
    auto half = [](uint32_t pair, unsigned which) { return __uint_as_float(which ? pair & 0xffff0000 : pair << 16); };
    unsigned lane = current % WARP_LANES;
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            const Shown& of_row = of_lanes[row % 8 * 4 + k % 8 / 2];
            const Shown& of_column = of_lanes[column * 4 + k % 8 / 2];
            sums[i] += half(of_row.words[row / 8 + k / 8 * 2], k % 2) * half(of_column.words[4 + k / 8], k % 2);
        }
    }
}

// As `ldmatrix.sync.aligned.m8n8.x4.shared.b16`: a lane shows the row that it names, and takes parts of what all show.
static inline const emulator::Shown* show_row(const void* row) {
    using namespace emulator;
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) misaligned = true;
    Shown mine = {};
    std::memcpy(mine.words, row, 16);
    return exchange(mine, AT_MATRICES);
}

static inline void read_matrices(unsigned (&to)[4], const void* row) {
    const emulator::Shown* rows = show_row(row);
    unsigned lane = threadIdx.x % emulator::WARP_LANES;
    for (unsigned i = 0; i < 4; i++) to[i] = rows[8 * i + lane / 4].words[lane % 4];
}

// As `ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16`.
static inline void read_transposed(unsigned (&to)[4], const void* row) {
    const emulator::Shown* rows = show_row(row);
    unsigned lane = threadIdx.x % emulator::WARP_LANES, column = lane / 4;
    auto number = [&](unsigned of_matrix, unsigned row) {
        return rows[8 * of_matrix + row].words[column / 2] >> column % 2 * 16 & 0xffff;
    };
    for (unsigned i = 0; i < 4; i++) to[i] = number(i, lane % 4 * 2) | number(i, lane % 4 * 2 + 1) << 16;
}

// As `cp.async`, with zeros for what is not there.
template <unsigned BYTES> static inline void copy_later(void* to, const void* from, bool there) {
    using namespace emulator;
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what the instruction takes");
    auto is_aligned = [](const void* place) { return reinterpret_cast<uintptr_t>(place) % BYTES == 0; };
    if (!is_aligned(to) || !is_aligned(from)) misaligned = true;
    copies[current].push_back({to, from, there ? BYTES : 0, BYTES});
}

// As `cp.async.wait_all`.
static inline void await_copies() {
    using namespace emulator;
    for (const Copy& copy : copies[current]) {
        std::memset(copy.to, 0, copy.room);
        std::memcpy(copy.to, copy.from, copy.bytes);
    }
    copies[current].clear();
}
