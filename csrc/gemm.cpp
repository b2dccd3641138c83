#include "gemm.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "simd.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace himakernels {
namespace {

constexpr int64_t kBlockK = 256;
constexpr int64_t kBlockN = 1024;
constexpr int64_t kBlocksPerRun = 8;  // blocks of K between two meetings of the threads
constexpr int64_t kSmall = 1 << 20;   // multiply-adds below which a second thread costs more than it does

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One register tile: c[0:mr, 0:nr] (+)= sum_k a[k, 0:mr] b[k, 0:nr], from packed panels.
using TileFn = void (*)(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate);

template <class Vec, int kRows, int kVecs>
HIMA_INLINE void tile(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate) {
  constexpr int kWidth = kLanes<Vec>;
  typedef Vec Loose __attribute__((aligned(4)));
  // The tile of C is needed last: ask for it first.
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kVecs * kWidth; j += 16) __builtin_prefetch(c + i * ldc + j, 1);
  Vec acc[kRows][kVecs] = {};
  for (int64_t p = 0; p < k; ++p, a += kRows, b += kVecs * kWidth) {
    Vec bv[kVecs];
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) bv[j] = *reinterpret_cast<const Vec*>(b + j * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVecs; ++j) acc[i][j] += bv[j] * a[i];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVecs; ++j) {
      Loose* at = reinterpret_cast<Loose*>(c + i * ldc + j * kWidth);
      *at = accumulate ? *at + acc[i][j] : acc[i][j];
    }
  }
}

void tile_portable(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate) {
  tile<Vec4, 4, 2>(k, a, b, c, ldc, accumulate);
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void tile_avx2(int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                                                   bool accumulate) {
  tile<Vec8, 6, 2>(k, a, b, c, ldc, accumulate);
}
__attribute__((target("avx512f"))) void tile_avx512(int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                                                    bool accumulate) {
  tile<Vec16, 14, 2>(k, a, b, c, ldc, accumulate);
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

struct Kernel {
  int64_t mr, nr;
  TileFn run;
  bool pairs;  // operands are packed as pairs of bf16
};

Kernel pick_kernel(bool bf16_products) {
#if defined(__x86_64__)
  if (bf16_products) {
    if (!has_bf16_products()) throw std::invalid_argument("gemm: this CPU has no bf16 products");
    return {14, 32, tile_avx512_bf16, true};
  }
  if (__builtin_cpu_supports("avx512f")) return {14, 32, tile_avx512, false};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {6, 16, tile_avx2, false};
#endif
  if (bf16_products) throw std::invalid_argument("gemm: this CPU has no bf16 products");
  return {4, 8, tile_portable, false};
}

inline void store4(float* p, Vec4 v) { std::memcpy(p, &v, sizeof v); }

// Packs `count` lines of `depth` elements as out[k * width + i], zeros beyond `count`.
template <class T>
void pack_panel(const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width,
                float* out) {
  if (count < width) std::fill(out, out + depth * width, 0.0f);
  if (line_stride == 1) {
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t i = 0; i < count; ++i) out[k * width + i] = to_float(data[k * k_stride + i]);
    return;
  }
  if (k_stride != 1) {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < depth; ++k) out[k * width + i] = to_float(data[i * line_stride + k * k_stride]);
    return;
  }
  // Lines are contiguous in k: transpose 4 x 4 squares, four lines at a time (more would outrun the prefetchers).
  const int64_t squares = depth / 4 * 4;
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const T* line = data + i * line_stride;
    for (int64_t k = 0; k < squares; k += 4) {
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

inline uint32_t bf16_bits(BFloat16 x) { return x.bits; }
inline uint32_t bf16_bits(float x) {
  BFloat16 half;
  store(&half, x);
  return half.bits;
}
inline uint32_t bf16_bits(Float16 x) { return bf16_bits(to_float(x)); }

// As pack_panel, in words of two neighbours along k, rounded to bf16; an odd last k is paired with zero.
template <class T>
void pack_pairs(const T* data, int64_t line_stride, int64_t k_stride, int64_t count, int64_t depth, int64_t width,
                float* out) {
  const auto word = [&](int64_t i, int64_t k) {
    const T* at = data + i * line_stride + k * k_stride;
    return from_bits(bf16_bits(at[0]) | (k + 1 < depth ? bf16_bits(at[k_stride]) << 16 : 0));
  };
  if (count < width) std::fill(out, out + ceil_div(depth, 2) * width, 0.0f);
  constexpr int64_t kStrip =
      32;  // short strips: reads along k and writes along lines both stay in the first-level cache
  for (int64_t k0 = 0; k0 < depth; k0 += kStrip)
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = k0; k < std::min(depth, k0 + kStrip); k += 2) out[k / 2 * width + i] = word(i, k);
}

void pack_panel(const MatrixView& m, int64_t line, int64_t k, int64_t line_stride, int64_t k_stride, int64_t count,
                int64_t depth, int64_t width, bool pairs, float* out) {
  const int64_t at = line * line_stride + k * k_stride;
  if (pairs) {
    if (m.dtype == DType::kFloat32)
      return pack_pairs(static_cast<const float*>(m.data) + at, line_stride, k_stride, count, depth, width, out);
    if (m.dtype == DType::kBFloat16)
      return pack_pairs(static_cast<const BFloat16*>(m.data) + at, line_stride, k_stride, count, depth, width, out);
    return pack_pairs(static_cast<const Float16*>(m.data) + at, line_stride, k_stride, count, depth, width, out);
  }
  switch (m.dtype) {
    case DType::kFloat32:
      return pack_panel(static_cast<const float*>(m.data) + at, line_stride, k_stride, count, depth, width, out);
    case DType::kBFloat16:
      return pack_panel(static_cast<const BFloat16*>(m.data) + at, line_stride, k_stride, count, depth, width, out);
    case DType::kFloat16:
      return pack_panel(static_cast<const Float16*>(m.data) + at, line_stride, k_stride, count, depth, width, out);
  }
}

struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float, Free>;
Buffer allocate(int64_t count) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, static_cast<size_t>(count) * sizeof(float)) != 0) throw std::bad_alloc();
  return Buffer(static_cast<float*>(p));
}

void store_edge(const float* from, int64_t rows, int64_t cols, int64_t ld, const MatrixView& c, int64_t m, int64_t n,
                bool accumulate) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = (m + i) * c.row_stride + n;
    if (c.dtype == DType::kBFloat16) {
      BFloat16* out = static_cast<BFloat16*>(c.data) + at;
      for (int64_t j = 0; j < cols; ++j) store(out + j, from[i * ld + j]);
    } else {
      float* out = static_cast<float*>(c.data) + at;
      for (int64_t j = 0; j < cols; ++j) out[j] = accumulate ? out[j] + from[i * ld + j] : from[i * ld + j];
    }
  }
}

}  // namespace

bool has_bf16_products() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

bool bf16_products_pay() {
#if defined(__x86_64__)
  return has_bf16_products() && __builtin_cpu_is("amd");
#else
  return false;
#endif
}

void gemm(const MatrixView& a, const MatrixView& b, const MatrixView& c, bool accumulate, bool bf16_products,
          int threads) {
  const Kernel kernel = pick_kernel(bf16_products);
  const int64_t M = c.rows, N = c.cols, K = a.cols, mr = kernel.mr, nr = kernel.nr;
  const bool to_half = c.dtype != DType::kFloat32;
  if (to_half && (accumulate || K > kMaxSingleBlock))
    throw std::invalid_argument("gemm: a half C needs one block of K");
  if (M == 0 || N == 0) return;
  if (M * N * K < kSmall) threads = 1;

  // Equal blocks of K, a multiple of 8 long, so that no block is a short remainder.
  const int64_t k_blocks = to_half ? 1 : std::max<int64_t>(1, ceil_div(K, kBlockK));
  const int64_t kc = std::max<int64_t>(1, ceil_div(ceil_div(K, k_blocks), 8) * 8);
  const int64_t nc = std::min(ceil_div(N, nr) * nr, ceil_div(kBlockN, nr) * nr);
  const int64_t run = kc * std::min<int64_t>(k_blocks, kBlocksPerRun);
  const int64_t m_panels = ceil_div(M, mr);
  const int64_t block_panels = std::min<int64_t>(m_panels, std::max<int64_t>(40, 8 * threads));
  // A that fits whole is packed once; otherwise each block of it is packed again for every block of N.
  const bool whole_a = m_panels == block_panels && M * K <= (int64_t{1} << 22);
  // Each thread has slots of its own: it may be a block ahead of the others, and the last block has fewer panels.
  const int64_t slots = block_panels + threads;
  Buffer packed_a = allocate(slots * mr * kc * (whole_a ? ceil_div(K, kc) : 1));
  Buffer packed_b = allocate(nc * run);

#pragma omp parallel num_threads(threads)
  {
#ifdef _OPENMP
    const int64_t t = omp_get_thread_num(), parts = omp_get_num_threads();
#else
    const int64_t t = 0, parts = 1;
#endif
    alignas(64) float edge[16 * 32];
    for (int64_t n0 = 0; n0 < N; n0 += nc) {
      const int64_t n_count = std::min(nc, N - n0), n_panels = ceil_div(n_count, nr);
      for (int64_t run0 = 0; run0 < std::max<int64_t>(K, 1); run0 += run) {
        // All threads pack B for a run of blocks of K; what they pack of A is for themselves alone.
        const int64_t run_end = std::max<int64_t>(std::min(K, run0 + run), run0 + 1);
        for (int64_t k0 = run0; k0 < run_end; k0 += kc)
          for (int64_t j = n_panels * t / parts; j < n_panels * (t + 1) / parts; ++j)
            pack_panel(b, n0 + j * nr, k0, b.col_stride, b.row_stride, std::min(nr, n_count - j * nr),
                       std::min(kc, K - k0), nr, kernel.pairs, packed_b.get() + (k0 - run0) * nc + j * nr * kc);
#pragma omp barrier
        for (int64_t p0 = 0; p0 < m_panels; p0 += block_panels) {
          const int64_t panels = std::min(block_panels, m_panels - p0);
          const int64_t first = panels * t / parts, last = panels * (t + 1) / parts;
          for (int64_t k0 = run0; k0 < run_end; k0 += kc) {
            const int64_t depth = std::min(kc, K - k0), steps = kernel.pairs ? ceil_div(depth, 2) : depth;
            const bool add = accumulate || k0 > 0;
            float* own_a =
                packed_a.get() + (t * ceil_div(block_panels, parts) + (whole_a ? k0 / kc * slots : 0)) * mr * kc;
            if (!whole_a || n0 == 0)
              for (int64_t i = first; i < last; ++i)
                pack_panel(a, (p0 + i) * mr, k0, a.row_stride, a.col_stride, std::min(mr, M - (p0 + i) * mr), depth, mr,
                           kernel.pairs, own_a + (i - first) * mr * kc);
            for (int64_t i = first; i < last; ++i) {
              const int64_t m = (p0 + i) * mr, rows = std::min(mr, M - m);
              for (int64_t j = 0; j < n_panels; ++j) {
                const int64_t n = n0 + j * nr, cols = std::min(nr, N - n);
                const float* pa = own_a + (i - first) * mr * kc;
                const float* pb = packed_b.get() + (k0 - run0) * nc + j * nr * kc;
                if (rows == mr && cols == nr && !to_half) {
                  kernel.run(steps, pa, pb, static_cast<float*>(c.data) + m * c.row_stride + n, c.row_stride, add);
                } else {
                  kernel.run(steps, pa, pb, edge, nr, false);
                  store_edge(edge, rows, cols, nr, c, m, n, add);
                }
              }
            }
          }
        }
#pragma omp barrier
      }
    }
  }
}

}  // namespace himakernels
