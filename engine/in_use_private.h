/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the map of uses (in_use.c) and the witnesses (in_use_disk.c, in_use_hv.c). Not for others. */
#pragma once

#include "engine/in_use.h"

struct VrInUse {
    VrStore *store; /* not owned */
    char *images;   /* ROOT/images/ */
    char *disks;    /* ROOT/disks/ */
    GHashTable
        *files; /* "device:inode" -> "NAME/VERSION" of every file in the gallery, "disks/UUID/gN.qcow2" of our disks */
    GHashTable *versions; /* "NAME/VERSION" or "disks/UUID/gN.qcow2" -> GHashTable of key -> VrUser * */
    GHashTable *names;    /* UUID -> domain name */
    GHashTable *untold;   /* path -> VrUntold *: overlays of ours that cannot be read */
};

typedef struct {
    char *name; /* "disks/UUID/gN.qcow2" */
    char *why;
    char *made_from; /* "os 2.0.0", as the journal says; NULL: it does not know the file */
} VrUntold;

/* key tells users apart: a UUID, or `who` itself. */
void vr_in_use_note(VrInUse *in_use, const char *version, const char *key, const char *how);

/* The path, and when it is a qcow2 file each link below it. Of files that are not ours: what is not there, or is not to be read
 * by us, refers to nothing. */
void vr_in_use_note_chain(VrInUse *in_use, const char *path, const char *key, const char *how);

/* Which file is known by which name, of those in disks/UUID: before it is asked who refers to them. */
gboolean vr_in_use_know_disks(VrInUse *in_use, GError **error);

/* Every overlay in disks/UUID; those that cannot be read become untold. */
gboolean vr_in_use_read_disks(VrInUse *in_use, GError **error);

/* Every domain; fills names. */
gboolean vr_in_use_read_hv(VrInUse *in_use, VrHv *hv, GError **error);
