// Dense matrix product on the CPU: C (+)= A B for fp32, bf16 and fp16 operands, with fp32 sums and, unless bf16
// products are asked for, fp32 products.
//
// Every element of C is a sum over k in an order of its own, the same for all elements, cut into blocks whose length
// depends on K alone. So a row of C has the same bits whatever other rows are computed with it, and for any number of
// threads.
#pragma once

#include <cstdint>

#include "pack.h"

namespace himakernels {

// A 2-D operand anywhere in memory: element (i, j) is data[i * row_stride + j * col_stride].
struct MatrixView {
  void* data;
  DType dtype;
  int64_t rows, cols, row_stride, col_stride;
};

// C is fp32, or bf16 with accumulate = false and K <= kMaxSingleBlock; its col_stride is 1.
constexpr int64_t kMaxSingleBlock = 1024;
void gemm(const MatrixView& a, const MatrixView& b, const MatrixView& c, bool accumulate, bool bf16_products,
          int threads);

}  // namespace himakernels
