/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_change.h"

#include "base/clock.h"
#include "orchestrator/model_extensions.h"
#include "orchestrator/model_offline.h"
#include "orchestrator/model_outside.h"
#include "orchestrator/model_profile.h"

#include <string.h>

const char *vr_change_class_name(VrChangeClass meaning)
{
    static const char *const names[] = {"live", "at next reimage", "refused"};

    return names[meaning];
}

const char *vr_change_limit_name(VrChangeLimit limit)
{
    static const char *const names[] = {NULL, "refused while a run is active",
                                        "refused once an instance was swapped or adopted", "refused to rename a role"};

    return names[limit];
}

/* --- values as texts --------------------------------------------------------------------------------- */

static char *show_text(const VrChangeRule *rule, const void *field)
{
    return g_strdup(*(char *const *)field);
}

static char *show_number(const VrChangeRule *rule, const void *field)
{
    guint number = *(const guint *)field;

    return number == 0 ? NULL : g_strdup_printf("%u", number);
}

static char *show_percent(const VrChangeRule *rule, const void *field)
{
    return g_strdup_printf("%u", *(const guint *)field);
}

static char *show_boolean(const VrChangeRule *rule, const void *field)
{
    return g_strdup(*(const gboolean *)field ? "true" : "false");
}

static char *show_opposite(const VrChangeRule *rule, const void *field)
{
    return g_strdup(*(const gboolean *)field ? "false" : "true");
}

static char *show_span(const VrChangeRule *rule, const void *field)
{
    gint64 ms = *(const gint64 *)field;

    return ms == 0 ? NULL : vr_clock_format_duration(ms);
}

static char *show_texts(const VrChangeRule *rule, const void *field)
{
    char *const *texts = *(char *const *const *)field;

    return texts == NULL || texts[0] == NULL ? NULL : g_strjoinv(" ", (char **)texts);
}

static char *show_choice(const VrChangeRule *rule, const void *field)
{
    return g_strdup(rule->names[*(const int *)field]);
}

static char *show_extensions(const VrChangeRule *rule, const void *field)
{
    return vr_model_extensions_text(*(GPtrArray *const *)field);
}

static char *show_data(const VrChangeRule *rule, const void *field)
{
    return vr_model_data_text(field);
}

static char *show_meta(const VrChangeRule *rule, const void *field)
{
    return vr_model_meta_text(*(GPtrArray *const *)field);
}

static char *show_keys(const VrChangeRule *rule, const void *field)
{
    return vr_model_keys_text(*(GPtrArray *const *)field);
}

static char *show_offline_files(const VrChangeRule *rule, const void *field)
{
    return vr_model_offline_files_text(*(GPtrArray *const *)field);
}

static char *show_offline_keys(const VrChangeRule *rule, const void *field)
{
    return vr_model_offline_keys_text(*(GPtrArray *const *)field);
}

static char *show_checkpoints(const VrChangeRule *rule, const void *field)
{
    const guint8 *percent = field;
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < VR_CHECKPOINTS && percent[i] > 0; i++)
        g_string_append_printf(text, "%s%u", i > 0 ? ", " : "", percent[i]);
    return g_string_free(text, text->len == 0);
}

static char *show_resources(const VrChangeRule *rule, const void *field)
{
    return vr_model_outside_text(*(GPtrArray *const *)field);
}

/* --- the table --------------------------------------------------------------------------------------- */

static const char *const modes[] = {
    [VR_MODE_MANUAL] = "Manual", [VR_MODE_ROLLING] = "Rolling", [VR_MODE_AUTOMATIC] = "Automatic"};
static const char *const batches[] = {"percent", "upgradeDomain"};
static const char *const sources[] = {[VR_HEALTH_SOURCE_POWER] = NULL,
                                      [VR_HEALTH_SOURCE_AGENT_FILE] = "agent",
                                      [VR_HEALTH_SOURCE_AGENT_COMMAND] = "agent",
                                      [VR_HEALTH_SOURCE_HTTP] = "http",
                                      [VR_HEALTH_SOURCE_HTTPS] = "https",
                                      [VR_HEALTH_SOURCE_TCP] = "tcp"};
static const char *const kinds[] = {[VR_OS_DISK_OVERLAY] = "overlay", [VR_OS_DISK_FULL] = "full"};
static const char *const contents[] = {
    [VR_PROOF_NONE] = "none", [VR_PROOF_SAMPLED] = "sampled", [VR_PROOF_WHOLE] = "whole"};
static const char *const updates[] = {
    [VR_WINDOWS_UPDATES_NOT_GIVEN] = NULL, [VR_WINDOWS_UPDATES_OFF] = "false", [VR_WINDOWS_UPDATES_ON] = "true"};
static const char *const carry_sources[] = {"guest", "disk"};
static const char *const refusals[] = {"refuse", "proceed"};
static const char *const methods[] = {[VR_STOP_AUTO] = "auto", [VR_STOP_AGENT] = "agent", [VR_STOP_ACPI] = "acpi"};

#define SHOWN(how, type, field) .show = show_##how, .offset = G_STRUCT_OFFSET(type, field)
#define LIVE(key_, how, field)                                                                                         \
    {                                                                                                                  \
        .key = (key_), .meaning = VR_CHANGE_LIVE, SHOWN(how, VrModel, field)                                           \
    }
#define LIVE_CHOICE(key_, field, names_)                                                                               \
    {                                                                                                                  \
        .key = (key_), .meaning = VR_CHANGE_LIVE, SHOWN(choice, VrModel, field), .names = (names_)                     \
    }
#define OF_INSTANCE(key_, how, field)                                                                                  \
    {                                                                                                                  \
        .key = "instances[]." key_, .meaning = VR_CHANGE_LIVE, SHOWN(how, VrModelInstance, field)                      \
    }
#define ANOTHER_SET "another image altogether is another set: 'set-undefine' forgets this one, guests stay as they are"
#define BY_UPGRADE "'upgrade' brings it"

/* What is on a seed comes with a new disk. */
#define PROFILE(key_, how, field)                                                                                      \
    {                                                                                                                  \
        .key = "osProfile." key_, .meaning = VR_CHANGE_REIMAGE, .revision = TRUE,                                      \
        .note = "'apply' brings it, and so does every other run that makes a new disk",                                \
        SHOWN(how, VrModel, os_profile.field)                                                                          \
    }

/* The disk that runs has it already. */
#define CARRIED(key_, how, field)                                                                                      \
    .key = "osProfile." key_, .meaning = VR_CHANGE_REIMAGE,                                                            \
    .note = "it counts for every new disk from the next run on; the one that runs has nothing to be brought",          \
    SHOWN(how, VrModel, os_profile.carry.field)

#define POLICY "upgradePolicy."
#define AUTOMATIC POLICY "automaticOSUpgradePolicy."
#define ROLLING POLICY "rollingUpgradePolicy."
#define PROBE "healthProfile.applicationHealth."
#define OFFLINE "offlineConfiguration."
#define NOTICE "scheduledEventsProfile.osImageNotificationProfile."

const VrChangeRule vr_change_rules[] = {
    /* A4: the first two say what an image is; a move to another SKU is an edit that a person makes. */
    {.key = "imageReference.publisher", .meaning = VR_CHANGE_REFUSED, .note = ANOTHER_SET},
    {.key = "imageReference.offer", .meaning = VR_CHANGE_REFUSED, .note = ANOTHER_SET},
    {.key = "imageReference.sku", .meaning = VR_CHANGE_REIMAGE, .note = BY_UPGRADE},
    {.key = "imageReference.name", .meaning = VR_CHANGE_REIMAGE, .note = BY_UPGRADE},
    {.key = "imageReference.version", .meaning = VR_CHANGE_REIMAGE, .note = BY_UPGRADE, SHOWN(text, VrModel, version)},
    {.key = "upgradeDomainCount",
     .meaning = VR_CHANGE_LIVE,
     .limit = VR_CHANGE_NOT_IN_A_RUN,
     .note = "instances keep the upgrade domains that still exist",
     SHOWN(number, VrModel, upgrade_domain_count)},
    LIVE_CHOICE(POLICY "mode", mode, modes),
    LIVE(AUTOMATIC "enableAutomaticOSUpgrade", boolean, automatic),
    LIVE(AUTOMATIC "disableAutomaticRollback", opposite, policy.automatic_rollback),
    LIVE(ROLLING "maxBatchInstancePercent", percent, policy.max_batch_percent),
    LIVE(ROLLING "maxUnhealthyInstancePercent", percent, policy.max_unhealthy_percent),
    LIVE(ROLLING "maxUnhealthyUpgradedInstancePercent", percent, policy.max_unhealthy_upgraded_percent),
    LIVE(ROLLING "pauseTimeBetweenBatches", span, policy.pause_ms),
    LIVE(ROLLING "prioritizeUnhealthyInstances", boolean, policy.prioritize_unhealthy),
    LIVE(ROLLING "rollbackFailedInstancesOnPolicyBreach", boolean, policy.restore_on_breach),
    LIVE(ROLLING "enableCrossZoneUpgrade", boolean, policy.cross_zone),
    LIVE_CHOICE(POLICY "batchBy", policy.by_domain, batches),
    LIVE(POLICY "checkpoints.percent", checkpoints, policy.checkpoints),
    LIVE(POLICY "checkpoints.wait", span, policy.checkpoint_wait_ms),
    LIVE(POLICY "prepareAhead", boolean, policy.prepare_ahead),
    LIVE(POLICY "maxInFlightPerHost", number, policy.max_in_flight),
    LIVE(POLICY "bakeTime", span, policy.bake_ms),
    LIVE(POLICY "timeout", span, policy.timeout_ms),
    LIVE(POLICY "maxDowntime", span, policy.max_off_ms),
    LIVE(POLICY "gate", texts, policy.gate),
    LIVE(POLICY "gateTimeout", span, policy.gate_timeout_ms),
    LIVE(POLICY "gateAfter", texts, policy.gate_after),
    LIVE(POLICY "approval", boolean, policy.approval),
    LIVE_CHOICE(PROBE "protocol", health.source, sources),
    LIVE(PROBE "port", number, health.port),
    LIVE(PROBE "requestPath", text, health.request_path),
    LIVE(PROBE "caFile", text, health.ca_file),
    LIVE(PROBE "serverName", text, health.server_name),
    LIVE(PROBE "command", texts, health.command),
    LIVE(PROBE "file", text, health.file),
    LIVE(PROBE "intervalInSeconds", span, health.interval_ms),
    LIVE(PROBE "numberOfProbes", number, health.number_of_probes),
    LIVE(PROBE "gracePeriod", span, health.grace_period_ms),
    LIVE(NOTICE "enable", boolean, notice.enable),
    LIVE(NOTICE "notBeforeTimeout", span, notice.not_before_ms),
    LIVE(NOTICE "file", text, notice.file),
    LIVE(NOTICE "command", texts, notice.command),
    LIVE(NOTICE "approvalFile", text, notice.approval_file),
    LIVE(NOTICE "approvalCommand", texts, notice.approval_command),
    LIVE(NOTICE "busyFile", text, notice.busy_file),
    LIVE(NOTICE "busyCommand", texts, notice.busy_command),
    LIVE(NOTICE "busyLimit", span, notice.busy_limit_ms),
    LIVE_CHOICE(NOTICE "onBusyLimit", notice.goes_though_busy, refusals),
    LIVE_CHOICE(NOTICE "withoutAgent", notice.goes_without_agent, refusals),
    LIVE("healthProfile.healthTimeout", span, health.timeout_ms),
    LIVE("healthProfile.startTimeout", span, health.start_timeout_ms),
    PROFILE("computerName", text, computer_name),
    PROFILE("customData", data, custom_data),
    PROFILE("vendorData", data, vendor_data),
    PROFILE("networkConfig", data, network_config),
    PROFILE("metaData", meta, meta_data),
    PROFILE("linuxConfiguration.ssh.publicKeys", keys, public_keys),
    PROFILE(OFFLINE "hostname", text, offline.hostname),
    PROFILE(OFFLINE "machineId", text, offline.machine_id),
    PROFILE(OFFLINE "timezone", text, offline.timezone),
    PROFILE(OFFLINE "sshHostKeys", text, offline.host_key_dir),
    PROFILE(OFFLINE "authorizedKeys", offline_keys, offline.authorized),
    PROFILE(OFFLINE "files", offline_files, offline.files),
    PROFILE(OFFLINE "networkFiles", offline_files, offline.network_files),
    PROFILE(OFFLINE "firstBoot", data, offline.first_boot),
    PROFILE(OFFLINE "unattend", data, offline.unattend),
    PROFILE(OFFLINE "selinuxRelabel", opposite, offline.no_relabel),
    {CARRIED("carryOver", texts, what)},
    {CARRIED("carryOverFrom", choice, from_disk), .names = carry_sources},
    {.key = "extensionProfile.extensions",
     .meaning = VR_CHANGE_REIMAGE,
     .revision = TRUE,
     .note = "'apply' brings it, and so does every other run that makes a new disk",
     SHOWN(extensions, VrModel, extensions)},
    LIVE_CHOICE("osProfile.windowsConfiguration.enableAutomaticUpdates", os_profile.windows_updates, updates),
    LIVE("externalResources", resources, outside),
    {.key = "osDisk.kind",
     .meaning = VR_CHANGE_REIMAGE,
     .revision = TRUE,
     .note = "'apply' brings it, and so does every other run that makes a new disk",
     SHOWN(choice, VrModel, os_disk_kind),
     .names = kinds},
    {.key = "osDisk.target",
     .meaning = VR_CHANGE_LIVE,
     .limit = VR_CHANGE_NOT_ONCE_SWAPPED,
     .note = "generations belong to the disk that they were made for; 'set-undefine' lets go of them",
     SHOWN(text, VrModel, os_target)},
    LIVE("tempDisks", texts, temp_disks),
    LIVE_CHOICE("stop.method", stop.method, methods),
    LIVE("stop.timeout", span, stop.timeout_ms),
    LIVE("stop.force", boolean, stop.force),
    LIVE_CHOICE("dataDiskProof.content", data_proof, contents),
    LIVE("maintenanceWindow.schedule", text, window.schedule),
    LIVE("maintenanceWindow.duration", span, window.duration_ms),
    LIVE("retention.runs", number, history.runs),
    LIVE("retention.runsMaxAge", span, history.max_age_ms),
    LIVE("retention.generations", number, retention.generations),
    LIVE("retention.maxAge", span, retention.max_age_ms),
    LIVE("retention.failedDisks", number, retention.failed_disks),
    {.key = "instances[]", .meaning = VR_CHANGE_LIVE}, /* joins, or leaves */
    {.key = "instances[].role",
     .meaning = VR_CHANGE_LIVE,
     .limit = VR_CHANGE_NOT_TO_RENAME,
     .note = "a role keeps its name, by which its upgrade domains were dealt out; instances may change to a role that "
             "others have",
     SHOWN(text, VrModelInstance, role.name)},
    OF_INSTANCE("zone", text, zone.name),
    OF_INSTANCE("phase", number, phase),
    OF_INSTANCE("pair", text, pair.name),
    OF_INSTANCE("address", text, address),
    OF_INSTANCE("protectDisks", texts, protect_disks),
    OF_INSTANCE("protectionPolicy.protectFromScaleSetActions", boolean, is_protected),
    {.key = "instances[].version",
     .meaning = VR_CHANGE_REIMAGE,
     .note = "'reimage' with --version brings it; 'upgrade' where the pin is taken away",
     SHOWN(text, VrModelInstance, version)},
    {0},
};

/* --- comparing --------------------------------------------------------------------------------------- */

typedef struct {
    const VrModel *before, *after;
    const VrChangeContext *context;
    GHashTable *had, *has;              /* id -> VrModelInstance */
    GHashTable *roles_then, *roles_now; /* sets of names */
    GPtrArray *changes;
} Comparison;

static void change_free(VrModelChange *change)
{
    g_free(change->key);
    g_free(change->from);
    g_free(change->to);
    g_free(change);
}

static gboolean of_instance(const VrChangeRule *rule)
{
    return g_str_has_prefix(rule->key, "instances[]");
}

static const VrChangeRule *rule_of(const char *key)
{
    const VrChangeRule *rule = vr_change_rules;

    while (!g_str_equal(rule->key, key))
        rule++;
    return rule;
}

/* Takes key. */
static void add(Comparison *all, const VrChangeRule *rule, char *key, VrChangeClass meaning, const char *from,
                const char *to)
{
    VrModelChange *change = g_new0(VrModelChange, 1);

    *change = (VrModelChange){.rule = rule, .key = key, .from = g_strdup(from), .to = g_strdup(to), .meaning = meaning};
    g_ptr_array_add(all->changes, change);
}

static char *shown(const VrChangeRule *rule, const void *of)
{
    return rule->show(rule, (const char *)of + rule->offset);
}

/* The old one is gone and the new one was not there: that is the same role under another name. */
static gboolean is_renamed(const Comparison *all, const char *from, const char *to)
{
    return from != NULL && to != NULL && !g_hash_table_contains(all->roles_now, from) &&
           !g_hash_table_contains(all->roles_then, to);
}

static gboolean is_limited(const Comparison *all, VrChangeLimit limit, const char *from, const char *to)
{
    switch (limit) {
    case VR_CHANGE_NOT_IN_A_RUN:
        return all->context->running;
    case VR_CHANGE_NOT_ONCE_SWAPPED:
        return all->context->swapped && from != NULL &&
               to != NULL; /* to say, or not to say, what is found is no move */
    case VR_CHANGE_NOT_TO_RENAME:
        return is_renamed(all, from, to);
    default:
        return FALSE;
    }
}

static VrChangeClass meaning_of(const Comparison *all, const VrChangeRule *rule, const char *from, const char *to)
{
    return is_limited(all, rule->limit, from, to) ? VR_CHANGE_REFUSED : rule->meaning;
}

static void compare_value(Comparison *all, const VrChangeRule *rule)
{
    g_autofree char *from = shown(rule, all->before), *to = shown(rule, all->after);

    if (g_strcmp0(from, to) != 0)
        add(all, rule, g_strdup(rule->key), meaning_of(all, rule, from, to), from, to);
}

/* --- the image --------------------------------------------------------------------------------------- */

/* What the model says goes before what the store knows. */
static VrImageNames names_of(const VrModel *model, const VrImageNames *known)
{
    VrImageNames names = *known;

    if (model->image_name != NULL)
        names.name = model->image_name;
    else
        names = (VrImageNames){names.name, model->publisher, model->offer, model->sku};
    return names;
}

static gboolean compare_name(Comparison *all, const char *key, const char *from, const char *to)
{
    const VrChangeRule *rule = rule_of(key);

    if (from == NULL || to == NULL || g_str_equal(from, to))
        return FALSE;
    add(all, rule, g_strdup(key), rule->meaning, from, to);
    return TRUE;
}

static char *reference_of(const VrModel *model)
{
    if (model->image_name != NULL)
        return g_strdup(model->image_name);
    return g_strdup_printf("%s/%s/%s", model->publisher, model->offer, model->sku);
}

/* A4. An image may be spelled in two ways: the same one in the other spelling is no change. */
static void compare_image(Comparison *all)
{
    VrImageNames from = names_of(all->before, &all->context->before), to = names_of(all->after, &all->context->after);
    g_autofree char *was = reference_of(all->before), *is = reference_of(all->after);
    gboolean said;

    said = compare_name(all, "imageReference.publisher", from.publisher, to.publisher);
    said = compare_name(all, "imageReference.offer", from.offer, to.offer) || said;
    said = compare_name(all, "imageReference.sku", from.sku, to.sku) || said;
    if (!said && (from.name == NULL || to.name == NULL || !g_str_equal(from.name, to.name)))
        compare_name(all, "imageReference.name", was, is);
}

/* --- instances --------------------------------------------------------------------------------------- */

static const char *id_of(const VrModel *model, const char *const *ids, guint index)
{
    return ids != NULL ? ids[index] : ((const VrModelInstance *)model->instances->pdata[index])->domain;
}

static GHashTable *by_id(const VrModel *model, const char *const *ids)
{
    GHashTable *table = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < model->instances->len; i++)
        g_hash_table_insert(table, (char *)id_of(model, ids, i), model->instances->pdata[i]);
    return table;
}

static GHashTable *roles_of(const VrModel *model)
{
    GHashTable *roles = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < model->instances->len; i++) {
        const VrModelInstance *instance = model->instances->pdata[i];
        if (instance->role.name != NULL)
            g_hash_table_add(roles, (char *)instance->role.name);
    }
    return roles;
}

static char *key_of(const VrChangeRule *rule, const VrModelInstance *instance)
{
    return g_strdup_printf("instances[%s]%s", instance->domain, rule->key + strlen("instances[]"));
}

static void compare_instance(Comparison *all, const VrModelInstance *before, const VrModelInstance *after)
{
    for (const VrChangeRule *rule = vr_change_rules; rule->key != NULL; rule++) {
        g_autofree char *from = NULL, *to = NULL;

        if (!of_instance(rule) || rule->show == NULL)
            continue;
        from = shown(rule, before);
        to = shown(rule, after);
        if (g_strcmp0(from, to) != 0)
            add(all, rule, key_of(rule, after), meaning_of(all, rule, from, to), from, to);
    }
}

static void compare_instances(Comparison *all)
{
    const VrChangeRule *there = rule_of("instances[]");

    for (guint i = 0; i < all->after->instances->len; i++) {
        const VrModelInstance *instance = all->after->instances->pdata[i];
        const VrModelInstance *was = g_hash_table_lookup(all->had, id_of(all->after, all->context->after_ids, i));

        if (was != NULL)
            compare_instance(all, was, instance);
        else
            add(all, there, key_of(there, instance), there->meaning, NULL, "joins the set");
    }
    for (guint i = 0; i < all->before->instances->len; i++) {
        const VrModelInstance *instance = all->before->instances->pdata[i];

        if (g_hash_table_lookup(all->has, id_of(all->before, all->context->before_ids, i)) == NULL)
            add(all, there, key_of(there, instance), there->meaning, NULL, "leaves the set, and goes on as it is");
    }
}

GPtrArray *vr_model_compare(const VrModel *before, const VrModel *after, const VrChangeContext *context)
{
    Comparison all = {.before = before,
                      .after = after,
                      .context = context,
                      .had = by_id(before, context->before_ids),
                      .has = by_id(after, context->after_ids),
                      .roles_then = roles_of(before),
                      .roles_now = roles_of(after),
                      .changes = g_ptr_array_new_with_free_func((GDestroyNotify)change_free)};

    compare_image(&all);
    for (const VrChangeRule *rule = vr_change_rules; rule->key != NULL; rule++)
        if (!of_instance(rule) && rule->show != NULL)
            compare_value(&all, rule);
    compare_instances(&all);
    g_hash_table_unref(all.had);
    g_hash_table_unref(all.has);
    g_hash_table_unref(all.roles_then);
    g_hash_table_unref(all.roles_now);
    return all.changes;
}

gboolean vr_model_needs_revision(const VrModel *before, const VrModel *after)
{
    for (const VrChangeRule *rule = vr_change_rules; rule->key != NULL; rule++) {
        g_autofree char *from = rule->revision ? shown(rule, before) : NULL;
        g_autofree char *to = rule->revision ? shown(rule, after) : NULL;

        if (rule->revision && g_strcmp0(from, to) != 0)
            return TRUE;
    }
    return FALSE;
}
