/* One halving: the energies of a grid's cells shared among their halves, pass by pass, for many showers.

   Splits with energy are the lanes of vectors: each is computed by the same operations in the same order
   whatever stands beside it. What is known of a shower is one row of numbers, from which a split gathers what
   its table says; when its children are known, they are written into that row.

   Compiled with -DREAL=float, and -DBF16=1 for the network in bfloat16.

   P splits, K things that a split knows, S of one shower that are known, H units, M components of a mixture,
   Q = 3 + 3M, Z layers, G context numbers. */

#if defined(__AVX512F__) || defined(__aarch64__)
#define MR 16 /* vectors of units */
#else
#define MR 8
#endif
#include "panels.h"

/* ---- packed weights -------------------------------------------------------------------------------- */

struct sizes {
    int64_t known, stages, units, depth, components; /* K, stages of layers, H, blocks, M */
};

/* Where the parts of a packed network begin: numbers of type elem, then biases of type real. */
struct packed {
    elem *enter, *blocks, *head;
    real *bias, *head_bias;
    int64_t bytes;
};

static struct packed parts(const struct sizes *z, void *at) {
    struct packed p;
    long n = 0, q = 3 + 3 * z->components, rows = PANELS(z->units);
#define PART(name, type, count) p.name = (type *)((char *)at + n), n += up((count) * (long)sizeof(type), 64)
    PART(enter, elem, z->stages * rows * PANEL(z->known));
    PART(blocks, elem, z->depth * rows * PANEL(z->units));
    PART(head, elem, PANELS(q) * PANEL(z->units));
    PART(bias, real, z->depth * rows * MR);
    PART(head_bias, real, PANELS(q) * MR);
#undef PART
    p.bytes = n;
    return p;
}

int64_t packed_bytes(const struct sizes *z) { return parts(z, 0).bytes; }

/* weights: enter (stages, H, K), head (Q, H), then blocks (H, H) each; biases: head, blocks. */
void pack(const struct sizes *z, const real *const *weights, const real *const *biases, void *to) {
    struct packed p = parts(z, to);
    long H = z->units, q = 3 + 3 * z->components;
    for (long s = 0; s < z->stages; s++)
        pack_rows(p.enter + s * PANELS(H) * PANEL(z->known), weights[0] + s * H * z->known, H, z->known, z->known);
    pack_rows(p.head, weights[1], q, H, H);
    memset(p.head_bias, 0, PANELS(q) * MR * sizeof(real));
    memcpy(p.head_bias, biases[0], q * sizeof(real));
    memset(p.bias, 0, z->depth * PANELS(H) * MR * sizeof(real));
    for (long l = 0; l < z->depth; l++) {
        pack_rows(p.blocks + l * PANELS(H) * PANEL(H), weights[2 + l], H, H, H);
        memcpy(p.bias + l * PANELS(H) * MR, biases[1 + l], H * sizeof(real));
    }
}

/* ---- functions ------------------------------------------------------------------------------------- */

#define HALF_LOG ((real)-0.693147180559945309)

INLINE vec load(const real *at) {
    vec x;
    memcpy(&x, at, sizeof x);
    return x;
}

INLINE vec absolute(vec x) { return (vec)((mask)x & 0x7fffffff); }

INLINE vec log_of_one_plus(vec x) { /* x >= 0 */
    vec u = x + 1;
    return logarithm(u) + (x - (u - 1)) / u;
}

/* x / (1 + exp(-x)), cheaper than by `exponential` and a division. */
INLINE vec silu(vec x) {
    vec y = at_most(at_least(-x, -80), 80);
    const real shift = 12582912; /* as in `exponential` */
    vec shifted = y * (real)1.44269504088896341 + shift, r = y - (shifted - shift) * (real)0.693147180559945309;
    vec p = all((real)1 / 720);
    p = p * r + (real)1 / 120;
    p = p * r + (real)1 / 24;
    p = p * r + (real)1 / 6;
    p = p * r + (real)0.5;
    p = p * r + 1;
    p = p * r + 1;
    vec below = (vec)((mask)p + ((mask)shifted << 23)) + 1;
#ifdef __AVX512F__
    vec about = (vec)_mm512_rcp14_ps((__m512)below);
    return x * (about * (2 - below * about));
#else
    return x / below;
#endif
}

/* log Phi(-a) of a >= 0: Chebyshev's fit to erfc of Press et al., Numerical Recipes, to 1.2e-7 everywhere. */
INLINE vec log_tail(vec a) {
    vec x = a * (real)0.707106781186547524, t = 1 / (x * (real)0.5 + 1), p = all((real)0.17087277);
    p = p * t + (real)-0.82215223;
    p = p * t + (real)1.48851587;
    p = p * t + (real)-1.13520398;
    p = p * t + (real)0.27886807;
    p = p * t + (real)-0.18628806;
    p = p * t + (real)0.09678418;
    p = p * t + (real)0.37409196;
    p = p * t + (real)1.00002368;
    p = p * t + (real)-1.26551223;
    return logarithm(t) + HALF_LOG + (p - x * x);
}

/* Words (LANES, n) of rows become columns (n, LANES). */
static void transpose(real *to, const real *const *rows, long n) {
    long i = 0;
#ifdef __AVX512F__
    for (; i + 16 <= n; i += 16) {
        __m512 a[16], b[16];
        for (int r = 0; r < 16; r++) a[r] = _mm512_loadu_ps(rows[r] + i);
        for (int r = 0; r < 16; r += 2) {
            b[r] = _mm512_unpacklo_ps(a[r], a[r + 1]);
            b[r + 1] = _mm512_unpackhi_ps(a[r], a[r + 1]);
        }
        for (int r = 0; r < 16; r += 4)
            for (int h = 0; h < 2; h++) {
                a[r + 2 * h] = _mm512_shuffle_ps(b[r + h], b[r + 2 + h], 0x44);
                a[r + 2 * h + 1] = _mm512_shuffle_ps(b[r + h], b[r + 2 + h], 0xee);
            }
        for (int r = 0; r < 16; r += 8)
            for (int h = 0; h < 4; h++) {
                b[r + h] = _mm512_shuffle_f32x4(a[r + h], a[r + 4 + h], 0x88);
                b[r + 4 + h] = _mm512_shuffle_f32x4(a[r + h], a[r + 4 + h], 0xdd);
            }
        for (int h = 0; h < 8; h++) {
            _mm512_store_ps(to + (i + h) * 16, _mm512_shuffle_f32x4(b[h], b[8 + h], 0x88));
            _mm512_store_ps(to + (i + 8 + h) * 16, _mm512_shuffle_f32x4(b[h], b[8 + h], 0xdd));
        }
    }
#endif
    for (; i < n; i++)
        for (long r = 0; r < LANES; r++) to[i * LANES + r] = rows[r][i];
}

/* What a split knows, (K,). */
static void gather(elem *to, const elem *known, const int32_t *table, long n) {
    for (long k = 0; k < n; k++) to[k] = known[table[k]];
}

/* ---- a halving ------------------------------------------------------------------------------------- */

enum { PARENTS, CHILDREN, EARLIER };
enum { SEEN, LOGARITHM, LIT, ASYMMETRY };

/* Numbers of one kind among those that are known of a shower, see `Source`. */
struct source {
    int64_t begin, size, grid, form;
    int64_t cells, layer;            /* whether each cell has a number of its own; numbers of a layer */
    int64_t summed;                  /* children on each side of an asymmetry of sums */
    const int32_t *place;            /* where each cell of the grid is among them, or is added; of asymmetries:
                                        left children of each number of a layer, then right ones */
};

struct halving {
    struct sizes sizes;
    int64_t splits, known, context;      /* P, S, G */
    int64_t shape[3], child_shape[3];    /* of the grids */
    int64_t passes, sources, whole;      /* how many */
    int64_t children, asymmetries;       /* where they are among what is known */
    const int64_t *pass_ends, *pass_stages, *layer_stages;
    const int64_t *cells, *left, *right; /* (P,) */
    const int64_t *whole_cells, *whole_children;
    const int32_t *table;                /* (P, K) */
    const struct source *source;
    const real *places; /* (P, H) */
    void *packed;
    double least_scale; /* of a component */
};

struct row {
    int32_t shower, place;
};

/* What showers that are computed together need. */
struct work {
    elem *known;            /* (showers, S) */
    real *sums;             /* of the children of earlier layers, (showers, C/Z) */
    int32_t *lit;           /* cells with energy, (C,) */
    real *scratch;          /* numbers of a source, twice */
    struct row *rows;       /* splits with energy of a pass */
    elem *gathered;         /* (LANES, K) */
    elem *columns, *active; /* (K, LANES) and (H, LANES) */
    real *hidden, *raw;     /* (H, LANES) and (Q, LANES) */
    real *said;             /* (LANES, Q) */
};

static long cells_of(const int64_t *shape) { return shape[0] * shape[1] * shape[2]; }

static real asymmetry(real left, real right) { return left + right > 0 ? (left - right) / (left + right) : 0; }

static real total(const real *from, const int32_t *place, long n) {
    real sum = 0;
    for (long i = 0; i < n; i++) sum += from[place[i]];
    return sum;
}

/* Numbers (n,) in units of the threshold, or counts, as networks see them. */
static void forms(elem *to, const real *from, long n, long form, real threshold) {
    real out[LANES] __attribute__((aligned(BYTES)));
    for (long i = 0; i < n; i += LANES) {
        long some = n - i < LANES ? n - i : LANES;
        vec x = all(0), y;
        memcpy(&x, from + i, some * sizeof(real));
        if (form == SEEN)
            y = log_of_one_plus(x / (20 * threshold)) * (real)0.4;
        else if (form == LOGARITHM)
            y = pick(x > 0, logarithm(at_least(x / threshold, (real)1e-3)) * (real)0.2, all(0));
        else if (form == LIT)
            y = root(x) * (real)0.3;
        else
            y = x;
        *(vec *)out = y;
        for (long j = 0; j < some; j++) to[i + j] = element(out[j]);
    }
}

/* Numbers of the cells with energy among those from `first` to `end`. */
static long lit_cells(int32_t *lit, const real *energies, long first, long end) {
    long n = 0;
    for (long i = first; i < end; i++) lit[n] = i, n += energies[i] > 0;
    return n;
}

/* Energies of lit cells as numbers of a source. */
static void fill(elem *known, const struct work *w, const struct source *s, const real *energies, long n,
                 long first, long size, real threshold) {
    real *numbers = w->scratch;
    if (s->cells) {
        elem *formed = (elem *)(numbers + n);
        for (long i = 0; i < n; i++) numbers[i] = energies[w->lit[i]];
        forms(formed, numbers, n, s->form, threshold);
        for (long i = 0; i < n; i++) known[s->begin + s->place[w->lit[i]]] = formed[i];
    } else {
        memset(numbers, 0, size * sizeof(real));
        for (long i = 0; i < n; i++) numbers[s->place[w->lit[i]] - first] += s->form == LIT ? 1 : energies[w->lit[i]];
        forms(known + s->begin + first, numbers, size, s->form, threshold);
    }
}

/* What is known before anything is split. */
static void begin(const struct halving *f, const struct work *w, long shower, const real *parents, const real *context,
                  real threshold, real *children) {
    elem *known = w->known + shower * f->known;
    const long n_children = cells_of(f->child_shape), size = n_children / f->child_shape[0];
    memset(known, 0, f->known * sizeof(elem));
    memset(children, 0, n_children * sizeof(real));
    memset(w->sums + shower * size, 0, size * sizeof(real));
    long n = lit_cells(w->lit, parents, 0, cells_of(f->shape));
    for (long i = 0; i < f->sources; i++)
        if (f->source[i].grid == PARENTS) fill(known, w, f->source + i, parents, n, 0, f->source[i].size, threshold);
    for (long i = 0; i < f->whole; i++) {
        real e = children[f->whole_children[i]] = parents[f->whole_cells[i]];
        forms(known + f->children + f->whole_children[i], &e, 1, SEEN, threshold);
    }
    for (long i = 0; i < f->context; i++) known[f->known - 1 - f->context + i] = element(context[i]);
}

/* What the splits of a stage know of layers that the stages from `before` on have split. */
static void update(const struct halving *f, const struct work *w, long shower, long before, long stage,
                   const real *children, real threshold) {
    elem *known = w->known + shower * f->known;
    const long size = f->child_shape[1] * f->child_shape[2];
    real *sums = w->sums + shower * size;
    for (long z = 0; z < f->child_shape[0]; z++) {
        if (f->layer_stages[z] < before || f->layer_stages[z] >= stage) continue;
        for (long i = 0; i < size; i++) sums[i] += children[z * size + i];
        long n = lit_cells(w->lit, children, z * size, (z + 1) * size);
        for (long i = 0; i < f->sources; i++) {
            const struct source *s = f->source + i;
            if (s->grid == CHILDREN && !s->cells)
                fill(known, w, s, children, n, z * s->layer, s->layer, threshold);
        }
    }
    for (long i = 0; i < f->sources; i++) {
        const struct source *s = f->source + i;
        if (s->grid != EARLIER) continue;
        if (s->form == ASYMMETRY)
            for (long j = 0; j < s->layer; j++)
                w->scratch[j] = asymmetry(total(sums, s->place + j * s->summed, s->summed),
                                          total(sums, s->place + (s->layer + j) * s->summed, s->summed));
        forms(known + s->begin + stage * s->layer, s->form == ASYMMETRY ? w->scratch : sums, s->layer, s->form, threshold);
    }
}

/* Shares of the energies of one vector of splits, see `split.draw`; raw (Q, LANES), normal numbers (2, LANES). */
static void draw(real *raw, long components, real least_scale, vec energy, const real *normal, real threshold,
                 real *left, real *right) {
    vec z = *(const vec *)normal, tail = exponential(log_tail(absolute(z))), uniform = pick(z > 0, 1 - tail, tail);
    mask can_share = energy >= (real)2.00002 * threshold;
    vec *r = (vec *)raw, a = r[0], b = r[1], c = pick(can_share, r[2], all(-30)), top = pick(a > b, a, b);
    top = pick(c > top, c, top);
    a = exponential(a - top), b = exponential(b - top), c = exponential(c - top);
    vec total = a + b + c, one = (a + b) / total;
    mask both = (uniform >= one) & can_share;

    vec *weights = r + 3, *places = weights + components, *scales = places + components;
    top = weights[0];
    for (long i = 1; i < components; i++) top = pick(weights[i] > top, weights[i], top);
    vec sum = all(0), passed = all(0), place = places[0], scale = scales[0];
    for (long i = 0; i < components; i++) sum += weights[i] = exponential(weights[i] - top);
    vec aim = (uniform - one) / pick(both, c / total, all(1)) * sum;
    for (long i = 0; i + 1 < components; i++) {
        passed += weights[i];
        place = pick(passed < aim, places[i + 1], place);
        scale = pick(passed < aim, scales[i + 1], scale);
    }

    z = *(const vec *)(normal + LANES);
    vec log_small = log_tail(absolute(z)), small = exponential(log_small);
    vec logistic = log_ratio(-small / (2 - small)) - log_small;
    vec y = place + (softplus(scale) * (real)0.5 + least_scale) * pick(z > 0, logistic, -logistic);
    vec width = logarithm(at_least(energy - threshold, (real)1.00001 * threshold) / threshold);
    vec w = (2 / (exponential(-y) + 1) - 1) * width;
    vec less = at_least(energy / (exponential(absolute(w)) + 1), threshold);
    vec larger = pick(both, energy - less, energy), smaller = pick(both, less, all(0));
    mask on_left = (both & (w > 0)) | (~both & (uniform < a / total));
    *(vec *)left = pick(on_left, larger, smaller);
    *(vec *)right = pick(on_left, smaller, larger);
}

static void multiply(real *sums, const elem *panels, long rows, const elem *columns, long inner) {
    for (long i = 0; i < PANELS(rows); i++)
        advance(1, sums + i * MR * LANES, panels + i * PANEL(inner), columns, up(inner, PAIR) / PAIR);
}

/* What the network says of a vector of splits whose known numbers are `columns` and whose places `hidden`. */
static void by_columns(const struct halving *f, const struct packed *p, const struct work *w, long stage) {
    const long K = f->sizes.known, H = f->sizes.units, q = 3 + 3 * f->sizes.components, rows = PANELS(H);
    multiply(w->hidden, p->enter + stage * rows * PANEL(K), H, w->columns, K);
    for (long l = 0; l <= f->sizes.depth; l++) {
        for (long u = 0; u < H; u++) {
            vec *h = (vec *)w->hidden + u;
            put(1, w->active, u, 0, silu(*h));
            if (l < f->sizes.depth) *h += p->bias[l * rows * MR + u];
        }
        if (l < f->sizes.depth) multiply(w->hidden, p->blocks + l * rows * PANEL(H), H, w->active, H);
    }
    for (long i = 0; i < PANELS(q) * MR; i++) ((vec *)w->raw)[i] = all(p->head_bias[i]);
    multiply(w->raw, p->head, q, w->active, H);
}

/* sums (nr, stride) += rows of elements (nr, from row to row `next`) times np panels, whose rows are the lanes. */
INLINE void advance_rows(const int nr, const int np, real *sums, long stride, const elem *panels, long inner,
                         const elem *rows, long next) {
    enum { V = MR / LANES };
    vec s[4][4 * V];
    for (int r = 0; r < nr; r++)
        for (int v = 0; v < np * V; v++) s[r][v] = *(vec *)(sums + r * stride + v * LANES);
    for (long k = 0; k < up(inner, PAIR); k += PAIR)
        for (int v = 0; v < np * V; v++) {
            const elem *at = panels + v / V * PANEL(inner) + k * MR + v % V * LANES * PAIR;
            for (int r = 0; r < nr; r++) {
#if BF16
                int32_t pair;
                memcpy(&pair, rows + r * next + k, 4);
                s[r][v] = (vec)_mm512_dpbf16_ps((__m512)s[r][v], *(const __m512bh *)at, (__m512bh)_mm512_set1_epi32(pair));
#else
                s[r][v] += *(const vec *)at * rows[r * next + k];
#endif
            }
        }
    for (int r = 0; r < nr; r++)
        for (int v = 0; v < np * V; v++) *(vec *)(sums + r * stride + v * LANES) = s[r][v];
}

/* The same as `multiply` for n rows, by the same operations on each. */
static void multiply_rows(real *sums, long n, const elem *panels, long out, const elem *rows, long inner, long next) {
    const long stride = PANELS(out) * MR;
#define SOME(nr, np) \
    for (; n - r >= nr; r += nr) { \
        long i = 0; \
        for (; i + np <= PANELS(out); i += np) \
            advance_rows(nr, np, sums + r * stride + i * MR, stride, panels + i * PANEL(inner), inner, rows + r * next, next); \
        for (; i < PANELS(out); i++) \
            advance_rows(nr, 1, sums + r * stride + i * MR, stride, panels + i * PANEL(inner), inner, rows + r * next, next); \
    }
    long r = 0;
    SOME(4, 2)
    SOME(2, 2)
    SOME(1, 4)
#undef SOME
}

/* The same as `by_columns` for few splits: units are the lanes. */
static void by_rows(const struct halving *f, const struct packed *p, const struct work *w, long stage, long n,
                    const real *const *places) {
    const long K = f->sizes.known, H = f->sizes.units, q = 3 + 3 * f->sizes.components, rows = PANELS(H);
    const long units = rows * MR, stride = PANELS(q) * MR;
    for (long r = 0; r < n; r++) memcpy(w->hidden + r * units, places[r], H * sizeof(real));
    multiply_rows(w->hidden, n, p->enter + stage * rows * PANEL(K), H, w->gathered, K, up(K, PAIR));
    for (long l = 0; l <= f->sizes.depth; l++) {
        for (long r = 0; r < n; r++)
            for (long u = 0; u < units; u += LANES) {
                vec *h = (vec *)(w->hidden + r * units + u), a = silu(*h);
#if BF16
                __m256i bits = (__m256i)_mm512_cvtneps_pbh((__m512)a);
                _mm256_storeu_si256((__m256i *)(w->active + r * units + u), bits);
#else
                *(vec *)(w->active + r * units + u) = a;
#endif
                if (l < f->sizes.depth) *h += *(vec *)(p->bias + l * units + u);
            }
        if (l < f->sizes.depth) multiply_rows(w->hidden, n, p->blocks + l * rows * PANEL(H), H, w->active, H, units);
    }
    const real *said[LANES];
    for (long r = 0; r < n; r++) memcpy(w->said + r * stride, p->head_bias, stride * sizeof(real));
    multiply_rows(w->said, n, p->head, q, w->active, H, units);
    for (long r = 0; r < LANES; r++) said[r] = w->said + (r < n ? r : n - 1) * stride;
    transpose(w->raw, said, q);
}

#define FEW (LANES / 2) /* splits that are computed row by row */

/* One vector of splits of one stage, of the n that are left; returns how many it computed. */
static long tile(const struct halving *f, const struct packed *p, const struct work *w, long stage,
                 const struct row *rows, long n, const real *parents, const real *noise, long noise_stride,
                 real threshold, real *children) {
    const long K = f->sizes.known, H = f->sizes.units, n_parents = cells_of(f->shape), n_children = cells_of(f->child_shape);
    const real *known_rows[LANES], *places[LANES];
    real energy[LANES] __attribute__((aligned(BYTES))), normal[2 * LANES] __attribute__((aligned(BYTES)));
    real shares[2][LANES] __attribute__((aligned(BYTES)));
    n = n < LANES ? n : LANES;
    for (long r = 0; r < LANES; r++) {
        long i = r < n ? r : n - 1; /* lanes that are left over compute the last one again */
        struct row row = rows[i];
        elem *gathered = w->gathered + i * up(K, PAIR);
        if (r < n) gather(gathered, w->known + row.shower * f->known, f->table + row.place * K, K);
        known_rows[r] = (const real *)gathered;
        places[r] = f->places + row.place * H;
        energy[r] = parents[row.shower * n_parents + f->cells[row.place]];
        for (int k = 0; k < 2; k++)
            normal[k * LANES + r] = noise[row.shower * noise_stride + row.place * 2 + k];
    }
    if (n > FEW) {
        transpose((real *)w->columns, known_rows, up(K, PAIR) / PAIR);
        transpose(w->hidden, places, H);
        by_columns(f, p, w, stage);
    } else {
        by_rows(f, p, w, stage, n, places);
    }
    draw(w->raw, f->sizes.components, f->least_scale, *(vec *)energy, normal, threshold, shares[0], shares[1]);
    for (int side = 0; side < 2; side++) {
        elem seen[LANES];
        forms(seen, shares[side], LANES, SEEN, threshold);
        for (long r = 0; r < n; r++) {
            long child = (side ? f->right : f->left)[rows[r].place];
            children[rows[r].shower * n_children + child] = shares[side][r];
            w->known[rows[r].shower * f->known + f->children + child] = seen[r];
        }
    }
    for (long r = 0; r < n; r++)
        w->known[rows[r].shower * f->known + f->asymmetries + f->cells[rows[r].place]] =
            element(asymmetry(shares[0][r], shares[1][r]));
    return n;
}

#define CACHE (512 * 1024) /* bytes for what is known of showers that are computed together */

/* parents (n, …), context (n, G), noise (n, P, 2) in rows of `noise_stride` numbers, threshold (1,) ->
   children (n, C). Returns 0, or 1 where there is not enough memory. */
int run(const struct halving *f, int64_t n, const real *parents, const real *context, const real *noise,
        int64_t noise_stride, const real *threshold, real *children) {
    const struct packed p = parts(&f->sizes, f->packed);
    const long K = f->sizes.known, H = f->sizes.units, q = 3 + 3 * f->sizes.components;
    const long n_parents = cells_of(f->shape), n_children = cells_of(f->child_shape), size = f->child_shape[1] * f->child_shape[2];
    long group = CACHE / (f->known * sizeof(elem)), most = 0, bytes = 0;
    group = group < 1 ? 1 : group < n ? group : n;
    for (long i = 0; i < f->passes; i++) {
        long cells = f->pass_ends[i] - (i ? f->pass_ends[i - 1] : 0);
        most = cells > most ? cells : most;
    }
    struct work w;
    char *memory = 0;
    for (int allocated = 0; allocated < 2; allocated++) {
        bytes = 0;
#define PART(name, type, count) w.name = (type *)(memory + bytes), bytes += up((count) * (long)sizeof(type), 64)
        PART(gathered, elem, LANES * up(K, PAIR));
        PART(columns, elem, up(K, PAIR) * LANES);
        PART(active, elem, PANELS(H) * MR * LANES);
        PART(hidden, real, PANELS(H) * MR * LANES);
        PART(raw, real, PANELS(q) * MR * LANES);
        PART(said, real, PANELS(q) * MR * LANES);
        if (allocated) memset(memory, 0, bytes);
        PART(known, elem, group * f->known);
        PART(sums, real, group * size);
        PART(lit, int32_t, n_children);
        PART(scratch, real, 2 * n_children);
        PART(rows, struct row, group * most);
#undef PART
        if (!allocated && !(memory = aligned_alloc(64, bytes))) return 1;
    }
    for (long first = 0; first < n; first += group) {
        const long some = n - first < group ? n - first : group;
        const real *own = parents + first * n_parents, *normal = noise + first * noise_stride;
        real *made = children + first * n_children;
        for (long i = 0; i < some; i++)
            begin(f, &w, i, own + i * n_parents, context + (first + i) * f->context, *threshold, made + i * n_children);
        for (long i = 0, stage = 0; i < f->passes; i++) {
            if (f->pass_stages[i] != stage)
                for (long j = 0; j < some; j++)
                    update(f, &w, j, stage, f->pass_stages[i], made + j * n_children, *threshold);
            stage = f->pass_stages[i];
            long rows = 0;
            for (long j = 0; j < some; j++)
                for (long k = i ? f->pass_ends[i - 1] : 0; k < f->pass_ends[i]; k++)
                    if (own[j * n_parents + f->cells[k]] > 0) w.rows[rows++] = (struct row){j, k};
            for (long r = 0; r < rows;)
                r += tile(f, &p, &w, stage, w.rows + r, rows - r, own, normal, noise_stride, *threshold, made);
        }
    }
    free(memory);
    return 0;
}
