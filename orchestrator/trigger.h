/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What begins by itself (FEATURES H1 to H4, decision 5): the decision alone, from facts that somebody else has read (trigger_facts.h), so
 * that a table can test it. An automatic upgrade goes to the newest version that is not excluded. It never goes to a lower one, never to
 * one that failed for this set, never takes an instance along of which nobody knows what it runs (A14), and never begins a
 * second time for the same version however the first time ended, until something has changed: a newer version is there, the model was edited,
 * 'set-auto' was said again, or 'retry'.
 */
#pragma once

#include "orchestrator/history.h"
#include "orchestrator/registry.h"

typedef enum {
    VR_TRIGGER_OFF,     /* the set is not upgraded by itself */
    VR_TRIGGER_NOTHING, /* all that go with the set are where they would be brought to */
    VR_TRIGGER_BLOCKED, /* a person must do something first */
    VR_TRIGGER_WAIT, /* begins when its maintenance window opens, or the guests of a host that has booted are up again */
    VR_TRIGGER_DUE   /* begins now */
} VrTriggerState;
const char *vr_trigger_state_name(VrTriggerState state); /* "off", "nothing", "blocked", "wait", "due"; static */

/* Why it is blocked; a name for programs. */
typedef enum {
    VR_TRIGGER_WHY_NONE,
    VR_TRIGGER_WHY_MODEL,      /* this program cannot read the set's model */
    VR_TRIGGER_WHY_HEALTH,     /* no healthProfile says whether the new version works (E7) */
    VR_TRIGGER_WHY_IMAGE,      /* the gallery cannot say which version is the newest */
    VR_TRIGGER_WHY_PINNED,     /* the model asks for one version, not for the latest */
    VR_TRIGGER_WHY_RUN,        /* a run is open */
    VR_TRIGGER_WHY_PERSON,     /* an instance is UNKNOWN */
    VR_TRIGGER_WHY_UNKNOWN,    /* nobody knows what the instances run that are left (A14) */
    VR_TRIGGER_WHY_FAILED,     /* the version failed for this set */
    VR_TRIGGER_WHY_TAKEN_BACK, /* a person has rolled it back */
    VR_TRIGGER_WHY_ENDED,      /* it was begun once, and has ended */
    VR_TRIGGER_WHY_WINDOW,     /* the maintenance window cannot be computed */
    VR_TRIGGER_WHY_LAST_
} VrTriggerWhy;
const char *vr_trigger_why_name(VrTriggerWhy why); /* "failed", ...; NULL of NONE; static */

/* What an automatic upgrade does with one instance. */
typedef enum {
    VR_TRIGGER_MOVES,
    VR_TRIGGER_THERE,     /* runs the version already */
    VR_TRIGGER_NEWER,     /* runs a newer one */
    VR_TRIGGER_ELSEWHERE, /* runs another image: which is newer nobody can say */
    VR_TRIGGER_NOT_KNOWN, /* A14 */
    VR_TRIGGER_KEPT_OUT,  /* pinned to another version, or protected */
    VR_TRIGGER_PLACES_
} VrTriggerPlace;
VrTriggerPlace vr_trigger_place(const VrInstance *instance, const VrGeneration *current, const char *image,
                                const char *version);

typedef struct {
    const char *set;
    const char *unreadable;           /* why the model cannot be read; NULL: it can */
    gboolean enabled;                 /* by a command, else by the model */
    VrSetAuto word;                   /* what the command said */
    gboolean has_health;              /* an application is asked */
    const char *image, *version;      /* the newest version that is eligible; version NULL: there is none */
    const char *image_error;          /* why nobody can say; NULL */
    const char *pin;                  /* the version that the model asks for; NULL: the latest */
    guint places[VR_TRIGGER_PLACES_]; /* how many instances of each */
    const char *open_run;
    gboolean open_run_automatic;
    const char *open_run_hold;  /* what it waits for, as status says it; NULL: nothing */
    const char *unknown_domain; /* the instance that is UNKNOWN; NULL: none */
    const char *failed_run, *failed_code;
    const char *taken_back_run;
    gboolean tried; /* it was begun by itself since the last word of a person */
    gint64 tried_us;
    const char *tried_text; /* why it was refused before there was a run; NULL */
    const char *ended_run;  /* a run to the version that does not let another one begin; NULL */
    gboolean ended_automatic;
    VrRunStatus ended_status;
    const char *window_error; /* NULL */
    gboolean window_closed;   /* there is one, and it is not open now */
    gint64 window_next_us;    /* when it opens next, wall clock; 0: never again */
    gint64
        settles_us; /* the host has booted: its guests have until then to be healthy again, wall clock; 0: that is over */
} VrTriggerFacts;

typedef struct {
    VrTriggerState state;
    VrTriggerWhy why;
    char *version; /* that begins, waits or is blocked; NULL: none */
    gint64 at_us;  /* of WAIT, wall clock */
    char *reason;  /* one line for a person; never NULL once decided */
} VrTrigger;
void vr_trigger_clear(VrTrigger *trigger);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrTrigger, vr_trigger_clear)

/* Pure. *trigger is overwritten, and cleared by the caller. */
void vr_trigger_decide(const VrTriggerFacts *facts, VrTrigger *trigger);
