/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The set of the executor's tests, over the engine's test world. */
#pragma once

#include "engine/support.h"

#include "orchestrator/registry.h"

#include <string.h>

/* Defines the set "shop" of a model in a world and reads it back. Its health is asked more often than a model may say, so that tests are
 * quick. Owned by the caller. */
static inline VrSet *shop_define(World *world, const char *model_text)
{
    g_autoptr(VrModel) model = vr_model_parse(model_text, strlen(model_text), "shop.yaml", NULL);
    VrDb *db = vr_journal_db(world->journal);
    VrSet *set;

    g_assert_nonnull(model);
    g_assert_true(vr_registry_init(db, NULL));
    g_assert_true(
        vr_registry_define(world->journal, world->owner, &world->fake->hv, model, model_text, "shop.yaml", NULL));
    set = vr_registry_get(db, "shop", NULL);
    g_assert_nonnull(set);
    set->model->health.interval_ms = 20;
    return set;
}
