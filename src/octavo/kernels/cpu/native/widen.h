// Single 2-byte numbers to fp32, for code that is not compiled per instruction set.
#pragma once

#include <cstdint>
#include <cstring>

namespace octavo {

inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float widen_bf16(uint16_t value) { return float_of_bits(static_cast<uint32_t>(value) << 16); }

// The bits of exponent and fraction land where fp32 has them; multiplying by 2^112 corrects the exponent's bias.
inline float widen_f16(uint16_t value) {
    const uint32_t sign = static_cast<uint32_t>(value & 0x8000) << 16, magnitude = value & 0x7fff;
    if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | magnitude << 13);
    const float scaled = float_of_bits(magnitude << 13) * 0x1p112f;
    return sign ? -scaled : scaled;
}

}  // namespace octavo
