/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Instances without the journal: which there are, what they run, and what is kept of them. See rebuild.h. */
#include "engine/rebuild.h"

#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/version.h"
#include "engine/rebuild_private.h"
#include "engine/swap_private.h"
#include "hv/connection.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MAX_NUMBER 999999999

static void found_free(gpointer data)
{
    VrFoundInstance *found = data;

    g_free(found->domain);
    g_free(found->set_name);
    g_ptr_array_unref(found->generations);
    g_ptr_array_unref(found->said);
    g_free(found);
}

static void look_clear(VrRebuildLook *look)
{
    vr_fd_clear(&look->dir_fd);
    g_free(look->xml);
    g_free(look->live);
    g_free(look->target);
    g_free(look->path);
    g_array_unref(look->numbers);
    g_hash_table_unref(look->disks);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrRebuildLook, look_clear)

G_GNUC_PRINTF(2, 3) static void say(VrFoundInstance *found, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    g_ptr_array_add(found->said, g_strdup_vprintf(format, arguments));
    va_end(arguments);
}

/* --- files ------------------------------------------------------------------------------------------- */

static int by_number(gconstpointer a, gconstpointer b)
{
    guint x = *(const guint *)a, y = *(const guint *)b;

    return x < y ? -1 : x > y;
}

/* "g12.qcow2", "g12.xml". */
static gboolean number_of(const char *name, const char *suffix, guint *number)
{
    gsize length = strlen(name);
    guint64 value;
    g_autofree char *digits = NULL;

    if (name[0] != 'g' || length < 2 + strlen(suffix) || !g_str_has_suffix(name, suffix))
        return FALSE;
    digits = g_strndup(name + 1, length - 1 - strlen(suffix));
    if (!g_ascii_string_to_unsigned(digits, 10, 0, MAX_NUMBER, &value, NULL) || (digits[0] == '0' && digits[1]))
        return FALSE;
    *number = (guint)value;
    return TRUE;
}

static gboolean read_files(VrRebuildLook *look, GError **error)
{
    g_autofree char *relpath = g_strdup_printf("disks/%s", look->found->uuid);
    g_autoptr(GPtrArray) names = vr_store_children(look->store, relpath, error);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    for (guint i = 0; names && i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        guint number;
        gboolean disk = number_of(name, ".qcow2", &number);
        if (!disk && !number_of(name, ".xml", &number))
            continue;
        if (disk)
            g_hash_table_add(look->disks, GUINT_TO_POINTER(number));
        if (g_hash_table_add(seen, GUINT_TO_POINTER(number)))
            g_array_append_val(look->numbers, number);
    }
    g_array_sort(look->numbers, by_number);
    if (names && names->len > 0)
        look->dir_fd = vr_open_beneath(vr_store_root_fd(look->store), relpath, O_RDONLY | O_DIRECTORY, 0, error);
    return names && (names->len == 0 || look->dir_fd >= 0);
}

/* --- the domain -------------------------------------------------------------------------------------- */

/* The target of the disk of ours that the XML names. NULL: none. */
static char *target_of_ours(VrStore *store, const char *uuid, const char *xml)
{
    g_autofree char *ours = g_strdup_printf("%s/disks/%s/", vr_store_root(store), uuid);
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, NULL) : NULL;

    for (guint i = 0; def && i < def->disks->len; i++) {
        const VrDomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (disk->source && !disk->seed && g_str_has_prefix(disk->source, ours))
            return g_strdup(disk->target);
    }
    return NULL;
}

static char *disk_path(const VrDomainDisk *disk)
{
    return disk->source ? g_strdup(disk->source)
           : disk->pool ? g_strdup_printf("%s/%s", disk->pool, disk->volume)
                        : NULL;
}

/* The path of the OS disk in a dump; NULL when it names none. */
static char *os_path(const VrRebuildLook *look, const char *xml)
{
    g_autoptr(VrDomainDef) def = vr_domain_def_parse(xml, NULL);
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, look->target, NULL) : NULL;

    return disk ? disk_path(disk) : NULL;
}

/* By the domain, by what was kept, or as the only disk that can be it. */
static void find_target(VrRebuildLook *look)
{
    look->target = target_of_ours(look->store, look->found->uuid, look->xml);
    for (guint i = 0; !look->target && i < look->numbers->len; i++) {
        g_autofree char *xml = vr_rebuild_read_xml(look->dir_fd, g_array_index(look->numbers, guint, i));
        look->target = target_of_ours(look->store, look->found->uuid, xml);
    }
    look->path = os_path(look, look->xml);
}

/* NOT_FOUND is an answer. */
static gboolean read_domain(VrRebuildLook *look, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_auto(VrDomainInfo) info = {0};

    if (!vr_hv_info(look->hv, look->found->uuid, &info, &local)) {
        if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    look->found->domain = g_strdup(info.name);
    look->xml = vr_hv_inactive_xml(look->hv, look->found->uuid, error);
    if (look->xml && info.state != VR_DOMAIN_OFF)
        look->live = vr_hv_live_xml(look->hv, look->found->uuid, error);
    return look->xml && (look->live || info.state == VR_DOMAIN_OFF);
}

/* The set, by the record of the domain, else by that of its last generation. The name becomes one of a file, so it is checked. */
static void find_set(VrRebuildLook *look, const VrDomainRecordRead *record)
{
    if (record->set && vr_name_check(record->set, "set", NULL))
        look->found->set_name = g_strdup(record->set);
    for (guint i = look->numbers->len; !look->found->set_name && i > 0; i--) {
        g_autofree char *xml = vr_rebuild_read_xml(look->dir_fd, g_array_index(look->numbers, guint, i - 1));
        g_auto(VrDomainRecordRead) kept = {0};
        if (xml && vr_domain_xml_record(xml, &kept) && kept.set && vr_name_check(kept.set, "set", NULL))
            look->found->set_name = g_strdup(kept.set);
    }
}

/* --- generation 0 ------------------------------------------------------------------------------------ */

static gboolean zero_exists(VrRebuildLook *look, const VrDomainDisk *disk)
{
    g_autofree char *file = NULL;

    if (disk->source)
        return access(disk->source, F_OK) == 0;
    file = vr_connection_volume_path(look->hv, disk->pool, disk->volume, NULL);
    return file && access(file, F_OK) == 0;
}

static VrGeneration *new_zero(const VrRebuildLook *look, const VrDomainDisk *disk, const char *xml)
{
    VrGeneration *zero = g_new0(VrGeneration, 1);

    g_strlcpy(zero->uuid, look->found->uuid, sizeof(zero->uuid));
    zero->path = disk_path(disk);
    zero->format = g_strdup(disk->driver ? disk->driver : "raw");
    zero->disk_type = g_strdup(disk->type);
    zero->state = g_strcmp0(zero->path, look->path) == 0 ? VR_GENERATION_CURRENT : VR_GENERATION_KEPT;
    zero->made_us = vr_clock_wall_us();
    zero->left_us = zero->state == VR_GENERATION_KEPT ? zero->made_us : 0;
    zero->xml = vr_generation_xml_digest(xml);
    return zero;
}

/* As the domain had it before the first swap: g0.xml. */
static void add_zero(VrRebuildLook *look)
{
    g_autofree char *xml = vr_rebuild_read_xml(look->dir_fd, 0);
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, NULL) : NULL;
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, look->target, NULL) : NULL;
    g_autofree char *path = disk ? disk_path(disk) : NULL;
    g_autoptr(VrGeneration) zero = path && zero_exists(look, disk) ? new_zero(look, disk, xml) : NULL;
    g_autoptr(GError) local = NULL;

    if (!zero)
        say(look->found, "generation 0 is not restored: %s%s", path ? path : "g0.xml does not say which disk it is",
            path ? ", which it was, is not there" : "");
    else if (!vr_rebuild_nvram(look, zero, xml, &local))
        say(look->found, "generation 0 is not restored: %s", local->message);
    else {
        g_ptr_array_add(look->found->generations, g_steal_pointer(&zero));
        say(look->found, "which version generation 0 is, is not known: 'virt-reimage adopt' says it");
    }
}

/* --- the instance ------------------------------------------------------------------------------------ */

static void add_generations(VrRebuildLook *look)
{
    for (guint i = 0; i < look->numbers->len; i++) {
        guint number = g_array_index(look->numbers, guint, i);
        if (number == 0)
            add_zero(look);
        else
            g_ptr_array_add(look->found->generations, vr_rebuild_made(look, number));
    }
}

/* What it runs, in its set or since it was released. */
static VrGeneration *current_of(const VrFoundInstance *found)
{
    for (guint i = 0; i < found->generations->len; i++) {
        VrGeneration *generation = g_ptr_array_index(found->generations, i);
        if (generation->state == VR_GENERATION_CURRENT || generation->state == VR_GENERATION_RELEASED)
            return generation;
    }
    return NULL;
}

/* A domain that runs on a disk of ours has our record, until it is released with it; and then nothing lies below the disk. */
static gboolean was_released(const VrGeneration *current, gboolean has_record)
{
    g_auto(VrDiskLook) look = {0};

    return !has_record && current->ours && vr_disk_file_look(current->path, current->format, &look, NULL) &&
           !look.backing;
}

static void let_go(VrFoundInstance *found, VrGeneration *current)
{
    current->state = VR_GENERATION_RELEASED;
    current->ours = FALSE;
    say(found,
        "it runs on generation %u and has no metadata of ours: it was released, and the disk, which stands alone, is "
        "its own",
        current->number);
}

/* Everything agrees on what it runs; else a person must look, and nothing of it is restored. */
static gboolean judge(VrRebuildLook *look, const VrDomainRecordRead *record, gboolean has_record)
{
    VrFoundInstance *found = look->found;
    VrGeneration *current = current_of(found);
    g_autofree char *live = look->live ? os_path(look, look->live) : NULL;

    if (!current)
        say(found, "its OS disk %s is no generation that could be restored",
            look->path ? look->path : "cannot be told");
    else if (has_record && record->generation != current->number)
        say(found, "its OS disk is that of generation %u, but its metadata says generation %u", current->number,
            record->generation);
    else if (look->live && g_strcmp0(live, look->path) != 0)
        say(found, "it runs on %s, but its XML names %s", live ? live : "a disk that cannot be told", look->path);
    else if (!found->set_name)
        say(found, "which set it is of, neither its metadata nor its files say");
    else {
        if (was_released(current, has_record))
            let_go(found, current);
        return TRUE;
    }
    return FALSE;
}

static gboolean look_at(VrRebuildLook *look, VrJournal *journal, GError **error)
{
    VrFoundInstance *found = look->found;
    g_auto(VrDomainRecordRead) record = {0};
    gboolean has_record;

    if (!read_domain(look, error) || (journal && !vr_journal_knows(journal, found->uuid, &found->known, error)))
        return FALSE;
    if (found->known)
        return TRUE;
    if (!look->xml) {
        say(found, "libvirt has no domain of this UUID; its files in %s/disks/%s stay as they are",
            vr_store_root(look->store), found->uuid);
        return TRUE;
    }
    if (!read_files(look, error))
        return FALSE;
    has_record = vr_domain_xml_record(look->xml, &record);
    find_target(look);
    find_set(look, &record);
    add_generations(look);
    found->restorable = judge(look, &record, has_record);
    return TRUE;
}

static VrFoundInstance *look_at_one(VrStore *store, VrHv *hv, VrJournal *journal, const char *uuid, GError **error)
{
    VrFoundInstance *found = g_new0(VrFoundInstance, 1);
    g_auto(VrRebuildLook) look = {.store = store,
                                  .hv = hv,
                                  .found = found,
                                  .dir_fd = -1,
                                  .numbers = g_array_new(FALSE, FALSE, sizeof(guint)),
                                  .disks = g_hash_table_new(NULL, NULL)};

    g_strlcpy(found->uuid, uuid, sizeof(found->uuid));
    found->generations = g_ptr_array_new_with_free_func((GDestroyNotify)vr_generation_free);
    found->said = g_ptr_array_new_with_free_func(g_free);
    if (look_at(&look, journal, error))
        return found;
    g_prefix_error(error, "%s: ", found->domain ? found->domain : uuid);
    found_free(found);
    return NULL;
}

/* --- all of them ------------------------------------------------------------------------------------- */

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of this store: a record alone may be of a guest of another one. A domain that vanishes while we look is not. */
static gboolean is_of_store(VrStore *store, VrHv *hv, const char *uuid)
{
    g_autofree char *xml = vr_hv_inactive_xml(hv, uuid, NULL);
    g_autofree char *target = xml ? target_of_ours(store, uuid, xml) : NULL;
    g_auto(VrDomainRecordRead) record = {0};

    return target && vr_domain_xml_record(xml, &record);
}

/* UUIDs of the directories in the store, and of domains that lost theirs. Element: char *, sorted. */
static GPtrArray *candidates(VrStore *store, VrHv *hv, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) dirs = vr_store_children(store, "disks", error);
    g_autoptr(GPtrArray) domains = dirs ? vr_hv_list(hv, error) : NULL;
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    if (!domains)
        return NULL;
    for (guint i = 0; i < dirs->len; i++) {
        const char *name = g_ptr_array_index(dirs, i);
        if (g_uuid_string_is_valid(name) && g_hash_table_add(seen, (gpointer)name))
            g_ptr_array_add(all, g_strdup(name));
    }
    for (guint i = 0; i < domains->len; i++) {
        const char *uuid = g_ptr_array_index(domains, i);
        if (!g_hash_table_contains(seen, uuid) && is_of_store(store, hv, uuid))
            g_ptr_array_add(all, g_strdup(uuid));
    }
    g_ptr_array_sort(all, by_text);
    return g_steal_pointer(&all);
}

GPtrArray *vr_rebuild_look(VrStore *store, VrHv *hv, VrJournal *journal, GError **error)
{
    g_autoptr(GPtrArray) uuids = candidates(store, hv, error);
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(found_free);

    for (guint i = 0; uuids && i < uuids->len; i++) {
        VrFoundInstance *found = look_at_one(store, hv, journal, g_ptr_array_index(uuids, i), error);
        if (!found)
            return NULL;
        g_ptr_array_add(all, found);
    }
    return uuids ? g_steal_pointer(&all) : NULL;
}

gboolean vr_rebuild_restore(VrJournal *journal, const VrOwner *owner, const VrFoundInstance *found, GError **error)
{
    g_autofree char *text = g_strdup_printf("%u generations, the current one is %u; from the domain and the store",
                                            found->generations->len, current_of(found)->number);

    return vr_journal_restore(journal, owner, found->uuid, found->generations, text, error);
}
