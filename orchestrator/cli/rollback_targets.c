/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a rollback goes.
 *
 * One instance goes to what its current generation replaced when it was made: the `from` of the forward swap that made it.
 * That stays true after a rollback (3 -> 2), so the next one goes one further back, to what 2 replaced. With --all, each
 * instance that one run moved goes back to the `from` of its swap in that run.
 *
 * All targets are looked at before anything starts: when one of them is not kept, nothing is done.
 */
#include "base/error.h"
#include "orchestrator/cli/targets.h"

#include <unistd.h>

/* NULL when it can be gone back to, else why not. Free with g_free. */
static char *why_not(const VrSession *session, const char *uuid, guint number)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrGeneration) generation = vr_journal_generation(session->journal, uuid, number, &local);

    if (!generation)
        return g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)
                   ? g_strdup_printf("there is no generation %u", number)
                   : g_strdup(local->message);
    if (generation->state != VR_GENERATION_KEPT)
        return g_strdup_printf("generation %u is %s", number, vr_generation_state_name(generation->state));
    if (!g_str_equal(generation->disk_type, "volume") && access(generation->path, F_OK) < 0)
        return g_strdup_printf("the disk of generation %u, %s, is gone", number, generation->path);
    return NULL;
}

/* --- what a generation replaced ---------------------------------------------------------------------- */

/* "UUID NUMBER" of a generation -> number + 1 of the one that it replaced, of all swaps of the set in one pass. */
static gboolean read_replaced(const VrSession *session, GHashTable *replaced, GError **error)
{
    g_autoptr(GPtrArray) swaps = vr_journal_forward_swaps(session->journal, session->set->name, error);

    for (guint i = 0; swaps && i < swaps->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(swaps, i);
        g_hash_table_insert(replaced, g_strdup_printf("%s %u", row->uuid, row->to), GUINT_TO_POINTER(row->from + 1));
    }
    return swaps != NULL;
}

/* For a generation of a swap that this set does not have (the set had another name then): the highest kept one below. */
static gboolean highest_kept_below(const VrSession *session, const VrGeneration *current, guint *number, GError **error)
{
    g_autoptr(GPtrArray) all = vr_journal_generations(session->journal, current->uuid, error);
    gboolean found = FALSE;

    for (guint i = 0; all && i < all->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(all, i);
        if (generation->state != VR_GENERATION_KEPT || generation->number >= current->number)
            continue;
        *number = generation->number;
        found = TRUE;
    }
    if (all && !found)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "no generation before the current one, %u, is kept",
                    current->number);
    return found;
}

static gboolean one_back(const VrSession *session, GHashTable *replaced, const VrGeneration *current, guint *number,
                         GError **error)
{
    g_autofree char *key = NULL;
    gpointer found;

    if (!current || current->number == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s, so there is nothing to go back to",
                    current ? "it runs generation 0" : "it was never swapped");
        return FALSE;
    }
    key = g_strdup_printf("%s %u", current->uuid, current->number);
    found = g_hash_table_lookup(replaced, key);
    if (!found)
        return highest_kept_below(session, current, number, error);
    *number = GPOINTER_TO_UINT(found) - 1;
    return TRUE;
}

/* --- the three forms --------------------------------------------------------------------------------- */

typedef struct {
    GString *text;
    const char *first; /* a domain's name, of the set */
} Refusals;

static void refuse(Refusals *refused, const char *domain, const char *why)
{
    g_string_append_printf(refused->text, "%s'%s': %s", refused->text->len ? "; " : "", domain, why);
    if (!refused->first)
        refused->first = domain;
}

static void choose_or_refuse(VrTargets *targets, const VrSession *session, guint index, guint number, Refusals *refused)
{
    const VrInstance *instance = vr_set_instance(session->set, index);
    const VrGeneration *current = vr_targets_current(targets, index);
    g_autofree char *why = NULL;

    if (current && current->number == number) {
        vr_targets_skip(targets, index, g_strdup_printf("runs generation %u already", number));
        return;
    }
    why = why_not(session, instance->uuid, number);
    if (why)
        refuse(refused, instance->domain, why);
    else
        vr_targets_choose(targets, index, number);
}

static gboolean choose_named(VrTargets *targets, const VrSession *session, Refusals *refused, GError **error)
{
    g_autoptr(GHashTable) replaced = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GArray) named = vr_targets_named(session, error);
    int asked = session->cli->options.to_generation;
    gboolean given = asked != VR_GENERATION_NOT_GIVEN;

    if (!named || (!given && !read_replaced(session, replaced, error)))
        return FALSE;
    for (guint i = 0; i < named->len; i++) {
        guint index = g_array_index(named, guint, i), number = (guint)asked;
        g_autoptr(GError) local = NULL;
        if (!given && !one_back(session, replaced, vr_targets_current(targets, index), &number, &local))
            refuse(refused, vr_set_instance(session->set, index)->domain, local->message);
        else
            choose_or_refuse(targets, session, index, number, refused);
    }
    return TRUE;
}

/* The swaps of a run that moved an instance; NULL without error when it moved none. */
static GPtrArray *moves_of(const VrSession *session, const char *run_id, GError **error)
{
    g_autoptr(GPtrArray) swaps = vr_journal_run_swaps(session->journal, run_id, error);

    for (guint i = swaps ? swaps->len : 0; i > 0; i--) {
        const VrSwapRow *row = g_ptr_array_index(swaps, i - 1);
        if (row->state != VR_SWAP_COMMITTED)
            g_ptr_array_remove_index(swaps, i - 1);
    }
    return swaps && swaps->len > 0 ? g_steal_pointer(&swaps) : NULL;
}

/* The one that was asked for, or all, newest first. */
static GPtrArray *runs_to_undo(const VrSession *session, GError **error)
{
    const char *asked = session->cli->options.run;
    GPtrArray *runs;
    VrRun *run;

    if (!asked)
        return vr_history_list(vr_store_db(session->store), session->set->name, 0, error);
    run = vr_history_get(vr_store_db(session->store), session->set->name, asked, error);
    if (!run)
        return NULL;
    runs = g_ptr_array_new_with_free_func((GDestroyNotify)vr_run_free);
    g_ptr_array_add(runs, run);
    return runs;
}

/* --run, or the last run forward that moved anything: one that was put back whole left nothing to undo. A rollback is not what
 * is undone, so the same command again does nothing, and one that was cancelled goes on. */
static GPtrArray *moves_to_undo(const VrSession *session, GError **error)
{
    const char *asked = session->cli->options.run;
    g_autoptr(GPtrArray) runs = runs_to_undo(session, error);
    g_autoptr(GError) local = NULL;

    for (guint i = 0; runs && i < runs->len; i++) {
        const VrRun *candidate = g_ptr_array_index(runs, i);
        GPtrArray *moves =
            !asked && candidate->kind == VR_RUN_ROLLBACK ? NULL : moves_of(session, candidate->id, &local);
        if (moves)
            return moves;
        if (local) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
    }
    if (!runs)
        return NULL;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "set '%s': %s%s moved an instance, so there is nothing to undo",
                session->set->name, asked ? "no swap of run " : "no run", asked ? asked : "");
    vr_error_next(error, "'%s history %s' lists the runs", VR_PROGRAM, session->set->name);
    return NULL;
}

static void choose_moves(VrTargets *targets, const VrSession *session, const GPtrArray *moves, Refusals *refused)
{
    g_autoptr(GHashTable) indices = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < targets->count; i++)
        g_hash_table_insert(indices, (char *)vr_set_instance(session->set, i)->uuid, GUINT_TO_POINTER(i + 1));
    for (guint i = 0; i < moves->len; i++) {
        const VrSwapRow *row = g_ptr_array_index(moves, i);
        guint index = GPOINTER_TO_UINT(g_hash_table_lookup(indices, row->uuid));
        if (index == 0)
            continue; /* it has left the set since */
        if (vr_set_instance(session->set, index - 1)->is_protected)
            vr_targets_skip_protected(targets, session, index - 1);
        else
            choose_or_refuse(targets, session, index - 1, row->from, refused);
    }
}

static gboolean choose_all(VrTargets *targets, const VrSession *session, Refusals *refused, GError **error)
{
    g_autoptr(GPtrArray) moves = NULL;

    moves = moves_to_undo(session, error);
    if (moves)
        choose_moves(targets, session, moves, refused);
    return moves != NULL;
}

/* All or nothing: what cannot go back keeps the others from it. */
static gboolean none_refused(const VrSession *session, const Refusals *refused, GError **error)
{
    if (refused->text->len == 0)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, refused->text->str);
    vr_error_now(error, "nothing was started");
    vr_error_next(error, "'%s generations %s %s' lists what is kept", VR_PROGRAM, session->set->name, refused->first);
    return FALSE;
}

static gboolean skip_each(VrTargets *targets, const VrSession *session, const char *why, GError **error)
{
    if (!vr_targets_init(targets, session, VR_RUN_ROLLBACK, error))
        return FALSE;
    for (guint i = 0; i < targets->count; i++)
        vr_targets_skip(targets, i, g_strdup(why));
    return TRUE;
}

gboolean vr_targets_of_undo(VrTargets *targets, const VrSession *session, const char *run_id, gboolean *moved,
                            GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    Refusals refused = {.text = text};
    g_autoptr(GPtrArray) moves = NULL;
    g_autoptr(GError) local = NULL;

    *moved = FALSE;
    if (!skip_each(targets, session, "not moved by that run", error))
        return FALSE;
    moves = moves_of(session, run_id, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!moves)
        return TRUE;
    *moved = TRUE;
    choose_moves(targets, session, moves, &refused);
    return none_refused(session, &refused, error);
}

gboolean vr_targets_of_rollback(VrTargets *targets, const VrSession *session, GError **error)
{
    const VrCliOptions *options = &session->cli->options;
    g_autoptr(GString) text = g_string_new(NULL);
    Refusals refused = {.text = text};
    gboolean ok;

    if (!skip_each(targets, session, options->all ? "not moved by that run" : "not named", error))
        return FALSE;
    ok = options->all ? choose_all(targets, session, &refused, error) : choose_named(targets, session, &refused, error);
    return ok && none_refused(session, &refused, error);
}
