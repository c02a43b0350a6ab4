/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest agent whose guest is this host: what it is asked to run it runs, as QEMU's does, so that the texts which a guest's shell is given meet a
 * real shell and real processes. Tests make it fall silent, start anew, or lose its guest.
 */
#pragma once

#include "hv/hv.h"

typedef struct {
    VrHv hv;           /* for those that need no more than the agent and the state of the domain */
    GPtrArray *asked;  /* char *: each command that came, as it came */
    guint silent;      /* so many more of them are left without an answer */
    gint64 away_until; /* boot-time clock: libvirt is not there before */
    gboolean off;      /* the domain */
    const char *boot_id, *run_dir;
    GHashTable *children;
    /* Called before each command, with its text. */
    void (*before)(const char *command, void *data);
    void *data;
} HostAgent;

/* run_dir, absolute and not there yet, takes the place of VR_EXTENSION_DIR in what is run; not owned. */
HostAgent *host_agent_new(const char *run_dir);
/* Ends what still runs. */
void host_agent_free(HostAgent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostAgent, host_agent_free)

/* It is another process now, which knows nothing of what the one before has started; that runs on. */
void host_agent_forget(HostAgent *agent);

/* One command and its answer, as VrHvOps.agent. */
char *host_agent_answer(HostAgent *agent, const char *command, GError **error);

/* The commands that run something: their texts without what goes to standard input, one a line. Free with g_free. */
char *host_agent_argv(const HostAgent *agent);
