// Matrix products, rotary positions and attention of a few hundred tokens on one core with AVX-512.
//
// In: float32 tensors, and weights as `kernels.pack` lays them out. Out: float32 tensors. Weights and activations are
// multiplied as float32, bfloat16 or 8-bit integers: four bytes hold one, two or four numbers, and one tile of
// registers serves all three, and attention too. In 8 bits every row of the activations has a scale of its own, so
// what is computed of a token never hangs on others. `kernels` says the same in PyTorch.

#include <ATen/ATen.h>
#include <immintrin.h>
#include <torch/library.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,fma")

namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

enum Precision { F32 = 4, BF16 = 2, I8 = 1 };  // bytes a number
enum Kind { PLAIN = 0, SILU = 1, GELU = 2 };
constexpr int LANES = 16;

// ------------------------------------------------------------------ a tile of registers

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

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

inline __m512 gelu(__m512 x) {  // the tanh form: x * sigmoid(2 u)
  const __m512 cube = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1.0f));
  return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(_mm512_mul_ps(x, cube), _mm512_set1_ps(1.5957691216f))));
}

inline __mmask16 first(long left) { return left >= LANES ? 0xFFFF : (1u << left) - 1; }

// ------------------------------------------------------------------ linear

struct Row {
  float scale;
  float sum;  // of the quantised numbers, 128 times: what the 128 added to the weights adds
};

// Normalise a row if there is a weight for it, and write it as the product wants it.
template <int P> Row enter(const float* x, const float* norm, float eps, long width, char* out) {
  float factor = 1.0f;
  if (norm) {
    __m512 squares = _mm512_setzero_ps();
    for (long i = 0; i < width; i += LANES) {
      const __m512 v = _mm512_maskz_loadu_ps(first(width - i), x + i);
      squares = _mm512_fmadd_ps(v, v, squares);
    }
    factor = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / width + eps);
  }
  const auto at = [&](long i) {
    const __mmask16 there = first(width - i);
    const __m512 v = _mm512_maskz_loadu_ps(there, x + i);
    return norm ? _mm512_mul_ps(_mm512_mul_ps(v, _mm512_set1_ps(factor)), _mm512_maskz_loadu_ps(there, norm + i)) : v;
  };
  Row row{1.0f, 0.0f};
  __m512 scale = _mm512_set1_ps(1.0f);
  __m512i total = _mm512_setzero_si512();
  if constexpr (P == I8) {
    __m512 most = _mm512_setzero_ps();
    for (long i = 0; i < width; i += LANES) most = _mm512_max_ps(most, _mm512_abs_ps(at(i)));
    const float largest = _mm512_reduce_max_ps(most);
    row.scale = largest / 127.0f;
    scale = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
  }
  for (long i = 0; i < width; i += LANES) {
    const __m512 v = at(i);
    if constexpr (P == F32) _mm512_storeu_ps(out + 4 * i, v);
    if constexpr (P == BF16) _mm256_storeu_si256((__m256i*)(out + 2 * i), (__m256i)_mm512_cvtneps_pbh(v));
    if constexpr (P == I8) {
      const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v, scale));
      total = _mm512_add_epi32(total, q);
      _mm_storeu_si128((__m128i*)(out + i), _mm512_cvtsepi32_epi8(q));
    }
  }
  if constexpr (P == I8) row.sum = 128.0f * _mm512_reduce_add_epi32(total);
  return row;
}

struct Job {
  const char* x;
  const Row* rows;
  const char* w;
  const float *scale, *bias, *residual;
  float* out;
  long groups, row_step, wide, out_wide;
  int kind;
};

template <int P, int ROWS, int WIDE> void finish(const Job& job, long row, long block) {
  typename Sum<P>::type sum[ROWS][WIDE];
  tile<P, ROWS, WIDE>(job.x + row * job.row_step, job.row_step, job.w + block * job.groups * 64, 64, job.groups * 64,
                      job.groups, sum);
  for (int r = 0; r < ROWS; ++r) {
    __m512 value[WIDE];
    for (int n = 0; n < WIDE; ++n) {
      const long column = (block + n) * LANES;
      const Row& from = job.rows[row + r];
      if constexpr (P == I8) {
        value[n] = _mm512_sub_ps(_mm512_cvtepi32_ps(sum[r][n]), _mm512_set1_ps(from.sum));
        value[n] = _mm512_mul_ps(value[n], _mm512_mul_ps(_mm512_loadu_ps(job.scale + column), _mm512_set1_ps(from.scale)));
      } else {
        value[n] = sum[r][n];
      }
      if (job.bias) value[n] = _mm512_add_ps(value[n], _mm512_loadu_ps(job.bias + column));
      if (job.kind == GELU) value[n] = gelu(value[n]);
    }
    const int step = job.kind == SILU ? 2 : 1;  // gates and ups lie side by side
    for (int n = 0; n < WIDE; n += step) {
      __m512 y = value[n];
      if (step == 2) y = _mm512_mul_ps(_mm512_mul_ps(y, sigmoid(y)), value[n + (WIDE > 1)]);
      const long column = (block + n) / step * LANES, at = (row + r) * job.out_wide + column;
      const __mmask16 there = first(job.out_wide - column);
      if (job.residual) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(there, job.residual + at));
      _mm512_mask_storeu_ps(job.out + at, there, y);
    }
  }
}

template <int P, int WIDE> void column(const Job& job, long rows, long block) {
  long row = 0;
  for (; row + 6 <= rows; row += 6) finish<P, 6, WIDE>(job, row, block);
  for (; row + 2 <= rows; row += 2) finish<P, 2, WIDE>(job, row, block);
  for (; row < rows; ++row) finish<P, 1, WIDE>(job, row, block);
}

template <int P> void product(Job job, const float* x, const float* norm, float eps, long rows, long width) {
  static thread_local std::vector<char> buffer;
  static thread_local std::vector<Row> about;
  const long padded = (width + LANES - 1) / LANES * LANES;
  buffer.resize(rows * padded * P);
  about.resize(rows);
  for (long r = 0; r < rows; ++r) about[r] = enter<P>(x + r * width, norm, eps, width, buffer.data() + r * padded * P);
  job.x = buffer.data(), job.rows = about.data(), job.row_step = padded * P;
  long block = 0;
  for (; block + 4 <= job.wide; block += 4) column<P, 4>(job, rows, block);
  for (; block + 2 <= job.wide; block += 2) column<P, 2>(job, rows, block);
  for (; block < job.wide; ++block) column<P, 1>(job, rows, block);
}

const float* data(const Optional& tensor) { return tensor ? tensor->const_data_ptr<float>() : nullptr; }

Tensor linear(const Tensor& given, const Tensor& packed, const Tensor& scale, const Optional& bias,
              const Optional& norm, double eps, int64_t precision, int64_t kind, int64_t columns,
              const Optional& residual) {
  const Tensor x = given.contiguous();
  TORCH_CHECK(x.scalar_type() == at::kFloat && (!residual || residual->is_contiguous()), "linear wants float32");
  const long width = x.size(-1), rows = x.numel() / std::max(width, 1L);
  TORCH_CHECK(packed.size(1) == (width * precision + 3) / 4, "linear: ", width, " wide input for other weights");
  auto sizes = x.sizes().vec();
  sizes.back() = columns;
  Tensor out = at::empty(sizes, x.options());
  Job job{nullptr, nullptr, (const char*)packed.const_data_ptr(), scale.const_data_ptr<float>(), data(bias),
          data(residual), out.mutable_data_ptr<float>(), packed.size(1), 0, packed.size(0), columns, (int)kind};
  const auto run = precision == I8 ? product<I8> : precision == BF16 ? product<BF16> : product<F32>;
  run(job, x.const_data_ptr<float>(), data(norm), eps, rows, width);
  return out;
}

// base + the sum over a token's chosen experts of gate * expert(x). `ups` and `downs` are weights and scales in turn.
Tensor mixture(const Tensor& x, const Tensor& base, const Tensor& gate, const Tensor& chosen, at::TensorList ups,
               at::TensorList downs, int64_t precision, int64_t hidden) {
  const long tokens = x.size(0), width = x.size(1), top = chosen.size(1);
  TORCH_CHECK(x.is_contiguous() && gate.is_contiguous() && chosen.is_contiguous(), "mixture: rows in a row");
  Tensor out = base.clone(at::MemoryFormat::Contiguous);
  std::vector<long> places;
  for (size_t e = 0; e < ups.size() / 2; ++e) {
    places.clear();
    for (long i = 0; i < tokens * top; ++i)
      if (chosen.const_data_ptr<int64_t>()[i] == (long)e) places.push_back(i);
    if (places.empty()) continue;
    Tensor mine = at::empty({(long)places.size(), width}, x.options());
    for (size_t i = 0; i < places.size(); ++i)
      std::memcpy(mine.mutable_data_ptr<float>() + i * width, x.const_data_ptr<float>() + places[i] / top * width, 4 * width);
    mine = linear(mine, ups[2 * e], ups[2 * e + 1], {}, {}, 0, precision, SILU, hidden, {});
    mine = linear(mine, downs[2 * e], downs[2 * e + 1], {}, {}, 0, precision, PLAIN, width, {});
    for (size_t i = 0; i < places.size(); ++i) {
      float* to = out.mutable_data_ptr<float>() + places[i] / top * width;
      const float *from = mine.const_data_ptr<float>() + i * width, share = gate.const_data_ptr<float>()[places[i]];
      for (long d = 0; d < width; ++d) to[d] += share * from[d];
    }
  }
  return out;
}

// ------------------------------------------------------------------ attention

// Turn the queries where they lie, and put turned keys, and values, where they are kept: [B G L K], any way they lie.
void place(Tensor qkv, const Optional& rope, int64_t heads, const Tensor& keys, const Tensor& values) {
  const long batch = qkv.size(0), length = qkv.size(1), groups = keys.size(1), width = keys.size(3), half = width / 2;
  TORCH_CHECK(qkv.is_contiguous() && qkv.size(2) == (heads + 2 * groups) * width, "place: queries, keys, values in a row");
  const float *cos = data(rope), *sin = cos ? cos + length * width : nullptr;
  float* const all = qkv.mutable_data_ptr<float>();
  const auto at = [&](const Tensor& to, long b, long g) {
    return to.mutable_data_ptr<float>() + b * to.stride(0) + g * to.stride(1);
  };
  for (long t = 0; cos && t < batch * length; ++t)
    for (long h = 0; h < heads + groups; ++h) {
      float* head = all + t * qkv.size(2) + h * width;
      const float *c = cos + t % length * width, *s = sin + t % length * width;
      for (long i = 0; i < half; ++i) {
        const float low = head[i], high = head[i + half];
        head[i] = low * c[i] - high * s[i];
        head[i + half] = high * c[i + half] + low * s[i + half];
      }
    }
  for (long b = 0; b < batch; ++b)
    for (long g = 0; g < groups; ++g) {
      const float* from = all + b * length * qkv.size(2) + (heads + g) * width;
      float *key = at(keys, b, g), *value = at(values, b, g);
      for (long i = 0; i < width; ++i)
        for (long t = 0; t < length; ++t) key[t * keys.stride(2) + i * keys.stride(3)] = from[t * qkv.size(2) + i];
      for (long t = 0; t < length; ++t)
        std::memcpy(value + t * values.stride(2), from + t * qkv.size(2) + groups * width, width * sizeof(float));
    }
}

struct Heads {
  const float *q, *turned, *v, *bias, *extra;
  float *scores, *out;
  long q_step, v_step, bias_step, out_step, keys, padded, width;
  float factor;
};

template <int ROWS> void look(const Heads& h, long row, long seen) {
  for (long s = 0; s < seen; s += 4 * LANES) {
    __m512 sum[ROWS][4];
    tile<F32, ROWS, 4>((const char*)(h.q + row * h.q_step), 4 * h.q_step, (const char*)(h.turned + s), 4 * h.padded, 64, h.width, sum);
    for (int r = 0; r < ROWS; ++r)
      for (int n = 0; n < 4; ++n) _mm512_storeu_ps(h.scores + r * h.padded + s + n * LANES, sum[r][n]);
  }
  float share[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    float* score = h.scores + r * h.padded;
    const float* bias = h.bias + (row + r) * h.bias_step;
    __m512 most = _mm512_set1_ps(-std::numeric_limits<float>::infinity()), total = _mm512_setzero_ps();
    for (long s = 0; s < seen; s += LANES) {
      const __mmask16 there = first(seen - s);
      __m512 v = _mm512_fmadd_ps(_mm512_loadu_ps(score + s), _mm512_set1_ps(h.factor), _mm512_maskz_loadu_ps(there, bias + s));
      if (h.extra) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(there, h.extra + s));
      v = _mm512_mask_blend_ps(there, _mm512_set1_ps(-std::numeric_limits<float>::infinity()), v);
      most = _mm512_max_ps(most, v);
      _mm512_storeu_ps(score + s, v);
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (long s = 0; s < seen; s += LANES) {
      const __m512 v = _mm512_maskz_mov_ps(first(seen - s), exponential(_mm512_sub_ps(_mm512_loadu_ps(score + s), top)));
      total = _mm512_add_ps(total, v);
      _mm512_storeu_ps(score + s, v);
    }
    share[r] = 1.0f / _mm512_reduce_add_ps(total);
  }
  for (long d = 0; d < h.width; d += 2 * LANES) {
    const bool two = d + LANES < h.width;
    __m512 sum[ROWS][2], one[ROWS][1];
    const char *scores = (const char*)h.scores, *v = (const char*)(h.v + d);
    if (two) tile<F32, ROWS, 2>(scores, 4 * h.padded, v, 4 * h.v_step, 64, seen, sum);
    else tile<F32, ROWS, 1>(scores, 4 * h.padded, v, 4 * h.v_step, 64, seen, one);
    for (int r = 0; r < ROWS; ++r)
      for (int n = 0; n <= two; ++n)
        _mm512_storeu_ps(h.out + (row + r) * h.out_step + d + n * LANES,
                         _mm512_mul_ps(two ? sum[r][n] : one[r][0], _mm512_set1_ps(share[r])));
  }
}

// softmax(factor q k' + bias + extra) v. q [B Q N K], k and v [B G S K], bias [B Q S], extra [B N S]; any may be strided.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias, const Optional& extra, double factor) {
  const long batch = q.size(0), length = q.size(1), heads = q.size(2), width = q.size(3), keys = k.size(2);
  const bool across = k.stride(2) == 1 && k.stride(3) % 64 == 0;  // as the product reads them, with room behind
  const long each = heads / k.size(1), padded = across ? k.stride(3) : (keys + 63) / 64 * 64;
  TORCH_CHECK(width % LANES == 0 && q.stride(3) == 1 && q.stride(2) == width && (across || k.stride(3) == 1) &&
              v.stride(3) == 1 && bias.stride(2) == 1 && bias.size(2) == keys && v.size(3) == width, "attend: heads of 16 n");
  static thread_local std::vector<float> turned, scores;
  turned.resize(across ? 0 : width * padded);
  scores.resize(6 * padded);
  std::vector<long> seen(length);
  Tensor out = at::empty({batch, length, heads * width}, q.options());
  for (long b = 0; b < batch; ++b) {
    const float* mask = bias.const_data_ptr<float>() + b * bias.stride(0);
    for (long t = 0; t < length; ++t)  // nothing behind the last key that may be seen is computed
      for (seen[t] = keys; seen[t] > 1 && mask[t * bias.stride(1) + seen[t] - 1] < -5e3f;) --seen[t];
    for (long g = 0; g < k.size(1); ++g) {
      const float* from = k.const_data_ptr<float>() + b * k.stride(0) + g * k.stride(1);
      const __m512i apart = _mm512_mullo_epi32(_mm512_set1_epi32(k.stride(2)), _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
      for (long s = 0; s < padded && !across; s += LANES)
        for (long d = 0; d < width; ++d)
          _mm512_storeu_ps(&turned[d * padded + s], s < keys
            ? _mm512_mask_i32gather_ps(_mm512_setzero_ps(), first(keys - s), apart, from + s * k.stride(2) + d, 4)
            : _mm512_setzero_ps());
      for (long h = g * each; h < (g + 1) * each; ++h) {
        const Heads one{q.const_data_ptr<float>() + b * q.stride(0) + h * width, across ? from : turned.data(),
                        v.const_data_ptr<float>() + b * v.stride(0) + g * v.stride(1), mask,
                        extra ? extra->const_data_ptr<float>() + b * extra->stride(0) + h * extra->stride(1) : nullptr,
                        scores.data(), out.mutable_data_ptr<float>() + b * length * heads * width + h * width,
                        q.stride(1), v.stride(2), bias.stride(1), heads * width, keys, padded, width, (float)factor};
        long t = 0;
        for (; t + 6 <= length; t += 6) look<6>(one, t, *std::max_element(&seen[t], &seen[t] + 6));
        for (; t < length; ++t) look<1>(one, t, seen[t]);
      }
    }
  }
  return out;
}

bool supported() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512dq");
}

}  // namespace

TORCH_LIBRARY(drivebyword, m) {
  m.def("supported() -> bool", &supported);
  m.def("linear(Tensor x, Tensor packed, Tensor scale, Tensor? bias, Tensor? norm, float eps, int precision, int kind, int columns, Tensor? residual) -> Tensor", &linear);
  m.def("mixture(Tensor x, Tensor base, Tensor gate, Tensor chosen, Tensor[] ups, Tensor[] downs, int precision, int hidden) -> Tensor", &mixture);
  m.def("place(Tensor(a!) qkv, Tensor? rope, int heads, Tensor(b!) keys, Tensor(c!) values) -> ()", &place);
  m.def("attend(Tensor q, Tensor k, Tensor v, Tensor bias, Tensor? extra, float factor) -> Tensor", &attend);
}
