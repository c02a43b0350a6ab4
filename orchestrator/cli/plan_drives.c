/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which disks of the set a scenario keeps, and which it replaces (FEATURES B10, decision 12). */
#include "orchestrator/cli/plan_private.h"

typedef enum { DRIVE_OS, DRIVE_DATA, DRIVE_TEMP, DRIVE_KINDS } DriveKind;

/* One row: all disks of a target that are the same to us. */
typedef struct {
    const char *target; /* of a look's domain */
    DriveKind kind;
    guint instances;
} Drive;

static const char *const kind_names[DRIVE_KINDS] = {"os", "data", "temp"};

static const struct {
    const char *key, *heading;
    gboolean replaces_os; /* of another kind a run touches temp disks alone, and only when it is asked to */
} scenarios[] = {
    {"guestRestart", "GUEST RESTARTS", FALSE},
    {"hostRestart", "OFF AND ON", FALSE},
    {"reimage", "REIMAGE", TRUE},
    {"upgrade", "UPGRADE", TRUE},
};

typedef enum { KEPT, REPLACED, MADE_ANEW } Effect;

static const struct {
    const char *text, *name; /* for a person, and in JSON */
} effects[] = {
    [KEPT] = {"kept", "kept"}, [REPLACED] = {"replaced", "replaced"}, [MADE_ANEW] = {"made anew", "madeAnew"}};

/* anew: the reimage is asked to make temp disks anew. */
static Effect effect(guint scenario, DriveKind kind, gboolean anew)
{
    if (anew && kind == DRIVE_TEMP && g_str_equal(scenarios[scenario].key, "reimage"))
        return MADE_ANEW;
    return scenarios[scenario].replaces_os && kind == DRIVE_OS ? REPLACED : KEPT;
}

static DriveKind kind_of(const VrModel *model, const VrDomainDisk *disk, const VrDomainDisk *os_disk)
{
    if (disk == os_disk)
        return DRIVE_OS;
    return disk->target && g_strv_contains((const char *const *)model->temp_disks, disk->target) ? DRIVE_TEMP
                                                                                                 : DRIVE_DATA;
}

static void count_disk(GArray *drives, const VrDomainDisk *disk, DriveKind kind)
{
    Drive drive = {.target = disk->target, .kind = kind, .instances = 1};

    for (guint i = 0; i < drives->len; i++) {
        Drive *known = &g_array_index(drives, Drive, i);
        if (known->kind == kind && g_strcmp0(known->target, disk->target) == 0) {
            known->instances++;
            return;
        }
    }
    g_array_append_val(drives, drive);
}

static gint compare_drives(gconstpointer a, gconstpointer b)
{
    const Drive *left = a, *right = b;

    return left->kind != right->kind ? (gint)left->kind - (gint)right->kind : g_strcmp0(left->target, right->target);
}

/* CD-ROMs and floppies are none of ours; of an instance whose OS disk cannot be told a finding speaks. */
static GArray *drives_of(const VrPlan *plan)
{
    const VrModel *model = plan->session->set->model;
    GArray *drives = g_array_new(FALSE, FALSE, sizeof(Drive));

    for (guint i = 0; i < plan->looks->len; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        const VrDomainDisk *os_disk = look->def ? vr_domain_def_os_disk(look->def, model->os_target, NULL) : NULL;
        for (guint j = 0; os_disk && j < look->def->disks->len; j++) {
            const VrDomainDisk *disk = g_ptr_array_index(look->def->disks, j);
            if (g_strcmp0(disk->device, "disk") == 0 || g_strcmp0(disk->device, "lun") == 0)
                count_disk(drives, disk, kind_of(model, disk, os_disk));
        }
    }
    g_array_sort(drives, compare_drives);
    return drives;
}

void vr_plan_print_drives(const VrPlan *plan)
{
    const char *headings[3 + G_N_ELEMENTS(scenarios) + 1] = {"DISK", "KIND", ">INSTANCES"};
    g_autoptr(GArray) drives = drives_of(plan);
    g_autoptr(VrTable) table = NULL;

    for (guint k = 0; k < G_N_ELEMENTS(scenarios); k++)
        headings[3 + k] = scenarios[k].heading;
    table = vr_table_new(plan->session->cli, headings);
    for (guint i = 0; i < drives->len; i++) {
        const Drive *drive = &g_array_index(drives, Drive, i);
        g_autofree char *instances = vr_text_number(drive->instances);
        const char *cells[3 + G_N_ELEMENTS(scenarios)] = {drive->target, kind_names[drive->kind], instances};

        for (guint k = 0; k < G_N_ELEMENTS(scenarios); k++)
            cells[3 + k] = effects[effect(k, drive->kind, plan->session->cli->options.temp_disk)].text;
        vr_table_row(table, cells);
    }
    vr_table_print(table);
}

json_t *vr_plan_drives_json(const VrPlan *plan)
{
    g_autoptr(GArray) drives = drives_of(plan);
    json_t *list = json_array();

    for (guint i = 0; i < drives->len; i++) {
        const Drive *drive = &g_array_index(drives, Drive, i);
        json_t *one = json_pack("{s:o, s:s, s:i}", "target", vr_json_text(drive->target), "kind",
                                kind_names[drive->kind], "instanceCount", (int)drive->instances);

        for (guint k = 0; k < G_N_ELEMENTS(scenarios); k++)
            json_object_set_new(
                one, scenarios[k].key,
                json_string(effects[effect(k, drive->kind, plan->session->cli->options.temp_disk)].name));
        json_array_append_new(list, one);
    }
    return list;
}

/* --- what of them is read while a guest is off ------------------------------------------------------- */

static guint64 most_proof_bytes(const VrPlan *plan, const char **domain)
{
    guint64 most = 0;

    for (guint i = 0; i < plan->looks->len; i++) {
        const VrLook *look = g_ptr_array_index(plan->looks, i);
        if (!plan->targets->targets[i].chosen || look->proof_bytes <= most)
            continue;
        most = look->proof_bytes;
        *domain = vr_set_instance(plan->session->set, i)->domain;
    }
    return most;
}

void vr_plan_print_proof(const VrPlan *plan)
{
    VrProofContent content = plan->session->set->model->data_proof;
    const char *domain = NULL;
    guint64 bytes = most_proof_bytes(plan, &domain);
    g_autofree char *size = vr_text_size(bytes);

    if (content == VR_PROOF_NONE || bytes == 0)
        return;
    vr_say(
        plan->session->cli,
        "data disks: %s twice while a guest is off (dataDiskProof %s), %s each time of '%s', which has the most: that "
        "is downtime",
        content == VR_PROOF_WHOLE ? "all bytes are read" : "samples are read", vr_proof_content_name(content), size,
        domain);
}

json_t *vr_plan_proof_json(const VrPlan *plan)
{
    const char *domain = NULL;

    return json_pack("{s:s, s:I}", "content", vr_proof_content_name(plan->session->set->model->data_proof),
                     "maximumBytesReadWhileOff", (json_int_t)(2 * most_proof_bytes(plan, &domain)));
}
