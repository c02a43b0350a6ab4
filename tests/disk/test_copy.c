/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every test runs both ways, the ring and the plain one, unless it says otherwise. */
#include "disk/images.h"

#include "disk/copy.h"
#include "disk/copy_private.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define KIB 1024
#define MIB (1024 * 1024)

/* ---- sources ---- */

typedef struct {
    guint64 length;
    struct {
        guint64 at, length;
    } data[8];
} Shape;

/* A sparse file; bytes: its whole content. */
static int make_source(const TestDir *dir, const char *name, const Shape *shape, guint8 **bytes)
{
    g_autoptr(GRand) random = g_rand_new_with_seed((guint32)shape->length);
    vr_autofd fd = vr_open_beneath(dir->fd, name, O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);
    assert_int_equal(ftruncate(fd, (off_t)shape->length), 0);
    *bytes = g_malloc0(shape->length + 1);
    for (gsize i = 0; i < G_N_ELEMENTS(shape->data); i++) {
        guint64 at = shape->data[i].at, length = shape->data[i].length;
        for (guint64 j = at; j < at + length; j++)
            (*bytes)[j] = (guint8)g_rand_int(random);
        assert_int_equal(pwrite(fd, *bytes + at, length, (off_t)at), (gssize)length);
    }
    return vr_fd_steal(&fd);
}

static int make_target(const TestDir *dir)
{
    return vr_open_beneath(dir->fd, "target", O_RDWR | O_CREAT | O_TRUNC, 0600, NULL);
}

static guint64 allocated(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (guint64)st.st_blocks * 512;
}

static void expect_same(int fd, const guint8 *bytes, guint64 length, const char *digest)
{
    g_autofree guint8 *got = g_malloc0(length + 2);
    gsize n;
    assert_true(vr_pread_all(fd, got, length + 1, 0, &n, NULL));
    assert_int_equal(n, length);
    assert_memory_equal(got, bytes, length);
    g_autofree char *expected = sha256_of(bytes, length);
    assert_string_equal(digest, expected);
}

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
    vr_autofd target = make_target(dir);
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
        vr_autofd target = make_target(dir);
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
        vr_autofd target = make_target(dir);
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

/* ---- faults ---- */

typedef struct {
    VrCopySide side;
    int nth;    /* result of that side that is changed, from 0; -1: every one */
    int result; /* what is believed; G_MAXINT: a short one */
    int seen;   /* how many results of the side there were */
    guint64 calls;
} Fault;

/* What is not believed of a read is not left in the buffer either. */
static int give_fault(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    Fault *fault = data;
    fault->calls++;
    if (side != fault->side)
        return result;
    int number = fault->seen++;
    if (fault->nth >= 0 && number != fault->nth)
        return result;
    int believed = fault->result;
    if (believed == G_MAXINT)
        believed = MAX(result / 2 + (int)(offset % 3) - 1, 1);
    believed = MIN(believed, result);
    if (side == VR_SIDE_SOURCE && result > 0)
        memset(buffer + MAX(believed, 0), 0xee, (gsize)(result - MAX(believed, 0)));
    return believed;
}

static const Shape faulty_shape = {6 * MIB, {{0, 2 * MIB}, {3 * MIB, 3 * MIB}}};

static gboolean copy_with(const TestDir *dir, Fault *fault, gboolean plain, GError **error)
{
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &faulty_shape, &bytes);
    vr_autofd target = make_target(dir);
    const VrCopyJob job = {.source_fd = source,
                           .target_fd = target,
                           .length = faulty_shape.length,
                           .block_size = 128 * KIB,
                           .plain = plain};
    vr_copy_set_fault(give_fault, fault);
    gboolean ok = vr_copy(&job, digest, error);
    vr_copy_set_fault(NULL, NULL);
    if (ok)
        expect_same(target, bytes, faulty_shape.length, digest);
    return ok;
}

static void short_and_interrupted_requests_go_on(void **state)
{
    const struct {
        int nth, result;
    } rows[] = {{0, G_MAXINT}, {3, G_MAXINT}, {-1, G_MAXINT}, {0, -EINTR}, {5, -EAGAIN}, {2, 1}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        for (int run = 0; run < 4; run++) {
            g_autoptr(GError) error = NULL;
            Fault fault = {run & 1 ? VR_SIDE_TARGET : VR_SIDE_SOURCE, rows[i].nth, rows[i].result, 0, 0};
            (void)copy_with(*state, &fault, run & 2, &error);
            expect_no_error(error);
            assert_true(fault.calls > 80);
        }
}

static void errors_name_their_side(void **state)
{
    const struct {
        VrCopySide side;
        int nth, result;
        VrErrorCode code;
        const char *text;
    } rows[] = {{VR_SIDE_SOURCE, 0, -EIO, VR_ERROR_IO, "cannot read the source at byte"},
                {VR_SIDE_SOURCE, 20, -EIO, VR_ERROR_IO, "cannot read the source at byte"},
                {VR_SIDE_SOURCE, 39, -ESTALE, VR_ERROR_IO, "cannot read the source at byte"},
                {VR_SIDE_SOURCE, 7, 0, VR_ERROR_INVALID, "it was changed while it was read"},
                {VR_SIDE_TARGET, 0, -ENOSPC, VR_ERROR_NO_SPACE, "cannot write the target at byte"},
                {VR_SIDE_TARGET, 39, -EDQUOT, VR_ERROR_NO_SPACE, "cannot write the target at byte"},
                {VR_SIDE_TARGET, 20, -EIO, VR_ERROR_IO, "cannot write the target at byte"},
                {VR_SIDE_TARGET, 20, 0, VR_ERROR_IO, "cannot write the target at byte"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        for (int plain = 0; plain < 2; plain++) {
            GError *error = NULL;
            Fault fault = {rows[i].side, rows[i].nth, rows[i].result, 0, 0};
            assert_false(copy_with(*state, &fault, plain, &error));
            expect_error(&error, rows[i].code, rows[i].text);
        }
}

static void an_endless_again_ends(void **state)
{
    GError *error = NULL;
    Fault fault = {VR_SIDE_SOURCE, -1, -EAGAIN, 0, 0};
    assert_false(copy_with(*state, &fault, FALSE, &error)); /* the ring only: pread of a file does not say so */
    expect_error(&error, VR_ERROR_IO, "cannot read the source");
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
            vr_autofd target = make_target(dir);
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
    vr_autofd target = make_target(dir);
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
    vr_autofd target = make_target(dir);
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
    vr_autofd target = make_target(dir);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){(rlim_t)target + 1, before.rlim_max}; /* not one descriptor more: no ring */
    vr_autofd lowest = dup(target);
    none.rlim_cur = (rlim_t)MAX(lowest, target + 1);
    vr_fd_clear(&lowest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const VrCopyJob job = {.source_fd = source, .target_fd = target, .length = MIB};
    gboolean unavailable = FALSE;
    VrDigest *hash = vr_digest_new(NULL);
    (void)vr_copy_ring(&job, hash, &unavailable, NULL);
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
        vr_autofd target = make_target(dir);
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
        vr_autofd target = make_target(dir);
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

/* ---- what it costs ---- */

static void nothing_is_left_open(void **state)
{
    guint before = count_entries("/proc/self/fd");
    GError *error = NULL;
    for (int i = 0; i < 20; i++) {
        Fault fault = {VR_SIDE_TARGET, i, i % 2 ? -EIO : G_MAXINT, 0, 0};
        (void)copy_with(*state, &fault, FALSE, &error);
        g_clear_error(&error);
    }
    assert_int_equal(count_entries("/proc/self/fd"), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(bytes_holes_and_digest_are_right),
        dir_test(random_shapes_are_right),
        dir_test(a_prefix_may_be_copied),
        dir_test(progress_only_grows_and_ends_at_the_end),
        dir_test(short_and_interrupted_requests_go_on),
        dir_test(errors_name_their_side),
        dir_test(an_endless_again_ends),
        dir_test(a_source_that_became_shorter_is_told),
        dir_test(a_full_target_is_told),
        dir_test(a_target_over_the_limit_is_told),
        dir_test(wrong_descriptors_are_told),
        dir_test(without_a_ring_it_goes_plainly),
        dir_test(a_cancel_ends_it),
        dir_test(a_cancel_is_heard_in_a_long_hole),
        dir_test(nothing_is_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
