// The portable kernels that reduce a matrix product row by row; see rowwise.cuh. Grid: (tiles of 128 rows, layers, splits).
#include "epilogues.cuh"

#define ROWWISE extern "C" __global__ void __launch_bounds__(THREADS, 2)
#define SHARED __shared__ __align__(128) unsigned char shared[2 * STAGES * SLICE_BYTES]

// Tiles of columns of this block's split.
__device__ __forceinline__ int first_tile(int c, int tiles_a_split) { return blockIdx.z * tiles_a_split; }
__device__ __forceinline__ int last_tile(int c, int tiles_a_split) {
  return min((int)(blockIdx.z + 1) * tiles_a_split, (c + TILE_COLUMNS - 1) / TILE_COLUMNS);
}

// JEST's chunk update: layers are images and texts of each model in turn, and the images of a layer meet the texts of the next.
// rows [layers, n, d], columns [layers, c, d], scale and bias [layers]; out [splits, layers, n], sums of softplus.
ROWWISE learnability(const bf16* rows, const bf16* columns, const float* scale, const float* bias, float* out, int n, int c, int d,
                     int tiles_a_split) {
  SHARED;
  const int layer = blockIdx.y, first_row = blockIdx.x * TILE_ROWS;
  const Operands in = {rows + (size_t)layer * n * d, columns + (size_t)(layer ^ 1) * c * d, n, c, d};
  SoftplusSum<false> epilogue(scale[layer], bias[layer], c, 0);
  walk_columns(in, first_row, first_tile(c, tiles_a_split), last_tile(c, tiles_a_split), shared, epilogue);
  const float total = epilogue.total(shared);
  const int row = first_row + threadIdx.x;
  if (threadIdx.x < TILE_ROWS && row < n) out[((size_t)blockIdx.z * gridDim.y + layer) * n + row] = total;
}

// The sigmoid loss of each image with every text: rows [n, d] are pairs from `offset` on; out [splits, n].
ROWWISE sigmoid_rows(const bf16* rows, const bf16* columns, const float* scale, const float* bias, float* out, int n, int c, int d,
                     int offset, int tiles_a_split) {
  SHARED;
  const int first_row = blockIdx.x * TILE_ROWS;
  const Operands in = {rows, columns, n, c, d};
  SoftplusSum<true> epilogue(*scale, *bias, c, offset);
  walk_columns(in, first_row, first_tile(c, tiles_a_split), last_tile(c, tiles_a_split), shared, epilogue);
  const float total = epilogue.total(shared);
  const int row = first_row + threadIdx.x;
  if (threadIdx.x < TILE_ROWS && row < n) out[(size_t)blockIdx.z * n + row] = total;
}

// Cross-entropy from hidden states [n, d] and the output matrix [c, d]: out [splits, n, 2], the largest logit (base 2) and the
// sum of 2^(logit - largest); target [n], the logit of the row's label.
ROWWISE log_sum_exp(const bf16* rows, const bf16* columns, const long long* labels, float2* out, float* target, int n, int c, int d,
                    int tiles_a_split) {
  SHARED;
  const int first_row = blockIdx.x * TILE_ROWS;
  const Operands in = {rows, columns, n, c, d};
  LogSumExp epilogue(c, n, labels, target);
  walk_columns(in, first_row, first_tile(c, tiles_a_split), last_tile(c, tiles_a_split), shared, epilogue);
  const float2 total = epilogue.total(shared);
  const int row = first_row + threadIdx.x;
  if (threadIdx.x < TILE_ROWS && row < n) out[(size_t)blockIdx.z * n + row] = total;
}

// The most similar of the prototypes [c, d] of each row [n, d]: best [splits, n] and its column.
ROWWISE nearest(const bf16* rows, const bf16* columns, float* best, int* at_column, int n, int c, int d, int tiles_a_split) {
  SHARED;
  const int first_row = blockIdx.x * TILE_ROWS;
  const Operands in = {rows, columns, n, c, d};
  Nearest epilogue(c);
  walk_columns(in, first_row, first_tile(c, tiles_a_split), last_tile(c, tiles_a_split), shared, epilogue);
  const Nearest::Place total = epilogue.total(shared);
  const int row = first_row + threadIdx.x;
  if (threadIdx.x < TILE_ROWS && row < n) {
    best[(size_t)blockIdx.z * n + row] = total.value;
    at_column[(size_t)blockIdx.z * n + row] = total.column;
  }
}
