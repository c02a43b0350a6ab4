/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Health from the agent and the power state, over a scripted hypervisor and a scripted clock. Rows E1, E2, E4, E5, E6, E8, E9, E10,
 * E12. */
#include "orchestrator/health.h"
#include "orchestrator/health_signals.h"

#include "base/clock.h"
#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define OLD_BOOT "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
#define NEW_BOOT "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"

/* The guest: what it says, and from when on. */
static struct {
    VrDomainState state;
    gboolean agent;
    const char *boot_id;
    const char *body;                   /* of the health file; NULL: there is none */
    const char *result, *status;        /* of cloud-init */
    int exit_status;                    /* of the health command */
    gboolean hangs;                     /* it does not end */
    gint64 aborted_at_ms;               /* the wait is called off then; 0: it is not */
    gint64 healthy_from_ms;             /* the body becomes Healthy then */
    gint64 agent_from_ms;               /* the agent answers from then on */
    gint64 lives_ms;                    /* it starts anew each time after so long; 0: it does not */
    gint64 reboots_ms;                  /* it boots anew within its QEMU each time after so long; 0: it does not */
    gint64 agent_needs_ms;              /* from each such boot to its agent */
    gint64 away_from_ms, away_until_ms; /* libvirt is not there; 0: it always is */
    guint looks;
} guest;

static gint64 now_ms;
static gint aborted;

static gint64 fake_now(void *data)
{
    return now_ms;
}

static gint64 fake_wall(void *data)
{
    return now_ms * 1000;
}

static void fake_sleep(gint64 deadline_ms, void *data)
{
    now_ms = MAX(now_ms, deadline_ms);
    aborted = guest.aborted_at_ms != 0 && now_ms >= guest.aborted_at_ms;
}

static gboolean info(VrHv *hv, const char *uuid, VrDomainInfo *answer, GError **error)
{
    memset(answer, 0, sizeof(*answer));
    if (now_ms >= guest.away_from_ms && now_ms < guest.away_until_ms) {
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "libvirt cannot be reached");
        return FALSE;
    }
    answer->name = g_strdup("g");
    answer->state = guest.state;
    answer->id = guest.lives_ms ? (int)(now_ms / guest.lives_ms) + 1 : 1;
    guest.looks++;
    return TRUE;
}

static char *file_reply(const char *command, const char *content)
{
    g_autofree char *base64 = g_base64_encode((const guchar *)content, strlen(content));

    if (strstr(command, "guest-file-open"))
        return g_strdup("{\"return\": 7}");
    if (strstr(command, "guest-file-read"))
        return g_strdup_printf("{\"return\": {\"count\": %zu, \"buf-b64\": \"%s\", \"eof\": true}}", strlen(content),
                               base64);
    return g_strdup("{\"return\": {}}");
}

static const char *boot_id_now(void)
{
    static char text[VR_UUID_LENGTH + 1];

    if (!guest.reboots_ms)
        return guest.boot_id;
    g_snprintf(text, sizeof(text), "%08d-bbbb-4bbb-8bbb-bbbbbbbbbbbb", (int)(now_ms / guest.reboots_ms));
    return text;
}

static gboolean agent_is_up(void)
{
    if (guest.reboots_ms && now_ms % guest.reboots_ms < guest.agent_needs_ms)
        return FALSE;
    return guest.agent && now_ms >= guest.agent_from_ms;
}

/* The content of the file that was opened last. */
static const char *content_of(const char *path)
{
    if (strstr(path, "boot_id"))
        return boot_id_now();
    if (strstr(path, "cloud-init"))
        return strstr(path, "result.json") ? guest.result : guest.status;
    if (guest.healthy_from_ms && now_ms >= guest.healthy_from_ms)
        return "{\"ApplicationHealthState\": \"Healthy\"}";
    return guest.body;
}

static char *agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    static const char *content;

    if (!agent_is_up()) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "no agent");
        return NULL;
    }
    if (strstr(command, "guest-exec-status") && guest.hangs)
        return g_strdup("{\"return\": {\"exited\": false}}");
    if (strstr(command, "guest-exec-status"))
        return g_strdup_printf("{\"return\": {\"exited\": true, \"exitcode\": %d}}", guest.exit_status);
    if (strstr(command, "guest-exec"))
        return g_strdup("{\"return\": {\"pid\": 9}}");
    if (strstr(command, "guest-file-open"))
        content = content_of(command);
    if (strstr(command, "guest-file") && !content) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "no such file");
        return NULL;
    }
    if (strstr(command, "guest-file"))
        return file_reply(command, content);
    return g_strdup("{\"return\": {}}");
}

static const VrHvOps ops = {.info = info, .agent = agent};
static VrHv hv = {&ops};

static VrHealthProfile profile = {.source = VR_HEALTH_SOURCE_AGENT_FILE,
                                  .file = (char *)"/run/health.json",
                                  .interval_ms = 5000,
                                  .number_of_probes = 1,
                                  .timeout_ms = 60000};

static int setup(void **state)
{
    static const VrClockSource source = {fake_now, fake_wall, fake_sleep, NULL};

    now_ms = 1000;
    vr_clock_set_source(&source);
    memset(&guest, 0, sizeof(guest));
    aborted = 0;
    guest.state = VR_DOMAIN_RUNNING;
    guest.agent = TRUE;
    guest.boot_id = NEW_BOOT;
    guest.body = "{\"ApplicationHealthState\": \"Healthy\", \"customMetrics\": \"{}\"}";
    profile.source = VR_HEALTH_SOURCE_AGENT_FILE;
    profile.number_of_probes = 1;
    profile.grace_period_ms = 0;
    profile.start_timeout_ms = 0;
    return 0;
}

static const VrHealthSubject subject = {.uuid = "u"};

static VrHealthState look(void)
{
    g_auto(VrHealthAnswer) answer = {0};

    vr_health_probe(&hv, &profile, &subject, now_ms + 10000, NULL, &answer);
    assert_non_null(answer.text);
    return answer.state;
}

static gboolean wait_for(VrHealthAnswer *answer)
{
    VrHealthWait wait = {.subject = subject, .old_boot_id = OLD_BOOT, .started_ms = now_ms};

    return vr_health_wait(&hv, &profile, &wait, answer);
}

static void test_bodies(void **state) /* E8 E10 */
{
    static const struct {
        const char *body;
        VrHealthState state;
    } rows[] = {
        {"{\"ApplicationHealthState\": \"Healthy\"}", VR_HEALTH_HEALTHY},
        {"{\"ApplicationHealthState\": \"healthy\"}", VR_HEALTH_HEALTHY},
        {"{\"ApplicationHealthState\": \"Unhealthy\"}", VR_HEALTH_UNHEALTHY},
        {"{\"ApplicationHealthState\": \"Healthyish\"}", VR_HEALTH_UNKNOWN},
        {"{\"ApplicationHealthState\": 1}", VR_HEALTH_UNKNOWN},
        {"{\"ApplicationHealthState\": \"Healthy\", \"ApplicationHealthState\": \"Unhealthy\"}", VR_HEALTH_UNKNOWN},
        {"[\"Healthy\"]", VR_HEALTH_UNKNOWN},
        {"Healthy", VR_HEALTH_UNKNOWN},
        {"", VR_HEALTH_UNKNOWN},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        guest.body = rows[i].body;
        assert_int_equal(look(), rows[i].state);
    }
    guest.body = NULL;
    assert_int_equal(look(), VR_HEALTH_UNKNOWN);
    guest.agent = FALSE;
    assert_int_equal(look(), VR_HEALTH_INITIALIZING);
    guest.state = VR_DOMAIN_PAUSED;
    assert_int_equal(look(), VR_HEALTH_UNHEALTHY);
}

static void test_command(void **state) /* E4 */
{
    char *command[] = {(char *)"/usr/bin/healthy", NULL};

    profile.source = VR_HEALTH_SOURCE_AGENT_COMMAND;
    profile.command = command;
    assert_int_equal(look(), VR_HEALTH_HEALTHY);
    guest.exit_status = 3;
    assert_int_equal(look(), VR_HEALTH_UNHEALTHY);
    profile.command = NULL;
}

static void test_wait_until_healthy(void **state) /* E1 E12 */
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.body = NULL;
    guest.healthy_from_ms = now_ms + 8000;
    assert_true(wait_for(&answer));
    assert_string_equal(answer.boot_id, NEW_BOOT);
    assert_true(now_ms < 1000 + 8000 + 1000); /* noticed within a second, not at the next interval */
}

static void
test_timeout(void **state) /* E1: the wait ends at the time that the model gives, not before and not much later */
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    assert_false(wait_for(&answer));
    assert_int_equal(answer.state, VR_HEALTH_UNHEALTHY);
    assert_true(now_ms >= 61000 && now_ms < 62000);
    assert_non_null(strstr(answer.text, "says Unhealthy"));

    setup(state);
    profile.timeout_ms = 300000; /* the five minutes of the documents */
    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    assert_false(wait_for(&answer));
    assert_true(now_ms >= 301000 && now_ms < 302000);
    profile.timeout_ms = 60000;
}

static void test_start_timeout(void **state) /* E2: only where set; then healthTimeout counts from the first answer */
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.agent_from_ms = now_ms + 100000;
    guest.healthy_from_ms = now_ms + 150000;
    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    assert_false(wait_for(&answer));
    assert_true(now_ms >= 61000 && now_ms < 62000);

    setup(state);
    profile.start_timeout_ms = 200000;
    guest.agent_from_ms = now_ms + 100000;
    guest.healthy_from_ms = now_ms + 150000;
    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    assert_true(wait_for(&answer));
    assert_in_range(now_ms, 151000, 157000);

    setup(state);
    profile.start_timeout_ms = 200000;
    guest.agent = FALSE;
    assert_false(wait_for(&answer));
    assert_in_range(now_ms, 201000, 202000);
    assert_non_null(strstr(answer.text, "not healthy within 3 min 20 s: the guest agent does not answer"));
}

/* It answers in each of its first boots, and is healthy in the third: the agent is seen to go away, or is quick. */
static void test_restarts_of_a_first_boot(void **state) /* E2 */
{
    static const gint64 needs_ms[] = {10000, 1};

    for (guint i = 0; i < G_N_ELEMENTS(needs_ms); i++) {
        g_auto(VrHealthAnswer) answer = {0};

        setup(state);
        profile.start_timeout_ms = 200000;
        guest.reboots_ms = 50000;
        guest.agent_needs_ms = needs_ms[i];
        guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
        guest.healthy_from_ms = 130000;
        assert_true(wait_for(&answer));
        assert_in_range(now_ms, 130000, 136000);

        setup(state);
        profile.start_timeout_ms = 200000;
        guest.reboots_ms = 50000;
        guest.agent_needs_ms = needs_ms[i];
        guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
        assert_false(wait_for(&answer)); /* not for ever: healthTimeout after startTimeout at the latest */
        assert_in_range(now_ms, 201000, 261000);
    }
}

/* SAFETY 2, S12: loss of libvirt is not ill health. It is no reason to wait for ever either. */
static void test_libvirt_away(void **state) /* E1 */
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    guest.healthy_from_ms = 50000;
    guest.away_from_ms = 40000;
    guest.away_until_ms = 90000;
    assert_true(wait_for(&answer)); /* healthTimeout is a minute */
    assert_in_range(now_ms, 90000, 91000);

    setup(state);
    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    guest.away_from_ms = 40000;
    guest.away_until_ms = 60000;
    assert_false(wait_for(&answer));
    assert_in_range(now_ms, 80000, 82000); /* as it was seen: from look to look */

    setup(state);
    guest.away_until_ms = 86400000;
    assert_false(wait_for(&answer));
    assert_in_range(now_ms, 121000, 122000);
    assert_string_equal(answer.text, "not healthy within 1 min 00 s, and 1 min 00 s in which libvirt was away: libvirt "
                                     "cannot be reached");
}

static void
test_grace_period(void **state) /* E8 E9: what is unhealthy at first is Initializing, and the wait goes on */
{
    g_auto(VrHealthAnswer) answer = {0};

    profile.grace_period_ms = 3600000;
    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    assert_false(wait_for(&answer));
    assert_int_equal(answer.state, VR_HEALTH_INITIALIZING);
    assert_true(now_ms >= 61000 && now_ms < 62000); /* healthTimeout rules */
    profile.grace_period_ms = 3600000;
    guest.body = "{\"ApplicationHealthState\": \"Healthy\"}";
    assert_true(wait_for(&answer));
}

/* Each answer is healthy, and no two of them come from the same QEMU process: a crash loop. */
static void test_crash_loop(void **state) /* invariant 26 */
{
    g_auto(VrHealthAnswer) answer = {0};

    profile.number_of_probes = 2;
    guest.lives_ms = 4000;
    assert_false(wait_for(&answer));
    setup(state);
    profile.number_of_probes = 2;
    profile.source = VR_HEALTH_SOURCE_POWER;
    guest.lives_ms = 4000;
    assert_false(wait_for(&answer));
}

/* The same within one QEMU process: the application answers at once in each boot, the agent later. */
static void test_crash_loop_in_the_guest(void **state) /* invariant 26 */
{
    static const gint64 needs_ms[] = {1000, 6000, 9000};

    for (guint i = 0; i < G_N_ELEMENTS(needs_ms); i++) {
        g_auto(VrHealthAnswer) answer = {0};

        setup(state);
        profile.source = VR_HEALTH_SOURCE_POWER;
        profile.number_of_probes = 3;
        guest.reboots_ms = 10000; /* three looks take as long */
        guest.agent_needs_ms = needs_ms[i];
        if (wait_for(&answer))
            fail_msg("an agent that needs %d ms: healthy at %d ms", (int)needs_ms[i], (int)now_ms);
    }
}

/* The power state has no identity; the agent, where it answers, lends its own. */
static void test_agent_comes_later(void **state) /* invariant 26: the application is there before the agent */
{
    g_auto(VrHealthAnswer) answer = {0};

    profile.source = VR_HEALTH_SOURCE_POWER;
    guest.agent_from_ms = 9000;
    assert_true(wait_for(&answer));
    assert_string_equal(answer.boot_id, NEW_BOOT);
    assert_in_range(now_ms, 9000, 9500);

    setup(state);
    profile.source = VR_HEALTH_SOURCE_POWER;
    guest.agent_from_ms = 9000;
    guest.boot_id = OLD_BOOT;
    assert_false(wait_for(&answer));

    setup(state);
    profile.source = VR_HEALTH_SOURCE_POWER;
    profile.timeout_ms = 12000; /* over before the agent's time is: what it answered counts */
    guest.agent = FALSE;
    assert_true(wait_for(&answer));
    assert_int_equal(now_ms, 13000);
    profile.timeout_ms = 60000;
}

static void test_power_of_old_boot(void **state) /* invariant 26 */
{
    g_auto(VrHealthAnswer) answer = {0};

    profile.source = VR_HEALTH_SOURCE_POWER;
    guest.boot_id = OLD_BOOT;
    assert_false(wait_for(&answer));
    assert_non_null(strstr(answer.text, "the boot before the swap"));
    guest.boot_id = NEW_BOOT;
    assert_true(wait_for(&answer));
    assert_string_equal(answer.boot_id, NEW_BOOT);
}

/* A survey looks again, as often as it is told to, at those that are not healthy. */
static void test_survey(void **state) /* E9 E13 */
{
    VrHealthSubject subjects[] = {{.uuid = "a"}};
    VrHealthAnswer answers[1] = {0};

    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    guest.healthy_from_ms = now_ms + 10000;
    vr_health_survey(&hv, &profile, subjects, 1, 5000, 2, NULL, answers);
    assert_int_equal(answers[0].state, VR_HEALTH_UNHEALTHY);
    assert_int_equal(now_ms, 6000);
    vr_health_survey(&hv, &profile, subjects, 1, 5000, 3, NULL, answers);
    assert_int_equal(answers[0].state, VR_HEALTH_HEALTHY);
    assert_int_equal(now_ms, 11000);
    guest.state = VR_DOMAIN_OFF;
    vr_health_survey(&hv, &profile, subjects, 1, 5000, 3, NULL, answers);
    assert_true(answers[0].off);
    assert_int_equal(now_ms, 11000); /* off is off */
    vr_health_survey(&hv, &profile, subjects, 0, 5000, 3, NULL, answers);
    vr_health_answer_clear(&answers[0]);
}

/* numberOfProbes times the interval may be long: a run that is cancelled does not wait for it. */
static void test_survey_called_off(void **state) /* G2 */
{
    VrHealthSubject subjects[] = {{.uuid = "a"}};
    VrHealthAnswer answers[1] = {0};

    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    guest.aborted_at_ms = now_ms + 7000;
    assert_false(vr_health_survey(&hv, &profile, subjects, 1, 5000, 24, &aborted, answers));
    assert_in_range(now_ms, guest.aborted_at_ms, guest.aborted_at_ms + 250);
    assert_int_equal(guest.looks, 2);
    vr_health_answer_clear(&answers[0]);
}

static const char *signal_of(const GPtrArray *signals, const char *name)
{
    for (guint i = 0; i < signals->len; i++) {
        const VrHealthSignal *signal = g_ptr_array_index(signals, i);
        assert_true(signal->at_us > 0);
        if (g_str_equal(signal->name, name))
            return signal->state;
    }
    return NULL;
}

static void test_signals(void **state) /* E12 */
{
    static const struct {
        const char *result, *status, *text;
    } rows[] = {
        {NULL, NULL, "not there"},
        {NULL, "{\"v1\": {\"stage\": \"modules-config\"}}", "running: modules-config"},
        {NULL, "{\"v1\": {\"stage\": null}}", "running"},
        {"{\"v1\": {\"datasource\": \"DataSourceNoCloud\", \"errors\": []}}", "{\"v1\": {}}", "done"},
        {"{\"v1\": {\"errors\": [\"no\\nnet\", \"x\"]}}", NULL, "done with 2 errors, the first: no?net"},
        {"{\"v1\": {\"errors\": [7]}}", NULL, "done with 1 error, the first: "},
        {"nonsense", NULL, "not there"},
    };
    g_autoptr(GPtrArray) alone = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        guest.result = rows[i].result;
        guest.status = rows[i].status;
        g_autoptr(GPtrArray) signals = vr_health_signals(&hv, "u", now_ms + 1000);
        assert_string_equal(signal_of(signals, "agent"), "answers");
        assert_string_equal(signal_of(signals, "bootId"), NEW_BOOT);
        assert_string_equal(signal_of(signals, "cloudInit"), rows[i].text);
    }
    guest.agent = FALSE;
    alone = vr_health_signals(&hv, "u", now_ms + 1000);
    assert_int_equal(alone->len, 1);
    assert_string_equal(signal_of(alone, "agent"), "does not answer: guest-ping: no agent");
}

static void test_probes_in_a_row(void **state)
{
    g_auto(VrHealthAnswer) answer = {0};

    profile.number_of_probes = 3;
    assert_true(wait_for(&answer));
    assert_int_equal(guest.looks, 3);
    assert_int_equal(now_ms, 1000 + 2 * 5000);
}

static void test_old_boot_is_no_proof(void **state) /* invariant 26 */
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.boot_id = OLD_BOOT;
    assert_false(wait_for(&answer));
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
}

static void test_gone(void **state)
{
    g_auto(VrHealthAnswer) answer = {0};

    guest.state = VR_DOMAIN_OFF;
    assert_false(wait_for(&answer));
    assert_int_equal(now_ms, 1000); /* no wait for a QEMU that is no more */
}

/* A health command that hangs does not keep the instance from being restored. */
static void test_aborted_while_it_hangs(void **state) /* G2 */
{
    VrHealthWait wait = {.subject = subject, .started_ms = now_ms, .aborted = &aborted};
    g_auto(VrHealthAnswer) answer = {0};

    profile.source = VR_HEALTH_SOURCE_AGENT_COMMAND;
    profile.command = (char *[]){(char *)"/usr/bin/healthy", NULL};
    guest.hangs = TRUE;
    guest.aborted_at_ms = now_ms + 7000;
    assert_false(vr_health_wait(&hv, &profile, &wait, &answer));
    assert_in_range(now_ms, guest.aborted_at_ms, guest.aborted_at_ms + 1000);
    assert_string_equal(answer.text, "the wait was ended");
    profile.command = NULL;
}

typedef struct {
    guint count;
    gint64 until_ms;
} Told;

static void take_told(const VrHealthAnswer *answer, gint64 until_ms, void *data)
{
    Told *told = data;

    told->count++;
    told->until_ms = until_ms;
    assert_int_equal(answer->state, VR_HEALTH_UNHEALTHY);
    assert_non_null(answer->text);
}

/* Who waits is told of each answer that does not end the wait, and until when it goes on. */
static void test_told(void **state) /* J8 */
{
    Told told = {0};
    VrHealthWait wait = {.subject = subject, .started_ms = now_ms, .told = take_told, .told_data = &told};
    g_auto(VrHealthAnswer) answer = {0};

    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    guest.healthy_from_ms = now_ms + 12000;
    assert_true(vr_health_wait(&hv, &profile, &wait, &answer));
    assert_int_equal(told.count, 3); /* at once, after 5 s and after 10 s */
    assert_int_equal(told.until_ms, wait.started_ms + profile.timeout_ms);
}

static void test_aborted(void **state)
{
    VrHealthWait wait = {.subject = subject, .started_ms = now_ms, .aborted = &aborted};
    g_auto(VrHealthAnswer) answer = {0};

    aborted = 1;
    assert_false(vr_health_wait(&hv, &profile, &wait, &answer));
    assert_int_equal(answer.state, VR_HEALTH_UNKNOWN);
}

/* A recovery an hour later: the time of the model is over. A guest that is healthy at the first look stays, whatever the number of probes; one that
 * is not is called late at once (SAFETY S12). */
static void test_late(void **state) /* B17 */
{
    VrHealthWait wait = {.subject = subject, .old_boot_id = OLD_BOOT};
    g_auto(VrHealthAnswer) answer = {0};

    for (guint probes = 1; probes <= 12; probes += 11) {
        now_ms += 3600 * 1000;
        wait.started_ms = now_ms - 1800 * 1000;
        profile.number_of_probes = probes;
        assert_true(vr_health_wait(&hv, &profile, &wait, &answer));
    }
    guest.body = "{\"ApplicationHealthState\": \"Unhealthy\"}";
    wait.started_ms = now_ms - 1800 * 1000;
    gint64 before_ms = now_ms;
    assert_false(vr_health_wait(&hv, &profile, &wait, &answer));
    assert_in_range(now_ms, before_ms, before_ms + 1000);
    wait.started_ms = now_ms - 45000; /* 15 s of the minute are left */
    before_ms = now_ms;
    assert_false(vr_health_wait(&hv, &profile, &wait, &answer));
    assert_in_range(now_ms, before_ms + 14000, before_ms + 21000);
}

static void test_power(void **state) /* E6: it must have run for an interval */
{
    g_auto(VrHealthAnswer) answer = {0};

    profile.source = VR_HEALTH_SOURCE_POWER;
    guest.agent = FALSE;
    assert_true(wait_for(&answer));
    assert_int_equal(now_ms, 6000 + 2 * 5000); /* and it had an agent, which gets two intervals more */
    guest.state = VR_DOMAIN_CRASHED;
    assert_false(wait_for(&answer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_bodies, setup),
        cmocka_unit_test_setup(test_command, setup),
        cmocka_unit_test_setup(test_wait_until_healthy, setup),
        cmocka_unit_test_setup(test_timeout, setup),
        cmocka_unit_test_setup(test_told, setup),
        cmocka_unit_test_setup(test_start_timeout, setup),
        cmocka_unit_test_setup(test_restarts_of_a_first_boot, setup),
        cmocka_unit_test_setup(test_libvirt_away, setup),
        cmocka_unit_test_setup(test_grace_period, setup),
        cmocka_unit_test_setup(test_crash_loop, setup),
        cmocka_unit_test_setup(test_crash_loop_in_the_guest, setup),
        cmocka_unit_test_setup(test_agent_comes_later, setup),
        cmocka_unit_test_setup(test_power_of_old_boot, setup),
        cmocka_unit_test_setup(test_survey, setup),
        cmocka_unit_test_setup(test_survey_called_off, setup),
        cmocka_unit_test_setup(test_signals, setup),
        cmocka_unit_test_setup(test_probes_in_a_row, setup),
        cmocka_unit_test_setup(test_old_boot_is_no_proof, setup),
        cmocka_unit_test_setup(test_gone, setup),
        cmocka_unit_test_setup(test_aborted, setup),
        cmocka_unit_test_setup(test_aborted_while_it_hangs, setup),
        cmocka_unit_test_setup(test_late, setup),
        cmocka_unit_test_setup(test_power, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
