// himakernels._core. Only bind_*.cpp and this file know Python: they check what they are handed, release the GIL and
// call one function.
#include "fork_safety.h"
#include "python.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ CPU route of himakernels.";
  himakernels::watch_forks();
  himakernels::bind_group_advantages(m);
  himakernels::bind_gemm(m);
  himakernels::bind_logits(m);
  himakernels::bind_paged_attention(m);
  himakernels::bind_prefix_cache(m);
  himakernels::bind_token_trie(m);
  himakernels::bind_tree_attention(m);
}
