/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/remote_socket.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "orchestrator/cli/job.h"
#include "orchestrator/cli/remote.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEAD_MAX 4096 /* of the answer: status line and headers */
#define BODY_MAX 4096
#define FULL_WAIT_MS 20
#define READ_ONLY_SOCKET "virt-reimage-ro.sock"

static gboolean wait_for(int fd, short events, gint64 until_ms)
{
    struct pollfd poll_fd = {fd, events, 0};
    gint64 left = until_ms - vr_clock_now_ms();
    int ready;

    do {
        ready = left > 0 ? poll(&poll_fd, 1, (int)left) : 0;
        left = until_ms - vr_clock_now_ms();
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

/* ---- connecting ---- */

/* Our terminal and our words go to root, or to ourselves, and to nobody who has put a socket there. */
static gboolean is_trusted(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

/* Errno of a connection that was not made; a queue that is full is waited for. */
static int connect_to(const char *name, gint64 until_ms, int *fd)
{
    const char *given = g_getenv("VIRT_REIMAGE_SOCKET_DIR"), *dir = given ? given : VR_REMOTE_SOCKET_DIR;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *path = g_build_filename(dir, name, NULL);
    vr_autofd made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (made < 0 || !*dir || strlen(path) >= sizeof(address.sun_path))
        return ENOENT;
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    while (connect(made, (struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return errno;
        if (vr_clock_now_ms() >= until_ms)
            return ETIMEDOUT;
        g_usleep(FULL_WAIT_MS * 1000);
    }
    if (!is_trusted(made))
        return EACCES;
    *fd = vr_fd_steal(&made);
    return 0;
}

/* The one for members of its group, else the one for everybody, which is good for what only reads. */
static int connect_any(const VrCli *cli, gint64 until_ms, int *fd, gboolean *read_only)
{
    int failed = connect_to("virt-reimage.sock", until_ms, fd);

    *read_only = failed == EACCES && geteuid() != 0 && vr_job_is_public(cli->command);
    if (*read_only)
        failed = connect_to(READ_ONLY_SOCKET, until_ms, fd);
    return failed;
}

/* ---- the request ---- */

static char *uri_of(const VrCli *cli)
{
    const char *uri = cli->options.uri ? cli->options.uri : g_getenv("LIBVIRT_DEFAULT_URI");

    return g_uri_escape_string(uri && *uri ? uri : vr_cli_default_uri(), "/:", FALSE);
}

static char *root_of(const VrCli *cli)
{
    char *real = realpath(cli->options.root, NULL);
    g_autofree char *canonical = real ? g_strdup(real) : g_canonicalize_filename(cli->options.root, NULL);

    free(real);
    return g_uri_escape_string(canonical, "/", FALSE);
}

static gboolean send_request(const VrCli *cli, int fd, gint64 until_ms)
{
    g_autofree char *uri = uri_of(cli), *root = root_of(cli);
    g_autofree char *text = g_strdup_printf("POST /commands HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                                            "Upgrade: virt-reimage-command\r\nVirt-Reimage-Uri: %s\r\n"
                                            "Virt-Reimage-Root: %s\r\nContent-Length: 0\r\n\r\n",
                                            uri, root);
    gsize length = strlen(text), done = 0;

    while (done < length) {
        ssize_t sent = send(fd, text + done, length - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR && !(errno == EAGAIN && wait_for(fd, POLLOUT, until_ms)))
            return FALSE;
        done += sent > 0 ? (gsize)sent : 0;
    }
    return TRUE;
}

/* ---- the answer ---- */

/* Takes the headers and nothing after them; NULL: they do not come. */
static char *read_head(int fd, gint64 until_ms)
{
    char seen[HEAD_MAX + 1];
    ssize_t before = -1;

    while (wait_for(fd, POLLIN, until_ms)) {
        ssize_t got = recv(fd, seen, HEAD_MAX, MSG_PEEK | MSG_DONTWAIT);
        const char *end;

        if (got <= 0)
            return NULL;
        seen[got] = '\0';
        end = strstr(seen, "\r\n\r\n");
        if (end) {
            gsize length = (gsize)(end - seen) + 4;
            return recv(fd, seen, length, 0) == (ssize_t)length ? g_strndup(seen, length) : NULL;
        }
        if (got == HEAD_MAX)
            return NULL;
        if (got == before)
            g_usleep(FULL_WAIT_MS * 1000); /* what is looked at stays ready */
        before = got;
    }
    return NULL;
}

/* What the daemon says in {"error": {"message": ...}}; it may come in pieces. */
static char *read_message(int fd, gint64 until_ms)
{
    g_autoptr(GString) body = g_string_new(NULL);
    char piece[1024];

    while (body->len < BODY_MAX && wait_for(fd, POLLIN, until_ms)) {
        ssize_t got = recv(fd, piece, sizeof(piece), MSG_DONTWAIT);
        json_t *document;
        const char *message;
        char *shown;

        if (got <= 0)
            break;
        g_string_append_len(body, piece, got);
        document = json_loadb(body->str, body->len, 0, NULL);
        message = json_string_value(json_object_get(json_object_get(document, "error"), "message"));
        shown = message ? vr_printable(message, -1) : NULL;
        json_decref(document);
        if (shown)
            return shown;
    }
    return g_strdup("it gives no reason");
}

static VrRemoteSocket ask(const VrCli *cli, int fd, gint64 until_ms, char **message)
{
    g_autofree char *head = send_request(cli, fd, until_ms) ? read_head(fd, until_ms) : NULL;
    int status;

    if (!head || sscanf(head, "HTTP/1.%*1d %3d", &status) != 1)
        return VR_REMOTE_SOCKET_SILENT;
    if (status == 101)
        return VR_REMOTE_SOCKET_READY;
    if (status == 421)
        return VR_REMOTE_SOCKET_OTHER;
    *message = read_message(fd, until_ms);
    return VR_REMOTE_SOCKET_REFUSED;
}

VrRemoteSocket vr_remote_socket_open(const VrCli *cli, gint64 until_ms, int *fd, gboolean *read_only, char **message)
{
    vr_autofd made = -1;
    int failed = connect_any(cli, until_ms, &made, read_only);
    VrRemoteSocket outcome;

    if (failed)
        return failed == ETIMEDOUT ? VR_REMOTE_SOCKET_SILENT : VR_REMOTE_SOCKET_NONE;
    outcome = ask(cli, made, until_ms, message);
    if (outcome == VR_REMOTE_SOCKET_READY)
        *fd = vr_fd_steal(&made);
    return outcome;
}

VrRemoteSocket vr_remote_socket_look(const VrCli *cli, gint64 until_ms)
{
    g_autofree char *message = NULL;
    vr_autofd fd = -1;
    int failed = connect_to(READ_ONLY_SOCKET, until_ms, &fd);
    VrRemoteSocket outcome;

    if (failed)
        return failed == ETIMEDOUT ? VR_REMOTE_SOCKET_SILENT : VR_REMOTE_SOCKET_NONE;
    outcome = ask(cli, fd, until_ms, &message);
    return outcome == VR_REMOTE_SOCKET_REFUSED ? VR_REMOTE_SOCKET_READY : outcome;
}
