/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What stands against swaps, or should be known before them. What is true of many guests is said once. */
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/plan_private.h"

#define NAMED 6 /* of those of which the same is true */

/* domain NULL: it is of the run as a whole. */
static void add_findings(json_t *list, const GPtrArray *findings, const char *domain, gboolean chosen)
{
    for (guint i = 0; i < findings->len; i++) {
        const VrFinding *finding = g_ptr_array_index(findings, i);
        json_array_append_new(list, json_pack("{s:o, s:s, s:s, s:b, s:b, s:o, s:o}", "domain", vr_json_text(domain),
                                              "id", finding->id, "severity",
                                              finding->severity == VR_SEVERITY_BLOCKER ? "blocker" : "warning",
                                              "ignored", finding->ignored, "chosen", chosen, "text",
                                              vr_json_text(finding->text), "remedy", vr_json_text(finding->remedy)));
    }
}

json_t *vr_plan_findings_json(const VrPlan *plan)
{
    json_t *list = json_array();

    add_findings(list, plan->outside, NULL, TRUE);
    for (guint i = 0; i < plan->looks->len; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        add_findings(list, look->findings, vr_set_instance(plan->session->set, i)->domain,
                     plan->targets->targets[i].chosen);
    }
    return list;
}

/* --- lines ------------------------------------------------------------------------------------------- */

/* The same finding of several instances, which differs in nothing but their names. */
typedef struct {
    const VrFinding *finding; /* of the first */
    guint more;
    GString *names; /* of the others */
} Group;

static void group_free(gpointer data)
{
    Group *group = data;

    g_string_free(group->names, TRUE);
    g_free(group);
}

static char *without_name(const char *text, const char *domain)
{
    g_auto(GStrv) parts = g_strsplit(text, domain, -1);

    return g_strjoinv("\n", parts);
}

/* What two of a group have in common. */
static char *key_of(const VrFinding *finding, const char *domain, gboolean chosen)
{
    g_autofree char *text = without_name(finding->text, domain);
    g_autofree char *remedy = without_name(finding->remedy, domain);

    return g_strdup_printf("%s\n%d %d\n%s\n%s", finding->id, finding->ignored, chosen, text, remedy);
}

static void add_to_groups(GPtrArray *groups, GHashTable *by_key, const VrFinding *finding, const char *domain,
                          gboolean chosen)
{
    g_autofree char *key = key_of(finding, domain, chosen);
    Group *group = g_hash_table_lookup(by_key, key);

    if (!group) {
        group = g_new0(Group, 1);
        group->finding = finding;
        group->names = g_string_new(NULL);
        g_ptr_array_add(groups, group);
        g_hash_table_insert(by_key, g_steal_pointer(&key), group);
    } else if (group->more++ < NAMED) {
        g_string_append_printf(group->names, "%s%s", group->more > 1 ? ", " : "", domain);
    }
}

static GPtrArray *groups_of(const VrPlan *plan)
{
    g_autoptr(GHashTable) by_key = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GPtrArray *groups = g_ptr_array_new_with_free_func(group_free);

    for (guint i = 0; i < plan->looks->len; i++) {
        const GPtrArray *findings = ((const VrLook *)g_ptr_array_index(plan->looks, i))->findings;
        for (guint k = 0; k < findings->len; k++)
            add_to_groups(groups, by_key, g_ptr_array_index(findings, k),
                          vr_set_instance(plan->session->set, i)->domain, plan->targets->targets[i].chosen);
    }
    return groups;
}

/* What stops a run first. */
typedef enum { BLOCKERS, IGNORED, WARNINGS, KINDS } Kind;

static const char *const kind_names[KINDS] = {"blocker", "ignored", "warning"};

static Kind kind_of(const VrFinding *finding)
{
    if (finding->ignored)
        return IGNORED;
    return finding->severity == VR_SEVERITY_BLOCKER ? BLOCKERS : WARNINGS;
}

static void say_group(const VrCli *cli, const Group *group)
{
    const VrFinding *finding = group->finding;
    g_autoptr(GString) others = g_string_new(NULL);

    if (group->more > 0)
        g_string_append_printf(others, " (the same of %u more: %s%s)", group->more, group->names->str,
                               group->more > NAMED ? ", …" : "");
    vr_say(cli, "%s: %s [%s]; %s%s", kind_names[kind_of(finding)], finding->text, finding->id, finding->remedy,
           others->str);
}

void vr_plan_print_findings(const VrPlan *plan)
{
    g_autoptr(GPtrArray) groups = groups_of(plan);

    for (Kind kind = 0; kind < KINDS; kind++) {
        for (guint i = 0; i < plan->outside->len; i++) {
            const VrFinding *finding = g_ptr_array_index(plan->outside, i);
            if (kind_of(finding) == kind)
                vr_say(plan->session->cli, "%s: %s [%s]; %s", kind_names[kind], finding->text, finding->id,
                       finding->remedy);
        }
        for (guint i = 0; i < groups->len; i++) {
            const Group *group = g_ptr_array_index(groups, i);
            if (kind_of(group->finding) == kind)
                say_group(plan->session->cli, group);
        }
    }
}
