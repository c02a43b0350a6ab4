/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The error contract of the whole program.
 *
 * A function that can fail takes a GError ** as its last argument and returns FALSE, NULL or -1 with
 * the error set. It reports or logs, never both; only main() and the run's event writer print.
 * Each caller that knows more adds it on the way up with g_prefix_error(): what was being done, to
 * which object. The innermost text is libvirt's or the kernel's. Everything is in the one domain VR_ERROR.
 *
 * An error has four parts: what was being done, to which object; the cause, in the words of libvirt, the kernel or a child; what is true
 * now; and what to type next. The message is always the whole story in one line,
 *
 *     WHAT: CAUSE; NOW; NEXT
 *
 * so who shows or keeps nothing but the message (a log, the history, an event) loses nothing. Beside it the error knows the texts of its last three
 * parts, so that who has room for lines can take it apart (vr_error_what(), vr_error_part()). A prefix goes before WHAT; copies, and moves
 * by g_propagate_error(), keep the parts, on every thread. An error that is made of another's message is all WHAT, until
 * vr_error_adopt().
 */
#pragma once

#include <glib.h>

#define VR_ERROR (vr_error_quark())
GQuark vr_error_quark(void);

typedef enum {
    VR_ERROR_FAILED,       /* nothing more exact is known */
    VR_ERROR_USAGE,        /* the command line or an argument is wrong */
    VR_ERROR_INVALID,      /* a file, a model or an answer does not have the form it must have */
    VR_ERROR_NOT_FOUND,    /* an image, version, set, instance, file that was named is not there */
    VR_ERROR_CONFLICT,     /* it exists already with other content; somebody changed it meanwhile */
    VR_ERROR_REFUSED,      /* a preflight finding or the image check says no */
    VR_ERROR_POLICY,       /* the policy of the set stopped the run */
    VR_ERROR_BUSY,         /* another run owns the set */
    VR_ERROR_PARTIAL,      /* done, but some instances failed and were restored */
    VR_ERROR_PERSON,       /* the outcome is not known: a person must look */
    VR_ERROR_CANCELLED,    /* somebody asked for the end */
    VR_ERROR_TIMEOUT,      /* a deadline passed */
    VR_ERROR_IO,           /* the kernel said no */
    VR_ERROR_NO_SPACE,     /* ... for lack of space or quota */
    VR_ERROR_CHILD,        /* a child process failed, was killed, or said too much */
    VR_ERROR_HYPERVISOR,   /* libvirt said no */
    VR_ERROR_DISCONNECTED, /* libvirt cannot be reached, or a call was abandoned: outcome unknown */
    VR_ERROR_AGENT,        /* the guest agent is absent or answered nonsense */
    VR_ERROR_DATABASE,     /* state.db is damaged, foreign, newer, or locked */
    VR_ERROR_FENCED,       /* we are no longer the owner of the set */
    VR_ERROR_LAST_         /* count of codes */
} VrErrorCode;

/* What the manual page says of a code (virt-reimage(1), docs/errors.md). Texts have no full stop at their end. */
typedef struct {
    const char *name;    /* stable, for JSON: "NotFound", "Refused" */
    int exit_status;     /* DESIGN, command line: exit codes */
    const char *meaning; /* what it means */
    const char *next;    /* what to do where an error does not say it better */
} VrErrorCodeInfo;

/* Never NULL: an unknown code is VR_ERROR_FAILED. */
const VrErrorCodeInfo *vr_error_code_info(int code);

/* The code of an error of any domain: what is not ours is VR_ERROR_FAILED. */
int vr_error_code(const GError *error);

/* The code with that name; VR_ERROR_FAILED where there is none, or name is NULL. */
int vr_error_code_named(const char *name);

/* The process exit status for an error, as DESIGN's table has them (0..7). */
int vr_error_exit_status(const GError *error);

/* The stable name of a code for JSON: "NotFound", "Refused", ... Never NULL. */
const char *vr_error_name(int code);

/* ---- the parts of an error ---- */

typedef enum {
    VR_ERROR_CAUSE, /* in the words of libvirt, the kernel or a child */
    VR_ERROR_NOW,   /* what is true now */
    VR_ERROR_NEXT,  /* what to type next */
    VR_ERROR_PARTS_ /* count of parts */
} VrErrorPart;

/* These add to an error that was just set, or that comes up from below, as g_prefix_error() does: nothing happens where error is NULL, none is set, or it is
 * of a foreign domain. The one that was nearest to the fault knows best: an error that has a cause or a next keeps it, and a second `now` stands
 * behind the first. An empty text is none. */
void vr_error_cause(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
void vr_error_now(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
void vr_error_next(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Another text in the place of a part that the error has; else nothing happens. */
void vr_error_reword(GError **error, VrErrorPart part, const char *text);

/* The whole message is the cause: prefixes will say what was being done. For texts of libvirt. */
void vr_error_is_cause(GError **error);

/* error was just made of the message of `from`, which stands at its end: it gets the parts of `from` too. */
void vr_error_adopt(GError **error, const GError *from);

/* The message without the parts; the whole of it where there are none. Free with g_free. */
char *vr_error_what(const GError *error);

/* Borrowed; NULL: the error does not say. */
const char *vr_error_part(const GError *error, VrErrorPart part);

/* As it is shown on a terminal, printable, with a newline at the end of each line; the last three only where the error
 * has them, and where space is what lacks the row's `next`. Free with g_free.
 *
 *     error: WHAT
 *       now:   what is true
 *       next:  what to type
 *       cause: in the words of libvirt or the kernel */
char *vr_error_text(const GError *error);

/* Sets VR_ERROR_NO_SPACE (ENOSPC, EDQUOT, EFBIG), VR_ERROR_NOT_FOUND (ENOENT) or VR_ERROR_IO with the
 * text FORMAT and the cause strerror(errnum). errnum is positive. */
void vr_set_error_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* A copy of foreign bytes (a child's stderr, a name from an image or a file) that may go into a message or a log line:
 * valid UTF-8, '?' for whatever does not print (so no newline, no escape sequence). length -1: NUL-terminated. NULL gives
 * "". Free with g_free. */
char *vr_printable(const char *text, gssize length);

/* It as one types it in a shell: as it is, or quoted. For what an error tells to type. Free with g_free. */
char *vr_shell_word(const char *text);
