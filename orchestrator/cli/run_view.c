/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/run_view.h"

#include "base/clock.h"

json_t *vr_counts_json(const VrRunCounts *counts)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i}", "successfulInstanceCount", (int)counts->successful,
                     "failedInstanceCount", (int)counts->failed, "inProgressInstanceCount", (int)counts->in_progress,
                     "pendingInstanceCount", (int)counts->pending, "skippedInstanceCount", (int)counts->skipped);
}

char *vr_run_title(const VrRun *run)
{
    const char *kind = vr_run_kind_name(run->kind);

    return run->version ? g_strdup_printf("%s to %s %s", kind, run->image, run->version) : g_strdup(kind);
}

json_t *vr_image_json(const VrImage *image)
{
    json_t *document =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "name", vr_json_text(image->name), "version",
                  vr_json_text(image->version), "publisher", vr_json_text(image->publisher), "offer",
                  vr_json_text(image->offer), "sku", vr_json_text(image->sku), "path", vr_json_text(image->path));

    json_object_update_new(document,
                           json_pack("{s:s, s:I, s:I, s:s, s:s, s:i, s:o, s:b, s:o}", "format",
                                     vr_image_format_name(image->format), "fileSizeBytes", (json_int_t)image->file_size,
                                     "virtualSizeBytes", (json_int_t)image->virtual_size, "sourceDigest",
                                     image->source_digest, "storedDigest", image->stored_digest, "rulesVersion",
                                     image->rules_version, "publishedAt", vr_json_text(image->published_at), "excluded",
                                     image->excluded, "excludedReason", vr_json_text(image->excluded_reason)));
    return document;
}

json_t *vr_batch_json(const VrRunInstance *instance)
{
    return instance->batch > 0 ? json_integer(instance->batch) : json_null();
}

json_t *vr_times_json(const VrSwapTimes *times)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "prepareMs", vr_json_ms(times->prepare_ms), "stopMs",
                     vr_json_ms(times->stop_ms), "switchMs", vr_json_ms(times->switch_ms), "nvramMs",
                     vr_json_ms(times->nvram_ms), "startMs", vr_json_ms(times->start_ms), "healthyMs",
                     vr_json_ms(times->healthy_ms), "offMs", vr_json_ms(times->off_ms), "osDownMs",
                     vr_json_ms(times->os_down_ms));
}

json_t *vr_spread_json(const VrSpread *spread)
{
    return json_pack("{s:o, s:o, s:o, s:i}", "p50", vr_json_ms(spread->p50), "p95", vr_json_ms(spread->p95), "max",
                     vr_json_ms(spread->max), "count", (int)spread->count);
}

json_t *vr_revision_json(const VrGeneration *generation)
{
    return generation && generation->model_revision > 0 ? json_integer(generation->model_revision) : json_null();
}

json_t *vr_generation_json(const VrGeneration *generation)
{
    return json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "generation",
                     (int)generation->number, "state", vr_generation_state_name(generation->state), "image",
                     vr_json_text(generation->image), "version", vr_json_text(generation->version), "modelRevision",
                     vr_revision_json(generation), "path", vr_json_text(generation->path), "nvram",
                     vr_json_text(generation->nvram), "seed", vr_json_text(generation->seed), "format",
                     vr_json_text(generation->format), "diskType", vr_json_text(generation->disk_type), "ours",
                     generation->ours, "madeAt", vr_json_time(generation->made_us));
}

json_t *vr_reference_json(VrStore *store, const char *name, const char *version)
{
    g_autoptr(VrImage) image = name && version ? vr_store_get(store, name, version, NULL) : NULL;

    if (!name)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "name", vr_json_text(name), "publisher",
                     vr_json_text(image ? image->publisher : NULL), "offer", vr_json_text(image ? image->offer : NULL),
                     "sku", vr_json_text(image ? image->sku : NULL), "version", vr_json_text(version));
}

static json_t *running_status(const VrRun *run)
{
    gboolean cancelled = run->status == VR_RUN_CANCELLED;

    return json_pack("{s:s, s:o, s:o, s:s, s:o}", "code", vr_run_status_name(run->status), "startTime",
                     vr_json_time(run->started_us), "completedTime", vr_json_time(run->completed_us), "lastAction",
                     cancelled ? "Cancel" : "Start", "lastActionTime",
                     vr_json_time(cancelled ? run->completed_us : run->started_us));
}

static json_t *error_of(const VrRun *run)
{
    if (!run->error_code)
        return json_null();
    return json_pack("{s:o, s:o}", "code", vr_json_text(run->error_code), "message", vr_json_text(run->error_text));
}

const char *vr_run_starter(const VrRun *run)
{
    return run->automatic ? "itself" : run->started_by;
}

json_t *vr_run_json(const VrSession *session, const VrRun *run)
{
    VrRunCounts counts = vr_run_counts(run);
    json_t *document = json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}", "runId", vr_json_text(run->id), "operation",
                                 vr_run_kind_name(run->kind), "runningStatus", running_status(run), "progress",
                                 vr_counts_json(&counts), "rollbackInfo",
                                 json_pack("{s:i, s:i}", "successfullyRolledbackInstanceCount", (int)counts.restored,
                                           "failedRolledbackInstanceCount", (int)counts.unknown),
                                 "error", error_of(run));

    /* startedBy is Azure's word for who (J4). */
    json_object_update_new(document,
                           json_pack("{s:s, s:o, s:o, s:o, s:o}", "startedBy", run->automatic ? "Platform" : "User",
                                     "userName", vr_json_text(run->automatic ? NULL : run->started_by), "reason",
                                     vr_json_text(run->reason), "role", vr_json_text(run->role), "targetImageReference",
                                     vr_reference_json(session->store, run->image, run->version)));
    return document;
}

json_t *vr_no_run_json(void)
{
    return json_pack("{s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n}", "runId", "operation", "runningStatus",
                     "progress", "rollbackInfo", "error", "startedBy", "userName", "reason", "role",
                     "targetImageReference");
}

void vr_json_print_nothing(const char *set, const char *run_id, guint skipped)
{
    vr_json_print_line(json_pack("{s:s, s:o, s:o, s:o, s:i}", "event", "nothingToDo", "time",
                                 vr_json_time(vr_clock_wall_us()), "set", vr_json_text(set), "runId",
                                 vr_json_text(run_id), "skippedInstanceCount", (int)skipped));
}

GArray *vr_run_times(const VrSession *session, const VrRun *run, GError **error)
{
    g_autoptr(GPtrArray) swaps = vr_journal_run_swaps(session->journal, run->id, error);
    g_autoptr(GArray) times = g_array_new(FALSE, TRUE, sizeof(VrSwapTimes));

    for (guint i = 0; swaps && i < swaps->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(swaps, i);
        VrSwapTimes one;
        if (row->state != VR_SWAP_COMMITTED)
            continue;
        if (!vr_journal_swap_times(session->journal, row->id, &one, error))
            return NULL;
        g_array_append_val(times, one);
    }
    return swaps ? g_steal_pointer(&times) : NULL;
}

VrSpread vr_times_spread(const GArray *times, gsize offset)
{
    g_autofree gint64 *values = g_new0(gint64, times->len + 1);

    for (guint i = 0; i < times->len; i++)
        values[i] = G_STRUCT_MEMBER(gint64, &g_array_index(times, VrSwapTimes, i), offset);
    return vr_spread_of(values, times->len);
}
