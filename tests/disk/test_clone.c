/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Full clones, many from one read: rows B6, B13. */
#include "disk/stores.h"

#include "base/clock.h"
#include "base/gather.h"
#include "disk/clone.h"
#include "disk/copy_private.h"
#include "disk/disk_file.h"
#include "disk/qcow2.h"

#include <pthread.h>

#define MIB (1024 * 1024)
#define MANY 8

/* ---- instances, each with a thread ---- */

typedef struct {
    VrStore *store;
    const VrImage *image;
    VrCloneSeat *seat;
    const char *name;
    guint64 min_size;
    char uuid[40];
    pthread_t thread;
    gboolean made;
    GError *error;
    gint ended; /* atomic */
} Guest;

static void *make_one(void *data)
{
    Guest *guest = data;
    guest->made = vr_clone_make(guest->seat, guest->store, guest->uuid, guest->name, guest->image, guest->min_size,
                                NULL, NULL, &guest->error);
    vr_clone_seat_free(g_steal_pointer(&guest->seat));
    g_atomic_int_set(&guest->ended, 1);
    return NULL;
}

static void seat_guests(Guest *guests, guint n, VrStore *store, const VrImage *image, const gint *cancelled)
{
    g_autofree VrCloneSeat **seats = g_new0(VrCloneSeat *, n);
    vr_clone_seats_new(seats, n, cancelled);
    for (guint i = 0; i < n; i++) {
        guests[i] = (Guest){.store = store, .image = image, .seat = seats[i], .name = "g1.qcow2"};
        g_snprintf(guests[i].uuid, sizeof guests[i].uuid, "0c1e8f6a-1111-4222-8333-%012u", i);
    }
}

static void begin(Guest *guest)
{
    assert_int_equal(pthread_create(&guest->thread, NULL, make_one, guest), 0);
}

static void end(Guest *guest)
{
    assert_int_equal(pthread_join(guest->thread, NULL), 0);
}

/* Ends although others have not come, and long before those are given up. */
static void end_soon(Guest *guest)
{
    gint64 asked_us = g_get_monotonic_time();
    end(guest);
    assert_true(g_get_monotonic_time() - asked_us < VR_GATHER_MS * 1000 / 2);
}

static void make_all(Guest *guests, guint n)
{
    for (guint i = 0; i < n; i++)
        begin(&guests[i]);
    for (guint i = 0; i < n; i++)
        end(&guests[i]);
}

static char *path_of(const Guest *guest, const char *name)
{
    return g_build_filename(vr_store_root(guest->store), "disks", guest->uuid, name, NULL);
}

/* ---- what became of them ---- */

/* No backing file, the bytes of `file`, and nothing beside it. */
static void expect_clone(const TestDir *dir, const Guest *guest, const char *file, const char *format, guint64 size)
{
    struct stat st;
    VrQcow2Header header;
    expect_no_error(guest->error);
    assert_true(guest->made);
    g_autofree char *path = path_of(guest, guest->name), *place = path_of(guest, NULL), *source = in_dir(dir, file);
    vr_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(vr_qcow2_header_read(fd, &header, NULL));
    assert_int_equal(header.backing_offset, 0);
    assert_int_equal(header.size, size);
    tool("qemu-img", "check", "-q", "-f", "qcow2", path);
    tool("qemu-img", "compare", "-q", "-f", format, "-F", "qcow2", source, path);
    assert_int_equal(count_entries(place), 1);
}

static void expect_nothing(Guest *guest, int code, const char *text)
{
    g_autofree char *place = path_of(guest, NULL);
    assert_false(guest->made);
    expect_error(&guest->error, code, text);
    assert_int_equal(count_entries(place), 0);
}

/* ---- the copy, watched ---- */

typedef struct {
    pthread_mutex_t lock;
    guint64 read, written; /* bytes */
    int flushes;
    VrCopySide side;
    int result;                /* of that side, instead of the real one; 0: none */
    int flush;                 /* likewise */
    gint *cancel;              /* set at the first write */
    void (*meanwhile)(void *); /* called at the first write */
    void *data;
    const VrCloneProgress *progress; /* looked at with each write; may be NULL */
    VrCloneProgress seen;            /* what was seen of it with the most bytes */
} Watch;

static void look(Watch *watch)
{
    VrCloneProgress now;
    guint64 rate;
    if (watch->progress && vr_clone_progress_read(watch->progress, &now, &rate) &&
        now.bytes_done >= watch->seen.bytes_done)
        watch->seen = now;
}

static int note(Watch *watch, VrCopySide side, int result)
{
    gboolean first = FALSE;
    pthread_mutex_lock(&watch->lock);
    look(watch);
    if (side == VR_SIDE_SOURCE && result > 0)
        watch->read += (guint64)result;
    if (side == VR_SIDE_TARGET && result > 0) {
        first = watch->written == 0;
        watch->written += (guint64)result;
    }
    pthread_mutex_unlock(&watch->lock);
    if (first && watch->cancel)
        g_atomic_int_set(watch->cancel, 1);
    if (first && watch->meanwhile)
        watch->meanwhile(watch->data);
    return watch->result && side == watch->side ? watch->result : result;
}

static gssize watched_read(int fd, guint8 *buffer, gsize length, guint64 offset, void *data)
{
    return note(data, VR_SIDE_SOURCE, (int)vr_copy_real_ops.read(fd, buffer, length, offset, NULL));
}

static gssize watched_write(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data)
{
    return note(data, VR_SIDE_TARGET, (int)vr_copy_real_ops.write(fd, buffer, length, offset, NULL));
}

static int watched_flush(int fd, void *data)
{
    Watch *watch = data;
    watch->flushes++;
    return watch->flush ? watch->flush : vr_copy_real_ops.flush(fd, NULL);
}

static int no_share(int source, guint64 offset, int target, guint64 at, guint64 length, void *data)
{
    return -EOPNOTSUPP;
}

static int watched_completion(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    return note(data, side, result);
}

static void make_all_watched(Guest *guests, guint n, Watch *watch)
{
    const VrCopyOps ops = {watched_read, watched_write, watched_flush, no_share, watched_completion, watch};
    pthread_mutex_init(&watch->lock, NULL);
    vr_copy_set_ops(&ops);
    make_all(guests, n);
    vr_copy_set_ops(NULL);
    pthread_mutex_destroy(&watch->lock);
}

/* ---- a store with one version ---- */

typedef struct {
    VrStore *store;
    VrImage *image;
} World;

static void world_clear(World *world)
{
    vr_image_free(world->image);
    vr_store_close(world->store);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)

static World world_of(const TestDir *dir, const char *file)
{
    g_autoptr(GError) error = NULL;
    World world = {.store = open_store(dir)};
    must_publish(dir, world.store, "a", "1", file);
    world.image = vr_store_get(world.store, "a", "1", &error);
    expect_no_error(error);
    return world;
}

/* ---- tests ---- */

/* B6: of every format, eight at once, and the source is read once. */
static void one_read_makes_all(void **state)
{
    TestDir *dir = *state;
    make_raw(dir, "a.raw", 5 * MIB, 1);
    make_qcow2(dir, "b.qcow2", NULL, 5 * MIB);
    make_qcow2(dir, "c.qcow2", "compat=1.1,extended_l2=on,cluster_size=128k", 5 * MIB);
    const struct {
        const char *file, *format;
        guint64 data;
    } rows[] = {{"a.raw", "raw", 5 * MIB}, {"b.qcow2", "qcow2", 4 * 65536}, {"c.qcow2", "qcow2", 0}};
    g_autoptr(VrStore) store = open_store(dir);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        Watch watch = {0};
        Guest guests[MANY];
        g_autofree char *version = g_strdup_printf("%zu", i + 1);
        must_publish(dir, store, "a", version, rows[i].file);
        g_autoptr(VrImage) image = vr_store_get(store, "a", version, NULL);
        seat_guests(guests, MANY, store, image, NULL);
        make_all_watched(guests, MANY, &watch);
        for (guint j = 0; j < MANY; j++) {
            g_autofree char *path = path_of(&guests[j], "g1.qcow2");
            expect_clone(dir, &guests[j], rows[i].file, rows[i].format, 5 * MIB);
            tool("rm", path);
        }
        if (rows[i].data)
            assert_int_equal(watch.read, rows[i].data);
        assert_int_equal(watch.flushes, MANY);
    }
}

/* B13: one read for each size. */
static void sizes_may_differ(void **state)
{
    TestDir *dir = *state;
    Watch watch = {0};
    Guest guests[6];
    const guint64 asked[] = {0, MIB, 5 * MIB, 5 * MIB + 1, 20 * MIB, 20 * MIB};
    const guint64 got[] = {5 * MIB, 5 * MIB, 5 * MIB, 5 * MIB + 512, 20 * MIB, 20 * MIB};
    make_raw(dir, "a.raw", 5 * MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    seat_guests(guests, 6, world.store, world.image, NULL);
    for (guint i = 0; i < 6; i++)
        guests[i].min_size = asked[i];
    make_all_watched(guests, 6, &watch);
    for (guint i = 0; i < 6; i++)
        expect_clone(dir, &guests[i], "a.raw", "raw", got[i]);
    assert_int_equal(watch.read, 3 * 5 * MIB);
}

/* More than one read can write. */
static void a_large_batch_is_made_too(void **state)
{
    TestDir *dir = *state;
    enum { HUGE = VR_COPY_TARGETS + 3 };
    Watch watch = {0};
    g_autofree Guest *guests = g_new0(Guest, HUGE);
    make_raw(dir, "a.raw", 65536, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    seat_guests(guests, HUGE, world.store, world.image, NULL);
    make_all_watched(guests, HUGE, &watch);
    for (guint i = 0; i < HUGE; i++)
        expect_clone(dir, &guests[i], "a.raw", "raw", 65536);
    assert_int_equal(watch.read, 2 * 65536);
}

/* Those who asked wait for those who may still come, and go on when these leave. */
static void who_leaves_is_not_waited_for(void **state)
{
    TestDir *dir = *state;
    Guest guests[4];
    make_raw(dir, "a.raw", MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    seat_guests(guests, 4, world.store, world.image, NULL);
    begin(&guests[0]);
    begin(&guests[1]);
    vr_clone_seat_free(guests[2].seat);
    g_usleep(300000);
    assert_false(g_atomic_int_get(&guests[0].ended) || g_atomic_int_get(&guests[1].ended));
    vr_clone_seat_free(guests[3].seat);
    for (guint i = 0; i < 2; i++) {
        end_soon(&guests[i]);
        expect_clone(dir, &guests[i], "a.raw", "raw", MIB);
    }
}

/* Seats that are all given back are no trouble, nor is none at all. */
static void empty_groups_end(void **state)
{
    VrCloneSeat *seats[3];
    vr_clone_seats_new(seats, 3, NULL);
    for (guint i = 0; i < 3; i++)
        vr_clone_seat_free(seats[i]);
    vr_clone_seats_new(seats, 0, NULL);
    vr_clone_seat_free(NULL);
}

/* J8: one copy for all, and each hears of it while it is under way, and not any more when it is over. */
static void each_hears_how_far_it_is(void **state)
{
    TestDir *dir = *state;
    Guest guests[3];
    VrCloneProgress progress[3] = {0}, now;
    guint64 rate;
    make_raw(dir, "a.raw", 64 * MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    for (guint watched = 0; watched < 3; watched++) {
        Watch watch = {.progress = &progress[watched]};
        seat_guests(guests, 3, world.store, world.image, NULL);
        for (guint i = 0; i < 3; i++) {
            g_snprintf(guests[i].uuid, sizeof guests[i].uuid, "0c1e8f6a-1111-4222-8333-%012u", 10 * watched + i);
            vr_clone_seat_watch(guests[i].seat, &progress[i]);
            assert_false(vr_clone_progress_read(&progress[i], &now, &rate));
        }
        make_all_watched(guests, 3, &watch);
        assert_true(watch.seen.bytes_total > 63 * MIB && watch.seen.bytes_total < 66 * MIB);
        assert_true(watch.seen.bytes_done > 0 && watch.seen.bytes_done < watch.seen.bytes_total);
        assert_true(watch.seen.begun_ms > 0);
        for (guint i = 0; i < 3; i++) {
            expect_no_error(guests[i].error);
            assert_false(vr_clone_progress_read(&progress[i], &now, &rate));
        }
    }
}

static void take_name(void *data)
{
    const Guest *guest = data;
    g_autofree char *path = path_of(guest, guest->name);
    g_assert_true(g_file_set_contents(path, "precious", 8, NULL));
}

/* One has a name that is taken, one a bad name, one a bad UUID, one no directory, one loses its name while the copy runs. */
static void an_error_of_one_is_its_own(void **state)
{
    TestDir *dir = *state;
    Guest guests[MANY];
    make_raw(dir, "a.raw", MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    seat_guests(guests, MANY, world.store, world.image, NULL);
    g_autofree char *first = path_of(&guests[0], NULL), *third = path_of(&guests[3], NULL);
    assert_int_equal(g_mkdir_with_parents(first, 0711), 0);
    take_name(&guests[0]);
    guests[1].name = "../g1.qcow2";
    g_strlcpy(guests[2].uuid, "no-uuid", sizeof guests[2].uuid);
    assert_true(g_file_set_contents(third, "x", 1, NULL));
    Watch watch = {.meanwhile = take_name, .data = &guests[4]};
    make_all_watched(guests, MANY, &watch);
    expect_error(&guests[0].error, VR_ERROR_CONFLICT, "g1.qcow2 exists already");
    expect_error(&guests[1].error, VR_ERROR_USAGE, "name");
    expect_error(&guests[2].error, VR_ERROR_USAGE, "not a UUID");
    expect_error(&guests[3].error, VR_ERROR_IO, "Not a directory");
    expect_error(&guests[4].error, VR_ERROR_CONFLICT, "exists");
    for (guint i = 0; i < 5; i += 4) {
        g_autofree char *path = path_of(&guests[i], "g1.qcow2"), *place = path_of(&guests[i], NULL), *text = NULL;
        assert_true(g_file_get_contents(path, &text, NULL, NULL));
        assert_string_equal(text, "precious");
        assert_int_equal(count_entries(place), 1);
    }
    for (guint i = 5; i < MANY; i++)
        expect_clone(dir, &guests[i], "a.raw", "raw", MIB);
}

static void an_error_of_the_copy_is_everybodys(void **state)
{
    TestDir *dir = *state;
    const struct {
        Watch watch;
        VrErrorCode code;
        const char *text;
    } rows[] = {{{.side = VR_SIDE_TARGET, .result = -ENOSPC}, VR_ERROR_NO_SPACE, "cannot write the target"},
                {{.side = VR_SIDE_TARGET, .result = -EIO}, VR_ERROR_IO, "cannot write the target"},
                {{.side = VR_SIDE_SOURCE, .result = -EIO}, VR_ERROR_IO, "cannot read the source"},
                {{.flush = -EIO}, VR_ERROR_IO, "cannot flush"},
                {{.flush = -ENOSPC}, VR_ERROR_NO_SPACE, "cannot flush"}};
    make_raw(dir, "a.raw", 3 * MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        Guest guests[4];
        Watch watch = rows[i].watch;
        seat_guests(guests, 4, world.store, world.image, NULL);
        make_all_watched(guests, 4, &watch);
        for (guint j = 0; j < 4; j++) {
            assert_non_null(strstr(guests[j].error->message, "g1.qcow2 as a full clone of a 1: "));
            assert_non_null(strstr(guests[j].error->message, guests[j].uuid));
            expect_nothing(&guests[j], rows[i].code, rows[i].text);
        }
    }
}

static void a_cancel_is_heard_while_it_waits(void **state)
{
    TestDir *dir = *state;
    gint cancelled = 0;
    Guest guests[3];
    make_raw(dir, "a.raw", MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    seat_guests(guests, 3, world.store, world.image, &cancelled);
    begin(&guests[0]);
    begin(&guests[1]);
    g_usleep(150000);
    g_atomic_int_set(&cancelled, 1);
    for (guint i = 0; i < 2; i++) {
        end_soon(&guests[i]);
        expect_nothing(&guests[i], VR_ERROR_CANCELLED, "cancelled");
    }
    begin(&guests[2]); /* one that comes too late */
    end(&guests[2]);
    expect_nothing(&guests[2], VR_ERROR_CANCELLED, "cancelled");
}

static void a_cancel_is_heard_in_the_copy(void **state)
{
    TestDir *dir = *state;
    gint cancelled = 0;
    Guest guests[MANY];
    Watch watch = {.cancel = &cancelled};
    make_raw(dir, "a.raw", 64 * MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    seat_guests(guests, MANY, world.store, world.image, &cancelled);
    make_all_watched(guests, MANY, &watch);
    for (guint i = 0; i < MANY; i++)
        expect_nothing(&guests[i], VR_ERROR_CANCELLED, "cancelled");
    assert_true(watch.written < (guint64)MANY * 64 * MIB);
}

static gint64 jumped_ms;

static gint64 now_ms(void *data)
{
    return 1000000 + __atomic_load_n(&jumped_ms, __ATOMIC_RELAXED);
}

static gint64 wall_us(void *data)
{
    return g_get_real_time();
}

static void do_not_sleep(gint64 deadline_ms, void *data)
{
}

/* No silent wait (SAFETY invariant 27): one that hangs holds nobody for ever, and is served when it comes after all. */
static void nobody_waits_for_ever(void **state)
{
    static const VrClockSource jumping = {now_ms, wall_us, do_not_sleep, NULL};
    TestDir *dir = *state;
    Guest guests[2];
    make_raw(dir, "a.raw", MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    seat_guests(guests, 2, world.store, world.image, NULL);
    vr_clock_set_source(&jumping);
    begin(&guests[0]);
    g_usleep(250000);
    gboolean early = g_atomic_int_get(&guests[0].ended);
    __atomic_store_n(&jumped_ms, VR_GATHER_MS + 1, __ATOMIC_RELAXED);
    end(&guests[0]);
    begin(&guests[1]);
    end(&guests[1]);
    vr_clock_set_source(NULL);
    assert_false(early);
    for (guint i = 0; i < 2; i++)
        expect_clone(dir, &guests[i], "a.raw", "raw", MIB);
}

static void delete_version(void *data)
{
    GError *error = NULL;
    g_assert_true(vr_store_delete(data, "a", "1", NULL, NULL, &error));
}

/* Before: an error that says so. While it is read: the clones are whole all the same. */
static void a_version_that_goes_is_told(void **state)
{
    TestDir *dir = *state;
    Guest guests[2];
    make_raw(dir, "a.raw", 8 * MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    Watch watch = {.meanwhile = delete_version, .data = world.store};
    seat_guests(guests, 2, world.store, world.image, NULL);
    make_all_watched(guests, 2, &watch);
    assert_false(is_there(dir, "root/images/a"));
    for (guint i = 0; i < 2; i++) {
        expect_clone(dir, &guests[i], "a.raw", "raw", 8 * MIB);
        g_autofree char *path = path_of(&guests[i], "g1.qcow2");
        tool("rm", path);
    }
    seat_guests(guests, 2, world.store, world.image, NULL);
    make_all(guests, 2);
    for (guint i = 0; i < 2; i++)
        expect_nothing(&guests[i], VR_ERROR_NOT_FOUND, "the version was deleted meanwhile");
}

/* Rules that are newer than the verdict (SAFETY invariant 5). */
static void an_image_that_is_refused_now_is_not_cloned(void **state)
{
    TestDir *dir = *state;
    Guest guests[2];
    make_raw(dir, "a.raw", MIB, 1);
    g_auto(World) world = world_of(dir, "a.raw");
    g_autofree char *disk = g_strdup(world.image->path);
    assert_int_equal(chmod(disk, 0600), 0);
    tool("qemu-io", "-f", "raw", "-c", "write -q -P 0x51 0 512", disk);
    vr_autofd fd = open(disk, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "QFI\xfb", 4, 0), 4); /* a raw image that is a qcow2 */
    assert_int_equal(chmod(disk, 0444), 0);
    world.image->rules_version = 0;
    seat_guests(guests, 2, world.store, world.image, NULL);
    make_all(guests, 2);
    for (guint i = 0; i < 2; i++)
        expect_nothing(&guests[i], VR_ERROR_REFUSED, "refused");
}

static void too_little_space_is_told_before(void **state)
{
    TestDir *dir = *state;
    Guest guests[3];
    g_autofree char *root = in_dir(dir, "root");
    guint64 bytes;
    make_raw(dir, "a.raw", 10 * MIB, 1);
    assert_int_equal(mkdir(root, 0711), 0);
    if (mount("tmpfs", root, "tmpfs", 0, "size=48m,mode=0711") != 0)
        skip();
    World world = world_of(dir, "a.raw");
    assert_true(vr_clone_bytes(world.store, world.image, &bytes, NULL));
    assert_in_range(bytes, 10 * MIB, 10 * MIB + 6 * 65536);
    Watch watch = {0};
    seat_guests(guests, 3, world.store, world.image, NULL);
    make_all_watched(guests, 3, &watch);
    for (guint i = 0; i < 3; i++)
        expect_nothing(&guests[i], VR_ERROR_NO_SPACE, "are needed for 3 full clones");
    assert_int_equal(watch.written, 0);
    seat_guests(guests, 1, world.store, world.image, NULL);
    make_all(guests, 1);
    expect_clone(dir, &guests[0], "a.raw", "raw", 10 * MIB);
    world_clear(&world);
    assert_int_equal(umount(root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(one_read_makes_all),
        dir_test(sizes_may_differ),
        dir_test(a_large_batch_is_made_too),
        dir_test(who_leaves_is_not_waited_for),
        cmocka_unit_test(empty_groups_end),
        dir_test(each_hears_how_far_it_is),
        dir_test(an_error_of_one_is_its_own),
        dir_test(an_error_of_the_copy_is_everybodys),
        dir_test(a_cancel_is_heard_while_it_waits),
        dir_test(a_cancel_is_heard_in_the_copy),
        dir_test(nobody_waits_for_ever),
        dir_test(a_version_that_goes_is_told),
        dir_test(an_image_that_is_refused_now_is_not_cloned),
        dir_test(too_little_space_is_told_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
