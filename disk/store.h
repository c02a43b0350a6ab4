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
#include "disk/image_boot.h"
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
    gboolean boot_recorded; /* FALSE: it was published before versions said how they boot */
    VrImageBoot boot;
    char *published_at;   /* RFC 3339 */
    char *signature_key;  /* id of the key that signed what was given; NULL: it was not signed */
    char *signed_comment; /* the signature's trusted comment; NULL likewise */
    gboolean excluded;
    char *excluded_reason; /* NULL when none was given */
} VrImage;

VrImage *vr_image_copy(const VrImage *image); /* NULL of NULL; free with vr_image_free */
void vr_image_free(VrImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrImage, vr_image_free)

/* The default root for a libvirt URI: /var/lib/virt-reimage, or $XDG_DATA_HOME/virt-reimage for .../session. */
char *vr_store_default_root(const char *uri);

/* Opens the store at root (made, 0711, when absent, unless read_only: then VR_ERROR_NOT_FOUND says that nothing was
 * published yet), canonicalises the path, opens ROOT/state.db. */
VrStore *vr_store_open(const char *root, gboolean read_only, GError **error);
/* As vr_store_open(), also where state.db is missing beside images and disks: `recover --rebuild` makes a new one. read_only: then the
 * store has no database (vr_store_db() is NULL), and only its places can be looked at. */
VrStore *vr_store_open_lost(const char *root, gboolean read_only, GError **error);
void vr_store_close(VrStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrStore, vr_store_close)

/* Makes ROOT/reserve where there is plenty of room, and gives its room back where the disk is full. Each opening for writing does it; for those who
 * have the store open for long, before what must go on a full disk. */
void vr_store_reserve(VrStore *store);

const char *vr_store_root(VrStore *store); /* canonical absolute path */
int vr_store_root_fd(VrStore *store);      /* not owned by the caller */
VrDb *vr_store_db(VrStore *store);         /* not owned by the caller */

typedef struct {
    const char *name, *version;
    const char *file;                    /* "-": standard input, whose format must be given */
    const char *digest;                  /* NULL, "sha256:HEX" of the bytes of file, or "@FILE" with its line */
    const char *signature;               /* NULL, or the file of a minisign signature of the bytes of file */
    const char *keys;                    /* the directory of keys; NULL: VR_KEYS_DIR */
    const char *publisher, *offer, *sku; /* NULL when not given */
    gboolean format_given;
    VrImageFormat format;
    const char *const
        *flatten; /* NULL, or the links below file, the next one first, NULL at the end; their names must be those
                                   in the headers */
    gboolean as_given;
    VrImageFormat as; /* when given: what is stored; else qcow2 */
    guint64
        max_size; /* bytes for the guest, and that may come out of a compressed file; 0: no limit but the policy's */
    guint64 limit_rate; /* bytes a second that are read at most; 0 = no limit */
    gboolean dry_run;   /* check everything and leave nothing; the store may be NULL */
    const gint *cancelled;
    void (*progress)(const VrCopyProgress *progress, void *data);
    void *progress_data;
} VrPublication;

/* check -> copy and digest -> check of the copy -> make visible. The source must be a regular file that does
 * not change meanwhile, or standard input. One that is called .xz, .gz or .zst is inflated, compressed clusters too, and what is
 * stored stands alone; digest and signature are of the bytes as they were given, of a chain those of its links. Where the
 * directory of keys says REQUIRED, only what is signed is published. The same version again: equal digest = success with
 * *already TRUE, other digest = VR_ERROR_CONFLICT. publisher/offer/sku of an image are the same for all its versions, else VR_ERROR_CONFLICT. */
gboolean vr_store_publish(VrStore *store, const VrPublication *publication, VrImage **image, gboolean *already,
                          GError **error);

/* All versions of one image (NULL: of all images), newest first within a name. Element: VrImage *, freed with the array. */
GPtrArray *vr_store_list(VrStore *store, const char *name, GError **error);

/* One version; version "latest" or NULL: the highest that is not excluded. VR_ERROR_NOT_FOUND lists what there is. */
VrImage *vr_store_get(VrStore *store, const char *name, const char *version, GError **error);

/* How a version boots: what was recorded when it was published; of one without such a record what its first sectors say, its loaders
 * unknown. */
gboolean vr_image_boot_read(VrStore *store, const VrImage *image, VrImageBoot *boot, GError **error);

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

/* Its path, be it there or not. Free with g_free. */
char *vr_store_instance_path(const VrStore *store, const char *uuid);

/* The names in a directory of the store, unsorted; an absent one has none. Element: char *, freed with the array. */
GPtrArray *vr_store_children(VrStore *store, const char *relpath, GError **error);

/* Bytes that no copy of ours takes: for directories, records and the journal, and for guests that run. */
#define VR_STORE_KEPT_FREE ((guint64)16 << 20)

/* Bytes free for us on the file system of the store. */
gboolean vr_store_free_bytes(VrStore *store, guint64 *bytes, GError **error);

/* Removes temp directories whose owner is gone, in images/NAME and disks/UUID, and ends the records of deletions that a crash
 * cut (recovery calls it). How many it removed; what cannot be is left with a warning: housekeeping keeps no guest off. */
guint vr_store_sweep(VrStore *store);

/* --- the gallery ------------------------------------------------------------------------------------------ */

/* A version as it is seen without reading all of it. */
typedef struct {
    VrImage *image;       /* of a damaged one: only name, version and what was excluded */
    char *damage;         /* NULL: none is seen */
    guint64 real_bytes;   /* that its disk takes on the file system */
    guint64 shared_bytes; /* of them, shared with other files (reflinks) */
} VrVersionState;
void vr_version_state_free(VrVersionState *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrVersionState, vr_version_state_free)

/* All versions, damaged ones too, in the order of vr_store_list. Element: VrVersionState *, freed with the array. */
GPtrArray *vr_store_survey(VrStore *store, const char *name, GError **error);

/* Why `latest` and runs do not take it ("excluded: no network", "damaged: ..."); NULL: they do. Free with g_free. */
char *vr_version_ineligible(const VrVersionState *state);

/* Reads all of one version again: image.json, places, owners, modes, every byte of the disk. What is wrong, one text each, none
 * when it is whole. Element: char *, freed with the array. NULL with an error: it could not be read. */
GPtrArray *vr_store_inspect(VrStore *store, const char *name, const char *version, GError **error);

/* May the version go? Asked within the transaction in which its name is taken away. FALSE with an error: no. */
typedef gboolean (*VrStillFree)(VrDb *db, const char *name, const char *version, void *data, GError **error);

/* Journal -> rename into a temp directory -> unlink -> journal. A version that is damaged may go too. Killed anywhere: it is
 * either there whole or gone, and vr_store_sweep() does what is left. version as it is spelled in the store. */
gboolean vr_store_delete(VrStore *store, const char *name, const char *version, VrStillFree still_free, void *data,
                         GError **error);
