/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Swaps, steps and events of the journal; generations are in generations.c, ownership in owner.c. */
#include "engine/journal.h"

#include "base/clock.h"
#include "base/error.h"
#include "engine/manifest_table.h"

struct VrJournal {
    VrDb *db; /* not owned */
};

static const char *const schema[] = {
    "CREATE TABLE owners (set_name TEXT PRIMARY KEY, fence INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE generations ("
    "  uuid TEXT NOT NULL, number INTEGER NOT NULL, path TEXT NOT NULL, format TEXT NOT NULL,"
    "  disk_type TEXT NOT NULL, image TEXT, version TEXT, ours INTEGER NOT NULL, state INTEGER NOT NULL,"
    "  made_us INTEGER NOT NULL, device INTEGER NOT NULL DEFAULT 0, inode INTEGER NOT NULL DEFAULT 0,"
    "  PRIMARY KEY (uuid, number)) WITHOUT ROWID;"
    "CREATE TABLE swaps ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, run_id TEXT, set_name TEXT NOT NULL,"
    "  domain TEXT NOT NULL, uuid TEXT NOT NULL, os_target TEXT NOT NULL, rollback INTEGER NOT NULL,"
    "  from_number INTEGER NOT NULL, to_number INTEGER NOT NULL, state INTEGER NOT NULL, reached INTEGER NOT NULL,"
    "  backward INTEGER NOT NULL, was_running INTEGER NOT NULL, old_boot_id TEXT, new_boot_id TEXT, reason TEXT);"
    "CREATE INDEX swaps_run ON swaps (run_id);"
    "CREATE INDEX swaps_uuid ON swaps (uuid);"
    /* 5, 6, 7 = COMMITTED, DISCARDED, UNDONE: at most one open swap an instance, whoever asks */
    "CREATE UNIQUE INDEX swaps_open ON swaps (uuid) WHERE state NOT IN (5, 6, 7);"
    "CREATE TABLE steps ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT, swap_id TEXT NOT NULL REFERENCES swaps (id), name TEXT NOT NULL,"
    "  at_us INTEGER NOT NULL, at_ms INTEGER NOT NULL, boot_id TEXT NOT NULL, detail TEXT);"
    "CREATE INDEX steps_swap ON steps (swap_id);"
    "CREATE TABLE events ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, set_name TEXT NOT NULL, fence INTEGER NOT NULL,"
    "  run_id TEXT, uuid TEXT, kind TEXT NOT NULL, text TEXT);"
    "CREATE INDEX events_run ON events (run_id);",
    /* 0: not known */
    "ALTER TABLE generations ADD COLUMN model_revision INTEGER NOT NULL DEFAULT 0;",
    /* What is there from before is not known by its digest */
    "ALTER TABLE generations ADD COLUMN xml TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE generations ADD COLUMN xml_next TEXT NOT NULL DEFAULT '';"
    "UPDATE generations SET xml = '" VR_XML_NOT_KNOWN "';",
    /* 2, 3 = KEPT, FAILED: since when is not known, so from now on */
    "ALTER TABLE generations ADD COLUMN born_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN was INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN left_us INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN left_ms INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN left_boot TEXT;"
    "UPDATE generations SET left_us = CAST(strftime('%s', 'now') AS INTEGER) * 1000000 WHERE state IN (2, 3);",
    VR_MANIFEST_TABLE,
    "ALTER TABLE generations ADD COLUMN nvram TEXT;"
    "ALTER TABLE generations ADD COLUMN nvram_device INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN nvram_inode INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN nvram_born_ns INTEGER NOT NULL DEFAULT 0;",
    VR_MANIFEST_LASTING,
    "ALTER TABLE data_disks ADD COLUMN made_anew INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX events_release ON events (uuid, seq) WHERE " VR_RELEASE_KINDS ";",
    "ALTER TABLE generations ADD COLUMN seed TEXT;"
    "ALTER TABLE generations ADD COLUMN seed_device INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN seed_inode INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN seed_born_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE generations ADD COLUMN seed_digest TEXT;"};

G_STATIC_ASSERT(VR_SWAP_COMMITTED == 5 && VR_SWAP_DISCARDED == 6 && VR_SWAP_UNDONE == 7);

VrJournal *vr_journal_new(VrDb *db, GError **error)
{
    if (!vr_db_schema(db, "engine", schema, G_N_ELEMENTS(schema), error))
        return NULL;
    VrJournal *journal = g_new0(VrJournal, 1);
    journal->db = db;
    return journal;
}

void vr_journal_free(VrJournal *journal)
{
    g_free(journal);
}

VrDb *vr_journal_db(VrJournal *journal)
{
    return journal->db;
}

const char *vr_swap_state_name(VrSwapState state)
{
    static const char *const names[] = {"PLANNED",   "PREPARED",  "STOPPED", "SWITCHED", "STARTED",
                                        "COMMITTED", "DISCARDED", "UNDONE",  "UNKNOWN"};

    return (guint)state < G_N_ELEMENTS(names) ? names[state] : "?";
}

gboolean vr_swap_state_is_final(VrSwapState state)
{
    return state == VR_SWAP_COMMITTED || state == VR_SWAP_DISCARDED || state == VR_SWAP_UNDONE;
}

VrSwapRow *vr_swap_row_copy(const VrSwapRow *row)
{
    VrSwapRow *copy = g_memdup2(row, sizeof(*row));

    copy->run_id = g_strdup(row->run_id);
    copy->set_name = g_strdup(row->set_name);
    copy->domain = g_strdup(row->domain);
    copy->os_target = g_strdup(row->os_target);
    copy->old_boot_id = g_strdup(row->old_boot_id);
    copy->new_boot_id = g_strdup(row->new_boot_id);
    copy->reason = g_strdup(row->reason);
    return copy;
}

void vr_swap_row_free(VrSwapRow *row)
{
    if (!row)
        return;
    g_free(row->run_id);
    g_free(row->set_name);
    g_free(row->domain);
    g_free(row->os_target);
    g_free(row->old_boot_id);
    g_free(row->new_boot_id);
    g_free(row->reason);
    g_free(row);
}

/* Ends a transaction: commit when what was done went well, else rollback. */
static gboolean end(VrJournal *journal, gboolean ok, GError **error)
{
    if (ok)
        return vr_db_commit(journal->db, error);
    vr_db_rollback(journal->db);
    return FALSE;
}

gboolean vr_journal_add_step(VrJournal *journal, const char *swap_id, const char *name, const char *detail,
                             GError **error)
{
    return vr_db_run(journal->db, NULL, error,
                     "INSERT INTO steps (swap_id, name, at_us, at_ms, boot_id, detail) VALUES (?, ?, ?, ?, ?, ?)",
                     "ssiiss", swap_id, name, vr_clock_wall_us(), vr_clock_now_ms(), vr_clock_boot_id(), detail);
}

/* --- writing ---------------------------------------------------------------------------------------- */

static gboolean next_number(VrJournal *journal, const char *uuid, guint *number, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        journal->db, error, "SELECT COALESCE(MAX(number), 0) + 1 FROM generations WHERE uuid = ?", "s", uuid);

    if (!stmt || vr_db_step(journal->db, stmt, error) != 1)
        return FALSE;
    *number = (guint)sqlite3_column_int64(stmt, 0);
    return TRUE;
}

static gboolean insert_made(VrJournal *journal, const VrGeneration *made, GError **error)
{
    return vr_db_run(journal->db, NULL, error,
                     "INSERT INTO generations (uuid, number, path, format, disk_type, image, version, ours, state, "
                     "made_us, model_revision, nvram, seed, seed_digest) "
                     "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                     "sisssssiiiisss", made->uuid, (gint64)made->number, made->path, made->format, made->disk_type,
                     made->image, made->version, (gint64)made->ours, (gint64)made->state, made->made_us,
                     (gint64)made->model_revision, made->nvram, made->seed, made->seed_digest);
}

static gboolean insert_swap(VrJournal *journal, const VrSwapRow *row, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_db_run(
            journal->db, NULL, &local,
            "INSERT INTO swaps (id, run_id, set_name, domain, uuid, os_target, rollback, from_number, to_number, "
            "state, reached, backward, was_running, old_boot_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
            "ssssssiiiiiis", row->id, row->run_id, row->set_name, row->domain, row->uuid, row->os_target,
            (gint64)row->rollback, (gint64)row->from, (gint64)row->to, (gint64)row->state, (gint64)row->reached,
            (gint64)row->was_running, row->old_boot_id))
        return TRUE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_CONFLICT)) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' has an open swap", row->domain);
        vr_error_next(error, "run 'virt-reimage recover' first");
    } else {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return FALSE;
}

/* The paths of a generation are known only with its number: until then `path`, and `nvram` and `seed` if it has them, are its directory. */
static void number_path(char **path, const char *directory, guint number, const char *suffix)
{
    if (!*path)
        return;
    g_free(*path);
    *path = g_strdup_printf("%s/g%u.%s", directory, number, suffix);
}

static gboolean number_generation(VrJournal *journal, VrSwapRow *row, VrGeneration *made, GError **error)
{
    guint next;

    if (!next_number(journal, row->uuid, &next, error))
        return FALSE;
    row->to = made->number = MAX(next, made->number);
    g_autofree char *directory = g_strdup(made->path);
    number_path(&made->path, directory, made->number, "qcow2");
    number_path(&made->nvram, directory, made->number, "nvram");
    number_path(&made->seed, directory, made->number, "seed.iso");
    return TRUE;
}

/* Whatever was seen before: a deletion may have taken it since, by another owner too. */
static gboolean is_still_kept(VrJournal *journal, const VrSwapRow *row, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(journal->db, error, "SELECT 1 FROM generations WHERE uuid = ? AND number = ? AND state = ?",
                      "sii", row->uuid, (gint64)row->to, (gint64)VR_GENERATION_KEPT);
    int found = stmt ? vr_db_step(journal->db, stmt, error) : -1;

    if (found == 0)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s': generation %u is not kept any more", row->domain,
                    row->to);
    return found == 1;
}

gboolean vr_journal_swap_begin(VrJournal *journal, const VrOwner *owner, VrSwapRow *row, VrGeneration *made,
                               GError **error)
{
    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    return end(journal,
               (made ? number_generation(journal, row, made, error) && insert_made(journal, made, error)
                     : is_still_kept(journal, row, error)) &&
                   insert_swap(journal, row, error) && vr_journal_add_step(journal, row->id, "begin", NULL, error),
               error);
}

gboolean vr_journal_number(VrJournal *journal, VrSwapRow *row, VrGeneration *made, GError **error)
{
    return vr_db_begin_read(journal->db, error) && end(journal, number_generation(journal, row, made, error), error);
}

static gboolean update_swap(VrJournal *journal, const VrSwapRow *row, const char *step, GError **error)
{
    return vr_db_run(journal->db, NULL, error,
                     "UPDATE swaps SET state = ?, reached = ?, backward = ?, old_boot_id = ?, new_boot_id = ?, "
                     "reason = ? WHERE id = ?",
                     "iiissss", (gint64)row->state, (gint64)row->reached, (gint64)row->backward, row->old_boot_id,
                     row->new_boot_id, row->reason, row->id) &&
           vr_journal_add_step(journal, row->id, step, row->backward ? row->reason : NULL, error);
}

gboolean vr_journal_swap_write(VrJournal *journal, const VrOwner *owner, const VrSwapRow *row, const char *step,
                               GError **error)
{
    return vr_owner_begin(journal, owner, error) && end(journal, update_swap(journal, row, step, error), error);
}

/* The retention of one that is kept, or failed, counts from here on. */
static gboolean set_generation(VrJournal *journal, const char *uuid, guint number, VrGenerationState state,
                               GError **error)
{
    gboolean left = state == VR_GENERATION_KEPT || state == VR_GENERATION_FAILED;

    return vr_db_run(journal->db, NULL, error,
                     "UPDATE generations SET state = ?, left_us = ?, left_ms = ?, left_boot = ? "
                     "WHERE uuid = ? AND number = ?",
                     "iiissi", (gint64)state, left ? vr_clock_wall_us() : 0, left ? vr_clock_now_ms() : 0,
                     left ? vr_clock_boot_id() : NULL, uuid, (gint64)number);
}

gboolean vr_journal_swap_end(VrJournal *journal, const VrOwner *owner, const VrSwapRow *row, const char *step,
                             VrGenerationState from, VrGenerationState to, GError **error)
{
    return vr_owner_begin(journal, owner, error) &&
           end(journal,
               update_swap(journal, row, step, error) && set_generation(journal, row->uuid, row->from, from, error) &&
                   set_generation(journal, row->uuid, row->to, to, error),
               error);
}

gboolean vr_journal_mark(VrJournal *journal, const VrOwner *owner, const char *swap_id, const char *step,
                         const char *detail, GError **error)
{
    return vr_owner_begin(journal, owner, error) &&
           end(journal, vr_journal_add_step(journal, swap_id, step, detail, error), error);
}

gboolean vr_journal_add_event(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *uuid,
                              const char *kind, const char *text, GError **error)
{
    return vr_db_run(journal->db, NULL, error,
                     "INSERT INTO events (at_us, set_name, fence, run_id, uuid, kind, text) "
                     "VALUES (?, ?, ?, ?, ?, ?, ?)",
                     "isissss", vr_clock_wall_us(), owner->set_name, owner->fence, run_id, uuid, kind, text);
}

gboolean vr_journal_event(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *uuid,
                          const char *kind, const char *text, GError **error)
{
    return vr_owner_begin(journal, owner, error) &&
           end(journal, vr_journal_add_event(journal, owner, run_id, uuid, kind, text, error), error);
}

/* Within a transaction. */
static gboolean read_last_event(VrJournal *journal, const char *run_id, const char *uuid, const char *kind,
                                gint64 *at_us, char **text, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(journal->db, error,
                                                 "SELECT at_us, text FROM events WHERE run_id IS ? AND uuid IS ? AND "
                                                 "kind = ? ORDER BY seq DESC LIMIT 1",
                                                 "sss", run_id, uuid, kind);
    int row = stmt ? vr_db_step(journal->db, stmt, error) : -1;

    *at_us = row == 1 ? sqlite3_column_int64(stmt, 0) : 0;
    *text = row == 1 ? vr_db_text(stmt, 1) : NULL;
    return row >= 0;
}

static gboolean add_event_once(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *uuid,
                               const char *kind, const char *text, GError **error)
{
    g_autofree char *last = NULL;
    gint64 at_us;

    return read_last_event(journal, run_id, uuid, kind, &at_us, &last, error) &&
           (g_strcmp0(last, text) == 0 || vr_journal_add_event(journal, owner, run_id, uuid, kind, text, error));
}

gboolean vr_journal_event_once(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *uuid,
                               const char *kind, const char *text, GError **error)
{
    return vr_owner_begin(journal, owner, error) &&
           end(journal, add_event_once(journal, owner, run_id, uuid, kind, text, error), error);
}

gboolean vr_journal_last_event(VrJournal *journal, const char *run_id, const char *uuid, const char *kind,
                               gint64 *at_us, char **text, GError **error)
{
    gboolean ok;

    if (!vr_db_begin_read(journal->db, error))
        return FALSE;
    ok = read_last_event(journal, run_id, uuid, kind, at_us, text, error);
    vr_db_rollback(journal->db);
    return ok;
}

/* --- forgetting ------------------------------------------------------------------------------------- */

gboolean vr_journal_run_outcome(VrJournal *journal, const char *run_id, gboolean *moved, gboolean *open, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(journal->db, error,
                      "SELECT COALESCE(MAX(state = 5), 0), COALESCE(MAX(state NOT IN (5, 6, 7)), 0) FROM swaps "
                      "WHERE run_id = ?",
                      "s", run_id);

    if (!stmt || vr_db_step(journal->db, stmt, error) != 1)
        return FALSE;
    *moved = sqlite3_column_int(stmt, 0) != 0;
    *open = sqlite3_column_int(stmt, 1) != 0;
    return TRUE;
}

/* Of the run ?1; 1 and 2 = a generation that is CURRENT or KEPT. */
#define SWAPS_TO_FORGET                                                                                                \
    "SELECT id FROM swaps AS old WHERE run_id = ?1 AND state IN (5, 6, 7) "                                            \
    "AND seq < (SELECT MAX(seq) FROM swaps WHERE uuid = old.uuid) "                                                    \
    "AND NOT (rollback = 0 AND state = 5 AND EXISTS (SELECT 1 FROM generations "                                       \
    "WHERE uuid = old.uuid AND number = old.to_number AND generations.state IN (1, 2)))"

G_STATIC_ASSERT(VR_GENERATION_CURRENT == 1 && VR_GENERATION_KEPT == 2);

gboolean vr_journal_forget_run(VrJournal *journal, const char *run_id, GError **error)
{
    return vr_db_run(journal->db, NULL, error, "DELETE FROM steps WHERE swap_id IN (" SWAPS_TO_FORGET ")", "s",
                     run_id) &&
           vr_db_run(journal->db, NULL, error, "DELETE FROM swaps WHERE id IN (" SWAPS_TO_FORGET ")", "s", run_id) &&
           vr_db_run(journal->db, NULL, error, "DELETE FROM events WHERE run_id = ?", "s", run_id);
}

/* --- reading ---------------------------------------------------------------------------------------- */

#define SWAP_COLUMNS                                                                                                   \
    "SELECT id, run_id, set_name, domain, uuid, os_target, rollback, from_number, to_number, state, reached, "         \
    "backward, was_running, old_boot_id, new_boot_id, reason FROM swaps "

static VrSwapRow *read_swap(sqlite3_stmt *stmt)
{
    VrSwapRow *row = g_new0(VrSwapRow, 1);

    g_strlcpy(row->id, (const char *)sqlite3_column_text(stmt, 0), sizeof(row->id));
    row->run_id = vr_db_text(stmt, 1);
    row->set_name = vr_db_text(stmt, 2);
    row->domain = vr_db_text(stmt, 3);
    g_strlcpy(row->uuid, (const char *)sqlite3_column_text(stmt, 4), sizeof(row->uuid));
    row->os_target = vr_db_text(stmt, 5);
    row->rollback = sqlite3_column_int(stmt, 6) != 0;
    row->from = (guint)sqlite3_column_int64(stmt, 7);
    row->to = (guint)sqlite3_column_int64(stmt, 8);
    row->state = (VrSwapState)sqlite3_column_int(stmt, 9);
    row->reached = (VrSwapState)sqlite3_column_int(stmt, 10);
    row->backward = sqlite3_column_int(stmt, 11) != 0;
    row->was_running = sqlite3_column_int(stmt, 12) != 0;
    row->old_boot_id = vr_db_text(stmt, 13);
    row->new_boot_id = vr_db_text(stmt, 14);
    row->reason = vr_db_text(stmt, 15);
    return row;
}

/* Rows of a statement with at most one text argument, which may be NULL. */
static GPtrArray *read_swaps(VrJournal *journal, const char *sql, const char *argument, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)vr_swap_row_free);
    int step = -1;

    if (!vr_db_begin_read(journal->db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(journal->db, error, sql, "s", argument);
        while (stmt && (step = vr_db_step(journal->db, stmt, error)) == 1)
            g_ptr_array_add(rows, read_swap(stmt));
    }
    vr_db_rollback(journal->db);
    return step == 0 ? g_steal_pointer(&rows) : NULL;
}

GPtrArray *vr_journal_open_swaps(VrJournal *journal, const char *set_name, GError **error)
{
    return read_swaps(journal,
                      SWAP_COLUMNS "WHERE state NOT IN (5, 6, 7) AND (?1 IS NULL OR set_name = ?1) ORDER BY seq",
                      set_name, error);
}

GPtrArray *vr_journal_given_up(VrJournal *journal, const char *set_name, GError **error)
{
    return read_swaps(journal,
                      SWAP_COLUMNS "WHERE set_name = ?1 AND state = 6 "
                                   "AND seq = (SELECT MAX(seq) FROM swaps AS other WHERE other.uuid = swaps.uuid) "
                                   "AND EXISTS (SELECT 1 FROM steps WHERE swap_id = id AND name = 'stop-given-up') "
                                   "AND NOT EXISTS (SELECT 1 FROM steps WHERE swap_id = id AND "
                                   "name IN ('start-old', 'started-late')) ORDER BY seq",
                      set_name, error);
}

GPtrArray *vr_journal_may_land(VrJournal *journal, const char *set_name, GError **error)
{
    return read_swaps(journal,
                      SWAP_COLUMNS "WHERE set_name = ?1 AND state = 7 "
                                   "AND EXISTS (SELECT 1 FROM steps WHERE swap_id = id AND name = 'may-land') "
                                   "AND NOT EXISTS (SELECT 1 FROM swaps later WHERE later.uuid = swaps.uuid "
                                   "AND later.seq > swaps.seq AND later.reached >= 3) "
                                   "AND uuid NOT IN (SELECT uuid FROM swaps WHERE state NOT IN (5, 6, 7)) ORDER BY seq",
                      set_name, error);
}

GPtrArray *vr_journal_run_swaps(VrJournal *journal, const char *run_id, GError **error)
{
    return read_swaps(journal, SWAP_COLUMNS "WHERE run_id = ?1 ORDER BY seq", run_id, error);
}

GPtrArray *vr_journal_forward_swaps(VrJournal *journal, const char *set_name, GError **error)
{
    return read_swaps(journal, SWAP_COLUMNS "WHERE set_name = ?1 AND rollback = 0 AND state = 5 ORDER BY seq", set_name,
                      error);
}

VrSwapRow *vr_journal_last_swap(VrJournal *journal, const char *uuid, GError **error)
{
    g_autoptr(GPtrArray) rows =
        read_swaps(journal, SWAP_COLUMNS "WHERE uuid = ?1 ORDER BY seq DESC LIMIT 1", uuid, error);

    return rows && rows->len > 0 ? g_ptr_array_steal_index(rows, 0) : NULL;
}

gboolean vr_journal_has_mark(VrJournal *journal, const char *swap_id, const char *step, gboolean *has, GError **error)
{
    int row = -1;

    if (!vr_db_begin_read(journal->db, error))
        return FALSE;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            journal->db, error, "SELECT 1 FROM steps WHERE swap_id = ? AND name = ? LIMIT 1", "ss", swap_id, step);
        if (stmt)
            row = vr_db_step(journal->db, stmt, error);
    }
    vr_db_rollback(journal->db);
    *has = row == 1;
    return row >= 0;
}

gboolean vr_journal_mark_time(VrJournal *journal, const char *swap_id, const char *step, gint64 *at_ms, GError **error)
{
    int row = -1;

    *at_ms = 0;
    if (!vr_db_begin_read(journal->db, error))
        return FALSE;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            journal->db, error,
            "SELECT at_ms FROM steps WHERE swap_id = ? AND name = ? AND boot_id = ? ORDER BY seq DESC LIMIT 1", "sss",
            swap_id, step, vr_clock_boot_id());
        if (stmt)
            row = vr_db_step(journal->db, stmt, error);
        if (row == 1)
            *at_ms = sqlite3_column_int64(stmt, 0);
    }
    vr_db_rollback(journal->db);
    return row >= 0;
}

gboolean vr_journal_mark_detail(VrJournal *journal, const char *swap_id, const char *step, char **detail,
                                GError **error)
{
    int row = -1;

    *detail = NULL;
    if (!vr_db_begin_read(journal->db, error))
        return FALSE;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            journal->db, error, "SELECT detail FROM steps WHERE swap_id = ? AND name = ? ORDER BY seq DESC LIMIT 1",
            "ss", swap_id, step);
        if (stmt)
            row = vr_db_step(journal->db, stmt, error);
        if (row == 1)
            *detail = vr_db_text(stmt, 0);
    }
    vr_db_rollback(journal->db);
    return row >= 0;
}
