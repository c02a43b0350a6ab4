/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model of a scale set: a YAML (so JSON too) document to a checked struct. Keys are Azure's, matched
 * without regard to case. An unknown key, a wrong type, a value out of range is refused with file, line, key, value
 * and range; a key of DESIGN that this version does not support yet is refused by that name, never ignored.
 */
#pragma once

#include "disk/file_proof.h"
#include "engine/retention.h"
#include "hv/domain.h"

#include <glib.h>

typedef enum {
    VR_HEALTH_SOURCE_POWER,
    VR_HEALTH_SOURCE_AGENT_FILE,
    VR_HEALTH_SOURCE_AGENT_COMMAND,
    VR_HEALTH_SOURCE_HTTP,
    VR_HEALTH_SOURCE_HTTPS,
    VR_HEALTH_SOURCE_TCP
} VrHealthSource;

typedef struct {
    VrHealthSource source;
    char **command;          /* agent command: argv in the guest */
    char *file;              /* agent file: absolute path in the guest */
    guint port;              /* http, https, tcp: where an instance's address names none; default 80, 443, none */
    char *request_path;      /* http, https: begins with a slash */
    char *ca_file;           /* https: absolute path on this host; NULL: the host's own list */
    char *server_name;       /* https: the name that the certificates have; NULL: that of the address */
    gint64 interval_ms;      /* intervalInSeconds 5..60, default 5 (FEATURES E9) */
    guint number_of_probes;  /* 1..24, default 1: equal answers in a row */
    gint64 grace_period_ms;  /* gracePeriod 0..14400 s, default interval * numberOfProbes; only delays Unhealthy */
    gint64 timeout_ms;       /* healthTimeout, default 5 min from power-on (E1), or from the first answer */
    gint64 start_timeout_ms; /* startTimeout, from power-on to the first answer (E2); 0: not set */
} VrHealthProfile;

#define VR_CHECKPOINTS 16

typedef struct {
    guint max_batch_percent;              /* 5..100, default 20, not above max_unhealthy_percent */
    guint max_unhealthy_percent;          /* 5..100, default 20 */
    guint max_unhealthy_upgraded_percent; /* 0..100, default 20 */
    gint64 pause_ms;                      /* pauseTimeBetweenBatches, default 0 */
    guint8 checkpoints[VR_CHECKPOINTS];   /* percent of the instances to move, ascending, 1..99; 0 ends them (D15) */
    gint64 checkpoint_wait_ms;            /* 0..P2D, default PT1H */
    gint64 bake_ms;                       /* bakeTime, 0..P2D, default 0 (D16) */
    gint64 timeout_ms;                    /* of the whole run; 0: none (D23) */
    gint64 max_off_ms;                    /* no instance may be off for longer; 0: no limit (J10) */
    guint max_in_flight;                  /* instances of a host on their way at once; 0: no limit (D24) */
    gboolean approval;                    /* a person says when it begins (D20) */
    char **gate;                   /* argv of a command on the host, asked before each batch; NULL: none (E11, L5) */
    gint64 gate_timeout_ms;        /* how long one such question may take; default PT1M */
    char **gate_after;             /* argv of its counterpart, when the instances are back or do not go; NULL: none */
    gboolean by_domain;            /* batchBy: a whole upgrade domain at a time, not max_batch_percent (D30) */
    gboolean cross_zone;           /* enableCrossZoneUpgrade: a batch may hold more than one zone (D9) */
    gboolean prepare_ahead;        /* the next batch is prepared while this one boots (B7); default TRUE */
    gboolean prioritize_unhealthy; /* default TRUE */
    gboolean automatic_rollback;   /* NOT automaticOSUpgradePolicy.disableAutomaticRollback; default TRUE */
    gboolean restore_on_breach;    /* rollbackFailedInstancesOnPolicyBreach: what was left unhealthy goes back (F3) */
} VrUpgradePolicy;

/* Before a guest goes down it has notice (H7), and may say that it is busy (H8). All paths and commands are in the guest. */
typedef struct {
    gboolean enable;             /* default FALSE */
    gint64 not_before_ms;        /* notBeforeTimeout, default PT15M, the only value of Azure's */
    char *file;                  /* where the notice is written; never NULL */
    char **command;              /* is run when it is there; NULL: none */
    char *approval_file;         /* at most one of the two: how the guest lets the wait end early */
    char **approval_command;     /* 0: it does */
    char *busy_file;             /* at most one of the two: how it says that it is busy */
    char **busy_command;         /* 0: it is; 1: it is not; all else: nobody knows, and it counts as busy */
    gint64 busy_limit_ms;        /* busyLimit, from NotBefore or the approval; default PT1H */
    gboolean goes_though_busy;   /* onBusyLimit: proceed; default FALSE */
    gboolean goes_without_agent; /* withoutAgent: proceed; default FALSE */
} VrNoticeProfile;

/* What an edit of the model does to its instances (G9): nothing until 'apply', or 'apply' at once. AUTOMATIC is as ROLLING here. */
typedef enum { VR_MODE_MANUAL, VR_MODE_ROLLING, VR_MODE_AUTOMATIC } VrUpgradeMode;

/* osProfile.windowsConfiguration.enableAutomaticUpdates. */
typedef enum { VR_WINDOWS_UPDATES_NOT_GIVEN, VR_WINDOWS_UPDATES_OFF, VR_WINDOWS_UPDATES_ON } VrWindowsUpdates;

/* Something that a run needs from outside (C5): a URL, a file, a certificate or a token. */
typedef struct {
    char *url;             /* as it stands in the model; NULL: in url_file, or none */
    char *url_file;        /* holds the URL, which may have a signature */
    char *headers_file;    /* lines that are sent with it; NULL: none */
    char *ca_file;         /* NULL: the host's own list */
    gboolean get;          /* by GET, of which only the status is read; else by HEAD */
    gboolean from_guest;   /* asked from inside a guest, else from this host */
    guint expect;          /* the status that it must answer; 0: any of 200 to 299 */
    char *file;            /* must be readable */
    char *certificate;     /* PEM: all in it must be valid */
    char *token_file;      /* NULL: its end alone is known */
    gint64 token_until_us; /* expiresAt, wall clock; 0: what the token itself says */
    gint64 valid_for_ms;   /* for how long it must be good when a run begins; -1: the default of outside.h */
    guint line;
} VrModelResource;

/* How much of the history is kept (J1, decision 10): what is beyond either goes. */
typedef struct {
    guint runs;        /* 1..100000, default 1000 */
    gint64 max_age_ms; /* 1 to 3650 days, default 730 */
} VrHistoryRetention;

/* When runs that nobody asked for may move instances (H4). */
typedef struct {
    char *schedule;     /* when it opens: a calendar expression of systemd; NULL: it is always open */
    gint64 duration_ms; /* for how long: PT15M to P7D */
    guint line;         /* of the schedule */
} VrMaintenanceWindow;

typedef enum { VR_OS_DISK_OVERLAY, VR_OS_DISK_FULL } VrOsDiskKind;
const char *vr_os_disk_kind_name(VrOsDiskKind kind); /* as in the model: "overlay", "full" */

/* A file of this host that is put into a guest before an extension runs there. */
typedef struct {
    char *source; /* on this host */
    char *path;   /* in the guest, absolute */
    guint mode;   /* default 0600 */
} VrExtensionFile;

/* A script or a command that runs in each guest on its new OS disk (C3, C4). */
typedef struct {
    char *name;
    char *script;               /* on this host; NULL: command */
    char **command;             /* argv in the guest; NULL: script */
    GPtrArray *files;           /* VrExtensionFile * */
    gint64 timeout_ms;          /* PT1S to PT2H, default PT5M */
    char **after;               /* provisionAfterExtensions; may be empty, never NULL */
    char *settings;             /* a JSON object; NULL: none */
    char *protected_file;       /* protectedSettings, on this host; NULL: none */
    char *force_update_tag;     /* NULL: none */
    gboolean suppress_failures; /* its failure does not make the guest unhealthy */
    guint line;
} VrExtension;

/* One file of a guest's seed: from a file of this host, or as it stands in the model. */
typedef struct {
    char *file; /* on this host; NULL: text */
    char *text; /* NULL: file; both NULL: there is none */
    gboolean is_template;
    guint line;
} VrProfileData;

typedef struct {
    char *key, *value; /* the value is a template */
} VrProfileMeta;

typedef struct {
    char *data; /* a line as in authorized_keys, without options; NULL: file */
    char *file; /* on this host; NULL: data */
} VrProfileKey;

/* A file that is written into a new OS disk; content.file is spelled source. */
typedef struct {
    VrProfileData content;
    char *path;  /* in the guest */
    guint mode;  /* default 0600; of a network file nothing */
    char *owner; /* "www-data:adm"; NULL: root:root */
} VrOfflineFile;

typedef struct {
    char *user; /* of the guest */
    VrProfileKey key;
} VrOfflineKey;

/* What is written into a new OS disk before its guest has it (C6). NULL or empty: nothing. */
typedef struct {
    guint line;       /* 0: the model asks for none of it */
    char *hostname;   /* a template */
    char *machine_id; /* a template, or "new" */
    char *timezone;
    char *host_key_dir;               /* a template: a directory of this host */
    GPtrArray *authorized;            /* VrOfflineKey * */
    GPtrArray *files, *network_files; /* VrOfflineFile * */
    VrProfileData first_boot;
    VrProfileData unattend; /* of Windows: alone */
    gboolean no_relabel;    /* NOT selinuxRelabel; counts for what is carried over, too */
} VrOfflineProfile;

#define VR_CARRY_HOST_KEYS "ssh-hostkeys"
#define VR_CARRY_MACHINE_ID "machine-id"

/* What a new OS disk gets of the old one (C8). */
typedef struct {
    char **what;        /* these two words, or paths in the guest; may be empty, never NULL */
    gboolean from_disk; /* carryOverFrom; default FALSE: from the guest that runs */
} VrCarryProfile;

/* What a new OS disk finds on its seed (C1, C2, C6, C7), and on itself. */
typedef struct {
    guint line;          /* 0: the model gives nothing that a seed has, and none is made */
    char *computer_name; /* a template, default the name of the domain; NULL only without line */
    VrProfileData custom_data, vendor_data, network_config;
    GPtrArray *meta_data;             /* VrProfileMeta * */
    GPtrArray *public_keys;           /* VrProfileKey * */
    VrWindowsUpdates windows_updates; /* C9 */
    VrOfflineProfile offline;
    VrCarryProfile carry;
} VrOsProfile;

/* What instances have in common: a role, a zone, a pair. */
typedef struct {
    const char *name; /* owned by the model; NULL: none */
    guint number;     /* from 1, in the order in which the model names them; 0: none */
} VrLabel;

typedef struct {
    char *domain;         /* name or UUID as written */
    char *version;        /* its own pin (A11); NULL: it goes with the set */
    char **protect_disks; /* serials, WWNs or targets of disks that are never swapped or made anew (B12); NULL: none */
    char *address; /* where http, https and tcp reach it: HOST or HOST:PORT; NULL: what the agent or the lease says */
    VrLabel role, zone, pair; /* D8, D9, D10 */
    guint phase;              /* 1..1000, the lowest goes first; 0: none, which goes last (D10) */
    gboolean is_protected;    /* protectFromScaleSetActions: only moved when it is named (G7) */
    guint line;
} VrModelInstance;

typedef struct {
    char *name;
    char *image_name; /* or the three below */
    char *publisher, *offer, *sku;
    char *version;              /* "latest" or a version: a pin */
    guint upgrade_domain_count; /* 1..20, default 5 */
    gboolean overprovision;     /* of Azure's documents; means nothing here, and plan says so (D28) */
    gboolean
        automatic; /* enableAutomaticOSUpgrade: nothing starts by itself without a daemon, which set-define and plan say */
    VrUpgradeMode mode;
    VrUpgradePolicy policy;
    VrHealthProfile health;
    VrOsProfile os_profile;
    VrNoticeProfile notice;
    VrOsDiskKind os_disk_kind;
    char *os_target;           /* NULL: found in the XML */
    char **temp_disks;         /* targets; may be empty, never NULL */
    VrStopPolicy stop;         /* default AUTO, PT2M, force FALSE */
    VrProofContent data_proof; /* dataDiskProof: what of data disks is hashed while it is off; default NONE */
    VrHistoryRetention history;
    VrRetention retention; /* B4 */
    VrMaintenanceWindow window;
    GPtrArray *extensions; /* VrExtension *, in the order in which they run */
    GPtrArray *outside;    /* externalResources: VrModelResource * */
    GPtrArray *instances;  /* VrModelInstance *, in order of definition, no name twice */
} VrModel;

/* file_name is for messages only. All errors are VR_ERROR_USAGE ("lab.yaml:7: ..."). The names of files on this host stay as they are
 * written: vr_model_text_absolute() makes them absolute when a set is defined. */
VrModel *vr_model_parse(const char *text, gsize length, const char *file_name, GError **error);
void vr_model_free(VrModel *model);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrModel, vr_model_free)

/* The text of a model with each name of a file on this host that is relative made absolute, beneath `directory`; all else, comments too, stays as it
 * was written. Errors as vr_model_parse(). Free with g_free. */
char *vr_model_text_absolute(const char *text, gsize length, const char *file_name, const char *directory,
                             GError **error);
