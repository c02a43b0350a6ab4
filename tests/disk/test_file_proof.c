/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read of a disk and of the files behind it. */
#include "disk/images.h"

#include "disk/file_proof.h"

#define MIB (1024 * 1024)

static const VrFileProof *at(const GPtrArray *proofs, guint i)
{
    assert_true(i < proofs->len);
    return g_ptr_array_index(proofs, i);
}

static void a_chain_is_followed_by_what_its_headers_say(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *base = in_dir(dir, "base.raw");
    g_autofree char *middle = in_dir(dir, "middle.qcow2");
    g_autofree char *top = in_dir(dir, "top.qcow2");
    make_raw(dir, "base.raw", MIB, 1);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "-F", "raw", "-b", "base.raw", middle);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "-F", "qcow2", "-b", middle, top);
    g_autoptr(GPtrArray) proofs = vr_file_proof_read(top, "qcow2", VR_PROOF_WHOLE, &error);
    expect_no_error(error);
    assert_int_equal(proofs->len, 3);
    assert_string_equal(at(proofs, 0)->path, top);
    assert_string_equal(at(proofs, 1)->path, middle);
    assert_string_equal(at(proofs, 2)->path, base);
    assert_int_equal(at(proofs, 2)->file.size, MIB);
    g_autofree char *bytes = NULL;
    gsize length;
    assert_true(g_file_get_contents(base, &bytes, &length, NULL));
    g_autofree char *whole = sha256_of(bytes, length);
    g_autofree char *head = sha256_of(bytes, 65536);
    assert_string_equal(at(proofs, 2)->content, whole);
    assert_string_equal(at(proofs, 2)->head, head);
    /* the first cluster, whatever its size: 512 bytes of the top */
    g_autofree char *of_top = NULL;
    assert_true(g_file_get_contents(top, &of_top, NULL, NULL));
    g_autofree char *cluster = sha256_of(of_top, 512);
    assert_string_equal(at(proofs, 0)->head, cluster);
}

/* A raw disk is the guest's: what it writes at its start is no header (no probing). */
static void a_raw_disk_has_nothing_behind_it(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *secret = in_dir(dir, "secret");
    g_autofree char *top = in_dir(dir, "top.qcow2");
    make_raw(dir, "secret", MIB, 1);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, top);
    g_autoptr(GPtrArray) as_raw = vr_file_proof_read(top, "raw", VR_PROOF_NONE, &error);
    assert_int_equal(as_raw->len, 1);
    g_autoptr(GPtrArray) unsaid = vr_file_proof_read(top, NULL, VR_PROOF_NONE, &error);
    assert_int_equal(unsaid->len, 1);
}

static void what_is_not_local_is_a_name(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *top = in_dir(dir, "top.qcow2");
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "nbd://localhost/x", top, "1M");
    g_autoptr(GPtrArray) proofs = vr_file_proof_read(top, "qcow2", VR_PROOF_NONE, &error);
    expect_no_error(error);
    assert_int_equal(proofs->len, 2);
    assert_string_equal(at(proofs, 1)->path, "nbd://localhost/x");
    assert_false(at(proofs, 1)->is_local);
}

static void a_gone_or_broken_link_is_named(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *base = in_dir(dir, "base.raw");
    g_autofree char *top = in_dir(dir, "top.qcow2");
    make_raw(dir, "base.raw", MIB, 1);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, top);
    assert_int_equal(unlink(base), 0);
    assert_null(vr_file_proof_read(top, "qcow2", VR_PROOF_NONE, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "base.raw");
    make_raw(dir, "top.qcow2", MIB, 1);
    assert_null(vr_file_proof_read(top, "qcow2", VR_PROOF_NONE, &error));
    expect_error(&error, VR_ERROR_INVALID, "has no qcow2 header");
}

/* Samples reach the last byte, and a file that is smaller than all of them is hashed from end to end. */
static void samples(void **state)
{
    static const guint64 sizes[] = {0, 1, 65536, 4 * MIB, 4 * MIB + 1, 40 * MIB};
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *path = in_dir(dir, "a.raw");
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        make_raw(dir, "a.raw", sizes[i], 1);
        g_autoptr(GPtrArray) before = vr_file_proof_read(path, "raw", VR_PROOF_SAMPLED, &error);
        expect_no_error(error);
        assert_int_equal(vr_file_proof_bytes(at(before, 0), VR_PROOF_SAMPLED), MIN(sizes[i], 4 * MIB));
        if (sizes[i] == 0)
            continue;
        vr_autofd fd = vr_open_beneath(dir->fd, "a.raw", O_RDWR, 0, NULL);
        guint8 byte;
        assert_int_equal(pread(fd, &byte, 1, (off_t)sizes[i] - 1), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)sizes[i] - 1), 1);
        g_autoptr(GPtrArray) after = vr_file_proof_read(path, "raw", VR_PROOF_SAMPLED, &error);
        assert_string_not_equal(at(before, 0)->content, at(after, 0)->content);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_chain_is_followed_by_what_its_headers_say),
        dir_test(a_raw_disk_has_nothing_behind_it),
        dir_test(what_is_not_local_is_a_name),
        dir_test(a_gone_or_broken_link_is_named),
        dir_test(samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
