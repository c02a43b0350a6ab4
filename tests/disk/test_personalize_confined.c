/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the appliance of a personalisation is shut in, and that it ends with us (row C6): the real child and QEMU, looked at while they start. */
#include "disk/appliances.h"

#include <dirent.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define SECRET "correct-horse-battery-staple"

/* What is on it is never looked at: QEMU is gone before. */
static VrPersonal *a_disk(void)
{
    g_autofree char *base = in_dir(dir, "base.raw"), *disk = in_dir(dir, "disk.qcow2");
    VrPersonal *personal = vr_personal_new(disk, VR_FORMAT_QCOW2);

    tool("truncate", "-s", "24M", base);
    tool("mke2fs", "-q", "-F", "-t", "ext4", base);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, disk);
    personal->hostname = g_strdup("web-0");
    vr_personal_add_file(personal->files, "/etc/shop/tls.key", 0600, NULL, SECRET, strlen(SECRET));
    return personal;
}

/* The QEMU whose arguments hold the text; 0: none. */
static pid_t find_qemu(const char *text)
{
    DIR *proc = opendir("/proc");
    pid_t found = 0;
    for (struct dirent *entry = readdir(proc); entry && !found; entry = readdir(proc)) {
        g_autofree char *path = g_build_filename("/proc", entry->d_name, "cmdline", NULL);
        g_autofree char *bytes = NULL;
        gsize length = 0;
        if (!g_ascii_isdigit(entry->d_name[0]) || !g_file_get_contents(path, &bytes, &length, NULL))
            continue;
        for (gsize i = 0; i < length; i++)
            bytes[i] = bytes[i] ? bytes[i] : ' ';
        if (strstr(bytes, "qemu-system") && strstr(bytes, text) && strstr(bytes, "-append"))
            found = (pid_t)atoi(entry->d_name);
    }
    closedir(proc);
    return found;
}

static pid_t await_qemu(const char *text, gboolean there)
{
    for (guint i = 0; i < (there ? 600 : 50); i++) { /* by itself it would end later */
        pid_t pid = find_qemu(text);
        if ((pid != 0) == there)
            return pid;
        g_usleep(100000);
    }
    fail_msg("QEMU %s", there ? "did not come" : "stayed");
    return 0;
}

static gboolean is_in(pid_t pid, const char *file, const char *text)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, file);
    g_autofree char *bytes = NULL;
    gsize length = 0;
    if (!g_file_get_contents(path, &bytes, &length, NULL))
        fail_msg("%s is gone", path);
    return memmem(bytes, length, text, strlen(text)) != NULL;
}

static void expect_in(pid_t pid, const char *file, const char *text, gboolean there)
{
    if (is_in(pid, file, text) != there)
        fail_msg("%s of QEMU %s '%s'", file, there ? "lacks" : "has", text);
}

static void await_in(pid_t pid, const char *file, const char *text)
{
    for (guint i = 0; i < 300 && !is_in(pid, file, text); i++)
        g_usleep(100000);
    expect_in(pid, file, text, TRUE);
}

static void expect_apart(pid_t pid, const char *name)
{
    g_autofree char *theirs = g_strdup_printf("/proc/%d/ns/%s", (int)pid, name);
    g_autofree char *ours = g_strdup_printf("/proc/self/ns/%s", name);
    g_autofree char *a = g_file_read_link(theirs, NULL), *b = g_file_read_link(ours, NULL);
    assert_non_null(a);
    assert_string_not_equal(a, b);
}

static gboolean is_written(const char *point, const char *disk)
{
    return g_str_equal(point, "/tmp") || g_str_equal(point, "/tmp/.personalize/listing") || g_str_equal(point, disk);
}

/* mountinfo: proc(5). */
static void expect_read_only_mounts(pid_t pid, const char *disk)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/mountinfo", (int)pid), *text = NULL;
    gboolean disk_seen = FALSE;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(g_strchomp(text), "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", 7);
        if (!g_str_has_prefix(fields[5], "ro,") && !is_written(fields[4], disk))
            fail_msg("%s is not read-only", *line);
        disk_seen |= g_str_equal(fields[4], disk) && g_str_has_prefix(fields[5], "rw,");
    }
    assert_true(disk_seen);
}

/* In QEMU's mounts, with all rights of root and without Landlock: 0 when none of it can be done. */
static int try_to_change(const char *file, const char *disk)
{
    const struct timespec times[2] = {{0}};
    if (truncate(file, 0) == 0 || errno != EROFS)
        return 1;
    if (chmod(file, 04777) == 0 || errno != EROFS)
        return 2;
    if (chown(file, 1, 1) == 0 || errno != EROFS)
        return 3;
    if (utimensat(AT_FDCWD, file, times, 0) == 0 || errno != EROFS)
        return 4;
    if (setxattr(file, "user.x", "x", 1, 0) == 0 || errno != EROFS)
        return 5;
    if (open(file, O_WRONLY | O_CLOEXEC) >= 0 || errno != EROFS)
        return 6;
    return chmod(disk, 0600) == 0 && open("/dev/null", O_WRONLY | O_CLOEXEC) >= 0 ? 0 : 7;
}

static void expect_unchangeable(pid_t pid, const char *disk)
{
    g_autofree char *file = in_dir(dir, "base.raw"); /* the base, which is root's as much as the disk is */
    g_autofree char *mounts = g_strdup_printf("/proc/%d/ns/mnt", (int)pid);
    struct stat before, after;
    int status = 0;
    assert_int_equal(stat(file, &before), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(mounts, O_RDONLY | O_CLOEXEC);
        _exit(fd >= 0 && setns(fd, CLONE_NEWNS) == 0 ? try_to_change(file, disk) : 8);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(stat(file, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_size, before.st_size);
}

#ifdef __SANITIZE_ADDRESS__ /* its runtime takes the soft one away */
#define NO_CORE "Max core file size        0                    1 "
#else
#define NO_CORE "Max core file size        1                    1 "
#endif

static void expect_shut_in(pid_t pid, const char *disk)
{
    static const char *const namespaces[] = {"net", "pid", "mnt", "ipc"};
    static const char *const files[] = {"cmdline", "environ"};
    for (gsize i = 0; i < G_N_ELEMENTS(namespaces); i++)
        expect_apart(pid, namespaces[i]);
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++)
        expect_in(pid, files[i], SECRET, FALSE);
    g_autofree char *root = g_strdup_printf("/proc/%d/root", (int)pid), *run = g_build_filename(root, "run", NULL);
    assert_int_equal(count_entries(run), 0); /* no socket of a daemon */
    expect_in(pid, "cmdline", "spawn=deny", TRUE);
    await_in(pid, "status", "Seccomp:\t2\n"); /* QEMU's own doing, while it starts */
    expect_in(pid, "status", "CapEff:\t0000000000000000\n", TRUE);
    expect_in(pid, "status", "CapBnd:\t0000000000000000\n", TRUE);
    expect_in(pid, "status", "NoNewPrivs:\t1\n", TRUE);
    expect_in(pid, "limits", NO_CORE, TRUE);
    expect_read_only_mounts(pid, disk);
    expect_unchangeable(pid, disk);
}

/* In a process of its own, which is killed without a word once QEMU runs. */
static void shut_in_as(const VrPersonal *personal, uid_t user)
{
    pid_t us = fork();
    if (us == 0) {
        const VrPersonal *disks[] = {personal};
        VrPersonalizeOptions opts = options();
        GError *errors[1];
        if (setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0)
            _exit(2);
        _exit(vr_personalize(disks, 1, &opts, errors, NULL));
    }
    expect_shut_in(await_qemu(personal->disk, TRUE), personal->disk);
    assert_int_equal(kill(us, SIGKILL), 0);
    assert_int_equal(waitpid(us, NULL, 0), us);
    (void)await_qemu(personal->disk, FALSE);
}

static void qemu_is_shut_in_and_ends_with_us(void **state)
{
    g_autoptr(VrPersonal) personal = a_disk();
    shut_in_as(personal, 0);
}

/* In a session of a user its root is that user, in a user namespace, where the mounts of the host are locked. */
static void as_a_user_too(void **state)
{
    g_autoptr(VrPersonal) personal = a_disk();
    g_autofree char *base = in_dir(dir, "base.raw");
    tool("chown", "-R", "65534:65534", work, base, personal->disk);
    shut_in_as(personal, 65534);
    tool("chown", "-R", "0:0", work, base, personal->disk);
}

typedef struct {
    const char *disk;
    gint aborted;
} Cancel;

static void *cancel_when_it_runs(void *data)
{
    Cancel *cancel = data;
    (void)await_qemu(cancel->disk, TRUE);
    g_atomic_int_set(&cancel->aborted, 1);
    return NULL;
}

static void it_can_be_called_off(void **state)
{
    g_autoptr(VrPersonal) personal = a_disk();
    const VrPersonal *disks[] = {personal};
    VrPersonalizeOptions opts = options();
    Cancel cancel = {personal->disk, 0};
    GError *errors[1];
    GThread *thread = g_thread_new("cancel", cancel_when_it_runs, &cancel);

    opts.aborted = &cancel.aborted;
    assert_false(vr_personalize(disks, 1, &opts, errors, NULL));
    g_thread_join(thread);
    expect_error(&errors[0], VR_ERROR_CANCELLED, "called off");
    (void)await_qemu(personal->disk, FALSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qemu_is_shut_in_and_ends_with_us),
        cmocka_unit_test(as_a_user_too),
        cmocka_unit_test(it_can_be_called_off),
    };
    return cmocka_run_group_tests_name("personalize, shut in", tests, set_up, tear_down);
}
