// Products of a few hundred rows on one core with AVX-512, with what comes before and after them.
//
// In: float32 rows, and weights as `kernels.pack` lays them out. Out: float32 rows. A row is normalised and quantised as
// it enters; a bias, an activation and a sum are added as it leaves. In 8 bits every row has a scale of its own, so what
// is computed of a token never hangs on others. `kernels.py` says the same in PyTorch.

#include "tile.h"

namespace {

inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

inline __m512 gelu(__m512 x) {  // the tanh form: x * sigmoid(2 u)
  const __m512 cube = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1.0f));
  return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(_mm512_mul_ps(x, cube), _mm512_set1_ps(1.5957691216f))));
}

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

}  // namespace

Tensor drivebyword::linear(const Tensor& given, const Tensor& packed, const Tensor& scale, const Optional& bias,
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

namespace {

// x + shared(x) + the sum over a token's chosen experts of gate * expert(x), all of them on the normalised x.
//
// `router` is packed in float32; `shared` holds both layers of the shared expert, or nothing; weights and scales in turn.
Tensor mixture(const Tensor& given, const Tensor& norm, double eps, at::TensorList router, const Tensor& bias, int64_t top,
               bool shares, double factor, at::TensorList shared, int64_t shared_hidden, at::TensorList ups,
               at::TensorList downs, int64_t hidden, int64_t precision) {
  const Tensor x = given.contiguous();
  const long width = x.size(-1), tokens = x.numel() / width, experts = bias.numel();
  // One by one: PyTorch's sigmoid rounds the last elements of a tensor differently from those before them.
  Tensor affinity = linear(x, router[0], router[1], {}, norm, eps, F32, PLAIN, experts, {});
  float* const each = affinity.mutable_data_ptr<float>();
  std::transform(each, each + affinity.numel(), each, [](float v) { return 1.0f / (1.0f + std::exp(-v)); });
  Tensor out;
  if (shared.empty()) {
    out = x.clone();
  } else {
    const Tensor h = linear(x, shared[0], shared[1], {}, norm, eps, precision, SILU, shared_hidden, {});
    out = linear(h, shared[2], shared[3], {}, {}, 0, precision, PLAIN, width, x);
  }
  std::vector<std::vector<std::pair<long, float>>> mine(experts);
  for (long t = 0; t < tokens; ++t) {
    const float *score = affinity.const_data_ptr<float>() + t * experts, *lean = bias.const_data_ptr<float>();
    std::vector<long> order(experts);
    for (long e = 0; e < experts; ++e) order[e] = e;
    std::partial_sort(order.begin(), order.begin() + top, order.end(), [&](long a, long b) {
      return score[a] + lean[a] != score[b] + lean[b] ? score[a] + lean[a] > score[b] + lean[b] : a < b;
    });
    float sum = 0;
    for (long k = 0; k < top; ++k) sum += score[order[k]];
    for (long k = 0; k < top; ++k) mine[order[k]].emplace_back(t, (float)factor * score[order[k]] / (shares ? sum : 1.0f));
  }
  for (long e = 0; e < experts; ++e) {
    if (mine[e].empty()) continue;
    Tensor rows = at::empty({(long)mine[e].size(), width}, x.options());
    float* row = rows.mutable_data_ptr<float>();
    for (const auto& [t, gate] : mine[e]) std::memcpy(row, x.const_data_ptr<float>() + t * width, 4 * width), row += width;
    rows = linear(rows, ups[2 * e], ups[2 * e + 1], {}, norm, eps, precision, SILU, hidden, {});
    rows = linear(rows, downs[2 * e], downs[2 * e + 1], {}, {}, 0, precision, PLAIN, width, {});
    const float* from = rows.const_data_ptr<float>();
    for (const auto& [t, gate] : mine[e]) {
      float* to = out.mutable_data_ptr<float>() + t * width;
      for (long d = 0; d < width; ++d) to[d] += gate * *from++;
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
  m.def("linear(Tensor x, Tensor packed, Tensor scale, Tensor? bias, Tensor? norm, float eps, int precision, int kind, int columns, Tensor? residual) -> Tensor", &drivebyword::linear);
  m.def("mixture(Tensor x, Tensor norm, float eps, Tensor[] router, Tensor bias, int top, bool shares, float factor, Tensor[] shared, int shared_hidden, Tensor[] ups, Tensor[] downs, int hidden, int precision) -> Tensor", &mixture);
}
