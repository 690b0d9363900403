/* One halving: the energies of a grid's cells shared among their halves, pass by pass, for many showers.

   Splits with energy are the lanes of vectors: each is computed by the same operations in the same order
   whatever stands beside it. What is known of a shower is one row of numbers, from which a split gathers what
   its table says; when its children are known, they are written into that row.

   Compiled with -DREAL=float, and -DBF16=1 for the network in bfloat16.

   P splits, K things that a split knows, S of one shower that are known, H units, M components of a mixture,
   Q = 3 + 3M, Z layers, G context numbers. */

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
    PART(bias, real, z->depth * z->units);
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
    for (long l = 0; l < z->depth; l++) {
        pack_rows(p.blocks + l * PANELS(H) * PANEL(H), weights[2 + l], H, H, H);
        memcpy(p.bias + l * H, biases[1 + l], H * sizeof(real));
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

/* x / (1 + exp(-x)) */
INLINE vec silu(vec x) { return x / (exponential(-x) + 1); }

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

/* Words (LANES, n) of rows become columns: word i of row r is lane r of vector i * step. */
static void transpose(real *to, long step, const real *const *rows, long n) {
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
            _mm512_store_ps(to + (i + h) * step, _mm512_shuffle_f32x4(b[h], b[8 + h], 0x88));
            _mm512_store_ps(to + (i + 8 + h) * step, _mm512_shuffle_f32x4(b[h], b[8 + h], 0xdd));
        }
    }
#endif
    for (; i < n; i++)
        for (long r = 0; r < LANES; r++) to[i * step + r] = rows[r][i];
}

/* ---- a halving ------------------------------------------------------------------------------------- */

/* Numbers of one kind among those that are known of a shower, see `Source`. */
struct source {
    int64_t begin, size, grid, form; /* grid: 0 parents, 1 children, 2 earlier; form: 0 seen, 1 logarithm, 2 lit */
    int64_t strides[3];              /* from cell to cell of the grid, 0 along axes that are summed */
};

struct halving {
    struct sizes sizes;
    int64_t splits, known, context;      /* P, S, G */
    int64_t shape[3], child_shape[3];    /* of the grids */
    int64_t passes, sources, whole;      /* how many */
    int64_t children;                    /* where the children are among what is known */
    const int64_t *pass_ends, *pass_stages, *layer_stages;
    const int64_t *cells, *left, *right; /* (P,) */
    const int64_t *whole_cells, *whole_children;
    const int32_t *table;                /* (P, K) */
    const struct source *source;
    const real *places; /* (P, H) */
    void *packed;
};

struct row {
    int32_t shower, place;
};

/* What showers that are computed together need. */
struct work {
    elem *known;            /* (showers, S) */
    real *sums;             /* of the children of earlier layers, (showers, C/Z) */
    real *scratch;          /* numbers of a source */
    struct row *rows;       /* splits with energy of a pass */
    elem *gathered;         /* (LANES, K) */
    elem *columns, *active; /* (K, *) and (H, *) of a tile */
    real *hidden, *raw;     /* (H, *) and (Q, *) */
};

static long cells_of(const int64_t *shape) { return shape[0] * shape[1] * shape[2]; }

/* Numbers (n,) in units of the threshold, or counts, as networks see them. */
static void forms(elem *to, const real *from, long n, long form, real threshold) {
    real out[LANES] __attribute__((aligned(BYTES)));
    for (long i = 0; i < n; i += LANES) {
        long some = n - i < LANES ? n - i : LANES;
        vec x = all(0), y;
        memcpy(&x, from + i, some * sizeof(real));
        if (form == 0)
            y = log_of_one_plus(x / (20 * threshold)) * (real)0.4;
        else if (form == 1)
            y = pick(x > 0, logarithm(at_least(x / threshold, (real)1e-3)) * (real)0.2, all(0));
        else
            y = root(x) * (real)0.3;
        *(vec *)out = y;
        for (long j = 0; j < some; j++) to[i + j] = element(out[j]);
    }
}

/* Sums over cells of some layers of a grid. */
static void add_layers(real *to, const real *grid, const int64_t *shape, const struct source *s, long first, long end) {
    for (long a = first; a < end; a++)
        for (long b = 0; b < shape[1]; b++)
            for (long c = 0; c < shape[2]; c++) {
                real e = grid[(a * shape[1] + b) * shape[2] + c];
                if (e > 0) to[a * s->strides[0] + b * s->strides[1] + c * s->strides[2]] += s->form == 2 ? 1 : e;
            }
}

/* What is known before anything is split. */
static void begin(const struct halving *f, const struct work *w, long shower, const real *parents, const real *context,
                  real threshold, real *children) {
    elem *known = w->known + shower * f->known;
    long n_children = cells_of(f->child_shape);
    memset(known, 0, f->known * sizeof(elem));
    memset(children, 0, n_children * sizeof(real));
    memset(w->sums + shower * (n_children / f->child_shape[0]), 0, n_children / f->child_shape[0] * sizeof(real));
    for (long i = 0; i < f->sources; i++)
        if (f->source[i].grid == 0) {
            const struct source *s = f->source + i;
            const real *numbers = parents;
            if (s->form == 2 || s->size < cells_of(f->shape)) {
                memset(w->scratch, 0, s->size * sizeof(real));
                add_layers(w->scratch, parents, f->shape, s, 0, f->shape[0]);
                numbers = w->scratch;
            }
            forms(known + s->begin, numbers, s->size, s->form, threshold);
        }
    for (long i = 0; i < f->whole; i++) {
        real e = children[f->whole_children[i]] = parents[f->whole_cells[i]];
        forms(known + f->children + f->whole_children[i], &e, 1, 0, threshold);
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
        for (long i = 0; i < f->sources; i++) {
            const struct source *s = f->source + i;
            long layer = s->strides[0];
            if (s->grid != 1 || s->begin == f->children) continue;
            memset(w->scratch + z * layer, 0, layer * sizeof(real));
            add_layers(w->scratch, children, f->child_shape, s, z, z + 1);
            forms(known + s->begin + z * layer, w->scratch + z * layer, layer, s->form, threshold);
        }
    }
    for (long i = 0; i < f->sources; i++)
        if (f->source[i].grid == 2)
            forms(known + f->source[i].begin + stage * size, sums, size, f->source[i].form, threshold);
}

/* Shares of the energies of one vector of splits, see `split.draw`; raw (Q, *), normal numbers (2, *). */
static __attribute__((noinline)) void draw(real *raw, long stride, long components, vec energy, const real *normal,
                                           real threshold, real *left, real *right) {
#define RAW(i) (*(vec *)(raw + (i) * stride))
    vec z = *(const vec *)normal, tail = exponential(log_tail(absolute(z))), uniform = pick(z > 0, 1 - tail, tail);
    mask can_share = energy >= (real)2.00002 * threshold;
    vec a = RAW(0), b = RAW(1), c = pick(can_share, RAW(2), all(-30)), top = pick(a > b, a, b);
    top = pick(c > top, c, top);
    a = exponential(a - top), b = exponential(b - top), c = exponential(c - top);
    vec total = a + b + c, one = (a + b) / total;
    mask both = (uniform >= one) & can_share;

    real *weights = raw + 3 * stride, *places = weights + components * stride, *scales = places + components * stride;
#define AT(part, i) (*(vec *)((part) + (i) * stride))
    top = AT(weights, 0);
    for (long i = 1; i < components; i++) top = pick(AT(weights, i) > top, AT(weights, i), top);
    vec sum = all(0), passed = all(0), place = AT(places, 0), scale = AT(scales, 0);
    for (long i = 0; i < components; i++) sum += AT(weights, i) = exponential(AT(weights, i) - top);
    vec aim = (uniform - one) / pick(both, c / total, all(1)) * sum;
    for (long i = 0; i + 1 < components; i++) {
        passed += AT(weights, i);
        place = pick(passed < aim, AT(places, i + 1), place);
        scale = pick(passed < aim, AT(scales, i + 1), scale);
    }

    z = *(const vec *)(normal + LANES);
    vec log_small = log_tail(absolute(z)), small = exponential(log_small);
    vec logistic = log_ratio(-small / (2 - small)) - log_small;
    vec y = place + (softplus(scale) * (real)0.5 + (real)0.02) * pick(z > 0, logistic, -logistic);
    vec width = logarithm(at_least(energy - threshold, (real)1.00001 * threshold) / threshold);
    vec w = (2 / (exponential(-y) + 1) - 1) * width;
    vec less = at_least(energy / (exponential(absolute(w)) + 1), threshold);
    vec larger = pick(both, energy - less, energy), smaller = pick(both, less, all(0));
    mask on_left = (both & (w > 0)) | (~both & (uniform < a / total));
    *(vec *)left = pick(on_left, larger, smaller);
    *(vec *)right = pick(on_left, smaller, larger);
#undef RAW
#undef AT
}

/* SiLU of hidden units (H, *) as columns; the bias of the block that reads them is added to the units. */
static __attribute__((noinline)) void activate(const struct work *w, const real *bias, long units, int nr) {
    for (long u = 0; u < units; u++)
        for (int j = 0; j < nr; j++) {
            vec *h = (vec *)(w->hidden + (u * nr + j) * LANES);
            put(nr, w->active, u, j, silu(*h));
            if (bias) *h += bias[u];
        }
}

INLINE void multiply(const int nr, real *sums, const elem *panels, long rows, const elem *columns, long inner) {
    for (long i = 0; i < PANELS(rows); i++)
        advance(nr, sums + i * MR * nr * LANES, panels + i * PANEL(inner), columns, up(inner, PAIR) / PAIR);
}

/* Up to nr vectors of splits of one stage. */
INLINE void tile(const int nr, const struct halving *f, const struct packed *p, const struct work *w, long stage,
                 const struct row *rows, long n, const real *parents, const real *noise, long noise_stride,
                 real threshold, real *children) {
    const long width = nr * LANES, K = f->sizes.known, H = f->sizes.units, q = 3 + 3 * f->sizes.components;
    const long n_parents = cells_of(f->shape), n_children = cells_of(f->child_shape), panels = PANELS(H);
    real energy[2 * LANES] __attribute__((aligned(BYTES))), normal[4 * LANES] __attribute__((aligned(BYTES)));
    real shares[2][2 * LANES] __attribute__((aligned(BYTES)));
    for (int j = 0; j < nr; j++) {
        const real *known_rows[LANES], *places[LANES];
        for (long r = 0; r < LANES; r++) {
            long i = j * LANES + r;
            struct row row = rows[i < n ? i : n - 1]; /* places that are left over compute the last one again */
            const elem *known = w->known + row.shower * f->known;
            const int32_t *table = f->table + row.place * K;
            elem *gathered = w->gathered + r * up(K, PAIR);
            for (long k = 0; k < K; k++) gathered[k] = known[table[k]];
            known_rows[r] = (const real *)gathered;
            places[r] = f->places + row.place * H;
            energy[i] = parents[row.shower * n_parents + f->cells[row.place]];
            for (int k = 0; k < 2; k++)
                normal[(2 * j + k) * LANES + r] = noise[row.shower * noise_stride + row.place * 2 + k];
        }
        transpose((real *)w->columns + j * LANES, width, known_rows, up(K, PAIR) / PAIR);
        transpose(w->hidden + j * LANES, width, places, H);
    }
    multiply(nr, w->hidden, p->enter + stage * panels * PANEL(K), H, w->columns, K);
    for (long l = 0; l < f->sizes.depth; l++) {
        activate(w, p->bias + l * H, H, nr);
        multiply(nr, w->hidden, p->blocks + l * panels * PANEL(H), H, w->active, H);
    }
    activate(w, 0, H, nr);
    for (long i = 0; i < PANELS(q) * MR; i++)
        for (int j = 0; j < nr; j++) *(vec *)(w->raw + (i * nr + j) * LANES) = all(p->head_bias[i]);
    multiply(nr, w->raw, p->head, q, w->active, H);
    elem seen[2][2 * LANES];
    for (int j = 0; j < nr; j++)
        draw(w->raw + j * LANES, width, f->sizes.components, *(vec *)(energy + j * LANES), normal + j * 2 * LANES,
             threshold, shares[0] + j * LANES, shares[1] + j * LANES);
    for (int side = 0; side < 2; side++) {
        forms(seen[side], shares[side], width, 0, threshold);
        for (long r = 0; r < n; r++) {
            long child = (side ? f->right : f->left)[rows[r].place];
            children[rows[r].shower * n_children + child] = shares[side][r];
            w->known[rows[r].shower * f->known + f->children + child] = seen[side][r];
        }
    }
}

#define CACHE (512 * 1024) /* bytes for what is known of showers that are computed together */

/* parents (n, …), context (n, G), noise (n, P, 2) in rows of `noise_stride` numbers, threshold (1,) ->
   children (n, C). Returns 0, or 1 where there is not enough memory. */
int run(const struct halving *f, int64_t n, const real *parents, const real *context, const real *noise,
        int64_t noise_stride, const real *threshold, real *children) {
    const struct packed p = parts(&f->sizes, f->packed);
    const long K = f->sizes.known, H = f->sizes.units, q = 3 + 3 * f->sizes.components, width = 2 * LANES;
    const long n_parents = cells_of(f->shape), n_children = cells_of(f->child_shape), size = f->child_shape[1] * f->child_shape[2];
    long group = CACHE / (f->known * sizeof(elem)), most = 0, scratch = 0, bytes = 0;
    group = group < 1 ? 1 : group < n ? group : n;
    for (long i = 0; i < f->passes; i++) {
        long cells = f->pass_ends[i] - (i ? f->pass_ends[i - 1] : 0);
        most = cells > most ? cells : most;
    }
    for (long i = 0; i < f->sources; i++) scratch = f->source[i].size > scratch ? f->source[i].size : scratch;
    struct work w;
    char *memory = 0;
    for (int allocated = 0; allocated < 2; allocated++) {
        bytes = 0;
#define PART(name, type, count) w.name = (type *)(memory + bytes), bytes += up((count) * (long)sizeof(type), 64)
        PART(gathered, elem, LANES * up(K, PAIR));
        PART(columns, elem, up(K, PAIR) * width);
        PART(active, elem, up(H, PAIR) * width);
        PART(hidden, real, PANELS(H) * MR * width);
        PART(raw, real, PANELS(q) * MR * width);
        if (allocated) memset(memory, 0, bytes);
        PART(known, elem, group * f->known);
        PART(sums, real, group * size);
        PART(scratch, real, scratch);
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
            for (long r = 0; r < rows; r += width) {
                long left = rows - r < width ? rows - r : width;
                if (left > LANES)
                    tile(2, f, &p, &w, stage, w.rows + r, left, own, normal, noise_stride, *threshold, made);
                else
                    tile(1, f, &p, &w, stage, w.rows + r, left, own, normal, noise_stride, *threshold, made);
            }
        }
    }
    free(memory);
    return 0;
}
