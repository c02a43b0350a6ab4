/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A9: minisign signatures, made here with OpenSSL and, where it is installed, with minisign itself. */
#include "disk/stores.h"

#include "disk/signature.h"

#include <openssl/evp.h>

#define MIB (1024 * 1024)

typedef struct {
    EVP_PKEY *pair;
    guint8 id[8], public_key[32];
} Key;

static Key *new_key(guint8 seed)
{
    Key *key = g_new0(Key, 1);
    guint8 secret[32];
    gsize length = 32;
    memset(secret, seed, sizeof secret);
    memset(key->id, seed, sizeof key->id);
    key->pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof secret);
    assert_int_equal(EVP_PKEY_get_raw_public_key(key->pair, key->public_key, &length), 1);
    return key;
}

static void key_free(Key *key)
{
    EVP_PKEY_free(key->pair);
    g_free(key);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Key, key_free)

static void sign(const Key *key, const void *data, gsize length, guint8 value[64])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t size = 64;
    assert_int_equal(EVP_DigestSignInit(context, NULL, NULL, NULL, key->pair), 1);
    assert_int_equal(EVP_DigestSign(context, value, &size, data, length), 1);
    EVP_MD_CTX_free(context);
}

/* What minisign writes for the bytes. */
static char *signature_of(const Key *key, const void *data, gsize length, gboolean prehashed, const char *comment)
{
    guint8 bytes[74], global[64], sum[64];
    g_autofree guint8 *both = g_malloc(64 + strlen(comment));
    memcpy(bytes, prehashed ? "ED" : "Ed", 2);
    memcpy(bytes + 2, key->id, 8);
    if (prehashed)
        assert_int_equal(EVP_Digest(data, length, sum, NULL, EVP_blake2b512(), NULL), 1);
    sign(key, prehashed ? sum : data, prehashed ? sizeof sum : length, bytes + 10);
    memcpy(both, bytes + 10, 64);
    memcpy(both + 64, comment, strlen(comment));
    sign(key, both, 64 + strlen(comment), global);
    g_autofree char *first = g_base64_encode(bytes, sizeof bytes);
    g_autofree char *second = g_base64_encode(global, sizeof global);
    return g_strdup_printf("untrusted comment: x\n%s\ntrusted comment: %s\n%s\n", first, comment, second);
}

static void put_key(const TestDir *dir, const Key *key, const char *name)
{
    guint8 bytes[42];
    memcpy(bytes, "Ed", 2);
    memcpy(bytes + 2, key->id, 8);
    memcpy(bytes + 10, key->public_key, 32);
    g_autofree char *encoded = g_base64_encode(bytes, sizeof bytes);
    g_autofree char *text = g_strdup_printf("untrusted comment: minisign public key\n%s\n", encoded);
    put_file(dir, name, text, strlen(text));
    g_autofree char *path = in_dir(dir, name);
    assert_int_equal(chmod(path, 0644), 0);
}

/* a.raw, key 1 in keys/, its signature in a.sig. */
static Key *make_world(const TestDir *dir, gboolean prehashed)
{
    Key *key = new_key(1);
    g_autofree char *keys = in_dir(dir, "keys");
    g_autofree char *path = in_dir(dir, "a.raw");
    g_autofree char *bytes = NULL;
    gsize length;
    make_raw(dir, "a.raw", MIB, 1);
    assert_int_equal(mkdir(keys, 0755), 0);
    put_key(dir, key, "keys/admin.pub");
    assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    g_autofree char *text = signature_of(key, bytes, length, prehashed, "timestamp:1\tfile:a.raw");
    put_file(dir, "a.sig", text, strlen(text));
    return key;
}

static VrImage *publish_signed(const TestDir *dir, VrStore *store, const char *version, const char *source,
                               const char *signature, GError **error)
{
    g_autofree char *file = in_dir(dir, source);
    g_autofree char *keys = in_dir(dir, "keys");
    g_autofree char *path = signature ? in_dir(dir, signature) : NULL;
    VrImage *image = NULL;
    const VrPublication publication = {.name = "a", .version = version, .file = file, .signature = path, .keys = keys};
    vr_store_publish(store, &publication, &image, NULL, error);
    return image;
}

static void refused(const TestDir *dir, VrStore *store, const char *source, const char *signature, int code,
                    const char *text)
{
    GError *error = NULL;
    assert_null(publish_signed(dir, store, "9", source, signature, &error));
    expect_error(&error, code, text);
    assert_false(is_there(dir, "root/images/a/9"));
}

static void a_signed_version_says_by_whom(void **state)
{
    TestDir *dir = *state;
    for (int prehashed = 0; prehashed < 2; prehashed++) {
        GError *error = NULL;
        g_autofree char *version = g_strdup_printf("%d", prehashed + 1);
        tool("rm", "-rf", dir->path);
        assert_int_equal(mkdir(dir->path, 0711), 0);
        vr_fd_clear(&dir->fd);
        dir->fd = vr_dir_open(dir->path, NULL);
        g_autoptr(Key) key = make_world(dir, prehashed);
        g_autoptr(VrStore) store = open_store(dir);
        g_autoptr(VrImage) image = publish_signed(dir, store, version, "a.raw", "a.sig", &error);
        expect_no_error(error);
        assert_string_equal(image->signature_key, "0101010101010101");
        assert_string_equal(image->signed_comment, "timestamp:1\tfile:a.raw");
        g_autoptr(VrImage) again = vr_store_get(store, "a", version, &error);
        assert_string_equal(again->signature_key, "0101010101010101");
        g_autofree char *before = listing(dir);
        g_autoptr(VrImage) twice = publish_signed(dir, store, version, "a.raw", "a.sig", &error);
        assert_non_null(twice);
        g_autofree char *after = listing(dir);
        assert_string_equal(before, after);
    }
}

static void other_bytes_are_refused(void **state)
{
    TestDir *dir = *state;
    g_autoptr(Key) key = make_world(dir, TRUE);
    g_autoptr(VrStore) store = open_store(dir);
    make_raw(dir, "b.raw", MIB, 2);
    refused(dir, store, "b.raw", "a.sig", VR_ERROR_REFUSED, "other bytes were signed");
    assert_false(is_there(dir, "root/images/a"));
    refused(dir, store, "a.raw", "none.sig", VR_ERROR_NOT_FOUND, "none.sig");
    /* of an existing version too */
    GError *error = NULL;
    g_autoptr(VrImage) image = publish_signed(dir, store, "1", "a.raw", NULL, &error);
    expect_no_error(error);
    assert_null(image->signature_key);
    g_autofree char *bad = signature_of(key, "x", 1, TRUE, "t");
    put_file(dir, "bad.sig", bad, strlen(bad));
    assert_null(publish_signed(dir, store, "1", "a.raw", "bad.sig", &error));
    expect_error(&error, VR_ERROR_REFUSED, "other bytes were signed");
}

static void only_keys_of_the_directory_count(void **state)
{
    TestDir *dir = *state;
    g_autoptr(Key) key = make_world(dir, TRUE);
    g_autoptr(Key) other = new_key(2);
    g_autoptr(Key) twin = new_key(3);
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *admin = in_dir(dir, "keys/admin.pub");
    put_key(dir, other, "keys/other.pub");
    put_file(dir, "keys/README", "no key", 6);
    assert_int_equal(unlink(admin), 0);
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_REFUSED, "there are: 0202020202020202");
    memcpy(twin->id, key->id, sizeof twin->id); /* says that it is key 1 */
    put_key(dir, twin, "keys/admin.pub");
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_REFUSED, "other bytes were signed");
    put_key(dir, key, "keys/second.pub");
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_REFUSED, "two different keys");
}

static void what_others_can_write_is_not_trusted(void **state)
{
    TestDir *dir = *state;
    g_autoptr(Key) key = make_world(dir, TRUE);
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *keys = in_dir(dir, "keys");
    g_autofree char *admin = in_dir(dir, "keys/admin.pub");
    g_autofree char *link = in_dir(dir, "keys/link.pub");
    assert_int_equal(chmod(keys, 0775), 0);
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_REFUSED, "chmod go-w");
    refused(dir, store, "a.raw", NULL, VR_ERROR_REFUSED, "chmod go-w"); /* nor is what it demands */
    assert_int_equal(chmod(keys, 0755), 0);
    assert_int_equal(chmod(admin, 0646), 0);
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_REFUSED, "chmod go-w");
    assert_int_equal(chmod(admin, 0644), 0);
    assert_int_equal(chown(admin, 65534, 0), 0);
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_REFUSED, "belongs to user 65534");
    assert_int_equal(chown(admin, 0, 0), 0);
    assert_int_equal(symlink(admin, link), 0);
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_IO, "link.pub");
    assert_int_equal(unlink(link), 0);
    put_file(dir, "keys/bad.pub", "untrusted comment: x\nRWQ=\n", 26);
    refused(dir, store, "a.raw", "a.sig", VR_ERROR_INVALID, "no minisign public key");
}

static void the_directory_may_want_signatures(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autoptr(Key) key = make_world(dir, TRUE);
    g_autoptr(VrStore) store = open_store(dir);
    put_file(dir, "keys/REQUIRED", "", 0);
    refused(dir, store, "a.raw", NULL, VR_ERROR_REFUSED, "wants every version to be signed");
    g_autoptr(VrImage) image = publish_signed(dir, store, "1", "a.raw", "a.sig", &error);
    expect_no_error(error);
    assert_non_null(image);
}

/* Each text is a signature file with one thing wrong. */
static void a_signature_file_that_is_none(void **state)
{
    g_autoptr(Key) key = new_key(1);
    g_autofree char *good = signature_of(key, "data", 4, TRUE, "t");
    g_auto(GStrv) lines = g_strsplit(good, "\n", -1);
    g_autofree char *three = g_strdup_printf("%s\n%s\n%s\n", lines[0], lines[1], lines[2]);
    g_autofree char *no_comment = g_strdup_printf("x\n%s\n%s\n%s\n", lines[1], lines[2], lines[3]);
    g_autofree char *no_trusted = g_strdup_printf("%s\n%s\nx\n%s\n", lines[0], lines[1], lines[3]);
    g_autofree char *bad_base = g_strdup_printf("%s\n!%s\n%s\n%s\n", lines[0], lines[1], lines[2], lines[3]);
    g_autofree char *bad_global = g_strdup_printf("%s\n%s\n%s\n%s\n", lines[0], lines[1], lines[2], lines[1]);
    g_autofree char *algorithm = g_strdup_printf("%s\nXX%s\n%s\n%s\n", lines[0], lines[1] + 2, lines[2], lines[3]);
    g_autofree char *more = g_strdup_printf("%smore\n", good);
    const struct {
        const char *text, *reason;
    } rows[] = {{"", "four lines"},
                {three, "four lines"},
                {more, "four lines"},
                {no_comment, "untrusted comment"},
                {bad_base, "no signature in base64"},
                {algorithm, "not Ed25519"},
                {no_trusted, "no trusted comment"},
                {bad_global, "fourth line"},
                {"-----BEGIN PGP SIGNATURE-----\n", "PGP, which is not supported"}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        assert_null(vr_signature_parse(rows[i].text, "f", &error));
        expect_error(&error, VR_ERROR_INVALID, rows[i].reason);
    }
}

static void the_trusted_comment_is_signed(void **state)
{
    GError *error = NULL;
    g_autoptr(Key) key = new_key(1);
    g_autofree char *good = signature_of(key, "data", 4, FALSE, "version 1");
    g_auto(GStrv) parts = g_strsplit(good, "version 1", 2);
    g_autofree char *changed = g_strjoinv("version 2", parts);
    g_autoptr(VrSignature) one = vr_signature_parse(good, "f", &error);
    g_autoptr(VrSignature) two = vr_signature_parse(changed, "f", &error);
    assert_true(vr_signature_verify(one, key->public_key, "data", 4, "o", &error));
    assert_false(vr_signature_verify(one, key->public_key, "dat", 3, "o", &error));
    expect_error(&error, VR_ERROR_REFUSED, "other bytes");
    assert_false(vr_signature_verify(two, key->public_key, "data", 4, "o", &error));
    expect_error(&error, VR_ERROR_REFUSED, "trusted comment");
    g_auto(GStrv) lines = g_strsplit(good, "\n", -1);
    g_autofree char *crlf = g_strjoinv("\r\n", lines);
    g_autoptr(VrSignature) three = vr_signature_parse(crlf, "f", &error);
    expect_no_error(error);
    assert_true(vr_signature_verify(three, key->public_key, "data", 4, "o", &error));
}

static void minisign_and_we_agree(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    g_autofree char *minisign = g_find_program_in_path("minisign");
    if (!minisign)
        skip();
    make_raw(dir, "a.raw", MIB, 1);
    g_autoptr(VrStore) store = open_store(dir);
    g_autofree char *keys = in_dir(dir, "keys");
    g_autofree char *public_key = in_dir(dir, "keys/k.pub");
    g_autofree char *secret = in_dir(dir, "k.key");
    g_autofree char *file = in_dir(dir, "a.raw");
    g_autofree char *new_form = in_dir(dir, "new.sig");
    g_autofree char *old_form = in_dir(dir, "old.sig");
    assert_int_equal(mkdir(keys, 0755), 0);
    tool("minisign", "-G", "-W", "-f", "-p", public_key, "-s", secret);
    tool("minisign", "-S", "-W", "-s", secret, "-m", file, "-x", new_form, "-t", "image 1");
    tool("minisign", "-S", "-W", "-l", "-s", secret, "-m", file, "-x", old_form);
    g_autofree char *key_text = content_of(dir, "keys/k.pub");
    g_autoptr(VrImage) first = publish_signed(dir, store, "1", "a.raw", "new.sig", &error);
    expect_no_error(error);
    assert_string_equal(first->signed_comment, "image 1");
    const char *id = first->signature_key + strspn(first->signature_key, "0");
    assert_non_null(strstr(key_text, id)); /* as minisign shows it, but for zeros in front: those it leaves out */
    g_autoptr(VrImage) second = publish_signed(dir, store, "2", "a.raw", "old.sig", &error);
    expect_no_error(error);
    assert_string_equal(second->signature_key, first->signature_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(a_signed_version_says_by_whom),         dir_test(other_bytes_are_refused),
        dir_test(only_keys_of_the_directory_count),      dir_test(what_others_can_write_is_not_trusted),
        dir_test(the_directory_may_want_signatures),     cmocka_unit_test(a_signature_file_that_is_none),
        cmocka_unit_test(the_trusted_comment_is_signed), dir_test(minisign_and_we_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
