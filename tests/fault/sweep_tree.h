/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The durable world of a sweep, as it is at one moment: every file and directory below a place, in memory. It can be put back,
 * compared, and be given a digest in which times, process ids and random names do not count.
 */
#pragma once

#include <glib.h>
#include <sqlite3.h>
#include <sys/types.h>

typedef struct {
    mode_t mode; /* with its type */
    dev_t device;
    ino_t inode;
    GBytes *bytes; /* NULL: a directory */
} TreeNode;

typedef struct {
    char *dir;         /* absolute */
    GHashTable *nodes; /* path relative to dir -> TreeNode */
    sqlite3 *db;       /* of a copy of its state.db; opened when it is first asked */
    char *db_path;
} Tree;

Tree *tree_read(const char *dir);
void tree_free(Tree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tree, tree_free)

const TreeNode *tree_get(const Tree *tree, const char *path);
/* Below dir, with that prefix, in order. Element: const char *, the array is to be freed. */
GPtrArray *tree_paths(const Tree *tree, const char *prefix);
gboolean tree_same_content(const TreeNode *a, const TreeNode *b);

/* Makes the place as it was; what was not changed keeps its inode. For what was deleted, and so has another one, the records of the
 * journal are set right. */
void tree_restore(const Tree *tree);

/* The journal's rows, without what differs from one run to the next. Free with g_free. NULL: it cannot be read. */
char *tree_journal_text(Tree *tree);
/* A digest of names, modes, contents and the journal's rows. anywhere: two worlds in two places of the disk, made at other moments, that are
 * otherwise equal have the same, so that they count as one. Free with g_free. */
char *tree_state(Tree *tree, gboolean anywhere);

/* Of the tree's state.db as it was then: calls row for each row; FALSE when the database is damaged. */
typedef void (*TreeRow)(char **columns, void *data);
gboolean tree_query(Tree *tree, const char *sql, TreeRow row, void *data);
