/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/extension_view.h"

/* Azure's code and its level. */
static json_t *status_json(const VrExtensionResult *result)
{
    static const struct {
        const char *code, *level, *shown;
    } azure[] = {
        [VR_EXTENSION_TRANSITIONING] = {"transitioning", "Info", "Transitioning"},
        [VR_EXTENSION_SUCCEEDED] = {"succeeded", "Info", "Provisioning succeeded"},
        [VR_EXTENSION_FAILED] = {"failed", "Error", "Provisioning failed"},
        [VR_EXTENSION_TIMED_OUT] = {"failed/timedOut", "Error", "Provisioning failed"},
        [VR_EXTENSION_SKIPPED] = {"failed/skipped", "Error", "Provisioning skipped"},
    };
    g_autofree char *code = g_strconcat("ProvisioningState/", azure[result->status].code, NULL);
    gint64 ended_us = result->duration_ms < 0 ? 0 : result->started_us + result->duration_ms * 1000;

    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "code", code, "level", azure[result->status].level, "displayStatus",
                     azure[result->status].shown, "message", vr_json_text(result->text), "time",
                     vr_json_time(result->started_us > 0 ? ended_us : 0));
}

json_t *vr_extension_results_json(const GPtrArray *results)
{
    json_t *list = json_array();

    for (guint i = 0; results && i < results->len; i++) {
        const VrExtensionResult *result = g_ptr_array_index(results, i);
        json_t *exit_status =
            result->exit_status == VR_NO_EXIT_STATUS ? json_null() : json_integer(result->exit_status);

        json_array_append_new(
            list,
            json_pack("{s:o, s:[o], s:s, s:b, s:o, s:o, s:o, s:o}", "name", vr_json_text(result->name), "statuses",
                      status_json(result), "status", vr_extension_status_name(result->status), "suppressFailures",
                      result->suppressed, "exitCode", exit_status, "output", vr_json_text(result->output), "startTime",
                      vr_json_time(result->started_us), "durationMs", vr_json_ms(result->duration_ms)));
    }
    return list;
}

/* "Succeeded in 1.2 s", "Failed in 300 ms: ended with status 3" */
static char *shown(const VrExtensionResult *result)
{
    g_autofree char *took = result->duration_ms < 0 ? NULL : vr_text_duration(result->duration_ms);
    gboolean plain = result->status == VR_EXTENSION_SUCCEEDED || result->status == VR_EXTENSION_TRANSITIONING;

    return g_strconcat(vr_extension_status_name(result->status), took ? " in " : "", took ? took : "",
                       plain ? "" : ": ", plain ? "" : result->text, NULL);
}

void vr_extension_results_print(const VrCli *cli, const GPtrArray *results)
{
    for (guint i = 0; results && i < results->len; i++) {
        const VrExtensionResult *result = g_ptr_array_index(results, i);
        g_autofree char *text = shown(result);
        g_auto(GStrv) lines = g_strsplit(result->output ? result->output : "", "\n", -1);

        vr_label_format(cli, "Extension", "%s: %s", result->name, text);
        for (char **line = lines; result->status != VR_EXTENSION_SUCCEEDED && *line; line++)
            vr_label(cli, "Output", *line);
    }
}

char *vr_extension_results_line(const GPtrArray *results)
{
    GString *line = g_string_new(NULL);

    for (guint i = 0; results && i < results->len; i++) {
        const VrExtensionResult *result = g_ptr_array_index(results, i);
        g_autofree char *text = shown(result);
        g_string_append_printf(line, "%s%s %s", i > 0 ? "; " : "", result->name, text);
    }
    return g_string_free(line, line->len == 0);
}
