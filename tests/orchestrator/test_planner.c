/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many go together, and who first: batches in percent, upgrade domains, places. */
#include "orchestrator/planner_sets.h"

/* D1, decision 1: the documents' own numbers. */
static void test_allowed(void **state)
{
    static const struct {
        guint total, percent, allowed;
    } rows[] = {
        {0, 20, 0},    {1, 20, 1},    {4, 20, 1},        {5, 20, 1},    {9, 20, 1},
        {10, 20, 2},   {14, 20, 2},   {15, 20, 3},       {100, 20, 20}, {5, 5, 1},
        {10, 100, 10}, {1000, 5, 50}, {10, 25, 2},       {19, 5, 1},    {20, 5, 1},
        {40, 5, 2},    {39, 5, 1},    {10000, 20, 2000}, {3, 100, 3},   {4000000000u, 100, 4000000000u},
        {7, 34, 2},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_int_equal(vr_planner_allowed(rows[i].total, rows[i].percent), rows[i].allowed);
}

/* D7, decision 11: 10 -> 2 each, 14 -> 3,3,3,3,2. */
static void test_upgrade_domains(void **state)
{
    guint of_10[5] = {0}, of_14[5] = {0};
    static const guint want_14[5] = {3, 3, 3, 3, 2};

    for (guint i = 0; i < 10; i++)
        of_10[vr_planner_upgrade_domain(i, 5)]++;
    for (guint i = 0; i < 14; i++)
        of_14[vr_planner_upgrade_domain(i, 5)]++;
    for (guint d = 0; d < 5; d++) {
        assert_int_equal(of_10[d], 2);
        assert_int_equal(of_14[d], want_14[d]);
    }
    assert_int_equal(vr_planner_upgrade_domain(7, 0), 0);
}

/* D7, D8, decision 11: 8 web and 9 worker instances over two domains, whatever their order: 4 and 4, 5 and 4. */
static void test_roles_over_domains(void **state)
{
    VrLabel roles[17];
    guint domains[17], spread[3][2] = {{0}};

    for (guint i = 0; i < 17; i++)
        roles[i] = i % 2 == 1 ? (VrLabel){"web", 1} : (VrLabel){"worker", 2};
    vr_planner_spread(roles, 17, 2, domains);
    for (guint i = 0; i < 17; i++)
        spread[roles[i].number][domains[i]]++;
    assert_int_equal(spread[1][0], 4);
    assert_int_equal(spread[1][1], 4);
    assert_int_equal(spread[2][0], 5);
    assert_int_equal(spread[2][1], 4);
    assert_int_equal(domains[0], 0);
    assert_int_equal(domains[1], 0);
    assert_int_equal(domains[2], 1);
    memset(roles, 0, sizeof(roles)); /* without roles all are of one kind */
    vr_planner_spread(roles, 14, 5, domains);
    for (guint i = 0; i < 14; i++)
        assert_int_equal(domains[i], i % 5);
}

/* D1: five or fewer go one by one, lowest domain first. */
static void test_five(void **state)
{
    g_autofree VrCandidate *set = set_of(5, 5);
    g_autoptr(GPtrArray) plan = vr_planner_plan(&defaults, set, 5, FALSE, NULL);

    assert_int_equal(plan->len, 5);
    for (guint i = 0; i < 5; i++) {
        const VrBatch *batch = plan->pdata[i];

        EXPECT(batch, i);
        assert_int_equal(batch->upgrade_domain, i);
        assert_int_equal(batch->places, 0);
    }
    assert_string_equal(((VrBatch *)plan->pdata[0])->reason, "UD 0: 1 of 5 (20%)");
}

/* D1, D27: 10 of five domains -> 2 each; a batch crosses no domain. */
static void test_ten(void **state)
{
    g_autofree VrCandidate *set = set_of(10, 5);
    g_autoptr(GPtrArray) plan = vr_planner_plan(&defaults, set, 10, FALSE, NULL);

    assert_int_equal(plan->len, 5);
    for (guint d = 0; d < 5; d++)
        EXPECT((VrBatch *)plan->pdata[d], d, d + 5);
}

/* 14 in five domains: batches of 2 at most, so 2+1 in the domains of three. */
static void test_fourteen(void **state)
{
    g_autofree VrCandidate *set = set_of(14, 5);
    g_autoptr(GPtrArray) plan = vr_planner_plan(&defaults, set, 14, FALSE, NULL);

    assert_int_equal(plan->len, 9);
    EXPECT((VrBatch *)plan->pdata[0], 0, 5);
    EXPECT((VrBatch *)plan->pdata[1], 10);
    EXPECT((VrBatch *)plan->pdata[8], 4, 9);
}

/* D18: skipped ones are not planned, but count in the size of the set. */
static void test_skipped(void **state)
{
    g_autofree VrCandidate *set = set_of(10, 1);
    g_autoptr(VrBatch) batch = NULL;
    VrPlannerBlock block = {VR_BLOCK_PLACE, 0};

    for (guint i = 0; i < 9; i++)
        set[i].status = i % 2 == 0 ? VR_CANDIDATE_SKIPPED : VR_CANDIDATE_DONE;
    batch = vr_planner_next_batch(&defaults, set, 10, FALSE, &block);
    EXPECT(batch, 9);
    assert_int_equal(batch->places, 1);
    assert_int_equal(block.kind, VR_BLOCK_NONE);
    set[9].status = VR_CANDIDATE_DONE;
    block.kind = VR_BLOCK_PLACE;
    assert_null(vr_planner_next_batch(&defaults, set, 10, FALSE, &block));
    assert_int_equal(block.kind, VR_BLOCK_NONE);
    assert_null(vr_planner_next_batch(&defaults, NULL, 0, FALSE, NULL));
}

/* D12: the down ones first, their domain first; they hold their own places. */
static void test_unhealthy_first(void **state)
{
    g_autofree VrCandidate *set = set_of(20, 5);
    g_autoptr(VrBatch) batch = NULL, plain = NULL;
    VrUpgradePolicy policy = defaults;

    set[13].down = TRUE; /* UD 3: 3, 8, 13, 18 */
    set[19].down = TRUE; /* UD 4 */
    batch = vr_planner_next_batch(&policy, set, 20, FALSE, NULL);
    EXPECT(batch, 13, 3, 8); /* 4 may be down: 13 and 19 are, two more go with 13 */
    assert_int_equal(batch->upgrade_domain, 3);
    assert_int_equal(batch->places, 0);
    assert_string_equal(batch->reason, "UD 3: 3 of 20 (15%), unhealthy first, not 4: 1 down elsewhere");
    policy.prioritize_unhealthy = FALSE;
    plain = vr_planner_next_batch(&policy, set, 20, FALSE, NULL);
    EXPECT(plain, 0, 5);
}

/* D6, decision 2: a down instance elsewhere holds a place. */
static void test_shrinks(void **state)
{
    g_autofree VrCandidate *set = set_of(20, 2);
    g_autoptr(VrBatch) batch = NULL;
    VrPlannerBlock block;

    set[1].down = set[3].down = set[5].down = TRUE;
    set[1].status = set[3].status = set[5].status = VR_CANDIDATE_SKIPPED;
    batch = vr_planner_next_batch(&defaults, set, 20, FALSE, NULL);
    EXPECT(batch, 0);
    assert_string_equal(batch->reason, "UD 0: 1 of 20 (5%), not 4: 3 down elsewhere");
    set[7].down = TRUE;
    set[7].status = VR_CANDIDATE_DONE;
    assert_null(vr_planner_next_batch(&defaults, set, 20, FALSE, &block));
    assert_int_equal(block.kind, VR_BLOCK_PLACE);
}

/* G7, decision 2: a protected instance that is down holds no place, unless the run has moved it; its role and its pair know that it
 * is down. */
static void test_protected_holds_no_place(void **state)
{
    g_autofree VrCandidate *set = set_of(10, 1);
    g_autoptr(VrBatch) batch = NULL, named = NULL, moved = NULL;
    VrPlannerBlock block;

    for (guint i = 7; i < 10; i++) {
        set[i].down = set[i].is_protected = TRUE;
        set[i].status = VR_CANDIDATE_SKIPPED;
    }
    batch = vr_planner_next_batch(&defaults, set, 10, FALSE, NULL);
    EXPECT(batch, 0, 1);
    assert_false(vr_planner_holds_place(&set[9]));
    set[9].status = VR_CANDIDATE_PENDING; /* it was named: it goes first, and the healthy one needs a place */
    named = vr_planner_next_batch(&defaults, set, 10, FALSE, NULL);
    EXPECT(named, 9, 0);
    set[9].status = VR_CANDIDATE_DONE;
    assert_true(vr_planner_holds_place(&set[9]));
    moved = vr_planner_next_batch(&defaults, set, 10, FALSE, NULL);
    EXPECT(moved, 0);
    for (guint i = 0; i < 10; i++) {
        set[i].status = i == 0 ? VR_CANDIDATE_PENDING : VR_CANDIDATE_SKIPPED;
        set[i].role = i == 0 || i == 9 ? (VrLabel){"web", 1} : (VrLabel){0};
    }
    assert_null(vr_planner_next_batch(&defaults, set, 10, FALSE, &block));
    assert_int_equal(block.kind, VR_BLOCK_ROLE);
}

/* Decision 2: an instance that is down itself needs no new place, but above the limit nothing goes. */
static void test_down_needs_no_place(void **state)
{
    g_autofree VrCandidate *set = set_of(5, 5);
    g_autoptr(VrBatch) batch = NULL, plain = NULL;
    VrUpgradePolicy policy = defaults;
    VrPlannerBlock block;

    set[3].down = TRUE;
    batch = vr_planner_next_batch(&policy, set, 5, FALSE, NULL);
    EXPECT(batch, 3);
    policy.prioritize_unhealthy = FALSE; /* nothing else could go: the domain order does not hold it up */
    plain = vr_planner_next_batch(&policy, set, 5, FALSE, NULL);
    EXPECT(plain, 3);
    set[4].down = TRUE;
    assert_null(vr_planner_next_batch(&policy, set, 5, FALSE, &block));
    assert_int_equal(block.kind, VR_BLOCK_PLACE);
}

/* Decision 14: of fifteen of which three run, one at a time, and not as many as there are; the others go beside it and take no place. */
static void test_off_is_not_counted(void **state)
{
    g_autofree VrCandidate *set = set_of(15, 1);
    g_autoptr(VrBatch) first = NULL, shrunk = NULL, all_off = NULL;

    for (guint i = 0; i < 15; i++)
        set[i].off = i >= 3;
    first = vr_planner_next_batch(&defaults, set, 15, FALSE, NULL);
    EXPECT(first, 0, 3, 4);
    set[2].down = TRUE;
    set[2].status = VR_CANDIDATE_SKIPPED; /* it holds the only place */
    shrunk = vr_planner_next_batch(&defaults, set, 15, FALSE, NULL);
    EXPECT(shrunk, 3, 4, 5);
    for (guint i = 0; i < 15; i++)
        set[i] = (VrCandidate){.off = TRUE};
    all_off = vr_planner_next_batch(&defaults, set, 15, FALSE, NULL);
    EXPECT(all_off, 0, 1, 2);
}

/* Decision 6: for a rollback held places do not shrink a batch, and the unhealthy go first. */
static void test_ignores_limits(void **state)
{
    g_autofree VrCandidate *set = set_of(20, 2);
    g_autoptr(VrBatch) batch = NULL;
    VrUpgradePolicy policy = defaults;

    policy.prioritize_unhealthy = FALSE;
    for (guint i = 10; i < 20; i++)
        set[i].down = TRUE;
    set[10].status = VR_CANDIDATE_DONE;
    batch = vr_planner_next_batch(&policy, set, 20, TRUE, NULL);
    EXPECT(batch, 12, 14, 16, 18);
    assert_string_equal(batch->reason,
                        "UD 0: 4 of 20 (20%), unhealthy first, although 10 are down and at most 4 may be");
}

/* A plan ends where nothing more can go. */
/* D24: a host has its own limit, in a rollback too; it makes no batch larger. */
static void test_in_flight(void **state)
{
    g_autofree VrCandidate *set = set_of(20, 1);
    VrUpgradePolicy policy = defaults;
    g_autoptr(VrBatch) batch = NULL, back = NULL, domain = NULL, small = NULL;

    policy.max_in_flight = 3;
    batch = vr_planner_next_batch(&policy, set, 20, FALSE, NULL);
    EXPECT(batch, 0, 1, 2);
    assert_string_equal(batch->reason, "UD 0: 3 of 20 (15%), not 4: at most 3 of a host may be on their way");
    back = vr_planner_next_batch(&policy, set, 20, TRUE, NULL);
    EXPECT(back, 0, 1, 2);
    policy.by_domain = TRUE;
    domain = vr_planner_next_batch(&policy, set, 20, FALSE, NULL);
    EXPECT(domain, 0, 1, 2);
    policy.by_domain = FALSE;
    policy.max_in_flight = 7;
    small = vr_planner_next_batch(&policy, set, 20, FALSE, NULL);
    EXPECT(small, 0, 1, 2, 3);
    assert_string_equal(small->reason, "UD 0: 4 of 20 (20%)");
}

static void test_plan_ends(void **state)
{
    g_autofree VrCandidate *set = set_of(5, 5);
    g_autoptr(GPtrArray) plan = NULL;

    set[2].down = TRUE;
    set[2].status = VR_CANDIDATE_SKIPPED;
    plan = vr_planner_plan(&defaults, set, 5, FALSE, NULL);
    assert_int_equal(plan->len, 0);
}

/* L2: a thousand in well under a second, every one once, and ten thousand not out of proportion. */
static void test_large(void **state)
{
    static const guint sizes[] = {1000, 10000};

    for (guint s = 0; s < G_N_ELEMENTS(sizes); s++) {
        g_autofree VrCandidate *set = set_of(sizes[s], 20);
        g_autofree gboolean *seen = g_new0(gboolean, sizes[s]);
        gint64 began = g_get_monotonic_time();
        g_autoptr(GPtrArray) plan = vr_planner_plan(&defaults, set, sizes[s], FALSE, NULL);
        guint total = 0;

        assert_true(g_get_monotonic_time() - began < 1000000);
        for (guint b = 0; b < plan->len; b++) {
            const VrBatch *batch = plan->pdata[b];

            total += batch->members->len;
            for (guint k = 0; k < batch->members->len; k++)
                seen[g_array_index(batch->members, guint, k)] = TRUE;
        }
        assert_int_equal(total, sizes[s]);
        for (guint i = 0; i < sizes[s]; i++)
            assert_true(seen[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_upgrade_domains),
        cmocka_unit_test(test_roles_over_domains),
        cmocka_unit_test(test_five),
        cmocka_unit_test(test_ten),
        cmocka_unit_test(test_fourteen),
        cmocka_unit_test(test_skipped),
        cmocka_unit_test(test_unhealthy_first),
        cmocka_unit_test(test_shrinks),
        cmocka_unit_test(test_protected_holds_no_place),
        cmocka_unit_test(test_down_needs_no_place),
        cmocka_unit_test(test_ignores_limits),
        cmocka_unit_test(test_off_is_not_counted),
        cmocka_unit_test(test_in_flight),
        cmocka_unit_test(test_plan_ends),
        cmocka_unit_test(test_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
