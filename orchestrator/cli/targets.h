/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which instances a run moves and to what, decided before it starts and from the journal alone. */
#pragma once

#include "orchestrator/cli/session.h"

#include <jansson.h>

typedef struct {
    VrRunKind kind;
    VrImage *image;       /* that all move to; NULL: a rollback, or they go to different ones */
    GPtrArray *images;    /* VrImage *, each once: what targets[].image point to */
    guint count, chosen;  /* instances of the set; those that are moved */
    guint pinned;         /* left alone because the model pins them to another version */
    guint guarded;        /* ... or because they are protected */
    guint asked_out;      /* left alone because their guests ask for it (D14) */
    gboolean is_word;     /* that it is asked for ends what keeps the set from beginning by itself (trigger.h) */
    guint behind;         /* of an apply: those that were asked for and are behind the model */
    VrRunTarget *targets; /* [count] */
    GPtrArray *current;   /* VrGeneration * or NULL, one for each instance */
    GPtrArray *texts;     /* what targets[].skipped points to */
} VrTargets;

void vr_targets_clear(VrTargets *targets);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrTargets, vr_targets_clear)

/* All skipped for no reason yet, current generations read. */
gboolean vr_targets_init(VrTargets *targets, const VrSession *session, VrRunKind kind, GError **error);

void vr_targets_choose(VrTargets *targets, guint index, guint to_generation);
/* image: of vr_targets_eligible(). */
void vr_targets_choose_image(VrTargets *targets, guint index, const VrImage *image);
/* Takes text. Also of one that was chosen. */
void vr_targets_skip(VrTargets *targets, guint index, char *text);
/* G7: leaves one alone that is protected, and was not named. */
void vr_targets_skip_protected(VrTargets *targets, const VrSession *session, guint index);
const VrGeneration *vr_targets_current(const VrTargets *targets, guint index);
/* The version that one is moved to; NULL: to a kept generation, or it is not moved. */
const VrImage *vr_targets_image(const VrTargets *targets, guint index);

/* The kept generation that one is moved to; NULL: to a version, it is not moved, or the journal has none. */
VrGeneration *vr_targets_back_to(const VrTargets *targets, const VrSession *session, guint index);

/* A version that is there and not excluded, else VR_ERROR_NOT_FOUND or VR_ERROR_REFUSED; owned by the targets. */
const VrImage *vr_targets_eligible(VrTargets *targets, const VrSession *session, const char *name, const char *version,
                                   GError **error);
/* The same, excluded or not: for a run that began with it. */
const VrImage *vr_targets_stored(VrTargets *targets, const VrSession *session, const char *name, const char *version,
                                 GError **error);
/* When all that were chosen with an image go to the same one, that is the image of the run. */
void vr_targets_agree(VrTargets *targets);

/* Every version that the run makes disks of is what was published: verified once a run. */
gboolean vr_targets_verify(const VrTargets *targets, const VrSession *session, GError **error);

/* Indices of the instances that the command names after the set, or of all with --all; every one once. Neither or both
 * is VR_ERROR_USAGE: nothing ever defaults to all instances (I3). Element: guint. */
GArray *vr_targets_named(const VrSession *session, GError **error);

/* The short name of the set's image. Free with g_free. */
char *vr_set_image_name(const VrSession *session, GError **error);

/* The version of the set's image that --version, else the model, asks for. An excluded one is VR_ERROR_REFUSED. */
VrImage *vr_set_image(const VrSession *session, GError **error);

/* A version that runs may go to: an excluded one is VR_ERROR_REFUSED. */
VrImage *vr_set_eligible(const VrSession *session, const char *name, const char *version, GError **error);

/* Decision 6, of a version on top of a stuck run: marks those of the chosen that the newest run which tried them left failed, when that run
 * was for an older version. Whether they are still not well, a survey says. */
gboolean vr_targets_mark_left_failed(VrTargets *targets, const VrSession *session, GError **error);

gboolean vr_targets_of_upgrade(VrTargets *targets, const VrSession *session, GError **error);
gboolean vr_targets_of_reimage(VrTargets *targets, const VrSession *session, GError **error);
gboolean vr_targets_of_retry(VrTargets *targets, const VrSession *session, GError **error);

/* What run `run_id` moved goes back. *moved FALSE: it moved nothing, and nothing is chosen. */
gboolean vr_targets_of_undo(VrTargets *targets, const VrSession *session, const char *run_id, gboolean *moved,
                            GError **error);
gboolean vr_targets_of_apply(VrTargets *targets, const VrSession *session, GError **error);
/* Those that are behind the model, for what nobody asked for by name: the others are left alone, with the reason. */
gboolean vr_targets_of_edit(VrTargets *targets, const VrSession *session, GError **error);
gboolean vr_targets_of_rollback(VrTargets *targets, const VrSession *session, GError **error);

/* "protected by the model", "protected since 2026-11-22 06:55:24: REASON", or both; NULL: it is not (G7). Free with g_free. */
char *vr_protection_text(const VrInstance *instance);
/* Below a table: "  web-0: protected ...", each that is. */
void vr_say_protected(const VrCli *cli, const VrSet *set);
/* {byModel, since, reason}; null: it is not protected. */
json_t *vr_protection_json(const VrInstance *instance);

/* "debian-12 2.0.0 (generation 3)", "not known (generation 0)", "not known". Free with g_free. */
char *vr_generation_text(const VrGeneration *generation);
/* The version, or "?" where it is not known. Free with g_free. */
char *vr_version_text(const VrGeneration *generation);
