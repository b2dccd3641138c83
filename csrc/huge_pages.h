// Large buffers on large pages: a page fault for every 4 KiB of logits and dweight costs a tenth of the whole loss.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace himakernels {

// A hint for memory that has not been written yet; the kernel may decline.
inline void prefer_huge_pages(uintptr_t address, size_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kPage = uintptr_t{1} << 21;
  if (bytes > UINTPTR_MAX - kPage || address > UINTPTR_MAX - kPage - bytes) return;  // no memory lies there
  const uintptr_t begin = (address + kPage - 1) / kPage * kPage, end = (address + bytes) / kPage * kPage;
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)address, (void)bytes;
#endif
}

}  // namespace himakernels
