// The widest vectors of the target, and how many vectors wide a tile of a matrix product is so that its sums stay in registers.

#pragma once

#include <cstdint>

#if defined(__AVX512F__)  // 32 registers
#define MACE_TP_VECTOR_BYTES 64
#define MACE_TP_TILE_VECTORS 4
#elif defined(__AVX__)  // 16 registers
#define MACE_TP_VECTOR_BYTES 32
#define MACE_TP_TILE_VECTORS 2
#elif defined(__aarch64__)  // 32 registers
#define MACE_TP_VECTOR_BYTES 16
#define MACE_TP_TILE_VECTORS 4
#else
#define MACE_TP_VECTOR_BYTES 16
#define MACE_TP_TILE_VECTORS 2
#endif

template <typename T>
struct Vector {
  typedef T type __attribute__((vector_size(MACE_TP_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int64_t lanes = MACE_TP_VECTOR_BYTES / sizeof(T);
};
