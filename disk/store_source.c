/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was given to publish: where it comes from, what it is said to be, and who vouches for it (row A9). */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/publish_private.h"
#include "disk/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_IMAGE ((guint64)64 << 40) /* the policy of the image check */
#define MAGIC_BYTES 16

void vr_publication_clear(Publication *p)
{
    if (p->is_stdin)
        (void)vr_fd_steal(&p->source_fd);
    vr_fd_clear(&p->source_fd);
    vr_image_free(p->offer);
    vr_signature_free(p->signature);
    g_free(p->inner_name);
}

gboolean vr_publication_is_stream(const Publication *p)
{
    return p->is_stdin || p->compression != VR_COMPRESSION_NONE;
}

/* ---- what was asked ---- */

static gboolean parse_digest(Publication *p, GError **error)
{
    const char *text = p->asked->digest;
    if (!text)
        return TRUE;
    if (*text != '@')
        return vr_digest_parse(text, p->wanted, error);
    g_autofree char *name = g_path_get_basename(p->asked->file);
    return vr_sums_read(text + 1, name, p->wanted, error);
}

static gboolean not_signed(const Publication *p, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "%s/REQUIRED wants every version to be signed: give --signature FILE.minisig",
                p->asked->keys ? p->asked->keys : VR_KEYS_DIR);
    return FALSE;
}

static gboolean read_signature(Publication *p, GError **error)
{
    gboolean required;
    if (!vr_keys_required(p->asked->keys, &required, error))
        return FALSE;
    if (!p->asked->signature)
        return !required || not_signed(p, error);
    p->signature = vr_signature_read(p->asked->signature, error);
    if (!p->signature || !vr_keys_find(p->asked->keys, p->signature, p->key, error))
        return FALSE;
    if (p->signature->prehashed || !p->is_stdin)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED,
                        "a legacy signature needs the file itself and not standard input: sign with 'minisign -H'");
    return FALSE;
}

gboolean vr_publication_terms(Publication *p, GError **error)
{
    p->is_stdin = strcmp(p->asked->file, "-") == 0;
    p->shown = p->is_stdin ? "standard input" : p->asked->file;
    if (p->is_stdin && !p->asked->format_given) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE,
                            "standard input has no name that says what it is: give --format qcow2 or --format raw");
        return FALSE;
    }
    return parse_digest(p, error) && read_signature(p, error);
}

/* ---- the source ---- */

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFLNK:
        return "a symbolic link: name the file that it points to";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    default:
        return "a device";
    }
}

static gboolean open_stdin(Publication *p, GError **error)
{
    p->source_fd = STDIN_FILENO;
    if (isatty(STDIN_FILENO))
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "standard input is a terminal: pipe an image into it");
    else if (fstat(STDIN_FILENO, &p->source) < 0)
        vr_set_error_errno(error, errno, "cannot read standard input");
    else if (S_ISDIR(p->source.st_mode))
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "standard input is a directory");
    else
        return TRUE;
    return FALSE;
}

/* A file that is compressed and does not say so would be stored as a raw image that no guest boots. */
static gboolean check_name(const Publication *p, GError **error)
{
    guint8 bytes[MAGIC_BYTES];
    gsize got;
    if (!vr_pread_all(p->source_fd, bytes, sizeof bytes, 0, &got, error))
        return FALSE;
    VrCompression found = vr_compression_of_bytes(bytes, got);
    if (found == p->compression || (found == VR_COMPRESSION_NONE && got == 0))
        return TRUE;
    if (found == VR_COMPRESSION_NONE)
        return TRUE; /* the library says what is wrong; zstd may begin with a frame of another magic */
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is compressed with %s: give it the suffix %s", p->shown,
                vr_compression_name(found), vr_compression_suffix(found));
    return FALSE;
}

/* First without opening it for real (O_PATH): opening a device or a FIFO can have effects of its own. */
static gboolean open_file(Publication *p, GError **error)
{
    const char *file = p->asked->file;
    vr_autofd path_fd = open(file, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (path_fd < 0 || fstat(path_fd, &p->source) < 0) {
        vr_set_error_errno(error, errno, "cannot open %s", file);
        return FALSE;
    }
    if (!S_ISREG(p->source.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is no regular file but %s", file,
                    kind_of(p->source.st_mode));
        return FALSE;
    }
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", path_fd);
    p->source_fd = open(same, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (p->source_fd >= 0)
        return check_name(p, error);
    vr_set_error_errno(error, errno, "cannot open %s", file);
    return FALSE;
}

gboolean vr_publication_open(Publication *p, GError **error)
{
    if (p->is_stdin)
        return open_stdin(p, error);
    g_autofree char *base = g_path_get_basename(p->asked->file);
    p->compression = vr_compression_of_name(base, &p->inner_name);
    return open_file(p, error);
}

gboolean vr_publication_unchanged(const Publication *p, GError **error)
{
    struct stat now;
    if (p->is_stdin)
        return TRUE;
    if (fstat(p->source_fd, &now) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", p->shown);
        return FALSE;
    }
    if (now.st_size == p->source.st_size && now.st_mtim.tv_sec == p->source.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == p->source.st_mtim.tv_nsec && now.st_ctim.tv_sec == p->source.st_ctim.tv_sec &&
        now.st_ctim.tv_nsec == p->source.st_ctim.tv_nsec)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", p->shown);
    return FALSE;
}

/* ---- reading it ---- */

gboolean vr_publication_compare(const Publication *p, GError **error)
{
    if (!*p->wanted || strcmp(p->wanted, p->digest) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has another digest: sha256:%s was asked for, it has sha256:%s",
                p->shown, p->wanted, p->digest);
    return FALSE;
}

/* Legacy signatures are of the bytes themselves, which OpenSSL wants in memory; they must be those that were summed. */
static gboolean verify_legacy(const Publication *p, GError **error)
{
    gsize length = (gsize)p->source.st_size, got = 0;
    if (p->source.st_size > VR_LEGACY_MAX_BYTES) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s is too large for a legacy signature (1 GiB at most): sign it with 'minisign -H'", p->shown);
        return FALSE;
    }
    g_autofree guint8 *bytes = g_try_malloc(length + 1);
    if (!bytes) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "there is no memory for the legacy signature of %s", p->shown);
        return FALSE;
    }
    if (!vr_pread_all(p->source_fd, bytes, length, 0, &got, error))
        return FALSE;
    g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes, got);
    if (got != length || strcmp(sum, p->digest) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", p->shown);
        return FALSE;
    }
    return vr_signature_verify(p->signature, p->key, bytes, length, p->shown, error);
}

static gboolean verify_signature(const Publication *p, const VrInputSums *sums, GError **error)
{
    if (!p->signature)
        return TRUE;
    return p->signature->prehashed
               ? vr_signature_verify(p->signature, p->key, sums->blake2b, sizeof sums->blake2b, p->shown, error)
               : verify_legacy(p, error);
}

static VrInput input_of(const Publication *p, int target_fd)
{
    return (VrInput){.fd = p->source_fd,
                     .name = p->shown,
                     .length = p->is_stdin ? 0 : (guint64)p->source.st_size,
                     .compression = p->compression,
                     .blake2b = p->signature && p->signature->prehashed,
                     .target_fd = target_fd,
                     .cancelled = p->asked->cancelled,
                     .progress = p->asked->progress,
                     .progress_data = p->asked->progress_data};
}

static gboolean take(Publication *p, const VrInput *input, GError **error)
{
    VrInputSums sums;
    if (!p->is_stdin && lseek(p->source_fd, 0, SEEK_SET) < 0) {
        vr_set_error_errno(error, errno, "cannot read %s", p->shown);
        return FALSE;
    }
    if (!vr_input_take(input, &sums, error))
        return FALSE;
    memcpy(p->digest, sums.given, sizeof p->digest);
    memcpy(p->stored, sums.image, sizeof p->stored);
    p->vouched =
        vr_publication_unchanged(p, error) && vr_publication_compare(p, error) && verify_signature(p, &sums, error);
    return p->vouched;
}

gboolean vr_publication_vouch(Publication *p, GError **error)
{
    const VrInput input = input_of(p, -1);
    return take(p, &input, error);
}

/* ---- the image ---- */

static gboolean check_image(Publication *p, int fd, GError **error)
{
    const VrImagePolicy policy = {.format_given = p->asked->format_given,
                                  .format = p->asked->format,
                                  .file_name = p->inner_name,
                                  .max_virtual_size = MIN(p->asked->max_size, MAX_IMAGE)};
    return vr_image_check(fd, &policy, &p->verdict, error) && vr_image_verdict_require(&p->verdict, p->shown, error);
}

gboolean vr_publication_check(Publication *p, GError **error)
{
    return check_image(p, p->source_fd, error);
}

static gboolean check_magic(const Publication *p, int fd, GError **error)
{
    guint8 bytes[MAGIC_BYTES];
    gsize got;
    if (!vr_pread_all(fd, bytes, sizeof bytes, 0, &got, error))
        return FALSE;
    VrCompression found = vr_compression_of_bytes(bytes, got);
    if (found == VR_COMPRESSION_NONE)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s compressed with %s: inflate it first, or give the file",
                p->shown, p->is_stdin ? "is" : "holds what is once more", vr_compression_name(found));
    return FALSE;
}

gboolean vr_publication_spool(Publication *p, int fd, GError **error)
{
    struct statvfs fs;
    VrInput input = input_of(p, fd);
    if (fstatvfs(fd, &fs) < 0) {
        vr_set_error_errno(error, errno, "cannot ask for the free space");
        return FALSE;
    }
    guint64 available = (guint64)fs.f_bavail * fs.f_frsize;
    input.max_written = available > VR_SPACE_MARGIN ? available - VR_SPACE_MARGIN : 0;
    input.max_size = p->asked->max_size ? MIN(p->asked->max_size, MAX_IMAGE) : MIN(input.max_written, MAX_IMAGE);
    input.limit =
        p->asked->max_size ? "--max-size" : "the free space; --max-size allows more where most of it is zeros";
    return take(p, &input, error) && check_magic(p, fd, error) && check_image(p, fd, error);
}
