/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A store with the set 'shop' of one guest, and its outbox, for tests of notices (J7). */
#pragma once

#include "engine/support.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/outbox.h"
#include "orchestrator/registry.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

static inline VrDb *db_of(World *world)
{
    return vr_journal_db(world->journal);
}

static inline void run_sql(World *world, const char *sql)
{
    g_autoptr(GError) error = NULL;

    assert_true(vr_db_begin(db_of(world), NULL));
    vr_db_run(db_of(world), NULL, &error, sql, "");
    g_assert_no_error(error);
    assert_true(vr_db_commit(db_of(world), NULL));
}

static inline World *outbox_world(void)
{
    World *world = world_new(TRUE);

    assert_true(vr_registry_init(db_of(world), NULL));
    run_sql(world, "INSERT INTO sets (name, text, defined_us) VALUES ('shop', '', 1)");
    return world;
}

static inline gint64 number_of(World *world, const char *sql)
{
    gint64 number;

    assert_true(vr_db_begin_read(db_of(world), NULL));
    {
        g_autoptr(GError) error = NULL;
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db_of(world), &error, sql, "");
        g_assert_no_error(error);
        assert_int_equal(vr_db_step(db_of(world), stmt, NULL), 1);
        number = sqlite3_column_int64(stmt, 0);
    }
    vr_db_rollback(db_of(world));
    return number;
}

static inline char *submit_request(World *world)
{
    static const char *const instances[] = {"web-0", NULL};
    const VrOutboxRequest request = {.set_name = "shop",
                                     .operation = "upgrade",
                                     .user = "ada",
                                     .version = "2.0.0",
                                     .reason = "CVE",
                                     .instances = instances};
    g_autoptr(GError) error = NULL;
    char *id = NULL;

    assert_true(vr_outbox_submit(db_of(world), &request, &id, &error));
    assert_non_null(id);
    return id;
}

static inline VrRun *run_of_request(const char *request_id)
{
    VrRun *run = g_new0(VrRun, 1);
    VrRunInstance *instance = g_new0(VrRunInstance, 1);

    run->set_name = g_strdup("shop");
    run->kind = VR_RUN_UPGRADE;
    run->image = g_strdup("os");
    run->version = g_strdup("2.0.0");
    run->started_by = g_strdup("ada");
    run->reason = g_strdup("CVE");
    run->request_id = g_strdup(request_id);
    run->instances = vr_run_instances_new();
    g_strlcpy(instance->uuid, FAKE_UUID, sizeof(instance->uuid));
    instance->domain = g_strdup("fake");
    g_ptr_array_add(run->instances, instance);
    return run;
}

/* A run to its end. */
static inline void whole_run(World *world)
{
    g_autofree char *request = submit_request(world);
    g_autoptr(VrRun) run = run_of_request(request);
    VrRunInstance *instance = run->instances->pdata[0];

    assert_true(vr_history_begin(world->journal, world->owner, run, NULL));
    instance->phase = VR_PHASE_COMMITTED;
    assert_true(vr_history_instance(world->journal, world->owner, run->id, instance, NULL));
    run->status = VR_RUN_COMPLETED;
    run->completed_us = vr_clock_wall_us();
    assert_true(vr_history_end(world->journal, world->owner, run, NULL));
}

static inline GPtrArray *list_notices(World *world)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *notices = vr_outbox_list(db_of(world), NULL, &error);

    g_assert_no_error(error);
    return notices;
}

static inline json_t *body_of(const GPtrArray *notices, guint i)
{
    return json_loads(((const VrOutboxNotice *)notices->pdata[i])->body, 0, NULL);
}

#define assert_text(body, key, text) assert_string_equal(json_string_value(json_object_get(body, key)), text)
