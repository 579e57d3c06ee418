// A stand-in for NVML: one GPU, whose counter of energy grows with every question. Declarations after NVIDIA's documentation
// of NVML, version 12.8.
#include <cstring>

namespace {

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6 };

int starts = 0;
bool is_cut = false;
unsigned long long millijoules = 5000;

bool is_good(void* device) { return starts > 0 && device == &starts; }

} // namespace

extern "C" {

int nvmlInit_v2() { starts++; return SUCCESS; }
int nvmlShutdown() { starts--; return SUCCESS; }
int nvmlSystemGetDriverVersion(char* version, unsigned room) {
    if (starts == 0 || room < 11) return UNINITIALIZED;
    std::strcpy(version, "570.124.06");
    return SUCCESS;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** device) {
    *device = &starts;
    return starts > 0 && std::strcmp(bus, "0000:17:00.0") == 0 ? SUCCESS : NOT_FOUND;
}
int nvmlDeviceGetMigMode(void* device, unsigned* now, unsigned* pending) {
    *now = *pending = is_cut;
    return is_good(device) ? SUCCESS : INVALID_ARGUMENT;
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* used) {
    *used = millijoules += 1500;
    return is_good(device) ? SUCCESS : INVALID_ARGUMENT;
}
// Of the multiprocessors (1) and the memory (2).
int nvmlDeviceGetClockInfo(void* device, int which, unsigned* megahertz) {
    *megahertz = which == 1 ? 1755 : 2619;
    return is_good(device) ? SUCCESS : INVALID_ARGUMENT;
}
int nvmlDeviceGetMaxClockInfo(void* device, int which, unsigned* megahertz) {
    *megahertz = which == 1 ? 1980 : 2619;
    return is_good(device) ? SUCCESS : INVALID_ARGUMENT;
}

// What a test asks.
int stand_in_handles() { return starts; }
void stand_in_cut(bool cut) { is_cut = cut; }
}
