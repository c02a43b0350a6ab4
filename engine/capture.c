/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pseudo terminal is libvirt's to open, and its bytes come by themselves: the thread asks once, and ends. What QEMU sends to one that nobody reads is
 * lost, so what a guest says between its start and that answer (a few milliseconds) is not kept. Starting it paused would keep that too, and put
 * a step between "started" and "runs" that a crash could leave it in; a firmware takes longer than that to say its first word.
 *
 * A log file is followed by its path, as virtlogd writes it: where it ended before the start is where the guest begins; a file that became shorter was
 * emptied by the start and is read from its front; and when virtlogd rolls it over (at 2 MiB, to .0, .1, ...), the rest of the old file is read by its
 * descriptor before the new one is. The path comes from the domain, which only who rules libvirt can define, and still it is read as root: so it has to be a regular
 * file without a second name, reached by no link as its last part, and only what was added since the start is read. What a directory on the way is, is that
 * person's choice, as it is for virtlogd.
 *
 * Whatever touches the log file does it on the thread, which is there before the start for a file and after it for a pseudo terminal. Where the file
 * system hangs, the owner waits for it for a moment once and goes on; the thread outlives the owner then, and both hold a reference.
 */
#include "engine/capture.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 250
#define FIRST_LOOK_MS 250 /* the guest is off */
#define LAST_LOOK_MS 1000
#define READ_BYTES (64 * 1024)
#define ROLLS_AT_ONCE 4

struct VrCapture {
    /* Set before the thread is, and not changed. */
    VrHv *hv;
    char *uuid;
    VrConsoleDevice device;
    VrConsole *console;

    /* The owner's own. */
    gboolean begun;
    gboolean waited; /* for the thread's end: once is enough */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    guint refs;
    gboolean noted, reading, ending, done;

    /* The thread's own. */
    gboolean had_log; /* before the start, and goes on in it; then `log` is what it was */
    struct stat log;
    int fd;
    struct stat opened;
    guint64 offset;
};

/* --- a log file -------------------------------------------------------------------------------------- */

static gboolean is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Where the guest begins in the file that is open now. */
static guint64 first_offset(const VrCapture *capture)
{
    gboolean is_old = capture->had_log && is_same(&capture->log, &capture->opened);

    return is_old && capture->opened.st_size >= capture->log.st_size ? (guint64)capture->log.st_size : 0;
}

/* One that is not there yet comes with the guest's first word. */
static gboolean open_log(VrCapture *capture)
{
    vr_autofd fd = open(capture->device.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

    if (fd < 0 && errno == ENOENT)
        return FALSE;
    if (fd < 0 || fstat(fd, &capture->opened) < 0) {
        g_autofree char *why = g_strdup_printf("its log file cannot be read: %s", g_strerror(errno));
        vr_console_say(capture->console, why);
        return FALSE;
    }
    if (!S_ISREG(capture->opened.st_mode) || capture->opened.st_nlink > 1) {
        vr_console_say(capture->console, "its log file is not read: it is no regular file with one name");
        return FALSE;
    }
    capture->fd = vr_fd_steal(&fd);
    return TRUE;
}

/* What lies between the first bytes of a flood and its last ones is not even read. */
static void pass_over(VrCapture *capture, guint64 size)
{
    guint64 last = size > VR_CONSOLE_TAIL ? size - VR_CONSOLE_TAIL : 0;

    if (capture->offset >= last || !vr_console_has_head(capture->console))
        return;
    vr_console_pass_over(capture->console, last - capture->offset);
    capture->offset = last;
}

/* To the end that it has now. FALSE: no more is wanted, or it cannot be read. */
static gboolean read_open(VrCapture *capture)
{
    g_autofree char *bytes = g_malloc(READ_BYTES);
    struct stat now;

    if (fstat(capture->fd, &now) < 0)
        return FALSE;
    if ((guint64)now.st_size < capture->offset)
        capture->offset = 0;
    while (capture->offset < (guint64)now.st_size) {
        ssize_t got;
        pass_over(capture, (guint64)now.st_size);
        got = pread(capture->fd, bytes, READ_BYTES, (off_t)capture->offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || !vr_console_add(capture->console, bytes, (gsize)got))
            return got == 0;
        capture->offset += (guint64)got;
    }
    return TRUE;
}

static gboolean was_rolled_over(const VrCapture *capture)
{
    struct stat now;

    return lstat(capture->device.path, &now) == 0 && !is_same(&now, &capture->opened);
}

/* The old file is read to its end once more after the new one was seen: nothing is written to it from then on. */
static void read_log(VrCapture *capture)
{
    if (capture->fd < 0 && open_log(capture))
        capture->offset = first_offset(capture);
    for (guint i = 0; capture->fd >= 0 && i < ROLLS_AT_ONCE; i++) {
        gboolean rolled = was_rolled_over(capture);
        if (!read_open(capture) || !rolled)
            return;
        vr_fd_clear(&capture->fd);
        capture->offset = 0;
        open_log(capture);
    }
}

/* --- the thread -------------------------------------------------------------------------------------- */

static void capture_unref(VrCapture *capture)
{
    pthread_mutex_lock(&capture->lock);
    gboolean last = --capture->refs == 0;
    pthread_mutex_unlock(&capture->lock);
    if (!last)
        return;
    vr_fd_clear(&capture->fd);
    vr_console_unref(capture->console);
    vr_console_device_clear(&capture->device);
    g_free(capture->uuid);
    pthread_cond_destroy(&capture->changed);
    pthread_mutex_destroy(&capture->lock);
    g_free(capture);
}

/* With the lock held, for so long at most. */
static void wait_changed(VrCapture *capture, gint64 ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&capture->changed, &capture->lock, &until);
}

/* The last look comes after it was told to end. */
static void follow_log(VrCapture *capture)
{
    gboolean ending;

    do {
        pthread_mutex_lock(&capture->lock);
        ending = capture->ending;
        pthread_mutex_unlock(&capture->lock);
        read_log(capture);
        pthread_mutex_lock(&capture->lock);
        if (!ending && !capture->ending)
            wait_changed(capture, POLL_MS);
        pthread_mutex_unlock(&capture->lock);
    } while (!ending);
}

static void open_console(VrCapture *capture)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *why = NULL;

    if (vr_hv_console(capture->hv, capture->uuid, capture->console, &local))
        return;
    why = g_strdup_printf("the console was not read: %s", local->message);
    vr_debug("%s: %s", capture->uuid, why);
    vr_console_say(capture->console, why);
}

/* What a start empties is the guest's own from its front. */
static void note_log(VrCapture *capture)
{
    capture->had_log =
        !capture->device.anew && lstat(capture->device.path, &capture->log) == 0 && S_ISREG(capture->log.st_mode);
}

/* TRUE: the guest was started. */
static gboolean await_begin(VrCapture *capture)
{
    pthread_mutex_lock(&capture->lock);
    capture->noted = TRUE;
    pthread_cond_broadcast(&capture->changed);
    while (!capture->reading && !capture->ending)
        pthread_cond_wait(&capture->changed, &capture->lock);
    gboolean reading = capture->reading;
    pthread_mutex_unlock(&capture->lock);
    return reading;
}

static void *listen(void *data)
{
    VrCapture *capture = data;

    if (capture->device.kind == VR_CONSOLE_FILE) {
        note_log(capture);
        if (await_begin(capture))
            follow_log(capture);
    } else {
        open_console(capture);
    }
    pthread_mutex_lock(&capture->lock);
    capture->done = TRUE;
    pthread_cond_broadcast(&capture->changed);
    pthread_mutex_unlock(&capture->lock);
    capture_unref(capture);
    return NULL;
}

/* --- for the swap ------------------------------------------------------------------------------------ */

static void start_thread(VrCapture *capture)
{
    pthread_attr_t attributes;
    pthread_t thread;

    capture->refs++;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, listen, capture) != 0) {
        vr_console_say(capture->console, "the console was not read: there is no thread for it");
        capture->refs--;
        capture->noted = capture->done = TRUE;
    }
    pthread_attr_destroy(&attributes);
}

#define HANGS "its log file is not read: its file system does not answer"

/* One that comes back later ends. */
static void await_noted(VrCapture *capture)
{
    gint64 deadline_ms = vr_clock_now_ms() + FIRST_LOOK_MS;

    pthread_mutex_lock(&capture->lock);
    while (!capture->noted && vr_clock_now_ms() < deadline_ms)
        wait_changed(capture, FIRST_LOOK_MS);
    if (!capture->noted)
        capture->ending = capture->waited = TRUE;
    pthread_mutex_unlock(&capture->lock);
    if (capture->waited)
        vr_console_say(capture->console, HANGS);
}

VrCapture *vr_capture_new(VrHv *hv, const char *uuid, const VrConsoleDevice *device)
{
    VrCapture *capture = g_new0(VrCapture, 1);
    pthread_condattr_t attributes;

    capture->hv = hv;
    capture->uuid = g_strdup(uuid);
    capture->device = (VrConsoleDevice){.kind = device->kind, .path = g_strdup(device->path), .anew = device->anew};
    capture->console = vr_console_new();
    capture->fd = -1;
    capture->refs = 1;
    pthread_mutex_init(&capture->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&capture->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (device->kind == VR_CONSOLE_FILE) {
        start_thread(capture);
        await_noted(capture);
    }
    return capture;
}

void vr_capture_begin(VrCapture *capture)
{
    if (capture->begun)
        return;
    capture->begun = TRUE;
    if (capture->device.kind != VR_CONSOLE_FILE) {
        start_thread(capture);
        return;
    }
    pthread_mutex_lock(&capture->lock);
    capture->reading = !capture->ending;
    pthread_cond_broadcast(&capture->changed);
    pthread_mutex_unlock(&capture->lock);
}

gboolean vr_capture_has_begun(const VrCapture *capture)
{
    return capture->begun;
}

/* Until its thread has ended, or for so long: -1 for ever. FALSE: it has not. */
static gboolean await_done(VrCapture *capture, gint64 most_ms)
{
    gint64 deadline_ms = vr_clock_now_ms() + most_ms;

    pthread_mutex_lock(&capture->lock);
    capture->ending = TRUE;
    pthread_cond_broadcast(&capture->changed);
    while (!capture->done && (most_ms < 0 || vr_clock_now_ms() < deadline_ms))
        wait_changed(capture, LAST_LOOK_MS);
    gboolean done = capture->done;
    pthread_mutex_unlock(&capture->lock);
    return done;
}

void vr_capture_end(VrCapture *capture)
{
    if (capture->device.kind == VR_CONSOLE_FILE && !capture->waited && !await_done(capture, LAST_LOOK_MS))
        vr_console_say(capture->console, HANGS);
    capture->waited = TRUE;
    vr_console_close(capture->console);
}

VrConsole *vr_capture_console(VrCapture *capture)
{
    return capture->console;
}

/* The thread of a pseudo terminal uses what is not its own. */
void vr_capture_free(VrCapture *capture)
{
    if (!capture)
        return;
    vr_capture_end(capture);
    if (capture->begun && capture->device.kind != VR_CONSOLE_FILE)
        await_done(capture, -1);
    vr_console_drop(capture->console);
    capture_unref(capture);
}
