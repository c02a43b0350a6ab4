/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_windows.h"

#define WINDOWS "osProfile.windowsConfiguration"

static gboolean parse_updates(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                              GError **error)
{
    gboolean updates = FALSE;

    if (!vr_model_boolean(parser, value, key, &updates, error))
        return FALSE;
    *(VrWindowsUpdates *)target = updates ? VR_WINDOWS_UPDATES_ON : VR_WINDOWS_UPDATES_OFF;
    return TRUE;
}

const VrModelKey vr_model_windows_keys[] = {
    {.name = "enableAutomaticUpdates", .parse = parse_updates, .offset = G_STRUCT_OFFSET(VrOsProfile, windows_updates)},
    {0},
};

gboolean vr_model_check_windows(VrModelParser *parser, VrModel *model, GError **error)
{
    if (!model->automatic || vr_model_line(parser, WINDOWS) == 0)
        return TRUE;
    if (model->os_profile.windows_updates == VR_WINDOWS_UPDATES_ON)
        return vr_model_fail_at(
            parser, WINDOWS ".enableAutomaticUpdates",
            "must be false where enableAutomaticOSUpgrade is true: guests get their updates with new "
            "image versions, and one that updates itself is not what was rolled out",
            error);
    model->os_profile.windows_updates = VR_WINDOWS_UPDATES_OFF;
    return TRUE;
}
