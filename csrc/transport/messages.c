/* Rings of messages and queues of cookies. */
#include "transport/messages.h"

enum { FIRST_MESSAGES = 4 };

static bool grow(fab_messages_t *self, fab_pool_t *pool)
{
    const uint32_t old = self->ring ? self->mask + 1 : 0, capacity = old ? 2 * old : FIRST_MESSAGES;
    fab_message_t *ring = fab_pool_take(pool, fab_pool_class(capacity * sizeof *ring));
    if (!ring)
        return false;
    for (uint32_t i = self->head; i != self->tail; i++)
        ring[i & (capacity - 1)] = self->ring[i & self->mask];
    if (old)
        fab_pool_give(pool, self->ring, fab_pool_class(old * sizeof *ring));
    self->ring = ring;
    self->mask = capacity - 1;
    return true;
}

bool fab_messages_add(fab_messages_t *self, fab_pool_t *pool, fab_message_t message)
{
    if ((!self->ring || self->tail - self->head > self->mask) && !grow(self, pool))
        return false;
    *fab_messages_at(self, self->tail++) = message;
    return true;
}

bool fab_mail_put(fab_mail_t **chunk, uint32_t *at, fab_mail_t **first, fab_pool_t *pool, fab_cookie_t cookie)
{
    if (!*chunk || *at == FAB_MAIL_COOKIES) {
        fab_mail_t *mail = fab_pool_take(pool, fab_pool_class(sizeof *mail));
        if (!mail)
            return false;
        mail->next = NULL;
        if (*chunk)
            (*chunk)->next = mail;
        else
            *first = mail;
        *chunk = mail;
        *at = 0;
    }
    (*chunk)->cookies[(*at)++] = cookie;
    return true;
}

fab_cookie_t fab_mail_take(fab_mail_t **chunk, uint32_t *at, fab_mail_t *first, fab_pool_t *pool)
{
    if (!*chunk) {
        *chunk = first;
    } else if (*at == FAB_MAIL_COOKIES) {
        fab_mail_t *next = (*chunk)->next;
        fab_pool_give(pool, *chunk, fab_pool_class(sizeof *next));
        *chunk = next;
        *at = 0;
    }
    return (*chunk)->cookies[(*at)++];
}
