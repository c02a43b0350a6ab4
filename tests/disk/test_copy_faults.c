/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every operation fails in every way, one at a time: the bytes are right or there is a typed error, and nothing is left behind. */
#include "disk/sources.h"

#include "disk/convert.h"
#include "disk/copy_private.h"

#include <pthread.h>

typedef struct {
    VrCopySide side;
    int nth;      /* result of that side that is changed, from 0; -1: every one */
    int result;   /* what is believed; G_MAXINT: a short one */
    gint *cancel; /* NULL, or set at the nth result of any side */
    int flush;    /* what the flush gives */
    int seen;     /* how many results of the side there were */
    int calls;
    pthread_mutex_t lock; /* of seen and calls: packed clusters are read by threads */
} Fault;

static int number_of(Fault *fault, VrCopySide side)
{
    pthread_mutex_lock(&fault->lock);
    int all = fault->calls++, number = side == fault->side ? fault->seen++ : -2;
    if (fault->cancel && all == fault->nth)
        g_atomic_int_set(fault->cancel, 1);
    pthread_mutex_unlock(&fault->lock);
    return fault->cancel ? -2 : number;
}

/* What is not believed of a read is not left in the buffer either. */
static int give_fault(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    Fault *fault = data;
    int number = number_of(fault, side);
    if (number == -2 || (fault->nth >= 0 && number != fault->nth))
        return result;
    int believed = fault->result;
    if (believed == G_MAXINT)
        believed = MAX(result / 2 + (int)(offset % 3) - 1, 1);
    believed = MIN(believed, result);
    if (side == VR_SIDE_SOURCE && result > 0)
        memset(buffer + MAX(believed, 0), 0xee, (gsize)(result - MAX(believed, 0)));
    return believed;
}

static gssize faulty_read(int fd, guint8 *buffer, gsize length, guint64 offset, void *data)
{
    gssize n = vr_copy_real_ops.read(fd, buffer, length, offset, NULL);
    return give_fault(VR_SIDE_SOURCE, offset, buffer, (int)n, data);
}

static gssize faulty_write(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data)
{
    gssize n = vr_copy_real_ops.write(fd, buffer, length, offset, NULL);
    return give_fault(VR_SIDE_TARGET, offset, NULL, (int)n, data);
}

static int faulty_flush(int fd, void *data)
{
    const Fault *fault = data;
    return fault->flush ? fault->flush : vr_copy_real_ops.flush(fd, NULL);
}

/* ---- a plain copy ---- */

static const Shape faulty_shape = {6 * MIB, {{0, 2 * MIB}, {3 * MIB, 3 * MIB}}};

static gboolean run_with(Fault *fault, const VrCopyJob *job, char *digest, GError **error)
{
    const VrCopyOps ops = {faulty_read, faulty_write, faulty_flush, vr_copy_real_ops.share, give_fault, fault};
    pthread_mutex_init(&fault->lock, NULL);
    vr_copy_set_ops(&ops);
    gboolean ok = vr_copy(job, digest, error);
    vr_copy_set_ops(NULL);
    pthread_mutex_destroy(&fault->lock);
    return ok;
}

static gboolean copy_with(const TestDir *dir, Fault *fault, gboolean plain, GError **error)
{
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    vr_autofd source = make_source(dir, "source", &faulty_shape, &bytes);
    vr_autofd target = make_target(dir, "target", 0);
    const VrCopyJob job = {.source_fd = source,
                           .target_fd = target,
                           .length = faulty_shape.length,
                           .block_size = 128 * KIB,
                           .no_clone = TRUE,
                           .cancelled = fault->cancel,
                           .plain = plain};
    gboolean ok = run_with(fault, &job, digest, error);
    assert_true(ok == (*error == NULL));
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
            Fault fault = {
                .side = run & 1 ? VR_SIDE_TARGET : VR_SIDE_SOURCE, .nth = rows[i].nth, .result = rows[i].result};
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
            Fault fault = {.side = rows[i].side, .nth = rows[i].nth, .result = rows[i].result};
            assert_false(copy_with(*state, &fault, plain, &error));
            expect_error(&error, rows[i].code, rows[i].text);
        }
}

/* Every result of both sides, one after the other, in five ways. */
static void every_operation_may_fail(void **state)
{
    const int results[] = {G_MAXINT, -EINTR, -EAGAIN, -ENOSPC, -EIO};
    guint step = g_getenv("VR_FULL") && *g_getenv("VR_FULL") == '1' ? 1 : 7;
    for (guint i = 0; i < 4 * G_N_ELEMENTS(results) * 40; i += step) {
        GError *error = NULL;
        int result = results[i / 4 % G_N_ELEMENTS(results)];
        Fault fault = {.side = i & 1 ? VR_SIDE_TARGET : VR_SIDE_SOURCE,
                       .nth = (int)(i / 4 / G_N_ELEMENTS(results)),
                       .result = result};
        gboolean ok = copy_with(*state, &fault, i & 2, &error);
        assert_true(ok == (result != -ENOSPC && result != -EIO));
        if (!ok)
            expect_error(&error, result == -EIO ? VR_ERROR_IO : VR_ERROR_NO_SPACE, "at byte");
    }
}

static void a_cancel_is_heard_at_every_completion(void **state)
{
    for (int nth = 0; nth < 80; nth += 3)
        for (int plain = 0; plain < 2; plain++) {
            GError *error = NULL;
            gint cancel = 0;
            Fault fault = {.nth = nth, .cancel = &cancel};
            if (!copy_with(*state, &fault, plain, &error))
                expect_error(&error, VR_ERROR_CANCELLED, "cancelled");
            else
                assert_true(nth > 70); /* it was done already */
        }
}

static void an_endless_again_ends(void **state)
{
    for (int plain = 0; plain < 2; plain++) {
        GError *error = NULL;
        Fault fault = {.side = VR_SIDE_SOURCE, .nth = -1, .result = -EAGAIN};
        assert_false(copy_with(*state, &fault, plain, &error));
        expect_error(&error, VR_ERROR_IO, "cannot read the source");
    }
}

static void what_does_not_go_is_done_otherwise(void **state)
{
    for (int side = 0; side < 2; side++) { /* O_DIRECT and RWF_DONTCACHE are refused: through the page cache then */
        g_autoptr(GError) error = NULL;
        Fault fault = {.side = side ? VR_SIDE_TARGET : VR_SIDE_SOURCE, .nth = 0, .result = -EINVAL};
        gboolean ok = copy_with(*state, &fault, FALSE, &error);
        assert_true(ok || side == 0); /* a cached source was not read directly: there it is an error */
        Fault again = {.side = VR_SIDE_TARGET, .nth = 3, .result = -EOPNOTSUPP};
        g_clear_error(&error);
        assert_true(copy_with(*state, &again, FALSE, &error));
    }
}

static void a_failed_flush_is_told(void **state)
{
    const struct {
        int result;
        VrErrorCode code;
    } rows[] = {{-EIO, VR_ERROR_IO}, {-ENOSPC, VR_ERROR_NO_SPACE}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        for (int plain = 0; plain < 2; plain++) {
            GError *error = NULL;
            Fault fault = {.nth = 1000000, .flush = rows[i].result};
            assert_false(copy_with(*state, &fault, plain, &error));
            expect_error(&error, rows[i].code, "cannot flush the target");
        }
}

static void nothing_is_left_open(void **state)
{
    guint before = count_entries("/proc/self/fd");
    for (int i = 0; i < 20; i++) {
        g_autoptr(GError) error = NULL;
        Fault fault = {.side = VR_SIDE_TARGET, .nth = i, .result = i % 2 ? -EIO : G_MAXINT};
        (void)copy_with(*state, &fault, FALSE, &error);
    }
    assert_int_equal(count_entries("/proc/self/fd"), before);
}

/* ---- shared blocks ---- */

typedef struct {
    int refuse_at; /* which call does not go; -1: none */
    int calls, written;
} Sharer;

/* What a file system with shared blocks would do. */
static int fake_share(int source, guint64 offset, int target, guint64 at, guint64 length, void *data)
{
    Sharer *sharer = data;
    struct stat st;
    if (sharer->calls++ == sharer->refuse_at)
        return -EOPNOTSUPP;
    assert_int_equal(fstat(source, &st), 0);
    length = length ? length : (guint64)st.st_size;
    assert_true(offset + length <= (guint64)st.st_size);
    g_autofree guint8 *bytes = g_malloc(length);
    assert_int_equal(pread(source, bytes, length, (off_t)offset), (gssize)length);
    assert_int_equal(pwrite(target, bytes, length, (off_t)at), (gssize)length);
    return 0;
}

static gssize counted_write(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data)
{
    ((Sharer *)data)->written++;
    return vr_copy_real_ops.write(fd, buffer, length, offset, NULL);
}

static int counted_completion(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    ((Sharer *)data)->written += side == VR_SIDE_TARGET;
    return result;
}

static void share_with(Sharer *sharer, const VrCopyJob *job, char *digest)
{
    g_autoptr(GError) error = NULL;
    const VrCopyOps ops = {vr_copy_real_ops.read, counted_write, vr_copy_real_ops.flush, fake_share,
                           counted_completion,    sharer};
    vr_copy_set_ops(&ops);
    (void)vr_copy(job, digest, &error);
    vr_copy_set_ops(NULL);
    expect_no_error(error);
}

/* A whole file, and segments with a piece from memory and ends that are not aligned; each call refused once. */
static void shared_blocks_are_not_written(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    vr_autofd source = make_source(dir, "source", &faulty_shape, &bytes);
    const guint8 memory[4096] = {1, 2, 3};
    const VrCopySegment segments[] = {{.fd = -1, .bytes = memory, .target = 0, .length = 4096},
                                      {.fd = source, .offset = 0, .target = 4096, .length = MIB + 77},
                                      {.fd = source, .offset = 3 * MIB, .target = 2 * MIB, .length = 2 * MIB},
                                      {.fd = source, .offset = 5 * MIB, .target = 4 * MIB, .length = 3}};
    g_autofree guint8 *expected = g_malloc0(6 * MIB);
    for (gsize i = 0; i < G_N_ELEMENTS(segments); i++)
        memcpy(expected + segments[i].target, i ? bytes + segments[i].offset : memory, segments[i].length);
    for (int i = 0; i < 24; i++) {
        gboolean whole = i & 1, hashed = i & 2;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        Sharer sharer = {.refuse_at = i / 8 - 1};
        vr_autofd one = make_target(dir, "one", 0), two = make_target(dir, "two", 0);
        const int targets[] = {one, two};
        VrCopyJob job = {.source_fd = source, .targets = targets, .n_targets = 2, .length = 6 * MIB, .plain = i & 4};
        if (!whole) {
            job.segments = segments;
            job.n_segments = G_N_ELEMENTS(segments);
        }
        share_with(&sharer, &job, hashed ? digest : NULL);
        g_autofree char *sum = sha256_of(whole ? bytes : expected, 6 * MIB);
        for (int t = 0; t < 2; t++)
            expect_same(targets[t], whole ? bytes : expected, 6 * MIB, hashed ? digest : sum);
        if (sharer.refuse_at < 0)
            assert_in_range(sharer.written, whole ? 0 : 1, whole ? 0 : 8);
    }
}

static void a_copy_may_be_asked_for(void **state)
{
    TestDir *dir = *state;
    g_autofree guint8 *bytes = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    Sharer sharer = {.refuse_at = -1};
    vr_autofd source = make_source(dir, "source", &faulty_shape, &bytes);
    vr_autofd target = make_target(dir, "target", 0);
    const VrCopyJob job = {.source_fd = source, .target_fd = target, .length = 6 * MIB, .no_clone = TRUE};
    share_with(&sharer, &job, digest);
    expect_same(target, bytes, 6 * MIB, digest);
    assert_int_equal(sharer.calls, 0);
}

/* ---- packed clusters ---- */

static gboolean unpack_with(const TestDir *dir, const char *name, Fault *fault, gboolean plain, GError **error)
{
    const VrCopyOps ops = {faulty_read, faulty_write, faulty_flush, vr_copy_real_ops.share, give_fault, fault};
    vr_autofd source = vr_open_beneath(dir->fd, name, O_RDONLY, 0, NULL);
    vr_autofd target = make_target(dir, "target", 0);
    const VrConvertLink link = {source, VR_FORMAT_QCOW2};
    const VrConvertJob job = {
        .links = &link,
        .n_links = 1,
        .format = VR_FORMAT_RAW,
        .copy = {.target_fd = target, .block_size = 128 * KIB, .plain = plain, .cancelled = fault->cancel}};
    pthread_mutex_init(&fault->lock, NULL);
    vr_copy_set_ops(&ops);
    gboolean ok = vr_convert(&job, NULL, NULL, error);
    vr_copy_set_ops(NULL);
    pthread_mutex_destroy(&fault->lock);
    return ok;
}

static void faults_in_packed_clusters_are_told(void **state)
{
    TestDir *dir = *state;
    g_autofree char *raw = in_dir(dir, "raw"), *packed = in_dir(dir, "packed");
    g_autofree char *text = g_strnfill(4 * MIB, 'x');
    for (gsize i = 0; i < 4 * MIB; i += 37)
        text[i] = (char)('a' + i / 37 % 26);
    put_file(dir, "raw", text, 4 * MIB);
    tool("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, packed);
    g_autofree char *result = in_dir(dir, "target-0");
    for (int nth = 0; nth < 30; nth++)
        for (int run = 0; run < 8; run++) {
            const int results[] = {G_MAXINT, -EINTR, -EIO, 0};
            g_autoptr(GError) error = NULL;
            gint cancel = 0;
            Fault fault = {.nth = nth, .result = results[run / 2], .cancel = run == 7 ? &cancel : NULL};
            if (unpack_with(dir, "packed", &fault, run & 1, &error))
                tool("cmp", raw, result);
            else
                assert_true(error->domain == VR_ERROR &&
                            (error->code == VR_ERROR_IO || error->code == VR_ERROR_INVALID ||
                             error->code == VR_ERROR_CANCELLED));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(short_and_interrupted_requests_go_on),
        dir_test(errors_name_their_side),
        dir_test(every_operation_may_fail),
        dir_test(a_cancel_is_heard_at_every_completion),
        dir_test(an_endless_again_ends),
        dir_test(what_does_not_go_is_done_otherwise),
        dir_test(a_failed_flush_is_told),
        dir_test(nothing_is_left_open),
        dir_test(shared_blocks_are_not_written),
        dir_test(a_copy_may_be_asked_for),
        dir_test(faults_in_packed_clusters_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
