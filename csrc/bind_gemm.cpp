#include "gemm.h"
#include "huge_pages.h"
#include "python.h"
#include "tile.h"

namespace himakernels {
namespace {

MatrixView matrix(const char* name, const py::array& array, const std::string& dtype) {
  if (array.ndim() != 2)
    throw py::value_error(std::string(name) + ": expected 2 dimensions, got " + std::to_string(array.ndim()));
  const DType kind = parse_dtype(name, array, dtype);
  const py::ssize_t size = array.itemsize();
  return {const_cast<void*>(array.data()), kind, array.shape(0), array.shape(1), array.strides(0) / size,
          array.strides(1) / size};
}

}  // namespace

void bind_gemm(py::module_& m) {
  m.def(
      "gemm",
      [](const py::array& a, const std::string& a_dtype, const py::array& b, const std::string& b_dtype,
         const py::array& c, const std::string& c_dtype, bool accumulate, int threads, bool bf16_products) {
        const MatrixView va = matrix("a", a, a_dtype), vb = matrix("b", b, b_dtype), vc = matrix("c", c, c_dtype);
        if (va.cols != vb.rows || va.rows != vc.rows || vb.cols != vc.cols)
          throw py::value_error("gemm: the shapes of a, b and c do not fit");
        if (vc.col_stride != 1 && vc.rows > 0 && vc.cols > 1) throw py::value_error("c: expected contiguous rows");
        if (vc.dtype == DType::kFloat16) throw py::type_error("c: expected float32 or bfloat16, got float16");
        check_writeable("c", c);
        check_threads(threads);
        py::gil_scoped_release release;
        gemm(va, vb, vc, accumulate, bf16_products, threads);
      },
      py::arg("a"), py::arg("a_dtype"), py::arg("b"), py::arg("b_dtype"), py::arg("c"), py::arg("c_dtype"),
      py::arg("accumulate"), py::arg("threads"), py::arg("bf16_products") = false);
  m.def("has_bf16_products", &has_bf16_products);
  m.def("bf16_products_pay", &bf16_products_pay);
  m.def("prefer_huge_pages", &prefer_huge_pages, py::arg("address"), py::arg("bytes"));
}

}  // namespace himakernels
