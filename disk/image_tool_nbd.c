/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The smallest NBD server that qemu-img reads from (NetworkBlockDevice doc/proto.md): fixed newstyle, one read-only export
 * of any name, simple replies, one request after the other. The peer is a child that may have been taken over by the image
 * it looks at: every length is checked, whatever we do not know ends the connection, and it can have only bytes of the image.
 */
#include "disk/image_tool_private.h"

#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_OPTION 4096
#define MAX_OPTIONS 64
#define MAX_READ (32u << 20) /* what the protocol lets a client ask for without more */
#define PIECE (64u << 10)

#define OPTION_MAGIC G_GUINT64_CONSTANT(0x49484156454F5054) /* IHAVEOPT */
#define OPTION_REPLY_MAGIC G_GUINT64_CONSTANT(0x0003e889045565a9)
#define REQUEST_MAGIC 0x25609513u
#define REPLY_MAGIC 0x67446698u

enum { OPTION_GO = 7 };
enum { REPLY_ACK = 1, REPLY_INFO = 3 };
#define REPLY_UNSUPPORTED 0x80000001u
#define FLAGS_FIXED_NO_ZEROES 3
#define EXPORT_FLAGS 3 /* has flags, read-only */
#define COMMAND_READ 0
#define NBD_EINVAL 22u
#define NBD_EIO 5u

struct VrToolNbd {
    int fd; /* the image: the caller's */
    guint64 size;
    int ours, theirs; /* owned */
    GThread *thread;
    GError *error; /* the thread's until it is joined */
};

typedef struct __attribute__((packed)) {
    guint64 magic;
    guint32 option, length;
} Option;

typedef struct __attribute__((packed)) {
    guint64 magic;
    guint32 option, type, length;
} OptionReply;

typedef struct __attribute__((packed)) {
    guint16 info;
    guint64 size;
    guint16 flags;
} ExportInfo;

typedef struct __attribute__((packed)) {
    guint32 magic;
    guint16 flags, command;
    guint64 cookie, offset;
    guint32 length;
} Request;

typedef struct __attribute__((packed)) {
    guint32 magic, error;
    guint64 cookie;
} Reply;

/* ---- the socket: FALSE at its end ---- */

static gboolean get(const VrToolNbd *nbd, void *into, gsize length)
{
    guint8 *at = into;
    while (length > 0) {
        ssize_t n = recv(nbd->ours, at, length, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FALSE;
        at += n;
        length -= (gsize)n;
    }
    return TRUE;
}

static gboolean put(const VrToolNbd *nbd, const void *from, gsize length)
{
    const guint8 *at = from;
    while (length > 0) {
        ssize_t n = send(nbd->ours, at, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FALSE;
        at += n;
        length -= (gsize)n;
    }
    return TRUE;
}

/* ---- which export ---- */

static gboolean put_option_reply(const VrToolNbd *nbd, guint32 option, guint32 type, const void *data, gsize length)
{
    const OptionReply reply = {GUINT64_TO_BE(OPTION_REPLY_MAGIC), GUINT32_TO_BE(option), GUINT32_TO_BE(type),
                               GUINT32_TO_BE((guint32)length)};
    return put(nbd, &reply, sizeof reply) && put(nbd, data, length);
}

/* TRUE in *ready after the option that ends the negotiation. */
static gboolean answer_option(const VrToolNbd *nbd, gboolean *ready)
{
    Option option;
    guint8 data[MAX_OPTION];
    if (!get(nbd, &option, sizeof option) || GUINT64_FROM_BE(option.magic) != OPTION_MAGIC)
        return FALSE;
    guint32 number = GUINT32_FROM_BE(option.option), length = GUINT32_FROM_BE(option.length);
    if (length > sizeof data || !get(nbd, data, length))
        return FALSE;
    if (number != OPTION_GO)
        return put_option_reply(nbd, number, REPLY_UNSUPPORTED, NULL, 0);
    const ExportInfo info = {0, GUINT64_TO_BE(nbd->size), GUINT16_TO_BE(EXPORT_FLAGS)};
    *ready = TRUE;
    return put_option_reply(nbd, number, REPLY_INFO, &info, sizeof info) &&
           put_option_reply(nbd, number, REPLY_ACK, NULL, 0);
}

static gboolean negotiate(const VrToolNbd *nbd)
{
    static const guint8 greeting[18] = "NBDMAGICIHAVEOPT\0\3";
    guint32 flags;
    gboolean ready = FALSE;
    if (!put(nbd, greeting, sizeof greeting) || !get(nbd, &flags, sizeof flags))
        return FALSE;
    if (GUINT32_FROM_BE(flags) != FLAGS_FIXED_NO_ZEROES)
        return FALSE;
    for (int i = 0; i < MAX_OPTIONS && !ready; i++)
        if (!answer_option(nbd, &ready))
            return FALSE;
    return ready;
}

/* ---- requests ---- */

static gboolean put_reply(const VrToolNbd *nbd, guint64 cookie, guint32 error)
{
    const Reply reply = {GUINT32_TO_BE(REPLY_MAGIC), GUINT32_TO_BE(error), cookie};
    return put(nbd, &reply, sizeof reply);
}

/* The first piece is read before the reply says that it could be. */
static gboolean answer_read(VrToolNbd *nbd, guint64 cookie, guint64 offset, guint32 length)
{
    guint8 piece[PIECE];
    for (guint32 done = 0; done < length;) {
        gsize want = MIN(length - done, PIECE), got;
        if (!vr_pread_all(nbd->fd, piece, want, offset + done, &got, nbd->error ? NULL : &nbd->error))
            return done == 0 && put_reply(nbd, cookie, NBD_EIO);
        memset(piece + got, 0, want - got); /* it became shorter: that is for the caller to find */
        if ((done == 0 && !put_reply(nbd, cookie, 0)) || !put(nbd, piece, want))
            return FALSE;
        done += (guint32)want;
    }
    return TRUE;
}

static gboolean answer_request(VrToolNbd *nbd)
{
    Request request;
    if (!get(nbd, &request, sizeof request) || GUINT32_FROM_BE(request.magic) != REQUEST_MAGIC)
        return FALSE;
    guint64 offset = GUINT64_FROM_BE(request.offset);
    guint32 length = GUINT32_FROM_BE(request.length);
    if (GUINT16_FROM_BE(request.command) !=
        COMMAND_READ) /* a disconnect; a write has data that we would have to skip */
        return FALSE;
    if (length == 0 || length > MAX_READ || offset > nbd->size || length > nbd->size - offset)
        return put_reply(nbd, request.cookie, NBD_EINVAL);
    return answer_read(nbd, request.cookie, offset, length);
}

static gpointer serve(gpointer data)
{
    VrToolNbd *nbd = data;
    gboolean more = negotiate(nbd);
    while (more)
        more = answer_request(nbd);
    (void)shutdown(nbd->ours, SHUT_RDWR);
    return NULL;
}

/* ---- its life ---- */

VrToolNbd *vr_tool_nbd_start(int fd, guint64 size, GError **error)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        vr_set_error_errno(error, errno, "cannot make a socket");
        return NULL;
    }
    VrToolNbd *nbd = g_new0(VrToolNbd, 1);
    *nbd = (VrToolNbd){.fd = fd, .size = size, .ours = ends[0], .theirs = ends[1]};
    nbd->thread = g_thread_new("image-nbd", serve, nbd);
    return nbd;
}

int vr_tool_nbd_child_fd(const VrToolNbd *nbd)
{
    return nbd->theirs;
}

gboolean vr_tool_nbd_stop(VrToolNbd *nbd, GError **error)
{
    (void)shutdown(nbd->ours, SHUT_RDWR);
    g_thread_join(nbd->thread);
    gboolean ok = nbd->error == NULL;
    if (!ok)
        g_propagate_error(error, nbd->error);
    vr_fd_clear(&nbd->ours);
    vr_fd_clear(&nbd->theirs);
    g_free(nbd);
    return ok;
}
