/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Detached minisign signatures (row A9): Ed25519 over BLAKE2b-512 of the bytes ("ED"), or over the bytes themselves
 * (legacy, "Ed"). A second, global signature covers the first and the trusted comment. Format: minisign(1),
 * https://jedisct1.github.io/minisign/.
 *
 * Keys are the *.pub files of one directory. It and they must belong to root or to us and be writable by nobody else; what
 * does not hold is refused and not passed over. A file REQUIRED in it says that nothing unsigned is published.
 */
#pragma once

#include <glib.h>

#define VR_KEYS_DIR "/etc/virt-reimage/keys.d"
#define VR_KEY_ID_LENGTH 16 /* hex digits, as minisign shows them */
#define VR_BLAKE2B_BYTES 64
#define VR_LEGACY_MAX_BYTES (1024 * 1024 * 1024) /* minisign's own limit: all of it is held in memory */

typedef struct {
    gboolean prehashed; /* of BLAKE2b-512, else of the bytes */
    char key_id[VR_KEY_ID_LENGTH + 1];
    char *trusted_comment;
    guint8 value[64], global[64];
} VrSignature;

VrSignature *vr_signature_read(const char *path, GError **error);
/* file is for messages. VR_ERROR_INVALID says what is wrong, and that PGP is not supported. */
VrSignature *vr_signature_parse(const char *text, const char *file, GError **error);
void vr_signature_free(VrSignature *signature);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrSignature, vr_signature_free)

/* Must what is published be signed? dir NULL: VR_KEYS_DIR, which may be absent. Another dir is refused while VR_KEYS_DIR says
 * REQUIRED. */
gboolean vr_keys_required(const char *dir, gboolean *required, GError **error);

/* The public key of a signature. None: VR_ERROR_REFUSED with those that there are. */
gboolean vr_keys_find(const char *dir, const VrSignature *signature, guint8 key[32], GError **error);

/* message: VR_BLAKE2B_BYTES of hash when prehashed, else all the bytes. object is for messages. VR_ERROR_REFUSED. */
gboolean vr_signature_verify(const VrSignature *signature, const guint8 key[32], const void *message, gsize length,
                             const char *object, GError **error);
