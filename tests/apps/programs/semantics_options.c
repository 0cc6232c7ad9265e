/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Options of sockets: what was set, what TCP_INFO tells, which congestion control there is.
 */
#include "semantics.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void options(void)
{
    static const struct {
        const char *name;
        int level, option, value;
    } list[] = {{"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, 50000},
                {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, 50000},
                {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 5},
                {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1},
                {"SO_BROADCAST", SOL_SOCKET, SO_BROADCAST, 1},
                {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 7},
                {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, 3},
                {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 9},
                {"TCP_CORK", IPPROTO_TCP, TCP_CORK, 1},
                {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 60},
                {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 10},
                {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 4},
                {"TCP_KEEPIDLE 0", IPPROTO_TCP, TCP_KEEPIDLE, 0},
                {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 3000},
                {"IP_TOS", IPPROTO_IP, IP_TOS, 16},
                {"IP_TTL", IPPROTO_IP, IP_TTL, 33},
                {"IP_TTL 0", IPPROTO_IP, IP_TTL, 0},
                {"option 999", SOL_SOCKET, 999, 1}};
    puts("options");
    int fd = socket(AF_INET, SOCK_STREAM, 0), v;
    socklen_t len = sizeof v;
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        int r = setsockopt(fd, list[i].level, list[i].option, &list[i].value, sizeof(int));
        if (r == 0)
            r = getsockopt(fd, list[i].level, list[i].option, &v, &len);
        say(list[i].name, r == 0 ? v : -1);
    }
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len);
    say("SO_TYPE", v);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &len);
    say("SO_DOMAIN", v);
    struct linger l = {1, 3};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    memset(&l, 0, sizeof l);
    len = sizeof l;
    getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len);
    printf("  %-34s %d %d\n", "SO_LINGER", l.l_onoff, l.l_linger);
    say("short option", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, 1));
    close(fd);
}

/* Linux's struct tcp_info, by offset: the C library's is older. */
union info {
    uint8_t byte[512];
    uint32_t word[128];
    uint64_t wide[64];
};
enum { STATE = 0, CA_STATE = 1, RETRANSMITS = 2, PROBES = 3, BACKOFF = 4, OPTIONS = 5 };

static union info info(int fd)
{
    union info i;
    socklen_t len = sizeof i;
    memset(&i, 0, sizeof i);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) != 0 || len < 232)
        say("TCP_INFO", -1);
    return i;
}

/* Not the same each time, but within what makes sense. */
static void within(const char *what, uint64_t v, uint64_t least, uint64_t most)
{
    if (least <= v && v <= most)
        printf("  %-34s in range\n", what);
    else
        printf("  %-34s %llu\n", what, (unsigned long long)v);
}

void tcp_info(void)
{
    enum { BYTES = 300000 };
    static char data[BYTES];
    static const struct {
        const char *name;
        unsigned offset;
    } same[] = {
        {"snd_mss", 16},     {"unacked", 24},        {"sacked", 28},   {"lost", 32},
        {"retrans", 36},     {"fackets", 40},        {"pmtu", 60},     {"advmss", 84},
        {"reordering", 88},  {"total_retrans", 100}, {"notsent", 144}, {"delivered_ce", 196},
        {"dsack_dups", 216}, {"reord_seen", 220},    {"ooopack", 224}, {"rehash", 236}};
    static const struct {
        const char *name;
        unsigned offset;
        uint32_t least, most;
    } range[] = {{"rto", 8, 200000, 500000},
                 {"ato", 12, 1000, 500000},
                 {"rcv_mss", 20, 500, 1460},
                 {"last_data_sent", 44, 0, 60000},
                 {"last_ack_sent", 48, 0, 0},
                 {"last_data_recv", 52, 0, 60000},
                 {"last_ack_recv", 56, 0, 60000},
                 {"rcv_ssthresh", 64, 10000, 100 << 20},
                 {"rtt", 68, 1, 1000000},
                 {"rttvar", 72, 1, 1000000},
                 {"snd_ssthresh", 76, 2, INT32_MAX},
                 {"snd_cwnd", 80, 10, 100000},
                 {"rcv_space", 96, 10000, 100 << 20},
                 {"segs_out", 136, 208, 1000},
                 {"segs_in", 140, 208, 1000},
                 {"min_rtt", 148, 1, 1000000},
                 {"data_segs_in", 152, 208, 1000},
                 {"data_segs_out", 156, 208, 1000},
                 {"delivered", 192, 208, 1000},
                 {"snd_wnd", 228, 10000, 100 << 20}};
    static const struct {
        const char *name;
        unsigned offset;
        uint64_t least, most;
    } wide[] = {{"pacing_rate", 104, 1, UINT64_MAX},
                {"max_pacing_rate", 112, UINT64_MAX, UINT64_MAX},
                {"bytes_acked", 120, BYTES + 12, BYTES + 13}, /* with the SYN */
                {"bytes_received", 128, BYTES, BYTES},
                {"delivery_rate", 160, 1, UINT64_MAX},
                {"busy_time", 168, 0, 60000000},
                {"rwnd_limited", 176, 0, 60000000},
                {"sndbuf_limited", 184, 0, 60000000},
                {"bytes_sent", 200, BYTES + 12, BYTES + 12},
                {"bytes_retrans", 208, 0, 0}};
    union info i;
    socklen_t len;
    puts("TCP_INFO");
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say("fresh", info(fd).byte[STATE]);
    struct sockaddr_in any = {.sin_family = AF_INET};
    if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 5) != 0)
        say("listen", -1);
    i = info(fd);
    say("listening", i.byte[STATE]);
    say("pending", i.word[24 / 4]);
    say("backlog", i.word[28 / 4]);
    close(fd);

    fd = dial();
    tell(fd, "echo 300000\n");
    for (size_t out = 0, in = 0; in < BYTES;) {
        if (out < BYTES)
            out += (size_t)send(fd, data, BYTES - out < 10000 ? BYTES - out : 10000, 0);
        if (out == BYTES || in + 100000 < out) {
            ssize_t r = recv(fd, data, BYTES - in, 0);
            if (r <= 0)
                break;
            in += (size_t)r;
        }
    }
    for (int n = 0; n < 500; n++) { /* the last byte was acknowledged with its echo, or soon is */
        i = info(fd);
        if (i.word[24 / 4] == 0)
            break;
        poll(NULL, 0, 10);
    }
    say("state", i.byte[STATE]);
    say("ca_state", i.byte[CA_STATE]);
    say("retransmits", i.byte[RETRANSMITS]);
    say("probes", i.byte[PROBES]);
    say("backoff", i.byte[BACKOFF]);
    say("options", i.byte[OPTIONS] & 7);
    for (size_t n = 0; n < sizeof same / sizeof same[0]; n++)
        say(same[n].name, i.word[same[n].offset / 4]);
    for (size_t n = 0; n < sizeof range / sizeof range[0]; n++) {
        uint32_t v = i.word[range[n].offset / 4];
        within(range[n].name, v, range[n].least, range[n].most);
    }
    for (size_t n = 0; n < sizeof wide / sizeof wide[0]; n++) {
        uint64_t v = i.wide[wide[n].offset / 8];
        within(wide[n].name, v, wide[n].least, wide[n].most);
    }
    len = 104; /* what old programs know of it, and less */
    say("length", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
    say("length", len);
    len = 5;
    say("length", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
    say("length", len);
    tell(fd, "fin\n");
    say("end", recv(fd, data, 1, 0));
    say("state", info(fd).byte[STATE]);
    close(fd);
}

void congestion(void)
{
    static const char *const name[] = {"cubic", "reno", "nonesuch", "newreno", ""};
    char got[64];
    puts("TCP_CONGESTION");
    int fd = dial();
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        socklen_t len = sizeof got;
        memset(got, 0, sizeof got);
        say(name[i],
            setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name[i], (socklen_t)strlen(name[i])));
        say("get", getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, got, &len));
        printf("  %-34s %s\n", "is", got);
        say("length", len);
    }
    socklen_t len = 3;
    memset(got, 0, sizeof got);
    say("short get", getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, got, &len));
    printf("  %-34s %s\n", "is", got);
    say("length", len);
    close(fd);
}
