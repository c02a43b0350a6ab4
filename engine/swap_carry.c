/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a new disk gets before it is anybody's: what the model has written into it (disk/personalize.h), and what it takes over from the old system
 * (rows C6, C8): host keys, machine-id, files.
 *
 * From the guest, by default: read through its agent in PREPARE and written with the rest, while it runs; and read again right before the stop. What
 * differs then is written again, by an appliance of its own while the guest still runs, and read once more: three rounds at most. What the guest changes
 * between the last reading and its end is not carried over, nor what it holds in memory.
 *
 * From the old disk, where the model says so and where the guest is off: between STOPPED and SWITCHED, when nobody writes to it. Its file system is read
 * in an appliance of its own, the new disk is written by another one; the guest is off meanwhile. That the new disk can be written at all is proven in PREPARE.
 *
 * What a crash means: nothing new. Until the intent, which comes after all of this, a recovery goes back and discards the new disk, half written or whole;
 * the appliance ends with the process that began it. So a disk that is configured is one whose personalisation is complete and flushed
 * (invariant 12), and the mark "carry", which is journaled then, is for people: how many files, and how long it took.
 *
 * The old disk is opened for reading only, by libguestfs as well, which follows its header, as root; and the guest's QEMU can write to that. So what the
 * header names has to be what we know to lie below: of a disk of ours the recorded version, of another what the domain's XML says, where it says
 * it; where it does not, libvirt itself goes by the header. Its identity, size and time are the same after the new disk was written as before it was
 * read, and nobody holds it, or the swap ends there: somebody started the guest. What was read is a secret: it is in memory, in what the appliance
 * is given, and on the new disk, and in no journal, no XML and no log.
 *
 * The appliances that are no batch's are few at a time, so a guest of a large batch may be off for the time of several.
 *
 * A rollback takes nothing over: the old system has what it had. Nor does a disk that is flattened, which is the same system.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "disk/backing.h"
#include "engine/disk_users.h"
#include "engine/swap_private.h"
#include "hv/guest_files.h"

#include <pthread.h>
#include <string.h>

#define ROUNDS 3
#define READ_MS 120000
#define APPLIANCES_MAX 4 /* at a time; of each up to 1 GiB */
#define SSH_DIR "/etc/ssh/"
#define MACHINE_ID "/etc/machine-id"
#define MACHINE_ID_LENGTH 32

static const char *const host_keys[] = {SSH_DIR "ssh_host_rsa_key",
                                        SSH_DIR "ssh_host_ecdsa_key",
                                        SSH_DIR "ssh_host_ed25519_key",
                                        SSH_DIR "ssh_host_rsa_key.pub",
                                        SSH_DIR "ssh_host_ecdsa_key.pub",
                                        SSH_DIR "ssh_host_ed25519_key.pub",
                                        NULL};

/* --- what is asked for ------------------------------------------------------------------------------- */

static VrCarryOver *carry_copy(const VrCarryOver *carry)
{
    VrCarryOver *copy = carry ? g_memdup2(carry, sizeof *carry) : NULL;

    if (copy)
        copy->paths = g_strdupv(carry->paths);
    return copy;
}

void vr_swap_carry_begin(VrSwap *swap, const VrSwapRequest *request)
{
    if (!request->image)
        return;
    swap->personal = request->personal ? vr_personal_copy(request->personal, "", VR_FORMAT_QCOW2) : NULL;
    swap->carry = carry_copy(request->carry);
    swap->personalize = request->personalize;
    swap->personal_seat = request->personal_seat;
    if (swap->carry && !swap->carry->from_disk)
        swap->needs_agent = TRUE;
}

void vr_swap_carry_clear(VrSwap *swap)
{
    g_clear_pointer(&swap->personal, vr_personal_free);
    g_clear_pointer(&swap->carried, g_ptr_array_unref);
    if (swap->carry)
        g_strfreev(swap->carry->paths);
    g_clear_pointer(&swap->carry, g_free);
}

static gboolean is_of_disk(const VrSwap *swap)
{
    return swap->carry && (swap->carry->from_disk || !swap->row->was_running);
}

static gboolean is_of_guest(const VrSwap *swap)
{
    return swap->carry && !is_of_disk(swap);
}

/* Free with g_free; the strings are not owned. */
static const char **paths_of(const VrCarryOver *carry)
{
    GPtrArray *paths = g_ptr_array_new();

    for (guint i = 0; carry->host_keys && host_keys[i]; i++)
        g_ptr_array_add(paths, (gpointer)host_keys[i]);
    if (carry->machine_id)
        g_ptr_array_add(paths, (gpointer)MACHINE_ID);
    for (char **path = carry->paths; path && *path; path++)
        g_ptr_array_add(paths, *path);
    g_ptr_array_add(paths, NULL);
    return (const char **)g_ptr_array_free(paths, FALSE);
}

/* --- what was read ----------------------------------------------------------------------------------- */

static const VrGuestFile *find(const GPtrArray *files, const char *path)
{
    for (guint i = 0; i < files->len; i++) {
        const VrGuestFile *file = g_ptr_array_index(files, i);
        if (strcmp(file->path, path) == 0)
            return file;
    }
    return NULL;
}

static gboolean is_missing(const char *path, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s is to be carried over, and the old system has none", path);
    return FALSE;
}

static gboolean has_host_key(const GPtrArray *files, GError **error)
{
    guint private_keys = 0;

    for (guint i = 0; host_keys[i]; i++) {
        const VrGuestFile *file = find(files, host_keys[i]);
        if (file && file->kind != VR_GUEST_FILE_REGULAR) {
            g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s of the old system is no regular file", file->path);
            return FALSE;
        }
        private_keys += file && !g_str_has_suffix(file->path, ".pub");
    }
    return private_keys > 0 || is_missing(SSH_DIR "ssh_host_*_key", error);
}

/* With or without the line's end. Free with g_free. */
static char *machine_id_of(const GPtrArray *files, GError **error)
{
    const VrGuestFile *file = find(files, MACHINE_ID);
    gsize length = 0;
    const char *bytes = file ? g_bytes_get_data(file->data, &length) : NULL;
    gsize digits = 0;

    if (!file) {
        is_missing(MACHINE_ID, error);
        return NULL;
    }
    while (digits < length && strchr("0123456789abcdef", bytes[digits]) && bytes[digits])
        digits++;
    if (file->kind == VR_GUEST_FILE_REGULAR && digits == MACHINE_ID_LENGTH &&
        (length == digits || (length == digits + 1 && bytes[digits] == '\n')))
        return g_strndup(bytes, digits);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID,
                        MACHINE_ID " of the old system holds no machine-id: 32 of 0-9 and a-f");
    return NULL;
}

static gboolean has_paths(const VrCarryOver *carry, const GPtrArray *files, GError **error)
{
    for (char **path = carry->paths; path && *path; path++)
        if (!find(files, *path))
            return is_missing(*path, error);
    return TRUE;
}

/* Adds what was read to what the new disk gets anyway. */
static gboolean add(const VrCarryOver *carry, const GPtrArray *files, VrPersonal *personal, GError **error)
{
    if (carry->machine_id) {
        g_free(personal->machine_id);
        personal->machine_id = machine_id_of(files, error);
        if (!personal->machine_id)
            return FALSE;
    }
    if ((carry->host_keys && !has_host_key(files, error)) || !has_paths(carry, files, error))
        return FALSE;
    for (guint i = 0; i < files->len; i++) {
        const VrGuestFile *file = g_ptr_array_index(files, i);
        gboolean is_key = carry->host_keys && g_strv_contains(host_keys, file->path);
        VrGuestFile *copy = vr_guest_file_copy(file);

        if (is_key) {
            g_free(copy->path);
            copy->path = g_strdup(file->path + strlen(SSH_DIR));
        }
        if (carry->machine_id && strcmp(file->path, MACHINE_ID) == 0)
            vr_guest_file_free(copy);
        else
            g_ptr_array_add(is_key ? personal->host_keys : personal->files, copy);
    }
    return TRUE;
}

/* --- appliances -------------------------------------------------------------------------------------- */

/* Of a batch each swap has one of its own here, and the host's memory is its guests'. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t one_ended;
    guint running;
} appliances = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static void begin_appliance(void)
{
    pthread_mutex_lock(&appliances.lock);
    while (appliances.running == APPLIANCES_MAX)
        pthread_cond_wait(&appliances.one_ended, &appliances.lock);
    appliances.running++;
    pthread_mutex_unlock(&appliances.lock);
}

static void end_appliance(void)
{
    pthread_mutex_lock(&appliances.lock);
    appliances.running--;
    pthread_cond_signal(&appliances.one_ended);
    pthread_mutex_unlock(&appliances.lock);
}

static gboolean apply(const VrPersonal *personal, const VrPersonalizeOptions *options, GError **error)
{
    GError *of_disk = NULL;
    gboolean done;

    begin_appliance();
    done = vr_personalize(&personal, 1, options, &of_disk, error);
    end_appliance();
    if (of_disk)
        g_propagate_error(error, of_disk);
    return done;
}

static gboolean read_disk(VrSwap *swap, const char *file, VrImageFormat format, const VrPersonalizeOptions *options,
                          GError **error)
{
    g_autofree const char **paths = paths_of(swap->carry);
    gboolean done;

    begin_appliance();
    done = vr_personalize_read(file, format, paths, options, &swap->carried, error);
    end_appliance();
    return done;
}

/* --- the new disk ------------------------------------------------------------------------------------ */

/* files NULL: nothing is carried over. seat NULL: an appliance of its own. */
static gboolean write_disk(VrSwap *swap, const GPtrArray *files, VrPersonalSeat *seat,
                           const VrPersonalizeOptions *options, GError **error)
{
    g_autoptr(VrPersonal) personal = swap->personal ? vr_personal_copy(swap->personal, swap->to->path, VR_FORMAT_QCOW2)
                                                    : vr_personal_new(swap->to->path, VR_FORMAT_QCOW2);

    if (files && !add(swap->carry, files, personal, error))
        return FALSE;
    return seat ? vr_personal_seat_apply(seat, personal, error) : apply(personal, options, error);
}

/* Once the guest is about to stop, or is off, it is not for a cancel of the run to end it. */
static VrPersonalizeOptions to_the_end(const VrSwap *swap)
{
    VrPersonalizeOptions options = *swap->personalize;

    options.aborted = NULL;
    return options;
}

static gboolean mark(VrSwap *swap, const GPtrArray *files, const char *of, gint64 began_ms, GError **error)
{
    g_autofree char *took = vr_clock_format_duration(vr_clock_now_ms() - began_ms);
    g_autofree char *detail = g_strdup_printf("%u entries of %s in %s", files->len, of, took);

    return vr_swap_mark(swap, "carry", detail, error);
}

/* --- from the guest ---------------------------------------------------------------------------------- */

static GPtrArray *read_guest(VrSwap *swap, const gint *aborted, GError **error)
{
    g_autofree const char **paths = paths_of(swap->carry);
    GPtrArray *files = NULL;

    if (vr_agent_read_files(swap->engine.hv, swap->row->uuid, paths, vr_clock_now_ms() + READ_MS, aborted, &files,
                            error))
        return files;
    g_prefix_error(error, "what is to be carried over cannot be read: ");
    return NULL;
}

static gboolean prepare_of_guest(VrSwap *swap, GError **error)
{
    gint64 began_ms = vr_clock_now_ms();

    swap->carried = read_guest(swap, swap->personalize->aborted, error);
    return swap->carried && write_disk(swap, swap->carried, swap->personal_seat, swap->personalize, error) &&
           mark(swap, swap->carried, "the guest", began_ms, error);
}

/* It is on the new disk, which no writing takes away from there. */
static gboolean none_is_gone(const GPtrArray *before, const GPtrArray *now, GError **error)
{
    for (guint i = 0; i < before->len; i++) {
        const char *path = ((const VrGuestFile *)g_ptr_array_index(before, i))->path;
        if (find(now, path))
            continue;
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was carried over, and is gone from the guest since", path);
        vr_error_now(error, "nothing was changed");
        vr_error_next(error, "try again, or carry it over from the disk");
        return FALSE;
    }
    return TRUE;
}

/* Takes now. */
static gboolean write_again(VrSwap *swap, GPtrArray *now, GError **error)
{
    const VrPersonalizeOptions options = to_the_end(swap);
    g_autoptr(GPtrArray) before = g_steal_pointer(&swap->carried);
    gint64 began_ms = vr_clock_now_ms();

    swap->carried = now;
    return none_is_gone(before, now, error) && write_disk(swap, now, NULL, &options, error) &&
           mark(swap, now, "the guest, again,", began_ms, error);
}

gboolean vr_swap_carry_again(VrSwap *swap, GError **error)
{
    for (guint round = 0; is_of_guest(swap); round++) {
        g_autoptr(GPtrArray) now = read_guest(swap, NULL, error);

        if (!now || vr_guest_files_same(swap->carried, now))
            return now != NULL;
        if (round == ROUNDS) {
            g_set_error_literal(error, VR_ERROR, VR_ERROR_CONFLICT,
                                "the guest changes its files faster than they can be carried over");
            vr_error_now(error, "nothing was changed");
            vr_error_next(error, "carry them over from the disk");
            return FALSE;
        }
        if (!write_again(swap, g_steal_pointer(&now), error))
            return FALSE;
    }
    return TRUE;
}

/* --- from the disk ----------------------------------------------------------------------------------- */

static gboolean format_of_old(const VrSwap *swap, VrImageFormat *format, GError **error)
{
    *format = strcmp(swap->from->format, "raw") == 0 ? VR_FORMAT_RAW : VR_FORMAT_QCOW2;
    if (*format == VR_FORMAT_RAW || strcmp(swap->from->format, "qcow2") == 0)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "%s is of the format %s: files are carried over from raw and qcow2",
                swap->from->path, swap->from->format);
    return FALSE;
}

/* Of a disk of ours: the recorded file. */
static gboolean look_at_old(const VrSwap *swap, const char *file, VrDiskLook *look, GError **error)
{
    vr_autofd fd = -1;

    if (!swap->from->ours)
        return vr_disk_file_look(file, swap->from->format, look, error);
    fd = vr_swap_open_own_disk(swap->engine.store, swap->from, error);
    return fd >= 0 && vr_disk_file_look_of(fd, file, swap->from->format, look, error);
}

/* FALSE without an error: it does not. */
static gboolean is_recorded_base(const VrSwap *swap, const VrDiskLook *look, GError **error)
{
    g_autoptr(VrImage) base = NULL;

    if (!swap->from->image || !swap->from->version)
        return FALSE;
    base = vr_store_get(swap->engine.store, swap->from->image, swap->from->version, error);
    return base && strcmp(look->backing, base->path) == 0 &&
           g_strcmp0(look->backing_format, vr_image_format_name(base->format)) == 0;
}

static gboolean is_named(const char *backing, const char *file, const char *path)
{
    g_autoptr(GPtrArray) paths = vr_backing_paths(backing, file);
    VrFileId named, known;

    if (paths->len != 1)
        return FALSE;
    return strcmp(paths->pdata[0], path) == 0 ||
           (vr_disk_file_id(paths->pdata[0], &named, NULL) && vr_disk_file_id(path, &known, NULL) &&
            vr_disk_file_same(&named, &known));
}

/* What its header names is what we know to lie below. FALSE without an error: it is not. */
static gboolean is_known_below(const VrSwap *swap, const char *file, const VrDiskLook *look, GError **error)
{
    g_autofree char *below = NULL;
    gboolean is_said = vr_domain_xml_below(swap->before_xml, swap->row->os_target, &below);

    if (!look->backing)
        return TRUE;
    if (is_said && !below) /* a full clone, too */
        return FALSE;
    return swap->from->ours ? is_recorded_base(swap, look, error) : !is_said || is_named(look->backing, file, below);
}

static gboolean may_be_read(const VrSwap *swap, const char *file, GError **error)
{
    g_auto(VrDiskLook) look = {0};
    g_autoptr(GError) local = NULL;

    if (!look_at_old(swap, file, &look, error))
        return FALSE;
    if (!look.data_file && is_known_below(swap, file, &look, &local))
        return TRUE;
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *name = look.data_file ? NULL : vr_printable(look.backing, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED,
                "nothing is carried over from %s: its header names %s%s%s, which is not what is known to lie below",
                file, name ? "'" : "a file with its data", name ? name : "", name ? "'" : "");
    vr_error_next(error, "look who wrote that there, or carry over from the guest");
    return FALSE;
}

/* TRUE: nobody wrote to it since. */
static gboolean is_untouched(VrSwap *swap, const char *file, const VrFileId *before, GError **error)
{
    VrFileId now;

    if (!vr_disk_file_id(file, &now, error) || !vr_swap_confirm_off(swap, swap->before_xml, VR_HOLDERS_ALL, error))
        return FALSE;
    if (vr_disk_file_same(before, &now) && before->size == now.size && before->mtime_ns == now.mtime_ns)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s was written to while it was read: somebody started the guest",
                file);
    return FALSE;
}

static gboolean carry_over(VrSwap *swap, const char *file, VrImageFormat format, GError **error)
{
    const VrPersonalizeOptions options = to_the_end(swap);
    gint64 began_ms = vr_clock_now_ms();

    return read_disk(swap, file, format, &options, error) && write_disk(swap, swap->carried, NULL, &options, error) &&
           mark(swap, swap->carried, "the old disk", began_ms, error);
}

gboolean vr_swap_carry_disk(VrSwap *swap, GError **error)
{
    g_autofree char *file = NULL;
    VrImageFormat format;
    VrFileId before;

    if (!is_of_disk(swap))
        return TRUE;
    file = vr_generation_file(swap->engine.hv, swap->from, error);
    return file && format_of_old(swap, &format, error) && vr_disk_file_id(file, &before, error) &&
           may_be_read(swap, file, error) && carry_over(swap, file, format, error) &&
           is_untouched(swap, file, &before, error);
}

/* --- PREPARE ----------------------------------------------------------------------------------------- */

gboolean vr_swap_carry_prepare(VrSwap *swap, GError **error)
{
    VrImageFormat format;

    if (is_of_guest(swap))
        return prepare_of_guest(swap, error);
    if (is_of_disk(swap) && !format_of_old(swap, &format, error))
        return FALSE;
    /* what keeps the new disk from being written is found while the guest runs */
    if (swap->personal || (is_of_disk(swap) && swap->row->was_running))
        return write_disk(swap, NULL, swap->personal_seat, swap->personalize, error);
    return TRUE;
}
