/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a run needs from outside, and whether it is there (C5): before the first batch of an upgrade, a reimage or an apply, and again between
 * batches. It is a list: externalResources of the model, what else the model names on this host, and what others add by its path. A
 * rollback needs none of it (SAFETY invariant 15).
 *
 * Before a run everything is looked at, and must be good for as long as the run should take. Between two batches files are read again, and what
 * ends before the next batch could end is a reason to stop there; a URL is asked again only where its time was too short by what it said
 * last, so that a server that is slow for a moment stops nobody. The wall clock of this host is what counts.
 *
 * Nothing here follows a redirect, reads more of an answer than its status, waits for the writer of a FIFO, or shows what follows the '?' of a URL or what
 * stands in a file. No token's signature is checked: that is for whoever takes it.
 */
#pragma once

#include "hv/preflight.h"
#include "orchestrator/model.h"

typedef struct VrOutside VrOutside;

/* All that the model names. The model must outlive it. */
VrOutside *vr_outside_new(const VrModel *model);
void vr_outside_free(VrOutside *outside);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrOutside, vr_outside_free)

/* One more file of this host, that must be readable, or a program, that must be executable. key: where the model names it, for messages. */
void vr_outside_add_file(VrOutside *outside, const char *key, const char *path);
void vr_outside_add_program(VrOutside *outside, const char *key, const char *path);

/* How long one batch may take under a model, from the notice of its guests, or their stop where they have none, to their health. */
gint64 vr_outside_batch_ms(const VrModel *model);

typedef struct {
    gboolean border;            /* between two batches, else before the run */
    gint64 expected_ms;         /* how long the run should take, where it is known; else -1 */
    VrHv *hv;                   /* through which `from: guest` asks guest_uuid; NULL: a border asks no guest */
    const char *guest_uuid;     /* NULL: no guest runs that could be asked */
    const char *guest_name;     /* for messages */
    const char *const *ignored; /* findings that a person lets pass; may be NULL */
    gint64 ask_ms;              /* for each question over a network; 0: 10 s */
    const gint *aborted; /* NULL, or set to non-zero by another thread: ends it soon, and the findings are nothing */
} VrOutsideQuestion;

/* What the last look before a run found and a person lets pass: "TEXT [ID]". Element: const char *, owned by it. */
const GPtrArray *vr_outside_passed(const VrOutside *outside);

/* Looks at all of them, over the network at many at once. One thread at a time. Element: VrFinding *, freed with the array. */
GPtrArray *vr_outside_check(VrOutside *outside, const VrOutsideQuestion *question);
