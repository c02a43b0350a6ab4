/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules for what is written are those of disk/personalize.h, asked about one thing at a time, so that a refusal has its line. */
#include "orchestrator/model_offline.h"

#include "disk/personalize.h"
#include "disk/ssh_key.h"
#include "orchestrator/host_name.h"
#include "orchestrator/model_profile.h"
#include "orchestrator/template.h"

#include <string.h>

#define OFFLINE "osProfile.offlineConfiguration"
#define CARRY "osProfile.carryOver"
#define ITEMS_MAX 64
#define MODE_DEFAULT 0600
#define HOST_NAME_LENGTH 63 /* of what disk/personalize.h writes */
#define MACHINE_ID_LENGTH 32

static VrPersonal *nothing(void)
{
    return vr_personal_new(NULL, VR_FORMAT_QCOW2);
}

static gboolean check_personal(VrModelParser *parser, guint line, const VrPersonal *personal, GError **error)
{
    g_autoptr(GError) why = NULL;

    return vr_personal_check(personal, &why) || vr_model_fail(parser, line, error, "%s", why->message);
}

static gboolean check_path(VrModelParser *parser, guint line, const char *path, GError **error)
{
    g_autoptr(VrPersonal) personal = nothing();

    vr_personal_add_file(personal->files, path, MODE_DEFAULT, NULL, "", 0);
    return check_personal(parser, line, personal, error);
}

/* --- single values ------------------------------------------------------------------------------------- */

static gboolean parse_timezone(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                               GError **error)
{
    g_autoptr(VrPersonal) personal = nothing();

    if (!vr_model_text(parser, value, key, target, error))
        return FALSE;
    personal->timezone = g_strdup(*(char **)target);
    return check_personal(parser, value->line, personal, error);
}

static gboolean parse_directory(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!vr_model_host_file(parser, value, key, target, error))
        return FALSE;
    return vr_template_check(*(char **)target, &why) || vr_model_fail(parser, value->line, error, "%s", why->message);
}

static gboolean parse_script(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error)
{
    const VrProfileData *data = target;

    if (!vr_model_profile_data(parser, value, key, target, error))
        return FALSE;
    return data->text == NULL || g_str_has_prefix(data->text, "#!") ||
           vr_model_fail(parser, value->line, error, "its text must begin with '#!' and an interpreter");
}

/* --- keys of users ------------------------------------------------------------------------------------- */

#define KEY(field) G_STRUCT_OFFSET(VrOfflineKey, field)

static const VrModelKey key_keys[] = {
    {.name = "user", .parse = vr_model_text, .offset = KEY(user)},
    {.name = "keyData", .parse = vr_model_text, .offset = KEY(key.data), .check = vr_ssh_key_check},
    {.name = "file", .parse = vr_model_host_file, .offset = KEY(key.file)},
    {0},
};

static void key_free(gpointer data)
{
    VrOfflineKey *key = data;

    g_free(key->user);
    g_free(key->key.data);
    g_free(key->key.file);
    g_free(key);
}

static gboolean parse_key(VrModelParser *parser, const VrYamlNode *item, GPtrArray *keys, GError **error)
{
    VrOfflineKey *key = g_new0(VrOfflineKey, 1);
    g_autoptr(VrPersonal) personal = nothing();

    g_ptr_array_add(keys, key);
    if (!vr_model_keys(parser, item, key_keys, key, error))
        return FALSE;
    if (key->user == NULL)
        return vr_model_fail(parser, item->line, error, "user is missing");
    if ((key->key.data == NULL) == (key->key.file == NULL))
        return vr_model_fail(parser, item->line, error, "must have one of keyData and file");
    vr_personal_add_key(personal, key->user, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA");
    return check_personal(parser, item->line, personal, error);
}

/* --- lists --------------------------------------------------------------------------------------------- */

typedef gboolean (*ParseItem)(VrModelParser *parser, const VrYamlNode *item, GPtrArray *all, GError **error);

static gboolean parse_items(VrModelParser *parser, const VrYamlNode *value, ParseItem parse, GPtrArray *all,
                            const char *must, GError **error)
{
    gsize length = parser->path->len;

    if (value->kind != VR_YAML_LIST || value->values->len > ITEMS_MAX)
        return vr_model_fail(parser, value->line, error, "must be a list of at most %u %s", ITEMS_MAX, must);
    for (guint i = 0; i < value->values->len; i++) {
        g_string_append_printf(parser->path, "[%u]", i);
        if (!parse(parser, value->values->pdata[i], all, error))
            return FALSE;
        g_string_truncate(parser->path, length);
    }
    return TRUE;
}

static gboolean parse_keys(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                           GError **error)
{
    return parse_items(parser, value, parse_key, *(GPtrArray **)target, "keys ({user: USER, keyData: KEY})", error);
}

/* --- files --------------------------------------------------------------------------------------------- */

#define FIELD(field) G_STRUCT_OFFSET(VrOfflineFile, field)
#define CONTENT                                                                                                        \
    {.name = "source", .parse = vr_model_host_file, .offset = FIELD(content.file)},                                    \
        {.name = "text", .parse = vr_model_text, .offset = FIELD(content.text)},                                       \
        {.name = "template", .parse = vr_model_boolean, .offset = FIELD(content.is_template)},                         \
    {                                                                                                                  \
        .name = "path", .parse = vr_model_text, .offset = FIELD(path)                                                  \
    }

static const VrModelKey file_keys[] = {
    CONTENT,
    {.name = "mode", .parse = vr_model_mode, .offset = FIELD(mode)},
    {.name = "owner", .parse = vr_model_text, .offset = FIELD(owner)},
    {0},
};

static const VrModelKey network_keys[] = {
    CONTENT,
    {0},
};

static void file_free(gpointer data)
{
    VrOfflineFile *file = data;

    vr_model_data_clear(&file->content);
    g_free(file->path);
    g_free(file->owner);
    g_free(file);
}

static VrOfflineFile *parse_content(VrModelParser *parser, const VrYamlNode *item, const VrModelKey *keys,
                                    GPtrArray *files, GError **error)
{
    VrOfflineFile *file = g_new0(VrOfflineFile, 1);

    g_ptr_array_add(files, file);
    file->mode = MODE_DEFAULT;
    file->content.line = item->line;
    if (!vr_model_keys(parser, item, keys, file, error) ||
        !vr_model_check_data(parser, &file->content, "source", error))
        return NULL;
    if (file->path == NULL)
        vr_model_fail(parser, item->line, error, "path is missing");
    return file->path != NULL ? file : NULL;
}

static gboolean parse_file(VrModelParser *parser, const VrYamlNode *item, GPtrArray *files, GError **error)
{
    const VrOfflineFile *file = parse_content(parser, item, file_keys, files, error);
    g_autoptr(VrPersonal) personal = nothing();

    if (file == NULL)
        return FALSE;
    vr_personal_add_file(personal->files, file->path, file->mode, file->owner, "", 0);
    return check_personal(parser, item->line, personal, error);
}

static gboolean parse_network_file(VrModelParser *parser, const VrYamlNode *item, GPtrArray *files, GError **error)
{
    const VrOfflineFile *file = parse_content(parser, item, network_keys, files, error);
    g_autoptr(VrPersonal) personal = nothing();

    if (file == NULL)
        return FALSE;
    vr_personal_add_file(personal->network, file->path, file->mode, NULL, "", 0);
    return check_personal(parser, item->line, personal, error);
}

static gboolean parse_files(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                            GError **error)
{
    return parse_items(parser, value, parse_file, *(GPtrArray **)target, "files ({source: FILE, path: PATH})", error);
}

static gboolean parse_network(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                              GError **error)
{
    return parse_items(parser, value, parse_network_file, *(GPtrArray **)target, "files ({source: FILE, path: PATH})",
                       error);
}

/* --- all of it ----------------------------------------------------------------------------------------- */

#define PROFILE(field) G_STRUCT_OFFSET(VrOfflineProfile, field)

const VrModelKey vr_model_offline_keys[] = {
    {.name = "hostname", .parse = vr_model_text, .offset = PROFILE(hostname)},
    {.name = "machineId", .parse = vr_model_text, .offset = PROFILE(machine_id)},
    {.name = "timezone", .parse = parse_timezone, .offset = PROFILE(timezone)},
    {.name = "sshHostKeys", .parse = parse_directory, .offset = PROFILE(host_key_dir)},
    {.name = "authorizedKeys", .parse = parse_keys, .offset = PROFILE(authorized)},
    {.name = "files", .parse = parse_files, .offset = PROFILE(files)},
    {.name = "networkFiles", .parse = parse_network, .offset = PROFILE(network_files)},
    {.name = "firstBoot", .parse = parse_script, .offset = PROFILE(first_boot), .data = vr_model_data_keys},
    {.name = "unattend", .parse = vr_model_profile_data, .offset = PROFILE(unattend), .data = vr_model_data_keys},
    {.name = "selinuxRelabel", .parse = vr_model_boolean_not, .offset = PROFILE(no_relabel)},
    {0},
};

void vr_model_offline_init(VrOsProfile *profile)
{
    profile->offline.authorized = g_ptr_array_new_with_free_func(key_free);
    profile->offline.files = g_ptr_array_new_with_free_func(file_free);
    profile->offline.network_files = g_ptr_array_new_with_free_func(file_free);
    profile->carry.what = g_new0(char *, 1);
}

void vr_model_offline_clear(VrOsProfile *profile)
{
    VrOfflineProfile *offline = &profile->offline;

    g_free(offline->hostname);
    g_free(offline->machine_id);
    g_free(offline->timezone);
    g_free(offline->host_key_dir);
    g_ptr_array_unref(offline->authorized);
    g_ptr_array_unref(offline->files);
    g_ptr_array_unref(offline->network_files);
    vr_model_data_clear(&offline->first_boot);
    vr_model_data_clear(&offline->unattend);
    g_strfreev(profile->carry.what);
}

/* --- what is carried over ------------------------------------------------------------------------------ */

const VrModelChoice vr_model_carry_sources[] = {{"guest", FALSE}, {"disk", TRUE}, {0}};

/* As it is documented; NULL: it is no word. */
static const char *carry_word(const char *text)
{
    static const char *const words[] = {VR_CARRY_HOST_KEYS, VR_CARRY_MACHINE_ID};

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        if (g_ascii_strcasecmp(text, words[i]) == 0)
            return words[i];
    return NULL;
}

static gboolean parse_carried(VrModelParser *parser, const VrYamlNode *item, GPtrArray *all, GError **error)
{
    const char *word = item->kind == VR_YAML_SCALAR ? carry_word(item->text) : NULL;

    if (item->kind != VR_YAML_SCALAR || (word == NULL && item->text[0] != '/'))
        return vr_model_fail(parser, item->line, error,
                             "must be " VR_CARRY_HOST_KEYS ", " VR_CARRY_MACHINE_ID
                             " or the absolute path of a file or directory in the "
                             "guest");
    g_ptr_array_add(all, g_strdup(word != NULL ? word : item->text));
    return word != NULL || check_path(parser, item->line, item->text, error);
}

gboolean vr_model_carry(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                        GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);

    if (!parse_items(parser, value, parse_carried, all, "of " VR_CARRY_HOST_KEYS ", " VR_CARRY_MACHINE_ID " and paths",
                     error))
        return FALSE;
    g_strfreev(*(char ***)target);
    g_ptr_array_add(all, NULL);
    *(char ***)target = (char **)g_ptr_array_free(g_steal_pointer(&all), FALSE);
    return TRUE;
}

/* --- nothing is written twice -------------------------------------------------------------------------- */

typedef struct {
    const char *path; /* in the guest */
    char *key;        /* that asks for it */
} Claim;

typedef struct {
    VrModelParser *parser;
    GArray *claims; /* Claim */
} Claims;

static void claim_clear(void *claim)
{
    g_free(((Claim *)claim)->key);
}

static gboolean is_beneath(const char *path, const char *directory)
{
    gsize length = strlen(directory);

    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* A directory that is carried over has all that lies beneath it. */
static gboolean claim(Claims *all, const char *path, const char *key, guint line, GError **error)
{
    Claim made = {path, g_strdup(key)};

    for (guint i = 0; i < all->claims->len; i++) {
        const Claim *other = &g_array_index(all->claims, Claim, i);
        if (!is_beneath(path, other->path) && !is_beneath(other->path, path))
            continue;
        g_string_assign(all->parser->path, key);
        g_free(made.key);
        return vr_model_fail(all->parser, line, error, "%s would be written twice: %s, too, writes %s", path,
                             other->key, other->path);
    }
    g_array_append_val(all->claims, made);
    return TRUE;
}

static gboolean claim_all(Claims *all, const char *const *paths, const char *key, guint line, GError **error)
{
    for (; *paths != NULL; paths++)
        if (!claim(all, *paths, key, line, error))
            return FALSE;
    return TRUE;
}

static const char *const name_paths[] = {"/etc/hostname", "/etc/hosts", NULL};
static const char *const id_paths[] = {"/etc/machine-id", "/var/lib/dbus/machine-id", NULL};
static const char *const zone_paths[] = {"/etc/localtime", "/etc/timezone", NULL};
static const char *const key_paths[] = {"/etc/ssh/ssh_host_rsa_key",
                                        "/etc/ssh/ssh_host_rsa_key.pub",
                                        "/etc/ssh/ssh_host_ecdsa_key",
                                        "/etc/ssh/ssh_host_ecdsa_key.pub",
                                        "/etc/ssh/ssh_host_ed25519_key",
                                        "/etc/ssh/ssh_host_ed25519_key.pub",
                                        NULL};

static gboolean claim_values(Claims *all, const VrOfflineProfile *offline, GError **error)
{
    const struct {
        const char *value, *key;
        const char *const *paths;
    } rows[] = {{offline->hostname, OFFLINE ".hostname", name_paths},
                {offline->machine_id, OFFLINE ".machineId", id_paths},
                {offline->timezone, OFFLINE ".timezone", zone_paths},
                {offline->host_key_dir, OFFLINE ".sshHostKeys", key_paths}};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].value != NULL &&
            !claim_all(all, rows[i].paths, rows[i].key, vr_model_line(all->parser, rows[i].key), error))
            return FALSE;
    return TRUE;
}

static gboolean claim_files(Claims *all, const GPtrArray *files, const char *list, GError **error)
{
    for (guint i = 0; i < files->len; i++) {
        const VrOfflineFile *file = files->pdata[i];
        g_autofree char *key = g_strdup_printf("%s[%u]", list, i);
        if (!claim(all, file->path, key, file->content.line, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean claim_carried(Claims *all, char *const *what, GError **error)
{
    guint line = vr_model_line(all->parser, CARRY);

    for (guint i = 0; what[i] != NULL; i++) {
        const char *const itself[] = {what[i], NULL};
        const char *const *paths = g_str_equal(what[i], VR_CARRY_HOST_KEYS)    ? key_paths
                                   : g_str_equal(what[i], VR_CARRY_MACHINE_ID) ? id_paths
                                                                               : itself;
        g_autofree char *key = g_strdup_printf(CARRY "[%u]", i);
        if (!claim_all(all, paths, key, line, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean check_claims(VrModelParser *parser, const VrOsProfile *profile, GError **error)
{
    g_autoptr(GArray) claims = g_array_new(FALSE, FALSE, sizeof(Claim));
    Claims all = {parser, claims};

    g_array_set_clear_func(claims, claim_clear);
    return claim_values(&all, &profile->offline, error) &&
           claim_files(&all, profile->offline.files, OFFLINE ".files", error) &&
           claim_files(&all, profile->offline.network_files, OFFLINE ".networkFiles", error) &&
           claim_carried(&all, profile->carry.what, error);
}

/* --- instances ----------------------------------------------------------------------------------------- */

static const char *check_host_name(const char *name)
{
    return strlen(name) > HOST_NAME_LENGTH ? "is longer than the 63 characters that are written"
                                           : vr_host_name_check(name);
}

char *vr_machine_id_of(const char *text)
{
    g_autofree char *id = g_ascii_strdown(text, -1);

    if (g_str_equal(id, "new"))
        return g_strdup("");
    if (g_uuid_string_is_valid(id)) {
        g_auto(GStrv) parts = g_strsplit(id, "-", -1);
        g_free(id);
        id = g_strjoinv("", parts);
    }
    if (strlen(id) != MACHINE_ID_LENGTH || strspn(id, "0123456789abcdef") != MACHINE_ID_LENGTH ||
        strspn(id, "0") == MACHINE_ID_LENGTH)
        return NULL;
    return g_steal_pointer(&id);
}

static const char *check_machine_id(const char *text)
{
    g_autofree char *id = vr_machine_id_of(text);

    return id != NULL ? NULL : "is no machine-id: new, or 32 hexadecimal digits, not all 0, or a UUID";
}

static gboolean check_ids(VrModelParser *parser, const VrModel *model, GError **error)
{
    const char *id = model->os_profile.offline.machine_id;

    if (id == NULL)
        return TRUE;
    if (model->instances->len > 1 && g_ascii_strcasecmp(id, "new") != 0 && strstr(id, "@{instance.") == NULL)
        return vr_model_fail_at(parser, OFFLINE ".machineId",
                                "is the same for all instances: give it a field, such as @{instance.uuid}, or new",
                                error);
    return vr_model_check_for_each(parser, model, OFFLINE ".machineId", id, check_machine_id, error);
}

char **vr_model_offline_given(const VrOfflineProfile *offline)
{
    const struct {
        const char *key;
        gboolean given;
    } rows[] = {{"hostname", offline->hostname != NULL},
                {"machineId", offline->machine_id != NULL},
                {"timezone", offline->timezone != NULL},
                {"sshHostKeys", offline->host_key_dir != NULL},
                {"authorizedKeys", offline->authorized != NULL && offline->authorized->len > 0},
                {"files", offline->files != NULL && offline->files->len > 0},
                {"networkFiles", offline->network_files != NULL && offline->network_files->len > 0},
                {"firstBoot", offline->first_boot.line != 0},
                {"unattend", offline->unattend.line != 0}};
    g_autoptr(GStrvBuilder) keys = g_strv_builder_new();

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].given)
            g_strv_builder_add(keys, rows[i].key);
    return g_strv_builder_end(keys);
}

/* Of Windows nothing else can be written, nor carried over. */
static gboolean check_unattend(VrModelParser *parser, const VrOsProfile *profile, char *const *given, GError **error)
{
    if (profile->offline.unattend.line == 0 || (given[1] == NULL && profile->carry.what[0] == NULL))
        return TRUE;
    g_string_assign(parser->path, OFFLINE ".unattend");
    return vr_model_fail(parser, profile->offline.unattend.line, error,
                         "is for Windows, where nothing else is written: it goes without %s",
                         given[1] != NULL ? given[0] : "carryOver");
}

gboolean vr_model_check_offline(VrModelParser *parser, VrModel *model, GError **error)
{
    VrOfflineProfile *offline = &model->os_profile.offline;

    g_auto(GStrv) given = vr_model_offline_given(offline);

    if (given[0] != NULL)
        offline->line = vr_model_line(parser, OFFLINE);
    if (vr_model_line(parser, CARRY "From") != 0 && model->os_profile.carry.what[0] == NULL)
        return vr_model_fail_at(parser, CARRY "From", "goes with carryOver, which names nothing", error);
    if (given[0] != NULL && !check_unattend(parser, &model->os_profile, given, error))
        return FALSE;
    return (offline->hostname == NULL ||
            vr_model_check_for_each(parser, model, OFFLINE ".hostname", offline->hostname, check_host_name, error)) &&
           check_ids(parser, model, error) && check_claims(parser, &model->os_profile, error);
}

/* --- as texts ------------------------------------------------------------------------------------------ */

char *vr_model_offline_files_text(const GPtrArray *files)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < files->len; i++) {
        const VrOfflineFile *file = files->pdata[i];
        g_autofree char *content = vr_model_data_text(&file->content);
        g_string_append_printf(text, "%s%s %04o %s: %s", i > 0 ? "; " : "", file->path, file->mode,
                               file->owner != NULL ? file->owner : "root:root", content);
    }
    return g_string_free(text, text->len == 0);
}

char *vr_model_offline_keys_text(const GPtrArray *keys)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < keys->len; i++) {
        const VrOfflineKey *one = keys->pdata[i];
        g_string_append_printf(text, "%s%s: %s%s", i > 0 ? ", " : "", one->user, one->key.file != NULL ? "file " : "",
                               one->key.file != NULL ? one->key.file : one->key.data);
    }
    return g_string_free(text, text->len == 0);
}
