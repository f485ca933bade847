// The sum of log-probabilities on the way from the root of a tree to a class, and its gradients; see paths.py.
//
// Plain C interface, called by ctypes with addresses and sizes that paths.py has made sure of. Nothing is allocated or
// thrown here. N examples, D features, L levels; a "logit" is a row of the weights that a path needs.
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) && defined(__GLIBC__)
// One copy for each generation of processors, chosen when the library is loaded.
#define EXPORT extern "C" __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(_MSC_VER)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C"
#endif

#if defined(__GNUC__) || defined(__clang__)
#define INLINE inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#define RESTRICT __restrict__
#else
#define INLINE inline
#define PREFETCH(address) ((void)0)
#define RESTRICT __restrict
#endif

namespace {

constexpr int64_t LANES = 32;      // sums side by side in a dot product, so that it runs in vector registers
constexpr int64_t CACHE_LINE = 64; // bytes
constexpr int64_t AHEAD = 16;       // decisions; rows lie anywhere in memory, and are asked for before they are needed
constexpr double FULL = 1e300;     // a product of factors up to 2 is far from infinity here
constexpr int DIGIT = 11;          // bits of a row's number sorted at a time

template <typename T> INLINE T dot(const T *RESTRICT a, const T *RESTRICT b, int64_t size) {
    T sums[LANES] = {};
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES)
        for (int64_t j = 0; j < LANES; ++j) sums[j] += a[i + j] * b[i + j];
    for (int64_t j = 0; i + j < size; ++j) sums[j] += a[i + j] * b[i + j];
    for (int64_t half = LANES / 2; half > 0; half /= 2)
        for (int64_t j = 0; j < half; ++j) sums[j] += sums[j + half];
    return sums[0];
}

template <typename T> INLINE void add(T *RESTRICT sum, const T *RESTRICT row, T factor, int64_t size) {
    for (int64_t i = 0; i < size; ++i) sum[i] += factor * row[i];
}

// The log-probability of each example's path; and, unless the pointers are null, its derivatives: by the input, and by
// each logit on the way together with the logit's row and example.
template <typename T>
INLINE void forward(const T *input, const T *weight, const T *bias, const int64_t *first, const int32_t *count,
                    const int32_t *slot, T *log_prob, T *by_input, int64_t *row, int32_t *example, T *by_logit,
                    int64_t examples, int64_t levels, int64_t features) {
    const int64_t decisions = examples * levels;
    if (by_input) std::memset(by_input, 0, sizeof(T) * examples * features);
    for (int64_t n = 0, e = 0; n < examples; ++n) {
        const T *x = input + n * features;
        T *dx = by_input ? by_input + n * features : nullptr;
        double sum = 0, product = 1;  // of factors from 1 to 2, whose logarithms are to be added: one logarithm for many
        for (int64_t end = e + levels; e < end; ++e) {
            if (e + AHEAD < decisions) {
                const T *rows = weight + first[e + AHEAD] * features;
                const int64_t size = count[e + AHEAD] * features;
                for (int64_t i = 0; i < size; i += CACHE_LINE / sizeof(T)) PREFETCH(rows + i);
                if (bias) PREFETCH(bias + first[e + AHEAD]);
            }
            const int64_t logits = count[e];
            if (logits == 0) continue;
            const T *rows = weight + first[e] * features;
            for (int64_t k = 0; k < logits; ++k) {
                by_logit[k] = dot(x, rows + k * features, features);
                if (bias) by_logit[k] += bias[first[e] + k];
            }
            if (logits == 1) {  // of two children the second, slot 0, has the logit; the first has one fixed at zero
                // Without branches: which child it is, no processor can foresee.
                const T sign = (T)(1 - 2 * (slot[e] != 0)), margin = sign * by_logit[0];
                const T small = std::exp(-std::fabs(margin)), below = margin < 0 ? margin : 0;
                sum += below;
                product *= 1 + (double)small;
                if (product > FULL) sum -= std::log(product), product = 1;
                by_logit[0] = sign * (margin < 0 ? 1 : small) / (1 + small);
            } else {
                T highest = by_logit[0], total = 0;
                for (int64_t k = 1; k < logits; ++k) highest = by_logit[k] > highest ? by_logit[k] : highest;
                const T own = by_logit[slot[e]] - highest;
                for (int64_t k = 0; k < logits; ++k) total += by_logit[k] = std::exp(by_logit[k] - highest);
                sum += own - std::log(total);
                for (int64_t k = 0; k < logits; ++k) by_logit[k] = (k == slot[e]) - by_logit[k] / total;
            }
            if (dx)
                for (int64_t k = 0; k < logits; ++k) add(dx, rows + k * features, by_logit[k], features);
            if (row) {
                for (int64_t k = 0; k < logits; ++k) *row++ = first[e] + k, *example++ = (int32_t)n;
                by_logit += logits;
            }
        }
        log_prob[n] = (T)(sum - std::log(product));
    }
}

// Sorts the places by their rows, keeping the order of places with the same row; the result is where `row` and `place`
// then point.
INLINE void sort(int64_t *&row, int32_t *&place, int64_t *&other_row, int32_t *&other_place, int64_t size) {
    int64_t highest = 0;
    for (int64_t i = 0; i < size; ++i) highest |= row[i];
    for (int shift = 0; shift < 63 && highest >> shift; shift += DIGIT) {
        const int64_t mask = (1 << DIGIT) - 1;
        int32_t start[(1 << DIGIT) + 1] = {};
        for (int64_t i = 0; i < size; ++i) ++start[((row[i] >> shift) & mask) + 1];
        for (int64_t digit = 0; digit < mask; ++digit) start[digit + 1] += start[digit];
        for (int64_t i = 0; i < size; ++i) {
            const int32_t to = start[(row[i] >> shift) & mask]++;
            other_row[to] = row[i], other_place[to] = place[i];
        }
        int64_t *const rows = row;
        int32_t *const places = place;
        row = other_row, other_row = rows;
        place = other_place, other_place = places;
    }
}

// The gradients of the rows that occur, each once, in ascending order; returns how many. `row` is overwritten, `spare_row`
// and `spare_place` (twice as long) are room to work in.
template <typename T>
INLINE int64_t backward(const T *upstream, const T *input, int64_t *row, const int32_t *example, const T *by_logit,
                        int64_t *spare_row, int32_t *spare_place, int64_t *found, T *by_weight, T *by_bias,
                        int64_t logits, int64_t features) {
    int32_t *place = spare_place, *other_place = spare_place + logits;
    for (int64_t i = 0; i < logits; ++i) place[i] = (int32_t)i;
    sort(row, place, spare_row, other_place, logits);
    int64_t rows = 0;
    for (int64_t i = 0; i < logits; ++rows) {
        const int64_t here = row[i];
        T *sum = by_weight + rows * features;
        T total = 0;
        std::memset(sum, 0, sizeof(T) * features);
        for (; i < logits && row[i] == here; ++i) {
            const int32_t n = example[place[i]];
            const T factor = upstream[n] * by_logit[place[i]];
            add(sum, input + n * features, factor, features);
            total += factor;
        }
        by_bias[rows] = total;
        found[rows] = here;
    }
    return rows;
}

// Subtracts from weights and biases, unless the pointers are null, their gradients times learning rates.
template <typename T>
INLINE void update(const T *upstream, const T *input, T *weight, T *bias, const int64_t *row, const int32_t *example,
                   const T *by_logit, int64_t logits, int64_t features, double weight_rate, double bias_rate) {
    for (int64_t i = 0; i < logits; ++i) {
        if (weight && i + AHEAD < logits) {
            const T *next = weight + row[i + AHEAD] * features;
            for (int64_t j = 0; j < features; j += CACHE_LINE / sizeof(T)) PREFETCH(next + j);
        }
        const T factor = upstream[example[i]] * by_logit[i];
        if (weight) add(weight + row[i] * features, input + example[i] * features, (T)-weight_rate * factor, features);
        if (bias) bias[row[i]] -= (T)bias_rate * factor;
    }
}

} // namespace

// The decisions on the way from each target up to the root, (N, L): how many logits, which row is the first, and which
// of them is the way's own; returns how many logits there are in all. Level by level, so that what the memory is slow
// to give is asked for all examples at once.
EXPORT int64_t softmaxes_walk(const int64_t *target, const int64_t *parent, const int64_t *num_rows,
                              const int64_t *first_row, const int64_t *slots, int64_t *here, int64_t *first,
                              int32_t *count, int32_t *slot, int64_t examples, int64_t levels) {
    int64_t total = 0;
    std::memcpy(here, target, sizeof(int64_t) * examples);
    for (int64_t level = 0; level < levels; ++level)
        for (int64_t n = 0, e = level; n < examples; ++n, e += levels) {
            const int64_t node = here[n], owner = parent[node];
            count[e] = owner == node ? 0 : (int32_t)num_rows[owner]; // only the root is its own parent
            first[e] = first_row[owner];
            slot[e] = (int32_t)slots[node];
            total += count[e];
            here[n] = owner;
        }
    return total;
}

#define BOTH(T, NAME)                                                                                                  \
    EXPORT void softmaxes_forward_##NAME(const T *input, const T *weight, const T *bias, const int64_t *first,         \
                                         const int32_t *count, const int32_t *slot, T *log_prob, T *by_input,          \
                                         int64_t *row, int32_t *example, T *by_logit, int64_t examples,                \
                                         int64_t levels, int64_t features) {                                           \
        forward(input, weight, bias, first, count, slot, log_prob, by_input, row, example, by_logit, examples, levels, \
                features);                                                                                             \
    }                                                                                                                  \
    EXPORT int64_t softmaxes_backward_##NAME(const T *upstream, const T *input, int64_t *row, const int32_t *example,  \
                                             const T *by_logit, int64_t *spare_row, int32_t *spare_place,              \
                                             int64_t *found, T *by_weight, T *by_bias, int64_t logits,                 \
                                             int64_t features) {                                                       \
        return backward(upstream, input, row, example, by_logit, spare_row, spare_place, found, by_weight, by_bias,    \
                        logits, features);                                                                             \
    }                                                                                                                  \
    EXPORT void softmaxes_update_##NAME(const T *upstream, const T *input, T *weight, T *bias, const int64_t *row,     \
                                        const int32_t *example, const T *by_logit, int64_t logits, int64_t features,   \
                                        double weight_rate, double bias_rate) {                                        \
        update(upstream, input, weight, bias, row, example, by_logit, logits, features, weight_rate, bias_rate);       \
    }

BOTH(float, float32)
BOTH(double, float64)
