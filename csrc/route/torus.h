/* What the rest of the route room needs of the torus. */
#ifndef FAB_ROUTE_TORUS_H
#define FAB_ROUTE_TORUS_H

#include "route/route.h"

/* How many ways the entropy chooses among. */
enum { FAB_TORUS_CHOICES = 96 };

typedef struct fab_torus fab_torus_t;

uint32_t fab_torus_port(const fab_route_t *self, const fab_rule_t *rule, uint32_t dst, uint32_t entropy);
/* An entropy that makes choice 0 … FAB_TORUS_CHOICES-1. */
uint32_t fab_torus_entropy(const fab_torus_t *self, uint32_t choice);
void fab_torus_free(fab_torus_t *self);

#endif
