/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The executor with its real threads, engine and journal, over the scripted hypervisor. Rows B6, C5, D4, F1, F12, G2, J2, J3, J6. */
#include "engine/support.h"

#include "base/error.h"
#include "disk/copy_private.h"
#include "orchestrator/executor.h"
#include "orchestrator/shop.h"

#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <sys/stat.h>

static const char model_text[] =
    "schemaVersion: 1\nname: shop\nimageReference: {name: os}\n"
    "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT1S, force: true}\ninstances:\n- {domain: fake}\n";

typedef struct {
    World *world;
    VrSet *set;
    guint lines; /* progress that was told */
    VrExecutor *cancel_at_batch;
    VrModelResource *ends_at_commit; /* a token that expires when the first instance is committed */
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

static void count(const VrProgress *progress, void *data)
{
    Stage *stage = data;

    stage->lines++;
    if (stage->cancel_at_batch && progress->kind == VR_PROGRESS_BATCH)
        vr_executor_cancel(stage->cancel_at_batch, TRUE);
    if (stage->ends_at_commit && progress->instance && progress->instance->phase == VR_PHASE_COMMITTED)
        stage->ends_at_commit->token_until_us = 1;
}

static VrExecutor *new_executor(Stage *stage, VrRunTarget *target, int to_generation)
{
    VrRunRequest request = {.kind = to_generation < 0 ? VR_RUN_UPGRADE : VR_RUN_ROLLBACK,
                            .set = stage->set,
                            .image = to_generation < 0 ? stage->world->image : NULL,
                            .targets = target,
                            .automatic_rollback = TRUE,
                            .progress = count,
                            .progress_data = stage};

    target->chosen = TRUE;
    target->to_generation = to_generation < 0 ? 0 : (guint)to_generation;
    return vr_executor_new(&stage->world->engine, &request);
}

static void test_upgrade_and_rollback(void **state) /* J2 J3 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) up = new_executor(stage, &target, -1);
    g_autoptr(VrExecutor) down = NULL;
    g_autoptr(VrRun) run = NULL;

    vr_executor_run(up, &run, &error);
    assert_string_equal(error ? error->message : "", "");
    assert_int_equal(run->status, VR_RUN_COMPLETED);
    assert_int_equal(((VrRunInstance *)run->instances->pdata[0])->phase, VR_PHASE_COMMITTED);
    assert_true(stage->lines >= 6);
    world_check(stage->world, TRUE);
    down = new_executor(stage, &target, 0);
    assert_true(vr_executor_run(down, NULL, &error));
    assert_int_equal(world_current(stage->world), 0);
    world_check(stage->world, TRUE);
}

static void test_failure_goes_back(void **state) /* D4 F1 F12 J6 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) up = new_executor(stage, &target, -1);
    g_autoptr(VrRun) run = NULL;
    const VrRunInstance *instance;

    stage->world->fake->fail_new_disk = TRUE;
    assert_false(vr_executor_run(up, &run, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_POLICY));
    assert_int_equal(run->status, VR_RUN_FAULTED);
    assert_string_equal(run->error_code, VR_CODE_UPGRADED);
    instance = g_ptr_array_index(run->instances, 0);
    assert_int_equal(instance->phase, VR_PHASE_RESTORED);
    assert_non_null(strstr(instance->reason, "QEMU does not start"));
    assert_int_equal(fake_hv_state(stage->world->fake), VR_DOMAIN_RUNNING);
    world_check(stage->world, TRUE);
}

static VrModelResource *add_token(Stage *stage, gint64 until_us)
{
    VrModelResource *resource = g_new0(VrModelResource, 1);

    resource->token_until_us = until_us;
    resource->valid_for_ms = -1;
    g_ptr_array_add(stage->set->model->outside, resource);
    return resource;
}

/* A port of this host; *fd hears who asks for it. */
static guint listen_on(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(*fd, 8), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&address, &length), 0);
    return ntohs(address.sin_port);
}

/* What has expired when a batch would begin stops the run, and nothing was touched; the way back needs nothing. */
static void test_outside_at_the_border(void **state) /* C5 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrModelResource *token = add_token(stage, 1);
    struct pollfd asked = {.events = POLLIN};
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) first = new_executor(stage, &target, -1);
    g_autoptr(VrRun) run = NULL;

    assert_false(vr_executor_run(first, &run, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_POLICY));
    assert_int_equal(run->status, VR_RUN_FAULTED);
    assert_non_null(strstr(run->error_text, "externalResources[0]: the token expired on 1970-01-01T00:00:00.000Z"));
    assert_non_null(strstr(run->error_text, "1 not touched"));
    assert_int_equal(((VrRunInstance *)run->instances->pdata[0])->phase, VR_PHASE_PENDING);
    assert_int_equal(stage->world->fake->starts, 0);
    world_check(stage->world, TRUE);
    token->token_until_us = G_MAXINT64;
    g_autoptr(VrExecutor) up = new_executor(stage, &target, -1);
    assert_true(vr_executor_run(up, NULL, NULL));
    token->token_until_us = 0;
    token->url = g_strdup_printf("http://127.0.0.1:%u/", listen_on(&asked.fd));
    g_autoptr(VrExecutor) down = new_executor(stage, &target, 0);
    assert_true(vr_executor_run(down, NULL, NULL));
    assert_int_equal(world_current(stage->world), 0);
    assert_int_equal(poll(&asked, 1, 0), 0);
    close(asked.fd);
}

/* What expires when all are moved takes nothing back: no batch follows. */
static void test_outside_while_it_bakes(void **state) /* C5 */
{
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrRun) run = NULL;

    stage->ends_at_commit = add_token(stage, G_MAXINT64);
    stage->set->model->policy.bake_ms = 100;
    g_autoptr(VrExecutor) up = new_executor(stage, &target, -1);
    assert_true(vr_executor_run(up, &run, NULL));
    assert_int_equal(stage->ends_at_commit->token_until_us, 1);
    assert_int_equal(run->status, VR_RUN_COMPLETED);
}

static void test_cancel_before(void **state) /* G2 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) up = new_executor(stage, &target, -1);

    vr_executor_cancel(up, FALSE);
    assert_false(vr_executor_run(up, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED));
    assert_int_equal(stage->world->fake->starts, 0);
    world_check(stage->world, TRUE);
}

static void test_cancel_now(void **state) /* G2 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) up = new_executor(stage, &target, -1);
    g_autoptr(VrRun) run = NULL;
    const VrRunInstance *instance;
    g_autofree char *path = NULL;

    stage->cancel_at_batch = up;
    assert_false(vr_executor_run(up, &run, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED));
    instance = g_ptr_array_index(run->instances, 0);
    assert_int_equal(instance->phase, VR_PHASE_PENDING);
    assert_int_equal(instance->batch, 0); /* it was prepared, and its turn did not come */
    path = fake_hv_os_path(stage->world->fake, TRUE);
    assert_string_equal(path, stage->world->old_path);
    world_check(stage->world, TRUE);
}

/* The first Ctrl-C in a copy ends it: the guest was not touched, and its turn has not come. */
static VrExecutor *copying;

static int cancel_in_copy(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    if (side == VR_SIDE_TARGET && *(gint *)data == 0) {
        *(gint *)data = 1;
        vr_executor_cancel(copying, FALSE);
    }
    return result;
}

static gssize cancel_in_write(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data)
{
    (void)cancel_in_copy(VR_SIDE_TARGET, offset, NULL, 0, data);
    return vr_copy_real_ops.write(fd, buffer, length, offset, NULL);
}

static void test_full_clone(void **state) /* B6 J2 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) up = NULL;
    g_autoptr(VrExecutor) down = NULL;
    g_autofree char *xml = NULL;
    g_autofree char *path = g_build_filename(stage->world->hv_dir, "inactive.xml", NULL);

    stage->set->model->os_disk_kind = VR_OS_DISK_FULL;
    up = new_executor(stage, &target, -1);
    assert_true(vr_executor_run(up, NULL, &error));
    world_check(stage->world, TRUE);
    assert_true(g_file_get_contents(path, &xml, NULL, NULL));
    assert_non_null(strstr(xml, "/g1.qcow2"));
    assert_null(strstr(xml, "/images/"));
    down = new_executor(stage, &target, 0);
    assert_true(vr_executor_run(down, NULL, &error));
    assert_int_equal(world_current(stage->world), 0);
    world_check(stage->world, TRUE);
}

static void test_cancel_in_copy(void **state) /* B6 G2 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) up = NULL;
    g_autoptr(VrRun) run = NULL;
    VrCopyOps ops = vr_copy_real_ops;
    gint asked = 0;

    stage->set->model->os_disk_kind = VR_OS_DISK_FULL;
    copying = up = new_executor(stage, &target, -1);
    ops.write = cancel_in_write;
    ops.completion = cancel_in_copy;
    ops.data = &asked;
    vr_copy_set_ops(&ops);
    assert_false(vr_executor_run(up, &run, &error));
    vr_copy_set_ops(NULL);
    assert_int_equal(asked, 1);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CANCELLED));
    assert_non_null(strstr(error->message, "0 done, 0 put back, 1 not begun"));
    assert_int_equal(((VrRunInstance *)run->instances->pdata[0])->phase, VR_PHASE_PENDING);
    assert_int_equal(stage->world->fake->starts, 0);
    assert_int_equal(world_current(stage->world), 0);
    world_check(stage->world, TRUE);
}

/* Somebody's file takes the name of the new disk, and of its XML, while the copy runs: both stay (invariant 7). */
typedef struct {
    const char *disk, *xml;
    gint taken;
} Taker;

static int take_names(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    Taker *taker = data;

    if (side == VR_SIDE_TARGET && g_atomic_int_compare_and_exchange(&taker->taken, 0, 1)) {
        g_assert_true(g_file_set_contents(taker->disk, "precious", -1, NULL));
        g_assert_true(g_file_set_contents(taker->xml, "precious", -1, NULL));
    }
    return result;
}

static gssize take_in_write(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data)
{
    (void)take_names(VR_SIDE_TARGET, offset, NULL, 0, data);
    return vr_copy_real_ops.write(fd, buffer, length, offset, NULL);
}

static void assert_precious(const char *path)
{
    g_autofree char *text = NULL;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_string_equal(text, "precious");
}

static void test_name_taken_in_copy(void **state) /* B6 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    VrRunTarget target = {0};
    g_autoptr(VrExecutor) up = NULL;
    g_autofree char *disk = g_build_filename(stage->world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
    g_autofree char *xml = g_build_filename(stage->world->root, "disks", FAKE_UUID, "g1.xml", NULL);
    Taker taker = {.disk = disk, .xml = xml};
    VrCopyOps ops = vr_copy_real_ops;

    stage->set->model->os_disk_kind = VR_OS_DISK_FULL;
    up = new_executor(stage, &target, -1);
    ops.write = take_in_write;
    ops.completion = take_names;
    ops.data = &taker;
    vr_copy_set_ops(&ops);
    assert_false(vr_executor_run(up, NULL, &error));
    vr_copy_set_ops(NULL);
    assert_int_equal(taker.taken, 1);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    assert_precious(disk);
    assert_precious(xml);
    assert_int_equal(stage->world->fake->starts, 0);
    assert_int_equal(world_current(stage->world), 0);
}

/* A process that is no more left a started swap and an open run: health is judged, the run is closed. */
static void test_recovery(void **state) /* B17 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    World *world = stage->world;
    g_autoptr(VrRun) run = g_new0(VrRun, 1);
    g_autoptr(VrSwap) swap = NULL;
    g_autoptr(GPtrArray) told = NULL;
    g_autoptr(VrRun) after = NULL;

    run->set_name = g_strdup("shop");
    run->started_by = g_strdup("ada");
    run->instances = vr_run_instances_new();
    assert_true(vr_history_begin(world->journal, world->owner, run, &error));
    swap = world_begin(world, -1, &error);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_true(vr_recover_set(&world->engine, stage->set, FALSE, &told, &error));
    assert_int_equal(told->len, 1);
    assert_int_equal(world_current(world), 1);
    world_check(world, TRUE);
    after = vr_history_get(vr_journal_db(world->journal), "shop", run->id, &error);
    assert_int_equal(after->status, VR_RUN_FAULTED);
}

/* B5: a disk that could not be sealed while its guest's next swap was open is sealed by the recovery that ends that swap, not by the one after. */
static void test_recovery_seals(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    World *world = stage->world;
    g_autofree char *kept = g_build_filename(world->root, "disks", FAKE_UUID, "g1.qcow2", NULL);
    g_autoptr(VrSwap) swap = NULL;
    struct stat st;

    world_swap(world, -1);
    world_swap(world, -1);
    swap = world_begin(world, -1, &error);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_int_equal(chmod(kept, 0600), 0);
    assert_true(vr_recover_set(&world->engine, stage->set, FALSE, NULL, &error));
    assert_int_equal(world_current(world), 3);
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
    world_check(world, TRUE);
}

/* Nobody knows what healthy means: the guest stays started, and is judged as soon as there is a model. */
static void test_recovery_without_model(void **state) /* B17 */
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    World *world = stage->world;
    VrModel *model = g_steal_pointer(&stage->set->model);
    g_autoptr(VrSwap) swap = world_begin(world, -1, &error);

    stage->set->unreadable = g_strdup("shop:3: newer: is not known");
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    assert_false(vr_recover_set(&world->engine, stage->set, FALSE, NULL, &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_PERSON));
    assert_non_null(strstr(error->message, "newer"));
    assert_non_null(strstr(error->message, "set-define"));
    g_clear_error(&error);
    assert_int_equal(fake_hv_state(world->fake), VR_DOMAIN_RUNNING);
    world_check(world, FALSE);
    stage->set->model = model;
    assert_true(vr_recover_set(&world->engine, stage->set, FALSE, NULL, &error));
    assert_int_equal(world_current(world), 1);
    world_check(world, TRUE);
}

/* What was in flight when the process ended, but not in an open swap, gets its phase from the journal. */
static void test_recovery_of_history(void **state) /* J6 */
{
    static const struct {
        VrInstancePhase left, found;
        gboolean swapped;
    } cases[] = {{VR_PHASE_PREPARING, VR_PHASE_PENDING, FALSE}, {VR_PHASE_COMMITTING, VR_PHASE_COMMITTED, TRUE}};

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Stage) stage = stage_new();
        World *world = stage->world;
        g_autoptr(VrRun) run = g_new0(VrRun, 1);
        g_autoptr(VrRun) after = NULL;
        VrRunInstance *instance = g_new0(VrRunInstance, 1);

        run->set_name = g_strdup("shop");
        run->started_by = g_strdup("ada");
        run->instances = vr_run_instances_new();
        g_strlcpy(instance->uuid, FAKE_UUID, sizeof(instance->uuid));
        instance->domain = g_strdup("fake");
        instance->phase = cases[i].left;
        g_ptr_array_add(run->instances, instance);
        assert_true(vr_history_begin(world->journal, world->owner, run, &error));
        if (cases[i].swapped)
            world_swap_in_run(world, -1, run->id);
        assert_true(vr_recover_set(&world->engine, stage->set, FALSE, NULL, &error));
        after = vr_history_get(vr_journal_db(world->journal), "shop", run->id, &error);
        assert_int_equal(((VrRunInstance *)after->instances->pdata[0])->phase, cases[i].found);
    }
}

/* A rollback that was killed is not moved forward again by its recovery, however ill the guest is (F1). */
static void test_recovery_of_rollback(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Stage) stage = stage_new();
    World *world = stage->world;
    g_autoptr(VrSwap) swap = NULL;

    world_swap(world, -1);
    swap = world_begin(world, 0, &error);
    assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, &error));
    stage->set->model->health.source = VR_HEALTH_SOURCE_AGENT_FILE; /* the scripted guest has no agent */
    assert_true(vr_recover_set(&world->engine, stage->set, FALSE, NULL, &error));
    assert_int_equal(world_current(world), 0);
    world_check(world, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upgrade_and_rollback),
        cmocka_unit_test(test_failure_goes_back),
        cmocka_unit_test(test_outside_at_the_border),
        cmocka_unit_test(test_outside_while_it_bakes),
        cmocka_unit_test(test_cancel_before),
        cmocka_unit_test(test_cancel_now),
        cmocka_unit_test(test_full_clone),
        cmocka_unit_test(test_cancel_in_copy),
        cmocka_unit_test(test_name_taken_in_copy),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_recovery_seals),
        cmocka_unit_test(test_recovery_without_model),
        cmocka_unit_test(test_recovery_of_history),
        cmocka_unit_test(test_recovery_of_rollback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
