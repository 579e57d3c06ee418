// A stand-in for CUDA's driver, for one GPU whose memory is the host's: as much of its interface as is called, with
// kernels that are emulated. It refuses what a real one would answer with a crash or with nonsense: calls without a
// context, addresses that it never gave out, ranges beyond their end. Every handle is counted. What a stream is asked for is
// done as late as CUDA allows, when somebody waits for it: whoever reads too early, or gives memory back too early, is seen.
//
// Declarations after NVIDIA's documentation of the driver API, version 12.8.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace cuda {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500,
       NOT_READY = 600, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900 };

// A kernel, and the bytes of each of its arguments, with a zero behind them.
struct Entry {
    int (*run)(const unsigned*, const char*, void**, bool);
    const size_t* (*sizes)();
};

// Defined behind this file, kernel by kernel.
extern const std::map<std::string, Entry> kernels;

static std::map<uint64_t, size_t> pieces;   // what is allocated: address and bytes
static size_t memory_bytes = size_t(1) << 40, held_bytes = 0;
static std::map<uint64_t, size_t> pinned;   // of the host's memory
static int contexts = 0, streams = 0, modules = 0, launches = 0, events = 0, graphs = 0;
static thread_local bool is_current = false;

typedef std::function<int()> Work;
static std::deque<Work> queue;             // what the stream was asked for and has not done
static std::vector<Work>* capture = nullptr; // where it goes while a graph is made
static bool refuses_graphs = false;
static int failure = SUCCESS;              // the first, which stays

struct Event { bool is_done = true; };

static int ask(void* stream, Work work) {
    if (!is_current || stream != &streams) return INVALID_CONTEXT;
    if (capture) capture->push_back(std::move(work));
    else queue.push_back(std::move(work));
    return SUCCESS;
}

static void step() {
    Work work = std::move(queue.front());
    queue.pop_front();
    int answer = work();
    if (failure == SUCCESS) failure = answer;
}

// Whether so many bytes from there on lie in one piece.
static bool is_inside(uint64_t address, size_t bytes) {
    auto behind = pieces.upper_bound(address);
    if (behind == pieces.begin()) return false;
    auto& [first, len] = *std::prev(behind);
    return address + bytes <= first + len;
}

} // namespace cuda

extern "C" {

int cuInit(unsigned) { return cuda::SUCCESS; }
int cuDriverGetVersion(int* version) { *version = 12080; return cuda::SUCCESS; }
int cuDeviceGetCount(int* count) { *count = 1; return cuda::SUCCESS; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal == 0 ? cuda::SUCCESS : 101; }
int cuDeviceGetName(char* name, int len, int) { std::strncpy(name, "Stand-in", len); return cuda::SUCCESS; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == 75 ? 9 : 0; // the compute capability, 75 and 76
    return attribute == 75 || attribute == 76 ? cuda::SUCCESS : cuda::INVALID_VALUE;
}
int cuDeviceGetPCIBusId(char* bus, int room, int) {
    std::strncpy(bus, "0000:17:00.0", room);
    return room >= 13 ? cuda::SUCCESS : cuda::INVALID_VALUE;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = cuda::memory_bytes; return cuda::SUCCESS; }
int cuGetErrorString(int error, const char** text) {
    *text = error == cuda::LAUNCH_FAILED ? "a launch failed" : "an error";
    return cuda::SUCCESS;
}
int cuGetErrorName(int, const char** text) { *text = "AN_ERROR"; return cuda::SUCCESS; }

int cuDevicePrimaryCtxRetain(void** context, int) { cuda::contexts++; *context = &cuda::contexts; return cuda::SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { cuda::contexts--; return cuda::SUCCESS; }
int cuCtxSetCurrent(void* context) {
    cuda::is_current = context == &cuda::contexts && cuda::contexts > 0;
    return cuda::is_current ? cuda::SUCCESS : cuda::INVALID_CONTEXT;
}

// A module is a copy of its image; a function is the name of a kernel that stands in it.
int cuModuleLoadData(void** module, const void* image) {
    if (!cuda::is_current || std::memcmp(image, "\x7f" "ELF", 4) != 0) return cuda::INVALID_VALUE;
    *module = new std::string(static_cast<const char*>(image));
    cuda::modules++;
    return cuda::SUCCESS;
}
int cuModuleUnload(void* module) { delete static_cast<std::string*>(module); cuda::modules--; return cuda::SUCCESS; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
    bool is_narrow = static_cast<std::string*>(module)->find("#define ACTIVATIONS_IN_BF16") != std::string::npos;
    auto found = cuda::kernels.find(std::string(name) + (is_narrow ? "_bf16" : "_f32"));
    auto defined = " " + std::string(name) + "(";
    bool is_here = static_cast<std::string*>(module)->find(defined) != std::string::npos;
    if (found == cuda::kernels.end() || !is_here) return cuda::NOT_FOUND;
    *function = const_cast<cuda::Entry*>(&found->second);
    return cuda::SUCCESS;
}

int cuStreamCreate(void** stream, unsigned) {
    if (!cuda::is_current) return cuda::INVALID_CONTEXT;
    cuda::streams++;
    *stream = &cuda::streams;
    return cuda::SUCCESS;
}
int cuStreamSynchronize(void* stream) {
    if (stream != &cuda::streams) return cuda::INVALID_HANDLE;
    if (cuda::capture) return cuda::CAPTURE_UNSUPPORTED;
    while (!cuda::queue.empty()) cuda::step();
    return cuda::failure;
}
int cuStreamDestroy_v2(void*) { cuda::streams--; return cuda::SUCCESS; }

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    *free = cuda::memory_bytes - cuda::held_bytes;
    *total = cuda::memory_bytes;
    return cuda::SUCCESS;
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    if (!cuda::is_current) return cuda::INVALID_CONTEXT;
    if (bytes == 0) return cuda::INVALID_VALUE;
    if (cuda::held_bytes + bytes > cuda::memory_bytes) return cuda::OUT_OF_MEMORY;
    void* piece = nullptr;
    if (posix_memalign(&piece, 256, bytes) != 0) return cuda::OUT_OF_MEMORY;
    std::memset(piece, 0xff, bytes); // not a number, to be seen where somebody counts on zeros
    *address = reinterpret_cast<uint64_t>(piece);
    cuda::pieces[*address] = bytes;
    cuda::held_bytes += bytes;
    return cuda::SUCCESS;
}
int cuMemFree_v2(uint64_t address) {
    auto found = cuda::pieces.find(address);
    if (!cuda::is_current || found == cuda::pieces.end() || !cuda::queue.empty()) return cuda::INVALID_VALUE;
    cuda::held_bytes -= found->second;
    cuda::pieces.erase(found);
    std::free(reinterpret_cast<void*>(address));
    return cuda::SUCCESS;
}
int cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    if (!cuda::is_current || bytes == 0) return cuda::INVALID_VALUE;
    *address = std::malloc(bytes);
    std::memset(*address, 0xff, bytes);
    cuda::pinned[reinterpret_cast<uint64_t>(*address)] = bytes;
    return cuda::SUCCESS;
}
int cuMemFreeHost(void* address) {
    if (!cuda::is_current || cuda::pinned.erase(reinterpret_cast<uint64_t>(address)) == 0) return cuda::INVALID_VALUE;
    std::free(address);
    return cuda::SUCCESS;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    if (!cuda::is_inside(to, bytes)) return cuda::INVALID_VALUE;
    return cuda::ask(stream, [=] { std::memset(reinterpret_cast<void*>(to), value, bytes); return cuda::SUCCESS; });
}
static int cuda_copy(void* to, const void* from, size_t bytes, void* stream) {
    return cuda::ask(stream, [=] { std::memcpy(to, from, bytes); return cuda::SUCCESS; });
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    if (!cuda::is_inside(to, bytes)) return cuda::INVALID_VALUE;
    return cuda_copy(reinterpret_cast<void*>(to), from, bytes, stream);
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    if (!cuda::is_inside(from, bytes)) return cuda::INVALID_VALUE;
    return cuda_copy(to, reinterpret_cast<const void*>(from), bytes, stream);
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    if (!cuda::is_inside(to, bytes) || !cuda::is_inside(from, bytes)) return cuda::INVALID_VALUE;
    return cuda_copy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes, stream);
}

int cuEventCreate(void** event, unsigned) {
    if (!cuda::is_current) return cuda::INVALID_CONTEXT;
    *event = new cuda::Event;
    cuda::events++;
    return cuda::SUCCESS;
}
int cuEventDestroy_v2(void* event) { delete static_cast<cuda::Event*>(event); cuda::events--; return cuda::SUCCESS; }
int cuEventRecord(void* event, void* stream) {
    if (cuda::capture) return cuda::CAPTURE_UNSUPPORTED;
    auto& recorded = *static_cast<cuda::Event*>(event);
    recorded.is_done = false;
    return cuda::ask(stream, [&recorded] { recorded.is_done = true; return cuda::SUCCESS; });
}
int cuEventQuery(void* event) { return static_cast<cuda::Event*>(event)->is_done ? cuda::SUCCESS : cuda::NOT_READY; }
int cuEventSynchronize(void* event) {
    while (!static_cast<cuda::Event*>(event)->is_done) cuda::step();
    return cuda::failure;
}

// A graph is what a stream was asked for while it was captured; a launch has the stream do all of it.
int cuStreamBeginCapture_v2(void* stream, int) {
    if (!cuda::is_current || stream != &cuda::streams || cuda::capture) return cuda::INVALID_VALUE;
    cuda::capture = new std::vector<cuda::Work>;
    return cuda::SUCCESS;
}
int cuStreamEndCapture(void*, void** graph) {
    if (!cuda::capture) return cuda::INVALID_VALUE;
    std::vector<cuda::Work>* captured = cuda::capture;
    cuda::capture = nullptr;
    if (cuda::refuses_graphs) {
        delete captured;
        return cuda::CAPTURE_UNSUPPORTED;
    }
    *graph = captured;
    cuda::graphs++;
    return cuda::SUCCESS;
}
int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    *executable = new std::vector<cuda::Work>(*static_cast<std::vector<cuda::Work>*>(graph));
    cuda::graphs++;
    return cuda::SUCCESS;
}
int cuGraphDestroy(void* graph) { delete static_cast<std::vector<cuda::Work>*>(graph); cuda::graphs--; return cuda::SUCCESS; }
int cuGraphExecDestroy(void* graph) { return cuGraphDestroy(graph); }
int cuGraphLaunch(void* graph, void* stream) {
    for (auto& work : *static_cast<std::vector<cuda::Work>*>(graph))
        if (int answer = cuda::ask(stream, work)) return answer;
    return cuda::SUCCESS;
}

// Arguments are read at once.
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, void* stream, void** values, void** extra) {
    bool is_plain = z == 1 && threads_y == 1 && threads_z == 1 && shared == 0 && !extra;
    if (!is_plain || x == 0 || y == 0 || y > 65535) return cuda::INVALID_VALUE;
    auto& entry = *static_cast<const cuda::Entry*>(function);
    std::vector<std::string> arguments;
    size_t bytes = 0;
    for (const size_t* size = entry.sizes(); *size; bytes += *size, size++)
        arguments.emplace_back(static_cast<const char*>(values[arguments.size()]), *size);
    if (bytes > 4096) return cuda::INVALID_VALUE;
    return cuda::ask(stream, [&entry, x, y, threads, arguments]() mutable {
        const unsigned grid[] = {x, y, threads};
        std::vector<void*> pointers;
        for (auto& argument : arguments) pointers.push_back(argument.data());
        cuda::launches++;
        return entry.run(grid, nullptr, pointers.data(), false) == 0 ? cuda::SUCCESS : cuda::LAUNCH_FAILED;
    });
}

// For the other libraries: a call of theirs on a stream.
int stand_in_ask(void* stream, int (*run)(void*), void (*forget)(void*), void* with) {
    std::shared_ptr<void> kept(with, forget);
    return cuda::ask(stream, [run, kept] { return run(kept.get()); });
}

// What a test asks.
int stand_in_handles() {
    return cuda::contexts + cuda::streams + cuda::modules + cuda::events + cuda::graphs +
           (int)(cuda::pieces.size() + cuda::pinned.size());
}
void stand_in_refuse_graphs(bool refuses) { cuda::refuses_graphs = refuses; }
int stand_in_launches() { return cuda::launches; }
void stand_in_memory(size_t bytes) { cuda::memory_bytes = bytes; }
}
