/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to hv/: pieces of libvirt_ops.c that have a file of their own. All run on a worker. */
#pragma once

#include "hv/call.h"
#include <libvirt/libvirt.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStoragePool, virStoragePoolFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageVol, virStorageVolFree)

/* The last error of libvirt on this thread as ours: NOT_FOUND, AGENT, DISCONNECTED (the connection is dead) or
 * HYPERVISOR. Sets call->retry when another client's job was in the way. Always returns FALSE. */
gboolean vr_libvirt_error(VrCall *call, GError **error);

/* The domain whose UUID is the call's subject. */
virDomainPtr vr_libvirt_domain(VrCall *call, GError **error);

/* Fills call->info. */
gboolean vr_libvirt_do_info(VrCall *call, GError **error);
/* Sets call->string to what it is at (hv.h, job); NULL: nothing. */
gboolean vr_libvirt_do_job(VrCall *call, GError **error);

/* libvirt renames a definition into place and does not flush the directory (SAFETY 4.6): we do, where the
 * directory is on this host. An error means: configured, and perhaps not yet durable. */
gboolean vr_libvirt_flush_config(virConnectPtr conn, GError **error);
/* That flush, of the directory that is known. */
gboolean vr_libvirt_flush_dir(const char *dir, GError **error);

/* Of the table: libvirt_refs.c. */
GPtrArray *vr_libvirt_op_list(VrHv *hv, GError **error);
GPtrArray *vr_libvirt_op_kept_xml(VrHv *hv, const char *uuid, GError **error);

/* Of the table: libvirt_leases.c. */
GPtrArray *vr_libvirt_op_leases(VrHv *hv, const char *uuid, GError **error);

/* Of the table: libvirt_block.c. */
gboolean vr_libvirt_op_block_pull(VrHv *hv, const char *uuid, const char *target, GError **error);
gboolean vr_libvirt_op_block_job(VrHv *hv, const char *uuid, const char *target, VrBlockJob *job, GError **error);
gboolean vr_libvirt_op_drop_live_record(VrHv *hv, const char *uuid, GError **error);

/* Of the table: libvirt_console.c. */
gboolean vr_libvirt_op_console(VrHv *hv, const char *uuid, VrConsole *console, GError **error);

/* Of the table: libvirt_nvram.c. */
char *vr_libvirt_op_nvram(VrHv *hv, const char *uuid, const char *xml, GError **error);
/* The NVRAM's file in a QEMU command line as a shell takes it; NULL when there is none. Free with g_free. */
char *vr_libvirt_nvram_of_command(const char *command);
