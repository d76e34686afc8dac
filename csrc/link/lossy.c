/* A link without flow control: what finds no room in the next switch's buffer is dropped there. */
#include "link/link_room.h"

static const fab_param_t params[] = {FAB_PARAM_END};

const fab_impl_t fab_link_lossy = {"link", "lossy", "no flow control; a full buffer drops", params, 0};
