/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/os_content.h"

#include "base/error.h"
#include "hv/domain_xml.h"
#include "orchestrator/host_file.h"
#include "orchestrator/host_name.h"
#include "orchestrator/model_profile.h"
#include "orchestrator/template.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SSH_KEY_MAX_BYTES (16 * 1024)

struct VrOsContent {
    const VrOsProfile *profile;
    GBytes *custom_data, *vendor_data, *network_config; /* NULL: not given */
    GPtrArray *public_keys;                             /* char * */
};

void vr_os_content_free(VrOsContent *content)
{
    if (!content)
        return;
    g_clear_pointer(&content->custom_data, g_bytes_unref);
    g_clear_pointer(&content->vendor_data, g_bytes_unref);
    g_clear_pointer(&content->network_config, g_bytes_unref);
    g_ptr_array_unref(content->public_keys);
    g_free(content);
}

/* --- reading ------------------------------------------------------------------------------------------- */

static gboolean is_text(GBytes *bytes)
{
    gsize length;
    const char *text = g_bytes_get_data(bytes, &length);

    return g_utf8_validate(text, (gssize)length, NULL); /* nor a NUL */
}

static char *text_of(GBytes *bytes)
{
    gsize length;
    const char *text = g_bytes_get_data(bytes, &length);

    return g_strndup(text ? text : "", length);
}

static gboolean check_template(GBytes *bytes, GError **error)
{
    g_autofree char *text = NULL;

    if (!is_text(bytes)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "it is no UTF-8 text, so it cannot be a template");
        return FALSE;
    }
    text = text_of(bytes);
    return vr_template_check(text, error);
}

static gboolean load_data(const VrProfileData *data, const char *key, GBytes **bytes, GError **error)
{
    if (!data->file && !data->text)
        return TRUE;
    *bytes = data->file ? vr_host_file_bytes(data->file, VR_SEED_PART_MAX_BYTES, error)
                        : g_bytes_new(data->text, strlen(data->text));
    if (*bytes && (!data->is_template || check_template(*bytes, error)))
        return TRUE;
    g_prefix_error(error, "osProfile.%s: %s%s", key, *bytes && data->file ? data->file : "",
                   *bytes && data->file ? ": " : "");
    return FALSE;
}

static char *load_key(const VrProfileKey *key, GError **error)
{
    g_autoptr(GBytes) bytes = key->file ? vr_host_file_bytes(key->file, SSH_KEY_MAX_BYTES, error) : NULL;
    g_autofree char *line = NULL;
    const char *wrong;

    if (!key->file)
        return g_strdup(key->data);
    if (!bytes)
        return NULL;
    line = is_text(bytes) ? g_strchomp(text_of(bytes)) : g_strdup("");
    wrong = vr_ssh_key_check(line);
    if (!wrong)
        return g_steal_pointer(&line);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s: what is in it %s", key->file, wrong);
    return NULL;
}

static gboolean load_keys(VrOsContent *content, GError **error)
{
    const GPtrArray *keys = content->profile->public_keys;

    for (guint i = 0; i < keys->len; i++) {
        char *line = load_key(g_ptr_array_index(keys, i), error);
        if (!line) {
            g_prefix_error(error, "osProfile.linuxConfiguration.ssh.publicKeys[%u]: ", i);
            return FALSE;
        }
        g_ptr_array_add(content->public_keys, line);
    }
    return TRUE;
}

gboolean vr_os_content_load(const VrModel *model, VrOsContent **content, GError **error)
{
    g_autoptr(VrOsContent) all = NULL;

    *content = NULL;
    if (model->os_profile.line == 0)
        return TRUE;
    vr_leave_no_core();
    all = g_new0(VrOsContent, 1);
    all->profile = &model->os_profile;
    all->public_keys = g_ptr_array_new_with_free_func(g_free);
    if (!vr_seed_has_tool(error) || !load_data(&all->profile->custom_data, "customData", &all->custom_data, error) ||
        !load_data(&all->profile->vendor_data, "vendorData", &all->vendor_data, error) ||
        !load_data(&all->profile->network_config, "networkConfig", &all->network_config, error) ||
        !load_keys(all, error))
        return FALSE;
    *content = g_steal_pointer(&all);
    return TRUE;
}

/* --- of one instance ----------------------------------------------------------------------------------- */

/* In YAML's double quotes, which take what JSON has. */
static void append_line(GString *text, const char *key, const char *value)
{
    json_t *string = json_string(value);
    char *quoted = json_dumps(string, JSON_ENCODE_ANY);

    g_string_append_printf(text, "%s%s\n", key, quoted);
    free(quoted);
    json_decref(string);
}

static gboolean append_name(GString *text, const VrOsProfile *profile, const char *const *values, GError **error)
{
    g_autofree char *name = vr_template_expand(profile->computer_name, values, error);
    const char *wrong = name ? vr_host_name_check(name) : NULL;
    g_autofree char *shown = g_strescape(name ? name : "", NULL);

    if (wrong)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "\"%s\" %s", shown, wrong);
    if (!name || wrong) {
        g_prefix_error(error, "osProfile.computerName: ");
        return FALSE;
    }
    append_line(text, "local-hostname: ", name);
    return TRUE;
}

static gboolean append_meta(GString *text, const VrProfileMeta *meta, const char *const *values, GError **error)
{
    g_autofree char *key = g_strconcat(meta->key, ": ", NULL);
    g_autofree char *value = vr_template_expand(meta->value, values, error);

    if (!value)
        g_prefix_error(error, "osProfile.metaData.%s: ", meta->key);
    else
        append_line(text, key, value);
    return value != NULL;
}

static GBytes *meta_data(const VrOsContent *content, const char *const *values, GError **error)
{
    const GPtrArray *meta = content->profile->meta_data;
    g_autoptr(GString) text = g_string_new(NULL);

    if (!append_name(text, content->profile, values, error))
        return NULL;
    for (guint i = 0; i < meta->len; i++)
        if (!append_meta(text, g_ptr_array_index(meta, i), values, error))
            return NULL;
    if (content->public_keys->len > 0)
        g_string_append(text, "public-keys:\n");
    for (guint i = 0; i < content->public_keys->len; i++)
        append_line(text, "- ", g_ptr_array_index(content->public_keys, i));
    return g_string_free_to_bytes(g_steal_pointer(&text));
}

static GBytes *data_of(const VrProfileData *data, const char *key, GBytes *bytes, const char *const *values,
                       GError **error)
{
    g_autofree char *text = NULL;
    char *expanded;

    if (!bytes || !data->is_template)
        return bytes ? g_bytes_ref(bytes) : NULL;
    text = text_of(bytes);
    expanded = vr_template_expand(text, values, error);
    if (expanded && strlen(expanded) <= VR_SEED_PART_MAX_BYTES)
        return g_bytes_new_take(expanded, strlen(expanded));
    if (expanded)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "with its fields it is larger than 512 KiB");
    g_free(expanded);
    g_prefix_error(error, "osProfile.%s: ", key);
    return NULL;
}

static VrSeed *make(const VrOsContent *content, const char *const *values, GError **error)
{
    const VrOsProfile *profile = content->profile;
    g_autoptr(VrSeed) seed = g_new0(VrSeed, 1);

    seed->meta_data = meta_data(content, values, error);
    if (!seed->meta_data)
        return NULL;
    seed->user_data = data_of(&profile->custom_data, "customData", content->custom_data, values, error);
    if (content->custom_data && !seed->user_data)
        return NULL;
    seed->vendor_data = data_of(&profile->vendor_data, "vendorData", content->vendor_data, values, error);
    if (content->vendor_data && !seed->vendor_data)
        return NULL;
    seed->network_config = data_of(&profile->network_config, "networkConfig", content->network_config, values, error);
    return content->network_config && !seed->network_config ? NULL : g_steal_pointer(&seed);
}

/* The domain may have another name than when the set was defined. */
VrSeed *vr_os_content_seed(const VrOsContent *content, const VrSet *set, guint index, const VrImage *image, VrHv *hv,
                           GError **error)
{
    const VrInstance *instance = g_ptr_array_index(set->instances, index);
    g_autofree char *xml = vr_hv_inactive_xml(hv, instance->uuid, error);
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, error) : NULL;
    g_autofree char *number = g_strdup_printf("%u", index);
    g_autofree char *upgrade_domain = g_strdup_printf("%u", instance->upgrade_domain);
    VrSeed *seed = NULL;

    if (def) {
        const char *const values[VR_FIELDS] = {[VR_FIELD_NAME] = def->name,
                                               [VR_FIELD_UUID] = instance->uuid,
                                               [VR_FIELD_INDEX] = number,
                                               [VR_FIELD_UPGRADE_DOMAIN] = upgrade_domain,
                                               [VR_FIELD_ROLE] = instance->role.name,
                                               [VR_FIELD_ZONE] = instance->zone.name,
                                               [VR_FIELD_MAC] =
                                                   def->macs->len > 0 ? g_ptr_array_index(def->macs, 0) : NULL,
                                               [VR_FIELD_SET] = set->name,
                                               [VR_FIELD_IMAGE] = image->name,
                                               [VR_FIELD_VERSION] = image->version};
        seed = make(content, values, error);
    }
    if (!seed)
        g_prefix_error(error, "'%s': ", instance->domain);
    return seed;
}

/* --- who may read it ----------------------------------------------------------------------------------- */

GPtrArray *vr_os_content_open_files(const VrModel *model)
{
    const struct {
        const char *key, *file;
    } all[] = {{"customData", model->os_profile.custom_data.file},
               {"vendorData", model->os_profile.vendor_data.file},
               {"networkConfig", model->os_profile.network_config.file}};
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    struct stat st;

    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        if (all[i].file && stat(all[i].file, &st) == 0 && (st.st_mode & 07) != 0)
            g_ptr_array_add(lines,
                            g_strdup_printf("osProfile.%s: %s is open to every user of this host (mode %04o); if "
                                            "it holds a secret, run 'chmod 600' on it",
                                            all[i].key, all[i].file, (guint)st.st_mode & 07777));
    }
    return lines;
}
