/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's own tools ask, since what a guest reaches is not what its host reaches. What they say is the guest's word. */
#include "orchestrator/outside_private.h"

#include "base/clock.h"
#include "base/error.h"
#include "hv/guest_agent.h"

#include <string.h>

#define TOOL_S "10"
#define WAIT_MS 15000
#define SAID_MAX (16 * 1024)
#define CURL_TOO_LARGE 63
#define CURL_TOO_LONG 28

/* The first three digits that begin at text. */
static int status_at(const char *text)
{
    if (!g_ascii_isdigit(text[0]) || !g_ascii_isdigit(text[1]) || !g_ascii_isdigit(text[2]))
        return 0;
    return (text[0] - '0') * 100 + (text[1] - '0') * 10 + text[2] - '0';
}

/* Of the last line that is "HTTP/1.1 403 Forbidden": a header may have those letters, too ("Server: SimpleHTTP/0.6"). */
static int last_status(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    int status = 0;

    for (guint i = 0; lines[i] != NULL; i++) {
        const char *line = g_strchug(lines[i]), *number = strchr(line, ' ');
        if (g_str_has_prefix(line, "HTTP/") && number != NULL)
            status = status_at(number + 1);
    }
    return status;
}

static gboolean run(VrHv *hv, const char *uuid, const char *const *argv, const gint *aborted, VrAgentResult *result,
                    GError **error)
{
    return vr_agent_exec(hv, uuid, argv, SAID_MAX, vr_clock_now_ms() + WAIT_MS, aborted, result, error);
}

/* With the first line of what it said. */
static gboolean no_answer(const char *tool, const VrAgentResult *result, GError **error)
{
    const char *err = result->err ? g_strchug(result->err) : "";
    g_autofree char *said = vr_printable(err, (gssize)strcspn(err, "\r\n"));

    g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "its %s got no answer (exit status %d)%s%s", tool, result->exit_status,
                *said ? ": " : "", said);
    return FALSE;
}

/* A GET whose answer is too large to be read in the time has its status all the same. */
static gboolean by_curl(VrHv *hv, const char *uuid, const char *url, gboolean get, const gint *aborted, int *status,
                        GError **error)
{
    const char *const argv[] = {"curl",       "-q", /* first, or its user's file of options counts */
                                "-g",         "-sS",     "-o",
                                "/dev/null",  "-w",      "%{http_code}",
                                "--max-time", TOOL_S,    "--max-filesize",
                                "65536",      "--proto", "=http,https",
                                "--noproxy",  "*",       get ? "--get" : "--head",
                                url,          NULL};
    g_auto(VrAgentResult) result = {0};

    if (!run(hv, uuid, argv, aborted, &result, error))
        return FALSE;
    *status = result.out ? status_at(result.out) : 0;
    if (*status > 0 && (result.exit_status == 0 ||
                        (get && (result.exit_status == CURL_TOO_LARGE || result.exit_status == CURL_TOO_LONG))))
        return TRUE;
    return no_answer("curl", &result, error);
}

static gboolean by_wget(VrHv *hv, const char *uuid, const char *url, gboolean get, const gint *aborted, int *status,
                        GError **error)
{
    const char *const head[] = {"timeout",          TOOL_S,       "wget",     "-S", "-T", TOOL_S, "-t", "1",
                                "--max-redirect=0", "--no-proxy", "--spider", url,  NULL};
    const char *const whole[] = {"timeout",          TOOL_S,       "wget", "-S",        "-T", TOOL_S, "-t", "1",
                                 "--max-redirect=0", "--no-proxy", "-O",   "/dev/null", url,  NULL};
    g_auto(VrAgentResult) result = {0};

    if (!run(hv, uuid, get ? whole : head, aborted, &result, error))
        return FALSE;
    *status = result.err ? last_status(result.err) : 0;
    return *status > 0 || no_answer("wget", &result, error);
}

gboolean vr_outside_ask_guest(VrHv *hv, const char *uuid, const char *url, gboolean get, const gint *aborted,
                              int *status, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!vr_agent_ping(hv, uuid, 5, error)) {
        g_prefix_error(error, "its guest agent does not answer: ");
        return FALSE;
    }
    if (by_curl(hv, uuid, url, get, aborted, status, &local))
        return TRUE;
    if (!g_str_has_prefix(local->message, "guest-exec: ")) { /* it ran */
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (by_wget(hv, uuid, url, get, aborted, status, error))
        return TRUE;
    g_prefix_error(error, "no curl runs in it (%s), and no wget: ", local->message);
    return FALSE;
}
