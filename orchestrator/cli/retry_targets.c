/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* F10: the instances that the last run left failed, once more to where it wanted them. That a person says so unblocks the version. */
#include "base/error.h"
#include "orchestrator/cli/targets.h"

static gboolean has_failed(const VrRunInstance *instance)
{
    return instance->phase == VR_PHASE_RESTORED || instance->phase == VR_PHASE_FAILED;
}

static VrRun *last_run(const VrSession *session, GError **error)
{
    const char *set = session->set->name;
    g_autoptr(GError) local = NULL;
    VrRun *run = vr_history_last(vr_store_db(session->store), set, &local);

    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (!run) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "set '%s' had no run yet, so there is nothing to try again",
                    set);
        vr_error_next(error, "'%s plan %s' shows what an upgrade would do", VR_PROGRAM, set);
    }
    return run;
}

static gboolean choose(VrTargets *targets, const VrSession *session, const VrRunInstance *instance, GError **error)
{
    int index = vr_set_find(session->set, instance->uuid, NULL);
    const VrImage *image;

    if (index < 0 || !has_failed(instance))
        return TRUE; /* it has left the set since, or came good */
    if (vr_set_instance(session->set, (guint)index)->is_protected) {
        vr_targets_skip_protected(targets, session, (guint)index);
        return TRUE;
    }
    vr_targets_choose(targets, (guint)index, instance->to_generation);
    if (!instance->version)
        return TRUE;
    image = vr_targets_eligible(targets, session, instance->image, instance->version, error);
    targets->targets[index].image = image;
    return image != NULL;
}

gboolean vr_targets_of_retry(VrTargets *targets, const VrSession *session, GError **error)
{
    g_autoptr(VrRun) run = last_run(session, error);

    if (!run || !vr_targets_init(targets, session, run->kind, error))
        return FALSE;
    targets->is_word = TRUE;
    if (run->version) {
        targets->image = vr_set_eligible(session, run->image, run->version, error);
        if (!targets->image)
            return FALSE;
    }
    for (guint i = 0; i < targets->count; i++)
        vr_targets_skip(targets, i, g_strdup_printf("did not fail in run %s", run->id));
    for (guint i = 0; i < run->instances->len; i++)
        if (!choose(targets, session, g_ptr_array_index(run->instances, i), error))
            return FALSE;
    if (!targets->image)
        vr_targets_agree(targets);
    return TRUE;
}
