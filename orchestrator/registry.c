/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/registry.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/near.h"
#include "orchestrator/model_change.h"
#include "orchestrator/outbox.h"
#include "orchestrator/planner.h"
#include "orchestrator/registry_auto.h"

static const char *const schema[] = {
    "CREATE TABLE sets (name TEXT PRIMARY KEY, text TEXT NOT NULL, defined_us INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE instances ("
    "  uuid TEXT PRIMARY KEY, set_name TEXT NOT NULL, domain TEXT NOT NULL, ordinal INTEGER NOT NULL,"
    "  upgrade_domain INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX instances_set ON instances (set_name, ordinal);"
    "CREATE TABLE runs ("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, set_name TEXT NOT NULL, kind INTEGER NOT NULL,"
    "  status INTEGER NOT NULL, image TEXT, version TEXT, started_by TEXT NOT NULL, reason TEXT,"
    "  started_us INTEGER NOT NULL, completed_us INTEGER NOT NULL DEFAULT 0, error_code TEXT, error_text TEXT);"
    "CREATE INDEX runs_set ON runs (set_name);"
    "CREATE TABLE run_instances ("
    "  run_id TEXT NOT NULL REFERENCES runs (id), ordinal INTEGER NOT NULL, uuid TEXT NOT NULL, domain TEXT NOT NULL,"
    "  batch INTEGER NOT NULL, phase INTEGER NOT NULL, reason TEXT, swap_id TEXT,"
    "  PRIMARY KEY (run_id, uuid)) WITHOUT ROWID;",
    /* 2: runs that outlive their process */
    "ALTER TABLE runs ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE runs ADD COLUMN state TEXT;"
    "ALTER TABLE run_instances ADD COLUMN to_generation INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE run_instances ADD COLUMN canary INTEGER NOT NULL DEFAULT 0;",
    /* 3: revisions of models */
    "ALTER TABLE sets ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE instances ADD COLUMN joined_revision INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE run_instances ADD COLUMN image TEXT;"
    "ALTER TABLE run_instances ADD COLUMN version TEXT;",
    /* 4: the set's current version (D29), and the role that a run was for */
    "ALTER TABLE sets ADD COLUMN current_image TEXT;"
    "ALTER TABLE sets ADD COLUMN current_version TEXT;"
    "ALTER TABLE runs ADD COLUMN role TEXT;",
    /* 5: protected by a command (G7); protected_us 0: not */
    "ALTER TABLE instances ADD COLUMN protected_us INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE instances ADD COLUMN protected_reason TEXT;",
    /* 6: what became of extensions (extension_results.h) */
    "CREATE TABLE extensions ("
    "  uuid TEXT NOT NULL, generation INTEGER NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL,"
    "  status INTEGER NOT NULL, exit_status INTEGER NOT NULL, suppressed INTEGER NOT NULL, text TEXT NOT NULL, output "
    "TEXT,"
    "  started_us INTEGER NOT NULL, duration_ms INTEGER NOT NULL, PRIMARY KEY (uuid, generation, name)) WITHOUT "
    "ROWID;",
    /* 7: sums over all runs that ended (tallies.h) */
    "ALTER TABLE runs ADD COLUMN tallied INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE run_tallies ("
    "  set_name TEXT NOT NULL, kind INTEGER NOT NULL, status INTEGER NOT NULL, count INTEGER NOT NULL,"
    "  PRIMARY KEY (set_name, kind, status)) WITHOUT ROWID;"
    "CREATE TABLE span_tallies ("
    "  set_name TEXT NOT NULL, span INTEGER NOT NULL, bound_ms INTEGER NOT NULL, count INTEGER NOT NULL,"
    "  sum_ms INTEGER NOT NULL, PRIMARY KEY (set_name, span, bound_ms)) WITHOUT ROWID;",
    /* 8: what is told to those outside (outbox.h) */
    VR_OUTBOX_TABLES,
    /* 9: what begins by itself (trigger.h) */
    "ALTER TABLE sets ADD COLUMN automatic INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE sets ADD COLUMN automatic_us INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE sets ADD COLUMN automatic_reason TEXT;"
    "ALTER TABLE sets ADD COLUMN word_run INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE sets ADD COLUMN tried_image TEXT;"
    "ALTER TABLE sets ADD COLUMN tried_version TEXT;"
    "ALTER TABLE sets ADD COLUMN tried_text TEXT;"
    "ALTER TABLE sets ADD COLUMN tried_us INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE runs ADD COLUMN automatic INTEGER NOT NULL DEFAULT 0;"};

gboolean vr_registry_init(VrDb *db, GError **error)
{
    return vr_db_schema(db, "orchestrator", schema, G_N_ELEMENTS(schema), error);
}

static void instance_free(gpointer data)
{
    VrInstance *instance = data;

    g_free(instance->domain);
    g_free(instance->protected_reason);
    g_free(instance);
}

void vr_set_free(VrSet *set)
{
    if (!set)
        return;
    g_free(set->name);
    g_free(set->text);
    g_free(set->unreadable);
    g_free(set->current_image);
    g_free(set->current_version);
    g_free(set->automatic_reason);
    g_free(set->tried_image);
    g_free(set->tried_version);
    g_free(set->tried_text);
    g_clear_pointer(&set->model, vr_model_free);
    g_clear_pointer(&set->instances, g_ptr_array_unref);
    g_free(set);
}

/* --- define ------------------------------------------------------------------------------------------ */

/* D7, D8: by role. */
static void give_upgrade_domains(GPtrArray *instances, const VrModel *model)
{
    g_autofree VrLabel *roles = g_new(VrLabel, instances->len);
    g_autofree guint *domains = g_new(guint, instances->len);

    for (guint i = 0; i < instances->len; i++)
        roles[i] = ((const VrModelInstance *)model->instances->pdata[i])->role;
    vr_planner_spread(roles, instances->len, model->upgrade_domain_count, domains);
    for (guint i = 0; i < instances->len; i++)
        ((VrInstance *)instances->pdata[i])->upgrade_domain = domains[i];
}

/* Looks every instance up before anything is written. */
static GPtrArray *resolve(VrHv *hv, const VrModel *model, const char *file_name, GError **error)
{
    g_autoptr(GPtrArray) instances = g_ptr_array_new_with_free_func(instance_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < model->instances->len; i++) {
        const VrModelInstance *wanted = g_ptr_array_index(model->instances, i);
        VrInstance *instance = g_new0(VrInstance, 1);
        g_auto(VrDomainInfo) info = {0};

        g_ptr_array_add(instances, instance);
        if (!vr_hv_lookup(hv, wanted->domain, instance->uuid, error) || !vr_hv_info(hv, instance->uuid, &info, error)) {
            g_prefix_error(error, "%s:%u: instance '%s': ", file_name, wanted->line, wanted->domain);
            return NULL;
        }
        instance->domain = g_steal_pointer(&info.name);
        if (!g_hash_table_add(seen, instance->uuid)) {
            g_set_error(error, VR_ERROR, VR_ERROR_USAGE,
                        "%s:%u: instance '%s' is domain '%s', which stands in the list already", file_name,
                        wanted->line, wanted->domain, instance->domain);
            return NULL;
        }
    }
    give_upgrade_domains(instances, model);
    return g_steal_pointer(&instances);
}

/* An instance keeps the upgrade domain it has and the protection that a command gave it, and belongs to one set. */
static gboolean keep_what_it_has(VrDb *db, const char *set_name, guint count, VrInstance *instance, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error,
                      "SELECT set_name, upgrade_domain, joined_revision, protected_us, protected_reason FROM instances "
                      "WHERE uuid = ?",
                      "s", instance->uuid);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;
    guint kept;

    if (row <= 0)
        return row == 0;
    if (!g_str_equal((const char *)sqlite3_column_text(stmt, 0), set_name)) {
        const char *other = (const char *)sqlite3_column_text(stmt, 0);
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "'%s' belongs to set '%s'", instance->domain, other);
        vr_error_now(error, "a guest is in one set only");
        vr_error_next(error,
                      "take it out there first: 'virt-reimage set-edit %s'; where it is the last one, 'virt-reimage "
                      "set-undefine %s'",
                      other, other);
        return FALSE;
    }
    kept = (guint)sqlite3_column_int64(stmt, 1);
    if (kept < count)
        instance->upgrade_domain = kept;
    instance->joined_revision = (guint)sqlite3_column_int64(stmt, 2);
    instance->protected_us = sqlite3_column_int64(stmt, 3);
    instance->protected_reason = vr_db_text(stmt, 4);
    return TRUE;
}

/* The revision that the set has, 0 when there is no such set; *newer: the model that takes its place needs a higher one. What
 * this program cannot read may differ in anything. */
static gboolean read_revision(VrDb *db, const VrModel *model, guint *revision, gboolean *newer, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        vr_db_prepare(db, error, "SELECT text, revision FROM sets WHERE name = ?", "s", model->name);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;
    g_autoptr(VrModel) before = NULL;
    g_autofree char *text = row == 1 ? vr_db_text(stmt, 0) : NULL;

    *revision = row == 1 ? (guint)sqlite3_column_int64(stmt, 1) : 0;
    if (text)
        before = vr_model_parse(text, strlen(text), model->name, NULL);
    *newer = text && (!before || vr_model_needs_revision(before, model));
    return row >= 0;
}

static gboolean give_revision(VrJournal *journal, const VrModel *model, GPtrArray *instances, guint *revision,
                              GError **error)
{
    gboolean newer;

    if (!read_revision(vr_journal_db(journal), model, revision, &newer, error))
        return FALSE;
    for (guint i = 0; newer && i < instances->len; i++) {
        guint highest;
        if (!vr_journal_last_revision(journal, ((const VrInstance *)instances->pdata[i])->uuid, &highest, error))
            return FALSE;
        *revision = MAX(*revision, highest);
    }
    *revision = newer || *revision == 0 ? *revision + 1 : *revision;
    for (guint i = 0; i < instances->len; i++) {
        VrInstance *instance = instances->pdata[i];
        instance->joined_revision = instance->joined_revision ? instance->joined_revision : *revision;
    }
    return TRUE;
}

static gboolean write_set(VrJournal *journal, const VrModel *model, const char *text, GPtrArray *instances,
                          GError **error)
{
    VrDb *db = vr_journal_db(journal);
    guint revision;

    for (guint i = 0; i < instances->len; i++)
        if (!keep_what_it_has(db, model->name, model->upgrade_domain_count, g_ptr_array_index(instances, i), error))
            return FALSE;
    if (!give_revision(journal, model, instances, &revision, error) ||
        !vr_registry_auto_edited(db, model->name, text, error))
        return FALSE;
    if (!vr_db_run(db, NULL, error,
                   "INSERT INTO sets (name, text, defined_us, revision) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO "
                   "UPDATE SET text = excluded.text, defined_us = excluded.defined_us, revision = excluded.revision",
                   "ssii", model->name, text, vr_clock_wall_us(), (gint64)revision) ||
        !vr_db_run(db, NULL, error, "DELETE FROM instances WHERE set_name = ?", "s", model->name))
        return FALSE;
    for (guint i = 0; i < instances->len; i++) {
        const VrInstance *instance = g_ptr_array_index(instances, i);
        if (!vr_db_run(db, NULL, error,
                       "INSERT INTO instances (uuid, set_name, domain, ordinal, upgrade_domain, joined_revision, "
                       "protected_us, protected_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                       "sssiiiis", instance->uuid, model->name, instance->domain, (gint64)i,
                       (gint64)instance->upgrade_domain, (gint64)instance->joined_revision, instance->protected_us,
                       instance->protected_reason))
            return FALSE;
    }
    return TRUE;
}

gboolean vr_registry_define(VrJournal *journal, const VrOwner *owner, VrHv *hv, const VrModel *model, const char *text,
                            const char *file_name, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    g_autoptr(GPtrArray) instances = resolve(hv, model, file_name, error);

    if (!instances || !vr_owner_begin(journal, owner, error))
        return FALSE;
    if (write_set(journal, model, text, instances, error))
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    return FALSE;
}

static void set_not_found(VrDb *db, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = vr_registry_list(db, error);
    g_autofree char *list = NULL;
    const char *meant;

    if (!names)
        return;
    meant = vr_near(name, (const char *const *)names->pdata, names->len);
    g_ptr_array_add(names, NULL);
    list = g_strjoinv(", ", (char **)names->pdata);
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "there is no set '%s'", name);
    vr_error_now(error, "%s%s", *list ? "there are: " : "none is defined yet", list);
    if (meant)
        vr_error_next(error, "did you mean '%s'? 'virt-reimage set-list' shows all", meant);
    else if (*list)
        vr_error_next(error, "'virt-reimage set-list' shows them");
    else
        vr_error_next(error, "'virt-reimage set-define FILE' defines one");
}

gboolean vr_registry_undefine(VrJournal *journal, const VrOwner *owner, const char *name, GError **error)
{
    VrDb *db = vr_journal_db(journal);
    int changes = 0;

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    if (vr_db_run(db, NULL, error, "DELETE FROM instances WHERE set_name = ?", "s", name) &&
        vr_db_run(db, &changes, error, "DELETE FROM sets WHERE name = ?", "s", name) && changes == 1)
        return vr_db_commit(db, error);
    vr_db_rollback(db);
    if (changes == 0 && error && !*error)
        set_not_found(db, name, error);
    return FALSE;
}

/* The instances after it move up: their order is that of the text. */
static gboolean remove_instance(VrDb *db, const VrSet *set, const VrInstance *instance, GError **error)
{
    return vr_db_run(db, NULL, error,
                     "UPDATE instances SET ordinal = ordinal - 1 WHERE set_name = ?1 AND ordinal > "
                     "(SELECT ordinal FROM instances WHERE uuid = ?2 AND set_name = ?1)",
                     "ss", set->name, instance->uuid) &&
           vr_db_run(db, NULL, error, "DELETE FROM instances WHERE set_name = ? AND uuid = ?", "ss", set->name,
                     instance->uuid);
}

gboolean vr_registry_leave(VrDb *db, const VrSet *set, const VrInstance *instance, const char *text, GError **error)
{
    int changes = 0;
    gboolean ok = text ? vr_db_run(db, &changes, error, "UPDATE sets SET text = ? WHERE name = ? AND text = ?", "sss",
                                   text, set->name, set->text)
                       : vr_db_run(db, &changes, error, "DELETE FROM sets WHERE name = ? AND text = ?", "ss", set->name,
                                   set->text);

    if (!ok)
        return FALSE;
    if (changes == 1)
        return remove_instance(db, set, instance, error);
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "set '%s' was defined anew meanwhile", set->name);
    return FALSE;
}

gboolean vr_registry_protect(VrJournal *journal, const VrOwner *owner, const VrSet *set, const GArray *indices,
                             gint64 since_us, const char *reason, GError **error)
{
    VrDb *db = vr_journal_db(journal);

    if (!vr_owner_begin(journal, owner, error))
        return FALSE;
    for (guint i = 0; i < indices->len; i++) {
        const VrInstance *instance = g_ptr_array_index(set->instances, g_array_index(indices, guint, i));
        if (!vr_db_run(db, NULL, error,
                       "UPDATE instances SET protected_us = ?, protected_reason = ? WHERE set_name = ? AND uuid = ?",
                       "isss", since_us, reason, set->name, instance->uuid)) {
            vr_db_rollback(db);
            return FALSE;
        }
    }
    return vr_db_commit(db, error);
}

/* --- read -------------------------------------------------------------------------------------------- */

static gboolean read_instances(VrDb *db, VrSet *set, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error,
        "SELECT uuid, domain, upgrade_domain, joined_revision, protected_us, protected_reason FROM instances WHERE "
        "set_name = ? ORDER BY ordinal",
        "s", set->name);
    int row = -1;

    while (stmt && (row = vr_db_step(db, stmt, error)) == 1) {
        VrInstance *instance = g_new0(VrInstance, 1);
        g_strlcpy(instance->uuid, (const char *)sqlite3_column_text(stmt, 0), sizeof(instance->uuid));
        instance->domain = vr_db_text(stmt, 1);
        instance->upgrade_domain = (guint)sqlite3_column_int64(stmt, 2);
        instance->joined_revision = (guint)sqlite3_column_int64(stmt, 3);
        instance->protected_us = sqlite3_column_int64(stmt, 4);
        instance->protected_reason = vr_db_text(stmt, 5);
        instance->is_protected = instance->protected_us > 0;
        g_ptr_array_add(set->instances, instance);
    }
    return row == 0;
}

/* 1 found, 0 there is none, -1 error. */
static int read_set(VrDb *db, VrSet *set, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(
        db, error, "SELECT text, defined_us, revision, current_image, current_version FROM sets WHERE name = ?", "s",
        set->name);
    int row = stmt ? vr_db_step(db, stmt, error) : -1;

    if (row != 1)
        return row;
    set->text = vr_db_text(stmt, 0);
    set->defined_us = sqlite3_column_int64(stmt, 1);
    set->revision = (guint)sqlite3_column_int64(stmt, 2);
    set->current_image = vr_db_text(stmt, 3);
    set->current_version = vr_db_text(stmt, 4);
    return vr_registry_auto_read(db, set, error) && read_instances(db, set, error) ? 1 : -1;
}

/* Both are in the order in which the model lists them. */
static void give_model(VrSet *set)
{
    const GPtrArray *listed = set->model->instances;

    for (guint i = 0; i < MIN(set->instances->len, listed->len); i++) {
        VrInstance *instance = set->instances->pdata[i];
        const VrModelInstance *said = listed->pdata[i];

        instance->pin = said->version;
        instance->role = said->role;
        instance->zone = said->zone;
        instance->pair = said->pair;
        instance->phase = said->phase;
        instance->model_protects = said->is_protected;
        instance->is_protected = instance->protected_us > 0 || instance->model_protects;
    }
}

VrSet *vr_registry_get_any(VrDb *db, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(VrSet) set = g_new0(VrSet, 1);
    int found;

    set->name = g_strdup(name);
    set->instances = g_ptr_array_new_with_free_func(instance_free);
    if (!vr_db_begin_read(db, error))
        return NULL;
    found = read_set(db, set, error);
    vr_db_rollback(db);
    if (found == 0)
        set_not_found(db, name, error);
    if (found != 1)
        return NULL;
    set->model = vr_model_parse(set->text, strlen(set->text), name, &why);
    if (set->model)
        give_model(set);
    else
        set->unreadable = g_strdup(why->message);
    return g_steal_pointer(&set);
}

gboolean vr_set_require_model(const VrSet *set, GError **error)
{
    if (set->model)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "this program cannot read the model of set '%s': %s", set->name,
                set->unreadable);
    vr_error_next(error, "'virt-reimage set-dump %s' prints it, 'virt-reimage set-define FILE' puts one in its place",
                  set->name);
    return FALSE;
}

VrSet *vr_registry_get(VrDb *db, const char *name, GError **error)
{
    g_autoptr(VrSet) set = vr_registry_get_any(db, name, error);

    return set && vr_set_require_model(set, error) ? g_steal_pointer(&set) : NULL;
}

GPtrArray *vr_registry_list(VrDb *db, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int row = -1;

    if (!vr_db_begin_read(db, error))
        return NULL;
    {
        g_autoptr(sqlite3_stmt) stmt = vr_db_prepare(db, error, "SELECT name FROM sets ORDER BY name", "");
        while (stmt && (row = vr_db_step(db, stmt, error)) == 1)
            g_ptr_array_add(names, vr_db_text(stmt, 0));
    }
    vr_db_rollback(db);
    return row == 0 ? g_steal_pointer(&names) : NULL;
}

gboolean vr_set_is_behind(const VrSet *set, guint index, const VrGeneration *current)
{
    const VrInstance *instance = g_ptr_array_index(set->instances, index);
    guint revision = current && current->model_revision > 0 ? current->model_revision : instance->joined_revision;

    return revision < set->revision;
}

const char *vr_set_address(const VrSet *set, guint index)
{
    const VrModelInstance *instance = g_ptr_array_index(set->model->instances, index);

    return instance->address;
}

const char *const *vr_set_protected_disks(const VrSet *set, guint index)
{
    const VrModelInstance *instance = g_ptr_array_index(set->model->instances, index);

    return (const char *const *)instance->protect_disks;
}

static const char *instance_near(const VrSet *set, const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < set->instances->len; i++)
        g_ptr_array_add(names, ((const VrInstance *)g_ptr_array_index(set->instances, i))->domain);
    return vr_near(name, (const char *const *)names->pdata, names->len);
}

int vr_set_find(const VrSet *set, const char *domain_or_uuid, GError **error)
{
    const char *meant;

    for (guint i = 0; i < set->instances->len; i++) {
        const VrInstance *instance = g_ptr_array_index(set->instances, i);
        if (g_str_equal(instance->domain, domain_or_uuid) || g_ascii_strcasecmp(instance->uuid, domain_or_uuid) == 0)
            return (int)i;
    }
    g_set_error(error, VR_ERROR, VR_ERROR_NOT_FOUND, "set '%s' has no instance '%s'", set->name, domain_or_uuid);
    meant = instance_near(set, domain_or_uuid);
    vr_error_next(error, "%s%s%s'virt-reimage set-info %s' lists them", meant ? "did you mean '" : "",
                  meant ? meant : "", meant ? "'? " : "", set->name);
    return -1;
}
