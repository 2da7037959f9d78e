// A tile of registers: rows of x times columns 16 wide, as float32, bfloat16 or 8-bit integers.
//
// Four bytes hold one, two or four numbers; products and attention are made of this tile alone.

#pragma once
#include <ATen/ATen.h>
#include <immintrin.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,fma")

using at::Tensor;
using Optional = std::optional<Tensor>;

namespace drivebyword {

// residual + kind(normalised(x) W' + bias), see products.cpp.
Tensor linear(const Tensor& x, const Tensor& packed, const Tensor& scale, const Optional& bias, const Optional& norm,
              double eps, int64_t precision, int64_t kind, int64_t columns, const Optional& residual);

}  // namespace drivebyword

namespace {

using drivebyword::linear;

enum Kind { PLAIN = 0, SILU = 1, GELU = 2 };
enum Precision { F32 = 4, BF16 = 2, I8 = 1 };  // bytes a number
constexpr int LANES = 16;

template <int P> struct Sum { using type = __m512; };
template <> struct Sum<I8> { using type = __m512i; };

template <int P> inline typename Sum<P>::type add(typename Sum<P>::type sum, __m512i weights, __m512i x) {
  if constexpr (P == F32) return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(weights), sum);
  if constexpr (P == BF16) return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)x);
  if constexpr (P == I8) {  // weights are stored with 128 added; GCC 12 moves registers about around the intrinsic
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
    return sum;
  }
}

// Rows of x (a group of four bytes at a time) times columns 16 wide; steps are bytes.
template <int P, int ROWS, int WIDE>
inline void tile(const char* x, long row_step, const char* w, long group_step, long column_step, long groups,
                 typename Sum<P>::type (&sum)[ROWS][WIDE]) {
  for (auto& row : sum)
    for (auto& one : row) std::memset(&one, 0, sizeof one);
  for (long k = 0; k < groups; ++k) {
    __m512i column[WIDE];
    for (int n = 0; n < WIDE; ++n) column[n] = _mm512_loadu_si512(w + k * group_step + n * column_step);
    for (int r = 0; r < ROWS; ++r) {
      int four;
      std::memcpy(&four, x + r * row_step + 4 * k, 4);
      const __m512i value = _mm512_set1_epi32(four);
      for (int n = 0; n < WIDE; ++n) sum[r][n] = add<P>(sum[r][n], column[n], value);
    }
  }
}

inline __m512 exponential(__m512 x) {  // Cephes' expf
  x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(88.0f)), _mm512_set1_ps(-200.0f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x));
  __m512 y = _mm512_set1_ps(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(c));
  y = _mm512_fmadd_ps(_mm512_mul_ps(y, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_scalef_ps(y, n);
}

inline __mmask16 first(long left) { return left >= LANES ? 0xFFFF : (1u << left) - 1; }

inline const float* data(const Optional& tensor) { return tensor ? tensor->const_data_ptr<float>() : nullptr; }

}  // namespace
