/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"
#include "orchestrator/cli/doctor.h"
#include "orchestrator/cli/output.h"

#include <stdio.h>

static const char *const results[] = {[VR_CHECK_OK] = "ok", [VR_CHECK_WARN] = "warn", [VR_CHECK_FAIL] = "fail"};

static void show(const VrCli *cli, const char *name, const VrCheck *check, json_t *list)
{
    json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o}", "check", name, "result", results[check->result],
                                          "text", vr_json_text(check->text), "remedy", vr_json_text(check->remedy)));
    vr_say(cli, "%-4s  %-10s %s%s%s", results[check->result], name, check->text, check->remedy ? "; " : "",
           check->remedy ? check->remedy : "");
    fflush(stdout); /* a check may take seconds: the ones before it are seen */
}

static guint run_checks(VrDoctor *doctor, json_t *list)
{
    guint failed = 0;

    for (const VrDoctorCheck *row = vr_doctor_checks; row->name; row++) {
        VrCheck check = {0};
        row->check(doctor, &check);
        show(doctor->cli, row->name, &check, list);
        failed += check.result == VR_CHECK_FAIL ? 1 : 0;
        g_free(check.text);
        g_free(check.remedy);
    }
    return failed;
}

gboolean vr_cmd_doctor(const VrCli *cli, GError **error)
{
    VrDoctor doctor = {.cli = cli};
    g_autoptr(json_t) list = json_array();
    guint failed = run_checks(&doctor, list);

    g_clear_pointer(&doctor.hv, vr_hv_close);
    if (cli->options.json)
        vr_json_print(json_pack("{s:b, s:O}", "fit", failed == 0, "checks", list));
    if (failed == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "this host is not fit yet: %u check%s failed", failed,
                failed == 1 ? "" : "s");
    vr_error_next(error, "do what is said there, and run '%s doctor' again", VR_PROGRAM);
    return FALSE;
}
