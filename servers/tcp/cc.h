/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Congestion control: how many bytes of a connection may be in the network. An algorithm is a
 * struct tcp_cc_ops and its part of union tcp_cc_state; tcp_record.congestion chooses it. What they
 * share is in cc.c: slow start (with HyStart++, hystart.c), one reduction per window, undo,
 * validation of the window, idle times, the pacing rate.
 *
 * Loss recovery calls tcp_cc_*(), decides when, and may steer cwnd between ssthresh and what is in
 * flight while it lasts (PRR). It leaves cwnd at ssthresh when it ends.
 *
 * All of it is private and lost at a restart: a connection then begins as after idle, with the
 * initial window and no threshold.
 */
#ifndef EFT_SERVERS_TCP_CC_H
#define EFT_SERVERS_TCP_CC_H

#include <stdbool.h>
#include <stdint.h>

struct tcp;
struct tcp_conn;

/* Values of tcp_record.congestion, OPT_CONGESTION and stack_config.tcp_congestion. */
enum tcp_cc_algorithm { TCP_CC_NEWRENO = 0, TCP_CC_CUBIC = 1, TCP_CC_ALGORITHMS };

enum tcp_cc_event { TCP_CC_NONE = 0, TCP_CC_LOSS, TCP_CC_ECN, TCP_CC_TIMEOUT };

#define TCP_CC_NO_THRESHOLD UINT32_MAX /* ssthresh before the first reduction */
#define TCP_CC_CWND_MAX     (1ull << 30)

union tcp_cc_state {
    struct {
        uint64_t acked; /* since the window grew last; bytes */
    } newreno;
    struct {                /* RFC 9438 4.1; in bytes, not segments */
        uint64_t epoch;     /* when this stage of congestion avoidance began; ns; 0: it did not */
        double w_max, k;    /* the plateau; bytes. When it is reached, from epoch; s */
        double w_est;       /* what Reno would have; bytes */
        double prior, last; /* cwnd before the last reduction. cwnd as we left it; bytes */
    } cubic;
};

struct tcp_cc_ops {
    const char *name; /* as in TCP_CONGESTION */
    /* The window after the event, not below two segments (cc.c sees to that). cwnd is still what it
     * was before. */
    uint64_t (*reduce)(struct tcp_conn *k, uint64_t flight, enum tcp_cc_event event);
    /* `bytes` were delivered in congestion avoidance, the window having been in use: raises cwnd.
     */
    void (*avoid)(struct tcp *t, struct tcp_conn *k, uint64_t bytes);
    /* For `ns` the window was not in use: that time does not count. NULL: nothing depends on it. */
    void (*paused)(struct tcp_conn *k, uint64_t ns);
    /* The next time in avoid() begins anew. NULL: as for paused. */
    void (*restart)(struct tcp_conn *k);
};
extern const struct tcp_cc_ops tcp_cc_newreno, tcp_cc_cubic;

/* HyStart++ (RFC 9406): a round is a window, ended by the ACK of what was sent last in the one
 * before. */
struct tcp_hystart {
    uint64_t least, least_before; /* RTT in this round and the one before; ns; NEVER: none */
    uint64_t recent;              /* the least of the last samples */
    uint64_t baseline;       /* `recent` when conservative slow start began; NEVER: it did not */
    uint8_t samples, rounds; /* that `recent` is of; of conservative slow start */
};

struct tcp_cc {
    union tcp_cc_state state;
    struct tcp_hystart hystart;
    uint64_t round_end;           /* relative offset: this round ends when it is acknowledged */
    uint64_t round_at, round_una; /* when this round began; tx_una then */
    uint64_t rate;                /* acknowledged in the last one; bytes/s */
    /* most that was in flight in this round, in the one before; bytes */
    uint64_t used, used_before;
    uint64_t paused_at;      /* the window is not in use since; ns; 0: it is */
    enum tcp_cc_event event; /* the last one that reduced cwnd */
    uint64_t event_end; /* snd_max at that time: what happens to data below is the same event */
    struct {
        union tcp_cc_state state;
        uint64_t cwnd, ssthresh; /* cwnd 0: nothing is kept */
    } before;                    /* the event, for tcp_cc_undo() */
};

/* --- cc.c --- */

/* The connection is established, or taken over. */
void tcp_cc_init(struct tcp *t, struct tcp_conn *k);
/* The program chose another one; cwnd and ssthresh stay. -ENOENT: there is no such. */
int tcp_cc_select(struct tcp_conn *k, uint64_t algorithm);
/* The name for TCP_CONGESTION. */
const char *tcp_cc_name(uint8_t algorithm);
/* Initial and restart window (RFC 6928, 5681 4.1); bytes. */
uint64_t tcp_cc_initial(const struct tcp *t, const struct tcp_conn *k);
/* New data was acknowledged, tx_una has moved. bytes: delivered by this ACK (what was SACKed
 * earlier was counted then). flight: snd_max - tx_una before it. */
void tcp_cc_acked(struct tcp *t, struct tcp_conn *k, uint64_t bytes, uint64_t flight);
/* Fast recovery begins. cwnd is not above ssthresh afterwards. */
void tcp_cc_enter_recovery(struct tcp *t, struct tcp_conn *k, uint64_t flight);
/* The retransmission timer expired; to be called before backoff is raised. cwnd is one segment. */
void tcp_cc_timeout(struct tcp *t, struct tcp_conn *k, uint64_t flight);
/* The peer echoed a congestion mark. True: cwnd was reduced (once per window, RFC 3168 6.1.2), and
 * CWR is to be sent. */
bool tcp_cc_ecn(struct tcp *t, struct tcp_conn *k, uint64_t flight);
/* The last event was none: what it changed becomes what it was, if that is more than there is now.
 */
void tcp_cc_undo(struct tcp *t, struct tcp_conn *k);
/* Nothing is in flight and nothing was sent for longer than the timeout. */
void tcp_cc_idle(struct tcp *t, struct tcp_conn *k);
/* Bytes per second, as Linux: twice cwnd per round trip in slow start, 1.2 times after it. 0: not
 * known yet, do not pace. */
uint64_t tcp_cc_pacing_rate(const struct tcp *t, const struct tcp_conn *k);

/* --- hystart.c --- */
void tcp_hystart_init(struct tcp_hystart *h);
void tcp_hystart_sample(struct tcp_hystart *h, uint64_t rtt);
void tcp_hystart_round(struct tcp_conn *k);
/* By how much cwnd may grow in slow start for `bytes` delivered; may end slow start (ssthresh). */
uint64_t tcp_hystart_grow(struct tcp_conn *k, uint64_t bytes);

/* --- rtt.c --- */
void tcp_rtt_init(struct tcp *t, struct tcp_conn *k);
/* Any number of samples per round trip, each of a segment that was sent once (Karn), or told by
 * its timestamp. */
void tcp_rtt_sample(struct tcp *t, struct tcp_conn *k, uint64_t rtt);
/* The timeout as it is now, backed off; ns. */
uint64_t tcp_rtt_timeout(const struct tcp *t, const struct tcp_conn *k);

#endif
