/* Compiled routes of a world, and walks along them. */
#ifndef FAB_TESTS_WALK_H
#define FAB_TESTS_WALK_H

#include "route/route.h"
#include "worlds.h"

typedef struct {
    fab_net_t net;
    fab_route_t route;
    fab_problems_t problems;
    int code; /* of compiling the routes */
} routed_t;

/* Compiles network 0 of a world; dead_cable: one that is down, or -1. */
void routed_start(routed_t *self, const world_t *world, const fab_route_config_t *config, int32_t dead_cable);
void routed_end(routed_t *self);

enum { WALK_MOST = 64 };

/* The links from one host to another; checks that it gets there. Returns how many, 0 where there is no way. */
uint32_t routed_walk(const routed_t *self, uint32_t src, uint32_t dst, uint32_t entropy, uint32_t links[WALK_MOST]);

/* The fewest links from one host to another without a cable (-1: with all); FAB_NONE: none. By relaxation. */
uint32_t routed_distance(const world_t *world, int32_t src, int32_t dst, int32_t dead_cable);

#endif
