/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* plan: looks at every instance as the engine will, asks the planner for its batches, prints both. */
#include "orchestrator/cli/plan_private.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/window_view.h"

#include <stdio.h>

static void plan_clear(VrPlan *plan)
{
    g_clear_pointer(&plan->looks, g_ptr_array_unref);
    g_clear_pointer(&plan->users, vr_disk_users_free);
    g_clear_pointer(&plan->batches, g_ptr_array_unref);
    g_clear_pointer(&plan->outside, g_ptr_array_unref);
    g_clear_pointer(&plan->diffs, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrPlan, plan_clear)

/* --- making it --------------------------------------------------------------------------------------- */

/* D14; a rollback does not listen, and who named an instance means it. */
static void leave_out_by_wish(VrPlan *plan)
{
    VrTargets *targets = plan->targets;

    for (guint i = 0; i < targets->count && targets->kind != VR_RUN_ROLLBACK; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        gboolean named = targets->targets[i].named || targets->targets[i].canary;
        if (!targets->targets[i].chosen || named || !look->health.wish.skip)
            continue;
        vr_targets_skip(targets, i, g_strdup(VR_GUEST_SKIPS));
        targets->asked_out++;
    }
}

static VrCandidate candidate_of(const VrPlan *plan, guint i)
{
    const VrTargets *targets = plan->targets;
    const VrLook *look = g_ptr_array_index(plan->looks, i);
    const VrInstance *instance = vr_set_instance(plan->session->set, i);

    return (VrCandidate){.upgrade_domain = instance->upgrade_domain,
                         .role = instance->role,
                         .zone = instance->zone,
                         .pair = instance->pair,
                         .phase = instance->phase,
                         .guest_phase = targets->kind == VR_RUN_ROLLBACK ? 0 : look->health.wish.phase,
                         .status = targets->targets[i].chosen ? VR_CANDIDATE_PENDING : VR_CANDIDATE_SKIPPED,
                         .down = vr_look_is_down(look),
                         .off = look->found && look->health.off,
                         .left_failed = targets->targets[i].left_failed,
                         .is_protected = instance->is_protected};
}

static GPtrArray *batches_of(VrPlan *plan)
{
    const VrTargets *targets = plan->targets;
    g_autofree VrCandidate *candidates = g_new0(VrCandidate, targets->count);

    for (guint i = 0; i < targets->count; i++)
        candidates[i] = candidate_of(plan, i);
    return vr_planner_plan(&plan->session->set->model->policy, candidates, targets->count,
                           targets->kind == VR_RUN_ROLLBACK, &plan->block);
}

/* A rollback is the way out, and is not held up by a domain of somebody else's. */
static gboolean read_users(VrPlan *plan, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean is_rollback = plan->targets->kind == VR_RUN_ROLLBACK;

    plan->users = vr_disk_users_read(plan->session->hv, is_rollback, &local);
    if (plan->users || is_rollback)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean make_plan(VrPlan *plan, GError **error)
{
    if (!vr_plan_measure(plan, error) || !vr_plan_look_back(plan, error) || !read_users(plan, error))
        return FALSE;
    const VrLookPurpose purpose = {.targets = plan->targets,
                                   .users = plan->users,
                                   .ignored = (const char *const *)plan->session->cli->options.ignore};
    plan->looks = vr_look_at_set(plan->session, -1, &purpose);
    vr_plan_measure_nvram(plan);
    leave_out_by_wish(plan);
    plan->batches = batches_of(plan);
    vr_plan_look_outside(plan);
    return TRUE;
}

/* --- what it says of one instance -------------------------------------------------------------------- */

static char *version_then(const VrPlan *plan, guint index)
{
    g_autoptr(VrGeneration) to = NULL;

    if (!plan->targets->targets[index].chosen)
        return vr_version_text(vr_targets_current(plan->targets, index));
    if (vr_targets_image(plan->targets, index))
        return g_strdup(vr_targets_image(plan->targets, index)->version);
    to = vr_targets_back_to(plan->targets, plan->session, index);
    return vr_version_text(to);
}

static guint count_blockers(const VrPlan *plan)
{
    guint blockers = 0;

    for (guint i = 0; i < plan->targets->count; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        if (plan->targets->targets[i].chosen && vr_preflight_blocker(look->findings))
            blockers++;
    }
    return blockers;
}

static const char *why_down(const VrLook *look)
{
    return look->found && look->health.text ? look->health.text : "libvirt does not know it, or does not answer";
}

static void append_places(const VrPlan *plan, GString *text)
{
    const VrUpgradePolicy *policy = &plan->session->set->model->policy;
    g_autoptr(GString) who = g_string_new(NULL);
    guint down = 0, counted = 0;

    for (guint i = 0; i < plan->targets->count; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        VrCandidate candidate = candidate_of(plan, i);
        counted += vr_planner_is_counted(&candidate) ? 1 : 0;
        if (!vr_planner_holds_place(&candidate))
            continue;
        down++;
        g_string_append_printf(who, "; '%s': %s", vr_set_instance(plan->session->set, i)->domain, why_down(look));
    }
    g_string_append_printf(text, "%u of %u instances are unhealthy, at most %u may be down at once%s", down, counted,
                           vr_planner_allowed(counted, policy->max_unhealthy_percent), who->str);
}

/* A run would stop where something keeps the next batch back: who, and why. NULL: nothing does. Free with g_free. */
static char *block_text(const VrPlan *plan)
{
    const VrInstance *kept = vr_set_instance(plan->session->set, plan->block.instance);
    GString *why;

    if (plan->block.kind == VR_BLOCK_NONE)
        return NULL;
    why = g_string_new(NULL);
    if (plan->block.kind == VR_BLOCK_ROLE) /* D8 */
        g_string_append_printf(why, "'%s' is the last instance of role %s that serves", kept->domain, kept->role.name);
    else if (plan->block.kind == VR_BLOCK_PAIR) /* D10 */
        g_string_append_printf(why, "another instance of pair %s is down, so '%s' has to stay up", kept->pair.name,
                               kept->domain);
    else
        append_places(plan, why); /* decision 2 */
    return g_string_free(why, FALSE);
}

/* What a person does about it. */
static const char *block_remedy(const VrPlan *plan)
{
    switch (plan->block.kind) {
    case VR_BLOCK_ROLE:
        return "repair the others";
    case VR_BLOCK_PAIR:
        return "repair that one";
    default:
        return "repair them, take them out with '" VR_PROGRAM " protect', or raise maxUnhealthyInstancePercent";
    }
}

/* --- JSON -------------------------------------------------------------------------------------------- */

static json_t *instance_json(const VrPlan *plan, guint index)
{
    const VrInstance *instance = vr_set_instance(plan->session->set, index);
    const VrGeneration *current = vr_targets_current(plan->targets, index);
    const VrLook *look = g_ptr_array_index(plan->looks, index);
    g_autofree char *then = version_then(plan, index);

    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "domain", vr_json_text(instance->domain),
                     "uuid", instance->uuid, "role", vr_json_text(instance->role.name), "zone",
                     vr_json_text(instance->zone.name), "pair", vr_json_text(instance->pair.name), "generation",
                     current ? json_integer(current->number) : json_null(), "currentVersion",
                     vr_json_text(current ? current->version : NULL), "targetVersion",
                     vr_json_text(g_str_equal(then, "?") ? NULL : then), "pinnedVersion", vr_json_text(instance->pin),
                     "powerState", vr_look_power(look));
}

static json_t *batches_json(const VrPlan *plan)
{
    json_t *list = json_array();

    for (guint i = 0; i < plan->batches->len; i++) {
        const VrBatch *batch = g_ptr_array_index(plan->batches, i);
        json_t *members = json_array();
        for (guint j = 0; j < batch->members->len; j++)
            json_array_append_new(members, instance_json(plan, g_array_index(batch->members, guint, j)));
        json_array_append_new(list, json_pack("{s:i, s:i, s:o, s:o, s:o, s:o}", "batch", (int)i + 1, "upgradeDomain",
                                              (int)batch->upgrade_domain, "zone", vr_json_text(batch->zone), "phase",
                                              batch->phase > 0 ? json_integer(batch->phase) : json_null(), "reason",
                                              vr_json_text(batch->reason), "instances", members));
    }
    return list;
}

static json_t *skipped_json(const VrPlan *plan)
{
    json_t *list = json_array();

    for (guint i = 0; i < plan->targets->count; i++) {
        json_t *one;
        if (plan->targets->targets[i].chosen)
            continue;
        one = instance_json(plan, i);
        json_object_set_new(one, "reason", vr_json_text(plan->targets->targets[i].skipped));
        json_array_append_new(list, one);
    }
    return list;
}

/* In the order in which they run in each guest on its new disk; a rollback goes back to a disk that has them. */
static const GPtrArray *extensions_of(const VrPlan *plan)
{
    return plan->targets->kind == VR_RUN_ROLLBACK ? NULL : plan->session->set->model->extensions;
}

static json_t *extensions_json(const VrPlan *plan)
{
    const GPtrArray *extensions = extensions_of(plan);
    json_t *list = json_array();

    for (guint i = 0; extensions && i < extensions->len; i++)
        json_array_append_new(list, vr_json_text(((const VrExtension *)extensions->pdata[i])->name));
    return list;
}

/* A way back has none. */
static const VrMaintenanceWindow *window_of(const VrPlan *plan)
{
    static const VrMaintenanceWindow none;

    return plan->targets->kind == VR_RUN_ROLLBACK ? &none : &plan->session->set->model->window;
}

static void print_window(const VrPlan *plan)
{
    g_autofree char *window = vr_window_line(window_of(plan));

    if (window)
        vr_say(plan->session->cli,
               "maintenance window: %s; a run that begins by itself begins its batches in it, one that you begin does "
               "not wait for it",
               window);
}

static void print_json(const VrPlan *plan, const GError *refusal)
{
    const VrTargets *targets = plan->targets;
    g_autoptr(GPtrArray) warnings = vr_plan_warnings(plan);
    g_autofree char *block = block_text(plan);
    g_autofree char *stop = block ? g_strdup_printf("%s; %s", block, block_remedy(plan)) : NULL;
    json_t *list = json_array();

    for (guint i = 0; i < warnings->len; i++)
        json_array_append_new(list, vr_json_text(g_ptr_array_index(warnings, i)));
    vr_json_print(json_pack(
        "{s:o, s:s, s:o, s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:I, s:o, s:o, s:o}",
        "set", vr_json_text(plan->session->set->name), "operation", vr_run_kind_name(targets->kind),
        "targetImageReference",
        vr_reference_json(plan->session->store, targets->image ? targets->image->name : NULL,
                          targets->image ? targets->image->version : NULL),
        "osDiskKind", vr_os_disk_kind_name(plan->session->set->model->os_disk_kind), "instanceCount",
        (int)targets->count, "chosenInstanceCount", (int)targets->chosen, "batches", batches_json(plan), "skipped",
        skipped_json(plan), "wouldStop", vr_json_text(stop), "findings", vr_plan_findings_json(plan), "warnings", list,
        "space",
        json_pack("{s:I, s:I, s:I, s:I, s:o}", "freeBytes", (json_int_t)plan->free_bytes, "neededBytes",
                  (json_int_t)vr_plan_needed_bytes(plan), "initialBytesPerInstance", (json_int_t)plan->disk_bytes,
                  "maximumGrowthBytes", (json_int_t)(plan->sum_bytes + plan->others), "maximumBytesPerInstance",
                  json_integer((json_int_t)plan->most_bytes)),
        "nvramCopy", vr_plan_nvram_json(plan), "expectedOsDownMs", vr_spread_json(&plan->os_down), "expectedOffMs",
        vr_spread_json(&plan->off), "expectedDurationMs", vr_json_ms(vr_plan_expected_ms(plan)), "drives",
        vr_plan_drives_json(plan), "dataDiskProof", vr_plan_proof_json(plan), "extensions", extensions_json(plan),
        "seed", vr_plan_seed_json(plan), "offlineConfiguration", vr_plan_offline_json(plan), "carryOver",
        vr_plan_carry_json(plan), "batchAtMostMs", vr_json_ms(vr_plan_batch_most_ms(plan)), "extensionsAtMostMs",
        (json_int_t)vr_plan_extensions_most_ms(plan), "maintenanceWindow", vr_window_json(window_of(plan)), "xmlDiffs",
        vr_plan_diffs_json(plan), "command", vr_plan_command_json(plan, refusal)));
}

/* --- lines ------------------------------------------------------------------------------------------- */

static void print_batches(const VrPlan *plan)
{
    static const char *const headings[] = {">BATCH", "INSTANCE", "POWER", "NOW", "THEN", "WHY", NULL};
    g_autoptr(VrTable) table = vr_table_new(plan->session->cli, headings);

    for (guint i = 0; i < plan->batches->len; i++) {
        const VrBatch *batch = g_ptr_array_index(plan->batches, i);
        g_autofree char *number = vr_text_number(i + 1);
        for (guint j = 0; j < batch->members->len; j++) {
            guint index = g_array_index(batch->members, guint, j);
            gboolean pinned = vr_set_instance(plan->session->set, index)->pin != NULL;
            g_autofree char *now = vr_version_text(vr_targets_current(plan->targets, index));
            g_autofree char *then = version_then(plan, index);
            g_autofree char *shown = pinned ? g_strconcat(then, ", pinned", NULL) : g_strdup(then);
            const char *const cells[] = {j == 0 ? number : "",
                                         vr_set_instance(plan->session->set, index)->domain,
                                         vr_look_power(g_ptr_array_index(plan->looks, index)),
                                         now,
                                         shown,
                                         j == 0 ? batch->reason : ""};
            vr_table_row(table, cells);
        }
    }
    vr_table_print(table);
}

static void print_skipped(const VrPlan *plan)
{
    for (guint i = 0; i < plan->targets->count; i++) {
        if (!plan->targets->targets[i].chosen)
            vr_say(plan->session->cli, "left alone: %s: %s", vr_set_instance(plan->session->set, i)->domain,
                   plan->targets->targets[i].skipped);
    }
}

static void print_extensions(const VrPlan *plan)
{
    const GPtrArray *extensions = extensions_of(plan);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; extensions && i < extensions->len; i++)
        g_string_append_printf(text, "%s%s", i > 0 ? ", then " : "", ((const VrExtension *)extensions->pdata[i])->name);
    if (text->len > 0)
        vr_say(plan->session->cli, "extensions: in each guest, once it runs from its new disk: %s", text->str);
}

static void print_head(const VrPlan *plan)
{
    const VrTargets *targets = plan->targets;

    vr_say(plan->session->cli, "%s of %s%s%s%s%s: %u of %u instance%s in %u batch%s", vr_run_kind_name(targets->kind),
           plan->session->set->name, targets->image ? " to " : "", targets->image ? targets->image->name : "",
           targets->image ? " " : "", targets->image ? targets->image->version : "", targets->chosen, targets->count,
           targets->count == 1 ? "" : "s", plan->batches->len, plan->batches->len == 1 ? "" : "es");
}

static void print_space(const VrPlan *plan)
{
    const VrCli *cli = plan->session->cli;
    g_autofree char *free_space = vr_text_size(plan->free_bytes);
    g_autofree char *needed = vr_text_size(vr_plan_needed_bytes(plan));
    g_autofree char *at_once = vr_text_size(plan->disk_bytes);
    g_autofree char *most = vr_text_size(plan->most_bytes);

    if (plan->targets->chosen == 0)
        vr_say(cli, "space: %s free", free_space);
    else if (plan->targets->kind != VR_RUN_ROLLBACK)
        vr_say(cli, "space: %s free, %s needed before the first batch; a new OS disk %s %s and can grow to %s",
               free_space, needed, vr_plan_is_full(plan) ? "is a full clone, takes" : "begins below", at_once, most);
    else
        vr_say(cli, "space: %s free; kept disks are used again, nothing is copied", free_space);
}

static void print_disks(const VrPlan *plan)
{
    print_space(plan);
    vr_plan_print_drives(plan);
    vr_plan_print_proof(plan);
    vr_plan_print_seed(plan);
    vr_plan_print_offline(plan);
    print_extensions(plan);
}

/* Who goes when and why, what stands against it, what it does to disks, how long it takes, and what to type; in this order, as each is asked for. */
static void print_lines(const VrPlan *plan, const GError *refusal)
{
    const VrCli *cli = plan->session->cli;
    g_autoptr(GPtrArray) warnings = vr_plan_warnings(plan);

    print_head(plan);
    print_batches(plan);
    print_skipped(plan);
    vr_say(cli, "%s", "");
    vr_plan_print_findings(plan);
    for (guint i = 0; i < warnings->len; i++)
        vr_say(cli, "warning: %s", (const char *)g_ptr_array_index(warnings, i));
    vr_say(cli, "%s", "");
    print_disks(plan);
    if (plan->batches->len > 0) {
        vr_say(cli, "%s", "");
        vr_plan_print_expected(plan);
    }
    print_window(plan);
    vr_plan_print_diffs(plan);
    vr_plan_print_command(plan, refusal);
}

/* --- what it comes to -------------------------------------------------------------------------------- */

static gboolean no_blockers(const VrPlan *plan, GError **error)
{
    guint blockers = count_blockers(plan);
    const VrFinding *first = NULL;

    for (guint i = 0; i < plan->targets->count && !first; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        if (plan->targets->targets[i].chosen)
            first = vr_preflight_blocker(look->findings);
    }
    if (!first)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "set '%s': %u instance%s that would be moved cannot be swapped as %s now: %s [%s]",
                plan->session->set->name, blockers, blockers == 1 ? "" : "s", blockers == 1 ? "it is" : "they are",
                first->text, first->id);
    vr_plan_next(plan, first, error);
    return FALSE;
}

static gboolean none_unknown(const VrPlan *plan, GError **error)
{
    const char *set = plan->session->set->name;
    g_autoptr(GPtrArray) open = vr_journal_open_swaps(plan->session->journal, set, error);

    for (guint i = 0; open && i < open->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(open, i);
        if (row->state != VR_SWAP_UNKNOWN)
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "set '%s': the state of '%s' is UNKNOWN: %s", set, row->domain,
                    row->reason ? row->reason : "no reason was kept");
        vr_error_next(error, "mend what is said there, then run 'virt-reimage recover %s'", set);
        return FALSE;
    }
    return open != NULL;
}

static gboolean room_for_all(const VrPlan *plan, GError **error)
{
    g_autofree char *why = block_text(plan);

    if (!why)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_POLICY, "%s of '%s' would stop: %s", vr_run_kind_name(plan->targets->kind),
                plan->session->set->name, why);
    vr_error_next(error, "%s", block_remedy(plan));
    return FALSE;
}

/* What the extensions are made of is there. */
static gboolean extensions_are_there(const VrPlan *plan, GError **error)
{
    g_autoptr(VrExtensions) extensions = NULL;

    if (!extensions_of(plan))
        return TRUE;
    extensions = vr_extensions_load(plan->session->set->model, error);
    return extensions != NULL;
}

static gboolean would_run(const VrPlan *plan, GError **error)
{
    return no_blockers(plan, error) && vr_plan_outside_is_good(plan, error) && extensions_are_there(plan, error) &&
           vr_plan_check_content(plan, error) && vr_plan_reserve(plan, error);
}

gboolean vr_plan_show(VrSession *session, VrTargets *targets, GError **error)
{
    g_auto(VrPlan) plan = {.session = session, .targets = targets};
    g_autoptr(GError) refusal = NULL;

    if (!make_plan(&plan, error))
        return FALSE;
    if (none_unknown(&plan, &refusal) && would_run(&plan, &refusal))
        (void)room_for_all(&plan, &refusal);
    vr_plan_make_diffs(&plan);
    if (session->cli->options.json)
        print_json(&plan, refusal);
    else
        print_lines(&plan, refusal);
    if (!refusal)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&refusal));
    return FALSE;
}

gboolean vr_plan_check(VrSession *session, VrTargets *targets, GError **error)
{
    g_auto(VrPlan) plan = {.session = session, .targets = targets};

    return make_plan(&plan, error) && would_run(&plan, error);
}

gboolean vr_cmd_plan(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_auto(VrTargets) targets = {0};

    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_set(&session, cli->args[0], error) ||
        !vr_session_connect(&session, error) || !vr_targets_of_upgrade(&targets, &session, error))
        return FALSE;
    return vr_plan_show(&session, &targets, error);
}
