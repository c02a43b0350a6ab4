/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a version goes (SAFETY invariants 6, 7): its name, path, device, inode and digest are written down -> under the
 * database's write lock: it is asked once more whether anybody needs it, and the directory is renamed into a locked temp
 * directory -> what is in that is unlinked -> the record is ended.
 *
 * The rename is the point of no return. A swap journals its generation under the same write lock before it makes an overlay: so
 * either the question sees it, or the version is gone before. Killed before the rename the version is whole; after it, the
 * sweep of temp directories does the rest, and vr_store_settle_deletions() ends the record.
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/store_private.h"
#include "disk/version.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GONE "deleted"
#define STAYED "not deleted"

typedef struct {
    VrStore *store;
    const char *name, *version;
    char *opid, *relpath, *path; /* owned */
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    struct stat found; /* the directory */
    VrStillFree still_free;
    void *data;
} Deletion;

static void deletion_clear(Deletion *d)
{
    g_free(d->opid);
    g_free(d->relpath);
    g_free(d->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Deletion, deletion_clear)

/* ---- the record ---- */

static gboolean run_alone(VrDb *db, gboolean ok, GError **error)
{
    if (ok)
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

static gboolean write_begin(const Deletion *d, GError **error)
{
    VrDb *db = d->store->db;
    if (!vr_db_begin(db, error))
        return FALSE;
    g_autofree char *now = vr_clock_format(vr_clock_wall_us());
    return run_alone(
        db,
        vr_db_run(db, NULL, error,
                  "INSERT INTO image_deletions(opid, name, version, path, device, inode, digest, asked_by, began)"
                  " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                  "ssssiisis", d->opid, d->name, d->version, d->path, (gint64)d->found.st_dev, (gint64)d->found.st_ino,
                  *d->digest ? d->digest : NULL, (gint64)getuid(), now),
        error);
}

static gboolean write_end(VrDb *db, const char *opid, const char *outcome, GError **error)
{
    if (!vr_db_begin(db, error))
        return FALSE;
    g_autofree char *now = vr_clock_format(vr_clock_wall_us());
    return run_alone(db,
                     vr_db_run(db, NULL, error,
                               "UPDATE image_deletions SET ended = ?, outcome = ? WHERE opid = ? AND outcome IS NULL",
                               "sss", now, outcome, opid),
                     error);
}

/* What the database says of a version that is no more would be said of the next one of that number. */
static gboolean forget(const Deletion *d, GError **error)
{
    VrDb *db = d->store->db;
    g_autofree char *prefix = g_strconcat(d->path, "/disk.", NULL);
    return vr_db_run(db, NULL, error, "DELETE FROM image_excludes WHERE name = ? AND version = ?", "ss", d->name,
                     d->version) &&
           vr_db_run(db, NULL, error, "DELETE FROM image_verified WHERE substr(path, 1, length(?1)) = ?1", "s",
                     prefix) &&
           vr_db_run(db, NULL, error, "DELETE FROM image_rechecked WHERE substr(path, 1, length(?1)) = ?1", "s",
                     prefix);
}

/* ---- the deed ---- */

static gboolean is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static gboolean find_version(Deletion *d, GError **error)
{
    vr_autofd fd = vr_open_beneath(d->store->root_fd, d->relpath, O_RDONLY | O_DIRECTORY, 0, error);
    if (fd < 0)
        return FALSE;
    if (fstat(fd, &d->found) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", d->path);
        return FALSE;
    }
    g_autoptr(VrImage) image = vr_image_load(d->store, d->name, d->version, NULL);
    if (image)
        memcpy(d->digest, image->stored_digest, sizeof d->digest);
    return TRUE;
}

/* Within the database's write lock. */
static gboolean take_name(Deletion *d, VrTmpdir *tmp, GError **error)
{
    struct stat now;
    if (fstatat(tmp->parent_fd, d->version, &now, AT_SYMLINK_NOFOLLOW) < 0 || !is_same(&now, &d->found)) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed meanwhile", d->path);
        return FALSE;
    }
    return (!d->still_free || d->still_free(d->store->db, d->name, d->version, d->data, error)) && forget(d, error) &&
           vr_durable_rename(tmp->parent_fd, d->version, tmp->dir_fd, "v", error);
}

/* The temp directory is made before the record: while it is locked, nobody else ends that. */
static gboolean take_away(Deletion *d, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(d->relpath);
    vr_autofd name_fd = vr_open_beneath(d->store->root_fd, parent, O_RDONLY | O_DIRECTORY, 0, error);
    g_autoptr(VrTmpdir) tmp = name_fd < 0 ? NULL : vr_tmpdir_new(name_fd, d->opid, error);
    return tmp && write_begin(d, error) && vr_db_begin(d->store->db, error) &&
           run_alone(d->store->db, take_name(d, tmp, error), error);
}

gboolean vr_store_delete(VrStore *store, const char *name, const char *version, VrStillFree still_free, void *data,
                         GError **error)
{
    if (!vr_name_check(name, "image", error) || !vr_version_check(version, error))
        return FALSE;
    g_auto(Deletion) d = {.store = store, .name = name, .version = version, .still_free = still_free, .data = data};
    d.opid = g_uuid_string_random();
    d.relpath = g_build_filename("images", name, version, NULL);
    d.path = g_build_filename(store->root, d.relpath, NULL);
    if (!find_version(&d, error))
        return FALSE;
    if (!take_away(&d, error)) {
        if (error && *error && ((*error)->code == VR_ERROR_IO || (*error)->code == VR_ERROR_NO_SPACE))
            g_prefix_error(error, "%s cannot be deleted: ", d.path);
        (void)vr_store_settle_deletions(store, NULL); /* the error that matters is set */
        return FALSE;
    }
    g_autofree char *parent = g_path_get_dirname(d.relpath);
    vr_store_drop_empty(store, parent);
    return write_end(store->db, d.opid, GONE, error);
}

/* ---- after a crash ---- */

typedef struct {
    char *opid, *relpath;
    ino_t inode;
} Open;

static void open_free(gpointer data)
{
    Open *one = data;
    g_free(one->opid);
    g_free(one->relpath);
    g_free(one);
}

static GPtrArray *read_open(VrDb *db, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(open_free);
    int more = -1;
    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            db, error, "SELECT opid, name, version, inode FROM image_deletions WHERE outcome IS NULL", NULL);
        while (stmt && (more = vr_db_step(db, stmt, error)) > 0) {
            Open *one = g_new0(Open, 1);
            g_autofree char *name = vr_db_text(stmt, 1);
            g_autofree char *version = vr_db_text(stmt, 2);
            one->opid = vr_db_text(stmt, 0);
            one->relpath = g_build_filename("images", name, version, NULL);
            one->inode = (ino_t)sqlite3_column_int64(stmt, 3);
            g_ptr_array_add(rows, one);
        }
    }
    vr_db_rollback(db);
    return more == 0 ? g_steal_pointer(&rows) : NULL;
}

/* A deletion that is under way has its temp directory locked; its record is its own. */
static gboolean is_alive(VrStore *store, const Open *one)
{
    g_autofree char *parent = g_path_get_dirname(one->relpath);
    g_autofree char *tmp = g_strdup_printf("%s/.tmp-%s", parent, one->opid);
    vr_autofd fd = vr_open_beneath(store->root_fd, tmp, O_RDONLY | O_DIRECTORY, 0, NULL);
    return fd >= 0;
}

gboolean vr_store_settle_deletions(VrStore *store, GError **error)
{
    g_autoptr(GPtrArray) rows = read_open(store->db, error);
    for (guint i = 0; rows && i < rows->len; i++) {
        const Open *one = rows->pdata[i];
        struct stat now;
        vr_autofd fd = vr_open_beneath(store->root_fd, one->relpath, O_RDONLY | O_DIRECTORY, 0, NULL);
        /* The number of a device may be another one after a reboot of the host. */
        gboolean stayed = fd >= 0 && fstat(fd, &now) == 0 && now.st_ino == one->inode;
        if (is_alive(store, one))
            continue;
        if (!write_end(store->db, one->opid, stayed ? STAYED : GONE, error))
            return FALSE;
    }
    return rows != NULL;
}
