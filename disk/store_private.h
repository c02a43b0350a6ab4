/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the parts of the store: places, image.json, records, publication. Not for others. */
#pragma once

#include "disk/store.h"

struct VrStore {
    char *root;  /* canonical */
    int root_fd; /* owned */
    VrDb *db;    /* owned */
};

#define VR_DIR_MODE 0711 /* QEMU's user passes through, nobody lists */

/* ---- store.c ---- */

/* The names in a directory beneath the root, unsorted; an absent directory has none. Element: char *, freed with it. */
GPtrArray *vr_store_names(VrStore *store, const char *relpath, GError **error);

/* The name is one, and there is such an image: else VR_ERROR_USAGE or VR_ERROR_NOT_FOUND with those that there are. */
gboolean vr_store_known(VrStore *store, const char *name, GError **error);

/* The directory name of a version of equal number ("1.2" is "1.2.0"); NULL without an error: there is none. */
char *vr_store_find_version(VrStore *store, const char *name, const char *version, GError **error);

/* Every version of an image (NULL: of all) that can be read, without what the database says; others are reported. */
GPtrArray *vr_store_scan(VrStore *store, const char *name, GError **error);

/* Removes images/NAME when nothing is in it; best effort. */
void vr_store_drop_empty(VrStore *store, const char *relpath);

/* ---- image_file.c ---- */

/* The text of image.json. Free with g_free. */
char *vr_image_to_json(const VrImage *image);

/* Reads images/NAME/VERSION and checks that the record and the disk beside it agree: else VR_ERROR_INVALID. */
VrImage *vr_image_load(VrStore *store, const char *name, const char *version, GError **error);

/* Opens the disk of a version: regular, ours, one link, not writable by others. */
int vr_image_open_disk(VrStore *store, const VrImage *image, GError **error);

/* ---- image_rules.c ---- */

/* When the rules are newer than the image's verdict: checks the stored disk again, which is open as fd, once, and remembers the
 * result. VR_ERROR_REFUSED with the rule. */
gboolean vr_image_recheck_fd(VrStore *store, int fd, const VrImage *image, GError **error);

/* The version is in the store as it was read, and passes the rules of now; asked before a disk is made of it. Gone is
 * VR_ERROR_NOT_FOUND, published anew with other bytes VR_ERROR_CONFLICT. */
gboolean vr_image_require(VrStore *store, const VrImage *image, GError **error);

/* ---- store_records.c ---- */

gboolean vr_store_schema(VrDb *db, GError **error);

/* Every byte of the disk that is open as fd against storedDigest; remembered. Other bytes: VR_ERROR_REFUSED. */
gboolean vr_image_compare_bytes(VrStore *store, int fd, const VrImage *image, GError **error);

/* Writes into each image what the database says of it. */
gboolean vr_store_apply_excludes(VrStore *store, GPtrArray *images, GError **error);

/* ---- store_delete.c ---- */

/* Ends the records of deletions that a crash cut. */
gboolean vr_store_settle_deletions(VrStore *store, GError **error);
