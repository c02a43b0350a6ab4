/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A hypervisor of several scripted domains (fake_hv.h, one directory each) for the sweeps. Each call that changes a domain is a
 * point before and after its effect, and a call may be given a fault.
 */
#pragma once

#include "fault/fake_hv.h"

#define SWEEP_GUESTS_MAX 3
#define SWEEP_GUEST_0 "11111111-2222-4333-8444-555555555550" /* UUID of the first */

typedef enum {
    SWEEP_NO_FAULT,
    SWEEP_REFUSED,         /* an error, and nothing has happened */
    SWEEP_LOST_BEFORE,     /* the connection breaks, nothing has happened */
    SWEEP_LOST_AFTER,      /* it has happened, and the connection breaks before the answer */
    SWEEP_HUNG,            /* abandoned at its deadline; never happens */
    SWEEP_HUNG_THEN_DONE,  /* abandoned at its deadline; happens right after, before the next call */
    SWEEP_HUNG_DONE_LATE,  /* ... only after SWEEP_LATE_CALLS further calls */
    SWEEP_RESTARTS_BEFORE, /* libvirtd restarts: nothing has happened, and it is away for SWEEP_AWAY_CALLS calls */
    SWEEP_RESTARTS_AFTER,  /* it has happened, likewise */
    SWEEP_GONE,            /* nothing has happened, and libvirtd does not come back while this process lives */
    SWEEP_GONE_AFTER,      /* it has happened, likewise */
    SWEEP_LIES,            /* a define is answered well, and the old XML stays (SAFETY 2, S8-S10) */
    SWEEP_FAULTS
} SweepFault;
const char *sweep_fault_name(SweepFault fault);

#define SWEEP_LATE_CALLS 3
#define SWEEP_AWAY_CALLS 3
#define SWEEP_HANG_MS 30000

typedef struct SweepHv SweepHv;

/* dir/0, dir/1, ...: n domains that exist there. Its names and UUIDs: sweep_guest_name(), sweep_guest_uuid(). */
SweepHv *sweep_hv_new(const char *dir, guint n);
void sweep_hv_free(SweepHv *hv); /* what hangs happens now */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SweepHv, sweep_hv_free)
VrHv *sweep_hv_ops(SweepHv *hv);
FakeHv *sweep_hv_fake(SweepHv *hv, guint guest);

/* The at-th call (from 1) has the fault. */
void sweep_hv_script(SweepHv *hv, guint at, SweepFault fault);
guint sweep_hv_calls(const SweepHv *hv);
const char *sweep_hv_hit(const SweepHv *hv); /* the operation that had the fault; NULL: none had */

/* libvirtd is killed, and another one is there. */
void sweep_hv_restart(SweepHv *hv);

/* Not owned. */
const char *sweep_guest_uuid(guint guest);
const char *sweep_guest_name(guint guest);

/* The clock of the sweeps: nobody sleeps, time jumps instead. */
void sweep_clock_install(void);
void sweep_clock_skip(gint64 ms);
