/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs, images and times as JSON with Azure's names where FEATURES J names them, and as lines. */
#pragma once

#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"

json_t *vr_counts_json(const VrRunCounts *counts); /* progress */

/* "upgrade to debian-12 2.0.0", "rollback". Free with g_free. */
char *vr_run_title(const VrRun *run);

json_t *vr_image_json(const VrImage *image);
json_t *vr_times_json(const VrSwapTimes *times);
json_t *vr_spread_json(const VrSpread *spread);
/* modelRevision: null where it is not known. */
json_t *vr_revision_json(const VrGeneration *generation);
json_t *vr_generation_json(const VrGeneration *generation);

/* targetImageReference: publisher, offer and SKU are looked up in the store, null when the version is not there. */
json_t *vr_reference_json(VrStore *store, const char *name, const char *version);

/* Who began it: a user name, or "itself". */
const char *vr_run_starter(const VrRun *run);

/* A run without its instances. */
json_t *vr_run_json(const VrSession *session, const VrRun *run);
/* The same keys where there was no run yet: null. */
json_t *vr_no_run_json(void);
/* Number of an instance's batch; null: it came to none. */
json_t *vr_batch_json(const VrRunInstance *instance);

/* A line of the stream of a command that has begun no run. runId NULL: there was none; else it was ended before. */
void vr_json_print_nothing(const char *set, const char *run_id, guint skipped);

/* The answer of history --azure, out of all runs, newest first. */
json_t *vr_history_azure(const VrSession *session, GPtrArray *runs);

/* data_proof_view.c. "2 untouched: vdb /srv/a.qcow2, ...; proven at ...". Free with g_free. */
char *vr_data_proof_line(const VrDataProof *proof);
/* null for NULL */
json_t *vr_data_proof_json(const VrDataProof *proof);

/* A duration of the model: "PT5M" would be its spelling, seconds are what programs read. */
#define VR_JSON_SECONDS(ms) json_real((double)(ms) / 1000.0)

/* Times of the swaps of a run that were committed. Element: VrSwapTimes, freed with the array. */
GArray *vr_run_times(const VrSession *session, const VrRun *run, GError **error);
/* Of one field of VrSwapTimes, by its offset. */
VrSpread vr_times_spread(const GArray *times, gsize offset);
