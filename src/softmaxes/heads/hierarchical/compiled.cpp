// The sum of log-probabilities on the way from the root of a tree to a class, and its gradients; see compiled.py.
//
// Plain C interface, called by ctypes with addresses and sizes that compiled.py has made sure of. Nothing is allocated or
// thrown here. N examples, D features, L levels; a "logit" is a row of the weights that a path needs.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "../../native.h"

namespace {

constexpr int64_t LANES = 32;      // sums side by side in a dot product, so that it runs in vector registers
constexpr int64_t AHEAD = 16;      // decisions; rows lie anywhere in memory, and are asked for before they are needed
constexpr int64_t ASKED = 4096;    // bytes of a decision's rows that are asked for; the rest the processor foresees
constexpr int64_t TOGETHER = 64;   // examples that walk up the tree side by side; logits that are looked at so
constexpr int64_t COLUMNS = 64;    // of the input's gradient, summed in vector registers
constexpr double FULL = 1e280;     // from here on a product of factors up to 2 may be infinite after some more
constexpr int DIGIT = 11;          // bits of a row's number sorted at a time
constexpr float SIGN[] = {1, -1};

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

// A logit of infinity makes the softmax of its node no number, as in PyTorch; a sigmoid would make it one.
template <typename T> INLINE T below_infinity(T logit) {
    return logit > std::numeric_limits<T>::max() ? std::numeric_limits<T>::quiet_NaN() : logit;
}

template <typename T> INLINE void add(T *RESTRICT sum, const T *RESTRICT row, T factor, int64_t size) {
    for (int64_t i = 0; i < size; ++i) sum[i] += factor * row[i];
}

// A row of `HierarchicalSoftmax.nodes`.
struct Node {
    int64_t parent, first_row, num_rows, slot;
};

// A decision on the way from a class to the root: its rows of the weights, none beyond the root, and which of their
// logits is the way's own. So it lies in a tensor of int64, two for each.
struct Decision {
    int64_t row;
    int32_t rows, slot;
};

// The decisions on the way from each target to the root, (N, L). Level by level, so that what the memory is slow to give
// is asked for many examples at once.
INLINE void walk(const int64_t *target, const Node *nodes, Decision *decisions, int64_t examples, int64_t levels) {
    int64_t here[TOGETHER];
    for (int64_t start = 0; start < examples; start += TOGETHER) {
        const int64_t size = examples - start < TOGETHER ? examples - start : TOGETHER;
        std::memcpy(here, target + start, sizeof(int64_t) * size);
        for (int64_t level = 0; level < levels; ++level) {
            Decision *decision = decisions + start * levels + level;
            for (int64_t n = 0; n < size; ++n, decision += levels) {
                const Node &node = nodes[here[n]], &owner = nodes[node.parent];
                const bool root = node.parent == here[n]; // it alone is its own parent
                *decision = {owner.first_row, root ? 0 : (int32_t)owner.num_rows, (int32_t)node.slot};
                here[n] = node.parent;
            }
        }
    }
}

template <typename T> INLINE void ask_for(const T *weight, const Decision &decision, int64_t features) {
    const int64_t bytes = decision.rows * features * (int64_t)sizeof(T);
    ask_for_bytes(weight + decision.row * features, bytes < ASKED ? bytes : ASKED);
}

// The log-probability of a path, whose logits become its derivatives by them.
template <typename T> INLINE T decide(const Decision *decision, const Decision *end, T *logit) {
    double sum = 0, product = 1; // of factors from 1 to 2, whose logarithms are to be added: one logarithm for many
    while (decision < end) {
        // Of two children the second, slot 0, has the logit; the first has one fixed at zero. Which one a way takes no
        // processor can foresee, so these are without branches.
        T sign[TOGETHER], small[TOGETHER], below[TOGETHER];
        int64_t size = 0;
        for (; size < TOGETHER && decision < end && decision->rows == 1; ++size, ++decision)
            sign[size] = (T)SIGN[decision->slot != 0];
        for (int64_t i = 0; i < size; ++i) logit[i] *= sign[i];
        for (int64_t i = 0; i < size; ++i) small[i] = std::exp(-std::fabs(logit[i]));
        for (int64_t i = 0; i < size; ++i) {
            const bool negative = logit[i] < 0;
            below[i] = negative ? logit[i] : 0;
            logit[i] = sign[i] * (negative ? 1 : small[i]) / (1 + small[i]);
        }
        for (int64_t i = 0; i < size; ++i) sum += below[i], product *= 1 + (double)small[i];
        if (product > FULL) sum -= std::log(product), product = 1;
        logit += size;
        if (decision == end || decision->rows == 1) continue;
        const int64_t rows = decision->rows, slot = decision->slot;
        if (rows > 1) {
            T highest = logit[0], total = 0;
            for (int64_t k = 1; k < rows; ++k) highest = logit[k] > highest ? logit[k] : highest;
            const T own = logit[slot] - highest;
            for (int64_t k = 0; k < rows; ++k) total += logit[k] = std::exp(logit[k] - highest);
            sum += own - std::log(total);
            for (int64_t k = 0; k < rows; ++k) logit[k] = (k == slot) - logit[k] / total;
        }
        logit += rows;
        ++decision;
    }
    return (T)(sum - std::log(product));
}

// The sum of a path's rows times factors.
template <typename T>
INLINE void sum_rows(const T *weight, const Decision *begin, const Decision *end, const T *factors, T *sum,
                     int64_t features) {
    int64_t i = 0;
    for (; i + COLUMNS <= features; i += COLUMNS) {
        T sums[COLUMNS] = {};
        const T *factor = factors;
        for (const Decision *decision = begin; decision < end; ++decision) {
            const T *row = weight + decision->row * features + i;
            for (int64_t k = 0; k < decision->rows; ++k, row += features, ++factor)
                for (int64_t j = 0; j < COLUMNS; ++j) sums[j] += *factor * row[j];
        }
        std::memcpy(sum + i, sums, sizeof(sums));
    }
    std::memset(sum + i, 0, sizeof(T) * (features - i));
    if (i == features) return;
    for (const Decision *decision = begin; decision < end; ++decision) {
        const T *row = weight + decision->row * features + i;
        for (int64_t k = 0; k < decision->rows; ++k, row += features) add(sum + i, row, *factors++, features - i);
    }
}

// The log-probability of each example's path, and its derivatives: by the input, unless that pointer is null, and by
// each logit on the way, one path's after the other's. Returns how many logits there are.
template <typename T>
INLINE int64_t forward(const int64_t *target, const Node *nodes, const T *input, const T *weight, const T *bias,
                       Decision *decisions, T *log_prob, T *by_input, T *by_logit, int64_t examples, int64_t levels,
                       int64_t features) {
    walk(target, nodes, decisions, examples, levels);
    const Decision *const end = decisions + examples * levels;
    T *logit = by_logit;
    for (int64_t n = 0; n < examples; ++n) {
        const T *x = input + n * features;
        T *const first = logit;
        const Decision *const begin = decisions + n * levels;
        for (const Decision *decision = begin; decision < begin + levels; ++decision) {
            if (decision + AHEAD < end) ask_for(weight, decision[AHEAD], features);
            for (int64_t row = decision->row; row < decision->row + decision->rows; ++row)
                *logit++ = below_infinity(dot(x, weight + row * features, features) + (bias ? bias[row] : 0));
        }
        log_prob[n] = decide(begin, begin + levels, first);
        if (by_input) sum_rows(weight, begin, begin + levels, first, by_input + n * features, features);
    }
    return logit - by_logit;
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

// The gradients of the rows that occur, each once, in ascending order; returns how many. `row` and `example` have room
// for each logit, `spare_row` too, `spare_place` for twice as many.
template <typename T>
INLINE int64_t backward(const T *upstream, const T *input, const Decision *decision, const T *by_logit, int64_t *row,
                        int32_t *example, int64_t *spare_row, int32_t *spare_place, int64_t *found, T *by_weight,
                        T *by_bias, int64_t logits, int64_t examples, int64_t levels, int64_t features) {
    int32_t *place = spare_place, *other_place = spare_place + logits;
    int64_t i = 0;
    for (int64_t n = 0; n < examples; ++n)
        for (int64_t level = 0; level < levels; ++level, ++decision)
            for (int64_t k = 0; k < decision->rows; ++k, ++i)
                row[i] = decision->row + k, example[i] = (int32_t)n, place[i] = (int32_t)i;
    sort(row, place, spare_row, other_place, logits);
    int64_t rows = 0;
    for (i = 0; i < logits; ++rows) {
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
INLINE void update(const T *upstream, const T *input, T *weight, T *bias, const Decision *decision, const T *by_logit,
                   int64_t examples, int64_t levels, int64_t features, double weight_rate, double bias_rate) {
    const Decision *const end = decision + examples * levels;
    for (int64_t n = 0; n < examples; ++n)
        for (int64_t level = 0; level < levels; ++level, ++decision) {
            if (weight && decision + AHEAD < end) ask_for(weight, decision[AHEAD], features);
            for (int64_t row = decision->row; row < decision->row + decision->rows; ++row) {
                const T factor = upstream[n] * *by_logit++;
                if (weight) add(weight + row * features, input + n * features, (T)-weight_rate * factor, features);
                if (bias) bias[row] -= (T)bias_rate * factor;
            }
        }
}

} // namespace

// Decisions and nodes lie in tensors of int64.
#define BOTH(T, NAME)                                                                                                  \
    EXPORT int64_t softmaxes_forward_##NAME(const int64_t *target, const void *nodes, const T *input, const T *weight, \
                                            const T *bias, void *decisions, T *log_prob, T *by_input, T *by_logit,     \
                                            int64_t examples, int64_t levels, int64_t features) {                      \
        return forward(target, (const Node *)nodes, input, weight, bias, (Decision *)decisions, log_prob, by_input,    \
                       by_logit, examples, levels, features);                                                          \
    }                                                                                                                  \
    EXPORT int64_t softmaxes_backward_##NAME(const T *upstream, const T *input, const void *decisions,                 \
                                             const T *by_logit, int64_t *row, int32_t *example, int64_t *spare_row,    \
                                             int32_t *spare_place, int64_t *found, T *by_weight, T *by_bias,           \
                                             int64_t logits, int64_t examples, int64_t levels, int64_t features) {     \
        return backward(upstream, input, (const Decision *)decisions, by_logit, row, example, spare_row, spare_place,  \
                        found, by_weight, by_bias, logits, examples, levels, features);                                \
    }                                                                                                                  \
    EXPORT void softmaxes_update_##NAME(const T *upstream, const T *input, T *weight, T *bias, const void *decisions,  \
                                        const T *by_logit, int64_t examples, int64_t levels, int64_t features,         \
                                        double weight_rate, double bias_rate) {                                        \
        update(upstream, input, weight, bias, (const Decision *)decisions, by_logit, examples, levels, features,       \
               weight_rate, bias_rate);                                                                                \
    }

BOTH(float, float32)
BOTH(double, float64)
