/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The error contract of the whole program.
 *
 * A function that can fail takes a GError ** as its last argument and returns FALSE, NULL or -1 with
 * the error set. It reports or logs, never both; only main() and the run's event writer print.
 * Each caller that knows more adds it on the way up with g_prefix_error(): what was being done, to
 * which object. The innermost text is libvirt's or the kernel's. Everything is in the one domain VR_ERROR.
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

/* The process exit status for an error, as DESIGN's table has them (0..7). */
int vr_error_exit_status(const GError *error);

/* The stable name of a code for JSON: "NotFound", "Refused", ... Never NULL. */
const char *vr_error_name(int code);

/* Sets VR_ERROR_NO_SPACE (ENOSPC, EDQUOT, EFBIG), VR_ERROR_NOT_FOUND (ENOENT) or VR_ERROR_IO with the
 * text "FORMAT: strerror(errnum)". errnum is positive. */
void vr_set_error_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* A copy of foreign bytes (a child's stderr, a name from an image or a file) that may go into a message or a log line:
 * valid UTF-8, '?' for whatever does not print (so no newline, no escape sequence). length -1: NUL-terminated. NULL gives
 * "". Free with g_free. */
char *vr_printable(const char *text, gssize length);
