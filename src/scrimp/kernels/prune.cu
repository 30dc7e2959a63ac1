// InfoBatch's epoch over N scores; see prune.py. Every block owns a stretch of the scores and walks over it in order, 256 at a
// time, so that what it writes is in order too. Sums are taken in a fixed order; only whole numbers are added atomically.
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

constexpr int PRUNE_THREADS = 256;
constexpr int PRUNE_WARPS = PRUNE_THREADS / 32;
constexpr int DIGIT_BITS = 12;

#define PRUNE extern "C" __global__ void __launch_bounds__(PRUNE_THREADS)

// SplitMix64: the key of an index.
__device__ __forceinline__ u64 key_of(u64 seed, i64 index) {
  u64 z = seed + ((u64)index + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// The sum of a value of each thread, by halving the distance: thread 0 gets it.
template <class T>
__device__ __forceinline__ T sum_of_block(T* scratch, T value) {
  scratch[threadIdx.x] = value;
  for (int distance = PRUNE_THREADS / 2; distance > 0; distance /= 2) {
    __syncthreads();
    if (threadIdx.x < distance) scratch[threadIdx.x] += scratch[threadIdx.x + distance];
  }
  __syncthreads();
  return scratch[0];
}

// How many threads before this one have `mine` set, and how many of the block have; `scratch` holds PRUNE_WARPS numbers.
__device__ __forceinline__ void rank_in_block(bool mine, int* scratch, int& before, int& all) {
  const u32 votes = __ballot_sync(0xffffffffu, mine);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  if (lane == 0) scratch[warp] = __popc(votes);
  __syncthreads();
  before = __popc(votes & ((1u << lane) - 1)), all = 0;
  for (int other = 0; other < PRUNE_WARPS; ++other) {
    if (other < warp) before += scratch[other];
    all += scratch[other];
  }
  __syncthreads();
}

PRUNE finite_sums(const float* scores, double* sums, i64* counts, i64 n, i64 stretch) {
  __shared__ double scratch[PRUNE_THREADS];
  __shared__ i64 numbers[PRUNE_THREADS];
  const i64 begin = blockIdx.x * stretch, end = min(n, begin + stretch);
  double sum = 0;
  i64 count = 0;
  for (i64 at = begin + threadIdx.x; at < end; at += PRUNE_THREADS) {
    const float score = scores[at];
    if (fabsf(score) <= 3.402823466e+38f) sum += score, ++count;  // false for NaN and infinities
  }
  sum = sum_of_block(scratch, sum), count = sum_of_block(numbers, count);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum, counts[blockIdx.x] = count;
}

// How many keys of low scores have which upper bits: digits [4096].
PRUNE count_digits(const float* scores, u64* digits, float limit, u64 seed, i64 n, i64 stretch) {
  __shared__ u32 own[1 << DIGIT_BITS];
  for (int digit = threadIdx.x; digit < (1 << DIGIT_BITS); digit += PRUNE_THREADS) own[digit] = 0;
  __syncthreads();
  const i64 begin = blockIdx.x * stretch, end = min(n, begin + stretch);
  for (i64 at = begin + threadIdx.x; at < end; at += PRUNE_THREADS)
    if (scores[at] < limit) atomicAdd(&own[key_of(seed, at) >> (64 - DIGIT_BITS)], 1u);
  __syncthreads();
  for (int digit = threadIdx.x; digit < (1 << DIGIT_BITS); digit += PRUNE_THREADS)
    if (own[digit]) atomicAdd(&digits[digit], (u64)own[digit]);
}

// The keys of low scores with given upper bits, in any order.
PRUNE gather_keys(const float* scores, u64* keys, u64* count, int digit, float limit, u64 seed, i64 n, i64 stretch) {
  const i64 begin = blockIdx.x * stretch, end = min(n, begin + stretch);
  for (i64 at = begin + threadIdx.x; at < end; at += PRUNE_THREADS)
    if (scores[at] < limit) {
      const u64 key = key_of(seed, at);
      if ((int)(key >> (64 - DIGIT_BITS)) == digit) keys[atomicAdd(count, 1ull)] = key;
    }
}

// How many scores of a block's stretch stay: parts [blocks, 2], high ones and low ones.
PRUNE count_kept(const float* scores, i64* parts, float limit, u64 seed, u64 largest, int some, i64 n, i64 stretch) {
  __shared__ i64 numbers[PRUNE_THREADS];
  const i64 begin = blockIdx.x * stretch, end = min(n, begin + stretch);
  i64 high = 0, low = 0;
  for (i64 at = begin + threadIdx.x; at < end; at += PRUNE_THREADS) {
    if (!(scores[at] < limit))
      ++high;
    else if (some && key_of(seed, at) <= largest)
      ++low;
  }
  high = sum_of_block(numbers, high);
  if (threadIdx.x == 0) parts[2 * blockIdx.x] = high;
  __syncthreads();
  low = sum_of_block(numbers, low);
  if (threadIdx.x == 0) parts[2 * blockIdx.x + 1] = low;
}

// Their indices, from where the blocks before end: before [blocks, 2].
PRUNE write_kept(const float* scores, const i64* before, i64* high, i64* low, float limit, u64 seed, u64 largest, int some, i64 n,
                 i64 stretch) {
  __shared__ int scratch[PRUNE_WARPS];
  const i64 begin = blockIdx.x * stretch, end = min(n, begin + stretch);
  i64 next_high = before[2 * blockIdx.x], next_low = before[2 * blockIdx.x + 1];
  for (i64 first = begin; first < end; first += PRUNE_THREADS) {
    const i64 at = first + threadIdx.x;
    const bool inside = at < end, is_low = inside && scores[at] < limit;
    const bool stays = is_low && some && key_of(seed, at) <= largest;
    int rank, all;
    rank_in_block(inside && !is_low, scratch, rank, all);
    if (inside && !is_low) high[next_high + rank] = at;
    next_high += all;
    rank_in_block(stays, scratch, rank, all);
    if (stays) low[next_low + rank] = at;
    next_low += all;
  }
}
