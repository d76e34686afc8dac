/* Errors: a code for the caller, and a list of lines for the person. */
#ifndef FAB_CORE_ERROR_H
#define FAB_CORE_ERROR_H

#include "core/base.h"
#include "fabricsim.h"

/* Adds a line to the list (printf form). Lines past the list's limit are counted, not kept. */
void fab_problems_add(fab_problems_t *self, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
