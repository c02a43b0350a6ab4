/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lines that are drawn again and again in their place on a terminal. There is no alternate screen: the last frame stays in the scrollback as the result.
 *
 *   - only lines that changed are written, all of a frame in one write, between the begin and the end of a synchronized update (DEC mode 2026, which
 *     terminals without it ignore): nothing flickers
 *   - the terminal is asked for its size at each frame, since a job of the daemon hears of no resize
 *   - a terminal that takes nothing (Ctrl-S) is never waited for: what is under way goes on later, frames are left out meanwhile
 *   - the cursor is hidden only while a frame is written
 *   - nothing is written while another process group has the terminal (Ctrl-Z and bg); back in the foreground, a frame is drawn below what the shell wrote
 *
 * Used by one thread at a time.
 */
#pragma once

#include "orchestrator/live/line.h"

typedef struct VrScreen VrScreen;

/* Can frames be drawn on fd? It is a terminal, TERM is known and not dumb, and this process is in its foreground. */
gboolean vr_screen_can(int fd);

/* Is it a terminal that knows colours, and is nobody against them (NO_COLOR)? For lines that are printed and stay. */
gboolean vr_screen_has_colours(int fd);

/* fd: not owned, and vr_screen_can(). */
VrScreen *vr_screen_new(int fd);
/* Waits a second at most for a terminal that takes nothing. */
void vr_screen_free(VrScreen *screen);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrScreen, vr_screen_free)

/* The terminal as it is now: its size, NO_COLOR, and whether the locale is UTF-8. */
void vr_screen_look(const VrScreen *screen, VrFrameLook *look);

/* Draws the lines (char *, with marks) in place of those before. above: lines that are to stay above the frame, or NULL; they are kept for a terminal that takes nothing now, up to a megabyte. FALSE: the terminal is
 * gone. */
gboolean vr_screen_draw(VrScreen *screen, const GPtrArray *lines, const char *above);

/* Something is still to be written, of a frame or of lines above one. */
gboolean vr_screen_is_behind(const VrScreen *screen);
