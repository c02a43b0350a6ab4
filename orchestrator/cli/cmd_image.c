/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The gallery: check, publish, list, info, exclude, include. */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/version.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run_view.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/cli/signals.h"

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
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "image '%s' is a symbolic link; name the file itself", file);
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

static void print_verdict_json(const char *file, const VrImageVerdict *verdict)
{
    json_t *document =
        json_pack("{s:o, s:b, s:o, s:o}", "file", vr_json_text(file), "accepted", verdict->accepted, "rule",
                  verdict->accepted ? json_null() : json_string(vr_image_rule_name(verdict->rule)), "reason",
                  verdict->accepted ? json_null() : vr_json_text(verdict->reason));

    if (verdict->accepted)
        json_object_update_new(document, json_pack("{s:s, s:I, s:I}", "format", vr_image_format_name(verdict->format),
                                                   "fileSize", (json_int_t)verdict->file_size, "virtualSize",
                                                   (json_int_t)verdict->virtual_size));
    json_object_set_new(document, "rulesVersion", json_integer(VR_IMAGE_RULES_VERSION));
    vr_json_print(document);
}

static gboolean check_file(const VrCli *cli, const char *file, GError **error)
{
    g_autofree char *base = g_path_get_basename(file);
    VrImagePolicy policy = {.file_name = base};
    VrImageVerdict verdict = {0};
    g_autofree char *file_size = NULL;
    g_autofree char *virtual_size = NULL;

    if (!parse_format(cli, &policy.format_given, &policy.format, error))
        return FALSE;
    vr_autofd fd = open_image(file, error);
    if (fd < 0 || !vr_image_check(fd, &policy, &verdict, error))
        return FALSE;
    if (cli->options.json)
        print_verdict_json(file, &verdict);
    if (!vr_image_verdict_require(&verdict, file, error))
        return FALSE;
    file_size = vr_text_size(verdict.file_size);
    virtual_size = vr_text_size(verdict.virtual_size);
    vr_say(cli, "%s: accepted: %s, %s for the guest, %s in the file", file, vr_image_format_name(verdict.format),
           virtual_size, file_size);
    return TRUE;
}

gboolean vr_cmd_image_check(const VrCli *cli, GError **error)
{
    return check_file(cli, cli->args[0], error);
}

/* --- image-publish ----------------------------------------------------------------------------------- */

static void show_progress(const VrCopyProgress *progress, void *data)
{
    int *last = data;
    int percent = progress->bytes_total ? (int)(progress->bytes_done * 100 / progress->bytes_total) : 100;

    if (percent == *last)
        return;
    *last = percent;
    fprintf(stderr, "\r%3d%%%s", percent, percent == 100 ? "\r    \r" : "");
}

static void say_published(const VrCli *cli, const VrImage *image, gboolean already)
{
    g_autofree char *size = vr_text_size(image->virtual_size);

    vr_say(cli, "%s %s %s: %s, %s, sha256:%s", image->name, image->version,
           already                ? "is published already"
           : cli->options.dry_run ? "would be published"
                                  : "published",
           vr_image_format_name(image->format), size, image->source_digest);
}

static gboolean publish(const VrCli *cli, VrStore *store, const VrPublication *asked, GError **error)
{
    VrPublication publication = *asked;
    g_autoptr(VrImage) image = NULL;
    gboolean already = FALSE, ok;
    gint cancelled = 0;
    int last = -1;

    publication.dry_run = cli->options.dry_run;
    publication.cancelled = &cancelled;
    publication.progress = !cli->options.quiet && isatty(STDERR_FILENO) ? show_progress : NULL;
    publication.progress_data = &last;
    vr_signals_set_flag(&cancelled);
    ok = vr_store_publish(store, &publication, &image, &already, error);
    vr_signals_set_flag(NULL);
    if (ok && image)
        say_published(cli, image, already);
    return ok;
}

/* The dry run of a first publication: there is no store to ask, and none is made. */
static gboolean only_check(const VrCli *cli, const VrPublication *publication, GError **error)
{
    if (!vr_name_check(publication->name, "image", error) || !vr_version_check(publication->version, error) ||
        !check_file(cli, publication->file, error))
        return FALSE;
    vr_say(cli, "%s %s would be published; the store %s would be made", publication->name, publication->version,
           cli->options.root);
    return TRUE;
}

gboolean vr_cmd_image_publish(const VrCli *cli, GError **error)
{
    const VrCliOptions *options = &cli->options;
    VrPublication publication = {.name = cli->args[0],
                                 .version = cli->args[1],
                                 .file = cli->args[2],
                                 .digest = options->digest,
                                 .publisher = options->publisher,
                                 .offer = options->offer,
                                 .sku = options->sku};
    g_auto(VrSession) session = {0};
    g_autoptr(GError) local = NULL;

    if (!parse_format(cli, &publication.format_given, &publication.format, error))
        return FALSE;
    if (vr_session_open(&session, cli, &local))
        return publish(cli, session.store, &publication, error);
    if (options->dry_run && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return only_check(cli, &publication, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* --- image-list, image-info -------------------------------------------------------------------------- */

static void list_table(const VrCli *cli, GPtrArray *images)
{
    static const char *const headings[] = {"NAME",     "VERSION",   "FORMAT", ">SIZE",
                                           ">IN FILE", "PUBLISHED", "STATE",  NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    for (guint i = 0; i < images->len; i++) {
        const VrImage *image = g_ptr_array_index(images, i);
        g_autofree char *size = vr_text_size(image->virtual_size);
        g_autofree char *in_file = vr_text_size(image->file_size);
        g_autofree char *state = image->excluded ? g_strdup_printf("excluded%s%s", image->excluded_reason ? ": " : "",
                                                                   image->excluded_reason ? image->excluded_reason : "")
                                                 : g_strdup("");
        const char *const cells[] = {image->name, image->version, vr_image_format_name(image->format),
                                     size,        in_file,        image->published_at,
                                     state};
        vr_table_row(table, cells);
    }
    vr_table_print(table);
    if (images->len == 0)
        vr_tell(cli, "no image is published yet; '%s image-publish --help' says how", VR_PROGRAM);
}

gboolean vr_cmd_image_list(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) images = NULL;
    json_t *list;

    if (!vr_session_open_read(&session, cli, error))
        return FALSE;
    images = vr_store_list(session.store, cli->args[0], error);
    if (!images)
        return FALSE;
    if (cli->options.json) {
        list = json_array();
        for (guint i = 0; i < images->len; i++)
            json_array_append_new(list, vr_image_json(g_ptr_array_index(images, i)));
        vr_json_print(json_pack("{s:o}", "images", list));
    } else {
        list_table(cli, images);
    }
    return TRUE;
}

static void info_lines(const VrCli *cli, const VrImage *image)
{
    g_autofree char *size = vr_text_size(image->virtual_size);
    g_autofree char *in_file = vr_text_size(image->file_size);

    vr_label(cli, "Name", image->name);
    vr_label(cli, "Version", image->version);
    vr_label(cli, "Publisher", image->publisher);
    vr_label(cli, "Offer", image->offer);
    vr_label(cli, "SKU", image->sku);
    vr_label(cli, "Path", image->path);
    vr_label(cli, "Format", vr_image_format_name(image->format));
    vr_label(cli, "Size", size);
    vr_label(cli, "In file", in_file);
    vr_label_format(cli, "Source digest", "sha256:%s", image->source_digest);
    vr_label_format(cli, "Stored digest", "sha256:%s", image->stored_digest);
    vr_label_format(cli, "Rules", "%d", image->rules_version);
    vr_label(cli, "Published", image->published_at);
    vr_label(cli, "Excluded", !image->excluded ? "no" : image->excluded_reason ? image->excluded_reason : "yes");
}

gboolean vr_cmd_image_info(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(VrImage) image = NULL;

    if (!vr_session_open_read(&session, cli, error))
        return FALSE;
    image = vr_store_get(session.store, cli->args[0], cli->args[1], error);
    if (!image)
        return FALSE;
    if (cli->options.json)
        vr_json_print(vr_image_json(image));
    else
        info_lines(cli, image);
    return TRUE;
}

/* --- image-exclude, image-include -------------------------------------------------------------------- */

static gboolean set_excluded(const VrCli *cli, gboolean excluded, GError **error)
{
    const char *name = cli->args[0], *version = cli->args[1];
    const char *what = excluded ? "excluded" : "included";
    g_auto(VrSession) session = {0};
    g_autoptr(VrImage) image = NULL;

    if (!vr_version_check(version, error) || !vr_session_open(&session, cli, error))
        return FALSE;
    image = vr_store_get(session.store, name, version, error);
    if (!image)
        return FALSE;
    if (cli->options.dry_run) {
        vr_say(cli, "%s %s would be %s", image->name, image->version, what);
        return TRUE;
    }
    if (!vr_store_set_excluded(session.store, image->name, image->version, excluded, cli->options.reason, error))
        return FALSE;
    vr_say(cli, "%s %s is %s", image->name, image->version, what);
    return TRUE;
}

gboolean vr_cmd_image_exclude(const VrCli *cli, GError **error)
{
    return set_excluded(cli, TRUE, error);
}

gboolean vr_cmd_image_include(const VrCli *cli, GError **error)
{
    return set_excluded(cli, FALSE, error);
}
