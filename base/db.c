/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a file is recognised before anything is written to it:
 *
 *   local file system -> regular file, made 0600 before SQLite sees it -> SQLite can read it ->
 *   application_id is ours, or the file is new and empty -> small files pass quick_check -> WAL, synchronous=FULL
 *
 * The WAL and its index are kept when the last writer closes (SQLITE_FCNTL_PERSIST_WAL), so that a reader
 * that comes later finds them and makes no file of its own.
 */
#include "base/db.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/lock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define APPLICATION_ID 0x56526d67 /* "VRmg": PRAGMA application_id of state.db */
#define BUSY_MS 10000
#define BUSY_POLL_US 5000
/* quick_check reads the whole file: a few milliseconds up to here. Above it SQLite still finds damage where it reads. */
#define QUICK_CHECK_MAX (4 * 1024 * 1024)
#define CIFS_MAGIC 0xff534d42u /* not in linux/magic.h before 5.16 */

struct VrDb {
    sqlite3 *handle;
    char *path; /* canonical */
    gboolean read_only;
    pthread_mutex_t lock; /* held from begin to commit or rollback */
    gboolean reads;       /* the transaction is one that only reads; under the lock */
    GThread *owner;       /* atomic: who holds it; NULL: nobody */
};

/* ---- errors ---- */

static gboolean is_errno_no_space(int errnum)
{
    return errnum == ENOSPC || errnum == EDQUOT;
}

/* SQLite itself tells only ENOSPC at a write. A quota, or a flush that finds no room, is the same to whoever must make some: so its files
 * are asked for the last errno that they had. */
static gboolean is_no_space(VrDb *db, int rc)
{
    sqlite3_file *log = NULL;
    int errnum = 0;

    if ((rc & 0xff) == SQLITE_FULL)
        return TRUE;
    if (((rc & 0xff) != SQLITE_IOERR && (rc & 0xff) != SQLITE_CANTOPEN) || !db->handle)
        return FALSE;
    if (is_errno_no_space(sqlite3_system_errno(db->handle)))
        return TRUE;
    if (sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_LAST_ERRNO, &errnum) == SQLITE_OK &&
        is_errno_no_space(errnum))
        return TRUE;
    return sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) == SQLITE_OK && log &&
           log->pMethods && log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &errnum) == SQLITE_OK &&
           is_errno_no_space(errnum);
}

static VrErrorCode code_of_sqlite(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_IOERR:
        return VR_ERROR_IO;
    case SQLITE_CONSTRAINT:
        return VR_ERROR_CONFLICT;
    default:
        return VR_ERROR_DATABASE;
    }
}

/* Who holds the lock for writing, by /proc/locks; 0: that cannot be told. To open the file and ask would drop SQLite's own locks. The
 * write lock of a WAL is byte 120 of its index (https://www.sqlite.org/walformat.html, "WAL Locks"). */
static int writer_of(VrDb *db)
{
    g_autofree char *index = g_strconcat(db->path, "-shm", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    struct stat st;

    if (stat(index, &st) < 0 || !g_file_get_contents("/proc/locks", &text, NULL, NULL))
        return 0;
    lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        guint64 inode, start;
        int pid;
        if (sscanf(lines[i], "%*d: POSIX ADVISORY WRITE %d %*x:%*x:%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, &pid,
                   &inode, &start) == 3 &&
            inode == st.st_ino && start == 120)
            return pid;
    }
    return 0;
}

static void set_busy(VrDb *db, GError **error)
{
    int pid = writer_of(db);
    g_autofree char *who = pid > 0 ? g_strdup_printf("process %d", pid) : g_strdup("another process");
    gboolean stopped = pid > 0 && vr_process_is_stopped(pid);

    g_set_error(error, VR_ERROR, VR_ERROR_DATABASE, "%s is locked by %s for more than %d s%s", db->path, who,
                BUSY_MS / 1000, stopped ? ", which is stopped" : "");
    if (stopped)
        vr_error_next(error, "'kill -CONT %d' lets it go on, 'kill -KILL %d' ends it", pid, pid);
}

static gboolean refuse(VrDb *db, GError **error, const char *why)
{
    g_set_error(error, VR_ERROR, VR_ERROR_DATABASE, "%s %s", db->path, why);
    return FALSE;
}

/* A file that is no use as it is. cause: "" for none. */
static gboolean useless(VrDb *db, GError **error, const char *why, const char *cause)
{
    refuse(db, error, why);
    vr_error_cause(error, "%s", cause);
    vr_error_next(error, "put the right one there, or move it away and run 'virt-reimage recover --rebuild'");
    return FALSE;
}

static gboolean fail(VrDb *db, int rc, GError **error)
{
    if ((rc & 0xff) == SQLITE_NOTADB)
        return useless(db, error, "is not a database of virt-reimage", "");
    if ((rc & 0xff) == SQLITE_CORRUPT)
        return useless(db, error, "is damaged", sqlite3_errmsg(db->handle));
    if ((rc & 0xff) == SQLITE_BUSY)
        set_busy(db, error);
    else if (is_no_space(db, rc))
        g_set_error(error, VR_ERROR, VR_ERROR_NO_SPACE,
                    "%s cannot be written: its file system is full, or a quota is used up", db->path);
    else
        g_set_error(error, VR_ERROR, code_of_sqlite(rc), "%s: %s", db->path, sqlite3_errmsg(db->handle));
    return FALSE;
}

/* ---- opening ---- */

/* SQLite's locks and its shared WAL index do not work between hosts. FUSE is allowed: it may be local. */
static gboolean check_file_system(const char *directory, GError **error)
{
    struct statfs fs;
    if (statfs(directory, &fs) < 0) {
        vr_set_error_errno(error, errno, "cannot look at the file system of %s", directory);
        return FALSE;
    }
    const struct {
        guint32 magic;
        const char *name;
    } remote[] = {{NFS_SUPER_MAGIC, "NFS"}, {CIFS_MAGIC, "CIFS"}, {0xfe534d42u, "SMB"},
                  {0x517b, "SMB"},          {V9FS_MAGIC, "9p"},   {CEPH_SUPER_MAGIC, "CephFS"},
                  {AFS_FS_MAGIC, "AFS"},    {0x01161970, "GFS2"}, {0x7461636f, "OCFS2"}};
    for (gsize i = 0; i < G_N_ELEMENTS(remote); i++)
        if ((guint32)fs.f_type == remote[i].magic) {
            g_set_error(error, VR_ERROR, VR_ERROR_DATABASE,
                        "%s is on a %s file system: the database needs a local one, where locks hold", directory,
                        remote[i].name);
            return FALSE;
        }
    return TRUE;
}

/* The file itself, before SQLite: made 0600, or found to be a regular file. */
static gboolean prepare_file(const char *path, const char *directory, gboolean read_only, guint64 *size, GError **error)
{
    int flags = (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    vr_autofd fd = open(path, flags, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot open %s", path);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_DATABASE, "%s is not a regular file", path);
        return FALSE;
    }
    *size = (guint64)st.st_size;
    if (read_only || st.st_size > 0)
        return TRUE;
    vr_autofd dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0 || fsync(dirfd) < 0) {
        vr_set_error_errno(error, errno, "cannot flush %s", directory);
        return FALSE;
    }
    return TRUE;
}

static gboolean exec(VrDb *db, const char *sql, GError **error)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK || fail(db, rc, error);
}

/* The first column of the first row; NULL with an error, "" for no row. */
static char *query_text(VrDb *db, const char *sql, GError **error)
{
    sqlite3_stmt *stmt = NULL;
    char *text = NULL;
    int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        text = vr_db_text(stmt, 0);
    else if (rc != SQLITE_DONE)
        fail(db, rc, error);
    if (!text && (rc == SQLITE_ROW || rc == SQLITE_DONE))
        text = g_strdup("");
    sqlite3_finalize(stmt);
    return text;
}

/* Ours, or new. *is_new: nothing is in it yet. */
static gboolean recognise(VrDb *db, gboolean *is_new, GError **error)
{
    g_autofree char *id = query_text(db, "PRAGMA application_id", error);
    g_autofree char *tables = id ? query_text(db, "SELECT count(*) FROM sqlite_schema", error) : NULL;
    if (!tables)
        return FALSE;
    *is_new = strcmp(id, "0") == 0 && strcmp(tables, "0") == 0;
    if (*is_new || g_ascii_strtoll(id, NULL, 10) == APPLICATION_ID)
        return TRUE;
    return useless(db, error, "is a database of another program", "");
}

static gboolean check_content(VrDb *db, guint64 size, GError **error)
{
    if (size > QUICK_CHECK_MAX)
        return TRUE;
    g_autofree char *found = query_text(db, "PRAGMA quick_check(1)", error);
    if (!found)
        return FALSE;
    g_autofree char *shown = vr_printable(found, -1);
    return strcmp(found, "ok") == 0 || useless(db, error, "is damaged", shown);
}

/* Two first openers may meet here; SQLite does not wait in this change, so we do. */
static gboolean enter_wal(VrDb *db, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + BUSY_MS * G_GINT64_CONSTANT(1000);
    for (;;) {
        g_autoptr(GError) local = NULL;
        g_autofree char *mode = query_text(db, "PRAGMA journal_mode=WAL", &local);
        if (mode && strcmp(mode, "wal") == 0)
            return TRUE;
        if (mode)
            return refuse(db, error, "cannot use a write-ahead log on this file system");
        if ((sqlite3_errcode(db->handle) & 0xff) != SQLITE_BUSY || g_get_monotonic_time() > deadline) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        g_usleep(BUSY_POLL_US);
    }
}

static gboolean set_up_for_writing(VrDb *db, GError **error)
{
    gboolean is_new = FALSE;
    int persist = 1;
    if (!enter_wal(db, error))
        return FALSE;
    (void)sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    if (!exec(db, "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=4194304; BEGIN IMMEDIATE", error))
        return FALSE;
    /* Asked again under the write lock: another opener may have been here first. */
    gboolean ok = recognise(db, &is_new, error);
    if (ok && is_new) {
        g_autofree char *sql =
            g_strdup_printf("PRAGMA application_id=%d;"
                            "CREATE TABLE schema_versions(folder TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
                            APPLICATION_ID);
        ok = exec(db, sql, error);
    }
    if (ok && exec(db, "COMMIT", error))
        return TRUE;
    (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    return FALSE;
}

static gboolean open_handle(VrDb *db, guint64 size, GError **error)
{
    /* FULLMUTEX: a statement may be finalised after its transaction, when another thread has the handle. */
    int flags =
        (db->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_NOFOLLOW;
    int rc = sqlite3_open_v2(db->path, &db->handle, flags, NULL);
    if (rc != SQLITE_OK)
        return fail(db, rc, error);
    gboolean is_new = FALSE;
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    /* Two questions, one snapshot: another process may be filling the file just now. */
    if (!exec(db, "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; BEGIN", error) ||
        !recognise(db, &is_new, error) || !exec(db, "COMMIT", error))
        return FALSE;
    if (is_new && db->read_only) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "%s is empty", db->path);
        return FALSE;
    }
    return check_content(db, size, error) && (db->read_only || set_up_for_writing(db, error));
}

VrDb *vr_db_open(const char *path, gboolean read_only, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    char *resolved = realpath(parent, NULL);
    if (!resolved) {
        vr_set_error_errno(error, errno, "cannot open %s", path);
        return NULL;
    }
    g_autofree char *directory = g_strdup(resolved);
    free(resolved);

    g_autoptr(VrDb) db = g_new0(VrDb, 1);
    pthread_mutex_init(&db->lock, NULL);
    db->path = g_build_filename(directory, base, NULL);
    db->read_only = read_only;
    guint64 size = 0;
    if (!check_file_system(directory, error) || !prepare_file(db->path, directory, read_only, &size, error) ||
        !open_handle(db, size, error))
        return NULL;
    return g_steal_pointer(&db);
}

void vr_db_close(VrDb *db)
{
    if (!db)
        return;
    if (db->handle && sqlite3_close_v2(db->handle) != SQLITE_OK)
        vr_warning(db->path, "cannot close the database: %s", sqlite3_errmsg(db->handle));
    pthread_mutex_destroy(&db->lock);
    g_free(db->path);
    g_free(db);
}

gboolean vr_db_is_read_only(VrDb *db)
{
    return db->read_only;
}

/* ---- transactions ---- */

static gboolean is_ours(VrDb *db)
{
    return g_atomic_pointer_get(&db->owner) == g_thread_self();
}

/* For what only the owner of the transaction may do. */
static gboolean check_ours(VrDb *db, GError **error)
{
    return is_ours(db) || refuse(db, error, "was used outside of a transaction (a bug in virt-reimage)");
}

static void let_go(VrDb *db)
{
    g_atomic_pointer_set(&db->owner, NULL);
    pthread_mutex_unlock(&db->lock);
}

/* A statement that is not at its end would keep its snapshot open and make the next write fail as stale. */
static void reset_statements(VrDb *db)
{
    sqlite3_mutex *mutex = sqlite3_db_mutex(db->handle);

    /* Another thread, whose transaction is over, may be about to finalise one; that takes the same mutex. */
    sqlite3_mutex_enter(mutex);
    for (sqlite3_stmt *stmt = sqlite3_next_stmt(db->handle, NULL); stmt; stmt = sqlite3_next_stmt(db->handle, stmt))
        if (sqlite3_stmt_busy(stmt))
            (void)sqlite3_reset(stmt);
    sqlite3_mutex_leave(mutex);
}

/* With the lock held. SQLite does not wait here: whoever waits for another process would keep the handle from those who read. */
static int try_begin(VrDb *db, gboolean reads)
{
    (void)sqlite3_busy_timeout(db->handle, 0);
    int rc = sqlite3_exec(db->handle, reads ? "BEGIN" : "BEGIN IMMEDIATE", NULL, NULL, NULL);
    (void)sqlite3_busy_timeout(db->handle, BUSY_MS);
    if (rc != SQLITE_OK)
        return rc;
    db->reads = reads;
    g_atomic_pointer_set(&db->owner, g_thread_self());
    return SQLITE_OK;
}

static gboolean begin(VrDb *db, gboolean reads, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + BUSY_MS * G_GINT64_CONSTANT(1000);
    if (is_ours(db))
        return refuse(db, error, "has a transaction of this thread already (a bug in virt-reimage)");
    for (;;) {
        pthread_mutex_lock(&db->lock);
        int rc = try_begin(db, reads);
        if (rc == SQLITE_OK)
            return TRUE;
        gboolean again = (rc & 0xff) == SQLITE_BUSY && g_get_monotonic_time() < deadline;
        if (!again)
            fail(db, rc, error);
        pthread_mutex_unlock(&db->lock);
        if (!again)
            return FALSE;
        g_usleep(BUSY_POLL_US);
    }
}

gboolean vr_db_begin(VrDb *db, GError **error)
{
    return begin(db, db->read_only, error);
}

gboolean vr_db_begin_read(VrDb *db, GError **error)
{
    return begin(db, TRUE, error);
}

gboolean vr_db_commit(VrDb *db, GError **error)
{
    if (!check_ours(db, error))
        return FALSE;
    reset_statements(db);
    if (!exec(db, "COMMIT", error)) {
        vr_db_rollback(db);
        return FALSE;
    }
    let_go(db);
    return TRUE;
}

void vr_db_rollback(VrDb *db)
{
    if (!is_ours(db))
        return;
    reset_statements(db);
    /* An error of its own (disk full, I/O) may have rolled it back already. */
    if (!sqlite3_get_autocommit(db->handle))
        (void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    let_go(db);
}

/* ---- statements ---- */

static int bind_one(sqlite3_stmt *stmt, int index, char type, va_list *args)
{
    switch (type) {
    case 's':
        return sqlite3_bind_text(stmt, index, va_arg(*args, const char *), -1, SQLITE_TRANSIENT); /* NULL binds NULL */
    case 'i':
        return sqlite3_bind_int64(stmt, index, va_arg(*args, gint64));
    case 'd':
        return sqlite3_bind_double(stmt, index, va_arg(*args, double));
    default:
        return SQLITE_MISUSE;
    }
}

static sqlite3_stmt *prepare(VrDb *db, GError **error, const char *sql, const char *types, va_list *args)
{
    if (!check_ours(db, error))
        return NULL;
    g_autoptr(sqlite3_stmt) stmt = NULL;
    int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL);
    if (rc != SQLITE_OK) {
        fail(db, rc, error);
        return NULL;
    }
    if (db->reads && !db->read_only && !sqlite3_stmt_readonly(stmt)) {
        refuse(db, error, "was written to by what only reads (a bug in virt-reimage)");
        return NULL;
    }
    int count = types ? (int)strlen(types) : 0;
    if (sqlite3_bind_parameter_count(stmt) != count) {
        refuse(db, error, "was given a wrong number of arguments (a bug in virt-reimage)");
        return NULL;
    }
    for (int i = 0; i < count; i++)
        if ((rc = bind_one(stmt, i + 1, types[i], args)) != SQLITE_OK) {
            fail(db, rc, error);
            return NULL;
        }
    return g_steal_pointer(&stmt);
}

sqlite3_stmt *vr_db_prepare(VrDb *db, GError **error, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = prepare(db, error, sql, types, &args);
    va_end(args);
    return stmt;
}

int vr_db_step(VrDb *db, sqlite3_stmt *stmt, GError **error)
{
    if (!check_ours(db, error))
        return -1;
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc == SQLITE_DONE)
        return 0;
    fail(db, rc, error);
    return -1;
}

gboolean vr_db_run(VrDb *db, int *changes, GError **error, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    g_autoptr(sqlite3_stmt) stmt = prepare(db, error, sql, types, &args);
    va_end(args);
    if (!stmt)
        return FALSE;
    int more;
    while ((more = vr_db_step(db, stmt, error)) > 0)
        ;
    if (more < 0)
        return FALSE;
    if (changes)
        *changes = sqlite3_changes(db->handle);
    return TRUE;
}

char *vr_db_text(sqlite3_stmt *stmt, int column)
{
    return g_strdup((const char *)sqlite3_column_text(stmt, column));
}

/* ---- schemas ---- */

/* 0 when the folder has no tables yet; -1 on an error. */
static int stored_version(VrDb *db, const char *folder, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT version FROM schema_versions WHERE folder = ?", "s", folder);
    if (!stmt)
        return -1;
    int row = vr_db_step(db, stmt, error);
    return row > 0 ? sqlite3_column_int(stmt, 0) : row;
}

static gboolean raise_schema(VrDb *db, const char *folder, const char *const *steps, int from, int to, GError **error)
{
    for (int i = from; i < to; i++)
        if (!exec(db, steps[i], error)) {
            g_prefix_error(error, "tables of %s, version %d: ", folder, i + 1);
            return FALSE;
        }
    return vr_db_run(db, NULL, error, "INSERT OR REPLACE INTO schema_versions(folder, version) VALUES (?, ?)", "si",
                     folder, (gint64)to);
}

static gboolean bring_to(VrDb *db, const char *folder, const char *const *steps, int version, GError **error)
{
    int current = stored_version(db, folder, error);
    if (current < 0)
        return FALSE;
    if (current > version) {
        g_set_error(error, VR_ERROR, VR_ERROR_DATABASE,
                    "%s was written by a newer virt-reimage (tables of %s have version %d, this program knows %d)",
                    db->path, folder, current, version);
        vr_error_next(error, "install the newer program");
        return FALSE;
    }
    if (current == version)
        return TRUE;
    if (!db->read_only)
        return raise_schema(db, folder, steps, current, version, error);
    g_set_error(error, VR_ERROR, VR_ERROR_DATABASE,
                "%s was written by an older virt-reimage (tables of %s have version %d of %d)", db->path, folder,
                current, version);
    vr_error_next(error, "run a command that changes something, such as \"virt-reimage recover\", first");
    return FALSE;
}

gboolean vr_db_schema(VrDb *db, const char *folder, const char *const *steps, int version, GError **error)
{
    if (!vr_db_begin(db, error))
        return FALSE;
    if (bring_to(db, folder, steps, version, error))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}
