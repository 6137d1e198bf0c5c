// What paddle's own CPU kernels do on one thread, in several passes or slowly (docs/speed.md), on all threads.
//
// Each operator is that of layers.py in exact arithmetic, or Funnel's attention, for float32 and float64, with its
// gradient. No result depends on the number of threads, but for the products of `linear`, which MKL divides among
// them: what is summed over rows is summed in blocks of a fixed size. Built by kernels.py for the processor at hand.
// There are no gradients of gradients. Gradients that nobody wants are computed all the same.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "paddle/phi/api/all.h"  // not extension.h, which wants the headers of Python

namespace {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<int64_t>;

constexpr int64_t kBlock = 64;    // rows that are summed in a row
constexpr int64_t kGrain = 8192;  // numbers that are worth a second thread
constexpr int64_t kGroups = 8;    // of texts, each with sums of its own

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

// -- dropout -----------------------------------------------------------------------------------------------

// Philox 4x32-10 (Salmon et al., SC 2011): four random words of 32 bits for each counter, of a key of two words.
// Counters do not depend on one another, so that any thread draws what any place wants, and the gradient draws
// it again in place of reading a mask.
constexpr int kLanes = 16;

struct Philox {
  uint32_t word[4][kLanes];

  Philox(uint64_t first, uint32_t stream, uint32_t k0, uint32_t k1) {
    uint32_t key0[10], key1[10];
    for (int round = 0; round < 10; ++round) {
      key0[round] = k0 + round * 0x9E3779B9u;
      key1[round] = k1 + round * 0xBB67AE85u;
    }
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) {
      const uint64_t counter = first + lane;
      uint32_t a = static_cast<uint32_t>(counter), b = static_cast<uint32_t>(counter >> 32), c = stream, d = 0;
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

// Which numbers fall, of streams that know nothing of one another.
struct Drop {
  uint32_t k0, k1, least;
  double scale;

  // key (2,) int32
  Drop(const Tensor& key, double rate)
      : k0(key.data<int32_t>()[0]),
        k1(key.data<int32_t>()[1]),
        least(static_cast<uint32_t>(std::min(std::nearbyint(rate * 4294967296.0), 4294967295.0))),
        scale(1 / (1 - rate)) {}

  static constexpr int64_t kEach = 4 * kLanes;  // numbers of one block

  // out = in / (1 - rate) where the word of its place is not below `least`, else 0 (or what NaN and infinity times 0
  // is): the numbers of block b, of n in all.
  template <typename T>
  void Block(const T* in, T* out, int64_t n, int64_t b, uint32_t stream) const {
    const Philox drawn(static_cast<uint64_t>(b) * kLanes, stream, k0, k1);
    const uint32_t* word = &drawn.word[0][0];
    const T kept = static_cast<T>(scale);
    const int64_t from = b * kEach, count = std::min(kEach, n - from);
    if (count == kEach) {
#pragma omp simd
      for (int64_t j = 0; j < kEach; ++j) out[from + j] = in[from + j] * (word[j] >= least ? kept : T(0));
    } else {
      for (int64_t j = 0; j < count; ++j) out[from + j] = in[from + j] * (word[j] >= least ? kept : T(0));
    }
  }

  static int64_t Blocks(int64_t n) { return (n + kEach - 1) / kEach; }
};

std::vector<Tensor> Dropout(const Tensor& x, const Tensor& key, int64_t rate_bits) {
  Tensor y = paddle::empty_like(x);
  const int64_t n = x.numel(), blocks = Drop::Blocks(n);
  const Drop drop(key, Double(rate_bits));
  Visit(x, [&](auto type) {
    using T = decltype(type);
    const T* in = x.data<T>();
    T* out = y.data<T>();
#pragma omp parallel for schedule(static) if (n > kGrain)
    for (int64_t b = 0; b < blocks; ++b) drop.Block(in, out, n, b, 0);
  });
  return {y};
}

std::vector<Tensor> DropoutGrad(const Tensor& key, const Tensor& gy, int64_t rate) { return Dropout(gy, key, rate); }

std::vector<Shape> FirstShape(const Shape& x, const Shape& other, int64_t) { return {x}; }
std::vector<DataType> FirstType(const DataType& x, const DataType& other) { return {x}; }
std::vector<Shape> LastShape(const Shape& other, const Shape& x, int64_t) { return {x}; }
std::vector<DataType> LastType(const DataType& other, const DataType& x) { return {x}; }

// -- attention ---------------------------------------------------------------------------------------------

// MKL's product, in the library that paddle brings; kernels.py says where.
template <typename T>
using Product = void (*)(int order, int turn_a, int turn_b, int m, int n, int k, T alpha, const T* a, int lda,
                         const T* b, int ldb, T beta, T* c, int ldc);
Product<float> sgemm;
Product<double> dgemm;
int (*set_threads)(int);  // MKL's, of the calling thread; gives what was set before

// Products of this thread are computed by it alone: among several threads MKL sees to that itself, but not where OpenMP
// was told to use fewer threads than MKL.
struct Alone {
  int before = set_threads(1);
  Alone() = default;
  Alone(const Alone&) = delete;
  ~Alone() { set_threads(before); }
};

// Rows of numbers, `stride` apart.
template <typename T>
struct Rows {
  const T* numbers;
  int64_t stride;
};

// C (m, n) = A B + beta C, its rows ldc numbers apart; A is (k, m) where it is turned, B is (n, k).
template <bool kTurnA, bool kTurnB, typename T>
inline void Multiply(int64_t m, int64_t n, int64_t k, Rows<T> a, Rows<T> b, T beta, T* c, int64_t ldc) {
  const int order = 101, turn_a = kTurnA ? 112 : 111, turn_b = kTurnB ? 112 : 111;  // row by row; transposed or not
  if constexpr (std::is_same_v<T, float>) {
    sgemm(order, turn_a, turn_b, m, n, k, 1, a.numbers, a.stride, b.numbers, b.stride, beta, c, ldc);
  } else {
    dgemm(order, turn_a, turn_b, m, n, k, 1, a.numbers, a.stride, b.numbers, b.stride, beta, c, ldc);
  }
}

// Numbers of one thread, not set to zero; MKL rounds by where they lie.
template <typename T>
struct Room {
  T* numbers;
  explicit Room(int64_t n)
      : numbers(static_cast<T*>(::operator new[](std::max<int64_t>(n, 1) * sizeof(T), std::align_val_t(64)))) {}
  Room(const Room&) = delete;
  ~Room() { ::operator delete[](numbers, std::align_val_t(64)); }
  operator T*() const { return numbers; }
};

// softmax(score * scale + mask) v of one head after another, each on one thread: its scores stay in the cache, nothing
// is copied to bring the numbers of a head together, and nothing is kept for the gradient, which computes the scores
// anew.
//
// q (B, Q, D), k and v (B, K, D), in each row the numbers of all H heads; mask (B or 1, 1, 1, K). score(i, j) is
// q_i k_j, or with a table, Funnel's: (q_i + u) k_j + [position(i, shift (Q - i) + j) + position(i, N or N + 1)], where
// position(i, n) = (q_i + u) table_n + offset_n. N is the number of distances; the last two rows of the table are for a
// key of another and of the same segment. The bracket is left out in the first row and column where these are `apart`.
template <typename T>
struct Attention {
  int64_t batch, queries, keys, heads, width, all;  // numbers in a row: of one head, of all
  int64_t masks = 1;                                // of each text, or one for all
  const T *q, *k, *v, *mask;
  T scale;
  Drop drop;
  bool drops;

  const T *u = nullptr, *table = nullptr, *offset = nullptr;
  const bool* same = nullptr;
  int64_t listed = 0, shift = 0;
  bool apart = false;

  Attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& key, int64_t heads,
            int64_t scale_bits, int64_t rate_bits)
      : batch(Axis(q, 0)),
        queries(Axis(q, 1)),
        keys(Axis(k, 1)),
        heads(heads),
        width(Axis(q, 2) / heads),
        all(Axis(q, 2)),
        q(q.data<T>()),
        k(k.data<T>()),
        v(v.data<T>()),
        mask(mask.data<T>()),
        scale(static_cast<T>(Double(scale_bits))),
        drop(key, Double(rate_bits)),
        drops(Double(rate_bits) > 0) {
    const Shape seen{batch, keys, all}, hidden{batch, 1, 1, keys}, alike{1, 1, 1, keys};
    PD_CHECK(k.shape() == seen && v.shape() == seen && all % heads == 0,
             "attention: keys or values have not the texts or the width of the queries, or the heads do not divide it");
    PD_CHECK(mask.shape() == hidden || mask.shape() == alike, "attention: the mask has not the shape (", batch,
             " or 1, 1, 1, ", keys, ")");
    masks = mask.shape()[0];
  }

  static int64_t Axis(const Tensor& x, int axis) {
    PD_CHECK(x.shape().size() == 3, "attention: queries and keys have three axes, not ", x.shape().size());
    return x.shape()[axis];
  }

  void UseTable(const Tensor& u, const Tensor& table, const Tensor& offset, const Tensor& same, int64_t shift,
              bool apart) {
    listed = table.shape()[0] - 2;
    const Shape wide{listed + 2, all}, each{heads, listed + 2}, pairs{batch, queries, keys};
    PD_CHECK(u.numel() == all && table.shape() == wide && offset.shape() == each && listed >= shift * queries + keys,
             "attention: the table has too few distances, or another width than the queries");
    PD_CHECK(same.shape() == pairs, "attention: the segments have not the shape (", batch, ", ", queries, ", ", keys,
             ")");
    this->u = u.data<T>();
    this->table = table.data<T>();
    this->offset = offset.data<T>();
    this->same = same.data<bool>();
    this->shift = shift;
    this->apart = apart;
  }

  // What a thread needs. `positions` of all pairs of a query and a row of the table.
  struct Space {
    Room<T> probs, kept, reached, shifted, positions;
    Space(const Attention& of, bool backward)
        : probs(of.queries * of.keys),
          kept(backward ? of.queries * of.keys : 0),
          reached(backward ? of.queries * of.keys : 0),
          shifted(of.table ? of.queries * of.width : 0),
          positions(of.table ? of.queries * (of.listed + 2) : 0) {}
  };

  // One for each thread, made before there are several: no exception may leave a parallel region.
  struct Spaces {
    std::vector<std::unique_ptr<Space>> each;
    Spaces(const Attention& of, bool backward) {
      const int64_t threads = std::min<int64_t>(omp_get_max_threads(), of.batch * of.heads);
      for (int64_t i = 0; i < threads; ++i) each.push_back(std::make_unique<Space>(of, backward));
    }
    const Space& Mine() const { return *each[omp_get_thread_num()]; }
  };

  int64_t Of(int64_t text, int64_t head, int64_t tokens) const { return text * tokens * all + head * width; }

  Rows<T> Head(const T* x, int64_t text, int64_t head, int64_t tokens) const {
    return {x + Of(text, head, tokens), all};
  }

  // The queries of a head; with a table, plus u.
  Rows<T> Queries(int64_t b, int64_t h, const Space& space) const {
    const T* plain = q + Of(b, h, queries);
    if (!table) return Head(q, b, h, queries);
    for (int64_t i = 0; i < queries; ++i) {
#pragma omp simd
      for (int64_t e = 0; e < width; ++e) space.shifted[i * width + e] = plain[i * all + e] + u[h * width + e];
    }
    return {space.shifted, width};
  }

  // Of distances and segments, to the scores in space.probs.
  void AddPositions(int64_t b, int64_t h, const Space& space, Rows<T> asking) const {
    const int64_t rows = listed + 2;
    Multiply<false, true>(queries, rows, width, asking, {table + h * width, all}, T(0), space.positions.numbers, rows);
    const T* added = offset + h * rows;
    for (int64_t i = apart; i < queries; ++i) {
      T *position = space.positions + i * rows, *score = space.probs + i * keys;
      const bool* alike = same + (b * queries + i) * keys;
#pragma omp simd
      for (int64_t n = 0; n < rows; ++n) position[n] += added[n];
      const T* here = position + shift * (queries - i);
      const T other_segment = position[listed], same_segment = position[listed + 1];
#pragma omp simd
      for (int64_t j = apart; j < keys; ++j) score[j] += here[j] + (alike[j] ? same_segment : other_segment);
    }
  }

  // Softmax of the scores of a head, into space.probs.
  void Probabilities(int64_t b, int64_t h, const Space& space, Rows<T> asking) const {
    Multiply<false, true>(queries, keys, width, asking, Head(k, b, h, keys), T(0), space.probs.numbers, keys);
    if (table) AddPositions(b, h, space, asking);
    const T* fill = mask + (masks == 1 ? 0 : b * keys);
    for (int64_t i = 0; i < queries; ++i) {
      T* p = space.probs + i * keys;
      T most = p[0] * scale + fill[0];
#pragma omp simd reduction(max : most)
      for (int64_t j = 0; j < keys; ++j) {
        p[j] = p[j] * scale + fill[j];
        most = p[j] > most ? p[j] : most;
      }
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t j = 0; j < keys; ++j) {
        p[j] = Exp(p[j] - most);
        total += p[j];
      }
      const T share = 1 / total;
#pragma omp simd
      for (int64_t j = 0; j < keys; ++j) p[j] *= share;
    }
  }

  // What dropout keeps of them, in `to`, or where nothing drops they themselves; a stream for each head of each text.
  const T* Kept(int64_t b, int64_t h, const Space& space, T* to) const {
    if (!drops) return space.probs;
    const int64_t n = queries * keys;
    for (int64_t block = 0; block < Drop::Blocks(n); ++block) {
      drop.Block(space.probs.numbers, to, n, block, static_cast<uint32_t>(b * heads + h));
    }
    return to;
  }

  // No pair of a query and a key: all is zero.
  bool Nothing() const { return batch * queries * keys == 0; }

  void Forward(T* out) const {
    if (Nothing()) return Clear(out, queries);
    const Spaces spaces(*this, false);
#pragma omp parallel num_threads(spaces.each.size())
    {
      const Alone alone;
      const Space& space = spaces.Mine();
#pragma omp for schedule(static)
      for (int64_t task = 0; task < batch * heads; ++task) {
        const int64_t b = task / heads, h = task % heads;
        Probabilities(b, h, space, Queries(b, h, space));
        const T* kept = Kept(b, h, space, space.probs);
        Multiply<false, false>(queries, width, keys, {kept, keys}, Head(v, b, h, keys), T(0),
                               out + Of(b, h, queries), all);
      }
    }
  }

  void Clear(T* numbers, int64_t tokens) const { std::fill(numbers, numbers + batch * tokens * all, T(0)); }

  struct Gradients {
    T *q, *k, *v;
    T *table = nullptr, *offset = nullptr;  // sums over texts
  };

  // The gradients of a table are sums over texts. Each of a fixed number of groups of texts has one of its own, so
  // that they do not depend on the number of threads.
  void Backward(const T* up, const Gradients& to) const {
    const int64_t rows = table ? listed + 2 : 0, groups = table ? std::min(batch, kGroups) : batch;
    if (Nothing()) {
      Clear(to.q, queries);
      Clear(to.k, keys);
      Clear(to.v, keys);
      if (table) std::fill(to.table, to.table + rows * all, T(0));
      if (table) std::fill(to.offset, to.offset + rows * heads, T(0));
      return;
    }
    std::vector<T> tables(groups * rows * all, T(0)), offsets(groups * rows * heads, T(0));
    const Spaces spaces(*this, true);
#pragma omp parallel num_threads(spaces.each.size())
    {
      const Alone alone;
      const Space& space = spaces.Mine();
#pragma omp for schedule(static)
      for (int64_t task = 0; task < groups * heads; ++task) {
        const int64_t group = task / heads, h = task % heads;
        for (int64_t b = group * batch / groups; b < (group + 1) * batch / groups; ++b) {
          BackwardOfHead(b, h, space, up, to, tables.data() + group * rows * all,
                         offsets.data() + group * rows * heads);
        }
      }
    }
    if (!table) return;
    SumRows(tables.data(), groups, rows * all, to.table);
    SumRows(offsets.data(), groups, rows * heads, to.offset);
  }

  void BackwardOfHead(int64_t b, int64_t h, const Space& space, const T* up, const Gradients& to, T* to_table,
                      T* to_offset) const {
    const Rows<T> asking = Queries(b, h, space);
    Probabilities(b, h, space, asking);
    up += Of(b, h, queries);
    // The gradient of what is kept, p' = p m / (1 - rate), is up v. With p (m / (1 - rate)) up v = p' up v the softmax
    // goes back without m.
    const T* all_kept = Kept(b, h, space, space.kept);
    Multiply<true, false>(keys, width, queries, {all_kept, keys}, {up, all}, T(0), to.v + Of(b, h, keys), all);
    Multiply<false, true>(queries, keys, width, {up, all}, Head(v, b, h, keys), T(0), space.reached.numbers, keys);
    for (int64_t i = 0; i < queries; ++i) {
      const T *kept = all_kept + i * keys, *g = space.reached + i * keys;
      T* p = space.probs + i * keys;  // `kept` itself where nothing drops
      T mean = 0;
#pragma omp simd reduction(+ : mean)
      for (int64_t j = 0; j < keys; ++j) mean += kept[j] * g[j];
#pragma omp simd
      for (int64_t j = 0; j < keys; ++j) p[j] = (kept[j] * g[j] - p[j] * mean) * scale;
    }
    const T* scores = space.probs;  // from here on their gradients
    T* to_q = to.q + Of(b, h, queries);
    Multiply<false, false>(queries, width, keys, {scores, keys}, Head(k, b, h, keys), T(0), to_q, all);
    Multiply<true, false>(keys, width, queries, {scores, keys}, asking, T(0), to.k + Of(b, h, keys), all);
    if (!table) return;
    const int64_t rows = listed + 2;
    T* positions = space.positions;
    std::fill(positions, positions + queries * rows, T(0));
    for (int64_t i = apart; i < queries; ++i) {
      const T* score = scores + i * keys;
      T *position = positions + i * rows, *here = position + shift * (queries - i);
      const bool* alike = same + (b * queries + i) * keys;
      T other_segment = 0, same_segment = 0;
#pragma omp simd reduction(+ : other_segment, same_segment)
      for (int64_t j = apart; j < keys; ++j) {
        here[j] = score[j];
        other_segment += alike[j] ? T(0) : score[j];
        same_segment += alike[j] ? score[j] : T(0);
      }
      position[listed] = other_segment;
      position[listed + 1] = same_segment;
    }
    Multiply<false, false>(queries, width, rows, {positions, rows}, {table + h * width, all}, T(1), to_q, all);
    Multiply<true, false>(rows, width, queries, {positions, rows}, asking, T(1), to_table + h * width, all);
    for (int64_t i = 0; i < queries; ++i) {
      for (int64_t n = 0; n < rows; ++n) to_offset[h * rows + n] += positions[i * rows + n];
    }
  }
};

std::vector<Tensor> Attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& key,
                           int64_t heads, int64_t scale, int64_t rate) {
  Tensor out = paddle::empty_like(q);
  Visit(q, [&](auto type) {
    using T = decltype(type);
    Attention<T>(q, k, v, mask, key, heads, scale, rate).Forward(out.data<T>());
  });
  return {out};
}

std::vector<Tensor> AttendGrad(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                               const Tensor& key, const Tensor& up, int64_t heads, int64_t scale, int64_t rate) {
  Tensor gq = paddle::empty_like(q), gk = paddle::empty_like(k), gv = paddle::empty_like(v);
  Visit(q, [&](auto type) {
    using T = decltype(type);
    Attention<T>(q, k, v, mask, key, heads, scale, rate)
        .Backward(up.data<T>(), {gq.data<T>(), gk.data<T>(), gv.data<T>()});
  });
  return {gq, gk, gv};
}

std::vector<Tensor> Relate(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& key,
                           const Tensor& u, const Tensor& table, const Tensor& offset, const Tensor& same,
                           int64_t heads, int64_t scale, int64_t rate, int64_t shift, bool apart) {
  Tensor out = paddle::empty_like(q);
  Visit(q, [&](auto type) {
    using T = decltype(type);
    Attention<T> attention(q, k, v, mask, key, heads, scale, rate);
    attention.UseTable(u, table, offset, same, shift, apart);
    attention.Forward(out.data<T>());
  });
  return {out};
}

std::vector<Tensor> RelateGrad(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                               const Tensor& key, const Tensor& u, const Tensor& table, const Tensor& offset,
                               const Tensor& same, const Tensor& up, int64_t heads, int64_t scale, int64_t rate,
                               int64_t shift, bool apart) {
  Tensor gq = paddle::empty_like(q), gk = paddle::empty_like(k), gv = paddle::empty_like(v);
  Tensor gu = paddle::empty_like(u), gt = paddle::empty_like(table), go = paddle::empty_like(offset);
  Visit(q, [&](auto type) {
    using T = decltype(type);
    Attention<T> attention(q, k, v, mask, key, heads, scale, rate);
    attention.UseTable(u, table, offset, same, shift, apart);
    attention.Backward(up.data<T>(),
                       {gq.data<T>(), gk.data<T>(), gv.data<T>(), gt.data<T>(), go.data<T>()});
    SumRows(gq.data<T>(), attention.batch * attention.queries, attention.all, gu.data<T>());
  });
  return {gq, gk, gv, gu, gt, go};
}

std::vector<Shape> AttendShape(const Shape& q, const Shape&, const Shape&, const Shape&, const Shape&, int64_t,
                               int64_t, int64_t) {
  return {q};
}

std::vector<DataType> AttendType(const DataType& q, const DataType&, const DataType&, const DataType&,
                                 const DataType&) {
  return {q};
}

std::vector<Shape> RelateShape(const Shape& q, const Shape&, const Shape&, const Shape&, const Shape&, const Shape&,
                               const Shape&, const Shape&, const Shape&, int64_t, int64_t, int64_t, int64_t, bool) {
  return {q};
}

std::vector<DataType> RelateType(const DataType& q, const DataType&, const DataType&, const DataType&,
                                 const DataType&, const DataType&, const DataType&, const DataType&,
                                 const DataType&) {
  return {q};
}

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

extern "C" void splinter_products(Product<float> single_precision, Product<double> double_precision,
                                  int (*threads)(int)) {
  sgemm = single_precision;
  dgemm = double_precision;
  set_threads = threads;
}

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

PD_BUILD_OP(splinter_attention)
    .Inputs({"Q", "K", "V", "Mask", "Key"})
    .Outputs({"Y"})
    .Attrs({"heads: int64_t", "scale: int64_t", "rate: int64_t"})
    .SetKernelFn(PD_KERNEL(Attend))
    .SetInferShapeFn(PD_INFER_SHAPE(AttendShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(AttendType));
PD_BUILD_GRAD_OP(splinter_attention)
    .Inputs({"Q", "K", "V", "Mask", "Key", paddle::Grad("Y")})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V")})
    .Attrs({"heads: int64_t", "scale: int64_t", "rate: int64_t"})
    .SetKernelFn(PD_KERNEL(AttendGrad));

PD_BUILD_OP(splinter_relative_attention)
    .Inputs({"Q", "K", "V", "Mask", "Key", "U", "Table", "Offset", "Same"})
    .Outputs({"Y"})
    .Attrs({"heads: int64_t", "scale: int64_t", "rate: int64_t", "shift: int64_t", "apart: bool"})
    .SetKernelFn(PD_KERNEL(Relate))
    .SetInferShapeFn(PD_INFER_SHAPE(RelateShape))
    .SetInferDtypeFn(PD_INFER_DTYPE(RelateType));
PD_BUILD_GRAD_OP(splinter_relative_attention)
    .Inputs({"Q", "K", "V", "Mask", "Key", "U", "Table", "Offset", "Same", paddle::Grad("Y")})
    .Outputs({paddle::Grad("Q"), paddle::Grad("K"), paddle::Grad("V"), paddle::Grad("U"), paddle::Grad("Table"),
              paddle::Grad("Offset")})
    .Attrs({"heads: int64_t", "scale: int64_t", "rate: int64_t", "shift: int64_t", "apart: bool"})
    .SetKernelFn(PD_KERNEL(RelateGrad));

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
