/* One connection's controller, fed with events by a test. */
#ifndef FAB_TESTS_CC_FEED_H
#define FAB_TESTS_CC_FEED_H

#include "cc/cc.h"

#define US INT64_C(1000000)

/* A controller of a line, with some parameters of its own. */
void feed_start(const fab_cc_ops_t *ops, const char *const *names, const int64_t *values, int32_t count,
                int64_t line_kbps);
uint64_t feed_send(int64_t bytes, int64_t now_ps);
void feed_cnp(int64_t now_ps);
void feed_ack(fab_cc_ack_t ack);
void feed_loss(bool timeout, int64_t now_ps);
int64_t feed_window(void);

void feed_rate_is(int64_t kbps);
void feed_window_is(int64_t bytes);
void feed_window_between(int64_t least, int64_t most);

#endif
