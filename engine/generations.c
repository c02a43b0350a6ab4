/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The generations of an instance in the journal. */
#include "base/clock.h"
#include "base/error.h"
#include "engine/journal.h"

const char *vr_generation_state_name(VrGenerationState state)
{
    static const char *const names[] = {"new",       "current", "kept",    "failed",
                                        "discarded", "going",   "deleted", "released"};

    return (guint)state < G_N_ELEMENTS(names) ? names[state] : "?";
}

void vr_generation_free(VrGeneration *generation)
{
    if (!generation)
        return;
    g_free(generation->path);
    g_free(generation->format);
    g_free(generation->disk_type);
    g_free(generation->image);
    g_free(generation->version);
    g_free(generation->left_boot);
    g_free(generation->xml);
    g_free(generation->xml_next);
    g_free(generation->nvram);
    g_free(generation->seed);
    g_free(generation->seed_digest);
    g_free(generation);
}

#define GENERATION_COLUMNS                                                                                             \
    "SELECT uuid, number, path, format, disk_type, image, version, ours, state, made_us, device, inode, "              \
    "model_revision, xml, xml_next, was, left_us, left_ms, left_boot, born_ns, nvram, nvram_device, nvram_inode, "     \
    "nvram_born_ns, seed, seed_device, seed_inode, seed_born_ns, seed_digest FROM generations WHERE "

static VrGeneration *read_generation(sqlite3_stmt *stmt)
{
    VrGeneration *generation = g_new0(VrGeneration, 1);

    g_strlcpy(generation->uuid, (const char *)sqlite3_column_text(stmt, 0), sizeof(generation->uuid));
    generation->number = (guint)sqlite3_column_int64(stmt, 1);
    generation->path = vr_db_text(stmt, 2);
    generation->format = vr_db_text(stmt, 3);
    generation->disk_type = vr_db_text(stmt, 4);
    generation->image = vr_db_text(stmt, 5);
    generation->version = vr_db_text(stmt, 6);
    generation->ours = sqlite3_column_int(stmt, 7) != 0;
    generation->state = (VrGenerationState)sqlite3_column_int(stmt, 8);
    generation->made_us = sqlite3_column_int64(stmt, 9);
    generation->file.device = (guint64)sqlite3_column_int64(stmt, 10);
    generation->file.inode = (guint64)sqlite3_column_int64(stmt, 11);
    generation->model_revision = (guint)sqlite3_column_int64(stmt, 12);
    generation->xml = vr_db_text(stmt, 13);
    generation->xml_next = vr_db_text(stmt, 14);
    generation->was = (VrGenerationState)sqlite3_column_int(stmt, 15);
    generation->left_us = sqlite3_column_int64(stmt, 16);
    generation->left_ms = sqlite3_column_int64(stmt, 17);
    generation->left_boot = vr_db_text(stmt, 18);
    generation->file.born_ns = sqlite3_column_int64(stmt, 19);
    generation->nvram = vr_db_text(stmt, 20);
    generation->nvram_file.device = (guint64)sqlite3_column_int64(stmt, 21);
    generation->nvram_file.inode = (guint64)sqlite3_column_int64(stmt, 22);
    generation->nvram_file.born_ns = sqlite3_column_int64(stmt, 23);
    generation->seed = vr_db_text(stmt, 24);
    generation->seed_file.device = (guint64)sqlite3_column_int64(stmt, 25);
    generation->seed_file.inode = (guint64)sqlite3_column_int64(stmt, 26);
    generation->seed_file.born_ns = sqlite3_column_int64(stmt, 27);
    generation->seed_digest = vr_db_text(stmt, 28);
    return generation;
}

/* Of a statement with a text and a number. */
static GPtrArray *read_generations(VrJournal *journal, const char *sql, const char *text, gint64 number, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)vr_generation_free);
    VrDb *db = vr_journal_db(journal);
    int step = -1;

    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, sql, "si", text, number);
        while (stmt && (step = vr_db_step(db, stmt, error)) == 1)
            g_ptr_array_add(rows, read_generation(stmt));
    }
    vr_db_rollback(db);
    return step == 0 ? g_steal_pointer(&rows) : NULL;
}

static VrGeneration *first_of(GPtrArray *rows)
{
    return rows && rows->len > 0 ? g_ptr_array_steal_index(rows, 0) : NULL;
}

GPtrArray *vr_journal_generations(VrJournal *journal, const char *uuid, GError **error)
{
    return read_generations(journal, GENERATION_COLUMNS "uuid = ?1 AND ?2 = 0 ORDER BY number", uuid, 0, error);
}

VrGeneration *vr_journal_generation(VrJournal *journal, const char *uuid, guint number, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) rows =
        read_generations(journal, GENERATION_COLUMNS "uuid = ?1 AND number = ?2", uuid, number, &local);
    VrGeneration *found = first_of(rows);

    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (!found) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "there is no generation %u", number);
        vr_error_next(error, "'virt-reimage generations' lists those that there are");
    }
    return found;
}

VrGeneration *vr_journal_current(VrJournal *journal, const char *uuid, GError **error)
{
    g_autoptr(GPtrArray) rows =
        read_generations(journal, GENERATION_COLUMNS "uuid = ?1 AND state = ?2", uuid, VR_GENERATION_CURRENT, error);

    return first_of(rows);
}

GPtrArray *vr_journal_growing(VrJournal *journal, GError **error)
{
    return read_generations(journal,
                            GENERATION_COLUMNS "?1 = '' AND ours AND device != 0 AND state = ?2 ORDER BY uuid, number",
                            "", VR_GENERATION_CURRENT, error);
}

GPtrArray *vr_journal_resting(VrJournal *journal, const char *set_name, GError **error)
{
    /* 5, 6, 7: as in the index swaps_open */
    return read_generations(journal,
                            GENERATION_COLUMNS "ours AND device != 0 AND state IN (?2, ?2 + 1) "
                                               "AND uuid IN (SELECT uuid FROM swaps WHERE set_name = ?1) "
                                               "AND uuid NOT IN (SELECT uuid FROM swaps WHERE state NOT IN (5, 6, 7))",
                            set_name, VR_GENERATION_KEPT, error);
}

GPtrArray *vr_journal_going(VrJournal *journal, const char *set_name, GError **error)
{
    return read_generations(journal,
                            GENERATION_COLUMNS "state = ?2 AND uuid IN (SELECT uuid FROM swaps WHERE set_name = ?1)",
                            set_name, VR_GENERATION_GOING, error);
}

GPtrArray *vr_journal_discarded(VrJournal *journal, const char *set_name, GError **error)
{
    return read_generations(journal,
                            GENERATION_COLUMNS "ours AND device != 0 AND state = ?2 "
                                               "AND uuid IN (SELECT uuid FROM swaps WHERE set_name = ?1)",
                            set_name, VR_GENERATION_DISCARDED, error);
}

G_STATIC_ASSERT(VR_GENERATION_FAILED == VR_GENERATION_KEPT + 1);

gboolean vr_journal_last_revision(VrJournal *journal, const char *uuid, guint *revision, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(vr_journal_db(journal), error,
                      "SELECT COALESCE(MAX(model_revision), 0) FROM generations WHERE uuid = ?", "s", uuid);

    if (!stmt || vr_db_step(vr_journal_db(journal), stmt, error) != 1)
        return FALSE;
    *revision = (guint)sqlite3_column_int64(stmt, 0);
    return TRUE;
}

/* The current one that is not of our making, else the one that it was released with, else the first number that no generation has. Within a
 * transaction. */
static gboolean number_of_found(VrDb *db, VrGeneration *found, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT COALESCE((SELECT number FROM generations WHERE uuid = ?1 AND NOT ours AND state = ?3), "
                      "(SELECT MAX(number) FROM generations WHERE uuid = ?1 AND path = ?2 AND state = ?4), "
                      "(SELECT MAX(number) + 1 FROM generations WHERE uuid = ?1), 0)",
                      "ssii", found->uuid, found->path, (gint64)VR_GENERATION_CURRENT, (gint64)VR_GENERATION_RELEASED);

    if (!stmt || vr_db_step(db, stmt, error) != 1)
        return FALSE;
    found->number = (guint)sqlite3_column_int64(stmt, 0);
    return TRUE;
}

gboolean vr_journal_record_found(VrJournal *journal, const VrOwner *owner, VrGeneration *found, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (number_of_found(db, found, error) &&
        vr_db_run(
            db, NULL, error,
            "INSERT INTO generations (uuid, number, path, format, disk_type, image, version, ours, state, made_us)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT (uuid, number) DO UPDATE SET "
            "path = excluded.path, format = excluded.format, disk_type = excluded.disk_type, image = excluded.image, "
            "version = excluded.version, state = excluded.state",
            "sisssssii", found->uuid, (gint64)found->number, found->path, found->format, found->disk_type, found->image,
            found->version, (gint64)VR_GENERATION_CURRENT, vr_clock_wall_us()))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_journal_is_released(VrJournal *journal, const char *uuid, const char *path, gboolean *is, GError **error)
{
    g_autoptr(GPtrArray) rows =
        read_generations(journal, GENERATION_COLUMNS "uuid = ?1 AND state = ?2", uuid, VR_GENERATION_RELEASED, error);

    *is = FALSE;
    for (guint i = 0; rows && i < rows->len; i++)
        *is |= g_str_equal(((const VrGeneration *)g_ptr_array_index(rows, i))->path, path);
    return rows != NULL;
}

gboolean vr_journal_generation_made(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                    const VrFileId *file, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (vr_db_run(db, NULL, error,
                  "UPDATE generations SET device = ?, inode = ?, born_ns = ? WHERE uuid = ? AND number = ?", "iiisi",
                  (gint64)file->device, (gint64)file->inode, file->born_ns, uuid, (gint64)number))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_journal_generation_xml(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                   const char *now, const char *next, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (vr_db_run(db, NULL, error, "UPDATE generations SET xml = ?, xml_next = ? WHERE uuid = ? AND number = ?", "sssi",
                  now, next, uuid, (gint64)number))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_journal_generation_nvram(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                     const char *nvram, const VrFileId *file, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (vr_db_run(db, NULL, error,
                  "UPDATE generations SET nvram = ?, nvram_device = ?, nvram_inode = ?, nvram_born_ns = ? "
                  "WHERE uuid = ? AND number = ?",
                  "siiisi", nvram, (gint64)file->device, (gint64)file->inode, file->born_ns, uuid, (gint64)number))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_journal_generation_seed(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                    const VrFileId *file, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (vr_db_run(db, NULL, error,
                  "UPDATE generations SET seed_device = ?, seed_inode = ?, seed_born_ns = ? WHERE uuid = ? AND "
                  "number = ?",
                  "iiisi", (gint64)file->device, (gint64)file->inode, file->born_ns, uuid, (gint64)number))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

/* --- without the journal that made them --------------------------------------------------------------- */

/* Within a transaction. */
static gboolean read_known(VrDb *db, const char *uuid, gboolean *known, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error,
                                                 "SELECT EXISTS (SELECT 1 FROM generations WHERE uuid = ?1) OR "
                                                 "EXISTS (SELECT 1 FROM swaps WHERE uuid = ?1)",
                                                 "s", uuid);

    if (!stmt || vr_db_step(db, stmt, error) != 1)
        return FALSE;
    *known = sqlite3_column_int(stmt, 0) != 0;
    return TRUE;
}

gboolean vr_journal_knows(VrJournal *journal, const char *uuid, gboolean *known, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    gboolean ok;

    if (!vr_db_begin_read(db, error))
        return FALSE;
    ok = read_known(db, uuid, known, error);
    vr_db_rollback(db);
    return ok;
}

static gboolean insert_found(VrDb *db, const VrGeneration *found, GError **error)
{
    return vr_db_run(db, NULL, error,
                     "INSERT INTO generations (uuid, number, path, format, disk_type, image, version, ours, state, "
                     "made_us, device, inode, born_ns, left_us, xml, nvram, nvram_device, nvram_inode, nvram_born_ns, "
                     "seed, seed_device, seed_inode, seed_born_ns) "
                     "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                     "sisssssiiiiiiissiiisiii", found->uuid, (gint64)found->number, found->path, found->format,
                     found->disk_type, found->image, found->version, (gint64)found->ours, (gint64)found->state,
                     found->made_us, (gint64)found->file.device, (gint64)found->file.inode, found->file.born_ns,
                     found->left_us, found->xml, found->nvram, (gint64)found->nvram_file.device,
                     (gint64)found->nvram_file.inode, found->nvram_file.born_ns, found->seed,
                     (gint64)found->seed_file.device, (gint64)found->seed_file.inode, found->seed_file.born_ns);
}

static gboolean restore(VrJournal *journal, const VrOwner *owner, const char *uuid, const GPtrArray *generations,
                        const char *text, GError **error)
{
    gboolean known;

    if (!read_known(vr_journal_db(journal), uuid, &known, error))
        return FALSE;
    if (known) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "state.db knows instance %s by now", uuid);
        vr_error_now(error, "nothing of it was changed");
        return FALSE;
    }
    for (guint i = 0; i < generations->len; i++)
        if (!insert_found(vr_journal_db(journal), g_ptr_array_index(generations, i), error))
            return FALSE;
    return vr_journal_add_event(journal, owner, NULL, uuid, "rebuilt", text, error);
}

gboolean vr_journal_restore(VrJournal *journal, const VrOwner *owner, const char *uuid, const GPtrArray *generations,
                            const char *text, GError **error)
{
    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (restore(journal, owner, uuid, generations, text, error))
        return vr_db_commit(vr_journal_db(journal), error);
    vr_db_rollback(vr_journal_db(journal));
    return FALSE;
}
