/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* H7, H8: the notice of one guest, against a scripted agent and a clock that passes by sleeping only. */
#include "orchestrator/scripted_agent.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/notice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define UUID "11111111-2222-4333-8444-555555555555"
#define FILE_PATH "/run/notice.json"
#define MINUTE 60000

typedef struct {
    VrHv hv;
    ScriptedAgent *agent;
    gboolean off;
    gint64 now_ms, began_ms;
    VrNoticeProfile profile;
    gint aborted;
    GString *told;
    guint asked; /* programs that ran */
    struct {
        gint64 after_ms; /* since it began; 0: never */
        void (*act)(gpointer guest);
    } then;
} Guest;

static void act_when_due(Guest *guest)
{
    void (*act)(gpointer) = guest->then.act;

    if (act == NULL || guest->now_ms - guest->began_ms < guest->then.after_ms)
        return;
    guest->then.act = NULL;
    act(guest);
}

static gint64 now(void *data)
{
    return ((Guest *)data)->now_ms;
}

static gint64 wall(void *data)
{
    return 1795365000000000 +
           (((Guest *)data)->now_ms - ((Guest *)data)->began_ms) * 1000; /* 2026-11-22 16:30:00 UTC */
}

static void sleep_until(gint64 deadline_ms, void *data)
{
    Guest *guest = data;

    guest->now_ms = MAX(guest->now_ms, deadline_ms);
    act_when_due(guest);
}

static gboolean info(VrHv *hv, const char *uuid, VrDomainInfo *domain, GError **error)
{
    domain->state = ((Guest *)hv)->off ? VR_DOMAIN_OFF : VR_DOMAIN_RUNNING;
    return TRUE;
}

static char *answer(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    Guest *guest = (Guest *)hv;

    if (!guest->off && !guest->agent->silent)
        return scripted_agent_answer(command, guest->agent);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_AGENT, "scripted silence");
    guest->now_ms += 5000;
    return NULL;
}

static void told(const char *text, void *data)
{
    g_string_append_printf(((Guest *)data)->told, "%s\n", text);
}

static int no_program(const char *path, const char **out, void *data)
{
    ((Guest *)data)->asked++;
    return 0;
}

static int set_up(void **state)
{
    static const VrHvOps ops = {.info = info, .agent = answer};
    static VrClockSource source = {now, wall, sleep_until, NULL};
    Guest *guest = g_new0(Guest, 1);

    guest->hv.ops = &ops;
    guest->agent = scripted_agent_new();
    guest->agent->program = no_program;
    guest->agent->data = guest;
    guest->now_ms = guest->began_ms = 5000;
    guest->told = g_string_new(NULL);
    guest->profile = (VrNoticeProfile){
        .enable = TRUE, .not_before_ms = 15 * MINUTE, .file = (char *)FILE_PATH, .busy_limit_ms = 60 * MINUTE};
    source.data = guest;
    vr_clock_set_source(&source);
    g_setenv("TZ", "UTC", TRUE);
    *state = guest;
    return 0;
}

static int clear(void **state)
{
    Guest *guest = *state;

    vr_clock_set_source(NULL);
    scripted_agent_free(guest->agent);
    g_string_free(guest->told, TRUE);
    g_free(guest);
    return 0;
}

static VrNotice *notice_of(Guest *guest)
{
    const VrNoticeRequest request = {
        .hv = &guest->hv, .profile = &guest->profile, .uuid = UUID, .domain = "web-0", .what = "upgrade of 'shop'"};

    return vr_notice_new(&request);
}

/* How long it waited, in ms; -1: it did not let the guest go. */
static gint64 waits(Guest *guest, VrNotice *notice, GError **error)
{
    return vr_notice_wait(notice, &guest->aborted, told, guest, error) ? guest->now_ms - guest->began_ms : -1;
}

static json_t *document(Guest *guest)
{
    g_autofree char *text = scripted_agent_file(guest->agent, FILE_PATH);

    assert_non_null(text);
    return json_loads(text, 0, NULL);
}

static const char *field(const json_t *root, const char *name)
{
    return json_string_value(json_object_get(json_array_get(json_object_get(root, "Events"), 0), name));
}

static void read_first(gpointer data)
{
    json_t *root = document(data);

    assert_string_equal(field(root, "EventType"), "Reimage");
    assert_string_equal(field(root, "EventStatus"), "Scheduled");
    assert_string_equal(field(root, "ResourceType"), "VirtualMachine");
    assert_string_equal(field(root, "NotBefore"), "Sun, 22 Nov 2026 16:45:00 GMT");
    assert_string_equal(field(root, "Description"), "upgrade of 'shop'");
    assert_true(g_uuid_string_is_valid(field(root, "EventId")));
    assert_string_equal(json_string_value(json_array_get(
                            json_object_get(json_array_get(json_object_get(root, "Events"), 0), "Resources"), 0)),
                        "web-0");
    json_decref(root);
}

static void test_told_and_gone_in_time(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    char *command[] = {(char *)"/bin/wall", NULL};

    guest->profile.command = command;
    guest->then.after_ms = 1;
    guest->then.act = read_first;
    assert_int_equal(waits(guest, notice, NULL), 15 * MINUTE);
    assert_string_equal(guest->told->str, "notice given, not before 16:45\n");
    assert_int_equal(guest->asked, 1); /* the command */
    assert_null(guest->then.act);
    json_t *root = document(guest);
    assert_string_equal(field(root, "EventStatus"), "Started");
    assert_string_equal(field(root, "NotBefore"), "");
    assert_int_equal(json_integer_value(json_object_get(root, "DocumentIncarnation")), 2);
    json_decref(root);
}

/* ---- early approval ---- */

static void approve(gpointer data)
{
    Guest *guest = data;
    json_t *root = document(guest);
    g_autofree char *text = g_strdup_printf("{\"StartRequests\": [{\"EventId\": \"%s\"}]}", field(root, "EventId"));

    scripted_agent_put(guest->agent, "/run/approval.json", text);
    json_decref(root);
}

static void test_early_approval(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);

    guest->profile.approval_file = (char *)"/run/approval.json";
    guest->then.after_ms = 2 * MINUTE;
    guest->then.act = approve;
    assert_in_range(waits(guest, notice, NULL), 2 * MINUTE, 2 * MINUTE + 5200);
    assert_non_null(strstr(guest->told->str, "approved by the guest\n"));
}

/* One that was left from another notice, no JSON, and another shape. */
static void test_no_approval(void **state)
{
    static const char *const texts[] = {
        "{\"StartRequests\": [{\"EventId\": \"0f0f0f0f-2222-4333-8444-555555555555\"}]}", "yes",
        "{\"StartRequests\": {}}", "{\"StartRequests\": [7, {\"EventId\": 7}]}", ""};
    Guest *guest = *state;

    guest->profile.approval_file = (char *)"/run/approval.json";
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(VrNotice) notice = notice_of(guest);

        guest->began_ms = guest->now_ms;
        scripted_agent_put(guest->agent, "/run/approval.json", texts[i]);
        assert_in_range(waits(guest, notice, NULL), 15 * MINUTE, 15 * MINUTE + 1000);
    }
}

static int says_yes_after_two(const char *path, const char **out, void *data)
{
    return ++((Guest *)data)->asked > 2 ? 0 : 1;
}

static void test_approval_by_command(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    char *command[] = {(char *)"/bin/may-go", NULL};

    guest->profile.approval_command = command;
    guest->agent->program = says_yes_after_two;
    assert_in_range(waits(guest, notice, NULL), 9000, 12000);
}

/* ---- busy ---- */

static void is_free(gpointer data)
{
    scripted_agent_put(((Guest *)data)->agent, "/run/busy", NULL);
}

static void test_busy_for_a_while(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);

    guest->profile.busy_file = (char *)"/run/busy";
    scripted_agent_put(guest->agent, "/run/busy", "two\nthree users\033[2J\n");
    guest->then.after_ms = 20 * MINUTE;
    guest->then.act = is_free;
    assert_in_range(waits(guest, notice, NULL), 20 * MINUTE, 20 * MINUTE + 6000);
    assert_non_null(strstr(guest->told->str, "waits since 16:45, at most until 17:45: busy: three users"));
    assert_null(strchr(guest->told->str, '\033'));
}

static void test_busy_up_to_the_limit(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    g_autoptr(GError) error = NULL;

    guest->profile.busy_file = (char *)"/run/busy";
    scripted_agent_put(guest->agent, "/run/busy", "");
    assert_int_equal(waits(guest, notice, &error), -1);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_non_null(strstr(error->message, "'web-0' was not free within 1 h"));
    assert_int_equal(guest->now_ms - guest->began_ms, 75 * MINUTE);
}

static void test_goes_though_busy(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);

    guest->profile.busy_file = (char *)"/run/busy";
    guest->profile.goes_though_busy = TRUE;
    scripted_agent_put(guest->agent, "/run/busy", "");
    assert_int_equal(waits(guest, notice, NULL), 75 * MINUTE);
    assert_non_null(strstr(guest->told->str, "goes down although it was not free for 1 h"));
}

/* 0 is busy, 1 is free; what else it ends with, nobody knows, and that is no yes. */
static int ends_with(const char *path, const char **out, void *data)
{
    static const int statuses[] = {0, 127, 2, 1};

    guint turn = ((Guest *)data)->asked++;

    *out = "jobs: 3\n";
    return statuses[MIN(turn, G_N_ELEMENTS(statuses) - 1)];
}

static void test_busy_by_command(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    char *command[] = {(char *)"/bin/is-busy", NULL};

    guest->profile.busy_command = command;
    guest->agent->program = ends_with;
    assert_in_range(waits(guest, notice, NULL), 15 * MINUTE + 15000, 15 * MINUTE + 16000);
    assert_int_equal(guest->asked, 4);
    assert_non_null(strstr(guest->told->str, "busy: jobs: 3"));
    assert_non_null(strstr(guest->told->str, "is not known: /bin/is-busy ended with 127"));
}

static void falls_silent(gpointer data)
{
    ((Guest *)data)->agent->silent = TRUE;
}

/* An agent that has gone is not a guest that is free. */
static void test_an_agent_that_falls_silent(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    g_autoptr(GError) error = NULL;

    guest->profile.busy_file = (char *)"/run/busy";
    guest->then.after_ms = MINUTE;
    guest->then.act = falls_silent;
    assert_int_equal(waits(guest, notice, &error), -1);
    assert_non_null(strstr(error->message, "is not known"));
    assert_in_range(guest->now_ms - guest->began_ms, 75 * MINUTE, 75 * MINUTE + 60000);
}

/* ---- ends ---- */

static void abort_it(gpointer data)
{
    g_atomic_int_set(&((Guest *)data)->aborted, 1);
}

static void test_called_off(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    g_autoptr(GError) error = NULL;
    json_t *root;

    guest->then.after_ms = MINUTE;
    guest->then.act = abort_it;
    assert_int_equal(waits(guest, notice, &error), -1);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED));
    assert_in_range(guest->now_ms - guest->began_ms, MINUTE, MINUTE + 500); /* at once */
    vr_notice_take_back(notice);
    root = document(guest);
    assert_int_equal(json_array_size(json_object_get(root, "Events")), 0);
    assert_int_equal(json_integer_value(json_object_get(root, "DocumentIncarnation")), 2);
    json_decref(root);
}

static void test_called_off_while_busy(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    g_autoptr(GError) error = NULL;

    guest->profile.busy_file = (char *)"/run/busy";
    scripted_agent_put(guest->agent, "/run/busy", "");
    guest->then.after_ms = 20 * MINUTE;
    guest->then.act = abort_it;
    assert_int_equal(waits(guest, notice, &error), -1);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED));
    assert_in_range(guest->now_ms - guest->began_ms, 20 * MINUTE, 20 * MINUTE + 500);
}

static void test_called_off_before_it_was_given(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    guest->aborted = 1;
    assert_int_equal(waits(guest, notice, &error), -1);
    vr_notice_take_back(notice);
    text = scripted_agent_file(guest->agent, FILE_PATH);
    assert_null(text);
}

static void test_no_agent(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) first = notice_of(guest), second = notice_of(guest);
    g_autoptr(GError) error = NULL;

    guest->agent->silent = TRUE;
    assert_int_equal(waits(guest, first, &error), -1);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_non_null(strstr(error->message, "'web-0' could not be told that it goes down"));
    guest->profile.goes_without_agent = TRUE;
    assert_true(waits(guest, second, NULL) >= 0);
    assert_non_null(strstr(guest->told->str, "goes down without notice"));
}

static void goes_off(gpointer data)
{
    ((Guest *)data)->off = TRUE;
}

/* Its owner has shut it down: there is nobody to wait for. */
static void test_a_guest_that_goes_off(void **state)
{
    Guest *guest = *state;
    g_autoptr(VrNotice) notice = notice_of(guest);

    guest->then.after_ms = MINUTE;
    guest->then.act = goes_off;
    assert_in_range(waits(guest, notice, NULL), MINUTE, MINUTE + 6000);
    vr_notice_take_back(notice);
}

#define notice_test(function) cmocka_unit_test_setup_teardown(function, set_up, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        notice_test(test_told_and_gone_in_time),
        notice_test(test_early_approval),
        notice_test(test_no_approval),
        notice_test(test_approval_by_command),
        notice_test(test_busy_for_a_while),
        notice_test(test_busy_up_to_the_limit),
        notice_test(test_goes_though_busy),
        notice_test(test_busy_by_command),
        notice_test(test_an_agent_that_falls_silent),
        notice_test(test_called_off),
        notice_test(test_called_off_while_busy),
        notice_test(test_called_off_before_it_was_given),
        notice_test(test_no_agent),
        notice_test(test_a_guest_that_goes_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
