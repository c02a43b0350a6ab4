/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/plan_private.h"

#include "base/error.h"

/* The first that runs of those that would go first: it asks for what guests must reach. NULL: none. */
static const VrInstance *asking_guest(const VrPlan *plan)
{
    const VrBatch *batch = plan->batches->len > 0 ? g_ptr_array_index(plan->batches, 0) : NULL;

    for (guint k = 0; batch && k < batch->members->len; k++) {
        guint i = g_array_index(batch->members, guint, k);
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        if (look->found && look->info.state == VR_DOMAIN_RUNNING)
            return vr_set_instance(plan->session->set, i);
    }
    return NULL;
}

void vr_plan_look_outside(VrPlan *plan)
{
    VrSession *session = plan->session;
    const VrInstance *guest = asking_guest(plan);
    const VrOutsideQuestion question = {.expected_ms = vr_plan_expected_ms(plan),
                                        .hv = session->hv,
                                        .guest_uuid = guest ? guest->uuid : NULL,
                                        .guest_name = guest ? guest->domain : NULL,
                                        .ignored = (const char *const *)session->cli->options.ignore};

    g_clear_pointer(&session->outside, vr_outside_free);
    session->outside = vr_outside_new(session->set->model);
    if (plan->targets->kind == VR_RUN_ROLLBACK || plan->targets->chosen == 0)
        plan->outside = g_ptr_array_new();
    else
        plan->outside = vr_outside_check(session->outside, &question);
}

gboolean vr_plan_outside_is_good(const VrPlan *plan, GError **error)
{
    const VrFinding *first = vr_preflight_blocker(plan->outside);

    if (!first)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s of '%s' does not begin: %s [%s]",
                vr_run_kind_name(plan->targets->kind), plan->session->set->name, first->text, first->id);
    vr_error_now(error, "no guest was touched");
    vr_plan_next(plan, first, error);
    return FALSE;
}
