/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* C9: osProfile.windowsConfiguration, and its rule. */
#include "orchestrator/model_text.h"

#define AUTOMATIC                                                                                                      \
    "upgradePolicy: {automaticOSUpgradePolicy: {enableAutomaticOSUpgrade: true}}\n"                                    \
    "healthProfile: {applicationHealth: {protocol: tcp, port: 22}}\n"
#define WINDOWS(updates) "osProfile: {windowsConfiguration: {" updates "}}"

static void test_windows_updates(void **state) /* C9 */
{
    static const struct {
        const char *section;
        VrWindowsUpdates updates;
    } rows[] = {
        {"", VR_WINDOWS_UPDATES_NOT_GIVEN},
        {AUTOMATIC, VR_WINDOWS_UPDATES_NOT_GIVEN},
        {WINDOWS(""), VR_WINDOWS_UPDATES_NOT_GIVEN},
        {WINDOWS("enableAutomaticUpdates: true"), VR_WINDOWS_UPDATES_ON},
        {WINDOWS("EnableAutomaticUpdates: False"), VR_WINDOWS_UPDATES_OFF},
        {AUTOMATIC WINDOWS("enableAutomaticUpdates: false"), VR_WINDOWS_UPDATES_OFF},
        {AUTOMATIC WINDOWS(""), VR_WINDOWS_UPDATES_OFF}, /* forced */
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrModel) model = parse_with(rows[i].section);
        assert_int_equal(model->os_profile.windows_updates, rows[i].updates);
    }
    refused(HEAD AUTOMATIC WINDOWS("enableAutomaticUpdates: true") "\n" TAIL,
            "lab.yaml:5: osProfile.windowsConfiguration.enableAutomaticUpdates: must be false where "
            "enableAutomaticOSUpgrade is true");
    refused(HEAD WINDOWS("enableAutomaticUpdates: 1") "\n" TAIL,
            "lab.yaml:3: osProfile.windowsConfiguration.enableAutomaticUpdates: 1 is neither true nor false");
    refused(HEAD WINDOWS("provisionVMAgent: true") "\n" TAIL,
            "lab.yaml:3: osProfile.windowsConfiguration.provisionVMAgent: unknown key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_windows_updates)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
