/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of a connection of a command: 101 -> its first line, which is to come soon -> the job, whose end is told -> closed. The peer may go at any time:
 * before its job has begun nothing is begun, after that the job gets SIGHUP. What a peer says is judged by the job itself, whose parser it is
 * (cli/job.h); here only its form is, and what of its environment is handed on.
 *
 * One of the read-only socket gets pipes instead of giving its descriptors, and its job has a deadline: whoever does not read them holds one of his two
 * places for so long, and nobody else's.
 */
#include "orchestrator/daemon/commands.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "orchestrator/daemon/answers.h"
#include "orchestrator/daemon/server.h"
#include "orchestrator/error_json.h"
#include "orchestrator/fd_lines.h"
#include "orchestrator/job_environment.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define UPGRADE "virt-reimage-command"
#define FIRST_LINE_S 10
#define READER_MS 60000
#define WORDS_MAX 4096
#define SIGNALS_MAX 1000 /* of one peer; who sends without an end would have the main loop for himself */

struct VrCommands {
    VrJobs *jobs;
    GHashTable *open; /* Command *, set */
    gboolean stopping;
    void (*closed)(void *data);
    void *closed_data;
};

typedef struct {
    VrCommands *commands;
    VrPeer peer;
    struct MHD_UpgradeResponseHandle *upgrade;
    int fd; /* libmicrohttpd's */
    VrFdLines *lines;
    guint source, deadline;
    VrJob *job; /* NULL: not yet */
    guint signals;
} Command;

/* ---- its end ---- */

static void command_free(Command *command)
{
    g_clear_handle_id(&command->source, g_source_remove);
    g_clear_handle_id(&command->deadline, g_source_remove);
    g_clear_pointer(&command->lines, vr_fd_lines_free);
    if (command->job)
        vr_job_forget(command->job);
    if (command->upgrade) {
        (void)shutdown(command->fd, SHUT_RDWR); /* for the peer, now */
        (void)MHD_upgrade_action(command->upgrade, MHD_UPGRADE_ACTION_CLOSE);
        if (command->commands->closed)
            command->commands->closed(command->commands->closed_data);
    }
    g_free(command);
}

/* Frees it. */
static void drop(Command *command)
{
    g_hash_table_remove(command->commands->open, command);
}

/* A few bytes, which fit: one who does not read them loses them. */
static void tell(const Command *command, json_t *document, const int *fds, guint n)
{
    (void)vr_fd_lines_send(command->fd, document, fds, n, 0, NULL);
    json_decref(document);
}

static void on_ended(VrJob *job, int exit_status, void *data)
{
    Command *command = data;

    command->job = NULL;
    tell(command, json_pack("{s:i}", "exit", exit_status), NULL, 0);
    drop(command);
}

/* ---- its job ---- */

static char **words_of(const json_t *array, gsize max)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    gsize i;
    json_t *word;

    if (!json_is_array(array) || json_array_size(array) > max)
        return NULL;
    json_array_foreach(array, i, word)
    {
        if (!json_is_string(word))
            return NULL;
        g_strv_builder_add(builder, json_string_value(word));
    }
    return g_strv_builder_end(builder);
}

static char **environment_of(const Command *command, char *const *given)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    gboolean root = command->peer.uid == 0 || command->peer.uid == geteuid();

    for (; *given; given++)
        if (vr_job_environment_may(*given, root))
            g_strv_builder_add(builder, *given);
    return g_strv_builder_end(builder);
}

static gboolean open_pipe(int *read_end, int *write_end, GError **error)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0) {
        vr_set_error_errno(error, errno, "cannot make a pipe");
        return FALSE;
    }
    *read_end = ends[0];
    *write_end = ends[1];
    return TRUE;
}

static gboolean start(Command *command, VrJobRequest *request, GError **error)
{
    command->job = vr_jobs_start(command->commands->jobs, request, on_ended, command, error);
    return command->job != NULL;
}

static gboolean start_reader(Command *command, VrJobRequest *request, GError **error)
{
    vr_autofd out_read = -1, out_write = -1, err_read = -1, err_write = -1;

    if (!open_pipe(&out_read, &out_write, error) || !open_pipe(&err_read, &err_write, error))
        return FALSE;
    const int ours[VR_FD_LINES_READER_FDS] = {out_read, err_read};
    request->fds[0] = -1;
    request->fds[1] = out_write;
    request->fds[2] = err_write;
    request->cwd = -1;
    request->timeout_ms = READER_MS;
    if (!start(command, request, error))
        return FALSE;
    tell(command, json_pack("{s:b}", "started", 1), ours, VR_FD_LINES_READER_FDS);
    return TRUE;
}

static gboolean start_own(Command *command, VrJobRequest *request, int fds[VR_FD_LINES_COMMAND_FDS], GError **error)
{
    struct stat st;

    memcpy(request->fds, fds, sizeof(request->fds));
    request->cwd = fds[3];
    if (fstat(request->cwd, &st) < 0 || !S_ISDIR(st.st_mode)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "the last descriptor must be of a directory");
        return FALSE;
    }
    if (!start(command, request, error))
        return FALSE;
    tell(command, json_pack("{s:b}", "started", 1), NULL, 0);
    return TRUE;
}

static gboolean begin(Command *command, const json_t *document, GError **error)
{
    g_auto(GStrv) argv = words_of(json_object_get(document, "argv"), WORDS_MAX);
    g_auto(GStrv) given = words_of(json_object_get(document, "env"), WORDS_MAX);
    g_auto(GStrv) env = given ? environment_of(command, given) : NULL;
    int fds[VR_FD_LINES_COMMAND_FDS] = {-1, -1, -1, -1};
    VrJobRequest request = {.argv = (const char *const *)argv,
                            .env = (const char *const *)env,
                            .uid = command->peer.uid,
                            .read_only = command->peer.read_only};
    gboolean ok;

    if (!argv || !*argv || !given) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "argv and env must be arrays of strings, and argv not empty");
        return FALSE;
    }
    if (request.read_only)
        return start_reader(command, &request, error);
    if (!vr_fd_lines_fds(command->lines, fds)) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                    "with the first line go standard input, output, error and a directory");
        return FALSE;
    }
    ok = start_own(command, &request, fds, error);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        vr_fd_clear(&fds[i]);
    return ok;
}

/* ---- its lines ---- */

static gboolean take_first(Command *command, const json_t *document)
{
    g_autoptr(GError) local = NULL;

    g_clear_handle_id(&command->deadline, g_source_remove);
    if (vr_fd_lines_is_over(command->lines)) /* it did not wait, and may do by itself what it wanted */
        return FALSE;
    if (begin(command, document, &local))
        return TRUE;
    tell(command, vr_error_json(local), NULL, 0);
    return FALSE;
}

static gboolean take(Command *command, const json_t *document)
{
    int number;

    if (!command->job)
        return take_first(command, document);
    number = vr_fd_lines_signal(document);
    if (number == 0 || number == SIGKILL || ++command->signals > SIGNALS_MAX)
        return FALSE;
    vr_job_signal(command->job, number);
    return TRUE;
}

static gboolean on_lines(int fd, GIOCondition condition, gpointer data)
{
    Command *command = data;
    gboolean goes_on = TRUE;

    while (goes_on) {
        json_t *document;
        VrFdLinesGot got = vr_fd_lines_take(command->lines, &document);

        if (got == VR_FD_LINES_NONE)
            return G_SOURCE_CONTINUE;
        goes_on = got == VR_FD_LINES_LINE && take(command, document);
        json_decref(document);
    }
    command->source = 0;
    if (command->job)
        vr_job_signal(command->job, SIGHUP);
    drop(command);
    return G_SOURCE_REMOVE;
}

static gboolean on_deadline(gpointer data)
{
    Command *command = data;

    command->deadline = 0;
    drop(command);
    return G_SOURCE_REMOVE;
}

/* ---- its beginning ---- */

/* Not called when the peer is gone before its 101, so nothing of ours is made earlier. What came before that was not for us. */
static void on_upgrade(void *data, struct MHD_Connection *connection, void *context, const char *extra,
                       size_t extra_size, MHD_socket fd, struct MHD_UpgradeResponseHandle *upgrade)
{
    const VrRequest *request = context;
    Command *command = g_new0(Command, 1);

    command->commands = data;
    command->peer = *request->peer;
    command->upgrade = upgrade;
    command->fd = fd;
    command->lines = vr_fd_lines_new(fd, command->peer.read_only ? 0 : VR_FD_LINES_COMMAND_FDS);
    g_hash_table_add(command->commands->open, command);
    if (extra_size > 0)
        command->deadline = g_idle_add(on_deadline, command);
    else
        command->deadline = g_timeout_add_seconds(FIRST_LINE_S, on_deadline, command);
    command->source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_lines, command);
}

static char *header_of(struct MHD_Connection *connection, const char *name)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);

    return value ? g_uri_unescape_string(value, NULL) : NULL;
}

/* One that names neither means ours. A store is a directory, however it is reached. */
static gboolean is_ours(const VrCommands *commands, struct MHD_Connection *connection)
{
    g_autofree char *uri = header_of(connection, "Virt-Reimage-Uri"),
                    *root = header_of(connection, "Virt-Reimage-Root");
    const char *own_uri = vr_jobs_uri(commands->jobs), *own_root = vr_jobs_root(commands->jobs);
    char *real = own_root ? realpath(own_root, NULL) : NULL;
    gboolean same = !uri || g_str_equal(uri, own_uri ? own_uri : geteuid() == 0 ? "qemu:///system" : "qemu:///session");

    same = same && (!root || g_strcmp0(root, own_root) == 0 || g_strcmp0(root, real) == 0);
    free(real);
    return same;
}

static gboolean asks_for_upgrade(struct MHD_Connection *connection)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_UPGRADE);

    return value && g_ascii_strcasecmp(value, UPGRADE) == 0;
}

enum MHD_Result vr_commands_answer(VrCommands *commands, struct MHD_Connection *connection)
{
    struct MHD_Response *response;
    enum MHD_Result queued;

    if (!asks_for_upgrade(connection))
        return vr_answer_refusal(connection, VR_HTTP_UPGRADE_REQUIRED,
                                 "this needs Connection: Upgrade and Upgrade: " UPGRADE);
    if (!is_ours(commands, connection))
        return vr_answer_refusal(connection, VR_HTTP_MISDIRECTED,
                                 "this daemon serves another libvirt or another store");
    if (commands->stopping)
        return vr_answer_refusal(connection, VR_HTTP_STOPPING, "the daemon is being stopped");
    response = MHD_create_response_for_upgrade(on_upgrade, commands);
    MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, UPGRADE);
    queued = MHD_queue_response(connection, MHD_HTTP_SWITCHING_PROTOCOLS, response);
    MHD_destroy_response(response);
    return queued;
}

/* ---- all of them ---- */

VrCommands *vr_commands_new(VrJobs *jobs)
{
    VrCommands *commands = g_new0(VrCommands, 1);

    commands->jobs = jobs;
    commands->open = g_hash_table_new_full(NULL, NULL, (GDestroyNotify)command_free, NULL);
    return commands;
}

void vr_commands_on_closed(VrCommands *commands, void (*closed)(void *data), void *data)
{
    commands->closed = closed;
    commands->closed_data = data;
}

void vr_commands_stop(VrCommands *commands)
{
    commands->stopping = TRUE;
}

void vr_commands_free(VrCommands *commands)
{
    if (!commands)
        return;
    g_hash_table_unref(commands->open);
    g_free(commands);
}
