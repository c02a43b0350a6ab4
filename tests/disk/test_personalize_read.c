/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files of an old disk, read in a real appliance: of guests that were cut off, so that a file lies in the journal only. Row C8. What a hostile guest can put in the way is
 * tried in one appliance, with the child's own code. VR_FULL=1: 300,000 files in a directory, and a hostile one by way of the child.
 */
#include "disk/appliances.h"

#include "disk/personalize_guest.h"

#include <pthread.h>

static gboolean full(void)
{
    return g_strcmp0(g_getenv("VR_FULL"), "1") == 0;
}

static void shell(const char *script, const char *name, const char *more)
{
    slow_tool("sh", "-c", script, "sh", dir->path, name, more);
}

/* ---- guests that were cut off ---- */

/* "late" is flushed, and its disk copied as it is then. */
static const char cut_off[] =
    "set -e; cd \"$1\"; mkdir -p small; truncate -s 300M live.raw; $3 live.raw; mount -o loop live.raw small; cd "
    "small\n"
    "mkdir -p etc/ssh usr/bin var/lib/shop/sub var/lib/shop/apart; echo /dev/vdb /var/lib/shop/apart ext4 > etc/fstab\n"
    "echo hidden > var/lib/shop/apart/x; echo key > etc/ssh/ssh_host_rsa_key; chmod 0600 etc/ssh/ssh_host_rsa_key\n"
    "printf 'a\\0b\\n' > var/lib/shop/binary; touch var/lib/shop/sub/empty; ln -s ssh etc/alias\n"
    "ln -s ../../../etc/shadow var/lib/shop/sub/link; chown -h 33:4 var/lib/shop/sub/link\n"
    "head -c 5000000 /dev/zero | tr '\\0' l > var/lib/shop/large; echo x > var/lib/shop/$(printf '\\303\\274')\n"
    "chown 33:34 var/lib/shop; chmod 03750 var/lib/shop; chown 1000:70000 var/lib/shop/binary; chmod 04711 "
    "var/lib/shop/binary\n"
    "cd ..; sync -f small; echo late > small/etc/late; sync small/etc/late; cp live.raw $2.raw; umount small; rm "
    "live.raw\n";

static void expect_late_in_journal(const char *name, const char *how)
{
    shell("cd \"$1\"; mount -o loop,ro,$3 $2.raw root && ! test -e root/etc/late; status=$?; "
          "umount root; exit $status",
          name, how);
}

static void add(GPtrArray *files, VrGuestFileKind kind, const char *path, guint mode, const char *owner,
                const void *data, gsize length)
{
    g_ptr_array_add(files, vr_guest_file_new(kind, path, mode, owner, data, length));
}

static GPtrArray *expected_files(void)
{
    const VrGuestFileKind file = VR_GUEST_FILE_REGULAR, directory = VR_GUEST_FILE_DIRECTORY, link = VR_GUEST_FILE_LINK;
    GPtrArray *files = vr_guest_files_new();
    g_autofree char *large = g_strnfill(5000000, 'l');
    add(files, file, "/etc/ssh/ssh_host_rsa_key", 0600, "0:0", "key\n", 4);
    add(files, directory, "/var/lib/shop", 03750, "33:34", NULL, 0);
    add(files, file, "/var/lib/shop/binary", 04711, "1000:70000", "a\0b\n", 4);
    add(files, file, "/var/lib/shop/large", 0644, "0:0", large, 5000000);
    add(files, directory, "/var/lib/shop/sub", 0755, "0:0", NULL, 0);
    add(files, file, "/var/lib/shop/sub/empty", 0644, "0:0", NULL, 0);
    add(files, link, "/var/lib/shop/sub/link", 0, "33:4", "../../../etc/shadow", 19);
    add(files, file, "/var/lib/shop/\303\274", 0644, "0:0", "x\n", 2);
    add(files, link, "/etc/alias", 0, "0:0", "ssh", 3);
    add(files, file, "/etc/late", 0644, "0:0", "late\n", 5);
    return files;
}

typedef struct {
    char *disk;
    VrImageFormat format;
    GPtrArray *files;
    GError *error;
    pthread_t thread;
} Reading;

static void *read_one(void *data)
{
    static const char *const paths[] = {"/etc/ssh/ssh_host_rsa_key",
                                        "/etc/ssh/ssh_host_none_key",
                                        "/var/lib/shop",
                                        "/none/at/all",
                                        "/etc/alias",
                                        "/etc/late",
                                        NULL};
    Reading *reading = data;
    VrPersonalizeOptions opts = options();
    (void)vr_personalize_read(reading->disk, reading->format, paths, &opts, &reading->files, &reading->error);
    return NULL;
}

static void expect_same(const GPtrArray *got, const GPtrArray *expected)
{
    for (guint i = 0; i < MIN(got->len, expected->len); i++) { /* in this order */
        const VrGuestFile *a = got->pdata[i], *b = expected->pdata[i];
        if (strcmp(a->path, b->path) != 0 || a->kind != b->kind || a->mode != b->mode ||
            strcmp(a->owner, b->owner) != 0 || !g_bytes_equal(a->data, b->data))
            fail_msg("%s (%d, %o, %s) is not %s (%d, %o, %s)", a->path, a->kind, a->mode, a->owner, b->path, b->kind,
                     b->mode, b->owner);
    }
    assert_int_equal(got->len, expected->len);
}

/* Of all files of a directory: their names, times and content. */
static char *state_of(const char *path)
{
    const char *const argv[] = {"sh", "-c", "cd \"$1\"; stat -c '%n %s %Y %y %Z' *; sha256sum *", "sh", path, NULL};
    g_auto(VrChildResult) result = {0};
    assert_true(vr_child_run(argv, NULL, &result, NULL));
    return g_strdup(result.out);
}

static void two_guests_that_were_cut_off(void **state)
{
    g_autofree char *old = in_dir(dir, "old"), *top = in_dir(dir, "old/g1.qcow2"), *xfs = in_dir(dir, "old/xfs.raw");
    g_autoptr(GPtrArray) expected = expected_files();
    Reading readings[] = {{.disk = top, .format = VR_FORMAT_QCOW2}, {.disk = xfs, .format = VR_FORMAT_RAW}};

    shell(cut_off, "ext4", "mke2fs -q -F -t ext4");
    shell(cut_off, "xfs", "mkfs.xfs -q -f");
    expect_late_in_journal("ext4", "noload");
    expect_late_in_journal("xfs", "norecovery");
    shell("cd \"$1\"; mkdir old; mv ext4.raw xfs.raw old; cd old; qemu-img create -q -f qcow2 -F raw -b $PWD/ext4.raw "
          "g1.qcow2; chmod 0600 *",
          "", "");
    g_autofree char *before = state_of(old);
    for (guint i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readings[i].thread, NULL, read_one, &readings[i]), 0);
    for (guint i = 0; i < 2; i++)
        assert_int_equal(pthread_join(readings[i].thread, NULL), 0);
    for (guint i = 0; i < 2; i++) {
        expect_no_error(readings[i].error);
        expect_same(readings[i].files, expected);
        g_ptr_array_unref(readings[i].files);
    }
    g_autofree char *after = state_of(old);
    assert_string_equal(after, before);
}

/* ---- hostile ones ---- */

static const char hostile_tree[] =
    "set -e; cd \"$1\"; rm -rf tree; mkdir -p tree/etc tree/usr tree/home tree/h; echo '/dev/vdb /home ext4' > "
    "tree/etc/fstab\n"
    "echo good > tree/etc/good; cd tree/h; mkdir fifo socket device two many longer spread newline latin\n"
    "ln -s /etc parent; mkfifo fifo/x; mknod device/x c 1 3; python3 -c \"import socket; "
    "socket.socket(socket.AF_UNIX).bind('socket/x')\"\n"
    "truncate -s 17M large; truncate -s 9M two/a two/b\n"
    "n=$(printf '%0240d' 0); (cd longer; for i in $(seq 100 399); do : > $n$i; done)\n"
    "(cd spread; for i in $(seq 20); do mkdir $i; (cd $i; seq 15 | xargs touch); done)\n"
    ": > \"newline/a\nb\"; : > latin/$(printf 'a\\377'); cd ../..\n"
    "truncate -s 1G hostile.raw; mke2fs -q -F -t ext4 -N 400000 -d tree hostile.raw; rm -rf tree\n"
    "mkdir -p small; mount -o loop hostile.raw small; (cd small/h/many; seq $3 | xargs touch); umount small\n";

static const struct {
    const char *path, *text;
} hostile[] = {
    {"/h/parent/good", "/h/parent is a symbolic link to /etc, and not a directory"},
    {"/h/large/x", "/h/large is a file, and not a directory"},
    {"/h/fifo", "/h/fifo/x is a FIFO, a socket or a device"},
    {"/h/socket/x", "/h/socket/x is a FIFO, a socket or a device"},
    {"/h/device", "/h/device/x is a FIFO, a socket or a device"},
    {"/h/large", "/h/large is too large: at most 16 MiB"},
    {"/h/two", "/h/two/b is too large: at most 16 MiB are read of all files together"},
    {"/h/many", "/h/many has more than can be read"},
    {"/h/longer", "/h/longer has more than can be read"},
    {"/h/spread", "more than can be read"},
    {"/h/newline", "'/h/newline/a?b' has a control character"},
    {"/h/latin", "'/h/latin/a\357\277\275' is no UTF-8"},
    {"/home/x", "/home/x lies on a file system of its own (/home in /etc/fstab)"},
};

static guestfs_h *launch(const char *disk)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *appliance = g_build_filename(work, VR_PERSONAL_APPLIANCE, NULL);
    vr_personal_appliance(work, NULL, &error);
    expect_no_error(error);
    guestfs_h *g = guestfs_create();
    assert_int_equal(guestfs_set_backend(g, "direct"), 0);
    assert_int_equal(guestfs_set_backend_setting(g, "force_tcg", "1"), 0);
    assert_int_equal(guestfs_set_path(g, appliance), 0);
    guestfs_set_error_handler(g, NULL, NULL);
    assert_int_equal(
        guestfs_add_drive_opts(g, disk, GUESTFS_ADD_DRIVE_OPTS_FORMAT, "raw", GUESTFS_ADD_DRIVE_OPTS_READONLY, 1, -1),
        0);
    assert_int_equal(guestfs_launch(g), 0);
    return g;
}

static void expect_hostile(const VrGuest *guest)
{
    for (gsize i = 0; i < G_N_ELEMENTS(hostile); i++) {
        const char *const paths[] = {hostile[i].path, NULL};
        g_autoptr(GPtrArray) files = vr_guest_files_new();
        g_autoptr(GError) error = NULL;
        if (vr_guest_collect(guest, paths, files, &error))
            fail_msg("%s was read", hostile[i].path);
        if (!strstr(error->message, hostile[i].text) || error->code != VR_ERROR_INVALID)
            fail_msg("%s: %s", hostile[i].path, error->message);
    }
}

static void hostile_guests(void **state)
{
    static const char *const good[] = {"/etc/good", "/h/fifo/none", NULL};
    g_autofree char *disk = in_dir(dir, "hostile.raw"), *listing = in_dir(dir, "small/names");
    char *partitions[] = {NULL};
    g_autoptr(GPtrArray) files = vr_guest_files_new();
    g_autoptr(GError) error = NULL;

    shell(hostile_tree, "", full() ? "300000" : "300");
    shell("cd \"$1\"; mkdir -p small; mount -t tmpfs -o size=68k listing small", "", "");
    guestfs_h *g = launch(disk);
    VrGuest guest = {.g = g, .partitions = partitions, .readonly = TRUE, .listing = listing};
    vr_guest_mount(&guest, "/dev/sda", TRUE, &error);
    expect_no_error(error);
    expect_hostile(&guest);
    vr_guest_collect(&guest, good, files, &error); /* none of that did harm to the appliance */
    expect_no_error(error);
    assert_int_equal(files->len, 1);
    vr_guest_umount(&guest);
    guestfs_close(g);
    shell("umount \"$1/small\"", "", "");
}

/* ---- what is told before ---- */

static void expect_unread(const char *disk, const char *path, int code, const char *text)
{
    const char *const paths[] = {path, NULL};
    GPtrArray *files = (GPtrArray *)&files;
    VrPersonalizeOptions opts = options();
    g_autoptr(GError) error = NULL;
    assert_false(vr_personalize_read(disk, VR_FORMAT_RAW, paths, &opts, &files, &error));
    assert_null(files);
    expect_error(&error, code, text);
}

static void what_cannot_be_read_is_told(void **state)
{
    g_autofree char *none = in_dir(dir, "none.raw"), *some = in_dir(dir, "some.raw");
    put_file(dir, "some.raw", "x", 1);
    expect_unread(none, "/etc/x", VR_ERROR_NOT_FOUND, "none.raw: it is no file or block device");
    expect_unread(dir->path, "/etc/x", VR_ERROR_NOT_FOUND, "it is no file or block device");
    expect_unread("some.raw", "/etc/x", VR_ERROR_USAGE, "no absolute path");
    expect_unread(some, "/etc/../x", VR_ERROR_INVALID, "has a part that is empty");
    expect_unread(some, NULL, VR_ERROR_USAGE, "0 paths");
    if (!full())
        return;
    g_autofree char *hostile_disk = in_dir(dir, "hostile.raw");
    expect_unread(hostile_disk, "/h/fifo", VR_ERROR_INVALID, "hostile.raw: /h/fifo/x is a FIFO, a socket or a device");
}

static int set_up_with_root(void **state)
{
    if (set_up(state) != 0)
        return -1;
    g_autofree char *root = in_dir(dir, "root");
    g_error_free(g_error_new_literal(VR_ERROR, VR_ERROR_FAILED, "first"));
    return mkdir(root, 0700);
}

/* An argument picks tests by their names. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_guests_that_were_cut_off),
        cmocka_unit_test(hostile_guests),
        cmocka_unit_test(what_cannot_be_read_is_told),
    };
    cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("personalize read", tests, set_up_with_root, tear_down);
}
