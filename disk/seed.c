/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files of a seed are written 0600 into a directory of their own in the locked temp directory beside its place; xorrisofs reads them
 * there and gives the image back through a pipe, and it is written as any file of a generation is. The parts go with the temp directory, also
 * after a crash (vr_store_sweep).
 */
#include "disk/seed.h"

#include "base/child.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/new_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define TOOL "xorrisofs"
#define PARTS "parts"           /* the directory in the temp directory */
#define DATE "2020010100000000" /* of all that is in it: the same content is the same image */
#define SECTOR 2048
#define DESCRIPTOR (16 * SECTOR) /* of the volume: ECMA-119, 6.2.1 and 8.4 */
#define LABEL_AT (DESCRIPTOR + 40)
#define LABEL "cidata"
#define MAX_BYTES (4 * VR_SEED_PART_MAX_BYTES + 256 * SECTOR)

static const VrChildLimits limits = {
    .timeout_ms = 60000, .max_output = MAX_BYTES, .max_memory = 1024 * 1024 * 1024, .max_cpu_s = 30};

static GBytes *share(GBytes *bytes)
{
    return bytes ? g_bytes_ref(bytes) : NULL;
}

VrSeed *vr_seed_copy(const VrSeed *seed)
{
    VrSeed *copy = seed ? g_new(VrSeed, 1) : NULL;

    if (copy)
        *copy = (VrSeed){share(seed->user_data), share(seed->meta_data), share(seed->network_config),
                         share(seed->vendor_data)};
    return copy;
}

void vr_seed_free(VrSeed *seed)
{
    if (!seed)
        return;
    g_clear_pointer(&seed->user_data, g_bytes_unref);
    g_clear_pointer(&seed->meta_data, g_bytes_unref);
    g_clear_pointer(&seed->network_config, g_bytes_unref);
    g_clear_pointer(&seed->vendor_data, g_bytes_unref);
    g_free(seed);
}

char *vr_seed_digest(const VrSeed *seed)
{
    GBytes *const parts[] = {seed->user_data, seed->meta_data, seed->network_config, seed->vendor_data};
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++) {
        gsize length = 0;
        const guchar *bytes = parts[i] ? g_bytes_get_data(parts[i], &length) : NULL;
        g_autofree char *size = parts[i] ? g_strdup_printf("%" G_GSIZE_FORMAT ":", length) : g_strdup("-:");
        g_checksum_update(sum, (const guchar *)size, -1);
        if (length > 0)
            g_checksum_update(sum, bytes, (gssize)length);
    }
    return g_strdup(g_checksum_get_string(sum));
}

gboolean vr_seed_has_tool(GError **error)
{
    g_autofree char *path = g_find_program_in_path(TOOL);

    if (!path)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_NOT_FOUND,
                            "the seed of a guest is made by " TOOL ", which is not installed: install the package "
                            "'xorriso'");
    return path != NULL;
}

/* ---- the parts ---- */

static gboolean write_part(int dir_fd, const char *name, const char *head, GBytes *bytes, GError **error)
{
    gsize length = 0;
    const void *data = bytes ? g_bytes_get_data(bytes, &length) : NULL;
    vr_autofd fd = vr_open_beneath(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600, error);

    return fd >= 0 && vr_write_all(fd, head, strlen(head), name, error) &&
           (length == 0 || vr_write_all(fd, data, length, name, error));
}

static gboolean write_parts(int dir_fd, const VrSeed *seed, const char *instance_id, GError **error)
{
    g_autofree char *id = g_strdup_printf("instance-id: %s\n", instance_id);

    return write_part(dir_fd, "user-data", "", seed->user_data, error) &&
           write_part(dir_fd, "meta-data", id, seed->meta_data, error) &&
           (!seed->network_config || write_part(dir_fd, "network-config", "", seed->network_config, error)) &&
           (!seed->vendor_data || write_part(dir_fd, "vendor-data", "", seed->vendor_data, error));
}

/* ---- the image ---- */

static gboolean is_seed(const char *bytes, gsize length)
{
    return length >= DESCRIPTOR + SECTOR && length % SECTOR == 0 && memcmp(bytes + DESCRIPTOR, "\1CD001", 6) == 0 &&
           memcmp(bytes + LABEL_AT, LABEL " ", strlen(LABEL) + 1) == 0;
}

static gboolean build(const char *directory, VrChildResult *result, GError **error)
{
    const char *argv[] = {TOOL,
                          "--no_rc",
                          "-quiet",
                          "-no-pad",
                          "-V",
                          LABEL,
                          "-J",
                          "-r",
                          "--modification-date=" DATE,
                          "--set_all_file_dates",
                          DATE,
                          "-o",
                          "-",
                          directory,
                          NULL};

    if (!vr_seed_has_tool(error) || !vr_child_run(argv, &limits, result, error))
        return FALSE;
    if (result->exit_status == 0 && is_seed(result->out, result->out_length))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CHILD, TOOL " ended with status %d, and what it gave is no image of a CD-ROM",
                result->exit_status);
    return FALSE;
}

static gboolean put(const VrNewDisk *disk, const void *bytes, gsize length, VrDiskBefore before, void *data,
                    GError **error)
{
    vr_autofd fd = vr_new_disk_create(disk, error);

    return fd >= 0 && vr_write_all(fd, bytes, length, disk->name, error) && vr_fsync(fd, disk->name, error) &&
           vr_new_disk_end(disk, fd, before, data, error);
}

static gboolean make_in(const VrNewDisk *disk, const VrSeed *seed, const char *instance_id, VrDiskBefore before,
                        void *data, GError **error)
{
    g_autofree char *directory = g_build_filename(disk->dir_path, disk->tmp->name, PARTS, NULL);
    g_auto(VrChildResult) result = {0};
    vr_autofd parts = vr_mkdir_beneath(disk->tmp->dir_fd, PARTS, 0700, error);

    return parts >= 0 && write_parts(parts, seed, instance_id, error) && build(directory, &result, error) &&
           put(disk, result.out, result.out_length, before, data, error);
}

gboolean vr_seed_make(VrStore *store, const char *uuid, const char *name, const VrSeed *seed, const char *instance_id,
                      VrDiskBefore before, void *data, GError **error)
{
    g_auto(VrNewDisk) disk = {0};

    if (!vr_new_disk_begin(&disk, store, uuid, name, error))
        return FALSE;
    if (make_in(&disk, seed, instance_id, before, data, error))
        return TRUE;
    g_prefix_error(error, "cannot make %s/%s: ", disk.dir_path, name);
    return FALSE;
}

/* ---- the copy ---- */

static gboolean read_seed(int fd, char **bytes, gsize *length, GError **error)
{
    *bytes = g_malloc(MAX_BYTES + 1);
    if (!vr_pread_all(fd, *bytes, MAX_BYTES + 1, 0, length, error))
        return FALSE;
    if (*length <= MAX_BYTES && is_seed(*bytes, *length))
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "the seed that is there is none of ours");
    return FALSE;
}

gboolean vr_seed_make_copy(VrStore *store, const char *uuid, const char *name, int from_fd, VrDiskBefore before,
                           void *data, GError **error)
{
    g_auto(VrNewDisk) disk = {0};
    g_autofree char *bytes = NULL;
    gsize length;

    if (!read_seed(from_fd, &bytes, &length, error) || !vr_new_disk_begin(&disk, store, uuid, name, error))
        return FALSE;
    if (put(&disk, bytes, length, before, data, error))
        return TRUE;
    g_prefix_error(error, "cannot make %s/%s: ", disk.dir_path, name);
    return FALSE;
}
