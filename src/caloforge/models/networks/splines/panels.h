/* Matrices in panels of rows, multiplied with columns of which each lane is an example of its own.

   Compiled with -DBF16=1 for products of bfloat16 (REAL=float). */

#ifndef PANELS_H
#define PANELS_H

#include "vectors.h"

#ifndef MR /* rows of a matrix that are computed together; as many sums for each vector must fit the registers */
#if defined(__AVX512F__) || defined(__aarch64__)
#define MR 12
#else
#define MR 6
#endif
#endif

#define PAIR (BF16 ? 2 : 1) /* inner indices that stand together */

#if BF16
typedef uint16_t elem;
#else
typedef real elem;
#endif

INLINE long up(long n, long m) { return (n + m - 1) / m * m; }
#define PANELS(rows) (up(rows, MR) / MR)
#define PANEL(inner) (MR * up(inner, PAIR)) /* numbers of a panel: MR rows of a matrix, inner index first */

INLINE elem element(real x) {
#if BF16
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0; /* NaN */
    return (elem)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
#else
    return x;
#endif
}

/* Rows of `inner` numbers, `stride` from row to row, into panels. */
static void pack_rows(elem *to, const real *from, long rows, long inner, long stride) {
    memset(to, 0, PANELS(rows) * PANEL(inner) * sizeof(elem));
    for (long r = 0; r < rows; r++)
        for (long k = 0; k < inner; k++)
            to[r / MR * PANEL(inner) + (k / PAIR * MR + r % MR) * PAIR + k % PAIR] = element(from[r * stride + k]);
}

/* sums (MR, width) += panel (MR, inner) · columns (inner, width), inner in steps of PAIR; width = nr vectors. */
INLINE void advance(const int nr, real *sums, const elem *panel, const elem *columns, long steps) {
    vec s[MR][2], c[2];
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++)
        for (int j = 0; j < nr; j++) s[r][j] = *(vec *)(sums + (r * nr + j) * LANES);
    for (long k = 0; k < steps; k++) {
        for (int j = 0; j < nr; j++) c[j] = *(const vec *)(columns + j * LANES * PAIR);
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++) {
#if BF16
            int32_t pair;
            memcpy(&pair, panel + r * PAIR, 4);
            __m512bh w = (__m512bh)_mm512_set1_epi32(pair);
            for (int j = 0; j < nr; j++) s[r][j] = (vec)_mm512_dpbf16_ps((__m512)s[r][j], w, (__m512bh)c[j]);
#else
            for (int j = 0; j < nr; j++) s[r][j] += panel[r] * c[j];
#endif
        }
        panel += MR * PAIR;
        columns += nr * LANES * PAIR;
    }
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++)
        for (int j = 0; j < nr; j++) *(vec *)(sums + (r * nr + j) * LANES) = s[r][j];
}

/* Row k of columns (inner, width), which begin as zeros. */
INLINE void put(const int nr, elem *columns, long k, int j, vec x) {
    elem *at = columns + (k / PAIR * nr + j) * LANES * PAIR;
#if BF16
    __m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x));
    if (k % 2) bits = _mm512_or_si512(_mm512_slli_epi32(bits, 16), _mm512_load_si512(at));
    _mm512_store_si512(at, bits);
#else
    *(vec *)at = x;
#endif
}

#endif
