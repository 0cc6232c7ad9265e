/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Records that outlive the process that writes them: a table of them in shared memory, each in two
 * slots. A write fills the slot that does not count and then makes it count with one store, so that
 * whoever comes after a death at any instruction finds the record as it was or as it was to be.
 *
 *   writer     one process at a time, and each of its incarnations; all of write and erase
 *   reader     anybody who maps the table, also while it is written
 *
 * What a restart keeps: every record, its version, and the copy before. What is found is checked
 * before it is believed: the table by magic, name, layout and sizes, each record by its version and
 * a checksum. A record that fails is STORE_DAMAGED and stays as it is for whoever inspects it
 * (store_copy), until its owner writes it anew.
 *
 * Not promised: that several records change together (put into one what must), or that a record is
 * what its owner meant: a checksum sees wild stores, not wrong thoughts.
 */
#ifndef EFT_RECOVERY_STORE_H
#define EFT_RECOVERY_STORE_H

#include <stddef.h>
#include <stdint.h>

enum { STORE_NAME = 24, STORE_LENGTH_MAX = 1 << 16 };

/* First line of a table; constant once it is written. */
struct store_header {
    uint64_t magic;
    char name[STORE_NAME]; /* what the records are, for people: "rs.app" */
    uint32_t layout;       /* version of what the payload means; the owner's to raise */
    uint32_t count;        /* records */
    uint32_t length;       /* of the payload of each; bytes */
    uint32_t stride;       /* from one record to the next; bytes */
    uint64_t checksum;     /* of all above */
    uint8_t reserved[8];
};
_Static_assert(sizeof(struct store_header) == 64, "store header is one line");

/* A copy of a record: this, then the payload. */
struct store_slot {
    uint64_t version;  /* 1, 2, …; this copy lies in slot version % 2 */
    uint64_t checksum; /* of the version, `erased`, the payload */
    uint32_t erased;   /* 1: from this version on there is no such record */
    uint32_t reserved;
};
_Static_assert(sizeof(struct store_slot) == 24, "store slot");

struct store {
    uint8_t *base; /* NULL: not attached */
    uint32_t count, length, stride, slot;
};

enum store_state {
    STORE_EMPTY = 0, /* never written, or erased */
    STORE_VALID,
    STORE_DAMAGED,
};

/* Bytes of a table; a multiple of 64. */
size_t store_size(uint32_t count, uint32_t length);
/* Makes an empty table of zeroed memory (64 byte aligned), and attaches to it. Its header is
 * complete, or is none. */
void store_format(struct store *s, void *base, const char *name, uint32_t layout, uint32_t count,
                  uint32_t length);
/* Attaches to a table of `size` bytes at most. 0, or -EPROTO if it is not exactly the one that is
 * asked for: then it is somebody else's, or an older one, or damaged. */
int store_attach(struct store *s, void *base, size_t size, const char *name, uint32_t layout,
                 uint32_t count, uint32_t length);
/* The same for whoever does not know what is there (inspection): sizes are taken from the header,
 * after checking it. *h becomes a copy of it. */
int store_inspect(struct store *s, void *base, size_t size, struct store_header *h);

/* Owner only. `payload` has the length of the table; index < count. */
void store_write(struct store *s, uint32_t index, const void *payload);
void store_erase(struct store *s, uint32_t index);

/* Copies the record to `payload`, which is zeroed when there is none or it is damaged. */
enum store_state store_read(const struct store *s, uint32_t index, void *payload);
/* The copy in slot 0 or 1 as it is, whether it counts or not: its head, payload, and whether the
 * checksum holds (VALID), there is none (EMPTY) or it does not (DAMAGED). */
enum store_state store_copy(const struct store *s, uint32_t index, unsigned slot,
                            struct store_slot *head, void *payload);
/* Version that counts; 0: never written. */
uint64_t store_version(const struct store *s, uint32_t index);

#endif
