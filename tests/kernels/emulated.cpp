// The kernels of src/scrimp/kernels as functions that run them on this CPU.
#include "emulator.h"

#include "hopper.cu"
#include "prune.cu"
#include "rowwise.cu"
#include "topk.cu"

#define EMULATE(name, parameters, arguments)                                         \
  extern "C" void emulate_##name(unsigned x, unsigned y, unsigned z, parameters) {   \
    emulator::run({x, y, z}, THREADS, [=] { name arguments; });                      \
  }
#define WITH(...) __VA_ARGS__

EMULATE(learnability,
        WITH(const bf16* rows, const bf16* columns, const float* scale, const float* bias, float* out, int n, int c, int d, int tiles),
        (rows, columns, scale, bias, out, n, c, d, tiles))
EMULATE(sigmoid_rows,
        WITH(const bf16* rows, const bf16* columns, const float* scale, const float* bias, float* out, int n, int c, int d, int offset,
             int tiles),
        (rows, columns, scale, bias, out, n, c, d, offset, tiles))
EMULATE(log_sum_exp,
        WITH(const bf16* rows, const bf16* columns, const long long* labels, float2* out, float* target, int n, int c, int d, int tiles),
        (rows, columns, labels, out, target, n, c, d, tiles))
EMULATE(nearest, WITH(const bf16* rows, const bf16* columns, float* best, int* at_column, int n, int c, int d, int tiles),
        (rows, columns, best, at_column, n, c, d, tiles))
EMULATE(finite_sums, WITH(const float* scores, double* sums, i64* counts, i64 n, i64 stretch), (scores, sums, counts, n, stretch))
EMULATE(count_digits, WITH(const float* scores, u64* digits, float limit, u64 seed, i64 n, i64 stretch),
        (scores, digits, limit, seed, n, stretch))
EMULATE(gather_keys, WITH(const float* scores, u64* keys, u64* count, int digit, float limit, u64 seed, i64 n, i64 stretch),
        (scores, keys, count, digit, limit, seed, n, stretch))
EMULATE(count_kept, WITH(const float* scores, i64* parts, float limit, u64 seed, u64 largest, int some, i64 n, i64 stretch),
        (scores, parts, limit, seed, largest, some, n, stretch))
EMULATE(write_kept,
        WITH(const float* scores, const i64* before, i64* high, i64* low, float limit, u64 seed, u64 largest, int some, i64 n, i64 stretch),
        (scores, before, high, low, limit, seed, largest, some, n, stretch))
EMULATE(count_magnitudes, WITH(const void* values, const u32* prefix, u32* digits, int bytes, int pass, i64 n, i64 stretch),
        (values, prefix, digits, bytes, pass, n, stretch))
EMULATE(choose_digit, WITH(const u32* digits, u32* prefix, i64* wanted, int pass), (digits, prefix, wanted, pass))
EMULATE(count_equal, WITH(const void* values, const u32* threshold, i64* equal, int bytes, i64 n, i64 stretch),
        (values, threshold, equal, bytes, n, stretch))
EMULATE(write_mask,
        WITH(const void* values, const u32* threshold, const i64* wanted, const i64* before, unsigned char* mask, int bytes, i64 n,
             i64 stretch),
        (values, threshold, wanted, before, mask, bytes, n, stretch))

extern "C" void emulate_learnability_hopper(unsigned x, unsigned y, unsigned z, const TensorMap* rows, const TensorMap* columns,
                                            const float* scale, const float* bias, float* out, int n, int c, int slices, int stages,
                                            int tiles) {
  const TensorMap of_rows = *rows, of_columns = *columns;
  emulator::run({x, y, z}, HOPPER_THREADS,
                [=] { learnability_hopper(of_rows, of_columns, scale, bias, out, n, c, slices, stages, tiles); });
}

// -------------------------------------------------------------------------------------------------- the emulator's own tests
extern "C" unsigned long long key_at(u64 seed, i64 index) { return key_of(seed, index); }

extern "C" float read_without_waiting(int wait) {
  alignas(16) static const float source[4] = {3, 3, 3, 3};
  alignas(128) static float shared[4];
  float found = 0;
  emulator::run({1, 1, 1}, 32, [&] {
    const u32 to = shared_address(shared);
    if (threadIdx.x == 0) {
      copy16(to, source, true);
      commit_copies();
      if (wait) wait_for_copies<0>();
      found = shared[0];
    }
  });
  return found;
}
