#include "logits.h"
#include "python.h"

namespace himakernels {
namespace {

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

template <class T, class D, class S>
void grad(const py::array& logits, const py::array& dlogits, const Vector<int64_t>& source,
          const Vector<int64_t>& target, const Vector<int64_t>& labels, double inv_temperature, double softcap,
          const Vector<S>& logprobs, const Vector<S>& lse, const Vector<S>& entropy, const Vector<S>& coef,
          const Vector<S>& coef_entropy, int threads) {
  const T* x = rows<T>("logits", logits);
  D* dx = rows<D>("dlogits", dlogits);
  const py::ssize_t n = logits.shape(0), count = source.shape(0);
  if (dlogits.shape(1) != logits.shape(1)) throw py::value_error("dlogits: expected as many columns as logits");
  const int64_t* from = indices("source", source, count, n, false);
  const int64_t* to = indices("target", target, count, dlogits.shape(0), false);
  const int64_t* y = indices("labels", labels, n, logits.shape(1), true);
  check_writeable("dlogits", dlogits);
  check_threads(threads);
  const S *lp = vector("logprobs", logprobs, n), *z = vector("lse", lse, n), *h = vector("entropy", entropy, n);
  const S *c = vector("coef", coef, n), *ce = vector("coef_entropy", coef_entropy, n);
  const int64_t stride = logits.strides(0) / static_cast<py::ssize_t>(sizeof(T)),
                out_stride = dlogits.strides(0) / static_cast<py::ssize_t>(sizeof(D)), vocab = logits.shape(1);
  py::gil_scoped_release release;
  logits_grad<T, D, S>(x, stride, dx, out_stride, vocab, from, to, count, y, {inv_temperature, softcap}, lp, z, h, c,
                       ce, threads);
}

template <class S, class Type, class Into>
void bind_grad(py::module_& m, const std::string& name) {
  m.def(name.c_str(), &grad<typename Type::T, typename Into::T, S>, py::arg("logits"), py::arg("dlogits"),
        py::arg("source").noconvert(), py::arg("target").noconvert(), py::arg("labels").noconvert(),
        py::arg("inv_temperature"), py::arg("softcap"), py::arg("logprobs").noconvert(), py::arg("lse").noconvert(),
        py::arg("entropy").noconvert(), py::arg("coef").noconvert(), py::arg("coef_entropy").noconvert(),
        py::arg("threads"));
}

template <class S, class Type>
void bind_logits_of(py::module_& m) {
  m.def((std::string("logits_stats_") + Type::name).c_str(), &stats<typename Type::T, S>, py::arg("logits"),
        py::arg("labels").noconvert(), py::arg("inv_temperature"), py::arg("softcap"), py::arg("logprobs").noconvert(),
        py::arg("lse").noconvert(), py::arg("entropy").noconvert(), py::arg("threads"));
  bind_grad<S, Type, Type>(m, std::string("logits_grad_") + Type::name);
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

void bind_logits(py::module_& m) {
  bind_logits_of<float, Float32Name>(m);
  bind_logits_of<float, BFloat16Name>(m);
  bind_logits_of<float, Float16Name>(m);
  bind_logits_of<double, Float64Name>(m);
  bind_grad<float, Float32Name, BFloat16Name>(m, "logits_grad_float32_to_bfloat16");
}

}  // namespace himakernels
