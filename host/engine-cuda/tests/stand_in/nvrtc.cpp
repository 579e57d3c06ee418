// A stand-in for NVRTC: the machine code of a program is its text, behind the four bytes that an ELF file begins
// with. Declarations after NVIDIA's documentation of NVRTC, version 12.8.
#include <cstring>
#include <string>

static int programs = 0;

static std::string& text(void* program) { return *static_cast<std::string*>(program); }

extern "C" {

int nvrtcVersion(int* major, int* minor) { *major = 12; *minor = 8; return 0; }
int nvrtcCreateProgram(void** program, const char* source, const char*, int, const char* const*, const char* const*) {
    programs++;
    *program = new std::string("\x7f" "ELF" + std::string(source));
    return 0;
}
int nvrtcDestroyProgram(void** program) {
    programs--;
    delete &text(*program);
    return 0;
}
int nvrtcCompileProgram(void*, int count, const char* const* options) {
    for (int i = 0; i < count; i++)
        if (std::strcmp(options[i], "--gpu-architecture=sm_90") == 0) return 0;
    return 6;
}
int nvrtcGetProgramLogSize(void*, size_t* bytes) { *bytes = 1; return 0; }
int nvrtcGetProgramLog(void*, char* log) { *log = 0; return 0; }
int nvrtcGetCUBINSize(void* program, size_t* bytes) { *bytes = text(program).size() + 1; return 0; }
int nvrtcGetCUBIN(void* program, char* to) {
    std::memcpy(to, text(program).c_str(), text(program).size() + 1);
    return 0;
}

// What a test asks.
int stand_in_handles() { return programs; }
}
