/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A store with one image, one scripted domain with an OS disk and a data disk, an engine on them. */
#pragma once

#include "engine/recover.h"
#include "engine/swap.h"
#include "fault/fake_hv.h"

typedef struct {
    char *top; /* temp directory: root/, hv/, old.raw, data.raw */
    char *old_path, *data_path, *hv_dir, *root;
    char *run_dir; /* of the scripted hypervisor; NULL: hv_dir */
    char old_digest[VR_DIGEST_HEX_LENGTH + 1], data_digest[VR_DIGEST_HEX_LENGTH + 1];
    VrStore *store;
    VrJournal *journal;
    VrOwner *owner;
    VrImage *image;
    FakeHv *fake;
    VrEngine engine;
    gboolean full;              /* new disks are full clones */
    VrCloneSeat *seat;          /* of the last one */
    guint model_revision;       /* of the next swaps */
    const VrSeed *seed;         /* likewise; NULL: none */
    const VrPersonal *personal; /* likewise, as the two below */
    const VrCarryOver *carry;
    VrPersonalSeat *personal_seat; /* not owned */
    gboolean is_discard_late;      /* the disk of a discarded generation may be there until a recovery */
} World;

/* Makes everything; the guest runs on old.raw (or is off). */
World *world_new(gboolean running);
/* The same with a UEFI guest: `os` is what its <os> has beside the type, the first %s in it is the path of old.nvram in `top`. Without one
 * it is the hypervisor that chooses the file. It is there, unless fresh: then the guest was never started. */
World *world_new_uefi(gboolean running, const char *os, gboolean fresh);
#define WORLD_LOADER "<loader readonly='yes' type='pflash'>/fw/CODE.fd</loader>"
#define WORLD_NVRAM WORLD_LOADER "<nvram template='/fw/VARS.fd'>%s</nvram>"

/* The same in a directory that is there. */
World *world_make(const char *top, gboolean running);
/* A world that another process made in `top`; it is not open yet. */
World *world_attach(const char *top);
/* Closes the store and the owner's lock, as the end of a process does; files stay. */
void world_close(World *world);
/* Opens it again as a new process would. */
void world_open(World *world);
void world_free(World *world);
/* Closes it and leaves its files. */
void world_detach(World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* A forward swap, or with to_generation >= 0 a rollback; NULL on an error. */
VrSwap *world_begin(World *world, int to_generation, GError **error);
/* Forward (or back) to COMMITTED; asserts. */
void world_swap(World *world, int to_generation);
void world_swap_in_run(World *world, int to_generation, const char *run_id);

extern const VrStopPolicy world_stop;

/* A file with 1 MiB of `fill`, made when it is not there. Free with g_free. */
char *world_image_file(World *world, char fill);
/* Publishes version `version` of the image "os" from that file; FALSE with an error. */
gboolean world_publish(World *world, const char *version, char fill, GError **error);
/* From here on nobody sleeps: time jumps instead, a little further than was asked for. wall_us: NULL for the real one. */
void world_skip_waiting(gint64 (*wall_us)(void *data));
/* From here on time passes only by sleeping, and all oversleep: what polls for a minute does so a few hundred times. */
void world_quick_clock(void);
/* On that clock: so much passes now. */
void world_quick_pass(gint64 ms);
/* A forward swap that has come to `state`; asserts. */
VrSwap *world_reach(World *world, VrSwapState state);
/* Such a one goes to its end, or back; assert. */
void world_commit(VrSwap *swap);
void world_undo(VrSwap *swap);
/* What is kept of the guest's console since its start is just that. */
void world_expect_console(World *world, const VrSwapRow *row, const char *expected);
/* One statement on the journal, in a transaction of its own. */
void world_run_sql(World *world, const char *sql);
/* One recovery, as `recover` does it: what it left started is committed. How many swaps it found open. */
guint world_recover_once(World *world);

/* The invariants that hold at any instant: the configured disk is one of the generations, exists, and is complete; generation 0
 * and the data disk have the bytes and modes that they had; no open swap is left when `closed`. */
void world_check(World *world, gboolean closed);
guint world_current(World *world);

/* Of world_check(): the configured seed is that of the configured disk's generation, which is there and can be opened; what is kept is sealed, what was
 * discarded is gone. */
void world_check_seed(World *world, gboolean closed);

/* Of world_check(), for UEFI guests: the configured NVRAM is that of the configured disk's generation, is there and is whole; none was written by
 * a system of a later generation; what is kept of ours is sealed, what was discarded is gone. */
void world_check_nvram(World *world, gboolean closed);
mode_t world_mode(const char *path);

/* For what includes cmocka. */
#define assert_gerror(error, expected)                                                                                 \
    do {                                                                                                               \
        assert_non_null(error);                                                                                        \
        if (!g_error_matches(error, VR_ERROR, expected))                                                               \
            fail_msg("wrong error: %s", (error)->message);                                                             \
    } while (0)
