/* The whole of the test framework: checks that count, and the list of tests. */
#ifndef FAB_TESTS_CHECK_H
#define FAB_TESTS_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

extern int64_t check_passed, check_failed;

/* At most so many failures are told in full. */
enum { CHECK_TOLD = 40 };

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (condition) {                                                                                               \
            check_passed++;                                                                                            \
        } else if (check_failed++ < CHECK_TOLD) {                                                                      \
            printf("%s:%d: %s: not %s\n", __FILE__, __LINE__, __func__, #condition);                                   \
        }                                                                                                              \
    } while (0)

#define CHECK_EQ(found, wanted)                                                                                        \
    do {                                                                                                               \
        const int64_t found_ = (int64_t)(found), wanted_ = (int64_t)(wanted);                                          \
        if (found_ == wanted_) {                                                                                       \
            check_passed++;                                                                                            \
        } else if (check_failed++ < CHECK_TOLD) {                                                                      \
            printf("%s:%d: %s: %s is %" PRId64 ", not %" PRId64 " (%s)\n", __FILE__, __LINE__, __func__, #found,       \
                   found_, wanted_, #wanted);                                                                          \
        }                                                                                                              \
    } while (0)

/* Draws for the tests: a small generator of its own (xorshift64*), so that a failure repeats. */
typedef struct {
    uint64_t state;
} dice_t;

static inline uint64_t dice_roll(dice_t *self)
{
    self->state ^= self->state >> 12;
    self->state ^= self->state << 25;
    self->state ^= self->state >> 27;
    return self->state * UINT64_C(2685821657736338717);
}

/* 0 … sides-1 */
static inline uint32_t dice_below(dice_t *self, uint32_t sides)
{
    return (uint32_t)((dice_roll(self) >> 32) * sides >> 32);
}

void test_core(void);
void test_params(void);
void test_net(void);
void test_merge(void);
void test_route(void);
void test_route_kinds(void);
void test_route_torus(void);
void test_queue(void);
void test_cc(void);
void test_cc_delay(void);
void test_cc_hpcc(void);
void test_cc_ib(void);
void test_coll(void);
void test_coll_domains(void);
void test_coll_network(void);
void test_program(void);
void test_classes(void);
void test_run(void);
void test_srd(void);
void test_voq(void);
void test_flow(void);
void test_extents(void);
void test_faults(void);
void test_lock(void);
void test_lustre(void);
void test_store_target(void);
void test_store_layout(void);
void test_store_state(void);
void test_threads(void);
void test_store_run(void);

#endif
