/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The only two clocks of the program. Deadlines use the boot-time clock (it counts suspend and no jump
 * of the wall clock moves it); the wall clock is for people and for windows. SAFETY invariant 24.
 */
#pragma once

#include <glib.h>

/* Milliseconds of CLOCK_BOOTTIME. */
gint64 vr_clock_now_ms(void);

/* Microseconds since the epoch, for people and for windows.
 *
 * For tests only: where the environment variable VIRT_REIMAGE_TEST_CLOCK names a file, the whole seconds that stand in it ("86400", "-7200")
 * are added. The file is read at each call, so a test moves the wall clock of a program that runs; it puts a new file in the old one's place by
 * rename(2). A file that cannot be read, or that holds anything else, leaves the offset as it was. The boot-time clock stays as it is. */
gint64 vr_clock_wall_us(void);

/* The kernel's boot id of this host (36 characters), read once. Never NULL; "unknown" if unreadable. */
const char *vr_clock_boot_id(void);

/* Wall time in microseconds as RFC 3339 in UTC with milliseconds: "2026-11-21T23:02:32.123Z". Free with g_free. */
char *vr_clock_format(gint64 wall_us);

/* A duration as a person reads it: "312 ms", "4.2 s", "3 min 05 s". Negative: "-". Free with g_free. */
char *vr_clock_format_duration(gint64 ms);

/* Sleeps until the boot-time clock reaches the deadline or it is interrupted. Tests make it return at once. */
void vr_clock_sleep_until(gint64 deadline_ms);

/* Parses a duration: ISO 8601 ("PT2M", "PT0S", "P14D", "PT1H30M") or a span of systemd ("5min", "2h 30s", plain seconds).
 * Negative, empty, overflowing ones are VR_ERROR_INVALID. */
gboolean vr_clock_parse_duration(const char *text, gint64 *ms, GError **error);

/* Tests only: replaces both clocks; NULL restores. */
typedef struct {
    gint64 (*now_ms)(void *data);
    gint64 (*wall_us)(void *data);
    void (*sleep_until)(gint64 deadline_ms, void *data);
    void *data;
} VrClockSource;
void vr_clock_set_source(const VrClockSource *source);
