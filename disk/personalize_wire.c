/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Both ways between us and the child. What goes to it may hold secrets; what comes back was made by one that opened a disk of somebody else, so it is
 * read as strictly as a file from a stranger.
 */
#include "base/error.h"
#include "disk/personalize_private.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef json_t Json;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Json, json_decref)

void vr_personal_request_free(VrPersonalRequest *request)
{
    if (!request)
        return;
    g_free(request->work_dir);
    g_ptr_array_unref(request->disks);
    g_strfreev(request->read);
    g_free(request);
}

void vr_personal_text_free(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

/* ---- out ---- */

static void set_text(json_t *object, const char *key, const char *value)
{
    if (value)
        json_object_set_new(object, key, json_string(value));
}

static void set_bytes(json_t *object, const char *key, GBytes *bytes)
{
    gsize length;
    const guint8 *data = bytes ? g_bytes_get_data(bytes, &length) : NULL;
    if (!bytes)
        return;
    g_autofree char *text = g_base64_encode(data, length);
    set_text(object, key, text);
    explicit_bzero(text, strlen(text));
}

static const char *const kinds[] = {"file", "directory", "link"}; /* by VrGuestFileKind */

static json_t *write_files(const GPtrArray *files)
{
    json_t *array = json_array();
    for (guint i = 0; i < files->len; i++) {
        const VrGuestFile *file = files->pdata[i];
        json_t *object = json_object();
        set_text(object, "path", file->path);
        set_text(object, "kind", kinds[file->kind]);
        set_text(object, "owner", file->owner);
        json_object_set_new(object, "mode", json_integer(file->mode));
        set_bytes(object, "data", file->data);
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *write_keys(const GPtrArray *authorized)
{
    json_t *array = json_array();
    for (guint i = 0; i < authorized->len; i++) {
        const VrPersonalKeys *keys = authorized->pdata[i];
        json_t *object = json_object(), *lines = json_array();
        set_text(object, "user", keys->user);
        for (guint k = 0; k < keys->keys->len; k++)
            json_array_append_new(lines, json_string(keys->keys->pdata[k]));
        json_object_set_new(object, "keys", lines);
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *write_disk(const VrPersonal *personal)
{
    json_t *object = json_object();
    set_text(object, "disk", personal->disk);
    set_text(object, "format", vr_image_format_name(personal->format));
    set_text(object, "hostname", personal->hostname);
    set_text(object, "machineId", personal->machine_id);
    set_text(object, "timezone", personal->timezone);
    json_object_set_new(object, "hostKeys", write_files(personal->host_keys));
    json_object_set_new(object, "files", write_files(personal->files));
    json_object_set_new(object, "network", write_files(personal->network));
    json_object_set_new(object, "authorized", write_keys(personal->authorized));
    set_bytes(object, "firstBoot", personal->first_boot);
    set_bytes(object, "unattend", personal->unattend);
    json_object_set_new(object, "noRelabel", json_boolean(personal->no_relabel));
    return object;
}

static gboolean asks_for_some(const VrPersonal *personal)
{
    return personal->hostname || personal->machine_id || personal->timezone || personal->first_boot ||
           personal->unattend || personal->host_keys->len > 0 || personal->files->len > 0 ||
           personal->network->len > 0 || personal->authorized->len > 0;
}

/* Of what goes to the child: a field that is not asked for is not in it, so that another one, once there is one, changes no digest. */
char *vr_personal_digest(const VrPersonal *personal)
{
    g_autoptr(VrPersonal) plain = vr_personal_copy(personal, "", VR_FORMAT_QCOW2);
    g_autoptr(Json) object = write_disk(plain);
    char *text = json_dumps(object, JSON_COMPACT);
    char *digest = asks_for_some(personal) ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1) : NULL;

    vr_personal_text_free(text);
    return digest;
}

static json_t *write_texts(char *const *texts)
{
    json_t *array = json_array();
    for (; *texts; texts++)
        json_array_append_new(array, json_string(*texts));
    return array;
}

char *vr_personal_files_write(const GPtrArray *files)
{
    g_autoptr(Json) root = write_files(files);
    return json_dumps(root, JSON_COMPACT);
}

char *vr_personal_request_write(const VrPersonalRequest *request)
{
    g_autoptr(Json) root = json_object();
    json_t *disks = json_array();
    for (guint i = 0; i < request->disks->len; i++)
        json_array_append_new(disks, write_disk(request->disks->pdata[i]));
    json_object_set_new(root, "kvm", json_boolean(request->kvm));
    json_object_set_new(root, "seconds", json_integer(request->seconds));
    set_text(root, "workDir", request->work_dir);
    json_object_set_new(root, "disks", disks);
    if (request->read)
        json_object_set_new(root, "read", write_texts(request->read));
    return json_dumps(root, JSON_COMPACT);
}

/* ---- in ---- */

static gboolean wrong(GError **error, const char *key)
{
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "it has no good '%s'", key);
    return FALSE;
}

/* *text: a copy, NULL when it is not there. */
static gboolean get_text(const json_t *object, const char *key, gboolean needed, char **text, GError **error)
{
    const json_t *value = json_object_get(object, key);
    if ((!value && needed) || (value && !json_is_string(value)))
        return wrong(error, key);
    *text = g_strdup(json_string_value(value));
    return TRUE;
}

static gboolean get_bytes(const json_t *object, const char *key, gboolean needed, GBytes **bytes, GError **error)
{
    const json_t *value = json_object_get(object, key);
    gsize length;
    if ((!value && needed) || (value && !json_is_string(value)))
        return wrong(error, key);
    if (!value)
        return TRUE;
    guchar *data = g_base64_decode(json_string_value(value), &length);
    *bytes = g_bytes_new_take(data, length);
    return TRUE;
}

static gboolean get_kind(const json_t *object, VrGuestFileKind *kind, GError **error)
{
    const char *text = json_string_value(json_object_get(object, "kind"));
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_strcmp0(text, kinds[i]) == 0) {
            *kind = (VrGuestFileKind)i;
            return TRUE;
        }
    return wrong(error, "kind");
}

static gboolean read_file(const json_t *object, GPtrArray *files, GError **error)
{
    g_autofree char *path = NULL, *owner = NULL;
    g_autoptr(GBytes) data = NULL;
    const json_t *mode = json_object_get(object, "mode");
    VrGuestFileKind kind = VR_GUEST_FILE_REGULAR;
    gsize length;

    if (!get_text(object, "path", TRUE, &path, error) || !get_kind(object, &kind, error) ||
        !get_text(object, "owner", FALSE, &owner, error) || !get_bytes(object, "data", TRUE, &data, error))
        return FALSE;
    if (!json_is_integer(mode) || json_integer_value(mode) < 0 || json_integer_value(mode) > 07777)
        return wrong(error, "mode");
    const void *bytes = g_bytes_get_data(data, &length);
    g_ptr_array_add(files, vr_guest_file_new(kind, path, (guint)json_integer_value(mode), owner, bytes, length));
    return TRUE;
}

static gboolean read_files(const json_t *disk, const char *key, GPtrArray *files, GError **error)
{
    const json_t *array = json_object_get(disk, key), *one;
    size_t i;
    if (!json_is_array(array))
        return wrong(error, key);
    json_array_foreach(array, i, one) if (!read_file(one, files, error)) return FALSE;
    return TRUE;
}

static gboolean read_keys(const json_t *disk, VrPersonal *personal, GError **error)
{
    const json_t *array = json_object_get(disk, "authorized"), *one, *key;
    size_t i, k;
    if (!json_is_array(array))
        return wrong(error, "authorized");
    json_array_foreach(array, i, one)
    {
        const char *user = json_string_value(json_object_get(one, "user"));
        const json_t *keys = json_object_get(one, "keys");
        json_array_foreach(keys, k, key) if (user && json_is_string(key))
            vr_personal_add_key(personal, user, json_string_value(key));
        else return wrong(error, "authorized");
    }
    return TRUE;
}

static VrPersonal *read_disk(const json_t *object, GError **error)
{
    g_autofree char *disk = NULL, *format = NULL;
    if (!get_text(object, "disk", TRUE, &disk, error) || !get_text(object, "format", TRUE, &format, error))
        return NULL;
    VrImageFormat known = strcmp(format, "raw") == 0 ? VR_FORMAT_RAW : VR_FORMAT_QCOW2;
    if (!g_path_is_absolute(disk) || strcmp(format, vr_image_format_name(known)) != 0) {
        wrong(error, "disk");
        return NULL;
    }
    g_autoptr(VrPersonal) personal = vr_personal_new(disk, known);
    personal->no_relabel = json_is_true(json_object_get(object, "noRelabel"));
    if (!get_text(object, "hostname", FALSE, &personal->hostname, error) ||
        !get_text(object, "machineId", FALSE, &personal->machine_id, error) ||
        !get_text(object, "timezone", FALSE, &personal->timezone, error) ||
        !read_files(object, "hostKeys", personal->host_keys, error) ||
        !read_files(object, "files", personal->files, error) ||
        !read_files(object, "network", personal->network, error) || !read_keys(object, personal, error) ||
        !get_bytes(object, "firstBoot", FALSE, &personal->first_boot, error) ||
        !get_bytes(object, "unattend", FALSE, &personal->unattend, error) || !vr_personal_check(personal, error))
        return NULL;
    return g_steal_pointer(&personal);
}

static gboolean read_disks(const json_t *root, VrPersonalRequest *request, GError **error)
{
    const json_t *disks = json_object_get(root, "disks"), *one;
    size_t i;
    if (!json_is_array(disks) || json_array_size(disks) == 0 || json_array_size(disks) > VR_PERSONAL_MAX_DISKS)
        return wrong(error, "disks");
    json_array_foreach(disks, i, one)
    {
        VrPersonal *personal = read_disk(one, error);
        if (!personal)
            return FALSE;
        g_ptr_array_add(request->disks, personal);
    }
    return TRUE;
}

static gboolean read_paths(const json_t *root, VrPersonalRequest *request, GError **error)
{
    const json_t *array = json_object_get(root, "read"), *one;
    size_t i;
    if (!array)
        return TRUE;
    if (json_array_size(array) == 0 || json_array_size(array) > VR_GUEST_FILES_MAX || request->disks->len != 1)
        return wrong(error, "read");
    request->read = g_new0(char *, json_array_size(array) + 1);
    json_array_foreach(array, i, one)
    {
        if (!json_is_string(one))
            return wrong(error, "read");
        request->read[i] = g_strdup(json_string_value(one));
        if (!vr_personal_path_check(request->read[i], error))
            return FALSE;
    }
    return TRUE;
}

VrPersonalRequest *vr_personal_request_read(const char *text, gsize length, GError **error)
{
    g_autoptr(Json) root = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
    g_autoptr(VrPersonalRequest) request = g_new0(VrPersonalRequest, 1);
    json_int_t seconds = json_integer_value(json_object_get(root, "seconds"));

    request->disks = g_ptr_array_new_with_free_func((GDestroyNotify)vr_personal_free);
    request->kvm = json_is_true(json_object_get(root, "kvm"));
    request->seconds = (guint)CLAMP(seconds, 0, 86400);
    if (request->seconds == 0) {
        wrong(error, "seconds");
        return NULL;
    }
    if (!get_text(root, "workDir", TRUE, &request->work_dir, error) || !read_disks(root, request, error) ||
        !read_paths(root, request, error))
        return NULL;
    return g_steal_pointer(&request);
}

/* ---- files that were read ---- */

/* "33:4" */
static gboolean is_owner(const char *text)
{
    guint64 uid, gid;
    g_auto(GStrv) parts = g_strsplit(text ? text : "", ":", -1);
    return g_strv_length(parts) == 2 && g_ascii_string_to_unsigned(parts[0], 10, 0, G_MAXUINT32, &uid, NULL) &&
           g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXUINT32, &gid, NULL);
}

static gboolean is_asked(const char *path, const char *const *paths)
{
    for (; *paths; paths++)
        if (g_str_has_prefix(path, *paths) && strchr("/", path[strlen(*paths)]))
            return TRUE;
    return FALSE;
}

static gboolean check_read(const VrGuestFile *file, const char *const *paths, gsize *left, GError **error)
{
    if (!vr_personal_path_check(file->path, error) || !vr_personal_data_check(file, *left, error))
        return FALSE;
    *left -= g_bytes_get_size(file->data);
    return (is_asked(file->path, paths) && is_owner(file->owner)) || wrong(error, "path or owner of a file");
}

GPtrArray *vr_personal_files_read(const char *text, const char *const *paths, GError **error)
{
    g_autoptr(Json) root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    g_autoptr(GPtrArray) files = vr_guest_files_new();
    gsize left = VR_GUEST_FILES_MAX_BYTES;
    const json_t *one;
    size_t i;
    if (!json_is_array(root) || json_array_size(root) > VR_GUEST_FILES_MAX)
        return wrong(error, "list of files") ? NULL : NULL;
    json_array_foreach(root, i, one) if (!read_file(one, files, error) ||
                                         !check_read(g_ptr_array_index(files, i), paths, &left, error)) return NULL;
    return g_steal_pointer(&files);
}

/* ---- the report ---- */

void vr_personal_report_free(VrPersonalReport *report)
{
    if (!report)
        return;
    for (guint i = 0; i < report->n; i++)
        g_clear_error(&report->errors[i]);
    g_free(report->errors);
    g_free(report->done);
    g_free(report);
}

/* The number behind a word, -1: there is none, or no such disk. *rest: behind it. */
static int number_after(const char *line, const char *word, guint n, const char **rest)
{
    char *end;
    if (!g_str_has_prefix(line, word) || !g_ascii_isdigit(line[strlen(word)]))
        return -1;
    guint64 number = g_ascii_strtoull(line + strlen(word), &end, 10);
    *rest = *end == ' ' ? end + 1 : end;
    return number < n ? (int)number : -1;
}

static void take_fail(VrPersonalReport *report, int i, const char *rest)
{
    char *end;
    guint64 code = g_ascii_strtoull(rest, &end, 10);
    g_autofree char *shown = vr_printable(*end == ' ' ? end + 1 : end, -1);
    if (!report->errors[i])
        report->errors[i] = g_error_new_literal(VR_ERROR, code < VR_ERROR_LAST_ ? (int)code : VR_ERROR_FAILED, shown);
    report->done[i] = FALSE;
    report->current = -1;
}

static void take_line(VrPersonalReport *report, const char *line)
{
    const char *rest = "";
    int i;
    if ((i = number_after(line, "begin ", report->n, &rest)) >= 0) {
        report->current = i;
    } else if ((i = number_after(line, "done ", report->n, &rest)) >= 0) {
        report->done[i] = !report->errors[i];
        report->current = -1;
    } else if ((i = number_after(line, "fail ", report->n, &rest)) >= 0) {
        take_fail(report, i, rest);
    } else if (strcmp(line, "flushed") == 0) {
        report->flushed = TRUE;
    }
}

VrPersonalReport *vr_personal_report_read(const char *text, guint n)
{
    VrPersonalReport *report = g_new0(VrPersonalReport, 1);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    report->n = n;
    report->current = -1;
    report->done = g_new0(gboolean, n);
    report->errors = g_new0(GError *, n);
    for (char **line = lines; line[0] && line[1]; line++) /* the last one is not whole */
        take_line(report, *line);
    return report;
}
