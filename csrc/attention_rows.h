// What is done to a tile of attention scores, [keys][queries] with as many queries as the product's tile has columns:
// the softmax over keys runs down the tile, all queries side by side in vectors.
//
// Weights are kept as exp(score) / 2^reference with a whole number for each query, so that a change of reference is
// exact: a query's sums have the same bits wherever its keys are cut into blocks, and whatever masked keys lie between.
#pragma once

#include <cstdint>

namespace himakernels {

constexpr int kMaxQueries = 32;

// score = softcap * tanh(product * scale / softcap), or product * scale without a softcap (0).
struct ScoreRule {
  float scale, softcap;
  int32_t window;  // 0: none
};

struct QueryLanes {
  alignas(64) int32_t token[kMaxQueries];
  alignas(64) int32_t position[kMaxQueries];
};
struct KeySlots {
  const int32_t *token, *end, *position;
};

struct SoftmaxState {
  alignas(64) float reference[kMaxQueries];  // log2 of the unit in which sum and the weighted values are held
  alignas(64) float sum[kMaxQueries];
};

struct AttentionRows {
  // Products -> scores.
  void (*scores)(float* x, int64_t keys, const ScoreRule& rule);
  // x = value where the query does not see the key.
  void (*mask)(float* x, int64_t keys, float value, const KeySlots& slots, const QueryLanes& queries, int32_t window);
  // Raises the reference to the largest score; sum and values [rows][queries] follow.
  void (*raise)(const float* x, int64_t keys, SoftmaxState* state, float* values, int64_t rows);
  // Scores -> weights, added to the sum.
  void (*weights)(float* x, int64_t keys, SoftmaxState* state);
  // Products -> probabilities: the weights of the forward, bit by bit, times the share of the query; and unless it is
  // null the slope of the softcap.
  void (*probabilities)(float* x, float* slope, int64_t keys, const ScoreRule& rule, const float* reference,
                        const float* share);
  // delta += sum over keys of p * dp.
  void (*add_dots)(const float* p, const float* dp, int64_t keys, float* delta);
  // dp: gradients of probabilities -> of products, not yet times scale; no slope (null) is a slope of 1.
  void (*gradients)(const float* p, float* dp, const float* slope, int64_t keys, const float* delta);
};

// For tiles of `queries` columns.
AttentionRows pick_attention_rows(int64_t queries);

}  // namespace himakernels
