/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who shares a launch, and what is looked at after it. In place of the child stands personalize_helper.c, which notes each launch. Row C6. */
#include "disk/images.h"

#include "disk/personalize_private.h"

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
    };
    return cmocka_run_group_tests_name("personalize launches", tests, set_up, tear_down);
}
