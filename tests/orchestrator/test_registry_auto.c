/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the registry and the history keep of upgrades that begin by themselves. Rows G6, H1, J4, decision 5. */
#include "orchestrator/shop.h"

#include "base/error.h"
#include "orchestrator/version_past.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SET "schemaVersion: 1\nname: shop\nimageReference: {name: os}\ninstances:\n- {domain: fake}\n"
#define HEALTH "healthProfile: {applicationHealth: {protocol: tcp, port: 22}}\n"
#define ON "upgradePolicy: {automaticOSUpgradePolicy: {enableAutomaticOSUpgrade: true}}\n"

static VrSet *get(World *world)
{
    VrSet *set = vr_registry_get(vr_journal_db(world->journal), "shop", NULL);

    assert_non_null(set);
    return set;
}

static World *new_world(const char *model)
{
    World *world = world_new(TRUE);

    vr_set_free(shop_define(world, model));
    return world;
}

static void say(World *world, VrSetAuto automatic, const char *reason)
{
    g_autoptr(VrSet) set = get(world);

    assert_true(vr_registry_set_auto(world->journal, set, automatic, reason, "root", NULL));
}

static void check_automatic(World *world, gboolean automatic)
{
    g_autoptr(VrSet) set = get(world);

    assert_int_equal(vr_set_is_automatic(set), automatic);
}

/* G6: a command beats the model, until 'model' is said. */
static void test_set_auto(void **state)
{
    g_autoptr(World) world = new_world(SET HEALTH);
    g_autoptr(VrSet) set = NULL;

    check_automatic(world, FALSE);
    say(world, VR_SET_AUTO_ON, "why not");
    check_automatic(world, TRUE);
    vr_set_free(shop_define(world, SET HEALTH)); /* anew: the command's word stays */
    check_automatic(world, TRUE);
    vr_set_free(shop_define(world, SET HEALTH ON));
    say(world, VR_SET_AUTO_OFF, NULL);
    check_automatic(world, FALSE);
    say(world, VR_SET_AUTO_AS_MODEL, NULL);
    check_automatic(world, TRUE);
    say(world, VR_SET_AUTO_OFF, "sale");
    set = get(world);
    assert_string_equal(set->automatic_reason, "sale");
    assert_true(set->automatic_us > 0);
    assert_true(vr_registry_undefine(world->journal, world->owner, "shop", NULL));
    assert_false(vr_registry_set_auto(world->journal, set, VR_SET_AUTO_ON, NULL, "root", NULL));
}

static void try_it(World *world, const char *version, const char *text)
{
    g_autoptr(VrSet) set = get(world);

    assert_true(vr_registry_tried(world->journal, world->owner, set, "os", version, text, NULL));
}

static void check_tried(World *world, const char *version)
{
    g_autoptr(VrSet) set = get(world);

    if (version)
        assert_string_equal(set->tried_version, version);
    else
        assert_null(set->tried_version);
}

/* H1: what was tried stays tried until a person says something; the same model again is nothing said. */
static void test_tried(void **state)
{
    g_autoptr(World) world = new_world(SET HEALTH ON);
    g_autoptr(VrSet) set = NULL;

    check_tried(world, NULL);
    try_it(world, "2.0.0", NULL);
    try_it(world, "2.0.0", "no room");
    vr_set_free(shop_define(world, SET HEALTH ON));
    check_tried(world, "2.0.0");
    set = get(world);
    assert_string_equal(set->tried_text, "no room");
    assert_true(set->tried_us > 0);
    vr_set_free(shop_define(world, SET HEALTH ON "stop: {force: true}\n"));
    check_tried(world, NULL);
    try_it(world, "2.0.0", NULL);
    say(world, VR_SET_AUTO_ON, NULL);
    check_tried(world, NULL);
    try_it(world, "2.0.0", NULL);
    assert_true(vr_registry_word(world->journal, world->owner, set, NULL)); /* retry */
    check_tried(world, NULL);
}

static char *add_run(World *world, VrRunKind kind, const char *version, VrRunStatus status, gboolean automatic)
{
    g_autoptr(VrRun) run = g_new0(VrRun, 1);

    run->set_name = g_strdup("shop");
    run->kind = kind;
    run->image = g_strdup(version ? "os" : NULL);
    run->version = g_strdup(version);
    run->started_by = g_strdup("root");
    run->automatic = automatic;
    run->instances = vr_run_instances_new();
    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    run->status = status;
    run->completed_us = status == VR_RUN_ROLLING_FORWARD ? 0 : run->started_us + 1;
    run->error_code = g_strdup(status == VR_RUN_FAULTED ? VR_CODE_INTERNAL : NULL);
    assert_true(vr_history_end(world->journal, world->owner, run, NULL));
    return g_strdup(run->id);
}

/* Does an end of a run to 2.0.0 stand in the way of the next one? */
static void check_ended(World *world, const char *id)
{
    g_autoptr(VrSet) set = get(world);
    g_auto(VrVersionPast) past = {0};

    assert_true(vr_version_past_read(world->journal, set, "os", "2.0.0", &past, NULL));
    assert_null(past.failed_run);
    if (id)
        assert_string_equal(past.ended_run, id);
    else
        assert_null(past.ended_run);
}

/* H1: of those since a person's word, one that began by itself, or that a person's word ended. */
static void test_ends(void **state)
{
    static const struct {
        VrRunKind kind;
        const char *version;
        VrRunStatus status;
        gboolean automatic, ended;
    } rows[] = {
        {VR_RUN_UPGRADE, "2.0.0", VR_RUN_COMPLETED, FALSE, FALSE},
        {VR_RUN_UPGRADE, "2.0.0", VR_RUN_CANCELLED, FALSE, TRUE},
        {VR_RUN_UPGRADE, "2.0.0", VR_RUN_FAULTED, FALSE, TRUE},
        {VR_RUN_UPGRADE, "2.0.0", VR_RUN_COMPLETED, TRUE, TRUE},
        {VR_RUN_UPGRADE, "2.0.0", VR_RUN_CANCELLED, TRUE, TRUE},
        {VR_RUN_UPGRADE, "2.0.0", VR_RUN_FAULTED, TRUE, TRUE},
        {VR_RUN_UPGRADE, "1.0.0", VR_RUN_CANCELLED, TRUE, FALSE},
        {VR_RUN_REIMAGE, "2.0.0", VR_RUN_CANCELLED, FALSE, FALSE},
        {VR_RUN_APPLY, "2.0.0", VR_RUN_FAULTED, FALSE, FALSE},
        {VR_RUN_ROLLBACK, NULL, VR_RUN_CANCELLED, FALSE, FALSE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(World) world = new_world(SET HEALTH ON);
        g_autofree char *id = add_run(world, rows[i].kind, rows[i].version, rows[i].status, rows[i].automatic);

        check_ended(world, rows[i].ended ? id : NULL);
        say(world, VR_SET_AUTO_ON, NULL);
        check_ended(world, NULL);
    }
}

/* G6: what is said while a run is open does not free the way for the next one after it. */
static void test_word_during_a_run(void **state)
{
    g_autoptr(World) world = new_world(SET HEALTH ON);
    g_autofree char *first = add_run(world, VR_RUN_UPGRADE, "2.0.0", VR_RUN_CANCELLED, TRUE);
    g_autofree char *id = add_run(world, VR_RUN_UPGRADE, "2.0.0", VR_RUN_ROLLING_FORWARD, TRUE);
    g_autoptr(VrRun) run = vr_history_get(vr_journal_db(world->journal), "shop", id, NULL);

    assert_true(run->automatic); /* J4 */
    check_ended(world, NULL);
    say(world, VR_SET_AUTO_ON, NULL);
    run->status = VR_RUN_CANCELLED;
    run->completed_us = run->started_us + 1;
    assert_true(vr_history_end(world->journal, world->owner, run, NULL));
    check_ended(world, id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_set_auto), cmocka_unit_test(test_tried),
                                       cmocka_unit_test(test_ends), cmocka_unit_test(test_word_during_a_run)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
