/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The order of the questions: is there anything -> which formats do its bytes claim -> which one was promised ->
 * the rules of that format. A raw image has no structure to check, so its rule is what it must not be: the bytes
 * of another format, which some tool would one day probe and follow.
 */
#include "disk/image_check.h"

#include "base/durable.h"
#include "base/error.h"
#include "disk/image_private.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define DEFAULT_MAX_SIZE (G_GUINT64_CONSTANT(64) << 40)

/* ---- names ---- */

const char *vr_image_format_name(VrImageFormat format)
{
    return format == VR_FORMAT_QCOW2 ? "qcow2" : "raw";
}

gboolean vr_image_format_parse(const char *name, VrImageFormat *format, GError **error)
{
    if (g_strcmp0(name, "raw") == 0) {
        *format = VR_FORMAT_RAW;
    } else if (g_strcmp0(name, "qcow2") == 0) {
        *format = VR_FORMAT_QCOW2;
    } else {
        g_autofree char *shown = vr_printable(name, -1);
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "\"%s\" is not an image format: use raw or qcow2", shown);
        return FALSE;
    }
    return TRUE;
}

const char *vr_image_rule_name(VrImageRule rule)
{
    static const char *const names[VR_RULE_LAST_] = {
        [VR_RULE_NONE] = "none",
        [VR_RULE_EMPTY] = "empty",
        [VR_RULE_FORMAT] = "format",
        [VR_RULE_HEADER] = "header",
        [VR_RULE_BACKING_FILE] = "backing-file",
        [VR_RULE_DATA_FILE] = "data-file",
        [VR_RULE_ENCRYPTION] = "encryption",
        [VR_RULE_SNAPSHOTS] = "snapshots",
        [VR_RULE_DIRTY] = "dirty",
        [VR_RULE_CORRUPT] = "corrupt",
        [VR_RULE_UNKNOWN_FEATURE] = "unknown-feature",
        [VR_RULE_COMPRESSED] = "compressed",
        [VR_RULE_TABLES] = "tables",
        [VR_RULE_SIZE] = "size",
        [VR_RULE_BITMAPS] = "bitmaps",
        [VR_RULE_TOOL_CORRUPT] = "tool-corrupt",
        [VR_RULE_TOOL_REFUSED] = "tool-refused",
        [VR_RULE_TOOL_DIED] = "tool-died",
    };
    return (guint)rule < VR_RULE_LAST_ ? names[rule] : "unknown";
}

/* ---- what all formats share ---- */

VrLook vr_image_refuse(VrImageLook *look, VrImageRule rule, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(look->verdict->reason, sizeof look->verdict->reason, format, args);
    va_end(args);
    look->verdict->rule = rule;
    return VR_LOOK_REFUSED;
}

VrLook vr_image_read(VrImageLook *look, void *into, gsize length, guint64 offset)
{
    gsize got;
    if (!look->bytes->read(look->bytes->data, into, length, offset, &got, look->error))
        return VR_LOOK_FAILED;
    return got == length ? VR_LOOK_OK : vr_image_refuse(look, VR_RULE_EMPTY, "it became shorter while it was read");
}

VrLook vr_image_check_virtual_size(VrImageLook *look, guint64 size)
{
    if (size == 0)
        return vr_image_refuse(look, VR_RULE_SIZE, "its virtual size is 0");
    if (size % SECTOR)
        return vr_image_refuse(look, VR_RULE_SIZE,
                               "its virtual size of %" G_GUINT64_FORMAT " bytes is not a multiple of %d", size, SECTOR);
    if (size > look->max_virtual_size)
        return vr_image_refuse(look, VR_RULE_SIZE,
                               "its virtual size of %" G_GUINT64_FORMAT
                               " bytes is above the limit of %" G_GUINT64_FORMAT,
                               size, look->max_virtual_size);
    return VR_LOOK_OK;
}

/* ---- which formats the bytes claim ---- */

typedef struct {
    const char *bytes;
    guint16 length, offset; /* offset from the start of the block that is looked at */
    gboolean at_end;        /* in the last 512 bytes of the file, not the first ones */
    VrImageRule rule;
    const char *name;
} Magic;

#define MAGIC(text) text, sizeof(text) - 1

/* QEMU's own probes (block/...: bdrv_probe) and what is handed around as an "image" by mistake. */
static const Magic magics[] = {
    {MAGIC("KDMV"), 0, FALSE, VR_RULE_FORMAT, "VMDK"},
    {MAGIC("COWD"), 0, FALSE, VR_RULE_FORMAT, "VMDK"},
    {MAGIC("# Disk DescriptorFile"), 0, FALSE, VR_RULE_FORMAT, "VMDK descriptor"},
    {MAGIC("conectix"), 0, FALSE, VR_RULE_FORMAT, "VHD"},
    {MAGIC("conectix"), 0, TRUE, VR_RULE_FORMAT, "VHD (by its footer)"},
    {MAGIC("conectix"), 1, TRUE, VR_RULE_FORMAT, "VHD (by its footer)"}, /* old ones have 511 bytes of it */
    {MAGIC("vhdxfile"), 0, FALSE, VR_RULE_FORMAT, "VHDX"},
    {MAGIC("QED\0"), 0, FALSE, VR_RULE_FORMAT, "QED"},
    {MAGIC("\x7f\x10\xda\xbe"), 0x40, FALSE, VR_RULE_FORMAT, "VDI"},
    {MAGIC("LUKS\xba\xbe"), 0, FALSE, VR_RULE_ENCRYPTION, "LUKS"},
    {MAGIC("WithoutFreeSpace"), 0, FALSE, VR_RULE_FORMAT, "Parallels"},
    {MAGIC("WithouFreSpacExt"), 0, FALSE, VR_RULE_FORMAT, "Parallels"},
    {MAGIC("Bochs Virtual HD Image"), 0, FALSE, VR_RULE_FORMAT, "Bochs"},
    {MAGIC("#!/bin/sh\n#V2.0 Format\nmodprobe cloop"), 0, FALSE, VR_RULE_FORMAT, "cloop"},
    {MAGIC("koly"), 0, TRUE, VR_RULE_FORMAT, "DMG (by its footer)"},
    {MAGIC("\xfd"
           "7zXZ\0"),
     0, FALSE, VR_RULE_FORMAT, "xz (unpack it first)"},
    {MAGIC("\x1f\x8b\x08"), 0, FALSE, VR_RULE_FORMAT, "gzip (unpack it first)"},
    {MAGIC("\x28\xb5\x2f\xfd"), 0, FALSE, VR_RULE_FORMAT, "zstd (unpack it first)"},
};

typedef struct {
    guint8 first[SECTOR], last[SECTOR]; /* zeros where the file is shorter */
    gboolean is_qcow;                   /* "QFI\xfb": also version 1, which the qcow2 rules refuse */
} Ends;

static VrLook read_ends(VrImageLook *look, Ends *ends)
{
    gsize length = (gsize)MIN(look->file_size, SECTOR);
    memset(ends, 0, sizeof *ends);
    VrLook answer = vr_image_read(look, ends->first, length, 0);
    ends->is_qcow = memcmp(ends->first, "QFI\xfb", 4) == 0;
    return answer == VR_LOOK_OK ? vr_image_read(look, ends->last, length, look->file_size - length) : answer;
}

static const Magic *find_foreign(const Ends *ends)
{
    for (gsize i = 0; i < G_N_ELEMENTS(magics); i++) {
        const guint8 *block = magics[i].at_end ? ends->last : ends->first;
        if (memcmp(block + magics[i].offset, magics[i].bytes, magics[i].length) == 0)
            return &magics[i];
    }
    return NULL;
}

/* ---- which one was promised ---- */

gboolean vr_image_format_of_name(const char *file_name, VrImageFormat *format)
{
    const char *dot = file_name ? strrchr(file_name, '.') : NULL;
    if (!dot)
        return FALSE;
    *format = g_ascii_strcasecmp(dot, ".qcow2") == 0 ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW;
    return *format == VR_FORMAT_QCOW2 || g_ascii_strcasecmp(dot, ".raw") == 0;
}

static VrLook check_promise(VrImageLook *look, VrImageFormat promised, const char *by, const Ends *ends)
{
    if (promised == look->verdict->format)
        return VR_LOOK_OK;
    if (ends->is_qcow)
        return vr_image_refuse(look, VR_RULE_FORMAT, "it is qcow2 where %s promises raw", by);
    return vr_image_refuse(look, VR_RULE_FORMAT, "it does not begin as qcow2, which %s promises", by);
}

static VrLook check_format(VrImageLook *look, const VrImagePolicy *policy, const Ends *ends)
{
    VrImageFormat by_name;
    VrLook answer = VR_LOOK_OK;
    const Magic *foreign = find_foreign(ends);
    look->verdict->format = ends->is_qcow ? VR_FORMAT_QCOW2 : VR_FORMAT_RAW;
    if (foreign && ends->is_qcow)
        return vr_image_refuse(look, VR_RULE_FORMAT, "it is two formats at once: qcow2 and %s", foreign->name);
    if (foreign && foreign->rule == VR_RULE_ENCRYPTION)
        return vr_image_refuse(look, VR_RULE_ENCRYPTION, "it is encrypted (%s)", foreign->name);
    if (foreign)
        return vr_image_refuse(look, VR_RULE_FORMAT, "it is %s, neither raw nor qcow2", foreign->name);
    if (policy->format_given)
        answer = check_promise(look, policy->format, "--format", ends);
    if (answer == VR_LOOK_OK && vr_image_format_of_name(policy->file_name, &by_name))
        answer = check_promise(look, by_name, "its name", ends);
    return answer;
}

/* ---- the question ---- */

static VrLook check_raw(VrImageLook *look)
{
    look->verdict->virtual_size = look->file_size;
    if (look->file_size < SECTOR)
        return vr_image_refuse(look, VR_RULE_EMPTY, "its %" G_GUINT64_FORMAT " bytes are less than one sector",
                               look->file_size);
    return vr_image_check_virtual_size(look, look->file_size);
}

static VrLook check_all(VrImageLook *look, const VrImagePolicy *policy)
{
    Ends ends;
    if (look->file_size == 0)
        return vr_image_refuse(look, VR_RULE_EMPTY, "it has no bytes");
    VrLook answer = read_ends(look, &ends);
    if (answer == VR_LOOK_OK)
        answer = check_format(look, policy, &ends);
    if (answer == VR_LOOK_OK)
        answer = ends.is_qcow ? vr_qcow2_check(look) : check_raw(look);
    return answer;
}

gboolean vr_image_check_bytes(const VrImageBytes *bytes, const VrImagePolicy *policy, VrImageVerdict *verdict,
                              GError **error)
{
    static const VrImagePolicy no_policy;
    if (!policy)
        policy = &no_policy;
    *verdict = (VrImageVerdict){.file_size = bytes->size};
    VrImageLook look = {bytes,
                        bytes->size,
                        policy->max_virtual_size ? policy->max_virtual_size : DEFAULT_MAX_SIZE,
                        policy->allow_compressed,
                        policy->allow_backing,
                        verdict,
                        error};
    VrLook answer = check_all(&look, policy);
    verdict->accepted = answer == VR_LOOK_OK;
    return answer != VR_LOOK_FAILED;
}

static gboolean read_fd(void *data, void *into, gsize length, guint64 offset, gsize *got, GError **error)
{
    return vr_pread_all(*(int *)data, into, length, offset, got, error);
}

static guint64 next_data_fd(void *data, guint64 offset)
{
    off_t found = lseek(*(int *)data, (off_t)offset, SEEK_DATA);
    if (found >= 0)
        return (guint64)found;
    return errno == ENXIO ? G_MAXUINT64 : offset; /* a hole up to the end; else it cannot tell: all is data */
}

gboolean vr_image_check(int fd, const VrImagePolicy *policy, VrImageVerdict *verdict, GError **error)
{
    struct stat st;
    *verdict = (VrImageVerdict){0};
    if (fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "cannot look at the image");
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_REFUSED, "an image must be a regular file");
        return FALSE;
    }
    const VrImageBytes bytes = {&fd, (guint64)st.st_size, read_fd, next_data_fd};
    return vr_image_check_bytes(&bytes, policy, verdict, error);
}

/* ---- for a person ---- */

char **vr_image_verdict_features(const VrImageVerdict *verdict)
{
    const struct {
        gboolean has;
        const char *name;
    } rows[] = {
        {(verdict->features & VR_QCOW2_DIRTY) != 0, "dirty"},
        {(verdict->features & VR_QCOW2_CORRUPT) != 0, "corrupt"},
        {(verdict->features & VR_QCOW2_DATA_FILE) != 0, "data-file"},
        {(verdict->features & VR_QCOW2_COMPRESSION) != 0, "zstd"},
        {(verdict->features & VR_QCOW2_EXTENDED_L2) != 0, "extended-l2"},
        {(verdict->features & ~(guint64)VR_QCOW2_KNOWN_FEATURES) != 0, "unknown"},
        {(verdict->compatible & VR_QCOW2_COMPATIBLE_LAZY_REFCOUNTS) != 0, "lazy-refcounts"},
        {(verdict->autoclear & VR_QCOW2_AUTOCLEAR_BITMAPS) != 0, "bitmaps"},
        {verdict->compressed, "compressed"},
    };
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].has)
            g_strv_builder_add(names, rows[i].name);
    return g_strv_builder_end(names);
}

gboolean vr_image_verdict_require(const VrImageVerdict *verdict, const char *object, GError **error)
{
    if (verdict->accepted)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is refused (rule %s): %s", object,
                vr_image_rule_name(verdict->rule), verdict->reason);
    return FALSE;
}
