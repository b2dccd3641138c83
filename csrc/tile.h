// The register tile of a matrix product, for the instruction set that runs.
#pragma once

#include <cstdint>

namespace himakernels {

// c[0:mr, 0:nr] (+)= sum_k a[k, 0:mr] b[k, 0:nr], from packed panels; of fp32 operands one chain of multiply-adds an
// element, k ascending, of bf16 operands the instruction's own sums of pairs (AVX512-BF16) or of blocks (AMX).
using TileFn = void (*)(int64_t k, const float* a, const float* b, float* c, int64_t ldc, bool accumulate);

// How the operands are packed: as fp32; as pairs of bf16 along k; as blocks of such pairs (pack_blocks.h).
enum class Packing { kFloats, kPairs, kBlocks };

struct Tile {
  int64_t mr, nr;
  TileFn run;
  Packing packing;
  int64_t step_k;   // k of one step of `run`
  int64_t block_k;  // k of a block of a product
  // fp32 products only. As run, but with `accumulate` the chain goes on from c instead of being added to it: k cut into
  // calls anywhere has the bits of one call, and steps whose product is zero can be left out.
  TileFn chain;
  // As chain, with a as another tile's c: element (i, k) at a[i * nr + k], k <= nr.
  TileFn chain_rows;
};

Tile pick_tile(bool bf16_products);

// bf16 products (operands rounded to bf16, pairs summed in fp32) exist where AVX512-BF16 or AMX does. They pay in the
// tiles of AMX, and where one of AVX512-BF16 takes as long as an fp32 multiply-add of the same width (AMD Zen 4 on); on
// Intel it takes four times as long (measured).
bool has_bf16_products();
bool bf16_products_pay();

}  // namespace himakernels
