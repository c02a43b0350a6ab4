/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"
#include "disk/personalize_private.h"
#include "disk/ssh_key.h"

#include <string.h>

#define MAX_NAME 255
#define MAX_PATH 4095
#define MAX_HOSTNAME 63

/* ---- the struct ---- */

static void keys_free(void *data)
{
    VrPersonalKeys *keys = data;
    g_free(keys->user);
    g_ptr_array_unref(keys->keys);
    g_free(keys);
}

VrPersonal *vr_personal_new(const char *disk, VrImageFormat format)
{
    VrPersonal *personal = g_new0(VrPersonal, 1);
    personal->disk = g_strdup(disk);
    personal->format = format;
    personal->host_keys = vr_guest_files_new();
    personal->files = vr_guest_files_new();
    personal->network = vr_guest_files_new();
    personal->authorized = g_ptr_array_new_with_free_func(keys_free);
    return personal;
}

void vr_personal_free(VrPersonal *personal)
{
    if (!personal)
        return;
    g_free(personal->disk);
    g_free(personal->hostname);
    g_free(personal->machine_id);
    g_free(personal->timezone);
    g_ptr_array_unref(personal->host_keys);
    g_ptr_array_unref(personal->files);
    g_ptr_array_unref(personal->network);
    g_ptr_array_unref(personal->authorized);
    g_clear_pointer(&personal->first_boot, g_bytes_unref);
    g_clear_pointer(&personal->unattend, g_bytes_unref);
    g_free(personal);
}

static void copy_files(GPtrArray *to, const GPtrArray *from)
{
    for (guint i = 0; i < from->len; i++)
        g_ptr_array_add(to, vr_guest_file_copy(from->pdata[i]));
}

VrPersonal *vr_personal_copy(const VrPersonal *personal, const char *disk, VrImageFormat format)
{
    VrPersonal *copy = vr_personal_new(disk, format);
    copy->hostname = g_strdup(personal->hostname);
    copy->machine_id = g_strdup(personal->machine_id);
    copy->timezone = g_strdup(personal->timezone);
    copy_files(copy->host_keys, personal->host_keys);
    copy_files(copy->files, personal->files);
    copy_files(copy->network, personal->network);
    for (guint i = 0; i < personal->authorized->len; i++) {
        const VrPersonalKeys *keys = personal->authorized->pdata[i];
        for (guint k = 0; k < keys->keys->len; k++)
            vr_personal_add_key(copy, keys->user, keys->keys->pdata[k]);
    }
    copy->first_boot = personal->first_boot ? g_bytes_ref(personal->first_boot) : NULL;
    copy->unattend = personal->unattend ? g_bytes_ref(personal->unattend) : NULL;
    copy->no_relabel = personal->no_relabel;
    return copy;
}

void vr_personal_add_file(GPtrArray *list, const char *path, guint mode, const char *owner, const void *data,
                          gsize length)
{
    g_ptr_array_add(list, vr_guest_file_new(VR_GUEST_FILE_REGULAR, path, mode, owner, data, length));
}

void vr_personal_add_key(VrPersonal *personal, const char *user, const char *key)
{
    VrPersonalKeys *keys = NULL;
    for (guint i = 0; i < personal->authorized->len && !keys; i++) {
        VrPersonalKeys *one = personal->authorized->pdata[i];
        keys = strcmp(one->user, user) == 0 ? one : NULL;
    }
    if (!keys) {
        keys = g_new0(VrPersonalKeys, 1);
        keys->user = g_strdup(user);
        keys->keys = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(personal->authorized, keys);
    }
    g_ptr_array_add(keys->keys, g_strdup(key));
}

/* ---- the rules ---- */

static gboolean refuse(GError **error, const char *what, const char *value, const char *why)
{
    g_autofree char *shown = vr_printable(value, MIN((gssize)strlen(value), 100));
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s '%s' %s", what, shown, why);
    return FALSE;
}

static gboolean consists_of(const char *text, const char *more)
{
    for (const char *p = text; *p; p++)
        if (!g_ascii_isalnum(*p) && !strchr(more, *p))
            return FALSE;
    return *text != '\0';
}

/* RFC 1123, section 2.1; Linux takes 64 bytes with the NUL of some programs. */
static gboolean check_hostname(const char *name, GError **error)
{
    g_auto(GStrv) labels = g_strsplit(name, ".", -1);
    if (strlen(name) > MAX_HOSTNAME)
        return refuse(error, "the host name", name, "is longer than 63 characters");
    if (!*name)
        return refuse(error, "the host name", name, "is empty");
    for (char **label = labels; *label; label++)
        if (!consists_of(*label, "-") || **label == '-' || g_str_has_suffix(*label, "-"))
            return refuse(error, "the host name", name,
                          "is none: letters, digits and '-', in parts with a dot between them");
    return TRUE;
}

static gboolean check_machine_id(const char *id, GError **error)
{
    gsize length = strspn(id, "0123456789abcdef");
    if (*id == '\0' || (length == 32 && id[length] == '\0' && strspn(id, "0") < 32))
        return TRUE;
    return refuse(error, "the machine-id", id, "is none: 32 of 0-9 and a-f, not all 0, or empty");
}

static gboolean is_below(const char *path, const char *dir)
{
    gsize length = strlen(dir);
    return strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

gboolean vr_personal_path_check(const char *path, GError **error)
{
    static const char *const outside[] = {"/proc", "/sys", "/dev", "/run", "/tmp"};
    if (path[0] != '/' || path[1] == '\0')
        return refuse(error, "the path", path, "is not absolute, or is the root itself");
    if (strlen(path) > MAX_PATH)
        return refuse(error, "the path", path, "is longer than 4095 bytes");
    if (!g_utf8_validate(path, -1, NULL))
        return refuse(error, "the path", path, "is no UTF-8");
    for (const char *p = path; *p; p++)
        if (g_ascii_iscntrl(*p))
            return refuse(error, "the path", path, "has a control character");
    g_auto(GStrv) parts = g_strsplit(path + 1, "/", -1);
    for (char **part = parts; *part; part++)
        if (!**part || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0 || strlen(*part) > MAX_NAME)
            return refuse(error, "the path", path, "has a part that is empty, '.', '..' or too long");
    for (gsize i = 0; i < G_N_ELEMENTS(outside); i++)
        if (is_below(path, outside[i]))
            return refuse(error, "the path", path, "is not on the disk once the guest runs");
    return TRUE;
}

static gboolean check_timezone(const char *zone, GError **error)
{
    g_autofree char *path = g_strconcat("/usr/share/zoneinfo/", zone, NULL);
    if (!consists_of(zone, "/_+-") || !vr_personal_path_check(path, NULL))
        return refuse(error, "the timezone", zone, "is none, such as Europe/Berlin");
    return TRUE;
}

static gboolean check_owner(const char *owner, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(owner, ":", -1);
    guint n = g_strv_length(parts);
    gboolean fine = n == 1 || n == 2;
    for (guint i = 0; fine && i < n; i++)
        fine = consists_of(parts[i], "_-.$") && strlen(parts[i]) <= 32;
    return fine || refuse(error, "the owner", owner, "is none: USER or USER:GROUP, by name or number");
}

/* Of a link, what symlink(2) takes: it is never followed by us. */
gboolean vr_personal_data_check(const VrGuestFile *file, gsize max, GError **error)
{
    gsize length;
    const char *bytes = g_bytes_get_data(file->data, &length);
    if (file->kind == VR_GUEST_FILE_LINK && (length == 0 || length > MAX_PATH || memchr(bytes, '\0', length)))
        return refuse(error, "the symbolic link", file->path,
                      "leads to a path that is empty, has a NUL or is longer than 4095 bytes");
    if (file->kind == VR_GUEST_FILE_DIRECTORY && length > 0)
        return refuse(error, "the directory", file->path, "has content as a file has");
    return length <= max || refuse(error, "the file", file->path, "is larger than 16 MiB");
}

static gboolean check_file(const VrGuestFile *file, GError **error)
{
    if (!vr_personal_path_check(file->path, error) || (file->owner && !check_owner(file->owner, error)))
        return FALSE;
    if (strcmp(file->path, "/etc/passwd") == 0 || strcmp(file->path, "/etc/group") == 0)
        return refuse(error, "the file", file->path,
                      "is where owners are looked up; a first-boot script can change it");
    if (file->kind == VR_GUEST_FILE_REGULAR && file->mode > 0777)
        return refuse(error, "the mode of", file->path, "is more than 0777");
    if (file->kind == VR_GUEST_FILE_DIRECTORY && file->mode > 03777)
        return refuse(error, "the mode of", file->path, "is more than 03777");
    return vr_personal_data_check(file, VR_PERSONAL_MAX_BYTES, error);
}

static gboolean is_regular(const VrGuestFile *file, GError **error)
{
    return file->kind == VR_GUEST_FILE_REGULAR || refuse(error, "the file", file->path, "is no regular file");
}

static gboolean check_host_key(const VrGuestFile *file, GError **error)
{
    static const char *const types[] = {"rsa", "ecdsa", "ed25519"};
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autofree char *name = g_strdup_printf("ssh_host_%s_key", types[i]);
        gboolean fits = g_str_has_prefix(file->path, name) &&
                        (!file->path[strlen(name)] || strcmp(file->path + strlen(name), ".pub") == 0);
        if (fits && g_bytes_get_size(file->data) <= VR_PERSONAL_MAX_BYTES)
            return is_regular(file, error);
    }
    return refuse(error, "the host key", file->path, "is none: ssh_host_TYPE_key or ssh_host_TYPE_key.pub");
}

/* Where the programs that set up a network look; what is not there in the guest is refused later. */
static gboolean check_network(const VrGuestFile *file, GError **error)
{
    static const char *const dirs[] = {"/etc/network", "/etc/netplan", "/etc/systemd/network",
                                       "/etc/NetworkManager/system-connections", "/etc/sysconfig/network-scripts"};
    for (gsize i = 0; i < G_N_ELEMENTS(dirs); i++)
        if (is_below(file->path, dirs[i]) && strlen(file->path) > strlen(dirs[i]))
            return is_regular(file, error) && check_file(file, error);
    return refuse(error, "the network file", file->path, "does not lie where a guest's network is set up");
}

static gboolean check_keys(const VrPersonalKeys *keys, GError **error)
{
    if (strlen(keys->user) > 32 || !consists_of(keys->user, "_-.$") || keys->user[0] == '-')
        return refuse(error, "the user", keys->user, "has a name that no user has");
    for (guint i = 0; i < keys->keys->len; i++) {
        const char *wrong = vr_ssh_key_check(keys->keys->pdata[i]);
        if (wrong)
            return refuse(error, "the key", keys->keys->pdata[i], wrong);
    }
    return TRUE;
}

static gboolean check_script(GBytes *script, GError **error)
{
    gsize length;
    const char *bytes = g_bytes_get_data(script, &length);
    if (length >= 2 && length <= VR_PERSONAL_MAX_BYTES && memcmp(bytes, "#!", 2) == 0)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID,
                        "the first-boot script does not begin with '#!', or is larger than 16 MiB");
    return FALSE;
}

/* Setup says only at the first boot that it is none. */
static gboolean check_unattend(GBytes *answers, GError **error)
{
    gsize length;
    const char *bytes = g_bytes_get_data(answers, &length);
    if (length <= VR_PERSONAL_MAX_BYTES && g_utf8_validate(bytes, (gssize)length, NULL) &&
        g_strstr_len(bytes, (gssize)length, "<unattend"))
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID,
                        "the answer file for Windows is no XML in UTF-8 with an element 'unattend', or larger than 16 "
                        "MiB");
    return FALSE;
}

typedef gboolean (*CheckOne)(const VrGuestFile *file, GError **error);

static gboolean check_list(const GPtrArray *list, CheckOne check, GError **error)
{
    for (guint i = 0; i < list->len; i++)
        if (!check(list->pdata[i], error))
            return FALSE;
    return TRUE;
}

static gboolean check_number(const VrPersonal *personal, GError **error)
{
    guint n = personal->host_keys->len + personal->files->len + personal->network->len + personal->authorized->len;
    if (n <= VR_PERSONAL_MAX_FILES)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%u files are more than %u", n, VR_PERSONAL_MAX_FILES);
    return FALSE;
}

static gboolean check_all(const VrPersonal *personal, GError **error)
{
    if (!check_number(personal, error) || (personal->hostname && !check_hostname(personal->hostname, error)) ||
        (personal->machine_id && !check_machine_id(personal->machine_id, error)) ||
        (personal->timezone && !check_timezone(personal->timezone, error)) ||
        !check_list(personal->host_keys, check_host_key, error) || !check_list(personal->files, check_file, error) ||
        !check_list(personal->network, check_network, error))
        return FALSE;
    for (guint i = 0; i < personal->authorized->len; i++)
        if (!check_keys(personal->authorized->pdata[i], error))
            return FALSE;
    return (!personal->first_boot || check_script(personal->first_boot, error)) &&
           (!personal->unattend || check_unattend(personal->unattend, error));
}

gboolean vr_personal_check(const VrPersonal *personal, GError **error)
{
    if (check_all(personal, error))
        return TRUE;
    if (personal->disk)
        g_prefix_error(error, "cannot personalise %s: ", personal->disk);
    return FALSE;
}
