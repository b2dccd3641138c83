#include "pack.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "round.h"
#include "simd.h"

namespace himakernels {
namespace {

inline void store4(float* p, Vec4 v) { std::memcpy(p, &v, sizeof v); }

// Lines are neighbours in memory: a row of k is read once, contiguously, for all panels.
template <class T>
void pack_rows(const T* data, int64_t k_stride, int64_t count, int64_t depth, int64_t width, int64_t panel_stride,
               float* out) {
  for (int64_t k = 0; k < depth; ++k) {
    const T* row = data + k * k_stride;
    float* to = out + k * width;
    for (int64_t begin = 0; begin < count; begin += width, to += panel_stride) {
      const int64_t n = std::min(width, count - begin);
      int64_t i = 0;
      for (; i + 4 <= n; i += 4) store4(to + i, load_vec<Vec4>(row + begin + i));
      for (; i < n; ++i) to[i] = to_float(row[begin + i]);
      for (; i < width; ++i) to[i] = 0;
    }
  }
}

// Lines are contiguous in k: one panel, by 4 x 4 squares of four lines at a time (more would outrun the prefetchers).
template <class T>
void pack_lines(const T* data, int64_t line_stride, int64_t count, int64_t depth, int64_t width, float* out) {
  if (count < width) std::fill(out, out + depth * width, 0.0f);
  const int64_t squares = depth / 4 * 4;
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const T* line = data + i * line_stride;
    for (int64_t k = 0; k < squares; k += 4) {
      // The next four lines: a block of K is too short for the hardware to see the stream coming.
      for (int64_t l = 4; l < 8; ++l) __builtin_prefetch(line + l * line_stride + k);
      const Vec4 r0 = load_vec<Vec4>(line + k), r1 = load_vec<Vec4>(line + line_stride + k),
                 r2 = load_vec<Vec4>(line + 2 * line_stride + k), r3 = load_vec<Vec4>(line + 3 * line_stride + k);
      const Vec4 lo01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), hi01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
      const Vec4 lo23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), hi23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
      store4(out + k * width + i, __builtin_shufflevector(lo01, lo23, 0, 1, 4, 5));
      store4(out + (k + 1) * width + i, __builtin_shufflevector(lo01, lo23, 2, 3, 6, 7));
      store4(out + (k + 2) * width + i, __builtin_shufflevector(hi01, hi23, 0, 1, 4, 5));
      store4(out + (k + 3) * width + i, __builtin_shufflevector(hi01, hi23, 2, 3, 6, 7));
    }
    for (int64_t k = squares; k < depth; ++k)
      for (int64_t l = 0; l < 4; ++l) out[k * width + i + l] = to_float(line[l * line_stride + k]);
  }
  for (; i < count; ++i)
    for (int64_t k = 0; k < depth; ++k) out[k * width + i] = to_float(data[i * line_stride + k]);
}

template <class T>
void pack_strided(const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width,
                  float* out) {
  if (count < width) std::fill(out, out + depth * width, 0.0f);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t k = 0; k < depth; ++k) out[k * width + i] = to_float(data[i * line_stride + k * k_stride]);
}

// One line over k as bf16, wherever it lies.
template <class T>
void bf16_line(const T* line, int64_t k_stride, int64_t depth, BFloat16* to) {
  for (int64_t k = 0; k < depth; ++k) store(to + k, to_float(line[k * k_stride]));
}
template <>
void bf16_line(const float* line, int64_t k_stride, int64_t depth, BFloat16* to) {
  if (k_stride == 1) return round_row(line, to, depth);
  for (int64_t k = 0; k < depth; ++k) store(to + k, line[k * k_stride]);
}

// Pairs along k of one panel: two neighbours of a line are one word, so packing is a transposition of words.
template <class T>
void pack_pair_lines(const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width,
                     float* out) {
  const int64_t words = (depth + 1) / 2;
  if (std::is_same<T, BFloat16>::value && k_stride == 1 && line_stride % 2 == 0 && depth % 2 == 0 &&
      reinterpret_cast<uintptr_t>(data) % alignof(float) == 0)
    return pack_lines(reinterpret_cast<const float*>(data), line_stride / 2, count, words, width, out);
  std::vector<BFloat16> lines(static_cast<size_t>(count * words * 2));
  for (int64_t i = 0; i < count; ++i) bf16_line(data + i * line_stride, k_stride, depth, lines.data() + i * words * 2);
  pack_lines(reinterpret_cast<const float*>(lines.data()), words, count, words, width, out);
}

inline const float* pairable(const float* row, int64_t, std::vector<BFloat16>&) { return row; }
inline const BFloat16* pairable(const BFloat16* row, int64_t, std::vector<BFloat16>&) { return row; }
inline const BFloat16* pairable(const Float16* row, int64_t count, std::vector<BFloat16>& memory) {
  memory.resize(static_cast<size_t>(count));
  bf16_line(row, 1, count, memory.data());
  return memory.data();
}

// Pairs of rows of k whose lines are neighbours in memory, for all panels.
template <class T>
void pack_pair_rows(const T* data, int64_t k_stride, int64_t count, int64_t depth, int64_t width, int64_t panel_stride,
                    float* out) {
  std::vector<uint32_t> words(static_cast<size_t>((count + width - 1) / width * width));
  std::vector<BFloat16> first, second;
  for (int64_t k = 0; k < depth; k += 2, out += width) {
    const T* row = data + k * k_stride;
    const auto* a = pairable(row, count, first);
    pair_rows(a, k + 1 < depth ? pairable(row + k_stride, count, second) : nullptr, words.data(), count);
    const uint32_t* from = words.data();
    for (float* to = out; from < words.data() + words.size(); from += width, to += panel_stride)
      std::memcpy(to, from, static_cast<size_t>(width) * sizeof *to);
  }
}

template <class T>
void pack_as(const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width,
             bool pairs, int64_t panel_stride, float* out) {
  if (line_stride == 1) {
    if (pairs) return pack_pair_rows(data, k_stride, count, depth, width, panel_stride, out);
    return pack_rows(data, k_stride, count, depth, width, panel_stride, out);
  }
  for (int64_t begin = 0; begin < count; begin += width, out += panel_stride) {
    const T* panel = data + begin * line_stride;
    const int64_t n = std::min(width, count - begin);
    if (pairs) {
      pack_pair_lines(panel, line_stride, k_stride, n, depth, width, out);
    } else if (k_stride == 1) {
      pack_lines(panel, line_stride, n, depth, width, out);
    } else {
      pack_strided(panel, line_stride, k_stride, n, depth, width, out);
    }
  }
}

}  // namespace

void pack(const Lines& lines, int64_t first, int64_t count, int64_t k0, int64_t depth, int64_t width, bool pairs,
          int64_t panel_stride, float* out) {
  const int64_t l = lines.line_stride, k = lines.k_stride, at = first * l + k0 * k;
  switch (lines.dtype) {
    case DType::kFloat32:
      return pack_as(static_cast<const float*>(lines.data) + at, l, k, count, depth, width, pairs, panel_stride, out);
    case DType::kBFloat16:
      return pack_as(static_cast<const BFloat16*>(lines.data) + at, l, k, count, depth, width, pairs, panel_stride,
                     out);
    case DType::kFloat16:
      return pack_as(static_cast<const Float16*>(lines.data) + at, l, k, count, depth, width, pairs, panel_stride, out);
  }
}

}  // namespace himakernels
