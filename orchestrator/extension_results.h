/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What became of each extension on each generation (C3, C4, E6), in the table `extensions`. */
#pragma once

#include "engine/journal.h"

typedef enum {
    VR_EXTENSION_TRANSITIONING, /* begun, and no end is known */
    VR_EXTENSION_SUCCEEDED,
    VR_EXTENSION_FAILED,
    VR_EXTENSION_TIMED_OUT,
    VR_EXTENSION_SKIPPED /* one that it comes after did not succeed */
} VrExtensionStatus;
const char *vr_extension_status_name(VrExtensionStatus status); /* "Succeeded", ... */

#define VR_NO_EXIT_STATUS (-1)

typedef struct {
    char *name;
    VrExtensionStatus status;
    int exit_status;     /* 0..255; VR_NO_EXIT_STATUS: it has none */
    gboolean suppressed; /* suppressFailures: it counts for no health */
    char *text;          /* what happened, for a person; never NULL */
    char *output;        /* its last lines, without control characters and secrets; NULL: none */
    gint64 started_us;   /* wall clock; 0: it was not begun */
    gint64 duration_ms;  /* -1: not known */
} VrExtensionResult;
void vr_extension_result_clear(VrExtensionResult *result);
void vr_extension_result_free(VrExtensionResult *result);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrExtensionResult, vr_extension_result_free)

/* Did it end well, or does it not matter? */
gboolean vr_extension_result_is_good(const VrExtensionResult *result);

/* Writes one, over what there was of that name. position: its place in the order. */
gboolean vr_extension_result_write(VrJournal *journal, const VrOwner *owner, const char *uuid, guint generation,
                                   guint position, const VrExtensionResult *result, GError **error);

/* Of a generation, in order. Element: VrExtensionResult *, freed with the array. */
GPtrArray *vr_extension_results_read(VrJournal *journal, const char *uuid, guint generation, GError **error);

/* Within a transaction of an owner: forgets those whose swap was forgotten (vr_journal_forget_run), which keeps what a disk says that is current or
 * kept. */
gboolean vr_extension_results_prune(VrJournal *journal, GError **error);

/* Why a guest is not healthy with these: "extension app ended with status 3: no such host". NULL: nothing of that kind. Free with g_free. */
char *vr_extension_results_fault(const GPtrArray *results);
