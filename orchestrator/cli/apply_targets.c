/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The targets of apply (C11): instances whose disk was made by an older revision of the model, or whose seed or disk would have another content by now, get a
 * new one of the version that they run now. Who is up to date with the model is left alone, also when another version is there: that is for upgrade.
 */
#include "base/error.h"
#include "orchestrator/cli/targets.h"
#include "orchestrator/os_content.h"

/* Why one that is behind cannot be brought to the model, NULL when it can; *image is the version that it runs. Free with g_free. */
static char *why_not(VrTargets *targets, const VrSession *session, guint index, const VrImage **image)
{
    const char *domain = vr_set_instance(session->set, index)->domain;
    const VrGeneration *current = vr_targets_current(targets, index);
    g_autoptr(GError) local = NULL;

    *image = NULL;
    if (!current || !current->version)
        return g_strdup_printf("it is not known which version it runs; '%s reimage %s %s --version V' gives it one",
                               VR_PROGRAM, session->set->name, domain);
    *image = vr_targets_eligible(targets, session, current->image, current->version, &local);
    return *image ? NULL : g_strdup(local->message);
}

/* What is on its seed, and was written into its disk, is known by its digest. Of one that cannot be made the plan says so. */
static gboolean has_other_content(const VrTargets *targets, const VrSession *session, guint index,
                                  const VrOsContent *content)
{
    const VrGeneration *current = vr_targets_current(targets, index);
    const VrImage image = {.name = current ? current->image : NULL, .version = current ? current->version : NULL};
    g_autoptr(VrSeed) seed = NULL;
    g_autoptr(VrPersonal) personal = NULL;
    g_autofree char *digest = NULL;

    if (!content || !current || !current->seed_digest || !current->image || !current->version)
        return FALSE;
    if (vr_os_content_seed(content, session->set, index, &image, session->hv, &seed, NULL) &&
        vr_os_content_personal(content, session->set, index, &image, session->hv, &personal, NULL))
        digest = vr_swap_content_digest(seed, personal);
    return g_strcmp0(digest, current->seed_digest) != 0;
}

/* all: it was not named, so what keeps it back leaves it alone; who was named and cannot be moved is an error. */
static gboolean choose(VrTargets *targets, const VrSession *session, guint index, const VrOsContent *content,
                       gboolean all, GError **error)
{
    const VrInstance *instance = vr_set_instance(session->set, index);
    const VrImage *image;
    g_autofree char *why = NULL;

    if (!vr_set_is_behind(session->set, index, vr_targets_current(targets, index)) &&
        !has_other_content(targets, session, index, content)) {
        vr_targets_skip(targets, index,
                        g_strdup_printf("up to date with the model (revision %u)", session->set->revision));
        return TRUE;
    }
    targets->behind++;
    if (all && instance->is_protected) {
        vr_targets_skip_protected(targets, session, index);
        return TRUE;
    }
    why = why_not(targets, session, index, &image);
    if (!why)
        vr_targets_choose_image(targets, index, image);
    else if (all)
        vr_targets_skip(targets, index, g_steal_pointer(&why));
    else
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s': %s", instance->domain, why);
    return all || image;
}

gboolean vr_targets_of_apply(VrTargets *targets, const VrSession *session, GError **error)
{
    g_autoptr(GArray) named = vr_targets_named(session, error);
    g_autoptr(VrOsContent) content = NULL;

    if (!named || !vr_os_content_load(session->set->model, &content, error) ||
        !vr_targets_init(targets, session, VR_RUN_APPLY, error))
        return FALSE;
    for (guint i = 0; i < targets->count; i++)
        vr_targets_skip(targets, i, g_strdup("not named"));
    for (guint i = 0; i < named->len; i++) {
        guint index = g_array_index(named, guint, i);
        if (!choose(targets, session, index, content, session->cli->options.all, error))
            return FALSE;
        targets->targets[index].named = !session->cli->options.all; /* D14 */
    }
    vr_targets_agree(targets);
    return TRUE;
}

gboolean vr_targets_of_edit(VrTargets *targets, const VrSession *session, GError **error)
{
    if (!vr_targets_init(targets, session, VR_RUN_APPLY, error))
        return FALSE;
    for (guint i = 0; i < targets->count; i++)
        if (!choose(targets, session, i, NULL, TRUE, error))
            return FALSE;
    vr_targets_agree(targets);
    return TRUE;
}
