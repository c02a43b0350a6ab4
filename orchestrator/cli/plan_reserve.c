/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reservation of a run (D25): before its first batch there is room for all of its new disks. Full clones are counted whole, though a
 * reflink may save some; of an overlay only its beginning is known. Old disks are kept, so nothing becomes free on the way.
 * Memory needs no reservation: at no time do more guests run than before.
 */
#include "orchestrator/cli/plan_private.h"

#include "base/error.h"
#include "disk/clone.h"
#include "disk/disk_file.h"
#include "orchestrator/os_content.h"

#include <sys/stat.h>

#define BYTES_OF_AN_OVERLAY ((guint64)1 << 20)
#define BYTES_OF_THE_APPLIANCE ((guint64)512 << 20)

gboolean vr_plan_is_full(const VrPlan *plan)
{
    return plan->targets->kind != VR_RUN_ROLLBACK && plan->session->set->model->os_disk_kind == VR_OS_DISK_FULL;
}

/* The current disk of one that is moved rests then. */
static gboolean is_moved(const VrPlan *plan, const char *uuid)
{
    for (guint i = 0; i < plan->targets->count; i++)
        if (g_str_equal(vr_set_instance(plan->session->set, i)->uuid, uuid))
            return plan->targets->targets[i].chosen;
    return FALSE;
}

static gboolean measure_others(VrPlan *plan, GError **error)
{
    g_autoptr(GPtrArray) growing = vr_journal_growing(plan->session->journal, error);

    for (guint i = 0; growing && i < growing->len; i++) {
        const VrGeneration *generation = growing->pdata[i];
        guint64 bytes;
        if (!is_moved(plan, generation->uuid) && vr_disk_file_growth(generation->path, generation->format, &bytes,
                                                                     NULL)) /* one that is gone grows no more */
            plan->others += bytes;
    }
    return growing != NULL;
}

/* libguestfs's own; it is kept, so the first run alone needs room for it. */
static guint64 appliance_bytes(const VrPlan *plan)
{
    g_autofree char *path =
        g_build_filename(vr_store_root(plan->session->store), VR_APPLIANCE, "appliance", "root", NULL);

    return vr_model_writes_offline(plan->session->set->model) && !g_file_test(path, G_FILE_TEST_EXISTS)
               ? BYTES_OF_THE_APPLIANCE
               : 0;
}

gboolean vr_plan_measure(VrPlan *plan, GError **error)
{
    const VrImage *last = NULL;
    guint64 bytes = BYTES_OF_AN_OVERLAY;

    if (!vr_store_free_bytes(plan->session->store, &plan->free_bytes, error))
        return FALSE;
    for (guint i = 0; i < plan->targets->count; i++) {
        const VrImage *image = vr_targets_image(plan->targets, i);
        if (!image)
            continue;
        if (image != last && vr_plan_is_full(plan) && !vr_clone_bytes(plan->session->store, image, &bytes, error))
            return FALSE;
        last = image;
        plan->disk_bytes = MAX(plan->disk_bytes, bytes);
        plan->most_bytes = MAX(plan->most_bytes, image->virtual_size);
        plan->at_once += bytes;
        plan->sum_bytes += image->virtual_size;
    }
    if (last)
        plan->at_once += appliance_bytes(plan);
    return measure_others(plan, error);
}

/* A disk that cannot grow pauses its guest (SAFETY 4.16). Room that is promised twice is common, so it is said and not refused. */
char *vr_plan_growth_text(const VrPlan *plan)
{
    guint64 most = plan->sum_bytes + plan->others;
    g_autofree char *needs = vr_text_size(most);
    g_autofree char *has = vr_text_size(plan->free_bytes);

    if (plan->targets->kind == VR_RUN_ROLLBACK || most <= plan->free_bytes)
        return NULL;
    return g_strdup_printf(
        "when all OS disks in %s are full they need %s more, and %s are free: a guest whose disk cannot "
        "grow is paused",
        vr_store_root(plan->session->store), needs, has);
}

void vr_plan_measure_nvram(VrPlan *plan)
{
    struct stat st;

    for (guint i = 0; i < plan->targets->count; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        if (vr_targets_image(plan->targets, i) && look->def && look->def->nvram && stat(look->def->nvram, &st) == 0)
            plan->at_once += (guint64)st.st_size;
    }
}

guint64 vr_plan_needed_bytes(const VrPlan *plan)
{
    return plan->at_once > 0 ? plan->at_once + VR_STORE_KEPT_FREE : 0;
}

gboolean vr_plan_reserve(const VrPlan *plan, GError **error)
{
    guint64 needed = vr_plan_needed_bytes(plan);
    guint disks = plan->targets->chosen;
    g_autofree char *has = vr_text_size(plan->free_bytes);
    g_autofree char *needs = vr_text_size(needed);
    g_autofree char *missing = vr_text_size(needed > plan->free_bytes ? needed - plan->free_bytes : 0);

    if (plan->free_bytes >= needed)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "%s has only %s free, and %s of '%s' needs %s for %u new OS disk%s%s: %s are missing",
                vr_store_root(plan->session->store), has, vr_run_kind_name(plan->targets->kind),
                plan->session->set->name, needs, disks, disks == 1 ? "" : "s",
                vr_plan_is_full(plan) ? ", full clones" : "", missing);
    vr_error_now(error, "nothing was changed");
    vr_error_next(error, "free them");
    return FALSE;
}
