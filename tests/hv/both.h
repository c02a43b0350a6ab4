/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One script of calls on two hypervisors: libvirt itself with QEMU, and the scripted one on which the sweeps stand (fault/sweep_hv.h). What is
 * not a call of VrHv is done outside of it, by each side in its own way: what admins, guests and daemons do.
 */
#pragma once

#include "hv/private_libvirtd.h"
#include "hv/support.h"

#define GUESTS 2

typedef enum {
    UNDEFINE,
    AUTOSTART,
    SUSPEND,
    RESUME,
    SAVE,      /* managed */
    DROP_SAVE, /* of a domain that is off */
    SNAPSHOT,  /* only libvirt's record of one */
    COPY,      /* a block job on vdb begins, and does not end */
    CRASH,     /* QEMU ends by a signal */
    BOOTED,    /* waits until the guest says so */
    DEAF,      /* what the guest's disk is: it does not stop when it is asked (or it reboots) */
    ENDS,      /* ... it powers itself off at once */
    WELL       /* ... neither */
} Outside;

typedef enum {
    HURRY,           /* calls are given up soon */
    KILL_DAEMON,     /* and start it again */
    STOP_DAEMON,     /* it hangs from the next call on */
    CONTINUE_DAEMON, /* it goes on */
} Daemon;

typedef struct Side Side;

typedef struct {
    const char *name;
    void (*outside)(Side *side, guint guest, Outside what);
    void (*daemon)(Side *side, Daemon what);
    /* Letters of what has happened to the guest since it was asked last: d defined, s started, x destroyed, o ended without
     * that. Free with g_free. */
    char *(*events)(Side *side, guint guest);
    char *(*volume_path)(Side *side, const char *pool, const char *volume, GError **error);
    void (*close)(Side *side); /* and frees */
} SideOps;

struct Side {
    const SideOps *ops;
    VrHv *hv;
    char *dir;        /* disks/ in it; not owned by the side's ops */
    GPtrArray *steps; /* Step *, what was said */
    int ids[GUESTS];  /* of the last QEMU that was seen */
};

/* dir: made, empty but for disks/. */
Side *both_real(PrivateLibvirtd *daemon, const char *dir);
Side *both_scripted(const char *dir);

/* A domain's XML as sorted lines, without what may differ between the two (both_text.c), and with DIR for dir. Free with g_free. */
char *both_text(const char *xml, const char *dir);

typedef struct {
    char *step, *said;
} Step;
void step_free(void *step);

/* What a script is made of: a call, and what it gave is said under the name of the step. A step that fails says the code of its error. */
void define(Side *side, const char *step, const char *uuid, const char *xml);
void start(Side *side, const char *step, const char *uuid);
void destroy(Side *side, const char *step, const char *uuid);
void shutdown_by(Side *side, const char *step, const char *uuid, VrShutdownMode mode);
void look(Side *side, const char *step, const char *uuid);
void inactive(Side *side, const char *step, const char *uuid);
void live(Side *side, const char *step, const char *uuid);
void list(Side *side, const char *step);
void look_up(Side *side, const char *step, const char *name);
void kept(Side *side, const char *step, const char *uuid);
void agent(Side *side, const char *step, const char *uuid);
void leases(Side *side, const char *step, const char *uuid);
void nvram(Side *side, const char *step, const char *uuid);
void volume(Side *side, const char *step, const char *pool, const char *volume);

/* ... and what else is seen: letters of SideOps.events, calls whose outcome was lost, a state or a disk that is waited for (20 s). */
void events(Side *side, const char *step, guint guest);
void lost(Side *side, const char *step);
void await(Side *side, const char *step, const char *uuid, VrDomainState state);
void await_disk(Side *side, const char *step, const char *uuid, const char *name);
void say(Side *side, const char *step, const char *said);

void outside(Side *side, guint guest, Outside what);
