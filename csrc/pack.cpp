#include "pack.h"

#include <algorithm>
#include <cstring>

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

inline uint32_t bf16_bits(BFloat16 x) { return x.bits; }
inline uint32_t bf16_bits(float x) {
  BFloat16 half;
  store(&half, x);
  return half.bits;
}
inline uint32_t bf16_bits(Float16 x) { return bf16_bits(to_float(x)); }

template <class T>
void pack_pairs(const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width,
                float* out) {
  const auto word = [&](int64_t i, int64_t k) {
    const T* at = data + i * line_stride + k * k_stride;
    return from_bits(bf16_bits(at[0]) | (k + 1 < depth ? bf16_bits(at[k_stride]) << 16 : 0));
  };
  if (count < width) std::fill(out, out + (depth + 1) / 2 * width, 0.0f);
  constexpr int64_t kStrip = 32;  // short strips: reads along k and writes along lines stay in the first-level cache
  for (int64_t k0 = 0; k0 < depth; k0 += kStrip)
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = k0; k < std::min(depth, k0 + kStrip); k += 2) out[k / 2 * width + i] = word(i, k);
}

template <class T>
void pack_as(const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width,
             bool pairs, int64_t panel_stride, float* out) {
  if (!pairs && line_stride == 1) return pack_rows(data, k_stride, count, depth, width, panel_stride, out);
  for (int64_t begin = 0; begin < count; begin += width, out += panel_stride) {
    const T* panel = data + begin * line_stride;
    const int64_t n = std::min(width, count - begin);
    if (pairs) {
      pack_pairs(panel, line_stride, k_stride, n, depth, width, out);
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
