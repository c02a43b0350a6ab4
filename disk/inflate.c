/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk/inflate.h"

#include "base/error.h"

#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define OUT_BYTES (256 * 1024)
#define MAX_MEMORY ((guint64)256 * 1024 * 1024)
#define ZSTD_WINDOW_LOG 27 /* 128 MiB, as the tool has it */

typedef struct {
    VrCompression compression;
    const char *name, *suffix;
    const guint8 *magic;
    gsize magic_bytes;
    gboolean (*begin)(VrInflater *inflater);
    gboolean (*feed)(VrInflater *inflater, const guint8 *data, gsize length, GError **error);
    gboolean (*end)(VrInflater *inflater, GError **error);
    void (*clear)(VrInflater *inflater);
} Kind;

struct VrInflater {
    const Kind *kind;
    const char *name; /* not owned */
    VrInflateSink sink;
    void *user;
    guint8 *out;      /* OUT_BYTES */
    guint members;    /* that ended */
    gboolean between; /* the last byte ended one */
    lzma_stream xz;
    z_stream gzip;
    ZSTD_DCtx *zstd;
};

static gboolean refuse(const VrInflater *inflater, const char *what, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s: %s: %s", inflater->name, inflater->kind->name, what);
    return FALSE;
}

static gboolean refuse_bytes(const VrInflater *inflater, GError **error)
{
    return refuse(inflater,
                  inflater->members ? "something else follows the end of the compressed data" : "it is damaged", error);
}

static gboolean give(VrInflater *inflater, gsize length, GError **error)
{
    return length == 0 || inflater->sink(inflater->out, length, inflater->user, error);
}

/* ---- xz ---- */

static gboolean xz_begin(VrInflater *inflater)
{
    return lzma_stream_decoder(&inflater->xz, MAX_MEMORY, LZMA_CONCATENATED | LZMA_TELL_UNSUPPORTED_CHECK) == LZMA_OK;
}

static gboolean xz_refuse(const VrInflater *inflater, lzma_ret result, GError **error)
{
    switch (result) {
    case LZMA_MEMLIMIT_ERROR:
        return refuse(inflater, "it needs more than 256 MiB of memory", error);
    case LZMA_OPTIONS_ERROR:
    case LZMA_UNSUPPORTED_CHECK:
        return refuse(inflater, "it uses a filter or a check that is not supported", error);
    case LZMA_FORMAT_ERROR:
        return refuse(inflater, "it is no .xz file", error);
    case LZMA_BUF_ERROR:
        return refuse(inflater, "it is truncated, or a few bytes follow its end", error);
    case LZMA_MEM_ERROR:
        return refuse(inflater, "there is no memory for it", error);
    default:
        return refuse(inflater, "it is damaged, or something else follows its end", error);
    }
}

/* liblzma goes over from one stream to the next by itself, and only knows the end when it is told of it. */
static gboolean xz_run(VrInflater *inflater, lzma_action action, GError **error)
{
    lzma_stream *xz = &inflater->xz;
    lzma_ret result;
    do {
        xz->next_out = inflater->out;
        xz->avail_out = OUT_BYTES;
        result = lzma_code(xz, action);
        if (!give(inflater, OUT_BYTES - xz->avail_out, error))
            return FALSE;
    } while (result == LZMA_OK && (xz->avail_in > 0 || xz->avail_out == 0 || action == LZMA_FINISH));
    if (result == LZMA_STREAM_END || (action == LZMA_RUN && (result == LZMA_OK || result == LZMA_BUF_ERROR)))
        return TRUE;
    return xz_refuse(inflater, result, error);
}

static gboolean xz_feed(VrInflater *inflater, const guint8 *data, gsize length, GError **error)
{
    inflater->xz.next_in = data;
    inflater->xz.avail_in = length;
    return xz_run(inflater, LZMA_RUN, error);
}

static gboolean xz_end(VrInflater *inflater, GError **error)
{
    inflater->xz.avail_in = 0;
    return xz_run(inflater, LZMA_FINISH, error);
}

static void xz_clear(VrInflater *inflater)
{
    lzma_end(&inflater->xz);
}

/* ---- gzip ---- */

static gboolean gzip_begin(VrInflater *inflater)
{
    return inflateInit2(&inflater->gzip, 16 + MAX_WBITS) == Z_OK; /* 16: gzip and nothing else */
}

static gboolean gzip_feed(VrInflater *inflater, const guint8 *data, gsize length, GError **error)
{
    z_stream *gzip = &inflater->gzip;
    gzip->next_in = (Bytef *)(gpointer)data; /* zlib reads it only */
    gzip->avail_in = (uInt)length;
    do {
        if (inflater->between && (gzip->avail_in == 0 || inflateReset(gzip) != Z_OK))
            break;
        inflater->between = FALSE;
        gzip->next_out = inflater->out;
        gzip->avail_out = OUT_BYTES;
        int result = inflate(gzip, Z_NO_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            return refuse_bytes(inflater, error);
        if (!give(inflater, OUT_BYTES - gzip->avail_out, error))
            return FALSE;
        inflater->between = result == Z_STREAM_END;
        inflater->members += inflater->between;
    } while (gzip->avail_in > 0 || gzip->avail_out == 0);
    return TRUE;
}

static gboolean member_end(VrInflater *inflater, GError **error)
{
    return (inflater->members > 0 && inflater->between) || refuse(inflater, "it is truncated", error);
}

static void gzip_clear(VrInflater *inflater)
{
    inflateEnd(&inflater->gzip);
}

/* ---- zstd ---- */

static gboolean zstd_begin(VrInflater *inflater)
{
    inflater->zstd = ZSTD_createDCtx();
    return inflater->zstd &&
           !ZSTD_isError(ZSTD_DCtx_setParameter(inflater->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
}

static gboolean zstd_refuse(const VrInflater *inflater, size_t result, GError **error)
{
    if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge)
        return refuse(inflater, "it needs a window of more than 128 MiB (it was made with --long or --ultra)", error);
    return refuse_bytes(inflater, error);
}

static gboolean zstd_feed(VrInflater *inflater, const guint8 *data, gsize length, GError **error)
{
    ZSTD_inBuffer in = {data, length, 0};
    gboolean full = FALSE;
    while (in.pos < in.size || (full && !inflater->between)) {
        ZSTD_outBuffer out = {inflater->out, OUT_BYTES, 0};
        size_t result = ZSTD_decompressStream(inflater->zstd, &out, &in);
        if (ZSTD_isError(result))
            return zstd_refuse(inflater, result, error);
        if (!give(inflater, out.pos, error))
            return FALSE;
        full = out.pos == out.size;
        inflater->between = result == 0;
        inflater->members += inflater->between;
    }
    return TRUE;
}

static void zstd_clear(VrInflater *inflater)
{
    ZSTD_freeDCtx(inflater->zstd);
}

/* ---- which ---- */

static const guint8 xz_magic[] = {0xfd, '7', 'z', 'X', 'Z', 0x00};
static const guint8 gzip_magic[] = {0x1f, 0x8b, 0x08};
static const guint8 zstd_magic[] = {0x28, 0xb5, 0x2f, 0xfd};

static const Kind kinds[] = {
    {VR_COMPRESSION_XZ, "xz", ".xz", xz_magic, sizeof xz_magic, xz_begin, xz_feed, xz_end, xz_clear},
    {VR_COMPRESSION_GZIP, "gzip", ".gz", gzip_magic, sizeof gzip_magic, gzip_begin, gzip_feed, member_end, gzip_clear},
    {VR_COMPRESSION_ZSTD, "zstd", ".zst", zstd_magic, sizeof zstd_magic, zstd_begin, zstd_feed, member_end, zstd_clear},
};

static const Kind *kind_of(VrCompression compression)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (kinds[i].compression == compression)
            return &kinds[i];
    return NULL;
}

const char *vr_compression_name(VrCompression compression)
{
    const Kind *kind = kind_of(compression);
    return kind ? kind->name : "none";
}

const char *vr_compression_suffix(VrCompression compression)
{
    const Kind *kind = kind_of(compression);
    return kind ? kind->suffix : "";
}

VrCompression vr_compression_of_name(const char *name, char **inner)
{
    const Kind *kind = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_str_has_suffix(name, kinds[i].suffix))
            kind = &kinds[i];
    if (inner)
        *inner = g_strndup(name, strlen(name) - (kind ? strlen(kind->suffix) : 0));
    return kind ? kind->compression : VR_COMPRESSION_NONE;
}

VrCompression vr_compression_of_bytes(const guint8 *bytes, gsize length)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (length >= kinds[i].magic_bytes && memcmp(bytes, kinds[i].magic, kinds[i].magic_bytes) == 0)
            return kinds[i].compression;
    return VR_COMPRESSION_NONE;
}

/* ---- a stream ---- */

VrInflater *vr_inflater_new(VrCompression compression, const char *name, VrInflateSink sink, void *user, GError **error)
{
    g_autoptr(VrInflater) inflater = g_new0(VrInflater, 1);
    inflater->kind = kind_of(compression);
    inflater->name = name;
    inflater->sink = sink;
    inflater->user = user;
    inflater->out = g_malloc(OUT_BYTES);
    if (inflater->kind && inflater->kind->begin(inflater))
        return g_steal_pointer(&inflater);
    g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s: %s cannot be inflated here", name,
                vr_compression_name(compression));
    return NULL;
}

void vr_inflater_free(VrInflater *inflater)
{
    if (!inflater)
        return;
    if (inflater->kind)
        inflater->kind->clear(inflater);
    g_free(inflater->out);
    g_free(inflater);
}

gboolean vr_inflater_feed(VrInflater *inflater, const guint8 *data, gsize length, GError **error)
{
    return length == 0 || inflater->kind->feed(inflater, data, length, error);
}

gboolean vr_inflater_end(VrInflater *inflater, GError **error)
{
    return inflater->kind->end(inflater, error);
}
