// Attention of a few hundred tokens on one core with AVX-512.
//
// In: queries, and keys and values where they are kept. Out: what is seen, heads joined. `kernels.py` says the same in
// PyTorch.

#include "tile.h"

namespace {

// Turn the queries where they lie, and put turned keys, and values, where they are kept: [B G L K], any way they lie.
void place(Tensor qkv, const Optional& rope, int64_t heads, const Tensor& keys, const Tensor& values) {
  const long batch = qkv.size(0), length = qkv.size(1), groups = keys.size(1), width = keys.size(3), half = width / 2;
  TORCH_CHECK(qkv.is_contiguous() && qkv.size(2) == (heads + 2 * groups) * width, "place: queries, keys, values in a row");
  const float *cos = data(rope), *sin = cos ? cos + length * width : nullptr;
  float* const all = qkv.mutable_data_ptr<float>();
  std::vector<float> near(LANES * width);
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
      for (long t = 0; t < length; t += LANES) {  // by way of few close rows: far apart, they fall into one another's cache
        const long rows = std::min<long>(LANES, length - t);
        for (long r = 0; r < rows; ++r) std::memcpy(&near[r * width], from + (t + r) * qkv.size(2), width * sizeof(float));
        for (long i = 0; i < width; ++i)
          for (long r = 0; r < rows; ++r) key[(t + r) * keys.stride(2) + i * keys.stride(3)] = near[r * width + i];
      }
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

// x + attention(normalised(x)), of the last `wanted` tokens; what is new is put in its place behind `at` known tokens.
// `layers` are queries, keys and values in one, and the way out: weights and scales in turn.
Tensor look_back(const Tensor& x, at::TensorList layers, const Optional& bias, const Tensor& norm, double eps,
                 const Tensor& rope, const Tensor& mask, const Optional& extra, const Tensor& keys, const Tensor& values,
                 int64_t at, int64_t heads, int64_t wanted, double factor, int64_t precision) {
  const long length = x.size(1), width = keys.size(3), known = at + length, columns = (heads + 2 * keys.size(1)) * width;
  const Tensor qkv = linear(x, layers[0], layers[1], bias, norm, eps, precision, PLAIN, columns, {});
  place(qkv, rope, heads, keys.narrow(2, at, length), values.narrow(2, at, length));
  const Tensor q = qkv.narrow(1, length - wanted, wanted).narrow(2, 0, heads * width).unflatten(2, {heads, width});
  const Tensor seen = attend(q, keys.narrow(2, 0, known), values.narrow(2, 0, known), mask, extra, factor);
  const Tensor rest = x.narrow(1, length - wanted, wanted).contiguous();
  return linear(seen, layers[2], layers[3], {}, {}, 0, precision, PLAIN, x.size(2), rest);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(drivebyword, m) {
  m.def("place(Tensor(a!) qkv, Tensor? rope, int heads, Tensor(b!) keys, Tensor(c!) values) -> ()", &place);
  m.def("attend(Tensor q, Tensor k, Tensor v, Tensor bias, Tensor? extra, float factor) -> Tensor", &attend);
  m.def("look_back(Tensor x, Tensor[] layers, Tensor? bias, Tensor norm, float eps, Tensor rope, Tensor mask, Tensor? extra, Tensor(a!) keys, Tensor(b!) values, int at, int heads, int wanted, float factor, int precision) -> Tensor", &look_back);
}
