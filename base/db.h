/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The database handle: SQLite in WAL mode with synchronous=FULL on a local file system. Each folder owns
 * its tables: it registers a schema (name, version, SQL for each step) when it first uses the handle.
 * A file that is damaged, foreign or newer than the program is refused with its reason, never mended.
 *
 * A handle may be shared by threads: a transaction takes the handle's lock, and all statements run within one.
 */
#pragma once

#include <glib.h>
#include <sqlite3.h>

typedef struct VrDb VrDb;

/* Opens or creates PATH (mode 0600). read_only: an absent file is VR_ERROR_NOT_FOUND and nothing is written. */
VrDb *vr_db_open(const char *path, gboolean read_only, GError **error);
void vr_db_close(VrDb *db);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDb, vr_db_close)
gboolean vr_db_is_read_only(VrDb *db);

/* Brings the tables of one folder to `version` by running steps[current..version-1]; a higher stored version is
 * VR_ERROR_DATABASE. On a read-only handle a lower stored version is VR_ERROR_DATABASE too, with what to run. */
gboolean vr_db_schema(VrDb *db, const char *folder, const char *const *steps, int version, GError **error);

/* BEGIN IMMEDIATE (or BEGIN on a read-only handle); the handle's lock is held until its end. Waits at most 10 s for another process, and lets
 * other threads have the handle meanwhile. Not recursive. Every begin is followed by commit or rollback on the same thread; a failed commit
 * has rolled back. */
gboolean vr_db_begin(VrDb *db, GError **error);
/* For what only reads: what was committed last, at once, whoever writes. A statement that would write is refused. */
gboolean vr_db_begin_read(VrDb *db, GError **error);
gboolean vr_db_commit(VrDb *db, GError **error);
void vr_db_rollback(VrDb *db);

/* Prepares sql and binds: types is one letter an argument: 's' const char * (NULL = NULL), 'i' gint64, 'd' double.
 * Free with sqlite3_finalize (g_autoptr(sqlite3_stmt) works). Within begin/commit only. */
sqlite3_stmt *vr_db_prepare(VrDb *db, GError **error, const char *sql, const char *types, ...);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(sqlite3_stmt, sqlite3_finalize)

/* One row further: 1 a row, 0 the end, -1 error. */
int vr_db_step(VrDb *db, sqlite3_stmt *stmt, GError **error);

/* Prepares, binds and runs a statement that gives no rows; a violated constraint is VR_ERROR_CONFLICT; *changes (may be NULL) the rows it changed. */
gboolean vr_db_run(VrDb *db, int *changes, GError **error, const char *sql, const char *types, ...);

/* A copy of a text column; NULL for NULL. Free with g_free. */
char *vr_db_text(sqlite3_stmt *stmt, int column);
