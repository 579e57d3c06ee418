// A stand-in for CUDA's driver, for one GPU whose memory is the host's: as much of its interface as is called, with
// kernels that are emulated. It refuses what a real one would answer with a crash or with nonsense: calls without a
// context, addresses that it never gave out, ranges beyond their end. Every handle is counted.
//
// Declarations after NVIDIA's documentation of the driver API, version 12.8.
#pragma once
#include <map>
#include <string>

namespace cuda {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500,
       LAUNCH_FAILED = 719 };

typedef int (*Entry)(const unsigned*, const char*, void**, bool);

// Defined behind this file, kernel by kernel.
extern const std::map<std::string, Entry> kernels;

static std::map<uint64_t, size_t> pieces;   // what is allocated: address and bytes
static size_t memory_bytes = size_t(1) << 40, held_bytes = 0;
static int contexts = 0, streams = 0, modules = 0, launches = 0;
static thread_local bool is_current = false;

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
int cuStreamSynchronize(void* stream) { return stream == &cuda::streams ? cuda::SUCCESS : cuda::INVALID_HANDLE; }
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
    void* piece = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(piece, 0xff, bytes); // not a number, to be seen where somebody counts on zeros
    *address = reinterpret_cast<uint64_t>(piece);
    cuda::pieces[*address] = bytes;
    cuda::held_bytes += bytes;
    return cuda::SUCCESS;
}
int cuMemFree_v2(uint64_t address) {
    auto found = cuda::pieces.find(address);
    if (!cuda::is_current || found == cuda::pieces.end()) return cuda::INVALID_VALUE;
    cuda::held_bytes -= found->second;
    cuda::pieces.erase(found);
    std::free(reinterpret_cast<void*>(address));
    return cuda::SUCCESS;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void*) {
    if (!cuda::is_current || !cuda::is_inside(to, bytes)) return cuda::INVALID_VALUE;
    std::memset(reinterpret_cast<void*>(to), value, bytes);
    return cuda::SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) {
    if (!cuda::is_current || !cuda::is_inside(to, bytes)) return cuda::INVALID_VALUE;
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return cuda::SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) {
    if (!cuda::is_current || !cuda::is_inside(from, bytes)) return cuda::INVALID_VALUE;
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return cuda::SUCCESS;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void*) {
    if (!cuda::is_current || !cuda::is_inside(to, bytes) || !cuda::is_inside(from, bytes)) return cuda::INVALID_VALUE;
    std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    return cuda::SUCCESS;
}

int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, void* stream, void** values, void** extra) {
    bool is_plain = z == 1 && threads_y == 1 && threads_z == 1 && shared == 0 && !extra && stream == &cuda::streams;
    if (!cuda::is_current || !is_plain || x == 0 || y == 0 || y > 65535) return cuda::INVALID_VALUE;
    const unsigned grid[] = {x, y, threads};
    cuda::launches++;
    return (*static_cast<const cuda::Entry*>(function))(grid, nullptr, values, false) == 0 ? cuda::SUCCESS
                                                                                          : cuda::LAUNCH_FAILED;
}

// What a test asks.
int stand_in_handles() { return cuda::contexts + cuda::streams + cuda::modules + (int)cuda::pieces.size(); }
int stand_in_launches() { return cuda::launches; }
void stand_in_memory(size_t bytes) { cuda::memory_bytes = bytes; }
}
