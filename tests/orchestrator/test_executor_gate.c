/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The executor and the gate of a model, as real programs: the real engine and journal over the scripted hypervisor. Rows E11, L5. */
#include "engine/support.h"

#include "base/error.h"
#include "orchestrator/executor.h"
#include "orchestrator/shop.h"

#include <glib/gstdio.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char model_text[] = "schemaVersion: 1\nname: shop\nimageReference: {name: os}\n"
                                 "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT1S, force: true}\n"
                                 "instances:\n- {domain: fake, role: web, zone: a}\n";

typedef struct {
    World *world;
    VrSet *set;
    VrRunTarget target;
} Stage;

static Stage *stage_new(void)
{
    Stage *stage = g_new0(Stage, 1);
    World *world = stage->world = world_new(TRUE);

    stage->set = shop_define(world, model_text);
    stage->set->model->health.timeout_ms = 300;
    return stage;
}

static void stage_free(Stage *stage)
{
    vr_set_free(stage->set);
    world_free(stage->world);
    g_free(stage);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

/* argv of a script that notes `word` and its arguments in `log` and what it reads in `word`, and does `then`. */
static char **script(Stage *stage, const char *word, const char *then)
{
    g_autofree char *text = g_strdup_printf("#!/bin/sh\ncd '%s'\necho %s \"$@\" >> log\ncat > %s.json\n%s\n",
                                            stage->world->top, word, word, then);
    g_autofree char *path = g_build_filename(stage->world->top, word, NULL);
    char **argv = g_new0(char *, 2);

    assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_int_equal(g_chmod(path, 0700), 0);
    argv[0] = g_steal_pointer(&path);
    return argv;
}

static gboolean upgrade(Stage *stage, VrRun **run, GError **error)
{
    VrRunRequest request = {.kind = VR_RUN_UPGRADE,
                            .set = stage->set,
                            .image = stage->world->image,
                            .targets = &stage->target,
                            .automatic_rollback = TRUE};
    g_autoptr(VrExecutor) executor = NULL;

    stage->target.chosen = TRUE;
    executor = vr_executor_new(&stage->world->engine, &request);
    return vr_executor_run(executor, run, error);
}

static char *read_back(Stage *stage, const char *name)
{
    g_autofree char *path = g_build_filename(stage->world->top, name, NULL);
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

/* What it was told, but for the phase of the one instance, which is given back; free with g_free. */
static char *expect_told(Stage *stage, const char *word, const VrRun *run)
{
    g_autofree char *name = g_strconcat(word, ".json", NULL), *text = read_back(stage, name);
    json_auto_t *told = json_loads(text, 0, NULL);
    const char *set, *run_id, *kind, *version, *domain, *uuid, *role, *zone, *phase;
    int batch, domain_number, of_instance;

    assert_int_equal(json_unpack(told, "{s:s, s:s, s:s, s:i, s:i, s:s, s:[{s:s, s:s, s:i, s:s, s:s, s:s}]}", "set",
                                 &set, "runId", &run_id, "kind", &kind, "batch", &batch, "upgradeDomain",
                                 &domain_number, "version", &version, "instances", "domain", &domain, "uuid", &uuid,
                                 "upgradeDomain", &of_instance, "role", &role, "zone", &zone, "phase", &phase),
                     0);
    assert_string_equal(set, "shop");
    assert_string_equal(run_id, run->id);
    assert_string_equal(kind, "upgrade");
    assert_string_equal(version, run->version);
    assert_int_equal(batch, 1);
    assert_int_equal(domain_number, 0);
    assert_string_equal(domain, "fake");
    assert_string_equal(uuid, FAKE_UUID);
    assert_string_equal(role, "web");
    assert_string_equal(zone, "a");
    return g_strdup(phase);
}

static void expect_log(Stage *stage, const VrRun *run, const char *const *words)
{
    g_autoptr(GString) expected = g_string_new(NULL);
    g_autofree char *log = read_back(stage, "log");

    for (; *words; words++)
        g_string_append_printf(expected, "%s shop %s 1\n", *words, run->id);
    assert_string_equal(log, expected->str);
}

static void expect_untouched(Stage *stage)
{
    assert_int_equal(stage->world->fake->shutdowns, 0);
    assert_int_equal(stage->world->fake->defines, 0);
    assert_int_equal(fake_hv_state(stage->world->fake), VR_DOMAIN_RUNNING);
}

static void test_lets_go(void **state) /* E11 L5 */
{
    static const char *const words[] = {"gate", "after", NULL};
    g_autoptr(Stage) stage = stage_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(VrRun) run = NULL;
    g_autofree char *before = NULL, *after = NULL;

    stage->set->model->policy.gate = script(stage, "gate", "exit 0");
    stage->set->model->policy.gate_after = script(stage, "after", "exit 0");
    assert_true(upgrade(stage, &run, &error));
    before = expect_told(stage, "gate", run);
    after = expect_told(stage, "after", run);
    assert_string_equal(before, "pending");
    assert_string_equal(after, "committed");
    expect_log(stage, run, words);
    assert_int_equal(world_current(stage->world), 1);
}

/* Its last words are the reason; what it has drained by then is let in again. */
static void test_refuses(void **state) /* E11 L5 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(VrRun) run = NULL;
    g_autofree char *after = NULL, *log = NULL;
    g_auto(GStrv) parts = NULL;

    stage->set->model->policy.gate =
        script(stage, "gate", "echo evicting; echo first >&2; printf 'quorum \\033[1m would be lost\\n' >&2; exit 3");
    stage->set->model->policy.gate_after = script(stage, "after", "exit 0");
    assert_false(upgrade(stage, &run, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_POLICY));
    assert_non_null(strstr(error->message, "ended with status 3: quorum "));
    assert_non_null(strstr(error->message, " would be lost"));
    assert_null(strstr(error->message, "first"));
    assert_null(strchr(error->message, '\033'));
    after = expect_told(stage, "after", run);
    assert_string_equal(after, "pending");
    log = read_back(stage, "log");
    assert_true(g_str_has_suffix(log, " 1\n"));
    parts = g_strsplit(log, "after shop", -1);
    assert_int_equal(g_strv_length(parts), 2); /* once */
    expect_untouched(stage);
}

static void test_does_not_end(void **state) /* L5 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autoptr(GError) error = NULL;
    gint64 began_us = g_get_monotonic_time();

    stage->set->model->policy.gate = script(stage, "gate", "sleep 60");
    stage->set->model->policy.gate_timeout_ms = 200;
    assert_false(upgrade(stage, NULL, &error));
    assert_non_null(strstr(error->message, "did not end in time"));
    assert_true(g_get_monotonic_time() - began_us < 40 * G_USEC_PER_SEC);
    expect_untouched(stage);
}

/* A counterpart that fails changes nothing about the run. */
static void test_after_fails(void **state) /* L5 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autoptr(GError) error = NULL;

    stage->set->model->policy.gate = script(stage, "gate", "exit 0");
    stage->set->model->policy.gate_after = script(stage, "after", "exit 1");
    assert_true(upgrade(stage, NULL, &error));
    assert_int_equal(world_current(stage->world), 1);
    world_check(stage->world, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lets_go),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_does_not_end),
        cmocka_unit_test(test_after_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
