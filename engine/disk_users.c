/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine/disk_users.h"

#include "base/error.h"
#include "base/log.h"
#include "hv/connection.h"
#include "hv/domain_refs.h"

#include <string.h>
#include <sys/stat.h>

struct VrDiskUsers {
    GHashTable *files; /* path, or "device:inode" -> GHashTable, a set of UUIDs */
    GHashTable *names; /* UUID -> name */
};

/* --- places ------------------------------------------------------------------------------------------ */

char *vr_volume_local_path(VrHv *hv, const char *pool, const char *volume, GError **error)
{
    g_autofree char *path = vr_connection_volume_path(hv, pool, volume, error);

    if (!path || path[0] == '/')
        return g_steal_pointer(&path);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "volume %s of pool %s is %s, which is no path on this host", volume,
                pool, path);
    return NULL;
}

gboolean vr_disk_local_path(VrHv *hv, const VrDomainDisk *disk, char **path, GError **error)
{
    *path = g_strdup(disk->source);
    if (disk->source || !disk->pool || !disk->volume)
        return TRUE;
    *path = vr_volume_local_path(hv, disk->pool, disk->volume, error);
    return *path != NULL;
}

char *vr_generation_file(VrHv *hv, const VrGeneration *generation, GError **error)
{
    g_auto(GStrv) names = NULL;

    if (!g_str_equal(generation->disk_type, "volume"))
        return g_strdup(generation->path);
    names = g_strsplit(generation->path, "/", 2);
    return vr_volume_local_path(hv, names[0], names[1], error);
}

/* What the file is, whatever name it has; NULL: it is not there. A device is itself, not its node. */
static char *identity(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return NULL;
    if (S_ISBLK(st.st_mode))
        return g_strdup_printf("block:%" G_GUINT64_FORMAT, (guint64)st.st_rdev);
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64)st.st_dev, (guint64)st.st_ino);
}

/* --- the map ----------------------------------------------------------------------------------------- */

void vr_disk_users_free(VrDiskUsers *users)
{
    if (!users)
        return;
    g_hash_table_unref(users->files);
    g_hash_table_unref(users->names);
    g_free(users);
}

/* Takes key. */
static void note(VrDiskUsers *users, char *key, const char *uuid)
{
    GHashTable *who = key ? g_hash_table_lookup(users->files, key) : NULL;

    if (!key)
        return;
    if (!who) {
        who = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_hash_table_insert(users->files, g_strdup(key), who);
    }
    g_hash_table_add(who, g_strdup(uuid));
    g_free(key);
}

static void note_path(VrDiskUsers *users, const char *path, const char *uuid)
{
    note(users, g_canonicalize_filename(path, "/"), uuid);
    note(users, identity(path), uuid);
}

static gboolean note_xml(VrDiskUsers *users, VrHv *hv, const char *xml, const char *uuid, GError **error)
{
    g_autoptr(VrDomainRefs) refs = vr_domain_refs_parse(xml, error);

    if (!refs)
        return FALSE;
    for (guint i = 0; i < refs->paths->len; i++)
        note_path(users, refs->paths->pdata[i], uuid);
    for (guint i = 0; i < refs->pools->len; i++) {
        g_autoptr(GError) local = NULL;
        g_autofree char *path = vr_connection_volume_path(hv, refs->pools->pdata[i], refs->volumes->pdata[i], &local);
        if (path && path[0] == '/')
            note_path(users, path, uuid);
        /* a volume that is not there is nobody's disk, and a guest cannot be started on one whose pool is not active */
        if (g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED) ||
            g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    if (refs->name)
        g_hash_table_insert(users->names, g_strdup(uuid), g_strdup(refs->name));
    return TRUE;
}

/* One that was undefined, or went off, while we looked has no such XML. */
static gboolean note_if_there(VrDiskUsers *users, VrHv *hv, char *xml, GError *why, const char *uuid, GError **error)
{
    g_autofree char *owned = xml;
    g_autoptr(GError) local = why;

    if (owned)
        return note_xml(users, hv, owned, uuid, error);
    if (!g_error_matches(local, VR_ERROR, VR_ERROR_DISCONNECTED))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean note_domain(VrDiskUsers *users, VrHv *hv, const char *uuid, GError **error)
{
    GError *local = NULL;
    char *xml = vr_hv_inactive_xml(hv, uuid, &local);

    if (!note_if_there(users, hv, xml, local, uuid, error))
        return FALSE;
    local = NULL;
    xml = vr_hv_live_xml(hv, uuid, &local);
    return note_if_there(users, hv, xml, local, uuid, error);
}

VrDiskUsers *vr_disk_users_read(VrHv *hv, gboolean leave_out, GError **error)
{
    g_autoptr(VrDiskUsers) users = g_new0(VrDiskUsers, 1);
    g_autoptr(GPtrArray) uuids = vr_hv_list(hv, error);

    users->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref);
    users->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; uuids && i < uuids->len; i++) {
        g_autoptr(GError) local = NULL;

        if (note_domain(users, hv, uuids->pdata[i], &local))
            continue;
        if (!leave_out) {
            g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                       "which disks other domains have cannot be told: ");
            return NULL;
        }
        vr_warning(uuids->pdata[i], "which disks it has cannot be told, so they are not compared: %s", local->message);
    }
    return uuids ? g_steal_pointer(&users) : NULL;
}

/* --- the question ------------------------------------------------------------------------------------ */

static void add_others(const VrDiskUsers *users, const char *key, const char *uuid, GPtrArray *names)
{
    GHashTable *who = key ? g_hash_table_lookup(users->files, key) : NULL;
    GHashTableIter iter;
    gpointer other;

    if (!who)
        return;
    g_hash_table_iter_init(&iter, who);
    while (g_hash_table_iter_next(&iter, &other, NULL)) {
        const char *name = g_hash_table_lookup(users->names, other);
        gboolean seen = g_ptr_array_find_with_equal_func(names, name ? name : other, g_str_equal, NULL);
        if (!g_str_equal(other, uuid) && !seen)
            g_ptr_array_add(names, (gpointer)(name ? name : other));
    }
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *vr_disk_users_others(const VrDiskUsers *users, const char *path, const char *uuid)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *canonical = g_canonicalize_filename(path, "/");
    g_autofree char *is = identity(path);

    add_others(users, canonical, uuid, names);
    add_others(users, is, uuid, names);
    if (names->len == 0)
        return NULL;
    g_ptr_array_sort(names, by_name);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(", ", (char **)names->pdata);
}
