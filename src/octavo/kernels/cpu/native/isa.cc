#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <stdexcept>

#include "amx.h"

namespace octavo {

namespace {

struct InstructionSet {
    Isa isa;
    Tiles tiles;
};

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

std::vector<InstructionSet> available_sets() {
    std::vector<InstructionSet> sets;
    for (int isa = 0; isa <= static_cast<int>(best_isa()); ++isa) sets.push_back({static_cast<Isa>(isa), Tiles::none});
    if (best_isa() == Isa::avx512_bf16 && may_use_amx()) sets.push_back({Isa::avx512_bf16, Tiles::amx});
    return sets;
}

std::vector<InstructionSet> modelled_sets() {
    if (best_isa() < Isa::avx512) return {};
    return {{best_isa(), Tiles::modelled}};
}

const char* name_of(InstructionSet set) {
    if (set.tiles == Tiles::amx) return "amx";
    if (set.tiles == Tiles::modelled) return "amx_modelled";
    switch (set.isa) {
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

std::vector<std::string> names_of(const std::vector<InstructionSet>& sets) {
    std::vector<std::string> names;
    for (const InstructionSet set : sets) names.push_back(name_of(set));
    return names;
}

std::atomic<InstructionSet> active{available_sets().back()};

}  // namespace

std::vector<std::string> available_isas() { return names_of(available_sets()); }

std::vector<std::string> modelled_isas() { return names_of(modelled_sets()); }

std::string active_isa_name() { return name_of(active.load(std::memory_order_relaxed)); }

Isa active_isa() { return active.load(std::memory_order_relaxed).isa; }

Tiles active_tiles() { return active.load(std::memory_order_relaxed).tiles; }

void set_active_isa(const std::string& name) {
    for (const auto& sets : {available_sets(), modelled_sets()})
        for (const InstructionSet set : sets)
            if (name == name_of(set)) return active.store(set, std::memory_order_relaxed);
    std::string known;
    for (const std::string& one : available_isas()) known += (known.empty() ? "" : ", ") + one;
    throw std::invalid_argument("this processor has no " + name + "; it has: " + known);
}

}  // namespace octavo
