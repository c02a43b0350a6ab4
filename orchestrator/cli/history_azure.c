/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * history --azure: what GET .../virtualMachineScaleSets/SET/osUpgradeHistory answers for a scale set, so that tools made
 * for it can read ours: OS upgrades only, the last five of the last two months (row J1).
 */
#include "base/clock.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run_view.h"

#define MOST_RUNS 5
#define MONTHS 2

static gint64 two_months_ago_us(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_from_unix_utc(vr_clock_wall_us() / G_USEC_PER_SEC);
    g_autoptr(GDateTime) then = g_date_time_add_months(now, -MONTHS);

    return g_date_time_to_unix(then) * G_USEC_PER_SEC;
}

/* What is ours alone is left out. */
static json_t *properties_of(const VrSession *session, const VrRun *run)
{
    static const char *const keys[] = {"runningStatus",        "progress",    "error", "startedBy",
                                       "targetImageReference", "rollbackInfo"};
    g_autoptr(json_t) all = vr_run_json(session, run);
    json_t *properties = json_object();

    json_object_del(json_object_get(all, "progress"), "skippedInstanceCount");
    json_object_del(json_object_get(all, "targetImageReference"), "name");
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        json_t *value = json_object_get(all, keys[i]);
        if (value && !json_is_null(value))
            json_object_set(properties, keys[i], value);
    }
    return properties;
}

json_t *vr_history_azure(const VrSession *session, GPtrArray *runs)
{
    json_t *list = json_array();
    gint64 oldest_us = two_months_ago_us();

    for (guint i = 0; i < runs->len && json_array_size(list) < MOST_RUNS; i++) {
        const VrRun *run = g_ptr_array_index(runs, i);
        if (run->kind != VR_RUN_UPGRADE || run->started_us < oldest_us)
            continue;
        json_array_append_new(list, json_pack("{s:o, s:s, s:s}", "properties", properties_of(session, run), "type",
                                              "Microsoft.Compute/virtualMachineScaleSets/rollingUpgrades", "location",
                                              g_get_host_name()));
    }
    return json_pack("{s:o}", "value", list);
}
