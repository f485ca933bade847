// The k largest logits of each query, exact, from rows that were rounded to bfloat16; see rounded.py.
//
// Plain C interface, called by ctypes with addresses and sizes that rounded.py has made sure of. Nothing is allocated or
// thrown here. C rows and N queries of D numbers; C and N are multiples of 16, D of the rounded ones is one of 32.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "native.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define SEARCHES
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LANES __attribute__((target("avx512f,avx512bw,avx512bf16")))
#define TILES __attribute__((target("avx512f,avx512bw,avx512bf16,amx-tile,amx-bf16")))

namespace {

constexpr int64_t WIDTH = 16;  // numbers of float32 in a register, and rows of a tile
constexpr int64_t DEPTH = 32;  // numbers of bfloat16 in a row of a tile
constexpr int64_t ABREAST = 8; // sums of a dot product in double, which go on at the same time

// What a call works on. Of each query: where its numbers lie from one query to the next is said in brackets.
struct Search {
    const uint16_t *rows;    // rounded, (C, D)
    const float *bias;       // (C,)
    const uint16_t *queries; // rounded, (N / 16, D / 2, 16, 2)
    const float *error;      // the largest of a rounded logit, (N,)
    int32_t *classes;        // candidates in rising order, (N, room)
    float *scores;           // their rounded logits, (N, room)
    float *best;             // the k best rounded logits so far, as a heap with the least in front, (N, k)
    float *least;            // rounded logit below which a class is none of the best, (N,)
    int64_t *number;         // of candidates, (N,); -1: there are too many
    int64_t count, asked, features, k, room;
};

// Drops the candidates that cannot be among the best any more.
void drop(const Search &s, int64_t query) {
    int32_t *const classes = s.classes + query * s.room;
    float *const scores = s.scores + query * s.room;
    int64_t left = 0;
    for (int64_t at = 0; at < s.number[query]; ++at) {
        classes[left] = classes[at];
        scores[left] = scores[at];
        left += scores[at] >= s.least[query];
    }
    s.number[query] = left;
}

// A class becomes a candidate of the queries that `lanes` marks among the 16 from `first` on.
__attribute__((noinline)) void add(const Search &s, unsigned lanes, const float *scores, int64_t row, int64_t first) {
    for (; lanes; lanes &= lanes - 1) {
        const int lane = __builtin_ctz(lanes);
        const int64_t query = first + lane;
        int64_t &number = s.number[query];
        if (number < 0 || scores[lane] < s.least[query]) continue; // which rose since `lanes` was made
        if (number == s.room) {
            drop(s, query);
            if (number > s.room / 4 * 3) {
                number = -1;
                s.least[query] = std::numeric_limits<float>::infinity();
                continue;
            }
        }
        // The heap holds the best of all that came, so it has k of them from the k-th candidate on.
        float *const best = s.best + query * s.k;
        const auto more = [](float a, float b) { return a > b; };
        if (best[0] < scores[lane]) {
            std::pop_heap(best, best + s.k, more);
            best[s.k - 1] = scores[lane];
            std::push_heap(best, best + s.k, more);
            s.least[query] = std::max(s.least[query], best[0] - 2 * s.error[query]);
        }
        s.classes[query * s.room + number] = (int32_t)row;
        s.scores[query * s.room + number] = scores[lane];
        ++number;
    }
}

// Looks for candidates among the logits of 16 classes and 16 queries, which lack the bias.
LANES INLINE void sift(const Search &s, float *logits, int64_t row, int64_t query) {
    const float *const bias = s.bias + row;
    __m512 most = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
#pragma GCC unroll 16
    for (int at = 0; at < WIDTH; ++at)
        most = _mm512_max_ps(most, _mm512_add_ps(_mm512_load_ps(logits + at * WIDTH), _mm512_set1_ps(bias[at])));
    if (__builtin_expect(_mm512_cmp_ps_mask(most, _mm512_load_ps(s.least + query), _CMP_GE_OQ) == 0, 1)) return;
    alignas(32) uint16_t lanes[WIDTH];
    for (int at = 0; at < WIDTH; ++at) {
        const __m512 score = _mm512_add_ps(_mm512_load_ps(logits + at * WIDTH), _mm512_set1_ps(bias[at]));
        lanes[at] = _mm512_cmp_ps_mask(score, _mm512_load_ps(s.least + query), _CMP_GE_OQ);
        _mm512_store_ps(logits + at * WIDTH, score);
    }
    for (int at = 0; at < WIDTH; ++at)
        if (lanes[at]) add(s, lanes[at], logits + at * WIDTH, row + at, query);
}

struct alignas(64) TileShapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// By AMX: 32 classes and 32 queries at a time. While the tiles work, the logits before are looked through.
TILES void by_tiles(const Search &s) {
    const TileShapes shapes;
    _tile_loadconfig(&shapes);
    alignas(64) float logits[4][WIDTH * WIDTH];
    const int64_t stride = s.features * 2, step = WIDTH * DEPTH, half = WIDTH * s.features;
    const int64_t blocks = (s.asked + 2 * WIDTH - 1) / (2 * WIDTH);
    const int64_t lines = 2 * WIDTH * stride / CACHE_LINE, steps = blocks * s.features / DEPTH;
    const int64_t ahead = (lines + steps - 1) / steps * CACHE_LINE; // bytes of the next rows, asked for in each step
    int64_t row = -1, query = -1; // of the logits before
    const auto sift_all = [&]() __attribute__((always_inline, target("avx512f,avx512bw,avx512bf16,amx-tile,amx-bf16"))) {
        const bool below = row + WIDTH < s.count, right = query + WIDTH < s.asked;
        sift(s, logits[0], row, query);
        if (right) sift(s, logits[1], row, query + WIDTH);
        if (below) sift(s, logits[2], row + WIDTH, query);
        if (below && right) sift(s, logits[3], row + WIDTH, query + WIDTH);
    };
    for (int64_t r = 0; r < s.count; r += 2 * WIDTH) {
        const uint16_t *const upper = s.rows + r * s.features, *const lower = upper + (r + WIDTH < s.count ? half : 0);
        const char *next = (const char *)(upper + 2 * half);
        for (int64_t q = 0; q < s.asked; q += 2 * WIDTH) {
            const uint16_t *const one = s.queries + q * s.features, *const two = one + (q + WIDTH < s.asked ? half : 0);
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int64_t k = 0, at = 0; k < s.features; k += DEPTH, at += step) {
                for (const char *const end = next + ahead; next < end; next += CACHE_LINE) _mm_prefetch(next, _MM_HINT_T1);
                _tile_loadd(4, upper + k, stride);
                _tile_loadd(6, one + at, CACHE_LINE);
                _tile_loadd(5, lower + k, stride);
                _tile_loadd(7, two + at, CACHE_LINE);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            if (row >= 0) sift_all();
            _tile_stored(0, logits[0], CACHE_LINE);
            _tile_stored(1, logits[1], CACHE_LINE);
            _tile_stored(2, logits[2], CACHE_LINE);
            _tile_stored(3, logits[3], CACHE_LINE);
            row = r, query = q;
        }
    }
    sift_all();
    _tile_release();
}

// By AVX-512: 16 classes and 16 queries at a time.
LANES void by_lanes(const Search &s) {
    alignas(64) float logits[WIDTH * WIDTH];
    for (int64_t row = 0; row < s.count; row += WIDTH) {
        const uint16_t *const rows = s.rows + row * s.features;
        for (int64_t query = 0; query < s.asked; query += WIDTH) {
            const uint16_t *const queries = s.queries + query * s.features;
            __m512 sum[WIDTH];
            for (int at = 0; at < WIDTH; ++at) sum[at] = _mm512_setzero_ps();
            for (int64_t k = 0; k < s.features; k += 2) {
                const __m512bh pairs = (__m512bh)_mm512_load_si512(queries + k * WIDTH);
#pragma GCC unroll 16
                for (int at = 0; at < WIDTH; ++at) {
                    int32_t pair;
                    std::memcpy(&pair, rows + at * s.features + k, sizeof pair);
                    sum[at] = _mm512_dpbf16_ps(sum[at], pairs, (__m512bh)_mm512_set1_epi32(pair));
                }
            }
            for (int at = 0; at < WIDTH; ++at) _mm512_store_ps(logits + at * WIDTH, sum[at]);
            sift(s, logits, row, query);
        }
    }
}

// A logit, summed in double and rounded once.
template <typename T> LANES INLINE T logit(const T *row, const T *query, int64_t features, T bias) {
    double sums[ABREAST] = {};
    int64_t k = 0;
    for (; k + ABREAST <= features; k += ABREAST)
        for (int at = 0; at < ABREAST; ++at) sums[at] += (double)row[k + at] * (double)query[k + at];
    double sum = bias;
    for (; k < features; ++k) sum += (double)row[k] * (double)query[k];
    for (int at = 0; at < ABREAST; ++at) sum += sums[at];
    return (T)sum;
}

// The best of a query's candidates, by their logits as they are. Returns whether it has k of them.
template <typename T>
LANES bool choose(const Search &s, int64_t query, const T *rows, const T *bias, const T *queries, int64_t features,
                  T *logits, int32_t *order, T *values, int64_t *found) {
    if (s.number[query] < 0) return false;
    drop(s, query);
    const int64_t number = s.number[query];
    if (number < s.k) return false;
    const int32_t *const classes = s.classes + query * s.room;
    for (int64_t at = 0; at < number; ++at) {
        if (at + 1 < number) ask_for_bytes(rows + classes[at + 1] * features, features * (int64_t)sizeof(T));
        const int64_t row = classes[at];
        logits[at] = logit(rows + row * features, queries + query * features, features, bias ? bias[row] : (T)0);
        order[at] = (int32_t)at;
    }
    std::partial_sort(order, order + s.k, order + number, [logits](int32_t a, int32_t b) {
        return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
    });
    for (int64_t at = 0; at < s.k; ++at) {
        values[query * s.k + at] = logits[order[at]];
        found[query * s.k + at] = classes[order[at]];
    }
    return true;
}

int64_t best_way() {
    constexpr int ASK = 0x1023, TILE_DATA = 18; // Linux lets a process use the tiles' registers once it has asked
    if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512bw")) return 0;
    const bool tiles = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16");
    return tiles && syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0 ? 2 : 1;
}

template <typename T>
int64_t search(int64_t way, const Search &s, const T *rows, const T *bias, const T *queries, int64_t wanted,
               int64_t features, T *logits, int32_t *order, T *values, int64_t *found, uint8_t *decided) {
    static const int64_t best = best_way();
    way = std::min(way, best);
    if (way == 0 || s.count == 0 || s.asked == 0) return way;
    (way == 2 ? by_tiles : by_lanes)(s);
    for (int64_t query = 0; query < wanted; ++query)
        decided[query] = choose(s, query, rows, bias, queries, features, logits, order, values, found);
    return way;
}

} // namespace
#endif

// Returns how it searched: 2 by AMX, 1 by AVX-512, 0 not at all, as this machine or this build has neither.
#ifdef SEARCHES
#define BOTH(T, NAME)                                                                                                  \
    extern "C" int64_t softmaxes_best_##NAME(                                                                        \
        int64_t way, const uint16_t *rounded_rows, const float *rounded_bias, const uint16_t *rounded_queries,         \
        const float *error, int32_t *classes, float *scores, float *best, float *least, int64_t *number,               \
        int64_t count, int64_t asked, int64_t rounded_features, int64_t k, int64_t room, const T *rows, const T *bias, \
        const T *queries, int64_t wanted, int64_t features, T *logits, int32_t *order, T *values, int64_t *found,      \
        uint8_t *decided) {                                                                                            \
        const Search s{rounded_rows, rounded_bias, rounded_queries, error, classes, scores,           best, least,     \
                       number,       count,        asked,           rounded_features, k, room};                        \
        return search(way, s, rows, bias, queries, wanted, features, logits, order, values, found, decided);           \
    }
#else
#define BOTH(T, NAME)                                                                                                  \
    extern "C" int64_t softmaxes_best_##NAME(...) { return 0; }
#endif

BOTH(float, float32)
BOTH(double, float64)
