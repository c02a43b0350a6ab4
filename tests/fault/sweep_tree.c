/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/sweep_tree.h"

#include "disk/disk_file.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_DB "root/state.db"
#define GUEST_UUIDS "11111111-2222-4333-8444-"
#define PLACE "/vr-sweep-" /* of all worlds; six random characters follow */

/* --- reading ----------------------------------------------------------------------------------------- */

static void node_free(gpointer data)
{
    TreeNode *node = data;

    g_clear_pointer(&node->bytes, g_bytes_unref);
    g_free(node);
}

static void add(Tree *tree, const char *relpath)
{
    g_autofree char *path = g_build_filename(tree->dir, relpath, NULL);
    g_autoptr(GDir) dir = NULL;
    struct stat st;
    TreeNode *node;

    if (lstat(path, &st) < 0)
        return;
    node = g_new0(TreeNode, 1);
    *node = (TreeNode){.mode = st.st_mode, .device = st.st_dev, .inode = st.st_ino};
    g_hash_table_insert(tree->nodes, g_strdup(relpath), node);
    if (S_ISREG(st.st_mode)) {
        char *bytes;
        gsize length;
        g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
        node->bytes = g_bytes_new_take(bytes, length);
    }
    if (S_ISDIR(st.st_mode))
        dir = g_dir_open(path, 0, NULL);
    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        g_autofree char *child = *relpath ? g_build_filename(relpath, name, NULL) : g_strdup(name);
        add(tree, child);
    }
}

Tree *tree_read(const char *dir)
{
    Tree *tree = g_new0(Tree, 1);

    tree->dir = g_strdup(dir);
    tree->nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, node_free);
    add(tree, "");
    return tree;
}

const TreeNode *tree_get(const Tree *tree, const char *path)
{
    return g_hash_table_lookup(tree->nodes, path);
}

static int compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *tree_paths(const Tree *tree, const char *prefix)
{
    GPtrArray *paths = g_ptr_array_new();
    GHashTableIter iter;
    gpointer path;

    g_hash_table_iter_init(&iter, tree->nodes);
    while (g_hash_table_iter_next(&iter, &path, NULL))
        if (g_str_has_prefix(path, prefix))
            g_ptr_array_add(paths, path);
    g_ptr_array_sort(paths, compare);
    return paths;
}

gboolean tree_same_content(const TreeNode *a, const TreeNode *b)
{
    return (!a->bytes && !b->bytes) || (a->bytes && b->bytes && g_bytes_equal(a->bytes, b->bytes));
}

/* --- the journal ------------------------------------------------------------------------------------- */

static void put(const Tree *tree, const char *relpath, const char *path)
{
    const TreeNode *node = tree_get(tree, relpath);
    gsize length;
    const char *bytes = node ? g_bytes_get_data(node->bytes, &length) : NULL;

    if (node)
        g_assert_true(
            g_file_set_contents_full(path, bytes ? bytes : "", (gssize)length, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

/* A copy, since a reader changes files too. NULL: there is none. */
static sqlite3 *open_copy(Tree *tree)
{
    static guint number;
    g_autofree char *wal = NULL;

    if (tree->db || !tree_get(tree, STATE_DB))
        return tree->db;
    tree->db_path = g_strdup_printf("%s.%u.db", tree->dir, number++);
    wal = g_strdup_printf("%s-wal", tree->db_path);
    put(tree, STATE_DB, tree->db_path);
    put(tree, STATE_DB "-wal", wal);
    g_assert_cmpint(sqlite3_open(tree->db_path, &tree->db), ==, SQLITE_OK);
    return tree->db;
}

static void close_copy(Tree *tree)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};

    if (!tree->db)
        return;
    sqlite3_close(tree->db);
    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path = g_strconcat(tree->db_path, suffixes[i], NULL);
        g_unlink(path);
    }
    g_free(tree->db_path);
}

void tree_free(Tree *tree)
{
    if (!tree)
        return;
    close_copy(tree);
    g_free(tree->dir);
    g_hash_table_unref(tree->nodes);
    g_free(tree);
}

static gboolean run_query(sqlite3 *db, const char *sql, TreeRow row, void *data)
{
    sqlite3_stmt *stmt = NULL;
    int step = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

    while (step == SQLITE_OK || step == SQLITE_ROW) {
        step = sqlite3_step(stmt);
        if (step != SQLITE_ROW)
            break;
        g_autofree char **columns = g_new0(char *, (gsize)sqlite3_column_count(stmt) + 1);
        for (int i = 0; i < sqlite3_column_count(stmt); i++)
            columns[i] =
                sqlite3_column_type(stmt, i) == SQLITE_NULL ? (char *)"" : (char *)sqlite3_column_text(stmt, i);
        row(columns, data);
    }
    sqlite3_finalize(stmt);
    return step == SQLITE_DONE;
}

gboolean tree_query(Tree *tree, const char *sql, TreeRow row, void *data)
{
    sqlite3 *db = open_copy(tree);

    return !db || run_query(db, sql, row, data);
}

static void collect(char **columns, void *data)
{
    g_ptr_array_add(data, g_strdup(columns[0]));
}

static GPtrArray *column_of(sqlite3 *db, const char *sql)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);

    run_query(db, sql, collect, found);
    return found;
}

/* Whatever a second run of the same would have otherwise: times, inodes, fences, and ids, which normalise() takes out. */
static gboolean is_stable(const char *column)
{
    static const char *const unstable[] = {
        "fence",         "device",    "inode",       "began",      "ended",        "boot_id",
        "ctime",         "ctime_ns",  "mtime_ns",    "born_ns",    "nvram_device", "nvram_inode",
        "nvram_born_ns", "left_boot", "seed_device", "seed_inode", "seed_born_ns", NULL};

    return !g_strv_contains(unstable, column) && !g_str_has_suffix(column, "_us") && !g_str_has_suffix(column, "_ms") &&
           !g_str_has_suffix(column, "_at");
}

static char *select_of(sqlite3 *db, const char *table)
{
    g_autofree char *sql = g_strdup_printf("SELECT name FROM pragma_table_info('%s') ORDER BY cid", table);
    g_autoptr(GPtrArray) columns = column_of(db, sql);
    g_autoptr(GString) text = g_string_new("SELECT '");

    g_string_append_printf(text, "%s'", table);
    for (guint i = 0; i < columns->len; i++)
        if (is_stable(columns->pdata[i]))
            g_string_append_printf(text, "||'|'||ifnull(%s,'-')", (char *)columns->pdata[i]);
    g_string_append_printf(text, " FROM %s ORDER BY 1", table);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static gboolean replace_id(const GMatchInfo *info, GString *result, gpointer data)
{
    g_autofree char *id = g_match_info_fetch(info, 0);

    g_string_append(result, g_str_has_prefix(id, GUEST_UUIDS) ? id : "*");
    return FALSE;
}

/* Random ids and times. */
static char *normalise(const char *text)
{
    static GRegex *random;

    if (!random)
        random = g_regex_new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\\.tmp-w[0-9a-f]{16}|"
                             "20\\d\\d-\\d\\d-\\d\\dT[0-9:.]+Z",
                             G_REGEX_OPTIMIZE, 0, NULL);
    return g_regex_replace_eval(random, text, -1, 0, 0, replace_id, NULL, NULL);
}

static void append_line(char **columns, void *data)
{
    g_string_append_printf(data, "%s\n", columns[0]);
}

char *tree_journal_text(Tree *tree)
{
    sqlite3 *db = open_copy(tree);
    g_autoptr(GPtrArray) tables =
        db ? column_of(db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE "
                           "'sqlite%' ORDER BY name")
           : g_ptr_array_new();
    g_autoptr(GString) text = g_string_new(NULL);
    gboolean ok = TRUE;

    for (guint i = 0; ok && i < tables->len; i++) {
        g_autofree char *sql = select_of(db, tables->pdata[i]);
        ok = run_query(db, sql, append_line, text);
    }
    return ok ? normalise(text->str) : NULL;
}

/* --- the state --------------------------------------------------------------------------------------- */

/* What else a second run of the same has otherwise, in another place of the disk: that place, digests of what names it, moments, spans. */
static char *without_place(const char *text)
{
    static GRegex *accidental;

    if (!accidental)
        accidental = g_regex_new("(?<=" PLACE ")\\w{6}|\\b[0-9a-f]{64}\\b|\\b\\d{19}\\b|\\b\\d+\\.\\d+ m?s\\b",
                                 G_REGEX_OPTIMIZE, 0, NULL);
    return g_regex_replace_literal(accidental, text, -1, 0, "*", 0, NULL);
}

static void sum_text(GChecksum *sum, const char *text, gboolean anywhere)
{
    g_autofree char *here = normalise(text), *plain = anywhere ? without_place(here) : NULL;

    g_checksum_update(sum, (const guchar *)(plain ? plain : here), -1);
}

/* But for the random characters of the place, which an overlay has in the name of its backing file. */
static void sum_bytes(GChecksum *sum, const char *bytes, gsize length)
{
    const char *found;

    while ((found = memmem(bytes, length, PLACE, strlen(PLACE))) != NULL) {
        gsize past = MIN((gsize)(found - bytes) + strlen(PLACE) + 6, length);
        g_checksum_update(sum, (const guchar *)bytes, (gssize)(past - 6));
        bytes += past;
        length -= past;
    }
    g_checksum_update(sum, (const guchar *)bytes, (gssize)length);
}

static gboolean is_text(const char *path)
{
    return g_str_has_suffix(path, ".xml") || g_str_has_suffix(path, ".json");
}

static void sum_content(GChecksum *sum, const char *path, const TreeNode *node, gboolean anywhere)
{
    gsize length = 0;
    const void *bytes = node->bytes ? g_bytes_get_data(node->bytes, &length) : NULL;

    if (!bytes || strstr(path, "locks/") || g_str_has_prefix(path, STATE_DB))
        return;
    if (is_text(path)) {
        g_autofree char *text = g_strndup(bytes, length);
        sum_text(sum, text, anywhere);
        return;
    }
    sum_bytes(sum, bytes, length);
}

char *tree_state(Tree *tree, gboolean anywhere)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    g_autoptr(GPtrArray) paths = tree_paths(tree, "");
    g_autofree char *rows = tree_journal_text(tree);

    for (guint i = 0; i < paths->len; i++) {
        const TreeNode *node = tree_get(tree, paths->pdata[i]);
        g_autofree char *name = normalise(paths->pdata[i]);
        g_autofree char *line = g_strdup_printf("%s %o\n", name, node->mode);
        g_checksum_update(sum, (const guchar *)line, -1);
        sum_content(sum, paths->pdata[i], node, anywhere);
    }
    if (rows)
        sum_text(sum, rows, anywhere);
    return g_strdup(g_checksum_get_string(sum));
}

/* --- putting back ------------------------------------------------------------------------------------ */

static void remove_unknown(const Tree *tree, const Tree *now)
{
    g_autoptr(GPtrArray) paths = tree_paths(now, "");

    for (guint i = paths->len; i > 0; i--) { /* what lies in a directory stands after it */
        g_autofree char *path = g_build_filename(tree->dir, paths->pdata[i - 1], NULL);
        if (!tree_get(tree, paths->pdata[i - 1]))
            g_assert_cmpint(g_remove(path), ==, 0);
    }
}

static void write_node(const char *path, const TreeNode *node)
{
    gsize length;
    const char *bytes = g_bytes_get_data(node->bytes, &length);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_true(length == 0 || write(fd, bytes, length) == (gssize)length);
    close(fd);
}

/* TRUE: it has another inode than before. */
static gboolean restore_node(const Tree *tree, const char *relpath, const TreeNode *node, const TreeNode *now)
{
    g_autofree char *path = g_build_filename(tree->dir, relpath, NULL);

    if (!node->bytes && !now)
        g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    if (node->bytes && (!now || !tree_same_content(node, now)))
        write_node(path, node);
    if (!now || now->mode != node->mode)
        g_assert_cmpint(g_chmod(path, node->mode & 07777), ==, 0);
    return !now || now->inode != node->inode;
}

typedef char *(*SetInode)(const char *path, const char *id);

static char *of_generation(const char *path, const char *id)
{
    VrFileId file;

    if (!vr_disk_file_id(path, &file, NULL))
        return NULL;
    return g_strdup_printf("UPDATE generations SET device = %" G_GUINT64_FORMAT ", inode = %" G_GUINT64_FORMAT
                           ", born_ns = %" G_GINT64_FORMAT " WHERE path = '%s' AND device != 0",
                           file.device, file.inode, file.born_ns, id);
}

static char *of_nvram(const char *path, const char *id)
{
    VrFileId file;

    if (!path || !vr_disk_file_id(path, &file, NULL))
        return NULL;
    return g_strdup_printf("UPDATE generations SET nvram_device = %" G_GUINT64_FORMAT
                           ", nvram_inode = %" G_GUINT64_FORMAT ", nvram_born_ns = %" G_GINT64_FORMAT
                           " WHERE nvram = '%s' AND nvram_device != 0",
                           file.device, file.inode, file.born_ns, id);
}

static char *of_seed(const char *path, const char *id)
{
    VrFileId file;

    if (!path || !vr_disk_file_id(path, &file, NULL))
        return NULL;
    return g_strdup_printf("UPDATE generations SET seed_device = %" G_GUINT64_FORMAT ", seed_inode = %" G_GUINT64_FORMAT
                           ", seed_born_ns = %" G_GINT64_FORMAT " WHERE seed = '%s' AND seed_device != 0",
                           file.device, file.inode, file.born_ns, id);
}

static char *of_deletion(const char *path, const char *id)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return NULL;
    return g_strdup_printf("UPDATE image_deletions SET device = %lu, inode = %lu WHERE opid = '%s'", (gulong)st.st_dev,
                           (gulong)st.st_ino, id);
}

/* sql: paths, and what their rows are found by. */
static void set_each(sqlite3 *db, const char *sql, SetInode set)
{
    g_autoptr(GPtrArray) updates = g_ptr_array_new_with_free_func(g_free);
    sqlite3_stmt *stmt = NULL;

    g_assert_cmpint(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), ==, SQLITE_OK);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        char *update = set((const char *)sqlite3_column_text(stmt, 0), (const char *)sqlite3_column_text(stmt, 1));
        if (update)
            g_ptr_array_add(updates, update);
    }
    sqlite3_finalize(stmt);
    for (guint i = 0; i < updates->len; i++)
        g_assert_cmpint(sqlite3_exec(db, updates->pdata[i], NULL, NULL, NULL), ==, SQLITE_OK);
}

static void set_inodes(const Tree *tree)
{
    g_autofree char *path = g_build_filename(tree->dir, STATE_DB, NULL);
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL); /* the log stays as the killed one left it */
    sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
    set_each(db, "SELECT path, path FROM generations", of_generation);
    set_each(db, "SELECT nvram, nvram FROM generations", of_nvram);
    set_each(db, "SELECT seed, seed FROM generations", of_seed);
    set_each(db,
             "SELECT path, opid FROM image_deletions UNION ALL SELECT substr(path, 1, length(path) - length(version)) "
             "|| '.tmp-' || opid || '/v', opid FROM image_deletions",
             of_deletion);
    sqlite3_close(db);
}

void tree_restore(const Tree *tree)
{
    g_autoptr(Tree) now = tree_read(tree->dir);
    g_autoptr(GPtrArray) paths = tree_paths(tree, "");
    gboolean moved = FALSE;

    remove_unknown(tree, now);
    for (guint i = 0; i < paths->len; i++) {
        const TreeNode *old = tree_get(now, paths->pdata[i]);
        const TreeNode *node = tree_get(tree, paths->pdata[i]);
        gboolean is_recorded = g_str_has_suffix(paths->pdata[i], ".qcow2") ||
                               g_str_has_suffix(paths->pdata[i], ".nvram") ||
                               g_str_has_suffix(paths->pdata[i], ".seed.iso") || !node->bytes;
        moved |= restore_node(tree, paths->pdata[i], node, old) && is_recorded;
    }
    if (moved && tree_get(tree, STATE_DB))
        set_inodes(tree);
}
