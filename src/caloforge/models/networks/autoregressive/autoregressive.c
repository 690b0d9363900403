/* All blocks of an autoregressive spline flow, rows in tiles, every unit and every spline computed once.

   Rows of the batch are the lanes of vectors: each row is computed by the same operations in the same order
   whatever stands beside it. A group of tiles goes through one block after the other, so that weights are
   read once for many rows, and through a block dimension by dimension: the units of its degree, the
   parameters of its spline, its image. Only the triangle of each matrix that the masks keep is read.

   Compiled with -DREAL=float or -DREAL=double, and -DBF16=1 for networks in bfloat16 (REAL=float).

   D dimensions, C context numbers, H units of each of L hidden layers, K bins, Q = 3K - 1. */

#include "panels.h"
#include "spline.h"

/* ---- packed weights -------------------------------------------------------------------------------- */

struct sizes {
    int64_t dims, context, units, layers, bins;
    const int64_t *ends; /* (D,) units of degree d and below */
};

/* Where the parts of a packed block begin: numbers of type elem, then biases of type real. */
struct packed {
    elem *enter, *context, *hidden, *out;
    real *bias, *out_bias;
    int64_t bytes;
};

static struct packed parts(const struct sizes *z, void *at) {
    struct packed p;
    long q = 3 * z->bins - 1, rows = PANELS(z->units), n = 0;
#define PART(name, type, count) p.name = (type *)((char *)at + n), n += up((count) * (long)sizeof(type), 64)
    PART(enter, elem, rows * PANEL(z->dims));
    PART(context, elem, rows * PANEL(z->context));
    PART(hidden, elem, (z->layers - 1) * rows * PANEL(z->units));
    long out = 0;
    for (long d = 0; d < z->dims; d++) out += PANELS(q) * PANEL(z->ends[d]);
    PART(out, elem, out);
    PART(bias, real, z->layers * rows * MR);
    PART(out_bias, real, z->dims * PANELS(q) * MR);
#undef PART
    p.bytes = n;
    return p;
}

int64_t packed_bytes(const struct sizes *z) { return parts(z, 0).bytes; }

/* weights: enter (H, D), context (H, C), out (Q·D, H), then hidden (H, H) each; biases: enter, out, hidden. */
void pack(const struct sizes *z, const real *const *weights, const real *const *biases, void *to) {
    struct packed p = parts(z, to);
    long H = z->units, D = z->dims, q = 3 * z->bins - 1, padded = PANELS(H) * MR;
    pack_rows(p.enter, weights[0], H, D, D);
    if (z->context) pack_rows(p.context, weights[1], H, z->context, z->context);
    memset(p.bias, 0, z->layers * padded * sizeof(real));
    memcpy(p.bias, biases[0], H * sizeof(real));
    for (long l = 1; l < z->layers; l++) {
        pack_rows(p.hidden + (l - 1) * PANELS(H) * PANEL(H), weights[2 + l], H, H, H);
        memcpy(p.bias + l * padded, biases[1 + l], H * sizeof(real));
    }
    memset(p.out_bias, 0, D * PANELS(q) * MR * sizeof(real));
    for (long d = 0; d < D; d++) {
        pack_rows(p.out, weights[2] + d * H, q, z->ends[d], D * H);
        p.out += PANELS(q) * PANEL(z->ends[d]);
        for (long i = 0; i < q; i++) p.out_bias[d * PANELS(q) * MR + i] = biases[1][i * D + d];
    }
}

/* ---- the flow ------------------------------------------------------------------------------------- */

struct flow {
    struct sizes sizes;
    int64_t blocks;
    void *const *packed;   /* in the order in which blocks act */
    const int64_t *orders; /* (blocks, D), likewise */
    double bound, largest;
    int64_t inverse;    /* use the inverses of the splines */
    int64_t sequential; /* the networks read what their splines give */
};

/* One tile of nr vectors: what a block needs while it goes through the dimensions. */
struct tile {
    elem *known, *context, *hidden; /* columns: (D, *), (C, *), (L, H, *) */
    real *values, *log_det;         /* (D, *), (*) */
    real *sums, *raw;               /* (L, MR, *), (Q, *) */
    long *done;                     /* (L,) how many pairs the sums of the last panel have seen */
};

/* Units `first` to `end` of layer l, which see the first `seen` columns. */
INLINE void units(const int nr, const struct sizes *z, const struct packed *p, struct tile *t, long l, long first,
                  long end, long seen) {
    const long width = nr * LANES, inner = l ? z->units : z->dims, rows = PANELS(z->units);
    const elem *weights = l ? p->hidden + (l - 1) * rows * PANEL(inner) : p->enter;
    const elem *columns = l ? t->hidden + (l - 1) * up(z->units, PAIR) * width : t->known;
    elem *to = t->hidden + l * up(z->units, PAIR) * width;
    real *sums = t->sums + l * MR * width, *now;
    real last[MR * 2 * LANES] __attribute__((aligned(BYTES)));
    for (long panel = first / MR; panel * MR < end; panel++) {
        const elem *w = weights + panel * PANEL(inner);
        if (first <= panel * MR) { /* the first unit of this panel */
            for (int r = 0; r < MR; r++)
                for (int j = 0; j < nr; j++)
                    *(vec *)(sums + (r * nr + j) * LANES) = all(p->bias[(l * rows + panel) * MR + r]);
            t->done[l] = 0;
            if (!l)
                advance(nr, sums, p->context + panel * PANEL(z->context), t->context, up(z->context, PAIR) / PAIR);
        }
        long from = t->done[l], whole = seen / PAIR;
        advance(nr, sums, w + from * MR * PAIR, columns + from * width * PAIR, whole - from);
        t->done[l] = whole;
        now = sums;
        if (seen % PAIR) { /* half a pair is known; what it gives is added to a copy */
            memcpy(last, sums, MR * width * sizeof(real));
            now = last;
            advance(nr, now, w + whole * MR * PAIR, columns + whole * width * PAIR, 1);
        }
        for (long u = panel * MR > first ? panel * MR : first; u < end && u < (panel + 1) * MR; u++)
            for (int j = 0; j < nr; j++) {
                vec h = *(vec *)(now + (u % MR * nr + j) * LANES);
                put(nr, to, u, j, (vec)(~(mask)(h < 0) & (mask)h));
            }
    }
}

INLINE void step(const int nr, const struct flow *f, const struct packed *p, struct tile *t, long d, long place,
                 const elem *out) {
    const struct sizes *z = &f->sizes;
    const long width = nr * LANES, q = 3 * z->bins - 1, end = z->ends[d], first = d ? z->ends[d - 1] : 0;
    if (first < end)
        for (long l = 0; l < z->layers; l++) units(nr, z, p, t, l, first, end, l ? end : d);
    const elem *columns = t->hidden + (z->layers - 1) * up(z->units, PAIR) * width;
    for (long panel = 0; panel < PANELS(q); panel++) {
        real *sums = t->raw + panel * MR * width;
        for (int r = 0; r < MR; r++)
            for (int j = 0; j < nr; j++)
                *(vec *)(sums + (r * nr + j) * LANES) = all(p->out_bias[(d * PANELS(q) + panel) * MR + r]);
        advance(nr, sums, out + panel * PANEL(end), columns, up(end, PAIR) / PAIR);
    }
    for (int j = 0; j < nr; j++) {
        vec *value = (vec *)(t->values + (place * nr + j) * LANES), *log_det = (vec *)(t->log_det + j * LANES);
        vec image = z->bins == 8 ? spline(8, *value, t->raw + j * LANES, width, f->bound, f->largest, f->inverse, log_det)
                                 : spline(z->bins, *value, t->raw + j * LANES, width, f->bound, f->largest, f->inverse, log_det);
        put(nr, t->known, d, j, f->sequential ? image : *value);
        *value = image;
    }
}

#define GROUP_ROWS 1024       /* that go through a block before the next one's weights are read */
#define CACHE (384 * 1024)    /* bytes for tiles that go through a block side by side, dimension by dimension */

/* 0, or 1 where there is not enough memory. */
INLINE int run_rows(const int nr, const struct flow *f, long n, const real *x, const real *context, real *y,
                     real *log_det) {
    const struct sizes *z = &f->sizes;
    const long D = z->dims, C = z->context, width = nr * LANES, q = PANELS(3 * z->bins - 1) * MR;
    const long hidden = z->layers * up(z->units, PAIR) * width, known = up(D, PAIR) * width;
    const long own = up((D + 1) * width * sizeof(real), 64) + up(up(C, PAIR) * width * sizeof(elem), 64);
    const long shared = up((known + hidden) * sizeof(elem), 64) +
                        (z->layers * MR + q) * width * sizeof(real) + up(z->layers * sizeof(long), 64);
    const long group = n < GROUP_ROWS ? up(n, width) / width : GROUP_ROWS / width;
    const long together = shared * 2 > CACHE ? 1 : shared * group < CACHE ? group : CACHE / shared;
    char *memory = aligned_alloc(64, up(group * own + together * shared, 64)), *at;
    struct tile *tiles = malloc(group * sizeof *tiles);
    if (n && (!memory || !tiles)) {
        free(tiles);
        free(memory);
        return 1;
    }
    for (long i = 0; i < group; i++) {
        at = memory + i * own;
        tiles[i].values = (real *)at;
        tiles[i].log_det = tiles[i].values + D * width;
        tiles[i].context = (elem *)(at + up((D + 1) * width * sizeof(real), 64));
        at = memory + group * own + i % together * shared;
        tiles[i].known = (elem *)at;
        tiles[i].hidden = tiles[i].known + known;
        at += up((known + hidden) * sizeof(elem), 64);
        tiles[i].raw = (real *)at;
        tiles[i].sums = tiles[i].raw + q * width;
        tiles[i].done = (long *)(tiles[i].sums + z->layers * MR * width);
    }
    for (long begin = 0; begin < n; begin += group * width) {
        long rows = n - begin < group * width ? n - begin : group * width, used = up(rows, width) / width;
        memset(memory, 0, used * own);
        for (long r = 0; r < rows; r++) {
            struct tile *t = tiles + r / width;
            for (long d = 0; d < D; d++) t->values[d * width + r % width] = x[(begin + r) * D + d];
            for (long k = 0; k < C; k++)
                t->context[(k / PAIR * width + r % width) * PAIR + k % PAIR] = element(context[(begin + r) * C + k]);
        }
        for (long b = 0; b < f->blocks; b++) {
            struct packed p = parts(z, f->packed[b]);
            for (long i = 0; i < used; i += together) {
                long stop = i + together < used ? i + together : used;
                const elem *out = p.out;
                for (long j = i; j < stop; j++) memset(tiles[j].known, 0, (known + hidden) * sizeof(elem));
                for (long d = 0; d < D; d++) {
                    for (long j = i; j < stop; j++) step(nr, f, &p, tiles + j, d, f->orders[b * D + d], out);
                    out += PANELS(3 * z->bins - 1) * PANEL(z->ends[d]);
                }
            }
        }
        for (long r = 0; r < rows; r++) {
            struct tile *t = tiles + r / width;
            for (long d = 0; d < D; d++) y[(begin + r) * D + d] = t->values[d * width + r % width];
            log_det[begin + r] = t->log_det[r % width];
        }
    }
    free(tiles);
    free(memory);
    return 0;
}

/* x (n, D), context (n, C) -> y (n, D), log_det (n,). Returns 0, or 1 where there is not enough memory. */
int run(const struct flow *f, int64_t n, const real *x, const real *context, real *y, real *log_det) {
    if (n <= LANES)
        return run_rows(1, f, n, x, context, y, log_det);
    return run_rows(2, f, n, x, context, y, log_det);
}
