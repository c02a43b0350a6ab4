/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The swap of one instance: the state table and the one function that moves along it. Read this file first.
 *
 *   PLANNED -> PREPARED -> STOPPED -> SWITCHED -> STARTED -> COMMITTED
 *                 |           |           |          |
 *             DISCARDED    UNDONE <------+----------+        UNKNOWN: keeps its slot; a person must look
 *
 * What each state promises, and so what a crash in it means:
 *
 *   PLANNED    the journal has the swap and the number of its new generation; there may be part of a disk
 *              in a temp directory, or a whole one that nothing refers to: which file that is, is journaled before it
 *              takes its name, so that no other that may have the name is deleted. The guest was not touched.
 *   (made)     a mark in the journal: the new disk has its name, the XML files may be there too.
 *   PREPARED   the new disk, an overlay or a full clone, is whole and flushed, with what is written into it (swap_carry.c), and so are its seed (swap_seed.c), g<from>.xml (the domain
 *              as we read it) and g<to>.xml (the domain as it shall be). The guest still runs. A rollback begins here, if
 *              nobody else has the disk that it goes to: what other domains name, and what processes hold, is asked once more before
 *              the stop; and of any swap, what processes hold of the disks of the new XML, right before the start.
 *   STOPPED    libvirt says off, for a reason that is a stop, and no QEMU holds any of its disks. What the other
 *              disks are is in the journal (engine/manifest.h), and is compared before a guest starts. libvirt's
 *              XML still names the old disk: a host that reboots now starts the old system.
 *   (carry)    a mark: files of the old disk, read while nobody writes to it, are on the new one, which is whole and flushed again (swap_carry.c).
 *              In PREPARE and right before the stop: the same of files that the guest said.
 *   (nvram)    a mark: the new generation of a UEFI guest has its copy of the NVRAM, whole and flushed; which file that is, is
 *              journaled before it takes its name, as with the disk. Nothing refers to it yet (swap_nvram.c).
 *   (temp-disk)  a mark: a temp disk that a reimage makes anew is about to be another file (swap_temp.c).
 *   (intent)   a mark in the journal, not a state: from here on libvirt's XML may be either one. Which, is
 *              read back, never assumed: define may return and yet the old XML survive a power cut. Its detail is when the new
 *              disk was written to last: from now on libvirt may start it by itself, and it shows that something ran on it.
 *              After it the XML is read once more, right before the define: an edit of somebody's is not overwritten.
 *   SWITCHED   the XML (disk, NVRAM and seed in one) was redefined, read back, and differs from before in what may differ. A host that
 *              reboots now starts the new system.
 *   STARTED    the live XML is the intent; health is now judged by the orchestrator. (For a guest that was
 *              off, nothing was started.)
 *   COMMITTED  the new disk is the current generation; the old one, if of our making, is sealed (0400), and so are its NVRAM and seed.
 *              (Also where the policy leaves an unhealthy guest on its new disk: the step then says "left".)
 *
 * The way back is one function for all states, because it looks at the world and not at the state: is the
 * guest on the new disk? then off with it. Does the XML name the new disk? then put the old one back, and
 * leave whatever else somebody changed meanwhile. Did it run before, and is off (or goes off within half a minute since it was last
 * asked to)? then start it. (One that goes off even later is a recovery's: swap_late.c.) A guest that runs on neither disk is a person's to
 * look at; so is one that was migrated or saved, until it was seen to run here again (a mark, "moved": libvirt forgets it when it is
 * restarted). On the way forward any process that has a disk of the guest open makes the swap fail; on the
 * way back only one that would keep a QEMU out does, since a backup that reads goes on beside a guest. Each of these is repeatable, needs
 * no space beyond libvirt's own small file, no network and no gallery. `backward` is
 * journaled before the first of them, so a crash on the way back goes on back. What it must know of the journal it reads without waiting for
 * anybody; what cannot be written, in a journal that is full, fails or is locked, does not keep the guest off: a recovery brings the rows to
 * their end.
 *
 * A call of libvirt that was given up at its deadline, or whose process was killed, may take effect late: a define that hangs is not
 * cancelled by us going away. What bounds it is libvirtd's queue. Calls that change something are taken out of one queue
 * in their order, so when a later one was answered, the earlier is at work already, and all it can still wait for is the domain's
 * lock. (A read proves less: libvirtd keeps workers for reads alone.) So as long as a call may be under way (a shutdown, a destroy, a define,
 * a start: from the first stop on), the way back defines the old XML even where it is there, lets LATE_CALL_MS pass after the answer, and looks again; what it finds undone it
 * does anew, three rounds at most. When libvirt does not answer, or the world still changes, the swap is UNKNOWN and keeps
 * its slot. On the way forward nothing is needed: a late define or start of the new disk is what was wanted.
 *
 * That bound is libvirt's to keep, and what is configured does not hang on it: a new disk whose define was not heard of is not deleted and not sealed when the
 * swap is undone, so a define that lands even after that names a whole, flushed file (invariant 8). Our metadata in the domain says which
 * swap wrote it; where that is one which was undone, the next recovery puts the old disk back (swap_late.c).
 *
 * The old disk and its NVRAM are never opened for writing here, and their bytes do not change between STOPPED and COMMITTED.
 */
#include "engine/swap_private.h"

#include "base/clock.h"
#include "base/error.h"

#define PUT_BACK_TRIES 3
#define PUT_BACK_AGAIN_MS 1000

typedef gboolean (*VrSwapAction)(VrSwap *swap, const VrStopPolicy *stop, GError **error);

static const struct {
    VrSwapState from, to;
    VrSwapAction act;
} transitions[] = {
    {VR_SWAP_PLANNED, VR_SWAP_PREPARED, vr_swap_step_prepare},
    {VR_SWAP_PREPARED, VR_SWAP_STOPPED, vr_swap_step_stop},
    {VR_SWAP_STOPPED, VR_SWAP_SWITCHED, vr_swap_step_switch},
    {VR_SWAP_SWITCHED, VR_SWAP_STARTED, vr_swap_step_start},
};

/* The only place where a swap's state changes: the journal first, then the row in memory. */
static gboolean enter(VrSwap *swap, VrSwapState state, GError **error)
{
    VrSwapRow next = *swap->row;

    next.state = state;
    if (state <= VR_SWAP_COMMITTED)
        next.reached = state;
    if (!vr_journal_swap_write(swap->engine.journal, swap->engine.owner, &next, vr_swap_state_name(state), error))
        return FALSE;
    swap->row->state = next.state;
    swap->row->reached = next.reached;
    return TRUE;
}

gboolean vr_swap_correct_state(VrSwap *swap, VrSwapState state, GError **error)
{
    return swap->row->state == state || enter(swap, state, error);
}

static gboolean advance_once(VrSwap *swap, const VrStopPolicy *stop, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(transitions); i++)
        if (transitions[i].from == swap->row->state)
            return transitions[i].act(swap, stop, error) && enter(swap, transitions[i].to, error);
    g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "a swap in %s does not go forward",
                vr_swap_state_name(swap->row->state));
    return FALSE;
}

gboolean vr_swap_advance(VrSwap *swap, VrSwapState to, const VrStopPolicy *stop, GError **error)
{
    g_return_val_if_fail(to <= VR_SWAP_STARTED, FALSE);
    while (swap->row->state != to) {
        if (!advance_once(swap, stop, error)) {
            g_prefix_error(error, "'%s': ", swap->row->domain);
            return FALSE;
        }
    }
    return TRUE;
}

/* STARTED -> COMMITTED, with the step that says why. */
static gboolean commit_with(VrSwap *swap, const char *step, const char *detail, GError **error)
{
    VrSwapRow next = *swap->row;

    vr_swap_console_end(swap);
    if (swap->row->state != VR_SWAP_STARTED) {
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "'%s': a swap in %s cannot be committed", swap->row->domain,
                    vr_swap_state_name(swap->row->state));
        return FALSE;
    }
    next.state = next.reached = VR_SWAP_COMMITTED;
    if (!vr_journal_mark(swap->engine.journal, swap->engine.owner, swap->row->id, step, detail, error) ||
        !vr_journal_swap_end(swap->engine.journal, swap->engine.owner, &next, "COMMITTED", VR_GENERATION_KEPT,
                             VR_GENERATION_CURRENT, error))
        return FALSE;
    swap->row->state = swap->row->reached = VR_SWAP_COMMITTED;
    vr_swap_seal(swap, swap->from);
    vr_swap_console_keep(swap);
    return TRUE;
}

gboolean vr_swap_commit(VrSwap *swap, const char *new_boot_id, GError **error)
{
    g_free(swap->row->new_boot_id);
    swap->row->new_boot_id = g_strdup(new_boot_id);
    return commit_with(swap, swap->row->was_running ? "healthy" : "NotBooted", NULL, error);
}

gboolean vr_swap_leave(VrSwap *swap, const char *reason, GError **error)
{
    g_free(swap->row->reason);
    swap->row->reason = g_strdup(reason);
    return commit_with(swap, "left", reason, error);
}

/* --- the way back ------------------------------------------------------------------------------------ */

static gboolean begin_backward(VrSwap *swap, const char *reason, GError **error)
{
    VrSwapRow next = *swap->row;

    if (swap->row->backward)
        return TRUE;
    next.backward = TRUE;
    next.reason = (char *)reason;
    if (!vr_journal_swap_write(swap->engine.journal, swap->engine.owner, &next, "undo", error))
        return FALSE;
    swap->row->backward = TRUE;
    g_free(swap->row->reason);
    swap->row->reason = g_strdup(reason);
    return TRUE;
}

/* What becomes of the generation that was not taken after all. needed: it was booted, or may yet be configured. */
static VrGenerationState rejected_state(const VrSwap *swap, gboolean needed)
{
    if (swap->row->rollback)
        return VR_GENERATION_KEPT;
    return needed ? VR_GENERATION_FAILED : VR_GENERATION_DISCARDED;
}

static gboolean has_any_mark(VrSwap *swap, const char *const *marks, gboolean *has, GError **error)
{
    *has = FALSE;
    for (; *marks && !*has; marks++)
        if (!vr_journal_has_mark(swap->engine.journal, swap->row->id, *marks, has, error))
            return FALSE;
    return TRUE;
}

/* By us, by somebody else whom we found running on it, or while nobody looked: libvirt, after a reboot of the host. */
static gboolean was_ever_booted(VrSwap *swap, gboolean *was_booted, GError **error)
{
    static const char *const marks[] = {"start-asked", "new-forced-off", VR_STEP_BOOTED_UNSEEN, NULL};

    if (!has_any_mark(swap, marks, was_booted, error))
        return FALSE;
    if (*was_booted)
        return TRUE;
    return vr_swap_disk_was_used(swap, was_booted, error) &&
           (!*was_booted || vr_swap_mark(swap, VR_STEP_BOOTED_UNSEEN, NULL, error));
}

/* The files of one that a late define may name stay as they are: whole, flushed and not sealed (invariant 8). */
static void put_away(VrSwap *swap, VrGenerationState state, gboolean may_land)
{
    if (state == VR_GENERATION_DISCARDED) {
        vr_swap_discard_disk(swap);
        vr_swap_discard_nvram(swap);
        vr_swap_discard_seed(swap);
    } else if (!may_land) {
        vr_swap_nvram_see(swap);
        vr_swap_seal(swap, swap->to);
    }
}

static gboolean end_backward(VrSwap *swap, GError **error)
{
    VrSwapRow next = *swap->row;
    gboolean was_booted, may_land;
    VrGenerationState to_state;

    if (!was_ever_booted(swap, &was_booted, error) || !vr_swap_new_may_land(swap, &may_land, error) ||
        (may_land && !vr_swap_mark(swap, "may-land", NULL, error)))
        return FALSE;
    if (swap->resumed)
        vr_swap_temp_tidy(swap);
    to_state = rejected_state(swap, was_booted || may_land);
    put_away(swap, to_state, may_land);
    next.state = swap->row->reached <= VR_SWAP_PREPARED ? VR_SWAP_DISCARDED : VR_SWAP_UNDONE;
    if (!vr_journal_swap_end(swap->engine.journal, swap->engine.owner, &next, vr_swap_state_name(next.state),
                             VR_GENERATION_CURRENT, to_state, error))
        return FALSE;
    swap->row->state = next.state;
    /* Not before: a recovery reads it as long as the swap is open. */
    if (to_state == VR_GENERATION_DISCARDED)
        vr_swap_discard_xml(swap);
    return TRUE;
}

gboolean vr_swap_give_up(VrSwap *swap, const char *reason, GError **error)
{
    /* Nothing is new: a recovery that finds what the one before it left writes nothing. */
    if (swap->row->state == VR_SWAP_UNKNOWN && g_strcmp0(swap->row->reason, reason) == 0)
        return TRUE;
    g_free(swap->row->reason);
    swap->row->reason = g_strdup(reason);
    return enter(swap, VR_SWAP_UNKNOWN, error);
}

/* Turns the failure of an undo into UNKNOWN. An owner who was fenced says nothing: the set is another's now. */
static gboolean give_up_on_undo(VrSwap *swap, GError *cause, GError **error)
{
    g_autoptr(GError) why = cause;
    g_autofree char *advice = vr_swap_advice(swap, why), *all = NULL;
    const char *next;

    if (g_error_matches(why, VR_ERROR, VR_ERROR_FENCED) || !vr_swap_give_up(swap, why->message, error)) {
        if (error && !*error)
            g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    g_set_error(error, VR_ERROR, VR_ERROR_PERSON, "'%s' could not be put back and its state is UNKNOWN: %s",
                swap->row->domain, why->message);
    vr_error_adopt(error, why);
    next = vr_error_part(why, VR_ERROR_NEXT);
    all = next ? g_strdup_printf("%s; %s", next, advice) : NULL;
    if (all)
        vr_error_reword(error, VR_ERROR_NEXT, all);
    else
        vr_error_next(error, "%s", advice);
    return FALSE;
}

/* Anything may but what somebody decided: a call that hung, one I/O error, a define that libvirt answered and did not do. */
static gboolean may_pass(const GError *error)
{
    return !g_error_matches(error, VR_ERROR, VR_ERROR_PERSON) && !g_error_matches(error, VR_ERROR, VR_ERROR_FENCED);
}

/* A guest is off meanwhile, so one call that libvirt loses or refuses does not end the way back: each try looks at the world anew. */
static gboolean put_back(VrSwap *swap, GError **error)
{
    for (guint tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;

        if (vr_swap_put_back(swap, &local))
            return TRUE;
        if (tries == PUT_BACK_TRIES || !may_pass(local)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        vr_clock_sleep_until(vr_clock_now_ms() + PUT_BACK_AGAIN_MS);
    }
}

static gboolean undo(VrSwap *swap, const char *reason, GError **error)
{
    GError *cause = NULL;
    gboolean journaled;

    vr_store_reserve(swap->engine.store);
    journaled = begin_backward(swap, reason, &cause);
    swap->journal_fails = !journaled;
    if (journaled && put_back(swap, &cause) && end_backward(swap, &cause))
        return TRUE;
    /* A journal that is full, locked or fails does not keep a guest off (invariant 15): whatever is put back now, a recovery finds
     * and brings to its end. */
    if (!journaled && !g_error_matches(cause, VR_ERROR, VR_ERROR_FENCED))
        put_back(swap, NULL);
    return give_up_on_undo(swap, cause, error);
}

/* The console ends before the guest goes off: what it says while it is switched off is no reason, and the old system is about to
 * write to the same log. */
gboolean vr_swap_undo(VrSwap *swap, const char *reason, GError **error)
{
    gboolean ok;

    if (vr_swap_state_is_final(swap->row->state)) {
        if (swap->row->state != VR_SWAP_COMMITTED)
            return TRUE;
        g_set_error(error, VR_ERROR, VR_ERROR_FAILED, "'%s': a committed swap is not undone", swap->row->domain);
        vr_error_next(error, "roll it back");
        return FALSE;
    }
    vr_swap_console_end(swap);
    ok = undo(swap, reason, error);
    vr_swap_console_keep(swap);
    return ok;
}
