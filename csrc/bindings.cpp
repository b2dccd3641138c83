// The only file that knows pybind11: checks dtype, ndim and strides, releases the GIL, and calls the plain C++.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "gemm.h"
#include "half.h"
#include "logits.h"

namespace py = pybind11;

namespace himakernels {
namespace {

// numpy has no bf16, so half-precision tensors come as int16 views with the name of what the bits mean.
DType parse_dtype(const char* name, const py::array& array, const std::string& dtype) {
  const bool half = dtype == "bfloat16" || dtype == "float16";
  if (!half && dtype != "float32")
    throw py::type_error(std::string(name) + ": expected float32, bfloat16 or float16, got " + dtype);
  const py::dtype want = half ? py::dtype::of<int16_t>() : py::dtype::of<float>();
  if (!array.dtype().is(want))
    throw py::type_error(std::string(name) + ": expected an array of " + std::string(py::str(want)) + ", got " +
                         std::string(py::str(array.dtype())));
  return dtype == "bfloat16" ? DType::kBFloat16 : dtype == "float16" ? DType::kFloat16 : DType::kFloat32;
}

MatrixView matrix(const char* name, const py::array& array, const std::string& dtype) {
  if (array.ndim() != 2)
    throw py::value_error(std::string(name) + ": expected 2 dimensions, got " + std::to_string(array.ndim()));
  const DType kind = parse_dtype(name, array, dtype);
  const py::ssize_t size = array.itemsize();
  return {const_cast<void*>(array.data()), kind, array.shape(0), array.shape(1), array.strides(0) / size,
          array.strides(1) / size};
}

void bind_gemm(py::module_& m) {
  m.def(
      "gemm",
      [](const py::array& a, const std::string& a_dtype, const py::array& b, const std::string& b_dtype,
         const py::array& c, const std::string& c_dtype, bool accumulate, int threads) {
        const MatrixView va = matrix("a", a, a_dtype), vb = matrix("b", b, b_dtype), vc = matrix("c", c, c_dtype);
        if (va.cols != vb.rows || va.rows != vc.rows || vb.cols != vc.cols)
          throw py::value_error("gemm: the shapes of a, b and c do not fit");
        if (vc.col_stride != 1 && vc.cols > 1) throw py::value_error("c: expected contiguous rows");
        py::gil_scoped_release release;
        gemm(va, vb, vc, accumulate, threads);
      },
      py::arg("a"), py::arg("a_dtype"), py::arg("b"), py::arg("b_dtype"), py::arg("c"), py::arg("c_dtype"),
      py::arg("accumulate"), py::arg("threads"));
}

template <class S>
using Vector = py::array_t<S, py::array::c_style>;

template <class S>
const S* vector(const char* name, const Vector<S>& array, py::ssize_t size) {
  if (array.ndim() != 1 || array.shape(0) != size)
    throw py::value_error(std::string(name) + ": expected shape [" + std::to_string(size) + "]");
  return array.data();
}

// Rows of a 2-D array whose last dimension is contiguous.
template <class T>
T* rows(const char* name, const py::array& array) {
  if (array.ndim() != 2) throw py::value_error(std::string(name) + ": expected 2 dimensions");
  if (array.itemsize() != sizeof(T)) throw py::type_error(std::string(name) + ": element size does not fit the dtype");
  if (array.strides(1) != sizeof(T) && array.shape(1) > 1)
    throw py::value_error(std::string(name) + ": expected contiguous rows");
  return static_cast<T*>(const_cast<void*>(array.data()));
}

template <class T, class S>
void stats(const py::array& logits, const Vector<int64_t>& labels, double inv_temperature, double softcap,
           Vector<S>& logprobs, Vector<S>& lse, Vector<S>& entropy, int threads) {
  const T* x = rows<T>("logits", logits);
  const py::ssize_t n = logits.shape(0);
  const int64_t* y = vector("labels", labels, n);
  vector("logprobs", logprobs, n), vector("lse", lse, n), vector("entropy", entropy, n);
  S *out = logprobs.mutable_data(), *out_lse = lse.mutable_data(), *out_entropy = entropy.mutable_data();
  const int64_t stride = logits.strides(0) / static_cast<py::ssize_t>(sizeof(T)), vocab = logits.shape(1);
  py::gil_scoped_release release;
  logits_stats<T, S>(x, stride, n, vocab, y, {inv_temperature, softcap}, out, out_lse, out_entropy, threads);
}

template <class T, class S>
void grad(const py::array& logits, const py::array& dlogits, const Vector<int64_t>& source,
          const Vector<int64_t>& target, const Vector<int64_t>& labels, double inv_temperature, double softcap,
          const Vector<S>& logprobs, const Vector<S>& lse, const Vector<S>& entropy, const Vector<S>& coef,
          const Vector<S>& coef_entropy, int threads) {
  const T* x = rows<T>("logits", logits);
  T* dx = rows<T>("dlogits", dlogits);
  const py::ssize_t n = logits.shape(0), count = source.shape(0), size = sizeof(T);
  const int64_t *from = vector("source", source, count), *to = vector("target", target, count);
  const int64_t* y = vector("labels", labels, n);
  const S *lp = vector("logprobs", logprobs, n), *z = vector("lse", lse, n), *h = vector("entropy", entropy, n);
  const S *c = vector("coef", coef, n), *ce = vector("coef_entropy", coef_entropy, n);
  const int64_t stride = logits.strides(0) / size, out_stride = dlogits.strides(0) / size, vocab = logits.shape(1);
  py::gil_scoped_release release;
  logits_grad<T, S>(x, stride, dx, out_stride, vocab, from, to, count, y, {inv_temperature, softcap}, lp, z, h, c, ce,
                    threads);
}

template <class S, class... Types>
void bind_logits_for(py::module_& m) {
  (m.def((std::string("logits_stats_") + Types::name).c_str(), &stats<typename Types::T, S>, py::arg("logits"),
         py::arg("labels").noconvert(), py::arg("inv_temperature"), py::arg("softcap"), py::arg("logprobs").noconvert(),
         py::arg("lse").noconvert(), py::arg("entropy").noconvert(), py::arg("threads")),
   ...);
  (m.def((std::string("logits_grad_") + Types::name).c_str(), &grad<typename Types::T, S>, py::arg("logits"),
         py::arg("dlogits"), py::arg("source").noconvert(), py::arg("target").noconvert(),
         py::arg("labels").noconvert(), py::arg("inv_temperature"), py::arg("softcap"), py::arg("logprobs").noconvert(),
         py::arg("lse").noconvert(), py::arg("entropy").noconvert(), py::arg("coef").noconvert(),
         py::arg("coef_entropy").noconvert(), py::arg("threads")),
   ...);
}

struct Float32Name {
  typedef float T;
  static constexpr const char* name = "float32";
};
struct Float64Name {
  typedef double T;
  static constexpr const char* name = "float64";
};
struct BFloat16Name {
  typedef BFloat16 T;
  static constexpr const char* name = "bfloat16";
};
struct Float16Name {
  typedef Float16 T;
  static constexpr const char* name = "float16";
};

}  // namespace
}  // namespace himakernels

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ CPU route of himakernels.";
  himakernels::bind_gemm(m);
  himakernels::bind_logits_for<float, himakernels::Float32Name, himakernels::BFloat16Name, himakernels::Float16Name>(m);
  himakernels::bind_logits_for<double, himakernels::Float64Name>(m);
}
