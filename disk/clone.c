/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way of one disk, with what is done by its own thread and what by one thread for all:
 *
 *   own    locked temp directory in disks/UUID -> empty file there, 0600
 *   all    the image is opened (no path is followed after that: a version that goes meanwhile is still read whole) and checked by
 *          the rules of now -> enough space for all -> one vr_convert() to all files of one size, which flushes them
 *   own    our own look at the header: that size, nothing behind it -> the caller is told which file it is -> rename without
 *          replacing
 *
 * One lock a group. A request lies on the stack of the thread that asks; while it waits it is in `waiting`, and who copies
 * takes it out of there. It may go when `done` is set, or when its own thread took it out of `waiting`.
 */
#include "disk/clone.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/convert.h"
#include "disk/copy_private.h"
#include "disk/new_disk.h"
#include "disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define POLL_NS 100000000 /* how soon a cancel is heard by one who waits */
#define KEPT_FREE VR_STORE_KEPT_FREE

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const gint *cancelled;
    guint seats;        /* that are not freed; the last one frees this */
    guint expected;     /* seats that neither asked nor left */
    GPtrArray *waiting; /* Request * */
    gboolean copying;   /* some thread copies for those that are not in `waiting` any more */
} Group;

struct VrCloneSeat {
    Group *group;
    gboolean spent; /* it asked or left; used by its own thread only */
};

typedef struct {
    VrStore *store;
    const VrImage *image;
    guint64 size;
    int fd;
    gint64 deadline_ms;
    gboolean done;
    GError *error; /* valid when done; NULL: the file is whole and flushed */
} Request;

/* ---- seats ---- */

static Group *group_new(guint seats, const gint *cancelled)
{
    Group *group = g_new0(Group, 1);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    group->cancelled = cancelled;
    group->seats = group->expected = seats;
    group->waiting = g_ptr_array_new();
    return group;
}

static void group_free(Group *group)
{
    pthread_cond_destroy(&group->changed);
    pthread_mutex_destroy(&group->lock);
    g_ptr_array_unref(group->waiting);
    g_free(group);
}

void vr_clone_seats_new(VrCloneSeat **seats, guint n, const gint *cancelled)
{
    Group *group = n > 0 ? group_new(n, cancelled) : NULL;
    for (guint i = 0; i < n; i++) {
        seats[i] = g_new0(VrCloneSeat, 1);
        seats[i]->group = group;
    }
}

/* With the lock. */
static void spend(VrCloneSeat *seat)
{
    if (seat->spent)
        return;
    seat->spent = TRUE;
    seat->group->expected--;
    pthread_cond_broadcast(&seat->group->changed);
}

static void leave(VrCloneSeat *seat)
{
    pthread_mutex_lock(&seat->group->lock);
    spend(seat);
    pthread_mutex_unlock(&seat->group->lock);
}

void vr_clone_seat_free(VrCloneSeat *seat)
{
    if (!seat)
        return;
    Group *group = seat->group;
    pthread_mutex_lock(&group->lock);
    spend(seat);
    gboolean last = --group->seats == 0;
    pthread_mutex_unlock(&group->lock);
    if (last)
        group_free(group);
    g_free(seat);
}

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

/* To n files of one size. */
static gboolean copy_to(const Request *like, const int *targets, guint n, const gint *cancelled, GError **error)
{
    vr_autofd source = open_image(like->store, like->image, error);
    const VrConvertLink link = {source, like->image->format};
    const VrConvertJob job = {.links = &link,
                              .n_links = 1,
                              .format = VR_FORMAT_QCOW2,
                              .virtual_size = like->size,
                              .copy = {.targets = targets, .n_targets = n, .cancelled = cancelled}};
    return source >= 0 && vr_image_require(like->store, like->image, error) && check_space(like->store, &job, error) &&
           vr_convert(&job, NULL, NULL, error);
}

static gboolean is_alike(const Request *a, const Request *b)
{
    return a->size == b->size && strcmp(a->image->path, b->image->path) == 0;
}

/* Takes those that are like the first out of the round, as many as one read can write. Element: Request *. */
static GPtrArray *take_alike(GPtrArray *round)
{
    GPtrArray *alike = g_ptr_array_new();
    const Request *first = g_ptr_array_index(round, 0);
    for (guint i = 0; i < round->len && alike->len < VR_COPY_TARGETS;) {
        if (is_alike(first, g_ptr_array_index(round, i)))
            g_ptr_array_add(alike, g_ptr_array_remove_index(round, i));
        else
            i++;
    }
    return alike;
}

static void copy_alike(Group *group, GPtrArray *alike)
{
    int targets[VR_COPY_TARGETS];
    g_autoptr(GError) error = NULL;
    for (guint i = 0; i < alike->len; i++)
        targets[i] = ((const Request *)g_ptr_array_index(alike, i))->fd;
    (void)copy_to(g_ptr_array_index(alike, 0), targets, alike->len, group->cancelled, &error);
    pthread_mutex_lock(&group->lock);
    for (guint i = 0; i < alike->len; i++) {
        Request *request = g_ptr_array_index(alike, i);
        request->error = error ? g_error_copy(error) : NULL;
        request->done = TRUE;
    }
    pthread_cond_broadcast(&group->changed);
    pthread_mutex_unlock(&group->lock);
}

/* For all that wait now. With the lock, which is given up while it copies. */
static void lead(Group *group)
{
    g_autoptr(GPtrArray) round = group->waiting;
    group->waiting = g_ptr_array_new();
    group->copying = TRUE;
    pthread_mutex_unlock(&group->lock);
    while (round->len > 0) {
        g_autoptr(GPtrArray) alike = take_alike(round);
        copy_alike(group, alike);
    }
    pthread_mutex_lock(&group->lock);
    group->copying = FALSE;
    pthread_cond_broadcast(&group->changed);
}

/* ---- who asks ---- */

static void wait_a_moment(Group *group)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += POLL_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&group->changed, &group->lock, &until);
}

/* It waits and nobody has begun to copy for it. */
static gboolean gives_up(Group *group, Request *request)
{
    const VrCopyJob asked = {.cancelled = group->cancelled};
    GError *cancelled = NULL;
    if (!vr_copy_is_cancelled(&asked, &cancelled))
        return FALSE;
    if (!g_ptr_array_remove(group->waiting, request)) {
        g_error_free(cancelled);
        return FALSE; /* the copy hears it by itself */
    }
    request->error = cancelled;
    return TRUE;
}

static gboolean ask(VrCloneSeat *seat, Request *request, GError **error)
{
    Group *group = seat->group;
    pthread_mutex_lock(&group->lock);
    g_ptr_array_add(group->waiting, request);
    request->deadline_ms = vr_clock_now_ms() + VR_CLONE_GATHER_MS;
    spend(seat);
    while (!request->done && !gives_up(group, request)) {
        gboolean others_may_come = group->expected > 0 && vr_clock_now_ms() < request->deadline_ms;
        if (group->copying || others_may_come)
            wait_a_moment(group);
        else
            lead(group);
    }
    pthread_mutex_unlock(&group->lock);
    if (!request->error)
        return TRUE;
    g_propagate_error(error, request->error);
    return FALSE;
}

/* ---- one disk ---- */

gboolean vr_clone_make(VrCloneSeat *seat, VrStore *store, const char *uuid, const char *name, const VrImage *image,
                       guint64 min_size, VrDiskBefore before, void *data, GError **error)
{
    g_auto(VrNewDisk) disk = {0};
    vr_autofd fd = vr_new_disk_begin(&disk, store, uuid, name, error) ? vr_new_disk_create(&disk, error) : -1;
    if (fd < 0) {
        leave(seat);
        return FALSE;
    }
    Request request = {.store = store, .image = image, .size = vr_new_disk_size(image, min_size), .fd = fd};
    if (ask(seat, &request, error) && vr_new_disk_stands_alone(fd, request.size, error) &&
        vr_new_disk_end(&disk, fd, before, data, error))
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
