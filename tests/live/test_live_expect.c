/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* J8: when a run is likely to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "live/simulated.h"
#include "orchestrator/live/expect.h"

static const VrExpectBasis basis = {
    .prepare_ms = 8000, .down_ms = 18000, .pause_ms = 12000, .batch = 10, .ahead = TRUE};

static gint64 left_at(gint64 ms)
{
    g_autoptr(VrSnapshot) snapshot = simulated_run(40, 10, 0, ms);

    return vr_expect_left(snapshot, &basis);
}

/* At its beginning: the first batch is prepared and moved, then three more with their pauses. */
static void the_sum_of_what_is_left(void **state)
{
    assert_int_equal(left_at(3000), 26000 - 750 + 3 * 30000); /* its last guest began 750 ms ago */
    assert_true(left_at(20000) < left_at(3000));
    assert_true(left_at(150000) <= 18000 + 2250);
    assert_int_equal(left_at(160000), -1); /* it has ended */
}

static void what_is_not_known_is_not_guessed(void **state)
{
    VrExpectBasis nothing = basis;
    g_autoptr(VrSnapshot) snapshot = simulated_run(40, 10, 0, 20000);

    nothing.down_ms = -1;
    assert_int_equal(vr_expect_left(snapshot, &nothing), -1);
    snapshot->hold = VR_HOLD_PAUSED; /* until somebody acts */
    assert_int_equal(vr_expect_left(snapshot, &basis), -1);
    snapshot->hold = VR_HOLD_CHECKPOINT;
    snapshot->hold_left_ms = 60000;
    assert_true(vr_expect_left(snapshot, &basis) > 0);
}

/* A guest that takes longer than the others did makes the end late, and never negative. */
static void it_is_never_negative(void **state)
{
    g_autoptr(VrSnapshot) snapshot = simulated_run(10, 10, 0, 20000);

    for (guint i = 0; i < snapshot->guests->len; i++) {
        VrLiveGuest *guest = snapshot->guests->pdata[i];
        guest->stage = VR_LIVE_PROBED;
        guest->down_ms = 900000;
    }
    assert_int_equal(vr_expect_left(snapshot, &basis), 0);
}

/* A minute more in the calculation is shown bit by bit, and all of it in the end. */
static void the_end_moves_slowly(void **state)
{
    VrExpect expect = {0};
    gint64 shown = vr_expect_smooth(&expect, 60000, 1000), before;

    assert_int_equal(shown, 60000);
    for (gint64 now = 1250; now < 120000; now += 250) {
        before = shown;
        shown = vr_expect_smooth(&expect, 120000, now);
        assert_true(shown >= before - 250 && shown <= before + 2000);
    }
    assert_true(shown > 110000 && shown <= 120000);
    assert_int_equal(vr_expect_smooth(&expect, -1, 120000), -1);
    assert_int_equal(vr_expect_smooth(&expect, 5000, 120250), 5000); /* known anew: no way to go */
    assert_int_equal(vr_expect_smooth(&expect, 0, 990000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_of_what_is_left),
        cmocka_unit_test(what_is_not_known_is_not_guessed),
        cmocka_unit_test(it_is_never_negative),
        cmocka_unit_test(the_end_moves_slowly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
