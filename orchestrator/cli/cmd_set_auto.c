/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* set-auto (G6): whether a set is upgraded by itself, by a person's word, at any time. */
#include "base/error.h"
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/trigger_facts.h"

static gboolean read_word(const char *word, VrSetAuto *automatic, GError **error)
{
    static const struct {
        const char *word;
        VrSetAuto automatic;
    } words[] = {{"on", VR_SET_AUTO_ON}, {"off", VR_SET_AUTO_OFF}, {"model", VR_SET_AUTO_AS_MODEL}};

    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!g_str_equal(word, words[i].word))
            continue;
        *automatic = words[i].automatic;
        return TRUE;
    }
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "'%s' is neither on nor off, nor model", word);
    return FALSE;
}

/* E7 */
static gboolean may_be_on(const VrSet *set, GError **error)
{
    if (!vr_set_require_model(set, error))
        return FALSE;
    if (set->model->health.source != VR_HEALTH_SOURCE_POWER)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "set '%s' needs a healthProfile with an applicationHealth in its model first", set->name);
    vr_error_now(error, "an upgrade that nobody watches must see for itself whether the new version works");
    vr_error_next(error, "'%s set-edit %s'", VR_PROGRAM, set->name);
    return FALSE;
}

/* What begins from now on, and what goes on all the same. */
static gboolean say_what_follows(const VrSession *session, GError **error)
{
    const char *name = session->set->name;
    g_autoptr(VrSet) set = vr_registry_get_any(vr_store_db(session->store), name, error);
    g_autoptr(VrRun) open = NULL;
    g_autofree char *text = NULL;
    g_auto(VrTrigger) trigger = {0};
    const char *missing;

    if (!set || !vr_trigger_look(session->store, session->journal, set, &trigger, error))
        return FALSE;
    open = vr_history_open(vr_store_db(session->store), name, NULL);
    text = vr_trigger_text(&trigger);
    vr_say(session->cli, "by itself: %s", text);
    if (open && open->automatic && !vr_set_is_automatic(set))
        vr_note(session->cli, "run %s, which began by itself, goes on; '%s cancel %s' ends it", open->id, VR_PROGRAM,
                name);
    missing = vr_set_is_automatic(set) ? vr_daemon_missing(session->cli) : NULL;
    if (missing)
        vr_note(session->cli, "%s", missing);
    return TRUE;
}

gboolean vr_cmd_set_auto(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autofree char *text = NULL;
    VrSetAuto automatic;

    if (!read_word(cli->args[1], &automatic, error) || !vr_session_open(&session, cli, error) ||
        !vr_session_read_any_set(&session, cli->args[0], error) ||
        (automatic == VR_SET_AUTO_ON && !may_be_on(session.set, error)))
        return FALSE;
    text = automatic == VR_SET_AUTO_AS_MODEL ? g_strdup("as the model says") : g_strdup(cli->args[1]);
    if (cli->options.dry_run) {
        vr_say(cli, "set %s: automatic upgrades would be %s", session.set->name, text);
        return TRUE;
    }
    if (!vr_registry_set_auto(session.journal, session.set, automatic, cli->options.reason, g_get_user_name(), error))
        return FALSE;
    vr_session_touch(&session);
    vr_say(cli, "set %s: automatic upgrades are %s", session.set->name, text);
    return say_what_follows(&session, error);
}
