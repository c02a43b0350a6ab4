/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/extensions.h"

#include "base/clock.h"
#include "base/error.h"
#include "hv/guest_agent.h"
#include "orchestrator/extension_guest.h"

#include <string.h>

#define ASK_MS 30000 /* for one thing that the agent is to do, but for running the extension */
#define KILL_MS 20000
#define POLL_FIRST_MS 50
#define POLL_MAX_MS 500
#define SEARCH_MS 1000 /* between looks at what we have lost sight of */

/* What goes on with one extension. */
typedef struct {
    const VrExtensionsRun *run;
    const VrExtensionPayload *payload;
    VrExtensionGuest guest;
    VrExtensionResult *result;
    gint64 deadline_ms;
    gint64 forgiven_ms; /* so much of the time in which libvirt is away is not counted yet */
    gint64 pid;         /* the guest's; 0: we have lost sight of it */
    guint silences;
    gboolean begun;     /* in this process, or the guest was asked to */
    gboolean confirmed; /* the guest said that it runs */
    VrExtensionSight sight;
    char *last_error; /* of the agent; NULL: none */
} Trial;

static gboolean is_aborted(const VrExtensionsRun *run)
{
    return run->aborted && g_atomic_int_get(run->aborted) != 0;
}

static void sleep_until(const VrExtensionsRun *run, gint64 until_ms)
{
    while (vr_clock_now_ms() < until_ms && !is_aborted(run))
        vr_clock_sleep_until(MIN(until_ms, vr_clock_now_ms() + 200));
}

/* Nobody can tell from the agent's silence. */
static gboolean is_off(const VrExtensionsRun *run)
{
    g_auto(VrDomainInfo) info = {0};

    return vr_hv_info(run->hv, run->uuid, &info, NULL) && info.state == VR_DOMAIN_OFF;
}

/* Loss of libvirt is not the guest's fault: its time does not count, up to as much again. */
static void forgive(gint64 *deadline_ms, gint64 *forgiven_ms, const GError *error, gint64 since_ms)
{
    gint64 away_ms = vr_clock_now_ms() - since_ms;

    if (!g_error_matches(error, VR_ERROR, VR_ERROR_DISCONNECTED))
        return;
    away_ms = MIN(away_ms, *forgiven_ms);
    *forgiven_ms -= away_ms;
    *deadline_ms += away_ms;
}

/* --- results ------------------------------------------------------------------------------------------- */

static void say(Trial *trial, VrExtensionStatus status, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void say(Trial *trial, VrExtensionStatus status, const char *format, ...)
{
    va_list arguments;

    g_free(trial->result->text);
    va_start(arguments, format);
    trial->result->text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    trial->result->status = status;
}

static void take_output(Trial *trial)
{
    if (!trial->sight.output)
        return;
    g_free(trial->result->output);
    trial->result->output =
        vr_extension_output(trial->sight.output, trial->sight.cut, &trial->payload->protected_settings);
    if (*trial->result->output == '\0')
        g_clear_pointer(&trial->result->output, g_free);
}

static const char *last_line(const char *output)
{
    const char *line = output ? strrchr(output, '\n') : NULL;

    return line ? line + 1 : output;
}

static void say_ended(Trial *trial)
{
    VrExtensionResult *result = trial->result;
    const char *line;

    take_output(trial);
    result->exit_status = trial->sight.exit_status;
    line = last_line(result->output);
    if (result->exit_status == 0)
        say(trial, VR_EXTENSION_SUCCEEDED, "succeeded");
    else
        say(trial, VR_EXTENSION_FAILED, "ended with status %d%s%s", result->exit_status, line ? ": " : "",
            line ? line : "");
}

/* --- beginning ----------------------------------------------------------------------------------------- */

static gint64 ask_until(const Trial *trial)
{
    return MIN(trial->deadline_ms, vr_clock_now_ms() + ASK_MS);
}

static gboolean put_beside(const Trial *trial, const char *name, const void *data, gsize length, GError **error)
{
    g_autofree char *path = g_build_filename(trial->guest.dir, name, NULL);

    return vr_extension_guest_put(&trial->guest, path, 0600, data, length, ask_until(trial), error);
}

static gboolean put_all(const Trial *trial, GError **error)
{
    const VrExtensionPayload *payload = trial->payload;
    const VrExtension *extension = payload->extension;

    if (extension->script && !put_beside(trial, "script", payload->script.data, payload->script.length, error))
        return FALSE;
    if (extension->settings &&
        !put_beside(trial, "settings.json", extension->settings, strlen(extension->settings), error))
        return FALSE;
    for (guint i = 0; i < extension->files->len; i++) {
        const VrExtensionFile *file = g_ptr_array_index(extension->files, i);
        if (!vr_extension_guest_put(&trial->guest, file->path, file->mode, payload->files[i].data,
                                    payload->files[i].length, ask_until(trial), error))
            return FALSE;
    }
    return TRUE;
}

static gboolean start(Trial *trial, GError **error)
{
    const VrExtensionPayload *payload = trial->payload;
    const VrExtension *extension = payload->extension;
    g_autofree char *script = g_build_filename(trial->guest.dir, "script", NULL);
    g_autofree char *name = g_strdup_printf("VIRT_REIMAGE_EXTENSION=%s", extension->name);
    g_autofree char *settings = g_strdup_printf("VIRT_REIMAGE_SETTINGS=%s/settings.json", trial->guest.dir);
    const char *const environment[] = {name, extension->settings ? settings : NULL, NULL};
    const char *const by_interpreter[] = {payload->interpreter,
                                          payload->interpreter_argument ? payload->interpreter_argument : script,
                                          payload->interpreter_argument ? script : NULL, NULL};
    const char *const *argv = extension->script ? by_interpreter : (const char *const *)extension->command;

    trial->silences = 0;
    trial->begun = TRUE;
    trial->confirmed =
        vr_extension_guest_start(&trial->guest, argv, environment, payload->protected_settings.data,
                                 payload->protected_settings.length, ask_until(trial), &trial->pid, error);
    return trial->confirmed;
}

/* What the guest has of it is waited for, or taken; else it is begun. */
static gboolean begin_once(Trial *trial, GError **error)
{
    if (!vr_extension_guest_look(&trial->guest, ask_until(trial), &trial->sight, error))
        return FALSE;
    trial->confirmed = trial->sight.found == VR_FOUND_RUNNING;
    if (trial->confirmed || trial->sight.found == VR_FOUND_ENDED)
        return TRUE;
    return vr_extension_guest_prepare(&trial->guest, ask_until(trial), error) && put_all(trial, error) &&
           start(trial, error);
}

/* TRUE: this error does not end it, and some time has passed. */
static gboolean may_go_on(Trial *trial, GError *why, gint64 since_ms)
{
    g_free(trial->last_error);
    trial->last_error = vr_printable(why->message, -1);
    if (g_error_matches(why, VR_ERROR, VR_ERROR_FAILED) || g_error_matches(why, VR_ERROR, VR_ERROR_INVALID)) {
        say(trial, VR_EXTENSION_FAILED, "could not be begun: %s", trial->last_error);
        return FALSE;
    }
    if (is_off(trial->run)) {
        say(trial, VR_EXTENSION_FAILED, "has no end: its guest went off");
        return FALSE;
    }
    sleep_until(trial->run, MIN(trial->deadline_ms, vr_clock_now_ms() + SEARCH_MS));
    forgive(&trial->deadline_ms, &trial->forgiven_ms, why, since_ms);
    return !is_aborted(trial->run);
}

/* FALSE: it is over, with its result, or its time is. */
static gboolean begin(Trial *trial)
{
    while (vr_clock_now_ms() < trial->deadline_ms) {
        gint64 since_ms = vr_clock_now_ms();
        g_autoptr(GError) local = NULL;

        if (begin_once(trial, &local))
            return TRUE;
        if (trial->begun && trial->pid == 0) /* it may run all the same */
            return TRUE;
        if (!may_go_on(trial, local, since_ms))
            return FALSE;
    }
    return TRUE;
}

/* --- waiting ------------------------------------------------------------------------------------------- */

/* The guest has nothing of it any more: /run is as new as its boot. */
static void say_gone(Trial *trial)
{
    if (trial->sight.found == VR_FOUND_LOST)
        say(trial, VR_EXTENSION_FAILED,
            "has no end: it was killed in the guest, with the guest agent perhaps, which an extension must not "
            "restart");
    else
        say(trial, VR_EXTENSION_FAILED,
            "has no end: the guest started anew while it ran, which an extension must not do");
}

/* By what it leaves in the guest. TRUE: go on. */
static gboolean search(Trial *trial)
{
    gint64 since_ms = vr_clock_now_ms();
    g_autoptr(GError) local = NULL;

    if (!vr_extension_guest_look(&trial->guest, ask_until(trial), &trial->sight, &local))
        return may_go_on(trial, local, since_ms);
    if (trial->sight.found == VR_FOUND_NOTHING && !trial->confirmed)
        return begin(trial); /* it was not started after all */
    if (trial->sight.found == VR_FOUND_ENDED)
        say_ended(trial);
    else if (trial->sight.found != VR_FOUND_RUNNING)
        say_gone(trial);
    else
        sleep_until(trial->run, MIN(trial->deadline_ms, vr_clock_now_ms() + SEARCH_MS));
    return trial->result->status == VR_EXTENSION_TRANSITIONING;
}

/* TRUE: go on. */
static gboolean watch(Trial *trial, gint64 *pause_ms)
{
    int ended;

    if (trial->pid == 0)
        return search(trial);
    ended = vr_extension_guest_wait(&trial->guest, trial->pid, &trial->silences, ask_until(trial), &trial->sight, NULL);
    if (ended < 0)
        trial->pid = 0;
    if (ended > 0)
        say_ended(trial);
    else
        sleep_until(trial->run, MIN(trial->deadline_ms, vr_clock_now_ms() + *pause_ms));
    *pause_ms = MIN(*pause_ms * 2, POLL_MAX_MS);
    return ended <= 0;
}

static void say_late(Trial *trial)
{
    g_autofree char *limit = vr_clock_format_duration(trial->payload->extension->timeout_ms);
    gint64 until_ms = vr_clock_now_ms() + KILL_MS;
    g_autoptr(GError) local = NULL;
    g_autofree char *why = NULL;

    if (!vr_extension_guest_kill(&trial->guest, until_ms, &local)) {
        why = vr_printable(local->message, -1);
        say(trial, VR_EXTENSION_TIMED_OUT, "did not end within %s, and could not be ended: %s", limit, why);
        return;
    }
    if (vr_extension_guest_look(&trial->guest, until_ms, &trial->sight, NULL))
        take_output(trial);
    say(trial, VR_EXTENSION_TIMED_OUT, "did not end within %s%s%s", limit,
        trial->result->output ? "; its last line: " : "",
        trial->result->output ? last_line(trial->result->output) : "");
}

static void run_trial(Trial *trial)
{
    gint64 pause_ms = POLL_FIRST_MS;
    gboolean on = begin(trial);

    if (on && trial->sight.found == VR_FOUND_ENDED) {
        say_ended(trial);
        on = FALSE;
    }
    while (on && !is_aborted(trial->run) && vr_clock_now_ms() < trial->deadline_ms)
        on = watch(trial, &pause_ms);
    if (trial->result->status != VR_EXTENSION_TRANSITIONING)
        return;
    if (is_aborted(trial->run))
        say(trial, VR_EXTENSION_FAILED, "was given up: the run went back while it ran");
    else if (!trial->begun && trial->sight.found != VR_FOUND_RUNNING)
        say(trial, VR_EXTENSION_TIMED_OUT, "could not be begun in its time: %s",
            trial->last_error ? trial->last_error : "the guest agent does not answer");
    else
        say_late(trial);
}

/* --- the agent ----------------------------------------------------------------------------------------- */

/* Of the new boot. NULL: it answers; else why not. */
static char *wait_for_agent(const VrExtensionsRun *run)
{
    gint64 until_ms = run->agent_until_ms, begun_ms = vr_clock_now_ms();
    gint64 forgiven_ms = MAX(0, until_ms - begun_ms);
    g_autofree char *limit = vr_clock_format_duration(forgiven_ms);

    for (;;) {
        gint64 since_ms = vr_clock_now_ms();
        g_autoptr(GError) local = NULL;
        g_autofree char *boot_id = vr_agent_boot_id(run->hv, run->uuid, since_ms + ASK_MS, &local);
        g_autofree char *why = NULL;

        if (boot_id && g_strcmp0(boot_id, run->old_boot_id) != 0)
            return NULL;
        if (is_aborted(run))
            return g_strdup("the run went back");
        if (!boot_id && is_off(run))
            return g_strdup("its guest went off");
        why = boot_id ? g_strdup("it answers from the boot before the swap") : vr_printable(local->message, -1);
        if (vr_clock_now_ms() >= until_ms)
            return g_strdup_printf("the guest agent did not answer within %s: %s", limit, why);
        sleep_until(run, MIN(until_ms, vr_clock_now_ms() + POLL_MAX_MS));
        forgive(&until_ms, &forgiven_ms, local, since_ms);
    }
}

/* --- all of them --------------------------------------------------------------------------------------- */

static VrExtensionResult *result_new(const VrExtension *extension)
{
    VrExtensionResult *result = g_new0(VrExtensionResult, 1);

    result->name = g_strdup(extension->name);
    result->status = VR_EXTENSION_TRANSITIONING;
    result->exit_status = VR_NO_EXIT_STATUS;
    result->suppressed = extension->suppress_failures;
    result->text = g_strdup("is running");
    result->duration_ms = -1;
    return result;
}

static VrExtensionResult *result_of(const GPtrArray *results, const char *name)
{
    for (guint i = 0; results && i < results->len; i++) {
        VrExtensionResult *result = g_ptr_array_index(results, i);
        if (g_str_equal(result->name, name))
            return result;
    }
    return NULL;
}

static VrExtensionResult *copy_of(const VrExtensionResult *known)
{
    VrExtensionResult *result = g_memdup2(known, sizeof(*known));

    result->name = g_strdup(known->name);
    result->text = g_strdup(known->text);
    result->output = g_strdup(known->output);
    return result;
}

/* The first that it comes after and that did not succeed; NULL: none. */
static const VrExtensionResult *obstacle_of(const GPtrArray *results, const VrExtension *extension)
{
    for (char **name = extension->after; *name; name++) {
        const VrExtensionResult *result = result_of(results, *name);
        if (result && result->status != VR_EXTENSION_SUCCEEDED)
            return result;
    }
    return NULL;
}

static void run_one(const VrExtensionsRun *run, const VrExtensionPayload *payload, VrExtensionResult *result)
{
    g_autofree char *dir = g_strdup_printf(VR_EXTENSION_DIR "/g%u-%s", run->generation, payload->extension->name);
    gint64 begun_ms = vr_clock_now_ms();
    Trial trial = {.run = run,
                   .payload = payload,
                   .guest = {.hv = run->hv, .uuid = run->uuid, .dir = dir, .aborted = run->aborted},
                   .result = result,
                   .deadline_ms = begun_ms + payload->extension->timeout_ms,
                   .forgiven_ms = payload->extension->timeout_ms};

    run_trial(&trial);
    result->duration_ms = vr_clock_now_ms() - begun_ms;
    if (!is_aborted(run))
        vr_extension_guest_remove(&trial.guest, vr_clock_now_ms() + ASK_MS, NULL);
    vr_extension_sight_clear(&trial.sight);
    g_free(trial.last_error);
}

static gboolean keep(const VrExtensionsRun *run, guint position, const VrExtensionResult *result, char **reason)
{
    g_autoptr(GError) local = NULL;

    if (run->record(position, result, run->data, &local))
        return TRUE;
    *reason = g_strdup_printf("what became of extension %s cannot be kept: %s", result->name, local->message);
    return FALSE;
}

/* why_not: why none can be begun; NULL: they can. FALSE: nothing can be kept. */
static gboolean do_one(const VrExtensionsRun *run, guint position, const char *why_not, GPtrArray *results,
                       gint64 *spent_ms, char **reason)
{
    const VrExtensionPayload *payload = &run->extensions->all[position];
    const VrExtensionResult *known = result_of(run->known, payload->extension->name);
    const VrExtensionResult *obstacle = obstacle_of(results, payload->extension);
    VrExtensionResult *result = result_new(payload->extension);

    g_ptr_array_add(results, result);
    if (obstacle) {
        g_free(result->text);
        result->status = VR_EXTENSION_SKIPPED;
        result->text = g_strdup_printf("was skipped: it comes after %s, which %s", obstacle->name, obstacle->text);
    } else if (why_not) {
        g_free(result->text);
        result->status = VR_EXTENSION_FAILED;
        result->text = g_strdup_printf("was not begun: %s", why_not);
    } else {
        result->started_us = known ? known->started_us : vr_clock_wall_us();
        if (!keep(run, position, result, reason))
            return FALSE;
        run_one(run, payload, result);
        *spent_ms += result->duration_ms;
    }
    return keep(run, position, result, reason);
}

static gboolean has_ended(const VrExtensionResult *known)
{
    return known && known->status != VR_EXTENSION_TRANSITIONING;
}

static gboolean all_have_ended(const VrExtensionsRun *run)
{
    for (guint i = 0; i < run->extensions->count; i++)
        if (!has_ended(result_of(run->known, run->extensions->all[i].extension->name)))
            return FALSE;
    return TRUE;
}

gboolean vr_extensions_run(const VrExtensionsRun *run, gint64 *spent_ms, char **reason)
{
    g_autoptr(GPtrArray) results = g_ptr_array_new_with_free_func((GDestroyNotify)vr_extension_result_free);
    g_autofree char *why_not = all_have_ended(run) ? NULL : wait_for_agent(run);

    *spent_ms = 0;
    *reason = NULL;
    for (guint i = 0; i < run->extensions->count; i++) {
        const VrExtensionResult *known = result_of(run->known, run->extensions->all[i].extension->name);

        if (has_ended(known))
            g_ptr_array_add(results, copy_of(known));
        else if (!do_one(run, i, why_not, results, spent_ms, reason))
            return FALSE;
        if (is_aborted(run)) {
            *reason = g_strdup("the wait was ended");
            return FALSE;
        }
    }
    *reason = vr_extension_results_fault(results);
    return *reason == NULL;
}
