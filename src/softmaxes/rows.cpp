// Steps of Adagrad and Adam on the rows of a parameter that have a gradient; see rows.py.
//
// Plain C interface, called by ctypes with addresses and sizes that rows.py has made sure of. Nothing is allocated or
// thrown here. E entries of D numbers; entries of one row stand together in the order given, and are added up.
#include <cmath>
#include <cstdint>

#include "native.h"

namespace {

constexpr int64_t AHEAD = 4; // entries whose rows are asked for before they are needed

template <typename T> INLINE void ask_for(const T *row, int64_t features) {
    ask_for_bytes(row, features * (int64_t)sizeof(T));
}

// The gradient of the row of the entry at `place`, which is moved on to the next row's first.
template <typename T>
INLINE const T *gradient(const T *values, const int64_t *row, const int64_t *order, T *spare, int64_t &place,
                         int64_t entries, int64_t features) {
    const int64_t here = row[place];
    const T *first = values + (order ? order[place] : place) * features;
    if (++place == entries || row[place] != here) return first;
    for (int64_t k = 0; k < features; ++k) spare[k] = first[k];
    for (; place < entries && row[place] == here; ++place) {
        const T *const more = values + (order ? order[place] : place) * features;
        for (int64_t k = 0; k < features; ++k) spare[k] += more[k];
    }
    return spare;
}

template <typename T>
INLINE void adagrad_row(const T *RESTRICT gradient, T *RESTRICT weight, T *RESTRICT sum, int64_t features, T rate,
                        T decay, T small) {
    for (int64_t k = 0; k < features; ++k) {
        const T slope = gradient[k] + decay * weight[k];
        sum[k] += slope * slope;
        weight[k] -= rate * slope / (std::sqrt(sum[k]) + small);
    }
}

template <typename T>
INLINE void adam_row(const T *RESTRICT gradient, T *RESTRICT weight, T *RESTRICT mean, T *RESTRICT square,
                     int64_t features, T rate, T first, T second, T root, T small, T decay, T shrink) {
    for (int64_t k = 0; k < features; ++k) {
        const T kept = weight[k] * shrink, slope = gradient[k] + decay * kept;
        mean[k] += (1 - first) * (slope - mean[k]);
        square[k] = second * square[k] + (1 - second) * slope * slope;
        weight[k] = kept - rate * mean[k] / (std::sqrt(square[k]) / root + small);
    }
}

template <typename T>
INLINE void adagrad(const int64_t *row, const int64_t *order, const T *values, T *weight, T *sum, T *spare,
                    int64_t entries, int64_t features, double rate, double decay, double small) {
    for (int64_t place = 0; place < entries;) {
        if (place + AHEAD < entries) {
            ask_for(weight + row[place + AHEAD] * features, features);
            ask_for(sum + row[place + AHEAD] * features, features);
        }
        const int64_t at = row[place] * features;
        const T *const found = gradient(values, row, order, spare, place, entries, features);
        adagrad_row(found, weight + at, sum + at, features, (T)rate, (T)decay, (T)small);
    }
}

template <typename T>
INLINE void adam(const int64_t *row, const int64_t *order, const T *values, T *weight, T *mean, T *square, T *spare,
                 int64_t entries, int64_t features, double rate, double first, double second, double root,
                 double small, double decay, double shrink) {
    for (int64_t place = 0; place < entries;) {
        if (place + AHEAD < entries) {
            ask_for(weight + row[place + AHEAD] * features, features);
            ask_for(mean + row[place + AHEAD] * features, features);
            ask_for(square + row[place + AHEAD] * features, features);
        }
        const int64_t at = row[place] * features;
        const T *const found = gradient(values, row, order, spare, place, entries, features);
        adam_row(found, weight + at, mean + at, square + at, features, (T)rate, (T)first, (T)second, (T)root, (T)small,
                 (T)decay, (T)shrink);
    }
}

} // namespace

#define BOTH(T, NAME)                                                                                                  \
    EXPORT void softmaxes_adagrad_##NAME(const int64_t *row, const int64_t *order, const T *values, T *weight, T *sum, \
                                         T *spare, int64_t entries, int64_t features, double rate, double decay,       \
                                         double small) {                                                               \
        adagrad(row, order, values, weight, sum, spare, entries, features, rate, decay, small);                        \
    }                                                                                                                  \
    EXPORT void softmaxes_adam_##NAME(const int64_t *row, const int64_t *order, const T *values, T *weight, T *mean,   \
                                      T *square, T *spare, int64_t entries, int64_t features, double rate,             \
                                      double first, double second, double root, double small, double decay,            \
                                      double shrink) {                                                                 \
        adam(row, order, values, weight, mean, square, spare, entries, features, rate, first, second, root, small,     \
             decay, shrink);                                                                                           \
    }

BOTH(float, float32)
BOTH(double, float64)
