#include "paged_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "buffer.h"
#include "paged_rows.h"
#include "parallel.h"

namespace himakernels {
namespace {

constexpr int64_t kTaskQueries = 256;  // whose sums are in the cache together
constexpr int64_t kSmall = 1 << 18;    // products below which a second thread costs more than it does
constexpr double kLn2 = 0.69314718055994530942;

int64_t whole_panels(int64_t keys) { return keys / kPanelKeys * kPanelKeys; }

const char* at(const void* data, DType dtype, int64_t element) {
  return static_cast<const char*>(data) + element * (dtype == DType::kFloat32 ? 4 : 2);
}

// The longest beginning, in whole panels, of all the blocks that each sequence has in common with the one before.
std::vector<int64_t> shared_with_previous(const PagedAttention& a) {
  std::vector<int64_t> shared(a.sequences, 0);
  for (int64_t n = 1; n < a.sequences; ++n) {
    const int32_t* table = a.block_table + n * a.table_width;
    const int64_t blocks = std::min(a.seq_lens[n - 1], a.seq_lens[n]) / a.block_size;
    shared[n] = std::mismatch(table, table + blocks, table - a.table_width).first - table;
    shared[n] = whole_panels(shared[n] * a.block_size);
  }
  return shared;
}

// A run of neighbouring queries of one key head.
class Task {
 public:
  Task(const PagedAttention& a, const PagedRows& rows, const std::vector<int64_t>& shared, int64_t key_head,
       int64_t first, int64_t last)
      : a_(a),
        rows_(rows),
        shared_(shared),
        rule_{a.scale, a.softcap, a.window},
        key_head_(key_head),
        group_(a.query_heads / a.key_heads),
        width_(ceil_div(a.head_dim, kPanelKeys) * kPanelKeys),
        first_(first),
        direct_(a.dtype == DType::kFloat32 && width_ == a.head_dim && a.block_size % kPanelKeys == 0),
        queries_((last - first) * group_),
        q_(allocate(queries_ * a.head_dim)),
        sums_(allocate(queries_ * width_)),
        panels_(allocate(kGroupPanels * kPanelKeys * a.head_dim)),
        rows_of_values_(allocate(kGroupPanels * kPanelKeys * width_)),
        gathered_(allocate(kPanelKeys * a.head_dim)),
        reference_(queries_, -std::numeric_limits<float>::max()),
        sum_(queries_, 0.0f),
        position_(last - first) {
    std::fill(sums_.get(), sums_.get() + queries_ * width_, 0.0f);
    std::fill(rows_of_values_.get(), rows_of_values_.get() + kGroupPanels * kPanelKeys * width_, 0.0f);
    for (int64_t t = first; t < last; ++t)
      for (int64_t h = 0; h < group_; ++h)
        widen(at(a.q.data, a.dtype, t * a.q.token_stride + (key_head * group_ + h) * a.q.head_stride),
              q_.get() + ((t - first) * group_ + h) * a.head_dim);
    for (int64_t n = 0; n < a.sequences; ++n) {
      const int64_t begin = std::max<int64_t>(first, a.cu_seqlens[n]),
                    end = std::min<int64_t>(last, a.cu_seqlens[n + 1]);
      if (begin >= end) continue;
      for (int64_t t = begin; t < end; ++t)
        position_[t - first] = a.seq_lens[n] - a.cu_seqlens[n + 1] + static_cast<int32_t>(t);
      spans_.push_back({n, begin - first, end - first, int64_t{position_[end - 1 - first]} + 1});
    }
  }

  void run(void* out) {
    walk(0, static_cast<int64_t>(spans_.size()), 0);
    finish(out);
  }

 private:
  // The queries of one sequence, counted from the task's first, and how many keys the last of them sees.
  struct Span {
    int64_t sequence, begin, end, keys;
  };

  // What the queries of spans [i, j) see from key `begin` on: what all of them share together, then each part alone.
  void walk(int64_t i, int64_t j, int64_t begin) {
    if (i == j) return;
    if (j - i == 1) return attend(i, j, begin, spans_[i].keys);
    int64_t end = std::numeric_limits<int64_t>::max();
    for (int64_t s = i + 1; s < j; ++s) end = std::min(end, shared_by(s));
    attend(i, j, begin, end);
    for (int64_t s = i + 1, part = i; s <= j; ++s) {
      if (s < j && shared_by(s) > end) continue;
      walk(part, s, std::max(begin, end));
      part = s;
    }
  }

  // Of a span and the one before, whose sequences are neighbours.
  int64_t shared_by(int64_t s) const {
    const int64_t keys = whole_panels(std::min(spans_[s - 1].keys, spans_[s].keys));
    return std::min(shared_[spans_[s].sequence], keys);
  }

  // All queries of spans [i, j) with the keys [begin, end) of the first of them; begin is a multiple of a panel.
  void attend(int64_t i, int64_t j, int64_t begin, int64_t end) {
    const int64_t first = spans_[i].begin * group_, last = spans_[j - 1].end * group_;
    if (a_.window > 0) {
      const int32_t lowest =
          *std::min_element(position_.begin() + spans_[i].begin, position_.begin() + spans_[j - 1].end);
      begin = std::max(begin, whole_panels(std::max<int64_t>(0, int64_t{lowest} + 1 - a_.window)));
    }
    for (; begin < end; begin += kScoreStride) {
      const int64_t keys = std::min(kScoreStride, end - begin);
      for (int64_t p = 0; p * kPanelKeys < keys; ++p)
        prepare(spans_[i].sequence, begin + p * kPanelKeys, std::min(kPanelKeys, keys - p * kPanelKeys), p);
      for (int64_t q = first; q < last; q += kTileQueries) meet(q, std::min(kTileQueries, last - q), begin, keys);
    }
  }

  // Panel p of the group: keys [position, position + count) of a sequence.
  void prepare(int64_t sequence, int64_t position, int64_t count, int64_t p) {
    const int32_t* table = a_.block_table + sequence * a_.table_width;
    float* panel = panels_.get() + p * kPanelKeys * a_.head_dim;
    float* values = rows_of_values_.get() + p * kPanelKeys * width_;
    const auto row = [&](const BlocksView& x, int64_t key) {
      const int64_t block = table[key / a_.block_size], inside = key % a_.block_size;
      return at(x.data, a_.dtype, block * x.block_stride + inside * x.token_stride + key_head_ * x.head_stride);
    };
    Lines lines{row(a_.keys, position), a_.dtype, a_.keys.token_stride, 1};
    if (a_.block_size % kPanelKeys != 0) {
      for (int64_t k = 0; k < count; ++k) widen(row(a_.keys, position + k), gathered_.get() + k * a_.head_dim);
      lines = {gathered_.get(), DType::kFloat32, a_.head_dim, 1};
    }
    pack(lines, 0, count, 0, a_.head_dim, kPanelKeys, false, 0, panel);
    value_[p] = values;
    value_stride_ = width_;
    if (direct_) {
      value_[p] = reinterpret_cast<const float*>(row(a_.values, position));
      value_stride_ = a_.values.token_stride;
      return;
    }
    for (int64_t k = 0; k < count; ++k) widen(row(a_.values, position + k), values + k * width_);
  }

  // Queries [first, first + count) with the keys [begin, begin + keys) that are prepared.
  void meet(int64_t first, int64_t count, int64_t begin, int64_t keys) {
    int64_t low[kTileQueries], high[kTileQueries], lowest = keys, highest = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = position_[(first + i) / group_];
      high[i] = std::min(keys, position + 1 - begin);
      low[i] = a_.window > 0 ? std::max<int64_t>(0, position + 1 - a_.window - begin) : 0;
      if (low[i] >= high[i]) continue;
      lowest = std::min(lowest, low[i]);
      highest = std::max(highest, high[i]);
    }
    if (lowest >= highest) return;
    const int64_t D = a_.head_dim, from = lowest / kPanelKeys, to = ceil_div(highest, kPanelKeys);
    for (int64_t p = from; p < to; ++p)
      rows_.products(count, q_.get() + first * D, D, panels_.get() + p * kPanelKeys * D, scores_ + p * kPanelKeys);
    const int64_t skipped = from * kPanelKeys, met = (to - from) * kPanelKeys;
    for (int64_t i = 0; i < count; ++i) {
      float* x = scores_ + i * kScoreStride + skipped;
      if (low[i] >= high[i]) {
        std::fill(x, x + met, 0.0f);
        continue;
      }
      rows_.weights(x, met, low[i] - skipped, high[i] - skipped, rule_, &reference_[first + i], &sum_[first + i],
                    sums_.get() + (first + i) * width_, width_);
    }
    for (int64_t p = from; p < to; ++p)
      rows_.add_values(count, scores_ + p * kPanelKeys, std::min(kPanelKeys, highest - p * kPanelKeys), value_[p],
                       value_stride_, width_, sums_.get() + first * width_, &sum_[first]);
  }

  void finish(void* out) {
    for (int64_t i = 0; i < queries_; ++i) {
      const int64_t token = first_ + i / group_, head = key_head_ * group_ + i % group_;
      double sum = sum_[i];
      if (a_.sinks != nullptr) sum += std::exp(a_.sinks[head] - reference_[i] * kLn2);
      const float factor = static_cast<float>(1 / sum);
      const int64_t row = (token * a_.query_heads + head) * a_.head_dim;
      const float* values = sums_.get() + i * width_;
      for (int64_t d = 0; d < a_.head_dim; ++d) {
        const float x = values[d] * factor;
        if (a_.dtype == DType::kFloat32) store(static_cast<float*>(out) + row + d, x);
        if (a_.dtype == DType::kBFloat16) store(static_cast<BFloat16*>(out) + row + d, x);
        if (a_.dtype == DType::kFloat16) store(static_cast<Float16*>(out) + row + d, x);
      }
    }
  }

  // A row of head_dim elements as fp32.
  void widen(const char* row, float* to) const {
    for (int64_t d = 0; d < a_.head_dim; ++d) {
      if (a_.dtype == DType::kFloat32) to[d] = reinterpret_cast<const float*>(row)[d];
      if (a_.dtype == DType::kBFloat16) to[d] = to_float(reinterpret_cast<const BFloat16*>(row)[d]);
      if (a_.dtype == DType::kFloat16) to[d] = to_float(reinterpret_cast<const Float16*>(row)[d]);
    }
  }

  const PagedAttention& a_;
  const PagedRows& rows_;
  const std::vector<int64_t>& shared_;
  const ScoreRule rule_;
  const int64_t key_head_, group_, width_, first_;
  const bool direct_;  // values are read where they lie
  const int64_t queries_;
  Buffer q_, sums_;  // [queries][head_dim], [queries][width]
  Buffer panels_, rows_of_values_, gathered_;
  std::vector<float> reference_, sum_;
  std::vector<int32_t> position_;  // of each token
  std::vector<Span> spans_;
  const float* value_[kGroupPanels];
  int64_t value_stride_ = 0;
  alignas(64) float scores_[kTileQueries * kScoreStride];
};

std::string got(int64_t value, int64_t index) {
  return ", got " + std::to_string(value) + " at index " + std::to_string(index);
}

}  // namespace

void check_paged(const PagedAttention& a) {
  for (int64_t n = 0; n < a.sequences; ++n) {
    const int64_t queries = int64_t{a.cu_seqlens[n + 1]} - a.cu_seqlens[n];
    if (queries < 0)
      throw std::invalid_argument("cu_seqlens: expected values that ascend" + got(a.cu_seqlens[n + 1], n + 1));
    const int64_t most = a.table_width * a.block_size;
    if (a.seq_lens[n] < queries || a.seq_lens[n] > most)
      throw std::invalid_argument("seq_lens: expected " + std::to_string(queries) + ", the sequence's queries, to " +
                                  std::to_string(most) + ", what its block table can hold" + got(a.seq_lens[n], n));
    const int64_t used = ceil_div(a.seq_lens[n], a.block_size);
    for (int64_t b = 0; b < used && queries > 0; ++b) {
      const int32_t block = a.block_table[n * a.table_width + b];
      if (block < 0 || block >= a.blocks)
        throw std::invalid_argument("block_table[" + std::to_string(n) + "]: expected values in [0, " +
                                    std::to_string(a.blocks) + ")" + got(block, b));
    }
  }
}

void paged_attention(const PagedAttention& a, void* out) {
  const PagedRows rows = pick_paged_rows();
  const std::vector<int64_t> shared = shared_with_previous(a);
  double products = 0;
  for (int64_t n = 0; n < a.sequences; ++n)
    products += double(a.cu_seqlens[n + 1] - a.cu_seqlens[n]) * a.seq_lens[n] * a.query_heads * a.head_dim;
  const int threads = products < kSmall ? 1 : a.threads;
  const int64_t group = a.query_heads / a.key_heads, pieces = threads == 1 ? 1 : ceil_div(2 * threads, a.key_heads);
  const int64_t most = std::max<int64_t>(1, kTaskQueries / group);
  const int64_t size = std::min(most, std::max<int64_t>(1, ceil_div(a.tokens(), pieces)));
  const int64_t cuts = ceil_div(a.tokens(), size);
  parallel_tasks(cuts * a.key_heads, threads, [&](int64_t task) {
    const int64_t first = task % cuts * size;
    Task(a, rows, shared, task / cuts, first, std::min(a.tokens(), first + size)).run(out);
  });
}

}  // namespace himakernels
