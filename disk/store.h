/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The store: where images and OS disks live, and how a version becomes visible (DESIGN, store on disk;
 * SAFETY invariants 1, 2, 5, 7). A version is the directory images/NAME/VERSION with disk.qcow2 or
 * disk.raw (0444) and image.json. It is made under images/NAME/.tmp-OPID and renamed as a whole
 * directory without replacing; so it is there whole or not at all. image.json is the truth about a
 * version; the database adds only what an admin says of it (exclude) and what was verified.
 */
#pragma once

#include "base/db.h"
#include "disk/copy.h"
#include "disk/image_check.h"

typedef struct VrStore VrStore;

typedef struct {
    char *name, *version;
    char *publisher, *offer, *sku; /* NULL when not given */
    char *path;                    /* absolute path of the disk */
    VrImageFormat format;
    guint64 file_size, virtual_size;
    char source_digest[VR_DIGEST_HEX_LENGTH + 1], stored_digest[VR_DIGEST_HEX_LENGTH + 1];
    int rules_version;
    char *published_at; /* RFC 3339 */
    gboolean excluded;
    char *excluded_reason; /* NULL when none was given */
} VrImage;

void vr_image_free(VrImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrImage, vr_image_free)

/* The default root for a libvirt URI: /var/lib/virt-reimage, or $XDG_DATA_HOME/virt-reimage for .../session. */
char *vr_store_default_root(const char *uri);

/* Opens the store at root (made, 0711, when absent, unless read_only: then VR_ERROR_NOT_FOUND says that nothing was
 * published yet), canonicalises the path, opens ROOT/state.db. */
VrStore *vr_store_open(const char *root, gboolean read_only, GError **error);
void vr_store_close(VrStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrStore, vr_store_close)

const char *vr_store_root(VrStore *store); /* canonical absolute path */
int vr_store_root_fd(VrStore *store);      /* not owned by the caller */
VrDb *vr_store_db(VrStore *store);         /* not owned by the caller */

typedef struct {
    const char *name, *version, *file;
    const char *digest;                  /* NULL, or "sha256:HEX" of the bytes of file */
    const char *publisher, *offer, *sku; /* NULL when not given */
    gboolean format_given;
    VrImageFormat format;
    gboolean dry_run; /* check everything that can be checked without writing */
    const gint *cancelled;
    void (*progress)(const VrCopyProgress *progress, void *data);
    void *progress_data;
} VrPublication;

/* check -> copy and digest -> check of the copy -> make visible. The source must be a regular file that does
 * not change meanwhile. The same version again: equal digest = success with *already TRUE, other digest =
 * VR_ERROR_CONFLICT. publisher/offer/sku of an image are the same for all its versions, else VR_ERROR_CONFLICT. */
gboolean vr_store_publish(VrStore *store, const VrPublication *publication, VrImage **image, gboolean *already,
                          GError **error);

/* All versions of one image (NULL: of all images), newest first within a name. Element: VrImage *, freed with the array. */
GPtrArray *vr_store_list(VrStore *store, const char *name, GError **error);

/* One version; version "latest" or NULL: the highest that is not excluded. VR_ERROR_NOT_FOUND lists what there is. */
VrImage *vr_store_get(VrStore *store, const char *name, const char *version, GError **error);

/* The short name of the image that has publisher, offer and sku. Free with g_free. */
char *vr_store_find_name(VrStore *store, const char *publisher, const char *offer, const char *sku, GError **error);

/* excluded TRUE: out of `latest` and of automatic runs. reason may be NULL. */
gboolean vr_store_set_excluded(VrStore *store, const char *name, const char *version, gboolean excluded,
                               const char *reason, GError **error);

/* Reads the stored disk again and compares it with storedDigest, unless its inode, size and ctime are those of the last
 * time it was verified (force: always reads). Other bytes: VR_ERROR_REFUSED. */
gboolean vr_store_verify(VrStore *store, const VrImage *image, gboolean force, GError **error);

/* The directory of an instance's disks, disks/UUID, made (0711) when absent: descriptor, and its path in *path
 * (free with g_free; may be NULL). */
int vr_store_instance_dir(VrStore *store, const char *uuid, char **path, GError **error);

/* Bytes free for us on the file system of the store. */
gboolean vr_store_free_bytes(VrStore *store, guint64 *bytes, GError **error);

/* Removes temp directories whose owner is gone, in images/NAME and disks/UUID (recovery calls it). */
gboolean vr_store_sweep(VrStore *store, guint *removed, GError **error);
