/* Progressive filling over the part of the fabric that hangs together by resources that are asked for too much. */
#include "flow/share.h"

#include <stdlib.h>
#include <string.h>

#include "core/grow.h"

bool fab_share_grow(fab_share_t *self, uint32_t resource_count)
{
    if (resource_count <= self->resource_count)
        return true;
    const uint32_t count = resource_count + resource_count / 8;
    fab_share_resource_t *longer = realloc(self->resources, count * sizeof *longer);
    if (!longer)
        return false;
    memset(longer + self->resource_count, 0, (count - self->resource_count) * sizeof *longer);
    self->resources = longer;
    self->resource_count = count;
    return true;
}

void fab_share_free(fab_share_t *self)
{
    fab_pool_free(&self->pool);
    free(self->resources);
    free(self->touched);
    free(self->part);
    free(self->over);
    free(self->heap);
    *self = (fab_share_t){0};
}

/* Appends to an array of the filling; remembers if there is no memory. */
static bool make_room(fab_share_t *self, void *array, uint32_t *capacity, uint32_t count, size_t size)
{
    if (fab_grow(array, capacity, count + 1, size))
        return true;
    self->no_memory = true;
    return false;
}

static void touch(fab_share_t *self, uint32_t resource)
{
    if (make_room(self, &self->touched, &self->touched_capacity, self->touched_count, sizeof *self->touched))
        self->touched[self->touched_count++] = resource;
}

static void set_end(fab_sharer_t *sharer, int64_t now_ps)
{
    const double left_ps = sharer->remaining_ps / sharer->rate;
    int64_t whole_ps = (int64_t)left_ps;
    whole_ps += (double)whole_ps < left_ps;
    sharer->end_ps = now_ps + whole_ps;
}

static void enter_over(fab_use_t *use)
{
    fab_sharer_t *sharer = use->sharer;
    use->before_over = NULL;
    use->next_over = sharer->over;
    if (sharer->over)
        sharer->over->before_over = use;
    sharer->over = use;
}

static void leave_over(fab_use_t *use)
{
    if (use->before_over)
        use->before_over->next_over = use->next_over;
    else
        use->sharer->over = use->next_over;
    if (use->next_over)
        use->next_over->before_over = use->before_over;
}

bool fab_share_begin(fab_share_t *self, fab_sharer_t *sharer, const uint32_t *resource, const double *busy_ps,
                     uint32_t count, int64_t work_ps, int64_t now_ps)
{
    sharer->remaining_ps = (double)work_ps;
    sharer->rate = 1;
    sharer->since_ps = now_ps;
    sharer->in_part = sharer->frozen = false;
    sharer->use_count = count;
    sharer->over = NULL;
    sharer->uses = fab_pool_take(&self->pool, fab_pool_class((count + (size_t)1) * sizeof *sharer->uses));
    if (!sharer->uses)
        return false;
    const double one = (double)FAB_SHARE_ONE / (double)work_ps;
    for (uint32_t i = 0; i < count; i++) {
        fab_share_resource_t *r = &self->resources[resource[i]];
        const double part = busy_ps[i] * one;
        fab_use_t *use = &sharer->uses[i];
        *use = (fab_use_t){
            .next = r->first,
            .sharer = sharer,
            /* rounded down: parts that make up a whole are no more than that */
            .part = part >= (double)FAB_SHARE_ONE ? FAB_SHARE_ONE : (uint64_t)part,
            .resource = resource[i],
        };
        if (r->first)
            r->first->before = use;
        r->first = use;
        const bool was_over = r->sum > FAB_SHARE_ONE;
        r->sum += use->part;
        if (r->sum <= FAB_SHARE_ONE)
            continue;
        touch(self, resource[i]);
        if (was_over)
            enter_over(use);
        for (fab_use_t *of_all = r->first; !was_over && of_all; of_all = of_all->next)
            enter_over(of_all);
    }
    set_end(sharer, now_ps);
    return !self->no_memory;
}

void fab_share_end(fab_share_t *self, fab_sharer_t *sharer, int64_t now_ps)
{
    (void)now_ps;
    for (uint32_t i = 0; i < sharer->use_count; i++) {
        const fab_use_t *use = &sharer->uses[i];
        fab_share_resource_t *r = &self->resources[use->resource];
        if (use->before)
            use->before->next = use->next;
        else
            r->first = use->next;
        if (use->next)
            use->next->before = use->before;
        const bool was_over = r->sum > FAB_SHARE_ONE;
        r->sum -= use->part;
        if (was_over && r->first)
            touch(self, use->resource);
        for (fab_use_t *left = r->first; was_over && r->sum <= FAB_SHARE_ONE && left; left = left->next)
            leave_over(left);
        if (was_over)
            leave_over(&sharer->uses[i]);
    }
    fab_pool_give(&self->pool, sharer->uses, fab_pool_class((sharer->use_count + (size_t)1) * sizeof *sharer->uses));
    sharer->uses = NULL;
    sharer->use_count = 0;
}

double fab_share_remaining_ps(const fab_sharer_t *sharer, int64_t now_ps)
{
    const double left = sharer->remaining_ps - (double)(now_ps - sharer->since_ps) * sharer->rate;
    return left > 0 ? left : 0;
}

/* ---- what hangs together ------------------------------------------------------------------------- */

static void add_users(fab_share_t *self, uint32_t resource)
{
    uint32_t growing = 0;
    for (fab_use_t *use = self->resources[resource].first; use; use = use->next) {
        growing += use->part > 0;
        if (use->sharer->in_part ||
            !make_room(self, &self->part, &self->part_capacity, self->part_count, sizeof *self->part))
            continue;
        use->sharer->in_part = true;
        self->part[self->part_count++] = use->sharer;
    }
    self->resources[resource].growing_count = growing;
}

/* From the resources that were touched to all that share with their users, over resources that are full. */
static void find_part(fab_share_t *self)
{
    self->part_count = self->over_count = 0;
    for (uint32_t i = 0; i < self->touched_count; i++)
        add_users(self, self->touched[i]);
    self->touched_count = 0;
    for (uint32_t i = 0; i < self->part_count; i++) {
        const fab_sharer_t *sharer = self->part[i];
        for (const fab_use_t *use = sharer->over; use; use = use->next_over) {
            const uint32_t resource = use->resource;
            fab_share_resource_t *r = &self->resources[resource];
            if (r->in_part || !make_room(self, &self->over, &self->over_capacity, self->over_count, sizeof *self->over))
                continue;
            r->in_part = true;
            r->left = (double)FAB_SHARE_ONE;
            r->growing = (double)r->sum;
            self->over[self->over_count++] = resource;
            add_users(self, resource);
        }
    }
}

/* ---- filling ------------------------------------------------------------------------------------- */

static bool before(const fab_share_level_t *a, const fab_share_level_t *b)
{
    return a->level < b->level || (a->level == b->level && a->resource < b->resource);
}

static void push(fab_share_t *self, double level, uint32_t resource)
{
    if (!make_room(self, &self->heap, &self->heap_capacity, self->heap_count, sizeof *self->heap))
        return;
    const fab_share_level_t item = {level, resource};
    uint32_t i = self->heap_count++;
    while (i && before(&item, &self->heap[(i - 1) / 2])) {
        self->heap[i] = self->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    self->heap[i] = item;
}

static fab_share_level_t pop(fab_share_t *self)
{
    const fab_share_level_t top = self->heap[0], last = self->heap[--self->heap_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= self->heap_count)
            break;
        if (child + 1 < self->heap_count && before(&self->heap[child + 1], &self->heap[child]))
            child++;
        if (!before(&self->heap[child], &last))
            break;
        self->heap[i] = self->heap[child];
        i = child;
    }
    if (self->heap_count)
        self->heap[i] = last;
    return top;
}

/* The rate at which a resource is full, if all of its users that still grow have it; above 1: never. */
static double full_at(const fab_share_resource_t *r) { return r->growing > 0 ? r->left / r->growing : 2; }

static void freeze(fab_share_t *self, fab_sharer_t *sharer, double rate)
{
    sharer->frozen = true;
    sharer->found = rate;
    for (const fab_use_t *use = sharer->over; use; use = use->next_over) {
        fab_share_resource_t *r = &self->resources[use->resource];
        const double part = (double)use->part;
        r->left -= part * rate;
        r->growing -= part;
        r->growing_count -= use->part > 0;
        if (r->left < 0)
            r->left = 0;
    }
}

/* What a resource becomes full at only rises while others freeze: so what lies in the heap is no later than true. */
static void fill(fab_share_t *self)
{
    self->heap_count = 0;
    for (uint32_t i = 0; i < self->over_count; i++)
        push(self, full_at(&self->resources[self->over[i]]), self->over[i]);
    while (self->heap_count && self->heap[0].level < 1 && !self->no_memory) {
        const fab_share_level_t first = pop(self);
        fab_share_resource_t *r = &self->resources[first.resource];
        if (!r->growing_count)
            continue;
        const double level = full_at(r);
        if (level > first.level) {
            push(self, level, first.resource);
            continue;
        }
        for (fab_use_t *use = r->first; use; use = use->next)
            if (!use->sharer->frozen && use->part)
                freeze(self, use->sharer, first.level);
    }
}

int fab_share_settle(fab_share_t *self, int64_t now_ps)
{
    find_part(self);
    for (uint32_t i = 0; i < self->part_count; i++)
        self->part[i]->found = 1;
    fill(self);
    uint32_t changed = 0;
    for (uint32_t i = 0; i < self->part_count; i++) {
        fab_sharer_t *sharer = self->part[i];
        sharer->in_part = sharer->frozen = false;
        if (sharer->found == sharer->rate)
            continue;
        sharer->remaining_ps = fab_share_remaining_ps(sharer, now_ps);
        sharer->since_ps = now_ps;
        sharer->rate = sharer->found;
        set_end(sharer, now_ps);
        self->part[changed++] = sharer;
    }
    self->part_count = changed;
    for (uint32_t i = 0; i < self->over_count; i++)
        self->resources[self->over[i]].in_part = false;
    self->fillings++;
    return self->no_memory ? FAB_E_MEMORY : FAB_OK;
}
