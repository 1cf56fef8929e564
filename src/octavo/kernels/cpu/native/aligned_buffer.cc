#include "aligned_buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace octavo {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kCacheLine = 64;

std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

// Fresh pages: the threads that fill them make them, and they are zero without being written.
void* map_huge_pages(std::size_t num_bytes) {
    const std::size_t reserved = num_bytes + kHugePage;
    void* begin = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) throw std::bad_alloc();
    char* data = static_cast<char*>(begin);
    const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(begin), kHugePage) -
                               reinterpret_cast<std::uintptr_t>(begin);
    if (before > 0) munmap(data, before);
    munmap(data + before + num_bytes, kHugePage - before);
#if defined(MADV_HUGEPAGE)
    // Weights are streamed: without huge pages the translation of addresses becomes part of the cost. Only advice: a
    // kernel that has them switched off goes on with small pages.
    madvise(data + before, num_bytes, MADV_HUGEPAGE);
#endif
    return data + before;
}

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t num_bytes) : size_(num_bytes) {
    if (num_bytes == 0) return;
    if (num_bytes >= kHugePage) {
        data_ = map_huge_pages(round_up(num_bytes, kHugePage));
    } else {
        data_ = std::aligned_alloc(kCacheLine, round_up(num_bytes, kCacheLine));
        if (data_ == nullptr) throw std::bad_alloc();
        std::memset(data_, 0, num_bytes);
    }
}

AlignedBuffer::~AlignedBuffer() {
    if (size_ >= kHugePage)
        munmap(data_, round_up(size_, kHugePage));
    else
        std::free(data_);
}

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
