/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets, instances and runs in the database. Rows J1, J4, J10, J11, C11, D7, D29, G7. */
#include "engine/support.h"

#include "base/error.h"
#include "orchestrator/current_version.h"
#include "orchestrator/history.h"
#include "orchestrator/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MODEL(name, domain)                                                                                            \
    "schemaVersion: 1\nname: " name "\nimageReference: {name: os}\ninstances:\n- {domain: " domain "}\n"

static gboolean define(World *world, const char *text, GError **error)
{
    g_autoptr(VrModel) model = vr_model_parse(text, strlen(text), "shop.yaml", error);

    return model && vr_registry_define(world->journal, world->owner, &world->fake->hv, model, text, "shop.yaml", error);
}

static World *new_world(void)
{
    World *world = world_new(TRUE);

    assert_true(vr_registry_init(vr_journal_db(world->journal), NULL));
    return world;
}

static void test_define(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);
    g_autoptr(VrSet) set = NULL;
    g_autoptr(GPtrArray) names = NULL;

    assert_true(define(world, MODEL("shop", "fake"), &error));
    assert_true(define(world, MODEL("shop", FAKE_UUID), &error)); /* again, by UUID: the same one */
    set = vr_registry_get(db, "shop", &error);
    assert_non_null(set);
    assert_int_equal(set->instances->len, 1);
    assert_string_equal(((VrInstance *)set->instances->pdata[0])->domain, "fake");
    assert_int_equal(vr_set_find(set, "fake", &error), 0);
    assert_int_equal(vr_set_find(set, FAKE_UUID, &error), 0);
    assert_int_equal(vr_set_find(set, "other", &error), -1);
    g_clear_error(&error);
    names = vr_registry_list(db, &error);
    assert_int_equal(names->len, 1);
}

static void test_refusals(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);

    assert_false(define(world, MODEL("shop", "nobody"), &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND));
    assert_non_null(strstr(error->message, "shop.yaml:5"));
    g_clear_error(&error);
    assert_null(vr_registry_get(db, "shop", &error)); /* nothing was written */
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND));
    g_clear_error(&error);
    assert_true(define(world, MODEL("shop", "fake"), &error));
    assert_false(define(world, MODEL("other", "fake"), &error)); /* one set only */
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
}

static void test_undefine(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);

    assert_true(define(world, MODEL("shop", "fake"), &error));
    assert_true(vr_registry_undefine(world->journal, world->owner, "shop", &error));
    assert_null(vr_registry_get(db, "shop", NULL));
    assert_false(vr_registry_undefine(world->journal, world->owner, "shop", &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND));
}

static void make_unreadable(VrDb *db)
{
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE sets SET text = 'name: shop\nnewer: 1\n'", NULL));
    assert_true(vr_db_commit(db, NULL));
}

#define FULL(domain) MODEL("shop", domain) "osDisk: {kind: full}\n"

static VrSet *get(World *world)
{
    VrSet *set = vr_registry_get(vr_journal_db(world->journal), "shop", NULL);

    assert_non_null(set);
    return set;
}

static void run_sql(VrDb *db, const char *sql)
{
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, sql, ""));
    assert_true(vr_db_commit(db, NULL));
}

/* The revision of the set, and whether an instance is behind whose disk was made by model revision `made` (0: not known). */
static void check_behind(World *world, guint revision, guint made, gboolean behind)
{
    g_autoptr(VrSet) set = get(world);
    VrGeneration generation = {.model_revision = made};

    assert_int_equal(set->revision, revision);
    assert_int_equal(vr_set_is_behind(set, 0, &generation), behind);
    if (made == 0)
        assert_int_equal(vr_set_is_behind(set, 0, NULL), behind);
}

/* J11, C11: what only a new disk brings gives the model a revision; what is not known is up to date until then. */
static void test_revision(void **state)
{
    g_autoptr(World) world = new_world();

    assert_true(define(world, MODEL("shop", "fake"), NULL));
    check_behind(world, 1, 0, FALSE);
    assert_true(define(world, MODEL("shop", "fake") "stop: {force: true}\n", NULL));
    check_behind(world, 1, 0, FALSE);
    assert_true(define(world, FULL("fake"), NULL));
    check_behind(world, 2, 0, TRUE);
    check_behind(world, 2, 1, TRUE);
    check_behind(world, 2, 2, FALSE);
    assert_true(define(world, FULL(FAKE_UUID), NULL));
    check_behind(world, 2, 0, TRUE); /* it was in the set all the time */
    assert_true(define(world, MODEL("shop", "fake"), NULL));
    check_behind(world, 3, 2, TRUE);
    make_unreadable(vr_journal_db(world->journal));
    assert_true(define(world, MODEL("shop", "fake"), NULL));
    check_behind(world, 4, 3, TRUE);
}

/* An instance that comes later is not held to what was edited before; one whose disk was made by an older model is. */
static void test_revision_of_a_newcomer(void **state)
{
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);

    assert_true(define(world, MODEL("shop", "fake"), NULL));
    assert_true(define(world, FULL("fake"), NULL));
    run_sql(db, "DELETE FROM instances");
    assert_true(define(world, FULL("fake"), NULL));
    check_behind(world, 2, 0, FALSE);
    check_behind(world, 2, 1, TRUE);
    /* no generation of another set's times is ever ahead of an edit */
    world->model_revision = 9;
    world_swap(world, -1);
    assert_true(define(world, MODEL("shop", "fake"), NULL));
    check_behind(world, 10, 9, TRUE);
}

/* A store that an older program wrote. */
static void test_old_tables(void **state)
{
    static const char *const columns[] = {"ALTER TABLE sets DROP COLUMN revision",
                                          "ALTER TABLE instances DROP COLUMN joined_revision",
                                          "ALTER TABLE run_instances DROP COLUMN image",
                                          "ALTER TABLE run_instances DROP COLUMN version",
                                          "ALTER TABLE sets DROP COLUMN current_image",
                                          "ALTER TABLE sets DROP COLUMN current_version",
                                          "ALTER TABLE runs DROP COLUMN role",
                                          "ALTER TABLE instances DROP COLUMN protected_us",
                                          "ALTER TABLE instances DROP COLUMN protected_reason",
                                          "DROP TABLE extensions",
                                          "ALTER TABLE runs DROP COLUMN tallied",
                                          "DROP TABLE run_tallies",
                                          "DROP TABLE span_tallies",
                                          "ALTER TABLE runs DROP COLUMN request_id",
                                          "DROP TABLE notice_deliveries",
                                          "DROP TABLE notice_channels",
                                          "DROP TABLE notices",
                                          "ALTER TABLE sets DROP COLUMN automatic",
                                          "ALTER TABLE sets DROP COLUMN automatic_us",
                                          "ALTER TABLE sets DROP COLUMN automatic_reason",
                                          "ALTER TABLE sets DROP COLUMN word_run",
                                          "ALTER TABLE sets DROP COLUMN tried_image",
                                          "ALTER TABLE sets DROP COLUMN tried_version",
                                          "ALTER TABLE sets DROP COLUMN tried_text",
                                          "ALTER TABLE sets DROP COLUMN tried_us",
                                          "ALTER TABLE runs DROP COLUMN automatic"};
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);

    assert_true(define(world, MODEL("shop", "fake"), NULL));
    for (guint i = 0; i < G_N_ELEMENTS(columns); i++)
        run_sql(db, columns[i]);
    run_sql(db, "UPDATE schema_versions SET version = 2 WHERE folder = 'orchestrator'");
    assert_null(vr_registry_get(db, "shop", NULL));
    assert_true(vr_registry_init(db, NULL));
    check_behind(world, 1, 0, FALSE);
    assert_true(define(world, FULL("fake"), NULL));
    check_behind(world, 2, 0, TRUE);
}

static void protect(World *world, gint64 since_us, const char *reason)
{
    g_autoptr(VrSet) set = get(world);
    g_autoptr(GArray) indices = g_array_new(FALSE, TRUE, sizeof(guint));

    g_array_set_size(indices, 1);
    assert_true(vr_registry_protect(world->journal, world->owner, set, indices, since_us, reason, NULL));
}

static void check_protected(World *world, gint64 since_us, const char *reason, gboolean by_model)
{
    g_autoptr(VrSet) set = get(world);
    const VrInstance *instance = g_ptr_array_index(set->instances, 0);

    assert_int_equal(instance->protected_us, since_us);
    assert_int_equal(g_strcmp0(instance->protected_reason, reason), 0);
    assert_int_equal(instance->model_protects, by_model);
    assert_int_equal(instance->is_protected, by_model || since_us > 0);
}

#define GUARDED "fake, protectionPolicy: {protectFromScaleSetActions: true}"

/* G7: by a command, by the model, by both; it stays when the set is defined anew, and goes with the set. */
static void test_protect(void **state)
{
    g_autoptr(World) world = new_world();

    assert_true(define(world, MODEL("shop", "fake"), NULL));
    check_protected(world, 0, NULL, FALSE);
    protect(world, 4711, "repair");
    check_protected(world, 4711, "repair", FALSE);
    assert_true(define(world, MODEL("shop", GUARDED), NULL));
    check_protected(world, 4711, "repair", TRUE);
    protect(world, 0, NULL);
    check_protected(world, 0, NULL, TRUE);
    protect(world, 4712, NULL);
    assert_true(vr_registry_undefine(world->journal, world->owner, "shop", NULL));
    assert_true(define(world, MODEL("shop", "fake"), NULL));
    check_protected(world, 0, NULL, FALSE);
}

/* What a newer program defined is refused by name, and known to those who can go on without its model. */
static void test_unreadable(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);
    g_autoptr(VrSet) set = NULL;

    assert_true(define(world, MODEL("shop", "fake"), &error));
    make_unreadable(db);
    assert_null(vr_registry_get(db, "shop", &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    assert_non_null(strstr(error->message, "'shop'"));
    assert_non_null(strstr(error->message, "newer"));
    assert_non_null(strstr(error->message, "set-dump"));
    g_clear_error(&error);
    set = vr_registry_get_any(db, "shop", &error);
    assert_non_null(set);
    assert_null(set->model);
    assert_non_null(strstr(set->unreadable, "newer"));
    assert_int_equal(set->instances->len, 1);
    assert_null(vr_registry_get_any(db, "other", &error));
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_NOT_FOUND));
    g_clear_error(&error);
    assert_true(vr_registry_undefine(world->journal, world->owner, "shop", &error));
}

static VrRun *new_run(void)
{
    VrRun *run = g_new0(VrRun, 1);
    VrRunInstance *instance = g_new0(VrRunInstance, 1);

    run->set_name = g_strdup("shop");
    run->kind = VR_RUN_UPGRADE;
    run->image = g_strdup("os");
    run->version = g_strdup("2.0.0");
    run->started_by = g_strdup("ada");
    run->reason = g_strdup("CVE");
    run->instances = vr_run_instances_new();
    g_strlcpy(instance->uuid, FAKE_UUID, sizeof(instance->uuid));
    instance->domain = g_strdup("fake");
    g_ptr_array_add(run->instances, instance);
    return run;
}

static void test_runs(void **state) /* J1 J4 */
{
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);
    g_autoptr(VrRun) run = new_run();
    g_autoptr(VrRun) killed = new_run();
    g_autoptr(VrRun) read = NULL;
    VrRunInstance *instance = g_ptr_array_index(run->instances, 0);
    guint closed = 0;

    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    instance->phase = VR_PHASE_COMMITTED;
    instance->batch = 1;
    assert_true(vr_history_instance(world->journal, world->owner, run->id, instance, NULL));
    run->status = VR_RUN_COMPLETED;
    run->completed_us = run->started_us + 1;
    assert_true(vr_history_end(world->journal, world->owner, run, NULL));
    read = vr_history_last(db, "shop", NULL);
    assert_string_equal(read->started_by, "ada");
    assert_string_equal(read->reason, "CVE");
    assert_int_equal(read->status, VR_RUN_COMPLETED);
    assert_int_equal(((VrRunInstance *)read->instances->pdata[0])->phase, VR_PHASE_COMMITTED);

    assert_true(vr_history_begin(world->journal, world->owner, killed, NULL));
    assert_true(vr_history_close_open(world->journal, world->owner, VR_CODE_INTERNAL, "killed", &closed, NULL));
    assert_int_equal(closed, 1);
    vr_run_free(read);
    read = vr_history_get(db, "shop", killed->id, NULL);
    assert_int_equal(read->status, VR_RUN_FAULTED);
    assert_string_equal(read->error_code, VR_CODE_INTERNAL);
}

static void settle(World *world, VrRunKind kind, VrRunStatus status, const char *role, const char *version)
{
    g_autoptr(VrSet) set = get(world);
    g_autoptr(VrRun) run = new_run();

    run->kind = kind;
    run->status = status;
    run->role = g_strdup(role);
    g_free(run->version);
    run->version = g_strdup(version);
    assert_true(vr_current_version_settle(world->journal, world->owner, set, run, NULL));
}

static void check_current(World *world, const char *version)
{
    g_autoptr(VrSet) set = get(world);

    assert_int_equal(g_strcmp0(set->current_version, version), 0);
    assert_int_equal(g_strcmp0(set->current_image, version ? "os" : NULL), 0);
}

/* D29: it moves on with an upgrade of all that completes, and goes back when nobody is left on it. */
static void test_current_version(void **state)
{
    g_autoptr(World) world = new_world();

    assert_true(define(world, MODEL("shop", "fake"), NULL));
    check_current(world, NULL);
    settle(world, VR_RUN_UPGRADE, VR_RUN_COMPLETED, NULL, "2.0.0");
    check_current(world, "2.0.0");
    settle(world, VR_RUN_UPGRADE, VR_RUN_COMPLETED, "web", "3.0.0");
    settle(world, VR_RUN_UPGRADE, VR_RUN_FAULTED, NULL, "3.0.0");
    settle(world, VR_RUN_UPGRADE, VR_RUN_CANCELLED, NULL, "3.0.0");
    settle(world, VR_RUN_REIMAGE, VR_RUN_COMPLETED, NULL, "3.0.0");
    settle(world, VR_RUN_APPLY, VR_RUN_COMPLETED, NULL, "3.0.0");
    check_current(world, "2.0.0");
    assert_true(define(world, FULL("fake"), NULL)); /* an edit is no run */
    check_current(world, "2.0.0");

    world_swap(world, -1); /* to os 2.0.0, from what is not known */
    settle(world, VR_RUN_ROLLBACK, VR_RUN_COMPLETED, NULL, NULL);
    check_current(world, "2.0.0");
    settle(world, VR_RUN_UPGRADE, VR_RUN_COMPLETED, NULL, "3.0.0");
    settle(world, VR_RUN_ROLLBACK, VR_RUN_FAULTED, NULL, NULL);
    check_current(world, "3.0.0");
    settle(world, VR_RUN_ROLLBACK, VR_RUN_COMPLETED, NULL, NULL);
    check_current(world, "2.0.0");
    world_swap(world, 0);
    settle(world, VR_RUN_ROLLBACK, VR_RUN_COMPLETED, NULL, NULL);
    check_current(world, NULL);
}

static void test_spread(void **state) /* J10 */
{
    gint64 values[20], none[] = {-1, -1}, one[] = {-1, 7};
    VrSpread spread;

    for (guint i = 0; i < 20; i++)
        values[i] = 20 - i;
    spread = vr_spread_of(values, 20);
    assert_int_equal(spread.p50, 10);
    assert_int_equal(spread.p95, 19);
    assert_int_equal(spread.max, 20);
    assert_int_equal(vr_spread_of(none, 2).max, -1);
    spread = vr_spread_of(one, 2);
    assert_int_equal(spread.p50, 7);
    assert_int_equal(spread.count, 1);
}

/* B21: two instances of whom one leaves; the fake hypervisor has one domain, so the other one is written by hand. */
static void test_leave(void **state)
{
    static const char both[] = MODEL("shop", "fake") "- {domain: other, address: 10.0.0.7}\n";
    g_autoptr(World) world = new_world();
    VrDb *db = vr_journal_db(world->journal);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSet) set = NULL, after = NULL;

    assert_true(define(world, MODEL("shop", "fake"), NULL));
    assert_true(vr_owner_begin(world->journal, world->owner, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "UPDATE sets SET text = ?", "s", both));
    assert_true(vr_db_run(db, NULL, NULL,
                          "INSERT INTO instances (uuid, set_name, domain, ordinal, upgrade_domain) VALUES "
                          "('u2', 'shop', 'other', 1, 0)",
                          ""));
    assert_true(vr_db_commit(db, NULL));
    set = vr_registry_get(db, "shop", NULL);
    assert_true(vr_owner_begin(world->journal, world->owner, NULL));
    assert_true(vr_registry_leave(db, set, set->instances->pdata[0], MODEL("shop", "other"), NULL));
    assert_false(vr_registry_leave(db, set, set->instances->pdata[1], NULL, &error)); /* it is not what was read */
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_CONFLICT));
    assert_true(vr_db_commit(db, NULL));
    after = vr_registry_get(db, "shop", NULL);
    assert_int_equal(after->instances->len, 1);
    assert_string_equal(((const VrInstance *)after->instances->pdata[0])->domain, "other");
    assert_true(vr_owner_begin(world->journal, world->owner, NULL));
    assert_true(vr_registry_leave(db, after, after->instances->pdata[0], NULL, NULL)); /* the last one */
    assert_true(vr_db_commit(db, NULL));
    assert_null(vr_registry_get(db, "shop", NULL));
    assert_true(define(world, MODEL("shop", "fake"), NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_define),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_undefine),
        cmocka_unit_test(test_revision),
        cmocka_unit_test(test_revision_of_a_newcomer),
        cmocka_unit_test(test_old_tables),
        cmocka_unit_test(test_protect),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_leave),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_current_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
