/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What else is to be seen of a running guest, beside the source that its health is judged by (E12). For people: no decision is
 * taken on it. */
#pragma once

#include "hv/hv.h"

typedef struct {
    const char *name;  /* "agent", "bootId", "cloudInit"; static */
    const char *label; /* the same for people; static */
    char *state;       /* what it says, from the guest; owned */
    gint64 at_us;      /* when, wall clock */
} VrHealthSignal;

/* Asks the guest agent. Without one there is one signal, which says so. Element: VrHealthSignal *, freed with the array. */
GPtrArray *vr_health_signals(VrHv *hv, const char *uuid, gint64 deadline_ms);
