/* Grants of extent locks: the rules of Lustre 2.x, lustre/ldlm/ldlm_extent.c and interval_tree.c, told in our words.
 *
 * A lock is granted if no conflicting lock, granted or waiting, overlaps what is asked for; else it waits, in the order of
 * asking. What it is granted is as much around it as no conflicting lock overlaps. */
#include "store/lock.h"

#include "core/keyed.h"

/* With more than MANY_GRANTED conflicting locks a writer's grows no farther than GROWN_BYTES from where it begins; with
 * more than MANY_WAITING that wait nothing grows down. */
enum { MANY_GRANTED = 32, MANY_WAITING = 4 };
static const int64_t GROWN_BYTES = INT64_C(32) << 20;

bool fab_lock_conflicts(fab_lock_mode_t a, fab_lock_mode_t b) { return a != b || a == FAB_LOCK_PW; }

static bool overlap(int64_t a_start, int64_t a_end, int64_t b_start, int64_t b_end)
{
    return a_start <= b_end && b_start <= a_end;
}

/* ---- granted locks: a tree a mode, by (start, order of granting), with random ranks ----------------- */

static void refresh(fab_lock_t *n)
{
    n->last = n->end;
    n->uncalled_below = !n->called;
    for (int side = 0; side < 2; side++) {
        const fab_lock_t *below = side ? n->right : n->left;
        if (!below)
            continue;
        n->last = fab_max_i64(n->last, below->last);
        n->uncalled_below |= below->uncalled_below;
    }
}

static void refresh_up(fab_lock_t *n)
{
    for (; n; n = n->parent)
        refresh(n);
}

/* Puts `to` where `from` hangs. */
static void hang(fab_lock_t **root, const fab_lock_t *from, fab_lock_t *to)
{
    fab_lock_t *parent = from->parent;
    if (!parent)
        *root = to;
    else if (parent->left == from)
        parent->left = to;
    else
        parent->right = to;
    if (to)
        to->parent = parent;
}

/* Moves a lock above its parent. */
static void rotate_up(fab_lock_t **root, fab_lock_t *n)
{
    fab_lock_t *parent = n->parent;
    const bool is_left = parent->left == n;
    fab_lock_t *inner = is_left ? n->right : n->left;
    hang(root, parent, n);
    if (is_left) {
        parent->left = inner;
        n->right = parent;
    } else {
        parent->right = inner;
        n->left = parent;
    }
    if (inner)
        inner->parent = parent;
    parent->parent = n;
    refresh(parent);
    refresh(n);
}

static bool is_before(const fab_lock_t *a, const fab_lock_t *b)
{
    return a->start != b->start ? a->start < b->start : a->order < b->order;
}

static void insert(fab_lock_resource_t *self, fab_lock_t *lock)
{
    fab_lock_t **root = &self->granted[lock->mode];
    lock->granted = true;
    lock->order = self->order++;
    lock->rank = fab_keyed_mix(lock->order);
    lock->parent = lock->left = lock->right = NULL;
    fab_lock_t **at = root;
    while (*at) {
        lock->parent = *at;
        at = is_before(lock, *at) ? &(*at)->left : &(*at)->right;
    }
    *at = lock;
    refresh_up(lock);
    while (lock->parent && lock->parent->rank < lock->rank)
        rotate_up(root, lock);
    self->granted_count++;
    self->granted_of[lock->mode]++;
}

static void take_out(fab_lock_resource_t *self, fab_lock_t *lock)
{
    fab_lock_t **root = &self->granted[lock->mode];
    while (lock->left && lock->right)
        rotate_up(root, lock->left->rank > lock->right->rank ? lock->left : lock->right);
    hang(root, lock, lock->left ? lock->left : lock->right);
    refresh_up(lock->parent);
    self->granted_count--;
    self->granted_of[lock->mode]--;
}

/* Whether a lock of the tree overlaps a range. */
static bool any_overlaps(const fab_lock_t *n, int64_t start, int64_t end)
{
    while (n && !overlap(n->start, n->end, start, end))
        n = n->left && n->left->last >= start ? n->left : n->right;
    return n;
}

/* The least beginning after `end`; -1: there is none. */
static int64_t next_start(const fab_lock_t *n, int64_t end)
{
    int64_t found = -1;
    while (n) {
        if (n->start > end) {
            found = n->start;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return found;
}

static bool may_hold_uncalled(const fab_lock_t *n, int64_t start) { return n && n->uncalled_below && n->last >= start; }

static fab_lock_t *leftmost(fab_lock_t *n, int64_t start)
{
    while (may_hold_uncalled(n->left, start))
        n = n->left;
    return n;
}

/* The first lock that overlaps a range and has not been called. */
static fab_lock_t *first_uncalled(fab_lock_t *root, int64_t start, int64_t end)
{
    if (!may_hold_uncalled(root, start))
        return NULL;
    fab_lock_t *n = leftmost(root, start);
    while (n && n->start <= end) {
        if (!n->called && n->end >= start)
            return n;
        if (may_hold_uncalled(n->right, start)) {
            n = leftmost(n->right, start);
            continue;
        }
        while (n->parent && n->parent->right == n)
            n = n->parent;
        n = n->parent;
    }
    return NULL;
}

static void call(fab_lock_t *lock, fab_lock_tell_t *call_back, void *context)
{
    lock->called = true;
    refresh_up(lock);
    call_back(context, lock);
}

/* ---- waiting locks: a queue -------------------------------------------------------------------------- */

static void queue_before(fab_lock_resource_t *self, fab_lock_t *lock, fab_lock_t *behind)
{
    lock->next = behind;
    lock->previous = behind ? behind->previous : self->waiting_last;
    if (lock->previous)
        lock->previous->next = lock;
    else
        self->waiting = lock;
    if (behind)
        behind->previous = lock;
    else
        self->waiting_last = lock;
    self->waiting_count++;
    self->waiting_of[lock->mode]++;
}

static void unqueue(fab_lock_resource_t *self, fab_lock_t *lock)
{
    if (lock->previous)
        lock->previous->next = lock->next;
    else
        self->waiting = lock->next;
    if (lock->next)
        lock->next->previous = lock->previous;
    else
        self->waiting_last = lock->previous;
    lock->next = lock->previous = NULL;
    self->waiting_count--;
    self->waiting_of[lock->mode]--;
}

/* How many locks of the modes that conflict with one there are. */
static uint32_t count_conflicting(const uint32_t *count_of, fab_lock_mode_t mode)
{
    uint32_t count = 0;
    for (fab_lock_mode_t m = 0; m < FAB_LOCK_MODES; m++)
        count += fab_lock_conflicts(m, mode) ? count_of[m] : 0;
    return count;
}

/* Whether something that waits conflicts with a lock in a range. A group asks for all there is, so it always does. */
static bool conflicts_with_waiting(const fab_lock_resource_t *self, fab_lock_mode_t mode, int64_t start, int64_t end)
{
    if (count_conflicting(self->waiting_of, mode) == 0)
        return false;
    for (const fab_lock_t *w = self->waiting; w; w = w->next)
        if (fab_lock_conflicts(w->mode, mode) && overlap(w->asked_start, w->asked_end, start, end))
            return true;
    return false;
}

/* ---- the rules ------------------------------------------------------------------------------------------ */

static bool conflicts_with_granted(const fab_lock_resource_t *self, const fab_lock_t *lock)
{
    for (fab_lock_mode_t m = 0; m < FAB_LOCK_MODES; m++)
        if (fab_lock_conflicts(m, lock->mode) && any_overlaps(self->granted[m], lock->asked_start, lock->asked_end))
            return true;
    return false;
}

/* Limits a grown extent: of a busy object in its length; and its ends to a multiple of the greatest power of two, a page
 * at least, that divides both ends of what is asked for, which can only make it smaller. Unsigned: one behind the last
 * offset is 2^63. */
static void trim(fab_lock_t *lock, uint32_t conflicting)
{
    if (conflicting > MANY_GRANTED && lock->mode == FAB_LOCK_PW &&
        lock->asked_end - lock->asked_start < GROWN_BYTES - 1 && lock->asked_start <= FAB_LOCK_EOF - GROWN_BYTES)
        lock->end = fab_min_i64(lock->end, lock->asked_start + GROWN_BYTES - 1);
    if (lock->start == 0 && lock->end == FAB_LOCK_EOF)
        return;
    const uint64_t bounds = ((uint64_t)lock->asked_end + 1) | (uint64_t)lock->asked_start;
    const uint64_t mask = (bounds & -bounds) - 1;
    lock->start = (int64_t)(((uint64_t)lock->start + mask) & ~mask);
    lock->end = (int64_t)((((uint64_t)lock->end + 1) & ~mask) - 1);
}

/* Up to the next conflicting lock that is granted, and down only if there is none at all. */
static void grow_among_granted(const fab_lock_resource_t *self, fab_lock_t *lock)
{
    const uint32_t conflicting = count_conflicting(self->granted_of, lock->mode);
    lock->start = conflicting ? lock->asked_start : 0;
    lock->end = FAB_LOCK_EOF;
    for (fab_lock_mode_t m = 0; m < FAB_LOCK_MODES; m++) {
        if (!fab_lock_conflicts(m, lock->mode))
            continue;
        const int64_t next = next_start(self->granted[m], lock->asked_end);
        if (next >= 0)
            lock->end = fab_min_i64(lock->end, next - 1);
    }
    trim(lock, conflicting);
}

/* Then as far as those that wait allow. One that asks for some of the same limits nothing: one of the two has to give way
 * in any case. Locks of one client do not grow into each other, even if they would agree. */
static void shrink_for_waiting(const fab_lock_resource_t *self, fab_lock_t *lock)
{
    uint32_t conflicting = 0;
    for (const fab_lock_t *w = self->waiting; w; w = w->next) {
        if (lock->start == lock->asked_start && lock->end == lock->asked_end)
            return;
        if (!fab_lock_conflicts(w->mode, lock->mode) && w->client != lock->client)
            continue;
        if (++conflicting > MANY_WAITING)
            lock->start = lock->asked_start;
        if (!overlap(w->asked_start, w->asked_end, lock->start, lock->end) ||
            overlap(w->asked_start, w->asked_end, lock->asked_start, lock->asked_end))
            continue;
        if (w->asked_end < lock->asked_start)
            lock->start = w->asked_end + 1;
        else
            lock->end = w->asked_start - 1;
    }
    trim(lock, conflicting);
}

static void grant(fab_lock_resource_t *self, fab_lock_t *lock)
{
    lock->start = lock->asked_start;
    lock->end = lock->asked_end;
    if (lock->start > 0 || lock->end < FAB_LOCK_EOF) {
        grow_among_granted(self, lock);
        shrink_for_waiting(self, lock);
    }
    insert(self, lock);
}

/* Behind other groups' but before all else: groups share, so they are served together. */
static fab_lock_t *first_without_group(const fab_lock_resource_t *self)
{
    fab_lock_t *w = self->waiting;
    while (w && w->mode == FAB_LOCK_GROUP)
        w = w->next;
    return w;
}

bool fab_lock_enqueue(fab_lock_resource_t *self, fab_lock_t *lock, fab_lock_tell_t *call_back, void *context)
{
    const bool group = lock->mode == FAB_LOCK_GROUP;
    lock->asked_start = group ? 0 : lock->asked_start & ~(int64_t)(FAB_LOCK_PAGE_BYTES - 1);
    lock->asked_end = group ? FAB_LOCK_EOF : lock->asked_end | (FAB_LOCK_PAGE_BYTES - 1);
    lock->granted = lock->called = false;
    if (group && self->granted[FAB_LOCK_GROUP]) {
        grant(self, lock);
        if (conflicts_with_waiting(self, lock->mode, lock->start, lock->end))
            call(lock, call_back, context);
        return true;
    }
    const bool blocked = conflicts_with_granted(self, lock);
    if (!blocked && !conflicts_with_waiting(self, lock->mode, lock->asked_start, lock->asked_end)) {
        grant(self, lock);
        return true;
    }
    queue_before(self, lock, group ? first_without_group(self) : NULL);
    for (fab_lock_mode_t m = 0; blocked && m < FAB_LOCK_MODES; m++) {
        if (!fab_lock_conflicts(m, lock->mode))
            continue;
        fab_lock_t *holder;
        while ((holder = first_uncalled(self->granted[m], lock->asked_start, lock->asked_end)))
            call(holder, call_back, context);
    }
    return false;
}

void fab_lock_remove(fab_lock_resource_t *self, fab_lock_t *lock, fab_lock_tell_t *granted, fab_lock_tell_t *call_back,
                     void *context)
{
    if (lock->granted)
        take_out(self, lock);
    else
        unqueue(self, lock);
    lock->granted = false;
    /* strictly in the order of asking: who cannot be granted holds up all behind */
    while (self->waiting && !conflicts_with_granted(self, self->waiting)) {
        fab_lock_t *first = self->waiting;
        unqueue(self, first);
        grant(self, first);
        granted(context, first);
        if (conflicts_with_waiting(self, first->mode, first->start, first->end))
            call(first, call_back, context);
    }
}

void fab_lock_restore(fab_lock_resource_t *self, fab_lock_t *lock)
{
    lock->called = false;
    insert(self, lock);
}
