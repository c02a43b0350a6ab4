/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is wrong with one disk is told before its thread asks, so that it does not keep the others from theirs. */
#include "base/gather.h"
#include "disk/personalize_private.h"

struct VrPersonalSeat {
    VrGatherSeat *seat;
};

/* ---- the options of all ---- */

static VrPersonalizeOptions *options_copy(const VrPersonalizeOptions *options)
{
    VrPersonalizeOptions *copy = g_memdup2(options, sizeof *options);
    copy->helper = g_strdup(options->helper);
    copy->work_dir = g_strdup(options->work_dir);
    return copy;
}

static void options_free(void *data)
{
    VrPersonalizeOptions *options = data;
    g_free((char *)options->helper);
    g_free((char *)options->work_dir);
    g_free(options);
}

/* ---- who leads ---- */

/* As many as one call takes. */
static void apply_some(VrGather *gather, GPtrArray *round, const VrPersonalizeOptions *options)
{
    const VrPersonal *disks[VR_PERSONAL_MAX_DISKS] = {NULL};
    GError *errors[VR_PERSONAL_MAX_DISKS] = {NULL};
    g_autoptr(GError) all = NULL;
    guint n = MIN(round->len, VR_PERSONAL_MAX_DISKS);

    for (guint i = 0; i < n; i++)
        disks[i] = vr_gather_what(round->pdata[i]);
    (void)vr_personalize(disks, n, options, errors, &all);
    for (guint i = 0; i < n; i++)
        vr_gather_settle(gather, round->pdata[i], all ? g_error_copy(all) : errors[i]);
    g_ptr_array_remove_range(round, 0, n);
}

static void apply_all(VrGather *gather, GPtrArray *round, void *options)
{
    while (round->len > 0)
        apply_some(gather, round, options);
}

/* ---- seats ---- */

void vr_personal_seats_new(VrPersonalSeat **seats, guint n, const VrPersonalizeOptions *options)
{
    const VrGatherRules rules = {apply_all, options_copy(options), options_free, options->aborted,
                                 "the personalisation"};
    g_autofree VrGatherSeat **gathered = g_new0(VrGatherSeat *, n);
    vr_gather_new(gathered, n, &rules);
    for (guint i = 0; i < n; i++) {
        seats[i] = g_new(VrPersonalSeat, 1);
        seats[i]->seat = gathered[i];
    }
}

void vr_personal_seat_free(VrPersonalSeat *seat)
{
    if (seat)
        vr_gather_free(seat->seat);
    g_free(seat);
}

gboolean vr_personal_seat_apply(VrPersonalSeat *seat, const VrPersonal *personal, GError **error)
{
    g_auto(VrDiskLook) look = {0};
    if (vr_personal_look(personal, &look, error))
        return vr_gather_ask(seat->seat, (void *)personal, error);
    vr_gather_leave(seat->seat);
    return FALSE;
}
