/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * .xz, .gz and .zst files as a stream, through their own libraries. As with the tools, members or frames that follow one
 * another are one stream. Stricter than the tools: whatever else follows is refused, and so is an end in the middle.
 */
#pragma once

#include <glib.h>

typedef enum { VR_COMPRESSION_NONE, VR_COMPRESSION_XZ, VR_COMPRESSION_GZIP, VR_COMPRESSION_ZSTD } VrCompression;

/* "none", "xz", "gzip", "zstd". */
const char *vr_compression_name(VrCompression compression);
/* ".xz", ".gz", ".zst"; "" for none. */
const char *vr_compression_suffix(VrCompression compression);

/* What the suffix of a file name promises; *inner (may be NULL) is the name without it, free with g_free. */
VrCompression vr_compression_of_name(const char *name, char **inner);
/* What the first bytes say. */
VrCompression vr_compression_of_bytes(const guint8 *bytes, gsize length);

typedef struct VrInflater VrInflater;

/* Takes a piece of what comes out; FALSE with an error ends it. */
typedef gboolean (*VrInflateSink)(const guint8 *data, gsize length, void *user, GError **error);

/* compression: not NONE; name is for messages and outlives it. Memory: at most 256 MiB (a dictionary or window that needs more is refused). */
VrInflater *vr_inflater_new(VrCompression compression, const char *name, VrInflateSink sink, void *user,
                            GError **error);
void vr_inflater_free(VrInflater *inflater);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrInflater, vr_inflater_free)

/* The next bytes of the stream. What is wrong in them is VR_ERROR_REFUSED. */
gboolean vr_inflater_feed(VrInflater *inflater, const guint8 *data, gsize length, GError **error);
/* Nothing follows: was it whole? */
gboolean vr_inflater_end(VrInflater *inflater, GError **error);
