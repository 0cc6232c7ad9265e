/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The parser of /etc/eft/NAME.conf: what it accepts becomes the right struct, what it refuses is
 * refused with file, line, what was found and what was expected.
 */
/* link: eft_rs */
#include "recovery/rs/config.h"

#include "libchan/wiring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct stack_config cfg;
static char error[CONFIG_ERROR_MAX];

static int parse(const char *text)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");

    assert_non_null(f);
    int rc = config_parse(&cfg, "test", f, "t.conf", error);
    fclose(f);
    return rc;
}

#define INTERFACE "[interface eft0]\naddress = 10.9.0.2/24\ngateway = 10.9.0.1\n"

static void accepts_minimum(void **state)
{
    (void)state;
    assert_int_equal(parse(INTERFACE), 0);
    assert_string_equal(error, "");
    assert_string_equal(cfg.name, "test");
    assert_int_equal(cfg.interfaces, 1);
    const struct config_interface *f = &cfg.interface[0];
    assert_string_equal(f->device, "eft0");
    assert_int_equal(f->driver, DRIVER_TAP);
    assert_int_equal(f->mtu, 1500);
    assert_int_equal(f->prefix, 24);
    assert_int_equal(ntohl(f->addr.v4), 0x0a090002);
    assert_int_equal(f->frames, 1024);
    assert_int_equal(f->frame_size, 69632);
    assert_int_equal(f->offload, 1);
    assert_int_equal(f->mac[0] & 3, 2); /* locally administered, unicast */
    assert_string_equal(f->netns, "");
    assert_int_equal(cfg.queue_slots, 512);
    assert_int_equal(cfg.tcp_connections, 131072);
    assert_int_equal(cfg.app_up_size, 1u << 30);
    assert_int_equal(cfg.port_first, 32768);
    /* connected route first, default route last */
    assert_int_equal(cfg.routes, 2);
    assert_int_equal(cfg.route[0].prefix, 24);
    assert_int_equal(ntohl(cfg.route[0].dst.v4), 0x0a090000);
    assert_int_equal(cfg.route[0].gateway.family, 0);
    assert_int_equal(cfg.route[1].prefix, 0);
    assert_int_equal(ntohl(cfg.route[1].gateway.v4), 0x0a090001);
}

static void default_is_one_tap(void **state)
{
    (void)state;
    config_default(&cfg, "eft");
    assert_int_equal(cfg.interfaces, 1);
    assert_string_equal(cfg.interface[0].device, "eft0");
    assert_int_equal(cfg.interface[0].driver, DRIVER_TAP);
    assert_int_equal(ntohl(cfg.interface[0].addr.v4), 0x0a610002);
    assert_int_equal(cfg.routes, 2);
    assert_true(cfg.users >= 1); /* root: an empty list would be everybody */
    assert_int_equal(cfg.user[0], 0);
}

static void default_mac_is_stable_and_differs(void **state)
{
    uint8_t first[6];

    (void)state;
    config_default(&cfg, "one");
    memcpy(first, cfg.interface[0].mac, 6);
    config_default(&cfg, "one");
    assert_memory_equal(first, cfg.interface[0].mac, 6);
    config_default(&cfg, "two");
    assert_memory_not_equal(first, cfg.interface[0].mac, 6);
}

static void accepts_everything(void **state)
{
    (void)state;
    assert_int_equal(parse("# comment\n"
                           "[stack]\n"
                           "shape = fused   # comment\n"
                           "users = root, 1234\n"
                           "spin_us = 20 ; comment\n"
                           "connections = 1K\n"
                           "queue_slots = 256\n"
                           "app_up_size = 256M\n"
                           "ports = 40000-50000\n"
                           "[cpu]\n"
                           "all = 0\n"
                           "tcp0 = none\n"
                           "[interface a]\n"
                           "  device = tap7\n"
                           "  driver = tap\n"
                           "  address = 10.1.0.2/16\n"
                           "  mac = 02:00:00:00:00:07\n"
                           "  mtu = 9000\n"
                           "  offload = no\n"
                           "  netns = peer\n"
                           "  frames = 64\n"
                           "  frame_size = 8192\n"
                           "[interface veth1]\n"
                           "driver = xdp\n"
                           "address = 10.2.0.2/24\n"
                           "gateway = 10.2.0.1\n"
                           "netns = /proc/1/ns/net\n"
                           "[route]\n"
                           "10.9.0.0/16 = via 10.1.0.9\n"
                           "192.168.7.0/25 = interface veth1\n"
                           "[tcp]\n"
                           "sndbuf = 64K\n"
                           "rmem_max = 6M\n"
                           "timestamps = no\n"
                           "congestion = newreno\n"
                           "timewait_ms = 1000\n"
                           "[udp]\n"
                           "rcvbuf = 128K\n"),
                     0);
    assert_int_equal(cfg.shape, SHAPE_FUSED);
    assert_int_equal(cfg.users, 2);
    assert_int_equal(cfg.user[1], 1234);
    assert_int_equal(cfg.spin_us, 20);
    assert_int_equal(cfg.tcp_connections, 1024);
    assert_int_equal(cfg.app_up_size, 256u << 20);
    assert_int_equal(cfg.port_last, 50000);
    assert_int_equal(cfg.cpu[SERVER_ID(SERVER_IP, 0)], 0);
    assert_int_equal(cfg.cpu[SERVER_ID(SERVER_TCP, 0)], -1);
    assert_int_equal(cfg.interfaces, 2);
    assert_string_equal(cfg.interface[0].device, "tap7");
    assert_string_equal(cfg.interface[0].netns, "/run/netns/peer");
    assert_int_equal(cfg.interface[0].mac[5], 7);
    assert_int_equal(cfg.interface[0].offload, 0);
    assert_int_equal(cfg.interface[1].driver, DRIVER_XDP);
    assert_int_equal(cfg.interface[1].frame_size, 4096);
    assert_string_equal(cfg.interface[1].netns, "/proc/1/ns/net");
    assert_int_equal(cfg.routes, 5);
    for (unsigned i = 1; i < cfg.routes; i++)
        assert_true(cfg.route[i - 1].prefix >= cfg.route[i].prefix);
    assert_int_equal(cfg.route[0].prefix, 25);
    assert_int_equal(cfg.route[0].interface, 1);
    assert_int_equal(cfg.tcp_sndbuf, 65536);
    assert_int_equal(cfg.tcp_rmem_max, 6 << 20);
    assert_int_equal(cfg.tcp_timestamps, 0);
    assert_int_equal(cfg.tcp_congestion, 0);
    assert_int_equal(cfg.udp_rcvbuf, 131072);
}

/* Each number of [tcp]: its default, its bounds, and what is beyond them. */
static void tcp_number(const char *key, const uint32_t *at, uint64_t value, uint64_t least,
                       uint64_t most)
{
    const struct {
        long long v;
        bool good;
    } row[] = {{(long long)least, true},
               {(long long)most, true},
               {(long long)least - 1, false},
               {(long long)most + 1, false}};

    assert_int_equal(parse(INTERFACE), 0);
    assert_int_equal(*at, value);
    assert_true(least <= value && value <= most);
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        char text[200], begin[100];
        snprintf(text, sizeof text, INTERFACE "[tcp]\n%s = %lld\n", key, row[i].v);
        assert_int_equal(parse(text), row[i].good ? 0 : -EINVAL);
        snprintf(begin, sizeof begin, "t.conf:5: %s: found \"%lld\"", key, row[i].v);
        if (row[i].good)
            assert_int_equal(*at, row[i].v);
        else
            assert_memory_equal(error, begin, strlen(begin));
    }
}

static void tcp_switch(const char *key, const uint8_t *at, uint8_t value)
{
    char text[200];

    assert_int_equal(parse(INTERFACE), 0);
    assert_int_equal(*at, value);
    snprintf(text, sizeof text, INTERFACE "[tcp]\n%s = %s\n", key, value ? "no" : "yes");
    assert_int_equal(parse(text), 0);
    assert_int_equal(*at, !value);
    snprintf(text, sizeof text, INTERFACE "[tcp]\n%s = 7\n", key);
    assert_int_equal(parse(text), -EINVAL);
}

static void tcp_word(const char *key, const uint8_t *at, uint8_t value, const char *const *word)
{
    char text[200];

    assert_int_equal(parse(INTERFACE), 0);
    assert_int_equal(*at, value);
    for (uint8_t i = 0; word[i] != NULL; i++) {
        snprintf(text, sizeof text, INTERFACE "[tcp]\n%s = %s\n", key, word[i]);
        assert_int_equal(parse(text), 0);
        assert_int_equal(*at, i);
    }
    snprintf(text, sizeof text, INTERFACE "[tcp]\n%s = perhaps\n", key);
    assert_int_equal(parse(text), -EINVAL);
    assert_non_null(strstr(error, "found \"perhaps\", expected "));
}

static void tcp_keys(void **state)
{
    static const char *const congestion[] = {"newreno", "cubic", NULL},
                             *const ecn[] = {"off", "passive", "on", NULL},
                             *const cookies[] = {"off", "on", "always", NULL},
                             *const mtu[] = {"off", "blackhole", NULL};
    (void)state;
#define X(name, value, least, most) tcp_number(&#name[4], &cfg.name, value, least, most);
    CONFIG_TCP_RINGS(X)
    CONFIG_TCP_NUMBERS(X)
#undef X
#define X(name, value) tcp_switch(&#name[4], &cfg.name, value);
    CONFIG_TCP_SWITCHES(X)
#undef X
    tcp_word("congestion", &cfg.tcp_congestion, 1, congestion);
    tcp_word("ecn", &cfg.tcp_ecn, CONFIG_ECN_PASSIVE, ecn);
    tcp_word("syncookies", &cfg.tcp_syncookies, CONFIG_COOKIES_ON, cookies);
    tcp_word("mtu_probing", &cfg.tcp_mtu_probing, CONFIG_MTU_BLACKHOLE, mtu);
}

/* What can be set is in the manual. */
static void tcp_keys_are_documented(void **state)
{
    static const char *const keys[] = {
#define X(name, ...) &#name[4],
        CONFIG_TCP_RINGS(X) CONFIG_TCP_NUMBERS(X) CONFIG_TCP_SWITCHES(X)
#undef X
            "congestion",
        "ecn", "syncookies", "mtu_probing"};
    static char text[65536];
    (void)state;
    FILE *f = fopen("docs/man/eft.conf.5", "re");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    assert_true(n > 0 && n < sizeof text - 1);
    char *section = strstr(text, ".Ss [tcp]");
    assert_non_null(section);
    char *end = strstr(section, ".Ss [udp]");
    assert_non_null(end);
    *end = '\0';
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        size_t len = strlen(keys[i]);
        const char *s = section;
        do
            s = strstr(s + 1, keys[i]);
        while (s != NULL && (s[-1] != ' ' || (s[len] != ' ' && s[len] != '\n')));
        if (s == NULL)
            fail_msg("%s is not in eft.conf(5)", keys[i]);
    }
}

static void everybody_is_an_empty_list(void **state)
{
    (void)state;
    assert_int_equal(parse("[stack]\nusers = *\n" INTERFACE), 0);
    assert_int_equal(cfg.users, 0);
}

static void rules(void **state)
{
    (void)state;
    assert_int_equal(parse(INTERFACE
                           "[filter]\n"
                           "rule = block in on eft0 proto tcp from 10.0.0.0/8 port 1024-65535 "
                           "to 10.9.0.2 port 22\n"
                           "rule = pass\n"
                           "rule = block out proto icmp to any\n"
                           "rule = pass proto 89\n"),
                     0);
    assert_int_equal(cfg.rules, 4);
    const struct config_rule *r = cfg.rule;
    assert_int_equal(r[0].action, RULE_BLOCK);
    assert_int_equal(r[0].direction, RULE_IN);
    assert_int_equal(r[0].interface, 0);
    assert_int_equal(r[0].protocol, 6);
    assert_int_equal(r[0].src_prefix, 8);
    assert_int_equal(r[0].src_port_lo, 1024);
    assert_int_equal(r[0].src_port_hi, 65535);
    assert_int_equal(r[0].dst_prefix, 32);
    assert_int_equal(r[0].dst_port_lo, 22);
    assert_int_equal(r[0].dst_port_hi, 22);
    assert_int_equal(r[1].interface, 255);
    assert_int_equal(r[1].protocol, 0);
    assert_int_equal(r[1].src_port_hi, 65535);
    assert_int_equal(r[2].direction, RULE_OUT);
    assert_int_equal(r[2].dst.family, 0);
    assert_int_equal(r[3].protocol, 89);
}

static void processors_default(void **state)
{
    server_id ids[32];

    (void)state;
    config_default(&cfg, "eft");
    unsigned n = wiring_servers(&cfg, ids, 32);
    for (unsigned i = 0; i < n; i++)
        assert_true(cfg.cpu[ids[i]] >= 0);
    assert_int_equal(cfg.cpu[SERVER_ID(SERVER_TCP, 9)], -1); /* no such server */
}

static void refuses(void **state)
{
    static const struct {
        const char *text, *error; /* what the message must begin with */
    } cases[] = {
        {"", "t.conf:0: no interface"},
        {"[stack]\nshape = round\n", "t.conf:2: shape: found \"round\", expected split or fused"},
        {"[stack]\nshap = split\n", "t.conf:2: found key \"shap\""},
        {"[stak]\n", "t.conf:1: found section [stak], expected"},
        {"[interface]\n", "t.conf:1: found section [interface], expected"},
        {"[stack\n", "t.conf:1: found \"[stack\", expected ]"},
        {"shape = split\n", "t.conf:1: found \"shape\" before any section"},
        {"[stack]\nshape\n", "t.conf:2: found \"shape\", expected KEY = VALUE"},
        {"\n\n[stack]\nqueue_slots = 500\n",
         "t.conf:4: queue_slots: found \"500\", expected a power"},
        {"[stack]\nspin_us = -1\n", "t.conf:2: spin_us: found \"-1\", expected a number from 0"},
        {"[stack]\nspin_us = 99999999999999999999\n", "t.conf:2: spin_us: found"},
        {"[stack]\nconnections = 9G\n", "t.conf:2: connections: found \"9G\""},
        {"[stack]\nusers = nobody-has-this-name\n", "t.conf:2: users: found \"nobody-has"},
        {"[stack]\nusers =\n", "t.conf:2: users: found an empty list"},
        {"[stack]\nports = 5-4\n", "t.conf:2: ports: found \"5-4\""},
        {"[cpu]\ntcp0 = 4000\n", "t.conf:2: tcp0: found \"4000\", expected none or the number"},
        {"[cpu]\nrs = 0\n", "t.conf:2: found \"rs\", expected all or a server"},
        {"[interface a]\naddress = 10.0.0.1\n", "t.conf:2: address: found \"10.0.0.1\""},
        {"[interface a]\naddress = 10.0.0.1/33\n", "t.conf:2: address: found"},
        {"[interface a]\naddress = 0.0.0.0/8\n", "t.conf:2: address: found"},
        {"[interface a]\nmtu = 1500\n", "t.conf:2: interface a has no address"},
        {"[interface a]\ndriver = e1000\n",
         "t.conf:2: driver: found \"e1000\", expected tap, xdp or packet"},
        {"[interface a]\nmac = 01:00:00:00:00:01\n", "t.conf:2: mac: found"},
        {"[interface a]\nmac = 02:00:00:00:00\n", "t.conf:2: mac: found"},
        {"[interface a]\noffload = maybe\n",
         "t.conf:2: offload: found \"maybe\", expected yes or no"},
        {"[interface a-name-that-is-too-long]\n", "t.conf:1: interface: found"},
        {"[interface a]\naddress=10.0.0.2/24\ngateway=10.0.1.1\n",
         "t.conf:3: interface a: the gateway"},
        {"[interface a]\naddress=10.0.0.2/24\n[interface a]\naddress=10.0.1.2/24\n",
         "t.conf:4: device a is used twice"},
        {"[interface a]\naddress=10.0.0.2/24\nframes = 100\n", "t.conf:3: frames: found \"100\""},
        {"[interface a]\ndriver=xdp\naddress=10.0.0.2/24\nframe_size = 8192\n",
         "t.conf:4: interface a: frame_size 8192"},
        {INTERFACE "[route]\n10.0.0.0 = via 10.9.0.1\n",
         "t.conf:5: found \"10.0.0.0\", expected a dest"},
        {INTERFACE "[route]\n10.0.0.0/8 = via 11.9.0.1\n",
         "t.conf:5: gateway 11.9.0.1 is on the net"},
        {INTERFACE "[route]\n10.0.0.0/8 = interface b\n",
         "t.conf:5: found \"b\", expected the device"},
        {INTERFACE "[route]\n10.0.0.0/8 = 10.9.0.1\n",
         "t.conf:5: found \"10.9.0.1\", expected via"},
        {INTERFACE "[filter]\nrule = drop\n", "t.conf:5: found \"drop\", expected pass or block"},
        {INTERFACE "[filter]\nrule = pass proto tpc\n", "t.conf:5: found \"tpc\", expected tcp"},
        {INTERFACE "[filter]\nrule = pass on b\n", "t.conf:5: found \"b\", expected the device"},
        {INTERFACE "[filter]\nrule = pass from 10.0.0.1/8\n",
         "t.conf:5: found \"10.0.0.1/8\", which"},
        {INTERFACE "[filter]\nrule = pass to any port 80\n", "t.conf:5: the rule names a port"},
        {INTERFACE "[filter]\nrule = pass proto tcp to any port 80-70\n",
         "t.conf:5: found \"80-70\", expected a port"},
        {INTERFACE "[filter]\nrule = pass to any from any\n",
         "t.conf:5: found \"from\", expected in"},
        {INTERFACE "[filter]\nrule = pass proto\n", "t.conf:5: found \"the end of the rule\""},
        {INTERFACE "[tcp]\nsndbuf = 100000\n",
         "t.conf:5: sndbuf: found \"100000\", expected a power"},
        {INTERFACE "[udp]\nnagle = yes\n", "t.conf:5: found key \"nagle\""},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].text[0] == '\0') {
            assert_int_equal(parse("\n"), -EINVAL);
            assert_non_null(strstr(error, "no interface"));
            continue;
        }
        if (parse(cases[i].text) != -EINVAL ||
            strncmp(error, cases[i].error, strlen(cases[i].error)))
            fail_msg("%s\ngave    : %s\nexpected: %s…", cases[i].text, error, cases[i].error);
    }
}

static void refuses_long_lines(void **state)
{
    char text[3000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy(text, "[stack]\nusers = ", 16);
    assert_int_equal(parse(text), -EINVAL);
    assert_non_null(strstr(error, "t.conf:2: the line is longer"));
}

static void missing_file(void **state)
{
    (void)state;
    assert_int_equal(config_load(&cfg, "x", "/nonexistent/file.conf", error), -ENOENT);
    assert_string_equal(error, "/nonexistent/file.conf: No such file or directory");
    assert_int_equal(config_load(&cfg, "no-such-stack-name", NULL, error), 0);
    assert_string_equal(cfg.interface[0].device, "eft0");
}

static void names(void **state)
{
    (void)state;
    assert_true(config_name_valid("eft"));
    assert_true(config_name_valid("a-b_9"));
    assert_false(config_name_valid(""));
    assert_false(config_name_valid("-a"));
    assert_false(config_name_valid("../x"));
    assert_false(config_name_valid("a b"));
    assert_false(config_name_valid("0123456789012345678901234567890123"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_minimum),
        cmocka_unit_test(default_is_one_tap),
        cmocka_unit_test(default_mac_is_stable_and_differs),
        cmocka_unit_test(accepts_everything),
        cmocka_unit_test(tcp_keys),
        cmocka_unit_test(tcp_keys_are_documented),
        cmocka_unit_test(everybody_is_an_empty_list),
        cmocka_unit_test(rules),
        cmocka_unit_test(processors_default),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_long_lines),
        cmocka_unit_test(missing_file),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
