/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ROOT/reserve: room that a full disk gives back. A rollback, an undo, a recovery and gc write some 200 KiB (the journal, its log,
 * two XML files), and are the very things that are wanted when guests have filled the disk (SAFETY invariant 15). So a file of 1 MiB, of which
 * nothing but its blocks counts, is made while there is plenty, and unlinked when there is next to nothing; the next process that
 * finds plenty again makes it anew. All of it is best effort: who has no reserve gets the error that he would have got without.
 */
#include "disk/store_private.h"

#include "base/durable.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "reserve"
#define RESERVE_BYTES (1024 * 1024)
#define TAKE_BELOW (512 * 1024)
#define MAKE_FROM (8 * RESERVE_BYTES)

static void make(VrStore *store)
{
    struct stat st;
    vr_autofd fd = -1;

    if (fstatat(store->root_fd, NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_blocks * 512 >= RESERVE_BYTES)
        return;
    fd = vr_open_beneath(store->root_fd, NAME, O_WRONLY | O_CREAT, 0600, NULL);
    if (fd >= 0)
        (void)fallocate(fd, 0, 0, RESERVE_BYTES);
}

void vr_store_reserve(VrStore *store)
{
    guint64 room;

    if (!vr_store_free_bytes(store, &room, NULL))
        return;
    if (room >= MAKE_FROM)
        make(store);
    else if (room < TAKE_BELOW && unlinkat(store->root_fd, NAME, 0) == 0)
        vr_warning(store->root, "the disk is full: the reserve of %d KiB is used now; make room with 'virt-reimage gc'",
                   RESERVE_BYTES / 1024);
}
