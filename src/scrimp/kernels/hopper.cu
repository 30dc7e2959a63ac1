// JEST's chunk update on Hopper (sm_90a): the products through wgmma, operands through the bulk tensor copy engine (TMA).
//
// A block keeps its 128 rows in shared memory and walks over the columns 256 at a time, in slices of 64 elements that one
// thread of the third warpgroup fetches. The other two warpgroups hold 64 rows each. The second starts some slices after the
// first, so that one multiplies while the other folds: the stages in flight are the distance between them.
#include "numbers.cuh"

typedef unsigned long long u64;

constexpr int HOPPER_THREADS = 384;
constexpr int HOPPER_ROWS = 128;
constexpr int HOPPER_COLUMNS = 256;
constexpr int HOPPER_SLICE = 64;                                    // elements: 128 bytes, the width of the swizzle
constexpr int ROW_SLICE_BYTES = HOPPER_ROWS * HOPPER_SLICE * 2;     // 16 KiB
constexpr int COLUMN_SLICE_BYTES = HOPPER_COLUMNS * HOPPER_SLICE * 2;  // 32 KiB
constexpr int CONSUMER_WARPS = 8;

struct __align__(64) TensorMap {
  u64 opaque[16];
};

// --------------------------------------------------------------------------------------------------------- instructions
#ifndef EMULATED  // tests/kernels/emulator.h has them for a machine without a GPU
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

__device__ __forceinline__ void init_barrier(u32 barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
__device__ __forceinline__ void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void expect_bytes(u32 barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void wait_for(u32 barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// A box of a tensor [layers, rows, d] into shared memory, zeros beyond its ends.
__device__ __forceinline__ void copy_box(u32 to, const TensorMap* map, int element, int row, int layer, u32 barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
               "l"(map), "r"(element), "r"(row), "r"(layer), "r"(barrier)
               : "memory");
}

template <int REGISTERS>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
__device__ __forceinline__ void meet(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }
__device__ __forceinline__ void announce(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

__device__ __forceinline__ void before_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define X8(n) "+f"(x[n]), "+f"(x[n + 1]), "+f"(x[n + 2]), "+f"(x[n + 3]), "+f"(x[n + 4]), "+f"(x[n + 5]), "+f"(x[n + 6]), "+f"(x[n + 7])
// 64 rows by 256 columns by 16 elements, for a warpgroup; `add` false starts the sums anew.
__device__ __forceinline__ void products(float (&x)[128], u64 rows, u64 columns, int add) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "%128, %129, add, 1, 1, 0, 0;\n"
      "}"
      : X8(0), X8(8), X8(16), X8(24), X8(32), X8(40), X8(48), X8(56), X8(64), X8(72), X8(80), X8(88), X8(96), X8(104), X8(112), X8(120)
      : "l"(rows), "l"(columns), "r"(add));
}

// The compiler does not know that the sums change until they are waited for: none may be read before.
__device__ __forceinline__ void settle(float (&x)[128]) {
#pragma unroll
  for (int at = 0; at < 128; ++at) asm volatile("" : "+f"(x[at])::"memory");
}

#endif

// --------------------------------------------------------------------------------------------------------------- folding
// Where wgmma finds an operand whose rows of 128 bytes are swizzled in groups of eight (1,024 bytes apart).
__device__ __forceinline__ u64 operand_at(u32 address) {
  return (u64)((address & 0x3ffff) >> 4) | (1ull << 16) | ((u64)(1024 >> 4) << 32) | (1ull << 62);
}

// Softplus, in units of ln 2, of the 64 columns that a thread holds of either of its two rows; logarithms are taken once for
// 32 columns, whose product of at most 2^32 a float holds.
template <bool MASKED>
__device__ __forceinline__ void fold(const float (&x)[128], float (&sums)[2], float scale, float bias, int first_column, int c) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      float above = 0.f, excess = 0.f;
#pragma unroll
      for (int group = 16 * part; group < 16 * part + 16; ++group)
#pragma unroll
        for (int at = 0; at < 2; ++at) {
          float y = fmaf(x[4 * group + 2 * half + at], scale, bias);
          if (MASKED && first_column + 8 * group + 2 * (lane & 3) + at >= c) y = -INFINITY_OF_FLOATS;
          above += fmaxf(y, 0.f);
          const float t = exp2_of(-fabsf(y));
          excess = fmaf(excess, t, excess + t);
        }
      sums[half] += above + log2_of_one_plus(excess);
    }
}

// ---------------------------------------------------------------------------------------------------------------- kernel
// Grid: (tiles of 128 rows, layers, splits of the columns). `rows` maps [layers, n, d] in boxes of [1, 128, 64], `columns`
// [layers, c, d] in boxes of [1, 256, 64], both swizzled by 128 bytes; `slices` cover d. out [splits, layers, n].
extern "C" __global__ void __launch_bounds__(HOPPER_THREADS, 1)
    learnability_hopper(const __grid_constant__ TensorMap rows, const __grid_constant__ TensorMap columns, const float* scale,
                        const float* bias, float* out, int n, int c, int slices, int stages, int tiles_a_split) {
  DYNAMIC_SHARED(shared);
  const u32 row_slices = shared_address(shared), column_slices = row_slices + slices * ROW_SLICE_BYTES;
  const u32 full = column_slices + stages * COLUMN_SLICE_BYTES, empty = full + 8 * stages, rows_came = empty + 8 * stages;
  const int layer = blockIdx.y, first_row = blockIdx.x * HOPPER_ROWS;
  const int first_tile = blockIdx.z * tiles_a_split;
  const int last_tile = min(first_tile + tiles_a_split, (c + HOPPER_COLUMNS - 1) / HOPPER_COLUMNS);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < stages; ++stage) init_barrier(full + 8 * stage, 1), init_barrier(empty + 8 * stage, CONSUMER_WARPS);
    init_barrier(rows_came, 1);
    publish_barriers();
  }
  __syncthreads();

  const int group = threadIdx.x >> 7;
  int stage = 0, phase = 0;
  if (group == 2) {
    give_registers<40>();
    if (threadIdx.x == 256) {
      expect_bytes(rows_came, slices * ROW_SLICE_BYTES);
      for (int slice = 0; slice < slices; ++slice)
        copy_box(row_slices + slice * ROW_SLICE_BYTES, &rows, slice * HOPPER_SLICE, first_row, layer, rows_came);
      for (int tile = first_tile; tile < last_tile; ++tile)
        for (int slice = 0; slice < slices; ++slice) {
          wait_for(empty + 8 * stage, phase ^ 1);  // a fresh barrier lets the first round pass
          expect_bytes(full + 8 * stage, COLUMN_SLICE_BYTES);
          copy_box(column_slices + stage * COLUMN_SLICE_BYTES, &columns, slice * HOPPER_SLICE, tile * HOPPER_COLUMNS, layer ^ 1,
                   full + 8 * stage);
          if (++stage == stages) stage = 0, phase ^= 1;
        }
    }
  } else {
    take_registers<232>();
    const float slope = scale[layer] * LOG2_E, shift = bias[layer] * LOG2_E;
    const int lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
    // The second warpgroup sets out when the first has gone through all stages, or all there is.
    int until_second = min(stages, (last_tile - first_tile) * slices);
    if (group == 1) meet(1, 256);
    wait_for(rows_came, 0);
    float x[128], sums[2] = {0.f, 0.f};
#pragma unroll
    for (int at = 0; at < 128; ++at) x[at] = 0.f;
    for (int tile = first_tile; tile < last_tile; ++tile) {
      int before = 0;
      for (int slice = 0; slice < slices; ++slice) {
        wait_for(full + 8 * stage, phase);
        const u32 left = row_slices + slice * ROW_SLICE_BYTES + group * (ROW_SLICE_BYTES / 2);
        const u32 right = column_slices + stage * COLUMN_SLICE_BYTES;
        before_products();
#pragma unroll
        for (int step = 0; step < HOPPER_SLICE / 16; ++step)
          products(x, operand_at(left + 32 * step), operand_at(right + 32 * step), slice > 0 || step > 0);
        commit_products();
        if (slice > 0) {
          wait_for_products<1>();  // the slice before is through: its stage may be filled again
          if (lane == 0) arrive(empty + 8 * before);
        }
        before = stage;
        if (++stage == stages) stage = 0, phase ^= 1;
        if (group == 0 && --until_second == 0) announce(1, 256);
      }
      wait_for_products<0>();
      settle(x);
      if (lane == 0) arrive(empty + 8 * before);
      const int first_column = tile * HOPPER_COLUMNS;
      if (first_column + HOPPER_COLUMNS > c)
        fold<true>(x, sums, slope, shift, first_column, c);
      else
        fold<false>(x, sums, slope, shift, first_column, c);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = sums[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const int row = first_row + group * 64 + warp * 16 + half * 8 + (lane >> 2);
      if ((lane & 3) == 0 && row < n) out[((size_t)blockIdx.z * gridDim.y + layer) * n + row] = LN_2 * sum;
    }
  }
}
