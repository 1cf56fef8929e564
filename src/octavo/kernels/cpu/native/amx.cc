#include "amx.h"

#if defined(OCTAVO_HAS_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace octavo {

#if defined(OCTAVO_HAS_AMX)

namespace {

// Numbers of the parts of a processor's state, in XCR0 and for Linux.
constexpr int kTileConfiguration = 17, kTileData = 18;

// Leaf 7: AMX-BF16, AMX-TILE and AMX-INT8.
bool processor_has_tiles() {
    constexpr unsigned kWanted = 1u << 22 | 1u << 24 | 1u << 25;
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & kWanted) == kWanted;
}

bool system_saves_tiles() {
    constexpr uint32_t kWanted = 1u << kTileConfiguration | 1u << kTileData;
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & kWanted) == kWanted;
}

// Linux gives it to the whole process, its threads and forks to come included; a program started by exec asks anew.
// See Documentation/arch/x86/xstate.rst of the kernel.
bool process_gets_permission() {
    constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM; older headers lack it
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool may_use_amx() {
    static const bool granted = processor_has_tiles() && system_saves_tiles() && process_gets_permission();
    return granted;
}

#else

bool may_use_amx() { return false; }

#endif

}  // namespace octavo
