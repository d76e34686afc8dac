/* Parameters of a model, written once beside the model; Python, --help, errors and docs read them
 * from here. Every value is an int64 and every name ends in its unit. */
#ifndef FAB_CORE_PARAM_H
#define FAB_CORE_PARAM_H

#include "core/error.h"

/* Ends a parameter table. */
#define FAB_PARAM_END {0}

/* Fills values[] in the table's order: the defaults, then what `settings` says of (room, impl).
 * Unknown names and values out of range become problems. */
void fab_param_resolve(const char *room, const char *impl, const fab_param_t *table, const fab_setting_t *settings,
                       int32_t setting_count, int64_t *values_out, fab_problems_t *problems);

#endif
