/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Power of one domain over any VrHv: stop with a deadline, start, waiting on events with a level-triggered re-check. */
#pragma once

#include "hv/hv.h"

/* Waits until the domain is in `state`; re-reads the state after each event and at least every 500 ms. VR_ERROR_TIMEOUT
 * at the deadline. *info (may be NULL) is the last that was read. VR_ERROR_DISCONNECTED is retried until the deadline. */
gboolean vr_domain_wait_state(VrHv *hv, const char *uuid, VrDomainState state, gint64 deadline_ms, VrDomainInfo *info,
                              GError **error);

/* Asked before each request that changes the domain, the repeated ones too (SAFETY invariant 22): FALSE ends the call with its error. */
typedef struct {
    gboolean (*ask)(void *data, GError **error);
    void *data;
} VrDomainMay;

typedef enum { VR_STOP_AUTO, VR_STOP_AGENT, VR_STOP_ACPI } VrStopMethod;

typedef struct {
    VrStopMethod method; /* AUTO: the agent, and ACPI when there is none */
    gint64 timeout_ms;
    gboolean force; /* destroy at the deadline; else VR_ERROR_TIMEOUT and the guest goes on */
} VrStopPolicy;

typedef struct {
    gboolean forced; /* destroyed at the deadline */
    VrDomainReason reason;
} VrStopResult;

/* Asks the guest to stop, waits, then forces or gives up. A domain that is off already is success. A guest that reboots
 * instead is noticed (still running with the same id and a new boot) by its not being off at the deadline. Off because of a migration is
 * VR_ERROR_PERSON: it runs elsewhere. may and result may be NULL. */
gboolean vr_domain_stop(VrHv *hv, const char *uuid, const VrDomainMay *may, const VrStopPolicy *policy,
                        VrStopResult *result, GError **error);

/* destroy, then wait until it is off (at most 30 s). Off already is success. One that libvirt is starting and does not let go is VR_ERROR_PERSON, as is a
 * migration. may may be NULL. */
gboolean vr_domain_force_off(VrHv *hv, const char *uuid, const VrDomainMay *may, GError **error);

/* Starts it and waits until it runs (at most 60 s); one that libvirt is starting already is awaited first, as by
 * vr_domain_await_start(). An unknown outcome is read back; a domain that already runs is success (the caller compares its live XML), and so is
 * one that libvirt has started and that is off again at the first look: what its guest does is not the start's to judge. may and info may be
 * NULL. */
gboolean vr_domain_start(VrHv *hv, const char *uuid, const VrDomainMay *may, VrDomainInfo *info, GError **error);

/* libvirt is about to let it run. */
gboolean vr_domain_is_starting(const VrDomainInfo *info);

/* One that libvirt is starting, by whosever command: waits until it is not any more (at most 60 s). VR_ERROR_PERSON: libvirt comes to no end. */
gboolean vr_domain_await_start(VrHv *hv, const char *uuid, GError **error);

/* What to type when libvirt starts a domain (VR_REASON_STARTING) and does not come to an end. libvirt 9.0 keeps in /run/libvirt/qemu that it is at it,
 * at times before there is a QEMU (pid='0'); the next libvirtd reads that and then does nothing about it. Free with g_free. */
char *vr_domain_start_remedy(const VrDomainInfo *info);
