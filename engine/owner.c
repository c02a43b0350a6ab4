/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ownership of a set. The lock says who works on it now and goes with the process; the fencing number says
 * whose writes count. Both are needed: a process that was stopped for a minute still has its descriptors, and
 * one that lost its lock (a file system that was remounted, an admin who removed the file) would not know.
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "engine/journal.h"

#include <pwd.h>
#include <unistd.h>

/* The line that the next one reads when it is refused. */
static char *holder_line(const char *what)
{
    g_autofree char *since = vr_clock_format(vr_clock_wall_us());
    const struct passwd *user = getpwuid(getuid());

    return g_strdup_printf("%s (pid %d, by %s, since %s)", what, (int)getpid(), user ? user->pw_name : "?", since);
}

static gboolean raise_fence(VrJournal *journal, const char *set_name, gint64 *fence, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(sqlite3_stmt) stmt = NULL;

    stmt = vr_db_prepare(db, error,
                         "INSERT INTO owners (set_name, fence) VALUES (?, 1) "
                         "ON CONFLICT (set_name) DO UPDATE SET fence = fence + 1 RETURNING fence",
                         "s", set_name);
    if (!stmt || vr_db_step(db, stmt, error) != 1)
        return FALSE;
    *fence = sqlite3_column_int64(stmt, 0);
    return vr_db_step(db, stmt, error) == 0;
}

VrOwner *vr_owner_acquire(VrJournal *journal, int root_fd, const char *set_name, const char *what, GError **error)
{
    g_autoptr(VrOwner) owner = g_new0(VrOwner, 1);
    g_autofree char *holder = holder_line(what);
    g_autoptr(GError) local = NULL;
    VrDb *db = vr_journal_db(journal);
    vr_autofd locks = vr_mkdir_beneath(root_fd, "locks", 0700, error);

    if (locks < 0) {
        g_prefix_error(error, "set '%s': ", set_name);
        return NULL;
    }
    owner->set_name = g_strdup(set_name);
    owner->lock = vr_lock_acquire(locks, set_name, holder, &local);
    if (!owner->lock) {
        g_set_error(error, VR_ERROR, local->code, "set '%s': %s%s", set_name, local->message,
                    local->code == VR_ERROR_BUSY ? "; wait until it ends; cancel ends a run" : "");
        return NULL;
    }
    if (!vr_db_begin(db, error))
        return NULL;
    if (!raise_fence(journal, set_name, &owner->fence, error)) {
        vr_db_rollback(db);
        return NULL;
    }
    if (!vr_db_commit(db, error))
        return NULL;
    return g_steal_pointer(&owner);
}

void vr_owner_release(VrOwner *owner)
{
    if (!owner)
        return;
    g_clear_pointer(&owner->lock, vr_lock_release);
    g_free(owner->set_name);
    g_free(owner);
}

static gboolean check_fence(VrJournal *journal, const VrOwner *owner, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(sqlite3_stmt) stmt = NULL;
    int row;

    stmt = vr_db_prepare(db, error, "SELECT fence FROM owners WHERE set_name = ?", "s", owner->set_name);
    if (!stmt)
        return FALSE;
    row = vr_db_step(db, stmt, error);
    if (row < 0)
        return FALSE;
    if (row == 1 && sqlite3_column_int64(stmt, 0) == owner->fence)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_FENCED,
                "set '%s' has another owner by now; this process changes nothing any more", owner->set_name);
    return FALSE;
}

gboolean vr_owner_begin(VrJournal *journal, const VrOwner *owner, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_db_begin(db, error))
        return FALSE;
    if (check_fence(journal, owner, error))
        return TRUE;
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_owner_check(VrJournal *journal, const VrOwner *owner, GError **error)
{
    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    vr_db_rollback(vr_journal_db(journal));
    return TRUE;
}
