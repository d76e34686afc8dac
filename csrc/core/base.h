/* What every room stands on: integer types, branch hints and the one "never". */
#ifndef FAB_CORE_BASE_H
#define FAB_CORE_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAB_LIKELY(x) __builtin_expect(!!(x), 1)
#define FAB_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FAB_INLINE static inline __attribute__((always_inline))
#define FAB_NOINLINE __attribute__((noinline))

/* A time that no event has. Half the range, so that adding a delay to it cannot overflow. */
#define FAB_NEVER (INT64_MAX / 2)
#define FAB_NONE UINT32_MAX

#define FAB_CACHE_LINE 64

FAB_INLINE int64_t fab_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
FAB_INLINE int64_t fab_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
