#include "isa.h"

#include <atomic>
#include <stdexcept>

namespace octavo {

namespace {

// The compiler's run-time library reads cpuid, and xgetbv for what the operating system saves.
Isa best_isa() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return Isa::portable;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")))
        return Isa::avx2;
    return __builtin_cpu_supports("avx512vnni") ? Isa::avx512_vnni : Isa::avx512;
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
