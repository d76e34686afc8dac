/* Data classes (IEEE 802.1Q priorities of a fabric), and whose turn it is among them. */
#ifndef FAB_CORE_CLASSES_H
#define FAB_CORE_CLASSES_H

#include "core/base.h"

enum { FAB_DATA_CLASSES_MAX = 4 };

typedef enum { FAB_STRICT, FAB_ROUND_ROBIN } fab_arbitration_t;

/* The state of a port's turns: deficit round robin (Shreedhar and Varghese, SIGCOMM 1995). */
typedef struct {
    int32_t deficit_bytes[FAB_DATA_CLASSES_MAX];
    uint8_t turn;
} fab_turns_t;

/* The class that sends next: of those in the bit set `waiting`, which is not empty. head_bytes is the size of the first
 * packet of each; a round gives each class `quantum_bytes`, no less than the largest packet. */
static inline uint32_t fab_classes_pick(fab_turns_t *self, fab_arbitration_t arbitration, uint32_t class_count,
                                        uint32_t waiting, const uint16_t *head_bytes, int32_t quantum_bytes)
{
    if (arbitration == FAB_STRICT)
        return 31 - (uint32_t)__builtin_clz(waiting);
    for (;;) {
        const uint32_t c = self->turn;
        if (waiting >> c & 1 && self->deficit_bytes[c] >= head_bytes[c]) {
            self->deficit_bytes[c] -= head_bytes[c];
            return c;
        }
        if (!(waiting >> c & 1))
            self->deficit_bytes[c] = 0; /* who has nothing to send saves nothing */
        self->turn = (uint8_t)((c + 1) % class_count);
        self->deficit_bytes[self->turn] += quantum_bytes;
    }
}

#endif
