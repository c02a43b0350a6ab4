/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A9: digests that were published beside an image. */
#include "disk/stores.h"

#include "disk/sums.h"

#define HEX_A "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEX_B "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define UPPER "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"
#define SHA1 "da39a3ee5e6b4b0d3255bfef95601890afd80709"

static void every_form_is_read(void **state)
{
    const char *rows[] = {
        HEX_A "  a.qcow2\n",
        HEX_A " *a.qcow2\n",
        HEX_A "  a.qcow2",
        UPPER "  a.qcow2\r\n",
        HEX_A "  ./images/a.qcow2\n",
        "SHA256 (a.qcow2) = " HEX_A "\n",
        "SHA256 (/pub/a.qcow2) = " UPPER "\n",
        "# a comment\n\n" HEX_B "  b.qcow2\n" HEX_A "  a.qcow2\n" HEX_B "  a.qcow2.sig\n",
        HEX_A "  a.qcow2\n" HEX_A " *dir/a.qcow2\n", /* twice the same */
        SHA1 "  a.qcow2\n" HEX_A "  a.qcow2\n",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        assert_true(vr_sums_find(rows[i], "SUMS", "a.qcow2", digest, &error));
        expect_no_error(error);
        assert_string_equal(digest, HEX_A);
    }
}

static void what_does_not_say_it_is_refused(void **state)
{
    const struct {
        const char *text, *reason;
    } rows[] = {
        {"", "no SHA-256 digest for a.qcow2"},
        {HEX_A "\n", "no SHA-256 digest"},
        {HEX_A " a.qcow2\n", "no SHA-256 digest"},
        {HEX_A "0  a.qcow2\n", "no SHA-256 digest"},
        {HEX_A "  a.qcow\n", "no SHA-256 digest"},
        {HEX_A "  xa.qcow2\n", "no SHA-256 digest"},
        {HEX_A "  \n", "no SHA-256 digest"},
        {SHA1 "  a.qcow2\n", "no SHA-256 digest"},
        {"SHA1 (a.qcow2) = " SHA1 "\n", "no SHA-256 digest"},
        {"SHA256 (a.qcow2) = " SHA1 "\n", "no SHA-256 digest"},
        {"SHA256 (a.qcow2) " HEX_A "\n", "no SHA-256 digest"},
        {HEX_A "  a.qcow2\n" HEX_B "  x/a.qcow2\n", "two different digests"},
        {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" HEX_A "  a.qcow2\n", "PGP-clearsigned"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        char digest[VR_DIGEST_HEX_LENGTH + 1];
        if (vr_sums_find(rows[i].text, "SUMS", "a.qcow2", digest, &error))
            fail_msg("accepted: %s", rows[i].text);
        expect_error(&error, VR_ERROR_REFUSED, rows[i].reason);
    }
}

static void a_file_that_is_none(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1];
    g_autofree char *path = in_dir(dir, "SUMS");
    g_autofree char *huge = g_strnfill(1024 * 1024 + 1, 'x');
    assert_false(vr_sums_read(path, "a", digest, &error));
    expect_error(&error, VR_ERROR_NOT_FOUND, "SUMS");
    put_file(dir, "SUMS", "a\0b", 3);
    assert_false(vr_sums_read(path, "a", digest, &error));
    expect_error(&error, VR_ERROR_INVALID, "no text file");
    put_file(dir, "SUMS", huge, 1024 * 1024 + 1);
    assert_false(vr_sums_read(path, "a", digest, &error));
    expect_error(&error, VR_ERROR_INVALID, "larger than");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(vr_sums_read(path, "a", digest, &error));
    expect_error(&error, VR_ERROR_INVALID, "no regular file");
}

static void a_publication_is_held_to_its_line(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    make_raw(dir, "a.raw", 1024 * 1024, 1);
    make_raw(dir, "b.raw", 1024 * 1024, 2);
    g_autofree char *a = digest_of_file(dir, "a.raw");
    g_autofree char *lines = g_strdup_printf("%s  a.raw\n%s *b.raw\n", a + 7, a + 7);
    g_autofree char *at = g_strconcat("@", dir->path, "/SUMS", NULL);
    put_file(dir, "SUMS", lines, strlen(lines));
    g_autoptr(VrStore) store = open_store(dir);
    assert_true(publish(dir, store, "a", "1", "a.raw", at, NULL, &error));
    assert_false(publish(dir, store, "a", "2", "b.raw", at, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "another digest");
    assert_false(is_there(dir, "root/images/a/2"));
    make_raw(dir, "c.raw", 1024 * 1024, 2);
    assert_false(publish(dir, store, "c", "2", "c.raw", at, NULL, &error));
    expect_error(&error, VR_ERROR_REFUSED, "no SHA-256 digest for c.raw");
    assert_false(is_there(dir, "root/images/c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_read),
        cmocka_unit_test(what_does_not_say_it_is_refused),
        dir_test(a_file_that_is_none),
        dir_test(a_publication_is_held_to_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
