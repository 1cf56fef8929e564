#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <stdexcept>

namespace octavo {

namespace {

#if defined(__x86_64__)
// Bit 5 of eax in leaf 7.1: not every compiler that knows the instructions knows how to ask for them.
bool has_avx512_bf16() {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1u << 5);
}
#endif

// The compiler's run-time library reads cpuid, and xgetbv for what the operating system saves.
Isa best_isa() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return Isa::portable;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")))
        return Isa::avx2;
    if (!__builtin_cpu_supports("avx512vnni")) return Isa::avx512;
    return has_avx512_bf16() ? Isa::avx512_bf16 : Isa::avx512_vnni;
#else
    return Isa::portable;
#endif
}

std::atomic<Isa> active{best_isa()};

}  // namespace

const char* isa_name(Isa isa) {
    switch (isa) {
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            return "avx512";
        case Isa::avx512_vnni:
            return "avx512_vnni";
        case Isa::avx512_bf16:
            return "avx512_bf16";
        default:
            return "portable";
    }
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (int isa = 0; isa <= static_cast<int>(best_isa()); ++isa) names.push_back(isa_name(static_cast<Isa>(isa)));
    return names;
}

Isa active_isa() { return active.load(std::memory_order_relaxed); }

void set_active_isa(const std::string& name) {
    std::string known;
    for (int isa = 0; isa <= static_cast<int>(best_isa()); ++isa) {
        if (name == isa_name(static_cast<Isa>(isa))) {
            active.store(static_cast<Isa>(isa), std::memory_order_relaxed);
            return;
        }
        known += std::string(isa ? ", " : "") + isa_name(static_cast<Isa>(isa));
    }
    throw std::invalid_argument("this processor has no " + name + "; it has: " + known);
}

}  // namespace octavo
