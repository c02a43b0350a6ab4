/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/current_version.h"

gboolean vr_current_version_set(VrJournal *journal, const VrOwner *owner, const VrSet *set, const char *image,
                                const char *version, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (g_strcmp0(set->current_image, image) == 0 && g_strcmp0(set->current_version, version) == 0)
        return TRUE;
    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (vr_db_run(db, NULL, error, "UPDATE sets SET current_image = ?, current_version = ? WHERE name = ?", "sss",
                  image, version, set->name))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

static gboolean runs(const VrGeneration *generation, const char *image, const char *version)
{
    return g_strcmp0(generation->image, image) == 0 && g_strcmp0(generation->version, version) == 0;
}

/* Where nobody runs it any more: the one version that all run of those that go with the set, or none. */
static gboolean settle_rollback(VrJournal *journal, const VrOwner *owner, const VrSet *set, GError **error)
{
    g_autoptr(VrGeneration) common = NULL;
    gboolean differ = FALSE;

    for (guint i = 0; i < set->instances->len; i++) {
        const VrInstance *instance = g_ptr_array_index(set->instances, i);
        g_autoptr(GError) local = NULL;
        g_autoptr(VrGeneration) now = vr_journal_current(journal, instance->uuid, &local);
        if (local) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (!now || !now->version)
            continue;
        if (runs(now, set->current_image, set->current_version))
            return TRUE;
        if (instance->pin || instance->is_protected)
            continue;
        differ = differ || (common && !runs(now, common->image, common->version));
        if (!common)
            common = g_steal_pointer(&now);
    }
    if (differ || !common)
        return vr_current_version_set(journal, owner, set, NULL, NULL, error);
    return vr_current_version_set(journal, owner, set, common->image, common->version, error);
}

gboolean vr_current_version_settle(VrJournal *journal, const VrOwner *owner, const VrSet *set, const VrRun *run,
                                   GError **error)
{
    if (run->status != VR_RUN_COMPLETED)
        return TRUE;
    if (run->kind == VR_RUN_UPGRADE && !run->role)
        return vr_current_version_set(journal, owner, set, run->image, run->version, error);
    if (run->kind == VR_RUN_ROLLBACK && set->current_version)
        return settle_rollback(journal, owner, set, error);
    return TRUE;
}
