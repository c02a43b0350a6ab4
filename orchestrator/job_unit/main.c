/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virt-reimage-job: the process of one unit of virt-reimage-job@.service. The daemon has connected to virt-reimage-job.socket (0600 root, Accept=yes), and
 * says over that connection what is to be run, with which descriptors (orchestrator/fd_lines.h); we run it as our child, hand signals on and tell its exit
 * status. So the daemon can be shut in far more than what it starts, and a job is in nobody's unit but its own.
 *
 *   the daemon is gone          before the job has begun: it does not; after that it goes on, and nobody hears of its end
 *   the job has ended           said; we stay until what it left to go on by itself has ended as well
 *   SIGTERM (a host goes down)  handed on to all of them: runs are left open at their batch border
 *
 * With words instead of a connection (virt-reimage-job -- reimage shop --all, of a unit with a timer) they are a job just the same, on our own
 * descriptors, and the exit status is theirs.
 */
#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/fd_lines.h"
#include "orchestrator/job_environment.h"
#include "orchestrator/job_unit/children.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define FIRST_LINE_MS 10000

typedef struct {
    const char *program;
    int connection; /* -1: none, or not any more */
    VrFdLines *lines;
    int signals;
    GPid pid; /* of the job; 0: it has ended */
    int exit_status;
} Unit;

/* ---- what is to be run ---- */

/* The one of Accept=yes, or standard input where that is one. */
static int find_connection(GError **error)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    int fd = sd_listen_fds(0) == 1 ? SD_LISTEN_FDS_START : STDIN_FILENO;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) {
        vr_set_error_errno(error, errno, "no connection was given, and no words (virt-reimage-job -- WORDS...)");
        return -1;
    }
    if (peer.uid != 0 && peer.uid != geteuid()) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "only root may start jobs");
        return -1;
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

static json_t *first_line(Unit *unit, GError **error)
{
    gint64 until_ms = vr_clock_now_ms() + FIRST_LINE_MS;
    json_t *document = NULL;
    VrFdLinesGot got;

    while ((got = vr_fd_lines_take(unit->lines, &document)) == VR_FD_LINES_NONE) {
        struct pollfd poll_fd = {unit->connection, POLLIN, 0};
        gint64 left = until_ms - vr_clock_now_ms();

        if (left <= 0)
            break;
        (void)poll(&poll_fd, 1, (int)left);
    }
    if (got != VR_FD_LINES_LINE)
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "what came over the connection is no job");
    return document;
}

static char **words_of(const json_t *array, const char *first)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    gsize i;
    json_t *word;

    if (first)
        g_strv_builder_add(builder, first);
    json_array_foreach(array, i, word)
    {
        if (json_is_string(word))
            g_strv_builder_add(builder, json_string_value(word));
    }
    return g_strv_builder_end(builder);
}

static gboolean start(Unit *unit, char *const *argv, char *const *env, const int *fds, GError **error)
{
    g_auto(GStrv) own = g_get_environ();
    g_auto(GStrv) environment = vr_job_environment((const char *const *)own, (const char *const *)env);
    VrChildGiven given = {.path = unit->program,
                          .argv = (const char *const *)argv,
                          .environment = (const char *const *)environment,
                          .fds = {fds[0], fds[1], fds[2]},
                          .cwd = fds[3]};

    return vr_child_hand_over(&given, &unit->pid, error);
}

static void tell(const Unit *unit, json_t *line)
{
    (void)vr_fd_lines_send(unit->connection, line, NULL, 0, 0, NULL);
    json_decref(line);
}

/* Before the job: a daemon that did not wait for it says that nothing was done. */
static gboolean tell_start(const Unit *unit, GError **error)
{
    json_t *line = json_pack("{s:b}", "started", 1);
    gboolean sent = !vr_fd_lines_is_over(unit->lines) && vr_fd_lines_send(unit->connection, line, NULL, 0, 0, NULL);

    json_decref(line);
    if (!sent)
        g_set_error(error, VR_ERROR, VR_ERROR_DISCONNECTED, "nobody waits for this job any more, so it is not begun");
    return sent;
}

static gboolean start_told(Unit *unit, char *const *argv, char *const *env, const int *fds, GError **error)
{
    if (!tell_start(unit, error))
        return FALSE;
    if (start(unit, argv, env, fds, error))
        return TRUE;
    tell(unit, json_pack("{s:i}", "exit", VR_CHILD_NOT_BEGUN));
    return FALSE;
}

static gboolean start_given(Unit *unit, GError **error)
{
    g_auto(GStrv) argv = NULL, env = NULL;
    int fds[VR_FD_LINES_COMMAND_FDS];
    json_t *document;
    gboolean ok;

    unit->connection = find_connection(error);
    if (unit->connection < 0)
        return FALSE;
    unit->lines = vr_fd_lines_new(unit->connection, VR_FD_LINES_COMMAND_FDS);
    document = first_line(unit, error);
    if (!document)
        return FALSE;
    argv = words_of(json_object_get(document, "argv"), "virt-reimage");
    env = words_of(json_object_get(document, "env"), NULL);
    json_decref(document);
    if (!vr_fd_lines_fds(unit->lines, fds)) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "a job came without its descriptors");
        return FALSE;
    }
    ok = start_told(unit, argv, env, fds, error);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        vr_fd_clear(&fds[i]);
    return ok;
}

/* words[0] is replaced by the program's name. */
static gboolean start_words(Unit *unit, char **words, GError **error)
{
    vr_autofd here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int fds[VR_FD_LINES_COMMAND_FDS] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, here};
    char *env[] = {(char *)"VIRT_REIMAGE_JOB=1", NULL};

    g_free(words[0]);
    words[0] = g_strdup("virt-reimage");
    return start(unit, words, env, fds, error);
}

/* ---- until the last has ended ---- */

/* A daemon that is gone, or talks nonsense, is not heard any more; the job goes on. */
static void hear_daemon(Unit *unit)
{
    json_t *document = NULL;
    VrFdLinesGot got;

    while ((got = vr_fd_lines_take(unit->lines, &document)) == VR_FD_LINES_LINE) {
        int number = vr_fd_lines_signal(document);
        json_decref(document);
        if (number && unit->pid > 0)
            (void)kill(unit->pid, number);
    }
    if (got != VR_FD_LINES_NONE)
        vr_fd_clear(&unit->connection);
}

static void tell_end(Unit *unit, int status)
{
    unit->pid = 0;
    unit->exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (unit->connection < 0)
        return;
    tell(unit, json_pack("{s:i}", "exit", unit->exit_status));
    vr_fd_clear(&unit->connection);
}

/* FALSE: nobody is left. */
static gboolean hear_signal(Unit *unit)
{
    struct signalfd_siginfo info;
    gboolean left = TRUE;
    int status;

    if (read(unit->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return TRUE;
    if (info.ssi_signo != SIGCHLD) {
        vr_children_signal((int)info.ssi_signo);
        return TRUE;
    }
    if (vr_children_reap(unit->pid, &status, &left))
        tell_end(unit, status);
    return left;
}

static void see_it_out(Unit *unit)
{
    gboolean left = TRUE;

    while (left) {
        struct pollfd polls[] = {{unit->signals, POLLIN, 0}, {unit->connection, POLLIN, 0}};

        if (poll(polls, G_N_ELEMENTS(polls), -1) < 0)
            continue;
        if (unit->connection >= 0 && polls[1].revents)
            hear_daemon(unit);
        if (polls[0].revents)
            left = hear_signal(unit);
    }
}

/* Before the first child, so that none of its signals is lost. */
static gboolean await_signals(Unit *unit, GError **error)
{
    sigset_t awaited;

    sigemptyset(&awaited);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGHUP);
    sigaddset(&awaited, SIGCHLD);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    signal(SIGPIPE, SIG_IGN);
    unit->signals = signalfd(-1, &awaited, SFD_CLOEXEC);
    if (unit->signals >= 0)
        return vr_children_adopt(error);
    vr_set_error_errno(error, errno, "cannot wait for signals");
    return FALSE;
}

/* ---- */

static char **parse(int argc, char **argv, char **program, GError **error)
{
    const GOptionEntry entries[] = {
        {"program", 0, 0, G_OPTION_ARG_FILENAME, program, "run this one (default: " VR_JOB_PROGRAM ")", "FILE"},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("[-- WORDS…]");
    g_auto(GStrv) words = g_strdupv(argv);

    g_option_context_set_summary(context,
                                 "Runs virt-reimage as a job: what the daemon says over the connection that the\n"
                                 "service manager has accepted, or WORDS.");
    g_option_context_set_strict_posix(context, TRUE);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse_strv(context, &words, error))
        return NULL;
    if (words[1] && g_str_equal(words[1], "--")) { /* it has done its work */
        g_free(words[1]);
        memmove(words + 1, words + 2, sizeof(*words) * g_strv_length(words + 1));
    }
    return g_steal_pointer(&words);
}

static int fail(const GError *error)
{
    g_autofree char *text = vr_error_text(error);

    fputs(text, stderr);
    return 1;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *program = NULL;
    g_auto(GStrv) words = parse(argc, argv, &program, &error);
    Unit unit = {.program = program ? program : VR_JOB_PROGRAM, .connection = -1, .signals = -1};
    gboolean given = words && !words[1];

    if (!words || !await_signals(&unit, &error))
        return fail(error);
    if (given ? !start_given(&unit, &error) : !start_words(&unit, words, &error))
        return fail(error);
    see_it_out(&unit);
    vr_fd_lines_free(unit.lines);
    vr_fd_clear(&unit.connection);
    vr_fd_clear(&unit.signals);
    return given ? 0 : unit.exit_status;
}
