/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way of one disk, with what is done by its own thread and what by one thread for all:
 *
 *   own    locked temp directory in disks/UUID -> empty file there, 0600
 *   all    the image is opened (no path is followed after that: a version that goes meanwhile is still read whole) and checked by
 *          the rules of now -> enough space for all -> one vr_convert() to all files of one size, which flushes them
 *   own    our own look at the header: that size, nothing behind it -> the caller is told which file it is -> rename without
 *          replacing
 */
#include "disk/clone.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/gather.h"
#include "disk/convert.h"
#include "disk/copy_private.h"
#include "disk/new_disk.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define KEPT_FREE VR_STORE_KEPT_FREE

struct VrCloneSeat {
    VrGatherSeat *seat;
    VrCloneProgress *progress; /* may be NULL */
};

typedef struct {
    VrStore *store;
    const VrImage *image;
    guint64 size;
    int fd;                    /* the file is whole and flushed when the request was granted */
    VrCloneProgress *progress; /* may be NULL */
} Request;

/* ---- the copy ---- */

static gboolean plan_bytes(const VrConvertJob *job, guint64 *bytes, GError **error)
{
    VrConvertPlan plan;
    if (!vr_convert_plan(job, &plan, error))
        return FALSE;
    *bytes = plan.file_size;
    return TRUE;
}

/* A file system that is filled to its end stops the guests that run on it. */
static gboolean check_space(VrStore *store, const VrConvertJob *job, GError **error)
{
    guint64 each, available;
    if (!plan_bytes(job, &each, error) || !vr_store_free_bytes(store, &available, error))
        return FALSE;
    guint64 needed = each * job->copy.n_targets + KEPT_FREE;
    if (available >= needed)
        return TRUE;
    g_autofree char *have = g_format_size_full(available, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *need = g_format_size_full(needed, G_FORMAT_SIZE_IEC_UNITS);
    g_set_error(error, VR_ERROR, VR_ERROR_NO_SPACE, "%s has %s free and %s are needed for %u full clone%s",
                vr_store_root(store), have, need, job->copy.n_targets, job->copy.n_targets == 1 ? "" : "s");
    return FALSE;
}

static int open_image(VrStore *store, const VrImage *image, GError **error)
{
    g_autoptr(GError) local = NULL;
    int fd = vr_image_open_disk(store, image, &local);
    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        g_prefix_error(&local, "the version was deleted meanwhile: ");
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    return fd;
}

/* ---- how far it is ---- */

static const Request *request_of(const GPtrArray *asks, guint i)
{
    return vr_gather_what(g_ptr_array_index(asks, i));
}

/* To all that share the copy: data is their asks. */
static void note_progress(const VrCopyProgress *progress, void *data)
{
    const GPtrArray *alike = data;
    for (guint i = 0; i < alike->len; i++) {
        VrCloneProgress *one = request_of(alike, i)->progress;
        if (!one)
            continue;
        if (__atomic_load_n(&one->begun_ms, __ATOMIC_RELAXED) == 0)
            __atomic_store_n(&one->begun_ms, vr_clock_now_ms(), __ATOMIC_RELAXED);
        __atomic_store_n(&one->bytes_done, progress->bytes_done, __ATOMIC_RELAXED);
        __atomic_store_n(&one->bytes_total, progress->bytes_total, __ATOMIC_RELEASE);
    }
}

void vr_clone_seat_watch(VrCloneSeat *seat, VrCloneProgress *progress)
{
    __atomic_store_n(&progress->bytes_total, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&progress->bytes_done, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&progress->begun_ms, 0, __ATOMIC_RELAXED);
    seat->progress = progress;
}

gboolean vr_clone_progress_read(const VrCloneProgress *progress, VrCloneProgress *now, guint64 *rate)
{
    gint64 took_ms;
    now->bytes_total = __atomic_load_n(&progress->bytes_total, __ATOMIC_ACQUIRE);
    now->bytes_done = __atomic_load_n(&progress->bytes_done, __ATOMIC_RELAXED);
    now->begun_ms = __atomic_load_n(&progress->begun_ms, __ATOMIC_RELAXED);
    took_ms = vr_clock_now_ms() - now->begun_ms;
    *rate = took_ms > 0 ? now->bytes_done * 1000 / (guint64)took_ms : 0;
    return now->bytes_total > 0 && now->bytes_done < now->bytes_total;
}

/* To n files of one size. */
static gboolean copy_to(const GPtrArray *alike, const int *targets, guint n, const gint *cancelled, GError **error)
{
    const Request *like = request_of(alike, 0);
    vr_autofd source = open_image(like->store, like->image, error);
    const VrConvertLink link = {source, like->image->format};
    const VrConvertJob job = {.links = &link,
                              .n_links = 1,
                              .format = VR_FORMAT_QCOW2,
                              .virtual_size = like->size,
                              .copy = {.targets = targets,
                                       .n_targets = n,
                                       .cancelled = cancelled,
                                       .progress = note_progress,
                                       .progress_data = (void *)alike}};
    return source >= 0 && vr_image_require(like->store, like->image, error) && check_space(like->store, &job, error) &&
           vr_convert(&job, NULL, NULL, error);
}

static gboolean is_alike(const Request *a, const Request *b)
{
    return a->size == b->size && strcmp(a->image->path, b->image->path) == 0;
}

/* Takes those that are like the first out of the round, as many as one read can write. Element: VrGatherAsk *. */
static GPtrArray *take_alike(GPtrArray *round)
{
    GPtrArray *alike = g_ptr_array_new();
    const Request *first = request_of(round, 0);
    for (guint i = 0; i < round->len && alike->len < VR_COPY_TARGETS;) {
        if (is_alike(first, request_of(round, i)))
            g_ptr_array_add(alike, g_ptr_array_remove_index(round, i));
        else
            i++;
    }
    return alike;
}

static void copy_alike(VrGather *gather, const GPtrArray *alike, const gint *cancelled)
{
    int targets[VR_COPY_TARGETS];
    g_autoptr(GError) error = NULL;
    for (guint i = 0; i < alike->len; i++)
        targets[i] = request_of(alike, i)->fd;
    (void)copy_to(alike, targets, alike->len, cancelled, &error);
    for (guint i = 0; i < alike->len; i++)
        vr_gather_settle(gather, g_ptr_array_index(alike, i), error ? g_error_copy(error) : NULL);
}

static void copy_all(VrGather *gather, GPtrArray *round, void *cancelled)
{
    while (round->len > 0) {
        g_autoptr(GPtrArray) alike = take_alike(round);
        copy_alike(gather, alike, cancelled);
    }
}

/* ---- seats ---- */

void vr_clone_seats_new(VrCloneSeat **seats, guint n, const gint *cancelled)
{
    const VrGatherRules rules = {copy_all, (void *)cancelled, NULL, cancelled, "the copy"};
    g_autofree VrGatherSeat **gathered = g_new0(VrGatherSeat *, n);
    vr_gather_new(gathered, n, &rules);
    for (guint i = 0; i < n; i++) {
        seats[i] = g_new0(VrCloneSeat, 1);
        seats[i]->seat = gathered[i];
    }
}

void vr_clone_seat_free(VrCloneSeat *seat)
{
    if (seat)
        vr_gather_free(seat->seat);
    g_free(seat);
}

/* ---- one disk ---- */

gboolean vr_clone_make(VrCloneSeat *seat, VrStore *store, const char *uuid, const char *name, const VrImage *image,
                       guint64 min_size, VrDiskBefore before, void *data, GError **error)
{
    g_auto(VrNewDisk) disk = {0};
    vr_autofd fd = vr_new_disk_begin(&disk, store, uuid, name, error) ? vr_new_disk_create(&disk, error) : -1;
    if (fd < 0) {
        vr_gather_leave(seat->seat);
        return FALSE;
    }
    Request request = {store, image, vr_new_disk_size(image, min_size), fd, seat->progress};
    gboolean copied = vr_gather_ask(seat->seat, &request, error);
    if (seat->progress)
        __atomic_store_n(&seat->progress->bytes_total, 0, __ATOMIC_RELEASE); /* nothing is under way any more */
    if (copied && vr_new_disk_stands_alone(fd, request.size, error) && vr_new_disk_end(&disk, fd, before, data, error))
        return TRUE;
    g_prefix_error(error, "cannot make %s/%s as a full clone of %s %s: ", disk.dir_path, name, image->name,
                   image->version);
    return FALSE;
}

gboolean vr_clone_bytes(VrStore *store, const VrImage *image, guint64 *bytes, GError **error)
{
    vr_autofd source = open_image(store, image, error);
    const VrConvertLink link = {source, image->format};
    const VrConvertJob job = {.links = &link, .n_links = 1, .format = VR_FORMAT_QCOW2};
    return source >= 0 && plan_bytes(&job, bytes, error);
}
