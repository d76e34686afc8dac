/* Checks a topology and lays it out: colours, node order, ports, links. */
#include "net/topology.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/wire.h"

/* A ring's difference of arrivals stays below three delays and a packet: 32 bits must hold it. */
enum { DELAY_MAX_PS = 0x3fffffff };

static int32_t network_of(const fab_topology_t *t, int32_t cable)
{
    return t->cable_network ? t->cable_network[cable] : 0;
}

static void check(const fab_topology_t *t, fab_problems_t *problems)
{
    if (t->host_count < 1 || t->host_count > FAB_HOSTS_MAX)
        fab_problems_add(problems, "topology: %d hosts, allowed 1 to %d", t->host_count, FAB_HOSTS_MAX);
    if (t->switch_count < 0 || t->switch_count > FAB_SWITCHES_MAX)
        fab_problems_add(problems, "topology: %d switches, allowed 0 to %d", t->switch_count, FAB_SWITCHES_MAX);
    if (t->cable_count < 1)
        fab_problems_add(problems, "topology: no cable");
    if (problems->count)
        return;
    const int32_t nodes = t->host_count + t->switch_count;
    for (int32_t i = 0; i < nodes; i++)
        if (t->node_latency_ps[i] < 0 || t->node_latency_ps[i] > DELAY_MAX_PS)
            fab_problems_add(problems, "node %d: latency_ps is %" PRId64 ", allowed 0 to %d", i, t->node_latency_ps[i],
                             DELAY_MAX_PS);
    if (t->reducer_count < 0 || t->reducer_count >= t->host_count)
        fab_problems_add(problems, "topology: %d reducers, allowed 0 to %d", t->reducer_count, t->host_count - 1);
    else if (t->server_count < 0 || t->server_count >= t->host_count - t->reducer_count)
        fab_problems_add(problems, "topology: %d servers, allowed 0 to %d", t->server_count,
                         t->host_count - t->reducer_count - 1);
    for (int32_t i = 0; i < t->cable_count; i++) {
        const int32_t a = t->cable_a[i], b = t->cable_b[i];
        if (network_of(t, i) < 0 || network_of(t, i) >= FAB_NETWORKS_MAX)
            fab_problems_add(problems, "cable %d: is of network %d, allowed 0 to %d", i, network_of(t, i),
                             FAB_NETWORKS_MAX - 1);
        if (a < 0 || a >= nodes || b < 0 || b >= nodes) {
            fab_problems_add(problems, "cable %d: joins %d and %d, nodes are 0 to %d", i, a, b, nodes - 1);
            continue;
        }
        if (a == b)
            fab_problems_add(problems, "cable %d: joins node %d to itself", i, a);
        if (t->cable_rate_mbps[i] < FAB_RATE_MIN_MBPS || t->cable_rate_mbps[i] > FAB_RATE_MAX_MBPS)
            fab_problems_add(problems, "cable %d: rate_mbps is %" PRId64 ", allowed %d to %d", i, t->cable_rate_mbps[i],
                             FAB_RATE_MIN_MBPS, FAB_RATE_MAX_MBPS);
        if (t->cable_delay_ps[i] < 0 || t->cable_delay_ps[i] > DELAY_MAX_PS) {
            fab_problems_add(problems, "cable %d: delay_ps is %" PRId64 ", allowed 0 to %d", i, t->cable_delay_ps[i],
                             DELAY_MAX_PS);
            continue;
        }
        for (int end = 0; end < 2; end++) {
            const int64_t latency = t->node_latency_ps[end ? a : b];
            const int64_t delay = latency < 0 || latency > DELAY_MAX_PS ? 1 : t->cable_delay_ps[i] + latency;
            if (delay < 1 || delay > DELAY_MAX_PS) {
                fab_problems_add(problems,
                                 "cable %d: delay_ps %" PRId64 " with the latency of node %d is %" PRId64
                                 ", allowed 1 to %d: a delay of zero leaves no window to work in",
                                 i, t->cable_delay_ps[i], end ? a : b, delay, DELAY_MAX_PS);
                break;
            }
        }
    }
}

/* Neighbour lists in port order: the k-th cable of a node is its port k. */
typedef struct {
    uint32_t *first; /* [nodes + 1] */
    int32_t *peer;   /* by first[node] + port */
    int32_t *cable;
} ports_t;

static int ports_build(const fab_topology_t *t, ports_t *ports)
{
    const uint32_t nodes = (uint32_t)(t->host_count + t->switch_count);
    ports->first = calloc(nodes + 1, sizeof *ports->first);
    ports->peer = malloc(2 * (size_t)t->cable_count * sizeof *ports->peer);
    ports->cable = malloc(2 * (size_t)t->cable_count * sizeof *ports->cable);
    uint32_t *fill = malloc(nodes * sizeof *fill);
    if (!ports->first || !ports->peer || !ports->cable || !fill) {
        free(fill);
        return FAB_E_MEMORY;
    }
    for (int32_t i = 0; i < t->cable_count; i++) {
        ports->first[t->cable_a[i] + 1]++;
        ports->first[t->cable_b[i] + 1]++;
    }
    for (uint32_t n = 0; n < nodes; n++)
        ports->first[n + 1] += ports->first[n];
    memcpy(fill, ports->first, nodes * sizeof *fill);
    for (int32_t i = 0; i < t->cable_count; i++) {
        const int32_t end[2] = {t->cable_a[i], t->cable_b[i]};
        for (int e = 0; e < 2; e++) {
            const uint32_t at = fill[end[e]]++;
            ports->peer[at] = end[1 - e];
            ports->cable[at] = i;
        }
    }
    free(fill);
    return FAB_OK;
}

/* Colours by breadth-first search: two where the graph allows it (trees, fat-trees), otherwise the least
 * colour that no neighbour has. */
static int colour(const ports_t *ports, uint32_t nodes, uint16_t *colours, uint32_t *count_out)
{
    int code = FAB_E_MEMORY;
    uint32_t *queue = malloc(nodes * sizeof *queue);
    uint32_t *seen_by = malloc((FAB_COLOURS_MAX + 1) * sizeof *seen_by);
    if (!queue || !seen_by)
        goto out;
    bool two = true;
    for (uint32_t n = 0; n < nodes; n++)
        colours[n] = UINT16_MAX;
    for (uint32_t root = 0; root < nodes; root++) {
        if (colours[root] != UINT16_MAX)
            continue;
        uint32_t head = 0, tail = 0;
        queue[tail++] = root;
        colours[root] = 0;
        while (head < tail) {
            const uint32_t n = queue[head++];
            for (uint32_t p = ports->first[n]; p < ports->first[n + 1]; p++) {
                const uint32_t m = (uint32_t)ports->peer[p];
                if (colours[m] == UINT16_MAX) {
                    colours[m] = (uint16_t)(1 - colours[n]);
                    queue[tail++] = m;
                } else if (colours[m] == colours[n]) {
                    two = false;
                }
            }
        }
    }
    uint32_t most = 1;
    if (!two) {
        for (uint32_t n = 0; n < nodes; n++)
            colours[n] = UINT16_MAX;
        for (uint32_t c = 0; c <= FAB_COLOURS_MAX; c++)
            seen_by[c] = FAB_NONE;
        for (uint32_t n = 0; n < nodes; n++) {
            for (uint32_t p = ports->first[n]; p < ports->first[n + 1]; p++)
                if (colours[ports->peer[p]] != UINT16_MAX)
                    seen_by[colours[ports->peer[p]]] = n;
            uint32_t c = 0;
            while (seen_by[c] == n)
                c++;
            colours[n] = (uint16_t)c;
            if (c > most)
                most = c;
        }
    }
    *count_out = most + 1;
    code = FAB_OK;
out:
    free(queue);
    free(seen_by);
    return code;
}

/* Which nodes of a network reach each other, by node; FAB_NONE: those without a cable in it. */
static int components(const fab_topology_t *t, const ports_t *ports, int32_t network, uint32_t *component)
{
    const uint32_t nodes = (uint32_t)(t->host_count + t->switch_count);
    uint32_t *queue = malloc(nodes * sizeof *queue);
    if (!queue)
        return FAB_E_MEMORY;
    for (uint32_t n = 0; n < nodes; n++)
        component[n] = FAB_NONE;
    for (uint32_t root = 0; root < nodes; root++) {
        uint32_t head = 0, tail = 0;
        if (component[root] == FAB_NONE)
            queue[tail++] = root;
        while (head < tail) {
            const uint32_t n = queue[head++];
            for (uint32_t p = ports->first[n]; p < ports->first[n + 1]; p++) {
                const uint32_t m = (uint32_t)ports->peer[p];
                if (network_of(t, ports->cable[p]) != network)
                    continue;
                component[n] = root;
                if (component[m] == FAB_NONE) {
                    component[m] = root;
                    queue[tail++] = m;
                }
            }
        }
    }
    free(queue);
    return FAB_OK;
}

/* A switch's network is that of its cables. */
static uint8_t switch_network(const fab_topology_t *t, const ports_t *ports, uint32_t n)
{
    return ports->first[n] < ports->first[n + 1] ? (uint8_t)network_of(t, ports->cable[ports->first[n]]) : 0;
}

static void check_ports(const fab_topology_t *t, const ports_t *ports, fab_problems_t *problems)
{
    const uint32_t hosts = (uint32_t)t->host_count;
    for (uint32_t n = 0; n < hosts + (uint32_t)t->switch_count; n++) {
        uint32_t count[FAB_NETWORKS_MAX] = {0};
        for (uint32_t p = ports->first[n]; p < ports->first[n + 1]; p++)
            count[network_of(t, ports->cable[p])]++;
        const uint32_t cables = ports->first[n + 1] - ports->first[n];
        if (n < hosts && !cables)
            fab_problems_add(problems, "host %u: has no cable", n);
        for (uint32_t w = 0; n < hosts && w < FAB_NETWORKS_MAX; w++)
            if (count[w] > 1)
                fab_problems_add(problems,
                                 "host %u: has %u cables in network %u, allowed 1: a host of this core is one network "
                                 "port, or one in each network",
                                 n, count[w], w);
        if (n >= hosts && cables > FAB_PORTS_MAX)
            fab_problems_add(problems, "switch %u: has %u cables, allowed 0 to %d", n - hosts, cables, FAB_PORTS_MAX);
        if (n >= hosts && count[0] && count[1])
            fab_problems_add(problems,
                             "switch %u: has %u cables in network 0 and %u in network 1, allowed: one network",
                             n - hosts, count[0], count[1]);
    }
}

static void order_slots(fab_net_t *net, const fab_topology_t *t, const ports_t *ports, const uint16_t *colours)
{
    const uint32_t nodes = net->host_count + net->switch_count;
    uint32_t slot = 0;
    net->group_count = 0;
    for (uint32_t c = 0; c < net->colour_count; c++) {
        for (uint32_t k = 0; k <= net->network_count; k++) { /* hosts, then the switches of each network */
            const bool kind = k > 0;
            const uint8_t network = (uint8_t)(kind ? k - 1 : 0);
            const uint32_t lo = kind ? net->host_count : 0, hi = kind ? nodes : net->host_count;
            const uint32_t first = slot;
            for (uint32_t n = lo; n < hi; n++) {
                if (colours[n] != c || (kind && switch_network(t, ports, n) != network))
                    continue;
                net->nodes[slot] = (fab_node_t){
                    .port_count = ports->first[n + 1] - ports->first[n],
                    .name = n,
                    .index = kind ? n - net->host_count : n,
                    .colour = (uint16_t)c,
                    .is_switch = kind,
                    .network = network,
                };
                net->slot_of[n] = slot++;
            }
            if (slot == first)
                continue;
            while (slot % FAB_BLOCK_NODES)
                net->nodes[slot++] =
                    (fab_node_t){.name = FAB_NONE, .colour = (uint16_t)c, .is_switch = kind, .network = network};
            net->groups[net->group_count++] = (fab_group_t){
                .first_slot = first, .end_slot = slot, .colour = (uint16_t)c, .is_switch = kind, .network = network};
        }
    }
    net->slot_count = slot;
    uint32_t link = 0;
    for (uint32_t s = 0; s < slot; s++) {
        net->nodes[s].first_link = link;
        link += net->nodes[s].port_count;
    }
}

static void number_links(fab_net_t *net, const fab_topology_t *t, const ports_t *ports)
{
    net->lookahead_ps = FAB_NEVER;
    /* the port of each end of a cable, by the cable's directed link that arrives there */
    for (uint32_t s = 0; s < net->slot_count; s++) {
        const fab_node_t *node = &net->nodes[s];
        for (uint32_t p = 0; p < node->port_count; p++) {
            const uint32_t at = ports->first[node->name] + p;
            const int32_t cable = ports->cable[at];
            const bool is_b = t->cable_b[cable] == (int32_t)node->name;
            const uint32_t link = node->first_link + p;
            net->link_name[link] = (uint32_t)(2 * cable) + (is_b ? 0 : 1);
            net->link_of[net->link_name[link]] = link;
            net->rx_slot[link] = s;
            net->tx_slot[link] = net->slot_of[ports->peer[at]];
            net->link_network[link] = (uint8_t)network_of(t, cable);
            net->rate_mbps[link] = t->cable_rate_mbps[cable];
            net->delay_ps[link] = t->cable_delay_ps[cable] + t->node_latency_ps[node->name];
            net->lookahead_ps = fab_min_i64(net->lookahead_ps, net->delay_ps[link]);
            if (!node->is_switch)
                net->host_link[network_of(t, cable)][node->index] = link;
        }
    }
    for (uint32_t link = 0; link < net->link_count; link++)
        net->out_link[link] = net->link_of[net->link_name[link] ^ 1];
}

int fab_net_compile(const fab_topology_t *t, fab_problems_t *problems, fab_net_t *net_out)
{
    fab_net_t net = {0};
    ports_t ports = {0};
    uint16_t *colours = NULL;
    uint32_t *component = NULL;
    check(t, problems);
    if (problems->count)
        return FAB_E_TOPOLOGY;
    int code = ports_build(t, &ports);
    if (code)
        goto out;
    const uint32_t nodes = (uint32_t)(t->host_count + t->switch_count);
    check_ports(t, &ports, problems);
    if (problems->count) {
        code = FAB_E_TOPOLOGY;
        goto out;
    }
    code = FAB_E_MEMORY;
    colours = malloc(nodes * sizeof *colours);
    component = malloc(nodes * sizeof *component);
    if (!colours || !component || colour(&ports, nodes, colours, &net.colour_count))
        goto out;
    net.network_count = 1;
    for (int32_t i = 0; i < t->cable_count; i++)
        if (network_of(t, i) >= (int32_t)net.network_count)
            net.network_count = (uint32_t)network_of(t, i) + 1;
    net.reducer_count = (uint32_t)t->reducer_count;
    net.first_aside = (uint32_t)(t->host_count - t->reducer_count - t->server_count);
    net.host_count = (uint32_t)t->host_count;
    net.switch_count = (uint32_t)t->switch_count;
    net.link_count = 2 * (uint32_t)t->cable_count;
    const size_t groups = (1 + net.network_count) * (size_t)net.colour_count, slots = nodes + groups * FAB_BLOCK_NODES,
                 links = net.link_count;
    net.nodes = calloc(slots, sizeof *net.nodes);
    net.groups = calloc(groups, sizeof *net.groups);
    net.slot_of = calloc(nodes, sizeof *net.slot_of);
    for (uint32_t w = 0; w < net.network_count; w++) {
        net.component[w] = malloc(slots * sizeof **net.component);
        net.host_link[w] = malloc(net.host_count * sizeof **net.host_link);
        if (!net.component[w] || !net.host_link[w])
            goto out;
    }
    net.out_link = calloc(links, sizeof *net.out_link);
    net.link_name = calloc(links, sizeof *net.link_name);
    net.link_of = calloc(links, sizeof *net.link_of);
    net.rx_slot = calloc(links, sizeof *net.rx_slot);
    net.tx_slot = calloc(links, sizeof *net.tx_slot);
    net.link_network = calloc(links, sizeof *net.link_network);
    net.rate_mbps = calloc(links, sizeof *net.rate_mbps);
    net.delay_ps = calloc(links, sizeof *net.delay_ps);
    if (!net.nodes || !net.groups || !net.slot_of || !net.out_link || !net.link_name || !net.link_of || !net.rx_slot ||
        !net.tx_slot || !net.link_network || !net.rate_mbps || !net.delay_ps)
        goto out;
    order_slots(&net, t, &ports, colours);
    for (uint32_t w = 0; w < net.network_count; w++) {
        if (components(t, &ports, (int32_t)w, component))
            goto out;
        for (uint32_t s = 0; s < slots; s++)
            net.component[w][s] = FAB_NONE;
        for (uint32_t n = 0; n < nodes; n++)
            net.component[w][net.slot_of[n]] = component[n];
        for (uint32_t h = 0; h < net.host_count; h++)
            net.host_link[w][h] = FAB_NONE;
    }
    number_links(&net, t, &ports);
    *net_out = net;
    net = (fab_net_t){0};
    code = FAB_OK;
out:
    fab_net_free(&net);
    free(ports.first);
    free(ports.peer);
    free(ports.cable);
    free(colours);
    free(component);
    return code;
}

void fab_net_free(fab_net_t *self)
{
    free(self->nodes);
    free(self->groups);
    free(self->slot_of);
    for (uint32_t w = 0; w < FAB_NETWORKS_MAX; w++) {
        free(self->component[w]);
        free(self->host_link[w]);
    }
    free(self->out_link);
    free(self->link_name);
    free(self->link_of);
    free(self->rx_slot);
    free(self->tx_slot);
    free(self->link_network);
    free(self->rate_mbps);
    free(self->delay_ps);
    *self = (fab_net_t){0};
}
