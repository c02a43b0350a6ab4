/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Findings about what the new image meets: firmware. */
#include "hv/preflight_private.h"

void vr_preflight_firmware(VrPreflightCheck *check)
{
    if (check->def->uefi)
        vr_preflight_add(
            check, "uefi-nvram", VR_SEVERITY_BLOCKER,
            g_strdup_printf("%s boots by UEFI, and UEFI guests are not supported yet: its NVRAM would not follow the "
                            "generation",
                            check->name),
            g_strdup("leave it out of the set"));
    if (check->def->tpm)
        vr_preflight_add(
            check, "tpm", VR_SEVERITY_WARNING,
            g_strdup_printf("%s has a TPM: what the old system sealed in it the new one cannot open", check->name),
            g_strdup("make sure that the new image does not depend on it"));
}
