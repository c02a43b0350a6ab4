/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In place of disk/personalize, by the linker's --wrap: no appliance, but real files. What a disk gets is written, as text, behind its last cluster and
 * flushed, so that a test can read it, and a sweep cut it. A disk is read likewise; one that was never written is that of a guest with FAKE_HOST_KEY,
 * FAKE_MACHINE_ID and FAKE_TLS_KEY.
 */
#pragma once

#include "disk/personalize.h"

#define FAKE_HOST_KEY "key-of-the-host-of-the-guest"
#define FAKE_MACHINE_ID "0123456789abcdef0123456789abcdef"
#define FAKE_TLS_KEY "key-of-the-shop-of-the-guest"
#define FAKE_TLS_PATH "/etc/shop/tls.key"

typedef struct {
    gint launches, reads;             /* atomic; so far */
    guint disks;                      /* of the last launch */
    const char *fails;                /* why each disk fails; NULL: none does */
    void (*before)(const char *disk); /* of each launch and read, with its first disk */
} FakePersonal;
extern FakePersonal fake_personal;

/* What was written to it; NULL: nothing. Lines "HOSTNAME name", then of each file "PATH KIND MODE OWNER LENGTH" and its bytes. Free with g_free. */
char *fake_personal_text(const char *disk);
