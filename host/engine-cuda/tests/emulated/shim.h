// CUDA C++ for an ordinary C++ compiler: the threads of a block are fibers that take turns, blocks run one after
// another, and shared memory is static. Enough for this project's kernels: barriers, warp shuffles, one-dimensional
// blocks. Divergent barriers and shuffles, which a GPU answers with nonsense, are refused.
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

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };

static Fiber scheduler, fibers[MOST_THREADS];
static std::vector<unsigned> idle;         // fibers that run no thread
static unsigned made;                      // fibers
static unsigned first_of_warp, started;    // the warp at work, and how many of its threads have begun
static unsigned current, running;          // the thread and the fiber at work
static State states[MOST_THREADS];
static unsigned fiber_of[MOST_THREADS];
static uint64_t exchanged[2][MOST_THREADS];
static unsigned shuffles[MOST_THREADS];    // by each thread so far
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
    std::fill(shuffles, shuffles + blockDim.x, 0);
    for (bool begun = false; !begun || !all(0, blockDim.x, DONE); begun = true) {
        if (begun && !all(0, blockDim.x, AT_BARRIER)) return false;
        for (unsigned i = 0; i < warps; i++) {
            first_of_warp = in_order(i, warps) * WARP_LANES;
            begun ? resume_warp() : start_warp();
            while (all(first_of_warp, WARP_LANES, AT_SHUFFLE)) resume_warp();
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

// 0 when it ran; 1 where the arguments are of other kinds than the kernel's (not asked where `kinds` is null), 2 where threads wait for ever, 3 where
// the block has no whole number of warps.
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
            if (run_block()) continue;
            // Threads are left hanging in their fibers, which start anew.
            idle.clear();
            made = 0;
            return 2;
        }
    return 0;
}

} // namespace emulator

static inline void __syncthreads() { emulator::wait(emulator::AT_BARRIER); }

// Two sets of places in turn: a lane that is ahead by one shuffle does not overwrite what others still read.
template <class T> static inline T __shfl_xor_sync(unsigned, T value, unsigned distance) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a register or two");
    using namespace emulator;
    uint64_t* places = exchanged[shuffles[current]++ % 2];
    std::memcpy(&places[current], &value, sizeof(T));
    wait(AT_SHUFFLE);
    std::memcpy(&value, &places[current ^ distance], sizeof(T));
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
