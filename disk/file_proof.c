/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/file_proof.h"

#include "base/clock.h"
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/backing.h"
#include "disk/block_identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_LINKS 64 /* of a chain */
#define HEAD (64 * 1024)
#define MAX_CLUSTER_BITS 21 /* QEMU's own limit */
#define SAMPLES 64
#define SAMPLE_BYTES (64 * 1024)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)

const char *vr_proof_content_name(VrProofContent content)
{
    static const char *const names[] = {"none", "sampled", "whole"};

    return (guint)content < G_N_ELEMENTS(names) ? names[content] : "?";
}

void vr_file_proof_free(VrFileProof *proof)
{
    if (!proof)
        return;
    g_free(proof->path);
    g_free(proof->lasting);
    g_free(proof);
}

/* --- hashes ------------------------------------------------------------------------------------------ */

static gboolean finish(EVP_MD_CTX *context, char hex[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    guint8 sum[EVP_MAX_MD_SIZE];
    guint length = 0;

    if (EVP_DigestFinal_ex(context, sum, &length) != 1 || length * 2 != VR_DIGEST_HEX_LENGTH) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "OpenSSL failed in SHA-256");
        return FALSE;
    }
    for (guint i = 0; i < length; i++)
        g_snprintf(hex + 2 * (gsize)i, 3, "%02x", sum[i]);
    return TRUE;
}

static gboolean add(EVP_MD_CTX *context, int fd, guint8 *buffer, gsize length, guint64 offset, gsize *got,
                    GError **error)
{
    if (!vr_pread_all(fd, buffer, length, offset, got, error))
        return FALSE;
    if (EVP_DigestUpdate(context, buffer, *got) == 1)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "OpenSSL failed in SHA-256");
    return FALSE;
}

static EVP_MD_CTX *new_hash(GError **error)
{
    g_autoptr(EVP_MD_CTX) context = EVP_MD_CTX_new();

    if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1)
        return g_steal_pointer(&context);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "OpenSSL has no SHA-256");
    return NULL;
}

/* At places that depend on the size alone, so that two readings are of the same bytes. */
static gboolean hash_samples(int fd, guint64 size, char hex[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    g_autofree guint8 *buffer = g_malloc(SAMPLE_BYTES);
    g_autoptr(EVP_MD_CTX) context = new_hash(error);
    guint64 last = MAX(size, (guint64)SAMPLES * SAMPLE_BYTES) - SAMPLE_BYTES;
    gsize got;

    for (guint i = 0; context && i < SAMPLES; i++)
        if (!add(context, fd, buffer, SAMPLE_BYTES, last / (SAMPLES - 1) * i + last % (SAMPLES - 1) * i / (SAMPLES - 1),
                 &got, error))
            return FALSE;
    return context && finish(context, hex, error);
}

guint64 vr_file_proof_bytes(const VrFileProof *proof, VrProofContent content)
{
    if (content == VR_PROOF_NONE)
        return 0;
    return content == VR_PROOF_WHOLE ? proof->file.size : MIN(proof->file.size, (guint64)SAMPLES * SAMPLE_BYTES);
}

static gboolean hash_content(int fd, guint64 size, VrProofContent content, char hex[VR_DIGEST_HEX_LENGTH + 1],
                             GError **error)
{
    if (content == VR_PROOF_WHOLE)
        return vr_digest_fd(fd, size, hex, error);
    return content == VR_PROOF_NONE || hash_samples(fd, size, hex, error);
}

/* --- one file ---------------------------------------------------------------------------------------- */

/* What the header of a qcow2 file says; left empty for any other. */
typedef struct {
    char *backing, *format;
} Next;

static void next_clear(Next *next)
{
    g_clear_pointer(&next->backing, g_free);
    g_clear_pointer(&next->format, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Next, next_clear)

static gboolean hash_head(int fd, gsize length, guint8 **bytes, gsize *got, char hex[VR_DIGEST_HEX_LENGTH + 1],
                          GError **error)
{
    g_autoptr(EVP_MD_CTX) context = new_hash(error);

    *bytes = g_realloc(*bytes, length);
    return context && add(context, fd, *bytes, length, 0, got, error) && finish(context, hex, error);
}

/* The first cluster is most often of the size that is read at once; any other one costs a second reading. */
static gboolean read_head(int fd, gboolean is_qcow2, VrFileProof *proof, Next *next, GError **error)
{
    g_autofree guint8 *bytes = NULL;
    VrQcow2Header header;
    gsize got;

    if (!hash_head(fd, HEAD, &bytes, &got, proof->head, error))
        return FALSE;
    if (!is_qcow2)
        return TRUE;
    if (!vr_qcow2_header_decode(bytes, got, &header) || header.cluster_bits > MAX_CLUSTER_BITS) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s has no qcow2 header", proof->path);
        return FALSE;
    }
    if ((gsize)1 << header.cluster_bits != HEAD &&
        !hash_head(fd, (gsize)1 << header.cluster_bits, &bytes, &got, proof->head, error))
        return FALSE;
    next->format = vr_backing_format(bytes, got, &header);
    return vr_backing_name(fd, &next->backing, error);
}

/* Where the links end now; whoever changes one of them afterwards changes the proof. */
static int open_resolved(VrFileProof *proof, const char *path, GError **error)
{
    char *resolved = realpath(path, NULL);
    int fd = -1;

    if (resolved) {
        proof->path = g_strdup(resolved);
        fd = open(resolved, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    }
    if (fd < 0)
        vr_set_error_errno(error, errno, "cannot open %s", path);
    free(resolved);
    return fd;
}

/* A file of a file system has its path and inode for good. */
static void name_device(int fd, VrFileProof *proof)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode))
        return;
    proof->lasting = vr_block_identity(VR_SYSFS, st.st_rdev);
    g_strlcpy(proof->boot_id, vr_clock_boot_id(), sizeof proof->boot_id);
}

static VrFileProof *prove_file(const char *path, const char *format, VrProofContent content, Next *next, GError **error)
{
    g_autoptr(VrFileProof) proof = g_new0(VrFileProof, 1);
    vr_autofd fd = open_resolved(proof, path, error);

    proof->is_local = TRUE;
    proof->how = content;
    if (fd < 0)
        return NULL;
    if (!vr_disk_file_id_of(fd, path, &proof->file, error))
        return NULL;
    name_device(fd, proof);
    if (!read_head(fd, g_strcmp0(format, "qcow2") == 0, proof, next, error) ||
        !hash_content(fd, proof->file.size, content, proof->content, error)) {
        g_prefix_error(error, "cannot read %s: ", path);
        return NULL;
    }
    return g_steal_pointer(&proof);
}

/* --- a chain ----------------------------------------------------------------------------------------- */

/* "nbd://host/export", "json:{...}" without a path: QEMU takes what comes before the first colon for a protocol. */
static gboolean has_protocol(const char *name)
{
    gsize length = strcspn(name, ":/");

    return name[length] == ':' && !g_str_has_prefix(name, "file:");
}

static void add_remote(GPtrArray *proofs, const char *name)
{
    VrFileProof *proof = g_new0(VrFileProof, 1);

    proof->path = g_strdup(name);
    g_ptr_array_add(proofs, proof);
}

/* The next file of the chain; NULL: there is none that is local. */
static char *next_path(GPtrArray *proofs, const Next *next, const char *path)
{
    g_autoptr(GPtrArray) paths = NULL;

    if (!next->backing)
        return NULL;
    if (!has_protocol(next->backing) || g_str_has_prefix(next->backing, "json:"))
        paths = vr_backing_paths(next->backing, path);
    if (paths && paths->len > 0)
        return g_ptr_array_steal_index(paths, 0);
    add_remote(proofs, next->backing);
    return NULL;
}

GPtrArray *vr_file_proof_read(const char *path, const char *format, VrProofContent content, GError **error)
{
    g_autoptr(GPtrArray) proofs = g_ptr_array_new_with_free_func((GDestroyNotify)vr_file_proof_free);
    g_autofree char *at = g_strdup(path);
    g_autofree char *as = g_strdup(format);

    while (at && proofs->len < MAX_LINKS) {
        g_auto(Next) next = {0};
        VrFileProof *proof = prove_file(at, as, content, &next, error);

        if (!proof)
            return NULL;
        g_ptr_array_add(proofs, proof);
        g_free(at);
        g_free(as);
        at = next_path(proofs, &next, proof->path);
        as = g_steal_pointer(&next.format);
    }
    return g_steal_pointer(&proofs);
}

/* --- comparison -------------------------------------------------------------------------------------- */

static gboolean is_device(const VrFileProof *proof)
{
    return proof->is_local && proof->file.inode == 0;
}

/* The file system that a file lies on may have got another number when the host was booted in between. */
static char *place_difference(const VrFileProof *before, const VrFileProof *now)
{
    if (before->is_local != now->is_local || strcmp(before->path, now->path) != 0)
        return g_strdup_printf("its file: %s, %s before", now->path, before->path);
    if (is_device(before) && is_device(now) && before->file.device != now->file.device)
        return g_strdup_printf("%s is another device: number %u:%u, %u:%u before", now->path, major(now->file.device),
                               minor(now->file.device), major(before->file.device), minor(before->file.device));
    if (before->file.inode != now->file.inode)
        return g_strdup_printf("%s is another file: inode %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT " before",
                               now->path, now->file.inode, before->file.inode);
    return NULL;
}

/* A device has got its number and its name anew when the host was booted. */
static char *device_difference(const VrFileProof *before, const VrFileProof *now, gboolean *untold)
{
    *untold = !before->lasting || !now->lasting;
    if (*untold || strcmp(before->lasting, now->lasting) == 0)
        return NULL;
    return g_strdup_printf("%s is another device: %s, %s before the host was booted", now->path, now->lasting,
                           before->lasting);
}

char *vr_file_proof_difference(const VrFileProof *before, const VrFileProof *now, gboolean *untold)
{
    gboolean unasked, rebooted = strcmp(before->boot_id, now->boot_id) != 0;
    g_autofree char *place = is_device(before) && is_device(now) && rebooted
                                 ? device_difference(before, now, untold ? untold : &unasked)
                                 : place_difference(before, now);

    if (place)
        return g_steal_pointer(&place);
    if (before->file.size != now->file.size)
        return g_strdup_printf("the size of %s: %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT " before", now->path,
                               now->file.size, before->file.size);
    if (strcmp(before->head, now->head) != 0)
        return g_strdup_printf("the first bytes of %s, which hold its header", now->path);
    if (strcmp(before->content, now->content) != 0)
        return g_strdup_printf("the content of %s", now->path);
    if (before->file.mtime_ns != now->file.mtime_ns)
        return g_strdup_printf("the time at which %s was last written", now->path);
    return NULL;
}
