/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The executor and the notice of a guest: the real engine, journal and threads over the scripted hypervisor, whose guest has a scripted agent. Rows H7, H8,
 * G2, G3, B17.
 */
#include "engine/support.h"
#include "orchestrator/scripted_agent.h"

#include "base/error.h"
#include "orchestrator/executor.h"
#include "orchestrator/shop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_PATH "/run/virt-reimage-notice.json"

static const char model_text[] =
    "schemaVersion: 1\nname: shop\nimageReference: {name: os}\n"
    "scheduledEventsProfile: {osImageNotificationProfile: {enable: true, busyFile: /run/busy}}\n"
    "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT1S, force: true}\ninstances:\n- {domain: fake}\n";

typedef struct {
    World *world;
    VrSet *set;
    ScriptedAgent *agent;
    VrRunTarget target;
    VrExecutor *executor;
    GThread *thread;
    GError *error;
    VrRun *run;
    gboolean ok;
    gint waits; /* atomic; notes of what it waits for */
    char *last; /* of them */
} Stage;

static void told(const VrProgress *progress, void *data)
{
    Stage *stage = data;

    if (progress->kind != VR_PROGRESS_INSTANCE || progress->instance->phase != VR_PHASE_NOTICE || !progress->text)
        return;
    g_free(stage->last);
    stage->last = g_strdup(progress->text);
    g_atomic_int_inc(&stage->waits);
}

static Stage *stage_in(World *world)
{
    Stage *stage = g_new0(Stage, 1);

    stage->world = world;
    stage->agent = scripted_agent_new();
    world->fake->agent = scripted_agent_answer;
    world->fake->agent_data = stage->agent;
    stage->set = shop_define(world, model_text);
    stage->set->model->notice.not_before_ms = 300;
    stage->set->model->notice.busy_limit_ms = 600;
    return stage;
}

static Stage *stage_new(void)
{
    return stage_in(world_new(TRUE));
}

static void stage_free(Stage *stage)
{
    vr_set_free(stage->set);
    scripted_agent_free(stage->agent);
    world_free(stage->world);
    vr_run_free(stage->run);
    g_clear_error(&stage->error);
    g_free(stage->last);
    g_free(stage);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

static gpointer run_it(gpointer data)
{
    Stage *stage = data;

    stage->ok = vr_executor_run(stage->executor, &stage->run, &stage->error);
    return NULL;
}

static void begin(Stage *stage, gboolean detached)
{
    VrRunRequest request = {.kind = VR_RUN_UPGRADE,
                            .set = stage->set,
                            .image = stage->world->image,
                            .targets = &stage->target,
                            .automatic_rollback = TRUE,
                            .detached = detached,
                            .progress = told,
                            .progress_data = stage};

    stage->target.chosen = TRUE;
    stage->executor = vr_executor_new(&stage->world->engine, &request);
    stage->thread = g_thread_new("run", run_it, stage);
}

static void end(Stage *stage)
{
    g_thread_join(stage->thread);
    vr_executor_free(g_steal_pointer(&stage->executor));
}

static void wait_for_notes(Stage *stage, gint count)
{
    while (g_atomic_int_get(&stage->waits) < count)
        g_usleep(1000);
}

static char *notice_field(Stage *stage, const char *name)
{
    g_autofree char *text = scripted_agent_file(stage->agent, FILE_PATH);
    json_t *root = text ? json_loads(text, 0, NULL) : NULL;
    char *value =
        g_strdup(json_string_value(json_object_get(json_array_get(json_object_get(root, "Events"), 0), name)));

    json_decref(root);
    return value;
}

/* It runs on, on its old disk, and was told that it stays. */
static void expect_untouched(Stage *stage, VrInstancePhase phase)
{
    const VrRunInstance *instance = g_ptr_array_index(stage->run->instances, 0);
    g_autofree char *text = scripted_agent_file(stage->agent, FILE_PATH);

    assert_int_equal(instance->phase, phase);
    assert_non_null(strstr(text, "\"Events\": []"));
    assert_int_equal(stage->world->fake->shutdowns, 0);
    assert_int_equal(stage->world->fake->defines, 0);
    assert_int_equal(fake_hv_state(stage->world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(world_current(stage->world), 0);
    world_check(stage->world, TRUE);
}

static guint audited(Stage *stage, const char *text)
{
    VrDb *db = vr_journal_db(stage->world->journal);
    guint count;

    assert_true(vr_db_begin_read(db, NULL));
    {
        g_autoptr(sqlite3_stmt) rows =
            vr_db_prepare(db, NULL, "SELECT count(*) FROM events WHERE kind = 'notice' AND text LIKE ?", "s", text);
        assert_int_equal(vr_db_step(db, rows, NULL), 1);
        count = (guint)sqlite3_column_int(rows, 0);
    }
    vr_db_rollback(db);
    return count;
}

static void test_told_first(void **state) /* H7 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *status = NULL;

    begin(stage, FALSE);
    wait_for_notes(stage, 1);
    assert_non_null(strstr(stage->last, "notice given, not before "));
    end(stage);
    assert_true(stage->ok);
    status = notice_field(stage, "EventStatus");
    assert_string_equal(status, "Started");
    assert_null(((VrRunInstance *)stage->run->instances->pdata[0])->reason);
    assert_int_equal(audited(stage, "notice given%"), 1);
    assert_int_equal(world_current(stage->world), 1);
    world_check(stage->world, TRUE);
}

static void test_busy_up_to_the_limit(void **state) /* H8 */
{
    g_autoptr(Stage) stage = stage_new();

    scripted_agent_put(stage->agent, "/run/busy", "a user");
    begin(stage, FALSE);
    end(stage);
    assert_false(stage->ok);
    assert_true(g_error_matches(stage->error, VR_ERROR, VR_ERROR_REFUSED));
    assert_non_null(strstr(stage->error->message, "busy: a user"));
    assert_int_equal(audited(stage, "waits since % busy: a user"), 1);
    expect_untouched(stage, VR_PHASE_FAILED);
}

static void test_cancel_in_the_wait(void **state) /* H7 G2 */
{
    g_autoptr(Stage) stage = stage_new();

    stage->set->model->notice.not_before_ms = 3600000;
    begin(stage, FALSE);
    wait_for_notes(stage, 1);
    vr_executor_cancel(stage->executor, FALSE);
    end(stage);
    assert_true(g_error_matches(stage->error, VR_ERROR, VR_ERROR_CANCELLED));
    expect_untouched(stage, VR_PHASE_PENDING);
}

/* A pause takes the notice back, and a resume gives a new one. */
static void test_pause_in_the_wait(void **state) /* H7 G3 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *first = NULL, *none = NULL, *second = NULL, *text = NULL;
    VrAnswer answer;

    stage->set->model->notice.not_before_ms = 3600000;
    begin(stage, FALSE);
    wait_for_notes(stage, 1);
    first = notice_field(stage, "EventId");
    assert_true(vr_executor_control(stage->executor, VR_EVENT_PAUSE, 0, "ada", &answer, &text, NULL));
    while ((none = notice_field(stage, "EventId"))) {
        g_clear_pointer(&none, g_free);
        g_usleep(1000);
    }
    stage->set->model->notice.not_before_ms = 1;
    g_clear_pointer(&text, g_free);
    assert_true(vr_executor_control(stage->executor, VR_EVENT_RESUME, 0, "ada", &answer, &text, NULL));
    end(stage);
    assert_true(stage->ok);
    second = notice_field(stage, "EventId");
    assert_string_not_equal(first, second);
    assert_int_equal(world_current(stage->world), 2);
    world_check(stage->world, TRUE);
}

/* The process of a detached run shall end: it does not wait for an hour, and the run is open. */
static void test_leave_in_the_wait(void **state) /* H7 B17 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autoptr(VrRun) open = NULL;
    g_autofree char *text = NULL;

    stage->set->model->notice.not_before_ms = 3600000;
    begin(stage, TRUE);
    wait_for_notes(stage, 1);
    vr_executor_leave(stage->executor);
    end(stage);
    assert_false(stage->ok);
    assert_non_null(strstr(stage->error->message, "stays open"));
    open = vr_history_open(vr_journal_db(stage->world->journal), "shop", NULL);
    assert_non_null(open);
    assert_int_equal(((VrRunInstance *)open->instances->pdata[0])->phase, VR_PHASE_PENDING);
    text = scripted_agent_file(stage->agent, FILE_PATH);
    assert_non_null(strstr(text, "\"Events\": []"));
    assert_int_equal(stage->world->fake->shutdowns, 0);
    world_check(stage->world, TRUE);
}

/* On the thread that waits, since the domain is its. */
static char *saved_when_told(const char *command, void *data)
{
    Stage *stage = data;

    if (strstr(command, "guest-file-write"))
        stage->world->fake->managed_save = TRUE;
    return scripted_agent_answer(command, stage->agent);
}

/* What came in the wait forbids the swap: the guest stays, and hears that. */
static void test_refused_at_the_stop(void **state) /* H7 */
{
    g_autoptr(Stage) stage = stage_new();

    stage->world->fake->agent = saved_when_told;
    stage->world->fake->agent_data = stage;
    begin(stage, FALSE);
    end(stage);
    assert_false(stage->ok);
    assert_non_null(strstr(stage->error->message, "managed save"));
    expect_untouched(stage, VR_PHASE_FAILED);
}

static void test_nobody_is_there(void **state) /* H7 */
{
    g_autoptr(Stage) stage = stage_new();
    g_autofree char *text = NULL;

    fake_hv_set_state(stage->world->fake, VR_DOMAIN_OFF);
    stage->set->model->notice.not_before_ms = 3600000;
    begin(stage, FALSE);
    end(stage);
    assert_true(stage->ok);
    text = scripted_agent_file(stage->agent, FILE_PATH);
    assert_null(text);
    assert_int_equal(world_current(stage->world), 1);
}

/* What a process that died in the wait leaves: the swap is discarded, and the guest was not touched. */
static void test_recovery_of_the_wait(void **state) /* H7 B17 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    World *world = stage->world;
    g_autoptr(VrRun) run = g_new0(VrRun, 1);
    g_autoptr(VrRun) after = NULL;
    g_autoptr(VrSwap) swap = NULL;
    VrRunInstance *instance = g_new0(VrRunInstance, 1);

    run->set_name = g_strdup("shop");
    run->started_by = g_strdup("ada");
    run->instances = vr_run_instances_new();
    g_strlcpy(instance->uuid, FAKE_UUID, sizeof(instance->uuid));
    instance->domain = g_strdup("fake");
    instance->phase = VR_PHASE_NOTICE;
    g_ptr_array_add(run->instances, instance);
    assert_true(vr_history_begin(world->journal, world->owner, run, &error));
    swap = world_reach(world, VR_SWAP_PREPARED);
    assert_true(vr_recover_set(&world->engine, stage->set, FALSE, NULL, &error));
    after = vr_history_get(vr_journal_db(world->journal), "shop", run->id, &error);
    assert_int_equal(((VrRunInstance *)after->instances->pdata[0])->phase, VR_PHASE_PENDING);
    assert_int_equal(world->fake->shutdowns, 0);
    world_check(world, TRUE);
}

/* A process of its own: waits with its guest, and leaves the notice in a file of the test. */
static void wait_for_ever(const char *top, const char *path)
{
    Stage *stage = stage_in(world_make(top, TRUE));
    g_autofree char *text = NULL;

    stage->set->model->notice.not_before_ms = 3600000;
    begin(stage, FALSE);
    wait_for_notes(stage, 1);
    text = scripted_agent_file(stage->agent, FILE_PATH);
    (void)g_file_set_contents(path, text, -1, NULL);
    (void)pause();
    _exit(1);
}

/* What the killed process told its guest. */
static char *killed_in_the_wait(const char *top)
{
    g_autofree char *path = g_build_filename(top, "notice", NULL);
    pid_t pid = fork();
    char *text = NULL;

    if (pid == 0)
        wait_for_ever(top, path);
    while (!g_file_get_contents(path, &text, NULL, NULL) && waitpid(pid, NULL, WNOHANG) == 0)
        g_usleep(1000);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_non_null(text);
    return text;
}

static guint disks_made(const World *world)
{
    g_autofree char *path = g_build_filename(world->root, "disks", FAKE_UUID, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint count = 0;

    for (const char *name; dir && (name = g_dir_read_name(dir));)
        count += g_str_has_suffix(name, ".qcow2") ? 1 : 0;
    return count;
}

/* A killed process takes nothing back: the guest runs on and keeps the old notice, until the next run gives another. */
static void test_killed_in_the_wait(void **state) /* H7 B17 */
{
    g_autofree char *top = g_dir_make_tmp("vr-engine-XXXXXX", NULL);
    g_autofree char *told_then = killed_in_the_wait(top), *kept = NULL, *first = NULL, *second = NULL;
    World *world = world_attach(top);
    g_autoptr(GError) error = NULL;

    world_open(world);
    g_autoptr(Stage) stage = stage_in(world);
    scripted_agent_put(stage->agent, FILE_PATH, told_then);
    first = notice_field(stage, "EventId");
    assert_non_null(first);
    assert_int_equal(disks_made(world), 1);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_true(vr_recover_set(&world->engine, stage->set, FALSE, NULL, &error));
    assert_int_equal(disks_made(world), 0);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    assert_int_equal(world->fake->shutdowns + world->fake->defines, 0);
    assert_int_equal(world_current(world), 0);
    world_check(world, TRUE);
    kept = scripted_agent_file(stage->agent, FILE_PATH);
    assert_string_equal(kept, told_then);
    begin(stage, FALSE);
    end(stage);
    assert_true(stage->ok);
    second = notice_field(stage, "EventId");
    assert_string_not_equal(second, first);
    assert_int_equal(world_current(world), 2); /* 1 was discarded */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_in_the_wait), /* first: it forks, and there are no threads yet */
        cmocka_unit_test(test_told_first),         cmocka_unit_test(test_busy_up_to_the_limit),
        cmocka_unit_test(test_cancel_in_the_wait), cmocka_unit_test(test_pause_in_the_wait),
        cmocka_unit_test(test_leave_in_the_wait),  cmocka_unit_test(test_refused_at_the_stop),
        cmocka_unit_test(test_nobody_is_there),    cmocka_unit_test(test_recovery_of_the_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
