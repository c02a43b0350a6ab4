/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a batch does not put together: roles, zones, phases, pairs; whole upgrade domains; what guests say. */
#include "orchestrator/planner_sets.h"

static const VrLabel web = {"web", 1}, worker = {"worker", 2}, zone_a = {"a", 1}, zone_b = {"b", 2}, pair = {"p", 1};

/* Nothing but labels limits a batch. */
static VrUpgradePolicy all_at_once(void)
{
    VrUpgradePolicy policy = defaults;

    policy.max_batch_percent = policy.max_unhealthy_percent = 100;
    return policy;
}

/* D9, decision 11: different zones never together, unless enableCrossZoneUpgrade. */
static void test_zones(void **state)
{
    g_autofree VrCandidate *set = set_of(8, 2);
    VrUpgradePolicy policy = all_at_once();
    g_autoptr(GPtrArray) plan = NULL, crossing = NULL;
    const VrBatch *second;

    for (guint i = 0; i < 8; i++)
        set[i].zone = i < 4 ? zone_b : zone_a; /* b has the higher number */
    plan = vr_planner_plan(&policy, set, 8, FALSE, NULL);
    assert_int_equal(plan->len, 4);
    EXPECT((VrBatch *)plan->pdata[0], 4, 6);
    second = plan->pdata[1];
    EXPECT(second, 0, 2); /* the domain is done before the next one begins */
    assert_string_equal(second->zone, "b");
    assert_string_equal(second->reason, "UD 0, zone b: 2 of 8 (25%)");
    EXPECT((VrBatch *)plan->pdata[2], 5, 7);
    policy.cross_zone = TRUE;
    crossing = vr_planner_plan(&policy, set, 8, FALSE, NULL);
    assert_int_equal(crossing->len, 2);
    EXPECT((VrBatch *)crossing->pdata[0], 0, 2, 4, 6);
    assert_null(((VrBatch *)crossing->pdata[0])->zone);
}

/* D8, D27: all roles of an upgrade domain go together; reasons name them. */
static void test_roles_share_domains(void **state)
{
    g_autofree VrCandidate *set = set_of(8, 2);
    VrUpgradePolicy policy = all_at_once();
    g_autoptr(VrBatch) batch = NULL;

    for (guint i = 0; i < 8; i++)
        set[i].role = i < 4 ? worker : web;
    batch = vr_planner_next_batch(&policy, set, 8, FALSE, NULL);
    EXPECT(batch, 0, 2, 4, 6);
    assert_string_equal(batch->reason, "UD 0, roles worker, web: 4 of 8 (50%)");
}

/* D8, D11: never the last that serves of a role of two or more; who is off on purpose serves nobody. */
static void test_last_of_a_role(void **state)
{
    g_autofree VrCandidate *set = set_of(4, 1);
    VrUpgradePolicy policy = all_at_once();
    g_autoptr(VrBatch) batch = NULL, with_off = NULL, single = NULL, down_first = NULL;
    VrPlannerBlock block;

    set[0].role = set[1].role = set[2].role = web;
    batch = vr_planner_next_batch(&policy, set, 4, FALSE, NULL);
    EXPECT(batch, 0, 1, 3);
    assert_string_equal(batch->reason, "UD 0, role web: 3 of 4 (75%), not 1 more: the last of their role that serve");
    set[1].off = TRUE; /* 0 and 2 are left of the role; 1 serves nobody and may go */
    with_off = vr_planner_next_batch(&policy, set, 4, FALSE, NULL);
    EXPECT(with_off, 0, 1, 3);
    set[2].off = TRUE; /* 0 is a role of one now */
    single = vr_planner_next_batch(&policy, set, 4, FALSE, NULL);
    EXPECT(single, 0, 1, 2, 3);
    set[1].off = set[2].off = FALSE;
    set[1].down = set[2].down = TRUE;
    down_first = vr_planner_next_batch(&policy, set, 4, FALSE, NULL);
    EXPECT(down_first, 1, 2, 3); /* 0 waits until one of them is healthy */
    set[1].status = set[2].status = set[3].status = VR_CANDIDATE_SKIPPED;
    assert_null(vr_planner_next_batch(&policy, set, 4, FALSE, &block));
    assert_int_equal(block.kind, VR_BLOCK_ROLE);
    assert_int_equal(block.instance, 0);
}

/* Decision 6: a rollback is not stopped by it, and yet does not take both of two that serve. */
static void test_last_of_a_role_in_rollback(void **state)
{
    g_autofree VrCandidate *set = set_of(3, 1);
    VrUpgradePolicy policy = all_at_once();
    g_autoptr(VrBatch) both = NULL, last = NULL;

    set[0].role = set[1].role = set[2].role = web;
    set[2].status = VR_CANDIDATE_DONE;
    set[2].down = TRUE;
    both = vr_planner_next_batch(&policy, set, 3, TRUE, NULL);
    EXPECT(both, 0);
    set[1].down = TRUE;
    set[1].status = VR_CANDIDATE_DONE;
    last = vr_planner_next_batch(&policy, set, 3, TRUE, NULL);
    EXPECT(last, 0);
}

/* D10: a later phase begins when nothing of an earlier one is pending; no number is the last phase. */
static void test_phases(void **state)
{
    g_autofree VrCandidate *set = set_of(6, 2);
    VrUpgradePolicy policy = all_at_once();
    g_autoptr(GPtrArray) plan = NULL;

    set[0].phase = 7;
    set[1].phase = set[4].phase = 2;
    set[5].phase = 2;
    set[2].down = TRUE; /* no number: its turn is the last, unhealthy or not */
    plan = vr_planner_plan(&policy, set, 6, FALSE, NULL);
    assert_int_equal(plan->len, 5);
    EXPECT((VrBatch *)plan->pdata[0], 4);
    EXPECT((VrBatch *)plan->pdata[1], 1, 5);
    EXPECT((VrBatch *)plan->pdata[2], 0);
    EXPECT((VrBatch *)plan->pdata[3], 2);
    EXPECT((VrBatch *)plan->pdata[4], 3);
    assert_string_equal(((VrBatch *)plan->pdata[1])->reason, "phase 2, UD 1: 2 of 6 (33%)");
    assert_int_equal(((VrBatch *)plan->pdata[3])->phase, 0);
}

/* A phase that cannot go on holds up the next; one that a canary or a walk holds back does not. */
static void test_phase_waits(void **state)
{
    g_autofree VrCandidate *set = set_of(5, 5);
    g_autoptr(VrBatch) batch = NULL;
    VrPlannerBlock block;

    set[0].phase = 1;
    set[1].phase = 2;
    set[1].down = TRUE; /* holds the one place */
    assert_null(vr_planner_next_batch(&defaults, set, 5, FALSE, &block));
    assert_int_equal(block.kind, VR_BLOCK_PLACE);
    set[0].held = TRUE;
    batch = vr_planner_next_batch(&defaults, set, 5, FALSE, NULL);
    EXPECT(batch, 1);
}

/* D14: among those of one phase the guests say the order; no number is the last. */
static void test_guests_say(void **state)
{
    g_autofree VrCandidate *set = set_of(5, 1);
    VrUpgradePolicy policy = all_at_once();
    g_autoptr(GPtrArray) plan = NULL;
    VrPlannerBlock block = {VR_BLOCK_PLACE, 0};

    set[1].guest_phase = 1; /* PhaseOrderingNumber 0 */
    set[2].guest_phase = 3;
    set[3].guest_phase = 9;
    set[3].phase = 4; /* the model's word comes first */
    set[4].guest_phase = 1;
    plan = vr_planner_plan(&policy, set, 5, FALSE, &block);
    assert_int_equal(plan->len, 4);
    EXPECT((VrBatch *)plan->pdata[0], 3);
    EXPECT((VrBatch *)plan->pdata[1], 1, 4);
    EXPECT((VrBatch *)plan->pdata[2], 2);
    EXPECT((VrBatch *)plan->pdata[3], 0);
    assert_string_equal(((VrBatch *)plan->pdata[1])->reason, "phase 0 of the guests, UD 0: 2 of 5 (40%)");
    assert_int_equal(block.kind, VR_BLOCK_NONE);
}

/* D12 before D14: one that is down and says nothing goes first, and so frees the place that it holds. */
static void test_guests_keep_back_no_unhealthy(void **state)
{
    g_autofree VrCandidate *set = set_of(5, 1);
    VrUpgradePolicy policy = defaults;
    g_autoptr(GPtrArray) plan = NULL;
    g_autoptr(VrBatch) none = NULL, later = NULL;

    for (guint i = 0; i < 4; i++)
        set[i].guest_phase = 1 + i;
    set[4].down = TRUE;
    plan = vr_planner_plan(&policy, set, 5, FALSE, NULL);
    assert_int_equal(plan->len, 5);
    EXPECT((VrBatch *)plan->pdata[0], 4);
    assert_string_equal(((VrBatch *)plan->pdata[0])->reason, "UD 0: 1 of 5 (20%), unhealthy first");
    EXPECT((VrBatch *)plan->pdata[1], 0);
    policy.prioritize_unhealthy = FALSE;
    none = vr_planner_next_batch(&policy, set, 5, FALSE, NULL);
    assert_null(none); /* the policy says so */
    policy = defaults;
    set[3].phase = 2;
    later = vr_planner_next_batch(&policy, set, 5, FALSE, NULL);
    assert_null(later); /* a phase of the model holds */
}

/* D10: never two of one pair, nor one whose other is down. */
static void test_pairs(void **state)
{
    g_autofree VrCandidate *set = set_of(5, 1);
    VrUpgradePolicy policy = all_at_once();
    g_autoptr(GPtrArray) plan = NULL, both_down = NULL;
    g_autoptr(VrBatch) rollback = NULL;
    VrPlannerBlock block;

    set[0].pair = set[2].pair = pair;
    plan = vr_planner_plan(&policy, set, 5, FALSE, NULL);
    assert_int_equal(plan->len, 2);
    EXPECT((VrBatch *)plan->pdata[0], 0, 1, 3, 4);
    EXPECT((VrBatch *)plan->pdata[1], 2);
    assert_string_equal(((VrBatch *)plan->pdata[0])->reason, "UD 0: 4 of 5 (80%), not 1 more: pairs go apart");
    set[0].down = set[2].down = TRUE;
    both_down = vr_planner_plan(&policy, set, 5, FALSE, NULL);
    EXPECT((VrBatch *)both_down->pdata[0], 0, 1, 3, 4);
    set[0].down = FALSE;
    set[1].status = set[2].status = set[3].status = set[4].status = VR_CANDIDATE_DONE;
    assert_null(vr_planner_next_batch(&policy, set, 5, FALSE, &block));
    assert_int_equal(block.kind, VR_BLOCK_PAIR);
    assert_int_equal(block.instance, 0);
    rollback = vr_planner_next_batch(&policy, set, 5, TRUE, NULL);
    EXPECT(rollback, 0);
}

/* D30: a whole upgrade domain, but never more than the places of decision 2, and still no zone is crossed. */
static void test_by_domain(void **state)
{
    g_autofree VrCandidate *set = set_of(20, 4);
    VrUpgradePolicy policy = defaults;
    g_autoptr(GPtrArray) fits = NULL, does_not = NULL, zoned = NULL;

    policy.by_domain = TRUE;
    policy.max_unhealthy_percent = 25;
    fits = vr_planner_plan(&policy, set, 20, FALSE, NULL);
    assert_int_equal(fits->len, 4);
    EXPECT((VrBatch *)fits->pdata[1], 1, 5, 9, 13, 17);
    assert_string_equal(((VrBatch *)fits->pdata[1])->reason, "UD 1: 5 of 20 (25%)");
    policy.max_unhealthy_percent = 20;
    does_not = vr_planner_plan(&policy, set, 20, FALSE, NULL);
    assert_int_equal(does_not->len, 8);
    EXPECT((VrBatch *)does_not->pdata[0], 0, 4, 8, 12);
    EXPECT((VrBatch *)does_not->pdata[1], 16);
    assert_string_equal(((VrBatch *)does_not->pdata[0])->reason,
                        "UD 0: 4 of 20 (20%), not 5: at most 4 may be down at once");
    policy.max_unhealthy_percent = 25;
    set[0].zone = zone_b;
    set[4].phase = 3;
    zoned = vr_planner_plan(&policy, set, 20, FALSE, NULL);
    EXPECT((VrBatch *)zoned->pdata[0], 4);
    EXPECT((VrBatch *)zoned->pdata[1], 8, 12, 16);
    assert_string_equal(((VrBatch *)zoned->pdata[1])->reason, "UD 0: 3 of 20 (15%), 1 more in other zones");
    assert_string_equal(((VrBatch *)zoned->pdata[0])->reason, "phase 3, UD 0: 1 of 20 (5%), 4 more in later phases");
}

/* ---- random sets, and what must hold for each plan, said without the planner's words ---- */

typedef struct {
    VrUpgradePolicy policy;
    guint count;
    VrCandidate *set;
} Case;

static guint below(guint *random, guint limit)
{
    *random = *random * 1103515245 + 12345;
    return (*random >> 8) % limit;
}

static Case draw(guint *random)
{
    static const guint percents[] = {5, 20, 34, 50, 100};
    Case drawn = {.policy = defaults, .count = 1 + below(random, 40)};
    guint domains = 1 + below(random, 5), roles = 1 + below(random, 4), zones = 1 + below(random, 3);
    guint pairs = 1 + below(random, 6), phases = 1 + below(random, 3);

    drawn.policy.max_batch_percent = percents[below(random, 5)];
    drawn.policy.max_unhealthy_percent = MAX(drawn.policy.max_batch_percent, percents[below(random, 5)]);
    drawn.policy.by_domain = below(random, 3) == 0;
    drawn.policy.cross_zone = below(random, 3) == 0;
    drawn.policy.prioritize_unhealthy = below(random, 3) > 0;
    drawn.set = set_of(drawn.count, domains);
    for (guint i = 0; i < drawn.count; i++) {
        VrCandidate *one = &drawn.set[i];

        one->role = (VrLabel){"r", below(random, roles)};
        one->zone = (VrLabel){"z", below(random, zones)};
        one->pair = (VrLabel){"p", below(random, 2) == 0 ? 0 : below(random, pairs)};
        one->phase = below(random, phases);
        one->status = below(random, 4) == 0 ? VR_CANDIDATE_SKIPPED : VR_CANDIDATE_PENDING;
        one->down = below(random, 8) == 0;
        one->off = !one->down && below(random, 10) == 0;
    }
    return drawn;
}

static guint rank(const VrCandidate *one)
{
    return one->phase == 0 ? 1000000 : one->phase;
}

/* Of two members of a batch. */
static void check_together(const Case *drawn, const VrCandidate *a, const VrCandidate *b)
{
    assert_int_equal(a->upgrade_domain, b->upgrade_domain);
    assert_int_equal(rank(a), rank(b));
    assert_true(drawn->policy.cross_zone || a->zone.number == b->zone.number);
    assert_true(a->pair.number == 0 || a->pair.number != b->pair.number);
}

/* While the batch is down: decision 2, the roles and the pairs of the whole set, earlier phases. */
static void check_set(const Case *drawn, const gboolean *in_batch, guint phase)
{
    guint down = 0, on = 0;

    for (guint i = 0; i < drawn->count; i++) {
        const VrCandidate *one = &drawn->set[i];
        guint same_role = 0, serving = 0, was_serving = 0;

        down += one->down || (in_batch[i] && !one->off) ? 1 : 0;
        on += one->off ? 0 : 1;
        assert_false(one->status == VR_CANDIDATE_PENDING && rank(one) < phase);
        for (guint k = 0; k < drawn->count; k++) {
            const VrCandidate *other = &drawn->set[k];

            if (k != i && one->pair.number > 0 && other->pair.number == one->pair.number)
                assert_false(in_batch[i] && !one->down && other->down);
            if (other->role.number != one->role.number || other->off)
                continue;
            same_role++;
            was_serving += other->down ? 0 : 1;
            serving += other->down || in_batch[k] ? 0 : 1;
        }
        if (one->role.number > 0 && same_role >= 2 && was_serving > 0)
            assert_true(serving > 0);
    }
    assert_true(down <= MAX(1, on * drawn->policy.max_unhealthy_percent / 100)); /* decision 14 */
}

static void check_batch(Case *drawn, const VrBatch *batch)
{
    g_autofree gboolean *in_batch = g_new0(gboolean, drawn->count);
    const VrCandidate *first = &drawn->set[g_array_index(batch->members, guint, 0)];

    assert_true(drawn->policy.by_domain ||
                batch->members->len <= MAX(1, drawn->count * drawn->policy.max_batch_percent / 100));
    for (guint k = 0; k < batch->members->len; k++) {
        guint i = g_array_index(batch->members, guint, k);

        assert_int_equal(drawn->set[i].status, VR_CANDIDATE_PENDING);
        assert_false(in_batch[i]);
        in_batch[i] = TRUE;
        for (guint j = 0; j < k; j++)
            check_together(drawn, &drawn->set[i], &drawn->set[g_array_index(batch->members, guint, j)]);
    }
    check_set(drawn, in_batch, rank(first));
    for (guint i = 0; i < drawn->count; i++) {
        drawn->set[i].status = in_batch[i] ? VR_CANDIDATE_DONE : drawn->set[i].status;
        drawn->set[i].down = drawn->set[i].down && !in_batch[i];
    }
}

/* D6-D12, D30, invariant 17: 3,000 plans; and the same set gives the same plan. */
static void test_random(void **state)
{
    guint random = 1, complete = 0;

    for (guint round = 0; round < 3000; round++) {
        Case drawn = draw(&random);
        VrPlannerBlock block, again;
        g_autoptr(GPtrArray) plan = vr_planner_plan(&drawn.policy, drawn.set, drawn.count, FALSE, &block);
        g_autoptr(GPtrArray) twin = vr_planner_plan(&drawn.policy, drawn.set, drawn.count, FALSE, &again);
        guint pending = 0;

        assert_int_equal(plan->len, twin->len);
        for (guint b = 0; b < plan->len; b++) {
            assert_string_equal(((VrBatch *)plan->pdata[b])->reason, ((VrBatch *)twin->pdata[b])->reason);
            check_batch(&drawn, plan->pdata[b]);
        }
        for (guint i = 0; i < drawn.count; i++)
            pending += drawn.set[i].status == VR_CANDIDATE_PENDING ? 1 : 0;
        assert_true((pending == 0) == (block.kind == VR_BLOCK_NONE));
        complete += pending == 0 ? 1 : 0;
        g_free(drawn.set);
    }
    assert_true(complete > 1000); /* the rules leave a way for most */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zones),          cmocka_unit_test(test_roles_share_domains),
        cmocka_unit_test(test_last_of_a_role), cmocka_unit_test(test_last_of_a_role_in_rollback),
        cmocka_unit_test(test_phases),         cmocka_unit_test(test_phase_waits),
        cmocka_unit_test(test_guests_say),     cmocka_unit_test(test_guests_keep_back_no_unhealthy),
        cmocka_unit_test(test_pairs),          cmocka_unit_test(test_by_domain),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
