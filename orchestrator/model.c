/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The vocabulary of a set file as tables, its defaults, and what must hold between keys; that of upgradePolicy, healthProfile,
 * osProfile, extensionProfile, maintenanceWindow and instances is in model_policy.c, model_health.c, model_profile.c, model_extensions.c, model_window.c and
 * model_instances.c. How a value is read is in model_keys.c. What DESIGN
 * names and this version cannot do yet has its row, so that it is refused by its name.
 */
#include "orchestrator/model.h"

#include "orchestrator/model_extensions.h"
#include "orchestrator/model_health.h"
#include "orchestrator/model_instances.h"
#include "orchestrator/model_keys.h"
#include "orchestrator/model_notice.h"
#include "orchestrator/model_outside.h"
#include "orchestrator/model_policy.h"
#include "orchestrator/model_profile.h"
#include "orchestrator/model_window.h"
#include "orchestrator/model_windows.h"

#include <string.h>

static const char *disk_target(const char *text)
{
    gsize length = strlen(text);

    if (length == 0 || length > 16 || !g_ascii_islower(text[0]) ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") != length)
        return "is no target of a disk, such as vda";
    return NULL;
}

static gboolean parse_schema(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error);

#define MODEL(field) G_STRUCT_OFFSET(VrModel, field)
#define SECTION(keys) .parse = vr_model_section, .offset = 0, .data = (keys)

static const VrModelKey image_keys[] = {
    {.name = "name", .parse = vr_model_short_name, .offset = MODEL(image_name), .data = "image"},
    {.name = "publisher", .parse = vr_model_short_name, .offset = MODEL(publisher), .data = "publisher"},
    {.name = "offer", .parse = vr_model_short_name, .offset = MODEL(offer), .data = "offer"},
    {.name = "sku", .parse = vr_model_short_name, .offset = MODEL(sku), .data = "SKU"},
    {.name = "version", .parse = vr_model_version, .offset = MODEL(version)},
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

static const VrModelChoice contents[] = {
    {"none", VR_PROOF_NONE}, {"sampled", VR_PROOF_SAMPLED}, {"whole", VR_PROOF_WHOLE}, {0}};

static const VrModelKey data_proof_keys[] = {
    {.name = "content", .parse = vr_model_choice, .offset = MODEL(data_proof), .data = contents},
    {0},
};

#define DAY_MS ((gint64)86400000)

static const VrModelKey retention_keys[] = {
    {.name = "runs", .parse = vr_model_number, .offset = MODEL(history.runs), .min = 1, .max = 100000},
    {.name = "runsMaxAge",
     .parse = vr_model_duration,
     .offset = MODEL(history.max_age_ms),
     .min = DAY_MS,
     .max = 3650 * DAY_MS,
     .data = "P1D to P3650D"},
    {.name = "generations", .parse = vr_model_number, .offset = MODEL(retention.generations), .min = 1, .max = 1000},
    {.name = "maxAge",
     .parse = vr_model_duration,
     .offset = MODEL(retention.max_age_ms),
     .min = DAY_MS,
     .max = 3650 * DAY_MS,
     .data = "P1D to P3650D"},
    {.name = "failedDisks", .parse = vr_model_number, .offset = MODEL(retention.failed_disks), .min = 0, .max = 1000},
    {0},
};

const VrModelKey vr_model_root_keys[] = {
    {.name = "schemaVersion", .parse = parse_schema, .offset = VR_NOWHERE},
    {.name = "name", .parse = vr_model_short_name, .offset = MODEL(name), .data = "set"},
    {.name = "imageReference", SECTION(image_keys)},
    {.name = "upgradeDomainCount",
     .parse = vr_model_number,
     .offset = MODEL(upgrade_domain_count),
     .min = 1,
     .max = 20},
    {.name = "overprovision", .parse = vr_model_boolean, .offset = MODEL(overprovision)},
    {.name = "upgradePolicy", SECTION(vr_model_policy_keys)},
    {.name = "healthProfile", SECTION(vr_model_health_keys)},
    {.name = "scheduledEventsProfile", SECTION(vr_model_events_keys)},
    {.name = "osProfile", .parse = vr_model_profile, .offset = MODEL(os_profile), .data = vr_model_profile_keys},
    {.name = "extensionProfile", SECTION(vr_model_extension_profile_keys)},
    {.name = "osDisk", SECTION(os_disk_keys)},
    {.name = "tempDisks", .parse = vr_model_texts, .offset = MODEL(temp_disks), .check = disk_target},
    {.name = "stop", SECTION(stop_keys)},
    {.name = "dataDiskProof", SECTION(data_proof_keys)},
    {.name = "retention", SECTION(retention_keys)},
    {.name = "maintenanceWindow", SECTION(vr_model_window_keys)},
    {.name = "externalResources", .parse = vr_model_outside, .offset = MODEL(outside), .data = vr_model_outside_keys},
    {.name = "instances", .parse = vr_model_instances, .offset = MODEL(instances), .data = vr_model_instance_keys},
    {0},
};

static gboolean parse_schema(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error)
{
    if (value->kind == VR_YAML_SCALAR && value->plain && g_str_equal(value->text, "1"))
        return TRUE;
    return vr_model_fail(parser, value->line, error, "must be 1");
}

static VrModel *model_new(void)
{
    VrModel *model = g_new0(VrModel, 1);

    model->upgrade_domain_count = 5; /* D7 */
    model->mode = VR_MODE_MANUAL;
    vr_model_policy_defaults(&model->policy);
    vr_model_health_defaults(&model->health);
    vr_model_notice_defaults(&model->notice);
    vr_model_profile_init(&model->os_profile);
    model->temp_disks = g_new0(char *, 1);
    model->stop = (VrStopPolicy){.method = VR_STOP_AUTO, .timeout_ms = 120000};
    model->history = (VrHistoryRetention){.runs = 1000, .max_age_ms = 730 * DAY_MS};
    model->retention = vr_retention_default;
    model->extensions = vr_model_extensions_new();
    model->outside = vr_model_outside_new();
    model->instances = vr_model_instances_new();
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
    vr_model_policy_clear(&model->policy);
    vr_model_health_clear(&model->health);
    vr_model_notice_clear(&model->notice);
    vr_model_profile_clear(&model->os_profile);
    vr_model_window_clear(&model->window);
    g_free(model->os_target);
    g_strfreev(model->temp_disks);
    g_ptr_array_unref(model->extensions);
    g_ptr_array_unref(model->outside);
    g_ptr_array_unref(model->instances);
    g_free(model);
}

/* An image is named in one of two ways (A4). */
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
    return vr_model_keys(parser, root, vr_model_root_keys, model, error) && check_required(parser, error) &&
           check_image(parser, model, error) && vr_model_check_policy(parser, &model->policy, error) &&
           vr_model_check_health(parser, model, error) && vr_model_check_notice(parser, &model->notice, error) &&
           vr_model_check_windows(parser, model, error) && vr_model_check_profile(parser, model, error) &&
           vr_model_check_window(parser, &model->window, error) && check_disks(parser, model, error);
}

VrModel *vr_model_parse_document(const char *text, gsize length, const char *file_name, VrYamlNode **document,
                                 GPtrArray *host_files, GError **error)
{
    g_autoptr(VrYamlNode) root = vr_yaml_parse(text, length, file_name, error);
    g_autoptr(VrModel) model = NULL;
    g_autoptr(GPtrArray) files = host_files != NULL ? g_ptr_array_ref(host_files) : g_ptr_array_new();
    VrModelParser parser = {.file_name = file_name, .use_rolling_policy = TRUE, .host_files = files};
    gboolean good;

    if (root == NULL)
        return NULL;
    model = model_new();
    parser.path = g_string_new(NULL);
    parser.lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    good = read_model(&parser, root, model, error);
    g_string_free(parser.path, TRUE);
    g_hash_table_unref(parser.lines);
    if (good && document != NULL)
        *document = g_steal_pointer(&root);
    return good ? g_steal_pointer(&model) : NULL;
}

VrModel *vr_model_parse(const char *text, gsize length, const char *file_name, GError **error)
{
    return vr_model_parse_document(text, length, file_name, NULL, NULL, error);
}
