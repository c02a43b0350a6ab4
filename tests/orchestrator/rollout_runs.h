/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A run that is driven by hand: events in, commands out in words. For the tests of the rollout. */
#pragma once

#include "orchestrator/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MAX_INSTANCES 16

typedef struct {
    VrRolloutConfig config;
    VrRolloutInstance instances[MAX_INSTANCES];
    VrSurveyAnswer answers[MAX_INSTANCES];
    VrGuestWish wishes[MAX_INSTANCES];
    VrRollout *rollout;
    GArray *commands;
    gint64 now_ms;
    GString *said;     /* the commands of the last step, in words */
    char *last_text;   /* text of its last command that had one */
    gint64 last_at_ms; /* of its last WAKE */
} Run;

static const char *const command_words[] = {
    [VR_COMMAND_SURVEY] = "survey",   [VR_COMMAND_BATCH_BEGIN] = "begin", [VR_COMMAND_BATCH_END] = "end",
    [VR_COMMAND_PREPARE] = "prepare", [VR_COMMAND_SWAP] = "swap",         [VR_COMMAND_PROBE] = "probe",
    [VR_COMMAND_COMMIT] = "commit",   [VR_COMMAND_RESTORE] = "restore",   [VR_COMMAND_DISCARD] = "discard",
    [VR_COMMAND_WAKE] = "wake",       [VR_COMMAND_FINISH] = "finish",     [VR_COMMAND_GATE] = "gate",
    [VR_COMMAND_HOLD] = "hold",       [VR_COMMAND_NOTICE] = "notice",     [VR_COMMAND_RECALL] = "recall",
    [VR_COMMAND_WINDOW] = "window"};

/* A set of `count` in five upgrade domains with the documented defaults; change run->config before launch(). */
static inline void set_up(Run *run, guint count)
{
    *run = (Run){.now_ms = 1000};
    run->config = (VrRolloutConfig){.kind = VR_RUN_UPGRADE,
                                    .policy = {.max_batch_percent = 20,
                                               .max_unhealthy_percent = 20,
                                               .max_unhealthy_upgraded_percent = 20,
                                               .prioritize_unhealthy = TRUE,
                                               .automatic_rollback = TRUE},
                                    .health_timeout_ms = 300000,
                                    .same_reason_stops = TRUE,
                                    .count = count,
                                    .instances = run->instances};
    for (guint i = 0; i < count; i++)
        run->instances[i] = (VrRolloutInstance){vr_planner_upgrade_domain(i, 5), TRUE};
    run->commands = g_array_new(FALSE, FALSE, sizeof(VrCommand));
    g_array_set_clear_func(run->commands, (GDestroyNotify)vr_command_clear);
    run->said = g_string_new(NULL);
}

static inline void run_clear(Run *run)
{
    vr_rollout_free(run->rollout);
    g_array_unref(run->commands);
    g_string_free(run->said, TRUE);
    g_free(run->last_text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

static inline void put_in_words(Run *run)
{
    g_string_truncate(run->said, 0);
    for (guint k = 0; k < run->commands->len; k++) {
        const VrCommand *command = &g_array_index(run->commands, VrCommand, k);

        g_string_append_printf(run->said, "%s%s", k > 0 ? " " : "", command_words[command->type]);
        if ((command->type >= VR_COMMAND_PREPARE && command->type <= VR_COMMAND_DISCARD) ||
            command->type == VR_COMMAND_RECALL)
            g_string_append_printf(run->said, " %u", command->instance);
        if (command->type == VR_COMMAND_WAKE)
            run->last_at_ms = command->at_ms;
        if (command->text != NULL) {
            g_free(run->last_text);
            run->last_text = g_strdup(command->text);
        }
    }
}

static inline const char *step_full(Run *run, const VrEvent *event)
{
    g_array_set_size(run->commands, 0);
    vr_rollout_step(run->rollout, event, run->now_ms, run->commands);
    put_in_words(run);
    return run->said->str;
}

/* One event; gives the commands in words. */
static inline const char *say(Run *run, VrEventType type)
{
    VrEvent event = {.type = type, .answers = run->answers, .wishes = run->wishes};

    return step_full(run, &event);
}

static inline const char *ok(Run *run, VrEventType type, guint instance)
{
    VrEvent event = {.type = type, .instance = instance};

    return step_full(run, &event);
}

static inline const char *bad(Run *run, VrEventType type, guint instance, VrOutcome outcome, const char *reason)
{
    VrEvent event = {.type = type, .instance = instance, .outcome = outcome, .reason = reason};

    return step_full(run, &event);
}

/* START and the first survey; gives what follows. */
static inline const char *launch(Run *run)
{
    run->rollout = vr_rollout_new(&run->config);
    assert_string_equal(say(run, VR_EVENT_START), "survey");
    return say(run, VR_EVENT_SURVEY);
}

/* Brings prepared and swapped instances, all of a batch, to their probes. */
static inline void to_probes(Run *run, guint count, const guint *members)
{
    for (guint k = 0; k < count; k++)
        ok(run, VR_EVENT_PREPARED, members[k]);
    for (guint k = 0; k < count; k++)
        ok(run, VR_EVENT_SWAPPED, members[k]);
}
#define TO_PROBES(run, ...) to_probes(run, G_N_ELEMENTS(((guint[]){__VA_ARGS__})), (const guint[]){__VA_ARGS__})

static inline const char *comes_good(Run *run, guint i)
{
    ok(run, VR_EVENT_PROBED, i);
    return ok(run, VR_EVENT_COMMITTED, i);
}

static inline const char *goes_back(Run *run, guint i, const char *reason)
{
    bad(run, VR_EVENT_PROBED, i, VR_OUTCOME_FAILED, reason);
    return ok(run, VR_EVENT_RESTORED, i);
}

static inline VrRolloutView view_of(const Run *run)
{
    VrRolloutView view;

    vr_rollout_view(run->rollout, &view);
    assert_int_equal(view.successful + view.failed + view.in_progress + view.pending + view.skipped,
                     run->config.count); /* J3 */
    return view;
}

static inline void expect_end(const Run *run, VrRunStatus status, const char *code)
{
    VrRolloutView view = view_of(run);

    assert_true(view.finished);
    assert_int_equal(view.status, status);
    if (code == NULL)
        assert_null(view.error_code);
    else
        assert_string_equal(view.error_code, code);
}

static inline void expect_text(const Run *run, const char *part)
{
    VrRolloutView view = view_of(run);

    assert_non_null(view.error_text);
    if (strstr(view.error_text, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, view.error_text);
}
