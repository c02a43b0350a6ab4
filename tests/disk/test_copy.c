/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every test runs both ways, the ring and the plain one, unless it says otherwise. */
#include "disk/sources.h"

#include "disk/copy.h"
#include "disk/copy_private.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

/* ---- copies that succeed ---- */

static const Shape shapes[] = {
    {0, {{0}}},
    {1, {{0, 1}}},
    {511, {{0, 511}}},
    {4096, {{0, 4096}}},
    {512 * KIB, {{0, 512 * KIB}}},
    {512 * KIB + 1, {{0, 512 * KIB + 1}}},
    {9 * MIB + 777, {{0, 9 * MIB + 777}}},
    {8 * MIB, {{0}}},
    {8 * MIB, {{4 * MIB, 4096}}},
    {8 * MIB + 3, {{0, 5}, {MIB, 70000}, {3 * MIB + 17, 1}, {8 * MIB, 3}}},
    {20 * MIB, {{0, 3 * MIB}, {10 * MIB, 2 * MIB}, {15 * MIB, 64 * KIB}, {19 * MIB, MIB}}},
};

static void copy_shape(const TestDir *dir, const Shape *shape, guint depth, guint block, gboolean plain)
{
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1], again[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", shape, &bytes);
    vr_autofd target = make_target(dir, "target", 0);
    const VrCopyJob job = {.source_fd = source,
                           .target_fd = target,
                           .length = shape->length,
                           .queue_depth = depth,
                           .block_size = block,
                           .plain = plain};
    assert_true(vr_copy(&job, digest, &error));
    expect_same(target, bytes, shape->length, digest);
    assert_true(allocated(target) <= allocated(source) + 64 * KIB);
    assert_true(vr_digest_fd(source, shape->length, again, &error));
    assert_string_equal(digest, again);
}

static void bytes_holes_and_digest_are_right(void **state)
{
    const struct {
        guint depth, block;
    } sizes[] = {{0, 0}, {1, 4096}, {2, 64 * KIB}, {64, 4096}, {1000, 100}, {8, 3 * MIB}, {3, 5000}};
    for (gsize i = 0; i < G_N_ELEMENTS(shapes); i++) {
        copy_shape(*state, &shapes[i], 0, 0, TRUE);
        for (gsize j = 0; j < G_N_ELEMENTS(sizes); j++)
            copy_shape(*state, &shapes[i], sizes[j].depth, sizes[j].block, FALSE);
    }
}

static void random_shapes_are_right(void **state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    for (int round = 0; round < 40; round++) {
        Shape shape = {.length = (guint64)g_rand_int_range(random, 1, 6 * MIB)};
        for (gsize i = 0; i < 5; i++) {
            shape.data[i].at = (guint64)g_rand_int(random) % shape.length;
            shape.data[i].length = (guint64)g_rand_int(random) % MIN(shape.length - shape.data[i].at, 700000) + 1;
            shape.data[i].length = MIN(shape.data[i].length, shape.length - shape.data[i].at);
        }
        copy_shape(*state, &shape, (guint)g_rand_int_range(random, 1, 20), (guint)g_rand_int_range(random, 1, MIB),
                   round % 4 == 0);
    }
}

static void a_prefix_may_be_copied(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &(Shape){MIB, {{0, MIB}}}, &bytes);
    for (int plain = 0; plain < 2; plain++) {
        vr_autofd target = make_target(dir, "target", 0);
        const VrCopyJob job = {.source_fd = source, .target_fd = target, .length = 600001, .plain = plain};
        assert_true(vr_copy(&job, digest, NULL));
        expect_same(target, bytes, 600001, digest);
    }
}

static void check_progress(const VrCopyProgress *progress, void *data)
{
    guint64 *last = data;
    assert_true(progress->bytes_done >= *last);
    assert_true(progress->bytes_done <= progress->bytes_total);
    *last = progress->bytes_done;
}

static void progress_only_grows_and_ends_at_the_end(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &shapes[10], &bytes);
    for (int plain = 0; plain < 2; plain++) {
        guint64 last = 0;
        vr_autofd target = make_target(dir, "target", 0);
        const VrCopyJob job = {.source_fd = source,
                               .target_fd = target,
                               .length = shapes[10].length,
                               .plain = plain,
                               .progress = check_progress,
                               .progress_data = &last};
        assert_true(vr_copy(&job, digest, NULL));
        assert_int_equal(last, shapes[10].length);
    }
}

/* ---- real ones ---- */

static void a_source_that_became_shorter_is_told(void **state)
{
    TestDir *dir = *state;
    const Shape kinds[] = {{2 * MIB, {{0, 2 * MIB}}}, {2 * MIB, {{0, MIB}}}};
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        for (int plain = 0; plain < 2; plain++) {
            GError *error = NULL;
            g_autofree guint8 *bytes = NULL;
            char digest[VR_DIGEST_HEX_LENGTH + 1];
            vr_autofd source = make_source(dir, "source", &kinds[i], &bytes);
            vr_autofd target = make_target(dir, "target", 0);
            assert_int_equal(ftruncate(source, MIB + 512 * 1024 + 5), 0);
            const VrCopyJob job = {.source_fd = source, .target_fd = target, .length = 2 * MIB, .plain = plain};
            assert_false(vr_copy(&job, digest, &error));
            expect_error(&error, VR_ERROR_INVALID, "the source ends at byte 1572869 of 2097152");
            assert_false(vr_digest_fd(source, 2 * MIB, digest, &error));
            expect_error(&error, VR_ERROR_INVALID, "the source ends at byte 1572869 of 2097152");
        }
}

static void a_full_target_is_told(void **state)
{
    TestDir *dir = *state;
    g_autofree char *path = in_dir(dir, "small");
    g_autofree guint8 *bytes = NULL;
    vr_autofd source = make_source(dir, "source", &(Shape){8 * MIB, {{0, 8 * MIB}}}, &bytes);
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("tmpfs", path, "tmpfs", 0, "size=2m") != 0)
        skip();
    for (int plain = 0; plain < 2; plain++) {
        GError *error = NULL;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        vr_autofd target = vr_open_beneath(dir->fd, "small", O_RDWR | O_TMPFILE, 0600, NULL);
        const VrCopyJob job = {.source_fd = source, .target_fd = target, .length = 8 * MIB, .plain = plain};
        gboolean ok = vr_copy(&job, digest, &error);
        assert_false(ok);
        expect_error(&error, VR_ERROR_NO_SPACE, "cannot write the target");
    }
    assert_int_equal(umount(path), 0);
}

static void a_target_over_the_limit_is_told(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    struct rlimit before, small;
    g_autofree guint8 *bytes = NULL;
    vr_autofd source = make_source(dir, "source", &(Shape){MIB, {{0, MIB}}}, &bytes);
    vr_autofd target = make_target(dir, "target", 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){4096, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const VrCopyJob job = {.source_fd = source, .target_fd = target, .length = MIB};
    gboolean ok = vr_copy(&job, digest, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(ok);
    expect_error(&error, VR_ERROR_NO_SPACE, "the length of the target");
}

static void wrong_descriptors_are_told(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &(Shape){MIB, {{0, MIB}}}, &bytes);
    vr_autofd unreadable = vr_open_beneath(dir->fd, "source", O_WRONLY, 0, NULL);
    vr_autofd target = make_target(dir, "target", 0);
    for (int plain = 0; plain < 2; plain++) {
        GError *error = NULL;
        VrCopyJob job = {.source_fd = unreadable, .target_fd = target, .length = MIB, .plain = plain};
        assert_false(vr_copy(&job, digest, &error));
        expect_error(&error, VR_ERROR_IO, "cannot read the source at byte 0");
    }
}

static void without_a_ring_it_goes_plainly(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    struct rlimit before, none;
    vr_autofd source = make_source(dir, "source", &(Shape){MIB, {{0, MIB}}}, &bytes);
    vr_autofd target = make_target(dir, "target", 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){(rlim_t)target + 1, before.rlim_max}; /* not one descriptor more: no ring */
    vr_autofd lowest = dup(target);
    none.rlim_cur = (rlim_t)MAX(lowest, target + 1);
    vr_fd_clear(&lowest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const VrCopyJob job = {.source_fd = source, .target_fd = target, .length = MIB};
    gboolean unavailable = FALSE;
    VrDigest *hash = vr_digest_new(NULL);
    const VrCopyRun run = {.job = &job, .targets = &job.target_fd, .n_targets = 1, .digest = hash};
    (void)vr_copy_ring(&run, &unavailable, NULL);
    vr_digest_stop(hash);
    assert_false(vr_digest_finish(hash, digest, NULL));
    gboolean ok = vr_copy(&job, digest, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(unavailable);
    assert_true(ok);
    expect_same(target, bytes, MIB, digest);
}

/* ---- cancel ---- */

static void cancel_at_half(const VrCopyProgress *progress, void *data)
{
    if (progress->bytes_done > progress->bytes_total / 2)
        g_atomic_int_set((gint *)data, 1);
}

static void a_cancel_ends_it(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &(Shape){20 * MIB, {{0, 20 * MIB}}}, &bytes);
    for (int plain = 0; plain < 2; plain++) {
        GError *error = NULL;
        gint cancelled = 0;
        vr_autofd target = make_target(dir, "target", 0);
        VrCopyJob job = {.source_fd = source,
                         .target_fd = target,
                         .length = 20 * MIB,
                         .block_size = 64 * KIB,
                         .plain = plain,
                         .cancelled = &cancelled,
                         .progress = cancel_at_half,
                         .progress_data = &cancelled};
        assert_false(vr_copy(&job, digest, &error));
        expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
        job.progress = NULL;
        assert_false(vr_copy(&job, digest, &error));
        expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
    }
}

static gpointer cancel_soon(gpointer data)
{
    g_usleep(50000);
    g_atomic_int_set((gint *)data, 1);
    return NULL;
}

static void a_cancel_is_heard_in_a_long_hole(void **state)
{
    TestDir *dir = *state;
    for (int plain = 0; plain < 2; plain++) {
        GError *error = NULL;
        gint cancelled = 0;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        vr_autofd source = vr_open_beneath(dir->fd, "hole", O_RDWR | O_CREAT, 0600, NULL);
        vr_autofd target = make_target(dir, "target", 0);
        assert_int_equal(ftruncate(source, (off_t)1 << 41), 0); /* half an hour of zeros to hash */
        assert_int_equal(pwrite(source, "x", 1, (off_t)1 << 40), 1);
        GThread *other = g_thread_new("cancel", cancel_soon, &cancelled);
        const VrCopyJob job = {.source_fd = source,
                               .target_fd = target,
                               .length = G_GUINT64_CONSTANT(1) << 41,
                               .plain = plain,
                               .cancelled = &cancelled};
        gint64 before = g_get_monotonic_time();
        assert_false(vr_copy(&job, digest, &error));
        assert_true(g_get_monotonic_time() - before < 5 * G_USEC_PER_SEC);
        expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
        g_thread_join(other);
    }
}

/* ---- many targets, segments, zeros ---- */

static void one_read_writes_many_targets(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &shapes[10], &bytes);
    for (int plain = 0; plain < 2; plain++) {
        int targets[9];
        for (gsize i = 0; i < G_N_ELEMENTS(targets); i++)
            targets[i] = make_target(dir, plain ? "plain" : "ring", i);
        const VrCopyJob job = {.source_fd = source,
                               .targets = targets,
                               .n_targets = G_N_ELEMENTS(targets),
                               .length = shapes[10].length,
                               .plain = plain};
        assert_true(vr_copy(&job, digest, NULL));
        for (gsize i = 0; i < G_N_ELEMENTS(targets); i++) {
            expect_same(targets[i], bytes, shapes[10].length, digest);
            vr_fd_clear(&targets[i]);
        }
    }
}

static void targets_are_counted(void **state)
{
    GError *error = NULL;
    int targets[VR_COPY_TARGETS + 1] = {0};
    const guint wrong[] = {0, VR_COPY_TARGETS + 1};
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        const VrCopyJob job = {.source_fd = 0, .targets = targets, .n_targets = wrong[i]};
        assert_false(vr_copy(&job, NULL, &error));
        expect_error(&error, VR_ERROR_USAGE, "one read writes 1 to 64 targets");
    }
}

/* Random pieces of two files and of memory, of any alignment, some of them adjacent. */
static gsize make_segments(GRand *random, const int *fds, guint8 *const *sources, guint64 source_length, guint64 length,
                           VrCopySegment *segments, gsize max, guint8 *expected)
{
    gsize n = 0;
    guint64 at = 0;
    for (; n < max && at + 1 < length; n++) {
        VrCopySegment *s = &segments[n];
        gboolean aligned = g_rand_boolean(random);
        guint64 grain = aligned ? 4096 : 1;
        if (g_rand_boolean(random))
            at += (guint64)g_rand_int_range(random, 0, 100000);
        at = (at + grain - 1) / grain * grain;
        guint64 wanted = (guint64)g_rand_int_range(random, 1, 300000);
        if (at >= length)
            break;
        int which = g_rand_int_range(random, 0, 3);
        guint64 offset = (guint64)g_rand_int(random) % source_length / grain * grain;
        guint64 most = MIN(source_length - offset, length - at);
        *s = (VrCopySegment){
            .fd = which == 2 ? -1 : fds[which], .offset = offset, .target = at, .length = MIN(wanted, most)};
        s->bytes = which == 2 ? sources[0] + offset : NULL;
        memcpy(expected + at, sources[which == 2 ? 0 : which] + offset, s->length);
        at += s->length;
    }
    return n;
}

static void segments_of_any_kind_are_right(void **state)
{
    TestDir *dir = *state;
    guint8 *bytes[2];
    const Shape kinds[] = {{3 * MIB + 5, {{0, 3 * MIB + 5}}}, {3 * MIB + 5, {{MIB, MIB}, {2 * MIB + 70000, 100}}}};
    g_autoptr(GRand) random = g_rand_new_with_seed(11);
    int fds[] = {make_source(dir, "a", &kinds[0], &bytes[0]), make_source(dir, "b", &kinds[1], &bytes[1])};
    for (int round = 0; round < 60; round++) {
        g_autoptr(GError) error = NULL;
        VrCopySegment segments[80];
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        guint64 length = (guint64)g_rand_int_range(random, 1, 6 * MIB);
        g_autofree guint8 *expected = g_malloc0(length);
        vr_autofd target = make_target(dir, "target", 0);
        const VrCopyJob job = {.target_fd = target,
                               .length = length,
                               .segments = segments,
                               .n_segments =
                                   make_segments(random, fds, bytes, kinds[0].length, length, segments, 80, expected),
                               .block_size = (guint)g_rand_int_range(random, 0, MIB),
                               .queue_depth = (guint)g_rand_int_range(random, 0, 20),
                               .plain = round % 3 == 0};
        (void)vr_copy(&job, digest, &error);
        expect_no_error(error);
        expect_same(target, expected, length, digest);
    }
    for (int i = 0; i < 2; i++) {
        vr_fd_clear(&fds[i]);
        g_free(bytes[i]);
    }
}

static void wrong_plans_are_refused(void **state)
{
    TestDir *dir = *state;
    guint8 some[4096] = {1};
    const VrCopySegment plans[][2] = {
        {{.fd = -1, .bytes = some, .target = 4096, .length = 4096},
         {.fd = -1, .bytes = some, .target = 4000, .length = 1}},
        {{.fd = -1, .bytes = some, .target = MIB - 1, .length = 2}},
        {{.fd = -1, .bytes = some, .target = G_MAXUINT64 - 1, .length = 4}},
        {{.fd = -1, .target = 0, .length = 4}},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(plans); i++)
        for (int plain = 0; plain < 2; plain++) {
            GError *error = NULL;
            vr_autofd target = make_target(dir, "target", 0);
            const VrCopyJob job = {.target_fd = target,
                                   .length = MIB,
                                   .segments = plans[i],
                                   .n_segments = plans[i][1].length ? 2 : 1,
                                   .plain = plain};
            assert_false(vr_copy(&job, NULL, &error));
            expect_error(&error, VR_ERROR_FAILED, "a wrong plan");
        }
}

static void blocks_of_zeros_become_holes(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = g_malloc0(8 * MIB);
    memset(bytes + 2 * MIB + 3, 1, 1);
    memset(bytes + 5 * MIB, 7, 200000);
    put_file(dir, "dense", bytes, 8 * MIB);
    for (int plain = 0; plain < 2; plain++) {
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        vr_autofd source = vr_open_beneath(dir->fd, "dense", O_RDONLY, 0, NULL);
        vr_autofd target = make_target(dir, "target", 0);
        const VrCopyJob job = {
            .source_fd = source, .target_fd = target, .length = 8 * MIB, .plain = plain, .no_clone = TRUE};
        assert_true(vr_copy(&job, digest, NULL));
        expect_same(target, bytes, 8 * MIB, digest);
        assert_true(allocated(target) <= 6 * 64 * KIB);
    }
}

static void a_limit_is_kept(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &(Shape){4 * MIB, {{0, 4 * MIB}}}, &bytes);
    for (int plain = 0; plain < 2; plain++) {
        vr_autofd target = make_target(dir, "target", 0);
        gint64 before = g_get_monotonic_time();
        const VrCopyJob job = {.source_fd = source,
                               .target_fd = target,
                               .length = 4 * MIB,
                               .block_size = 256 * KIB,
                               .limit_rate = 8 * MIB,
                               .plain = plain};
        assert_true(vr_copy(&job, digest, NULL));
        gint64 took = g_get_monotonic_time() - before;
        assert_in_range(took, 330000, 3000000); /* half a second less the burst and the last block */
        expect_same(target, bytes, 4 * MIB, digest);
    }
}

static void residency_is_seen(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    vr_autofd fd = make_source(dir, "source", &(Shape){MIB, {{0, MIB}}}, &bytes);
    assert_true(vr_range_is_cached(fd, 0, MIB));
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    assert_false(vr_range_is_cached(fd, 0, MIB));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(bytes_holes_and_digest_are_right),
        dir_test(random_shapes_are_right),
        dir_test(a_prefix_may_be_copied),
        dir_test(progress_only_grows_and_ends_at_the_end),
        dir_test(a_source_that_became_shorter_is_told),
        dir_test(a_full_target_is_told),
        dir_test(a_target_over_the_limit_is_told),
        dir_test(wrong_descriptors_are_told),
        dir_test(without_a_ring_it_goes_plainly),
        dir_test(a_cancel_ends_it),
        dir_test(a_cancel_is_heard_in_a_long_hole),
        dir_test(one_read_writes_many_targets),
        cmocka_unit_test(targets_are_counted),
        dir_test(segments_of_any_kind_are_right),
        dir_test(wrong_plans_are_refused),
        dir_test(blocks_of_zeros_become_holes),
        dir_test(a_limit_is_kept),
        dir_test(residency_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
