/* Dimension-order routing on a torus of up to three dimensions, plain or twisted, over minimal ways (ICI of Google's
 * TPUs: Jouppi et al., "TPU v4", ISCA 2023; the twist: Camara et al., "Twisted torus topologies for enhanced
 * interconnection networks", TPDS 2010).
 *
 * A way is a displacement (steps in x, y and z) and an order of the dimensions. Of several shortest displacements the
 * entropy chooses by a signed order of preference, "most steps to +z, then to -x, then to +y": all 48 of them are
 * equally likely, so that no direction is used more than another, and every router of a way chooses the same.
 * Classes (virtual lanes) against credit loops: one pair for each order of the dimensions, and in a pair the second
 * from where a packet crosses the wrap of the dimension it travels in (Dally and Seitz, IEEE ToC 1987). */
#include "route/torus.h"

#include <stdlib.h>
#include <string.h>

#include "route/graph.h"
#include "route/updown.h"

enum { DIRECTIONS = 6, HERE = 6, PORTS_MAX = 32, PREFERENCES = 48, REACH = 2 };
enum { COORDINATE_BITS = 10, COORDINATE_MASK = (1 << COORDINATE_BITS) - 1 };
enum { HASH_SEED, X_COUNT, Y_COUNT, Z_COUNT, TWISTED, MULTIPATH, TWO_ORDERS };

static const fab_param_t params[] = {
    {"hash_seed", "", 0, 0, INT32_MAX, "seed of the choice among ways; another seed is another hash function", ""},
    {"x_count", "routers", 1, 1, 1023, "size in x; router i stands at x + x_count (y + y_count z)",
     "a cube of TPU v4 is 4 x 4 x 4"},
    {"y_count", "routers", 1, 1, 1023, "size in y", ""},
    {"z_count", "routers", 1, 1, 1023, "size in z; 1: two dimensions", ""},
    {"twisted", "", 0, 0, 1,
     "1: sizes k and 2k, and the wrap of a dimension of size k shifts by k in every dimension of size 2k",
     "ISCA 2023, section 2.8; Camara et al., TPDS 2010"},
    {"multipath", "", 1, 0, 1, "1: every packet has an entropy of its own; 0: a connection keeps to one way", ""},
    {"two_orders", "", 1, 0, 1,
     "1: half of the ways go x, y, z and half z, y, x, with a pair of classes each; 0: all x, y, z",
     "after O1TURN: Seo et al., ISCA 2005"},
    FAB_PARAM_END,
};

static void configure(const int64_t *values, fab_route_config_t *config_out)
{
    *config_out = (fab_route_config_t){
        .ops = &fab_route_torus,
        .hash_seed = (uint64_t)values[HASH_SEED],
        .reorder = values[MULTIPATH],
        .size = {(uint32_t)values[X_COUNT], (uint32_t)values[Y_COUNT], (uint32_t)values[Z_COUNT]},
        .twisted = values[TWISTED],
        .multipath = values[MULTIPATH],
        .two_orders = values[TWO_ORDERS],
    };
}

/* Directions are 2 * dimension, + 1 for the negative one. */
struct fab_torus {
    uint32_t size[3];
    bool wraps[3], twisted, two_orders;
    uint32_t salt;
    uint32_t *at;                    /* [host_count] the router's coordinates, packed; FAB_NONE: cut off */
    uint16_t (*port)[DIRECTIONS];    /* [router] UINT16_MAX: none */
    uint8_t (*direction)[PORTS_MAX]; /* [router][port] HERE: a host */
    uint8_t (*step)[PREFERENCES];    /* twisted: [displacement] the next direction; << 4: with the other order */
};

static uint32_t pack(const uint32_t c[3]) { return c[0] | c[1] << COORDINATE_BITS | c[2] << 2 * COORDINATE_BITS; }

static void unpack(uint32_t packed, int32_t c_out[3])
{
    for (int d = 0; d < 3; d++)
        c_out[d] = (int32_t)(packed >> d * COORDINATE_BITS & COORDINATE_MASK);
}

static uint32_t number_of(const uint32_t size[3], const uint32_t c[3])
{
    return c[0] + size[0] * (c[1] + size[1] * c[2]);
}

static void coordinates_of(const uint32_t size[3], uint32_t router, uint32_t c_out[3])
{
    c_out[0] = router % size[0];
    c_out[1] = router / size[0] % size[1];
    c_out[2] = router / size[0] / size[1];
}

/* Whether going round dimension d shifts by half of dimension e. */
static bool shifts(const uint32_t size[3], bool twisted, int d, int e)
{
    return twisted && size[d] > 1 && size[e] == 2 * size[d];
}

/* The router next to one in a direction, over the wrap if there is one; FAB_NONE: none. */
static uint32_t neighbour(const fab_torus_t *t, uint32_t router, uint32_t direction)
{
    const int d = (int)direction / 2;
    uint32_t c[3];
    coordinates_of(t->size, router, c);
    const bool edge = direction & 1 ? c[d] == 0 : c[d] + 1 == t->size[d];
    if (!edge) {
        c[d] += direction & 1 ? -1u : 1u;
        return number_of(t->size, c);
    }
    if (!t->wraps[d])
        return FAB_NONE;
    c[d] = direction & 1 ? t->size[d] - 1 : 0;
    for (int e = 0; e < 3; e++)
        if (shifts(t->size, t->twisted, d, e))
            c[e] = (c[e] + t->size[d]) % t->size[e];
    return number_of(t->size, c);
}

/* ---- the way of a packet ------------------------------------------------------------------------- */

static uint32_t choice_of(const fab_torus_t *t, uint32_t entropy)
{
    return (fab_route_hash(entropy, t->salt) * FAB_TORUS_CHOICES) >> 16;
}

uint32_t fab_torus_entropy(const fab_torus_t *self, uint32_t choice)
{
    uint32_t entropy = 0;
    while (choice_of(self, entropy) != choice)
        entropy++;
    return entropy;
}

/* The order of the dimensions: 0 is x, y, z. */
static uint32_t order_of(const fab_torus_t *t, uint32_t choice) { return t->two_orders ? choice & 1 : 0; }

static uint32_t first_step(const int32_t steps[3], uint32_t order)
{
    for (int i = 0; i < 3; i++) {
        const int d = order ? 2 - i : i;
        if (steps[d])
            return (uint32_t)(2 * d + (steps[d] < 0));
    }
    return HERE;
}

/* On a plain torus or mesh: each dimension the shorter way round; halfway the preference decides. */
static uint32_t plain_step(const fab_torus_t *t, const int32_t from[3], const int32_t to[3], uint32_t choice)
{
    int32_t steps[3];
    for (int d = 0; d < 3; d++) {
        const int32_t size = (int32_t)t->size[d];
        int32_t n = to[d] - from[d];
        if (t->wraps[d]) {
            n = n < 0 ? n + size : n;
            if (2 * n > size || (2 * n == size && choice >> (1 + d) & 1))
                n -= size;
        }
        steps[d] = n;
    }
    return first_step(steps, order_of(t, choice));
}

static uint32_t displacement(const fab_torus_t *t, const int32_t from[3], const int32_t to[3])
{
    int32_t n[3];
    for (int d = 0; d < 3; d++)
        n[d] = to[d] - from[d];
    for (int d = 0; d < 3; d++) {
        if (n[d] >= 0)
            continue;
        n[d] += (int32_t)t->size[d];
        for (int e = 0; e < 3; e++)
            if (shifts(t->size, t->twisted, d, e))
                n[e] += n[e] < (int32_t)t->size[d] ? (int32_t)t->size[d] : -(int32_t)t->size[d];
    }
    const uint32_t c[3] = {(uint32_t)n[0], (uint32_t)n[1], (uint32_t)n[2]};
    return number_of(t->size, c);
}

uint32_t fab_torus_port(const fab_route_t *self, const fab_rule_t *rule, uint32_t dst, uint32_t entropy)
{
    const fab_torus_t *t = self->torus;
    const uint32_t at = t->at[dst];
    if (at == rule->salt)
        return self->host_port[dst];
    if (FAB_UNLIKELY(at == FAB_NONE))
        return FAB_NONE;
    const uint32_t choice = choice_of(t, entropy);
    int32_t from[3], to[3];
    unpack(rule->salt, from);
    unpack(at, to);
    uint32_t direction;
    if (t->step)
        direction = t->step[displacement(t, from, to)][choice >> 1] >> 4 * order_of(t, choice) & 15;
    else
        direction = plain_step(t, from, to, choice);
    return t->port[rule->low][direction];
}

uint32_t fab_route_next_class(const fab_route_t *self, const fab_rule_t *rule, uint32_t in_port, uint32_t out_port,
                              uint32_t class, uint32_t entropy)
{
    const fab_torus_t *t = self->torus;
    const uint32_t in = t->direction[rule->low][in_port], out = t->direction[rule->low][out_port];
    if (out == HERE)
        return class;
    const uint32_t d = out / 2, c = rule->salt >> d * COORDINATE_BITS & COORDINATE_MASK;
    const uint32_t crosses = out & 1 ? c == 0 : c + 1 == t->size[d];
    if (in == HERE)
        return order_of(t, choice_of(t, entropy)) << 1 | crosses;
    return (in / 2 == d ? class : class & 2) | crosses;
}

/* ---- compiling ------------------------------------------------------------------------------------ */

/* All shortest displacements of a group element; returns how many. */
static uint32_t shortest(const fab_torus_t *t, const int32_t n[3], int32_t found[][3], uint32_t most)
{
    uint32_t count = 0;
    int32_t least = INT32_MAX;
    for (int32_t i = -REACH; i <= REACH; i++)
        for (int32_t j = -REACH; j <= REACH; j++)
            for (int32_t l = -REACH; l <= REACH; l++) {
                const int32_t turns[3] = {i, j, l};
                int32_t v[3] = {n[0], n[1], n[2]}, length = 0;
                for (int d = 0; d < 3; d++) { /* round d, and back by what that shifts */
                    v[d] += turns[d] * (int32_t)t->size[d];
                    for (int e = 0; e < 3; e++)
                        if (shifts(t->size, t->twisted, d, e))
                            v[e] -= turns[d] * (int32_t)t->size[d];
                }
                for (int d = 0; d < 3; d++)
                    length += abs(v[d]);
                if (length < least)
                    count = 0;
                if (length > least || count == most)
                    continue;
                least = length;
                memcpy(found[count++], v, sizeof v);
            }
    return count;
}

/* The displacement that a preference chooses: the most steps in its first direction, then in its second, third. */
static const int32_t *preferred(int32_t found[][3], uint32_t count, uint32_t preference)
{
    static const uint8_t orders[6][3] = {{0, 1, 2}, {1, 2, 0}, {2, 0, 1}, {0, 2, 1}, {2, 1, 0}, {1, 0, 2}};
    const uint8_t *order = orders[preference / 8];
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        for (int k = 0; k < 3; k++) {
            const int d = order[k];
            const int32_t sign = preference >> d & 1 ? -1 : 1;
            const int32_t more = sign * (found[i][d] - found[best][d]);
            if (more > 0)
                best = i;
            if (more)
                break;
        }
    return found[best];
}

static int tabulate_steps(fab_torus_t *t)
{
    enum { FOUND_MOST = 64 };
    const uint32_t routers = t->size[0] * t->size[1] * t->size[2];
    t->step = malloc(routers * sizeof *t->step);
    if (!t->step)
        return FAB_E_MEMORY;
    for (uint32_t r = 0; r < routers; r++) {
        uint32_t c[3];
        int32_t found[FOUND_MOST][3];
        coordinates_of(t->size, r, c);
        const int32_t n[3] = {(int32_t)c[0], (int32_t)c[1], (int32_t)c[2]};
        const uint32_t count = shortest(t, n, found, FOUND_MOST);
        for (uint32_t preference = 0; preference < PREFERENCES; preference++) {
            const int32_t *way = preferred(found, count, preference);
            t->step[r][preference] = (uint8_t)(first_step(way, 0) | first_step(way, 1) << 4);
        }
    }
    return FAB_OK;
}

/* Sizes of a twisted torus: k and 2k, both. */
static void check_sizes(const fab_route_graph_t *g, const fab_torus_t *t, fab_problems_t *problems)
{
    const uint32_t *n = t->size;
    if ((uint64_t)n[0] * n[1] * n[2] != g->switch_count)
        fab_problems_add(problems, "route.torus: %u x %u x %u routers, but network %u has %u switches", n[0], n[1],
                         n[2], g->network, g->switch_count);
    if (!t->twisted)
        return;
    uint32_t small = UINT32_MAX, large = 0;
    for (int d = 0; d < 3; d++)
        if (n[d] > 1) {
            small = n[d] < small ? n[d] : small;
            large = n[d] > large ? n[d] : large;
        }
    bool fits = large == 2 * small;
    for (int d = 0; d < 3; d++)
        fits = fits && (n[d] == 1 || n[d] == small || n[d] == large);
    if (!fits)
        fab_problems_add(problems, "route.torus.twisted: sizes are %u x %u x %u, allowed: k and 2k, both", n[0], n[1],
                         n[2]);
}

/* A dimension wraps if any router at its end is joined to the other end; a ring of two has a second cable. */
static void find_wraps(const fab_route_graph_t *g, fab_torus_t *t)
{
    for (int d = 0; d < 3; d++) {
        t->wraps[d] = t->size[d] > 1;
        if (t->twisted || !t->wraps[d])
            continue;
        bool found = false;
        for (uint32_t r = 0; r < g->switch_count && !found; r++) {
            uint32_t c[3], cables = 0;
            coordinates_of(t->size, r, c);
            const uint32_t across = c[d] + 1 == t->size[d] ? neighbour(t, r, (uint32_t)(2 * d)) : FAB_NONE;
            for (uint32_t at = g->first[r]; at < g->first[r + 1] && across != FAB_NONE; at++)
                cables += g->peer[at] == across;
            found = cables > (t->size[d] == 2);
        }
        t->wraps[d] = found;
    }
}

/* The direction of a port: one that leads to the peer and has no port yet; DIRECTIONS: none. In a ring of two, whose
 * first cable goes up from 0, the end at 1 comes down first. */
static uint32_t find_direction(const fab_torus_t *t, uint32_t router, uint32_t peer)
{
    uint32_t c[3];
    coordinates_of(t->size, router, c);
    for (uint32_t i = 0; i < DIRECTIONS; i++) {
        const uint32_t direction = t->size[i / 2] == 2 && c[i / 2] == 1 ? i ^ 1 : i;
        if (neighbour(t, router, direction) == peer && t->port[router][direction] == UINT16_MAX)
            return direction;
    }
    return DIRECTIONS;
}

/* Finds what direction each port is of, and names the cables that are none or too much. */
static void find_directions(const fab_route_graph_t *g, fab_torus_t *t, fab_problems_t *problems)
{
    for (uint32_t r = 0; r < g->switch_count; r++) {
        const fab_node_t *node = fab_graph_node(g, r);
        const uint32_t name = node->name - g->net->host_count;
        if (node->port_count > PORTS_MAX) {
            fab_problems_add(problems, "switch %u: has %u cables, a router of a torus at most %d", name,
                             node->port_count, PORTS_MAX);
            continue;
        }
        for (uint32_t p = 0; p < node->port_count; p++) {
            const uint32_t peer = g->peer[g->first[r] + p];
            t->direction[r][p] = HERE;
            if (peer == FAB_NONE)
                continue;
            const uint32_t direction = find_direction(t, r, peer);
            t->direction[r][p] = (uint8_t)direction;
            if (direction != DIRECTIONS)
                t->port[r][direction] = (uint16_t)p;
            else if (r < peer) /* the other end says the same */
                fab_problems_add(
                    problems,
                    "cable %u: joins switch %u and switch %u, which are no neighbours in the %storus of %u x "
                    "%u x %u, or a second time",
                    g->net->link_name[node->first_link + p] / 2, name,
                    fab_graph_node(g, peer)->name - g->net->host_count, t->twisted ? "twisted " : "", t->size[0],
                    t->size[1], t->size[2]);
        }
        for (uint32_t direction = 0; direction < DIRECTIONS; direction++) {
            const uint32_t peer = neighbour(t, r, direction);
            if (peer != FAB_NONE && t->port[r][direction] == UINT16_MAX)
                fab_problems_add(problems, "switch %u: no cable to switch %u, its neighbour to %c%c in the torus", name,
                                 fab_graph_node(g, peer)->name - g->net->host_count, "+-"[direction & 1],
                                 "xyz"[direction / 2]);
        }
    }
}

/* Whether a cable between switches is dead: then dimension order cannot be kept, and up/down routing takes over. */
static bool is_broken(const fab_route_graph_t *g)
{
    for (uint32_t s = 0; s < g->switch_count && g->healing; s++)
        for (uint32_t p = 0; p < fab_graph_node(g, s)->port_count; p++)
            if (g->peer[g->first[s] + p] == FAB_NONE &&
                g->net->nodes[g->net->tx_slot[fab_graph_node(g, s)->first_link + p]].is_switch)
                return true;
    return false;
}

static int compile(const fab_route_graph_t *g, const fab_route_config_t *config, fab_problems_t *problems,
                   fab_route_t *route)
{
    if (is_broken(g))
        return fab_updown_compile(g, config->hash_seed, false, route);
    const int32_t before = problems->count;
    const size_t n = (size_t)g->switch_count + 1, hosts = g->net->host_count;
    fab_torus_t *t = calloc(1, sizeof *t);
    if (!t)
        return FAB_E_MEMORY;
    route->torus = t; /* freed with the route, whatever happens */
    memcpy(t->size, config->size, sizeof t->size);
    t->twisted = config->twisted;
    t->two_orders = config->two_orders;
    t->salt = (uint32_t)fab_keyed_draw(config->hash_seed, FAB_KEY_SALT, g->network, 0);
    check_sizes(g, t, problems);
    if (problems->count > before)
        return FAB_E_CONFIG;
    t->at = malloc(hosts * sizeof *t->at);
    t->port = malloc(n * sizeof *t->port);
    t->direction = calloc(n, sizeof *t->direction);
    if (!t->at || !t->port || !t->direction)
        return FAB_E_MEMORY;
    memset(t->port, 0xff, n * sizeof *t->port);
    find_wraps(g, t);
    find_directions(g, t, problems);
    if (problems->count > before)
        return FAB_E_TOPOLOGY;
    for (uint32_t r = 0; r < g->switch_count; r++) {
        uint32_t c[3];
        coordinates_of(t->size, r, c);
        route->rules[fab_graph_node(g, r)->index] = (fab_rule_t){.low = r, .salt = pack(c), .how = FAB_RULE_TORUS};
    }
    for (size_t h = 0; h < hosts; h++) {
        const uint32_t leaf = g->leaf_of[h], r = leaf == FAB_NONE ? FAB_NONE : g->leaf[leaf];
        t->at[h] = r == FAB_NONE ? FAB_NONE : route->rules[fab_graph_node(g, r)->index].salt;
    }
    const bool datelines =
        (t->wraps[0] && t->size[0] > 3) || (t->wraps[1] && t->size[1] > 3) || (t->wraps[2] && t->size[2] > 3);
    route->class_count = t->two_orders ? 4 : datelines ? 2 : 1;
    route->changes_class = route->class_count > 1;
    route->loop_free = true;
    route->arithmetic_count += t->twisted ? 0 : g->switch_count;
    route->memory_bytes += (int64_t)(hosts * sizeof *t->at + n * (sizeof *t->port + sizeof *t->direction));
    if (!t->twisted)
        return FAB_OK;
    route->memory_bytes += (int64_t)(n * sizeof *t->step);
    return tabulate_steps(t);
}

void fab_torus_free(fab_torus_t *self)
{
    if (!self)
        return;
    free(self->at);
    free(self->port);
    free(self->direction);
    free(self->step);
    free(self);
}

const fab_route_ops_t fab_route_torus = {
    .impl = {"route", "torus", "dimension-order routing on a torus, plain or twisted, over minimal ways", params, 0},
    .configure = configure,
    .compile = compile,
};
