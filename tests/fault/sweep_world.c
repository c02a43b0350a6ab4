/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/sweep_world.h"

#include "base/child.h"
#include "base/durable.h"
#include "base/fd.h"
#include "disk/copy_private.h"
#include "orchestrator/scripted_agent.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK_BYTES (192 * 1024)
#define HUNG_S 120
#define FOREIGN_DIR "root/disks/" SWEEP_GUEST_0 "/.tmp-foreign"

const VrStopPolicy sweep_stop = {.method = VR_STOP_ACPI, .timeout_ms = 200, .force = TRUE};

/* --- one process' view ------------------------------------------------------------------------------- */

Sweep *sweep_open(const char *top, guint guests)
{
    g_autofree char *root = g_build_filename(top, "root", NULL);
    g_autofree char *hv = g_build_filename(top, "hv", NULL);
    g_autoptr(GError) error = NULL;
    Sweep *sweep = g_new0(Sweep, 1);

    sweep->top = top;
    sweep->n = guests;
    sweep->store = vr_store_open(root, FALSE, &error);
    g_assert_no_error(error);
    sweep->journal = vr_journal_new(vr_store_db(sweep->store), &error);
    g_assert_no_error(error);
    sweep->owner = vr_owner_acquire(sweep->journal, vr_store_root_fd(sweep->store), SWEEP_SET, "sweep", &error);
    g_assert_no_error(error);
    sweep->hv = sweep_hv_new(hv, guests);
    sweep->engine = (VrEngine){
        .store = sweep->store, .hv = sweep_hv_ops(sweep->hv), .journal = sweep->journal, .owner = sweep->owner};
    return sweep;
}

void sweep_close(Sweep *sweep)
{
    sweep_hv_free(sweep->hv);
    vr_owner_release(sweep->owner);
    vr_journal_free(sweep->journal);
    vr_store_close(sweep->store);
    g_free(sweep);
}

/* What is in it is looked for in all other files (sweep_check.c). */
static const VrSeed *seed(void)
{
    static VrSeed the_seed;

    if (!the_seed.user_data) {
        the_seed.user_data = g_bytes_new_static(SWEEP_SECRET, strlen(SWEEP_SECRET));
        the_seed.meta_data = g_bytes_new_static("local-hostname: a\n", 18);
    }
    return &the_seed;
}

#define HOST_KEY_PATH "/etc/ssh/ssh_host_ed25519_key"

static ScriptedAgent *agent; /* of each process */

static void change_guest(const char *disk)
{
    scripted_agent_put(agent, FAKE_TLS_PATH, FAKE_TLS_KEY SWEEP_CHANGED);
}

static void give_agents(Sweep *sweep)
{
    agent = scripted_agent_new();
    scripted_agent_put(agent, HOST_KEY_PATH, FAKE_HOST_KEY);
    scripted_agent_put(agent, "/etc/machine-id", FAKE_MACHINE_ID);
    scripted_agent_put(agent, FAKE_TLS_PATH, FAKE_TLS_KEY);
    fake_personal.before = change_guest;
    for (guint i = 0; i < sweep->n; i++) {
        sweep_hv_fake(sweep->hv, i)->agent = scripted_agent_answer;
        sweep_hv_fake(sweep->hv, i)->agent_data = agent;
    }
}

static void carry_over(const Sweep *sweep, VrSwapRequest *request)
{
    static const VrPersonalizeOptions options = {.work_dir = "/nonexistent"};
    static char *paths[] = {(char *)FAKE_TLS_PATH, NULL};
    static const VrCarryOver of_guest = {.host_keys = TRUE, .machine_id = TRUE, .paths = paths};
    static const VrCarryOver of_disk = {.host_keys = TRUE, .machine_id = TRUE, .paths = paths, .from_disk = TRUE};

    if (sweep->carried != SWEEP_CARRY_NOTHING)
        request->carry = sweep->carried == SWEEP_CARRY_DISK ? &of_disk : &of_guest;
    request->personalize = &options;
}

VrSwap *sweep_begin(Sweep *sweep, guint guest, const SweepMove *move, VrCloneSeat *seat, GError **error)
{
    gboolean forward = move->to_generation < 0;
    g_autoptr(VrImage) image = forward ? vr_store_get(sweep->store, "os", move->version, error) : NULL;
    VrSwapRequest request = {.run_id = "run",
                             .uuid = sweep_guest_uuid(guest),
                             .os_target = "vda",
                             .image = image,
                             .seat = seat,
                             .seed = forward && sweep->seeded ? seed() : NULL,
                             .to_generation = forward ? 0 : (guint)move->to_generation};

    carry_over(sweep, &request);
    return forward && !image ? NULL : vr_swap_begin(&sweep->engine, &request, error);
}

gboolean sweep_move(Sweep *sweep, guint guest, const SweepMove *move, gboolean healthy)
{
    VrCloneSeat *seat = NULL;
    g_autoptr(VrSwap) swap = NULL;
    gboolean started;

    if (move->full)
        vr_clone_seats_new(&seat, 1, NULL);
    swap = sweep_begin(sweep, guest, move, seat, NULL);
    started = swap && vr_swap_advance(swap, VR_SWAP_STARTED, &sweep_stop, NULL);
    vr_clone_seat_free(seat);
    if (!swap || (!started && !sweep->lenient))
        return FALSE;
    return started && healthy ? vr_swap_commit(swap, NULL, NULL) : vr_swap_undo(swap, "not healthy", NULL);
}

/* --- making ------------------------------------------------------------------------------------------ */

static const char domain_xml[] =
    "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='KiB'>16384</memory>"
    "<os><type arch='x86_64' machine='pc'>hvm</type>%s</os><devices>"
    "<disk type='%s' device='disk'><driver name='qemu' type='raw' discard='unmap'/><source %s/>"
    "<target dev='vda' bus='virtio'/><serial>OS01</serial>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/></disk>"
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
    "<target dev='vdb' bus='virtio'/><serial>DATA01</serial>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></disk>"
    "<interface type='user'><mac address='52:54:00:00:00:%02x'/></interface>"
    "%s</devices></domain>";
static const char channel_xml[] =
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";

/* Some of it is zeros, some repeats and some does not. */
static char *make_disk(const char *dir, const char *name, char fill)
{
    char *path = g_build_filename(dir, name, NULL);
    g_autofree char *bytes = g_malloc0(DISK_BYTES);

    memset(bytes, fill, DISK_BYTES / 3);
    for (guint i = 0; i < DISK_BYTES / 3; i++)
        bytes[DISK_BYTES * 2 / 3 + i] = (char)(fill + (i * 2654435761u >> 13));
    g_assert_true(g_file_set_contents_full(path, bytes, DISK_BYTES, G_FILE_SET_CONTENTS_NONE, 0640, NULL));
    return path;
}

static char *source_xml(const World *world, const char *os, guint guest)
{
    switch (world->scenario->naming) {
    case SWEEP_BLOCK:
        return g_strdup_printf("dev='%s'", os);
    case SWEEP_VOLUME:
        return g_strdup_printf("pool='guests' volume='os%u.raw'", guest);
    default:
        return g_strdup_printf("file='%s'", os);
    }
}

/* What its <os> has beside the type. */
static char *firmware_xml(const World *world, const char *disks, guint guest)
{
    g_autofree char *path = g_strdup_printf("%s/os%u.nvram", disks, guest);
    g_autofree char *bytes = g_strnfill(FAKE_NVRAM_BYTES, 'V');

    if (!world->scenario->uefi)
        return g_strdup("");
    g_assert_true(g_file_set_contents_full(path, bytes, FAKE_NVRAM_BYTES, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    return g_strdup_printf("<loader readonly='yes' type='pflash'>/fw/CODE.fd</loader>"
                           "<nvram template='/fw/VARS.fd'>%s</nvram>",
                           path);
}

static void make_guest(World *world, guint guest)
{
    static const char *const types[] = {"file", "block", "volume"};
    g_autofree char *disks = g_build_filename(world->now, "disks", NULL);
    g_autofree char *os_name = g_strdup_printf("os%u.raw", guest);
    g_autofree char *data_name = g_strdup_printf("data%u.raw", guest);
    g_autofree char *os = make_disk(disks, os_name, (char)('A' + guest));
    g_autofree char *data = make_disk(disks, data_name, (char)('a' + guest));
    g_autofree char *source = source_xml(world, os, guest);
    g_autofree char *firmware = firmware_xml(world, disks, guest);
    gboolean has_agent = world->scenario->carried == SWEEP_CARRY_GUEST;
    g_autofree char *xml =
        g_strdup_printf(domain_xml, sweep_guest_name(guest), sweep_guest_uuid(guest), firmware,
                        types[world->scenario->naming], source, data, guest, has_agent ? channel_xml : "");
    g_autofree char *number = g_strdup_printf("%u", guest);
    g_autofree char *dir = g_build_filename(world->now, "hv", number, NULL);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    fake_hv_free(fake_hv_new(dir, xml, !world->scenario->off));
}

/* What is not ours, in our own directories: a file beside a guest's disks, and what another process is making. */
static int make_foreign(const World *world)
{
    int fd;
    g_autofree char *dir = g_build_filename(world->now, FOREIGN_DIR, NULL);
    g_autofree char *lock = g_build_filename(dir, ".lock", NULL);
    g_autofree char *part = g_build_filename(dir, "part.qcow2", NULL);
    g_autofree char *precious = g_build_filename(world->now, "root/disks/" SWEEP_GUEST_0 "/precious.txt", NULL);
    struct flock held = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    g_assert_cmpint(g_mkdir_with_parents(dir, 0711), ==, 0);
    g_assert_true(g_file_set_contents(part, "in the making", -1, NULL));
    g_assert_true(g_file_set_contents(precious, "precious", -1, NULL));
    fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &held), ==, 0);
    return fd;
}

static void publish(World *world, Sweep *sweep, const char *version, char fill)
{
    g_autofree char *name = g_strdup_printf("os-%s.raw", version);
    g_autofree char *file = make_disk(world->now, name, fill);
    VrPublication publication = {.name = "os", .version = version, .file = file, .as_given = TRUE, .as = VR_FORMAT_RAW};

    g_assert_true(vr_store_publish(sweep->store, &publication, NULL, NULL, NULL));
}

static Ending furnish(World *world, Sweep *sweep, void *data)
{
    g_autofree char *next = make_disk(world->now, "os-3.0.0.raw", '3');

    publish(world, sweep, "1.0.0", '1');
    publish(world, sweep, "2.0.0", '2');
    return ENDED_WELL;
}

static Ending begin_scenario(World *world, Sweep *sweep, void *data)
{
    world->scenario->before(sweep);
    return ENDED_WELL;
}

/* In memory where that can be had: a kill leaves the same there, and a flush costs nothing. */
static char *make_top(void)
{
    g_autofree char *in_memory = g_strdup("/dev/shm/vr-sweep-XXXXXX");
    char *top = g_mkdtemp(in_memory);

    return top ? g_strdup(top) : g_dir_make_tmp("vr-sweep-XXXXXX", NULL);
}

/* All worlds of a process stand in one place, one at a time; this is what they have in common. */
static struct {
    char *top, *now;
    Tree *published;
    PointsReport *report; /* shared with the processes */
    int foreign;          /* somebody else's lock, held in the store */
} home;

static void make_home(void)
{
    static const SweepScenario empty = {.name = "images only"};
    World world = {.scenario = &empty};
    g_autofree char *disks = NULL;
    g_autofree char *hv = NULL;

    home.top = make_top();
    home.now = world.now = g_build_filename(home.top, "now", NULL);
    home.report = world.report =
        mmap(NULL, sizeof(*home.report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(home.report != MAP_FAILED);
    disks = g_build_filename(home.now, "disks", NULL);
    hv = g_build_filename(home.now, "hv", NULL);
    g_assert_cmpint(g_mkdir_with_parents(disks, 0711), ==, 0);
    g_assert_cmpint(g_mkdir_with_parents(hv, 0711), ==, 0);
    if (world_run(&world, 0, furnish, NULL) != ENDED_WELL)
        g_error("the images could not be published");
    home.foreign = make_foreign(&world);
    home.published = tree_read(home.now);
}

World *world_make(const SweepScenario *scenario)
{
    World *world = g_new0(World, 1);

    if (!home.top)
        make_home();
    world->scenario = scenario;
    world->now = home.now;
    world->report = home.report;
    tree_restore(home.published);
    for (guint i = 0; i < scenario->guests; i++)
        make_guest(world, i);
    if (scenario->before && world_run(world, 0, begin_scenario, NULL) != ENDED_WELL)
        g_error("%s: the world could not be made", scenario->name);
    world->before = tree_read(world->now);
    return world;
}

void world_free(World *world)
{
    if (!world)
        return;
    g_clear_pointer(&world->before, tree_free);
    g_clear_pointer(&world->after, tree_free);
    g_free(world);
}

void world_remove_all(void)
{
    const char *argv[] = {"rm", "-rf", "--", home.top, NULL};

    if (!home.top)
        return;
    vr_child_run(argv, NULL, NULL, NULL);
    munmap(home.report, sizeof(*home.report));
    vr_fd_clear(&home.foreign);
    g_clear_pointer(&home.published, tree_free);
    g_clear_pointer(&home.top, g_free);
    g_clear_pointer(&home.now, g_free);
}

void world_restore(World *world, const Tree *tree)
{
    tree_restore(tree);
}

/* --- processes --------------------------------------------------------------------------------------- */

/* What io_uring has done cannot be seen from outside; the copy tells of it. */
static int completion_is_a_point(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data)
{
    if (side == VR_SIDE_TARGET)
        points_here("completion", "of a write");
    return result;
}

static void count_completions(void)
{
    static VrCopyOps ops;

    ops = vr_copy_real_ops;
    ops.completion = completion_is_a_point;
    vr_copy_set_ops(&ops);
}

static void become(World *world, guint at, WorldJob job, void *data)
{
    Sweep *sweep;
    Ending ending;

    alarm(HUNG_S);
    count_completions();
    points_arm(world->watcher ? 0 : at, world->report);
    sweep = sweep_open(world->now, world->scenario->guests);
    sweep->seeded = world->scenario->seeded;
    sweep->carried = world->scenario->carried;
    if (sweep->carried == SWEEP_CARRY_GUEST)
        give_agents(sweep);
    if (world->watcher) {
        points_arm(at, world->report); /* who opens it owns it from here on */
        points_stop_at(world->watched);
    }
    ending = job(world, sweep, data);
    sweep_close(sweep);
    fflush(NULL);
    _exit((int)ending);
}

void world_watch(World *world, const char *label, void (*act)(World *world))
{
    world->watched = label;
    world->watcher = act;
}

Ending world_run(World *world, guint at, WorldJob job, void *data)
{
    int status = 0;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        become(world, at, job, data);
    g_assert_cmpint(waitpid(pid, &status, WUNTRACED), ==, pid);
    if (WIFSTOPPED(status)) {
        world->watcher(world);
        g_assert_cmpint(kill(pid, SIGCONT), ==, 0);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    }
    world->watcher = NULL;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGKILL && world->report->label[0] ? ENDED_KILLED : ENDED_BADLY;
    return (Ending)WEXITSTATUS(status);
}

Ending world_act(World *world, Sweep *sweep, void *data)
{
    world->scenario->act(sweep);
    return ENDED_WELL;
}

/* As orchestrator/recover_set.c decides, of whom the health is known here. */
static void judge(World *world, Sweep *sweep, const VrSwapRow *row)
{
    g_autoptr(VrSwap) swap = vr_swap_resume(&sweep->engine, row, NULL);

    if (swap && world->scenario->unhealthy && row->was_running)
        vr_swap_undo(swap, "not healthy", NULL);
    else if (swap)
        vr_swap_commit(swap, NULL, NULL);
}

Ending world_recover(World *world, Sweep *sweep, void *data)
{
    g_autoptr(GPtrArray) recovered = vr_recover(&sweep->engine, FALSE, NULL);
    g_autoptr(GPtrArray) open = NULL;

    for (guint i = 0; recovered && i < recovered->len; i++) {
        const VrRecovered *one = g_ptr_array_index(recovered, i);
        if (one->row->state == VR_SWAP_STARTED)
            judge(world, sweep, one->row);
    }
    open = vr_journal_open_swaps(sweep->journal, NULL, NULL);
    if (!recovered || !open)
        return ENDED_BADLY;
    return open->len > 0 ? ENDED_UNKNOWN : ENDED_WELL;
}
