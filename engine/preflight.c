/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine/preflight.h"

#include "base/error.h"
#include "base/log.h"
#include "disk/disk_file.h"
#include "disk/image_boot.h"
#include "disk/nvram.h"
#include "engine/swap_private.h"
#include "hv/fstab.h"
#include "hv/guest_agent.h"

#define RUN_DIR "/run"
#define AGENT_WAIT_S 3

static gboolean is_ours(VrStore *store, const char *uuid, const char *path)
{
    g_autofree char *ours = g_strdup_printf("%s/disks/%s/", vr_store_root(store), uuid);

    return g_str_has_prefix(path, ours);
}

/* What is not there or cannot be read gives no finding here: that it is missing is said before a guest is stopped. */
static void look_into_disk(VrStore *store, const char *uuid, const char *path, const char *format,
                           VrPreflightFacts *facts)
{
    g_auto(VrDiskLook) look = {0};
    g_autoptr(GError) local = NULL;

    if (!vr_disk_file_look(path, format, &look, &local)) {
        vr_debug("%s: %s", path, local->message);
        return;
    }
    facts->internal_snapshots = look.snapshots;
    if (look.backing && !is_ours(store, uuid, path))
        facts->backing = vr_printable(look.backing, -1);
}

static void compare_with_record(const VrDomainDisk *disk, const VrGeneration *current, VrPreflightFacts *facts)
{
    g_autofree char *named = vr_swap_disk_path(disk);

    if (!current || g_strcmp0(named, current->path) == 0)
        return;
    facts->should_be = g_strdup(current->path);
    facts->generation = current->number;
    facts->ours = current->ours;
}

static void look_at_os_disk(VrStore *store, VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def,
                            const VrSwapNeeds *needs, VrPreflightFacts *facts)
{
    const VrDomainDisk *disk = vr_domain_def_os_disk(def, needs->os_target, NULL);
    g_autoptr(GError) local = NULL;
    g_autofree char *path = NULL;

    if (!disk)
        return;
    compare_with_record(disk, needs->current, facts);
    /* one that is gone is said before a guest is stopped, and for a rollback it may be gone */
    if (!vr_disk_local_path(hv, disk, &path, &local) && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        facts->no_local_path = g_strdup(local->message);
    if (!path)
        return;
    look_into_disk(store, info->uuid, path, disk->driver ? disk->driver : "raw", facts);
    if (needs->users)
        facts->shared_with = vr_disk_users_others(needs->users, path, info->uuid);
}

/* A guest that was never started has none yet. */
static gboolean may_be_missing(const VrDomainInfo *info, const VrSwapNeeds *needs)
{
    return needs->back_to || (info->state == VR_DOMAIN_OFF && !needs->had_nvram);
}

static void look_at_nvram(VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def, const VrSwapNeeds *needs,
                          VrPreflightFacts *facts)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *path = NULL;
    VrFileId file;

    if (!vr_swap_nvram_path(hv, info, def, &path, &local))
        facts->nvram = g_strdup(local->message);
    else if (path && !vr_nvram_look(path, &file, &local) &&
             (!g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND) || !may_be_missing(info, needs)))
        facts->nvram = g_strdup(local->message);
}

static gboolean has_loader(const VrImageBoot *boot, const char *arch)
{
    for (guint i = 0; i < boot->n_loaders; i++)
        if (g_strcmp0(boot->loaders[i].arch, arch) == 0 &&
            g_strcmp0(boot->loaders[i].path, vr_image_loader_path(arch)) == 0)
            return TRUE;
    return FALSE;
}

/* Who has it open is asked too: a disk that was attached to a running guest, or to no guest at all, may be in nobody's XML. */
static void look_at_rollback(VrHv *hv, const VrDomainInfo *info, const VrSwapNeeds *needs, VrPreflightFacts *facts)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *path = needs->back_to ? vr_generation_file(hv, needs->back_to, &local) : NULL;
    g_autofree char *others = path && needs->users ? vr_disk_users_others(needs->users, path, info->uuid) : NULL;
    gboolean held = FALSE;

    if (path && !others)
        vr_disk_file_is_open_by_qemu(path, &held, &local);
    if (local)
        vr_debug("%s: %s", info->name, local->message);
    if (others || held)
        facts->rollback_in_use =
            g_strdup_printf("generation %u, as its disk %s is %s%s", needs->back_to->number, path,
                            others ? "named by other domains: " : "held by a process", others ? others : "");
}

static void look_at_image(VrStore *store, const VrImage *image, const char *arch, VrPreflightImage *seen)
{
    g_autoptr(GError) local = NULL;
    VrImageBoot boot;

    if (!image)
        return;
    if (!vr_image_boot_read(store, image, &boot, &local)) {
        vr_debug("%s: %s", image->path, local->message);
        return;
    }
    *seen = (VrPreflightImage){.name = image->name,
                               .version = image->version,
                               .known = TRUE,
                               .bios = boot.bios,
                               .uefi = boot.uefi,
                               .arch = boot.arch,
                               .sector = boot.sector,
                               .loader = vr_image_loader_path(arch),
                               .no_loader = boot.loaders_known && !has_loader(&boot, arch)};
}

/* A guest that does not run has none that lasts. */
static void look_at_jobs(VrHv *hv, const VrDomainInfo *info, VrPreflightFacts *facts)
{
    g_autoptr(GError) local = NULL;

    if (info->state == VR_DOMAIN_RUNNING && !vr_hv_job(hv, info->uuid, &facts->job, &local))
        facts->job = g_strdup(local->message);
}

/* Most guests' agents refuse, or are not there: that is no finding. */
static void look_at_guest(VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def, const VrSwapNeeds *needs,
                          VrPreflightFacts *facts)
{
    g_autoptr(GError) local = NULL;

    if (info->state != VR_DOMAIN_RUNNING || !def->agent_channel)
        return;
    if (needs->notice != VR_NOTICE_NONE && !vr_agent_ping(hv, info->uuid, AGENT_WAIT_S, &local)) {
        facts->agent_silent = TRUE;
        return;
    }
    facts->fstab = vr_agent_fstab_devices(hv, info->uuid, AGENT_WAIT_S, &local);
    if (local)
        vr_debug("%s: its fstab is not known: %s", info->name, local->message);
}

static void look_at_host(const VrHostState *given, VrPreflightFacts *facts)
{
    g_auto(VrHostState) own = {0};

    if (!given)
        vr_host_state_read(&own, RUN_DIR, FALSE);
    facts->host_stopping = g_strdup(given ? given->stopping : own.stopping);
    facts->host_shutdown = g_strdup(given ? given->shutdown : own.shutdown);
}

GPtrArray *vr_swap_preflight(VrStore *store, VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def,
                             const VrSwapNeeds *needs)
{
    g_auto(VrPreflightFacts) facts = {0};
    const VrPreflightNeeds asked = {.os_target = needs->os_target,
                                    .needs_agent = needs->needs_agent,
                                    .protected_disks = needs->protected_disks,
                                    .temp_targets = needs->temp_targets,
                                    .notice = needs->notice,
                                    .facts = &facts,
                                    .ignored = needs->ignored};

    look_at_os_disk(store, hv, info, def, needs, &facts);
    look_at_rollback(hv, info, needs, &facts);
    look_at_nvram(hv, info, def, needs, &facts);
    look_at_image(store, needs->image, def->arch, &facts.image);
    look_at_host(needs->host, &facts);
    look_at_jobs(hv, info, &facts);
    if (needs->ask_guest)
        look_at_guest(hv, info, def, needs, &facts);
    return vr_preflight(info, def, &asked);
}

VrFinding *vr_swap_changed_disk(const VrDomainInfo *info, const VrDomainDef *def, const char *os_target,
                                const VrGeneration *current)
{
    const VrDomainDisk *disk = vr_domain_def_os_disk(def, os_target, NULL);
    g_auto(VrPreflightFacts) facts = {0};
    const VrPreflightNeeds asked = {.os_target = os_target, .facts = &facts};
    g_autoptr(GPtrArray) findings = NULL;

    if (disk)
        compare_with_record(disk, current, &facts);
    if (!facts.should_be)
        return NULL;
    findings = vr_preflight(info, def, &asked);
    for (guint i = 0; i < findings->len; i++)
        if (g_str_equal(((const VrFinding *)findings->pdata[i])->id, "os-disk-changed"))
            return g_ptr_array_steal_index(findings, i);
    return NULL;
}
