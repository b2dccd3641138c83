// Tiles of AMX: whether this process may use them, and a product of bf16 blocks in them.
#pragma once

#include <cstdint>

namespace himakernels {

// Asks the system for the state of the tiles once, for the whole process; false where CPU or system has none.
bool has_amx();

// The shapes of the tiles of this thread, for as long as this lives.
class AmxScope {
 public:
  explicit AmxScope(bool active);
  ~AmxScope();
  AmxScope(const AmxScope&) = delete;
  AmxScope& operator=(const AmxScope&) = delete;

 private:
  bool active_;
};

// c[0:32, 0:32] (+)= sum_k a[k, 0:32] b[k, 0:32] over `blocks` of 32 k, from panels made by pack_blocks(): a by line.
// Inside an AmxScope.
void tile_amx(int64_t blocks, const float* a, const float* b, float* c, int64_t ldc, bool accumulate);

}  // namespace himakernels
