/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The server killed at every instruction. Each turn of it is taken by a process of its own on real
 * shared memory, under ptrace, one instruction at a time. Between two instructions that process is,
 * for everybody else, as one that SIGKILL ends there: its memory is what it has stored so far. So a
 * judge is forked, takes a private copy of the memory, starts a successor on it and plays the
 * operation to its end (play.h says what is checked). Instructions that store nothing to shared
 * memory leave nothing new to judge.
 *
 *   single_step [--stride K] [--only NAME]... [--json FILE] [--expect-violations]
 *
 * Every K-th instruction (default 1) of these operations (default: all). A stepped process that has
 * ended its turn is dead; the memory is put back, and the turn is taken once more, at full speed.
 */
#include "play.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the victim may write: its region, its public page, the down-tcp regions. */
enum { AREAS = 2 + WORLD_APPS, EXTENTS = 64 };

static struct area {
    struct region *r;
    int fd;
    uint8_t *before, *last; /* at the beginning of the turn; when it was judged last */
    blkcnt_t blocks;        /* that the extents were read for */
    unsigned n;
    struct {
        uint64_t off, len; /* parts that were ever written */
    } extent[EXTENTS];
} area[AREAS];
static unsigned areas;

static uint64_t stride = 1, instructions, points, violations;
static bool expect;  /* one violation is enough */
static bool judging; /* this process is a judge: no more steps */

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void share(struct region *r)
{
    struct area *a = &area[areas++];
    *a = (struct area){.r = r, .fd = memfd_create("region", MFD_CLOEXEC)};
    if (a->fd < 0 || ftruncate(a->fd, (off_t)r->size) != 0)
        die("memfd");
    /* Holes stay holes: only what was written is copied. */
    for (uint64_t off = 0; off < r->size; off += APP_PAGE) {
        static const uint8_t zero[APP_PAGE];
        if (memcmp(r->base + off, zero, APP_PAGE) != 0 &&
            pwrite(a->fd, r->base + off, APP_PAGE, (off_t)off) != APP_PAGE)
            die("pwrite");
    }
    if (mmap(r->base, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->fd, 0) ==
        MAP_FAILED)
        die("mmap");
    a->before = calloc(1, r->size);
    a->last = calloc(1, r->size);
}

static void unshare_all(void)
{
    while (areas > 0) {
        struct area *a = &area[--areas];
        close(a->fd);
        free(a->before);
        free(a->last);
    }
}

static void find_extents(struct area *a)
{
    struct stat st;
    if (fstat(a->fd, &st) != 0)
        die("fstat");
    if (st.st_blocks == a->blocks && a->n)
        return;
    a->blocks = st.st_blocks;
    a->n = 0;
    for (off_t at = 0, end; a->n < EXTENTS; at = end) {
        at = lseek(a->fd, at, SEEK_DATA);
        if (at < 0)
            return;
        end = lseek(a->fd, at, SEEK_HOLE);
        a->extent[a->n].off = (uint64_t)at;
        a->extent[a->n++].len = (uint64_t)(end - at);
    }
    die("too many extents");
}

static void save(uint8_t *to, const struct area *a)
{
    for (unsigned i = 0; i < a->n; i++)
        memcpy(to + a->extent[i].off, a->r->base + a->extent[i].off, a->extent[i].len);
}

/* Has it stored anything since it was judged last? */
static bool changed(void)
{
    bool any = false;
    for (unsigned k = 0; k < areas; k++) {
        struct area *a = &area[k];
        find_extents(a);
        for (unsigned i = 0; i < a->n; i++) {
            const uint64_t off = a->extent[i].off, len = a->extent[i].len;
            if (memcmp(a->last + off, a->r->base + off, len) == 0)
                continue;
            memcpy(a->last + off, a->r->base + off, len);
            any = true;
        }
    }
    return any;
}

/* In the judge: the memory as it is, for itself alone; then a successor, and back into the play. */
static unsigned become_judge(struct side *s)
{
    judging = true;
    for (unsigned k = 0; k < areas; k++)
        if (mmap(area[k].r->base, area[k].r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                 area[k].fd, 0) == MAP_FAILED)
            die("mmap");
    world_successor(s, END_KILLED);
    return 1;
}

/* True: we are the judge. */
static bool judge(uint64_t at)
{
    int status;
    points++;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        return true;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (status != 0) {
        violations++;
        fprintf(stderr, "  killed at instruction %lu (of all): judge ended with %x\n",
                (unsigned long)at, (unsigned)status);
    }
    return false;
}

static pid_t stepped_process(struct side *s)
{
    int status;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        world_tcp_turn(s);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        puts("SKIP: nobody may be traced here");
        exit(77);
    }
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL);
    return pid;
}

static unsigned turn(struct side *s)
{
    if (judging || (expect && violations))
        return world_tcp_turn(s);
    if (areas == 0) {
        share(&s->map->entry[REGION_OF_SERVER(SERVER_ID(SERVER_TCP, 0))]);
        share(&s->map->entry[REGION_PUBLIC(SERVER_ID(SERVER_TCP, 0))]);
        for (unsigned i = 0; i < s->apps; i++)
            share(&s->map->entry[REGION_OF_APP(i, APP_DOWN_TCP)]);
    }
    changed();
    for (unsigned k = 0; k < areas; k++)
        save(area[k].before, &area[k]);
    const pid_t pid = stepped_process(s);
    for (int status;;) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
            die("ptrace");
        if (!WIFSTOPPED(status)) {
            if (status != 0)
                die("the stepped process failed");
            break;
        }
        if (++instructions % stride == 0 && changed() && judge(instructions)) {
            return become_judge(s);
        }
    }
    for (unsigned k = 0; k < areas; k++) {
        struct area *a = &area[k];
        find_extents(a);
        for (unsigned i = 0; i < a->n; i++) {
            memcpy(a->r->base + a->extent[i].off, a->before + a->extent[i].off, a->extent[i].len);
        }
    }
    return world_tcp_turn(s);
}

static void run(const struct op *op)
{
    char first[128];
    const uint64_t i = instructions, p = points, v = violations;
    const unsigned found = play_run(op, turn, false, first);
    if (judging)
        _exit(found != 0);
    unshare_all();
    violations += found;
    printf("%-30s %9lu instructions, %6lu states, %lu violations\n", op->name,
           (unsigned long)(instructions - i), (unsigned long)(points - p),
           (unsigned long)(violations - v));
    fflush(stdout);
}

static const struct op *by_name(const char *name)
{
    const struct op *op;
    for (unsigned i = 0; (op = play_op(i)) != NULL; i++)
        if (strcmp(op->name, name) == 0)
            return op;
    fprintf(stderr, "no operation %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    const char *json = NULL;
    unsigned operations = 0;
    const struct op *op;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--stride") == 0 && i + 1 < argc) {
            stride = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            json = argv[++i];
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            i++;
        } else if (strcmp(argv[i], "--expect-violations") == 0) {
            expect = true;
        } else {
            fputs("single_step [--stride K] [--only NAME]... [--json FILE]\n", stderr);
            return 2;
        }
    }
    if (stride == 0)
        stride = 1;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--only") == 0) {
            run(by_name(argv[++i]));
            operations++;
        }
    if (operations == 0)
        for (; (op = play_op(operations)) != NULL; operations++)
            run(op);
    printf("%u operations, %lu instructions, killed at %lu, %lu violations\n", operations,
           (unsigned long)instructions, (unsigned long)points, (unsigned long)violations);
    if (json != NULL) {
        FILE *f = fopen(json, "w");
        if (f == NULL)
            die(json);
        fprintf(f, "{\"operations\":%u,\"instructions\":%lu,\"points\":%lu,\"violations\":%lu}\n",
                operations, (unsigned long)instructions, (unsigned long)points,
                (unsigned long)violations);
        fclose(f);
    }
    return expect ? violations == 0 : violations != 0;
}
