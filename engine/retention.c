/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What protects a generation, in this order:
 *
 *   not of our making        generation 0, and whatever else was found or released: it never goes
 *   new, current             it belongs to an open swap; the guest runs on it
 *   its instance's swap is   whatever the state of the swap, UNKNOWN too: recovery or a person may need any of them
 *   open
 *   'rollback' goes to it    the last rollback target never goes, whatever its age
 *   'rollback --all' of the  for as long as maxAge says, whatever the count says
 *   last run goes to it
 *   maxAge, generations      since it was replaced (not since it was made), and as one of so many; what is protected above takes a place too, and the
 *                            others have theirs by how late they were replaced
 *   failedDisks              of those that did not become healthy, the last ones; their age is of no account
 *
 * A generation of which it is not known when it was replaced is young. On one boot of the host its age is what both clocks allow at the least,
 * so that a wall clock that jumps deletes nothing (SAFETY invariant 24).
 */
#include "engine/retention.h"

#include "base/clock.h"
#include "base/error.h"

#include <string.h>

#define DAY_MS ((gint64)86400000)

const VrRetention vr_retention_default = {.generations = 2, .max_age_ms = 14 * DAY_MS, .failed_disks = 1};

/* --- what the journal says --------------------------------------------------------------------------- */

/* The number in the first row, *number unchanged when there is none. Within a transaction. */
static gboolean read_number(VrDb *db, sqlite3_stmt *stmt, gint64 *number, GError **error)
{
    int row = stmt ? vr_db_step(db, stmt, error) : -1;

    if (row == 1)
        *number = sqlite3_column_int64(stmt, 0);
    return row >= 0;
}

static gboolean read_open(VrDb *db, const char *uuid, gboolean *open, GError **error)
{
    gint64 found = 0;
    /* 5, 6, 7: as in the index swaps_open */
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT 1 FROM swaps WHERE uuid = ? AND state NOT IN (5, 6, 7)", "s", uuid);
    gboolean ok = read_number(db, stmt, &found, error);

    *open = found != 0;
    return ok;
}

/* What a generation replaced when it was made. */
static gboolean read_replaced(VrDb *db, const char *set_name, const char *uuid, guint number, gint64 *from,
                              GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT from_number FROM swaps WHERE uuid = ?1 AND to_number = ?2 AND rollback = 0 AND state = 5 "
                      "AND (?3 IS NULL OR set_name = ?3) ORDER BY seq DESC LIMIT 1",
                      "sis", uuid, (gint64)number, set_name);

    return read_number(db, stmt, from, error);
}

/* Of the last run forward that moved any instance of the set. */
static gboolean read_last_run(VrDb *db, const char *set_name, const char *uuid, gint64 *from, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT from_number FROM swaps WHERE uuid = ?1 AND set_name = ?2 AND rollback = 0 AND state = 5 "
                      "AND run_id = (SELECT run_id FROM swaps WHERE set_name = ?2 AND rollback = 0 AND state = 5 "
                      "AND run_id IS NOT NULL ORDER BY seq DESC LIMIT 1) ORDER BY seq LIMIT 1",
                      "ss", uuid, set_name);

    return read_number(db, stmt, from, error);
}

static const VrGeneration *current_of(const GPtrArray *generations)
{
    for (guint i = 0; i < generations->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(generations, i);
        if (generation->state == VR_GENERATION_CURRENT)
            return generation;
    }
    return NULL;
}

static gint64 highest_kept_below(const GPtrArray *generations, guint number)
{
    gint64 highest = -1;

    for (guint i = 0; i < generations->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(generations, i);
        if (generation->state == VR_GENERATION_KEPT && generation->number < number)
            highest = MAX(highest, (gint64)generation->number);
    }
    return highest;
}

gboolean vr_retention_facts(VrJournal *journal, const char *set_name, const char *uuid, const GPtrArray *generations,
                            VrRetentionFacts *facts, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    const VrGeneration *current = current_of(generations);
    gboolean ok;

    *facts = (VrRetentionFacts){.back_to = -1, .last_run = -1};
    if (!vr_db_begin_read(db, error))
        return FALSE;
    ok = read_open(db, uuid, &facts->open_swap, error) &&
         (!current || read_replaced(db, set_name, uuid, current->number, &facts->back_to, error)) &&
         (!set_name || read_last_run(db, set_name, uuid, &facts->last_run, error));
    vr_db_rollback(db);
    /* As 'rollback' has it, where it is not known what was replaced. */
    if (facts->back_to < 0)
        facts->back_to = highest_kept_below(generations, current ? current->number : G_MAXUINT);
    return ok;
}

/* --- the verdict ------------------------------------------------------------------------------------- */

static gint64 age_ms(const VrGeneration *generation)
{
    gint64 age = generation->left_us ? (vr_clock_wall_us() - generation->left_us) / 1000 : 0;

    if (g_strcmp0(generation->left_boot, vr_clock_boot_id()) == 0)
        age = MIN(age, vr_clock_now_ms() - generation->left_ms);
    return MAX(age, 0);
}

static void stays(VrVerdict *verdict, gint64 goes_us, char *why)
{
    g_free(verdict->why);
    verdict->goes = FALSE;
    verdict->goes_us = goes_us;
    verdict->why = why;
}

static void goes(VrVerdict *verdict, char *why)
{
    g_free(verdict->why);
    verdict->goes = TRUE;
    verdict->goes_us = 0;
    verdict->why = why;
}

/* TRUE when that settles it, whatever the retention is. */
static gboolean judge_protected(VrVerdict *verdict, const VrRetentionFacts *facts)
{
    const VrGeneration *generation = verdict->generation;

    if (generation->state == VR_GENERATION_DELETED)
        stays(verdict, 0, g_strdup("its disk is gone"));
    else if (generation->state == VR_GENERATION_RELEASED)
        stays(verdict, 0, g_strdup("released: it is the guest's own"));
    else if (!generation->ours)
        stays(verdict, 0, g_strdup("not of our making"));
    else if (facts->open_swap)
        stays(verdict, 0, g_strdup("a swap of the instance is open"));
    else if (generation->state == VR_GENERATION_GOING)
        goes(verdict, g_strdup("its deletion has begun"));
    else if (generation->state == VR_GENERATION_DISCARDED)
        goes(verdict, g_strdup("it was discarded and never booted"));
    else
        return FALSE;
    return TRUE;
}

static void judge_kept(VrVerdict *verdict, const VrRetention *retention, const VrRetentionFacts *facts, guint newer)
{
    gint64 age = age_ms(verdict->generation), left = retention->max_age_ms - age;
    gint64 goes_us = vr_clock_wall_us() + left * 1000;
    g_autofree char *old = vr_clock_format_duration(age);

    if (verdict->generation->number == facts->back_to)
        stays(verdict, 0, g_strdup("'rollback' goes to it"));
    else if (left < 0)
        goes(verdict, g_strdup_printf("it was replaced %s ago", old));
    else if (verdict->generation->number == facts->last_run)
        stays(verdict, goes_us, g_strdup("rolling back the last run goes to it"));
    else if (newer >= retention->generations)
        goes(verdict, g_strdup_printf("%u others are kept", newer));
    else
        stays(verdict, goes_us, g_strdup_printf("one of %u that are kept", retention->generations));
}

static void judge_failed(VrVerdict *verdict, const VrRetention *retention, guint newer)
{
    if (newer >= retention->failed_disks)
        goes(verdict, newer ? g_strdup_printf("failed, and so did %u later", newer) : g_strdup("failed"));
    else
        stays(verdict, 0, g_strdup("failed, for a post-mortem"));
}

/* Protected ones first, then the last that was replaced. */
static gint64 rank_of(const VrGeneration *generation, const VrRetentionFacts *facts)
{
    gboolean is_protected = generation->number == facts->back_to || generation->number == facts->last_run;

    return is_protected ? G_MAXINT64 : -age_ms(generation);
}

/* How many of the same state are before it. */
static guint count_before(const GPtrArray *generations, const VrGeneration *generation, const VrRetentionFacts *facts)
{
    gint64 rank = rank_of(generation, facts);
    guint before = 0;

    for (guint i = 0; i < generations->len; i++) {
        const VrGeneration *other = g_ptr_array_index(generations, i);
        gint64 its = rank_of(other, facts);
        if (other != generation && other->ours && other->state == generation->state &&
            (its > rank || (its == rank && other->number > generation->number)))
            before++;
    }
    return before;
}

static void judge(VrVerdict *verdict, const GPtrArray *generations, const VrRetention *retention,
                  const VrRetentionFacts *facts)
{
    const VrGeneration *generation = verdict->generation;

    if (judge_protected(verdict, facts))
        return;
    if (!retention)
        goes(verdict, g_strdup("its instance has left"));
    else if (generation->state == VR_GENERATION_KEPT)
        judge_kept(verdict, retention, facts, count_before(generations, generation, facts));
    else if (generation->state == VR_GENERATION_FAILED)
        judge_failed(verdict, retention, count_before(generations, generation, facts));
    else
        stays(verdict, 0, g_strdup("the guest's own"));
}

static void verdict_free(gpointer data)
{
    VrVerdict *verdict = data;

    g_free(verdict->why);
    g_free(verdict);
}

GPtrArray *vr_retention_judge(const GPtrArray *generations, const VrRetention *retention, const VrRetentionFacts *facts)
{
    GPtrArray *verdicts = g_ptr_array_new_with_free_func(verdict_free);

    for (guint i = 0; i < generations->len; i++) {
        VrVerdict *verdict = g_new0(VrVerdict, 1);
        verdict->generation = g_ptr_array_index(generations, i);
        judge(verdict, generations, retention, facts);
        g_ptr_array_add(verdicts, verdict);
    }
    return verdicts;
}
