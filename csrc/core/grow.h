/* Arrays that grow, for what is set up or counted by no limit known before. */
#ifndef FAB_CORE_GROW_H
#define FAB_CORE_GROW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* Room for `count` items in the array that `array` points to; false without memory, then it is as before. */
static inline bool fab_grow(void *array, uint32_t *capacity, uint32_t count, size_t size)
{
    if (count <= *capacity)
        return true;
    uint32_t bigger = *capacity ? *capacity : 64;
    while (bigger < count)
        bigger *= 2;
    void **at = array;
    void *longer = realloc(*at, bigger * size);
    if (!longer)
        return false;
    *at = longer;
    *capacity = bigger;
    return true;
}

#endif
