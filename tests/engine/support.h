/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A store with one image, one scripted domain with an OS disk and a data disk, an engine on them. */
#pragma once

#include "engine/recover.h"
#include "engine/swap.h"
#include "fault/fake_hv.h"

typedef struct {
    char *top; /* temp directory: root/, hv/, old.raw, data.raw */
    char *old_path, *data_path, *hv_dir, *root;
    char old_digest[VR_DIGEST_HEX_LENGTH + 1], data_digest[VR_DIGEST_HEX_LENGTH + 1];
    VrStore *store;
    VrJournal *journal;
    VrOwner *owner;
    VrImage *image;
    FakeHv *fake;
    VrEngine engine;
    gboolean full;        /* new disks are full clones */
    VrCloneSeat *seat;    /* of the last one */
    guint model_revision; /* of the next swaps */
} World;

/* Makes everything; the guest runs on old.raw (or is off). */
World *world_new(gboolean running);
/* Closes the store and the owner's lock, as the end of a process does; files stay. */
void world_close(World *world);
/* Opens it again as a new process would. */
void world_open(World *world);
void world_free(World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* A forward swap, or with to_generation >= 0 a rollback; NULL on an error. */
VrSwap *world_begin(World *world, int to_generation, GError **error);
/* Forward (or back) to COMMITTED; asserts. */
void world_swap(World *world, int to_generation);
void world_swap_in_run(World *world, int to_generation, const char *run_id);

extern const VrStopPolicy world_stop;

/* The invariants that hold at any instant: the configured disk is one of the generations, exists, and is complete; generation 0
 * and the data disk have the bytes and modes that they had; no open swap is left when `closed`. */
void world_check(World *world, gboolean closed);
guint world_current(World *world);
mode_t world_mode(const char *path);
