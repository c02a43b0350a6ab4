/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of manifests, for the journal's list of schema steps. */
#pragma once

/* path is NULL where nothing local is behind the element; head and content are SHA-256 in hex. */
#define VR_MANIFEST_TABLE                                                                                              \
    "CREATE TABLE data_disks ("                                                                                        \
    "  swap_id TEXT NOT NULL REFERENCES swaps (id) ON DELETE CASCADE, phase INTEGER NOT NULL, target TEXT NOT NULL,"   \
    "  depth INTEGER NOT NULL, element TEXT NOT NULL, shared INTEGER NOT NULL, path TEXT, is_local INTEGER,"           \
    "  device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, head TEXT, how INTEGER, content TEXT,"           \
    "  PRIMARY KEY (swap_id, phase, target, depth)) WITHOUT ROWID;"

/* Of block devices, for a comparison after a reboot of the host. */
#define VR_MANIFEST_LASTING                                                                                            \
    "ALTER TABLE data_disks ADD COLUMN lasting TEXT;"                                                                  \
    "ALTER TABLE data_disks ADD COLUMN boot_id TEXT NOT NULL DEFAULT '';"
