#include "gemm.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "amx.h"
#include "buffer.h"
#include "pack.h"
#include "pack_blocks.h"
#include "parallel.h"
#include "round.h"
#include "tile.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace himakernels {
namespace {

constexpr int64_t kNarrowN = 512, kWideN = 1024;
constexpr int64_t kBlocksPerRun = 8;  // blocks of K between two meetings of the threads
constexpr int64_t kMinSlice = 1024, kMaxSlice = 4096, kSlicesPerThread = 4;  // of a long C
constexpr int64_t kSmall = 1 << 20;  // multiply-adds below which a second thread costs more than it does

// A tile of C that is no whole one, or rounded, is made in memory of its own.
struct Edge {
  int64_t rows, cols, ld, m, n;

  void load(const MatrixView& c, float* to) const {
    for (int64_t i = 0; i < rows; ++i) {
      const float* row = static_cast<const float*>(c.data) + (m + i) * c.row_stride + n;
      std::copy(row, row + cols, to + i * ld);
    }
  }
  void store(const float* from, const MatrixView& c) const {
    for (int64_t i = 0; i < rows; ++i, from += ld) {
      const int64_t at = (m + i) * c.row_stride + n;
      if (c.dtype == DType::kBFloat16) {
        round_row(from, static_cast<BFloat16*>(c.data) + at, cols);
      } else {
        std::copy(from, from + cols, static_cast<float*>(c.data) + at);
      }
    }
  }
};

// The panels of an operand, as one tile takes them.
struct Packer {
  Packing packing;
  int64_t width, panel_stride;
  bool by_line;

  void operator()(const Lines& lines, int64_t first, int64_t count, int64_t k0, int64_t depth, float* out) const {
    if (packing == Packing::kBlocks) {
      pack_blocks(lines, first, count, k0, depth, width, by_line, panel_stride, out);
    } else {
      pack(lines, first, count, k0, depth, width, packing == Packing::kPairs, panel_stride, out);
    }
  }
};

// All threads on all of C: they pack B together and meet before and after it is used.
void multiply(const Tile& kernel, const MatrixView& a, const MatrixView& b, const MatrixView& c, bool accumulate,
              int threads) {
  const int64_t M = c.rows, N = c.cols, K = a.cols, mr = kernel.mr, nr = kernel.nr;
  const bool to_half = c.dtype != DType::kFloat32;
  // Equal blocks of K, whole units long, so that no block is a short remainder.
  const bool pairs = kernel.packing != Packing::kFloats;
  const int64_t unit = kernel.packing == Packing::kBlocks ? kBlockDepth : 8;
  const int64_t k_blocks = to_half ? 1 : std::max<int64_t>(1, ceil_div(K, kernel.block_k));
  const int64_t kc = std::max<int64_t>(1, ceil_div(ceil_div(K, k_blocks), unit) * unit);
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
  const int64_t line = pairs ? (kc + 1) / 2 : kc;  // words of a line in a panel
  const Packer pack_a{kernel.packing, mr, mr * line, true}, pack_b{kernel.packing, nr, nr * line, false};
  Buffer packed_a = allocate(slots * mr * (few_rows ? run / kc : 1) * line);
  Buffer packed_b = allocate(nc * run / kc * line);
  const Lines lines{a.data, a.dtype, a.row_stride, a.col_stride}, columns{b.data, b.dtype, b.col_stride, b.row_stride};

#pragma omp parallel num_threads(threads)
  {
#ifdef _OPENMP
    const int64_t t = omp_get_thread_num(), parts = omp_get_num_threads();
#else
    const int64_t t = 0, parts = 1;
#endif
    alignas(64) float edge[32 * 32];
    const AmxScope scope(kernel.packing == Packing::kBlocks);
    for (int64_t run0 = 0; run0 < std::max<int64_t>(K, 1); run0 += run) {
      const int64_t run_end = std::max<int64_t>(std::min(K, run0 + run), run0 + 1);
      for (int64_t n0 = 0; n0 < N; n0 += nc) {
        const int64_t n_count = std::min(nc, N - n0), n_panels = ceil_div(n_count, nr);
        // All threads pack B for a run of blocks of K; what they pack of A is for themselves alone.
        for (int64_t k0 = run0; k0 < run_end; k0 += kc) {
          const int64_t depth = std::min(kc, K - k0);
          float* block = packed_b.get() + (k0 - run0) / kc * nc * line;
          if (b.col_stride == 1) {  // rows of B are contiguous: a thread takes some rows, in whole units
            const int64_t begin = depth / unit * t / parts * unit,
                          end = t + 1 == parts ? depth : depth / unit * (t + 1) / parts * unit;
            pack_b(columns, n0, n_count, k0 + begin, end - begin, block + (pairs ? begin / 2 : begin) * nr);
          } else {
            const int64_t begin = n_panels * t / parts, end = n_panels * (t + 1) / parts;
            pack_b(columns, n0 + begin * nr, std::min(end * nr, n_count) - begin * nr, k0, depth,
                   block + begin * nr * line);
          }
        }
#pragma omp barrier
        for (int64_t p0 = 0; p0 < m_panels; p0 += block_panels) {
          const int64_t panels = std::min(block_panels, m_panels - p0);
          const int64_t first = panels * t / parts, last = panels * (t + 1) / parts;
          for (int64_t k0 = run0; k0 < run_end; k0 += kc) {
            const int64_t depth = std::min(kc, K - k0);
            const int64_t steps = ceil_div(depth, kernel.step_k);
            const bool add = accumulate || k0 > 0;
            float* own_a = packed_a.get() +
                           (t * ceil_div(block_panels, parts) + (few_rows ? (k0 - run0) / kc * slots : 0)) * mr * line;
            if (!few_rows || n0 == 0)
              pack_a(lines, (p0 + first) * mr, std::min((p0 + last) * mr, M) - (p0 + first) * mr, k0, depth, own_a);
            for (int64_t i = first; i < last; ++i) {
              const int64_t m = (p0 + i) * mr, rows = std::min(mr, M - m);
              for (int64_t j = 0; j < n_panels; ++j) {
                const int64_t n = n0 + j * nr, cols = std::min(nr, N - n);
                const float* pa = own_a + (i - first) * mr * line;
                const float* pb = packed_b.get() + ((k0 - run0) / kc * nc + j * nr) * line;
                if (rows == mr && cols == nr && !to_half) {
                  kernel.run(steps, pa, pb, static_cast<float*>(c.data) + m * c.row_stride + n, c.row_stride, add);
                } else {
                  const Edge part{rows, cols, nr, m, n};
                  if (add) part.load(c, edge);
                  kernel.run(steps, pa, pb, edge, nr, add);
                  part.store(edge, c);
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

// The part of `matrix` with rows or columns [begin, end).
MatrixView part(const MatrixView& matrix, bool of_rows, int64_t begin, int64_t end) {
  const int64_t size = matrix.dtype == DType::kFloat32 ? 4 : 2;
  MatrixView out = matrix;
  (of_rows ? out.rows : out.cols) = end - begin;
  out.data = static_cast<char*>(matrix.data) + begin * (of_rows ? matrix.row_stride : matrix.col_stride) * size;
  return out;
}

}  // namespace

void gemm(const MatrixView& a, const MatrixView& b, const MatrixView& c, bool accumulate, bool bf16_products,
          int threads) {
  const Tile kernel = pick_tile(bf16_products);
  const int64_t M = c.rows, N = c.cols, K = a.cols;
  if (c.dtype != DType::kFloat32 && (accumulate || K > kMaxSingleBlock))
    throw std::invalid_argument("gemm: a half C needs one block of K");
  if (M == 0 || N == 0) return;
  threads = M * N * K < kSmall ? 1 : usable_threads(threads);

  // Where C is long one way (a vocabulary, with up to seven threads at 32,000) threads take slices of it and never
  // meet: the other operand is packed again for each slice, which costs little, and a thread that is held up by another
  // program holds up no other.
  const bool tall = M > N;
  const int64_t size = tall ? M : N;
  const int64_t slice = std::min(kMaxSlice, size / (kSlicesPerThread * threads) / kMinSlice * kMinSlice);
  if (threads == 1 || slice < kMinSlice) return multiply(kernel, a, b, c, accumulate, threads);
  parallel_tasks(ceil_div(size, slice), threads, [&](int64_t i) {
    const int64_t begin = i * slice, end = std::min(size, begin + slice);
    multiply(kernel, tall ? part(a, true, begin, end) : a, tall ? b : part(b, false, begin, end),
             part(c, tall, begin, end), accumulate, 1);
  });
}

}  // namespace himakernels
