/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virt-reimage-personalize FD LENGTH: not for people. FD is a file of a fixed size with the request, LENGTH bytes with its NUL, room for the report, and
 * room for what is read.
 *
 * unshare(1) started us as the first process of our namespaces: when we end, or the one that waits for us, QEMU ends too. Before the appliance is launched:
 * an empty /run, so that no socket of libvirtd or another daemon can be reached, a /tmp of our own in memory, every mount read-only but that /tmp and the disks
 * that are written, no capability, no way to get one, and Landlock; no network, as this network namespace has none. The files of the host are root's, and so
 * are we, and Landlock knows no chmod or chown, and before Linux 6.2 no truncate: so the mounts. libguestfs's traces stay off: they would hold what is written.
 *
 * Why root, and not nobody: a disk is 0600 of root, QEMU opens it by name, and /proc/PID/fd/N asks for the same permission again; to give the disk to
 * another user for that time would give it to all processes of that user. In a session of a user, root here is that user.
 */
#include "base/confine.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/personalize_guest.h"
#include "disk/personalize_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONSOLE 4096
#define MEMORY_MIB 768
#define SCRATCH "/tmp/.personalize" /* QEMU takes a TMPDIR of /tmp for /var/tmp */
#define SANDBOX "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
#define LISTING_DIR SCRATCH "/listing"
#define LISTING LISTING_DIR "/names"
#define LISTING_SIZE "size=68k,mode=0700" /* VR_GUEST_FILES_MAX names of 255 bytes */
#define PRIVATE_TMP "size=512m,mode=0700"
/* In an appliance that disks share, nothing is assembled from them: not by these modules, nor by md in the kernel. */
#define NOTHING_ASSEMBLED "module_blacklist=dm_mod,md_mod,raid0,raid1,raid10,raid456,linear,bcache raid=noautodetect"

#ifdef __SANITIZE_ADDRESS__
/* LeakSanitizer traces its own process, which this one forbids. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

/* ---- the request and the report ---- */

typedef struct {
    char console[CONSOLE]; /* the end of what QEMU and the appliance's kernel said; no trace, so no content of a file */
    gsize console_length;
    int fd;
    gsize request_length, result_at;
    VrPersonalRequest *request;
    gsize said;
} Child;

static gboolean read_request(Child *child, GError **error)
{
    struct stat st;
    child->result_at = child->request_length + VR_PERSONAL_REPORT_BYTES;
    if (fstat(child->fd, &st) < 0 || (guint64)st.st_size < child->result_at) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "this program is started by virt-reimage");
        return FALSE;
    }
    gsize got = 0;
    char *text = g_malloc0(child->request_length + 1);
    if (vr_pread_all(child->fd, text, child->request_length, 0, &got, error))
        child->request = vr_personal_request_read(text, strlen(text), error);
    explicit_bzero(text, child->request_length);
    g_free(text);
    return child->request != NULL;
}

static void report(Child *child, const char *line)
{
    gsize length = strlen(line);
    if (child->said + length + 1 > VR_PERSONAL_REPORT_BYTES)
        return;
    (void)!pwrite(child->fd, line, length, (off_t)(child->request_length + child->said));
    (void)!pwrite(child->fd, "\n", 1, (off_t)(child->request_length + child->said + length));
    child->said += length + 1;
}

static void report_number(Child *child, const char *word, guint i)
{
    g_autofree char *line = g_strdup_printf("%s %u", word, i);
    report(child, line);
}

static void report_failure(Child *child, guint i, const GError *error)
{
    g_autofree char *text = vr_printable(error->message, MIN((gssize)strlen(error->message), 2000));
    g_autofree char *line = g_strdup_printf("fail %u %d %s", i, error->code, text);
    report(child, line);
}

/* ---- shutting itself in ---- */

static void too_late(int signal_number)
{
    static const char said[] = "it did not end in time\n";
    (void)!write(STDERR_FILENO, said, sizeof said - 1);
    _exit(1);
}

/* What of ours lies beneath /tmp has its first part there again, beneath the new one. */
static int keep_of_tmp(const char *path, char **name)
{
    if (!g_str_has_prefix(path, "/tmp/"))
        return -1;
    g_autofree char *first = g_strndup(path, strlen("/tmp/") + strcspn(path + strlen("/tmp/"), "/"));
    int fd = open(first, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    *name = fd >= 0 ? g_steal_pointer(&first) : NULL;
    return fd;
}

static gboolean bind_again(int fd, const char *name)
{
    struct stat st;
    g_autofree char *source = g_strdup_printf("/proc/self/fd/%d", fd);
    if (access(name, F_OK) == 0)
        return TRUE;
    if (fstat(fd, &st) < 0)
        return FALSE;
    vr_autofd made = S_ISDIR(st.st_mode) ? -1 : open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (S_ISDIR(st.st_mode) ? mkdir(name, 0700) < 0 : made < 0)
        return FALSE;
    return mount(source, name, NULL, MS_BIND | MS_REC, NULL) == 0;
}

static gboolean own_directories(const VrPersonalRequest *request, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    for (guint i = 0; i <= request->disks->len; i++) {
        const VrPersonal *disk = i ? request->disks->pdata[i - 1] : NULL;
        char *name = NULL;
        int fd = keep_of_tmp(disk ? disk->disk : request->work_dir, &name);
        if (fd < 0)
            continue;
        g_array_append_val(fds, fd);
        g_ptr_array_add(names, name);
    }
    gboolean ok = mount("personalize", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, PRIVATE_TMP) == 0 &&
                  mkdir(SCRATCH, 0700) == 0 && mkdir(LISTING_DIR, 0700) == 0 &&
                  mount("personalize", LISTING_DIR, "tmpfs", MS_NOSUID | MS_NODEV, LISTING_SIZE) == 0 &&
                  mount("personalize", "/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "size=4k") == 0;
    for (guint i = 0; i < fds->len; i++) {
        ok = ok && bind_again(g_array_index(fds, int, i), names->pdata[i]);
        vr_fd_clear(&g_array_index(fds, int, i));
    }
    if (!ok)
        vr_set_error_errno(error, errno, "cannot make a /tmp and a /run of its own");
    return ok;
}

static gboolean drop_capabilities(GError **error)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    for (unsigned long one = 0; prctl(PR_CAPBSET_READ, one, 0, 0, 0) >= 0; one++)
        if (prctl(PR_CAPBSET_DROP, one, 0, 0, 0) < 0)
            goto failed;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, none) == 0)
        return TRUE;
failed:
    vr_set_error_errno(error, errno, "cannot drop privileges");
    return FALSE;
}

/* A disk that is read is not in it. */
static GPtrArray *written_paths(const VrPersonalRequest *request)
{
    GPtrArray *paths = g_ptr_array_new();
    g_ptr_array_add(paths, (gpointer) "/tmp");
    g_ptr_array_add(paths, (gpointer)LISTING_DIR);
    if (request->kvm)
        g_ptr_array_add(paths, (gpointer) "/dev/kvm");
    for (guint i = 0; i < request->disks->len && !request->read; i++)
        g_ptr_array_add(paths, ((VrPersonal *)request->disks->pdata[i])->disk);
    g_ptr_array_add(paths, NULL);
    return paths;
}

/* The mounts alone keep it from every file of the host; Landlock, where there is one, also from root's devices. */
static gboolean confine(const VrPersonalRequest *request, GError **error)
{
    g_autoptr(GPtrArray) paths = written_paths(request);
    const char *const *written = (const char *const *)paths->pdata;
    g_autoptr(GError) local = NULL;
    if (!vr_confine_mounts(written, error) || !drop_capabilities(error))
        return FALSE;
    if (vr_confine_closed(written, &local) || g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean shut_in(const VrPersonalRequest *request, GError **error)
{
    struct sigaction action = {.sa_handler = too_late};
    (void)umask(0077);
    (void)sigaction(SIGALRM, &action, NULL);
    (void)alarm(request->seconds);
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        vr_set_error_errno(error, errno, "cannot keep its memory to itself");
        return FALSE;
    }
    if (getpid() != 1) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "this program is started by virt-reimage");
        return FALSE;
    }
    (void)g_setenv("TMPDIR", SCRATCH, TRUE);
    (void)g_setenv("HOME", SCRATCH, TRUE);
    return own_directories(request, error) && confine(request, error);
}

/* ---- the appliance ---- */

typedef guestfs_h Guestfs;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Guestfs, guestfs_close)

static void hear(guestfs_h *g, void *data, uint64_t event, int handle, int flags, const char *text, size_t length,
                 const uint64_t *array, size_t array_length)
{
    Child *child = data;
    gsize fits = MIN(length, CONSOLE / 2), kept = MIN(child->console_length, CONSOLE - fits);
    memmove(child->console, child->console + child->console_length - kept, kept);
    memcpy(child->console + kept, text + length - fits, fits);
    child->console_length = kept + fits;
}

static gboolean appliance_failed(const Child *child, guestfs_h *g, GError **error, const char *what)
{
    g_autofree char *all = g_strchomp(g_strndup(child->console, child->console_length));
    const char *newline = strrchr(all, '\n');
    g_autofree char *last = vr_printable(newline ? newline + 1 : all, -1);
    const char *said = guestfs_last_error(g);
    g_autofree char *begin = vr_printable(said ? said : "no reason given", said ? (gssize)strcspn(said, "\n") : -1);
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "%s: %s%s%s%s", what, begin, *last ? " (it said last: " : "", last,
                *last ? ")" : "");
    return FALSE;
}

/* readonly: libguestfs makes a qcow2 in our /tmp with the disk behind it, which QEMU opens for reading then. So the appliance may write: it replays a journal, and
 * nothing of that comes to the disk. */
static gboolean add_disk(guestfs_h *g, const VrPersonal *disk, gboolean readonly)
{
    const char *format = vr_image_format_name(disk->format);
    if (readonly)
        return guestfs_add_drive_opts(g, disk->disk, GUESTFS_ADD_DRIVE_OPTS_FORMAT, format,
                                      GUESTFS_ADD_DRIVE_OPTS_READONLY, 1, -1) == 0;
    return guestfs_add_drive_opts(g, disk->disk, GUESTFS_ADD_DRIVE_OPTS_FORMAT, format,
                                  GUESTFS_ADD_DRIVE_OPTS_CACHEMODE, "writeback", -1) == 0;
}

static gboolean set_up(guestfs_h *g, const VrPersonalRequest *request)
{
    g_autofree char *appliance = g_build_filename(request->work_dir, VR_PERSONAL_APPLIANCE, NULL);
    gboolean shared = request->disks->len > 1;
    guestfs_set_error_handler(g, NULL, NULL);
    if (guestfs_set_backend(g, "direct") < 0 || guestfs_set_network(g, 0) < 0 || guestfs_set_trace(g, 0) < 0 ||
        guestfs_set_verbose(g, 0) < 0 || guestfs_set_memsize(g, MEMORY_MIB) < 0 || guestfs_set_smp(g, 1) < 0 ||
        guestfs_set_tmpdir(g, SCRATCH) < 0 || guestfs_set_cachedir(g, SCRATCH) < 0 ||
        guestfs_set_path(g, appliance) < 0 || guestfs_set_autosync(g, 1) < 0 ||
        guestfs_config(g, "-sandbox", SANDBOX) < 0 ||
        (!request->kvm && guestfs_set_backend_setting(g, "force_tcg", "1") < 0) ||
        (shared && guestfs_set_append(g, NOTHING_ASSEMBLED) < 0))
        return FALSE;
    for (guint i = 0; i < request->disks->len; i++)
        if (!add_disk(g, request->disks->pdata[i], request->read != NULL))
            return FALSE;
    return TRUE;
}

/* An umount writes all of a file system; that it came to the medium, the end of the appliance tells. */
static gboolean personalise(guestfs_h *g, const VrPersonal *disk, const char *device, char *const *partitions,
                            gboolean alone, GError **error)
{
    VrGuest guest = {.g = g, .partitions = partitions};
    gboolean ok = vr_guest_mount(&guest, device, alone, error) && vr_guest_apply(&guest, disk, error);
    vr_guest_umount(&guest);
    if (guestfs_umount_all(g) < 0 && ok)
        return vr_guest_failed(g, error, "its root cannot be unmounted");
    return ok;
}

static gboolean hand_over(const Child *child, const GPtrArray *files, GError **error)
{
    char *text = vr_personal_files_write(files);
    gboolean ok = text && strlen(text) < VR_PERSONAL_RESULT_BYTES &&
                  lseek(child->fd, (off_t)child->result_at, SEEK_SET) >= 0 &&
                  vr_write_all(child->fd, text, strlen(text), "what was read", NULL);
    vr_personal_text_free(text);
    if (!ok)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "what was read cannot be handed over");
    return ok;
}

static gboolean read_files(const Child *child, guestfs_h *g, const char *device, char *const *partitions,
                           GError **error)
{
    VrGuest guest = {.g = g, .partitions = partitions, .readonly = TRUE, .listing = LISTING};
    g_autoptr(GPtrArray) files = vr_guest_files_new();
    gboolean ok = vr_guest_mount(&guest, device, TRUE, error) &&
                  vr_guest_collect(&guest, (const char *const *)child->request->read, files, error) &&
                  hand_over(child, files, error);
    vr_guest_umount(&guest);
    (void)guestfs_umount_all(g);
    return ok;
}

/* FALSE: the appliance is gone. */
static gboolean do_one(Child *child, guestfs_h *g, guint i, const char *device, char *const *partitions, GError **error)
{
    g_autoptr(GError) failed = NULL;
    report_number(child, "begin", i);
    gboolean alone = child->request->disks->len == 1;
    gboolean ok = child->request->read
                      ? read_files(child, g, device, partitions, &failed)
                      : personalise(g, child->request->disks->pdata[i], device, partitions, alone, &failed);
    if (!guestfs_is_ready(g))
        return appliance_failed(child, g, error, failed ? failed->message : "it ended");
    if (ok)
        report_number(child, "done", i);
    else
        report_failure(child, i, failed);
    return TRUE;
}

static gboolean do_all(Child *child, guestfs_h *g, GError **error)
{
    g_auto(GStrv) devices = guestfs_list_devices(g), partitions = guestfs_list_partitions(g);
    if (!devices || !partitions || g_strv_length(devices) != child->request->disks->len) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_CHILD, "the appliance does not see its disks");
        return FALSE;
    }
    for (guint i = 0; i < child->request->disks->len; i++)
        if (!do_one(child, g, i, devices[i], partitions, error))
            return FALSE;
    if (guestfs_shutdown(g) < 0) /* an error of a write shows here */
        return vr_guest_failed(g, error, "the appliance does not end well");
    report(child, "flushed");
    return TRUE;
}

static gboolean work(Child *child, GError **error)
{
    if (!read_request(child, error) || !shut_in(child->request, error))
        return FALSE;
    g_autoptr(Guestfs) g = guestfs_create_flags(0);
    if (!g) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_CHILD, "libguestfs cannot be set up");
        return FALSE;
    }
    if (!set_up(g, child->request) || guestfs_set_event_callback(g, hear, GUESTFS_EVENT_APPLIANCE, 0, child) < 0 ||
        guestfs_launch(g) < 0)
        return appliance_failed(child, g, error, "libguestfs cannot launch its appliance");
    return do_all(child, g, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    guint64 fd = 0, length = 0;
    Child child = {0};

    if (argc != 3 || !g_ascii_string_to_unsigned(argv[1], 10, 3, G_MAXINT, &fd, NULL) ||
        !g_ascii_string_to_unsigned(argv[2], 10, 1, G_MAXINT, &length, NULL)) {
        fprintf(stderr, "this program is started by virt-reimage\n");
        return 2;
    }
    child.fd = (int)fd;
    child.request_length = (gsize)length;
    (void)fcntl(child.fd, F_SETFD, FD_CLOEXEC);
    gboolean ok = work(&child, &error);
    if (!ok)
        fprintf(stderr, "%s\n", error ? error->message : "it failed");
    vr_personal_request_free(child.request);
    return ok ? 0 : 1;
}
