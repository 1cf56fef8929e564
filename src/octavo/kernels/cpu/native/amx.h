// Whether tiles of AMX may be used: the processor, the operating system and this process each have a say.
#pragma once

namespace octavo {

// Asks the system for the permission that a process needs, the first time. Without a permission, instructions on tiles
// end the process. Call only on a processor with AVX-512. False where the compiler has no AMX.
bool may_use_amx();

}  // namespace octavo
