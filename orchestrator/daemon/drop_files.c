/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/drop_files.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "disk/version.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SUMS_SUFFIX ".sha256"
#define ERROR_SUFFIX ".error"
#define SUMS_MAX (64 * 1024)

/* ---- names ---- */

void vr_drop_name_clear(VrDropName *name)
{
    g_clear_pointer(&name->version, g_free);
}

static gboolean cut_suffix(char *text, const char *suffix)
{
    if (!g_str_has_suffix(text, suffix))
        return FALSE;
    text[strlen(text) - strlen(suffix)] = '\0';
    return TRUE;
}

gboolean vr_drop_name_read(const char *file, VrDropName *name)
{
    static const char *const packed[] = {".xz", ".gz", ".zst"};
    static const char *const formats[] = {"qcow2", "raw"};
    g_autofree char *version = g_strdup(file);
    gboolean cut = FALSE;

    *name = (VrDropName){0};
    for (guint i = 0; i < G_N_ELEMENTS(packed) && !cut; i++)
        cut = cut_suffix(version, packed[i]);
    for (guint i = 0; i < G_N_ELEMENTS(formats) && !name->format; i++) {
        g_autofree char *suffix = g_strconcat(".", formats[i], NULL);
        name->format = cut_suffix(version, suffix) ? formats[i] : NULL;
    }
    if (!name->format || !vr_version_check(version, NULL))
        return FALSE;
    name->version = g_steal_pointer(&version);
    return TRUE;
}

char *vr_drop_sums(const char *file)
{
    return g_strconcat(file, SUMS_SUFFIX, NULL);
}

/* ---- directories ---- */

/* Nobody may write to it but its owner and its group. */
static gboolean check_dir(int fd, const char *what, struct stat *st, GError **error)
{
    if (fstat(fd, st) < 0) {
        vr_set_error_errno(error, errno, "%s", what);
        return FALSE;
    }
    if (!(st->st_mode & S_IWOTH) && (st->st_uid == 0 || st->st_uid == geteuid()))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "nothing is taken from %s: it must be root's, or the daemon's, and everybody must not write to it",
                what);
    return FALSE;
}

int vr_drop_open(const char *directory, gid_t *gid, GError **error)
{
    vr_autofd fd = vr_dir_open(directory, error);
    struct stat st;

    if (fd < 0 || !check_dir(fd, directory, &st, error))
        return -1;
    *gid = st.st_gid;
    return vr_fd_steal(&fd);
}

int vr_drop_open_image(int directory, const char *name, GError **error)
{
    vr_autofd fd = vr_open_beneath(directory, name, O_RDONLY | O_DIRECTORY, 0, error);
    struct stat st;

    return fd >= 0 && check_dir(fd, name, &st, error) ? vr_fd_steal(&fd) : -1;
}

/* One of ours in it, made where it is not there. */
static int open_place(int image_dir, const char *place, mode_t mode, GError **error)
{
    vr_autofd fd = vr_mkdir_beneath(image_dir, place, mode, error);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH)))
        return vr_fd_steal(&fd);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the directory '%s' of the drop folder is not the daemon's alone",
                place);
    return -1;
}

int vr_drop_open_taken(int image_dir, GError **error)
{
    return open_place(image_dir, VR_DROP_TAKEN, 0700, error);
}

DIR *vr_drop_list(int dir)
{
    vr_autofd fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);

    if (list)
        (void)vr_fd_steal(&fd); /* closedir() closes it */
    return list;
}

/* ---- to look ---- */

gboolean vr_drop_sight_equal(const VrDropSight *a, const VrDropSight *b)
{
    const struct stat *of_a[] = {&a->image, &a->sums}, *of_b[] = {&b->image, &b->sums};

    for (guint i = 0; i < 2; i++)
        if (of_a[i]->st_dev != of_b[i]->st_dev || of_a[i]->st_ino != of_b[i]->st_ino ||
            of_a[i]->st_size != of_b[i]->st_size || of_a[i]->st_mtim.tv_sec != of_b[i]->st_mtim.tv_sec ||
            of_a[i]->st_mtim.tv_nsec != of_b[i]->st_mtim.tv_nsec)
            return FALSE;
    return TRUE;
}

/* NULL: it may be taken. Static. */
static const char *why_not(const struct stat *st, gid_t gid)
{
    if (!S_ISREG(st->st_mode))
        return "is no regular file";
    if (st->st_nlink != 1)
        return "has a second name somewhere";
    if (st->st_mode & S_IWOTH)
        return "may be written to by everybody";
    if (st->st_uid != 0 && st->st_uid != geteuid() && st->st_gid != gid)
        return "is neither root's nor of the group of the drop folder";
    return NULL;
}

/* A lease for reading is given where nobody has the file open for writing. The signal that tells its holder of a writer who comes meanwhile must
 * be one that does no harm. */
static VrDropState is_written(int fd)
{
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return VR_DROP_MAYBE;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN ? VR_DROP_BUSY : VR_DROP_MAYBE;
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return VR_DROP_WHOLE;
}

/* O_NONBLOCK: a FIFO has nobody who writes. */
static VrDropState look_at(int image_dir, const char *name, gid_t gid, struct stat *st, char **why)
{
    g_autoptr(GError) local = NULL;
    const char *text;
    vr_autofd fd = -1;

    if (fstatat(image_dir, name, st, AT_SYMLINK_NOFOLLOW) < 0)
        return VR_DROP_ABSENT;
    text = why_not(st, gid);
    if (!text)
        fd = vr_open_beneath(image_dir, name, O_RDONLY | O_NONBLOCK, 0, &local);
    if (!text && fd < 0)
        text = local->message;
    else if (!text && fstat(fd, st) < 0)
        text = g_strerror(errno);
    else if (!text)
        text = why_not(st, gid);
    if (!text)
        return is_written(fd);
    *why = g_strdup_printf("%s %s", name, text);
    return VR_DROP_BAD;
}

VrDropState vr_drop_look(int image_dir, const char *file, gid_t gid, VrDropSight *sight, char **why)
{
    g_autofree char *sums = vr_drop_sums(file);
    VrDropState image, digest;
    struct stat st;

    *sight = (VrDropSight){0};
    if (fstatat(image_dir, file, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(image_dir, sums, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return VR_DROP_ABSENT;
    image = look_at(image_dir, file, gid, &sight->image, why);
    if (image == VR_DROP_ABSENT || image == VR_DROP_BAD)
        return image;
    digest = look_at(image_dir, sums, gid, &sight->sums, why);
    if (digest == VR_DROP_ABSENT || digest == VR_DROP_BAD)
        return digest;
    if (sight->sums.st_size > SUMS_MAX) {
        *why = g_strdup_printf("%s is longer than the line of a digest", sums);
        return VR_DROP_BAD;
    }
    return MIN(image, digest); /* busy before maybe before whole */
}

/* ---- to move ---- */

/* FALSE with an error: as one of them could not be moved, none was. */
static gboolean move_both(int from, int to, const char *file, gboolean replace, GError **error)
{
    g_autofree char *sums = vr_drop_sums(file);
    unsigned int flags = replace ? 0 : RENAME_NOREPLACE;

    if (renameat2(from, file, to, file, flags) < 0) {
        vr_set_error_errno(error, errno, "cannot move %s", file);
        return FALSE;
    }
    if (renameat2(from, sums, to, sums, flags) == 0)
        return vr_fsync(from, file, error) && vr_fsync(to, file, error);
    vr_set_error_errno(error, errno, "cannot move %s", sums);
    (void)renameat2(to, file, from, file, RENAME_NOREPLACE);
    return FALSE;
}

static gboolean is_same(int dir, const char *name, const struct stat *seen)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == seen->st_dev &&
           st.st_ino == seen->st_ino && S_ISREG(st.st_mode);
}

gboolean vr_drop_take(int image_dir, const char *file, const VrDropSight *sight, GError **error)
{
    g_autofree char *sums = vr_drop_sums(file);
    vr_autofd taken = vr_drop_open_taken(image_dir, error);

    if (taken < 0 || !move_both(image_dir, taken, file, TRUE, error))
        return FALSE;
    if (is_same(taken, file, &sight->image) && is_same(taken, sums, &sight->sums))
        return TRUE;
    (void)move_both(taken, image_dir, file, FALSE, NULL);
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was looked at", file);
    return FALSE;
}

static gboolean write_error(int dir, const char *file, const char *text, GError **error)
{
    g_autofree char *name = g_strconcat(file, ERROR_SUFFIX, NULL);
    g_autofree char *line = text ? g_strconcat(text, "\n", NULL) : NULL;

    return text ? vr_durable_write(dir, name, line, strlen(line), 0644, TRUE, error)
                : vr_durable_unlink(dir, name, error);
}

void vr_drop_note(int image_dir, const char *file, const char *text)
{
    g_autoptr(GError) local = NULL;

    if (!write_error(image_dir, file, text, &local))
        vr_debug("cannot say in the drop folder what is wrong: %s", local->message);
}

gboolean vr_drop_put(int image_dir, const char *file, const char *place, const char *text, GError **error)
{
    vr_autofd taken = vr_drop_open_taken(image_dir, error);
    vr_autofd to = taken < 0 ? -1
                   : place   ? open_place(image_dir, place, 0755, error)
                             : fcntl(image_dir, F_DUPFD_CLOEXEC, 3);

    if (to < 0 || !move_both(taken, to, file, place != NULL, error))
        return FALSE;
    vr_drop_note(to, file, text);
    if (place)
        vr_drop_note(image_dir, file, NULL);
    return TRUE;
}

void vr_drop_put_back(int image_dir)
{
    vr_autofd taken = vr_open_beneath(image_dir, VR_DROP_TAKEN, O_RDONLY | O_DIRECTORY, 0, NULL);
    DIR *dir = taken >= 0 ? vr_drop_list(taken) : NULL;

    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir))
        if (entry->d_name[0] != '.')
            (void)renameat2(taken, entry->d_name, image_dir, entry->d_name, RENAME_NOREPLACE);
    if (dir)
        closedir(dir);
}
