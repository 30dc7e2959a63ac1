// What the tiles of a product are folded into, row by row.
//
// A thread holds 8 rows of a tile (4 tiles x 2 halves) and 8 of its columns; the four lanes of a quad and the four warps along
// the columns share a row. Folding ends with the quad (shuffles) and the warps (shared memory), always in the same order.
#pragma once
#include "rowwise.cuh"

// The sums of a row's four warps, in order; `scratch` holds [4][128] numbers. Thread t < 128 gets row t's.
template <class T, class Combine>
__device__ __forceinline__ T across_warps(T* scratch, const T (&own)[4][2], Combine combine) {
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  if ((lane & 3) == 0)
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) scratch[(warp >> 1) * TILE_ROWS + own_row(warp, tile, half, lane)] = own[tile][half];
  __syncthreads();
  const int row = threadIdx.x & (TILE_ROWS - 1);
  T total = scratch[row];
#pragma unroll
  for (int part = 1; part < 4; ++part) total = combine(total, scratch[part * TILE_ROWS + row]);
  __syncthreads();
  return total;
}

// ------------------------------------------------------------------------------------------------------ sums of softplus
// Of softplus(scale x + bias) over the columns. In base 2, softplus(y ln 2) / ln 2 = max(y, 0) + log2(1 + 2^-|y|), and the
// logarithms of a thread's 8 columns are taken as one: s becomes the product of their 1 + t, less 1, so that a small t is kept.
// With DIAGONAL the logit of column `row + offset`, the matching pair's, changes sign: the sigmoid loss.
template <bool DIAGONAL>
struct SoftplusSum {
  float scale, bias;  // both times log2(e)
  int c, offset;
  float sums[4][2];

  __device__ SoftplusSum(float scale_, float bias_, int c_, int offset_)
      : scale(scale_ * LOG2_E), bias(bias_ * LOG2_E), c(c_), offset(offset_), sums{} {}

  template <bool MASKED>
  __device__ __forceinline__ void fold(const float (&x)[4][4][4], int first_row, int first_column) {
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float above = 0.f, excess = 0.f;
#pragma unroll
        for (int part = 0; part < 4; ++part)
#pragma unroll
          for (int at = 0; at < 2; ++at) {
            float y = fmaf(x[tile][part][half * 2 + at], scale, bias);
            const int column = first_column + own_column(warp, part, at, lane);
            if (DIAGONAL && column == first_row + own_row(warp, tile, half, lane) + offset) y = -y;
            if (MASKED && column >= c) y = -INFINITY_OF_FLOATS;
            above += fmaxf(y, 0.f);
            const float t = exp2_of(-fabsf(y));
            excess = fmaf(excess, t, excess + t);
          }
        sums[tile][half] += above + log2_of_one_plus(excess);
      }
  }

  __device__ __forceinline__ void take(const float (&x)[4][4][4], int first_row, int first_column, bool masked) {
    if (masked)
      fold<true>(x, first_row, first_column);
    else
      fold<false>(x, first_row, first_column);
  }

  // Thread t < 128 gets the sum of row t.
  __device__ __forceinline__ float total(unsigned char* shared) {
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        sums[tile][half] += __shfl_xor_sync(0xffffffffu, sums[tile][half], 1);
        sums[tile][half] += __shfl_xor_sync(0xffffffffu, sums[tile][half], 2);
      }
    return LN_2 * across_warps((float*)shared, sums, [](float a, float b) { return a + b; });
  }
};

// ---------------------------------------------------------------------------------------------------- log-sum-exp, target
// The logarithm of a row's sum of exponentials, as the largest logit (base 2) and the sum of 2^(y - largest), and the logit of
// the row's label, which the thread that meets it writes down.
struct LogSumExp {
  int c, n;
  const long long* labels;  // [n]
  float* target;            // [n]
  float largest[4][2], sums[4][2];

  __device__ LogSumExp(int c_, int n_, const long long* labels_, float* target_) : c(c_), n(n_), labels(labels_), target(target_), sums{} {
#pragma unroll
    for (int tile = 0; tile < 4; ++tile) largest[tile][0] = largest[tile][1] = -INFINITY_OF_FLOATS;
  }

  // The sum of two parts; a part without any column has the largest logit -inf and must not give inf - inf.
  static __device__ __forceinline__ void join(float& largest, float& sum, float other_largest, float other_sum) {
    const float both = fmaxf(largest, other_largest), finite = both == -INFINITY_OF_FLOATS ? 0.f : both;
    sum = sum * exp2_of(largest - finite) + other_sum * exp2_of(other_largest - finite);
    largest = both;
  }

  __device__ __forceinline__ void take(const float (&x)[4][4][4], int first_row, int first_column, bool masked) {
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row + own_row(warp, tile, half, lane);
        const long long label = row < n ? labels[row] - first_column : -1;
        float y[8], most = -INFINITY_OF_FLOATS, sum = 0.f;
#pragma unroll
        for (int part = 0; part < 4; ++part)
#pragma unroll
          for (int at = 0; at < 2; ++at) {
            const int column = own_column(warp, part, at, lane);
            const float logit = x[tile][part][half * 2 + at];
            if (label == column) target[row] = logit;
            y[part * 2 + at] = masked && first_column + column >= c ? -INFINITY_OF_FLOATS : logit * LOG2_E;
            most = fmaxf(most, y[part * 2 + at]);
          }
        const float finite = most == -INFINITY_OF_FLOATS ? 0.f : most;
#pragma unroll
        for (int at = 0; at < 8; ++at) sum += exp2_of(y[at] - finite);
        join(largest[tile][half], sums[tile][half], most, sum);
      }
  }

  // Thread t < 128 gets row t's largest logit (base 2) and sum.
  __device__ __forceinline__ float2 total(unsigned char* shared) {
    float2 own[4][2];
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int step = 1; step < 4; step *= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, largest[tile][half], step);
          const float other_sum = __shfl_xor_sync(0xffffffffu, sums[tile][half], step);
          // Always the lower lane's part first, so that both lanes round alike.
          float m = threadIdx.x & step ? other : largest[tile][half], s = threadIdx.x & step ? other_sum : sums[tile][half];
          join(m, s, threadIdx.x & step ? largest[tile][half] : other, threadIdx.x & step ? sums[tile][half] : other_sum);
          largest[tile][half] = m, sums[tile][half] = s;
        }
        own[tile][half] = make_float2(largest[tile][half], sums[tile][half]);
      }
    return across_warps((float2*)shared, own, [](float2 a, float2 b) {
      join(a.x, a.y, b.x, b.y);
      return a;
    });
  }
};

// --------------------------------------------------------------------------------------------------------------- nearest
// The largest product of a row and its column; of equals the first column.
struct Nearest {
  int c;
  float best[4][2];
  int at_column[4][2];

  __device__ Nearest(int c_) : c(c_) {
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) best[tile][half] = -INFINITY_OF_FLOATS, at_column[tile][half] = 0x7fffffff;
  }

  static __device__ __forceinline__ bool better(float one, int column, float other, int other_column) {
    return one > other || (one == other && column < other_column);
  }

  __device__ __forceinline__ void take(const float (&x)[4][4][4], int first_row, int first_column, bool masked) {
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int part = 0; part < 4; ++part)
#pragma unroll
          for (int at = 0; at < 2; ++at) {
            // A thread meets its columns in ascending order, so the first of equals stays.
            const int column = first_column + own_column(warp, part, at, lane);
            const float value = x[tile][part][half * 2 + at];
            if ((!masked || column < c) && value > best[tile][half]) best[tile][half] = value, at_column[tile][half] = column;
          }
  }

  struct Place {
    float value;
    int column;
  };

  // Thread t < 128 gets row t's.
  __device__ __forceinline__ Place total(unsigned char* shared) {
    Place own[4][2];
#pragma unroll
    for (int tile = 0; tile < 4; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int step = 1; step < 4; step *= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, best[tile][half], step);
          const int other_column = __shfl_xor_sync(0xffffffffu, at_column[tile][half], step);
          if (better(other, other_column, best[tile][half], at_column[tile][half]))
            best[tile][half] = other, at_column[tile][half] = other_column;
        }
        own[tile][half].value = best[tile][half], own[tile][half].column = at_column[tile][half];
      }
    return across_warps((Place*)shared, own, [](Place a, Place b) { return better(b.value, b.column, a.value, a.column) ? b : a; });
  }
};
