/* The lists of implementations: one line a switch, link, route, transport, controller, file system, target and
 * algorithm. */
#include "sim/list.h"

const fab_switch_ops_t *const fab_list_switches[] = {&fab_switch_ethernet, &fab_switch_voq, NULL};
const fab_route_ops_t *const fab_list_routes[] = {&fab_route_ecmp,
                                                  &fab_route_spray,
                                                  &fab_route_adaptive,
                                                  &fab_route_dmodk,
                                                  &fab_route_updown,
                                                  &fab_route_torus,
                                                  NULL};
const fab_transport_ops_t *const fab_list_transports[] = {
    &fab_transport_roce, &fab_transport_rc, &fab_transport_scale_up, &fab_transport_ici, &fab_transport_srd, NULL};
const fab_cc_ops_t *const fab_list_controllers[] = {&fab_cc_none,  &fab_cc_dcqcn, &fab_cc_hpcc,   &fab_cc_timely,
                                                    &fab_cc_swift, &fab_cc_ib_cc, &fab_cc_srd_cc, NULL};

const fab_layout_ops_t *const fab_list_layouts[] = {&fab_layout_lustre, &fab_layout_weka, &fab_layout_beegfs,
                                                    &fab_layout_local, NULL};
const fab_target_ops_t *const fab_list_targets[] = {&fab_target_flash, &fab_target_disk, NULL};

#define FAB_LIST_COLL(name) &fab_coll_##name.impl,

/* One a line. */
/* clang-format off */
const fab_impl_t *const fab_implementations[] = {
    &fab_switch_ethernet.impl,
    &fab_switch_voq.impl,
    &fab_link_lossy,
    &fab_link_pause,
    &fab_link_credit,
    &fab_route_ecmp.impl,
    &fab_route_spray.impl,
    &fab_route_adaptive.impl,
    &fab_route_dmodk.impl,
    &fab_route_updown.impl,
    &fab_route_torus.impl,
    &fab_transport_roce.impl,
    &fab_transport_rc.impl,
    &fab_transport_scale_up.impl,
    &fab_transport_ici.impl,
    &fab_transport_srd.impl,
    &fab_cc_none.impl,
    &fab_cc_dcqcn.impl,
    &fab_cc_hpcc.impl,
    &fab_cc_timely.impl,
    &fab_cc_swift.impl,
    &fab_cc_ib_cc.impl,
    &fab_cc_srd_cc.impl,
    &fab_layout_lustre.impl,
    &fab_layout_weka.impl,
    &fab_layout_beegfs.impl,
    &fab_layout_local.impl,
    &fab_target_flash.impl,
    &fab_target_disk.impl,
    FAB_COLL_LIST(FAB_LIST_COLL)
    NULL,
};
/* clang-format on */
