/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/config.h"

#include "base/clock.h"
#include "base/error.h"
#include "orchestrator/host_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES (64 * 1024)
#define MAX_COMMANDS 256
#define MIN_INTERVAL_MS 1000

typedef struct Row Row;
typedef gboolean (*Parse)(const char *value, const Row *row, void *field, GError **error);

struct Row {
    VrConfigKey key;
    Parse parse;
    gsize offset; /* in VrConfig */
};

/* ---- values: each writes to its field, or says what would fit ---- */

static gboolean misfit(GError **error, const char *value, const char *fits)
{
    g_autofree char *shown = vr_printable(value, -1);

    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "'%s' is not %s", shown, fits);
    return FALSE;
}

static gboolean parse_text(const char *value, const Row *row, void *field, GError **error)
{
    g_free(*(char **)field);
    *(char **)field = *value ? g_strdup(value) : NULL;
    return TRUE;
}

static gboolean parse_path(const char *value, const Row *row, void *field, GError **error)
{
    if (*value && (!g_path_is_absolute(value) || strstr(value, "/../")))
        return misfit(error, value, "an absolute path");
    return parse_text(value, row, field, error);
}

static gboolean parse_url(const char *value, const Row *row, void *field, GError **error)
{
    if (*value && !g_str_has_prefix(value, "https://") && !g_str_has_prefix(value, "http://"))
        return misfit(error, value, "a URL that begins with https:// or http://");
    return parse_text(value, row, field, error);
}

static gboolean parse_boolean(const char *value, const Row *row, void *field, GError **error)
{
    *(gboolean *)field = g_str_equal(value, "true");
    return *(gboolean *)field || g_str_equal(value, "false") || misfit(error, value, "true or false");
}

static gboolean parse_count(const char *value, const Row *row, void *field, GError **error)
{
    guint64 number = 0;

    if (!g_ascii_string_to_unsigned(value, 10, 1, MAX_COMMANDS, &number, NULL))
        return misfit(error, value, "a number from 1 to " G_STRINGIFY(MAX_COMMANDS));
    *(guint *)field = (guint)number;
    return TRUE;
}

static gboolean parse_interval(const char *value, const Row *row, void *field, GError **error)
{
    gint64 *ms = field;

    if (!vr_clock_parse_duration(value, ms, NULL) || *ms < MIN_INTERVAL_MS)
        return misfit(error, value, "a duration of a second or more, as PT1M or 60s");
    return TRUE;
}

/* ---- the table ---- */

#define AT(field) G_STRUCT_OFFSET(VrConfig, field)

static const Row rows[] = {
    {{"host", "uri", "URI", "", "libvirt that the daemon works on; empty: as virsh chooses"}, parse_text, AT(uri)},
    {{"host", "root", "DIRECTORY", "", "where images and OS disks lie; empty: /var/lib/virt-reimage"},
     parse_path,
     AT(root)},
    {{"daemon", "maxCommands", "N", "16",
      "commands of others that the daemon runs at once; one more is told to come again"},
     parse_count,
     AT(max_commands)},
    {{"drop", "directory", "DIRECTORY", "",
      "what lands here as NAME/VERSION.qcow2 with its digest file is published; empty: nothing is"},
     parse_path,
     AT(drop_directory)},
    {{"notices", "journal", "BOOLEAN", "true", "notices go to the journal of systemd"}, parse_boolean, AT(journal)},
    {{"notices", "hooks", "DIRECTORY", "/etc/virt-reimage/hooks.d", "programs here are run for each notice"},
     parse_path,
     AT(hooks)},
    {{"notices", "webhook", "URL", "", "notices are posted there as JSON; empty: nowhere"}, parse_url, AT(webhook)},
    {{"notices", "webhookSecretFile", "FILE", "", "key of the HMAC-SHA256 that signs what is posted; of mode 0600"},
     parse_path,
     AT(webhook_secret_file)},
    {{"notices", "webhookCaFile", "FILE", "",
      "certificates of those who may have signed the webhook's; empty: those that the system trusts"},
     parse_path,
     AT(webhook_ca_file)},
    {{"metrics", "textfile", "FILE", "", "the daemon writes the metrics there, for node_exporter's textfile collector"},
     parse_path,
     AT(textfile)},
    {{"metrics", "interval", "DURATION", "PT1M", "how often it does"}, parse_interval, AT(interval_ms)},
};

const VrConfigKey *vr_config_key(guint i)
{
    return i < G_N_ELEMENTS(rows) ? &rows[i].key : NULL;
}

static gboolean set(VrConfig *config, guint i, const char *value, GError **error)
{
    return rows[i].parse(value, &rows[i], G_STRUCT_MEMBER_P(config, rows[i].offset), error);
}

/* The index of a key, or the count of them: it is not known. group_known: whether another key of that group is. */
static guint find(const char *group, const char *key, gboolean *group_known)
{
    guint i;

    *group_known = FALSE;
    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!g_str_equal(rows[i].key.group, group))
            continue;
        *group_known = TRUE;
        if (key && g_str_equal(rows[i].key.key, key))
            break;
    }
    return i;
}

/* ---- the file ---- */

static gboolean read_key(VrConfig *config, GKeyFile *file, const char *group, const char *key, GError **error)
{
    gboolean group_known;
    guint i = find(group, key, &group_known);
    g_autoptr(GError) local = NULL;
    g_autofree char *value = NULL, *shown = vr_printable(key, -1);

    if (i == G_N_ELEMENTS(rows)) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "[%s] %s: there is no such key", group, shown);
        vr_error_next(error, "virt-reimage.conf(5) lists them");
        return FALSE;
    }
    value = g_key_file_get_string(file, group, key, &local);
    if (!value)
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "[%s] %s: %s", group, shown, local->message);
    else if (set(config, i, g_strchomp(value), error))
        return TRUE;
    else
        g_prefix_error(error, "[%s] %s: ", group, shown);
    return FALSE;
}

static gboolean read_group(VrConfig *config, GKeyFile *file, const char *group, GError **error)
{
    gboolean known;
    g_auto(GStrv) names = NULL;

    (void)find(group, NULL, &known);
    if (!known) {
        g_autofree char *shown = vr_printable(group, -1);
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "[%s]: there is no such group", shown);
        vr_error_next(error, "virt-reimage.conf(5) lists them");
        return FALSE;
    }
    names = g_key_file_get_keys(file, group, NULL, NULL);
    for (char **name = names; name && *name; name++)
        if (!read_key(config, file, group, *name, error))
            return FALSE;
    return TRUE;
}

static gboolean parse(VrConfig *config, const VrPayload *bytes, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) local = NULL;
    g_auto(GStrv) groups = NULL;

    if (!g_key_file_load_from_data(file, (const char *)bytes->data, bytes->length, G_KEY_FILE_NONE, &local)) {
        g_autofree char *shown = vr_printable(local->message, -1);
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s", shown);
        return FALSE;
    }
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group; group++)
        if (!read_group(config, file, *group, error))
            return FALSE;
    return TRUE;
}

/* What root runs is said by nobody else. */
static gboolean check_writers(const char *path, const struct stat *st, GError **error)
{
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s belongs to uid %u", path, (unsigned)st->st_uid);
        vr_error_next(error, "'chown root %s'", path);
    } else if (st->st_mode & 0022) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s can be written to by others", path);
        vr_error_next(error, "'chmod go-w %s'", path);
    } else {
        return TRUE;
    }
    return FALSE;
}

static VrConfig *with_defaults(void)
{
    VrConfig *config = g_new0(VrConfig, 1);

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        if (*rows[i].key.initial)
            set(config, i, rows[i].key.initial, NULL);
    return config;
}

static gboolean load(VrConfig *config, const char *path, GError **error)
{
    VrPayload bytes = {0};
    struct stat st;
    gboolean ok;

    if (stat(path, &st) < 0) {
        int failed = errno;
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "the configuration %s cannot be read", path);
        vr_error_cause(error, "%s", g_strerror(failed));
        return FALSE;
    }
    if (!check_writers(path, &st, error) || !vr_host_file_read(path, MAX_BYTES, &bytes, NULL, error))
        return FALSE;
    ok = parse(config, &bytes, error);
    vr_payload_clear(&bytes);
    if (!ok)
        g_prefix_error(error, "%s: ", path);
    return ok;
}

VrConfig *vr_config_load(const char *path, GError **error)
{
    g_autoptr(VrConfig) config = with_defaults();
    const char *named = path ? path : g_getenv("VIRT_REIMAGE_CONF");

    if (!named && !g_file_test(VR_CONFIG_DEFAULT_PATH, G_FILE_TEST_EXISTS))
        return g_steal_pointer(&config);
    config->path = g_strdup(named ? named : VR_CONFIG_DEFAULT_PATH);
    return load(config, config->path, error) ? g_steal_pointer(&config) : NULL;
}

void vr_config_free(VrConfig *config)
{
    if (!config)
        return;
    g_free(config->path);
    g_free(config->uri);
    g_free(config->root);
    g_free(config->drop_directory);
    g_free(config->hooks);
    g_free(config->webhook);
    g_free(config->webhook_secret_file);
    g_free(config->webhook_ca_file);
    g_free(config->textfile);
    g_free(config);
}
