/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files of the drop folder. Others write to it, so nothing of it is believed: every step is taken from a descriptor of a directory and follows no
 * link, and what is taken is first moved to a directory that only we may write to, and is the file then that was looked at before.
 *
 *   DIRECTORY/NAME/VERSION.EXT          an image, and
 *   DIRECTORY/NAME/VERSION.EXT.sha256   its line as sha256sum writes it: as long as one of the two is missing nothing happens
 *   DIRECTORY/NAME/.taken/              being published (0700)
 *   DIRECTORY/NAME/published/           what became a version
 *   DIRECTORY/NAME/refused/             what did not, with VERSION.EXT.error that says why
 *   DIRECTORY/NAME/VERSION.EXT.error    why it still lies here
 */
#pragma once

#include <dirent.h>
#include <glib.h>
#include <sys/stat.h>

#define VR_DROP_TAKEN ".taken"
#define VR_DROP_PUBLISHED "published"
#define VR_DROP_REFUSED "refused"

/* What a file's name says: VERSION.qcow2 or VERSION.raw, and behind that .xz, .gz or .zst. */
typedef struct {
    char *version;
    const char *format; /* "qcow2", "raw"; static */
} VrDropName;
void vr_drop_name_clear(VrDropName *name);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrDropName, vr_drop_name_clear)
/* FALSE: it is none of an image. */
gboolean vr_drop_name_read(const char *file, VrDropName *name);

/* Both files as they were seen, to tell whether they change. */
typedef struct {
    struct stat image, sums;
} VrDropSight;
gboolean vr_drop_sight_equal(const VrDropSight *a, const VrDropSight *b);

typedef enum {
    VR_DROP_ABSENT, /* one of the two is not there */
    VR_DROP_BUSY,   /* somebody has one of them open for writing */
    VR_DROP_MAYBE,  /* this file system cannot say whether somebody does */
    VR_DROP_WHOLE,
    VR_DROP_BAD /* nothing that is ever taken: no regular file, a second name of another file, or not of those who may */
} VrDropState;

/* Looks at VERSION.EXT and its digest in image_dir. gid: the group of the drop folder, whose files are taken beside those of root and of ourselves. BAD: *why (g_free) says it. */
VrDropState vr_drop_look(int image_dir, const char *file, gid_t gid, VrDropSight *sight, char **why);

/* A directory of the drop folder, which nobody may write to but its owner and its group. -1 with an error. */
int vr_drop_open(const char *directory, gid_t *gid, GError **error);
int vr_drop_open_image(int directory, const char *name, GError **error);

/* What is in a directory that is open; it stays so. NULL with errno. closedir() it. */
DIR *vr_drop_list(int dir);

/* Where vr_drop_take() moves to, which is ours alone; it is made. -1 with an error. */
int vr_drop_open_taken(int image_dir, GError **error);

/* Moves both into .taken; they are what was seen. */
gboolean vr_drop_take(int image_dir, const char *file, const VrDropSight *sight, GError **error);

/* Out of .taken: to `place` (published or refused, where what is there gives way), or NULL: back to where they were, where what is there stays. text: what goes to
 * FILE.error there; NULL: none, and an older one beside the image goes. */
gboolean vr_drop_put(int image_dir, const char *file, const char *place, const char *text, GError **error);

/* FILE.error beside the image. */
void vr_drop_note(int image_dir, const char *file, const char *text);

/* Brings back what a daemon that is gone had taken. */
void vr_drop_put_back(int image_dir);

/* "FILE.sha256". Free with g_free. */
char *vr_drop_sums(const char *file);
