/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which domains name which files: every path in the inactive and live XML of every domain, and the paths of the volumes there. For the
 * question whether an OS disk is one domain's alone. A path counts by its name and by what it is (device and inode).
 */
#pragma once

#include "engine/journal.h"
#include "hv/domain_xml.h"
#include "hv/hv.h"

typedef struct VrDiskUsers VrDiskUsers;

/* Asks libvirt for every domain, once: for many questions. leave_out: a domain that libvirt does not answer for is left out, with a
 * warning, rather than an error. */
VrDiskUsers *vr_disk_users_read(VrHv *hv, gboolean leave_out, GError **error);
void vr_disk_users_free(VrDiskUsers *users);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDiskUsers, vr_disk_users_free)

/* The names of the domains but `uuid` that name this file: "web-1, web-2"; NULL: none does. Free with g_free. */
char *vr_disk_users_others(const VrDiskUsers *users, const char *path, const char *uuid);

/* Where a disk lies on this host: its file or device, or what its volume is (libvirt resolves it). *path NULL: nowhere, it is an empty drive or a
 * network disk. VR_ERROR_REFUSED: its volume is not local; other errors are libvirt's. Free *path with g_free. */
gboolean vr_disk_local_path(VrHv *hv, const VrDomainDisk *disk, char **path, GError **error);

/* The same of pool and volume. */
char *vr_volume_local_path(VrHv *hv, const char *pool, const char *volume, GError **error);

/* The same of a generation's OS disk. */
char *vr_generation_file(VrHv *hv, const VrGeneration *generation, GError **error);
