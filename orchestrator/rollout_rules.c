/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What ends a run, in the order in which it counts, and the error texts of J5. */
#include "orchestrator/rollout_private.h"

#include "base/clock.h"

static const char *done_word(const VrRollout *rollout)
{
    static const char *const words[] = {[VR_RUN_UPGRADE] = "upgraded",
                                        [VR_RUN_REIMAGE] = "reimaged",
                                        [VR_RUN_ROLLBACK] = "rolled back",
                                        [VR_RUN_APPLY] = "renewed"};

    return words[rollout->kind];
}

static guint failed(const VrRollout *rollout)
{
    return rollout->phases[VR_PHASE_RESTORED] + rollout->phases[VR_PHASE_FAILED] + rollout->phases[VR_PHASE_UNKNOWN];
}

/* An instance that was off says nothing about the health of the version (decision 14). */
static guint proven(const VrRollout *rollout)
{
    return rollout->phases[VR_PHASE_COMMITTED] - rollout->off_committed;
}

static guint attempted(const VrRollout *rollout)
{
    return proven(rollout) + failed(rollout);
}

/* Ends a text with what has become of the others. */
static char *conclude(const VrRollout *rollout, GString *text)
{
    vr_reasons_append_most_common(&rollout->reasons, text);
    g_string_append_printf(text, "; %u %s, %u restored, %u not touched", rollout->phases[VR_PHASE_COMMITTED],
                           done_word(rollout), rollout->phases[VR_PHASE_RESTORED], vr_rollout_left(rollout));
    return g_string_free(text, FALSE);
}

static char *unknown_rule(const VrRollout *rollout)
{
    GString *text;

    if (rollout->phases[VR_PHASE_UNKNOWN] == 0)
        return NULL;
    text = g_string_new("what became of ");
    vr_text_append_share(text, rollout->phases[VR_PHASE_UNKNOWN], attempted(rollout), "instances");
    g_string_append(text, " is not known: a person must look");
    return conclude(rollout, text);
}

static char *cancel_rule(const VrRollout *rollout)
{
    if (!rollout->cancel)
        return NULL;
    return conclude(rollout, g_string_new(rollout->cancel_now ? "cancelled at once" : "cancelled at the batch border"));
}

/* D4, decision 3. A version of which nothing came good stops even under a limit of 100 % (SAFETY invariant 18). That what failed
 * was never touched is no fault of the version: untouched_rule says so. */
static char *upgraded_rule(const VrRollout *rollout)
{
    guint tried = attempted(rollout), bad = failed(rollout);
    guint limit = rollout->policy.max_unhealthy_upgraded_percent;
    gboolean above = (guint64)bad * 100 > (guint64)tried * limit;
    GString *text;

    if (bad <= rollout->failures[VR_FAILURE_UNTOUCHED] || (!above && proven(rollout) > 0))
        return NULL;
    text = g_string_new(NULL);
    vr_text_append_share(text, bad, tried, done_word(rollout));
    if (above)
        g_string_append_printf(text, " failed, at most %u%% may", limit);
    else
        g_string_append(text, " failed and none came good");
    return conclude(rollout, text);
}

gboolean vr_rollout_fell_ill(const VrRollout *rollout, guint i)
{
    const VrRolloutEntry *entry = &rollout->entries[i];

    return rollout->candidates[i].down && entry->phase == VR_PHASE_COMMITTED && !entry->off;
}

typedef struct {
    const char *name;
    guint tried, bad, ill; /* ill: came good at first */
} RoleCount;

/* By number of the role, from 1. Free with g_free. */
static RoleCount *count_roles(const VrRollout *rollout)
{
    RoleCount *roles = g_new0(RoleCount, rollout->roles + 1);

    for (guint i = 0; i < rollout->count; i++) {
        const VrRolloutEntry *entry = &rollout->entries[i];
        RoleCount *role = &roles[rollout->candidates[i].role.number];
        gboolean bad = entry->phase == VR_PHASE_RESTORED ||
                       (entry->phase == VR_PHASE_FAILED && entry->failure != VR_FAILURE_UNTOUCHED);

        role->name = rollout->candidates[i].role.name;
        role->bad += bad ? 1 : 0;
        role->ill += vr_rollout_fell_ill(rollout, i) ? 1 : 0;
        role->tried += bad || (entry->phase == VR_PHASE_COMMITTED && !entry->off) ? 1 : 0;
    }
    return roles;
}

static char *judge_role(const VrRollout *rollout, const RoleCount *role, guint ill)
{
    guint limit = rollout->policy.max_unhealthy_upgraded_percent, bad = role->bad + ill;
    GString *text;

    if ((guint64)bad * 100 <= (guint64)role->tried * limit)
        return NULL;
    text = g_string_new(NULL);
    vr_text_append_share(text, bad, role->tried, done_word(rollout));
    if (ill > 0)
        g_string_append_printf(text, " of role %s are not healthy, %u of them came good at first; at most %u%% may",
                               role->name, ill, limit);
    else
        g_string_append_printf(text, " of role %s failed, at most %u%% may", role->name, limit);
    return conclude(rollout, text);
}

/* D8, E14: the same limit within each role: one in ten may be all of a role. What was never touched is no fault of the version. */
static char *judge_roles(const VrRollout *rollout, gboolean with_ill)
{
    g_autofree RoleCount *roles = rollout->roles > 0 ? count_roles(rollout) : NULL;
    char *text = NULL;

    for (guint number = 1; number <= rollout->roles && text == NULL; number++)
        text = judge_role(rollout, &roles[number], with_ill ? roles[number].ill : 0);
    return text;
}

static char *role_rule(const VrRollout *rollout)
{
    return judge_roles(rollout, FALSE);
}

static char *untouched_rule(const VrRollout *rollout)
{
    GString *text;

    if (rollout->failures[VR_FAILURE_UNTOUCHED] == 0)
        return NULL;
    text = g_string_new(NULL);
    vr_text_append_share(text, rollout->failures[VR_FAILURE_UNTOUCHED], attempted(rollout), "instances");
    g_string_append(text, " could not be prepared or stopped, and still run on their old disks");
    return conclude(rollout, text);
}

static char *commit_rule(const VrRollout *rollout)
{
    GString *text;

    if (rollout->failures[VR_FAILURE_NOT_RECORDED] == 0)
        return NULL;
    text = g_string_new(NULL);
    vr_text_append_share(text, rollout->failures[VR_FAILURE_NOT_RECORDED], attempted(rollout), "instances");
    g_string_append(text, " are healthy on their new disks, but that could not be recorded");
    return conclude(rollout, text);
}

/* Decision 9, SAFETY invariant 25. */
static char *same_reason_rule(const VrRollout *rollout)
{
    GString *text;

    if (!rollout->same_reason_stops || rollout->same_reason == NULL || rollout->same_members < 2)
        return NULL;
    text = g_string_new("the same failure on all ");
    g_string_append_printf(text, "%u instances of ", rollout->same_members);
    if (rollout->same_batches > 1)
        g_string_append_printf(text, "%u batches one after the other", rollout->same_batches);
    else
        g_string_append(text, "a batch");
    g_string_append(text, ": the image's fault or ours");
    return conclude(rollout, text);
}

/* D23. What was moved in time is done. */
static char *timeout_rule(const VrRollout *rollout)
{
    g_autofree char *length = vr_clock_format_duration(rollout->policy.timeout_ms);
    GString *text;

    if (!rollout->timed_out || vr_rollout_left(rollout) == 0)
        return NULL;
    text = g_string_new("not done within ");
    return conclude(rollout, g_string_append(text, length));
}

/* J10 */
static char *downtime_rule(const VrRollout *rollout)
{
    g_autofree char *most = vr_clock_format_duration(rollout->policy.max_off_ms);
    g_autofree char *longest = vr_clock_format_duration(rollout->longest_off_ms);
    GString *text;

    if (rollout->too_long == 0)
        return NULL;
    text = g_string_new(NULL);
    vr_text_append_share(text, rollout->too_long, attempted(rollout), "instances");
    g_string_append_printf(text, " were off for longer than %s, the longest for %s", most, longest);
    return conclude(rollout, text);
}

/* Decision 8, C5. A rollback uses neither the version nor what lies outside. */
static char *withdrawn_rule(const VrRollout *rollout)
{
    if (!rollout->withdrawn)
        return NULL;
    return conclude(rollout,
                    g_string_new(rollout->withdrawn_text != NULL ? rollout->withdrawn_text
                                                                 : "the version was excluded while it was rolled out"));
}

VrRolloutVerdict vr_rollout_judge(const VrRollout *rollout)
{
    static const struct {
        char *(*text)(const VrRollout *rollout);
        VrRunStatus status;
        const char *code;
        gboolean in_rollback; /* the ways out stay open: other rules do not stop a rollback (decision 6) */
    } rules[] = {
        {unknown_rule, VR_RUN_FAULTED, VR_CODE_INTERNAL, TRUE},
        {cancel_rule, VR_RUN_CANCELLED, NULL, TRUE},
        {upgraded_rule, VR_RUN_FAULTED, VR_CODE_UPGRADED, FALSE},
        {role_rule, VR_RUN_FAULTED, VR_CODE_UPGRADED, FALSE},
        {untouched_rule, VR_RUN_FAULTED, VR_CODE_INTERNAL, FALSE},
        {commit_rule, VR_RUN_FAULTED, VR_CODE_INTERNAL, FALSE},
        {same_reason_rule, VR_RUN_FAULTED, VR_CODE_FAILED_VMS, FALSE},
        {withdrawn_rule, VR_RUN_FAULTED, VR_CODE_INTERNAL, FALSE},
        {downtime_rule, VR_RUN_FAULTED, VR_CODE_INTERNAL, FALSE},
        {timeout_rule, VR_RUN_FAULTED, VR_CODE_TIMEOUT, TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rules); i++) {
        char *text = NULL;

        if (rollout->kind != VR_RUN_ROLLBACK || rules[i].in_rollback)
            text = rules[i].text(rollout);
        if (text != NULL)
            return (VrRolloutVerdict){rules[i].status, rules[i].code, text};
    }
    return (VrRolloutVerdict){0};
}

/* D4, E14: healthy after the upgrade and not any more counts as if it had failed at once. */
static char *fell_ill_rule(const VrRollout *rollout)
{
    guint bad = failed(rollout) + rollout->fell_ill, tried = attempted(rollout);
    guint limit = rollout->policy.max_unhealthy_upgraded_percent;
    GString *text;

    if (rollout->fell_ill == 0)
        return NULL;
    if ((guint64)bad * 100 <= (guint64)tried * limit)
        return judge_roles(rollout, TRUE);
    text = g_string_new(NULL);
    vr_text_append_share(text, bad, tried, done_word(rollout));
    g_string_append_printf(text, " are not healthy, %u of them came good at first; at most %u%% may", rollout->fell_ill,
                           limit);
    return conclude(rollout, text);
}

/* D2, D3 */
static VrRolloutVerdict judge_whole_set(const VrRollout *rollout)
{
    guint allowed = vr_planner_allowed(rollout->counted, rollout->policy.max_unhealthy_percent);
    gboolean first = rollout->batch_number == 0;
    GString *text;

    if (rollout->down <= allowed)
        return (VrRolloutVerdict){0};
    text = g_string_new(NULL);
    vr_text_append_share(text, rollout->down, rollout->counted, "instances");
    g_string_append_printf(text, " are unhealthy, at most %u (%u%%) may be", allowed,
                           rollout->policy.max_unhealthy_percent);
    if (first) /* D2 */
        return (VrRolloutVerdict){VR_RUN_FAULTED, VR_CODE_BEFORE_ROLLING,
                                  g_string_free(g_string_append(text, "; nothing was touched"), FALSE)};
    return (VrRolloutVerdict){VR_RUN_FAULTED, VR_CODE_IN_ROLLING, conclude(rollout, text)}; /* D3 */
}

VrRolloutVerdict vr_rollout_judge_survey(const VrRollout *rollout)
{
    VrRolloutVerdict verdict = {0};

    if (rollout->kind == VR_RUN_ROLLBACK)
        return verdict;
    if (rollout->bake_until == 0)
        verdict = judge_whole_set(rollout); /* it asks whether more may go down: in the bake nothing does */
    if (verdict.text == NULL)
        verdict = (VrRolloutVerdict){VR_RUN_FAULTED, VR_CODE_UPGRADED, fell_ill_rule(rollout)};
    return verdict;
}

VrRolloutVerdict vr_rollout_judge_end(const VrRollout *rollout)
{
    guint bad = failed(rollout);
    VrRolloutVerdict verdict = {.status = VR_RUN_COMPLETED};
    GString *text;

    if (bad == 0)
        return verdict;
    verdict.code = VR_CODE_FAILED_VMS; /* J5: done, with some that failed within the limit */
    text = g_string_new(NULL);
    vr_text_append_share(text, bad, bad + rollout->phases[VR_PHASE_COMMITTED], "instances");
    g_string_append(text, " failed");
    verdict.text = conclude(rollout, text);
    if (rollout->kind == VR_RUN_ROLLBACK && rollout->phases[VR_PHASE_COMMITTED] == 0)
        verdict.status = VR_RUN_FAULTED;
    return verdict;
}

static void append_places(const VrRollout *rollout, GString *text)
{
    guint allowed = vr_planner_allowed(rollout->counted, rollout->policy.max_unhealthy_percent);

    vr_text_append_share(text, rollout->down, rollout->counted, "instances");
    g_string_append_printf(
        text,
        " are down and hold the places, at most %u (%u%%) may be down at once: repair them, take them out with "
        "'virt-reimage protect', or raise maxUnhealthyInstancePercent",
        allowed, rollout->policy.max_unhealthy_percent);
}

char *vr_rollout_block_text(const VrRollout *rollout, const VrPlannerBlock *block)
{
    g_autofree char *waited = vr_clock_format_duration(rollout->health_timeout_ms);
    const VrCandidate *kept = &rollout->candidates[block->instance];
    GString *text = g_string_new("no place became free for the next batch in ");

    g_string_append_printf(text, "%s: ", waited);
    if (block->kind == VR_BLOCK_ROLE)
        g_string_append_printf(text, "only the last instance of role %s that serves is left: repair the others",
                               kept->role.name);
    else if (block->kind == VR_BLOCK_PAIR)
        g_string_append_printf(text, "another instance of pair %s is down: repair it", kept->pair.name);
    else
        append_places(rollout, text);
    return conclude(rollout, text);
}

/* The cause that all members share, or NULL. *members is how many count. */
static const char *common_cause(const VrRollout *rollout, guint *members)
{
    const char *common = NULL;
    gboolean differ = FALSE;

    *members = 0;
    for (guint k = 0; k < rollout->batch->members->len; k++) {
        const VrRolloutEntry *entry = &rollout->entries[g_array_index(rollout->batch->members, guint, k)];

        if ((entry->phase == VR_PHASE_COMMITTED && entry->off) || entry->phase == VR_PHASE_PENDING)
            continue; /* it was not tried */
        if (++*members == 1)
            common = entry->cause;
        differ = differ || entry->cause != common;
    }
    return differ ? NULL : common;
}

void vr_rollout_compare_reasons(VrRollout *rollout)
{
    guint members;
    const char *common = common_cause(rollout, &members);

    if (members == 0)
        return; /* the batch says nothing */
    if (common != NULL && common == rollout->same_reason) {
        rollout->same_members += members;
        rollout->same_batches++;
        return;
    }
    rollout->same_reason = common;
    rollout->same_members = members;
    rollout->same_batches = 1;
}
