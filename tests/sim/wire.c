/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The virtual wire: a device kind for the real driver. Frames are copied out at send() and come to
 * the other stack's end after delay, loss, reordering, duplication and corruption drawn from the
 * seed.
 */
#include <errno.h>
#include <stdlib.h>

#include "drivers/driver.h"
#include "servers/wire/checksum.h"
#include "sim.h"

static struct stack *stack_of(struct driver *d)
{
    return *(struct stack **)(void *)d->device;
}

static void insert(struct wire_end *e, const uint8_t *data, size_t len, uint64_t at)
{
    struct wire_frame *f = malloc(sizeof *f + len), **p = &e->coming;

    memcpy(f->data, data, len);
    f->len = len;
    f->at = at;
    while (*p != NULL && (*p)->at <= at)
        p = &(*p)->next;
    f->next = *p;
    *p = f;
    e->n++;
}

static void transmit(struct stack *st, uint8_t *data, size_t len)
{
    struct sim *s = st->sim;
    struct wire_end *e = &s->stack[!st->number].in;
    const struct wire_conditions *w = &s->wire;
    uint64_t at = s->now + w->delay_ns;

    e->sent++;
    if (e->n >= w->queue || rng_chance(&s->rng, w->loss)) {
        e->lost++;
        return;
    }
    if (rng_chance(&s->rng, w->reorder))
        at += rng_below(&s->rng, w->jitter_ns + 1);
    if (rng_chance(&s->rng, w->duplicate))
        insert(e, data, len, at + rng_below(&s->rng, w->jitter_ns + 1));
    /* Only what has a checksum of its own, so that the damage can be noticed: a real wire covers
     * the Ethernet header and ARP with its frame check sequence. */
    if (len > 14 && data[12] == 8 && data[13] == 0 && rng_chance(&s->rng, w->corrupt))
        data[14 + rng_below(&s->rng, len - 14)] ^= (uint8_t)(1u << rng_below(&s->rng, 8));
    insert(e, data, len, at);
}

static int attach(struct driver *d, const int *fds, unsigned nfds)
{
    (void)d, (void)fds, (void)nfds;
    return 0;
}

static enum frame_owner salvage(struct driver *d, unsigned n)
{
    (void)d, (void)n;
    return FRAME_FREE; /* a frame leaves the wire only when it is published */
}

static unsigned receive(struct driver *d, unsigned quota)
{
    struct stack *st = stack_of(d);
    unsigned n = 0;

    while (n < quota && st->in.coming != NULL && st->in.coming->at <= st->sim->now &&
           driver_room(d)) {
        struct wire_frame *f = st->in.coming;
        const int frame = driver_take(d, FRAME_RX, 0);

        if (frame < 0)
            break;
        st->in.coming = f->next;
        st->in.n--;
        st->in.delivered++;
        memcpy(driver_frame_data(d, (unsigned)frame), f->data, f->len);
        driver_receive(d, (unsigned)frame, 0, (uint32_t)f->len, 0, CSUM_NONE);
        free(f);
        n++;
    }
    return n;
}

static int send_frame(struct driver *d, const struct driver_tx *tx)
{
    struct stack *st = stack_of(d);
    uint8_t data[2048];
    size_t len = tx->p.hdr_len;

    if (len + tx->p.payload_len > sizeof data)
        return -EMSGSIZE;
    memcpy(data, tx->p.hdr, len);
    for (unsigned i = 0; i < tx->p.pieces; i++) {
        memcpy(data + len, tx->piece[i], tx->p.piece[i].len);
        len += tx->p.piece[i].len;
    }
    if (tx->p.csum == CSUM_PARTIAL && tx->p.l4 + 18u <= len) {
        /* The field holds the pseudo header's sum: sum it together with the rest. */
        const size_t at = tx->p.l4 + (tx->p.protocol == 6 ? 16u : 6u);
        const uint16_t sum = csum_fold(csum_partial(data + tx->p.l4, len - tx->p.l4, 0));
        memcpy(data + at, &sum, sizeof sum);
    }
    transmit(st, data, len);
    return 0;
}

static uint32_t events(struct driver *d)
{
    (void)d;
    return 0;
}

const struct device_ops sim_device = {
    .name = "wire",
    .attach = attach,
    .salvage = salvage,
    .receive = receive,
    .send = send_frame,
    .events = events,
};

void wire_clear(struct wire_end *e)
{
    while (e->coming != NULL) {
        struct wire_frame *f = e->coming;

        e->coming = f->next;
        free(f);
    }
    e->n = 0;
}
