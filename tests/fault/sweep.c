/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sweeps of the swap engine on real files and a real journal, with scripted guests (rows B17, B5, B8, B16):
 *
 *   kill     a process is killed before each call that changes something, in each scenario; a new one recovers
 *   twice    and so is its recovery
 *   libvirt  each call to libvirt fails, is lost, hangs, or libvirtd restarts in it
 *   fence    the set has another owner after each transaction: nothing is changed any more
 *
 * After each the files are checked (sweep_check.c). What is found is told with the words that find it again.
 */
#include "fault/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAST 10 /* of each kind and worker, on a host that is busy */

static const struct {
    const char *name, *unit;
    void (*run)(Runner *runner);
} kinds[SWEEP_KINDS] = {{"kill", "cuts", sweep_kill},
                        {"twice", "cuts of a recovery", sweep_twice},
                        {"libvirt", "faults", sweep_libvirt},
                        {"fence", "take-overs", sweep_fence}};

/* --- worlds ------------------------------------------------------------------------------------------ */

gboolean runner_wants(const Runner *runner, guint scenario)
{
    return !runner->scenario || g_str_equal(runner->scenario, sweep_scenarios[scenario].name);
}

/* What it comes to when nothing cuts it must be right too. */
static void rehearse(Runner *runner, guint scenario, World *world)
{
    Ending ending = world_run(world, 0, world_act, NULL);

    runner->points[scenario] = world->report->count;
    world->after = tree_read(world->now);
    runner_judge(runner, world, "uncut",
                 ending == ENDED_WELL ? check_settled(world, world->after) : g_strdup("it fails without any fault"));
    runner_judge(runner, world, "uncut, then recovered", settle(runner, world, 1));
}

World *runner_world(Runner *runner, guint scenario)
{
    if (!runner->worlds[scenario]) {
        runner->worlds[scenario] = world_make(&sweep_scenarios[scenario]);
        rehearse(runner, scenario, runner->worlds[scenario]);
    }
    return runner->worlds[scenario];
}

static gboolean has_found(const Runner *runner)
{
    for (SweepKind kind = 0; kind < SWEEP_KINDS; kind++)
        if (runner->stop && runner->report->tallies[kind].violations > 0)
            return TRUE;
    return FALSE;
}

static void shuffle(GArray *places, guint seed)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);

    for (guint i = places->len; i > 1; i--) {
        guint other = (guint)g_rand_int_range(random, 0, (gint32)i);
        Place kept = g_array_index(places, Place, i - 1);
        g_array_index(places, Place, i - 1) = g_array_index(places, Place, other);
        g_array_index(places, Place, other) = kept;
    }
}

/* Enough for this part of the time that there is, in thirds. */
static gboolean is_late(const Runner *runner, guint thirds)
{
    return runner->seconds > 0 &&
           g_get_monotonic_time() > runner->began_us + (gint64)runner->seconds * thirds * G_USEC_PER_SEC / 3;
}

static void add_places(Runner *runner, GArray *places, guint scenario, guint count)
{
    for (guint at = 1; at <= count; at++) {
        Place place = {scenario, at};
        if (at % runner->workers == runner->worker && (runner->cut == 0 || at == runner->cut))
            g_array_append_val(places, place);
    }
}

GArray *runner_places(Runner *runner, guint (*count)(Runner *runner, guint scenario))
{
    g_autoptr(GArray) order = g_array_new(FALSE, FALSE, sizeof(Place));
    GArray *places = g_array_new(FALSE, FALSE, sizeof(Place));

    for (guint i = 0; i < sweep_scenario_count; i++) {
        Place one = {i, 0};
        g_array_append_val(order, one);
    }
    if (runner->seconds > 0)
        shuffle(order, runner->seed);
    for (guint i = 0; i < order->len && !has_found(runner) && !is_late(runner, 1); i++) {
        guint scenario = g_array_index(order, Place, i).scenario;
        if (runner_wants(runner, scenario))
            add_places(runner, places, scenario, count(runner, scenario));
    }
    if (runner->seconds > 0)
        shuffle(places, runner->seed);
    return places;
}

gboolean runner_is_over(const Runner *runner)
{
    return has_found(runner) || (is_late(runner, 3) && runner->report->tallies[runner->kind].fired >= LEAST);
}

/* --- the report -------------------------------------------------------------------------------------- */

void runner_state(Runner *runner, Tree *now)
{
    g_autofree char *state = tree_state(now, TRUE);
    char digits[17] = "";

    if (runner->report->states[runner->kind] == STATES_MAX)
        return;
    g_strlcpy(digits, state, sizeof(digits));
    runner->report->state[runner->kind][runner->report->states[runner->kind]++] = strtoull(digits, NULL, 16);
}

void runner_cut(Runner *runner, guint64 cut)
{
    if (runner->report->cuts[runner->kind] < STATES_MAX)
        runner->report->cut[runner->kind][runner->report->cuts[runner->kind]++] = cut;
}

void runner_judge(Runner *runner, const World *world, const char *how, char *text)
{
    if (runner->verbose)
        printf("%s, %s: %s\n", world->scenario->name, how, text ? text : "holds");
    if (!text)
        return;
    runner->report->tallies[runner->kind].violations++;
    printf("VIOLATION in %s, '%s': %s\n    again: sweep --%s %s\n", kinds[runner->kind].name, world->scenario->name,
           text, kinds[runner->kind].name, how);
    fflush(stdout);
    g_free(text);
}

static void add_all(GHashTable *to, guint64 *digests, guint count)
{
    for (guint i = 0; i < count; i++)
        g_hash_table_add(to, &digests[i]);
}

/* What was done before the cut is known of kills only. */
static void print_distinct(SweepKind kind, Report *const *reports, guint workers)
{
    g_autoptr(GHashTable) states = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autoptr(GHashTable) cuts = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < workers; i++) {
        add_all(states, reports[i]->state[kind], reports[i]->states[kind]);
        add_all(cuts, reports[i]->cut[kind], reports[i]->cuts[kind]);
    }
    if (g_hash_table_size(cuts) > 0)
        printf("%u of them different, ", g_hash_table_size(cuts));
    printf("%u distinct states, ", g_hash_table_size(states));
}

static guint print_report(SweepKind kind, Report *const *reports, guint workers)
{
    gint64 took_us = 0;
    Tally all = {0};

    for (guint i = 0; i < workers; i++) {
        const Tally *one = &reports[i]->tallies[kind];
        all.planned += one->planned;
        all.fired += one->fired;
        all.violations += one->violations;
        took_us = MAX(took_us, reports[i]->took_us[kind]);
    }
    printf("%s: %u %s planned, %u fired, ", kinds[kind].name, all.planned, kinds[kind].unit, all.fired);
    print_distinct(kind, reports, workers);
    printf("%u violations, %.0f s\n", all.violations, (double)took_us / G_USEC_PER_SEC);
    return all.violations;
}

/* --- workers ----------------------------------------------------------------------------------------- */

static Report *new_report(void)
{
    Report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    g_assert_true(report != MAP_FAILED);
    return report;
}

static G_NORETURN void work(Runner *runner, const gboolean *wanted)
{
    runner->worlds = g_new0(World *, sweep_scenario_count);
    runner->points = g_new0(guint, sweep_scenario_count);
    for (SweepKind kind = 0; kind < SWEEP_KINDS && !has_found(runner); kind++) {
        runner->kind = kind;
        runner->began_us = g_get_monotonic_time();
        if (wanted[kind])
            kinds[kind].run(runner);
        runner->report->took_us[kind] = g_get_monotonic_time() - runner->began_us;
    }
    for (guint i = 0; i < sweep_scenario_count; i++)
        world_free(runner->worlds[i]);
    world_remove_all();
    fflush(NULL);
    _exit(0);
}

/* Each worker takes its share of the places of each kind. Returns the number of violations. */
static guint run_all(const Runner *options, const gboolean *wanted)
{
    g_autofree Report **reports = g_new0(Report *, options->workers);
    guint violations = 0;
    int status;

    for (guint i = 0; i < options->workers; i++) {
        Runner runner = *options;
        runner.report = reports[i] = new_report();
        runner.worker = i;
        if (fork() == 0)
            work(&runner, wanted);
    }
    for (guint i = 0; i < options->workers; i++)
        violations += wait(&status) < 0 || status != 0; /* a sweep that crashed found nothing */
    for (SweepKind kind = 0; kind < SWEEP_KINDS; kind++)
        violations += wanted[kind] ? print_report(kind, reports, options->workers) : 0;
    return violations;
}

int main(int argc, char **argv)
{
    gboolean wanted[SWEEP_KINDS] = {FALSE};
    int seed = 1, seconds = 0, cut = 0, cut2 = 0, jobs = 2;
    gboolean list = FALSE;
    Runner runner = {0};
    const GOptionEntry entries[] = {
        {"kill", 0, 0, G_OPTION_ARG_NONE, &wanted[SWEEP_KILL], "kill at each point", NULL},
        {"twice", 0, 0, G_OPTION_ARG_NONE, &wanted[SWEEP_TWICE], "and at each point of the recovery", NULL},
        {"libvirt", 0, 0, G_OPTION_ARG_NONE, &wanted[SWEEP_LIBVIRT], "each call to libvirt fails in each way", NULL},
        {"fence", 0, 0, G_OPTION_ARG_NONE, &wanted[SWEEP_FENCE], "another owner after each transaction", NULL},
        {"scenario", 0, 0, G_OPTION_ARG_STRING, &runner.scenario, "only this one", "NAME"},
        {"cut", 0, 0, G_OPTION_ARG_INT, &cut, "only this place", "N"},
        {"cut2", 0, 0, G_OPTION_ARG_INT, &cut2, "only this place of the recovery, or this fault", "N"},
        {"seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "a random part, for each kind of sweep", "N"},
        {"seed", 0, 0, G_OPTION_ARG_INT, &seed, "of the random part", "N"},
        {"jobs", 0, 0, G_OPTION_ARG_INT, &jobs, "workers", "N"},
        {"stop", 0, 0, G_OPTION_ARG_NONE, &runner.stop, "at the first violation", NULL},
        {"verbose", 0, 0, G_OPTION_ARG_NONE, &runner.verbose, "each place in a line", NULL},
        {"list", 0, 0, G_OPTION_ARG_NONE, &list, "the scenarios", NULL},
        G_OPTION_ENTRY_NULL};
    g_autoptr(GOptionContext) context = g_option_context_new("- cut the swap engine wherever it can be cut");
    g_autoptr(GError) error = NULL;
    gboolean any = FALSE;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "error: %s\n", error->message);
        return 2;
    }
    for (guint i = 0; list && i < sweep_scenario_count; i++)
        printf("%s\n", sweep_scenarios[i].name);
    for (SweepKind kind = 0; kind < SWEEP_KINDS; kind++)
        any |= wanted[kind];
    for (SweepKind kind = 0; kind < SWEEP_KINDS && !any; kind++)
        wanted[kind] = TRUE;
    if (list)
        return 0;
    runner.workers = cut > 0 ? 1 : (guint)MAX(jobs, 1);
    runner.seed = (guint)seed;
    runner.seconds = (guint)seconds;
    runner.cut = (guint)cut;
    runner.cut2 = (guint)cut2;
    setvbuf(stdout, NULL, _IOLBF, 0); /* what is not printed yet would be printed by each child too */
    sweep_clock_install();
    return run_all(&runner, wanted) > 0 ? 1 : 0;
}
