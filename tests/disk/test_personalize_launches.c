/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who shares a launch, what one costs that dies or hangs, and what is looked at after it. In place of the child stands personalize_helper.c, which notes each launch. Row C6. */
#include "disk/images.h"

#include "disk/personalize_private.h"

#include <sys/file.h>

static TestDir *work; /* of all tests: the appliance is built once */

static void launch(VrPersonal *const *disks, guint n, GError **errors)
{
    g_autoptr(GError) error = NULL;
    const VrPersonalizeOptions options = {
        .helper = g_getenv("VR_PERSONALIZE_FAKE"), .work_dir = work->path, .timeout_ms = 60000};

    (void)vr_personalize((const VrPersonal *const *)disks, n, &options, errors, &error);
    expect_no_error(error);
}

static void make_overlay(const char *base, const char *path)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path);
}

/* A QEMU that the file system of a guest broke out into can write to the header of its disk: what the header names would be read as root later. */
static void a_changed_header_is_refused(void **state)
{
    static const struct {
        const char *does, *text;
    } rows[] = {{"rebases", "it names another base"},
                {"reformats", "it names another format of its base"},
                {"grows", "it gives another size"},
                {"snapshots", "it has another number of snapshots"},
                {"corrupts", "it has other feature bits"},
                {"unknown", "it has other feature bits"},
                {"autoclears", "it has other feature bits"},
                {"outsources", "it names a file with its data"},
                {"outsourced", "it names a file with its data"},
                {"dirties", NULL}};
    TestDir *dir = *state;
    g_autofree char *base = in_dir(dir, "base.qcow2");
    VrPersonal *disks[G_N_ELEMENTS(rows)];
    GError *errors[G_N_ELEMENTS(rows)];

    make_qcow2(dir, "base.qcow2", NULL, 8 << 20);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = in_dir(dir, rows[i].does);
        make_overlay(base, path);
        disks[i] = vr_personal_new(path, VR_FORMAT_QCOW2);
        disks[i]->hostname = g_strdup(rows[i].does);
    }
    launch(disks, G_N_ELEMENTS(rows), errors);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!errors[i] != !rows[i].text)
            fail_msg("%s: %s", rows[i].does, errors[i] ? errors[i]->message : "done");
        if (rows[i].text)
            expect_error(&errors[i], VR_ERROR_INVALID, rows[i].text);
        vr_personal_free(disks[i]);
    }
}

/* More than 64 MiB alone; then 64 MiB together, and one byte too much. */
static void what_is_written_together_is_bounded(void **state)
{
    static const gsize sizes[] = {66 << 20, 33 << 20, 31 << 20, 1};
    TestDir *dir = *state;
    g_autofree char *bytes = g_strnfill(16 << 20, 'x'), *raw = in_dir(dir, "plain.raw");
    VrPersonal *disks[G_N_ELEMENTS(sizes)];
    GError *errors[G_N_ELEMENTS(sizes)];

    tool("sh", "-c", "truncate -s 1M \"$1\"; mke2fs -q -F \"$1\"", "sh", raw);
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        disks[i] = vr_personal_new(raw, VR_FORMAT_RAW);
        disks[i]->hostname = g_strdup_printf("%c", (char)('a' + i));
        for (gsize left = sizes[i], one; left > 0; left -= one) {
            one = MIN(left, 16 << 20);
            vr_personal_add_file(disks[i]->files, "/var/x", 0600, NULL, bytes, one);
        }
    }
    launch(disks, G_N_ELEMENTS(sizes), errors);
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        expect_no_error(errors[i]);
        vr_personal_free(disks[i]);
    }
    g_autofree char *launches = content_of(dir, "launches");
    assert_string_equal(launches, "a\nb c\nd\n");
}

/* ---- a child that dies ---- */

static void launch_fakes(const TestDir *dir, const char *const *names, guint n, gint64 timeout_ms, GError **errors)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)vr_personal_free);
    g_autoptr(GError) error = NULL;
    const VrPersonalizeOptions opts = {
        .helper = g_getenv("VR_PERSONALIZE_FAKE"), .work_dir = work->path, .timeout_ms = timeout_ms};
    g_autofree char *raw = in_dir(dir, "plain.raw"), *notes = in_dir(dir, "launches");

    tool("sh", "-c", "rm -f \"$2\"; truncate -s 1M \"$1\"; mke2fs -q -F \"$1\"", "sh", raw, notes);
    for (guint i = 0; i < n; i++) {
        g_ptr_array_add(disks, vr_personal_new(raw, VR_FORMAT_RAW));
        ((VrPersonal *)disks->pdata[i])->hostname = g_strdup(names[i]);
    }
    (void)vr_personalize((const VrPersonal *const *)disks->pdata, n, &opts, errors, &error);
    expect_no_error(error);
}

static void expect_launches(const TestDir *dir, const char *text)
{
    g_autofree char *notes = content_of(dir, "launches");
    assert_string_equal(notes, text);
}

static void who_it_dies_on_fails_and_the_others_are_done_again(void **state)
{
    static const char *const names[] = {"a", "fails", "dies", "b", "dies"};
    GError *errors[5];
    launch_fakes(*state, names, 5, 0, errors);
    expect_launches(*state, "a fails dies b dies\na b dies\na b\n");
    expect_no_error(errors[0]);
    expect_error(&errors[1], VR_ERROR_INVALID, "/etc is a link");
    expect_error(&errors[2], VR_ERROR_CHILD, "its appliance ended");
    expect_no_error(errors[3]);
    expect_error(&errors[4], VR_ERROR_CHILD, "its appliance ended");
}

static void when_none_was_begun_each_gets_its_own(void **state)
{
    static const char *const names[] = {"early", "a", "b"};
    GError *errors[3];
    launch_fakes(*state, names, 3, 0, errors);
    expect_launches(*state, "early a b\nearly\na\nb\n");
    expect_error(&errors[0], VR_ERROR_CHILD, "failed with status 1");
    expect_no_error(errors[1]);
    expect_no_error(errors[2]);
}

static void one_that_hangs_costs_its_limit(void **state)
{
    static const char *const names[] = {"a", "hangs"};
    GError *errors[2];
    launch_fakes(*state, names, 2, 1000, errors);
    expect_launches(*state, "a hangs\na\n");
    expect_no_error(errors[0]);
    expect_error(&errors[1], VR_ERROR_TIMEOUT, "did not end in time");
}

/* ---- the appliance is built once ---- */

static void it_is_not_built_again(void **state)
{
    struct stat before, after;
    g_autoptr(GError) error = NULL;
    g_autofree char *root = g_build_filename(work->path, VR_PERSONAL_APPLIANCE, "root", NULL);
    for (guint i = 0; i < 2; i++) {
        vr_personal_appliance(work->path, NULL, &error);
        expect_no_error(error);
        assert_int_equal(stat(root, i ? &after : &before), 0);
    }
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}

static void who_waits_for_another_to_build_it_can_be_called_off(void **state)
{
    g_autofree char *path = g_build_filename(work->path, "appliance.lock", NULL);
    gint aborted = 1;
    g_autoptr(GError) error = NULL;
    vr_autofd fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_false(vr_personal_appliance(work->path, &aborted, &error));
    expect_error(&error, VR_ERROR_CANCELLED, "called off");
}

static int set_up(void **state)
{
    return test_dir_setup((void **)&work);
}

static int tear_down(void **state)
{
    return test_dir_teardown((void **)&work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_changed_header_is_refused),
        dir_test(what_is_written_together_is_bounded),
        dir_test(who_it_dies_on_fails_and_the_others_are_done_again),
        dir_test(when_none_was_begun_each_gets_its_own),
        dir_test(one_that_hangs_costs_its_limit),
        dir_test(it_is_not_built_again),
        dir_test(who_waits_for_another_to_build_it_can_be_called_off),
    };
    return cmocka_run_group_tests_name("personalize launches", tests, set_up, tear_down);
}
