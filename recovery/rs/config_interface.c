/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The sections [interface NAME] and [route], and what follows from them: MAC addresses, pools,
 * connected and default routes.
 */
#include "config.h"

#include <errno.h>

enum { TAP_FRAMES = 1024, TAP_FRAME_SIZE = 69632, XDP_FRAMES = 4096, XDP_FRAME_SIZE = 4096 };

int config_bool(struct config_parser *p, const char *key, const char *value, uint8_t *at)
{
    if (strcmp(value, "yes") == 0)
        *at = 1;
    else if (strcmp(value, "no") == 0)
        *at = 0;
    else
        return config_fail(p, "%s: found \"%s\", expected yes or no", key, value);
    return 0;
}

static int store_text(struct config_parser *p, const char *key, const char *value, char *at,
                      size_t size)
{
    if (value[0] == '\0' || strlen(value) >= size)
        return config_fail(p, "%s: found \"%s\", expected 1 to %zu characters", key, value,
                           size - 1);
    memset(at, 0, size);
    strcpy(at, value);
    return 0;
}

static int mac(struct config_parser *p, const char *value, uint8_t *at)
{
    unsigned b[6];
    int end = 0;

    if (sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
               &end) != 6 ||
        value[end] != '\0' || (b[0] & 1) != 0)
        return config_fail(p, "mac: found \"%s\", expected a unicast address as 02:00:00:00:00:01",
                           value);
    for (int i = 0; i < 6; i++)
        at[i] = (uint8_t)b[i];
    return 0;
}

/* Stable: the same stack, device and machine give the same address across every restart (a new one
 * is black-holed by the peers for seconds). FNV-1a, folded; locally administered, unicast. */
static void default_mac(const struct stack_config *cfg, struct config_interface *f)
{
    uint64_t h = 0xcbf29ce484222325u;
    char id[64] = "";
    FILE *file = fopen("/etc/machine-id", "re");

    if (file != NULL) {
        if (fgets(id, sizeof id, file) == NULL)
            id[0] = '\0';
        fclose(file);
    }
    const char *parts[] = {cfg->name, "/", f->device, "/", id};
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (const char *s = parts[i]; *s != '\0'; s++)
            h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    h ^= h >> 48;
    f->mac[0] = 0x02;
    for (int i = 1; i < 6; i++)
        f->mac[i] = (uint8_t)(h >> (8 * i));
}

int config_key_interface(struct config_parser *p, const char *key, const char *value)
{
    struct config_interface *f = &p->cfg->interface[p->interface];
    uint64_t v;

    if (strcmp(key, "device") == 0)
        return store_text(p, key, value, f->device, sizeof f->device);
    if (strcmp(key, "netns") == 0) {
        char path[128];
        if (value[0] == '/')
            return store_text(p, key, value, f->netns, sizeof f->netns);
        if (value[0] == '\0' || strchr(value, '/') != NULL)
            return config_fail(p, "netns: found \"%s\", expected a path or a name in /run/netns",
                               value);
        snprintf(path, sizeof path, "/run/netns/%.100s", value);
        return store_text(p, key, path, f->netns, sizeof f->netns);
    }
    if (strcmp(key, "driver") == 0) {
        if (strcmp(value, "tap") == 0)
            f->driver = DRIVER_TAP;
        else if (strcmp(value, "xdp") == 0)
            f->driver = DRIVER_XDP;
        else if (strcmp(value, "packet") == 0)
            f->driver = DRIVER_PACKET;
        else
            return config_fail(p, "driver: found \"%s\", expected tap, xdp or packet", value);
        return 0;
    }
    if (strcmp(key, "address") == 0) {
        if (config_prefix(value, &f->addr, &f->prefix, false) != 0 || ip_addr_any(&f->addr))
            return config_fail(p, "address: found \"%s\", expected an address as 10.9.0.2/24",
                               value);
        return 0;
    }
    if (strcmp(key, "gateway") == 0) {
        if (config_addr(value, &p->gateway[p->interface]) != 0)
            return config_fail(p, "gateway: found \"%s\", expected an address as 10.9.0.1", value);
        return 0;
    }
    if (strcmp(key, "mac") == 0) {
        p->mac_given[p->interface] = true;
        return mac(p, value, f->mac);
    }
    if (strcmp(key, "offload") == 0)
        return config_bool(p, key, value, &f->offload);
    if (strcmp(key, "mtu") == 0) {
        if (config_number(value, 576, 65521, &v) != 0)
            return config_fail(p, "mtu: found \"%s\", expected a number from 576 to 65521", value);
        f->mtu = (uint32_t)v;
        return 0;
    }
    if (strcmp(key, "frames") == 0) {
        if (config_number(value, 64, 1u << 20, &v) != 0 || (v & (v - 1)) != 0)
            return config_fail(
                p, "frames: found \"%s\", expected a power of two from 64 to 1048576", value);
        f->frames = (uint32_t)v;
        return 0;
    }
    if (strcmp(key, "frame_size") == 0) {
        if (config_number(value, 2048, 1u << 20, &v) != 0 || v % 2048 != 0)
            return config_fail(p, "frame_size: found \"%s\", expected a multiple of 2048 up to 1M",
                               value);
        f->frame_size = (uint32_t)v;
        return 0;
    }
    return 1;
}

int config_new_interface(struct config_parser *p, const char *name)
{
    struct stack_config *cfg = p->cfg;

    if (cfg->interfaces == CONFIG_INTERFACES)
        return config_fail(p, "there are more than %d interfaces", CONFIG_INTERFACES);
    p->interface = cfg->interfaces++;
    struct config_interface *f = &cfg->interface[p->interface];
    *f = (struct config_interface){.driver = DRIVER_TAP, .offload = 1, .mtu = 1500};
    return store_text(p, "interface", name, f->device, sizeof f->device);
}

/* ---- [route] ---- */

static int add_route(struct config_parser *p, struct ip_addr dst, uint8_t prefix,
                     struct ip_addr gateway, int interface)
{
    struct stack_config *cfg = p->cfg;

    if (cfg->routes == CONFIG_ROUTES)
        return config_fail(p, "there are more than %d routes", CONFIG_ROUTES);
    dst.v4 &= config_mask(prefix);
    cfg->route[cfg->routes++] = (struct config_route){
        .dst = dst, .gateway = gateway, .prefix = prefix, .interface = (uint8_t)interface};
    return 0;
}

/* The interface on whose network `a` is; -1: none. */
static int on_link(const struct stack_config *cfg, const struct ip_addr *a)
{
    for (int i = 0; i < cfg->interfaces; i++) {
        const struct config_interface *f = &cfg->interface[i];
        if (((f->addr.v4 ^ a->v4) & config_mask(f->prefix)) == 0)
            return i;
    }
    return -1;
}

int config_key_route(struct config_parser *p, const char *key, const char *value)
{
    struct stack_config *cfg = p->cfg;
    struct ip_addr dst, gateway = {0};
    uint8_t prefix;

    if (config_prefix(key, &dst, &prefix, false) != 0)
        return config_fail(p, "found \"%s\", expected a destination as 10.0.0.0/8", key);
    if (strncmp(value, "via ", 4) == 0) {
        value += 4 + strspn(value + 4, " \t");
        if (config_addr(value, &gateway) != 0)
            return config_fail(p, "found \"%s\", expected the address of a gateway", value);
        int i = on_link(cfg, &gateway);
        if (i < 0)
            return config_fail(p, "gateway %s is on the network of no interface declared above",
                               value);
        return add_route(p, dst, prefix, gateway, i);
    }
    if (strncmp(value, "interface ", 10) == 0) {
        value += 10 + strspn(value + 10, " \t");
        for (int i = 0; i < cfg->interfaces; i++)
            if (strcmp(cfg->interface[i].device, value) == 0)
                return add_route(p, dst, prefix, gateway, i);
        return config_fail(p, "found \"%s\", expected the device of an interface declared above",
                           value);
    }
    return config_fail(p, "found \"%s\", expected via ADDRESS or interface NAME", value);
}

/* Defaults and checks of one interface, once everything is read. */
int config_finish_interface(struct config_parser *p, int i)
{
    struct stack_config *cfg = p->cfg;
    struct config_interface *f = &cfg->interface[i];
    bool tap = f->driver != DRIVER_XDP; /* or packet, which reads the same kind of frames */
    if (f->addr.family == 0)
        return config_fail(p, "interface %s has no address; expected address = A.B.C.D/LENGTH",
                           f->device);
    for (int j = 0; j < i; j++)
        if (strcmp(cfg->interface[j].device, f->device) == 0 &&
            strcmp(cfg->interface[j].netns, f->netns) == 0)
            return config_fail(p, "device %s is used twice", f->device);
    if (f->frames == 0)
        f->frames = tap ? TAP_FRAMES : XDP_FRAMES;
    if (f->frame_size == 0)
        f->frame_size = tap ? TAP_FRAME_SIZE : XDP_FRAME_SIZE;
    if (tap && f->frame_size % 4096 != 0)
        return config_fail(p, "interface %s: frame_size %u, expected a multiple of 4096", f->device,
                           f->frame_size);
    if (!tap && f->frame_size != 2048 && f->frame_size != 4096)
        return config_fail(p, "interface %s: frame_size %u, expected 2048 or 4096 for xdp",
                           f->device, f->frame_size);
    if (!p->mac_given[i])
        default_mac(cfg, f);
    if (add_route(p, f->addr, f->prefix, (struct ip_addr){0}, i) != 0)
        return -1;
    if (p->gateway[i].family == 0)
        return 0;
    if (((p->gateway[i].v4 ^ f->addr.v4) & config_mask(f->prefix)) != 0)
        return config_fail(p, "interface %s: the gateway is not on its network", f->device);
    return add_route(p, ip_addr_v4(0), 0, p->gateway[i], i);
}
