/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Drivers: one process per network device. run.c is the component (queues, pool, returns); a driver
 * kind is a struct driver_ops. rs opens the device (device.h), keeps its descriptors and hands them
 * to each incarnation: a successor goes on at the indices it finds, without a rebind.
 *
 * A restart keeps: the pool, the owner of each frame, the journal, queue positions, the device's
 * own rings. It loses: nothing that was read from the device. Not promised: that a frame which was
 * being sent at the instant of a crash is sent exactly once (it may be sent twice, never not at
 * all).
 */
#ifndef EFT_DRIVERS_DRIVER_H
#define EFT_DRIVERS_DRIVER_H

#include "counters.h"
#include "libchan/edge/driver_ip.h"
#include "libchan/edge/frame_return.h"
#include "libchan/edge/ip_driver.h"
#include "servers/run/component.h"

enum frame_owner {
    FRAME_FREE = 0,
    FRAME_FILL = 1, /* given to the device to receive into */
    FRAME_RX = 2,   /* being received: named before read() (tap), or taken from the RX ring */
    FRAME_OUT = 3,  /* with the stack: in the queue to ip, or with who took it from there */
    FRAME_TX = 4,   /* given to the device to send */
};

/* TABLE_DRIVER_FRAMES: one per frame. owner is stored before the index is published. */
struct driver_frame {
    uint32_t generation; /* raised when the frame goes OUT */
    uint8_t owner;       /* enum frame_owner */
    uint8_t reserved[3];
    uint32_t off,
        len; /* of the Ethernet frame; valid for RX (len 0: not read yet) and OUT; bytes */
    uint16_t gso_size;
    uint8_t csum, reserved1[5];
    uint64_t index; /* OUT: index in the queue to ip. FILL, TX: index in that ring of the device */
};
_Static_assert(sizeof(struct driver_frame) == 32, "driver_frame");

/* Sizes that the configuration must respect (recovery/rs/config.c).
 *   tap, packet   a frame holds DRIVER_HEADROOM, the Ethernet header and the largest packet: the
 * MTU, or 65535 bytes with offload xdp           2048 or 4096; the MTU is at most frame_size - 270;
 * offload is not used */
enum {
    DRIVER_HEADROOM = 66,      /* before the Ethernet header, so that the IP header is aligned */
    DRIVER_ETHERNET = 14,      /* header, bytes */
    DRIVER_FRAMES_MAX = 32768, /* in the pool */
    DRIVER_FRAMES_MIN = 256,   /* below, one send chain of the largest size could not leave */
    DRIVER_FRAME_SIZE_GSO = 69632,  /* tap and packet with offload; 17 pages */
    DRIVER_FRAME_SIZE_SMALL = 2048, /* all others, for MTUs up to 1778 */
    DRIVER_DEVICE_FDS = 4,          /* most descriptors that RS_DEVICE carries */
};

/* TABLE_DRIVER_STATE: one element. What a move between two queues needs in order to happen once,
 * when the owner bytes do not tell it: to send by rings, the TX ring's producer index and the head
 * of the queue from ip advance together. valid is stored last and cleared last. */
struct driver_state {
    uint64_t head_to;       /* head of the queue from ip after the move */
    uint32_t ring_to;       /* producer index of the TX ring after the move */
    uint32_t journal_valid; /* 1: the move may have begun */
    uint8_t reserved[240];
};
_Static_assert(sizeof(struct driver_state) == 256, "driver_state");

/* --- inside the driver's process --- */

enum { DRIVER_RETURNS = 40, DRIVER_RX_BATCH = 16, DRIVER_DEVICE_STATE = 512, DRIVER_PIECE_MAX = 4 };

/* A packet to send, as a device sees it: headers copied and checked, pieces resolved. */
struct driver_tx {
    struct packet p;
    const uint8_t *piece[DRIVER_PIECE_MAX];
};

struct driver;

/* A kind of device. Every function runs in the driver's single thread. */
struct device_ops {
    const char *name;
    uint8_t kind; /* enum config_driver */
    unsigned nfds;
    /* Takes over the device by its descriptors. No frame has been looked at. 0 or -errno. */
    int (*attach)(struct driver *d, const int *fds, unsigned nfds);
    /* A predecessor died while frame `n` was FRAME_RX, FILL or TX. Says what becomes of the frame:
     */
    /* FRAME_FREE, FILL or TX as it is, or OUT: it holds a packet that was never published (off, */
    /* len, gso_size, csum of the record are set). Called for each such frame, in no order; there is
     * at most one OUT among the answers. */
    enum frame_owner (*salvage)(struct driver *d, unsigned n);
    /* Optional. All frames have their owner again; finishes moves between rings. */
    int (*resume)(struct driver *d);
    /* Receives up to `quota` packets; each goes through driver_receive(). Returns their number. */
    unsigned (*receive)(struct driver *d, unsigned quota);
    /* 0: the device has all bytes (or its own copy); 1: only flush() makes it so, the packet's slot
     * stays; -EAGAIN: no room now, the slot stays; other -errno: refused for good. */
    int (*send)(struct driver *d, const struct driver_tx *tx);
    /* Optional. The queue from ip is to advance to `head_to` together with what send() took. */
    void (*flush)(struct driver *d, uint64_t head_to);
    void (*flushed)(struct driver *d); /* it did */
    /* Anything that the device holds for us, visible without a system call? May be NULL. */
    bool (*pending)(struct driver *d);
    /* epoll events to wait for while asleep; asked before each sleep. */
    uint32_t (*events)(struct driver *d);
};

/* Private state of the component; lost at a restart and rebuilt from the tables. */
struct driver {
    struct component *c;
    const struct config_interface *ifc;
    const struct device_ops *dev;
    uint64_t now;
    int fd; /* the device's descriptor to wait on; -1: none */
    uint32_t watched;
    bool is_watched;
    bool started;
    bool tx_blocked;   /* the device said EAGAIN: EPOLLOUT or a retry wakes us */
    bool rx_starved;   /* no frame or no room: do not wait for EPOLLIN */
    bool device_error; /* do not wait for it; retry */
    int fds[DRIVER_DEVICE_FDS];
    unsigned nfds;

    struct driver_frame *frame; /* TABLE_DRIVER_FRAMES */
    struct driver_state *shared;
    uint8_t *pool;
    uint32_t frames, frame_size;
    struct chan_tx to_ip;
    struct chan_rx from_ip;
    struct chan_rx returns[DRIVER_RETURNS];
    unsigned nreturns;
    unsigned unpublished;
    uint32_t count_fill, count_tx; /* RX counts as FILL */
    uint32_t nfree;
    uint16_t free[DRIVER_FRAMES_MAX];       /* last in, first out: keeps the working set small */
    uint8_t touched[DRIVER_FRAMES_MAX / 8]; /* frames whose pages this incarnation has mapped */
    uint8_t device[DRIVER_DEVICE_STATE] __attribute__((aligned(64))); /* of the device kind */
};

extern const struct component_ops driver_ops;
extern const struct device_ops device_tap, device_packet, device_xdp;

/* Uses `dev` whatever the configuration says, e.g. a virtual wire (tests, simulator). Between the
 * making of the component's state and start(). */
void driver_use_device(struct component *c, const struct device_ops *dev);

/* --- for device kinds (run.c) --- */

static inline uint8_t *driver_frame_data(const struct driver *d, unsigned n)
{
    return d->pool + (uint64_t)n * d->frame_size;
}
static inline void driver_count(struct driver *d, enum driver_counter which, uint64_t n)
{
    uint64_t *p = &d->c->block->counter[which];

    __atomic_store_n(p, *p + n, __ATOMIC_RELAXED);
}
/* Takes a free frame for `owner`, whose queue index is `index`. Its number, or -1. */
int driver_take(struct driver *d, enum frame_owner owner, uint64_t index);
/* The frame is free again. */
void driver_give(struct driver *d, unsigned n);
/* Frame `n` holds what the device gave, and is looked at from here on (libchan/quarantine.h). */
void driver_frame_begin(struct driver *d, unsigned n);
/* Did its contents bring down predecessors again and again? Then it was kept, and is free. */
bool driver_frame_condemned(struct driver *d, unsigned n);
/* Room in the queue to ip for one more frame? */
bool driver_room(struct driver *d);
/* Frame `n` (RX or FILL) holds a packet: it goes OUT. There is room. Published in batches. */
void driver_receive(struct driver *d, unsigned n, uint32_t off, uint32_t len, uint16_t gso_size,
                    enum packet_csum csum);
/* Publishes what driver_receive() queued. A device with a receive ring calls it before it lets
 * go of ring entries. */
void driver_publish(struct driver *d);

#endif
