/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One child an appliance:
 *
 *   who may share an appliance -> a launch -> its report -> who is done when all was flushed -> our own fsync of each disk, and a look that its
 *   header still says what it said
 *
 * A disk may hang or kill the appliance's kernel. Then the one that was worked on fails, and the others of that appliance are done again in a new
 * one: every change is a whole file that takes the place of another, so doing it twice is as good as once. When it dies before any disk
 * was begun, nobody knows whose fault that is, and each gets an appliance of its own. Every round settles at least one disk.
 */
#include "disk/personalize.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/disk_file.h"
#include "disk/personalize_private.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAUNCH_S 120
#define DISK_S 20
#define TCG_FACTOR 5
#define SHARED_BYTES                                                                                                   \
    ((guint64)64                                                                                                       \
     << 20) /* that one appliance writes, but of one disk alone: they are in our memory, and in the child's */

typedef struct {
    const VrPersonalizeOptions *options;
    const VrPersonal *const *disks;
    GError **errors;
    VrDiskLook *looks; /* n: their headers before */
    char *helper;
} Job;

/* ---- one launch ---- */

guint vr_personal_seconds(const VrPersonalizeOptions *options, guint n)
{
    guint factor = options->kvm ? 1 : TCG_FACTOR;
    if (options->timeout_ms > 0)
        return (guint)MAX(1, MIN(options->timeout_ms / 1000, 86400));
    return factor * (LAUNCH_S + n * DISK_S);
}

static VrPersonalReport *launch(const Job *job, const GArray *which, GError **died, GError **error)
{
    VrPersonalRequest request = {.kvm = job->options->kvm,
                                 .seconds = vr_personal_seconds(job->options, which->len),
                                 .work_dir = (char *)job->options->work_dir};
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    for (guint i = 0; i < which->len; i++)
        g_ptr_array_add(disks, (gpointer)job->disks[g_array_index(which, guint, i)]);
    request.disks = disks;
    return vr_personal_launch(&request, job->helper, job->options->aborted, NULL, died, error);
}

/* ---- what it came to ---- */

static gboolean flush(const VrPersonal *disk, GError **error)
{
    vr_autofd fd = open(disk->disk, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        return vr_fsync(fd, disk->disk, error);
    vr_set_error_errno(error, errno, "cannot open it again");
    return FALSE;
}

/* What of a header is another one than before; NULL: nothing. An open disk may be marked dirty. */
static const char *changed(const VrDiskLook *before, const VrDiskLook *now)
{
    if (now->data_file)
        return "it names a file with its data";
    if (g_strcmp0(now->backing, before->backing) != 0)
        return "it names another base";
    if (g_strcmp0(now->backing_format, before->backing_format) != 0)
        return "it names another format of its base";
    if (now->size != before->size)
        return "it gives another size";
    if (now->snapshots != before->snapshots)
        return "it has another number of snapshots";
    if (((now->incompatible ^ before->incompatible) & ~(guint64)VR_QCOW2_DIRTY) || now->autoclear != before->autoclear)
        return "it has other feature bits";
    return NULL;
}

/* Only a QEMU that a guest's file system broke out into could have done it. */
static gboolean look_again(const VrPersonal *disk, const VrDiskLook *before, GError **error)
{
    g_auto(VrDiskLook) now = {0};
    if (!vr_disk_file_look(disk->disk, vr_image_format_name(disk->format), &now, error))
        return FALSE;
    const char *what = changed(before, &now);
    if (what)
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "its header was changed: %s", what);
    return what == NULL;
}

static void settle(const Job *job, guint i, GError *error)
{
    job->errors[i] = error;
    if (error)
        g_prefix_error(&job->errors[i], "cannot personalise %s: ", job->disks[i]->disk);
}

/* What a disk has not (a user, a timezone, a directory) makes the disk one that does not fit what is asked. */
static void settle_ended(const Job *job, guint i, const GError *failed)
{
    GError *error = NULL;
    if (failed)
        error = g_error_new_literal(VR_ERROR, failed->code == VR_ERROR_NOT_FOUND ? VR_ERROR_INVALID : failed->code,
                                    failed->message);
    else if (flush(job->disks[i], &error))
        (void)look_again(job->disks[i], &job->looks[i], &error);
    settle(job, i, error);
}

/* Those who are not settled stay in `which`. */
static void take_report(const Job *job, const VrPersonalReport *report, const GError *died, GArray *which)
{
    for (guint k = which->len; k-- > 0;) {
        guint i = g_array_index(which, guint, k);
        gboolean culprit = died && report->current == (int)k;
        if (culprit)
            settle(job, i, g_error_new(died->domain, died->code, "its appliance ended: %s", died->message));
        else if (report->errors[k] || (report->done[k] && report->flushed))
            settle_ended(job, i, report->errors[k]);
        if (culprit || report->errors[k] || (report->done[k] && report->flushed))
            g_array_remove_index(which, k);
    }
}

static void settle_all(const Job *job, const GArray *which, const GError *error)
{
    for (guint k = 0; k < which->len; k++)
        settle(job, g_array_index(which, guint, k), g_error_copy(error));
}

static gboolean is_final(const GError *died)
{
    return died && died->code == VR_ERROR_CANCELLED;
}

static void do_group(const Job *job, GArray *which);

/* Each of them in one of its own. */
static void do_each(const Job *job, const GArray *which)
{
    for (guint k = 0; k < which->len; k++) {
        g_autoptr(GArray) one = g_array_new(FALSE, FALSE, sizeof(guint));
        g_array_append_val(one, g_array_index(which, guint, k));
        do_group(job, one);
    }
}

static void do_group(const Job *job, GArray *which)
{
    while (which->len > 0) {
        g_autoptr(GError) died = NULL, error = NULL;
        guint before = which->len;
        g_autoptr(VrPersonalReport) report = launch(job, which, &died, &error);
        if (report)
            take_report(job, report, died, which);
        if (which->len == 0)
            return;
        if (!died && !error)
            died = g_error_new_literal(VR_ERROR, VR_ERROR_CHILD, "its appliance ended without a flush of its disks");
        if (error || is_final(died) || (which->len == before && before == 1)) {
            settle_all(job, which, error ? error : died);
            return;
        }
        if (which->len == before) {
            do_each(job, which);
            return;
        }
    }
}

/* ---- all of them ---- */

static gboolean check_one(const VrPersonal *disk, GError **error)
{
    struct stat st;
    if (!vr_personal_check(disk, error))
        return FALSE;
    if (!g_path_is_absolute(disk->disk) || strpbrk(disk->disk, ",\n")) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "the disk '%s' has no absolute path without a comma", disk->disk);
        return FALSE;
    }
    if (lstat(disk->disk, &st) < 0 || !S_ISREG(st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "%s is no file", disk->disk);
        return FALSE;
    }
    return TRUE;
}

gboolean vr_personal_look(const VrPersonal *disk, VrDiskLook *look, GError **error)
{
    if (!check_one(disk, error))
        return FALSE;
    gboolean seen = vr_disk_file_look(disk->disk, vr_image_format_name(disk->format), look, error);
    if (seen && !look->data_file)
        return TRUE;
    if (seen)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "its data is in another file");
    g_prefix_error(error, "cannot personalise %s: ", disk->disk);
    return FALSE;
}

gboolean vr_personal_work_dir_check(const char *work_dir, GError **error)
{
    struct stat st;
    if (g_path_is_absolute(work_dir) && stat(work_dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
        !(st.st_mode & 022))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s is no directory that only we write to", work_dir);
    return FALSE;
}

static gboolean look_at_all(const Job *job, guint n, GError **error)
{
    for (guint i = 0; i < n; i++)
        if (!vr_personal_look(job->disks[i], &job->looks[i], error))
            return FALSE;
    return TRUE;
}

static gboolean check_number(guint n, GError **error)
{
    if (n > 0 && n <= VR_PERSONAL_MAX_DISKS)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%u disks: 1 to %u are personalised at once", n,
                VR_PERSONAL_MAX_DISKS);
    return FALSE;
}

static guint64 bytes_of(const VrPersonal *disk)
{
    const GPtrArray *const lists[] = {disk->host_keys, disk->files, disk->network};
    guint64 bytes = (disk->first_boot ? g_bytes_get_size(disk->first_boot) : 0) +
                    (disk->unattend ? g_bytes_get_size(disk->unattend) : 0);

    for (gsize k = 0; k < G_N_ELEMENTS(lists); k++)
        for (guint i = 0; i < lists[k]->len; i++)
            bytes += g_bytes_get_size(((const VrGuestFile *)lists[k]->pdata[i])->data);
    return bytes;
}

/* As many at a time as SHARED_BYTES allows. */
static void do_shared(const Job *job, const GArray *shared)
{
    for (guint k = 0; k < shared->len;) {
        g_autoptr(GArray) some = g_array_new(FALSE, FALSE, sizeof(guint));
        guint64 bytes = 0;
        for (; k < shared->len; k++) {
            guint i = g_array_index(shared, guint, k);
            bytes += bytes_of(job->disks[i]);
            if (some->len > 0 && bytes > SHARED_BYTES)
                break;
            g_array_append_val(some, i);
        }
        do_group(job, some);
    }
}

static gboolean do_all(const Job *job, guint n)
{
    g_autoptr(GArray) shared = g_array_new(FALSE, FALSE, sizeof(guint));
    g_autoptr(GArray) alone = g_array_new(FALSE, FALSE, sizeof(guint));
    gboolean all = TRUE;

    for (guint i = 0; i < n; i++)
        if (n > 1 && vr_disk_is_plain(job->disks[i]->disk, job->disks[i]->format))
            g_array_append_val(shared, i);
        else
            g_array_append_val(alone, i);
    do_shared(job, shared);
    do_each(job, alone);
    for (guint i = 0; i < n; i++)
        all = all && !job->errors[i];
    return all;
}

gboolean vr_personalize(const VrPersonal *const *disks, guint n, const VrPersonalizeOptions *options, GError **errors,
                        GError **error)
{
    g_autofree char *helper = options->helper ? g_strdup(options->helper) : vr_personal_helper();
    Job job = {options, disks, errors, NULL, helper};

    if (!check_number(n, error) || !vr_personal_work_dir_check(options->work_dir, error))
        return FALSE;
    memset(errors, 0, n * sizeof *errors);
    job.looks = g_new0(VrDiskLook, n);
    gboolean all = look_at_all(&job, n, error) && vr_personal_appliance(options->work_dir, options->aborted, error) &&
                   do_all(&job, n);
    for (guint i = 0; i < n; i++)
        vr_disk_look_clear(&job.looks[i]);
    g_free(job.looks);
    return all;
}
