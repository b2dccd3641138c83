// Attention of sequences' newest tokens over keys and values in blocks, forward, in fp32 for fp32, bf16 and fp16
// operands.
//
// Neighbouring sequences whose block tables begin alike meet the keys there once, all their queries together. A query
// goes on with its own keys in the same softmax. Its bits depend on what it sees alone, not on what it shares with
// whom, on where blocks lie, or on the number of threads; they are those of tree_attention on the same path.
#pragma once

#include <cstdint>

#include "pack.h"
#include "tree_attention.h"

namespace himakernels {

// [blocks, block_size, heads, head_dim] with contiguous head_dim; strides in elements.
struct BlocksView {
  const void* data;
  int64_t block_stride, token_stride, head_stride;
};

struct PagedAttention {
  HeadsView q;  // [cu_seqlens[sequences]]
  BlocksView keys, values;
  DType dtype;
  int64_t sequences, query_heads, key_heads, head_dim;
  int64_t blocks, block_size, table_width;
  const int32_t* block_table;  // [sequences, table_width]
  const int32_t* cu_seqlens;   // [sequences + 1]: the queries of each
  const int32_t* seq_lens;     // [sequences]: its keys, of which the last are its queries' own
  const float* sinks;          // [query_heads], or null
  float scale, softcap;        // softcap 0: none
  int32_t window;              // 0: none
  int threads;

  int64_t tokens() const { return cu_seqlens[sequences]; }
};

// Throws std::invalid_argument unless lengths and the blocks that they reach fit each other.
void check_paged(const PagedAttention& a);

// out [tokens, query_heads, head_dim] of `dtype`, contiguous.
void paged_attention(const PagedAttention& a, void* out);

}  // namespace himakernels
