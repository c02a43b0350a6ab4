/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal: what was intended and what was done, in SQLite, one transaction a transition.
 *
 *   owners       one row a set: its fencing number (SAFETY invariant 22)
 *   generations  what each swap made, and generation 0 as it was found
 *   swaps        one row a swap: from, to, state; `backward` says that it is on its way back
 *   data_disks   what each swap found of the disks that it does not replace (engine/manifest)
 *   steps        append-only: each transition and each mark within one, with both clocks
 *   events       append-only audit of every decision (invariant 28), without secrets
 *
 * Every write is made by an owner and checks his fencing number in the same transaction: one who was
 * stopped, lost the set and wakes up again writes nothing any more (VR_ERROR_FENCED).
 */
#pragma once

#include "base/db.h"
#include "base/lock.h"
#include "disk/disk_file.h"
#include "hv/hv.h"

typedef struct VrJournal VrJournal;

/* Brings the engine's tables up to date. db is not owned and outlives the journal. */
VrJournal *vr_journal_new(VrDb *db, GError **error);
void vr_journal_free(VrJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrJournal, vr_journal_free)

VrDb *vr_journal_db(VrJournal *journal);

/* --- ownership ------------------------------------------------------------------------------------- */

typedef struct {
    char *set_name;
    gint64 fence;
    VrLock *lock; /* held for the owner's lifetime */
} VrOwner;

/* Becomes the owner of a set: takes the lock on locks/SET beneath root_fd and raises the fencing number. what: the command,
 * for the next one's error ("upgrade shop"). Owned by another process: VR_ERROR_BUSY, the holder named. That one before ended without
 * giving the set back, or that the lock file was removed, is logged and goes into the audit as "took-over". */
VrOwner *vr_owner_acquire(VrJournal *journal, int root_fd, const char *set_name, const char *what, GError **error);
/* What to do about the holder of a lock, by his line: wait, or where its process is stopped, let it go on or end it. Free with g_free. */
char *vr_owner_advice(const char *set_name, const char *holder);

void vr_owner_release(VrOwner *owner);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrOwner, vr_owner_release)

/* Still the owner? Read again before every libvirt call that changes something. VR_ERROR_FENCED. */
gboolean vr_owner_check(VrJournal *journal, const VrOwner *owner, GError **error);

/* For other tables of the database: BEGIN with the owner's number checked; vr_db_commit() or vr_db_rollback() ends it. */
gboolean vr_owner_begin(VrJournal *journal, const VrOwner *owner, GError **error);

/* --- generations ----------------------------------------------------------------------------------- */

typedef enum {
    VR_GENERATION_NEW, /* being made or on trial: belongs to an open swap */
    VR_GENERATION_CURRENT,
    VR_GENERATION_KEPT,   /* was current once and can be again */
    VR_GENERATION_FAILED, /* was booted, did not become healthy; kept for a post-mortem, never booted again by itself */
    VR_GENERATION_DISCARDED, /* never booted; its file is gone */
    VR_GENERATION_GOING,     /* being deleted: nobody goes back to it */
    VR_GENERATION_DELETED,   /* its files are gone */
    VR_GENERATION_RELEASED   /* its instance left with it: not ours from then on, whatever it was before */
} VrGenerationState;
const char *vr_generation_state_name(VrGenerationState state);

#define VR_XML_NOT_KNOWN "?" /* in place of a digest: written before digests were, or found and not known for ours */

typedef struct {
    char uuid[VR_UUID_LENGTH + 1];
    guint number;
    char *path, *format;   /* of the OS disk; format as libvirt spells it */
    char *disk_type;       /* file, block, volume: how the domain names it */
    char *image, *version; /* NULL: not known (generation 0 before adoption) */
    gboolean ours;         /* made by us: may be sealed and deleted; generation 0 never is */
    VrGenerationState state;
    gint64 made_us;        /* wall clock */
    guint model_revision;  /* of the set's model that it was made by; 0: not known, or not made by us */
    VrFileId file;         /* of ours: the file that was made; device 0 when not yet */
    VrGenerationState was; /* of one that is GOING: what it was before */
    gint64 left_us;        /* since when it is KEPT or FAILED, wall clock; 0: not known, or it is neither */
    gint64 left_ms;        /* the same on the boot-time clock of the boot left_boot */
    char *left_boot;       /* NULL: not known */
    char *xml,
        *xml_next; /* SHA-256 of its gN.xml: as it was found last, and as it may be since; "": none was written */
    char *nvram;   /* path of its NVRAM; NULL: none (BIOS) */
    /* The NVRAM's file: of ours the one that was made, of generation 0 the one that was seen (it is never touched). device 0: none yet, as
     * libvirt makes it at the first start, or one that the admin put elsewhere and that is not ours. */
    VrFileId nvram_file;
    char *seed;         /* path of its NoCloud seed; NULL: none */
    VrFileId seed_file; /* of ours: the file that was made; device 0 when not yet */
    char *seed_digest; /* vr_swap_content_digest() of what it was made with, without the instance-id; NULL: not known */
} VrGeneration;
void vr_generation_free(VrGeneration *generation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrGeneration, vr_generation_free)

/* Element: VrGeneration *, by number, freed with the array. */
GPtrArray *vr_journal_generations(VrJournal *journal, const char *uuid, GError **error);
VrGeneration *vr_journal_generation(VrJournal *journal, const char *uuid, guint number, GError **error);

/* Those of our making that are kept, or failed, of instances of a set that have no open swap: what is to be sealed. */
GPtrArray *vr_journal_resting(VrJournal *journal, const char *set_name, GError **error);

/* Those of instances of a set that are GOING. As vr_journal_generations(). */
GPtrArray *vr_journal_going(VrJournal *journal, const char *set_name, GError **error);

/* Of all sets: the current ones that we made, which are what can still grow. */
GPtrArray *vr_journal_growing(VrJournal *journal, GError **error);

/* Those that never booted and whose disk was made: a disk that could not be deleted then is deleted later. */
GPtrArray *vr_journal_discarded(VrJournal *journal, const char *set_name, GError **error);

/* The current one; NULL without error when the instance has none yet. */
VrGeneration *vr_journal_current(VrJournal *journal, const char *uuid, GError **error);

/* The highest model revision of all generations that the instance ever had, 0 when none is known. Within a transaction. */
gboolean vr_journal_last_revision(VrJournal *journal, const char *uuid, guint *revision, GError **error);

/* Records the disk that an instance came with as its current generation, or changes where that is and what version it is said to be. It is generation 0; of an
 * instance that was released before, the one that it was released with, or another one with a new number. found->number is filled in. */
gboolean vr_journal_record_found(VrJournal *journal, const VrOwner *owner, VrGeneration *found, GError **error);

/* The instance was released, and went on with the disk at `path`. */
gboolean vr_journal_is_released(VrJournal *journal, const char *uuid, const char *path, gboolean *is, GError **error);

/* FALSE in *known: neither a generation nor a swap of the instance is recorded. */
gboolean vr_journal_knows(VrJournal *journal, const char *uuid, gboolean *known, GError **error);

/* Writes generations, with `xml` and without `xml_next`, of an instance of which nothing is recorded, with an event that says so, in one transaction. Else VR_ERROR_CONFLICT. */
gboolean vr_journal_restore(VrJournal *journal, const VrOwner *owner, const char *uuid, const GPtrArray *generations,
                            const char *text, GError **error);

/* --- swaps ----------------------------------------------------------------------------------------- */

typedef enum {
    VR_SWAP_PLANNED,
    VR_SWAP_PREPARED,
    VR_SWAP_STOPPED,
    VR_SWAP_SWITCHED,
    VR_SWAP_STARTED,
    VR_SWAP_COMMITTED,
    VR_SWAP_DISCARDED,
    VR_SWAP_UNDONE,
    VR_SWAP_UNKNOWN
} VrSwapState;
const char *vr_swap_state_name(VrSwapState state);
/* COMMITTED, DISCARDED and UNDONE end a swap; UNKNOWN is open until a recovery or a person settles it. */
gboolean vr_swap_state_is_final(VrSwapState state);

typedef struct {
    char id[VR_UUID_LENGTH + 1];
    char *run_id, *set_name, *domain;
    char uuid[VR_UUID_LENGTH + 1];
    char *os_target;   /* vda */
    gboolean rollback; /* to a kept generation */
    guint from, to;
    VrSwapState state;
    VrSwapState reached; /* the furthest state before UNKNOWN, for recovery */
    gboolean backward;   /* its undo has begun */
    gboolean was_running;
    char *old_boot_id, *new_boot_id; /* of the guest; NULL when not known */
    char *reason;                    /* why it went backward or is UNKNOWN */
} VrSwapRow;
VrSwapRow *vr_swap_row_copy(const VrSwapRow *row);
void vr_swap_row_free(VrSwapRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSwapRow, vr_swap_row_free)

/* A new swap, with its new generation when `made` is given; one transaction. Its number is the highest ever + 1, but at least the one that
 * is given, and is filled in, as are its paths. An instance that has an open swap already is VR_ERROR_CONFLICT. */
gboolean vr_journal_swap_begin(VrJournal *journal, const VrOwner *owner, VrSwapRow *row, VrGeneration *made,
                               GError **error);

/* That number and those paths alone, of a swap that is only shown: another one may come before it. Writes nothing. */
gboolean vr_journal_number(VrJournal *journal, VrSwapRow *row, VrGeneration *made, GError **error);

/* Writes the row's state, reached, backward, boot ids and reason as they are now, with a step of name `step`. */
gboolean vr_journal_swap_write(VrJournal *journal, const VrOwner *owner, const VrSwapRow *row, const char *step,
                               GError **error);

/* As above, and sets the state of two generations in the same transaction (the end of a swap). */
gboolean vr_journal_swap_end(VrJournal *journal, const VrOwner *owner, const VrSwapRow *row, const char *step,
                             VrGenerationState from, VrGenerationState to, GError **error);

/* The file that was made for generation `number`: said before it takes its name. */
gboolean vr_journal_generation_made(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                    const VrFileId *file, GError **error);

/* What gN.xml of generation `number` is (now), and what it is about to become (next): said before it is written. */
gboolean vr_journal_generation_xml(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                   const char *now, const char *next, GError **error);

/* What is known of a generation's NVRAM: see VrGeneration. nvram may be NULL. */
gboolean vr_journal_generation_nvram(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                     const char *nvram, const VrFileId *file, GError **error);

/* The file that was made as the seed of generation `number`: said before it takes its name. */
gboolean vr_journal_generation_seed(VrJournal *journal, const VrOwner *owner, const char *uuid, guint number,
                                    const VrFileId *file, GError **error);

/* The mark of a swap that goes back: something ran on its new disk, and nobody looked. */
#define VR_STEP_BOOTED_UNSEEN "booted-unseen"

/* The step of the end of a swap that was forgotten (vr_swap_forget). */
#define VR_STEP_FORGOTTEN "forgotten"

/* A mark within a transition ("made", "stop-asked", "force-asked", "off", "nvram", "intent", "start-asked", "running", "healthy"; on the
 * way back "stop-given-up", "new-forced-off", "start-old", "may-land"; after it "started-late"; "moved", with where to, and without when it
 * runs here again). */
gboolean vr_journal_mark(VrJournal *journal, const VrOwner *owner, const char *swap_id, const char *step,
                         const char *detail, GError **error);
/* The same within a transaction of the owner. */
gboolean vr_journal_add_step(VrJournal *journal, const char *swap_id, const char *step, const char *detail,
                             GError **error);
gboolean vr_journal_has_mark(VrJournal *journal, const char *swap_id, const char *step, gboolean *has, GError **error);
/* When (boot-time clock) it was last written; 0 when it was not, or on another boot of the host. */
gboolean vr_journal_mark_time(VrJournal *journal, const char *swap_id, const char *step, gint64 *at_ms, GError **error);

/* The detail that it was last written with; *detail NULL: none, or it was not written. Free with g_free. */
gboolean vr_journal_mark_detail(VrJournal *journal, const char *swap_id, const char *step, char **detail,
                                GError **error);

/* Open swaps of a set (NULL: of all), oldest first. Element: VrSwapRow *, freed with the array. */
GPtrArray *vr_journal_open_swaps(VrJournal *journal, const char *set_name, GError **error);
/* The last swaps of instances of a set that ended as DISCARDED after a stop was asked for and given up, and whose guests we have not started
 * since. As vr_journal_open_swaps(). */
GPtrArray *vr_journal_given_up(VrJournal *journal, const char *set_name, GError **error);
/* Swaps of a set that ended as UNDONE while a define of their new disk may have been under way, of instances that have no open one, and no later
 * one whose define was answered: that settles it. As vr_journal_open_swaps(). */
GPtrArray *vr_journal_may_land(VrJournal *journal, const char *set_name, GError **error);
/* All swaps of a run, in order. */
GPtrArray *vr_journal_run_swaps(VrJournal *journal, const char *run_id, GError **error);
/* The last swap of an instance; NULL without error when there is none. */
VrSwapRow *vr_journal_last_swap(VrJournal *journal, const char *uuid, GError **error);

/* Milliseconds on one boot-time clock; -1 = did not happen or was on another boot of the host. Off is measured until the guest runs again,
 * on whichever disk. */
typedef struct {
    gint64 prepare_ms; /* begin -> PREPARED */
    gint64 stop_ms;    /* stop asked -> off */
    gint64 switch_ms;  /* off -> SWITCHED */
    gint64 nvram_ms;   /* STOPPED -> NVRAM copied, of the former; BIOS: did not happen */
    gint64 start_ms;   /* start asked -> running */
    gint64 healthy_ms; /* running -> healthy */
    gint64 off_ms;     /* off -> running */
    gint64 os_down_ms; /* stop asked -> healthy */
} VrSwapTimes;
gboolean vr_journal_swap_times(VrJournal *journal, const char *swap_id, VrSwapTimes *times, GError **error);

typedef struct {
    VrSwapState state;
    VrSwapTimes times;
} VrSwapSpans;
/* Of all swaps of a run, in order; within a transaction. Element: VrSwapSpans, freed with the array. */
GArray *vr_journal_run_times(VrJournal *journal, const char *run_id, GError **error);

/* One step of a swap that is open. */
typedef struct {
    char uuid[VR_UUID_LENGTH + 1];
    char *step;
    gint64 ago_ms; /* by the boot-time clock; -1: it was on another boot of the host */
} VrSwapStep;
/* Of the open swaps of a run, each one's in order. Element: VrSwapStep, freed with the array. */
GArray *vr_journal_open_steps(VrJournal *journal, const char *run_id, GError **error);

/* For history that is no longer kept; both within a transaction of an owner (vr_owner_begin). */

/* *moved: a swap of the run was committed. *open: one of them has not ended, or is UNKNOWN. */
gboolean vr_journal_run_outcome(VrJournal *journal, const char *run_id, gboolean *moved, gboolean *open,
                                GError **error);

/* Forgets the run's steps, events and swaps, but for swaps that are still needed: that made a generation which is current or kept (it says where
 * a rollback goes), and the last one of an instance (what recovery and the views begin with). */
gboolean vr_journal_forget_run(VrJournal *journal, const char *run_id, GError **error);

/* Committed swaps of a set to new generations, oldest first: what each generation replaced. As vr_journal_run_swaps(). */
GPtrArray *vr_journal_forward_swaps(VrJournal *journal, const char *set_name, GError **error);

/* --- releases (engine/release.h) -------------------------------------------------------------------- */

#define VR_RELEASE_BEGUN "releasing"
#define VR_RELEASE_STOPPED "release-stopped"
#define VR_RELEASE_ENDED "released"
/* As in the index events_release. */
#define VR_RELEASE_KINDS "kind IN ('" VR_RELEASE_BEGUN "', '" VR_RELEASE_STOPPED "', '" VR_RELEASE_ENDED "')"

/* --- audit ----------------------------------------------------------------------------------------- */

/* run_id and uuid may be NULL. */
gboolean vr_journal_event(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *uuid,
                          const char *kind, const char *text, GError **error);
/* As vr_journal_event(), but not again what the last event of that kind about the instance in that run says already: a recovery that
 * finds what the one before it left writes nothing. */
gboolean vr_journal_event_once(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *uuid,
                               const char *kind, const char *text, GError **error);
/* The last event of that kind about the instance in that run; *text NULL: there is none. Free with g_free. at_us: wall clock. */
gboolean vr_journal_last_event(VrJournal *journal, const char *run_id, const char *uuid, const char *kind,
                               gint64 *at_us, char **text, GError **error);
/* The same within a transaction of the owner. */
gboolean vr_journal_add_event(VrJournal *journal, const VrOwner *owner, const char *run_id, const char *uuid,
                              const char *kind, const char *text, GError **error);
