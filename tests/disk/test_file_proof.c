/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is read of a disk and of the files behind it. */
#include "disk/images.h"

#include "disk/block_identity.h"
#include "disk/file_proof.h"

#include <sys/sysmacros.h>

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

/* ---- the lasting name of a block device ---- */

static void put_attribute(const TestDir *dir, const char *path, const char *text)
{
    g_autofree char *full = in_dir(dir, path);
    g_autofree char *parent = g_path_get_dirname(full);
    assert_int_equal(g_mkdir_with_parents(parent, 0700), 0);
    assert_true(g_file_set_contents(full, text, -1, NULL));
}

static void expect_identity(const TestDir *dir, guint number, const char *expected)
{
    g_autofree char *identity = vr_block_identity(dir->path, makedev(8, number));
    if (g_strcmp0(identity, expected) != 0)
        fail_msg("8:%u is \"%s\"", number, identity ? identity : "(none)");
}

/* A tree as that of sysfs: the places of the numbers are links. */
static void lasting_names(void **state)
{
    static const struct {
        const char *file, *text, *identity;
    } rows[] = {
        {"wwid", "naa.5000c50015ea71aa\n", "wwid naa.5000c50015ea71aa"},
        {"device/wwid", "t10.ATA     QEMU HARDDISK\n", "device/wwid t10.ATA     QEMU HARDDISK"},
        {"serial", "DATA01", "serial DATA01"},
        {"device/serial", "S3Z9\n", "device/serial S3Z9"},
        {"dm/uuid", "LVM-abc\n", "dm/uuid LVM-abc"},
        {"md/uuid", "1-2-3-4\n", "md/uuid 1-2-3-4"},
        {"loop/backing_file", "/srv/a.img\n", "loop /srv/a.img at 0"},
        {"dm/uuid", "\n", NULL},
        {"serial", "a\033b\n", "serial a?b"},
        {"size", "7\n", NULL},
    };
    TestDir *dir = *state;
    g_autofree char *numbers = in_dir(dir, "dev/block");
    assert_int_equal(g_mkdir_with_parents(numbers, 0700), 0);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *file = g_strdup_printf("devices/d%u/%s", i, rows[i].file);
        g_autofree char *part = g_strdup_printf("devices/d%u/d%u1/partition", i, i);
        g_autofree char *link = g_strdup_printf("%s/8:%u", numbers, i * 16);
        g_autofree char *target = g_strdup_printf("../../devices/d%u", i);
        g_autofree char *part_link = g_strdup_printf("%s/8:%u", numbers, i * 16 + 1);
        g_autofree char *part_target = g_strdup_printf("../../devices/d%u/d%u1", i, i);
        g_autofree char *of_part = rows[i].identity ? g_strconcat(rows[i].identity, " partition 1", NULL) : NULL;
        put_attribute(dir, file, rows[i].text);
        put_attribute(dir, part, "1\n");
        assert_int_equal(symlink(target, link), 0);
        assert_int_equal(symlink(part_target, part_link), 0);
        expect_identity(dir, i * 16, rows[i].identity);
        expect_identity(dir, i * 16 + 1, of_part);
    }
    put_attribute(dir, "devices/d0/dm/uuid", "mpath-1\n"); /* what lies on top says more */
    put_attribute(dir, "devices/d6/loop/offset", "512\n");
    expect_identity(dir, 0, "dm/uuid mpath-1");
    expect_identity(dir, 6 * 16, "loop /srv/a.img at 512");
    expect_identity(dir, 255, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_chain_is_followed_by_what_its_headers_say),
        dir_test(a_raw_disk_has_nothing_behind_it),
        dir_test(what_is_not_local_is_a_name),
        dir_test(a_gone_or_broken_link_is_named),
        dir_test(samples),
        dir_test(lasting_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
