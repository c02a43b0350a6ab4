/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/os_offline.h"

#include "base/error.h"
#include "orchestrator/host_file.h"
#include "orchestrator/model_offline.h"
#include "orchestrator/os_data.h"

#define HOST_KEY_MAX_BYTES (64 * 1024)
#define ALL_MAX_BYTES (64u << 20) /* of what is kept in memory for a run */

struct VrOsOffline {
    const VrOfflineProfile *profile;
    GPtrArray *files, *network_files; /* GBytes *, one for each of the profile's */
    GBytes *first_boot, *unattend;    /* NULL: none */
    GPtrArray *keys;                  /* char *, one for each of authorized */
    gsize bytes;
};

void vr_os_offline_free(VrOsOffline *offline)
{
    if (!offline)
        return;
    g_ptr_array_unref(offline->files);
    g_ptr_array_unref(offline->network_files);
    g_clear_pointer(&offline->first_boot, g_bytes_unref);
    g_clear_pointer(&offline->unattend, g_bytes_unref);
    g_ptr_array_unref(offline->keys);
    g_free(offline);
}

/* --- reading ------------------------------------------------------------------------------------------- */

static gboolean load_data(VrOsOffline *offline, const VrProfileData *data, GBytes **bytes, GError **error)
{
    if (!vr_os_data_load(data, VR_PERSONAL_MAX_BYTES, bytes, error))
        return FALSE;
    offline->bytes += *bytes ? g_bytes_get_size(*bytes) : 0;
    if (offline->bytes <= ALL_MAX_BYTES)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "with it all files together have more than 64 MiB");
    return FALSE;
}

static gboolean load_files(VrOsOffline *offline, const GPtrArray *files, GPtrArray *all, const char *key,
                           GError **error)
{
    for (guint i = 0; i < files->len; i++) {
        const VrOfflineFile *file = g_ptr_array_index(files, i);
        GBytes *bytes = NULL;
        gboolean ok = load_data(offline, &file->content, &bytes, error);

        if (bytes)
            g_ptr_array_add(all, bytes);
        if (!ok) {
            g_prefix_error(error, "%s[%u]: ", key, i);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean load_keys(VrOsOffline *offline, GError **error)
{
    for (guint i = 0; i < offline->profile->authorized->len; i++) {
        const VrOfflineKey *key = g_ptr_array_index(offline->profile->authorized, i);
        char *line = vr_os_key_load(&key->key, error);

        if (!line) {
            g_prefix_error(error, "authorizedKeys[%u]: ", i);
            return FALSE;
        }
        g_ptr_array_add(offline->keys, line);
    }
    return TRUE;
}

static gboolean load_one(VrOsOffline *offline, const VrProfileData *data, const char *key, GBytes **bytes,
                         GError **error)
{
    gboolean ok = load_data(offline, data, bytes, error);

    if (!ok)
        g_prefix_error(error, "%s: ", key);
    return ok;
}

/* All that is wrong with an offlineConfiguration is a refusal with its name. */
static void name_it(const char *separator, GError **error)
{
    if (error && *error)
        (*error)->code = VR_ERROR_REFUSED;
    g_prefix_error(error, "osProfile.offlineConfiguration%s", separator);
}

VrOsOffline *vr_os_offline_load(const VrOfflineProfile *profile, GError **error)
{
    g_autoptr(VrOsOffline) offline = g_new0(VrOsOffline, 1);

    offline->profile = profile;
    offline->files = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    offline->network_files = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    offline->keys = g_ptr_array_new_with_free_func(g_free);
    if (load_files(offline, profile->files, offline->files, "files", error) &&
        load_files(offline, profile->network_files, offline->network_files, "networkFiles", error) &&
        load_keys(offline, error) &&
        load_one(offline, &profile->first_boot, "firstBoot", &offline->first_boot, error) &&
        load_one(offline, &profile->unattend, "unattend", &offline->unattend, error))
        return g_steal_pointer(&offline);
    name_it(".", error);
    return NULL;
}

/* --- of one instance ----------------------------------------------------------------------------------- */

static gboolean expand(const char *text, const char *key, const char *const *values, char **result, GError **error)
{
    *result = text ? vr_template_expand(text, values, error) : NULL;
    if (text && !*result)
        g_prefix_error(error, "%s: ", key);
    return !text || *result;
}

static gboolean take_names(const VrOfflineProfile *profile, const char *const *values, VrPersonal *personal,
                           GError **error)
{
    g_autofree char *id = NULL;

    personal->timezone = g_strdup(profile->timezone);
    personal->no_relabel = profile->no_relabel;
    if (!expand(profile->hostname, "hostname", values, &personal->hostname, error) ||
        !expand(profile->machine_id, "machineId", values, &id, error))
        return FALSE;
    personal->machine_id = id ? vr_machine_id_of(id) : NULL;
    if (id && !personal->machine_id)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "machineId: it comes to no machine-id: new, 32 hexadecimal digits, or a UUID");
    return !id || personal->machine_id;
}

/* FALSE: an error; *found: one that is there. */
static gboolean take_host_key(const char *dir, const char *name, gboolean is_public, VrPersonal *personal,
                              gboolean *found, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    VrPayload payload = {0};
    guint mode = 0;

    *found = g_file_test(path, G_FILE_TEST_EXISTS);
    if (!*found)
        return TRUE;
    if (!vr_host_file_read(path, HOST_KEY_MAX_BYTES, &payload, &mode, error))
        return FALSE;
    vr_personal_add_file(personal->host_keys, name, is_public ? 0644 : 0600, NULL, payload.data, payload.length);
    vr_payload_clear(&payload);
    if (is_public || (mode & 07) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "%s is a secret that every user of this host may use (mode %04o): run 'chmod 600' on it", path, mode);
    return FALSE;
}

static gboolean take_host_keys(const VrOfflineProfile *profile, const char *const *values, VrPersonal *personal,
                               GError **error)
{
    static const char *const types[] = {"rsa", "ecdsa", "ed25519"};
    g_autofree char *dir = NULL;
    gboolean any = FALSE, found = FALSE;

    if (!expand(profile->host_key_dir, "sshHostKeys", values, &dir, error))
        return FALSE;
    for (gsize i = 0; dir && i < G_N_ELEMENTS(types); i++) {
        g_autofree char *name = g_strdup_printf("ssh_host_%s_key", types[i]);
        g_autofree char *public = g_strconcat(name, ".pub", NULL);
        gboolean ok = take_host_key(dir, name, FALSE, personal, &found, error);

        any = any || found;
        if (!ok || !take_host_key(dir, public, TRUE, personal, &found, error)) {
            g_prefix_error(error, "sshHostKeys: ");
            return FALSE;
        }
    }
    if (!dir || any)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "sshHostKeys: %s has none of ssh_host_rsa_key, ssh_host_ecdsa_key and ssh_host_ed25519_key", dir);
    return FALSE;
}

static gboolean take_files(const GPtrArray *files, const GPtrArray *bytes, const char *key, const char *const *values,
                           GPtrArray *all, GError **error)
{
    for (guint i = 0; i < files->len; i++) {
        const VrOfflineFile *file = g_ptr_array_index(files, i);
        g_autoptr(GBytes) data =
            vr_os_data_of(&file->content, g_ptr_array_index(bytes, i), VR_PERSONAL_MAX_BYTES, values, error);
        const VrGuestFile made = {file->path, VR_GUEST_FILE_REGULAR, file->mode, file->owner, data};

        if (!data) {
            g_prefix_error(error, "%s[%u]: ", key, i);
            return FALSE;
        }
        g_ptr_array_add(all, vr_guest_file_copy(&made));
    }
    return TRUE;
}

static gboolean take_one(const VrProfileData *data, GBytes *bytes, const char *key, const char *const *values,
                         GBytes **made, GError **error)
{
    *made = bytes ? vr_os_data_of(data, bytes, VR_PERSONAL_MAX_BYTES, values, error) : NULL;
    if (bytes && !*made)
        g_prefix_error(error, "%s: ", key);
    return !bytes || *made;
}

VrPersonal *vr_os_offline_personal(const VrOsOffline *offline, const char *const *values, GError **error)
{
    const VrOfflineProfile *profile = offline->profile;
    g_autoptr(VrPersonal) personal = vr_personal_new(NULL, VR_FORMAT_QCOW2);

    for (guint i = 0; i < profile->authorized->len; i++)
        vr_personal_add_key(personal, ((const VrOfflineKey *)g_ptr_array_index(profile->authorized, i))->user,
                            g_ptr_array_index(offline->keys, i));
    if (!take_names(profile, values, personal, error) || !take_host_keys(profile, values, personal, error) ||
        !take_files(profile->files, offline->files, "files", values, personal->files, error) ||
        !take_files(profile->network_files, offline->network_files, "networkFiles", values, personal->network, error) ||
        !take_one(&profile->first_boot, offline->first_boot, "firstBoot", values, &personal->first_boot, error) ||
        !take_one(&profile->unattend, offline->unattend, "unattend", values, &personal->unattend, error)) {
        name_it(".", error);
        return NULL;
    }
    if (vr_personal_check(personal, error))
        return g_steal_pointer(&personal);
    name_it(": ", error);
    return NULL;
}
