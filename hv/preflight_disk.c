/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Findings about its disks. */
#include "base/error.h"
#include "hv/preflight_private.h"

#include <string.h>

static void check_disk_flags(VrPreflightCheck *check, const VrDomainDisk *disk)
{
    const struct {
        gboolean bad;
        const char *id, *text;
        char *remedy; /* taken */
    } flags[] = {
        {disk->transient, "transient-disk", "is <transient/>: its writes are thrown away",
         g_strdup_printf("virsh edit %s: remove <transient/>", check->typed)},
        {disk->shareable, "shareable-disk", "is <shareable/>: another guest may use it",
         g_strdup_printf("virsh edit %s: remove <shareable/>", check->typed)},
        {disk->readonly, "readonly-disk", "is <readonly/>",
         g_strdup_printf("virsh edit %s: remove <readonly/>", check->typed)},
        {disk->mirror, "mirror", "is being mirrored",
         g_strdup_printf("wait for the end of the job, or end it: virsh blockjob %s %s --abort", check->typed,
                         disk->target)},
        {strcmp(disk->device, "disk") != 0, "not-a-disk", "is no plain disk (device)",
         g_strdup("name another osDisk.target in the model")},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (flags[i].bad)
            vr_preflight_add(check, flags[i].id,
                             g_strdup_printf("%s: its OS disk %s %s", check->name, disk->target, flags[i].text),
                             flags[i].remedy);
        else
            g_free(flags[i].remedy);
    }
}

static void check_disk_source(VrPreflightCheck *check, const VrDomainDisk *disk)
{
    static const char *const local[] = {"file", "block", "volume", NULL};

    if (!g_strv_contains(local, disk->type))
        vr_preflight_add(
            check, "network-disk",
            g_strdup_printf("%s: its OS disk %s is of type '%s'", check->name, disk->target, disk->type),
            g_strdup("only disks that are a file, a block device or a volume of a local pool can be swapped"));
    else if (disk->source == NULL && disk->volume == NULL)
        vr_preflight_add(check, "empty-disk",
                         g_strdup_printf("%s: its OS disk %s has no source", check->name, disk->target),
                         g_strdup_printf("virsh edit %s, or name another osDisk.target", check->typed));
    else if (check->facts->no_local_path != NULL)
        vr_preflight_add(check, "volume-not-local",
                         g_strdup_printf("%s: its OS disk %s is a volume without a local path: %s", check->name,
                                         disk->target, check->facts->no_local_path),
                         g_strdup("only volumes of a local pool that is active can be swapped (virsh pool-list, "
                                  "virsh vol-path)"));
    if (disk->foreign_child != NULL)
        vr_preflight_add(
            check, "unknown-source-child",
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

static void check_boot_order(VrPreflightCheck *check, const VrDomainDisk *os)
{
    const VrDomainDef *def = check->def;
    const VrDomainDisk *earlier = earlier_disk(def, os);
    g_autofree char *why = NULL, *model = NULL;

    if (earlier != NULL)
        why = g_strdup_printf("%s boots before it", earlier->target);
    else if (def->other_boot_order > 0 && (os->boot_order == 0 || def->other_boot_order < os->boot_order))
        why = g_strdup_printf("an <%s> boots before it", def->other_boot);
    else if (def->per_device_boot && os->boot_order == 0)
        why = g_strdup("other devices have a <boot order> and it has none");
    else if (!def->per_device_boot && !def->os_boot_hd_first)
        why = g_strdup("<os><boot> names another device first");
    if (why == NULL)
        return;
    /* That the model names a wrong disk comes first: who made a data disk boot would have it replaced. */
    if (earlier != NULL && strcmp(earlier->device, "disk") == 0)
        model = g_strdup_printf("where %s is the OS disk, set osDisk.target to it; else ", earlier->target);
    vr_preflight_add(
        check, "os-disk-not-first-boot",
        g_strdup_printf("%s: its OS disk %s is not what boots first: %s", check->name, os->target, why),
        g_strdup_printf("%svirsh edit %s: give the OS disk <boot order='1'/>, or <os><boot dev='hd'/> first",
                        model != NULL ? model : "", check->typed));
}

/* Without --base blockcommit would write into the lowest file, which is an image version. */
static void check_disk_recorded(VrPreflightCheck *check, const VrDomainDisk *disk)
{
    const VrPreflightFacts *facts = check->facts;
    g_autofree char *adopt = NULL;

    if (facts->should_be == NULL)
        return;
    if (!facts->ours)
        adopt = g_strdup_printf("; or, when it was moved, say what is on it: 'virt-reimage adopt SET %s --version V'",
                                check->typed);
    vr_preflight_add(
        check, "os-disk-changed",
        g_strdup_printf("%s: its OS disk %s is %s, and not %s of its generation %u: somebody changed the domain",
                        check->name, disk->target, disk->source != NULL ? disk->source : disk->volume, facts->should_be,
                        facts->generation),
        g_strdup_printf(
            "put that back with 'virsh edit %s', or, after a disk-only snapshot, with 'virsh blockcommit %s "
            "%s --base %s --active --pivot'%s",
            check->typed, check->typed, disk->target, facts->should_be, adopt != NULL ? adopt : ""));
}

/* What its header and other domains say of it. */
static void check_disk_content(VrPreflightCheck *check, const VrDomainDisk *disk)
{
    const VrPreflightFacts *facts = check->facts;

    if (facts->shared_with != NULL)
        vr_preflight_add(check, "shared-os-disk",
                         g_strdup_printf("%s: its OS disk %s is named by other domains too: %s", check->name,
                                         disk->target, facts->shared_with),
                         g_strdup("give each domain a disk of its own (virsh edit), or undefine what is not needed"));
    if (facts->rollback_in_use != NULL)
        vr_preflight_add(check, "rollback-disk-in-use",
                         g_strdup_printf("%s: it cannot go back to %s", check->name, facts->rollback_in_use),
                         g_strdup("take it away there first (virsh domblklist, virsh detach-disk; or end the program "
                                  "that has it open)"));
    if (facts->internal_snapshots > 0)
        vr_preflight_add(
            check, "internal-snapshot",
            g_strdup_printf("%s: its OS disk %s holds %u internal snapshot(s) that libvirt may not know", check->name,
                            disk->target, facts->internal_snapshots),
            g_strdup("see 'qemu-img snapshot -l -U' of the disk; delete them with 'qemu-img snapshot -d' while the "
                     "guest is off"));
    if (facts->backing != NULL)
        vr_preflight_add(check, "backing-chain",
                         g_strdup_printf("%s: its OS disk %s lies on %s, which generation 0 goes on needing",
                                         check->name, disk->target, facts->backing),
                         g_strdup("keep that file, unchanged, as long as generation 0 is kept"));
}

/* A system that is installed on a virtio or SATA disk may have no driver for these in its initramfs. */
static void check_disk_bus(VrPreflightCheck *check, const VrDomainDisk *disk)
{
    static const char *const common[] = {"virtio", "scsi", "sata", "ide", NULL};

    if (disk->bus == NULL || g_strv_contains(common, disk->bus))
        return;
    vr_preflight_add(check, "os-disk-bus",
                     g_strdup_printf("%s: its OS disk %s is on bus '%s', from which an image may not be able to boot",
                                     check->name, disk->target, disk->bus),
                     g_strdup("try the image on one instance first (--canary)"));
}

void vr_preflight_kernel(VrPreflightCheck *check)
{
    if (check->def->kernel == NULL)
        return;
    vr_preflight_add(
        check, "direct-kernel-boot",
        g_strdup_printf("%s boots the kernel %s of this host, not that of its OS disk", check->name,
                        check->def->kernel),
        g_strdup_printf("see that the kernel fits the new image, or virsh edit %s: remove <kernel> from <os>",
                        check->typed));
}

void vr_preflight_os_disk(VrPreflightCheck *check)
{
    g_autoptr(GError) error = NULL;
    const VrDomainDisk *disk = vr_domain_def_os_disk(check->def, check->needs->os_target, &error);

    if (disk == NULL) {
        const char *now = vr_error_part(error, VR_ERROR_NOW);
        g_autofree char *what = vr_error_what(error);
        vr_preflight_add(check, "ambiguous-os-disk", g_strconcat(what, now ? "; " : NULL, now, NULL),
                         g_strdup("set osDisk.target in the model (virsh domblklist shows the targets)"));
        return;
    }
    check_disk_flags(check, disk);
    check_disk_source(check, disk);
    check_boot_order(check, disk);
    check_disk_recorded(check, disk);
    check_disk_content(check, disk);
    check_disk_bus(check, disk);
}

/* A WWN is 16 hexadecimal digits, with or without 0x before them. */
static gboolean is_called(const VrDomainDisk *disk, const char *name)
{
    const char *digits = g_ascii_strncasecmp(name, "0x", 2) == 0 ? name + 2 : name;

    return g_strcmp0(disk->serial, name) == 0 || g_strcmp0(disk->target, name) == 0 ||
           (disk->wwn != NULL && g_ascii_strcasecmp(disk->wwn, digits) == 0);
}

static const VrDomainDisk *disk_called(const VrDomainDef *def, const char *name)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (is_called(disk, name))
            return disk;
    }
    return NULL;
}

static void check_protected(VrPreflightCheck *check, const char *name, const VrDomainDisk *os)
{
    const VrDomainDisk *disk = disk_called(check->def, name);
    const char *const *temp = check->needs->temp_targets;

    if (disk == NULL)
        vr_preflight_add(check, "protected-disk-missing",
                         g_strdup_printf("%s has no disk '%s' by serial, WWN or target, which protectDisks names",
                                         check->name, name),
                         g_strdup_printf("attach it, or mend protectDisks in the model; virsh dumpxml %s shows "
                                         "serials and WWNs",
                                         check->typed));
    else if (disk == os || (temp != NULL && g_strv_contains(temp, disk->target)))
        vr_preflight_add(check, "protected-disk",
                         g_strdup_printf("%s: its disk %s is '%s', which protectDisks names, and %s", check->name,
                                         disk->target, name, disk == os ? "it is the OS disk" : "a temp disk"),
                         g_strdup("set osDisk.target and tempDisks to other disks, or take it out of protectDisks"));
}

/* B12: by what a disk keeps when targets move. One that cannot be found may be the one that a target now names. */
void vr_preflight_protected(VrPreflightCheck *check)
{
    const VrDomainDisk *os = vr_domain_def_os_disk(check->def, check->needs->os_target, NULL);

    for (const char *const *name = check->needs->protected_disks; name != NULL && *name != NULL; name++)
        check_protected(check, *name, os);
}

/* A new disk is made by root, and libvirt gives it to QEMU's user at a start; with such a <seclabel> it refuses even the define, as the
 * chain says which file keeps its label ("label overrides require relabeling to be enabled", seen with 9.0). */
void vr_preflight_labels(VrPreflightCheck *check)
{
    if (check->def->unlabelled == NULL)
        return;
    vr_preflight_add(
        check, "disks-not-labelled",
        g_strdup_printf(
            "%s has a <seclabel> of model %s with which libvirt labels no disk: it takes no new OS disk on an "
            "image, and QEMU could not open one",
            check->name, check->def->unlabelled),
        g_strdup_printf("virsh edit %s: relabel='yes', or no <seclabel>", check->typed));
}

/* B11: the new system finds a data disk by what stays the same. A name as /dev/vdb does not. */
void vr_preflight_data_disks(VrPreflightCheck *check)
{
    const VrDomainDisk *os = vr_domain_def_os_disk(check->def, check->needs->os_target, NULL);
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; os != NULL && i < check->def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(check->def->disks, i);
        if (disk == os || strcmp(disk->device, "disk") != 0 || disk->serial != NULL || disk->wwn != NULL)
            continue;
        g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", disk->target);
    }
    if (names->len == 0)
        return;
    vr_preflight_add(
        check, "data-disk-no-serial",
        g_strdup_printf("%s: %s has neither serial nor wwn: an image whose fstab names it by its device may mount "
                        "another one",
                        check->name, names->str),
        g_strdup_printf("mount by UUID or label, or virsh edit %s: add <serial> and mount by /dev/disk/by-id",
                        check->typed));
}

/* What is asked is the system that runs; the new one was most likely made by the same people. */
void vr_preflight_fstab(VrPreflightCheck *check)
{
    if (check->facts->fstab == NULL)
        return;
    vr_preflight_add(
        check, "fstab-device-name",
        g_strdup_printf("%s: the fstab of the system that it runs now mounts by device name: %s. A new system "
                        "may name its disks otherwise, and find another disk there or none",
                        check->name, check->facts->fstab),
        g_strdup("see that the fstab of the new image has UUID=, LABEL= or /dev/disk/by-id, for the root "
                 "too"));
}
