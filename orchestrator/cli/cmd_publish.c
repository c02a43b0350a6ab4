/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image-publish: from a file, a compressed file or standard input into the gallery. */
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/cli/signals.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STEP (16 << 20) /* bytes between two lines of progress where the end is not known */

static gboolean parse_formats(const VrCli *cli, VrPublication *publication, GError **error)
{
    const VrCliOptions *options = &cli->options;
    publication->format_given = options->format != NULL;
    publication->as_given = options->as != NULL;
    return (!options->format || vr_image_format_parse(options->format, &publication->format, error)) &&
           (!options->as || vr_image_format_parse(options->as, &publication->as, error));
}

/* As virsh spells sizes: K, KiB, M, ... are powers of 1024, KB, MB, ... of 1000; without a suffix bytes. */
static gboolean scale_of(const char *suffix, guint64 *scale)
{
    static const char letters[] = "KMGTPE";
    const char *letter = *suffix ? strchr(letters, g_ascii_toupper(*suffix)) : NULL;
    guint64 base = 1024;

    *scale = 1;
    if (*suffix == '\0' || g_ascii_strcasecmp(suffix, "b") == 0)
        return TRUE;
    if (!letter || !*letter)
        return FALSE;
    if (g_ascii_strcasecmp(suffix + 1, "b") == 0)
        base = 1000;
    else if (suffix[1] != '\0' && g_ascii_strcasecmp(suffix + 1, "ib") != 0)
        return FALSE;
    for (const char *at = letters; at <= letter; at++)
        *scale *= base;
    return TRUE;
}

static gboolean parse_size(const char *text, guint64 *size, GError **error)
{
    guint64 scale;
    char *end = NULL;

    *size = 0;
    if (!text)
        return TRUE;
    if (g_ascii_isdigit(*text))
        *size = g_ascii_strtoull(text, &end, 10);
    if (end && scale_of(end, &scale) && *size > 0 && *size <= G_MAXINT64 / scale) {
        *size *= scale;
        return TRUE;
    }
    g_autofree char *shown = vr_printable(text, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "\"%s\" is not a size", shown);
    vr_error_next(error, "\"20G\", \"500MiB\" or a number of bytes is one");
    return FALSE;
}

/* "@FILE" of --digest and --digest-file FILE are the same. */
static gboolean parse_digest(const VrCliOptions *options, char **digest, GError **error)
{
    *digest = options->digest_file ? g_strconcat("@", options->digest_file, NULL) : g_strdup(options->digest);
    if (!options->digest_file || !options->digest)
        return TRUE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_USAGE, "--digest and --digest-file are not given together");
    return FALSE;
}

/* --- progress ---------------------------------------------------------------------------------------- */

static void show_progress(const VrCopyProgress *progress, void *data)
{
    guint64 *last = data;
    guint64 now =
        progress->bytes_total ? progress->bytes_done * 100 / progress->bytes_total : progress->bytes_done / STEP;

    if (now == *last)
        return;
    *last = now;
    if (progress->bytes_total) {
        fprintf(stderr, "\r%3d%%%s", (int)now, now == 100 ? "\r    \r" : "");
    } else {
        g_autofree char *done = vr_text_size(progress->bytes_done);
        fprintf(stderr, "\r%-12s\r", done);
    }
}

/* --- the command ------------------------------------------------------------------------------------- */

static void say_published(const VrCli *cli, const VrImage *image, gboolean already)
{
    g_autofree char *size = vr_text_size(image->virtual_size);

    vr_say(cli, "%s %s %s: %s, %s, sha256:%s%s%s", image->name, image->version,
           already                ? "is published already"
           : cli->options.dry_run ? "would be published"
                                  : "published",
           vr_image_format_name(image->format), size, image->source_digest,
           image->signature_key ? ", signed by key " : "", image->signature_key ? image->signature_key : "");
    if (image->signed_comment && *image->signed_comment)
        vr_say(cli, "  trusted comment: %s", image->signed_comment);
}

/* store NULL: the dry run of a first publication, for which none is made. */
static gboolean publish(const VrCli *cli, VrStore *store, const VrPublication *asked, GError **error)
{
    VrPublication publication = *asked;
    g_autoptr(VrImage) image = NULL;
    gboolean already = FALSE, ok;
    guint64 last = G_MAXUINT64;
    gint cancelled = 0;

    publication.cancelled = &cancelled;
    publication.progress = !cli->options.quiet && isatty(STDERR_FILENO) ? show_progress : NULL;
    publication.progress_data = &last;
    vr_signals_set_flag(&cancelled);
    ok = vr_store_publish(store, &publication, &image, &already, error);
    vr_signals_set_flag(NULL);
    if (!ok)
        return FALSE;
    say_published(cli, image, already);
    if (!store)
        vr_say(cli, "the store %s would be made", cli->options.root);
    return TRUE;
}

static gboolean open_and_publish(const VrCli *cli, const VrPublication *publication, GError **error)
{
    g_auto(VrSession) session = {0};
    g_autoptr(GError) local = NULL;

    if (vr_session_open(&session, cli, &local))
        return publish(cli, session.store, publication, error);
    if (cli->options.dry_run && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return publish(cli, NULL, publication, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean vr_cmd_image_publish(const VrCli *cli, GError **error)
{
    const VrCliOptions *options = &cli->options;
    g_autofree char *digest = NULL;
    VrPublication publication = {.name = cli->args[0],
                                 .version = cli->args[1],
                                 .file = cli->args[2],
                                 .signature = options->signature,
                                 .keys = options->keys,
                                 .flatten = (const char *const *)options->flatten,
                                 .publisher = options->publisher,
                                 .offer = options->offer,
                                 .sku = options->sku,
                                 .dry_run = options->dry_run};

    if (!parse_formats(cli, &publication, error) || !parse_digest(options, &digest, error) ||
        !parse_size(options->max_size, &publication.max_size, error) ||
        !parse_size(options->limit_rate, &publication.limit_rate, error))
        return FALSE;
    publication.digest = digest;
    return open_and_publish(cli, &publication, error);
}
