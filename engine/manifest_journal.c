/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Manifests in the journal, and what is shown of them. */
#include "engine/manifest_private.h"

static const struct {
    const char *taken, *proven, *untold;
} steps[VR_PHASES] = {{"disks-read", "disks-proven", "disks-untold"},
                      {"disks-read-back", "disks-proven-back", "disks-untold-back"}};

const char *vr_manifest_taken_step(VrManifestPhase phase)
{
    return steps[phase].taken;
}

const char *vr_manifest_proven_step(VrManifestPhase phase)
{
    return steps[phase].proven;
}

const char *vr_manifest_untold_step(VrManifestPhase phase)
{
    return steps[phase].untold;
}

/* --- writing ---------------------------------------------------------------------------------------- */

static gboolean insert(VrDb *db, const char *swap_id, VrManifestPhase phase, const VrManifestEntry *entry,
                       GError **error)
{
    static const VrFileProof none;
    const VrFileProof *proof = entry->proof ? entry->proof : &none;

    return vr_db_run(
        db, NULL, error,
        "INSERT INTO data_disks (swap_id, phase, target, depth, element, shared, path, is_local, device, "
        "inode, size, mtime_ns, head, how, content, lasting, boot_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
        "?, ?, ?, ?, ?, ?, ?)",
        "sisisisiiiiisisss", swap_id, (gint64)phase, entry->target, (gint64)entry->depth, entry->element,
        (gint64)entry->shared, proof->path, (gint64)proof->is_local, (gint64)proof->file.device,
        (gint64)proof->file.inode, (gint64)proof->file.size, proof->file.mtime_ns, proof->head, (gint64)proof->how,
        proof->content, proof->lasting, proof->boot_id);
}

static gboolean write_all(VrJournal *journal, const char *swap_id, VrManifestPhase phase, const GPtrArray *manifest,
                          const char *detail, GError **error)
{
    for (guint i = 0; i < manifest->len; i++)
        if (!insert(vr_journal_db(journal), swap_id, phase, g_ptr_array_index(manifest, i), error))
            return FALSE;
    return vr_journal_add_step(journal, swap_id, steps[phase].taken, detail, error);
}

gboolean vr_manifest_write(VrJournal *journal, const VrOwner *owner, const char *swap_id, VrManifestPhase phase,
                           const GPtrArray *manifest, const char *detail, GError **error)
{
    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (write_all(journal, swap_id, phase, manifest, detail, error))
        return vr_db_commit(vr_journal_db(journal), error);
    vr_db_rollback(vr_journal_db(journal));
    return FALSE;
}

static gboolean end(VrDb *db, gboolean ok, GError **error)
{
    if (ok)
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_manifest_made_anew(VrJournal *journal, const VrOwner *owner, const char *swap_id, const char *target,
                               const VrFileId *id, const char *detail, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return vr_owner_begin(journal, owner, error) &&
           end(db,
               vr_db_run(db, NULL, error,
                         "UPDATE data_disks SET made_anew = 1, device = ?, inode = ? "
                         "WHERE swap_id = ? AND phase = ? AND target = ? AND depth = 0",
                         "iisis", (gint64)id->device, (gint64)id->inode, swap_id, (gint64)VR_PHASE_FORWARD, target) &&
                   vr_journal_add_step(journal, swap_id, VR_STEP_TEMP_DISK, detail, error),
               error);
}

gboolean vr_manifest_read_anew(VrJournal *journal, const VrOwner *owner, const char *swap_id, const char *target,
                               const VrFileProof *proof, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return vr_owner_begin(journal, owner, error) &&
           end(db,
               vr_db_run(db, NULL, error,
                         "UPDATE data_disks SET device = ?, inode = ?, size = ?, mtime_ns = ?, head = ?, content = ? "
                         "WHERE swap_id = ? AND phase = ? AND target = ? AND depth = 0 AND made_anew",
                         "iiiisssis", (gint64)proof->file.device, (gint64)proof->file.inode, (gint64)proof->file.size,
                         proof->file.mtime_ns, proof->head, proof->content, swap_id, (gint64)VR_PHASE_FORWARD, target),
               error);
}

/* --- reading ---------------------------------------------------------------------------------------- */

static VrFileProof *proof_of(sqlite3_stmt *stmt)
{
    VrFileProof *proof = g_new0(VrFileProof, 1);

    proof->path = vr_db_text(stmt, 4);
    proof->is_local = sqlite3_column_int(stmt, 5) != 0;
    proof->file.device = (guint64)sqlite3_column_int64(stmt, 6);
    proof->file.inode = (guint64)sqlite3_column_int64(stmt, 7);
    proof->file.size = (guint64)sqlite3_column_int64(stmt, 8);
    proof->file.mtime_ns = sqlite3_column_int64(stmt, 9);
    g_strlcpy(proof->head, (const char *)sqlite3_column_text(stmt, 10), sizeof proof->head);
    proof->how = (VrProofContent)sqlite3_column_int(stmt, 11);
    g_strlcpy(proof->content, (const char *)sqlite3_column_text(stmt, 12), sizeof proof->content);
    proof->lasting = vr_db_text(stmt, 13);
    g_strlcpy(proof->boot_id, (const char *)sqlite3_column_text(stmt, 14), sizeof proof->boot_id);
    return proof;
}

static void read_entry(GPtrArray *manifest, sqlite3_stmt *stmt)
{
    VrManifestEntry *entry = g_new0(VrManifestEntry, 1);

    entry->target = vr_db_text(stmt, 0);
    entry->depth = (guint)sqlite3_column_int(stmt, 1);
    entry->element = vr_db_text(stmt, 2);
    entry->shared = sqlite3_column_int(stmt, 3) != 0;
    entry->made_anew = sqlite3_column_int(stmt, 15) != 0;
    if (sqlite3_column_type(stmt, 4) != SQLITE_NULL)
        entry->proof = proof_of(stmt);
    g_ptr_array_add(manifest, entry);
}

static int read_entries(VrDb *db, const char *swap_id, VrManifestPhase phase, GPtrArray *manifest, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT target, depth, element, shared, path, is_local, device, inode, size, mtime_ns, head, "
                      "how, content, lasting, boot_id, made_anew FROM data_disks WHERE swap_id = ? AND phase = ? ORDER "
                      "BY target, depth",
                      "si", swap_id, (gint64)phase);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
        read_entry(manifest, stmt);
    return row;
}

/* The first step of that name: 1 there is one, 0 none, -1 error. */
static int read_step(VrDb *db, const char *swap_id, const char *name, gint64 *at_us, char **detail, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT at_us, detail FROM steps WHERE swap_id = ? AND name = ? ORDER BY seq LIMIT 1",
                      "ss", swap_id, name);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;

    if (row == 1) {
        *at_us = sqlite3_column_int64(stmt, 0);
        *detail = vr_db_text(stmt, 1);
    }
    return row;
}

/* 1 there is a manifest of that phase, 0 none, -1 error. */
static int read_phase(VrDb *db, const char *swap_id, VrManifestPhase phase, VrDataProof *proof, GError **error)
{
    int row = read_step(db, swap_id, steps[phase].taken, &proof->taken_us, &proof->taken_in, error);
    gint64 at_us;

    if (row != 1)
        return row;
    proof->phase = phase;
    proof->manifest = vr_manifest_new();
    if (read_step(db, swap_id, steps[phase].proven, &proof->proven_us, &proof->proven_in, error) < 0 ||
        read_step(db, swap_id, steps[phase].untold, &at_us, &proof->untold, error) < 0 ||
        read_entries(db, swap_id, phase, proof->manifest, error) < 0)
        return -1;
    return 1;
}

void vr_data_proof_free(VrDataProof *proof)
{
    if (!proof)
        return;
    g_clear_pointer(&proof->manifest, g_ptr_array_unref);
    g_free(proof->untold);
    g_free(proof->taken_in);
    g_free(proof->proven_in);
    g_free(proof);
}

GPtrArray *vr_manifest_read(VrJournal *journal, const char *swap_id, VrManifestPhase phase, GError **error)
{
    g_autoptr(VrDataProof) proof = g_new0(VrDataProof, 1);
    int row;

    if (!vr_db_begin_read(vr_journal_db(journal), error))
        return NULL;
    row = read_phase(vr_journal_db(journal), swap_id, phase, proof, error);
    vr_db_rollback(vr_journal_db(journal));
    return row == 1 ? g_steal_pointer(&proof->manifest) : NULL;
}

VrDataProof *vr_data_proof_of(VrJournal *journal, const char *swap_id, GError **error)
{
    g_autoptr(VrDataProof) proof = g_new0(VrDataProof, 1);
    int row = 0;

    if (!vr_db_begin_read(vr_journal_db(journal), error))
        return NULL;
    for (int phase = VR_PHASES - 1; phase >= 0 && row == 0; phase--)
        row = read_phase(vr_journal_db(journal), swap_id, (VrManifestPhase)phase, proof, error);
    vr_db_rollback(vr_journal_db(journal));
    return row == 1 ? g_steal_pointer(&proof) : NULL;
}

/* --- for people ------------------------------------------------------------------------------------- */

static void add_disk(GString *text, const VrManifestEntry *entry)
{
    g_string_append_printf(text, "%s%s%s%s", text->len > 0 ? ", " : "", entry->target, entry->proof ? " " : "",
                           entry->proof ? entry->proof->path : "");
}

char *vr_data_proof_text(const VrDataProof *proof)
{
    g_autoptr(GString) disks = g_string_new(NULL);
    g_autoptr(GString) anew = g_string_new(NULL);
    guint count = 0;

    for (guint i = 0; i < proof->manifest->len; i++) {
        const VrManifestEntry *entry = g_ptr_array_index(proof->manifest, i);
        if (entry->depth > 0)
            continue;
        add_disk(entry->made_anew ? anew : disks, entry);
        count += entry->made_anew ? 0 : 1;
    }
    return g_strdup_printf("%u %s%s%s%s%s%s%s", count, proof->proven_us > 0 ? "untouched" : "not compared",
                           disks->len > 0 ? ": " : "", disks->str, anew->len > 0 ? "; made anew: " : "", anew->str,
                           proof->untold
                               ? "; the host was booted in between, and without WWN or serial nobody can tell "
                                 "whether these are the same devices: "
                               : "",
                           proof->untold ? proof->untold : "");
}
