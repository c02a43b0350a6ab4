/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Yes or no to an image, from its bytes alone, before any other program opens it (SAFETY section 3).
 * A pure function over bounded reads of one descriptor: it opens nothing and writes nothing.
 */
#pragma once

#include <glib.h>

/* Stored with each verdict; raised when a rule is added or made stricter. */
#define VR_IMAGE_RULES_VERSION 3

#define VR_BACKING_NAME_BYTES 1024 /* QEMU block/qcow2.c: 1,023 and the end */

typedef enum { VR_FORMAT_RAW, VR_FORMAT_QCOW2 } VrImageFormat;
const char *vr_image_format_name(VrImageFormat format); /* "raw", "qcow2": as QEMU spells them */
gboolean vr_image_format_parse(const char *name, VrImageFormat *format, GError **error);

/* TRUE when the suffix of a file's name (may be NULL) promises a format: .qcow2 or .raw. */
gboolean vr_image_format_of_name(const char *file_name, VrImageFormat *format);

typedef enum {
    VR_RULE_NONE,
    VR_RULE_EMPTY,  /* no bytes, or too few to be an image */
    VR_RULE_FORMAT, /* is not the format that its name or --format promises; two formats at once; a foreign one */
    VR_RULE_HEADER, /* version, header length, cluster bits, refcount order out of bounds; truncated */
    VR_RULE_BACKING_FILE,
    VR_RULE_DATA_FILE, /* external data file, or its name without its bit */
    VR_RULE_ENCRYPTION,
    VR_RULE_SNAPSHOTS,
    VR_RULE_DIRTY,
    VR_RULE_CORRUPT,
    VR_RULE_UNKNOWN_FEATURE, /* an incompatible bit that we do not know */
    VR_RULE_COMPRESSED,      /* compressed clusters, where the policy does not allow them */
    VR_RULE_TABLES,          /* a table or offset outside the file, misaligned or over the header */
    VR_RULE_SIZE,            /* virtual size 0, odd, above policy, or more than the L1 table maps */
    VR_RULE_BITMAPS,         /* persistent bitmaps that QEMU would not load */
    VR_RULE_TOOL_CORRUPT,    /* qemu-img check finds it corrupt (image_tool.h) */
    VR_RULE_TOOL_REFUSED,    /* qemu-img does not open it, or sees another image than we do */
    VR_RULE_TOOL_DIED,       /* qemu-img died of it: a signal, a limit, its deadline */
    VR_RULE_LAST_
} VrImageRule;

/* The stable name of a rule: "backing-file", "data-file", ... */
const char *vr_image_rule_name(VrImageRule rule);

typedef struct {
    gboolean accepted;
    VrImageRule rule; /* why not, when refused */
    char reason[256]; /* one line for a person, with the numbers; no bytes of the image unescaped */
    VrImageFormat format;
    guint64 file_size;
    guint64 virtual_size;
    guint32 qcow2_version;                    /* 2, 3; 0 for raw */
    guint32 cluster_size;                     /* bytes; 0 for raw */
    guint64 features;                         /* qcow2 incompatible bits */
    guint64 compatible, autoclear;            /* qcow2 bits */
    guint32 refcount_bits;                    /* qcow2: width of a refcount */
    gboolean compressed;                      /* qcow2: some clusters are */
    char backing_name[VR_BACKING_NAME_BYTES]; /* qcow2: as its header has it, unescaped; "": it stands alone */
    char backing_format[16];                  /* likewise; "": it does not say */
} VrImageVerdict;

typedef struct {
    gboolean format_given;
    VrImageFormat format;      /* when given: it must be this */
    const char *file_name;     /* its suffix promises a format (.qcow2, .raw); NULL: none */
    guint64 max_virtual_size;  /* 0 = 64 TiB */
    gboolean allow_compressed; /* for a caller that inflates clusters */
    gboolean allow_backing;    /* for a caller that knows what lies below and does not follow the name */
} VrImagePolicy;

/* FALSE with an error only when the file cannot be read; a refusal is a verdict. */
gboolean vr_image_check(int fd, const VrImagePolicy *policy, VrImageVerdict *verdict, GError **error);

/* VR_ERROR_REFUSED with the verdict's rule and reason about `object`; for callers that want an accepted image. */
gboolean vr_image_verdict_require(const VrImageVerdict *verdict, const char *object, GError **error);

/* What is used of qcow2, by the names of qemu-img's options ("extended-l2", "lazy-refcounts", ...). Free with g_strfreev. */
char **vr_image_verdict_features(const VrImageVerdict *verdict);
