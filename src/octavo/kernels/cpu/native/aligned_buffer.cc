#include "aligned_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

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

// Memory that was lent: buffers fill it one after the other, without gaps. It goes back when the last of them is gone.
class LentPages {
  public:
    std::shared_ptr<void> take(std::size_t num_bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (area_ == nullptr || static_cast<std::size_t>(area_->end - next_) < num_bytes) return nullptr;
        char* data = next_;
        next_ = std::min(next_ + round_up(num_bytes, kCacheLine), area_->end);
        return {area_, data};
    }

    void replace(char* begin, std::size_t num_bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (area_ != nullptr) area_->cut(next_);
        area_ = num_bytes > 0 ? std::make_shared<Area>(begin, begin + num_bytes) : nullptr;
        next_ = begin;
    }

  private:
    struct Area {
        char *begin, *end;

        Area(char* begin, char* end) : begin(begin), end(end) {}
        ~Area() { cut(begin); }
        Area(const Area&) = delete;
        Area& operator=(const Area&) = delete;

        // Give back the whole pages from here on.
        void cut(char* here) {
            char* rest = begin + round_up(static_cast<std::size_t>(here - begin), kHugePage);
            if (rest < end) munmap(rest, end - rest);
            end = std::min(rest, end);
        }
    };

    std::mutex mutex_;
    std::shared_ptr<Area> area_;
    char* next_ = nullptr;
};

LentPages lent_pages;

std::shared_ptr<void> map(std::size_t num_bytes) {
    const std::size_t size = round_up(num_bytes, kHugePage);
    return {map_huge_pages(size), [size](void* data) { munmap(data, size); }};
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
    if (num_bytes < kLeastSharedBytes)
        owner_ = allocate_small(num_bytes);
    else if ((owner_ = lent_pages.take(num_bytes)) == nullptr)
        owner_ = num_bytes < kMostSharedBytes ? share_huge_pages(num_bytes) : map(num_bytes);
    data_ = owner_.get();
}

void lend_pages(void* begin, std::size_t num_bytes) { lent_pages.replace(static_cast<char*>(begin), num_bytes); }

void drop_lent_pages() { lent_pages.replace(nullptr, 0); }

// On pages of its own where it is large: what has grown too small goes back to the system.
void* scratch(std::size_t num_bytes) {
    static thread_local std::shared_ptr<void> memory;
    static thread_local std::size_t size = 0;
    if (size < num_bytes) {
        memory.reset();
        size = 0;
        const std::size_t new_size = num_bytes + num_bytes / 4;
        memory = new_size < kLeastSharedBytes ? allocate_small(new_size) : map(new_size);
        size = new_size;
    }
    return memory.get();
}

}  // namespace octavo
