/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/extension_guest.h"

#include "base/error.h"
#include "hv/guest_agent.h"

#include <stdlib.h>
#include <string.h>

#define SHELL "/bin/sh"
#define STATUS_MAX 64 /* bytes before the output in an answer */

/* --- the shell texts; $1 is the directory ------------------------------------------------------------- */

/* The agent may have no PATH. */
#define PATHS "PATH=${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}; export PATH; umask 077\n"

/* p: the process of the wrapper below, which is its group too, if it is still there: it stands in the directory. */
#define FIND                                                                                                           \
    "p=$(cat \"$1/pid\" 2>/dev/null)\n"                                                                                \
    "[ -n \"$p\" ] && [ \"$(readlink \"/proc/$p/cwd\")\" = \"$1\" ] || p=\n"

static const char look_text[] =
    PATHS FIND "[ -d \"$1\" ] && { [ -e \"$1/pid\" ] || [ -e \"$1/status\" ]; } || { echo nothing; exit 0; }\n"
               "if [ -e \"$1/status\" ]; then echo \"ended $(cat \"$1/status\")\"; cat \"$1/output\"\n"
               "elif [ -n \"$p\" ]; then echo running\n"
               "elif [ -e \"$1/status\" ]; then echo \"ended $(cat \"$1/status\")\"; cat \"$1/output\"\n"
               "else echo lost; fi\n";

static const char prepare_text[] =
    PATHS FIND "[ -z \"$p\" ] || kill -KILL \"-$p\" 2>/dev/null || kill -KILL \"$p\" 2>/dev/null\n"
               "rm -rf \"$1\" && mkdir -p \"$1\"\n";

/* $2: the path, $3: the mode, $4: the length. */
static const char put_text[] = PATHS "[ ! -d \"$2\" ] || { echo \"$2 is a directory\" >&2; exit 1; }\n"
                                     "case $2 in */*) (umask 022; mkdir -p \"${2%/*}\") || exit 1;; esac\n"
                                     "t=$2.virt-reimage.new\n"
                                     "rm -f \"$t\" && cat >\"$t\" && [ \"$(wc -c <\"$t\")\" -eq \"$4\" ] && chmod "
                                     "\"$3\" \"$t\" && mv -f \"$t\" \"$2\" ||\n"
                                     "{ rm -f \"$t\"; exit 1; }\n";

/* A group of its own can be ended as a whole. */
static const char session_text[] =
    PATHS "if command -v setsid >/dev/null; then exec setsid " SHELL " -c \"$@\"; else exec " SHELL " -c \"$@\"; fi\n";

/* Then come the words of the environment, "--", and the command. The wrapper outlives a request to end, so that it can tell what the
 * command had said; tail keeps the end of any amount. Its pipe has a name so that nobody waits for a process that
 * the command left running, which holds the other end. */
static const char wrapper_text[] =
    "d=$1; shift\n"
    "cd \"$d\" && mkfifo pipe && echo $$ >pid.new && mv pid.new pid || exit 1\n"
    "trap : TERM\n"
    "(trap '' TERM; tail -c " G_STRINGIFY(
        VR_EXTENSION_OUTPUT_MAX) " <pipe >tail && mv tail output) </dev/null >/dev/null 2>&1 &\n"
                                 "(umask 022; cd /; while [ \"$1\" != -- ]; do export \"$1\"; shift; done; shift; exec "
                                 "\"$@\") >pipe 2>&1\n"
                                 "rc=$?\n"
                                 "i=0; while [ ! -e output ] && [ $i -lt 20 ]; do sleep 0.1; i=$((i + 1)); done\n"
                                 "[ -e output ] || echo 'its output is not known: a process that it left running holds "
                                 "it' >output\n"
                                 "echo $rc >status.new; mv status.new status\n"
                                 "cat output; exit $rc\n";

static const char kill_text[] = PATHS FIND
    "[ -n \"$p\" ] || exit 0\n"
    "kill -TERM \"-$p\" 2>/dev/null || kill -TERM \"$p\"\n"
    "i=0; while [ ! -e \"$1/status\" ] && [ -e \"/proc/$p\" ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); done\n"
    "kill -KILL \"-$p\" 2>/dev/null; kill -KILL \"$p\" 2>/dev/null; exit 0\n";

static const char remove_text[] = PATHS "rm -rf \"$1\"\n";

/* --- asking ------------------------------------------------------------------------------------------- */

void vr_extension_sight_clear(VrExtensionSight *sight)
{
    g_free(sight->output);
    *sight = (VrExtensionSight){.found = VR_FOUND_NOTHING};
}

/* Runs a text to its end; a status that is not 0 is VR_ERROR_FAILED with what it said. */
static gboolean run(const VrExtensionGuest *guest, const char *text, const char *const *more, const void *input,
                    gsize length, gint64 deadline_ms, VrAgentResult *result, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    const char *const first[] = {SHELL, "-c", text, "virt-reimage", guest->dir};
    g_autofree char *said = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(first); i++)
        g_ptr_array_add(argv, (char *)first[i]);
    for (; more && *more; more++)
        g_ptr_array_add(argv, (char *)*more);
    g_ptr_array_add(argv, NULL);
    if (!vr_agent_exec_input(guest->hv, guest->uuid, (const char *const *)argv->pdata, input, length,
                             VR_EXTENSION_OUTPUT_MAX + STATUS_MAX, deadline_ms, guest->aborted, result, error))
        return FALSE;
    if (result->exit_status == 0)
        return TRUE;
    said = vr_printable(g_strstrip(result->err), -1);
    g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "%s", *said ? said : "the guest's shell says no");
    return FALSE;
}

static gboolean do_text(const VrExtensionGuest *guest, const char *text, const char *const *more, const void *input,
                        gsize length, gint64 deadline_ms, GError **error)
{
    g_auto(VrAgentResult) result = {0};

    return run(guest, text, more, input, length, deadline_ms, &result, error);
}

static gboolean read_sight(const VrAgentResult *result, VrExtensionSight *sight, GError **error)
{
    const char *line = strchr(result->out, '\n');
    guint64 status = 0;
    g_autofree char *word = line ? g_strndup(result->out, (gsize)(line - result->out)) : g_strdup("");

    sight->found = g_str_equal(word, "running") ? VR_FOUND_RUNNING
                   : g_str_equal(word, "lost")  ? VR_FOUND_LOST
                                                : VR_FOUND_NOTHING;
    if (!g_str_has_prefix(word, "ended ")) {
        if (sight->found != VR_FOUND_NOTHING || g_str_equal(word, "nothing"))
            return TRUE;
    } else if (g_ascii_string_to_unsigned(word + strlen("ended "), 10, 0, 255, &status, NULL)) {
        sight->found = VR_FOUND_ENDED;
        sight->exit_status = (int)status;
        sight->output = g_strdup(line + 1);
        sight->cut = strlen(sight->output) >= VR_EXTENSION_OUTPUT_MAX;
        return TRUE;
    }
    g_set_error_literal(error, VR_ERROR, VR_ERROR_AGENT, "the guest does not say what became of it");
    return FALSE;
}

gboolean vr_extension_guest_look(const VrExtensionGuest *guest, gint64 deadline_ms, VrExtensionSight *sight,
                                 GError **error)
{
    g_auto(VrAgentResult) result = {0};

    vr_extension_sight_clear(sight);
    return run(guest, look_text, NULL, NULL, 0, deadline_ms, &result, error) && read_sight(&result, sight, error);
}

gboolean vr_extension_guest_prepare(const VrExtensionGuest *guest, gint64 deadline_ms, GError **error)
{
    return do_text(guest, prepare_text, NULL, NULL, 0, deadline_ms, error);
}

gboolean vr_extension_guest_put(const VrExtensionGuest *guest, const char *path, guint mode, const void *data,
                                gsize length, gint64 deadline_ms, GError **error)
{
    g_autofree char *octal = g_strdup_printf("%04o", mode);
    g_autofree char *size = g_strdup_printf("%" G_GSIZE_FORMAT, length);
    const char *const more[] = {path, octal, size, NULL};

    if (do_text(guest, put_text, more, data ? data : "", length, deadline_ms, error))
        return TRUE;
    g_prefix_error(error, "%s was not written in the guest: ", path);
    return FALSE;
}

gboolean vr_extension_guest_start(const VrExtensionGuest *guest, const char *const *argv,
                                  const char *const *environment, const void *input, gsize length, gint64 deadline_ms,
                                  gint64 *pid, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    const char *const first[] = {SHELL, "-c", session_text, "virt-reimage", wrapper_text, "virt-reimage", guest->dir};

    for (guint i = 0; i < G_N_ELEMENTS(first); i++)
        g_ptr_array_add(words, (char *)first[i]);
    for (; *environment; environment++)
        g_ptr_array_add(words, (char *)*environment);
    g_ptr_array_add(words, (char *)"--");
    for (; *argv; argv++)
        g_ptr_array_add(words, (char *)*argv);
    g_ptr_array_add(words, NULL);
    return vr_agent_exec_begin(guest->hv, guest->uuid, (const char *const *)words->pdata, input ? input : "", length,
                               deadline_ms, pid, error);
}

int vr_extension_guest_wait(const VrExtensionGuest *guest, gint64 pid, guint *silences, gint64 deadline_ms,
                            VrExtensionSight *sight, GError **error)
{
    g_auto(VrAgentResult) result = {0};
    int ended =
        vr_agent_exec_look(guest->hv, guest->uuid, pid, VR_EXTENSION_OUTPUT_MAX, deadline_ms, silences, &result, error);

    vr_extension_sight_clear(sight);
    if (ended != 1)
        return ended;
    sight->found = VR_FOUND_ENDED;
    sight->exit_status = result.exit_status;
    sight->output = g_strconcat(result.out, result.err, NULL);
    sight->cut = result.cut || strlen(result.out) >= VR_EXTENSION_OUTPUT_MAX;
    return 1;
}

gboolean vr_extension_guest_kill(const VrExtensionGuest *guest, gint64 deadline_ms, GError **error)
{
    return do_text(guest, kill_text, NULL, NULL, 0, deadline_ms, error);
}

gboolean vr_extension_guest_remove(const VrExtensionGuest *guest, gint64 deadline_ms, GError **error)
{
    return do_text(guest, remove_text, NULL, NULL, 0, deadline_ms, error);
}
