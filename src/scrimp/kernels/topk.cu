// The threshold of the k largest magnitudes by radix select, and the mask; see topk.py. Magnitudes are the bits of a float
// without its sign, in the upper half of a word if it has 16: they are ordered as the numbers are. Grid: (rows, stretches).
typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;

constexpr int TOPK_THREADS = 256;
constexpr int TOPK_WARPS = TOPK_THREADS / 32;
constexpr int DIGITS = 2048;  // 11 bits at a time: 31-21, 20-10, and the last 10

#define TOPK extern "C" __global__ void __launch_bounds__(TOPK_THREADS)

__device__ __forceinline__ u32 magnitude(const void* values, int bytes, i64 at) {
  return bytes == 4 ? ((const u32*)values)[at] & 0x7fffffffu : (u32)(((const u16*)values)[at] & 0x7fffu) << 16;
}
__device__ __forceinline__ int shift_of(int pass) { return pass == 0 ? 21 : pass == 1 ? 10 : 0; }

// Of the numbers whose upper bits are the row's prefix, how many have which next bits: digits [rows, 2048].
TOPK count_magnitudes(const void* values, const u32* prefix, u32* digits, int bytes, int pass, i64 n, i64 stretch) {
  __shared__ u32 own[DIGITS];
  for (int digit = threadIdx.x; digit < DIGITS; digit += TOPK_THREADS) own[digit] = 0;
  __syncthreads();
  const i64 row = blockIdx.x, begin = blockIdx.y * stretch, end = min(n, begin + stretch);
  const int shift = shift_of(pass), before = pass == 0 ? 32 : shift_of(pass - 1);
  for (i64 at = begin + threadIdx.x; at < end; at += TOPK_THREADS) {
    const u32 bits = magnitude(values, bytes, row * n + at);
    if (pass == 0 || bits >> before == prefix[row] >> before) atomicAdd(&own[(bits >> shift) & (pass == 2 ? 1023 : 2047)], 1u);
  }
  __syncthreads();
  for (int digit = threadIdx.x; digit < DIGITS; digit += TOPK_THREADS)
    if (own[digit]) atomicAdd(&digits[row * DIGITS + digit], own[digit]);
}

// The digit at which, from the top, the wanted number is reached: it joins the prefix, and what lies above is no longer wanted.
TOPK choose_digit(const u32* digits, u32* prefix, i64* wanted, int pass) {
  __shared__ i64 sums[TOPK_THREADS];
  const i64 row = blockIdx.x;
  constexpr int EACH = DIGITS / TOPK_THREADS;
  // Thread 0 has the topmost digits.
  const int top = DIGITS - 1 - threadIdx.x * EACH;
  i64 own = 0;
  for (int at = 0; at < EACH; ++at) own += digits[row * DIGITS + top - at];
  sums[threadIdx.x] = own;
  __syncthreads();
  i64 above = 0;
  for (int other = 0; other < threadIdx.x; ++other) above += sums[other];
  const i64 count = wanted[row];
  __syncthreads();  // all have read before one writes
  if (above < count && above + own >= count) {
    int digit = top;
    while (above + digits[row * DIGITS + digit] < count) above += digits[row * DIGITS + digit--];
    prefix[row] |= (u32)digit << shift_of(pass);
    wanted[row] = count - above;
  }
}

// How many numbers of a stretch equal the threshold: equal [rows, stretches].
TOPK count_equal(const void* values, const u32* threshold, i64* equal, int bytes, i64 n, i64 stretch) {
  __shared__ u32 own;
  if (threadIdx.x == 0) own = 0;
  __syncthreads();
  const i64 row = blockIdx.x, begin = blockIdx.y * stretch, end = min(n, begin + stretch);
  u32 count = 0;
  for (i64 at = begin + threadIdx.x; at < end; at += TOPK_THREADS) count += magnitude(values, bytes, row * n + at) == threshold[row];
  atomicAdd(&own, count);
  __syncthreads();
  if (threadIdx.x == 0) equal[row * gridDim.y + blockIdx.y] = own;
}

// The mask: all above the threshold, and of those that equal it as many as are wanted, the first ones. `before` [rows,
// stretches] says how many equal ones the stretches before hold.
TOPK write_mask(const void* values, const u32* threshold, const i64* wanted, const i64* before, unsigned char* mask, int bytes, i64 n,
                i64 stretch) {
  __shared__ int scratch[TOPK_WARPS];
  const i64 row = blockIdx.x, begin = blockIdx.y * stretch, end = min(n, begin + stretch);
  const u32 least = threshold[row];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  i64 seen = before[row * gridDim.y + blockIdx.y];
  for (i64 first = begin; first < end; first += TOPK_THREADS) {
    const i64 at = first + threadIdx.x;
    const u32 bits = at < end ? magnitude(values, bytes, row * n + at) : 0;
    const bool equal = at < end && bits == least;
    const u32 votes = __ballot_sync(0xffffffffu, equal);
    if (lane == 0) scratch[warp] = __popc(votes);
    __syncthreads();
    i64 rank = seen + __popc(votes & ((1u << lane) - 1));
    for (int other = 0; other < TOPK_WARPS; ++other) {
      if (other < warp) rank += scratch[other];
      seen += scratch[other];
    }
    __syncthreads();
    if (at < end) mask[row * n + at] = bits > least || (equal && rank < wanted[row]);
  }
}
