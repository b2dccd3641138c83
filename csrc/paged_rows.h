// What paged attention does to a panel of keys, for a few queries at a time: scores lie as [queries][keys], keys side
// by side in vectors. Sums are the chains of attention_rows.h, term by term, so that a query has the same bits here as
// there.
#pragma once

#include <cstdint>

#include "attention_rows.h"

namespace himakernels {

constexpr int64_t kPanelKeys = 16;   // keys to a panel
constexpr int64_t kGroupPanels = 4;  // panels whose scores are made together
constexpr int64_t kTileQueries = 8;  // queries at most to a call
constexpr int64_t kScoreStride = kPanelKeys * kGroupPanels;

struct PagedRows {
  // x[i][0:16] = q[i] . keys, for q [queries][head_dim] and a panel [head_dim][16].
  void (*products)(int64_t queries, const float* q, int64_t head_dim, const float* panel, float* x);
  // A query's products over `keys` keys (a multiple of 16), of which it sees [first, last), not none -> weights, 0 for
  // the others. Raises the reference to the largest score; sum and values [width] follow.
  void (*weights)(float* x, int64_t keys, int64_t first, int64_t last, const ScoreRule& rule, float* reference,
                  float* sum, float* values, int64_t width);
  // values[i] += sum over keys of x[i][key] v[key], sum[i] += sum of x[i][key]. v: [keys] rows of `width`, a multiple
  // of 16; values [queries][width].
  void (*add_values)(int64_t queries, const float* x, int64_t keys, const float* v, int64_t v_stride, int64_t width,
                     float* values, float* sum);
};

PagedRows pick_paged_rows();

}  // namespace himakernels
