/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an edit of a model means (K6), key by key: it counts from now, it reaches a guest with its next new OS disk, or it is
 * refused. Pure: two models in, a list of changes out. docs/model.md has the same table.
 */
#pragma once

#include "orchestrator/model.h"

typedef enum { VR_CHANGE_LIVE, VR_CHANGE_REIMAGE, VR_CHANGE_REFUSED } VrChangeClass;
const char *vr_change_class_name(VrChangeClass meaning); /* "live", "at next reimage", "refused" */

/* When a change of a key that has another class is refused all the same. */
typedef enum {
    VR_CHANGE_ALWAYS_GOES,
    VR_CHANGE_NOT_IN_A_RUN,     /* decision 11 */
    VR_CHANGE_NOT_ONCE_SWAPPED, /* kept disks belong to what it was */
    VR_CHANGE_NOT_TO_RENAME     /* a role that all its instances leave for a new one */
} VrChangeLimit;
const char *vr_change_limit_name(VrChangeLimit limit); /* "refused while a run is active"; NULL for ALWAYS_GOES */

typedef struct VrChangeRule VrChangeRule;
struct VrChangeRule {
    const char *key; /* as in a document: "stop.force", "instances[].role" */
    VrChangeClass meaning;
    VrChangeLimit limit;
    gboolean revision; /* a change gives the set a new model revision, which 'apply' brings to its instances (C11) */
    const char *note;  /* what brings it, or why it is refused; NULL: it is live */
    /* The value as a person reads it, NULL when it is not set; of VrModel, or of VrModelInstance. NULL: read by its own rule. */
    char *(*show)(const VrChangeRule *rule, const void *field);
    gsize offset;
    const char *const *names; /* of the values of an enum */
};

/* Every key that can change, ended by one without key. */
extern const VrChangeRule vr_change_rules[];

/* An image as the store knows it; each may be NULL. */
typedef struct {
    const char *name, *publisher, *offer, *sku;
} VrImageNames;

/* What the models do not say. Zeroes: nothing is known. */
typedef struct {
    gboolean running;           /* a run of the set is active */
    gboolean swapped;           /* an instance has a generation, made or adopted */
    VrImageNames before, after; /* of the two image references */
    const char *const *before_ids,
        *const *after_ids; /* of each instance, such as its UUID; NULL: as the models name them */
} VrChangeContext;

typedef struct {
    const VrChangeRule *rule;
    char *key;       /* with the instance: "instances[web-0].role" */
    char *from, *to; /* NULL: not set, or not there */
    VrChangeClass meaning;
} VrModelChange;

/* What differs, in the order of the table, then instance by instance. Element: VrModelChange *, freed with the array. */
GPtrArray *vr_model_compare(const VrModel *before, const VrModel *after, const VrChangeContext *context);

/* TRUE when something differs that only a new OS disk brings, other than its image. */
gboolean vr_model_needs_revision(const VrModel *before, const VrModel *after);
