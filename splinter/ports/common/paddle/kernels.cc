// What paddle's own CPU kernels do on one thread, in several passes or slowly (docs/speed.md), on all threads.
//
// Each operator is that of paddle.nn.functional in exact arithmetic, for float32 and float64, with its gradient. No
// result depends on the number of threads: what is summed over rows is summed in blocks of a fixed size. Built by
// kernels.py for the processor at hand. There are no gradients of gradients.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "paddle/phi/api/all.h"  // not extension.h, which wants the headers of Python

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<int64_t>;

constexpr int64_t kBlock = 64;    // rows that are summed in a row
constexpr int64_t kGrain = 8192;  // numbers that are worth a second thread

// -- elementary functions ----------------------------------------------------------------------------------

inline double Exp(double x) { return std::exp(x); }

// To about one unit in the last place; 0 below the normal range. The interval of a half power of two is a
// polynomial by Taylor's series, the power itself goes into the exponent.
inline float Exp(float x) {
  const float lowest = -87.33654f;
  const float within = std::min(x < lowest ? lowest : x, 88.72283f);
  const float shifted = within * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
  const float n = shifted - 12582912.0f;
  const float r = (within - n * 0.693145752f) - n * 1.42860677e-6f;  // log 2 in two parts
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &p, sizeof(bits));
  bits += static_cast<int32_t>(n) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return x < lowest ? 0.0f : (x == x ? power : x);
}

// The normal law: its distribution at x, and its density times sqrt(2 pi).
template <typename T>
struct Normal {
  T below, density;
};

inline Normal<double> NormalAt(double x) {
  return {0.5 * std::erfc(-x * M_SQRT1_2), std::exp(-0.5 * x * x)};
}

// erfc(z) exp(z^2) as a polynomial in 1 / (1 + 0.48 z), fitted to the least relative error on [0, 10]: 3.3e-8
// (tests/unit/test_kernels.py holds the result against float64).
inline Normal<float> NormalAt(float x) {
  const float t = 1.0f / (1.0f + 0.339411255f * std::fabs(x));
  float p = -0.0515535536f;
  p = p * t + 0.276856371f;
  p = p * t - 0.545160607f;
  p = p * t + 0.406312925f;
  p = p * t - 0.0901724565f;
  p = p * t + 0.231186642f;
  p = p * t + 0.229995583f;
  p = p * t + 0.271764263f;
  p = p * t + 0.270770865f;
  const float density = Exp(-0.5f * x * x);
  const float tail = 0.5f * p * t * density;
  return {x > 0.0f ? 1.0f - tail : tail, density};
}

template <typename T>
inline T Tanh(T x) {
  const T e = Exp(-2 * std::fabs(x));
  const T y = (1 - e) / (1 + e);
  return x < 0 ? -y : y;
}

// -- sums over rows ----------------------------------------------------------------------------------------

// total[j] = sum of rows[i, j], of (n, d) numbers.
template <typename T>
void SumRows(const T* rows, int64_t n, int64_t d, T* total) {
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  std::vector<T> partial(blocks * d, T(0));
#pragma omp parallel for schedule(static) if (n * d > kGrain)
  for (int64_t b = 0; b < blocks; ++b) {
    T* sum = partial.data() + b * d;
    const int64_t end = std::min(n, (b + 1) * kBlock);
    for (int64_t i = b * kBlock; i < end; ++i) {
      const T* row = rows + i * d;
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) sum[j] += row[j];
    }
  }
  std::fill(total, total + d, T(0));
  for (int64_t b = 0; b < blocks; ++b) {
    const T* sum = partial.data() + b * d;
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) total[j] += sum[j];
  }
}

// paddle 3.3.1 compiles no model with an attribute of type double: they come as the bits of one.
double Double(int64_t bits) {
  double number;
  std::memcpy(&number, &bits, sizeof(number));
  return number;
}

// Calls f with a zero of the numbers' type.
template <typename F>
void Visit(const Tensor& x, F f) {
  PD_CHECK(x.is_cpu(), "splinter's kernels compute on a CPU alone");
  if (x.dtype() == DataType::FLOAT64) {
    f(double(0));
  } else if (x.dtype() == DataType::FLOAT32) {
    f(float(0));
  } else {
    PD_THROW("splinter's kernels are for float32 and float64");
  }
}

// All rows of x in one matrix, on the same memory: paddle's reshape would copy them.
Tensor Flat(const Tensor& x, int64_t width) {
  const Shape shape{x.numel() / std::max<int64_t>(width, 1), width};
  return paddle::from_blob(const_cast<void*>(x.data()), shape, x.dtype(), x.layout(), x.place());
}

// -- linear: x w + b ---------------------------------------------------------------------------------------

std::vector<Tensor> Linear(const Tensor& x, const Tensor& w, const Tensor& b) {
  Tensor y = paddle::experimental::matmul(x, w, false, false);
  const int64_t d = w.shape()[1], n = y.numel() / std::max<int64_t>(d, 1);
  Visit(x, [&](auto type) {
    using T = decltype(type);
    T* out = y.data<T>();
    const T* bias = b.data<T>();
#pragma omp parallel for schedule(static) if (n * d > kGrain)
    for (int64_t i = 0; i < n; ++i) {
      T* row = out + i * d;
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) row[j] += bias[j];
    }
  });
  return {y};
}

std::vector<Tensor> LinearGrad(const Tensor& x, const Tensor& w, const Tensor& gy) {
  if (x.numel() == 0 || gy.numel() == 0) {
    const Tensor none = paddle::full(Shape{w.shape()[1]}, 0, x.dtype(), x.place());
    return {paddle::experimental::zeros_like(x), paddle::experimental::zeros_like(w), none};
  }
  const int64_t d = w.shape()[1], n = gy.numel() / std::max<int64_t>(d, 1);
  Tensor gx = paddle::experimental::matmul(gy, w, false, true);
  Tensor gw = paddle::experimental::matmul(Flat(x, w.shape()[0]), Flat(gy, d), true, false);
  Tensor gb = paddle::empty(Shape{d}, x.dtype(), x.place());
  Visit(x, [&](auto type) {
    using T = decltype(type);
    SumRows(gy.data<T>(), n, d, gb.data<T>());
  });
  return {gx, gw, gb};
}

std::vector<Shape> LinearShape(const Shape& x, const Shape& w, const Shape& b) {
  Shape y = x;
  y.back() = w[1];
  return {y};
}

std::vector<DataType> LinearType(const DataType& x, const DataType& w, const DataType& b) { return {x}; }
std::vector<Shape> LinearGradShape(const Shape& x, const Shape& w, const Shape& gy) { return {x, w, {w[1]}}; }
std::vector<DataType> LinearGradType(const DataType& x, const DataType& w, const DataType& gy) { return {x, x, x}; }

// -- gelu --------------------------------------------------------------------------------------------------

constexpr double kTanhScale = 0.79788456080286535588, kTanhCube = 0.044715;  // sqrt(2 / pi), and Hendrycks' fit

std::vector<Tensor> Gelu(const Tensor& x, bool approximate) {
  Tensor y = paddle::empty_like(x);
  const int64_t n = x.numel();
  Visit(x, [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    if (approximate) {
#pragma omp parallel for simd schedule(static) if (n > kGrain)
      for (int64_t i = 0; i < n; ++i) {
        const T v = in[i];
        out[i] = T(0.5) * v * (1 + Tanh(T(kTanhScale) * (v + T(kTanhCube) * v * v * v)));
      }
    } else {
#pragma omp parallel for simd schedule(static) if (n > kGrain)
      for (int64_t i = 0; i < n; ++i) out[i] = in[i] * NormalAt(in[i]).below;
    }
  });
  return {y};
}

std::vector<Tensor> GeluGrad(const Tensor& x, const Tensor& gy, bool approximate) {
  Tensor gx = paddle::empty_like(x);
  const int64_t n = x.numel();
  Visit(x, [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    const T* up = gy.data<T>();
    T* out = gx.data<T>();
    if (approximate) {
#pragma omp parallel for simd schedule(static) if (n > kGrain)
      for (int64_t i = 0; i < n; ++i) {
        const T v = in[i];
        const T t = Tanh(T(kTanhScale) * (v + T(kTanhCube) * v * v * v));
        const T inner = T(kTanhScale) * (1 + T(3 * kTanhCube) * v * v);
        out[i] = up[i] * T(0.5) * (1 + t + v * (1 - t * t) * inner);
      }
    } else {
      const T scale = T(0.39894228040143267794);  // 1 / sqrt(2 pi)
#pragma omp parallel for simd schedule(static) if (n > kGrain)
      for (int64_t i = 0; i < n; ++i) {
        const Normal<T> at = NormalAt(in[i]);
        out[i] = up[i] * (at.below + in[i] * scale * at.density);
      }
    }
  });
  return {gx};
}

// -- softmax of scores * scale + mask ----------------------------------------------------------------------

// scores (..., T), mask of as many axes, each as long as that of the scores or 1, the last not 1.
std::vector<Tensor> MaskedSoftmax(const Tensor& scores, const Tensor& mask, int64_t scale_bits) {
  Tensor y = paddle::empty_like(scores);
  const Shape shape = scores.shape(), masked = mask.shape();
  PD_CHECK(masked.size() == shape.size() && masked.back() == shape.back(),
           "masked_softmax: the mask has not the axes of the scores, or another number of keys");
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    PD_CHECK(masked[axis] == 1 || masked[axis] == shape[axis], "masked_softmax: axis ", axis, " of the mask has length ",
             masked[axis], ", that of the scores ", shape[axis]);
  }
  const int64_t t = shape.back(), n = scores.numel() / std::max<int64_t>(t, 1);
  std::vector<int64_t> row_of(n, 0);  // which row of the mask belongs to a row of the scores
  int64_t inner = 1, stride = 1;
  for (int64_t axis = static_cast<int64_t>(shape.size()) - 2; axis >= 0; --axis) {
    if (masked[axis] != 1) {
      for (int64_t i = 0; i < n; ++i) row_of[i] += i / inner % shape[axis] * stride;
    }
    inner *= shape[axis];
    stride *= masked[axis];
  }
  Visit(scores, [&](auto type) {
    using T = decltype(type);
    const T scale = static_cast<T>(Double(scale_bits));
    const T* in = scores.data<T>();
    const T* added = mask.data<T>();
    T* out = y.data<T>();
#pragma omp parallel for schedule(static) if (n * t > kGrain)
    for (int64_t i = 0; i < n; ++i) {
      const T *row = in + i * t, *fill = added + row_of[i] * t;
      T* p = out + i * t;
      T most = row[0] * scale + fill[0];
#pragma omp simd reduction(max : most)
      for (int64_t j = 0; j < t; ++j) {
        p[j] = row[j] * scale + fill[j];
        most = p[j] > most ? p[j] : most;
      }
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t j = 0; j < t; ++j) {
        p[j] = Exp(p[j] - most);
        total += p[j];
      }
      const T share = 1 / total;
#pragma omp simd
      for (int64_t j = 0; j < t; ++j) p[j] *= share;
    }
  });
  return {y};
}

std::vector<Tensor> MaskedSoftmaxGrad(const Tensor& y, const Tensor& gy, int64_t scale_bits) {
  Tensor gx = paddle::empty_like(y);
  const int64_t t = y.shape().back(), n = y.numel() / std::max<int64_t>(t, 1);
  Visit(y, [&](auto type) {
    using T = decltype(type);
    const T scale = static_cast<T>(Double(scale_bits));
    const T* probs = y.data<T>();
    const T* up = gy.data<T>();
    T* out = gx.data<T>();
#pragma omp parallel for schedule(static) if (n * t > kGrain)
    for (int64_t i = 0; i < n; ++i) {
      const T *p = probs + i * t, *g = up + i * t;
      T* to = out + i * t;
      T mean = 0;
#pragma omp simd reduction(+ : mean)
      for (int64_t j = 0; j < t; ++j) mean += p[j] * g[j];
#pragma omp simd
      for (int64_t j = 0; j < t; ++j) to[j] = p[j] * (g[j] - mean) * scale;
    }
  });
  return {gx};
}

std::vector<Shape> FirstShape(const Shape& x, const Shape& other, int64_t) { return {x}; }
std::vector<DataType> FirstType(const DataType& x, const DataType& other) { return {x}; }
std::vector<Shape> LastShape(const Shape& other, const Shape& x, int64_t) { return {x}; }
std::vector<DataType> LastType(const DataType& other, const DataType& x) { return {x}; }

// -- dropout -----------------------------------------------------------------------------------------------

// Philox 4x32-10 (Salmon et al., SC 2011): four random words of 32 bits for each counter, of a key of two words.
// Counters do not depend on one another, so that any thread draws what any place wants, and the gradient draws
// it again in place of reading a mask.
constexpr int kLanes = 16;

struct Philox {
  uint32_t word[4][kLanes];

  Philox(uint64_t first, uint32_t k0, uint32_t k1) {
    uint32_t key0[10], key1[10];
    for (int round = 0; round < 10; ++round) {
      key0[round] = k0 + round * 0x9E3779B9u;
      key1[round] = k1 + round * 0xBB67AE85u;
    }
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) {
      const uint64_t counter = first + lane;
      uint32_t a = static_cast<uint32_t>(counter), b = static_cast<uint32_t>(counter >> 32), c = 0, d = 0;
#pragma GCC unroll 10
      for (int round = 0; round < 10; ++round) {
        const uint64_t left = uint64_t(0xD2511F53u) * a, right = uint64_t(0xCD9E8D57u) * c;
        a = static_cast<uint32_t>(right >> 32) ^ b ^ key0[round];
        b = static_cast<uint32_t>(right);
        c = static_cast<uint32_t>(left >> 32) ^ d ^ key1[round];
        d = static_cast<uint32_t>(left);
      }
      word[0][lane] = a;
      word[1][lane] = b;
      word[2][lane] = c;
      word[3][lane] = d;
    }
  }
};

// y = x / (1 - rate) where the word of its place is not below `least`, else 0 (or what NaN and infinity times 0 is).
// key (2,) int32.
std::vector<Tensor> Dropout(const Tensor& x, const Tensor& key, int64_t rate_bits) {
  const double rate = Double(rate_bits);
  Tensor y = paddle::empty_like(x);
  const int64_t n = x.numel(), each = 4 * kLanes, blocks = (n + each - 1) / each;
  const uint32_t k0 = key.data<int32_t>()[0], k1 = key.data<int32_t>()[1];
  const uint32_t least = static_cast<uint32_t>(std::min(std::nearbyint(rate * 4294967296.0), 4294967295.0));
  Visit(x, [&](auto type) {
    using T = decltype(type);
    const T scale = static_cast<T>(1 / (1 - rate));
    const T* in = x.data<T>();
    T* out = y.data<T>();
#pragma omp parallel for schedule(static) if (n > kGrain)
    for (int64_t b = 0; b < blocks; ++b) {
      const Philox drawn(static_cast<uint64_t>(b) * kLanes, k0, k1);
      const uint32_t* word = &drawn.word[0][0];
      const int64_t from = b * each, count = std::min(each, n - from);
      if (count == each) {
#pragma omp simd
        for (int64_t j = 0; j < 4 * kLanes; ++j) out[from + j] = in[from + j] * (word[j] >= least ? scale : T(0));
      } else {
        for (int64_t j = 0; j < count; ++j) out[from + j] = in[from + j] * (word[j] >= least ? scale : T(0));
      }
    }
  });
  return {y};
}

std::vector<Tensor> DropoutGrad(const Tensor& key, const Tensor& gy, int64_t rate) { return Dropout(gy, key, rate); }

// -- layer norm --------------------------------------------------------------------------------------------

// Of the last axis; besides y, the mean and 1 / sqrt(variance + epsilon) of each row.
std::vector<Tensor> LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t epsilon_bits) {
  const double epsilon = Double(epsilon_bits);
  PD_CHECK(weight.numel() == x.shape().back() && bias.numel() == weight.numel(), "layer_norm: rows have ",
           x.shape().back(), " numbers, the weight ", weight.numel(), ", the bias ", bias.numel());
  const int64_t d = x.shape().back(), n = x.numel() / std::max<int64_t>(d, 1);
  Tensor y = paddle::empty_like(x);
  Tensor mean = paddle::empty(Shape{n}, x.dtype(), x.place()), inverse = paddle::empty(Shape{n}, x.dtype(), x.place());
  Visit(x, [&](auto type) {
    using T = decltype(type);
    const T *in = x.data<T>(), *w = weight.data<T>(), *b = bias.data<T>();
    T *out = y.data<T>(), *middle = mean.data<T>(), *narrow = inverse.data<T>();
#pragma omp parallel for schedule(static) if (n * d > kGrain)
    for (int64_t i = 0; i < n; ++i) {
      const T* row = in + i * d;
      T* to = out + i * d;
      T sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < d; ++j) sum += row[j];
      const T m = sum / d;
#pragma omp simd reduction(+ : squares)
      for (int64_t j = 0; j < d; ++j) squares += (row[j] - m) * (row[j] - m);
      const T r = 1 / std::sqrt(squares / d + static_cast<T>(epsilon));
      middle[i] = m;
      narrow[i] = r;
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) to[j] = (row[j] - m) * r * w[j] + b[j];
    }
  });
  return {y, mean, inverse};
}

std::vector<Tensor> LayerNormGrad(
    const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& inverse, const Tensor& gy) {
  const int64_t d = x.shape().back(), n = x.numel() / std::max<int64_t>(d, 1), blocks = (n + kBlock - 1) / kBlock;
  Tensor gx = paddle::empty_like(x);
  Tensor gw = paddle::empty(Shape{d}, x.dtype(), x.place()), gb = paddle::empty(Shape{d}, x.dtype(), x.place());
  Visit(x, [&](auto type) {
    using T = decltype(type);
    const T *in = x.data<T>(), *w = weight.data<T>(), *up = gy.data<T>();
    const T *middle = mean.data<T>(), *narrow = inverse.data<T>();
    T* out = gx.data<T>();
    std::vector<T> partial(2 * blocks * d, T(0));  // of each block, the sums for weight and bias
#pragma omp parallel for schedule(static) if (n * d > kGrain)
    for (int64_t k = 0; k < blocks; ++k) {
      T *sum_w = partial.data() + 2 * k * d, *sum_b = sum_w + d;
      const int64_t end = std::min(n, (k + 1) * kBlock);
      for (int64_t i = k * kBlock; i < end; ++i) {
        const T *row = in + i * d, *g = up + i * d;
        T* to = out + i * d;
        const T m = middle[i], r = narrow[i];
        T plain = 0, along = 0;
#pragma omp simd reduction(+ : plain, along)
        for (int64_t j = 0; j < d; ++j) {
          const T normal = (row[j] - m) * r, scaled = g[j] * w[j];
          plain += scaled;
          along += scaled * normal;
          sum_w[j] += g[j] * normal;
          sum_b[j] += g[j];
        }
        const T a = plain / d, b = along / d;
#pragma omp simd
        for (int64_t j = 0; j < d; ++j) to[j] = r * (g[j] * w[j] - a - (row[j] - m) * r * b);
      }
    }
    T *weights = gw.data<T>(), *biases = gb.data<T>();
    std::fill(weights, weights + d, T(0));
    std::fill(biases, biases + d, T(0));
    for (int64_t k = 0; k < blocks; ++k) {
      const T *sum_w = partial.data() + 2 * k * d, *sum_b = sum_w + d;
#pragma omp simd
      for (int64_t j = 0; j < d; ++j) {
        weights[j] += sum_w[j];
        biases[j] += sum_b[j];
      }
    }
  });
  return {gx, gw, gb};
}

std::vector<Shape> LayerNormShape(const Shape& x, const Shape& weight, const Shape& bias, int64_t) {
  int64_t n = 1;
  for (size_t axis = 0; axis + 1 < x.size(); ++axis) n = x[axis] < 0 || n < 0 ? -1 : n * x[axis];
  return {x, {n}, {n}};
}

std::vector<DataType> LayerNormType(const DataType& x, const DataType& weight, const DataType& bias) {
  return {x, x, x};
}

std::vector<Shape> LayerNormGradShape(const Shape& x, const Shape& weight, const Shape&, const Shape&, const Shape&) {
  return {x, weight, weight};
}

std::vector<DataType> LayerNormGradType(
    const DataType& x, const DataType&, const DataType&, const DataType&, const DataType&) {
  return {x, x, x};
}

// -- optimizer ---------------------------------------------------------------------------------------------

// Sum of squares, (1,) float64: of blocks in the numbers' own type, of those in float64.
std::vector<Tensor> Squares(const Tensor& x) {
  Tensor total = paddle::empty(Shape{1}, DataType::FLOAT64, x.place());
  const int64_t n = x.numel(), each = 4096, blocks = (n + each - 1) / each;
  std::vector<double> partial(blocks);
  Visit(x, [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
#pragma omp parallel for schedule(static) if (n > kGrain)
    for (int64_t b = 0; b < blocks; ++b) {
      T sum = 0;
      const int64_t end = std::min(n, (b + 1) * each);
#pragma omp simd reduction(+ : sum)
      for (int64_t i = b * each; i < end; ++i) sum += in[i] * in[i];
      partial[b] = sum;
    }
  });
  double sum = 0;
  for (double part : partial) sum += part;
  total.data<double>()[0] = sum;
  return {total};
}

std::vector<Shape> SquaresShape(const Shape&) { return {{1}}; }
std::vector<DataType> SquaresType(const DataType&) { return {DataType::FLOAT64}; }

// One update of AdamW (train.py), in place. numbers: the scale of the gradient, both betas, epsilon, the rate with
// its correction of both biases, the decay times the rate before the update, and that after it.
void AdamW(Tensor& w, const Tensor& g, Tensor& m, Tensor& v, const std::vector<int64_t>& numbers) {
  const int64_t n = w.numel();
  Visit(w, [&](auto type) {
    using T = decltype(type);
    const T clip = Double(numbers[0]), beta1 = Double(numbers[1]), beta2 = Double(numbers[2]);
    const T rest1 = 1 - Double(numbers[1]), rest2 = 1 - Double(numbers[2]);
    const T epsilon = Double(numbers[3]), rate = Double(numbers[4]);
    const T before = Double(numbers[5]), after = Double(numbers[6]);
    T *weights = w.data<T>(), *first = m.data<T>(), *second = v.data<T>();
    const T* gradients = g.data<T>();
#pragma omp parallel for simd schedule(static) if (n > kGrain)
    for (int64_t i = 0; i < n; ++i) {
      const T gradient = gradients[i] * clip;
      first[i] = first[i] * beta1 + gradient * rest1;
      second[i] = second[i] * beta2 + gradient * gradient * rest2;
      T weight = weights[i];
      weight -= weight * before;
      weight -= first[i] / (std::sqrt(second[i]) + epsilon) * rate;
      weights[i] = weight - weight * after;
    }
  });
}

}  // namespace

PD_BUILD_OP(splinter_linear)
    .Inputs({"X", "W", "B"})
    .Outputs({"Y"})
    .SetKernelFn(PD_KERNEL(Linear))
    .SetInferShapeFn(PD_INFER_SHAPE(LinearShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(LinearType));
PD_BUILD_GRAD_OP(splinter_linear)
    .Inputs({"X", "W", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("W"), paddle::Grad("B")})
    .SetKernelFn(PD_KERNEL(LinearGrad))
    .SetInferShapeFn(PD_INFER_SHAPE(LinearGradShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(LinearGradType));

PD_BUILD_OP(splinter_gelu).Inputs({"X"}).Outputs({"Y"}).Attrs({"approximate: bool"}).SetKernelFn(PD_KERNEL(Gelu));
PD_BUILD_GRAD_OP(splinter_gelu)
    .Inputs({"X", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X")})
    .Attrs({"approximate: bool"})
    .SetKernelFn(PD_KERNEL(GeluGrad));

PD_BUILD_OP(splinter_masked_softmax)
    .Inputs({"X", "Mask"})
    .Outputs({"Y"})
    .Attrs({"scale: int64_t"})
    .SetKernelFn(PD_KERNEL(MaskedSoftmax))
    .SetInferShapeFn(PD_INFER_SHAPE(FirstShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(FirstType));
PD_BUILD_GRAD_OP(splinter_masked_softmax)
    .Inputs({"Y", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X")})
    .Attrs({"scale: int64_t"})
    .SetKernelFn(PD_KERNEL(MaskedSoftmaxGrad))
    .SetInferShapeFn(PD_INFER_SHAPE(LastShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(LastType));

PD_BUILD_OP(splinter_dropout)
    .Inputs({"X", "Key"})
    .Outputs({"Y"})
    .Attrs({"rate: int64_t"})
    .SetKernelFn(PD_KERNEL(Dropout))
    .SetInferShapeFn(PD_INFER_SHAPE(FirstShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(FirstType));
PD_BUILD_GRAD_OP(splinter_dropout)
    .Inputs({"Key", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X")})
    .Attrs({"rate: int64_t"})
    .SetKernelFn(PD_KERNEL(DropoutGrad))
    .SetInferShapeFn(PD_INFER_SHAPE(LastShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(LastType));

PD_BUILD_OP(splinter_layer_norm)
    .Inputs({"X", "W", "B"})
    .Outputs({"Y", "Mean", "Inverse"})
    .Attrs({"epsilon: int64_t"})
    .SetKernelFn(PD_KERNEL(LayerNorm))
    .SetInferShapeFn(PD_INFER_SHAPE(LayerNormShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(LayerNormType));
PD_BUILD_GRAD_OP(splinter_layer_norm)
    .Inputs({"X", "W", "Mean", "Inverse", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("W"), paddle::Grad("B")})
    .SetKernelFn(PD_KERNEL(LayerNormGrad))
    .SetInferShapeFn(PD_INFER_SHAPE(LayerNormGradShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(LayerNormGradType));

PD_BUILD_OP(splinter_squares)
    .Inputs({"X"})
    .Outputs({"Total"})
    .SetKernelFn(PD_KERNEL(Squares))
    .SetInferShapeFn(PD_INFER_SHAPE(SquaresShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(SquaresType));

PD_BUILD_OP(splinter_adamw)
    .Inputs({"W", "G", "M", "V"})
    .Outputs({"NewW", "NewM", "NewV"})
    .Attrs({"numbers: std::vector<int64_t>"})
    .SetInplaceMap({{"W", "NewW"}, {"M", "NewM"}, {"V", "NewV"}})
    .SetKernelFn(PD_KERNEL(AdamW));
