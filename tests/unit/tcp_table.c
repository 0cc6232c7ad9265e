/* SPDX-License-Identifier: BSD-2-Clause
 *
 * SEGMENT ARRIVES as tables (RFC 9293 3.10.7 with RFC 5961): every state × every kind of segment ×
 * where its sequence number lies × what it acknowledges. In the table of a state the first row that
 * fits a segment says which state follows, what is answered, and what is counted. Each row must be
 * the first for some segment.
 */
/* link: eft_tcp eft_harness */
#include "tcp_peer.h"

enum kind { SYN = 1, BARE = 2, DATA = 4, URG = 8, FIN = 16, RST = 32, ANY = 63, TEXT = DATA | URG };
/* Of the first sequence number, seen from RCV.NXT: it; the one before; 200 before; 500 behind, in
 * the window; behind the window. Text is 100 bytes. */
enum where { EXACT = 1, LAST = 2, OLD = 4, INSIDE = 8, BEYOND = 16, ANYWHERE = 31 };
enum { IN = EXACT | INSIDE, OUT = OLD | BEYOND };
/* Acknowledges: nothing (no ACK flag); all that was sent; SND.UNA; 50 before that; more than the
 * largest window before; 1000 behind SND.NXT. */
enum acks { NOACK = 1, ALL = 2, UNA = 4, BEFORE = 8, ANCIENT = 16, FUTURE = 32 };
enum { GOOD = ALL | UNA | BEFORE, BAD = ANCIENT | FUTURE, ACKED = GOOD | BAD, EVEN_NOT = 63 };

enum answer {
    NONE,
    ACK,       /* <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK> */
    CHAL,      /* the same, counted as a challenge */
    RST_SEQ,   /* <SEQ=SEG.ACK><CTL=RST> */
    RST_ACK,   /* <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK> */
    RST_SYN,   /* RST_SEQ, then our SYN once more */
    SYN_AGAIN, /* our SYN-ACK */
    LATER      /* ACK, delayed: the application has just answered */
};

#define NO_CONNECTION TCP_CLOSED
#define COUNT_NOTHING TCP_COUNTERS

struct row {
    unsigned kinds, wheres, acks;
    enum tcp_state next;
    enum answer answer;
    unsigned counted; /* enum tcp_counter */
};

static const struct row closed[] = {
    {RST, ANYWHERE, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_DROP_NO_SOCKET},
    {ANY, ANYWHERE, NOACK, NO_CONNECTION, RST_ACK, TCP_C_RESETS_OUT},
    {ANY, ANYWHERE, ACKED, NO_CONNECTION, RST_SEQ, TCP_C_RESETS_OUT},
};

static const struct row listening[] = {
    {RST, ANYWHERE, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_DROP_NO_SOCKET},
    {ANY, ANYWHERE, ACKED, NO_CONNECTION, RST_SEQ, TCP_C_RESETS_OUT},
    {SYN, ANYWHERE, NOACK, TCP_SYN_RCVD, SYN_AGAIN, TCP_C_PASSIVE_OPENS},
    {ANY, ANYWHERE, NOACK, NO_CONNECTION, NONE, TCP_C_DROP_STATE},
};

static const struct row syn_sent[] = {
    {RST, ANYWHERE, NOACK, TCP_SYN_SENT, NONE, TCP_C_DROP_STATE},
    {RST, ANYWHERE, ALL, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    {RST, ANYWHERE, EVEN_NOT, TCP_SYN_SENT, NONE, TCP_C_DROP_OLD_ACK},
    {ANY, ANYWHERE, UNA | BEFORE | BAD, TCP_SYN_SENT, RST_SYN, TCP_C_DROP_OLD_ACK},
    {SYN, ANYWHERE, ALL, TCP_ESTABLISHED, ACK, TCP_C_ESTABLISHED},
    {SYN, ANYWHERE, NOACK, TCP_SYN_RCVD, SYN_AGAIN, COUNT_NOTHING},
    {ANY, ANYWHERE, NOACK | ALL, TCP_SYN_SENT, NONE, TCP_C_DROP_STATE},
};

static const struct row syn_rcvd[] = {
    {RST, EXACT, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    {RST, INSIDE, EVEN_NOT, TCP_SYN_RCVD, CHAL, TCP_C_CHALLENGES},
    {RST, ANYWHERE, EVEN_NOT, TCP_SYN_RCVD, NONE, TCP_C_DROP_WINDOW},
    {SYN, LAST, NOACK, TCP_SYN_RCVD, SYN_AGAIN, COUNT_NOTHING},
    {SYN, ANYWHERE, EVEN_NOT, TCP_SYN_RCVD, CHAL, TCP_C_CHALLENGES},
    {ANY, OUT, EVEN_NOT, TCP_SYN_RCVD, ACK, TCP_C_DROP_WINDOW},
    {BARE, LAST, EVEN_NOT, TCP_SYN_RCVD, ACK, TCP_C_DROP_WINDOW},
    {ANY, ANYWHERE, NOACK, TCP_SYN_RCVD, NONE, TCP_C_DROP_STATE},
    {ANY, ANYWHERE, UNA | BEFORE | BAD, TCP_SYN_RCVD, RST_SEQ, TCP_C_DROP_OLD_ACK},
    {BARE, ANYWHERE, ALL, TCP_ESTABLISHED, NONE, TCP_C_ESTABLISHED},
    {TEXT, ANYWHERE, ALL, TCP_ESTABLISHED, ACK, TCP_C_ESTABLISHED},
    {FIN, EXACT, ALL, TCP_CLOSE_WAIT, ACK, TCP_C_ESTABLISHED},
    {FIN, ANYWHERE, ALL, TCP_ESTABLISHED, ACK, TCP_C_ESTABLISHED},
};

/* What all synchronised states have in common; `st` is the state itself. */
#define SYNCHRONISED(st)                                                                           \
    {RST, INSIDE, EVEN_NOT, st, CHAL, TCP_C_CHALLENGES},                                           \
        {RST, ANYWHERE, EVEN_NOT, st, NONE, TCP_C_DROP_WINDOW},                                    \
        {SYN, ANYWHERE, EVEN_NOT, st, CHAL, TCP_C_CHALLENGES},                                     \
        {ANY, OUT, EVEN_NOT, st, ACK, TCP_C_DROP_WINDOW},                                          \
        {ANY, ANYWHERE, NOACK, st, NONE, TCP_C_DROP_STATE},                                        \
    {                                                                                              \
        ANY, ANYWHERE, BAD, st, CHAL, TCP_C_DROP_OLD_ACK                                           \
    }

static const struct row established[] = {
    {RST, EXACT, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    SYNCHRONISED(TCP_ESTABLISHED),
    {BARE, IN, GOOD, TCP_ESTABLISHED, NONE, COUNT_NOTHING},
    {BARE, LAST, GOOD, TCP_ESTABLISHED, ACK, COUNT_NOTHING},
    {TEXT, INSIDE, GOOD, TCP_ESTABLISHED, ACK, TCP_C_OOO_DATA},
    {TEXT, LAST, GOOD, TCP_ESTABLISHED, ACK, COUNT_NOTHING},
    {TEXT, EXACT, GOOD, TCP_ESTABLISHED, LATER, COUNT_NOTHING},
    {FIN, EXACT, GOOD, TCP_CLOSE_WAIT, ACK, COUNT_NOTHING},
    {FIN, ANYWHERE, GOOD, TCP_ESTABLISHED, ACK, COUNT_NOTHING},
};

static const struct row fin_wait_1[] = {
    {RST, EXACT, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    SYNCHRONISED(TCP_FIN_WAIT_1),
    {BARE, IN, ALL, TCP_FIN_WAIT_2, NONE, COUNT_NOTHING},
    {BARE, IN, GOOD, TCP_FIN_WAIT_1, NONE, COUNT_NOTHING},
    {BARE, LAST, ALL, TCP_FIN_WAIT_2, ACK, COUNT_NOTHING},
    {BARE, LAST, GOOD, TCP_FIN_WAIT_1, ACK, COUNT_NOTHING},
    {TEXT, EXACT, ALL, TCP_FIN_WAIT_2, LATER, COUNT_NOTHING},
    {TEXT, EXACT, GOOD, TCP_FIN_WAIT_1, LATER, COUNT_NOTHING},
    {TEXT, ANYWHERE, ALL, TCP_FIN_WAIT_2, ACK, COUNT_NOTHING},
    {TEXT, ANYWHERE, GOOD, TCP_FIN_WAIT_1, ACK, COUNT_NOTHING},
    {FIN, EXACT, ALL, TCP_TIME_WAIT, ACK, COUNT_NOTHING},
    {FIN, EXACT, GOOD, TCP_CLOSING, ACK, COUNT_NOTHING},
    {FIN, ANYWHERE, ALL, TCP_FIN_WAIT_2, ACK, COUNT_NOTHING},
    {FIN, ANYWHERE, GOOD, TCP_FIN_WAIT_1, ACK, COUNT_NOTHING},
};

static const struct row fin_wait_2[] = {
    {RST, EXACT, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    SYNCHRONISED(TCP_FIN_WAIT_2),
    {BARE, IN, GOOD, TCP_FIN_WAIT_2, NONE, COUNT_NOTHING},
    {BARE, LAST, GOOD, TCP_FIN_WAIT_2, ACK, COUNT_NOTHING},
    {TEXT, EXACT, GOOD, TCP_FIN_WAIT_2, LATER, COUNT_NOTHING},
    {TEXT, ANYWHERE, GOOD, TCP_FIN_WAIT_2, ACK, COUNT_NOTHING},
    {FIN, EXACT, GOOD, TCP_TIME_WAIT, ACK, COUNT_NOTHING},
    {FIN, ANYWHERE, GOOD, TCP_FIN_WAIT_2, ACK, COUNT_NOTHING},
};

static const struct row closing[] = {
    {RST, EXACT, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    SYNCHRONISED(TCP_CLOSING),
    {BARE, IN, ALL, TCP_TIME_WAIT, NONE, COUNT_NOTHING},
    {BARE, IN, GOOD, TCP_CLOSING, NONE, COUNT_NOTHING},
    {BARE, LAST, ALL, TCP_TIME_WAIT, ACK, COUNT_NOTHING},
    {BARE, LAST, GOOD, TCP_CLOSING, ACK, COUNT_NOTHING},
    {TEXT, ANYWHERE, ALL, TCP_TIME_WAIT, ACK, TCP_C_DROP_STATE},
    {TEXT, ANYWHERE, GOOD, TCP_CLOSING, ACK, TCP_C_DROP_STATE},
    {FIN, ANYWHERE, ALL, TCP_TIME_WAIT, ACK, COUNT_NOTHING},
    {FIN, ANYWHERE, GOOD, TCP_CLOSING, ACK, COUNT_NOTHING},
};

static const struct row time_wait[] = {
    {RST, EXACT, EVEN_NOT, TCP_TIME_WAIT, NONE, TCP_C_RESETS_IN}, /* RFC 1337 */
    {SYN, INSIDE | BEYOND, NOACK, TCP_SYN_RCVD, SYN_AGAIN, TCP_C_PASSIVE_OPENS},
    SYNCHRONISED(TCP_TIME_WAIT),
    {BARE, IN, GOOD, TCP_TIME_WAIT, NONE, COUNT_NOTHING},
    {BARE, LAST, GOOD, TCP_TIME_WAIT, ACK, COUNT_NOTHING},
    {TEXT, ANYWHERE, GOOD, TCP_TIME_WAIT, ACK, TCP_C_DROP_STATE},
    {FIN, ANYWHERE, GOOD, TCP_TIME_WAIT, ACK, COUNT_NOTHING},
};

static const struct row close_wait[] = {
    {RST, EXACT, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    SYNCHRONISED(TCP_CLOSE_WAIT),
    {BARE, IN, GOOD, TCP_CLOSE_WAIT, NONE, COUNT_NOTHING},
    {BARE, LAST, GOOD, TCP_CLOSE_WAIT, ACK, COUNT_NOTHING},
    {TEXT, ANYWHERE, GOOD, TCP_CLOSE_WAIT, ACK, TCP_C_DROP_STATE},
    {FIN, ANYWHERE, GOOD, TCP_CLOSE_WAIT, ACK, COUNT_NOTHING},
};

static const struct row last_ack[] = {
    {RST, EXACT, EVEN_NOT, NO_CONNECTION, NONE, TCP_C_RESETS_IN},
    SYNCHRONISED(TCP_LAST_ACK),
    {ANY, ANYWHERE, ALL, NO_CONNECTION, NONE, COUNT_NOTHING},
    {BARE, IN, GOOD, TCP_LAST_ACK, NONE, COUNT_NOTHING},
    {BARE, LAST, GOOD, TCP_LAST_ACK, ACK, COUNT_NOTHING},
    {TEXT, ANYWHERE, GOOD, TCP_LAST_ACK, ACK, TCP_C_DROP_STATE},
    {FIN, ANYWHERE, GOOD, TCP_LAST_ACK, ACK, COUNT_NOTHING},
};

/* --- reaching a state --- */

static uint32_t rcv_nxt, snd_una, snd_nxt; /* as TCP has them */

static void take_numbers(void)
{
    rcv_nxt = conn_rcv_nxt(conn());
    snd_una = our((uint32_t)conn()->tx_una);
    snd_nxt = our((uint32_t)conn()->snd_max);
}

static void talked(unsigned acked)
{
    uint8_t d[300];
    established_state();
    stream(d, 0, 300);
    inject(TH_ACK, their(0), our(0), d, 300);
    sock_step(&k);
    app_writes(200);
    inject(TH_ACK, their(300), our(acked), NULL, 0);
}

static void reach(enum tcp_state state)
{
    const uint32_t fin = their(300);
    switch (state) {
    case TCP_SYN_SENT:
        syn_sent_state();
        break;
    case TCP_ESTABLISHED:
    case TCP_CLOSE_WAIT:
        talked(100);
        if (state == TCP_CLOSE_WAIT)
            inject(TH_ACK | TH_FIN, fin, our(100), NULL, 0);
        break;
    case TCP_LAST_ACK:
        talked(200);
        inject(TH_ACK | TH_FIN, fin, our(200), NULL, 0);
        sock_step(&k);
        sock_shutdown(&k);
        look();
        break;
    default:
        talked(200);
        sock_shutdown(&k);
        look();
        if (state == TCP_FIN_WAIT_2 || state == TCP_TIME_WAIT)
            inject(TH_ACK, fin, our(201), NULL, 0);
        if (state == TCP_CLOSING)
            inject(TH_ACK | TH_FIN, fin, our(200), NULL, 0);
        if (state == TCP_TIME_WAIT)
            inject(TH_ACK | TH_FIN, fin, our(201), NULL, 0);
    }
    if (state == TCP_SYN_SENT) {
        rcv_nxt = their(0);
        snd_una = our_iss;
        snd_nxt = our(0);
    } else {
        take_numbers();
    }
}

static void reach_closed(enum tcp_state state)
{
    (void)state;
    rcv_nxt = their(0);
    snd_una = snd_nxt = 12345;
}

static void reach_listen(enum tcp_state state)
{
    listen_state();
    reach_closed(state);
}

static void reach_syn_rcvd(enum tcp_state state)
{
    (void)state;
    syn_rcvd_state();
    rcv_nxt = their(0);
    snd_una = our_iss;
    snd_nxt = our(0);
}

/* --- one segment --- */

static const struct tcp_conn *find(void)
{
    struct sock_name local = {.addr = us->cfg.interface[0].addr, .port = our_port};
    struct sock_name remote = {.addr = w.side[1].cfg.interface[0].addr, .port = their_port};
    return tcp_lookup_find(us->tcp->state, &local, &remote);
}

static struct tcp_seg segment(unsigned kind, unsigned where, unsigned ack)
{
    static const uint8_t flags[] = {
        [SYN] = TH_SYN, [BARE] = 0, [DATA] = 0, [URG] = TH_URG, [FIN] = TH_FIN, [RST] = TH_RST};
    struct tcp_seg s = {.flags = flags[kind], .seq = rcv_nxt, .wnd = PEER_WINDOW};
    s.len = kind & TEXT ? 100 : 0;
    s.seq += where == LAST ? 0u - 1 : where == OLD ? 0u - 200 : 0;
    s.seq += where == INSIDE ? 500 : where == BEYOND ? 100000 : 0;
    if (ack != NOACK)
        s.flags |= TH_ACK;
    switch (ack) {
    case ALL:
        s.ack = snd_nxt;
        break;
    case UNA:
        s.ack = snd_una;
        break;
    case BEFORE:
        s.ack = snd_una - 50;
        break;
    case ANCIENT:
        s.ack = snd_una - 100000;
        break;
    case FUTURE:
        s.ack = snd_nxt + 1000;
        break;
    default:
        break;
    }
    return s;
}

static const char *verdict(const struct row *r, const struct tcp_seg *s, const uint64_t *before)
{
    static const unsigned answers[] = {[RST_SYN] = 2,   [ACK] = 1,     [CHAL] = 1, [RST_SEQ] = 1,
                                       [SYN_AGAIN] = 1, [RST_ACK] = 1, [LATER] = 0};
    const struct tcp_conn *c = find();
    uint32_t end = s->seq + s->len + (s->flags & (TH_SYN | TH_FIN) ? 1 : 0);
    bool plain = last.flags == TH_ACK && last.len == 0;
    if ((c ? c->r.state : TCP_CLOSED) != r->next)
        return "state";
    if (sent != answers[r->answer])
        return "number of answers";
    if (r->counted != COUNT_NOTHING && counter(r->counted) != before[r->counted] + 1)
        return "counter";
    switch (r->answer) {
    case ACK:
    case CHAL:
        if (!plain || last.seq != snd_nxt || last.ack != conn_rcv_nxt(c))
            return "ACK";
        if (counter(TCP_C_CHALLENGES) - before[TCP_C_CHALLENGES] != (r->answer == CHAL))
            return "challenge";
        return NULL;
    case RST_SEQ:
        return last.flags == TH_RST && last.seq == s->ack ? NULL : "RST at SEG.ACK";
    case RST_ACK:
        return last.flags == (TH_RST | TH_ACK) && last.seq == 0 && last.ack == end ? NULL : "RST";
    case RST_SYN:
        return last.flags == TH_SYN && last.seq == our_iss ? NULL : "SYN";
    case SYN_AGAIN:
        return last.flags == (TH_SYN | TH_ACK) && last.ack == c->r.irs + 1 &&
                       (snd_una != our_iss || last.seq == our_iss)
                   ? NULL
                   : "SYN-ACK";
    case LATER:
        later(41 * MSEC);
        plain = last.flags == TH_ACK && last.len == 0;
        return sent == 1 && plain && last.ack == rcv_nxt + s->len ? NULL : "delayed ACK";
    default:
        return NULL;
    }
}

static void run_table(const struct row *rows, size_t n, void (*to)(enum tcp_state),
                      enum tcp_state state)
{
    bool used[32] = {false};
    unsigned bad = 0, tried = 0;
    assert_true(n <= sizeof used);
    for (unsigned c = 0; c < 6 * 5 * 6; c++) {
        unsigned kind = 1u << c % 6, where = 1u << c / 6 % 5, ack = 1u << c / 30;
        size_t i = 0;
        while (i < n &&
               !((rows[i].kinds & kind) && (rows[i].wheres & where) && (rows[i].acks & ack)))
            i++;
        assert_true(i < n);
        used[i] = true;
        begin(NULL);
        to(state);
        struct tcp_seg s = segment(kind, where, ack);
        uint64_t before[TCP_COUNTERS];
        for (unsigned m = 0; m < TCP_COUNTERS; m++)
            before[m] = counter(m);
        deliver_segment(s, bytes, false);
        look();
        const char *wrong = verdict(&rows[i], &s, before);
        if (wrong != NULL) {
            const struct tcp_conn *now = find();
            print_error("state %u, kind %u, where %u, ack %u, row %zu: %s (state %u, %u answers, "
                        "flags %#x, seq %+d, ack %+d)\n",
                        state, kind, where, ack, i, wrong, now ? now->r.state : 0, sent, last.flags,
                        (int)(last.seq - snd_nxt), (int)(last.ack - rcv_nxt));
            bad++;
        }
        tried++;
        assert_int_equal(end(NULL), 0);
    }
    for (size_t i = 0; i < n; i++)
        if (!used[i])
            print_error("row %zu of state %u fits no segment\n", i, state), bad++;
    assert_int_equal(tried, 180);
    assert_int_equal(bad, 0);
}

#define TABLE(name, rows, to, st)                                                                  \
    static void name##_any_segment(void **state)                                                   \
    {                                                                                              \
        (void)state;                                                                               \
        run_table(rows, sizeof rows / sizeof *rows, to, st);                                       \
    }
TABLE(closed, closed, reach_closed, TCP_CLOSED)
TABLE(listen, listening, reach_listen, TCP_CLOSED)
TABLE(syn_sent, syn_sent, reach, TCP_SYN_SENT)
TABLE(syn_rcvd, syn_rcvd, reach_syn_rcvd, TCP_SYN_RCVD)
TABLE(established, established, reach, TCP_ESTABLISHED)
TABLE(fin_wait_1, fin_wait_1, reach, TCP_FIN_WAIT_1)
TABLE(fin_wait_2, fin_wait_2, reach, TCP_FIN_WAIT_2)
TABLE(closing, closing, reach, TCP_CLOSING)
TABLE(time_wait, time_wait, reach, TCP_TIME_WAIT)
TABLE(close_wait, close_wait, reach, TCP_CLOSE_WAIT)
TABLE(last_ack, last_ack, reach, TCP_LAST_ACK)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_any_segment),      cmocka_unit_test(listen_any_segment),
        cmocka_unit_test(syn_sent_any_segment),    cmocka_unit_test(syn_rcvd_any_segment),
        cmocka_unit_test(established_any_segment), cmocka_unit_test(fin_wait_1_any_segment),
        cmocka_unit_test(fin_wait_2_any_segment),  cmocka_unit_test(closing_any_segment),
        cmocka_unit_test(time_wait_any_segment),   cmocka_unit_test(close_wait_any_segment),
        cmocka_unit_test(last_ack_any_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
