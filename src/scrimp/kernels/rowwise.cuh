// A matrix product that is reduced row by row while it is made: out[i] = reduce over k of f(rows[i] . columns[k]).
//
// bf16 operands, float32 sums, tensor cores through mma.sync, operands through cp.async in three stages. The product is never
// stored: an epilogue folds each tile of 128 x 128 into a few numbers a row. sm_80 and newer. Blocks: (128 rows, layer, split
// of the columns); nothing is added atomically, so results do not depend on the order in which blocks run.
#pragma once
#include "layout.cuh"
#include "numbers.cuh"

typedef unsigned short bf16;  // its bits: nothing here does arithmetic on one

// --------------------------------------------------------------------------------------------------------- instructions
#ifndef EMULATED  // tests/kernels/emulator.h has them for a machine without a GPU
// 16 bytes into shared memory; zeros where `valid` is false (`from` must be readable all the same).
__device__ __forceinline__ void copy16(u32 to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void load_matrices(u32 (&to)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void multiply_add(float (&sums)[4], const u32 (&left)[4], u32 right0, u32 right1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

#endif

// ------------------------------------------------------------------------------------------------------------- main loop
struct Operands {
  const bf16* rows;     // [n, d] of this block's layer
  const bf16* columns;  // [c, d]
  int n, c, d;          // d a multiple of 8: chunks of 16 bytes
};

// One slice of 128 rows from `first` into shared memory, zeros beyond the matrix.
__device__ __forceinline__ void copy_slice(u32 to, const bf16* from, int first, int count, int d, int begin) {
#pragma unroll
  for (int turn = 0; turn < 2; ++turn) {
    const int row = copied_row(threadIdx.x, turn), chunk = copied_chunk(threadIdx.x);
    const int element = begin + chunk * 8;
    const bool valid = first + row < count && element < d;
    const size_t at = valid ? (size_t)(first + row) * d + element : 0;
    copy16(to + slice_offset(row, chunk), from + at, valid);
  }
}

// Walks over the column tiles [first_tile, last_tile) for the rows from `first_row`, and hands every tile's accumulators to
// `epilogue.take(sums, first_row, first_column, masked)`: sums[tile][part][half * 2 + at], placed as `own_row` and
// `own_column` say; `masked` where the tile reaches beyond the last column.
template <class Epilogue>
__device__ __forceinline__ void walk_columns(const Operands& in, int first_row, int first_tile, int last_tile,
                                             unsigned char* shared, Epilogue& epilogue) {
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int slices = (in.d + SLICE - 1) / SLICE;
  const int total = (last_tile - first_tile) * slices;
  const u32 left = shared_address(shared), right = left + STAGES * SLICE_BYTES;

  // The next slice to fetch: its number within the inner dimension, its tile and its stage, without divisions.
  int fetch_slice = 0, fetch_tile = first_tile, fetch_stage = 0;
  auto fetch = [&]() {
    if (fetch_tile < last_tile) {
      copy_slice(left + fetch_stage * SLICE_BYTES, in.rows, first_row, in.n, in.d, fetch_slice * SLICE);
      copy_slice(right + fetch_stage * SLICE_BYTES, in.columns, fetch_tile * TILE_COLUMNS, in.c, in.d, fetch_slice * SLICE);
      if (++fetch_slice == slices) fetch_slice = 0, ++fetch_tile;
      if (++fetch_stage == STAGES) fetch_stage = 0;
    }
    commit_copies();  // an empty group too, so that the count of pending ones stays the same
  };
#pragma unroll
  for (int stage = 0; stage < STAGES - 1; ++stage) fetch();

  float sums[4][4][4] = {};
  int slice = 0, tile = first_tile, stage = 0;
  for (int turn = 0; turn < total; ++turn) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();  // this slice has come for all threads, and all are done with the stage that is fetched into next
    fetch();
    const u32 left_slice = left + stage * SLICE_BYTES, right_slice = right + stage * SLICE_BYTES;
#pragma unroll
    for (int step = 0; step < SLICE / 16; ++step) {
      u32 a[4][4], b[2][4];
#pragma unroll
      for (int t = 0; t < 4; ++t) load_matrices(a[t], left_slice + slice_offset(left_row(warp, t, lane), left_chunk(step, lane)));
#pragma unroll
      for (int p = 0; p < 2; ++p) load_matrices(b[p], right_slice + slice_offset(right_row(warp, p, lane), right_chunk(step, lane)));
#pragma unroll
      for (int t = 0; t < 4; ++t)
#pragma unroll
        for (int part = 0; part < 4; ++part) multiply_add(sums[t][part], a[t], b[part >> 1][(part & 1) * 2], b[part >> 1][(part & 1) * 2 + 1]);
    }
    if (++stage == STAGES) stage = 0;
    if (++slice == slices) {
      const int first_column = tile * TILE_COLUMNS;
      epilogue.take(sums, first_row, first_column, first_column + TILE_COLUMNS > in.c);
#pragma unroll
      for (int t = 0; t < 4; ++t)
#pragma unroll
        for (int part = 0; part < 4; ++part)
#pragma unroll
          for (int at = 0; at < 4; ++at) sums[t][part][at] = 0.f;
      slice = 0, ++tile;
    }
  }
  wait_for_copies<0>();
  __syncthreads();  // shared memory is free for the epilogue
}
