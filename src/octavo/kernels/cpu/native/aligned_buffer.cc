#include "aligned_buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace octavo {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kRegionBytes = 16 * kHugePage;
// Buffers of this size share a region: less is no stream, and more fills pages of its own.
constexpr std::size_t kLeastSharedBytes = std::size_t{64} << 10;
constexpr std::size_t kMostSharedBytes = kRegionBytes / 4;

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

// What is left of memory that was lent.
struct LentPages {
    std::mutex mutex;
    char* next = nullptr;
    char* end = nullptr;

    void* take(std::size_t num_bytes) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (static_cast<std::size_t>(end - next) < num_bytes) return nullptr;
        return std::exchange(next, next + num_bytes);
    }

    void replace(void* begin, std::size_t num_bytes) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (next < end) munmap(next, end - next);
        next = static_cast<char*>(begin);
        end = next + num_bytes;
    }
};

LentPages lent_pages;

std::shared_ptr<void> map(std::size_t num_bytes) {
    const std::size_t size = round_up(num_bytes, kHugePage);
    void* lent = lent_pages.take(size);
    return {lent != nullptr ? lent : map_huge_pages(size), [size](void* data) { munmap(data, size); }};
}

// A part of a region that buffers fill one after the other. It is given back when the last of them is gone.
std::shared_ptr<void> share_huge_pages(std::size_t num_bytes) {
    static std::mutex mutex;
    static std::weak_ptr<void> last_region;
    static std::size_t used;
    const std::lock_guard<std::mutex> lock(mutex);
    std::shared_ptr<void> region = last_region.lock();
    if (region == nullptr || kRegionBytes - used < num_bytes) {
        last_region = region = map(kRegionBytes);
        used = 0;
    }
    char* data = static_cast<char*>(region.get()) + used;
    used += round_up(num_bytes, kCacheLine);
    return {std::move(region), data};
}

std::shared_ptr<void> allocate_small(std::size_t num_bytes) {
    void* data = std::aligned_alloc(kCacheLine, round_up(num_bytes, kCacheLine));
    if (data == nullptr) throw std::bad_alloc();
    std::memset(data, 0, num_bytes);
    return {data, std::free};
}

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t num_bytes) : size_(num_bytes) {
    if (num_bytes == 0) return;
    owner_ = num_bytes < kLeastSharedBytes  ? allocate_small(num_bytes)
             : num_bytes < kMostSharedBytes ? share_huge_pages(num_bytes)
                                            : map(num_bytes);
    data_ = owner_.get();
}

void lend_pages(void* begin, std::size_t num_bytes) { lent_pages.replace(begin, num_bytes); }

void drop_lent_pages() { lent_pages.replace(nullptr, 0); }

void* scratch(std::size_t num_bytes) {
    static thread_local AlignedBuffer buffer;
    if (buffer.size() < num_bytes) {
        buffer = AlignedBuffer();
        buffer = AlignedBuffer(round_up(num_bytes + num_bytes / 4, kCacheLine));
    }
    return buffer.data();
}

}  // namespace octavo
