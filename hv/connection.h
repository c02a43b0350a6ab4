/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The libvirt connection. One thread runs libvirt's event loop (it iterates GLib's default main context:
 * nothing else of ours runs that context). Calls run on worker threads with a deadline, because a call
 * can block for ever when a worker of libvirtd hangs while keepalive still answers (SAFETY 4.13): at
 * the deadline the thread is abandoned with its connection, and the next call opens a new one.
 */
#pragma once

#include "hv/hv.h"

typedef struct {
    gint64 call_timeout_ms; /* a call's deadline; 0 = 60 s */
} VrConnectionOptions;

/* Opens uri (NULL: libvirt's default, LIBVIRT_DEFAULT_URI and so on, else qemu:///system). options may be NULL. libvirtd not
 * running is VR_ERROR_DISCONNECTED with what to do; a libvirt of another host is VR_ERROR_USAGE, and is not called. */
VrHv *vr_connection_open(const char *uri, const VrConnectionOptions *options, GError **error);

/* qemu:///embed: the driver, and what QEMU needs, is in this very process. uri as above. */
gboolean vr_connection_is_in_process(const char *uri);

/* The URI that libvirt says it is connected to. Free with g_free. */
char *vr_connection_uri(VrHv *hv, GError **error);

/* For doctor: libvirt's and the hypervisor's version as "9.0.0". Free with g_free. */
char *vr_connection_versions(VrHv *hv, GError **error);

/* Pools of libvirt whose target directory is `path` or above it: SAFETY 4.15. Element: char * name, freed with the array. */
GPtrArray *vr_connection_pools_over(VrHv *hv, const char *path, GError **error);

/* Resolves a disk of type='volume' to its path. VR_ERROR_NOT_FOUND: the pool is there and has no such volume; VR_ERROR_REFUSED: there is no such
 * pool, so nobody knows what it was; VR_ERROR_HYPERVISOR: the pool is not active. Free with g_free. */
char *vr_connection_volume_path(VrHv *hv, const char *pool, const char *volume, GError **error);

/* The security drivers that libvirt confines guests with: "apparmor", "selinux", "dac". Element: char *, freed with the array. */
GPtrArray *vr_connection_security_models(VrHv *hv, GError **error);
