/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the parts of personalisation that know nothing of libguestfs; not for others, but for tests. */
#pragma once

#include "base/child.h"
#include "disk/disk_file.h"
#include "disk/personalize.h"

#define VR_PERSONAL_REPORT_BYTES (256u << 10) /* what the child may say */
#define VR_PERSONAL_RESULT_BYTES (32u << 20)  /* files that were read: VR_GUEST_FILES_MAX_BYTES in base64, and paths */

/* One launch of an appliance. */
typedef struct {
    gboolean kvm;
    guint seconds; /* after which the child ends itself */
    char *work_dir;
    GPtrArray *disks; /* VrPersonal; owned when it was read */
    char **
        read; /* paths that are to be read of the one disk, of which nothing else is asked; NULL: the disks are personalised */
} VrPersonalRequest;

void vr_personal_request_free(VrPersonalRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPersonalRequest, vr_personal_request_free)

/* JSON. To be freed with vr_personal_text_free(), which overwrites it first. */
char *vr_personal_request_write(const VrPersonalRequest *request);
void vr_personal_text_free(char *text);

/* Checks all of it again. */
VrPersonalRequest *vr_personal_request_read(const char *text, gsize length, GError **error);

/* Files that were read, there and back. NULL: a text is no UTF-8, or cannot have come of these paths; limits are those of VR_GUEST_FILES. */
char *vr_personal_files_write(const GPtrArray *files);
GPtrArray *vr_personal_files_read(const char *text, const char *const *paths, GError **error);

/* In a guest: absolute, in its shortest form, of names that a file can have, outside /proc, /sys, /dev, /run and /tmp. */
gboolean vr_personal_path_check(const char *path, GError **error);

/* What a file of this kind may hold; a regular one at most `max` bytes. */
gboolean vr_personal_data_check(const VrGuestFile *file, gsize max, GError **error);

/* What one disk came to, in the words of the child: "begin N", "done N", "fail N CODE TEXT" and at the end "flushed", a line each. */
typedef struct {
    gboolean flushed;
    int current; /* begun and not ended; -1: none */
    gboolean *done;
    GError **errors; /* n each */
    guint n;
} VrPersonalReport;

VrPersonalReport *vr_personal_report_read(const char *text, guint n);
void vr_personal_report_free(VrPersonalReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPersonalReport, vr_personal_report_free)

/* ---- personalize ---- */

/* Whether it can be personalised, as far as can be told from outside. */
gboolean vr_personal_look(const VrPersonal *disk, VrDiskLook *look, GError **error);

gboolean vr_personal_work_dir_check(const char *work_dir, GError **error);

/* What an appliance of n disks may take. */
guint vr_personal_seconds(const VrPersonalizeOptions *options, guint n);

/* ---- personalize_launch ---- */

/* A child that is not restricted by vr_confine(); status 0 is needed. */
gboolean vr_personal_run(const char *const *argv, const VrChildLimits *limits, GError **error);

/* Launches an appliance and waits for its end. NULL with an error: there was not even a child. *died: it did not come to its end.
 * *result: what it read, by vr_personal_files_write(); to be freed with vr_personal_text_free(). NULL where nothing is to be read. */
VrPersonalReport *vr_personal_launch(const VrPersonalRequest *request, const char *helper, const gint *aborted,
                                     char **result, GError **died, GError **error);

/* ---- personalize_appliance ---- */

/* Where the child's program is. Free with g_free. */
char *vr_personal_helper(void);

#define VR_PERSONAL_APPLIANCE "appliance" /* a directory in work_dir */

/* Builds the appliance in work_dir, when it is not there or older than the packages that it is made of. */
gboolean vr_personal_appliance(const char *work_dir, const gint *aborted, GError **error);

/* ---- disk_layout ---- */

/* Reads bytes of a disk. */
typedef gboolean (*VrLayoutRead)(void *data, guint64 at, guint8 *bytes, gsize length);

/* TRUE: everything on it is known to be a plain file system, swap or boot code, so that a copy of it may lie in the same appliance. What is not known is
 * not shared: LVM, md, crypt, btrfs, ZFS, an extended partition, a table that cannot be read. */
gboolean vr_layout_is_plain(VrLayoutRead read, void *data, guint64 size);

/* The same of a disk's file with all that lies below it. */
gboolean vr_disk_is_plain(const char *path, VrImageFormat format);
