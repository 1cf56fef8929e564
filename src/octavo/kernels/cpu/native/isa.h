// The instruction sets that kernels are compiled for, and which one runs.
#pragma once

#include <string>
#include <vector>

namespace octavo {

// Each includes all before it.
enum class Isa : int { portable, avx2, avx512, avx512_vnni, avx512_bf16 };

const char* isa_name(Isa isa);

// The names of the sets that this build has code for and this processor runs, the best one last.
std::vector<std::string> available_isas();

// The set in use: at first the best available one, or OCTAVO_CPU_ISA's.
Isa active_isa();

// Choose another set. Throws std::invalid_argument for one that is unknown or not available here.
void set_active_isa(const std::string& name);

}  // namespace octavo
