/* Whose turn it is among data classes: against another way to say it, and shares of bytes. */
#include "check.h"
#include "core/classes.h"

/* Where deficit round robin ends up, without walking: who has the turn goes on while its deficit pays; else the next that
 * waits, which always can pay with a further quantum; those that were passed had nothing to send and lose all. */
static uint32_t by_hand(fab_turns_t *self, uint32_t classes, uint32_t waiting, const uint16_t *head_bytes,
                        int32_t quantum)
{
    const uint32_t from = self->turn;
    if (waiting >> from & 1 && self->deficit_bytes[from] >= head_bytes[from]) {
        self->deficit_bytes[from] -= head_bytes[from];
        return from;
    }
    if (!(waiting >> from & 1))
        self->deficit_bytes[from] = 0;
    uint32_t c = (from + 1) % classes;
    for (; !(waiting >> c & 1); c = (c + 1) % classes)
        self->deficit_bytes[c] = 0;
    self->turn = (uint8_t)c;
    self->deficit_bytes[c] += quantum - head_bytes[c];
    return c;
}

static uint32_t highest(uint32_t classes, uint32_t waiting)
{
    uint32_t found = classes;
    for (uint32_t c = 0; c < classes; c++)
        if (waiting >> c & 1)
            found = c;
    return found;
}

static void turns_are_those_by_hand(void)
{
    dice_t dice = {91};
    for (uint32_t classes = 1; classes <= FAB_DATA_CLASSES_MAX; classes++)
        for (int round = 0; round < 40; round++) {
            const int32_t quantum = round % 4 == 0 ? 1 : 100 + (int32_t)dice_below(&dice, 9000);
            fab_turns_t turns = {0}, wanted = {0}, strict = {0};
            for (int i = 0; i < 500; i++) {
                const uint32_t waiting = 1 + dice_below(&dice, (1u << classes) - 1);
                uint16_t heads[FAB_DATA_CLASSES_MAX] = {0};
                for (uint32_t c = 0; c < classes; c++)
                    heads[c] = (uint16_t)(1 + dice_below(&dice, (uint32_t)quantum));
                const uint32_t found = fab_classes_pick(&turns, FAB_ROUND_ROBIN, classes, waiting, heads, quantum);
                CHECK_EQ(found, by_hand(&wanted, classes, waiting, heads, quantum));
                CHECK(waiting >> found & 1);
                CHECK_EQ(turns.turn, wanted.turn);
                for (uint32_t c = 0; c < classes; c++) {
                    CHECK_EQ(turns.deficit_bytes[c], wanted.deficit_bytes[c]);
                    CHECK(turns.deficit_bytes[c] >= 0 && turns.deficit_bytes[c] < 2 * quantum);
                }
                CHECK_EQ(fab_classes_pick(&strict, FAB_STRICT, classes, waiting, heads, quantum),
                         highest(classes, waiting));
            }
        }
}

/* Classes that always wait: after m visits a class has sent m quanta less a deficit below one. */
static void shares_are_even(void)
{
    dice_t dice = {92};
    for (int round = 0; round < 200; round++) {
        const uint32_t classes = 2 + dice_below(&dice, FAB_DATA_CLASSES_MAX - 1);
        const int32_t quantum = 4194;
        fab_turns_t turns = {0};
        uint16_t heads[FAB_DATA_CLASSES_MAX], most[FAB_DATA_CLASSES_MAX];
        int64_t sent[FAB_DATA_CLASSES_MAX] = {0};
        for (uint32_t c = 0; c < classes; c++) {
            most[c] = (uint16_t)(84 + dice_below(&dice, (uint32_t)quantum - 83));
            heads[c] = most[c];
        }
        for (int i = 0; i < 2000; i++) {
            const uint32_t c = fab_classes_pick(&turns, FAB_ROUND_ROBIN, classes, (1u << classes) - 1, heads, quantum);
            sent[c] += heads[c];
            heads[c] = (uint16_t)(84 + dice_below(&dice, most[c] - 83u));
            for (uint32_t d = 0; d < classes; d++)
                CHECK(sent[c] - sent[d] < 2 * quantum);
        }
    }
}

/* What a class was granted before it fell silent does not come back to it. */
static void silence_saves_nothing(void)
{
    const uint16_t heads[FAB_DATA_CLASSES_MAX] = {100, 1000, 1000, 1000};
    fab_turns_t turns = {0};
    CHECK_EQ(fab_classes_pick(&turns, FAB_ROUND_ROBIN, 2, 1, heads, 1000), 0);
    CHECK_EQ(turns.deficit_bytes[0], 900);
    CHECK_EQ(fab_classes_pick(&turns, FAB_ROUND_ROBIN, 2, 2, heads, 1000), 1);
    CHECK_EQ(turns.deficit_bytes[0], 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(fab_classes_pick(&turns, FAB_ROUND_ROBIN, 2, 3, heads, 1000), 0);
    CHECK_EQ(fab_classes_pick(&turns, FAB_ROUND_ROBIN, 2, 3, heads, 1000), 1);
}

void test_classes(void)
{
    turns_are_those_by_hand();
    shares_are_even();
    silence_saves_nothing();
}
