/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/job.h"

#include "base/error.h"
#include "orchestrator/cli/worker.h"

#include <string.h>
#include <sys/stat.h>

static const char *kind(void)
{
    const char *said = g_getenv("VIRT_REIMAGE_JOB");

    return said && *said ? said : NULL;
}

gboolean vr_job_is(void)
{
    return kind() != NULL;
}

gboolean vr_job_wants_json(void)
{
    return g_strcmp0(g_getenv("VIRT_REIMAGE_ERROR_JSON"), "1") == 0;
}

const char *vr_job_root(void)
{
    return vr_job_is() ? g_getenv("VIRT_REIMAGE_JOB_ROOT") : NULL;
}

/* set-dump shows what a person wrote into a model, and notices where they go to: neither is for everybody. A client asks too, before it takes that socket. */
gboolean vr_job_is_public(const VrCliCommand *command)
{
    static const char *const names[] = {
        "status",      "history", "instance-view", "set-list", "set-info", "image-list", "image-info",
        "generations", "plan",    "triggers",      "metrics",  "complete", NULL};

    return !command->mutating && g_strv_contains(names, command->name);
}

static gboolean is_reader(void)
{
    return g_strcmp0(kind(), "ro") == 0;
}

/* Who came by the read-only socket learns nothing of what is in the file system. */
static gboolean same_directory(const char *a, const char *b)
{
    g_autofree char *canonical = g_canonicalize_filename(a, NULL);
    struct stat st_a, st_b;

    if (g_str_equal(canonical, b))
        return TRUE;
    return !is_reader() && stat(a, &st_a) == 0 && stat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
           st_a.st_ino == st_b.st_ino;
}

static gboolean check_place(const VrCliOptions *options, const char *own_root, GError **error)
{
    const char *own_uri = g_getenv("LIBVIRT_DEFAULT_URI");

    if (!own_uri)
        own_uri = vr_cli_default_uri();
    if (options->uri && !g_str_equal(options->uri, own_uri)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--connect %s: the daemon serves %s", options->uri, own_uri);
        vr_error_next(error, "leave the option out");
    } else if (options->root && !(own_root && same_directory(options->root, own_root))) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "--root %s: the daemon serves %s", options->root,
                    own_root ? own_root : "the default one");
        vr_error_next(error, "leave the option out");
    } else {
        return TRUE;
    }
    return FALSE;
}

/* Of what public commands take, only what names no file, says no more than the answer (libvirt has its own rules for who
 * may read domain XML), and does not keep one of the few jobs of readers for as long as a run takes. */
static gboolean check_public(const VrCli *cli, GError **error)
{
    const char *option = cli->options.debug        ? "debug"
                         : cli->options.watch      ? "watch"
                         : cli->options.print_diff ? "print-diff"
                                                   : vr_cli_options_file_given(&cli->options);

    if (!vr_job_is_public(cli->command)) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is not for the read-only socket of the daemon",
                    cli->command->name);
        vr_error_next(error, "root and the group virt-reimage may give it");
    } else if (option || cli->options.worker_fd != 0) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "--%s is not for the read-only socket of the daemon",
                    option ? option : "worker-fd");
    } else {
        return TRUE;
    }
    return FALSE;
}

gboolean vr_job_check(const VrCli *cli, GError **error)
{
    const char *own_root = vr_job_root();

    if (is_reader())
        return check_public(cli, error) && check_place(&cli->options, own_root, error);
    return !own_root || vr_worker_is(cli) || check_place(&cli->options, own_root, error);
}
