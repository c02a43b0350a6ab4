/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to hv/: one libvirt call that runs on a worker thread while its caller waits no longer than it wants to.
 *
 * A VrCall is shared by two: the caller and the worker. Each holds a reference, and whoever lets go last
 * frees it with all results. A caller whose patience ends just goes away; the worker's result is then freed
 * unseen. So a worker that libvirtd hangs costs a thread and a VrCall, never a caller (SAFETY 4.13).
 *
 * Who may touch what: arguments are written by the caller before vr_call_run() and only read after it. Results
 * are written by the worker before it says `done`, and belong to the caller after vr_call_run() returned TRUE.
 * `done`, `abandoned` and `refs` are under `gate` while a worker runs. No other lock is taken while a gate is held; the one of the calls that
 * hang is held over nothing.
 *
 * Plain pthread locks rather than GLib's, here and in connection.c: the thread sanitizer knows them.
 */
#pragma once

#include "hv/console.h"
#include "hv/hv.h"
#include <libvirt/libvirt.h>
#include <pthread.h>

/* A mutex with its condition, on the monotonic clock. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
} VrGate;

void vr_gate_init(VrGate *gate);
void vr_gate_clear(VrGate *gate);
void vr_gate_lock(VrGate *gate);
void vr_gate_unlock(VrGate *gate);
void vr_gate_wake(VrGate *gate); /* all waiters; with the gate held */

/* With the gate held: waits for a wake-up until deadline_ms (boot time); FALSE when that has passed. */
gboolean vr_gate_wait(VrGate *gate, gint64 deadline_ms);

/* Of a call that another client's job keeps out: libvirt waits 30 s each time. */
#define VR_MAX_TRIES 3

typedef struct VrSession VrSession;
typedef struct VrWatch VrWatch;
typedef struct VrCall VrCall;

/* Runs on a worker; the errors of libvirt are those of that thread. */
typedef gboolean (*VrCallFunc)(VrCall *call, GError **error);

struct VrCall {
    /* Arguments. */
    VrCallFunc func;
    VrSession *session;  /* a reference, NULL for the call that opens one */
    virConnectPtr conn;  /* the session's */
    VrWatch *watch;      /* a reference, for the call that opens one */
    char *subject;       /* UUID, name or URI */
    char *text;          /* XML, command, volume, target of a disk */
    int number;          /* mode, seconds; of "state": how often it was asked */
    VrConsole *console;  /* a reference, for the call that opens it */
    virStreamPtr stream; /* for the call that ends it: its own until then */

    /* Results. */
    char *string;
    GPtrArray *strings;
    VrDomainInfo info;
    VrBlockJob block_job;
    VrSession *opened;
    GError *error;
    gboolean ok;
    gboolean retry; /* another client's job held the domain: nothing was done, asking again makes sense */

    VrGate gate;
    guint refs;
    gboolean done;
    gboolean abandoned; /* and not done: it counts as one that hangs */
    char *hangs_on;     /* what it counts for; written before `abandoned` */
};

VrCall *vr_call_new(VrCallFunc func, const char *subject);
void vr_call_unref(VrCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCall, vr_call_unref)

/* Runs it on a worker and waits. TRUE: it ended, ok and the other results say how. FALSE: it still runs and is the
 * worker's; only vr_call_unref() may follow. An ended call may be run again. */
gboolean vr_call_run(VrCall *call, gint64 patience_ms);

/* After vr_call_run() said FALSE, of a call that libvirt does not end by itself: it hangs until its worker returns, if ever. on: what it is
 * about (a UUID); NULL: libvirt itself, and each such call is a subject of its own. */
void vr_call_abandon(VrCall *call, const char *on);

/* How many calls of this process hang now on this subject, and on how many subjects any do. */
guint vr_call_hanging(const char *on, guint *subjects);
