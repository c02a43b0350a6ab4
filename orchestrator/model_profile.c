/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_profile.h"

#include "disk/seed.h"
#include "disk/ssh_key.h"
#include "orchestrator/host_name.h"
#include "orchestrator/model_offline.h"
#include "orchestrator/model_windows.h"
#include "orchestrator/template.h"

#include <string.h>

#define KEY_MAX 64 /* of meta-data, characters */
#define SSH_KEYS_MAX 64
#define DIGEST_SHOWN 12

/* --- user-data and the like ---------------------------------------------------------------------------- */

#define DATA(field) G_STRUCT_OFFSET(VrProfileData, field)

const VrModelKey vr_model_data_keys[] = {
    {.name = "file", .parse = vr_model_host_file, .offset = DATA(file)},
    {.name = "text", .parse = vr_model_text, .offset = DATA(text)},
    {.name = "template", .parse = vr_model_boolean, .offset = DATA(is_template)},
    {0},
};

gboolean vr_model_check_data(VrModelParser *parser, const VrProfileData *data, const char *file, GError **error)
{
    g_autoptr(GError) why = NULL;

    if ((data->file == NULL) == (data->text == NULL))
        return vr_model_fail(parser, data->line, error, "must have one of %s and text", file);
    if (data->text != NULL && strlen(data->text) > VR_SEED_PART_MAX_BYTES)
        return vr_model_fail(parser, data->line, error, "its text is larger than 512 KiB");
    if (data->text != NULL && data->is_template && !vr_template_check(data->text, &why))
        return vr_model_fail(parser, data->line, error, "text, %s", why->message);
    return TRUE;
}

gboolean vr_model_profile_data(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                               GError **error)
{
    VrProfileData *data = target;

    data->line = value->line;
    return vr_model_keys(parser, value, key->data, data, error) && vr_model_check_data(parser, data, "file", error);
}

static gboolean has_control(const char *text)
{
    for (; *text != '\0'; text = g_utf8_next_char(text)) {
        if (g_unichar_iscntrl(g_utf8_get_char(text)))
            return TRUE;
    }
    return FALSE;
}

/* --- meta-data ----------------------------------------------------------------------------------------- */

static const char *wrong_meta_key(const char *key)
{
    static const char *const ours[] = {"instance-id", "local-hostname", "public-keys", NULL};

    if (g_strv_contains(ours, key))
        return "is given by computerName, publicKeys or the generation";
    if (key[0] == '\0' || strlen(key) > KEY_MAX ||
        strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != strlen(key))
        return "is no key: letters, digits, '_', '.' and '-', at most 64";
    return NULL;
}

static void meta_free(gpointer data)
{
    VrProfileMeta *meta = data;

    g_free(meta->key);
    g_free(meta->value);
    g_free(meta);
}

static gboolean parse_meta(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                           GError **error)
{
    GPtrArray *all = *(GPtrArray **)target;

    if (value->kind != VR_YAML_MAP)
        return vr_model_fail(parser, value->line, error, "must be a mapping (key: value)");
    for (guint i = 0; i < value->keys->len; i++) {
        const VrYamlNode *name = value->keys->pdata[i], *text = value->values->pdata[i];
        VrProfileMeta *meta;
        g_autoptr(GError) why = NULL;
        const char *wrong = wrong_meta_key(name->text);
        g_autofree char *shown = g_strescape(name->text, NULL);

        if (wrong != NULL)
            return vr_model_fail(parser, name->line, error, "\"%.64s\" %s", shown, wrong);
        if (text->kind != VR_YAML_SCALAR)
            return vr_model_fail(parser, text->line, error, "%s must be a text", name->text);
        if (has_control(text->text))
            return vr_model_fail(parser, text->line, error, "%s must not have control characters", name->text);
        if (!vr_template_check(text->text, &why))
            return vr_model_fail(parser, text->line, error, "%s, %s", name->text, why->message);
        meta = g_new(VrProfileMeta, 1);
        *meta = (VrProfileMeta){g_strdup(name->text), g_strdup(text->text)};
        g_ptr_array_add(all, meta);
    }
    return TRUE;
}

/* --- ssh keys ------------------------------------------------------------------------------------------ */

#define KEY(field) G_STRUCT_OFFSET(VrProfileKey, field)

static const VrModelKey ssh_key_keys[] = {
    {.name = "keyData", .parse = vr_model_text, .offset = KEY(data), .check = vr_ssh_key_check},
    {.name = "file", .parse = vr_model_host_file, .offset = KEY(file)},
    {0},
};

static void ssh_key_free(gpointer data)
{
    VrProfileKey *key = data;

    g_free(key->data);
    g_free(key->file);
    g_free(key);
}

gboolean vr_model_profile_ssh_keys(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                   GError **error)
{
    GPtrArray *all = *(GPtrArray **)target;
    gsize length = parser->path->len;

    if (value->kind != VR_YAML_LIST || value->values->len > SSH_KEYS_MAX)
        return vr_model_fail(parser, value->line, error, "must be a list of at most 64 keys ({keyData: ...})");
    for (guint i = 0; i < value->values->len; i++) {
        const VrYamlNode *item = value->values->pdata[i];
        VrProfileKey *one = g_new0(VrProfileKey, 1);

        g_ptr_array_add(all, one);
        g_string_append_printf(parser->path, "[%u]", i);
        if (!vr_model_keys(parser, item, key->data, one, error))
            return FALSE;
        if ((one->data == NULL) == (one->file == NULL))
            return vr_model_fail(parser, item->line, error, "must have one of keyData and file");
        g_string_truncate(parser->path, length);
    }
    return TRUE;
}

/* --- all of it ----------------------------------------------------------------------------------------- */

#define PROFILE(field) G_STRUCT_OFFSET(VrOsProfile, field)

static const VrModelKey ssh_keys[] = {
    {.name = "publicKeys", .parse = vr_model_profile_ssh_keys, .offset = PROFILE(public_keys), .data = ssh_key_keys},
    {0},
};

static const VrModelKey linux_keys[] = {
    {.name = "ssh", .parse = vr_model_section, .offset = 0, .data = ssh_keys},
    {0},
};

const VrModelKey vr_model_profile_keys[] = {
    {.name = "computerName", .parse = vr_model_text, .offset = PROFILE(computer_name)},
    {.name = "customData", .parse = vr_model_profile_data, .offset = PROFILE(custom_data), .data = vr_model_data_keys},
    {.name = "vendorData", .parse = vr_model_profile_data, .offset = PROFILE(vendor_data), .data = vr_model_data_keys},
    {.name = "networkConfig",
     .parse = vr_model_profile_data,
     .offset = PROFILE(network_config),
     .data = vr_model_data_keys},
    {.name = "metaData", .parse = parse_meta, .offset = PROFILE(meta_data)},
    {.name = "linuxConfiguration", .parse = vr_model_section, .offset = 0, .data = linux_keys},
    {.name = "windowsConfiguration", .parse = vr_model_section, .offset = 0, .data = vr_model_windows_keys},
    {.name = "offlineConfiguration",
     .parse = vr_model_section,
     .offset = PROFILE(offline),
     .data = vr_model_offline_keys},
    {.name = "carryOver", .parse = vr_model_carry, .offset = PROFILE(carry.what)},
    {.name = "carryOverFrom",
     .parse = vr_model_choice,
     .offset = PROFILE(carry.from_disk),
     .data = vr_model_carry_sources},
    {0},
};

static gboolean has_seed(const VrOsProfile *profile)
{
    return profile->computer_name != NULL || profile->custom_data.line != 0 || profile->vendor_data.line != 0 ||
           profile->network_config.line != 0 || profile->meta_data->len > 0 || profile->public_keys->len > 0;
}

gboolean vr_model_profile(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error)
{
    VrOsProfile *profile = target;

    if (!vr_model_keys(parser, value, key->data, profile, error))
        return FALSE;
    if (!has_seed(profile))
        return TRUE;
    profile->line = value->line;
    if (profile->computer_name == NULL)
        profile->computer_name = g_strdup("@{instance.name}");
    return TRUE;
}

void vr_model_profile_init(VrOsProfile *profile)
{
    profile->meta_data = g_ptr_array_new_with_free_func(meta_free);
    profile->public_keys = g_ptr_array_new_with_free_func(ssh_key_free);
    vr_model_offline_init(profile);
}

void vr_model_data_clear(VrProfileData *data)
{
    g_free(data->file);
    g_free(data->text);
}

void vr_model_profile_clear(VrOsProfile *profile)
{
    g_free(profile->computer_name);
    vr_model_data_clear(&profile->custom_data);
    vr_model_data_clear(&profile->vendor_data);
    vr_model_data_clear(&profile->network_config);
    g_ptr_array_unref(profile->meta_data);
    g_ptr_array_unref(profile->public_keys);
    vr_model_offline_clear(profile);
}

/* --- host names ---------------------------------------------------------------------------------------- */

/* Of a domain that is named by its UUID libvirt knows the name: that is asked before each run. */
static gboolean check_for_one(VrModelParser *parser, const VrModel *model, guint index, const char *path,
                              const char *text, VrModelCheck check, GError **error)
{
    const VrModelInstance *instance = model->instances->pdata[index];
    guint at = vr_model_line(parser, path);
    g_autofree char *number = g_strdup_printf("%u", index);
    const char *values[VR_FIELDS] = {[VR_FIELD_NAME] = instance->domain,
                                     [VR_FIELD_UUID] = "00000000-0000-4000-8000-000000000000",
                                     [VR_FIELD_INDEX] = number,
                                     [VR_FIELD_UPGRADE_DOMAIN] = "0",
                                     [VR_FIELD_ROLE] = instance->role.name,
                                     [VR_FIELD_ZONE] = instance->zone.name,
                                     [VR_FIELD_SET] = model->name};
    g_autoptr(GError) why = NULL;
    g_autofree char *value = vr_template_expand(text, values, &why);
    const char *wrong = value != NULL ? check(value) : why->message;
    g_autofree char *shown = NULL;

    shown = g_strescape(value != NULL ? value : "", NULL);
    if (wrong == NULL ||
        (g_uuid_string_is_valid(instance->domain) && value != NULL && strstr(text, "@{instance.name}")))
        return TRUE;
    g_string_assign(parser->path, path);
    if (value == NULL)
        return vr_model_fail(parser, at, error, "of %s, %s", instance->domain, wrong);
    return vr_model_fail(parser, at != 0 ? at : model->os_profile.line, error, "\"%.100s\" of %s %s", shown,
                         instance->domain, wrong);
}

gboolean vr_model_check_for_each(VrModelParser *parser, const VrModel *model, const char *path, const char *text,
                                 VrModelCheck check, GError **error)
{
    for (guint i = 0; i < model->instances->len; i++) {
        if (!check_for_one(parser, model, i, path, text, check, error))
            return FALSE;
    }
    return TRUE;
}

gboolean vr_model_check_profile(VrModelParser *parser, VrModel *model, GError **error)
{
    return (model->os_profile.line == 0 ||
            vr_model_check_for_each(parser, model, "osProfile.computerName", model->os_profile.computer_name,
                                    vr_host_name_check, error)) &&
           vr_model_check_offline(parser, model, error);
}

/* --- as texts ------------------------------------------------------------------------------------------ */

char *vr_model_data_text(const VrProfileData *data)
{
    g_autofree char *digest =
        data->text != NULL ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, data->text, -1) : NULL;
    const char *template = data->is_template ? ", a template" : "";

    if (data->file != NULL)
        return g_strdup_printf("file %s%s", data->file, template);
    if (data->text == NULL)
        return NULL;
    return g_strdup_printf("text of %" G_GSIZE_FORMAT " bytes, SHA-256 %.*s...%s", strlen(data->text), DIGEST_SHOWN,
                           digest, template);
}

char *vr_model_meta_text(const GPtrArray *meta)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < meta->len; i++) {
        const VrProfileMeta *one = meta->pdata[i];
        g_string_append_printf(text, "%s%s: %s", i > 0 ? ", " : "", one->key, one->value);
    }
    return g_string_free(text, text->len == 0);
}

char *vr_model_keys_text(const GPtrArray *keys)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < keys->len; i++) {
        const VrProfileKey *one = keys->pdata[i];
        g_string_append_printf(text, "%s%s%s", i > 0 ? ", " : "", one->file != NULL ? "file " : "",
                               one->file != NULL ? one->file : one->data);
    }
    return g_string_free(text, text->len == 0);
}
