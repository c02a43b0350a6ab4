/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of a swap share: swap.c (the table), swap_begin.c (from nothing or the journal to a swap), swap_steps.c (what each
 * step does), swap_back.c (the way back), swap_files.c (disks and XML files of a generation), swap_nvram.c (its NVRAM), swap_seed.c (its seed), swap_carry.c (what is written into it), swap_console.c (what it says as it boots), swap_late.c (what takes effect
 * after the end). */
#pragma once

#include "engine/capture.h"
#include "engine/swap.h"
#include "hv/domain_xml.h"

struct VrSwap {
    VrEngine engine;
    VrSwapRow *row;
    VrGeneration *from, *to;
    VrImage *image;                          /* of a forward swap that is not PREPARED yet; else NULL */
    VrCloneSeat *seat;                       /* likewise; not owned; NULL: the new disk is an overlay */
    VrSeed *seed;                            /* likewise; NULL: it has none, or is flattened */
    VrPersonal *personal;                    /* likewise: its disk is not named yet; NULL: nothing is written */
    VrCarryOver *carry;                      /* likewise; NULL: nothing is carried over */
    const VrPersonalizeOptions *personalize; /* likewise; not owned */
    VrPersonalSeat *personal_seat;           /* likewise; not owned */
    GPtrArray *carried;                      /* VrGuestFile: what is on the new disk of it; NULL: it was not read yet */
    gboolean alone;                          /* of a forward swap: its new disk refers to no other file */
    gboolean flatten;          /* of the request; one that is resumed goes back, or needs no copy any more */
    VrFileId flattened;        /* the old disk as it was copied */
    char *before_xml;          /* the domain as we read it: g<from>.xml; NULL until it was read */
    char *intent_xml;          /* the domain as it shall be: g<to>.xml; NULL until it was made */
    gboolean needs_agent;      /* of the request, for the second look before the stop */
    char **ignored;            /* likewise; may be NULL */
    char **protected_disks;    /* likewise */
    char **temp_targets;       /* likewise; one that is resumed makes none anew */
    VrProofContent data_proof; /* likewise; one that is resumed has it in its manifest */
    gboolean resumed;          /* begun by a process that ended: a call of its may still be under way */
    guint lost_before;         /* vr_hv_lost_calls() when this process took it up */
    VrCapture *capture;        /* of the console; NULL: the guest was not started, or has none to read */
    gint64 capture_us;         /* since when */
    gboolean capture_kept;
    gboolean journal_fails; /* on this way back a write failed, perhaps after a long wait */
};

/* The preflight of this swap's guest: blockers are VR_ERROR_REFUSED. *passed (may be NULL): what a person lets pass, "[id] text" each (char *,
 * freed with the array). */
gboolean vr_swap_preflight_require(VrSwap *swap, const VrDomainInfo *info, const VrDomainDef *def,
                                   const char *os_target, GPtrArray **passed, GError **error);

/* The steps. Each leaves the world so that it can be repeated. */
gboolean vr_swap_step_prepare(VrSwap *swap, const VrStopPolicy *stop, GError **error);
gboolean vr_swap_step_stop(VrSwap *swap, const VrStopPolicy *stop, GError **error);
gboolean vr_swap_step_switch(VrSwap *swap, const VrStopPolicy *stop, GError **error);
gboolean vr_swap_step_start(VrSwap *swap, const VrStopPolicy *stop, GError **error);

/* For recovery, when libvirt's XML names the new disk and SWITCHED was not journaled: the define may not be flushed, and was not proven. */
gboolean vr_swap_switch_again(VrSwap *swap, GError **error);

/* --- swap_flatten.c --- */

/* The new disk, as a copy of the old one that refers to no other file. The guest is off, or VR_ERROR_REFUSED. */
gboolean vr_swap_flatten(VrSwap *swap, VrDiskBefore before, GError **error);
/* Nobody wrote to the old disk since it was copied; TRUE for every other swap. */
gboolean vr_swap_flatten_holds(VrSwap *swap, GError **error);

/* --- swap_temp.c --- */

/* Can the flagged disks that the domain has be made anew? VR_ERROR_REFUSED. */
gboolean vr_swap_temp_check(const VrSwap *swap, const VrDomainDef *def, GError **error);
/* Makes them anew; the guest is off, and the first reading of its disks is in the journal. */
gboolean vr_swap_temp_wipe(VrSwap *swap, GError **error);
/* For a swap that goes back: takes away a new file that did not take its place. Best effort, logged. */
void vr_swap_temp_tidy(VrSwap *swap);

/* What the steps and the way back have in common. */
gboolean vr_swap_mark(VrSwap *swap, const char *step, const char *detail, GError **error);
gboolean vr_swap_still_owner(VrSwap *swap, GError **error);
/* The same, asked by what repeats its requests. */
VrDomainMay vr_swap_may(VrSwap *swap);
/* The first look of a step: a libvirtd that is being restarted is waited for. */
gboolean vr_swap_read_info(VrSwap *swap, VrDomainInfo *info, GError **error);
/* Off because of a migration or a save it runs, or will, elsewhere or with other disks: never started by us (S6-S7), VR_ERROR_PERSON.
 * libvirt forgets why when it is restarted, so it is journaled; it counts until the guest was seen to run here. */
gboolean vr_swap_check_moved(VrSwap *swap, const VrDomainInfo *info, GError **error);
/* Still the owner, and off with it. */
gboolean vr_swap_force_off(VrSwap *swap, GError **error);
/* Whose hold on a disk counts: of any process, as long as the guest can be left as it is; on the way back only of one that would keep a
 * guest's QEMU out. A backup that reads does not keep the old system off (invariant 15). */
typedef enum { VR_HOLDERS_ALL, VR_HOLDERS_WRITING } VrHolders;
/* Off for good: libvirt says so, for a reason that is a stop, and none of these holds any of its disks or its NVRAM (invariant 11). */
gboolean vr_swap_confirm_off(VrSwap *swap, const char *xml, VrHolders holders, GError **error);
/* Define, and whatever it answers, read back what is true (invariant 16): *now. */
gboolean vr_swap_define(VrSwap *swap, const char *xml, char **now, GError **error);
gboolean vr_swap_start(VrSwap *swap, const char *intent, GError **error);

/* The guest back on the old disk, running if it ran. Looks at the world; repeatable. */
gboolean vr_swap_put_back(VrSwap *swap, GError **error);

/* The XML names the old disk again; what somebody changed elsewhere in it meanwhile stays. *configured (free with g_free) is how it is then.
 * again: defined and flushed anew where it does already. VR_ERROR_PERSON: it names neither disk of this swap. */
gboolean vr_swap_old_disk_configured(VrSwap *swap, gboolean again, char **configured, GError **error);
/* A define of the new disk of which nobody heard the end. What was read back (SWITCHED) has landed. */
gboolean vr_swap_new_may_land(VrSwap *swap, gboolean *may, GError **error);

/* Does the XML's OS disk lie where that of the generation does? */
gboolean vr_swap_names_disk(VrSwap *swap, const char *xml, const VrGeneration *generation, gboolean *is_it,
                            GError **error);

/* What takes effect after a swap has ended (swap_late.c), for recovery: guests of the owner's set that went off because of a stop that was
 * given up are started again, once; domains that a late define has on the new disk of a swap that was undone have the old one again.
 * Adds a VrRecovered to `answer` for each. dry_run: only says so. */
gboolean vr_swap_late(const VrEngine *engine, gboolean dry_run, GPtrArray *answer, GError **error);

/* The disks that are not replaced (swap_disks.c), of a guest that is off and whose disks nobody holds; xml: as it is configured now. */

/* Before the guest is asked to stop: what cannot be read cannot be proven untouched either. VR_ERROR_REFUSED. */
gboolean vr_swap_disks_readable(VrSwap *swap, const char *os_target, GError **error);
/* The first reading, into the journal; one that is there stays. */
gboolean vr_swap_disks_read(VrSwap *swap, VrManifestPhase phase, const char *xml, GError **error);
/* The same disks as at the first reading, or VR_ERROR_CONFLICT. A swap of an older program has none: that is TRUE. */
gboolean vr_swap_disks_prove(VrSwap *swap, VrManifestPhase phase, const char *xml, GError **error);

/* The console (swap_console.c). None of these fails, and none waits for more than a second, but the end of the swap (vr_swap_free). */

/* Before the start; or where the guest runs already. */
void vr_swap_console_ready(VrSwap *swap);
/* It was started. */
void vr_swap_console_begin(VrSwap *swap);
/* Before it goes off, or when it is healthy. */
void vr_swap_console_end(VrSwap *swap);
/* Once the swap has ended, or was given up: it is written. */
void vr_swap_console_keep(VrSwap *swap);

/* What a person looks at and types, for a swap that could not be finished because of `cause`. Free with g_free. */
char *vr_swap_advice(const VrSwap *swap, const GError *cause);

/* The same of one whose record cannot be read. */
char *vr_swap_advice_unreadable(const VrEngine *engine, const VrSwapRow *row, const GError *cause);

/* The path by which a generation's disk is known: its file or device, or "POOL/VOLUME". Free with g_free. */
char *vr_swap_disk_path(const VrDomainDisk *disk);

/* For recovery: puts the row into the state that the world has (SWITCHED after an intent, or the furthest before
 * UNKNOWN) without doing anything. */
gboolean vr_swap_correct_state(VrSwap *swap, VrSwapState state, GError **error);

/* The domain as it shall be, from before_xml: the one place that says so. dir_fd: of the instance's files, of which a rollback reads the kept
 * XML; -1 for a forward swap. Free with g_free. */
char *vr_swap_make_intent(VrSwap *swap, int dir_fd, GError **error);

/* --- swap_begin.c, for a swap that is only shown (swap_preview.c) --- */

/* A row as a new swap gets it. */
VrSwapRow *vr_swap_new_row(const VrEngine *engine, const VrSwapRequest *request, const VrDomainInfo *info,
                           const VrDomainDisk *disk);
/* The OS disk as the domain names it now, as generation 0. */
VrGeneration *vr_swap_generation_as_found(const char *uuid, const VrDomainDisk *disk);
/* What a forward swap makes, not numbered yet; its paths are its directory. */
VrGeneration *vr_swap_new_generation(const VrEngine *engine, const VrSwapRequest *request, const VrGeneration *from,
                                     GError **error);
/* The recorded generation is the disk that the domain names, or VR_ERROR_CONFLICT. */
gboolean vr_swap_is_as_recorded(const VrGeneration *current, const VrGeneration *found, const char *domain,
                                GError **error);
/* The generation that a rollback goes to: kept, and its file still the one that was recorded. */
VrGeneration *vr_swap_rollback_target(const VrEngine *engine, const char *domain, const char *uuid, guint number,
                                      GError **error);

/* Intent from before and g<to>.xml's disk (rollback) or the new disk, both written to files, durable. */
gboolean vr_swap_write_xml(VrSwap *swap, GError **error);
/* For recovery: what its decision and its acts need. Nothing before the stop was asked for, and g<from>.xml alone before the intent. */
gboolean vr_swap_load_xml(VrSwap *swap, GError **error);

/* --- swap_nvram.c --- */

/* The file that is the NVRAM of the domain; *path NULL without error: it has none. An error says that it cannot be told. */
gboolean vr_swap_nvram_path(VrHv *hv, const VrDomainInfo *info, const VrDomainDef *def, char **path, GError **error);
/* At the beginning: records which NVRAM the domain has now. VR_ERROR_REFUSED: it is missing, or no plain file; VR_ERROR_CONFLICT: it is not
 * the recorded one of a generation of ours. */
gboolean vr_swap_nvram_begin(VrSwap *swap, const VrDomainInfo *info, const VrDomainDef *def, GError **error);
/* Of a rollback: the NVRAM to go back to is there, and is the recorded one. */
gboolean vr_swap_nvram_check_kept(const VrSwap *swap, const char *domain, GError **error);
/* The guest is off: copies its NVRAM for the new generation and marks it. Repeatable; nothing without NVRAM and in a rollback. */
gboolean vr_swap_nvram_copy(VrSwap *swap, GError **error);
/* Records what libvirt made for the new generation, which booted and is not taken. Best effort, logged. */
void vr_swap_nvram_see(VrSwap *swap);

/* --- swap_seed.c --- */

/* Which seed the new generation gets: its directory as the path, until the journal numbers it. */
void vr_swap_seed_plan(const VrSwap *swap, VrGeneration *made);
/* Makes it and journals which file it is; nothing where it has none. */
gboolean vr_swap_seed_make(VrSwap *swap, GError **error);
/* Of a rollback: the seed to go back to is there, and is the recorded one. */
gboolean vr_swap_seed_check_kept(const VrSwap *swap, const char *domain, GError **error);
/* The intent with the seed of the new generation; takes xml. NULL of NULL, or on an error. */
char *vr_swap_seed_intent(const VrSwap *swap, char *xml, GError **error);

/* --- swap_carry.c --- */

/* What a forward swap is asked for, taken into it. */
void vr_swap_carry_begin(VrSwap *swap, const VrSwapRequest *request);
void vr_swap_carry_clear(VrSwap *swap);
/* The new disk has its name: personalises it, with what the guest has to be carried over. */
gboolean vr_swap_carry_prepare(VrSwap *swap, GError **error);
/* Right before the stop: what the guest has changed since is on the new disk too. VR_ERROR_CONFLICT: it changes it too fast. */
gboolean vr_swap_carry_again(VrSwap *swap, GError **error);
/* The guest is off: what comes from its disk is on the new one, and marked; nothing where it comes from the guest. */
gboolean vr_swap_carry_disk(VrSwap *swap, GError **error);

/* --- swap_files.c --- */

/* Opens the seed of a generation of our making: the recorded file and no other. */
int vr_swap_open_own_seed(VrStore *store, const VrGeneration *generation, GError **error);

/* The NVRAM of a generation of our making is there, and is the file that was made for it: else VR_ERROR_NOT_FOUND, VR_ERROR_CONFLICT. */
gboolean vr_swap_has_own_nvram(VrStore *store, const VrGeneration *generation, GError **error);

/* Opens the disk of a generation of our making for reading: the recorded file and no other. */
int vr_swap_open_own_disk(VrStore *store, const VrGeneration *generation, GError **error);

/* The disk, NVRAM and seed of our making: 0400 root while it is kept, 0600 when it may run. Generation 0 is never touched. */
void vr_swap_seal(VrSwap *swap, const VrGeneration *generation);
/* For recovery, of a generation that is in no open swap: what a crash or an error left unsealed, unless a process holds it. */
void vr_swap_seal_again(VrStore *store, const VrGeneration *generation);
gboolean vr_swap_unseal(VrSwap *swap, const VrGeneration *generation, GError **error);

/* As the journal has it of a gN.xml. Free with g_free. */
char *vr_generation_xml_digest(const char *text);
/* TRUE: gN.xml is one that was written for the generation, or is not there; *digest (free with g_free) is that of what is there, "" of
 * nothing. What somebody put there, or edited, is VR_ERROR_CONFLICT. */
gboolean vr_generation_xml_is_ours(int dir_fd, const VrGeneration *generation, char **digest, GError **error);

/* Something ran on the disk of the new generation since the intent, whoever started it: its file was written to, or changed hands, as libvirt
 * does at a start. The detail of the mark "intent" is what it was then: vr_swap_disk_sign(), free with g_free, NULL of a device, which does
 * not say. */
char *vr_swap_disk_sign(VrSwap *swap);
gboolean vr_swap_disk_was_used(VrSwap *swap, gboolean *used, GError **error);

/* Unlink the disk, the NVRAM or the seed of a generation that never booted, if it is the file that was journaled for it; and its XML likewise. Best
 * effort, logged. */
void vr_swap_discard_disk(VrSwap *swap);
void vr_swap_discard_nvram(VrSwap *swap);
void vr_swap_discard_seed(VrSwap *swap);
void vr_swap_discard_xml(VrSwap *swap);
/* For recovery: what could not be deleted then, or was not since the process ended before. */
void vr_swap_discard_again(VrStore *store, const VrGeneration *generation);
