/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One generation from its files. */
#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/qcow2.h"
#include "disk/version.h"
#include "engine/rebuild_private.h"
#include "engine/swap_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NAME 1023 /* of a backing file, as QEMU has it */
#define MAX_XML_BYTES (8 * 1024 * 1024)

char *vr_rebuild_read_xml(int dir_fd, guint number)
{
    g_autofree char *name = g_strdup_printf("g%u.xml", number);
    g_autofree char *text = g_malloc(MAX_XML_BYTES + 1);
    gsize got = 0;
    vr_autofd fd = vr_open_beneath(dir_fd, name, O_RDONLY | O_NONBLOCK, 0, NULL);

    if (fd < 0 || !vr_pread_all(fd, text, MAX_XML_BYTES, 0, &got, NULL))
        return NULL;
    text[got] = '\0';
    return g_strndup(text, got);
}

/* "" when nothing is behind it; NULL with an error. */
static char *backing_name(int fd, GError **error)
{
    VrQcow2Header header;
    g_autofree char *text = NULL;
    gsize got = 0;

    if (!vr_qcow2_header_read(fd, &header, error))
        return NULL;
    if (header.backing_offset == 0)
        return g_strdup("");
    if (header.backing_length > MAX_NAME) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "its backing name is longer than QEMU allows");
        return NULL;
    }
    text = g_malloc0((gsize)header.backing_length + 1);
    return vr_pread_all(fd, text, header.backing_length, header.backing_offset, &got, error) ? g_steal_pointer(&text)
                                                                                             : NULL;
}

/* ROOT/images/NAME/VERSION/disk.*: the version that it was made of. FALSE with an error: it is no version of this store. */
static gboolean version_of(VrStore *store, const char *backing, VrGeneration *made, GError **error)
{
    g_autofree char *images = g_strdup_printf("%s/images/", vr_store_root(store));
    g_auto(GStrv) parts = NULL;

    if (g_str_has_prefix(backing, images))
        parts = g_strsplit(backing + strlen(images), "/", 0);
    if (!parts || g_strv_length(parts) != 3 || !vr_name_check(parts[0], "image", NULL) ||
        !vr_version_check(parts[1], NULL)) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s is behind it, which is no image version of this store",
                    backing);
        return FALSE;
    }
    if (access(backing, F_OK) < 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "the image version behind it, %s, is gone", backing);
        return FALSE;
    }
    made->image = g_strdup(parts[0]);
    made->version = g_strdup(parts[1]);
    return TRUE;
}

/* What the XML of the generation says of itself. */
static gboolean check_record(VrGeneration *made, const char *xml, gboolean stands_alone, GError **error)
{
    g_auto(VrDomainRecordRead) record = {0};

    if (!xml || !vr_domain_xml_record(xml, &record) || record.generation != made->number) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "g%u.xml %s", made->number,
                    xml ? "is of another generation" : "cannot be read");
        return FALSE;
    }
    if (stands_alone && record.image && record.version && vr_name_check(record.image, "image", NULL) &&
        vr_version_check(record.version, NULL)) {
        made->image = g_strdup(record.image);
        made->version = g_strdup(record.version);
        return TRUE;
    }
    if (g_strcmp0(record.image, made->image) == 0 && g_strcmp0(record.version, made->version) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                "g%u.xml says that it is %s %s, but its backing file is that of %s %s", made->number,
                record.image ? record.image : "?", record.version ? record.version : "?",
                made->image ? made->image : "?", made->version ? made->version : "?");
    return FALSE;
}

gboolean vr_rebuild_check_rest(const struct stat *st, GError **error)
{
    if (st->st_uid == geteuid() && (st->st_mode & 07177) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "its owner is %u and its mode %04o, not %u and 0400 or 0600",
                st->st_uid, (guint)st->st_mode & 07777, geteuid());
    return FALSE;
}

static gboolean look_at_disk(const VrRebuildLook *look, VrGeneration *made, const char *xml, GError **error)
{
    g_autofree char *name = g_path_get_basename(made->path);
    g_autofree char *backing = NULL;
    VrFileId id;
    struct stat st;
    vr_autofd fd = vr_open_beneath(look->dir_fd, name, O_RDONLY | O_NONBLOCK, 0, error);

    if (fd < 0)
        return FALSE;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "it is not a regular file with one name");
        return FALSE;
    }
    if (!vr_disk_file_id_of(fd, made->path, &id, error))
        return FALSE;
    /* A file system that does not say when it was made says when it was written last. */
    made->made_us = (id.born_ns > 0 ? id.born_ns : id.mtime_ns) / 1000;
    backing = backing_name(fd, error);
    if (!backing || (*backing && !version_of(look->store, backing, made, error)) ||
        !check_record(made, xml, !*backing, error) ||
        (made->state != VR_GENERATION_CURRENT && !vr_rebuild_check_rest(&st, error)) ||
        !vr_rebuild_nvram(look, made, xml, error) || !vr_rebuild_seed(look, made, xml, error))
        return FALSE;
    made->file = id;
    return TRUE;
}

/* One that is of another generation, or of none, was not written for this one. */
static char *digest_of(const char *xml, guint number)
{
    g_auto(VrDomainRecordRead) record = {0};

    return xml && vr_domain_xml_record(xml, &record) && record.generation == number ? vr_generation_xml_digest(xml)
                                                                                    : g_strdup(VR_XML_NOT_KNOWN);
}

static void say(VrFoundInstance *found, const VrGeneration *made, const char *why)
{
    g_ptr_array_add(found->said,
                    g_strdup_printf("generation %u is not restored as one to go back to: %s", made->number, why));
}

static VrGeneration *new_made(const VrRebuildLook *look, guint number)
{
    VrGeneration *made = g_new0(VrGeneration, 1);

    g_strlcpy(made->uuid, look->found->uuid, sizeof(made->uuid));
    made->number = number;
    made->path = g_strdup_printf("%s/disks/%s/g%u.qcow2", vr_store_root(look->store), made->uuid, number);
    made->format = g_strdup("qcow2");
    made->disk_type = g_strdup("file");
    made->ours = TRUE;
    made->state = g_strcmp0(made->path, look->path) == 0 ? VR_GENERATION_CURRENT : VR_GENERATION_KEPT;
    /* since when is not known, so from now on */
    made->left_us = made->state == VR_GENERATION_CURRENT ? 0 : vr_clock_wall_us();
    return made;
}

VrGeneration *vr_rebuild_made(const VrRebuildLook *look, guint number)
{
    VrGeneration *made = new_made(look, number);
    g_autofree char *xml = vr_rebuild_read_xml(look->dir_fd, number);
    g_autoptr(GError) local = NULL;

    made->xml = digest_of(xml, number);
    if (!g_hash_table_contains(look->disks, GUINT_TO_POINTER(number))) {
        made->state = VR_GENERATION_DISCARDED;
        say(look->found, made, "its disk is gone");
    } else if (!look_at_disk(look, made, xml, &local)) {
        made->state = VR_GENERATION_FAILED;
        say(look->found, made, local->message);
    }
    return made;
}
