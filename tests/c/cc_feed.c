/* One connection's controller, fed with events by a test. */
#include "cc_feed.h"

#include <string.h>

#include "check.h"

static struct {
    const fab_cc_ops_t *ops;
    fab_cc_config_t config;
    fab_cc_state_t state;
    int64_t more[128];
} feed;

void feed_start(const fab_cc_ops_t *ops, const char *const *names, const int64_t *values, int32_t count,
                int64_t line_kbps)
{
    memset(&feed, 0, sizeof feed);
    feed.ops = ops;
    const fab_setting_t setting = {
        .room = "cc", .impl = ops->impl.impl, .names = names, .values = values, .count = count};
    fab_problems_t problems = {0};
    fab_param_resolve("cc", ops->impl.impl, ops->impl.params, &setting, 1, feed.config.values, &problems);
    CHECK_EQ(problems.count, 0);
    CHECK(ops->more_bytes <= sizeof feed.more);
    feed.state.more = feed.more;
    ops->init(&feed.config, &feed.state, line_kbps);
}

uint64_t feed_send(int64_t bytes, int64_t now_ps)
{
    return feed.ops->on_send(&feed.config, &feed.state, bytes, now_ps);
}

void feed_cnp(int64_t now_ps) { feed.ops->on_cnp(&feed.config, &feed.state, now_ps); }

void feed_ack(fab_cc_ack_t ack) { feed.ops->on_ack(&feed.config, &feed.state, &ack); }

void feed_loss(bool timeout, int64_t now_ps) { feed.ops->on_loss(&feed.config, &feed.state, timeout, now_ps); }

int64_t feed_window(void) { return feed.ops->window_bytes(&feed.config, &feed.state); }

/* Only for controllers whose pacing does not depend on time. */
void feed_rate_is(int64_t kbps) { CHECK_EQ(feed_send(0, 0), fab_cc_pacing_q16(kbps)); }

void feed_window_is(int64_t bytes) { CHECK_EQ(feed_window(), bytes); }

void feed_window_between(int64_t least, int64_t most) { CHECK(feed_window() >= least && feed_window() <= most); }
