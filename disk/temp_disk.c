/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The order, and what a crash in it leaves:
 *
 *   a file without a name (O_TMPFILE) in the directory of the disk -> its size -> mkfs as an unprivileged child, on the descriptor -> looked at again:
 *   it holds what was asked for -> owner and mode of the old one -> fsync -> the caller writes down which file it is -> link under the name
 *   `beside` -> rename over the old one, if that still is the recorded one -> fsync of the directory
 *
 * A file without a name is gone with its process. Between link and rename the new file is whole and has a name that nobody looks for;
 * vr_temp_disk_tidy() takes it away, by the identity that was written down. So the disk's path has the old file or the new one, never part of one.
 *
 * mkfs is another's code that reads nothing of a guest: it gets an empty file, and label and UUID as arguments of their own.
 */
#include "disk/temp_disk.h"

#include "base/child.h"
#include "base/confine.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY 65534
#define MKFS_MS 120000

void vr_temp_disk_clear(VrTempDisk *disk)
{
    g_clear_pointer(&disk->path, g_free);
    g_clear_pointer(&disk->type, g_free);
    g_clear_pointer(&disk->label, g_free);
    g_clear_pointer(&disk->uuid, g_free);
    g_clear_pointer(&disk->version, g_free);
}

/* --- what can be made -------------------------------------------------------------------------------- */

#define MAX_WORDS 12

typedef struct {
    const char *type;
    const char *words[6];     /* the program first */
    const char *label, *uuid; /* the options for them */
    const char *uuid_prefix;
} Maker;

static const Maker makers[] = {
    {"ext2", {"mkfs.ext2", "-q", "-F"}, "-L", "-U", ""},
    {"ext3", {"mkfs.ext3", "-q", "-F"}, "-L", "-U", ""},
    {"ext4", {"mkfs.ext4", "-q", "-F"}, "-L", "-U", ""},
    {"xfs", {"mkfs.xfs", "-q", "-f"}, "-L", "-m", "uuid="},
    {"btrfs", {"mkfs.btrfs", "-q", "-f"}, "-L", "-U", ""},
    {"vfat", {"mkfs.vfat"}, "-n", "-i", ""},
    {"swap", {"mkswap"}, "-L", "-U", ""},
};

static const Maker *maker_of(const char *type)
{
    for (gsize i = 0; i < G_N_ELEMENTS(makers); i++)
        if (strcmp(makers[i].type, type) == 0)
            return &makers[i];
    return NULL;
}

/* --- looking ----------------------------------------------------------------------------------------- */

typedef struct blkid_struct_probe Probe;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Probe, blkid_free_probe)

static char *value_of(Probe *probe, const char *name)
{
    const char *value = NULL;

    return blkid_probe_lookup_value(probe, name, &value, NULL) == 0 && *value ? g_strdup(value) : NULL;
}

static Probe *probe_new(int fd)
{
    g_autoptr(Probe) probe = blkid_new_probe();

    if (!probe || blkid_probe_set_device(probe, fd, 0, 0) != 0)
        return NULL;
    blkid_probe_enable_superblocks(probe, 1);
    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID |
                                                 BLKID_SUBLKS_VERSION);
    blkid_probe_enable_partitions(probe, 1);
    return g_steal_pointer(&probe);
}

/* VR_ERROR_REFUSED: it is more than one thing, or cannot be told. */
static gboolean read_content(int fd, VrTempDisk *disk, GError **error)
{
    g_autoptr(Probe) probe = probe_new(fd);
    int found = probe ? blkid_do_safeprobe(probe) : -1;
    g_autofree char *table = found == 0 ? value_of(probe, "PTTYPE") : NULL;

    if (found < 0 || table) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s, so it is not made anew", disk->path,
                    table ? "has a partition table" : "cannot be told what it holds");
        vr_error_now(error, "only a disk that is one file system is");
        return FALSE;
    }
    if (found > 0)
        return TRUE;
    disk->type = value_of(probe, "TYPE");
    disk->label = value_of(probe, "LABEL");
    disk->uuid = value_of(probe, "UUID");
    disk->version = value_of(probe, "VERSION");
    return TRUE;
}

static gboolean can_be_made(const VrTempDisk *disk, GError **error)
{
    const Maker *maker = disk->type ? maker_of(disk->type) : NULL;
    g_autofree char *program = maker ? g_find_program_in_path(maker->words[0]) : NULL;

    if (!disk->type || program)
        return TRUE;
    if (maker)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has %s, and %s is not installed", disk->path, disk->type,
                    maker->words[0]);
    else
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has %s, which is not made anew here", disk->path,
                    disk->type);
    return FALSE;
}

static const char *what_is_wrong(const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return "is no regular file";
    if (st->st_nlink != 1)
        return "has more than one name";
    return st->st_size == 0 ? "is empty" : NULL;
}

static int open_disk(const char *path, struct stat *st, GError **error)
{
    vr_autofd fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const char *wrong;

    if (fd < 0 || fstat(fd, st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", path);
        return -1;
    }
    wrong = what_is_wrong(st);
    if (!wrong)
        return vr_fd_steal(&fd);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s, so it is not taken for a temp disk", path, wrong);
    return -1;
}

gboolean vr_temp_disk_look(const char *path, VrTempDisk *disk, GError **error)
{
    char *resolved = realpath(path, NULL);
    struct stat st;

    if (!resolved) {
        vr_set_error_errno(error, errno, "cannot look at %s", path);
        return FALSE;
    }
    disk->path = g_strdup(resolved);
    free(resolved);
    vr_autofd fd = open_disk(disk->path, &st, error);
    return fd >= 0 && vr_disk_file_id_of(fd, disk->path, &disk->file, error) && read_content(fd, disk, error) &&
           can_be_made(disk, error);
}

char *vr_temp_disk_text(const VrTempDisk *disk)
{
    g_autofree char *label = disk->label ? vr_printable(disk->label, -1) : NULL;

    if (!disk->type)
        return g_strdup("nothing that is known");
    return g_strdup_printf("%s%s%s%s%s", disk->type, label ? ", label " : "", label ? label : "",
                           disk->uuid ? ", UUID " : "", disk->uuid ? disk->uuid : "");
}

/* --- making ------------------------------------------------------------------------------------------ */

/* "1234-ABCD" is an -i 1234ABCD of mkfs.vfat. */
static char *uuid_word(const Maker *maker, const VrTempDisk *disk)
{
    g_auto(GStrv) parts = strcmp(disk->type, "vfat") == 0 ? g_strsplit(disk->uuid, "-", 2) : NULL;
    g_autofree char *joined = parts ? g_strjoinv("", parts) : g_strdup(disk->uuid);

    return g_strconcat(maker->uuid_prefix, joined, NULL);
}

static gboolean run_mkfs(int fd, const VrTempDisk *disk, GError **error)
{
    const Maker *maker = maker_of(disk->type);
    const VrChildLimits limits = {.timeout_ms = MKFS_MS, .nobody = TRUE, .keep_fd = fd};
    g_autofree char *file = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *uuid = disk->uuid ? uuid_word(maker, disk) : NULL;
    gboolean fat32 = g_strcmp0(disk->type, "vfat") == 0 && g_strcmp0(disk->version, "FAT32") == 0;
    const char *argv[MAX_WORDS + 1] = {0};
    guint n = 0;

    for (guint i = 0; maker->words[i]; i++)
        argv[n++] = maker->words[i];
    if (fat32) {
        argv[n++] = "-F";
        argv[n++] = "32";
    }
    if (disk->label) {
        argv[n++] = maker->label;
        argv[n++] = disk->label;
    }
    if (uuid) {
        argv[n++] = maker->uuid;
        argv[n++] = uuid;
    }
    argv[n] = file;
    return vr_child_run(argv, &limits, NULL, error);
}

/* What a program says that it did is looked at. */
static gboolean is_as_asked(int fd, const VrTempDisk *disk, GError **error)
{
    g_auto(VrTempDisk) now = {.path = g_strdup(disk->path)};

    if (!read_content(fd, &now, error))
        return FALSE;
    if (g_strcmp0(now.type, disk->type) == 0 && g_strcmp0(now.label, disk->label) == 0 &&
        g_strcmp0(now.uuid, disk->uuid) == 0)
        return TRUE;
    g_autofree char *is = vr_temp_disk_text(&now);
    g_autofree char *asked = vr_temp_disk_text(disk);
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD, "what was made for %s is %s, and not %s", disk->path, is, asked);
    return FALSE;
}

static gboolean set_owner(int fd, uid_t uid, gid_t gid, mode_t mode, const char *path, GError **error)
{
    if ((geteuid() != 0 || fchown(fd, uid, gid) == 0) && fchmod(fd, mode) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "owner and mode of the new %s", path);
    return FALSE;
}

static gboolean fill(int fd, const VrTempDisk *disk, const struct stat *old, GError **error)
{
    if (ftruncate(fd, old->st_size) < 0) {
        vr_set_error_errno(error, errno, "the new %s", disk->path);
        return FALSE;
    }
    return (!disk->type || (set_owner(fd, NOBODY, NOBODY, 0600, disk->path, error) && run_mkfs(fd, disk, error) &&
                            is_as_asked(fd, disk, error))) &&
           set_owner(fd, old->st_uid, old->st_gid, old->st_mode & 07777, disk->path, error) &&
           vr_fsync(fd, disk->path, error);
}

typedef struct {
    const VrTempDisk *disk;
    const char *beside;
    VrDiskBefore before;
    void *data;
    GError **error;
    gboolean ok;
} Making;

static gboolean is_still_there(const VrTempDisk *disk, struct stat *st, GError **error)
{
    vr_autofd fd = open_disk(disk->path, st, error);
    VrFileId now;

    if (fd < 0 || !vr_disk_file_id_of(fd, disk->path, &now, error))
        return FALSE;
    if (vr_disk_file_same(&now, &disk->file))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s is another file by now", disk->path);
    return FALSE;
}

static gboolean tell(const Making *making, int fd, GError **error)
{
    VrFileId id;

    return vr_disk_file_id_of(fd, making->disk->path, &id, error) &&
           (!making->before || making->before(&id, making->data, error));
}

/* Two names for a moment, and one of them is the disk's. */
static gboolean take_place(const Making *making, int dir_fd, int fd, GError **error)
{
    g_autofree char *file = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *name = g_path_get_basename(making->disk->path);
    struct stat st;

    if (linkat(AT_FDCWD, file, dir_fd, making->beside, AT_SYMLINK_FOLLOW) < 0) {
        if (errno == EEXIST)
            g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "beside %s there is a %s already", making->disk->path,
                        making->beside);
        else
            vr_set_error_errno(error, errno, "the new %s", making->disk->path);
        return FALSE;
    }
    if (is_still_there(making->disk, &st, error)) {
        if (renameat(dir_fd, making->beside, dir_fd, name) == 0)
            return vr_fsync(dir_fd, making->disk->path, error);
        vr_set_error_errno(error, errno, "the new %s", making->disk->path);
    }
    unlinkat(dir_fd, making->beside, 0);
    return FALSE;
}

static gboolean make(const Making *making, GError **error)
{
    const VrTempDisk *disk = making->disk;
    g_autofree char *directory = g_path_get_dirname(disk->path);
    vr_autofd dir_fd = vr_dir_open(directory, error);
    vr_autofd fd = -1;
    struct stat old;

    if (dir_fd < 0 || !is_still_there(disk, &old, error))
        return FALSE;
    fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        vr_set_error_errno(error, errno, "a new file beside %s", disk->path);
        return FALSE;
    }
    return fill(fd, disk, &old, error) && tell(making, fd, error) && take_place(making, dir_fd, fd, error);
}

static void make_outside(void *data)
{
    Making *making = data;

    making->ok = make(making, making->error);
}

gboolean vr_temp_disk_make(const VrTempDisk *disk, const char *beside, VrDiskBefore before, void *data, GError **error)
{
    Making making = {.disk = disk, .beside = beside, .before = before, .data = data, .error = error};

    vr_confine_outside(make_outside, &making);
    return making.ok;
}

/* --- tidying ----------------------------------------------------------------------------------------- */

typedef struct {
    const char *path, *beside;
    const VrFileId *file;
    GError **error;
    gboolean ok;
} Tidying;

static void tidy_outside(void *data)
{
    Tidying *tidying = data;
    g_autofree char *directory = g_path_get_dirname(tidying->path);
    vr_autofd dir_fd = vr_dir_open(directory, tidying->error);
    VrFileId id;

    tidying->ok = dir_fd >= 0;
    if (dir_fd >= 0 && vr_disk_file_id_at(dir_fd, tidying->beside, &id) && vr_disk_file_same(&id, tidying->file))
        tidying->ok = vr_durable_unlink(dir_fd, tidying->beside, tidying->error);
}

gboolean vr_temp_disk_tidy(const char *path, const char *beside, const VrFileId *file, GError **error)
{
    Tidying tidying = {.path = path, .beside = beside, .file = file, .error = error};

    vr_confine_outside(tidy_outside, &tidying);
    return tidying.ok;
}
