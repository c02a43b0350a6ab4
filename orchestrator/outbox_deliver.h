/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Delivery of notices (outbox.h), by one process at a time and never by one that runs something.
 *
 * Where they go is said by the configuration of the host (config.h). Each place is a channel: the journal of systemd, the webhook, each program in the
 * directory of hooks. A deliverer first plans what is new: one row for each notice and channel that is there by then. Then each channel gets
 * its notices in the order in which they were written. A notice is marked as delivered after the channel took it, so a deliverer that is killed in
 * between delivers it once more: at least once, and by its id a receiver knows that it has it.
 *
 * A channel that fails waits as a whole, 5 s and twice as long each time, up to 10 min, and keeps no other channel. After 24 h a notice is given up,
 * of more than 1,000 that wait the oldest are, and so is what a receiver says it will never take. The wall clock counts, since these times outlive
 * processes and boots; one that was set back makes nobody wait longer than 10 min.
 *
 * At the end the lock is given back and the outbox looked at once more: who wrote meanwhile and found the lock taken has left it to us.
 */
#pragma once

#include "orchestrator/config.h"
#include "orchestrator/outbox.h"

#define VR_DELIVERY_AGE_US (24 * 3600 * (gint64)G_USEC_PER_SEC)
#define VR_DELIVERY_FIRST_US (5 * (gint64)G_USEC_PER_SEC)
#define VR_DELIVERY_MOST_US (600 * (gint64)G_USEC_PER_SEC)

typedef struct VrChannel VrChannel;
struct VrChannel {
    char *name;             /* "journal", "webhook", "hook/NAME" */
    char *path;             /* of a hook; NULL else */
    const VrConfig *config; /* not owned */
    /* Hands one over, within 30 s. VR_ERROR_REFUSED: it will never be taken; another error: not now. */
    gboolean (*send)(const VrChannel *channel, const VrOutboxNotice *notice, GError **error);
    /* Could it be asked, as far as this host can say? send() asks first. NULL: always. */
    gboolean (*check)(const VrChannel *channel, GError **error);
};

/* Those that are there now, in the order in which they are served. Element: VrChannel *, freed with the array; config outlives it. */
GPtrArray *vr_outbox_channels(const VrConfig *config);

/* Delivers what is due, to all of them. Where another process is at it: does nothing. root_fd: the store. A channel that fails is no error. */
gboolean vr_outbox_deliver(VrDb *db, int root_fd, const VrConfig *config, GError **error);

/* When the next delivery is due, wall clock, not before now; 0: nothing waits, or nobody is there to be told. */
gboolean vr_outbox_next(VrDb *db, const VrConfig *config, gint64 *next_us, GError **error);
