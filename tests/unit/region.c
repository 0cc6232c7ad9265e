/* SPDX-License-Identifier: BSD-2-Clause */
/* link: eft_chan eft_harness */
/*
 * Regions and wiring: seals, read-only descriptors, headers, directories, who may map what.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libchan/edge/packet.h"
#include "tests/harness/memory.h"

static void region_is_private_and_sealed(void **state)
{
    struct stat st;
    int fd = region_create("test", 8192);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(ftruncate(fd, 16384), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
    assert_int_equal(errno, EPERM);
    close(fd);
}

static void readonly_descriptor_cannot_be_mapped_for_writing(void **state)
{
    int fd = region_create("test", 8192);
    int ro = region_open_readonly(fd);

    (void)state;
    assert_true(ro >= 0);
    assert_ptr_equal(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0), MAP_FAILED);
    assert_int_equal(errno, EACCES);
    close(ro);
    close(fd);
}

static void map_checks_what_was_announced(void **state)
{
    int fd = region_create("test", 8192);
    void *base = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct region r = {0};

    (void)state;
    assert_int_equal(region_map_fd(&r, fd, 7, 3, false), -EPROTO); /* no header yet */
    region_format(base, 7, SERVER_ID(SERVER_IP, 0), 8192, 3, 0);
    assert_int_equal(region_map_fd(&r, fd, 8, 3, false), -EPROTO);
    assert_int_equal(region_map_fd(&r, fd, 7, 4, false), -EPROTO);
    assert_int_equal(region_map_fd(&r, fd, 7, 3, false), 0);
    assert_int_equal(r.size, 8192);
    region_unmap(&r);
    munmap(base, 8192);
    close(fd);
}

static void rich_pointer_is_checked(void **state)
{
    static struct region_map map;
    static uint8_t memory[100];

    (void)state;
    map.entry[5] = (struct region){.base = memory, .size = 100, .generation = 2, .id = 5};
    struct rptr p = {.off = 10, .len = 90, .region = 5, .generation = 2};
    assert_ptr_equal(region_resolve(&map, &p), memory + 10);
    p.len = 91;
    assert_null(region_resolve(&map, &p));
    p = (struct rptr){.off = UINT64_MAX, .len = 2, .region = 5, .generation = 2};
    assert_null(region_resolve(&map, &p));
    p = (struct rptr){.region = 5, .generation = 1};
    assert_null(region_resolve(&map, &p));
    p = (struct rptr){.region = 65535, .generation = 1};
    assert_null(region_resolve(&map, &p));
    p = (struct rptr){.region = 6};
    assert_null(region_resolve(&map, &p));
}

static void directories_of_both_ends_agree(void **state)
{
    struct region_map *map = calloc(1, sizeof *map);
    struct stack_config cfg;
    server_id ids[32];

    (void)state;
    memory_config(&cfg);
    cfg.interfaces = 3;
    cfg.interface[1] = cfg.interface[2] = cfg.interface[0];
    cfg.interface[2].frames = 128;
    memory_create(map, &cfg);
    const unsigned n = wiring_servers(&cfg, ids, 32);
    unsigned edges = 0;
    for (unsigned a = 0; a < n; a++)
        for (unsigned b = 0; b < n; b++)
            for (unsigned e = 1; e < EDGES; e++) {
                const struct wiring_entry *out =
                    wiring_find(&map->entry[REGION_OF_SERVER(ids[a])], WIRING_OUT, e, ids[b]);
                const struct wiring_entry *in =
                    wiring_find(&map->entry[REGION_OF_SERVER(ids[b])], WIRING_IN, e, ids[a]);
                assert_true((out == NULL) == (in == NULL));
                if (out == NULL)
                    continue;
                edges++;
                assert_int_equal(out->count, in->count);
                assert_int_equal(out->size, in->size);
                assert_int_equal(wiring_may_map(ids[a], REGION_OF_SERVER(ids[b])), 1);
                assert_int_equal(wiring_may_map(ids[b], REGION_OF_SERVER(ids[a])), 1);
            }
    assert_int_equal(edges, 3 * 5 + 2 + 2 + 2 + 2 + 4);
    memory_destroy(map);
    free(map);
}

static void every_region_has_one_writer(void **state)
{
    struct stack_config cfg;
    server_id ids[32];

    (void)state;
    memory_config(&cfg);
    cfg.interfaces = 2;
    const unsigned n = wiring_servers(&cfg, ids, 32);
    for (unsigned region = 1; region < REGION_APP_FIRST + 8; region++) {
        unsigned writers = 0;

        for (unsigned i = 0; i < n; i++)
            writers += wiring_may_map(ids[i], (region_id)region) == 2;
        assert_true(writers <= 1);
        /* An application's up region is its own: no server writes it. */
        if (region >= REGION_APP_FIRST && REGION_APP_KIND(region) == APP_UP)
            assert_int_equal(writers, 0);
    }
    const region_id up = REGION_OF_APP(1, APP_UP);
    assert_int_equal(wiring_may_map(SERVER_ID(SERVER_IP, 0), up), 0);
    assert_int_equal(wiring_may_map(SERVER_ID(SERVER_PF, 0), up), 0);
    assert_int_equal(wiring_may_map(SERVER_ID(SERVER_SYSCALL, 0), up), 0);
}

static void broken_directory_is_refused(void **state)
{
    struct region_map *map = calloc(1, sizeof *map);
    struct stack_config cfg;
    const server_id ip = SERVER_ID(SERVER_IP, 0), pf = SERVER_ID(SERVER_PF, 0);

    (void)state;
    memory_config(&cfg);
    memory_create(map, &cfg);
    const struct region *r = &map->entry[REGION_OF_SERVER(ip)];
    struct wiring_entry *e = (struct wiring_entry *)wiring_find(r, WIRING_OUT, EDGE_IP_PF, pf);
    const struct wiring_entry good = *e;
    e->count = 3;
    assert_null(wiring_find(r, WIRING_OUT, EDGE_IP_PF, pf));
    *e = good, e->off = r->size - 64;
    assert_null(wiring_find(r, WIRING_OUT, EDGE_IP_PF, pf));
    *e = good, e->count = 1ull << 62;
    assert_null(wiring_find(r, WIRING_OUT, EDGE_IP_PF, pf));
    *e = good, e->size = 64;
    assert_null(wiring_find(r, WIRING_OUT, EDGE_IP_PF, pf));
    *e = good;
    assert_non_null(wiring_find(r, WIRING_OUT, EDGE_IP_PF, pf));
    /* Who reads elements of four bytes must not be given a table of bytes. */
    e = (struct wiring_entry *)wiring_find(r, WIRING_TABLE, TABLE_TCP_CHAIN_DONE, 0);
    assert_non_null(wiring_table(r, TABLE_TCP_CHAIN_DONE, NULL));
    e->size = 1;
    assert_null(wiring_table(r, TABLE_TCP_CHAIN_DONE, NULL));
    memory_destroy(map);
    free(map);
}

static void names_of_servers(void **state)
{
    server_id id;

    (void)state;
    assert_string_equal(server_id_name(SERVER_ID(SERVER_TCP, 3)), "tcp3");
    assert_int_equal(server_id_parse("driver2", &id), 0);
    assert_int_equal(id, SERVER_ID(SERVER_DRIVER, 2));
    assert_int_equal(server_id_parse("syscall", &id), 0);
    assert_int_equal(id, SERVER_ID(SERVER_SYSCALL, 0));
    assert_int_equal(server_id_parse("tcp16", &id), -EINVAL);
    assert_int_equal(server_id_parse("tcpx", &id), -EINVAL);
    assert_int_equal(server_id_parse("", &id), -EINVAL);
}

static void app_layout_parts_do_not_overlap(void **state)
{
    struct stack_config cfg;
    struct app_layout l;

    (void)state;
    memory_config(&cfg);
    app_layout(&l, &cfg);
    assert_true(sizeof(struct up_region) <= l.up_tcp_slots);
    assert_true(l.up_tcp_slots + l.n_tcp * sizeof(struct up_slot) <= l.up_udp_slots);
    assert_true(l.up_udp_slots + l.n_udp * sizeof(struct up_slot) <= l.up_tcp_blocks);
    assert_true(l.up_tcp_blocks < l.up_udp_blocks && l.up_udp_blocks < l.up_end);
    assert_true(l.down_tcp_slots + l.n_tcp * sizeof(struct down_slot) <= l.down_tcp_info);
    assert_true(l.down_tcp_info + l.n_tcp * sizeof(struct sock_info) <= l.down_tcp_blocks);
    assert_true(l.down_udp_slots + l.n_udp * sizeof(struct down_slot) <= l.down_udp_blocks);
    assert_int_equal(l.up_tcp_blocks % APP_PAGE | l.up_udp_blocks % APP_PAGE, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(region_is_private_and_sealed),
        cmocka_unit_test(readonly_descriptor_cannot_be_mapped_for_writing),
        cmocka_unit_test(map_checks_what_was_announced),
        cmocka_unit_test(rich_pointer_is_checked),
        cmocka_unit_test(directories_of_both_ends_agree),
        cmocka_unit_test(every_region_has_one_writer),
        cmocka_unit_test(broken_directory_is_refused),
        cmocka_unit_test(names_of_servers),
        cmocka_unit_test(app_layout_parts_do_not_overlap),
    };
    return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}
