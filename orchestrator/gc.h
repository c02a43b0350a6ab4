/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Retention applied (B4): which disks of a set's instances go, and those that instances left which are in no set any more. What goes and
 * why is in engine/retention.h, how in engine/retire.h.
 */
#pragma once

#include "engine/retire.h"
#include "orchestrator/registry.h"

/* The owner of what is in no set; no set can have this name. */
#define VR_GC_LEFT_OWNER "-left"

/* One disk that goes by its retention; all but the flag for as long as the call. */
typedef struct {
    const char *set_name; /* NULL: it is in no set */
    const char *domain, *uuid;
    const VrGeneration *generation;
    const char *why;
    const char *obstacle; /* why it stays all the same; NULL: it is deleted, or would be */
    guint64 bytes;        /* that its disk takes, or took, on the file system */
} VrGcDisk;

typedef struct {
    const VrEngine *engine; /* a dry run needs no owner */
    gboolean dry_run;
    void (*tell)(const VrGcDisk *disk, void *data);
    void *data;
    VrInUse *in_use; /* owned; read when the first disk is to go */
} VrGc;
void vr_gc_clear(VrGc *gc);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrGc, vr_gc_clear)

/* Of all instances of the set, by its model's retention. What cannot be deleted is told and is no error. */
gboolean vr_gc_set(VrGc *gc, const VrSet *set, GError **error);

/* Of instances that are in no set: by the retention that a model gets that says nothing; at_once: all that is of our making and that nobody
 * uses, the current ones too. The owner is VR_GC_LEFT_OWNER. */
gboolean vr_gc_left(VrGc *gc, gboolean at_once, GError **error);

/* What lies in ROOT/disks of which the journal knows nothing: it is left. uuid NULL: all of it. Element: char *, absolute paths, sorted, freed
 * with the array. */
GPtrArray *vr_gc_unknown(VrStore *store, VrJournal *journal, const char *uuid, GError **error);

/* The verdicts about an instance of a set: what retention will do, and when. generations: all that it has. */
GPtrArray *vr_gc_judge(VrJournal *journal, const VrSet *set, const char *uuid, const GPtrArray *generations,
                       GError **error);
