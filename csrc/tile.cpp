#include "tile.h"

#include <cstdint>
#include <stdexcept>

#include "amx.h"
#include "pack_blocks.h"
#include "simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace himakernels {
namespace {

constexpr int kAhead = 8;  // steps of k that B, in the second-level cache, is asked for ahead

enum class Form { kRun, kChain, kChainRows };

template <class Vec, int kRows, int kVecs, Form kForm>
HIMA_INLINE void tile(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate) {
  constexpr int kWidth = kLanes<Vec>;
  constexpr int kRowStride = kForm == Form::kChainRows ? kVecs * kWidth : 1;
  constexpr int kStep = kForm == Form::kChainRows ? 1 : kRows;
  typedef Vec Loose __attribute__((aligned(4)));
  // The return type is written out: a deduced one loses the alignment of Loose, and rows of C may start anywhere.
  const auto at = [&](int i, int j) -> Loose* { return reinterpret_cast<Loose*>(c + i * ldc + j * kWidth); };
  // The tile of C is needed last: ask for it first.
  if (kForm == Form::kRun)
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < kVecs * kWidth; j += 16) __builtin_prefetch(c + i * ldc + j, 1);
  Vec acc[kRows][kVecs] = {};
  if (kForm != Form::kRun && accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j) acc[i][j] = *at(i, j);
    }
  }
  for (int64_t p = 0; p < k; ++p, a += kStep, b += kVecs * kWidth) {
    for (int j = 0; j < kVecs * kWidth; j += 16) __builtin_prefetch(b + kAhead * kVecs * kWidth + j);
    Vec bv[kVecs];
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) bv[j] = *reinterpret_cast<const Vec*>(b + j * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j) acc[i][j] += bv[j] * a[i * kRowStride];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) *at(i, j) = kForm == Form::kRun && accumulate ? *at(i, j) + acc[i][j] : acc[i][j];
  }
}

template <Form kForm>
void tile_portable(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate) {
  tile<Vec4, 4, 2, kForm>(k, a, b, c, ldc, accumulate);
}
#if defined(__x86_64__)
template <Form kForm>
__attribute__((target("avx2,fma"))) void tile_avx2(int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                                                   bool accumulate) {
  tile<Vec8, 6, 2, kForm>(k, a, b, c, ldc, accumulate);
}
template <Form kForm>
__attribute__((target("avx512f"))) void tile_avx512(int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                                                    bool accumulate) {
  tile<Vec16, 14, 2, kForm>(k, a, b, c, ldc, accumulate);
}
// The same on pairs of bf16: a and b hold, for each pair of k, mr and nr words of two bf16; k counts pairs.
__attribute__((target("avx512f,avx512bf16"))) void tile_avx512_bf16(int64_t k, const float* a, const float* b, float* c,
                                                                    int64_t ldc, bool accumulate) {
  constexpr int kRows = 14;
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < 32; j += 16) __builtin_prefetch(c + i * ldc + j, 1);
  __m512 acc[kRows][2];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) acc[i][0] = acc[i][1] = _mm512_setzero_ps();
  for (int64_t p = 0; p < k; ++p, a += kRows, b += 32) {
    const __m512bh b0 = (__m512bh)_mm512_load_ps(b), b1 = (__m512bh)_mm512_load_ps(b + 16);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const __m512bh ai = (__m512bh)_mm512_set1_ps(a[i]);
      acc[i][0] = _mm512_dpbf16_ps(acc[i][0], ai, b0);
      acc[i][1] = _mm512_dpbf16_ps(acc[i][1], ai, b1);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < 2; ++j) {
      float* at = c + i * ldc + 16 * j;
      _mm512_storeu_ps(at, accumulate ? _mm512_add_ps(_mm512_loadu_ps(at), acc[i][j]) : acc[i][j]);
    }
  }
}
#endif

}  // namespace

Tile pick_tile(bool bf16_products) {
#if defined(__x86_64__)
  if (bf16_products) {
    if (!has_bf16_products()) throw std::invalid_argument("gemm: this CPU has no bf16 products");
    if (has_amx()) return {32, 32, tile_amx, Packing::kBlocks, kBlockDepth, 1024, nullptr, nullptr};
    return {14, 32, tile_avx512_bf16, Packing::kPairs, 2, 1024, nullptr, nullptr};
  }
  if (__builtin_cpu_supports("avx512f"))
    return {14, 32,  tile_avx512<Form::kRun>,   Packing::kFloats,
            1,  512, tile_avx512<Form::kChain>, tile_avx512<Form::kChainRows>};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {6, 16,  tile_avx2<Form::kRun>,   Packing::kFloats,
            1, 512, tile_avx2<Form::kChain>, tile_avx2<Form::kChainRows>};
#endif
  if (bf16_products) throw std::invalid_argument("gemm: this CPU has no bf16 products");
  return {4, 8,   tile_portable<Form::kRun>,   Packing::kFloats,
          1, 512, tile_portable<Form::kChain>, tile_portable<Form::kChainRows>};
}

bool has_bf16_products() {
#if defined(__x86_64__)
  return has_amx() || (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16"));
#else
  return false;
#endif
}

bool bf16_products_pay() {
#if defined(__x86_64__)
  return has_amx() || (has_bf16_products() && __builtin_cpu_is("amd"));
#else
  return false;
#endif
}

}  // namespace himakernels
