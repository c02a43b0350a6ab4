/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/os_content.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "hv/domain_xml.h"
#include "orchestrator/host_file.h"
#include "orchestrator/host_name.h"
#include "orchestrator/kvm_proof.h"
#include "orchestrator/os_data.h"
#include "orchestrator/os_offline.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct VrOsContent {
    const VrModel *model;
    const VrOsProfile *profile;                         /* of the model */
    GBytes *custom_data, *vendor_data, *network_config; /* NULL: not given */
    GPtrArray *public_keys;                             /* char * */
    VrOsOffline *offline;                               /* NULL: the model has no offlineConfiguration */
    VrCarryOver carry;
    char *work_dir; /* NULL: not prepared */
    VrPersonalizeOptions personalize;
};

void vr_os_content_free(VrOsContent *content)
{
    if (!content)
        return;
    g_clear_pointer(&content->custom_data, g_bytes_unref);
    g_clear_pointer(&content->vendor_data, g_bytes_unref);
    g_clear_pointer(&content->network_config, g_bytes_unref);
    g_ptr_array_unref(content->public_keys);
    vr_os_offline_free(content->offline);
    g_strfreev(content->carry.paths);
    g_free(content->work_dir);
    g_free(content);
}

/* --- reading ------------------------------------------------------------------------------------------- */

static gboolean load_data(const VrProfileData *data, const char *key, GBytes **bytes, GError **error)
{
    gboolean ok = vr_os_data_load(data, VR_SEED_PART_MAX_BYTES, bytes, error);

    if (!ok)
        g_prefix_error(error, "osProfile.%s: ", key);
    return ok;
}

static gboolean load_keys(VrOsContent *content, GError **error)
{
    const GPtrArray *keys = content->profile->public_keys;

    for (guint i = 0; i < keys->len; i++) {
        char *line = vr_os_key_load(g_ptr_array_index(keys, i), error);
        if (!line) {
            g_prefix_error(error, "osProfile.linuxConfiguration.ssh.publicKeys[%u]: ", i);
            return FALSE;
        }
        g_ptr_array_add(content->public_keys, line);
    }
    return TRUE;
}

static gboolean load_seed(VrOsContent *content, GError **error)
{
    const VrOsProfile *profile = content->profile;

    return profile->line == 0 ||
           (vr_seed_has_tool(error) && load_data(&profile->custom_data, "customData", &content->custom_data, error) &&
            load_data(&profile->vendor_data, "vendorData", &content->vendor_data, error) &&
            load_data(&profile->network_config, "networkConfig", &content->network_config, error) &&
            load_keys(content, error));
}

gboolean vr_model_writes_offline(const VrModel *model)
{
    return model->os_profile.offline.line != 0 || model->os_profile.carry.what[0] != NULL;
}

static void load_carry(const VrCarryProfile *profile, VrCarryOver *carry)
{
    g_autoptr(GStrvBuilder) paths = g_strv_builder_new();

    for (char **one = profile->what; *one; one++) {
        if (g_str_equal(*one, VR_CARRY_HOST_KEYS))
            carry->host_keys = TRUE;
        else if (g_str_equal(*one, VR_CARRY_MACHINE_ID))
            carry->machine_id = TRUE;
        else
            g_strv_builder_add(paths, *one);
    }
    carry->paths = g_strv_builder_end(paths);
    carry->from_disk = profile->from_disk;
}

static gboolean load_personal(VrOsContent *content, GError **error)
{
    const VrOsProfile *profile = content->profile;
    g_autoptr(GError) local = NULL;

    load_carry(&profile->carry, &content->carry);
    if (!vr_model_writes_offline(content->model))
        return TRUE;
    if (!vr_personalize_is_possible(&local)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "osProfile.%s: new disks cannot be written to offline: %s",
                    profile->offline.line != 0 ? "offlineConfiguration" : "carryOver", local->message);
        vr_error_adopt(error, local);
        vr_error_next(error, "%s", VR_PERSONALIZE_REMEDY);
        return FALSE;
    }
    content->offline = profile->offline.line != 0 ? vr_os_offline_load(&profile->offline, error) : NULL;
    return profile->offline.line == 0 || content->offline;
}

gboolean vr_os_content_load(const VrModel *model, VrOsContent **content, GError **error)
{
    g_autoptr(VrOsContent) all = NULL;

    *content = NULL;
    if (model->os_profile.line == 0 && !vr_model_writes_offline(model))
        return TRUE;
    vr_leave_no_core();
    all = g_new0(VrOsContent, 1);
    all->model = model;
    all->profile = &model->os_profile;
    all->public_keys = g_ptr_array_new_with_free_func(g_free);
    if (!load_seed(all, error) || !load_personal(all, error))
        return FALSE;
    *content = g_steal_pointer(&all);
    return TRUE;
}

/* --- where it is written ------------------------------------------------------------------------------- */

gboolean vr_os_content_prepare(VrOsContent *content, VrStore *store, GError **error)
{
    vr_autofd dir = -1;

    if (!vr_model_writes_offline(content->model))
        return TRUE;
    dir = vr_mkdir_beneath(vr_store_root_fd(store), VR_APPLIANCE, 0700, error);
    if (dir < 0)
        return FALSE;
    g_free(content->work_dir);
    content->work_dir = g_build_filename(vr_store_root(store), VR_APPLIANCE, NULL);
    content->personalize.work_dir = content->work_dir;
    content->personalize.kvm = vr_kvm_works();
    return TRUE;
}

const VrPersonalizeOptions *vr_os_content_personalize(const VrOsContent *content)
{
    return content->work_dir ? &content->personalize : NULL;
}

const VrCarryOver *vr_os_content_carry(const VrOsContent *content)
{
    return content->profile->carry.what[0] ? &content->carry : NULL;
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
    GBytes *made = bytes ? vr_os_data_of(data, bytes, VR_SEED_PART_MAX_BYTES, values, error) : NULL;

    if (bytes && !made)
        g_prefix_error(error, "osProfile.%s: ", key);
    return made;
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

typedef struct {
    VrDomainDef *def;
    char *number, *upgrade_domain;
    const char *values[VR_FIELDS]; /* those of the two above, and of others that outlive it */
} Fields;

static void fields_clear(Fields *fields)
{
    g_clear_pointer(&fields->def, vr_domain_def_free);
    g_clear_pointer(&fields->number, g_free);
    g_clear_pointer(&fields->upgrade_domain, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Fields, fields_clear)

/* The domain may have another name than when the set was defined. */
static gboolean read_fields(Fields *fields, const VrSet *set, guint index, const VrImage *image, VrHv *hv,
                            GError **error)
{
    const VrInstance *instance = g_ptr_array_index(set->instances, index);
    g_autofree char *xml = vr_hv_inactive_xml(hv, instance->uuid, error);

    fields->def = xml ? vr_domain_def_parse(xml, error) : NULL;
    if (!fields->def) {
        g_prefix_error(error, "'%s': ", instance->domain);
        return FALSE;
    }
    fields->number = g_strdup_printf("%u", index);
    fields->upgrade_domain = g_strdup_printf("%u", instance->upgrade_domain);
    const char *const values[VR_FIELDS] = {
        [VR_FIELD_NAME] = fields->def->name,
        [VR_FIELD_UUID] = instance->uuid,
        [VR_FIELD_INDEX] = fields->number,
        [VR_FIELD_UPGRADE_DOMAIN] = fields->upgrade_domain,
        [VR_FIELD_ROLE] = instance->role.name,
        [VR_FIELD_ZONE] = instance->zone.name,
        [VR_FIELD_MAC] = fields->def->macs->len > 0 ? g_ptr_array_index(fields->def->macs, 0) : NULL,
        [VR_FIELD_SET] = set->name,
        [VR_FIELD_IMAGE] = image->name,
        [VR_FIELD_VERSION] = image->version};
    memcpy(fields->values, values, sizeof(values));
    return TRUE;
}

static const char *domain_of(const VrSet *set, guint index)
{
    return ((const VrInstance *)g_ptr_array_index(set->instances, index))->domain;
}

gboolean vr_os_content_seed(const VrOsContent *content, const VrSet *set, guint index, const VrImage *image, VrHv *hv,
                            VrSeed **seed, GError **error)
{
    g_auto(Fields) fields = {0};

    *seed = NULL;
    if (content->profile->line == 0)
        return TRUE;
    if (!read_fields(&fields, set, index, image, hv, error))
        return FALSE;
    *seed = make(content, fields.values, error);
    if (!*seed)
        g_prefix_error(error, "'%s': ", domain_of(set, index));
    return *seed != NULL;
}

gboolean vr_os_content_personal(const VrOsContent *content, const VrSet *set, guint index, const VrImage *image,
                                VrHv *hv, VrPersonal **personal, GError **error)
{
    g_auto(Fields) fields = {0};

    *personal = NULL;
    if (!vr_model_writes_offline(content->model))
        return TRUE;
    if (!content->offline) {
        *personal = vr_personal_new(NULL, VR_FORMAT_QCOW2);
        (*personal)->no_relabel = content->profile->offline.no_relabel;
        return TRUE;
    }
    if (!read_fields(&fields, set, index, image, hv, error))
        return FALSE;
    *personal = vr_os_offline_personal(content->offline, fields.values, error);
    if (!*personal)
        g_prefix_error(error, "'%s': ", domain_of(set, index));
    return *personal != NULL;
}

/* --- who may read it ----------------------------------------------------------------------------------- */

static void add_open(GPtrArray *lines, const char *key, const char *file)
{
    struct stat st;

    if (file && stat(file, &st) == 0 && (st.st_mode & 07) != 0)
        g_ptr_array_add(lines, g_strdup_printf("osProfile.%s: %s is open to every user of this host (mode %04o); if it "
                                               "holds a secret, run 'chmod 600' on it",
                                               key, file, (guint)st.st_mode & 07777));
}

/* What every user of the guest may read is no secret. */
static void add_open_files(GPtrArray *lines, const char *list, const GPtrArray *files)
{
    for (guint i = 0; i < files->len; i++) {
        const VrOfflineFile *file = g_ptr_array_index(files, i);
        g_autofree char *key = g_strdup_printf("offlineConfiguration.%s[%u]", list, i);
        if ((file->mode & 07) == 0)
            add_open(lines, key, file->content.file);
    }
}

GPtrArray *vr_os_content_open_files(const VrModel *model)
{
    const VrOsProfile *profile = &model->os_profile;
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);

    add_open(lines, "customData", profile->custom_data.file);
    add_open(lines, "vendorData", profile->vendor_data.file);
    add_open(lines, "networkConfig", profile->network_config.file);
    add_open_files(lines, "files", profile->offline.files);
    add_open_files(lines, "networkFiles", profile->offline.network_files);
    add_open(lines, "offlineConfiguration.firstBoot", profile->offline.first_boot.file);
    add_open(lines, "offlineConfiguration.unattend", profile->offline.unattend.file);
    return lines;
}
