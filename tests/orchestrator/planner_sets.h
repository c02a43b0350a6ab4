/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets and expectations for the tests of the planner. */
#pragma once

#include "orchestrator/planner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const VrUpgradePolicy defaults = {
    .max_batch_percent = 20,
    .max_unhealthy_percent = 20,
    .max_unhealthy_upgraded_percent = 20,
    .prioritize_unhealthy = TRUE,
    .automatic_rollback = TRUE,
};

static inline VrCandidate *set_of(guint count, guint domains)
{
    VrCandidate *set = g_new0(VrCandidate, count);

    for (guint i = 0; i < count; i++)
        set[i].upgrade_domain = vr_planner_upgrade_domain(i, domains);
    return set;
}

static inline void expect_members(const VrBatch *batch, guint count, const guint *members)
{
    assert_non_null(batch);
    assert_int_equal(batch->members->len, count);
    for (guint k = 0; k < count; k++)
        assert_int_equal(g_array_index(batch->members, guint, k), members[k]);
}
#define EXPECT(batch, ...) expect_members(batch, G_N_ELEMENTS(((guint[]){__VA_ARGS__})), (const guint[]){__VA_ARGS__})
