/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/trigger_facts.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/run_state.h"
#include "orchestrator/version_past.h"
#include "orchestrator/window.h"

/* The facts, and what their strings point to. */
typedef struct {
    VrTriggerFacts facts;
    VrStore *store;
    VrJournal *journal;
    const VrSet *set;
    VrImage *image;
    char *image_error, *unknown_domain, *window_error;
    VrRun *open;
    VrRunState open_state;
    VrVersionPast past;
} Look;

static void look_clear(Look *look)
{
    g_clear_pointer(&look->image, vr_image_free);
    g_clear_pointer(&look->image_error, g_free);
    g_clear_pointer(&look->unknown_domain, g_free);
    g_clear_pointer(&look->window_error, g_free);
    g_clear_pointer(&look->open, vr_run_free);
    vr_run_state_clear(&look->open_state);
    vr_version_past_clear(&look->past);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Look, look_clear)

static VrImage *newest(const Look *look, GError **error)
{
    const VrModel *model = look->set->model;
    g_autofree char *name = model->image_name
                                ? g_strdup(model->image_name)
                                : vr_store_find_name(look->store, model->publisher, model->offer, model->sku, error);

    return name ? vr_store_get(look->store, name, model->version, error) : NULL;
}

/* An image that cannot be read is a reason for this set, and none to say nothing of the others. */
static void read_image(Look *look)
{
    g_autoptr(GError) local = NULL;

    look->image = newest(look, &local);
    if (local && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        look->image_error = g_strdup(local->message);
    if (look->image && look->image->excluded) /* a pin: latest never is */
        g_clear_pointer(&look->image, vr_image_free);
    look->facts.image_error = look->image_error;
    look->facts.image = look->image ? look->image->name : NULL;
    look->facts.version = look->image ? look->image->version : NULL;
    look->facts.pin = g_str_equal(look->set->model->version, "latest") ? NULL : look->set->model->version;
}

static gboolean read_places(Look *look, GError **error)
{
    for (guint i = 0; look->image && i < look->set->instances->len; i++) {
        const VrInstance *instance = g_ptr_array_index(look->set->instances, i);
        g_autoptr(GError) local = NULL;
        g_autoptr(VrGeneration) current = vr_journal_current(look->journal, instance->uuid, &local);
        if (local) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        look->facts.places[vr_trigger_place(instance, current, look->image->name, look->image->version)]++;
    }
    return TRUE;
}

static gboolean read_open(Look *look, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) swaps = vr_journal_open_swaps(look->journal, look->set->name, error);

    if (!swaps)
        return FALSE;
    for (guint i = 0; i < swaps->len && !look->unknown_domain; i++) {
        const VrSwapRow *swap = g_ptr_array_index(swaps, i);
        if (swap->state == VR_SWAP_UNKNOWN)
            look->unknown_domain = g_strdup(swap->domain);
    }
    look->facts.unknown_domain = look->unknown_domain;
    look->open = vr_history_open(vr_store_db(look->store), look->set->name, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    look->facts.open_run = look->open ? look->open->id : NULL;
    look->facts.open_run_automatic = look->open && look->open->automatic;
    if (look->open && look->open->state && vr_run_state_read(&look->open_state, look->open->state, NULL))
        look->facts.open_run_hold = look->open_state.hold_text;
    return TRUE;
}

static gboolean read_past(Look *look, GError **error)
{
    const VrImage *image = look->image;
    VrTriggerFacts *facts = &look->facts;

    if (!image)
        return TRUE;
    if (!vr_version_past_read(look->journal, look->set, image->name, image->version, &look->past, error))
        return FALSE;
    facts->failed_run = look->past.failed_run;
    facts->failed_code = look->past.failed_code;
    facts->taken_back_run = look->past.taken_back_run;
    facts->ended_run = look->past.ended_run;
    facts->ended_automatic = look->past.ended_automatic;
    facts->ended_status = look->past.ended_status;
    facts->tried =
        g_strcmp0(look->set->tried_image, image->name) == 0 && g_strcmp0(look->set->tried_version, image->version) == 0;
    facts->tried_us = look->set->tried_us;
    facts->tried_text = look->set->tried_text;
    return TRUE;
}

/* H4: whether it is open now. Nobody knowing that is a reason for this set, as with its image. */
static void read_window(Look *look)
{
    g_autoptr(GError) local = NULL;
    VrWindowView view = {0};

    if (!vr_window_look(&look->set->model->window, vr_clock_wall_us(), &view, &local)) {
        look->window_error = g_strdup(local->message);
        look->facts.window_error = look->window_error;
        return;
    }
    look->facts.window_closed = !view.open;
    look->facts.window_next_us = view.next_us;
}

/* Guests that are still starting would be ill at the first border, and the version would have had its one try. */
static void read_boot(Look *look)
{
    gint64 left_ms = look->set->model->health.timeout_ms - vr_clock_now_ms(); /* of the clock that begins at the boot */

    look->facts.settles_us = left_ms > 0 ? vr_clock_wall_us() + left_ms * 1000 : 0;
}

gboolean vr_trigger_look(VrStore *store, VrJournal *journal, const VrSet *set, VrTrigger *trigger, GError **error)
{
    g_auto(Look) look = {.store = store, .journal = journal, .set = set};

    look.facts.set = set->name;
    look.facts.unreadable = set->unreadable;
    look.facts.word = set->automatic;
    look.facts.enabled = vr_set_is_automatic(set);
    if (set->model && look.facts.enabled) {
        look.facts.has_health = set->model->health.source != VR_HEALTH_SOURCE_POWER;
        read_boot(&look);
        read_image(&look);
        if (!read_places(&look, error) || !read_open(&look, error) || !read_past(&look, error))
            return FALSE;
    }
    vr_trigger_decide(&look.facts, trigger);
    if (trigger->state != VR_TRIGGER_DUE || !set->model->window.schedule)
        return TRUE;
    vr_trigger_clear(trigger);
    read_window(&look); /* last, and only where it counts: it asks a child */
    vr_trigger_decide(&look.facts, trigger);
    return TRUE;
}
