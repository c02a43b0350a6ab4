/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a process that swaps guests may write to (SAFETY 4.26), by the kernel's Landlock: raw system calls, as Debian 12 has no
 * library for it. It is a net below our own care: no bug of ours opens a data disk for writing.
 *
 * A restriction is of a thread, is inherited by the threads and processes that it starts, and cannot be lifted. So whatever was started
 * before is not in it: a thread that waits for tasks is started first, and vr_confine_outside() has it run the few things that are not ours to restrict: the
 * admin's own commands, and libvirt's client where it starts a daemon of the user's session. libvirtd itself and QEMU are other
 * processes, and not covered.
 */
#pragma once

#include <glib.h>

/* The version of Landlock that this kernel has and lets us use; 0: none that is of use (before 2 no file could be renamed
 * from one directory to another). */
int vr_confine_version(void);

/* From here on the calling thread, and all that it starts, make, write, rename and delete files beneath `dirs` (ended by NULL) and
 * nowhere else, but for /dev/null. Reading, descriptors that are open, sockets and changes of modes stay free. Does nothing when it was
 * done before. VR_ERROR_NOT_FOUND: the kernel has no Landlock, and nothing is restricted. */
gboolean vr_confine(const char *const *dirs, GError **error);

/* The same for a process that has no other thread yet, and with no way out: vr_confine_outside() runs inside. A path may be a file. */
gboolean vr_confine_closed(const char *const *paths, GError **error);

/* For a process in a mount namespace of its own, with CAP_SYS_ADMIN there: makes every mount read-only, and then lets `paths` (ended by NULL; files, or
 * directories without what is mounted beneath them) be written to again. This covers what Landlock does not: modes, owners, times, and before Linux 6.2
 * truncate(2). It does not cover devices, FIFOs and descriptors that are open. Without the capability nothing lifts it. After an error nothing may be
 * relied on. */
gboolean vr_confine_mounts(const char *const *paths, GError **error);

/* Runs func(data) to its end on a thread that is not restricted; on the caller's own where nothing is. */
void vr_confine_outside(void (*func)(void *data), void *data);
