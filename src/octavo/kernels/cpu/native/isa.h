// The instruction sets that kernels are compiled for, and which one runs.
#pragma once

#include <string>
#include <vector>

namespace octavo {

// Each includes all before it.
enum class Isa : int { portable, avx2, avx512, avx512_vnni, avx512_bf16 };

// What multiplies tiles (tiles.h) beside an instruction set for vectors: nothing, AMX, or a model of AMX in plain C++.
enum class Tiles : int { none, amx, modelled };

// The names of the sets that this build has code for and this processor runs, the best one last.
std::vector<std::string> available_isas();

// Sets that are models of others, for tests where the processor lacks those: they run, but slowly.
std::vector<std::string> modelled_isas();

// The set in use: at first the best available one, or OCTAVO_CPU_ISA's. With tiles, it has a set for vectors as well.
std::string active_isa_name();
Isa active_isa();
Tiles active_tiles();

// Choose another set. Throws std::invalid_argument for one that is unknown or not available here.
void set_active_isa(const std::string& name);

}  // namespace octavo
