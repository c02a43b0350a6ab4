/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two questions: qemu-img info, whose answer must be the image that we saw; then qemu-img check, of qcow2 only (a raw image
 * has nothing to check). Death by a signal is the image's fault: info of 7.2 crashes on some that our rules refuse, and
 * nobody knows the next ones. check returns 0 on dirty and corrupt bits, which is why our own rules come first.
 */
#include "disk/image_tool.h"

#include "base/child.h"
#include "base/error.h"
#include "disk/image_private.h"
#include "disk/image_tool_private.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

typedef json_t Json;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Json, json_decref)

#define TIMEOUT_MS 60000
#define MAX_MEMORY (G_GUINT64_CONSTANT(1) << 30)
#define MAX_CPU_S 30

enum { CHECK_OK = 0, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_UNSUPPORTED = 63 };

static gboolean refuse(VrImageVerdict *verdict, VrImageRule rule, const char *text)
{
    g_autofree char *shown = vr_printable(text, -1);
    verdict->accepted = FALSE;
    verdict->rule = rule;
    g_strlcpy(verdict->reason, shown, sizeof verdict->reason);
    return TRUE;
}

/* ---- asking ---- */

/* Runs qemu-img COMMAND over the image. FALSE with result->term_signal or VR_ERROR_TIMEOUT: it died of it. */
static gboolean run(int fd, const VrImageVerdict *verdict, const char *command, VrChildResult *result, GError **error)
{
    VrToolNbd *nbd = vr_tool_nbd_start(fd, verdict->file_size, error);
    if (!nbd)
        return FALSE;
    int child_fd = vr_tool_nbd_child_fd(nbd);
    const VrChildLimits limits = {.timeout_ms = TIMEOUT_MS,
                                  .max_memory = MAX_MEMORY,
                                  .max_cpu_s = MAX_CPU_S,
                                  .nobody = TRUE,
                                  .keep_fd = child_fd};
    /* backing null: a name that was written into it since our look is not followed */
    g_autofree char *image =
        g_strdup_printf("json:{\"driver\": \"%s\", %s\"file\": {\"driver\": \"nbd\", \"server\": {\"type\": \"fd\","
                        " \"str\": \"%d\"}}}",
                        vr_image_format_name(verdict->format),
                        verdict->format == VR_FORMAT_QCOW2 ? "\"backing\": null, " : "", child_fd);
    const char *const argv[] = {"qemu-img", command, "--output=json", image, NULL};
    gboolean ok = vr_child_run(argv, &limits, result, error);
    return vr_tool_nbd_stop(nbd, ok ? error : NULL) && ok;
}

/* The same with its death made a refusal. *answered FALSE: there is no result to look at. */
static gboolean ask(int fd, VrImageVerdict *verdict, const char *command, VrChildResult *result, gboolean *answered,
                    GError **error)
{
    g_autoptr(GError) local = NULL;
    *answered = run(fd, verdict, command, result, &local);
    if (*answered)
        return TRUE;
    if (result->term_signal || g_error_matches(local, VR_ERROR, VR_ERROR_TIMEOUT))
        return refuse(verdict, VR_RULE_TOOL_DIED, local->message);
    if (result->too_much)
        return refuse(verdict, VR_RULE_TOOL_REFUSED, local->message);
    g_propagate_prefixed_error(error, g_steal_pointer(&local), "cannot ask qemu-img about the image: ");
    return FALSE;
}

/* What it said last, without the name that it gives the image. */
static gboolean refuse_with_stderr(VrImageVerdict *verdict, VrImageRule rule, const char *what,
                                   const VrChildResult *result)
{
    g_autofree char *said = g_strchomp(g_strdup(result->err));
    const char *newline = strrchr(said, '\n'), *line = newline ? newline + 1 : said, *quote = strstr(line, "': ");
    g_autofree char *text =
        g_strdup_printf("%s (status %d)%s%s", what, result->exit_status, *line ? ": " : "", quote ? quote + 3 : line);
    return refuse(verdict, rule, text);
}

/* ---- info ---- */

static gboolean judge_info(VrImageVerdict *verdict, const VrChildResult *result)
{
    if (result->exit_status != 0)
        return refuse_with_stderr(verdict, VR_RULE_TOOL_REFUSED, "qemu-img does not open it", result);
    g_autoptr(Json) json = json_loadb(result->out, result->out_length, 0, NULL);
    if (!json)
        return refuse(verdict, VR_RULE_TOOL_REFUSED, "qemu-img info does not answer in JSON");
    const char *format = json_string_value(json_object_get(json, "format"));
    json_int_t size = json_integer_value(json_object_get(json, "virtual-size"));
    if (g_strcmp0(format, vr_image_format_name(verdict->format)) != 0 || (guint64)size != verdict->virtual_size)
        return refuse(verdict, VR_RULE_TOOL_REFUSED, "qemu-img sees another format or size than its header says");
    if (json_object_get(json, "backing-filename") || json_object_get(json, "encrypted") ||
        json_object_get(json, "snapshots"))
        return refuse(verdict, VR_RULE_TOOL_REFUSED, "qemu-img sees a backing file, encryption or a snapshot in it");
    return TRUE;
}

/* ---- check ---- */

static gint64 number(const json_t *json, const char *key)
{
    return (gint64)json_integer_value(json_object_get(json, key));
}

static gboolean judge_check(VrImageVerdict *verdict, const VrChildResult *result, char **warning)
{
    if (result->exit_status != CHECK_OK && result->exit_status != CHECK_CORRUPT && result->exit_status != CHECK_LEAKS)
        return refuse_with_stderr(verdict, VR_RULE_TOOL_REFUSED, "qemu-img cannot check it", result);
    g_autoptr(Json) json = json_loadb(result->out, result->out_length, 0, NULL);
    if (!json)
        return refuse(verdict, VR_RULE_TOOL_REFUSED, "qemu-img check does not answer in JSON");
    gint64 corruptions = number(json, "corruptions"), leaks = number(json, "leaks");
    if (result->exit_status == CHECK_CORRUPT || corruptions > 0) {
        g_autofree char *text =
            g_strdup_printf("qemu-img check finds %" G_GINT64_FORMAT " corruptions in it", corruptions);
        return refuse(verdict, VR_RULE_TOOL_CORRUPT, text);
    }
    if (leaks > 0 && warning)
        *warning = g_strdup_printf(
            "%" G_GINT64_FORMAT " clusters are leaked: harmless, qemu-img check -r leaks frees them", leaks);
    return TRUE;
}

gboolean vr_image_tool_check(int fd, VrImageVerdict *verdict, char **warning, GError **error)
{
    g_auto(VrChildResult) info = {0};
    g_auto(VrChildResult) check = {0};
    gboolean answered;
    if (warning)
        *warning = NULL;
    g_return_val_if_fail(verdict->accepted, FALSE);
    if (!ask(fd, verdict, "info", &info, &answered, error))
        return FALSE;
    if (answered)
        judge_info(verdict, &info);
    if (!verdict->accepted || verdict->format == VR_FORMAT_RAW)
        return TRUE;
    if (!ask(fd, verdict, "check", &check, &answered, error))
        return FALSE;
    return !answered || judge_check(verdict, &check, warning);
}
