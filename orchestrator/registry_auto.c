/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Upgrades that begin by themselves, in the columns of `sets`: whether the set has them (G6), and what was tried.
 *
 * An automatic upgrade writes first that it tries this version, and then does what can fail. So however it ends, killed before it wrote
 * a run, refused for want of space, cancelled, the next look finds that this version was tried, and begins nothing. A person's word
 * (set-auto, retry, an edit of the model) takes that away, and with it what earlier runs block: word_run is the last run that had ended then. Only
 * that a version failed for the set stays; that is for history to say (version_past.h).
 */
#include "orchestrator/registry_auto.h"

#include "base/clock.h"
#include "base/error.h"

#define WORD                                                                                                           \
    "tried_image = NULL, tried_version = NULL, tried_text = NULL, tried_us = 0, "                                      \
    "word_run = (SELECT COALESCE(MAX(seq), 0) FROM runs WHERE set_name = sets.name AND completed_us <> 0)"

gboolean vr_set_is_automatic(const VrSet *set)
{
    if (!set->model)
        return FALSE;
    return set->automatic == VR_SET_AUTO_AS_MODEL ? set->model->automatic : set->automatic == VR_SET_AUTO_ON;
}

gboolean vr_registry_auto_read(VrDb *db, VrSet *set, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT automatic, automatic_us, automatic_reason, tried_image, tried_version, tried_text, "
                      "tried_us, word_run FROM sets WHERE name = ?",
                      "s", set->name);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;
    gint64 automatic;

    if (row != 1)
        return FALSE;
    automatic = sqlite3_column_int64(stmt, 0);
    set->automatic = automatic == VR_SET_AUTO_ON    ? VR_SET_AUTO_ON
                     : automatic == VR_SET_AUTO_OFF ? VR_SET_AUTO_OFF
                                                    : VR_SET_AUTO_AS_MODEL;
    set->automatic_us = sqlite3_column_int64(stmt, 1);
    set->automatic_reason = vr_db_text(stmt, 2);
    set->tried_image = vr_db_text(stmt, 3);
    set->tried_version = vr_db_text(stmt, 4);
    set->tried_text = vr_db_text(stmt, 5);
    set->tried_us = sqlite3_column_int64(stmt, 6);
    set->word_run = sqlite3_column_int64(stmt, 7);
    return TRUE;
}

gboolean vr_registry_auto_edited(VrDb *db, const char *name, const char *text, GError **error)
{
    return vr_db_run(db, NULL, error, "UPDATE sets SET " WORD " WHERE name = ? AND text <> ?", "ss", name, text);
}

static gboolean end(VrDb *db, gboolean ok, GError **error)
{
    if (ok)
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

gboolean vr_registry_word(VrJournal *journal, const VrOwner *owner, const VrSet *set, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    return vr_owner_begin(journal, owner, error) &&
           end(db, vr_db_run(db, NULL, error, "UPDATE sets SET " WORD " WHERE name = ?", "s", set->name), error);
}

static const char *word_of(VrSetAuto automatic)
{
    return automatic == VR_SET_AUTO_ON ? "on" : automatic == VR_SET_AUTO_OFF ? "off" : "as the model says";
}

gboolean vr_registry_set_auto(VrJournal *journal, const VrSet *set, VrSetAuto automatic, const char *reason,
                              const char *who, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    const VrOwner nobody = {.set_name = set->name}; /* an opt-out does not wait for whoever owns the set */
    g_autofree char *line = g_strdup_printf("automatic upgrades %s, by %s%s%s", word_of(automatic), who,
                                            reason ? ": " : "", reason ? reason : "");
    int changes = 0;
    gboolean ok;

    if (!vr_db_begin(db, error))
        return FALSE;
    ok = vr_db_run(db, &changes, error,
                   "UPDATE sets SET automatic = ?, automatic_us = ?, automatic_reason = ?, " WORD " WHERE name = ?",
                   "iiss", (gint64)automatic, vr_clock_wall_us(), reason, set->name) &&
         vr_journal_add_event(journal, &nobody, NULL, NULL, "set-auto", line, error);
    if (ok && changes == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "there is no set '%s' any more", set->name);
        vr_error_next(error, "'virt-reimage set-list' shows those that there are");
        ok = FALSE;
    }
    return end(db, ok, error);
}

gboolean vr_registry_tried(VrJournal *journal, const VrOwner *owner, const VrSet *set, const char *image,
                           const char *version, const char *text, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autofree char *line = g_strdup_printf("upgrade to %s %s begins by itself%s%s", image, version,
                                            text ? "; it was refused: " : "", text ? text : "");
    gboolean ok;

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    ok = vr_db_run(db, NULL, error,
                   "UPDATE sets SET tried_image = ?, tried_version = ?, tried_text = ?, tried_us = ? WHERE name = ?",
                   "sssis", image, version, text, vr_clock_wall_us(), set->name) &&
         vr_journal_add_event(journal, owner, NULL, NULL, "automatic", line, error);
    return end(db, ok, error);
}
