/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long a run takes, from what instances of the set took before: each batch the median of the preparation and of the time from the
 * stop to healthy, extensions included, and the waits of the policy between the batches. What a person or a gate may add is not known. And how long a
 * batch can take by the limits of the model, which says something of extensions that ran in no run before.
 */
#include "orchestrator/cli/plan_private.h"

#define RUNS_ASKED 5

/* Runs back say nothing of a preparation, and are compared with runs back. */
static gboolean is_like(const VrPlan *plan, const VrRun *run)
{
    return (run->kind == VR_RUN_ROLLBACK) == (plan->targets->kind == VR_RUN_ROLLBACK);
}

static GArray *times_before(VrPlan *plan, GError **error)
{
    g_autoptr(GPtrArray) runs = vr_history_list(vr_store_db(plan->session->store), plan->session->set->name, 0, error);
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(VrSwapTimes));

    for (guint i = 0; runs && i < runs->len && plan->runs_before < RUNS_ASKED; i++) {
        const VrRun *run = g_ptr_array_index(runs, i);
        g_autoptr(GArray) times = is_like(plan, run) ? vr_run_times(plan->session, run, error) : NULL;

        if (is_like(plan, run) && !times)
            return NULL;
        if (!times || times->len == 0)
            continue;
        g_array_append_vals(all, times->data, times->len);
        plan->runs_before++;
    }
    return runs ? g_steal_pointer(&all) : NULL;
}

gboolean vr_plan_look_back(VrPlan *plan, GError **error)
{
    g_autoptr(GArray) times = times_before(plan, error);

    if (!times)
        return FALSE;
    plan->off = vr_times_spread(times, G_STRUCT_OFFSET(VrSwapTimes, off_ms));
    plan->prepare = vr_times_spread(times, G_STRUCT_OFFSET(VrSwapTimes, prepare_ms));
    plan->nvram = vr_times_spread(times, G_STRUCT_OFFSET(VrSwapTimes, nvram_ms));
    plan->os_down = vr_times_spread(times, G_STRUCT_OFFSET(VrSwapTimes, os_down_ms));
    return TRUE;
}

/* --- the NVRAM, which is copied while its guest is off --- */

static guint count_nvram(const VrPlan *plan)
{
    guint count = 0;

    for (guint i = 0; i < plan->targets->count; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        if (vr_targets_image(plan->targets, i) && plan->targets->targets[i].chosen && look->def &&
            (look->def->nvram || look->def->nvram_unnamed))
            count++;
    }
    return count;
}

json_t *vr_plan_nvram_json(const VrPlan *plan)
{
    return json_pack("{s:i, s:o}", "instanceCount", (int)count_nvram(plan), "expectedMs", vr_spread_json(&plan->nvram));
}

static void print_nvram(const VrPlan *plan)
{
    guint count = count_nvram(plan);
    g_autofree char *each = vr_text_duration(plan->nvram.p50);

    if (count > 0)
        vr_say(plan->session->cli, "while off: the NVRAM of %u UEFI guest%s is copied%s%s", count,
               count == 1 ? "" : "s", plan->nvram.count > 0 ? ", about " : "", plan->nvram.count > 0 ? each : "");
}

/* H7: how long the guests of a batch wait, if they are not busy then and approve nothing. */
static gint64 notice_ms(const VrPlan *plan)
{
    const VrNoticeProfile *notice = &plan->session->set->model->notice;

    return notice->enable && plan->targets->kind != VR_RUN_ROLLBACK ? notice->not_before_ms : 0;
}

static void print_notice(const VrPlan *plan)
{
    const VrNoticeProfile *notice = &plan->session->set->model->notice;
    gboolean may_be_busy = notice->busy_file || notice->busy_command;
    g_autofree char *wait = vr_text_duration(notice_ms(plan));
    g_autofree char *busy = vr_text_duration(notice->busy_limit_ms);

    if (notice_ms(plan) > 0)
        vr_say(plan->session->cli, "before a batch goes down: its guests have notice, for %s%s%s", wait,
               may_be_busy ? " and as long as they are busy, at most " : "", may_be_busy ? busy : "");
}

/* The waits between the batches, and after the last: pauses (D5), checkpoints (D15), the bake time (D16); and the notices. */
static gint64 waits_ms(const VrPlan *plan)
{
    const VrUpgradePolicy *policy = &plan->session->set->model->policy;
    gboolean forward = plan->targets->kind != VR_RUN_ROLLBACK;
    gint64 waits = (forward && plan->batches->len > 0 ? policy->bake_ms : 0) + notice_ms(plan) * plan->batches->len;
    guint moved = 0, checkpoint = 0;

    for (guint i = 0; i + 1 < plan->batches->len; i++) {
        gboolean reached = FALSE;

        moved += ((const VrBatch *)g_ptr_array_index(plan->batches, i))->members->len;
        while (forward && checkpoint < VR_CHECKPOINTS && policy->checkpoints[checkpoint] > 0 &&
               policy->checkpoints[checkpoint] <= (guint64)moved * 100 / plan->targets->chosen) {
            reached = TRUE;
            checkpoint++;
        }
        waits += reached ? MAX(policy->checkpoint_wait_ms, policy->pause_ms) : policy->pause_ms;
    }
    return waits;
}

gint64 vr_plan_expected_ms(const VrPlan *plan)
{
    if (plan->os_down.count == 0)
        return -1;
    return (gint64)plan->batches->len * (MAX(0, plan->prepare.p50) + plan->os_down.p50) + waits_ms(plan);
}

/* --- by its limits --- */

gint64 vr_plan_extensions_most_ms(const VrPlan *plan)
{
    const GPtrArray *extensions = plan->session->set->model->extensions;
    gint64 ms = 0;

    for (guint i = 0; plan->targets->kind != VR_RUN_ROLLBACK && i < extensions->len; i++)
        ms += ((const VrExtension *)extensions->pdata[i])->timeout_ms;
    return ms;
}

gint64 vr_plan_batch_most_ms(const VrPlan *plan)
{
    return plan->targets->kind == VR_RUN_ROLLBACK ? -1 : vr_outside_batch_ms(plan->session->set->model);
}

static void print_limits(const VrPlan *plan)
{
    gint64 extensions_ms = vr_plan_extensions_most_ms(plan);
    g_autofree char *batch = vr_text_duration(vr_plan_batch_most_ms(plan));
    g_autofree char *extensions = vr_text_duration(extensions_ms);

    if (plan->targets->kind != VR_RUN_ROLLBACK)
        vr_say(plan->session->cli,
               "limits: once prepared, a batch takes at most %s until its guests are healthy or have failed%s%s%s",
               batch, extensions_ms > 0 ? ", its extensions at most " : "", extensions_ms > 0 ? extensions : "",
               extensions_ms > 0 ? " of that" : "");
}

/* --- all of it --- */

static const char *runs_like(const VrPlan *plan)
{
    return plan->targets->kind == VR_RUN_ROLLBACK ? "rollback" : "run";
}

static void print_not_measured(const VrPlan *plan, const char *waited)
{
    vr_say(plan->session->cli,
           "expected downtime: not known: no %s of this set has moved a guest yet, so nothing was measured%s%s",
           runs_like(plan), waited ? "; the waits between batches are " : "", waited ? waited : "");
}

/* What users of one guest notice. */
static void print_downtime(const VrPlan *plan)
{
    g_autofree char *down = vr_text_duration(plan->os_down.p50);
    g_autofree char *down_most = vr_text_duration(plan->os_down.max);
    g_autofree char *off = vr_text_duration(plan->off.p50);
    g_autofree char *off_most = vr_text_duration(plan->off.max);
    gboolean has_off = plan->off.count > 0;
    g_autofree char *runs = plan->runs_before == 1 ? g_strdup("") : g_strdup_printf("%u ", plan->runs_before);

    vr_say(
        plan->session->cli,
        "expected downtime: each guest about %s from its stop until it is healthy, at most %s%s%s%s%s; measured on %u "
        "guest%s in the last %s%s%s",
        down, down_most, has_off ? "; of that off for about " : "", has_off ? off : "", has_off ? ", at most " : "",
        has_off ? off_most : "", plan->os_down.count, plan->os_down.count == 1 ? "" : "s", runs, runs_like(plan),
        plan->runs_before == 1 ? "" : "s");
}

static void print_duration(const VrPlan *plan, const char *waited)
{
    g_autofree char *all = vr_text_duration(vr_plan_expected_ms(plan));
    g_autofree char *prepare = vr_text_duration(MAX(0, plan->prepare.p50));
    g_autofree char *down = vr_text_duration(plan->os_down.p50);

    vr_say(plan->session->cli,
           "expected duration: about %s for %u batch%s%s%s: of each, preparation %s, then down for %s", all,
           plan->batches->len, plan->batches->len == 1 ? "" : "es", waited ? " and waits of " : "",
           waited ? waited : "", prepare, down);
}

void vr_plan_print_expected(const VrPlan *plan)
{
    gint64 waits = waits_ms(plan);
    g_autofree char *waited = waits > 0 ? vr_text_duration(waits) : NULL;

    if (plan->batches->len == 0)
        return;
    if (plan->os_down.count == 0) {
        print_not_measured(plan, waited);
    } else {
        print_downtime(plan);
        print_duration(plan, waited);
    }
    print_notice(plan);
    print_nvram(plan);
    print_limits(plan);
}
