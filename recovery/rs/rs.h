/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The reincarnation server: parent of all servers, keeper of every region, bell and device
 * descriptor. One thread, one epoll loop (main.c). It never blocks on a server or an application:
 * every channel is non-blocking and has a queue of its own (channel.c).
 *
 * A *process* here is a role that is to be played as long as the stack is up ("tcp0", "fused"); an
 * *incarnation* is one Linux process that plays it.
 *
 *   config.c   the text file          memory.c   regions and who may map them
 *   spawn.c    one incarnation        server.c   its life: start, ready, death, restart
 *   spare.c    those that wait to take over   update.c   another program for a role
 *   policy.c   when to restart        hang.c     is it hung?        (both pure)
 *   app.c      application processes  operator.c what `eft` asks for
 *   mapped.c   who still maps what    runtime.c  /run/eft/NAME
 *
 *   adopt.c    after a death of rs       state.c    records for that, park.c fdstore.c descriptors
 *
 * What a restart of a server keeps: all that rs holds. Nothing here is trusted to a server: its
 * messages are checked, its region is only read, and only by relaxed loads.
 * What a restart of rs itself keeps: everything; see adopt.c. Its servers run on meanwhile. Not
 * promised: that they outlive both rs and whoever keeps its descriptors (eft-keeper, systemd). They
 * end when their channel closes.
 */
#ifndef EFT_RS_RS_H
#define EFT_RS_RS_H

#include "config.h"
#include "hang.h"
#include "libchan/edge/control.h"
#include "libchan/edge/rs.h"
#include "libchan/wake.h"
#include "libchan/wiring.h"
#include "park.h"
#include "policy.h"
#include "recovery/store/store.h"

#include <sys/types.h>

enum {
    RS_SERVERS = SERVER_KINDS * SERVER_INSTANCES, /* server_id is below this */
    RS_PROCESSES = 32,
    RS_DEVICE_FDS = RS_FDS,
};

/* Exit statuses, documented in eft.8. */
enum rs_exit {
    EXIT_OK = 0,
    EXIT_TROUBLE = 1,
    EXIT_USAGE = 2,
    EXIT_CONFIG = 3,
    EXIT_PRIVILEGE = 4,
    EXIT_KERNEL = 5,
    EXIT_ALREADY_UP = 6,
    EXIT_SERVER = 7,
    EXIT_AGAIN = 8, /* whoever started us is to do it again */
};

struct rs;
struct state_app;

/* Something that epoll watches; embedded in what it belongs to. */
struct watch {
    int fd; /* -1: none */
    void (*ready)(struct rs *rs, struct watch *w, uint32_t events);
};

/* A region and the two descriptors of it that rs hands out. */
struct keep {
    int rw, ro; /* -1: none */
    uint32_t generation;
    uint64_t size;
};

/* A message that the channel could not take at once. */
struct queued {
    struct queued *next;
    struct rs_message message;
    int fds[RS_FDS]; /* duplicates, ours to close */
};

enum incarnation_state {
    INCARNATION_NONE = 0, /* a free place */
    INCARNATION_STARTING, /* executed, not yet ready: to run, or to be a spare */
    INCARNATION_RUNNING,
    INCARNATION_STANDBY, /* a spare that has all that there was to be told; `ready`: it sleeps */
    INCARNATION_ENDING,  /* another one has taken over; not yet reaped */
};

/* What incarnations are executed from. */
struct program {
    unsigned build; /* running number within the role */
    char path[224]; /* empty: the installed one */
};

/* One Linux process that can play a role. */
struct incarnation {
    struct process *process; /* the role; constant */
    enum incarnation_state state;
    pid_t pid;        /* 0: none; not reaped before pidfd says so */
    unsigned ready;   /* components that have said so */
    bool hung;        /* killed by us for that */
    bool handing;     /* was asked to hand over, and exits when it has */
    bool adopted;     /* from a predecessor of ours: another's to reap */
    bool standby_due; /* to be told RS_STANDBY as soon as nothing else waits to be sent */
    int stat;         /* its /proc/PID/stat, for its fellows; -1: none */
    struct program program;
    uint64_t epoch;                  /* as it told us; 0: it never ran */
    uint64_t killed_at;              /* by us; 0: never */
    uint64_t started_at;             /* CLOCK_MONOTONIC, ns */
    uint64_t limit_at;               /* STARTING: to be ready by then */
    uint64_t look_at;                /* adopted: when to look next whether it is stopped */
    uint64_t sent, acked, start_seq; /* map generations */
    struct hang hang;
    struct watch pidfd, channel;
    struct park park; /* of both */
    bool channel_wants_out;
    struct queued *queue, **queue_end;
};

enum update_state {
    UPDATE_NONE = 0,
    UPDATE_PREPARING,
    UPDATE_HANDING,
    UPDATE_TRIAL,
    UPDATE_DONE,
    UPDATE_REFUSED,
    UPDATE_ROLLED_BACK,
};

/* The last update of a role's program (update.c). */
struct update {
    enum update_state state;
    unsigned builds;          /* how many programs it ever had */
    struct program next;      /* the newest one */
    struct incarnation *heir; /* PREPARING, HANDING: who is of it */
    struct program before;    /* TRIAL: what it was */
    uint64_t until;           /* TRIAL: its end */
    char why[160];            /* for people: why it ended as it did */
};

/* Spares are woken to read what they were sent so much later: at once for several messages. */
#define SPARE_WAKE_NS 20000000ull
/* The next spare is made so long after the start of the one that runs, which is busy then. */
#define SPARE_AFTER_NS 20000000ull

enum process_state {
    PROCESS_WAITING = 0, /* nobody plays it; to be started at restart_at */
    PROCESS_STARTING,    /* somebody does, who is not yet ready */
    PROCESS_RUNNING,
    PROCESS_ENDED, /* dead, and not to be started again (the stack stops) */
};

enum { INCARNATIONS = 4 + SPARES_MAX };

/* A role: what some incarnation is to play as long as the stack is up. */
struct process {
    server_id id[RS_PROCESSES]; /* its components */
    unsigned components;
    char name[32]; /* as operators see it: "tcp0", "fused" */
    enum process_state state;
    uid_t uid;
    gid_t gid;
    int bell; /* its eventfd; the same over all incarnations */
    struct incarnation incarnation[INCARNATIONS];
    struct incarnation *running;      /* who plays it, or starts to; NULL: nobody */
    const struct server_block *block; /* of its first component */
    struct rs_role *shared;           /* its part of our page */
    uint64_t wake_at;       /* when spares should read what they were sent; UINT64_MAX: need not */
    uint64_t replenish_at;  /* when the next spare may be made */
    uint64_t take_at;       /* nobody has taken over: what to do next, when; UINT64_MAX: nothing */
    bool take_told;         /* one was told to */
    unsigned stillborn;     /* spares in a row that did not come to stand by */
    struct program program; /* of whoever runs it */
    struct update update;
    struct policy policy;
    enum rs_end end; /* of the last one that played it */
    uint64_t restart_at, ready_at, died_at;
    uint64_t restarts, hangs;
    uint64_t last_gap_ns; /* from the death to ready */
};

enum app_state {
    APP_FREE = 0,
    APP_JOINING, /* announced; waiting for acknowledgements */
    APP_LIVE,
    APP_GONE, /* its process is dead; waiting for tcp and udp to let go */
};

struct waiter {
    int server, app; /* ends of a datagram pair; -1: none */
    bool waiting;    /* a request waits for acknowledgements */
    uint64_t request_id, need[RS_PROCESSES];
};

struct application {
    unsigned number;
    enum app_state state;
    uint32_t generation, uid;
    pid_t pid;
    uint64_t cookie; /* inode of the control socket: recognises repeated requests */
    struct keep region[4];
    int bell_server[2], bell_app[2]; /* tcp, udp */
    struct waiter waiter[WAITERS_MAX];
    struct watch pidfd, control;
    bool hung_up; /* the control socket was closed; the process may live */
    uint64_t request_id, need[RS_PROCESSES];
    bool done[2]; /* tcp, udp have let go */
};

/* A queue of a server, at either end, for the hang detector. */
struct queue {
    const struct chan_in *in;
    const struct chan_out *out;
    uint64_t slots;
};

struct server {
    bool used;
    struct keep region, public_page;
    struct region map; /* read-only */
    const struct server_block *block;
    struct process *process;
    struct queue input[64], output[64];
    unsigned inputs, outputs;
    uint64_t neighbours[RS_SERVERS / 64 + 1]; /* bit set: shares an edge */
    int device[RS_DEVICE_FDS];
    unsigned devices;
};

enum state_table { STATE_STACK, STATE_ROLE, STATE_APP, STATE_TABLES }; /* state.h */

struct rs {
    struct stack_config *cfg;
    const char *config_path;
    char libexec[256]; /* folder of the servers' programs */
    char run_dir[64];  /* /run/eft/NAME */
    int epoll, lock;
    struct watch signals, control_listen, operator_listen;
    int control_fd;        /* the listening control socket; syscall accepts on it */
    bool control_passed;   /* by systemd: not ours to remove */
    struct keep config[2]; /* [1]: with the secret */
    struct keep page_kept;
    struct rs_page *page;
    struct server server[RS_SERVERS];
    struct process process[RS_PROCESSES];
    unsigned processes;
    struct application *app[APPS_MAX];
    uint32_t app_generation[APPS_MAX];
    struct park app_park[APPS_MAX];
    uint64_t seq; /* newest map generation; the life of rs in the upper bits */
    /* what outlives us: state.h */
    int state_fd; /* -1: none */
    void *state_base;
    struct store state[STATE_TABLES];
    uint64_t lives;     /* of rs, ours included */
    uint32_t adoptions; /* begun since one was completed */
    bool complete;      /* all that an adoption needs is in the store */
    bool adopting;      /* what there is is taken from the store, not made */
    uint64_t started_at, hang_at, watchdog_at, watchdog_every, leavers_at;
    bool up, stopping;
    bool restart;     /* we end, and the servers do not: the next one adopts them */
    uint64_t stop_at; /* SIGKILL for those that are left */
    int exit_status;
};

/* --- main.c --- */
uint64_t rs_now(void); /* CLOCK_MONOTONIC, ns */
int rs_watch(struct rs *rs, struct watch *w, uint32_t events);
void rs_unwatch(struct rs *rs, struct watch *w); /* and closes it */
void rs_stop(struct rs *rs, int exit_status);

/* --- adopt.c --- */
/* Is there a stack in the descriptor store? Opens its state, and takes over what it says of the
 * stack as a whole. */
bool adopt_begin(struct rs *rs);
/* Roles, servers, applications. 0 or -errno. */
int adopt_stack(struct rs *rs);

/* --- memory.c --- */
/* The configuration, when it is not made but adopted: rs->cfg becomes what the servers have. */
int memory_adopt_config(struct rs *rs);
/* Regions, public pages, configuration, neighbours, inputs. 0 or -errno. */
int memory_create(struct rs *rs);
int keep_create(struct keep *k, const char *name, uint64_t size);
void keep_close(struct keep *k);
/* The kept region `id`, or NULL. */
const struct keep *memory_find(const struct rs *rs, server_id reader, region_id id);

/* --- channel.c --- */
/* Sends at once or queues; never blocks. The descriptors stay the caller's. */
void channel_post(struct rs *rs, struct incarnation *i, struct rs_message m, const int *fds,
                  unsigned nfds);
void channel_drop(struct incarnation *i); /* forgets what is queued */
void channel_writable(struct rs *rs, struct incarnation *i);
/* Makes a spare of it, as soon as it has been sent all that is queued. */
void channel_stand_by(struct rs *rs, struct incarnation *i);

/* --- spawn.c --- */
/* Starts the program of i's role with `channel` as its descriptor 3. Sets pid and pidfd. 0 or
 * -errno. */
int spawn_process(struct rs *rs, struct incarnation *i, int channel, bool spare);
/* The spare has prepared itself: gives it the processor and the weight of the one that runs. */
void spawn_stand_by(const struct rs *rs, const struct incarnation *i);
/* Finds user and group of the process: once, as the name service may be slow. */
void spawn_user(struct process *p);

/* --- server.c --- */
int server_setup(struct rs *rs);
/* Takes over a living (or meanwhile dead) process as `who`, with both descriptors. */
void server_adopt(struct rs *rs, struct incarnation *who, const struct parked *what, int pidfd,
                  int channel, bool runs);
/* Tells all who were adopted everything, and asks whether they are ready. */
void server_retell(struct rs *rs);
void server_start(struct rs *rs, struct process *p);
void server_timers(struct rs *rs, uint64_t now);
uint64_t server_deadline(const struct rs *rs);
void server_kill(struct incarnation *i, bool hung);
void server_stop_all(struct rs *rs);
struct process *server_find(struct rs *rs, const char *name);
/* A new incarnation of the role, which has been told nothing yet. NULL: none can be made. */
struct incarnation *server_beget(struct rs *rs, struct process *p, const struct program *program,
                                 uint64_t now, bool spare);
/* Tells it all that there is, but RS_START or RS_STANDBY. */
void server_tell_all(struct rs *rs, struct incarnation *who);
/* The one that ran has ended: counts it, asks the policy. `item`: something was in progress. */
struct policy_action server_ended(struct process *p, const struct incarnation *who, enum rs_end end,
                                  bool item, uint64_t now);
/* Is component `id` in a process that could take messages? */
static inline struct process *server_process(struct rs *rs, server_id id)
{
    return id < RS_SERVERS && rs->server[id].used ? rs->server[id].process : NULL;
}
/* Sends to the component `to`: to `only`, or (NULL) to all incarnations of its role. A negative fd
 * is none. */
void server_tell(struct rs *rs, struct incarnation *only, server_id to, struct rs_message m,
                 int fd);
/* Announces region `id` to the component, if it may map it; to `only` as above. */
void server_announce(struct rs *rs, struct incarnation *only, server_id to, region_id id);
const char *end_name(enum rs_end end);

/* --- spare.c --- */
/* How many spares of the role sleep and could take over. */
unsigned spare_count(const struct process *p);
/* The one that ran is reaped and nobody has taken over. False: there is no spare. */
bool spare_orphaned(struct process *p, uint64_t now);
/* RS_STANDING, RS_TAKEN. */
void spare_standing(struct rs *rs, struct incarnation *who, const struct rs_message *m);
void spare_taken(struct rs *rs, struct incarnation *who, const struct rs_message *m, uint64_t now);
/* Tells those who were adopted as spares everything, and to stand by. */
void spare_retell(struct rs *rs, struct process *p);
/* Tells all spares of the role who runs. */
void spare_tell_running(struct rs *rs, struct process *p);
/* A spare is dead and reaped. */
void spare_died(struct process *p, bool stood, uint64_t now);
/* Spares are to read what they were sent, now. */
void spare_wake(struct process *p);
/* One more spare, of any program. NULL: it cannot be made. */
struct incarnation *spare_make(struct rs *rs, struct process *p, const struct program *program,
                               uint64_t now);
void spare_timers(struct rs *rs, uint64_t now);
uint64_t spare_deadline(const struct rs *rs);

/* --- update.c --- */
const char *update_state_name(enum update_state s);
/* Begins to replace p's program by the one at `path` ("": the installed one, which may have
 * changed). 0, or -errno with the reason in `error`; how it goes on is in p->update. */
int update_begin(struct rs *rs, struct process *p, const char *path, char *error, size_t size);
/* What has happened to an incarnation of a role. */
void update_standing(struct rs *rs, struct incarnation *who); /* it sleeps, a spare */
void update_taken(struct rs *rs, struct process *p, struct incarnation *who, enum rs_end end,
                  uint64_t now);
void update_ready(struct rs *rs, struct process *p);                     /* whoever runs is ready */
void update_bereaved(struct rs *rs, struct process *p, enum rs_end end); /* to be started afresh */
void update_lost(struct rs *rs, struct process *p, const struct incarnation *who,
                 const char *how); /* reaped */
/* From now on the program before the last update, which was done. */
void update_go_back(struct rs *rs, struct process *p);
/* For an incarnation that was adopted: what it was executed from. False: nobody knows. */
bool update_adopt(struct process *p, struct incarnation *who, unsigned build);
/* All of the role were adopted. */
void update_resume(struct rs *rs, struct process *p);
/* While an update is under way or on trial: spares of both programs stay, and none is made. */
bool update_keeps_spares(const struct process *p);
void update_timers(struct rs *rs, uint64_t now);
uint64_t update_deadline(const struct rs *rs);

/* --- watchdog.c --- */
/* Looks at every running server; kills the hung. Returns when to look again. */
uint64_t watchdog_look(struct rs *rs, uint64_t now);
/* user+system time and run delay, ns; and the state letter. 0 or -errno. */
int watchdog_process(pid_t pid, struct hang_sample *s);

/* --- app.c --- */
void app_request(struct rs *rs, const struct rs_message *m, int fd);
void app_waiter_request(struct rs *rs, const struct rs_message *m);
void app_done(struct rs *rs, const struct rs_message *m);
/* Tells a new incarnation about every application, as its component `id` should know it. */
void app_tell(struct rs *rs, struct incarnation *i, server_id id);
/* Some process has acknowledged: joins and waiters may go on. */
void app_progress(struct rs *rs);
/* Its process is dead, or has become another program. */
void app_gone(struct rs *rs, struct application *a);
/* A number that was used before (the record of it is `s`; damaged: NULL), with what is parked.
 * Then, when the servers were told everything: what was under way. */
int app_adopt(struct rs *rs, unsigned number, const struct state_app *s);
void app_resume(struct rs *rs);
unsigned app_count(const struct rs *rs);
void app_close_all(struct rs *rs);

/* --- app_leavers.c --- */
/* It has closed its control socket. */
void app_hung_up(struct rs *rs, struct application *a);
/* Looks for applications that closed their control socket and have gone by exec. */
void app_leavers(struct rs *rs, uint64_t now);

/* --- app_memory.c --- */
/* Makes the four regions of an application. 0 or -errno. */
int app_memory_create(struct rs *rs, struct application *a);
/* A park for its number. 0 or -errno. */
int app_park_open(struct rs *rs, unsigned number);
/* Parks everything that the application is; one of its waiters. 0 or -errno. */
int app_park(const struct rs *rs, const struct application *a);
int app_park_waiter(const struct rs *rs, const struct application *a, unsigned n);
/* Takes back what is parked for this generation (0: whichever there is). -ENOENT: nothing. */
int app_unpark(struct rs *rs, struct application *a);

/* --- operator.c --- */
int operator_listen(struct rs *rs);
void operator_close_all(struct rs *rs);

/* --- runtime.c --- */
/* Directory, lock, control socket. 0, or an enum rs_exit after having said why. */
int runtime_open(struct rs *rs, bool background);
void runtime_pids(const struct rs *rs);
void runtime_close(struct rs *rs);
/* What the servers said, to the one who waits for them. */
void runtime_show_log(const struct rs *rs, int fd);

#endif
