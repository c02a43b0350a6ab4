/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The serial console of the scripted guest: taken by somebody else, hanging, or with what the test put on it. */
#include "fault/fake_hv.h"

#include "base/error.h"
#include "hv/console.h"

#include <string.h>

gboolean fake_console(VrHv *hv, const char *uuid, VrConsole *console, GError **error)
{
    FakeHv *fake = (FakeHv *)hv;

    g_atomic_int_inc(&fake->consoles);
    while (g_atomic_int_get(&fake->console_hangs))
        g_usleep(1000);
    if (!fake->console) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_HYPERVISOR, "Active console session exists for this domain");
        return FALSE;
    }
    vr_console_add(console, fake->console, strlen(fake->console));
    return TRUE;
}
