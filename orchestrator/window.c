/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * systemd-analyze counts the openings up from a moment that we give (--base-time). It is told to begin well before what is of interest: from a moment
 * within an hour that the clocks repeat, it would find the second coming of a time whose first one it lists when it begins earlier. Those few hours
 * are thrown away again, so the answer is the same whenever one asks.
 */
#include "orchestrator/window.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define US_PER_S G_GINT64_CONSTANT(1000000)
#define OPENINGS 200 /* in one answer: more than MARGIN_US has of a schedule that comes each minute */
#define MARGIN_US (3 * 3600 * US_PER_S) /* longer than what clocks repeat */
#define LEAST_US (60 * US_PER_S)        /* between two openings */
#define KEPT_MS 600000                  /* the zone of this host may change, and what is known of zones, too */
#define CALENDARS 64

/* One answer of systemd-analyze. */
typedef struct {
    GArray *openings; /* gint64, ascending, all that come after from_us */
    gint64 from_us;
    gboolean whole; /* and none follows them */
    gint64 read_ms;
} Calendar;

static void calendar_free(Calendar *calendar)
{
    g_array_unref(calendar->openings);
    g_free(calendar);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Calendar, calendar_free)

/* ---- what systemd-analyze says ---- */

/* "Sat 2026-11-28 01:00:00 UTC" */
static gboolean read_moment(const char *text, gint64 *us)
{
    g_autoptr(GDateTime) moment = NULL;
    int year, month, day, hour, minute, second;

    if (sscanf(text, "%*3[A-Z a-z] %4d-%2d-%2d %2d:%2d:%2d ", &year, &month, &day, &hour, &minute, &second) != 6)
        return FALSE;
    moment = g_date_time_new_utc(year, month, day, hour, minute, second);
    if (moment == NULL)
        return FALSE;
    *us = g_date_time_to_unix(moment) * US_PER_S;
    return TRUE;
}

/*
 *   Next elapse: Sat 2026-03-07 02:30:00 EST
 *      (in UTC): Sat 2026-03-07 07:30:00 UTC
 *      From now: 8 months 17 days ago
 *      Iter. #2: ...
 *
 * The line in UTC is left out where local time is UTC. A schedule that never comes has the one line "Next elapse: never".
 */
static gboolean read_openings(char *said, GArray *openings)
{
    g_auto(GStrv) lines = g_strsplit(said, "\n", -1);
    gboolean good = FALSE;

    for (char **line = lines; *line != NULL; line++) {
        const char *what = g_strchug(*line), *value = strstr(what, ": ");
        gboolean in_utc = g_str_has_prefix(what, "(in UTC): ");
        gint64 us;

        if (!in_utc && !g_str_has_prefix(what, "Next elapse: ") && !g_str_has_prefix(what, "Iter. #"))
            continue;
        if (value != NULL && g_str_equal(value, ": never") && openings->len == 0)
            return TRUE;
        good = value != NULL && read_moment(value + 2, &us) && !(in_utc && openings->len == 0);
        if (!good)
            return FALSE;
        g_array_set_size(openings, openings->len - (in_utc ? 1 : 0));
        g_array_append_val(openings, us);
    }
    return good;
}

static gboolean ask(const char *schedule, gint64 base_us, GArray *openings, GError **error)
{
    g_autofree char *count = g_strdup_printf("--iterations=%d", OPENINGS);
    g_autofree char *base = g_strdup_printf("--base-time=@%" G_GINT64_FORMAT, MAX(base_us / US_PER_S, 0));
    const char *const argv[] = {"systemd-analyze", "calendar", count, base, "--", schedule, NULL};
    const VrChildLimits limits = {.timeout_ms = 10000, .max_cpu_s = 5};
    g_auto(VrChildResult) result = {0};
    g_autofree char *shown = vr_printable(schedule, -1), *why = NULL;

    if (!vr_child_run(argv, &limits, &result, error)) {
        g_prefix_error(
            error,
            "maintenanceWindow.schedule: nobody can say when \"%s\" comes (the package systemd has systemd-analyze): ",
            shown);
        return FALSE;
    }
    if (result.exit_status == 0 && read_openings(result.out, openings))
        return TRUE;
    if (strstr(result.err, "Failed to parse calendar specification") != NULL) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                    "maintenanceWindow.schedule: \"%s\" is no calendar expression of systemd", shown);
        vr_error_next(error, "try 'systemd-analyze calendar \"%s\"'; a good one is \"Sat *-*-* 02:00 Europe/Berlin\"",
                      shown);
        return FALSE;
    }
    why = vr_printable(result.exit_status == 0 ? result.out : result.err, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD,
                "maintenanceWindow.schedule: systemd-analyze says of \"%s\" what is not understood: %.200s", shown,
                why);
    return FALSE;
}

/* All openings after from_us, as far as one answer has them. */
static Calendar *calendar_read(const char *schedule, gint64 from_us, GError **error)
{
    g_autoptr(Calendar) calendar = g_new0(Calendar, 1);
    guint past = 0;

    calendar->openings = g_array_new(FALSE, FALSE, sizeof(gint64));
    calendar->from_us = from_us;
    calendar->read_ms = vr_clock_now_ms();
    if (!ask(schedule, from_us - MARGIN_US, calendar->openings, error))
        return NULL;
    calendar->whole = calendar->openings->len < OPENINGS;
    while (past < calendar->openings->len && g_array_index(calendar->openings, gint64, past) <= from_us)
        past++;
    g_array_remove_range(calendar->openings, 0, past);
    if (calendar->openings->len > 0 || calendar->whole)
        return g_steal_pointer(&calendar);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                "maintenanceWindow.schedule: \"%s\" comes more often than once a minute", schedule);
    return NULL;
}

/* ---- what follows for a window ---- */

/* Where an opening comes before until_us or at it, the window is open for longer. Then next_us: the first one that comes later. TRUE: no opening that the
 * calendar does not have could change that. */
static gboolean extend(const Calendar *calendar, gint64 duration_us, VrWindowView *view)
{
    for (guint i = 0; i < calendar->openings->len; i++) {
        gint64 opening = g_array_index(calendar->openings, gint64, i);

        if (opening > view->until_us) {
            view->next_us = opening;
            return TRUE;
        }
        view->until_us = MAX(view->until_us, opening + duration_us);
    }
    return calendar->whole;
}

/* Of a calendar that has all openings that could still hold the window open. */
static gboolean settle(const Calendar *calendar, gint64 duration_us, gint64 now_us, VrWindowView *view)
{
    guint i = 0;

    *view = (VrWindowView){0};
    while (i < calendar->openings->len && g_array_index(calendar->openings, gint64, i) <= now_us - duration_us)
        i++;
    if (i == calendar->openings->len)
        return calendar->whole;
    view->next_us = g_array_index(calendar->openings, gint64, i);
    if (view->next_us > now_us)
        return TRUE;
    *view = (VrWindowView){.open = TRUE, .until_us = view->next_us + duration_us};
    return extend(calendar, duration_us, view);
}

static pthread_mutex_t calendars_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *calendars; /* schedule -> Calendar; under that lock */

static gboolean is_still_good(const Calendar *calendar, gint64 from_us)
{
    return calendar != NULL && calendar->from_us <= from_us && vr_clock_now_ms() - calendar->read_ms < KEPT_MS;
}

static void keep(const char *schedule, Calendar *calendar)
{
    if (calendars == NULL)
        calendars = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)calendar_free);
    if (g_hash_table_size(calendars) >= CALENDARS)
        g_hash_table_remove_all(calendars);
    g_hash_table_insert(calendars, g_strdup(schedule), calendar);
}

static gboolean look(const VrMaintenanceWindow *window, gint64 now_us, VrWindowView *view, GError **error)
{
    gint64 duration_us = window->duration_ms * 1000;
    const Calendar *kept = calendars != NULL ? g_hash_table_lookup(calendars, window->schedule) : NULL;
    g_autoptr(Calendar) early = NULL;
    g_autoptr(Calendar) late = NULL;

    if (is_still_good(kept, now_us - duration_us) && settle(kept, duration_us, now_us, view))
        return TRUE;
    early = calendar_read(window->schedule, now_us - duration_us, error);
    if (early == NULL)
        return FALSE;
    if (settle(early, duration_us, now_us, view)) {
        keep(window->schedule, g_steal_pointer(&early));
        return TRUE;
    }
    /* It comes so often that one answer does not reach the end of what is open now. */
    late = calendar_read(window->schedule, now_us, error);
    if (late == NULL)
        return FALSE;
    (void)extend(late, duration_us, view);
    return TRUE;
}

gboolean vr_window_look(const VrMaintenanceWindow *window, gint64 now_us, VrWindowView *view, GError **error)
{
    gboolean good;

    if (window->schedule == NULL) {
        *view = (VrWindowView){.open = TRUE, .until_us = G_MAXINT64};
        return TRUE;
    }
    pthread_mutex_lock(&calendars_lock);
    good = look(window, now_us, view, error);
    pthread_mutex_unlock(&calendars_lock);
    return good;
}

/* ---- when a set is defined ---- */

static const char *fault_of(const Calendar *calendar, const VrWindowView *view)
{
    for (guint i = 1; i < calendar->openings->len; i++)
        if (g_array_index(calendar->openings, gint64, i) - g_array_index(calendar->openings, gint64, i - 1) < LEAST_US)
            return "comes more often than once a minute";
    if (!view->open && view->next_us == 0)
        return "never comes again: no upgrade that begins by itself would move an instance";
    return NULL;
}

gboolean vr_window_check(const VrMaintenanceWindow *window, const char *file_name, gint64 now_us, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Calendar) calendar = NULL;
    VrWindowView view;
    const char *fault;

    if (window->schedule == NULL)
        return TRUE;
    calendar = calendar_read(window->schedule, now_us, &why);
    if (calendar == NULL || !vr_window_look(window, now_us, &view, &why)) {
        if (!g_error_matches(why, VR_ERROR, VR_ERROR_INVALID)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s:%u: %s", file_name, window->line, why->message);
        vr_error_adopt(error, why);
        return FALSE;
    }
    fault = fault_of(calendar, &view);
    if (fault == NULL)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s:%u: maintenanceWindow.schedule: \"%s\" %s", file_name,
                window->line, window->schedule, fault);
    return FALSE;
}

char *vr_window_text(const VrWindowView *view)
{
    g_autofree char *when = vr_clock_format(view->open ? view->until_us : view->next_us);

    if (view->open)
        return view->until_us == G_MAXINT64 ? g_strdup("always open") : g_strdup_printf("open until %s", when);
    return view->next_us == 0 ? g_strdup("never opens again") : g_strdup_printf("opens at %s", when);
}
