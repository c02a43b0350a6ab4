/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One call each, and what it gave as words that can be compared. */
#include "hv/both.h"

#include "fault/sweep_hv.h"
#include "hv/domain.h"
#include "hv/domain_refs.h"

void step_free(void *data)
{
    Step *step = data;

    g_free(step->step);
    g_free(step->said);
    g_free(step);
}

#define asked(side, step, call)                                                                                        \
    do {                                                                                                               \
        GError *error = NULL;                                                                                          \
        gboolean ok = (call);                                                                                          \
        say_answer(side, step, ok, error);                                                                             \
    } while (0)

void say(Side *side, const char *step, const char *said)
{
    Step *one = g_new0(Step, 1);

    one->step = g_strdup(step);
    one->said = g_strdup(said);
    g_ptr_array_add(side->steps, one);
}

static void say_answer(Side *side, const char *step, gboolean ok, GError *error)
{
    if (!ok)
        assert_true(error && error->domain == VR_ERROR);
    if (g_getenv("VR_BOTH_SHOW"))
        print_message("%-9s %-40s %s\n", side->ops->name, step, ok ? "done" : error->message);
    say(side, step, ok ? "done" : vr_error_name(error->code));
    g_clear_error(&error);
}

void define(Side *side, const char *step, const char *uuid, const char *xml)
{
    asked(side, step, vr_hv_define(side->hv, uuid, xml, &error));
}

void start(Side *side, const char *step, const char *uuid)
{
    asked(side, step, vr_hv_start(side->hv, uuid, &error));
}

void destroy(Side *side, const char *step, const char *uuid)
{
    asked(side, step, vr_hv_destroy(side->hv, uuid, &error));
}

void shutdown_by(Side *side, const char *step, const char *uuid, VrShutdownMode mode)
{
    asked(side, step, vr_hv_shutdown(side->hv, uuid, mode, &error));
}

static const char *id_word(Side *side, int guest, int id)
{
    int last = side->ids[guest];

    if (id < 0)
        return "none";
    side->ids[guest] = id;
    return id == last ? "the same" : "a new one";
}

void look(Side *side, const char *step, const char *uuid)
{
    static const char *const reasons[] = {"other",    "shut down", "destroyed", "crashed", "failed",
                                          "migrated", "saved",     "I/O error", "starting"};
    g_auto(VrDomainInfo) info = {0};
    GError *error = NULL;
    g_autofree char *said = NULL;
    g_autofree char *job = NULL;

    if (!vr_hv_info(side->hv, uuid, &info, &error) ||
        (info.state == VR_DOMAIN_RUNNING && !vr_hv_job(side->hv, uuid, &job, &error))) {
        say_answer(side, step, FALSE, error);
        return;
    }
    said = g_strdup_printf("%s '%s' %s, %s; id %s%s%s%s, %u snapshots, %u checkpoints, job %s", info.uuid, info.name,
                           vr_domain_state_name(info.state), reasons[info.reason],
                           id_word(side, info.uuid[VR_UUID_LENGTH - 1] - '0', info.id),
                           info.persistent ? ", persistent" : "", info.autostart ? ", autostart" : "",
                           info.managed_save ? ", saved" : "", info.snapshots, info.checkpoints, job ? job : "none");
    say(side, step, said);
}

static void say_xml(Side *side, const char *step, char *xml, GError *error)
{
    g_autofree char *text = xml ? both_text(xml, side->dir) : NULL;

    if (text)
        say(side, step, text);
    else
        say_answer(side, step, FALSE, error);
    g_free(xml);
}

void inactive(Side *side, const char *step, const char *uuid)
{
    GError *error = NULL;
    char *xml = vr_hv_inactive_xml(side->hv, uuid, &error);

    say_xml(side, step, xml, error);
}

void live(Side *side, const char *step, const char *uuid)
{
    GError *error = NULL;
    char *xml = vr_hv_live_xml(side->hv, uuid, &error);

    say_xml(side, step, xml, error);
}

void events(Side *side, const char *step, guint guest)
{
    g_autofree char *letters = side->ops->events(side, guest);

    say(side, step, letters);
}

static int compare_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void list(Side *side, const char *step)
{
    GError *error = NULL;
    g_autoptr(GPtrArray) uuids = vr_hv_list(side->hv, &error);
    g_autofree char *said = NULL;

    if (!uuids) {
        say_answer(side, step, FALSE, error);
        return;
    }
    g_ptr_array_sort(uuids, compare_text);
    g_ptr_array_add(uuids, NULL);
    said = g_strjoinv(" ", (char **)uuids->pdata);
    say(side, step, said);
}

void look_up(Side *side, const char *step, const char *name)
{
    char uuid[VR_UUID_LENGTH + 1] = "";

    asked(side, step, vr_hv_lookup(side->hv, name, uuid, &error));
    say(side, step, uuid);
}

/* How many there are, and which of the files in disks/ they refer to. */
void kept(Side *side, const char *step, const char *uuid)
{
    GError *error = NULL;
    g_autoptr(GPtrArray) xml = vr_hv_kept_xml(side->hv, uuid, &error);
    g_autoptr(GString) said = g_string_new(NULL);
    g_autofree char *disks = g_build_filename(side->dir, "disks", "", NULL);

    if (!xml) {
        say_answer(side, step, FALSE, error);
        return;
    }
    for (guint i = 0; i < xml->len; i++) {
        g_autoptr(VrDomainRefs) refs = vr_domain_refs_parse(xml->pdata[i], NULL);
        g_ptr_array_sort(refs->paths, compare_text);
        g_string_append(said, "one of");
        for (guint p = 0; p < refs->paths->len; p++)
            if (g_str_has_prefix(refs->paths->pdata[p], disks))
                g_string_append_printf(said, " %s", (char *)refs->paths->pdata[p] + strlen(disks));
        g_string_append(said, "; ");
    }
    say(side, step, said->str);
}

void agent(Side *side, const char *step, const char *uuid)
{
    g_autofree char *reply = NULL;

    asked(side, step, (reply = vr_hv_agent(side->hv, uuid, "{\"execute\":\"guest-ping\"}", 1, &error)) != NULL);
}

void leases(Side *side, const char *step, const char *uuid)
{
    GError *error = NULL;
    g_autoptr(GPtrArray) found = vr_hv_leases(side->hv, uuid, &error);
    g_autofree char *said = found ? g_strdup_printf("%u", found->len) : NULL;

    if (found)
        say(side, step, said);
    else
        say_answer(side, step, FALSE, error);
}

/* A file that is named is said; of one that the hypervisor names itself, that it does. */
void nvram(Side *side, const char *step, const char *uuid)
{
    GError *error = NULL;
    g_autofree char *path = vr_hv_nvram(side->hv, uuid, NULL, &error);

    if (!path)
        say_answer(side, step, FALSE, error);
    else
        say(side, step,
            g_str_has_prefix(path, side->dir) && strstr(path, "/disks/") ? path + strlen(side->dir) : "one of its own");
}

void volume(Side *side, const char *step, const char *pool, const char *volume)
{
    GError *error = NULL;
    g_autofree char *path = side->ops->volume_path(side, pool, volume, &error);

    if (path)
        say(side, step, g_str_has_prefix(path, side->dir) ? path + strlen(side->dir) : path);
    else
        say_answer(side, step, FALSE, error);
}

void lost(Side *side, const char *step)
{
    g_autofree char *said = g_strdup_printf("%u calls", vr_hv_lost_calls(side->hv));

    say(side, step, said);
}

void await(Side *side, const char *step, const char *uuid, VrDomainState state)
{
    asked(side, step, vr_domain_wait_state(side->hv, uuid, state, vr_clock_now_ms() + 20000, NULL, &error));
}

void await_disk(Side *side, const char *step, const char *uuid, const char *name)
{
    gint64 deadline = vr_clock_now_ms() + 20000;
    gboolean found = FALSE;

    while (!found && vr_clock_now_ms() < deadline) {
        g_autofree char *xml = vr_hv_inactive_xml(side->hv, uuid, NULL);
        found = xml && strstr(xml, name);
        g_usleep(found ? 0 : 50 * 1000);
    }
    say(side, step, found ? "in time" : "never");
}

void outside(Side *side, guint guest, Outside what)
{
    side->ops->outside(side, guest, what);
}
