/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The scale sets that were defined: their models and instances, in the tables `sets` and `instances`.
 *
 * A model has a revision: it is raised by each define that changes what only a new OS disk brings, other than the image
 * (orchestrator/model_change.h), so that a generation says by which model it was made (J11). It is higher than that of any
 * generation that an instance of the set has, from whatever set it came.
 */
#pragma once

#include "engine/journal.h"
#include "orchestrator/model.h"

typedef struct {
    char uuid[VR_UUID_LENGTH + 1];
    char *domain;             /* name when the set was defined; domains can be renamed, the UUID is what binds */
    const char *pin;          /* the version that the set's model gives this one alone (A11), the model's; NULL: none */
    VrLabel role, zone, pair; /* as the model says, the names are the model's */
    guint phase;
    gboolean is_protected;   /* G7: by the model, or by a command */
    gboolean model_protects; /* protectFromScaleSetActions */
    gint64 protected_us;     /* since when by a command, wall clock; 0: it is not */
    char *protected_reason;  /* of the command; NULL: none was given */
    guint upgrade_domain;    /* kept with the instance (D7) */
    guint joined_revision;   /* of the set's model when it came into the set: stands in for one that is not known */
} VrInstance;

/* G6: what 'set-auto' said. It beats the model's enableAutomaticOSUpgrade. */
typedef enum { VR_SET_AUTO_AS_MODEL, VR_SET_AUTO_ON, VR_SET_AUTO_OFF } VrSetAuto;

typedef struct {
    char *name;
    char *text;           /* the model as it was given */
    VrModel *model;       /* NULL only of vr_registry_get_any(), with why in unreadable */
    char *unreadable;     /* why this program cannot read the text: a newer program defined the set */
    GPtrArray *instances; /* VrInstance *, in order of definition */
    gint64 defined_us;
    guint revision; /* of the model, from 1 */
    /* That the set as a whole has come to (D29, current_version.h); both NULL before */
    char *current_image, *current_version;
    VrSetAuto automatic;
    gint64 automatic_us;    /* when that was said, wall clock; 0: never */
    char *automatic_reason; /* NULL: none was given */
    /* What was begun by itself last, or was to begin; NULL once a person has said something since (registry_auto.c) */
    char *tried_image, *tried_version;
    char *tried_text; /* why it was refused before there was a run; NULL */
    gint64 tried_us;
    gint64
        word_run; /* the last run (runs.seq) that had ended when a person said something last: up to it none blocks */
} VrSet;
void vr_set_free(VrSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSet, vr_set_free)

/* Brings the orchestrator's tables (sets, instances, runs, run_instances) up to date. */
gboolean vr_registry_init(VrDb *db, GError **error);

/* Defines or redefines a set. Each instance is looked up by name or UUID: one that does not exist is VR_ERROR_NOT_FOUND with its
 * line, one that is in another set VR_ERROR_CONFLICT. Instances that were in the set before keep their upgrade domain
 * and the protection that a command gave them. */
gboolean vr_registry_define(VrJournal *journal, const VrOwner *owner, VrHv *hv, const VrModel *model, const char *text,
                            const char *file_name, GError **error);

/* Forgets the set and its instances; guests, disks and generations stay as they are. */
gboolean vr_registry_undefine(VrJournal *journal, const VrOwner *owner, const char *name, GError **error);

/* Within a transaction of the set's owner: the instance is in the set no longer, and `text` takes the place of its model's text. text NULL: it was
 * the only one, and the set is forgotten with it. VR_ERROR_CONFLICT: the set is not what it was when it was read. */
gboolean vr_registry_leave(VrDb *db, const VrSet *set, const VrInstance *instance, const char *text, GError **error);

/* G7: the protection by a command, of all these instances or none. indices: guint; since_us: wall clock, 0 ends it; reason may be NULL. It
 * goes when the instance leaves the set. */
gboolean vr_registry_protect(VrJournal *journal, const VrOwner *owner, const VrSet *set, const GArray *indices,
                             gint64 since_us, const char *reason, GError **error);

/* Whether the set is upgraded by itself: as the command said, else as the model says. FALSE without a model that can be read. */
gboolean vr_set_is_automatic(const VrSet *set);

/* G6: with its line in the audit, whoever owns the set. reason may be NULL; who: for the audit. Said again it lets begin what has
 * ended (vr_registry_word), too. */
gboolean vr_registry_set_auto(VrJournal *journal, const VrSet *set, VrSetAuto automatic, const char *reason,
                              const char *who, GError **error);

/* A person has said something, so that what has ended may begin by itself again: an edit of the model says so, too. */
gboolean vr_registry_word(VrJournal *journal, const VrOwner *owner, const VrSet *set, GError **error);

/* An upgrade to this version begins by itself: written before anything of it can fail. text NULL; or, once it has failed before there was a run,
 * why, which goes into the audit, too. */
gboolean vr_registry_tried(VrJournal *journal, const VrOwner *owner, const VrSet *set, const char *image,
                           const char *version, const char *text, GError **error);

/* VR_ERROR_NOT_FOUND names the sets that there are; VR_ERROR_REFUSED: this program cannot read its model. */
VrSet *vr_registry_get(VrDb *db, const char *name, GError **error);

/* The same, also of a set whose model cannot be read: for what must go on without it. */
VrSet *vr_registry_get_any(VrDb *db, const char *name, GError **error);

/* FALSE with VR_ERROR_REFUSED, and what to do, when the set's model cannot be read. */
gboolean vr_set_require_model(const VrSet *set, GError **error);

/* Names of all sets, sorted. Element: char *, freed with the array. */
GPtrArray *vr_registry_list(VrDb *db, GError **error);

/* TRUE: the model was edited since the instance's generation was made (NULL, or of no known revision: since it came into the
 * set), in what only a new OS disk brings. The image version is another matter. */
gboolean vr_set_is_behind(const VrSet *set, guint index, const VrGeneration *current);

/* Where an instance is reached over a network, as its model says; NULL: it does not. */
const char *vr_set_address(const VrSet *set, guint index);

/* What protectDisks of an instance names (B12), owned by the set; NULL: nothing. */
const char *const *vr_set_protected_disks(const VrSet *set, guint index);

/* The index of an instance by domain name or UUID, or -1 with VR_ERROR_NOT_FOUND. */
int vr_set_find(const VrSet *set, const char *domain_or_uuid, GError **error);
