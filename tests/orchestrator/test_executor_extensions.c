/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Extensions in a run and in a recovery (C3, C4, E6): the scripted hypervisor, with an agent that runs what it is asked to on this host. */
#include "engine/support.h"

#include "base/error.h"
#include "orchestrator/executor.h"
#include "orchestrator/extension_swap.h"
#include "orchestrator/host_agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define CHANNEL                                                                                                        \
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>"

typedef struct {
    World *world;
    VrSet *set;
    VrExtensions *extensions;
    HostAgent *agent;
    char *run_dir;
} Stage;

static Stage *stage; /* one at a time: the agent is asked by way of the scripted hypervisor */

/* The boot id tells the disk that the guest runs from. */
static char *answer(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    g_autofree char *path = NULL;
    char *text;

    pthread_mutex_lock(&lock);
    path = fake_hv_os_path(stage->world->fake, TRUE);
    stage->agent->off = path == NULL;
    stage->agent->boot_id =
        path && strstr(path, "/g1.") ? "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb" : "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
    text = host_agent_answer(stage->agent, command, error);
    pthread_mutex_unlock(&lock);
    return text;
}

static void use_agent(World *world)
{
    static VrHvOps ops;

    ops = *world->fake->hv.ops;
    ops.agent = answer;
    world->fake->hv.ops = &ops;
}

static char *script(const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(stage->world->top, name, NULL);
    g_autofree char *here = g_strdup_printf("cd %s\necho %s >>ran\n%s\n", stage->world->top, name, text);

    assert_true(g_file_set_contents(path, here, -1, NULL));
    return g_strdup_printf("  - {name: %s, script: %s", name, path);
}

static void define(const char *first, const char *second)
{
    World *world = stage->world;
    g_autofree char *base = script("base", first), *app = script("app", second);
    g_autofree char *text =
        g_strdup_printf("schemaVersion: 1\nname: shop\nimageReference: {name: os}\nosDisk: {target: vda}\n"
                        "stop: {method: acpi, timeout: PT1S, force: true}\nextensionProfile:\n  extensions:\n%s}\n%s, "
                        "provisionAfterExtensions: [base]}\ninstances:\n- {domain: fake}\n",
                        base, app);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrModel) model = vr_model_parse(text, strlen(text), "shop.yaml", &error);

    assert_string_equal(error ? error->message : "", "");
    assert_true(vr_registry_define(world->journal, world->owner, &world->fake->hv, model, text, "shop.yaml", NULL));
    stage->set = vr_registry_get(vr_journal_db(world->journal), "shop", NULL);
    stage->set->model->health.interval_ms = 20; /* below what a model may say, so that the test is quick */
    stage->set->model->health.timeout_ms = 2000;
    stage->extensions = vr_extensions_load(stage->set->model, NULL);
    assert_non_null(stage->extensions);
}

static int make_stage(void **state)
{
    stage = g_new0(Stage, 1);
    stage->world = world_new(TRUE);
    fake_hv_edit(stage->world->fake, "</devices></domain>", CHANNEL);
    use_agent(stage->world);
    stage->run_dir = g_build_filename(stage->world->top, "run", NULL);
    stage->agent = host_agent_new(stage->run_dir);
    return vr_registry_init(vr_journal_db(stage->world->journal), NULL) ? 0 : -1;
}

static int free_stage(void **state)
{
    host_agent_free(stage->agent);
    vr_extensions_free(stage->extensions);
    vr_set_free(stage->set);
    world_free(stage->world);
    g_free(stage->run_dir);
    g_free(stage);
    return 0;
}

static gboolean run(int to_generation, gboolean automatic_rollback, VrRun **run, GError **error)
{
    VrRunTarget target = {.chosen = TRUE, .to_generation = to_generation < 0 ? 0 : (guint)to_generation};
    VrRunRequest request = {.kind = to_generation < 0 ? VR_RUN_UPGRADE : VR_RUN_ROLLBACK,
                            .set = stage->set,
                            .image = to_generation < 0 ? stage->world->image : NULL,
                            .targets = &target,
                            .extensions = stage->extensions,
                            .automatic_rollback = automatic_rollback};
    g_autoptr(VrExecutor) executor = vr_executor_new(&stage->world->engine, &request);

    return vr_executor_run(executor, run, error);
}

static void ran(const char *expected)
{
    g_autofree char *path = g_build_filename(stage->world->top, "ran", NULL);
    g_autofree char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    assert_string_equal(text ? text : "", expected);
}

/* "base Succeeded, app Failed" of generation 1 */
static void results(const char *expected)
{
    g_autoptr(GPtrArray) all = vr_extension_results_read(stage->world->journal, FAKE_UUID, 1, NULL);
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < all->len; i++) {
        const VrExtensionResult *result = all->pdata[i];
        g_string_append_printf(text, "%s%s %s", i > 0 ? ", " : "", result->name,
                               vr_extension_status_name(result->status));
    }
    assert_string_equal(text->str, expected);
}

static void test_run(void **state) /* C3 C4 */
{
    g_autoptr(GError) error = NULL;

    define("true", "true");
    run(-1, TRUE, NULL, &error);
    assert_string_equal(error ? error->message : "", "");
    assert_int_equal(world_current(stage->world), 1);
    results("base Succeeded, app Succeeded");
    ran("base\napp\n");
    assert_true(run(0, TRUE, NULL, &error)); /* the way back runs none: that disk has what it had */
    ran("base\napp\n");
    world_check(stage->world, TRUE);
}

/* E6: the guest is restored, what needs the one that failed is skipped, and the reason says which and why. */
static void test_failure_goes_back(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrRun) done = NULL;
    const VrRunInstance *instance;

    define("echo the token has expired; exit 22", "true");
    assert_false(run(-1, TRUE, &done, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_POLICY));
    instance = g_ptr_array_index(done->instances, 0);
    assert_int_equal(instance->phase, VR_PHASE_RESTORED);
    assert_string_equal(instance->reason, "extension base ended with status 22: the token has expired");
    results("base Failed, app Skipped");
    ran("base\n");
    assert_int_equal(world_current(stage->world), 0);
    world_check(stage->world, TRUE);
}

/* E6: left on its new disk it runs, and is not healthy. */
static void test_left_is_unhealthy(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrRun) done = NULL;
    VrHealthProfile power = {0}, other = {.source = VR_HEALTH_SOURCE_HTTP};
    g_auto(VrHealthAnswer) answer = {.state = VR_HEALTH_HEALTHY};

    define("exit 1", "true");
    assert_false(run(-1, FALSE, &done, &error));
    g_clear_error(&error);
    assert_int_equal(((VrRunInstance *)done->instances->pdata[0])->phase, VR_PHASE_FAILED);
    assert_int_equal(fake_hv_state(stage->world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(world_current(stage->world), 1);
    vr_extensions_judge(stage->world->journal, &other, FAKE_UUID, &answer);
    assert_int_equal(answer.state, VR_HEALTH_HEALTHY); /* who can ask the application asks that */
    vr_extensions_judge(stage->world->journal, &power, FAKE_UUID, &answer);
    assert_int_equal(answer.state, VR_HEALTH_UNHEALTHY);
    assert_string_equal(answer.text, "extension base ended with status 1");
    assert_true(run(0, TRUE, NULL, &error));
    vr_health_answer_clear(&answer);
    answer.state = VR_HEALTH_HEALTHY;
    vr_extensions_judge(stage->world->journal, &power, FAKE_UUID, &answer);
    assert_int_equal(answer.state, VR_HEALTH_HEALTHY);
}

static void test_guest_that_is_off(void **state)
{
    g_autoptr(GError) error = NULL;

    define("true", "true");
    fake_hv_set_state(stage->world->fake, VR_DOMAIN_OFF);
    run(-1, TRUE, NULL, &error);
    assert_string_equal(error ? error->message : "", "");
    assert_int_equal(world_current(stage->world), 1);
    ran("");
    results("");
}

/* --- recovery ------------------------------------------------------------------------------------------ */

static void recover(int code, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) told = NULL;
    gboolean good = vr_recover_set(&stage->world->engine, stage->set, FALSE, &told, &error);

    if (good != (code < 0) || (error && error->code != code))
        fail_msg("%s", error ? error->message : "no error");
    assert_int_equal(told->len, 1);
    if (!strstr(told->pdata[0], expected))
        fail_msg("\"%s\" instead of \"%s\"", (const char *)told->pdata[0], expected);
}

static void record(const char *name, guint position, VrExtensionStatus status)
{
    VrExtensionResult result = {.name = (char *)name, .status = status, .text = (char *)"succeeded", .started_us = 1};

    assert_true(
        vr_extension_result_write(stage->world->journal, stage->world->owner, FAKE_UUID, 1, position, &result, NULL));
}

/* What the process that ended had done is done; the rest runs now. */
static void test_recovery_goes_on(void **state)
{
    define("true", "true");
    vr_swap_free(world_reach(stage->world, VR_SWAP_STARTED));
    record("base", 0, VR_EXTENSION_SUCCEEDED);
    record("app", 1, VR_EXTENSION_TRANSITIONING);
    recover(-1, "healthy: committed");
    ran("app\n");
    results("base Succeeded, app Succeeded");
    assert_int_equal(world_current(stage->world), 1);
    world_check(stage->world, TRUE);
}

static void test_recovery_of_one_that_fails(void **state)
{
    define("true", "exit 9");
    vr_swap_free(world_reach(stage->world, VR_SWAP_STARTED));
    recover(-1, "extension app ended with status 9: put back on generation 0");
    ran("base\napp\n");
    assert_int_equal(world_current(stage->world), 0);
    world_check(stage->world, TRUE);
}

/* Nobody can say whether the guest is good: it runs on, until its extensions can run. */
static void test_recovery_without_the_script(void **state)
{
    g_autofree char *path = g_build_filename(stage->world->top, "app", NULL);
    g_autofree char *away = g_build_filename(stage->world->top, "away", NULL);

    define("true", "true");
    vr_swap_free(world_reach(stage->world, VR_SWAP_STARTED));
    assert_int_equal(rename(path, away), 0);
    recover(VR_ERROR_PERSON, "but its extensions cannot be run: extension app: ");
    assert_int_equal(fake_hv_state(stage->world->fake), VR_DOMAIN_RUNNING);
    ran("");
    assert_int_equal(rename(away, path), 0);
    recover(-1, "healthy: committed");
    ran("base\napp\n");
    world_check(stage->world, TRUE);
}

#define stage_test(f) cmocka_unit_test_setup_teardown(f, make_stage, free_stage)

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(test_run),
        stage_test(test_failure_goes_back),
        stage_test(test_left_is_unhealthy),
        stage_test(test_guest_that_is_off),
        stage_test(test_recovery_goes_on),
        stage_test(test_recovery_of_one_that_fails),
        stage_test(test_recovery_without_the_script),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
