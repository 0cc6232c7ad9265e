/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A wire with conditions, without I/O and without a clock: frames go in with the time of their
 * arrival, and come out when their time has come. Two directions that share nothing but the seed.
 *
 * What happens to a frame is a function of (seed, direction, kind, number), where the kind is TCP,
 * other IP, or anything else, and the number counts the frames of that kind in that direction. Two
 * senders that send the same packets through the same seed therefore lose the same ones, whatever
 * their timing, and a stray ARP or ping moves nobody's losses. Each condition draws from a sequence
 * of its own: changing one leaves the others' choices alone.
 *
 * The order: burst and uniform loss, duplication, corruption; the queue in front of the wire and
 * the time on it (rate); delay, jitter and reordering.
 *
 *   linkem.c     real devices and a real clock          tests/unit/link.c   virtual time
 */
#ifndef EFT_TESTS_TOOLS_LINK_H
#define EFT_TESTS_TOOLS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINK_FRAME_MAX = 16384,
    LINK_QUEUE_MAX = 65536, /* packets */
    LINK_WIRE_EXTRA = 24,   /* preamble, checksum and gap of Ethernet; bytes on the wire */
};
#define LINK_NEVER UINT64_MAX

enum link_kind { LINK_TCP = 0, LINK_IP, LINK_OTHER, LINK_KINDS };

/* All per direction; percentages of packets; 0 is off. */
struct link_conditions {
    double delay_us, jitter_us;
    double rate_mbit;
    double queue, queue_bytes; /* the packet on the wire included; tail drop beyond either */
    double mark;               /* ECT packets that meet so many in the queue are marked CE */
    double loss;               /* outside a burst */
    double burst_enter, burst_leave, burst_loss; /* Gilbert-Elliott */
    double reorder, dup, corrupt;
};

struct link_counts {
    uint64_t received, delivered, bytes, lost, overflow, marked, reordered, duplicated, corrupted;
    uint64_t refused;           /* by the device at the far end; counted by the caller */
    uint64_t queue_most;        /* longest queue met; packets */
    uint64_t late_ns, late_max; /* released after their time; sum and worst, ns */
};

struct link_frame {
    struct link_frame *next; /* in the list of unused ones */
    uint32_t len;
    uint8_t data[LINK_FRAME_MAX];
};

struct link_direction {
    struct link_conditions with;
    struct link_counts count;
    uint64_t number[LINK_KINDS];
    bool burst[LINK_KINDS];
    uint64_t free_at;               /* when the wire has sent what was given to it; ns */
    uint64_t last;                  /* delivery of the newest packet in order; ns */
    struct link_departure *departs; /* a ring: what the queue holds, by when it leaves */
    unsigned first, queued;
    uint64_t queued_bytes;
};

/* 0: a to b, 1: b to a */
struct link {
    uint64_t seed;
    struct link_direction direction[2];
    struct link_event *heap;
    size_t heap_n, heap_size;
    uint64_t order; /* running number of events: the earlier one of two at the same time first */
    struct link_frame *unused;
};

/* 0 or -ENOMEM. */
int link_open(struct link *l, uint64_t seed);
void link_close(struct link *l);

/* "NAME" for both directions, "ab-NAME" or "ba-NAME" for one. False: no such condition. */
bool link_set(struct link *l, const char *name, double value);

/* A frame to be filled by the caller and given to link_arrive or link_free. NULL: no memory. */
struct link_frame *link_frame(struct link *l);
void link_free(struct link *l, struct link_frame *f);

/* The frame entered at `now` (ns, never going back). Takes it over. 0 or -ENOMEM. */
int link_arrive(struct link *l, unsigned direction, struct link_frame *f, uint64_t now);

/* When the next frame is due; LINK_NEVER: nothing is under way. */
uint64_t link_next(const struct link *l);

/* The next frame that is due at `now`, or NULL. To be given back by link_free. */
struct link_frame *link_release(struct link *l, uint64_t now, unsigned *direction);

#endif
