/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/convert.h"

#include "base/error.h"
#include "disk/convert_private.h"
#include "disk/copy_private.h"

/* ---- to raw: the map is the plan ---- */

typedef struct {
    VrMap *map;
    guint64 at;
} RawPlan;

static gboolean next_of_raw(void *data, VrCopySegment *segment, GError **error)
{
    RawPlan *plan = data;
    VrExtent extent;
    if (!vr_map_next_data(plan->map, &plan->at, &extent, error))
        return FALSE;
    *segment = (VrCopySegment){.fd = extent.fd,
                               .offset = extent.offset,
                               .target = plan->at,
                               .length = extent.length,
                               .packing = extent.packing,
                               .packed = extent.packed,
                               .skip = extent.skip};
    plan->at += extent.length;
    return TRUE;
}

static gboolean count_data(VrMap *map, guint64 *data, GError **error)
{
    VrExtent extent;
    *data = 0;
    for (guint64 at = 0;; at += extent.length) {
        if (!vr_map_next_data(map, &at, &extent, error))
            return FALSE;
        if (extent.length == 0)
            return TRUE;
        *data += extent.length;
    }
}

/* ---- all of it ---- */

typedef struct {
    VrMap *map;
    VrQcow2Plan *qcow2; /* NULL: to raw */
    VrConvertPlan plan;
} Conversion;

static void conversion_clear(Conversion *conversion)
{
    vr_qcow2_plan_free(conversion->qcow2);
    vr_map_free(conversion->map);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Conversion, conversion_clear)

static gboolean plan_all(Conversion *c, const VrConvertJob *job, GError **error)
{
    c->map = vr_map_new(job->links, job->n_links, &job->copy, error);
    if (!c->map || (job->virtual_size && !vr_map_grow(c->map, job->virtual_size, error)))
        return FALSE;
    c->plan.virtual_size = c->plan.file_size = vr_map_size(c->map);
    if (job->format == VR_FORMAT_RAW)
        return count_data(c->map, &c->plan.data, error);
    c->qcow2 = vr_qcow2_plan_new(c->map, job->cluster_bits, error);
    if (!c->qcow2)
        return FALSE;
    c->plan.file_size = vr_qcow2_plan_file_size(c->qcow2);
    c->plan.data = vr_qcow2_plan_data(c->qcow2);
    return TRUE;
}

gboolean vr_convert_plan(const VrConvertJob *job, VrConvertPlan *plan, GError **error)
{
    g_auto(Conversion) c = {0};
    if (!plan_all(&c, job, error))
        return FALSE;
    *plan = c.plan;
    return TRUE;
}

gboolean vr_convert(const VrConvertJob *job, VrConvertPlan *plan, char digest[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    g_auto(Conversion) c = {0};
    if (!plan_all(&c, job, error))
        return FALSE;
    RawPlan raw = {.map = c.map};
    VrCopyJob copy = job->copy;
    copy.source_fd = -1;
    copy.segments = NULL;
    copy.length = c.plan.file_size;
    copy.next = c.qcow2 ? vr_qcow2_plan_next : next_of_raw;
    copy.next_data = c.qcow2 ? (void *)c.qcow2 : (void *)&raw;
    if (!vr_copy(&copy, digest, error))
        return FALSE;
    if (plan)
        *plan = c.plan;
    return TRUE;
}
