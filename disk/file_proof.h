/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Proof that a disk was not touched: what is read of a file or block device, and of each file behind it, while nothing may write to
 * it, and read again later. Everything is opened read-only, and no lock is taken.
 */
#pragma once

#include "disk/copy.h"
#include "disk/disk_file.h"

/* How much of the bytes is hashed: none; 64 blocks of 64 KiB at even distances; all of them. */
typedef enum { VR_PROOF_NONE, VR_PROOF_SAMPLED, VR_PROOF_WHOLE } VrProofContent;
const char *vr_proof_content_name(VrProofContent content);

typedef struct {
    char *path; /* links resolved; as it was named when it is no local file */
    gboolean is_local;
    VrFileId file;
    char *lasting;    /* of a block device: what it is called for good (vr_block_identity); NULL: not known */
    char boot_id[37]; /* of a block device: the host's, when it was read; "": not known */
    char head[VR_DIGEST_HEX_LENGTH +
              1]; /* SHA-256 of the first cluster of a qcow2 file, of the first 64 KiB of any other */
    VrProofContent how;
    char content[VR_DIGEST_HEX_LENGTH + 1]; /* SHA-256 of what `how` says; "" for VR_PROOF_NONE */
} VrFileProof;
void vr_file_proof_free(VrFileProof *proof);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrFileProof, vr_file_proof_free)

/* Of the disk at path, and in order of the files behind it. format: as libvirt spells it, never probed; a file behind it is what the
 * header before it says, and raw where it does not say. Element: VrFileProof *, freed with the array. A disk that cannot be read, or
 * is neither a file nor a block device, is an error that names it. */
GPtrArray *vr_file_proof_read(const char *path, const char *format, VrProofContent content, GError **error);

/* What differs, in words for a person ("its size: 5 bytes, 7 before"); NULL: nothing. Free with g_free. Where the host was booted in
 * between, block devices are told from each other by their lasting names alone; *untold (may be NULL): they have none, so whether it is the
 * same device is not known. */
char *vr_file_proof_difference(const VrFileProof *before, const VrFileProof *now, gboolean *untold);

/* Bytes of content that a reading of that file hashes. */
guint64 vr_file_proof_bytes(const VrFileProof *proof, VrProofContent content);
