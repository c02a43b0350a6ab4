/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a guest says on its serial console, as far as it is kept: the first VR_CONSOLE_HEAD bytes and the last VR_CONSOLE_TAIL, whatever
 * it sends and however much. Every byte is hostile: it is stored as it came, and shown only by vr_console_lines().
 *
 * A VrConsole is shared by who wants it and by who fills it (a thread that follows a log file, libvirt's event loop): it is counted, and locks by
 * itself. Who fills it never waits for anything here.
 */
#pragma once

#include <glib.h>

#define VR_CONSOLE_HEAD (64 * 1024)
#define VR_CONSOLE_TAIL (192 * 1024)
/* A guest that floods its console is not listened to any more after that: reading costs the host, and reading slowly would hold the guest up. */
#define VR_CONSOLE_MOST (64 * 1024 * 1024)

/* Where a domain's console goes. */
typedef enum {
    VR_CONSOLE_NONE, /* it has none, or one that somebody else listens to (a socket, a device of the host) */
    VR_CONSOLE_PTY,
    VR_CONSOLE_FILE /* <log file> of any kind of console, or a console of type file */
} VrConsoleKind;

typedef struct {
    VrConsoleKind kind;
    char *path;    /* of FILE: absolute */
    gboolean anew; /* of FILE: a start empties it, as it does unless append='on' says otherwise */
} VrConsoleDevice;

void vr_console_device_clear(VrConsoleDevice *device);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrConsoleDevice, vr_console_device_clear)

/* The console that libvirt takes when none is named: the first one, which may be the first serial port. XML that cannot be read has none. */
void vr_domain_xml_console(const char *xml, VrConsoleDevice *device);

typedef struct VrConsole VrConsole;

VrConsole *vr_console_new(void);
VrConsole *vr_console_ref(VrConsole *console);
void vr_console_unref(VrConsole *console);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrConsole, vr_console_unref)

/* FALSE: no more is wanted, now or later. */
gboolean vr_console_add(VrConsole *console, const char *bytes, gsize length);
/* So many bytes went by unread, after those that were added. */
void vr_console_pass_over(VrConsole *console, guint64 bytes);
/* Is what is added from now on only kept as long as it is among the last? */
gboolean vr_console_has_head(VrConsole *console);
/* Why nothing more comes, or nothing came at all: a part of a sentence. The first word counts. */
void vr_console_say(VrConsole *console, const char *why);

/* No more is wanted. Does not wait, whatever fills it. */
void vr_console_close(VrConsole *console);
/* func(data), once, on the thread that closes it; it may not wait, and gives what vr_console_say() takes, or NULL. FALSE: it is closed already, and func is
 * not called. */
typedef const char *(*VrConsoleClosed)(void *data);
gboolean vr_console_on_close(VrConsole *console, VrConsoleClosed func, void *data);

/* What is kept, with a line of ours where something is left out and one where nothing more came; not NUL-terminated in any useful sense. Free with
 * g_free. */
char *vr_console_text(VrConsole *console, gsize *length);
/* Closes it and lets go of what is kept. */
void vr_console_drop(VrConsole *console);

/* The last `most` lines that are not empty, as a person may see them: without escape sequences, overwritten text and control characters,
 * printable, none longer than VR_CONSOLE_LINE bytes and an ellipsis. Element: char *, freed with the array. */
#define VR_CONSOLE_LINE 400
GPtrArray *vr_console_lines(const char *text, gsize length, guint most);
