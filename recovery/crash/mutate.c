/* SPDX-License-Identifier: BSD-2-Clause */
#include "mutate.h"

#include <capstone/capstone.h>
#include <stdlib.h>
#include <string.h>

struct code {
    csh handle;
    cs_insn *a, *b; /* the original, and what is proposed */
};

enum { PROPOSALS = 96 };

struct proposals {
    unsigned n;
    uint8_t bytes[PROPOSALS][CODE_MAX + 1];
};

struct code *code_open(void)
{
    struct code *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &c->handle) != CS_ERR_OK) {
        free(c);
        return NULL;
    }
    cs_option(c->handle, CS_OPT_DETAIL, CS_OPT_ON);
    c->a = cs_malloc(c->handle);
    c->b = cs_malloc(c->handle);
    if (c->a != NULL && c->b != NULL)
        return c;
    code_close(c);
    return NULL;
}

void code_close(struct code *c)
{
    if (c == NULL)
        return;
    if (c->a != NULL)
        cs_free(c->a, 1);
    if (c->b != NULL)
        cs_free(c->b, 1);
    cs_close(&c->handle);
    free(c);
}

static bool decode(const struct code *c, const uint8_t *bytes, size_t len, uint64_t address,
                   cs_insn *insn)
{
    return cs_disasm_iter(c->handle, &bytes, &len, &address, insn);
}

unsigned code_decode(struct code *c, const uint8_t *bytes, size_t avail, uint64_t address,
                     char *text)
{
    if (!decode(c, bytes, avail, address, c->b))
        return 0;
    if (text != NULL)
        snprintf(text, CODE_TEXT, "%.20s %.58s", c->b->mnemonic, c->b->op_str);
    return c->b->size;
}

/* ---- what an instruction is ---- */

static bool in_group(const struct code *c, const cs_insn *i, unsigned group)
{
    return cs_insn_group(c->handle, i, group);
}

static bool is_branch(const struct code *c, const cs_insn *i)
{
    return in_group(c, i, X86_GRP_JUMP) || in_group(c, i, X86_GRP_CALL);
}

/* Where the opcode of a jcc, setcc or cmovcc holds its condition; 0: it has none. */
static unsigned condition_at(const cs_insn *i)
{
    const cs_x86 *x = &i->detail->x86;
    unsigned at = 0;

    while (at < i->size && i->bytes[at] != x->opcode[0])
        at++;
    if (x->opcode[0] >= 0x70 && x->opcode[0] <= 0x7f)
        return at + 1;
    if (x->opcode[0] == 0x0f && (x->opcode[1] & 0xf0) >= 0x40 && at + 1 < i->size) {
        uint8_t row = x->opcode[1] & 0xf0;
        if (row == 0x40 || row == 0x80 || row == 0x90)
            return at + 2;
    }
    return 0;
}

static bool same_memory(const x86_op_mem *a, const x86_op_mem *b)
{
    return a->segment == b->segment && a->base == b->base && a->index == b->index &&
           a->scale == b->scale && a->disp == b->disp;
}

static bool same_operand(const cs_x86_op *a, const cs_x86_op *b)
{
    if (a->type != b->type || a->size != b->size)
        return false;
    switch (a->type) {
    case X86_OP_REG:
        return a->reg == b->reg;
    case X86_OP_IMM:
        return a->imm == b->imm;
    case X86_OP_MEM:
        return same_memory(&a->mem, &b->mem);
    default:
        return true;
    }
}

/* The one operand in which the two differ, if all else is equal; -1 otherwise. */
static int only_difference(const cs_insn *a, const cs_insn *b)
{
    const cs_x86 *x = &a->detail->x86, *y = &b->detail->x86;
    int found = -1;

    if (a->id != b->id || a->size != b->size || x->op_count != y->op_count ||
        memcmp(x->prefix, y->prefix, sizeof x->prefix) != 0)
        return -1;
    for (unsigned i = 0; i < x->op_count; i++) {
        if (same_operand(&x->operands[i], &y->operands[i]))
            continue;
        if (found >= 0)
            return -1;
        found = (int)i;
    }
    return found;
}

static bool is_register(const cs_x86_op *o, const cs_x86_op *p)
{
    return o->type == X86_OP_REG && p->type == X86_OP_REG && o->size == p->size;
}

static bool is_meant(const struct code *code, enum crash_class c)
{
    const int k = only_difference(code->a, code->b);

    if (k < 0)
        return false;
    const cs_x86_op *o = &code->a->detail->x86.operands[k], *p = &code->b->detail->x86.operands[k];
    switch (c) {
    case CRASH_SOURCE:
        return is_register(o, p) && !(o->access & CS_AC_WRITE);
    case CRASH_DESTINATION:
        return is_register(o, p) && (o->access & CS_AC_WRITE);
    case CRASH_POINTER: /* an address of code is no pointer */
        return o->type == X86_OP_MEM && p->type == X86_OP_MEM && code->a->id != X86_INS_NOP;
    case CRASH_IMMEDIATE:
        return o->type == X86_OP_IMM && p->type == X86_OP_IMM &&
               (p->imm == o->imm + 1 || p->imm == o->imm - 1);
    default:
        return false;
    }
}

/* ---- proposals ---- */

static void propose(struct proposals *p, const uint8_t *bytes, unsigned len)
{
    if (p->n < PROPOSALS)
        memcpy(p->bytes[p->n++], bytes, len);
}

/* A proposal that must decode to what the class says. */
static void propose_checked(struct proposals *p, const struct code *code, enum crash_class c,
                            const uint8_t *bytes, uint64_t address)
{
    const unsigned len = code->a->size;

    if (decode(code, bytes, len, address, code->b) && is_meant(code, c))
        propose(p, bytes, len);
}

/* Every other value of the three bits at `shift` of the byte at `at`. */
static void propose_field(struct proposals *p, const struct code *code, enum crash_class c,
                          unsigned at, unsigned shift, uint64_t address)
{
    uint8_t bytes[CODE_MAX + 1];

    for (unsigned v = 1; v < 8; v++) {
        memcpy(bytes, code->a->bytes, code->a->size);
        bytes[at] ^= (uint8_t)(v << shift);
        propose_checked(p, code, c, bytes, address);
    }
}

static void propose_number(struct proposals *p, const struct code *code, enum crash_class c,
                           unsigned at, unsigned size, uint64_t add, uint64_t address)
{
    uint8_t bytes[CODE_MAX + 1];
    uint64_t v = 0;

    if (at == 0 || size > sizeof v || at + size > code->a->size)
        return;
    memcpy(bytes, code->a->bytes, code->a->size);
    memcpy(&v, bytes + at, size);
    v += add;
    memcpy(bytes + at, &v, size);
    propose_checked(p, code, c, bytes, address);
}

static void propose_registers(struct proposals *p, const struct code *code, enum crash_class c,
                              uint64_t address)
{
    const cs_x86 *x = &code->a->detail->x86;
    unsigned opcode = 0;

    if (x->encoding.modrm_offset != 0) {
        propose_field(p, code, c, x->encoding.modrm_offset, 3, address);
        propose_field(p, code, c, x->encoding.modrm_offset, 0, address);
        if (c == CRASH_POINTER && (x->modrm & 0xc7) != 0xc4 && (x->modrm & 7) == 4 &&
            x->modrm < 0xc0 && x->encoding.modrm_offset + 1u < code->a->size) {
            propose_field(p, code, c, x->encoding.modrm_offset + 1u, 0, address); /* base */
            propose_field(p, code, c, x->encoding.modrm_offset + 1u, 3, address); /* index */
        }
        return;
    }
    while (opcode < code->a->size && code->a->bytes[opcode] != x->opcode[0])
        opcode++;
    if (opcode < code->a->size)
        propose_field(p, code, c, opcode, 0, address);
}

static void propose_pointers(struct proposals *p, const struct code *code, uint64_t address)
{
    static const int64_t steps[] = {1, -1, 8, -8, 64, -64};
    const cs_x86_encoding *e = &code->a->detail->x86.encoding;

    propose_registers(p, code, CRASH_POINTER, address);
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++)
        propose_number(p, code, CRASH_POINTER, e->disp_offset, e->disp_size, (uint64_t)steps[i],
                       address);
}

static void propose_condition(struct proposals *p, const struct code *code, bool off_by_one)
{
    /* by condition code, what differs from it by equality: b/be, ae/a, l/le, ge/g */
    static const uint8_t equality[16] = {
        [2] = 4, [6] = 4, [3] = 4, [7] = 4, [12] = 2, [14] = 2, [13] = 2, [15] = 2};
    const unsigned at = condition_at(code->a);
    uint8_t bytes[CODE_MAX + 1];

    if (at == 0)
        return;
    memcpy(bytes, code->a->bytes, code->a->size);
    uint8_t change = off_by_one ? equality[bytes[at - 1] & 15] : 1;
    bytes[at - 1] ^= change;
    if (change != 0)
        propose(p, bytes, code->a->size);
}

/* Does nothing, in one instruction of `len` bytes. */
static void nothing(uint8_t *bytes, unsigned len)
{
    static const uint8_t nop[9][9] = {
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
        {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    };
    const unsigned prefixes = len > 9 ? len - 9 : 0;

    memset(bytes, 0x66, prefixes);
    memcpy(bytes + prefixes, nop[len - prefixes - 1], len - prefixes);
}

static void propose_nothing(struct proposals *p, const struct code *code)
{
    uint8_t bytes[CODE_MAX + 1];

    if (code->a->id == X86_INS_NOP || code->a->id == X86_INS_ENDBR64)
        return;
    nothing(bytes, code->a->size);
    propose(p, bytes, code->a->size);
}

/* A store to the frame of its function, near the beginning. */
static bool initialises(const struct code *code, const struct code_place *place)
{
    const cs_x86 *x = &code->a->detail->x86;
    const cs_x86_op *o = &x->operands[0];

    return place->in_function < EARLY_BYTES && x->op_count == 2 && o->type == X86_OP_MEM &&
           (o->mem.base == X86_REG_RSP || o->mem.base == X86_REG_RBP) &&
           code->a->mnemonic[0] == 'm' && strncmp(code->a->mnemonic, "mov", 3) == 0;
}

/* Which argument a register holds, 1 to 6; 0: none. */
static unsigned argument(unsigned reg)
{
    static const struct {
        uint16_t reg[2];
    } order[] = {{{X86_REG_RDI, X86_REG_EDI}}, {{X86_REG_RSI, X86_REG_ESI}},
                 {{X86_REG_RDX, X86_REG_EDX}}, {{X86_REG_RCX, X86_REG_ECX}},
                 {{X86_REG_R8, X86_REG_R8D}},  {{X86_REG_R9, X86_REG_R9D}}};

    for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++)
        if (order[i].reg[0] == reg || order[i].reg[1] == reg)
            return i + 1;
    return 0;
}

/* A move into a register that holds an argument of a call that follows. */
static bool passes_argument(const struct code *code, const struct code_place *place)
{
    const cs_x86 *x = &code->a->detail->x86;
    const uint8_t *at = place->behind;
    size_t left = place->behind_len;
    uint64_t address = place->address + code->a->size;

    if ((code->a->id != X86_INS_MOV && code->a->id != X86_INS_LEA) || x->op_count != 2 ||
        x->operands[0].type != X86_OP_REG || argument(x->operands[0].reg) == 0)
        return false;
    const unsigned number = argument(x->operands[0].reg);
    for (unsigned i = 0; i < ARGUMENT_SCAN; i++) {
        if (!cs_disasm_iter(code->handle, &at, &left, &address, code->b))
            return false;
        if (in_group(code, code->b, X86_GRP_CALL))
            return true;
        const cs_x86 *y = &code->b->detail->x86;
        if (is_branch(code, code->b) || in_group(code, code->b, X86_GRP_RET) ||
            (y->op_count > 0 && y->operands[0].type == X86_OP_REG &&
             (y->operands[0].access & CS_AC_WRITE) && argument(y->operands[0].reg) == number))
            return false;
    }
    return false;
}

bool mutate(struct code *code, enum crash_class c, const uint8_t *bytes, unsigned len,
            const struct code_place *place, struct random *r, uint8_t *after)
{
    struct proposals p = {0};

    if (len == 0 || len > CODE_MAX || !decode(code, bytes, len, place->address, code->a) ||
        code->a->size != len)
        return false;
    const cs_x86_encoding *e = &code->a->detail->x86.encoding;
    switch (c) {
    case CRASH_FLIP:
        memcpy(after, bytes, len);
        after[random_below(r, len)] ^= (uint8_t)(1u << random_below(r, 8));
        return true;
    case CRASH_NOP:
        propose_nothing(&p, code);
        break;
    case CRASH_SOURCE:
    case CRASH_DESTINATION:
        propose_registers(&p, code, c, place->address);
        break;
    case CRASH_POINTER:
        propose_pointers(&p, code, place->address);
        break;
    case CRASH_BRANCH:
        if (in_group(code, code->a, X86_GRP_JUMP))
            propose_nothing(&p, code);
        break;
    case CRASH_CONDITION:
    case CRASH_OFF_BY_ONE:
        propose_condition(&p, code, c == CRASH_OFF_BY_ONE);
        break;
    case CRASH_IMMEDIATE:
        if (is_branch(code, code->a))
            break;
        propose_number(&p, code, c, e->imm_offset, e->imm_size, 1, place->address);
        propose_number(&p, code, c, e->imm_offset, e->imm_size, UINT64_MAX, place->address);
        break;
    case CRASH_INIT:
        if (initialises(code, place))
            propose_nothing(&p, code);
        break;
    case CRASH_ARGUMENT:
        if (passes_argument(code, place))
            propose_nothing(&p, code);
        break;
    default:
        return false;
    }
    if (p.n == 0)
        return false;
    memcpy(after, p.bytes[random_below(r, p.n)], len);
    return true;
}
