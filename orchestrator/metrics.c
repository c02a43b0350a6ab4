/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/metrics.h"

#include "base/durable.h"
#include "base/fd.h"
#include "base/lock.h"
#include "engine/release.h"
#include "orchestrator/metrics_private.h"

#include <fcntl.h>

static void share_clear(gpointer data)
{
    VrMetricsShare *share = data;

    g_free(share->image);
    g_free(share->version);
}

static void set_clear(gpointer data)
{
    VrMetricsSet *one = data;

    g_clear_pointer(&one->set, vr_set_free);
    g_clear_pointer(&one->shares, g_array_unref);
    g_clear_pointer(&one->blocked, g_ptr_array_unref);
}

/* --- reading ----------------------------------------------------------------------------------------- */

static gboolean is_owned(VrStore *store, const char *set_name)
{
    vr_autofd locks = vr_open_beneath(vr_store_root_fd(store), "locks", O_RDONLY | O_DIRECTORY, 0, NULL);

    return locks >= 0 && vr_lock_is_held(locks, set_name, NULL);
}

/* Each of these reads by itself; a set that goes meanwhile is not told of. */
static gboolean read_set(VrMetricsSet *one, VrStore *store, VrJournal *journal, const char *name, GError **error)
{
    g_autoptr(GPtrArray) releases = NULL;

    one->shares = g_array_new(FALSE, TRUE, sizeof(VrMetricsShare));
    g_array_set_clear_func(one->shares, share_clear);
    one->blocked = g_ptr_array_new_with_free_func(g_free);
    one->owned = is_owned(store, name); /* before the runs: the end of one is written before it is given back */
    one->set = vr_registry_get_any(vr_store_db(store), name, error);
    releases = one->set ? vr_release_open_ones(journal, name, error) : NULL;
    one->releases = releases ? releases->len : 0;
    return releases != NULL;
}

/* One snapshot for all that is counted. */
static gboolean read_counts(GArray *sets, VrJournal *journal, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    gboolean ok = TRUE;

    if (!vr_db_begin_read(db, error))
        return FALSE;
    for (guint i = 0; ok && i < sets->len; i++) {
        VrMetricsSet *one = &g_array_index(sets, VrMetricsSet, i);
        ok = vr_metrics_read_instances(one, journal, error) && vr_metrics_read_runs(one, journal, error) &&
             vr_tallies_read(journal, one->set->name, &one->tallies, error);
    }
    vr_db_rollback(db);
    return ok;
}

static GArray *read_all(VrStore *store, VrJournal *journal, GError **error)
{
    g_autoptr(GPtrArray) names = vr_registry_list(vr_store_db(store), error);
    g_autoptr(GArray) sets = g_array_new(FALSE, TRUE, sizeof(VrMetricsSet));

    g_array_set_clear_func(sets, set_clear);
    if (!names)
        return NULL;
    for (guint i = 0; i < names->len; i++) {
        g_array_set_size(sets, sets->len + 1);
        if (!read_set(&g_array_index(sets, VrMetricsSet, sets->len - 1), store, journal, names->pdata[i], error))
            return NULL;
    }
    return read_counts(sets, journal, error) ? g_steal_pointer(&sets) : NULL;
}

/* --- writing ----------------------------------------------------------------------------------------- */

static void write_sets(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_build_info", NULL, "The version of the program, as a label");
    vr_metric_number(out, VR_LABELS("version", VR_VERSION), 1);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_sets", NULL, "Scale sets that are defined");
    vr_metric_number(out, NULL, sets->len);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_set_info", NULL,
                     "The image and version that the set as a whole has come to, as labels");
    VR_EACH_SET(one, sets)
    vr_metric_number(out, VR_SET_LABELS(one, "image", one->set->current_image, "version", one->set->current_version),
                     1);
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_set_defined_timestamp_seconds", "seconds",
                     "When the set was defined last");
    VR_EACH_SET(one, sets)
    vr_metric_time(out, VR_SET_LABEL(one), one->set->defined_us);
}

/* What does not go on by itself. */
static void write_attention(VrMetricText *out, const GArray *sets)
{
    vr_metric_family(out, VR_METRIC_GAUGE, "virt_reimage_set_attention", NULL,
                     "What a person must look at, by reason: instances, swaps, releases, or 1 for a run or a model");
    VR_EACH_SET(one, sets)
    {
        const struct {
            const char *reason;
            guint count;
        } reasons[] = {{"unknown_instance", one->unknown},
                       {"open_swap", one->owned ? 0 : one->open_swaps - one->unknown},
                       {"open_release", one->owned ? 0 : one->releases},
                       {"interrupted_run", one->open && !one->owned ? 1 : 0},
                       {"unreadable_model", one->set->unreadable ? 1 : 0}};
        for (guint i = 0; i < G_N_ELEMENTS(reasons); i++)
            vr_metric_number(out, VR_SET_LABELS(one, "reason", reasons[i].reason), reasons[i].count);
    }
}

char *vr_metrics(VrStore *store, VrJournal *journal, VrMetricsFormat format, GError **error)
{
    g_autoptr(GArray) sets = read_all(store, journal, error);
    g_autoptr(GString) text = g_string_new(NULL);
    VrMetricText out = {.format = format, .text = text};

    if (!sets)
        return NULL;
    write_sets(&out, sets);
    write_attention(&out, sets);
    vr_metrics_write_instances(&out, sets);
    vr_metrics_write_runs(&out, sets);
    vr_metrics_write_times(&out, sets);
    if (!vr_metrics_write_store(&out, store, error))
        return NULL;
    if (format == VR_METRICS_OPENMETRICS)
        g_string_append(text, "# EOF\n");
    return g_strdup(text->str);
}
