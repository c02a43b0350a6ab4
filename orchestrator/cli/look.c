/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/cli/look.h"

#include "engine/manifest.h"
#include "orchestrator/extension_swap.h"

#define LOOKERS 16
#define RUN_DIR "/run"
#define HEALTH_WAIT_MS 3000 /* a plan is not a run: what does not answer by then counts as down */

typedef struct {
    const VrSession *session;
    GPtrArray *looks;
    const VrLookPurpose *purpose;
    VrHostState host;
} Lookers;

static void look_free(gpointer data)
{
    VrLook *look = data;

    vr_domain_info_clear(&look->info);
    vr_health_answer_clear(&look->health);
    g_clear_pointer(&look->def, vr_domain_def_free);
    g_clear_pointer(&look->findings, g_ptr_array_unref);
    g_clear_pointer(&look->changed, vr_finding_free);
    g_free(look);
}

static GPtrArray *cannot_look(const VrInstance *instance, const GError *why)
{
    GPtrArray *findings = g_ptr_array_new_with_free_func((GDestroyNotify)vr_finding_free);

    g_ptr_array_add(findings, vr_finding_new("not-readable",
                                             g_strdup_printf("%s cannot be read: %s", instance->domain, why->message),
                                             g_strdup("see 'virsh list --all'; an instance that is gone leaves the set "
                                                      "by set-define")));
    return findings;
}

/* Data disks are read when the guest is off, which is no time to learn that they cannot be. */
static void look_at_disks(const VrSet *set, VrHv *hv, const char *xml, const VrInstance *instance, VrLook *look)
{
    const VrDomainDisk *os_disk = vr_domain_def_os_disk(look->def, set->model->os_target, NULL);
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) manifest = os_disk ? vr_manifest_take(hv, xml, os_disk->target, VR_PROOF_NONE, &local) : NULL;

    if (manifest)
        look->proof_bytes = vr_manifest_bytes(manifest, set->model->data_proof);
    else if (local)
        g_ptr_array_insert(
            look->findings, 0,
            vr_finding_new("data-disk-unreadable", g_strdup_printf("%s: %s", instance->domain, local->message),
                           g_strdup("put it back, make it readable, or take it out of the domain with 'virsh edit'")));
}

/* A swap that is under way, or came to its end since `then` was read, has the domain name another disk than that one's: so it should be. */
static gboolean is_settled(const VrSession *session, const VrInstance *instance, const VrGeneration *then)
{
    g_autoptr(VrGeneration) now = vr_journal_current(session->journal, instance->uuid, NULL);
    g_autoptr(VrSwapRow) last = vr_journal_last_swap(session->journal, instance->uuid, NULL);

    return then && now && now->number == then->number && (!last || vr_swap_state_is_final(last->state));
}

/* The way back gives none. */
static VrNoticeNeed notice_need(const VrModel *model, const VrLookPurpose *purpose)
{
    if (!model->notice.enable || purpose->targets->kind == VR_RUN_ROLLBACK)
        return VR_NOTICE_NONE;
    return model->notice.goes_without_agent ? VR_NOTICE_IF_POSSIBLE : VR_NOTICE_REQUIRED;
}

/* May it be swapped, and what is read meanwhile? */
static void look_at_fitness(const Lookers *lookers, guint index, VrLook *look, const char *xml,
                            const VrGeneration *current)
{
    const VrSet *set = lookers->session->set;
    const VrInstance *instance = vr_set_instance(set, index);
    const VrLookPurpose *purpose = lookers->purpose;
    g_autoptr(VrGeneration) back_to = vr_targets_back_to(purpose->targets, lookers->session, index);
    const VrSwapNeeds needs = {.os_target = set->model->os_target,
                               .needs_agent = vr_model_needs_agent(set->model),
                               .protected_disks = vr_set_protected_disks(set, index),
                               .notice = notice_need(set->model, purpose),
                               .image = vr_targets_image(purpose->targets, index),
                               .ignored = purpose->ignored,
                               .ask_guest = TRUE,
                               .users = purpose->users,
                               .current = is_settled(lookers->session, instance, current) ? current : NULL,
                               .had_nvram = current && current->nvram_file.device != 0,
                               .back_to = back_to,
                               .host = &lookers->host};

    look->findings = vr_swap_preflight(lookers->session->store, lookers->session->hv, &look->info, look->def, &needs);
    look_at_disks(set, lookers->session->hv, xml, instance, look);
}

static void look_at(gpointer data, gpointer user_data)
{
    const Lookers *lookers = user_data;
    guint index = GPOINTER_TO_UINT(data) - 1;
    const VrInstance *instance = vr_set_instance(lookers->session->set, index);
    VrLook *look = g_ptr_array_index(lookers->looks, index);
    VrHv *hv = lookers->session->hv;
    g_autoptr(VrGeneration) current = vr_journal_current(lookers->session->journal, instance->uuid, NULL);
    g_autoptr(GError) local = NULL;
    g_autofree char *xml = NULL;

    look->found = vr_hv_info(hv, instance->uuid, &look->info, &local);
    xml = look->found ? vr_hv_inactive_xml(hv, instance->uuid, &local) : NULL;
    look->def = xml ? vr_domain_def_parse(xml, &local) : NULL;
    if (lookers->purpose && look->def)
        look_at_fitness(lookers, index, look, xml, current);
    else if (lookers->purpose)
        look->findings = cannot_look(instance, local);
    else if (look->def && is_settled(lookers->session, instance, current))
        look->changed = vr_swap_changed_disk(&look->info, look->def, lookers->session->set->model->os_target, current);
}

static void look_at_health(const Lookers *lookers, guint first, guint count)
{
    const VrSet *set = lookers->session->set;
    g_autofree VrHealthSubject *subjects = g_new(VrHealthSubject, count);
    g_autofree VrHealthAnswer *answers = g_new0(VrHealthAnswer, count);

    for (guint i = 0; i < count; i++)
        subjects[i] =
            (VrHealthSubject){.uuid = vr_set_instance(set, first + i)->uuid, .address = vr_set_address(set, first + i)};
    vr_health_survey(lookers->session->hv, &set->model->health, subjects, count, HEALTH_WAIT_MS, 1, NULL, answers);
    for (guint i = 0; i < count; i++) {
        vr_extensions_judge(lookers->session->journal, &set->model->health, subjects[i].uuid, &answers[i]);
        ((VrLook *)g_ptr_array_index(lookers->looks, first + i))->health = answers[i];
    }
}

GPtrArray *vr_look_at_set(const VrSession *session, int only, const VrLookPurpose *purpose)
{
    GPtrArray *looks = g_ptr_array_new_with_free_func(look_free);
    Lookers lookers = {.session = session, .looks = looks, .purpose = purpose};
    GThreadPool *pool;

    if (purpose)
        vr_host_state_read(&lookers.host, RUN_DIR, TRUE);
    pool = g_thread_pool_new(look_at, &lookers, LOOKERS, FALSE, NULL);
    for (guint i = 0; i < session->set->instances->len; i++)
        g_ptr_array_add(looks, g_new0(VrLook, 1));
    for (guint i = 0; i < looks->len; i++)
        if (only < 0 || (guint)only == i)
            g_thread_pool_push(pool, GUINT_TO_POINTER(i + 1), NULL); /* NULL cannot be pushed */
    g_thread_pool_free(pool, FALSE, TRUE);
    vr_host_state_clear(&lookers.host);
    look_at_health(&lookers, only < 0 ? 0 : (guint)only, only < 0 ? looks->len : 1);
    return looks;
}

const char *vr_look_power(const VrLook *look)
{
    return look->found ? vr_domain_state_name(look->info.state) : "unknown";
}

gboolean vr_look_is_down(const VrLook *look)
{
    return !look->found || (!look->health.off && look->health.state != VR_HEALTH_HEALTHY);
}
