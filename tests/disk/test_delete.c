/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A10, A12: how versions go, what a kill leaves, and what an inspection finds. */
#include "disk/stores.h"

#include "base/clock.h"

#include <signal.h>
#include <sys/wait.h>

#define MIB (1024 * 1024)

static void record(const TestDir *dir, VrStore *store, char **outcome, int *rows)
{
    VrDb *db = vr_store_db(store);
    assert_true(vr_db_begin(db, NULL));
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
            db, NULL, "SELECT outcome, (SELECT count(*) FROM image_deletions) FROM image_deletions ORDER BY rowid DESC",
            NULL);
        *rows = 0;
        *outcome = NULL;
        if (vr_db_step(db, stmt, NULL) == 1) {
            *outcome = vr_db_text(stmt, 0);
            *rows = sqlite3_column_int(stmt, 1);
        }
    }
    vr_db_rollback(db);
}

static void expect_record(const TestDir *dir, VrStore *store, int rows, const char *outcome)
{
    g_autofree char *text = NULL;
    int n;
    record(dir, store, &text, &n);
    assert_int_equal(n, rows);
    assert_string_equal(text ? text : "NULL", outcome);
}

static void a_version_goes_whole_and_is_recorded(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    make_raw(dir, "b.raw", MIB, 2);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    must_publish(dir, store, "a", "2", "a.raw");
    assert_true(vr_store_set_excluded(store, "a", "1", TRUE, "bad", &error));
    assert_true(vr_store_delete(store, "a", "1", NULL, NULL, &error));
    assert_false(is_there(dir, "root/images/a/1"));
    assert_true(is_there(dir, "root/images/a/2/disk.raw"));
    expect_record(dir, store, 1, "deleted");
    g_autofree char *names = in_dir(dir, "root/images/a");
    assert_int_equal(count_entries(names), 1);
    must_publish(dir, store, "a", "1", "b.raw"); /* nothing is left of what was said of the old one */
    g_autoptr(VrImage) image = vr_store_get(store, "a", "1", &error);
    assert_false(image->excluded);
    assert_true(vr_store_delete(store, "a", "1", NULL, NULL, &error));
    assert_true(vr_store_delete(store, "a", "2", NULL, NULL, &error));
    assert_false(is_there(dir, "root/images/a"));
    assert_false(vr_store_delete(store, "a", "2", NULL, NULL, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "images/a/2");
    assert_false(vr_store_delete(store, "../a", "2", NULL, NULL, &error));
    expect_error(&error, VR_ERROR_USAGE, "cannot be the name");
}

static gboolean say_no(VrDb *db, const char *name, const char *version, void *data, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s is needed", name, version);
    return FALSE;
}

static void a_no_in_the_last_moment_counts(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    assert_true(vr_store_set_excluded(store, "a", "1", TRUE, "bad", &error));
    g_autofree char *before = listing(dir);
    assert_false(vr_store_delete(store, "a", "1", say_no, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "a 1 is needed");
    g_autofree char *after = listing(dir);
    g_auto(GStrv) old_lines = g_strsplit(before, "\n", -1), new_lines = g_strsplit(after, "\n", -1);
    assert_int_equal(g_strv_length(old_lines), g_strv_length(new_lines)); /* but for times of directories */
    expect_record(dir, store, 1, "not deleted");
    g_autoptr(VrImage) image = vr_store_get(store, "a", "1", &error);
    assert_true(image->excluded);
    assert_true(vr_store_verify(store, image, TRUE, &error));
}

/* ---- killed ---- */

static guint clock_at, clock_count;

/* Every write of the database and of image.json reads the wall clock. */
static gint64 deadly_wall_us(void *data)
{
    if (++clock_count == clock_at)
        raise(SIGKILL);
    return g_get_real_time();
}

static gboolean die(VrDb *db, const char *name, const char *version, void *data, GError **error)
{
    raise(SIGKILL);
    return TRUE;
}

static void die_of_progress(const VrCopyProgress *progress, void *data)
{
    if (progress->bytes_done >= *(guint64 *)data)
        raise(SIGKILL);
}

/* A process that deletes a 1, or publishes a 2 from source; TRUE when it was killed at what is armed. */
static gboolean run_killed(const TestDir *dir, const char *source, guint at, gboolean in_question, guint64 bytes)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        static const VrClockSource source_of_death = {.wall_us = deadly_wall_us};
        g_autofree char *root = in_dir(dir, "root");
        VrStore *store = vr_store_open(root, FALSE, NULL);
        g_random_set_seed((guint32)getpid()); /* else each child makes the same UUIDs */
        clock_at = at;
        vr_clock_set_source(&source_of_death);
        g_autoptr(GError) error = NULL;
        gboolean ok;
        if (source) {
            g_autofree char *file = in_dir(dir, source);
            const VrPublication publication = {.name = "a",
                                               .version = "2",
                                               .file = file,
                                               .progress = bytes ? die_of_progress : NULL,
                                               .progress_data = &bytes};
            ok = vr_store_publish(store, &publication, NULL, NULL, &error);
        } else {
            ok = vr_store_delete(store, "a", "1", in_question ? die : NULL, NULL, &error);
        }
        if (!ok)
            print_error("%s\n", error->message);
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return TRUE;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return FALSE;
}

/* Whatever is visible is whole; after the sweep nothing else is there. */
static void expect_sound(const TestDir *dir, VrStore *store)
{
    g_autoptr(GError) error = NULL;
    for (int swept = 0; swept < 2; swept++) {
        g_autoptr(GPtrArray) states = vr_store_survey(store, NULL, &error);
        expect_no_error(error);
        for (guint i = 0; i < states->len; i++) {
            const VrVersionState *one = states->pdata[i];
            g_autoptr(GPtrArray) findings = vr_store_inspect(store, one->image->name, one->image->version, &error);
            expect_no_error(error);
            assert_int_equal(findings->len, 0);
        }
        vr_store_sweep(store);
    }
    g_autofree char *path = in_dir(dir, "root/images/a");
    g_autoptr(GDir) names = g_dir_open(path, 0, NULL);
    for (const char *name; names && (name = g_dir_read_name(names));)
        assert_true(g_ascii_isdigit(*name));
}

static void a_killed_deletion_is_all_or_nothing(void **state)
{
    TestDir *dir = *state;
    int killed = 0;
    make_raw(dir, "a.raw", MIB, 1);
    for (guint at = 0; at < 6; at++) {
        VrStore *store = open_store(dir);
        gboolean already;
        assert_true(publish(dir, store, "a", "1", "a.raw", NULL, &already, NULL));
        vr_store_close(store);
        gboolean died = run_killed(dir, NULL, at, at == 0, 0);
        store = open_store(dir);
        expect_sound(dir, store);
        gboolean there = is_there(dir, "root/images/a/1");
        int rows;
        g_autofree char *outcome = NULL;
        record(dir, store, &outcome, &rows);
        if (rows > 0)
            assert_string_equal(outcome, there ? "not deleted" : "deleted");
        killed += died;
        if (!died)
            assert_false(there);
        if (at == 0)
            assert_true(there); /* killed while it was asked */
        vr_store_close(store);
    }
    assert_true(killed >= 3); /* in the question, in the first record, in the last */
}

static void a_killed_publication_shows_nothing_or_all(void **state)
{
    TestDir *dir = *state;
    int killed = 0;
    make_raw(dir, "a.raw", 4 * MIB, 1);
    tool("sh", "-c", "gzip -k -1 \"$1/a.raw\"", "sh", dir->path);
    const char *sources[] = {"a.raw", "a.raw.gz"};
    for (gsize i = 0; i < G_N_ELEMENTS(sources); i++) {
        const guint64 bytes[] = {0, 1, MIB, 4 * MIB};
        for (gsize j = 0; j < G_N_ELEMENTS(bytes); j++) {
            vr_store_close(open_store(dir));
            gboolean died = run_killed(dir, sources[i], bytes[j] ? 0 : 1, FALSE, bytes[j]);
            g_autoptr(VrStore) store = open_store(dir);
            expect_sound(dir, store);
            assert_int_equal(is_there(dir, "root/images/a"), !died); /* the empty directory is gone too */
            killed += died;
            if (!died)
                assert_true(vr_store_delete(store, "a", "2", NULL, NULL, NULL));
        }
    }
    assert_true(killed >= 6);
}

/* ---- inspection ---- */

static void expect_finding(VrStore *store, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) findings = vr_store_inspect(store, "a", "1", &error);
    expect_no_error(error);
    for (guint i = 0; i < findings->len; i++)
        if (strstr(findings->pdata[i], text))
            return;
    fail_msg("no finding says \"%s\"; %u say other things: %s", text, findings->len,
             findings->len ? (char *)findings->pdata[0] : "-");
}

static void an_inspection_says_what_is_wrong(void **state)
{
    TestDir *dir = *state;
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    g_autoptr(GPtrArray) none = vr_store_inspect(store, "a", "1", NULL);
    assert_int_equal(none->len, 0);
    g_autofree char *top = in_dir(dir, "root/images/a/1");
    g_autofree char *disk = in_dir(dir, "root/images/a/1/disk.raw");
    g_autofree char *json = in_dir(dir, "root/images/a/1/image.json");
    g_autofree char *stray = in_dir(dir, "root/images/a/1/stray");
    assert_int_equal(chmod(top, 0755), 0);
    expect_finding(store, "its mode is 0755");
    assert_int_equal(chmod(top, 0711), 0);
    assert_int_equal(chmod(disk, 0400), 0);
    expect_finding(store, "disk.raw: its mode is 0400");
    assert_int_equal(chmod(disk, 0444), 0);
    assert_int_equal(chown(disk, 64055, 0), 0);
    expect_finding(store, "disk.raw: it belongs to user 64055");
    assert_int_equal(chown(disk, 0, 0), 0);
    put_file(dir, "root/images/a/1/stray", "x", 1);
    expect_finding(store, "stray: it is not of the version");
    assert_int_equal(unlink(stray), 0);
    tool("sh", "-c", "printf x | dd of=\"$1\" bs=1 seek=5000 conv=notrunc 2>/dev/null", "sh", disk);
    expect_finding(store, "does not hold the bytes");
    assert_int_equal(chmod(json, 0644), 0);
    expect_finding(store, "image.json: its mode is 0644");
    assert_int_equal(unlink(json), 0);
    expect_finding(store, "image.json");
    g_autoptr(GPtrArray) states = vr_store_survey(store, "a", NULL);
    assert_int_equal(states->len, 1);
    g_autofree char *reason = vr_version_ineligible(states->pdata[0]);
    assert_true(g_str_has_prefix(reason, "damaged: "));
    assert_true(vr_store_delete(store, "a", "1", NULL, NULL, NULL)); /* a damaged one may go */
}

static void the_survey_measures_space(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *path = in_dir(dir, "a.raw");
    make_raw(dir, "a.raw", MIB, 1);
    assert_int_equal(truncate(path, 100 * MIB), 0);
    g_autoptr(VrStore) store = open_store(dir);
    must_publish(dir, store, "a", "1", "a.raw");
    must_publish(dir, store, "a", "10", "a.raw");
    must_publish(dir, store, "a", "9", "a.raw");
    assert_true(vr_store_set_excluded(store, "a", "10", TRUE, "no network", &error));
    g_autoptr(GPtrArray) states = vr_store_survey(store, NULL, &error);
    const char *order[] = {"10", "9", "1"};
    for (guint i = 0; i < states->len; i++) {
        const VrVersionState *one = states->pdata[i];
        g_autofree char *reason = vr_version_ineligible(one);
        assert_string_equal(one->image->version, order[i]);
        assert_in_range(one->real_bytes, MIB, 3 * MIB);
        assert_string_equal(reason ? reason : "yes", i == 0 ? "excluded: no network" : "yes");
    }
    assert_null(vr_store_survey(store, "b", &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "there is no image b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_version_goes_whole_and_is_recorded), dir_test(a_no_in_the_last_moment_counts),
        dir_test(a_killed_deletion_is_all_or_nothing),  dir_test(a_killed_publication_shows_nothing_or_all),
        dir_test(an_inspection_says_what_is_wrong),     dir_test(the_survey_measures_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
