/* Splines of many scalars and their gradients, one pass over memory each: see splines.py.

   Compiled with -DREAL=float or -DREAL=double. Parameters are (Q, N), Q = 3K - 1. */

#include "spline.h"

/* Up to LANES numbers from memory; the lanes that are left stay as they are. */
INLINE void take(vec *to, const real *from, long count) {
    if (count == LANES)
        memcpy(to, from, BYTES);
    else
        memcpy(to, from, count * sizeof(real));
}

INLINE void give(real *to, vec from, long count) {
    if (count == LANES)
        memcpy(to, &from, BYTES);
    else
        memcpy(to, &from, count * sizeof(real));
}

#define EACH(begin, end) for (long i = begin, count; count = end - i < LANES ? end - i : LANES, i < end; i += LANES)

INLINE void map_rows(const long bins, long n, long begin, long end, const real *x, const real *raw, real *y,
                     real *log_slope, double bound, double largest, int inverse) {
    vec rows[3 * bins - 1], value = {0}, slope;
    memset(rows, 0, sizeof rows);
    EACH(begin, end) {
        for (long q = 0; q < 3 * bins - 1; q++) take(rows + q, raw + q * n + i, count);
        take(&value, x + i, count);
        slope = all(0);
        give(y + i, spline(bins, value, (real *)rows, LANES, bound, largest, inverse, &slope), count);
        give(log_slope + i, slope, count);
    }
}

INLINE void gradient_rows(const long bins, long n, long begin, long end, const real *x, const real *raw,
                          const real *grad_y, const real *grad_slope, real *grad_x, real *grad_raw, double bound,
                          double largest, int inverse) {
    vec rows[3 * bins - 1], value = {0}, image = {0}, slope = {0};
    memset(rows, 0, sizeof rows);
    EACH(begin, end) {
        for (long q = 0; q < 3 * bins - 1; q++) take(rows + q, raw + q * n + i, count);
        take(&value, x + i, count);
        take(&image, grad_y + i, count);
        take(&slope, grad_slope + i, count);
        vec g = spline_gradient(bins, value, image, slope, (real *)rows, LANES, bound, largest, inverse);
        give(grad_x + i, g, count);
        for (long q = 0; q < 3 * bins - 1; q++) give(grad_raw + q * n + i, rows[q], count);
    }
}

/* Scalars `begin` to `end` of n. */
void map(int64_t bins, int64_t n, int64_t begin, int64_t end, const real *x, const real *raw, real *y, real *log_slope,
         double bound, double largest, int64_t inverse) {
    if (bins == 8)
        map_rows(8, n, begin, end, x, raw, y, log_slope, bound, largest, inverse);
    else
        map_rows(bins, n, begin, end, x, raw, y, log_slope, bound, largest, inverse);
}

/* x: data, whichever the direction was. */
void gradient(int64_t bins, int64_t n, int64_t begin, int64_t end, const real *x, const real *raw, const real *grad_y,
              const real *grad_slope, real *grad_x, real *grad_raw, double bound, double largest, int64_t inverse) {
    if (bins == 8)
        gradient_rows(8, n, begin, end, x, raw, grad_y, grad_slope, grad_x, grad_raw, bound, largest, inverse);
    else
        gradient_rows(bins, n, begin, end, x, raw, grad_y, grad_slope, grad_x, grad_raw, bound, largest, inverse);
}
