/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image.json: what a version is. It is written once, before the version becomes visible, and never again. What is read
 * back is not trusted: it must be of the directory that it lies in, and the disk beside it must have the size that it says.
 */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEMA_VERSION 1
#define MAX_BYTES (64 * 1024)
#define DIGEST_PREFIX "sha256:"

typedef json_t Json;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Json, json_decref)

VrImage *vr_image_copy(const VrImage *image)
{
    if (!image)
        return NULL;
    VrImage *copy = g_memdup2(image, sizeof *image);
    copy->name = g_strdup(image->name);
    copy->version = g_strdup(image->version);
    copy->publisher = g_strdup(image->publisher);
    copy->offer = g_strdup(image->offer);
    copy->sku = g_strdup(image->sku);
    copy->path = g_strdup(image->path);
    copy->published_at = g_strdup(image->published_at);
    copy->excluded_reason = g_strdup(image->excluded_reason);
    copy->signature_key = g_strdup(image->signature_key);
    copy->signed_comment = g_strdup(image->signed_comment);
    return copy;
}

void vr_image_free(VrImage *image)
{
    if (!image)
        return;
    g_free(image->name);
    g_free(image->version);
    g_free(image->publisher);
    g_free(image->offer);
    g_free(image->sku);
    g_free(image->path);
    g_free(image->published_at);
    g_free(image->excluded_reason);
    g_free(image->signature_key);
    g_free(image->signed_comment);
    g_free(image);
}

/* ---- writing ---- */

static void put_digest(json_t *json, const char *key, const char *hex)
{
    g_autofree char *text = g_strconcat(DIGEST_PREFIX, hex, NULL);
    json_object_set_new(json, key, json_string(text));
}

static void put_text(json_t *json, const char *key, const char *text)
{
    if (text)
        json_object_set_new(json, key, json_string(text));
}

char *vr_image_to_json(const VrImage *image)
{
    g_autoptr(Json) json = json_object();
    json_object_set_new(json, "schemaVersion", json_integer(SCHEMA_VERSION));
    put_text(json, "name", image->name);
    put_text(json, "version", image->version);
    put_text(json, "publisher", image->publisher);
    put_text(json, "offer", image->offer);
    put_text(json, "sku", image->sku);
    put_text(json, "format", vr_image_format_name(image->format));
    json_object_set_new(json, "fileSize", json_integer((json_int_t)image->file_size));
    json_object_set_new(json, "virtualSize", json_integer((json_int_t)image->virtual_size));
    put_digest(json, "sourceDigest", image->source_digest);
    put_digest(json, "storedDigest", image->stored_digest);
    json_object_set_new(json, "rulesVersion", json_integer(image->rules_version));
    if (image->boot_recorded)
        json_object_set_new(json, "boot", vr_image_boot_to_json(&image->boot));
    put_text(json, "publishedAt", image->published_at);
    put_text(json, "signatureKeyId", image->signature_key);
    put_text(json, "signatureComment", image->signed_comment);
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    char *copy = g_strconcat(text, "\n", NULL);
    free(text);
    return copy;
}

/* ---- reading ---- */

static gboolean bad(GError **error, const char *what)
{
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "its image.json is damaged: %s", what);
    return FALSE;
}

/* NULL is allowed where the member may be absent. */
static gboolean get_text(json_t *json, const char *key, gboolean required, char **text, GError **error)
{
    json_t *member = json_object_get(json, key);
    if (!member && !required)
        return TRUE;
    const char *value = json_string_value(member);
    if (!value)
        return bad(error, key);
    *text = g_strdup(value);
    return TRUE;
}

static gboolean get_size(json_t *json, const char *key, guint64 *size, GError **error)
{
    json_t *member = json_object_get(json, key);
    if (!json_is_integer(member) || json_integer_value(member) <= 0)
        return bad(error, key);
    *size = (guint64)json_integer_value(member);
    return TRUE;
}

static gboolean get_digest(json_t *json, const char *key, char hex[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    const char *text = json_string_value(json_object_get(json, key));
    if (!text || !g_str_has_prefix(text, DIGEST_PREFIX))
        return bad(error, key);
    text += strlen(DIGEST_PREFIX);
    if (strlen(text) != VR_DIGEST_HEX_LENGTH || strspn(text, "0123456789abcdef") != VR_DIGEST_HEX_LENGTH)
        return bad(error, key);
    memcpy(hex, text, VR_DIGEST_HEX_LENGTH + 1);
    return TRUE;
}

static gboolean get_identity(json_t *json, const VrImage *image, GError **error)
{
    if (json_integer_value(json_object_get(json, "schemaVersion")) != SCHEMA_VERSION)
        return bad(error, "schemaVersion");
    if (g_strcmp0(json_string_value(json_object_get(json, "name")), image->name) != 0)
        return bad(error, "name is not that of its directory");
    if (g_strcmp0(json_string_value(json_object_get(json, "version")), image->version) != 0)
        return bad(error, "version is not that of its directory");
    return TRUE;
}

static gboolean get_format(json_t *json, VrImageFormat *format, GError **error)
{
    return vr_image_format_parse(json_string_value(json_object_get(json, "format")), format, NULL) ||
           bad(error, "format");
}

static gboolean get_boot(json_t *json, VrImage *image, GError **error)
{
    json_t *boot = json_object_get(json, "boot");
    image->boot_recorded = boot != NULL;
    return !boot || vr_image_boot_from_json(boot, &image->boot) || bad(error, "boot");
}

/* image has name and version; the rest is filled in. */
static gboolean decode(json_t *json, VrImage *image, GError **error)
{
    json_t *rules = json_object_get(json, "rulesVersion");
    if (!get_identity(json, image, error) || !get_format(json, &image->format, error) ||
        !get_text(json, "publisher", FALSE, &image->publisher, error) ||
        !get_text(json, "offer", FALSE, &image->offer, error) || !get_text(json, "sku", FALSE, &image->sku, error) ||
        !get_text(json, "publishedAt", TRUE, &image->published_at, error) ||
        !get_text(json, "signatureKeyId", FALSE, &image->signature_key, error) ||
        !get_text(json, "signatureComment", FALSE, &image->signed_comment, error) ||
        !get_size(json, "fileSize", &image->file_size, error) ||
        !get_size(json, "virtualSize", &image->virtual_size, error) ||
        !get_digest(json, "sourceDigest", image->source_digest, error) ||
        !get_digest(json, "storedDigest", image->stored_digest, error) || !get_boot(json, image, error))
        return FALSE;
    if (!json_is_integer(rules) || json_integer_value(rules) < 0 || json_integer_value(rules) > G_MAXINT)
        return bad(error, "rulesVersion");
    image->rules_version = (int)json_integer_value(rules);
    return TRUE;
}

static Json *read_json(int dirfd, GError **error)
{
    char text[MAX_BYTES];
    gsize got;
    json_error_t where;
    vr_autofd fd = vr_open_beneath(dirfd, "image.json", O_RDONLY | O_NONBLOCK, 0, error);
    if (fd < 0 || !vr_pread_all(fd, text, sizeof text, 0, &got, error))
        return NULL;
    if (got == sizeof text) {
        bad(error, "it is too large");
        return NULL;
    }
    Json *json = json_loadb(text, got, JSON_REJECT_DUPLICATES, &where);
    if (!json) {
        g_autofree char *why = vr_printable(where.text, -1);
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "its image.json is damaged: line %d: %s", where.line, why);
    }
    return json;
}

/* ---- a version on disk ---- */

static char *relative_path(const VrImage *image, gboolean disk)
{
    g_autofree char *file = g_strconcat("disk.", vr_image_format_name(image->format), NULL);
    return g_build_filename("images", image->name, image->version, disk ? file : NULL, NULL);
}

int vr_image_open_disk(VrStore *store, const VrImage *image, GError **error)
{
    struct stat st;
    g_autofree char *path = relative_path(image, TRUE);
    vr_autofd fd = vr_open_beneath(store->root_fd, path, O_RDONLY | O_NONBLOCK, 0, error);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", path);
        return -1;
    }
    const char *wrong = !S_ISREG(st.st_mode)                      ? "it is not a regular file"
                        : st.st_nlink != 1                        ? "it has a second name (a hard link)"
                        : st.st_mode & 0222                       ? "it is writable"
                        : (guint64)st.st_size != image->file_size ? "its size is not that of its record"
                                                                  : NULL;
    if (wrong) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s/%s was changed after it was published: %s", store->root,
                    path, wrong);
        return -1;
    }
    return vr_fd_steal(&fd);
}

static gboolean load(VrStore *store, VrImage *image, GError **error)
{
    g_autofree char *directory = relative_path(image, FALSE);
    vr_autofd dirfd = vr_open_beneath(store->root_fd, directory, O_RDONLY | O_DIRECTORY, 0, error);
    g_autoptr(Json) json = dirfd < 0 ? NULL : read_json(dirfd, error);
    if (!json || !decode(json, image, error))
        return FALSE;
    g_autofree char *path = relative_path(image, TRUE);
    image->path = g_build_filename(store->root, path, NULL);
    vr_autofd fd = vr_image_open_disk(store, image, error);
    return fd >= 0;
}

VrImage *vr_image_load(VrStore *store, const char *name, const char *version, GError **error)
{
    g_autoptr(VrImage) image = g_new0(VrImage, 1);
    image->name = g_strdup(name);
    image->version = g_strdup(version);
    if (load(store, image, error))
        return g_steal_pointer(&image);
    g_prefix_error(error, "image %s %s: ", name, version);
    return NULL;
}
