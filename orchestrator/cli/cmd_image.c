/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image-check: yes or no to an image file. */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/image_tool.h"
#include "orchestrator/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static gboolean parse_format(const VrCli *cli, gboolean *given, VrImageFormat *format, GError **error)
{
    *given = cli->options.format != NULL;
    return !*given || vr_image_format_parse(cli->options.format, format, error);
}

/* --- image-check ------------------------------------------------------------------------------------- */

/* A link, a device or a FIFO is not an image; opening one must not hang. */
static int open_image(const char *file, GError **error)
{
    vr_autofd fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 && errno == ELOOP) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "image '%s' is a symbolic link", file);
        vr_error_next(error, "name the file itself");
        return -1;
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        vr_set_error_errno(error, errno, "image '%s' cannot be opened", file);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "image '%s' is not a regular file", file);
        return -1;
    }
    return vr_fd_steal(&fd);
}

static json_t *of_qcow2(const VrImageVerdict *verdict, guint64 number)
{
    return verdict->qcow2_version ? json_integer((json_int_t)number) : json_null();
}

/* What the file is, as far as it was looked at: also of one that is refused. */
static void add_image_json(json_t *document, const VrImageVerdict *verdict)
{
    g_auto(GStrv) features = vr_image_verdict_features(verdict);
    json_t *names = json_array();

    for (char **name = features; *name; name++)
        json_array_append_new(names, json_string(*name));
    json_object_update_new(document, json_pack("{s:s, s:I, s:I}", "format", vr_image_format_name(verdict->format),
                                               "fileSizeBytes", (json_int_t)verdict->file_size, "virtualSizeBytes",
                                               (json_int_t)MIN(verdict->virtual_size, (guint64)G_MAXINT64)));
    json_object_update_new(document,
                           json_pack("{s:o, s:o, s:o}", "qcow2Version", of_qcow2(verdict, verdict->qcow2_version),
                                     "clusterSizeBytes", of_qcow2(verdict, verdict->cluster_size), "refcountBits",
                                     of_qcow2(verdict, verdict->refcount_bits)));
    json_object_set_new(document, "features", names);
}

static void print_verdict_json(const char *file, const VrImageVerdict *verdict, const char *warning)
{
    json_t *document =
        json_pack("{s:o, s:b, s:o, s:o, s:o}", "file", vr_json_text(file), "accepted", verdict->accepted, "rule",
                  verdict->accepted ? json_null() : json_string(vr_image_rule_name(verdict->rule)), "reason",
                  verdict->accepted ? json_null() : vr_json_text(verdict->reason), "warning", vr_json_text(warning));

    add_image_json(document, verdict);
    json_object_set_new(document, "rulesVersion", json_integer(VR_IMAGE_RULES_VERSION));
    vr_json_print(document);
}

static void print_image(const VrCli *cli, const char *file, const VrImageVerdict *verdict)
{
    g_autofree char *file_size = vr_text_size(verdict->file_size);
    g_autofree char *virtual_size = vr_text_size(verdict->virtual_size);
    g_autofree char *cluster_size = vr_text_size(verdict->cluster_size);
    g_auto(GStrv) features = vr_image_verdict_features(verdict);
    g_autofree char *names = g_strjoinv(", ", features);

    vr_say(cli, "%s: accepted: %s, %s for the guest, %s in the file", file, vr_image_format_name(verdict->format),
           virtual_size, file_size);
    if (verdict->qcow2_version)
        vr_say(cli, "  qcow2 version %u, clusters of %s, refcounts of %u bits, features: %s", verdict->qcow2_version,
               cluster_size, verdict->refcount_bits, *names ? names : "none");
}

/* Our rules, then qemu-img's opinion of what passed them. */
static gboolean judge_file(const char *file, const VrImagePolicy *policy, VrImageVerdict *verdict, char **warning,
                           GError **error)
{
    vr_autofd fd = open_image(file, error);

    return fd >= 0 && vr_image_check(fd, policy, verdict, error) &&
           (!verdict->accepted || vr_image_tool_check(fd, verdict, warning, error));
}

static gboolean check_file(const VrCli *cli, const char *file, GError **error)
{
    g_autofree char *base = g_path_get_basename(file);
    g_autofree char *warning = NULL;
    VrImagePolicy policy = {.file_name = base, .allow_compressed = TRUE}; /* publication inflates them */
    VrImageVerdict verdict = {0};

    if (!parse_format(cli, &policy.format_given, &policy.format, error) ||
        !judge_file(file, &policy, &verdict, &warning, error))
        return FALSE;
    if (cli->options.json)
        print_verdict_json(file, &verdict, warning);
    if (!vr_image_verdict_require(&verdict, file, error))
        return FALSE;
    print_image(cli, file, &verdict);
    if (warning && !cli->options.json)
        vr_warn(cli, "%s: %s", file, warning);
    return TRUE;
}

gboolean vr_cmd_image_check(const VrCli *cli, GError **error)
{
    return check_file(cli, cli->args[0], error);
}
