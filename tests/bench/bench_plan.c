/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * L2: what planning and the rollout core cost at 1,000 and 10,000 instances, and their memory. Instances have two roles, three
 * zones and twenty upgrade domains; each is planned, and moved by the rollout with every answer good.
 *
 * usage: vr-bench-plan; exit status 1: a target was missed
 */
#include "orchestrator/rollout.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define ROUNDS 5

typedef struct {
    VrModel *model;
    guint count;
    guint *domains;
} Set;

typedef struct {
    guint steps;
    GArray *best;           /* double: microseconds of each step, the best of some rounds */
    double mean_us, max_us; /* of those */
} Cost;

static char *model_text(guint count)
{
    GString *text = g_string_new("name: bench\nimageReference: {name: os}\nupgradeDomainCount: 20\n"
                                 "upgradePolicy: {rollingUpgradePolicy: {maxBatchInstancePercent: 5}}\ninstances:\n");

    for (guint i = 0; i < count; i++)
        g_string_append_printf(text, "- {domain: guest-%u, role: %s, zone: z%u, pair: p%u}\n", i,
                               i % 2 ? "web" : "worker", i % 3, i / 2);
    return g_string_free(text, FALSE);
}

static gboolean set_init(Set *set, guint count)
{
    g_autofree char *text = model_text(count);
    g_autofree VrLabel *roles = g_new(VrLabel, count);

    set->count = count;
    set->domains = g_new(guint, count);
    set->model = vr_model_parse(text, strlen(text), "bench", NULL);
    if (!set->model)
        return FALSE;
    for (guint i = 0; i < count; i++)
        roles[i] = ((const VrModelInstance *)set->model->instances->pdata[i])->role;
    vr_planner_spread(roles, count, set->model->upgrade_domain_count, set->domains);
    return TRUE;
}

static void set_clear(Set *set)
{
    vr_model_free(set->model);
    g_free(set->domains);
}

static VrCandidate *candidates_of(const Set *set)
{
    VrCandidate *candidates = g_new0(VrCandidate, set->count);

    for (guint i = 0; i < set->count; i++) {
        const VrModelInstance *instance = set->model->instances->pdata[i];

        candidates[i] = (VrCandidate){
            .upgrade_domain = set->domains[i], .role = instance->role, .zone = instance->zone, .pair = instance->pair};
    }
    return candidates;
}

/* Milliseconds, the best of some rounds. one_place: so many are down and skipped that each batch has one instance. */
static double time_plan(const Set *set, gboolean one_place, guint *batches)
{
    const VrUpgradePolicy *policy = &set->model->policy;
    guint down = one_place ? vr_planner_allowed(set->count, policy->max_unhealthy_percent) - 1 : 0;
    g_autofree VrCandidate *candidates = candidates_of(set);
    double best = 0;

    for (guint i = 0; i < down; i++) {
        candidates[i].down = TRUE;
        candidates[i].status = VR_CANDIDATE_SKIPPED;
    }
    for (guint round = 0; round < ROUNDS; round++) {
        gint64 began = g_get_monotonic_time();
        g_autoptr(GPtrArray) plan = vr_planner_plan(policy, candidates, set->count, FALSE, NULL);
        double took = (double)(g_get_monotonic_time() - began) / 1000;

        best = round == 0 ? took : MIN(best, took);
        *batches = plan->len;
    }
    return best;
}

static VrRollout *rollout_of(const Set *set)
{
    g_autofree VrRolloutInstance *instances = g_new0(VrRolloutInstance, set->count);
    VrRolloutConfig config = {.policy = set->model->policy,
                              .health_timeout_ms = 300000,
                              .same_reason_stops = TRUE,
                              .count = set->count,
                              .instances = instances};

    for (guint i = 0; i < set->count; i++) {
        const VrModelInstance *instance = set->model->instances->pdata[i];

        instances[i] = (VrRolloutInstance){.upgrade_domain = set->domains[i],
                                           .chosen = TRUE,
                                           .role = instance->role,
                                           .zone = instance->zone,
                                           .pair = instance->pair};
    }
    return vr_rollout_new(&config);
}

/* FALSE: the command needs no answer. */
static gboolean answer(const VrCommand *command, VrEvent *event)
{
    static const VrEventType types[] = {[VR_COMMAND_SURVEY] = VR_EVENT_SURVEY,
                                        [VR_COMMAND_PREPARE] = VR_EVENT_PREPARED,
                                        [VR_COMMAND_SWAP] = VR_EVENT_SWAPPED,
                                        [VR_COMMAND_PROBE] = VR_EVENT_PROBED,
                                        [VR_COMMAND_COMMIT] = VR_EVENT_COMMITTED};

    if (command->type >= G_N_ELEMENTS(types) ||
        (types[command->type] == VR_EVENT_START && command->type != VR_COMMAND_SURVEY))
        return FALSE;
    event->type = types[command->type];
    event->instance = command->instance;
    return TRUE;
}

static double cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void step(VrRollout *rollout, const VrEvent *event, gint64 now_ms, GArray *commands, Cost *cost)
{
    double began = cpu_us(); /* it never waits, and what else the machine does is not the core's */
    double took, *best;

    vr_rollout_step(rollout, event, now_ms, commands);
    took = cpu_us() - began;
    if (cost->steps == cost->best->len)
        g_array_append_val(cost->best, took);
    best = &g_array_index(cost->best, double, cost->steps);
    *best = MIN(*best, took);
    cost->steps++;
}

static gboolean run_once(const Set *set, Cost *cost)
{
    /* room for all commands of the run: to move them when they no longer fit is work of this list, not of the step */
    g_autoptr(GArray) commands = g_array_sized_new(FALSE, FALSE, sizeof(VrCommand), 16 * set->count);
    g_autofree VrSurveyAnswer *answers = g_new0(VrSurveyAnswer, set->count);
    g_autoptr(VrRollout) rollout = rollout_of(set);
    VrEvent event = {.type = VR_EVENT_START, .answers = answers};
    VrRolloutView view;

    cost->steps = 0;
    g_array_set_clear_func(commands, (GDestroyNotify)vr_command_clear);
    step(rollout, &event, 0, commands, cost);
    for (guint k = 0; k < commands->len; k++) {
        VrCommand command = g_array_index(commands, VrCommand, k);

        if (answer(&command, &event))
            step(rollout, &event, k, commands, cost);
    }
    vr_rollout_view(rollout, &view);
    return view.successful == set->count;
}

/* Each round has the same steps: what one took at its best is its own, the rest is the machine's. */
static gboolean time_rollout(const Set *set, Cost *cost)
{
    g_autoptr(GArray) best = g_array_new(FALSE, FALSE, sizeof(double));

    cost->best = best;
    for (guint round = 0; round < ROUNDS; round++)
        if (!run_once(set, cost))
            return FALSE;
    for (guint k = 0; k < best->len; k++) {
        cost->max_us = MAX(cost->max_us, g_array_index(best, double, k));
        cost->mean_us += g_array_index(best, double, k) / best->len;
    }
    cost->best = NULL;
    return TRUE;
}

static gboolean row(const char *what, double found, double target, const char *unit)
{
    gboolean met = target <= 0 || found < target;

    printf("%-58s %10.2f %-4s", what, found, unit);
    if (target > 0)
        printf(" target %7.2f  %s", target, met ? "met" : "MISSED");
    fputc('\n', stdout);
    return met;
}

static gboolean measure(guint count, gboolean has_targets, double *plan_ms)
{
    Set set = {0};
    Cost cost = {0};
    guint batches = 0, singles = 0;
    gboolean good = set_init(&set, count);
    double single_ms;
    g_autofree char *plan = NULL, *single = NULL, *mean = NULL, *most = NULL;

    if (!good)
        return FALSE;
    *plan_ms = time_plan(&set, FALSE, &batches);
    single_ms = time_plan(&set, TRUE, &singles);
    good = time_rollout(&set, &cost);
    plan = g_strdup_printf("plan of %u (%u batches)", count, batches);
    single = g_strdup_printf("plan of %u, one place free (%u batches)", count, singles);
    mean = g_strdup_printf("step of a rollout of %u, mean of %u", count, cost.steps);
    most = g_strdup_printf("step of a rollout of %u, longest (it plans a batch)", count);
    good &= row(plan, *plan_ms, has_targets ? 1000 : 0, "ms");
    good &= row(single, single_ms, has_targets ? 1000 : 0, "ms");
    good &= row(mean, cost.mean_us, has_targets ? 50 : 0, "us");
    good &= row(most, cost.max_us, has_targets ? 50 : 0, "us");
    set_clear(&set);
    return good;
}

static double peak_mib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

int main(void)
{
    double small_ms, large_ms;
    gboolean good = measure(1000, TRUE, &small_ms);

    good &= row("memory of the whole process at 1,000, at its peak", peak_mib(), 64, "MiB");
    good &= measure(10000, FALSE, &large_ms);
    good &= row("plan of 10,000 against plan of 1,000", large_ms / small_ms, 20, "x");
    return good ? 0 : 1;
}
