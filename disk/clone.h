/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A new OS disk that stands alone, and many of them out of one read of the image (rows B6, B13).
 *
 * Each instance of a batch is given a seat and makes its disk in a thread of its own; the last one that asks copies for all (base/gather.h). A
 * seat that will not be used must be freed as soon as that is known.
 */
#pragma once

#include "disk/disk_file.h"
#include "disk/store.h"

typedef struct VrCloneSeat VrCloneSeat;

/* Fills seats[0..n-1]. cancelled: NULL, or set to non-zero by another thread at any time; it outlives the seats. */
void vr_clone_seats_new(VrCloneSeat **seats, guint n, const gint *cancelled);

/* Of the copy that makes it; written and read by several threads, each field by itself and atomically (vr_clone_progress_read). */
typedef struct {
    guint64 bytes_done, bytes_total; /* total 0: it has not begun */
    gint64 begun_ms;                 /* boot-time clock */
} VrCloneProgress;

/* From now on the copy is noted there; it outlives the seat. Before the seat is used. */
void vr_clone_seat_watch(VrCloneSeat *seat, VrCloneProgress *progress);

/* As it is now, from any thread; rate: bytes a second since it began. FALSE: nothing is copied, or all is. */
gboolean vr_clone_progress_read(const VrCloneProgress *progress, VrCloneProgress *now, guint64 *rate);

/* Leaves, if it has not asked. */
void vr_clone_seat_free(VrCloneSeat *seat);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrCloneSeat, vr_clone_seat_free)

/* Makes file `name` in the instance's directory as vr_overlay_create() does, but as a qcow2 without a backing file that has all bytes
 * of the image. Once a seat. An error of the copy is that of all who share it (VR_ERROR_CANCELLED, VR_ERROR_NO_SPACE before
 * anything is written); one of this seat's directory or name is its own. Nothing is left on an error.
 * before is called in the thread of the caller. */
gboolean vr_clone_make(VrCloneSeat *seat, VrStore *store, const char *uuid, const char *name, const VrImage *image,
                       guint64 min_size, VrDiskBefore before, void *data, GError **error);

/* Bytes that one clone takes, at most: of shared blocks (reflink) nothing is known before. */
gboolean vr_clone_bytes(VrStore *store, const VrImage *image, guint64 *bytes, GError **error);
