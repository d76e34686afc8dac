/* The list of problems that a compile or a run found. */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *fab_error_name(int code)
{
    switch (code) {
#define FAB_ERROR_CASE(name, value, text)                                                                              \
    case value: return text;
        FAB_ERRORS(FAB_ERROR_CASE)
#undef FAB_ERROR_CASE
    default: return "an unknown error";
    }
}

void fab_problems_clear(fab_problems_t *self)
{
    self->count = 0;
    self->used = 0;
    self->text[0] = '\0';
}

void fab_problems_add(fab_problems_t *self, const char *format, ...)
{
    self->count++;
    const size_t room = sizeof self->text - (size_t)self->used;
    if (self->count > FAB_PROBLEMS_KEPT || room < 2)
        return;
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(self->text + self->used, room - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    const size_t written = (size_t)n < room - 2 ? (size_t)n : room - 2;
    self->used += (int32_t)written;
    self->text[self->used++] = '\n';
    self->text[self->used] = '\0';
}
