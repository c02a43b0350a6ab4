/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A libvirtd in a namespace of its own (tests/lib/libvirtd.py), for tests that hang or kill it. */
#pragma once

#include <glib.h>
#include <sys/types.h>

typedef struct {
    GPid helper;
    int in, out; /* of the helper */
    char *uri;
    pid_t pid; /* of libvirtd itself */
} PrivateLibvirtd;

/* NULL: it cannot be had; root, libvirtd, QEMU, python3-libvirt and VR_SOURCE_DIR are needed. */
PrivateLibvirtd *private_libvirtd_start(void);
/* It is killed, and another one takes its place; guests run on. */
void private_libvirtd_again(PrivateLibvirtd *daemon);
void private_libvirtd_end(PrivateLibvirtd *daemon); /* with its guests; frees */
