/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a command works with. A reading command opens the store read-only and writes nothing; one that changes a set
 * becomes its owner and first recovers what a crash left open. A dry run is a reading command.
 */
#pragma once

#include "orchestrator/cli/cli.h"
#include "orchestrator/executor.h"

/* What taking a set does with a run that is open and has no process any more. */
typedef enum {
    VR_OPEN_RUN_REFUSE, /* VR_ERROR_BUSY: it goes on or is cancelled first */
    VR_OPEN_RUN_KEEP,   /* the caller has to do with it */
    VR_OPEN_RUN_CANCEL  /* it ends as Cancelled */
} VrOpenRun;

typedef struct {
    const VrCli *cli;
    VrStore *store;
    VrJournal *journal;
    VrHv *hv; /* NULL until connected */
    VrOwner *owner;
    VrSet *set;
    VrOutside *outside; /* looked at by the check of a run; NULL before */
    VrOpenRun open_run; /* set before the set is taken */
    VrEngine engine;    /* of the above, once the set is taken */
} VrSession;

void vr_session_clear(VrSession *session);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrSession, vr_session_clear)

gboolean vr_session_open_read(VrSession *session, const VrCli *cli, GError **error);

/* Makes the store when there is none yet, and sweeps what a killed publication left. */
gboolean vr_session_open_write(VrSession *session, const VrCli *cli, GError **error);

/* As above by cli->options.dry_run: read for a dry run, write else. */
gboolean vr_session_open(VrSession *session, const VrCli *cli, GError **error);

/* What began by itself may be another now, though no file has changed: virt-reimaged sees that ROOT/images was touched, and looks. */
void vr_session_touch(const VrSession *session);

gboolean vr_session_connect(VrSession *session, GError **error);

/* That failed: no other session of this command would get an answer either. */
gboolean vr_session_is_unreachable(const VrSession *session, const GError *error);

/* Says on stderr which instances of the set began to leave, and have not (B21). */
gboolean vr_session_note_releases(const VrSession *session, GError **error);

/* Loads a set for reading and says on stderr when swaps of it stand open that nobody works on. */
gboolean vr_session_read_set(VrSession *session, const char *name, GError **error);

/* The same, also of a set whose model this program cannot read: session->set->model is NULL then. */
gboolean vr_session_read_any_set(VrSession *session, const char *name, GError **error);

/* Connects, becomes owner of the set, loads it, recovers it. In a dry run: connects and loads only. */
gboolean vr_session_take_set(VrSession *session, const char *name, GError **error);

/* The same, also of a set whose model this program cannot read. */
gboolean vr_session_take_any_set(VrSession *session, const char *name, GError **error);

/* The name of a set whose model is not (or not yet) in the registry: owner, and recovery when it is there. text: the model that
 * recovery goes by where the one that is there cannot be read; may be NULL. */
gboolean vr_session_own(VrSession *session, const char *name, const char *text, GError **error);

/* Ends an open run that has no process any more, as Cancelled; the set is taken. */
gboolean vr_session_close_run(VrSession *session, VrRun *run, GError **error);

/* TRUE when some process owns the set now; *holder is its line, free with g_free. */
gboolean vr_session_is_owned(const VrSession *session, const char *name, char **holder);

/* The index of an instance by its name in the set or its UUID, or, connected, by the name that the domain has by now. */
int vr_session_find(const VrSession *session, const char *name, GError **error);

/* The instance of that name or UUID; NULL with an error. */
const VrInstance *vr_session_instance(const VrSession *session, const char *name, GError **error);
const VrInstance *vr_set_instance(const VrSet *set, guint index);
