// Tensors cross from Python as addresses.
#pragma once

#include <cstdint>

namespace octavo {

template <typename T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

}  // namespace octavo
