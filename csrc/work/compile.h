/* The door of the work room for the model: compiling a program against its network and settings. */
#ifndef FAB_WORK_COMPILE_H
#define FAB_WORK_COMPILE_H

#include "work/program.h"

/* `settings` are the model's of the room coll; data_class_count is the most that a network has. */
int fab_program_compile(const fab_net_t *net, uint32_t data_class_count, const fab_setting_t *settings,
                        int32_t setting_count, const fab_store_config_t *stores, uint32_t store_count,
                        const fab_table_t *table, const int32_t *rank_host, int32_t rank_count,
                        const fab_collectives_t *collectives, fab_problems_t *problems, fab_program_t **program_out);

#endif
