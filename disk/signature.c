/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/signature.h"

#include "base/error.h"
#include "base/fd.h"
#include "disk/small_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES (64 * 1024)
#define UNTRUSTED "untrusted comment: "
#define TRUSTED "trusted comment: "
#define REQUIRED "REQUIRED"
#define ID_BYTES 8
#define KEY_BYTES (2 + ID_BYTES + 32)
#define SIGNATURE_BYTES (2 + ID_BYTES + 64)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)

/* ---- the format ---- */

void vr_signature_free(VrSignature *signature)
{
    if (!signature)
        return;
    g_free(signature->trusted_comment);
    g_free(signature);
}

/* A little-endian number, shown as one. */
static void show_id(const guint8 id[ID_BYTES], char text[VR_KEY_ID_LENGTH + 1])
{
    guint64 number = 0;
    for (int i = ID_BYTES - 1; i >= 0; i--)
        number = number << 8 | id[i];
    g_snprintf(text, VR_KEY_ID_LENGTH + 1, "%016" G_GINT64_MODIFIER "X", number);
}

/* A line of base64 that holds exactly `length` bytes and is spelled as an encoder spells it. */
static gboolean decode(const char *line, guint8 *bytes, gsize length)
{
    gsize got = 0;
    g_autofree guint8 *raw = g_base64_decode(line, &got);
    g_autofree char *again = got == length ? g_base64_encode(raw, got) : NULL;
    if (!again || strcmp(again, line) != 0)
        return FALSE;
    memcpy(bytes, raw, length);
    return TRUE;
}

/* The lines without their ends and without empty ones at the end. */
static char **split(const char *text)
{
    char **lines = g_strsplit(text, "\n", -1);
    guint n = g_strv_length(lines);
    for (guint i = 0; i < n; i++) {
        gsize length = strlen(lines[i]);
        if (length > 0 && lines[i][length - 1] == '\r')
            lines[i][length - 1] = '\0';
    }
    while (n > 0 && *lines[n - 1] == '\0')
        g_clear_pointer(&lines[--n], g_free);
    return lines;
}

static const char *fill_signature(char **lines, VrSignature *signature)
{
    guint8 bytes[SIGNATURE_BYTES];
    if (g_strv_length(lines) != 4 || !g_str_has_prefix(lines[0], UNTRUSTED))
        return "it needs four lines, the first an untrusted comment";
    if (!decode(lines[1], bytes, sizeof bytes))
        return "its second line is no signature in base64";
    if (memcmp(bytes, "ED", 2) != 0 && memcmp(bytes, "Ed", 2) != 0)
        return "its algorithm is not Ed25519";
    if (!g_str_has_prefix(lines[2], TRUSTED))
        return "its third line is no trusted comment";
    if (!decode(lines[3], signature->global, sizeof signature->global))
        return "its fourth line is no signature in base64";
    signature->prehashed = bytes[1] == 'D';
    show_id(bytes + 2, signature->key_id);
    memcpy(signature->value, bytes + 2 + ID_BYTES, sizeof signature->value);
    signature->trusted_comment = g_strdup(lines[2] + strlen(TRUSTED));
    return g_utf8_validate(signature->trusted_comment, -1, NULL) ? NULL : "its trusted comment is not UTF-8";
}

VrSignature *vr_signature_parse(const char *text, const char *file, GError **error)
{
    g_autoptr(VrSignature) signature = g_new0(VrSignature, 1);
    g_auto(GStrv) lines = split(text);
    const char *wrong = g_str_has_prefix(text, "-----BEGIN PGP") ? "it is of PGP, which is not supported"
                                                                 : fill_signature(lines, signature);
    if (!wrong)
        return g_steal_pointer(&signature);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is no minisign signature: %s", file, wrong);
    return NULL;
}

VrSignature *vr_signature_read(const char *path, GError **error)
{
    g_autofree char *text = vr_small_file_open(path, MAX_BYTES, error);
    return text ? vr_signature_parse(text, path, error) : NULL;
}

/* ---- keys ---- */

/* What decides whom we trust must be the admin's own. */
static gboolean check_owner(int fd, const char *path, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", path);
        return FALSE;
    }
    if (st.st_uid != 0 && st.st_uid != geteuid())
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s decides whom to trust and belongs to user %u: chown root %s",
                    path, st.st_uid, path);
    else if (st.st_mode & 0022)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s decides whom to trust and can be written by others: chmod go-w %s", path, path);
    else
        return TRUE;
    return FALSE;
}

/* -1 with an error, or without one when the default directory is not there. */
static int open_keys(const char *dir, GError **error)
{
    const char *path = dir ? dir : VR_KEYS_DIR;
    vr_autofd fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !dir)
        return -1;
    if (fd < 0) {
        vr_set_error_errno(error, errno, "cannot open the directory of keys %s", path);
        return -1;
    }
    return check_owner(fd, path, error) ? vr_fd_steal(&fd) : -1;
}

static gboolean has_required(int fd)
{
    struct stat st;
    return fstatat(fd, REQUIRED, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The host's own policy is not left by naming another directory. */
static gboolean check_default(const char *dir, GError **error)
{
    struct stat st;
    g_autofree char *asked = g_canonicalize_filename(dir, NULL);
    if (strcmp(asked, VR_KEYS_DIR) == 0 || stat(VR_KEYS_DIR "/" REQUIRED, &st) < 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                VR_KEYS_DIR "/" REQUIRED " wants signatures by the keys beside it: leave --keys out");
    return FALSE;
}

gboolean vr_keys_required(const char *dir, gboolean *required, GError **error)
{
    GError *local = NULL;
    *required = FALSE;
    if (dir && !check_default(dir, error))
        return FALSE;
    vr_autofd fd = open_keys(dir, &local);
    if (fd >= 0)
        *required = has_required(fd);
    if (local)
        g_propagate_error(error, local);
    return local == NULL;
}

static gboolean parse_key(const char *text, const char *path, char id[VR_KEY_ID_LENGTH + 1], guint8 key[32],
                          GError **error)
{
    guint8 bytes[KEY_BYTES];
    g_auto(GStrv) lines = split(text);
    if (g_strv_length(lines) == 2 && g_str_has_prefix(lines[0], UNTRUSTED) && decode(lines[1], bytes, sizeof bytes) &&
        memcmp(bytes, "Ed", 2) == 0) {
        show_id(bytes + 2, id);
        memcpy(key, bytes + 2 + ID_BYTES, 32);
        return TRUE;
    }
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is no minisign public key", path);
    return FALSE;
}

static gboolean read_key(int dir_fd, const char *dir, const char *name, char id[VR_KEY_ID_LENGTH + 1], guint8 key[32],
                         GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    vr_autofd fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        vr_set_error_errno(error, errno, "cannot open the key %s", path);
        return FALSE;
    }
    g_autofree char *text = check_owner(fd, path, error) ? vr_small_file_read(fd, path, MAX_BYTES, error) : NULL;
    return text && parse_key(text, path, id, key, error);
}

/* Looks at every key: *count are of this id and the same, `known` lists the ids of all. */
static gboolean look_for(int dir_fd, const char *dir, const char *id, guint8 key[32], guint *count, GString *known,
                         GError **error)
{
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", dir_fd);
    g_autoptr(GError) local = NULL;
    g_autoptr(GDir) names = g_dir_open(same, 0, &local);
    if (!names)
        g_set_error(error, VR_ERROR, VR_ERROR_IO, "cannot list %s: %s", dir, local->message);
    for (const char *name; names && (name = g_dir_read_name(names));) {
        char found[VR_KEY_ID_LENGTH + 1];
        guint8 one[32];
        if (!g_str_has_suffix(name, ".pub"))
            continue;
        if (!read_key(dir_fd, dir, name, found, one, error))
            return FALSE;
        g_string_append_printf(known, "%s%s", known->len ? ", " : "", found);
        if (strcmp(found, id) != 0)
            continue;
        if ((*count)++ && memcmp(one, key, sizeof one) != 0) {
            g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s holds two different keys with the id %s", dir, id);
            return FALSE;
        }
        memcpy(key, one, sizeof one);
    }
    return names != NULL;
}

gboolean vr_keys_find(const char *dir, const VrSignature *signature, guint8 key[32], GError **error)
{
    GError *local = NULL;
    guint count = 0;
    g_autoptr(GString) known = g_string_new(NULL);
    const char *shown = dir ? dir : VR_KEYS_DIR;
    vr_autofd fd = open_keys(dir, &local);
    if (local) {
        g_propagate_error(error, local);
        return FALSE;
    }
    if (fd >= 0 && !look_for(fd, shown, signature->key_id, key, &count, known, error))
        return FALSE;
    if (count == 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the signature is by key %s, which is not in %s",
                    signature->key_id, shown);
        vr_error_now(error, "there are: %s", known->len ? known->str : "none");
    }
    return count > 0;
}

/* ---- verification ---- */

static gboolean is_signed(const guint8 key[32], const guint8 value[64], const void *message, gsize length)
{
    g_autoptr(EVP_PKEY) public_key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
    g_autoptr(EVP_MD_CTX) context = EVP_MD_CTX_new();
    return public_key && context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, public_key) == 1 &&
           EVP_DigestVerify(context, value, 64, message, length) == 1;
}

gboolean vr_signature_verify(const VrSignature *signature, const guint8 key[32], const void *message, gsize length,
                             const char *object, GError **error)
{
    gsize comment = strlen(signature->trusted_comment);
    g_autofree guint8 *global = g_malloc(sizeof signature->value + comment);
    memcpy(global, signature->value, sizeof signature->value);
    memcpy(global + sizeof signature->value, signature->trusted_comment, comment);
    if (!is_signed(key, signature->value, message, length))
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "the signature by key %s is not one of %s: other bytes were signed", signature->key_id, object);
    else if (!is_signed(key, signature->global, global, sizeof signature->value + comment))
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "the trusted comment of the signature of %s was changed after it was signed", object);
    else
        return TRUE;
    return FALSE;
}
