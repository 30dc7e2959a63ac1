// Numbers that the kernels share: constants, shared-memory addresses, 2^x and log2 by the special-function units.
#pragma once
typedef unsigned int u32;

#ifndef EMULATED  // tests/kernels/emulator.h has them for a machine without a GPU
__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

__device__ __forceinline__ float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2_of(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;
#define INFINITY_OF_FLOATS __int_as_float(0x7f800000)

// log2(1 + s) for s >= 0. Where s is small, lg2 of 1 + s has lost it: five terms of the series, good to 2e-7.
__device__ __forceinline__ float log2_of_one_plus(float s) {
  const float series = s * (1.f + s * (-0.5f + s * (0.333333333f + s * (-0.25f + s * 0.2f)))) * LOG2_E;
  return s < 0.0625f ? series : log2_of(1.f + s);
}
