/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/daemon/drop.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "disk/version.h"
#include "orchestrator/daemon/drop_files.h"

#include <dirent.h>
#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SETTLE_MS 2000  /* for so long nothing may have changed */
#define DOUBT_MS 15000  /* ... where nobody can say whether somebody writes */
#define AGAIN_MS 600000 /* after what was the host's fault */
#define SCAN_S 60       /* for a file system that does not tell of its changes, such as NFS */
#define SOON_MS 200
#define MOST_IMAGES 256
#define MOST_FILES 4096 /* in the directory of an image */
#define DIR_EVENTS (IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR)
#define IMAGE_EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR)

struct VrDrop {
    VrService *service;
    VrJobs *jobs;
    char *directory;
    GHashTable *found; /* "NAME/FILE" -> Found *: what lies there with its digest */
    int inotify;
    guint inotify_source, every, soon;
    gint64 soon_at_ms;
    gboolean began;  /* what another daemon had taken is back */
    gboolean warned; /* of the directory */
    /* That is being published; image NULL: none */
    VrJobCapture *job;
    char *image, *file;
};

typedef struct {
    VrDropSight sight;
    gint64 since_ms;      /* it has been so */
    gint64 not_before_ms; /* boot-time clock */
    char *said;           /* what was said of it; NULL */
    gboolean seen;        /* by the last scan */
} Found;

static void found_free(gpointer data)
{
    Found *found = data;

    g_free(found->said);
    g_free(found);
}

/* ---- when to look ---- */

static void scan(VrDrop *drop);

static gboolean on_soon(gpointer data)
{
    VrDrop *drop = data;

    drop->soon = 0;
    scan(drop);
    return G_SOURCE_REMOVE;
}

/* The earliest that was asked for counts. */
static void scan_in(VrDrop *drop, gint64 ms)
{
    gint64 at_ms = vr_clock_now_ms() + ms;

    if (drop->soon && drop->soon_at_ms <= at_ms)
        return;
    g_clear_handle_id(&drop->soon, g_source_remove);
    drop->soon_at_ms = at_ms;
    drop->soon = g_timeout_add((guint)CLAMP(ms, 1, AGAIN_MS), on_soon, drop);
}

static gboolean on_inotify(int fd, GIOCondition condition, gpointer data)
{
    char buffer[8192];

    while (read(fd, buffer, sizeof(buffer)) > 0)
        continue;
    scan_in(data, SOON_MS);
    return G_SOURCE_CONTINUE;
}

static gboolean on_every(gpointer data)
{
    scan_in(data, 1);
    return G_SOURCE_CONTINUE;
}

static void watch(const VrDrop *drop, const char *image)
{
    g_autofree char *path = g_build_filename(drop->directory, image, NULL);

    if (drop->inotify >= 0)
        (void)inotify_add_watch(drop->inotify, path, image ? IMAGE_EVENTS : DIR_EVENTS);
}

/* ---- one that was taken ---- */

static int open_image(const VrDrop *drop, const char *image, gid_t *gid, GError **error)
{
    vr_autofd directory = vr_drop_open(drop->directory, gid, error);

    return directory < 0 ? -1 : vr_drop_open_image(directory, image, error);
}

/* Not the image's fault: the same file may do later. */
static gboolean is_hosts_fault(const VrJobOutput *output)
{
    static const char *const codes[] = {"NoSpace", "Busy", "Cancelled", "Child", "Database", "Io", "Timeout", NULL};

    return output->exit_status < 0 || output->exit_status >= VR_CHILD_NOT_BEGUN ||
           (output->code && g_strv_contains(codes, output->code));
}

static Found *find(VrDrop *drop, const char *image, const char *file)
{
    g_autofree char *key = g_build_filename(image, file, NULL);
    Found *found = g_hash_table_lookup(drop->found, key);

    if (!found) {
        found = g_new0(Found, 1);
        g_hash_table_insert(drop->found, g_steal_pointer(&key), found);
    }
    return found;
}

static void put(VrDrop *drop, const char *place, const char *text)
{
    g_autoptr(GError) local = NULL;
    gid_t gid;
    vr_autofd dir = open_image(drop, drop->image, &gid, &local);

    if (dir < 0 ||
        (!vr_drop_put(dir, drop->file, place, text, &local) &&
         (place || !vr_drop_put(dir, drop->file, VR_DROP_REFUSED, text, NULL)))) /* another one lies there by now */
        vr_warning(drop->image, "drop folder: %s stays in " VR_DROP_TAKEN ": %s", drop->file, local->message);
}

static void on_published(VrJobOutput *output, void *data)
{
    VrDrop *drop = data;
    const char *text = output->message ? output->message : "image-publish was ended before it said anything";
    Found *found = find(drop, drop->image, drop->file);

    drop->job = NULL;
    if (output->exit_status == 0) {
        vr_log(VR_LOG_INFO, NULL, drop->image, "drop folder: %s is published", drop->file);
        put(drop, VR_DROP_PUBLISHED, NULL);
    } else if (is_hosts_fault(output)) {
        vr_warning(drop->image, "drop folder: %s cannot be published now, and is tried again: %s", drop->file, text);
        found->not_before_ms = vr_clock_now_ms() + AGAIN_MS;
        put(drop, NULL, text);
    } else {
        vr_warning(drop->image, "drop folder: %s is refused: %s", drop->file, text);
        put(drop, VR_DROP_REFUSED, text);
    }
    g_clear_pointer(&drop->image, g_free);
    g_clear_pointer(&drop->file, g_free);
    scan_in(drop, SOON_MS);
}

/* The job stands in the directory that we have moved it to: by a path it might come to one that others have put there since. */
static gboolean publish(VrDrop *drop, int dir, const VrDropName *name, GError **error)
{
    vr_autofd taken = vr_drop_open_taken(dir, error);
    g_autofree char *path = g_strconcat("./", drop->file, NULL);
    g_autofree char *sums = vr_drop_sums(path);
    const char *const argv[] = {"image-publish", drop->image,  name->version, path, "--digest-file", sums,
                                "--format",      name->format, NULL};
    const VrJobRequest request = {.argv = argv, .fds = {-1, -1, -1}, .cwd = taken, .own = TRUE};

    if (taken < 0)
        return FALSE;
    drop->job = vr_jobs_capture(drop->jobs, &request, on_published, drop, error);
    return drop->job != NULL;
}

static gboolean is_read_only(int dir)
{
    struct statvfs file_system;

    return fstatvfs(dir, &file_system) == 0 && (file_system.f_flag & ST_RDONLY);
}

static void take(VrDrop *drop, int dir, const char *image, const char *file, const VrDropName *name, Found *found)
{
    g_autoptr(GError) local = NULL;

    if (!vr_drop_take(dir, file, &found->sight, &local)) {
        vr_warning(image, "drop folder: %s: %s%s%s%s", file, local->message,
                   is_read_only(dir)
                       ? "; the unit of the daemon must let it write there: 'systemctl edit virt-reimaged' "
                         "with [Service] ReadWritePaths="
                       : "",
                   is_read_only(dir) ? drop->directory : "", is_read_only(dir) ? ", then restart it" : "");
        found->not_before_ms = vr_clock_now_ms() + DOUBT_MS;
        return;
    }
    drop->image = g_strdup(image);
    drop->file = g_strdup(file);
    if (publish(drop, dir, name, &local))
        return;
    vr_warning(image, "drop folder: %s: %s", file, local->message);
    found->not_before_ms = vr_clock_now_ms() + AGAIN_MS;
    put(drop, NULL, local->message);
    g_clear_pointer(&drop->image, g_free);
    g_clear_pointer(&drop->file, g_free);
}

/* ---- to look ---- */

static void say_once(Found *found, int dir, const char *image, const char *file, const char *why)
{
    if (g_strcmp0(found->said, why) == 0)
        return;
    g_free(found->said);
    found->said = g_strdup(why);
    vr_warning(image, "drop folder: %s", why);
    if (dir >= 0)
        vr_drop_note(dir, file, why);
}

static void look_at_file(VrDrop *drop, int dir, gid_t gid, const char *image, const char *file)
{
    g_auto(VrDropName) name = {0};
    g_autofree char *why = NULL;
    VrDropSight sight;
    VrDropState state;
    Found *found;
    gint64 now_ms = vr_clock_now_ms(), whole_ms;

    if (!vr_drop_name_read(file, &name))
        return;
    state = vr_drop_look(dir, file, gid, &sight, &why);
    if (state == VR_DROP_ABSENT)
        return;
    found = find(drop, image, file);
    found->seen = TRUE;
    if (state == VR_DROP_BAD) {
        say_once(found, dir, image, file, why);
        return;
    }
    if (state == VR_DROP_BUSY || !vr_drop_sight_equal(&found->sight, &sight)) {
        found->sight = sight;
        found->since_ms = now_ms;
        found->not_before_ms = 0;
    }
    whole_ms = found->since_ms + (state == VR_DROP_WHOLE ? SETTLE_MS : DOUBT_MS);
    if (MAX(whole_ms, found->not_before_ms) > now_ms)
        scan_in(drop, MAX(whole_ms, found->not_before_ms) - now_ms);
    else if (!drop->image)
        take(drop, dir, image, file, &name, found);
}

static void look_at_image(VrDrop *drop, int directory, gid_t gid, const char *image)
{
    g_autoptr(GError) local = NULL;
    vr_autofd fd = vr_drop_open_image(directory, image, &local);
    DIR *dir = fd >= 0 ? vr_drop_list(fd) : NULL;
    guint files = 0;

    if (!dir) {
        Found *found = find(drop, image, "");
        found->seen = TRUE;
        if (local)
            say_once(found, -1, image, image, local->message);
        return;
    }
    if (!drop->began)
        vr_drop_put_back(fd);
    watch(drop, image);
    rewinddir(dir); /* what was put back is seen */
    for (const struct dirent *entry = readdir(dir); entry && files < MOST_FILES; entry = readdir(dir), files++)
        if (entry->d_name[0] != '.')
            look_at_file(drop, fd, gid, image, entry->d_name);
    closedir(dir);
}

static gboolean is_gone(gpointer key, gpointer value, gpointer data)
{
    const VrDrop *drop = data;
    g_autofree char *taken = drop->image ? g_build_filename(drop->image, drop->file, NULL) : NULL;

    return !((const Found *)value)->seen && g_strcmp0(key, taken) != 0;
}

static void scan_images(VrDrop *drop, int directory, gid_t gid)
{
    DIR *dir = vr_drop_list(directory);
    guint images = 0;

    for (const struct dirent *entry = dir ? readdir(dir) : NULL; entry && images < MOST_IMAGES; entry = readdir(dir)) {
        if (!vr_name_check(entry->d_name, "image", NULL) || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
            continue;
        look_at_image(drop, directory, gid, entry->d_name);
        images++;
    }
    if (dir)
        closedir(dir);
}

static void scan(VrDrop *drop)
{
    g_autoptr(GError) local = NULL;
    GHashTableIter iter;
    gpointer value;
    gid_t gid;
    vr_autofd directory = -1;

    if (vr_service_stopping(drop->service))
        return;
    watch(drop, NULL); /* before it is looked at, so that nothing comes between the two */
    directory = vr_drop_open(drop->directory, &gid, &local);
    if (directory < 0) {
        if (!drop->warned)
            vr_warning(NULL, "drop folder: %s", local->message);
        drop->warned = TRUE;
        return;
    }
    drop->warned = FALSE;
    g_hash_table_iter_init(&iter, drop->found);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        ((Found *)value)->seen = FALSE;
    scan_images(drop, directory, gid);
    g_hash_table_foreach_remove(drop->found, is_gone, drop);
    drop->began = TRUE;
}

/* ---- its life ---- */

static void on_reload(void *data)
{
    VrDrop *drop = data;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, drop->found);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        ((Found *)value)->not_before_ms = 0;
    scan_in(drop, 1);
}

VrDrop *vr_drop_new(VrService *service, VrJobs *jobs, const char *directory)
{
    VrDrop *drop = g_new0(VrDrop, 1);

    drop->service = service;
    drop->jobs = jobs;
    drop->directory = g_strdup(directory);
    drop->found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, found_free);
    drop->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (drop->inotify >= 0)
        drop->inotify_source = g_unix_fd_add(drop->inotify, G_IO_IN, on_inotify, drop);
    else
        vr_warning(NULL, "drop folder: cannot watch it: %s; it is looked at each minute", g_strerror(errno));
    drop->every = g_timeout_add_seconds(SCAN_S, on_every, drop);
    vr_service_add_reload(service, on_reload, drop);
    scan_in(drop, 1);
    return drop;
}

void vr_drop_free(VrDrop *drop)
{
    if (!drop)
        return;
    if (drop->job)
        vr_job_capture_forget(drop->job);
    g_clear_handle_id(&drop->inotify_source, g_source_remove);
    g_clear_handle_id(&drop->every, g_source_remove);
    g_clear_handle_id(&drop->soon, g_source_remove);
    vr_fd_clear(&drop->inotify);
    g_hash_table_unref(drop->found);
    g_free(drop->directory);
    g_free(drop->image);
    g_free(drop->file);
    g_free(drop);
}
