/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QEMU guest agent over any VrHv. Every answer is hostile input: bounded, parsed, never trusted for its form. */
#pragma once

#include "hv/hv.h"

/* TRUE when the agent answers within timeout_s. */
gboolean vr_agent_ping(VrHv *hv, const char *uuid, int timeout_s, GError **error);

typedef struct {
    int exit_status; /* 0..255; 128 + signal when it was killed */
    char *out, *err; /* the last max_output bytes of each, at most; NUL-terminated, owned */
    gboolean cut;    /* there was more */
} VrAgentResult;
void vr_agent_result_clear(VrAgentResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrAgentResult, vr_agent_result_clear)

/* Runs argv in the guest and waits for its end until deadline_ms (boot time): VR_ERROR_TIMEOUT after it. *aborted (may be NULL) set
 * to non-zero by another thread ends the wait: VR_ERROR_CANCELLED. The command then runs on in the guest. */
gboolean vr_agent_exec(VrHv *hv, const char *uuid, const char *const *argv, gsize max_output, gint64 deadline_ms,
                       const gint *aborted, VrAgentResult *result, GError **error);

/* The same with `length` bytes of input (NULL: none) on its standard input: what no list of processes and no log of the agent may show. At most
 * VR_AGENT_INPUT_MAX. */
gboolean vr_agent_exec_input(VrHv *hv, const char *uuid, const char *const *argv, const void *input, gsize length,
                             gsize max_output, gint64 deadline_ms, const gint *aborted, VrAgentResult *result,
                             GError **error);
#define VR_AGENT_INPUT_MAX (2 * 1024 * 1024) /* its base64 fits into a message of libvirt, 4 MiB */

/* The two halves of it, for what runs for long. begin: *pid is the guest's. */
gboolean vr_agent_exec_begin(VrHv *hv, const char *uuid, const char *const *argv, const void *input, gsize length,
                             gint64 deadline_ms, gint64 *pid, GError **error);
/* 1: it has ended and *result is filled; 0: not yet, or nobody answered, which *silences counts (0 at first); -1: error, after three silences in a
 * row too. An agent that was started anew knows no pid, which libvirt does not tell from silence. */
int vr_agent_exec_look(VrHv *hv, const char *uuid, gint64 pid, gsize max_output, gint64 deadline_ms, guint *silences,
                       VrAgentResult *result, GError **error);

/* Reads a file of the guest, at most max bytes: more is VR_ERROR_AGENT. NUL-terminated, *length may be NULL. */
char *vr_agent_read_file(VrHv *hv, const char *uuid, const char *path, gsize max, gint64 deadline_ms, gsize *length,
                         GError **error);

/* Writes length bytes to a file of the guest, made or cut to nothing first, and flushes it. It is written in place: who reads it meanwhile may
 * see a part. On an error it may hold a part too. The agent's user owns a file that was not there, with the mode of the agent's umask. */
gboolean vr_agent_write_file(VrHv *hv, const char *uuid, const char *path, const char *data, gsize length,
                             gint64 deadline_ms, GError **error);

/* The guest's boot id (/proc/sys/kernel/random/boot_id), 36 characters checked. Free with g_free. */
char *vr_agent_boot_id(VrHv *hv, const char *uuid, gint64 deadline_ms, GError **error);

/* An address of a guest's network card, as the guest says it. */
typedef struct {
    char mac[18]; /* "52:54:00:12:34:56", lower case; "" when it has none */
    char *ip;     /* checked to be one; owned */
    gboolean v6;
} VrGuestAddress;
void vr_guest_address_free(VrGuestAddress *address);

/* All addresses of all network cards that the guest names, at most 256 of them. Element: VrGuestAddress *, freed with the array. */
GPtrArray *vr_agent_addresses(VrHv *hv, const char *uuid, gint64 deadline_ms, GError **error);
