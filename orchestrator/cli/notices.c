/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * J7, from the side of the commands. A command that ended, or whose run began, leaves a process of this program that delivers ('notices --deliver'),
 * and goes on: no receiver is ever waited for. That process is started outside of what confines this one, since hooks are the admin's and write where
 * they must. Where no daemon runs that looks again, it stays for a while to try again what failed.
 */
#include "orchestrator/cli/notices.h"

#include "base/child.h"
#include "base/confine.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/store.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/executor.h"
#include "orchestrator/outbox_deliver.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SELF "/proc/self/exe" /* also when a package has put a newer program in its place */
#define SOCKET_DIR "/run/virt-reimage"
#define SOCKET "virt-reimage.sock"

/* --- requests ---------------------------------------------------------------------------------------- */

/* NULL with an error; VR_ERROR_NOT_FOUND: there is no store. */
static VrStore *open_store(const VrCli *cli, GError **error)
{
    g_autoptr(VrStore) store = vr_store_open(cli->options.root, FALSE, error);

    return store && vr_registry_init(vr_store_db(store), error) ? g_steal_pointer(&store) : NULL;
}

static gboolean submit(const VrCli *cli, char **id, GError **error)
{
    const VrOutboxRequest request = {.set_name = cli->args[0],
                                     .operation = cli->command->name,
                                     .user = vr_executor_user(),
                                     .version = cli->options.version,
                                     .role = cli->options.role,
                                     .reason = cli->options.reason,
                                     .instances = cli->n_args > 1 ? (const char *const *)cli->args + 1 : NULL,
                                     .all = cli->options.all,
                                     .automatic = cli->options.automatic};
    g_autoptr(VrStore) store = open_store(cli, error);

    return store && vr_outbox_submit(vr_store_db(store), &request, id, error);
}

/* The store of the command is closed by now: a second handle of one process would take the locks of the first with it when it is closed. */
static void settle(const VrCli *cli, const char *id, const GError *refused)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrStore) store = id ? open_store(cli, &local) : NULL;

    if (id && (!store || !vr_outbox_settle(vr_store_db(store), id, refused, &local)))
        vr_warn(cli, "nobody is told of the result of this request: %s", local->message);
}

gboolean vr_as_request(const VrCli *cli, gboolean (*command)(const VrCli *cli, GError **error), GError **error)
{
    g_autofree char *id = NULL;
    g_autoptr(GError) local = NULL;
    VrCli asks = *cli;
    gboolean ok;

    if (cli->options.dry_run)
        return command(cli, error);
    if (!submit(cli, &id, error))
        return FALSE;
    asks.request = id;
    ok = command(&asks, &local);
    settle(cli, id, local);
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}

gboolean vr_as_apply_request(VrSession *session, VrTargets *targets,
                             gboolean (*run)(VrSession *session, VrTargets *targets, GError **error), GError **error)
{
    const VrCli *cli = session->cli;
    const VrOutboxRequest request = {.set_name = session->set->name,
                                     .operation = vr_run_kind_name(VR_RUN_APPLY),
                                     .user = vr_executor_user(),
                                     .reason = cli->options.reason,
                                     .all = TRUE};
    VrDb *db = vr_store_db(session->store);
    g_autofree char *id = NULL;
    g_autoptr(GError) local = NULL, untold = NULL;
    VrCli asks = *cli;
    gboolean ok;

    if (!vr_outbox_submit(db, &request, &id, error))
        return FALSE;
    asks.request = id;
    session->cli = &asks;
    ok = run(session, targets, &local);
    session->cli = cli;
    if (id && !vr_outbox_settle(db, id, local, &untold))
        vr_warn(cli, "nobody is told of the result of this request: %s", untold->message);
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}

/* --- delivery ---------------------------------------------------------------------------------------- */

/* A daemon of this host and store looks at the outbox by itself. */
static gboolean has_daemon(const VrCli *cli, const VrConfig *config)
{
    const char *directory = g_getenv("VIRT_REIMAGE_SOCKET_DIR");
    g_autofree char *path = g_build_filename(directory ? directory : SOCKET_DIR, SOCKET, NULL);
    g_autofree char *root = config->root ? g_strdup(config->root) : vr_store_default_root(config->uri);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    vr_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path)
        return FALSE;
    return g_str_equal(root, cli->options.root) && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
}

typedef struct {
    const char *const *argv;
    GError *error;
} Leave;

static void let_go(void *data)
{
    Leave *leave = data;

    vr_child_let_go(SELF, leave->argv, &leave->error);
}

void vr_notices_leave(const VrCli *cli)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrConfig) config = NULL;
    g_autoptr(GPtrArray) channels = NULL;
    const char *argv[] = {VR_PROGRAM, "--root", cli->options.root, "notices", "--deliver", "--wait", NULL};
    Leave leave = {.argv = argv};

    if (!vr_outbox_has_news())
        return;
    config = vr_config_load(NULL, &local);
    channels = config ? vr_outbox_channels(config) : NULL;
    if (channels && channels->len == 0)
        return;
    if (channels && has_daemon(cli, config))
        argv[G_N_ELEMENTS(argv) - 2] = NULL; /* it tries again by itself */
    if (channels)
        vr_confine_outside(let_go, &leave);
    if (local || leave.error)
        vr_warn(cli, "notices wait for '%s notices --deliver': %s", VR_PROGRAM,
                local ? local->message : leave.error->message);
    g_clear_error(&leave.error);
}
