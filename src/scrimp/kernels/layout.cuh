// Where everything lies: the index arithmetic of the portable matrix-product tiles.
//
// Each function is one expression of integers that C++ and Python read alike: tests/kernels/test_layout.py takes them out of
// this file and runs whole tiles through them on a machine without a GPU.

#define INDEX static __device__ __forceinline__ int

constexpr int TILE_ROWS = 128;     // rows a block holds
constexpr int TILE_COLUMNS = 128;  // columns it walks over at a time
constexpr int SLICE = 32;          // elements of the inner dimension in shared memory at a time
constexpr int STAGES = 3;          // slices in flight
constexpr int THREADS = 256;       // 8 warps: 2 down the rows, 4 along the columns, 64 x 32 elements each
constexpr int SLICE_BYTES = 8192;  // of either operand: 128 rows of 32 bf16

// Bytes from the start of a slice to a chunk of 16 bytes. A row is 64 bytes; chunks are permuted so that the eight rows of a
// matrix that ldmatrix reads lie in different banks.
INDEX slice_offset(int row, int chunk) { return row * 64 + ((chunk ^ ((row >> 1) & 3)) << 4); }

// Which row and chunk of a slice a thread copies in either of its two turns.
INDEX copied_row(int thread, int turn) { return (thread >> 2) + turn * 64; }
INDEX copied_chunk(int thread) { return thread & 3; }

// Where the lanes of a warp point ldmatrix.x4, for 16 rows by 16 elements of the left operand (tile: 0-3, step: 0-1), ...
INDEX left_row(int warp, int tile, int lane) { return (warp & 1) * 64 + tile * 16 + (lane & 15); }
INDEX left_chunk(int step, int lane) { return step * 2 + (lane >> 4); }
// ... and for 16 columns by 16 elements of the right one, which is stored column by column (pair: 0-1).
INDEX right_row(int warp, int pair, int lane) { return (warp >> 1) * 32 + pair * 16 + ((lane >> 4) << 3) + (lane & 7); }
INDEX right_chunk(int step, int lane) { return step * 2 + ((lane >> 3) & 1); }

// Which row and column of the tile an accumulator belongs to (half: 0 or 1; tile: 0-3 down, part: 0-3 along, at: 0-1).
INDEX own_row(int warp, int tile, int half, int lane) { return (warp & 1) * 64 + tile * 16 + half * 8 + (lane >> 2); }
INDEX own_column(int warp, int part, int at, int lane) { return (warp >> 1) * 32 + part * 8 + (lane & 3) * 2 + at; }
