#include "pack_blocks.h"

#include <algorithm>
#include <stdexcept>

#include "simd.h"

#if defined(__x86_64__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace himakernels {

#if defined(__x86_64__)
namespace {

#define HIMA_BLOCKS __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"), always_inline)) inline

// The first `count` elements at p as bf16, zeros behind.
HIMA_BLOCKS __m512i load32(const BFloat16* p, int64_t count) {
  return _mm512_maskz_loadu_epi16(count >= 32 ? ~0u : (1u << count) - 1, p);
}
HIMA_BLOCKS __m256i load16(const BFloat16* p, int64_t count) {
  return _mm256_maskz_loadu_epi16(count >= 16 ? 0xffff : (1u << count) - 1, p);
}
HIMA_BLOCKS __m256i load16(const float* p, int64_t count) {
  return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(count >= 16 ? 0xffff : (1u << count) - 1, p));
}
HIMA_BLOCKS __m256i load16(const Float16* p, int64_t count) {
  const __m256i half = _mm256_maskz_loadu_epi16(count >= 16 ? 0xffff : (1u << count) - 1, p);
  return (__m256i)_mm512_cvtneps_pbh(_mm512_cvtph_ps(half));
}
template <class T>
HIMA_BLOCKS __m512i load32(const T* p, int64_t count) {
  const __m256i low = load16(p, std::min<int64_t>(count, 16));
  const __m256i high = count > 16 ? load16(p + 16, count - 16) : _mm256_setzero_si256();
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// 16 lines, each contiguous in k: row i of the block holds the words of line i.
template <class T>
struct LineRows {
  const T* data;
  int64_t line_stride;
  HIMA_BLOCKS __m512i row(int i, int64_t lines, int64_t depth) const {
    return i < lines ? load32(data + i * line_stride, depth) : _mm512_setzero_si512();
  }
};

// Lines that are neighbours in memory: row i of the block holds word i of 16 lines.
template <class T>
struct WordRows {
  const T* data;
  int64_t k_stride;
  HIMA_BLOCKS __m512i row(int i, int64_t lines, int64_t depth) const {
    if (2 * i >= depth) return _mm512_setzero_si512();
    const T* at = data + 2 * i * k_stride;
    const __m512i low = _mm512_cvtepu16_epi32(load16(at, lines));
    if (2 * i + 1 >= depth) return low;
    const __m512i high = _mm512_cvtepu16_epi32(load16(at + k_stride, lines));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
};

// Neither: element by element.
template <class T>
struct ScatteredRows {
  const T* data;
  int64_t line_stride, k_stride;
  HIMA_BLOCKS __m512i row(int i, int64_t lines, int64_t depth) const {
    alignas(64) BFloat16 line[32] = {};
    if (i < lines)
      for (int64_t k = 0; k < std::min<int64_t>(depth, 32); ++k)
        store(line + k, to_float(data[i * line_stride + k * k_stride]));
    return _mm512_load_si512(line);
  }
};

HIMA_BLOCKS void transpose(__m512i r[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// One block of 16 lines and 32 k to rows of 16 words, `stride` words apart.
template <class Rows>
HIMA_BLOCKS void move_block(const Rows& from, int64_t lines, int64_t depth, bool turn, float* out, int64_t stride) {
  __m512i r[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = from.row(i, lines, depth);
  if (turn) transpose(r);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_store_si512(out + i * stride, r[i]);
}

template <class T>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))) void pack_as(
    const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width, bool by_line,
    int64_t panel_stride, float* out) {
  const int64_t blocks = (count + width - 1) / width * width / 16, per_panel = width / 16;
  const int64_t stride = by_line ? 16 : width;
  const auto place = [&](int64_t block, int64_t k) {
    float* panel = out + block / per_panel * panel_stride + k / 2 * width;
    return panel + block % per_panel * 16 * (by_line ? 16 : 1);
  };
  if (line_stride == 1) {  // along the rows of k, which may lie far apart
    for (int64_t k = 0; k < depth; k += kBlockDepth)
      for (int64_t b = 0; b < blocks; ++b)
        move_block(WordRows<T>{data + k * k_stride + b * 16, k_stride}, std::clamp<int64_t>(count - b * 16, 0, 16),
                   depth - k, by_line, place(b, k), stride);
    return;
  }
  for (int64_t b = 0; b < blocks; ++b) {
    const T* lines = data + b * 16 * line_stride;
    const int64_t here = std::clamp<int64_t>(count - b * 16, 0, 16);
    for (int64_t k = 0; k < depth; k += kBlockDepth) {
      if (k_stride == 1) {
        move_block(LineRows<T>{lines + k, line_stride}, here, depth - k, !by_line, place(b, k), stride);
      } else {
        move_block(ScatteredRows<T>{lines + k * k_stride, line_stride, k_stride}, here, depth - k, !by_line,
                   place(b, k), stride);
      }
    }
  }
}

}  // namespace

void pack_blocks(const Lines& lines, int64_t first, int64_t count, int64_t k0, int64_t depth, int64_t width,
                 bool by_line, int64_t panel_stride, float* out) {
  const int64_t l = lines.line_stride, k = lines.k_stride, at = first * l + k0 * k;
  const auto run = [&](auto* data) { pack_as(data + at, l, k, count, depth, width, by_line, panel_stride, out); };
  switch (lines.dtype) {
    case DType::kFloat32:
      return run(static_cast<const float*>(lines.data));
    case DType::kBFloat16:
      return run(static_cast<const BFloat16*>(lines.data));
    case DType::kFloat16:
      return run(static_cast<const Float16*>(lines.data));
  }
}

#else
void pack_blocks(const Lines&, int64_t, int64_t, int64_t, int64_t, int64_t, bool, int64_t, float*) {
  throw std::invalid_argument("gemm: this CPU has no bf16 products");
}
#endif

}  // namespace himakernels
