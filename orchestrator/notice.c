/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/notice.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "hv/guest_agent.h"

#include <jansson.h>
#include <string.h>

#define TELL_MS 10000     /* to write the notice */
#define COMMAND_MS 60000  /* for the command that is run with it */
#define QUESTION_MS 10000 /* for one question */
#define PING_S 5          /* ... whether the agent is there */
#define ASK_AGAIN_MS 5000 /* between two */
#define SLICE_MS 200      /* after so long it hears that it is called off */
#define MAX_ANSWER (16 * 1024)
#define MAX_REASON 120 /* bytes of what a guest says that are repeated */

struct VrNotice {
    VrNoticeRequest request;
    const gint *aborted; /* while it waits, as the two below */
    VrNoticeTold say;
    void *data;
    char *what, *event_id;
    guint incarnation; /* of the document; 0: it was not written */
    gint64 not_before_ms, not_before_us;
    char *told; /* the last line */
};

VrNotice *vr_notice_new(const VrNoticeRequest *request)
{
    VrNotice *notice = g_new0(VrNotice, 1);

    notice->request = *request;
    notice->what = g_strdup(request->what);
    notice->event_id = g_uuid_string_random();
    return notice;
}

void vr_notice_free(VrNotice *notice)
{
    if (notice == NULL)
        return;
    g_free(notice->what);
    g_free(notice->event_id);
    g_free(notice->told);
    g_free(notice);
}

static void tell(VrNotice *notice, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void tell(VrNotice *notice, const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (g_strcmp0(text, notice->told) != 0 && notice->say != NULL)
        notice->say(text, notice->data);
    g_free(notice->told);
    notice->told = text;
}

/* --- the document ------------------------------------------------------------------------------------ */

/* "Sun, 22 Nov 2026 16:30:00 GMT", as Azure writes NotBefore, whatever the locale. */
static char *http_date(gint64 wall_us)
{
    static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(wall_us / G_USEC_PER_SEC);
    g_autofree char *clock = g_date_time_format(time, "%H:%M:%S");

    return g_strdup_printf("%s, %02d %s %d %s GMT", days[g_date_time_get_day_of_week(time) - 1],
                           g_date_time_get_day_of_month(time), months[g_date_time_get_month(time) - 1],
                           g_date_time_get_year(time), clock);
}

/* status NULL: there is no event (any more). Azure's NotBefore is empty once it has started. Free with g_free. */
static char *document(const VrNotice *notice, const char *status)
{
    g_autofree char *until =
        g_str_equal(status != NULL ? status : "", "Scheduled") ? http_date(notice->not_before_us) : g_strdup("");
    json_t *event = status == NULL
                        ? NULL
                        : json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s, s:s, s:s, s:i}", "EventId", notice->event_id,
                                    "EventType", "Reimage", "ResourceType", "VirtualMachine", "Resources",
                                    notice->request.domain, "EventStatus", status, "NotBefore", until, "Description",
                                    notice->what, "EventSource", "Platform", "DurationInSeconds", -1);
    json_auto_t *root = json_pack("{s:i, s:[]}", "DocumentIncarnation", (int)notice->incarnation, "Events");
    char *text, *copy;

    if (event != NULL)
        json_array_append_new(json_object_get(root, "Events"), event);
    text = json_dumps(root, JSON_INDENT(2));
    copy = g_strconcat(text, "\n", NULL);
    free(text);
    return copy;
}

static gboolean write_document(VrNotice *notice, const char *status, GError **error)
{
    const VrNoticeRequest *request = &notice->request;
    g_autofree char *text = NULL;

    notice->incarnation++;
    text = document(notice, status);
    return vr_agent_write_file(request->hv, request->uuid, request->profile->file, text, strlen(text),
                               vr_clock_now_ms() + TELL_MS, error);
}

/* --- questions --------------------------------------------------------------------------------------- */

static gboolean is_aborted(const VrNotice *notice)
{
    return notice->aborted != NULL && g_atomic_int_get(notice->aborted) != 0;
}

static gboolean runs(const VrNotice *notice)
{
    g_auto(VrDomainInfo) info = {0};

    return !vr_hv_info(notice->request.hv, notice->request.uuid, &info, NULL) || info.state != VR_DOMAIN_OFF;
}

static gboolean run(const VrNotice *notice, char **argv, gint64 most_ms, VrAgentResult *result, GError **error)
{
    return vr_agent_exec(notice->request.hv, notice->request.uuid, (const char *const *)argv, MAX_ANSWER,
                         vr_clock_now_ms() + most_ms, notice->aborted, result, error);
}

/* Azure's StartRequests: it names this event, so an approval that was left from another notice is none. */
static gboolean names_event(const VrNotice *notice, const char *text, gsize length)
{
    json_auto_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
    const json_t *requests = json_object_get(root, "StartRequests");

    for (gsize i = 0; i < json_array_size(requests); i++) {
        const char *id = json_string_value(json_object_get(json_array_get(requests, i), "EventId"));

        if (id != NULL && g_ascii_strcasecmp(id, notice->event_id) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean is_approved(const VrNotice *notice)
{
    const VrNoticeProfile *profile = notice->request.profile;
    g_auto(VrAgentResult) result = {0};
    g_autofree char *text = NULL;
    gsize length = 0;

    if (profile->approval_command != NULL)
        return run(notice, profile->approval_command, QUESTION_MS, &result, NULL) && result.exit_status == 0;
    if (profile->approval_file != NULL)
        text = vr_agent_read_file(notice->request.hv, notice->request.uuid, profile->approval_file, MAX_ANSWER,
                                  vr_clock_now_ms() + QUESTION_MS, &length, NULL);
    return text != NULL && names_event(notice, text, length);
}

/* The last line of what a guest says, short and without what would not print. */
static char *last_line(char *text)
{
    char *line = strrchr(g_strchomp(text), '\n');

    line = line != NULL ? line + 1 : text;
    return vr_printable(line, (gssize)strnlen(line, MAX_REASON));
}

/* Why it is busy, with what it says of that; NULL: it is not. Free with g_free. */
static char *busy_by_file(const VrNotice *notice)
{
    const char *file = notice->request.profile->busy_file;
    g_autoptr(GError) local = NULL;
    g_autofree char *said = NULL;
    g_autofree char *text = vr_agent_read_file(notice->request.hv, notice->request.uuid, file, MAX_ANSWER,
                                               vr_clock_now_ms() + QUESTION_MS, NULL, &local);

    if (text == NULL && vr_agent_ping(notice->request.hv, notice->request.uuid, PING_S, NULL))
        return NULL; /* it answers, and has no such file */
    if (text == NULL)
        return g_strdup_printf("whether it is busy is not known: %s", local->message);
    said = last_line(text);
    return g_strdup_printf("busy%s%s", *said != '\0' ? ": " : "", said);
}

static char *busy_by_command(const VrNotice *notice)
{
    char **command = notice->request.profile->busy_command;
    g_autoptr(GError) local = NULL;
    g_auto(VrAgentResult) result = {0};
    g_autofree char *said = NULL;

    if (!run(notice, command, QUESTION_MS, &result, &local))
        return g_strdup_printf("whether it is busy is not known: %s", local->message);
    if (result.exit_status == 1)
        return NULL;
    if (result.exit_status != 0)
        return g_strdup_printf("whether it is busy is not known: %s ended with %d", command[0], result.exit_status);
    said = last_line(result.out);
    return g_strdup_printf("busy%s%s", *said != '\0' ? ": " : "", said);
}

static char *why_busy(const VrNotice *notice)
{
    if (notice->request.profile->busy_file != NULL)
        return busy_by_file(notice);
    return notice->request.profile->busy_command != NULL ? busy_by_command(notice) : NULL;
}

/* --- the wait ---------------------------------------------------------------------------------------- */

static gboolean cancelled(const VrNotice *notice, GError **error)
{
    if (!is_aborted(notice))
        return FALSE;
    g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "the notice of '%s' was called off", notice->request.domain);
    return TRUE;
}

static void sleep_unless_aborted(const VrNotice *notice, gint64 until_ms)
{
    while (vr_clock_now_ms() < until_ms && !is_aborted(notice))
        vr_clock_sleep_until(MIN(until_ms, vr_clock_now_ms() + SLICE_MS));
}

static char *clock_text(gint64 wall_us)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(wall_us / G_USEC_PER_SEC);

    return g_date_time_format(time, "%H:%M");
}

/* A command that fails, or runs on, does not undo that the notice is given. */
static void run_command(VrNotice *notice)
{
    char **command = notice->request.profile->command;
    g_autoptr(GError) local = NULL;
    g_auto(VrAgentResult) result = {0};

    if (command == NULL)
        return;
    if (!run(notice, command, COMMAND_MS, &result, &local))
        vr_warning(notice->request.domain, "the command of its notice: %s", local->message);
    else if (result.exit_status != 0)
        vr_warning(notice->request.domain, "the command of its notice, %s, ended with %d", command[0],
                   result.exit_status);
}

static gboolean give(VrNotice *notice, GError **error)
{
    const VrNoticeProfile *profile = notice->request.profile;
    g_autofree char *until = NULL;

    notice->not_before_ms = vr_clock_now_ms() + profile->not_before_ms;
    notice->not_before_us = vr_clock_wall_us() + profile->not_before_ms * 1000;
    if (!write_document(notice, "Scheduled", error))
        return FALSE;
    until = clock_text(notice->not_before_us);
    tell(notice, "notice given, not before %s", until);
    run_command(notice);
    return TRUE;
}

/* Until NotBefore, or until the guest approves. */
static gboolean wait_for_time(VrNotice *notice, GError **error)
{
    const VrNoticeProfile *profile = notice->request.profile;
    gboolean may_approve = profile->approval_file != NULL || profile->approval_command != NULL;

    while (vr_clock_now_ms() < notice->not_before_ms && runs(notice)) {
        if (cancelled(notice, error))
            return FALSE;
        if (may_approve && is_approved(notice)) {
            tell(notice, "approved by the guest");
            return TRUE;
        }
        sleep_unless_aborted(notice, MIN(notice->not_before_ms, vr_clock_now_ms() + ASK_AGAIN_MS));
    }
    return !cancelled(notice, error);
}

/* At the limit of what it is busy with. */
static gboolean limit_says(VrNotice *notice, const char *why, GError **error)
{
    g_autofree char *limit = vr_clock_format_duration(notice->request.profile->busy_limit_ms);

    if (notice->request.profile->goes_though_busy) {
        tell(notice, "goes down although it was not free for %s: %s", limit, why);
        return TRUE;
    }
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s' was not free within %s: %s", notice->request.domain, limit,
                why);
    return FALSE;
}

static gboolean wait_until_free(VrNotice *notice, GError **error)
{
    gint64 began_ms = vr_clock_now_ms(), limit_ms = began_ms + notice->request.profile->busy_limit_ms;
    g_autofree char *since = clock_text(vr_clock_wall_us());
    g_autofree char *until = clock_text(vr_clock_wall_us() + notice->request.profile->busy_limit_ms * 1000);

    while (runs(notice)) {
        g_autofree char *why = why_busy(notice);

        if (cancelled(notice, error))
            return FALSE;
        if (why == NULL)
            break;
        if (vr_clock_now_ms() >= limit_ms)
            return limit_says(notice, why, error);
        tell(notice, "waits since %s, at most until %s: %s", since, until, why);
        sleep_unless_aborted(notice, MIN(limit_ms, vr_clock_now_ms() + ASK_AGAIN_MS));
    }
    return !cancelled(notice, error);
}

/* What the model says of a guest that cannot be told. */
static gboolean untold(VrNotice *notice, const GError *why, GError **error)
{
    if (!runs(notice))
        return TRUE;
    if (notice->request.profile->goes_without_agent) {
        tell(notice, "goes down without notice: %s", why->message);
        return TRUE;
    }
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s' could not be told that it goes down: %s",
                notice->request.domain, why->message);
    vr_error_adopt(error, why);
    return FALSE;
}

static gboolean give_and_wait(VrNotice *notice, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (cancelled(notice, error))
        return FALSE;
    if (!give(notice, &local))
        return untold(notice, local, error);
    if (!wait_for_time(notice, error) || !wait_until_free(notice, error))
        return FALSE;
    if (runs(notice) && !write_document(notice, "Started", &local))
        vr_debug("%s: %s", notice->request.domain, local->message);
    return TRUE;
}

gboolean vr_notice_wait(VrNotice *notice, const gint *aborted, VrNoticeTold told, void *data, GError **error)
{
    gboolean ok;

    notice->aborted = aborted;
    notice->say = told;
    notice->data = data;
    ok = give_and_wait(notice, error);
    notice->aborted = NULL;
    notice->say = NULL;
    return ok;
}

void vr_notice_take_back(VrNotice *notice)
{
    g_autoptr(GError) local = NULL;

    if (notice->incarnation == 0 || !runs(notice))
        return;
    if (!write_document(notice, NULL, &local))
        vr_warning(notice->request.domain, "its notice could not be taken back: %s", local->message);
}
