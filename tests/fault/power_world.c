/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The world of tests/fault/power.py, on a file system whose writes are recorded.
 *
 *   power_world make TOP            store, guest and disks; the journal's files have their full size already
 *   power_world act TOP RUN LOG     publishes and swaps; each promise is a line on standard output, with the number of the
 *                                   last flush in LOG before it: what was said must be there after every power cut later than that
 *   power_world check TOP RUN FLUSH < promises    after a power cut behind that flush; ends by abort when a rule is broken
 *
 * RUN is a directory that is gone with the host (the guest's power and live XML).
 */
#include "engine/support.h"

#include "base/child.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the log of blklogwrites ---- */

#define LOG_SECTOR 512
#define LOG_FLUSH 1u
#define LOG_DISCARD 4u

typedef struct {
    guint64 sector, count, flags, length;
} LogEntry;

static int log_fd = -1;
static guint64 log_at = LOG_SECTOR;
static guint flushes;

/* Flushes so far; what is not written yet is zeros. */
static guint count_flushes(void)
{
    LogEntry entry;

    while (pread(log_fd, &entry, sizeof entry, (off_t)log_at) == (gssize)sizeof entry &&
           (entry.count > 0 || entry.flags != 0)) {
        flushes += (entry.flags & LOG_FLUSH) != 0;
        log_at += LOG_SECTOR + (entry.flags & LOG_DISCARD ? 0 : entry.count * LOG_SECTOR);
    }
    return flushes;
}

static void promise(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void promise(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    printf("%u %s\n", count_flushes(), what);
    fflush(stdout);
}

/* ---- what the journal holds ---- */

static const char counts_sql[] = "SELECT (SELECT COALESCE(MAX(seq), 0) FROM steps), "
                                 "(SELECT COALESCE(MAX(seq), 0) FROM events), "
                                 "(SELECT COALESCE(SUM(fence), 0) FROM owners), "
                                 "(SELECT COUNT(*) FROM generations), "
                                 "(SELECT COUNT(*) FROM swaps)";
#define COUNTS 5
#define CHECKPOINT_PAGES 100

static gboolean read_counts(sqlite3 *db, gint64 counts[COUNTS])
{
    sqlite3_stmt *stmt = NULL;
    gboolean ok = sqlite3_prepare_v2(db, counts_sql, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW;

    for (int i = 0; ok && i < COUNTS; i++)
        counts[i] = sqlite3_column_int64(stmt, i);
    sqlite3_finalize(stmt);
    return ok;
}

/* After each commit. SQLite's own checkpoint comes only after 1,000 pages; a run should see a few. */
static int after_commit(void *data, sqlite3 *db, const char *name, int pages)
{
    gint64 now[COUNTS];

    if (read_counts(db, now))
        promise("journal %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT
                " %" G_GINT64_FORMAT,
                now[0], now[1], now[2], now[3], now[4]);
    if (pages > CHECKPOINT_PAGES)
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return SQLITE_OK;
}

static sqlite3 *connection; /* of the store */

static int remember_connection(sqlite3 *db, const char **message, const struct sqlite3_api_routines *api)
{
    connection = db;
    return SQLITE_OK;
}

/* ---- what libvirt holds ---- */

static const VrHvOps *fake_ops;

static char *digest_of_definition(World *world)
{
    g_autofree char *path = g_build_filename(world->hv_dir, "inactive.xml", NULL);
    g_autofree char *text = NULL;
    gsize length;

    g_assert_true(g_file_get_contents(path, &text, &length, NULL));
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)text, length);
}

static gboolean define(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    gboolean ok = fake_ops->define(hv, uuid, xml, error);
    g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, xml, -1);

    if (ok)
        promise("defined %s", digest);
    return ok;
}

static void watch_definitions(World *world)
{
    static VrHvOps ops;

    fake_ops = world->fake->hv.ops;
    ops = *fake_ops;
    ops.define = define;
    world->fake->hv.ops = &ops;
}

/* ---- make ---- */

static const char fills[] = "NPQ"; /* of versions 2.0.0, 3.0.0, 4.0.0 */

static int make(const char *top)
{
    World *world = world_make(top, TRUE);

    /* In a journal that has been used for a while, a commit changes no file's size. */
    for (int i = 0; i < 250; i++)
        g_assert_true(vr_journal_event(world->journal, world->owner, NULL, NULL, "test", "fills the log", NULL));
    for (const char *fill = fills; *fill; fill++) {
        g_free(world_image_file(world, *fill));
    }
    world_detach(world);
    return 0;
}

/* ---- act ---- */

static void publish(World *world, const char *version, char fill)
{
    g_autoptr(GError) error = NULL;

    world_publish(world, version, fill, &error);
    g_assert_no_error(error);
    promise("version %s %c", version, fill);
    vr_image_free(world->image);
    world->image = vr_store_get(world->store, "os", "latest", &error);
    g_assert_no_error(error);
}

static void undo(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrSwap) swap = world_begin(world, -1, &error);

    g_assert_no_error(error);
    g_assert_true(vr_swap_advance(swap, VR_SWAP_STARTED, &world_stop, NULL));
    vr_swap_undo(swap, "not healthy", &error);
    g_assert_no_error(error);
}

static World *open_world(const char *top, const char *run, gboolean autostart)
{
    World *world = world_attach(top);

    world_skip_waiting(NULL);
    world->run_dir = g_strdup(run);
    world_open(world);
    fake_hv_boot_host(world->fake, autostart);
    return world;
}

static int act(const char *top, const char *run, const char *log)
{
    World *world;

    log_fd = open(log, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(log_fd, >=, 0);
    sqlite3_auto_extension((void (*)(void))remember_connection);
    promise("version 2.0.0 N");
    {
        World *at_first = world_attach(top);
        g_autofree char *digest = digest_of_definition(at_first);
        promise("defined %s", digest);
        world_detach(at_first);
    }
    world = open_world(top, run, TRUE);
    sqlite3_wal_hook(connection, after_commit, NULL); /* not earlier: opening sets SQLite's own */
    watch_definitions(world);
    world_swap(world, -1);
    publish(world, "3.0.0", 'P');
    world_swap(world, -1);
    world_swap(world, 1);
    publish(world, "4.0.0", 'Q');
    undo(world);
    world->full = TRUE;
    world_swap(world, -1);
    world_swap(world, 0);
    world_detach(world);
    close(log_fd);
    return 0;
}

/* ---- check ---- */

static void check_version(World *world, const char *version, char fill)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrImage) image = vr_store_get(world->store, "os", version, &error);
    g_autofree char *bytes = g_strnfill(1024 * 1024, fill);
    g_autofree char *digest = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)bytes, 1024 * 1024);

    g_assert_no_error(error);
    g_assert_cmpstr(image->stored_digest, ==, digest);
    g_assert_cmpstr(image->source_digest, ==, digest);
    g_assert_cmpint(world_mode(image->path), ==, 0444);
}

typedef struct {
    gint64 counts[COUNTS]; /* of the journal as it is */
    char *definition;      /* as it is */
    gboolean is_defined;   /* that one is the last that was promised, or came after it */
} Found;

static void look(World *world, Found *found)
{
    g_autofree char *path = g_build_filename(world->root, "state.db", NULL);
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), ==, SQLITE_OK);
    g_assert_true(read_counts(db, found->counts));
    sqlite3_close(db);
    found->definition = digest_of_definition(world);
}

static void check_line(World *world, Found *found, const char *line, gboolean is_due)
{
    gint64 then[COUNTS];
    char word[80], fill;

    if (sscanf(line, "defined %79s", word) == 1)
        found->is_defined = (found->is_defined && !is_due) || g_str_equal(word, found->definition);
    else if (!is_due)
        return;
    else if (sscanf(line, "version %79s %c", word, &fill) == 2)
        check_version(world, word, fill);
    else if (sscanf(line, "journal %ld %ld %ld %ld %ld", &then[0], &then[1], &then[2], &then[3], &then[4]) == COUNTS)
        for (int i = 0; i < COUNTS; i++)
            g_assert_cmpint(found->counts[i], >=, then[i]);
    else
        g_error("what is \"%s\"?", line);
}

/* Every line that was said before the flush that the cut came behind is due. */
static guint check_promises(World *world, guint flush)
{
    Found found = {0};
    char line[200];
    guint kept = 0;

    look(world, &found);
    while (fgets(line, sizeof line, stdin)) {
        gboolean is_due = (guint)strtoul(line, NULL, 10) <= flush;
        check_line(world, &found, strchr(line, ' ') + 1, is_due);
        kept += is_due;
    }
    g_assert_true(found.is_defined);
    g_free(found.definition);
    return kept;
}

/* Whatever can be seen is whole, also what nobody promised yet. */
static void check_visible(World *world)
{
    g_autoptr(GPtrArray) states = vr_store_survey(world->store, "os", NULL);

    g_assert_nonnull(states);
    for (guint i = 0; i < states->len; i++) {
        const VrVersionState *state = g_ptr_array_index(states, i);
        g_autoptr(GError) error = NULL;
        g_assert_cmpstr(state->damage, ==, NULL);
        vr_store_verify(world->store, state->image, TRUE, &error);
        g_assert_no_error(error);
        check_version(world, state->image->version, fills[state->image->version[0] - '2']);
    }
}

/* Nothing ever wrote to a disk of ours, so each is still what its version is. */
static void check_disk(World *world, const VrGeneration *generation)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *like = NULL;

    if (!generation->ours || generation->state == VR_GENERATION_DISCARDED)
        return;
    like = world_image_file(world, fills[generation->version[0] - '2']);
    const char *argv[] = {"qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", generation->path, like, NULL};
    vr_child_run(argv, NULL, NULL, &error);
    g_assert_no_error(error);
}

static void check_disks(World *world)
{
    g_autoptr(GPtrArray) generations = vr_journal_generations(world->journal, FAKE_UUID, NULL);

    for (guint i = 0; i < generations->len; i++)
        check_disk(world, g_ptr_array_index(generations, i));
}

/* And it all still works: back to what is kept, and forward. */
static void go_through(World *world)
{
    g_autoptr(GPtrArray) generations = vr_journal_generations(world->journal, FAKE_UUID, NULL);

    for (guint i = 0; i < generations->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(generations, i);
        if (generation->state == VR_GENERATION_KEPT)
            world_swap(world, (int)generation->number);
    }
    world_swap(world, -1);
    world_check(world, TRUE);
}

static int check(const char *top, const char *run, guint flush)
{
    World *world = open_world(top, run, flush % 2);
    guint kept = check_promises(world, flush), open_swaps, runs = 1;

    check_visible(world);
    world_check(world, FALSE);
    open_swaps = world_recover_once(world);
    while (world_recover_once(world) > 0)
        g_assert_cmpuint(++runs, <=, 3);
    world_check(world, TRUE);
    check_visible(world);
    check_disks(world);
    go_through(world);
    world_detach(world);
    printf("%u promises, %u open swaps\n", kept, open_swaps);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && g_str_equal(argv[1], "make"))
        return make(argv[2]);
    if (argc == 5 && g_str_equal(argv[1], "act"))
        return act(argv[2], argv[3], argv[4]);
    if (argc == 5 && g_str_equal(argv[1], "check"))
        return check(argv[2], argv[3], (guint)atoi(argv[4]));
    fprintf(stderr, "usage: power_world make TOP | act TOP RUN LOG | check TOP RUN FLUSH\n");
    return 2;
}
