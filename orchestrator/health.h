/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is an instance healthy? From one source a set (E5): its application over http, https or tcp, a file or a command through
 * the guest agent, or without any of them the power state.
 *
 * An answer counts when it is proven to come from the new boot of this guest (invariant 26, FEATURES decision 13). An agent source
 * carries the boot id, which must not be that of before the swap. The others have no identity of their own: QEMU is a new process
 * whose live disk was compared with the intent, it is the same process before and after the answer, the connection was opened for the
 * question, and who answered has a MAC of this guest where that can be known; where the guest has an agent, its boot id is
 * asked for as well, and waited for a little where it had one before. `plan` calls them weak.
 */
#pragma once

#include "orchestrator/health_reply.h"
#include "orchestrator/model.h"

typedef struct {
    VrHealthState state;
    char *text;            /* what was seen, for a person; owned */
    char *boot_id;         /* of the guest, from its agent; NULL when it was not asked or did not say; owned */
    gboolean off;          /* the domain is off */
    gboolean libvirt_away; /* it could not be asked about the domain, and what is said of the guest is nothing */
    gboolean answered;     /* the guest said something of its own, good or bad */
    int domain_id;         /* of libvirt, so of the QEMU process that was looked at; -1: none */
    gint64 asked_us;       /* wall clock, for people */
    char *metrics;         /* customMetrics of the reply as JSON text (E10); NULL: none; owned */
    VrGuestWish wish;      /* from customMetrics; of an answer that is Healthy or Unhealthy */
} VrHealthAnswer;
void vr_health_answer_clear(VrHealthAnswer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrHealthAnswer, vr_health_answer_clear)

/* Who is looked at. The strings belong to the caller. */
typedef struct {
    const char *uuid;
    const char *address; /* of the instance in the model; NULL: what the agent or a DHCP lease says */
} VrHealthSubject;

/* The source in words, "an http request". Static. */
const char *vr_health_source_text(const VrHealthProfile *profile);

/* TRUE when the source speaks through the guest agent, which a swap then needs. */
gboolean vr_health_needs_agent(const VrHealthProfile *profile);
/* Do guests of this model need an agent channel: for their health, their extensions, what is carried over from them, or to be stopped? */
gboolean vr_model_needs_agent(const VrModel *model);

/* What a source without identity of its own cannot see, as a sentence for plan; NULL for the agent sources. Static. */
const char *vr_health_weakness(const VrHealthProfile *profile);

/* One look, at most until deadline_ms or until *aborted (NULL: never) becomes non-zero. Never fails: what cannot be asked is UNKNOWN or
 * UNHEALTHY with its text. */
void vr_health_probe(VrHv *hv, const VrHealthProfile *profile, const VrHealthSubject *subject, gint64 deadline_ms,
                     const gint *aborted, VrHealthAnswer *answer);

/* Looks at many at once: few threads ask libvirt and the agents, one asks all applications over the network. One that is not healthy is
 * looked at again after the interval, `looks` times at most, and the last answer holds: with numberOfProbes a guest that is
 * overloaded for a moment does not count as unhealthy (E13). Each look takes at most look_ms. *aborted (may be NULL) set to non-zero
 * by another thread ends it soon: FALSE, and the answers are nothing. */
gboolean vr_health_survey(VrHv *hv, const VrHealthProfile *profile, const VrHealthSubject *subjects, guint count,
                          gint64 look_ms, guint looks, const gint *aborted, VrHealthAnswer *answers);

typedef struct {
    VrHealthSubject subject;
    const char *old_boot_id; /* an answer with this boot id comes from the old disk (invariant 26); NULL: not known */
    gint64 started_ms;       /* when it began to run; the times of the model count from here */
    const gint *aborted;     /* NULL, or set to non-zero by another thread: ends the wait as UNKNOWN */
    /* Told of each answer that does not end the wait, on its thread; NULL: nobody is. until_ms: as it is now, it is waited for until then. */
    void (*told)(const VrHealthAnswer *answer, gint64 until_ms, void *data);
    void *told_data;
} VrHealthWait;

/* Waits until it is healthy for numberOfProbes looks in a row (TRUE), or the time is over or QEMU has gone (FALSE): *answer is the last
 * one, its state that of health_track.h, its text says why. healthTimeout counts from started_ms (E1); with startTimeout the first
 * answer may take that long, and healthTimeout counts from it (E2): a guest that restarts by itself within startTimeout has it to give
 * anew. Time in which libvirt is away does not count, up to as
 * much again. started_ms may lie in the past: a guest that is healthy now is not called late, the looks that it takes to
 * say so are taken. */
gboolean vr_health_wait(VrHv *hv, const VrHealthProfile *profile, const VrHealthWait *wait, VrHealthAnswer *answer);
