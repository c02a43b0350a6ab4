/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the files of a generation go.
 *
 *   1. it is asked who uses the disk: domains, overlays, processes; and whether it is the recorded file
 *   2. journal: the generation is GOING, if it still is what it was when it was judged and no swap of its instance is open
 *   3. the disk is unlinked, the directory flushed
 *   4. g<n>.nvram, g<n>.seed.iso, g<n>.xml and g<n>.console.log are unlinked likewise
 *   5. journal: DELETED
 *
 * The second step is the point of no return. A rollback that was journaled before it makes it fail (its swap is open), and one that
 * comes later finds a generation that is not kept: so one of the two wins, whoever the owners are. Killed before it, nothing has
 * happened. Killed after it, the next gc or recovery finds a generation that is GOING and does the same again; a disk that is not there any
 * more is one that is unlinked.
 *
 * A disk that somebody uses by then, that is not the recorded file, or that cannot be unlinked is kept: the generation is what it was
 * before, and can be gone back to.
 */
#include "engine/retire.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/swap_private.h"

#include <errno.h>
#include <fcntl.h>

/* --- looking ----------------------------------------------------------------------------------------- */

/* Its directory; -1: there is none, or it cannot be opened. */
static int open_directory(VrStore *store, const VrGeneration *generation, GError **error)
{
    g_autofree char *relpath = g_build_filename("disks", generation->uuid, NULL);

    return vr_open_beneath(vr_store_root_fd(store), relpath, O_RDONLY | O_DIRECTORY, 0, error);
}

typedef enum { DISK_GONE, DISK_OURS, DISK_FOREIGN } Found;

/* By the name that the recorded path has in the directory. */
static Found look_in(int dir_fd, const char *path, const VrFileId *recorded)
{
    g_autofree char *name = g_path_get_basename(path);
    VrFileId id;

    if (!vr_disk_file_id_at(dir_fd, name, &id))
        return errno == ENOENT ? DISK_GONE : DISK_FOREIGN;
    return recorded->device != 0 && vr_disk_file_same(&id, recorded) ? DISK_OURS : DISK_FOREIGN;
}

/* NVRAM that an admin put elsewhere is his. path: may be NULL. */
static gboolean is_beneath(VrStore *store, const VrGeneration *generation, const char *path)
{
    g_autofree char *directory = g_strdup_printf("%s/disks/%s/", vr_store_root(store), generation->uuid);

    return path && g_str_has_prefix(path, directory);
}

static Found look(VrStore *store, const VrGeneration *generation)
{
    g_autoptr(GError) local = NULL;
    vr_autofd dir_fd = open_directory(store, generation, &local);

    if (dir_fd >= 0)
        return look_in(dir_fd, generation->path, &generation->file);
    return g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND) ? DISK_GONE : DISK_FOREIGN;
}

gboolean vr_retire_is_there(VrStore *store, const VrGeneration *generation)
{
    return look(store, generation) == DISK_OURS;
}

static char *user_of(const VrGeneration *generation, const char *path, const VrInUse *in_use)
{
    g_autofree char *directory = g_build_filename("disks", generation->uuid, NULL);
    g_autofree char *name = g_path_get_basename(path);
    g_autoptr(GPtrArray) users = vr_in_use_of(in_use, directory, name);
    g_autofree char *text = vr_in_use_text(users);

    return users->len > 0 ? g_strdup_printf("%s is in use by %s", name, text)
                          : vr_in_use_doubt(in_use, directory, name);
}

char *vr_retire_obstacle(VrStore *store, const VrGeneration *generation, const VrRetireCheck *check)
{
    g_autoptr(GError) local = NULL;
    gboolean held = FALSE;
    Found found = look(store, generation);
    char *user;

    if (found == DISK_FOREIGN)
        return g_strdup_printf("%s is not the file that was made for generation %u", generation->path,
                               generation->number);
    user = user_of(generation, generation->path, check->in_use);
    if (!user && is_beneath(store, generation, generation->nvram))
        user = user_of(generation, generation->nvram, check->in_use);
    if (!user && is_beneath(store, generation, generation->seed))
        user = user_of(generation, generation->seed, check->in_use);
    if (user || found == DISK_GONE)
        return user;
    if (!vr_disk_file_is_open_by_qemu(generation->path, &held, &local))
        return g_strdup_printf("it cannot be told whether a process holds it: %s", local->message);
    return held ? g_strdup("a process holds it: a QEMU, or a tool such as qemu-nbd or guestmount") : NULL;
}

/* --- the journal ------------------------------------------------------------------------------------- */

static gboolean add_event(const VrEngine *engine, const VrGeneration *generation, const char *kind, const char *why,
                          GError **error)
{
    g_autofree char *text =
        g_strdup_printf("generation %u, %s, device %" G_GUINT64_FORMAT ", inode %" G_GUINT64_FORMAT ": %s",
                        generation->number, generation->path, generation->file.device, generation->file.inode, why);

    return vr_journal_add_event(engine->journal, engine->owner, NULL, generation->uuid, kind, text, error);
}

/* Within a transaction. Not one row changed: it is another one's by now. */
static gboolean set_state(const VrEngine *engine, const VrGeneration *generation, VrGenerationState from,
                          VrGenerationState to, GError **error)
{
    int changes = 0;

    if (!vr_db_run(vr_journal_db(engine->journal), &changes, error,
                   "UPDATE generations SET was = CASE WHEN ?1 = ?2 THEN was ELSE ?1 END, state = ?3 "
                   "WHERE uuid = ?4 AND number = ?5 AND ours AND state = ?1 "
                   /* 5, 6, 7: as in the index swaps_open */
                   "AND (?1 = ?2 OR NOT EXISTS (SELECT 1 FROM swaps WHERE uuid = ?4 AND state NOT IN (5, 6, 7)))",
                   "iiisi", (gint64)from, (gint64)VR_GENERATION_GOING, (gint64)to, generation->uuid,
                   (gint64)generation->number))
        return FALSE;
    if (changes == 1)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "a swap of its instance was begun, or it is not %s any more",
                vr_generation_state_name(from));
    return FALSE;
}

static gboolean move(const VrEngine *engine, const VrGeneration *generation, VrGenerationState from,
                     VrGenerationState to, const VrRetireCheck *check, const char *kind, const char *why,
                     GError **error)
{
    VrDb *db = vr_journal_db(engine->journal);

    if (!vr_owner_begin(engine->journal, engine->owner, error))
        return FALSE;
    if ((!check || !check->may || check->may(db, generation->uuid, check->data, error)) &&
        set_state(engine, generation, from, to, error) && add_event(engine, generation, kind, why, error))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

/* --- the deed ---------------------------------------------------------------------------------------- */

static gboolean unlink_disk(int dir_fd, const VrGeneration *generation, GError **error)
{
    g_autofree char *name = g_path_get_basename(generation->path);

    if (look_in(dir_fd, generation->path, &generation->file) != DISK_FOREIGN)
        return vr_durable_unlink(dir_fd, name, error);
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s is not the file that was made for generation %u",
                generation->path, generation->number);
    return FALSE;
}

/* One that somebody edited, or put there, stays: gc lists it with what it does not know. */
static gboolean unlink_xml(int dir_fd, const VrGeneration *generation, GError **error)
{
    g_autofree char *name = g_strdup_printf("g%u.xml", generation->number);
    g_autofree char *digest = NULL;
    g_autoptr(GError) local = NULL;

    if (g_strcmp0(generation->xml, VR_XML_NOT_KNOWN) != 0 &&
        vr_generation_xml_is_ours(dir_fd, generation, &digest, &local))
        return vr_durable_unlink(dir_fd, name, error);
    vr_warning(generation->uuid, "%s stays: %s", name, local ? local->message : "it was written before its digest was");
    return TRUE;
}

/* Only the file that was recorded, like the disk; another one stays and is listed. */
static gboolean unlink_beside(VrStore *store, int dir_fd, const VrGeneration *generation, const char *path,
                              const VrFileId *file, GError **error)
{
    g_autofree char *name = NULL;

    if (!is_beneath(store, generation, path))
        return TRUE;
    name = g_path_get_basename(path);
    if (look_in(dir_fd, name, file) != DISK_FOREIGN)
        return vr_durable_unlink(dir_fd, name, error);
    vr_warning(generation->uuid, "%s stays: it is not the file that was recorded for generation %u", name,
               generation->number);
    return TRUE;
}

/* No record is kept of which file it is, and nothing hangs on it: what is no file of that name stays, and gc lists it. */
static void unlink_console(int dir_fd, const VrGeneration *generation)
{
    g_autofree char *name = g_strdup_printf("g%u.console.log", generation->number);
    g_autoptr(GError) local = NULL;

    if (!vr_durable_unlink(dir_fd, name, &local))
        vr_warning(generation->uuid, "%s stays: %s", name, local->message);
}

static gboolean unlink_files(const VrEngine *engine, const VrGeneration *generation, GError **error)
{
    g_autoptr(GError) local = NULL;
    vr_autofd dir_fd = open_directory(engine->store, generation, &local);

    if (dir_fd >= 0 && !unlink_disk(dir_fd, generation, error))
        return FALSE;
    if (dir_fd >= 0)
        unlink_console(dir_fd, generation);
    if (dir_fd >= 0)
        return unlink_beside(engine->store, dir_fd, generation, generation->nvram, &generation->nvram_file, error) &&
               unlink_beside(engine->store, dir_fd, generation, generation->seed, &generation->seed_file, error) &&
               unlink_xml(dir_fd, generation, error);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* It is GOING and stays after all: back to what it was, unless its disk is gone. */
static gboolean keep(const VrEngine *engine, const VrGeneration *generation, VrGenerationState was, const GError *why,
                     GError **error)
{
    g_autoptr(GError) local = NULL;

    if (look(engine->store, generation) == DISK_GONE ||
        move(engine, generation, VR_GENERATION_GOING, was, NULL, "generation-kept", why->message, &local))
        g_propagate_error(error, g_error_copy(why));
    else
        g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean vr_retire(const VrEngine *engine, const VrGeneration *generation, const VrRetireCheck *check, const char *why,
                   GError **error)
{
    gboolean again = generation->state == VR_GENERATION_GOING;
    g_autofree char *obstacle = vr_retire_obstacle(engine->store, generation, check);
    g_autoptr(GError) local = NULL;

    if (obstacle)
        g_set_error_literal(&local, VR_ERROR, VR_ERROR_REFUSED, obstacle);
    if (obstacle && again)
        return keep(engine, generation, generation->was, local, error);
    if (obstacle) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!again &&
        !move(engine, generation, generation->state, VR_GENERATION_GOING, check, "generation-going", why, error))
        return FALSE;
    if (!unlink_files(engine, generation, &local))
        return keep(engine, generation, again ? generation->was : generation->state, local, error);
    return move(engine, generation, VR_GENERATION_GOING, VR_GENERATION_DELETED, NULL, "generation-deleted", why, error);
}

gboolean vr_retire_finish(const VrEngine *engine, GError **error)
{
    g_autoptr(GPtrArray) going = vr_journal_going(engine->journal, engine->owner->set_name, error);
    g_autoptr(GError) local = NULL;
    g_autoptr(VrInUse) in_use =
        going && going->len > 0 ? vr_in_use_read(engine->store, engine->hv, engine->journal, &local) : NULL;
    const VrRetireCheck check = {.in_use = in_use};

    if (local)
        vr_warning(engine->owner->set_name, "a deletion that was cut is not finished: %s", local->message);
    for (guint i = 0; in_use && i < going->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(going, i);
        g_autoptr(GError) why = NULL;
        if (!vr_retire(engine, generation, &check, "its deletion was cut", &why))
            vr_warning(generation->uuid, "generation %u stays: %s", generation->number, why->message);
    }
    return going != NULL;
}
