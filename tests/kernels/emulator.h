// Runs CUDA kernels on a CPU, thread for thread, to check their indices, masks, synchronisation and reductions.
//
// A block's threads are coroutines of one system thread. What a warp does together (ldmatrix, mma, shuffles) waits for its 32
// lanes and then follows the layouts of the PTX ISA; copies into shared memory land when they are waited for and not before,
// and shared memory starts as NaNs: a kernel that forgets to wait computes nonsense here too.
#pragma once
#define EMULATED
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline int min(int a, int b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline float __int_as_float(int bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

namespace emulator {

struct Copy {
  void* to;
  const void* from;
  int bytes;
};

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  dim3 index;
  std::vector<std::vector<Copy>> groups;  // committed copies
  std::vector<Copy> open;                 // those not committed yet
  std::vector<std::vector<std::function<void()>>> products;  // committed ones of wgmma
  std::vector<std::function<void()>> issued;
  bool done = false;
};

struct Gathering {  // of the lanes of a warp, or of the threads of a block
  int arrived = 0;
  long generation = 0;
};

struct Barrier {  // of shared memory
  int count = 0, pending = 0, phase = 0;
  long bytes = 0;
};

struct Box {  // on its way into shared memory
  std::function<void()> land;
  int rounds;
};

constexpr size_t STACK = 1 << 16;
constexpr int LANES = 32;

inline std::vector<Thread> threads;
inline int current = 0;
inline ucontext_t scheduler;
inline dim3 block_index, grid_size;
inline std::vector<Gathering> warps;
inline Gathering block;
inline uint32_t slots[64][LANES][8];  // what the lanes of a warp show each other
inline unsigned char* shared_base = nullptr;
inline std::function<void()> kernel;
inline std::map<uint32_t, Barrier> barriers;
inline std::vector<Box> boxes;
inline std::map<int, Gathering> named;

inline void yield() { swapcontext(&threads[current].context, &scheduler); }

inline void gather(Gathering& who, int count) {
  const long mine = who.generation;
  if (++who.arrived == count) {
    who.arrived = 0, ++who.generation;
    return;
  }
  while (who.generation == mine) yield();
}
inline int warp() { return current / LANES; }
inline int lane() { return current % LANES; }
inline void gather_warp() { gather(warps[warp()], LANES); }

inline void begin() {
  kernel();
  threads[current].done = true;
  swapcontext(&threads[current].context, &scheduler);
}

// Runs a kernel over a grid, block after block.
inline void run(dim3 grid, int block_threads, std::function<void()> body) {
  kernel = std::move(body), grid_size = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = {x, y, z};
        threads = std::vector<Thread>(block_threads);
        warps.assign(block_threads / LANES, {});
        block = {}, shared_base = nullptr;
        barriers.clear(), boxes.clear(), named.clear();
        for (int t = 0; t < block_threads; ++t) {
          threads[t].index = {(unsigned)t, 0, 0};
          threads[t].stack = std::make_unique<char[]>(STACK);
          getcontext(&threads[t].context);
          threads[t].context.uc_stack.ss_sp = threads[t].stack.get();
          threads[t].context.uc_stack.ss_size = STACK;
          makecontext(&threads[t].context, begin, 0);
        }
        long idle = 0;
        for (int left = block_threads; left > 0;) {
          const int before = left;
          for (current = 0; current < block_threads; ++current)
            if (!threads[current].done) {
              swapcontext(&scheduler, &threads[current].context);
              if (threads[current].done) --left;
            }
          for (size_t at = 0; at < boxes.size();) {
            if (--boxes[at].rounds > 0) {
              ++at;
              continue;
            }
            boxes[at].land();
            boxes.erase(boxes.begin() + at);
          }
          idle = before == left ? idle + 1 : 0;
          if (idle > 10'000'000) fprintf(stderr, "the block hangs\n"), abort();
        }
      }
}

}  // namespace emulator

#define threadIdx (emulator::threads[emulator::current].index)
#define blockIdx (emulator::block_index)
#define gridDim (emulator::grid_size)

inline void __syncthreads() { emulator::gather(emulator::block, (int)emulator::threads.size()); }

template <class T>
inline T __shfl_xor_sync(unsigned, T value, int mask) {
  static_assert(sizeof(T) == 4);
  auto& slots = emulator::slots[emulator::warp()];
  memcpy(&slots[emulator::lane()][0], &value, 4);
  emulator::gather_warp();
  T other;
  memcpy(&other, &slots[emulator::lane() ^ mask][0], 4);
  emulator::gather_warp();
  return other;
}

inline unsigned __ballot_sync(unsigned, bool vote) {
  auto& slots = emulator::slots[emulator::warp()];
  slots[emulator::lane()][0] = vote;
  emulator::gather_warp();
  unsigned votes = 0;
  for (int lane = 0; lane < emulator::LANES; ++lane) votes |= slots[lane][0] << lane;
  emulator::gather_warp();
  return votes;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

template <class T>
inline T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}

// ------------------------------------------------------------------------------------- instructions of rowwise.cuh, emulated
inline uint32_t shared_address(const void* pointer) {
  // Addresses are offsets from the first one asked for: kernels ask for the start of their shared memory.
  if (!emulator::shared_base) emulator::shared_base = (unsigned char*)pointer;
  return (uint32_t)((unsigned char*)pointer - emulator::shared_base);
}

inline void copy16(uint32_t to, const void* from, bool valid) {
  if (to % 16 || (uintptr_t)from % 16) fprintf(stderr, "a copy is not aligned to 16 bytes\n"), abort();
  unsigned char* place = emulator::shared_base + to;
  memset(place, 0xff, 16);  // from now on nobody may read what was there
  emulator::threads[emulator::current].open.push_back({place, from, valid ? 16 : 0});
}
inline void commit_copies() {
  auto& thread = emulator::threads[emulator::current];
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}
template <int PENDING>
inline void wait_for_copies() {
  auto& groups = emulator::threads[emulator::current].groups;
  while ((int)groups.size() > PENDING) {
    for (const auto& copy : groups.front()) {
      memset(copy.to, 0, 16);
      memcpy(copy.to, copy.from, copy.bytes);
    }
    groups.erase(groups.begin());
  }
}

// PTX ISA, ldmatrix: lanes 8 m to 8 m + 7 point to the rows of matrix m; a lane gets two elements of row lane / 4 of each.
inline void load_matrices(uint32_t (&to)[4], uint32_t address) {
  auto& slots = emulator::slots[emulator::warp()];
  const int lane = emulator::lane();
  if (address % 16) fprintf(stderr, "ldmatrix wants rows aligned to 16 bytes\n"), abort();
  slots[lane][0] = address;
  emulator::gather_warp();
  if (lane % 8 == 0) {  // eight rows of 16 bytes are read at once: they must cover all 32 banks
    uint32_t banks = 0;
    for (int row = 0; row < 8; ++row) banks |= 15u << (slots[lane + row][0] / 4 % 32);
    if (banks != 0xffffffffu) fprintf(stderr, "ldmatrix meets a bank twice\n"), abort();
  }
  for (int matrix = 0; matrix < 4; ++matrix)
    memcpy(&to[matrix], emulator::shared_base + slots[matrix * 8 + lane / 4][0] + lane % 4 * 4, 4);
  emulator::gather_warp();
}

inline float of_bf16(uint32_t pair, int half) { return __int_as_float((int)(half ? pair & 0xffff0000u : pair << 16)); }

// PTX ISA, mma.m16n8k16 with bf16 operands: where the elements of both operands and of the sums lie.
inline void multiply_add(float (&sums)[4], const uint32_t (&left)[4], uint32_t right0, uint32_t right1) {
  auto& slots = emulator::slots[emulator::warp()];
  const int lane = emulator::lane();
  memcpy(slots[lane], left, 16);
  slots[lane][4] = right0, slots[lane][5] = right1;
  emulator::gather_warp();
  for (int at = 0; at < 4; ++at) {
    const int row = lane / 4 + (at >= 2 ? 8 : 0), column = lane % 4 * 2 + at % 2;
    double sum = sums[at];
    for (int k = 0; k < 16; ++k) {
      const uint32_t a = slots[row % 8 * 4 + k % 8 / 2][(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)];
      const uint32_t b = slots[column * 4 + k % 8 / 2][4 + (k >= 8 ? 1 : 0)];
      sum += (double)of_bf16(a, k % 2) * of_bf16(b, k % 2);
    }
    sums[at] = (float)sum;
  }
  emulator::gather_warp();
}

// Both units flush denormal results.
inline float exp2_of(float x) {
  const float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.f : y;
}
inline float log2_of(float x) { return log2f(x); }

// --------------------------------------------------------------------------------------- instructions of hopper.cu, emulated
#define DYNAMIC_SHARED(name) alignas(1024) static unsigned char name[232448]

struct TensorMap;  // in hopper.cu: the first words hold what a test put there
namespace emulator {

struct Tensor {  // bf16 [layers, rows, d], copied in boxes of [1, box_rows, box_elements]
  const unsigned short* data;
  uint64_t d, rows, layers, box_elements, box_rows;
};

// The copy engine's 128-byte swizzle: address bits 4-6 are exchanged by bits 7-9.
inline uint32_t swizzled(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

inline void complete(Barrier& barrier) {
  if (barrier.pending == 0 && barrier.bytes == 0) barrier.phase ^= 1, barrier.pending = barrier.count;
}

}  // namespace emulator

inline void init_barrier(uint32_t barrier, int count) { emulator::barriers[barrier] = {count, count, 0, 0}; }
inline void publish_barriers() {}
inline void expect_bytes(uint32_t at, int bytes) {
  auto& barrier = emulator::barriers.at(at);
  barrier.bytes += bytes, --barrier.pending;
  emulator::complete(barrier);
}
inline void arrive(uint32_t at) {
  auto& barrier = emulator::barriers.at(at);
  if (barrier.pending == 0) fprintf(stderr, "too many arrive at a barrier\n"), abort();
  --barrier.pending;
  emulator::complete(barrier);
}
inline void wait_for(uint32_t at, int parity) {
  while (emulator::barriers.at(at).phase == parity) emulator::yield();
}

template <class Map>
inline void copy_box(uint32_t to, const Map* map, int element, int row, int layer, uint32_t barrier) {
  emulator::Tensor tensor;
  memcpy(&tensor, map, sizeof tensor);
  if (to % 1024) fprintf(stderr, "a swizzled box is not aligned to 1,024 bytes\n"), abort();
  const uint32_t bytes = tensor.box_rows * tensor.box_elements * 2;
  memset(emulator::shared_base + to, 0xff, bytes);  // from now on nobody may read what was there
  static int delay = 0;
  delay = (delay * 5 + 3) % 7;  // boxes land out of order
  emulator::boxes.push_back({[=] {
                               for (uint32_t r = 0; r < tensor.box_rows; ++r)
                                 for (uint32_t e = 0; e < tensor.box_elements; ++e) {
                                   const bool inside = row + r < tensor.rows && element + e < tensor.d;
                                   const uint64_t from = ((uint64_t)layer * tensor.rows + row + r) * tensor.d + element + e;
                                   const unsigned short value = inside ? tensor.data[from] : 0;
                                   const uint32_t place = to + r * tensor.box_elements * 2 + e * 2;
                                   memcpy(emulator::shared_base + emulator::swizzled(place), &value, 2);
                                 }
                               auto& at = emulator::barriers.at(barrier);
                               at.bytes -= bytes;
                               emulator::complete(at);
                             },
                             1 + delay});
}

template <int REGISTERS>
inline void give_registers() {}
template <int REGISTERS>
inline void take_registers() {}
inline void meet(int barrier, int count) { emulator::gather(emulator::named[barrier], count); }
inline void announce(int barrier, int count) {
  auto& who = emulator::named[barrier];
  if (++who.arrived == count) who.arrived = 0, ++who.generation;
}

inline void before_products() {}
inline void commit_products() {
  auto& thread = emulator::threads[emulator::current];
  thread.products.push_back(std::move(thread.issued));
  thread.issued.clear();
}
template <int PENDING>
inline void wait_for_products() {
  auto& groups = emulator::threads[emulator::current].products;
  while ((int)groups.size() > PENDING) {
    for (const auto& product : groups.front()) product();
    groups.erase(groups.begin());
  }
  // A warpgroup waits as one: a stage may be given back only when all of its warps have read it.
  emulator::gather_warp();
}

inline void settle(float (&)[128]) {}

// PTX ISA, wgmma.m64n256k16 with both operands in shared memory, K-major, swizzled by 128 bytes. Operands are read when the
// products are waited for, the last moment at which the unit may read them.
inline void products(float (&x)[128], uint64_t rows, uint64_t columns, int add) {
  for (uint64_t operand : {rows, columns})
    if (operand >> 62 != 1 || (operand >> 32 & 0x3fff) != 64) fprintf(stderr, "an operand's descriptor is off\n"), abort();
  float* sums = x;
  const int thread = emulator::current % 128, lane = thread % 32;
  emulator::threads[emulator::current].issued.push_back([=] {
    const auto element = [](uint64_t operand, int row, int k) {
      const uint32_t start = (uint32_t)(operand & 0x3fff) << 4;
      const uint32_t place = emulator::swizzled(start + row / 8 * 1024 + row % 8 * 128 + k * 2);
      unsigned short bits;
      memcpy(&bits, emulator::shared_base + place, 2);
      return __int_as_float((int)((uint32_t)bits << 16));
    };
    for (int half = 0; half < 2; ++half) {
      const int row = thread / 32 * 16 + half * 8 + lane / 4;
      float left[16];
      for (int k = 0; k < 16; ++k) left[k] = element(rows, row, k);
      for (int group = 0; group < 32; ++group)
        for (int at = 0; at < 2; ++at) {
          float& sum = sums[4 * group + 2 * half + at];
          double total = add ? sum : 0.0;
          for (int k = 0; k < 16; ++k) total += (double)left[k] * element(columns, 8 * group + lane % 4 * 2 + at, k);
          sum = (float)total;
        }
    }
  });
}
