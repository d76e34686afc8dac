/* Whether the buffers of a model hold what its links and classes need. */
#include "switch/threshold.h"

#include <inttypes.h>

void fab_threshold_check(const fab_switch_config_t *config, const fab_net_t *net, int64_t lossless_count,
                         fab_problems_t *problems)
{
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        if (!node->is_switch || !node->port_count || node->network != config->network)
            continue;
        const int64_t headroom = lossless_count * fab_threshold_headroom(config, net, node);
        const int64_t least = 2 * (int64_t)node->port_count * config->data_class_count * config->wire_max_bytes;
        const bool several = config->data_class_count > 1;
        if ((lossless_count || several) && headroom + least > config->buffer_bytes)
            fab_problems_add(problems,
                             "switch %u: buffer_bytes is %" PRId64 ", but its %u ports with %" PRId64 " %s %" PRId64
                             " for headroom and %" PRId64 " for two frames each",
                             node->index, config->buffer_bytes, node->port_count, config->data_class_count,
                             several ? "classes need" : "class need", headroom, least);
        const int64_t share = fab_threshold_share(config->buffer_bytes - headroom, config->alpha_q16);
        if (lossless_count < config->data_class_count && share < 2 * config->wire_max_bytes)
            fab_problems_add(problems,
                             "switch %u: dynamic_alpha of buffer_bytes less headroom is %" PRId64
                             ", but a queue must hold two frames of %" PRId64 " bytes",
                             node->index, share, config->wire_max_bytes);
    }
}
