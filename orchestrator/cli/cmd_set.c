/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scale sets: list, info, dump, undefine; define is in cmd_define.c. */
#include "base/error.h"
#include "disk/disk_file.h"
#include "orchestrator/cli/automatic.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/run_view.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/cli/targets.h"
#include "orchestrator/cli/window_view.h"
#include "orchestrator/health.h"
#include "orchestrator/model_json.h"

#include <stdio.h>
#include <string.h>

/* --- set-list ---------------------------------------------------------------------------------------- */

/* "debian-12", or publisher/offer/sku. Free with g_free. */
static char *image_of(const VrModel *model)
{
    if (model->image_name)
        return g_strdup(model->image_name);
    return g_strdup_printf("%s/%s/%s", model->publisher, model->offer, model->sku);
}

static const char *mode_name(VrUpgradeMode mode)
{
    static const char *const names[] = {
        [VR_MODE_MANUAL] = "Manual", [VR_MODE_ROLLING] = "Rolling", [VR_MODE_AUTOMATIC] = "Automatic"};

    return names[mode];
}

static json_t *reference_of(const VrModel *model)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "name", vr_json_text(model->image_name), "publisher",
                     vr_json_text(model->publisher), "offer", vr_json_text(model->offer), "sku",
                     vr_json_text(model->sku), "version", vr_json_text(model->version));
}

static json_t *set_json(const VrSet *set, const VrRun *last)
{
    const VrModel *model = set->model;

    return json_pack("{s:o, s:o, s:i, s:o, s:o, s:b, s:i, s:o, s:o, s:o}", "name", vr_json_text(set->name),
                     "imageReference", model ? reference_of(model) : json_null(), "instanceCount",
                     (int)set->instances->len, "mode", vr_json_text(model ? mode_name(model->mode) : NULL), "definedAt",
                     vr_json_time(set->defined_us), "automaticOSUpgrade", vr_set_is_automatic(set), "modelRevision",
                     (int)set->revision, "currentVersion", vr_json_text(set->current_version), "lastRunCode",
                     last ? json_string(vr_run_status_name(last->status)) : json_null(), "unreadable",
                     vr_json_text(set->unreadable));
}

static gboolean list_set(const VrSession *session, const char *name, VrTable *table, json_t *list, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrSet) set = vr_registry_get_any(vr_store_db(session->store), name, error);
    g_autoptr(VrRun) last = set ? vr_history_last(vr_store_db(session->store), name, &local) : NULL;

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!set)
        return FALSE;
    if (set->unreadable)
        vr_warn(session->cli, "the model of set '%s' cannot be read by this program: %s", name, set->unreadable);
    g_autofree char *image = set->model ? image_of(set->model) : NULL;
    g_autofree char *count = vr_text_number(set->instances->len);
    g_autofree char *title = last ? vr_run_title(last) : NULL;
    g_autofree char *run = last ? g_strdup_printf("%s: %s", title, vr_run_status_name(last->status)) : NULL;
    const char *const cells[] = {
        set->name, count, image, set->model ? set->model->version : NULL, vr_set_is_automatic(set) ? "on" : "off", run};
    vr_table_row(table, cells);
    json_array_append_new(list, set_json(set, last));
    return TRUE;
}

gboolean vr_cmd_set_list(const VrCli *cli, GError **error)
{
    static const char *const headings[] = {"SET", ">INSTANCES", "IMAGE", "VERSION", "AUTO", "LAST RUN", NULL};
    g_auto(VrSession) session = {0};
    g_autoptr(GPtrArray) names = NULL;
    g_autoptr(VrTable) table = vr_table_new(cli, headings);
    g_autoptr(json_t) list = json_array();

    if (!vr_session_open_read(&session, cli, error))
        return FALSE;
    names = vr_registry_list(vr_store_db(session.store), error);
    for (guint i = 0; names && i < names->len; i++)
        if (!list_set(&session, g_ptr_array_index(names, i), table, list, error))
            return FALSE;
    if (!names)
        return FALSE;
    if (cli->options.json)
        vr_json_print(json_pack("{s:O}", "sets", list));
    else
        vr_table_print(table);
    if (names->len == 0)
        vr_tell(cli, "no set is defined yet; '%s set-define --help' says how", VR_PROGRAM);
    return TRUE;
}

/* --- set-info ---------------------------------------------------------------------------------------- */

static json_t *policy_json(const VrModel *model)
{
    const VrUpgradePolicy *policy = &model->policy;

    return json_pack("{s:i, s:i, s:i, s:o, s:b, s:b, s:b}", "maxBatchInstancePercent", (int)policy->max_batch_percent,
                     "maxUnhealthyInstancePercent", (int)policy->max_unhealthy_percent,
                     "maxUnhealthyUpgradedInstancePercent", (int)policy->max_unhealthy_upgraded_percent,
                     "pauseTimeBetweenBatchesSeconds", VR_JSON_SECONDS(policy->pause_ms),
                     "prioritizeUnhealthyInstances", policy->prioritize_unhealthy, "enableCrossZoneUpgrade",
                     policy->cross_zone, "disableAutomaticRollback", !policy->automatic_rollback);
}

static const char *batch_by(const VrUpgradePolicy *policy)
{
    return policy->by_domain ? "upgradeDomain" : "percent";
}

static json_t *argv_json(char **argv)
{
    json_t *list = argv ? json_array() : json_null();

    for (char **word = argv; word && *word; word++)
        json_array_append_new(list, vr_json_text(*word));
    return list;
}

/* What holds a run, or ends it: null where the model says nothing. */
static json_t *holds_json(const VrUpgradePolicy *policy)
{
    json_t *percent = json_array();

    for (guint i = 0; i < VR_CHECKPOINTS && policy->checkpoints[i] > 0; i++)
        json_array_append_new(percent, json_integer(policy->checkpoints[i]));
    return json_pack("{s:s, s:{s:o, s:o}, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "batchBy", batch_by(policy),
                     "checkpoints", "percent", percent, "waitSeconds", VR_JSON_SECONDS(policy->checkpoint_wait_ms),
                     "bakeTimeSeconds", VR_JSON_SECONDS(policy->bake_ms), "timeoutSeconds",
                     policy->timeout_ms > 0 ? VR_JSON_SECONDS(policy->timeout_ms) : json_null(), "maxDowntimeSeconds",
                     policy->max_off_ms > 0 ? VR_JSON_SECONDS(policy->max_off_ms) : json_null(), "maxInFlightPerHost",
                     policy->max_in_flight > 0 ? json_integer(policy->max_in_flight) : json_null(), "gate",
                     argv_json(policy->gate), "gateTimeoutSeconds", VR_JSON_SECONDS(policy->gate_timeout_ms),
                     "gateAfter", argv_json(policy->gate_after));
}

static json_t *instance_json(const VrInstance *instance)
{
    return json_pack("{s:o, s:s, s:i, s:o, s:o, s:o, s:o, s:b, s:o, s:o}", "domain", vr_json_text(instance->domain),
                     "uuid", instance->uuid, "upgradeDomain", (int)instance->upgrade_domain, "role",
                     vr_json_text(instance->role.name), "zone", vr_json_text(instance->zone.name), "phase",
                     instance->phase > 0 ? json_integer(instance->phase) : json_null(), "pair",
                     vr_json_text(instance->pair.name), "protected", instance->is_protected, "protection",
                     vr_protection_json(instance), "pinnedVersion", vr_json_text(instance->pin));
}

/* H7, H8: where guests have notice. */
static json_t *notice_json(const VrNoticeProfile *notice)
{
    if (!notice->enable)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:s, s:s}", "notBeforeSeconds", VR_JSON_SECONDS(notice->not_before_ms), "file",
                     vr_json_text(notice->file), "busyLimitSeconds",
                     notice->busy_file || notice->busy_command ? VR_JSON_SECONDS(notice->busy_limit_ms) : json_null(),
                     "onBusyLimit", notice->goes_though_busy ? "proceed" : "refuse", "withoutAgent",
                     notice->goes_without_agent ? "proceed" : "refuse");
}

static void info_json(const VrSet *set)
{
    json_t *document = set_json(set, NULL), *list = json_array();

    json_object_del(document, "lastRunCode");
    for (guint i = 0; i < set->instances->len; i++)
        json_array_append_new(list, instance_json(vr_set_instance(set, i)));
    json_object_set_new(document, "rollingUpgradePolicy", policy_json(set->model));
    json_object_set_new(document, "upgradePolicy", holds_json(&set->model->policy));
    json_object_set_new(document, "maintenanceWindow", vr_window_json(&set->model->window));
    json_object_set_new(document, "osImageNotification", notice_json(&set->model->notice));
    json_object_set_new(document, "healthTimeoutSeconds", VR_JSON_SECONDS(set->model->health.timeout_ms));
    json_object_set_new(document, "osDisk",
                        json_pack("{s:s, s:o}", "kind", vr_os_disk_kind_name(set->model->os_disk_kind), "target",
                                  vr_json_text(set->model->os_target)));
    json_object_set_new(document, "instances", list);
    vr_json_print(document);
}

static void label_duration(const VrCli *cli, const char *label, gint64 ms)
{
    g_autofree char *text = ms > 0 ? vr_text_duration(ms) : NULL;

    if (text)
        vr_label(cli, label, text);
}

/* D15, D16, D23, E11, J10: those that the model has. */
static void info_holds(const VrCli *cli, const VrUpgradePolicy *policy)
{
    g_autofree char *wait = vr_text_duration(policy->checkpoint_wait_ms);
    g_autofree char *gate = policy->gate ? g_strjoinv(" ", policy->gate) : NULL;
    g_autofree char *shown = gate ? vr_printable(gate, -1) : NULL;
    g_autofree char *back = policy->gate_after ? g_strjoinv(" ", policy->gate_after) : NULL;
    g_autofree char *after = back ? vr_printable(back, -1) : NULL;
    g_autoptr(GString) percent = g_string_new(NULL);

    for (guint i = 0; i < VR_CHECKPOINTS && policy->checkpoints[i] > 0; i++)
        g_string_append_printf(percent, "%s%u%%", i > 0 ? ", " : "", policy->checkpoints[i]);
    if (percent->len > 0)
        vr_label_format(cli, "Checkpoints", "%s, each for %s", percent->str, wait);
    label_duration(cli, "Bake time", policy->bake_ms);
    label_duration(cli, "Timeout", policy->timeout_ms);
    label_duration(cli, "Max downtime", policy->max_off_ms);
    if (policy->max_in_flight > 0)
        vr_label_format(cli, "In flight", "at most %u of a host", policy->max_in_flight);
    if (shown)
        vr_label(cli, "Gate", shown);
    if (after)
        vr_label(cli, "Gate after", after);
}

static void info_notice(const VrCli *cli, const VrNoticeProfile *notice)
{
    g_autofree char *wait = vr_text_duration(notice->not_before_ms);
    g_autofree char *file = vr_printable(notice->file, -1);

    if (notice->enable)
        vr_label_format(cli, "Notice", "%s before a guest goes down, in %s", wait, file);
}

static void info_lines(const VrCli *cli, const VrSet *set)
{
    static const char *const headings[] = {"INSTANCE", "UUID", ">UD",       "ROLE",      "ZONE",
                                           ">PHASE",   "PAIR", "PROTECTED", "PINNED TO", NULL};
    const VrUpgradePolicy *policy = &set->model->policy;
    g_autoptr(VrTable) table = vr_table_new(cli, headings);
    g_autofree char *image = image_of(set->model);
    g_autofree char *pause = vr_text_duration(policy->pause_ms);
    g_autofree char *timeout = vr_text_duration(set->model->health.timeout_ms);
    g_autofree char *defined = vr_text_time(set->defined_us);
    g_autofree char *window = vr_window_line(&set->model->window);
    g_autofree char *automatic = vr_automatic_text(set);

    vr_label(cli, "Set", set->name);
    vr_label_format(cli, "Image", "%s, version %s", image, set->model->version);
    if (set->current_version)
        vr_label_format(cli, "Current version", "%s %s", set->current_image, set->current_version);
    vr_label(cli, "Mode", mode_name(set->model->mode));
    vr_label_format(cli, "Policy", "batches of %u%%, at most %u%% unhealthy, %u%% of those upgraded%s%s",
                    policy->max_batch_percent, policy->max_unhealthy_percent, policy->max_unhealthy_upgraded_percent,
                    policy->pause_ms > 0 ? ", a pause between of " : "", policy->pause_ms > 0 ? pause : "");
    vr_label_format(cli, "Batch by", "%s%s", batch_by(policy), policy->cross_zone ? ", across zones" : "");
    info_holds(cli, policy);
    info_notice(cli, &set->model->notice);
    if (window)
        vr_label(cli, "Window", window);
    vr_label(cli, "Automatic", automatic);
    vr_label(cli, "Auto rollback", policy->automatic_rollback ? "yes" : "no");
    vr_label_format(cli, "Health", "%s, within %s", vr_health_source_text(&set->model->health), timeout);
    vr_label_format(cli, "OS disk", "%s, %s",
                    set->model->os_target ? set->model->os_target : "found in the domain's XML",
                    set->model->os_disk_kind == VR_OS_DISK_FULL ? "a full clone" : "an overlay");
    vr_label_format(cli, "Defined", "%s, model revision %u", defined, set->revision);
    for (guint i = 0; i < set->instances->len; i++) {
        const VrInstance *instance = vr_set_instance(set, i);
        g_autofree char *domain = vr_text_number(instance->upgrade_domain);
        g_autofree char *phase = instance->phase > 0 ? vr_text_number(instance->phase) : NULL;
        const char *const cells[] = {instance->domain,
                                     instance->uuid,
                                     domain,
                                     instance->role.name,
                                     instance->zone.name,
                                     phase,
                                     instance->pair.name,
                                     instance->is_protected ? "yes" : NULL,
                                     instance->pin};
        vr_table_row(table, cells);
    }
    fputc('\n', stdout);
    vr_table_print(table);
    vr_say_protected(cli, set);
}

gboolean vr_cmd_set_info(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};

    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_set(&session, cli->args[0], error))
        return FALSE;
    if (cli->options.json)
        info_json(session.set);
    else
        info_lines(cli, session.set);
    return TRUE;
}

/* --- set-dump, set-undefine -------------------------------------------------------------------------- */

static gboolean dump_json(const VrSet *set, GError **error)
{
    json_t *model = vr_model_to_json(set->text, strlen(set->text), error);

    if (model)
        vr_json_print(json_pack("{s:o, s:i, s:o, s:o, s:o}", "set", vr_json_text(set->name), "modelRevision",
                                (int)set->revision, "definedAt", vr_json_time(set->defined_us), "text",
                                vr_json_text(set->text), "model", model));
    return model != NULL;
}

gboolean vr_cmd_set_dump(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};

    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_any_set(&session, cli->args[0], error))
        return FALSE;
    if (cli->options.json)
        return dump_json(session.set, error);
    fputs(session.set->text, stdout);
    return TRUE;
}

/* What an instance is left with. */
typedef struct {
    const VrInstance *instance;
    GPtrArray *all;   /* VrGeneration *, owned */
    GPtrArray *older; /* of them, those of our making that have files, but for the current one; owned */
    const VrGeneration *current;
    VrDiskLook look; /* of the current disk, when it is of our making */
} Left;

static void left_clear(Left *left)
{
    g_clear_pointer(&left->older, g_ptr_array_unref);
    g_clear_pointer(&left->all, g_ptr_array_unref);
    vr_disk_look_clear(&left->look);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Left, left_clear)

static gboolean read_left(const VrSession *session, const VrInstance *instance, Left *left, GError **error)
{
    left->instance = instance;
    left->older = g_ptr_array_new();
    left->all = vr_journal_generations(session->journal, instance->uuid, error);
    for (guint i = 0; left->all && i < left->all->len; i++) {
        VrGeneration *generation = g_ptr_array_index(left->all, i);
        if (generation->state == VR_GENERATION_CURRENT)
            left->current = generation;
        else if (generation->ours && generation->state != VR_GENERATION_DISCARDED &&
                 generation->state != VR_GENERATION_DELETED)
            g_ptr_array_add(left->older, generation);
    }
    /* what cannot be read is shown without what lies below it */
    if (left->current && left->current->ours)
        (void)vr_disk_file_look(left->current->path, left->current->format, &left->look, NULL);
    return left->all != NULL;
}

static void say_left(const VrCli *cli, const Left *left)
{
    const char *domain = left->instance->domain;

    if (left->current && left->current->ours)
        vr_say(cli, "%s goes on as it is, on %s%s%s", domain, left->current->path,
               left->look.backing ? ", which needs " : "", left->look.backing ? left->look.backing : "");
    else
        vr_say(cli, "%s goes on as it is%s%s", domain, left->current ? ", on " : "",
               left->current ? left->current->path : "");
    for (guint i = 0; i < left->older->len; i++)
        vr_say(cli, "%s: %s stays, generation %u", domain, ((const VrGeneration *)left->older->pdata[i])->path,
               ((const VrGeneration *)left->older->pdata[i])->number);
}

static json_t *left_json(const Left *left)
{
    json_t *older = json_array();

    for (guint i = 0; i < left->older->len; i++)
        json_array_append_new(older, vr_json_text(((const VrGeneration *)left->older->pdata[i])->path));
    return json_pack("{s:o, s:s, s:o, s:o, s:o}", "domain", vr_json_text(left->instance->domain), "uuid",
                     left->instance->uuid, "path", vr_json_text(left->current ? left->current->path : NULL), "needs",
                     vr_json_text(left->look.backing), "left", older);
}

/* What only gc deletes from now on, and what a guest still needs of us. */
static gboolean say_what_stays(const VrSession *session, GError **error)
{
    const VrCli *cli = session->cli;
    g_autoptr(json_t) instances = json_array();
    guint older = 0, bound = 0;

    for (guint i = 0; i < session->set->instances->len; i++) {
        g_auto(Left) left = {0};
        if (!read_left(session, vr_set_instance(session->set, i), &left, error))
            return FALSE;
        say_left(cli, &left);
        json_array_append_new(instances, left_json(&left));
        older += left.older->len;
        bound += left.current && left.current->ours ? 1 : 0;
    }
    if (older > 0)
        vr_say(cli, "of the older disks '%s gc' deletes what is old, '%s gc --left' all that nobody uses", VR_PROGRAM,
               VR_PROGRAM);
    if (bound > 0)
        vr_say(cli,
               "the disks that guests run on stay in %s, with the versions below them, and '%s gc --left' deletes one "
               "once no domain names it; for one that is a guest's own, define the set again and '%s release' it",
               vr_store_root(session->store), VR_PROGRAM, VR_PROGRAM);
    if (cli->options.json)
        vr_json_print(json_pack("{s:o, s:b, s:O}", "set", vr_json_text(session->set->name), "dryRun",
                                cli->options.dry_run, "instances", instances));
    return TRUE;
}

gboolean vr_cmd_set_undefine(const VrCli *cli, GError **error)
{
    const char *name = cli->args[0];
    g_auto(VrSession) session = {0};

    if (!vr_session_open(&session, cli, error) || !vr_session_take_any_set(&session, name, error))
        return FALSE;
    if (!cli->options.dry_run && !vr_registry_undefine(session.journal, session.owner, name, error))
        return FALSE;
    vr_say(cli, "set %s: %s", name, cli->options.dry_run ? "would be undefined" : "undefined");
    return say_what_stays(&session, error);
}
