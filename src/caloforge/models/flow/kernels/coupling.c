/* The splines of a coupling in one pass: biases, bins, the image and its slope, with nothing kept in between.

   Values lie one column beside the other and are the lanes of vectors; the raw parameters of a spline are a
   column of a matrix, in bfloat16 (HALVES=1, as networks give them) or in REAL. Compiled with -DBF16=0. */

#include "autoregressive.c"

#define MOST_BINS 64

/* values, slopes (channels, columns); raw (Q, channels, columns); bias (Q, channels). Values are replaced. */
void map_values(real *values, real *slopes, const void *raw, const real *bias, int64_t channels, int64_t columns,
                int64_t bins, double bound, double largest, int64_t inverse) {
    vec tile[3 * MOST_BINS];
    const long parameters = 3 * bins - 1;
    for (long channel = 0; channel < channels; channel++) {
        for (long first = 0; first < columns; first += LANES) {
            const long begin = channel * columns + first;
            const long lanes = columns - first < LANES ? columns - first : LANES;
            vec x = all(0), slope = all(0);
            memcpy(&x, values + begin, lanes * sizeof(real));
            for (long q = 0; q < parameters; q++) {
                const long row = q * channels + channel;
#if HALVES
                uint16_t halves[LANES] __attribute__((aligned(BYTES)));
                uint32_t bits[LANES] __attribute__((aligned(BYTES)));
                if (lanes < LANES) memset(halves, 0, sizeof halves);
                memcpy(halves, (const uint16_t *)raw + row * columns + first, lanes * sizeof(uint16_t));
                for (long i = 0; i < LANES; i++) bits[i] = (uint32_t)halves[i] << 16;
                memcpy(tile + q, bits, sizeof(vec));
#else
                tile[q] = all(0);
                memcpy(tile + q, (const real *)raw + row * columns + first, lanes * sizeof(real));
#endif
                tile[q] += bias[row];
            }
            x = bins == 8 ? spline(8, x, (real *)tile, LANES, bound, largest, inverse, &slope)
                          : spline(bins, x, (real *)tile, LANES, bound, largest, inverse, &slope);
            memcpy(values + begin, &x, lanes * sizeof(real));
            memcpy(slopes + begin, &slope, lanes * sizeof(real));
        }
    }
}
