/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Neighbours: ARP, RFC 826, address conflicts after RFC 5227, reachability in the manner of RFC
 * 4861.
 *
 * Nobody can overwrite an entry that is in use: a claim by another MAC address only makes us ask
 * the known one, and when it does not answer three times the entry goes, so that the next packet
 * asks everybody. Answers that were not asked for make no entry. Requests for us do, since an
 * answer will be needed; they never push out an entry in use.
 *
 * Keeps: the cache, with requests under way. A torn entry has no valid check and counts as not
 * resolved. Not promised: that a request or reply of ours is sent exactly once.
 */
#include "servers/wire/arp.h"
#include "internal.h"
#include "servers/wire/eth.h"

enum { ARP_TRIES = 3 };
#define ARP_FRESH   (60 * SECOND) /* confirmed so long ago: ask again, while using it */
#define ARP_IN_USE  (30 * SECOND) /* a request from a stranger does not replace it */
#define ARP_DEFENCE (10 * SECOND) /* RFC 5227 section 2.4: DEFEND_INTERVAL */

static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static uint64_t key_of(unsigned interface, uint32_t addr)
{
    return 1ull << 40 | (uint64_t)interface << 32 | addr;
}

static uint64_t hash(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ull;
    return x ^ x >> 32;
}

/* MAC address and a check over address and key, never 0. */
static uint64_t seal(uint64_t key, const uint8_t mac[6])
{
    uint64_t m = 0;

    memcpy(&m, mac, 6);
    return m | (hash(key ^ m) << 48) | 1ull << 63;
}

static bool mac_of(const struct arp_entry *e, uint8_t mac[6])
{
    const uint64_t m = e->mac_check;

    memcpy(mac, &m, 6);
    return m != 0 && m == seal(e->key, mac);
}

static struct arp_entry *set_of(struct ip *ip, uint64_t key)
{
    return &ip->shm->arp[hash(key) % ARP_SETS * ARP_WAYS];
}

static struct arp_entry *find(struct ip *ip, unsigned interface, uint32_t addr)
{
    const uint64_t key = key_of(interface, addr);
    struct arp_entry *set = set_of(ip, key);

    for (unsigned i = 0; i < ARP_WAYS; i++)
        if (set[i].key == key)
            return &set[i];
    return NULL;
}

static void forget(struct arp_entry *e)
{
    shm_store(&e->mac_check, 0ull); /* first: a key never meets another entry's address */
    shm_store(&e->key, 0ull);
}

/* A new entry without a MAC address. `passive`: not for a packet of ours. NULL: no room. */
static struct arp_entry *make(struct ip *ip, unsigned interface, uint32_t addr, bool passive,
                              uint64_t now)
{
    const uint64_t key = key_of(interface, addr);
    struct arp_entry *set = set_of(ip, key), *best = NULL;

    for (unsigned i = 0; i < ARP_WAYS; i++) {
        struct arp_entry *e = &set[i];

        if (e->key == 0) {
            best = e;
            break;
        }
        if (passive && now - e->used_ns < ARP_IN_USE)
            continue;
        if (best == NULL || e->used_ns < best->used_ns)
            best = e;
    }
    if (best == NULL) {
        count(ip, IP_C_ARP_NO_ROOM);
        return NULL;
    }
    forget(best);
    shm_store(&best->tries, 0u);
    shm_store(&best->confirmed_ns, now);
    shm_store(&best->used_ns, now);
    shm_store(&best->tried_ns, 0ull);
    shm_store(&best->key, key);
    return best;
}

/* Sends an ARP message. False: no room. */
static bool emit(struct ip *ip, unsigned interface, const uint8_t to[6], const struct arp *a,
                 uint16_t src, uint64_t index)
{
    struct port *port = &ip->port[interface];
    struct packet p = {
        .hdr_len = ETH_LEN + ARP_LEN,
        .l3 = ETH_LEN,
        .l4 = ETH_LEN + ARP_LEN,
        .direction = RULE_OUT,
        .interface = (uint8_t)interface,
        .origin = ip->c->id,
        .chain = NO_CHAIN,
    };
    void *slot;

    if (!port_room(ip, port, 1) || chan_tx_reserve(&port->out, src, index, 0, &slot) != CHAN_OK)
        return false;
    eth_emit(p.hdr, to, port->ifc->mac, ETH_ARP);
    arp_emit(p.hdr + ETH_LEN, a);
    packet_put(slot, &p);
    chan_tx_commit(&port->out);
    ip->tx_frames++;
    return true;
}

static void request(struct ip *ip, unsigned interface, uint32_t target, const uint8_t to[6])
{
    const struct config_interface *ifc = ip->port[interface].ifc;
    struct arp a = {.op = ARP_REQUEST, .sender = ifc->addr.word[0], .target = target};

    memcpy(a.sender_mac, ifc->mac, 6);
    if (emit(ip, interface, to, &a, 0, ip->own_index++ | OWN_INDEX))
        count(ip, IP_C_ARP_REQUESTS_OUT);
}

/* One more request for an entry: to the known address if there is one, else to all. */
static void probe(struct ip *ip, struct arp_entry *e, uint64_t now)
{
    uint8_t mac[6];
    const unsigned interface = (unsigned)(e->key >> 32 & 0xff);

    /* The time first: a crash in between asks a second later, not at once. */
    shm_store(&e->tried_ns, now);
    shm_store(&e->tries, e->tries + 1);
    if (!mac_of(e, mac))
        memcpy(mac, broadcast, 6);
    request(ip, interface, (uint32_t)e->key, mac);
    if (ip->arp_next > now + SECOND)
        ip->arp_next = now + SECOND;
}

enum arp_answer arp_peek(struct ip *ip, unsigned interface, uint32_t addr, uint8_t mac[6])
{
    const struct arp_entry *e = find(ip, interface, addr);

    if (e == NULL)
        return ARP_NO;
    return mac_of(e, mac) ? ARP_KNOWN : ARP_WAIT;
}

enum arp_answer arp_resolve(struct ip *ip, unsigned interface, uint32_t addr, uint8_t mac[6],
                            uint64_t now)
{
    struct arp_entry *e = find(ip, interface, addr);

    if (e == NULL && (e = make(ip, interface, addr, false, now)) == NULL)
        return ARP_NO;
    if (now - e->used_ns > SECOND)
        shm_store(&e->used_ns, now);
    const bool known = mac_of(e, mac);
    if (e->tries == 0 && (!known || now - e->confirmed_ns > ARP_FRESH))
        probe(ip, e, now);
    return known ? ARP_KNOWN : ARP_WAIT;
}

static void confirm(struct arp_entry *e, uint64_t now)
{
    shm_store(&e->confirmed_ns, now);
    if (e->tries != 0)
        shm_store(&e->tries, 0u);
}

/* What a message says about its sender. */
static void learn(struct ip *ip, unsigned interface, const struct arp *a, bool for_us, uint64_t now)
{
    const struct config_interface *ifc = ip->port[interface].ifc;
    const uint32_t mask = ipv4_mask(ifc->prefix);
    struct arp_entry *e = find(ip, interface, a->sender);
    uint8_t mac[6];

    if (e == NULL) {
        if (!for_us || a->op != ARP_REQUEST) {
            count(ip, IP_C_ARP_UNSOLICITED);
            return;
        }
        /* Only who can be a neighbour; else a stranger's address would cost an entry. */
        if (((a->sender ^ ifc->addr.word[0]) & mask) != 0 ||
            (e = make(ip, interface, a->sender, true, now)) == NULL)
            return;
    }
    if (!mac_of(e, mac)) {
        if (!for_us) {
            count(ip, IP_C_ARP_UNSOLICITED);
            return;
        }
        shm_store(&e->mac_check, seal(e->key, a->sender_mac));
        confirm(e, now);
        return;
    }
    if (memcmp(mac, a->sender_mac, 6) == 0) {
        confirm(e, now);
        return;
    }
    count(ip, IP_C_ARP_DISPUTED);
    if (e->tries == 0)
        probe(ip, e, now);
}

static void reply(struct ip *ip, unsigned interface, const struct arp *a, uint64_t index)
{
    const struct config_interface *ifc = ip->port[interface].ifc;
    struct arp r = {.op = ARP_REPLY, .sender = ifc->addr.word[0], .target = a->sender};

    memcpy(r.sender_mac, ifc->mac, 6);
    memcpy(r.target_mac, a->sender_mac, 6);
    if (emit(ip, interface, a->sender_mac, &r, ip->port[interface].in.number, index))
        count(ip, IP_C_ARP_REPLIES_OUT);
    /* Before the frame goes back, whose return ends the handling of this input. */
    chan_tx_publish(&ip->port[interface].out);
}

static void announce(struct ip *ip, unsigned interface)
{
    request(ip, interface, ip->port[interface].ifc->addr.word[0], broadcast);
}

void arp_input(struct ip *ip, struct port *port, const uint8_t *p, size_t len, uint64_t index,
               uint64_t now)
{
    const unsigned interface = (unsigned)(port - ip->port);
    const uint32_t own = port->ifc->addr.word[0];
    struct arp a;

    if (!arp_parse(&a, p, len)) {
        count(ip, IP_C_ARP_BAD);
        return;
    }
    count(ip, a.op == ARP_REQUEST ? IP_C_ARP_REQUESTS_IN : IP_C_ARP_REPLIES_IN);
    if (a.sender == own || memcmp(a.sender_mac, port->ifc->mac, 6) == 0) {
        /* Somebody uses our address. Say whose it is, but not again and again. */
        if (memcmp(a.sender_mac, port->ifc->mac, 6) != 0) {
            count(ip, IP_C_ARP_CONFLICT);
            if (port->defended_ns == 0 || now - port->defended_ns >= ARP_DEFENCE) {
                port->defended_ns = now;
                announce(ip, interface);
            }
        }
        return;
    }
    const bool for_us = a.target == own;
    if (a.sender != 0) { /* 0: a probe, RFC 5227 section 2.1.1 */
        if (ipv4_never_source(a.sender) || ipv4_net_broadcast(a.sender, own, port->ifc->prefix)) {
            count(ip, IP_C_ARP_BAD);
            return;
        }
        learn(ip, interface, &a, for_us, now);
    }
    if (a.op == ARP_REQUEST && for_us)
        reply(ip, interface, &a, index);
}

void arp_announce(struct ip *ip)
{
    for (unsigned i = 0; i < ip->ports; i++)
        announce(ip, i);
    /* Once in the life of the stack: the neighbours of a successor know us. */
    shm_store(&ip->shm->announced, 1ull);
}

void arp_tick(struct ip *ip, uint64_t now)
{
    ip->arp_next = NEVER;
    for (unsigned i = 0; i < ARP_ENTRIES; i++) {
        struct arp_entry *e = &ip->shm->arp[i];

        if (e->key == 0 || e->tries == 0)
            continue;
        if (now - e->tried_ns < SECOND) {
            if (e->tried_ns + SECOND < ip->arp_next)
                ip->arp_next = e->tried_ns + SECOND;
        } else if (e->tries >= ARP_TRIES) {
            count(ip, IP_C_ARP_FAILED);
            forget(e); /* pending_run() drops what waits for it */
        } else {
            probe(ip, e, now);
        }
    }
}

void arp_recover(struct ip *ip, uint64_t now)
{
    for (unsigned i = 0; i < ARP_ENTRIES; i++) {
        struct arp_entry *e = &ip->shm->arp[i];
        const uint64_t key = e->key;

        if (key == 0)
            continue;
        const bool sane = key >> 40 == 1 && (key >> 32 & 0xff) < ip->ports &&
                          hash(key) % ARP_SETS == i / ARP_WAYS && e->confirmed_ns <= now &&
                          e->used_ns <= now && e->tried_ns <= now && e->tries <= ARP_TRIES;
        if (!sane) {
            count(ip, IP_C_RECOVERED_DROPS);
            forget(e);
            continue;
        }
        uint8_t mac[6];
        /* Nobody asks for it any more: the predecessor died between making and asking. */
        if (!mac_of(e, mac) && e->tries == 0)
            forget(e);
    }
    ip->arp_next = now;
}
