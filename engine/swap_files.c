/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files of a generation: its disk, NVRAM and seed, sealed, and its domain XML (0600: it may hold passwords). */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/disk_users.h"
#include "engine/swap_private.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_XML_BYTES (8 * 1024 * 1024)
#define NS_PER_S 1000000000

static char *xml_name(guint number)
{
    return g_strdup_printf("g%u.xml", number);
}

/* A file that we made for a generation: its path, and which file that is. */
typedef struct {
    const VrGeneration *generation;
    const char *path;
    const VrFileId *id;
} Own;

static Own own_disk(const VrGeneration *generation)
{
    return (Own){generation, generation->path, &generation->file};
}

static Own own_nvram(const VrGeneration *generation)
{
    return (Own){generation, generation->nvram, &generation->nvram_file};
}

static Own own_seed(const VrGeneration *generation)
{
    return (Own){generation, generation->seed, &generation->seed_file};
}

/* The rule for all of them; a generation that has no such file has no identity of one either. */
static gboolean is_made(Own own)
{
    return own.generation->ours && own.id->device != 0;
}

static char *read_xml_file(int dir_fd, guint number, GError **error)
{
    g_autofree char *name = xml_name(number);
    g_autofree char *text = NULL;
    gsize got = 0;
    vr_autofd fd = vr_open_beneath(dir_fd, name, O_RDONLY | O_NONBLOCK, 0, error);

    if (fd < 0)
        return NULL;
    text = g_malloc(MAX_XML_BYTES + 1);
    if (!vr_pread_all(fd, text, MAX_XML_BYTES, 0, &got, error))
        return NULL;
    text[got] = '\0';
    return g_strndup(text, got);
}

char *vr_generation_xml_digest(const char *text)
{
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

gboolean vr_generation_xml_is_ours(int dir_fd, const VrGeneration *generation, char **digest, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *text = read_xml_file(dir_fd, generation->number, &local);

    *digest = text ? vr_generation_xml_digest(text) : g_strdup("");
    if (!text && g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        return TRUE;
    if (text && (g_strcmp0(generation->xml, VR_XML_NOT_KNOWN) == 0 || g_strcmp0(*digest, generation->xml) == 0 ||
                 g_strcmp0(*digest, generation->xml_next) == 0))
        return TRUE;
    if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    else {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT,
                    "g%u.xml in the directory of %s is not what was written for generation %u", generation->number,
                    generation->uuid, generation->number);
        vr_error_now(error, "it is left as it is");
        vr_error_next(error, "move it away if it is of no use, or put back what was there");
    }
    return FALSE;
}

/* Killed in between, the file is one of the two that the journal has. */
static gboolean write_xml_file(VrSwap *swap, int dir_fd, VrGeneration *generation, const char *xml, GError **error)
{
    g_autofree char *name = xml_name(generation->number);
    g_autofree char *now = NULL;
    g_autofree char *next = vr_generation_xml_digest(xml);

    if (!vr_generation_xml_is_ours(dir_fd, generation, &now, error) ||
        !vr_journal_generation_xml(swap->engine.journal, swap->engine.owner, generation->uuid, generation->number, now,
                                   next, error))
        return FALSE;
    g_free(generation->xml);
    g_free(generation->xml_next);
    generation->xml = g_steal_pointer(&now);
    generation->xml_next = g_steal_pointer(&next);
    return vr_durable_write(dir_fd, name, xml, strlen(xml), 0600, TRUE, error);
}

static VrDomainRecord record_of(const VrSwap *swap)
{
    return (VrDomainRecord){.set = swap->row->set_name,
                            .generation = swap->to->number,
                            .image = swap->to->image,
                            .version = swap->to->version,
                            .swap_id = swap->row->id};
}

/* A full clone has nothing behind it, nor has what is flattened. A rollback takes the OS disk's element from the kept XML, everything else from the
 * domain as it is now. */
static char *intended_disk(VrSwap *swap, int dir_fd, GError **error)
{
    VrDomainRecord record = record_of(swap);
    g_autofree char *kept = NULL;
    g_autofree char *digest = NULL;

    if (!swap->row->rollback) {
        VrChainLink chain[2] = {{swap->to->path, "qcow2"}};
        if (!swap->alone)
            chain[1] = (VrChainLink){swap->image->path, vr_image_format_name(swap->image->format)};
        return vr_domain_xml_with_chain(swap->before_xml, swap->row->os_target, chain, swap->alone ? 1 : 2, &record,
                                        error);
    }
    kept = vr_generation_xml_is_ours(dir_fd, swap->to, &digest, error) ? read_xml_file(dir_fd, swap->to->number, error)
                                                                       : NULL;
    return kept ? vr_domain_xml_with_kept(swap->before_xml, swap->row->os_target, kept, &record, error) : NULL;
}

/* A rollback takes the NVRAM from the kept XML too, unless that left it to libvirt. */
char *vr_swap_make_intent(VrSwap *swap, int dir_fd, GError **error)
{
    g_autofree char *xml = vr_swap_seed_intent(swap, intended_disk(swap, dir_fd, error), error);
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, error) : NULL;

    if (!def || !swap->to->nvram || g_strcmp0(def->nvram, swap->to->nvram) == 0)
        return def ? g_steal_pointer(&xml) : NULL;
    return vr_domain_xml_with_nvram(xml, swap->to->nvram, error);
}

gboolean vr_swap_write_xml(VrSwap *swap, GError **error)
{
    vr_autofd dir_fd = vr_store_instance_dir(swap->engine.store, swap->row->uuid, NULL, error);

    if (dir_fd < 0)
        return FALSE;
    g_free(swap->intent_xml);
    swap->intent_xml = vr_swap_make_intent(swap, dir_fd, error);
    if (swap->intent_xml && write_xml_file(swap, dir_fd, swap->from, swap->before_xml, error) &&
        write_xml_file(swap, dir_fd, swap->to, swap->intent_xml, error))
        return TRUE;
    g_prefix_error(error, "%s/disks/%s: ", vr_store_root(swap->engine.store), swap->row->uuid);
    return FALSE;
}

/* Past the state, or in it with that mark. */
static gboolean is_past(const VrSwap *swap, VrSwapState state, const char *mark, gboolean *is, GError **error)
{
    *is = swap->row->reached > state;
    return *is || vr_journal_has_mark(swap->engine.journal, swap->row->id, mark, is, error);
}

gboolean vr_swap_load_xml(VrSwap *swap, GError **error)
{
    gboolean asked, intended;

    if (!is_past(swap, VR_SWAP_PREPARED, "stop-asked", &asked, error) ||
        !is_past(swap, VR_SWAP_STOPPED, "intent", &intended, error))
        return FALSE;
    if (!asked)
        return TRUE;
    vr_autofd dir_fd = vr_store_instance_dir(swap->engine.store, swap->row->uuid, NULL, error);
    swap->before_xml = dir_fd < 0 ? NULL : read_xml_file(dir_fd, swap->from->number, error);
    if (swap->before_xml && intended)
        swap->intent_xml = read_xml_file(dir_fd, swap->to->number, error);
    return swap->before_xml && (!intended || swap->intent_xml);
}

/* Opens what we made for a generation: the recorded file and no other. A FIFO under its name is not waited for. */
static int open_own(VrStore *store, Own own, struct stat *st, GError **error)
{
    g_autofree char *name = g_path_get_basename(own.path);
    vr_autofd dir_fd = vr_store_instance_dir(store, own.generation->uuid, NULL, error);
    vr_autofd fd = dir_fd < 0 ? -1 : vr_open_beneath(dir_fd, name, O_RDONLY | O_NONBLOCK, 0, error);
    VrFileId id;

    if (fd < 0)
        return -1;
    if (fstat(fd, st) < 0) {
        vr_set_error_errno(error, errno, "%s", own.path);
        return -1;
    }
    if (!vr_disk_file_id_at(fd, "", &id) || !vr_disk_file_same(&id, own.id)) {
        g_set_error(error, VR_ERROR, VR_ERROR_CONFLICT, "%s is not the file that was made for generation %u", own.path,
                    own.generation->number);
        return -1;
    }
    return vr_fd_steal(&fd);
}

int vr_swap_open_own_disk(VrStore *store, const VrGeneration *generation, GError **error)
{
    struct stat st;

    return open_own(store, own_disk(generation), &st, error);
}

int vr_swap_open_own_seed(VrStore *store, const VrGeneration *generation, GError **error)
{
    struct stat st;

    return open_own(store, own_seed(generation), &st, error);
}

gboolean vr_swap_has_own_nvram(VrStore *store, const VrGeneration *generation, GError **error)
{
    struct stat st;
    vr_autofd fd = open_own(store, own_nvram(generation), &st, error);

    return fd >= 0;
}

static gboolean set_mode(VrStore *store, Own own, mode_t mode, GError **error)
{
    struct stat st;
    vr_autofd fd = open_own(store, own, &st, error);

    if (fd < 0)
        return FALSE;
    /* libvirt gives the file back to root when QEMU ends, but not when it was killed meanwhile */
    if ((geteuid() == 0 && fchown(fd, 0, 0) < 0) || fchmod(fd, mode) < 0) {
        vr_set_error_errno(error, errno, "changing the mode of %s", own.path);
        return FALSE;
    }
    return vr_fsync(fd, own.path, error);
}

static void seal(VrSwap *swap, Own own)
{
    g_autoptr(GError) local = NULL;

    if (is_made(own) && !set_mode(swap->engine.store, own, 0400, &local))
        vr_warning(swap->row->domain, "what is kept could not be sealed: %s", local->message);
}

void vr_swap_seal(VrSwap *swap, const VrGeneration *generation)
{
    seal(swap, own_disk(generation));
    seal(swap, own_nvram(generation));
    seal(swap, own_seed(generation));
}

static void seal_again(VrStore *store, Own own)
{
    g_autoptr(GError) local = NULL;
    gboolean held = FALSE;
    struct stat st;
    vr_autofd fd = is_made(own) ? open_own(store, own, &st, &local) : -1;

    /* Held: somebody runs it outside of our knowledge, and the next swap says so. */
    if (fd >= 0 && (st.st_mode & 07777) != 0400 && vr_disk_file_is_open_by_qemu(own.path, &held, &local) && !held)
        set_mode(store, own, 0400, &local);
    if (local && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        vr_warning(own.generation->uuid, "what is kept could not be sealed: %s", local->message);
}

void vr_swap_seal_again(VrStore *store, const VrGeneration *generation)
{
    seal_again(store, own_disk(generation));
    seal_again(store, own_nvram(generation));
    seal_again(store, own_seed(generation));
}

static gboolean unseal(VrSwap *swap, Own own, GError **error)
{
    return !is_made(own) || set_mode(swap->engine.store, own, 0600, error);
}

gboolean vr_swap_unseal(VrSwap *swap, const VrGeneration *generation, GError **error)
{
    return !generation->ours ||
           (set_mode(swap->engine.store, own_disk(generation), 0600, error) &&
            unseal(swap, own_nvram(generation), error) && unseal(swap, own_seed(generation), error));
}

/* --- has something run on it? ------------------------------------------------------------------------- */

static gboolean times_of_disk(VrSwap *swap, gint64 *written_ns, gint64 *changed_ns)
{
    g_autofree char *file = vr_generation_file(swap->engine.hv, swap->to, NULL);
    struct stat st;

    if (!file || stat(file, &st) < 0 || !S_ISREG(st.st_mode))
        return FALSE;
    *written_ns = (gint64)st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
    *changed_ns = (gint64)st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec;
    return TRUE;
}

char *vr_swap_disk_sign(VrSwap *swap)
{
    gint64 written_ns, changed_ns;

    if (!times_of_disk(swap, &written_ns, &changed_ns))
        return NULL;
    return g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT, written_ns, changed_ns);
}

/* The time of its content is flushed with it. That of its owner may be lost in a power cut, and is an earlier one then. */
gboolean vr_swap_disk_was_used(VrSwap *swap, gboolean *used, GError **error)
{
    g_autofree char *sign = NULL;
    char *rest = NULL;
    gint64 written_ns, changed_ns, then_ns;

    *used = FALSE;
    if (!vr_journal_mark_detail(swap->engine.journal, swap->row->id, "intent", &sign, error))
        return FALSE;
    if (!sign || !times_of_disk(swap, &written_ns, &changed_ns))
        return TRUE;
    then_ns = g_ascii_strtoll(sign, &rest, 10);
    *used = written_ns != then_ns || changed_ns > g_ascii_strtoll(rest, NULL, 10);
    return TRUE;
}

static void discard(VrStore *store, const char *uuid, const char *name)
{
    g_autoptr(GError) local = NULL;
    vr_autofd dir_fd = vr_store_instance_dir(store, uuid, NULL, &local);

    if (dir_fd < 0 || !vr_durable_unlink(dir_fd, name, &local))
        vr_warning(uuid, "%s of a discarded generation stays behind until the next recovery: %s", name, local->message);
}

/* Which file is ours is journaled before it takes the name. When it was not, whatever has the name is somebody's; what was made of
 * ours lies in a temp directory, and vr_store_sweep() has that. */
static void discard_own(VrStore *store, Own own)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *name = is_made(own) ? g_path_get_basename(own.path) : NULL;
    struct stat st;
    vr_autofd fd = name ? open_own(store, own, &st, &local) : -1;

    if (fd >= 0)
        discard(store, own.generation->uuid, name);
    else if (local && !g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND))
        vr_warning(own.generation->uuid, "%s of a discarded generation was not deleted: %s", name, local->message);
}

void vr_swap_discard_disk(VrSwap *swap)
{
    discard_own(swap->engine.store, own_disk(swap->to));
}

void vr_swap_discard_nvram(VrSwap *swap)
{
    discard_own(swap->engine.store, own_nvram(swap->to));
}

void vr_swap_discard_seed(VrSwap *swap)
{
    discard_own(swap->engine.store, own_seed(swap->to));
}

static void discard_xml(VrStore *store, const VrGeneration *generation)
{
    g_autofree char *xml = xml_name(generation->number);
    g_autofree char *digest = NULL;
    g_autoptr(GError) local = NULL;
    vr_autofd dir_fd = vr_store_instance_dir(store, generation->uuid, NULL, &local);

    if (dir_fd < 0 || !vr_generation_xml_is_ours(dir_fd, generation, &digest, &local) ||
        (*digest && !vr_durable_unlink(dir_fd, xml, &local)))
        vr_warning(generation->uuid, "%s of a discarded generation stays behind: %s", xml, local->message);
}

void vr_swap_discard_xml(VrSwap *swap)
{
    discard_xml(swap->engine.store, swap->to);
}

void vr_swap_discard_again(VrStore *store, const VrGeneration *generation)
{
    discard_own(store, own_disk(generation));
    discard_own(store, own_nvram(generation));
    discard_own(store, own_seed(generation));
    discard_xml(store, generation);
}
