/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/doctor.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/confine.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/personalize.h"
#include "hv/connection.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/remote.h"
#include "orchestrator/cli/remote_socket.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/kvm_proof.h"
#include "orchestrator/os_content.h"
#include "orchestrator/outbox_deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LITTLE_SPACE (G_GUINT64_CONSTANT(5) << 30)

/* Both strings are taken; remedy may be NULL. */
static void answer(VrCheck *check, VrCheckResult result, char *text, const char *remedy)
{
    check->result = result;
    check->text = text;
    check->remedy = g_strdup(remedy);
}

/* remedy: where the error knows no next. */
static void answer_with_error(VrCheck *check, const GError *error, const char *remedy)
{
    const char *cause = vr_error_part(error, VR_ERROR_CAUSE), *next = vr_error_part(error, VR_ERROR_NEXT);
    g_autofree char *what = vr_error_what(error);

    answer(check, VR_CHECK_FAIL, g_strconcat(what, cause && *what ? ": " : "", cause, NULL), next ? next : remedy);
}

/* The root, or the nearest directory above it that is there. Free with g_free. */
static char *nearest_directory(const char *root)
{
    char *path = g_strdup(root);

    while (!g_file_test(path, G_FILE_TEST_IS_DIR) && !g_str_equal(path, "/") && !g_str_equal(path, ".")) {
        char *parent = g_path_get_dirname(path);
        g_free(path);
        path = parent;
    }
    return path;
}

/* Are the guests meant those of the user alone? */
static gboolean is_of_session(const VrDoctor *doctor)
{
    const char *given = doctor->cli->options.uri ? doctor->cli->options.uri : g_getenv("LIBVIRT_DEFAULT_URI");
    const char *uri = given && *given ? given : vr_cli_default_uri();
    g_autofree char *path = g_strndup(uri, strcspn(uri, "?"));

    return g_str_has_suffix(path, "/session");
}

/* --- the hypervisor ---------------------------------------------------------------------------------- */

static void check_libvirt(VrDoctor *doctor, VrCheck *check)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *uri = NULL;
    g_autofree char *versions = NULL;

    doctor->hv = vr_connection_open(doctor->cli->options.uri, NULL, &local);
    uri = doctor->hv ? vr_connection_uri(doctor->hv, &local) : NULL;
    versions = uri ? vr_connection_versions(doctor->hv, &local) : NULL;
    if (versions)
        answer(check, VR_CHECK_OK, g_strdup_printf("%s, %s", uri, versions), NULL);
    else
        answer_with_error(check, local, "start libvirtd, or name another one with --connect");
}

static void check_kvm(VrDoctor *doctor, VrCheck *check)
{
    g_autoptr(GError) local = NULL;

    if (access("/dev/kvm", F_OK) < 0)
        answer(check, VR_CHECK_WARN, g_strdup("there is no /dev/kvm: guests of type 'kvm' do not start here"),
               "switch virtualization on in the firmware, or nested virtualization in the host above");
    else if (access("/dev/kvm", R_OK | W_OK) < 0)
        answer(check, VR_CHECK_WARN, g_strdup_printf("/dev/kvm cannot be opened: %s", g_strerror(errno)),
               "run as root, or join the group kvm; it is not proven to work");
    else if (vr_kvm_prove(&local))
        answer(check, VR_CHECK_OK, g_strdup("proven by booting a 64-bit guest"), NULL);
    else
        answer(check, VR_CHECK_WARN,
               g_strdup_printf("/dev/kvm is there, but a guest did not boot with it: %s", local->message),
               "guests of type 'kvm' may hang here; type 'qemu' works and is slower");
}

static void check_qemu_img(VrDoctor *doctor, VrCheck *check)
{
    const char *const argv[] = {"qemu-img", "--version", NULL};
    g_auto(VrChildResult) result = {0};
    g_autoptr(GError) local = NULL;

    if (!vr_child_run(argv, NULL, &result, &local) || result.exit_status != 0)
        answer(check, VR_CHECK_FAIL, g_strdup(local ? local->message : "qemu-img --version failed"),
               "install it (Debian: qemu-utils)");
    else
        answer(check, VR_CHECK_OK, g_strndup(result.out, strcspn(result.out, "\n")), NULL);
}

static void check_personalize(VrDoctor *doctor, VrCheck *check)
{
    g_autoptr(GError) local = NULL;

    if (vr_personalize_is_possible(&local))
        answer(check, VR_CHECK_OK, g_strdup("its appliance can be built"), NULL);
    else
        answer(check, VR_CHECK_WARN, g_strdup_printf("new disks cannot be personalised offline: %s", local->message),
               VR_PERSONALIZE_REMEDY);
}

static void check_seed(VrDoctor *doctor, VrCheck *check)
{
    g_autoptr(GError) local = NULL;

    if (vr_seed_has_tool(&local))
        answer(check, VR_CHECK_OK, g_strdup("makes the seeds of osProfile"), NULL);
    else
        answer(check, VR_CHECK_WARN, g_strdup("new disks cannot get the seed of an osProfile: xorrisofs is not there"),
               "install it (Debian: xorriso)");
}

/* --- the kernel -------------------------------------------------------------------------------------- */

static void check_io_uring(VrDoctor *doctor, VrCheck *check)
{
    struct io_uring_params params = {0};
    vr_autofd fd = (int)syscall(__NR_io_uring_setup, 2, &params);

    if (fd >= 0)
        answer(check, VR_CHECK_OK, g_strdup("works"), NULL);
    else
        answer(check, VR_CHECK_WARN,
               g_strdup_printf("cannot be used: %s; copies take the plain path", g_strerror(errno)),
               "see the sysctl kernel.io_uring_disabled and the seccomp profile of a container");
}

static void check_landlock(VrDoctor *doctor, VrCheck *check)
{
    int version = vr_confine_version();

    if (version > 0)
        answer(check, VR_CHECK_OK, g_strdup_printf("version %d: a run can write to nothing but the store", version),
               NULL);
    else
        answer(check, VR_CHECK_WARN,
               g_strdup("the kernel has none that could be used: nothing but our own care keeps a run from data disks"),
               "Linux 5.19 or newer with landlock in the parameter lsm=");
}

static int nameless_file(const char *directory)
{
    return open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static void check_reflink(VrDoctor *doctor, VrCheck *check)
{
    const char *root = doctor->cli->options.root;
    static const char block[4096] = {0};
    vr_autofd from = -1;
    vr_autofd to = -1;

    if (!g_file_test(root, G_FILE_TEST_IS_DIR)) {
        answer(check, VR_CHECK_OK, g_strdup_printf("not tried: %s is not there yet", root), NULL);
        return;
    }
    from = nameless_file(root);
    to = nameless_file(root);
    if (from < 0 || to < 0 || !vr_write_all(from, block, sizeof(block), "a probe", NULL))
        answer(check, VR_CHECK_OK, g_strdup_printf("not tried: no file can be made in %s", root), NULL);
    else if (ioctl(to, FICLONE, from) == 0)
        answer(check, VR_CHECK_OK, g_strdup("the file system of the store shares blocks"), NULL);
    else
        answer(check, VR_CHECK_OK, g_strdup("not on this file system: images are copied in full when published"), NULL);
}

/* --- the store --------------------------------------------------------------------------------------- */

static void check_store(VrDoctor *doctor, VrCheck *check)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) open = NULL;

    if (vr_session_open_read(&session, doctor->cli, &local))
        open = vr_journal_open_swaps(session.journal, NULL, &local);
    if (open && open->len > 0)
        answer(check, VR_CHECK_WARN, g_strdup_printf("%s: %u open swap(s)", vr_store_root(session.store), open->len),
               "they belong to a run in progress; if there is none: virt-reimage recover");
    else if (open)
        answer(check, VR_CHECK_OK, g_strdup(vr_store_root(session.store)), NULL);
    else if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        answer(check, VR_CHECK_OK,
               g_strdup_printf("%s: empty as yet, 'virt-reimage image-publish' fills it", doctor->cli->options.root),
               NULL);
    else
        answer(check, VR_CHECK_FAIL, g_strdup(local->message), "see what is said there");
}

static void check_space(VrDoctor *doctor, VrCheck *check)
{
    g_autofree char *directory = nearest_directory(doctor->cli->options.root);
    struct statvfs fs;
    guint64 bytes;

    if (statvfs(directory, &fs) < 0) {
        answer(check, VR_CHECK_FAIL, g_strdup_printf("%s: %s", directory, g_strerror(errno)), "name another --root");
        return;
    }
    bytes = (guint64)fs.f_bavail * fs.f_frsize;
    g_autofree char *shown = vr_text_size(bytes);
    answer(check, bytes < LITTLE_SPACE ? VR_CHECK_WARN : VR_CHECK_OK,
           g_strdup_printf("%s free in %s", shown, directory),
           bytes < LITTLE_SPACE ? "make space: an OS disk that runs full pauses its guest" : NULL);
}

/* QEMU of qemu:///system runs as a user of its own and must get through to the disks. */
static void check_path(VrDoctor *doctor, VrCheck *check)
{
    g_autofree char *path = nearest_directory(doctor->cli->options.root);
    struct stat st;

    if (is_of_session(doctor)) {
        answer(check, VR_CHECK_OK, g_strdup("QEMU runs as you"), NULL);
        return;
    }
    for (;;) {
        char *parent;
        if (stat(path, &st) == 0 && !(st.st_mode & S_IXOTH)) {
            answer(check, VR_CHECK_WARN, g_strdup_printf("other users cannot pass %s, and QEMU is one", path),
                   "chmod o+x it, or name another --root");
            return;
        }
        if (g_str_equal(path, "/") || g_str_equal(path, "."))
            break;
        parent = g_path_get_dirname(path);
        g_free(path);
        path = parent;
    }
    answer(check, VR_CHECK_OK, g_strdup("QEMU's user can reach the store"), NULL);
}

static void check_pools(VrDoctor *doctor, VrCheck *check)
{
    g_autofree char *root = g_canonicalize_filename(doctor->cli->options.root, NULL);
    g_autoptr(GPtrArray) pools = doctor->hv ? vr_connection_pools_over(doctor->hv, root, NULL) : NULL;
    g_autofree char *names = NULL;

    if (!pools) {
        answer(check, VR_CHECK_OK, g_strdup("not looked at: libvirt cannot be asked"), NULL);
        return;
    }
    if (pools->len == 0) {
        answer(check, VR_CHECK_OK, g_strdup("the store lies in no pool of libvirt"), NULL);
        return;
    }
    g_ptr_array_add(pools, NULL);
    names = g_strjoinv(", ", (char **)pools->pdata);
    answer(check, VR_CHECK_WARN,
           g_strdup_printf("the store lies in a pool of libvirt (%s), whose refresh opens every file", names),
           "virsh pool-destroy and pool-undefine it, or name another --root");
}

static void check_security(VrDoctor *doctor, VrCheck *check)
{
    g_autoptr(GPtrArray) models = doctor->hv ? vr_connection_security_models(doctor->hv, NULL) : NULL;
    gboolean confined = FALSE;
    g_autofree char *names = NULL;

    if (!models) {
        answer(check, VR_CHECK_OK, g_strdup("not looked at: libvirt cannot be asked"), NULL);
        return;
    }
    for (guint i = 0; i < models->len; i++)
        confined |= g_str_equal(models->pdata[i], "apparmor") || g_str_equal(models->pdata[i], "selinux");
    g_ptr_array_add(models, NULL);
    names = g_strjoinv(", ", (char **)models->pdata);
    if (confined)
        answer(check, VR_CHECK_WARN, g_strdup_printf("libvirt confines guests by %s", names),
               "try one guest first: its new OS disk and the base below it must be allowed to it");
    else
        answer(check, VR_CHECK_OK, g_strdup_printf("libvirt confines guests by %s", *names ? names : "nothing"), NULL);
}

static void check_user(VrDoctor *doctor, VrCheck *check)
{
    if (geteuid() == 0)
        answer(check, VR_CHECK_OK, g_strdup("root"), NULL);
    else if (is_of_session(doctor))
        answer(check, VR_CHECK_OK,
               g_strdup_printf("%s, for guests of your own (qemu:///session); those of the host are root's: use sudo",
                               g_get_user_name()),
               NULL);
    else
        answer(check, VR_CHECK_WARN, g_strdup("not root: disks of qemu:///system cannot be made or sealed"),
               "use sudo, or --connect qemu:///session");
}

static void check_notices(VrDoctor *doctor, VrCheck *check)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrConfig) config = vr_config_load(NULL, &local);
    g_autoptr(GPtrArray) channels = config ? vr_outbox_channels(config) : NULL;
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; channels && i < channels->len && !local; i++) {
        const VrChannel *channel = channels->pdata[i];
        g_string_append_printf(names, "%s%s", names->len ? ", " : "", channel->name);
        if (channel->check)
            channel->check(channel, &local);
    }
    if (local)
        answer(check, VR_CHECK_WARN, g_strdup(local->message),
               "until then what is told of runs waits; 'virt-reimage notices' lists it");
    else if (names->len == 0)
        answer(check, VR_CHECK_OK, g_strdup("not asked for: no hook, webhook or journal is told of runs"), NULL);
    else
        answer(check, VR_CHECK_OK, g_strdup_printf("runs are told to: %s", names->str), NULL);
}

/* Asks as a command does, and goes before anything is begun. */
static void check_daemon(VrDoctor *doctor, VrCheck *check)
{
    g_autofree char *message = NULL;
    gboolean read_only = FALSE;
    vr_autofd fd = -1;

    switch (vr_remote_socket_open(doctor->cli, vr_clock_now_ms() + VR_REMOTE_PATIENCE_MS, &fd, &read_only, &message)) {
    case VR_REMOTE_SOCKET_READY:
        answer(check, VR_CHECK_OK, g_strdup("virt-reimaged does the commands that you give"), NULL);
        break;
    case VR_REMOTE_SOCKET_NONE:
        answer(
            check, VR_CHECK_OK,
            g_strdup_printf("not used: no virt-reimaged runs here for %s, this libvirt and this store; what you type "
                            "is done without it",
                            g_get_user_name()),
            NULL);
        break;
    case VR_REMOTE_SOCKET_SILENT:
        answer(check, VR_CHECK_WARN, g_strdup("virt-reimaged does not answer, so nothing begins by itself"),
               "'systemctl status virt-reimaged' shows it");
        break;
    default:
        answer(check, VR_CHECK_WARN, g_strdup_printf("virt-reimaged does not take commands: %s", message),
               "'systemctl status virt-reimaged' shows it");
    }
}

const VrDoctorCheck vr_doctor_checks[] = {{"libvirt", check_libvirt},
                                          {"user", check_user},
                                          {"kvm", check_kvm},
                                          {"qemu-img", check_qemu_img},
                                          {"libguestfs", check_personalize},
                                          {"xorriso", check_seed},
                                          {"io_uring", check_io_uring},
                                          {"landlock", check_landlock},
                                          {"store", check_store},
                                          {"path", check_path},
                                          {"space", check_space},
                                          {"reflink", check_reflink},
                                          {"pools", check_pools},
                                          {"security", check_security},
                                          {"notices", check_notices},
                                          {"daemon", check_daemon},
                                          {NULL, NULL}};
