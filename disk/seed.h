/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NoCloud seed: the CD-ROM image from which cloud-init in a guest takes what is new for a generation (rows C1, C2, C7).
 * https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html names its label and its files.
 */
#pragma once

#include "disk/disk_file.h"
#include "disk/store.h"

/* Of one file: cloud-init sets no limit for this source; larger ones are images that went astray. */
#define VR_SEED_PART_MAX_BYTES (512 * 1024)

/* What is in it. Each may be NULL: network_config and vendor_data are left out then, the others are empty. */
typedef struct {
    GBytes *user_data;
    GBytes *meta_data; /* lines of YAML beside the instance-id, which is not the caller's to say */
    GBytes *network_config;
    GBytes *vendor_data;
} VrSeed;

/* Shares the bytes; NULL of NULL. */
VrSeed *vr_seed_copy(const VrSeed *seed);
void vr_seed_free(VrSeed *seed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSeed, vr_seed_free)

/* SHA-256 over all of it, in hex: tells whether two say the same. Free with g_free. */
char *vr_seed_digest(const VrSeed *seed);

/* The tool that it needs is there; else VR_ERROR_NOT_FOUND with the package that has it. */
gboolean vr_seed_has_tool(GError **error);

/* Makes disks/UUID/NAME, which nobody has: ISO 9660 with Rock Ridge and Joliet, labelled "cidata", 0600, flushed, renamed into place without
 * replacing. The same content gives the same bytes. instance_id: letters, digits, '.' and '-'. before (may be NULL) is told which file it is before
 * it has the name. No part of it is in an argument or in a file that others can read. VR_ERROR_CONFLICT: the name is taken; VR_ERROR_CHILD:
 * what xorrisofs made is none. */
gboolean vr_seed_make(VrStore *store, const char *uuid, const char *name, const VrSeed *seed, const char *instance_id,
                      VrDiskBefore before, void *data, GError **error);

/* The same with the bytes of a seed that is there: for a generation that is the same system. */
gboolean vr_seed_make_copy(VrStore *store, const char *uuid, const char *name, int from_fd, VrDiskBefore before,
                           void *data, GError **error);
