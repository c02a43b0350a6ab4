/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/fd_lines.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define PIECE 16384

struct VrFdLines {
    int fd;
    guint n;
    GString *text;
    int fds[VR_FD_LINES_FDS_MAX];
    gboolean have_fds;
    gboolean over; /* the other side has closed */
    gboolean bad;
};

VrFdLines *vr_fd_lines_new(int fd, guint n)
{
    VrFdLines *lines = g_new0(VrFdLines, 1);

    lines->fd = fd;
    lines->n = n;
    lines->text = g_string_new(NULL);
    for (guint i = 0; i < VR_FD_LINES_FDS_MAX; i++)
        lines->fds[i] = -1;
    return lines;
}

void vr_fd_lines_free(VrFdLines *lines)
{
    if (!lines)
        return;
    for (guint i = 0; i < VR_FD_LINES_FDS_MAX; i++)
        vr_fd_clear(&lines->fds[i]);
    g_string_free(lines->text, TRUE);
    g_free(lines);
}

/* ---- reading ---- */

/* Exactly as many as are meant; others are closed again. */
static void take_fds(VrFdLines *lines, struct msghdr *message)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        int got[VR_FD_LINES_FDS_MAX];
        gsize n;

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        n = MIN((header->cmsg_len - CMSG_LEN(0)) / sizeof(int), (gsize)VR_FD_LINES_FDS_MAX);
        memcpy(got, CMSG_DATA(header), n * sizeof(int));
        if (n == lines->n) {
            memcpy(lines->fds, got, n * sizeof(int));
            lines->have_fds = TRUE;
            continue;
        }
        lines->bad = TRUE;
        for (gsize i = 0; i < n; i++)
            vr_fd_clear(&got[i]);
    }
    if (message->msg_flags & MSG_CTRUNC)
        lines->bad = TRUE;
}

/* Where none are meant there is no room for any, so that the kernel drops them: to close one that we had taken could wait for its other side.
 * FALSE: there is no more now. */
static gboolean read_piece(VrFdLines *lines)
{
    char piece[PIECE];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(VR_FD_LINES_FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec part = {piece, sizeof(piece)};
    gboolean meant = lines->n > 0 && !lines->have_fds;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = meant ? control.space : NULL,
                             .msg_controllen = meant ? sizeof(control.space) : 0};
    ssize_t got = recvmsg(lines->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got < 0 && errno == EINTR)
        return TRUE;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return FALSE;
    if (got > 0)
        take_fds(lines, &message);
    if (got <= 0)
        lines->over = TRUE;
    else
        g_string_append_len(lines->text, piece, got);
    return got > 0;
}

static void read_all(VrFdLines *lines)
{
    while (!lines->over && !lines->bad && lines->text->len <= VR_FD_LINES_MAX && read_piece(lines))
        continue;
}

gboolean vr_fd_lines_is_over(VrFdLines *lines)
{
    read_all(lines);
    return lines->over && lines->text->len == 0;
}

VrFdLinesGot vr_fd_lines_take(VrFdLines *lines, json_t **document)
{
    const char *end;
    gsize length;

    *document = NULL;
    if (!memchr(lines->text->str, '\n', lines->text->len))
        read_all(lines);
    end = memchr(lines->text->str, '\n', lines->text->len);
    if (lines->bad || (!end && lines->text->len > VR_FD_LINES_MAX))
        return VR_FD_LINES_BAD;
    if (!end)
        return lines->over ? VR_FD_LINES_END : VR_FD_LINES_NONE;
    length = (gsize)(end - lines->text->str);
    *document = json_loadb(lines->text->str, length, JSON_REJECT_DUPLICATES, NULL);
    g_string_erase(lines->text, 0, (gssize)length + 1);
    if (json_is_object(*document))
        return VR_FD_LINES_LINE;
    json_decref(*document);
    *document = NULL;
    return VR_FD_LINES_BAD;
}

gboolean vr_fd_lines_fds(VrFdLines *lines, int *fds)
{
    gboolean all = lines->have_fds && lines->fds[0] >= 0;

    for (guint i = 0; all && i < lines->n; i++)
        fds[i] = vr_fd_steal(&lines->fds[i]);
    return all;
}

/* ---- writing ---- */

static gboolean may_write(int fd, gint64 until_ms)
{
    struct pollfd poll_fd = {fd, POLLOUT, 0};
    gint64 left = until_ms - vr_clock_now_ms();

    return left > 0 && poll(&poll_fd, 1, (int)left) > 0;
}

/* The descriptors go with the first byte. */
static ssize_t send_piece(int fd, const char *from, gsize length, const int *fds, guint n)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(VR_FD_LINES_FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec part = {(char *)from, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (n > 0) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(n * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

gboolean vr_fd_lines_send(int fd, const json_t *document, const int *fds, guint n, gint64 wait_ms, GError **error)
{
    char *text = json_dumps(document, JSON_COMPACT | JSON_ENSURE_ASCII);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    gsize length = strlen(line), done = 0;
    gint64 until_ms = vr_clock_now_ms() + wait_ms;

    free(text);
    if (length > VR_FD_LINES_MAX) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "these are more words than can be handed on (%d KiB)",
                    VR_FD_LINES_MAX / 1024);
        return FALSE;
    }
    while (done < length) {
        ssize_t sent = send_piece(fd, line + done, length - done, fds, done == 0 ? n : 0);
        if (sent >= 0) {
            done += (gsize)sent;
            continue;
        }
        if (errno == EINTR || (errno == EAGAIN && may_write(fd, until_ms)))
            continue;
        vr_set_error_errno(error, errno == EAGAIN ? ETIMEDOUT : errno, "cannot send");
        return FALSE;
    }
    return TRUE;
}

/* ---- signals ---- */

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGINT, "INT"}, {SIGTERM, "TERM"}, {SIGHUP, "HUP"}, {SIGKILL, "KILL"}};

const char *vr_fd_lines_signal_name(int number)
{
    for (guint i = 0; i < G_N_ELEMENTS(signals); i++)
        if (signals[i].number == number)
            return signals[i].name;
    return NULL;
}

int vr_fd_lines_signal(const json_t *document)
{
    const char *name = json_string_value(json_object_get(document, "signal"));

    for (guint i = 0; i < G_N_ELEMENTS(signals); i++)
        if (g_strcmp0(signals[i].name, name) == 0)
            return signals[i].number;
    return 0;
}
