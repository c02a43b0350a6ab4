/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirt and QEMU refuse of an XML, for the scripted hypervisor. tests/hv/test_both.c compares it with theirs. */
#pragma once

#include <glib.h>

/* Does libvirt take it? */
gboolean fake_qemu_is_valid(const char *xml, GError **error);

/* Where files fail on purpose: called with TRUE before it opens files as QEMU does, which is another process, and with FALSE after. NULL: no. */
extern void (*fake_qemu_aside)(gboolean on);

/* Can QEMU open all its disks and what lies below them? is_locked: whether another QEMU has it. */
gboolean fake_qemu_opens(const char *xml, gboolean (*is_locked)(const char *path, void *data), void *data,
                         GError **error);
