/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * set-define: a model becomes a set, or takes the place of the set's model; what each change means is said first (K6). set-edit
 * does so with what an editor made of the model that is there.
 *
 * What then becomes of the instances is for upgradePolicy.mode to say (G8, G9): Manual leaves them as they are and says which
 * are behind; Rolling and Automatic apply the model to them in a run that begins at once (C11).
 */
#include "base/child.h"
#include "base/clock.h"
#include "base/confine.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/notices.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run.h"
#include "orchestrator/cli/run_view.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/cli/targets.h"
#include "orchestrator/model_change.h"
#include "orchestrator/os_content.h"
#include "orchestrator/window.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define NAMED_AT_MOST 10
#define MODEL_MAX (4 * 1024 * 1024) /* bytes; a set of 10,000 instances has about 1 MB */

typedef struct {
    const char *file; /* for messages */
    gboolean from_stdin;
    char *text;
    VrModel *model;
    GPtrArray *uuids;   /* char *, of the model's instances */
    VrModel *before;    /* the model that is there; NULL: none, or one that this program cannot read */
    GPtrArray *changes; /* VrModelChange *; NULL as above */
    char *edited;       /* the text that an editor began with; NULL: nobody edits */
} Definition;

static void definition_clear(Definition *definition)
{
    g_clear_pointer(&definition->changes, g_ptr_array_unref);
    g_clear_pointer(&definition->before, vr_model_free);
    g_clear_pointer(&definition->uuids, g_ptr_array_unref);
    g_clear_pointer(&definition->model, vr_model_free);
    g_clear_pointer(&definition->text, g_free);
    g_clear_pointer(&definition->edited, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Definition, definition_clear)

/* --- reading ----------------------------------------------------------------------------------------- */

/* NUL-terminated; an embedded NUL is no text. */
static char *read_model(const char *file, GError **error)
{
    gboolean from_stdin = g_str_equal(file, "-");
    vr_autofd fd = from_stdin ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    g_autoptr(GString) text = g_string_new(NULL);
    char block[65536];
    ssize_t got = fd < 0 ? -1 : 1;

    while (got > 0 && text->len <= MODEL_MAX) {
        got = read(fd, block, sizeof(block));
        if (got > 0)
            g_string_append_len(text, block, got);
        else if (got < 0 && errno == EINTR)
            got = 1;
    }
    if (got < 0)
        vr_set_error_errno(error, errno, "model '%s' cannot be read", file);
    else if (text->len > MODEL_MAX || strlen(text->str) != text->len)
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "model %s is %s",
                    g_str_equal(file, "-") ? "from standard input" : file,
                    text->len > MODEL_MAX ? "longer than 4 MiB" : "no text: it has a zero byte");
    else
        return g_strndup(text->str, text->len);
    return NULL;
}

/* Before anything is made or owned: a model with a wrong name in it changes nothing. */
static gboolean look_up(VrSession *session, Definition *definition, GError **error)
{
    char uuid[VR_UUID_LENGTH + 1];

    definition->uuids = g_ptr_array_new_with_free_func(g_free);
    if (!vr_session_connect(session, error))
        return FALSE;
    for (guint i = 0; i < definition->model->instances->len; i++) {
        const VrModelInstance *wanted = g_ptr_array_index(definition->model->instances, i);
        if (!vr_hv_lookup(session->hv, wanted->domain, uuid, error)) {
            g_prefix_error(error, "%s:%u: ", definition->file, wanted->line);
            return FALSE;
        }
        g_ptr_array_add(definition->uuids, g_strdup(uuid));
    }
    return TRUE;
}

/* --- what changes ------------------------------------------------------------------------------------ */

/* Any version of the image that a model names: its names are the same for all of them. NULL: the store has none. */
static VrImage *image_of(const VrSession *session, const VrModel *model)
{
    g_autofree char *name = model->image_name
                                ? g_strdup(model->image_name)
                                : vr_store_find_name(session->store, model->publisher, model->offer, model->sku, NULL);
    g_autoptr(GPtrArray) versions = name ? vr_store_list(session->store, name, NULL) : NULL;

    return versions && versions->len > 0 ? vr_image_copy(g_ptr_array_index(versions, 0)) : NULL;
}

static VrImageNames names_of(const VrImage *image)
{
    return image ? (VrImageNames){image->name, image->publisher, image->offer, image->sku} : (VrImageNames){0};
}

static gboolean has_generations(const VrSession *session, gboolean *has, GError **error)
{
    *has = FALSE;
    for (guint i = 0; !*has && i < session->set->instances->len; i++) {
        g_autoptr(GPtrArray) all =
            vr_journal_generations(session->journal, vr_set_instance(session->set, i)->uuid, error);
        if (!all)
            return FALSE;
        *has = all->len > 0;
    }
    return TRUE;
}

/* While a run is active nothing changes: it goes by the model that it began with. Active is one that somebody works on, or that waits
 * for its process to come back. */
static gboolean no_run_is_active(const VrSession *session, GError **error)
{
    const char *name = session->set->name;
    g_autofree char *holder = NULL;
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) open = vr_history_open(vr_store_db(session->store), name, &local);

    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else if (!session->owner && vr_session_is_owned(session, name, &holder)) {
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "set '%s' is owned now by %s", name, holder);
        vr_error_next(error, "its model can be changed when that has ended");
    } else if (open) {
        g_set_error(error, VR_ERROR, VR_ERROR_BUSY, "run %s of set '%s' is not at its end", open->id, name);
        vr_error_next(error, "its model can be changed when that has ended");
    } else {
        return TRUE;
    }
    return FALSE;
}

static gboolean compare(const VrSession *session, Definition *definition, GError **error)
{
    const VrSet *set = session->set;
    g_autoptr(VrImage) was = NULL, is = NULL;
    g_autofree const char **ids = g_new0(const char *, set->instances->len + 1);
    VrChangeContext context = {.before_ids = ids, .after_ids = (const char *const *)definition->uuids->pdata};

    definition->before = vr_model_parse(set->text, strlen(set->text), set->name, NULL);
    if (!definition->before)
        return TRUE;
    if (!has_generations(session, &context.swapped, error))
        return FALSE;
    context.running = !no_run_is_active(session, NULL);
    for (guint i = 0; i < set->instances->len; i++)
        ids[i] = vr_set_instance(set, i)->uuid;
    was = image_of(session, definition->before);
    is = image_of(session, definition->model);
    context.before = names_of(was);
    context.after = names_of(is);
    definition->changes = vr_model_compare(definition->before, definition->model, &context);
    return TRUE;
}

static json_t *change_json(const VrModelChange *change)
{
    static const char *const meanings[] = {"live", "atNextReimage", "refused"};
    gboolean live = change->meaning == VR_CHANGE_LIVE;

    return json_pack("{s:o, s:o, s:o, s:s, s:o}", "key", vr_json_text(change->key), "from", vr_json_text(change->from),
                     "to", vr_json_text(change->to), "meaning", meanings[change->meaning], "note",
                     live ? json_null() : vr_json_text(change->rule->note));
}

static json_t *changes_json(const Definition *definition)
{
    json_t *list = json_array();

    for (guint i = 0; definition->changes && i < definition->changes->len; i++)
        json_array_append_new(list, change_json(g_ptr_array_index(definition->changes, i)));
    return definition->before ? list : (json_decref(list), json_null());
}

static void show_changes(const VrCli *cli, const Definition *definition)
{
    static const char *const headings[] = {"KEY", "FROM", "TO", "MEANING", NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    if (cli->options.json || !definition->changes)
        return;
    for (guint i = 0; i < definition->changes->len; i++) {
        const VrModelChange *change = g_ptr_array_index(definition->changes, i);
        const char *const cells[] = {change->key, change->from, change->to, vr_change_class_name(change->meaning)};
        vr_table_row(table, cells);
    }
    vr_table_print(table);
    for (guint i = 0; i < definition->changes->len; i++) {
        const VrModelChange *change = g_ptr_array_index(definition->changes, i);
        if (change->meaning != VR_CHANGE_LIVE)
            vr_say_why(cli, change->key, change->rule->note);
    }
}

static gboolean none_refused(const Definition *definition, GError **error)
{
    for (guint i = 0; definition->changes && i < definition->changes->len; i++) {
        const VrModelChange *change = g_ptr_array_index(definition->changes, i);
        if (change->meaning != VR_CHANGE_REFUSED)
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "set '%s': %s cannot change from %s to %s",
                    definition->model->name, change->key, change->from ? change->from : "nothing",
                    change->to ? change->to : "nothing");
        vr_error_now(error, "nothing was changed");
        vr_error_next(error, "%s", change->rule->note);
        return FALSE;
    }
    return TRUE;
}

/* --- the answer -------------------------------------------------------------------------------------- */

static void warn_of_pins(const VrSession *session)
{
    g_autofree char *name = vr_set_image_name(session, NULL);

    for (guint i = 0; name && i < session->set->instances->len; i++) {
        const VrInstance *instance = vr_set_instance(session->set, i);
        g_autoptr(GError) local = NULL;
        g_autoptr(VrImage) image = instance->pin ? vr_store_get(session->store, name, instance->pin, &local) : NULL;
        if (local)
            vr_warn(session->cli, "instance '%s' is pinned to a version that is not there: %s", instance->domain,
                    local->message);
    }
}

static void warn_of_open_files(const VrSession *session, const VrModel *model)
{
    g_autoptr(GPtrArray) lines = vr_os_content_open_files(model);

    for (guint i = 0; i < lines->len; i++)
        vr_warn(session->cli, "%s", (const char *)g_ptr_array_index(lines, i));
}

static void warn_of_image(const VrSession *session)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrImage) image = vr_set_image(session, &local);

    if (!image)
        vr_warn(session->cli, "%s", local->message);
    warn_of_pins(session);
}

/* Element: const char *, the domains of the instances that are behind the model. */
static GPtrArray *behind_of(const VrTargets *targets, const VrSet *set)
{
    GPtrArray *names = g_ptr_array_new();

    for (guint i = 0; i < targets->count; i++)
        if (vr_set_is_behind(set, i, vr_targets_current(targets, i)))
            g_ptr_array_add(names, vr_set_instance(set, i)->domain);
    return names;
}

/* behind: NULL when it is not known, since nothing was defined. */
static void answer_json(const VrSession *session, const Definition *definition, const GPtrArray *behind)
{
    g_autoptr(json_t) names = behind ? json_array() : json_null();

    for (guint i = 0; behind && i < behind->len; i++)
        json_array_append_new(names, vr_json_text(g_ptr_array_index(behind, i)));
    vr_json_print_line(json_pack("{s:s, s:o, s:o, s:b, s:b, s:i, s:o, s:o, s:O}", "event", "define", "time",
                                 vr_json_time(vr_clock_wall_us()), "set", vr_json_text(definition->model->name),
                                 "defined", behind != NULL, "dryRun", session->cli->options.dry_run, "instanceCount",
                                 (int)definition->model->instances->len, "modelRevision",
                                 behind ? json_integer(session->set->revision) : json_null(), "changes",
                                 changes_json(definition), "behind", names));
}

static void say_defined(const VrSession *session, const Definition *definition, const char *what)
{
    guint count = definition->model->instances->len;

    vr_say(session->cli, "set %s: %s with %u instance%s%s", definition->model->name, what, count, count == 1 ? "" : "s",
           definition->changes && definition->changes->len == 0 ? "; nothing of it changes" : "");
}

/* "web-0, web-1 and 98 more". Free with g_free. */
static char *some_names(const GPtrArray *domains)
{
    GString *names = g_string_new(NULL);
    guint shown = MIN(domains->len, NAMED_AT_MOST);

    for (guint i = 0; i < shown; i++)
        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", (const char *)g_ptr_array_index(domains, i));
    if (domains->len > shown)
        g_string_append_printf(names, " and %u more", domains->len - shown);
    return g_string_free(names, FALSE);
}

static void say_behind(const VrSession *session, const GPtrArray *behind)
{
    g_autofree char *names = some_names(behind);

    if (behind->len > 0)
        vr_say(session->cli, "behind the model: %s; '%s apply %s --all' brings %s to it", names, VR_PROGRAM,
               session->set->name, behind->len == 1 ? "it" : "them");
}

/* D29: those of which nobody knows what they run, in a set that has come to a version. */
static void say_unknown(const VrSession *session, const VrTargets *targets)
{
    const VrSet *set = session->set;
    g_autoptr(GPtrArray) unknown = g_ptr_array_new();
    g_autofree char *names = NULL;

    for (guint i = 0; i < targets->count; i++) {
        const VrGeneration *current = vr_targets_current(targets, i);
        if (!current || !current->version)
            g_ptr_array_add(unknown, vr_set_instance(set, i)->domain);
    }
    names = some_names(unknown);
    if (unknown->len > 0 && set->current_version)
        vr_say(session->cli,
               "not known what is run by: %s; '%s reimage %s INSTANCE' gives %s %s, the current version of the set",
               names, VR_PROGRAM, set->name, unknown->len == 1 ? "it" : "them", set->current_version);
}

/* --- the command ------------------------------------------------------------------------------------- */

/* The set as it is, for a dry run: without a store, or without it there, it would be a new one. */
static gboolean load_for_dry_run(VrSession *session, const char *name, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (vr_session_open_read(session, session->cli, &local) && vr_session_read_any_set(session, name, &local))
        return TRUE;
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean is_allowed(const VrSession *session, const Definition *definition, GError **error)
{
    if (none_refused(definition, error) && (!session->set || no_run_is_active(session, error)))
        return TRUE;
    if (session->cli->options.json)
        answer_json(session, definition, NULL);
    return FALSE;
}

static gboolean applies(const VrCli *cli, const VrModel *model)
{
    return model->mode != VR_MODE_MANUAL && !cli->options.no_apply;
}

static gboolean dry_run(VrSession *session, Definition *definition, GError **error)
{
    const VrCli *cli = session->cli;
    const VrModel *model = definition->model;

    if (!load_for_dry_run(session, model->name, error) || (session->set && !compare(session, definition, error)))
        return FALSE;
    show_changes(cli, definition);
    if (!is_allowed(session, definition, error))
        return FALSE;
    if (cli->options.json)
        answer_json(session, definition, NULL);
    say_defined(session, definition, "would be defined");
    if (definition->before && vr_model_needs_revision(definition->before, model))
        vr_say(cli, "its instances would be behind the model; '%s apply %s --all' %s", VR_PROGRAM, model->name,
               applies(cli, model) ? "would begin at once" : "brings them to it then");
    return TRUE;
}

static gboolean write_model(VrSession *session, const Definition *definition, GError **error)
{
    const VrModel *model = definition->model;

    if (!vr_registry_define(session->journal, session->owner, session->hv, model, definition->text, definition->file,
                            error))
        return FALSE;
    g_clear_pointer(&session->set, vr_set_free);
    session->set = vr_registry_get(vr_store_db(session->store), model->name, error);
    return session->set != NULL;
}

/* Also what an earlier edit left behind: the set is brought to its model, whichever define it came with. */
static gboolean bring_to_model(VrSession *session, const Definition *definition, GError **error)
{
    g_auto(VrTargets) targets = {0};
    g_autoptr(GPtrArray) behind = NULL;

    if (!vr_targets_of_edit(&targets, session, error))
        return FALSE;
    behind = behind_of(&targets, session->set);
    if (session->cli->options.json)
        answer_json(session, definition, behind);
    say_defined(session, definition, "defined");
    vr_say_automatic(session);
    say_unknown(session, &targets);
    if (applies(session->cli, definition->model) && behind->len > 0)
        return vr_as_apply_request(session, &targets, vr_run_targets, error);
    say_behind(session, behind);
    return TRUE;
}

static gboolean is_text(const VrSession *session, const char *text, const char *digest)
{
    g_autofree char *own =
        session->set ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, session->set->text, -1) : NULL;

    return own && (!text || g_str_equal(session->set->text, text)) && (!digest || g_str_equal(own, digest));
}

/* What was edited is what is there: nobody has defined it anew meanwhile. */
static gboolean is_what_was_edited(const VrSession *session, const Definition *definition, GError **error)
{
    const char *digest = session->cli->options.replaces;

    if ((!definition->edited && !digest) || is_text(session, definition->edited, digest))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "set '%s' was %s while it was edited", definition->model->name,
                session->set ? "defined anew" : "undefined");
    return FALSE;
}

static gboolean define(VrSession *session, Definition *definition, GError **error)
{
    if (!vr_session_open_write(session, session->cli, error) ||
        !vr_session_own(session, definition->model->name, definition->text, error) ||
        !is_what_was_edited(session, definition, error) || (session->set && !compare(session, definition, error)))
        return FALSE;
    show_changes(session->cli, definition);
    if (!is_allowed(session, definition, error) || !write_model(session, definition, error))
        return FALSE;
    warn_of_image(session);
    warn_of_open_files(session, definition->model);
    return bring_to_model(session, definition, error);
}

/* What the model names of this host's files lies beside it; of one that lies nowhere, where its author stands. */
static gboolean name_files(Definition *definition, GError **error)
{
    gboolean is_file = !definition->edited && !definition->from_stdin;
    g_autofree char *beside = is_file ? g_path_get_dirname(definition->file) : g_strdup(".");
    g_autofree char *directory = g_canonicalize_filename(beside, NULL);
    g_autofree char *text = g_steal_pointer(&definition->text);

    definition->text = vr_model_text_absolute(text, strlen(text), definition->file, directory, error);
    return definition->text != NULL;
}

/* name: that the model must have; NULL: any. */
static gboolean define_text(const VrCli *cli, Definition *definition, const char *name, GError **error)
{
    g_auto(VrSession) session = {.cli = cli};

    if (!name_files(definition, error))
        return FALSE;
    definition->model = vr_model_parse(definition->text, strlen(definition->text), definition->file, error);
    if (!definition->model || !vr_window_check(&definition->model->window, definition->file, vr_clock_wall_us(), error))
        return FALSE;
    if (name && !g_str_equal(definition->model->name, name)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "set '%s' keeps its name: a model with the name '%s' is another set, for set-define", name,
                    definition->model->name);
        return FALSE;
    }
    if (!look_up(&session, definition, error))
        return FALSE;
    return cli->options.dry_run ? dry_run(&session, definition, error) : define(&session, definition, error);
}

gboolean vr_cmd_set_define(const VrCli *cli, GError **error)
{
    gboolean from_stdin = g_str_equal(cli->args[0], "-");
    g_auto(Definition) definition = {.file = from_stdin ? "standard input" : cli->args[0], .from_stdin = from_stdin};

    definition.text = read_model(cli->args[0], error);
    return definition.text && define_text(cli, &definition, NULL, error);
}

/* --- set-edit ---------------------------------------------------------------------------------------- */

/* The text in a file that only its owner reads. Free with g_free. */
static char *write_draft(const char *text, GError **error)
{
    g_autofree char *path = NULL;
    vr_autofd fd = g_file_open_tmp("virt-reimage-XXXXXX.yaml", &path, error);

    if (fd < 0)
        return NULL;
    if (vr_write_all(fd, text, strlen(text), path, error))
        return g_steal_pointer(&path);
    unlink(path);
    return NULL;
}

static gboolean run_editor(const char *path, GError **error)
{
    const char *visual = g_getenv("VISUAL"), *editor = visual && *visual ? visual : g_getenv("EDITOR");
    g_auto(GStrv) words = NULL;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *found = NULL;

    if (!g_shell_parse_argv(editor && *editor ? editor : "vi", NULL, &words, error)) {
        g_prefix_error(error, "VISUAL or EDITOR names no command: ");
        return FALSE;
    }
    found = g_find_program_in_path(words[0]);
    if (!found) {
        g_autofree char *shown = vr_printable(words[0], -1);
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "cannot run the editor %s: it is not installed", shown);
        vr_error_next(error, "set EDITOR to an editor that is installed, and give the command again");
        return FALSE;
    }
    for (char **word = words; *word; word++)
        g_ptr_array_add(argv, *word);
    g_ptr_array_add(argv, (char *)path);
    g_ptr_array_add(argv, NULL);
    return vr_child_attend((const char *const *)argv->pdata, error);
}

static char *read_set_text(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};

    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_any_set(&session, cli->args[0], error))
        return NULL;
    return g_strdup(session.set->text);
}

/* The draft stays where it does not become the model: it may be an hour's work. */
static gboolean edit(const VrCli *cli, Definition *definition, GError **error)
{
    if (!run_editor(definition->file, error))
        return FALSE;
    definition->text = read_model(definition->file, error);
    if (!definition->text)
        return FALSE;
    if (!g_str_equal(definition->text, definition->edited))
        return define_text(cli, definition, cli->args[0], error);
    if (cli->options.json)
        vr_json_print_nothing(cli->args[0], NULL, 0);
    vr_say(cli, "set %s: not edited", cli->args[0]);
    return TRUE;
}

/* A process that owns the set is kept from what is not the store's, and the draft is in /tmp. */
static void remove_draft(void *path)
{
    unlink(path);
}

gboolean vr_cmd_set_edit(const VrCli *cli, GError **error)
{
    g_auto(Definition) definition = {.edited = read_set_text(cli, error)};
    g_autofree char *path = definition.edited ? write_draft(definition.edited, error) : NULL;
    gboolean defined;

    if (!path)
        return FALSE;
    definition.file = path;
    defined = edit(cli, &definition, error);
    if (defined)
        vr_confine_outside(remove_draft, path);
    else
        vr_note(cli, "what was edited is in %s, for 'set-define'", path);
    return defined;
}
