/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulator: drives vr_rollout_step through random worlds and checks every step.
 *   sim [--seeds N | --minutes N] [--first S] [--verbose]
 * A seed that fails prints its whole story; --first S --seeds 1 --verbose tells it again.
 */
#include "tests/sim/world.h"

#include "orchestrator/rollout.h"

#include <stdio.h>

static gint seeds = 3000;
static gint64 first = 1;
static gint minutes;
static gboolean verbose;

static const GOptionEntry options[] = {
    {"seeds", 0, 0, G_OPTION_ARG_INT, &seeds, "How many seeds", "N"},
    {"minutes", 0, 0, G_OPTION_ARG_INT, &minutes, "As many seeds as N minutes hold", "N"},
    {"first", 0, 0, G_OPTION_ARG_INT64, &first, "The first seed", "S"},
    {"verbose", 0, 0, G_OPTION_ARG_NONE, &verbose, "Tell every story", NULL},
    {0},
};

typedef struct {
    guint64 seeds, steps, batches, instances, restarts, takeovers, amends;
    guint ends[VR_RUN_FAULTED + 1];
    GHashTable *codes; /* static text -> count */
} Totals;

static void add_up(Totals *totals, const WorldResult *result)
{
    totals->seeds++;
    totals->steps += result->steps;
    totals->batches += result->batches;
    totals->instances += result->instances;
    totals->restarts += result->restarts;
    totals->takeovers += result->takeovers;
    totals->amends += result->amends;
    totals->ends[result->status]++;
    if (result->code != NULL)
        g_hash_table_insert(totals->codes, (gpointer)result->code,
                            GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(totals->codes, result->code)) + 1));
}

static gboolean run_seed(guint64 seed, gboolean with_story, Totals *totals)
{
    g_autoptr(GString) story = with_story ? g_string_new(NULL) : NULL;
    WorldResult result;
    g_autofree char *violation = world_run(seed, story, &result);

    if (story != NULL)
        fputs(story->str, stdout);
    if (violation == NULL) {
        add_up(totals, &result);
        return TRUE;
    }
    if (!with_story)
        return run_seed(seed, TRUE, totals); /* the same again, told */
    printf("seed %" G_GUINT64_FORMAT " FAILED after %u steps: %s\n", seed, result.steps, violation);
    return FALSE;
}

static void print_totals(const Totals *totals, double seconds)
{
    GHashTableIter iter;
    gpointer code, count;

    printf("%" G_GUINT64_FORMAT " seeds, %" G_GUINT64_FORMAT " instances, %" G_GUINT64_FORMAT
           " batches, %" G_GUINT64_FORMAT " steps in %.1f s: %.0f seeds/s, %.2f us a step\n",
           totals->seeds, totals->instances, totals->batches, totals->steps, seconds, (double)totals->seeds / seconds,
           seconds * 1e6 / (double)MAX(1, totals->steps));
    printf("  restarts: %" G_GUINT64_FORMAT ", take-overs: %" G_GUINT64_FORMAT
           ", runs that made amends: %" G_GUINT64_FORMAT "\n",
           totals->restarts, totals->takeovers, totals->amends);
    for (guint status = VR_RUN_CANCELLED; status <= VR_RUN_FAULTED; status++)
        printf("  %s: %u\n", vr_run_status_name(status), totals->ends[status]);
    g_hash_table_iter_init(&iter, totals->codes);
    while (g_hash_table_iter_next(&iter, &code, &count))
        printf("  %s: %u\n", (const char *)code, GPOINTER_TO_UINT(count));
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) codes = g_hash_table_new(g_str_hash, g_str_equal);
    Totals totals = {.codes = codes};
    gint64 began = g_get_monotonic_time(), until;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "error: %s\n", error->message);
        return 2;
    }
    until = began + (gint64)minutes * 60 * G_USEC_PER_SEC;
    for (gint k = 0; minutes > 0 ? g_get_monotonic_time() < until : k < seeds; k++) {
        if (!run_seed((guint64)first + (guint64)k, verbose, &totals))
            return 1;
    }
    print_totals(&totals, (double)(g_get_monotonic_time() - began) / 1e6);
    return 0;
}
