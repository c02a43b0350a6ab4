/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* triggers: what begins by itself, when, and why not (H1, H2). Also what status, set-info and set-define show of it. */
#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/job.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/remote_socket.h"
#include "orchestrator/config.h"
#include "orchestrator/trigger_facts.h"

#define LOOK_MS 1000 /* for the daemon to answer */
#define NOTHING_BEGINS "automatic upgrades are on, but nothing begins by itself: virt-reimaged "
#define NEEDS_NONE "'virt-reimage upgrade' needs none"

const char *vr_daemon_missing(const VrCli *cli)
{
    if (vr_job_is())
        return NULL;
    switch (vr_remote_socket_look(cli, vr_clock_now_ms() + LOOK_MS)) {
    case VR_REMOTE_SOCKET_NONE:
        return NOTHING_BEGINS "does not run on this host ('systemctl enable --now virt-reimaged' starts it; " NEEDS_NONE
                              ")";
    case VR_REMOTE_SOCKET_OTHER:
        return NOTHING_BEGINS "serves another store or another libvirt on this host ([host] in " VR_CONFIG_DEFAULT_PATH
                              " names them; " NEEDS_NONE ")";
    case VR_REMOTE_SOCKET_SILENT:
        return NOTHING_BEGINS "does not answer ('systemctl status virt-reimaged' shows it; " NEEDS_NONE ")";
    default:
        return NULL;
    }
}

char *vr_automatic_text(const VrSet *set)
{
    const char *state = vr_set_is_automatic(set) ? "on" : "off";
    g_autofree char *since = vr_text_time(set->automatic_us);

    if (set->automatic == VR_SET_AUTO_AS_MODEL)
        return g_strdup_printf("%s, as the model says", state);
    return g_strdup_printf("%s, by 'set-auto' since %s%s%s", state, since, set->automatic_reason ? ": " : "",
                           set->automatic_reason ? set->automatic_reason : "");
}

char *vr_trigger_text(const VrTrigger *trigger)
{
    g_autofree char *at = vr_text_time(trigger->at_us);

    if (trigger->state == VR_TRIGGER_WAIT)
        return g_strdup_printf("wait until %s: %s", at, trigger->reason);
    return g_strdup_printf("%s: %s", vr_trigger_state_name(trigger->state), trigger->reason);
}

json_t *vr_trigger_json(const char *set, const VrTrigger *trigger)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}", "set", vr_json_text(set), "state",
                     vr_trigger_state_name(trigger->state), "version", vr_json_text(trigger->version), "at",
                     vr_json_time(trigger->at_us), "reason", vr_json_text(trigger->reason), "blockedBy",
                     vr_json_text(vr_trigger_why_name(trigger->why)));
}

void vr_say_automatic(const VrSession *session)
{
    g_auto(VrTrigger) trigger = {0};
    g_autofree char *text = NULL;
    const char *missing;

    if (!vr_set_is_automatic(session->set) ||
        !vr_trigger_look(session->store, session->journal, session->set, &trigger, NULL))
        return;
    text = vr_trigger_text(&trigger);
    vr_say(session->cli, "by itself: %s", text);
    missing = vr_daemon_missing(session->cli);
    if (missing)
        vr_note(session->cli, "%s", missing);
}

/* --- the command ------------------------------------------------------------------------------------- */

static gboolean list_one(const VrSession *session, const char *name, VrTable *table, json_t *list, GError **error)
{
    g_autoptr(VrSet) set = vr_registry_get_any(vr_store_db(session->store), name, error);
    g_auto(VrTrigger) trigger = {0};
    g_autofree char *at = NULL;

    if (!set || !vr_trigger_look(session->store, session->journal, set, &trigger, error))
        return FALSE;
    at = trigger.at_us != 0 ? vr_text_time(trigger.at_us) : NULL;
    const char *const cells[] = {set->name, vr_trigger_state_name(trigger.state), trigger.version, at, trigger.reason};
    vr_table_row(table, cells);
    json_array_append_new(list, vr_trigger_json(set->name, &trigger));
    return TRUE;
}

static gboolean list_all(const VrSession *session, VrTable *table, json_t *list, GError **error)
{
    g_autoptr(GPtrArray) names = vr_registry_list(vr_store_db(session->store), error);

    for (guint i = 0; names && i < names->len; i++) {
        g_autoptr(GError) local = NULL;
        if (list_one(session, g_ptr_array_index(names, i), table, list, &local))
            continue;
        if (!g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) { /* undefined meanwhile */
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    return names != NULL;
}

gboolean vr_cmd_triggers(const VrCli *cli, GError **error)
{
    static const char *const headings[] = {"SET", "STATE", "VERSION", "AT", "WHY", NULL};
    g_auto(VrSession) session = {0};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);
    g_autoptr(json_t) list = json_array();

    if (!vr_session_open_read(&session, cli, error) ||
        !(cli->n_args > 0 ? list_one(&session, cli->args[0], table, list, error)
                          : list_all(&session, table, list, error)))
        return FALSE;
    if (cli->options.json)
        vr_json_print(json_pack("{s:O, s:b}", "triggers", list, "daemonRuns", vr_daemon_missing(cli) == NULL));
    else
        vr_table_print(table);
    if (json_array_size(list) == 0)
        vr_tell(cli, "no set is defined yet; '%s set-define --help' says how", VR_PROGRAM);
    return TRUE;
}
