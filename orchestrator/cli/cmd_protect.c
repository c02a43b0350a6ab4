/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* protect, unprotect (G7): an instance is kept out of set actions by a person's word, beside what the model says of it. */
#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/targets.h"

char *vr_protection_text(const VrInstance *instance)
{
    g_autofree char *since = vr_text_time(instance->protected_us);

    if (!instance->is_protected)
        return NULL;
    if (instance->protected_us == 0)
        return g_strdup("protected by the model");
    return g_strdup_printf("protected %ssince %s%s%s", instance->model_protects ? "by the model, and " : "", since,
                           instance->protected_reason ? ": " : "",
                           instance->protected_reason ? instance->protected_reason : "");
}

void vr_say_protected(const VrCli *cli, const VrSet *set)
{
    for (guint i = 0; i < set->instances->len; i++) {
        g_autofree char *why = vr_protection_text(vr_set_instance(set, i));

        vr_say_why(cli, vr_set_instance(set, i)->domain, why);
    }
}

json_t *vr_protection_json(const VrInstance *instance)
{
    if (!instance->is_protected)
        return json_null();
    return json_pack("{s:b, s:o, s:o}", "byModel", instance->model_protects, "since",
                     vr_json_time(instance->protected_us), "reason", vr_json_text(instance->protected_reason));
}

static gboolean take(VrSession *session, const VrCli *cli, GArray **named, GError **error)
{
    if (!vr_session_open(session, cli, error) || !vr_session_take_set(session, cli->args[0], error))
        return FALSE;
    *named = vr_targets_named(session, error);
    return *named != NULL;
}

static const VrInstance *named_instance(const VrSession *session, const GArray *named, guint i)
{
    return vr_set_instance(session->set, g_array_index(named, guint, i));
}

/* Those of the named whose protection by a command is to change; of the others it is said that it is so already. */
static GArray *to_change(const VrSession *session, const GArray *named, gboolean protect)
{
    GArray *indices = g_array_new(FALSE, FALSE, sizeof(guint));

    for (guint i = 0; i < named->len; i++) {
        const VrInstance *instance = named_instance(session, named, i);
        g_autofree char *why = vr_protection_text(instance);

        if ((instance->protected_us > 0) != protect)
            g_array_append_val(indices, g_array_index(named, guint, i));
        else
            vr_say(session->cli, "%s is %s already", instance->domain, why ? why : "not protected");
    }
    return indices;
}

static gboolean change(const VrSession *session, const GArray *named, gboolean protect, GError **error)
{
    const VrCliOptions *options = &session->cli->options;
    g_autoptr(GArray) indices = to_change(session, named, protect);

    if (!options->dry_run && indices->len > 0 &&
        !vr_registry_protect(session->journal, session->owner, session->set, indices, protect ? vr_clock_wall_us() : 0,
                             protect ? options->reason : NULL, error))
        return FALSE;
    for (guint i = 0; i < indices->len; i++)
        vr_say(session->cli, "%s %s%s", named_instance(session, indices, i)->domain,
               options->dry_run ? "would be " : "is ", protect ? "protected" : "protected no longer");
    return TRUE;
}

gboolean vr_cmd_protect(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GArray) named = NULL;

    return take(&session, cli, &named, error) && change(&session, named, TRUE, error);
}

/* What the model says is for the model to end. */
static gboolean none_by_model(const VrSession *session, const GArray *named, GError **error)
{
    for (guint i = 0; i < named->len; i++) {
        const VrInstance *instance = named_instance(session, named, i);

        if (!instance->model_protects)
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the model of set '%s' protects '%s'", session->set->name,
                    instance->domain);
        vr_error_now(error, "nothing was changed");
        vr_error_next(error, "take protectionPolicy.protectFromScaleSetActions out of it with '%s set-edit %s' first",
                      VR_PROGRAM, session->set->name);
        return FALSE;
    }
    return TRUE;
}

gboolean vr_cmd_unprotect(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GArray) named = NULL;

    return take(&session, cli, &named, error) && none_by_model(&session, named, error) &&
           change(&session, named, FALSE, error);
}
