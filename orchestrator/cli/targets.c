/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The targets of upgrade and reimage; those of apply and rollback are in apply_targets.c and rollback_targets.c. */
#include "orchestrator/cli/targets.h"

#include "base/error.h"
#include "disk/version.h"
#include "orchestrator/trigger.h"
#include "orchestrator/version_past.h"

void vr_targets_clear(VrTargets *targets)
{
    g_clear_pointer(&targets->image, vr_image_free);
    g_clear_pointer(&targets->images, g_ptr_array_unref);
    g_clear_pointer(&targets->targets, g_free);
    g_clear_pointer(&targets->current, g_ptr_array_unref);
    g_clear_pointer(&targets->texts, g_ptr_array_unref);
}

gboolean vr_targets_init(VrTargets *targets, const VrSession *session, VrRunKind kind, GError **error)
{
    targets->kind = kind;
    targets->count = session->set->instances->len;
    targets->targets = g_new0(VrRunTarget, targets->count);
    targets->texts = g_ptr_array_new_with_free_func(g_free);
    targets->images = g_ptr_array_new_with_free_func((GDestroyNotify)vr_image_free);
    targets->current = g_ptr_array_new_with_free_func((GDestroyNotify)vr_generation_free);
    for (guint i = 0; i < targets->count; i++) {
        g_autoptr(GError) local = NULL;
        g_ptr_array_add(targets->current,
                        vr_journal_current(session->journal, vr_set_instance(session->set, i)->uuid, &local));
        if (local) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    return TRUE;
}

void vr_targets_choose(VrTargets *targets, guint index, guint to_generation)
{
    targets->targets[index] = (VrRunTarget){.chosen = TRUE, .to_generation = to_generation};
    targets->chosen++;
}

void vr_targets_choose_image(VrTargets *targets, guint index, const VrImage *image)
{
    vr_targets_choose(targets, index, 0);
    targets->targets[index].image = image;
}

void vr_targets_skip(VrTargets *targets, guint index, char *text)
{
    g_ptr_array_add(targets->texts, text);
    targets->chosen -= targets->targets[index].chosen ? 1 : 0;
    targets->targets[index] = (VrRunTarget){.skipped = text};
}

const VrGeneration *vr_targets_current(const VrTargets *targets, guint index)
{
    return g_ptr_array_index(targets->current, index);
}

const VrImage *vr_targets_image(const VrTargets *targets, guint index)
{
    const VrRunTarget *target = &targets->targets[index];

    if (!target->chosen)
        return NULL;
    return target->image ? target->image : targets->image;
}

VrGeneration *vr_targets_back_to(const VrTargets *targets, const VrSession *session, guint index)
{
    const VrRunTarget *target = &targets->targets[index];

    if (!target->chosen || vr_targets_image(targets, index))
        return NULL;
    return vr_journal_generation(session->journal, vr_set_instance(session->set, index)->uuid, target->to_generation,
                                 NULL);
}

char *vr_generation_text(const VrGeneration *generation)
{
    if (!generation)
        return g_strdup("not known");
    if (!generation->version)
        return g_strdup_printf("not known (generation %u)", generation->number);
    return g_strdup_printf("%s %s (generation %u)", generation->image, generation->version, generation->number);
}

char *vr_version_text(const VrGeneration *generation)
{
    return g_strdup(generation && generation->version ? generation->version : "?");
}

/* --- instances by name ------------------------------------------------------------------------------- */

GArray *vr_targets_named(const VrSession *session, GError **error)
{
    guint count = session->set->instances->len;
    g_autoptr(GArray) indices = g_array_new(FALSE, FALSE, sizeof(guint));
    g_autofree gboolean *seen = g_new0(gboolean, count);
    const VrCli *cli = session->cli;

    if (cli->options.all == (cli->n_args > 1)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s",
                    cli->options.all ? "name instances or give --all, not both"
                                     : "name the instances, or give --all for all of the set");
        return NULL;
    }
    for (guint i = 0; cli->options.all && i < count; i++)
        g_array_append_val(indices, i);
    for (guint i = 1; i < cli->n_args; i++) {
        int index = vr_session_find(session, cli->args[i], error);
        if (index < 0)
            return NULL;
        if (!seen[index])
            g_array_append_val(indices, index);
        seen[index] = TRUE;
    }
    return g_steal_pointer(&indices);
}

/* --- the image --------------------------------------------------------------------------------------- */

char *vr_set_image_name(const VrSession *session, GError **error)
{
    const VrModel *model = session->set->model;

    if (model->image_name)
        return g_strdup(model->image_name);
    return vr_store_find_name(session->store, model->publisher, model->offer, model->sku, error);
}

VrImage *vr_set_eligible(const VrSession *session, const char *name, const char *version, GError **error)
{
    g_autoptr(VrImage) image = vr_store_get(session->store, name, version, error);

    if (!image || !image->excluded)
        return g_steal_pointer(&image);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s is excluded%s%s, and excluded versions are never rolled out",
                image->name, image->version, image->excluded_reason ? ": " : "",
                image->excluded_reason ? image->excluded_reason : "");
    vr_error_next(error, "'%s image-include %s %s' undoes that", VR_PROGRAM, image->name, image->version);
    return NULL;
}

static const VrImage *find_image(const VrTargets *targets, const char *name, const char *version)
{
    for (guint i = 0; i < targets->images->len; i++) {
        const VrImage *image = g_ptr_array_index(targets->images, i);
        if (g_str_equal(image->name, name) && vr_version_compare(image->version, version) == 0)
            return image;
    }
    return NULL;
}

static const VrImage *keep_image(VrTargets *targets, VrImage *image)
{
    if (image)
        g_ptr_array_add(targets->images, image);
    return image;
}

const VrImage *vr_targets_eligible(VrTargets *targets, const VrSession *session, const char *name, const char *version,
                                   GError **error)
{
    const VrImage *known = find_image(targets, name, version);

    return known ? known : keep_image(targets, vr_set_eligible(session, name, version, error));
}

const VrImage *vr_targets_stored(VrTargets *targets, const VrSession *session, const char *name, const char *version,
                                 GError **error)
{
    const VrImage *known = find_image(targets, name, version);

    return known ? known : keep_image(targets, vr_store_get(session->store, name, version, error));
}

void vr_targets_agree(VrTargets *targets)
{
    const VrImage *common = NULL;

    for (guint i = 0; i < targets->count; i++) {
        const VrImage *image = targets->targets[i].image;
        if (image && common && image != common)
            return;
        common = image ? image : common;
    }
    targets->image = vr_image_copy(common);
}

gboolean vr_targets_verify(const VrTargets *targets, const VrSession *session, GError **error)
{
    if (targets->image)
        return vr_store_verify(session->store, targets->image, FALSE, error);
    for (guint i = 0; i < targets->images->len; i++)
        if (!vr_store_verify(session->store, g_ptr_array_index(targets->images, i), FALSE, error))
            return FALSE;
    return TRUE;
}

VrImage *vr_set_image(const VrSession *session, GError **error)
{
    const char *asked = session->cli->options.version;
    g_autofree char *name = NULL;

    if (asked && !g_str_equal(asked, "latest") && !vr_version_check(asked, error))
        return NULL;
    name = vr_set_image_name(session, error);
    return name ? vr_set_eligible(session, name, asked ? asked : session->set->model->version, error) : NULL;
}

/* --- upgrade ----------------------------------------------------------------------------------------- */

/* Invariant 21: what failed on this set is not tried again without a person's word. */
static gboolean check_not_failed(const VrSession *session, const VrImage *image, GError **error)
{
    g_auto(VrVersionPast) past = {0};

    if (!vr_version_past_read(session->journal, session->set, image->name, image->version, &past, error))
        return FALSE;
    if (!past.failed_run)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "version %s failed in run %s (%s)", image->version, past.failed_run,
                past.failed_code);
    vr_error_next(error, "name it with --version %s to try again, or take it out: '%s image-exclude %s %s'",
                  image->version, VR_PROGRAM, image->name, image->version);
    return FALSE;
}

static gboolean runs_image(const VrGeneration *generation, const VrImage *image)
{
    return generation && generation->version && g_strcmp0(generation->image, image->name) == 0 &&
           vr_version_compare(generation->version, image->version) == 0;
}

/* A11: a run that goes elsewhere leaves the instance alone. */
static gboolean is_pinned_elsewhere(const VrInstance *instance, const VrImage *image)
{
    return instance->pin && vr_version_compare(instance->pin, image->version) != 0;
}

static void skip_pinned(VrTargets *targets, const VrSession *session, guint index)
{
    const VrInstance *instance = vr_set_instance(session->set, index);
    const VrGeneration *current = vr_targets_current(targets, index);
    gboolean there = current && current->version && g_strcmp0(current->image, targets->image->name) == 0 &&
                     vr_version_compare(current->version, instance->pin) == 0;
    g_autofree char *runs = vr_version_text(current);

    targets->pinned++;
    if (there)
        vr_targets_skip(targets, index, g_strdup_printf("pinned to %s by the model", instance->pin));
    else
        vr_targets_skip(
            targets, index,
            g_strdup_printf("pinned to %s by the model, but runs %s; '%s reimage %s %s --version %s' moves it",
                            instance->pin, runs, VR_PROGRAM, session->set->name, instance->domain, instance->pin));
}

void vr_targets_skip_protected(VrTargets *targets, const VrSession *session, guint index)
{
    const VrInstance *instance = vr_set_instance(session->set, index);
    gboolean same = targets->kind == VR_RUN_APPLY || (targets->kind == VR_RUN_REIMAGE && !targets->image);
    const char *version = same || !targets->image ? NULL : targets->image->version;
    const char *command = same ? vr_run_kind_name(targets->kind) : version ? "reimage" : "rollback";
    g_autofree char *why = vr_protection_text(instance);

    targets->guarded++;
    vr_targets_skip(targets, index,
                    g_strdup_printf("%s; '%s %s %s %s%s%s' moves it", why, VR_PROGRAM, command, session->set->name,
                                    instance->domain, version ? " --version " : "", version ? version : ""));
}

static gboolean has_role(const VrInstance *instance, const char *role)
{
    return g_strcmp0(instance->role.name, role) == 0;
}

/* D8: one that no instance has is a mistake. */
static gboolean check_role(const VrSession *session, const char *role, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GString) roles = g_string_new(NULL);

    for (guint i = 0; i < session->set->instances->len; i++) {
        const VrInstance *instance = vr_set_instance(session->set, i);
        if (!role || has_role(instance, role))
            return TRUE;
        if (instance->role.name && g_hash_table_add(seen, (char *)instance->role.name))
            g_string_append_printf(roles, "%s%s", roles->len ? ", " : "", instance->role.name);
    }
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "set '%s' has no role '%s'", session->set->name, role);
    vr_error_now(error, "%s%s", roles->len ? "there are: " : "its model names none", roles->str);
    return FALSE;
}

/* Decision 5, A14: what an upgrade that began by itself leaves alone on top. NULL: nothing. Free with g_free. */
static char *left_alone_by_itself(const VrTargets *targets, const VrSession *session, guint index)
{
    const VrInstance *instance = vr_set_instance(session->set, index);
    const VrGeneration *current = vr_targets_current(targets, index);
    const char *set = session->set->name;

    switch (vr_trigger_place(instance, current, targets->image->name, targets->image->version)) {
    case VR_TRIGGER_NOT_KNOWN:
        return g_strdup_printf("nobody knows which version it runs; '%s adopt %s %s --version V' says it, '%s upgrade "
                               "%s' moves it",
                               VR_PROGRAM, set, instance->domain, VR_PROGRAM, set);
    case VR_TRIGGER_NEWER:
        return g_strdup_printf("runs %s, which is newer", current->version);
    case VR_TRIGGER_ELSEWHERE:
        return g_strdup_printf("runs %s %s, and which is newer nobody can say; '%s upgrade %s' moves it",
                               current->image, current->version, VR_PROGRAM, set);
    default:
        return NULL;
    }
}

static void choose_for_upgrade(VrTargets *targets, const VrSession *session, guint index)
{
    const VrInstance *instance = vr_set_instance(session->set, index);
    const char *role = session->cli->options.role;
    char *alone = session->cli->options.automatic ? left_alone_by_itself(targets, session, index) : NULL;

    if (alone)
        vr_targets_skip(targets, index, alone);
    else if (role && !has_role(instance, role))
        vr_targets_skip(targets, index, g_strdup_printf("not of role %s", role));
    else if (is_pinned_elsewhere(instance, targets->image))
        skip_pinned(targets, session, index);
    else if (runs_image(vr_targets_current(targets, index), targets->image))
        vr_targets_skip(targets, index, g_strdup_printf("runs %s already", targets->image->version));
    else if (instance->is_protected)
        vr_targets_skip_protected(targets, session, index);
    else
        vr_targets_choose(targets, index, 0);
}

/* D17: each must be one that is to be moved. */
static gboolean mark_canaries(VrTargets *targets, const VrSession *session, GError **error)
{
    for (char **name = session->cli->options.canary; name && *name; name++) {
        int index = vr_session_find(session, *name, error);
        if (index < 0)
            return FALSE;
        if (!targets->targets[index].chosen) {
            g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s' cannot be a canary, since it is not to be moved: %s",
                        *name, targets->targets[index].skipped);
            return FALSE;
        }
        targets->targets[index].canary = TRUE;
    }
    return TRUE;
}

/* Any version of another image is newer: somebody has changed the model. */
static gboolean is_on_top_of(const VrImage *image, const VrRun *run)
{
    return g_strcmp0(run->image, image->name) != 0 || vr_version_compare(image->version, run->version) > 0;
}

/* What a run left of one instance, asked from the newest run on. TRUE: that decides. Where a rollback left it failed, the version that it
 * shall leave is that of a run before. */
static gboolean decide_left_failed(VrRunTarget *target, const VrImage *image, const VrRun *run, VrInstancePhase phase)
{
    gboolean stuck =
        g_strcmp0(run->error_code, VR_CODE_UPGRADED) == 0; /* E14: one that fell ill later counts as failed */
    gboolean bad = phase == VR_PHASE_FAILED || phase == VR_PHASE_UNKNOWN || (stuck && phase == VR_PHASE_COMMITTED);

    if (phase == VR_PHASE_PENDING || phase == VR_PHASE_SKIPPED)
        return FALSE;
    if (run->kind != VR_RUN_ROLLBACK) {
        target->left_failed = (bad || target->left_failed) && is_on_top_of(image, run);
        return TRUE;
    }
    if (target->left_failed)
        return FALSE;
    target->left_failed = bad;
    return !bad;
}

gboolean vr_targets_mark_left_failed(VrTargets *targets, const VrSession *session, GError **error)
{
    g_autoptr(GPtrArray) runs = vr_history_list(vr_store_db(session->store), session->set->name, 0, error);
    g_autoptr(GHashTable) open = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < targets->count; i++)
        if (targets->targets[i].chosen)
            g_hash_table_insert(open, (char *)vr_set_instance(session->set, i)->uuid, &targets->targets[i]);
    for (guint i = 0; runs && i < runs->len && g_hash_table_size(open) > 0; i++) {
        const VrRun *run = g_ptr_array_index(runs, i);
        for (guint j = 0; j < run->instances->len; j++) {
            const VrRunInstance *past = g_ptr_array_index(run->instances, j);
            VrRunTarget *target = g_hash_table_lookup(open, past->uuid);
            if (target && decide_left_failed(target, targets->image, run, past->phase))
                g_hash_table_remove(open, past->uuid);
        }
    }
    return runs != NULL;
}

gboolean vr_targets_of_upgrade(VrTargets *targets, const VrSession *session, GError **error)
{
    const char *asked = session->cli->options.version;

    if (!check_role(session, session->cli->options.role, error) ||
        !vr_targets_init(targets, session, VR_RUN_UPGRADE, error))
        return FALSE;
    targets->image = vr_set_image(session, error);
    if (!targets->image)
        return FALSE;
    for (guint i = 0; i < targets->count; i++)
        choose_for_upgrade(targets, session, i);
    if (!mark_canaries(targets, session, error))
        return FALSE;
    if (targets->chosen == 0)
        return TRUE;
    if ((!asked || g_str_equal(asked, "latest")) && !check_not_failed(session, targets->image, error))
        return FALSE;
    return vr_targets_mark_left_failed(targets, session, error);
}

/* --- reimage ----------------------------------------------------------------------------------------- */

static gboolean version_not_known(const VrSession *session, guint index, GError **error)
{
    const char *domain = vr_set_instance(session->set, index)->domain, *set = session->set->name;

    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "it is not known which version '%s' runs, and the set has not come to one as a whole", domain);
    vr_error_next(error, "give --version V, or say it with '%s adopt %s %s --version V'", VR_PROGRAM, set, domain);
    return FALSE;
}

/* I1: the version that it runs now, be it the newest or not; D29: of what nobody knows, its pin or the set's current one. */
static gboolean choose_current(VrTargets *targets, const VrSession *session, guint index, GError **error)
{
    const VrInstance *instance = vr_set_instance(session->set, index);
    const VrGeneration *current = vr_targets_current(targets, index);
    gboolean known = current && current->version;
    const char *version = known ? current->version : instance->pin ? instance->pin : session->set->current_version;
    g_autofree char *name = g_strdup(known ? current->image : session->set->current_image);
    const VrImage *image;

    if (!version)
        return version_not_known(session, index, error);
    if (!name || (!known && instance->pin)) {
        g_free(name);
        name = vr_set_image_name(session, error);
    }
    image = name ? vr_targets_eligible(targets, session, name, version, error) : NULL;
    if (!image) {
        g_prefix_error(error, "'%s': ", instance->domain);
        return FALSE;
    }
    vr_targets_choose_image(targets, index, image);
    return TRUE;
}

/* I2; --all means those that go with the set, while who names an instance and a version means both. */
static gboolean choose_for_reimage(VrTargets *targets, const VrSession *session, guint index, GError **error)
{
    const VrCliOptions *options = &session->cli->options;
    const VrInstance *instance = vr_set_instance(session->set, index);

    if (options->all && options->version && is_pinned_elsewhere(instance, targets->image))
        skip_pinned(targets, session, index);
    else if (options->all && instance->is_protected)
        vr_targets_skip_protected(targets, session, index);
    else if (!options->version)
        return choose_current(targets, session, index, error);
    else
        vr_targets_choose(targets, index, 0);
    return TRUE;
}

gboolean vr_targets_of_reimage(VrTargets *targets, const VrSession *session, GError **error)
{
    g_autoptr(GArray) named = vr_targets_named(session, error);

    if (!named || !vr_targets_init(targets, session, VR_RUN_REIMAGE, error))
        return FALSE;
    if (session->cli->options.version && !(targets->image = vr_set_image(session, error)))
        return FALSE;
    for (guint i = 0; i < targets->count; i++)
        vr_targets_skip(targets, i, g_strdup("not named"));
    for (guint i = 0; i < named->len; i++) {
        guint index = g_array_index(named, guint, i);
        if (!choose_for_reimage(targets, session, index, error))
            return FALSE;
        targets->targets[index].named = !session->cli->options.all;
    }
    if (!targets->image)
        vr_targets_agree(targets);
    return TRUE;
}
