/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the rest of the program asks of a hypervisor, as a table of operations: libvirt behind
 * hv/connection, a scripted one in the tests. Every call blocks its thread for at most its deadline.
 *
 * Errors tell three things apart (SAFETY invariant 16):
 *   VR_ERROR_HYPERVISOR    it was refused; nothing has changed
 *   VR_ERROR_DISCONNECTED  outcome unknown: the connection broke or the call was abandoned at its deadline;
 *                          the caller reads the state back before it decides anything
 *   VR_ERROR_NOT_FOUND     there is no such domain
 */
#pragma once

#include "hv/console.h"

#define VR_UUID_LENGTH 36

typedef enum {
    VR_DOMAIN_RUNNING, /* running or blocked */
    VR_DOMAIN_PAUSED,
    VR_DOMAIN_STOPPING, /* being shut down */
    VR_DOMAIN_OFF,
    VR_DOMAIN_CRASHED,
    VR_DOMAIN_SUSPENDED, /* pmsuspended */
    VR_DOMAIN_UNKNOWN
} VrDomainState;
const char *vr_domain_state_name(VrDomainState state);

/* Why it is off or paused; libvirt's reasons, those that matter to us told apart. */
typedef enum {
    VR_REASON_OTHER,
    VR_REASON_SHUTDOWN, /* the guest shut down */
    VR_REASON_DESTROYED,
    VR_REASON_CRASHED,
    VR_REASON_FAILED,   /* QEMU could not start */
    VR_REASON_MIGRATED, /* it runs elsewhere: never start it here */
    VR_REASON_SAVED,
    VR_REASON_IO_ERROR, /* paused: no space or I/O error */
    VR_REASON_STARTING  /* paused: libvirt is about to let it run */
} VrDomainReason;

typedef struct {
    char uuid[VR_UUID_LENGTH + 1];
    char *name;
    VrDomainState state;
    VrDomainReason reason;
    int id; /* libvirt's id of the running domain, -1 when off: a new QEMU has a new one */
    gboolean persistent, autostart, managed_save;
    guint snapshots, checkpoints;
} VrDomainInfo;

/* "running", "paused after an I/O error": its state, and what is known of the reason. For people; static. */
const char *vr_domain_state_words(const VrDomainInfo *info);

void vr_domain_info_clear(VrDomainInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrDomainInfo, vr_domain_info_clear)

typedef enum { VR_SHUTDOWN_AGENT, VR_SHUTDOWN_ACPI } VrShutdownMode;

/* What QEMU does to one disk of a running domain at another client's, or our, request. */
typedef struct {
    gboolean active; /* there is one; all else is of no account when not */
    gboolean pull;   /* it takes what lies below the disk into it */
    guint64 done, total;
} VrBlockJob;

typedef struct VrHv VrHv;

typedef struct {
    /* UUIDs of all domains. Element: char *, freed with the array. */
    GPtrArray *(*list)(VrHv *hv, GError **error);
    gboolean (*lookup)(VrHv *hv, const char *name_or_uuid, char uuid[VR_UUID_LENGTH + 1], GError **error);
    gboolean (*info)(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error);
    /* Of a domain that runs: its job or block job ("block copy on vda", "migration"), NULL when there is none. Another client's lock on it is waited for,
     * a minute and a half at most. NULL: no domain has any. Free with g_free. */
    gboolean (*job)(VrHv *hv, const char *uuid, char **job, GError **error);
    char *(*inactive_xml)(VrHv *hv, const char *uuid, GError **error); /* INACTIVE | SECURE */
    char *(*live_xml)(VrHv *hv, const char *uuid, GError **error);     /* VR_ERROR_HYPERVISOR when it is off */
    char *(*public_xml)(
        VrHv *hv, const char *uuid,
        GError **error); /* INACTIVE alone: libvirt leaves out passwords. For people, never to be defined */
    /* XML of its snapshots, checkpoints and managed save. Element: char *, freed with the array. */
    GPtrArray *(*kept_xml)(VrHv *hv, const char *uuid, GError **error);
    gboolean (*define)(VrHv *hv, const char *uuid, const char *xml,
                       GError **error); /* VALIDATE, then the directory that holds it is flushed */
    gboolean (*start)(VrHv *hv, const char *uuid, GError **error);
    gboolean (*shutdown)(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error); /* a request */
    gboolean (*destroy)(VrHv *hv, const char *uuid, GError **error);
    /* Waits until something may have changed about the domain or deadline_ms (boot time) passed. */
    void (*wait_change)(VrHv *hv, const char *uuid, gint64 deadline_ms);
    /* One guest agent command (JSON text) and its reply. VR_ERROR_AGENT when there is no agent or no answer in time. */
    char *(*agent)(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error);
    /* The addresses that libvirt's DHCP servers gave to its network cards, the newest lease last. Element: char *, freed with the
     * array. */
    GPtrArray *(*leases)(VrHv *hv, const char *uuid, GError **error);
    /* The file that a start would take as the NVRAM of a domain whose XML names none (domain_xml.h, nvram_unnamed): as it is configured, or
     * by `xml` when that is not NULL. Any failure says that it cannot be told. */
    char *(*nvram)(VrHv *hv, const char *uuid, const char *xml, GError **error);
    /* Of a domain that runs, else VR_ERROR_HYPERVISOR. Begins to take all that lies below the disk `target` into it. Returns at once; the job goes on
     * whatever becomes of the caller, and when it is at its end the disk refers to no other file. */
    gboolean (*block_pull)(VrHv *hv, const char *uuid, const char *target, GError **error);
    gboolean (*block_job)(VrHv *hv, const char *uuid, const char *target, VrBlockJob *job, GError **error);
    /* Takes our record out of the metadata of a domain that runs, as it is until it stops. One that has none is success. */
    gboolean (*drop_live_record)(VrHv *hv, const char *uuid, GError **error);
    /* From now on what the domain says on its console, a pseudo terminal that is free, goes into `console`, until that is closed. Nobody is
     * driven away. VR_ERROR_HYPERVISOR: it is off, has no such console, or somebody has it. NULL: no console can be read. */
    gboolean (*console)(VrHv *hv, const char *uuid, VrConsole *console, GError **error);
    void (*close)(VrHv *hv);
} VrHvOps;

struct VrHv {
    const VrHvOps *ops;
    gint lost; /* atomic; vr_hv_lost_calls() */
};

/* Thin wrappers, so that callers do not spell the table out. Strings are freed with g_free. */
GPtrArray *vr_hv_list(VrHv *hv, GError **error);
gboolean vr_hv_lookup(VrHv *hv, const char *name_or_uuid, char uuid[VR_UUID_LENGTH + 1], GError **error);
gboolean vr_hv_info(VrHv *hv, const char *uuid, VrDomainInfo *info, GError **error);
gboolean vr_hv_job(VrHv *hv, const char *uuid, char **job, GError **error);
char *vr_hv_inactive_xml(VrHv *hv, const char *uuid, GError **error);
char *vr_hv_live_xml(VrHv *hv, const char *uuid, GError **error);
char *vr_hv_public_xml(VrHv *hv, const char *uuid, GError **error);
GPtrArray *vr_hv_kept_xml(VrHv *hv, const char *uuid, GError **error);
gboolean vr_hv_define(VrHv *hv, const char *uuid, const char *xml, GError **error);
gboolean vr_hv_start(VrHv *hv, const char *uuid, GError **error);
gboolean vr_hv_shutdown(VrHv *hv, const char *uuid, VrShutdownMode mode, GError **error);
gboolean vr_hv_destroy(VrHv *hv, const char *uuid, GError **error);
gboolean vr_hv_block_pull(VrHv *hv, const char *uuid, const char *target, GError **error);
gboolean vr_hv_block_job(VrHv *hv, const char *uuid, const char *target, VrBlockJob *job, GError **error);
gboolean vr_hv_drop_live_record(VrHv *hv, const char *uuid, GError **error);
gboolean vr_hv_console(VrHv *hv, const char *uuid, VrConsole *console, GError **error);
/* Calls so far that change a domain (define, start, shutdown, destroy, block_pull, drop_live_record) and whose outcome nobody heard: any of them may still take
 * effect. */
guint vr_hv_lost_calls(VrHv *hv);
void vr_hv_wait_change(VrHv *hv, const char *uuid, gint64 deadline_ms);
char *vr_hv_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error);
GPtrArray *vr_hv_leases(VrHv *hv, const char *uuid, GError **error);
char *vr_hv_nvram(VrHv *hv, const char *uuid, const char *xml, GError **error);
void vr_hv_close(VrHv *hv);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrHv, vr_hv_close)
