/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/confine.h"
#include "base/error.h"
#include "base/log.h"
#include "orchestrator/cli/cli.h"
#include "orchestrator/cli/job.h"
#include "orchestrator/cli/signals.h"
#include "orchestrator/error_json.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Asked for by an option, or by the daemon. The words are looked at as they came: what is wrong with them may be the error. */
static gboolean wants_json(char **argv)
{
    for (char **word = argv; *word && !g_str_equal(*word, "--"); word++)
        if (g_str_equal(*word, "--json"))
            return TRUE;
    return vr_job_wants_json();
}

/* The one place that prints an error. What it quotes may come from anywhere. */
static int report(const GError *error, char **argv)
{
    fflush(stdout);
    if (wants_json(argv)) {
        json_t *document = vr_error_json(error);
        (void)json_dumpf(document, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        json_decref(document);
    } else {
        g_autofree char *text = vr_error_text(error);
        fputs(text, stderr);
    }
    return vr_error_exit_status(error);
}

/* An answer that did not reach its reader was not given: a full disk behind '> file' is an error. The reader of a pipe may
 * have had enough. */
static gboolean flush_stdout(GError **error)
{
    struct stat st;
    int failed;

    if (fflush(stdout) == 0 && !ferror(stdout))
        return TRUE;
    if (fstat(STDOUT_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
        return TRUE;
    failed = errno;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_IO, "cannot write the output");
    vr_error_cause(error, "%s", g_strerror(failed));
    vr_error_now(error, "what the command does is done; only its answer is lost");
    vr_error_next(error, "make room, or send standard output elsewhere");
    return FALSE;
}

/* One of the first three that is closed would be the next file that is opened, a database perhaps, and an answer would be written into it. What stands
 * there fails as a closed one does. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(1);
}

/* Each guest of a batch needs some descriptors; the usual soft limit of 1,024 is there for select(), which nothing here calls. */
static void raise_open_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* LeakSanitizer stops every thread by ptrace, and Landlock forbids that to a thread that is restricted of one that is not: so it looks from
 * outside. */
#ifdef __SANITIZE_ADDRESS__
static void check_leaks(void *unused)
{
    __lsan_do_leak_check();
}
#else
static void check_leaks(void *unused)
{
}
#endif

static int run(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    int status;

    fill_standard_descriptors();
    setlocale(LC_CTYPE, "");
    if (g_strcmp0(g_getenv("VIRT_REIMAGE_DEBUG"), "1") == 0)
        vr_log_set_level(VR_LOG_DEBUG);
    raise_open_files();
    vr_signals_begin(); /* before any thread, so that all of them leave these signals to the one that waits */
    if (!vr_cli_main(argc, argv, &status, &error))
        return report(error, argv);
    return flush_stdout(&error) ? status : report(error, argv);
}

int main(int argc, char **argv)
{
    int status = run(argc, argv);

    vr_confine_outside(check_leaks, NULL);
    return status;
}
