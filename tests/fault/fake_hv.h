/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A scripted hypervisor: one domain whose state lies in files, so that it outlives the process that a test kills
 * in the middle of a call. Each call is a point: the script may fail it before or after its effect, or end the process.
 */
#pragma once

#include "hv/hv.h"

typedef enum {
    FAKE_NONE,
    FAKE_REFUSE,      /* nothing happens, VR_ERROR_HYPERVISOR */
    FAKE_LOST_BEFORE, /* nothing happens, VR_ERROR_DISCONNECTED */
    FAKE_LOST_AFTER,  /* it happens, VR_ERROR_DISCONNECTED */
    FAKE_KILL_BEFORE, /* _exit before it happens */
    FAKE_KILL_AFTER,
    FAKE_LATE /* of define, start and destroy: VR_ERROR_DISCONNECTED, and it happens `late_by` calls later */
} FakeFault;

#define FAKE_UUID "11111111-2222-4333-8444-555555555555"
#define FAKE_OTHER_UUID "99999999-2222-4333-8444-555555555555" /* another domain, off, when a test wrote other.xml */
#define FAKE_KILLED 42                                         /* exit status of a killed process */

/* A UEFI guest writes the path of its NVRAM, and after a NUL that of its OS disk, into the first FAKE_NVRAM_MARK bytes of it at each boot; one
 * that is not there is made first, of 'T's. A domain that names none gets the file FAKE_NVRAM in dir. */
#define FAKE_LOADER "/fw/CODE.fd"
#define FAKE_NVRAM "chosen_VARS.fd"
#define FAKE_NVRAM_MARK 512
#define FAKE_NVRAM_BYTES 4096

typedef struct {
    VrHv hv;
    char *dir;      /* inactive.xml, kept.xml */
    char *run_dir;  /* live.xml, state: what is gone when the host is; NULL: dir */
    guint point;    /* calls so far */
    guint fault_at; /* the point (from 1) at which the fault fires; 0: never */
    FakeFault fault;
    gboolean fault_stays;       /* fires at every later point too */
    gboolean deaf;              /* ignores shutdown requests */
    gboolean fail_new_disk;     /* a guest on a disk under /disks/ does not start */
    gboolean ends_at_once;      /* whatever is started is off again before anybody can look */
    guint stops_after;          /* a shutdown request takes effect only after this many looks at the state */
    guint stopping;             /* looks that are left of it */
    VrDomainReason stop_reason; /* why it goes off when it is asked to; OTHER: a shutdown */
    gint64 off_at_ms;           /* from when on it is off by itself (boot-time clock); 0: not */
    gboolean managed_save;      /* what it says of the domain, as the three below */
    gboolean autostart;
    guint snapshots, checkpoints;
    const char *job;
    gboolean pull_fails;              /* it ends and has done nothing */
    guint starts, defines, shutdowns; /* in this process */
    /* What its guest's agent answers, a text of its own; NULL: it has no agent. */
    char *(*agent)(const char *command, void *data);
    void *agent_data;
    const char *console; /* what its guest says on its pseudo terminal; NULL: somebody else has that */
    gint console_hangs;  /* atomic: libvirt does not answer who wants to hear it */
    gint consoles;       /* atomic: how often it was asked */
    GPtrArray *others;   /* not owned: FakeHv * on the same host, itself too; NULL: it is alone */
    guint late_by;       /* of FAKE_LATE */
    struct {
        char what;          /* d, s, x for destroy; 0: none */
        char *xml;          /* of d */
        guint left;         /* calls until it takes effect */
        gint64 answered_ms; /* when a later call that changes something was answered; 0: none was */
    } late;                 /* a call that was given up and is under way */
    GString *
        log; /* of this process: d, s, x, p, m for each define, start, destroy, pull, drop of the record that took effect,
                             * o for an end without a destroy */
} FakeHv;

/* A block pull goes on in the file `pull` of dir, as QEMU's does, whoever asks: it holds how many looks at it are left. */
#define FAKE_PULL_LOOKS 2

/* Once a later call that changes something was answered, one that is under way takes effect within this time (engine/swap.c). */
#define FAKE_LATE_MS 1500

/* The domain is made with `xml` in dir, running or off, unless dir holds one already (xml NULL). */
FakeHv *fake_hv_new(const char *dir, const char *xml, gboolean running);
void fake_hv_free(FakeHv *fake);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FakeHv, fake_hv_free)

VrDomainState fake_hv_state(FakeHv *fake);
/* The source path of the disk vda in inactive.xml or live.xml (NULL when off). Free with g_free. */
char *fake_hv_os_path(FakeHv *fake, gboolean live);
/* Off: as after a shutdown. */
void fake_hv_set_state(FakeHv *fake, VrDomainState state);
/* The guest ends by itself. */
void fake_hv_end(FakeHv *fake, VrDomainReason reason);
/* libvirtd starts again, and knows no more why a domain is off. */
void fake_hv_restart(FakeHv *fake);
/* What else somebody may do: one that runs goes on as a transient domain; a managed save; a snapshot. */
void fake_hv_undefine(FakeHv *fake);
void fake_hv_save(FakeHv *fake);
void fake_hv_snapshot(FakeHv *fake);
/* As every define checks first: the XML is of that domain. Else VR_ERROR_INVALID. */
gboolean fake_hv_is_of(const char *xml, const char *uuid, GError **error);
/* The host comes back after a power cut: the guest is off, or with autostart runs on what inactive.xml names. */
void fake_hv_boot_host(FakeHv *fake, gboolean autostart);
/* A call of a process that ended is under way: as FAKE_LATE. xml: of a define. */
void fake_hv_late(FakeHv *fake, char what, const char *xml, guint by);
/* Somebody else's edit of the inactive XML: replaces the first `from` by `to`. */
void fake_hv_edit(FakeHv *fake, const char *from, const char *to);

/* fake_console.c: the operation `console`. No point of the script: it is asked for on a thread of its own, whenever that comes to it. */
gboolean fake_console(VrHv *hv, const char *uuid, VrConsole *console, GError **error);
