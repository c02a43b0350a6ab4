/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written into each new OS disk before its guest has it, and what it gets of the old one (C6, C8). */
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/plan_private.h"
#include "orchestrator/kvm_proof.h"
#include "orchestrator/model_offline.h"

/* One launch to read the old disk and one to write the new one (docs/performance.md). */
#define OFF_MS_KVM 10000
#define OFF_MS_TCG 45000

static const VrOsProfile *profile_of(const VrPlan *plan)
{
    static const VrOsProfile none;

    return plan->targets->kind == VR_RUN_ROLLBACK ? &none : &plan->session->set->model->os_profile;
}

static const VrCarryProfile *carry_of(const VrPlan *plan)
{
    const VrCarryProfile *carry = &profile_of(plan)->carry;

    return carry->what && carry->what[0] ? carry : NULL;
}

/* For a guest that runs. */
static gint64 added_ms(const VrCarryProfile *carry)
{
    return !carry->from_disk ? 0 : vr_kvm_works() ? OFF_MS_KVM : OFF_MS_TCG;
}

json_t *vr_plan_offline_json(const VrPlan *plan)
{
    g_auto(GStrv) keys = vr_model_offline_given(&profile_of(plan)->offline);
    json_t *list = json_array();

    for (char **key = keys; *key; key++)
        json_array_append_new(list, vr_json_text(*key));
    return list;
}

json_t *vr_plan_carry_json(const VrPlan *plan)
{
    const VrCarryProfile *carry = carry_of(plan);
    json_t *list;

    if (!carry)
        return json_null();
    list = json_array();
    for (char **one = carry->what; *one; one++)
        json_array_append_new(list, vr_json_text(*one));
    return json_pack("{s:o, s:s, s:I}", "what", list, "from", carry->from_disk ? "disk" : "guest", "addedOffMs",
                     (json_int_t)added_ms(carry));
}

static void print_carry(const VrCli *cli, const VrCarryProfile *carry)
{
    g_autofree char *what = g_strjoinv(", ", carry->what);
    g_autofree char *added = carry->from_disk ? vr_text_duration(added_ms(carry)) : NULL;

    if (carry->from_disk)
        vr_say(cli,
               "carried over: %s: from the old OS disk once its guest is off, which is off for about %s longer by that",
               what, added);
    else
        vr_say(cli,
               "carried over: %s: by the agent of the guest that runs, and again right before it stops; of one that is "
               "off, from its old disk",
               what);
}

void vr_plan_print_offline(const VrPlan *plan)
{
    g_auto(GStrv) keys = vr_model_offline_given(&profile_of(plan)->offline);
    g_autofree char *given = g_strjoinv(", ", keys);

    if (keys[0])
        vr_say(plan->session->cli, "offline: written into each new OS disk before its guest has it: %s", given);
    if (carry_of(plan))
        print_carry(plan->session->cli, carry_of(plan));
}

void vr_plan_warn_of_offline(const VrPlan *plan, GPtrArray *warnings)
{
    const VrOsProfile *profile = profile_of(plan);

    if (profile->line != 0 && profile->offline.hostname &&
        !g_str_equal(profile->offline.hostname, profile->computer_name))
        g_ptr_array_add(warnings,
                        g_strdup_printf("osProfile.offlineConfiguration.hostname is %s and computerName %s: in a guest "
                                        "with cloud-init the latter takes its place",
                                        profile->offline.hostname, profile->computer_name));
}
