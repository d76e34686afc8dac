/* Resolving a parameter table against what the user set. */
#include "core/param.h"

#include <inttypes.h>
#include <string.h>

static int32_t find(const fab_param_t *table, const char *name)
{
    for (int32_t i = 0; table && table[i].name; i++)
        if (strcmp(table[i].name, name) == 0)
            return i;
    return -1;
}

void fab_param_resolve(const char *room, const char *impl, const fab_param_t *table, const fab_setting_t *settings,
                       int32_t setting_count, int64_t *values_out, fab_problems_t *problems)
{
    for (int32_t i = 0; table && table[i].name; i++)
        values_out[i] = table[i].preset;
    for (int32_t s = 0; s < setting_count; s++) {
        if (strcmp(settings[s].room, room) != 0 || strcmp(settings[s].impl, impl) != 0)
            continue;
        for (int32_t j = 0; j < settings[s].count; j++) {
            const int32_t i = find(table, settings[s].names[j]);
            const int64_t value = settings[s].values[j];
            if (i < 0)
                fab_problems_add(problems, "%s.%s.%s: no such parameter", room, impl, settings[s].names[j]);
            else if (value < table[i].least || value > table[i].most)
                fab_problems_add(problems, "%s.%s.%s: found %" PRId64 ", allowed %" PRId64 " to %" PRId64 " %s", room,
                                 impl, table[i].name, value, table[i].least, table[i].most, table[i].unit);
            else
                values_out[i] = value;
        }
    }
}
