/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The scale sets that were defined: their models and instances, in the tables `sets` and `instances`. */
#pragma once

#include "engine/journal.h"
#include "orchestrator/model.h"

typedef struct {
    char uuid[VR_UUID_LENGTH + 1];
    char *domain;         /* name when the set was defined; domains can be renamed, the UUID is what binds */
    guint upgrade_domain; /* kept with the instance (D7) */
} VrInstance;

typedef struct {
    char *name;
    char *text; /* the model as it was given */
    VrModel *model;
    GPtrArray *instances; /* VrInstance *, in order of definition */
    gint64 defined_us;
} VrSet;
void vr_set_free(VrSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSet, vr_set_free)

/* Brings the orchestrator's tables (sets, instances, runs, run_instances) up to date. */
gboolean vr_registry_init(VrDb *db, GError **error);

/* Defines or redefines a set. Each instance is looked up by name or UUID: one that does not exist is VR_ERROR_NOT_FOUND with its
 * line, one that is in another set VR_ERROR_CONFLICT. Instances that were in the set before keep their upgrade domain. */
gboolean vr_registry_define(VrJournal *journal, const VrOwner *owner, VrHv *hv, const VrModel *model, const char *text,
                            const char *file_name, GError **error);

/* Forgets the set and its instances; guests, disks and generations stay as they are. */
gboolean vr_registry_undefine(VrJournal *journal, const VrOwner *owner, const char *name, GError **error);

/* VR_ERROR_NOT_FOUND names the sets that there are. */
VrSet *vr_registry_get(VrDb *db, const char *name, GError **error);

/* Names of all sets, sorted. Element: char *, freed with the array. */
GPtrArray *vr_registry_list(VrDb *db, GError **error);

/* The index of an instance by domain name or UUID, or -1 with VR_ERROR_NOT_FOUND. */
int vr_set_find(const VrSet *set, const char *domain_or_uuid, GError **error);
