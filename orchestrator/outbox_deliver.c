/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/outbox_deliver.h"

#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/lock.h"

#include <string.h>
#include <unistd.h>

#define LOCK ".notices" /* no set has such a name */
#define TOO_OLD "not delivered within 24 h"
#define TOO_MANY "more than 1,000 newer ones wait"

static gboolean end(VrDb *db, gboolean ok, GError **error)
{
    if (ok)
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

/* The first column of the only row in *number. 1, 0 (no row), or -1 with an error. */
static int ask_number(VrDb *db, gint64 *number, GError **error, const char *sql, const char *argument)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, sql, argument ? "s" : "", argument);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;

    if (row == 1)
        *number = sqlite3_column_int64(stmt, 0);
    return row;
}

/* --- the plan ---------------------------------------------------------------------------------------- */

static gboolean plan_channel(VrDb *db, const char *channel, gint64 oldest_us, GError **error)
{
    return vr_db_run(
               db, NULL, error,
               "INSERT OR IGNORE INTO notice_deliveries (seq, channel) SELECT seq, ? FROM notices WHERE planned = 0 "
               "AND at_us >= ?",
               "si", channel, oldest_us) &&
           vr_db_run(db, NULL, error,
                     "UPDATE notice_deliveries SET state = 2, error = '" TOO_MANY
                     "' WHERE channel = ?1 AND state = 0 AND seq <= (SELECT seq FROM notice_deliveries WHERE channel = "
                     "?1 AND state = 0 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
                     "si", channel, (gint64)VR_OUTBOX_WAITING);
}

static gboolean plan(VrDb *db, const GPtrArray *channels, GError **error)
{
    gint64 oldest_us = vr_clock_wall_us() - VR_DELIVERY_AGE_US;

    if (!vr_outbox_close_lost(db, error))
        return FALSE;
    for (guint i = 0; i < channels->len; i++)
        if (!plan_channel(db, ((const VrChannel *)channels->pdata[i])->name, oldest_us, error))
            return FALSE;
    return vr_db_run(db, NULL, error, "UPDATE notices SET planned = 1 WHERE planned = 0", "") &&
           vr_db_run(
               db, NULL, error,
               "UPDATE notice_deliveries SET state = 2, error = '" TOO_OLD
               "' || ifnull(': ' || error, '') WHERE state = 0 AND seq IN (SELECT seq FROM notices WHERE at_us < ?)",
               "i", oldest_us);
}

/* 1: there is a notice that no plan has seen; 0; or -1 with an error. */
static int has_new(VrDb *db, GError **error)
{
    gint64 unused;

    return ask_number(db, &unused, error, "SELECT 1 FROM notices WHERE planned = 0 LIMIT 1", NULL);
}

/* --- what is due ------------------------------------------------------------------------------------- */

/* When a channel may be tried, or G_MAXINT64 where nothing waits for it; *seq: what is the first that does. */
static gboolean next_of(VrDb *db, const char *channel, gint64 now_us, gint64 *next_us, gint64 *seq, GError **error)
{
    gint64 at_us = 0;
    int row =
        ask_number(db, seq, error,
                   "SELECT seq FROM notice_deliveries WHERE channel = ? AND state = 0 ORDER BY seq LIMIT 1", channel);

    *next_us = G_MAXINT64;
    if (row <= 0)
        return row == 0;
    if (ask_number(db, &at_us, error, "SELECT next_us FROM notice_channels WHERE name = ?", channel) < 0)
        return FALSE;
    *next_us =
        at_us > now_us && at_us <= now_us + VR_DELIVERY_MOST_US ? at_us : now_us; /* the clock may have been set back */
    return TRUE;
}

/* The one to serve now, with the notice that it gets; NULL with *next_us, when the next one will be (G_MAXINT64: nothing waits). The journal and the webhook
 * before hooks, which may be slow; among these each gets a notice before any gets the next. */
static gboolean choose(VrDb *db, const GPtrArray *channels, const VrChannel **chosen, gint64 *seq, gint64 *next_us,
                       GError **error)
{
    gint64 now_us = vr_clock_wall_us();

    *chosen = NULL;
    *next_us = G_MAXINT64;
    for (guint i = 0; i < channels->len; i++) {
        const VrChannel *channel = channels->pdata[i];
        gint64 at_us, first;
        if (!next_of(db, channel->name, now_us, &at_us, &first, error))
            return FALSE;
        *next_us = MIN(*next_us, at_us);
        if (at_us > now_us || (*chosen && (!(*chosen)->path || *seq <= first)))
            continue;
        *chosen = channel;
        *seq = first;
    }
    return TRUE;
}

/* --- one delivery ------------------------------------------------------------------------------------ */

static gboolean make_plan(VrDb *db, const GPtrArray *channels, GError **error)
{
    return vr_db_begin(db, error) && end(db, plan(db, channels, error), error);
}

/* *notice NULL: nothing is due. */
static gboolean take_next(VrDb *db, const GPtrArray *channels, const VrChannel **chosen, VrOutboxNotice **notice,
                          GError **error)
{
    gint64 seq, next_us;
    gboolean ok;
    int fresh;

    *notice = NULL;
    if (!vr_db_begin_read(db, error))
        return FALSE;
    fresh = has_new(db, error);
    vr_db_rollback(db);
    if (fresh < 0 || (fresh > 0 && !make_plan(db, channels, error)))
        return FALSE;
    if (!vr_db_begin_read(db, error))
        return FALSE;
    ok = choose(db, channels, chosen, &seq, &next_us, error) &&
         (!*chosen || (*notice = vr_outbox_read(db, seq, error)) != NULL);
    vr_db_rollback(db);
    return ok;
}

static gboolean write_failure(VrDb *db, const char *channel, gint64 now_us, GError **error)
{
    gint64 failures = 0;

    if (ask_number(db, &failures, error, "SELECT failures FROM notice_channels WHERE name = ?", channel) < 0)
        return FALSE;
    return vr_db_run(
        db, NULL, error, "INSERT OR REPLACE INTO notice_channels (name, failures, next_us) VALUES (?, ?, ?)", "sii",
        channel, failures + 1, now_us + MIN(VR_DELIVERY_FIRST_US << MIN(failures, 20), VR_DELIVERY_MOST_US));
}

/* failed NULL: it was taken. */
static gboolean write_outcome(VrDb *db, const VrChannel *channel, gint64 seq, const GError *failed, GError **error)
{
    gboolean waits = failed && !g_error_matches(failed, VR_ERROR, VR_ERROR_REFUSED);
    g_autofree char *text = failed ? vr_printable(failed->message, -1) : NULL;
    gint64 now_us = vr_clock_wall_us();
    VrDeliveryState state = waits ? VR_DELIVERY_WAITING : failed ? VR_DELIVERY_GIVEN_UP : VR_DELIVERY_DONE;

    return vr_db_run(
               db, NULL, error,
               "UPDATE notice_deliveries SET state = ?, at_us = ?, attempts = attempts + 1, error = ? WHERE seq = ? "
               "AND channel = ?",
               "iisis", (gint64)state, now_us, text, seq, channel->name) &&
           (waits ? write_failure(db, channel->name, now_us, error)
                  : vr_db_run(db, NULL, error, "DELETE FROM notice_channels WHERE name = ?", "s", channel->name));
}

static gboolean deliver_due(VrDb *db, const GPtrArray *channels, GError **error)
{
    if (!make_plan(db, channels, error)) /* first of all what has waited for too long is given up */
        return FALSE;
    for (;;) {
        const VrChannel *channel;
        g_autoptr(VrOutboxNotice) notice = NULL;
        g_autoptr(GError) failed = NULL;

        if (!take_next(db, channels, &channel, &notice, error))
            return FALSE;
        if (!notice)
            return TRUE;
        channel->send(channel, notice, &failed);
        if (!vr_db_begin(db, error) || !end(db, write_outcome(db, channel, notice->seq, failed, error), error))
            return FALSE;
    }
}

/* --- all of them ------------------------------------------------------------------------------------- */

/* NULL without an error: another process has it. */
static VrLock *take_lock(int root_fd, GError **error)
{
    vr_autofd locks = vr_mkdir_beneath(root_fd, "locks", 0700, error);
    g_autofree char *holder = g_strdup_printf("notices --deliver (pid %d)", (int)getpid());
    g_autoptr(GError) local = NULL;
    VrLock *lock = locks < 0 ? NULL : vr_lock_acquire(locks, LOCK, holder, &local);

    if (!lock && local && !g_error_matches(local, VR_ERROR, VR_ERROR_BUSY))
        g_propagate_error(error, g_steal_pointer(&local));
    return lock;
}

static gboolean look(VrDb *db, const GPtrArray *channels, gint64 *next_us, GError **error)
{
    const VrChannel *channel;
    gint64 seq;
    int fresh;
    gboolean ok;

    *next_us = G_MAXINT64;
    if (channels->len == 0)
        return TRUE;
    if (!vr_db_begin_read(db, error))
        return FALSE;
    fresh = has_new(db, error);
    ok = fresh >= 0 && choose(db, channels, &channel, &seq, next_us, error);
    vr_db_rollback(db);
    if (fresh > 0)
        *next_us = 0;
    return ok;
}

/* FALSE in *more: nothing is left to do, or another process does it. */
static gboolean deliver_once(VrDb *db, int root_fd, const GPtrArray *channels, gboolean *more, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrLock) lock = NULL;
    gint64 next_us;

    *more = FALSE;
    if (!look(db, channels, &next_us, error))
        return FALSE;
    if (next_us > vr_clock_wall_us())
        return TRUE;
    lock = take_lock(root_fd, &local);
    *more = lock != NULL;
    if (!local)
        return !lock || deliver_due(db, channels, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean vr_outbox_deliver(VrDb *db, int root_fd, const VrConfig *config, GError **error)
{
    g_autoptr(GPtrArray) channels = vr_outbox_channels(config);
    gboolean more = TRUE;

    while (more)
        if (!deliver_once(db, root_fd, channels, &more, error))
            return FALSE;
    return TRUE;
}

gboolean vr_outbox_next(VrDb *db, const VrConfig *config, gint64 *next_us, GError **error)
{
    g_autoptr(GPtrArray) channels = vr_outbox_channels(config);

    if (!look(db, channels, next_us, error))
        return FALSE;
    *next_us = *next_us == G_MAXINT64 ? 0 : MAX(*next_us, vr_clock_wall_us());
    return TRUE;
}
