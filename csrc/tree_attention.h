// Attention over a packed forest on the CPU, forward and backward, in fp32 for fp32, bf16 and fp16 operands.
//
// Memory is O(tokens): scores are made a panel of queries at a time. Every sum is one chain of multiply-adds in the
// order of the packed tokens, to which invisible tokens add exactly nothing: with finite inputs the bits of out, lse
// and dq depend only on what the query sees (a tree in a forest has the bits of the tree alone, a branch of a tree
// those of its path as a chain), the bits of dk and dv only on the key's tree, and nothing on the number of threads.
#pragma once

#include <cstdint>

#include "attention_layout.h"
#include "pack.h"

namespace himakernels {

// [tokens, heads, head_dim] with contiguous head_dim.
struct HeadsView {
  const void* data;
  int64_t token_stride, head_stride;  // in elements
};

struct TreeAttention {
  Forest forest;
  HeadsView q, k, v;  // of `dtype`
  DType dtype;
  int64_t query_heads, key_heads, head_dim;
  const float* sinks;    // [query_heads], or null
  float scale, softcap;  // softcap 0: none
  int threads;
};

// What the forward leaves of each query's softmax, [query_heads, tokens] each: the probability of a key is share times
// exp(score) / 2^level. The level is the reference of attention_rows.h; the share is 1 / the sum, the sink included. A
// single log-sum-exp has, where scores are large, too few digits for probabilities that add up to 1.
struct Softmax {
  float *level, *share;
};

// out [tokens, query_heads, head_dim] of `dtype`, contiguous.
void tree_attention_fwd(const TreeAttention& a, void* out, const Softmax& softmax);

// dq, dk, dv: contiguous, of `dtype`, or null if not wanted; dsinks [query_heads], or null.
struct TreeAttentionGrads {
  void *dq, *dk, *dv;
  float* dsinks;
};
// The row term of the softmax's gradient is summed from probabilities, not taken from out: out has been rounded.
void tree_attention_bwd(const TreeAttention& a, const HeadsView& dout, const Softmax& softmax,
                        const TreeAttentionGrads& grads);

}  // namespace himakernels
