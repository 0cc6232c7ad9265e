/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a driver counts. Position in server_block.counter = value of the enum. Frames (free, fill,
 * out, tx): numbers by owner at the end of the last turn; everything else only grows.
 */
#ifndef EFT_DRIVERS_COUNTERS_H
#define EFT_DRIVERS_COUNTERS_H

#define DRIVER_COUNTER_LIST(X)                                                                     \
    X(DRIVER_COUNT_FREE, "frames_free")                                                            \
    X(DRIVER_COUNT_FILL, "frames_fill")                                                            \
    X(DRIVER_COUNT_OUT, "frames_out")                                                              \
    X(DRIVER_COUNT_TX, "frames_tx")                                                                \
    X(DRIVER_RX_FRAMES, "rx_frames") /* published to ip */                                         \
    X(DRIVER_RX_BYTES, "rx_bytes")                                                                 \
    X(DRIVER_RX_FOUND,                                                                             \
      "rx_found") /* of those: found by a successor in the pool or in the device's rings */        \
    X(DRIVER_RX_TRUNCATED, "rx_truncated") /* dropped: larger than a frame of the pool */          \
    X(DRIVER_RX_BAD, "rx_bad") /* dropped: the device gave something that is no Ethernet frame */  \
    X(DRIVER_RX_STARVED,                                                                           \
      "rx_starved") /* turns that left packets in the device: no free frame, or ip is behind */    \
    X(DRIVER_TX_FRAMES, "tx_frames") /* accepted by the device */                                  \
    X(DRIVER_TX_BYTES, "tx_bytes")                                                                 \
    X(DRIVER_TX_BAD, "tx_bad")         /* dropped: packet of ip that makes no sense */             \
    X(DRIVER_TX_POINTER, "tx_pointer") /* dropped: a piece does not lie in memory that we map */   \
    X(DRIVER_TX_ERROR, "tx_error")     /* dropped: the device refused it for good */               \
    X(DRIVER_TX_FULL, "tx_full")       /* times that the device could not take more */             \
    X(DRIVER_RETURNED, "returned")     /* frames that came back */                                 \
    X(DRIVER_RETURN_REPEATED,                                                                      \
      "return_repeated") /* returns of a use that had ended; expected only after a crash */        \
    X(DRIVER_RETURN_BAD, "return_bad")     /* returns that name no frame */                        \
    X(DRIVER_OWNER_BAD, "owner_bad")       /* frames whose record was garbage at a take-over */    \
    X(DRIVER_QUARANTINED, "quarantined")   /* dropped: brought the driver down again and again */  \
    X(DRIVER_DEVICE_ERROR, "device_error") /* errors of the device itself (gone, down) */

#define X(id, name) id,
enum driver_counter { DRIVER_COUNTER_LIST(X) DRIVER_COUNTERS };
#undef X

#endif
