/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"
#include "base/log.h"
#include "engine/in_use_private.h"

#include <string.h>
#include <sys/stat.h>

/* --- the map ----------------------------------------------------------------------------------------- */

static void user_free(gpointer data)
{
    VrUser *user = data;

    g_free(user->who);
    g_ptr_array_unref(user->how);
    g_free(user);
}

static void untold_free(gpointer data)
{
    VrUntold *untold = data;

    g_free(untold->name);
    g_free(untold->why);
    g_free(untold->made_from);
    g_free(untold);
}

void vr_in_use_free(VrInUse *in_use)
{
    if (!in_use)
        return;
    g_free(in_use->images);
    g_free(in_use->disks);
    g_hash_table_unref(in_use->files);
    g_hash_table_unref(in_use->versions);
    g_hash_table_unref(in_use->names);
    g_hash_table_unref(in_use->untold);
    g_free(in_use);
}

static VrUser *user_of(VrInUse *in_use, const char *version, const char *key)
{
    GHashTable *users = g_hash_table_lookup(in_use->versions, version);
    VrUser *user;

    if (!users) {
        users = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, user_free);
        g_hash_table_insert(in_use->versions, g_strdup(version), users);
    }
    user = g_hash_table_lookup(users, key);
    if (!user) {
        user = g_new0(VrUser, 1);
        user->who = g_strdup(key);
        user->how = g_ptr_array_new_with_free_func(g_free);
        g_hash_table_insert(users, g_strdup(key), user);
    }
    return user;
}

void vr_in_use_note(VrInUse *in_use, const char *version, const char *key, const char *how)
{
    VrUser *user = user_of(in_use, version, key);

    for (guint i = 0; i < user->how->len; i++)
        if (g_str_equal(user->how->pdata[i], how))
            return;
    g_ptr_array_add(user->how, g_strdup(how));
}

void vr_in_use_add(VrInUse *in_use, const char *name, const char *version, const char *who, const char *how)
{
    g_autofree char *key = g_strconcat(name, "/", version, NULL);

    vr_in_use_note(in_use, key, who, how);
}

static int by_who(gconstpointer a, gconstpointer b)
{
    return strcmp((*(VrUser *const *)a)->who, (*(VrUser *const *)b)->who);
}

GPtrArray *vr_in_use_of(const VrInUse *in_use, const char *name, const char *version)
{
    g_autofree char *key = g_strconcat(name, "/", version, NULL);
    GHashTable *users = g_hash_table_lookup(in_use->versions, key);
    GPtrArray *list = g_ptr_array_new();
    GHashTableIter iter;
    gpointer user;

    if (!users)
        return list;
    g_hash_table_iter_init(&iter, users);
    while (g_hash_table_iter_next(&iter, NULL, &user))
        g_ptr_array_add(list, user);
    g_ptr_array_sort(list, by_who);
    return list;
}

char *vr_in_use_text(const GPtrArray *users)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < users->len; i++) {
        const VrUser *user = users->pdata[i];
        g_string_append_printf(text, "%s%s (", i ? ", " : "", user->who);
        for (guint j = 0; j < user->how->len; j++)
            g_string_append_printf(text, "%s%s", j ? ", " : "", (char *)user->how->pdata[j]);
        g_string_append_c(text, ')');
    }
    return g_strdup(text->str);
}

/* --- the gallery ------------------------------------------------------------------------------------- */

static void add_file(VrInUse *in_use, const VrImage *image)
{
    static const char *const disks[] = {"disk.qcow2", "disk.raw"};
    g_autofree char *version = g_strconcat(image->name, "/", image->version, NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(disks); i++) {
        g_autofree char *path = g_strconcat(in_use->images, version, "/", disks[i], NULL);
        struct stat st;
        if (lstat(path, &st) == 0)
            g_hash_table_insert(
                in_use->files,
                g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (guint64)st.st_dev, (guint64)st.st_ino),
                g_strdup(version));
    }
}

static gboolean read_gallery(VrInUse *in_use, GError **error)
{
    g_autoptr(GPtrArray) states = vr_store_survey(in_use->store, NULL, error);

    for (guint i = 0; states && i < states->len; i++)
        add_file(in_use, ((const VrVersionState *)states->pdata[i])->image);
    return states != NULL;
}

/* --- the journal ------------------------------------------------------------------------------------- */

#define GENERATIONS                                                                                                    \
    "SELECT uuid, number, image, version, state, path FROM generations WHERE image IS NOT NULL AND state NOT IN (4, "  \
    "6, 7) "

G_STATIC_ASSERT(VR_GENERATION_DISCARDED == 4 && VR_GENERATION_DELETED == 6 && VR_GENERATION_RELEASED == 7);

static char *generation_text(sqlite3_stmt *stmt)
{
    return g_strdup_printf("generation %d, %s", sqlite3_column_int(stmt, 1),
                           vr_generation_state_name((VrGenerationState)sqlite3_column_int(stmt, 4)));
}

static void note_generation(VrInUse *in_use, sqlite3_stmt *stmt)
{
    g_autofree char *uuid = vr_db_text(stmt, 0);
    g_autofree char *name = vr_db_text(stmt, 2);
    g_autofree char *version = vr_db_text(stmt, 3);
    g_autofree char *path = vr_db_text(stmt, 5);
    g_autofree char *how = generation_text(stmt);
    VrUntold *untold = path ? g_hash_table_lookup(in_use->untold, path) : NULL;

    if (!name || !version)
        return;
    vr_in_use_add(in_use, name, version, uuid, how);
    if (untold && !untold->made_from)
        untold->made_from = g_strdup_printf("%s %s", name, version);
}

static gboolean read_journal(VrInUse *in_use, VrJournal *journal, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    int step = -1;

    if (!vr_db_begin_read(db, error))
        return FALSE;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, GENERATIONS, "");
        while (stmt && (step = vr_db_step(db, stmt, error)) == 1)
            note_generation(in_use, stmt);
    }
    vr_db_rollback(db);
    return step == 0;
}

gboolean vr_in_use_journaled(VrDb *db, const char *name, const char *version, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, GENERATIONS "AND image = ?1 AND version = ?2", "ss", name, version);
    int step = stmt ? vr_db_step(db, stmt, error) : -1;

    if (step <= 0)
        return step == 0;
    g_autofree char *how = generation_text(stmt);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s is in use by %s (%s)", name, version,
                (const char *)sqlite3_column_text(stmt, 0), how);
    return FALSE;
}

/* --- all of it --------------------------------------------------------------------------------------- */

/* UUIDs become names where a domain has one. */
static void give_names(VrInUse *in_use)
{
    GHashTableIter versions, users;
    gpointer of_version, key, data;

    g_hash_table_iter_init(&versions, in_use->versions);
    while (g_hash_table_iter_next(&versions, NULL, &of_version)) {
        g_hash_table_iter_init(&users, of_version);
        while (g_hash_table_iter_next(&users, &key, &data)) {
            VrUser *user = data;
            const char *name = g_hash_table_lookup(in_use->names, key);
            if (name) {
                g_free(user->who);
                user->who = g_strdup(name);
            }
        }
    }
}

static void warn_of_untold(const VrInUse *in_use)
{
    GHashTableIter iter;
    gpointer path, data;

    g_hash_table_iter_init(&iter, in_use->untold);
    while (g_hash_table_iter_next(&iter, &path, &data)) {
        const VrUntold *untold = data;
        vr_warning(NULL, "it cannot be told what %s refers to: %s; %s%s", (char *)path, untold->why,
                   untold->made_from ? "the journal says that it was made from "
                                     : "no version and no disk is deleted until it can be read or is taken away",
                   untold->made_from ? untold->made_from : "");
    }
}

char *vr_in_use_doubt(const VrInUse *in_use, const char *name, const char *version)
{
    g_autofree char *asked = g_strconcat(name, "/", version, NULL);
    GHashTableIter iter;
    gpointer path, data;

    g_hash_table_iter_init(&iter, in_use->untold);
    while (g_hash_table_iter_next(&iter, &path, &data)) {
        const VrUntold *untold = data;
        if (!untold->made_from && !g_str_equal(untold->name, asked))
            return g_strdup_printf("it cannot be told what %s refers to: %s", (char *)path, untold->why);
    }
    return NULL;
}

VrInUse *vr_in_use_read(VrStore *store, VrHv *hv, VrJournal *journal, GError **error)
{
    g_autoptr(VrInUse) in_use = g_new0(VrInUse, 1);

    in_use->store = store;
    in_use->images = g_strconcat(vr_store_root(store), "/images/", NULL);
    in_use->disks = g_strconcat(vr_store_root(store), "/disks/", NULL);
    in_use->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    in_use->versions = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref);
    in_use->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    in_use->untold = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, untold_free);
    if (!read_gallery(in_use, error) || !vr_in_use_know_disks(in_use, error) || !vr_in_use_read_disks(in_use, error) ||
        !read_journal(in_use, journal, error) || (hv && !vr_in_use_read_hv(in_use, hv, error)))
        return NULL;
    give_names(in_use);
    warn_of_untold(in_use);
    return g_steal_pointer(&in_use);
}
