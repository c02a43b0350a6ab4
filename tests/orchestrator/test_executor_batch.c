/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The executor and a batch of many guests, each a scripted domain of its own: their full clones share reads of the image (row B6), what is written into
 * their new disks shares an appliance (rows C6, C8). */
#include "engine/support.h"

#include "base/error.h"
#include "base/gather.h"
#include "disk/copy_private.h"
#include "fault/fake_personalize.h"
#include "orchestrator/executor_private.h"
#include "orchestrator/kvm_proof.h"
#include "orchestrator/scripted_agent.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#define DISK_BYTES (1024 * 1024) /* of the image of engine/support.c, all data */
#define UUID_FORMAT "11111111-2222-4333-8444-%012u"
#define UUID_INDEX 24 /* in it */

static const char model_text[] = "schemaVersion: 1\nname: shop\nimageReference: {name: os}\n"
                                 "osDisk: {target: vda}\nstop: {method: acpi, timeout: PT1S, force: true}\n";

static const char domain_xml[] =
    "<domain type='qemu'><name>vm%u</name><uuid>" UUID_FORMAT "</uuid><memory unit='KiB'>16384</memory>"
    "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
    "<target dev='vda' bus='virtio'/></disk>"
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>";

static const char profile_text[] = "osProfile:\n  carryOver: [machine-id, " FAKE_TLS_PATH "]\n"
                                   "  offlineConfiguration: {hostname: \"@{instance.name}\"}\n";

/* ---- one hypervisor with many scripted domains ---- */

typedef struct {
    VrHv hv;
    GPtrArray *guests; /* FakeHv *, at the place that is the end of its UUID */
} Herd;

static VrHv *guest_of(VrHv *hv, const char *uuid)
{
    guint64 index = g_ascii_strtoull(uuid + UUID_INDEX, NULL, 10);

    return &((FakeHv *)g_ptr_array_index(((Herd *)hv)->guests, index))->hv;
}

static gboolean herd_lookup(VrHv *hv, const char *name, char uuid[VR_UUID_LENGTH + 1], GError **error)
{
    guint index = (guint)g_ascii_strtoull(name + strlen("vm"), NULL, 10);

    g_snprintf(uuid, VR_UUID_LENGTH + 1, UUID_FORMAT, index);
    return TRUE;
}

static gboolean herd_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error)
{
    return vr_hv_info(guest_of(hv, uuid), uuid, info, error);
}

static char *herd_inactive_xml(VrHv *hv, const char *uuid, GError **error)
{
    return vr_hv_inactive_xml(guest_of(hv, uuid), uuid, error);
}

static char *herd_live_xml(VrHv *hv, const char *uuid, GError **error)
{
    return vr_hv_live_xml(guest_of(hv, uuid), uuid, error);
}

static gboolean herd_define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    return vr_hv_define(guest_of(hv, uuid), uuid, xml, error);
}

static gboolean herd_start(VrHv *hv, const char *uuid, GError **error)
{
    return vr_hv_start(guest_of(hv, uuid), uuid, error);
}

static gboolean herd_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error)
{
    return vr_hv_shutdown(guest_of(hv, uuid), uuid, mode, error);
}

static gboolean herd_destroy(VrHv *hv, const char *uuid, GError **error)
{
    return vr_hv_destroy(guest_of(hv, uuid), uuid, error);
}

static void herd_wait_change(VrHv *hv, const char *uuid, gint64 deadline_ms)
{
    vr_hv_wait_change(guest_of(hv, uuid), uuid, deadline_ms);
}

static char *herd_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    return vr_hv_agent(guest_of(hv, uuid), uuid, command, timeout_s, error);
}

static const VrHvOps herd_ops = {.lookup = herd_lookup,
                                 .info = herd_info,
                                 .inactive_xml = herd_inactive_xml,
                                 .live_xml = herd_live_xml,
                                 .define = herd_define,
                                 .start = herd_start,
                                 .shutdown = herd_shutdown,
                                 .destroy = herd_destroy,
                                 .wait_change = herd_wait_change,
                                 .agent = herd_agent};

/* A running guest on a disk of its own. */
static FakeHv *new_guest(const World *world, guint index)
{
    g_autofree char *name = g_strdup_printf("vm%u", index);
    g_autofree char *dir = g_build_filename(world->top, name, NULL);
    g_autofree char *disk = g_build_filename(dir, "old.raw", NULL);
    g_autofree char *xml = g_strdup_printf(domain_xml, index, index, disk);

    assert_int_equal(g_mkdir(dir, 0700), 0);
    assert_true(g_file_set_contents(disk, "", 0, NULL));
    assert_int_equal(truncate(disk, DISK_BYTES), 0);
    return fake_hv_new(dir, xml, TRUE);
}

/* What a guest has to be carried over. */
static ScriptedAgent *give_agent(FakeHv *fake, guint index)
{
    ScriptedAgent *agent = scripted_agent_new();
    g_autofree char *id = g_strdup_printf("%032x\n", index + 1);

    scripted_agent_put(agent, "/etc/machine-id", id);
    scripted_agent_put(agent, FAKE_TLS_PATH, FAKE_TLS_KEY);
    fake->agent = scripted_agent_answer;
    fake->agent_data = agent;
    return agent;
}

/* ---- a set of them, all in one batch ---- */

typedef struct {
    World *world;
    Herd herd;
    VrSet *set;
    VrRunTarget *targets;
    VrOsContent *content; /* NULL: nothing is written into new disks */
    GPtrArray *agents;    /* ScriptedAgent *, of each guest then */
    guint64 read;         /* bytes of the image; under the lock */
    pthread_mutex_t lock;
} Stage;

/* Where no appliance can be had the tests go all the same, and no KVM is tried. */
gboolean __wrap_vr_personalize_is_possible(GError **error);
gboolean __wrap_vr_personalize_is_possible(GError **error)
{
    return TRUE;
}

gboolean __wrap_vr_kvm_works(void);
gboolean __wrap_vr_kvm_works(void)
{
    return FALSE;
}

static void load_content(Stage *stage)
{
    g_autoptr(GError) error = NULL;

    vr_os_content_load(stage->set->model, &stage->content, &error);
    assert_string_equal(error ? error->message : "", "");
    if (stage->content)
        assert_true(vr_os_content_prepare(stage->content, stage->world->store, NULL));
}

static void define_set(Stage *stage, guint count, const char *profile)
{
    World *world = stage->world;
    g_autoptr(GString) text = g_string_new(model_text);
    g_autoptr(VrModel) model = NULL;

    g_string_append_printf(text, "%sinstances:\n", profile);
    for (guint i = 0; i < count; i++)
        g_string_append_printf(text, "- {domain: vm%u}\n", i);
    model = vr_model_parse(text->str, text->len, "shop.yaml", NULL);
    assert_true(vr_registry_init(vr_journal_db(world->journal), NULL));
    assert_true(vr_registry_define(world->journal, world->owner, &stage->herd.hv, model, text->str, "shop.yaml", NULL));
    stage->set = vr_registry_get(vr_journal_db(world->journal), "shop", NULL);
    stage->set->model->os_disk_kind = VR_OS_DISK_FULL;
    stage->set->model->health.interval_ms = 20; /* below what a model may say, so that the test is quick */
    stage->set->model->policy.max_batch_percent = 100;
    stage->set->model->policy.max_unhealthy_percent = 100;
    for (guint i = 0; i < count; i++)
        ((VrInstance *)g_ptr_array_index(stage->set->instances, i))->upgrade_domain = 0;
    load_content(stage);
}

static Stage *stage_new(guint count, const char *profile)
{
    Stage *stage = g_new0(Stage, 1);

    pthread_mutex_init(&stage->lock, NULL);
    stage->world = world_new(TRUE);
    stage->herd.hv.ops = &herd_ops;
    stage->herd.guests = g_ptr_array_new_with_free_func((GDestroyNotify)fake_hv_free);
    for (guint i = 0; i < count; i++)
        g_ptr_array_add(stage->herd.guests, new_guest(stage->world, i));
    stage->agents = g_ptr_array_new_with_free_func((GDestroyNotify)scripted_agent_free);
    for (guint i = 0; i < count && *profile; i++)
        g_ptr_array_add(stage->agents, give_agent(stage->herd.guests->pdata[i], i));
    stage->world->engine.hv = &stage->herd.hv;
    stage->targets = g_new0(VrRunTarget, count);
    for (guint i = 0; i < count; i++)
        stage->targets[i].chosen = TRUE;
    define_set(stage, count, profile);
    fake_personal = (FakePersonal){0};
    return stage;
}

static void stage_free(Stage *stage)
{
    vr_os_content_free(stage->content);
    vr_set_free(stage->set);
    g_ptr_array_unref(stage->herd.guests);
    g_ptr_array_unref(stage->agents);
    world_free(stage->world);
    g_free(stage->targets);
    pthread_mutex_destroy(&stage->lock);
    g_free(stage);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

/* ---- the reads of the image ---- */

static int sum_reads(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    Stage *stage = data;

    if (side != VR_SIDE_SOURCE || result <= 0)
        return result;
    pthread_mutex_lock(&stage->lock);
    stage->read += (guint64)result;
    pthread_mutex_unlock(&stage->lock);
    return result;
}

static gssize summed_read(int fd, guint8 *buffer, gsize length, guint64 offset, void *data)
{
    return sum_reads(VR_SIDE_SOURCE, offset, buffer, (int)vr_copy_real_ops.read(fd, buffer, length, offset, NULL),
                     data);
}

static int no_share(int source, guint64 offset, int target, guint64 at, guint64 length, void *data)
{
    return -EOPNOTSUPP;
}

static void run_all(Stage *stage, VrExecutor *executor, VrRun **run)
{
    g_autoptr(GError) error = NULL;
    VrCopyOps ops = vr_copy_real_ops;

    ops.read = summed_read;
    ops.share = no_share;
    ops.completion = sum_reads;
    ops.data = stage;
    vr_copy_set_ops(&ops);
    vr_executor_run(executor, run, &error);
    vr_copy_set_ops(NULL);
    assert_string_equal(error ? error->message : "", "");
}

static void expect_all_moved(const Stage *stage, const VrRun *run)
{
    for (guint i = 0; i < run->instances->len; i++) {
        const VrRunInstance *instance = g_ptr_array_index(run->instances, i);
        g_autofree char *path = fake_hv_os_path(g_ptr_array_index(stage->herd.guests, i), TRUE);
        guint64 size;

        assert_int_equal(instance->phase, VR_PHASE_COMMITTED);
        assert_int_equal(instance->batch, 1);
        assert_true(g_str_has_suffix(path, "/g1.qcow2"));
        assert_non_null(strstr(path, instance->uuid));
        assert_true(vr_disk_file_virtual_size(path, "qcow2", &size, NULL));
        assert_int_equal(size, DISK_BYTES);
    }
}

static VrExecutor *new_executor(Stage *stage)
{
    VrRunRequest request = {.kind = VR_RUN_UPGRADE,
                            .set = stage->set,
                            .image = stage->world->image,
                            .os_content = stage->content,
                            .targets = stage->targets};

    return vr_executor_new(&stage->world->engine, &request);
}

/* ---- tests ---- */

static void have_workers(VrExecutor *executor, guint workers)
{
    if (workers == 0)
        return;
    executor->workers = workers;
    assert_true(g_thread_pool_set_max_threads(executor->pool, (gint)workers, NULL));
}

/* A batch of `count` with `workers` (0: as many as the executor takes) is one of `reads` reads. */
static void expect_reads(guint count, guint workers, guint reads)
{
    g_autoptr(Stage) stage = stage_new(count, "");
    g_autoptr(VrExecutor) executor = new_executor(stage);
    g_autoptr(VrRun) run = NULL;

    have_workers(executor, workers);
    run_all(stage, executor, &run);
    expect_all_moved(stage, run);
    assert_int_equal(stage->read, (guint64)reads * DISK_BYTES);
}

static void test_one_read_for_a_batch(void **state) /* B6 */
{
    expect_reads(5, 0, 1);
}

/* A group has no more seats than there are workers to take them, and none waits for one
 * that has no worker. */
static void test_fewer_workers_than_clones(void **state) /* B6 */
{
    gint64 began_us = g_get_monotonic_time();

    expect_reads(7, 3, 3);
    expect_reads(3, 1, 3);
    assert_true(g_get_monotonic_time() - began_us < VR_GATHER_MS * 1000 / 2);
}

/* One read writes to VR_COPY_TARGETS files at most; and a batch above the limit of the pool as it is. */
static void test_more_clones_than_targets(void **state) /* B6 */
{
    expect_reads(VR_COPY_TARGETS + 3, 0, 2);
    expect_reads(4 * VR_COPY_TARGETS + 4, 0, 5);
}

/* ---- what is written into new disks ---- */

static void expect_written(const Stage *stage, guint index, const char *tls_key)
{
    g_autofree char *path = fake_hv_os_path(g_ptr_array_index(stage->herd.guests, index), TRUE);
    g_autofree char *text = fake_personal_text(path);
    g_autofree char *expected =
        g_strdup_printf("HOSTNAME vm%u\n/etc/machine-id 0 444 0:0 33\n%032x\n\n" FAKE_TLS_PATH " 0 600 33:4 %zu\n%s\n",
                        index, index + 1, strlen(tls_key), tls_key);

    assert_non_null(text);
    assert_string_equal(text, expected);
}

/* Each disk has what is its own. */
static void expect_launches(guint count, guint workers, VrOsDiskKind kind, guint launches)
{
    g_autoptr(Stage) stage = stage_new(count, profile_text);
    g_autoptr(VrExecutor) executor = NULL;
    g_autoptr(VrRun) run = NULL;
    gint64 began_us = g_get_monotonic_time();

    stage->set->model->os_disk_kind = kind;
    executor = new_executor(stage);
    have_workers(executor, workers);
    run_all(stage, executor, &run);
    expect_all_moved(stage, run);
    for (guint i = 0; i < count; i++)
        expect_written(stage, i, FAKE_TLS_KEY);
    assert_int_equal(fake_personal.launches, launches);
    assert_true(g_get_monotonic_time() - began_us < VR_GATHER_MS * 1000 / 2);
}

static void test_one_appliance_for_a_batch(void **state) /* C6 C8 */
{
    expect_launches(2, 0, VR_OS_DISK_OVERLAY, 1);
    assert_int_equal(fake_personal.disks, 2);
    expect_launches(5, 0, VR_OS_DISK_FULL, 1);
}

/* Groups of both kinds of seats are the same: nobody waits in one for whom has no worker, or waits for the other. */
static void test_fewer_workers_than_disks(void **state)
{
    expect_launches(7, 3, VR_OS_DISK_OVERLAY, 3);
    expect_launches(7, 3, VR_OS_DISK_FULL, 3);
    expect_launches(VR_COPY_TARGETS + 4, 0, VR_OS_DISK_FULL, 2);
}

/* It has nothing to be carried over, and does not keep the others waiting. */
static void test_one_that_cannot_be_read(void **state)
{
    g_autoptr(Stage) stage = stage_new(3, profile_text);
    g_autoptr(VrExecutor) executor = new_executor(stage);
    g_autoptr(VrRun) run = NULL;
    gint64 began_us = g_get_monotonic_time();

    scripted_agent_put(stage->agents->pdata[1], FAKE_TLS_PATH, NULL);
    assert_false(vr_executor_run(executor, &run, NULL));
    assert_int_equal(fake_personal.launches, 1);
    assert_int_equal(fake_personal.disks, 2);
    assert_true(g_get_monotonic_time() - began_us < VR_GATHER_MS * 1000 / 2);
    assert_int_equal(fake_hv_state(stage->herd.guests->pdata[1]), VR_DOMAIN_RUNNING);
}

static Stage *the_stage;

static void change_all(const char *disk)
{
    for (guint i = 0; i < the_stage->agents->len; i++)
        scripted_agent_put(the_stage->agents->pdata[i], FAKE_TLS_PATH, "another key");
}

/* The second batch is prepared while the first one boots; what its guests have changed since is on their disks too. */
static void test_prepared_ahead(void **state) /* C8 */
{
    g_autoptr(Stage) stage = stage_new(2, profile_text);
    g_autoptr(VrExecutor) executor = NULL;
    g_autoptr(VrRun) run = NULL;
    g_autoptr(GError) error = NULL;

    the_stage = stage;
    fake_personal.before = change_all;
    stage->set->model->os_disk_kind = VR_OS_DISK_OVERLAY;
    stage->set->model->policy.max_batch_percent = 50;
    stage->set->model->policy.prepare_ahead = TRUE;
    executor = new_executor(stage);
    vr_executor_run(executor, &run, &error);
    assert_string_equal(error ? error->message : "", "");
    expect_written(stage, 0, "another key");
    expect_written(stage, 1, "another key");
}

static gint at_once, most_at_once;

static void count_at_once(const char *disk)
{
    gint now = g_atomic_int_add(&at_once, 1) + 1;

    for (gint most = g_atomic_int_get(&most_at_once); now > most; most = g_atomic_int_get(&most_at_once))
        g_atomic_int_compare_and_exchange(&most_at_once, most, now);
    g_usleep(30000);
    g_atomic_int_add(&at_once, -1);
}

/* Each guest's old disk is read by an appliance of its own, and they are not all there at a time. */
static void test_few_appliances_at_a_time(void **state) /* C8 */
{
    static const char text[] = "osProfile:\n  carryOver: [machine-id, " FAKE_TLS_PATH "]\n  carryOverFrom: disk\n";
    g_autoptr(Stage) stage = stage_new(12, text);
    g_autoptr(VrExecutor) executor = NULL;
    g_autoptr(VrRun) run = NULL;

    fake_personal.before = count_at_once;
    stage->set->model->os_disk_kind = VR_OS_DISK_OVERLAY;
    executor = new_executor(stage);
    run_all(stage, executor, &run);
    expect_all_moved(stage, run);
    assert_int_equal(fake_personal.launches, 1 + 12); /* one in PREPARE */
    assert_int_equal(fake_personal.reads, 12);
    assert_in_range(most_at_once, 2, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_read_for_a_batch),     cmocka_unit_test(test_fewer_workers_than_clones),
        cmocka_unit_test(test_more_clones_than_targets), cmocka_unit_test(test_one_appliance_for_a_batch),
        cmocka_unit_test(test_fewer_workers_than_disks), cmocka_unit_test(test_one_that_cannot_be_read),
        cmocka_unit_test(test_prepared_ahead),           cmocka_unit_test(test_few_appliances_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
