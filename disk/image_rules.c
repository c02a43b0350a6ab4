/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rules that are newer than the verdict stored with a version (SAFETY invariant 5). The version never changes, so neither
 * does what it records; what a newer program found is in the database, by the file's inode, size and change time, and for
 * exactly this version of the rules. Asked before a disk is made on it or from it and before a run, never before a start or
 * a rollback.
 */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/store_private.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    int known; /* 1: found; 0: not; -1: error */
    gboolean accepted;
    char *text; /* owned; why not */
} Found;

static void found_clear(Found *found)
{
    g_free(found->text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Found, found_clear)

static gint64 ctime_ns(const struct stat *st)
{
    return (gint64)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

static void find(VrDb *db, const VrImage *image, const struct stat *st, Found *found, GError **error)
{
    found->known = -1;
    if (!vr_db_begin_read(db, error))
        return;
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error,
        "SELECT accepted, reason FROM image_rechecked"
        " WHERE path = ? AND inode = ? AND size = ? AND ctime_ns = ? AND rules_version = ?",
        "siiii", image->path, (gint64)st->st_ino, (gint64)st->st_size, ctime_ns(st), (gint64)VR_IMAGE_RULES_VERSION);
    found->known = stmt ? vr_db_step(db, stmt, error) : -1;
    if (found->known > 0) {
        found->accepted = sqlite3_column_int(stmt, 0) != 0;
        found->text = vr_db_text(stmt, 1);
    }
    vr_db_rollback(db); /* only read */
}

static gboolean remember(VrDb *db, const VrImage *image, const struct stat *st, const VrImageVerdict *verdict,
                         GError **error)
{
    if (vr_db_is_read_only(db))
        return TRUE;
    if (!vr_db_begin(db, error))
        return FALSE;
    g_autofree char *text = g_strdup_printf("(rule %s): %s", vr_image_rule_name(verdict->rule), verdict->reason);
    if (vr_db_run(db, NULL, error,
                  "INSERT OR REPLACE INTO image_rechecked(path, inode, size, ctime_ns, rules_version, accepted, reason)"
                  " VALUES (?, ?, ?, ?, ?, ?, ?)",
                  "siiiiis", image->path, (gint64)st->st_ino, (gint64)st->st_size, ctime_ns(st),
                  (gint64)VR_IMAGE_RULES_VERSION, (gint64)verdict->accepted, verdict->accepted ? NULL : text))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

static gboolean check_now(VrStore *store, int fd, const VrImage *image, const struct stat *st, GError **error)
{
    VrImageVerdict verdict;
    const VrImagePolicy policy = {.format_given = TRUE, .format = image->format};
    return vr_image_check(fd, &policy, &verdict, error) && remember(store->db, image, st, &verdict, error) &&
           vr_image_verdict_require(&verdict, image->path, error);
}

gboolean vr_image_recheck_fd(VrStore *store, int fd, const VrImage *image, GError **error)
{
    struct stat st;
    g_auto(Found) found = {0};
    if (image->rules_version >= VR_IMAGE_RULES_VERSION)
        return TRUE;
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", image->path);
        return FALSE;
    }
    find(store->db, image, &st, &found, error);
    if (found.known == 0)
        return check_now(store, fd, image, &st, error);
    if (found.known > 0 && !found.accepted)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is refused %s", image->path, found.text);
    return found.known > 0 && found.accepted;
}

static gboolean require(VrStore *store, const VrImage *image, GError **error)
{
    g_autoptr(VrImage) now = vr_image_load(store, image->name, image->version, error);
    if (!now)
        return FALSE;
    if (strcmp(now->stored_digest, image->stored_digest) != 0) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_CONFLICT,
                            "it was deleted and published with other bytes since the version was chosen");
        vr_error_next(error, "begin again");
        return FALSE;
    }
    vr_autofd fd = vr_image_open_disk(store, image, error);
    return fd >= 0 && vr_image_recheck_fd(store, fd, image, error);
}

gboolean vr_image_require(VrStore *store, const VrImage *image, GError **error)
{
    if (require(store, image, error))
        return TRUE;
    g_prefix_error(error, "cannot make a disk of %s %s: ", image->name, image->version);
    return FALSE;
}
