/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The copy engine as a command, for tests/bench/copy only: no options of the product, no checks of its input. */
#include "base/error.h"
#include "base/fd.h"
#include "disk/convert.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    const char *to; /* "raw", "qcow2"; NULL: the file as it is */
    gboolean digest, plain, no_clone;
    int depth, block, rate;
    char **sources; /* FORMAT:FILE, top first, separated by commas */
    int targets[VR_COPY_TARGETS];
    guint n_targets;
} Bench;

static gboolean open_targets(Bench *bench, char **paths)
{
    for (; *paths && bench->n_targets < VR_COPY_TARGETS; paths++) {
        int fd = open(*paths, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0) {
            perror(*paths);
            return FALSE;
        }
        bench->targets[bench->n_targets++] = fd;
    }
    return bench->n_targets > 0;
}

static gboolean open_source(const char *text, VrConvertLink *link, GError **error)
{
    const char *colon = strchr(text, ':');
    g_autofree char *format = colon ? g_strndup(text, (gsize)(colon - text)) : g_strdup("raw");
    const char *path = colon ? colon + 1 : text;
    if (!vr_image_format_parse(format, &link->format, error))
        return FALSE;
    link->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (link->fd < 0)
        perror(path);
    return link->fd >= 0;
}

static gboolean run(const Bench *bench, char *digest, GError **error)
{
    VrConvertLink links[VR_CONVERT_LINKS];
    guint n = 0;
    struct stat st;
    for (; n < VR_CONVERT_LINKS && bench->sources[n]; n++)
        if (!open_source(bench->sources[n], &links[n], error))
            return FALSE;
    VrCopyJob job = {.targets = bench->targets,
                     .n_targets = bench->n_targets,
                     .plain = bench->plain,
                     .no_clone = bench->no_clone,
                     .queue_depth = (guint)bench->depth,
                     .block_size = (guint)bench->block << 10,
                     .limit_rate = (guint64)bench->rate << 20};
    if (!bench->to) {
        if (fstat(links[0].fd, &st) < 0)
            return FALSE;
        job.source_fd = links[0].fd;
        job.length = (guint64)st.st_size;
        return vr_copy(&job, digest, error);
    }
    VrConvertJob convert = {.links = links, .n_links = n, .copy = job};
    return vr_image_format_parse(bench->to, &convert.format, error) && vr_convert(&convert, NULL, digest, error);
}

static gboolean parse(Bench *bench, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {{"to", 0, 0, G_OPTION_ARG_STRING, &bench->to, "convert to raw or qcow2", "FORMAT"},
                                    {"digest", 0, 0, G_OPTION_ARG_NONE, &bench->digest, "SHA-256 beside it", NULL},
                                    {"plain", 0, 0, G_OPTION_ARG_NONE, &bench->plain, "no io_uring", NULL},
                                    {"no-clone", 0, 0, G_OPTION_ARG_NONE, &bench->no_clone, "no shared blocks", NULL},
                                    {"depth", 0, 0, G_OPTION_ARG_INT, &bench->depth, "blocks in flight", "N"},
                                    {"block", 0, 0, G_OPTION_ARG_INT, &bench->block, "KiB of a block", "N"},
                                    {"rate", 0, 0, G_OPTION_ARG_INT, &bench->rate, "MiB a second", "N"},
                                    {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("[FORMAT:]SOURCE[,...] TARGET...");
    g_option_context_add_main_entries(context, entries, NULL);
    return g_option_context_parse(context, argc, argv, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    char digest[VR_DIGEST_HEX_LENGTH + 1] = "";
    Bench bench = {0};
    if (!parse(&bench, &argc, &argv, &error) || argc < 3) {
        fprintf(stderr, "error: %s\n", error ? error->message : "a source and a target are needed");
        return 2;
    }
    g_auto(GStrv) sources = g_strsplit(argv[1], ",", -1);
    bench.sources = sources;
    if (!open_targets(&bench, argv + 2))
        return 1;
    if (!run(&bench, bench.digest ? digest : NULL, &error)) {
        fprintf(stderr, "error: %s\n", error ? error->message : "a file could not be opened");
        return 1;
    }
    if (*digest)
        printf("%s\n", digest);
    return 0;
}
