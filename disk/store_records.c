/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the database says of a version: whether an admin excluded it, and which bytes were seen to be right. */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/store_private.h"
#include "disk/version.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const char *const schema[] = {
    "CREATE TABLE image_excludes(name TEXT NOT NULL, version TEXT NOT NULL, reason TEXT, at TEXT NOT NULL,"
    " PRIMARY KEY(name, version)) STRICT;"
    "CREATE TABLE image_verified(path TEXT PRIMARY KEY, inode INTEGER NOT NULL, size INTEGER NOT NULL,"
    " ctime_ns INTEGER NOT NULL, digest TEXT NOT NULL) STRICT",
    "CREATE TABLE image_rechecked(path TEXT PRIMARY KEY, inode INTEGER NOT NULL, size INTEGER NOT NULL,"
    " ctime_ns INTEGER NOT NULL, rules_version INTEGER NOT NULL, accepted INTEGER NOT NULL, reason TEXT) STRICT",
    /* what is deleted is named before (SAFETY invariant 7); outcome NULL: under way */
    "CREATE TABLE image_deletions(opid TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, path TEXT NOT NULL,"
    " device INTEGER NOT NULL, inode INTEGER NOT NULL, digest TEXT, asked_by INTEGER NOT NULL, began TEXT NOT NULL,"
    " ended TEXT, outcome TEXT) STRICT",
};

gboolean vr_store_schema(VrDb *db, GError **error)
{
    return vr_db_schema(db, "disk", schema, G_N_ELEMENTS(schema), error);
}

/* ---- excludes ---- */

static char *key_of(const char *name, const char *version)
{
    return g_strconcat(name, "/", version, NULL); /* neither may hold a slash */
}

/* "NAME/VERSION" -> reason or NULL. Within a transaction. */
static GHashTable *read_excludes(VrDb *db, GError **error)
{
    g_autoptr(GHashTable) excludes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, "SELECT name, version, reason FROM image_excludes", NULL);
    int more = stmt ? vr_db_step(db, stmt, error) : -1;
    for (; more > 0; more = vr_db_step(db, stmt, error)) {
        g_autofree char *name = vr_db_text(stmt, 0);
        g_autofree char *version = vr_db_text(stmt, 1);
        g_hash_table_insert(excludes, key_of(name, version), vr_db_text(stmt, 2));
    }
    return more < 0 ? NULL : g_steal_pointer(&excludes);
}

gboolean vr_store_apply_excludes(VrStore *store, GPtrArray *images, GError **error)
{
    if (!vr_db_begin_read(store->db, error))
        return FALSE;
    g_autoptr(GHashTable) excludes = read_excludes(store->db, error);
    vr_db_rollback(store->db); /* only read */
    for (guint i = 0; excludes && i < images->len; i++) {
        VrImage *image = images->pdata[i];
        gpointer reason = NULL;
        g_autofree char *key = key_of(image->name, image->version);
        image->excluded = g_hash_table_lookup_extended(excludes, key, NULL, &reason);
        g_free(image->excluded_reason);
        image->excluded_reason = g_strdup(reason);
    }
    return excludes != NULL;
}

static gboolean write_exclude(VrDb *db, const char *name, const char *version, gboolean excluded, const char *reason,
                              GError **error)
{
    if (!excluded)
        return vr_db_run(db, NULL, error, "DELETE FROM image_excludes WHERE name = ? AND version = ?", "ss", name,
                         version);
    g_autofree char *now = vr_clock_format(vr_clock_wall_us());
    return vr_db_run(db, NULL, error,
                     "INSERT OR REPLACE INTO image_excludes(name, version, reason, at) VALUES (?, ?, ?, ?)", "ssss",
                     name, version, reason, now);
}

gboolean vr_store_set_excluded(VrStore *store, const char *name, const char *version, gboolean excluded,
                               const char *reason, GError **error)
{
    GError *local = NULL;
    if (!vr_name_check(name, "image", error) || !vr_version_check(version, error))
        return FALSE;
    /* Not through vr_store_get: a damaged version is the one that must be excluded. */
    g_autofree char *found = vr_store_find_version(store, name, version, &local);
    if (!found) {
        if (local)
            g_propagate_error(error, local);
        else
            (void)vr_store_get(store, name, version, error); /* says what there is */
        return FALSE;
    }
    if (!vr_db_begin(store->db, error))
        return FALSE;
    if (write_exclude(store->db, name, found, excluded, reason, error))
        return vr_db_commit(store->db, error);
    vr_db_rollback(store->db);
    return FALSE;
}

/* ---- verified ---- */

static gint64 ctime_ns(const struct stat *st)
{
    return (gint64)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

/* 1: this file was verified as it is now; 0: not; -1: error. */
static int was_verified(VrDb *db, const VrImage *image, const struct stat *st, GError **error)
{
    if (!vr_db_begin_read(db, error))
        return -1;
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error,
        "SELECT 1 FROM image_verified WHERE path = ? AND inode = ? AND size = ? AND ctime_ns = ? AND digest = ?",
        "siiis", image->path, (gint64)st->st_ino, (gint64)st->st_size, ctime_ns(st), image->stored_digest);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;
    vr_db_rollback(db);
    return row;
}

static gboolean remember_verified(VrDb *db, const VrImage *image, const struct stat *st, GError **error)
{
    if (vr_db_is_read_only(db))
        return TRUE;
    if (!vr_db_begin(db, error))
        return FALSE;
    if (vr_db_run(db, NULL, error,
                  "INSERT OR REPLACE INTO image_verified(path, inode, size, ctime_ns, digest) VALUES (?, ?, ?, ?, ?)",
                  "siiis", image->path, (gint64)st->st_ino, (gint64)st->st_size, ctime_ns(st), image->stored_digest))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

static gboolean look(int fd, struct stat *st, const VrImage *image, GError **error)
{
    if (fstat(fd, st) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot look at %s", image->path);
    return FALSE;
}

static gboolean compare_bytes(int fd, const VrImage *image, const struct stat *before, GError **error)
{
    struct stat after;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    if (!vr_digest_fd(fd, image->file_size, digest, error) || !look(fd, &after, image, error))
        return FALSE;
    if (ctime_ns(before) != ctime_ns(&after) || before->st_size != after.st_size) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s was changed while it was verified", image->path);
        return FALSE;
    }
    if (strcmp(digest, image->stored_digest) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "%s does not hold the bytes that were published: sha256:%s is there, sha256:%s is recorded",
                image->path, digest, image->stored_digest);
    return FALSE;
}

gboolean vr_image_compare_bytes(VrStore *store, int fd, const VrImage *image, GError **error)
{
    struct stat st;
    return look(fd, &st, image, error) && compare_bytes(fd, image, &st, error) &&
           remember_verified(store->db, image, &st, error);
}

gboolean vr_store_verify(VrStore *store, const VrImage *image, gboolean force, GError **error)
{
    struct stat st;
    vr_autofd fd = vr_image_open_disk(store, image, error);
    if (fd < 0 || !look(fd, &st, image, error) || !vr_image_recheck_fd(store, fd, image, error))
        return FALSE;
    int known = force ? 0 : was_verified(store->db, image, &st, error);
    if (known != 0)
        return known > 0;
    return compare_bytes(fd, image, &st, error) && remember_verified(store->db, image, &st, error);
}
