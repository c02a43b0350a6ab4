/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/input.h"

#include "base/error.h"
#include "disk/copy_private.h"

#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
#define BLOCK_BYTES (256 * 1024) /* what is written at once */
#define HOLE_BYTES 4096          /* what may become a hole */
#define POLL_MS 200              /* how soon a cancel is heard while a pipe is silent */

typedef struct {
    const VrInput *input;
    EVP_MD_CTX *given, *blake2b, *image; /* owned; NULL when not wanted, image also when it is what was given */
    VrInflater *inflater;                /* owned; NULL when nothing is inflated */
    guint8 *buffer, *block;              /* owned */
    gsize filled;                        /* of block */
    VrRate rate;
    guint64 taken, size, written; /* bytes that came in, came out, were written */
} Intake;

static void intake_clear(Intake *intake)
{
    EVP_MD_CTX_free(intake->given);
    EVP_MD_CTX_free(intake->blake2b);
    EVP_MD_CTX_free(intake->image);
    vr_inflater_free(intake->inflater);
    g_free(intake->buffer);
    g_free(intake->block);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Intake, intake_clear)

/* ---- sums ---- */

static gboolean no_sum(GError **error)
{
    g_set_error_literal(error, VR_ERROR, VR_ERROR_FAILED, "OpenSSL failed in a digest");
    return FALSE;
}

static gboolean sum_begin(EVP_MD_CTX **context, const EVP_MD *kind, GError **error)
{
    *context = EVP_MD_CTX_new();
    return (*context && EVP_DigestInit_ex(*context, kind, NULL) == 1) || no_sum(error);
}

static gboolean sum_add(EVP_MD_CTX *context, const void *data, gsize length, GError **error)
{
    return !context || EVP_DigestUpdate(context, data, length) == 1 || no_sum(error);
}

static gboolean sum_end_hex(EVP_MD_CTX *context, char hex[VR_DIGEST_HEX_LENGTH + 1], GError **error)
{
    guint8 sum[EVP_MAX_MD_SIZE];
    guint length = 0;
    if (EVP_DigestFinal_ex(context, sum, &length) != 1 || length * 2 != VR_DIGEST_HEX_LENGTH)
        return no_sum(error);
    for (guint i = 0; i < length; i++)
        g_snprintf(hex + (gsize)2 * i, 3, "%02x", sum[i]);
    return TRUE;
}

/* ---- what comes out ---- */

static gboolean is_zero(const guint8 *data, gsize length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static gboolean write_at(Intake *intake, const guint8 *data, gsize length, guint64 offset, GError **error)
{
    intake->written += length;
    if (intake->written > intake->input->max_written) {
        g_set_error(error, VR_ERROR, VR_ERROR_NO_SPACE, "%s does not fit into the free space of the store",
                    intake->input->name);
        return FALSE;
    }
    while (length > 0) {
        ssize_t n = pwrite(intake->input->target_fd, data, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            vr_set_error_errno(error, n < 0 ? errno : EIO, "cannot write what %s holds", intake->input->name);
            return FALSE;
        }
        data += n;
        offset += (guint64)n;
        length -= (gsize)n;
    }
    return TRUE;
}

/* The runs of the block that are not zero. */
static gboolean flush_block(Intake *intake, GError **error)
{
    guint64 offset = intake->size - intake->filled;
    for (gsize at = 0, end; at < intake->filled; at = end) {
        gsize unit = MIN(HOLE_BYTES, intake->filled - at);
        end = at + unit;
        if (is_zero(intake->block + at, unit))
            continue;
        while (end < intake->filled) {
            unit = MIN(HOLE_BYTES, intake->filled - end);
            if (is_zero(intake->block + end, unit))
                break;
            end += unit;
        }
        if (!write_at(intake, intake->block + at, end - at, offset + at, error))
            return FALSE;
    }
    intake->filled = 0;
    return TRUE;
}

static gboolean too_large(const Intake *intake, GError **error)
{
    g_autofree char *most = g_format_size_full(intake->input->max_size, G_FORMAT_SIZE_IEC_UNITS);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s holds more than %s (%s)", intake->input->name, most,
                intake->input->limit);
    return FALSE;
}

static gboolean put_out(const guint8 *data, gsize length, void *user, GError **error)
{
    Intake *intake = user;
    if (length > intake->input->max_size - intake->size)
        return too_large(intake, error);
    if (!sum_add(intake->image, data, length, error))
        return FALSE;
    while (length > 0) {
        gsize n = MIN(length, BLOCK_BYTES - intake->filled);
        memcpy(intake->block + intake->filled, data, n);
        intake->filled += n;
        intake->size += n;
        data += n;
        length -= n;
        if (intake->filled == BLOCK_BYTES && !flush_block(intake, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean end_out(Intake *intake, GError **error)
{
    if (intake->input->target_fd < 0)
        return TRUE;
    if ((intake->inflater && !vr_inflater_end(intake->inflater, error)) || !flush_block(intake, error))
        return FALSE;
    if (ftruncate(intake->input->target_fd, (off_t)intake->size) == 0)
        return TRUE;
    vr_set_error_errno(error, errno, "cannot set the size of what %s holds", intake->input->name);
    return FALSE;
}

/* ---- what comes in ---- */

static gboolean is_cancelled(const VrInput *input, GError **error)
{
    if (!input->cancelled || !g_atomic_int_get(input->cancelled))
        return FALSE;
    g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "reading %s was cancelled", input->name);
    return TRUE;
}

/* Up to READ_BYTES; 0 at the end, -1 on an error. */
static gssize read_some(const Intake *intake, GError **error)
{
    const VrInput *input = intake->input;
    struct pollfd ready = {.fd = input->fd, .events = POLLIN};
    while (!is_cancelled(input, error)) {
        gint64 delay_us = vr_rate_delay(&intake->rate);
        if (delay_us > 0) {
            g_usleep((gulong)MIN(delay_us, POLL_MS * 1000));
            continue;
        }
        int n = poll(&ready, 1, POLL_MS);
        if (n == 0 || (n < 0 && errno == EINTR))
            continue;
        ssize_t got = n < 0 ? -1 : read(input->fd, intake->buffer, READ_BYTES);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            vr_set_error_errno(error, errno, "cannot read %s", input->name);
        return got;
    }
    return -1;
}

static gboolean take_in(Intake *intake, gsize length, GError **error)
{
    const VrInput *input = intake->input;
    if (!sum_add(intake->given, intake->buffer, length, error) ||
        !sum_add(intake->blake2b, intake->buffer, length, error))
        return FALSE;
    intake->taken += length;
    vr_rate_spend(&intake->rate, length);
    if (input->progress) {
        const VrCopyProgress progress = {intake->taken, input->length};
        input->progress(&progress, input->progress_data);
    }
    if (input->target_fd < 0)
        return TRUE;
    if (!intake->inflater)
        return put_out(intake->buffer, length, intake, error);
    return vr_inflater_feed(intake->inflater, intake->buffer, length, error);
}

static gboolean begin(Intake *intake, GError **error)
{
    const VrInput *input = intake->input;
    intake->buffer = g_malloc(READ_BYTES);
    vr_rate_init(&intake->rate, input->limit_rate);
    if (!sum_begin(&intake->given, EVP_sha256(), error) ||
        (input->blake2b && !sum_begin(&intake->blake2b, EVP_blake2b512(), error)))
        return FALSE;
    if (input->target_fd < 0)
        return TRUE;
    intake->block = g_malloc(BLOCK_BYTES);
    if (input->compression == VR_COMPRESSION_NONE)
        return TRUE;
    if (!sum_begin(&intake->image, EVP_sha256(), error))
        return FALSE;
    intake->inflater = vr_inflater_new(input->compression, input->name, put_out, intake, error);
    return intake->inflater != NULL;
}

static gboolean end_sums(Intake *intake, VrInputSums *sums, GError **error)
{
    guint length = 0;
    sums->size = intake->size;
    if (!sum_end_hex(intake->given, sums->given, error))
        return FALSE;
    if (intake->image && !sum_end_hex(intake->image, sums->image, error))
        return FALSE;
    if (!intake->image && intake->input->target_fd >= 0)
        memcpy(sums->image, sums->given, sizeof sums->image);
    return !intake->blake2b ||
           (EVP_DigestFinal_ex(intake->blake2b, sums->blake2b, &length) == 1 && length == VR_BLAKE2B_BYTES) ||
           no_sum(error);
}

gboolean vr_input_take(const VrInput *input, VrInputSums *sums, GError **error)
{
    g_auto(Intake) intake = {.input = input};
    gssize got;
    memset(sums, 0, sizeof *sums);
    if (!begin(&intake, error))
        return FALSE;
    while ((got = read_some(&intake, error)) > 0)
        if (!take_in(&intake, (gsize)got, error))
            return FALSE;
    return got == 0 && end_out(&intake, error) && end_sums(&intake, sums, error);
}
