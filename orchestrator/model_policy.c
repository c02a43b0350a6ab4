/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_policy.h"

#include <string.h>

#define POLICY "upgradePolicy."
#define ROLLING POLICY "rollingUpgradePolicy."
#define TWO_DAYS_MS 172800000

#define MODEL(field) G_STRUCT_OFFSET(VrModel, field)
#define SECTION(keys) .parse = vr_model_section, .offset = 0, .data = (keys)
#define ONLY(boolean) .parse = vr_model_only, .offset = VR_NOWHERE, .min = (boolean)
#define PERCENT(least, field) .parse = vr_model_number, .offset = MODEL(policy.field), .min = (least), .max = 100
#define SPAN(field, least, most, words)                                                                                \
    .parse = vr_model_duration, .offset = MODEL(policy.field), .min = (least), .max = (most), .data = (words)

static gboolean parse_use_policy(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                 GError **error);
static gboolean parse_checkpoints(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                  GError **error);

static const VrModelKey automatic_keys[] = {
    {.name = "enableAutomaticOSUpgrade", .parse = vr_model_boolean, .offset = MODEL(automatic)},
    {.name = "useRollingUpgradePolicy", .parse = parse_use_policy, .offset = VR_NOWHERE},
    {.name = "disableAutomaticRollback", .parse = vr_model_boolean_not, .offset = MODEL(policy.automatic_rollback)},
    {0},
};

static const VrModelKey rolling_keys[] = {
    {.name = "maxBatchInstancePercent", PERCENT(5, max_batch_percent)},
    {.name = "BatchInstancePercent", PERCENT(5, max_batch_percent), .same_as = "maxBatchInstancePercent"},
    {.name = "maxUnhealthyInstancePercent", PERCENT(5, max_unhealthy_percent)},
    {.name = "maxUnhealthyUpgradedInstancePercent", PERCENT(0, max_unhealthy_upgraded_percent)},
    {.name = "pauseTimeBetweenBatches", SPAN(pause_ms, 0, TWO_DAYS_MS, "PT0S to P2D")},
    {.name = "prioritizeUnhealthyInstances", .parse = vr_model_boolean, .offset = MODEL(policy.prioritize_unhealthy)},
    {.name = "rollbackFailedInstancesOnPolicyBreach",
     .parse = vr_model_boolean,
     .offset = MODEL(policy.restore_on_breach)},
    {.name = "enableCrossZoneUpgrade", .parse = vr_model_boolean, .offset = MODEL(policy.cross_zone)},
    {.name = "maxSurge", ONLY(FALSE)},
    {0},
};

static const VrModelKey checkpoint_keys[] = {
    {.name = "percent", .parse = parse_checkpoints, .offset = MODEL(policy.checkpoints), .min = 1, .max = 99},
    {.name = "wait", SPAN(checkpoint_wait_ms, 0, TWO_DAYS_MS, "PT0S to P2D")},
    {0},
};

static const VrModelChoice modes[] = {
    {"Manual", VR_MODE_MANUAL}, {"Rolling", VR_MODE_ROLLING}, {"Automatic", VR_MODE_AUTOMATIC}, {0}};
static const VrModelChoice batch_kinds[] = {{"percent", FALSE}, {"upgradeDomain", TRUE}, {0}};

const VrModelKey vr_model_policy_keys[] = {
    {.name = "mode", .parse = vr_model_choice, .offset = MODEL(mode), .data = modes},
    {.name = "automaticOSUpgradePolicy", SECTION(automatic_keys)},
    {.name = "rollingUpgradePolicy", SECTION(rolling_keys)},
    {.name = "batchBy", .parse = vr_model_choice, .offset = MODEL(policy.by_domain), .data = batch_kinds},
    {.name = "checkpoints", SECTION(checkpoint_keys)},
    {.name = "prepareAhead", .parse = vr_model_boolean, .offset = MODEL(policy.prepare_ahead)},
    {.name = "bakeTime", SPAN(bake_ms, 0, TWO_DAYS_MS, "PT0S to P2D")},
    {.name = "timeout", SPAN(timeout_ms, 1000, 2592000000, "PT1S to P30D")},
    {.name = "maxDowntime", SPAN(max_off_ms, 1000, 86400000, "PT1S to P1D")},
    {.name = "maxInFlightPerHost",
     .parse = vr_model_number,
     .offset = MODEL(policy.max_in_flight),
     .min = 1,
     .max = 1000},
    {.name = "gate", .parse = vr_model_texts, .offset = MODEL(policy.gate)},
    {.name = "gateTimeout", SPAN(gate_timeout_ms, 1000, 86400000, "PT1S to P1D")},
    {.name = "gateAfter", .parse = vr_model_texts, .offset = MODEL(policy.gate_after)},
    {.name = "approval", .parse = vr_model_boolean, .offset = MODEL(policy.approval)},
    {0},
};

static gboolean parse_use_policy(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                 GError **error)
{
    return vr_model_boolean(parser, value, key, &parser->use_rolling_policy, error);
}

static gboolean parse_checkpoints(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                  GError **error)
{
    guint8 *checkpoints = target;
    guint percent, last = 0;

    if (value->kind != VR_YAML_LIST || value->values->len == 0 || value->values->len > VR_CHECKPOINTS)
        return vr_model_fail(parser, value->line, error, "must be a list of 1 to %d percentages", VR_CHECKPOINTS);
    for (guint i = 0; i < value->values->len; i++) {
        const VrYamlNode *item = value->values->pdata[i];

        if (!vr_model_number(parser, item, key, &percent, error))
            return FALSE;
        if (percent <= last)
            return vr_model_fail(parser, item->line, error, "%u does not follow %u: they must ascend", percent, last);
        checkpoints[i] = (guint8)percent;
        last = percent;
    }
    return TRUE;
}

static const VrUpgradePolicy defaults = {
    .max_batch_percent = 20,
    .max_unhealthy_percent = 20,
    .max_unhealthy_upgraded_percent = 20,
    .checkpoint_wait_ms = 3600000, /* D15 */
    .gate_timeout_ms = 60000,
    .prepare_ahead = TRUE,
    .prioritize_unhealthy = TRUE,
    .automatic_rollback = TRUE,
};

void vr_model_policy_defaults(VrUpgradePolicy *policy)
{
    *policy = defaults;
}

void vr_model_policy_clear(VrUpgradePolicy *policy)
{
    g_strfreev(policy->gate);
    g_strfreev(policy->gate_after);
}

/* Decision 2. */
static gboolean check_percents(VrModelParser *parser, const VrUpgradePolicy *policy, GError **error)
{
    g_autofree char *text = NULL;

    if (policy->max_batch_percent <= policy->max_unhealthy_percent)
        return TRUE;
    if (vr_model_line(parser, ROLLING "maxBatchInstancePercent") != 0) {
        text = g_strdup_printf("%u is above maxUnhealthyInstancePercent (%u)", policy->max_batch_percent,
                               policy->max_unhealthy_percent);
        return vr_model_fail_at(parser, ROLLING "maxBatchInstancePercent", text, error);
    }
    text = g_strdup_printf("%u is below maxBatchInstancePercent (%u, its default)", policy->max_unhealthy_percent,
                           policy->max_batch_percent);
    return vr_model_fail_at(parser, ROLLING "maxUnhealthyInstancePercent", text, error);
}

gboolean vr_model_check_policy(VrModelParser *parser, VrUpgradePolicy *policy, GError **error)
{
    if (!parser->use_rolling_policy) { /* D28 */
        policy->max_batch_percent = defaults.max_batch_percent;
        policy->max_unhealthy_percent = defaults.max_unhealthy_percent;
        policy->max_unhealthy_upgraded_percent = defaults.max_unhealthy_upgraded_percent;
        policy->pause_ms = defaults.pause_ms;
    }
    if (vr_model_line(parser, POLICY "checkpoints") != 0 && policy->checkpoints[0] == 0)
        return vr_model_fail_at(parser, POLICY "checkpoints", "percent is missing", error);
    return check_percents(parser, policy, error) &&
           vr_model_check_program(parser, POLICY "gate", policy->gate, error) &&
           vr_model_check_program(parser, POLICY "gateAfter", policy->gate_after, error);
}
