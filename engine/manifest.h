/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The manifest: proof that a swap left every disk but the OS disk as it was (SAFETY invariant 10).
 *
 * It holds for each of them the XML element (hashed), the file or device that it comes to, with device, inode, size, the time of its last
 * writing and its first cluster, and the same of each file behind it; and a hash of the content, when the model asks for that. It is
 * taken when the guest is off and no QEMU holds a disk, stored in the journal, and taken again just before the guest starts. What differs then
 * was done by somebody else, and the guest is not started on it. The way back has two readings of its own, as the new system may have written
 * to data disks, which is its right.
 *
 * Disks are opened read-only, and no lock is taken. A disk that is <shareable/> may be written to by another guest at any time: of it only
 * the element and the identity count. Of a network disk there is the element alone. A swap may span a reboot of the host, after which a
 * block device has another number and maybe another name: then its lasting name decides, and of one that has none size, first bytes and
 * hashes are compared, and it is said that nobody can tell whether it is the same device.
 */
#pragma once

#include "disk/file_proof.h"
#include "engine/journal.h"

typedef struct {
    char *target;       /* vdb */
    guint depth;        /* 0: the disk itself, then the files behind it */
    char *element;      /* depth 0: SHA-256 of the canonical <disk>; else "" */
    gboolean shared;    /* <shareable/> */
    gboolean made_anew; /* a temp disk that was wiped on purpose: what is here is what it was then (swap_temp.c) */
    VrFileProof *proof; /* NULL: nothing local is behind the element (an empty drive, a network disk) */
} VrManifestEntry;

/* Of all disks of the domain but os_target. Element: VrManifestEntry *, freed with the array. VR_ERROR_REFUSED names a disk that cannot
 * be read. hv: to resolve volumes. */
GPtrArray *vr_manifest_take(VrHv *hv, const char *xml, const char *os_target, VrProofContent content, GError **error);

/* VR_ERROR_CONFLICT with the first disk that differs, and how. *untold: the block devices of which the host's reboot leaves open whether
 * they are the same, "vdc /dev/sdb"; NULL: none. Free with g_free. */
gboolean vr_manifest_compare(const GPtrArray *before, const GPtrArray *now, char **untold, GError **error);

/* Of which content a stored one has hashes, for the next reading. */
VrProofContent vr_manifest_content(const GPtrArray *manifest);

/* Bytes of content that one reading takes in: 0 for VR_PROOF_NONE. */
guint64 vr_manifest_bytes(const GPtrArray *manifest, VrProofContent content);

/* --- in the journal --------------------------------------------------------------------------------- */

typedef enum { VR_PHASE_FORWARD, VR_PHASE_BACK, VR_PHASES } VrManifestPhase;

/* The steps that say when. */
const char *vr_manifest_taken_step(VrManifestPhase phase);
const char *vr_manifest_proven_step(VrManifestPhase phase);
/* Which disks could not be told from others then. */
const char *vr_manifest_untold_step(VrManifestPhase phase);

/* The first reading, with its step, in one transaction. detail: for the step. */
gboolean vr_manifest_write(VrJournal *journal, const VrOwner *owner, const char *swap_id, VrManifestPhase phase,
                           const GPtrArray *manifest, const char *detail, GError **error);

/* The disk `target` of the first reading is about to be the file `id`, with its step, in one transaction. detail: what was on the old one. */
gboolean vr_manifest_made_anew(VrJournal *journal, const VrOwner *owner, const char *swap_id, const char *target,
                               const VrFileId *id, const char *detail, GError **error);
#define VR_STEP_TEMP_DISK "temp-disk"

/* It is that file now: what the second reading is to find. */
gboolean vr_manifest_read_anew(VrJournal *journal, const VrOwner *owner, const char *swap_id, const char *target,
                               const VrFileProof *proof, GError **error);

/* As it was written; NULL without error when it was not. */
GPtrArray *vr_manifest_read(VrJournal *journal, const char *swap_id, VrManifestPhase phase, GError **error);

/* What is shown of a swap's disks. */
typedef struct {
    GPtrArray *manifest; /* of the phase that came last */
    VrManifestPhase phase;
    gint64 taken_us, proven_us; /* wall clock; 0: not (yet) proven */
    char *untold;               /* of vr_manifest_compare(); NULL: none */
    char *taken_in, *proven_in; /* "0.2 ms", with the content that was read; NULL: not known */
} VrDataProof;
void vr_data_proof_free(VrDataProof *proof);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrDataProof, vr_data_proof_free)

/* NULL without error when no manifest was taken. */
VrDataProof *vr_data_proof_of(VrJournal *journal, const char *swap_id, GError **error);

/* "2 untouched: vdb /srv/a.qcow2, vdc /dev/sdb". Free with g_free. */
char *vr_data_proof_text(const VrDataProof *proof);
