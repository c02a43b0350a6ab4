/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seeds of the new OS disks (C1, C5, C7): that they can be made is asked before a guest is touched. */
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/plan_private.h"
#include "orchestrator/os_content.h"

gboolean vr_plan_has_seeds(const VrPlan *plan)
{
    return plan->targets->kind != VR_RUN_ROLLBACK && plan->session->set->model->os_profile.line != 0;
}

json_t *vr_plan_seed_json(const VrPlan *plan)
{
    return json_boolean(vr_plan_has_seeds(plan));
}

void vr_plan_print_seed(const VrPlan *plan)
{
    if (vr_plan_has_seeds(plan))
        vr_say(plan->session->cli, "seed: each new OS disk gets one, a CD-ROM with the osProfile of the model and an "
                                   "instance-id of its own");
}

void vr_plan_warn_of_seed(const VrPlan *plan, GPtrArray *warnings)
{
    g_autoptr(GPtrArray) lines = vr_os_content_open_files(plan->session->set->model);

    for (guint i = 0; plan->targets->kind != VR_RUN_ROLLBACK && i < lines->len; i++)
        g_ptr_array_add(warnings, g_strdup(g_ptr_array_index(lines, i)));
}

static gboolean check_one(const VrPlan *plan, const VrOsContent *content, guint index, GError **error)
{
    const VrSession *session = plan->session;
    const VrImage *image = plan->targets->targets[index].chosen ? vr_targets_image(plan->targets, index) : NULL;
    g_autoptr(VrSeed) seed = NULL;
    g_autoptr(VrPersonal) personal = NULL;

    return !image || (vr_os_content_seed(content, session->set, index, image, session->hv, &seed, error) &&
                      vr_os_content_personal(content, session->set, index, image, session->hv, &personal, error));
}

gboolean vr_plan_check_content(const VrPlan *plan, GError **error)
{
    g_autoptr(VrOsContent) content = NULL;

    if (plan->targets->kind == VR_RUN_ROLLBACK)
        return TRUE;
    if (!vr_os_content_load(plan->session->set->model, &content, error))
        return FALSE;
    for (guint i = 0; content && i < plan->targets->count; i++)
        if (!check_one(plan, content, i, error))
            return FALSE;
    return TRUE;
}
