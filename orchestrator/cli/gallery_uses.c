/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"
#include "disk/version.h"
#include "orchestrator/cli/gallery.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/history.h"

#include <string.h>

/* --- what sets need ---------------------------------------------------------------------------------- */

/* As it is spelled in the store; what is not there needs no pin. */
static void add_pin(const VrSession *session, VrInUse *in_use, const char *set_name, const char *name,
                    const char *version, const char *how)
{
    g_autofree char *who = g_strdup_printf("set %s", set_name);
    g_autoptr(VrImage) image = vr_store_get(session->store, name, version, NULL);

    vr_in_use_add(in_use, name, image ? image->version : version, who, how);
}

static void add_pins(const VrSession *session, VrInUse *in_use, const VrSet *set)
{
    const VrModel *model = set->model;
    g_autofree char *name = model->image_name
                                ? g_strdup(model->image_name)
                                : vr_store_find_name(session->store, model->publisher, model->offer, model->sku, NULL);

    if (name && g_ascii_strcasecmp(model->version, "latest") != 0)
        add_pin(session, in_use, set->name, name, model->version, "pinned by its model");
    for (guint i = 0; name && i < set->instances->len; i++) {
        const VrInstance *instance = vr_set_instance(set, i);
        g_autofree char *how = g_strdup_printf("its model pins %s", instance->domain);
        if (instance->pin)
            add_pin(session, in_use, set->name, name, instance->pin, how);
    }
}

static gboolean add_run(VrDb *db, VrInUse *in_use, const VrSet *set, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) run = vr_history_last(db, set->name, &local);
    g_autofree char *who = g_strdup_printf("set %s", set->name);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (run && run->image && run->version && run->status == VR_RUN_ROLLING_FORWARD) {
        g_autofree char *how = g_strdup_printf("run %s is not at its end", run->id);
        vr_in_use_add(in_use, run->image, run->version, who, how);
    }
    return TRUE;
}

/* A model that cannot be read may pin any version. */
static gboolean add_model(const VrSession *session, VrInUse *in_use, const VrSet *set, gboolean required,
                          GError **error)
{
    if (set->model) {
        add_pins(session, in_use, set);
        return TRUE;
    }
    if (required)
        return vr_set_require_model(set, error);
    vr_warn(session->cli, "what set '%s' pins is not counted: this program cannot read its model: %s", set->name,
            set->unreadable);
    return TRUE;
}

static gboolean add_sets(const VrSession *session, VrInUse *in_use, gboolean required, GError **error)
{
    VrDb *db = vr_store_db(session->store);
    g_autoptr(GPtrArray) names = vr_registry_list(db, error);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(VrSet) set = vr_registry_get_any(db, names->pdata[i], error);
        if (!set || !add_run(db, in_use, set, error) || !add_model(session, in_use, set, required, error))
            return FALSE;
    }
    return names != NULL;
}

VrInUse *vr_gallery_uses(VrSession *session, gboolean required, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrInUse) in_use = NULL;

    if (!vr_session_connect(session, &local)) {
        if (required) {
            g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                       "it cannot be told which domains use the image: ");
            return NULL;
        }
        vr_note(session->cli, "domains are not asked what they use: %s", local->message);
    }
    in_use = vr_in_use_read(session->store, session->hv, session->journal, error);
    return in_use && add_sets(session, in_use, required, error) ? g_steal_pointer(&in_use) : NULL;
}

gboolean vr_gallery_still_free(VrDb *db, const char *name, const char *version, void *data, GError **error)
{
    if (!vr_in_use_journaled(db, name, version, error))
        return FALSE;
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT set_name, id FROM runs WHERE status = ? AND image = ? AND version = ?", "iss",
                      (gint64)VR_RUN_ROLLING_FORWARD, name, version);
    int step = stmt ? vr_db_step(db, stmt, error) : -1;
    if (step <= 0)
        return step == 0;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s is in use by set %s (run %s is not at its end)", name,
                version, (const char *)sqlite3_column_text(stmt, 0), (const char *)sqlite3_column_text(stmt, 1));
    return FALSE;
}

/* --- versions ---------------------------------------------------------------------------------------- */

const VrVersionState *vr_gallery_find(const VrSession *session, const GPtrArray *states, const char *name,
                                      const char *version, GError **error)
{
    gboolean latest = !version || strcmp(version, "latest") == 0;

    if (!latest && !vr_version_check(version, error))
        return NULL;
    for (guint i = 0; i < states->len; i++) {
        const VrVersionState *state = states->pdata[i];
        if (latest ? !state->image->excluded : vr_version_compare(state->image->version, version) == 0)
            return state;
    }
    /* There is none, and its error lists those that there are. */
    g_autoptr(VrImage) image = vr_store_get(session->store, name, version, error);
    if (image) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s %s was published just now", name, image->version);
        vr_error_next(error, "ask again");
    }
    return NULL;
}
