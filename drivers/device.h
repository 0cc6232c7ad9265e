/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Opening devices: the only privileged part of a driver, done by rs. rs keeps the descriptors and
 * hands them to every incarnation (RS_DEVICE); the device lives until device_close().
 *
 * Descriptors by kind:
 *   tap, packet   0: reads and writes frames behind a virtio-net header of 10 bytes
 *   xdp           0: the AF_XDP socket, 1: the map that steers to it, 2: the program, 3: the link
 *
 * Our MAC is the configuration's. A TAP or a veth takes any; with xdp a network card delivers only
 * its own, unless it is promiscuous: configure that one.
 */
#ifndef EFT_DRIVERS_DEVICE_H
#define EFT_DRIVERS_DEVICE_H

#include "driver.h"

/* Opens the device of `ifc` in its network namespace (the caller's namespace is unchanged when this
 * returns; single-threaded callers only). `driver_region` is the driver's region, mapped writable:
 * xdp registers the pool in it with the device. `fds` has room for DRIVER_DEVICE_FDS. Returns 0, or
 * -errno with one line for the operator in `error`. */
int device_open(const struct config_interface *ifc, const struct region *driver_region, int *fds,
                unsigned *nfds, char *error, size_t error_len);
/* Undoes it: the last close removes a TAP device that we made, and detaches the program. */
void device_close(int *fds, unsigned nfds);

/* xdp_open.c; in the device's namespace. */
int device_open_xdp(const struct config_interface *ifc, const struct region *driver_region,
                    int *fds, char *error, size_t error_len);

#endif
