// himakernels._core: the only file that knows Python. Checks what it is handed, releases the GIL, calls one function.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "gemm.h"
#include "group_advantages.h"
#include "half.h"
#include "huge_pages.h"
#include "logits.h"

namespace py = pybind11;

namespace {

using himakernels::Column;

[[noreturn]] void bad_type(const char* name, const char* expected, const py::array& got) {
  throw py::type_error(std::string(name) + ": expected dtype " + expected + ", got " +
                       std::string(py::str(got.dtype())));
}

template <class T>
bool holds(const py::array& a) {
  return py::isinstance<py::array_t<T>>(a);
}

void check_shape(const char* name, const py::array& a, const std::vector<int64_t>& expected) {
  bool fits = a.ndim() == static_cast<int64_t>(expected.size());
  for (size_t d = 0; fits && d < expected.size(); ++d) fits = a.shape(d) == expected[d];
  if (fits) return;
  std::string want, got;
  for (int64_t n : expected) want += (want.empty() ? "" : ", ") + std::to_string(n);
  for (py::ssize_t d = 0; d < a.ndim(); ++d) got += (d ? ", " : "") + std::to_string(a.shape(d));
  throw py::value_error(std::string(name) + ": expected shape [" + want + "], got [" + got + "]");
}

template <class T>
Column<T> column(const py::array& a, int64_t offset_bytes, py::ssize_t axis) {
  const int64_t stride = a.strides(axis);
  return {reinterpret_cast<const T*>(static_cast<const char*>(a.data()) + offset_bytes),
          stride / static_cast<int64_t>(sizeof(T))};
}

// ---------------------------------------------------------------------------------------------- group_advantages

himakernels::Normalize parse_normalize(const std::string& name) {
  if (name == "std") return himakernels::Normalize::kStd;
  if (name == "mean") return himakernels::Normalize::kMean;
  if (name == "leave_one_out") return himakernels::Normalize::kLeaveOneOut;
  if (name == "none") return himakernels::Normalize::kNone;
  throw py::value_error("normalize: expected one of 'std', 'mean', 'leave_one_out', 'none', got '" + name + "'");
}

template <class Real, class Id>
py::tuple run_group_advantages(const py::array& rewards, const py::array& group_id, const std::vector<double>& weights,
                               int64_t groups, const himakernels::GroupAdvantagesOptions& options) {
  const int64_t samples = rewards.shape(0);
  std::vector<Column<Real>> columns;
  for (size_t m = 0; m < weights.size(); ++m) {
    const int64_t offset = rewards.ndim() == 1 ? 0 : static_cast<int64_t>(m) * rewards.strides(1);
    columns.push_back(column<Real>(rewards, offset, 0));
  }
  const Column<Id> ids = column<Id>(group_id, 0, 0);
  py::array_t<Real> advantages(samples), mean(groups), variance(groups);
  py::array_t<int64_t> count(groups);
  const himakernels::GroupAdvantagesOutput<Real> out{advantages.mutable_data(), count.mutable_data(),
                                                     mean.mutable_data(), variance.mutable_data()};
  {
    py::gil_scoped_release release;
    himakernels::group_advantages<Real, Id>(columns, weights, ids, samples, groups, options, out);
  }
  return py::make_tuple(advantages, count, mean, variance);
}

template <class Real>
py::tuple group_advantages_as(const py::array& rewards, const py::array& group_id, const std::vector<double>& weights,
                              int64_t groups, const himakernels::GroupAdvantagesOptions& options) {
  if (holds<int64_t>(group_id)) return run_group_advantages<Real, int64_t>(rewards, group_id, weights, groups, options);
  if (holds<int32_t>(group_id)) return run_group_advantages<Real, int32_t>(rewards, group_id, weights, groups, options);
  bad_type("group_id", "int32 or int64", group_id);
}

py::tuple group_advantages(const py::array& rewards, const py::array& group_id, int64_t num_groups,
                           const py::object& weights, const std::string& normalize, double eps, bool normalize_then_sum,
                           bool scale_by_batch_std, int threads) {
  if (rewards.ndim() != 1 && rewards.ndim() != 2) {
    throw py::value_error("rewards: expected 1 or 2 dimensions, got " + std::to_string(rewards.ndim()));
  }
  if (num_groups < 0) throw py::value_error("num_groups: expected a number >= 0, got " + std::to_string(num_groups));
  const int64_t num_columns = rewards.ndim() == 1 ? 1 : rewards.shape(1);
  check_shape("group_id", group_id, {rewards.shape(0)});
  std::vector<double> weight(num_columns, 1.0);
  if (!weights.is_none()) {
    if (!py::isinstance<py::array_t<double>>(weights)) {
      throw py::type_error("weights: expected a float64 array or None, got " +
                           std::string(py::str(py::type::of(weights))));
    }
    const py::array array = py::reinterpret_borrow<py::array>(weights);
    check_shape("weights", array, {num_columns});
    const Column<double> w = column<double>(array, 0, 0);
    for (int64_t m = 0; m < num_columns; ++m) weight[m] = w[m];
  }
  himakernels::GroupAdvantagesOptions options;
  options.normalize = parse_normalize(normalize);
  options.eps = eps;
  options.normalize_then_sum = normalize_then_sum;
  options.scale_by_batch_std = scale_by_batch_std;
  options.threads = threads;
  if (holds<float>(rewards)) return group_advantages_as<float>(rewards, group_id, weight, num_groups, options);
  if (holds<double>(rewards)) return group_advantages_as<double>(rewards, group_id, weight, num_groups, options);
  bad_type("rewards", "float32 or float64", rewards);
}

void bind_group_advantages(py::module_& m) {
  m.def("group_advantages", &group_advantages, py::arg("rewards"), py::arg("group_id"), py::arg("num_groups"),
        py::arg("weights"), py::arg("normalize"), py::arg("eps"), py::arg("normalize_then_sum"),
        py::arg("scale_by_batch_std"), py::arg("threads"), "-> advantages [S], count [n], mean [n], variance [n].");
}

using namespace himakernels;  // NOLINT: this file is the seam between the two worlds

// ------------------------------------------------------------------------------------------------------- gemm

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

void check_writeable(const char* name, const py::array& array) {
  if (!array.writeable()) throw py::value_error(std::string(name) + ": expected a writeable array");
}

void check_threads(int threads) {
  if (threads < 1) throw py::value_error("threads: expected a number >= 1, got " + std::to_string(threads));
}

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

// -------------------------------------------------------------------------------------------- logits_stats,
// logits_grad

template <class S>
using Vector = py::array_t<S, py::array::c_style>;

template <class S>
const S* vector(const char* name, const Vector<S>& array, py::ssize_t size) {
  if (array.ndim() != 1 || array.shape(0) != size)
    throw py::value_error(std::string(name) + ": expected shape [" + std::to_string(size) + "]");
  return array.data();
}

// Ids that are used as addresses: each in [0, size), or, for labels, kIgnoreLabel.
const int64_t* indices(const char* name, const Vector<int64_t>& array, py::ssize_t count, int64_t size, bool labels) {
  const int64_t* ids = vector(name, array, count);
  for (py::ssize_t i = 0; i < count; ++i)
    if ((ids[i] < 0 || ids[i] >= size) && !(labels && ids[i] == kIgnoreLabel))
      throw py::value_error(std::string(name) + ": expected values in [0, " + std::to_string(size) + "), got " +
                            std::to_string(ids[i]) + " at index " + std::to_string(i));
  return ids;
}

// Rows of a 2-D array whose last dimension is contiguous.
template <class T>
T* rows(const char* name, const py::array& array) {
  if (array.ndim() != 2) throw py::value_error(std::string(name) + ": expected 2 dimensions");
  if (array.itemsize() != sizeof(T)) throw py::type_error(std::string(name) + ": element size does not fit the dtype");
  if (array.strides(1) != sizeof(T) && array.shape(0) > 0 && array.shape(1) > 1)
    throw py::value_error(std::string(name) + ": expected contiguous rows");
  return static_cast<T*>(const_cast<void*>(array.data()));
}

template <class T, class S>
void stats(const py::array& logits, const Vector<int64_t>& labels, double inv_temperature, double softcap,
           Vector<S>& logprobs, Vector<S>& lse, Vector<S>& entropy, int threads) {
  const T* x = rows<T>("logits", logits);
  const py::ssize_t n = logits.shape(0);
  const int64_t* y = indices("labels", labels, n, logits.shape(1), true);
  check_threads(threads);
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
  if (dlogits.shape(1) != logits.shape(1)) throw py::value_error("dlogits: expected as many columns as logits");
  const int64_t* from = indices("source", source, count, n, false);
  const int64_t* to = indices("target", target, count, dlogits.shape(0), false);
  const int64_t* y = indices("labels", labels, n, logits.shape(1), true);
  check_writeable("dlogits", dlogits);
  check_threads(threads);
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

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ CPU route of himakernels.";
  bind_group_advantages(m);
  bind_gemm(m);
  bind_logits_for<float, Float32Name, BFloat16Name, Float16Name>(m);
  bind_logits_for<double, Float64Name>(m);
}
