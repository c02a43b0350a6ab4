/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/images.h"

#include "base/clock.h"
#include "disk/disk_file.h"
#include "disk/qcow2.h"

#include <signal.h>
#include <sys/wait.h>

#define MIB (1024 * 1024)

static void a_file_has_an_identity(void **state)
{
    TestDir *dir = *state;
    VrFileId a, b;
    struct stat st;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autofree char *path = in_dir(dir, "a.raw");
    assert_true(vr_disk_file_id(path, &a, &error));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(a.inode, st.st_ino);
    assert_int_equal(a.device, st.st_dev);
    assert_int_equal(a.size, MIB);
    assert_int_equal(a.mtime_ns, st.st_mtim.tv_sec * 1000000000L + st.st_mtim.tv_nsec);
    make_raw(dir, "a.raw", MIB, 1); /* the same bytes in another file */
    assert_true(vr_disk_file_id(path, &b, &error));
    assert_int_not_equal(a.inode, b.inode);
    g_autofree char *absent = in_dir(dir, "absent");
    assert_false(vr_disk_file_id(absent, &a, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "absent");
    assert_false(vr_disk_file_id(dir->path, &a, &error));
    expect_error(&error, VR_ERROR_INVALID, "neither a file nor a block device");
    assert_false(vr_disk_file_id("/dev/null", &a, &error));
    expect_error(&error, VR_ERROR_INVALID, "neither a file nor a block device");
}

static void a_fifo_does_not_hang_us(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    gboolean held;
    g_autofree char *path = in_dir(dir, "fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(vr_disk_file_is_open_by_qemu(path, &held, &error));
    expect_error(&error, VR_ERROR_INVALID, "neither");
}

static void virtual_sizes(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    guint64 bytes = 0;
    make_raw(dir, "a.raw", MIB + 1, 1);
    make_qcow2(dir, "b.qcow2", NULL, 33 * MIB);
    g_autofree char *raw = in_dir(dir, "a.raw");
    g_autofree char *qcow2 = in_dir(dir, "b.qcow2");
    assert_true(vr_disk_file_virtual_size(raw, "raw", &bytes, &error));
    assert_int_equal(bytes, MIB + 512);
    assert_true(vr_disk_file_virtual_size(qcow2, "qcow2", &bytes, &error));
    assert_int_equal(bytes, 33 * MIB);
    assert_false(vr_disk_file_virtual_size(raw, "qcow2", &bytes, &error));
    expect_error(&error, VR_ERROR_INVALID, "a.raw: it has no qcow2 header");
    assert_false(vr_disk_file_virtual_size(raw, "vmdk", &bytes, &error));
    expect_error(&error, VR_ERROR_USAGE, "vmdk");
}

static void what_a_header_says(void **state)
{
    TestDir *dir = *state;
    g_auto(VrDiskLook) plain = {0};
    g_auto(VrDiskLook) top = {0};
    g_auto(VrDiskLook) raw = {0};
    g_autoptr(GError) error = NULL;
    make_qcow2(dir, "a.qcow2", NULL, 8 * MIB);
    g_autofree char *base = in_dir(dir, "a.qcow2");
    g_autofree char *above = in_dir(dir, "b.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, above);
    tool("qemu-img", "snapshot", "-c", "one", above);
    tool("qemu-img", "snapshot", "-c", "two", above);
    assert_true(vr_disk_file_look(base, "qcow2", &plain, NULL));
    assert_int_equal(plain.snapshots, 0);
    assert_null(plain.backing);
    assert_true(vr_disk_file_look(above, "qcow2", &top, NULL));
    assert_int_equal(top.snapshots, 2);
    assert_string_equal(top.backing, base);
    assert_string_equal(top.backing_format, "qcow2");
    assert_int_equal(top.size, 8 * MIB);
    assert_true(!plain.backing_format && !plain.data_file && !top.data_file && top.incompatible == 0);
    assert_true(vr_disk_file_look(above, "raw", &raw, NULL)); /* the format is known, and never probed */
    assert_int_equal(raw.snapshots, 0);
    assert_null(raw.backing);
    make_raw(dir, "c.raw", MIB, 1);
    g_autofree char *other = in_dir(dir, "c.raw");
    assert_false(vr_disk_file_look(other, "qcow2", &raw, &error));
    expect_error(&error, VR_ERROR_INVALID, "c.raw: it has no qcow2 header");
}

static void put_byte(const char *path, off_t at, char byte)
{
    vr_autofd fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

/* With its bit, and without. */
static void data_in_another_file(void **state)
{
    TestDir *dir = *state;
    g_auto(VrDiskLook) with = {0};
    g_auto(VrDiskLook) without = {0};
    g_autofree char *path = in_dir(dir, "a.qcow2"), *data = in_dir(dir, "a.data");
    g_autofree char *option = g_strdup_printf("data_file=%s", data);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", option, path, "8M");
    assert_true(vr_disk_file_look(path, "qcow2", &with, NULL));
    assert_true(with.data_file && (with.incompatible & VR_QCOW2_DATA_FILE));
    put_byte(path, 79, 0);
    assert_true(vr_disk_file_look(path, "qcow2", &without, NULL));
    assert_true(without.data_file && without.incompatible == 0);
}

static void how_much_a_disk_can_grow(void **state)
{
    TestDir *dir = *state;
    guint64 bytes;
    struct stat st;
    g_autofree char *sparse = in_dir(dir, "sparse.raw");
    g_autofree char *qcow2 = in_dir(dir, "a.qcow2");
    tool("truncate", "-s", "8M", sparse);
    assert_true(vr_disk_file_growth(sparse, "raw", &bytes, NULL));
    assert_int_equal(bytes, 8 * MIB);
    tool("fallocate", "-l", "8M", sparse);
    assert_true(vr_disk_file_growth(sparse, "raw", &bytes, NULL));
    assert_int_equal(bytes, 0);
    make_qcow2(dir, "a.qcow2", NULL, 33 * MIB);
    assert_int_equal(stat(qcow2, &st), 0);
    assert_true(vr_disk_file_growth(qcow2, "qcow2", &bytes, NULL));
    assert_int_equal(bytes, 33 * MIB - st.st_blocks * 512);
    tool("fallocate", "-l", "40M", qcow2); /* its metadata, or what it has no use for, is no negative growth */
    assert_true(vr_disk_file_growth(qcow2, "qcow2", &bytes, NULL));
    assert_int_equal(bytes, 0);
}

static gboolean is_held(const char *path)
{
    g_autoptr(GError) error = NULL;
    gboolean held = FALSE;
    assert_true(vr_disk_file_is_open_by_qemu(path, &held, &error));
    expect_no_error(error);
    return held;
}

/* A real QEMU with this -drive; it runs no guest code. */
static GPid start_qemu(const char *drive)
{
    char *argv[] = {(char *)"qemu-system-x86_64",
                    (char *)"-S",
                    (char *)"-display",
                    (char *)"none",
                    (char *)"-nodefaults",
                    (char *)"-accel",
                    (char *)"tcg",
                    (char *)"-m",
                    (char *)"32",
                    (char *)"-drive",
                    (char *)drive,
                    NULL};
    GPid pid;
    assert_true(
        g_spawn_async(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, NULL));
    return pid;
}

static void stop_qemu(GPid pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static gboolean becomes_held(const char *path)
{
    gint64 deadline = vr_clock_now_ms() + 20000;
    while (vr_clock_now_ms() < deadline) {
        if (is_held(path))
            return TRUE;
        vr_clock_sleep_until(vr_clock_now_ms() + 20);
    }
    return FALSE;
}

static void a_running_qemu_is_seen(void **state)
{
    TestDir *dir = *state;
    const char *options[] = {"format=qcow2,if=virtio", "format=qcow2,if=virtio,readonly=on",
                             "format=qcow2,if=virtio,file.locking=on,cache=none"};
    make_qcow2(dir, "a.qcow2", NULL, 8 * MIB);
    g_autofree char *path = in_dir(dir, "a.qcow2");
    for (gsize i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *drive = g_strdup_printf("file=%s,%s", path, options[i]);
        assert_false(is_held(path));
        GPid qemu = start_qemu(drive);
        gboolean seen = becomes_held(path);
        gboolean still = is_held(path); /* asking takes nothing */
        stop_qemu(qemu);
        assert_true(seen && still);
        assert_false(is_held(path));
    }
}

static void a_base_under_an_overlay_is_seen(void **state)
{
    TestDir *dir = *state;
    make_qcow2(dir, "base.qcow2", NULL, 8 * MIB);
    g_autofree char *base = in_dir(dir, "base.qcow2");
    g_autofree char *top = in_dir(dir, "top.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top);
    g_autofree char *drive = g_strdup_printf("file=%s,format=qcow2,if=virtio", top);
    GPid qemu = start_qemu(drive);
    gboolean seen = becomes_held(top), below = becomes_held(base); /* it opens the base later */
    stop_qemu(qemu);
    assert_true(seen);
    assert_true(below);
}

static void other_locks_are_no_qemu(void **state)
{
    TestDir *dir = *state;
    make_raw(dir, "a.raw", MIB, 1);
    g_autofree char *path = in_dir(dir, "a.raw");
    vr_autofd fd = vr_open_beneath(dir->fd, "a.raw", O_RDWR, 0, NULL);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_false(is_held(path));
    lock = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 203, .l_len = 1};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_true(is_held(path));
}

static gboolean is_written(const char *path)
{
    vr_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return vr_disk_file_is_written_by_qemu(fd);
}

static gboolean is_out(const char *path)
{
    gboolean out = FALSE;
    assert_true(vr_disk_file_keeps_qemu_out(path, &out, NULL));
    return out;
}

/* A qemu-io with this option that has the file open until its input ends. */
static GPid open_with_qemu_io(const char *option, const char *format, const char *path, int *input)
{
    char *argv[] = {(char *)"qemu-io", (char *)option, (char *)"-f", (char *)format, (char *)path, NULL};
    GPid pid;
    assert_true(g_spawn_async_with_pipes(NULL, argv, NULL,
                                         G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                         NULL, NULL, &pid, input, NULL, NULL, NULL));
    assert_true(becomes_held(path));
    vr_clock_sleep_until(vr_clock_now_ms() + 500); /* it takes its locks one by one */
    return pid;
}

/* A real QEMU that is to write starts, or ends at once. */
static gboolean can_start(const char *path, const char *format)
{
    g_autofree char *drive = g_strdup_printf("file=%s,format=%s,if=virtio", path, format);
    GPid qemu = start_qemu(drive);
    for (int waited = 0; waited < 100; waited++) {
        if (waitpid(qemu, NULL, WNOHANG) == qemu)
            return FALSE;
        vr_clock_sleep_until(vr_clock_now_ms() + 20);
    }
    stop_qemu(qemu);
    return TRUE;
}

/* As QEMU itself has it: a reader that shares all keeps no guest out; one that writes, or lets nobody write, does. */
static void who_keeps_a_guest_out(void **state)
{
    TestDir *dir = *state;
    const struct {
        const char *option, *format;
        gboolean out;
    } rows[] = {{"-rU", "raw", FALSE}, {"-rU", "qcow2", FALSE}, {"-r", "raw", FALSE},
                {"-r", "qcow2", TRUE}, {"-n", "raw", TRUE},     {"-n", "qcow2", TRUE}};
    make_raw(dir, "a.raw", MIB, 1);
    make_qcow2(dir, "a.qcow2", NULL, 8 * MIB);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = g_strconcat("a.", rows[i].format, NULL);
        g_autofree char *path = in_dir(dir, name);
        int input;
        GPid io = open_with_qemu_io(rows[i].option, rows[i].format, path, &input);
        assert_true(is_held(path));
        assert_int_equal(is_out(path), rows[i].out);
        assert_int_equal(is_written(path), strcmp(rows[i].option, "-n") == 0);
        assert_int_equal(can_start(path, rows[i].format), !rows[i].out);
        close(input);
        assert_int_equal(waitpid(io, NULL, 0), io);
        assert_false(is_held(path));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_file_has_an_identity),
        dir_test(a_fifo_does_not_hang_us),
        dir_test(virtual_sizes),
        dir_test(a_running_qemu_is_seen),
        dir_test(a_base_under_an_overlay_is_seen),
        dir_test(other_locks_are_no_qemu),
        dir_test(what_a_header_says),
        dir_test(data_in_another_file),
        dir_test(how_much_a_disk_can_grow),
        dir_test(who_keeps_a_guest_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
