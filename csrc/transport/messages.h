/* Messages on a connection, and their cookies on the way to the receiver: what every transport keeps beside its packets.
 *
 * A sender numbers its packets on from the last, whatever the message. The cookie of a message goes to the receiver
 * through a queue of chunks: the sender fills them at least one link delay before the receiver reads them. */
#ifndef FAB_TRANSPORT_MESSAGES_H
#define FAB_TRANSPORT_MESSAGES_H

#include "transport/transport.h"

typedef struct {
    uint64_t first_psn, end_psn;
    int64_t bytes;
    fab_cookie_t cookie;
} fab_message_t;

/* Those that are not acknowledged: a ring. `at` is the one whose packets are being sent. */
typedef struct {
    fab_message_t *ring;
    uint32_t mask, head, tail, at;
} fab_messages_t;

enum { FAB_MAIL_COOKIES = 10 };

/* Chunks of cookies, linked in the order they are filled. */
typedef struct fab_mail {
    struct fab_mail *next;
    fab_cookie_t cookies[FAB_MAIL_COOKIES];
} fab_mail_t;

FAB_INLINE fab_message_t *fab_messages_at(const fab_messages_t *self, uint32_t i)
{
    return &self->ring[i & self->mask];
}

/* Adds a message at the tail; false without memory. */
bool fab_messages_add(fab_messages_t *self, fab_pool_t *pool, fab_message_t message);

/* Sends a cookie: puts it in place *at of the chunk that is being filled, the first of which the receiver finds at
 * *first. False without memory. */
bool fab_mail_put(fab_mail_t **chunk, uint32_t *at, fab_mail_t **first, fab_pool_t *pool, fab_cookie_t cookie);

/* Takes the next cookie, from place *at of the chunk that is being read; there is one. */
fab_cookie_t fab_mail_take(fab_mail_t **chunk, uint32_t *at, fab_mail_t *first, fab_pool_t *pool);

#endif
