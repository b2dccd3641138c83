#include "gemm.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "amx.h"
#include "buffer.h"
#include "fork_safety.h"
#include "pack.h"
#include "pack_blocks.h"
#include "parallel.h"
#include "round.h"
#include "tile.h"
#include "workers.h"

namespace himakernels {
namespace {

constexpr int64_t kNarrowN = 512, kWideN = 1024;
// Of a stage: blocks of K; panels of rows in a slice, at most; pieces (each slice of rows reads all of B, so few of
// them).
constexpr int64_t kBlocksPerRun = 6, kSlicePanels = 40, kPiecesPerThread = 2;
constexpr int64_t kCopies = 3;  // of packed B: as many stages can be under way at the same time
constexpr int64_t kMinSlice = 1024, kMaxSlice = 4096, kSlicesPerThread = 4;  // slices of a long C
constexpr int64_t kSmall = 1 << 22;  // multiply-adds below which a second thread costs more than it does (measured)

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

// Which pieces of work are done: counters that threads wait for.
class Progress {
 public:
  // Returns once ready() is true; throws where another thread has failed.
  template <class Ready>
  void wait(const Ready& ready) {
    const auto over = [&] { return failed_ || ready(); };
    if (!over() && !spin_until(over)) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, over);
    }
    if (failed_) throw std::runtime_error("gemm: another thread failed");
  }
  void tell() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
    }  // nobody is between looking at a counter and sleeping
    changed_.notify_all();
  }
  void fail() {
    failed_ = true;
    tell();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> failed_{false};
};

using Counters = std::vector<std::atomic<int64_t>>;

// One product, cut into stages: runs of blocks of K and, in each of them, blocks of N. In a stage B is packed, then
// multiplied with slices of rows of A. Threads take these pieces one by one in the order of the stages. A piece waits
// for those that it needs and for no others, and these were taken about a stage before: a thread that has lost its core
// to another program for some milliseconds holds up nobody.
class Product {
 public:
  Product(const Tile& kernel, const MatrixView& a, const MatrixView& b, const MatrixView& c, bool accumulate,
          int threads)
      : kernel_(kernel),
        a_(a),
        b_(b),
        c_(c),
        accumulate_(accumulate),
        to_half_(c.dtype != DType::kFloat32),
        pairs_(kernel.packing != Packing::kFloats),
        threads_(threads),
        m_panels_(ceil_div(c.rows, kernel.mr)),
        unit_(kernel.packing == Packing::kBlocks ? kBlockDepth : 8) {
    const int64_t k = a.cols, n = c.cols, pieces = threads == 1 ? 1 : kPiecesPerThread * threads;
    // Equal blocks of K, whole units long, so that no block is a short remainder.
    const int64_t k_blocks = to_half_ ? 1 : std::max<int64_t>(1, ceil_div(k, kernel.block_k));
    kc_ = std::max<int64_t>(1, ceil_div(ceil_div(k, k_blocks), unit_) * unit_);
    line_ = pairs_ ? (kc_ + 1) / 2 : kc_;
    run_blocks_ = std::min<int64_t>(k_blocks, kBlocksPerRun);
    // With few rows A is packed once for all blocks of N, which can then be narrow enough that a block of C stays in
    // the second-level cache beside a block of B; with many rows A is packed again for each, so they are wide.
    few_rows_ = m_panels_ <= std::max<int64_t>(kSlicePanels, 8 * threads);
    nc_ = ceil_div(ceil_div(n, ceil_div(n, few_rows_ ? kNarrowN : kWideN)), kernel.nr) * kernel.nr;
    n_blocks_ = ceil_div(n, nc_);
    stages_ = ceil_div(std::max<int64_t>(k, 1), run_blocks_ * kc_) * n_blocks_;
    packs_ = pieces;
    slices_ = std::max(ceil_div(m_panels_, kSlicePanels), std::min(m_panels_, pieces));
    copies_ = std::min<int64_t>(threads == 1 ? 1 : kCopies, stages_);
    packed_b_ = allocate(copies_ * run_blocks_ * nc_ * line_);
    if (few_rows_) packed_a_ = allocate(run_blocks_ * m_panels_ * kernel.mr * line_);
    packs_left_ = Counters(static_cast<size_t>(stages_));
    slices_left_ = Counters(static_cast<size_t>(stages_));
    for (auto& count : packs_left_) count = packs_;
    for (auto& count : slices_left_) count = slices_;
    stages_of_slice_ = Counters(static_cast<size_t>(slices_));
  }

  void run() {
    Caught caught;
    share_work(threads_, [&] {
      bool done = false;
      caught.run([&] {
        take_pieces();
        done = true;
      });
      if (!done) progress_.fail();  // after the cause is caught: the others throw for it, and the first is reported
    });
    caught.rethrow();
  }

 private:
  void take_pieces() {
    const AmxScope scope(kernel_.packing == Packing::kBlocks);
    Buffer own_a;
    // With room for it, B of a stage is packed before A of the one before is multiplied: it is done when it is wanted.
    const int64_t in_stage = packs_ + slices_, ahead = copies_ > 1 ? 1 : 0;
    for (int64_t i; (i = next_.fetch_add(1)) < (stages_ + ahead) * in_stage; progress_.tell()) {
      const int64_t piece = i % in_stage, slice = piece - packs_;
      const int64_t stage = i / in_stage - (slice < 0 ? 0 : ahead);
      if (stage < 0 || stage == stages_) continue;
      if (slice < 0) {
        progress_.wait([&] { return stage < copies_ || slices_left_[stage - copies_] == 0; });
        pack_b(stage, piece);
        --packs_left_[stage];
      } else {
        progress_.wait([&] { return packs_left_[stage] == 0 && stages_of_slice_[slice] == stage; });
        multiply(stage, slice, &own_a);
        ++stages_of_slice_[slice];
        --slices_left_[stage];
      }
    }
  }

  int64_t first_k(int64_t stage) const { return stage / n_blocks_ * run_blocks_ * kc_; }
  int64_t end_k(int64_t stage) const {
    const int64_t first = first_k(stage);
    return std::max(std::min(a_.cols, first + run_blocks_ * kc_), first + 1);
  }
  float* block_of_b(int64_t stage, int64_t k0) const {
    return packed_b_.get() + (stage % copies_ * run_blocks_ + (k0 - first_k(stage)) / kc_) * nc_ * line_;
  }
  // The panels of an operand, as one tile takes them.
  void pack_lines(const Lines& lines, bool is_a, int64_t first, int64_t count, int64_t k0, int64_t depth,
                  float* out) const {
    const int64_t width = is_a ? kernel_.mr : kernel_.nr;
    if (kernel_.packing == Packing::kBlocks) {
      pack_blocks(lines, first, count, k0, depth, width, is_a, width * line_, out);
    } else {
      pack(lines, first, count, k0, depth, width, pairs_, width * line_, out);
    }
  }

  void pack_b(int64_t stage, int64_t piece) const {
    const Lines columns{b_.data, b_.dtype, b_.col_stride, b_.row_stride};
    const int64_t nr = kernel_.nr, n0 = stage % n_blocks_ * nc_, count = std::min(nc_, c_.cols - n0);
    for (int64_t k0 = first_k(stage); k0 < end_k(stage); k0 += kc_) {
      const int64_t depth = std::min(kc_, b_.rows - k0);
      float* block = block_of_b(stage, k0);
      if (b_.col_stride == 1) {  // rows of B are contiguous: a piece is some rows, in whole units
        const int64_t units = depth / unit_, begin = units * piece / packs_ * unit_,
                      end = piece + 1 == packs_ ? depth : units * (piece + 1) / packs_ * unit_;
        pack_lines(columns, false, n0, count, k0 + begin, end - begin, block + (pairs_ ? begin / 2 : begin) * nr);
      } else {
        const int64_t panels = ceil_div(count, nr), begin = panels * piece / packs_ * nr,
                      end = std::min(panels * (piece + 1) / packs_ * nr, count);
        if (begin < end) pack_lines(columns, false, n0 + begin, end - begin, k0, depth, block + begin * line_);
      }
    }
  }

  void multiply(int64_t stage, int64_t slice, Buffer* own_a) const {
    const int64_t mr = kernel_.mr, nr = kernel_.nr, n0 = stage % n_blocks_ * nc_;
    const int64_t first = m_panels_ * slice / slices_, last = m_panels_ * (slice + 1) / slices_;
    const int64_t n_panels = ceil_div(std::min(nc_, c_.cols - n0), nr);
    if (!few_rows_ && !*own_a) *own_a = allocate(ceil_div(m_panels_, slices_) * mr * line_);
    for (int64_t k0 = first_k(stage); k0 < end_k(stage); k0 += kc_) {
      const int64_t depth = std::min(kc_, a_.cols - k0);
      const float* block = block_of_b(stage, k0);
      float* panels = own_a->get();
      if (few_rows_) panels = packed_a_.get() + ((k0 - first_k(stage)) / kc_ * m_panels_ + first) * mr * line_;
      if (!few_rows_ || n0 == 0)
        pack_lines({a_.data, a_.dtype, a_.row_stride, a_.col_stride}, true, first * mr,
                   std::min(last * mr, c_.rows) - first * mr, k0, depth, panels);
      for (int64_t i = first; i < last; ++i, panels += mr * line_)
        for (int64_t j = 0; j < n_panels; ++j)
          tile(ceil_div(depth, kernel_.step_k), panels, block + j * nr * line_, i * mr, n0 + j * nr,
               accumulate_ || k0 > 0);
    }
  }

  // The tile of C whose first element is (m, n).
  void tile(int64_t steps, const float* a, const float* b, int64_t m, int64_t n, bool add) const {
    const Edge part{std::min(kernel_.mr, c_.rows - m), std::min(kernel_.nr, c_.cols - n), kernel_.nr, m, n};
    if (part.rows == kernel_.mr && part.cols == kernel_.nr && !to_half_)
      return kernel_.run(steps, a, b, static_cast<float*>(c_.data) + m * c_.row_stride + n, c_.row_stride, add);
    alignas(64) float edge[32 * 32];
    if (add) part.load(c_, edge);
    kernel_.run(steps, a, b, edge, kernel_.nr, add);
    part.store(edge, c_);
  }

  const Tile& kernel_;
  const MatrixView &a_, &b_, &c_;
  const bool accumulate_, to_half_, pairs_;
  const int threads_;
  const int64_t m_panels_, unit_;
  bool few_rows_;
  int64_t kc_, line_, run_blocks_, nc_, n_blocks_;  // k of a block, words of a line in a panel
  int64_t stages_, packs_, slices_, copies_;        // of the pieces, the first two in each stage
  Buffer packed_a_, packed_b_;
  std::atomic<int64_t> next_{0};
  Counters packs_left_, slices_left_, stages_of_slice_;
  Progress progress_;
};

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
  if (threads == 1 || slice < kMinSlice) return Product(kernel, a, b, c, accumulate, threads).run();
  parallel_tasks(ceil_div(size, slice), threads, [&](int64_t i) {
    const int64_t begin = i * slice, end = std::min(size, begin + slice);
    const MatrixView some_a = tall ? part(a, true, begin, end) : a, some_b = tall ? b : part(b, false, begin, end);
    const MatrixView some_c = part(c, tall, begin, end);
    Product(kernel, some_a, some_b, some_c, accumulate, 1).run();
  });
}

}  // namespace himakernels
