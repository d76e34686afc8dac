/* The list of collective algorithms: a new one is its file and a line here. */
#ifndef FAB_COLL_LIST_H
#define FAB_COLL_LIST_H

#include "coll/coll.h"

#define FAB_COLL_LIST(X)                                                                                               \
    X(ring)                                                                                                            \
    X(chain)                                                                                                           \
    X(tree)                                                                                                            \
    X(pairwise)                                                                                                        \
    X(dissemination)                                                                                                   \
    X(double_tree)                                                                                                     \
    X(halving_doubling)                                                                                                \
    X(hierarchical)                                                                                                    \
    X(pxn)                                                                                                             \
    X(torus)                                                                                                           \
    X(pat)                                                                                                             \
    X(in_network)                                                                                                      \
    X(nvls_tree)

#define FAB_COLL_DECLARE(name) extern const fab_coll_ops_t fab_coll_##name;
FAB_COLL_LIST(FAB_COLL_DECLARE)
#undef FAB_COLL_DECLARE

#endif
