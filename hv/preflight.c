/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/preflight_private.h"

#include "base/error.h"
#include <string.h>

/* -- The table ------------------------------------------------------------------------------------ */

#define OUTSIDE_TRIED "a guest that does not become healthy for want of it goes back"
#define BOOT_TRIED "it is read from a partition table, which may say too little; a guest that does not boot goes back"

const VrFindingKind vr_finding_kinds[] = {
    /* the domain */
    {"not-readable", VR_SEVERITY_BLOCKER, NULL},
    {"migrated", VR_SEVERITY_BLOCKER, NULL},
    {"not-running-or-off", VR_SEVERITY_BLOCKER, NULL},
    {"transient-domain", VR_SEVERITY_BLOCKER, NULL},
    {"managed-save", VR_SEVERITY_BLOCKER, NULL},
    {"snapshots", VR_SEVERITY_BLOCKER, NULL},
    {"checkpoints", VR_SEVERITY_BLOCKER, NULL},
    {"job", VR_SEVERITY_BLOCKER, NULL},
    {"on-poweroff", VR_SEVERITY_BLOCKER, NULL},
    {"on-reboot", VR_SEVERITY_WARNING, NULL},
    {"on-crash", VR_SEVERITY_WARNING, NULL},
    {"no-agent", VR_SEVERITY_BLOCKER, NULL},
    {"no-agent-for-notice", VR_SEVERITY_BLOCKER, NULL},
    {"goes-without-notice", VR_SEVERITY_WARNING, NULL},
    {"no-autostart", VR_SEVERITY_WARNING, NULL},
    /* the host */
    {"host-stopping", VR_SEVERITY_BLOCKER, NULL},
    {"host-shutdown-scheduled", VR_SEVERITY_BLOCKER,
     "a swap that it cuts is finished or undone when the host is back, and the run is closed or goes on"},
    /* the disks */
    {"ambiguous-os-disk", VR_SEVERITY_BLOCKER, NULL},
    {"not-a-disk", VR_SEVERITY_BLOCKER, NULL},
    {"network-disk", VR_SEVERITY_BLOCKER, NULL},
    {"volume-not-local", VR_SEVERITY_BLOCKER, NULL},
    {"protected-disk", VR_SEVERITY_BLOCKER, NULL},
    {"protected-disk-missing", VR_SEVERITY_BLOCKER, NULL},
    {"empty-disk", VR_SEVERITY_BLOCKER, NULL},
    {"transient-disk", VR_SEVERITY_BLOCKER, NULL},
    {"shareable-disk", VR_SEVERITY_BLOCKER, NULL},
    {"os-disk-changed", VR_SEVERITY_BLOCKER, NULL},
    {"shared-os-disk", VR_SEVERITY_BLOCKER, NULL},
    {"rollback-disk-in-use", VR_SEVERITY_BLOCKER, NULL},
    {"readonly-disk", VR_SEVERITY_BLOCKER, NULL},
    {"mirror", VR_SEVERITY_BLOCKER, NULL},
    {"unknown-source-child", VR_SEVERITY_BLOCKER, NULL},
    {"os-disk-not-first-boot", VR_SEVERITY_BLOCKER, NULL},
    {"internal-snapshot", VR_SEVERITY_BLOCKER,
     "it stays in the old disk, whose bytes a swap does not change; going back brings it back"},
    {"disks-not-labelled", VR_SEVERITY_BLOCKER, NULL},
    {"backing-chain", VR_SEVERITY_WARNING, NULL},
    {"os-disk-bus", VR_SEVERITY_WARNING, NULL},
    {"direct-kernel-boot", VR_SEVERITY_WARNING, NULL},
    {"data-disk-no-serial", VR_SEVERITY_WARNING, NULL},
    {"fstab-device-name", VR_SEVERITY_WARNING, NULL},
    {"data-disk-unreadable", VR_SEVERITY_BLOCKER, NULL},
    /* the new image, and what it meets */
    {"uefi-nvram", VR_SEVERITY_BLOCKER, NULL},
    {"nvram-unreadable", VR_SEVERITY_BLOCKER, NULL},
    {"secure-boot", VR_SEVERITY_WARNING, NULL},
    {"tpm", VR_SEVERITY_WARNING, NULL},
    {"image-architecture", VR_SEVERITY_BLOCKER, BOOT_TRIED},
    {"image-firmware", VR_SEVERITY_BLOCKER, BOOT_TRIED},
    {"image-no-fallback-loader", VR_SEVERITY_BLOCKER,
     "a boot entry that the guest's NVRAM keeps may start it; a guest that does not boot goes back"},
    {"image-block-size", VR_SEVERITY_WARNING, NULL},
    {"image-not-bootable", VR_SEVERITY_WARNING, NULL},
    /* what lies outside (orchestrator/outside.h) */
    {"outside-file", VR_SEVERITY_BLOCKER, OUTSIDE_TRIED},
    {"outside-url", VR_SEVERITY_BLOCKER, OUTSIDE_TRIED},
    {"outside-expires", VR_SEVERITY_BLOCKER, OUTSIDE_TRIED},
    {NULL, VR_SEVERITY_WARNING, NULL}};

static const VrFindingKind *kind_of(const char *id)
{
    for (const VrFindingKind *kind = vr_finding_kinds; kind->id != NULL; kind++) {
        if (strcmp(kind->id, id) == 0)
            return kind;
    }
    return NULL;
}

static void not_a_finding(const char *id, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--ignore: '%s' is no finding", id);
    vr_error_next(error, "'virt-reimage plan SET' shows the names of its findings in brackets");
}

static void not_needed(const char *id, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--ignore: [%s] is a warning and stops nothing", id);
    vr_error_next(error, "leave --ignore away");
}

static void never_ignored(const char *id, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "--ignore: [%s] is never ignored", id);
    vr_error_now(error, "a swap would lose data, or could not work");
    vr_error_next(error, "do what the finding says ('virt-reimage plan SET' shows it)");
}

gboolean vr_preflight_may_ignore(const char *const *ids, GError **error)
{
    for (; ids != NULL && *ids != NULL; ids++) {
        const VrFindingKind *kind = kind_of(*ids);

        if (kind == NULL)
            not_a_finding(*ids, error);
        else if (kind->severity == VR_SEVERITY_WARNING)
            not_needed(*ids, error);
        else if (kind->ignorable == NULL)
            never_ignored(*ids, error);
        else
            continue;
        return FALSE;
    }
    return TRUE;
}

/* -- Findings and facts --------------------------------------------------------------------------- */

void vr_finding_free(VrFinding *finding)
{
    if (finding == NULL)
        return;
    g_free(finding->text);
    g_free(finding->remedy);
    g_free(finding);
}

VrFinding *vr_finding_new(const char *id, char *text, char *remedy)
{
    const VrFindingKind *kind = kind_of(id);
    VrFinding *finding = g_new0(VrFinding, 1);

    finding->id = id;
    finding->severity = kind != NULL ? kind->severity : VR_SEVERITY_BLOCKER;
    finding->text = text;
    finding->remedy = remedy;
    return finding;
}

void vr_finding_offer(VrFinding *finding, const char *const *ignored)
{
    const VrFindingKind *kind = kind_of(finding->id);
    g_autofree char *remedy = NULL;

    if (kind == NULL || kind->ignorable == NULL)
        return;
    finding->ignored = ignored != NULL && g_strv_contains(ignored, finding->id);
    remedy = finding->remedy;
    finding->remedy = g_strdup_printf("%s; or let it pass with --ignore %s: %s", remedy, finding->id, kind->ignorable);
}

void vr_preflight_add(VrPreflightCheck *check, const char *id, char *text, char *remedy)
{
    VrFinding *finding = vr_finding_new(id, text, remedy);

    g_ptr_array_add(check->findings, finding);
    vr_finding_offer(finding, check->needs->ignored);
}

void vr_preflight_facts_clear(VrPreflightFacts *facts)
{
    g_clear_pointer(&facts->no_local_path, g_free);
    g_clear_pointer(&facts->backing, g_free);
    g_clear_pointer(&facts->job, g_free);
    g_clear_pointer(&facts->shared_with, g_free);
    g_clear_pointer(&facts->nvram, g_free);
    g_clear_pointer(&facts->fstab, g_free);
    g_clear_pointer(&facts->should_be, g_free);
    g_clear_pointer(&facts->rollback_in_use, g_free);
    g_clear_pointer(&facts->host_stopping, g_free);
    g_clear_pointer(&facts->host_shutdown, g_free);
}

/* -- The list ------------------------------------------------------------------------------------- */

static gboolean blocks(const VrFinding *finding)
{
    return finding->severity == VR_SEVERITY_BLOCKER && !finding->ignored;
}

static GPtrArray *blockers_first(GPtrArray *findings)
{
    GPtrArray *sorted = g_ptr_array_new_full(findings->len, (GDestroyNotify)vr_finding_free);

    for (int pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < findings->len; i++) {
            VrFinding *finding = g_ptr_array_index(findings, i);
            if (blocks(finding) == (pass == 0))
                g_ptr_array_add(sorted, finding);
        }
    }
    g_ptr_array_unref(findings);
    return sorted;
}

GPtrArray *vr_preflight(const VrDomainInfo *info, const VrDomainDef *def, const VrPreflightNeeds *needs)
{
    static void (*const checks[])(VrPreflightCheck *) = {
        vr_preflight_state,    vr_preflight_persistent, vr_preflight_managed_save, vr_preflight_snapshots,
        vr_preflight_job,      vr_preflight_host,       vr_preflight_os_disk,      vr_preflight_actions,
        vr_preflight_firmware, vr_preflight_image,      vr_preflight_agent,        vr_preflight_autostart,
        vr_preflight_kernel,   vr_preflight_data_disks, vr_preflight_fstab,        vr_preflight_labels,
        vr_preflight_notice,   vr_preflight_protected};
    static const VrPreflightFacts none = {0};
    const char *name = info->name != NULL ? info->name : def->name;
    g_autofree char *typed = vr_shell_word(name);
    VrPreflightCheck check = {
        info, def, needs, needs->facts != NULL ? needs->facts : &none, name, typed, g_ptr_array_new()};

    for (gsize i = 0; i < G_N_ELEMENTS(checks); i++)
        checks[i](&check);
    return blockers_first(check.findings);
}

const VrFinding *vr_preflight_blocker(const GPtrArray *findings)
{
    const VrFinding *first = findings->len > 0 ? g_ptr_array_index(findings, 0) : NULL;

    return first != NULL && blocks(first) ? first : NULL;
}

gboolean vr_preflight_require(const GPtrArray *findings, const char *domain, GError **error)
{
    g_autoptr(GString) all = g_string_new(NULL);

    for (guint i = 0; i < findings->len; i++) {
        const VrFinding *finding = g_ptr_array_index(findings, i);

        if (blocks(finding))
            g_string_append_printf(all, "%s%s [%s] (%s)", all->len > 0 ? "; " : "", finding->text, finding->id,
                                   finding->remedy);
    }
    if (all->len == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s' cannot be swapped: %s", domain, all->str);
    return FALSE;
}
