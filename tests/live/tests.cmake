# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(live live_frame LINK vr_live SOURCES live/simulated.c)
vr_test(live live_expect LINK vr_live SOURCES live/simulated.c)
