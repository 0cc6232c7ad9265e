/* SPDX-License-Identifier: BSD-2-Clause */
/* link: eft_driver */
/*
 * Segmentation and checksums: every cut of a payload into pieces and segments carries the same
 * bytes, with headers that a receiver accepts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "drivers/segment.h"
#include "servers/wire/checksum.h"

enum { SIZE = 5000, SEQ = 0xfffffa00 };
static uint8_t payload[SIZE];

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}
static uint32_t get32(const uint8_t *p)
{
    return get16(p) << 16 | get16(p + 2);
}

static uint32_t pseudo(const uint8_t *h, unsigned l3, uint8_t protocol, uint32_t len)
{
    const uint8_t tail[4] = {0, protocol, (uint8_t)(len >> 8), (uint8_t)len};
    const bool v4 = h[l3] >> 4 == 4;

    return csum_partial(tail, 4, csum_partial(h + l3 + (v4 ? 12 : 8), v4 ? 8 : 32, 0));
}

/* A packet of `len` bytes, cut into pieces at `cut1` and `cut2`. */
static struct driver_tx make(bool v6, uint8_t protocol, uint32_t len, uint16_t gso, uint32_t cut1,
                             uint32_t cut2)
{
    struct driver_tx tx = {.p = {.l3 = 14, .l4 = v6 ? 54 : 34, .protocol = protocol}};
    struct packet *p = &tx.p;
    const unsigned l4_header = protocol == IPPROTO_TCP ? 32 : 8;
    const uint32_t cuts[4] = {0, cut1, cut2, len};

    p->hdr_len = (uint16_t)(p->l4 + l4_header);
    p->csum = CSUM_PARTIAL;
    p->gso_size = gso;
    p->payload_len = len;
    for (unsigned i = 0; i < 3; i++) {
        p->piece[p->pieces].len = cuts[i + 1] - cuts[i];
        tx.piece[p->pieces++] = payload + cuts[i];
    }
    uint8_t *ip = p->hdr + 14, *l4 = p->hdr + p->l4;
    p->hdr[12] = v6 ? 0x86 : 8;
    p->hdr[13] = v6 ? 0xdd : 0;
    if (v6) {
        ip[0] = 0x60;
        ip[4] = (uint8_t)((l4_header + len) >> 8);
        ip[5] = (uint8_t)(l4_header + len);
        ip[6] = protocol;
        memset(ip + 8, 0x2a, 32);
    } else {
        ip[0] = 0x45;
        ip[2] = (uint8_t)((20 + l4_header + len) >> 8);
        ip[3] = (uint8_t)(20 + l4_header + len);
        ip[4] = 0xff; /* the identification wraps */
        ip[5] = 0xfe;
        ip[9] = protocol;
        memset(ip + 12, 10, 8);
        const uint16_t sum = csum_fold(csum_partial(ip, 20, 0));
        memcpy(ip + 10, &sum, 2);
    }
    if (protocol == IPPROTO_TCP) {
        const uint32_t seq = htonl(SEQ);
        memcpy(l4 + 4, &seq, 4);
        l4[12] = 0x80;
        l4[13] = 0x99; /* CWR, ACK, PSH, FIN */
    } else {
        l4[4] = (uint8_t)((8 + len) >> 8);
        l4[5] = (uint8_t)(8 + len);
    }
    const uint16_t fold = csum_fold_partial(pseudo(p->hdr, 14, protocol, l4_header + len));
    memcpy(l4 + segment_csum_offset(protocol), &fold, 2);
    return tx;
}

/* Checks one frame as its receiver would, returns its payload's length. */
static uint32_t check(const struct driver_tx *tx, const struct segment *s, uint32_t from)
{
    const struct packet *p = &tx->p;
    uint8_t frame[PACKET_HEADERS + SIZE];
    uint32_t len = s->hdr_len;

    memcpy(frame, s->hdr, s->hdr_len);
    for (unsigned i = 0; i < s->niov; i++) {
        memcpy(frame + len, s->iov[i].iov_base, s->iov[i].iov_len);
        len += (uint32_t)s->iov[i].iov_len;
    }
    assert_int_equal(len, s->hdr_len + s->payload);
    assert_memory_equal(frame + s->hdr_len, payload + from, s->payload);
    if (frame[14] >> 4 == 4) {
        assert_int_equal(get16(frame + 16), len - 14);
        assert_int_equal(csum_fold(csum_partial(frame + 14, 20, 0)), 0);
    } else {
        assert_int_equal(get16(frame + 18), len - 54);
    }
    const uint32_t l4_len = len - p->l4;
    const uint32_t sum = pseudo(frame, 14, p->protocol, l4_len);
    assert_int_equal(csum_fold(csum_partial(frame + p->l4, l4_len, sum)), 0);
    return s->payload;
}

static void every_cut(void **state)
{
    static const uint32_t cuts[][2] = {{0, 0}, {1, 2}, {7, 1448}, {1448, 1449}, {333, 4999}};

    (void)state;
    for (unsigned v6 = 0; v6 < 2; v6++)
        for (unsigned c = 0; c < sizeof cuts / sizeof cuts[0]; c++)
            for (uint16_t gso = 500; gso < 5100; gso = (uint16_t)(gso + 237)) {
                const struct driver_tx tx =
                    make(v6, IPPROTO_TCP, SIZE, gso, cuts[c][0], cuts[c][1]);
                const int n = segment_count(&tx);
                uint32_t from = 0;

                assert_int_equal(n, (SIZE + gso - 1) / gso);
                for (int i = 0; i < n; i++) {
                    struct segment s;

                    segment_make(&tx, (unsigned)i, &s);
                    const uint8_t *tcp = s.hdr + tx.p.l4;
                    assert_int_equal(get32(tcp + 4), (uint32_t)(SEQ + from));
                    assert_int_equal(tcp[13], 0x10 | (i == 0 ? 0x80 : 0) | (i == n - 1 ? 9 : 0));
                    if (!v6)
                        assert_int_equal(get16(s.hdr + 18), (0xfffe + i) & 0xffff);
                    from += check(&tx, &s, from);
                }
                assert_int_equal(from, SIZE);
            }
}

static void one_datagram(void **state)
{
    (void)state;
    for (uint32_t len = 0; len < 1400; len += 13) {
        const struct driver_tx tx = make(len & 1, IPPROTO_UDP, len, 0, len / 3, len / 2);
        struct segment s;

        assert_int_equal(segment_count(&tx), 1);
        segment_make(&tx, 0, &s);
        assert_int_equal(check(&tx, &s, 0), len);
    }
}

static void udp_never_sends_a_zero_checksum(void **state)
{
    struct driver_tx tx = make(false, IPPROTO_UDP, 2, 0, 2, 2);
    struct segment s;
    uint8_t bytes[2] = {0};

    /* The two bytes that make the sum all ones, so that its complement is zero. */
    (void)state;
    tx.piece[0] = bytes;
    segment_make(&tx, 0, &s);
    memcpy(bytes, s.hdr + tx.p.l4 + 6, 2);
    segment_make(&tx, 0, &s);
    assert_int_equal(get16(s.hdr + tx.p.l4 + 6), 0xffff);
}

static void contradictions_are_refused(void **state)
{
    struct driver_tx tx;

    (void)state;
    tx = make(false, IPPROTO_UDP, SIZE, 1000, 0, 0);
    assert_int_equal(segment_count(&tx), -EINVAL); /* segmentation is TCP's */
    tx = make(false, IPPROTO_TCP, SIZE, 1000, 0, 0);
    tx.p.csum = CSUM_NONE;
    assert_int_equal(segment_count(&tx), -EINVAL);
    tx = make(false, IPPROTO_TCP, SIZE, 1000, 0, 0);
    tx.p.hdr[tx.p.l4 + 12] = 0x50; /* payload would begin inside the options */
    assert_int_equal(segment_count(&tx), -EINVAL);
    tx = make(false, IPPROTO_TCP, SIZE, 1000, 0, 0);
    tx.p.l4 = (uint8_t)(tx.p.hdr_len - 10);
    assert_int_equal(segment_count(&tx), -EINVAL);
    tx = make(false, IPPROTO_TCP, 100, 0, 0, 0);
    tx.p.protocol = 132;
    assert_int_equal(segment_count(&tx), -EINVAL);
    tx = make(true, IPPROTO_TCP, SIZE, 1000, 0, 0);
    tx.p.l4 = 34;
    tx.p.hdr[34 + 12] = (uint8_t)((tx.p.hdr_len - 34) / 4 << 4);
    assert_int_equal(segment_count(&tx), -EINVAL); /* no room for an IPv6 header */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut),
        cmocka_unit_test(one_datagram),
        cmocka_unit_test(udp_never_sends_a_zero_checksum),
        cmocka_unit_test(contradictions_are_refused),
    };

    for (unsigned i = 0; i < SIZE; i++)
        payload[i] = (uint8_t)(i * 31 + (i >> 7));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
