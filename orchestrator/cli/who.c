/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/who.h"

#include "base/error.h"
#include "disk/store.h"
#include "orchestrator/cli/job.h"
#include "orchestrator/cli/remote.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Errno of the right to use a socket of the daemon; 0: it may be connected to. */
static int lacks_socket(const char *name, int mode)
{
    const char *dir = g_getenv("VIRT_REIMAGE_SOCKET_DIR");
    g_autofree char *path = g_build_filename(dir ? dir : VR_REMOTE_SOCKET_DIR, name, NULL);

    return access(path, mode) == 0 ? 0 : errno;
}

/* Its directory, or its database; and the error is about that. */
static gboolean is_closed_to_us(const char *root, const GError *error)
{
    g_autofree char *db = g_build_filename(root, "state.db", NULL);

    return ((access(root, R_OK | X_OK) < 0 && errno == EACCES) || (access(db, R_OK) < 0 && errno == EACCES)) &&
           strstr(error->message, root) != NULL;
}

static char *advice_for_closed(const VrCli *cli)
{
    gboolean no_member = lacks_socket("virt-reimage.sock", W_OK) == EACCES;

    if (vr_remote_is_local(cli->command))
        return g_strdup_printf("only root may, and '%s' is never done by the daemon: use sudo", cli->command->name);
    if (no_member && !vr_job_is_public(cli->command))
        return g_strdup_printf("only root may: use sudo, or let virt-reimaged do it, as it does for members of its "
                               "group ('adduser %s virt-reimage', and log in anew)",
                               g_get_user_name());
    return g_strdup(
        "only root may, and no virt-reimaged does it for you: 'systemctl status virt-reimaged' shows whether "
        "it runs; or use sudo");
}

/* Who has guests of his own and means those says nothing either; so it is told only where nothing was found. */
static gboolean may_mean_the_host(const VrCli *cli)
{
    const char *uri = g_getenv("LIBVIRT_DEFAULT_URI");
    g_autofree char *own = vr_store_default_root(NULL);

    return !cli->options.uri && (!uri || !*uri) && g_str_equal(cli->options.root, own) &&
           lacks_socket("virt-reimage-ro.sock", F_OK) == 0;
}

static const char *how_the_host_is_meant(const VrCli *cli)
{
    if (vr_remote_is_local(cli->command))
        return "with sudo it is about the host's";
    if (!vr_job_is_public(cli->command) && lacks_socket("virt-reimage.sock", W_OK) == EACCES)
        return "with sudo it is about the host's, or with '-c qemu:///system' for a member of the group virt-reimage, "
               "as "
               "virt-reimaged does it then";
    return "'-c qemu:///system' is about the host's, and virt-reimaged does it";
}

void vr_who_advise(const VrCli *cli, GError **error)
{
    g_autofree char *advice = NULL;

    if (!error || !*error || geteuid() == 0 || vr_job_is())
        return;
    if (is_closed_to_us(cli->options.root, *error)) {
        advice = advice_for_closed(cli);
        vr_error_next(error, "%s", advice);
    } else if (g_error_matches(*error, VR_ERROR, VR_ERROR_NOT_FOUND) && may_mean_the_host(cli)) {
        vr_error_now(error, "this was about guests of your own (qemu:///session): %s", how_the_host_is_meant(cli));
    }
}
