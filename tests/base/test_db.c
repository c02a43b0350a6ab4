/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/support.h"

#include "base/db.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const steps[] = {"CREATE TABLE t(a TEXT PRIMARY KEY, n INTEGER, d REAL)",
                                    "ALTER TABLE t ADD COLUMN b TEXT; CREATE TABLE u(t TEXT REFERENCES t(a))"};

static VrDb *open_db(const TestDir *dir, gboolean read_only, GError **error)
{
    g_autofree char *path = in_dir(dir, "state.db");
    return vr_db_open(path, read_only, error);
}

static VrDb *open_with_tables(const TestDir *dir)
{
    g_autoptr(GError) error = NULL;
    VrDb *db = open_db(dir, FALSE, &error);
    expect_no_error(error);
    assert_true(vr_db_schema(db, "test", steps, 2, &error));
    return db;
}

static void insert(VrDb *db, const char *key)
{
    g_autoptr(GError) error = NULL;
    assert_true(vr_db_begin(db, &error));
    assert_true(vr_db_run(db, NULL, &error, "INSERT INTO t(a) VALUES (?)", "s", key));
    assert_true(vr_db_commit(db, &error));
}

static gint64 count_rows(VrDb *db)
{
    assert_true(vr_db_begin(db, NULL));
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, NULL, "SELECT count(*) FROM t", NULL);
    assert_int_equal(vr_db_step(db, stmt, NULL), 1);
    gint64 n = sqlite3_column_int64(stmt, 0);
    vr_db_rollback(db);
    return n;
}

static char *pragma(VrDb *db, const char *sql)
{
    assert_true(vr_db_begin(db, NULL));
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, NULL, sql, NULL);
    assert_int_equal(vr_db_step(db, stmt, NULL), 1);
    char *text = vr_db_text(stmt, 0);
    vr_db_rollback(db);
    return text;
}

static void a_new_file_is_private_and_durable(void **state)
{
    TestDir *dir = *state;
    mode_t before = umask(0);
    g_autoptr(VrDb) db = open_with_tables(dir);
    umask(before);
    insert(db, "x");
    const char *names[] = {"state.db", "state.db-wal", "state.db-shm"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        struct stat st;
        assert_int_equal(fstatat(dir->fd, names[i], &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    g_autofree char *mode = pragma(db, "PRAGMA journal_mode");
    assert_string_equal(mode, "wal");
    g_autofree char *sync = pragma(db, "PRAGMA synchronous");
    assert_string_equal(sync, "2");
    g_autofree char *keys = pragma(db, "PRAGMA foreign_keys");
    assert_string_equal(keys, "1");
}

static void values_go_in_and_out(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) db = open_with_tables(dir);
    GError *error = NULL;
    int changes = 0;
    assert_true(vr_db_begin(db, &error));
    assert_true(vr_db_run(db, &changes, &error, "INSERT INTO t(a, n, d, b) VALUES (?, ?, ?, ?)", "sids", "k'); --",
                          G_GINT64_CONSTANT(-5000000000), 1.5, NULL));
    assert_int_equal(changes, 1);
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, &error, "SELECT a, n, d, b FROM t WHERE a = ?", "s", "k'); --");
    assert_int_equal(vr_db_step(db, stmt, &error), 1);
    g_autofree char *a = vr_db_text(stmt, 0);
    assert_string_equal(a, "k'); --");
    assert_int_equal(sqlite3_column_int64(stmt, 1), G_GINT64_CONSTANT(-5000000000));
    assert_true(sqlite3_column_double(stmt, 2) == 1.5);
    assert_null(vr_db_text(stmt, 3));
    assert_int_equal(vr_db_step(db, stmt, &error), 0);
    assert_true(vr_db_commit(db, &error));
}

static void a_rollback_leaves_nothing(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) db = open_with_tables(dir);
    insert(db, "kept");
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "INSERT INTO t(a) VALUES ('gone')", NULL));
    vr_db_rollback(db);
    vr_db_rollback(db); /* harmless */
    assert_int_equal(count_rows(db), 1);
}

static void a_failed_commit_has_rolled_back(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) db = open_with_tables(dir);
    GError *error = NULL;
    assert_true(vr_db_begin(db, NULL));
    assert_true(vr_db_run(db, NULL, NULL, "PRAGMA defer_foreign_keys=ON", NULL));
    assert_true(vr_db_run(db, NULL, NULL, "INSERT INTO t(a) VALUES ('x')", NULL));
    assert_true(vr_db_run(db, NULL, NULL, "INSERT INTO u(t) VALUES ('absent')", NULL));
    assert_false(vr_db_commit(db, &error));
    expect_error(&error, VR_ERROR_CONFLICT, "FOREIGN KEY");
    assert_int_equal(count_rows(db), 0);
}

static void misuse_is_told_and_harmless(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) db = open_with_tables(dir);
    GError *error = NULL;
    assert_null(vr_db_prepare(db, &error, "SELECT 1", NULL));
    expect_error(&error, VR_ERROR_DATABASE, "outside of a transaction");
    assert_false(vr_db_commit(db, &error));
    expect_error(&error, VR_ERROR_DATABASE, "outside of a transaction");
    assert_true(vr_db_begin(db, &error));
    assert_false(vr_db_begin(db, &error));
    expect_error(&error, VR_ERROR_DATABASE, "already");
    assert_false(vr_db_run(db, NULL, &error, "SELECT ?", NULL));
    expect_error(&error, VR_ERROR_DATABASE, "number of arguments");
    assert_false(vr_db_run(db, NULL, &error, "SELECT nonsense", NULL));
    expect_error(&error, VR_ERROR_DATABASE, "no such column");
    vr_db_rollback(db);
    assert_true(vr_db_begin_read(db, &error));
    assert_false(vr_db_run(db, NULL, &error, "DELETE FROM t", NULL));
    expect_error(&error, VR_ERROR_DATABASE, "only reads");
    vr_db_rollback(db);
}

static void an_open_statement_does_not_hinder_the_next_write(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) db = open_with_tables(dir);
    g_autoptr(VrDb) other = open_with_tables(dir);
    insert(db, "a");
    insert(db, "b");
    assert_true(vr_db_begin(db, NULL));
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, NULL, "SELECT a FROM t", NULL);
    assert_int_equal(vr_db_step(db, stmt, NULL), 1); /* and no further */
    assert_true(vr_db_commit(db, NULL));
    insert(other, "c");
    insert(db, "d"); /* SQLITE_BUSY_SNAPSHOT, were the read still open */
    assert_int_equal(count_rows(db), 4);
}

static gpointer begin_and_roll_back(gpointer data)
{
    if (!vr_db_begin(data, NULL))
        return data;
    vr_db_rollback(data);
    return NULL;
}

/* Neither another process that writes nor a thread of ours that waits for it keeps one from reading. What it has not committed is not seen. */
static void a_reader_does_not_wait(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) db = open_with_tables(dir);
    g_autoptr(VrDb) other = open_with_tables(dir);
    insert(db, "a");
    assert_true(vr_db_begin(other, NULL));
    assert_true(vr_db_run(other, NULL, NULL, "DELETE FROM t", NULL));
    GThread *waits = g_thread_new("waits", begin_and_roll_back, db);
    gint64 began = g_get_monotonic_time();
    g_usleep(200 * 1000);
    for (int i = 0; i < 20; i++) {
        assert_true(vr_db_begin_read(db, NULL));
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, NULL, "SELECT count(*) FROM t", NULL);
        assert_int_equal(vr_db_step(db, stmt, NULL), 1);
        assert_int_equal(sqlite3_column_int(stmt, 0), 1);
        vr_db_rollback(db);
    }
    assert_true(g_get_monotonic_time() - began < 5 * G_USEC_PER_SEC);
    assert_true(vr_db_commit(other, NULL));
    assert_null(g_thread_join(waits));
    assert_int_equal(count_rows(db), 0);
}

/* ---- schemas ---- */

static void schemas_go_up_step_by_step(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrDb *db = open_db(dir, FALSE, &error);
    assert_true(vr_db_schema(db, "test", steps, 1, &error));
    insert(db, "old");
    vr_db_close(db);
    db = open_db(dir, FALSE, &error);
    assert_true(vr_db_schema(db, "test", steps, 2, &error));
    assert_true(vr_db_schema(db, "test", steps, 2, &error));
    assert_int_equal(count_rows(db), 1);
    assert_false(vr_db_schema(db, "test", steps, 1, &error));
    expect_error(&error, VR_ERROR_DATABASE, "newer virt-reimage");
    vr_db_close(db);
}

static void a_failed_step_leaves_the_old_schema(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    const char *const bad[] = {steps[0], "CREATE TABLE v(x); CREATE TABLE nonsense("};
    g_autoptr(VrDb) db = open_db(dir, FALSE, &error);
    assert_true(vr_db_schema(db, "test", bad, 1, &error));
    assert_false(vr_db_schema(db, "test", bad, 2, &error));
    expect_error(&error, VR_ERROR_DATABASE, "tables of test, version 2");
    assert_true(vr_db_schema(db, "test", bad, 1, &error));
    g_autofree char *v = pragma(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'v'");
    assert_string_equal(v, "0");
}

static void a_reader_asks_for_a_writer_when_tables_are_old(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrDb *db = open_db(dir, FALSE, &error);
    assert_true(vr_db_schema(db, "test", steps, 1, &error));
    vr_db_close(db);
    g_autoptr(VrDb) reader = open_db(dir, TRUE, &error);
    assert_true(vr_db_is_read_only(reader));
    assert_true(vr_db_schema(reader, "test", steps, 1, &error));
    assert_false(vr_db_schema(reader, "test", steps, 2, &error));
    expect_error(&error, VR_ERROR_DATABASE, "older virt-reimage");
}

/* ---- reading only ---- */

static void a_reader_makes_and_changes_nothing(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    assert_null(open_db(dir, TRUE, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "state.db");
    assert_int_equal(count_entries(dir->path), 0);

    VrDb *writer = open_with_tables(dir);
    insert(writer, "x");
    vr_db_close(writer);
    guint files = count_entries(dir->path);
    struct stat before, after, dir_before, dir_after;
    assert_int_equal(fstatat(dir->fd, "state.db", &before, 0), 0);
    assert_int_equal(fstat(dir->fd, &dir_before), 0);
    g_usleep(30000); /* the clock of a file system is coarse */
    VrDb *reader = open_db(dir, TRUE, &error);
    expect_no_error(error);
    assert_int_equal(count_rows(reader), 1);
    assert_true(vr_db_begin(reader, NULL));
    assert_false(vr_db_run(reader, NULL, &error, "DELETE FROM t", NULL));
    expect_error(&error, VR_ERROR_DATABASE, "readonly");
    vr_db_rollback(reader);
    vr_db_close(reader);
    assert_int_equal(fstatat(dir->fd, "state.db", &after, 0), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(fstat(dir->fd, &dir_after), 0); /* no file came and went in between */
    assert_memory_equal(&dir_before.st_mtim, &dir_after.st_mtim, sizeof dir_before.st_mtim);
    assert_int_equal(count_entries(dir->path), files);
}

static void a_reader_sees_what_a_writer_commits_meanwhile(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) writer = open_with_tables(dir);
    g_autoptr(VrDb) reader = open_db(dir, TRUE, NULL);
    assert_int_equal(count_rows(reader), 0);
    insert(writer, "x");
    assert_int_equal(count_rows(reader), 1);
}

/* ---- files that are not ours ---- */

static void expect_refused(const TestDir *dir, const char *text)
{
    for (int read_only = 0; read_only < 2; read_only++) {
        GError *error = NULL;
        g_autofree char *before = content_of(dir, "state.db");
        assert_null(open_db(dir, read_only, &error));
        expect_error(&error, VR_ERROR_DATABASE, text);
        g_autofree char *after = content_of(dir, "state.db");
        assert_string_equal(before, after);
    }
}

static void garbage_is_refused_and_kept(void **state)
{
    TestDir *dir = *state;
    g_autofree char *garbage = g_strnfill(5000, 'g');
    put_file(dir, "state.db", garbage, 5000);
    expect_refused(dir, "is not a database");
    put_file(dir, "state.db", "short", 5);
    expect_refused(dir, "is not a database");
}

static void a_foreign_database_is_refused_and_kept(void **state)
{
    TestDir *dir = *state;
    g_autofree char *path = in_dir(dir, "state.db");
    tool("python3", "-c", "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);c.execute('create table x(a)');c.commit()",
         path);
    expect_refused(dir, "another program");
    assert_int_equal(count_entries(dir->path), 1);
}

static void a_truncated_database_is_refused(void **state)
{
    TestDir *dir = *state;
    VrDb *db = open_with_tables(dir);
    for (int i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("key-%04d-%080d", i, i);
        insert(db, key);
    }
    vr_db_close(db);
    g_autofree char *path = in_dir(dir, "state.db");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    (void)unlinkat(dir->fd, "state.db-wal", 0);
    (void)unlinkat(dir->fd, "state.db-shm", 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
    expect_refused(dir, "is damaged");
    assert_int_equal(truncate(path, 50), 0);
    expect_refused(dir, "is damaged");
}

static void a_page_of_garbage_is_found(void **state)
{
    TestDir *dir = *state;
    VrDb *db = open_with_tables(dir);
    for (int i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("key-%04d-%080d", i, i);
        insert(db, key);
    }
    vr_db_close(db);
    g_autofree char *path = in_dir(dir, "state.db");
    vr_autofd fd = open(path, O_RDWR | O_CLOEXEC);
    g_autofree char *garbage = g_strnfill(4096, 'g');
    assert_int_equal(pwrite(fd, garbage, 4096, 4096 * 6), 4096);
    (void)unlinkat(dir->fd, "state.db-wal", 0);
    expect_refused(dir, "is damaged");
}

static void other_things_of_that_name_are_refused(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *path = in_dir(dir, "state.db");
    put_file(dir, "victim", "", 0);
    assert_int_equal(symlinkat("victim", dir->fd, "state.db"), 0);
    assert_null(open_db(dir, FALSE, &error));
    expect_error(&error, VR_ERROR_IO, "symbolic links");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(open_db(dir, FALSE, &error));
    expect_error(&error, VR_ERROR_DATABASE, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_null(open_db(dir, FALSE, &error));
    assert_non_null(error);
    g_clear_error(&error);
    assert_null(vr_db_open("/nonexistent/state.db", FALSE, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "/nonexistent/state.db");
}

/* ---- threads and processes ---- */

static gpointer insert_many(gpointer data)
{
    VrDb *db = data;
    for (int i = 0; i < 25; i++) {
        if (!vr_db_begin(db, NULL))
            return GINT_TO_POINTER(1);
        g_autofree char *key = g_strdup_printf("%p-%d", (void *)g_thread_self(), i);
        if (!vr_db_run(db, NULL, NULL, "INSERT INTO t(a) VALUES (?)", "s", key) || !vr_db_commit(db, NULL))
            return GINT_TO_POINTER(1);
    }
    return NULL;
}

static void threads_share_handles(void **state)
{
    TestDir *dir = *state;
    g_autoptr(VrDb) one = open_with_tables(dir);
    g_autoptr(VrDb) two = open_with_tables(dir); /* as another process would */
    GThread *threads[6];
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("db", insert_many, i % 2 ? one : two);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        assert_null(g_thread_join(threads[i]));
    assert_int_equal(count_rows(one), 150);
}

static gpointer open_first(gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrDb) db = open_db(data, FALSE, &error);
    if (!db || !vr_db_schema(db, "test", steps, 2, &error))
        return g_strdup(error->message);
    return NULL;
}

static void first_openers_may_meet(void **state)
{
    GThread *threads[8];
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("open", open_first, *state);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_autofree char *failed = g_thread_join(threads[i]);
        if (failed)
            fail_msg("%s", failed);
    }
}

/* A process that is stopped in a transaction keeps all others out: it is named, with the ways out. */
static void a_stopped_writer_is_named(void **state)
{
    const TestDir *dir = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *named = NULL;
    int status;

    g_autoptr(VrDb) ours = open_with_tables(dir);
    pid_t child = fork();
    if (child == 0) {
        VrDb *theirs = open_db(dir, FALSE, NULL);
        if (vr_db_begin(theirs, NULL))
            raise(SIGSTOP);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    named = g_strdup_printf("locked by process %d for more than 10 s, which is stopped; 'kill -CONT %d'", child, child);
    gboolean begun = vr_db_begin(ours, &error);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(begun);
    expect_error(&error, VR_ERROR_DATABASE, named);
    assert_true(vr_db_begin(ours, NULL)); /* what it had not committed is gone */
    vr_db_rollback(ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_new_file_is_private_and_durable),
        dir_test(values_go_in_and_out),
        dir_test(a_rollback_leaves_nothing),
        dir_test(a_failed_commit_has_rolled_back),
        dir_test(misuse_is_told_and_harmless),
        dir_test(an_open_statement_does_not_hinder_the_next_write),
        dir_test(a_reader_does_not_wait),
        dir_test(schemas_go_up_step_by_step),
        dir_test(a_failed_step_leaves_the_old_schema),
        dir_test(a_reader_asks_for_a_writer_when_tables_are_old),
        dir_test(a_reader_makes_and_changes_nothing),
        dir_test(a_reader_sees_what_a_writer_commits_meanwhile),
        dir_test(garbage_is_refused_and_kept),
        dir_test(a_foreign_database_is_refused_and_kept),
        dir_test(a_truncated_database_is_refused),
        dir_test(a_page_of_garbage_is_found),
        dir_test(other_things_of_that_name_are_refused),
        dir_test(threads_share_handles),
        dir_test(first_openers_may_meet),
        dir_test(a_stopped_writer_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
