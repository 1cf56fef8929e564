#include "aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace octavo {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kCacheLine = 64;

std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t num_bytes) : size_(num_bytes) {
    if (num_bytes == 0) return;
    const std::size_t alignment = num_bytes >= kHugePage ? kHugePage : kCacheLine;
    const std::size_t reserved = round_up(num_bytes, alignment);
    data_ = std::aligned_alloc(alignment, reserved);
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    // Weights are streamed: without huge pages the translation of addresses becomes part of the cost. Only advice: a
    // kernel that has them switched off goes on with small pages.
    if (alignment == kHugePage) madvise(data_, reserved, MADV_HUGEPAGE);
#endif
    std::memset(data_, 0, num_bytes);
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

void* scratch(std::size_t num_bytes) {
    static thread_local AlignedBuffer buffer;
    if (buffer.size() < num_bytes) {
        buffer = AlignedBuffer();
        buffer = AlignedBuffer(round_up(num_bytes + num_bytes / 4, kCacheLine));
    }
    return buffer.data();
}

}  // namespace octavo
