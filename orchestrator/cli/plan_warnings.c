/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/plan_private.h"

/* Of a role, or of the whole set where no role is named. */
typedef struct {
    guint size, up, down; /* the rest is off on purpose */
    guint last;           /* the index of one that is up */
} Group;

static gboolean is_up(const VrPlan *plan, guint index)
{
    const VrLook *look = g_ptr_array_index(plan->looks, index);

    return look->found && !look->health.off && !vr_look_is_down(look);
}

static GArray *count_roles(const VrPlan *plan)
{
    GArray *groups = g_array_new(FALSE, TRUE, sizeof(Group));

    for (guint i = 0; i < plan->targets->count; i++) {
        guint role = vr_set_instance(plan->session->set, i)->role.number;
        Group *group;

        if (role >= groups->len)
            g_array_set_size(groups, role + 1);
        group = &g_array_index(groups, Group, role);
        group->size++;
        group->down += vr_look_is_down(g_ptr_array_index(plan->looks, i)) ? 1 : 0;
        if (!is_up(plan, i))
            continue;
        group->up++;
        group->last = i;
    }
    return groups;
}

/* "role web", or "the set" */
static char *group_name(const VrPlan *plan, guint index)
{
    const char *role = vr_set_instance(plan->session->set, index)->role.name;

    return role ? g_strdup_printf("role %s", role) : g_strdup("the set");
}

/* D22, D26: where nothing serves while an instance is swapped. */
static void warn_of_single_instances(const VrPlan *plan, GPtrArray *warnings)
{
    const VrTargets *targets = plan->targets;
    g_autoptr(GArray) groups = count_roles(plan);

    if (targets->count == 1 && !((const VrLook *)g_ptr_array_index(plan->looks, 0))->health.off)
        g_ptr_array_add(warnings, g_strdup("the set has one instance: its service is down while it is swapped"));
    for (guint i = 0; i < targets->count && targets->count > 1; i++) {
        guint role = vr_set_instance(plan->session->set, i)->role.number;
        const Group *group = &g_array_index(groups, Group, role);
        gboolean part = role == 0 && groups->len > 1; /* the rest of a set with roles is no service of its own */
        g_autofree char *name = group_name(plan, i);

        if (!targets->targets[i].chosen || part)
            continue;
        if (group->size == 1)
            g_ptr_array_add(warnings,
                            g_strdup_printf("%s has one instance: its service is down while it is swapped", name));
        else if (group->up == 1 && group->down == 0 && group->last == i)
            g_ptr_array_add(warnings,
                            g_strdup_printf("of the %u instances of %s only '%s' is up, the others are off: nothing "
                                            "serves while it is swapped",
                                            group->size, name, vr_set_instance(plan->session->set, i)->domain));
    }
}

/* Such a guest is never started by us, so its run shows nothing of the new system. */
static void warn_of_what_stays_off(const VrPlan *plan, GPtrArray *warnings)
{
    const char *first = NULL;
    guint off = 0;

    for (guint i = 0; i < plan->targets->count; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        if (!plan->targets->targets[i].chosen || !look->found || !look->health.off)
            continue;
        first = first ? first : vr_set_instance(plan->session->set, i)->domain;
        off++;
    }
    if (off == 1)
        g_ptr_array_add(
            warnings, g_strdup_printf("%s is off, and stays off: what is on its disk then is tried at its next start, "
                                      "and not in this run",
                                      first));
    else if (off > 1)
        g_ptr_array_add(
            warnings, g_strdup_printf("%u guests are off, and stay off: what is on their disks then is tried at their "
                                      "next start, and not in this run",
                                      off));
}

/* D30: a whole upgrade domain at a time was asked for. */
static void warn_of_split_domains(const VrPlan *plan, GPtrArray *warnings)
{
    const VrModel *model = plan->session->set->model;
    g_autofree guint *batches = g_new0(guint, model->upgrade_domain_count);
    g_autoptr(GString) text = g_string_new("batchBy upgradeDomain: ");
    gboolean split = FALSE;

    for (guint i = 0; i < plan->batches->len; i++)
        batches[((const VrBatch *)g_ptr_array_index(plan->batches, i))->upgrade_domain]++;
    for (guint domain = 0; domain < model->upgrade_domain_count; domain++) {
        if (batches[domain] < 2)
            continue;
        g_string_append_printf(text, "%sUD %u goes in %u batches", split ? ", " : "", domain, batches[domain]);
        split = TRUE;
    }
    if (split && model->policy.by_domain)
        g_ptr_array_add(warnings, g_strdup_printf("%s, not in one: the reasons of the batches say why", text->str));
}

GPtrArray *vr_plan_warnings(const VrPlan *plan)
{
    const VrTargets *targets = plan->targets;
    GPtrArray *warnings = g_ptr_array_new_with_free_func(g_free);
    const char *weakness = vr_health_weakness(&plan->session->set->model->health);
    const char *missing = vr_set_is_automatic(plan->session->set) ? vr_daemon_missing(plan->session->cli) : NULL;
    g_autofree char *growth = vr_plan_growth_text(plan);
    g_autofree char *holder = NULL;

    warn_of_single_instances(plan, warnings);
    warn_of_what_stays_off(plan, warnings);
    warn_of_split_domains(plan, warnings);
    if (plan->session->set->model->overprovision) /* D28 */
        g_ptr_array_add(
            warnings, g_strdup("overprovision: true does nothing here: a set has the instances that its model names"));
    if (missing)
        g_ptr_array_add(warnings, g_strdup(missing));
    if (weakness)
        g_ptr_array_add(warnings, g_strdup(weakness));
    vr_plan_warn_of_seed(plan, warnings);
    vr_plan_warn_of_offline(plan, warnings);
    if (growth)
        g_ptr_array_add(warnings, g_steal_pointer(&growth));
    if (targets->kind == VR_RUN_ROLLBACK)
        g_ptr_array_add(warnings, g_strdup("what the newer system did to data disks is not undone"));
    if (vr_session_is_owned(plan->session, plan->session->set->name, &holder))
        g_ptr_array_add(warnings, g_strdup_printf("the set is owned now by: %s", holder));
    return warnings;
}
