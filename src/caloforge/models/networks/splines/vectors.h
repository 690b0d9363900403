/* Vectors of numbers of type REAL, and functions of them. Each lane is computed by the same operations. */

#ifndef VECTORS_H
#define VECTORS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES ((long)(BYTES / sizeof(real)))
#define INLINE static inline __attribute__((always_inline))

typedef REAL real;
typedef real vec __attribute__((vector_size(BYTES)));
typedef __typeof__((vec){0} < (vec){0}) mask;

/* ---- elementary functions ------------------------------------------------------------------------- */

INLINE vec all(real x) { return x - (vec){0}; }
INLINE vec pick(mask m, vec a, vec b) { return (vec)((m & (mask)a) | (~m & (mask)b)); }
INLINE vec at_least(vec x, real low) { return pick(x < low, all(low), x); } /* keeps NaN */
INLINE vec at_most(vec x, real high) { return pick(x > high, all(high), x); }

#define LANEWISE(f, x) ({ vec r_; for (long i_ = 0; i_ < LANES; i_++) r_[i_] = f((x)[i_]); r_; })

INLINE vec root(vec x) {
#ifdef __AVX512F__
    return sizeof(real) == 4 ? (vec)_mm512_sqrt_ps((__m512)x) : (vec)_mm512_sqrt_pd((__m512d)x);
#else
    return LANEWISE(sqrt, x);
#endif
}

INLINE vec exponential(vec x) {
    if (sizeof(real) == 8) return LANEWISE(exp, x);
    x = at_most(at_least(x, -87), 87);
    const real shift = 12582912; /* 1.5 * 2^23: adding it rounds to an integer, found in the last bits */
    vec shifted = x * (real)1.44269504088896341 + shift;
    vec n = shifted - shift;
    vec r = x - n * (real)0.693359375 - n * (real)-2.12194440e-4;
    vec p = all((real)1 / 5040);
    p = p * r + (real)1 / 720;
    p = p * r + (real)1 / 120;
    p = p * r + (real)1 / 24;
    p = p * r + (real)1 / 6;
    p = p * r + (real)0.5;
    p = p * r * r + r + 1;
    mask exponent = ((mask)shifted - (mask)all(shift) + 127) << 23;
    return p * (vec)exponent;
}

/* log((1 + s) / (1 - s)) for |s| <= 1/3 */
INLINE vec log_ratio(vec s) {
    vec q = s * s, p = all((real)2 / 15);
    p = p * q + (real)2 / 13;
    p = p * q + (real)2 / 11;
    p = p * q + (real)2 / 9;
    p = p * q + (real)2 / 7;
    p = p * q + (real)2 / 5;
    p = p * q + (real)2 / 3;
    return p * q * s + 2 * s;
}

INLINE vec logarithm(vec x) { /* x > 0 and normal */
    if (sizeof(real) == 8) return LANEWISE(log, x);
    mask bits = (mask)x - 0x3f3504f3; /* sqrt(1/2) */
    mask exponent = bits >> 23;
    vec m = (vec)((bits & 0x007fffff) + 0x3f3504f3);
    vec n = __builtin_convertvector(exponent, vec);
    return n * (real)0.693147180559945309 + log_ratio((m - 1) / (m + 1));
}

INLINE vec softplus(vec x) {
    vec e = exponential(pick(x > 0, -x, x));
    vec l = sizeof(real) == 8 ? LANEWISE(log1p, e) : log_ratio(e / (e + 2));
    return at_least(x, 0) + l;
}

#endif
