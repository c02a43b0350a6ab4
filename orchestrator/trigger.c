/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/trigger.h"

#include "base/clock.h"
#include "disk/version.h"

#include <stdarg.h>

const char *vr_trigger_state_name(VrTriggerState state)
{
    static const char *const names[] = {[VR_TRIGGER_OFF] = "off",
                                        [VR_TRIGGER_NOTHING] = "nothing",
                                        [VR_TRIGGER_BLOCKED] = "blocked",
                                        [VR_TRIGGER_WAIT] = "wait",
                                        [VR_TRIGGER_DUE] = "due"};

    return names[state];
}

const char *vr_trigger_why_name(VrTriggerWhy why)
{
    static const char *const names[VR_TRIGGER_WHY_LAST_] = {[VR_TRIGGER_WHY_MODEL] = "model",
                                                            [VR_TRIGGER_WHY_HEALTH] = "health",
                                                            [VR_TRIGGER_WHY_IMAGE] = "image",
                                                            [VR_TRIGGER_WHY_PINNED] = "pinned",
                                                            [VR_TRIGGER_WHY_RUN] = "run",
                                                            [VR_TRIGGER_WHY_PERSON] = "person",
                                                            [VR_TRIGGER_WHY_UNKNOWN] = "unknownVersion",
                                                            [VR_TRIGGER_WHY_FAILED] = "failed",
                                                            [VR_TRIGGER_WHY_TAKEN_BACK] = "takenBack",
                                                            [VR_TRIGGER_WHY_ENDED] = "ended",
                                                            [VR_TRIGGER_WHY_WINDOW] = "window"};

    return names[why];
}

void vr_trigger_clear(VrTrigger *trigger)
{
    g_clear_pointer(&trigger->version, g_free);
    g_clear_pointer(&trigger->reason, g_free);
}

VrTriggerPlace vr_trigger_place(const VrInstance *instance, const VrGeneration *current, const char *image,
                                const char *version)
{
    gboolean known = current && current->version;
    gboolean same = known && g_strcmp0(current->image, image) == 0;
    int order = same ? vr_version_compare(current->version, version) : -1;

    if (instance->pin && vr_version_compare(instance->pin, version) != 0)
        return VR_TRIGGER_KEPT_OUT;
    if (same && order == 0)
        return VR_TRIGGER_THERE;
    if (instance->is_protected)
        return VR_TRIGGER_KEPT_OUT;
    if (!known)
        return VR_TRIGGER_NOT_KNOWN;
    if (!same)
        return VR_TRIGGER_ELSEWHERE;
    return order > 0 ? VR_TRIGGER_NEWER : VR_TRIGGER_MOVES;
}

/* ---- the decision ---- */

static gboolean decided(VrTrigger *trigger, VrTriggerState state, VrTriggerWhy why, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

static gboolean decided(VrTrigger *trigger, VrTriggerState state, VrTriggerWhy why, const char *format, ...)
{
    va_list arguments;

    trigger->state = state;
    trigger->why = why;
    va_start(arguments, format);
    trigger->reason = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    return TRUE;
}

#define BLOCKED(why, ...) decided(trigger, VR_TRIGGER_BLOCKED, VR_TRIGGER_WHY_##why, __VA_ARGS__)
#define NOTHING(...) decided(trigger, VR_TRIGGER_NOTHING, VR_TRIGGER_WHY_NONE, __VA_ARGS__)

/* Whether the set is one that is upgraded by itself. */
static gboolean decide_enabled(const VrTriggerFacts *facts, VrTrigger *trigger)
{
    if (facts->unreadable)
        return BLOCKED(MODEL, "this program cannot read the model of the set: %s", facts->unreadable);
    if (!facts->enabled && facts->word == VR_SET_AUTO_OFF)
        return decided(trigger, VR_TRIGGER_OFF, VR_TRIGGER_WHY_NONE, "switched off by 'set-auto %s off'", facts->set);
    if (!facts->enabled)
        return decided(trigger, VR_TRIGGER_OFF, VR_TRIGGER_WHY_NONE,
                       "the model does not ask for it (enableAutomaticOSUpgrade); 'set-auto %s on' switches it on",
                       facts->set);
    if (!facts->has_health)
        return BLOCKED(HEALTH, "it needs a healthProfile with an applicationHealth in the model: an upgrade that "
                               "nobody watches must see for itself whether the new version works");
    return FALSE;
}

/* "2 instances of which no version is known are left out" and the like; "" when there are none. Free with g_free. */
static char *left_out(const VrTriggerFacts *facts)
{
    static const struct {
        VrTriggerPlace place;
        const char *text;
    } rows[] = {{VR_TRIGGER_NOT_KNOWN, "of unknown version"},
                {VR_TRIGGER_NEWER, "on a newer version"},
                {VR_TRIGGER_ELSEWHERE, "on another image"},
                {VR_TRIGGER_KEPT_OUT, "pinned elsewhere or protected"}};
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        if (facts->places[rows[i].place] > 0)
            g_string_append_printf(text, "%s %u %s",
                                   text->len > 0 ? "," : "; left alone:", facts->places[rows[i].place], rows[i].text);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* Whether there is a version, and an instance to go to it. */
static gboolean decide_version(const VrTriggerFacts *facts, VrTrigger *trigger)
{
    g_autofree char *others = left_out(facts);

    if (facts->image_error)
        return BLOCKED(IMAGE, "%s", facts->image_error);
    if (!facts->version)
        return NOTHING("no version that runs may go to is published yet");
    if (facts->places[VR_TRIGGER_MOVES] > 0) {
        trigger->version = g_strdup(facts->version);
        return FALSE;
    }
    if (facts->places[VR_TRIGGER_THERE] == 0 && facts->places[VR_TRIGGER_NOT_KNOWN] > 0)
        return BLOCKED(UNKNOWN,
                       "nobody knows which version %u of its instances run; 'virt-reimage adopt %s INSTANCE --version "
                       "V' says it, 'virt-reimage upgrade %s' moves them",
                       facts->places[VR_TRIGGER_NOT_KNOWN], facts->set, facts->set);
    return NOTHING("%u of its instances run %s, and nobody is to be moved to it%s", facts->places[VR_TRIGGER_THERE],
                   facts->version, others);
}

/* However it ended: an endless row of runs that nobody asked for is worse than one that is late. */
static gboolean decide_ended(const VrTriggerFacts *facts, VrTrigger *trigger)
{
    g_autofree char *when = vr_clock_format(facts->tried_us);

    if (facts->ended_run)
        return BLOCKED(ENDED,
                       "run %s to %s, which %s, has ended as %s; 'virt-reimage upgrade %s' moves what is left, "
                       "'virt-reimage set-auto %s on' lets it begin by itself again",
                       facts->ended_run, facts->version, facts->ended_automatic ? "began by itself" : "a person began",
                       vr_run_status_name(facts->ended_status), facts->set, facts->set);
    if (facts->tried && facts->tried_text)
        return BLOCKED(ENDED,
                       "it was to begin at %s, and was refused: %s; 'virt-reimage set-auto %s on' lets it begin again",
                       when, facts->tried_text, facts->set);
    if (facts->tried)
        return BLOCKED(ENDED,
                       "it was begun at %s, and there is no run of it; 'virt-reimage set-auto %s on' lets it begin "
                       "again",
                       when, facts->set);
    return FALSE;
}

/* What a person has to settle first. */
static gboolean decide_past(const VrTriggerFacts *facts, VrTrigger *trigger)
{
    if (facts->open_run)
        return BLOCKED(RUN, "run %s, which %s, is open%s%s", facts->open_run,
                       facts->open_run_automatic ? "began by itself" : "a person began",
                       facts->open_run_hold ? ": " : "", facts->open_run_hold ? facts->open_run_hold : "");
    if (facts->unknown_domain)
        return BLOCKED(PERSON, "'%s' is UNKNOWN, and a person must look: 'virt-reimage recover %s' says at what",
                       facts->unknown_domain, facts->set);
    if (facts->pin)
        return BLOCKED(PINNED,
                       "the model asks for version %s; by itself a set goes to 'latest' only. 'virt-reimage "
                       "upgrade %s' moves it",
                       facts->pin, facts->set);
    if (facts->failed_run)
        return BLOCKED(FAILED,
                       "%s failed in run %s (%s); it begins again with a newer version, or after 'virt-reimage retry "
                       "%s' came good",
                       facts->version, facts->failed_run, facts->failed_code, facts->set);
    if (facts->taken_back_run)
        return BLOCKED(TAKEN_BACK,
                       "a person went back from %s in run %s; 'virt-reimage set-auto %s on' lets it begin again",
                       facts->version, facts->taken_back_run, facts->set);
    return decide_ended(facts, trigger);
}

static void decide_time(const VrTriggerFacts *facts, VrTrigger *trigger)
{
    g_autofree char *others = left_out(facts);

    if (facts->window_error) {
        BLOCKED(WINDOW, "its maintenance window: %s", facts->window_error);
    } else if (!facts->window_closed && facts->settles_us > 0) {
        trigger->at_us = facts->settles_us;
        decided(trigger, VR_TRIGGER_WAIT, VR_TRIGGER_WHY_NONE,
                "this host has just booted, and its guests may still be starting (healthTimeout); then %u of its "
                "instances are moved to %s%s",
                facts->places[VR_TRIGGER_MOVES], facts->version, others);
    } else if (!facts->window_closed) {
        decided(trigger, VR_TRIGGER_DUE, VR_TRIGGER_WHY_NONE, "%u of its instances are moved to %s%s",
                facts->places[VR_TRIGGER_MOVES], facts->version, others);
    } else if (facts->window_next_us == 0) {
        BLOCKED(WINDOW, "its maintenance window does not open again");
    } else {
        trigger->at_us = facts->window_next_us;
        decided(trigger, VR_TRIGGER_WAIT, VR_TRIGGER_WHY_NONE,
                "%u of its instances are moved to %s when the maintenance window opens%s",
                facts->places[VR_TRIGGER_MOVES], facts->version, others);
    }
}

void vr_trigger_decide(const VrTriggerFacts *facts, VrTrigger *trigger)
{
    *trigger = (VrTrigger){0};
    if (!decide_enabled(facts, trigger) && !decide_version(facts, trigger) && !decide_past(facts, trigger))
        decide_time(facts, trigger);
}
