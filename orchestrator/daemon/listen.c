/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/listen.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define BACKLOG 256 /* who comes too many at once is refused in words, which needs to be accepted */
#define LOCK_NAME "virt-reimaged.lock"

static const struct {
    const char *name, *manager_name; /* of the file; in FileDescriptorName= */
    mode_t mode;
} kinds[2] = {{VR_SOCKET_NAME, "rw", 0660}, {VR_SOCKET_RO_NAME, "ro", 0666}};

/* ---- from the service manager ---- */

/* Of the file that the socket is bound to; one that is bound to none has no group. */
static gid_t group_of(int fd)
{
    struct sockaddr_un address = {0};
    socklen_t length = sizeof address - 1;
    struct stat st;

    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 || address.sun_path[0] != '/')
        return 0;
    return stat(address.sun_path, &st) == 0 ? st.st_gid : 0;
}

static gboolean take_given(VrListens *listens, int fd, const char *name, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_str_equal(name, kinds[i].manager_name) && listens->sockets[i].fd < 0 &&
            sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0) {
            (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
            listens->sockets[i].fd = fd;
            listens->sockets[i].group = group_of(fd);
            return TRUE;
        }
    g_set_error(
        error, VR_ERROR, VR_ERROR_USAGE,
        "the service manager has given a descriptor '%s', which is not one Unix stream socket of the name rw or "
        "ro; look at FileDescriptorName= of the socket units",
        name);
    return FALSE;
}

/* 1: there were some; 0: none; -1: error. */
static int take_from_manager(VrListens *listens, GError **error)
{
    g_auto(GStrv) names = NULL;
    int n = sd_listen_fds_with_names(1, &names);

    if (n < 0) {
        vr_set_error_errno(error, -n, "cannot take the sockets of the service manager");
        return -1;
    }
    for (int i = 0; i < n; i++)
        if (!take_given(listens, SD_LISTEN_FDS_START + i, names[i], error))
            return -1;
    return n > 0 ? 1 : 0;
}

/* ---- our own ---- */

static gid_t find_group(void)
{
    struct group *group = getgrnam(VR_SOCKET_GROUP);

    return group ? group->gr_gid : 0;
}

static int open_dir(const char *dir, GError **error)
{
    struct stat st;
    vr_autofd fd = -1;

    if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
        vr_set_error_errno(error, errno, "cannot make the directory of the sockets, %s", dir);
        return -1;
    }
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot open the directory of the sockets, %s", dir);
        return -1;
    }
    if (st.st_uid != geteuid() || (st.st_mode & S_IWOTH)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s is not a directory of ours alone, so others could put sockets in it", dir);
        vr_error_next(error, "name another one with --socket-dir");
        return -1;
    }
    return vr_fd_steal(&fd);
}

static void name_socket(struct sockaddr_un *address, int dir_fd, guint kind)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    g_snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dir_fd, kinds[kind].name);
}

/* The service manager listens for a daemon that it starts, and holds no lock of ours. A socket that a killed one left refuses. */
static gboolean is_served(int dir_fd, guint kind)
{
    struct sockaddr_un address;
    vr_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    name_socket(&address, dir_fd, kind);
    return fd >= 0 && (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN);
}

/* By way of /proc, so that the length of the directory's name does not matter. Nobody can connect before it has its mode and its group:
 * it is made with no permissions at all. */
static int make_socket(int dir_fd, guint kind, gid_t group, GError **error)
{
    struct sockaddr_un address;
    vr_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t before = umask(0777);
    gboolean made;

    name_socket(&address, dir_fd, kind);
    made = fd >= 0 && (unlinkat(dir_fd, kinds[kind].name, 0) == 0 || errno == ENOENT) &&
           bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    umask(before);
    if (made && listen(fd, BACKLOG) == 0 && (!group || fchownat(dir_fd, kinds[kind].name, (uid_t)-1, group, 0) == 0) &&
        fchmodat(dir_fd, kinds[kind].name, kinds[kind].mode, 0) == 0)
        return vr_fd_steal(&fd);
    vr_set_error_errno(error, errno, "cannot listen on %s", kinds[kind].name);
    return -1;
}

static gboolean make_own(VrListens *listens, const char *dir, GError **error)
{
    g_autofree char *holder = g_strdup_printf("pid %d", (int)getpid());
    gid_t group = geteuid() == 0 ? find_group() : 0;

    listens->dir_fd = open_dir(dir, error);
    if (listens->dir_fd < 0)
        return FALSE;
    listens->lock = vr_lock_acquire(listens->dir_fd, LOCK_NAME, holder, error);
    if (!listens->lock) {
        g_prefix_error(error, "another virt-reimaged serves in %s: ", dir);
        return FALSE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (is_served(listens->dir_fd, i)) {
            g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "somebody listens on %s/%s already", dir, kinds[i].name);
            vr_error_next(error, "'systemctl status virt-reimaged virt-reimage.socket' shows it; one beside it needs a "
                                 "--socket-dir of its own");
            return FALSE;
        }
        listens->sockets[i].fd = make_socket(listens->dir_fd, i, group, error);
        if (listens->sockets[i].fd < 0)
            return FALSE;
        listens->sockets[i].group = kinds[i].mode == 0660 ? group : 0;
    }
    return TRUE;
}

gboolean vr_listen_open(VrListens *listens, const char *dir, GError **error)
{
    int given;

    *listens = (VrListens){.sockets = {{.fd = -1}, {.fd = -1, .read_only = TRUE}}, .dir_fd = -1};
    if (dir)
        return make_own(listens, dir, error);
    given = take_from_manager(listens, error);
    return given > 0 || (given == 0 && make_own(listens, VR_SOCKET_DIR, error));
}

/* One that we could not make is not ours to remove: it has no descriptor. */
void vr_listen_clear(VrListens *listens)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (listens->lock && listens->sockets[i].fd >= 0)
            (void)unlinkat(listens->dir_fd, kinds[i].name, 0);
        vr_fd_clear(&listens->sockets[i].fd);
    }
    vr_fd_clear(&listens->dir_fd);
    g_clear_pointer(&listens->lock, vr_lock_release);
}
