/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rings: offset o of a stream lies at block.off + (o & (size - 1)), in the second block from
 * switch_at on. Descriptors are tcp's (udp's); they are copied and checked before use, so that not
 * even a broken server makes us touch memory outside the region.
 */
#include "sock.h"

static bool block_ok(const struct ring_block *b, uint64_t region)
{
    return b->size == 0 || ((b->size & (b->size - 1)) == 0 && b->off <= region &&
                            b->size <= region - b->off && b->off >= APP_PAGE);
}

bool ring_get(struct ring *r, const struct down_slot *d, bool tx, bool dgram)
{
    const struct ring_desc *copies = tx ? d->tx : d->rx;
    unsigned shift = tx ? 0 : 1;
    for (int i = 0; i < 1000; i++) {
        uint32_t sel = load_acquire(&d->select);
        const struct ring_desc *c = &copies[sel >> shift & 1];
        r->d.switch_at = load_relaxed(&c->switch_at);
        for (int b = 0; b < 2; b++) {
            r->d.block[b].off = load_relaxed(&c->block[b].off);
            r->d.block[b].size = load_relaxed(&c->block[b].size);
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (load_relaxed(&d->select) == sel)
            break;
    }
    uint64_t region = tx ? lib.up_size : dgram ? lib.down_udp_size : lib.down_tcp_size;
    r->base = tx      ? (const uint8_t *)lib.up
              : dgram ? (const uint8_t *)lib.down_udp
                      : (const uint8_t *)lib.down_tcp;
    return r->d.block[0].size + r->d.block[1].size != 0 && block_ok(&r->d.block[0], region) &&
           block_ok(&r->d.block[1], region);
}

uint64_t ring_size(const struct ring *r)
{
    return r->d.block[1].size != 0 ? r->d.block[1].size : r->d.block[0].size;
}

uint8_t *ring_piece(const struct ring *r, uint64_t off, uint64_t *len)
{
    const struct ring_block *b = &r->d.block[0];
    uint64_t most = UINT64_MAX;
    if (r->d.block[1].size != 0) {
        if (off >= r->d.switch_at || b->size == 0)
            b = &r->d.block[1];
        else
            most = r->d.switch_at - off;
    }
    uint64_t at = off & (b->size - 1);
    uint64_t n = b->size - at;
    *len = n < most ? n : most;
    return (uint8_t *)(uintptr_t)r->base + b->off + at;
}

void ring_write(const struct ring *r, uint64_t off, const void *src, size_t len)
{
    while (len > 0) {
        uint64_t n;
        uint8_t *p = ring_piece(r, off, &n);
        if (n > len)
            n = len;
        shm_copy(p, src, n);
        src = (const uint8_t *)src + n;
        off += n;
        len -= n;
    }
}

void ring_read(const struct ring *r, uint64_t off, void *dst, size_t len)
{
    while (len > 0) {
        uint64_t n;
        const uint8_t *p = ring_piece(r, off, &n);
        if (n > len)
            n = len;
        memcpy(dst, p, n);
        dst = (uint8_t *)dst + n;
        off += n;
        len -= n;
    }
}

uint64_t ring_space(const struct ring *r, uint64_t tx_end, uint64_t tx_free)
{
    uint64_t limit = tx_free + ring_size(r);
    /* With a tx_free from before the ring grew, what is below switch_at may not yet fit into the
     * old block. */
    if (r->d.block[1].size != 0 && r->d.block[0].size != 0) {
        uint64_t old = tx_free + r->d.block[0].size;
        if (r->d.switch_at > old && old < limit)
            limit = old;
    }
    return tx_end >= tx_free && tx_end < limit ? limit - tx_end : 0;
}

size_t ring_span(const struct ring *r, uint64_t off, size_t len, struct eft_span *span)
{
    span->len = 0;
    span->pieces = 0;
    while (span->len < len && span->pieces < EFT_PIECES) {
        uint64_t n;
        uint8_t *p = ring_piece(r, off + span->len, &n);
        if (n > len - span->len)
            n = len - span->len;
        span->piece[span->pieces++] = (struct iovec){p, n};
        span->len += n;
    }
    return span->len;
}

size_t iov_total(const struct iovec *iov, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

static size_t iov_run(struct iov_pos *p, uint8_t **at)
{
    while (p->n > 0 && p->off == p->iov->iov_len) {
        p->iov++;
        p->n--;
        p->off = 0;
    }
    if (p->n == 0)
        return 0;
    *at = (uint8_t *)p->iov->iov_base + p->off;
    return p->iov->iov_len - p->off;
}

size_t iov_take(struct iov_pos *p, void *dst, size_t len)
{
    size_t done = 0;
    uint8_t *at = NULL;
    for (size_t n; done < len && (n = iov_run(p, &at)) > 0;) {
        if (n > len - done)
            n = len - done;
        memcpy((uint8_t *)dst + done, at, n);
        p->off += n;
        done += n;
    }
    return done;
}

size_t iov_put(struct iov_pos *p, const void *src, size_t len)
{
    size_t done = 0;
    uint8_t *at = NULL;
    for (size_t n; done < len && (n = iov_run(p, &at)) > 0;) {
        if (n > len - done)
            n = len - done;
        memcpy(at, (const uint8_t *)src + done, n);
        p->off += n;
        done += n;
    }
    return done;
}

size_t iov_ring_write(const struct ring *r, uint64_t off, struct iov_pos *p, size_t len)
{
    size_t done = 0;
    uint8_t *at = NULL;
    for (size_t n; done < len && (n = iov_run(p, &at)) > 0;) {
        if (n > len - done)
            n = len - done;
        ring_write(r, off + done, at, n);
        p->off += n;
        done += n;
    }
    return done;
}

size_t iov_ring_read(const struct ring *r, uint64_t off, struct iov_pos *p, size_t len)
{
    size_t done = 0;
    uint8_t *at = NULL;
    for (size_t n; done < len && (n = iov_run(p, &at)) > 0;) {
        if (n > len - done)
            n = len - done;
        ring_read(r, off + done, at, n);
        p->off += n;
        done += n;
    }
    return done;
}
