/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stop, force and start over a guest that is a script: what it answers, and when it really goes off or on. */
#include "hv/support.h"

#include "hv/domain.h"

#define NEVER G_MAXINT64

typedef struct {
    VrHv hv;
    VrDomainState state;
    VrDomainReason off_reason;
    gint64 off_at, on_at;                                                /* when the state changes by itself */
    gint64 off_after_agent_ms;                                           /* -1: the agent's request does nothing */
    gint64 off_after_acpi_ms;                                            /* -1: ACPI does nothing */
    guint acpi_needed;                                                   /* requests until ACPI is heard */
    int agent_error, acpi_error, destroy_error, start_error, info_error; /* codes, 0: none */
    guint errors_left;                                                   /* of info, destroy and start, -1: for ever */
    gboolean works_despite_error;
    gboolean powers_off; /* as soon as it is started */
    guint agent_calls, acpi_calls, destroy_calls, start_calls;
} Script;

static Script *script_of(VrHv *hv)
{
    return (Script *)hv;
}

static void settle(Script *s)
{
    if (fake_now_ms >= s->off_at) {
        s->state = VR_DOMAIN_OFF;
        s->off_at = NEVER;
    }
    if (fake_now_ms >= s->on_at) {
        s->state = VR_DOMAIN_RUNNING;
        s->on_at = NEVER;
    }
}

static gboolean answer(Script *s, int code, GError **error)
{
    if (code == 0 || s->errors_left == 0)
        return TRUE;
    s->errors_left--;
    g_set_error(error, VR_ERROR, code, "scripted error");
    return FALSE;
}

static gboolean script_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    Script *s = script_of(hv);

    settle(s);
    if (!answer(s, s->info_error, error))
        return FALSE;
    *info = (VrDomainInfo){.state = s->state, .id = s->state == VR_DOMAIN_OFF ? -1 : 7};
    g_strlcpy(info->uuid, uuid, sizeof info->uuid);
    info->name = g_strdup("web-0");
    info->reason = s->state == VR_DOMAIN_OFF      ? s->off_reason
                   : s->state == VR_DOMAIN_PAUSED ? VR_REASON_STARTING
                                                  : VR_REASON_OTHER;
    return TRUE;
}

static void plan_off(Script *s, gint64 after_ms)
{
    if (after_ms >= 0)
        s->off_at = MIN(s->off_at, fake_now_ms + after_ms);
}

static gboolean script_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error)
{
    Script *s = script_of(hv);
    int code = mode == VR_SHUTDOWN_AGENT ? s->agent_error : s->acpi_error;

    settle(s);
    if (mode == VR_SHUTDOWN_AGENT)
        s->agent_calls++;
    else
        s->acpi_calls++;
    if (code == 0 || s->works_despite_error) {
        if (mode == VR_SHUTDOWN_AGENT)
            plan_off(s, s->off_after_agent_ms);
        else if (s->acpi_calls >= s->acpi_needed)
            plan_off(s, s->off_after_acpi_ms);
    }
    if (code == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, code, "scripted refusal");
    return FALSE;
}

static gboolean script_destroy(VrHv *hv, const char *uuid, GError **error)
{
    Script *s = script_of(hv);

    s->destroy_calls++;
    gboolean ok = answer(s, s->destroy_error, error);
    if (ok || s->works_despite_error) {
        s->off_reason = s->off_reason == VR_REASON_MIGRATED ? s->off_reason : VR_REASON_DESTROYED;
        s->state = VR_DOMAIN_OFF;
    }
    return ok;
}

static gboolean script_start(VrHv *hv, const char *uuid, GError **error)
{
    Script *s = script_of(hv);

    s->start_calls++;
    gboolean ok = answer(s, s->start_error, error);
    if ((ok && s->on_at == NEVER) || s->works_despite_error)
        s->state = s->powers_off ? VR_DOMAIN_STOPPING : VR_DOMAIN_RUNNING;
    return ok;
}

static void script_wait(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    Script *s = script_of(hv);

    fake_now_ms = MAX(fake_now_ms, MIN(deadline_ms, MIN(s->off_at, s->on_at)));
}

static const VrHvOps script_ops = {.info = script_info,
                                   .shutdown = script_shutdown,
                                   .destroy = script_destroy,
                                   .start = script_start,
                                   .wait_change = script_wait};

static Script running_guest(void)
{
    return (Script){.hv = {&script_ops},
                    .state = VR_DOMAIN_RUNNING,
                    .off_reason = VR_REASON_SHUTDOWN,
                    .off_at = NEVER,
                    .on_at = NEVER,
                    .off_after_agent_ms = -1,
                    .off_after_acpi_ms = -1,
                    .errors_left = G_MAXUINT};
}

static Script off_guest(void)
{
    Script s = running_guest();

    s.state = VR_DOMAIN_OFF;
    return s;
}

static const VrStopPolicy polite = {VR_STOP_AUTO, 60000, FALSE}, strict = {VR_STOP_AUTO, 60000, TRUE};

/* -- Stop ----------------------------------------------------------------------------------------- */

static void agent_stops_it(void **state)
{
    g_autoptr(GError) error = NULL;
    Script s = running_guest();
    VrStopResult result;

    s.off_after_agent_ms = 3000;
    assert_true(vr_domain_stop(&s.hv, UUID, NULL, &strict, &result, &error));
    assert_false(result.forced);
    assert_int_equal(result.reason, VR_REASON_SHUTDOWN);
    assert_int_equal(fake_now_ms, 1000 + 3000);
    assert_int_equal(s.agent_calls, 1);
    assert_int_equal(s.acpi_calls, 0);
}

static void off_already_is_success(void **state)
{
    Script s = off_guest();

    assert_true(vr_domain_stop(&s.hv, UUID, NULL, &strict, NULL, NULL));
    assert_true(vr_domain_force_off(&s.hv, UUID, NULL, NULL));
    assert_int_equal(s.agent_calls + s.acpi_calls, 0);
}

static void acpi_when_there_is_no_agent(void **state)
{
    Script s = running_guest();

    s.agent_error = VR_ERROR_AGENT;
    s.off_after_acpi_ms = 2000;
    assert_true(vr_domain_stop(&s.hv, UUID, NULL, &polite, NULL, NULL));
    assert_int_equal(fake_now_ms, 1000 + 2000);
    assert_int_equal(s.agent_calls, 1);
    assert_int_equal(s.acpi_calls, 1);
}

static void acpi_after_half_of_the_time(void **state)
{
    Script s = running_guest();

    s.off_after_acpi_ms = 1000;
    assert_true(vr_domain_stop(&s.hv, UUID, NULL, &polite, NULL, NULL));
    assert_int_equal(fake_now_ms, 1000 + 30000 + 1000);
    assert_int_equal(s.agent_calls, 1);
}

static void acpi_is_repeated(void **state)
{
    const VrStopPolicy acpi = {VR_STOP_ACPI, 60000, FALSE};
    Script s = running_guest();

    s.off_after_acpi_ms = 500;
    s.acpi_needed = 3;
    assert_true(vr_domain_stop(&s.hv, UUID, NULL, &acpi, NULL, NULL));
    assert_int_equal(fake_now_ms, 1000 + 20000 + 500);
    assert_int_equal(s.agent_calls, 0);
}

/* The guest may be off before the agent could answer. */
static void error_of_a_request_that_worked(void **state)
{
    static const int codes[] = {VR_ERROR_HYPERVISOR, VR_ERROR_DISCONNECTED, VR_ERROR_AGENT};

    for (gsize i = 0; i < G_N_ELEMENTS(codes); i++) {
        Script s = running_guest();
        s.agent_error = codes[i];
        s.works_despite_error = TRUE;
        s.off_after_agent_ms = 0;
        assert_true(vr_domain_stop(&s.hv, UUID, NULL, &polite, NULL, NULL));
        assert_int_equal(s.agent_calls, 1);
        assert_int_equal(s.destroy_calls, 0);
    }
}

static void deadline_gives_up_or_forces(void **state)
{
    g_autoptr(GError) error = NULL;
    VrStopResult result;
    Script s = running_guest();

    s.acpi_error = VR_ERROR_HYPERVISOR;
    assert_false(vr_domain_stop(&s.hv, UUID, NULL, &polite, &result, &error));
    assert_non_null(strstr(error->message, "scripted refusal"));
    expect_error(&error, VR_ERROR_TIMEOUT, "did not stop within");
    assert_int_equal(fake_now_ms, 1000 + 60000);
    assert_int_equal(s.destroy_calls, 0);
    assert_int_equal(s.state, VR_DOMAIN_RUNNING);
    assert_true(vr_domain_stop(&s.hv, UUID, NULL, &strict, &result, &error));
    assert_true(result.forced);
    assert_int_equal(result.reason, VR_REASON_DESTROYED);
    assert_int_equal(s.destroy_calls, 1);
}

/* As often as that it may; then somebody else has the set. */
static gboolean may_so_often(void *data, GError **error)
{
    guint *left = data;

    if ((*left)-- > 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_FENCED, "another owner");
    return FALSE;
}

/* Each request is asked for, the repeated ones too, and none is sent that may not be. */
static void no_request_without_leave(void **state)
{
    for (guint allowed = 0; allowed < 3; allowed++) {
        g_autoptr(GError) error = NULL;
        const VrStopPolicy acpi = {VR_STOP_ACPI, 60000, TRUE};
        guint left = allowed;
        const VrDomainMay may = {.ask = may_so_often, .data = &left};
        Script deaf = running_guest(), stuck = running_guest(), slow = off_guest();

        assert_false(vr_domain_stop(&deaf.hv, UUID, &may, &acpi, NULL, &error));
        expect_error(&error, VR_ERROR_FENCED, "another owner");
        assert_int_equal(deaf.acpi_calls, allowed);
        assert_int_equal(deaf.destroy_calls, 0);
        left = allowed;
        stuck.destroy_error = VR_ERROR_HYPERVISOR;
        assert_false(vr_domain_force_off(&stuck.hv, UUID, &may, &error));
        expect_error(&error, VR_ERROR_FENCED, "another owner");
        assert_int_equal(stuck.destroy_calls, allowed);
        left = allowed;
        slow.start_error = VR_ERROR_DISCONNECTED;
        assert_false(vr_domain_start(&slow.hv, UUID, &may, NULL, &error));
        expect_error(&error, VR_ERROR_FENCED, "another owner");
        assert_int_equal(slow.start_calls, allowed);
    }
}

static void migrated_needs_a_person(void **state)
{
    g_autoptr(GError) error = NULL;
    Script s = off_guest();

    s.off_reason = VR_REASON_MIGRATED;
    assert_false(vr_domain_stop(&s.hv, UUID, NULL, &strict, NULL, &error));
    expect_error(&error, VR_ERROR_PERSON, "migrated");
    s.state = VR_DOMAIN_RUNNING;
    s.off_after_agent_ms = 100;
    assert_false(vr_domain_stop(&s.hv, UUID, NULL, &strict, NULL, &error));
    expect_error(&error, VR_ERROR_PERSON, "migrated");
    assert_false(vr_domain_force_off(&s.hv, UUID, NULL, &error));
    expect_error(&error, VR_ERROR_PERSON, "migrated");
}

static void a_domain_that_is_gone_ends_it(void **state)
{
    g_autoptr(GError) error = NULL;
    Script s = running_guest();

    s.info_error = VR_ERROR_NOT_FOUND;
    assert_false(vr_domain_stop(&s.hv, UUID, NULL, &strict, NULL, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "scripted");
    assert_false(vr_domain_start(&s.hv, UUID, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "scripted");
}

static void libvirt_away_for_a_while(void **state)
{
    Script s = running_guest();

    s.info_error = VR_ERROR_DISCONNECTED;
    s.errors_left = 20;
    s.off_after_agent_ms = 2000;
    assert_true(vr_domain_stop(&s.hv, UUID, NULL, &polite, NULL, NULL));
}

static void libvirt_away_for_ever(void **state)
{
    g_autoptr(GError) error = NULL;
    Script s = running_guest();

    s.info_error = s.agent_error = s.destroy_error = VR_ERROR_DISCONNECTED;
    assert_false(vr_domain_stop(&s.hv, UUID, NULL, &strict, NULL, &error));
    expect_error(&error, VR_ERROR_DISCONNECTED, "scripted");
    assert_in_range(fake_now_ms, 1000 + 60000, 1000 + 60000 + 35000);
}

static void destroy_is_tried_again(void **state)
{
    g_autoptr(GError) error = NULL;
    Script s = running_guest();

    s.destroy_error = VR_ERROR_HYPERVISOR;
    s.errors_left = 3;
    assert_true(vr_domain_force_off(&s.hv, UUID, NULL, &error));
    assert_int_equal(s.destroy_calls, 4);
    Script stuck = running_guest();
    stuck.destroy_error = VR_ERROR_HYPERVISOR;
    assert_false(vr_domain_force_off(&stuck.hv, UUID, NULL, &error));
    expect_error(&error, VR_ERROR_HYPERVISOR, "scripted");
}

/* -- Start ---------------------------------------------------------------------------------------- */

static void starts(void **state)
{
    g_auto(VrDomainInfo) info = {0};
    Script s = off_guest();

    assert_true(vr_domain_start(&s.hv, UUID, NULL, &info, NULL));
    assert_int_equal(info.id, 7);
    assert_int_equal(s.start_calls, 1);
}

static void a_refusal_is_an_error_unless_it_runs(void **state)
{
    static const int codes[] = {VR_ERROR_HYPERVISOR, VR_ERROR_REFUSED};

    for (gsize i = 0; i < G_N_ELEMENTS(codes); i++) {
        g_autoptr(GError) error = NULL;
        Script s = off_guest();
        s.start_error = codes[i];
        assert_false(vr_domain_start(&s.hv, UUID, NULL, NULL, &error));
        expect_error(&error, codes[i], "scripted");
        s.state = VR_DOMAIN_RUNNING;
        assert_true(vr_domain_start(&s.hv, UUID, NULL, NULL, &error));
    }
}

static void an_unknown_start_is_read_back_and_asked_again(void **state)
{
    Script worked = off_guest();

    worked.start_error = VR_ERROR_DISCONNECTED;
    worked.works_despite_error = TRUE;
    assert_true(vr_domain_start(&worked.hv, UUID, NULL, NULL, NULL));
    assert_int_equal(worked.start_calls, 1);
    Script lost = off_guest();
    lost.start_error = VR_ERROR_DISCONNECTED;
    lost.errors_left = 2;
    assert_true(vr_domain_start(&lost.hv, UUID, NULL, NULL, NULL));
    assert_int_equal(lost.start_calls, 3);
}

static void off_at_once_was_started(void **state)
{
    g_auto(VrDomainInfo) info = {0};
    Script s = off_guest();

    s.on_at = NEVER - 1;
    assert_true(vr_domain_start(&s.hv, UUID, NULL, &info, NULL));
    assert_int_equal(info.state, VR_DOMAIN_OFF);
    assert_int_equal(s.start_calls, 1);
}

static void one_that_powers_off_at_once_is_not_started_twice(void **state)
{
    g_auto(VrDomainInfo) info = {0};
    Script s = off_guest();

    s.powers_off = TRUE;
    assert_true(vr_domain_start(&s.hv, UUID, NULL, &info, NULL));
    assert_int_equal(info.state, VR_DOMAIN_STOPPING);
    assert_int_equal(s.start_calls, 1);
}

static void start_has_a_deadline(void **state)
{
    g_autoptr(GError) error = NULL;
    Script s = off_guest();

    s.start_error = VR_ERROR_DISCONNECTED;
    assert_false(vr_domain_start(&s.hv, UUID, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_TIMEOUT, "shut off");
    assert_in_range(fake_now_ms, 61000, 64000);
}

/* Whoever asked for it: it is not asked for once more. */
static void a_start_that_is_under_way_is_awaited(void **state)
{
    Script s = off_guest();

    s.state = VR_DOMAIN_PAUSED;
    s.on_at = 5000;
    assert_true(vr_domain_await_start(&s.hv, UUID, NULL));
    assert_in_range(fake_now_ms, 5000, 6000);
    assert_int_equal(s.start_calls, 0);
    assert_true(vr_domain_start(&s.hv, UUID, NULL, NULL, NULL));
}

static void a_start_that_hangs_needs_a_person(void **state)
{
    g_autoptr(GError) error = NULL;
    Script s = off_guest();

    s.state = VR_DOMAIN_PAUSED;
    assert_false(vr_domain_start(&s.hv, UUID, NULL, NULL, &error));
    expect_error(&error, VR_ERROR_PERSON, "'rm /run/libvirt/qemu/web-0.xml'");
    assert_int_equal(s.start_calls, 0);
    assert_in_range(fake_now_ms, 60000, 62000);
    s.destroy_error = VR_ERROR_HYPERVISOR;
    s.errors_left = G_MAXUINT;
    assert_false(vr_domain_force_off(&s.hv, UUID, NULL, &error));
    expect_error(&error, VR_ERROR_PERSON, "'rm /run/libvirt/qemu/web-0.xml'");
}

static void wait_tells_the_last_state(void **state)
{
    g_autoptr(GError) error = NULL;
    g_auto(VrDomainInfo) info = {0};
    Script s = running_guest();

    assert_false(vr_domain_wait_state(&s.hv, UUID, VR_DOMAIN_OFF, fake_now_ms + 5000, &info, &error));
    expect_error(&error, VR_ERROR_TIMEOUT, "web-0 is running");
    assert_int_equal(info.state, VR_DOMAIN_RUNNING);
    assert_int_equal(fake_now_ms, 6000);
}

#define clock_test(f) cmocka_unit_test_setup_teardown(f, use_fake_clock, use_real_clock)

int main(void)
{
    const struct CMUnitTest tests[] = {
        clock_test(agent_stops_it),
        clock_test(off_already_is_success),
        clock_test(acpi_when_there_is_no_agent),
        clock_test(acpi_after_half_of_the_time),
        clock_test(acpi_is_repeated),
        clock_test(error_of_a_request_that_worked),
        clock_test(deadline_gives_up_or_forces),
        clock_test(no_request_without_leave),
        clock_test(migrated_needs_a_person),
        clock_test(a_domain_that_is_gone_ends_it),
        clock_test(libvirt_away_for_a_while),
        clock_test(libvirt_away_for_ever),
        clock_test(destroy_is_tried_again),
        clock_test(starts),
        clock_test(a_refusal_is_an_error_unless_it_runs),
        clock_test(an_unknown_start_is_read_back_and_asked_again),
        clock_test(off_at_once_was_started),
        clock_test(one_that_powers_off_at_once_is_not_started_twice),
        clock_test(start_has_a_deadline),
        clock_test(a_start_that_is_under_way_is_awaited),
        clock_test(a_start_that_hangs_needs_a_person),
        clock_test(wait_tells_the_last_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
