/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is KVM more than a device file? /dev/kvm may exist and yet not run a 64-bit guest: boot one and see. */
#pragma once

#include <glib.h>

/* TRUE: a built-in boot sector entered 64-bit mode under KVM on the host's own CPU model, within 3 seconds. Else the
 * error says what QEMU did. Leaves no file. */
gboolean vr_kvm_prove(GError **error);

/* The same, FALSE too where /dev/kvm may not be opened; also from a process that is confined, which may not write to it. */
gboolean vr_kvm_works(void);
