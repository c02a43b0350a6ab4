/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One instance: instance-view with everything about it, generations with its kept disks. */
#include "base/clock.h"
#include "orchestrator/cli/console_view.h"
#include "orchestrator/cli/extension_view.h"
#include "orchestrator/cli/instance_state.h"
#include "orchestrator/cli/targets.h"
#include "orchestrator/gc.h"
#include "orchestrator/health_signals.h"

#include <stdio.h>
#include <sys/stat.h>

#define SIGNALS_WAIT_MS 5000

/* --- generations ------------------------------------------------------------------------------------- */

/* Bytes on the host's disk, not those that the guest sees; -1: not a file that we can look at. */
static gint64 size_on_disk(const VrGeneration *generation, gboolean *sealed)
{
    struct stat st;

    *sealed = FALSE;
    if (stat(generation->path, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    *sealed = (st.st_mode & 07777) == 0400;
    return (gint64)st.st_blocks * 512;
}

/* What retention will do with one, for a person. Free with g_free. */
static char *retention_text(const VrVerdict *verdict)
{
    g_autofree char *when = verdict->goes_us ? vr_text_time(verdict->goes_us) : NULL;

    if (verdict->goes)
        return g_strdup_printf("goes next: %s", verdict->why);
    if (when)
        return g_strdup_printf("until %s: %s", when, verdict->why);
    return g_strdup_printf("stays: %s", verdict->why);
}

static json_t *retention_json(const VrVerdict *verdict)
{
    return json_pack("{s:b, s:o, s:s}", "goes", verdict->goes, "goesAt", vr_json_time(verdict->goes_us), "why",
                     verdict->why);
}

/* One that was never booted is gone already. */
static const VrVerdict *verdict_of(const GPtrArray *verdicts, guint index)
{
    const VrVerdict *verdict = g_ptr_array_index(verdicts, index);

    return verdict->generation->state == VR_GENERATION_DISCARDED ? NULL : verdict;
}

static json_t *generations_json(GPtrArray *all, const GPtrArray *verdicts)
{
    json_t *list = json_array();

    for (guint i = 0; i < all->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(all, i);
        json_t *one = vr_generation_json(generation);
        gboolean sealed;
        gint64 size = size_on_disk(generation, &sealed);
        json_object_set_new(one, "sealed", json_boolean(sealed));
        json_object_set_new(one, "sizeOnDiskBytes", size < 0 ? json_null() : json_integer(size));
        json_object_set_new(one, "replacedAt", vr_json_time(generation->left_us));
        json_object_set_new(one, "retention",
                            verdict_of(verdicts, i) ? retention_json(verdict_of(verdicts, i)) : json_null());
        json_array_append_new(list, one);
    }
    return list;
}

static gboolean any_nvram(const GPtrArray *all)
{
    for (guint i = 0; i < all->len; i++)
        if (((const VrGeneration *)g_ptr_array_index(all, i))->nvram)
            return TRUE;
    return FALSE;
}

/* NVRAM has a column where a guest boots by UEFI. */
static void generations_table(const VrCli *cli, GPtrArray *all, const GPtrArray *verdicts)
{
    const char *const headings[] = {">GEN", "VERSION",  "STATE", "SEALED",    ">ON DISK",
                                    "MADE", "REPLACED", "DISK",  "RETENTION", any_nvram(all) ? "NVRAM" : NULL,
                                    NULL};
    g_autoptr(VrTable) table = vr_table_new(cli, headings);

    for (guint i = 0; i < all->len; i++) {
        const VrGeneration *generation = g_ptr_array_index(all, i);
        gboolean sealed;
        if (generation->state == VR_GENERATION_DELETED)
            continue; /* they become many; --json has them */
        gint64 bytes = size_on_disk(generation, &sealed);
        g_autofree char *number = vr_text_number(generation->number);
        g_autofree char *version = vr_version_text(generation);
        g_autofree char *size = bytes < 0 ? NULL : vr_text_size((guint64)bytes);
        g_autofree char *made = vr_text_time(generation->made_us);
        g_autofree char *replaced = vr_text_time(generation->left_us);
        g_autofree char *retention = verdict_of(verdicts, i) ? retention_text(verdict_of(verdicts, i)) : NULL;
        const char *const cells[] = {number,
                                     version,
                                     vr_generation_state_name(generation->state),
                                     sealed ? "yes" : "no",
                                     size,
                                     made,
                                     replaced,
                                     generation->path,
                                     retention,
                                     generation->nvram};
        vr_table_row(table, cells);
    }
    vr_table_print(table);
}

gboolean vr_cmd_generations(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    const VrInstance *instance;
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(GPtrArray) verdicts = NULL;

    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_set(&session, cli->args[0], error))
        return FALSE;
    instance = vr_session_instance(&session, cli->args[1], error);
    all = instance ? vr_journal_generations(session.journal, instance->uuid, error) : NULL;
    verdicts = all ? vr_gc_judge(session.journal, session.set, instance->uuid, all, error) : NULL;
    if (!verdicts)
        return FALSE;
    if (cli->options.json)
        vr_json_print(json_pack("{s:o, s:o, s:s, s:o}", "set", vr_json_text(session.set->name), "domain",
                                vr_json_text(instance->domain), "uuid", instance->uuid, "generations",
                                generations_json(all, verdicts)));
    else
        generations_table(cli, all, verdicts);
    if (all->len == 0)
        vr_tell(cli, "it was neither swapped nor adopted yet; its first swap records generation 0");
    return TRUE;
}

/* --- instance-view ----------------------------------------------------------------------------------- */

static void print_times(const VrCli *cli, const VrSwapTimes *times)
{
    g_autofree char *prepare = vr_text_duration(times->prepare_ms);
    g_autofree char *stop = vr_text_duration(times->stop_ms);
    g_autofree char *switched = vr_text_duration(times->switch_ms);
    g_autofree char *nvram = vr_text_duration(times->nvram_ms);
    g_autofree char *start = vr_text_duration(times->start_ms);
    g_autofree char *healthy = vr_text_duration(times->healthy_ms);
    g_autofree char *off = vr_text_duration(times->off_ms);
    g_autofree char *os_down = vr_text_duration(times->os_down_ms);

    vr_label_format(cli, "Times", "prepare %s, stop %s, switch %s%s%s%s, start %s, healthy after %s", prepare, stop,
                    switched, times->nvram_ms >= 0 ? " (NVRAM " : "", times->nvram_ms >= 0 ? nvram : "",
                    times->nvram_ms >= 0 ? ")" : "", start, healthy);
    vr_label_format(cli, "Downtime", "off %s, OS down %s", off, os_down);
}

/* What the last recovery found about its last swap, and did. */
typedef struct {
    gint64 at_us;
    char *text; /* NULL: none was needed */
} Recovery;

static void recovery_clear(Recovery *recovery)
{
    g_free(recovery->text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Recovery, recovery_clear)

static gboolean read_recovery(const VrSession *session, const VrInstanceState *state, Recovery *recovery,
                              GError **error)
{
    return !state->swap || vr_journal_last_event(session->journal, state->swap->run_id, state->instance->uuid,
                                                 VR_EVENT_KIND_RECOVERED, &recovery->at_us, &recovery->text, error);
}

static json_t *recovery_json(const Recovery *recovery)
{
    return recovery->text
               ? json_pack("{s:o, s:o}", "time", vr_json_time(recovery->at_us), "text", vr_json_text(recovery->text))
               : json_null();
}

static void print_recovery(const VrCli *cli, const Recovery *recovery)
{
    g_autofree char *at = recovery->text ? vr_text_time(recovery->at_us) : NULL;

    if (recovery->text)
        vr_label_format(cli, "Recovered", "%s: %s", at, recovery->text);
}

static void print_swap(const VrCli *cli, const VrInstanceState *state)
{
    const VrSwapRow *swap = state->swap;

    vr_label_format(cli, "Last swap", "generation %u to %u%s: %s", swap->from, swap->to,
                    swap->rollback ? ", a rollback" : "", vr_swap_state_name(swap->state));
    vr_label_format(cli, "In run", "%s%s%s", swap->run_id ? swap->run_id : "-", state->in_run ? ", " : "",
                    state->in_run ? vr_instance_phase_name(state->in_run->phase) : "");
    vr_label_format(cli, "Boot ids", "%s before, %s after", swap->old_boot_id ? swap->old_boot_id : "not known",
                    swap->new_boot_id ? swap->new_boot_id : "not known");
    if (swap->reason)
        vr_label(cli, "Error", swap->reason);
    if (state->in_run && state->in_run->reason && state->in_run->phase != VR_PHASE_SKIPPED)
        vr_label(cli, "Why", state->in_run->reason);
    print_times(cli, &state->times);
}

/* Of the last swap; NULL: it took none. */
static void print_disks(const VrCli *cli, const VrDataProof *proof)
{
    g_autofree char *text = proof ? vr_data_proof_line(proof) : NULL;

    if (text)
        vr_label(cli, "Data disks", text);
}

#define SHOWN_LINES 10

/* What it said at its last start by us: where that is, and its end where it did not become healthy. */
static void print_console(const VrCli *cli, const VrSession *session, const VrInstanceState *state)
{
    g_autoptr(GPtrArray) lines = vr_console_tail(session->store, state->swap, SHOWN_LINES);
    g_autofree char *path = lines ? vr_console_log_path(session->store, state->swap->uuid, state->swap->to) : NULL;

    if (!lines)
        return;
    vr_label(cli, "Console", path);
    for (guint i = 0; vr_console_tells_why(state->swap) && i < lines->len; i++)
        vr_say(cli, "  | %s", (const char *)lines->pdata[i]);
}

/* What a running guest says beside its health (E12); NULL: nobody can be asked. */
static GPtrArray *signals_of(const VrSession *session, const VrInstanceState *state)
{
    if (!state->look || !state->look->found || state->look->info.state != VR_DOMAIN_RUNNING)
        return NULL;
    return vr_health_signals(session->hv, state->instance->uuid, vr_clock_now_ms() + SIGNALS_WAIT_MS);
}

static json_t *signals_json(const GPtrArray *signals)
{
    json_t *list = json_array();

    for (guint i = 0; signals && i < signals->len; i++) {
        const VrHealthSignal *signal = g_ptr_array_index(signals, i);
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "name", signal->name, "state",
                                              vr_json_text(signal->state), "time", vr_json_time(signal->at_us)));
    }
    return list;
}

static void print_signals(const VrCli *cli, const GPtrArray *signals)
{
    for (guint i = 0; signals && i < signals->len; i++) {
        const VrHealthSignal *signal = g_ptr_array_index(signals, i);
        vr_label(cli, signal->label, signal->state);
    }
}

/* What its extensions did, on the disk that it runs from, and on one that it was taken from again. */
typedef struct {
    GPtrArray *now;
    GPtrArray *tried; /* of its last swap; NULL: that is the same, or it was a rollback */
} Extensions;

static void extensions_clear(Extensions *extensions)
{
    g_clear_pointer(&extensions->now, g_ptr_array_unref);
    g_clear_pointer(&extensions->tried, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Extensions, extensions_clear)

static gboolean read_extensions(const VrSession *session, const VrInstanceState *state, Extensions *extensions,
                                GError **error)
{
    const VrGeneration *current = state->current;
    const VrSwapRow *swap = state->swap;
    gboolean has_tried = swap && !swap->rollback && (!current || swap->to != current->number);

    if (current)
        extensions->now = vr_extension_results_read(session->journal, state->instance->uuid, current->number, error);
    if (has_tried && (!current || extensions->now))
        extensions->tried = vr_extension_results_read(session->journal, swap->uuid, swap->to, error);
    return (!current || extensions->now) && (!has_tried || extensions->tried);
}

static void print_lines(const VrCli *cli, const VrSession *session, const VrInstanceState *state,
                        const GPtrArray *signals, GPtrArray *all, const GPtrArray *verdicts, const VrDataProof *proof,
                        const Recovery *recovery, const Extensions *extensions)
{
    const VrLook *look = state->look;
    g_autofree char *current = vr_generation_text(state->current);
    g_autofree char *protection = vr_protection_text(state->instance);

    vr_label(cli, "Instance", state->instance->domain);
    vr_label(cli, "UUID", state->instance->uuid);
    vr_label_format(cli, "Upgrade domain", "%u", state->instance->upgrade_domain);
    vr_label(cli, "Power", vr_instance_state_power(state));
    vr_label_format(cli, "Health", "%s%s%s", vr_instance_state_health(state),
                    look && look->health.text && !look->health.off ? ": " : "",
                    look && look->health.text && !look->health.off ? look->health.text : "");
    print_signals(cli, signals);
    vr_label(cli, "Runs", state->changed ? NULL : current);
    if (state->changed)
        vr_label_format(cli, "OS disk", "%s; %s", state->changed->text, state->changed->remedy);
    vr_extension_results_print(cli, extensions->now);
    vr_label(cli, "Pinned to", state->instance->pin);
    vr_label(cli, "Protection", protection);
    vr_label(cli, "Model applied",
             state->latest    ? "yes"
             : state->changed ? "not known, its domain names another OS disk"
             : state->behind  ? "no, the model was edited since its disk was made"
                              : "no, it runs another version");
    if (state->swap)
        print_swap(cli, state);
    else
        vr_label(cli, "Last swap", "none yet");
    print_console(cli, session, state);
    vr_extension_results_print(cli, extensions->tried);
    print_recovery(cli, recovery);
    print_disks(cli, proof);
    fputc('\n', stdout);
    generations_table(cli, all, verdicts);
}

static gboolean view(const VrCli *cli, VrSession *session, guint index, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrRun) last = vr_history_last(vr_store_db(session->store), session->set->name, &local);
    g_autoptr(VrImage) image = vr_set_image(session, NULL);
    g_autoptr(GPtrArray) looks = NULL;
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(GPtrArray) verdicts = NULL;
    g_autoptr(GPtrArray) signals = NULL;
    g_autoptr(VrDataProof) proof = NULL;
    g_auto(VrInstanceState) state = {0};
    g_auto(Recovery) recovery = {0};
    g_auto(Extensions) extensions = {0};

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    looks = vr_look_if_reachable(session, (int)index);
    all = vr_journal_generations(session->journal, vr_set_instance(session->set, index)->uuid, error);
    verdicts = all ? vr_gc_judge(session->journal, session->set, vr_set_instance(session->set, index)->uuid, all, error)
                   : NULL;
    if (!verdicts || !vr_instance_state_read(&state, session, index, last, image, looks, error) ||
        !read_recovery(session, &state, &recovery, error) || !read_extensions(session, &state, &extensions, error))
        return FALSE;
    proof = state.swap ? vr_data_proof_of(session->journal, state.swap->id, &local) : NULL;
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    signals = signals_of(session, &state);
    if (cli->options.json) {
        json_t *document = vr_instance_state_json(&state);
        json_object_set_new(document, "signals", signals_json(signals));
        json_object_set_new(document, "lastRecovery", recovery_json(&recovery));
        json_object_set_new(document, "set", vr_json_text(session->set->name));
        json_object_set_new(document, "generations", generations_json(all, verdicts));
        json_object_set_new(document, "dataDisks", vr_data_proof_json(proof));
        json_object_set_new(document, "consoleLog", vr_console_path_json(session->store, state.swap));
        json_object_set_new(document, "console", vr_console_json(session->store, state.swap));
        json_object_set_new(document, "extensions", vr_extension_results_json(extensions.now));
        json_object_set_new(document, "triedExtensions", vr_extension_results_json(extensions.tried));
        vr_json_print(document);
    } else {
        print_lines(cli, session, &state, signals, all, verdicts, proof, &recovery, &extensions);
    }
    return TRUE;
}

gboolean vr_cmd_instance_view(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    int index;

    if (!vr_session_open_read(&session, cli, error) || !vr_session_read_set(&session, cli->args[0], error))
        return FALSE;
    index = vr_session_find(&session, cli->args[1], error);
    return index >= 0 && view(cli, &session, (guint)index, error);
}
