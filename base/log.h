/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Diagnostics for the log (not the program's output): structured, with fixed MESSAGE_IDs for what a
 * monitoring system wants to find. Goes to journald when stderr is the journal, else to stderr as
 * plain lines from the chosen level up. No secret is ever an argument (SAFETY 29).
 */
#pragma once

#include <glib.h>

typedef enum { VR_LOG_DEBUG, VR_LOG_INFO, VR_LOG_WARNING } VrLogLevel;

/* Lines below the level are dropped. Default VR_LOG_WARNING; VIRT_REIMAGE_DEBUG=1 in the environment lowers it. */
void vr_log_set_level(VrLogLevel level);

/* message_id: 32 hex digits, or NULL. object: the domain, set or version that it is about, or NULL. */
void vr_log(VrLogLevel level, const char *message_id, const char *object, const char *format, ...) G_GNUC_PRINTF(4, 5);

#define vr_debug(...) vr_log(VR_LOG_DEBUG, NULL, NULL, __VA_ARGS__)
#define vr_warning(object, ...) vr_log(VR_LOG_WARNING, NULL, object, __VA_ARGS__)
