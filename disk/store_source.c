/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was given to publish: where it comes from, what it is said to be, and who vouches for it (row A9). */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/disk_file.h"
#include "disk/publish_private.h"
#include "disk/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_IMAGE ((guint64)64 << 40) /* the policy of the image check */
#define MAGIC_BYTES 16

static void source_clear(VrSource *source)
{
    if (source->is_stdin)
        (void)vr_fd_steal(&source->fd);
    vr_fd_clear(&source->fd);
    vr_fd_clear(&source->own_fd);
    g_free(source->inner_name);
}

void vr_publication_clear(Publication *p)
{
    for (guint i = 0; i < p->n_sources; i++)
        source_clear(&p->sources[i]);
    vr_image_free(p->offer);
    vr_signature_free(p->signature);
}

gboolean vr_source_is_stream(const VrSource *source)
{
    return source->is_stdin || source->compression != VR_COMPRESSION_NONE;
}

/* ---- what was asked ---- */

static gboolean add_source(Publication *p, const char *file, GError **error)
{
    if (p->n_sources == VR_CONVERT_LINKS) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "a chain has at most %d links", VR_CONVERT_LINKS);
        return FALSE;
    }
    gboolean is_stdin = strcmp(file, "-") == 0;
    p->sources[p->n_sources++] = (VrSource){
        .file = file, .shown = is_stdin ? "standard input" : file, .is_stdin = is_stdin, .fd = -1, .own_fd = -1};
    return TRUE;
}

static gboolean list_sources(Publication *p, GError **error)
{
    if (!add_source(p, p->asked->file, error))
        return FALSE;
    for (const char *const *link = p->asked->flatten; link && *link; link++) {
        if (strcmp(*link, "-") == 0) {
            g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "a link of a chain is a file, not standard input");
            return FALSE;
        }
        if (!add_source(p, *link, error))
            return FALSE;
    }
    return TRUE;
}

/* One digest is of one file; a list names each link of a chain. */
static gboolean parse_digest(Publication *p, GError **error)
{
    const char *text = p->asked->digest;
    if (!text)
        return TRUE;
    if (*text != '@' && p->n_sources > 1) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE,
                            "one digest does not say which file of the chain it is of: give --digest-file with all");
        return FALSE;
    }
    if (*text != '@')
        return vr_digest_parse(text, p->sources[0].wanted, error);
    for (guint i = 0; i < p->n_sources; i++) {
        g_autofree char *name = g_path_get_basename(p->sources[i].file);
        if (!vr_sums_read(text + 1, name, p->sources[i].wanted, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean not_signed(const Publication *p, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "%s/REQUIRED wants every version to be signed: give --signature FILE.minisig%s",
                p->asked->keys ? p->asked->keys : VR_KEYS_DIR,
                p->n_sources > 1 ? ", of the image that qemu-img makes of the chain" : "");
    return FALSE;
}

static gboolean read_signature(Publication *p, GError **error)
{
    gboolean required;
    if (!vr_keys_required(p->asked->keys, &required, error))
        return FALSE;
    if (!p->asked->signature)
        return !required || not_signed(p, error);
    if (p->n_sources > 1) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE,
                            "a signature is of one file, not of a chain: flatten it with qemu-img and sign the result");
        return FALSE;
    }
    p->signature = vr_signature_read(p->asked->signature, error);
    if (!p->signature || !vr_keys_find(p->asked->keys, p->signature, p->key, error))
        return FALSE;
    if (p->signature->prehashed || !p->sources[0].is_stdin)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED,
                        "a legacy signature needs the file itself and not standard input: sign with 'minisign -H'");
    return FALSE;
}

gboolean vr_publication_terms(Publication *p, GError **error)
{
    if (!list_sources(p, error))
        return FALSE;
    if (p->sources[0].is_stdin && !p->asked->format_given) {
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

static gboolean open_stdin(VrSource *s, GError **error)
{
    s->fd = STDIN_FILENO;
    if (isatty(STDIN_FILENO))
        g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "standard input is a terminal: pipe an image into it");
    else if (fstat(STDIN_FILENO, &s->st) < 0)
        vr_set_error_errno(error, errno, "cannot read standard input");
    else if (S_ISDIR(s->st.st_mode))
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "standard input is a directory");
    else
        return TRUE;
    return FALSE;
}

/* What is there of the first `length` bytes. */
static gboolean read_begin(const VrSource *s, int fd, guint8 *bytes, gsize length, gsize *got, GError **error)
{
    if (vr_pread_all(fd, bytes, length, 0, got, error))
        return TRUE;
    g_prefix_error(error, "%s: ", s->shown);
    return FALSE;
}

/* A file that is compressed and does not say so would be stored as a raw image that no guest boots. */
static gboolean check_name(const VrSource *s, GError **error)
{
    guint8 bytes[MAGIC_BYTES];
    gsize got;
    if (!read_begin(s, s->fd, bytes, sizeof bytes, &got, error))
        return FALSE;
    VrCompression found = vr_compression_of_bytes(bytes, got);
    if (found == s->compression || (found == VR_COMPRESSION_NONE && got == 0))
        return TRUE;
    if (found == VR_COMPRESSION_NONE)
        return TRUE; /* the library says what is wrong; zstd may begin with a frame of another magic */
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is compressed with %s: give it the suffix %s", s->shown,
                vr_compression_name(found), vr_compression_suffix(found));
    return FALSE;
}

/* A new user's first image is the disk of a guest, and that guest may run: what is copied meanwhile boots no better than after a power loss. A reader,
 * such as the guests of a base below, is none of it. */
static gboolean check_idle(const VrSource *s, GError **error)
{
    if (!vr_disk_file_is_written_by_qemu(s->fd))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "%s is written to by a running guest or a qemu tool, and a copy of it now would not be whole",
                s->shown);
    vr_error_next(error, "shut that guest down, and publish it then; or publish another file");
    return FALSE;
}

/* First without opening it for real (O_PATH): opening a device or a FIFO can have effects of its own. */
static gboolean open_file(VrSource *s, GError **error)
{
    vr_autofd path_fd = open(s->file, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (path_fd < 0 || fstat(path_fd, &s->st) < 0) {
        vr_set_error_errno(error, errno, "cannot open %s", s->file);
        return FALSE;
    }
    if (!S_ISREG(s->st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is no regular file but %s", s->file, kind_of(s->st.st_mode));
        vr_error_next(error, "name the file of the image, or '-' and write the image to standard input");
        return FALSE;
    }
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", path_fd);
    s->fd = open(same, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (s->fd >= 0)
        return check_name(s, error);
    vr_set_error_errno(error, errno, "cannot open %s", s->file);
    return FALSE;
}

static gboolean open_source(VrSource *s, GError **error)
{
    if (s->is_stdin)
        return open_stdin(s, error) && check_idle(s, error);
    g_autofree char *base = g_path_get_basename(s->file);
    s->compression = vr_compression_of_name(base, &s->inner_name);
    return open_file(s, error) && check_idle(s, error);
}

static gboolean is_same_file(const VrSource *a, const VrSource *b)
{
    return a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino;
}

gboolean vr_publication_open(Publication *p, GError **error)
{
    for (guint i = 0; i < p->n_sources; i++) {
        if (!open_source(&p->sources[i], error))
            return FALSE;
        for (guint j = 0; j < i; j++)
            if (is_same_file(&p->sources[i], &p->sources[j])) {
                g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is in the chain twice", p->sources[i].shown);
                return FALSE;
            }
    }
    return TRUE;
}

gboolean vr_source_unchanged(const VrSource *s, GError **error)
{
    struct stat now;
    if (s->is_stdin)
        return TRUE;
    if (fstat(s->fd, &now) < 0) {
        vr_set_error_errno(error, errno, "cannot look at %s", s->shown);
        return FALSE;
    }
    if (now.st_size == s->st.st_size && now.st_mtim.tv_sec == s->st.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == s->st.st_mtim.tv_nsec && now.st_ctim.tv_sec == s->st.st_ctim.tv_sec &&
        now.st_ctim.tv_nsec == s->st.st_ctim.tv_nsec)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", s->shown);
    return FALSE;
}

/* ---- reading it ---- */

gboolean vr_source_compare(const VrSource *s, GError **error)
{
    if (!*s->wanted || strcmp(s->wanted, s->digest) == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s has another digest than sha256:%s, which was asked for",
                s->shown, s->wanted);
    vr_error_now(error, "it has sha256:%s", s->digest);
    vr_error_next(error, "get the file again, and see that the digest is that of this file");
    return FALSE;
}

/* Legacy signatures are of the bytes themselves, which OpenSSL wants in memory; they must be those that were summed. */
static gboolean verify_legacy(const Publication *p, const VrSource *s, GError **error)
{
    gsize length = (gsize)s->st.st_size, got = 0;
    if (s->st.st_size > VR_LEGACY_MAX_BYTES) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                    "%s is too large for a legacy signature (1 GiB at most): sign it with 'minisign -H'", s->shown);
        return FALSE;
    }
    g_autofree guint8 *bytes = g_try_malloc(length + 1);
    if (!bytes) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "there is no memory for the legacy signature of %s", s->shown);
        return FALSE;
    }
    if (!read_begin(s, s->fd, bytes, length, &got, error))
        return FALSE;
    g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes, got);
    if (got != length || strcmp(sum, s->digest) != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was changed while it was read", s->shown);
        return FALSE;
    }
    return vr_signature_verify(p->signature, p->key, bytes, length, s->shown, error);
}

static gboolean verify_signature(const Publication *p, const VrSource *s, const VrInputSums *sums, GError **error)
{
    if (!p->signature)
        return TRUE;
    return p->signature->prehashed
               ? vr_signature_verify(p->signature, p->key, sums->blake2b, sizeof sums->blake2b, s->shown, error)
               : verify_legacy(p, s, error);
}

static VrInput input_of(const Publication *p, const VrSource *s, int target_fd)
{
    return (VrInput){.fd = s->fd,
                     .name = s->shown,
                     .length = s->is_stdin ? 0 : (guint64)s->st.st_size,
                     .compression = s->compression,
                     .blake2b = p->signature && p->signature->prehashed,
                     .target_fd = target_fd,
                     .limit_rate = p->asked->limit_rate,
                     .cancelled = p->asked->cancelled,
                     .progress = p->asked->progress,
                     .progress_data = p->asked->progress_data};
}

static gboolean take(const Publication *p, VrSource *s, const VrInput *input, GError **error)
{
    VrInputSums sums;
    if (!s->is_stdin && lseek(s->fd, 0, SEEK_SET) < 0) {
        vr_set_error_errno(error, errno, "cannot read %s", s->shown);
        return FALSE;
    }
    if (!vr_input_take(input, &sums, error))
        return FALSE;
    memcpy(s->digest, sums.given, sizeof s->digest);
    memcpy(s->image, sums.image, sizeof s->image);
    s->vouched = vr_source_unchanged(s, error) && vr_source_compare(s, error) && verify_signature(p, s, &sums, error);
    return s->vouched;
}

gboolean vr_publication_vouch(Publication *p, GError **error)
{
    for (guint i = 0; i < p->n_sources; i++) {
        const VrInput input = input_of(p, &p->sources[i], -1);
        if (!p->sources[i].vouched && !take(p, &p->sources[i], &input, error))
            return FALSE;
    }
    return TRUE;
}

void vr_publication_digest(const Publication *p, char digest[VR_DIGEST_HEX_LENGTH + 1])
{
    g_autoptr(GString) all = g_string_new(NULL);
    if (p->n_sources == 1) {
        memcpy(digest, p->sources[0].digest, VR_DIGEST_HEX_LENGTH + 1);
        return;
    }
    for (guint i = 0; i < p->n_sources; i++)
        g_string_append_printf(all, "sha256:%s\n", p->sources[i].digest);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, all->str, (gssize)all->len);
    g_strlcpy(digest, sum, VR_DIGEST_HEX_LENGTH + 1);
}

/* ---- the image ---- */

static gboolean check_image(const Publication *p, VrSource *s, int fd, GError **error)
{
    gboolean is_top = s == p->sources;
    const VrImagePolicy policy = {.format_given = is_top && p->asked->format_given,
                                  .format = p->asked->format,
                                  .file_name = s->inner_name,
                                  .max_virtual_size = MIN(p->asked->max_size, MAX_IMAGE),
                                  .allow_compressed = TRUE,
                                  .allow_backing = p->n_sources > 1};
    if (vr_image_check(fd, &policy, &s->verdict, error))
        return vr_image_verdict_require(&s->verdict, s->shown, error);
    g_prefix_error(error, "%s: ", s->shown);
    return FALSE;
}

gboolean vr_publication_check(Publication *p, VrSource *source, GError **error)
{
    return check_image(p, source, source->fd, error);
}

static gboolean check_magic(const VrSource *s, GError **error)
{
    guint8 bytes[MAGIC_BYTES];
    gsize got;
    if (!read_begin(s, s->own_fd, bytes, sizeof bytes, &got, error))
        return FALSE;
    VrCompression found = vr_compression_of_bytes(bytes, got);
    if (found == VR_COMPRESSION_NONE)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s %s compressed with %s: inflate it first, or give the file",
                s->shown, s->is_stdin ? "is" : "holds what is once more", vr_compression_name(found));
    return FALSE;
}

/* A file that is no stream, and of which SHA-256 is all that is wanted: the copy engine passes over its holes. */
static gboolean copy_file(const Publication *p, VrSource *s, GError **error)
{
    const VrCopyJob job = {.source_fd = s->fd,
                           .target_fd = s->own_fd,
                           .length = (guint64)s->st.st_size,
                           .limit_rate = p->asked->limit_rate,
                           .cancelled = p->asked->cancelled,
                           .progress = p->asked->progress,
                           .progress_data = p->asked->progress_data};
    if (!vr_copy(&job, s->digest, error))
        return FALSE;
    memcpy(s->image, s->digest, sizeof s->image);
    s->vouched = vr_source_unchanged(s, error) && vr_source_compare(s, error);
    return s->vouched;
}

static gboolean take_stream(const Publication *p, VrSource *s, GError **error)
{
    struct statvfs fs;
    VrInput input = input_of(p, s, s->own_fd);
    if (fstatvfs(s->own_fd, &fs) < 0) {
        vr_set_error_errno(error, errno, "cannot ask for the free space");
        return FALSE;
    }
    guint64 available = (guint64)fs.f_bavail * fs.f_frsize;
    input.max_written = available > VR_SPACE_MARGIN ? available - VR_SPACE_MARGIN : 0;
    input.max_size = p->asked->max_size ? MIN(p->asked->max_size, MAX_IMAGE) : MIN(input.max_written, MAX_IMAGE);
    if (!vr_source_is_stream(s))
        input.max_size = MAX_IMAGE; /* it is as large as it is; what it may hold, the image check says */
    input.limit =
        p->asked->max_size ? "--max-size" : "the free space; --max-size allows more where most of it is zeros";
    return take(p, s, &input, error);
}

gboolean vr_publication_spool(Publication *p, VrSource *s, GError **error)
{
    gboolean ok = vr_source_is_stream(s) || p->signature ? take_stream(p, s, error) : copy_file(p, s, error);
    return ok && check_magic(s, error) && check_image(p, s, s->own_fd, error);
}
