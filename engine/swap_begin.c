/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a swap comes to be: from a request, with preflight, or from its journal row. */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/preflight.h"
#include "engine/swap_private.h"
#include "hv/guest_agent.h"

#include <unistd.h>

#define BOOT_ID_WAIT_MS 5000
#define MAX_NUMBER 1000000000 /* of a generation: a file that is called higher is none of ours */

void vr_swap_free(VrSwap *swap)
{
    if (!swap)
        return;
    vr_capture_free(swap->capture);
    vr_swap_row_free(swap->row);
    vr_generation_free(swap->from);
    vr_generation_free(swap->to);
    vr_image_free(swap->image);
    vr_seed_free(swap->seed);
    vr_swap_carry_clear(swap);
    g_free(swap->before_xml);
    g_free(swap->intent_xml);
    g_strfreev(swap->ignored);
    g_strfreev(swap->protected_disks);
    g_strfreev(swap->temp_targets);
    g_free(swap);
}

const VrSwapRow *vr_swap_row(const VrSwap *swap)
{
    return swap->row;
}

char *vr_swap_disk_path(const VrDomainDisk *disk)
{
    return disk->source ? g_strdup(disk->source) : g_strdup_printf("%s/%s", disk->pool, disk->volume);
}

VrGeneration *vr_swap_generation_as_found(const char *uuid, const VrDomainDisk *disk)
{
    VrGeneration *found = g_new0(VrGeneration, 1);

    g_strlcpy(found->uuid, uuid, sizeof(found->uuid));
    found->path = vr_swap_disk_path(disk);
    found->format = g_strdup(disk->driver ? disk->driver : "raw");
    found->disk_type = g_strdup(disk->type);
    found->state = VR_GENERATION_CURRENT;
    found->made_us = vr_clock_wall_us();
    return found;
}

/* A disk of our making that the journal does not know: the journal is a new one, or an old copy. */
static gboolean is_unknown_of_ours(const VrEngine *engine, const char *uuid, const char *domain, const char *path,
                                   GError **error)
{
    g_autofree char *ours = g_strdup_printf("%s/disks/%s/", vr_store_root(engine->store), uuid);

    if (!g_str_has_prefix(path, ours))
        return FALSE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' runs on %s, which state.db does not know", domain, path);
    vr_error_now(error, "it was lost or is an old copy");
    vr_error_next(error,
                  "put the right state.db back into %s, or, when there is none, run 'virt-reimage recover --rebuild'",
                  vr_store_root(engine->store));
    vr_error_now(error, "nothing was changed");
    return TRUE;
}

gboolean vr_swap_is_as_recorded(const VrGeneration *current, const VrGeneration *found, const char *domain,
                                GError **error)
{
    if (g_str_equal(current->path, found->path))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "the OS disk of '%s' is %s, but its generation %u is %s", domain,
                found->path, current->number, current->path);
    vr_error_now(error, "somebody changed the domain");
    vr_error_next(error, "put the disk back with 'virsh edit %s', then try again", domain);
    return FALSE;
}

/* The current generation by the journal, which must be the disk that the domain names; the first time, generation 0. */
static VrGeneration *current_generation(const VrEngine *engine, const char *uuid, const char *domain,
                                        const VrDomainDisk *disk, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrGeneration) found = vr_swap_generation_as_found(uuid, disk);
    g_autoptr(VrGeneration) current = vr_journal_current(engine->journal, uuid, &local);
    gboolean released;

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (!current) {
        if (!vr_journal_is_released(engine->journal, uuid, found->path, &released, error) ||
            (!released && is_unknown_of_ours(engine, uuid, domain, found->path, error)))
            return NULL;
        if (!vr_journal_record_found(engine->journal, engine->owner, found, error))
            return NULL;
        return vr_journal_current(engine->journal, uuid, error);
    }
    return vr_swap_is_as_recorded(current, found, domain, error) ? g_steal_pointer(&current) : NULL;
}

VrGeneration *vr_swap_rollback_target(const VrEngine *engine, const char *domain, const char *uuid, guint number,
                                      GError **error)
{
    g_autoptr(VrGeneration) to = vr_journal_generation(engine->journal, uuid, number, error);
    g_autofree char *file = NULL;
    VrFileId id;

    if (!to) {
        g_prefix_error(error, "'%s': ", domain);
        return NULL;
    }
    if (to->state != VR_GENERATION_KEPT) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s': generation %u is %s, so it cannot be gone back to",
                    domain, number, vr_generation_state_name(to->state));
        return NULL;
    }
    file = vr_generation_file(engine->hv, to, error);
    if (!file || !vr_disk_file_id(file, &id, error)) {
        g_prefix_error(error, "'%s': the disk of generation %u: ", domain, number);
        return NULL;
    }
    if (id.size == 0) { /* a device that is detached keeps its node */
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s': the disk of generation %u, %s, holds nothing", domain,
                    number, file);
        return NULL;
    }
    if (to->ours && !vr_disk_file_same(&id, &to->file)) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s': %s is not the file that was made for generation %u",
                    domain, to->path, number);
        return NULL;
    }
    return g_steal_pointer(&to);
}

/* N of "gN.…", 0 of any other name. */
static guint number_in_name(const char *name)
{
    char *end = NULL;
    guint64 number = *name == 'g' && g_ascii_isdigit(name[1]) ? g_ascii_strtoull(name + 1, &end, 10) : 0;

    return end && *end == '.' && number < MAX_NUMBER ? (guint)number : 0;
}

/* A journal that was lost, or is an old copy, does not know of all files: what they are of is never mixed with what is new. */
static gboolean above_all_files(VrStore *store, const char *uuid, guint *number, GError **error)
{
    g_autofree char *relpath = g_build_filename("disks", uuid, NULL);
    g_autoptr(GPtrArray) names = vr_store_children(store, relpath, error);

    *number = 1;
    for (guint i = 0; names && i < names->len; i++)
        *number = MAX(*number, number_in_name(names->pdata[i]) + 1);
    return names != NULL;
}

/* A disk that is flattened is of the version, and by the model, that the one before it was. */
VrGeneration *vr_swap_new_generation(const VrEngine *engine, const VrSwapRequest *request, const VrGeneration *from,
                                     GError **error)
{
    const VrImage *image = request->image;
    g_autoptr(VrGeneration) made = g_new0(VrGeneration, 1);

    if (!above_all_files(engine->store, request->uuid, &made->number, error))
        return NULL;
    g_strlcpy(made->uuid, request->uuid, sizeof(made->uuid));
    made->path = vr_store_instance_path(engine->store, request->uuid);
    made->format = g_strdup("qcow2");
    made->disk_type = g_strdup("file");
    made->image = g_strdup(image ? image->name : from->image);
    made->version = g_strdup(image ? image->version : from->version);
    made->ours = TRUE;
    made->state = VR_GENERATION_NEW;
    made->made_us = vr_clock_wall_us();
    made->model_revision = image ? request->model_revision : from->model_revision;
    made->nvram = from->nvram ? g_strdup(made->path) : NULL; /* the directory, as the path: the journal numbers them */
    return g_steal_pointer(&made);
}

/* The boot id before the swap, for the proof of a new boot. Not every guest has an agent; NULL then. */
static char *boot_id_now(VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def)
{
    g_autoptr(GError) local = NULL;
    char *boot_id;

    if (info->state != VR_DOMAIN_RUNNING || !def->agent_channel)
        return NULL;
    boot_id = vr_agent_boot_id(hv, info->uuid, vr_clock_now_ms() + BOOT_ID_WAIT_MS, &local);
    if (!boot_id)
        vr_debug("%s: no boot id before the swap: %s", info->name, local->message);
    return boot_id;
}

static gboolean is_rollback(const VrSwapRequest *request)
{
    return !request->image && !request->flatten;
}

VrSwapRow *vr_swap_new_row(const VrEngine *engine, const VrSwapRequest *request, const VrDomainInfo *info,
                           const VrDomainDisk *disk)
{
    g_autofree char *id = g_uuid_string_random();
    VrSwapRow *row = g_new0(VrSwapRow, 1);

    g_strlcpy(row->id, id, sizeof(row->id));
    g_strlcpy(row->uuid, info->uuid, sizeof(row->uuid));
    row->run_id = g_strdup(request->run_id);
    row->set_name = g_strdup(engine->owner->set_name);
    row->domain = g_strdup(info->name);
    row->os_target = g_strdup(disk->target);
    row->rollback = is_rollback(request);
    row->was_running = info->state != VR_DOMAIN_OFF;
    row->state = row->reached = row->rollback ? VR_SWAP_PREPARED : VR_SWAP_PLANNED;
    return row;
}

/* A guest whose disk file is gone runs on as long as nobody stops it, and does not start again. For a rollback the OS disk and the seed may
 * be gone: it is the way out. */
static gboolean disks_exist(VrHv *hv, const VrDomainDef *def, const VrDomainDisk *os, const char *domain,
                            gboolean os_too, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        g_autofree char *path = NULL;
        if (disk->may_be_empty || ((disk == os || disk->seed) && !os_too))
            continue;
        /* a volume that is on no path of this host is libvirt's to find */
        if (!vr_disk_local_path(hv, disk, &path, NULL) ? disk != os : !path || access(path, F_OK) == 0)
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "'%s': its disk %s, %s, is not there, so it would not start again", domain, disk->target,
                    path ? path : disk->volume);
        vr_error_next(error, "put the file back%s", disk == os ? ", or roll back to a kept generation" : "");
        return FALSE;
    }
    return TRUE;
}

/* Of all domains, so only in the second look of a rollback: the first one has the plan's. One that does not answer does not hold it up. */
static VrDiskUsers *users_before_rollback(const VrSwap *swap)
{
    g_autoptr(GError) local = NULL;
    VrDiskUsers *users = NULL;

    if (!swap->row || !swap->row->rollback)
        return NULL;
    users = vr_disk_users_read(swap->engine.hv, TRUE, &local);
    if (!users)
        vr_warning(swap->row->domain, "which disks other domains have cannot be told: %s", local->message);
    return users;
}

gboolean vr_swap_preflight_require(VrSwap *swap, const VrDomainInfo *info, const VrDomainDef *def,
                                   const char *os_target, GPtrArray **passed, GError **error)
{
    g_autoptr(VrDiskUsers) users = users_before_rollback(swap);
    const VrSwapNeeds needs = {.os_target = os_target,
                               .needs_agent = swap->needs_agent,
                               .protected_disks = (const char *const *)swap->protected_disks,
                               .temp_targets = (const char *const *)swap->temp_targets,
                               .image = swap->image,
                               .ignored = (const char *const *)swap->ignored,
                               .had_nvram = swap->from && swap->from->nvram_file.device != 0,
                               .users = users,
                               .back_to = swap->row && !swap->row->rollback ? NULL : swap->to};
    g_autoptr(GPtrArray) findings = vr_swap_preflight(swap->engine.store, swap->engine.hv, info, def, &needs);

    for (guint i = 0; passed && i < findings->len; i++) {
        const VrFinding *finding = findings->pdata[i];
        if (finding->ignored)
            g_ptr_array_add(*passed, g_strdup_printf("[%s] %s", finding->id, finding->text));
    }
    return vr_preflight_require(findings, info->name, error);
}

/* Everything that can refuse, before the journal knows of the swap. */
static gboolean look(VrSwap *swap, const VrSwapRequest *request, VrDomainInfo *info, GPtrArray *passed, GError **error)
{
    const VrEngine *engine = &swap->engine;
    g_autoptr(VrDomainDef) def = NULL;
    const VrDomainDisk *disk;

    if (!vr_hv_info(engine->hv, request->uuid, info, error))
        return FALSE;
    if (is_rollback(request)) {
        swap->to = vr_swap_rollback_target(engine, info->name, request->uuid, request->to_generation, error);
        if (!swap->to)
            return FALSE;
    }
    swap->before_xml = vr_hv_inactive_xml(engine->hv, request->uuid, error);
    def = swap->before_xml ? vr_domain_def_parse(swap->before_xml, error) : NULL;
    if (!def || !vr_swap_preflight_require(swap, info, def, request->os_target, &passed, error))
        return FALSE;
    disk = vr_domain_def_os_disk(def, request->os_target, error);
    if (!disk)
        return FALSE;
    swap->row = vr_swap_new_row(engine, request, info, disk);
    swap->row->old_boot_id = boot_id_now(engine->hv, info, def);
    swap->from = current_generation(engine, info->uuid, info->name, disk, error);
    return swap->from && disks_exist(engine->hv, def, disk, info->name, !swap->row->rollback, error) &&
           vr_swap_disks_readable(swap, disk->target, error) && vr_swap_temp_check(swap, def, error) &&
           vr_swap_nvram_begin(swap, info, def, error);
}

static gboolean note_passed(const VrSwap *swap, const GPtrArray *passed, GError **error)
{
    for (guint i = 0; i < passed->len; i++)
        if (!vr_journal_event(swap->engine.journal, swap->engine.owner, swap->row->run_id, swap->row->uuid, "ignored",
                              passed->pdata[i], error))
            return FALSE;
    return TRUE;
}

/* Before files are written that an open swap may need. The journal asks again when it takes the new one. */
static gboolean has_no_open_swap(const VrEngine *engine, const char *uuid, const char *domain, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSwapRow) last = vr_journal_last_swap(engine->journal, uuid, &local);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!last || vr_swap_state_is_final(last->state))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' has an open swap", domain);
    vr_error_next(error, "run 'virt-reimage recover' first");
    return FALSE;
}

static gboolean has_directory(const VrEngine *engine, const char *uuid, GError **error)
{
    vr_autofd fd = vr_store_instance_dir(engine->store, uuid, NULL, error);

    return fd >= 0;
}

VrSwap *vr_swap_begin(const VrEngine *engine, const VrSwapRequest *request, GError **error)
{
    g_autoptr(VrSwap) swap = g_new0(VrSwap, 1);
    g_autoptr(GPtrArray) passed = g_ptr_array_new_with_free_func(g_free);
    g_auto(VrDomainInfo) info = {0};

    swap->engine = *engine;
    swap->lost_before = vr_hv_lost_calls(engine->hv);
    swap->image = vr_image_copy(request->image);
    swap->seed = vr_seed_copy(request->seed);
    swap->flatten = request->flatten;
    swap->needs_agent = request->needs_agent;
    swap->protected_disks = g_strdupv((char **)request->protected_disks);
    swap->data_proof = request->data_proof;
    swap->ignored = g_strdupv((char **)request->ignored);
    swap->temp_targets = g_strdupv((char **)request->temp_targets);
    vr_swap_carry_begin(swap, request);
    if (!look(swap, request, &info, passed, error) || !has_no_open_swap(engine, request->uuid, info.name, error))
        return NULL;
    swap->row->from = swap->from->number;
    if (!swap->row->rollback) {
        swap->seat = request->seat;
        swap->alone = request->seat || request->flatten;
        if (!has_directory(engine, request->uuid, error))
            return NULL;
        swap->to = vr_swap_new_generation(engine, request, swap->from, error);
        if (swap->to)
            vr_swap_seed_plan(swap, swap->to);
    }
    if (!swap->to || (swap->row->rollback && (!vr_swap_nvram_check_kept(swap, info.name, error) ||
                                              !vr_swap_seed_check_kept(swap, info.name, error))))
        return NULL;
    swap->row->to = swap->to->number;
    /* A rollback starts at PREPARED, so its files are written before the journal says so. */
    if (swap->row->rollback) {
        vr_store_reserve(engine->store);
        if (!vr_swap_write_xml(swap, error))
            return NULL;
    }
    if (!note_passed(swap, passed, error) ||
        !vr_journal_swap_begin(engine->journal, engine->owner, swap->row, swap->row->rollback ? NULL : swap->to, error))
        return NULL;
    return g_steal_pointer(&swap);
}

VrSwap *vr_swap_resume(const VrEngine *engine, const VrSwapRow *row, GError **error)
{
    g_autoptr(VrSwap) swap = g_new0(VrSwap, 1);

    swap->engine = *engine;
    swap->resumed = TRUE;
    swap->lost_before = vr_hv_lost_calls(engine->hv);
    swap->row = vr_swap_row_copy(row);
    swap->from = vr_journal_generation(engine->journal, row->uuid, row->from, error);
    swap->to = swap->from ? vr_journal_generation(engine->journal, row->uuid, row->to, error) : NULL;
    if (!swap->to)
        return NULL;
    if (!vr_swap_state_is_final(row->state) && !vr_swap_load_xml(swap, error))
        return NULL;
    return g_steal_pointer(&swap);
}
