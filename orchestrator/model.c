/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The vocabulary of a set file as tables, its defaults, and what must hold between keys. How a value is read is in
 * model_keys.c. What DESIGN names and this version cannot do yet has its row here, so that it is refused by its name.
 */
#include "orchestrator/model.h"

#include "orchestrator/address.h"
#include "orchestrator/model_health.h"
#include "orchestrator/model_keys.h"

#include <string.h>

#define ROLLING "upgradePolicy.rollingUpgradePolicy."

/* libvirt's own rules: any UTF-8 but '/' and control characters. */
static const char *domain_name(const char *text)
{
    if (text[0] == '\0')
        return "must be the name or the UUID of a domain";
    for (const char *at = text; *at != '\0'; at = g_utf8_next_char(at)) {
        if (*at == '/' || g_unichar_iscntrl(g_utf8_get_char(at)))
            return "is no name of a domain: it has a slash or a control character";
    }
    return NULL;
}

static const char *disk_target(const char *text)
{
    gsize length = strlen(text);

    if (length == 0 || length > 16 || !g_ascii_islower(text[0]) ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") != length)
        return "is no target of a disk, such as vda";
    return NULL;
}

static const char *instance_address(const char *text)
{
    return vr_address_parse(text, NULL, NULL);
}

static gboolean parse_use_policy(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                 GError **error);
static gboolean parse_schema(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error);
static gboolean parse_instances(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                GError **error);

static gboolean parse_pin(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error);

#define MODEL(field) G_STRUCT_OFFSET(VrModel, field)
#define SECTION(keys) .parse = vr_model_section, .offset = 0, .data = (keys)
#define NOT_YET .parse = vr_model_not_yet, .offset = VR_NOWHERE
#define ONLY(boolean) .parse = vr_model_only, .offset = VR_NOWHERE, .min = (boolean)
#define PERCENT(least, field) .parse = vr_model_number, .offset = MODEL(policy.field), .min = (least), .max = 100

static const VrModelKey image_keys[] = {
    {.name = "name", .parse = vr_model_short_name, .offset = MODEL(image_name), .data = "image"},
    {.name = "publisher", .parse = vr_model_short_name, .offset = MODEL(publisher), .data = "publisher"},
    {.name = "offer", .parse = vr_model_short_name, .offset = MODEL(offer), .data = "offer"},
    {.name = "sku", .parse = vr_model_short_name, .offset = MODEL(sku), .data = "SKU"},
    {.name = "version", .parse = vr_model_version, .offset = MODEL(version)},
    {0},
};

static const VrModelKey automatic_keys[] = {
    {.name = "enableAutomaticOSUpgrade", ONLY(FALSE)},
    {.name = "useRollingUpgradePolicy", .parse = parse_use_policy, .offset = VR_NOWHERE},
    {.name = "disableAutomaticRollback", .parse = vr_model_boolean_not, .offset = MODEL(policy.automatic_rollback)},
    {0},
};

static const VrModelKey rolling_keys[] = {
    {.name = "maxBatchInstancePercent", PERCENT(5, max_batch_percent)},
    {.name = "BatchInstancePercent", PERCENT(5, max_batch_percent), .same_as = "maxBatchInstancePercent"},
    {.name = "maxUnhealthyInstancePercent", PERCENT(5, max_unhealthy_percent)},
    {.name = "maxUnhealthyUpgradedInstancePercent", PERCENT(0, max_unhealthy_upgraded_percent)},
    {.name = "pauseTimeBetweenBatches",
     .parse = vr_model_duration,
     .offset = MODEL(policy.pause_ms),
     .max = 172800000,
     .data = "PT0S to P2D"},
    {.name = "prioritizeUnhealthyInstances", .parse = vr_model_boolean, .offset = MODEL(policy.prioritize_unhealthy)},
    {.name = "rollbackFailedInstancesOnPolicyBreach", ONLY(FALSE)},
    {.name = "enableCrossZoneUpgrade", ONLY(FALSE)},
    {.name = "maxSurge", ONLY(FALSE)},
    {0},
};

static const VrModelChoice modes[] = {
    {"Manual", VR_MODE_MANUAL}, {"Rolling", VR_NOT_YET}, {"Automatic", VR_NOT_YET}, {0}};
static const VrModelChoice batch_kinds[] = {{"percent", 0}, {"upgradeDomain", VR_NOT_YET}, {0}};

static const VrModelKey upgrade_keys[] = {
    {.name = "mode", .parse = vr_model_choice, .offset = MODEL(mode), .data = modes},
    {.name = "automaticOSUpgradePolicy", SECTION(automatic_keys)},
    {.name = "rollingUpgradePolicy", SECTION(rolling_keys)},
    {.name = "batchBy", .parse = vr_model_choice, .offset = VR_NOWHERE, .data = batch_kinds},
    {0},
};

static const VrModelChoice disk_kinds[] = {{"overlay", VR_OS_DISK_OVERLAY}, {"full", VR_OS_DISK_FULL}, {0}};

const char *vr_os_disk_kind_name(VrOsDiskKind kind)
{
    return disk_kinds[kind].name;
}

static const VrModelKey os_disk_keys[] = {
    {.name = "kind", .parse = vr_model_choice, .offset = MODEL(os_disk_kind), .data = disk_kinds},
    {.name = "target", .parse = vr_model_text, .offset = MODEL(os_target), .check = disk_target},
    {0},
};

static const VrModelChoice stop_methods[] = {
    {"auto", VR_STOP_AUTO}, {"agent", VR_STOP_AGENT}, {"acpi", VR_STOP_ACPI}, {0}};

static const VrModelKey stop_keys[] = {
    {.name = "method", .parse = vr_model_choice, .offset = MODEL(stop.method), .data = stop_methods},
    {.name = "timeout",
     .parse = vr_model_duration,
     .offset = MODEL(stop.timeout_ms),
     .min = 1000,
     .max = 86400000,
     .data = "PT1S to P1D"},
    {.name = "force", .parse = vr_model_boolean, .offset = MODEL(stop.force)},
    {0},
};

static const VrModelKey instance_keys[] = {
    {.name = "domain",
     .parse = vr_model_text,
     .offset = G_STRUCT_OFFSET(VrModelInstance, domain),
     .check = domain_name},
    {.name = "role", NOT_YET},
    {.name = "zone", NOT_YET},
    {.name = "phase", NOT_YET},
    {.name = "pair", NOT_YET},
    {.name = "address",
     .parse = vr_model_text,
     .offset = G_STRUCT_OFFSET(VrModelInstance, address),
     .check = instance_address},
    {.name = "version", .parse = parse_pin, .offset = G_STRUCT_OFFSET(VrModelInstance, version)},
    {.name = "protectDisks", NOT_YET},
    {.name = "protectionPolicy", NOT_YET},
    {0},
};

static const VrModelKey model_keys[] = {
    {.name = "schemaVersion", .parse = parse_schema, .offset = VR_NOWHERE},
    {.name = "name", .parse = vr_model_short_name, .offset = MODEL(name), .data = "set"},
    {.name = "imageReference", SECTION(image_keys)},
    {.name = "upgradeDomainCount",
     .parse = vr_model_number,
     .offset = MODEL(upgrade_domain_count),
     .min = 1,
     .max = 20},
    {.name = "upgradePolicy", SECTION(upgrade_keys)},
    {.name = "healthProfile", SECTION(vr_model_health_keys)},
    {.name = "osProfile", NOT_YET},
    {.name = "extensionProfile", NOT_YET},
    {.name = "osDisk", SECTION(os_disk_keys)},
    {.name = "tempDisks", .parse = vr_model_texts, .offset = MODEL(temp_disks), .check = disk_target},
    {.name = "stop", SECTION(stop_keys)},
    {.name = "retention", NOT_YET},
    {.name = "maintenanceWindow", NOT_YET},
    {.name = "instances", .parse = parse_instances, .offset = MODEL(instances)},
    {0},
};

static gboolean parse_use_policy(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                 GError **error)
{
    return vr_model_boolean(parser, value, key, &parser->use_rolling_policy, error);
}

static gboolean parse_schema(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error)
{
    if (value->kind == VR_YAML_SCALAR && value->plain && g_str_equal(value->text, "1"))
        return TRUE;
    return vr_model_fail(parser, value->line, error, "must be 1");
}

/* An instance that is to follow latest has no pin. */
static gboolean parse_pin(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    char **version = target;

    if (!vr_model_version(parser, value, key, target, error))
        return FALSE;
    if (!g_str_equal(*version, "latest"))
        return TRUE;
    return vr_model_fail(parser, value->line, error,
                         "must be the number of a version; an instance without it takes that of the set");
}

static void instance_free(VrModelInstance *instance)
{
    g_free(instance->domain);
    g_free(instance->version);
    g_free(instance->address);
    g_free(instance);
}

static gboolean parse_instance(VrModelParser *parser, const VrYamlNode *item, guint index, GPtrArray *instances,
                               GHashTable *names, GError **error)
{
    gsize length = parser->path->len;
    VrModelInstance *instance = g_new0(VrModelInstance, 1);
    char *name;

    g_ptr_array_add(instances, instance);
    instance->line = item->line;
    g_string_append_printf(parser->path, "[%u]", index);
    if (!vr_model_keys(parser, item, instance_keys, instance, error))
        return FALSE;
    if (instance->domain == NULL)
        return vr_model_fail(parser, item->line, error, "domain is missing");
    name =
        g_uuid_string_is_valid(instance->domain) ? g_ascii_strdown(instance->domain, -1) : g_strdup(instance->domain);
    if (!g_hash_table_add(names, name))
        return vr_model_fail(parser, item->line, error, "the domain %s is named twice", instance->domain);
    g_string_truncate(parser->path, length);
    return TRUE;
}

static gboolean parse_instances(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                GError **error)
{
    GPtrArray *instances = *(GPtrArray **)target;
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    if (value->kind != VR_YAML_LIST || value->values->len == 0)
        return vr_model_fail(parser, value->line, error, "must be a list of at least one instance ({domain: NAME})");
    for (guint i = 0; i < value->values->len; i++) {
        if (!parse_instance(parser, value->values->pdata[i], i, instances, names, error))
            return FALSE;
    }
    return TRUE;
}

static const VrUpgradePolicy default_policy = {
    .max_batch_percent = 20,
    .max_unhealthy_percent = 20,
    .max_unhealthy_upgraded_percent = 20,
    .prioritize_unhealthy = TRUE,
    .automatic_rollback = TRUE,
};

static VrModel *model_new(void)
{
    VrModel *model = g_new0(VrModel, 1);

    model->upgrade_domain_count = 5; /* D7 */
    model->mode = VR_MODE_MANUAL;
    model->policy = default_policy;
    vr_model_health_defaults(&model->health);
    model->temp_disks = g_new0(char *, 1);
    model->stop = (VrStopPolicy){.method = VR_STOP_AUTO, .timeout_ms = 120000};
    model->instances = g_ptr_array_new_with_free_func((GDestroyNotify)instance_free);
    return model;
}

void vr_model_free(VrModel *model)
{
    if (model == NULL)
        return;
    g_free(model->name);
    g_free(model->image_name);
    g_free(model->publisher);
    g_free(model->offer);
    g_free(model->sku);
    g_free(model->version);
    vr_model_health_clear(&model->health);
    g_free(model->os_target);
    g_strfreev(model->temp_disks);
    g_ptr_array_unref(model->instances);
    g_free(model);
}

static gboolean check_image(VrModelParser *parser, VrModel *model, GError **error)
{
    gboolean some = model->publisher != NULL || model->offer != NULL || model->sku != NULL;
    gboolean all = model->publisher != NULL && model->offer != NULL && model->sku != NULL;

    if (model->image_name != NULL && some)
        return vr_model_fail_at(parser, "imageReference",
                                "has a name and a publisher, offer or sku: give one of the two", error);
    if (model->image_name == NULL && !all)
        return vr_model_fail_at(parser, "imageReference", "must have a name, or publisher, offer and sku", error);
    if (model->version == NULL)
        model->version = g_strdup("latest");
    return TRUE;
}

static gboolean check_policy(VrModelParser *parser, VrModel *model, GError **error)
{
    VrUpgradePolicy *policy = &model->policy;
    g_autofree char *text = NULL;

    if (!parser->use_rolling_policy) { /* D28 */
        policy->max_batch_percent = default_policy.max_batch_percent;
        policy->max_unhealthy_percent = default_policy.max_unhealthy_percent;
        policy->max_unhealthy_upgraded_percent = default_policy.max_unhealthy_upgraded_percent;
        policy->pause_ms = default_policy.pause_ms;
    }
    if (policy->max_batch_percent <= policy->max_unhealthy_percent) /* decision 2 */
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

static gboolean check_disks(VrModelParser *parser, VrModel *model, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; model->temp_disks[i] != NULL; i++) {
        if (g_strcmp0(model->temp_disks[i], model->os_target) == 0)
            return vr_model_fail_at(parser, "tempDisks", "the OS disk cannot be a temp disk", error);
        if (!g_hash_table_add(seen, model->temp_disks[i]))
            return vr_model_fail_at(parser, "tempDisks", "a disk is named twice", error);
    }
    return TRUE;
}

static gboolean check_required(VrModelParser *parser, GError **error)
{
    static const char *const required[] = {"name", "imageReference", "instances"};

    for (guint i = 0; i < G_N_ELEMENTS(required); i++) {
        if (vr_model_line(parser, required[i]) == 0)
            return vr_model_fail_at(parser, required[i], "is missing", error);
    }
    return TRUE;
}

static gboolean read_model(VrModelParser *parser, const VrYamlNode *root, VrModel *model, GError **error)
{
    return vr_model_keys(parser, root, model_keys, model, error) && check_required(parser, error) &&
           check_image(parser, model, error) && check_policy(parser, model, error) &&
           vr_model_check_health(parser, model, error) && check_disks(parser, model, error);
}

VrModel *vr_model_parse(const char *text, gsize length, const char *file_name, GError **error)
{
    g_autoptr(VrYamlNode) root = vr_yaml_parse(text, length, file_name, error);
    g_autoptr(VrModel) model = NULL;
    VrModelParser parser = {.file_name = file_name, .use_rolling_policy = TRUE};
    gboolean good;

    if (root == NULL)
        return NULL;
    model = model_new();
    parser.path = g_string_new(NULL);
    parser.lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    good = read_model(&parser, root, model, error);
    g_string_free(parser.path, TRUE);
    g_hash_table_unref(parser.lines);
    return good ? g_steal_pointer(&model) : NULL;
}
