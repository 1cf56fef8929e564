// Memory for packed weights and scratch space: aligned to cache lines, in huge pages where it is large. The weights of a
// small layer share them with others: on small pages they would be read a fifth slower.
#pragma once

#include <cstddef>
#include <memory>

namespace octavo {

class AlignedBuffer {
  public:
    AlignedBuffer() = default;
    // Throws std::bad_alloc. The memory is zero.
    explicit AlignedBuffer(std::size_t num_bytes);
    AlignedBuffer(AlignedBuffer&& other) noexcept = default;
    AlignedBuffer& operator=(AlignedBuffer&& other) noexcept = default;

    void* data() const { return data_; }
    std::size_t size() const { return size_; }

  private:
    std::shared_ptr<void> owner_;
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

// Let buffers on huge pages take this memory, from its start, before they ask the system for more: it is zero, mapped alone,
// begins with a huge page and has whole ones. drop_lent_pages gives what none has taken back to the system; the rest follows
// when all buffers in it are gone. Memory that was lent before is dropped.
void lend_pages(void* begin, std::size_t num_bytes);
void drop_lent_pages();

// Scratch space of the calling thread for one call of a kernel: at least `num_bytes`, uninitialised, valid until the
// thread asks again. A kernel that needs several areas asks once for all.
void* scratch(std::size_t num_bytes);

}  // namespace octavo
