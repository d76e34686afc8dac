/* Output ports with several data classes: real queues and a turn of the port for every departure.
 *
 * One data class needs no queue (its departures are fixed at enqueue; see ethernet.c). Several share a port by strict
 * priority or by deficit round robin, each with its own marking, its own share of the buffer, and its own XOFF. Control
 * packets are before all of them and are never paused. A packet counts in the buffer until it begins to leave. */
#ifndef FAB_SWITCH_CLASSES_H
#define FAB_SWITCH_CLASSES_H

#include "switch/switch.h"

int fab_classes_check(const fab_switch_config_t *config, const fab_net_t *net, fab_problems_t *problems);
int fab_classes_init(fab_switches_t *switches, const fab_fabric_t *fabric);
void fab_classes_free(fab_switches_t *switches);
int64_t fab_classes_visit(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_worker_t *worker,
                          uint32_t slot, int64_t base_ps, int64_t until_ps);
void fab_classes_change(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_worker_t *worker, uint32_t link,
                        fab_link_change_t what, int64_t value, int64_t now_ps);
uint32_t fab_classes_pauses(const fab_switches_t *switches, const fab_fabric_t *fabric, uint32_t link);
void fab_classes_check_end(const fab_switches_t *switches, const fab_fabric_t *fabric, fab_problems_t *problems);

#endif
