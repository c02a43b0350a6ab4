/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The protocol of one instance, and the bookkeeping. */
#include "tests/sim/check_private.h"

#include <string.h>

void check_fail(Check *check, const char *format, ...)
{
    va_list args;

    if (check->violation != NULL)
        return;
    va_start(args, format);
    check->violation = g_strdup_vprintf(format, args);
    va_end(args);
}

const char *check_violation(const Check *check)
{
    return check->violation;
}

static void meet(Check *check, guint i, const VrRolloutInstance *instance)
{
    Shadow *shadow = &check->shadows[i];

    *shadow = (Shadow){.fate = instance->chosen ? FATE_FRESH : FATE_SKIP,
                       .domain = instance->upgrade_domain,
                       .role = instance->role,
                       .zone = instance->zone.number,
                       .pair = instance->pair,
                       .phase = instance->phase > 0 ? instance->phase : G_MAXUINT,
                       .canary = instance->chosen && instance->canary && check->kind != VR_RUN_ROLLBACK,
                       .left_failed = instance->left_failed,
                       .guarded = instance->is_protected,
                       .number = G_MAXUINT64};
    g_assert(instance->role.number < ROLES && instance->pair.number < PAIRS);
    shadow->named = instance->named || shadow->canary;
    check->fates[shadow->fate]++;
    check->canaries += shadow->canary ? 1 : 0;
    check->has_roles = check->has_roles || shadow->role.number > 0;
}

Check *check_new(const VrRolloutConfig *config)
{
    Check *check = g_new0(Check, 1);

    check->kind = config->kind;
    check->policy = config->policy;
    check->health_timeout_ms = config->health_timeout_ms;
    check->same_reason_stops = config->same_reason_stops;
    check->count = config->count;
    check->shadows = g_new0(Shadow, config->count);
    check->walk = config->walk;
    check->notice = config->notice && config->kind != VR_RUN_ROLLBACK;
    check->window = config->window && config->kind != VR_RUN_ROLLBACK;
    check->members = g_array_new(FALSE, FALSE, sizeof(guint));
    check->gated = g_array_new(FALSE, FALSE, sizeof(guint));
    check->waits_since = check->no_gate_since = check->no_place_since = -1;
    check->walk_domain = -1;
    check->deadline = G_MAXINT64;
    check->pause_until = LONG_AGO;
    for (guint i = 0; i < config->count; i++)
        meet(check, i, &config->instances[i]);
    check->canaries_left = check->canaries;
    if (check->kind == VR_RUN_ROLLBACK) {
        check->policy.approval = FALSE;
        check->policy.gate = NULL;
        check->policy.checkpoints[0] = 0;
        check->policy.bake_ms = check->policy.max_off_ms = 0;
    }
    check->most_batch = check->walk || config->policy.by_domain /* D30 */
                            ? config->count
                            : check_most(config->count, config->policy.max_batch_percent);
    if (config->policy.max_in_flight > 0 && config->policy.max_in_flight < check->most_batch)
        check->most_batch = config->policy.max_in_flight; /* D24 */
    return check;
}

void check_free(Check *check)
{
    if (check == NULL)
        return;
    g_free(check->shadows);
    g_array_unref(check->members);
    g_array_unref(check->gated);
    g_free(check->violation);
    g_free(check);
}

void check_become(Check *check, guint i, Fate fate)
{
    Shadow *shadow = &check->shadows[i];

    check->fates[shadow->fate]--;
    check->fates[fate]++;
    if (shadow->canary)
        check->canaries_left += (fate == FATE_FRESH ? 1 : 0) - (shadow->fate == FATE_FRESH ? 1 : 0);
    if (shadow->ahead == AHEAD_UNWANTED && fate != FATE_OUT)
        shadow->ahead = AHEAD_NOT;
    shadow->fate = fate;
    if (fate == FATE_FRESH)
        shadow->noticed = FALSE;
    if (fate == FATE_BAD || fate == FATE_LOST)
        shadow->down = TRUE;
}

const VrCommand *check_expect(Check *check, VrCommandType type)
{
    const VrCommand *command;

    if (check->violation != NULL)
        return NULL;
    if (check->cursor >= check->commands->len) {
        check_fail(check, "command %d is missing after event %d", type, check->event->type);
        return NULL;
    }
    command = &g_array_index(check->commands, VrCommand, check->cursor++);
    if (command->type == type)
        return command;
    check_fail(check, "command %d instead of %d after event %d", command->type, type, check->event->type);
    return NULL;
}

int check_next_type(const Check *check)
{
    if (check->cursor >= check->commands->len)
        return -1;
    return (int)g_array_index(check->commands, VrCommand, check->cursor).type;
}

guint check_bad(const Check *check, Bad bad)
{
    guint count = 0;

    for (guint i = 0; i < check->count; i++)
        count += check->shadows[i].fate == FATE_BAD && check->shadows[i].bad == bad ? 1 : 0;
    return count;
}

void check_must_go_on(Check *check, guint i, VrCommandType type)
{
    const VrCommand *command = check_expect(check, type);

    if (command != NULL && command->instance != i)
        check_fail(check, "command %d for instance %u instead of %u", type, command->instance, i);
    check_become(check, i, FATE_OUT);
    check->shadows[i].out = type;
}

static const VrCommandType answered_by[] = {
    [VR_EVENT_PREPARED] = VR_COMMAND_PREPARE,  [VR_EVENT_NOTICED] = VR_COMMAND_NOTICE,
    [VR_EVENT_SWAPPED] = VR_COMMAND_SWAP,      [VR_EVENT_PROBED] = VR_COMMAND_PROBE,
    [VR_EVENT_COMMITTED] = VR_COMMAND_COMMIT,  [VR_EVENT_RESTORED] = VR_COMMAND_RESTORE,
    [VR_EVENT_DISCARDED] = VR_COMMAND_DISCARD,
};

gboolean check_awaits(const Check *check, const VrEvent *event, gint64 now_ms)
{
    if (check->over)
        return FALSE;
    switch (event->type) {
    case VR_EVENT_START:
        return !check->started;
    case VR_EVENT_SURVEY:
        return check->survey_out || check->confirm_out;
    case VR_EVENT_WAKE:
        return check->wake_out && now_ms >= check->wake_at;
    case VR_EVENT_GATE:
        return check->gate_out;
    case VR_EVENT_WINDOW:
        return check->window_out;
    case VR_EVENT_CANCEL:
    case VR_EVENT_CANCEL_NOW:
    case VR_EVENT_WITHDRAWN:
    case VR_EVENT_RECALL:
        return TRUE;
    case VR_EVENT_PAUSE:
    case VR_EVENT_RESUME:
    case VR_EVENT_APPROVE:
    case VR_EVENT_PROMOTE:
    case VR_EVENT_WALK:
        return check_control_fits(check, event);
    default:
        if (event->instance >= check->count)
            return FALSE;
        if (check->shadows[event->instance].ahead == AHEAD_OUT)
            return event->type == VR_EVENT_PREPARED;
        return check->shadows[event->instance].fate == FATE_OUT &&
               check->shadows[event->instance].out == answered_by[event->type];
    }
}

static void remember_reason(Check *check, guint i)
{
    Shadow *shadow = &check->shadows[i];

    if (shadow->reason[0] == '\0')
        g_strlcpy(shadow->reason, check->event->reason,
                  MIN(sizeof(shadow->reason), strcspn(check->event->reason, " ") + 1));
}

/* F1, F2, and the handling of a cancel at once: what follows an answer that was not good. */
static void went_wrong(Check *check, guint i)
{
    VrEventType type = check->event->type;
    gboolean untouched =
        check->event->outcome == VR_OUTCOME_UNTOUCHED || type == VR_EVENT_PREPARED || type == VR_EVENT_NOTICED;

    if (check->event->outcome == VR_OUTCOME_CANCELLED && type == VR_EVENT_NOTICED && check->recalled) {
        check_must_go_on(check, i, VR_COMMAND_DISCARD);
        return;
    }
    if (check->event->outcome == VR_OUTCOME_CANCELLED && check->cancel && type != VR_EVENT_NOTICED) {
        check_become(check, i, FATE_FRESH);
        return;
    }
    if (type == VR_EVENT_DISCARDED && check->event->outcome != VR_OUTCOME_UNKNOWN) {
        check_become(check, i, FATE_FRESH);
        return;
    }
    remember_reason(check, i);
    check->shadows[i].bad = BAD_TRIED;
    if (check->event->outcome == VR_OUTCOME_UNKNOWN) {
        check_become(check, i, FATE_LOST);
        return;
    }
    if ((type == VR_EVENT_SWAPPED && !untouched) ||
        (type == VR_EVENT_PROBED && check->policy.automatic_rollback && check->kind != VR_RUN_ROLLBACK)) {
        check_must_go_on(check, i, VR_COMMAND_RESTORE);
        return;
    }
    check->shadows[i].left = type == VR_EVENT_PROBED;
    if (untouched)
        check->shadows[i].bad = BAD_UNTOUCHED;
    else if (type == VR_EVENT_COMMITTED)
        check->shadows[i].bad = BAD_UNCOMMITTED;
    else if (type == VR_EVENT_RESTORED)
        check->shadows[i].bad = BAD_NOT_PUT_BACK;
    check_become(check, i, FATE_BAD);
}

static void went_well(Check *check, guint i)
{
    switch (check->event->type) {
    case VR_EVENT_PREPARED:
        if (check->cancel_now)
            check_must_go_on(check, i, VR_COMMAND_DISCARD);
        else
            check_become(check, i, FATE_READY);
        break;
    case VR_EVENT_NOTICED:
        check_become(check, i, FATE_READY);
        check->shadows[i].noticed = TRUE;
        break;
    case VR_EVENT_SWAPPED:
        check_must_go_on(check, i, check->cancel_now ? VR_COMMAND_RESTORE : VR_COMMAND_PROBE);
        break;
    case VR_EVENT_PROBED:
        check_must_go_on(check, i, VR_COMMAND_COMMIT);
        break;
    case VR_EVENT_COMMITTED:
        check_become(check, i, FATE_GOOD);
        check->good_off += check->shadows[i].moved_off ? 1 : 0;
        break;
    case VR_EVENT_RESTORED:
        check_become(check, i, FATE_BACK);
        break;
    default:
        check_become(check, i, FATE_FRESH);
    }
}

void check_goes_down(Check *check)
{
    guint preparing = 0;

    for (guint k = 0; k < check->members->len; k++) {
        const Shadow *shadow = &check->shadows[g_array_index(check->members, guint, k)];

        preparing +=
            shadow->fate == FATE_OUT && (shadow->out == VR_COMMAND_PREPARE || shadow->out == VR_COMMAND_NOTICE) ? 1 : 0;
    }
    if (preparing == 0 && check->notice && !check_has_no_notice(check))
        return;
    for (guint k = 0; k < check->members->len && preparing == 0; k++) {
        guint i = g_array_index(check->members, guint, k);

        if (check->shadows[i].fate == FATE_READY)
            check_must_go_on(check, i, VR_COMMAND_SWAP);
    }
}

/* When nothing is out, the batch has ended. */
static void batch_moves(Check *check)
{
    check_goes_down(check);
    if (check->fates[FATE_OUT] + check->fates[FATE_READY] > 0)
        return;
    if (check->amends) {
        check_amends_made(check);
    } else {
        check_expect(check, VR_COMMAND_BATCH_END);
        check_batch_ended(check);
    }
}

static void cancelled_now(Check *check)
{
    for (guint k = 0; k < check->members->len; k++) {
        guint i = g_array_index(check->members, guint, k);

        if (check->shadows[i].fate == FATE_READY)
            check_must_go_on(check, i, VR_COMMAND_DISCARD);
        else if (check->shadows[i].fate == FATE_OUT && check->shadows[i].out == VR_COMMAND_PROBE)
            check_must_go_on(check, i, VR_COMMAND_RESTORE);
    }
}

static void asked_to_end(Check *check)
{
    VrEventType type = check->event->type;

    check->withdrawn = check->withdrawn || type == VR_EVENT_WITHDRAWN;
    check->cancel = check->cancel || type != VR_EVENT_WITHDRAWN;
    check->cancel_now = check->cancel_now || type == VR_EVENT_CANCEL_NOW;
    check_recalls(check);
    if (check->in_batch && type == VR_EVENT_CANCEL_NOW)
        cancelled_now(check);
    if (check->in_batch || check->amends || check_ends(check))
        return;
    if (check->now_ms >= check_deadline(check) && check_stops(check))
        check_finish(check, VR_RUN_FAULTED, VR_CODE_TIMEOUT); /* it may be noticed now */
}

static void took_answer(Check *check)
{
    guint i = check->event->instance;
    gint64 most = check->policy.max_off_ms;

    if (check->event->type == VR_EVENT_SWAPPED && most > 0 && check->event->off_ms > most)
        check->off_too_long = TRUE;
    if (!check_ahead_answered(check, i)) {
        if (check->event->outcome == VR_OUTCOME_OK)
            went_well(check, i);
        else
            went_wrong(check, i);
    }
    if (check->in_batch || check->amends)
        batch_moves(check);
    else if (check->clearing && check->fates[FATE_OUT] == 0)
        check_cleared(check);
    if (check->in_batch)
        check_looks_ahead(check);
}

static void took_event(Check *check)
{
    switch (check->event->type) {
    case VR_EVENT_START:
        check_starts_again(check);
        break;
    case VR_EVENT_SURVEY:
        if (check->confirm_out) {
            check_confirmed(check);
            break;
        }
        check->survey_out = FALSE;
        check_surveyed(check);
        break;
    case VR_EVENT_GATE:
        check->gate_out = FALSE;
        check_gate_answered(check);
        break;
    case VR_EVENT_WINDOW:
        check->window_out = FALSE;
        check_window_answered(check);
        break;
    case VR_EVENT_WAKE:
        check->wake_out = FALSE;
        check_goes_on(check);
        break;
    case VR_EVENT_CANCEL:
    case VR_EVENT_CANCEL_NOW:
    case VR_EVENT_WITHDRAWN:
        asked_to_end(check);
        break;
    case VR_EVENT_RECALL:
        check_recalls(check);
        break;
    case VR_EVENT_PAUSE:
    case VR_EVENT_RESUME:
    case VR_EVENT_APPROVE:
    case VR_EVENT_PROMOTE:
    case VR_EVENT_WALK:
        check_took_control(check);
        break;
    default:
        took_answer(check);
    }
}

/* A late or double event changes nothing; a wake that is too early is asked for again. */
static void took_stale(Check *check)
{
    const VrCommand *command;

    if (!check->over && check->event->type == VR_EVENT_WAKE && check->wake_out) {
        command = check_expect(check, VR_COMMAND_WAKE);
        if (command != NULL && command->at_ms != check->wake_at)
            check_fail(check, "an early wake moved the time");
    }
}

void check_step(Check *check, const VrEvent *event, gint64 now_ms, const GArray *commands, const VrRolloutView *view)
{
    check->event = event;
    check->now_ms = now_ms;
    check->commands = commands;
    check->cursor = 0;
    check->view = view;
    if (check_awaits(check, event, now_ms))
        took_event(check);
    else
        took_stale(check);
    if (check->cursor < commands->len)
        check_fail(check, "command %d comes without cause after event %d",
                   g_array_index(commands, VrCommand, check->cursor).type, event->type);
    check_view(check);
}
