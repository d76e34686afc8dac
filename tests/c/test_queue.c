/* Link queues against a plain list: random pushes, overtakes, pauses, resumes, receptions and departures.
 *
 * The model keeps for each packet when it begins to leave, and starts each one as soon as the wire is free, the
 * class is not paused and it is first in line; the queue's packed times must agree at every moment. */
#include "check.h"
#include "link/queue.h"

#include <string.h>

enum { MODEL_PACKETS = 4096, DELAY_PS = 3000000 };

typedef struct {
    uint32_t number;
    uint32_t flags; /* given along with the packet */
    uint16_t bytes;
    bool control, frame; /* goes before data; before control packets too */
    int64_t ready_ps;    /* may not begin before */
    int64_t begin_ps;    /* -1: not yet begun */
} item_t;

typedef struct {
    item_t items[MODEL_PACKETS];
    uint32_t count; /* in order of departure */
    uint32_t begun; /* items[0 … begun-1] have a begin_ps */
    int64_t free_ps;
    bool paused;
    uint32_t q16;
} model_t;

/* Begins everything that begins at or before now. */
static void model_advance(model_t *m, int64_t now_ps)
{
    while (m->begun < m->count) {
        item_t *item = &m->items[m->begun];
        if (m->paused && !item->control)
            return;
        const int64_t begin_ps = fab_max_i64(m->free_ps, item->ready_ps);
        if (begin_ps > now_ps)
            return;
        item->begin_ps = begin_ps;
        m->free_ps = begin_ps + fab_wire_ps(item->bytes, m->q16);
        m->begun++;
    }
}

static void model_insert(model_t *m, uint32_t at, uint32_t number, uint16_t bytes, bool control, int64_t ready_ps)
{
    memmove(&m->items[at + 1], &m->items[at], (m->count - at) * sizeof *m->items);
    m->items[at] = (item_t){number, 0, bytes, control, false, ready_ps, -1};
    m->count++;
}

/* What waits, in the order it will go if nothing changes: begin time of item i, NEVER behind a pause. */
static int64_t model_begin(const model_t *m, uint32_t i)
{
    if (i < m->begun)
        return m->items[i].begin_ps;
    int64_t free_ps = m->free_ps, begin_ps = FAB_NEVER;
    for (uint32_t j = m->begun; j <= i; j++) {
        if (m->paused && !m->items[j].control)
            return FAB_NEVER;
        begin_ps = fab_max_i64(free_ps, m->items[j].ready_ps);
        free_ps = begin_ps + fab_wire_ps(m->items[j].bytes, m->q16);
    }
    return begin_ps;
}

typedef struct {
    fab_worker_t worker;
    fab_net_t net;
    fab_node_t nodes[1];
    fab_fabric_t fabric;
    fab_link_t link;
    fab_port_t port;
    int64_t head_ps, next_ps, block_ps, colour_ps;
    model_t model;
    uint32_t received, released; /* model items taken by the receiver, passed by the cursor */
} rig_t;

static rig_t rig;

static void rig_start(bool cut_through, uint32_t first_index, int64_t rate_mbps)
{
    memset(&rig, 0, sizeof rig);
    rig.model.q16 = fab_wire_ps_per_byte_q16(rate_mbps);
    rig.net.nodes = rig.nodes;
    rig.worker.next_ps = &rig.next_ps;
    rig.worker.block_ps = &rig.block_ps;
    rig.worker.colour_ps = &rig.colour_ps;
    rig.next_ps = rig.block_ps = rig.colour_ps = rig.head_ps = FAB_NEVER;
    rig.fabric = (fab_fabric_t){.net = &rig.net, .links = &rig.link, .heads = &rig.head_ps, .ports = &rig.port};
    rig.link = (fab_link_t){
        .ring = fab_pool_take(&rig.worker.pool, fab_pool_class(8 * sizeof(fab_packet_t))),
        .mask = 7,
        .head = first_index,
        .tail = first_index,
        .visible = first_index,
        .delay_ps = DELAY_PS | (cut_through ? FAB_DELAY_CUT_THROUGH : 0),
        .ps_per_byte_q16 = rig.model.q16,
    };
    rig.port = (fab_port_t){.cursor = first_index, .control_end = first_index};
    rig.port.from = fab_pool_take(&rig.worker.pool, fab_pool_class(8 * sizeof(uint16_t)));
}

static int64_t wire_ps(uint32_t bytes) { return fab_wire_ps(bytes, rig.model.q16); }

static int64_t arrival_of(uint32_t i)
{
    const int64_t begin_ps = model_begin(&rig.model, i);
    if (begin_ps >= FAB_NEVER)
        return FAB_NEVER;
    return begin_ps + DELAY_PS + (fab_link_cuts_through(&rig.link) ? 0 : wire_ps(rig.model.items[i].bytes));
}

/* Everything that can be seen of the queue. */
static void compare(int64_t now_ps)
{
    const fab_link_t *link = &rig.link;
    model_t *m = &rig.model;
    CHECK_EQ(rig.worker.error, 0);
    CHECK_EQ(link->tail - link->head, m->count - rig.received);
    CHECK_EQ(rig.port.paused, m->paused);
    CHECK_EQ(rig.head_ps, rig.received < m->count ? arrival_of(rig.received) : FAB_NEVER);
    int64_t backlog_ps = 0;
    for (uint32_t i = m->begun; i < m->count; i++)
        backlog_ps += wire_ps(m->items[i].bytes);
    backlog_ps += fab_max_i64(m->free_ps - now_ps, 0);
    int64_t gaps_ps = 0; /* a packet not ready yet holds the wire */
    int64_t free_ps = fab_max_i64(m->free_ps, now_ps);
    for (uint32_t i = m->begun; i < m->count; i++) {
        const int64_t begin_ps = model_begin(m, i);
        if (begin_ps >= FAB_NEVER)
            break;
        gaps_ps += begin_ps - free_ps;
        free_ps = begin_ps + wire_ps(m->items[i].bytes);
    }
    CHECK_EQ(fab_max_i64(link->busy_ps - now_ps, 0) + rig.port.parked_ps, backlog_ps + gaps_ps);
    for (uint32_t i = rig.received; i < m->count; i++)
        CHECK_EQ(fab_packet_psn(link->ring[(link->head + i - rig.received) & link->mask]), m->items[i].number);
}

static void receive_one(void)
{
    const fab_packet_t *packet;
    const int64_t when_ps = rig.head_ps;
    const int64_t wanted_ps = arrival_of(rig.received);
    CHECK_EQ(when_ps, wanted_ps);
    fab_link_pop(&rig.fabric, 0, when_ps, &packet);
    const item_t *item = &rig.model.items[rig.received++];
    CHECK_EQ(fab_packet_psn(*packet), item->number);
    CHECK_EQ(packet->bytes, item->bytes);
    CHECK_EQ(packet->psn_flags & FAB_FLAG_CE, item->flags);
}

/* Moves the cursor to now, checking each departure against the model. */
static void release(int64_t now_ps)
{
    while (rig.port.cursor != rig.link.visible && fab_queue_departure_ps(&rig.link, &rig.port) <= now_ps) {
        const item_t *item = &rig.model.items[rig.released++];
        CHECK_EQ(fab_queue_departure_ps(&rig.link, &rig.port), item->begin_ps + wire_ps(item->bytes));
        CHECK_EQ(rig.port.from[rig.port.cursor & rig.link.mask],
                 item->control ? FAB_FROM_NOWHERE : (uint16_t)(item->number % 7));
        fab_queue_pass(&rig.link, &rig.port);
    }
    uint32_t left = 0;
    while (left < rig.model.begun && rig.model.items[left].begin_ps + wire_ps(rig.model.items[left].bytes) <= now_ps)
        left++;
    CHECK_EQ(rig.released, left);
}

/* What a caller does: room first, then the packet. */
static void push(const fab_packet_t *packet, uint32_t flags, uint16_t from, int64_t now_ps)
{
    CHECK(fab_queue_room(&rig.worker, &rig.link, &rig.port));
    fab_queue_push(&rig.worker, &rig.fabric, 0, &rig.link, &rig.port, packet, flags, from, now_ps);
}

static void random_walk(uint64_t seed, bool cut_through)
{
    static const int64_t rates[] = {100000, 400000, 33333, 1000};
    dice_t dice = {seed};
    const uint32_t first = dice_below(&dice, 3) ? dice_below(&dice, 1000) : UINT32_MAX - dice_below(&dice, 200);
    rig_start(cut_through, first, rates[dice_below(&dice, 4)]);
    model_t *m = &rig.model;
    const int64_t frame_ps = wire_ps(4178);
    int64_t now_ps = 0;
    for (uint32_t step = 0; step < 500; step++) {
        const uint32_t pause_of = dice_below(&dice, 60);
        now_ps += dice_below(&dice, 3) ? dice_below(&dice, (uint32_t)frame_ps) : 0;
        if (pause_of == 0)
            now_ps += 40 * frame_ps;
        model_advance(m, now_ps);
        /* the receiver runs up to now plus a delay at most, and takes what is there in order */
        while (rig.received < m->begun && arrival_of(rig.received) <= now_ps && dice_below(&dice, 4))
            receive_one();
        const uint16_t bytes = (uint16_t)(dice_below(&dice, 4) ? 84 + dice_below(&dice, 4100) : 86);
        const fab_packet_t packet = {.psn_flags = step, .bytes = bytes};
        const uint32_t flags = dice_below(&dice, 4) ? 0 : FAB_FLAG_CE;
        switch (dice_below(&dice, 8)) {
        case 0:
            release(now_ps);
            fab_queue_pause(&rig.fabric, 0, now_ps);
            m->paused = true;
            break;
        case 1:
        case 2:
            fab_queue_resume(&rig.worker, &rig.fabric, 0, now_ps);
            if (m->paused) {
                for (uint32_t i = m->begun; i < m->count; i++)
                    if (!m->items[i].control)
                        m->items[i].ready_ps = fab_max_i64(m->items[i].ready_ps, now_ps);
                m->paused = false;
            }
            break;
        case 3:
        case 4: {
            release(now_ps);
            const bool frame = dice_below(&dice, 3) == 0;
            const uint32_t kind = (frame ? FAB_PAUSE : FAB_ACK) << FAB_KIND_SHIFT;
            fab_queue_overtake(&rig.worker, &rig.fabric, 0, (fab_packet_t){.psn_flags = step | kind, .bytes = bytes},
                               now_ps);
            uint32_t at = m->begun;
            while (at < m->count && (frame ? m->items[at].frame : m->items[at].control))
                at++;
            model_insert(m, at, step, bytes, true, now_ps);
            m->items[at].frame = frame;
            break;
        }
        default:
            if (dice_below(&dice, 2) || rig.link.busy_ps <= now_ps)
                release(now_ps);
            push(&packet, flags, (uint16_t)(step % 7), now_ps);
            model_insert(m, m->count, step, bytes, false, now_ps);
            m->items[m->count - 1].flags = flags;
            break;
        }
        model_advance(m, now_ps);
        compare(now_ps);
        if (check_failed > CHECK_TOLD) {
            fab_pool_free(&rig.worker.pool);
            return;
        }
    }
    fab_queue_resume(&rig.worker, &rig.fabric, 0, now_ps);
    m->paused = false;
    for (uint32_t i = m->begun; i < m->count; i++)
        m->items[i].ready_ps = fab_max_i64(m->items[i].ready_ps, now_ps);
    model_advance(m, FAB_NEVER / 2);
    release(FAB_NEVER / 2);
    while (rig.received < m->count)
        receive_one();
    CHECK_EQ(rig.head_ps, FAB_NEVER);
    CHECK_EQ(rig.port.cursor, rig.link.tail);
    fab_pool_free(&rig.worker.pool);
}

/* Plain pushes of the path without classes, with a receiver that lags. */
static void plain_pushes(bool cut_through)
{
    dice_t dice = {52};
    rig_start(cut_through, UINT32_MAX - 30, 100000);
    int64_t now_ps = 0;
    for (uint32_t step = 0; step < 2000; step++) {
        now_ps += dice_below(&dice, 400000);
        model_advance(&rig.model, now_ps);
        const uint16_t bytes = (uint16_t)(84 + dice_below(&dice, 4100));
        fab_link_push(&rig.worker, &rig.fabric, 0, &(fab_packet_t){.psn_flags = step, .bytes = bytes}, 0, now_ps,
                      !cut_through);
        model_insert(&rig.model, rig.model.count, step, bytes, false, now_ps);
        model_advance(&rig.model, now_ps);
        CHECK_EQ(rig.head_ps, arrival_of(rig.received));
        CHECK(rig.next_ps <= rig.head_ps);
        while (rig.received < rig.model.begun && arrival_of(rig.received) <= now_ps - (step % 90) * 100000)
            receive_one();
    }
    fab_pool_free(&rig.worker.pool);
}

/* A link that has carried 2^31 packets since a control packet last overtook must not take that one for a new one. */
static void old_overtakes_are_forgotten(void)
{
    rig_start(false, 0, 100000);
    rig.link.head = rig.link.tail = rig.link.visible = rig.port.cursor = 0x80000010u;
    for (uint32_t i = 0; i < 3; i++)
        push(&(fab_packet_t){.psn_flags = i, .bytes = 1000}, 0, FAB_FROM_NOWHERE, 0);
    fab_queue_pause(&rig.fabric, 0, 0);
    CHECK_EQ(rig.link.visible, 0x80000011u);
    fab_queue_resume(&rig.worker, &rig.fabric, 0, 0);
    CHECK_EQ(rig.link.visible, 0x80000013u);
    CHECK_EQ(rig.link.busy_ps, 3 * wire_ps(1000));
    fab_pool_free(&rig.worker.pool);
}

void test_queue(void)
{
    for (uint64_t seed = 1; seed <= 100; seed++)
        random_walk(seed, seed & 1);
    plain_pushes(false);
    plain_pushes(true);
    old_overtakes_are_forgotten();
}
