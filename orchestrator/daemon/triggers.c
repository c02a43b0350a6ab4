/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/triggers.h"

#include "base/clock.h"
#include "base/log.h"
#include "orchestrator/daemon/wakes.h"

#include <jansson.h>

#define LOOK_TIMEOUT_MS 120000
#define BRAKE_FIRST_MS 30000
#define BRAKE_LONGEST_MS 600000

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

struct VrTriggers {
    VrService *service;
    VrJobs *jobs;
    VrWakes *wakes;
    void (*also)(void *data);
    void *also_data;
    VrJobCapture *look; /* under way; NULL: none */
    gboolean again;     /* something has changed since it began */
    GHashTable *begun;  /* set's name -> Begun *: what was begun, or is to be */
};

typedef struct {
    VrTriggers *triggers;
    char *set, *version;
    VrJobCapture *job;    /* that begins it; NULL: none now */
    gint64 not_before_ms; /* boot-time clock */
    gint64 brake_ms;      /* for the next time */
    gboolean seen;        /* by the last look, as due */
} Begun;

static void begun_free(gpointer data)
{
    Begun *begun = data;

    if (begun->job)
        vr_job_capture_forget(begun->job);
    g_free(begun->set);
    g_free(begun->version);
    g_free(begun);
}

/* ---- to begin one ---- */

static void on_begun(VrJobOutput *output, void *data)
{
    Begun *begun = data;

    begun->job = NULL;
    if (output->exit_status == 0)
        vr_log(VR_LOG_INFO, NULL, begun->set, "the upgrade to %s has begun by itself", begun->version);
    else
        vr_warning(begun->set, "the upgrade to %s could not begin by itself (exit status %d): %s", begun->version,
                   output->exit_status, output->message ? output->message : "it said nothing");
    vr_triggers_look(begun->triggers, "an upgrade was begun");
}

static void begin(VrTriggers *triggers, Begun *begun)
{
    const char *const argv[] = {"upgrade", "--automatic", "--detach", begun->set, NULL};
    const VrJobRequest request = {.argv = argv, .fds = {-1, -1, -1}, .cwd = -1, .own = TRUE};
    g_autoptr(GError) local = NULL;

    begun->not_before_ms = vr_clock_now_ms() + begun->brake_ms;
    begun->brake_ms = MIN(begun->brake_ms * 2, BRAKE_LONGEST_MS);
    begun->job = vr_jobs_capture(triggers->jobs, &request, on_begun, begun, &local);
    if (!begun->job)
        vr_warning(begun->set, "the upgrade to %s could not begin by itself: %s", begun->version, local->message);
}

/* For another version the brake is off. */
static Begun *remember(VrTriggers *triggers, const char *set, const char *version)
{
    Begun *begun = g_hash_table_lookup(triggers->begun, set);

    if (!begun) {
        begun = g_new0(Begun, 1);
        begun->triggers = triggers;
        begun->set = g_strdup(set);
        g_hash_table_insert(triggers->begun, begun->set, begun);
    }
    if (g_strcmp0(begun->version, version) != 0 && !begun->job) {
        g_free(begun->version);
        begun->version = g_strdup(version);
        begun->not_before_ms = 0;
        begun->brake_ms = BRAKE_FIRST_MS;
    }
    begun->seen = TRUE;
    return begun;
}

/* ---- to look ---- */

static gint64 earlier(gint64 a, gint64 b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* The wall clock of an answer of a command; 0: none. */
static gint64 time_of(const json_t *text)
{
    const char *words = json_string_value(text);
    g_autoptr(GDateTime) when = words ? g_date_time_new_from_iso8601(words, NULL) : NULL;

    return when ? g_date_time_to_unix(when) * G_USEC_PER_SEC + g_date_time_get_microsecond(when) : 0;
}

/* When to look at this one again; 0: when something has changed. */
static gint64 take_one(VrTriggers *triggers, const json_t *one)
{
    const char *set = json_string_value(json_object_get(one, "set"));
    const char *state = json_string_value(json_object_get(one, "state"));
    const char *version = json_string_value(json_object_get(one, "version"));
    gint64 now_ms = vr_clock_now_ms();
    Begun *begun;

    if (g_strcmp0(state, "wait") == 0)
        return time_of(json_object_get(one, "at"));
    if (g_strcmp0(state, "due") != 0 || !set || !version)
        return 0;
    begun = remember(triggers, set, version);
    if (!begun->job && begun->not_before_ms <= now_ms)
        begin(triggers, begun);
    return begun->job ? 0 : vr_clock_wall_us() + (begun->not_before_ms - now_ms) * 1000;
}

/* One that is due no more has begun, or waits for a person: it is begun at once when it is due again. */
static gboolean is_over(gpointer key, gpointer value, gpointer data)
{
    const Begun *begun = value;

    return !begun->seen && !begun->job;
}

static void take_all(VrTriggers *triggers, const json_t *list)
{
    GHashTableIter iter;
    gpointer value;
    const json_t *one;
    gint64 next_us = 0;
    size_t index;

    g_hash_table_iter_init(&iter, triggers->begun);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        ((Begun *)value)->seen = FALSE;
    json_array_foreach(list, index, one) next_us = earlier(next_us, take_one(triggers, one));
    g_hash_table_foreach_remove(triggers->begun, is_over, NULL);
    vr_wakes_at(triggers->wakes, next_us);
}

static void on_looked(VrJobOutput *output, void *data)
{
    VrTriggers *triggers = data;
    g_autoptr(json_t) answer =
        output->exit_status == 0 && output->out >= 0 ? json_loadfd(output->out, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    const json_t *list = json_object_get(answer, "triggers");

    triggers->look = NULL;
    if (vr_service_stopping(triggers->service))
        return;
    if (list)
        take_all(triggers, list);
    else if (g_strcmp0(output->code, "NotFound") != 0) /* there is no store yet */
        vr_warning(NULL, "cannot see what is to begin by itself (exit status %d): %s", output->exit_status,
                   output->message ? output->message : "no answer");
    if (triggers->again)
        vr_triggers_look(triggers, "something has changed");
}

static void on_wake(const char *why, void *data)
{
    static const char *const argv[] = {"--json", "triggers", NULL};
    const VrJobRequest request = {
        .argv = argv, .fds = {-1, -1, -1}, .cwd = -1, .timeout_ms = LOOK_TIMEOUT_MS, .own = TRUE};
    VrTriggers *triggers = data;
    g_autoptr(GError) local = NULL;

    if (vr_service_stopping(triggers->service))
        return;
    if (triggers->also)
        triggers->also(triggers->also_data);
    triggers->again = triggers->look != NULL;
    if (triggers->look)
        return;
    triggers->look = vr_jobs_capture(triggers->jobs, &request, on_looked, triggers, &local);
    if (!triggers->look)
        vr_warning(NULL, "cannot see what is to begin by itself: %s", local->message);
}

void vr_triggers_look(VrTriggers *triggers, const char *why)
{
    vr_wakes_now(triggers->wakes, why);
}

/* ---- its life ---- */

static void on_reload(void *data)
{
    vr_triggers_look(data, "SIGHUP");
}

VrTriggers *vr_triggers_new(VrService *service, VrJobs *jobs, const char *root, void (*also)(void *data), void *data)
{
    VrTriggers *triggers = g_new0(VrTriggers, 1);

    triggers->service = service;
    triggers->jobs = jobs;
    triggers->also = also;
    triggers->also_data = data;
    triggers->begun = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, begun_free);
    triggers->wakes = vr_wakes_new(root, on_wake, triggers);
    vr_service_add_reload(service, on_reload, triggers);
    return triggers;
}

void vr_triggers_free(VrTriggers *triggers)
{
    if (!triggers)
        return;
    if (triggers->look)
        vr_job_capture_forget(triggers->look);
    vr_wakes_free(triggers->wakes);
    g_hash_table_unref(triggers->begun);
    g_free(triggers);
}
