/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The NVRAM of a UEFI guest as a file: half a megabyte of flash that firmware and system write in place while the guest runs. Whose
 * it is, and when it is copied, is the engine's (engine/swap_nvram.c).
 */
#pragma once

#include "disk/disk_file.h"
#include "disk/store.h"

/* Larger ones are none: OVMF's are 128 KiB and 528 KiB, AAVMF's 64 MiB. */
#define VR_NVRAM_MAX_BYTES ((guint64)64 << 20)

/* Looks at the file without reading it. VR_ERROR_NOT_FOUND: there is none; VR_ERROR_REFUSED: it is a link, has more than one name,
 * is no regular file, is empty or above VR_NVRAM_MAX_BYTES: what it leads to would be shown to the guest. */
gboolean vr_nvram_look(const char *path, VrFileId *id, GError **error);

/* Copies the NVRAM at `from`, which nobody writes meanwhile, to disks/UUID/NAME, which nobody has: 0600, flushed, renamed into place
 * without replacing. format: raw or qcow2; a qcow2 file that refers to another one is VR_ERROR_REFUSED. before (may be NULL) is told
 * which file it is before it has the name. Errors otherwise as vr_nvram_look(); VR_ERROR_CONFLICT: the name is taken, or the file
 * changed while it was read. */
gboolean vr_nvram_copy(VrStore *store, const char *uuid, const char *name, const char *from, const char *format,
                       VrDiskBefore before, void *data, GError **error);
