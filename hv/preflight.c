/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/preflight.h"

#include "base/error.h"
#include <string.h>

typedef struct {
    const VrDomainInfo *info;
    const VrDomainDef *def;
    const VrPreflightNeeds *needs;
    const char *name;
    char *typed; /* the name as one types it in a shell */
    GPtrArray *findings;
} Check;

void vr_finding_free(VrFinding *finding)
{
    if (finding == NULL)
        return;
    g_free(finding->text);
    g_free(finding->remedy);
    g_free(finding);
}

/* Takes text and remedy. */
static void add(Check *check, const char *id, VrSeverity severity, char *text, char *remedy)
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

/* -- The domain's state --------------------------------------------------------------------------- */

static char *state_remedy(const Check *check)
{
    switch (check->info->state) {
    case VR_DOMAIN_PAUSED:
        if (check->info->reason == VR_REASON_IO_ERROR)
            return g_strdup_printf("make space on the host's disk, then: virsh resume %s", check->typed);
        return g_strdup_printf("virsh resume %s", check->typed);
    case VR_DOMAIN_SUSPENDED:
        return g_strdup_printf("virsh dompmwakeup %s", check->typed);
    case VR_DOMAIN_CRASHED:
        return g_strdup_printf("virsh destroy %s, then start it or leave it off", check->typed);
    case VR_DOMAIN_STOPPING:
        return g_strdup("wait until it is off");
    default:
        return g_strdup_printf("look at: virsh domstate --reason %s", check->typed);
    }
}

static void check_state(Check *check)
{
    const VrDomainInfo *info = check->info;

    if (info->state == VR_DOMAIN_OFF && info->reason == VR_REASON_MIGRATED) {
        add(check, "migrated", VR_SEVERITY_BLOCKER, g_strdup_printf("%s was migrated to another host", check->name),
            g_strdup("swap it on the host where it runs"));
        return;
    }
    if (info->state == VR_DOMAIN_RUNNING || info->state == VR_DOMAIN_OFF)
        return;
    add(check, "not-running-or-off", VR_SEVERITY_BLOCKER,
        g_strdup_printf("%s is neither running nor off: %s%s", check->name, vr_domain_state_name(info->state),
                        info->reason == VR_REASON_IO_ERROR ? " after an I/O error" : ""),
        state_remedy(check));
}

static void check_managed_save(Check *check)
{
    if (!check->info->managed_save)
        return;
    add(check, "managed-save", VR_SEVERITY_BLOCKER,
        g_strdup_printf("%s has a managed save: it would resume on its old disk", check->name),
        g_strdup_printf("virsh start %s to resume it first, or virsh managedsave-remove %s to drop the save",
                        check->typed, check->typed));
}

static void check_snapshots(Check *check)
{
    const VrDomainInfo *info = check->info;

    if (info->snapshots > 0)
        add(check, "snapshots", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s has %u snapshot(s)", check->name, info->snapshots),
            g_strdup_printf("virsh snapshot-list %s, then for each: virsh snapshot-delete %s SNAPSHOT", check->typed,
                            check->typed));
    if (info->checkpoints > 0)
        add(check, "checkpoints", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s has %u checkpoint(s) of a backup tool", check->name, info->checkpoints),
            g_strdup_printf(
                "virsh checkpoint-list %s, then for each: virsh checkpoint-delete %s CHECKPOINT --metadata; "
                "the next backup is then a full one",
                check->typed, check->typed));
}

static void check_job(Check *check)
{
    if (check->info->job == NULL)
        return;
    add(check, "job", VR_SEVERITY_BLOCKER, g_strdup_printf("%s has a running job: %s", check->name, check->info->job),
        g_strdup_printf("wait for its end; look at: virsh domjobinfo %s, virsh blockjob %s DISK --info", check->typed,
                        check->typed));
}

static void check_persistent(Check *check)
{
    if (check->info->persistent)
        return;
    add(check, "transient-domain", VR_SEVERITY_BLOCKER,
        g_strdup_printf("%s is transient: it is gone once it stops", check->name),
        g_strdup_printf("virsh dumpxml %s > domain.xml; virsh define domain.xml", check->typed));
}

/* -- What a stop, a reboot and a crash mean ------------------------------------------------------- */

static void check_actions(Check *check)
{
    const VrDomainDef *def = check->def;

    if (def->on_poweroff != NULL && strcmp(def->on_poweroff, "destroy") != 0)
        add(check, "on-poweroff", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s has on_poweroff=%s: a stop would %s it", check->name, def->on_poweroff,
                            strstr(def->on_poweroff, "restart") != NULL ? "restart" : "not end"),
            g_strdup_printf("virsh edit %s: <on_poweroff>destroy</on_poweroff>", check->typed));
    if (def->on_reboot != NULL && strcmp(def->on_reboot, "restart") != 0)
        add(check, "on-reboot", VR_SEVERITY_WARNING,
            g_strdup_printf("%s has on_reboot=%s: an image that reboots at its first boot would end up off",
                            check->name, def->on_reboot),
            g_strdup_printf("virsh edit %s: <on_reboot>restart</on_reboot>", check->typed));
    if (def->on_crash != NULL && (strcmp(def->on_crash, "preserve") == 0 || strstr(def->on_crash, "restart") != NULL))
        add(check, "on-crash", VR_SEVERITY_WARNING,
            g_strdup_printf("%s has on_crash=%s: a new image that crashes is seen late", check->name, def->on_crash),
            g_strdup_printf("virsh edit %s: <on_crash>destroy</on_crash>", check->typed));
}

static void check_firmware(Check *check)
{
    if (check->def->uefi)
        add(check, "uefi-nvram", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s boots by UEFI, and UEFI guests are not supported yet: its NVRAM would not follow the "
                            "generation",
                            check->name),
            g_strdup("leave it out of the set"));
    if (check->def->tpm)
        add(check, "tpm", VR_SEVERITY_WARNING,
            g_strdup_printf("%s has a TPM: what the old system sealed in it the new one cannot open", check->name),
            g_strdup("make sure that the new image does not depend on it"));
}

static void check_agent(Check *check)
{
    if (!check->needs->needs_agent || check->def->agent_channel)
        return;
    add(check, "no-agent", VR_SEVERITY_BLOCKER,
        g_strdup_printf("%s has no guest agent channel, and the model needs the agent", check->name),
        g_strdup_printf("virsh edit %s: <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
                        "</channel>; the image must run qemu-guest-agent",
                        check->typed));
}

/* -- The OS disk ---------------------------------------------------------------------------------- */

static void check_disk_flags(Check *check, const VrDomainDisk *disk)
{
    const struct {
        gboolean bad;
        const char *id, *text, *remedy;
    } flags[] = {
        {disk->transient, "transient-disk", "is <transient/>: its writes are thrown away", "remove <transient/>"},
        {disk->shareable, "shareable-disk", "is <shareable/>: another guest may use it", "remove <shareable/>"},
        {disk->readonly, "readonly-disk", "is <readonly/>", "remove <readonly/>"},
        {disk->mirror, "mirror", "is being mirrored", "end the job: virsh blockjob"},
        {strcmp(disk->device, "disk") != 0, "not-a-disk", "is no plain disk (device)", "name another osDisk.target"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (flags[i].bad)
            add(check, flags[i].id, VR_SEVERITY_BLOCKER,
                g_strdup_printf("%s: its OS disk %s %s", check->name, disk->target, flags[i].text),
                g_strdup_printf("%s (virsh edit %s)", flags[i].remedy, check->typed));
    }
}

static void check_disk_source(Check *check, const VrDomainDisk *disk)
{
    static const char *const local[] = {"file", "block", "volume", NULL};

    if (!g_strv_contains(local, disk->type))
        add(check, "network-disk", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s: its OS disk %s is of type '%s'", check->name, disk->target, disk->type),
            g_strdup("only disks that are a file, a block device or a volume of a local pool can be swapped"));
    else if (disk->source == NULL && disk->volume == NULL)
        add(check, "empty-disk", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s: its OS disk %s has no source", check->name, disk->target),
            g_strdup_printf("virsh edit %s, or name another osDisk.target", check->typed));
    if (disk->foreign_child != NULL)
        add(check, "unknown-source-child", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s: the <source> of its OS disk %s has '%s', which a swap cannot carry", check->name,
                            disk->target, disk->foreign_child),
            g_strdup_printf("virsh edit %s and remove it, or leave the guest out of the set", check->typed));
}

static gboolean has_medium(const VrDomainDisk *disk)
{
    return disk->source != NULL || disk->volume != NULL;
}

/* The disk that boots before `os`, NULL when os is first. With <os><boot> it is the first hard disk in libvirt's order;
 * with <boot order> the lowest one, and an empty drive boots nothing. */
static const VrDomainDisk *earlier_disk(const VrDomainDef *def, const VrDomainDisk *os)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);

        if (disk == os) {
            if (!def->per_device_boot)
                return NULL;
            continue;
        }
        if (!def->per_device_boot && strcmp(disk->device, "disk") == 0)
            return disk;
        if (def->per_device_boot && disk->boot_order > 0 && has_medium(disk) &&
            (os->boot_order == 0 || disk->boot_order < os->boot_order))
            return disk;
    }
    return NULL;
}

static void check_boot_order(Check *check, const VrDomainDisk *os)
{
    const VrDomainDef *def = check->def;
    const VrDomainDisk *earlier = earlier_disk(def, os);
    g_autofree char *why = NULL;

    if (earlier != NULL)
        why = g_strdup_printf("%s boots before it", earlier->target);
    else if (def->per_device_boot && os->boot_order == 0)
        why = g_strdup("other devices have a <boot order> and it has none");
    else if (!def->per_device_boot && !def->os_boot_hd_first)
        why = g_strdup("<os><boot> names another device first");
    if (why == NULL)
        return;
    add(check, "os-disk-not-first-boot", VR_SEVERITY_BLOCKER,
        g_strdup_printf("%s: its OS disk %s is not what boots first: %s", check->name, os->target, why),
        g_strdup_printf("virsh edit %s: give the OS disk <boot order='1'/>, or <os><boot dev='hd'/> first",
                        check->typed));
}

static void check_kernel(Check *check)
{
    if (check->def->kernel == NULL)
        return;
    add(check, "direct-kernel-boot", VR_SEVERITY_WARNING,
        g_strdup_printf("%s boots the kernel %s of this host, not that of its OS disk", check->name,
                        check->def->kernel),
        g_strdup_printf("see that the kernel fits the new image, or virsh edit %s: remove <kernel> from <os>",
                        check->typed));
}

static void check_os_disk(Check *check)
{
    g_autoptr(GError) error = NULL;
    const VrDomainDisk *disk = vr_domain_def_os_disk(check->def, check->needs->os_target, &error);

    if (disk == NULL) {
        add(check, "ambiguous-os-disk", VR_SEVERITY_BLOCKER, g_strdup(error->message),
            g_strdup("set osDisk.target in the model (virsh domblklist shows the targets)"));
        return;
    }
    check_disk_flags(check, disk);
    check_disk_source(check, disk);
    check_boot_order(check, disk);
}

/* -- The list ------------------------------------------------------------------------------------- */

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
    static void (*const checks[])(Check *) = {check_state, check_persistent, check_managed_save, check_snapshots,
                                              check_job,   check_os_disk,    check_actions,      check_firmware,
                                              check_agent, check_kernel};
    const char *name = info->name != NULL ? info->name : def->name;
    g_autofree char *typed = shell_word(name);
    Check check = {info, def, needs, name, typed, g_ptr_array_new()};

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
