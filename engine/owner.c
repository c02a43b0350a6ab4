/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ownership of a set. The lock says who works on it now and goes with the process; the fencing number says
 * whose writes count. Both are needed: a process that was stopped for a minute still has its descriptors, and
 * one that lost its lock (a file system that was remounted, an admin who removed the file) would not know.
 *
 * A process that is stopped (SIGSTOP) keeps its lock, so nobody takes the set over from it: VR_ERROR_BUSY says that it is stopped. When
 * its lock file was removed, another can; what wakes up then is fenced: no write of its passes, and it reads the number again before
 * each libvirt call that changes something. What the number cannot stop is a call that was checked and not yet sent when
 * its process was stopped: that one goes out when it wakes, and engine/swap.c says how a late call is met.
 */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/journal.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The line that the next one reads when it is refused. */
static char *holder_line(const char *what)
{
    g_autofree char *since = vr_clock_format(vr_clock_wall_us());
    const struct passwd *user = getpwuid(getuid());

    return g_strdup_printf("%s (pid %d, by %s, since %s)", what, (int)getpid(), user ? user->pw_name : "?", since);
}

char *vr_owner_advice(const char *set_name, const char *holder)
{
    const char *at = strstr(holder, "(pid ");
    int pid = at ? atoi(at + strlen("(pid ")) : 0;

    if (pid > 0 && vr_process_is_stopped(pid))
        return g_strdup_printf(
            "its process is stopped: 'kill -CONT %d' lets it go on; 'kill -KILL %d' ends it, and the next "
            "command recovers what it left",
            pid, pid);
    return g_strdup_printf("wait until it ends; 'virt-reimage cancel %s' ends a run at its batch border", set_name);
}

/* A set that has had an owner has a lock file, which we never remove. */
static gboolean note_take_over(VrJournal *journal, const VrOwner *owner, gboolean had_file, GError **error)
{
    const char *left = vr_lock_left(owner->lock);
    g_autofree char *text = NULL;

    if (left)
        text = g_strdup_printf("taken over from %s, which ended without giving it back", left);
    else if (!had_file && owner->fence > 1)
        text =
            g_strdup("taken over: its lock file had been removed; whoever held that, if it lives, can change nothing "
                     "any more");
    if (!text)
        return TRUE;
    vr_warning(owner->set_name, "%s", text);
    return vr_journal_event(journal, owner, NULL, NULL, "took-over", text, error);
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
    gboolean had_file;

    if (locks < 0) {
        g_prefix_error(error, "set '%s': ", set_name);
        return NULL;
    }
    had_file = faccessat(locks, set_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    owner->set_name = g_strdup(set_name);
    owner->lock = vr_lock_acquire(locks, set_name, holder, &local);
    if (!owner->lock) {
        g_autofree char *advice = vr_owner_advice(set_name, local->message);
        const char *held = g_str_has_prefix(local->message, set_name) ? local->message + strlen(set_name) : NULL;
        if (held && local->code == VR_ERROR_BUSY) {
            g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "set '%s'%s", set_name, held);
            vr_error_next(error, "%s", advice);
        } else {
            g_set_error(error, VR_ERROR, local->code, "set '%s': %s", set_name, local->message);
            vr_error_adopt(error, local);
        }
        return NULL;
    }
    if (!vr_db_begin(db, error))
        return NULL;
    if (!raise_fence(journal, set_name, &owner->fence, error)) {
        vr_db_rollback(db);
        return NULL;
    }
    if (!vr_db_commit(db, error) || !note_take_over(journal, owner, had_file, error))
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
    g_set_error(error, VR_ERROR, VR_ERROR_FENCED, "set '%s' has another owner by now", owner->set_name);
    vr_error_now(error, "this process changes nothing any more");
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
    VrDb *db = vr_journal_db(journal);
    gboolean ok;

    /* The number as it was committed last: whoever raises it has the set only then. */
    if (!vr_db_begin_read(db, error))
        return FALSE;
    ok = check_fence(journal, owner, error);
    vr_db_rollback(db);
    return ok;
}
