/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virt-reimaged: serves the command line's work on two Unix sockets, and begins by itself what models ask for. A small supervisor: one main loop, and
 * everything that takes time or can fail is a job, a process of virt-reimage (jobs.h).
 */
#include "base/error.h"
#include "base/log.h"
#include "disk/store.h"
#include "orchestrator/config.h"
#include "orchestrator/daemon/commands.h"
#include "orchestrator/daemon/drop.h"
#include "orchestrator/daemon/jobs.h"
#include "orchestrator/daemon/listen.h"
#include "orchestrator/daemon/reports.h"
#include "orchestrator/daemon/routes.h"
#include "orchestrator/daemon/server.h"
#include "orchestrator/daemon/service.h"
#include "orchestrator/daemon/takeover.h"
#include "orchestrator/daemon/triggers.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define PROGRAM "virt-reimaged"
#define COMMAND_PROGRAM "virt-reimage"
#define JOB_SOCKET "job.sock"

typedef struct {
    char *socket_dir, *root, *uri, *config;
    gboolean debug, version;
} Options;

static void options_clear(Options *options)
{
    g_free(options->socket_dir);
    g_free(options->root);
    g_free(options->uri);
    g_free(options->config);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static const char DESCRIPTION[] =
    "It serves " VR_SOCKET_NAME " for root and the group " VR_SOCKET_GROUP ", and " VR_SOCKET_RO_NAME
    " for everybody: on the\n"
    "sockets that the service manager gives it (FileDescriptorName=rw and ro), else in " VR_SOCKET_DIR ".\n"
    "SIGTERM ends it when the runs that it began are at their batch border; a second one ends it at once. They\n"
    "are gone on with at the next start.\n"
    "\n"
    "Exit status: 0 stopped; 1 failed, or ended by a second signal; 2 usage, or a configuration that cannot be used;\n"
    "4 refused; 5 another one serves these sockets.";

/* ---- the command line ---- */

static gboolean usage(GError **error, const char *message)
{
    g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "%s", message);
    vr_error_next(error, "'%s --help' shows the options", PROGRAM);
    return FALSE;
}

static gboolean parse(Options *options, int argc, char **argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &options->uri, "libvirt to talk to (default: [host] uri)", "URI"},
        {"root", 'r', 0, G_OPTION_ARG_FILENAME, &options->root, "where images and OS disks lie (default: [host] root)",
         "DIR"},
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &options->config,
         "the configuration (default: " VR_CONFIG_DEFAULT_PATH ")", "FILE"},
        {"socket-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->socket_dir, "make the sockets here", "DIR"},
        {"debug", 0, 0, G_OPTION_ARG_NONE, &options->debug, "log what is done", NULL},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &options->version, "the version of this program", NULL},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_auto(GStrv) words = g_strdupv(argv);
    g_autoptr(GError) local = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_summary(context, "Serves virt-reimage to its peers and starts runs by itself.");
    g_option_context_set_description(context, DESCRIPTION);
    if (!g_option_context_parse_strv(context, &words, &local))
        return usage(error, local->message);
    return words[0] && words[1] ? usage(error, "there are no arguments but options") : TRUE;
}

/* ---- the daemon ---- */

static void raise_open_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

typedef struct {
    char *uri, *root, *program, *job_socket;
    VrService *service;
    VrJobs *jobs;
    VrCommands *commands;
    VrRoutes *routes;
    VrListens listens;
    VrServer *server;
    VrTakeover *takeover;
    VrReports *reports;
    VrTriggers *triggers;
    VrDrop *drop; /* NULL: there is none */
} Daemon;

/* What holds jobs before the jobs, and connections before what serves them. */
static void daemon_clear(Daemon *daemon)
{
    g_clear_pointer(&daemon->takeover, vr_takeover_free);
    g_clear_pointer(&daemon->drop, vr_drop_free);
    g_clear_pointer(&daemon->triggers, vr_triggers_free);
    g_clear_pointer(&daemon->reports, vr_reports_free);
    g_clear_pointer(&daemon->commands, vr_commands_free);
    g_clear_pointer(&daemon->server, vr_server_free);
    vr_listen_clear(&daemon->listens);
    g_clear_pointer(&daemon->routes, vr_routes_free);
    g_clear_pointer(&daemon->jobs, vr_jobs_free);
    g_clear_pointer(&daemon->service, vr_service_free);
    g_free(daemon->uri);
    g_free(daemon->root);
    g_free(daemon->program);
    g_free(daemon->job_socket);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Daemon, daemon_clear)

/* Beside ourselves as it is built, else where it is installed. Free with g_free. */
static char *find_program(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *beside = dir ? g_build_filename(dir, COMMAND_PROGRAM, NULL) : NULL;

    if (beside && g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE))
        return g_steal_pointer(&beside);
    return g_find_program_in_path(COMMAND_PROGRAM);
}

/* One URI and one root for its life: every job is told them. */
static gboolean settle(Daemon *daemon, const Options *options, const VrConfig *config, GError **error)
{
    const char *uri = options->uri ? options->uri : config->uri;
    const char *root = options->root ? options->root : config->root;
    g_autofree char *initial = NULL;

    daemon->uri = g_strdup(uri ? uri : geteuid() == 0 ? "qemu:///system" : "qemu:///session");
    initial = root ? g_strdup(root) : vr_store_default_root(daemon->uri);
    daemon->root = g_canonicalize_filename(initial, NULL);
    daemon->job_socket = g_build_filename(options->socket_dir ? options->socket_dir : VR_SOCKET_DIR, JOB_SOCKET, NULL);
    daemon->program = find_program();
    if (daemon->program)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND,
                COMMAND_PROGRAM ", which does the work, is neither beside " PROGRAM " nor in PATH");
    return FALSE;
}

static enum MHD_Result answer_command(void *commands, struct MHD_Connection *connection)
{
    return vr_commands_answer(commands, connection);
}

static void look(void *server)
{
    vr_server_look(server);
}

static void stop(void *data)
{
    Daemon *daemon = data;

    vr_routes_stop(daemon->routes);
    vr_commands_stop(daemon->commands);
    vr_jobs_stop(daemon->jobs);
}

static void make(Daemon *daemon, const VrConfig *config)
{
    const VrJobsConfig jobs = {.program = daemon->program,
                               .socket = daemon->job_socket,
                               .uri = daemon->uri,
                               .root = daemon->root,
                               .max_jobs = config->max_commands};

    daemon->service = vr_service_new();
    daemon->jobs = vr_jobs_new(&jobs);
    daemon->commands = vr_commands_new(daemon->jobs);
    daemon->routes = vr_routes_new(&(VrRoutesConfig){.uri = daemon->uri,
                                                     .root = daemon->root,
                                                     .jobs = daemon->jobs,
                                                     .commands = answer_command,
                                                     .commands_data = daemon->commands});
    vr_service_add_stop(daemon->service, stop, daemon);
}

/* What nobody asks for. */
static void begin_by_itself(Daemon *daemon, const VrConfig *config)
{
    daemon->reports = vr_reports_new(daemon->service, daemon->jobs, config);
    daemon->triggers = vr_triggers_new(daemon->service, daemon->jobs, daemon->root, vr_reports_wake, daemon->reports);
    if (config->drop_directory)
        daemon->drop = vr_drop_new(daemon->service, daemon->jobs, config->drop_directory);
}

static gboolean serve(const Options *options, const VrConfig *config, GError **error)
{
    g_auto(Daemon) daemon = {.listens = {.sockets = {{.fd = -1}, {.fd = -1}}, .dir_fd = -1}};

    if (!settle(&daemon, options, config, error) || !vr_listen_open(&daemon.listens, options->socket_dir, error))
        return FALSE;
    make(&daemon, config);
    daemon.server = vr_server_new(vr_routes_answer, daemon.routes, error);
    if (!daemon.server)
        return FALSE;
    vr_commands_on_closed(daemon.commands, look, daemon.server);
    vr_server_listen(daemon.server, &daemon.listens);
    daemon.takeover = vr_takeover_new(daemon.service, daemon.jobs, daemon.root);
    begin_by_itself(&daemon, config);
    vr_service_status(daemon.service, "serving %s", daemon.root);
    if (vr_service_run(daemon.service))
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "ended by a second signal before all was done");
    return FALSE;
}

static gboolean run(int argc, char **argv, GError **error)
{
    g_auto(Options) options = {0};
    g_autoptr(VrConfig) config = NULL;

    if (!parse(&options, argc, argv, error))
        return FALSE;
    if (options.version) {
        printf("%s %s\n", PROGRAM, VR_VERSION);
        return TRUE;
    }
    if (options.debug)
        vr_log_set_level(VR_LOG_DEBUG);
    config = vr_config_load(options.config, error);
    return config && serve(&options, config, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    raise_open_files();
    if (run(argc, argv, &error))
        return 0;
    g_autofree char *text = vr_error_text(error);
    fputs(text, stderr);
    return vr_error_exit_status(error);
}
