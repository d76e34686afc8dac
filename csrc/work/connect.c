/* Matches sends with recvs, and finds out which connections a program needs.
 *
 * A connection joins two hosts in a lane. A stream is a lane: what it sends between two hosts travels on one
 * connection, in order. Collectives outside streams share lane -1; a send outside streams has a lane of its own,
 * so that it is a flow by itself, as in a flow simulator. */
#include <inttypes.h>
#include <string.h>

#include "work/map.h"
#include "work/program.h"

/* Sorts items that each belong to one of `sources` by their source, then by compare: scattered by source first, since
 * many short sorts cost much less than a long one. */
static int sort_by_source(void *items, uint64_t count, size_t size, uint32_t (*source_of)(const void *),
                          uint32_t sources, int (*compare)(const void *, const void *))
{
    int code = FAB_E_MEMORY;
    char *from = items, *to = malloc(count * size + 1);
    uint64_t *first = calloc((size_t)sources + 2, sizeof *first); /* of a source, counting up as it fills */
    if (!to || !first)
        goto out;
    for (uint64_t i = 0; i < count; i++)
        first[source_of(from + i * size) + 2]++;
    for (uint32_t s = 1; s < sources; s++)
        first[s + 1] += first[s];
    for (uint64_t i = 0; i < count; i++)
        memcpy(to + first[source_of(from + i * size) + 1]++ * size, from + i * size, size);
    for (uint32_t s = 0; s < sources; s++)
        if (first[s + 1] - first[s] > 1)
            qsort(to + first[s] * size, first[s + 1] - first[s], size, compare);
    if (count)
        memcpy(from, to, count * size);
    code = FAB_OK;
out:
    free(to);
    free(first);
    return code;
}

typedef struct {
    int64_t tag;
    uint32_t src, dst; /* ranks */
    uint32_t instance;
} end_t;

static int compare_ends(const void *a, const void *b)
{
    const end_t *x = a, *y = b;
    if (x->src != y->src)
        return x->src < y->src ? -1 : 1;
    if (x->dst != y->dst)
        return x->dst < y->dst ? -1 : 1;
    if (x->tag != y->tag)
        return x->tag < y->tag ? -1 : 1;
    return x->instance < y->instance ? -1 : x->instance > y->instance;
}

static uint32_t source_of_end(const void *end) { return ((const end_t *)end)->src; }

static bool same_flow(const end_t *a, const end_t *b)
{
    return a->src == b->src && a->dst == b->dst && a->tag == b->tag;
}

typedef struct {
    uint16_t src, dst; /* hosts */
    int32_t lane;
    uint8_t data_class, channel;
    int8_t network; /* -1: nothing joins them */
} edge_t;

/* By source, lane, class, channel, destination: fab_program_find searches a host's part by the other four. */
static int compare_edges(const void *a, const void *b)
{
    const edge_t *x = a, *y = b;
    if (x->src != y->src)
        return x->src < y->src ? -1 : 1;
    if (x->lane != y->lane)
        return x->lane < y->lane ? -1 : 1;
    if (x->data_class != y->data_class)
        return x->data_class < y->data_class ? -1 : 1;
    if (x->channel != y->channel)
        return x->channel < y->channel ? -1 : 1;
    return x->dst < y->dst ? -1 : x->dst > y->dst;
}

static uint32_t source_of_edge(const void *edge) { return ((const edge_t *)edge)->src; }

typedef struct {
    const fab_program_t *program;
    const fab_members_t *group;
    edge_t *edges;
    uint64_t count, capacity;
    uint32_t src; /* host */
    int32_t lane;
    uint8_t data_class;
    bool no_memory;
} edges_t;

static void add_edge(edges_t *self, uint32_t src, uint32_t dst, int32_t lane, uint8_t data_class, uint32_t channel)
{
    if (self->count == self->capacity) {
        const uint64_t capacity = self->capacity ? 2 * self->capacity : 4096;
        edge_t *edges = realloc(self->edges, capacity * sizeof *edges);
        if (!edges) {
            self->no_memory = true;
            return;
        }
        self->edges = edges;
        self->capacity = capacity;
    }
    self->edges[self->count++] =
        (edge_t){(uint16_t)src, (uint16_t)dst,    lane,
                 data_class,    (uint8_t)channel, (int8_t)fab_net_between(self->program->net, src, dst)};
}

static void emit_peer(void *context, uint32_t position, uint32_t channel)
{
    edges_t *self = context;
    add_edge(self, self->src, fab_program_host_at(self->program, self->group, position), self->lane, self->data_class,
             channel);
}

static int match_ends(fab_program_t *self, end_t *ends, uint32_t send_count, uint32_t recv_count,
                      fab_problems_t *problems)
{
    end_t *sends = ends, *recvs = ends + send_count;
    const uint32_t ranks = (uint32_t)self->rank_count;
    if (sort_by_source(sends, send_count, sizeof *sends, source_of_end, ranks, compare_ends) ||
        sort_by_source(recvs, recv_count, sizeof *recvs, source_of_end, ranks, compare_ends))
        return FAB_E_MEMORY;
    uint32_t s = 0, r = 0;
    while (s < send_count || r < recv_count) {
        const int order = s == send_count                   ? 1
                          : r == recv_count                 ? -1
                          : same_flow(&sends[s], &recvs[r]) ? 0
                                                            : compare_ends(&sends[s], &recvs[r]);
        if (order == 0) {
            const fab_op_t *send = &self->ops[self->instance_op[sends[s].instance]];
            const fab_op_t *recv = &self->ops[self->instance_op[recvs[r].instance]];
            if (send->bytes != recv->bytes)
                fab_problems_add(problems,
                                 "operation %" PRId64 ": recv of %" PRId64
                                 " bytes from rank %u matches a send of %" PRId64 " bytes (operation %" PRId64 ")",
                                 recv->id, recv->bytes, recvs[r].src, send->bytes, send->id);
            self->match[sends[s].instance] = recvs[r].instance;
            self->match[recvs[r].instance] = sends[s].instance;
            s++, r++;
            continue;
        }
        const end_t *end = order < 0 ? &sends[s++] : &recvs[r++];
        fab_problems_add(
            problems, "operation %" PRId64 ": the %s from rank %u to rank %u with tag %" PRId64 " has no matching %s",
            self->ops[self->instance_op[end->instance]].id, order < 0 ? "send" : "recv", end->src, end->dst, end->tag,
            order < 0 ? "recv" : "send");
    }
    return problems->count ? FAB_E_TRACE : FAB_OK;
}

/* The lane of a send: its stream's, or one made of its tag and its number among equals. */
static int32_t send_lane(const fab_op_t *op, uint32_t ordinal)
{
    if (op->stream >= 0)
        return op->stream;
    return -2 - (int32_t)(fab_keyed_mix((uint64_t)op->tag ^ (uint64_t)ordinal << 40) & 0x3fffffff);
}

/* Sends and recvs: ends, matching, edges. Leaves each send's lane in connection[]. */
static int connect_pairs(fab_program_t *self, edges_t *edges, fab_problems_t *problems)
{
    uint32_t sends = 0, recvs = 0;
    for (uint32_t i = 0; i < self->op_count; i++) {
        sends += self->ops[i].kind == FAB_OP_SEND ? self->sets[self->ops[i].set].count : 0;
        recvs += self->ops[i].kind == FAB_OP_RECV ? self->sets[self->ops[i].set].count : 0;
    }
    if (!sends && !recvs)
        return FAB_OK;
    int code = FAB_E_MEMORY;
    end_t *ends = malloc(((size_t)sends + recvs) * sizeof *ends);
    self->match = malloc((self->instance_count + (size_t)1) * sizeof *self->match);
    self->connection = malloc((self->instance_count + (size_t)1) * sizeof *self->connection);
    if (!ends || !self->match || !self->connection)
        goto out;
    self->memory_bytes += 8 * (int64_t)self->instance_count;
    for (uint32_t i = 0; i < self->instance_count; i++)
        self->match[i] = self->connection[i] = FAB_NONE;
    uint32_t s = 0, r = sends;
    for (uint32_t i = 0; i < self->op_count; i++) {
        const fab_op_t *op = &self->ops[i];
        const fab_set_t *set = &self->sets[op->set];
        for (uint32_t p = 0; (op->kind == FAB_OP_SEND || op->kind == FAB_OP_RECV) && p < set->count; p++) {
            const int32_t peer = self->peers[op->peer_first + p];
            const uint32_t rank = self->ranks[set->first + p];
            if (peer < 0 || peer >= self->rank_count) {
                fab_problems_add(problems, "row %u: peer: found %d, allowed 0 to %d", i, peer, self->rank_count - 1);
                continue;
            }
            if (op->kind == FAB_OP_SEND)
                ends[s++] = (end_t){op->tag, rank, (uint32_t)peer, op->first_instance + p};
            else
                ends[r++] = (end_t){op->tag, (uint32_t)peer, rank, op->first_instance + p};
        }
    }
    code = problems->count ? FAB_E_TRACE : match_ends(self, ends, sends, recvs, problems);
    uint32_t ordinal = 0;
    for (uint32_t i = 0; !code && i < sends; i++) {
        const fab_op_t *op = &self->ops[self->instance_op[ends[i].instance]];
        ordinal = i && same_flow(&ends[i - 1], &ends[i]) ? ordinal + 1 : 0;
        const int32_t lane = send_lane(op, ordinal);
        self->connection[ends[i].instance] = (uint32_t)lane;
        if (ends[i].src != ends[i].dst)
            add_edge(edges, self->rank_host[ends[i].src], self->rank_host[ends[i].dst], lane, op->data_class, 0);
    }
out:
    free(ends);
    return code;
}

/* Whether a group has the connections of an earlier one: the same ranks do the same in the same lane. */
static bool same_peers(const fab_program_t *self, const fab_members_t *a, const fab_members_t *b)
{
    const fab_op_t *x = &self->ops[a->op], *y = &self->ops[b->op];
    const uint32_t ranks = self->sets[b->set].count;
    return a->set == b->set && a->root == b->root && x->kind == y->kind && x->variant == y->variant &&
           x->stream == y->stream && x->data_class == y->data_class && x->bytes >= ranks && y->bytes >= ranks;
}

static uint64_t peers_key(const fab_program_t *self, const fab_members_t *group)
{
    const fab_op_t *op = &self->ops[group->op];
    const uint64_t key = fab_keyed_mix((uint64_t)group->set << 32 | group->root);
    return fab_keyed_mix(key ^
                         ((uint64_t)op->kind << 33 | (uint64_t)(op->bytes >= self->sets[group->set].count) << 32 |
                          (uint32_t)op->stream) ^
                         (uint64_t)op->data_class << 40 ^ (uint64_t)op->variant << 44);
}

/* Many rows over one set of pairs: keeps the list from growing without need. */
static void drop_doubles(edges_t *edges)
{
    if (edges->count <= (1u << 20) || edges->count <= edges->capacity / 2)
        return;
    if (sort_by_source(edges->edges, edges->count, sizeof *edges->edges, source_of_edge,
                       edges->program->net->host_count, compare_edges))
        edges->no_memory = true;
    uint64_t kept = 0;
    for (uint64_t e = 0; e < edges->count; e++)
        if (!kept || compare_edges(&edges->edges[kept - 1], &edges->edges[e]))
            edges->edges[kept++] = edges->edges[e];
    edges->count = kept;
}

/* Collectives: each rank's peers, once for every (set, kind, variant, lane, root) there is; unequal splits always. */
static int connect_collectives(fab_program_t *self, edges_t *edges)
{
    fab_map_t seen = {0};
    for (uint32_t g = 0; g < self->group_count && !edges->no_memory; g++) {
        const fab_members_t *group = &self->groups[g];
        const fab_op_t *op = &self->ops[group->op];
        if (!op->split_count) {
            uint32_t *before = fab_map_add(&seen, peers_key(self, group), g);
            if (!before) {
                edges->no_memory = true;
                break;
            }
            if (*before != g && same_peers(self, &self->groups[*before], group))
                continue;
            *before = g;
        }
        edges->group = group;
        edges->lane = op->stream;
        edges->data_class = op->data_class;
        const uint32_t positions = fab_program_positions(self, group);
        for (uint32_t p = 0; p < positions; p++) {
            const fab_coll_t coll = fab_program_coll(self, fab_program_instance_at(self, group, p));
            edges->src = fab_program_host_at(self, group, p);
            self->variants[op->variant].ops->peers(&coll, emit_peer, edges);
        }
        drop_doubles(edges);
    }
    fab_map_free(&seen);
    return edges->no_memory ? FAB_E_MEMORY : FAB_OK;
}

/* Numbers both sides of the connections in one network; the edges are sorted. */
static int number_network(fab_program_t *self, const edges_t *edges, int32_t network, fab_problems_t *problems)
{
    const uint32_t hosts = self->net->host_count;
    fab_connections_t *c = &self->connections[network];
    uint64_t n = 0;
    for (uint64_t e = 0; e < edges->count; e++)
        n += edges->edges[e].network == network;
    c->count = (uint32_t)n;
    c->tx_first = calloc(hosts + 1, sizeof *c->tx_first);
    c->rx_first = calloc(hosts + 1, sizeof *c->rx_first);
    c->tx_dst = malloc((n + 1) * sizeof *c->tx_dst);
    c->tx_qpn = malloc((n + 1) * sizeof *c->tx_qpn);
    c->tx_lane = malloc((n + 1) * sizeof *c->tx_lane);
    c->tx_class = malloc((n + 1) * sizeof *c->tx_class);
    c->tx_channel = malloc((n + 1) * sizeof *c->tx_channel);
    c->rx_src = malloc((n + 1) * sizeof *c->rx_src);
    c->rx_qpn = malloc((n + 1) * sizeof *c->rx_qpn);
    uint32_t *fill = malloc((hosts + 1) * sizeof *fill);
    int code = FAB_E_MEMORY;
    if (!c->tx_first || !c->rx_first || !c->tx_dst || !c->tx_qpn || !c->tx_lane || !c->tx_class || !c->tx_channel ||
        !c->rx_src || !c->rx_qpn || !fill)
        goto out;
    self->memory_bytes += (int64_t)(n * 13 + hosts * 8);
    code = FAB_OK;
    for (uint64_t e = 0; e < edges->count; e++)
        if (edges->edges[e].network == network) {
            c->tx_first[edges->edges[e].src + 1]++;
            c->rx_first[edges->edges[e].dst + 1]++;
        }
    for (uint32_t h = 0; h < hosts; h++) {
        if (c->tx_first[h + 1] > UINT16_MAX || c->rx_first[h + 1] > UINT16_MAX)
            fab_problems_add(problems, "host %u has %u connections out and %u in, allowed %d each", h,
                             c->tx_first[h + 1], c->rx_first[h + 1], UINT16_MAX);
        c->tx_first[h + 1] += c->tx_first[h];
        c->rx_first[h + 1] += c->rx_first[h];
    }
    if (problems->count) {
        code = FAB_E_TRACE;
        goto out;
    }
    memcpy(fill, c->rx_first, (hosts + 1) * sizeof *fill);
    uint32_t tx = 0;
    for (uint64_t e = 0; e < edges->count; e++) {
        const edge_t *edge = &edges->edges[e];
        if (edge->network != network)
            continue;
        const uint32_t rx = fill[edge->dst]++;
        c->tx_dst[tx] = edge->dst;
        c->tx_lane[tx] = edge->lane;
        c->tx_class[tx] = edge->data_class;
        c->tx_channel[tx] = edge->channel;
        c->tx_qpn[tx] = (uint16_t)(rx - c->rx_first[edge->dst]);
        c->rx_src[rx] = edge->src;
        c->rx_qpn[rx] = (uint16_t)(tx - c->tx_first[edge->src]);
        tx++;
    }
out:
    free(fill);
    return code;
}

/* Storage: every client with every server and back, servers with those they pass data on to, and ranks with the client
 * that they share. */
static void connect_storage(const fab_program_t *self, edges_t *edges)
{
    for (int32_t r = 0; self->has_client && r < self->rank_count; r++) {
        const uint32_t host = self->rank_host[r], client = self->client_host[host];
        if (client != host && self->has_client[client]) {
            add_edge(edges, host, client, FAB_STORE_LANE, 0, 0);
            add_edge(edges, client, host, FAB_STORE_LANE, 0, 0);
        }
    }
    for (uint32_t s = 0; self->has_client && s < self->store_count && !edges->no_memory; s++) {
        const fab_store_config_t *config = &self->stores[s];
        const uint8_t data_class = (uint8_t)config->values[FAB_STORE_DATA_CLASS];
        const uint32_t servers = config->layout_ops->per_client ? 0 : fab_store_server_count(config);
        for (uint32_t i = 0; i < servers; i++) {
            const uint32_t server = config->server_host[i];
            for (uint32_t h = 0; h < self->net->host_count; h++)
                if (self->has_client[h] && h != server) {
                    add_edge(edges, h, server, FAB_STORE_LANE, data_class, 0);
                    add_edge(edges, server, h, FAB_STORE_LANE, data_class, 0);
                }
            for (uint32_t j = 0; config->layout_ops->spread && j < config->data_count; j++)
                if (config->server_host[j] != server)
                    add_edge(edges, server, config->server_host[j], FAB_STORE_LANE, data_class, 0);
            /* renames between directories of different servers */
            const uint32_t first = config->meta_count ? config->data_count : 0;
            for (uint32_t j = first; i >= first && j < servers; j++)
                if (config->server_host[j] != server)
                    add_edge(edges, server, config->server_host[j], FAB_STORE_LANE, data_class, 0);
            /* objects of files that are removed */
            for (uint32_t j = 0; i >= first && j < config->data_count; j++)
                if (config->server_host[j] != server) {
                    add_edge(edges, server, config->server_host[j], FAB_STORE_LANE, data_class, 0);
                    add_edge(edges, config->server_host[j], server, FAB_STORE_LANE, data_class, 0);
                }
        }
    }
}

/* Sorts the edges, drops doubles and numbers them network by network. */
static int number_connections(fab_program_t *self, edges_t *edges, fab_problems_t *problems)
{
    if (sort_by_source(edges->edges, edges->count, sizeof *edges->edges, source_of_edge, self->net->host_count,
                       compare_edges))
        return FAB_E_MEMORY;
    uint64_t n = 0;
    for (uint64_t e = 0; e < edges->count; e++) {
        if (n && compare_edges(&edges->edges[n - 1], &edges->edges[e]) == 0)
            continue;
        edges->edges[n++] = edges->edges[e];
        if (edges->edges[e].network < 0)
            fab_problems_add(problems, "hosts %u and %u are not connected: the topology has several parts",
                             edges->edges[e].src, edges->edges[e].dst);
    }
    edges->count = n;
    if (problems->count)
        return FAB_E_TRACE;
    if (n >= INT32_MAX) {
        fab_problems_add(problems, "the program needs %" PRIu64 " connections, allowed %d", n, INT32_MAX - 1);
        return FAB_E_LIMIT;
    }
    int code = FAB_OK;
    for (uint32_t w = 0; w < self->net->network_count && !code; w++)
        code = number_network(self, edges, (int32_t)w, problems);
    return code;
}

uint32_t fab_program_find(const fab_program_t *self, uint32_t host, uint32_t dst, int32_t lane, uint8_t data_class,
                          uint32_t channel)
{
    const int32_t network = fab_net_between(self->net, host, dst);
    if (network < 0)
        return FAB_NONE;
    const fab_connections_t *c = &self->connections[network];
    const edge_t wanted = {(uint16_t)host, (uint16_t)dst, lane, data_class, (uint8_t)channel, 0};
    uint32_t low = c->tx_first[host], high = c->tx_first[host + 1];
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        const edge_t there = {(uint16_t)host,      c->tx_dst[middle],     c->tx_lane[middle],
                              c->tx_class[middle], c->tx_channel[middle], 0};
        const int order = compare_edges(&there, &wanted);
        if (order == 0)
            return fab_hosts_connection((uint32_t)network, middle - c->tx_first[host]);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return FAB_NONE;
}

int fab_program_connect(fab_program_t *self, fab_problems_t *problems)
{
    edges_t edges = {.program = self};
    int code = connect_pairs(self, &edges, problems);
    if (!code)
        code = connect_collectives(self, &edges);
    if (!code)
        connect_storage(self, &edges);
    if (!code && edges.no_memory)
        code = FAB_E_MEMORY;
    if (!code)
        code = number_connections(self, &edges, problems);
    for (uint32_t i = 0; !code && self->connection && i < self->instance_count; i++) {
        const fab_op_t *op = &self->ops[self->instance_op[i]];
        if (op->kind != FAB_OP_SEND)
            continue;
        const uint32_t src = fab_program_rank(self, i),
                       dst = (uint32_t)self->peers[op->peer_first + i - op->first_instance];
        self->connection[i] = src == dst ? FAB_NONE
                                         : fab_program_find(self, self->rank_host[src], self->rank_host[dst],
                                                            (int32_t)self->connection[i], op->data_class, 0);
    }
    free(edges.edges);
    return code;
}
