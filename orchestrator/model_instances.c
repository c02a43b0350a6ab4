/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_instances.h"

#include "orchestrator/address.h"

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

static const char *instance_address(const char *text)
{
    return vr_address_parse(text, NULL, NULL);
}

/* A serial may be any text. */
static const char *disk_name(const char *text)
{
    return text[0] == '\0' ? "must be the serial, the WWN or the target of a disk" : NULL;
}

static gboolean parse_pin(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error);

#define INSTANCE(field) G_STRUCT_OFFSET(VrModelInstance, field)
#define LABEL(field) .name = #field, .parse = vr_model_short_name, .offset = INSTANCE(field.name), .data = #field

static const VrModelKey protection_keys[] = {
    {.name = "protectFromScaleSetActions", .parse = vr_model_boolean, .offset = INSTANCE(is_protected)},
    {0},
};

const VrModelKey vr_model_instance_keys[] = {
    {.name = "domain", .parse = vr_model_text, .offset = INSTANCE(domain), .check = domain_name},
    {LABEL(role)},
    {LABEL(zone)},
    {.name = "phase", .parse = vr_model_number, .offset = INSTANCE(phase), .min = 1, .max = 1000},
    {LABEL(pair)},
    {.name = "address", .parse = vr_model_text, .offset = INSTANCE(address), .check = instance_address},
    {.name = "version", .parse = parse_pin, .offset = INSTANCE(version)},
    {.name = "protectDisks", .parse = vr_model_texts, .offset = INSTANCE(protect_disks), .check = disk_name},
    {.name = "protectionPolicy", .parse = vr_model_section, .offset = 0, .data = protection_keys},
    {0},
};

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
    g_strfreev(instance->protect_disks);
    g_free((char *)instance->role.name);
    g_free((char *)instance->zone.name);
    g_free((char *)instance->pair.name);
    g_free(instance);
}

GPtrArray *vr_model_instances_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)instance_free);
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
    if (!vr_model_keys(parser, item, vr_model_instance_keys, instance, error))
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

/* numbers: name -> number of the labels of one kind that were seen. */
static void give_number(GHashTable *numbers, VrLabel *label)
{
    if (label->name == NULL)
        return;
    label->number = GPOINTER_TO_UINT(g_hash_table_lookup(numbers, label->name));
    if (label->number != 0)
        return;
    label->number = g_hash_table_size(numbers) + 1;
    g_hash_table_insert(numbers, (char *)label->name, GUINT_TO_POINTER(label->number));
}

static void give_numbers(GPtrArray *instances)
{
    g_autoptr(GHashTable) roles = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) zones = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) pairs = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < instances->len; i++) {
        VrModelInstance *instance = instances->pdata[i];

        give_number(roles, &instance->role);
        give_number(zones, &instance->zone);
        give_number(pairs, &instance->pair);
    }
}

static gboolean same_phase(VrModelParser *parser, guint index, const VrModelInstance *instance,
                           const VrModelInstance *other, GError **error)
{
    g_autofree char *phase = g_strdup_printf(instance->phase > 0 ? "phase %u" : "the last phase", instance->phase);

    g_string_append_printf(parser->path, "[%u].phase", index);
    return vr_model_fail(parser, instance->line, error,
                         "%s and %s are of pair %s and both in %s: give each of a pair a phase of its own",
                         instance->domain, other->domain, instance->pair.name, phase);
}

/* D10. Without phases the batches keep a pair apart. */
static gboolean check_pairs(VrModelParser *parser, GPtrArray *instances, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    gboolean phases = FALSE;

    for (guint i = 0; i < instances->len; i++)
        phases = phases || ((VrModelInstance *)instances->pdata[i])->phase > 0;
    for (guint i = 0; phases && i < instances->len; i++) {
        VrModelInstance *instance = instances->pdata[i];
        gint64 key = (gint64)instance->pair.number << 32 | instance->phase;
        const VrModelInstance *other = g_hash_table_lookup(seen, &key);

        if (instance->pair.number > 0 && other != NULL)
            return same_phase(parser, i, instance, other, error);
        g_hash_table_insert(seen, g_memdup2(&key, sizeof(key)), instance);
    }
    return TRUE;
}

gboolean vr_model_instances(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
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
    give_numbers(instances);
    return check_pairs(parser, instances, error);
}
