#include "amx.h"

#include <stdexcept>

// GCC knows AMX from version 11 on, Clang from 12.
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define HIMA_AMX __attribute__((target("avx512f,amx-tile,amx-bf16")))
#endif

namespace himakernels {

#ifdef HIMA_AMX
namespace {

bool ask() {
  if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512bw")) return false;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;  // of EDX, leaf 7
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & kBf16) == 0 || (edx & kTile) == 0) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

struct alignas(64) Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

const Config kConfig;  // in memory as a whole: the compiler sees the instruction read eight bytes of it only
HIMA_AMX void configure() { _tile_loadconfig(&kConfig); }
HIMA_AMX void release() { _tile_release(); }

}  // namespace

bool has_amx() {
  static const bool has = ask();
  return has;
}

AmxScope::AmxScope(bool active) : active_(active) {
  if (active_) configure();
}
AmxScope::~AmxScope() {
  if (active_) release();
}

HIMA_AMX void tile_amx(int64_t blocks, const float* a, const float* b, float* c, int64_t ldc, bool accumulate) {
  constexpr int64_t kBlock = 32 * 16, kHalf = 16 * 16;  // words
  const int64_t stride = ldc * static_cast<int64_t>(sizeof *c);
  float *c0 = c, *c1 = c + 16 * ldc;
  if (accumulate) {
    _tile_loadd(0, c0, stride);
    _tile_loadd(1, c0 + 16, stride);
    _tile_loadd(2, c1, stride);
    _tile_loadd(3, c1 + 16, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < blocks; ++k, a += kBlock, b += kBlock) {
    _tile_loadd(6, b, 128);
    _tile_loadd(4, a, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 16, 128);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + kHalf, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c0, stride);
  _tile_stored(1, c0 + 16, stride);
  _tile_stored(2, c1, stride);
  _tile_stored(3, c1 + 16, stride);
}

#else
bool has_amx() { return false; }
AmxScope::AmxScope(bool active) : active_(active) {}
AmxScope::~AmxScope() = default;
void tile_amx(int64_t, const float*, const float*, float*, int64_t, bool) {
  throw std::invalid_argument("gemm: this CPU has no AMX");
}
#endif

}  // namespace himakernels
