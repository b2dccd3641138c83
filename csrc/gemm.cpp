#include "gemm.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "buffer.h"
#include "pack.h"
#include "round.h"
#include "tile.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace himakernels {
namespace {

constexpr int64_t kBlockK = 512;  // steps of the tile: twice as many k where they go in pairs
constexpr int64_t kNarrowN = 512, kWideN = 1024;
constexpr int64_t kBlocksPerRun = 8;  // blocks of K between two meetings of the threads
constexpr int64_t kSmall = 1 << 20;   // multiply-adds below which a second thread costs more than it does

void store_edge(const float* from, int64_t rows, int64_t cols, int64_t ld, const MatrixView& c, int64_t m, int64_t n,
                bool accumulate) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = (m + i) * c.row_stride + n;
    if (c.dtype == DType::kBFloat16) {
      BFloat16* out = static_cast<BFloat16*>(c.data) + at;
      round_row(from + i * ld, out, cols);
    } else {
      float* out = static_cast<float*>(c.data) + at;
      for (int64_t j = 0; j < cols; ++j) out[j] = accumulate ? out[j] + from[i * ld + j] : from[i * ld + j];
    }
  }
}

}  // namespace

void gemm(const MatrixView& a, const MatrixView& b, const MatrixView& c, bool accumulate, bool bf16_products,
          int threads) {
  const Tile kernel = pick_tile(bf16_products);
  const int64_t M = c.rows, N = c.cols, K = a.cols, mr = kernel.mr, nr = kernel.nr;
  const bool to_half = c.dtype != DType::kFloat32;
  if (to_half && (accumulate || K > kMaxSingleBlock))
    throw std::invalid_argument("gemm: a half C needs one block of K");
  if (M == 0 || N == 0) return;
  if (M * N * K < kSmall) threads = 1;

  // Equal blocks of K, a multiple of 8 long, so that no block is a short remainder.
  const int64_t k_blocks = to_half ? 1 : std::max<int64_t>(1, ceil_div(K, kernel.pairs ? 2 * kBlockK : kBlockK));
  const int64_t kc = std::max<int64_t>(1, ceil_div(ceil_div(K, k_blocks), 8) * 8);
  const int64_t run = kc * std::min<int64_t>(k_blocks, kBlocksPerRun);
  const int64_t m_panels = ceil_div(M, mr);
  const int64_t block_panels = std::min<int64_t>(m_panels, std::max<int64_t>(40, 8 * threads));
  // With few rows A is packed once for all blocks of N, which can then be narrow enough that a block of C stays in the
  // second-level cache beside a block of B; with many rows A is packed again for each, so they are wide.
  const bool few_rows = m_panels == block_panels;
  const int64_t n_blocks = ceil_div(N, few_rows ? kNarrowN : kWideN);
  const int64_t nc = ceil_div(ceil_div(N, n_blocks), nr) * nr;
  // Each thread has slots of its own: it may be a block ahead of the others, and the last block has fewer panels.
  const int64_t slots = block_panels + threads;
  Buffer packed_a = allocate(slots * mr * (few_rows ? run : kc));
  Buffer packed_b = allocate(nc * run);
  const Lines lines{a.data, a.dtype, a.row_stride, a.col_stride}, columns{b.data, b.dtype, b.col_stride, b.row_stride};

#pragma omp parallel num_threads(threads)
  {
#ifdef _OPENMP
    const int64_t t = omp_get_thread_num(), parts = omp_get_num_threads();
#else
    const int64_t t = 0, parts = 1;
#endif
    alignas(64) float edge[16 * 32];
    for (int64_t run0 = 0; run0 < std::max<int64_t>(K, 1); run0 += run) {
      const int64_t run_end = std::max<int64_t>(std::min(K, run0 + run), run0 + 1);
      for (int64_t n0 = 0; n0 < N; n0 += nc) {
        const int64_t n_count = std::min(nc, N - n0), n_panels = ceil_div(n_count, nr);
        // All threads pack B for a run of blocks of K; what they pack of A is for themselves alone.
        for (int64_t k0 = run0; k0 < run_end; k0 += kc) {
          const int64_t depth = std::min(kc, K - k0);
          float* block = packed_b.get() + (k0 - run0) * nc;
          if (b.col_stride == 1) {  // rows of B are contiguous: a thread takes some rows, two by two
            const int64_t begin = depth / 2 * t / parts * 2,
                          end = t + 1 == parts ? depth : depth / 2 * (t + 1) / parts * 2;
            pack(columns, n0, n_count, k0 + begin, end - begin, nr, kernel.pairs, nr * kc,
                 block + (kernel.pairs ? begin / 2 : begin) * nr);
          } else {
            const int64_t begin = n_panels * t / parts, end = n_panels * (t + 1) / parts;
            pack(columns, n0 + begin * nr, std::min(end * nr, n_count) - begin * nr, k0, depth, nr, kernel.pairs,
                 nr * kc, block + begin * nr * kc);
          }
        }
#pragma omp barrier
        for (int64_t p0 = 0; p0 < m_panels; p0 += block_panels) {
          const int64_t panels = std::min(block_panels, m_panels - p0);
          const int64_t first = panels * t / parts, last = panels * (t + 1) / parts;
          for (int64_t k0 = run0; k0 < run_end; k0 += kc) {
            const int64_t depth = std::min(kc, K - k0), steps = kernel.pairs ? ceil_div(depth, 2) : depth;
            const bool add = accumulate || k0 > 0;
            float* own_a = packed_a.get() +
                           (t * ceil_div(block_panels, parts) + (few_rows ? (k0 - run0) / kc * slots : 0)) * mr * kc;
            if (!few_rows || n0 == 0)
              pack(lines, (p0 + first) * mr, std::min((p0 + last) * mr, M) - (p0 + first) * mr, k0, depth, mr,
                   kernel.pairs, mr * kc, own_a);
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
