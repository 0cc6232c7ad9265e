/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The inside of the TCP server: private state, and who calls whom.
 *
 *   server.c    the component: queues, applications, turns
 *   request.c   what applications ask for         listen.c    listeners, claims
 *   input.c     SEGMENT ARRIVES                   output.c    what to send now; emit.c: sending it
 *   pmtu.c      ICMP, path MTU                    info.c      what TCP_INFO tells
 *   ecn.c       explicit congestion notification
 *   syn.c       ISNs, SYNs for listeners, cookies
 *   rx.c        received data into rings          ack.c       acknowledgements
 *   timer.c     what expires, wheel.c when         cc.h        congestion control, round-trip time
 *   loss.h      losses, and what is under way      pace.c      how fast data leaves
 *   conn.c      life of a socket, its down slot   chain.c     send buffers under way
 *   record.c    committed state                   recover.c   a successor's start
 *   lookup.c    index by addresses                ring.c      blocks in application regions
 *   port.c      sockets by local port
 *   block.c     the blocks of a connection        tune.c      how large its rings should be
 *   reclaim.c   memory of idle rings
 *   segment.c   bytes <-> struct tcp_seg          hash.c      keyed hash
 *
 * Everything in struct tcp and struct tcp_conn is private and lost at a restart. What a successor
 * needs is in struct tcp_conn_shm (record.h) and in the counters of the applications.
 */
#ifndef EFT_SERVERS_TCP_ENGINE_H
#define EFT_SERVERS_TCP_ENGINE_H

#include "cc.h"
#include "counters.h"
#include "libchan/edge/frame_return.h"
#include "libchan/edge/packet.h"
#include "libchan/edge/syscall_ctl.h"
#include "libchan/edge/tcp_ip.h"
#include "loss.h"
#include "record.h"
#include "ring.h"
#include "segment.h"
#include "servers/run/component.h"
#include "servers/wire/route.h"
#include "wheel.h"

#define MSEC 1000000ull
#define SEC  (1000 * MSEC)

enum {
    TCP_BURST = 16, /* packets of one connection in one turn */
    TCP_PMTU_ENTRIES = 256,
    TCP_SACK_RECENT = 4,           /* segments whose ranges come first in a SACK option */
    TCP_GSO_MAX = 65535 - 60 - 60, /* payload of a super-segment, whatever the headers */
    TCP_GROUP_HASH = 64,
    TCP_INDEX_FIRST = 9,  /* log2 of the first lookup table's size: a page */
    TCP_GROUP_MOVERS = 0, /* a group that is none: OP_INHERITs that wait */
    TCP_NEWS = 1024,      /* sockets whose applications are rung in one go */
};
#define NO_CONN  UINT32_MAX
#define NO_CHAIN TCP_NO_CHAIN

enum tcp_timer {
    TIMER_REXMT = 0,
    TIMER_LOSS,
    TIMER_DELACK,
    TIMER_KEEP,
    TIMER_PACE,
    TIMER_LIFE,
    TIMERS
};
/* Why the retransmission timer runs. */
enum tcp_rexmt { REXMT_NONE = 0, REXMT_DATA, REXMT_PERSIST };

/* What holds the sender up. */
enum tcp_limit { TCP_LIMIT_NONE = 0, TCP_LIMIT_BUSY, TCP_LIMIT_RWND, TCP_LIMIT_SNDBUF, TCP_LIMITS };

struct tcp_conn {
    struct tcp_record r; /* as last committed, or about to be */
    uint32_t idx;
    bool ready;    /* taken over from the record; false: only the record is there */
    bool indexed;  /* is in the lookup index */
    uint32_t hash; /* under which */
    bool dirty;    /* is in tcp.dirty */
    uint64_t news; /* turn in which it was put into tcp.news */
    bool awaiting; /* is in tcp.acked: rx_acked to be stored after publishing */
    bool ack_now;
    bool syn_now;  /* (re)send SYN or SYN-ACK */
    bool orphan;   /* is in tcp.orphans */
    bool deferred; /* its handshake waits for data: TCP_DEFER_ACCEPT */
    bool push_now; /* a small segment was kept back long enough */

    /* receive; relative offsets */
    uint64_t rx_nxt, rx_read, rx_edge, rx_acked;
    uint32_t rx_told;
    bool rx_fin;  /* FIN is in sequence: acknowledged number is one more */
    bool fin_ooo; /* a FIN was seen at fin_at, beyond a hole */
    uint64_t fin_at;
    uint32_t ts_recent;
    uint64_t ts_recent_age;
    unsigned n_ooo;
    struct tcp_range *ooo;                 /* TCP_OOO_RANGES of them, apart */
    uint32_t sack_recent[TCP_SACK_RECENT]; /* where the last ones began; newest first */
    struct tcp_range dsack;
    bool dsack_due;
    uint16_t advmss;           /* what we told the peer; bytes */
    uint16_t rcv_mss;          /* largest segment seen, at most advmss; bytes */
    uint32_t unacked;          /* received since the last ACK left; bytes */
    unsigned quickacks;        /* to be sent at once */
    bool pingpong;             /* ACKs wait for the application's answer */
    uint64_t rx_at;            /* time of the last data in order; 0: none */
    bool rx_used;              /* the receive ring may hold memory */
    struct {                   /* what the application takes in a round trip (tune.c) */
        uint64_t since, from;  /* time, rx_read */
        uint64_t taken;        /* in the last round trip; bytes */
        uint32_t rtt_us, echo; /* as a receiver sees it; our timestamp that said so last */
    } drs;

    /* send; relative offsets, the FIN counts one */
    uint64_t tx_una, snd_max, tx_free, tx_end;
    uint32_t mss, pmtu; /* payload per segment now; what the path takes, as far as we know */
    uint32_t gso;       /* largest payload of a packet for ip */
    uint64_t snd_wnd, max_wnd;
    uint32_t snd_wl1, snd_wl2;
    uint32_t chain_first, chain_last; /* 1 + number; under way, in order of sending */

    /* loss recovery: loss.h */
    struct tcp_sent_board sent;
    struct tcp_rack rack;
    struct tcp_prr prr;
    struct tcp_undo undo;
    unsigned dupacks;
    bool recovering;  /* fast recovery, until `recover` is acknowledged */
    bool lost_state;  /* after a timeout, until then */
    bool send_first;  /* the first lost one goes out whatever the window */
    uint8_t frto;     /* enum tcp_frto */
    uint64_t recover; /* snd_max when it began; 0: never */
    uint64_t small;   /* end of the last segment that was not full; 0: none */
    /* congestion control */
    uint64_t cwnd, ssthresh; /* bytes */
    uint64_t idle_since;     /* time of the last data sent */
    uint64_t pace_at;        /* when the next packet may leave (pace.c); ns */
    struct tcp_cc cc;
    struct {       /* ecn.c */
        bool echo; /* a mark was received: ECE until CWR comes */
        bool cwr;  /* cwnd was reduced: to be said by the next new segment */
        bool seen; /* the peer sends packets that may be marked */
    } ecn;

    /* timing */
    uint64_t srtt, rttvar, rto; /* ns; srtt 0: no sample yet */
    uint64_t min_rtt;           /* least of the last minutes; ns; 0: no sample yet */
    uint64_t min_rtt_now, min_rtt_before, min_rtt_at; /* for min_rtt: rtt.c */
    uint64_t rtt_round;               /* a round trip ends when it is acknowledged */
    unsigned rtt_samples, rtt_weight; /* in this one, in the last one */
    unsigned backoff, tries;
    uint64_t rtt_start;    /* when the SYN was sent, once; 0: no use */
    uint64_t when[TIMERS]; /* NEVER: off */
    uint8_t rexmt;         /* enum tcp_rexmt */
    uint64_t last_heard, progress_at;
    unsigned keep_probes;
    uint64_t challenge_at; /* until then what is not acceptable is not answered */
    uint64_t retrans_total, segs_in, segs_out;
    struct { /* for TCP_INFO (info.c); times in ns */
        uint64_t data_sent_at;
        uint64_t bytes_sent, bytes_retrans;
        uint32_t data_segs_in, data_segs_out, delivered, delivered_ce, ooo_segs, timeouts;
        uint32_t dsacks, reorderings, timeout_runs; /* segments; ACKs; runs of timeouts */
        uint64_t run_since, run_time; /* of timeouts: this one began, ns; all before */
        uint8_t limit;                /* enum tcp_limit, since limit_since; before that: */
        uint64_t limit_since, limited[TCP_LIMITS];
    } stat;
    uint64_t info_at;

    /* lists, by record number */
    uint32_t port_next;              /* bound sockets and listeners of one hash chain */
    uint32_t queue_next, queue_prev; /* in its group: connections, pending ones or claims */
    uint8_t queued;                  /* enum tcp_queue */
    uint32_t member_next;            /* listeners of one group */
};

enum tcp_queue { QUEUE_NONE = 0, QUEUE_SYN, QUEUE_PENDING, QUEUE_CLAIMS, QUEUES };

/* A listener as the peer sees it: one or more listening sockets that share its connections. */
struct tcp_group {
    struct tcp_group *next; /* in the hash by id */
    uint32_t id;
    uint32_t members; /* first; NO_CONN */
    struct {
        uint32_t first, last, count;
    } queue[QUEUES];
};

struct tcp_chain_link {
    uint32_t next, prev;           /* all under way, oldest first */
    uint32_t conn_next, conn_prev; /* of one connection; 1 + number, 0: none */
    bool used;
};

/* One table of the lookup index. */
struct tcp_table {
    struct tcp_index_entry *entry;
    uint64_t mask;
};

struct tcp_app {
    bool gone, burying;
    uint32_t generation;
    const struct up_region *up;
    struct down_region *down;
    uint32_t up_generation; /* of the region, for rich pointers */
    struct ring_space up_space, down_space;
    uint32_t *slot_conn; /* 1 + record number, by slot */
    uint32_t refs;       /* records that name it as app or rx_app */
    uint64_t work_head, scan_seen;
    uint64_t peeked;      /* entries below were looked at during the walk */
    uint32_t scan_next;   /* next slot of a running scan; == n_tcp: none */
    uint64_t heirs_until; /* dead: until then children may ask for what it had; ns, 0: no longer */
    bool heirs;           /* the last scan found something that waits for them */
};

struct tcp_pmtu {
    struct ip_addr to;
    uint64_t until; /* ns */
    uint32_t mtu;   /* bytes; 0: nothing is known */
};

struct tcp {
    struct component *c;
    const struct stack_config *cfg;
    uint64_t now;
    struct app_layout layout;
    struct tcp_conn_shm *shm;
    uint32_t n_conns;
    struct tcp_ooo_shm *ooo_shm;
    struct tcp_conn *conn;
    struct tcp_range *ooo;  /* what tcp_conn.ooo points into; untouched until there is a hole */
    uint32_t *free, n_free; /* free records below `used`; complete when `walked` */
    uint8_t *free_known;    /* during the walk: a bit per record that was found free */
    uint32_t walk;          /* next record that the walk looks at */
    bool walked;
    bool bad_record;  /* the walk met some that do not hold, and left them for its end */
    bool lost_record; /* the walk met one that cannot say whose it was */
    struct tcp_index_entry *index;         /* table of 2^n entries: from element 2^n on */
    struct tcp_table index_now, index_old; /* old: growth is under way; entry NULL: none */
    unsigned index_shift, index_most;      /* log2 of now's size; of the largest */
    uint64_t index_at;                     /* next to be moved, or swept */
    uint32_t index_used;
    struct tcp_state_shm *state_shm;
    uint32_t used; /* records below were used at some time */
    struct tcp_app_shm *app_shm;
    struct tcp_forensic *forensic;
    struct tcp_app *app[APPS_MAX];
    unsigned app_next;     /* round robin */
    unsigned spent;        /* on requests in this turn; about 10 us each at most */
    uint64_t reclaim_at;   /* when to look for memory to give back; NEVER */
    uint32_t reclaim_next; /* record where that goes on; 0: begins */
    bool reclaim_again;    /* something was met that is still in use */
    uint64_t heirs_at;     /* when a dead application's sockets have waited long enough; NEVER */
    unsigned apps;         /* highest application number + 1 */

    struct chan_rx rx_ip, rx_sys;
    struct chan_tx tx_ip, tx_sys, ret_driver[CONFIG_INTERFACES], ret_ip;
    uint64_t replay_end; /* inputs below it may have been handled by our predecessor */

    struct sent_slab sent;
    struct tcp_chain *chains;
    const uint32_t *chain_done;
    uint32_t n_chains, chain_next;
    struct tcp_chain_link *link;
    uint32_t chain_first, chain_last, chains_used;
    uint64_t chain_look, chain_wait; /* when to look for completions though nothing came; ns */

    uint32_t *dirty, *dirty2, n_dirty;
    struct app_ring news[TCP_NEWS];
    uint32_t n_news, *acked, n_acked;
    uint64_t news_turn;
    struct wheel wheel; /* of records by their earliest deadline */

    struct tcp_group *group[TCP_GROUP_HASH];
    uint32_t group_last;
    uint64_t order_last;
    uint32_t port[65536]; /* 1 + record number of the first socket */
    uint32_t port_salt;
    uint64_t out_number;                    /* running number of segments without an input */
    uint32_t iss_floor;                     /* for the SYN that replaces a TIME-WAIT */
    struct tcp_pmtu pmtu[TCP_PMTU_ENTRIES]; /* by destination */
    bool reopening;
    uint32_t orphans;        /* connections that no program holds, and that are not over */
    uint64_t cookies_until;  /* SYN cookies may come back till then; ns */
    struct tcp_conn scratch; /* of a SYN that is answered by a cookie */
    uint64_t rst_at;         /* second in which rst_n resets to strangers were sent */
    unsigned rst_n;

    uint64_t counter[TCP_COUNTERS];
    uint64_t counted; /* bit per counter that changed in this turn */
};
_Static_assert(TCP_COUNTERS <= 64, "one bit each");

static inline void tcp_count(struct tcp *t, enum tcp_counter n)
{
    t->counter[n]++;
    t->counted |= 1ull << n;
}

static inline void tcp_count_add(struct tcp *t, enum tcp_counter n, uint64_t by)
{
    t->counter[n] += by;
    t->counted |= 1ull << n;
}

/* --- sequence arithmetic --- */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}
static inline bool seq_le(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}
static inline uint32_t conn_seq(const struct tcp_conn *k, uint64_t rel)
{
    return k->r.iss + 1 + (uint32_t)rel;
}
static inline uint32_t conn_rcv_nxt(const struct tcp_conn *k)
{
    return k->r.irs + 1 + (uint32_t)k->rx_nxt + (k->rx_fin ? 1 : 0);
}
static inline uint32_t conn_seq_rx(const struct tcp_conn *k, int64_t rel)
{
    return k->r.irs + 1 + (uint32_t)rel;
}
/* Relative offset of a received sequence number near rx_nxt; may be negative. */
static inline int64_t conn_rx_rel(const struct tcp_conn *k, uint32_t seq)
{
    return (int64_t)k->rx_nxt + (int32_t)(seq - (k->r.irs + 1 + (uint32_t)k->rx_nxt));
}
static inline int64_t conn_tx_rel(const struct tcp_conn *k, uint32_t ack)
{
    return (int64_t)k->tx_una + (int32_t)(ack - conn_seq(k, k->tx_una));
}
/* The newest block says how much a ring holds: what is still in the one before it is less. */
static inline unsigned ring_shift(const struct tcp_ring *r)
{
    return r->shift[1] ? r->shift[1] : r->shift[0];
}
static inline uint64_t ring_bytes(const struct tcp_ring *r)
{
    return r->shift[0] ? 1ull << ring_shift(r) : 0;
}
static inline bool conn_synchronised(const struct tcp_conn *k)
{
    return k->r.kind == TCP_KIND_CONN && k->r.state >= TCP_ESTABLISHED;
}
/* States in which the peer may still send us data. */
static inline bool conn_receives(const struct tcp_conn *k)
{
    return k->r.state == TCP_ESTABLISHED || k->r.state == TCP_FIN_WAIT_1 ||
           k->r.state == TCP_FIN_WAIT_2;
}
static inline bool conn_has_fin(const struct tcp_conn *k)
{
    return k->r.tx_fin != TCP_NO_FIN;
}

/* --- record.c --- */
void tcp_record_commit(struct tcp *t, struct tcp_conn *k);
/* The valid copy, checked. 0, or -EBADMSG when neither copy holds. */
int tcp_record_load(const struct tcp_conn_shm *s, struct tcp_record *r);
/* Copy n, whether or not it is the valid one. False: it does not hold in itself. */
bool tcp_record_copy(const struct tcp_conn_shm *s, unsigned n, struct tcp_record *r);
/* How many records were ever used; all of them when the word in memory does not hold together. */
uint32_t tcp_record_load_used(const struct tcp *t);
void tcp_record_store_used(struct tcp *t);
void tcp_record_clear_hot(struct tcp *t, uint32_t idx);
void tcp_record_ooo(struct tcp *t, struct tcp_conn *k);
unsigned tcp_record_ooo_load(const struct tcp_conn_shm *s, const struct tcp_ooo_shm *o,
                             struct tcp_range *range);

/* --- hash.c --- */
enum tcp_purpose { TCP_PURPOSE_ISN = 0, TCP_PURPOSE_INDEX = 1, TCP_PURPOSE_PORT = 2 };
uint64_t tcp_hash(const uint8_t key[16], const void *data, size_t len);
uint64_t tcp_tuple_hash(const struct tcp *t, unsigned purpose, const struct sock_name *local,
                        const struct sock_name *remote);

/* --- lookup.c --- */
void tcp_lookup_begin(struct tcp *t, uint64_t elements);
void tcp_lookup_walked(struct tcp *t);
void tcp_lookup_add(struct tcp *t, struct tcp_conn *k);
void tcp_lookup_remove(struct tcp *t, struct tcp_conn *k);
struct tcp_conn *tcp_lookup_find(struct tcp *t, const struct sock_name *local,
                                 const struct sock_name *remote);

/* --- port.c --- */
void tcp_port_add(struct tcp *t, struct tcp_conn *k);
void tcp_port_remove(struct tcp *t, struct tcp_conn *k);
/* May `k` bind this name? 0 or -EADDRINUSE. */
int tcp_port_conflict(struct tcp *t, const struct tcp_conn *k, const struct sock_name *name,
                      uint32_t flags, bool listening);
int tcp_port_choose(struct tcp *t, const struct tcp_conn *k, struct sock_name *local,
                    const struct sock_name *remote);
struct tcp_conn *tcp_port_listener(struct tcp *t, const struct sock_name *local,
                                   const struct sock_name *remote);

/* --- conn.c --- */
struct tcp_conn *tcp_conn_get(struct tcp *t, uint32_t idx); /* takes over lazily; NULL: free */
struct tcp_conn *tcp_conn_new(struct tcp *t);
void tcp_conn_init(struct tcp *t, struct tcp_conn *k);
void tcp_conn_free(struct tcp *t, struct tcp_conn *k);
void tcp_conn_dirty(struct tcp *t, struct tcp_conn *k);
void tcp_conn_news(struct tcp *t, struct tcp_conn *k);
void tcp_news(struct tcp *t, unsigned app, uint32_t socket); /* at the end of the turn */
void tcp_news_flush(struct tcp *t);
void tcp_conn_set_state(struct tcp *t, struct tcp_conn *k, enum tcp_state state);
/* The connection is over: error for the application (0: none). Committed before anything leaves. */
void tcp_conn_end(struct tcp *t, struct tcp_conn *k, int error);
void tcp_conn_orphan(struct tcp *t, struct tcp_conn *k);           /* after its close; may end it */
void tcp_conn_abort(struct tcp *t, struct tcp_conn *k, int error); /* with an RST to the peer */
void tcp_conn_time_wait(struct tcp *t, struct tcp_conn *k);
void tcp_conn_detach_try(struct tcp *t, struct tcp_conn *k);
void tcp_conn_attach(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot);
void tcp_conn_detach(struct tcp *t, struct tcp_conn *k);
void tcp_conn_set_rx_app(struct tcp *t, struct tcp_conn *k, unsigned app);
void tcp_conn_reply(struct tcp *t, struct tcp_conn *k, int result);
void tcp_conn_publish(struct tcp *t, struct tcp_conn *k);
void tcp_conn_publish_rx(struct tcp *t, struct tcp_conn *k);
void tcp_conn_publish_tx(struct tcp *t, struct tcp_conn *k);
void tcp_conn_sync(struct tcp *t, struct tcp_conn *k);      /* reads the application's counters */
void tcp_conn_sync_read(struct tcp *t, struct tcp_conn *k); /* rx_read alone; may end it, too */
void tcp_conn_shutdown(struct tcp *t, struct tcp_conn *k);
const struct up_slot *tcp_app_up_slot(const struct tcp *t, unsigned app, uint32_t slot);
struct down_slot *tcp_app_down_slot(const struct tcp *t, unsigned app, uint32_t slot);
struct sock_info *tcp_app_info(const struct tcp *t, unsigned app, uint32_t slot);
void tcp_app_ref(struct tcp *t, unsigned app, int by);
struct sock_name tcp_name_copy(const struct sock_name *n);

/* --- block.c --- */
int tcp_conn_alloc_rx(struct tcp *t, struct tcp_conn *k, unsigned app);
int tcp_conn_alloc_tx(struct tcp *t, struct tcp_conn *k);
void tcp_conn_free_rings(struct tcp *t, struct tcp_conn *k);
void tcp_block_release(struct ring_space *s, struct tcp_ring *r);
/* Goes on in a second, larger block. False: not now. */
bool tcp_block_grow_rx(struct tcp *t, struct tcp_conn *k, unsigned shift);
bool tcp_block_grow_tx(struct tcp *t, struct tcp_conn *k, unsigned shift);
/* Old blocks that everybody has passed go. */
void tcp_block_passed(struct tcp *t, struct tcp_conn *k);
void tcp_block_publish(const struct tcp_conn *k, struct down_slot *d);

/* --- tune.c --- */
unsigned tcp_tune_shift(uint64_t bytes);     /* of the smallest block that holds so many */
unsigned tcp_tune_shift_max(uint64_t bytes); /* of the largest block that is not more */
uint64_t tcp_tune_window_max(const struct tcp *t, const struct tcp_conn *k);
void tcp_tune_echo(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s);
void tcp_tune_rx(struct tcp *t, struct tcp_conn *k); /* the application has read */
void tcp_tune_tx(struct tcp *t, struct tcp_conn *k); /* the application has written */

/* --- info.c --- */
struct sock_info tcp_info(const struct tcp *t, const struct tcp_conn *k);
void tcp_conn_publish_info(struct tcp *t, struct tcp_conn *k);
void tcp_info_limit(struct tcp *t, struct tcp_conn *k);
void tcp_info_timeout(const struct tcp *t, struct tcp_conn *k);
void tcp_info_progress(const struct tcp *t, struct tcp_conn *k); /* new data, or a SYN, was acked */

/* --- reclaim.c --- */
void tcp_reclaim_wake(struct tcp *t);
void tcp_reclaim_step(struct tcp *t); /* when reclaim_at has come */
/* Something is about to be written to the receive ring. */
static inline void tcp_reclaim_used(struct tcp *t, struct tcp_conn *k)
{
    if (!k->rx_used) {
        k->rx_used = true;
        tcp_reclaim_wake(t);
    }
}

/* --- chain.c --- */
uint32_t tcp_chain_take(struct tcp *t, struct tcp_conn *k, uint64_t start);
void tcp_chain_poll(struct tcp *t);
void tcp_chain_recover(struct tcp *t);
void tcp_chain_tx_free(struct tcp *t, struct tcp_conn *k);

/* --- timer.c --- */
void tcp_timer_set(struct tcp *t, struct tcp_conn *k, enum tcp_timer timer, uint64_t when);
void tcp_timer_stop_all(struct tcp *t, struct tcp_conn *k);
void tcp_timer_run(struct tcp *t, unsigned quota);
uint64_t tcp_timer_next(const struct tcp *t);
void tcp_timer_keep_arm(struct tcp *t, struct tcp_conn *k);

/* --- rexmt.c --- */
void tcp_timer_rexmt_arm(struct tcp *t, struct tcp_conn *k);
void tcp_timer_rexmt_expire(struct tcp *t, struct tcp_conn *k);

/* --- rx.c --- */
enum rx_result { RX_OK = 0, RX_BAD_CHECKSUM = 1 };
/* Copies what falls into holes, verifying the checksum over the copy. Nothing is remembered. */
enum rx_result tcp_rx_copy(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s);
bool tcp_rx_verify(const struct tcp_seg *s);
/* Remembers what tcp_rx_copy() brought: publishes rx_nxt or ranges, decides about the ACK. */
void tcp_rx_commit(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s);
uint64_t tcp_rx_window(struct tcp *t, struct tcp_conn *k, uint16_t *field);
bool tcp_rx_window_update_due(const struct tcp *t, const struct tcp_conn *k);
void tcp_rx_duplicate(const struct tcp *t, struct tcp_conn *k, uint32_t start, uint32_t end);
unsigned tcp_rx_sacks(struct tcp_conn *k, struct tcp_range *out, unsigned most);
void tcp_rx_answered(const struct tcp *t, struct tcp_conn *k); /* new data leaves */

/* --- ack.c --- */
/* False: the segment is to be dropped (an ACK may have been scheduled). */
bool tcp_ack_process(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s);
void tcp_ack_set_window(struct tcp *t, struct tcp_conn *k, uint64_t wnd);

/* --- ecn.c --- */
/* The peer's first SYN, or its SYN-ACK, says whether it takes part; not committed here. */
void tcp_ecn_agree(const struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s);
uint8_t tcp_ecn_syn(const struct tcp *t, const struct tcp_conn *k); /* flags of ours */
void tcp_ecn_syn_timeout(struct tcp *t, struct tcp_conn *k);        /* ours was not answered */
/* A further SYN or SYN-ACK of the peer. */
void tcp_ecn_syn_again(struct tcp *t, struct tcp_conn *k, const struct tcp_seg *s);
void tcp_ecn_received(struct tcp_conn *k, const struct tcp_seg *s); /* text in the window */
void tcp_ecn_echoed(struct tcp *t, struct tcp_conn *k, const struct tcp_ack *a);
bool tcp_ecn_marks(const struct tcp_conn *k); /* may new data be marked? */
bool tcp_ecn_cwr_due(const struct tcp_conn *k);
/* Flags and codepoint of a segment of ours; fresh: with data that is sent for the first time. */
void tcp_ecn_stamp(const struct tcp_conn *k, struct tcp_seg *s, bool fresh);

/* --- input.c --- */
/* False: held; the same packet is to be offered again. */
bool tcp_input(struct tcp *t, const struct packet *p);
/* SEGMENT ARRIVES for `k`; may change *s, may end `k`. */
void tcp_input_segment(struct tcp *t, struct tcp_conn *k, struct tcp_seg *s);
void tcp_input_challenge(struct tcp *t, struct tcp_conn *k);
void tcp_input_established(struct tcp *t, struct tcp_conn *k);

/* --- pmtu.c --- */
uint32_t tcp_pmtu_get(struct tcp *t, const struct ip_addr *to);
void tcp_pmtu_timeout(struct tcp *t, struct tcp_conn *k);
bool tcp_icmp(struct tcp *t, const struct packet *p); /* false: held, as tcp_input() */

/* --- emit.c --- */
/* Sends [start, start + len) with `flags`, an ACK and the window. False: no room or no chain now.
 */
bool tcp_emit(struct tcp *t, struct tcp_conn *k, uint64_t start, uint32_t len, uint8_t flags);
void tcp_emit_syn(struct tcp *t, struct tcp_conn *k);

/* --- output.c --- */
void tcp_output(struct tcp *t, struct tcp_conn *k);
bool tcp_output_reset(struct tcp *t, const struct tcp_conn *k);
void tcp_output_reset_for(struct tcp *t, const struct tcp_seg *s);
struct tcp_seg tcp_output_syn(const struct tcp *t, const struct tcp_conn *k);
bool tcp_output_bare(struct tcp *t, const struct tcp_seg *s, uint8_t tos, uint8_t ttl);
bool tcp_output_probe(struct tcp *t, struct tcp_conn *k);
/* A tail loss probe: new data, or the last segment again. False: neither can go now. */
bool tcp_output_tail(struct tcp *t, struct tcp_conn *k, bool *again);
void tcp_conn_route(struct tcp *t, struct tcp_conn *k);
void tcp_conn_set_mss(struct tcp *t, struct tcp_conn *k, uint32_t mtu);
uint32_t tcp_clock(const struct tcp *t, const struct tcp_conn *k);

/* --- pace.c --- */
/* May data leave now? False: TIMER_PACE is set, and calls tcp_output() when it may. */
bool tcp_pace_may(struct tcp *t, struct tcp_conn *k);
/* Largest payload of a packet for ip; at most gso. */
uint64_t tcp_pace_most(const struct tcp *t, const struct tcp_conn *k);
void tcp_pace_sent(const struct tcp *t, struct tcp_conn *k, uint64_t len);
void tcp_pace_idle(struct tcp *t, struct tcp_conn *k); /* nothing waits for the rate */

/* --- syn.c --- */
void tcp_conn_start_sending(struct tcp *t, struct tcp_conn *k);
void tcp_listen_syn(struct tcp *t, struct tcp_conn *l, const struct tcp_seg *s);
bool tcp_listen_cookie(struct tcp *t, struct tcp_conn *l, struct tcp_seg *s);
bool tcp_listen_deferred(const struct tcp *t, const struct tcp_conn *k);

/* --- listen.c --- */
/* The handshake is over; `bare`: its ACK brought neither text nor FIN. */
void tcp_listen_established(struct tcp *t, struct tcp_conn *k, bool bare);
void tcp_listen_drop(struct tcp *t, struct tcp_conn *k); /* leaves its group's queues */
struct tcp_group *tcp_group_get(struct tcp *t, uint32_t id, bool create);
uint32_t tcp_group_fresh(struct tcp *t);
void tcp_group_join(struct tcp *t, struct tcp_conn *l);
void tcp_group_leave(struct tcp *t, struct tcp_conn *l);
void tcp_group_enqueue(struct tcp *t, struct tcp_conn *k, enum tcp_queue q);
void tcp_movers_serve(struct tcp *t);
void tcp_group_serve(struct tcp *t, struct tcp_group *g);
/* The connection becomes socket (app, slot). 0 or -errno; commits. */
int tcp_listen_assign(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                      const struct up_slot *up, uint32_t req_id);
uint64_t tcp_rx_base_for(const struct down_slot *d, const struct tcp_ring *r);
int tcp_conn_move(struct tcp *t, struct tcp_conn *k, unsigned app, uint32_t slot,
                  const struct up_slot *up, uint32_t req_id);

/* --- request.c --- */
void tcp_request_slot(struct tcp *t, unsigned app, uint32_t slot);
struct tcp_conn *tcp_request_target(struct tcp *t, unsigned app, const struct up_slot *up);
void tcp_request_close(struct tcp *t, struct tcp_conn *k, bool abort);
void request_connected(struct tcp *t, struct tcp_conn *k);

/* --- recover.c --- */
void tcp_recover_begin(struct tcp *t);
void tcp_recover_step(struct tcp *t, unsigned records);
/* Takes record idx over, if it is in use and holds. */
void tcp_recover_conn(struct tcp *t, uint32_t idx);

/* --- apps.c --- */
unsigned tcp_app_work(struct tcp *t);
void tcp_app_serve_known(struct tcp *t); /* while the records are walked */
bool tcp_app_evict(struct tcp *t, uint16_t port);
bool tcp_app_pending(struct tcp *t);
void tcp_app_added(struct component *c, unsigned app);
void tcp_app_gone(struct component *c, unsigned app);

/* --- quarantine.c --- */

/* Its name in the quarantine: of this use of the record, the same in every incarnation. */
static inline uint64_t tcp_conn_item(const struct tcp_conn *k)
{
    return item_numbered(ITEM_RECORD, k->idx,
                         k->r.kind == TCP_KIND_CONN ? k->r.iss : k->r.generation);
}
/* It is worked on from here on: by time, its application or a take-over, not for an input. */
static inline void tcp_conn_begin(struct tcp *t, const struct tcp_conn *k)
{
    item_begin(t->c->block, tcp_conn_item(k));
}
/* Slow half of tcp_quarantine_drops(). */
bool tcp_quarantine_judge(struct tcp *t, const struct packet *p);
/* Is the segment at the head of the queue from ip to be passed over? */
static inline bool tcp_quarantine_drops(struct tcp *t, const struct packet *p)
{
    return (t->c->block->condemned != 0 || t->rx_ip.head < t->rx_ip.cold) &&
           tcp_quarantine_judge(t, p);
}

#endif
