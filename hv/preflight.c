/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/preflight_private.h"

#include "base/error.h"
#include <string.h>

void vr_finding_free(VrFinding *finding)
{
    if (finding == NULL)
        return;
    g_free(finding->text);
    g_free(finding->remedy);
    g_free(finding);
}

void vr_preflight_add(VrPreflightCheck *check, const char *id, VrSeverity severity, char *text, char *remedy)
{
    VrFinding *finding = g_new0(VrFinding, 1);

    finding->id = id;
    finding->severity = severity;
    finding->text = text;
    finding->remedy = remedy;
    g_ptr_array_add(check->findings, finding);
}

/* A name that needs no quotes is shown without them. */
static char *shell_word(const char *name)
{
    const char *safe = G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "._-+@:";

    if (name[0] != '\0' && name[0] != '-' && strspn(name, safe) == strlen(name))
        return g_strdup(name);
    return g_shell_quote(name);
}

static GPtrArray *blockers_first(GPtrArray *findings)
{
    GPtrArray *sorted = g_ptr_array_new_full(findings->len, (GDestroyNotify)vr_finding_free);
    static const VrSeverity order[] = {VR_SEVERITY_BLOCKER, VR_SEVERITY_WARNING};

    for (gsize s = 0; s < G_N_ELEMENTS(order); s++) {
        for (guint i = 0; i < findings->len; i++) {
            VrFinding *finding = g_ptr_array_index(findings, i);
            if (finding->severity == order[s])
                g_ptr_array_add(sorted, finding);
        }
    }
    g_ptr_array_unref(findings);
    return sorted;
}

GPtrArray *vr_preflight(const VrDomainInfo *info, const VrDomainDef *def, const VrPreflightNeeds *needs)
{
    static void (*const checks[])(VrPreflightCheck *) = {
        vr_preflight_state, vr_preflight_persistent, vr_preflight_managed_save, vr_preflight_snapshots,
        vr_preflight_job,   vr_preflight_os_disk,    vr_preflight_actions,      vr_preflight_firmware,
        vr_preflight_agent, vr_preflight_kernel};
    const char *name = info->name != NULL ? info->name : def->name;
    g_autofree char *typed = shell_word(name);
    VrPreflightCheck check = {info, def, needs, name, typed, g_ptr_array_new()};

    for (gsize i = 0; i < G_N_ELEMENTS(checks); i++)
        checks[i](&check);
    return blockers_first(check.findings);
}

const VrFinding *vr_preflight_blocker(const GPtrArray *findings)
{
    const VrFinding *first = findings->len > 0 ? g_ptr_array_index(findings, 0) : NULL;

    return first != NULL && first->severity == VR_SEVERITY_BLOCKER ? first : NULL;
}

gboolean vr_preflight_require(const GPtrArray *findings, const char *domain, GError **error)
{
    g_autoptr(GString) all = g_string_new(NULL);

    for (guint i = 0; i < findings->len; i++) {
        const VrFinding *finding = g_ptr_array_index(findings, i);

        if (finding->severity == VR_SEVERITY_BLOCKER)
            g_string_append_printf(all, "%s%s [%s] (%s)", all->len > 0 ? "; " : "", finding->text, finding->id,
                                   finding->remedy);
    }
    if (all->len == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s' cannot be swapped: %s", domain, all->str);
    return FALSE;
}
