/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* release (B21): an instance leaves its set, and goes on with an OS disk that stands alone and is not ours any more. */
#include "base/error.h"
#include "engine/release.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/model_without.h"

#include <unistd.h>

typedef struct {
    VrSession *session;
    const VrInstance *instance; /* of session->set */
    char *text;                 /* of the model without it; NULL: it is the only one */
    VrReleaseRequest request;
    VrReleasePlan plan;
    guint shown; /* percent of a pull */
} Release;

static void release_clear(Release *release)
{
    g_free(release->text);
    vr_release_plan_clear(&release->plan);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Release, release_clear)

/* --- what is shown ----------------------------------------------------------------------------------- */

static void show_pull(const VrBlockJob *job, void *data)
{
    Release *release = data;
    guint percent = job->total > 0 ? (guint)(job->done * 100 / job->total) : 0;

    if (percent < release->shown + 10 || !isatty(STDERR_FILENO))
        return;
    release->shown = percent;
    vr_tell(release->session->cli, "%s: %u %% of its disk", release->plan.domain, percent);
}

static const char *way_name(VrReleaseWay way)
{
    static const char *const names[] = {"asIs", "blockPull", "newFile"};

    return names[way];
}

/* What of the disk is to be done, after "it goes on with ". Free with g_free. */
static char *way_text(const Release *release)
{
    const VrReleasePlan *plan = &release->plan;
    g_autofree char *size = vr_text_size(plan->bytes);

    if (plan->way == VR_RELEASE_AS_IS)
        return g_strdup_printf("%s, which needs no other file of the store", plan->path);
    if (plan->way == VR_RELEASE_PULL)
        return g_strdup_printf("%s while it runs: QEMU takes %s into it, %s at most", plan->path, plan->below, size);
    return g_strdup_printf("a new file in %s/disks/%s, %s at most", vr_store_root(release->session->store),
                           release->instance->uuid, size);
}

static gboolean has_files(const VrGeneration *generation)
{
    return generation->ours && generation->state != VR_GENERATION_DISCARDED &&
           generation->state != VR_GENERATION_DELETED;
}

/* Disks of our making that it leaves behind; not the one that it goes on with. Element: const VrGeneration *. */
static GPtrArray *left_of(const GPtrArray *all, const char *path)
{
    GPtrArray *left = g_ptr_array_new();

    for (guint i = 0; i < all->len; i++) {
        VrGeneration *generation = g_ptr_array_index(all, i);
        if (has_files(generation) && !g_str_equal(generation->path, path))
            g_ptr_array_add(left, generation);
    }
    return left;
}

static json_t *left_json(const GPtrArray *left)
{
    json_t *list = json_array();

    for (guint i = 0; i < left->len; i++)
        json_array_append_new(list, vr_json_text(((const VrGeneration *)left->pdata[i])->path));
    return list;
}

static void say_left(const Release *release, const GPtrArray *left)
{
    const VrCli *cli = release->session->cli;

    for (guint i = 0; i < left->len; i++)
        vr_say(cli, "%s: %s stays, generation %u; '%s gc --left' deletes it", release->instance->domain,
               ((const VrGeneration *)left->pdata[i])->path, ((const VrGeneration *)left->pdata[i])->number,
               VR_PROGRAM);
}

/* disk NULL: nothing was done, and the path of a new file is not known. */
static gboolean answer(const Release *release, const VrGeneration *disk, GError **error)
{
    const VrSession *session = release->session;
    const VrReleasePlan *plan = &release->plan;
    g_autoptr(GPtrArray) all = vr_journal_generations(session->journal, release->instance->uuid, error);
    g_autoptr(GPtrArray) left = NULL;
    const char *path = disk ? disk->path : plan->way == VR_RELEASE_FLATTEN ? NULL : plan->path;

    if (!all)
        return FALSE;
    left = left_of(all, path ? path : "");
    if (session->cli->options.json)
        vr_json_print(json_pack(
            "{s:o, s:o, s:s, s:b, s:s, s:o, s:o, s:o, s:b}", "set", vr_json_text(session->set->name), "domain",
            vr_json_text(release->instance->domain), "uuid", release->instance->uuid, "dryRun",
            session->cli->options.dry_run, "way", way_name(plan->way), "path", vr_json_text(path), "format",
            vr_json_text(disk ? disk->format : NULL), "left", left_json(left), "setForgotten", release->text == NULL));
    say_left(release, left);
    if (!release->text)
        vr_say(session->cli, "set %s: it was the only instance, so the set %s forgotten", session->set->name,
               session->cli->options.dry_run ? "would be" : "is");
    return TRUE;
}

/* --- the command ------------------------------------------------------------------------------------- */

/* Nothing is changed if the model cannot do without it. */
static gboolean write_text(Release *release, guint index, GError **error)
{
    const VrSet *set = release->session->set;

    if (set->instances->len == 1)
        return TRUE;
    release->text = vr_model_text_without(set->text, index, error);
    if (!release->text)
        g_prefix_error(error, "'%s' is not released: set '%s': ", release->instance->domain, set->name);
    return release->text != NULL;
}

static gboolean leave(VrDb *db, void *data, GError **error)
{
    const Release *release = data;

    return vr_registry_leave(db, release->session->set, release->instance, release->text, error);
}

static gboolean act(Release *release, const VrEngine *engine, GError **error)
{
    g_autoptr(VrGeneration) disk = NULL;

    if (!vr_release_alone(engine, &release->request, &release->plan, error) ||
        !vr_release_end(engine, &release->request, leave, release, &disk, error)) {
        g_prefix_error(error, "'%s' is not released yet, and in set '%s' as before: ", release->instance->domain,
                       release->session->set->name);
        return FALSE;
    }
    vr_say(release->session->cli, "%s is released: it goes on with %s, which is its own, and is in set %s no longer",
           release->instance->domain, disk->path, release->session->set->name);
    return answer(release, disk, error);
}

static gboolean look(Release *release, const VrEngine *engine, GError **error)
{
    g_autofree char *text = NULL;

    if (!vr_release_look(engine, &release->request, &release->plan, error)) {
        g_prefix_error(error, "'%s' is not released: ", release->instance->domain);
        return FALSE;
    }
    text = way_text(release);
    if (release->session->cli->options.dry_run)
        vr_say(release->session->cli, "%s would be released: it would go on with %s", release->instance->domain, text);
    else if (release->plan.way != VR_RELEASE_AS_IS)
        vr_tell(release->session->cli, "%s: goes on with %s", release->instance->domain, text);
    return TRUE;
}

gboolean vr_cmd_release(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_auto(Release) release = {.session = &session};
    VrEngine engine;
    int index;

    if (!vr_session_open(&session, cli, error) || !vr_session_take_set(&session, cli->args[0], error))
        return FALSE;
    index = vr_session_find(&session, cli->args[1], error);
    if (index < 0)
        return FALSE;
    release.instance = vr_set_instance(session.set, (guint)index);
    release.request = (VrReleaseRequest){.uuid = release.instance->uuid,
                                         .os_target = session.set->model->os_target,
                                         .ignored = (const char *const *)cli->options.ignore,
                                         .progress = show_pull,
                                         .data = &release};
    engine = (VrEngine){.store = session.store, .hv = session.hv, .journal = session.journal, .owner = session.owner};
    if (!write_text(&release, (guint)index, error) || !look(&release, &engine, error))
        return FALSE;
    return cli->options.dry_run ? answer(&release, NULL, error) : act(&release, &engine, error);
}
