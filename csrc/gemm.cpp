#include "gemm.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "simd.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace himakernels {
namespace {

constexpr int64_t kBlockK = 384;
constexpr int64_t kBlockN = 1024;

// One register tile: c[0:mr, 0:nr] (+)= sum_k a[k, 0:mr] b[k, 0:nr], from packed panels.
using TileFn = void (*)(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate);

template <class Vec, int kRows, int kVecs>
HIMA_INLINE void tile(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate) {
  constexpr int kWidth = kLanes<Vec>;
  typedef Vec Loose __attribute__((aligned(4)));
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
#endif

struct Kernel {
  int64_t mr, nr;
  TileFn run;
};

Kernel pick_kernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {14, 32, tile_avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {6, 16, tile_avx2};
#endif
  return {4, 8, tile_portable};
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

void pack_panel(const MatrixView& m, int64_t line, int64_t k, int64_t line_stride, int64_t k_stride, int64_t count,
                int64_t depth, int64_t width, float* out) {
  const int64_t at = line * line_stride + k * k_stride;
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

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

void gemm(const MatrixView& a, const MatrixView& b, const MatrixView& c, bool accumulate, int threads) {
  static const Kernel kernel = pick_kernel();
  const int64_t M = c.rows, N = c.cols, K = a.cols, mr = kernel.mr, nr = kernel.nr;
  const bool to_half = c.dtype != DType::kFloat32;
  if (to_half && (accumulate || K > kMaxSingleBlock))
    throw std::invalid_argument("gemm: a half C needs one block of K");
  if (M == 0 || N == 0) return;

  // Equal blocks of K, a multiple of 8 long, so that no block is a short remainder.
  const int64_t k_blocks = to_half ? 1 : std::max<int64_t>(1, ceil_div(K, kBlockK));
  const int64_t kc = std::max<int64_t>(1, ceil_div(ceil_div(K, k_blocks), 8) * 8);
  const int64_t nc = std::min(ceil_div(N, nr) * nr, ceil_div(kBlockN, nr) * nr);
  const int64_t m_panels = ceil_div(M, mr);
  const int64_t block_panels = std::min<int64_t>(m_panels, std::max<int64_t>(40, 8 * threads));
  // A that fits whole is packed once; otherwise each block of it is packed again for every block of N.
  const bool whole_a = m_panels == block_panels && M * K <= (int64_t{1} << 22);
  // Each thread packs A into room of its own: where the last block has fewer panels, threads move to other panels, and must
  // not overwrite what another still reads. parts * ceil(block_panels / parts) <= block_panels + threads.
  const int64_t room_a = (block_panels + threads) * mr * kc;
  Buffer packed_a = allocate(room_a * (whole_a ? ceil_div(K, kc) : 1));
  Buffer packed_b = allocate(nc * kc);

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
      for (int64_t k0 = 0; k0 < std::max<int64_t>(K, 1); k0 += kc) {
        const int64_t depth = std::min(kc, K - k0);
        const bool add = accumulate || k0 > 0;
        for (int64_t j = n_panels * t / parts; j < n_panels * (t + 1) / parts; ++j)
          pack_panel(b, n0 + j * nr, k0, b.col_stride, b.row_stride, std::min(nr, n_count - j * nr), depth, nr,
                     packed_b.get() + j * nr * kc);
        for (int64_t p0 = 0; p0 < m_panels; p0 += block_panels) {
          const int64_t panels = std::min(block_panels, m_panels - p0);
          const int64_t share = ceil_div(panels, parts), own = ceil_div(block_panels, parts) * t;
          const int64_t first = std::min(panels, share * t), last = std::min(panels, share * (t + 1));
          float* own_a = packed_a.get() + (whole_a ? k0 / kc * room_a : 0) + own * mr * kc;
          // A thread packs the panels that it will use itself, so only B needs the barrier.
          if (!whole_a || n0 == 0)
            for (int64_t i = first; i < last; ++i)
              pack_panel(a, (p0 + i) * mr, k0, a.row_stride, a.col_stride, std::min(mr, M - (p0 + i) * mr), depth, mr,
                         own_a + (i - first) * mr * kc);
          if (p0 == 0) {
#pragma omp barrier
          }
          for (int64_t i = first; i < last; ++i) {
            const int64_t m = (p0 + i) * mr, rows = std::min(mr, M - m);
            for (int64_t j = 0; j < n_panels; ++j) {
              const int64_t n = n0 + j * nr, cols = std::min(nr, N - n);
              const float* pa = own_a + (i - first) * mr * kc;
              const float* pb = packed_b.get() + j * nr * kc;
              if (rows == mr && cols == nr && !to_half) {
                kernel.run(depth, pa, pb, static_cast<float*>(c.data) + m * c.row_stride + n, c.row_stride, add);
              } else {
                kernel.run(depth, pa, pb, edge, nr, false);
                store_edge(edge, rows, cols, nr, c, m, n, add);
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
