/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * list -> bytes of the files and targets of the links -> list again. Only where both lists are equal, times, inodes and sizes among them, and those of all
 * directories above, is the content that of the names: a user of the guest may exchange a file for a link between the two looks, or a directory of his
 * above it and back again, and the agent, which is root there, follows it.
 *
 * Which guest lies is of no account: it can say what it likes of its own files. What it says is bounded, and is of the paths that were asked for.
 */
#include "hv/guest_files.h"

#include "base/error.h"
#include "hv/guest_agent.h"

#include <string.h>
#include <sys/stat.h>

#define TRIES 3
#define MAX_PATH 4095
#define MAX_TEXT (2u << 20) /* of a list: its base64 fits into a message of libvirt, 4 MiB */
#define NO_TOOLS 90
#define FIELDS 12 /* the two times are three words each */
#define NAME (FIELDS - 1)
#define SHOWN 200

/* One line an entry, "." at the end of the list, "!" where it is no list; behind "^" what lies above. busybox and coreutils have all of it. */
static const char list_script[] = "for t in find stat readlink head; do command -v $t >/dev/null || exit 90; done\n"
                                  "n='\n'\n"
                                  "{ for p do\n"
                                  "  [ -e \"$p\" ] || [ -L \"$p\" ] || continue\n"
                                  "  [ -z \"$(find \"$p\" -name \"*$n*\")\" ] || echo '!name'\n"
                                  "  find \"$p\" -exec stat -c '%f %u %g %s %i %y %z %n' '{}' + || echo '!list'\n"
                                  "done; echo .; } | head -n \"$0\"; echo ^\n"
                                  "for p do\n"
                                  "  while p=${p%/*}; [ \"$p\" ]; do stat -c '%f %u %i %z' \"$p\" 2>/dev/null; done\n"
                                  "done\n"
                                  "exit 0\n";
static const char link_script[] = "for p do readlink \"$p\" || exit 1; done\n";

typedef struct {
    VrHv *hv;
    const char *uuid;
    const char *const *paths;
    gint64 deadline_ms;
    const gint *aborted;
} Reading;

typedef struct {
    char *path;
    guint mode; /* with its type */
    char *owner;
    guint64 size;
} Entry;

static void entry_free(gpointer data)
{
    Entry *entry = data;

    g_free(entry->path);
    g_free(entry->owner);
    g_free(entry);
}

static G_GNUC_PRINTF(2, 3) gboolean refuse(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(VR_ERROR, VR_ERROR_AGENT, format, args);
    va_end(args);
    return FALSE;
}

static gboolean refuse_name(GError **error, const char *text, const char *why)
{
    g_autofree char *shown = vr_printable(text, (gssize)MIN(strlen(text), SHOWN));

    return refuse(error, "of the guest's files, '%s' %s", shown, why);
}

static gboolean is_text(const char *text)
{
    gboolean plain = *text && strlen(text) <= MAX_PATH && g_utf8_validate(text, -1, NULL);

    for (const char *p = text; plain && *p; p++)
        plain = !g_ascii_iscntrl(*p);
    return plain;
}

static gboolean is_path(const char *path)
{
    g_auto(GStrv) parts = path[0] == '/' ? g_strsplit(path + 1, "/", -1) : NULL;

    for (char **part = parts; part && *part; part++)
        if (!**part || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0)
            return FALSE;
    return parts && is_text(path);
}

static gboolean was_asked_for(const Reading *reading, const char *path)
{
    for (const char *const *asked = reading->paths; *asked; asked++) {
        gsize length = strlen(*asked);
        if (strncmp(path, *asked, length) == 0 && (path[length] == '\0' || path[length] == '/'))
            return TRUE;
    }
    return FALSE;
}

/* --- the list ---------------------------------------------------------------------------------------- */

static gboolean read_number(const char *text, guint base, guint64 max, guint64 *number)
{
    return g_ascii_string_to_unsigned(text, base, 0, max, number, NULL);
}

static Entry *entry_of(const Reading *reading, const char *line, GError **error)
{
    g_auto(GStrv) fields = g_strsplit(line, " ", FIELDS);
    guint64 mode, uid, gid, size;
    Entry *entry;

    if (g_strv_length(fields) != FIELDS || !read_number(fields[0], 16, 0xffff, &mode) ||
        !read_number(fields[1], 10, G_MAXUINT32, &uid) || !read_number(fields[2], 10, G_MAXUINT32, &gid) ||
        !read_number(fields[3], 10, G_MAXINT64, &size) || !is_path(fields[NAME]) ||
        !was_asked_for(reading, fields[NAME])) {
        refuse_name(error, line, "is no entry, was not asked for, or has a name of control characters");
        return NULL;
    }
    if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode)) {
        refuse_name(error, fields[NAME], "is a FIFO, a socket or a device, and is not carried over");
        return NULL;
    }
    entry = g_new(Entry, 1);
    *entry = (Entry){g_steal_pointer(&fields[NAME]), (guint)mode,
                     g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, uid, gid), S_ISREG(mode) ? size : 0};
    return entry;
}

/* A path that lies beneath another one that was asked for is listed twice. */
static gboolean add_entry(const Reading *reading, GHashTable *seen, GPtrArray *entries, const char *line,
                          GError **error)
{
    Entry *entry = entry_of(reading, line, error);

    if (!entry)
        return FALSE;
    if (g_hash_table_add(seen, entry->path))
        g_ptr_array_add(entries, entry);
    else
        entry_free(entry);
    return TRUE;
}

static gboolean is_within_bounds(const GPtrArray *entries, GError **error)
{
    guint64 bytes = 0;

    for (guint i = 0; i < entries->len; i++) {
        const Entry *entry = g_ptr_array_index(entries, i);
        if (entry->size > VR_GUEST_FILES_MAX_BYTES - bytes)
            return refuse(error, "the guest's files are larger than %u MiB together", VR_GUEST_FILES_MAX_BYTES >> 20);
        bytes += entry->size;
    }
    return entries->len <= VR_GUEST_FILES_MAX ||
           refuse(error, "the guest's files are more than %u", VR_GUEST_FILES_MAX);
}

/* Element: Entry *. */
static GPtrArray *parse_list(const Reading *reading, const char *text, GError **error)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(entry_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    char **line = lines;

    for (; *line && **line && strcmp(*line, ".") != 0 && strcmp(*line, "^") != 0; line++)
        if (!add_entry(reading, seen, entries, *line, error))
            return NULL;
    if (g_strcmp0(*line, ".") != 0) {
        refuse(error, "the guest's files are more than %u, or their list has no end", VR_GUEST_FILES_MAX);
        return NULL;
    }
    return is_within_bounds(entries, error) ? g_steal_pointer(&entries) : NULL;
}

static gboolean has_line(const char *text, const char *line)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    return g_strv_contains((const char *const *)lines, line);
}

static gboolean judge_list(const VrAgentResult *result, GError **error)
{
    g_autofree char *said = vr_printable(result->err, (gssize)MIN(strlen(result->err), SHOWN));

    if (result->exit_status == NO_TOOLS)
        return refuse(error, "the guest lacks find, stat, readlink or head, with which its files are listed");
    if (result->exit_status != 0 || result->cut)
        return refuse(error, "the guest's files could not be listed (%d): %s", result->exit_status, said);
    if (has_line(result->out, "!name"))
        return refuse(error, "a file of the guest has a line break in its name, and is not carried over");
    if (has_line(result->out, "!list")) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "the guest's files could not be listed: %s", said);
        return FALSE;
    }
    return TRUE;
}

/* argv: the script's text, its $0 and the paths. */
static gboolean run_script(const Reading *reading, const char *script, const char *name, char *const *paths,
                           VrAgentResult *result, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, (gpointer) "/bin/sh");
    g_ptr_array_add(argv, (gpointer) "-c");
    g_ptr_array_add(argv, (gpointer)script);
    g_ptr_array_add(argv, (gpointer)name);
    for (; *paths; paths++)
        g_ptr_array_add(argv, *paths);
    g_ptr_array_add(argv, NULL);
    return vr_agent_exec(reading->hv, reading->uuid, (const char *const *)argv->pdata, MAX_TEXT, reading->deadline_ms,
                         reading->aborted, result, error);
}

/* Of a directory above that root alone may change only what it is: there files come and go for other reasons. In a sticky one a user moves only what
 * is his, and that has a line of its own. */
static char *above(const char *line)
{
    g_auto(GStrv) fields = g_strsplit(line, " ", 4);
    guint64 mode, uid;

    if (g_strv_length(fields) == 4 && read_number(fields[0], 16, 0xffff, &mode) &&
        read_number(fields[1], 10, G_MAXUINT32, &uid) && uid == 0 &&
        ((mode & (S_IWGRP | S_IWOTH)) == 0 || (mode & S_ISVTX)))
        return g_strdup_printf("%s %s %s", fields[0], fields[1], fields[2]);
    return g_strdup(line);
}

static char *without_times_of_root(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    gboolean is_above = FALSE;

    for (char **line = lines; *line; line++) {
        char *kept = is_above ? above(*line) : g_strdup(*line);

        is_above |= strcmp(*line, "^") == 0;
        g_free(*line);
        *line = kept;
    }
    return g_strjoinv("\n", lines);
}

/* Free with g_free. */
static char *list(const Reading *reading, GError **error)
{
    g_autofree char *lines = g_strdup_printf("%u", VR_GUEST_FILES_MAX + 2);
    g_auto(VrAgentResult) result = {0};

    if (!run_script(reading, list_script, lines, (char *const *)reading->paths, &result, error) ||
        !judge_list(&result, error))
        return NULL;
    return without_times_of_root(result.out);
}

/* --- what they hold ---------------------------------------------------------------------------------- */

static gboolean is_called_off(const Reading *reading, GError **error)
{
    if (!reading->aborted || g_atomic_int_get(reading->aborted) == 0)
        return FALSE;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_CANCELLED, "the reading of the guest's files was ended");
    return TRUE;
}

/* In their order, NULL-terminated. */
static char **targets_of(const Reading *reading, const GPtrArray *entries, GError **error)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    g_auto(VrAgentResult) result = {0};
    g_auto(GStrv) targets = NULL;

    for (guint i = 0; i < entries->len; i++) {
        Entry *entry = g_ptr_array_index(entries, i);
        if (S_ISLNK(entry->mode))
            g_ptr_array_add(paths, entry->path);
    }
    if (paths->len == 0)
        return g_new0(char *, 1);
    g_ptr_array_add(paths, NULL);
    if (!run_script(reading, link_script, "links", (char *const *)paths->pdata, &result, error))
        return NULL;
    if (g_str_has_suffix(result.out, "\n"))
        result.out[strlen(result.out) - 1] = '\0';
    targets = g_strsplit(result.out, "\n", -1);
    for (char **target = targets; *target; target++)
        if (!is_text(*target) || result.cut)
            result.exit_status = 1;
    if (result.exit_status == 0 && g_strv_length(targets) == paths->len - 1)
        return g_steal_pointer(&targets);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_CONFLICT, "where the guest's links lead could not be read");
    return NULL;
}

static gboolean add_regular(const Reading *reading, const Entry *entry, gsize *left, GPtrArray *files, GError **error)
{
    gsize length;
    g_autofree char *data =
        vr_agent_read_file(reading->hv, reading->uuid, entry->path, *left, reading->deadline_ms, &length, error);

    if (!data)
        return FALSE;
    if (length != entry->size) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s changes while it is read", entry->path);
        return FALSE;
    }
    *left -= length;
    g_ptr_array_add(
        files, vr_guest_file_new(VR_GUEST_FILE_REGULAR, entry->path, entry->mode & 07777, entry->owner, data, length));
    return TRUE;
}

static GPtrArray *read_all(const Reading *reading, const GPtrArray *entries, GError **error)
{
    g_autoptr(GPtrArray) files = vr_guest_files_new();
    g_auto(GStrv) targets = targets_of(reading, entries, error);
    gsize left = VR_GUEST_FILES_MAX_BYTES;
    guint link = 0;

    for (guint i = 0; targets && i < entries->len; i++) {
        const Entry *entry = g_ptr_array_index(entries, i);
        if (is_called_off(reading, error) ||
            (S_ISREG(entry->mode) && !add_regular(reading, entry, &left, files, error)))
            return NULL;
        if (S_ISLNK(entry->mode)) {
            g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_LINK, entry->path, 0, entry->owner, targets[link],
                                                     strlen(targets[link])));
            link++;
        } else if (S_ISDIR(entry->mode)) {
            g_ptr_array_add(files, vr_guest_file_new(VR_GUEST_FILE_DIRECTORY, entry->path, entry->mode & 07777,
                                                     entry->owner, NULL, 0));
        }
    }
    return targets ? g_steal_pointer(&files) : NULL;
}

static GPtrArray *read_once(const Reading *reading, GError **error)
{
    g_autofree char *before = list(reading, error);
    g_autoptr(GPtrArray) entries = before ? parse_list(reading, before, error) : NULL;
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) files = entries ? read_all(reading, entries, &local) : NULL;
    g_autofree char *after = NULL;

    if (!entries || g_error_matches(local, VR_ERROR, VR_ERROR_CANCELLED)) {
        if (local)
            g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    after = list(reading, error);
    if (!after)
        return NULL;
    if (files && g_str_equal(before, after))
        return g_steal_pointer(&files);
    /* A file that went while it was read is no fault of the agent. */
    if (local && g_str_equal(before, after))
        g_propagate_error(error, g_steal_pointer(&local));
    else
        g_set_error_literal(error, VR_ERROR, VR_ERROR_CONFLICT, "the guest's files change while they are read");
    return NULL;
}

gboolean vr_agent_read_files(VrHv *hv, const char *uuid, const char *const *paths, gint64 deadline_ms,
                             const gint *aborted, GPtrArray **files, GError **error)
{
    const Reading reading = {hv, uuid, paths, deadline_ms, aborted};

    for (const char *const *path = paths; *path; path++)
        if (!is_path(*path)) {
            g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "'%s' is no absolute path in its shortest form", *path);
            return FALSE;
        }
    for (guint tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;

        *files = read_once(&reading, &local);
        if (*files)
            return TRUE;
        if (tries == TRIES || !g_error_matches(local, VR_ERROR, VR_ERROR_CONFLICT)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
}
