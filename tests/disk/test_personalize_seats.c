/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One appliance for disks of many threads. In place of the child stands personalize_helper.c, which notes each launch. Row C6. */
#include "disk/images.h"

#include "base/gather.h"
#include "disk/personalize_private.h"

#include <pthread.h>

static TestDir *work; /* of all tests: the appliance is built once */

typedef struct {
    VrPersonalSeat *seat;
    VrPersonal *personal;
    pthread_t thread;
    gboolean applied;
    GError *error;
    gint ended; /* atomic */
} Guest;

static void *apply_one(void *data)
{
    Guest *guest = data;
    guest->applied = vr_personal_seat_apply(guest->seat, guest->personal, &guest->error);
    vr_personal_seat_free(g_steal_pointer(&guest->seat));
    g_atomic_int_set(&guest->ended, 1);
    return NULL;
}

/* What the stand-in does with a disk, its host name says. */
static void seat_guests(const TestDir *dir, Guest *guests, const char *const *names, guint n, const gint *aborted)
{
    g_autofree char *raw = in_dir(dir, "plain.raw"), *work_dir = g_strdup(work->path);
    g_autofree VrPersonalSeat **seats = g_new0(VrPersonalSeat *, n);
    g_autofree char *helper = g_strdup(g_getenv("VR_PERSONALIZE_FAKE"));
    VrPersonalizeOptions options = {.helper = helper, .work_dir = work_dir, .timeout_ms = 60000, .aborted = aborted};

    tool("sh", "-c", "truncate -s 1M \"$1\"; mke2fs -q -F \"$1\"", "sh", raw);
    vr_personal_seats_new(seats, n, &options);
    for (guint i = 0; i < n; i++) {
        guests[i] = (Guest){.seat = seats[i], .personal = vr_personal_new(raw, VR_FORMAT_RAW)};
        guests[i].personal->hostname = g_strdup(names[i]);
    }
} /* options and their texts go */

static void begin(Guest *guest)
{
    assert_int_equal(pthread_create(&guest->thread, NULL, apply_one, guest), 0);
}

static void end(Guest *guest)
{
    gint64 asked_us = g_get_monotonic_time();
    assert_int_equal(pthread_join(guest->thread, NULL), 0);
    assert_true(g_get_monotonic_time() - asked_us < VR_GATHER_MS * 1000 / 2);
    vr_personal_free(guest->personal);
}

static void expect_applied(const Guest *guest)
{
    expect_no_error(guest->error);
    assert_true(guest->applied);
}

static void expect_failed(Guest *guest, int code, const char *text)
{
    assert_false(guest->applied);
    expect_error(&guest->error, code, text);
}

/* lengths: of the lines, which each have the names of one launch; who asks first is not known. */
static void expect_launches(const TestDir *dir, const char *lengths)
{
    g_autofree char *said = content_of(dir, "launches");
    g_autoptr(GString) got = g_string_new(NULL);
    for (const char *line = said; *line; line = strchr(line, '\n') + 1)
        g_string_append_printf(got, "%zu ", strcspn(line, "\n"));
    assert_string_equal(got->str, lengths);
}

static void all_share_one_launch(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    TestDir *dir = *state;
    Guest guests[4];
    seat_guests(dir, guests, names, 4, NULL);
    for (guint i = 0; i < 4; i++)
        begin(&guests[i]);
    for (guint i = 0; i < 4; i++) {
        end(&guests[i]);
        expect_applied(&guests[i]);
    }
    expect_launches(dir, "7 ");
}

static void who_leaves_is_not_waited_for(void **state)
{
    static const char *const names[] = {"a", "b", "c"};
    TestDir *dir = *state;
    Guest guests[3];
    seat_guests(dir, guests, names, 3, NULL);
    begin(&guests[0]);
    begin(&guests[1]);
    g_usleep(300000);
    assert_false(g_atomic_int_get(&guests[0].ended) || is_there(dir, "launches"));
    vr_personal_seat_free(guests[2].seat);
    vr_personal_free(guests[2].personal);
    for (guint i = 0; i < 2; i++) {
        end(&guests[i]);
        expect_applied(&guests[i]);
    }
    expect_launches(dir, "3 ");
}

/* One fails in the appliance, one kills it, one is no host name, one is no disk: each has its own error. */
static void an_error_of_one_is_its_own(void **state)
{
    static const char *const names[] = {"a", "fails", "dies", "$(reboot)", "nodisk", "b"};
    TestDir *dir = *state;
    Guest guests[6];
    seat_guests(dir, guests, names, 6, NULL);
    g_autofree char *none = in_dir(dir, "none.raw");
    g_free(guests[4].personal->disk);
    guests[4].personal->disk = g_strdup(none);
    for (guint i = 0; i < 6; i++)
        begin(&guests[i]);
    for (guint i = 0; i < 6; i++)
        end(&guests[i]);
    expect_applied(&guests[0]);
    expect_applied(&guests[5]);
    expect_failed(&guests[1], VR_ERROR_INVALID, "/etc is a link");
    expect_failed(&guests[2], VR_ERROR_CHILD, "its appliance ended");
    expect_failed(&guests[3], VR_ERROR_INVALID, "the host name '$(reboot)'");
    expect_failed(&guests[4], VR_ERROR_NOT_FOUND, "none.raw is no file");
}

/* More than one appliance takes. */
static void many_take_two(void **state)
{
    enum { MANY = VR_PERSONAL_MAX_DISKS + 2 };
    TestDir *dir = *state;
    Guest guests[MANY];
    const char *names[MANY];
    for (guint i = 0; i < MANY; i++)
        names[i] = "a";
    seat_guests(dir, guests, names, MANY, NULL);
    for (guint i = 0; i < MANY; i++)
        begin(&guests[i]);
    for (guint i = 0; i < MANY; i++) {
        end(&guests[i]);
        expect_applied(&guests[i]);
    }
    expect_launches(dir, "127 3 ");
}

static void a_cancel_is_heard_while_it_waits(void **state)
{
    static const char *const names[] = {"a", "b"};
    TestDir *dir = *state;
    gint aborted = 0;
    Guest guests[2];
    seat_guests(dir, guests, names, 2, &aborted);
    begin(&guests[0]);
    g_usleep(150000);
    g_atomic_int_set(&aborted, 1);
    end(&guests[0]);
    expect_failed(&guests[0], VR_ERROR_CANCELLED, "the personalisation was cancelled");
    begin(&guests[1]); /* one that comes too late */
    end(&guests[1]);
    expect_failed(&guests[1], VR_ERROR_CANCELLED, "the personalisation was cancelled");
    assert_false(is_there(dir, "launches"));
}

static void a_cancel_is_heard_in_the_appliance(void **state)
{
    static const char *const names[] = {"a", "hangs"};
    TestDir *dir = *state;
    gint aborted = 0;
    Guest guests[2];
    seat_guests(dir, guests, names, 2, &aborted);
    begin(&guests[0]);
    begin(&guests[1]);
    while (!is_there(dir, "launches"))
        g_usleep(10000);
    g_usleep(200000);
    g_atomic_int_set(&aborted, 1);
    for (guint i = 0; i < 2; i++) {
        end(&guests[i]);
        expect_failed(&guests[i], VR_ERROR_CANCELLED, "called off");
    }
}

static void empty_groups_end(void **state)
{
    const VrPersonalizeOptions options = {.work_dir = "/"};
    VrPersonalSeat *seats[3];
    vr_personal_seats_new(seats, 3, &options);
    for (guint i = 0; i < 3; i++)
        vr_personal_seat_free(seats[i]);
    vr_personal_seats_new(seats, 0, &options);
    vr_personal_seat_free(NULL);
}

/* GLib makes what all errors share at the first one, in a way that ThreadSanitizer does not see. */
static int set_up(void **state)
{
    g_error_free(g_error_new_literal(VR_ERROR, VR_ERROR_FAILED, "first"));
    return test_dir_setup((void **)&work);
}

static int tear_down(void **state)
{
    return test_dir_teardown((void **)&work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(all_share_one_launch),
        dir_test(who_leaves_is_not_waited_for),
        dir_test(an_error_of_one_is_its_own),
        dir_test(many_take_two),
        dir_test(a_cancel_is_heard_while_it_waits),
        dir_test(a_cancel_is_heard_in_the_appliance),
        cmocka_unit_test(empty_groups_end),
    };
    return cmocka_run_group_tests_name("personalize seats", tests, set_up, tear_down);
}
