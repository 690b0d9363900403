/* Rational-quadratic splines of vectors of scalars: see splines.py. */

#ifndef SPLINE_H
#define SPLINE_H

#include "vectors.h"

#define LEAST_SLOPE ((real)1e-3)
#define UNIT_SLOPE ((real)log(expm1(1 - 1e-3))) /* softplus(UNIT_SLOPE) + LEAST_SLOPE = 1 */

/* The bin of a scalar: place, size and slopes, not normalised; `k` is its number. */
struct bin {
    vec x0, y0, width, height, d0, d1, k, total[2];
};

#define ROW(i) (*(vec *)(raw + (i) * stride))

/* The bin of u on one axis; sizes of bins in raw (Q, *), `stride` numbers from row to row, become exponentials. */
INLINE struct bin find(const long bins, vec u, real *raw, const long stride, real bound, real largest, int inverse) {
    struct bin b;
    for (int side = 0; side < 2; side++) {
        b.total[side] = all(0);
        for (long i = side * bins; i < (side + 1) * bins; i++) {
            ROW(i) = exponential(at_most(at_least(ROW(i), -largest), largest));
            b.total[side] += ROW(i);
        }
    }
    b.width = ROW(0), b.height = ROW(bins), b.x0 = b.y0 = b.d0 = b.k = all(0), b.d1 = ROW(2 * bins);
    vec right = b.width, top = b.height;
    vec target = (u + bound) * ((inverse ? b.total[1] : b.total[0]) / (2 * bound));
    for (long i = 1; i < bins; i++) { /* is it in bin i or later? */
        mask passed = (inverse ? top : right) <= target;
        vec w = ROW(i), h = ROW(bins + i);
        b.x0 = pick(passed, right, b.x0);
        b.y0 = pick(passed, top, b.y0);
        b.width = pick(passed, w, b.width);
        b.height = pick(passed, h, b.height);
        b.d0 = pick(passed, ROW(2 * bins + i - 1), b.d0);
        b.d1 = pick(passed, i < bins - 1 ? ROW(2 * bins + i) : all(0), b.d1);
        b.k = pick(passed, all(i), b.k);
        right += w;
        top += h;
    }
    return b;
}

/* Maps x; raw (Q, *) is overwritten. Adds log-slopes to *slopes. */
INLINE vec spline(const long bins, vec x, real *raw, const long stride, real bound, real largest, int inverse,
                  vec *slopes) {
    mask inside = (x > -bound) & (x < bound);
    vec u = pick(inside, x, all(0));
    struct bin b = find(bins, u, raw, stride, bound, largest, inverse);
    vec scale_x = 2 * bound / b.total[0], scale_y = 2 * bound / b.total[1];
    vec width = b.width * scale_x, height = b.height * scale_y, unit_slope = width / height, t, r;
    vec x0 = (b.x0 - b.total[0] / 2) * scale_x, y0 = (b.y0 - b.total[1] / 2) * scale_y;
    vec d0 = (softplus(b.d0 + UNIT_SLOPE) + LEAST_SLOPE) * unit_slope;
    vec d1 = (softplus(b.d1 + UNIT_SLOPE) + LEAST_SLOPE) * unit_slope;
    if (inverse) {
        vec rho = at_most(at_least((u - y0) / height, 0), 1), rest = 1 - rho;
        vec g = d0 * rest - d1 * rho;
        mask flat = g > 0;
        vec q = root(g * g + 4 * rho * rest) + pick(flat, g, -g);
        vec left = pick(flat, 2 * rho, q), right = pick(flat, q, 2 * rest), one = 1 / (left + right);
        t = left * one;
        r = right * one;
    } else {
        t = at_most(at_least((u - x0) / width, 0), 1);
        r = 1 - t;
    }
    vec mix = t * r, bottom = t * t + r * r + (d0 + d1) * mix;
    vec image = inverse ? x0 + t * width : y0 + height * ((t * t + d0 * mix) / bottom);
    vec slope = (d1 * t * t + 2 * mix + d0 * r * r) / (unit_slope * bottom * bottom);
    vec log_slope = pick(inside, logarithm(slope), all(0));
    *slopes += inverse ? -log_slope : log_slope;
    return pick(inside, image, x);
}

/* Gradients of a loss at data x: raw (Q, *) becomes the gradient of raw, and that of the input is returned.

   grad_image, grad_slope: gradients of what `spline` gave. With `inverse`, x is the image that it gave, and the
   gradients follow from those of the map from data to noise at x: dx = (dy - f_raw draw) / f_x. */
INLINE vec spline_gradient(const long bins, vec x, vec grad_image, vec grad_slope, real *raw, const long stride, real bound,
                           real largest, int inverse) {
    mask inside = (x > -bound) & (x < bound);
    vec u = pick(inside, x, all(0)), clamped[2 * bins], zero = all(0), given = grad_image;
    for (long i = 0; i < 2 * bins; i++) clamped[i] = (vec)((ROW(i) >= -largest) & (ROW(i) <= largest));
    struct bin b = find(bins, u, raw, stride, bound, largest, 0);
    vec scale_x = 2 * bound / b.total[0], scale_y = 2 * bound / b.total[1];
    vec width = b.width * scale_x, height = b.height * scale_y, unit_slope = width / height;
    vec d0 = (softplus(b.d0 + UNIT_SLOPE) + LEAST_SLOPE) * unit_slope;
    vec d1 = (softplus(b.d1 + UNIT_SLOPE) + LEAST_SLOPE) * unit_slope;
    vec t = at_most(at_least((u - (b.x0 - b.total[0] / 2) * scale_x) / width, 0), 1), r = 1 - t, mix = t * r;
    vec top = t * t + d0 * mix, bottom = t * t + r * r + (d0 + d1) * mix;
    vec steep = d1 * t * t + 2 * mix + d0 * r * r; /* slope = steep / (unit_slope bottom^2) */
    vec slope = steep / (unit_slope * bottom * bottom);
    vec bottom_t = (r - t) * (d0 + d1 - 2), steep_t = 2 * (d1 * t - d0 * r + r - t);
    vec bend = (steep_t / steep - 2 * bottom_t / bottom) / width; /* of log(slope) with x */

    vec grad_x = grad_image * slope + grad_slope * bend;
    if (inverse) {
        grad_x = (grad_image - grad_slope * bend) / slope;
        grad_image = -grad_x;
        grad_slope = -grad_slope;
    }
    /* backwards through y = y0 + height top / bottom, log(slope) = log(steep height / (width bottom^2)) */
    vec grad_top = grad_image * height / bottom, grad_steep = grad_slope / steep;
    vec grad_bottom = -grad_top * top / bottom - 2 * grad_slope / bottom;
    vec grad_t = grad_top * (2 * t + d0 * (r - t)) + grad_bottom * bottom_t + grad_steep * steep_t;
    vec grad_d0 = (grad_top + grad_bottom) * mix + grad_steep * r * r, grad_d1 = grad_bottom * mix + grad_steep * t * t;
    vec both = grad_d0 * d0 + grad_d1 * d1;
    vec grad_x0 = -grad_t / width, grad_width = (both - grad_slope - grad_t * t) / width;
    vec grad_height = grad_image * top / bottom + (grad_slope - both) / height;
    /* bins: place and size are sums of exponentials over the sum of all */
    vec before[2] = {grad_x0 * scale_x, grad_image * scale_y}, own[2] = {grad_width * scale_x, grad_height * scale_y};
    vec always[2] = {-(before[0] * b.x0 + own[0] * b.width) / b.total[0],
                     -(before[1] * b.y0 + own[1] * b.height) / b.total[1]};
    for (int side = 0; side < 2; side++)
        for (long i = 0; i < bins; i++) {
            vec size = ROW(side * bins + i);
            vec grad_size = always[side] + pick(b.k > all(i), before[side], zero) + pick(b.k == all(i), own[side], zero);
            ROW(side * bins + i) = pick((mask)clamped[side * bins + i] & inside, grad_size * size, zero);
        }
    vec grad_raw0 = grad_d0 * unit_slope / (1 + exponential(-(b.d0 + UNIT_SLOPE)));
    vec grad_raw1 = grad_d1 * unit_slope / (1 + exponential(-(b.d1 + UNIT_SLOPE)));
    for (long i = 0; i < bins - 1; i++) {
        vec grad_raw = pick(b.k == all(i + 1), grad_raw0, zero) + pick(b.k == all(i), grad_raw1, zero);
        ROW(2 * bins + i) = pick(inside, grad_raw, zero);
    }
    return pick(inside, grad_x, given);
}

#undef ROW

#endif
