/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the words of a synopsis stand for in the store that the command line names. What cannot be read has no names. */
#include "disk/version.h"
#include "hv/preflight.h"
#include "orchestrator/cli/complete.h"
#include "orchestrator/cli/targets.h"
#include "orchestrator/history.h"

#define RUNS 20 /* that are offered: the newest */

static const char *argument(const VrCompletion *completion, guint index)
{
    return index < completion->arguments->len ? completion->arguments->pdata[index] : NULL;
}

/* The first argument, where it is a set. */
static gboolean read_set(const VrCompletion *completion, VrSession *session)
{
    const char *name = argument(completion, 0);

    if (!completion->command || !g_str_has_prefix(completion->command->synopsis, "SET") || !name)
        return FALSE;
    session->set = vr_registry_get_any(vr_store_db(session->store), name, NULL);
    return session->set != NULL;
}

/* --- values ------------------------------------------------------------------------------------------ */

static void add_sets(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    g_autoptr(GPtrArray) names = vr_registry_list(vr_store_db(session->store), NULL);

    for (guint i = 0; names && i < names->len; i++)
        g_ptr_array_add(found, g_strdup(names->pdata[i]));
}

/* Those that were named already are not named twice. */
static void add_instances(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    if (!read_set(completion, session))
        return;
    for (guint i = 0; i < session->set->instances->len; i++) {
        const char *domain = vr_set_instance(session->set, i)->domain;
        if (!g_ptr_array_find_with_equal_func(completion->arguments, domain, g_str_equal, NULL))
            g_ptr_array_add(found, g_strdup(domain));
    }
}

static void add_images(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    g_autoptr(GPtrArray) names = vr_store_children(session->store, "images", NULL);

    for (guint i = 0; names && i < names->len; i++)
        if (vr_name_check(names->pdata[i], "image", NULL))
            g_ptr_array_add(found, g_strdup(names->pdata[i]));
}

static void add_versions_of(VrSession *session, const char *image, GPtrArray *found)
{
    g_autofree char *relpath = g_build_filename("images", image, NULL);
    g_autoptr(GPtrArray) versions =
        vr_name_check(image, "image", NULL) ? vr_store_children(session->store, relpath, NULL) : NULL;

    for (guint i = 0; versions && i < versions->len; i++)
        if (vr_version_check(versions->pdata[i], NULL))
            g_ptr_array_add(found, g_strdup(versions->pdata[i]));
}

/* Of the image that was named, or of the one of the set's model. */
static void add_versions(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    g_autofree char *of_set =
        read_set(completion, session) && session->set->model ? vr_set_image_name(session, NULL) : NULL;
    const char *image = session->set ? of_set : argument(completion, 0);

    if (image)
        add_versions_of(session, image, found);
}

static void add_runs(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    g_autoptr(GPtrArray) runs = argument(completion, 0)
                                    ? vr_history_list(vr_store_db(session->store), argument(completion, 0), RUNS, NULL)
                                    : NULL;

    for (guint i = 0; runs && i < runs->len; i++)
        g_ptr_array_add(found, g_strdup(((const VrRun *)runs->pdata[i])->id));
}

static void add_domains(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    if (!read_set(completion, session))
        return;
    for (guint i = 0; i < session->set->instances->len; i++)
        g_ptr_array_add(found, g_strdup_printf("%u", vr_set_instance(session->set, i)->upgrade_domain));
}

static void add_roles(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    if (!read_set(completion, session))
        return;
    for (guint i = 0; i < session->set->instances->len; i++)
        if (vr_set_instance(session->set, i)->role.name)
            g_ptr_array_add(found, g_strdup(vr_set_instance(session->set, i)->role.name));
}

/* For --to-generation: those that are kept, of the instance that was named. */
static void add_generations(VrSession *session, const VrCompletion *completion, GPtrArray *found)
{
    int index = argument(completion, 1) && read_set(completion, session)
                    ? vr_set_find(session->set, argument(completion, 1), NULL)
                    : -1;
    g_autoptr(GPtrArray) all =
        index >= 0 ? vr_journal_generations(session->journal, vr_set_instance(session->set, (guint)index)->uuid, NULL)
                   : NULL;

    for (guint i = 0; all && i < all->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(all, i);
        if (generation->state == VR_GENERATION_KEPT)
            g_ptr_array_add(found, g_strdup_printf("%u", generation->number));
    }
}

static void add_findings(GPtrArray *found)
{
    for (const VrFindingKind *kind = vr_finding_kinds; kind->id; kind++)
        if (kind->severity == VR_SEVERITY_BLOCKER && kind->ignorable)
            g_ptr_array_add(found, g_strdup(kind->id));
}

/* --- the table --------------------------------------------------------------------------------------- */

static const struct {
    const char *kind;
    const char *words[3];
} fixed[] = {
    {"FILE", {VR_COMPLETE_FILE}},
    {"DIR", {VR_COMPLETE_DIRECTORY}},
    {"URI", {"qemu:///system", "qemu:///session"}},
    {"F", {"qcow2", "raw"}},
    {"V", {"latest"}},
};

static const struct {
    const char *kind;
    void (*add)(VrSession *session, const VrCompletion *completion, GPtrArray *found);
} stored[] = {
    {"SET", add_sets},      {"INSTANCE", add_instances},
    {"NAME", add_images},   {"VERSION", add_versions},
    {"V", add_versions},    {"ID", add_runs},
    {"UD", add_domains},    {"R", add_roles},
    {"N", add_generations},
};

void vr_complete_values(const VrCompletion *completion, const char *kind, GPtrArray *found)
{
    g_auto(VrSession) session = {0};

    for (guint i = 0; i < G_N_ELEMENTS(fixed); i++)
        for (guint j = 0; g_str_equal(kind, fixed[i].kind) && fixed[i].words[j]; j++)
            g_ptr_array_add(found, g_strdup(fixed[i].words[j]));
    if (g_str_equal(kind, "FINDING"))
        add_findings(found);
    for (guint i = 0; i < G_N_ELEMENTS(stored); i++)
        if (g_str_equal(kind, stored[i].kind) && vr_session_open_read(&session, completion->cli, NULL))
            stored[i].add(&session, completion, found);
}
