/* Where the ranks of a set are: scale-up domains, and the reducing units of switches that serve them. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/keyed.h"
#include "work/program.h"

/* What a host's scale-up domain is called; FAB_NONE outside of any. */
static uint32_t domain_of(const fab_program_t *self, uint32_t rank)
{
    const fab_net_t *net = self->net;
    return net->network_count > 1 ? net->component[1][net->slot_of[self->rank_host[rank]]] : FAB_NONE;
}

uint32_t fab_program_local_count(const fab_program_t *self, const fab_set_t *set)
{
    const uint32_t *ranks = &self->ranks[set->first];
    const uint32_t first = domain_of(self, ranks[0]);
    uint32_t local = 1;
    if (first == FAB_NONE)
        return 1;
    while (local < set->count && domain_of(self, ranks[local]) == first)
        local++;
    if (set->count % local)
        return 1;
    for (uint32_t i = local; i < set->count; i++) {
        const uint32_t domain = domain_of(self, ranks[i]);
        if (domain == FAB_NONE ||
            (i % local ? domain != domain_of(self, ranks[i - 1]) : domain == domain_of(self, ranks[i - 1])))
            return 1;
    }
    return local;
}

/* Breadth-first from some hosts through the scale-out network: by node, the root that is nearest and how far it is. */
typedef struct {
    uint32_t *root, *distance, *queue;
    uint32_t tail;
} search_t;

static bool search_init(search_t *s, const fab_net_t *net)
{
    *s = (search_t){.root = malloc(net->slot_count * sizeof *s->root),
                    .distance = malloc(net->slot_count * sizeof *s->distance),
                    .queue = malloc(net->slot_count * sizeof *s->queue)};
    for (uint32_t slot = 0; s->root && slot < net->slot_count; slot++)
        s->root[slot] = FAB_NONE;
    return s->root && s->distance && s->queue;
}

static void search_free(search_t *s)
{
    free(s->root);
    free(s->distance);
    free(s->queue);
}

static void search_add(search_t *s, const fab_net_t *net, uint32_t host)
{
    const uint32_t slot = net->slot_of[host];
    s->root[slot] = host;
    s->distance[slot] = 0;
    s->queue[s->tail++] = slot;
}

static void search_run(search_t *s, const fab_net_t *net)
{
    for (uint32_t head = 0; head < s->tail; head++) {
        const uint32_t slot = s->queue[head];
        const fab_node_t *node = &net->nodes[slot];
        if (!node->is_switch && s->distance[slot]) /* hosts pass nothing on */
            continue;
        for (uint32_t p = 0; p < node->port_count; p++) {
            const uint32_t peer = net->tx_slot[node->first_link + p];
            if (s->root[peer] != FAB_NONE || net->component[0][peer] == FAB_NONE ||
                (net->nodes[peer].is_switch && net->nodes[peer].network != 0) ||
                (node->is_switch && node->network != 0))
                continue;
            s->root[peer] = s->root[slot];
            s->distance[peer] = s->distance[slot] + 1;
            s->queue[s->tail++] = peer;
        }
    }
}

/* The reducer in the scale-out network that is nearest to each host, once. */
static int find_nearest(fab_program_t *self)
{
    const fab_net_t *net = self->net;
    if (self->nearest)
        return FAB_OK;
    search_t s;
    self->nearest = malloc(net->host_count * sizeof *self->nearest);
    if (!search_init(&s, net) || !self->nearest) {
        search_free(&s);
        return FAB_E_MEMORY;
    }
    for (uint32_t h = net->host_count - net->reducer_count; h < net->host_count; h++)
        if (net->host_link[0][h] != FAB_NONE)
            search_add(&s, net, h);
    search_run(&s, net);
    for (uint32_t h = 0; h < net->host_count; h++)
        self->nearest[h] = s.root[net->slot_of[h]];
    search_free(&s);
    return FAB_OK;
}

/* The root of a tree over several leaf reducers: of those that are nearest to no host, one of the nearest to the first
 * leaf, another for another set; the first leaf where there is none. */
static int find_root(const fab_program_t *self, uint32_t set, uint32_t leaf, uint32_t *root_out)
{
    const fab_net_t *net = self->net;
    const uint32_t first = net->host_count - net->reducer_count;
    search_t s;
    bool *serves = calloc(net->host_count, sizeof *serves);
    if (!search_init(&s, net) || !serves) {
        free(serves);
        search_free(&s);
        return FAB_E_MEMORY;
    }
    search_add(&s, net, leaf);
    search_run(&s, net);
    for (uint32_t h = 0; h < first; h++)
        if (self->nearest[h] != FAB_NONE)
            serves[self->nearest[h]] = true;
    uint32_t best = FAB_NONE, equal = 0;
    for (uint32_t h = first; h < net->host_count; h++) {
        const uint32_t slot = net->slot_of[h];
        if (serves[h] || s.root[slot] == FAB_NONE)
            continue;
        if (s.distance[slot] < best)
            equal = 0;
        equal += s.distance[slot] <= best;
        best = s.distance[slot] < best ? s.distance[slot] : best;
    }
    uint32_t chosen = equal ? (uint32_t)(fab_keyed_mix(set) % equal) : 0;
    *root_out = leaf;
    for (uint32_t h = first; equal && h < net->host_count; h++) {
        const uint32_t slot = net->slot_of[h];
        if (serves[h] || s.root[slot] == FAB_NONE || s.distance[slot] != best || chosen--)
            continue;
        *root_out = h;
        break;
    }
    free(serves);
    search_free(&s);
    return FAB_OK;
}

/* The reducer of a scale-up domain, or FAB_NONE. */
static uint32_t domain_reducer(const fab_program_t *self, uint32_t domain)
{
    const fab_net_t *net = self->net;
    for (uint32_t h = net->host_count - net->reducer_count; domain != FAB_NONE && h < net->host_count; h++)
        if (net->component[1][net->slot_of[h]] == domain)
            return h;
    return FAB_NONE;
}

/* The leaf reducer of each rank, as hosts; FAB_NONE where there is none. */
static int find_leaves(fab_program_t *self, const fab_set_t *set, bool in_domain, uint32_t *leaf)
{
    const uint32_t *ranks = &self->ranks[set->first];
    const int code = in_domain ? FAB_OK : find_nearest(self);
    for (uint32_t i = 0; i < set->count && !code; i++) {
        if (!in_domain)
            leaf[i] = self->net->reducer_count ? self->nearest[self->rank_host[ranks[i]]] : FAB_NONE;
        else if (i && domain_of(self, ranks[i]) == domain_of(self, ranks[i - 1]))
            leaf[i] = leaf[i - 1];
        else
            leaf[i] = domain_reducer(self, domain_of(self, ranks[i]));
    }
    return code;
}

/* Fills the arrays of a tree from the reducer (index) that each rank hangs under, and the root, if there is one above. */
static int build(fab_tree_t *tree, uint32_t count, const uint32_t *under, uint32_t root)
{
    const uint32_t reducers = tree->shape.reducer_count, all = count + reducers;
    uint32_t *memory = calloc(3 * (size_t)all + 1, sizeof *memory);
    if (!memory)
        return FAB_E_MEMORY;
    uint32_t *parent = memory, *first = memory + all, *children = memory + 2 * all + 1;
    for (uint32_t i = 0; i < all; i++)
        parent[i] = i < count ? count + under[i] : root == FAB_NONE || i == count + root ? FAB_NONE : count + root;
    for (uint32_t i = 0; i < all; i++)
        if (parent[i] != FAB_NONE)
            first[parent[i] + 1]++;
    for (uint32_t i = 0; i < all; i++)
        first[i + 1] += first[i];
    for (uint32_t i = all; i-- > 0;) /* from behind, so that the starts end where they belong */
        if (parent[i] != FAB_NONE)
            children[--first[parent[i] + 1]] = i;
    /* first[p + 1] is now the start of p's children: move all down by one */
    for (uint32_t i = 0; i < all; i++)
        first[i] = first[i + 1];
    uint32_t total = 0;
    for (uint32_t i = 0; i < all; i++)
        total += parent[i] != FAB_NONE;
    first[all] = total;
    tree->memory = memory;
    tree->shape.parent = parent;
    tree->shape.child_first = first;
    tree->shape.children = children;
    return FAB_OK;
}

int fab_program_make_tree(fab_program_t *self, uint32_t set_index, fab_reduces_t where, int64_t row,
                          fab_problems_t *problems)
{
    fab_set_t *set = &self->sets[set_index];
    if (set->tree[where - 1] != FAB_NONE)
        return FAB_OK;
    const bool one_domain = set->local_count == set->count && set->count > 1;
    const bool in_domain = self->net->network_count > 1 && (where == FAB_REDUCES_IN_DOMAIN || one_domain);
    int code = FAB_E_MEMORY;
    uint32_t *leaf = malloc((set->count + (size_t)1) * sizeof *leaf), *under = malloc(set->count * sizeof *under);
    fab_tree_t *trees = realloc(self->trees, (self->tree_count + (size_t)1) * sizeof *trees);
    if (trees)
        self->trees = trees;
    fab_tree_t tree = {.hosts = malloc((set->count + (size_t)1) * sizeof *tree.hosts)};
    if (!leaf || !under || !trees || !tree.hosts)
        goto out;
    if ((code = find_leaves(self, set, in_domain, leaf)))
        goto out;
    uint32_t n = 0, root = FAB_NONE;
    for (uint32_t i = 0; i < set->count; i++) {
        if (leaf[i] == FAB_NONE) {
            fab_problems_add(
                problems, "row %" PRId64 ": its algorithm reduces in the network, but no reducer of %s serves rank %u",
                row, in_domain ? "the scale-up domain" : "the scale-out network", self->ranks[set->first + i]);
            code = FAB_E_TRACE;
            goto out;
        }
        under[i] = 0;
        while (under[i] < n && tree.hosts[under[i]] != leaf[i])
            under[i]++;
        if (under[i] == n)
            tree.hosts[n++] = leaf[i];
    }
    if (!in_domain && n > 1) {
        uint32_t top;
        if ((code = find_root(self, set_index, tree.hosts[0], &top)))
            goto out;
        for (root = 0; root < n && tree.hosts[root] != top; root++)
            ;
        if (root == n)
            tree.hosts[n++] = top;
    }
    tree.shape.reducer_count = n;
    code = build(&tree, set->count, under, root);
    if (code)
        goto out;
    set->tree[where - 1] = self->tree_count;
    self->trees[self->tree_count++] = tree;
    tree.hosts = NULL;
out:
    free(leaf);
    free(under);
    free(tree.hosts);
    return code;
}
