// tiles.h on any processor, for tests: what LDTILECFG, TILEZERO, TILELOADD, TILESTORED, TDPBSUD and TDPBF16PS do in the
// pseudo-code of Intel's Software Developer's Manual, volume 2. Where they would raise an exception, the process ends.
#pragma once

#include <cstring>

namespace octavo::OCTAVO_ISA {

class TileRegisters {
  public:
    explicit TileRegisters(const TileShapes& shapes) {
        require(shapes.palette == 1 && shapes.first_row == 0);
        for (const uint8_t byte : shapes.reserved) require(byte == 0);
        for (int tile = 0; tile < 16; ++tile) {
            const int rows = shapes.rows[tile], row_bytes = shapes.row_bytes[tile];
            require(rows <= kTileRows && row_bytes <= kTileBytes && (rows == 0) == (row_bytes == 0));
            require(tile < kNumTiles || rows == 0);
            if (tile < kNumTiles) tiles_[tile] = {rows, row_bytes, {}};
        }
    }
    TileRegisters(const TileRegisters&) = delete;
    TileRegisters& operator=(const TileRegisters&) = delete;

    template <int kTile>
    void zero() {
        Tile& tile = used<kTile>();
        std::memset(tile.bytes, 0, sizeof tile.bytes);
    }

    template <int kTile>
    void load(const void* p, int64_t stride) {
        Tile& tile = used<kTile>();
        zero<kTile>();
        for (int row = 0; row < tile.rows; ++row)
            std::memcpy(tile.bytes[row], static_cast<const char*>(p) + row * stride, tile.row_bytes);
    }

    template <int kTile>
    void store(void* p, int64_t stride) {
        const Tile& tile = used<kTile>();
        for (int row = 0; row < tile.rows; ++row)
            std::memcpy(static_cast<char*>(p) + row * stride, tile.bytes[row], tile.row_bytes);
    }

    template <int kSums, int kA, int kB>
    void multiply_int8() {
        check_product<kSums, kA, kB>();
        const Tile &a = tiles_[kA], &b = tiles_[kB];
        for (int m = 0; m < a.rows; ++m) {
            uint32_t sums[kLanes];  // they wrap around
            std::memcpy(sums, tiles_[kSums].bytes[m], sizeof sums);
            for (int k = 0; k < b.rows; ++k)
                for (int n = 0; n < b.row_bytes / 4; ++n)
                    for (int i = 0; i < 4; ++i)
                        sums[n] += static_cast<int8_t>(a.bytes[m][4 * k + i]) * int32_t{b.bytes[k][4 * n + i]};
            std::memcpy(tiles_[kSums].bytes[m], sums, sizeof sums);
        }
    }

    template <int kSums, int kA, int kB>
    void multiply_bf16() {
        check_product<kSums, kA, kB>();
        const Tile &a = tiles_[kA], &b = tiles_[kB];
        for (int m = 0; m < a.rows; ++m) {
            float even[kLanes] = {}, odd[kLanes] = {}, sums[kLanes];
            for (int k = 0; k < b.rows; ++k) {
                for (int n = 0; n < b.row_bytes / 4; ++n) {
                    even[n] = fma_without_subnormals(bf16_at(a.bytes[m] + 4 * k), bf16_at(b.bytes[k] + 4 * n), even[n]);
                    odd[n] = fma_without_subnormals(bf16_at(a.bytes[m] + 4 * k + 2), bf16_at(b.bytes[k] + 4 * n + 2),
                                                    odd[n]);
                }
            }
            std::memcpy(sums, tiles_[kSums].bytes[m], sizeof sums);
            for (int n = 0; n < b.row_bytes / 4; ++n)
                sums[n] = without_subnormal(without_subnormal(sums[n]) + without_subnormal(even[n] + odd[n]));
            std::memcpy(tiles_[kSums].bytes[m], sums, sizeof sums);
        }
    }

  private:
    static constexpr int kLanes = kTileBytes / 4;

    struct Tile {
        int rows, row_bytes;
        alignas(64) uint8_t bytes[kTileRows][kTileBytes];
    };

    static void require(bool holds) {
        if (!holds) __builtin_trap();
    }

    template <int kTile>
    Tile& used() {
        static_assert(0 <= kTile && kTile < kNumTiles);
        require(tiles_[kTile].rows > 0 && tiles_[kTile].row_bytes % 4 == 0);
        return tiles_[kTile];
    }

    template <int kSums, int kA, int kB>
    void check_product() {
        static_assert(kSums != kA && kSums != kB && kA != kB);
        const Tile &sums = used<kSums>(), &a = used<kA>(), &b = used<kB>();
        require(sums.rows == a.rows && sums.row_bytes == b.row_bytes && a.row_bytes / 4 == b.rows);
    }

    static float bf16_at(const uint8_t* p) {
        const uint32_t bits = uint32_t{p[0]} << 16 | uint32_t{p[1]} << 24;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    static float without_subnormal(float value) {
        constexpr float kLeastNormal = 1.17549435e-38f;
        return __builtin_fabsf(value) < kLeastNormal ? __builtin_copysignf(0.0f, value) : value;
    }

    static float fma_without_subnormals(float a, float b, float sum) {
        return without_subnormal(__builtin_fmaf(without_subnormal(a), without_subnormal(b), sum));
    }

    Tile tiles_[kNumTiles];
};

}  // namespace octavo::OCTAVO_ISA
